#include "gen/bad_words.h"
#include "base/fs.h"
#include "base/mem.h"

#include <string.h>

enum { MAX_LINE = 1 << 16, MAX_WORDS = 1 << 16 };

static enum pd_rc add(struct pd_words *w, struct pd_str text, struct pd_err *err)
{
    size_t valid = pd_utf8_valid_prefix(text);
    if (valid < text.len)
        return PD_FAIL(err, PD_INVALID, "not UTF-8 at byte %zu", valid + 1);
    if (w->n == MAX_WORDS)
        return PD_FAIL(err, PD_TOOBIG, "more than %d bad words", MAX_WORDS);
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 16;
        w->v = pd_xrealloc(w->v, w->cap * sizeof *w->v);
    }
    w->v[w->n++] = pd_xstrndup(text.ptr, text.len);
    return PD_OK;
}

static enum pd_rc add_file(struct pd_words *w, const char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lines *lines = NULL;
    struct pd_str line;
    bool more;
    PD_TRY(pd_lines_open(&lines, path, MAX_LINE, err));
    for (;;) {
        PD_TRY(pd_lines_next(lines, &line, &more, err));
        if (!more)
            break;
        if (pd_str_trim(line).len == 0)
            continue;
        rc = add(w, line, err);
        if (rc != PD_OK) {
            (void)pd_err_prefix(err, "%s:%zu", path, pd_lines_number(lines));
            break;
        }
    }
out:
    pd_lines_close(lines);
    return rc;
}

enum pd_rc pd_words_read(struct pd_words *w, const char *const *args, size_t n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *w = (struct pd_words){0};
    for (size_t i = 0; i < n && rc == PD_OK; i++) {
        if (args[i][0] == '@')
            rc = add_file(w, args[i] + 1, err);
        else if (pd_str_trim(pd_str_from(args[i])).len == 0)
            rc = PD_FAIL(err, PD_USAGE, "--bad-words wants a text or @FILE");
        else
            rc = add(w, pd_str_from(args[i]), err);
    }
    if (rc != PD_OK)
        pd_words_release(w);
    return rc;
}

void pd_words_release(struct pd_words *w)
{
    for (size_t i = 0; i < w->n; i++)
        pd_free(w->v[i]);
    pd_free(w->v);
    *w = (struct pd_words){0};
}

uint64_t pd_words_hash(const struct pd_words *w)
{
    uint64_t h = w->n;
    for (size_t i = 0; i < w->n; i++)
        for (const char *c = w->v[i];; c++) {
            h = pd_rng_mix(h, (unsigned char)*c);
            if (!*c)
                break;
        }
    return h;
}

/* ---- as ids ---- */

static bool has(const struct pd_bad_words *b, const struct pd_ids *ids, int from)
{
    for (int i = from; i < b->n; i++)
        if (b->spans[i].n == (int64_t)ids->len &&
            memcmp(b->spans[i].ids, ids->ptr, ids->len * sizeof *ids->ptr) == 0)
            return true;
    return false;
}

/* The ids of one text; `from`: where those of the same word begin. */
static enum pd_rc add_ids(struct pd_bad_words *b, const struct pd_tokenizer *tok,
                          struct pd_str text, int from, struct pd_err *err)
{
    struct pd_ids ids = {0};
    enum pd_rc rc = pd_tokenizer_encode(tok, text, 0, &ids, err);
    if (rc != PD_OK || ids.len == 0 || has(b, &ids, from)) {
        pd_ids_release(&ids);
        return rc;
    }
    b->spans[b->n++] = (struct pd_id_span){ids.ptr, (int64_t)ids.len};
    return PD_OK;
}

enum pd_rc pd_bad_words_make(struct pd_bad_words *b, const struct pd_tokenizer *tok,
                             const struct pd_words *words, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *b = (struct pd_bad_words){.spans = pd_xalloc((2 * words->n + 1) * sizeof *b->spans)};
    for (size_t i = 0; i < words->n && rc == PD_OK; i++) {
        int from = b->n;
        char *spaced = pd_xasprintf(" %s", words->v[i]);
        rc = add_ids(b, tok, pd_str_from(words->v[i]), from, err);
        if (rc == PD_OK && words->v[i][0] != ' ')
            rc = add_ids(b, tok, pd_str_from(spaced), from, err);
        pd_free(spaced);
    }
    if (rc != PD_OK)
        pd_bad_words_release(b);
    return rc;
}

void pd_bad_words_release(struct pd_bad_words *b)
{
    for (int i = 0; i < b->n; i++)
        pd_free((void *)(uintptr_t)b->spans[i].ids);
    pd_free(b->spans);
    *b = (struct pd_bad_words){0};
}
