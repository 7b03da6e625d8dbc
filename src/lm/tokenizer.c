#include "lm/gguf.h"
#include "lm/tok_int.h"

void pd_ids_reserve(struct pd_ids *v, size_t n)
{
    if (v->cap - v->len >= n)
        return;
    v->cap = v->cap ? v->cap : 32;
    do
        v->cap *= 2;
    while (v->cap - v->len < n);
    v->ptr = pd_xrealloc(v->ptr, v->cap * sizeof *v->ptr);
}

void pd_ids_push(struct pd_ids *v, int32_t id)
{
    pd_ids_reserve(v, 1);
    v->ptr[v->len++] = id;
}

void pd_ids_add(struct pd_ids *v, const int32_t *ids, size_t n)
{
    pd_ids_reserve(v, n);
    if (n)
        memcpy(v->ptr + v->len, ids, n * sizeof *ids);
    v->len += n;
}

void pd_ids_release(struct pd_ids *v)
{
    pd_free(v->ptr);
    *v = (struct pd_ids){0};
}

struct pd_tokenizer *pd_tok_new(void)
{
    struct pd_tokenizer *t = pd_xalloc(sizeof *t);
    pd_arena_init(&t->arena);
    t->bos = t->eos = t->pad = t->unk = -1;
    size_t line = sizeof *t->cache;
    t->cache_room = pd_xalloc((PD_CACHE_SLOTS + 1) * line);
    t->cache = (struct pd_word_cache *)(((uintptr_t)t->cache_room + line - 1) / line * line);
    (void)pthread_mutex_init(&t->lock, NULL);
    return t;
}

void pd_tokenizer_free(struct pd_tokenizer *t)
{
    if (!t)
        return;
    pd_bpe_release(&t->bpe);
    pd_steps_release(&t->steps);
    pd_added_set_release(&t->raw);
    pd_added_set_release(&t->normalized);
    pd_free(t->added);
    pd_ids_release(&t->prefix);
    pd_ids_release(&t->suffix);
    pd_arena_release(&t->arena);
    pd_gguf_close(t->gguf);
    pd_free(t->dir);
    pd_free(t->cache_room);
    (void)pthread_mutex_destroy(&t->lock);
    pd_free(t);
}

/* ---- encoding ---- */

struct encoding {
    const struct pd_tokenizer *t;
    struct pd_word_way way; /* cache NULL: another thread has it; controls: text may spell them */
    bool first;             /* the piece in hand begins where the text does */
    struct pd_ids *out;
    struct pd_err *err;
};

static enum pd_rc encode_words(struct encoding *e, struct pd_str text)
{
    enum pd_rc rc = PD_OK;
    struct pd_words words;
    struct pd_str word;
    bool more = false;
    pd_words_begin(&words, &e->t->steps, text);
    for (;;) {
        PD_TRY(pd_words_next(&words, &word, &more, e->err));
        if (!more)
            break;
        PD_TRY(pd_bpe_word(&e->t->bpe, word, &e->way, e->out, e->err));
    }
out:
    pd_words_end(&words);
    return rc;
}

static bool wants_prefix(const struct encoding *e)
{
    return e->t->prefix_scheme == PD_PREFIX_ALWAYS ||
           (e->t->prefix_scheme == PD_PREFIX_FIRST && e->first);
}

/* What the pre_tokenizer does to a piece before it cuts words. */
static enum pd_rc encode_piece(struct encoding *e, struct pd_str text)
{
    const struct pd_tokenizer *t = e->t;
    if (!t->metaspace && !(t->add_prefix_space && text.len > 0 && text.ptr[0] != ' '))
        return encode_words(e, text);
    struct pd_buf spaced;
    pd_buf_init(&spaced, 0);
    if (t->metaspace) {
        bool leads = pd_str_starts(text, PD_STR(PD_SPACE)) || pd_str_starts(text, PD_STR(" "));
        if (text.len > 0 && !leads && wants_prefix(e))
            pd_buf_adds(&spaced, PD_SPACE);
        pd_replace(&spaced, text, PD_STR(" "), PD_STR(PD_SPACE));
    } else {
        pd_buf_addc(&spaced, ' ');
        pd_buf_addstr(&spaced, text);
    }
    enum pd_rc rc = spaced.failed ? PD_FAIL(e->err, PD_NOMEM, "no memory for %zu bytes", text.len)
                                  : encode_words(e, pd_buf_str(&spaced));
    pd_buf_release(&spaced);
    return rc;
}

/* Cuts out the added tokens of a set and hands what lies between to `rest`. */
static enum pd_rc split_added(struct encoding *e, const struct pd_added_set *set,
                              struct pd_str text,
                              enum pd_rc (*rest)(struct encoding *, struct pd_str))
{
    enum pd_rc rc = PD_OK;
    size_t at = 0, begin = 0, end = 0;
    bool first = e->first;
    const struct pd_added *a;
    while ((a = pd_added_next(set, text, at, e->way.controls, &begin, &end))) {
        e->first = first && at == 0;
        if (begin > at)
            PD_TRY(rest(e, (struct pd_str){text.ptr + at, begin - at}));
        pd_ids_push(e->out, a->id);
        at = end;
    }
    e->first = first && at == 0;
    if (at < text.len)
        PD_TRY(rest(e, (struct pd_str){text.ptr + at, text.len - at}));
out:
    return rc;
}

