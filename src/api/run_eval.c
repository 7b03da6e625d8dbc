#include "api/run_eval.h"

#include "api/run_folder.h"

#include <math.h>

enum { MAX_ITEMS = 5000, MAX_BYTES = 64 << 20 };

struct reading {
    struct pd_arena *a;
    struct pd_policy_eval *out;
    struct pd_str uuid;
};

static void put(void *o)
{
    json_object_put(o);
}

/* Which of the two answers is the run's own: "model" is the path it was read from. */
static void on_line(void *ctx, struct pd_str line)
{
    struct reading *r = ctx;
    struct json_object *o = NULL;
    if (r->out->n == MAX_ITEMS || pd_json_parse(line, &o, NULL) != PD_OK)
        return;
    pd_arena_defer(r->a, put, o);
    struct json_object *answers = pd_json_get(o, "answers");
    if (!json_object_is_type(answers, json_type_array) || json_object_array_length(answers) != 2)
        return;
    struct pd_eval_item *it = &r->out->items[r->out->n++];
    *it = (struct pd_eval_item){
        .prompt = pd_json_get(o, "prompt"), .old_score = NAN, .new_score = NAN};
    for (size_t i = 0; i < 2; i++) {
        struct json_object *answer = json_object_array_get_idx(answers, i);
        bool is_new = pd_str_ends(pd_json_str(answer, "model"), r->uuid);
        double score = pd_json_f64(answer, "reward", NAN);
        *(is_new ? &it->new_text : &it->old_text) = pd_json_str(answer, "text");
        *(is_new ? &it->new_score : &it->old_score) = score;
    }
    r->out->wins += it->new_score > it->old_score;
    r->out->losses += it->new_score < it->old_score;
    r->out->ties += it->new_score == it->old_score;
}

bool pd_policy_eval_read(struct pd_arena *a, const char *dir, const char *run_uuid,
                         struct pd_policy_eval *out)
{
    struct reading r = {a, out, pd_str_from(run_uuid)};
    struct pd_tail t;
    *out = (struct pd_policy_eval){.summary = pd_run_folder_file(a, dir, "eval.json")};
    if (!out->summary)
        return false;
    out->items = pd_arena_alloc(a, MAX_ITEMS * sizeof *out->items);
    pd_tail_init(&t, dir, "eval-answers.jsonl");
    pd_tail_read(&t, MAX_BYTES, on_line, &r, NULL);
    pd_tail_release(&t);
    return true;
}
