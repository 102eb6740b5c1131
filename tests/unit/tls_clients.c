/* Certificates of clients: who is asked, who gets in, and whom CertificateRequest names. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* --- client certificates ---------------------------------------------------------- */

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
            assert_true(help_info(&m.p)->resumed);
            const hsb_certificate *c = help_info(&m.p)->client;
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
    help_twice(&m.s, (help_client){ 0 }, (help_client){ 0 }, true);
    mutual_run(&m, NULL, NULL);
    help_expect_open(&m.p);
    assert_null(help_info(&m.p)->client);
    help_close(&m.p);
    m.s.require = true;
    mutual_run(&m, NULL, NULL);
    help_expect_dead(&m.p, 40, "TLS: client certificate: none was sent");
    help_close(&m.p);
    m.s.request = m.s.require = false;          /* not asked: what it has does not count */
    mutual_run(&m, DATA "client-p256.pem", DATA "client-p256.key");
    help_expect_open(&m.p);
    assert_null(help_info(&m.p)->client);
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
        { "impostor", "impostor", 48,           /* its authority key identifier differs      */
          "client certificate: not issued by anybody who is trusted" },
        { "server-auth", "server-auth", 43,
          "client certificate: extended key usage does not allow clients" },
        { "bad-signature", "p256", 42, "client certificate: wrong signature" },
        { "intermediate-bad-signature", "intermediate", 42,
          "client certificate: wrong signature" },
        { "chain100", "chain100", 43,
          "client certificate, number 6 of its chain: more than 5 certificates, or too large" },
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
    static const char text[] = "client certificate: key not supported: RSA of 2048 to 4096 "
                               "bits, P-256, P-384 and P-521 are";
    static const char *const bad[] = { "rsa1024", "rsa4928", "rsa8192", "ed25519", "secp256k1" };
    (void)state;
    mutual m;
    mutual_open(&m, DATA "trusted.pem", true, false);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char cert[80], key[80];
        snprintf(cert, sizeof cert, DATA "%s.pem", bad[i]);
        snprintf(key, sizeof key, DATA "%s.key", bad[i]);
        mutual_run(&m, cert, key);
        if (hsb__tls_phase_of(m.p.tls) == HSB__TLS_OPEN)    /* the client kept it to itself */
            assert_null(help_info(&m.p)->client);
        else
            help_expect_dead(&m.p, 43, text);
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
        /* Record by record, up to ChangeCipherSpec: what follows begins with any byte.  */
        while (at + 5 < p->held_len && p->held[at] == 22) {
            size_t len = (size_t)p->held[at + 3] << 8 | p->held[at + 4];
            if (p->held[at + 5] == 15) {
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

/* --- whom CertificateRequest names ------------------------------------------------ */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_certificates),
        cmocka_unit_test(no_client_certificate),
        cmocka_unit_test(bad_client_certificates),
        cmocka_unit_test(odd_client_keys),
        cmocka_unit_test(stolen_certificate),
        cmocka_unit_test(nobody_trusted),
        cmocka_unit_test(authorities),
        cmocka_unit_test(many_authorities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
