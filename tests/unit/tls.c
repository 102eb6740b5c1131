/* >>tls and >>policy: an engine of ours against an OpenSSL client, joined by memory.  What may
   go wrong with BearSSL 0.6 in a server is a test here, on full and on resumed handshakes. */
static const char *failing;             /* the system call that fails */
#define HSB_FAULT(call, count) ((void)(count), failing && !strcmp(call, failing) ? EIO : 0)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

static const hsb_tls_info *info(const help_pair *p)
{
    assert_non_null(hsb__tls_info_of(p->tls));
    return hsb__tls_info_of(p->tls);
}

/* --- handshakes ------------------------------------------------------------------- */

static void every_kind_of_key(void **state)
{
    static const char *const kinds[] = { "p256", "p384", "p521", "rsa2048", "rsa3072",
                                         "rsa4096", "under-rsa", "intermediate" };
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char chain[64], key[64];
        snprintf(chain, sizeof chain, DATA "server-%s.pem", kinds[i]);
        snprintf(key, sizeof key, DATA "server-%s.key", kinds[i]);
        const hsb_security_desc desc = help_desc(chain, key);
        const help_client client = { .name = "localhost", .alpn = "\x02h2\x08http/1.1" };
        help_server s;
        help_pair p;
        help_server_open(&s, &desc);
        help_open(&p, &s, &client);
        assert_null(hsb__tls_info_of(p.tls));
        help_run(&p);
        help_expect_open(&p);
        assert_int_equal(info(&p)->version, 0x0303);
        const SSL_CIPHER *cipher = SSL_get_current_cipher(p.ssl);
        assert_string_equal(info(&p)->suite_name, SSL_CIPHER_standard_name(cipher));
        assert_int_equal(info(&p)->suite, SSL_CIPHER_get_protocol_id(cipher));
        assert_string_equal(info(&p)->alpn, "http/1.1");
        assert_string_equal(info(&p)->server_name, "localhost");
        assert_false(info(&p)->resumed);
        assert_null(info(&p)->client);
        assert_int_equal(SSL_get_negotiated_group(p.ssl), NID_X25519);
        help_exchange(&p);
        help_close(&p);
        help_server_close(&s);
    }
}

static void self_signed(void **state)
{
    const help_client client = { .name = "example.org" };
    (void)state;
    hsb_security_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.self_signed_for = "example.org";
    help_server s;
    help_server_open(&s, &desc);
    SSL_SESSION_free(help_visit(&s, &client, false));
    help_server_close(&s);
}

static void bulk(void **state)
{
    static const char *const suites[] = { "AES128-GCM-SHA256", "AES256-GCM-SHA384",
                                          "CHACHA20-POLY1305", "AES128-SHA256",
                                          "AES256-SHA384" };
    static char sent[200000];
    (void)state;
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)('a' + i * 7 % 26);
    sent[sizeof sent - 1] = '\0';
    hsb_security_desc desc = help_usual();
    desc.ciphers = HSB_CIPHERS_COMPATIBLE;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "ECDHE-ECDSA-%s", suites[i]);
        const help_client client = { .suites = name };
        help_pair p;
        help_open(&p, &s, &client);
        help_run(&p);
        help_expect_open(&p);
        assert_string_equal(SSL_get_cipher(p.ssl), name);
        help_server_write(&p, sent, sizeof sent - 1);
        assert_int_equal(strcmp(help_client_read(&p), sent), 0);
        for (size_t at = 0; at + 50000 < sizeof sent; at += 50000)
            assert_int_equal(SSL_write(p.ssl, sent + at, 50000), 50000);
        assert_int_equal(memcmp(help_server_read(&p), sent, 150000), 0);
        help_close(&p);
    }
    help_server_close(&s);
}

/* A Certificate message of several records, larger than the place where flights are
   gathered. */
static void long_chain(void **state)
{
    const hsb_security_desc desc = help_desc(DATA "client-chain100.pem",
                                             DATA "client-chain100.key");
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    for (size_t cut = 0; cut < 2000; cut += 700) {
        help_open(&p, &s, &(help_client){ 0 });
        p.cut = cut;
        help_run(&p);
        help_expect_open(&p);
        assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(p.ssl)), 100);
        help_exchange(&p);
        help_close(&p);
    }
    help_server_close(&s);
}

