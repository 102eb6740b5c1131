/* What the examples share: their flags, the bind, the line that says they are ready, and
   how they end.  An example that does nothing unusual is then

     int main(int argc, char **argv)
     {
         common c = { .about = "says hello", .threads = 1 };
         hsb_options options = { .hooks.on_request = hello };
         common_flags(&c, argc, argv);
         return common_serve(&c, &options);
     }

   SIGINT and SIGTERM let open requests finish; a second one cuts them.  Wrong flags, files
   that cannot be read and ports that are taken: one line on stderr, and exit status 2.
   Once the flags are read, an example prints with common_print and common_say: nothing that
   happens to the reader of its output stops the server.                                  */
#ifndef HTTPSBIND_EXAMPLES_COMMON_H
#define HTTPSBIND_EXAMPLES_COMMON_H

#include "httpsbind.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { COMMON_THREADS = 64 };

typedef struct common {
    const char *about;          /* for --help                                            */
    const char *arguments;      /* what follows the flags, "[DIR]", or NULL              */
    const char *help;           /* lines about flags of the example's own, or NULL       */
    /* Asked about what common_flags does not know: 0: not mine either, 1: mine, 2: mine,
       and the next argument, too.                                                        */
    int       (*flag)(const char *argument, const char *next_or_null);
    /* All is bound and about to run: to say more than the one line.                      */
    void      (*banner)(const struct common *c, hsb_server *server);
    int         threads;        /* default of --threads; 0: there is no such flag        */

    const char *address;        /* from here on: what common_flags found; NULL: loopback */
    int         port;
    const char *cert, *key, *client_ca;
    bool        require_client_cert;
    hsb_tls_versions versions;
    hsb_security *security;
} common;

static const char *common_program = "example";

__attribute__((format(printf, 1, 2), noreturn))
static inline void common_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", common_program);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

/* --- standard input, output and error ------------------------------------------------------ */

/* Whoever starts us may have closed 0, 1 or 2.  Each gets /dev/null; a socket that took such
   a number would be sent what we print.                                                  */
static inline void common_descriptors(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            _exit(2);
}

static inline void common_signals(sigset_t *out)
{
    sigemptyset(out);
    sigaddset(out, SIGINT);
    sigaddset(out, SIGTERM);
    sigaddset(out, SIGHUP);
}

/* A thread that gets no signals: those belong to the one that frees the servers.  Returns an
   errno, or 0.                                                                           */
