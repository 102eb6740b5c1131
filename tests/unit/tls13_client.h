/* A client of TLS 1.3 that can break every rule: RFC 8446 written a second time, on OpenSSL's
   primitives, with no code of the header.  It is joined with an engine of ours by memory.
   Include httpsbind.h first, and help.h or fuzz.h, whose MUST it uses. */
#ifndef TLS13_CLIENT_H
#define TLS13_CLIENT_H

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

typedef struct c13_bytes { unsigned char at[40000]; size_t len; } c13_bytes;

/* One direction. */
typedef struct c13_side {
    unsigned char secret[48], key[32], iv[12];
    uint64_t seq;
    bool on;
} c13_side;

/* What its ClientHello says.  All zero: the usual. */
typedef struct c13_hello {
    unsigned suites[4];                 /* 0x1301                                            */
    unsigned groups[4], shares[4];      /* X25519; the same.  1: none of them                */
    unsigned signatures[8];             /* all of ours; 1: no such extension                 */
    const char *alpn, *name;
    unsigned limit;                     /* record_size_limit                                 */
    bool no_groups, no_shares, no_modes, early;
    bool empty_id;                      /* no session ID: not as middleboxes want it         */
    unsigned versions[3];               /* 0x0304; 1: no such extension                      */
    const void *share;                  /* the first share, instead of a right one           */
    size_t share_len;
    unsigned modes;                     /* 1                                                 */
    const struct c13_ticket *ticket;
    bool wrong_binder, psk_not_last, two_compressions;
    size_t padding;                     /* bytes of it                                       */
} c13_hello;

typedef struct c13_ticket {
    unsigned char identity[1024], psk[48];
    size_t len;
    unsigned suite, age_add, lifetime;
} c13_ticket;

typedef struct c13 {
    hsb__tls *t;
    unsigned suite;
    const EVP_MD *md;
    size_t hash;                        /* bytes of it                                       */
    c13_side in, out;
    c13_bytes messages;                 /* the transcript                                    */
    c13_bytes got;                      /* records that are not whole yet                    */
    c13_bytes handshake;                /* messages that are not whole yet                   */
    c13_bytes data;                     /* of the application                                */
    unsigned char stage[48], client_data[48], server_data[48];
    unsigned char random[32], id[32];
    EVP_PKEY *x25519, *p256;
    unsigned char ml_kem[1184], ml_kem_secret[32];  /* of X25519MLKEM768: the caller's       */
    unsigned char ml_kem_got[1088];     /* the server's ciphertext                           */
    const c13_ticket *offered;
    c13_ticket tickets[8];
    int ticket_count;
    unsigned char *taken;               /* the bytes that the engine took last               */
    int alert, level;                   /* -1: none came                                     */
    bool alert_protected;
    unsigned seen;                      /* 1 << type of each message that came               */
    unsigned group;                     /* the server's; in a retry, what it asks for        */
    bool retry, asked, resumed, complete;
    unsigned limit;                     /* the longest record that came, inside              */
    int updates;                        /* of the server's keys                              */
    int ccs;
    unsigned char server_random[32];
    unsigned char record[40000];        /* for the caller                                    */
    c13_bytes *held;                    /* not NULL: messages go there, and not out          */
    bool may_lose, lost;                /* what it said was altered: it may have other keys  */
} c13;

/* --- primitives ---------------------------------------------------------------------------- */
static inline void c13_put(c13_bytes *b, const void *bytes, size_t len)
{
    C13_MUST(len <= sizeof b->at - b->len);
    if (len)
        memcpy(b->at + b->len, bytes, len);
    b->len += len;
}

static inline void c13_number(c13_bytes *b, size_t size, size_t n)
{
    while (size--) {
        const unsigned char byte = (unsigned char)(n >> 8 * size);
        c13_put(b, &byte, 1);
    }
}

static inline void c13_vector(c13_bytes *b, size_t size, const void *bytes, size_t len)
{
    c13_number(b, size, len);
    c13_put(b, bytes, len);
}

static inline void c13_drop(c13_bytes *b, size_t n)
{
    memmove(b->at, b->at + n, b->len - n);
    b->len -= n;
}

static inline size_t c13_read(const unsigned char *at, size_t size)
{
    size_t n = 0;
    while (size--)
        n = n << 8 | *at++;
    return n;
}

