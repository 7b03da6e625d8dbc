/* podium eval reward|policy: how good a reward model is, and how far a policy has come. */
#include "cmd/cmd.h"
#include "cmd/door.h"
#include "cmd/rows.h"
#include "base/fs.h"
#include "base/json.h"
#include "tensor/backend.h"
#include "train/policy_eval.h"
#include "train/score.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int eval_reward(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_score_options o = {.dtype = "auto", .micro_tokens = 2048};
    struct pd_score_result result;
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    int64_t threads = 0;
    bool help = false, json = false;
    struct pd_opt options[] = {
        PD_OPT_ROW("model", PD_OPT_STR, &o.model, "RM", "a reward model: folder or run folder",
                   .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("data", PD_OPT_STR, &o.in, "FILE",
                   "pairs.jsonl, best pairs it was not trained on", .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("out", PD_OPT_STR, &o.out, "FILE", "also write the rows with their rewards"),
        PD_ROWS_SCORE(o, threads),
        PD_OPT_ROW("json", PD_OPT_FLAG, &json, NULL, "print one JSON object"),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    pd_opt_list_release(&args);
    if (help)
        return pd_cmd_help(
            self, "podium eval reward --model RM --data pairs.jsonl [--json]",
            "Accuracy with its 95% interval (Wilson) beside what \"longer wins\" and \"shorter "
            "wins\"\n"
            "would get, mean margin and loss, calibration error (how far stated confidence is "
            "from\n"
            "being right), correlation of the reward difference with the length difference, and\n"
            "accuracy by strength of preference where rows have one.",
            options, "  podium eval reward --model runs/rm --data held-out.jsonl --json");
    if (rc == PD_OK)
        rc = pd_backend_init((int)threads, &err);
    if (rc == PD_OK)
        rc = pd_score_file(&o, &result, &err);
    if (rc == PD_OK && result.pairs.n == 0)
        rc = PD_FAIL(&err, PD_INVALID, "%s holds no pairs", o.in);
    if (rc != PD_OK)
        return pd_cmd_fail(self, &err);
    struct pd_buf text;
    struct pd_jw w;
    pd_buf_init(&text, 0);
    pd_jw_init(&w, &text);
    if (json) {
        pd_jw_object(&w);
        pd_reward_summary_json(&result.pairs, &w);
        pd_jw_object_end(&w);
        pd_buf_addc(&text, '\n');
    } else {
        pd_reward_summary_text(&result.pairs, &text);
    }
    fputs(pd_buf_cstr(&text), stdout);
    pd_buf_release(&text);
    return 0;
}

static void side_text(const char *name, const struct pd_policy_side *s, struct pd_buf *out)
{
    pd_buf_addf(out, "%-12s reward %+.4f, %.1f tokens, %.0f%% unfinished\n", name, s->reward,
                s->tokens, 100 * s->unfinished);
}

static void side_json(struct pd_jw *w, const char *key, const char *path,
                      const struct pd_policy_side *s)
{
    pd_jw_key(w, key);
    pd_jw_object(w);
    pd_jw_kstrz(w, "path", path);
    pd_jw_kf64(w, "mean_reward", s->reward);
    pd_jw_kf64(w, "mean_tokens", s->tokens);
    pd_jw_kf64(w, "unfinished", s->unfinished);
    pd_jw_object_end(w);
}

static void interval_json(struct pd_jw *w, const char *key, struct pd_interval ci)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    pd_jw_f64(w, ci.lo);
    pd_jw_f64(w, ci.hi);
    pd_jw_array_end(w);
}

static void print_comparison(const struct pd_policy_eval_options *o,
                             const struct pd_policy_comparison *c, bool json)
{
    struct pd_buf text;
    struct pd_jw w;
    pd_buf_init(&text, 0);
    pd_jw_init(&w, &text);
    if (json) {
        pd_jw_object(&w);
        pd_jw_ki64(&w, "n", (int64_t)c->prompts);
        pd_jw_ki64(&w, "answers", (int64_t)c->answers);
        pd_jw_kf64(&w, "win_rate", c->win_rate);
        interval_json(&w, "win_rate_ci", c->win_ci);
        pd_jw_kf64(&w, "difference", c->difference);
        interval_json(&w, "difference_ci", c->difference_ci);
        side_json(&w, "model", o->model, &c->model);
        side_json(&w, "against", o->against, &c->against);
        pd_jw_object_end(&w);
        pd_buf_addc(&text, '\n');
    } else {
        pd_buf_addf(&text, "win rate     %.1f%% (95%% interval %.1f..%.1f) on %zu prompts\n",
                    100 * c->win_rate, 100 * c->win_ci.lo, 100 * c->win_ci.hi, c->prompts);
        pd_buf_addf(&text, "difference   %+.4f (95%% interval %+.4f..%+.4f) in mean reward\n",
                    c->difference, c->difference_ci.lo, c->difference_ci.hi);
        side_text("model", &c->model, &text);
        side_text("against", &c->against, &text);
    }
    fputs(pd_buf_cstr(&text), stdout);
    pd_buf_release(&text);
}

/* The answers go before people through the same import as any others. */
static enum pd_rc to_dataset(const char *file, const char *dataset, const char *data,
                             struct pd_err *err)
{
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "dataset", json_object_new_string(dataset));
    struct pd_door_call call = {.data_dir = data,
                                .op = "import",
                                .args = args,
                                .in_path = file,
                                .in_name = "answers.jsonl",
                                .out = stderr,
                                .notes = stderr};
    enum pd_rc rc = pd_door_op(&call, err);
    json_object_put(args);
    return rc;
}

