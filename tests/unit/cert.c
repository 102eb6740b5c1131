/* >>cert: what certificates say, however odd or hostile; chains and the keys that fit them;
   trust anchors; authorities; and the self-signed certificate, verified by OpenSSL. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "keys_help.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

static hsb__object *object_of(hsb__memory *m, const char *name)
{
    const hsb_pem pem = help_data(name);
    hsb__object *list;
    assert_true(hsb__pem_load(m, &pem, &list, NULL));
    hsb__pem_only(m, &list, "CERTIFICATE");
    assert_non_null(list);
    return list;
}

/* --- certificates made for a test -------------------------------------------------- */

typedef struct made {
    unsigned char bytes[70000];
    size_t        len;
} made;

#define OID_RSA  "\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01"
#define OID_EC   "\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01"
#define OID_P256 "\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07"

static void put_extension(hsb__der_out *out, const char *oid, const void *value, size_t len)
{
    size_t mark = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, oid);
    hsb__der_put_element(out, HSB__DER_OCTETS, value, len);
    hsb__der_close(out, mark);
}

typedef struct parts {
    hsb_str subject;            /* a whole Name; absent: an empty one                        */
    hsb_str key;                /* what SubjectPublicKeyInfo holds                           */
    hsb_str extensions;         /* what the list holds; absent: no list                      */
    hsb_str behind;             /* the extensions, where nothing should be                   */
} parts;

static void make(made *c, const parts *p)
{
    const hsb_str empty = hsb__text_make("\x30\x00", 2);
    const hsb_str subject = p->subject.ptr ? p->subject : empty;
    hsb__der_out out = { c->bytes, 0, sizeof c->bytes, false };
    size_t cert = hsb__der_open(&out, HSB__DER_SEQUENCE);
    size_t tbs = hsb__der_open(&out, HSB__DER_SEQUENCE);
    hsb__der_put(&out, "\xA0\x03\x02\x01\x02\x02\x01\x07", 8);          /* v3, serial 7      */
    hsb__selfsigned_put_signature_kind(&out);
    hsb__der_put(&out, "\x30\x00", 2);                                  /* issuer: empty     */
    hsb__selfsigned_put_validity(&out, 1000000000);
    hsb__der_put(&out, subject.ptr, subject.len);
    hsb__der_put_element(&out, HSB__DER_SEQUENCE, p->key.ptr, p->key.len);
    if (p->extensions.ptr) {
        size_t wrapped = hsb__der_open(&out, HSB__DER_EXPLICIT + 3);
        hsb__der_put_element(&out, HSB__DER_SEQUENCE, p->extensions.ptr, p->extensions.len);
        hsb__der_close(&out, wrapped);
    }
    hsb__der_put(&out, p->behind.ptr, p->behind.len);
    hsb__der_close(&out, tbs);
    hsb__selfsigned_put_signature_kind(&out);
    hsb__selfsigned_put_bits(&out, "signature", 9);
    hsb__der_close(&out, cert);
    assert_false(out.full);
    c->len = out.len;
}

static hsb_certificate *describe(hsb__memory *m, const made *c)
{
    return hsb__x509_describe(m, (const unsigned char *)guard_copy(c->bytes, c->len), c->len);
}

/* The text of a subject given as DER; NULL: refused. */
static const char *subject_of(const char *name, size_t len)
{
    static char text[70000];
    static made c;
    hsb__memory m = { 0 };
    parts p = { 0 };
    p.subject = hsb__text_make(name, len);
    make(&c, &p);
    hsb_certificate *shown = describe(&m, &c);
    if (!shown)
        return NULL;
    snprintf(text, sizeof text, "%.*s", (int)shown->subject.len, shown->subject.ptr);
    hsb__x509_forget(&m, shown);
    assert_int_equal(m.used, 0);
    return text;
}
#define SUBJECT(der) subject_of(der, sizeof der - 1)

