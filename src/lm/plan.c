#include "lm/plan.h"

#include "base/fs.h"
#include "base/mem.h"
#include "lm/decoder_int.h"
#include "lm/generate.h"
#include "lm/kv.h"
#include "lm/model_int.h"

enum { F32_BYTES = 4 };

/* ---- what there is ---- */

static int64_t read_number(const char *path)
{
    struct pd_buf b;
    int64_t v = -1;
    pd_buf_init(&b, 1 << 12);
    if (pd_fs_exists(path) && pd_fs_read(path, 1 << 12, &b, NULL) == PD_OK)
        if (!pd_str_to_i64(pd_str_trim(pd_buf_str(&b)), &v))
            v = -1; /* "max" */
    pd_buf_release(&b);
    return v;
}

static int64_t machine_available(void)
{
    struct pd_buf b;
    struct pd_str rest, line;
    int64_t kib = 0;
    pd_buf_init(&b, 1 << 16);
    if (pd_fs_read("/proc/meminfo", 1 << 16, &b, NULL) == PD_OK) {
        rest = pd_buf_str(&b);
        while (pd_str_split(&rest, '\n', &line))
            if (pd_str_starts(line, PD_STR("MemAvailable:"))) {
                line.ptr += strlen("MemAvailable:");
                line.len -= strlen("MemAvailable:");
                line = pd_str_trim(line);
                if (pd_str_ends(line, PD_STR(" kB")))
                    line.len -= 3;
                if (!pd_str_to_i64(line, &kib))
                    kib = 0;
            }
    }
    pd_buf_release(&b);
    return kib * 1024;
}

/* The cgroup (version 2) of this process and all above it. */
static int64_t cgroup_left(void)
{
    int64_t least = INT64_MAX;
    struct pd_buf b;
    pd_buf_init(&b, 1 << 12);
    if (pd_fs_read("/proc/self/cgroup", 1 << 12, &b, NULL) != PD_OK) {
        pd_buf_release(&b);
        return least;
    }
    struct pd_str line = pd_str_trim(pd_buf_str(&b));
    char *group = pd_str_starts(line, PD_STR("0::")) && !memchr(line.ptr, '\n', line.len)
                      ? pd_xstrndup(line.ptr + 3, line.len - 3)
                      : pd_xstrdup("");
    for (;;) {
        char *max = pd_xasprintf("/sys/fs/cgroup%s/memory.max", group);
        char *now = pd_xasprintf("/sys/fs/cgroup%s/memory.current", group);
        int64_t limit = read_number(max), used = read_number(now);
        if (limit >= 0 && used >= 0 && limit - used < least)
            least = limit > used ? limit - used : 0;
        pd_free(max);
        pd_free(now);
        char *slash = strrchr(group, '/');
        if (!slash)
            break;
        *slash = '\0';
    }
    pd_free(group);
    pd_buf_release(&b);
    return least;
}

int64_t pd_memory_available(void)
{
    int64_t machine = machine_available(), cgroup = cgroup_left();
    return machine > 0 && machine < cgroup ? machine : cgroup == INT64_MAX ? machine : cgroup;
}

/* ---- what it takes ---- */

static int64_t copy_of(const struct pd_lin *l, const struct pd_plan_use *use)
{
    if (!l->w)
        return 0;
    if (use->bf16)
        return (int64_t)l->w->n * 2;
    if (use->train)
        return use->generate ? (int64_t)l->w->n * F32_BYTES : 0;
    return l->in_out ? (int64_t)pd_dtype_row_bytes(l->w->dtype, l->w->n) : 0;
}

static int64_t copies(const struct pd_model *m, const struct pd_plan_use *use)
{
    int64_t sum = 0;
    const struct pd_lin *l;
    for (int i = 0; i < m->cfg.n_layers; i++)
        for (int k = 0; (l = pd_block_lin(&m->blocks[i], k)); k++)
            sum += copy_of(l, use);
    return sum;
}

int64_t pd_plan_copies(const struct pd_model *m, const struct pd_plan_use *use)
{
    return copies(m, use) + copy_of(&m->lm_head, use);
}

/* A copy of the model's table in which a share of the layers is frozen and the heads are as told.
 */
