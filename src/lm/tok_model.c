/* tokenizer.model: a SentencePiece model (a ModelProto), BPE only. Of the protocol buffer a few
 * fields are read where they stand; nothing is allocated by what it says of itself. */
#include "lm/tok_read.h"

#include <inttypes.h>
#include <stdio.h>

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

/* ---- the wire format ---- */

struct field {
    uint32_t number, wire;
    uint64_t value;      /* wire 0 and 5 */
    struct pd_str bytes; /* wire 2 */
};

static bool varint(struct pd_str *s, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64 && s->len > 0; shift += 7) {
        unsigned char c = (unsigned char)*s->ptr;
        s->ptr++;
        s->len--;
        *v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80)
            return true;
    }
    return false;
}

static bool take(struct pd_str *s, uint64_t n, struct pd_str *out)
{
    if (n > s->len)
        return false;
    *out = (struct pd_str){s->ptr, n};
    s->ptr += n;
    s->len -= n;
    return true;
}

/* Cuts the next field off s; false when s is empty or not of this format. */
static bool next_field(struct pd_str *s, struct field *f)
{
    uint64_t key;
    *f = (struct field){0};
    if (s->len == 0 || !varint(s, &key) || key >> 32)
        return false;
    f->number = (uint32_t)(key >> 3);
    f->wire = key & 7;
    uint32_t four;
    switch (f->wire) {
    case 0:
        return varint(s, &f->value);
    case 1:
        return take(s, 8, &f->bytes);
    case 2:
        return varint(s, &f->value) && take(s, f->value, &f->bytes);
    case 5:
        if (!take(s, 4, &f->bytes))
            return false;
        memcpy(&four, f->bytes.ptr, 4);
        f->value = four;
        return true;
    default:
        return false;
    }
}

/* ---- what is read of it ---- */

struct spec {
    uint64_t model_type, n_pieces;
    bool byte_fallback, suffix, dummy_prefix, squeeze, escape;
    struct pd_str charsmap;
};

static enum pd_rc read_trainer(const struct pd_tok_reader *l, struct pd_str s, struct spec *spec)
{
    struct field f;
    while (next_field(&s, &f)) {
        if (f.number == 3 && f.wire == 0)
            spec->model_type = f.value;
        else if (f.number == 24 && f.wire == 0)
            spec->suffix = f.value;
        else if (f.number == 35 && f.wire == 0)
            spec->byte_fallback = f.value;
    }
    return s.len == 0 ? PD_OK : MALFORMED(l, "trainer_spec is cut or not a protocol buffer");
}

static enum pd_rc read_normalizer(const struct pd_tok_reader *l, struct pd_str s, struct spec *spec)
{
    struct field f;
    while (next_field(&s, &f)) {
        if (f.number == 2 && f.wire == 2)
            spec->charsmap = f.bytes;
        else if (f.number == 3 && f.wire == 0)
            spec->dummy_prefix = f.value;
        else if (f.number == 4 && f.wire == 0)
            spec->squeeze = f.value;
        else if (f.number == 5 && f.wire == 0)
            spec->escape = f.value;
    }
    return s.len == 0 ? PD_OK : MALFORMED(l, "normalizer_spec is cut or not a protocol buffer");
}

static enum pd_rc read_spec(const struct pd_tok_reader *l, struct pd_str file, struct spec *spec)
{
    enum pd_rc rc = PD_OK;
    struct field f;
    *spec = (struct spec){.model_type = 1, .dummy_prefix = true, .squeeze = true, .escape = true};
    while (next_field(&file, &f)) {
        if (f.wire == 2 && f.number == 1)
            spec->n_pieces++;
        else if (f.wire == 2 && f.number == 2)
            PD_TRY(read_trainer(l, f.bytes, spec));
        else if (f.wire == 2 && f.number == 3)
            PD_TRY(read_normalizer(l, f.bytes, spec));
    }
    if (file.len > 0)
        return MALFORMED(l,
                         "the SentencePiece model is cut or not a protocol buffer, %zu bytes "
                         "before its end",
                         file.len);
    if (spec->n_pieces == 0 || spec->n_pieces > PD_TOK_MAX_TOKENS)
        return MALFORMED(l, "a SentencePiece model of %" PRIu64 " pieces", spec->n_pieces);
    if (spec->model_type != 2)
        return UNSUPPORTED(l, "a SentencePiece model of type %s; BPE is read",
                           spec->model_type == 1   ? "unigram"
                           : spec->model_type == 3 ? "word"
                                                   : "char");
    if (spec->suffix || !spec->escape)
        return UNSUPPORTED(l, "a SentencePiece model with %s",
                           spec->suffix ? "treat_whitespace_as_suffix" : "escape_whitespaces off");
out:
    return rc;
}

/* ---- the table of the normaliser ---- */

static enum pd_rc read_charsmap(struct pd_tok_reader *l, struct pd_str map, struct pd_spm_norm *m)
{
    uint32_t bytes = 0;
    if (map.len == 0)
        return PD_OK; /* identity */
    if (map.len > 4)
        memcpy(&bytes, map.ptr, 4);
    if (bytes == 0 || bytes % 4 || bytes >= map.len - 4 || map.ptr[map.len - 1] != '\0')
        return MALFORMED(l, "the normaliser's precompiled_charsmap is malformed");
    uint32_t *units = pd_arena_alloc(&l->t->arena, bytes);
    memcpy(units, map.ptr + 4, bytes);
    m->units = units;
    m->n_units = bytes / 4;
    m->strings = pd_tok_keep(l->t, (struct pd_str){map.ptr + 4 + bytes, map.len - 4 - bytes});
    return PD_OK;
}

/* ---- pieces ---- */

