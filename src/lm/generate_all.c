/* Generation all at once. */
#include "lm/generate.h"

#include "base/mem.h"
#include "base/sig.h"

#include <string.h>

struct collect {
    struct pd_gen_result *out;
    const int64_t *first; /* of each prompt, in out->answers */
};

static void *copy_of(const void *p, size_t n)
{
    void *to = pd_xalloc(n);
    memcpy(to, p, n);
    return to;
}

static void collect_answer(void *ctx, const struct pd_gen_prompt *prompt,
                           const struct pd_gen_answer *a)
{
    struct collect *c = ctx;
    struct pd_gen_answer *to =
        &c->out->answers[c->first[a->prompt] + (int64_t)(a->answer - prompt->first_answer)];
    size_t n = (size_t)a->n;
    *to = *a;
    to->ids = copy_of(a->ids, n * sizeof *a->ids);
    to->logprobs = copy_of(a->logprobs, n * sizeof *a->logprobs);
    to->raw_logprobs = copy_of(a->raw_logprobs, n * sizeof *a->raw_logprobs);
    if (a->top)
        to->top = copy_of(a->top, n * (size_t)prompt->top_logprobs * sizeof *a->top);
}

enum pd_rc pd_generate(struct pd_decoder *dec, const struct pd_gen_prompt *prompts,
                       int64_t n_prompts, const struct pd_gen_opts *opts, struct pd_gen_result *out,
                       struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_gen *g = NULL;
    struct pd_gen_result result = {0};
    int64_t *first = pd_xalloc((size_t)(n_prompts + 1) * sizeof *first);
    for (int64_t i = 0; i < n_prompts; i++) {
        first[i] = result.n;
        result.n += prompts[i].n_answers;
    }
    result.answers = pd_xalloc((size_t)(result.n + 1) * sizeof *result.answers);
    struct collect c = {&result, first};
    struct pd_gen_opts o = *opts;
    o.done = collect_answer;
    o.stop = NULL;
    o.ctx = &c;
    PD_TRY(pd_gen_new(dec, &o, &g, err));
    for (int64_t i = 0; i < n_prompts; i++)
        PD_TRY(pd_gen_add(g, &prompts[i], err));
    bool busy = n_prompts > 0;
    while (busy) {
        if (pd_sig_stop()) {
            rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted while generating");
            goto out;
        }
        PD_TRY(pd_gen_step(g, &busy, err));
    }
    *out = result;
    memset(&result, 0, sizeof result);
out:
    pd_gen_free(g);
    pd_gen_result_release(&result);
    pd_free(first);
    return rc;
}

void pd_gen_result_release(struct pd_gen_result *r)
{
    for (int64_t i = 0; r->answers && i < r->n; i++) {
        pd_free(r->answers[i].ids);
        pd_free(r->answers[i].logprobs);
        pd_free(r->answers[i].raw_logprobs);
        pd_free(r->answers[i].top);
    }
    pd_free(r->answers);
    memset(r, 0, sizeof *r);
}