/* One CN of that string type. */
static const char *cn_of(unsigned tag, const char *value, size_t len)
{
    unsigned char bytes[512];
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    size_t dn = hsb__der_open(&out, HSB__DER_SEQUENCE);
    size_t rdn = hsb__der_open(&out, HSB__DER_SET);
    size_t attribute = hsb__der_open(&out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(&out, "2.5.4.3");
    hsb__der_put_element(&out, tag, value, len);
    hsb__der_close(&out, attribute);
    hsb__der_close(&out, rdn);
    hsb__der_close(&out, dn);
    const char *text = subject_of((const char *)bytes, out.len);
    return text && strncmp(text, "CN=", 3) == 0 ? text + 3 : text;
}
#define CN(tag, value) cn_of(tag, value, sizeof value - 1)

/* --- names as text ----------------------------------------------------------------- */

static void escapes(void **state)
{
    (void)state;
    assert_string_equal(CN(HSB__DER_UTF8, "ann"), "ann");
    assert_string_equal(CN(HSB__DER_UTF8, ""), "");
    assert_string_equal(CN(HSB__DER_UTF8, " "), "\\ ");
    assert_string_equal(CN(HSB__DER_UTF8, "  "), "\\ \\ ");
    assert_string_equal(CN(HSB__DER_UTF8, " a b "), "\\ a b\\ ");
    assert_string_equal(CN(HSB__DER_UTF8, "#a#"), "\\#a#");
    assert_string_equal(CN(HSB__DER_UTF8, "a,b+c\"d\\e<f>g;h=i"),
                        "a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h=i");
    assert_string_equal(CN(HSB__DER_UTF8, "ann\0.evil"), "ann\\00.evil");
    assert_string_equal(CN(HSB__DER_UTF8, "a\r\n\x1B\x7F"), "a\\0D\\0A\\1B\\7F");
    assert_string_equal(CN(HSB__DER_UTF8, "\xC2\x85"), "\\C2\\85");
    assert_string_equal(CN(HSB__DER_UTF8, "ann,O=Example"), "ann\\,O=Example");
}

static void string_types(void **state)
{
    (void)state;
    assert_string_equal(CN(HSB__DER_PRINTABLE, "a"), "a");
    assert_string_equal(CN(HSB__DER_IA5, "a@b"), "a@b");
    assert_string_equal(CN(HSB__DER_VISIBLE, "a"), "a");
    assert_string_equal(CN(HSB__DER_NUMERIC, "1 2"), "1 2");
    assert_string_equal(CN(HSB__DER_TELETEX, "a"), "a");
    assert_string_equal(CN(HSB__DER_TELETEX, "\xE4"), "#1401E4");  /* which character set?   */
    assert_string_equal(CN(HSB__DER_PRINTABLE, "\xC3\xA4"), "#1302C3A4");
    assert_string_equal(CN(HSB__DER_UTF8, "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x94\x92"),
                        "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x94\x92");
    assert_string_equal(CN(HSB__DER_BMP, "\0a\0\xE4 \xAC"), "a\xC3\xA4\xE2\x82\xAC");
    assert_string_equal(CN(HSB__DER_BMP, "\0a\0\0"), "a\\00");
    assert_string_equal(CN(HSB__DER_UNIVERSAL, "\0\0\0a\0\1\xF5\x12"), "a\xF0\x9F\x94\x92");
    assert_string_equal(CN(0x03, "\0a"), "#03020061");                  /* BIT STRING        */
    assert_string_equal(CN(0x30, ""), "#3000");
    /* Not what the type says: nothing is guessed. */
    assert_string_equal(CN(HSB__DER_UTF8, "\xC3"), "#0C01C3");
    assert_string_equal(CN(HSB__DER_UTF8, "\xC3\x28"), "#0C02C328");
    assert_string_equal(CN(HSB__DER_UTF8, "\x80"), "#0C0180");
    assert_string_equal(CN(HSB__DER_UTF8, "\xC0\x80"), "#0C02C080");            /* overlong  */
    assert_string_equal(CN(HSB__DER_UTF8, "\xE0\x80\x80"), "#0C03E08080");
    assert_string_equal(CN(HSB__DER_UTF8, "\xED\xA0\x80"), "#0C03EDA080");      /* surrogate */
    assert_string_equal(CN(HSB__DER_UTF8, "\xF4\x90\x80\x80"), "#0C04F4908080");
    assert_string_equal(CN(HSB__DER_UTF8, "\xF8\x88\x80\x80\x80"), "#0C05F888808080");
    assert_string_equal(CN(HSB__DER_BMP, "\0a\0"), "#1E03006100");
    assert_string_equal(CN(HSB__DER_BMP, "\xD8\0\xDC\0"), "#1E04D800DC00");
    assert_string_equal(CN(HSB__DER_UNIVERSAL, "\0\x11\0\0"), "#1C0400110000");
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(SUBJECT("\x30\x00"), "");
    assert_string_equal(SUBJECT("\x30\x1A\x31\x0B\x30\x09\x06\x03\x55\x04\x06\x13\x02" "DE"
                                "\x31\x0B\x30\x09\x06\x03\x55\x04\x03\x0C\x02" "me"),
                        "CN=me,C=DE");
    assert_string_equal(SUBJECT("\x30\x18\x31\x16\x30\x09\x06\x03\x55\x04\x0B\x0C\x02" "ou"
                                "\x30\x09\x06\x03\x55\x04\x03\x0C\x02" "cn"), "OU=ou+CN=cn");
    /* A type without a name, by number and in hex. */
    assert_string_equal(SUBJECT("\x30\x0C\x31\x0A\x30\x08\x06\x03\x88\x37\x03\x0C\x01" "x"),
                        "2.999.3=#0C0178");
    assert_string_equal(SUBJECT("\x30\x02\x31\x00"), "");
    assert_null(SUBJECT("\x30\x02\x30\x00"));                           /* no SET            */
    assert_null(SUBJECT("\x30\x04\x31\x02\x31\x00"));
    assert_null(SUBJECT("\x30\x0B\x31\x09\x30\x07\x06\x03\x55\x04\x03\x0C\x03"));
    assert_null(SUBJECT("\x30\x0D\x31\x0B\x30\x09\x06\x03\x55\x04\x03\x0C\x00\x0C\x00"));
    assert_null(SUBJECT("\x30\x0A\x31\x08\x30\x06\x06\x02\x55\x84\x0C\x00"));   /* OID cut   */
    assert_null(SUBJECT("\x30\x07\x31\x05\x30\x03\x06\x01\x55"));       /* no value          */
}

static const char *rdns(int count)
{
    char bytes[1024];
    hsb__der_out out = { (unsigned char *)bytes, 0, sizeof bytes, false };
    size_t mark = hsb__der_open(&out, HSB__DER_SEQUENCE);
    for (int i = 0; i < count; i++)
        hsb__der_put(&out, "\x31\x0A\x30\x08\x06\x03\x55\x04\x03\x0C\x01" "x", 12);
    hsb__der_close(&out, mark);
    return subject_of(bytes, out.len);
}

static void many_rdns(void **state)
{
    (void)state;
    assert_int_equal(strlen(rdns(64)), 64 * 5 - 1);
    assert_null(rdns(65));
}

/* The names of a SAN given as DER, one after the other, with "|" between. */
static const char *san_of(const char *general_names, size_t len)
{
    static char text[70000], extension[70000];
    static made c;
    hsb__memory m = { 0 };
    unsigned char *wrapped = malloc(len + 8);
    hsb__der_out inner = { wrapped, 0, len + 8, false };
    hsb__der_put_element(&inner, HSB__DER_SEQUENCE, general_names, len);
    hsb__der_out out = { (unsigned char *)extension, 0, sizeof extension, false };
    put_extension(&out, "2.5.29.17", wrapped, inner.len);
    parts p = { 0 };
    p.extensions = hsb__text_make(extension, out.len);
    make(&c, &p);
    free(wrapped);
    hsb_certificate *shown = describe(&m, &c);
    if (!shown)
        return NULL;
    size_t at = 0;
    text[0] = '\0';
    for (int i = 0; i < shown->name_count; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s", i ? "|" : "",
                               (int)shown->names[i].len, shown->names[i].ptr);
    hsb__x509_forget(&m, shown);
    assert_int_equal(m.used, 0);
    return text;
}
#define SAN(der) san_of(der, sizeof der - 1)

static void alternative_names(void **state)
{
    (void)state;
    assert_string_equal(SAN(""), "");
    assert_string_equal(SAN("\x82\x03" "a.b\x81\x03" "a@b\x86\x05" "urn:a\x87\x04\xC0\0\2\1"),
                        "a.b|a@b|urn:a|192.0.2.1");
    assert_string_equal(SAN("\x87\x10\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\1"),
                        "2001:db8::1");
    assert_string_equal(SAN("\x82\x0D*.example.org"), "*.example.org");
    /* What could be mistaken for something else is left out. */
    assert_string_equal(SAN("\x82\x08" "good\0bad\x82\x03" "a.b"), "a.b");
    assert_string_equal(SAN("\x82\x05" "a b.c\x82\x02" "a\n\x82\x02\xC3\xA4\x82\x00"), "");
    assert_string_equal(SAN("\x82\x09" "127.0.0.1"), "");               /* no DNS name       */
    assert_string_equal(SAN("\x82\x03::1\x82\x03" "a@b\x82\x05" "a://b"), "");
    assert_string_equal(SAN("\x81\x03" "a.b\x81\x05" "a:b@c"), "");     /* no mail addresses */
    assert_string_equal(SAN("\x86\x03" "a.b\x86\x07" "fe80::1\x86\x07" "a://b c"), "");
    assert_string_equal(SAN("\x87\x03\1\2\3\x87\x08\1\2\3\4\5\6\7\x08\x87\x00"), "");
    /* Kinds that we do not show. */
    assert_string_equal(SAN("\xA0\x02\x06\x00\xA4\x02\x30\x00\x88\x01\x55\x82\x01" "a"), "a");
    assert_string_equal(SAN("\xA2\x03" "a.b"), "");                     /* constructed       */
    /* Halfway through is no way: the certificate is malformed. */
    assert_null(SAN("\x82\x03" "a.b\x82\x7F"));
    assert_null(SAN("\x82\x03" "a.b\x00"));
}

static void many_names(void **state)
{
    char bytes[300 * 3];
    hsb__der_out out = { (unsigned char *)bytes, 0, sizeof bytes, false };
    (void)state;
    for (int i = 0; i < 300; i++)
        hsb__der_put(&out, "\x82\x01" "a", 3);
    assert_int_equal(strlen(san_of(bytes, out.len)), 256 * 2 - 1);
}

/* Extensions, as DER, that a certificate may have or not. */
static bool walks(const char *extensions, size_t len, hsb__x509 *out)
{
    static made c;
    parts p = { 0 };
    p.extensions = hsb__text_make(extensions, len);
    make(&c, &p);
    return hsb__x509_walk(out, (const unsigned char *)guard_copy(c.bytes, c.len), c.len);
}
#define WALKS(der) walks(der, sizeof der - 1, &cert)
#define SAN_A  "\x30\x0C\x06\x03\x55\x1D\x11\x04\x05\x30\x03\x82\x01" "a"
#define IS_CA  "\x30\x0C\x06\x03\x55\x1D\x13\x04\x05\x30\x03\x01\x01\xFF"
#define NOT_CA "\x30\x09\x06\x03\x55\x1D\x13\x04\x02\x30\x00"

static void extensions(void **state)
{
    hsb__x509 cert;
    (void)state;
    assert_true(WALKS(SAN_A));
    assert_int_equal(cert.san.len, 3);
    assert_false(cert.is_ca);
    assert_true(WALKS(IS_CA));
    assert_null(cert.san.ptr);
    assert_true(cert.is_ca);
    assert_true(WALKS(NOT_CA));
    assert_false(cert.is_ca);
    assert_true(WALKS("\x30\x0F\x06\x03\x55\x1D\x13\x01\x01\xFF\x04\x05\x30\x03\x01\x01\xFF"));
    assert_true(cert.is_ca);
    assert_true(WALKS("\x30\x07\x06\x03\x55\x1D\x7F\x04\x00" SAN_A));   /* unknown           */
    assert_false(WALKS(SAN_A SAN_A));                   /* twice: which would be meant?      */
    assert_false(WALKS(NOT_CA IS_CA));
    assert_false(WALKS("\x30\x03\x06\x01\x55"));        /* no value                          */
    assert_false(WALKS("\x30\x0E\x06\x03\x55\x1D\x11\x04\x05\x30\x03\x82\x01" "a\x05\x00"));
    assert_false(WALKS("\x30\x0E\x06\x03\x55\x1D\x11\x04\x07\x30\x03\x82\x01" "a\x05\x00"));
    assert_false(WALKS("\x31\x00"));
    assert_false(WALKS("\x30"));
}

static void something_behind(void **state)
{
    static made c;
    hsb__x509 cert;
    parts p = { 0 };
    (void)state;
    p.behind = hsb__text_make("\x05\x00", 2);
    make(&c, &p);
    assert_false(hsb__x509_walk(&cert, c.bytes, c.len));
}

/* What is said of a public key. */
static const char *key_error(const char *key, size_t len)
{
    static made c;
    hsb__x509 cert;
    br_x509_pkey out;
    parts p = { 0 };
    p.key = hsb__text_make(key, len);
    make(&c, &p);
    assert_true(hsb__x509_walk(&cert, c.bytes, c.len));
    return hsb__x509_public_key(&cert, &out);
}
#define KEY_ERROR(der) key_error(der, sizeof der - 1)

static void public_keys(void **state)
{
    (void)state;
    assert_null(KEY_ERROR("\x30\x13" OID_EC OID_P256 "\x03\x03\x00\x04\x01"));
    assert_string_equal(KEY_ERROR(""), "malformed");
    assert_string_equal(KEY_ERROR("\x30\x09" OID_EC "\x03\x03\x00\x04\x01"), "malformed");
    assert_string_equal(KEY_ERROR("\x30\x13" OID_EC OID_P256 "\x03\x03\x01\x04\x00"),
                        "malformed");                           /* seven bits                */
    assert_string_equal(KEY_ERROR("\x30\x13" OID_EC OID_P256 "\x03\x03\x00\x04\x01\x05\x00"),
                        "malformed");                           /* something behind it       */
    assert_string_equal(KEY_ERROR("\x30\x0B" OID_EC "\x30\x00\x03\x03\x00\x04\x01"),
                        "EC parameters spelled out are not supported: only named curves are");
    assert_string_equal(KEY_ERROR("\x30\x05\x06\x03\x2B\x65\x71\x03\x02\x00\x01"),
                        "Ed448 keys are not supported");
    assert_string_equal(KEY_ERROR("\x30\x0B" OID_RSA "\x03\x07\x00\x30\x04\x02\x01\x01\x02"),
                        "malformed");
    assert_string_equal(KEY_ERROR("\x30\x0B" OID_RSA
                                  "\x03\x09\x00\x30\x06\x02\x01\x07\x02\x01\x03"),
                        "RSA key too small: 2048 to 4096 bits are supported");
}

/* --- beside OpenSSL ---------------------------------------------------------------- */

static char *openssl_name(const X509_NAME *name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *bytes, *text;
    X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    long len = BIO_get_mem_data(bio, &bytes);
    text = calloc((size_t)len + 1, 1);
    if (len)
        memcpy(text, bytes, (size_t)len);
    BIO_free(bio);
    return text;
}

static int64_t openssl_time(const ASN1_TIME *t)
{
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(t, &tm), 1);
    return timegm(&tm);
}

