/* podium generate: answers to prompts, many at once. */
#include "cmd/cmd.h"
#include "cmd/generate_run.h"
#include "cmd/rows.h"
#include "cmd/verb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char usage[] =
    "podium generate --model M --prompts F [--out answers.jsonl] [options]\n"
    "       podium generate --model M --serve [--listen 127.0.0.1:6901]";
static const char text[] =
    "Answers every prompt N times and writes one line a prompt, in their order:\n"
    "  "
    "{\"id\",\"prompt\",\"answers\":[{\"text\",\"model\",\"tokens\",\"finish_reason\",\"logprob\","
    "\"ids\"}],\n"
    "   \"params\",\"seed\"}\n"
    "M is a Hugging Face folder, a .gguf file, a run folder, or the address of an\n"
    "OpenAI-compatible endpoint: https://host/v1, with --model-name as it calls the model and\n"
    "the key in $OPENAI_API_KEY (docs/serving.md). Prompts are .jsonl objects with\n"
    "\"prompt\" (text or messages; other keys go along), .txt lines, or a .csv or .tsv\n"
    "with a column `prompt`. A text ends before the model's end token or a --stop text\n"
    "and never repeats the prompt; finish_reason \"length\" says that it was cut.\n\n"
    "Sampling means what it means in Hugging Face transformers, with the same defaults\n"
    "(temperature 1, top-k 50, top-p 1). An answer that says the same as another one of its\n"
    "prompt is drawn again up to --resample times, then marked \"duplicate\": true.\n\n"
    "To compare variants repeat --model, or give lists like --temperature 0.7,1.0: every\n"
    "model answers N times under every setting, one model in memory at a time. The answers\n"
    "to a prompt stand in one row, shuffled, each with its \"model\" and \"params\".\n\n"
    "Each answer has its own random stream (seed, prompt, answer). Interrupted (Ctrl-C,\n"
    "exit 3), the finished prompts stay in OUT.partial, and the same command with --resume\n"
    "goes on. docs/generate.md says what every option means.\n\n"
    "With --serve the model answers OpenAI-compatible requests instead (/v1/chat/completions,\n"
    "/v1/completions, /v1/models), streamed or whole, many at once, until SIGTERM or Ctrl-C:\n"
    "docs/serving.md. Sampling is then the request's own; of the other options it takes\n"
    "--model-name, --dtype, --batch, --kv-dtype, --kv-memory, --threads, --max-new-tokens (for\n"
    "chats that do not say) and --quiet; others are refused.";
static const char examples[] =
    "  podium generate --model $(podium model pull smollm2-135m-instruct) \\\n"
    "      --prompts prompts.jsonl --n 2 --temperature 0.9 --top-p 0.95 --out answers.jsonl\n"
    "  podium generate --model gpt2/ --prompts p.txt --n 2 --max-length 50 --seed 42 --out "
    "a.jsonl\n"
    "  podium generate --model runs/ppo --prompts p.csv --greedy --stop '###' --out -\n"
    "  podium generate --model gpt2/ --model runs/ppo --temperature 0.7,1.0 --n 1 \\\n"
    "      --prompts p.jsonl --out compare.jsonl\n"
    "  podium generate --model https://api.example.com/v1 --model-name large --prompts p.jsonl \\\n"
    "      --out a.jsonl --parallel 16 --rate 300 --price-in 0.5 --price-out 1.5\n"
    "  podium generate --model runs/ppo --serve --listen 127.0.0.1:6901";

static bool given(const struct pd_generate_args *a, const char *name)
{
    for (const struct pd_opt *o = a->options; o->name || o->help; o++)
        if (o->name && strcmp(o->name, name) == 0)
            return o->was_set;
    pd_bug("no option %s", name);
}