static inline void c13_hmac(const EVP_MD *md, const void *key, size_t key_len, const void *data,
                            size_t len, unsigned char *out)
{
    unsigned n;
    C13_MUST(HMAC(md, key, (int)key_len, data, len, out, &n) != NULL);
}

static inline void c13_expand(const EVP_MD *md, const unsigned char *secret, const char *label,
                              const void *context, size_t context_len, unsigned char *out,
                              size_t len)
{
    c13_bytes *info = malloc(sizeof *info);
    unsigned char block[64], name[64];
    const int n = snprintf((char *)name, sizeof name, "tls13 %s", label);
    info->len = 0;
    c13_number(info, 2, len);
    c13_vector(info, 1, name, (size_t)n);
    c13_vector(info, 1, context, context_len);
    c13_number(info, 1, 1);
    c13_hmac(md, secret, (size_t)EVP_MD_size(md), info->at, info->len, block);
    memcpy(out, block, len);
    free(info);
}

static inline void c13_hash(const EVP_MD *md, const void *bytes, size_t len, unsigned char *out)
{
    unsigned n;
    C13_MUST(EVP_Digest(bytes, len, out, &n, md, NULL) == 1);
}

static inline void c13_derive(const c13 *c, const unsigned char *secret, const char *label,
                              unsigned char *out)
{
    unsigned char messages[64];
    c13_hash(c->md, c->messages.at, c->messages.len, messages);
    c13_expand(c->md, secret, label, messages, c->hash, out, c->hash);
}

/* Extract, after "derived". */
static inline void c13_next(const EVP_MD *md, unsigned char *stage, const void *key, size_t len)
{
    static const unsigned char zeros[64];
    const size_t hash = (size_t)EVP_MD_size(md);
    unsigned char empty[64], salt[64], out[64];
    c13_hash(md, "", 0, empty);
    c13_expand(md, stage, "derived", empty, hash, salt, hash);
    c13_hmac(md, salt, hash, key ? key : zeros, key ? len : hash, out);
    memcpy(stage, out, hash);
}

static inline void c13_early(const EVP_MD *md, const void *psk, unsigned char *stage)
{
    static const unsigned char zeros[64];
    unsigned char out[64];
    const size_t hash = (size_t)EVP_MD_size(md);
    c13_hmac(md, zeros, hash, psk ? psk : zeros, hash, out);
    memcpy(stage, out, hash);
}

static inline void c13_keys(const c13 *c, c13_side *s, const unsigned char *secret)
{
    memmove(s->secret, secret, c->hash);
    c13_expand(c->md, s->secret, "key", NULL, 0, s->key, c->suite == 0x1301 ? 16 : 32);
    c13_expand(c->md, s->secret, "iv", NULL, 0, s->iv, 12);
    s->seq = 0;
    s->on = true;
}

static inline void c13_update(const c13 *c, c13_side *s)
{
    unsigned char next[48];
    c13_expand(c->md, s->secret, "traffic upd", NULL, 0, next, c->hash);
    c13_keys(c, s, next);
}

static inline bool c13_aead(const c13 *c, c13_side *s, bool encrypt, const unsigned char *header,
                            unsigned char *data, size_t len, unsigned char *tag)
{
    const EVP_CIPHER *cipher = c->suite == 0x1303 ? EVP_chacha20_poly1305()
                             : c->suite == 0x1302 ? EVP_aes_256_gcm() : EVP_aes_128_gcm();
    EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
    unsigned char nonce[12];
    int n;
    memcpy(nonce, s->iv, 12);
    for (int i = 0; i < 8; i++)
        nonce[11 - i] ^= (unsigned char)(s->seq >> 8 * i);
    C13_MUST(EVP_CipherInit_ex(x, cipher, NULL, s->key, nonce, encrypt) == 1);
    C13_MUST(EVP_CipherUpdate(x, NULL, &n, header, 5) == 1);
    C13_MUST(EVP_CipherUpdate(x, data, &n, data, (int)len) == 1);
    if (!encrypt)
        EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_SET_TAG, 16, tag);
    bool ok = EVP_CipherFinal_ex(x, tag, &n) == 1;
    if (encrypt)
        EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_GET_TAG, 16, tag);
    EVP_CIPHER_CTX_free(x);
    s->seq += ok;
    return ok;
}

