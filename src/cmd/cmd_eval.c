/* podium eval reward|policy: how good a reward model is, and how far a policy has come. */
#include "cmd/cmd.h"
#include "base/json.h"
#include "tensor/backend.h"
#include "train/score.h"

#include <stdio.h>

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
        PD_OPT_ROW("max-length", PD_OPT_I64, &o.max_length, "N",
                   "a longer text is a bad row; 0 = the model's context", .min = 0, .max = 1e7),
        PD_OPT_ROW("micro-batch-tokens", PD_OPT_I64, &o.micro_tokens, "N",
                   "tokens in memory at once", .min = 1, .max = 1e8),
        PD_OPT_ROW("dtype", PD_OPT_CHOICE, &o.dtype, "T", "precision of the matrix products",
                   .choices = "auto|bf16|fp32"),
        PD_OPT_ROW("threads", PD_OPT_I64, &threads, "N", "0 = all cores", .min = 0, .max = 4096),
        PD_OPT_ROW("skip-bad", PD_OPT_FLAG, &o.skip_bad, NULL,
                   "pass over bad rows instead of stopping"),
        PD_OPT_ROW("quiet", PD_OPT_FLAG, &o.quiet, NULL, "no progress line"),
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

int pd_cmd_eval(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_err err = {0};
    if (argc > 0 && strcmp(argv[0], "reward") == 0)
        return eval_reward(self, argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "--help") == 0)
        return pd_cmd_help(
            self, "podium eval reward --model RM --data pairs.jsonl [options]",
            "  reward   a reward model on held-out pairs (podium eval reward --help)", NULL, NULL);
    (void)PD_FAIL(&err, PD_USAGE, "evaluate what? reward");
    return pd_cmd_fail(self, &err);
}
