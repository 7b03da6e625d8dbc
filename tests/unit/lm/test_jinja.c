/* Chat templates: text equal to jinja2's goldens, marks that survive, bounds that hold. */
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/jinja.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void collect(void *ctx, struct pd_str text, bool trusted)
{
    (void)trusted;
    pd_buf_addstr(ctx, text);
}

/* Untrusted runs in brackets. */
static void collect_marked(void *ctx, struct pd_str text, bool trusted)
{
    pd_buf_adds(ctx, trusted ? "" : "[");
    pd_buf_addstr(ctx, text);
    pd_buf_adds(ctx, trusted ? "" : "]");
}

static enum pd_rc render(struct pd_str source, struct json_object *vars,
                         void (*emit)(void *, struct pd_str, bool), struct pd_buf *out,
                         struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_jinja *j = NULL;
    struct pd_jinja_var v[40];
    struct json_object *bos = json_object_new_string("<s>"), *eos = json_object_new_string("</s>");
    size_t n = 2;
    v[0] = (struct pd_jinja_var){"bos_token", bos, true};
    v[1] = (struct pd_jinja_var){"eos_token", eos, true};
    json_object_object_foreach(vars, key, value)
    {
        assert_true(n < 40);
        v[n++] = (struct pd_jinja_var){key, value, false};
    }
    PD_TRY(pd_jinja_compile(&j, source, err));
    PD_TRY(pd_jinja_render(j, v, n, emit, out, err));
out:
    pd_jinja_free(j);
    json_object_put(bos);
    json_object_put(eos);
    return rc;
}

static void expect(struct pd_str source, struct json_object *vars, const struct pd_str *want,
                   const char *where, size_t line)
{
    struct pd_buf out;
    struct pd_err err = {0};
    pd_buf_init(&out, 0);
    enum pd_rc rc = render(source, vars, collect, &out, &err);
    if (want && rc != PD_OK)
        fail_msg("%s:%zu: %s", where, line, err.msg);
    if (want && !pd_str_eq(pd_buf_str(&out), *want))
        fail_msg("%s:%zu:\nwant \"%.*s\"\ngot  \"%.*s\"", where, line, PD_STR_ARG(*want),
                 PD_STR_ARG(pd_buf_str(&out)));
    if (!want && rc == PD_OK)
        fail_msg("%s:%zu: jinja2 refuses this: %.*s", where, line, PD_STR_ARG(source));
    if (!want && !strstr(err.msg, "line "))
        fail_msg("no line in \"%s\"", err.msg);
    pd_buf_release(&out);
}

static struct json_object *next_row(struct pd_lines *lines)
{
    struct json_object *row = NULL;
    struct pd_str line;
    bool more = false;
    assert_int_equal(pd_lines_next(lines, &line, &more, NULL), PD_OK);
    if (more)
        assert_int_equal(pd_json_parse(line, &row, NULL), PD_OK);
    return row;
}

static void equals_jinja2_in_small_things(void **state)
{
    struct pd_lines *lines = NULL;
    assert_int_equal(pd_lines_open(&lines, PD_FIXTURES "/chat/expressions.jsonl", 1 << 20, NULL),
                     PD_OK);
    struct json_object *first = next_row(lines), *vars = pd_json_get(first, "vars"), *row;
    size_t n = 0;
    for (; (row = next_row(lines)); n++) {
        struct pd_str want = pd_json_str(row, "text");
        expect(pd_json_str(row, "template"), vars, want.ptr ? &want : NULL, "expressions.jsonl",
               pd_lines_number(lines));
        json_object_put(row);
    }
    assert_true(n > 60);
    json_object_put(first);
    pd_lines_close(lines);
}

static void equals_jinja2_in_the_families_shapes(void **state)
{
    static const char *const names[] = {"chatml", "llama2", "llama3", "mistral",
                                        "qwen",   "zephyr", "falcon"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct pd_buf source;
        struct pd_lines *lines = NULL;
        struct json_object *row;
        char *jinja = pd_xasprintf("%s/chat/%s.jinja", PD_FIXTURES, names[i]);
        char *rows = pd_xasprintf("%s/chat/%s.jsonl", PD_FIXTURES, names[i]);
        pd_buf_init(&source, 0);
        assert_int_equal(pd_fs_read(jinja, 1 << 20, &source, NULL), PD_OK);
        assert_int_equal(pd_lines_open(&lines, rows, 1 << 20, NULL), PD_OK);
        while ((row = next_row(lines))) {
            struct pd_str want = pd_json_str(row, "text");
            struct json_object *vars = json_object_new_object();
            json_object_object_add(vars, "messages", json_object_get(pd_json_get(row, "messages")));
            json_object_object_add(vars, "add_generation_prompt",
                                   json_object_get(pd_json_get(row, "open")));
            json_object_object_add(vars, "tools", NULL);
            expect(pd_buf_str(&source), vars, want.ptr ? &want : NULL, names[i],
                   pd_lines_number(lines));
            json_object_put(vars);
            json_object_put(row);
        }
        pd_lines_close(lines);
        pd_buf_release(&source);
        pd_free(jinja);
        pd_free(rows);
    }
}

