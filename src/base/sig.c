#include "base/sig.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

/* The handler reads them without a lock: `at` is set last and cleared first. */
enum { MAPS = 64, PATH_BYTES = 512 };
static struct watched {
    _Atomic uintptr_t at;
    size_t len;
    char says[PATH_BYTES];
} maps[MAPS];
static pthread_mutex_t of_maps = PTHREAD_MUTEX_INITIALIZER;

static void on_signal(int sig)
{
    if (stop && sig == SIGINT)
        _exit(130);
    stop = 1;
}

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    const uintptr_t at = (uintptr_t)info->si_addr;
    static atomic_flag said = ATOMIC_FLAG_INIT;
    (void)context;
    for (struct watched *m = maps; m < maps + MAPS; m++)
        if (m->at && at >= m->at && at - m->at < m->len) {
            while (atomic_flag_test_and_set(&said))
                pause(); /* another thread's access says it, and ends the process */
            ssize_t written = write(STDERR_FILENO, m->says, strlen(m->says));
            (void)written;
            _exit(1);
        }
    (void)signal(sig, SIG_DFL); /* the access is tried again */
}

void pd_sig_watch_map(const void *at, size_t len, const char *path)
{
    (void)pthread_mutex_lock(&of_maps);
    for (struct watched *m = maps; m < maps + MAPS; m++)
        if (!m->at) {
            m->len = len;
            (void)snprintf(m->says, sizeof m->says,
                           "podium: %.400s became shorter while it was read; a file in use must be "
                           "replaced, not overwritten\n",
                           path);
            m->at = (uintptr_t)at;
            break;
        }
    (void)pthread_mutex_unlock(&of_maps);
}

void pd_sig_unwatch_map(const void *at)
{
    (void)pthread_mutex_lock(&of_maps);
    for (struct watched *m = maps; m < maps + MAPS; m++)
        if (m->at == (uintptr_t)at)
            m->at = 0;
    (void)pthread_mutex_unlock(&of_maps);
}

void pd_sig_install(void)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sa.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &sa, NULL);
    sa.sa_sigaction = on_bus_error;
    sa.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &sa, NULL);
}

bool pd_sig_stop(void)
{
    return stop != 0;
}

void pd_sig_request_stop(void)
{
    stop = 1;
}
