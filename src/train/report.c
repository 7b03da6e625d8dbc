#include "train/report.h"
#include "base/fs.h"
#include "base/mem.h"
#include "train/run.h"

#include <math.h>

/* One curve: values by step; NaN where a step has none. */
struct series {
    char *key;
    double *step, *value;
    size_t n, cap;
};
struct curves {
    struct series *v;
    size_t n;
};

static const char page_head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<style>\n"
    ":root{color-scheme:light dark;--ink:#1d2430;--soft:#667085;--line:#d9dee7;--paper:#fff;"
    "--curve:#2f6fde}\n"
    "@media (prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2c3442;"
    "--paper:#12161d;--curve:#6ea3ff}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);"
    "max-width:1100px;margin:2rem auto;padding:0 1rem}\n"
    "h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}"
    "p.sub{color:var(--soft);margin:.2rem 0 1rem}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:1rem}\n"
    "figure{margin:0;border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem}\n"
    "figcaption{display:flex;justify-content:space-between;font-size:.85rem}"
    "figcaption b{font-weight:600}figcaption span{color:var(--soft)}\n"
    "svg{width:100%;height:110px;display:block}svg text{font-size:9px;fill:var(--soft)}\n"
    "table{border-collapse:collapse;width:100%;font-size:.85rem}"
    "td,th{border-bottom:1px solid var(--line);padding:.3rem .5rem;text-align:left;"
    "vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere}\n"
    ".alarm{color:#b42318}\n</style>\n";

static void add_escaped(struct pd_buf *out, struct pd_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '<')
            pd_buf_adds(out, "&lt;");
        else if (c == '>')
            pd_buf_adds(out, "&gt;");
        else if (c == '&')
            pd_buf_adds(out, "&amp;");
        else if (c == '"')
            pd_buf_adds(out, "&quot;");
        else if (c != '\0')
            pd_buf_addc(out, c);
    }
}

/* A JSON value as people read it. */
static void add_value(struct pd_buf *out, struct json_object *v)
{
    if (!v)
        pd_buf_adds(out, "&ndash;");
    else if (json_object_is_type(v, json_type_string))
        add_escaped(out, pd_json_value_str(v));
    else if (json_object_is_type(v, json_type_double))
        pd_buf_addf(out, "%.6g", json_object_get_double(v));
    else
        add_escaped(out, pd_str_from(json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN)));
}

/* ---- reading ---- */

static void add_point(struct curves *c, const char *key, double step, double value)
{
    size_t i = 0;
    while (i < c->n && strcmp(c->v[i].key, key) != 0)
        i++;
    if (i == c->n) {
        c->v = pd_xrealloc(c->v, (c->n + 1) * sizeof *c->v);
        c->v[c->n++] = (struct series){.key = pd_xstrdup(key)};
    }
    struct series *s = &c->v[i];
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        s->step = pd_xrealloc(s->step, s->cap * sizeof *s->step);
        s->value = pd_xrealloc(s->value, s->cap * sizeof *s->value);
    }
    s->step[s->n] = step;
    s->value[s->n++] = value;
}

static void release_curves(struct curves *c)
{
    for (size_t i = 0; i < c->n; i++) {
        pd_free(c->v[i].key);
        pd_free(c->v[i].step);
        pd_free(c->v[i].value);
    }
    pd_free(c->v);
}

enum { MAX_ALARM_BYTES = 2000 }; /* a dozen lines: the rest says the same */

static void read_row(struct json_object *row, struct curves *curves, struct pd_buf *alarms)
{
    double step = pd_json_f64(row, "step", 0);
    json_object_object_foreach(row, key, v)
    {
        bool number =
            json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
        if (number && strcmp(key, "step") != 0 && strcmp(key, "epoch") != 0)
            add_point(curves, key, step, json_object_get_double(v));
    }
    struct pd_str alarm = pd_json_str(row, "alarm");
    if (alarm.ptr && alarms->len < MAX_ALARM_BYTES) {
        pd_buf_addf(alarms, "<p class=\"alarm\">step %.0f: ", step);
        add_escaped(alarms, alarm);
        pd_buf_adds(alarms, "</p>\n");
    }
}

/* Calls fn on every good line; a file that is not there has none. */
static enum pd_rc each_row(const char *dir, const char *name,
                           void (*fn)(void *ctx, struct json_object *row), void *ctx,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lines *lines = NULL;
    struct pd_str line;
    bool more = true;
    char *path = pd_xasprintf("%s/%s", dir, name);
    if (!pd_fs_exists(path))
        goto out;
    PD_TRY(pd_lines_open(&lines, path, 64 << 20, err));
    for (;;) {
        struct json_object *row = NULL;
        PD_TRY(pd_lines_next(lines, &line, &more, err));
        if (!more)
            break;
        if (pd_json_parse(line, &row, NULL) == PD_OK && row)
            fn(ctx, row);
        json_object_put(row);
    }
out:
    pd_lines_close(lines);
    pd_free(path);
    return rc;
}

struct reading {
    struct curves curves;
    struct pd_buf alarms, samples;
    size_t n_samples;
};

static void on_metrics(void *ctx, struct json_object *row)
{
    struct reading *r = ctx;
    read_row(row, &r->curves, &r->alarms);
}

enum { MAX_SAMPLES = 60 };

static void on_sample(void *ctx, struct json_object *row)
{
    struct reading *r = ctx;
    if (r->n_samples++ >= MAX_SAMPLES)
        return;
    static const char *const columns[] = {"step",  "prompt",    "sample",
                                          "score", "reference", "reference_score"};
    pd_buf_adds(&r->samples, "<tr>");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        pd_buf_adds(&r->samples, "<td>");
        add_value(&r->samples, pd_json_get(row, columns[i]));
        pd_buf_adds(&r->samples, "</td>");
    }
    pd_buf_adds(&r->samples, "</tr>\n");
}

