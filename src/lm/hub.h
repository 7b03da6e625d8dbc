/* Fetching a model from a Hugging Face compatible hub.
 *
 *   hf://owner/name            the files that open as a model: configuration, tokenizer,
 * safetensors (pytorch_model.bin where there are none), an adapter's hf://owner/name@revision   of
 * a branch, tag or commit hf://owner/name/FILE.gguf  one file
 *
 * $HF_ENDPOINT names the hub (https://huggingface.co), $HF_TOKEN who asks; the token goes to that
 * host alone, never along a redirect to another. What the hub lists (size, SHA-256 of large files,
 * git id of small ones) is checked of every file before any gets its name: a folder is filled
 * beside the target as TARGET.partial and renamed when it is whole, and what a broken transfer left
 * there is gone on with. */
#ifndef PD_LM_HUB_H
#define PD_LM_HUB_H

#include "base/err.h"

bool pd_hub_is_url(const char *name); /* "hf://..." */
/* out: the folder (file, for one) to write, or NULL for owner/name in pd_pull_folder. *path, which
 * the caller frees, is what pd_model_open takes. PD_INTERRUPTED when asked to stop. */
PD_CHECKED enum pd_rc pd_hub_pull(const char *url, const char *out, char **path,
                                  struct pd_err *err);

#endif
