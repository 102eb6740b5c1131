/* Chains of certificates, trust and revocation lists, drawn at random from valid and broken
   pieces and built with OpenSSL; what httpsbind.h thinks of them, and what OpenSSL does.
   Include httpsbind.h first, and define the source of randomness:
       static size_t chains_draw(size_t bound);      0..bound-1                            */
#ifndef CHAINS_H
#define CHAINS_H

#include "certs.h"

static size_t chains_draw(size_t bound);

static inline bool chains_odds(size_t n)        /* one in n */
{
    return chains_draw(n) == 0;
}

enum { CERTS_MAX = 10, LISTS_MAX = 8, SENT_MAX = 10 };

typedef struct world {
    cert_spec certs[CERTS_MAX];     /* 0 is the leaf                                         */
    int  cert_count;
    int  sent[SENT_MAX], sent_count;
    int  trusted[CERTS_MAX], trusted_count;
    list_spec lists[LISTS_MAX];
    int  list_count;
} world;

/* --- a world, as bytes -------------------------------------------------------------------- */
typedef struct shown {
    bytes certs[CERTS_MAX], lists[LISTS_MAX];
} shown;

static inline void chains_show(const world *w, shown *s, bool twin)
{
    for (int i = 0; i < w->cert_count; i++)
        s->certs[i] = chains_cert(&w->certs[i], twin);
    for (int i = 0; i < w->list_count; i++)
        s->lists[i] = chains_list(&w->lists[i]);
}

static inline void chains_hide(const world *w, shown *s)
{
    for (int i = 0; i < w->cert_count; i++)
        OPENSSL_free(s->certs[i].at);
    for (int i = 0; i < w->list_count; i++)
        OPENSSL_free(s->lists[i].at);
}

/* --- what we think ------------------------------------------------------------------------ */
typedef struct opinion {
    int  code, at;                  /* 0: accepted; -1: trust or lists were not loaded       */
    char text[200];
    int64_t until;
    double ms;                      /* of this process's time, from end_chain on             */
} opinion;

static inline char *chains_pem(BIO *bio, const char *name, const bytes *b)
{
    CHAINS_MUST(PEM_write_bio(bio, name, "", b->at, (long)b->len) > 0);
    return NULL;
}

static inline hsb_pem chains_pem_of(BIO *bio)
{
    char *text;
    const long len = BIO_get_mem_data(bio, &text);
    hsb_pem pem = { NULL, { text, (size_t)len } };
    return pem;
}

static inline bool chains_load(hsb_security *s, const world *w, const shown *b, hsb_error *err)
{
    BIO *trusted = BIO_new(BIO_s_mem()), *lists = BIO_new(BIO_s_mem());
    for (int i = 0; i < w->trusted_count; i++)
        chains_pem(trusted, "CERTIFICATE", &b->certs[w->trusted[i]]);
    for (int i = 0; i < w->list_count; i++)
        chains_pem(lists, "X509 CRL", &b->lists[i]);
    hsb_pem pem = chains_pem_of(trusted), list_pem = chains_pem_of(lists);
    bool ok = hsb__anchors_load(&s->memory, &s->trusted, &pem, err) &&
              (!w->list_count || hsb__crls_load(&s->memory, &s->revoked, &list_pem, &s->trusted,
                                                hsb__os_wall(), err));
    BIO_free(trusted);
    BIO_free(lists);
    return ok;
}

static inline double chains_cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* In pieces of 1, 2, 3, ... bytes, as a network may bring them. */
static inline void chains_feed(hsb__verify *v, const bytes *cert)
{
    hsb__verify_start_cert(v, (uint32_t)cert->len);
    for (size_t at = 0, n = 1; at < cert->len; at += n, n = n * 2 < cert->len - at ? n * 2 : cert->len - at)
        hsb__verify_append(v, cert->at + at, n);
    hsb__verify_end_cert(v);
}