static void marks_survive(void **state)
{
    static const struct {
        const char *source, *want;
    } cases[] = {
        {"a{{ u }}b", "a[ <x>Y ]b"},
        {"{{ '(' + u + ')' }}", "([ <x>Y ])"},
        {"{{ ('(' ~ u ~ ')')[1:4] }}", "[ <x]"},
        {"{{ ('(' + u + ')')[::-1] }}", ")[ Y>x< ]("},
        {"{{ u | trim | upper }}", "[<X>Y]"},
        {"{{ ('a' + u).replace('a', '<s>').replace('Y', 'Z') }}", "<s>[ <x>]Z[ ]"},
        {"{{ u.split('>') | join('|') }}", "[ <x]|[Y ]"},
        {"{{ [u, 'k'] | tojson }}", "[\"[ <x>Y ]\", \"k\"]"},
        {"{{ {u: 1} }}", "{'[ <x>Y ]': 1}"},
        {"{% set x %}<{{ u }}>{% endset %}{{ x }}", "<[ <x>Y ]>"},
        {"{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(u) }}", "<[ <x>Y ]>"},
        {"{% for k, v in d.items() %}{{ k }}:{{ v }}{% endfor %}", "[<k>]:[<v>]"},
        {"{{ 'yes' if '<x>' in u else 'no' }}{{ u | length }}", "yes6"},
        {"{{ bos_token }}{{ u[0] * 2 }}{{ '%s' ~ u | first }}", "<s>[  ]%s[ ]"},
    };
    struct json_object *vars = NULL;
    assert_int_equal(
        pd_json_parse(PD_STR("{\"u\":\" <x>Y \",\"d\":{\"<k>\":\"<v>\"}}"), &vars, NULL), PD_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_buf out;
        struct pd_err err = {0};
        pd_buf_init(&out, 0);
        if (render(pd_str_from(cases[i].source), vars, collect_marked, &out, &err) != PD_OK)
            fail_msg("%s: %s", cases[i].source, err.msg);
        assert_string_equal(pd_buf_cstr(&out), cases[i].want);
        pd_buf_release(&out);
    }
    json_object_put(vars);
}

static void expect_refused(const char *source, enum pd_rc want, const char *piece)
{
    struct json_object *vars = json_object_new_object();
    struct pd_buf out;
    struct pd_err err = {0};
    pd_buf_init(&out, 0);
    assert_int_equal(render(pd_str_from(source), vars, collect, &out, &err), want);
    if (!strstr(err.msg, piece))
        fail_msg("\"%s\" is not in \"%s\"", piece, err.msg);
    assert_int_equal(out.len, 0);
    pd_buf_release(&out);
    json_object_put(vars);
}

static void rendering_is_bounded(void **state)
{
    struct pd_buf deep;
    expect_refused("{% for a in range(99999999) %}{% endfor %}", PD_TOOBIG, "the template");
    expect_refused("{% set x = 'x' * 1000 %}{% for i in range(99) %}{% set ns = namespace(s=x) "
                   "%}{% for j in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{% endfor %}",
                   PD_TOOBIG, "MB");
    expect_refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", PD_TOOBIG, "deeply");
    pd_buf_init(&deep, 0);
    pd_buf_adds(&deep, "{{ ");
    for (int i = 0; i < 5000; i++)
        pd_buf_addc(&deep, '(');
    pd_buf_adds(&deep, "1 }}");
    expect_refused(pd_buf_cstr(&deep), PD_UNSUPPORTED, "nested too deeply");
    pd_buf_release(&deep);
}

