/* Which answers and settings are taken, what they become, and that a refusal says why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pref/question.h"

#define RANKING3                                                                                   \
    "{\"type\":\"ranking\",\"options\":[{\"value\":\"a\",\"text\":\"A\"},{\"value\":\"b\","        \
    "\"text\":\"B\"},{\"value\":\"c\",\"text\":\"C\"}]}"
#define PAIR                                                                                       \
    "{\"type\":\"ranking\",\"options\":[{\"value\":\"a\",\"text\":\"A\"},{\"value\":\"b\","        \
    "\"text\":\"B\"}],\"strength\":true,\"both_bad\":true}"
#define RATING "{\"type\":\"rating\",\"options\":[{\"value\":0},{\"value\":1},{\"value\":2}]}"
#define LABEL                                                                                      \
    "{\"type\":\"label_selection\",\"options\":[{\"value\":\"yes\",\"text\":\"Yes\"},{\"value\":"  \
    "\"no\",\"text\":\"No\"}]}"
#define MULTI                                                                                      \
    "{\"type\":\"multi_label_selection\",\"options\":[{\"value\":\"x\",\"text\":\"X\"},{"          \
    "\"value\":"                                                                                   \
    "\"y\",\"text\":\"Y\"}]}"
#define TEXT "{\"type\":\"text\",\"use_markdown\":false}"
#define SPAN                                                                                       \
    "{\"type\":\"span\",\"field\":\"t\",\"options\":[{\"value\":\"P\",\"text\":\"P\"}],"           \
    "\"allow_overlapping\":false}"

static const struct {
    const char *settings, *answer;
    enum pd_answer_status status;
    const char *canonical; /* NULL: refused */
    const char *reason;    /* part of the message */
} cases[] = {
    {TEXT, "{\"value\":\"so\"}", PD_ANSWER_SUBMITTED, "{\"q\":{\"value\":\"so\"}}", NULL},
    {TEXT, "{\"value\":3}", PD_ANSWER_SUBMITTED, NULL, "expected a string"},
    {TEXT, "\"so\"", PD_ANSWER_SUBMITTED, NULL, "{\"value\": ...}"},
    {RATING, "{\"value\":2}", PD_ANSWER_SUBMITTED, "{\"q\":{\"value\":2}}", NULL},
    {RATING, "{\"value\":0}", PD_ANSWER_SUBMITTED, "{\"q\":{\"value\":0}}", NULL},
    {RATING, "{\"value\":3}", PD_ANSWER_SUBMITTED, NULL, "none of its values"},
    {RATING, "{\"value\":1.0}", PD_ANSWER_SUBMITTED, NULL, "expected an integer"},
    {LABEL, "{\"value\":\"yes\"}", PD_ANSWER_SUBMITTED, "{\"q\":{\"value\":\"yes\"}}", NULL},
    {LABEL, "{\"value\":\"maybe\"}", PD_ANSWER_SUBMITTED, NULL, "none of its 2 options"},
    {MULTI, "{\"value\":[\"y\",\"x\"]}", PD_ANSWER_SUBMITTED, "{\"q\":{\"value\":[\"y\",\"x\"]}}",
     NULL},
    {MULTI, "{\"value\":[\"x\",\"x\"]}", PD_ANSWER_SUBMITTED, NULL, "twice"},
    {MULTI, "{\"value\":[]}", PD_ANSWER_SUBMITTED, NULL, "0 labels"},
    /* ranks in option order come out best first */
    {RANKING3,
     "{\"value\":[{\"value\":\"a\",\"rank\":3},{\"value\":\"b\",\"rank\":1},{\"value\":\"c\","
     "\"rank\":1}]}",
     PD_ANSWER_SUBMITTED,
     "{\"q\":{\"value\":[{\"value\":\"b\",\"rank\":1},{\"value\":\"c\",\"rank\":1},{\"value\":"
     "\"a\","
     "\"rank\":3}]}}",
     NULL},
    /* no ranks: the list is the order */
    {RANKING3, "{\"value\":[{\"value\":\"c\"},{\"value\":\"a\"},{\"value\":\"b\"}]}",
     PD_ANSWER_SUBMITTED,
     "{\"q\":{\"value\":[{\"value\":\"c\",\"rank\":1},{\"value\":\"a\",\"rank\":2},{\"value\":"
     "\"b\","
     "\"rank\":3}]}}",
     NULL},
    /* tiers */
    {RANKING3, "{\"value\":[[\"b\",\"c\"],[\"a\"]]}", PD_ANSWER_SUBMITTED,
     "{\"q\":{\"value\":[{\"value\":\"b\",\"rank\":1},{\"value\":\"c\",\"rank\":1},{\"value\":"
     "\"a\","
     "\"rank\":3}]}}",
     NULL},
    {RANKING3, "{\"value\":[{\"value\":\"a\",\"rank\":1}]}", PD_ANSWER_SUBMITTED, NULL,
     "1 of 3 options"},
    {RANKING3, "{\"value\":[{\"value\":\"a\",\"rank\":1}]}", PD_ANSWER_DRAFT,
     "{\"q\":{\"value\":[{\"value\":\"a\",\"rank\":1}]}}", NULL},
    {RANKING3, "{\"value\":[{\"value\":\"b\",\"rank\":null},{\"value\":\"a\",\"rank\":2}]}",
     PD_ANSWER_DRAFT,
     "{\"q\":{\"value\":[{\"value\":\"a\",\"rank\":2},{\"value\":\"b\",\"rank\":null}]}}", NULL},
    {RANKING3, "{\"value\":[[\"a\"],[\"a\"],[\"b\"]]}", PD_ANSWER_SUBMITTED, NULL, "twice"},
    {RANKING3,
     "{\"value\":[{\"value\":\"a\",\"rank\":4},{\"value\":\"b\",\"rank\":1},{\"value\":\"c\","
     "\"rank\":1}]}",
     PD_ANSWER_SUBMITTED, NULL, "expected 1 to 3"},
    {RANKING3, "{\"value\":[[\"a\"],[\"b\"],[\"d\"]]}", PD_ANSWER_SUBMITTED, NULL, "\"d\""},
    /* pairs with strength */
    {PAIR, "{\"value\":[[\"b\"],[\"a\"]],\"strength\":3}", PD_ANSWER_SUBMITTED,
     "{\"q\":{\"value\":[{\"value\":\"b\",\"rank\":1},{\"value\":\"a\",\"rank\":2}],\"strength\":3}"
     "}",
     NULL},
    {PAIR, "{\"value\":[[\"a\",\"b\"]],\"strength\":2,\"both_bad\":true}", PD_ANSWER_SUBMITTED,
     "{\"q\":{\"value\":[{\"value\":\"a\",\"rank\":1},{\"value\":\"b\",\"rank\":1}],\"strength\":0,"
     "\"both_bad\":true}}",
     NULL},
    {PAIR, "{\"value\":[[\"a\"],[\"b\"]],\"both_bad\":true}", PD_ANSWER_SUBMITTED, NULL,
     "both_bad goes with a tie"},
    {PAIR, "{\"value\":[[\"a\"],[\"b\"]],\"strength\":4}", PD_ANSWER_SUBMITTED, NULL,
     "expected 0 to 3"},
    {SPAN, "{\"value\":[{\"label\":\"P\",\"start\":0,\"end\":3}]}", PD_ANSWER_SUBMITTED,
     "{\"q\":{\"value\":[{\"label\":\"P\",\"start\":0,\"end\":3}]}}", NULL},
    {SPAN, "{\"value\":[{\"label\":\"P\",\"start\":0,\"end\":4}]}", PD_ANSWER_SUBMITTED, NULL,
     "in 3 characters"},
    {SPAN,
     "{\"value\":[{\"label\":\"P\",\"start\":0,\"end\":2},{\"label\":\"P\",\"start\":1,\"end\":3}]"
     "}",
     PD_ANSWER_SUBMITTED, NULL, "overlap"},
};

