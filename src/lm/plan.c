#include "lm/plan.h"

#include "base/fs.h"
#include "base/mem.h"
#include "lm/decoder_int.h"
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

/* A copy of the model's table in which a share of the layers is frozen and the heads are as told.
 */
struct sketch {
    struct pd_model m;
    struct pd_param *v;
    int64_t all, trained, multiplied, vectors; /* values */
};

static bool is_head(enum pd_role r)
{
    return r == PD_ROLE_HEAD_W || r == PD_ROLE_HEAD_B || r == PD_ROLE_SCORE_W;
}

/* score: with a score head in place of the LM head. */
static void sketch_init(struct sketch *s, const struct pd_model *m, bool score, double freeze)
{
    int first = m->cfg.n_layers - (int)((1 - freeze) * m->cfg.n_layers + 1e-9);
    *s = (struct sketch){.m = *m, .v = pd_xalloc((m->params.n + 1) * sizeof *s->v)};
    for (size_t i = 0; i < m->params.n; i++) {
        struct pd_param *p = &s->v[i];
        enum pd_role role = m->files->at[i].spec->role;
        *p = m->params.v[i];
        bool embed = role == PD_ROLE_EMBED || role == PD_ROLE_POS_EMBED;
        p->trainable = !(freeze > 0 && (embed || (p->layer >= 0 && p->layer < first)));
        if (is_head(role))
            continue;
        s->all += (int64_t)p->n;
        s->trained += p->trainable ? (int64_t)p->n : 0;
        if (p->ndim == 1)
            s->vectors += (int64_t)p->n;
        else if (!embed)
            s->multiplied += (int64_t)p->n;
    }
    int64_t head = (int64_t)m->cfg.vocab_size * m->cfg.hidden_size;
    if (score) {
        s->all += m->cfg.hidden_size;
        s->trained += m->cfg.hidden_size;
    } else {
        s->multiplied += head;
        s->all += m->cfg.tied ? 0 : head;
        s->trained += m->cfg.tied ? 0 : head;
    }
    s->m.params.v = s->v;
    s->m.embed = &s->v[m->embed - m->params.v];
    if (m->pos_embed)
        s->m.pos_embed = &s->v[m->pos_embed - m->params.v];
}

static int64_t packed_bytes(const struct sketch *s, enum pd_compute compute)
{
    return s->multiplied * (compute == PD_COMPUTE_BF16 ? 2 : F32_BYTES) + s->vectors * F32_BYTES;
}

static int64_t activation_bytes(struct sketch *s)
{
    const struct pd_config *c = &s->m.cfg;
    struct pd_decoder d = {.model = &s->m, .opts = {.train = true}};
    d.H = c->hidden_size;
    d.F = c->ffn_size;
    d.V = c->vocab_size;
    d.L = c->n_layers;
    d.A = c->n_heads;
    d.K = c->n_kv_heads;
    d.D = c->head_dim;
    d.W = (d.A + 2 * d.K) * d.D;
    d.FU = c->gated ? 2 * d.F : d.F;
    d.rot = c->pos == PD_LM_POS_ROPE ? c->rope.dim : 0;
    return pd_decoder_train_bytes(&d, PD_PLAN_MICRO);
}

static int64_t cache_bytes(const struct pd_model *m, int64_t tokens)
{
    struct pd_kv_shape shape = {m->cfg.n_layers, (int64_t)m->cfg.n_kv_heads * m->cfg.head_dim};
    return PD_PLAN_ANSWERS * pd_kv_pages_for(tokens) * pd_kv_page_bytes(&shape);
}

static void add_inference(struct pd_plan_row *r, const struct pd_model *m, bool score)
{
    struct sketch s;
    sketch_init(&s, m, score, 0);
    r->packed += packed_bytes(&s, r->compute);
    pd_free(s.v);
}

static void add_learner(struct pd_plan_row *r, const struct pd_model *m, bool score)
{
    struct sketch s;
    sketch_init(&s, m, score, r->freeze);
    r->packed += packed_bytes(&s, r->compute);
    r->weights += s.all * F32_BYTES;
    r->gradients += s.trained * F32_BYTES;
    r->moments += s.trained * 2 * F32_BYTES;
    r->activations += activation_bytes(&s);
    pd_free(s.v);
}

static void add_row(struct pd_plan *plan, const struct pd_model *m, const char *job,
                    enum pd_compute compute, double freeze)
{
    struct pd_plan_row *r = &plan->rows[plan->n++];
    PD_ASSERT(plan->n <= PD_PLAN_ROWS);
    *r = (struct pd_plan_row){.job = job, .compute = compute, .freeze = freeze};
    bool ppo = strcmp(job, "train ppo") == 0, generate = strcmp(job, "generate") == 0;
    if (generate || ppo)
        r->cache = cache_bytes(m, plan->tokens);
    if (generate)
        add_inference(r, m, false);
    else
        add_learner(r, m, true); /* a reward model, a critic */
    if (ppo) {
        add_learner(r, m, false);
        add_inference(r, m, false); /* the reference */
        add_inference(r, m, true);  /* the reward model */
    }
    r->total = r->packed + r->weights + r->gradients + r->moments + r->activations + r->cache;
}

void pd_plan_make(const struct pd_model *m, struct pd_plan *plan)
{
    static const enum pd_compute both[] = {PD_COMPUTE_BF16, PD_COMPUTE_F32};
    int64_t context = pd_config_context(&m->cfg);
    *plan = (struct pd_plan){.available = pd_memory_available(),
                             .tokens = context < PD_PLAN_TOKENS ? context : PD_PLAN_TOKENS};
    for (size_t k = 0; k < 2; k++)
        add_row(plan, m, "generate", both[k], 0);
    for (int job = 0; job < 2; job++)
        for (size_t k = 0; k < 2; k++)
            for (int half = 0; half < 2; half++)
                add_row(plan, m, job ? "train ppo" : "train reward", both[k], half * 0.5);
}