/* What one step could make run for hours: each is refused within the steps of one rendering. */
static void long_walks_count(void **state)
{
    static const char *const walks[] = {
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(90) %}{% set ns.a = [ns.a, ns.a] "
        "%}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
        "{% set ns = namespace(a={'k': 1}, b={'k': 1}) %}{% for i in range(90) %}{% set ns.a = "
        "{'k': ns.a, 'l': ns.a} %}{% set ns.b = {'k': ns.b, 'l': ns.b} %}{% endfor %}"
        "{{ ns.a in [ns.b] }}",
        "{{ ('a' * 4000000).rfind('b' ~ 'a' * 2000000) }}",
        "{{ ('a' * 4000000).strip('b' * 2000000 ~ 'a') }}",
        "{% set a = 'a' * 1000000 %}{% set b = 'a' * 1000000 %}{% for i in range(100000) %}"
        "{% if a != b %}{% endif %}{% endfor %}",
        "{% set a = 'a' * 1000000 %}{% for i in range(100000) %}{% if 'b' in a %}{% endif %}"
        "{% endfor %}",
        "{% set a = 'a' * 1000000 %}{% set b = 'a' * 1000000 %}{% for i in range(100000) %}"
        "{% if a.startswith((b, b)) %}{% endif %}{% endfor %}",
        "{% set a = ' ' * 1000000 %}{% for i in range(100000) %}{% if a.isspace() or a | int %}"
        "{% endif %}{% endfor %}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof walks / sizeof *walks; i++)
        expect_refused(walks[i], PD_TOOBIG, "the template runs on");
    struct pd_buf names;
    pd_buf_init(&names, 0);
    for (int i = 0; i < 5000; i++)
        pd_buf_addf(&names, "{%% set n%d = 1 %%}", i);
    pd_buf_adds(&names, "{% for i in range(300000) %}{% if missing %}{% endif %}{% endfor %}");
    expect_refused(pd_buf_cstr(&names), PD_TOOBIG, "the template runs on");
    pd_buf_release(&names);
}

static void whole_numbers_divide_to_the_edge(void **state)
{
    struct json_object *vars = json_object_new_object();
    const struct pd_str want = PD_STR("1 -1 0 -3074457345618258603");
    (void)state;
    expect(PD_STR("{% set least = -9223372036854775807 - 1 %}{{ least % 3 }} {{ 5 % -3 }} "
                  "{{ least % 2 }} {{ least // 3 }}"),
           vars, &want, "edge", 1);
    json_object_put(vars);
}

static void sorting_is_stable(void **state)
{
    struct json_object *vars = json_object_new_object();
    const struct pd_str want = PD_STR("2,3,5,1,4|3 B b|");
    (void)state;
    expect(PD_STR("{{ [{'k': 'b', 'n': 1}, {'k': 'A', 'n': 2}, {'k': 'a', 'n': 3}, {'k': 'B', "
                  "'n': 4}, {'k': 'a', 'n': 5}] | sort(attribute='k') | map(attribute='n') | "
                  "join(',') }}|{{ ['b', 'B', '3'] | sort(case_sensitive=true) | join(' ') }}|"
                  "{{ [] | sort | join }}"),
           vars, &want, "sort", 1);
    json_object_put(vars);
}

static void a_loop_is_one_deep(void **state)
{
    struct json_object *vars = json_object_new_object();
    const struct pd_str want = PD_STR("1 0;1 0;"); /* jinja2 counts recursion, not nesting */
    (void)state;
    expect(PD_STR("{% for a in [1] %}{{ loop.depth }} {{ loop.depth0 }};{% for b in [2] %}"
                  "{{ loop.depth }} {{ loop.depth0 }};{% endfor %}{% endfor %}"),
           vars, &want, "depth", 1);
    json_object_put(vars);
}

/* Tokens of a GGUF file may be any bytes, and a piece of a character reaches past its end. */
static void texts_are_utf8(void **state)
{
    struct pd_buf out;
    struct pd_err err = {0};
    struct json_object *vars = json_object_new_object();
    json_object_object_add(vars, "token", json_object_new_string_len("\xf0", 1));
    pd_buf_init(&out, 0);
    (void)state;
    assert_int_equal(render(PD_STR("{{ token | upper }}"), vars, collect, &out, &err), PD_INVALID);
    assert_non_null(strstr(err.msg, "not UTF-8"));
    pd_buf_release(&out);
    json_object_put(vars);
}

static void what_is_lacking_is_named(void **state)
{
    expect_refused("a\n{% include 'x' %}", PD_UNSUPPORTED, "line 2: a tag that is not read here");
    expect_refused("{{ 1 | pprint }}", PD_UNSUPPORTED, "pprint");
    expect_refused("{{ 'a'.zfill(3) }}", PD_UNSUPPORTED, "zfill() is not known here");
    expect_refused("{{ raise_exception('Roles ' ~ 'alternate') }}", PD_INVALID, "Roles alternate");
    expect_refused("\xff", PD_INVALID, "not UTF-8 at byte 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_jinja2_in_small_things),
        cmocka_unit_test(equals_jinja2_in_the_families_shapes),
        cmocka_unit_test(marks_survive),
        cmocka_unit_test(rendering_is_bounded),
        cmocka_unit_test(long_walks_count),
        cmocka_unit_test(sorting_is_stable),
        cmocka_unit_test(a_loop_is_one_deep),
        cmocka_unit_test(texts_are_utf8),
        cmocka_unit_test(whole_numbers_divide_to_the_edge),
        cmocka_unit_test(what_is_lacking_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
