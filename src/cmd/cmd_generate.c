/* podium generate: answers to prompts, many at once. */
#include "cmd/cmd.h"
#include "base/json.h"
#include "base/mem.h"
#include "gen/answers.h"
#include "gen/endpoint.h"
#include "gen/serve.h"
#include "lm/heads.h"
#include "lm/model.h"
#include "tensor/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
    const char *model, *name, *prompts, *dtype, *chat;
    struct pd_answers_opts o;
    struct pd_opt_list stops, bad_words;
    struct pd_words words;
    const char *too_long;
    int64_t logprobs; /* -1: not asked for */
    int64_t seed, threads, memory;
    bool skip_bad, json, serve;
    bool endpoint;
    struct pd_serve_opts so;
    struct pd_endpoint ep;
    const char *key_env;
    const struct pd_opt *options;
};

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
    "Each answer has its own random stream (seed, prompt, answer). Interrupted (Ctrl-C,\n"
    "exit 3), the finished prompts stay in OUT.partial, and the same command with --resume\n"
    "goes on.\n\n"
    "With --serve the model answers OpenAI-compatible requests instead (/v1/chat/completions,\n"
    "/v1/completions, /v1/models), streamed or whole, many at once, until SIGTERM or Ctrl-C:\n"
    "docs/serving.md. Sampling is then the request's own; of the options above it takes\n"
    "--model-name, --dtype, --batch, --kv-memory, --threads and --max-new-tokens (for chats\n"
    "that do not say).";
static const char examples[] =
    "  podium generate --model $(podium model pull smollm2-135m-instruct) \\\n"
    "      --prompts prompts.jsonl --n 2 --temperature 0.9 --top-p 0.95 --out answers.jsonl\n"
    "  podium generate --model gpt2/ --prompts p.txt --n 2 --max-length 50 --seed 42 --out "
    "a.jsonl\n"
    "  podium generate --model runs/ppo --prompts p.csv --greedy --stop '###' --out -\n"
    "  podium generate --model https://api.example.com/v1 --model-name large --prompts p.jsonl \\\n"
    "      --out a.jsonl --parallel 16 --rate 300 --price-in 0.5 --price-out 1.5\n"
    "  podium generate --model runs/ppo --serve --listen 127.0.0.1:6901";

static bool given(const struct args *a, const char *name)
{
    for (const struct pd_opt *o = a->options; o->name || o->help; o++)
        if (o->name && strcmp(o->name, name) == 0)
            return o->was_set;
    pd_bug("no option %s", name);
}

/* What an endpoint is not asked for is refused here, not left out in silence. */
static enum pd_rc check_endpoint(struct args *a, struct pd_err *err)
{
    static const char *const not_there[] = {
        "serve",   "max-length", "min-new-tokens", "typical-p", "no-repeat-ngram-size",
        "special", "bad-words",  "too-long",       "logprobs"};
    struct pd_endpoint *e = &a->ep;
    const char *key = getenv(a->key_env);
    for (size_t i = 0; i < sizeof not_there / sizeof *not_there; i++)
        if (given(a, not_there[i]))
            return PD_FAIL(err, PD_USAGE, "--%s cannot be asked of an endpoint", not_there[i]);
    if (!a->name)
        return PD_FAIL(err, PD_USAGE,
                       "--model-name NAME is missing: what the endpoint calls the "
                       "model");
    if (given(a, "api-key-env") && !key)
        return PD_FAIL(err, PD_USAGE, "--api-key-env: there is no variable %s", a->key_env);
    if (!given(a, "top-k"))
        a->o.sampling.top_k = 0; /* not of OpenAI's API: sent only when asked for */
    e->url = a->model;
    e->model = a->name;
    e->api_key = key && key[0] ? key : NULL;
    e->send_seed = given(a, "seed");
    if (e->api_key && strncmp(e->url, "https:", 6) != 0)
        fprintf(stderr, "podium generate: the key goes to %s in the clear (http)\n", e->url);
    return pd_endpoint_check(e, err);
}

static enum pd_rc check_args(struct args *a, struct pd_err *err)
{
    a->endpoint = strncmp(a->model, "http://", 7) == 0 || strncmp(a->model, "https://", 8) == 0;
    if (a->endpoint) {
        enum pd_rc rc = check_endpoint(a, err);
        if (rc != PD_OK)
            return rc;
    }
    if (!a->serve && !a->prompts)
        return PD_FAIL(err, PD_USAGE, "--prompts FILE is missing (or --serve)");
    if (a->serve && a->prompts)
        return PD_FAIL(err, PD_USAGE, "--serve takes no --prompts");
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
    enum pd_rc rc = pd_sampling_check(&a->o.sampling, err);
    if (rc != PD_OK && err)
        err->rc = rc = PD_USAGE;
    if (rc == PD_OK)
        rc = pd_words_read(&a->words, a->bad_words.items, a->bad_words.n, err);
    return rc;
}

