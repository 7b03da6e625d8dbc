/* podium tokenize: text to ids and back, one line at a time. */
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/time.h"
#include "cmd/cmd.h"
#include "lm/chat.h"
#include "lm/model.h"

#include <time.h>

enum { MAX_LINE = 256 << 20 };

struct run {
    const struct pd_tokenizer *tok;
    struct pd_chat chat;
    unsigned flags;
    struct pd_ids ids;
    struct pd_buf text, out;
    struct {
        int64_t lines, bytes, tokens;
        double seconds, cpu_seconds;
    } stats;
};

static void write_ids(struct run *r)
{
    struct pd_jw w;
    pd_jw_init(&w, &r->out);
    pd_jw_array(&w);
    for (size_t i = 0; i < r->ids.len; i++)
        pd_jw_i64(&w, r->ids.ptr[i]);
    pd_jw_array_end(&w);
}

/* The answer's turn is opened unless the last message is one. */
static enum pd_rc chat_line(struct run *r, struct json_object *v, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_chat_msg *msgs = NULL;
    size_t n = 0;
    r->ids.len = 0;
    PD_TRY(pd_chat_msgs_from_json(v, &msgs, &n, err));
    bool open = n == 0 || !pd_str_eqz(msgs[n - 1].role, "assistant");
    PD_TRY(pd_chat_encode(&r->chat, r->tok, msgs, n, open, &r->ids, err));
    write_ids(r);
out:
    pd_free(msgs);
    return rc;
}

static enum pd_rc encode_line(struct run *r, struct json_object *v, struct pd_err *err)
{
    if (!json_object_is_type(v, json_type_string))
        return PD_FAIL(err, PD_INVALID, "%s; expected a JSON string", pd_json_type_name(v));
    r->ids.len = 0;
    enum pd_rc rc = pd_tokenizer_encode(r->tok, pd_json_value_str(v), r->flags, &r->ids, err);
    if (rc != PD_OK)
        return rc;
    write_ids(r);
    return PD_OK;
}

static double cpu_seconds(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Counts and times instead of writing ids. */
static enum pd_rc stats_line(struct run *r, struct json_object *v, struct pd_err *err)
{
    struct pd_str text = pd_json_value_str(v);
    if (!json_object_is_type(v, json_type_string))
        return PD_FAIL(err, PD_INVALID, "%s; expected a JSON string", pd_json_type_name(v));
    r->ids.len = 0;
    int64_t start = pd_time_mono_ns();
    double cpu = cpu_seconds();
    enum pd_rc rc = pd_tokenizer_encode(r->tok, text, r->flags, &r->ids, err);
    r->stats.seconds += (double)(pd_time_mono_ns() - start) / 1e9;
    r->stats.cpu_seconds += cpu_seconds() - cpu;
    r->stats.lines++;
    r->stats.bytes += (int64_t)text.len;
    r->stats.tokens += (int64_t)r->ids.len;
    return rc;
}

static void write_stats(struct run *r)
{
    struct pd_jw w;
    pd_buf_clear(&r->out);
    pd_jw_init(&w, &r->out);
    pd_jw_object(&w);
    pd_jw_ki64(&w, "lines", r->stats.lines);
    pd_jw_ki64(&w, "bytes", r->stats.bytes);
    pd_jw_ki64(&w, "tokens", r->stats.tokens);
    pd_jw_kf64(&w, "seconds", r->stats.seconds);
    pd_jw_kf64(&w, "cpu_seconds", r->stats.cpu_seconds);
    pd_jw_object_end(&w);
    printf("%s\n", pd_buf_cstr(&r->out));
}

static enum pd_rc decode_line(struct run *r, struct json_object *v, struct pd_err *err)
{
    struct pd_jw w;
    if (!json_object_is_type(v, json_type_array))
        return PD_FAIL(err, PD_INVALID, "%s; expected a list of ids", pd_json_type_name(v));
    r->ids.len = 0;
    for (size_t i = 0; i < json_object_array_length(v); i++) {
        struct json_object *id = json_object_array_get_idx(v, i);
        int64_t n = json_object_is_type(id, json_type_int) ? json_object_get_int64(id) : -1;
        if (n < 0 || n > INT32_MAX)
            return PD_FAIL(err, PD_INVALID, "entry %zu of the list is not an id", i);
        if (n >= pd_tokenizer_size(r->tok))
            return PD_FAIL(err, PD_INVALID, "entry %zu of the list is %lld; ids are below %d", i,
                           (long long)n, pd_tokenizer_size(r->tok));
        pd_ids_push(&r->ids, (int32_t)n);
    }
    pd_buf_clear(&r->text);
    enum pd_rc rc = pd_tokenizer_decode(r->tok, r->ids.ptr, r->ids.len, false, &r->text, err);
    if (rc != PD_OK)
        return rc;
    pd_jw_init(&w, &r->out);
    pd_jw_str(&w, pd_buf_str(&r->text));
    return PD_OK;
}

typedef enum pd_rc line_fn(struct run *r, struct json_object *v, struct pd_err *err);

static void write_error(struct run *r, const struct pd_err *err)
{
    struct pd_jw w;
    pd_jw_init(&w, &r->out);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "error", err->msg);
    pd_jw_object_end(&w);
}

