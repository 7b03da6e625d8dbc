/* podium train reward|ppo: option tables and the end of a run; the loops are in src/train. */
#include "cmd/cmd.h"
#include "cmd/rows.h"
#include "base/json.h"
#include "tensor/backend.h"
#include "train/ppo.h"
#include "train/reward.h"

#include <stdio.h>
#include <string.h>

#ifndef PD_COMMIT
#define PD_COMMIT ""
#endif

/* What every kind of training takes; `c` is a struct pd_train_options. */
#define INPUT_OPTIONS(c, data_help)                                                                \
    PD_OPT_HEAD("What to train, on what"),                                                         \
        PD_OPT_ROW("model", PD_OPT_STR, &(c).model, "M",                                           \
                   "the model to start from: a Hugging Face folder, a .gguf file or a run folder", \
                   .flags = PD_OPT_REQUIRED),                                                      \
        PD_OPT_ROW("data", PD_OPT_STR, &(c).data, "FILE", data_help, .flags = PD_OPT_REQUIRED),    \
        PD_OPT_ROW("out", PD_OPT_STR, &(c).out, "RUN",                                             \
                   "run folder to make; it must not hold a run", .flags = PD_OPT_REQUIRED),        \
        PD_OPT_ROW("resume", PD_OPT_FLAG, &(c).resume, NULL,                                       \
                   "go on with the run in --out from its last checkpoint, exactly as it would "    \
                   "have gone"),                                                                   \
        PD_ROW_SKIP_BAD(&(c).skip_bad),                                                            \
        PD_OPT_ROW("seed", PD_OPT_I64, &(c).seed, "N",                                             \
                   "of the order of the data, new heads and sampling", .min = 0,                   \
                   .max = 4294967295.0)

#define OPTIMIZER_OPTIONS(c)                                                                       \
    PD_OPT_HEAD("Optimizer (AdamW)"),                                                              \
        PD_OPT_ROW("learning-rate", PD_OPT_F64, &(c).learning_rate, "LR", "peak learning rate",    \
                   .min = 0, .max = 10),                                                           \
        PD_OPT_ROW("lr-scheduler", PD_OPT_CHOICE, &(c).lr_scheduler, "KIND",                       \
                   "how the rate goes on after warm-up", .choices = "linear|cosine|constant"),     \
        PD_OPT_ROW("warmup-steps", PD_OPT_I64, &(c).warmup_steps, "N",                             \
                   "steps from 0 to the peak rate", .min = 0, .max = 1e9),                         \
        PD_OPT_ROW("weight-decay", PD_OPT_F64, &(c).weight_decay, "X",                             \
                   "decoupled; spares norms and biases", .min = 0, .max = 10),                     \
        PD_OPT_ROW("adam-beta1", PD_OPT_F64, &(c).adam_beta1, "X", "first moment's decay",         \
                   .min = 0, .max = 0.99999),                                                      \
        PD_OPT_ROW("adam-beta2", PD_OPT_F64, &(c).adam_beta2, "X", "second moment's decay",        \
                   .min = 0, .max = 0.9999999),                                                    \
        PD_OPT_ROW("adam-epsilon", PD_OPT_F64, &(c).adam_epsilon, "X", "term of the denominator",  \
                   .min = 0, .max = 1),                                                            \
        PD_OPT_ROW("max-grad-norm", PD_OPT_F64, &(c).max_grad_norm, "X",                           \
                   "gradients are scaled down to this norm; 0 = never", .min = 0, .max = 1e9),     \
        PD_OPT_ROW(                                                                                \
            "freeze-layers", PD_OPT_F64, &(c).freeze_layers, "SHARE",                              \
            "share of the blocks, from the bottom, that stay as they are (with the embeddings)",   \
            .min = 0, .max = 1)

