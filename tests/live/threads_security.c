/* Keys are loaded on one thread while others shake hands: nobody waits for anybody, and what
   is shared - a security and its sessions - is locked.  ThreadSanitizer runs this, too. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"
#include "tls/visitor.h"

#include <pthread.h>

enum { SERVERS = 2, CLIENTS = 2 };

typedef struct party {
    hsb_security *security;             /* of all servers                                       */
    hsb_server   *servers[SERVERS];
    pthread_t     threads[SERVERS];
    heap          heap;                 /* of all securities, which all threads use             */
    int           port;
    int           clients_done;         /* atomic                                               */
    long          visits;               /* of each client                                       */
} party;

static void answer_ok(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond(req, 200, "text/plain", hsb_text("ok"));
}

static void no_error(hsb_server *server, hsb_conn *conn, const hsb_error *err, void *user)
{
    (void)server, (void)conn, (void)user;
    fprintf(stderr, "told: %s\n", err->text);
    abort();                            /* an assertion of cmocka belongs to its own thread     */
}

static void *run(void *server)
{
    hsb_error err;
    if (!hsb_server_run(server, &err))
        no_error(server, NULL, &err, NULL);
    return NULL;
}

static hsb_security *security_on(heap *h, const char *name)
{
    hsb_security_desc desc = desc_of(name, DATA "ca.pem");
    desc.allocator.alloc = heap_alloc;
    desc.allocator.release = heap_release;
    desc.allocator.user = h;
    return security_of(&desc);
}

static void party_open(party *p, long visits)
{
    hsb_options o;
    hsb_error err;
    memset(&o, 0, sizeof o);
    memset(p, 0, sizeof *p);
    signal(SIGPIPE, SIG_IGN);
    o.shared = true;
    o.request_client_certificate = true;
    o.hooks.on_request = answer_ok;
    o.hooks.on_error = no_error;
    p->visits = visits;
    p->security = security_on(&p->heap, "server-p256");
    for (int i = 0; i < SERVERS; i++) {
        p->servers[i] = hsb_bind_secure("127.0.0.1", p->port, p->security, &o, &err);
        if (!p->servers[i])
            fail_msg("%s", err.text);
        p->port = hsb_server_port(p->servers[i]);
    }
    for (int i = 0; i < SERVERS; i++)
        assert_int_equal(pthread_create(&p->threads[i], NULL, run, p->servers[i]), 0);
}

static void party_close(party *p)
{
    for (int i = 0; i < SERVERS; i++)
        hsb_server_close(p->servers[i], false);
    for (int i = 0; i < SERVERS; i++) {
        pthread_join(p->threads[i], NULL);
        hsb_server_free(p->servers[i]);
    }
    hsb_security_free(p->security);
    assert_int_equal(p->heap.blocks, 0);
    assert_int_equal(p->heap.bytes, 0);
}

/* --- clients, each on a thread ------------------------------------------------------------------ */
typedef struct guest {
    party       *p;
    SSL_CTX     *context;
    SSL_SESSION *session;
    bool         with_certificate;
    long         full, resumed, failed;
    pthread_t    thread;
} guest;

static int guest_connect(const guest *g)
{
    struct sockaddr_in to;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)g->p->port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        fprintf(stderr, "connect: %s\n", strerror(errno));
    return fd;
}

static bool guest_ask(SSL *ssl)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char got[1024];
    size_t len = 0;
    int n = SSL_write(ssl, text, sizeof text - 1);
    while (n > 0 && len < sizeof got && (len < 2 || memcmp(got + len - 2, "ok", 2) != 0)) {
        n = SSL_read(ssl, got + len, (int)(sizeof got - len));
        len += n > 0 ? (size_t)n : 0;
    }
    return n > 0 && memcmp(got, "HTTP/1.1 200 ", 13) == 0;
}

/* Every other visit begins anew, the next one resumes it, maybe on another thread's server. */
static void guest_visit(guest *g, bool anew)
{
    int fd = guest_connect(g);
    SSL *ssl = SSL_new(g->context);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, (char *)(uintptr_t)"localhost");
    if (!anew)
        SSL_set_session(ssl, g->session);
    if (SSL_connect(ssl) == 1 && guest_ask(ssl)) {
        if (SSL_session_reused(ssl))
            g->resumed++;
        else
            g->full++;
        SSL_SESSION_free(g->session);
        g->session = SSL_get1_session(ssl);
        SSL_shutdown(ssl);
    } else {
        g->failed++;
    }
    SSL_free(ssl);
    close(fd);
}

static void *guest_run(void *arg)
{
    guest *g = arg;
    for (long i = 0; i < g->p->visits; i++)
        guest_visit(g, i % 2 == 0);
    SSL_SESSION_free(g->session);
    __atomic_add_fetch(&g->p->clients_done, 1, __ATOMIC_ACQ_REL);
    return NULL;
}

