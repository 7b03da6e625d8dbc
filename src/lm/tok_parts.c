/* The parts of a tokenizer.json around its model: normalizer, pre_tokenizer, decoder,
 * post_processor. */
#include "lm/tok_read.h"

enum pd_rc pd_tok_sequence(const struct pd_tok_reader *l, struct json_object *o, const char *key,
                           struct pd_tok_seq *out, int depth)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0;
    if (!o)
        return PD_OK;
    if (!pd_tok_is(o, "Sequence")) {
        if (out->n == sizeof out->v / sizeof *out->v)
            return UNSUPPORTED(l, "more than %zu %s", out->n, key);
        out->v[out->n++] = o;
        return PD_OK;
    }
    if (depth > 4)
        return UNSUPPORTED(l, "%s: a Sequence in a Sequence, five deep", key);
    struct json_object *list = pd_tok_list(o, key, &n);
    for (size_t i = 0; i < n; i++)
        PD_TRY(pd_tok_sequence(l, json_object_array_get_idx(list, i), key, out, depth + 1));
out:
    return rc;
}

/* ---- normalizer ---- */

static enum pd_rc add_norm(struct pd_tok_reader *l, enum pd_norm_op kind, struct pd_str from,
                           struct pd_str to)
{
    struct pd_tokenizer *t = l->t;
    if (t->n_norms == PD_MAX_NORMS)
        return UNSUPPORTED(l, "normalizer: more than %d steps", PD_MAX_NORMS);
    t->norms[t->n_norms++] = (struct pd_norm_step){kind, pd_tok_keep(t, from), pd_tok_keep(t, to)};
    return PD_OK;
}

enum pd_rc pd_tok_read_normalizer(struct pd_tok_reader *l, struct json_object *o)
{
    enum pd_rc rc = PD_OK;
    struct pd_tok_seq seq = {.n = 0};
    PD_TRY(pd_tok_sequence(l, o, "normalizers", &seq, 0));
    for (size_t i = 0; i < seq.n; i++) {
        struct json_object *step = seq.v[i];
        struct pd_str from = pd_json_str(pd_json_get(step, "pattern"), "String");
        struct pd_str prepend = pd_json_str(step, "prepend"), to = pd_json_str(step, "content");
        if (pd_tok_is(step, "NFC"))
            PD_TRY(add_norm(l, PD_NORM_NFC, PD_STR(""), PD_STR("")));
        else if (pd_tok_is(step, "Prepend") && prepend.ptr)
            PD_TRY(add_norm(l, PD_NORM_PREPEND, PD_STR(""), prepend));
        else if (pd_tok_is(step, "Replace") && from.len > 0 && to.ptr)
            PD_TRY(add_norm(l, PD_NORM_REPLACE, from, to));
        else
            return UNSUPPORTED(l, "normalizer %.*s; NFC, Prepend and Replace of a text are read",
                               PD_STR_ARG(pd_json_str(step, "type")));
    }
out:
    return rc;
}

/* ---- pre_tokenizer ---- */

static enum pd_rc add_step(struct pd_tok_reader *l, enum pd_step_kind kind, struct pd_str pattern)
{
    enum pd_rc rc = pd_steps_add(&l->t->steps, kind, pattern, l->err);
    return rc == PD_OK ? rc : pd_err_prefix(l->err, "%s", l->name);
}

/* Whole texts stand isolated; matches of a regex that takes every character do so either way. */
static bool is_isolated(struct json_object *o)
{
    return pd_str_eqz(pd_json_str(o, "behavior"), "Isolated") && !pd_json_bool(o, "invert", false);
}

static enum pd_rc read_split(struct pd_tok_reader *l, struct json_object *o, bool bytes)
{
    struct pd_str regex = pd_json_str(pd_json_get(o, "pattern"), "Regex");
    if (!regex.ptr || !is_isolated(o))
        return UNSUPPORTED(l, "pre_tokenizer Split, %s; a Regex with behavior Isolated is read",
                           regex.ptr ? "another behavior or inverted" : "pattern not a Regex");
    if (bytes && pd_str_eqz(regex, PD_REGEX_THREES))
        return add_step(l, PD_STEP_THREES, PD_STR(""));
    if (bytes)
        return UNSUPPORTED(l, "pre_tokenizer Split after ByteLevel; only that of Falcon is read");
    if (pd_str_eqz(regex, PD_REGEX_LLAMA3))
        return add_step(l, PD_STEP_LLAMA3, PD_STR(""));
    if (pd_str_eqz(regex, PD_REGEX_QWEN2))
        return add_step(l, PD_STEP_QWEN2, PD_STR(""));
    return add_step(l, PD_STEP_REGEX, pd_tok_keep(l->t, regex));
}

