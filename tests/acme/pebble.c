/* Certificates from pebble, which validates for real: it connects to the ports of the server, and
   refuses good nonces at random. */
#include "acme/pebble.h"

enum { DAY = 86400 };

static const char *const one_name[] = { "a.test", NULL };

static void wake(site *s)               /* the clock was moved: look again */
{
    hsb__wake_ring(&s->acme->wake);
}

static void first_certificate(int challenge, const char *const *names)
{
    pebble p;
    site s;
    site_ports(&s);
    s.desc.challenge = (hsb_acme_challenge)challenge;
    s.desc.contact = "mailto:somebody@a.test";
    pebble_start(&p, s.tls_port, s.http_port, "");
    site_open(&s, names, &p);
    X509 *before = shown_certificate(s.tls_port, "a.test", NULL, TLS1_3_VERSION);
    assert_non_null(before);                        /* self-signed, until it comes */
    assert_int_equal(X509_NAME_cmp(X509_get_subject_name(before), X509_get_issuer_name(before)), 0);
    X509_free(before);
    while (!site_hooks(&s))
        usleep(1000);                               /* of that handshake */
    int hooks = site_hooks(&s);
    site_start(&s);
    site_await(&s, &s.issued, 1);
    assert_int_equal(site_hooks(&s), hooks);               /* no challenge reached one */
    for (int i = 0; names[i]; i++)
        if (!strchr(names[i], ':'))
            assert_trusted(&p, s.tls_port, names[i]);
    site_close(&s);
    pebble_stop(&p);
}

static void by_tls_alpn_01(void **state)
{
    (void)state;
    first_certificate(HSB_ACME_TLS_ALPN_01, one_name);
}

static void by_http_01(void **state)
{
    (void)state;
    first_certificate(HSB_ACME_HTTP_01, one_name);
}

static void several_names_and_an_address(void **state)
{
    static const char *const names[] = { "a.test", "www.a.test", "b.test", "127.0.0.1", NULL };
    (void)state;
    first_certificate(HSB_ACME_TLS_ALPN_01, names);
    first_certificate(HSB_ACME_HTTP_01, names);
}

static void half_of_the_nonces_are_refused(void **state)
{
    (void)state;
    setenv("PEBBLE_WFE_NONCEREJECT", "30", 1);
    first_certificate(HSB_ACME_TLS_ALPN_01, one_name);
    unsetenv("PEBBLE_WFE_NONCEREJECT");
}

static void an_external_account(void **state)
{
    static const char mac[] = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    static const char extra[] = ",\"externalAccountBindingRequired\":true,\"externalAccountMACKeys\":"
        "{\"kid-1\":\"zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\"}";
    pebble p;
    site s;
    (void)state;
    site_ports(&s);
    pebble_start(&p, s.tls_port, s.http_port, extra);
    site_open(&s, one_name, &p);
    site_start(&s);
    site_await(&s, &s.failed, 1);
    assert_non_null(strstr(s.last, "wants an external account"));
    site_close(&s);
    int tls_port = s.tls_port, http_port = s.http_port;
    site_ports(&s);
    s.tls_port = tls_port;
    s.http_port = http_port;
    s.desc.external_id = "kid-1";
    s.desc.external_key = "AAAA";                   /* not the right one */
    site_open(&s, one_name, &p);
    site_start(&s);
    site_await(&s, &s.failed, 1);
    site_close(&s);
    site_ports(&s);
    s.tls_port = tls_port;
    s.http_port = http_port;
    s.desc.external_id = "kid-1";
    s.desc.external_key = mac;
    site_open(&s, one_name, &p);
    site_start(&s);
    site_await(&s, &s.issued, 1);
    assert_trusted(&p, s.tls_port, "a.test");
    site_close(&s);
    pebble_stop(&p);
}

static void fingerprint(const site *s, unsigned char out[32])
{
    unsigned len = 32;
    X509 *x = shown_certificate(s->tls_port, "a.test", NULL, TLS1_2_VERSION);
    assert_non_null(x);
    X509_digest(x, EVP_sha256(), out, &len);
    X509_free(x);
}

