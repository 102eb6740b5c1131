/* >>selfsigned: the certificate that a server makes for itself, verified by OpenSSL. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "keys_help.h"
#include "x509_help.h"

static X509 *self_signed(const char *name, int64_t now)
{
    hsb__memory m = { 0 };
    hsb__key k;
    hsb__chain c;
    assert_true(hsb__key_generate(&m, &k, NULL));
    assert_true(hsb__selfsigned_make(&m, &c, &k, name, NULL, now, NULL));
    assert_int_equal(c.count, 1);
    assert_int_equal(c.key_type, BR_KEYTYPE_EC);
    assert_true(hsb__chain_fits_key(&c, &k, "", NULL));
    const unsigned char *at = c.certs[0].data;
    X509 *x = d2i_X509(NULL, &at, (long)c.certs[0].data_len);
    assert_non_null(x);
    assert_int_equal(at - c.certs[0].data, c.certs[0].data_len);
    hsb__chain_free(&m, &c);
    hsb__key_free(&m, &k);
    assert_int_equal(m.used, 0);
    return x;
}

/* OpenSSL, as strict as it gets, with the certificate for its only anchor.  The dates are compared
   here: OpenSSL takes a time as its own time_t, which may be narrower than ours. */
static int openssl_verdict(X509 *x, int64_t now)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, x);
    X509_STORE_CTX_init(ctx, store, x, NULL);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE |
                                           X509_V_FLAG_NO_CHECK_TIME);
    int code = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    if (code == X509_V_OK && now < openssl_time(X509_get0_notBefore(x)))
        code = X509_V_ERR_CERT_NOT_YET_VALID;
    if (code == X509_V_OK && now > openssl_time(X509_get0_notAfter(x)))
        code = X509_V_ERR_CERT_HAS_EXPIRED;
    return code;
}

static void self_signed_dates(void **state)
{
    /* Now; across the end of 2049, where the form of dates changes; well behind it. */
    const int64_t times[] = { 1790000000, 2524607999, 2524611600, 4102444800 };
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        const int64_t now = times[i], end = now + 397 * 86400;
        X509 *x = self_signed("localhost", now);
        assert_int_equal(openssl_time(X509_get0_notBefore(x)), now - 3600);
        assert_int_equal(openssl_time(X509_get0_notAfter(x)), end);
        assert_int_equal(openssl_verdict(x, now), X509_V_OK);
        assert_int_equal(openssl_verdict(x, now - 3599), X509_V_OK);
        assert_int_equal(openssl_verdict(x, end - 1), X509_V_OK);
        assert_int_equal(openssl_verdict(x, now - 3601), X509_V_ERR_CERT_NOT_YET_VALID);
        assert_int_equal(openssl_verdict(x, end + 1), X509_V_ERR_CERT_HAS_EXPIRED);
        X509_free(x);
    }
}

