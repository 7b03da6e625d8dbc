/* podium model info|pull|init|convert|merge. */
#include "base/fs.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "lm/model_info.h"
#include "lm/pull.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* One of the verb's own verbs: argv after its name. */
struct sub {
    const char *name, *summary;
    enum pd_rc (*run)(const struct pd_cmd *self, int argc, char **argv, struct pd_err *err);
};

static enum pd_rc print(struct pd_buf *b, struct pd_err *err)
{
    if (b->failed || fwrite(b->ptr, 1, b->len, stdout) != b->len || fflush(stdout) != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot write to stdout");
    return PD_OK;
}

/* ---- info ---- */

static enum pd_rc model_info(const struct pd_cmd *self, int argc, char **argv, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool json = false, check = false, help = false;
    struct pd_opt_list args = {0};
    struct pd_model *m = NULL;
    struct pd_model_options options = {.purpose = PD_MODEL_INFERENCE, .as_in_file = true};
    struct pd_buf out;
    struct pd_opt table[] = {
        {.name = "json", .type = PD_OPT_FLAG, .value = &json, .help = "one JSON object"},
        {.name = "check",
         .type = PD_OPT_FLAG,
         .value = &check,
         .help = "read every weight; one that is NaN or infinite is an error that names it"},
        {0},
    };
    pd_buf_init(&out, 0);
    PD_TRY(pd_opt_parse(table, argc, argv, 1, 1, &args, &help, err));
    if (help) {
        pd_cmd_help(
            self, "podium model info M [--json] [--check]",
            "Shape, parameters, files, tokenizer and chat template of a model, and the memory\n"
            "it takes. M is a Hugging Face folder, a .gguf file or a run folder.",
            table, NULL);
        goto out;
    }
    PD_TRY(pd_model_open(&m, args.items[0], &options, err));
    if (check)
        PD_TRY(pd_model_check_finite(m, err));
    if (json) {
        pd_model_info_json(m, &out);
        pd_buf_addc(&out, '\n');
    } else {
        pd_model_info_text(m, &out);
    }
    PD_TRY(print(&out, err));
out:
    pd_model_free(m);
    pd_buf_release(&out);
    pd_opt_list_release(&args);
    return rc;
}

/* ---- pull ---- */

static void pull_help(const struct pd_cmd *self, const struct pd_opt *table)
{
    struct pd_buf text;
    const char *name, *what = NULL;
    pd_buf_init(&text, 0);
    pd_buf_adds(
        &text, "Fetches a known model and prints its path. It is kept in $PODIUM_MODELS, else in\n"
               "$XDG_CACHE_HOME/podium/models or ~/.cache/podium/models; what is there and has\n"
               "the pinned SHA-256 is not fetched again. hf://owner/name[@revision] comes from a\n"
               "Hugging Face compatible hub ($HF_ENDPOINT; $HF_TOKEN for what is not public):\n"
               "configuration, tokenizer and weights, or with /FILE.gguf after it one file. Sizes\n"
               "and checksums are held against what the hub lists; what was cut off goes on where\n"
               "it stopped. The names below need python3 with pip:\n");
    for (size_t i = 0; (name = pd_pull_name(i, &what)); i++)
        pd_buf_addf(&text, "\n  %s    %s", name, what);
    pd_cmd_help(self, "podium model pull NAME|hf://owner/name [--out PATH]", pd_buf_cstr(&text),
                table,
                "  podium generate --model \"$(podium model pull smollm2-135m-instruct)\" ...\n"
                "  podium model pull hf://HuggingFaceTB/SmolLM2-135M-Instruct");
    pd_buf_release(&text);
}

static enum pd_rc model_pull(const struct pd_cmd *self, int argc, char **argv, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *to = NULL;
    char *path = NULL;
    bool help = false;
    struct pd_opt_list args = {0};
    struct pd_buf line;
    struct pd_opt table[] = {
        {.name = "out",
         .type = PD_OPT_STR,
         .value = &to,
         .metavar = "PATH",
         .help = "put it here instead of among the cached models"},
        {0},
    };
    pd_buf_init(&line, 0);
    PD_TRY(pd_opt_parse(table, argc, argv, 1, 1, &args, &help, err));
    if (help) {
        pull_help(self, table);
        goto out;
    }
    PD_TRY(pd_pull(args.items[0], to, &path, err));
    pd_buf_addf(&line, "%s\n", path);
    PD_TRY(print(&line, err));
out:
    pd_free(path);
    pd_buf_release(&line);
    pd_opt_list_release(&args);
    return rc;
}

/* ---- init and convert ---- */

#define DTYPES "fp32|bf16|f16"

static enum pd_dtype dtype_of(const char *name)
{
    static const struct {
        const char *name;
        enum pd_dtype dtype;
    } all[] = {{"bf16", PD_DTYPE_BF16},
               {"f16", PD_DTYPE_F16},
               {"q8_0", PD_DTYPE_Q8_0},
               {"q4_0", PD_DTYPE_Q4_0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(name, all[i].name) == 0)
            return all[i].dtype;
    return PD_DTYPE_F32;
}

static enum pd_rc check_out(const char *out, struct pd_err *err)
{
    return strcmp(out, "-") != 0 ? PD_OK
                                 : PD_FAIL(err, PD_USAGE,
                                           "--out -: a model is not written to standard output; "
                                           "name a folder or a file");
}

static enum pd_rc model_init(const struct pd_cmd *self, int argc, char **argv, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *like = NULL, *out = NULL, *tokenizer = NULL, *head = "lm", *dtype = "fp32";
    char *config = NULL;
    int64_t seed = 0;
    bool help = false;
    struct pd_opt_list args = {0};
    struct pd_tokenizer *tok = NULL;
    struct pd_model *m = NULL;
    struct pd_opt table[] = {
        {.name = "like",
         .type = PD_OPT_STR,
         .value = &like,
         .metavar = "CONFIG",
         .help = "a config.json, or a folder that holds one",
         .flags = PD_OPT_REQUIRED},
        {.name = "out",
         .type = PD_OPT_STR,
         .value = &out,
         .metavar = "DIR",
         .help = "the folder to write",
         .flags = PD_OPT_REQUIRED},
        {.name = "tokenizer",
         .type = PD_OPT_STR,
         .value = &tokenizer,
         .metavar = "M",
         .help = "copy the tokenizer of this model into it"},
        {.name = "head",
         .type = PD_OPT_CHOICE,
         .value = &head,
         .choices = "lm|score",
         .help = "a language model, or a reward model with a score head"},
        {.name = "dtype",
         .type = PD_OPT_CHOICE,
         .value = &dtype,
         .choices = DTYPES,
         .help = "number format of the weights"},
        {.name = "seed",
         .type = PD_OPT_I64,
         .value = &seed,
         .metavar = "N",
         .help = "of the random weights"},
        {0},
    };
    PD_TRY(pd_opt_parse(table, argc, argv, 0, 0, &args, &help, err));
    if (help) {
        pd_cmd_help(
            self, "podium model init --like CONFIG --out DIR [--tokenizer M] [--seed N]",
            "Random weights at the shape of a config.json, as a Hugging Face folder: matrices\n"
            "normal(0, initializer_range), norms one, biases zero. For tests and benchmarks.",
            table, "  podium model init --like tiny/config.json --tokenizer M --out tiny-model");
        goto out;
    }
    PD_TRY(check_out(out, err));
    config = pd_fs_is_dir(like) ? pd_xasprintf("%s/config.json", like) : pd_xstrdup(like);
    if (tokenizer)
        PD_TRY(pd_model_open_tokenizer(&tok, tokenizer, err));
    PD_TRY(pd_model_init_like(&m, config, strcmp(head, "score") == 0 ? PD_HEAD_SCORE : PD_HEAD_LM,
                              (uint64_t)seed, tok, err));
    tok = NULL; /* the model's now */
    PD_TRY(pd_model_save_hf_sharded(m, out, dtype_of(dtype), PD_MODEL_SHARD_BYTES, err));
out:
    pd_model_free(m);
    pd_tokenizer_free(tok);
    pd_free(config);
    pd_opt_list_release(&args);
    return rc;
}

/* What convert and merge write, and how. */
struct save {
    const char *out, *dtype;
    int64_t shard_mb;
};

#define SAVE_ROWS(s)                                                                               \
    PD_OPT_ROW("out", PD_OPT_STR, &(s).out, "OUT",                                                 \
               "the Hugging Face folder or, ending in .gguf, the file to write",                   \
               .flags = PD_OPT_REQUIRED),                                                          \
        PD_OPT_ROW("dtype", PD_OPT_CHOICE, &(s).dtype, NULL,                                       \
                   "number format of the weights; the last two in .gguf files only",               \
                   .choices = DTYPES "|q8_0|q4_0"),                                                \
        PD_OPT_ROW("max-shard-size", PD_OPT_I64, &(s).shard_mb, "MB",                              \
                   "of a folder's model files, in millions of bytes; 0 = 5000", .min = 0,          \
                   .max = 1000000)

static bool is_gguf(const char *out)
{
    size_t n = strlen(out);
    return n >= 5 && strcasecmp(out + n - 5, ".gguf") == 0;
}

static enum pd_rc save_as(const struct pd_model *m, const struct save *s, struct pd_err *err)
{
    enum pd_dtype t = dtype_of(s->dtype);
    if (is_gguf(s->out))
        return pd_model_save_gguf(m, s->out, t, err);
    if (pd_dtype_info(t)->block > 1)
        return PD_FAIL(err, PD_USAGE,
                       "--dtype %s is a format of GGUF files; name one with --out OUT.gguf",
                       s->dtype);
    return pd_model_save_hf_sharded(
        m, s->out, t, s->shard_mb ? (size_t)s->shard_mb * 1000000 : PD_MODEL_SHARD_BYTES, err);
}

static enum pd_rc open_and_save(const char *path, const char *adapter, const struct save *s,
                                struct pd_err *err)
{
    struct pd_model *m = NULL;
    struct pd_model_options options = {.purpose = PD_MODEL_INFERENCE, .adapter = adapter};
    enum pd_rc rc = check_out(s->out, err);
    if (rc == PD_OK)
        rc = pd_model_open(&m, path, &options, err);
    if (rc == PD_OK)
        rc = save_as(m, s, err);
    pd_model_free(m);
    return rc;
}

static enum pd_rc model_convert(const struct pd_cmd *self, int argc, char **argv,
                                struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct save save = {.dtype = "fp32"};
    bool help = false;
    struct pd_opt_list args = {0};
    struct pd_opt table[] = {SAVE_ROWS(save), PD_OPT_END};
    PD_TRY(pd_opt_parse(table, argc, argv, 1, 1, &args, &help, err));
    if (help)
        pd_cmd_help(
            self, "podium model convert M --out OUT [--dtype fp32|bf16|f16|q8_0|q4_0]",
            "Writes any model that Podium reads as a Hugging Face folder, which transformers\n"
            "opens as it is, or as a .gguf file, which llama.cpp opens; tokenizer and chat\n"
            "template included. Vectors of a .gguf file stay fp32; with q4_0 its embedding and\n"
            "output matrix are q8_0.",
            table,
            "  podium model convert SmolLM2.gguf --out smollm2-hf --dtype bf16\n"
            "  podium model convert runs/ppo --out policy.gguf --dtype q8_0");
    else
        rc = open_and_save(args.items[0], NULL, &save, err);
out:
    pd_opt_list_release(&args);
    return rc;
}

static enum pd_rc model_merge(const struct pd_cmd *self, int argc, char **argv, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *adapter = NULL;
    struct save save = {.dtype = "fp32"};
    bool help = false;
    struct pd_opt_list args = {0};
    struct pd_opt table[] = {
        {.name = "adapter",
         .type = PD_OPT_STR,
         .value = &adapter,
         .metavar = "DIR",
         .help = "the LoRA adapter: a folder as PEFT writes it",
         .flags = PD_OPT_REQUIRED},
        SAVE_ROWS(save),
        PD_OPT_END,
    };
    PD_TRY(pd_opt_parse(table, argc, argv, 1, 1, &args, &help, err));
    if (help)
        pd_cmd_help(
            self, "podium model merge M --adapter DIR --out OUT [--dtype fp32|bf16|f16|q8_0|q4_0]",
            "Adds a LoRA adapter to the weights of its base model M and writes the result, which\n"
            "needs neither of them. An adapter's folder is itself taken as a model by every\n"
            "verb (--model DIR) when the base that it names is there.",
            table, "  podium model merge smollm2/ --adapter runs/lora --out merged --dtype bf16");
    else
        rc = open_and_save(args.items[0], adapter, &save, err);
out:
    pd_opt_list_release(&args);
    return rc;
}

/* ---- the verb ---- */

static const struct sub subs[] = {
    {"info", "what a model is and what it needs", model_info},
    {"pull", "fetch a known model, print its path", model_pull},
    {"init", "random weights at the shape of a config.json", model_init},
    {"convert", "write a model as a Hugging Face folder or a .gguf file", model_convert},
    {"merge", "a LoRA adapter into its base model", model_merge},
};

static int print_subs(const struct pd_cmd *self)
{
    struct pd_buf text;
    pd_buf_init(&text, 0);
    for (size_t i = 0; i < sizeof subs / sizeof *subs; i++)
        pd_buf_addf(&text, "%s  %-9s %s", i ? "\n" : "", subs[i].name, subs[i].summary);
    pd_cmd_help(self, "podium model info|pull|init|convert|merge ...   (each has --help)",
                pd_buf_cstr(&text), NULL,
                "  podium model pull smollm2-135m-instruct\n"
                "  podium model info ~/.cache/podium/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    pd_buf_release(&text);
    return 0;
}

int pd_cmd_model(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_err err = {0};
    if (argc < 1 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_subs(self);
        return argc < 1 ? 2 : 0;
    }
    for (size_t i = 0; i < sizeof subs / sizeof *subs; i++)
        if (strcmp(argv[0], subs[i].name) == 0)
            return subs[i].run(self, argc - 1, argv + 1, &err) == PD_OK ? 0
                                                                        : pd_cmd_fail(self, &err);
    (void)PD_FAIL(&err, PD_USAGE, "no \"%s\" here; there are info, pull, init, convert and merge",
                  argv[0]);
    return pd_cmd_fail(self, &err);
}
