/* A TLS engine of ours and an OpenSSL client, joined by memory: no socket, no thread, so that
   every byte goes where and in what pieces the test says.  Include httpsbind.h first. */
#ifndef TLS_HELP_H
#define TLS_HELP_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include "help.h"
#include "keys_help.h"

#define DATA "tests/data/"

/* What a server's thread owns. */
typedef struct help_server {
    hsb__memory memory;
    hsb__pool blocks;
    hsb__tls_pool pool;
    hsb_security *security;
    bool request, require;
} help_server;

static inline hsb_identity help_identity(const char *chain, const char *key)
{
    hsb_identity i;
    memset(&i, 0, sizeof i);
    i.chain.path = chain;
    i.key.path = key;
    return i;
}

static inline hsb_security_desc help_desc(const char *chain, const char *key)
{
    hsb_security_desc d;
    memset(&d, 0, sizeof d);
    d.identity = help_identity(chain, key);
    return d;
}

static inline hsb_security_desc help_usual(void)
{
    return help_desc(DATA "server-p256.pem", DATA "server-p256.key");
}

static inline hsb_security *help_security(const hsb_security_desc *desc)
{
    hsb_error err;
    memset(&err, 0, sizeof err);
    hsb_security *s = hsb__security_new(desc, &err);
    if (!s)
        print_error("%s\n", err.text);
    assert_non_null(s);
    return s;
}

static inline void help_server_open(help_server *s, const hsb_security_desc *desc)
{
    memset(s, 0, sizeof *s);
    s->security = help_security(desc);
    s->blocks.memory = s->pool.memory = s->pool.engines.memory = &s->memory;
    s->pool.blocks = &s->blocks;
}

/* As on a CPU without instructions for AES: BearSSL's code for 64 or for 32 bits. */
static inline void help_plain_cpu(hsb__crypto *c, bool is_small)
{
    c->ctr = is_small ? &br_aes_ct_ctr_vtable : &br_aes_ct64_ctr_vtable;
    c->cbc_encrypt = is_small ? &br_aes_ct_cbcenc_vtable : &br_aes_ct64_cbcenc_vtable;
    c->cbc_decrypt = is_small ? &br_aes_ct_cbcdec_vtable : &br_aes_ct64_cbcdec_vtable;
    c->ghash = is_small ? br_ghash_ctmul32 : br_ghash_ctmul64;
    c->chacha20 = br_chacha20_ct_run;
    c->poly1305 = is_small ? br_poly1305_ctmul32_run : br_poly1305_ctmul_run;
    c->ec = is_small ? &br_ec_all_m15 : &br_ec_all_m31;
    c->ecdsa_sign = is_small ? br_ecdsa_i15_sign_asn1 : br_ecdsa_i31_sign_asn1;
    c->ecdsa_verify = is_small ? br_ecdsa_i15_vrfy_asn1 : br_ecdsa_i31_vrfy_asn1;
    c->rsa_sign = is_small ? br_rsa_i15_pkcs1_sign : br_rsa_i31_pkcs1_sign;
    c->rsa_verify = is_small ? br_rsa_i15_pkcs1_vrfy : br_rsa_i31_pkcs1_vrfy;
    c->rsa_private = is_small ? br_rsa_i15_private : br_rsa_i31_private;
    c->rsa_public = is_small ? br_rsa_i15_public : br_rsa_i31_public;
    c->aes_is_fast = false;
}

/* Everything came back. */
static inline void help_server_close(help_server *s)
{
    hsb__tls_pool_close(&s->pool);
    hsb__pool_close(&s->blocks);
    assert_int_equal(s->memory.used, 0);
    assert_int_equal(s->security->references, 1);
    hsb__security_release(s->security);
}

/* What the client does; all zero: TLS 1.2, no server name, no ALPN, no certificate. */
typedef struct help_client {
    const char *name, *alpn;            /* alpn: names, each after a byte with its length    */
    const char *cert, *key;
    const char *suites, *curves, *signatures;
    int max_version, min_version;
    SSL_SESSION *session;
    long options;
    int fragment;                       /* TLSEXT_max_fragment_length_*                      */
} help_client;

