/* Pebble, the CA for tests of Let's Encrypt, with its DNS server, for the tests beside this; and a
   clock that can be moved.  Include this first: it includes httpsbind.h.                    */
#ifndef TESTS_ACME_PEBBLE_H
#define TESTS_ACME_PEBBLE_H

#include <time.h>

static long leap;                       /* how far ahead the wall clock is, in seconds        */

#ifndef HTTPSBIND_H                     /* tests/fault has included it already, with its own clock */
static __thread int stop_in;            /* this thread is stopped when it asks for the time so often */
static int stop_ms;                     /*   for so long                                      */
static inline int moved_clock(clockid_t which, struct timespec *t)
{
    const struct timespec stop = { 0, stop_ms * 1000000L };
    if (which == CLOCK_MONOTONIC && stop_in > 0 && --stop_in == 0)
        nanosleep(&stop, NULL);
    int result = clock_gettime(which, t);
    if (which == CLOCK_REALTIME)
        t->tv_sec += __atomic_load_n(&leap, __ATOMIC_RELAXED);
    return result;
}

#ifndef HSB__ORDER_POLL_MS
#  define HSB__ORDER_POLL_MS 50
#endif
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#define clock_gettime moved_clock
#include "httpsbind.h"
#undef clock_gettime
#endif

#include "help.h"
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <sys/wait.h>

static inline void set_leap(long seconds)
{
    __atomic_store_n(&leap, seconds, __ATOMIC_RELAXED);
}

static char place[64];                  /* everything of one test                             */

static inline const char *inside(const char *name)
{
    static char paths[8][128];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, 128, "%s/%s", place, name);
    return path;
}

static inline int make_place(void **state)
{
    (void)state;
    set_leap(0);
    snprintf(place, sizeof place, "build/acme-XXXXXX");
    return mkdtemp(place) ? 0 : -1;
}

static inline int remove_place(void **state)
{
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", place);
    return system(command);
}

static inline void write_file(const char *name, const char *text)
{
    FILE *f = fopen(inside(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A port that was free a moment ago. */
static inline int free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &len), 0);
    close(s);
    return ntohs(a.sin_port);
}

static inline bool port_answers(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int s = socket(AF_INET, SOCK_STREAM, 0);
    bool answers = connect(s, (struct sockaddr *)&a, sizeof a) == 0;
    close(s);
    return answers;
}

