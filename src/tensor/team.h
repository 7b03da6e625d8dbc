/* The threads of a computation, for work that takes microseconds: one token of a small model is a
 * few hundred pieces of work, and a parallel region of OpenMP costs 1 us.
 *
 * For what computes. One compute thread (backend.h) calls; its threads are OpenMP's. */
#ifndef PD_TENSOR_TEAM_H
#define PD_TENSOR_TEAM_H

/* Work on fewer floats than this is one thread's: sharing it out costs more than it brings. */
#define PD_PARALLEL_FLOATS 16384

/* A thread's part: me 0 .. n-1, 0 being the caller. n may be smaller than what was asked for. */
typedef void pd_team_work(void *ctx, int me, int n);

/* work by n <= pd_backend_threads() threads; returns when all have done their part. Not by several
 * at a time, and not from within work. */
void pd_team_run(int n, pd_team_work *work, void *ctx);
/* Within work: waits until all its n threads are here. */
void pd_team_meet(int n);

/* body(ctx) by the caller, for whose pd_team_run the other threads wait meanwhile, which makes one
 * cost a tenth. After a thousand looks without work they give their core to others at every look.
 * Other parallel regions of OpenMP in body run on one thread: for bodies whose work is small. Where
 * there are more threads than cores nobody is held. */
void pd_team_hold(void (*body)(void *ctx), void *ctx);
/* How many threads are held, the caller among them; 0: none. */
int pd_team_held(void);

#endif