typedef struct help_pair {
    help_server *server;
    hsb__tls *tls;
    SSL *ssl;
    BIO *in, *out;                      /* to the client, from the client                    */
    unsigned char held[1 << 17];        /* from the client, not yet taken by the engine      */
    size_t held_len;
    unsigned char *taken;               /* what the engine took last: plaintext lies in it   */
    size_t cut;                         /* feed so many bytes at a time; 0: all there are    */
    int alert;                          /* last one that the client received; -1: none       */
    int failed;                         /* the client's SSL_get_error, if it failed          */
    char text[1 << 18];                 /* what was read last                                */
} help_pair;

static inline void help_hear_alert(const SSL *ssl, int where, int ret)
{
    help_pair *p = SSL_get_ex_data(ssl, 0);
    if (where == SSL_CB_READ_ALERT)
        p->alert = ret & 0xFF;
}

static inline SSL *help_client_new(const help_client *c)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    assert_non_null(ctx);
    SSL_CTX_set_security_level(ctx, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(ctx, c->min_version), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, c->max_version ? c->max_version
                                                                       : TLS1_2_VERSION), 1);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | (uint64_t)c->options);
    if (c->cert) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(ctx, c->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, c->key, SSL_FILETYPE_PEM), 1);
    }
    if (c->suites)
        assert_int_equal(SSL_CTX_set_cipher_list(ctx, c->suites), 1);
    if (c->curves)
        assert_int_equal(SSL_CTX_set1_curves_list(ctx, c->curves), 1);
    if (c->signatures)
        assert_int_equal(SSL_CTX_set1_sigalgs_list(ctx, c->signatures), 1);
    if (c->fragment)
        assert_int_equal(SSL_CTX_set_tlsext_max_fragment_length(ctx, (uint8_t)c->fragment), 1);
    SSL *ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    assert_non_null(ssl);
    if (c->name)
        assert_int_equal(SSL_set_tlsext_host_name(ssl, c->name), 1);
    if (c->alpn)
        assert_int_equal(SSL_set_alpn_protos(ssl, (const unsigned char *)c->alpn,
                                             (unsigned)strlen(c->alpn)), 0);
    if (c->session)
        assert_int_equal(SSL_set_session(ssl, c->session), 1);
    SSL_set_connect_state(ssl);
    return ssl;
}

/* Without a client: the test writes the client's bytes itself. */
static inline void help_open_raw(help_pair *p, help_server *s)
{
    memset(p, 0, sizeof *p);
    p->server = s;
    p->alert = -1;
    p->tls = hsb__tls_open(&s->pool, s->security, s->request, s->require);
    assert_non_null(p->tls);
}

static inline void help_open(help_pair *p, help_server *s, const help_client *c)
{
    help_open_raw(p, s);
    p->ssl = help_client_new(c);
    p->in = BIO_new(BIO_s_mem());
    p->out = BIO_new(BIO_s_mem());
    SSL_set_bio(p->ssl, p->in, p->out);
    SSL_set_ex_data(p->ssl, 0, p);
    SSL_set_info_callback(p->ssl, help_hear_alert);
}

static inline void help_close(help_pair *p)
{
    hsb__tls_release(&p->server->pool, p->tls);
    free(p->taken);
    SSL_free(p->ssl);
    ERR_clear_error();
}

static inline void help_hold(help_pair *p, const void *bytes, size_t len)
{
    assert_true(len <= sizeof p->held - p->held_len);
    memcpy(p->held + p->held_len, bytes, len);
    p->held_len += len;
}

/* Records of the server to the client. */
static inline bool help_move_records(help_pair *p)
{
    bool moved = false;
    hsb_str records;
    while ((records = hsb__tls_records(p->tls)).len) {
        size_t n = p->cut && p->cut < records.len ? p->cut : records.len;
        if (p->in)
            assert_int_equal(BIO_write(p->in, records.ptr, (int)n), n);
        hsb__tls_records_sent(p->tls, n);
        moved = true;
    }
    return moved;
}

