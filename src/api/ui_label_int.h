/* Shared by the calls of the labeling loop. Private to api. */
#ifndef PD_API_UI_LABEL_INT_H
#define PD_API_UI_LABEL_INT_H

#include "api/ui_json.h"

/* What drawing tasks of one dataset needs. */
struct pd_desk {
    struct pd_dataset d;
    struct pd_question *qs;
    size_t n_qs;
};
/* Of a dataset the caller may see. */
PD_CHECKED enum pd_rc pd__desk_open(struct pd_req *req, struct pd_db *db, int64_t dataset_id,
                                    struct pd_desk *out, struct pd_err *err);
/* A record by uuid, with the desk it lies on. */
PD_CHECKED enum pd_rc pd__desk_record(struct pd_req *req, struct pd_str uuid, struct pd_record *rec,
                                      struct pd_desk *desk, struct pd_err *err);
/* Answers with the record as a task, under `key` when one is given. */
PD_CHECKED enum pd_rc pd__desk_answer_task(struct pd_req *req, const struct pd_desk *desk,
                                           int64_t record_id, int64_t expires_us, const char *key,
                                           struct pd_err *err);

#endif
