/* >>choice: what our side of a handshake decides, from plain values.  (With an engine around
   it: tls_choice.c and tls_resumption.c.) */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "tls_help.h"

enum { ECDSA_AES = 0xC02B, ECDSA_AES256 = 0xC02C, ECDSA_CHACHA = 0xCCA9, RSA_AES = 0xC02F,
       RSA_CHACHA = 0xCCA8, RSA_3DES = 0x000A };

/* An EC and an RSA identity for www.test, and an EC one by default. */
static hsb_security *both_kinds(void)
{
    hsb_security_desc desc = help_desc(DATA "server-p256.pem", DATA "server-p256.key");
    hsb_identity more[2] = { help_identity(DATA "server-www-rsa.pem", DATA "server-www-rsa.key"),
                             help_identity(DATA "server-www.pem", DATA "server-www.key") };
    more[0].server_name = more[1].server_name = "www.test";
    desc.identities = more;
    desc.identity_count = 2;
    hsb_security *s = help_security(&desc);
    s->crypto.aes_is_fast = true;
    hsb__security_order_suites(s, HSB_CIPHERS_MODERN);
    return s;
}

static hsb__offer everything(void)
{
    hsb__offer offer = { .suites = { RSA_AES, ECDSA_AES256, ECDSA_AES, ECDSA_CHACHA, RSA_CHACHA },
                         .suite_count = 5 };
    offer.rsa_hashes = offer.ec_hashes = 0x7C;          /* SHA-1 to SHA-512 */
    offer.curves = (uint32_t)1 << BR_EC_secp256r1 | (uint32_t)1 << BR_EC_curve25519;
    return offer;
}

/* "EC C02B 4": kind of key, suite, hash; "none". */
static const char *chosen(const hsb_security *s, const char *name, const hsb__offer *offer)
{
    static char text[32];
    hsb__choice choice;
    if (!hsb__choice_make(s, name, offer, &choice))
        return "none";
    snprintf(text, sizeof text, "%s %04X %u", choice.who->key.type == BR_KEYTYPE_EC ? "EC" : "RSA",
             choice.suite, choice.hash);
    return text;
}

static void identities(void **state)
{
    hsb_security *s = both_kinds();
    hsb__offer offer = everything();
    (void)state;
    assert_string_equal(chosen(s, "www.test", &offer), "EC C02B 4");
    offer.curves = (uint32_t)1 << BR_EC_curve25519;     /* RFC 8422 5.1: not the EC one then */
    assert_string_equal(chosen(s, "www.test", &offer), "RSA C02F 4");
    offer.curves = (uint32_t)1 << BR_EC_secp384r1 | (uint32_t)1 << BR_EC_secp521r1;
    assert_string_equal(chosen(s, "www.test", &offer), "none");
    offer.curves = 0;
    assert_string_equal(chosen(s, "www.test", &offer), "none");
    offer.curves = (uint32_t)1 << BR_EC_curve25519;
    offer.rsa_hashes = 0;
    assert_string_equal(chosen(s, "www.test", &offer), "none");
    offer = everything();
    offer.ec_hashes = 1 << br_sha1_ID;
    assert_string_equal(chosen(s, "www.test", &offer), "RSA C02F 4");
    offer.ec_hashes = 1 << br_sha512_ID | 1 << br_sha384_ID;
    assert_string_equal(chosen(s, "www.test", &offer), "EC C02B 5");
    offer.ec_hashes = 1 << br_sha512_ID;
    assert_string_equal(chosen(s, "www.test", &offer), "EC C02B 6");
    offer = everything();
    offer.suites[1] = offer.suites[2] = offer.suites[3] = RSA_3DES;
    assert_string_equal(chosen(s, "www.test", &offer), "RSA C02F 4");
    hsb__security_release(s);
}

