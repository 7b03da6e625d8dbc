/* The threads of a computation, for work that takes microseconds: one token of a small model is a
 * few hundred pieces of work, and a parallel region of OpenMP costs 1 us.
 *
 * Private to what computes. One compute thread (backend.h) calls; its threads are OpenMP's. */
#ifndef PD_TENSOR_TEAM_H
#define PD_TENSOR_TEAM_H

/* A thread's part: me 0 .. n-1, 0 being the caller. n may be smaller than what was asked for. */
typedef void pd_team_work(void *ctx, int me, int n);

/* work by n <= pd_backend_threads() threads; returns when all have done their part. Not by several
 * at a time, and not from within work. */
void pd_team_run(int n, pd_team_work *work, void *ctx);
/* Within work: waits until all its n threads are here. */
void pd_team_meet(int n);

/* body(ctx) by the caller, for whose pd_team_run the other threads wait meanwhile, which makes one
 * cost a tenth. They give their core to others after some 20 us without work. Parallel regions of
 * OpenMP in body run on one thread. */
void pd_team_hold(void (*body)(void *ctx), void *ctx);

#endif