/* In a handshake the server answers with one packet, whether it resumes or not. */
static void flights(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    help_client client = { .name = "localhost" };
    for (int resumed = 0; resumed < 2; resumed++) {
        help_pair p;
        help_open(&p, &s, &client);
        int packets = 0;
        for (int i = 0; i < 10; i++) {
            help_move_client(&p);
            while (help_move_bytes(&p))
                ;
            for (hsb_str records; (records = hsb__tls_records(p.tls)).len; packets++) {
                assert_int_equal(BIO_write(p.in, records.ptr, (int)records.len), records.len);
                hsb__tls_records_sent(p.tls, records.len);
            }
        }
        assert_int_equal(packets, resumed ? 1 : 2);
        help_run(&p);
        help_expect_open(&p);
        client.session = resumed ? client.session : SSL_get1_session(p.ssl);
        SSL_set_shutdown(p.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        help_close(&p);
    }
    SSL_SESSION_free(client.session);
    help_server_close(&s);
}

/* --- suites, curves, signatures --------------------------------------------------- */

static void choose(help_server *s, const char *offered, const char *chosen)
{
    const help_client client = { .suites = offered };
    help_pair p;
    help_open(&p, s, &client);
    help_run(&p);
    if (chosen) {
        help_expect_open(&p);
        assert_string_equal(SSL_get_cipher(p.ssl), chosen);
    } else {
        help_expect_dead(&p, 40, "TLS: the client has no suite, curve or signature of ours");
    }
    help_close(&p);
}

#define AES128 "ECDHE-ECDSA-AES128-GCM-SHA256"
#define AES256 "ECDHE-ECDSA-AES256-GCM-SHA384"
#define CHACHA "ECDHE-ECDSA-CHACHA20-POLY1305"
#define CBC128 "ECDHE-ECDSA-AES128-SHA256"

static void suites(void **state)
{
    hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    s.security->crypto.aes_is_fast = true;
    hsb__security_order_suites(s.security, HSB_CIPHERS_MODERN);
    choose(&s, AES256 ":" AES128 ":" CHACHA, AES128);
    choose(&s, AES256 ":" CHACHA, AES256);
    choose(&s, CHACHA ":" AES128, CHACHA);
    choose(&s, "ECDHE-RSA-CHACHA20-POLY1305:" AES128 ":" CHACHA, CHACHA);
    choose(&s, "AES128-GCM-SHA256:" CHACHA ":" AES128, CHACHA);  /* the first one we know */
    choose(&s, CBC128, NULL);
    choose(&s, "ECDHE-ECDSA-AES128-SHA", NULL);
    choose(&s, "AES128-GCM-SHA256:AES128-SHA", NULL);
    choose(&s, "ECDHE-RSA-AES128-GCM-SHA256", NULL);                 /* our key is EC */
    s.security->crypto.aes_is_fast = false;
    hsb__security_order_suites(s.security, HSB_CIPHERS_MODERN);
    choose(&s, AES256 ":" AES128 ":" CHACHA, CHACHA);
    choose(&s, AES256 ":" AES128, AES128);
    hsb__security_order_suites(s.security, HSB_CIPHERS_COMPATIBLE);
    choose(&s, CBC128 ":" AES256, AES256);
    choose(&s, CBC128, CBC128);
    help_server_close(&s);
}

static void curves_and_signatures(void **state)
{
    static const struct { const char *key, *curves, *signatures; int group; } cases[] = {
        { "p256", "X25519:P-256", NULL, NID_X25519 },
        { "p256", "P-256:X25519", NULL, NID_X25519 },
        { "p256", "P-384:P-256", NULL, NID_X9_62_prime256v1 },
        { "p256", "P-521:P-384", NULL, 0 },             /* cannot verify our key */
        { "p384", "X25519:P-384", NULL, NID_X25519 },
        { "p384", "X25519:P-256", NULL, 0 },
        { "rsa2048", "P-521", NULL, NID_secp521r1 },
        { "rsa2048", "X448", NULL, 0 },
        { "p256", NULL, "ECDSA+SHA512:ECDSA+SHA384", NID_X25519 },
        { "p256", NULL, "ECDSA+SHA1", 0 },
        { "p256", NULL, "RSA+SHA256", 0 },
        { "rsa2048", NULL, "RSA+SHA1", 0 },
        { "rsa2048", NULL, "RSA-PSS+SHA256", 0 },
        { "rsa2048", NULL, "RSA-PSS+SHA256:RSA+SHA512", NID_X25519 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char chain[64], key[64];
        snprintf(chain, sizeof chain, DATA "server-%s.pem", cases[i].key);
        snprintf(key, sizeof key, DATA "server-%s.key", cases[i].key);
        const hsb_security_desc desc = help_desc(chain, key);
        const help_client client = { .curves = cases[i].curves,
                                     .signatures = cases[i].signatures };
        help_server s;
        help_pair p;
        help_server_open(&s, &desc);
        help_open(&p, &s, &client);
        help_run(&p);
        if (cases[i].group) {
            help_expect_open(&p);
            assert_int_equal(SSL_get_negotiated_group(p.ssl), cases[i].group);
        } else {
            help_expect_dead(&p, 40,
                             "TLS: the client has no suite, curve or signature of ours");
        }
        help_close(&p);
        help_server_close(&s);
    }
}

static void versions(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    const help_client old = { .suites = "ALL:@SECLEVEL=0", .max_version = TLS1_1_VERSION };
    help_open(&p, &s, &old);
    help_run(&p);
    help_expect_dead(&p, 70, "TLS: the client does not speak TLS 1.2");
    help_close(&p);
    const help_client new = { .min_version = TLS1_3_VERSION, .max_version = TLS1_3_VERSION };
    help_open(&p, &s, &new);
    help_run(&p);
    help_expect_dead(&p, 40, "TLS: the client has no suite, curve or signature of ours");
    help_close(&p);
    const help_client both = { .max_version = TLS1_3_VERSION };
    SSL_SESSION_free(help_visit(&s, &both, false));
    help_server_close(&s);
}

/* --- who is shown ----------------------------------------------------------------- */

static void show(help_server *s, const char *name, const char *suites_offered,
                 const char *file)
{
    const help_client client = { .name = name, .suites = suites_offered };
    help_pair p;
    help_open(&p, s, &client);
    help_run(&p);
    help_expect_open(&p);
    BIO *bio = BIO_new_file(file, "r");
    X509 *wanted = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    X509 *shown = SSL_get1_peer_certificate(p.ssl);
    assert_int_equal(X509_cmp(wanted, shown), 0);
    X509_free(wanted);
    X509_free(shown);
    BIO_free(bio);
    help_close(&p);
}

static void identities(void **state)
{
    const hsb_identity more[] = {
        help_identity(DATA "server-www.pem", DATA "server-www.key"),
        help_identity(DATA "server-www-rsa.pem", DATA "server-www-rsa.key"),
        help_identity(DATA "server-wildcard.pem", DATA "server-wildcard.key"),
        help_identity(DATA "server-several.pem", DATA "server-several.key"),
        help_identity(DATA "server-mixed-case.pem", DATA "server-mixed-case.key"),
        help_identity(DATA "server-rsa2048.pem", DATA "server-rsa2048.key"),
    };
    hsb_security_desc desc = help_usual();
    (void)state;
    desc.identities = more;
    desc.identity_count = 6;
    help_server s;
    help_server_open(&s, &desc);
    const char *const rsa = "ECDHE-RSA-AES128-GCM-SHA256", *const any = "ECDHE";
    show(&s, NULL, any, DATA "server-p256.pem");
    show(&s, NULL, rsa, DATA "server-rsa2048.pem");  /* shares the default's names */
    show(&s, "elsewhere.test", any, DATA "server-p256.pem");
    show(&s, "www.example.org", any, DATA "server-www.pem");
    show(&s, "WWW.Example.Org", any, DATA "server-www.pem");
    show(&s, "www.example.org.", any, DATA "server-www.pem");
    show(&s, "www.example.org", rsa, DATA "server-www-rsa.pem");
    show(&s, "mail.example.org", any, DATA "server-wildcard.pem");
    show(&s, "a.mail.example.org", any, DATA "server-p256.pem");
    show(&s, "example.org", any, DATA "server-p256.pem");
    show(&s, "example.net", any, DATA "server-several.pem");
    show(&s, "b.example.net", any, DATA "server-several.pem");
    show(&s, "mixed.example.com", any, DATA "server-mixed-case.pem");
    help_server_close(&s);
}

/* --- resumption ------------------------------------------------------------------- */

/* Goes once, and a second time with the session of the first. */
static void twice(help_server *s, help_client first, help_client second, bool resumed)
{
    SSL_SESSION *session = help_visit(s, &first, false);
    second.session = session;
    SSL_SESSION_free(help_visit(s, &second, resumed));
    SSL_SESSION_free(session);
}

static void resumption(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client none = { 0 }, name = { .name = "localhost" },
                      other = { .name = "other.test" }, same = { .name = "LocalHost" },
                      dot = { .name = "localhost." },
                      alpn = { .alpn = "\x08http/1.1" }, h2 = { .alpn = "\x02h2" },
                      more = { .alpn = "\x02h2\x08http/1.1" },
                      suite = { .suites = AES256 }, suite2 = { .suites = CHACHA ":" AES128 };
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    twice(&s, none, none, true);
    twice(&s, name, name, true);
    twice(&s, name, same, true);
    twice(&s, name, dot, true);
    twice(&s, name, other, false);
    twice(&s, name, none, false);
    twice(&s, none, name, false);
    twice(&s, alpn, alpn, true);
    twice(&s, alpn, more, true);
    twice(&s, alpn, none, false);
    twice(&s, none, alpn, false);
    twice(&s, alpn, h2, false);         /* where 0.6 crashes, if it resumes with our names */
    twice(&s, none, h2, true);          /* and here, if they are not taken away */
    twice(&s, h2, h2, true);
    twice(&s, more, more, true);        /* and they are back */
    twice(&s, suite, suite, true);
    twice(&s, suite, suite2, false);
    help_server_close(&s);
}

static void resumption_binds_to_the_setting(void **state)
{
    hsb_security_desc desc = help_usual();
    const help_client client = { .cert = DATA "client-p256.pem",
                                 .key = DATA "client-p256.key" };
    (void)state;
    desc.trusted.path = DATA "ca.pem";
    help_server s;
    help_server_open(&s, &desc);
    for (int first = 0; first < 3; first++)
        for (int second = 0; second < 3; second++) {
            help_client again = client;
            s.request = first == 1;
            s.require = first == 2;
            again.session = help_visit(&s, &client, false);
            s.request = second == 1;
            s.require = second == 2;
            SSL_SESSION_free(help_visit(&s, &again, first == second));
            SSL_SESSION_free(again.session);
        }
    help_server_close(&s);
}

static void resumption_binds_to_the_security(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s, renewed;
    help_server_open(&s, &desc);
    help_server_open(&renewed, &desc);
    help_client client = { .name = "localhost" };
    client.session = help_visit(&s, &client, false);
    SSL_SESSION_free(help_visit(&renewed, &client, false));
    SSL_SESSION_free(help_visit(&s, &client, true));
    SSL_SESSION_free(client.session);
    help_server_close(&renewed);
    help_server_close(&s);
}

static void resumption_ends(void **state)
{
    hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    help_client client = { .name = "localhost" };
    client.session = help_visit(&s, &client, false);
    SSL_SESSION_free(help_visit(&s, &client, true));
    hsb__session *session = s.security->sessions.newest;
    assert_true(session->until_us > hsb__os_now_us() + 3590u * 1000000u);
    assert_true(session->until_us <= hsb__os_now_us() + 3600u * 1000000u);
    session->until_us = hsb__os_now_us();
    SSL_SESSION_free(help_visit(&s, &client, false));
    SSL_SESSION_free(client.session);
    help_server_close(&s);

    desc.session_cache_bytes = -1;
    help_server_open(&s, &desc);
    client.session = NULL;
    client.session = help_visit(&s, &client, false);
    SSL_SESSION_free(help_visit(&s, &client, false));
    SSL_SESSION_free(client.session);
    help_server_close(&s);
}

/* --- client certificates ---------------------------------------------------------- */

typedef struct mutual { help_server s; help_pair p; } mutual;

static void mutual_open(mutual *m, const char *trusted, bool request, bool require)
{
    hsb_security_desc desc = help_usual();
    desc.trusted.path = trusted;
    help_server_open(&m->s, &desc);
    m->s.request = request;
    m->s.require = require;
}

static void mutual_run(mutual *m, const char *cert, const char *key)
{
    const help_client client = { .name = "localhost", .cert = cert, .key = key };
    help_open(&m->p, &m->s, &client);
    help_run(&m->p);
}

/* Every row of the table; each accepted row also resumed. */
static void client_certificates(void **state)
{
    static const struct { const char *cert, *key, *subject; } good[] = {
        { DATA "client-p256.pem", DATA "client-p256.key", "CN=ann,O=Example" },
        { DATA "client-p384.pem", DATA "client-p384.key", "CN=bob,O=Example" },
        { DATA "client-p521.pem", DATA "client-p521.key", "CN=eve,O=Example" },
        { DATA "client-rsa.pem", DATA "client-rsa.key", "CN=rae,O=Example" },
        { DATA "client-under-rsa.pem", DATA "client-under-rsa.key", NULL },
        { DATA "client-intermediate.pem", DATA "client-intermediate.key", NULL },
        { DATA "client-server-auth.pem", DATA "client-server-auth.key", NULL },
        { DATA "client-empty-subject.pem", DATA "client-empty-subject.key", "" },
        { DATA "client-odd-subject.pem", DATA "client-odd-subject.key", NULL },
    };
    (void)state;
    for (int require = 0; require < 2; require++) {
        mutual m;
        mutual_open(&m, DATA "trusted.pem", !require, require);
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            help_client client = { .name = "localhost", .cert = good[i].cert,
                                   .key = good[i].key };
            client.session = help_visit(&m.s, &client, false);
            help_open(&m.p, &m.s, &client);
            help_run(&m.p);
            help_expect_open(&m.p);
            assert_true(info(&m.p)->resumed);
            const hsb_certificate *c = info(&m.p)->client;
            assert_non_null(c);
            if (good[i].subject)
                assert_true(hsb__text_is(c->subject, good[i].subject));
            unsigned char *der = NULL;
            BIO *bio = BIO_new_file(good[i].cert, "r");
            X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
            int len = i2d_X509(x509, &der);
            assert_int_equal(c->der.len, len);
            assert_memory_equal(c->der.ptr, der, (size_t)len);
            OPENSSL_free(der);
            X509_free(x509);
            BIO_free(bio);
            SSL_SESSION_free(client.session);
            help_close(&m.p);
        }
        help_server_close(&m.s);
    }
}

static void no_client_certificate(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    twice(&m.s, (help_client){ 0 }, (help_client){ 0 }, true);
    mutual_run(&m, NULL, NULL);
    help_expect_open(&m.p);
    assert_null(info(&m.p)->client);
    help_close(&m.p);
    m.s.require = true;
    mutual_run(&m, NULL, NULL);
    help_expect_dead(&m.p, 40, "TLS: client certificate: none was sent");
    help_close(&m.p);
    m.s.request = m.s.require = false;          /* not asked: what it has does not count */
    mutual_run(&m, DATA "client-p256.pem", DATA "client-p256.key");
    help_expect_open(&m.p);
    assert_null(info(&m.p)->client);
    help_close(&m.p);
    help_server_close(&m.s);
}

static void bad_client_certificates(void **state)
{
    static const struct { const char *cert, *key; int alert; const char *text; } bad[] = {
        { "expired", "expired", 45, "client certificate: expired on 2021-01-01" },
        { "not-yet", "not-yet", 45, "client certificate: not valid before 2100-01-01" },
        { "intermediate-expired", "intermediate-expired", 45,
          "client certificate, number 2 of its chain: expired on 2021-01-01" },
        { "other-ca", "other-ca", 48,
          "client certificate: not issued by anybody who is trusted" },
        { "self-signed", "self-signed", 48,
          "client certificate: not issued by anybody who is trusted" },
        { "intermediate-missing", "intermediate", 48,
          "client certificate: not issued by anybody who is trusted" },
        { "impostor", "impostor", 42, "client certificate: wrong signature" },
        { "bad-signature", "p256", 42, "client certificate: wrong signature" },
        { "intermediate-bad-signature", "intermediate", 42,
          "client certificate: wrong signature" },
        { "chain100", "chain100", 43,
          "client certificate, number 11 of its chain: chain, certificate or key too large" },
    };
    (void)state;
    for (int require = 0; require < 2; require++) {
        mutual m;
        mutual_open(&m, DATA "trusted.pem", !require, require);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            char cert[80], key[80];
            snprintf(cert, sizeof cert, DATA "client-%s.pem", bad[i].cert);
            snprintf(key, sizeof key, DATA "client-%s.key", bad[i].key);
            mutual_run(&m, cert, key);
            help_expect_dead(&m.p, bad[i].alert, bad[i].text);
            help_close(&m.p);
            assert_null(m.s.security->sessions.newest);
        }
        help_server_close(&m.s);
    }
}