struct piece {
    struct pd_str text;
    float score;
    uint64_t type;
};

static enum pd_rc read_piece(const struct pd_tok_reader *l, struct pd_str s, int32_t id,
                             struct piece *p)
{
    struct field f;
    *p = (struct piece){.type = NORMAL};
    while (next_field(&s, &f)) {
        if (f.number == 1 && f.wire == 2)
            p->text = f.bytes;
        else if (f.number == 2 && f.wire == 5)
            memcpy(&p->score, f.bytes.ptr, 4);
        else if (f.number == 3 && f.wire == 0)
            p->type = f.value;
    }
    if (s.len > 0 || p->text.len == 0 || pd_utf8_valid_prefix(p->text) != p->text.len)
        return MALFORMED(l, "piece %d is malformed, empty or not UTF-8", id);
    if (p->type == BYTE && pd_pieces_byte(p->text) < 0)
        return MALFORMED(l, "piece %d, \"%.*s\", is of type BYTE and names none", id,
                         PD_STR_ARG(p->text));
    if (p->type == UNUSED || p->type > BYTE)
        return UNSUPPORTED(l, "piece %d, \"%.*s\", is of type %s", id, PD_STR_ARG(p->text),
                           p->type == UNUSED ? "UNUSED" : "no known kind");
    return PD_OK;
}

static enum pd_rc add_piece(struct pd_tok_reader *l, struct piece *p, int32_t id)
{
    struct pd_bpe *b = &l->t->bpe;
    p->text = pd_tok_keep(l->t, p->text);
    enum pd_rc rc = pd_bpe_add(b, p->text, id, l->err);
    if (rc != PD_OK)
        return pd_err_prefix(l->err, "%s", l->name);
    b->beyond[id] = p->type != NORMAL;
    if (p->type == UNKNOWN && b->unk < 0)
        b->unk = l->t->unk = id;
    if (p->type == NORMAL || p->type == BYTE)
        return PD_OK;
    if (l->t->n_added >= PD_TOK_MAX_ADDED)
        return MALFORMED(l, "more than %d control and user-defined pieces", PD_TOK_MAX_ADDED);
    /* user-defined ones are matched in the text that merging sees */
    bool user = p->type == USER_DEFINED;
    struct pd_added a = {.text = p->text, .id = id, .special = !user, .normalized = user};
    pd_tok_add_added(l->t, &a, false);
    return PD_OK;
}

static enum pd_rc read_pieces(struct pd_tok_reader *l, struct pd_str file, float *scores)
{
    enum pd_rc rc = PD_OK;
    struct field f;
    int32_t id = 0;
    while (next_field(&file, &f)) {
        struct piece p;
        if (f.wire != 2 || f.number != 1)
            continue;
        PD_TRY(read_piece(l, f.bytes, id, &p));
        scores[id] = p.score;
        PD_TRY(add_piece(l, &p, id++));
    }
out:
    return rc;
}

static enum pd_rc check_bytes(const struct pd_tok_reader *l)
{
    char name[8];
    for (unsigned c = 0; c < 256; c++) {
        (void)snprintf(name, sizeof name, "<0x%02X>", c);
        if (pd_bpe_id(&l->t->bpe, pd_str_from(name)) < 0)
            return MALFORMED(l, "byte_fallback is on and piece %s missing", name);
    }
    return PD_OK;
}

enum pd_rc pd_tok_read_model(struct pd_tok_reader *l, struct pd_str file, size_t n_ids, bool legacy)
{
    enum pd_rc rc = PD_OK;
    struct pd_tokenizer *t = l->t;
    struct spec spec;
    float *scores = NULL;
    PD_TRY(read_spec(l, file, &spec));
    n_ids = spec.n_pieces > n_ids ? spec.n_pieces : n_ids;
    PD_TRY(pd_bpe_init(&t->bpe, n_ids, l->err));
    if (!(scores = pd_try_alloc(n_ids, sizeof *scores))) {
        rc = PD_FAIL(l->err, PD_NOMEM, "no memory for %zu scores", n_ids);
        goto out;
    }
    t->bpe.pieces = true;
    PD_TRY(read_pieces(l, file, scores));
    rc = pd_pieces_merges(&t->bpe, scores, l->err);
    if (rc != PD_OK) {
        (void)pd_err_prefix(l->err, "%s", l->name);
        goto out;
    }
    if (spec.byte_fallback)
        PD_TRY(check_bytes(l));
    t->bpe.byte_fallback = spec.byte_fallback;
    t->bpe.fuse_unk = true;
    t->spm = pd_arena_alloc(&t->arena, sizeof *t->spm);
    t->spm->dummy_prefix = spec.dummy_prefix;
    t->spm->squeeze = spec.squeeze;
    t->spm->every_piece = legacy;
    t->join.byte_runs = true;
    t->join.strip = spec.dummy_prefix;
    PD_TRY(read_charsmap(l, spec.charsmap, t->spm));
    pd_spm_norm_finish(t->spm);
    t->bos = pd_bpe_id(&t->bpe, PD_STR("<s>"));
    t->eos = pd_bpe_id(&t->bpe, PD_STR("</s>"));
    if (t->bos >= 0)
        pd_ids_push(&t->prefix, t->bos);
out:
    pd_free(scores);
    return rc;
}

enum pd_rc pd_tokenizer_open_model(struct pd_tokenizer **out, struct pd_str file, const char *name,
                                   struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_tokenizer *t = pd_tok_new();
    struct pd_tok_reader l = {t, name, err};
    PD_TRY(pd_tok_read_model(&l, file, 0, true));
    PD_TRY(pd_tok_finish(t, name, err));
    *out = t;
    t = NULL;
out:
    pd_tokenizer_free(t);
    return rc;
}
