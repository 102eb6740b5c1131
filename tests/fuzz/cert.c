/* Any bytes as a certificate: the walk, its key, and what is told of it to the user. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

/* Texts are UTF-8 without controls, so that no one is misled by what he sees. */
static void must_be_text(hsb_str s)
{
    uint32_t c;
    if (!s.ptr)
        abort();
    while (s.len)
        if (!hsb__x509_next_char(&s, HSB__DER_UTF8, &c) || hsb__utf8_is_hidden(c))
            abort();
}

static void must_be_names(const hsb_certificate *c)
{
    if (c->name_count < 0 || c->name_count > HSB__X509_NAMES)
        abort();
    for (int i = 0; i < c->name_count; i++) {
        if (c->names[i].len == 0 || memchr(c->names[i].ptr, ' ', c->names[i].len))
            abort();
        must_be_text(c->names[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hsb__memory m = { 0 };
    hsb__x509 cert;
    br_x509_pkey key;
    hsb_str name;
    bool ok = hsb__x509_walk(&cert, data, size);
    hsb_certificate *c = hsb__x509_describe(&m, data, size);
    if (c && !ok)
        abort();
    if (ok && !hsb__x509_public_key(&cert, &key) && key.key_type == BR_KEYTYPE_RSA &&
        (key.key.rsa.nlen < 256 || key.key.rsa.nlen > 512))
        abort();
    while (ok && hsb__x509_next_dns(&cert.san, &name))
        must_be_text(name);
    if (c) {
        must_be_text(c->subject);
        must_be_text(c->issuer);
        must_be_names(c);
        hsb__x509_forget(&m, c);
    }
    if (m.used)
        abort();
    return 0;
}
