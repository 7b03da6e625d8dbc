#include "base/progress.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void pd_progress_init(struct pd_progress *p, const char *label, const char *unit, int64_t total,
                      bool quiet)
{
    memset(p, 0, sizeof *p);
    p->label = label;
    p->unit = unit;
    p->total = total;
    p->quiet = quiet;
    p->tty = isatty(STDERR_FILENO) == 1;
    p->start_ns = p->last_ns = pd_time_mono_ns();
}

void pd_progress_go_on(struct pd_progress *p, int64_t n)
{
    p->before = p->done = n;
}

static void format_duration(double s, char out[32])
{
    if (s < 60)
        snprintf(out, 32, "%.0fs", s);
    else if (s < 3600)
        snprintf(out, 32, "%dm%02ds", (int)s / 60, (int)s % 60);
    else
        snprintf(out, 32, "%dh%02dm", (int)(s / 3600), (int)(s / 60) % 60);
}

static void show(struct pd_progress *p, const char *extra, bool last)
{
    double s = (double)(pd_time_mono_ns() - p->start_ns) / 1e9;
    double rate = s > 0 ? (double)(p->done - p->before) / s : 0;
    char eta[48] = "", took[32];
    if (last) {
        format_duration(s, took);
        snprintf(eta, sizeof eta, ", %s", took);
    } else if (p->total && rate > 0) {
        format_duration((double)(p->total - p->done) / rate, took);
        snprintf(eta, sizeof eta, ", %s left", took);
    }
    char of[32] = "";
    if (p->total)
        snprintf(of, sizeof of, " of %lld", (long long)p->total);
    fprintf(stderr, "%s%s: %lld%s %s, %.*f/s%s%s%s%s", p->tty ? "\r\033[K" : "", p->label,
            (long long)p->done, of, p->unit, rate < 10 ? 2 : 0, rate, eta, extra ? ", " : "",
            extra ? extra : "", p->tty && !last ? "" : "\n");
    fflush(stderr);
    p->shown = true;
}

void pd_progress_update(struct pd_progress *p, int64_t done, const char *extra)
{
    p->done = done;
    if (p->quiet)
        return;
    int64_t now = pd_time_mono_ns();
    int64_t every = p->tty ? 100000000 : 10000000000;
    if (now - p->last_ns < every)
        return;
    p->last_ns = now;
    show(p, extra, false);
}

void pd_progress_finish(struct pd_progress *p, const char *extra)
{
    const bool all_before = p->before > 0 && p->before == p->total;
    if (!p->quiet && !all_before)
        show(p, extra, true);
}