static inline pid_t start_program(const char *const *argv, const char *log)
{
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child)
        return child;
    int out = open(inside(log), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(out, 1);
    dup2(out, 2);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

static inline void stop_program(pid_t *child)
{
    if (*child > 0) {
        kill(*child, SIGKILL);
        waitpid(*child, NULL, 0);
    }
    *child = 0;
}

static inline void await_port(int port)
{
    for (int i = 0; i < 200 && !port_answers(port); i++)
        usleep(50000);
    assert_true(port_answers(port));
}

typedef struct pebble {
    pid_t pebble, dns;
    int   port, management;
    char  directory[64];
} pebble;

static inline bool have(const char *program)
{
    char command[100];
    snprintf(command, sizeof command, "command -v %s >/dev/null", program);
    return system(command) == 0;
}

/* extra: more members of its configuration, each with a comma before it. */
static inline void pebble_start(pebble *p, int tls_port, int http_port, const char *extra)
{
    char text[1024], dns_address[32], dns_management[32];
    hsb_security_desc api = { .self_signed_for = "localhost", .local_ca = inside("api") };
    hsb_security *s = hsb_security_new(&api, NULL);     /* pebble's own certificate */
    assert_non_null(s);
    hsb_security_free(s);
    p->port = free_port();
    p->management = free_port();
    int dns = free_port(), management = free_port();
    snprintf(p->directory, sizeof p->directory, "https://localhost:%d/dir", p->port);
    snprintf(text, sizeof text,
             "{\"pebble\":{\"listenAddress\":\"127.0.0.1:%d\",\"managementListenAddress\":"
             "\"127.0.0.1:%d\",\"certificate\":\"%s\",\"privateKey\":\"%s\",\"httpPort\":%d,"
             "\"tlsPort\":%d,\"ocspResponderURL\":\"\"%s}}", p->port, p->management,
             inside("api/localhost.pem"), inside("api/localhost.pem"), http_port, tls_port, extra);
    write_file("pebble.json", text);
    snprintf(dns_address, sizeof dns_address, "127.0.0.1:%d", dns);
    snprintf(dns_management, sizeof dns_management, "127.0.0.1:%d", management);
    const char *const dns_argv[] = { "pebble-challtestsrv", "-dns01", dns_address, "-http01", "",
                                     "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "",
                                     "-management", dns_management, NULL };
    const char *const argv[] = { "pebble", "-config", inside("pebble.json"), "-strict",
                                 "-dnsserver", dns_address, NULL };
    setenv("PEBBLE_VA_NOSLEEP", "1", 1);
    p->dns = start_program(dns_argv, "dns.log");
    await_port(management);
    p->pebble = start_program(argv, "pebble.log");
    await_port(p->port);
}

static inline void pebble_stop(pebble *p)
{
    stop_program(&p->pebble);
    stop_program(&p->dns);
}

/* How often the log of pebble says this. */
static inline int pebble_said(const char *text)
{
    char line[4096];
    int count = 0;
    FILE *f = fopen(inside("pebble.log"), "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        count += strstr(line, text) != NULL;
    fclose(f);
    return count;
}

/* --- servers with an acme, each on its thread ------------------------------------------------ */
typedef struct site {
    hsb_acme_desc desc;
    hsb_acme     *acme;
    hsb_server   *server;
    pthread_t     serves, renews;
    int           tls_port, http_port;
    bool          renewing;
    int64_t       shorten;                              /* what is issued holds so many seconds */
    pthread_mutex_t lock;
    int           good, ordering, issued, failed;       /* events                              */
    char          last[700];
    char          all[4096];
    char          folder[128], roots[128];
    int           hooks;                                /* requests and handshakes             */
    int           accepts;
} site;

static inline void site_event(const hsb_acme_event *event, void *user)
{
    site *s = user;
    pthread_mutex_lock(&s->lock);
    s->good += event->state == HSB_ACME_GOOD;
    s->ordering += event->state == HSB_ACME_ORDERING;
    s->issued += event->state == HSB_ACME_ISSUED;
    s->failed += event->state == HSB_ACME_FAILED;
    snprintf(s->last, sizeof s->last, "%s", event->text);
    size_t len = strlen(s->all);
    snprintf(s->all + len, sizeof s->all - len, "%s\n", event->text);
    if (s->shorten && event->state == HSB_ACME_ISSUED) {
        s->acme->times.ends = s->acme->times.begins + s->shorten;
        s->acme->times.renew = s->acme->times.begins + s->shorten / 3 * 2;
    }
    if (getenv("ACME_EVENTS"))
        fprintf(stderr, "%s\n", event->text);
    pthread_mutex_unlock(&s->lock);
}

static inline void site_answer(hsb_request *req, void *user)
{
    site *s = user;
    __atomic_fetch_add(&s->hooks, 1, __ATOMIC_RELAXED);
    hsb_respond(req, 200, "text/plain", hsb_text("by itself\n"));
}

static inline bool site_handshake(hsb_conn *conn, void *user)
{
    site *s = user;
    (void)conn;
    __atomic_fetch_add(&s->hooks, 1, __ATOMIC_RELAXED);
    return true;
}

static inline int site_hooks(site *s)
{
    return __atomic_load_n(&s->hooks, __ATOMIC_RELAXED);
}

static inline void *site_serve(void *user)
{
    site *s = user;
    hsb_server_run(s->server, NULL);
    return NULL;
}

static inline void *site_renew(void *user)
{
    site *s = user;
    hsb_acme_run(s->acme, NULL);
    return NULL;
}

/* The ports, before there is an acme: pebble must know them. */
static inline void site_ports(site *s)
{
    memset(s, 0, sizeof *s);
    s->tls_port = free_port();
    s->http_port = free_port();
    pthread_mutex_init(&s->lock, NULL);
}

static inline void site_open(site *s, const char *const *names, const pebble *p)
{
    hsb_error err;
    hsb_options options = { .hooks = { .on_request = site_answer, .on_handshake = site_handshake,
                                       .user = s } };
    s->desc.names = names;
    s->desc.directory = p->directory;
    s->desc.agree_to_terms = true;
    snprintf(s->folder, sizeof s->folder, "%s", inside("keys"));
    snprintf(s->roots, sizeof s->roots, "%s", inside("api/ca.pem"));
    s->desc.folder = s->folder;
    s->desc.roots = hsb_pem_file(s->roots);
    s->desc.on_event = site_event;
    s->desc.user = s;
    s->acme = hsb_acme_new(&s->desc, &err);
    if (!s->acme)
        fail_msg("%s", err.text);
    s->server = hsb_bind_secure("127.0.0.1", s->tls_port, hsb_acme_security(s->acme), &options, &err);
    if (!s->server)
        fail_msg("%s", err.text);
    assert_int_equal(hsb_server_listen(s->server, "127.0.0.1", s->http_port, NULL, &err), 1);
    assert_true(hsb_server_set_acme(s->server, s->acme, &err));
    assert_int_equal(pthread_create(&s->serves, NULL, site_serve, s), 0);
}

static inline void site_start(site *s)
{
    assert_int_equal(pthread_create(&s->renews, NULL, site_renew, s), 0);
    s->renewing = true;
}

static inline void site_close(site *s)
{
    hsb_acme_stop(s->acme);
    if (s->renewing)
        pthread_join(s->renews, NULL);
    hsb_server_close(s->server, true);
    pthread_join(s->serves, NULL);
    hsb_server_free(s->server);
    hsb_acme_free(s->acme);
    s->acme = NULL;
    s->renewing = false;
}

static inline int site_count(site *s, const int *counter)
{
    pthread_mutex_lock(&s->lock);
    int count = *counter;
    pthread_mutex_unlock(&s->lock);
    return count;
}

/* Until the counter has that value; a failure that was not awaited ends the test. */
static inline void site_await(site *s, const int *counter, int value)
{
    for (int i = 0; i < 1200; i++) {
        if (site_count(s, counter) >= value)
            return;
        if (counter != &s->failed && site_count(s, &s->failed))
            break;
        usleep(25000);
    }
    fail_msg("events:\n%s", s->all);
}

/* The certificate that the port shows for that name; NULL: no handshake.  alpn NULL: none. */
static inline X509 *shown_certificate(int port, const char *name, const char *alpn, int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    SSL *ssl = SSL_new(ctx);
    BIO *bio = BIO_new(BIO_s_connect());
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    BIO_set_conn_hostname(bio, address);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_tlsext_host_name(ssl, name);
    if (alpn) {
        unsigned char list[64];
        list[0] = (unsigned char)strlen(alpn);
        memcpy(list + 1, alpn, list[0]);
        SSL_set_alpn_protos(ssl, list, list[0] + 1u);
    }
    X509 *x = SSL_connect(ssl) == 1 ? SSL_get1_peer_certificate(ssl) : NULL;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return x;
}

/* Whether curl gets the page, trusting pebble's root. */
static inline void assert_trusted(const pebble *p, int port, const char *name)
{
    char command[700];
    snprintf(command, sizeof command,
             "curl -sS --cacert %s https://localhost:%d/roots/0 -o %s && "
             "curl -sS --cacert %s --resolve %s:%d:127.0.0.1 https://%s:%d/ | grep -q 'by itself'",
             inside("api/ca.pem"), p->management, inside("root.pem"), inside("root.pem"), name, port,
             name, port);
    if (system(command) != 0)
        fail_msg("curl does not trust %s", name);
}

#endif