static enum pd_rc encode_normalized(struct encoding *e, struct pd_str text)
{
    enum pd_rc rc = PD_OK;
    const struct pd_tokenizer *t = e->t;
    struct pd_buf normal;
    if (t->n_norms == 0 && !t->spm)
        return split_added(e, &t->normalized, text, encode_piece);
    pd_buf_init(&normal, 0);
    if (t->spm)
        pd_spm_normalize(t->spm, &t->normalized, text, t->spm->every_piece || e->first, &normal);
    else
        PD_TRY(pd_norm_apply(t->norms, t->n_norms, text, &normal, e->err));
    if (normal.failed) {
        rc = PD_FAIL(e->err, PD_NOMEM, "no memory to normalise %zu bytes", text.len);
        goto out;
    }
    PD_TRY(split_added(e, &t->normalized, pd_buf_str(&normal), encode_piece));
out:
    pd_buf_release(&normal);
    return rc;
}

enum pd_rc pd_tokenizer_encode(const struct pd_tokenizer *t, struct pd_str text, unsigned flags,
                               struct pd_ids *out, struct pd_err *err)
{
    return pd_tokenizer_encode_most(t, text, flags, SIZE_MAX, out, err);
}

enum pd_rc pd_tokenizer_encode_most(const struct pd_tokenizer *t, struct pd_str text,
                                    unsigned flags, size_t most, struct pd_ids *out,
                                    struct pd_err *err)
{
    size_t valid = pd_utf8_valid_prefix(text), before = out->len;
    if (valid != text.len)
        return PD_FAIL(err, PD_INVALID, "text is not UTF-8 at byte %zu", valid);
    /* The cache is the only thing that changes; results are the same without it. */
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&t->lock;
    bool locked = pthread_mutex_trylock(lock) == 0;
    struct encoding e = {
        .t = t,
        .way = {locked ? t->cache : NULL, most, flags & PD_TOK_PARSE_SPECIAL},
        .first = !(flags & PD_TOK_CONTINUES),
        .out = out,
        .err = err,
    };
    if (flags & PD_TOK_ADD_SPECIAL)
        pd_ids_add(out, t->prefix.ptr, t->prefix.len);
    enum pd_rc rc = split_added(&e, &t->raw, text, encode_normalized);
    if (locked)
        (void)pthread_mutex_unlock(lock);
    if (flags & PD_TOK_ADD_SPECIAL)
        pd_ids_add(out, t->suffix.ptr, t->suffix.len);
    if (rc == PD_OK)
        rc = pd_tok_check_most(out->len, most, err);
    if (rc != PD_OK)
        out->len = before;
    return rc;
}

/* ---- facts ---- */

struct pd_str pd_tokenizer_bytes(const struct pd_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->bpe.n_ids ? t->bpe.bytes[id] : (struct pd_str){NULL, 0};
}

int32_t pd_tokenizer_size(const struct pd_tokenizer *t)
{
    return t->bpe.n_ids;
}

int32_t pd_tokenizer_bos(const struct pd_tokenizer *t)
{
    return t->bos;
}

int32_t pd_tokenizer_eos(const struct pd_tokenizer *t)
{
    return t->eos;
}

int32_t pd_tokenizer_pad(const struct pd_tokenizer *t)
{
    return t->pad;
}

int32_t pd_tokenizer_unk(const struct pd_tokenizer *t)
{
    return t->unk;
}

bool pd_tokenizer_is_special(const struct pd_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->bpe.n_ids && t->bpe.control[id];
}

struct pd_str pd_tokenizer_text(const struct pd_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->bpe.n_ids ? t->bpe.text[id] : (struct pd_str){NULL, 0};
}

int32_t pd_tokenizer_id(const struct pd_tokenizer *t, struct pd_str text)
{
    return pd_bpe_id(&t->bpe, text);
}

struct pd_str pd_tokenizer_chat_template(const struct pd_tokenizer *t)
{
    return t->chat_template;
}

void pd_tokenizer_describe(const struct pd_tokenizer *t, struct pd_buf *out)
{
    pd_buf_addf(out, "%s BPE, %zu tokens, %zu merges",
                t->bpe.pieces ? "SentencePiece" : "byte-level", t->bpe.n_tokens, t->bpe.n_merges);
    for (size_t i = 0, shown = 0; i < t->steps.n; i++)
        if (pd_step_names[t->steps.v[i].kind])
            pd_buf_addf(out, "%s%s",
                        shown++ ? " + " : ", words: ", pd_step_names[t->steps.v[i].kind]);
}
