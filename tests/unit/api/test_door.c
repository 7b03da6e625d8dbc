/* The whole collecting side in one process: store, handlers, server, several clients at once. Run
 * under the thread sanitizer it shows that they share nothing unguarded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "api/api.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "net/client.h"
#include "pref/template.h"
#include "store/record.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECORDS = 120, CLIENTS = 4 };

struct fixture {
    char dir[64], dataset[37];
    struct pd_store *store;
    struct pd_api api;
    struct pd_http_server *server;
    char *keys[CLIENTS];
    atomic_int submitted, conflicts;
};

static enum pd_rc fill(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct fixture *f = arg;
    enum pd_rc rc = PD_OK;
    int64_t ws = 0, dataset = 0, id = 0;
    struct pd_arena a;
    struct pd_dataset d;
    pd_arena_init(&a);
    PD_TRY(pd_workspace_default(db, (struct pd_str){NULL, 0}, &ws, err));
    for (int i = 0; i < CLIENTS; i++) {
        char name[16], *key = NULL;
        snprintf(name, sizeof name, "user%d", i);
        struct pd_user_new u = {.username = pd_str_from(name),
                                .role = i == 0 ? PD_ROLE_OWNER : PD_ROLE_ANNOTATOR};
        PD_TRY(pd_user_create(db, f->store, &u, &id, err));
        PD_TRY(pd_workspace_add(db, ws, id, err));
        PD_TRY(pd_user_api_key(db, f->store, &a, id, &key, err));
        f->keys[i] = pd_xstrdup(key);
    }
    const struct pd_template_options o = {.name = PD_STR("pairs"),
                                          .tmpl = PD_STR("pairwise"),
                                          .workspace_id = ws,
                                          .publish = true,
                                          .made_by = "test"};
    PD_TRY(pd_template_create(db, &o, &dataset, err));
    PD_TRY(pd_dataset_get(db, &a, dataset, &d, err));
    memcpy(f->dataset, d.uuid, sizeof f->dataset);
    for (int i = 0; i < RECORDS; i++) {
        char fields[96];
        snprintf(fields, sizeof fields, "{\"prompt\":\"p%d\",\"a\":\"one %d\",\"b\":\"two\"}", i,
                 i);
        const struct pd_record_new r = {
            .dataset_id = dataset, .fields = pd_str_from(fields), .metadata = PD_STR("{}")};
        PD_TRY(pd_record_create(db, &r, &id, err));
    }
out:
    pd_arena_release(&a);
    return rc;
}

static int start(void **state)
{
    struct fixture *f = pd_xalloc(sizeof *f);
    struct pd_err err = {0};
    snprintf(f->dir, sizeof f->dir, "/tmp/pd-api-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    if (pd_store_open(&f->store, f->dir, &err) != PD_OK ||
        pd_store_write(f->store, PD_TX_DURABLE, fill, f, &err) != PD_OK)
        fail_msg("%s", err.msg);
    pd_api_init(&f->api, f->store, NULL, "test", NULL, f->dir);
    const struct pd_http_app app = pd_api_app(&f->api);
    const struct pd_http_config cfg = {.listen = "127.0.0.1:0", .workers = 4};
    if (pd_http_server_start(&f->server, &cfg, &app, &err) != PD_OK)
        fail_msg("%s", err.msg);
    f->api.server = f->server;
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    struct pd_err err;
    pd_http_server_stop(f->server, 5000);
    pd_api_release(&f->api);
    pd_store_close(f->store);
    assert_int_equal(pd_fs_remove_tree(f->dir, &err), PD_OK);
    for (int i = 0; i < CLIENTS; i++)
        pd_free(f->keys[i]);
    pd_free(f);
    return 0;
}

static int call(struct fixture *f, int who, const char *method, const char *path, const char *body,
                struct json_object **answer)
{
    char url[256], key[160];
    const char *headers[] = {key, "Content-Type: application/json", NULL};
    struct pd_buf out;
    struct pd_err err = {0};
    snprintf(url, sizeof url, "%s%s", pd_http_server_url(f->server), path);
    snprintf(key, sizeof key, "Authorization: Token %s", f->keys[who]);
    pd_buf_init(&out, 0);
    struct pd_http_call c = {.method = method,
                             .url = url,
                             .headers = headers,
                             .body_fd = -1,
                             .body = pd_str_from(body),
                             .out = &out,
                             .timeout_ms = 60000};
    if (pd_http_call(&c, &err) != PD_OK)
        c.status = -1;
    *answer = NULL;
    if (out.len)
        assert_int_equal(pd_json_parse(pd_buf_str(&out), answer, NULL), PD_OK);
    pd_buf_release(&out);
    return c.status;
}

struct client {
    struct fixture *f;
    int who;
};

static void label_one(struct fixture *f, int who, struct json_object *task)
{
    char body[512], id[37];
    struct json_object *answer = NULL;
    pd_uuid_new(id);
    snprintf(
        body, sizeof body,
        "{\"id\":\"%s\",\"record\":\"%s\",\"status\":\"submitted\",\"shown\":[\"a\",\"b\"],"
        "\"seconds\":1,\"values\":{\"preference\":{\"value\":[[\"a\"],[\"b\"]],\"strength\":1}}}",
        id, pd_json_str(pd_json_get(task, "record"), "id").ptr);
    int status = call(f, who, "POST", "/ui/judgments", body, &answer);
    assert_int_equal(status, 201);
    atomic_fetch_add(&f->submitted, 1);
    if (pd_json_bool(answer, "surplus", false))
        atomic_fetch_add(&f->conflicts, 1);
    json_object_put(answer);
}

static void *label_all(void *arg)
{
    struct client *c = arg;
    char path[128];
    snprintf(path, sizeof path, "/ui/datasets/%s/tasks", c->f->dataset);
    for (size_t n = 1; n > 0;) {
        struct json_object *answer = NULL;
        if (call(c->f, c->who, "POST", path, "{\"n\":3}", &answer) != 200)
            abort();
        struct json_object *tasks = pd_json_get(answer, "tasks");
        n = json_object_array_length(tasks);
        for (size_t i = 0; i < n; i++)
            label_one(c->f, c->who, json_object_array_get_idx(tasks, i));
        json_object_put(answer);
    }
    return NULL;
}

static void *look_at_everything(void *arg)
{
    struct client *c = arg;
    static const char *const paths[] = {"/ui/datasets/%s", "/ui/datasets/%s/overview",
                                        "/ui/datasets/%s/pairs",
                                        "/ui/datasets/%s/records?filter=done",
                                        "/api/v1/datasets/%s/records?include=responses&limit=20"};
    for (int i = 0; i < 15; i++) {
        char path[160];
        struct json_object *answer = NULL;
        snprintf(path, sizeof path, paths[i % 5], c->f->dataset);
        if (call(c->f, 0, "GET", path, NULL, &answer) != 200)
            abort();
        json_object_put(answer);
    }
    return NULL;
}

static void many_labelers_and_a_lead(void **state)
{
    struct fixture *f = *state;
    pthread_t t[CLIENTS + 1];
    struct client c[CLIENTS + 1];
    for (int i = 0; i <= CLIENTS; i++) {
        c[i] = (struct client){f, i};
        assert_int_equal(
            pthread_create(&t[i], NULL, i < CLIENTS ? label_all : look_at_everything, &c[i]), 0);
    }
    for (int i = 0; i <= CLIENTS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(f->submitted, RECORDS); /* nobody got a record that another had */
    assert_int_equal(f->conflicts, 0);
    struct json_object *answer = NULL;
    char path[160];
    snprintf(path, sizeof path, "/ui/datasets/%s", f->dataset);
    assert_int_equal(call(f, 0, "GET", path, NULL, &answer), 200);
    struct json_object *counts = pd_json_get(answer, "counts");
    assert_int_equal(pd_json_i64(counts, "done", -1), RECORDS);
    assert_int_equal(pd_json_i64(counts, "in_hand", -1), 0);
    json_object_put(answer);
    assert_int_equal(call(f, 1, "GET", "/ui/users", NULL, &answer), 403);
    json_object_put(answer);
    assert_int_equal(call(f, 1, "GET", "/api/v1/me", NULL, &answer), 200);
    assert_true(pd_str_eqz(pd_json_str(answer, "username"), "user1"));
    json_object_put(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_labelers_and_a_lead, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
