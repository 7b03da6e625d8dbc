/* Who may do what: the only file that compares roles.
 *
 *   owner      everything, in all workspaces
 *   admin      manages ("leads") the datasets of the workspaces they belong to, and invites there
 *   annotator  sees the datasets of their workspaces and answers as themselves
 *
 * A route's policy is checked before its handler runs; what depends on the thing asked for (this
 * dataset, this record) is checked by the handler through the functions below, once it knows it. */
#ifndef PD_API_POLICY_H
#define PD_API_POLICY_H

#include "net/http.h"
#include "store/dataset.h"
#include "store/user.h"

enum pd_policy {
    PD_MAY_ANYONE, /* no credentials */
    PD_MAY_USER,   /* anyone signed in */
    PD_MAY_LEAD,   /* admins and owners */
    PD_MAY_OWNER,
    PD_MAY_LOCAL, /* whoever can open the data folder's socket */
};

/* How a request said who it is. */
enum pd_proof { PD_PROOF_NONE, PD_PROOF_COOKIE, PD_PROOF_KEY, PD_PROOF_LOCAL };

struct pd_who {
    enum pd_proof proof;
    struct pd_user user; /* id 0 with NONE and LOCAL */
};

const struct pd_who *pd_who(const struct pd_req *req);

PD_CHECKED enum pd_rc pd_policy_route(const struct pd_who *who, enum pd_policy policy,
                                      struct pd_err *err);
/* Within the dataset's workspace. PD_FORBIDDEN. */
PD_CHECKED enum pd_rc pd_policy_see(struct pd_db *db, const struct pd_who *who,
                                    const struct pd_dataset *d, struct pd_err *err);
PD_CHECKED enum pd_rc pd_policy_lead(struct pd_db *db, const struct pd_who *who,
                                     const struct pd_dataset *d, struct pd_err *err);
PD_CHECKED enum pd_rc pd_policy_lead_workspace(struct pd_db *db, const struct pd_who *who,
                                               int64_t workspace_id, struct pd_err *err);
/* Answering in someone else's name (imports through a door). */
PD_CHECKED enum pd_rc pd_policy_answer_as(const struct pd_who *who, int64_t user_id,
                                          struct pd_err *err);
/* May `who` give out this role? Admins invite annotators only. */
PD_CHECKED enum pd_rc pd_policy_grant(const struct pd_who *who, enum pd_role role,
                                      struct pd_err *err);
/* May `who` invite to, or take away, the account `user`? */
PD_CHECKED enum pd_rc pd_policy_manage_user(struct pd_db *db, const struct pd_who *who,
                                            const struct pd_user *user, struct pd_err *err);
bool pd_policy_sees_all(const struct pd_who *who); /* every workspace without being a member */
bool pd_policy_is_lead(const struct pd_who *who);  /* somewhere */
/* Whether pd_policy_lead would pass, for the "lead" key of answers. */
bool pd_policy_leads(struct pd_db *db, const struct pd_who *who, const struct pd_dataset *d);

#endif