static void self_signed_names(void **state)
{
    static const char many[] = "a23456789012345678901234567890.b23456789012345678901234567890."
                               "c23456789012345678901234567890.example.org";
    X509 *x = self_signed("localhost", 1790000000);
    (void)state;
    assert_int_equal(X509_check_host(x, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(x, "::1", 0), 1);
    assert_int_equal(X509_check_host(x, "example.org", 0, 0, NULL), 0);
    X509_free(x);
    x = self_signed("www.example.org.", 1790000000);
    assert_int_equal(X509_check_host(x, "www.example.org", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(x, "127.0.0.1", 0), 0);
    X509_free(x);
    x = self_signed("*.example.org", 1790000000);
    assert_int_equal(X509_check_host(x, "www.example.org", 0, 0, NULL), 1);
    X509_free(x);
    x = self_signed("192.0.2.7", 1790000000);
    assert_int_equal(X509_check_ip_asc(x, "192.0.2.7", 0), 1);
    assert_int_equal(
        X509_check_host(x, "192.0.2.7", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL), 0);
    X509_free(x);
    x = self_signed("2001:db8::7", 1790000000);
    assert_int_equal(X509_check_ip_asc(x, "2001:db8::7", 0), 1);
    X509_free(x);
    x = self_signed(many, 1790000000);          /* too long for a common name                */
    same_text(hsb__text_of("CN=self-signed"), X509_get_subject_name(x));
    same_text(hsb__text_of("CN=self-signed"), X509_get_issuer_name(x));
    assert_int_equal(X509_check_host(x, many, 0, 0, NULL), 1);
    assert_int_equal(openssl_verdict(x, 1790000000), X509_V_OK);
    X509_free(x);
}

static void self_signed_contents(void **state)
{
    X509 *a = self_signed("localhost", 1790000000), *b = self_signed("localhost", 1790000000);
    const ASN1_INTEGER *serial = X509_get_serialNumber(a);
    const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(a);
    (void)state;
    assert_int_equal(X509_get_version(a), 2);
    assert_int_equal(ASN1_STRING_length(serial), 16);
    assert_int_equal(ASN1_STRING_type(serial), V_ASN1_INTEGER);         /* and not negative  */
    assert_int_not_equal(ASN1_INTEGER_cmp(serial, X509_get_serialNumber(b)), 0);
    assert_int_equal(X509_get_signature_nid(a), NID_ecdsa_with_SHA256);
    assert_int_equal(X509_get_key_usage(a), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_get_extended_key_usage(a), XKU_SSL_SERVER);
    assert_true(X509_get_extension_flags(a) & EXFLAG_BCONS);
    assert_false(X509_get_extension_flags(a) & (EXFLAG_CA | EXFLAG_INVALID));
    assert_int_equal(X509_check_ca(a), 0);
    for (int i = 0; i < X509_get_ext_count(a); i++) {                   /* RFC 5280 4.2.1    */
        const int kind = OBJ_obj2nid(X509_EXTENSION_get_object(X509_get_ext(a, i)));
        assert_int_equal(X509_EXTENSION_get_critical(X509_get_ext(a, i)) != 0,
                         kind == NID_key_usage || kind == NID_basic_constraints);
    }
    assert_int_equal(X509_get_ext_count(a), 6);
    assert_int_equal(openssl_verdict(a, 1790000000), X509_V_OK);
    /* Which of two with one name is meant? */
    assert_int_equal(ASN1_OCTET_STRING_cmp(key_id, X509_get0_authority_key_id(a)), 0);
    assert_int_not_equal(ASN1_OCTET_STRING_cmp(key_id, X509_get0_subject_key_id(b)), 0);
    X509_free(a);
    X509_free(b);
}

static const char *no_self_signed(const char *name, int64_t now)
{
    static hsb_error err;
    hsb__memory m = { 0 };
    hsb__key k;
    hsb__chain c;
    assert_true(hsb__key_generate(&m, &k, NULL));
    assert_false(hsb__selfsigned_make(&m, &c, &k, name, NULL, now, &err));
    assert_int_equal(err.status, HSB_ERR_CERT);
    assert_int_equal(c.count, 0);
    hsb__key_free(&m, &k);
    assert_int_equal(m.used, 0);
    return err.text;
}

static void self_signed_refused(void **state)
{
    static const char *const bad[] = {
        "", ".", "a b", "a..b", ".a", "a,b", "*", "*.", "*.*.a", "a.*.b", "m\xC3\xBCller.de",
        "1234567890123456789012345678901234567890123456789012345678901234.org",
        "www.1234567890123456789012345678901234567890123456789012345678901234",
        "https://a", "a/b", "a:443",
        "127.1", "1", "a.1", "1.2.3.4.5", "256.0.0.1",      /* a client takes them for addresses */
    };
    char name[300], text[200];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text,
                 "certificate: \"%s\" is no host name or address", bad[i]);
        assert_string_equal(no_self_signed(bad[i], 0), text);
    }
    assert_string_equal(no_self_signed("a\n", 0),
                        "certificate: \"a?\" is no host name or address");
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = i % 2 ? '.' : 'a';
    name[253] = '\0';                           /* ends in a, 253 long                       */
    X509_free(self_signed(name, 0));
    name[253] = 'a';
    name[254] = '\0';
    no_self_signed(name, 0);
    assert_string_equal(no_self_signed("localhost", 253402300799),
                        "self-signed certificate: the clock is wrong");
}

/* Each name once, and names of the same length are not the same. */
static void lists_of_names(void **state)
{
    static const char *const few[] = { "aa.test", "bb.test", "AA.test", "127.0.0.2", "127.0.0.1", "b.test",
                                       NULL };
    const char *many[HSB__SAN_NAMES + 2];
    hsb__memory m = { 0 };
    hsb__san san;
    hsb_error err;
    int count = 0;
    (void)state;
    assert_true(hsb__san_make(&m, &san, "localhost", few, true, &err));
    hsb_str rest = hsb__san_text(&san), name;
    for (unsigned tag; rest.len && hsb__der_next(&rest, &tag, &name);)
        count++;
    assert_int_equal(count, 7);             /* localhost, its two addresses, and four of these */
    hsb__san_free(&m, &san);
    for (int i = 0; i < HSB__SAN_NAMES + 1; i++)
        many[i] = "a.test";
    many[HSB__SAN_NAMES + 1] = NULL;
    assert_false(hsb__san_make(&m, &san, NULL, many, false, &err));
    assert_int_equal(err.status, HSB_ERR_LIMIT);
    many[HSB__SAN_NAMES] = NULL;
    assert_true(hsb__san_make(&m, &san, NULL, many, false, &err));
    hsb__san_free(&m, &san);
    assert_int_equal(m.used, 0);
}

static void self_signed_without_memory(void **state)
{
    hsb__memory plain = { 0 };
    hsb__key k;
    bool ok = false;
    (void)state;
    assert_true(hsb__key_generate(&plain, &k, NULL));
    for (int fail_at = 1; !ok; fail_at++) {
        help_memory help = { fail_at, 0, NULL, 0, false };
        hsb__memory m = help_memory_of(&help);
        hsb__chain c;
        hsb_error err = { 0 };
        ok = hsb__selfsigned_make(&m, &c, &k, "localhost", NULL, 0, &err);
        assert_true(ok || err.status == HSB_ERR_MEMORY);
        hsb__chain_free(&m, &c);
        assert_int_equal(m.used, 0);
    }
    hsb__key_free(&plain, &k);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(self_signed_dates),
        cmocka_unit_test(self_signed_names),
        cmocka_unit_test(self_signed_contents),
        cmocka_unit_test(self_signed_refused),
        cmocka_unit_test(lists_of_names),
        cmocka_unit_test(self_signed_without_memory),
    };
    return cmocka_run_group_tests_name("selfsigned", tests, NULL, NULL);
}
