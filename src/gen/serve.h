/* An OpenAI-compatible server over one model: GET /v1/models, POST /v1/completions and
 * /v1/chat/completions (whole or streamed), GET /healthz.
 *
 * Handlers run on threads of their own and share one engine (gen/engine.h). docs/serving.md lists
 * the parameters, what is refused and what the numbers mean. */
#ifndef PD_GEN_SERVE_H
#define PD_GEN_SERVE_H

#include "gen/engine.h"

struct pd_serve_opts {
    const char *listen;     /* "127.0.0.1:6901", or "unix:PATH" for a socket of mode 0600 */
    const char *model_name; /* as requests name it */
    const char *api_key;    /* NULL = everyone who can connect may ask */
    const char *version;
    int64_t max_requests; /* at once; the next ones get 503 */
    int64_t max_new;      /* of a chat that does not say; 0 = what the context leaves */
    struct pd_engine_opts engine;
    bool access_log, quiet;
};

/* Serves until pd_sig_stop: prints "listening on URL", and at the end answers what was begun, for
 * at most ten seconds. */
PD_CHECKED enum pd_rc pd_serve_run(struct pd_decoder *dec, const struct pd_serve_opts *opts,
                                   struct pd_err *err);

#endif
