/* Certificates and revocation lists, good and broken ones, made with OpenSSL as a test wants
   them.  Nothing here needs more of httpsbind.h than its public part.                     */
#ifndef CERTS_H
#define CERTS_H

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHAINS_MUST(condition) \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))

/* --- keys ------------------------------------------------------------------------------- */
enum {
    KEYS_P256 = 8, KEY_P384 = KEYS_P256, KEY_P521, KEY_RSA, KEY_RSA_2, KEY_RSA_4096, KEY_RSA_1024,
    KEY_ED25519,
    KEYS,
    KEY_RSA_WIDE = KEYS, KEY_RSA_4096_WIDE,     /* the exponent has 32 bits, all set         */
    KEYS_ALL
};

static inline EVP_PKEY *chains_read_key(const char *path)
{
    BIO *bio = BIO_new_file(path, "r");
    CHAINS_MUST(bio != NULL);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    CHAINS_MUST(key != NULL);
    return key;
}

static inline EVP_PKEY *chains_make_wide(size_t bits)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BIGNUM *e = BN_new();
    CHAINS_MUST(BN_set_word(e, 0xFFFFFFFFU) && EVP_PKEY_keygen_init(ctx) > 0 &&
                EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits) > 0 &&
                EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, e) > 0 && EVP_PKEY_generate(ctx, &key) > 0);
    BN_free(e);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static inline EVP_PKEY *chains_key(int which)
{
    static EVP_PKEY *keys[KEYS_ALL];
    if (!keys[KEY_RSA]) {
        for (int i = 0; i < KEYS_P256; i++)
            keys[i] = EVP_EC_gen("P-256");
        keys[KEY_P384] = EVP_EC_gen("P-384");
        keys[KEY_P521] = EVP_EC_gen("P-521");
        keys[KEY_RSA_2] = chains_read_key("tests/data/ca-rsa.key");
        keys[KEY_RSA_4096] = chains_read_key("tests/data/server-rsa4096.key");
        keys[KEY_RSA_1024] = chains_read_key("tests/data/rsa1024.key");
        keys[KEY_ED25519] = chains_read_key("tests/data/ed25519.key");
        keys[KEY_RSA] = chains_read_key("tests/data/client-rsa.key");
    }
    if (which >= KEYS && !keys[which])          /* takes seconds, and few want them          */
        keys[which] = chains_make_wide(which == KEY_RSA_WIDE ? 2048 : 4096);
    return keys[which];
}

/* --- certificates ----------------------------------------------------------------------- */
enum { EKU_CLIENT = 1, EKU_SERVER = 2, EKU_ANY = 4 };
enum { DAYS_LONG = 3650 };

typedef enum spoil {
    SPOIL_NOTHING, SPOIL_SIGNATURE, SPOIL_OUTER_OID, SPOIL_OUTER_NULL, SPOIL_BEHIND, SPOIL_CUT,
    SPOIL_BYTE, SPOIL_MIRROR, SPOIL_LENIENT, SPOIL_NO_SIGNATURE, SPOILS
} spoil;

typedef struct cert_spec {
    int   name, issuer;             /* numbers; odd variants differ in case only             */
    bool  name_upper, issuer_upper;
    int   key, signer;
    int   md;                       /* 0: SHA-256, 1: -384, 2: -512, 3: SHA-1                */
    int   begin, end;               /* days from now                                         */
    int   end_seconds;              /* instead of end                                        */
    int   version;                  /* 2 is v3                                               */
    long  serial;
    bool  long_serial;
    int   ca, path_len;             /* -1: absent                                            */
    bool  ca_critical;
    int   usage;                    /* -1: absent                                            */
    int   eku;
    bool  eku_critical;
    int   netscape;                 /* -1: absent                                            */
    int   constraints, unknown, policies, policy_constraints;   /* 1: there, 2: critical     */
    bool  twice;                    /* one extension twice                                   */
    int   key_id, signer_id;        /* 0: none, else of that key + 1; signer_id -1: issuer and
                                       serial                                                */
    long  signer_serial;
    bool  empty_subject;
    spoil spoil;
    size_t spoil_at;
} cert_spec;

typedef struct list_spec {
    int  issuer, signer, key_id, md;
    int  begin, end;
    int  end_seconds;               /* instead of end                                        */
    bool no_end, is_delta, is_partial, entry_critical, bad_signature;
    long serials[6];
    int  count;
} list_spec;

/* Good: a CA (number above 0), or a client. */
static inline cert_spec certs_plain(int number, int issuer, int key, int signer)
{
    cert_spec c;
    memset(&c, 0, sizeof c);
    c.name = number;
    c.issuer = issuer;
    c.key = key;
    c.signer = signer;
    c.begin = -10;
    c.end = 100;
    c.version = 2;
    c.serial = 1000 + number;
    c.ca = number ? 1 : -1;
    c.ca_critical = true;
    c.path_len = c.usage = c.netscape = -1;
    return c;
}