static inline opinion chains_ours(const world *w, const shown *b)
{
    static hsb_security s;
    opinion out = { -1, 0, "", 0, 0 };
    hsb__memory m = { 0 };
    hsb__pool pool = { 0 };
    hsb__verify v = { 0 };
    hsb_error err = { 0 };
    memset(&s, 0, sizeof s);
    pool.memory = &m;
    v.pool = &pool;
    v.security = &s;
    if (chains_load(&s, w, b, &err)) {
        hsb__verify_start_chain(&v);
        for (int i = 0; i < w->sent_count; i++)
            chains_feed(&v, &b->certs[w->sent[i]]);
        double begin = chains_cpu_ms();
        out.code = (int)hsb__verify_end_chain(&v);
        out.ms = chains_cpu_ms() - begin;
        out.at = v.failed_at;
        out.until = v.until;
        CHAINS_MUST((out.code == 0) == v.verified && v.verified == (v.leaf.der != NULL));
        CHAINS_MUST((hsb__verify_key(&v) != NULL) == v.verified);
        if (out.code)
            hsb__verify_error(&v, out.code, &err);
    }
    snprintf(out.text, sizeof out.text, "%s", err.text);
    hsb__verify_end(&v);
    hsb__pool_close(&pool);
    CHAINS_MUST(m.used == 0);
    hsb__anchors_free(&s.memory, &s.trusted);
    hsb__crls_free(&s.memory, &s.revoked);
    CHAINS_MUST(s.memory.used == 0);
    return out;
}

/* --- what OpenSSL thinks ------------------------------------------------------------------ */

/* trusted vouches for itself: OpenSSL need not find a list for the top of the path; and where
   the issuer of the top is not there, it tries the list of that issuer with the wrong key.   */
static inline int chains_pardon(int ok, X509_STORE_CTX *ctx)
{
    const int error = X509_STORE_CTX_get_error(ctx), depth = X509_STORE_CTX_get_error_depth(ctx);
    const X509 *top = X509_STORE_CTX_get_current_cert(ctx);
    const bool alone = X509_NAME_cmp(X509_get_subject_name(top), X509_get_issuer_name(top)) != 0;
    return ok || (depth == sk_X509_num(X509_STORE_CTX_get0_chain(ctx)) - 1 &&
                  (error == X509_V_ERR_UNABLE_TO_GET_CRL ||
                   error == X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER ||
                   (alone && error == X509_V_ERR_CRL_SIGNATURE_FAILURE)));
}

static inline X509 *chains_parse(const bytes *b)
{
    const unsigned char *at = b->at;
    X509 *x = d2i_X509(NULL, &at, (long)b->len);
    if (x && at != b->at + b->len) {
        X509_free(x);
        x = NULL;
    }
    return x;
}

static inline bool chains_same(const bytes *a, const bytes *b)
{
    return a->len == b->len && memcmp(a->at, b->at, a->len) == 0;
}

/* A leaf that is in trusted itself, and is no CA. */
static inline bool chains_is_pinned(const world *w, const shown *b)
{
    for (int i = 0; i < w->trusted_count; i++)
        if (chains_same(&b->certs[w->trusted[i]], &b->certs[w->sent[0]]) &&
            w->certs[w->trusted[i]].ca != 1)
            return true;
    return false;
}

static inline void chains_fill_store(X509_STORE *store, const world *w, const shown *b)
{
    for (int i = 0; i < w->trusted_count && !chains_is_pinned(w, b); i++) {
        X509 *x = chains_parse(&b->certs[w->trusted[i]]);
        if (x)
            X509_STORE_add_cert(store, x);
        X509_free(x);
    }
    for (int i = 0; i < w->list_count; i++) {
        const unsigned char *at = b->lists[i].at;
        X509_CRL *x = d2i_X509_CRL(NULL, &at, (long)b->lists[i].len);
        if (x)
            X509_STORE_add_crl(store, x);
        X509_CRL_free(x);
    }
}