/* What an endpoint is not asked for is refused here, not left out in silence. */
static enum pd_rc check_endpoint(struct pd_generate_args *a, const struct pd_grid_model *m,
                                 struct pd_err *err)
{
    static const char *const not_there[] = {
        "serve",   "max-length", "min-new-tokens", "typical-p", "no-repeat-ngram-size",
        "special", "bad-words",  "too-long",       "logprobs"};
    struct pd_endpoint *e = &a->ep;
    const char *key = getenv(a->key_env);
    for (size_t i = 0; i < sizeof not_there / sizeof *not_there; i++)
        if (given(a, not_there[i]))
            return PD_FAIL(err, PD_USAGE, "--%s cannot be asked of an endpoint", not_there[i]);
    if (!given(a, "model-name"))
        return PD_FAIL(err, PD_USAGE,
                       "--model-name NAME is missing: what the endpoint calls the "
                       "model");
    if (given(a, "api-key-env") && !key)
        return PD_FAIL(err, PD_USAGE, "--api-key-env: there is no variable %s", a->key_env);
    a->endpoint = true;
    e->url = m->path;
    e->model = m->name;
    e->api_key = key && key[0] ? key : NULL;
    e->send_seed = given(a, "seed");
    if (e->api_key && strncasecmp(e->url, "https:", 6) != 0)
        fprintf(stderr, "podium generate: the key goes to %s in the clear (http)\n", e->url);
    return pd_endpoint_check(e, err);
}

struct pd_sampling pd_generate_sampling(const struct pd_generate_args *a,
                                        const struct pd_grid_model *m,
                                        const struct pd_grid_setting *set)
{
    struct pd_sampling s = a->o.sampling;
    s.temperature = set->temperature;
    s.top_k = set->top_k;
    s.top_p = set->top_p;
    if (m->endpoint && !given(a, "top-k"))
        s.top_k = 0; /* not of OpenAI's API: sent only when asked for */
    return s;
}

static enum pd_rc check_grid(struct pd_generate_args *a, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_grid *g = &a->grid;
    PD_TRY(pd_grid_make(g, &a->models, &a->names, a->temperature, a->top_k, a->top_p, err));
    for (size_t i = 0; i < g->n_models; i++)
        if (g->models[i].endpoint)
            PD_TRY(check_endpoint(a, &g->models[i], err));
    for (size_t i = 0; i < g->n_settings; i++) {
        struct pd_sampling s = pd_generate_sampling(a, &g->models[0], &g->settings[i]);
        PD_TRY(pd_sampling_check(&s, err));
    }
    if (a->serve && g->n_models * g->n_settings > 1)
        rc = PD_FAIL(err, PD_USAGE, "--serve takes one --model and no lists of settings");
    else if (a->o.sampling.greedy && g->n_settings > 1)
        rc = PD_FAIL(err, PD_USAGE, "--greedy draws nothing: lists of settings make no difference");
out:
    if (rc == PD_INVALID && err)
        err->rc = rc = PD_USAGE;
    return rc;
}

/* What the other way of running has no use for is refused, not passed over. */
static enum pd_rc check_way(const struct pd_generate_args *a, struct pd_err *err)
{
    static const char *const served[] = {
        "serve",     "listen",     "api-key",        "max-requests", "access-log", /* its own */
        "model",     "model-name", "dtype",          "batch",        "kv-dtype",
        "kv-memory", "threads",    "max-new-tokens", "quiet"};
    enum { OWN = 5 };
    for (const struct pd_opt *o = a->options; o->name || o->help; o++) {
        size_t i = 0, n = sizeof served / sizeof *served;
        if (!o->name || !o->was_set)
            continue;
        while (i < n && strcmp(o->name, served[i]) != 0)
            i++;
        if (a->serve && i == n)
            return PD_FAIL(err, PD_USAGE,
                           "--serve takes no --%s: what is asked, and how, is in the requests",
                           o->name);
        if (!a->serve && i < OWN)
            return PD_FAIL(err, PD_USAGE, "--%s needs --serve", o->name);
    }
    return PD_OK;
}

