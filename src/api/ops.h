/* Operations of the data-folder verbs (user, dataset, import, export, snapshot, status, agree). A
 * verb runs its op in its own process when it gets DIR/lock, and otherwise sends it to the server
 * that has it (POST /op/NAME on DIR/podium.sock): the same function either way.
 *
 * args is a JSON object, borrowed. Results go to `out`; notes for people (counts, warnings) to
 * `notes`, which the verb copies to its stderr. Ops that read a file get in_path, a readable
 * regular file (the server spools an upload to DIR/tmp first), and in_name for messages; NULL
 * otherwise. user_id: who asks; 0 = the owner of the data folder (both doors today). */
#ifndef PD_API_OPS_H
#define PD_API_OPS_H

#include "base/json.h"
#include "store/store.h"
#include <stdio.h>

struct pd_op_call {
    struct pd_store *store;
    struct json_object *args;
    const char *in_path, *in_name;
    FILE *out, *notes;
    int64_t user_id;
};
typedef enum pd_rc pd_op_fn(struct pd_op_call *c, struct pd_err *err);

struct pd_op {
    const char *name; /* "dataset.create" */
    pd_op_fn *run;
    const char *summary;
};
/* X(name, function, summary) */
#define PD_OP_LIST(X)                                                                              \
    X("user.add", pd_op_user_add, "make an account")                                               \
    X("user.list", pd_op_user_list, "accounts and their workspaces")                               \
    X("user.key", pd_op_user_key, "print or renew an API key")                                     \
    X("user.role", pd_op_user_role, "change a role")                                               \
    X("user.password", pd_op_user_password, "set a password")                                      \
    X("user.invite", pd_op_user_invite, "make a single-use sign-in link")                          \
    X("user.remove", pd_op_user_remove, "close an account")                                        \
    X("dataset.create", pd_op_dataset_create, "make a dataset from a template")                    \
    X("dataset.list", pd_op_dataset_list, "datasets and their progress")                           \
    X("dataset.show", pd_op_dataset_show, "one dataset in full")                                   \
    X("dataset.publish", pd_op_dataset_publish, "open it for labeling")                            \
    X("dataset.delete", pd_op_dataset_delete, "delete it with its records")                        \
    X("import", pd_op_import, "one file into a dataset")                                           \
    X("export", pd_op_export, "datasets or a snapshot to a file format")                           \
    X("snapshot.create", pd_op_snapshot_create, "freeze and hash a dataset")                       \
    X("snapshot.list", pd_op_snapshot_list, "snapshots")                                           \
    X("snapshot.show", pd_op_snapshot_show, "one snapshot")                                        \
    X("snapshot.diff", pd_op_snapshot_diff, "what changed between two")                            \
    X("status", pd_op_status, "progress")                                                          \
    X("agree", pd_op_agree, "agreement between labelers")                                          \
    X("job.claim", pd_op_job_claim, "a worker takes the oldest queued job")                        \
    X("job.beat", pd_op_job_beat, "a worker says that its job lives")                              \
    X("job.finish", pd_op_job_finish, "a worker hands a job in")                                   \
    X("job.prompts", pd_op_job_prompts, "the prompts of a dataset or snapshot")

#define X(name, fn, summary) enum pd_rc fn(struct pd_op_call *c, struct pd_err *err);
PD_OP_LIST(X)
#undef X

const struct pd_op *pd_op_find(struct pd_str name); /* NULL when unknown */
const struct pd_op *pd_op_table(size_t *n);

#endif
