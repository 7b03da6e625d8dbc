/* Learning-rate schedules, as the Hugging Face Trainer steps them. Threads: pure. */
#ifndef PD_TRAIN_SCHEDULE_H
#define PD_TRAIN_SCHEDULE_H

#include <stdint.h>

enum pd_schedule { PD_SCHEDULE_LINEAR, PD_SCHEDULE_COSINE, PD_SCHEDULE_CONSTANT };

/* "linear", "cosine" or "constant"; anything else is a bug (the option table checked it). */
enum pd_schedule pd_schedule_from(const char *name);
/* Factor on the base rate for the update that follows `step` finished ones: step / warmup while
 * warming up, then linear to 0 at `total`, half a cosine to 0, or 1. */
double pd_schedule_factor(enum pd_schedule kind, int64_t step, int64_t warmup, int64_t total);

#endif