static void same_text(hsb_str ours, const X509_NAME *name)
{
    char *theirs = openssl_name(name);
    if (!hsb__text_is(ours, theirs))
        print_message("%.*s\n%s\n", (int)ours.len, ours.ptr, theirs);
    assert_true(hsb__text_is(ours, theirs));
    free(theirs);
}

/* The last one is not compared by its text: OpenSSL turns the parts of an RDN round, too. */
static const char *const shown[] = {
    "ca.pem", "authorities.pem", "client-p256.pem", "client-expired.pem",
    "client-empty-subject.pem", "client-chain100.pem", "client-not-yet.pem", "server-p256.pem",
    "server-rsa4096.pem", "server-wildcard.pem", "rsa8192.pem", "ed25519.pem", "secp256k1.pem",
    "client-odd-subject.pem",
};
enum { SHOWN = sizeof shown / sizeof *shown };

static void as_openssl_sees_them(void **state)
{
    hsb__memory m = { 0 };
    (void)state;
    for (size_t i = 0; i < SHOWN; i++) {
        hsb__object *list = object_of(&m, shown[i]);
        for (const hsb__object *o = list; o; o = o->next) {
            const unsigned char *at = o->der;
            X509 *x = d2i_X509(NULL, &at, (long)o->len);
            hsb_certificate *c = hsb__x509_describe(&m, o->der, o->len);
            unsigned char sha256[32];
            assert_true(x && c);
            if (i < SHOWN - 1)
                same_text(c->subject, X509_get_subject_name(x));
            same_text(c->issuer, X509_get_issuer_name(x));
            assert_int_equal(c->not_before, openssl_time(X509_get0_notBefore(x)));
            assert_int_equal(c->not_after, openssl_time(X509_get0_notAfter(x)));
            X509_digest(x, EVP_sha256(), sha256, NULL);
            assert_memory_equal(c->sha256, sha256, 32);
            assert_int_equal(c->der.len, o->len);
            assert_memory_equal(c->der.ptr, o->der, o->len);
            hsb__x509_forget(&m, c);
            X509_free(x);
        }
        hsb__pem_free(&m, list);
    }
    assert_int_equal(m.used, 0);
}

