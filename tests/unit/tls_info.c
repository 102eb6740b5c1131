/* What an application is told of a connection, in both versions: hsb_tls_info, and the lines of
   on_key_log, which are those of OpenSSL's client. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* --- hsb_tls_info ------------------------------------------------------------------------------------ */
typedef struct told {
    const char *identity;               /* DATA "NAME.pem", NAME.key                            */
    int version;
    const char *suites, *suite;         /* of OpenSSL; of IANA                                  */
    const char *curve, *group;
    const char *signatures, *signature; /* NULL: all of the client's                            */
} told;

static const told cases[] = {
    { "server-p256", TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256",
      "X25519", "x25519", NULL, "ecdsa_secp256r1_sha256" },
    { "server-p384", TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384",
      "P-256", "secp256r1", NULL, "ecdsa_secp384r1_sha384" },
    { "server-p521", TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256",
      "P-521:P-256:X25519", "x25519", NULL, "ecdsa_secp521r1_sha512" },
    { "server-rsa2048", TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256",
      "X25519", "x25519", NULL, "rsa_pss_rsae_sha256" },
    { "server-rsa2048", TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256",
      "X25519", "x25519", "rsa_pss_rsae_sha384:RSA+SHA256", "rsa_pss_rsae_sha384" },
    { "server-rsa2048", TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256",
      "X25519", "x25519", "rsa_pss_rsae_sha512:RSA+SHA256", "rsa_pss_rsae_sha512" },
    { "server-p256", TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256",
      "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "X25519:P-256", "x25519", NULL, "ecdsa_sha256" },
    { "server-p256", TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384",
      "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "P-256", "secp256r1", "ECDSA+SHA384",
      "ecdsa_sha384" },
    { "server-rsa2048", TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305",
      "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "X25519", "x25519", NULL,
      "rsa_pkcs1_sha256" },
    { "server-rsa2048", TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256",
      "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "P-256", "secp256r1", "RSA+SHA512",
      "rsa_pkcs1_sha512" },
};

static void begin(help_pair *p, help_server *s, const told *k, const help_client *c)
{
    help_open(p, s, c);
    if (k->version == TLS1_3_VERSION)
        assert_int_equal(SSL_set_ciphersuites(p->ssl, k->suites), 1);
    help_run(p);
    help_expect_open(p);
    help_exchange(p);
}

static void end(help_pair *p)
{
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    help_close(p);
}

static void check(const help_pair *p, const told *k, bool resumed)
{
    const hsb_tls_info *i = help_info(p);
    const SSL_CIPHER *suite = SSL_get_current_cipher(p->ssl);
    const bool is_13 = k->version == TLS1_3_VERSION;
    assert_int_equal(i->version, is_13 ? 0x0304 : 0x0303);
    assert_int_equal(i->version, SSL_version(p->ssl));
    assert_int_equal(i->suite, SSL_CIPHER_get_protocol_id(suite));
    assert_string_equal(i->suite_name, k->suite);
    assert_string_equal(i->suite_name, SSL_CIPHER_standard_name(suite));
    assert_string_equal(i->group, resumed && !is_13 ? "" : k->group);
    assert_string_equal(i->signature, resumed ? "" : k->signature);
    assert_string_equal(i->alpn, "http/1.1");
    assert_string_equal(i->server_name, "localhost");
    assert_int_equal(i->resumed, resumed);
    assert_int_equal(SSL_session_reused(p->ssl), resumed);
    assert_null(i->client);
}

/* cpu: 0: this one, 1: without instructions for AES, 2: one of 32 bits, too. */
static void all_cases(int cpu)
{
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
        const told *k = &cases[n];
        char chain[64], key[64];
        help_server s;
        help_pair *p = calloc(1, sizeof *p);
        snprintf(chain, sizeof chain, DATA "%s.pem", k->identity);
        snprintf(key, sizeof key, DATA "%s.key", k->identity);
        const hsb_security_desc desc = help_desc(chain, key);
        help_server_open(&s, &desc);
        if (cpu)
            help_plain_cpu(&s.security->crypto, cpu == 2);
        help_client c = { .name = "localhost", .alpn = "\x02h2\x08http/1.1",
                          .min_version = k->version, .max_version = k->version,
                          .curves = k->curve, .signatures = k->signatures,
                          .suites = k->version == TLS1_2_VERSION ? k->suites : NULL };
        begin(p, &s, k, &c);
        check(p, k, false);
        c.session = SSL_get1_session(p->ssl);
        end(p);
        begin(p, &s, k, &c);
        check(p, k, true);
        end(p);
        SSL_SESSION_free(c.session);
        c = (help_client){ .min_version = k->version, .max_version = k->version };
        help_open(p, &s, &c);                           /* says nothing                       */
        help_run(p);
        help_expect_open(p);
        assert_string_equal(help_info(p)->server_name, "");
        assert_null(help_info(p)->alpn);
        end(p);
        help_server_close(&s);
        free(p);
    }
}

static void both_versions(void **state)
{
    (void)state;
    all_cases(0);
}

static void other_cpus(void **state)
{
    (void)state;
    all_cases(1);
    all_cases(2);
}