/* What a client's RSA key may not be: the server's own certificates serve, for their sizes. */
static void odd_client_keys(void **state)
{
    static const struct { const char *name; int alert; const char *text; } bad[] = {
        { "rsa1024", 43, "client certificate: RSA key below 2048 bits" },
        { "rsa4928", 43, "client certificate: chain, certificate or key too large" },
        { "rsa8192", 43, "client certificate: chain, certificate or key too large" },
        { "ed25519", 43, "client certificate: kind of key or signature not supported" },
        { "secp256k1", 43, "client certificate: kind of key or signature not supported" },
    };
    (void)state;
    mutual m;
    mutual_open(&m, DATA "trusted.pem", true, false);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char cert[80], key[80];
        snprintf(cert, sizeof cert, DATA "%s.pem", bad[i].name);
        snprintf(key, sizeof key, DATA "%s.key", bad[i].name);
        mutual_run(&m, cert, key);
        if (hsb__tls_phase_of(m.p.tls) == HSB__TLS_OPEN)    /* the client kept it to itself */
            assert_null(info(&m.p)->client);
        else
            help_expect_dead(&m.p, bad[i].alert, bad[i].text);
        help_close(&m.p);
    }
    help_server_close(&m.s);
}

/* A certificate without its key: the signature of CertificateVerify is changed on the way. */
static void stolen_certificate(void **state)
{
    static const char *const kinds[] = { "p256", "rsa" };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char cert[80], key[80];
        mutual m;
        snprintf(cert, sizeof cert, DATA "client-%s.pem", kinds[i]);
        snprintf(key, sizeof key, DATA "client-%s.key", kinds[i]);
        const help_client client = { .cert = cert, .key = key };
        mutual_open(&m, DATA "ca.pem", true, false);
        help_pair *p = &m.p;
        help_open(p, &m.s, &client);
        help_move_client(p);
        help_move_bytes(p);
        help_move_records(p);
        help_move_client(p);
        p->held_len = (size_t)BIO_read(p->out, p->held, (int)sizeof p->held);
        size_t at = 0, changed = 0;
        while (at + 5 < p->held_len) {              /* record by record: 15 is the message */
            size_t len = (size_t)p->held[at + 3] << 8 | p->held[at + 4];
            if (p->held[at] == 22 && p->held[at + 5] == 15) {
                p->held[at + 5 + len - 1] ^= 1;
                changed++;
            }
            at += 5 + len;
        }
        assert_int_equal(changed, 1);
        help_run(p);
        help_expect_dead(p, 51, "TLS: client certificate: not signed with its key");
        help_close(p);
        assert_null(m.s.security->sessions.newest);
        help_server_close(&m.s);
    }
}

/* Whoever has seen a session ID on the wire (it is not secret) may offer it.  As long as he
   does not have the master secret, he gets nothing of its owner's. */
