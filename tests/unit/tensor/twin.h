/* What the tests of the tensor library share: random inputs, comparisons that say where, every
 * instruction set of this CPU in turn, and gradients by central differences in double. */
#ifndef PD_TEST_TWIN_H
#define PD_TEST_TWIN_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "tensor/backend.h"

static uint64_t twin_state = 0x9e3779b97f4a7c15u;
static inline double uniform(void) /* [-1, 1) */
{
    twin_state ^= twin_state << 13;
    twin_state ^= twin_state >> 7;
    twin_state ^= twin_state << 17;
    return (double)(twin_state >> 11) / 4503599627370496.0 - 1.0;
}
static inline float *floats(int64_t n, double scale)
{
    float *p = malloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)(uniform() * scale);
    return p;
}
static inline float *zeros(int64_t n)
{
    return floats(n, 0.0);
}
static inline double *doubles(const float *x, int64_t n)
{
    double *p = malloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (double)x[i];
    return p;
}

static inline void ok(enum pd_rc rc, const struct pd_err *err)
{
    if (rc != PD_OK)
        fail_msg("%s: %s", pd_rc_name(rc), err->msg);
}

/* |got - want| <= tol * (1 + |want|), NaN never passes. */
static inline void near1(const char *what, int64_t at, double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol * (1.0 + fabs(want))))
        fail_msg("%s[%lld] (%s, %d threads): got %.9g, want %.9g", what, (long long)at,
                 pd_backend_isa(), pd_backend_threads(), got, want);
}
static inline void near_all(const char *what, const float *got, const double *want, int64_t n,
                            double tol)
{
    for (int64_t i = 0; i < n; i++)
        near1(what, i, (double)got[i], want[i], tol);
}
static inline void same_bits(const char *what, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s[%lld] (%s): %.9g and %.9g differ", what, (long long)i, pd_backend_isa(),
                     (double)a[i], (double)b[i]);
}

/* d(loss)/dx by central differences of a double twin, at some 16 places spread over x. */
static inline void check_grad(const char *what, double *x, int64_t n, const float *dx,
                              double (*loss)(void *), void *ctx, double tol)
{
    const int64_t step = n <= 16 ? 1 : n / 13;
    for (int64_t i = 0; i < n; i += step) {
        const double x0 = x[i], h = 1e-5 * (1.0 + fabs(x0));
        x[i] = x0 + h;
        const double up = loss(ctx);
        x[i] = x0 - h;
        const double down = loss(ctx);
        x[i] = x0;
        near1(what, i, (double)dx[i], (up - down) / (2 * h), tol);
    }
}

/* Runs fn on every instruction set that this CPU has, with 1, 2 and 3 threads. Left alone, the
 * backend takes the last of them. */
static inline void everywhere(void (*fn)(void))
{
    static const char *const isas[] = {"ref", "avx2", "avx512", "vnni"};
    struct pd_err err;
    const char *best = NULL;
    int ran = 0;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++)
        for (int threads = 1; threads <= 3; threads++) {
            setenv("PD_ISA", isas[i], 1);
            if (pd_backend_init(threads, &err) != PD_OK)
                continue;
            best = isas[i];
            ran++;
            twin_state = 0x9e3779b97f4a7c15u;
            fn();
        }
    unsetenv("PD_ISA");
    assert_true(ran >= 3);
    assert_int_equal(pd_backend_init(1, &err), PD_OK);
    assert_string_equal(pd_backend_isa(), best);
}

#endif