/* "runs/ppo/" -> "ppo": how the model is called in the answers unless --model-name says. */
static char *base_name(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return pd_xstrndup(path + start, end - start);
}

static void print_summary(const struct args *a, const struct pd_answers_summary *s,
                          const struct pd_prompts *prompts)
{
    double rate = s->seconds > 0 ? (double)s->new_tokens / s->seconds : 0;
    if (a->json) {
        struct pd_buf buf;
        struct pd_jw w;
        pd_buf_init(&buf, 0);
        pd_jw_init(&w, &buf);
        pd_jw_object(&w);
        pd_jw_ki64(&w, "prompts", s->prompts);
        pd_jw_ki64(&w, "answers", s->answers);
        pd_jw_ki64(&w, "bad_rows", (int64_t)prompts->n_bad);
        pd_jw_ki64(&w, "truncated", s->truncated);
        pd_jw_ki64(&w, "resumed", s->resumed);
        pd_jw_ki64(&w, "stopped", s->stopped);
        pd_jw_ki64(&w, "redrawn", s->redrawn);
        pd_jw_ki64(&w, "duplicates", s->duplicates);
        pd_jw_ki64(&w, "prompt_tokens", s->prompt_tokens);
        pd_jw_ki64(&w, "new_tokens", s->new_tokens);
        pd_jw_kf64(&w, "seconds", s->seconds);
        pd_jw_kf64(&w, "tokens_per_second", rate);
        if (a->endpoint) {
            pd_jw_ki64(&w, "retries", s->retries);
            pd_jw_ki64(&w, "failed", s->failed);
            pd_jw_kf64(&w, "cost", s->cost);
        } else {
            pd_jw_ki64(&w, "peak_kv_bytes", s->peak_kv_bytes);
        }
        pd_jw_object_end(&w);
        fprintf(strcmp(a->o.out, "-") == 0 ? stderr : stdout, "%s\n", pd_buf_cstr(&buf));
        pd_buf_release(&buf);
    } else if (!a->o.quiet) {
        fprintf(stderr, "%lld answers to %lld prompts: %lld tokens in %.1f s (%.0f tokens/s)\n",
                (long long)s->answers, (long long)s->prompts, (long long)s->new_tokens, s->seconds,
                rate);
    }
    if (a->endpoint && !a->o.quiet)
        fprintf(stderr, "%lld prompt tokens, %lld retries, cost %.6g\n",
                (long long)s->prompt_tokens, (long long)s->retries, s->cost);
    if (s->unknown)
        fprintf(stderr, "%lld answers came without a count of tokens: the cost is too low\n",
                (long long)s->unknown);
    if (prompts->n_bad)
        fprintf(stderr, "%s: %zu bad rows skipped\n", prompts->path, prompts->n_bad);
    if (s->truncated)
        fprintf(stderr, "%s: %lld prompts were too long and lost their beginning\n", prompts->path,
                (long long)s->truncated);
    if (s->duplicates)
        fprintf(stderr, "%lld answers repeat another one of their prompt%s\n",
                (long long)s->duplicates, a->o.sampling.greedy ? " (--greedy draws nothing)" : "");
}

static enum pd_rc serve(struct args *a, struct pd_decoder *dec, struct pd_err *err)
{
    const char *key = getenv("PODIUM_API_KEY");
    struct pd_serve_opts *so = &a->so;
    so->model_name = a->o.model_name;
    so->version = "podium-" PD_VERSION;
    so->quiet = a->o.quiet;
    so->engine = (struct pd_engine_opts){
        .batch = a->o.batch, .kv_bytes = a->o.kv_bytes, .threads = (int)a->threads};
    if (!so->api_key && key && key[0])
        so->api_key = key;
    return pd_serve_run(dec, so, err);
}

static enum pd_rc generate(struct args *a, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model *model = NULL;
    struct pd_decoder *dec = NULL;
    struct pd_prompts prompts = {.take_ids = !a->endpoint};
    struct pd_answers_summary summary;
    enum pd_compute compute;
    char *name = a->name ? pd_xstrdup(a->name) : base_name(a->model);
    a->o.model_name = name;
    PD_TRY(pd_compute_parse(a->dtype, &compute, err));
    PD_TRY(pd_backend_init((int)a->threads, err));
    if (a->prompts)
        PD_TRY(pd_prompts_read(&prompts, a->prompts, a->skip_bad, err));
    if (a->endpoint) {
        PD_TRY(pd_answers_collect(&a->ep, &prompts, &a->o, &summary, err));
        print_summary(a, &summary, &prompts);
        goto out;
    }
    PD_TRY(pd_model_open(&model, a->model,
                         &(struct pd_model_options){.purpose = PD_MODEL_INFERENCE}, err));
    PD_TRY(pd_head_need_lm(model, err));
    PD_TRY(pd_decoder_new(model, &(struct pd_decoder_opts){.compute = compute}, &dec, err));
    if (a->serve) {
        rc = serve(a, dec, err);
        goto out;
    }
    PD_TRY(pd_answers_make(dec, &prompts, &a->o, &summary, err));
    print_summary(a, &summary, &prompts);
out:
    pd_decoder_free(dec);
    pd_model_free(model);
    pd_prompts_release(&prompts);
    pd_backend_release();
    pd_free(name);
    return rc;
}