static void odd_subject(void **state)
{
    static const char *const texts[] = { "ann.example.org", "ann@example.org",
                                         "urn:example:ann", "192.0.2.1" };
    hsb__memory m = { 0 };
    hsb__object *o = object_of(&m, "client-odd-subject.pem");
    hsb_certificate *c = hsb__x509_describe(&m, o->der, o->len);
    (void)state;
    assert_true(hsb__text_is(c->subject, "UID=42,emailAddress=ann@example.org,"
                "OU=one+CN=\\#\\\"a\\\\b\\\"\\<c\\>\\;,O=\\ M\xC3\xBCller\\, S\xC3\xB6hne "
                "\\+ T\xC3\xB6" "chter\\ ,C=DE,DC=example,DC=org"));
    assert_int_equal(c->name_count, 4);
    for (int i = 0; i < 4; i++)
        assert_true(hsb__text_is(c->names[i], texts[i]));
    hsb__x509_forget(&m, c);
    hsb__x509_forget(&m, NULL);
    hsb__pem_free(&m, o);
}

static void next_dns(void **state)
{
    hsb__memory m = { 0 };
    hsb__object *o = object_of(&m, "server-several.pem");
    hsb__x509 cert;
    hsb_str name;
    (void)state;
    assert_true(hsb__x509_walk(&cert, o->der, o->len));
    assert_true(hsb__x509_next_dns(&cert.san, &name) && hsb__text_is(name, "a.example.net"));
    assert_true(hsb__x509_next_dns(&cert.san, &name) && hsb__text_is(name, "b.example.net"));
    assert_true(hsb__x509_next_dns(&cert.san, &name) && hsb__text_is(name, "example.net"));
    assert_false(hsb__x509_next_dns(&cert.san, &name));
    hsb__pem_free(&m, o);
    o = object_of(&m, "server-p256.pem");               /* localhost and two addresses       */
    assert_true(hsb__x509_walk(&cert, o->der, o->len));
    assert_true(hsb__x509_next_dns(&cert.san, &name) && hsb__text_is(name, "localhost"));
    assert_false(hsb__x509_next_dns(&cert.san, &name));
    hsb__pem_free(&m, o);
    name = hsb__text_absent();                          /* no SAN                            */
    assert_false(hsb__x509_next_dns(&name, &cert.san));
}

