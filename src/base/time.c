#include "base/time.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

int64_t pd_time_mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t pd_time_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void pd_time_format(int64_t us, char out[32])
{
    int64_t s = us / 1000000, frac = us % 1000000;
    if (frac < 0)
        frac += 1000000, s--;
    time_t t = (time_t)s;
    struct tm tm;
    gmtime_r(&t, &tm);
    snprintf(out, 32, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", (tm.tm_year + 1900) % 10000,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)frac);
}

/* Exactly n digits at p. */
static bool digits(const char *p, int n, int *out)
{
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        v = v * 10 + (p[i] - '0');
    }
    *out = v;
    return true;
}

bool pd_time_parse(struct pd_str s, int64_t *us)
{
    char z[48] = {0};
    if (s.len < 19 || s.len >= sizeof z)
        return false;
    memcpy(z, s.ptr, s.len);
    int y, mo, d, h, mi, sec;
    if (!digits(z, 4, &y) || z[4] != '-' || !digits(z + 5, 2, &mo) || z[7] != '-' ||
        !digits(z + 8, 2, &d) || (z[10] != 'T' && z[10] != ' ') || !digits(z + 11, 2, &h) ||
        z[13] != ':' || !digits(z + 14, 2, &mi) || z[16] != ':' || !digits(z + 17, 2, &sec))
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 60)
        return false;
    const char *p = z + 19;
    int64_t frac = 0;
    if (*p == '.') {
        int64_t unit = 100000;
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
            frac += (*p - '0') * unit;
    }
    int64_t offset = 0;
    if (*p == '+' || *p == '-') {
        int oh, om;
        if (!digits(p + 1, 2, &oh) || !digits(p + (p[3] == ':' ? 4 : 3), 2, &om))
            return false;
        offset = (*p == '-' ? -1 : 1) * (oh * 3600 + om * 60);
        p += p[3] == ':' ? 6 : 5;
    } else if (*p == 'Z' || *p == 'z') {
        p++;
    }
    if (*p)
        return false;
    struct tm tm = {.tm_year = y - 1900,
                    .tm_mon = mo - 1,
                    .tm_mday = d,
                    .tm_hour = h,
                    .tm_min = mi,
                    .tm_sec = sec};
    *us = ((int64_t)timegm(&tm) - offset) * 1000000 + frac;
    return true;
}

void pd_sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}