typedef struct bytes { unsigned char *at; size_t len; } bytes;

static inline X509_NAME *chains_name(int number, bool upper)
{
    char text[40];
    X509_NAME *name = X509_NAME_new();
    snprintf(text, sizeof text, upper ? "NAME %d" : "name %d", number);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (unsigned char *)text, -1, -1, 0);
    return name;
}

static inline void chains_add(X509 *x, const char *oid, bool critical, const void *value, size_t len)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(octets, value, (int)len);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, critical, octets);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(octets);
    ASN1_OBJECT_free(object);
}

static inline void chains_add_purposes(X509 *x, const cert_spec *c, int eku)
{
    static const char *const oids[] = { "\x06\x08\x2B\x06\x01\x05\x05\x07\x03\x02",
                                        "\x06\x08\x2B\x06\x01\x05\x05\x07\x03\x01",
                                        "\x06\x04\x55\x1D\x25" };
    unsigned char value[40] = { 0x30 };
    size_t len = 2;
    for (int i = 0; i < 3; i++)
        if (eku >> i & 1) {
            size_t n = i < 2 ? 10 : 6;              /* the last byte of "any" is its zero    */
            memcpy(value + len, oids[i], i < 2 ? n : 5);
            len += n;
        }
    value[1] = (unsigned char)(len - 2);
    if (eku)
        chains_add(x, "2.5.29.37", c->eku_critical, value, len);
}

static inline void chains_key_hash(int key, unsigned char out[20])
{
    memset(out, 0x40 + key, 20);
}

static inline void chains_add_ids(X509 *x, const cert_spec *c)
{
    unsigned char own[22] = { 0x04, 20 }, signer[24] = { 0x30, 22, 0x80, 20 };
    if (c->key_id) {
        chains_key_hash(c->key_id, own + 2);
        chains_add(x, "2.5.29.14", false, own, sizeof own);
    }
    if (c->signer_id > 0) {
        chains_key_hash(c->signer_id, signer + 4);
        chains_add(x, "2.5.29.35", false, signer, sizeof signer);
    }
    if (c->signer_id < 0) {                         /* and the issuer's issuer is itself     */
        AUTHORITY_KEYID *id = AUTHORITY_KEYID_new();
        GENERAL_NAME *name = GENERAL_NAME_new();
        GENERAL_NAME_set0_value(name, GEN_DIRNAME, chains_name(c->issuer, c->issuer_upper));
        id->issuer = GENERAL_NAMES_new();
        sk_GENERAL_NAME_push(id->issuer, name);
        id->serial = ASN1_INTEGER_new();
        ASN1_INTEGER_set(id->serial, c->signer_serial);
        X509_add1_ext_i2d(x, NID_authority_key_identifier, id, 0, X509V3_ADD_APPEND);
        AUTHORITY_KEYID_free(id);
    }
}

static inline void chains_add_basics(X509 *x, const cert_spec *c)
{
    unsigned char constraints[8] = { 0x30, 0 }, usage[4] = { 0x03, 2, 0, (unsigned char)c->usage };
    size_t len = 2;
    if (c->ca == 1) {
        memcpy(constraints + len, "\x01\x01\xFF", 3);
        len += 3;
    }
    if (c->ca >= 0 && c->path_len >= 0) {
        constraints[len++] = 0x02, constraints[len++] = 1, constraints[len++] = (unsigned char)c->path_len;
    }
    constraints[1] = (unsigned char)(len - 2);
    if (c->ca >= 0)
        chains_add(x, "2.5.29.19", c->ca_critical, constraints, len);
    if (c->ca >= 0 && c->twice)
        chains_add(x, "2.5.29.19", c->ca_critical, constraints, len);
    if (c->usage >= 0)
        chains_add(x, "2.5.29.15", true, usage, sizeof usage);
}

static inline void chains_add_extensions(X509 *x, const cert_spec *c, bool twin)
{
    const unsigned char netscape[] = { 0x03, 2, 0, (unsigned char)c->netscape };
    chains_add_basics(x, c);
    chains_add_purposes(x, c, twin && c->eku & EKU_ANY ? c->eku | EKU_CLIENT : c->eku);
    chains_add_ids(x, c);
    if (c->netscape >= 0)
        chains_add(x, "2.16.840.1.113730.1.1", false, netscape, sizeof netscape);
    if (c->constraints)
        chains_add(x, "2.5.29.30", c->constraints == 2, "\x30\x09\xA0\x07\x30\x05\x82\x03" "a.b", 11);
    if (c->unknown)
        chains_add(x, "1.2.3.4.5", c->unknown == 2, "\x05\x00", 2);
    if (c->policies)
        chains_add(x, "2.5.29.32", c->policies == 2, "\x30\x06\x30\x04\x06\x02\x2A\x03", 8);
    if (c->policy_constraints)
        chains_add(x, "2.5.29.36", c->policy_constraints == 2, "\x30\x03\x80\x01\x09", 5);
}

