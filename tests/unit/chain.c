/* >>chain: chains and the keys that fit them, trust anchors, authorities. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "keys_help.h"

static void chains(void **state)
{
    static const struct { const char *name; size_t count; int key_type; } cases[] = {
        { "server-p256.pem",            1,   BR_KEYTYPE_EC },
        { "server-p384.pem",            1,   BR_KEYTYPE_EC },
        { "server-p521.pem",            1,   BR_KEYTYPE_EC },
        { "server-rsa2048.pem",         1,   BR_KEYTYPE_RSA },
        { "server-rsa4096.pem",         1,   BR_KEYTYPE_RSA },
        { "server-intermediate.pem",    2,   BR_KEYTYPE_EC },
        { "client-chain100.pem",        100, BR_KEYTYPE_EC },
        { "server-p256.both.pem",       1,   BR_KEYTYPE_EC },
        { "server-p256.key-first.pem",  1,   BR_KEYTYPE_EC },
        { "server-p256.crlf.pem",       1,   BR_KEYTYPE_EC },
        { "server-p256.no-newline.pem", 1,   BR_KEYTYPE_EC },
        { "server-p256.text.pem",       1,   BR_KEYTYPE_EC },
        { "server-p256.described.pem",  1,   BR_KEYTYPE_EC },
    };
    hsb__memory m = { 0 };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const hsb_pem pem = help_data(cases[i].name);
        hsb__chain c;
        assert_true(hsb__chain_load(&m, &c, &pem, NULL));
        assert_int_equal(c.count, cases[i].count);
        assert_int_equal(c.key_type, cases[i].key_type);
        assert_ptr_equal(c.certs[0].data, c.objects->der);
        hsb__chain_free(&m, &c);
        assert_int_equal(m.used, 0);
    }
}

typedef bool loader(hsb__memory *m, const hsb_pem *pem, hsb_error *err);

static bool load_chain(hsb__memory *m, const hsb_pem *pem, hsb_error *err)
{
    hsb__chain c;
    bool ok = hsb__chain_load(m, &c, pem, err);
    assert_int_equal(ok, c.count > 0);
    hsb__chain_free(m, &c);
    return ok;
}

static bool load_anchors(hsb__memory *m, const hsb_pem *pem, hsb_error *err)
{
    hsb__anchors a;
    bool ok = hsb__anchors_load(m, &a, pem, err);
    assert_int_equal(ok, a.count > 0);
    hsb__anchors_free(m, &a);
    return ok;
}

static bool load_names(hsb__memory *m, const hsb_pem *pem, hsb_error *err)
{
    hsb__names n;
    bool ok = hsb__names_load(m, &n, pem, err);
    assert_int_equal(ok, n.count > 0);
    hsb__names_free(m, &n);
    return ok;
}

static void expect_error(loader *load, const char *name, const char *text)
{
    hsb__memory m = { 0 };
    hsb_error err = { 0 };
    char expected[200];
    const hsb_pem pem = help_data(name);
    snprintf(expected, sizeof expected, "tests/data/%s: %s", name, text);
    assert_false(load(&m, &pem, &err));
    assert_string_equal(err.text, expected);
    assert_int_equal(m.used, 0);
}

static void errors(void **state)
{
    loader *const all[] = { load_chain, load_anchors, load_names };
    (void)state;
    for (int i = 0; i < 3; i++) {
        expect_error(all[i], "none.pem", "No such file or directory");
        expect_error(all[i], "broken-empty.pem", "empty");
        expect_error(all[i], "broken-no-block.pem", "no PEM block in it");
        expect_error(all[i], "broken-not-pem.pem", "no PEM block in it");
        expect_error(all[i], "broken-base64.pem", "malformed PEM");
        expect_error(all[i], "broken-no-end.pem",
                     "cut short: a BEGIN line without its END line");
        expect_error(all[i], "server-p256.key", "no certificate in it");
        expect_error(all[i], "broken-line-lost.pem", "certificate 1: malformed");
        expect_error(all[i], "broken-der-certificate.pem", "certificate 1: malformed");
        expect_error(all[i], "broken-empty-block.pem", "certificate 1: malformed");
    }
    for (int i = 0; i < 2; i++) {
        expect_error(all[i], "ed25519.pem", "certificate 1: Ed25519 keys are not supported");
        expect_error(all[i], "secp256k1.pem",
                     "certificate 1: curve not supported: only P-256, P-384 and P-521 are");
        expect_error(all[i], "rsa1024.pem",
                     "certificate 1: RSA key too small: 2048 to 4096 bits are supported");
        expect_error(all[i], "rsa4928.pem",
                     "certificate 1: RSA key too large: 2048 to 4096 bits are supported");
    }
}

/* Two certificates, of which the second is broken: the number says so. */
static void second_broken(void **state)
{
    size_t len;
    char *text = help_read("tests/data/server-p256.pem", &len);
    hsb__memory m = { 0 };
    hsb_error err;
    (void)state;
    strcpy(text + len, "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n");
    const hsb_pem pem = help_text(text, strlen(text));
    assert_false(load_chain(&m, &pem, &err));
    assert_string_equal(err.text, "the text given: certificate 2: malformed");
    free(text);
}