static void stolen_session_id(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    help_client owner = { .name = "localhost", .suites = AES128 ":" AES256,
                          .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
    owner.session = help_visit(&m.s, &owner, false);

    help_client thief = { .name = "localhost", .suites = AES256, .session = owner.session };
    help_open(&m.p, &m.s, &thief);              /* a suite that is not the session's */
    help_run(&m.p);
    help_expect_open(&m.p);
    assert_false(info(&m.p)->resumed);
    assert_null(info(&m.p)->client);
    help_close(&m.p);

    SSL_SESSION *forged = SSL_SESSION_dup(owner.session);
    unsigned char secret[48] = { 1, 2, 3 };
    assert_int_equal(SSL_SESSION_set1_master_key(forged, secret, sizeof secret), 1);
    thief.suites = AES128;
    thief.session = forged;
    help_open(&m.p, &m.s, &thief);
    help_run(&m.p);
    assert_int_equal(hsb__tls_phase_of(m.p.tls), HSB__TLS_DEAD);
    assert_null(hsb__tls_info_of(m.p.tls));
    help_close(&m.p);

    SSL_SESSION_free(help_visit(&m.s, &owner, true));       /* and the owner's is still good */
    SSL_SESSION_free(forged);
    SSL_SESSION_free(owner.session);
    help_server_close(&m.s);
}

/* The same one storey below: if the engine drops a session after load() took it, choose()
   is what it calls next. */
static void cancelled_hit(void **state)
{
    mutual m;
    br_ssl_server_choices choices;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    help_open_raw(&m.p, &m.s);
    hsb__policy *p = &m.p.tls->policy;
    p->resumed = p->verified = true;
    assert_true(hsb__leaf_copy(&m.s.blocks, &p->leaf, "somebody", 8));
    p->choice.class->choose(&p->choice.class, p->server, &choices);
    assert_false(p->resumed);
    assert_false(p->verified);
    assert_null(p->leaf.der);
    assert_true(hsb__policy_holds(p));
    p->resumed = true;                          /* bound to anything but what the engine read */
    assert_false(hsb__policy_holds(p));
    help_close(&m.p);
    help_server_close(&m.s);
}

/* A session ends with the certificate that it stands for. */
static void session_outlives_nobody(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    help_client client = { .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
    client.session = help_visit(&m.s, &client, false);
    hsb__session *session = m.s.security->sessions.newest;
    assert_true(session->until_wall > hsb__os_wall());
    assert_true(session->until_wall < INT64_MAX);
    session->until_wall = hsb__os_wall() - 1;
    SSL_SESSION_free(help_visit(&m.s, &client, false));
    SSL_SESSION_free(client.session);
    help_server_close(&m.s);
}

/* CertificateRequest names what client_authorities holds, whatever verifies. */
static void authorities(void **state)
{
    hsb_security_desc desc = help_usual();
    const help_client client = { .cert = DATA "client-p256.pem",
                                 .key = DATA "client-p256.key" };
    (void)state;
    for (int own = 0; own < 2; own++) {
        desc.trusted.path = DATA "trusted.pem";
        desc.client_authorities.path = own ? DATA "ca.pem" : NULL;
        help_server s;
        help_pair p;
        help_server_open(&s, &desc);
        s.require = true;
        help_open(&p, &s, &client);
        help_run(&p);
        help_expect_open(&p);
        assert_int_equal(sk_X509_NAME_num(SSL_get_client_CA_list(p.ssl)), own ? 1 : 2);
        help_close(&p);
        help_server_close(&s);
    }
}

/* A CertificateRequest of 50 KB. */
static void many_authorities(void **state)
{
    hsb_security_desc desc = help_usual();
    (void)state;
    BIO *bio = BIO_new_file(DATA "authorities.pem", "r");
    char *text = malloc(200000), *end = text;
    text[BIO_read(bio, text, 199999)] = '\0';
    for (int i = 0; i < 100; i++)
        end = strstr(end, "-----END CERTIFICATE-----") + 26;
    *end = '\0';
    desc.trusted.path = DATA "ca.pem";
    desc.client_authorities.text = hsb__text_of(text);
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    s.require = true;
    help_open(&p, &s, &(help_client){ .cert = DATA "client-p256.pem",
                                      .key = DATA "client-p256.key" });
    help_run(&p);
    help_expect_open(&p);
    assert_int_equal(sk_X509_NAME_num(SSL_get_client_CA_list(p.ssl)), 100);
    help_close(&p);
    help_server_close(&s);
    free(text);
    BIO_free(bio);
}

/* --- bytes in all kinds of pieces ------------------------------------------------- */

static void cuts(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    for (size_t cut = 1; cut < 40; cut += cut < 8 ? 1 : 5) {
        help_client client = { .name = "localhost", .alpn = "\x08http/1.1",
                               .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
        for (int resumed = 0; resumed < 2; resumed++) {
            help_open(&m.p, &m.s, &client);
            m.p.cut = cut;
            help_run(&m.p);
            help_expect_open(&m.p);
            assert_int_equal(info(&m.p)->resumed, resumed);
            assert_non_null(info(&m.p)->client);
            help_exchange(&m.p);
            client.session = resumed ? client.session : SSL_get1_session(m.p.ssl);
            SSL_set_shutdown(m.p.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
            help_close(&m.p);
        }
        SSL_SESSION_free(client.session);
    }
    help_server_close(&m.s);
}

/* The ClientHello in two records: understood, but never resumed, for it was not seen whole. */
static void split_hello(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    help_client client = { .name = "localhost", .alpn = "\x02h2" };
    client.session = help_visit(&s, &client, false);
    for (size_t at = 1; at < 180; at += 13) {
        unsigned char hello[1024];
        help_pair p;
        help_open(&p, &s, &client);
        help_move_client(&p);
        size_t len = (size_t)BIO_read(p.out, hello, sizeof hello);
        const unsigned char first[5] = { 22, 3, 1, 0, (unsigned char)at },
                            second[5] = { 22, 3, 1, (unsigned char)((len - 5 - at) >> 8),
                                          (unsigned char)(len - 5 - at) };
        help_hold(&p, first, 5);
        help_hold(&p, hello + 5, at);
        help_hold(&p, second, 5);
        help_hold(&p, hello + 5 + at, len - 5 - at);
        help_run(&p);
        help_expect_open(&p);
        assert_false(info(&p)->resumed);
        assert_string_equal(info(&p)->server_name, "localhost");
        help_exchange(&p);
        SSL_set_shutdown(p.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        help_close(&p);
    }
    SSL_SESSION_free(help_visit(&s, &client, true));
    SSL_SESSION_free(client.session);
    help_server_close(&s);
}

/* --- crafted ClientHellos --------------------------------------------------------- */

typedef struct craft { unsigned char bytes[1024]; size_t len; } craft;

static void put(craft *c, const void *bytes, size_t len)
{
    if (len)
        memcpy(c->bytes + c->len, bytes, len);
    c->len += len;
}

static void put16(craft *c, size_t n)
{
    const unsigned char two[2] = { (unsigned char)(n >> 8), (unsigned char)n };
    put(c, two, 2);
}

static void put_name(craft *c, const void *name, size_t len)
{
    put16(c, 0);
    put16(c, len + 5);
    put16(c, len + 3);
    put(c, "", 1);
    put16(c, len);
    put(c, name, len);
}

static void put_alpn(craft *c, const char *names)
{
    put16(c, 16);
    put16(c, strlen(names) + 2);
    put16(c, strlen(names));
    put(c, names, strlen(names));
}

/* A ClientHello with that session ID and those extensions, in one record. */
static void send_hello(help_pair *p, const SSL_SESSION *session, const craft *extensions)
{
    static const unsigned char rest[] = { 0, 2, 0xC0, 0x2B, 1, 0 },
        usual_extensions[] = { 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 6, 0, 4, 0, 29, 0, 23 };
    unsigned id_len = 0;
    const unsigned char *id = session ? SSL_SESSION_get_id(session, &id_len) : NULL;
    craft body = { .len = 0 }, all = { .len = 0 };
    put(&body, "\x03\x03" "01234567890123456789012345678901", 34);
    body.bytes[body.len++] = (unsigned char)id_len;
    put(&body, id, id_len);
    put(&body, rest, sizeof rest);
    put16(&body, extensions->len + sizeof usual_extensions);
    put(&body, usual_extensions, sizeof usual_extensions);
    put(&body, extensions->bytes, extensions->len);
    put(&all, "\x16\x03\x01", 3);
    put16(&all, body.len + 4);
    put(&all, "\x01\x00", 2);
    put16(&all, body.len);
    put(&all, body.bytes, body.len);
    help_hold(p, all.bytes, all.len);
    assert_true(help_move_bytes(p));
}

/* What the ServerHello says: does it take up that session? */
static bool answers_with(help_pair *p, const SSL_SESSION *session)
{
    unsigned len;
    const unsigned char *id = SSL_SESSION_get_id(session, &len);
    hsb_str records = hsb__tls_records(p->tls);
    assert_int_equal(hsb__tls_phase_of(p->tls), HSB__TLS_HANDSHAKE);
    assert_true(records.len > 76);
    assert_memory_equal(records.ptr, "\x16\x03\x03", 3);
    assert_int_equal(records.ptr[43], 32);
    return memcmp(records.ptr + 44, id, 32) == 0;
}

static void crafted_hellos(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    const help_client with = { .name = "localhost", .alpn = "\x08http/1.1", .suites = AES128 },
                      without = { .name = "localhost", .suites = AES128 };
    SSL_SESSION *alpn = help_visit(&s, &with, false), *plain = help_visit(&s, &without, false);
    static const struct {
        const char *what, *first, *second, *name, *second_name;
        size_t name_len;
        bool with_alpn, resumed;
    } cases[] = {
        { "as it should be", "\x08http/1.1", NULL, "localhost", NULL, 9, true, true },
        { "ALPN twice, the second unknown", "\x08http/1.1", "\x02h2", "localhost", NULL, 9,
          true, false },
        { "ALPN twice, the first unknown", "\x02h2", "\x08http/1.1", "localhost", NULL, 9,
          true, false },
        { "an empty ALPN name", "\x08http/1.1\x01", NULL, "localhost", NULL, 9, true, false },
        { "unknown ALPN, no ALPN before", "\x02h2", NULL, "localhost", NULL, 9, false, true },
        { "two names", NULL, NULL, "localhost", "other.test", 9, false, false },
        { "two names, reversed", NULL, NULL, "other.test", "localhost", 10, false, false },
        { "NUL behind the name", NULL, NULL, "localhost\0x", NULL, 11, false, false },
        { "NUL in front", NULL, NULL, "\0localhost", NULL, 10, false, false },
        { "an address", NULL, NULL, "127.0.0.1", NULL, 9, false, false },
        { "an empty name", NULL, NULL, "", NULL, 0, false, false },
        { "other letters", NULL, NULL, "LOCALHOST", NULL, 9, false, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const SSL_SESSION *session = cases[i].with_alpn ? alpn : plain;
        craft extensions = { .len = 0 };
        put_name(&extensions, cases[i].name, cases[i].name_len);
        if (cases[i].second_name)
            put_name(&extensions, cases[i].second_name, strlen(cases[i].second_name));
        if (cases[i].first)
            put_alpn(&extensions, cases[i].first);
        if (cases[i].second)
            put_alpn(&extensions, cases[i].second);
        help_pair p;
        help_open_raw(&p, &s);
        send_hello(&p, session, &extensions);
        if (hsb__tls_phase_of(p.tls) == HSB__TLS_DEAD)  /* the engine may refuse it at all */
            assert_false(cases[i].resumed);
        else if (answers_with(&p, session) != cases[i].resumed)
            fail_msg("%s", cases[i].what);
        help_close(&p);
    }
    SSL_SESSION_free(alpn);
    SSL_SESSION_free(plain);
    help_server_close(&s);
}

/* The engine shows a name up to its NUL.  Who asks for "www.example.org\0.evil" gets the
   default. */
static void nul_in_the_name(void **state)
{
    const hsb_identity more = help_identity(DATA "server-www.pem", DATA "server-www.key");
    hsb_security_desc desc = help_usual();
    (void)state;
    desc.identities = &more;
    desc.identity_count = 1;
    help_server s;
    help_server_open(&s, &desc);
    for (int nul = 0; nul < 2; nul++) {
        craft extensions = { .len = 0 };
        help_pair p;
        put_name(&extensions, "www.example.org\0.evil", nul ? 21 : 15);
        help_open_raw(&p, &s);
        send_hello(&p, NULL, &extensions);
        assert_ptr_equal(p.tls->policy.shown, &s.security->identities[nul ? 0 : 1]);
        help_close(&p);
    }
    help_server_close(&s);
}

/* --- what is not TLS -------------------------------------------------------------- */

static void plain_http(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t cut = 0; cut < 2; cut++) {
        help_pair p;
        help_open_raw(&p, &s);
        p.cut = cut;
        help_hold(&p, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35);
        while (p.held_len)
            help_move_bytes(&p);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
        assert_string_equal(help_error(&p), "not TLS: plain HTTP, or another protocol");
        char text[512];
        hsb_str answer = hsb__tls_records(p.tls);
        snprintf(text, sizeof text, "%.*s", (int)answer.len, answer.ptr);
        assert_ptr_equal(strstr(text, "HTTP/1.1 400 Bad Request\r\n"), text);
        const char *body = strstr(text, "\r\n\r\n") + 4;
        char length[64];
        snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", strlen(body));
        assert_non_null(strstr(text, length));
        hsb__tls_records_sent(p.tls, 10);
        assert_int_equal(hsb__tls_records(p.tls).len, answer.len - 10);
        hsb__tls_records_sent(p.tls, answer.len - 10);
        assert_int_equal(hsb__tls_records(p.tls).len, 0);
        assert_int_equal(hsb__tls_feed(p.tls, "more", 4), 4);
        hsb__tls_shut(p.tls);
        help_close(&p);
    }
    help_server_close(&s);
}

static void garbage(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int alert;
        const char *text;
    } cases[] = {
        { "\x16\x05\x01\0\5hello", 10, 70, "TLS: not TLS 1.2" },
        { "\x16\x03\x01\xFF\xFFhello", 10, 22, "TLS: record of an impossible length" },
        { "\x16\x03\x01\0\4\x02\0\0\0", 9, 10, "TLS: message out of order" },
        { "\x16\x03\x01\0\6\x01\0\0\2\3\3", 11, 50, "TLS: malformed handshake message" },
        { "\x16\x03\x01\0\5\0\0\0\1\0", 10, 50, "TLS: malformed handshake message" },
    };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        help_pair p;
        help_open_raw(&p, &s);
        help_hold(&p, cases[i].bytes, cases[i].len);
        while (p.held_len && help_move_bytes(&p))
            ;
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
        assert_string_equal(help_error(&p), cases[i].text);
        hsb_str records = hsb__tls_records(p.tls);
        const char alert[7] = { 21, 3, 3, 0, 2, 2, (char)cases[i].alert };
        assert_int_equal(records.len, 7);
        assert_memory_equal(records.ptr, alert, 7);
        help_close(&p);
    }
    help_server_close(&s);
}

/* Who talks while our flight waits is not listened to before it is out: so the alert that he
   gets for it comes between two records. */
static void alert_after_the_flight(void **state)
{
    static const unsigned char out_of_order[9] = { 22, 3, 3, 0, 4, 20, 0, 0, 0 };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &(help_client){ 0 });
    help_move_client(&p);
    help_move_bytes(&p);
    assert_int_equal(hsb__tls_feed(p.tls, out_of_order, 9), 0);
    hsb_str flight = hsb__tls_records(p.tls);
    BIO_write(p.in, flight.ptr, 10);
    hsb__tls_records_sent(p.tls, 10);
    assert_int_equal(hsb__tls_feed(p.tls, out_of_order, 9), 0);
    help_move_records(&p);
    help_hold(&p, out_of_order, 9);
    help_move_bytes(&p);
    help_run(&p);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p), "TLS: message out of order");
    assert_int_equal(p.alert, 10);
    help_close(&p);
    help_server_close(&s);
}

