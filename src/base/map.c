#include "base/map.h"
#include "base/mem.h"

/* FNV-1a with a final mix: short keys, no adversary (HTTP input is bounded elsewhere). */
static uint64_t hash_of(struct pd_str k)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < k.len; i++)
        h = (h ^ (unsigned char)k.ptr[i]) * 0x100000001b3u;
    h ^= h >> 32;
    return h * 0x9e3779b97f4a7c15u;
}

void pd_map_init(struct pd_map *m)
{
    memset(m, 0, sizeof *m);
}

void pd_map_release(struct pd_map *m)
{
    for (size_t i = 0; i < m->len; i++)
        pd_free(m->entries[i].key);
    pd_free(m->entries);
    pd_free(m->slots);
    pd_map_init(m);
}

static bool key_is(const struct pd_map_entry *e, uint64_t hash, struct pd_str key)
{
    return e->hash == hash && e->key_len == key.len &&
           (key.len == 0 || memcmp(e->key, key.ptr, key.len) == 0);
}

/* The slot that holds the key, or the free one where it belongs. */
static size_t slot_of(const struct pd_map *m, uint64_t hash, struct pd_str key)
{
    size_t i = (size_t)(hash >> 20) & (m->n_slots - 1);
    while (m->slots[i] && !key_is(&m->entries[m->slots[i] - 1], hash, key))
        i = (i + 1) & (m->n_slots - 1);
    return i;
}

static void grow(struct pd_map *m)
{
    m->cap = m->cap ? m->cap * 2 : 16;
    m->entries = pd_xrealloc(m->entries, m->cap * sizeof *m->entries);
    m->n_slots = m->cap * 2;
    pd_free(m->slots);
    m->slots = pd_xalloc(m->n_slots * sizeof *m->slots);
    for (size_t e = 0; e < m->len; e++) {
        size_t i = (size_t)(m->entries[e].hash >> 20) & (m->n_slots - 1);
        while (m->slots[i])
            i = (i + 1) & (m->n_slots - 1);
        m->slots[i] = (uint32_t)e + 1;
    }
}

bool pd_map_put(struct pd_map *m, struct pd_str key, int64_t value)
{
    if (m->len == m->cap)
        grow(m);
    uint64_t hash = hash_of(key);
    size_t i = slot_of(m, hash, key);
    if (m->slots[i]) {
        m->entries[m->slots[i] - 1].value = value;
        return false;
    }
    m->entries[m->len] =
        (struct pd_map_entry){pd_xstrndup(key.len ? key.ptr : "", key.len), key.len, hash, value};
    m->slots[i] = (uint32_t)++m->len;
    return true;
}

bool pd_map_get(const struct pd_map *m, struct pd_str key, int64_t *value)
{
    if (!m->len)
        return false;
    size_t i = slot_of(m, hash_of(key), key);
    if (!m->slots[i])
        return false;
    if (value)
        *value = m->entries[m->slots[i] - 1].value;
    return true;
}

bool pd_map_has(const struct pd_map *m, struct pd_str key)
{
    return pd_map_get(m, key, NULL);
}
