#include "tensor/backend.h"
#include "base/mem.h"
#include "tensor/kernels.h"
#include "tensor/matmul.h"

#ifdef PD_HAVE_X86_KERNELS
#include <cpuid.h>
#endif
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct pd_kernels *chosen;
static struct {
    float *mem;
    size_t n;
} scratch[PD_SCRATCH_COUNT];

struct isa {
    const struct pd_kernels *kernels;
    bool here; /* this CPU has it */
};

static bool has_avx2(void)
{
#ifdef PD_HAVE_X86_KERNELS
    unsigned a, b, c, d; /* clang 14 has no __builtin_cpu_supports("f16c") */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
#else
    return false;
#endif
}
static bool has_avx512(void)
{
#ifdef PD_HAVE_X86_KERNELS
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
#else
    return false;
#endif
}
static bool has_vnni(void)
{
#ifdef PD_HAVE_X86_KERNELS
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

size_t pd_backend_ahead(void)
{
#ifdef PD_HAVE_X86_KERNELS
    return __builtin_cpu_is("intel") ? 4096 : 0;
#else
    return 0;
#endif
}

enum { MOST_ISAS = 4 };

/* Best first. */
static int list_isas(struct isa *list)
{
    int n = 0;
#ifdef PD_HAVE_X86_KERNELS
    list[n++] = (struct isa){&pd_kernels_vnni, has_vnni()};
    list[n++] = (struct isa){&pd_kernels_avx512, has_avx512()};
    list[n++] = (struct isa){&pd_kernels_avx2, has_avx2()};
#endif
    list[n++] = (struct isa){&pd_kernels_ref, true};
    return n;
}

static const struct pd_kernels *best(void)
{
    struct isa list[MOST_ISAS];
    const int n = list_isas(list);
    for (int i = 0; i < n - 1; i++)
        if (list[i].here)
            return list[i].kernels;
    return list[n - 1].kernels;
}

static enum pd_rc choose(const char *name, const struct pd_kernels **out, struct pd_err *err)
{
    struct isa list[MOST_ISAS];
    const int n = list_isas(list);
    if (!name || !*name) {
        *out = best();
        return PD_OK;
    }
    for (int i = 0; i < n; i++)
        if (strcmp(list[i].kernels->isa, name) == 0) {
            if (!list[i].here)
                return PD_FAIL(err, PD_INVALID,
                               "PD_ISA=%s: this CPU does not have it; unset PD_ISA", name);
            *out = list[i].kernels;
            return PD_OK;
        }
    return PD_FAIL(err, PD_INVALID, "PD_ISA=%s is unknown; use ref, avx2, avx512 or vnni", name);
}

enum pd_rc pd_backend_init(int threads, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(choose(getenv("PD_ISA"), &chosen, err));
    if (threads > 0)
        omp_set_num_threads(threads);
    omp_set_max_active_levels(1); /* a list in OMP_NUM_THREADS would allow more */
out:
    return rc;
}

const struct pd_kernels *pd_kernels(void)
{
    if (!chosen && pd_backend_init(0, NULL) != PD_OK)
        chosen = best();
    return chosen;
}

void pd_backend_release(void)
{
    for (int i = 0; i < PD_SCRATCH_COUNT; i++) {
        pd_aligned_free(scratch[i].mem);
        scratch[i].mem = NULL;
        scratch[i].n = 0;
    }
    pd_matmul_release();
}

float *pd_scratch(enum pd_scratch_slot slot, size_t n)
{
    if (scratch[slot].n < n || !scratch[slot].mem) {
        const size_t grow = n + n / 4 + 1024;
        pd_aligned_free(scratch[slot].mem);
        scratch[slot].mem = pd_try_aligned(grow, sizeof(float));
        scratch[slot].n = scratch[slot].mem ? grow : 0;
    }
    return scratch[slot].mem;
}

int pd_backend_threads(void)
{
    const int held = pd_team_held(); /* among these OpenMP tells of the regions within */
    return held ? held : omp_get_max_threads();
}

const char *pd_backend_isa(void)
{
    return pd_kernels()->isa;
}

bool pd_backend_fast_bf16(void)
{
#ifdef PD_HAVE_X86_KERNELS
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

enum pd_rc pd_compute_parse(const char *text, enum pd_compute *out, struct pd_err *err)
{
    static const struct {
        const char *text;
        enum pd_compute c;
    } names[] = {{"auto", PD_COMPUTE_AUTO}, {"fp32", PD_COMPUTE_F32},
                 {"f32", PD_COMPUTE_F32},   {"float32", PD_COMPUTE_F32},
                 {"bf16", PD_COMPUTE_BF16}, {"bfloat16", PD_COMPUTE_BF16},
                 {"q8_0", PD_COMPUTE_Q8_0}, {"q4_0", PD_COMPUTE_Q4_0}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(text, names[i].text) == 0) {
            *out = names[i].c;
            return PD_OK;
        }
    return PD_FAIL(err, PD_INVALID, "dtype \"%s\" is unknown; use auto, fp32, bf16, q8_0 or q4_0",
                   text);
}

enum pd_compute pd_compute_resolve(enum pd_compute c)
{
    if (c == PD_COMPUTE_AUTO)
        return pd_backend_fast_bf16() ? PD_COMPUTE_BF16 : PD_COMPUTE_F32;
    return c;
}

const char *pd_compute_name(enum pd_compute c)
{
    static const char *const names[] = {[PD_COMPUTE_AUTO] = "auto",
                                        [PD_COMPUTE_F32] = "fp32",
                                        [PD_COMPUTE_BF16] = "bf16",
                                        [PD_COMPUTE_Q8_0] = "q8_0",
                                        [PD_COMPUTE_Q4_0] = "q4_0"};
    return names[c];
}