/* Every byte of a client's flights changed, one at a time: it may only fail. */
static void changed_bytes(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    const help_client client = { .name = "localhost", .cert = DATA "client-p256.pem",
                                 .key = DATA "client-p256.key" };
    for (size_t at = 0; at < 200; at++) {
        help_pair *p = &m.p;
        help_open(p, &m.s, &client);
        help_move_client(p);
        if (at >= 100) {
            help_move_bytes(p);
            help_move_records(p);
            help_move_client(p);
        }
        p->held_len = (size_t)BIO_read(p->out, p->held, (int)sizeof p->held);
        p->held[at < 100 ? at : (at - 100) * p->held_len / 100] ^= 0x20;
        help_run(p);
        if (SSL_is_init_finished(p->ssl) && hsb__tls_phase_of(p->tls) == HSB__TLS_OPEN)
            assert_int_equal(at, 2);  /* the record's minor version means nothing here */
        help_close(p);
    }
    help_server_close(&m.s);
}

static void client_leaves(void **state)
{
    static const unsigned char close_notify[7] = { 21, 3, 1, 0, 2, 1, 0 },
                               fatal[7] = { 21, 3, 1, 0, 2, 2, 48 };
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open_raw(&p, &s);                      /* an alert is no ClientHello */
    help_hold(&p, close_notify, 7);
    help_run(&p);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    help_close(&p);
    for (int kind = 0; kind < 2; kind++) {
        help_open(&p, &s, &client);
        help_move_client(&p);
        help_move_bytes(&p);
        help_move_records(&p);
        unsigned char record[7];
        memcpy(record, kind ? fatal : close_notify, 7);
        record[2] = 3;
        help_hold(&p, record, 7);
        help_move_bytes(&p);
        help_move_records(&p);
        hsb_error err;
        hsb__tls_error_of(p.tls, &err);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
        assert_int_equal(err.status, kind ? HSB_ERR_TLS : HSB_ERR_CLOSED);
        assert_string_equal(err.text,
                            kind ? "TLS: the client ended it: "
                                   "unknown certificate authority (alert 48)"
                                 : "TLS: the client left in the handshake");
        help_close(&p);
    }
    help_server_close(&s);
}

