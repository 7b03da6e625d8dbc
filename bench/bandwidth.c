/* Memory read bandwidth: threads sum a buffer much larger than the caches, each its own part.
 * bandwidth MIB SECONDS  prints the best pass and the median one in GB/s. Threads: OMP_NUM_THREADS.
 */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { WAYS = 32, MAX_PASSES = 10000 };

/* WAYS independent sums, so that the adds never wait for one another. */
static uint64_t sum(const uint64_t *p, size_t n)
{
    uint64_t s[WAYS] = {0}, all = 0;
    for (size_t i = 0; i + WAYS <= n; i += WAYS)
        for (int k = 0; k < WAYS; k++)
            s[k] += p[i + (size_t)k];
    for (int k = 0; k < WAYS; k++)
        all += s[k];
    return all;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    size_t words = (size_t)(argc > 1 ? atol(argv[1]) : 512) * (1 << 20) / sizeof(uint64_t);
    double limit = argc > 2 ? atof(argv[2]) : 1.0;
    uint64_t *p = aligned_alloc(4096, words * sizeof *p), check = 0;
    if (!p)
        return 1;
    size_t part = words / (size_t)omp_get_max_threads();
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < words; i++) /* first touch by the thread that reads it */
        p[i] = i;

    static double rate[MAX_PASSES];
    int n = 0;
    for (double begin = omp_get_wtime();
         n < MAX_PASSES && (n < 3 || omp_get_wtime() - begin < limit); n++) {
        double start = omp_get_wtime();
#pragma omp parallel reduction(+ : check)
        check += sum(p + part * (size_t)omp_get_thread_num(), part);
        rate[n] = (double)(part * (size_t)omp_get_max_threads() * sizeof *p) /
                  (omp_get_wtime() - start) / 1e9;
    }
    qsort(rate, (size_t)n, sizeof *rate, ascending);
    printf("%.3f %.3f\n", rate[n - 1], rate[n / 2]);
    free(p);
    return check == 1; /* never: keeps the sums alive */
}