static inline const EVP_MD *chains_md(int key, int md)
{
    const EVP_MD *all[] = { EVP_sha256(), EVP_sha384(), EVP_sha512(), EVP_sha1() };
    return key == KEY_ED25519 ? NULL : all[md];
}

/* SEQUENCE { r, s } with s mirrored, or with a byte that no number needs. */
static inline bytes chains_change_ecdsa(const unsigned char *old, size_t len, int key, bool mirror)
{
    bytes out = { NULL, 0 };
    const unsigned char *at = old;
    const BIGNUM *r, *s;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)len);
    if (!sig)
        return out;
    if (mirror) {
        char curve[40];
        EVP_PKEY_get_group_name(chains_key(key), curve, sizeof curve, NULL);
        EC_GROUP *group = EC_GROUP_new_by_curve_name(OBJ_txt2nid(curve));
        ECDSA_SIG_get0(sig, &r, &s);
        BIGNUM *other = BN_new(), *same = BN_dup(r);
        BN_sub(other, EC_GROUP_get0_order(group), s);
        ECDSA_SIG_set0(sig, same, other);
        EC_GROUP_free(group);
        out.len = (size_t)i2d_ECDSA_SIG(sig, &out.at);
    } else {
        out.at = OPENSSL_malloc(len + 1);
        out.len = old[1] & 0x80 ? 0 : len + 1;      /* a long one stays as it is             */
        memcpy(out.at, old, 4);
        out.at[1]++, out.at[3]++;
        out.at[4] = 0;                              /* before r, which has no need of it     */
        memcpy(out.at + 5, old + 4, len - 4);
    }
    ECDSA_SIG_free(sig);
    return out;
}

/* Changes that nobody signs: the outer algorithm and the form of the signature. */
static inline void chains_spoil_object(X509 *x, const cert_spec *c)
{
    const ASN1_BIT_STRING *signature;
    const X509_ALGOR *outer;
    const ASN1_OBJECT *oid;
    int type;
    X509_get0_signature(&signature, &outer, x);
    X509_ALGOR_get0(&oid, &type, NULL, outer);
    if (c->spoil == SPOIL_OUTER_OID)
        X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)outer, OBJ_txt2obj("1.2.840.10045.4.3.1", 1), type, NULL);
    if (c->spoil == SPOIL_OUTER_NULL)
        X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)outer, OBJ_dup(oid),
                        type == V_ASN1_NULL ? V_ASN1_UNDEF : V_ASN1_NULL, NULL);
    if (c->spoil == SPOIL_NO_SIGNATURE)
        ASN1_STRING_set((ASN1_STRING *)(uintptr_t)signature, "not a signature", 15);
    if (c->spoil == SPOIL_MIRROR || c->spoil == SPOIL_LENIENT) {
        bytes changed = chains_change_ecdsa(ASN1_STRING_get0_data(signature),
                                            (size_t)ASN1_STRING_length(signature), c->signer,
                                            c->spoil == SPOIL_MIRROR);
        if (changed.len)
            ASN1_STRING_set((ASN1_STRING *)(uintptr_t)signature, changed.at, (int)changed.len);
        OPENSSL_free(changed.at);
    }
}

/* From the front or from the end, so that it is the same byte however long a signature is. */
static inline bytes chains_spoil(bytes b, const cert_spec *c)
{
    const size_t front = (c->spoil_at >> 4) % 240, at = c->spoil_at & 8 ? front : b.len - 1 - front % 60;
    switch (c->spoil) {
    case SPOIL_SIGNATURE:
        b.at[b.len - 1] ^= 1;
        break;
    case SPOIL_BYTE:
        b.at[at] ^= (unsigned char)(1u << (c->spoil_at & 7));
        break;
    case SPOIL_BEHIND:
        b.at = OPENSSL_realloc(b.at, b.len + 2);
        memcpy(b.at + b.len, "\x05", 2);
        b.len += 2;
        break;
    case SPOIL_CUT:
        b.len -= 1 + front;
        break;
    default:
        break;
    }
    return b;
}

/* The same second in every certificate of one process, so that the same spec is the same bytes
   (where the signature is RSA's). */
static inline void chains_date(ASN1_TIME *out, int days)
{
    static time_t now;
    if (!now)
        now = time(NULL);
    X509_time_adj_ex(out, days, 0, &now);
}

