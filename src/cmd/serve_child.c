#include "cmd/serve_child.h"

#include "base/log.h"
#include "base/time.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_NS ((int64_t)1000000000)
enum { EARLY_S = 60, MAX_PAUSE_S = 60, STOP_S = 30 };

static pid_t start(const struct pd_child *c)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(0);
    errno = 0;
    if (nice(c->niceness) == -1 && errno != 0)
        errno = 0;
    (void)dup2(2, 1); /* stdout is the server's: scripts read its first lines */
    (void)execv("/proc/self/exe", (char **)(uintptr_t)c->argv);
    _exit(127);
}

/* 2 s, then twice as long each time it did not live for a minute. */
static int64_t pause_ns(const struct pd_child *c)
{
    int64_t s = c->early < 6 ? (int64_t)1 << c->early : MAX_PAUSE_S;
    return (s < 2 ? 2 : s) * SECOND_NS;
}

void pd_child_tick(struct pd_child *c)
{
    int64_t now = pd_time_mono_ns();
    int status;
    if (c->pid > 0 && waitpid(c->pid, &status, WNOHANG) == c->pid) {
        c->early = now - c->started_ns < EARLY_S * SECOND_NS ? c->early + 1 : 0;
        c->restart_ns = now + pause_ns(c);
        c->pid = 0;
        pd_log(PD_LOG_WARN, "serve", "the %s ended (%s %d); a new one starts in %lld s", c->name,
               WIFSIGNALED(status) ? "signal" : "code",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
               (long long)(pause_ns(c) / SECOND_NS));
    }
    if (c->pid > 0 || now < c->restart_ns)
        return;
    c->pid = start(c);
    c->started_ns = now;
    if (c->pid < 0)
        c->restart_ns = now + 2 * SECOND_NS;
}

void pd_child_stop(struct pd_child *c)
{
    int status;
    if (c->pid <= 0)
        return;
    (void)kill(c->pid, SIGTERM);
    for (int i = 0; i < STOP_S * 20; i++) { /* a worker writes a checkpoint first */
        if (waitpid(c->pid, &status, WNOHANG) == c->pid)
            return;
        pd_sleep_ms(50);
    }
    (void)kill(c->pid, SIGKILL);
    (void)waitpid(c->pid, &status, 0);
}
