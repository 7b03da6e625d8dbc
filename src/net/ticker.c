/* Event streams: what is sent while it is made, and the thread that polls the sources. */
#include "net/server_int.h"

#include "base/time.h"

enum {
    SSE_HIGH_WATER = 256 << 10, /* a slow client's stream is not polled past this */
    SSE_PING_MS = 15000,
    TICK_MS = 100,
};

void pd__stream_wake(struct pd_req *req)
{
    struct pd__stream *s = &req->in->stream;
    if (s->waiting && !s->gone) {
        s->waiting = false;
        MHD_resume_connection(req->in->conn);
    }
}

ssize_t pd__stream_read(void *cls, uint64_t pos, char *to, size_t max)
{
    (void)pos;
    struct pd_req *req = cls;
    struct pd__stream *s = &req->in->stream;
    ssize_t n = 0;
    pthread_mutex_lock(&s->lock);
    size_t have = s->buf.len - s->at;
    if (have > 0) {
        n = (ssize_t)(have < max ? have : max);
        memcpy(to, s->buf.ptr + s->at, (size_t)n);
        s->at += (size_t)n;
        if (s->at == s->buf.len) {
            pd_buf_clear(&s->buf);
            s->at = 0;
        }
        pthread_cond_signal(&s->room);
        atomic_fetch_add(&req->in->srv->bytes_out, (unsigned long long)n);
    } else if (s->done) {
        n = s->failed ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        s->waiting = true;
        MHD_suspend_connection(req->in->conn);
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

void pd__stream_end(struct pd_req *req, bool failed)
{
    struct pd__stream *s = &req->in->stream;
    pthread_mutex_lock(&s->lock);
    s->done = true;
    s->failed |= failed;
    pd__stream_wake(req);
    pthread_mutex_unlock(&s->lock);
}

void pd__ticker_add(struct pd_http_server *s, struct pd_req *req)
{
    atomic_fetch_add(&req->in->refs, 1);
    req->in->stream.last_write_ns = pd_time_mono_ns();
    pthread_mutex_lock(&s->tick_lock);
    bool late = s->tick_stop; /* nobody would ever end it */
    if (!late) {
        req->in->stream.next = s->streams;
        s->streams = req;
        s->n_streams++;
        pthread_cond_signal(&s->tick_cond);
    }
    pthread_mutex_unlock(&s->tick_lock);
    if (late) {
        pd__stream_end(req, false);
        pd__req_unref(req);
    }
}

/* Polls one stream if it is due; false when it has ended. */
static bool tick(struct pd_req *req, int64_t now, struct pd_buf *scratch)
{
    struct pd__stream *s = &req->in->stream;
    pthread_mutex_lock(&s->lock);
    bool alive = !s->gone && !s->done;
    bool due = alive && now >= s->next_poll_ns && s->buf.len - s->at < SSE_HIGH_WATER;
    pthread_mutex_unlock(&s->lock);
    if (!due)
        return alive;
    int every = s->sse.every_ms < TICK_MS ? TICK_MS : s->sse.every_ms;
    s->next_poll_ns = now + (int64_t)every * 1000000;
    pd_buf_clear(scratch);
    bool more = s->sse.poll(s->sse.ctx, scratch);
    if (scratch->len == 0 && now - s->last_write_ns > (int64_t)SSE_PING_MS * 1000000)
        pd_buf_adds(scratch, ": ping\n\n");
    pthread_mutex_lock(&s->lock);
    if (scratch->len) {
        pd_buf_addstr(&s->buf, pd_buf_str(scratch));
        s->last_write_ns = now;
    }
    s->done |= !more;
    if (scratch->len || s->done)
        pd__stream_wake(req);
    pthread_mutex_unlock(&s->lock);
    return more;
}

void *pd__ticker_main(void *arg)
{
    struct pd_http_server *s = arg;
    struct pd_buf scratch;
    pd_buf_init(&scratch, 64 << 20);
    for (;;) {
        pthread_mutex_lock(&s->tick_lock);
        while (!s->streams && !s->tick_stop)
            pthread_cond_wait(&s->tick_cond, &s->tick_lock);
        bool stop = s->tick_stop;
        struct pd_req *list = s->streams; /* new ones are only ever put in front of it */
        pthread_mutex_unlock(&s->tick_lock);
        int64_t now = pd_time_mono_ns();
        struct pd_req *ended = NULL;
        for (struct pd_req *r = list, *next; r; r = next) {
            next = r->in->stream.next;
            if (stop)
                pd__stream_end(r, false);
            if (!stop && tick(r, now, &scratch))
                continue;
            pthread_mutex_lock(&s->tick_lock);
            struct pd_req **at = &s->streams;
            while (*at != r)
                at = &(*at)->in->stream.next;
            *at = next;
            s->n_streams--;
            pthread_mutex_unlock(&s->tick_lock);
            r->in->stream.next = ended;
            ended = r;
        }
        for (struct pd_req *r = ended, *next; r; r = next) {
            next = r->in->stream.next;
            pd__req_unref(r);
        }
        if (stop)
            break;
        pd_sleep_ms(TICK_MS);
    }
    pd_buf_release(&scratch);
    return NULL;
}
