#include "tensor/team.h"

#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("isb")
#else
#define PAUSE() (void)0
#endif

/* What threads that are held wait for. Written by the compute thread before `started` moves on. */
static struct {
    _Alignas(64) _Atomic uint32_t started; /* how many pieces of work, ever */
    pd_team_work *work;                    /* NULL: the threads may go */
    void *ctx;
    int n;                              /* that it is for */
    int held;                           /* threads, the compute thread too; 0: they are not held */
    _Alignas(64) _Atomic uint32_t busy; /* of the others, that have not seen to the work yet */
    _Alignas(64) _Atomic uint32_t met;  /* arrivals at pd_team_meet since the work began */
} team;

/* Once more without what is waited for. What waits long makes room: whoever it waits for may need
 * this very core. */
static void wait_some(int *turns)
{
    enum { SPINS = 1000 };
    if (*turns < SPINS) {
        ++*turns;
        PAUSE();
    } else {
        (void)sched_yield();
    }
}

static uint32_t wait_for_change(const _Atomic uint32_t *v, uint32_t from)
{
    uint32_t now;
    for (int turns = 0; (now = atomic_load_explicit(v, memory_order_acquire)) == from;)
        wait_some(&turns);
    return now;
}

void pd_team_meet(int n)
{
    const uint32_t all = (uint32_t)n, before = atomic_fetch_add(&team.met, 1);
    const uint32_t enough = (before / all + 1) * all;
    for (int turns = 0; atomic_load_explicit(&team.met, memory_order_acquire) < enough;)
        wait_some(&turns);
}

/* A held thread's life. seen: how many pieces of work had been started before. */
static void serve(int me, uint32_t seen)
{
    for (;;) {
        seen = wait_for_change(&team.started, seen);
        if (!team.work)
            return;
        if (me < team.n)
            team.work(team.ctx, me, team.n);
        atomic_fetch_sub_explicit(&team.busy, 1, memory_order_release);
    }
}

static void start(int n, pd_team_work *work, void *ctx)
{
    team.work = work;
    team.ctx = ctx;
    team.n = n;
    atomic_fetch_add_explicit(&team.started, 1, memory_order_release);
}

static void run_held(int n, pd_team_work *work, void *ctx)
{
    n = n < team.held ? n : team.held;
    atomic_store_explicit(&team.busy, (uint32_t)team.held - 1, memory_order_relaxed);
    start(n, work, ctx);
    work(ctx, 0, n);
    for (int turns = 0; atomic_load_explicit(&team.busy, memory_order_acquire) > 0;)
        wait_some(&turns);
}

void pd_team_run(int n, pd_team_work *work, void *ctx)
{
    atomic_store_explicit(&team.met, 0, memory_order_relaxed);
    if (n <= 1) {
        work(ctx, 0, 1);
    } else if (team.held) {
        run_held(n, work, ctx);
    } else {
#pragma omp parallel num_threads(n)
        work(ctx, omp_get_thread_num(), omp_get_num_threads());
    }
}

int pd_team_held(void)
{
    return team.held;
}

void pd_team_hold(void (*body)(void *ctx), void *ctx)
{
    const uint32_t seen = atomic_load(&team.started);
    const int threads = omp_get_max_threads();
    if (team.held || threads == 1 || threads > omp_get_num_procs()) {
        body(ctx);
        return;
    }
#pragma omp parallel
    if (omp_get_thread_num() > 0) {
        serve(omp_get_thread_num(), seen);
    } else {
        team.held = omp_get_num_threads();
        body(ctx);
        team.held = 0;
        start(0, NULL, NULL);
    }
}