/* The first allocation fails, then the second, until none does. */
static void without_memory(void **state)
{
    loader *const all[] = { load_chain, load_anchors, load_names };
    (void)state;
    for (int i = 0; i < 3; i++) {
        bool ok = false;
        for (int fail_at = 1; !ok; fail_at++) {
            help_memory help = { fail_at, 0, NULL, 0, false };
            hsb__memory m = help_memory_of(&help);
            const hsb_pem pem = help_data(i == 1 ? "trusted.pem" : "server-intermediate.pem");
            hsb_error err = { 0 };
            ok = all[i](&m, &pem, &err);
            assert_true(ok || err.status == HSB_ERR_MEMORY);
            assert_int_equal(m.used, 0);
        }
    }
}

/* --- does the key fit -------------------------------------------------------------- */

static const char *fits(const char *cert, const char *key)
{
    static hsb_error err;
    hsb__memory m = { 0 };
    hsb__chain c;
    hsb__key k;
    hsb_pem pem = help_data(cert);
    assert_true(hsb__chain_load(&m, &c, &pem, NULL));
    pem = help_data(key);
    assert_true(hsb__key_load(&m, &k, &pem, NULL, NULL));
    memset(&err, 0, sizeof err);
    bool ok = hsb__chain_fits_key(&c, &k, "a.key", &err);
    assert_int_equal(ok, err.status == HSB_OK);
    hsb__chain_free(&m, &c);
    hsb__key_free(&m, &k);
    assert_int_equal(m.used, 0);
    return err.text;
}

static void keys_that_fit(void **state)
{
    static const char foreign[] = "a.key: the key does not belong to the certificate";
    (void)state;
    assert_string_equal(fits("server-p256.pem", "server-p256.key"), "");
    assert_string_equal(fits("server-p384.pem", "server-p384.sec1.key"), "");
    assert_string_equal(fits("server-p521.pem", "server-p521.key"), "");
    assert_string_equal(fits("server-rsa2048.pem", "server-rsa2048.pkcs1.key"), "");
    assert_string_equal(fits("server-rsa3072.pem", "server-rsa3072.key"), "");
    assert_string_equal(fits("server-rsa4096.pem", "server-rsa4096.key"), "");
    assert_string_equal(fits("server-p256.pem", "server-renewed.key"), foreign);
    assert_string_equal(fits("server-p256.pem", "server-p384.key"), foreign);
    assert_string_equal(fits("server-rsa2048.pem", "server-under-rsa.key"), foreign);
    assert_string_equal(fits("server-rsa2048.pem", "server-rsa4096.key"), foreign);
    assert_string_equal(fits("server-rsa4096.pem", "server-rsa2048.key"), foreign);
    assert_string_equal(fits("server-wrong-order.pem", "server-intermediate.key"), foreign);
    assert_string_equal(fits("server-p256.pem", "server-rsa2048.key"),
                        "a.key: an RSA key, but the certificate is for an EC key");
    assert_string_equal(fits("server-rsa2048.pem", "server-p256.key"),
                        "a.key: an EC key, but the certificate is for an RSA key");
}

/* One bit of dp or iq wrong: it would sign, and give itself away by doing so. */
static void spoilt_rsa_key(void **state)
{
    hsb__memory m = { 0 };
    hsb__chain c;
    hsb__key k;
    hsb_pem pem = help_data("server-rsa2048.pem");
    (void)state;
    assert_true(hsb__chain_load(&m, &c, &pem, NULL));
    pem = help_data("server-rsa2048.key");
    assert_true(hsb__key_load(&m, &k, &pem, NULL, NULL));
    unsigned char *const numbers[] = { k.rsa.p, k.rsa.q, k.rsa.dp, k.rsa.dq, k.rsa.iq };
    for (size_t i = 0; i < 5; i++) {
        numbers[i][100] ^= 1;
        assert_false(hsb__chain_fits_key(&c, &k, "a.key", NULL));
        numbers[i][100] ^= 1;
    }
    assert_true(hsb__chain_fits_key(&c, &k, "a.key", NULL));
    hsb__chain_free(&m, &c);
    hsb__key_free(&m, &k);
}

