/* A new certificate on a running server: who sees which one, what happens to open connections
   and to sessions, and that nothing is lost or kept. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"
#include "visitor.h"

#include <pthread.h>

static void serve(rig *r, const hsb_options *options, const char *name, const char *trusted)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    memset(r, 0, sizeof *r);
    r->on_request = say_ok;
    const hsb_security_desc desc = desc_of(name, trusted);
    rig_open_with(r, options ? *options : o, security_of(&desc));
}

/* As a user does it: the server's own reference is what keeps it. */
static bool renew(rig *r, int listener, const char *name, const char *trusted, hsb_error *err)
{
    const hsb_security_desc desc = desc_of(name, trusted);
    hsb_security *fresh = security_of(&desc);
    bool done = hsb_server_set_security(r->server, listener, fresh, err);
    hsb_security_free(fresh);
    return done;
}

static void assert_shown(const client *c, const char *name)
{
    char path[128];
    unsigned char hash[32], shown[32];
    unsigned len = 32;
    snprintf(path, sizeof path, DATA "%s.pem", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *x509 = PEM_read_X509(f, NULL, NULL, NULL), *peer = SSL_get1_peer_certificate(c->ssl);
    fclose(f);
    assert_non_null(peer);
    X509_digest(x509, EVP_sha256(), hash, &len);
    X509_digest(peer, EVP_sha256(), shown, &len);
    assert_memory_equal(shown, hash, 32);
    X509_free(x509);
    X509_free(peer);
}

static void shows(rig *r, int port, const char *name)
{
    const visitor who = { .port = port };
    visit v;
    visit_start(&v, r, &who);
    assert_true(v.up);
    assert_shown(v.c, name);
    answer a = ask_path(v.c, "GET", "/", "");
    assert_answer(a, 200, "ok");
    hang_up(v.c);
}

static void ask_ok(client *c)
{
    answer a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "ok");
}

/* --- who sees which one ------------------------------------------------------------------------- */
static bool two_accepted(const rig *r)
{
    return r->accepts == 2;
}

/* An open connection and a handshake that has begun keep theirs; the next one does not. */
static void open_ones_keep_theirs(void **state)
{
    const visitor who = { 0 };
    hsb_error err;
    visit open, begun;
    rig r;
    (void)state;
    serve(&r, NULL, "server-p256", NULL);
    visit_start(&open, &r, &who);
    ask_ok(open.c);
    visit_begin(&begun, &r, &who);
    turn_until(&r, two_accepted, "the second client");
    assert_true(renew(&r, -1, "server-renewed", NULL, &err));
    shows(&r, 0, "server-renewed");
    visit_go_on(&begun);
    assert_true(begun.up);
    assert_shown(begun.c, "server-p256");
    ask_ok(begun.c);
    ask_ok(open.c);
    assert_true(renew(&r, 0, "server-rsa2048", NULL, &err));    /* another kind of key, too    */
    shows(&r, 0, "server-rsa2048");
    ask_ok(open.c);
    ask_ok(begun.c);
    hang_up(open.c);
    hang_up(begun.c);
    assert_int_equal(r.errors, 0);
    rig_close(&r);
}

static int listen_more(rig *r, const char *name)
{
    hsb_error err;
    hsb_security *s = NULL;
    if (name) {
        const hsb_security_desc desc = desc_of(name, NULL);
        s = security_of(&desc);
    }
    int index = hsb_server_listen(r->server, "127.0.0.1", 0, s, &err);
    hsb_security_free(s);
    assert_true(index > 0);
    return hsb_server_address(r->server, index).port;
}

/* The one that was meant, or all that speak TLS. */
static void other_listeners(void **state)
{
    hsb_error err;
    rig r;
    (void)state;
    serve(&r, NULL, "server-p256", NULL);
    const int second = listen_more(&r, "server-p384"), plain = listen_more(&r, NULL);
    assert_true(renew(&r, 1, "server-renewed", NULL, &err));
    shows(&r, 0, "server-p256");
    shows(&r, second, "server-renewed");
    assert_true(renew(&r, 0, "server-p384", NULL, &err));
    shows(&r, 0, "server-p384");
    shows(&r, second, "server-renewed");
    assert_true(renew(&r, -1, "server-p256", NULL, &err));
    shows(&r, 0, "server-p256");
    shows(&r, second, "server-p256");
    client *c = client_new(&r, plain, 0);
    ask_ok(c);
    hang_up(c);
    rig_close(&r);
}