static inline int common_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t signals, before;
    common_signals(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    int failed = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* write(2) waits for the reader of a pipe or a terminal, who may have stopped for good, and a
   hook must not wait.  So what is printed is queued, and each output has a thread that writes
   it.  Text that finds no room is lost, and is counted.                                  */
enum { COMMON_QUEUE = 1 << 20, COMMON_WRITE = 1 << 16 };

static char common_queues[2][COMMON_QUEUE];

typedef struct common_output {
    int             fd;
    char           *queue;      /* COMMON_QUEUE bytes, used as a ring                     */
    pthread_mutex_t lock;       /* guards all below                                       */
    pthread_cond_t  changed;
    size_t          begin, len; /* the bytes that wait                                    */
    long            lost;       /* texts that found no room since we last said so         */
    bool            started;
} common_output;

static common_output common_out = { .fd = 1, .queue = common_queues[0],
    .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
static common_output common_err = { .fd = 2, .queue = common_queues[1],
    .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static inline void *common_writer(void *output);

/* All of the text is queued, or nothing.  Never waits.                        [any thread] */
static inline void common_say(common_output *o, const char *text, size_t len)
{
    pthread_t thread;
    pthread_mutex_lock(&o->lock);
    if (!o->started && common_thread(&thread, common_writer, o) == 0) {
        pthread_detach(thread);
        o->started = true;
    }
    if (!o->started || len > COMMON_QUEUE - o->len) {
        o->lost++;
    } else {
        size_t at = (o->begin + o->len) % COMMON_QUEUE, to_end = COMMON_QUEUE - at;
        size_t first = len < to_end ? len : to_end;
        memcpy(o->queue + at, text, first);
        memcpy(o->queue, text + first, len - first);
        o->len += len;
        pthread_cond_broadcast(&o->changed);
    }
    pthread_mutex_unlock(&o->lock);
}

/* As printf, to one of the outputs; 2,047 bytes at most.                                 */
__attribute__((format(printf, 2, 3)))
static inline void common_print(common_output *o, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len > 0)
        common_say(o, text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
}

/* How many of the bytes are done with.  An output that takes nothing any more (EPIPE, ENOSPC)
   must not keep them.                                                                    */
static inline size_t common_write(int fd, const char *bytes, size_t len)
{
    ssize_t n = write(fd, bytes, len < COMMON_WRITE ? len : COMMON_WRITE);
    struct pollfd writable = { fd, POLLOUT, 0 };
    if (n >= 0)
        return (size_t)n;
    if (errno == EAGAIN)                        /* another program made it non-blocking   */
        poll(&writable, 1, -1);
    return errno == EINTR || errno == EAGAIN ? 0 : len;
}

static inline void *common_writer(void *output)
{
    common_output *o = output;
    pthread_mutex_lock(&o->lock);
    for (;;) {
        while (o->len == 0)
            pthread_cond_wait(&o->changed, &o->lock);
        size_t to_end = COMMON_QUEUE - o->begin, len = o->len < to_end ? o->len : to_end;
        pthread_mutex_unlock(&o->lock);
        size_t done = common_write(o->fd, o->queue + o->begin, len);
        pthread_mutex_lock(&o->lock);
        long lost = o->lost;
        o->begin = (o->begin + done) % COMMON_QUEUE;
        o->len -= done;
        o->lost = 0;
        pthread_cond_broadcast(&o->changed);
        if (lost) {
            pthread_mutex_unlock(&o->lock);
            common_print(&common_err, "%s: %ld lines are lost, as nobody read them\n",
                         common_program, lost);
            pthread_mutex_lock(&o->lock);
        }
    }
    return NULL;
}

/* Waits until all of it is written, or for a second: the reader may have stopped.         */
static inline void common_flush(common_output *o)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_mutex_lock(&o->lock);
    while (o->len > 0 && pthread_cond_timedwait(&o->changed, &o->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&o->lock);
}

/* An on_error hook: who it was, and what went wrong.                                     */
static inline void common_error(hsb_server *server, hsb_conn *conn, const hsb_error *err, void *user)
{
    char text[HSB_ADDRESS_TEXT_MAX] = "";
    (void)server, (void)user;
    if (conn) {
        hsb_address peer = hsb_conn_peer(conn);
        hsb_address_text(&peer, text);
    }
    common_print(&common_err, "%s: %s%s%s\n", common_program, text, conn ? ": " : "", err->text);
}

/* --- flags ------------------------------------------------------------------------------ */

/* The value in "--flag value" or "--flag=value"; NULL: argv[*i] is something else.       */
static inline const char *common_value(char **argv, int *i, const char *flag)
{
    size_t len = strlen(flag);
    if (strncmp(argv[*i], flag, len) != 0)
        return NULL;
    if (argv[*i][len] == '=')
        return argv[*i] + len + 1;
    if (argv[*i][len] != '\0')
        return NULL;
    if (!argv[*i + 1])
        common_die("%s needs a value", flag);
    return argv[++*i];
}

static inline int common_number(const char *flag, const char *text, int min, int max)
{
    size_t digits = strspn(text, "0123456789");
    long n = digits > 0 && digits < 10 && text[digits] == '\0' ? strtol(text, NULL, 10) : -1;
    if (n < min || n > max)
        common_die("%s: \"%s\" is not a number from %d to %d", flag, text, min, max);
    return (int)n;
}

static inline hsb_tls_versions common_versions(const char *text)
{
    if (strcmp(text, "1.2") == 0)
        return HSB_TLS_1_2_ONLY;
    if (strcmp(text, "1.3") != 0)
        common_die("--tls: \"%s\" is neither 1.2 nor 1.3", text);
    return HSB_TLS_1_3_ONLY;
}

__attribute__((noreturn))
static inline void common_help(const common *c)
{
    printf("%s: %s\n\n"
           "usage: %s [FLAG...]%s%s\n\n"
           "  --address A            where to listen (127.0.0.1, and ::1 where it works)\n"
           "  --port N               0 lets the system pick (8443)\n"
           "  --cert F, --key F      PEM files (a certificate of its own for localhost)\n"
           "  --client-ca F          ask for certificates that this one signed\n"
           "  --require-client-cert  and let nobody in without\n"
           "  --tls VERSION          only 1.2, or only 1.3\n",
           common_program, c->about, common_program, c->arguments ? " " : "",
           c->arguments ? c->arguments : "");
    if (c->threads)
        printf("  --threads N            share the port among so many (%d)\n", c->threads);
    printf("  --help                 this\n%s", c->help ? c->help : "");
    exit(0);
}

static inline void common_flag(common *c, char **argv, int *i)
{
    const char *v;
    if ((v = common_value(argv, i, "--address")) != NULL)
        c->address = v;
    else if ((v = common_value(argv, i, "--port")) != NULL)
        c->port = common_number("--port", v, 0, 65535);
    else if ((v = common_value(argv, i, "--cert")) != NULL)
        c->cert = v;
    else if ((v = common_value(argv, i, "--key")) != NULL)
        c->key = v;
    else if ((v = common_value(argv, i, "--client-ca")) != NULL)
        c->client_ca = v;
    else if (strcmp(argv[*i], "--require-client-cert") == 0)
        c->require_client_cert = true;
    else if ((v = common_value(argv, i, "--tls")) != NULL)
        c->versions = common_versions(v);
    else if (c->threads && (v = common_value(argv, i, "--threads")) != NULL)
        c->threads = common_number("--threads", v, 1, COMMON_THREADS);
    else if (strcmp(argv[*i], "--help") == 0)
        common_help(c);
    else {
        int used = c->flag ? c->flag(argv[*i], argv[*i + 1]) : 0;
        if (used == 0)
            common_die("%s: no such flag (see --help)", argv[*i]);
        *i += used - 1;
    }
}

/* What the flags ask for.  NULL: a file is missing, or says something else.              */
static inline hsb_security *common_security(const common *c, hsb_error *err)
{
    hsb_security_desc desc = { 0 };
    if (c->cert) {
        desc.identity.chain = hsb_pem_file(c->cert);
        desc.identity.key = hsb_pem_file(c->key);
    } else {
        desc.self_signed_for = "localhost";
    }
    if (c->client_ca)
        desc.trusted = hsb_pem_file(c->client_ca);
    desc.versions = c->versions;
    return hsb_security_new(&desc, err);
}

static inline void common_flags(common *c, int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    hsb_error err;
    if (argc > 0)
        common_program = slash ? slash + 1 : argv[0];
    common_descriptors();
    signal(SIGPIPE, SIG_IGN);           /* serve | head                                   */
    c->port = 8443;
    for (int i = 1; i < argc; i++)
        common_flag(c, argv, &i);
    if (!c->cert != !c->key)
        common_die("--cert and --key go together");
    if (c->require_client_cert && !c->client_ca)
        common_die("--require-client-cert needs --client-ca");
    c->security = common_security(c, &err);
    if (!c->security)
        common_die("%s", err.text);
}

/* --- the end: the first signal is patient, the second is not ---------------------------- */

static hsb_server *common_servers[COMMON_THREADS];
static volatile sig_atomic_t common_count;
static volatile sig_atomic_t common_stops;      /* signals so far: on_wake may say goodbye */

static inline void common_stop(int sig)
{
    (void)sig;
    common_stops = common_stops < 2 ? common_stops + 1 : 2;
    for (int i = 0; i < common_count; i++) {
        hsb_server_wake(common_servers[i]);
        hsb_server_close(common_servers[i], common_stops > 1);
    }
}

/* A handler for a signal that asks for something else: on_wake finds out what.           */
static inline void common_wake(int sig)
{
    (void)sig;
    for (int i = 0; i < common_count; i++)
        hsb_server_wake(common_servers[i]);
}

/* One signal at a time.                                                                  */
static inline void common_on_signal(int sig, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    common_signals(&action.sa_mask);
    sigaction(sig, &action, NULL);
}

/* From now on a signal closes this server, too.                                          */
static inline void common_watch(hsb_server *server)
{
    if (common_count == COMMON_THREADS)
        common_die("more than %d servers", COMMON_THREADS);
    common_servers[common_count] = server;
    common_count = common_count + 1;
    common_on_signal(SIGINT, common_stop);
    common_on_signal(SIGTERM, common_stop);
    if (common_stops)
        hsb_server_close(server, common_stops > 1);
}

/* Returns what main returns.                                                             */
static inline int common_end(common *c, hsb_server *server)
{
    common_count = 0;
    hsb_server_free(server);
    hsb_security_free(c->security);
    common_flush(&common_out);
    common_flush(&common_err);          /* it may have to tell what the other has lost     */
    return 0;
}

/* --- binding ---------------------------------------------------------------------------- */

/* localhost is two addresses, and browsers try ::1 first.  Where there is no IPv6, or the
   port that the system picked happens to be taken there, the other one has to do.        */
static inline void common_listen_v6(const common *c, hsb_server *server)
{
    hsb_error err;
    int port = hsb_server_port(server);
    if (hsb_server_listen(server, HSB_LOOPBACK_IP_V6, port, c->security, &err) >= 0)
        return;
    if (c->port != 0 && err.system_code == EADDRINUSE)
        common_die("%s", err.text);
}

static inline hsb_server *common_bind(const common *c, const hsb_options *options)
{
    hsb_options o = *options;
    hsb_error err;
    o.request_client_certificate = c->client_ca != NULL;
    o.require_client_certificate = c->require_client_cert;
    const char *host = c->address ? c->address : HSB_LOOPBACK_IP_V4;
    hsb_server *server = hsb_bind_secure(host, c->port, c->security, &o, &err);
    if (!server)
        common_die("%s", err.text);
    if (!c->address)
        common_listen_v6(c, server);
    common_watch(server);
    return server;
}

static inline void common_ready(hsb_server *server)
{
    char text[HSB_ADDRESS_TEXT_MAX];
    hsb_address address = hsb_server_address(server, 0);
    common_flush(&common_err);          /* what was said before stands before it          */
    common_print(&common_out, "listening on https://%s\n", hsb_address_text(&address, text));
}

/* --- all of it: one server a thread, all on the same port -------------------------------- */

static inline void *common_run(void *server)
{
    hsb_error err;
    if (!hsb_server_run(server, &err))
        common_print(&common_err, "%s: %s\n", common_program, err.text);
    return NULL;
}

/* One more server on the first one's addresses, whatever port the system gave that.      */
static inline hsb_server *common_join(const common *c, hsb_server *first, const hsb_options *options)
{
    common copy = *c;
    hsb_address second = hsb_server_address(first, 1);
    copy.port = hsb_server_port(first);
    if (!c->address && second.family == HSB_FAMILY_ANY)
        copy.address = HSB_LOOPBACK_IP_V4;      /* the first had to do without ::1         */
    return common_bind(&copy, options);
}

static inline void common_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    int failed = common_thread(thread, run, arg);
    if (failed)
        common_die("cannot start a thread: %s", strerror(failed));
}

static inline int common_serve(common *c, const hsb_options *options)
{
    hsb_server *servers[COMMON_THREADS];
    pthread_t threads[COMMON_THREADS];
    hsb_options o = *options;
    int count = c->threads ? c->threads : 1;
    o.shared = count > 1;
    servers[0] = common_bind(c, &o);
    for (int i = 1; i < count; i++)
        servers[i] = common_join(c, servers[0], &o);
    for (int i = 1; i < count; i++)
        common_start(&threads[i], common_run, servers[i]);
    if (c->banner)
        c->banner(c, servers[0]);
    common_ready(servers[0]);
    common_run(servers[0]);
    for (int i = 1; i < count; i++)
        pthread_join(threads[i], NULL);
    common_count = 0;                           /* a signal finds nothing to close any more */
    for (int i = 1; i < count; i++)
        hsb_server_free(servers[i]);
    return common_end(c, servers[0]);
}

#endif