/* Without instructions for AES, ChaCha20 is our first choice; the client's first is AES. */
static void suites_by_cpu(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++)
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            const hsb_security_desc desc = help_usual();
            const help_client c = { .max_version = version, .suites = AES128 ":" CHACHA };
            help_server s;
            help_pair *p = calloc(1, sizeof *p);
            help_server_open(&s, &desc);
            s.security->crypto.aes_is_fast = true;
            if (plain)
                help_plain_cpu(&s.security->crypto, false);
            hsb__security_order_suites(s.security, desc.ciphers);
            help_open(p, &s, &c);
            help_run(p);
            help_expect_open(p);
            assert_int_equal(strstr(help_info(p)->suite_name, "CHACHA20") != NULL, plain);
            end(p);
            help_server_close(&s);
            free(p);
        }
}

static void clients(void **state)
{
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        hsb_security_desc desc = help_usual();
        help_server s;
        help_pair *p = calloc(1, sizeof *p);
        desc.trusted.path = DATA "ca.pem";
        help_server_open(&s, &desc);
        s.request = true;
        help_client c = { .name = "localhost", .max_version = version,
                          .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
        for (int resumed = 0; resumed < 2; resumed++) {
            help_open(p, &s, &c);
            help_run(p);
            help_expect_open(p);
            help_exchange(p);
            assert_int_equal(help_info(p)->resumed, resumed);
            assert_non_null(help_info(p)->client);
            assert_true(hsb__text_is(help_info(p)->client->subject, "CN=ann,O=Example"));
            assert_string_equal(help_info(p)->signature, resumed ? "" :
                version == TLS1_3_VERSION ? "ecdsa_secp256r1_sha256" : "ecdsa_sha256");
            SSL_SESSION_free(c.session);
            c.session = SSL_get1_session(p->ssl);
            end(p);
        }
        SSL_SESSION_free(c.session);
        help_server_close(&s);
        free(p);
    }
}

/* --- on_key_log ---------------------------------------------------------------------------------------- */
typedef struct lines { char text[32][256]; int count; } lines;

static lines ours, theirs;

static void add(lines *l, const char *line)
{
    assert_within(l->count, 0, 31);
    assert_true(strlen(line) < sizeof l->text[0]);
    memcpy(l->text[l->count++], line, strlen(line) + 1);
}

static void log_ours(const char *line, void *user)
{
    assert_ptr_equal(user, &ours);
    add(&ours, line);
}

static void log_theirs(const SSL *ssl, const char *line)
{
    (void)ssl;
    if (strncmp(line, "EXPORTER_SECRET ", 16) != 0)     /* nothing of ours exports               */
        add(&theirs, line);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void log_as_openssl(int version, const char *identity, const char *suites, const char *curves,
                           bool request)
{
    char chain[64], key[64];
    help_server s;
    help_pair *p = calloc(1, sizeof *p);
    snprintf(chain, sizeof chain, DATA "%s.pem", identity);
    snprintf(key, sizeof key, DATA "%s.key", identity);
    hsb_security_desc desc = help_desc(chain, key);
    desc.trusted.path = DATA "ca.pem";
    desc.on_key_log = log_ours;
    desc.key_log_user = &ours;
    help_server_open(&s, &desc);
    s.request = request;
    help_client c = { .name = "localhost", .max_version = version, .curves = curves,
                      .suites = version == TLS1_2_VERSION ? suites : NULL,
                      .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
    for (int resumed = 0; resumed < 2; resumed++) {
        memset(&ours, 0, sizeof ours);
        memset(&theirs, 0, sizeof theirs);
        help_open(p, &s, &c);
        SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(p->ssl), log_theirs);
        if (version == TLS1_3_VERSION)
            assert_int_equal(SSL_set_ciphersuites(p->ssl, suites), 1);
        help_run(p);
        help_expect_open(p);
        help_exchange(p);
        assert_int_equal(help_info(p)->resumed, resumed);
        assert_int_equal(theirs.count, version == TLS1_3_VERSION ? 4 : 1);
        assert_int_equal(ours.count, theirs.count);
        qsort(ours.text, (size_t)ours.count, sizeof ours.text[0], by_text);
        qsort(theirs.text, (size_t)theirs.count, sizeof theirs.text[0], by_text);
        for (int i = 0; i < ours.count; i++)
            assert_string_equal(ours.text[i], theirs.text[i]);
        SSL_SESSION_free(c.session);
        c.session = SSL_get1_session(p->ssl);
        end(p);
    }
    SSL_SESSION_free(c.session);
    help_server_close(&s);
    free(p);
}

static void key_log(void **state)
{
    (void)state;
    for (int request = 0; request < 2; request++) {
        log_as_openssl(TLS1_3_VERSION, "server-p256", "TLS_AES_128_GCM_SHA256", "X25519", request);
        log_as_openssl(TLS1_3_VERSION, "server-p256", "TLS_AES_256_GCM_SHA384", "P-256", request);
        log_as_openssl(TLS1_3_VERSION, "server-rsa2048", "TLS_CHACHA20_POLY1305_SHA256",
                       "P-521:P-256", request);         /* after a HelloRetryRequest          */
        log_as_openssl(TLS1_2_VERSION, "server-p256", AES128, "X25519:P-256", request);
        log_as_openssl(TLS1_2_VERSION, "server-p256", AES256, "P-256", request);
        log_as_openssl(TLS1_2_VERSION, "server-rsa2048", "ECDHE-RSA-CHACHA20-POLY1305", "X25519",
                       request);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions),
        cmocka_unit_test(other_cpus),
        cmocka_unit_test(suites_by_cpu),
        cmocka_unit_test(clients),
        cmocka_unit_test(key_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