/* ---- drawing ---- */

static void draw(struct pd_buf *out, const struct series *s)
{
    const double w = 300, h = 100, left = 4, top = 6, bottom = 14;
    double lo = INFINITY, hi = -INFINITY, first = s->step[0], last = s->step[s->n - 1];
    for (size_t i = 0; i < s->n; i++)
        if (isfinite(s->value[i])) {
            lo = fmin(lo, s->value[i]);
            hi = fmax(hi, s->value[i]);
        }
    if (!(lo <= hi))
        return;
    double span = hi > lo ? hi - lo : 1, width = last > first ? last - first : 1;
    size_t stride = s->n / 600 + 1; /* more points than pixels say nothing */
    pd_buf_adds(out, "<figure><figcaption><b>");
    add_escaped(out, pd_str_from(s->key));
    pd_buf_addf(out, "</b><span>%.5g &rarr; %.5g</span></figcaption>", s->value[0],
                s->value[s->n - 1]);
    pd_buf_addf(out, "<svg viewBox=\"0 0 %.0f %.0f\" preserveAspectRatio=\"none\" role=\"img\">", w,
                h);
    pd_buf_adds(out, "<polyline fill=\"none\" stroke=\"var(--curve)\" stroke-width=\"1.5\" "
                     "vector-effect=\"non-scaling-stroke\" points=\"");
    for (size_t i = 0; i < s->n; i += stride)
        if (isfinite(s->value[i]))
            pd_buf_addf(out, "%.1f,%.1f ", left + (s->step[i] - first) / width * (w - 2 * left),
                        top + (hi - s->value[i]) / span * (h - top - bottom));
    pd_buf_addf(out,
                "\"/></svg><figcaption><span>%.5g to %.5g</span><span>step %.0f to %.0f"
                "</span></figcaption></figure>\n",
                lo, hi, first, last);
}

static void add_table(struct pd_buf *out, const char *title, struct json_object *o)
{
    if (!json_object_is_type(o, json_type_object))
        return;
    pd_buf_addf(out, "<h2>%s</h2>\n<table>\n", title);
    json_object_object_foreach(o, key, v)
    {
        pd_buf_adds(out, "<tr><th>");
        add_escaped(out, pd_str_from(key));
        pd_buf_adds(out, "</th><td>");
        add_value(out, v);
        pd_buf_adds(out, "</td></tr>\n");
    }
    pd_buf_adds(out, "</table>\n");
}

static void compose(struct pd_buf *out, struct json_object *run, const struct reading *r)
{
    pd_buf_adds(out, page_head);
    pd_buf_adds(out, "<title>");
    add_value(out, pd_json_get(run, "verb"));
    pd_buf_adds(out, "</title></head><body>\n<h1>");
    add_value(out, pd_json_get(run, "verb"));
    pd_buf_adds(out, "</h1>\n<p class=\"sub\">");
    add_value(out, pd_json_get(run, "id"));
    pd_buf_adds(out, " &middot; ");
    add_value(out, pd_json_get(run, "state"));
    pd_buf_adds(out, " &middot; begun ");
    add_value(out, pd_json_get(run, "created"));
    pd_buf_adds(out, " &middot; podium ");
    add_value(out, pd_json_get(run, "version"));
    pd_buf_adds(out, "</p>\n");
    if (pd_json_get(run, "error")) {
        pd_buf_adds(out, "<p class=\"alarm\">");
        add_value(out, pd_json_get(run, "error"));
        pd_buf_adds(out, "</p>\n");
    }
    pd_buf_addstr(out, pd_buf_str(&r->alarms));
    add_table(out, "Held-out pairs", pd_json_get(run, "eval"));
    pd_buf_adds(out, "<h2>Curves</h2>\n<div class=\"grid\">\n");
    for (size_t i = 0; i < r->curves.n; i++)
        draw(out, &r->curves.v[i]);
    pd_buf_adds(out, "</div>\n");
    if (r->n_samples) {
        pd_buf_adds(out, "<h2>Samples</h2>\n<table>\n<tr><th>step</th><th>prompt</th><th>policy"
                         "</th><th>score</th><th>reference</th><th>score</th></tr>\n");
        pd_buf_addstr(out, pd_buf_str(&r->samples));
        pd_buf_adds(out, "</table>\n");
    }
    add_table(out, "Inputs", pd_json_get(run, "inputs"));
    add_table(out, "Configuration", pd_json_get(run, "config"));
    add_table(out, "Machine", pd_json_get(run, "host"));
    pd_buf_adds(out, "</body></html>\n");
}

enum pd_rc pd_report_write(const char *run_dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct reading r = {0};
    struct json_object *run = NULL;
    struct pd_buf page;
    char *path = pd_xasprintf("%s/report.html", run_dir);
    pd_buf_init(&page, 0);
    pd_buf_init(&r.alarms, 0);
    pd_buf_init(&r.samples, 0);
    PD_TRY(pd_run_read(run_dir, &run, err));
    PD_TRY(each_row(run_dir, "metrics.jsonl", on_metrics, &r, err));
    PD_TRY(each_row(run_dir, "samples.jsonl", on_sample, &r, err));
    compose(&page, run, &r);
    PD_TRY(pd_fs_write_atomic(path, pd_buf_str(&page), 0644, err));
out:
    json_object_put(run);
    release_curves(&r.curves);
    pd_buf_release(&r.alarms);
    pd_buf_release(&r.samples);
    pd_buf_release(&page);
    pd_free(path);
    return rc;
}
