/* One answer from an OpenAI-compatible endpoint: build the request, send it, read the reply. What
 * goes wrong is one line naming the host, and a verdict on whether trying again can help.
 *
 * The key is sent to the endpoint and stands in no message. Redirects are not followed, https is
 * verified, replies are bounded. Threads: any; a pd_http_conn each. */
#ifndef PD_GEN_ENDPOINT_H
#define PD_GEN_ENDPOINT_H

#include "gen/spent.h"
#include "base/json.h"
#include "lm/generate.h"
#include "net/client.h"

struct pd_endpoint {
    const char *url;     /* "https://host/v1" */
    const char *model;   /* as the endpoint calls it */
    const char *api_key; /* NULL = none */
    int64_t parallel;    /* requests at once */
    int64_t rate;        /* requests a minute; 0 = not limited */
    int64_t token_rate;  /* tokens a minute, of prompts and answers; 0 = not limited */
    int64_t retries;     /* of one answer */
    int64_t timeout_s;   /* without a byte from the endpoint; ten times that for a whole call */
    int64_t max_pause_s; /* the longest that it may ask for (Retry-After) before the job ends */
    bool send_seed;
    double price_in, price_out; /* of a million tokens */
};

/* PD_USAGE unless url is http(s)://host... without a name and password in it. */
PD_CHECKED enum pd_rc pd_endpoint_check(const struct pd_endpoint *e, struct pd_err *err);

struct pd_endpoint_ask {
    struct json_object *prompt; /* a text or messages; read only while the body is made */
    bool chat;
    int64_t max_new;
    bool new_max_name; /* "max_completion_tokens", where "max_tokens" was refused */
    const struct pd_sampling *sampling;
    const char *const *stops;
    size_t n_stops;
    uint64_t seed;
};
void pd_endpoint_body(const struct pd_endpoint *e, const struct pd_endpoint_ask *ask,
                      struct pd_buf *out);

enum pd_endpoint_verdict {
    PD_ENDPOINT_OK,
    PD_ENDPOINT_RETRY,   /* another time it may work: no answer, 408, 429, 5xx, rubbish */
    PD_ENDPOINT_RENAME,  /* asks for max_completion_tokens */
    PD_ENDPOINT_REFUSED, /* this prompt never will */
    PD_ENDPOINT_NO_TEXT, /* the same, but the settings may be why */
    PD_ENDPOINT_FATAL,   /* none will: the key, the model, the address */
    PD_ENDPOINT_STOPPED,
};

struct pd_endpoint_answer {
    char *text; /* pd_free */
    size_t text_len;
    enum pd_finish finish;
    /* Of whatever reply there was, taken or not; -1: the endpoint does not say. */
    int64_t prompt_tokens, new_tokens;
    int status;             /* of the reply; 0 = there was none */
    int64_t retry_after_ms; /* 0: not said */
};
/* By the prices given. */
static inline double pd_endpoint_cost(const struct pd_endpoint *e, const struct pd_spent *s)
{
    return ((double)s->prompt_tokens * e->price_in + (double)s->new_tokens * e->price_out) / 1e6;
}
/* `stop` is asked as in pd_http_call; text is set when the verdict is OK. err holds the line unless
 * the verdict is OK. */
enum pd_endpoint_verdict pd_endpoint_answer(const struct pd_endpoint *e, struct pd_http_conn *conn,
                                            bool chat, struct pd_str body, bool (*stop)(void *),
                                            void *ctx, struct pd_endpoint_answer *out,
                                            struct pd_err *err);

#endif