static void suites(void **state)
{
    hsb_security *s = both_kinds();
    hsb__offer offer = everything();
    (void)state;
    offer.suites[0] = ECDSA_CHACHA;                     /* the client's first: it has no AES */
    assert_string_equal(chosen(s, "localhost", &offer), "EC CCA9 4");
    offer.suites[0] = RSA_CHACHA;
    assert_string_equal(chosen(s, "localhost", &offer), "EC CCA9 4");
    offer.suites[0] = RSA_3DES;
    assert_string_equal(chosen(s, "localhost", &offer), "EC C02B 4");
    offer.suites[2] = 0x1301;                           /* of TLS 1.3 */
    assert_string_equal(chosen(s, "localhost", &offer), "EC C02C 4");
    s->crypto.aes_is_fast = false;
    hsb__security_order_suites(s, HSB_CIPHERS_MODERN);
    assert_string_equal(chosen(s, "localhost", &offer), "EC CCA9 4");
    for (size_t i = 0; i < 5; i++)
        offer.suites[i] = RSA_3DES;
    assert_string_equal(chosen(s, "www.test", &offer), "none");
    offer.suite_count = 0;
    assert_string_equal(chosen(s, "www.test", &offer), "none");
    hsb__security_release(s);
}

/* 0 ends the handshake, and nothing was written. */
static void refuses_to_sign(void **state)
{
    hsb_security *s = both_kinds();
    const hsb__identity *ec = &s->identities[0], *rsa = &s->identities[1];
    unsigned char data[512] = "digest";
    (void)state;
    assert_int_equal(hsb__choice_sign(&s->crypto, NULL, br_sha256_ID, data, 32, 512), 0);
    for (unsigned hash = 0; hash < 256; hash++) {
        const bool known = hash >= br_sha256_ID && hash <= br_sha512_ID;
        for (size_t len = 0; len <= 80; len++) {
            if (known && len == (size_t)16 * (hash - 2))
                continue;
            assert_int_equal(hsb__choice_sign(&s->crypto, ec, hash, data, len, 512), 0);
            assert_int_equal(hsb__choice_sign(&s->crypto, rsa, hash, data, len, 512), 0);
        }
    }
    assert_int_equal(hsb__choice_sign(&s->crypto, ec, br_sha256_ID, data, 32, 138), 0);
    assert_int_equal(hsb__choice_sign(&s->crypto, rsa, br_sha256_ID, data, 32, 255), 0);
    assert_int_equal(hsb__choice_sign13(&s->crypto, rsa, &br_sha256_vtable, data, data, 255), 0);
    assert_string_equal((char *)data, "digest");
    hsb__security_release(s);
}

static void signs(void **state)
{
    hsb_security *s = both_kinds();
    const hsb__identity *ec = &s->identities[0], *rsa = &s->identities[1];
    (void)state;
    for (unsigned hash = br_sha256_ID; hash <= br_sha512_ID; hash++) {
        const size_t len = 16 * (hash - 2);
        const hsb__digest *known = hsb__choice_digest(hash);
        unsigned char data[512], digest[64], out[64], point[BR_EC_KBUF_PUB_MAX_SIZE];
        br_ec_public_key pub;
        br_x509_pkey key;
        hsb__x509 cert;
        memset(digest, (int)hash, sizeof digest);
        memcpy(data, digest, len);
        size_t size = hsb__choice_sign(&s->crypto, ec, hash, data, len, sizeof data);
        assert_true(size > 0);
        br_ec_compute_pub(s->crypto.ec, &pub, point, &ec->key.ec);
        assert_int_equal(s->crypto.ecdsa_verify(s->crypto.ec, digest, len, &pub, data, size), 1);
        memcpy(data, digest, len);
        assert_int_equal(hsb__choice_sign(&s->crypto, rsa, hash, data, len, 256), 256);
        const br_x509_certificate *leaf = &rsa->chain.certs[0];
        assert_true(hsb__x509_walk(&cert, leaf->data, leaf->data_len));
        assert_null(hsb__x509_public_key(&cert, &key));
        assert_int_equal(s->crypto.rsa_verify(data, 256, known->oid, len, &key.key.rsa, out), 1);
        assert_memory_equal(out, digest, len);
    }
    hsb__security_release(s);
}