#define MACHINE_OPTIONS(c)                                                                         \
    PD_OPT_HEAD("Machine"),                                                                        \
        PD_OPT_ROW("dtype", PD_OPT_CHOICE, &(c).dtype, "T",                                        \
                   "precision of the matrix products; auto = bf16 where the CPU has it",           \
                   .choices = "auto|bf16|fp32"),                                                   \
        PD_OPT_ROW("micro-batch-tokens", PD_OPT_I64, &(c).micro_batch_tokens, "N",                 \
                   "tokens in memory at once; results do not depend on it beyond rounding",        \
                   .min = 1, .max = 1e8),                                                          \
        PD_OPT_ROW("memory-limit", PD_OPT_BYTES, &(c).memory_limit, "BYTES",                       \
                   "take smaller micro-batches to stay below this, or refuse; 0 = no limit"),      \
        PD_ROW_THREADS(&(c).threads),                                                              \
        PD_OPT_ROW("save-every", PD_OPT_I64, &(c).save_every, "N",                                 \
                   "steps between checkpoints; 0 = none", .min = 0, .max = 1e9),                   \
        PD_OPT_ROW("keep-checkpoints", PD_OPT_I64, &(c).keep_checkpoints, "N", "how many stay",    \
                   .min = 1, .max = 1000),                                                         \
        PD_ROW_QUIET(&(c).quiet),                                                                  \
        PD_OPT_ROW("json", PD_OPT_FLAG, &json, NULL, "print the result as one JSON object")

static struct pd_run_about about_of(const char *verb, const struct pd_opt *options, int64_t seed)
{
    return (struct pd_run_about){
        .verb = verb, .version = PD_VERSION, .commit = PD_COMMIT, .options = options, .seed = seed};
}

static void print_json(const struct pd_buf *text)
{
    puts(pd_buf_cstr(text));
}

/* --resume of a run that had reached its end. */
static int already_done(const char *out, bool json)
{
    if (json)
        printf("{\"run\":\"%s\",\"finished\":true}\n", out);
    else
        printf("%s was finished already\nmodel        %s/model\nreport       %s/report.html\n", out,
               out, out);
    return 0;
}