static int eval_policy(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_policy_eval_options o = {.chat = "auto",
                                       .dtype = "auto",
                                       .n = 1,
                                       .max_new_tokens = 50,
                                       .temperature = 0.7,
                                       .seed = 42,
                                       .micro_tokens = 2048};
    struct pd_policy_comparison result;
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    const char *dataset = NULL, *data = NULL;
    char temp[] = "/tmp/podium-answers-XXXXXX";
    int64_t threads = 0;
    int fd = -1;
    bool help = false, json = false;
    struct pd_opt options[] = {
        PD_OPT_ROW("model", PD_OPT_STR, &o.model, "M",
                   "the new policy: folder, .gguf or run folder", .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("against", PD_OPT_STR, &o.against, "M", "the old one", .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("reward-model", PD_OPT_STR, &o.reward_model, "RM", "what scores the answers",
                   .flags = PD_OPT_REQUIRED),
        PD_ROW_REWARD_LABEL(&o.reward_label),
        PD_OPT_ROW("prompts", PD_OPT_STR, &o.prompts, "FILE",
                   "held-out prompts: .jsonl, .txt or .csv", .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("limit", PD_OPT_I64, &o.limit, "N", "use the first N prompts; 0 = all", .min = 0,
                   .max = 1e9),
        PD_OPT_ROW("n", PD_OPT_I64, &o.n, "N", "answers of each to a prompt", .min = 1,
                   .max = 1024),
        PD_OPT_ROW("max-new-tokens", PD_OPT_I64, &o.max_new_tokens, "N", "most tokens of an answer",
                   .min = 1, .max = 1e6),
        PD_OPT_ROW("temperature", PD_OPT_F64, &o.temperature, "T", "of sampling; 0 = greedy",
                   .min = 0, .max = 100),
        PD_OPT_ROW("chat", PD_OPT_CHOICE, &o.chat, "WHEN",
                   "put text prompts through the chat template; auto = if the model has one",
                   .choices = "auto|on|off"),
        PD_OPT_ROW("seed", PD_OPT_I64, &o.seed, "N", "of sampling and of the order shown", .min = 0,
                   .max = 4294967295.0),
        PD_OPT_ROW("out", PD_OPT_STR, &o.out, "FILE",
                   "answers.jsonl with one answer of each, in random order"),
        PD_OPT_ROW("to-dataset", PD_OPT_STR, &dataset, "NAME",
                   "put those answers before people, as records of this dataset"),
        PD_OPT_ROW("data", PD_OPT_STR, &data, "DIR", "data folder of --to-dataset"),
        PD_ROW_MICRO_BATCH(&o.micro_tokens),
        PD_ROW_DTYPE(&o.dtype),
        PD_ROW_THREADS(&threads),
        PD_ROW_SKIP_BAD(&o.skip_bad),
        PD_ROW_QUIET(&o.quiet),
        PD_OPT_ROW("json", PD_OPT_FLAG, &json, NULL, "print one JSON object"),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    pd_opt_list_release(&args);
    if (help)
        return pd_cmd_help(
            self,
            "podium eval policy --model NEW --against OLD --reward-model RM --prompts F [options]",
            "Both answer the same prompts with the same seed; the reward model scores the "
            "answers.\n"
            "Printed: how often the new one wins (ties half) and the mean difference in reward, "
            "each\n"
            "with a 95% bootstrap interval over prompts. --to-dataset sends one answer of each, "
            "in\n"
            "random order and without saying whose it is, to be ranked by people.",
            options,
            "  podium eval policy --model runs/ppo --against smollm2.gguf --reward-model runs/rm "
            "\\\n"
            "      --prompts held-out.jsonl --to-dataset round-2 --data podium-data");
    if (rc == PD_OK && dataset && !o.out) {
        fd = mkstemp(temp);
        if (fd < 0)
            rc = PD_FAIL_SYS(&err, PD_IO, "cannot make a file in /tmp");
        else
            o.out = temp;
    }
    if (rc == PD_OK)
        rc = pd_backend_init((int)threads, &err);
    if (rc == PD_OK)
        rc = pd_policy_compare(&o, &result, &err);
    bool compared = rc == PD_OK;
    if (compared) /* first of all: it took long, and the import may fail */
        print_comparison(&o, &result, json);
    if (compared && dataset)
        rc = to_dataset(o.out, dataset, data, &err);
    if (fd >= 0) {
        (void)close(fd);
        if (rc != PD_OK && compared)
            fprintf(stderr, "the answers are kept in %s; podium import takes them\n", temp);
        else
            (void)unlink(temp);
    }
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}

int pd_cmd_eval(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_err err = {0};
    if (argc > 0 && strcmp(argv[0], "reward") == 0)
        return eval_reward(self, argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "policy") == 0)
        return eval_policy(self, argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "--help") == 0)
        return pd_cmd_help(self, "podium eval reward|policy [options]   (each has --help)",
                           "  reward   a reward model on held-out pairs\n"
                           "  policy   a policy against another, scored by a reward model",
                           NULL, NULL);
    (void)PD_FAIL(&err, PD_USAGE, "evaluate what? reward or policy%s%s", argc > 0 ? ", not " : "",
                  argc > 0 ? argv[0] : "");
    return pd_cmd_fail(self, &err);
}
