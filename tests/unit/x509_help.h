/* What OpenSSL reads in a certificate, to compare ours with it.  Include httpsbind.h first. */
#ifndef X509_HELP_H
#define X509_HELP_H

#include <openssl/pem.h>
#include <openssl/x509v3.h>

static inline char *openssl_name(const X509_NAME *name)
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

static inline int64_t openssl_time(const ASN1_TIME *t)
{
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(t, &tm), 1);
    return timegm(&tm);
}

static inline void same_text(hsb_str ours, const X509_NAME *name)
{
    char *theirs = openssl_name(name);
    if (!hsb__text_is(ours, theirs))
        print_message("%.*s\n%s\n", (int)ours.len, ours.ptr, theirs);
    assert_true(hsb__text_is(ours, theirs));
    free(theirs);
}

#endif