static void unsuitable(void **state)
{
    const visitor ann = { .cert = "p256" };
    hsb_options o;
    hsb_error err;
    rig r;
    (void)state;
    for (int require = 0; require < 2; require++) {
        memset(&o, 0, sizeof o);
        o.request_client_certificate = !require;
        o.require_client_certificate = require;
        serve(&r, &o, "server-p256", DATA "ca.pem");
        assert_false(renew(&r, -1, "server-renewed", NULL, &err));
        assert_int_equal(err.status, HSB_ERR_CERT);
        assert_non_null(strstr(err.text, "trust"));
        assert_false(renew(&r, 0, "server-renewed", NULL, NULL));
        visit v;
        visit_start(&v, &r, &ann);
        assert_true(v.up);
        assert_shown(v.c, "server-p256");
        ask_ok(v.c);
        hang_up(v.c);
        assert_true(renew(&r, -1, "server-renewed", DATA "ca.pem", &err));
        visit_start(&v, &r, &ann);
        assert_shown(v.c, "server-renewed");
        ask_ok(v.c);
        hang_up(v.c);
        rig_close(&r);
    }
}

/* --- sessions --------------------------------------------------------------------------------------- */

/* A session belongs to the security that it was made under, even if the new one is of the
   same files. */
static void sessions_end_with_their_security(void **state)
{
    visitor who = { 0 };
    hsb_error err;
    rig r;
    (void)state;
    serve(&r, NULL, "server-p256", NULL);
    visit_twice(&r, &who, &who, true, "ok");
    who.session = visit_once(&r, &who, false, "ok");
    assert_true(renew(&r, -1, "server-p256", NULL, &err));
    SSL_SESSION_free(visit_once(&r, &who, false, "ok"));
    SSL_SESSION_free(who.session);
    who.session = NULL;
    visit_twice(&r, &who, &who, true, "ok");
    rig_close(&r);
}

/* RFC 6066 3: a session is for the name that it was made for. */
static void sessions_are_for_one_name(void **state)
{
    static const char *const names[] = { "localhost", "elsewhere", "" };
    rig r;
    (void)state;
    serve(&r, NULL, "server-p256", NULL);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            const visitor first = { .name = names[i] }, second = { .name = names[k] };
            visit_twice(&r, &first, &second, i == k, "ok");
        }
    const visitor lower = { .name = "localhost" }, upper = { .name = "LOCALHOST" };
    visit_twice(&r, &lower, &upper, true, "ok");
    rig_close(&r);
}

/* Two servers with one security. */
typedef struct pair { rig a, b; } pair;

static void pair_open(pair *p, const hsb_options *a, const hsb_options *b)
{
    const hsb_security_desc desc = desc_of("server-p256", DATA "ca.pem");
    hsb_security *s = security_of(&desc), *again = s;
    memset(p, 0, sizeof *p);
    p->a.on_request = p->b.on_request = say_ok;
    hsb__security_retain(again);                /* each rig takes one */
    rig_open_with(&p->a, *a, s);
    rig_open_with(&p->b, *b, again);
}

static void pair_close(pair *p)
{
    rig_close(&p->b);
    rig_close(&p->a);
}

static void resumes_at(pair *p, const visitor *who, bool resumed)
{
    visitor again = *who;
    again.session = visit_once(&p->a, who, false, "ok");
    SSL_SESSION_free(visit_once(&p->b, &again, resumed, "ok"));
    SSL_SESSION_free(again.session);
}

static void same_security_same_sessions(void **state)
{
    const visitor who = { 0 };
    hsb_options o;
    pair p;
    (void)state;
    memset(&o, 0, sizeof o);
    pair_open(&p, &o, &o);
    resumes_at(&p, &who, true);
    pair_close(&p);
}

/* Where nobody was asked, nobody proved anything. */
static void another_setting_another_session(void **state)
{
    const visitor ann = { .cert = "p256" };
    (void)state;
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            hsb_options at_a, at_b;
            pair p;
            memset(&at_a, 0, sizeof at_a);
            at_b = at_a;
            at_a.request_client_certificate = a == 1;
            at_a.require_client_certificate = a == 2;
            at_b.request_client_certificate = b == 1;
            at_b.require_client_certificate = b == 2;
            pair_open(&p, &at_a, &at_b);
            resumes_at(&p, &ann, a == b);
            pair_close(&p);
        }
}