static enum pd_rc read_metaspace(struct pd_tok_reader *l, struct json_object *o)
{
    struct pd_str scheme = pd_json_str(o, "prepend_scheme");
    bool always = pd_json_bool(o, "add_prefix_space", true); /* as old files have it */
    if (!pd_str_eqz(pd_json_str(o, "replacement"), PD_SPACE))
        return UNSUPPORTED(l, "pre_tokenizer Metaspace: its replacement is not U+2581");
    if (l->t->metaspace || l->t->steps.n > 0)
        return UNSUPPORTED(l, "pre_tokenizer Metaspace behind another one");
    l->t->metaspace = true;
    if (pd_str_eqz(scheme, "first"))
        l->t->prefix_scheme = PD_PREFIX_FIRST;
    else if (pd_str_eqz(scheme, "always") || (!scheme.ptr && always))
        l->t->prefix_scheme = PD_PREFIX_ALWAYS;
    else if (pd_str_eqz(scheme, "never") || !scheme.ptr)
        l->t->prefix_scheme = PD_PREFIX_NEVER;
    else
        return UNSUPPORTED(l, "pre_tokenizer Metaspace: prepend_scheme %.*s", PD_STR_ARG(scheme));
    return pd_json_bool(o, "split", true) ? add_step(l, PD_STEP_SPACE_LEADS, PD_STR("")) : PD_OK;
}

static enum pd_rc read_digits(struct pd_tok_reader *l, struct json_object *o, bool bytes)
{
    bool alone = pd_json_bool(o, "individual_digits", false);
    if (bytes && alone)
        return UNSUPPORTED(l, "pre_tokenizer Digits(individual) after ByteLevel");
    return add_step(l,
                    bytes   ? PD_STEP_BYTE_DIGITS
                    : alone ? PD_STEP_DIGITS
                            : PD_STEP_DIGIT_RUNS,
                    PD_STR(""));
}

static enum pd_rc read_step(struct pd_tok_reader *l, struct json_object *o, bool *bytes)
{
    if (pd_tok_is(o, "ByteLevel") && !*bytes) {
        l->t->add_prefix_space = pd_json_bool(o, "add_prefix_space", false);
        if (l->t->add_prefix_space && l->t->steps.n > 0)
            return UNSUPPORTED(l, "pre_tokenizer ByteLevel(add_prefix_space) behind another one");
        *bytes = true;
        bool cuts = pd_json_bool(o, "use_regex", true);
        return cuts ? add_step(l, PD_STEP_GPT2, PD_STR("")) : PD_OK;
    }
    if (pd_tok_is(o, "Split"))
        return read_split(l, o, *bytes);
    if (pd_tok_is(o, "Digits"))
        return read_digits(l, o, *bytes);
    if (pd_tok_is(o, "Metaspace") && !*bytes)
        return read_metaspace(l, o);
    if (pd_tok_is(o, "Punctuation") && !*bytes &&
        pd_str_eqz(pd_json_str(o, "behavior"), "Contiguous"))
        return add_step(l, PD_STEP_PUNCT_RUNS, PD_STR(""));
    return UNSUPPORTED(l,
                       "its pre_tokenizer (%.*s) is not one of those read: ByteLevel, Split, "
                       "Digits, Punctuation(Contiguous), Metaspace",
                       PD_STR_ARG(pd_json_str(o, "type")));
}

enum pd_rc pd_tok_read_pre_tokenizer(struct pd_tok_reader *l, struct json_object *o)
{
    enum pd_rc rc = PD_OK;
    struct pd_tok_seq seq = {.n = 0};
    bool bytes = false;
    PD_TRY(pd_tok_sequence(l, o, "pretokenizers", &seq, 0));
    for (size_t i = 0; i < seq.n; i++)
        PD_TRY(read_step(l, seq.v[i], &bytes));
    l->t->bpe.pieces = !bytes;
    if (bytes && l->t->metaspace)
        rc = UNSUPPORTED(l, "pre_tokenizer: Metaspace with ByteLevel");
    else if (bytes && l->t->bpe.byte_fallback)
        rc = UNSUPPORTED(l, "byte_fallback with a ByteLevel pre_tokenizer");
out:
    return rc;
}

/* ---- decoder ---- */

static bool is_replace_mark(struct json_object *o)
{
    return pd_tok_is(o, "Replace") &&
           pd_str_eqz(pd_json_str(pd_json_get(o, "pattern"), "String"), PD_SPACE) &&
           pd_str_eqz(pd_json_str(o, "content"), " ");
}