/* Everything happens once more with the same folder and the same ports. */
static void reopen(site *s, const pebble *p, const char *const *names)
{
    int tls_port = s->tls_port, http_port = s->http_port;
    site_ports(s);
    s->tls_port = tls_port;
    s->http_port = http_port;
    site_open(s, names, p);
}

static void a_restart_orders_nothing(void **state)
{
    static const char *const more[] = { "a.test", "b.test", NULL };
    unsigned char first[32], again[32];
    pebble p;
    site s;
    struct stat st;
    (void)state;
    site_ports(&s);
    pebble_start(&p, s.tls_port, s.http_port, "");
    site_open(&s, one_name, &p);
    site_start(&s);
    site_await(&s, &s.issued, 1);
    fingerprint(&s, first);
    site_close(&s);
    assert_int_equal(stat(inside("keys/a.test.pem"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    int orders = pebble_said("Added order");
    assert_within(orders, 1, 1);
    reopen(&s, &p, one_name);
    fingerprint(&s, again);                         /* at once, before the CA is asked */
    assert_memory_equal(first, again, 32);
    site_start(&s);
    site_await(&s, &s.good, 1);
    usleep(500000);
    assert_int_equal(pebble_said("Added order"), orders);
    site_close(&s);
    reopen(&s, &p, more);                           /* but with another name, one more */
    site_start(&s);
    site_await(&s, &s.issued, 1);
    assert_int_equal(s.good, 0);
    assert_trusted(&p, s.tls_port, "b.test");
    assert_int_equal(pebble_said("Added order"), orders + 1);
    site_close(&s);
    pebble_stop(&p);
}

/* The process ends between any two questions; the next one gets its certificate. */
static void a_restart_in_the_middle_of_an_order(void **state)
{
    pebble p;
    site s;
    (void)state;
    site_ports(&s);
    pebble_start(&p, s.tls_port, s.http_port, "");
    for (int ms = 20; ms < 220; ms += 25) {
        site t = s;
        pid_t child = fork();
        assert_int_not_equal(child, -1);
        if (child == 0) {
            pthread_mutex_init(&t.lock, NULL);
            site_open(&t, one_name, &p);
            hsb_acme_run(t.acme, NULL);
            _exit(0);
        }
        usleep((unsigned)ms * 1000);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    reopen(&s, &p, one_name);
    site_start(&s);
    for (int i = 0; i < 1200 && !site_count(&s, &s.issued) && !site_count(&s, &s.good); i++)
        usleep(25000);
    assert_int_equal(s.failed, 0);
    assert_trusted(&p, s.tls_port, "a.test");
    site_close(&s);
    pebble_stop(&p);
}

static void renewal_at_two_thirds(void **state)
{
    unsigned char first[32], again[32];
    pebble p;
    site s;
    (void)state;
    site_ports(&s);
    /* Pebble's certificates hold for years, and its API's own would expire on the way. */
    s.shorten = 10 * DAY;
    pebble_start(&p, s.tls_port, s.http_port, "");
    site_open(&s, one_name, &p);
    site_start(&s);
    site_await(&s, &s.issued, 1);
    fingerprint(&s, first);
    set_leap(10 * DAY / 3 * 2 - 3600);              /* not yet */
    wake(&s);
    usleep(500000);
    assert_int_equal(site_count(&s, &s.ordering), 1);
    set_leap(10 * DAY / 3 * 2 + 60);
    wake(&s);
    site_await(&s, &s.issued, 2);
    fingerprint(&s, again);
    assert_memory_not_equal(first, again, 32);
    assert_trusted(&p, s.tls_port, "a.test");
    site_close(&s);
    pebble_stop(&p);
}

static void a_closed_account(void **state)
{
    pebble p;
    site s;
    (void)state;
    site_ports(&s);
    pebble_start(&p, s.tls_port, s.http_port, "");
    site_open(&s, one_name, &p);
    site_start(&s);
    site_await(&s, &s.issued, 1);
    site_close(&s);
    /* close it, with our own client */
    reopen(&s, &p, one_name);
    assert_true(hsb__order_begin_work(s.acme) && hsb__order_read_directory(s.acme) &&
                hsb__order_load_account_key(s.acme) && hsb__order_open_account(s.acme));
    static const char close_it[] = "{\"status\":\"deactivated\"}";
    hsb__der_out out = { s.acme->work->payload, 0, sizeof s.acme->work->payload, false };
    hsb__json_put(&out, close_it);
    assert_true(hsb__order_post(s.acme, "close", s.acme->work->kid, s.acme->work->kid, &out));
    hsb__order_end_work(s.acme);
    assert_int_equal(unlink(inside("keys/a.test.pem")), 0);
    site_close(&s);
    reopen(&s, &p, one_name);
    site_start(&s);
    site_await(&s, &s.failed, 1);
    assert_non_null(strstr(s.last, "remove account.key from the folder to open another"));
    assert_non_null(strstr(s.last, "next try"));
    X509 *x = shown_certificate(s.tls_port, "a.test", NULL, TLS1_3_VERSION);
    assert_non_null(x);                             /* the server serves */
    X509_free(x);
    site_close(&s);
    assert_int_equal(unlink(inside("keys/account.key")), 0);
    reopen(&s, &p, one_name);
    site_start(&s);
    site_await(&s, &s.issued, 1);
    site_close(&s);
    pebble_stop(&p);
}

/* --- requests during a renewal ------------------------------------------------------------------ */
enum { REQUESTS = 10000 };

static void *ask_often(void *user)
{
    site *s = user;
    static char answer[4096];
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *bio = BIO_new(BIO_s_connect());
    char address[32];
    long good = 0;
    snprintf(address, sizeof address, "127.0.0.1:%d", s->tls_port);
    BIO_set_conn_hostname(bio, address);
    SSL_set_bio(ssl, bio, bio);
    must_be(SSL_connect(ssl) == 1, "the connection");
    for (int i = 0; i < REQUESTS; i++) {
        static const char request[] = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        if (SSL_write(ssl, request, sizeof request - 1) != (int)sizeof request - 1)
            break;
        int len = 0;
        do {
            int n = SSL_read(ssl, answer + len, (int)sizeof answer - 1 - len);
            if (n <= 0)
                return (void *)good;
            len += n;
            answer[len] = '\0';
        } while (!strstr(answer, "by itself\n"));
        good++;
        if (i % 100 == 0)
            usleep(5000);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return (void *)good;
}

static void no_request_is_lost_in_a_renewal(void **state)
{
    pebble p;
    site s;
    pthread_t asker;
    void *good;
    (void)state;
    site_ports(&s);
    s.shorten = 10 * DAY;
    pebble_start(&p, s.tls_port, s.http_port, "");
    site_open(&s, one_name, &p);
    assert_int_equal(pthread_create(&asker, NULL, ask_often, &s), 0);
    site_start(&s);
    site_await(&s, &s.issued, 1);
    set_leap(10 * DAY);
    wake(&s);
    site_await(&s, &s.issued, 2);
    assert_int_equal(pthread_join(asker, &good), 0);
    assert_int_equal((long)good, REQUESTS);
    site_close(&s);
    pebble_stop(&p);
}

static void challenges_show_themselves_to_no_other(void **state)
{
    pebble p;
    site s;
    hsb_error err;
    char command[300];
    (void)state;
    site_ports(&s);
    memset(&p, 0, sizeof p);
    snprintf(p.directory, sizeof p.directory, "https://localhost:1/dir");
    hsb_security_desc api = { .self_signed_for = "localhost", .local_ca = inside("api") };
    hsb_security_free(hsb_security_new(&api, NULL));
    site_open(&s, one_name, &p);
    hsb__order_pending pending = { .name = "a.test", .token = "token-1", .response = "token-1.print" };
    pending.certificate = hsb__order_make_challenge(s.acme, "a.test", pending.response, &err);
    assert_non_null(pending.certificate);
    hsb__order_set_pending(s.acme, &pending);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        usleep(50000);                              /* for the hook of the last handshake */
        int hooks = site_hooks(&s);
        X509 *x = shown_certificate(s.tls_port, "a.test", "acme-tls/1", version);
        assert_non_null(x);
        ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
        int at = X509_get_ext_by_OBJ(x, oid, -1);
        assert_true(at >= 0);
        X509_EXTENSION *extension = X509_get_ext(x, at);
        assert_int_equal(X509_EXTENSION_get_critical(extension), 1);
        unsigned char hash[34] = { 4, 32 };
        SHA256((const unsigned char *)"token-1.print", 13, hash + 2);
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);
        assert_int_equal(ASN1_STRING_length(value), 34);
        assert_memory_equal(ASN1_STRING_get0_data(value), hash, 34);
        GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
        assert_int_equal(sk_GENERAL_NAME_num(names), 1);
        GENERAL_NAMES_free(names);
        ASN1_OBJECT_free(oid);
        X509_free(x);
        assert_null(shown_certificate(s.tls_port, "b.test", "acme-tls/1", version));
        usleep(50000);
        assert_int_equal(site_hooks(&s), hooks);           /* no hook heard of it */
        x = shown_certificate(s.tls_port, "a.test", "http/1.1", version);
        assert_non_null(x);
        assert_int_equal(X509_get_ext_by_NID(x, NID_subject_alt_name, -1) >= 0, 1);
        X509_free(x);
    }
    /* it closes after the handshake, resumes nothing, and serves no request */
    for (int version = 2; version <= 3; version++) {
        snprintf(command, sizeof command, "printf 'GET / HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n' | "
                 "timeout 5 openssl s_client -connect 127.0.0.1:%d -servername a.test -tls1_%d -alpn "
                 "acme-tls/1 -sess_out %s >%s 2>&1", s.tls_port, version, inside("session"),
                 inside("shown"));
        int code = system(command);
        (void)code;
        snprintf(command, sizeof command, "! grep -q 'by itself' %s && grep -q 'ALPN protocol: "
                 "acme-tls/1' %s && ! grep -q 'New Session Ticket arrived' %s", inside("shown"),
                 inside("shown"), inside("shown"));
        assert_int_equal(system(command), 0);
    }
    hsb__order_clear_pending(s.acme);
    assert_null(shown_certificate(s.tls_port, "a.test", "acme-tls/1", TLS1_3_VERSION));
    /* HTTP-01: this token, and no other */
    hsb__order_pending plain = { .name = "a.test", .token = "token-2", .response = "token-2.print" };
    hsb__order_set_pending(s.acme, &plain);
    int hooks = site_hooks(&s);
    snprintf(command, sizeof command, "curl -s http://127.0.0.1:%d/.well-known/acme-challenge/token-2 "
             "| grep -qx 'token-2.print'", s.http_port);
    assert_int_equal(system(command), 0);
    assert_int_equal(site_hooks(&s), hooks);
    snprintf(command, sizeof command, "curl -s http://127.0.0.1:%d/.well-known/acme-challenge/token-1 "
             "| grep -q 'by itself'", s.http_port);
    assert_int_equal(system(command), 0);
    hsb__order_clear_pending(s.acme);
    site_close(&s);
}

int main(void)
{
    if (!have("pebble") || !have("pebble-challtestsrv")) {
        printf("skipped: no pebble, the CA for tests\n[  SKIPPED ] 1 test(s).\n");
        return 0;
    }
#define EACH(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        EACH(by_tls_alpn_01),
        EACH(by_http_01),
        EACH(several_names_and_an_address),
        EACH(half_of_the_nonces_are_refused),
        EACH(an_external_account),
        EACH(a_restart_orders_nothing),
        EACH(a_restart_in_the_middle_of_an_order),
        EACH(renewal_at_two_thirds),
        EACH(a_closed_account),
        EACH(no_request_is_lost_in_a_renewal),
        EACH(challenges_show_themselves_to_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