/* The session of somebody without a certificate opens no door that wants one. */
static void no_way_around(void **state)
{
    visitor nobody = { 0 };
    hsb_options open, strict;
    pair p;
    (void)state;
    memset(&open, 0, sizeof open);
    strict = open;
    strict.require_client_certificate = true;
    for (int request = 0; request < 2; request++) {
        open.request_client_certificate = request;
        pair_open(&p, &open, &strict);
        nobody.session = visit_once(&p.a, &nobody, false, "ok");
        visit_refused(&p.b, &nobody, visitor_version == TLS1_3_VERSION
                                         ? SSL_AD_CERTIFICATE_REQUIRED : SSL_AD_HANDSHAKE_FAILURE,
                      "TLS: client certificate: none was sent");
        assert_int_equal(p.b.handshakes, 0);
        SSL_SESSION_free(nobody.session);
        nobody.session = NULL;
        pair_close(&p);
    }
}

/* A session belongs to the protocol that was agreed on.  (A client that offers others is
   refused, also with a session: unit/tls_alerts.c.) */
static const char *agreed(hsb_conn *conn)
{
    const char *alpn = hsb_conn_tls(conn)->alpn;
    return alpn ? alpn : "none";
}

static void say_alpn(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond(req, 200, "text/plain", hsb_text(agreed(hsb_request_conn(req))));
}

static void alpn_on_resumption(void **state)
{
    static const struct { const char *offer, *agreed; } c[] = {
        { "\x08http/1.1", "http/1.1" },
        { "\x02h2\x08http/1.1", "http/1.1" },
        { NULL, "none" },
    };
    rig r;
    (void)state;
    serve(&r, NULL, "server-p256", NULL);
    r.on_request = say_alpn;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            visitor who = { .alpn = c[i].offer };
            SSL_SESSION *session = visit_once(&r, &who, false, c[i].agreed);
            who.alpn = c[k].offer;
            who.session = session;
            SSL_SESSION_free(visit_once(&r, &who, strcmp(c[i].agreed, c[k].agreed) == 0,
                                        c[k].agreed));
            SSL_SESSION_free(session);
        }
    assert_int_equal(r.errors, 0);
    rig_close(&r);
}

/* --- many renewals under load -------------------------------------------------------------------------
   One thread renews and serves, another asks as fast as it can: in turn on a connection that
   stays, on new ones, and on new ones that want to resume. */
typedef struct load {
    rig        *r;
    int         stop;                   /* atomic                                               */
    long        asked, answered, new_ones, resumed, failed;
    hsb_server *server;
} load;

static bool load_ask(load *l, SSL *ssl)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char got[4096];
    size_t len = 0;
    l->asked++;
    if (SSL_write(ssl, text, sizeof text - 1) != sizeof text - 1)
        return false;
    while (len < 2 || memcmp(got + len - 2, "ok", 2) != 0) {
        int n = SSL_read(ssl, got + len, (int)(sizeof got - len));
        if (n <= 0)
            return false;
        len += (size_t)n;
    }
    l->answered += memcmp(got, "HTTP/1.1 200 ", 13) == 0;
    return true;
}

static SSL *load_connect(load *l, SSL_SESSION *session)
{
    const visitor who = { .session = session };
    struct sockaddr_in to;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)l->r->port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    SSL *ssl = visitor_ssl(&who);
    SSL_set_fd(ssl, fd);
    l->new_ones++;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && SSL_connect(ssl) == 1)
        l->resumed += SSL_session_reused(ssl);
    else
        l->failed++;
    return ssl;
}

static void load_disconnect(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);
    if (SSL_is_init_finished(ssl))
        SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

static void *load_run(void *arg)
{
    load *l = arg;
    SSL *kept = load_connect(l, NULL);
    SSL_SESSION *session = SSL_get1_session(kept);
    do {
        if (!load_ask(l, kept))
            l->failed++;
        SSL *fresh = load_connect(l, session);
        if (!load_ask(l, fresh))
            l->failed++;
        SSL_SESSION_free(session);
        session = SSL_get1_session(fresh);
        load_disconnect(fresh);
    } while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE) && l->failed == 0);
    SSL_SESSION_free(session);
    load_disconnect(kept);
    __atomic_store_n(&l->stop, 2, __ATOMIC_RELEASE);
    hsb_server_wake(l->server);
    return NULL;
}