/* What came and OpenSSL can read; NULL if that is not so for the leaf. */
static inline STACK_OF(X509) *chains_sent(const world *w, const shown *b)
{
    STACK_OF(X509) *sent = sk_X509_new_null();
    for (int i = 0; i < w->sent_count; i++) {
        X509 *x = chains_parse(&b->certs[w->sent[i]]);
        if (x)
            sk_X509_push(sent, x);
        if (x || i)
            continue;
        sk_X509_free(sent);
        return NULL;
    }
    return sent;
}

/* An X509_V_ERR_*, or -1 if the leaf is malformed.  A pin is judged by itself: OpenSSL
   would go on to its issuers, which nobody trusts. */
static inline int chains_theirs(const world *w, const shown *b)
{
    STACK_OF(X509) *sent = chains_sent(w, b);
    if (!sent)
        return -1;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    const bool pinned = chains_is_pinned(w, b);
    chains_fill_store(store, w, b);
    if (pinned)
        X509_STORE_add_cert(store, sk_X509_value(sent, 0));
    CHAINS_MUST(X509_STORE_CTX_init(ctx, store, sk_X509_value(sent, 0), pinned ? NULL : sent));
    X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT);
    X509_VERIFY_PARAM_set_time(p, (time_t)hsb__os_wall());
    X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN);
    if (w->list_count && !pinned)
        X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    X509_STORE_CTX_set_verify_cb(ctx, chains_pardon);
    int result = X509_verify_cert(ctx) == 1 ? 0 : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_pop_free(sent, X509_free);
    return result;
}

/* --- drawing ------------------------------------------------------------------------------ */
static inline cert_spec chains_good(int number, int issuer, int key, int signer)
{
    cert_spec c = certs_plain(number, issuer, key, signer);
    c.begin = -10 - (int)chains_draw(100);
    c.end = 10 + (int)chains_draw(DAYS_LONG);
    if (chains_odds(2))
        c.key_id = key + 1;
    if (chains_odds(2))
        c.signer_id = signer + 1;
    if (number) {
        c.ca_critical = !chains_odds(4);
        c.usage = chains_odds(3) ? -1 : 0x06;
    } else {
        c.eku = chains_odds(2) ? EKU_CLIENT : 0;
        c.usage = chains_odds(2) ? -1 : 0x80;
    }
    c.md = key < KEYS_P256 && chains_odds(4) ? (int)chains_draw(3) : 0;
    return c;
}

static inline int chains_draw_key(int number)
{
    if (!chains_odds(6))
        return number % KEYS_P256;
    static const int odd[] = { KEY_P384, KEY_P521, KEY_RSA, KEY_RSA_2, KEY_RSA, KEY_RSA_2 };
    return odd[chains_draw(6)];
}

/* One thing that is different from what it should be, or might be. */
static inline void chains_bend(cert_spec *c)
{
    switch (chains_draw(32)) {
    case 0:  c->end = -(int)chains_draw(3) - 1; break;
    case 1:  c->begin = 1 + (int)chains_draw(3); break;
    case 2:  c->ca = (int)chains_draw(3) - 1; break;
    case 3: case 4: c->path_len = (int)chains_draw(3); break;
    case 5:  c->usage = (int)chains_draw(256); break;
    case 6:  c->usage = 0x08; break;                            /* keyAgreement              */
    case 7:  c->usage = 0x04; break;                            /* keyCertSign, no cRLSign   */
    case 8:  c->usage = 0x02; break;
    case 9:  c->eku = (int)chains_draw(8); c->eku_critical = chains_odds(2); break;
    case 10: c->eku = EKU_SERVER; c->eku_critical = chains_odds(2); break;
    case 11: c->eku = EKU_ANY; c->eku_critical = chains_odds(2); break;
    case 12: c->constraints = 1 + (int)chains_draw(2); break;
    case 13: c->unknown = 1 + (int)chains_draw(2); break;
    case 14: c->policies = 1 + (int)chains_draw(2); break;
    case 15: c->policy_constraints = 1 + (int)chains_draw(2); break;
    case 16: c->netscape = (int)chains_draw(256); break;
    case 17: c->signer = (int)chains_draw(KEYS_P256); break;    /* another one signs it      */
    case 18: c->issuer_upper = true; break;
    case 19: c->name_upper = true; break;
    case 20: c->key_id = 1 + (int)chains_draw(KEYS); break;
    case 21: c->signer_id = 1 + (int)chains_draw(KEYS); break;
    case 22: c->md = 3; break;
    case 23: c->version = (int)chains_draw(2); break;
    case 24: c->serial = -(long)chains_draw(300); break;
    case 25: c->long_serial = true; break;
    case 26: c->issuer = (int)chains_draw(6); break;
    case 27: c->twice = true; break;
    case 28: c->signer_id = -1; c->signer_serial = chains_odds(2) ? 1000 + c->issuer : 5; break;
    case 29: c->key = chains_odds(2) ? KEY_RSA_1024 : KEY_ED25519; break;
    case 30: c->empty_subject = true; break;
    default:
        c->spoil = (spoil)(1 + chains_draw(SPOILS - 1));
        c->spoil_at = chains_draw(1 << 20);
    }
}

