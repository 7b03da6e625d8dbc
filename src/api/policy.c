#include "api/policy.h"

const struct pd_who *pd_who(const struct pd_req *req)
{
    static const struct pd_who nobody = {.proof = PD_PROOF_NONE};
    return req->user ? req->user : &nobody;
}

static bool is_owner(const struct pd_who *who)
{
    return who->proof == PD_PROOF_LOCAL || (who->user.id && who->user.role == PD_ROLE_OWNER);
}

bool pd_policy_sees_all(const struct pd_who *who)
{
    return is_owner(who);
}

bool pd_policy_is_lead(const struct pd_who *who)
{
    return is_owner(who) || (who->user.id && who->user.role == PD_ROLE_ADMIN);
}

static enum pd_rc forbidden(struct pd_err *err)
{
    return PD_FAIL(err, PD_FORBIDDEN, "you may not do this; ask an owner of this Podium");
}

enum pd_rc pd_policy_route(const struct pd_who *who, enum pd_policy policy, struct pd_err *err)
{
    if (policy == PD_MAY_ANYONE)
        return PD_OK;
    if (policy == PD_MAY_LOCAL)
        return who->proof == PD_PROOF_LOCAL ? PD_OK : forbidden(err);
    if (who->proof == PD_PROOF_NONE)
        return PD_FAIL(err, PD_UNAUTH, "sign in first");
    bool ok = policy == PD_MAY_USER || (policy == PD_MAY_LEAD && pd_policy_is_lead(who)) ||
              (policy == PD_MAY_OWNER && is_owner(who));
    return ok ? PD_OK : forbidden(err);
}

static enum pd_rc member(struct pd_db *db, const struct pd_who *who, int64_t workspace_id,
                         struct pd_err *err)
{
    bool has = false;
    if (is_owner(who))
        return PD_OK;
    if (!who->user.id)
        return PD_FAIL(err, PD_UNAUTH, "sign in first");
    enum pd_rc rc = pd_workspace_has(db, workspace_id, who->user.id, &has, err);
    if (rc != PD_OK)
        return rc;
    return has ? PD_OK : forbidden(err);
}

enum pd_rc pd_policy_see(struct pd_db *db, const struct pd_who *who, const struct pd_dataset *d,
                         struct pd_err *err)
{
    return member(db, who, d->workspace_id, err);
}

enum pd_rc pd_policy_lead_workspace(struct pd_db *db, const struct pd_who *who,
                                    int64_t workspace_id, struct pd_err *err)
{
    if (!pd_policy_is_lead(who))
        return forbidden(err);
    return member(db, who, workspace_id, err);
}

enum pd_rc pd_policy_lead(struct pd_db *db, const struct pd_who *who, const struct pd_dataset *d,
                          struct pd_err *err)
{
    return pd_policy_lead_workspace(db, who, d->workspace_id, err);
}

bool pd_policy_leads(struct pd_db *db, const struct pd_who *who, const struct pd_dataset *d)
{
    return pd_policy_lead(db, who, d, NULL) == PD_OK;
}

enum pd_rc pd_policy_answer_as(const struct pd_who *who, int64_t user_id, struct pd_err *err)
{
    return who->user.id == user_id || pd_policy_is_lead(who) ? PD_OK : forbidden(err);
}

enum pd_rc pd_policy_grant(const struct pd_who *who, enum pd_role role, struct pd_err *err)
{
    if (is_owner(who) || (pd_policy_is_lead(who) && role == PD_ROLE_ANNOTATOR))
        return PD_OK;
    return PD_FAIL(err, PD_FORBIDDEN, "only an owner may give the role %s", pd_role_name(role));
}

enum pd_rc pd_policy_manage_user(struct pd_db *db, const struct pd_who *who,
                                 const struct pd_user *user, struct pd_err *err)
{
    struct pd_arena a;
    struct pd_workspace *ws = NULL;
    size_t n = 0;
    bool shared = false;
    if (is_owner(who))
        return PD_OK;
    if (!pd_policy_is_lead(who) || user->role != PD_ROLE_ANNOTATOR)
        return forbidden(err);
    pd_arena_init(&a);
    enum pd_rc rc = pd_workspace_list(db, &a, user->id, &ws, &n, err);
    for (size_t i = 0; rc == PD_OK && i < n && !shared; i++)
        rc = pd_workspace_has(db, ws[i].id, who->user.id, &shared, err);
    pd_arena_release(&a);
    if (rc == PD_OK && !shared)
        rc = forbidden(err);
    return rc;
}