/* --- hostile bytes ----------------------------------------------------------------- */

static void look_at(const unsigned char *der, size_t len, bool must_fail)
{
    hsb__memory m = { 0 };
    hsb__x509 cert;
    br_x509_pkey key;
    const unsigned char *copy = (const unsigned char *)guard_copy(der, len);
    if (hsb__x509_walk(&cert, copy, len)) {
        assert_false(must_fail);
        hsb__x509_public_key(&cert, &key);
    }
    hsb__x509_forget(&m, hsb__x509_describe(&m, copy, len));
    assert_int_equal(m.used, 0);
}

static void every_truncation(void **state)
{
    hsb__memory m = { 0 };
    (void)state;
    for (size_t i = 0; i < SHOWN; i++) {
        hsb__object *o = object_of(&m, shown[i]);
        for (size_t len = 0; len < o->len; len++)
            look_at(o->der, len, true);
        hsb__pem_free(&m, o);
    }
}

static void every_byte_spoilt(void **state)
{
    hsb__memory m = { 0 };
    hsb__object *o = object_of(&m, "client-odd-subject.pem");
    (void)state;
    for (size_t at = 0; at < o->len; at++)
        for (unsigned byte = 0; byte < 256; byte += byte < 4 || byte > 252 ? 1 : 7) {
            const unsigned char was = o->der[at];
            o->der[at] = (unsigned char)byte;
            look_at(o->der, o->len, false);
            o->der[at] = was;
        }
    hsb__pem_free(&m, o);
}