static void answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_arena a;
        struct pd_err err = {0};
        struct pd_question q;
        struct pd_part part = {
            .name = "q", .title = "q", .required = true, .settings = cases[i].settings};
        struct json_object *entry = NULL, *fields = NULL, *values = json_object_new_object();
        struct pd_buf out;
        pd_arena_init(&a);
        pd_buf_init(&out, 0);
        assert_int_equal(pd_question_parse(&a, &part, &q, &err), PD_OK);
        assert_int_equal(pd_json_parse(pd_str_from(cases[i].answer), &entry, &err), PD_OK);
        assert_int_equal(pd_json_parse(PD_STR("{\"t\":\"a\\u00e9b\"}"), &fields, &err), PD_OK);
        json_object_object_add(values, "q", entry);
        enum pd_rc rc = pd_answer_check(&q, 1, cases[i].status, values, fields, &out, &err);
        if (cases[i].canonical) {
            if (rc != PD_OK)
                fail_msg("case %zu %s: %s", i, cases[i].answer, err.msg);
            assert_string_equal(pd_buf_cstr(&out), cases[i].canonical);
        } else {
            assert_int_equal(rc, PD_INVALID);
            if (!strstr(err.msg, cases[i].reason))
                fail_msg("case %zu: '%s' does not say '%s'", i, err.msg, cases[i].reason);
        }
        json_object_put(values);
        json_object_put(fields);
        pd_buf_release(&out);
        pd_arena_release(&a);
    }
}

