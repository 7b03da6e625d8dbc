#include "train/schedule.h"
#include "base/err.h"

#include <math.h>
#include <string.h>

enum pd_schedule pd_schedule_from(const char *name)
{
    if (strcmp(name, "linear") == 0)
        return PD_SCHEDULE_LINEAR;
    if (strcmp(name, "cosine") == 0)
        return PD_SCHEDULE_COSINE;
    PD_ASSERT(strcmp(name, "constant") == 0);
    return PD_SCHEDULE_CONSTANT;
}

double pd_schedule_factor(enum pd_schedule kind, int64_t step, int64_t warmup, int64_t total)
{
    const double pi = 3.14159265358979323846;
    if (step < warmup)
        return (double)step / (double)warmup;
    double span = (double)(total > warmup ? total - warmup : 1);
    double done = (double)(step - warmup) / span;
    switch (kind) {
    case PD_SCHEDULE_LINEAR:
        return fmax(0, 1 - done);
    case PD_SCHEDULE_COSINE:
        return fmax(0, 0.5 * (1 + cos(pi * done)));
    case PD_SCHEDULE_CONSTANT:
        break;
    }
    return 1;
}
