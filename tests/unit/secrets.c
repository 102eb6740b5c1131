/* >>secrets: the key schedule, with the values of RFC 8448 section 3; and RSASSA-PSS of >>key,
   against OpenSSL's, both ways. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include "help.h"

typedef unsigned char secret[HSB__HASH_MAX];

static size_t unhex(unsigned char *out, const char *hex)
{
    size_t n = 0;
    for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
        out[n] = (unsigned char)byte;
    return n;
}

static void is(const unsigned char *got, const char *hex)
{
    unsigned char wanted[64];
    const size_t len = unhex(wanted, hex);
    assert_memory_equal(got, wanted, len);
}

static const char client_hello[] =
    "010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece700000613011303"
    "1302010000910000000b0009000006736572766572ff01000100000a00140012001d0017001800190100010101"
    "020103010400230000003300260024001d002099381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413"
    "691e529aaf2c002b0003020304000d0020001e0403050306030203080408050806040105010601020104020502"
    "06020202002d00020101001c00024001";
static const char server_hello[] =
    "020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e2692800130100002e00"
    "330024001d0020c9828876112095fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e751f0f002b00020304";

static void key_schedule(void **state)
{
    unsigned char bytes[512], shared[32], messages[32];
    const br_hash_class *hash = &br_sha256_vtable;
    hsb__transcript t;
    hsb__keys k;
    secret s, in, out;
    (void)state;
    hsb__secret_first_stage(hash, NULL, 0, s);
    is(s, "33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a");
    unhex(shared, "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d");
    hsb__secret_next_stage(hash, s, shared, 32, s);
    is(s, "1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac");
    hsb__transcript_start(&t, hash);
    hsb__transcript_add(&t, bytes, unhex(bytes, client_hello));
    hsb__transcript_add(&t, bytes, unhex(bytes, server_hello));
    hsb__transcript_hash(&t, in);
    is(in, "860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8");
    hsb__secret_derive(&t, s, "c hs traffic", in);
    is(in, "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21");
    hsb__secret_derive(&t, s, "s hs traffic", out);
    is(out, "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38");
    static const unsigned char zeros[16];
    memcpy(k.secret, out, sizeof k.secret);
    memset(k.hash_key, 0xa5, sizeof k.hash_key);
    hsb__keys_derive(&k, &hsb__suites13[0]);
    assert_memory_equal(k.hash_key, zeros, sizeof zeros);       /* nothing of an old key stays */
    is(k.key, "3fce516009c21727d0f2e4e86ee403bc");
    is(k.iv, "5d313eb2671276ee13000b30");
    memcpy(k.secret, in, sizeof k.secret);
    hsb__keys_derive(&k, &hsb__suites13[0]);
    is(k.key, "dbfaa693d1762c5b666af5d950258d01");
    is(k.iv, "5bd3c71b836e0b76bb73265f");
    hsb__secret_next_stage(hash, s, NULL, 0, s);
    is(s, "18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919");
    unhex(messages, "9608102a0f1ccc6db6250b7b7e417b1a000eaada3daae4777a7686c9ff83df13");
    hsb__secret_expand(hash, s, "c ap traffic", messages, 32, in, 32);
    is(in, "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
    hsb__secret_expand(hash, s, "s ap traffic", messages, 32, out, 32);
    is(out, "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    memcpy(k.secret, in, sizeof k.secret);
    hsb__keys_derive(&k, &hsb__suites13[0]);
    is(k.key, "17422dda596ed5d9acd890e3c63f5051");
    is(k.iv, "5b78923dee08579033e523d9");
}

/* --- RSASSA-PSS ------------------------------------------------------------------------------- */
static void number(const EVP_PKEY *key, const char *name, unsigned char *out, size_t *len)
{
    BIGNUM *n = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &n), 1);
    *len = (size_t)BN_bn2bin(n, out);
    BN_free(n);
}

