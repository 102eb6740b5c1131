/* >>x509: what a certificate says, however odd or hostile; and beside it what OpenSSL reads. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "keys_help.h"
#include "x509_help.h"

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
    hsb__selfsigned_put_validity(&out, 1000000000, 2000000000);
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
    /* right to left from here; line separator; soft hyphen; zero width; byte order mark; a tag */
    assert_string_equal(CN(HSB__DER_UTF8, "a\xE2\x80\xAE" "b"), "a\\E2\\80\\AEb");
    assert_string_equal(CN(HSB__DER_UTF8, "\xE2\x80\xA8"), "\\E2\\80\\A8");
    assert_string_equal(CN(HSB__DER_UTF8, "\xC2\xAD\xE2\x80\x8B"), "\\C2\\AD\\E2\\80\\8B");
    assert_string_equal(CN(HSB__DER_UTF8, "\xEF\xBB\xBF\xF3\xA0\x81\x81"), "\\EF\\BB\\BF\\F3\\A0\\81\\81");
    assert_string_equal(CN(HSB__DER_BMP, "\x20\x2E\x20\x67"), "\\E2\\80\\AE\\E2\\81\\A7");
    assert_string_equal(CN(HSB__DER_UTF8, "\xE2\x80\xA7\xC2\xA0\xE2\x80\xAF"), "\xE2\x80\xA7\xC2\xA0\xE2\x80\xAF");
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
    assert_false(WALKS("\x30\x0A\x06\x03\x55\x1D\x13\x04\x03\x30\x00\x00"));  /* 00 behind it  */
    assert_false(WALKS("\x30\x03\x06\x01\x55"));        /* no value                          */
    assert_false(WALKS("\x30\x0E\x06\x03\x55\x1D\x11\x04\x05\x30\x03\x82\x01" "a\x05\x00"));
    assert_false(WALKS("\x30\x0E\x06\x03\x55\x1D\x11\x04\x07\x30\x03\x82\x01" "a\x05\x00"));
    assert_false(WALKS("\x30\x0A\x06\x03\x55\x1D\x13\x04\x03\x30\x00\x00"));  /* a byte behind it  */
    assert_false(WALKS("\x30\x0C\x06\x03\x55\x1D\x13\x04\x05\x30\x03\x02\x01\x00")); /* a path, no CA   */
    assert_true(WALKS("\x30\x0F\x06\x03\x55\x1D\x13\x04\x08\x30\x06\x01\x01\xFF\x02\x01\x03"));
    assert_int_equal(cert.path_len, 3);
    assert_false(WALKS("\x30\x0F\x06\x03\x55\x1D\x13\x04\x08\x30\x06\x01\x01\xFF\x02\x01\xFF"));
    assert_true(WALKS("\x30\x0B\x06\x03\x55\x1D\x0F\x04\x04\x03\x02\x05\xA0"));
    assert_int_equal(cert.usage, 0xA0);
    assert_false(WALKS("\x30\x0B\x06\x03\x55\x1D\x0F\x04\x04\x03\x02\x08\xA0"));    /* 8 bits unused */
    assert_false(WALKS("\x30\x09\x06\x03\x55\x1D\x25\x04\x02\x30\x00"));          /* no purpose    */
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
    hsb_str rest = hsb__text_make((char *)small.bytes, small.len), cert = rest, tbs = rest;
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

/* X.690 8.3.2: not more bytes than the number needs. */
static void serials(void **state)
{
    static const struct { size_t len; const char *der; bool good; } cases[] = {
        { 3, "\2\1\1", true },         { 3, "\2\1\0", true },          { 3, "\2\1\377", true },
        { 4, "\2\2\0\200", true },     { 4, "\2\2\377\177", true },   { 4, "\2\2\1\0", true },
        { 4, "\2\2\0\1", false },      { 4, "\2\2\0\177", false },    { 4, "\2\2\377\200", false },
        { 4, "\2\2\377\377", false },  { 2, "\2\0", false },           { 3, "\4\1\1", false },
        { 3, "\2\2\1", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hsb_str rest = hsb__text_make(guard_copy(cases[i].der, cases[i].len), cases[i].len), serial;
        if (hsb__x509_serial(&rest, &serial) != cases[i].good)
            fail_msg("case %zu", i);
    }
}

/* The exponent sets what a signature costs: odd, above 1, 32 bits at most. */
static void rsa_exponents(void **state)
{
    static const char wrong[] = "RSA exponent not supported: it is odd, above 1 and has at most 32 bits";
    static const struct { size_t len; const char *e; const char *text; } cases[] = {
        { 1, "\3", NULL },               { 3, "\1\0\1", NULL },            { 1, "\1", wrong },
        { 5, "\0\377\377\377\377", NULL },                               { 1, "\2", wrong },
        { 5, "\1\0\0\0\1", wrong },     { 5, "\0\377\377\377\376", wrong },
        { 1, "\0", hsb__x509_malformed },                                 { 1, "\203", hsb__x509_malformed },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char der[300] = "\x30\x82\0\0\2\x82\1\1\0\xFF";
        br_rsa_public_key key;
        size_t len = 4 + 4 + 257;
        memset(der + 9, 0xFF, 256);
        der[len++] = 2;
        der[len++] = (char)cases[i].len;
        memcpy(der + len, cases[i].e, cases[i].len);
        len += cases[i].len;
        der[2] = 1;
        der[3] = (char)(len - 4 - 256);
        const char *text = hsb__x509_rsa_key(hsb__text_make(guard_copy(der, len), len), &key);
        if (text != cases[i].text && (!text || !cases[i].text || strcmp(text, cases[i].text) != 0))
            fail_msg("case %zu: %s", i, text ? text : "good");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes),
        cmocka_unit_test(serials),
        cmocka_unit_test(rsa_exponents),
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
    };
    return cmocka_run_group_tests_name("x509", tests, NULL, NULL);
}
