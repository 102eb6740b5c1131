/* >>jws: what we sign, verified by OpenSSL; and the examples of the RFCs. */
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static hsb__memory m;
static hsb__key key;

static int make_key(void **state)
{
    (void)state;
    return hsb__key_generate(&m, &key, NULL) ? 0 : -1;
}

static EVP_PKEY *openssl_key(void)
{
    size_t len;
    char *text = hsb__key_encode(&m, &key, &len);
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    hsb__memory_free_secret(&m, text, len + 1);
    assert_non_null(pkey);
    return pkey;
}

static size_t decoded(hsb_str json, const char *name, unsigned char *out, size_t size)
{
    hsb_str value = hsb__json_member(json, name);
    assert_non_null(value.ptr);
    return hsb__json_base64(hsb__text_make(value.ptr + 1, value.len - 2), out, size);
}

static void messages(const char *kid, const char *payload)
{
    static unsigned char bytes[8192], text[8192], header[4096];
    unsigned char raw[64], *der = NULL, body[1024];
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    const hsb__jws jws = { &key, kid, "a-nonce_1", "https://ca.test/new?x=1" };
    assert_true(hsb__jws_put(&out, &jws, payload, strlen(payload)));
    hsb_str json = hsb__text_make((const char *)bytes, out.len);
    assert_true(hsb__json_is_whole(json));
    size_t header_len = decoded(json, "protected", header, sizeof header);
    hsb_str h = hsb__text_make((const char *)header, header_len);
    assert_true(hsb__json_is_whole(h));
    assert_true(hsb__json_is(hsb__json_member(h, "alg"), "ES256"));
    assert_true(hsb__json_is(hsb__json_member(h, "nonce"), "a-nonce_1"));
    assert_true(hsb__json_is(hsb__json_member(h, "url"), "https://ca.test/new?x=1"));
    assert_int_equal(hsb__json_member(h, "kid").ptr != NULL, kid != NULL);
    assert_int_equal(hsb__json_member(h, "jwk").ptr != NULL, kid == NULL);
    size_t len = *payload ? decoded(json, "payload", body, sizeof body) : 0;
    assert_int_equal(len, strlen(payload));
    assert_memory_equal(body, payload, len);
    assert_int_equal(decoded(json, "signature", raw, sizeof raw), 64);
    /* header.payload as they stand */
    hsb_str a = hsb__json_member(json, "protected"), b = hsb__json_member(json, "payload");
    int n = snprintf((char *)text, sizeof text, "%.*s.%.*s", (int)a.len - 2, a.ptr + 1, (int)b.len - 2,
                     b.ptr + 1);
    ECDSA_SIG *sig = ECDSA_SIG_new();
    ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
    int der_len = i2d_ECDSA_SIG(sig, &der);
    EVP_PKEY *pkey = openssl_key();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey);
    assert_int_equal(EVP_DigestVerify(ctx, der, (size_t)der_len, text, (size_t)n), 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    ECDSA_SIG_free(sig);
    OPENSSL_free(der);
}

static void signed_messages(void **state)
{
    (void)state;
    messages(NULL, "{\"termsOfServiceAgreed\":true}");
    messages("https://ca.test/account/1", "{}");
    messages("https://ca.test/account/1", "");
}

static void they_fit_or_not(void **state)
{
    static unsigned char bytes[2048];
    const hsb__jws jws = { &key, NULL, "n", "https://ca.test/" };
    bool fitted = false;
    (void)state;
    for (size_t size = 0; size < 1000; size++) {
        hsb__der_out out = { bytes, 0, size, false };
        memset(bytes, 0x5A, sizeof bytes);
        bool fits = hsb__jws_put(&out, &jws, "{\"a\":1}", 7);
        assert_int_equal(bytes[size], 0x5A);
        assert_true(fits || !fitted);
        fitted = fits;
    }
    assert_true(fitted);
}