/* --- life ------------------------------------------------------------------------------------ */
static inline c13 *c13_new(hsb__tls *t)
{
    c13 *c = calloc(1, sizeof *c);
    C13_MUST(c != NULL);
    c->t = t;
    c->alert = -1;
    c->suite = 0x1301;
    c->md = EVP_sha256();
    c->hash = 32;
    memset(c->random, 'r', 32);
    memset(c->id, 'i', 32);
    c->x25519 = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    c->p256 = EVP_EC_gen("P-256");
    C13_MUST(c->x25519 && c->p256);
    return c;
}

static inline void c13_free(c13 *c)
{
    EVP_PKEY_free(c->x25519);
    EVP_PKEY_free(c->p256);
    free(c->taken);
    free(c);
}

/* --- from the server -------------------------------------------------------------------------- */
static inline void c13_hear_hello(c13 *c, const unsigned char *m, size_t len)
{
    static const unsigned char retry[2] = { 0xCF, 0x21 };
    const unsigned char *at = m + 4 + 2 + 32, *end = m + len, *key = NULL;
    size_t key_len = 0;
    memcpy(c->server_random, m + 6, 32);
    at += 1 + *at;
    const unsigned suite = (unsigned)c13_read(at, 2);
    c->suite = suite;
    c->md = suite == 0x1302 ? EVP_sha384() : EVP_sha256();
    c->hash = suite == 0x1302 ? 48 : 32;
    c->retry = memcmp(c->server_random, retry, 2) == 0;
    c->resumed = false;
    for (at += 5; at + 4 <= end; at += 4 + c13_read(at + 2, 2)) {
        const size_t type = c13_read(at, 2);
        if (type == 51) {
            c->group = (unsigned)c13_read(at + 4, 2);
            key = at + 8;
            key_len = c->retry ? 0 : c13_read(at + 6, 2);
        }
        c->resumed = c->resumed || type == 41;
    }
    if (c->retry) {
        unsigned char digest[4 + 64] = { 254, 0, 0, (unsigned char)c->hash };
        c13_hash(c->md, c->messages.at, c->messages.len, digest + 4);
        c->messages.len = 0;
        c13_put(&c->messages, digest, 4 + c->hash);
        c13_put(&c->messages, m, len);
        return;
    }
    EVP_PKEY *own = c->group == 23 ? c->p256 : c->x25519, *peer = EVP_PKEY_new();
    unsigned char shared[66];
    const size_t before = c->group == 0x11EC ? 32 : 0;  /* the secret of ML-KEM comes first  */
    size_t shared_len = sizeof shared - before;
    if (before) {
        C13_MUST(key_len == 1088 + 32);
        memcpy(c->ml_kem_got, key, 1088);
        memcpy(shared, c->ml_kem_secret, 32);
        key += 1088;
        key_len -= 1088;
    }
    C13_MUST(key && EVP_PKEY_copy_parameters(peer, own) == 1);
    C13_MUST(EVP_PKEY_set1_encoded_public_key(peer, key, key_len) == 1);
    EVP_PKEY_CTX *x = EVP_PKEY_CTX_new(own, NULL);
    C13_MUST(EVP_PKEY_derive_init(x) == 1 && EVP_PKEY_derive_set_peer(x, peer) == 1 &&
             EVP_PKEY_derive(x, shared + before, &shared_len) == 1);
    EVP_PKEY_CTX_free(x);
    EVP_PKEY_free(peer);
    c13_put(&c->messages, m, len);
    c13_early(c->md, c->resumed ? c->offered->psk : NULL, c->stage);
    c13_next(c->md, c->stage, shared, before + shared_len);
    unsigned char secret[64];
    c13_derive(c, c->stage, "c hs traffic", secret);
    c13_keys(c, &c->out, secret);
    c13_derive(c, c->stage, "s hs traffic", secret);
    c13_keys(c, &c->in, secret);
}

static inline void c13_finished_mac(const c13 *c, const c13_side *s, unsigned char *mac)
{
    unsigned char key[64], messages[64];
    c13_expand(c->md, s->secret, "finished", NULL, 0, key, c->hash);
    c13_hash(c->md, c->messages.at, c->messages.len, messages);
    c13_hmac(c->md, key, c->hash, messages, c->hash, mac);
}