/* Zero and the order of the curve are no keys, though they have a point of sorts. */
static void spoilt_ec_key(void **state)
{
    static const unsigned char order[32] = {
        0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84,
        0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    };
    hsb__memory m = { 0 };
    hsb__chain c;
    hsb__key k;
    hsb_pem pem = help_data("server-p256.pem");
    (void)state;
    assert_true(hsb__chain_load(&m, &c, &pem, NULL));
    pem = help_data("server-p256.key");
    assert_true(hsb__key_load(&m, &k, &pem, NULL, NULL));
    memset(k.ec.x, 0, 32);
    assert_false(hsb__chain_fits_key(&c, &k, "a.key", NULL));
    memcpy(k.ec.x, order, 32);
    assert_false(hsb__chain_fits_key(&c, &k, "a.key", NULL));
    memset(k.ec.x, 0xFF, 32);
    assert_false(hsb__chain_fits_key(&c, &k, "a.key", NULL));
    hsb__chain_free(&m, &c);
    hsb__key_free(&m, &k);
}

/* --- anchors and authorities ------------------------------------------------------- */

static void anchors(void **state)
{
    hsb__memory m = { 0 };
    const hsb_pem pem = help_data("trusted.pem");
    hsb__anchors a;
    (void)state;
    assert_true(hsb__anchors_load(&m, &a, &pem, NULL));
    assert_int_equal(a.count, 2);
    assert_true(a.list[0].cert.is_ca);
    assert_int_equal(a.list[0].key.key_type, BR_KEYTYPE_EC);
    assert_int_equal(a.list[0].key.key.ec.curve, BR_EC_secp256r1);
    assert_int_equal(a.list[0].key.key.ec.qlen, 65);
    assert_int_equal(a.list[0].cert.subject.ptr[0], HSB__DER_SEQUENCE);
    assert_int_equal(a.list[1].key.key_type, BR_KEYTYPE_RSA);
    assert_int_equal(a.list[1].key.key.rsa.nlen, 256);
    assert_int_equal(a.list[1].key.key.rsa.elen, 3);
    hsb__anchors_free(&m, &a);
    const hsb_pem leaf = help_data("client-self-signed.pem");   /* trusted itself, but no CA */
    assert_true(hsb__anchors_load(&m, &a, &leaf, NULL));
    assert_false(a.list[0].cert.is_ca);
    assert_int_equal(a.list[0].der.len, a.objects->len);
    hsb__anchors_free(&m, &a);
    assert_int_equal(m.used, 0);
}

static void authorities(void **state)
{
    hsb__memory m = { 0 };
    hsb_pem pem = help_data("trusted.pem");
    hsb__names n;
    (void)state;
    assert_true(hsb__names_load(&m, &n, &pem, NULL));
    assert_int_equal(n.count, 2);
    assert_int_equal(n.bytes, n.list[0].len + n.list[1].len + 4);
    assert_int_equal(n.list[0].data[0], HSB__DER_SEQUENCE);
    hsb__names_free(&m, &n);
    pem = help_data("ed25519.pem");             /* a name has no key                         */
    assert_true(hsb__names_load(&m, &n, &pem, NULL));
    hsb__names_free(&m, &n);
    assert_int_equal(m.used, 0);
}

/* As many of those 128 names, all of one length, as a handshake holds; and one more. */
static void authorities_that_just_fit(void **state)
{
    size_t len, size, fit = 0;
    char *text = help_read("tests/data/authorities.pem", &len), *end = text, expected[200];
    hsb__memory m = { 0 };
    hsb__names n;
    hsb_error err;
    hsb_pem pem = help_text(text, (size_t)(strstr(text, "-----END") - text) + 20);
    (void)state;
    assert_true(hsb__names_load(&m, &n, &pem, NULL));
    size = n.bytes;
    hsb__names_free(&m, &n);
    for (; (fit + 1) * size <= 65535; fit++)
        end = strstr(end, "-----END") + 8;
    pem = help_text(text, (size_t)(end - text) + 20);
    assert_true(hsb__names_load(&m, &n, &pem, NULL));
    assert_int_equal(n.count, fit);
    assert_int_equal(n.bytes, fit * size);
    hsb__names_free(&m, &n);
    end = strstr(end, "-----END") + 8;
    pem = help_text(text, (size_t)(end - text) + 20);
    assert_false(hsb__names_load(&m, &n, &pem, &err));
    snprintf(expected, sizeof expected,
             "the text given: the names of %zu authorities take %zu bytes; "
             "a handshake holds 65535", fit + 1, (fit + 1) * size);
    assert_int_equal(err.status, HSB_ERR_LIMIT);
    assert_string_equal(err.text, expected);
    assert_int_equal(m.used, 0);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains),
        cmocka_unit_test(errors),
        cmocka_unit_test(second_broken),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(keys_that_fit),
        cmocka_unit_test(spoilt_rsa_key),
        cmocka_unit_test(spoilt_ec_key),
        cmocka_unit_test(anchors),
        cmocka_unit_test(authorities),
        cmocka_unit_test(authorities_that_just_fit),
    };
    return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