int pd_cmd_generate(const struct pd_cmd *self, int argc, char **argv)
{
    struct args a = {.dtype = "auto",
                     .chat = "auto",
                     .too_long = "error",
                     .logprobs = -1,
                     .o = {.out = "-", .n = 2, .resamples = 3},
                     .ep = {.parallel = 8, .retries = 5, .timeout_s = 120},
                     .key_env = "OPENAI_API_KEY",
                     .so = {.listen = "127.0.0.1:6901", .max_requests = 64}};
    struct pd_sampling *s = &a.o.sampling;
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    bool help = false;
    pd_sampling_default(s);
    struct pd_opt options[] = {
        PD_OPT_ROW("model", PD_OPT_STR, &a.model, "M", "who answers", .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("prompts", PD_OPT_STR, &a.prompts, "FILE",
                   ".jsonl, .txt, .csv or .tsv, gzip too; - = .jsonl on stdin"),
        PD_OPT_ROW("out", PD_OPT_STR, &a.o.out, "FILE", "answers.jsonl; - = stdout"),
        PD_OPT_ROW("n", PD_OPT_I64, &a.o.n, "N", "answers a prompt", .min = 1, .max = 10000),
        PD_OPT_ROW("model-name", PD_OPT_STR, &a.name, "NAME",
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
        PD_OPT_ROW("temperature", PD_OPT_F64, &s->temperature, "T",
                   "above 1 more varied, below 1 more certain"),
        PD_OPT_ROW("top-k", PD_OPT_I64, &s->top_k, "K", "of the K likeliest tokens; 0 = off",
                   .min = 0, .max = 1e9),
        PD_OPT_ROW("top-p", PD_OPT_F64, &s->top_p, "P",
                   "of the likeliest that make up the share P; 1 = off"),
        PD_OPT_ROW("min-p", PD_OPT_F64, &s->min_p, "P",
                   "none below P times the likeliest; 0 = off"),
        PD_OPT_ROW("typical-p", PD_OPT_F64, &s->typical_p, "P",
                   "of the most typical that make up the share P; 1 = off"),
        PD_OPT_ROW("repetition-penalty", PD_OPT_F64, &s->repetition_penalty, "X",
                   "against tokens of prompt and answer; 1 = off"),
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
        PD_OPT_ROW("dtype", PD_OPT_CHOICE, &a.dtype, "T", "precision of the matrix products",
                   .choices = "auto|bf16|fp32"),
        PD_OPT_ROW("batch", PD_OPT_I64, &a.o.batch, "N", "answers at once; 0 = 128", .min = 0,
                   .max = 4096),
        PD_OPT_ROW("kv-memory", PD_OPT_BYTES, &a.memory, "BYTES",
                   "for keys and values at most; 0 = a quarter of the machine's"),
        PD_OPT_ROW("threads", PD_OPT_I64, &a.threads, "N", "0 = all cores", .min = 0, .max = 4096),
        PD_OPT_ROW("resume", PD_OPT_FLAG, &a.o.resume, NULL,
                   "go on from OUT.partial, if it is there"),
        PD_OPT_ROW("skip-bad", PD_OPT_FLAG, &a.skip_bad, NULL,
                   "pass over bad rows instead of stopping"),
        PD_OPT_ROW("quiet", PD_OPT_FLAG, &a.o.quiet, NULL, "no progress line"),
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
                   "without a byte from the endpoint; ten times that for a whole answer", .min = 1,
                   .max = 86400),
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
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    int code = 0;
    if (help) {
        code = pd_cmd_help(self, usage, text, options, examples);
        goto out;
    }
    if (rc == PD_OK)
        rc = check_args(&a, &err);
    if (rc == PD_OK)
        rc = generate(&a, &err);
    if (rc != PD_OK)
        code = pd_cmd_fail(self, &err);
out:
    pd_opt_list_release(&args);
    pd_opt_list_release(&a.stops);
    pd_opt_list_release(&a.bad_words);
    pd_words_release(&a.words);
    return code;
}