/* --- what never ends -------------------------------------------------------------- */

static void floods_in_the_handshake(void **state)
{
    static const unsigned char empty[5] = { 22, 3, 1, 0, 0 },
                               warning[7] = { 21, 3, 1, 0, 2, 1, 90 },
                               hello_request[9] = { 22, 3, 1, 0, 4, 0, 0, 0, 0 };
    const struct { const unsigned char *bytes; size_t len; int most; } floods[] = {
        { empty, 5, 70 }, { warning, 7, 70 },
        { hello_request, 9, HSB__TLS_HANDSHAKE_BYTES / 9 + 2 },
    };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < 3; i++) {
        help_pair p;
        int n = 0;
        help_open_raw(&p, &s);
        hsb__tls_feed(p.tls, hello_request, 9);
        for (; hsb__tls_phase_of(p.tls) != HSB__TLS_DEAD; n++) {
            for (size_t fed = 0; fed < floods[i].len;)
                fed += hsb__tls_feed(p.tls, floods[i].bytes + fed, floods[i].len - fed);
            assert_true(n < floods[i].most);
        }
        assert_true(n > 60);
        assert_string_equal(help_error(&p), "TLS: too many records without content");
        help_close(&p);
    }
    help_server_close(&s);
}

/* After the handshake they are encrypted, so OpenSSL has to make them. */
static void renegotiation(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_run(&p);
    help_expect_open(&p);
    assert_int_equal(SSL_renegotiate(p.ssl), 1);
    SSL_do_handshake(p.ssl);
    help_run(&p);
    assert_int_equal(SSL_do_handshake(p.ssl) <= 0, 1);
    assert_int_equal(p.alert, 100);
    help_close(&p);
    help_server_close(&s);
}

/* Records that the client's own keys protect: made by a second engine, BearSSL's client. */
typedef struct bear {
    br_ssl_client_context client;
    br_x509_minimal_context x509;
    br_x509_knownkey_context known;
    unsigned char io[BR_SSL_BUFSIZE_BIDI];
} bear;

static void bear_open(bear *b, const hsb_security *server)
{
    static const uint16_t suites_of_bear[] = { BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 };
    const hsb__key *key = &server->identities[0].key;
    static unsigned char q[133];
    br_ec_public_key public;
    br_ec_compute_pub(br_ec_get_default(), &public, q, &key->ec);
    br_ssl_client_init_full(&b->client, &b->x509, NULL, 0);
    br_x509_knownkey_init_ec(&b->known, &public, BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN);
    br_ssl_engine_set_x509(&b->client.eng, &b->known.vtable);
    br_ssl_engine_set_suites(&b->client.eng, suites_of_bear, 1);
    br_ssl_engine_set_buffer(&b->client.eng, b->io, sizeof b->io, 1);
    assert_int_equal(br_ssl_client_reset(&b->client, "localhost", 0), 1);
}

static bool bear_step(bear *b, hsb__tls *t)
{
    size_t len;
    const unsigned char *out = br_ssl_engine_sendrec_buf(&b->client.eng, &len);
    if (out) {
        size_t used = hsb__tls_feed(t, out, len);
        if (used)
            br_ssl_engine_sendrec_ack(&b->client.eng, used);
        if (used)
            return true;
    }
    hsb_str records = hsb__tls_records(t);
    unsigned char *in = br_ssl_engine_recvrec_buf(&b->client.eng, &len);
    if (!records.len || !in)
        return false;
    len = len < records.len ? len : records.len;
    memcpy(in, records.ptr, len);
    hsb__tls_records_sent(t, len);
    br_ssl_engine_recvrec_ack(&b->client.eng, len);
    return true;
}

/* A record of any type with any content, empty ones too. */
static size_t bear_record(bear *b, int type, const void *content, size_t len,
                          unsigned char *out)
{
    const br_sslrec_out_class **keys = &b->client.eng.out.vtable;
    unsigned char *at = out + 64;
    memcpy(at, content, len);
    size_t size = len;
    const unsigned char *record = (*keys)->encrypt(keys, type, 0x0303, at, &size);
    memmove(out, record, size);
    return size;
}

static void floods(void **state)
{
    static unsigned char requests[16000];       /* 4000 of them: ClientHello, length 0 */
    const struct { int type; const void *content; size_t len; } cases[] = {
        { 23, "", 0 }, { 21, "\1\132", 2 }, { 22, "\1\0\0\0", 4 },
        { 22, requests, sizeof requests },
    };
    const hsb_security_desc desc = help_usual();
    (void)state;
    for (size_t i = 0; i < sizeof requests; i += 4)
        requests[i] = 1;
    bear *b = malloc(sizeof *b);
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static unsigned char record[20000];
        help_pair p;
        help_open_raw(&p, &s);
        bear_open(b, s.security);
        while (bear_step(b, p.tls))
            ;
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
        int n = 0;
        for (; n < 200 && hsb__tls_phase_of(p.tls) != HSB__TLS_DEAD; n++) {
            if (n == 30 && cases[i].len < 100) {        /* content in between starts it over */
                size_t hello = bear_record(b, 23, "hello", 5, record);
                assert_int_equal(hsb__tls_feed(p.tls, record, hello), hello);
                assert_int_equal(hsb__tls_plain(p.tls).len, 5);
                hsb__tls_plain_taken(p.tls, 5);
            }
            size_t len = bear_record(b, cases[i].type, cases[i].content, cases[i].len, record);
            for (size_t fed = 0; fed < len && hsb__tls_phase_of(p.tls) != HSB__TLS_DEAD;) {
                fed += hsb__tls_feed(p.tls, record + fed, len - fed);
                help_move_records(&p);
            }
        }
        if (cases[i].len < 100) {
            assert_within(n, 94, 97);
            assert_string_equal(help_error(&p), "TLS: too many records without content");
        } else {                                        /* 0.6 leaves the second one unread */
            assert_int_equal(n, 1);
            assert_string_equal(help_error(&p), "TLS: message out of order");
        }
        help_close(&p);
    }
    help_server_close(&s);
    free(b);
}

/* --- the end of a connection ------------------------------------------------------ */

static void client_closes(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_run(&p);
    help_client_write(&p, "last question");     /* and close_notify at once */
    SSL_shutdown(p.ssl);
    help_run(&p);
    assert_false(hsb__tls_peer_shut(p.tls));    /* unfed as long as the question waits */
    hsb_str plain = hsb__tls_plain(p.tls);
    assert_true(hsb__text_is(plain, "last question"));
    hsb__tls_plain_taken(p.tls, plain.len);
    help_server_write(&p, "answer", 6);
    assert_string_equal(help_client_read(&p), "answer");
    assert_true(hsb__tls_peer_shut(p.tls));
    size_t room;
    assert_null(hsb__tls_room(p.tls, &room));
    assert_int_equal(SSL_get_shutdown(p.ssl), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p), "");
    assert_non_null(hsb__tls_info_of(p.tls));
    help_close(&p);
    help_server_close(&s);
}