/* OpenSSL makes moduli of an even number of bits only, from two primes of one length. */
static EVP_PKEY *rsa_of(unsigned bits)
{
    BN_CTX *x = BN_CTX_new();
    BIGNUM *n = BN_new(), *e = BN_new(), *d = BN_new(), *p = BN_new(), *q = BN_new(),
           *dp = BN_new(), *dq = BN_new(), *qi = BN_new(), *p1 = BN_new(), *q1 = BN_new(),
           *phi = BN_new();
    BN_set_word(e, 65537);
    do {
        assert_int_equal(BN_generate_prime_ex(p, (int)(bits + 1) / 2, 0, NULL, NULL, NULL), 1);
        assert_int_equal(BN_generate_prime_ex(q, (int)bits / 2, 0, NULL, NULL, NULL), 1);
        BN_mul(n, p, q, x);
        BN_sub(p1, p, BN_value_one());
        BN_sub(q1, q, BN_value_one());
        BN_mul(phi, p1, q1, x);
    } while (BN_num_bits(n) != (int)bits || !BN_mod_inverse(d, e, phi, x));
    BN_mod(dp, d, p1, x);
    BN_mod(dq, d, q1, x);
    BN_mod_inverse(qi, q, p, x);
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    const struct { const char *name; const BIGNUM *n; } all[] = {
        { OSSL_PKEY_PARAM_RSA_N, n }, { OSSL_PKEY_PARAM_RSA_E, e }, { OSSL_PKEY_PARAM_RSA_D, d },
        { OSSL_PKEY_PARAM_RSA_FACTOR1, p }, { OSSL_PKEY_PARAM_RSA_FACTOR2, q },
        { OSSL_PKEY_PARAM_RSA_EXPONENT1, dp }, { OSSL_PKEY_PARAM_RSA_EXPONENT2, dq },
        { OSSL_PKEY_PARAM_RSA_COEFFICIENT1, qi },
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        assert_int_equal(OSSL_PARAM_BLD_push_BN(b, all[i].name, all[i].n), 1);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
    EVP_PKEY_CTX *make = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *key = NULL;
    assert_int_equal(EVP_PKEY_fromdata_init(make), 1);
    assert_int_equal(EVP_PKEY_fromdata(make, &key, EVP_PKEY_KEYPAIR, params), 1);
    EVP_PKEY_CTX_free(make);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(b);
    BIGNUM *const numbers[] = { n, e, d, p, q, dp, dq, qi, p1, q1, phi };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        BN_free(numbers[i]);
    BN_CTX_free(x);
    return key;
}

static EVP_PKEY_CTX *openssl_pss(EVP_PKEY *key, const EVP_MD *md, bool sign)
{
    EVP_PKEY_CTX *x = EVP_PKEY_CTX_new(key, NULL);
    assert_int_equal(sign ? EVP_PKEY_sign_init(x) : EVP_PKEY_verify_init(x), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(x, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_signature_md(x, md), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(x, RSA_PSS_SALTLEN_DIGEST), 1);
    return x;
}

/* Each length of a modulus modulo 8, the largest, and the one that is one bit over. */
static void pss(void **state)
{
    static const unsigned sizes[] = { 2048, 2049, 2050, 2051, 2055, 3072, 4096 };
    static const br_hash_class *const hashes[] = { &br_sha256_vtable, &br_sha384_vtable,
                                                   &br_sha512_vtable };
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        static unsigned char n[520], e[8], part[5][300];
        size_t n_len, e_len, len[5];
        static const char *const names[5] = {
            OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2,
            OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2,
            OSSL_PKEY_PARAM_RSA_COEFFICIENT1
        };
        EVP_PKEY *key = rsa_of(sizes[i]);
        number(key, OSSL_PKEY_PARAM_RSA_N, n, &n_len);
        number(key, OSSL_PKEY_PARAM_RSA_E, e, &e_len);
        for (int k = 0; k < 5; k++)
            number(key, names[k], part[k], &len[k]);
        const br_rsa_private_key private = { sizes[i], part[0], len[0], part[1], len[1], part[2],
                                             len[2], part[3], len[3], part[4], len[4] };
        const br_rsa_public_key public = { n, n_len, e, e_len };
        for (size_t h = 0; h < 3; h++) {
            const EVP_MD *md = h == 0 ? EVP_sha256() : h == 1 ? EVP_sha384() : EVP_sha512();
            const size_t hash_len = (size_t)EVP_MD_size(md);
            const br_rsa_public verify = br_rsa_public_get_default();
            unsigned char digest[64], salt[64], ours[520], theirs[520];
            size_t size = sizeof theirs;
            memset(digest, (int)(i + h), sizeof digest);
            memset(salt, 0xA5, sizeof salt);
            size_t got = hsb__pss_sign(br_rsa_private_get_default(), &private, hashes[h], digest,
                                       salt, ours);
            assert_int_equal(got, n_len);
            EVP_PKEY_CTX *x = openssl_pss(key, md, false);
            assert_int_equal(EVP_PKEY_verify(x, ours, got, digest, hash_len), 1);
            EVP_PKEY_CTX_free(x);
            x = openssl_pss(key, md, true);
            assert_int_equal(EVP_PKEY_sign(x, theirs, &size, digest, hash_len), 1);
            EVP_PKEY_CTX_free(x);
            assert_true(hsb__pss_verify(verify, &public, hashes[h], digest, ours, got));
            assert_true(hsb__pss_verify(verify, &public, hashes[h], digest, theirs, size));
            assert_false(hsb__pss_verify(verify, &public, hashes[(h + 1) % 3], digest, ours, got));
            assert_false(hsb__pss_verify(verify, &public, hashes[h], digest, ours, got - 1));
            ours[got - 1 - h] ^= 1;
            assert_false(hsb__pss_verify(verify, &public, hashes[h], digest, ours, got));
            digest[0] ^= 1;
            assert_false(hsb__pss_verify(verify, &public, hashes[h], digest, theirs, size));
        }
        EVP_PKEY_free(key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_schedule),
        cmocka_unit_test(pss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