static bool is_strip_one(struct json_object *o)
{
    return pd_tok_is(o, "Strip") && pd_str_eqz(pd_json_str(o, "content"), " ") &&
           pd_json_i64(o, "start", 0) == 1 && pd_json_i64(o, "stop", 0) == 0;
}

static enum pd_rc read_joining(struct pd_tok_reader *l, const struct pd_tok_seq *seq)
{
    bool marks = false, fused = false;
    for (size_t i = 0; i < seq->n; i++) {
        struct json_object *o = seq->v[i];
        if (is_replace_mark(o) && i == 0)
            marks = true;
        else if (pd_tok_is(o, "ByteFallback") && !fused)
            l->t->join.byte_runs = true;
        else if (pd_tok_is(o, "Fuse"))
            fused = true;
        else if (is_strip_one(o) && fused)
            l->t->join.strip = true;
        else if (pd_tok_is(o, "Metaspace") && seq->n == 1)
            marks = l->t->join.drop = true;
        else
            return UNSUPPORTED(l,
                               "decoder %.*s here; Replace, ByteFallback, Fuse, Strip(1) are "
                               "read, in this order, and Metaspace alone",
                               PD_STR_ARG(pd_json_str(o, "type")));
    }
    if (l->t->join.drop)
        l->t->join.drop = !pd_str_eqz(pd_json_str(seq->v[0], "prepend_scheme"), "never") &&
                          pd_json_bool(seq->v[0], "add_prefix_space", true);
    return marks ? PD_OK : UNSUPPORTED(l, "a decoder that does not turn U+2581 into a space");
}

/* A missing decoder, which in Hugging Face's puts spaces between tokens, is nobody's wish. */
enum pd_rc pd_tok_read_decoder(struct pd_tok_reader *l, struct json_object *o)
{
    enum pd_rc rc = PD_OK;
    struct pd_tok_seq seq = {.n = 0};
    PD_TRY(pd_tok_sequence(l, o, "decoders", &seq, 0));
    if (l->t->bpe.pieces)
        return read_joining(l, &seq);
    for (size_t i = 0; i < seq.n; i++)
        if (!pd_tok_is(seq.v[i], "ByteLevel") && !pd_tok_is(seq.v[i], "Fuse"))
            return UNSUPPORTED(l, "decoder %.*s; ByteLevel is read",
                               PD_STR_ARG(pd_json_str(seq.v[i], "type")));
out:
    return rc;
}

/* ---- post_processor: what is put before and after ---- */

static enum pd_rc read_template(struct pd_tok_reader *l, struct json_object *o)
{
    size_t n = 0;
    bool seen_text = false;
    struct json_object *single = pd_tok_list(o, "single", &n),
                       *map = pd_json_get(o, "special_tokens");
    for (size_t i = 0; i < n; i++) {
        struct json_object *piece = json_object_array_get_idx(single, i);
        if (pd_json_get(piece, "Sequence")) {
            seen_text = true;
            continue;
        }
        struct pd_str id = pd_json_str(pd_json_get(piece, "SpecialToken"), "id");
        struct json_object *entry = id.ptr ? pd_json_get(map, id.ptr) : NULL;
        size_t n_ids = 0;
        struct json_object *ids = pd_tok_list(entry, "ids", &n_ids);
        if (n_ids == 0)
            return MALFORMED(l, "post_processor: special token %.*s has no ids", PD_STR_ARG(id));
        for (size_t k = 0; k < n_ids; k++) {
            int32_t v = -1;
            enum pd_rc rc = pd_tok_read_id(l, json_object_array_get_idx(ids, k), id, &v);
            if (rc != PD_OK)
                return rc;
            pd_ids_push(seen_text ? &l->t->suffix : &l->t->prefix, v);
        }
    }
    if (n > 0 && !seen_text)
        return MALFORMED(l, "post_processor: its template leaves the text out");
    return PD_OK;
}

enum pd_rc pd_tok_read_post_processor(struct pd_tok_reader *l, struct json_object *o)
{
    enum pd_rc rc = PD_OK;
    struct pd_tok_seq seq = {.n = 0};
    PD_TRY(pd_tok_sequence(l, o, "processors", &seq, 0));
    for (size_t i = 0; i < seq.n; i++) {
        if (pd_tok_is(seq.v[i], "TemplateProcessing"))
            PD_TRY(read_template(l, seq.v[i]));
        else if (!pd_tok_is(seq.v[i], "ByteLevel")) /* which moves offsets only */
            return UNSUPPORTED(l, "post_processor %.*s; ByteLevel and TemplateProcessing are read",
                               PD_STR_ARG(pd_json_str(seq.v[i], "type")));
    }
out:
    return rc;
}