static inline void c13_hear_finished(c13 *c, const unsigned char *m, size_t len)
{
    unsigned char mac[64], stage[64];
    c13_finished_mac(c, &c->in, mac);
    C13_MUST(len == 4 + c->hash && (c->may_lose || memcmp(m + 4, mac, c->hash) == 0));
    c13_put(&c->messages, m, len);
    c13_next(c->md, c->stage, NULL, 0);
    memcpy(stage, c->stage, c->hash);
    c13_derive(c, stage, "c ap traffic", c->client_data);
    c13_derive(c, stage, "s ap traffic", c->server_data);
    c13_keys(c, &c->in, c->server_data);
}

static inline void c13_hear_ticket(c13 *c, const unsigned char *m)
{
    C13_MUST(c->ticket_count < 8);
    c13_ticket *k = &c->tickets[c->ticket_count++];
    const unsigned char *nonce = m + 13, *identity = nonce + nonce[-1];
    unsigned char master[64];
    k->lifetime = (unsigned)c13_read(m + 4, 4);
    k->age_add = (unsigned)c13_read(m + 8, 4);
    k->suite = c->suite;
    k->len = c13_read(identity, 2);
    C13_MUST(k->len <= sizeof k->identity);
    memcpy(k->identity, identity + 2, k->len);
    c13_derive(c, c->stage, "res master", master);
    c13_expand(c->md, master, "resumption", nonce, nonce[-1], k->psk, c->hash);
}

static inline void c13_hear_message(c13 *c, const unsigned char *m, size_t len)
{
    c->seen |= m[0] < 32 ? 1u << m[0] : 0;
    switch (m[0]) {
    case 2:  c13_hear_hello(c, m, len); break;
    case 20: c13_hear_finished(c, m, len); break;
    case 4:  c13_hear_ticket(c, m); break;
    case 24: c13_update(c, &c->in); c->updates++; break;
    case 13: c->asked = true;           /* and as all others */
    /* fall through */
    default: c13_put(&c->messages, m, len);
    }
}

static inline void c13_hear_record(c13 *c, unsigned type, const unsigned char *data, size_t len,
                                   bool clear)
{
    if (type == 21) {
        C13_MUST(len == 2);
        c->level = data[0];
        c->alert = data[1];
        c->alert_protected = !clear;
    } else if (type == 22) {
        c13_put(&c->handshake, data, len);
        while (c->handshake.len >= 4 && c->handshake.len >= 4 + c13_read(c->handshake.at + 1, 3)) {
            const size_t n = 4 + c13_read(c->handshake.at + 1, 3);
            c13_hear_message(c, c->handshake.at, n);
            c13_drop(&c->handshake, n);
        }
    } else if (type == 23) {
        c13_put(&c->data, data, len);
    } else {
        C13_MUST(type == 20 && clear);
        c->ccs++;
    }
}

/* Takes what the engine has for the socket. */
static inline void c13_pull(c13 *c)
{
    hsb_str r;
    while ((r = hsb__tls_records(c->t)).len) {
        const size_t n = r.len < 16000 ? r.len : 16000;
        c13_put(&c->got, r.ptr, n);
        hsb__tls_records_sent(c->t, n);
        for (;;) {
            unsigned char *at = c->got.at;
            const size_t len = c->got.len < 5 ? 0 : c13_read(at + 3, 2);
            if (c->got.len < 5 || c->got.len < 5 + len)
                break;
            if (at[0] == 23 && c->in.on) {
                C13_MUST(len >= 17);
                c->lost = c->lost ||
                          !c13_aead(c, &c->in, false, at, at + 5, len - 16, at + 5 + len - 16);
                C13_MUST(!c->lost || c->may_lose);
                if (c->lost) {
                    c13_drop(&c->got, 5 + len);
                    continue;
                }
                size_t inner = len - 16;
                c->limit = inner > c->limit ? (unsigned)inner : c->limit;
                while (inner && !at[5 + inner - 1])
                    inner--;
                C13_MUST(inner > 0);
                c13_hear_record(c, at[5 + inner - 1], at + 5, inner - 1, false);
            } else {
                c13_hear_record(c, at[0], at + 5, len, true);
            }
            c13_drop(&c->got, 5 + len);
        }
    }
}