static enum pd_rc run_lines(struct run *r, line_fn *one, bool skip_bad, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lines *lines = NULL;
    struct pd_str line;
    bool more = false;
    PD_TRY(pd_lines_open(&lines, "-", MAX_LINE, err));
    for (;;) {
        struct json_object *v = NULL;
        PD_TRY(pd_lines_next(lines, &line, &more, err));
        if (!more)
            break;
        if (pd_str_trim(line).len == 0)
            continue;
        pd_buf_clear(&r->out);
        rc = pd_json_parse(line, &v, err);
        if (rc == PD_OK)
            rc = one(r, v, err);
        json_object_put(v);
        if (rc != PD_OK && skip_bad) {
            write_error(r, err);
        } else if (rc != PD_OK) {
            (void)pd_err_prefix(err, "stdin:%zu", pd_lines_number(lines));
            goto out;
        }
        if (r->out.len == 0)
            continue; /* --stats */
        pd_buf_addc(&r->out, '\n');
        if (r->out.failed || fwrite(r->out.ptr, 1, r->out.len, stdout) != r->out.len) {
            rc = PD_FAIL_SYS(err, PD_IO, "cannot write to stdout");
            goto out;
        }
    }
    if (fflush(stdout) != 0)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot write to stdout");
out:
    pd_lines_close(lines);
    return rc;
}

int pd_cmd_tokenize(const struct pd_cmd *self, int argc, char **argv)
{
    enum pd_rc rc = PD_OK;
    const char *model = NULL;
    bool decode = false, special = false, add_special = false, chat = false, skip_bad = false;
    bool stats = false, help = false;
    struct pd_tokenizer *tok = NULL;
    struct pd_opt_list args = {0};
    struct pd_err err = {0};
    struct run r = {0};
    struct pd_opt table[] = {
        {.name = "model",
         .type = PD_OPT_STR,
         .value = &model,
         .metavar = "M",
         .help = "a Hugging Face folder, a .gguf file or a run folder",
         .flags = PD_OPT_REQUIRED},
        {.name = "decode",
         .type = PD_OPT_FLAG,
         .value = &decode,
         .help = "id lists to strings; special tokens are kept"},
        {.name = "special",
         .type = PD_OPT_FLAG,
         .value = &special,
         .help = "text that spells a special token is that token, not its letters"},
        {.name = "add-special",
         .type = PD_OPT_FLAG,
         .value = &add_special,
         .help = "add bos and eos as the tokenizer's post-processor says"},
        {.name = "chat",
         .type = PD_OPT_FLAG,
         .value = &chat,
         .help = "message lists to ids by the model's chat template"},
        {.name = "stats",
         .type = PD_OPT_FLAG,
         .value = &stats,
         .help = "in place of ids one line: lines, bytes, tokens, seconds (and processor time) of "
                 "encoding"},
        {.name = "skip-bad",
         .type = PD_OPT_FLAG,
         .value = &skip_bad,
         .help = "a line that cannot be read gives {\"error\"}, and the next one is read"},
        {0},
    };
    pd_buf_init(&r.text, 0);
    pd_buf_init(&r.out, 0);
    PD_TRY(pd_opt_parse(table, argc, argv, 0, 0, &args, &help, &err));
    if (help) {
        pd_cmd_help(
            self, "podium tokenize --model M [--decode | --chat] < LINES",
            "Reads one JSON string a line on stdin and writes its token ids as a JSON list, a\n"
            "line each, on stdout; with --decode the other way round. Ids and text are those\n"
            "of Hugging Face's tokenizers. Text that is not UTF-8 is refused with the offset.\n"
            "With --chat a line is a list of {\"role\", \"content\"}; the assistant's turn is "
            "opened\n"
            "unless the last message is its own, and what messages hold is never a control token.",
            table,
            "  echo '\"Hello, world\"' | podium tokenize --model M\n"
            "  echo '[19556, 28, 905]' | podium tokenize --model M --decode");
        goto out;
    }
    PD_TRY(pd_model_open_tokenizer(&tok, model, &err));
    r.tok = tok;
    r.flags = (special ? PD_TOK_PARSE_SPECIAL : 0u) | (add_special ? PD_TOK_ADD_SPECIAL : 0u);
    if (decode + chat + stats > 1) {
        rc = PD_FAIL(&err, PD_USAGE, "--decode, --chat and --stats exclude each other");
        goto out;
    }
    if (chat)
        PD_TRY(pd_chat_init(&r.chat, pd_tokenizer_chat_template(tok), tok, &err));
    PD_TRY(run_lines(&r,
                     decode  ? decode_line
                     : chat  ? chat_line
                     : stats ? stats_line
                             : encode_line,
                     skip_bad, &err));
    if (stats)
        write_stats(&r);
out:
    pd_chat_release(&r.chat);
    pd_tokenizer_free(tok);
    pd_ids_release(&r.ids);
    pd_buf_release(&r.text);
    pd_buf_release(&r.out);
    pd_opt_list_release(&args);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