/* A bit of the key that flips in memory: the signature, which would give the key away, is made
   and not sent, in either version. */
static void a_faulty_signature_stays(void **state)
{
    hsb_security *s = both_kinds();
    const hsb__identity *rsa = &s->identities[1];
    unsigned char *const numbers[] = { rsa->key.rsa.p, rsa->key.rsa.q, rsa->key.rsa.dp,
                                       rsa->key.rsa.dq, rsa->key.rsa.iq };
    (void)state;
    for (size_t i = 0; i <= 5; i++) {
        unsigned char data[512] = "digest", digest[64] = "digest";
        if (i < 5)
            numbers[i][100] ^= 1;
        assert_int_equal(hsb__choice_sign(&s->crypto, rsa, br_sha256_ID, data, 32, 512),
                         i < 5 ? 0 : 256);
        assert_int_equal(hsb__choice_sign13(&s->crypto, rsa, &br_sha256_vtable, digest, data, 512),
                         i < 5 ? 0 : 256);
        if (i < 5)
            numbers[i][100] ^= 1;
    }
    hsb__security_release(s);
}

static void server_names(void **state)
{
    static const struct { const char *sent, *read; size_t len; } cases[] = {
        { "Example.ORG.", "example.org", 12 }, { "127.0.0.1", "", 9 }, { "::1", "", 3 },
        { "[2001:db8::1]", "", 13 },           { "a\0", NULL, 2 },     { "127.0.0.1\0", NULL, 10 },
        { "127.1", NULL, 5 },                  { "fe80::1%lo", NULL, 10 }, { "a b", NULL, 3 },
        { "1111:1111:1111:1111:1111:1111:1111:1111:1111:1111", NULL, 49 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[HSB__HOST_SIZE] = "before";
        const hsb_str sent = hsb__text_make(guard_copy(cases[i].sent, cases[i].len), cases[i].len);
        assert_int_equal(hsb__choice_read_name(sent, out), cases[i].read != NULL);
        assert_string_equal(out, cases[i].read ? cases[i].read : "");
    }
}

/* Whatever differs, the binding differs. */
static void bindings(void **state)
{
    static const struct {
        unsigned version;
        const char *name;
        size_t alpn;
        bool ask, require;
    } all[] = {
        { 0x0303, "", 0, false, false }, { 0x0303, "a", 0, false, false },
        { 0x0303, "a.b", 0, false, false }, { 0x0303, "a", 1, false, false },
        { 0x0303, "a", 2, false, false }, { 0x0303, "a", 0, true, false },
        { 0x0303, "a", 0, true, true }, { 0x0303, "a", 1, true, true },
        { 0x0303, "b", 0, false, false }, { 0x0304, "a", 0, false, false },
        { 0x0304, "a", 1, true, true },
    };
    enum { COUNT = sizeof all / sizeof all[0] };
    static const char *names[] = { "a", "http/1.1" }, *others[] = { "http/1.1", "a" };
    hsb_security *s = test_calloc(1, sizeof *s);
    unsigned char got[COUNT][32], other[32];
    (void)state;
    s->alpn_count = 2;
    for (size_t i = 0; i < COUNT; i++) {
        s->alpn = names;
        hsb__choice_binding(s, all[i].version, all[i].name, all[i].alpn, all[i].ask,
                            all[i].require, got[i]);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(got[i], got[j], 32);
        s->alpn = others;                           /* the name counts, not its place      */
        hsb__choice_binding(s, all[i].version, all[i].name,
                            all[i].alpn ? 3 - all[i].alpn : 0, all[i].ask, all[i].require, other);
        assert_memory_equal(got[i], other, 32);
    }
    test_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identities),
        cmocka_unit_test(suites),
        cmocka_unit_test(refuses_to_sign),
        cmocka_unit_test(signs),
        cmocka_unit_test(a_faulty_signature_stays),
        cmocka_unit_test(server_names),
        cmocka_unit_test(bindings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