struct sketch {
    struct pd_model m;
    struct pd_param *v;
    int64_t all, trained; /* values */
};

static bool is_head(enum pd_role r)
{
    return r == PD_ROLE_HEAD_W || r == PD_ROLE_HEAD_B || r == PD_ROLE_SCORE_W;
}

/* score: with a score head in place of the LM head. */
static void sketch_init(struct sketch *s, const struct pd_model *m, bool score, double freeze)
{
    int frozen = pd_model_frozen_blocks(m, freeze);
    *s = (struct sketch){.m = *m, .v = pd_xalloc((m->params.n + 1) * sizeof *s->v)};
    for (size_t i = 0; i < m->params.n; i++) {
        struct pd_param *p = &s->v[i];
        enum pd_role role = m->files->at[i].spec->role;
        *p = m->params.v[i];
        bool embed = role == PD_ROLE_EMBED || role == PD_ROLE_POS_EMBED;
        p->trainable = !(frozen > 0 && (embed || (p->layer >= 0 && p->layer < frozen)));
        if (is_head(role))
            continue;
        s->all += (int64_t)p->n;
        s->trained += p->trainable ? (int64_t)p->n : 0;
    }
    int64_t head = score         ? m->cfg.hidden_size
                   : m->cfg.tied ? 0
                                 : (int64_t)m->cfg.vocab_size * m->cfg.hidden_size;
    s->all += head;
    s->trained += head;
    s->m.params.v = s->v;
    s->m.embed = &s->v[m->embed - m->params.v];
    if (m->pos_embed)
        s->m.pos_embed = &s->v[m->pos_embed - m->params.v];
}

/* Copies of the blocks' weights and, without a score head, of the output matrix. */
static int64_t copy_bytes(const struct pd_model *m, bool score, const struct pd_plan_use *use)
{
    struct pd_param matrix = {.n = (size_t)m->cfg.vocab_size * (size_t)m->cfg.hidden_size};
    struct pd_lin head = {.w = &matrix};
    return copies(m, use) + (score ? 0 : copy_of(&head, use));
}

/* ---- LoRA adapters ---- */

/* What adding an adapter makes of a weight in memory (lm/lora.h). */
static int64_t merged_bytes(const struct pd_param *w)
{
    bool stays = w->dtype == PD_DTYPE_F32 || w->dtype == PD_DTYPE_F16;
    return (int64_t)w->n * pd_dtype_info(stays ? w->dtype : PD_DTYPE_BF16)->bytes;
}

/* Adapters of rank r on every linear map of the blocks. */
struct adapters {
    int64_t values, maps;
    int64_t merged; /* bytes of the weights that they are added to */
};

static void adapt(struct adapters *a, const struct pd_lin *l, int rank)
{
    if (!l->w)
        return;
    a->values += rank * (l->w->shape[0] + l->w->shape[1]);
    a->merged += merged_bytes(l->w);
    a->maps++;
}

static struct adapters adapters_of(const struct pd_model *m, int rank)
{
    struct adapters a = {0};
    const struct pd_lin *l;
    for (int i = 0; i < m->cfg.n_layers; i++)
        for (int k = 0; (l = pd_block_lin(&m->blocks[i], k)); k++)
            adapt(&a, l, rank);
    return a;
}

/* ---- jobs ---- */

/* A decoder that is only asked what it would take. */
static struct pd_decoder decoder_of(const struct pd_model *m, bool train, enum pd_compute compute)
{
    struct pd_decoder d = {.model = (struct pd_model *)(uintptr_t)m, /* read only */
                           .opts = {.train = train, .compute = compute}};
    pd__decoder_shape(&d);
    return d;
}

static int64_t cache_bytes(const struct pd_decoder *dec, int64_t tokens)
{
    struct pd_kv_shape shape = pd_decoder_kv_shape(dec);
    return PD_PLAN_ANSWERS * pd_kv_pages_for(tokens) * pd_kv_page_bytes(&shape);
}

/* A model that is only asked: for answers, for log-probs (the reference), for scores. */
static void add_inference(struct pd_plan_row *r, const struct pd_model *m, bool score, int64_t rows)
{
    struct pd_decoder d = decoder_of(m, false, r->compute);
    r->packed += copy_bytes(m, score, &(struct pd_plan_use){.bf16 = r->compute == PD_COMPUTE_BF16});
    r->activations += pd_decoder_infer_bytes(&d, rows);
}

