/* Chat templates: any text is refused or compiled; what is compiled renders within its bounds, the
 * same twice, to valid UTF-8. Behind a NUL: JSON messages in place of those below. */
#include "base/json.h"
#include "lm/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void collect(void *ctx, struct pd_str text, bool trusted)
{
    (void)trusted;
    pd_buf_addstr(ctx, text);
}

static enum pd_rc render(const struct pd_jinja *j, struct json_object *messages, struct pd_buf *out)
{
    struct json_object *yes = json_object_new_boolean(true), *s = json_object_new_string("<s>");
    const struct pd_jinja_var vars[] = {{"messages", messages, false},
                                        {"add_generation_prompt", yes, true},
                                        {"bos_token", s, true},
                                        {"eos_token", s, true},
                                        {"tools", NULL, false}};
    struct pd_err err;
    pd_buf_init(out, 0);
    enum pd_rc rc = pd_jinja_render(j, vars, sizeof vars / sizeof *vars, collect, out, &err);
    json_object_put(yes);
    json_object_put(s);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char two[] = "[{\"role\":\"user\",\"content\":\" h\xc3\xa9 <think>\"},"
                              "{\"role\":\"assistant\",\"content\":\"a\\nb</think>\"}]";
    struct pd_jinja *j = NULL;
    struct json_object *messages = NULL;
    struct pd_buf a, b;
    struct pd_err err;
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    if (pd_jinja_compile(&j, (struct pd_str){(const char *)data, n}, &err) != PD_OK)
        return 0;
    struct pd_str json =
        nul ? (struct pd_str){(const char *)nul + 1, size - n - 1} : pd_str_from(two);
    if (pd_json_parse(json, &messages, NULL) == PD_OK) {
        enum pd_rc first = render(j, messages, &a), second = render(j, messages, &b);
        if (first != second || !pd_str_eq(pd_buf_str(&a), pd_buf_str(&b)))
            pd_bug("a template renders in two ways");
        if (pd_utf8_valid_prefix(pd_buf_str(&a)) != a.len)
            pd_bug("a rendered chat is not UTF-8");
        pd_buf_release(&a);
        pd_buf_release(&b);
    }
    json_object_put(messages);
    pd_jinja_free(j);
    return 0;
}
