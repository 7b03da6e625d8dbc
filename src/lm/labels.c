#include "lm/labels.h"
#include "lm/model_int.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int64_t pd_model_n_labels(const struct pd_model *m)
{
    return m->score.w ? m->score.w->shape[0] : 0;
}

struct pd_str pd_model_label(const struct pd_model *m, int64_t i, struct pd_label_room *room)
{
    (void)snprintf(room->text, sizeof room->text, "LABEL_%" PRId64, i);
    struct json_object *names = m->files->config ? pd_json_get(m->files->config, "id2label") : NULL;
    const struct pd_str given = pd_json_str(names, room->text + strlen("LABEL_"));
    return given.ptr ? given : pd_str_from(room->text);
}

static void add_shown(struct pd_str name, struct pd_buf *out)
{
    for (size_t k = 0; k < name.len; k++)
        pd_buf_addc(out,
                    (unsigned char)name.ptr[k] < ' ' || name.ptr[k] == 0x7f ? '?' : name.ptr[k]);
    if (name.len == 0)
        pd_buf_adds(out, "\"\"");
}

void pd_model_add_labels(const struct pd_model *m, struct pd_buf *out)
{
    enum { SHOWN = 12 };
    struct pd_label_room room;
    const int64_t n = pd_model_n_labels(m), shown = n > SHOWN ? SHOWN - 1 : n;
    for (int64_t i = 0; i < shown; i++) {
        pd_buf_adds(out, i == 0 ? "" : i + 1 < n ? ", " : " and ");
        add_shown(pd_model_label(m, i, &room), out);
    }
    if (shown < n)
        pd_buf_addf(out, " and %" PRId64 " more", n - shown);
}

enum { NO_LABEL = -1, TWO_LABELS = -2 };

/* The row called so, or else the one of that number. */
static int64_t find_label(const struct pd_model *m, struct pd_str label)
{
    int64_t row = NO_LABEL, number;
    const int64_t n = pd_model_n_labels(m);
    struct pd_label_room room;
    for (int64_t i = 0; i < n; i++)
        if (pd_str_eq(pd_model_label(m, i, &room), label))
            row = row == NO_LABEL ? i : TWO_LABELS;
    if (row == NO_LABEL && pd_str_to_i64(label, &number) && number >= 0 && number < n)
        row = number;
    return row;
}

/* Names come last: they may be longer than a message. */
static enum pd_rc which_label(const struct pd_model *m, const char *label, struct pd_err *err)
{
    enum pd_rc rc;
    const int64_t n = pd_model_n_labels(m);
    struct pd_buf names;
    pd_buf_init(&names, 0);
    pd_model_add_labels(m, &names);
    if (label)
        rc = PD_FAIL(err, PD_INVALID, "%s has no label \"%s\"; there %s %s", m->path, label,
                     n == 1 ? "is" : "are", pd_buf_cstr(&names));
    else
        rc = PD_FAIL(err, PD_INVALID,
                     "%s tells %" PRId64 " labels apart; say with --reward-label whose logit is "
                     "the reward: %s",
                     m->path, n, pd_buf_cstr(&names));
    pd_buf_release(&names);
    return rc;
}

enum pd_rc pd_model_keep_label(struct pd_model *m, const char *label, struct pd_err *err)
{
    struct pd_param *p = m->score.w;
    const int64_t n = pd_model_n_labels(m);
    const int64_t row = label ? find_label(m, pd_str_from(label)) : n == 1 ? 0 : NO_LABEL;
    if (n == 0)
        return PD_FAIL(err, PD_INVALID,
                       "%s is no reward model (it has no score head); train one with `podium train "
                       "reward`",
                       m->path);
    if (m->fresh_score && label)
        return PD_FAIL(err, PD_INVALID,
                       "%s has no score head yet, and so no labels: leave --reward-label out",
                       m->path);
    if (row == TWO_LABELS)
        return PD_FAIL(err, PD_INVALID, "%s has more than one label \"%s\": say its number",
                       m->path, label);
    if (row < 0)
        return which_label(m, label, err);
    if (n == 1)
        return PD_OK;
    const size_t H = p->n / (size_t)n, bytes = pd_dtype_row_bytes(p->dtype, H);
    if (m->params.data) { /* in the slab: where the parameter stands, with zeros behind it */
        memmove(p->data, (char *)p->data + (size_t)row * bytes, bytes);
        memset((char *)p->data + bytes, 0, (size_t)(n - 1) * bytes);
    } else {
        p->data = (char *)p->data + (size_t)row * bytes;
    }
    p->shape[0] = 1;
    p->n = H;
    return PD_OK;
}
