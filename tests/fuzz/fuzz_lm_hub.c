/* hf:// addresses and a hub's listing: refused, or names that stay in their folder, with checksums
 * that can be compared. The address ends at the first NUL. */
#include "base/mem.h"
#include "lm/hub_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(const char *what, const char *name)
{
    if (!pd_hub_is_name(name) || strchr(name, '/') || name[0] == '.')
        pd_bug("the %s \"%s\" may leave its folder", what, name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    struct pd_hub h = {.endpoint = pd_xstrdup("http://hub")};
    struct pd_err err;
    char *rest = pd_xstrndup((const char *)data, n), *url = pd_xasprintf("hf://%s", rest);
    if (pd_hub_parse_url(&h, url, &err) != PD_OK)
        goto out;
    check_name("owner", h.owner);
    check_name("name", h.name);
    if (h.only)
        check_name("file", h.only);
    if (!nul || pd_hub_read_listing(&h, (struct pd_str){(const char *)nul + 1, size - n - 1},
                                    &err) != PD_OK)
        goto out;
    check_name("commit", h.commit);
    int64_t total = 0;
    for (size_t i = 0; i < h.n_files; i++) {
        check_name("file", h.files[i].name);
        if (h.files[i].bytes < 0 || strlen(h.files[i].sum) != (h.files[i].git ? 40 : 64))
            pd_bug("file %zu cannot be checked", i);
        total += h.files[i].bytes;
    }
    if (h.n_files == 0 || total != h.total)
        pd_bug("nothing is to be fetched, or another amount");
out:
    pd_hub_release(&h);
    pd_free(rest);
    pd_free(url);
    return 0;
}
