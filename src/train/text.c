#include "train/text.h"
#include "base/json.h"
#include "base/mem.h"

struct pd_row pd_row_make(int32_t *ids, size_t n, int32_t pad)
{
    int32_t at = (int32_t)n - 1;
    while (at > 0 && ids[at] == pad)
        at--;
    return (struct pd_row){.ids = ids, .n_tokens = (int32_t)n, .len = at + 1, .read_at = at};
}

bool pd_row_same(const struct pd_row *a, const struct pd_row *b)
{
    return a->n_tokens == b->n_tokens &&
           memcmp(a->ids, b->ids, (size_t)a->n_tokens * sizeof *a->ids) == 0;
}

int32_t pd_row_common(const struct pd_row *a, const struct pd_row *b)
{
    int32_t n = a->n_tokens < b->n_tokens ? a->n_tokens : b->n_tokens, i = 0;
    while (i < n && a->ids[i] == b->ids[i])
        i++;
    return i;
}

static int32_t tokenizer_pad(const struct pd_model *m)
{
    if (!m->tok)
        return m->cfg.n_eos > 0 ? m->cfg.eos_ids[0] : -1;
    int32_t pad = pd_tokenizer_pad(m->tok);
    return pad >= 0 ? pad : pd_tokenizer_eos(m->tok);
}

int32_t pd_pad_id(const struct pd_model *m)
{
    return m->cfg.pad_id >= 0 ? m->cfg.pad_id : tokenizer_pad(m);
}

int32_t pd_pad_id_choose(struct pd_model *m)
{
    m->cfg.pad_id = tokenizer_pad(m);
    return m->cfg.pad_id;
}

bool pd_piece_from_json(struct json_object *v, struct pd_piece *out, struct pd_err *why)
{
    struct pd_chat_msg *msgs = NULL;
    size_t n = 0;
    *out = (struct pd_piece){0};
    if (json_object_is_type(v, json_type_string)) {
        out->text = pd_json_value_str(v);
        return true;
    }
    if (!json_object_is_type(v, json_type_array)) {
        (void)PD_FAIL(why, PD_INVALID, "expected a string or a list of messages, found %s",
                      pd_json_type_name(v));
        return false;
    }
    bool ok = pd_chat_msgs_from_json(v, &msgs, &n, why) == PD_OK;
    if (ok && n == 0) {
        (void)PD_FAIL(why, PD_INVALID, "the list of messages is empty");
        ok = false;
    }
    pd_free(msgs);
    out->chat = v;
    return ok;
}

/* Messages of the prompt, then those of the completion. */
static enum pd_rc encode_chat(const struct pd_model *m, const struct pd_piece *prompt,
                              const struct pd_piece *completion, struct pd_ids *out,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_chat_msg *head = NULL, *tail = NULL, *all = NULL;
    size_t n_head = 0, n_tail = 0;
    if (prompt)
        PD_TRY(pd_chat_msgs_from_json(prompt->chat, &head, &n_head, err));
    PD_TRY(pd_chat_msgs_from_json(completion->chat, &tail, &n_tail, err));
    all = pd_xalloc((n_head + n_tail + 1) * sizeof *all);
    for (size_t i = 0; i < n_head; i++)
        all[i] = head[i];
    for (size_t i = 0; i < n_tail; i++)
        all[n_head + i] = tail[i];
    PD_TRY(pd_chat_encode(&m->chat, m->tok, all, n_head + n_tail, false, out, err));
out:
    pd_free(all);
    pd_free(head);
    pd_free(tail);
    return rc;
}

static enum pd_rc encode_plain(const struct pd_model *m, const struct pd_piece *prompt,
                               const struct pd_piece *completion, struct pd_ids *out,
                               struct pd_err *err)
{
    struct pd_buf text;
    pd_buf_init(&text, 0);
    if (prompt)
        pd_buf_addstr(&text, prompt->text);
    pd_buf_addstr(&text, completion->text);
    int32_t eos = pd_tokenizer_eos(m->tok);
    struct pd_str eos_text = eos >= 0 ? pd_tokenizer_text(m->tok, eos) : (struct pd_str){0};
    if (!pd_str_ends(pd_buf_str(&text), eos_text))
        pd_buf_addstr(&text, eos_text);
    enum pd_rc rc = text.failed
                        ? PD_FAIL(err, PD_NOMEM, "out of memory for a text")
                        : pd_tokenizer_encode(m->tok, pd_buf_str(&text), PD_TOK_TRAINING, out, err);
    pd_buf_release(&text);
    return rc;
}

enum pd_rc pd_text_encode(const struct pd_model *m, const struct pd_piece *prompt,
                          const struct pd_piece *completion, struct pd_ids *out, struct pd_err *err)
{
    size_t before = out->len;
    if (prompt && !prompt->chat != !completion->chat)
        return PD_FAIL(err, PD_INVALID,
                       "prompt and completion must both be strings or both be "
                       "lists of messages");
    enum pd_rc rc = completion->chat ? encode_chat(m, prompt, completion, out, err)
                                     : encode_plain(m, prompt, completion, out, err);
    if (rc == PD_OK && out->len == before)
        return PD_FAIL(err, PD_INVALID, "the text has no tokens");
    return rc;
}
