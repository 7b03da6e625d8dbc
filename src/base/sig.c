#include "base/sig.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    if (stop && sig == SIGINT)
        _exit(130);
    stop = 1;
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
}

bool pd_sig_stop(void)
{
    return stop != 0;
}

void pd_sig_request_stop(void)
{
    stop = 1;
}