/* --- to the server ----------------------------------------------------------------------------- */

/* Bytes as they are, in pieces of cut (0: whole).  False: it takes no more. */
static inline bool c13_feed(c13 *c, const void *bytes, size_t len, size_t cut)
{
    const unsigned char *from = bytes;
    while (len) {
        const size_t n = cut && cut < len ? cut : len;
        unsigned char *copy = malloc(n);
        memcpy(copy, from, n);
        size_t used = hsb__tls_receive(c->t, copy, n);
        C13_MUST(used <= n);
        free(used ? c->taken : copy);
        c->taken = used ? copy : c->taken;
        if (!used)
            return false;
        from += used;
        len -= used;
        hsb_str plain = hsb__tls_plain(c->t);
        if (plain.len && len)
            return false;               /* for the test to take */
        c13_pull(c);
    }
    return true;
}

/* A record in the clear, into out.  Returns its length. */
static inline size_t c13_clear(unsigned char *out, unsigned type, const void *bytes, size_t len)
{
    const unsigned char header[5] = { (unsigned char)type, 3, 3, (unsigned char)(len >> 8),
                                      (unsigned char)len };
    memcpy(out, header, 5);
    if (len)
        memcpy(out + 5, bytes, len);
    return 5 + len;
}

/* A protected one, with padding.  type 256: no type byte at all. */
static inline size_t c13_seal(c13 *c, unsigned char *out, unsigned type, const void *bytes,
                              size_t len, size_t padding)
{
    unsigned char *data = out + 5;
    if (len)
        memcpy(data, bytes, len);
    if (type < 256)
        data[len++] = (unsigned char)type;
    memset(data + len, 0, padding);
    len += padding;
    out[0] = 23;
    out[1] = out[2] = 3;
    out[3] = (unsigned char)((len + 16) >> 8);
    out[4] = (unsigned char)(len + 16);
    C13_MUST(c13_aead(c, &c->out, true, out, data, len, data + len));
    return 5 + len + 16;
}

/* The same, sent: protected if there are keys. */
static inline bool c13_send(c13 *c, unsigned type, const void *bytes, size_t len)
{
    const size_t n = c->out.on ? c13_seal(c, c->record, type, bytes, len, 0)
                               : c13_clear(c->record, type, bytes, len);
    return c13_feed(c, c->record, n, 0);
}

static inline void c13_extension(c13_bytes *b, unsigned type, const c13_bytes *value)
{
    c13_number(b, 2, type);
    c13_vector(b, 2, value->at, value->len);
}

static inline void c13_put_list(c13_bytes *b, unsigned type, size_t size, const unsigned *list,
                                size_t count)
{
    size_t n = 0;
    while (n < count && list[n])
        n++;
    if (n && list[0] == 1)
        return;
    c13_number(b, 2, type);
    c13_number(b, 2, size + 2 * n);
    c13_number(b, size, 2 * n);
    for (size_t i = 0; i < n; i++)
        c13_number(b, 2, list[i]);
}

static inline void c13_put_shares(c13 *c, c13_bytes *b, const c13_hello *h, const unsigned *shares)
{
    c13_bytes *list = calloc(2, sizeof *list), *value = list + 1;
    for (int i = 0; i < 4 && shares[i] && shares[i] != 1; i++) {
        unsigned char *key = NULL;
        EVP_PKEY *own = shares[i] == 23 ? c->p256 : c->x25519;
        size_t len = EVP_PKEY_get1_encoded_public_key(own, &key);
        c13_number(list, 2, shares[i]);
        if (i == 0 && h->share) {
            c13_vector(list, 2, h->share, h->share_len);
        } else if (shares[i] == 0x11EC) {
            c13_number(list, 2, sizeof c->ml_kem + len);
            c13_put(list, c->ml_kem, sizeof c->ml_kem);
            c13_put(list, key, len);
        } else {
            c13_vector(list, 2, key, len);
        }
        OPENSSL_free(key);
    }
    c13_vector(value, 2, list->at, list->len);
    c13_extension(b, 51, value);
    free(list);
}

