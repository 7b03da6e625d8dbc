/* Argilla's door: the shapes its clients read. Times carry no zone, as there; v0 answers leave
 * nulls out, v1 answers spell them. */
#ifndef PD_API_ARGILLA_H
#define PD_API_ARGILLA_H

#include "api/api.h"
#include "pref/answer.h"

#define PD_ARGILLA_V1_VERSION "1.29.1" /* told to the 1.x client, which compares */
#define PD_ARGILLA_V2_VERSION "2.8.0"

void pd_argilla_ktime(struct pd_jw *w, const char *key, int64_t us);
/* v0: also full_name and the names of the workspaces; an owner has all of them. */
PD_CHECKED enum pd_rc pd_argilla_user(struct pd_jw *w, struct pd_req *req, struct pd_db *db,
                                      const struct pd_user *u, bool v0, struct pd_err *err);
void pd_argilla_workspace(struct pd_jw *w, const struct pd_workspace *ws);
void pd_argilla_dataset(struct pd_jw *w, const struct pd_dataset *d);
void pd_argilla_part(struct pd_jw *w, const struct pd_dataset *d, const struct pd_part *p);
void pd_argilla_response(struct pd_jw *w, const struct pd_response *r);

#endif
