/* Private to serve*.c: a request as it was understood, and the server's state. */
#ifndef PD_GEN_SERVE_INT_H
#define PD_GEN_SERVE_INT_H

#include "gen/serve.h"
#include "lm/model.h"
#include "net/server.h"

enum {
    PD_SERVE_MAX_CHOICES = 1024, /* prompts x n */
    PD_SERVE_MAX_N = 128,
    PD_SERVE_MAX_STOPS = 16,
    PD_SERVE_MAX_TOP = 20,
};

struct pd__server {
    const struct pd_serve_opts *opts;
    const struct pd_model *model;
    struct pd_engine *engine;
    int64_t started; /* Unix time */
    struct pd_router router;
};

/* A request as it was understood. Everything lives in the request's arena. */
struct pd__wish {
    bool chat, stream, include_usage, echo, logprobs;
    struct pd_ask ask;
    struct pd_str *echoed; /* (n_prompts) */
    int64_t prompt_tokens;
    /* when it is refused: which parameter, and OpenAI's code */
    const char *param, *code;
};

/* serve_ask.c */
PD_CHECKED enum pd_rc pd__wish_read(struct pd__server *s, struct pd_req *req, bool chat,
                                    struct pd__wish *out, struct pd_err *err);

/* serve_reply.c: waits for the call and answers. */
PD_CHECKED enum pd_rc pd__reply(struct pd__server *s, struct pd_req *req, const struct pd__wish *w,
                                struct pd_call *call, struct pd_err *err);

/* serve.c: an error in OpenAI's shape; param and code may be NULL. */
void pd__serve_error(struct pd_req *req, int status, const char *message, const char *param,
                     const char *code);
void pd__serve_error_body(struct pd_jw *w, int status, const char *message, const char *param,
                          const char *code);

#endif