static bool load_ended(const rig *r)
{
    return __atomic_load_n(&((const load *)r->data)->stop, __ATOMIC_ACQUIRE) == 2;
}

static void many_renewals(void **state)
{
    static const char *const names[] = { "server-p256", "server-renewed", "server-p384" };
    const long times = scaled("RENEWALS", 32);
    heap kept = { 0, 0 };               /* what the securities hold                             */
    pthread_t thread;
    rig r;
    load l;
    (void)state;
    memset(&l, 0, sizeof l);
    serve(&r, NULL, "server-p256", NULL);
    visitor_context();
    l.r = &r;
    l.server = r.server;
    r.data = &l;
    assert_int_equal(pthread_create(&thread, NULL, load_run, &l), 0);
    for (long i = 0; i < times; i++) {
        hsb_security_desc desc = desc_of(names[i % 3], NULL);
        hsb_error err;
        desc.allocator.alloc = heap_alloc;
        desc.allocator.release = heap_release;
        desc.allocator.user = &kept;
        hsb_security *fresh = security_of(&desc);
        assert_true(hsb_server_set_security(r.server, -1, fresh, &err));
        hsb_security_free(fresh);
        const int wanted = r.requests + 1 + (int)(i % 8);       /* time to resume, sometimes     */
        for (int k = 0; k < 1000 && r.requests < wanted; k++)
            turn(&r, 10);
    }
    __atomic_store_n(&l.stop, 1, __ATOMIC_RELEASE);
    turn_until(&r, load_ended, "the load's end");
    pthread_join(thread, NULL);
    turn_until(&r, all_closed, "the last goodbye");
    print_message("%ld renewals, %ld requests, %ld connections, %ld of them resumed\n", times,
                  l.asked, l.new_ones, l.resumed);
    assert_int_equal(l.failed, 0);
    assert_int_equal(l.answered, l.asked);
    assert_int_equal(r.requests, l.asked);
    assert_true(l.asked >= times);
    assert_true(l.resumed > 0 && l.resumed < l.new_ones);
    assert_int_equal(r.errors, 0);
    rig_close(&r);
    assert_int_equal(kept.blocks, 0);
    assert_int_equal(kept.bytes, 0);
}

/* What is not used any more is gone, not at the end only: one security at a time is held. */
static void old_ones_go(void **state)
{
    heap kept = { 0, 0 };
    size_t one = 0;
    rig r;
    (void)state;
    serve(&r, NULL, "server-p256", NULL);
    for (int i = 0; i < 20; i++) {
        hsb_security_desc desc = desc_of("server-renewed", NULL);
        desc.allocator.alloc = heap_alloc;
        desc.allocator.release = heap_release;
        desc.allocator.user = &kept;
        hsb_security *fresh = security_of(&desc);
        assert_true(hsb_server_set_security(r.server, -1, fresh, NULL));
        hsb_security_free(fresh);
        one = one ? one : kept.blocks;
        assert_int_equal(kept.blocks, one);
    }
    visit v;
    const visitor who = { 0 };
    visit_start(&v, &r, &who);                  /* holds the last of them                       */
    assert_true(renew(&r, -1, "server-p256", NULL, NULL));
    assert_true(kept.blocks >= one);
    ask_ok(v.c);
    hang_up(v.c);
    turn_until(&r, all_closed, "the goodbye");
    assert_int_equal(kept.blocks, 0);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_ones_keep_theirs),
        cmocka_unit_test(other_listeners),
        cmocka_unit_test(unsuitable),
        cmocka_unit_test(sessions_end_with_their_security),
        cmocka_unit_test(sessions_are_for_one_name),
        cmocka_unit_test(same_security_same_sessions),
        cmocka_unit_test(another_setting_another_session),
        cmocka_unit_test(no_way_around),
        cmocka_unit_test(alpn_on_resumption),
        cmocka_unit_test(old_ones_go),
        cmocka_unit_test(many_renewals),
    };
    return visitors_of_both_versions("renewal", tests);
}