/* A certificate of that size, most of it in the signature. */
static size_t sized(made *c, size_t size)
{
    static made small;
    const parts none = { 0 };
    make(&small, &none);
    hsb_str rest = hsb__text_make((char *)small.bytes, small.len), cert, tbs;
    assert_true(hsb__der_take(&rest, HSB__DER_SEQUENCE, &cert));
    assert_true(hsb__der_whole(&cert, HSB__DER_SEQUENCE, &tbs));
    static const unsigned char filler[65536];
    hsb__der_out out = { c->bytes, 0, sizeof c->bytes, false };
    size_t mark = hsb__der_open(&out, HSB__DER_SEQUENCE);
    hsb__der_put(&out, tbs.ptr, tbs.len);
    hsb__selfsigned_put_signature_kind(&out);
    hsb__der_put_element(&out, HSB__DER_BITS, filler, size - out.len - 6);
    hsb__der_close(&out, mark);         /* the six: two lengths of three bytes, and a tag    */
    return out.len;
}

static void too_large(void **state)
{
    static made c;
    hsb__memory m = { 0 };
    hsb__x509 cert;
    (void)state;
    c.len = sized(&c, 65536);
    assert_int_equal(c.len, 65536);
    hsb_certificate *largest = describe(&m, &c);
    assert_non_null(largest);
    hsb__x509_forget(&m, largest);
    c.len = sized(&c, 65537);
    assert_true(hsb__x509_walk(&cert, c.bytes, c.len));
    assert_null(describe(&m, &c));
}

