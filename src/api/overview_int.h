/* The derived numbers themselves, for the call that shows them. Private to api. */
#ifndef PD_API_OVERVIEW_INT_H
#define PD_API_OVERVIEW_INT_H

#include "api/overview.h"
#include "base/map.h"

struct pd_overview_labeler {
    char name[80];
    double *seconds;
    size_t n_seconds, cap_seconds;
    int64_t submitted, discarded;
    int64_t left_n, left_won;    /* decided pairs: was the winner the one shown first? */
    int64_t agree_n, agree_same; /* pairs also judged by someone else */
};

struct pd_overview {
    int64_t dataset_id, stamp; /* stamp: moves with the dataset, as of when this was computed */
    int64_t made_us, cost_us;
    int64_t judgments, skipped, ties, both_bad, shared;
    int64_t left_n, left_won, longer_n, longer_won;
    int64_t first_us, last_us;
    struct pd_overview_labeler *labelers;
    size_t n_labelers, cap_labelers;
    struct pd_map conflicts; /* record uuids */
    char *agreement;         /* JSON of the agree operation, or NULL */
};

/* As fresh as they can be had; held (one holder at a time) until given back. */
PD_CHECKED enum pd_rc pd__overview_take(struct pd_api *api, const struct pd_dataset *d,
                                        const struct pd_counts *c, struct pd_overview **out,
                                        struct pd_err *err);
void pd__overview_give(struct pd_api *api);

#endif
