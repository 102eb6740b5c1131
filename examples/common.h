/* What the examples share: their flags, and for those that show a loop, threads or signals of
   their own, a server to show it with.  An example that does nothing unusual is then

     int main(int argc, char **argv)
     {
         common c = { .about = "says hello", .threads = 1 };
         hsb_options options = { .hooks.on_request = hello };
         common_flags(&c, argc, argv);
         return common_serve(&c, &options);
     }

   and hsb_serve does the rest.  Wrong flags, files that cannot be read and ports that are
   taken: one line on stderr, and exit status 2.  Once the flags are read, an example prints
   with common_print: a reader of its output that stops never stops the server.             */
#ifndef HTTPSBIND_EXAMPLES_COMMON_H
#define HTTPSBIND_EXAMPLES_COMMON_H

#include "httpsbind.h"
#include "posix.h"

#include <pthread.h>
#include <stdarg.h>

enum { COMMON_THREADS = 64 };

typedef struct common {
    const char *about;          /* for --help                                            */
    const char *arguments;      /* what follows the flags, "[DIR]", or NULL              */
    const char *help;           /* lines about flags of the example's own, or NULL       */
    /* Asked about what common_flags does not know: 0: not mine either, 1: mine, 2: mine,
       and the next argument, too.                                                        */
    int       (*flag)(const char *argument, const char *next_or_null);
    int         threads;        /* default of --threads; 0: there is no such flag        */

    const char *address;        /* from here on: what common_flags found; NULL: loopback */
    int         port;
    bool        has_port;       /* --port was given                                      */
    const char *cert, *key, *client_ca;
    bool        require_client_cert;
    hsb_tls_versions versions;
} common;

static const char *common_program = "example";

__attribute__((noreturn)) HSB_PRINTF(1, 2)
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

#if !defined(_WIN32)
/* Whoever starts us may have closed 0, 1 or 2.  Each gets /dev/null; a socket that took such
   a number would be sent what we print.                                                  */
static inline void common_start(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            _exit(2);
    signal(SIGPIPE, SIG_IGN);           /* serve | head                                   */
}

/* One signal at a time.                                                                  */
static inline void common_on_signal(int sig, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(sig, &action, NULL);
}

/* Whether a file of that name is what the system makes of the name.                      */
static inline bool common_is_file_name(hsb_request *req, const char *name)
{
    (void)req, (void)name;
    return true;
}
#else
/* main gets its arguments in the code page of the system, and names are UTF-8 to us.      */
static inline void common_start(int *argc, char ***argv)
{
    WSADATA unused;
    WCHAR **wide = CommandLineToArgvW(GetCommandLineW(), argc);
    char **texts = calloc((size_t)*argc + 1, sizeof *texts);
    for (int i = 0; wide && texts && i < *argc; i++)
        if (!(texts[i] = malloc(PATH_MAX)) || !posix_utf8(wide[i], texts[i], PATH_MAX))
            common_die("an argument is too long");
    if (!wide || !texts || WSAStartup(MAKEWORD(2, 2), &unused) != 0)
        common_die("cannot start");
    for (char *c = texts[0]; c && *c; c++)
        *c = *c == '\\' ? '/' : *c;
    *argv = texts;
}

static void (*common_handlers[NSIG])(int);

/* On a thread of its own.  The system forgets a handler when it calls it.                 */
static inline void common_caught(int sig)
{
    signal(sig, common_caught);
    common_handlers[sig](sig);
}

/* SIGINT is Ctrl-C.                                                                      */
static inline void common_on_signal(int sig, void (*handler)(int))
{
    common_handlers[sig] = handler;
    signal(sig, common_caught);
}

/* Not so: "nul", "a:b", "a.".                                                             */
static inline bool common_is_file_name(hsb_request *req, const char *name)
{
    return hsb_equal(hsb_request_safe_name(req, hsb_text(name)), name);
}
#endif

/* As printf, to 1 or 2; 511 bytes at most.  A reader that has stopped for good misses it: a
   hook must not wait.                                                                    */
HSB_PRINTF(2, 3)
static inline void common_print(int fd, const char *format, ...)
{
    char text[512];                     /* a pipe that has room takes so much at once       */
    struct pollfd output = { fd, POLLOUT, 0 };
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len > 0 && poll(&output, 1, 0) == 1 && (output.revents & POLLOUT) &&
        write(fd, text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1) < 0)
        return;                         /* it has gone, and signals of it are ignored       */
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
    else if ((v = common_value(argv, i, "--port")) != NULL) {
        c->port = common_number("--port", v, 0, 65535);
        c->has_port = true;
    } else if ((v = common_value(argv, i, "--cert")) != NULL)
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

/* What the flags ask for.                                                                */
static inline hsb_security_desc common_security_desc(const common *c)
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
    return desc;
}

static inline void common_flags(common *c, int argc, char **argv)
{
    common_start(&argc, &argv);
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
}

/* Goes into the folder.  The files of the certificate, which SIGHUP reads again, are still found. */
static inline void common_enter(common *c, const char *folder)
{
    static char real[3][PATH_MAX];
    const char **files[] = { &c->cert, &c->key, &c->client_ca };
    for (int i = 0; i < 3; i++)
        if (*files[i] && realpath(*files[i], real[i]))
            *files[i] = real[i];
    if (chdir(folder) != 0)
        common_die("%s: %s", folder, strerror(errno));
}

/* --- a whole program: hsb_serve ----------------------------------------------------------- */

static inline hsb_options common_options(const common *c, const hsb_options *options)
{
    hsb_options o = *options;
    o.request_client_certificate = c->client_ca != NULL;
    o.require_client_certificate = c->require_client_cert;
    return o;
}

/* To change what is in it, before hsb_serve.                                             */
static inline hsb_serve_desc common_desc(const common *c, const hsb_options *options)
{
    hsb_serve_desc desc = { .host = c->address, .port = c->port ? c->port : -1,
                            .threads = c->threads, .security = common_security_desc(c),
                            .options = common_options(c, options) };
    return desc;
}

/* Returns what main returns.                                                             */
static inline int common_serve(const common *c, const hsb_options *options)
{
    hsb_serve_desc desc = common_desc(c, options);
    return hsb_serve(&desc) ? 2 : 0;
}

/* --- by hand: for a loop, threads or signals of one's own --------------------------------- */

static hsb_security *common_security;       /* of common_bind                              */
static hsb_server *common_server;

/* The first signal is patient, the second is not.                                         */
static inline void common_stop(int sig)
{
    static volatile sig_atomic_t again;
    (void)sig;
    hsb_server_close(common_server, again);
    again = 1;
}

static inline hsb_server *common_bind(const common *c, const hsb_options *options)
{
    hsb_options o = common_options(c, options);
    hsb_security_desc desc = common_security_desc(c);
    hsb_error err;
    const char *host = c->address ? c->address : HSB_LOOPBACK_IP_V4;
    common_security = hsb_security_new(&desc, &err);
    common_server = common_security
        ? hsb_bind_secure(host, c->port, common_security, &o, &err) : NULL;
    if (!common_server)
        common_die("%s", err.text);
    common_on_signal(SIGINT, common_stop);
    common_on_signal(SIGTERM, common_stop);
    return common_server;
}

static inline void common_ready(hsb_server *server)
{
    char text[HSB_ADDRESS_TEXT_MAX];
    hsb_address address = hsb_server_address(server, 0);
    common_print(1, "listening on https://%s\n", hsb_address_text(&address, text));
}

/* Returns what main returns.                                                             */
static inline int common_end(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    hsb_server_free(common_server);
    hsb_security_free(common_security);
    return 0;
}

#endif