/* twin: where anyExtendedKeyUsage is, clientAuth is too. */
static inline bytes chains_cert(const cert_spec *c, bool twin)
{
    bytes out = { NULL, 0 };
    X509 *x = X509_new();
    X509_NAME *subject = c->empty_subject ? X509_NAME_new() : chains_name(c->name, c->name_upper);
    X509_NAME *issuer = chains_name(c->issuer, c->issuer_upper);
    X509_set_version(x, c->version);
    ASN1_INTEGER_set(X509_get_serialNumber(x), c->serial);
    if (c->long_serial) {
        BIGNUM *n = BN_new();
        BN_lshift(n, BN_value_one(), 8 * 24);
        BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
        BN_free(n);
    }
    X509_set_subject_name(x, subject);
    X509_set_issuer_name(x, issuer);
    chains_date(X509_getm_notBefore(x), c->begin);
    chains_date(X509_getm_notAfter(x), c->end);
    if (c->end_seconds)
        X509_gmtime_adj(X509_getm_notAfter(x), c->end_seconds);
    X509_set_pubkey(x, chains_key(c->key));
    chains_add_extensions(x, c, twin);
    CHAINS_MUST(X509_sign(x, chains_key(c->signer), chains_md(c->signer, c->md)) > 0);
    chains_spoil_object(x, c);
    out.len = (size_t)i2d_X509(x, &out.at);
    X509_NAME_free(subject);
    X509_NAME_free(issuer);
    X509_free(x);
    return chains_spoil(out, c);
}

static inline void chains_list_extension(X509_CRL *x, const char *oid, const void *value, size_t len)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(octets, value, (int)len);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, strcmp(oid, "2.5.29.35") != 0, octets);
    X509_CRL_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(octets);
    ASN1_OBJECT_free(object);
}

static inline void chains_list_entry(X509_CRL *x, long serial, bool critical)
{
    X509_REVOKED *r = X509_REVOKED_new();
    ASN1_INTEGER *n = ASN1_INTEGER_new();
    ASN1_TIME *t = X509_gmtime_adj(NULL, -86400);
    ASN1_INTEGER_set(n, serial);
    X509_REVOKED_set_serialNumber(r, n);
    X509_REVOKED_set_revocationDate(r, t);
    if (critical) {
        ASN1_OBJECT *object = OBJ_txt2obj("1.2.3.4.6", 1);
        ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
        ASN1_OCTET_STRING_set(octets, (const unsigned char *)"\x05", 2);
        X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, object, 1, octets);
        X509_REVOKED_add_ext(r, e, -1);
        X509_EXTENSION_free(e);
        ASN1_OCTET_STRING_free(octets);
        ASN1_OBJECT_free(object);
    }
    X509_CRL_add0_revoked(x, r);
    ASN1_INTEGER_free(n);
    ASN1_TIME_free(t);
}

static inline bytes chains_list(const list_spec *l)
{
    bytes out = { NULL, 0 };
    X509_CRL *x = X509_CRL_new();
    X509_NAME *issuer = chains_name(l->issuer, false);
    ASN1_TIME *begin = X509_gmtime_adj(NULL, l->begin * 86400L), 
              *end = X509_gmtime_adj(NULL, l->end_seconds ? l->end_seconds : l->end * 86400L);
    unsigned char id[24] = { 0x30, 22, 0x80, 20 };
    X509_CRL_set_version(x, 1);
    X509_CRL_set_issuer_name(x, issuer);
    X509_CRL_set1_lastUpdate(x, begin);
    if (!l->no_end)
        X509_CRL_set1_nextUpdate(x, end);
    for (int i = 0; i < l->count; i++)
        chains_list_entry(x, l->serials[i], l->entry_critical && i == 0);
    if (l->key_id) {
        chains_key_hash(l->key_id, id + 4);
        chains_list_extension(x, "2.5.29.35", id, sizeof id);
    }
    if (l->is_delta)
        chains_list_extension(x, "2.5.29.27", "\x02\x01\x01", 3);
    if (l->is_partial)
        chains_list_extension(x, "2.5.29.28", "\x30\x03\x81\x01\xFF", 5);
    X509_CRL_sort(x);
    CHAINS_MUST(X509_CRL_sign(x, chains_key(l->signer), chains_md(l->signer, l->md)) > 0);
    out.len = (size_t)i2d_X509_CRL(x, &out.at);
    if (l->bad_signature)
        out.at[out.len - 1] ^= 1;
    ASN1_TIME_free(begin);
    ASN1_TIME_free(end);
    X509_NAME_free(issuer);
    X509_CRL_free(x);
    return out;
}

#endif