static int train_reward(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_reward_options o;
    struct pd_reward_result result;
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    bool help = false, json = false;
    pd_reward_options_default(&o);
    struct pd_train_options *c = &o.common;
    struct pd_opt options[] = {
        INPUT_OPTIONS(*c,
                      "pairs.jsonl (gzip too): {\"prompt\"?, \"chosen\", \"rejected\"}, texts or "
                      "message lists"),
        PD_OPT_ROW("eval", PD_OPT_STR, &c->eval_data, "FILE", "held-out pairs, in the same shapes"),
        PD_OPT_ROW("eval-every", PD_OPT_I64, &c->eval_every, "N",
                   "steps between evaluations; 0 = only at the end", .min = 0, .max = 1e9),
        PD_OPT_ROW("max-length", PD_OPT_I64, &c->max_length, "N", "tokens a side may have",
                   .min = 2, .max = 1e7),
        PD_OPT_ROW("too-long", PD_OPT_CHOICE, &o.too_long, "WHAT",
                   "what becomes of longer pairs; cutting takes only what both sides share",
                   .choices = "drop|truncate-prompt"),
        PD_OPT_ROW("shuffle", PD_OPT_FLAG, &c->shuffle, NULL, "a new order every epoch",
                   .flags = PD_OPT_NEGATABLE),
        PD_OPT_HEAD("Amount"),
        PD_OPT_ROW("epochs", PD_OPT_I64, &c->epochs, "N", "times through the data", .min = 1,
                   .max = 1e6),
        PD_OPT_ROW("max-steps", PD_OPT_I64, &c->max_steps, "N",
                   "optimizer steps; 0 = as --epochs says", .min = 0, .max = 1e9),
        PD_OPT_ROW("batch-size", PD_OPT_I64, &c->batch_size, "N", "pairs in an optimizer step",
                   .min = 1, .max = 1e6),
        PD_OPT_HEAD("Loss"),
        PD_OPT_ROW("center-rewards-coefficient", PD_OPT_F64, &o.center_rewards_coefficient, "X",
                   "pulls the two rewards of a pair towards a sum of 0 (0.01 is usual); 0 = off",
                   .min = 0, .max = 1e6),
        PD_OPT_ROW("use-margin", PD_OPT_FLAG, &o.use_margin, NULL, "use the rows' \"margin\""),
        PD_OPT_ROW("use-weight", PD_OPT_FLAG, &o.use_weight, NULL, "use the rows' \"weight\""),
        PD_ROW_REWARD_LABEL(&o.reward_label),
        PD_OPT_ROW("init-head", PD_OPT_CHOICE, &o.init_head, "HOW",
                   "the score head, when the model brings none; normal has deviation 0.02",
                   .choices = "normal|zeros"),
        OPTIMIZER_OPTIONS(*c),
        MACHINE_OPTIONS(*c),
        PD_OPT_ROW("save-dtype", PD_OPT_CHOICE, &o.save_dtype, "T", "weights of the saved model",
                   .choices = "fp32|bf16"),
        PD_OPT_ROW("frozen-cache", PD_OPT_BYTES, &o.frozen_cache, "BYTES",
                   "most to keep of what frozen blocks compute, in a file of the run folder"),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    pd_opt_list_release(&args);
    if (help)
        return pd_cmd_help(
            self, "podium train reward --model M --data pairs.jsonl --out RUN [options]",
            "Trains a reward model: one number for a text, higher where people preferred it. The\n"
            "loss is Bradley-Terry's, the defaults are those of TRL's RewardTrainer. The run "
            "folder\n"
            "gets run.json, metrics.jsonl, tb/, checkpoints, report.html and model/, which\n"
            "transformers opens as AutoModelForSequenceClassification. Ctrl-C, or a file called\n"
            "`stop` in the run folder, saves a checkpoint and ends with exit code 3.",
            options,
            "  podium train reward --model smollm2.gguf --data pairs.jsonl --eval held-out.jsonl "
            "\\\n"
            "      --out runs/rm --epochs 1 --learning-rate 1e-5 --freeze-layers 0.7\n"
            "  podium train reward ... --resume        the same command again, after an "
            "interruption");
    if (rc == PD_OK)
        rc = pd_backend_init((int)c->threads, &err);
    if (rc == PD_OK) {
        struct pd_run_about about = about_of("train reward", options, c->seed);
        rc = pd_train_reward(&o, &about, &result, &err);
    }
    if (rc != PD_OK)
        return pd_cmd_fail(self, &err);
    if (result.finished)
        return already_done(c->out, json);
    struct pd_buf text;
    pd_buf_init(&text, 0);
    if (json) {
        struct pd_jw w;
        pd_jw_init(&w, &text);
        pd_jw_object(&w);
        pd_jw_kstrz(&w, "run", c->out);
        pd_jw_ki64(&w, "steps", result.steps);
        pd_jw_kf64(&w, "loss", result.loss);
        if (result.evaluated) {
            pd_jw_key(&w, "eval");
            pd_jw_object(&w);
            pd_reward_summary_json(&result.eval, &w);
            pd_jw_object_end(&w);
        }
        pd_jw_object_end(&w);
        print_json(&text);
    } else {
        if (result.evaluated)
            pd_reward_summary_text(&result.eval, &text);
        pd_buf_addf(&text, "model        %s/model\nreport       %s/report.html\n", c->out, c->out);
        fputs(pd_buf_cstr(&text), stdout);
    }
    pd_buf_release(&text);
    return 0;
}

static int train_ppo(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_ppo_options o;
    struct pd_ppo_result result;
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    bool help = false, json = false;
    pd_ppo_options_default(&o);
    struct pd_train_options *c = &o.common;
    struct pd_opt options[] = {
        INPUT_OPTIONS(*c, "prompts: .jsonl with \"prompt\" (text or messages), .txt, or .csv"),
        PD_OPT_ROW("reward-model", PD_OPT_STR, &o.reward_model, "RM", "what scores the answers",
                   .flags = PD_OPT_REQUIRED),
        PD_ROW_REWARD_LABEL(&o.reward_label),
        PD_OPT_ROW("ref-model", PD_OPT_STR, &o.ref_model, "M",
                   "what the KL is measured to; default: --model"),
        PD_OPT_ROW("rollouts", PD_OPT_STR, &o.rollouts, "FILE",
                   "learn from these answers instead of sampling (for comparisons)"),
        PD_OPT_ROW("chat", PD_OPT_CHOICE, &o.chat, "WHEN",
                   "put text prompts through the model's chat template; auto = if it has one",
                   .choices = "auto|on|off"),
        PD_OPT_ROW("max-length", PD_OPT_I64, &c->max_length, "N",
                   "tokens a prompt may have; longer are left out", .min = 1, .max = 1e7),
        PD_OPT_ROW("shuffle", PD_OPT_FLAG, &c->shuffle, NULL, "a new order of prompts every epoch",
                   .flags = PD_OPT_NEGATABLE),
        PD_OPT_HEAD("Sampling"),
        PD_OPT_ROW("rollout-batch", PD_OPT_I64, &o.rollout_batch, "N", "prompts in an update",
                   .min = 1, .max = 1e6),
        PD_OPT_ROW("samples-per-prompt", PD_OPT_I64, &o.samples_per_prompt, "N",
                   "answers to each prompt", .min = 1, .max = 1024),
        PD_OPT_ROW("response-length", PD_OPT_I64, &o.response_length, "N",
                   "most tokens of an answer", .min = 1, .max = 1e6),
        PD_OPT_ROW("temperature", PD_OPT_F64, &o.temperature, "T",
                   "of sampling and of all log-probs", .min = 1e-3, .max = 100),
        PD_OPT_HEAD("Amount"),
        PD_OPT_ROW("epochs", PD_OPT_I64, &c->epochs, "N", "times through the prompts", .min = 1,
                   .max = 1e6),
        PD_OPT_ROW("max-steps", PD_OPT_I64, &c->max_steps, "N", "updates; 0 = as --epochs says",
                   .min = 0, .max = 1e9),
        PD_OPT_ROW("ppo-epochs", PD_OPT_I64, &o.ppo_epochs, "N",
                   "times through the answers of an update", .min = 1, .max = 1000),
        PD_OPT_ROW("mini-batches", PD_OPT_I64, &o.mini_batches, "N",
                   "optimizer steps in each of those", .min = 1, .max = 1e6),
        PD_OPT_HEAD("Reward"),
        PD_OPT_ROW("kl-coef", PD_OPT_F64, &o.kl_coef, "X", "weight of the KL to the reference",
                   .min = 0, .max = 1e6),
        PD_OPT_ROW("kl-estimator", PD_OPT_CHOICE, &o.kl_estimator, "K",
                   "k1 = log ratio, k3 is never negative", .choices = "k1|k3"),
        PD_OPT_ROW("adaptive-kl", PD_OPT_F64, &o.adaptive_kl, "TARGET",
                   "steer --kl-coef so that the KL of an answer nears this; 0 = leave it", .min = 0,
                   .max = 1e6),
        PD_OPT_ROW("horizon", PD_OPT_F64, &o.horizon, "N", "answers over which the steering acts",
                   .min = 1, .max = 1e12),
        PD_OPT_ROW("missing-eos-penalty", PD_OPT_F64, &o.missing_eos_penalty, "X",
                   "taken off the score of an answer that does not end", .min = 0, .max = 1e6),
        PD_OPT_ROW("whiten-rewards", PD_OPT_FLAG, &o.whiten_rewards, NULL,
                   "scale rewards to variance 1"),
        PD_OPT_ROW("gamma", PD_OPT_F64, &o.gamma, "X", "discount", .min = 0, .max = 1),
        PD_OPT_ROW("lam", PD_OPT_F64, &o.lam, "X", "of generalised advantage estimation", .min = 0,
                   .max = 1),
        PD_OPT_HEAD("Loss"),
        PD_OPT_ROW("cliprange", PD_OPT_F64, &o.cliprange, "X", "of the policy's ratio", .min = 0,
                   .max = 100),
        PD_OPT_ROW("cliprange-value", PD_OPT_F64, &o.cliprange_value, "X", "of the values",
                   .min = 0, .max = 1e6),
        PD_OPT_ROW("vf-coef", PD_OPT_F64, &o.vf_coef, "X", "weight of the value loss", .min = 0,
                   .max = 1e6),
        PD_OPT_ROW("value-head", PD_OPT_CHOICE, &o.value_head, "WHERE",
                   "a head on the policy's trunk, or a trained copy of the reward model",
                   .choices = "shared|model"),
        PD_OPT_ROW("preset", PD_OPT_CHOICE, &o.preset, "P",
                   "trl = its placement of the score, its averages and its temperature; TRL clips "
                   "no gradients: add --max-grad-norm 0",
                   .choices = "podium|trl"),
        OPTIMIZER_OPTIONS(*c),
        MACHINE_OPTIONS(*c),
        PD_OPT_ROW("save-dtype", PD_OPT_CHOICE, &o.save_dtype, "T", "weights of the saved model",
                   .choices = "fp32|bf16"),
        PD_OPT_ROW("sample-every", PD_OPT_I64, &o.sample_every, "N",
                   "updates between samples in samples.jsonl; 0 = none", .min = 0, .max = 1e9),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    pd_opt_list_release(&args);
    if (help)
        return pd_cmd_help(
            self, "podium train ppo --model M --data prompts.jsonl --reward-model RM --out RUN",
            "Samples answers from the model, scores them with the reward model, and moves the\n"
            "weights towards the better ones while a per-token KL holds them near the reference.\n"
            "The run folder gets run.json, metrics.jsonl, samples.jsonl, tb/, checkpoints,\n"
            "report.html and model/. Watch objective/kl, objective/scores and "
            "policy/clipfrac_avg;\n"
            "what looks wrong is said in a line.",
            options,
            "  podium train ppo --model smollm2.gguf --data prompts.jsonl --reward-model runs/rm "
            "\\\n"
            "      --out runs/ppo --rollout-batch 32 --max-steps 50 --adaptive-kl 6");
    if (rc == PD_OK)
        rc = pd_backend_init((int)c->threads, &err);
    if (rc == PD_OK) {
        struct pd_run_about about = about_of("train ppo", options, c->seed);
        rc = pd_train_ppo(&o, &about, &result, &err);
    }
    if (rc != PD_OK)
        return pd_cmd_fail(self, &err);
    if (result.finished)
        return already_done(c->out, json);
    if (json)
        printf("{\"run\":\"%s\",\"updates\":%lld,\"first_score\":%.9g,\"last_score\":%.9g,"
               "\"last_kl\":%.9g}\n",
               c->out, (long long)result.updates, result.first_score, result.last_score,
               result.last_kl);
    else
        printf("updates      %lld\nscore        %.4f at first, %.4f at last (means of a tenth)\n"
               "KL           %.3f per answer\nmodel        %s/model\nreport       %s/report.html\n",
               (long long)result.updates, result.first_score, result.last_score, result.last_kl,
               c->out, c->out);
    return 0;
}

int pd_cmd_train(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_err err = {0};
    if (argc > 0 && strcmp(argv[0], "reward") == 0)
        return train_reward(self, argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "ppo") == 0)
        return train_ppo(self, argc - 1, argv + 1);
    if (argc > 0 && strcmp(argv[0], "--help") == 0)
        return pd_cmd_help(
            self, "podium train reward|ppo --model M --data F --out RUN [options]",
            "  reward   a reward model from preference pairs (podium train reward --help)\n"
            "  ppo      a policy against a reward model (podium train ppo --help)",
            NULL, NULL);
    (void)PD_FAIL(&err, PD_USAGE, "train what? reward or ppo%s%s", argc > 0 ? ", not " : "",
                  argc > 0 ? argv[0] : "");
    return pd_cmd_fail(self, &err);
}