static inline void chains_draw_sent(world *w, int root)
{
    for (int i = 0; i < root; i++)
        if (i == 0 || !chains_odds(20))
            w->sent[w->sent_count++] = i;
    if (chains_odds(4))
        w->sent[w->sent_count++] = root;
    if (chains_odds(8) && w->sent_count < 7) {
        w->sent[w->sent_count] = w->sent[chains_draw((size_t)w->sent_count)];
        w->sent_count++;
    }
    if (chains_odds(8) && w->sent_count < 7)
        w->sent[w->sent_count++] = (int)chains_draw((size_t)w->cert_count);
    if (chains_odds(4))
        for (int i = w->sent_count - 1; i > 1; i--) {
            const int j = 1 + (int)chains_draw((size_t)i), other = w->sent[i];
            w->sent[i] = w->sent[j];
            w->sent[j] = other;
        }
}

static inline void chains_draw_trusted(world *w, int root)
{
    if (!chains_odds(10))
        w->trusted[w->trusted_count++] = root;
    if (chains_odds(8))
        w->trusted[w->trusted_count++] = 0;
    if (chains_odds(8))
        w->trusted[w->trusted_count++] = (int)chains_draw((size_t)root);
    if (chains_odds(4) || !w->trusted_count)
        w->trusted[w->trusted_count++] = (int)chains_draw((size_t)w->cert_count);
}

static inline list_spec chains_draw_list(const world *w, int ca)
{
    list_spec l;
    memset(&l, 0, sizeof l);
    l.issuer = w->certs[ca].name;
    l.signer = w->certs[ca].key;
    l.key_id = chains_odds(2) ? w->certs[ca].key_id : 0;
    l.begin = -5;
    l.end = 5 + (int)chains_draw(100);
    for (l.count = 0; l.count < 3; l.count++)
        l.serials[l.count] = (long)chains_draw(1000);
    if (chains_odds(6))
        l.serials[l.count++] = w->certs[chains_draw((size_t)w->cert_count)].serial;
    if (!chains_odds(8))
        return l;
    switch (chains_draw(10)) {
    case 0: l.no_end = true; break;
    case 1: l.is_delta = true; break;
    case 2: l.is_partial = true; break;
    case 3: l.entry_critical = true; break;
    case 4: l.bad_signature = true; break;
    case 5: l.end = -1; break;
    case 6: l.begin = 1; break;
    case 7: l.signer = (int)chains_draw(KEYS_P256); break;
    case 8: l.key_id = 1 + (int)chains_draw(KEYS); break;
    default: l.md = 3; break;
    }
    return l;
}

static inline void chains_draw_lists(world *w, int root)
{
    for (int ca = 1; ca <= root && w->list_count < LISTS_MAX; ca++)
        if (!chains_odds(20))
            w->lists[w->list_count++] = chains_draw_list(w, ca);
    if (chains_odds(10) && w->list_count < LISTS_MAX)
        w->lists[w->list_count++] = chains_draw_list(w, 1 + (int)chains_draw((size_t)root));
}

