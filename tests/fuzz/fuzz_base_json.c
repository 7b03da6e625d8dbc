/* JSON: whatever parses is written and parsed again to the same tree. */
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_object *v = NULL, *again = NULL;
    if (pd_json_parse((struct pd_str){(const char *)data, size}, &v, NULL) != PD_OK)
        return 0;
    struct pd_buf b;
    struct pd_jw w;
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_tree(&w, v);
    struct pd_err err;
    if (pd_json_parse(pd_buf_str(&b), &again, &err) != PD_OK)
        pd_bug("written JSON does not parse: %s", err.msg);
    if (!json_object_equal(v, again))
        pd_bug("JSON changed in a round trip");
    json_object_put(v);
    json_object_put(again);
    pd_buf_release(&b);
    return 0;
}
