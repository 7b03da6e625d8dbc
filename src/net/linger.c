/* Closing a connection whose client is still sending: with bytes unread the kernel would answer
 * them with a reset, which may overtake the answer that refused them. The library shuts its sending
 * half and closes; a duplicate of the socket lives on here, and what comes is read and thrown away
 * until the client closes too, or has had its chance. */
#include "net/server_int.h"

#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    IDLE_MS = 5000,
    TOTAL_MS = 30000,
    POLL_MS = 50, /* also how soon a new one is noticed */
};
#define MS_NS ((int64_t)1000000)
#define MOST  ((int64_t)64 << 20) /* bytes */

void pd__linger(struct pd_http_server *s, int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return;
    struct pd__lingering *to = NULL;
    pthread_mutex_lock(&s->linger_lock);
    if (!s->linger_stop && s->n_lingering < PD__LINGER_MAX)
        to = &s->lingering[s->n_lingering++];
    if (to) {
        int64_t now = pd_time_mono_ns();
        *to = (struct pd__lingering){.fd = own, .last_ns = now, .begun_ns = now};
        pthread_cond_signal(&s->linger_cond);
    }
    pthread_mutex_unlock(&s->linger_lock);
    if (!to)
        close(own);
}

/* Reads what there is. False when it is time to close. */
static bool drain(struct pd__lingering *l, int64_t now)
{
    static char nowhere[1 << 16]; /* the only thread that reads into it never looks at it */
    for (int i = 0; i < 16; i++) {
        ssize_t n = recv(l->fd, nowhere, sizeof nowhere, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            return false;
        if (n < 0)
            break;
        l->bytes += n;
        l->last_ns = now;
    }
    return l->bytes < MOST && now - l->last_ns < IDLE_MS * MS_NS &&
           now - l->begun_ns < TOTAL_MS * MS_NS;
}

void *pd__linger_main(void *arg)
{
    struct pd_http_server *s = arg;
    pthread_mutex_lock(&s->linger_lock);
    for (;;) {
        struct pollfd p[PD__LINGER_MAX];
        while (s->n_lingering == 0 && !s->linger_stop)
            pthread_cond_wait(&s->linger_cond, &s->linger_lock);
        if (s->linger_stop)
            break;
        int n = s->n_lingering; /* others only add at the end */
        for (int i = 0; i < n; i++)
            p[i] = (struct pollfd){.fd = s->lingering[i].fd, .events = POLLIN};
        pthread_mutex_unlock(&s->linger_lock);
        (void)poll(p, (nfds_t)n, POLL_MS);
        pthread_mutex_lock(&s->linger_lock);
        int64_t now = pd_time_mono_ns();
        for (int i = s->n_lingering - 1; i >= 0; i--)
            if (!drain(&s->lingering[i], now)) {
                close(s->lingering[i].fd);
                s->lingering[i] = s->lingering[--s->n_lingering];
            }
    }
    for (int i = 0; i < s->n_lingering; i++)
        close(s->lingering[i].fd);
    s->n_lingering = 0;
    pthread_mutex_unlock(&s->linger_lock);
    return NULL;
}