/* A leaf, intermediates, a root, two strangers; then up to three things bent. */
static inline void chains_draw_world(world *w)
{
    const size_t most[] = { 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 6 };
    const int root = (int)most[chains_draw(16)];
    memset(w, 0, sizeof *w);
    int keys[CERTS_MAX];
    for (int i = 0; i <= root; i++)
        keys[i] = chains_draw_key(i);
    for (int i = 0; i <= root; i++)
        w->certs[i] = chains_good(i, i < root ? i + 1 : root, keys[i], keys[i < root ? i + 1 : root]);
    w->cert_count = root + 1;
    /* another CA with the root's name, and the root again under another name */
    w->certs[w->cert_count++] = chains_good(root, root, 7, 7);
    w->certs[w->cert_count++] = chains_good(root, 50, keys[root], 6);
    for (size_t i = chains_draw(4); i > 0; i--)
        chains_bend(&w->certs[chains_draw((size_t)(chains_odds(4) ? w->cert_count : root + 1))]);
    chains_draw_sent(w, root);
    chains_draw_trusted(w, root);
    if (chains_odds(3))
        chains_draw_lists(w, root);
}

/* --- both ------------------------------------------------------------------------------------ */

/* Whom we accept OpenSSL may refuse for two reasons, so it is asked again without them: it
   does not know anyExtendedKeyUsage, and gets clientAuth beside it; and of several CAs in
   trusted that have one name it tries one, so each is put there alone. */
static inline int chains_theirs_of(const world *w, const shown *b, const opinion *ours)
{
    int theirs = chains_theirs(w, b);
    if (ours->code || !theirs)
        return theirs;
    shown twin;
    world alone = *w;
    chains_show(w, &twin, true);
    theirs = chains_theirs(w, &twin);
    alone.trusted_count = 1;
    for (int i = 0; i < w->trusted_count && theirs; i++) {
        alone.trusted[0] = w->trusted[i];
        theirs = chains_theirs(&alone, &twin);
    }
    chains_hide(w, &twin);
    return theirs;
}

static inline void chains_print(const world *w)
{
    for (int i = 0; i < w->cert_count; i++) {
        const cert_spec *c = &w->certs[i];
        fprintf(stderr, "%d: name %d%s by %d%s key %d by %d md %d days %d..%d v%d serial %ld%s ca %d,%d usage %d "
                "eku %d%s ns %d nc %d unknown %d pol %d,%d ids %d by %d (%ld) twice %d empty %d spoil %d at %zu\n",
                i, c->name, c->name_upper ? "^" : "", c->issuer, c->issuer_upper ? "^" : "", c->key, c->signer,
                c->md, c->begin, c->end, c->version + 1, c->serial, c->long_serial ? "+" : "", c->ca, c->path_len,
                c->usage, c->eku, c->eku_critical ? "!" : "", c->netscape, c->constraints, c->unknown, c->policies,
                c->policy_constraints, c->key_id, c->signer_id, c->signer_serial, c->twice, c->empty_subject,
                (int)c->spoil, c->spoil_at);
    }
    fprintf(stderr, "sent");
    for (int i = 0; i < w->sent_count; i++)
        fprintf(stderr, " %d", w->sent[i]);
    fprintf(stderr, ", trusted");
    for (int i = 0; i < w->trusted_count; i++)
        fprintf(stderr, " %d", w->trusted[i]);
    fprintf(stderr, "\n");
    for (int i = 0; i < w->list_count; i++) {
        const list_spec *l = &w->lists[i];
        fprintf(stderr, "list of %d by %d id %d md %d days %d..%d%s%s%s%s%s:", l->issuer, l->signer, l->key_id,
                l->md, l->begin, l->end, l->no_end ? " no end" : "", l->is_delta ? " delta" : "",
                l->is_partial ? " partial" : "", l->entry_critical ? " critical" : "",
                l->bad_signature ? " bad" : "");
        for (int k = 0; k < l->count; k++)
            fprintf(stderr, " %ld", l->serials[k]);
        fprintf(stderr, "\n");
    }
}

#endif
