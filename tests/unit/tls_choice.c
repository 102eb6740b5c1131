/* What the server chooses for a client: version, suite, curve, signature and certificate. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

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

static void curves_and_signatures(void **state)
{
    static const struct { const char *key, *curves, *signatures; int group; } cases[] = {
        { "p256", "X25519:P-256", NULL, NID_X25519 },
        { "p256", "P-256:X25519", NULL, NID_X25519 },
        { "p256", "P-384:P-256", NULL, NID_X9_62_prime256v1 },
        { "p256", "P-521:P-384", NULL, 0 },             /* cannot verify our key */
        { "p384", "X25519:P-384", NULL, NID_X25519 },
        { "p384", "X25519:P-256", NULL, 0 },
        { "p384", "P-384:P-256", NULL, NID_X9_62_prime256v1 },
        { "p384", "P-384", NULL, 0 },
        { "p521", "P-521:P-384:X25519", NULL, NID_X25519 },
        { "rsa2048", "P-521:P-384:P-256", NULL, NID_X9_62_prime256v1 },
        { "rsa2048", "P-521", NULL, 0 },                /* too dear */
        { "rsa2048", "P-384:P-521", NULL, 0 },
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
    help_expect_dead(&p, 70, "TLS: the client speaks no version of TLS of ours");
    help_close(&p);
    help_server_close(&s);

    static const struct { hsb_tls_versions ours; int min, max, version; } cases[] = {
        { HSB_TLS_1_2_AND_1_3, 0, TLS1_2_VERSION, 0x0303 },
        { HSB_TLS_1_2_AND_1_3, 0, TLS1_3_VERSION, 0x0304 },
        { HSB_TLS_1_2_AND_1_3, TLS1_3_VERSION, TLS1_3_VERSION, 0x0304 },
        { HSB_TLS_1_3_ONLY, 0, TLS1_3_VERSION, 0x0304 },
        { HSB_TLS_1_3_ONLY, 0, TLS1_2_VERSION, 0 },
        { HSB_TLS_1_2_ONLY, 0, TLS1_3_VERSION, 0x0303 },
        { HSB_TLS_1_2_ONLY, 0, TLS1_2_VERSION, 0x0303 },
        { HSB_TLS_1_2_ONLY, TLS1_3_VERSION, TLS1_3_VERSION, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hsb_security_desc one = desc;
        one.versions = cases[i].ours;
        help_server_open(&s, &one);
        help_open(&p, &s, &(help_client){ .min_version = cases[i].min,
                                          .max_version = cases[i].max });
        help_run(&p);
        if (cases[i].version) {
            help_expect_open(&p);
            assert_int_equal(help_info(&p)->version, cases[i].version);
            assert_int_equal(SSL_version(p.ssl), cases[i].version);
            help_exchange(&p);
        } else {
            help_expect_dead(&p, 70, "TLS: the client speaks no version of TLS of ours");
        }
        help_close(&p);
        help_server_close(&s);
    }
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

/* RFC 8446 4.2.3: an RSA key signs in one of three ways, and in none that has a number beside
   theirs. */
static void schemes_of_an_rsa_key(void **state)
{
    unsigned char list[512];
    hsb__identity who;
    hsb__hello hello;
    size_t len = 0;
    (void)state;
    memset(&who, 0, sizeof who);
    memset(&hello, 0, sizeof hello);
    who.key.type = BR_KEYTYPE_RSA;
    for (unsigned low = 0; low < 256; low++)
        if (low < 4 || low > 6) {
            list[len++] = 8;
            list[len++] = (unsigned char)low;
        }
    hello.signatures = hsb__text_make((const char *)list, len);
    assert_int_equal(hsb__tls13_scheme_for(&who, &hello), 0);
    list[1] = 6;
    assert_int_equal(hsb__tls13_scheme_for(&who, &hello), 0x0806);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suites),
        cmocka_unit_test(names_of_suites),
        cmocka_unit_test(curves_and_signatures),
        cmocka_unit_test(versions),
        cmocka_unit_test(identities),
        cmocka_unit_test(schemes_of_an_rsa_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