/* RFC 7638 3.1 is about RSA; this is the P-256 key of RFC 7517 A.1, whose thumbprint is known. */
static void thumbprint(void **state)
{
    char ours[HSB__JWS_THUMBPRINT];
    unsigned char x[32], y[32], hash[32], wanted[64];
    char text[256], xs[64], ys[64];
    hsb__der_out out = { wanted, 0, sizeof wanted, false };
    BIGNUM *bx = NULL, *by = NULL;
    (void)state;
    EVP_PKEY *pkey = openssl_key();
    assert_int_equal(EVP_PKEY_get_bn_param(pkey, "qx", &bx), 1);
    assert_int_equal(EVP_PKEY_get_bn_param(pkey, "qy", &by), 1);
    BN_bn2binpad(bx, x, 32);
    BN_bn2binpad(by, y, 32);
    hsb__der_out ox = { (unsigned char *)xs, 0, sizeof xs, false };
    hsb__der_out oy = { (unsigned char *)ys, 0, sizeof ys, false };
    hsb__json_put_base64(&ox, x, 32);
    hsb__json_put_base64(&oy, y, 32);
    int n = snprintf(text, sizeof text, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%.43s\",\"y\":\"%.43s\"}",
                     xs, ys);
    EVP_Digest(text, (size_t)n, hash, NULL, EVP_sha256(), NULL);
    hsb__json_put_base64(&out, hash, 32);
    hsb__jws_thumbprint(&key, ours);
    assert_int_equal(strlen(ours), 43);
    assert_memory_equal(ours, wanted, 43);
    BN_free(bx);
    BN_free(by);
    EVP_PKEY_free(pkey);
}

static void bindings(void **state)
{
    static const unsigned char mac_key[] = "what the CA gave out";
    unsigned char bytes[4096], mac[32], wanted[32], body[256];
    char text[2048];
    unsigned len = sizeof wanted;
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    (void)state;
    assert_true(hsb__jws_put_binding(&out, &key, "kid \"1\"", "https://ca.test/new-account", mac_key,
                                     sizeof mac_key - 1));
    hsb_str json = hsb__text_make((const char *)bytes, out.len);
    assert_true(hsb__json_is_whole(json));
    assert_int_equal(decoded(json, "signature", mac, sizeof mac), 32);
    hsb_str a = hsb__json_member(json, "protected"), b = hsb__json_member(json, "payload");
    int n = snprintf(text, sizeof text, "%.*s.%.*s", (int)a.len - 2, a.ptr + 1, (int)b.len - 2, b.ptr + 1);
    HMAC(EVP_sha256(), mac_key, sizeof mac_key - 1, (unsigned char *)text, (size_t)n, wanted, &len);
    assert_memory_equal(mac, wanted, 32);
    size_t body_len = decoded(json, "payload", body, sizeof body);
    assert_true(hsb__json_is(hsb__json_member(hsb__text_make((char *)body, body_len), "crv"), "P-256"));
    memset(text, 'k', sizeof text - 1);                 /* a header that does not fit */
    text[sizeof text - 1] = '\0';
    out.len = 0;
    assert_false(hsb__jws_put_binding(&out, &key, text, "https://ca.test/", mac_key, sizeof mac_key - 1));
}

static void requests(void **state)
{
    static const char *const names[] = { "a.test", "www.a.test", "192.0.2.7", "2001:db8::7", NULL };
    unsigned char bytes[2048];
    const unsigned char *at = bytes;
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    hsb__san san;
    (void)state;
    assert_true(hsb__san_make(&m, &san, NULL, names, false, NULL));
    assert_true(hsb__jws_put_csr(&out, &key, hsb__san_text(&san)));
    X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)out.len);
    assert_non_null(req);
    assert_int_equal(at - bytes, out.len);
    assert_int_equal(X509_REQ_verify(req, X509_REQ_get0_pubkey(req)), 1);
    assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(req)), 0);
    STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(req);
    assert_int_equal(sk_X509_EXTENSION_num(list), 1);
    GENERAL_NAMES *got = X509V3_get_d2i(list, NID_subject_alt_name, NULL, NULL);
    assert_int_equal(sk_GENERAL_NAME_num(got), 4);
    GENERAL_NAMES_free(got);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    X509_REQ_free(req);
    hsb__der_out small = { bytes, 0, 200, false };
    assert_false(hsb__jws_put_csr(&small, &key, hsb__san_text(&san)));
    hsb__san_free(&m, &san);
}

/* The last of them: what a group's teardown returns, cmocka does not count. */
static void all_memory_comes_back(void **state)
{
    (void)state;
    hsb__key_free(&m, &key);
    assert_int_equal(m.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_messages),
        cmocka_unit_test(they_fit_or_not),
        cmocka_unit_test(thumbprint),
        cmocka_unit_test(bindings),
        cmocka_unit_test(requests),
        cmocka_unit_test(all_memory_comes_back),
    };
    return cmocka_run_group_tests(tests, make_key, NULL);
}