static void add_logits(struct pd_plan_row *r, const struct pd_model *m)
{
    r->activations += (int64_t)PD_GEN_LOGIT_ROWS * m->cfg.vocab_size * F32_BYTES;
}

static void add_learner(struct pd_plan_row *r, const struct pd_model *m, bool score, bool generate)
{
    struct sketch s;
    sketch_init(&s, m, score, r->freeze);
    struct pd_decoder d = decoder_of(&s.m, true, r->compute);
    r->packed +=
        copy_bytes(m, score,
                   &(struct pd_plan_use){
                       .bf16 = r->compute == PD_COMPUTE_BF16, .train = true, .generate = generate});
    if (r->rank > 0) {
        struct adapters a = adapters_of(m, r->rank);
        int64_t head = score ? m->cfg.hidden_size : 0;
        r->weights += (s.all - head) * (r->compute == PD_COMPUTE_BF16 ? 2 : F32_BYTES);
        s.trained = a.values + head;
        r->adapters += s.trained * F32_BYTES;
        r->activations += a.maps * r->rank * PD_PLAN_MICRO * F32_BYTES;
    } else {
        r->weights += s.all * F32_BYTES;
    }
    r->gradients += s.trained * F32_BYTES;
    r->moments += s.trained * 2 * F32_BYTES;
    r->activations += pd_decoder_train_bytes(&d, PD_PLAN_MICRO);
    pd_free(s.v);
}

static struct pd_plan_row row_of(const struct pd_model *m, int64_t tokens, enum pd_plan_job job,
                                 enum pd_compute compute, double freeze, int rank)
{
    static const char *const names[] = {"generate", "train reward", "train ppo",
                                        "train ppo, own critic"};
    struct pd_plan_row r = {.job = names[job],
                            .compute = compute,
                            .freeze = freeze,
                            .rank = rank,
                            .not_yet = rank > 0 && job != PD_PLAN_GENERATE};
    if (job == PD_PLAN_GENERATE) {
        add_inference(&r, m, false, PD_GEN_PREFILL);
        r.weights = rank > 0 ? adapters_of(m, rank).merged : 0;
    }
    if (job == PD_PLAN_REWARD || job == PD_PLAN_CRITIC)
        add_learner(&r, m, true, false);
    if (job == PD_PLAN_PPO || job == PD_PLAN_CRITIC) {
        add_learner(&r, m, false, true);
        add_inference(&r, m, false, PD_PLAN_MICRO); /* the reference */
        add_inference(&r, m, true, PD_PLAN_MICRO);  /* the reward model */
    }
    if (job != PD_PLAN_REWARD) {
        struct pd_decoder d = decoder_of(m, job != PD_PLAN_GENERATE, compute);
        add_logits(&r, m);
        r.cache = cache_bytes(&d, tokens);
    }
    r.total = r.packed + r.weights + r.adapters + r.gradients + r.moments + r.activations + r.cache;
    return r;
}

void pd_plan_make(const struct pd_model *m, struct pd_plan *plan)
{
    static const enum pd_compute both[] = {PD_COMPUTE_BF16, PD_COMPUTE_F32};
    int64_t context = pd_config_context(&m->cfg);
    *plan = (struct pd_plan){.available = pd_memory_available(),
                             .tokens = context < PD_PLAN_TOKENS ? context : PD_PLAN_TOKENS,
                             .adapter_values = adapters_of(m, PD_PLAN_RANK).values};
    for (int i = 0; i < PD_PLAN_JOBS; i++)
        for (size_t k = 0; k < 2; k++) {
            enum pd_plan_job job = (enum pd_plan_job)i;
            for (int half = 0; half <= (job != PD_PLAN_GENERATE); half++)
                plan->rows[plan->n++] = row_of(m, plan->tokens, job, both[k], half * 0.5, 0);
            plan->lora[plan->n_lora++] = row_of(m, plan->tokens, job, both[k], 0, PD_PLAN_RANK);
        }
    PD_ASSERT(plan->n == PD_PLAN_ROWS && plan->n_lora == PD_PLAN_LORA_ROWS);
}
