/* Bradley-Terry: the loss of one preference between two scalar rewards, and what a set of such
 * preferences says about a reward model.
 *
 *   loss = -w log sigmoid(rc - rr - m) + c (rc + rr)^2
 *
 * w is the pair's weight, m its margin, c the centring coefficient (0 = off). Ouyang et al. 2022
 * eq. 1; margin: Touvron et al. 2023 eq. 2; centring: Eisenstein et al. 2023. Threads: pure. */
#ifndef PD_TRAIN_BT_H
#define PD_TRAIN_BT_H

#include <stddef.h>

/* Loss of one pair in nats, finite for finite input; its gradients are written to *drc, *drr. */
double pd_bt_loss(double rc, double rr, double margin, double weight, double center, double *drc,
                  double *drr);
/* log sigmoid(x) without overflow. */
double pd_log_sigmoid(double x);
double pd_sigmoid(double x);

/* Running sums over the pairs of one optimizer step (or one evaluation); zero it to begin. The
 * names are TRL's: mean_reward is over both rows of every pair, accuracy counts rc > rr strictly.
 */
struct pd_bt_sums {
    size_t n, right, ties;
    double loss, margin, reward;
    double min_reward, max_reward;
};
void pd_bt_add(struct pd_bt_sums *s, double rc, double rr, double loss);

#endif