static enum pd_rc check_args(struct pd_generate_args *a, struct pd_err *err)
{
    enum pd_rc rc = check_grid(a, err);
    if (rc == PD_OK)
        rc = check_way(a, err);
    if (rc != PD_OK)
        return rc;
    if (!a->serve && !a->prompts)
        return PD_FAIL(err, PD_USAGE, "--prompts FILE is missing (or --serve)");
    a->so.max_new = a->o.max_new_tokens;
    if (a->o.max_new_tokens == 0 && a->o.max_length == 0)
        a->o.max_new_tokens = 256;
    if (a->o.max_new_tokens > 0 && a->o.max_length > 0)
        fprintf(stderr, "podium generate: --max-new-tokens is given, --max-length is not used\n");
    for (size_t i = 0; i < a->stops.n; i++)
        if (!a->stops.items[i][0])
            return PD_FAIL(err, PD_USAGE, "--stop wants a text");
    a->o.logprobs = a->logprobs >= 0;
    a->o.top_logprobs = a->logprobs > 0 ? a->logprobs : 0;
    a->o.bad_words = &a->words;
    if (strcmp(a->too_long, "truncate-left") == 0) {
        a->o.too_long = PD_TOO_LONG_TRUNCATE_LEFT;
        if (a->o.max_new_tokens == 0)
            return PD_FAIL(err, PD_USAGE,
                           "--too-long truncate-left makes room for --max-new-tokens; --max-length "
                           "does not say how much");
    }
    a->o.stops = a->stops.items;
    a->o.n_stops = a->stops.n;
    a->o.seed = (uint64_t)a->seed;
    a->o.kv_bytes = a->memory;
    a->o.chat = strcmp(a->chat, "on") == 0    ? PD_CHAT_ON
                : strcmp(a->chat, "off") == 0 ? PD_CHAT_OFF
                                              : PD_CHAT_AUTO;
    return pd_words_read(&a->words, a->bad_words.items, a->bad_words.n, err);
}

