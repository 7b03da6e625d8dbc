/* Progress from counters. */
#include "pref/status.h"
#include "base/time.h"

static void write_time(struct pd_jw *w, const char *key, int64_t us)
{
    char text[32];
    pd_time_format(us, text);
    pd_jw_kstrz(w, key, text);
}

static enum pd_rc write_labelers(struct pd_db *db, int64_t dataset_id, struct pd_jw *w,
                                 struct pd_err *err)
{
    struct pd_arena a;
    struct pd_user_counts *u = NULL;
    size_t n = 0;
    pd_arena_init(&a);
    enum pd_rc rc = pd_dataset_user_counts(db, &a, dataset_id, 0, &u, &n, err);
    if (rc == PD_OK) {
        pd_jw_key(w, "labelers");
        pd_jw_array(w);
        for (size_t i = 0; i < n; i++) {
            pd_jw_object(w);
            pd_jw_kstrz(w, "labeler", u[i].username);
            pd_jw_ki64(w, "submitted", u[i].submitted);
            pd_jw_ki64(w, "discarded", u[i].discarded);
            pd_jw_ki64(w, "draft", u[i].draft);
            pd_jw_kf64(w, "seconds", (double)u[i].active_ms / 1000);
            write_time(w, "last", u[i].last_us);
            pd_jw_object_end(w);
        }
        pd_jw_array_end(w);
    }
    pd_arena_release(&a);
    return rc;
}

enum pd_rc pd_status_write(struct pd_db *db, const struct pd_dataset *d, bool labelers,
                           struct pd_jw *w, struct pd_err *err)
{
    struct pd_counts c;
    enum pd_rc rc = pd_dataset_counts(db, d->id, &c, err);
    if (rc != PD_OK)
        return rc;
    int64_t waiting = c.records - c.completed - c.in_hand;
    pd_jw_object(w);
    pd_jw_kstrz(w, "dataset", d->name);
    pd_jw_kstrz(w, "workspace", d->workspace);
    pd_jw_kstrz(w, "id", d->uuid);
    pd_jw_kstrz(w, "status", d->status == PD_DATASET_READY ? "ready" : "draft");
    pd_jw_kstrz(w, "template", d->tmpl);
    pd_jw_ki64(w, "overlap", d->min_submitted);
    pd_jw_ki64(w, "records", c.records);
    pd_jw_ki64(w, "completed", c.completed);
    pd_jw_ki64(w, "in_hand", c.in_hand);
    pd_jw_ki64(w, "waiting", waiting > 0 ? waiting : 0);
    pd_jw_ki64(w, "submitted", c.submitted);
    pd_jw_ki64(w, "discarded", c.discarded);
    pd_jw_ki64(w, "draft", c.draft);
    pd_jw_ki64(w, "surplus", c.surplus);
    pd_jw_kf64(w, "seconds", (double)c.active_ms / 1000);
    write_time(w, "last_activity", d->last_activity_us);
    if (labelers)
        rc = write_labelers(db, d->id, w, err);
    pd_jw_object_end(w);
    return rc;
}