static void guest_start(guest *g, party *p, bool with_certificate)
{
    memset(g, 0, sizeof *g);
    g->p = p;
    g->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(g->context, TLS1_2_VERSION);
    SSL_CTX_set_options(g->context, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(g->context, SSL_SESS_CACHE_OFF);
    if (with_certificate) {
        SSL_CTX_use_certificate_file(g->context, DATA "client-p256.pem", SSL_FILETYPE_PEM);
        SSL_CTX_use_PrivateKey_file(g->context, DATA "client-p256.key", SSL_FILETYPE_PEM);
    }
    assert_int_equal(pthread_create(&g->thread, NULL, guest_run, g), 0);
}

static void guests_end(guest *g, int count)
{
    for (int i = 0; i < count; i++) {
        pthread_join(g[i].thread, NULL);
        SSL_CTX_free(g[i].context);
        assert_int_equal(g[i].failed, 0);
        assert_int_equal(g[i].full, (g->p->visits + 1) / 2);
        assert_int_equal(g[i].resumed, g->p->visits / 2);
    }
}

static bool guests_left(const party *p, int count)
{
    return __atomic_load_n(&p->clients_done, __ATOMIC_ACQUIRE) == count;
}

/* --- what goes on meanwhile ----------------------------------------------------------------------- */
static void keys_are_loaded_beside_handshakes(void **state)
{
    static const char *const names[] = { "server-p256", "server-rsa2048", "server-p384",
                                         "server-several" };
    guest guests[CLIENTS];
    party p;
    long loaded = 0;
    (void)state;
    party_open(&p, scaled("VISITS", 40));
    for (int i = 0; i < CLIENTS; i++)
        guest_start(&guests[i], &p, i % 2);
    do {
        hsb_security_free(security_on(&p.heap, names[loaded % 4]));
        loaded++;
    } while (!guests_left(&p, CLIENTS) && loaded < 1000000);
    guests_end(guests, CLIENTS);
    print_message("%ld keys were loaded meanwhile\n", loaded);
    party_close(&p);
}

/* Bad ones, too: their errors are no business of others. */
static void bad_keys_beside_handshakes(void **state)
{
    guest guests[CLIENTS];
    party p;
    (void)state;
    party_open(&p, scaled("VISITS", 40) / 2);
    for (int i = 0; i < CLIENTS; i++)
        guest_start(&guests[i], &p, i % 2);
    do {
        hsb_security_desc desc = desc_of("server-p256", NULL);
        hsb_error err;
        desc.identity.key = hsb_pem_file(DATA "server-p384.key");
        desc.allocator.alloc = heap_alloc;
        desc.allocator.release = heap_release;
        desc.allocator.user = &p.heap;
        assert_null(hsb_security_new(&desc, &err));
        assert_int_equal(err.status, HSB_ERR_KEY);
    } while (!guests_left(&p, CLIENTS));
    guests_end(guests, CLIENTS);
    party_close(&p);
}

/* A renewal of all servers, each on its own thread, as a program with several has to do it. */
typedef struct renewal { hsb_security *fresh; int *left; } renewal;

static void renew(hsb_server *server, void *arg)
{
    renewal *one = arg;
    hsb_error err;
    if (!hsb_server_set_security(server, -1, one->fresh, &err))
        no_error(server, NULL, &err, NULL);
    hsb_security_free(one->fresh);
    __atomic_sub_fetch(one->left, 1, __ATOMIC_ACQ_REL);
    free(one);
}

static void *guest_run_through_renewals(void *arg)
{
    guest *g = arg;
    for (long i = 0; i < g->p->visits; i++)
        guest_visit(g, i % 4 == 0);
    SSL_SESSION_free(g->session);
    __atomic_add_fetch(&g->p->clients_done, 1, __ATOMIC_ACQ_REL);
    return NULL;
}

static void renewals_of_several_servers(void **state)
{
    guest g;
    party p;
    int left = 0, renewals = 0;
    (void)state;
    party_open(&p, scaled("VISITS", 40));
    memset(&g, 0, sizeof g);
    g.p = &p;
    g.context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(g.context, TLS1_2_VERSION);
    SSL_CTX_set_session_cache_mode(g.context, SSL_SESS_CACHE_OFF);
    assert_int_equal(pthread_create(&g.thread, NULL, guest_run_through_renewals, &g), 0);
    while (!guests_left(&p, 1)) {
        if (__atomic_load_n(&left, __ATOMIC_ACQUIRE)) {
            usleep(200);                        /* the last one has not arrived everywhere      */
            continue;
        }
        hsb_security *fresh = security_on(&p.heap, renewals++ % 2 ? "server-p256" : "server-p384");
        left = SERVERS;
        for (int i = 0; i < SERVERS; i++) {
            renewal *one = malloc(sizeof *one);
            assert_non_null(one);
            one->fresh = fresh;
            one->left = &left;
            hsb__security_retain(fresh);        /* as two calls of hsb_security_new would       */
            assert_true(hsb_server_post(p.servers[i], 0, renew, one));
        }
        hsb_security_free(fresh);
    }
    pthread_join(g.thread, NULL);
    SSL_CTX_free(g.context);
    assert_int_equal(g.failed, 0);
    assert_int_equal(g.full + g.resumed, p.visits);
    assert_true(renewals > 0);
    party_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_loaded_beside_handshakes),
        cmocka_unit_test(bad_keys_beside_handshakes),
        cmocka_unit_test(renewals_of_several_servers),
    };
    return cmocka_run_group_tests_name("keys and handshakes on several threads", tests, NULL, NULL);
}