int pd_cmd_generate(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_generate_args a = {
        .dtype = "auto",
        .chat = "auto",
        .temperature = "1",
        .top_k = "50",
        .top_p = "1",
        .too_long = "error",
        .logprobs = -1,
        .o = {.out = "-", .n = 2, .resamples = 3, .cache = "auto"},
        .ep = {.parallel = 8, .retries = 5, .timeout_s = 120, .max_pause_s = 600},
        .key_env = "OPENAI_API_KEY",
        .so = {.listen = "127.0.0.1:6901", .max_requests = 64}};
    struct pd_sampling *s = &a.o.sampling;
    struct pd_err err = {0};
    struct pd_verb verb = {0};
    bool help = false;
    pd_sampling_default(s);
    struct pd_opt options[] = {
        PD_OPT_ROW("model", PD_OPT_LIST, &a.models, "M",
                   "who answers; may be repeated, then each does", .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("prompts", PD_OPT_STR, &a.prompts, "FILE",
                   ".jsonl, .txt, .csv or .tsv, gzip too; - = .jsonl on stdin"),
        PD_OPT_ROW("out", PD_OPT_STR, &a.o.out, "FILE", "answers.jsonl; - = stdout"),
        PD_OPT_ROW("n", PD_OPT_I64, &a.o.n, "N", "answers a prompt, of each variant", .min = 1,
                   .max = 10000),
        PD_OPT_ROW("model-name", PD_OPT_LIST, &a.names, "NAME",
                   "\"model\" of the answers; the last part of M unless given"),
        PD_OPT_HEAD("Length"),
        PD_OPT_ROW("max-new-tokens", PD_OPT_I64, &a.o.max_new_tokens, "N",
                   "tokens of an answer at most; 0 = 256, or what --max-length leaves", .min = 0,
                   .max = 1e7),
        PD_OPT_ROW("max-length", PD_OPT_I64, &a.o.max_length, "N",
                   "tokens of prompt and answer together; 0 = not limited", .min = 0, .max = 1e7),
        PD_OPT_ROW("min-new-tokens", PD_OPT_I64, &s->min_new_tokens, "N",
                   "the end token is forbidden before", .min = 0, .max = 1e7),
        PD_OPT_ROW("stop", PD_OPT_LIST, &a.stops, "TEXT", "end an answer before this text"),
        PD_OPT_ROW("bad-words", PD_OPT_LIST, &a.bad_words, "TEXT",
                   "never say this; @FILE = each line of a file"),
        PD_OPT_ROW("too-long", PD_OPT_CHOICE, &a.too_long, "WHAT",
                   "a prompt past the context: an error, or its first tokens go until an answer "
                   "of --max-new-tokens fits",
                   .choices = "error|truncate-left"),
        PD_OPT_HEAD("Sampling"),
        PD_OPT_ROW("temperature", PD_OPT_STR, &a.temperature, "T[,T...]",
                   "above 1 more varied, below 1 more certain"),
        PD_OPT_ROW("top-k", PD_OPT_STR, &a.top_k, "K[,K...]", "of the K likeliest tokens; 0 = off"),
        PD_OPT_ROW("top-p", PD_OPT_STR, &a.top_p, "P[,P...]",
                   "of the likeliest that make up the share P; 1 = off"),
        PD_OPT_ROW("min-p", PD_OPT_F64, &s->min_p, "P",
                   "none below P times the likeliest; 0 = off"),
        PD_OPT_ROW("typical-p", PD_OPT_F64, &s->typical_p, "P",
                   "of the most typical that make up the share P; 1 = off"),
        PD_OPT_ROW("repetition-penalty", PD_OPT_F64, &s->repetition_penalty, "X",
                   "against tokens of prompt and answer, 0.01 to 100; 1 = off"),
        PD_OPT_ROW("no-repeat-ngram-size", PD_OPT_I64, &s->no_repeat_ngram, "N",
                   "no N tokens in a row twice; 0 = off", .min = 0, .max = 1e6),
        PD_OPT_ROW("greedy", PD_OPT_FLAG, &s->greedy, NULL, "always the likeliest token"),
        PD_OPT_ROW("seed", PD_OPT_I64, &a.seed, "N", "same seed, same answers"),
        PD_OPT_ROW("resample", PD_OPT_I64, &a.o.resamples, "N",
                   "times an answer that repeats another is drawn again", .min = 0, .max = 100),
        PD_OPT_ROW("logprobs", PD_OPT_I64, &a.logprobs, "K",
                   "log-probabilities of an answer's tokens under the model go along, and the K "
                   "likeliest at each place",
                   .min = 0, .max = 1000, .flags = PD_OPT_ALONE),
        PD_OPT_HEAD("Running"),
        PD_OPT_ROW("chat", PD_OPT_CHOICE, &a.chat, "WHEN",
                   "put prompts into the model's chat template (auto: if it has one)",
                   .choices = "auto|on|off"),
        PD_OPT_ROW("special", PD_OPT_FLAG, &a.o.special, NULL,
                   "in prompts outside a chat template, text that spells a special token is that "
                   "token"),
        PD_ROW_DTYPE(&a.dtype),
        PD_OPT_ROW("batch", PD_OPT_I64, &a.o.batch, "N", "answers at once; 0 = 128", .min = 0,
                   .max = 4096),
        PD_OPT_ROW("kv-dtype", PD_OPT_CHOICE, &a.o.cache, "T",
                   "how keys and values are kept (auto: fp32 with --dtype fp32, int8 where weights "
                   "of 4 bits meet activations of 8, else f16)",
                   .choices = PD_CACHE_CHOICES),
        PD_OPT_ROW("kv-memory", PD_OPT_BYTES, &a.memory, "BYTES",
                   "for keys and values at most; 0 = a quarter of the machine's"),
        PD_ROW_THREADS(&a.threads),
        PD_OPT_ROW("resume", PD_OPT_FLAG, &a.o.resume, NULL,
                   "go on from OUT.partial, if it is there"),
        PD_ROW_SKIP_BAD(&a.skip_bad),
        PD_ROW_QUIET(&a.o.quiet),
        PD_OPT_ROW("json", PD_OPT_FLAG, &a.json, NULL, "a summary as one JSON object on stdout"),
        PD_OPT_HEAD("Endpoints (--model https://host/v1)"),
        PD_OPT_ROW("parallel", PD_OPT_I64, &a.ep.parallel, "N", "requests at once", .min = 1,
                   .max = 256),
        PD_OPT_ROW("rate", PD_OPT_I64, &a.ep.rate, "N", "requests a minute; 0 = not limited",
                   .min = 0, .max = 1e6),
        PD_OPT_ROW("token-rate", PD_OPT_I64, &a.ep.token_rate, "N",
                   "tokens a minute, of prompts and answers; 0 = not limited", .min = 0,
                   .max = 1e12),
        PD_OPT_ROW("retries", PD_OPT_I64, &a.ep.retries, "N",
                   "tries beyond the first, ever further apart", .min = 0, .max = 100),
        PD_OPT_ROW("timeout", PD_OPT_I64, &a.ep.timeout_s, "SECONDS",
                   "how long an endpoint may send nothing; ten times that for a whole answer",
                   .min = 1, .max = 86400),
        PD_OPT_ROW("max-pause", PD_OPT_I64, &a.ep.max_pause_s, "SECONDS",
                   "the longest pause that an endpoint may ask for (Retry-After), past which the "
                   "job ends; "
                   "and how long it may send a request away until --retries count",
                   .min = 0, .max = 86400),
        PD_OPT_ROW("api-key-env", PD_OPT_STR, &a.key_env, "VAR",
                   "the environment variable with the key"),
        PD_OPT_ROW("price-in", PD_OPT_F64, &a.ep.price_in, "X",
                   "of a million prompt tokens: the summary has the cost", .min = 0, .max = 1e9),
        PD_OPT_ROW("price-out", PD_OPT_F64, &a.ep.price_out, "X", "of a million answer tokens",
                   .min = 0, .max = 1e9),
        PD_OPT_HEAD("Serving"),
        PD_OPT_ROW("serve", PD_OPT_FLAG, &a.serve, NULL, "answer OpenAI-compatible requests"),
        PD_OPT_ROW("listen", PD_OPT_STR, &a.so.listen, "HOST:PORT",
                   "where; port 0 = any free one, unix:PATH = a socket for this user alone"),
        PD_OPT_ROW("api-key", PD_OPT_STR, &a.so.api_key, "KEY",
                   "requests must carry it (better in $PODIUM_API_KEY: arguments are seen by all)"),
        PD_OPT_ROW("max-requests", PD_OPT_I64, &a.so.max_requests, "N",
                   "at once; those beyond get 503 and Retry-After", .min = 1, .max = 4096),
        PD_OPT_ROW("access-log", PD_OPT_FLAG, &a.so.access_log, NULL,
                   "a line on stderr for every request"),
        PD_OPT_END,
    };
    a.options = options;
    enum pd_rc rc = pd_verb_parse(&verb, options, argc, argv, 0, 0, &help, &err);
    int code = 0;
    if (help) {
        code = pd_cmd_help(self, usage, text, options, examples);
        goto out;
    }
    if (rc == PD_OK)
        rc = check_args(&a, &err);
    if (rc == PD_OK)
        rc = pd_generate_run(&a, verb.args, &err);
    if (rc != PD_OK)
        code = pd_cmd_fail(self, &err);
out:
    pd_verb_release(&verb);
    pd_grid_release(&a.grid);
    pd_opt_list_release(&a.models);
    pd_opt_list_release(&a.names);
    pd_opt_list_release(&a.stops);
    pd_opt_list_release(&a.bad_words);
    pd_words_release(&a.words);
    return code;
}
