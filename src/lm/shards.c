#include "lm/shards.h"

#include "base/mem.h"

enum { MAX_INDEX_BYTES = 100000000, MAX_FILES = 4096 };

/* A shard's name comes from a file: it must stay in the folder. */
static bool is_plain_name(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/');
}

static struct json_object *weight_map(const struct pd_shards *s)
{
    return pd_json_get(s->index, "weight_map");
}

enum pd_rc pd_shards_read(struct pd_shards *s, const char *index_path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *s = (struct pd_shards){.path = pd_xstrdup(index_path)};
    pd_map_init(&s->files);
    PD_TRY(pd_json_read_file(index_path, MAX_INDEX_BYTES, &s->index, err));
    if (!json_object_is_type(weight_map(s), json_type_object))
        return PD_FAIL(err, PD_PARSE, "%s: no weight_map", index_path);
    json_object_object_foreach(weight_map(s), tensor, file)
    {
        const char *name =
            json_object_is_type(file, json_type_string) ? json_object_get_string(file) : "";
        if (!is_plain_name(name))
            return PD_FAIL(err, PD_INVALID, "%s: tensor %s: \"%s\" is not a file of this folder",
                           index_path, tensor, name);
        pd_map_put(&s->files, pd_str_from(name), 0);
        if (s->files.len > MAX_FILES)
            return PD_FAIL(err, PD_TOOBIG, "%s: more than %d shards", index_path, MAX_FILES);
    }
out:
    return rc;
}

enum pd_rc pd_shards_check(const struct pd_shards *s, const struct pd_map *have, struct pd_err *err)
{
    json_object_object_foreach(weight_map(s), wanted, in)
    {
        (void)in;
        if (!pd_map_has(have, pd_str_from(wanted)))
            return PD_FAIL(err, PD_INVALID, "%s: tensor %s is in none of its shards", s->path,
                           wanted);
    }
    return PD_OK;
}

void pd_shards_release(struct pd_shards *s)
{
    pd_map_release(&s->files);
    json_object_put(s->index);
    pd_free(s->path);
}