static inline void c13_put_ticket(c13_bytes *b, const c13_ticket *k, size_t hash)
{
    c13_number(b, 2, 41);
    c13_number(b, 2, 2 + 2 + k->len + 4 + 2 + 1 + hash);
    c13_number(b, 2, 2 + k->len + 4);
    c13_vector(b, 2, k->identity, k->len);
    c13_number(b, 4, k->age_add);
    c13_number(b, 2, 1 + hash);
    static const unsigned char zeros[64];
    c13_vector(b, 1, zeros, hash);
}

/* A ClientHello, its header included; not added to the transcript. */
static inline void c13_make_hello(c13 *c, const c13_hello *h, c13_bytes *out)
{
    static const unsigned suite[] = { 0x1301, 0 }, x25519[] = { 29, 0 }, v13[] = { 0x0304, 0 },
        schemes[] = { 0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0 };
    c13_bytes *e = calloc(2, sizeof *e), *body = e + 1;
    const unsigned *suites = h->suites[0] ? h->suites : suite;
    const unsigned *groups = h->groups[0] ? h->groups : x25519;
    const size_t hash = h->ticket && h->ticket->suite == 0x1302 ? 48 : 32;
    if (h->ticket && h->psk_not_last)
        c13_put_ticket(e, h->ticket, hash);
    if (h->name) {
        const size_t len = strlen(h->name);
        c13_number(e, 2, 0);
        c13_number(e, 2, len + 5);
        c13_number(e, 2, len + 3);
        c13_number(e, 1, 0);
        c13_vector(e, 2, h->name, len);
    }
    c13_put_list(e, 43, 1, h->versions[0] ? h->versions : v13, 3);
    if (!h->no_groups)
        c13_put_list(e, 10, 2, groups, 4);
    c13_put_list(e, 13, 2, h->signatures[0] ? h->signatures : schemes, 8);
    if (!h->no_shares)
        c13_put_shares(c, e, h, h->shares[0] ? h->shares : groups);
    if (!h->no_modes) {
        c13_number(e, 2, 45);
        c13_number(e, 2, 2);
        c13_number(e, 1, 1);
        c13_number(e, 1, h->modes ? h->modes - 1 : 1);
    }
    if (h->alpn) {
        c13_number(e, 2, 16);
        c13_number(e, 2, strlen(h->alpn) + 2);
        c13_vector(e, 2, h->alpn, strlen(h->alpn));
    }
    if (h->limit) {
        c13_number(e, 4, 28 << 16 | 2);
        c13_number(e, 2, h->limit);
    }
    if (h->early)
        c13_number(e, 4, 42 << 16);
    if (h->padding) {
        c13_number(e, 2, 21);
        c13_number(e, 2, h->padding);
        for (size_t i = 0; i < h->padding; i++)
            c13_number(e, 1, 0);
    }
    if (h->ticket && !h->psk_not_last)
        c13_put_ticket(e, h->ticket, hash);
    c13_number(body, 2, 0x0303);
    c13_put(body, c->random, 32);
    c13_vector(body, 1, c->id, h->empty_id ? 0 : 32);
    size_t count = 0;
    while (count < 4 && suites[count])
        count++;
    c13_number(body, 2, 2 * count);
    for (size_t i = 0; i < count; i++)
        c13_number(body, 2, suites[i]);
    c13_vector(body, 1, "\0\1", h->two_compressions ? 2 : 1);
    c13_vector(body, 2, e->at, e->len);
    out->len = 0;
    c13_number(out, 1, 1);
    c13_vector(out, 3, body->at, body->len);
    if (h->ticket && !h->psk_not_last) {            /* the binder is the end of it all */
        const EVP_MD *md = hash == 48 ? EVP_sha384() : EVP_sha256();
        unsigned char stage[64], empty[64], key[64], finished[64], messages[64], mac[64];
        c13_bytes *all = calloc(1, sizeof *all);
        c13_put(all, c->messages.at, c->messages.len);
        c13_put(all, out->at, out->len - hash - 3);
        c13_early(md, h->ticket->psk, stage);
        c13_hash(md, "", 0, empty);
        c13_expand(md, stage, "res binder", empty, hash, key, hash);
        c13_expand(md, key, "finished", NULL, 0, finished, hash);
        c13_hash(md, all->at, all->len, messages);
        c13_hmac(md, finished, hash, messages, hash, mac);
        mac[3] ^= h->wrong_binder;
        memcpy(out->at + out->len - hash, mac, hash);
        free(all);
    }
    c->offered = h->ticket;
    free(e);
}