static void describe_without_memory(void **state)
{
    help_memory help = { 1, 0, NULL, 0, false };
    hsb__memory m = help_memory_of(&help), plain = { 0 };
    hsb__object *o = object_of(&plain, "client-p256.pem");
    (void)state;
    assert_null(hsb__x509_describe(&m, o->der, o->len));
    assert_int_equal(m.used, 0);
    hsb__pem_free(&plain, o);
}

/* --- chains ------------------------------------------------------------------------ */

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
            const hsb_pem pem = help_data("server-intermediate.pem");
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
    assert_int_equal(a.list[0].flags, BR_X509_TA_CA);
    assert_int_equal(a.list[0].pkey.key_type, BR_KEYTYPE_EC);
    assert_int_equal(a.list[0].pkey.key.ec.curve, BR_EC_secp256r1);
    assert_int_equal(a.list[0].pkey.key.ec.qlen, 65);
    assert_int_equal(a.list[0].dn.data[0], HSB__DER_SEQUENCE);
    assert_int_equal(a.list[0].dn.len, a.list[0].dn.data[1] + 2);
    assert_int_equal(a.list[1].pkey.key_type, BR_KEYTYPE_RSA);
    assert_int_equal(a.list[1].pkey.key.rsa.nlen, 256);
    assert_int_equal(a.list[1].pkey.key.rsa.elen, 3);
    hsb__anchors_free(&m, &a);
    const hsb_pem leaf = help_data("server-p256.pem");          /* trusted itself, but no CA */
    assert_true(hsb__anchors_load(&m, &a, &leaf, NULL));
    assert_int_equal(a.list[0].flags, 0);
    hsb__anchors_free(&m, &a);
    assert_int_equal(m.used, 0);
}

/* BearSSL's verdict over a chain of ours under anchors of ours; at noon of 2026-01-01. */
static unsigned verdict(const char *chain, const char *trusted)
{
    hsb__memory m = { 0 };
    hsb__chain c;
    hsb__anchors a;
    br_x509_minimal_context x;
    hsb_pem pem = help_data(chain);
    assert_true(hsb__chain_load(&m, &c, &pem, NULL));
    pem = help_data(trusted);
    assert_true(hsb__anchors_load(&m, &a, &pem, NULL));
    br_x509_minimal_init_full(&x, a.list, a.count);
    br_x509_minimal_set_time(&x, 719528 + 20454, 43200);
    x.vtable->start_chain(&x.vtable, NULL);
    for (size_t i = 0; i < c.count; i++) {
        x.vtable->start_cert(&x.vtable, (uint32_t)c.certs[i].data_len);
        x.vtable->append(&x.vtable, c.certs[i].data, c.certs[i].data_len);
        x.vtable->end_cert(&x.vtable);
    }
    unsigned result = x.vtable->end_chain(&x.vtable);
    hsb__chain_free(&m, &c);
    hsb__anchors_free(&m, &a);
    return result;
}