/* What the client has to say, in the pieces that the test wants. */
static inline bool help_move_bytes(help_pair *p)
{
    int got = p->out ? BIO_read(p->out, p->held + p->held_len,
                                (int)(sizeof p->held - p->held_len)) : 0;
    if (got > 0)
        p->held_len += (size_t)got;
    if (!p->held_len)
        return false;
    size_t n = p->cut && p->cut < p->held_len ? p->cut : p->held_len;
    unsigned char *exact = malloc(n);       /* so that a sanitizer sees reads beyond it     */
    memcpy(exact, p->held, n);
    size_t used = hsb__tls_receive(p->tls, exact, n);
    assert_true(used <= n);
    free(used ? p->taken : exact);
    p->taken = used ? exact : p->taken;
    memmove(p->held, p->held + used, p->held_len - used);
    p->held_len -= used;
    return used > 0;
}

static inline bool help_move_client(help_pair *p)
{
    if (!p->ssl || p->failed || SSL_is_init_finished(p->ssl))
        return false;
    int ret = SSL_do_handshake(p->ssl), why = SSL_get_error(p->ssl, ret);
    if (ret != 1 && why != SSL_ERROR_WANT_READ)
        p->failed = why;
    return ret == 1;
}

/* Until nothing moves. */
static inline void help_run(help_pair *p)
{
    bool moved = true;
    while (moved) {
        moved = help_move_client(p);
        moved |= help_move_records(p);
        moved |= help_move_bytes(p);
    }
}

static inline const char *help_error(const help_pair *p)
{
    static hsb_error err;
    hsb__tls_error_of(p->tls, &err);
    return err.status == HSB_OK ? "" : err.text;
}

static inline void help_expect_open(help_pair *p)
{
    if (hsb__tls_phase_of(p->tls) != HSB__TLS_OPEN)
        print_error("not open: %s; client hears alert %d\n", help_error(p), p->alert);
    assert_int_equal(hsb__tls_phase_of(p->tls), HSB__TLS_OPEN);
    assert_true(SSL_is_init_finished(p->ssl));
}

/* Both ends failed, the client with this alert, and the server with this text. */
static inline void help_expect_dead(help_pair *p, int alert, const char *text)
{
    assert_int_equal(hsb__tls_phase_of(p->tls), HSB__TLS_DEAD);
    assert_null(hsb__tls_info_of(p->tls));
    assert_string_equal(help_error(p), text);
    assert_int_equal(p->alert, alert);
    assert_int_not_equal(p->failed, 0);
}

/* All plaintext that the server gets, as a string. */
static inline const char *help_server_read(help_pair *p)
{
    size_t len = 0;
    for (;;) {
        help_run(p);
        hsb_str plain = hsb__tls_plain(p->tls);
        if (!plain.len)
            break;
        assert_true(len + plain.len < sizeof p->text);
        memcpy(p->text + len, plain.ptr, plain.len);
        len += plain.len;
        hsb__tls_plain_used(p->tls, plain.len);
    }
    p->text[len] = '\0';
    return p->text;
}

static inline void help_server_write(help_pair *p, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len) {
        size_t room;
        char *to = hsb__tls_writable(p->tls, &room);
        if (!to) {
            assert_true(help_move_records(p));
            continue;
        }
        size_t n = len < room ? len : room;
        memcpy(to, at, n);
        hsb__tls_written(p->tls, n);
        at += n;
        len -= n;
    }
    hsb__tls_flush(p->tls);
}

static inline const char *help_client_read(help_pair *p)
{
    int len = 0, got;
    help_run(p);
    while ((got = SSL_read(p->ssl, p->text + len, (int)sizeof p->text - 1 - len)) > 0)
        len += got;
    p->text[len] = '\0';
    return p->text;
}

static inline void help_client_write(help_pair *p, const char *text)
{
    assert_int_equal(SSL_write(p->ssl, text, (int)strlen(text)), strlen(text));
}

/* A request and its answer. */
static inline void help_exchange(help_pair *p)
{
    help_client_write(p, "ping");
    assert_string_equal(help_server_read(p), "ping");
    help_server_write(p, "pong", 4);
    assert_string_equal(help_client_read(p), "pong");
}

/* A handshake from begin to end; returns the client's session, to resume it. */
static inline SSL_SESSION *help_visit(help_server *s, const help_client *c, bool resumed)
{
    help_pair *p = malloc(sizeof *p);
    help_open(p, s, c);
    help_run(p);
    help_expect_open(p);
    help_exchange(p);
    assert_int_equal(hsb__tls_info_of(p->tls)->resumed, resumed);
    assert_int_equal(SSL_session_reused(p->ssl), resumed);
    SSL_SESSION *session = SSL_get1_session(p->ssl);
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    help_close(p);
    free(p);
    return session;
}

