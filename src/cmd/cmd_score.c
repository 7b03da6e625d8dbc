/* podium score: rewards for texts and pairs. */
#include "cmd/cmd.h"
#include "cmd/rows.h"
#include "base/json.h"
#include "tensor/backend.h"
#include "train/score.h"

#include <stdio.h>

static void summary_json(const struct pd_score_result *r, struct pd_jw *w)
{
    pd_jw_object(w);
    if (r->pairs.n) {
        pd_reward_summary_json(&r->pairs, w);
    } else {
        pd_jw_ki64(w, "n", (int64_t)r->n_texts);
        pd_jw_kf64(w, "mean_reward", r->mean_reward);
        pd_jw_kf64(w, "min_reward", r->min_reward);
        pd_jw_kf64(w, "max_reward", r->max_reward);
    }
    pd_jw_object_end(w);
}

static void print_summary(const struct pd_score_result *r, bool json, FILE *f)
{
    struct pd_buf text;
    struct pd_jw w;
    pd_buf_init(&text, 0);
    pd_jw_init(&w, &text);
    if (json) {
        summary_json(r, &w);
        pd_buf_addc(&text, '\n');
    } else {
        if (r->n_texts)
            pd_buf_addf(&text, "reward       mean %+.4f, from %+.4f to %+.4f, on %zu texts\n",
                        r->mean_reward, r->min_reward, r->max_reward, r->n_texts);
        if (r->pairs.n)
            pd_reward_summary_text(&r->pairs, &text);
    }
    fputs(pd_buf_cstr(&text), f);
    pd_buf_release(&text);
}

int pd_cmd_score(const struct pd_cmd *self, int argc, char **argv)
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
        PD_OPT_ROW("in", PD_OPT_STR, &o.in, "FILE",
                   "{\"prompt\"?, \"text\"}, {\"ids\"}, or pairs with \"chosen\" and \"rejected\"; "
                   "gzip too, - = stdin",
                   .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("out", PD_OPT_STR, &o.out, "FILE", "the rows with their rewards; - = stdout",
                   .flags = PD_OPT_REQUIRED),
        PD_ROWS_SCORE(o, threads),
        PD_OPT_ROW("json", PD_OPT_FLAG, &json, NULL, "the summary as one JSON object"),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    pd_opt_list_release(&args);
    if (help)
        return pd_cmd_help(
            self, "podium score --model RM --in F --out F [options]",
            "Adds \"reward\" to a text's row, \"reward_chosen\" and \"reward_rejected\" to a "
            "pair's;\n"
            "other keys stay. Text is read as in training: prompt and text are joined, the eos "
            "text\n"
            "is appended unless there, messages go through the chat template, and the reward is "
            "read\n"
            "at the last token that is not pad. The summary goes to stdout (with --out - to "
            "stderr).",
            options,
            "  podium score --model runs/rm --in held-out.jsonl --out scored.jsonl --json\n"
            "  echo '{\"prompt\":\"2+2?\",\"text\":\" 4\"}' | podium score --model runs/rm --in - "
            "--out -");
    if (rc == PD_OK)
        rc = pd_backend_init((int)threads, &err);
    if (rc == PD_OK)
        rc = pd_score_file(&o, &result, &err);
    if (rc != PD_OK)
        return pd_cmd_fail(self, &err);
    print_summary(&result, json, strcmp(o.out, "-") == 0 ? stderr : stdout);
    return 0;
}