static inline void c13_hello_send(c13 *c, const c13_hello *h)
{
    c13_bytes *m = calloc(1, sizeof *m);
    c13_make_hello(c, h, m);
    c13_put(&c->messages, m->at, m->len);
    c13_send(c, 22, m->at, m->len);
    free(m);
}

/* A message of the client's flight: joins the transcript, and goes out in one record. */
static inline bool c13_message(c13 *c, unsigned type, const void *body, size_t len)
{
    c13_bytes *m = calloc(1, sizeof *m);
    c13_number(m, 1, type);
    c13_vector(m, 3, body, len);
    c13_put(&c->messages, m->at, m->len);
    if (c->held)
        c13_put(c->held, m->at, m->len);
    const bool ok = c->held || c13_send(c, 22, m->at, m->len);
    free(m);
    return ok;
}

/* The client's chain; file NULL: none. */
static inline bool c13_certificate(c13 *c, const char *file)
{
    c13_bytes *list = calloc(2, sizeof *list), *body = list + 1;
    FILE *f = file ? fopen(file, "r") : NULL;
    X509 *x;
    while (f && (x = PEM_read_X509(f, NULL, NULL, NULL)) != NULL) {
        unsigned char *der = NULL;
        const int n = i2d_X509(x, &der);
        c13_vector(list, 3, der, (size_t)n);
        c13_number(list, 2, 0);
        OPENSSL_free(der);
        X509_free(x);
    }
    if (f)
        fclose(f);
    c13_number(body, 1, 0);
    c13_vector(body, 3, list->at, list->len);
    const bool ok = c13_message(c, 11, body->at, body->len);
    free(list);
    return ok;
}

/* CertificateVerify with that key; says scheme and signs with `with`.  context NULL: the right
   one. */
static inline bool c13_verify(c13 *c, const char *file, unsigned scheme, unsigned with,
                              const char *context)
{
    unsigned char text[64 + 34 + 64], signature[1024];
    size_t len = sizeof signature, n = 98;
    FILE *f = fopen(file, "r");
    C13_MUST(f != NULL);
    EVP_PKEY *key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    memset(text, ' ', 64);
    memcpy(text + 64, context ? context : "TLS 1.3, client CertificateVerify", 34);
    c13_hash(c->md, c->messages.at, c->messages.len, text + n);
    const unsigned hash = with >> 8 == 8 ? with & 0xFF : with >> 8;
    const EVP_MD *md = hash == 6 ? EVP_sha512() : hash == 5 ? EVP_sha384() : EVP_sha256();
    EVP_MD_CTX *x = EVP_MD_CTX_new();
    EVP_PKEY_CTX *k;
    C13_MUST(key && EVP_DigestSignInit(x, &k, md, NULL, key) == 1);
    if (with >> 8 == 8) {
        EVP_PKEY_CTX_set_rsa_padding(k, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(k, RSA_PSS_SALTLEN_DIGEST);
    }
    C13_MUST(EVP_DigestSign(x, signature, &len, text, n + c->hash) == 1);
    EVP_MD_CTX_free(x);
    EVP_PKEY_free(key);
    c13_bytes *body = calloc(1, sizeof *body);
    c13_number(body, 2, scheme);
    c13_vector(body, 2, signature, len);
    const bool ok = c13_message(c, 15, body->at, body->len);
    free(body);
    return ok;
}

/* Finished, and the application's keys. */
static inline void c13_finish(c13 *c)
{
    unsigned char mac[64];
    c13_finished_mac(c, &c->out, mac);
    c13_message(c, 20, mac, c->hash);
    c13_keys(c, &c->out, c->client_data);
    c->complete = true;
}

/* All of it, without a certificate. */
static inline void c13_handshake(c13 *c, const c13_hello *h)
{
    c13_hello_send(c, h);
    if (c->retry) {
        c13_hello again = *h;
        memset(again.shares, 0, sizeof again.shares);
        again.shares[0] = c->group;
        again.early = false;
        c13_hello_send(c, &again);
    }
    if (c->asked)
        c13_certificate(c, NULL);
    if (c->seen >> 20 & 1)
        c13_finish(c);
}

#endif
