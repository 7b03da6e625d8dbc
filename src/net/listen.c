#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct address {
    char host[64];
    char port[8];
};

static enum pd_rc parse(const char *text, struct address *out, struct pd_err *err)
{
    const char *colon = strrchr(text, ':');
    struct pd_str host = {"127.0.0.1", 9}, port = pd_str_from(text);
    if (colon) {
        host = (struct pd_str){text, (size_t)(colon - text)};
        port = pd_str_from(colon + 1);
    }
    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = (struct pd_str){host.ptr + 1, host.len - 2};
    else if (host.len && memchr(host.ptr, ':', host.len))
        host.len = sizeof out->host; /* an IPv6 address needs its brackets */
    int64_t n = 0;
    if (host.len >= sizeof out->host || !pd_str_to_i64(port, &n) || n < 0 || n > 65535)
        return PD_FAIL(err, PD_USAGE,
                       "'%s' is not an address to listen on; write HOST:PORT, as in 127.0.0.1:6900 "
                       "or [::1]:6900 (port 0 = any free one)",
                       text);
    snprintf(out->host, sizeof out->host, "%.*s", PD_STR_ARG(host));
    snprintf(out->port, sizeof out->port, "%lld", (long long)n);
    return PD_OK;
}

static void write_url(int fd, const struct address *a, char url[128])
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound = {.v6 = {0}};
    socklen_t len = sizeof bound;
    (void)getsockname(fd, &bound.any, &len);
    const unsigned port =
        ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
    bool v6 = strchr(a->host, ':') != NULL;
    snprintf(url, 128, "http://%s%s%s:%u", v6 ? "[" : "", a->host[0] ? a->host : "localhost",
             v6 ? "]" : "", port);
}

enum pd_rc pd_listen_tcp(const char *address, int *out, char url[128], struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct address a = {0};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int fd = -1, one = 1;
    PD_TRY(parse(address, &a, err));
    int gai = getaddrinfo(a.host[0] ? a.host : NULL, a.port, &hints, &list);
    if (gai != 0) {
        rc = PD_FAIL(err, PD_INVALID, "cannot listen on %s: %s", address, gai_strerror(gai));
        goto out;
    }
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot make a socket");
        goto out;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, list->ai_addr, list->ai_addrlen) != 0 || listen(fd, 1024) != 0) {
        if (errno == EADDRINUSE)
            rc = PD_FAIL(err, PD_BUSY,
                         "cannot listen on %s: the port is in use; stop the program that has it or "
                         "choose another with --listen %s:PORT (0 = any free one)",
                         address, a.host[0] ? a.host : "127.0.0.1");
        else
            rc = PD_FAIL_SYS(err, PD_IO, "cannot listen on %s", address);
        goto out;
    }
    write_url(fd, &a, url);
    *out = fd;
    fd = -1;
out:
    if (list)
        freeaddrinfo(list);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* A socket that nobody listens on any more is in the way and goes; nothing else does. */
static enum pd_rc make_way(const char *path, const struct sockaddr_un *sa, struct pd_err *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return PD_OK;
    if (!S_ISSOCK(st.st_mode))
        return PD_FAIL(err, PD_CONFLICT,
                       "cannot listen on unix:%s: there is a file of that name which is no socket",
                       path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot make a socket");
    bool dead = connect(fd, (const struct sockaddr *)sa, sizeof *sa) != 0 &&
                (errno == ECONNREFUSED || errno == ENOENT);
    close(fd);
    if (!dead)
        return PD_FAIL(err, PD_BUSY,
                       "cannot listen on unix:%s: another program does; stop it or choose another "
                       "path",
                       path);
    (void)unlink(path);
    return PD_OK;
}

enum pd_rc pd_listen_unix(const char *path, int *out, struct pd_err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (!path[0])
        return PD_FAIL(err, PD_USAGE, "a path is missing, as in unix:podium.sock");
    if (strlen(path) >= sizeof sa.sun_path)
        return PD_FAIL(err, PD_INVALID,
                       "socket path %s is longer than the %zu bytes that the system takes; choose "
                       "a shorter one",
                       path, sizeof sa.sun_path - 1);
    memcpy(sa.sun_path, path, strlen(path));
    enum pd_rc way = make_way(path, &sa, err);
    if (way != PD_OK)
        return way;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot make a socket");
    mode_t old = umask(0177);
    int bad = bind(fd, (struct sockaddr *)&sa, sizeof sa);
    umask(old);
    if (bad != 0 || chmod(path, 0600) != 0 || listen(fd, 128) != 0) {
        enum pd_rc rc = PD_FAIL_SYS(err, PD_IO, "cannot listen on unix:%s", path);
        close(fd);
        return rc;
    }
    *out = fd;
    return PD_OK;
}