static inline const hsb_tls_info *help_info(const help_pair *p)
{
    assert_non_null(hsb__tls_info_of(p->tls));
    return hsb__tls_info_of(p->tls);
}

/* A server that may ask for certificates, and a client that may have one. */
typedef struct mutual { help_server s; help_pair p; } mutual;

static inline void mutual_open(mutual *m, const char *trusted, bool request, bool require)
{
    hsb_security_desc desc = help_usual();
    desc.trusted.path = trusted;
    help_server_open(&m->s, &desc);
    m->s.request = request;
    m->s.require = require;
}

static inline void mutual_run(mutual *m, const char *cert, const char *key)
{
    const help_client client = { .name = "localhost", .cert = cert, .key = key };
    help_open(&m->p, &m->s, &client);
    help_run(&m->p);
}

/* Goes once, and a second time with the session of the first. */
static inline void help_twice(help_server *s, help_client first, help_client second, bool resumed)
{
    SSL_SESSION *session = help_visit(s, &first, false);
    second.session = session;
    SSL_SESSION_free(help_visit(s, &second, resumed));
    SSL_SESSION_free(session);
}

/* Suites by the names that OpenSSL has for them. */
#define AES128 "ECDHE-ECDSA-AES128-GCM-SHA256"
#define AES256 "ECDHE-ECDSA-AES256-GCM-SHA384"
#define CHACHA "ECDHE-ECDSA-CHACHA20-POLY1305"
#define CBC128 "ECDHE-ECDSA-AES128-SHA256"

/* Records that the client's own keys protect: made by a second engine, BearSSL's client. */
typedef struct help_bear {
    br_ssl_client_context client;
    br_x509_minimal_context x509;
    br_x509_knownkey_context known;
    unsigned char io[BR_SSL_BUFSIZE_BIDI];
} help_bear;

static inline void help_bear_open(help_bear *b, const hsb_security *server)
{
    static const uint16_t suites_of_bear[] = { BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 };
    const hsb__key *key = &server->identities[0].key;
    static unsigned char q[133];
    br_ec_public_key public;
    br_ec_compute_pub(br_ec_get_default(), &public, q, &key->ec);
    br_ssl_client_init_full(&b->client, &b->x509, NULL, 0);
    br_x509_knownkey_init_ec(&b->known, &public, BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN);
    br_ssl_engine_set_x509(&b->client.eng, &b->known.vtable);
    br_ssl_engine_set_suites(&b->client.eng, suites_of_bear, 1);
    br_ssl_engine_set_buffer(&b->client.eng, b->io, sizeof b->io, 1);
    assert_int_equal(br_ssl_client_reset(&b->client, "localhost", 0), 1);
}

static inline bool help_bear_step(help_bear *b, hsb__tls *t)
{
    size_t len;
    unsigned char *out = br_ssl_engine_sendrec_buf(&b->client.eng, &len);
    if (out) {
        size_t used = hsb__tls_receive(t, out, len);
        if (used)
            br_ssl_engine_sendrec_ack(&b->client.eng, used);
        if (used)
            return true;
    }
    hsb_str records = hsb__tls_records(t);
    unsigned char *in = br_ssl_engine_recvrec_buf(&b->client.eng, &len);
    if (!records.len || !in)
        return false;
    len = len < records.len ? len : records.len;
    memcpy(in, records.ptr, len);
    hsb__tls_records_sent(t, len);
    br_ssl_engine_recvrec_ack(&b->client.eng, len);
    return true;
}

/* A record of any type with any content, empty ones too. */
static inline size_t help_bear_record(help_bear *b, int type, const void *content, size_t len,
                                      unsigned char *out)
{
    const br_sslrec_out_class **keys = &b->client.eng.out.vtable;
    unsigned char *at = out + 64;
    memcpy(at, content, len);
    size_t size = len;
    const unsigned char *record = (*keys)->encrypt(keys, type, 0x0303, at, &size);
    memmove(out, record, size);
    return size;
}

#endif
