/* What the examples share: their flags, the bind, the line that says they are ready, and
   how they end.  An example that does nothing unusual is then

     int main(int argc, char **argv)
     {
         common c = { .about = "says hello", .threads = 1 };
         hsb_options options = { .hooks = { .on_request = hello } };
         common_flags(&c, argc, argv);
         return common_serve(&c, &options);
     }

   SIGINT and SIGTERM let open requests finish; a second one cuts them.  Wrong flags, files
   that cannot be read and ports that are taken: one line on stderr, and exit status 2.   */
#ifndef HTTPSBIND_EXAMPLES_COMMON_H
#define HTTPSBIND_EXAMPLES_COMMON_H

#include "httpsbind.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMON_THREADS = 64 };

typedef struct common {
    const char *about;          /* for --help                                           */
    const char *help;           /* lines about flags of the example's own, or NULL      */
    /* Asked about what common_flags does not know: 0: not mine either, 1: mine, 2: mine,
       and the next argument, too.                                                       */
    int       (*flag)(const char *argument, const char *next_or_null);
    int         threads;        /* default of --threads; 0: there is no such flag       */

    const char *address;        /* from here on: what common_flags found; NULL: loopback */
    int         port;
    const char *cert, *key, *client_ca;
    bool        require_client_cert;
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
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (end == text || *end || errno || n < min || n > max)
        common_die("%s: \"%s\" is not a number from %d to %d", flag, text, min, max);
    return (int)n;
}

__attribute__((noreturn))
static inline void common_help(const common *c)
{
    printf("%s: %s\n\n"
           "  --address A            where to listen (127.0.0.1, and ::1 where it works)\n"
           "  --port N               0 lets the system pick (8443)\n"
           "  --cert F, --key F      PEM files (a certificate of its own for localhost)\n"
           "  --client-ca F          ask for certificates that this one signed\n"
           "  --require-client-cert  and let nobody in without\n",
           common_program, c->about);
    if (c->threads)
        printf("  --threads N            how many (%d)\n", c->threads);
    printf("%s  --help\n", c->help ? c->help : "");
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

static inline hsb_security *common_security(const common *c)
{
    hsb_security_desc desc;
    hsb_error err;
    memset(&desc, 0, sizeof desc);
    if (c->cert) {
        desc.identity.chain = hsb_pem_file(c->cert);
        desc.identity.key = hsb_pem_file(c->key);
    } else {
        desc.self_signed_for = "localhost";
    }
    if (c->client_ca)
        desc.trusted = hsb_pem_file(c->client_ca);
    hsb_security *security = hsb_security_new(&desc, &err);
    if (!security)
        common_die("%s", err.text);
    return security;
}

static inline void common_flags(common *c, int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    if (argc > 0)
        common_program = slash ? slash + 1 : argv[0];
    c->port = 8443;
    for (int i = 1; i < argc; i++)
        common_flag(c, argv, &i);
    if (!c->cert != !c->key)
        common_die("--cert and --key go together");
    if (c->require_client_cert && !c->client_ca)
        common_die("--require-client-cert needs --client-ca");
    c->security = common_security(c);
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

/* From now on a signal closes this server, too.                                          */
static inline void common_watch(hsb_server *server)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = common_stop;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    common_servers[common_count] = server;
    common_count = common_count + 1;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (common_stops)
        hsb_server_close(server, common_stops > 1);
}

/* Returns what main returns.                                                             */
static inline int common_end(common *c, hsb_server *server)
{
    common_count = 0;
    hsb_server_free(server);
    hsb_security_free(c->security);
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
    printf("listening on https://%s\n", hsb_address_text(&address, text));
    fflush(stdout);
}

/* --- all of it: one server a thread, all on the same port -------------------------------- */

static inline void *common_thread(void *server)
{
    hsb_error err;
    if (!hsb_server_run(server, &err))
        fprintf(stderr, "%s: %s\n", common_program, err.text);
    return NULL;
}

static inline int common_serve(common *c, const hsb_options *options)
{
    hsb_server *servers[COMMON_THREADS];
    pthread_t threads[COMMON_THREADS];
    hsb_options o = *options;
    int count = c->threads ? c->threads : 1;
    o.shared = count > 1;
    for (int i = 0; i < count; i++) {
        servers[i] = common_bind(c, &o);
        c->port = hsb_server_port(servers[0]);      /* --port 0: the others join this one  */
    }
    for (int i = 1; i < count; i++)
        if (pthread_create(&threads[i], NULL, common_thread, servers[i]) != 0)
            common_die("cannot start a thread");
    common_ready(servers[0]);
    common_thread(servers[0]);
    for (int i = 1; i < count; i++) {
        pthread_join(threads[i], NULL);
        hsb_server_free(servers[i]);
    }
    return common_end(c, servers[0]);
}

#endif