static void server_closes(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (int unread = 0; unread < 2; unread++) {
        help_pair p;
        help_open(&p, &s, &client);
        help_run(&p);
        if (unread)                             /* 0.6 would never end with it */
            help_client_write(&p, "nobody reads this");
        help_run(&p);
        help_server_write(&p, "bye", 3);
        hsb__tls_shut(p.tls);
        hsb__tls_shut(p.tls);
        assert_string_equal(help_client_read(&p), "bye");
        assert_int_equal(SSL_get_shutdown(p.ssl), SSL_RECEIVED_SHUTDOWN);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
        for (int i = 0; i < 200; i++) {         /* what still comes is dropped, however much */
            help_client_write(&p, "still talking");
            help_run(&p);
            assert_int_equal(hsb__tls_plain(p.tls).len, 0);
        }
        assert_int_equal(p.held_len, 0);
        SSL_shutdown(p.ssl);
        help_run(&p);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
        assert_string_equal(help_error(&p), "");
        help_close(&p);
    }
    help_server_close(&s);
}

/* In every phase, at once. */
static void close_any_time(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (int steps = 0; steps < 8; steps++) {
        help_pair p;
        help_open(&p, &s, &client);
        for (int i = 0; i < steps; i++) {
            help_move_client(&p);
            if (i % 2)
                help_move_records(&p);
            else
                help_move_bytes(&p);
        }
        hsb__tls_shut(p.tls);
        help_run(&p);
        assert_int_not_equal(p.held_len > 0 && hsb__tls_phase_of(p.tls) != HSB__TLS_DEAD, 1);
        help_close(&p);
    }
    help_server_close(&s);
}

static void broken_record(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_run(&p);
    help_client_write(&p, "hello");
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    p.held[p.held_len - 1] ^= 1;
    help_run(&p);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p),
                        "TLS: record does not decrypt: altered, or another key");
    assert_int_equal(hsb__tls_records(p.tls).len, 0);
    assert_int_equal(hsb__tls_plain(p.tls).len, 0);
    help_close(&p);
    help_server_close(&s);
}

/* --- memory ----------------------------------------------------------------------- */

static void resting(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    assert_false(hsb__tls_rest(p.tls));         /* not in a handshake */
    help_run(&p);
    for (int i = 0; i < 20; i++) {
        assert_true(hsb__tls_rest(p.tls));
        assert_null(p.tls->io);
        assert_true(hsb__tls_rest(p.tls));
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
        assert_int_equal(hsb__tls_plain(p.tls).len, 0);
        assert_int_equal(hsb__tls_records(p.tls).len, 0);
        hsb__tls_flush(p.tls);
        assert_null(p.tls->io);
        size_t other_size = HSB__TLS_IO;  /* somebody else has it */
        void *other = hsb__pool_get(&s.blocks, &other_size);
        memset(other, 0xA5, other_size);
        if (i % 2) {
            help_exchange(&p);
        } else {
            help_server_write(&p, "unasked", 7);
            assert_false(hsb__tls_rest(p.tls));                     /* a record waits */
            assert_string_equal(help_client_read(&p), "unasked");
        }
        hsb__pool_put(&s.blocks, other, other_size);
    }
    size_t room;
    *hsb__tls_room(p.tls, &room) = 'x';
    assert_true(hsb__tls_rest(p.tls));          /* room alone says nothing */
    *hsb__tls_room(p.tls, &room) = 'x';
    hsb__tls_room_filled(p.tls, 1);
    assert_false(hsb__tls_rest(p.tls));         /* not flushed */
    hsb__tls_flush(p.tls);
    assert_string_equal(help_client_read(&p), "x");
    help_client_write(&p, "y");
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    for (size_t n = 1; n < p.held_len; n++) {
        assert_int_equal(hsb__tls_feed(p.tls, p.held + n - 1, 1), 1);
        assert_false(hsb__tls_rest(p.tls));     /* part of a header, part of a record */
    }
    assert_int_equal(hsb__tls_feed(p.tls, p.held + p.held_len - 1, 1), 1);
    assert_false(hsb__tls_rest(p.tls));         /* plaintext waits */
    p.held_len = 0;
    assert_string_equal(help_server_read(&p), "y");
    assert_true(hsb__tls_rest(p.tls));
    hsb__tls_shut(p.tls);
    assert_false(hsb__tls_rest(p.tls));
    help_close(&p);
    help_server_close(&s);
    assert_true(sizeof(hsb__tls) < 4128 + 600);
}

/* A maximum fragment length stays with the client that asked for it, in a pool of contexts. */
static void fragment_length(void **state)
{
    const hsb_security_desc desc = help_usual();
    static char page[3000];
    (void)state;
    memset(page, 'p', sizeof page - 1);
    help_server s;
    help_server_open(&s, &desc);
    for (int i = 0; i < 4; i++) {
        const help_client small = { .fragment = TLSEXT_max_fragment_length_512 };
        const help_client large = { 0 };
        help_pair p;
        help_open(&p, &s, i % 2 ? &large : &small);
        help_run(&p);
        help_expect_open(&p);
        size_t room;
        assert_non_null(hsb__tls_room(p.tls, &room));
        assert_int_equal(room, i % 2 ? 16384 : 512);
        assert_true(hsb__tls_rest(p.tls));
        assert_non_null(hsb__tls_room(p.tls, &room));
        assert_int_equal(room, i % 2 ? 16384 : 512);
        help_server_write(&p, page, sizeof page - 1);
        assert_string_equal(help_client_read(&p), page);
        help_close(&p);
    }
    assert_int_equal(s.pool.unused_count, 1);
    help_server_close(&s);
}

static void steady_state_allocates_nothing(void **state)
{
    hsb_security_desc desc = help_usual();
    help_memory of_server = { 0 }, of_security = { 0 };
    (void)state;
    desc.allocator = (hsb_allocator){ help_alloc, help_release, &of_security };
    desc.session_cache_bytes = 2048;            /* full after a few */
    help_server s;
    help_server_open(&s, &desc);
    s.memory.user = (hsb_allocator){ help_alloc, help_release, &of_server };
    help_client client = { .name = "localhost" };
    for (int i = 0; i < 40; i++) {
        if (i == 20)
            of_server.count = of_security.count = 0;
        client.session = NULL;
        client.session = help_visit(&s, &client, false);
        SSL_SESSION_free(help_visit(&s, &client, true));
        SSL_SESSION_free(client.session);
    }
    assert_int_equal(of_server.count, 0);
    assert_int_equal(of_security.count, 0);
    help_server_close(&s);
}

static void every_allocation_fails_once(void **state)
{
    hsb_security_desc desc = help_usual();
    (void)state;
    desc.trusted.path = DATA "ca.pem";
    help_memory m = { 0 };
    bool went_well = false;
    for (int n = 1; !went_well; n++) {
        help_server s;
        help_server_open(&s, &desc);
        s.require = true;
        s.memory.user = (hsb_allocator){ help_alloc, help_release, &m };
        m.count = 0;
        m.fail_at = n;
        help_client client = { .cert = DATA "client-intermediate.pem",
                               .key = DATA "client-intermediate.key" };
        help_pair p;
        memset(&p, 0, sizeof p);
        p.tls = hsb__tls_open(&s.pool, s.security, false, true);
        if (p.tls) {
            hsb__tls_release(&s.pool, p.tls);
            help_open(&p, &s, &client);
            help_run(&p);
            hsb__tls_rest(p.tls);
            hsb__pool_close(&s.blocks);
            if (hsb__tls_phase_of(p.tls) == HSB__TLS_OPEN) {
                size_t room;
                if (hsb__tls_room(p.tls, &room)) {
                    went_well = m.count < n;
                    help_exchange(&p);
                    assert_non_null(info(&p)->client);
                }
            }
            if (hsb__tls_phase_of(p.tls) == HSB__TLS_DEAD)
                assert_string_equal(help_error(&p), "out of memory");
            help_close(&p);
        }
        m.fail_at = 0;
        help_server_close(&s);
        assert_true(n < 50);
    }
}

static void no_randomness(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    failing = "getentropy";
    assert_null(hsb__tls_open(&s.pool, s.security, false, false));
    failing = NULL;
    hsb__tls *t = hsb__tls_open(&s.pool, s.security, false, false);
    hsb__tls_release(&s.pool, t);
    failing = "getentropy";                     /* one that was used has all it needs         */
    t = hsb__tls_open(&s.pool, s.security, false, false);
    assert_non_null(t);
    hsb__tls_release(&s.pool, t);
    failing = NULL;
    help_server_close(&s);
}

/* The master secret of a connection is nowhere when it is over, but in the cache; and
   nowhere at all when the cache is gone. */
