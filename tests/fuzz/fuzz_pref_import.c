/* Rows of an import, in every shape, and answers of a client: nothing in them may break the reader.
 * The first byte picks the shape; a row that is understood also goes through the checks of fields
 * and answers. */
#include "base/arena.h"
#include "base/mem.h"
#include "pref/import_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char ranking[] = "{\"type\":\"ranking\",\"options\":[{\"value\":\"a\",\"text\":\"A\"},"
                              "{\"value\":\"b\",\"text\":\"B\"}]}";
static const char text[] = "{\"type\":\"text\",\"use_markdown\":true}";

static void check_item(const struct pd_target *t, const struct pd_item *it)
{
    struct pd_buf out;
    struct pd_err err;
    pd_buf_init(&out, (size_t)1 << 20);
    (void)!pd_fields_check(t->fields, t->n_fields, it->fields, &err);
    for (size_t i = 0; i < it->n_answers; i++)
        (void)!pd_answer_check(t->questions, t->n_questions, it->answers[i].status,
                               it->answers[i].values, it->fields, &out, &err);
    pd_buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_arena a;
    struct pd_err err;
    struct json_object *row = NULL;
    struct pd_part fields[] = {{.name = "prompt", .settings = text, .required = true},
                               {.name = "a", .settings = text, .required = true},
                               {.name = "b", .settings = text, .required = true}};
    struct pd_part part = {
        .name = "preference", .title = "", .settings = ranking, .required = true};
    struct pd_question q;
    if (size < 2 || pd_json_parse((struct pd_str){(const char *)data + 1, size - 1}, &row, &err))
        return 0;
    pd_arena_init(&a);
    if (json_object_is_type(row, json_type_object) &&
        pd_question_parse(&a, &part, &q, &err) == PD_OK) {
        struct pd_target t = {.allow_extra_metadata = true,
                              .fields = fields,
                              .n_fields = 3,
                              .questions = &q,
                              .n_questions = 1,
                              .answers = {"a", "b"},
                              .n_answers = 2,
                              .ranking = &q,
                              .prompt = "prompt",
                              .prompt_chat = data[0] & 0x80};
        struct pd_item *it = pd_xalloc(sizeof *it);
        const struct pd_shape *shape = &pd__shapes[(data[0] & 0x7f) % pd__n_shapes];
        (void)shape->fits(row);
        if (shape->read(&t, row, it, &err) == PD_OK)
            check_item(&t, it);
        pd__item_release(it);
        pd_free(it);
    }
    pd_arena_release(&a);
    json_object_put(row);
    return 0;
}