static void anchors_verify(void **state)
{
    (void)state;
    assert_int_equal(verdict("client-p256.pem", "ca.pem"), 0);
    assert_int_equal(verdict("client-p384.pem", "trusted.pem"), 0);
    assert_int_equal(verdict("client-rsa.pem", "trusted.pem"), 0);
    assert_int_equal(verdict("client-under-rsa.pem", "trusted.pem"), 0);
    assert_int_equal(verdict("client-intermediate.pem", "ca.pem"), 0);
    assert_int_equal(verdict("client-empty-subject.pem", "ca.pem"), 0);
    assert_int_equal(verdict("client-odd-subject.pem", "ca.pem"), 0);
    assert_int_equal(verdict("client-self-signed.pem", "client-self-signed.pem"), 0);
    assert_int_equal(verdict("client-other-ca.pem", "trusted.pem"), BR_ERR_X509_NOT_TRUSTED);
    assert_int_equal(verdict("client-impostor.pem", "trusted.pem"), BR_ERR_X509_NOT_TRUSTED);
    assert_int_equal(verdict("client-expired.pem", "trusted.pem"), BR_ERR_X509_EXPIRED);
    /* A trusted leaf vouches for nobody. */
    assert_int_equal(verdict("client-p256.pem", "server-p256.pem"), BR_ERR_X509_NOT_TRUSTED);
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

/* --- self-signed ------------------------------------------------------------------- */

static X509 *self_signed(const char *name, int64_t now)
{
    hsb__memory m = { 0 };
    hsb__key k;
    hsb__chain c;
    assert_true(hsb__key_generate(&m, &k, NULL));
    assert_true(hsb__selfsigned_make(&m, &c, &k, name, now, NULL));
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

/* OpenSSL, as strict as it gets, with the certificate for its only anchor. */
static int openssl_verdict(X509 *x, int64_t now)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, x);
    X509_STORE_CTX_init(ctx, store, x, NULL);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
    X509_VERIFY_PARAM_set_flags(param,
                                X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    X509_VERIFY_PARAM_set_time(param, (time_t)now);
    int code = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
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
    assert_false(hsb__selfsigned_make(&m, &c, &k, name, now, &err));
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
                 "self-signed certificate: \"%s\" is no host name or address", bad[i]);
        assert_string_equal(no_self_signed(bad[i], 0), text);
    }
    assert_string_equal(no_self_signed("a\n", 0),
                        "self-signed certificate: \"a?\" is no host name or address");
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
        ok = hsb__selfsigned_make(&m, &c, &k, "localhost", 0, &err);
        assert_true(ok || err.status == HSB_ERR_MEMORY);
        hsb__chain_free(&m, &c);
        assert_int_equal(m.used, 0);
    }
    hsb__key_free(&plain, &k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes),
        cmocka_unit_test(string_types),
        cmocka_unit_test(names),
        cmocka_unit_test(many_rdns),
        cmocka_unit_test(alternative_names),
        cmocka_unit_test(many_names),
        cmocka_unit_test(extensions),
        cmocka_unit_test(something_behind),
        cmocka_unit_test(public_keys),
        cmocka_unit_test(as_openssl_sees_them),
        cmocka_unit_test(odd_subject),
        cmocka_unit_test(next_dns),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_byte_spoilt),
        cmocka_unit_test(too_large),
        cmocka_unit_test(describe_without_memory),
        cmocka_unit_test(chains),
        cmocka_unit_test(errors),
        cmocka_unit_test(second_broken),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(keys_that_fit),
        cmocka_unit_test(spoilt_rsa_key),
        cmocka_unit_test(spoilt_ec_key),
        cmocka_unit_test(anchors),
        cmocka_unit_test(anchors_verify),
        cmocka_unit_test(authorities),
        cmocka_unit_test(authorities_that_just_fit),
        cmocka_unit_test(self_signed_dates),
        cmocka_unit_test(self_signed_names),
        cmocka_unit_test(self_signed_contents),
        cmocka_unit_test(self_signed_refused),
        cmocka_unit_test(self_signed_without_memory),
    };
    return cmocka_run_group_tests_name("cert", tests, NULL, NULL);
}