static void required_and_unknown_questions(void **state)
{
    struct pd_arena a;
    struct pd_question q;
    struct pd_err err = {0};
    struct pd_part part = {.name = "q", .title = "q", .required = true, .settings = TEXT};
    struct pd_buf out;
    struct json_object *other = NULL;
    (void)state;
    pd_arena_init(&a);
    pd_buf_init(&out, 0);
    assert_int_equal(pd_question_parse(&a, &part, &q, &err), PD_OK);
    assert_int_equal(pd_answer_check(&q, 1, PD_ANSWER_SUBMITTED, NULL, NULL, &out, &err),
                     PD_INVALID);
    assert_non_null(strstr(err.msg, "required"));
    pd_buf_clear(&out);
    assert_int_equal(pd_answer_check(&q, 1, PD_ANSWER_DISCARDED, NULL, NULL, &out, &err), PD_OK);
    assert_string_equal(pd_buf_cstr(&out), "{}");
    assert_int_equal(pd_json_parse(PD_STR("{\"r\":{\"value\":\"x\"}}"), &other, &err), PD_OK);
    assert_int_equal(pd_answer_check(&q, 1, PD_ANSWER_DRAFT, other, NULL, &out, &err), PD_INVALID);
    assert_non_null(strstr(err.msg, "no question 'r'"));
    json_object_put(other);
    pd_buf_release(&out);
    pd_arena_release(&a);
}

static void settings(void **state)
{
    static const struct {
        enum pd_part_kind kind;
        const char *settings, *reason; /* NULL: fine */
    } list[] = {
        {PD_PART_QUESTION, RANKING3, NULL},
        {PD_PART_QUESTION, SPAN, NULL},
        {PD_PART_QUESTION, "{\"type\":\"rating\",\"options\":[{\"value\":1}]}", "1 options"},
        {PD_PART_QUESTION, "{\"type\":\"rating\",\"options\":[{\"value\":1},{\"value\":1}]}",
         "twice"},
        {PD_PART_QUESTION, "{\"type\":\"rating\",\"options\":[{\"value\":1},{\"value\":11}]}",
         "0 to 10"},
        {PD_PART_QUESTION, "{\"type\":\"slider\"}", "none of text"},
        {PD_PART_QUESTION, "[]", "expected an object"},
        {PD_PART_FIELD, TEXT, NULL},
        {PD_PART_FIELD, "{\"type\":\"chat\",\"use_markdown\":true}", NULL},
        {PD_PART_FIELD, "{\"type\":\"video\"}", "none of text, chat"},
        {PD_PART_METADATA, "{\"type\":\"terms\",\"values\":null}", NULL},
        {PD_PART_METADATA, "{\"type\":\"integer\",\"min\":3,\"max\":2}", "below max"},
        {PD_PART_VECTOR, "{\"dimensions\":3}", NULL},
        {PD_PART_VECTOR, "{\"dimensions\":0}", "at least 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct json_object *s = NULL;
        struct pd_err err = {0};
        assert_int_equal(pd_json_parse(pd_str_from(list[i].settings), &s, &err), PD_OK);
        enum pd_rc rc = pd_part_check(list[i].kind, PD_STR("p"), s, &err);
        assert_int_equal(rc, list[i].reason ? PD_INVALID : PD_OK);
        if (list[i].reason && !strstr(err.msg, list[i].reason))
            fail_msg("settings %zu: '%s' does not say '%s'", i, err.msg, list[i].reason);
        json_object_put(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(required_and_unknown_questions),
        cmocka_unit_test(settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