static void secrets_are_wiped(void **state)
{
    hsb_security_desc desc = help_usual();
    help_memory m = { 0 };
    unsigned char secret[48];
    (void)state;
    desc.allocator = (hsb_allocator){ help_alloc, help_release, &m };
    help_server s;
    help_pair p;
    const help_client client = { 0 };
    help_server_open(&s, &desc);
    s.memory.user = desc.allocator;
    help_open(&p, &s, &client);
    help_run(&p);
    help_expect_open(&p);
    assert_int_equal(SSL_SESSION_get_master_key(SSL_get_session(p.ssl), secret, 48), 48);
    m.secret = secret;
    m.secret_len = sizeof secret;
    assert_memory_equal(s.security->sessions.newest->secret, secret, sizeof secret);
    assert_null(memmem(p.tls, sizeof *p.tls, secret, sizeof secret));
    help_close(&p);
    for (const hsb__tls *t = s.pool.unused; t; t = t->next)
        assert_null(memmem(t, sizeof *t, secret, sizeof secret));
    help_server_close(&s);
    assert_false(m.leaked);
}

static void pool_is_bounded(void **state)
{
    const hsb_security_desc desc = help_usual();
    hsb__tls *open[HSB__TLS_KEEP + 10];
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (int i = 0; i < HSB__TLS_KEEP + 10; i++)
        assert_non_null(open[i] = hsb__tls_open(&s.pool, s.security, false, false));
    for (int i = 0; i < HSB__TLS_KEEP + 10; i++)
        hsb__tls_release(&s.pool, open[i]);
    assert_int_equal(s.pool.unused_count, HSB__TLS_KEEP);
    hsb__tls_release(&s.pool, NULL);
    help_server_close(&s);
}

/* Nobody may be asked without anybody who is trusted; and if it happens, nobody gets in. */
static void nobody_trusted(void **state)
{
    const hsb_security_desc desc = help_usual();
    hsb_error err;
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    assert_true(hsb__security_suits(s.security, false, false, &err));
    assert_false(hsb__security_suits(s.security, true, false, &err));
    assert_false(hsb__security_suits(s.security, false, true, &err));
    assert_int_equal(err.status, HSB_ERR_CERT);
    s.require = true;
    const help_client client = { 0 };
    help_open(&p, &s, &client);
    help_run(&p);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p), "TLS: client certificate: none was sent");
    help_close(&p);
    help_server_close(&s);
}

/* --- threads ---------------------------------------------------------------------- */

static void *visit_often(void *arg)
{
    help_server s;
    memset(&s, 0, sizeof s);
    s.security = arg;
    s.blocks.memory = s.pool.memory = &s.memory;
    s.pool.blocks = &s.blocks;
    help_client client = { .name = "localhost" };
    for (int i = 0; i < 12; i++) {
        client.session = NULL;
        client.session = help_visit(&s, &client, false);
        SSL_SESSION_free(help_visit(&s, &client, true));
        SSL_SESSION_free(client.session);
    }
    hsb__tls_pool_close(&s.pool);
    hsb__pool_close(&s.blocks);
    return (void *)s.memory.used;
}

static void threads(void **state)
{
    const hsb_security_desc desc = help_usual();
    pthread_t thread[4];
    (void)state;
    hsb_security *security = help_security(&desc);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, visit_often, security), 0);
    for (int i = 0; i < 4; i++) {
        void *used;
        assert_int_equal(pthread_join(thread[i], &used), 0);
        assert_null(used);
    }
    assert_int_equal(security->references, 1);
    hsb__security_release(security);
}

/* --- texts ------------------------------------------------------------------------ */

/* Each suite of ours has the name that OpenSSL knows it by, which is IANA's. */
static void names_of_suites(void **state)
{
    (void)state;
    hsb_security_desc desc = help_usual();
    hsb_error err;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    desc.ciphers = HSB_CIPHERS_COMPATIBLE;
    hsb_security *security = hsb_security_new(&desc, &err);
    assert_non_null(security);
    assert_int_equal(security->suite_count, 10);
    for (size_t i = 0; i < security->suite_count; i++) {
        const unsigned suite = security->suites[i];
        const unsigned char number[2] = { (unsigned char)(suite >> 8), (unsigned char)suite };
        const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, number);
        assert_non_null(cipher);
        assert_string_equal(hsb__suite_name(suite), SSL_CIPHER_standard_name(cipher));
    }
    assert_string_equal(hsb__suite_name(0x0005), "");
    hsb_security_free(security);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* Every alert that a client may send ends in a line that says which. */
static void texts_of_alerts(void **state)
{
    static const struct { int alert; const char *text; } known[] = {
        { 10, "unexpected message" }, { 20, "bad record MAC" }, { 22, "record overflow" },
        { 40, "handshake failure" }, { 42, "bad certificate" },
        { 43, "unsupported certificate" }, { 44, "certificate revoked" },
        { 45, "certificate expired" }, { 46, "certificate unknown" },
        { 47, "illegal parameter" }, { 48, "unknown certificate authority" },
        { 49, "access denied" }, { 50, "decode error" }, { 51, "decrypt error" },
        { 70, "protocol version" }, { 71, "insufficient security" }, { 80, "internal error" },
        { 86, "inappropriate fallback" }, { 90, "user cancelled" },
        { 100, "no renegotiation" }, { 112, "unrecognized name" },
        { 120, "no application protocol" }, { 33, "unknown alert" }, { 255, "unknown alert" },
    };
    char text[160];
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        hsb__tls t;
        hsb_error err;
        memset(&t, 0, sizeof t);
        t.error = BR_ERR_RECV_FATAL_ALERT + known[i].alert;
        hsb__tls_error_of(&t, &err);
        snprintf(text, sizeof text, "TLS: the client ended it: %s (alert %d)", known[i].text,
                 known[i].alert);
        assert_string_equal(err.text, text);
        assert_int_equal(err.tls_code, t.error);
        t.error = BR_ERR_SEND_FATAL_ALERT + known[i].alert;     /* our own need no number */
        hsb__tls_error_of(&t, &err);
        assert_int_equal(strncmp(err.text, "TLS: ", 5), 0);
        assert_null(strstr(err.text, "ended it"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_key),
        cmocka_unit_test(self_signed),
        cmocka_unit_test(bulk),
        cmocka_unit_test(long_chain),
        cmocka_unit_test(flights),
        cmocka_unit_test(suites),
        cmocka_unit_test(curves_and_signatures),
        cmocka_unit_test(versions),
        cmocka_unit_test(identities),
        cmocka_unit_test(resumption),
        cmocka_unit_test(resumption_binds_to_the_setting),
        cmocka_unit_test(resumption_binds_to_the_security),
        cmocka_unit_test(resumption_ends),
        cmocka_unit_test(client_certificates),
        cmocka_unit_test(no_client_certificate),
        cmocka_unit_test(bad_client_certificates),
        cmocka_unit_test(odd_client_keys),
        cmocka_unit_test(stolen_certificate),
        cmocka_unit_test(stolen_session_id),
        cmocka_unit_test(cancelled_hit),
        cmocka_unit_test(session_outlives_nobody),
        cmocka_unit_test(authorities),
        cmocka_unit_test(many_authorities),
        cmocka_unit_test(cuts),
        cmocka_unit_test(split_hello),
        cmocka_unit_test(crafted_hellos),
        cmocka_unit_test(nul_in_the_name),
        cmocka_unit_test(plain_http),
        cmocka_unit_test(garbage),
        cmocka_unit_test(alert_after_the_flight),
        cmocka_unit_test(changed_bytes),
        cmocka_unit_test(client_leaves),
        cmocka_unit_test(floods_in_the_handshake),
        cmocka_unit_test(renegotiation),
        cmocka_unit_test(floods),
        cmocka_unit_test(client_closes),
        cmocka_unit_test(server_closes),
        cmocka_unit_test(close_any_time),
        cmocka_unit_test(broken_record),
        cmocka_unit_test(resting),
        cmocka_unit_test(fragment_length),
        cmocka_unit_test(steady_state_allocates_nothing),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(no_randomness),
        cmocka_unit_test(secrets_are_wiped),
        cmocka_unit_test(pool_is_bounded),
        cmocka_unit_test(nobody_trusted),
        cmocka_unit_test(threads),
        cmocka_unit_test(names_of_suites),
        cmocka_unit_test(texts_of_alerts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
