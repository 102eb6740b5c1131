/* OpenSSL's TRUSTED CERTIFICATE: with settings it is told what it is, without it is taken. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "keys_help.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* The certificate of that file as openssl x509 -trustout writes it. */
static hsb_pem trusted_form(const char *path, bool with_settings, char text[8192])
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(x);
    if (with_settings)
        assert_int_equal(X509_add1_trust_object(x, OBJ_nid2obj(NID_client_auth)), 1);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509_AUX(bio, x), 1);
    const int len = BIO_read(bio, text, 8192);
    assert_true(len > 0);
    assert_memory_equal(text, "-----BEGIN TRUSTED CERTIFICATE-----", 35);
    BIO_free(bio);
    X509_free(x);
    return help_text(text, (size_t)len);
}

static void told_or_taken(void **state)
{
    static char ca[8192], leaf[8192];
    (void)state;
    for (int where = 0; where < 3; where++)
        for (int with = 0; with < 2; with++) {
            hsb_security_desc desc = { .trusted.path = "tests/data/ca.pem" };
            hsb_error err;
            desc.identity.chain.path = "tests/data/server-p256.pem";
            desc.identity.key.path = "tests/data/server-p256.key";
            if (where == 0)
                desc.identity.chain = trusted_form("tests/data/server-p256.pem", with, leaf);
            else
                *(where == 1 ? &desc.trusted : &desc.client_authorities) =
                    trusted_form("tests/data/ca.pem", with, ca);
            hsb_security *s = hsb_security_new(&desc, &err);
            assert_int_equal(s != NULL, !with);
            if (with) {
                assert_int_equal(err.status, HSB_ERR_CERT);
                assert_string_equal(err.text, "the text given: certificate 1: a TRUSTED CERTIFICATE "
                                    "with OpenSSL's settings; convert it with openssl x509");
            }
            hsb_security_free(s);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(told_or_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
