/* There is no OpenSSL for mingw-w64 in Debian: the few calls of it that tests/client.h and
   tests/wire make, over BearSSL's client.  So it is TLS 1.2, certificates are not looked at, no
   session is resumed, and after SSL_shutdown nothing more is received.                     */
#ifndef SHIM_SSL_H
#define SHIM_SSL_H

#include <bearssl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "sockets.h"

enum {
    SSL_ERROR_NONE, SSL_ERROR_SSL, SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE, SSL_ERROR_SYSCALL,
    SSL_ERROR_ZERO_RETURN, SSL_SENT_SHUTDOWN = 1, SSL_RECEIVED_SHUTDOWN = 2, SSL_SESS_CACHE_OFF = 0,
    SSL_MODE_ENABLE_PARTIAL_WRITE = 0, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 0
};

typedef int SSL_CTX;
typedef int SSL_METHOD;

typedef struct BIO { unsigned char *data; size_t len; } BIO;

/* What takes any chain, and the key of its first certificate. */
typedef struct shim_x509 {
    const br_x509_class    *vtable;
    br_x509_decoder_context decoder;
    int                     number;
} shim_x509;

typedef struct SSL {
    br_ssl_client_context   client;
    br_x509_minimal_context unused;
    shim_x509               x509;
    unsigned char           io[BR_SSL_BUFSIZE_BIDI];
    char                    name[256];
    int                     fd;         /* -1: the BIOs alone */
    BIO                    *in, *out;
    bool                    begun, ended, notified;
    int                     error;
} SSL;

static inline void shim_x509_start(const br_x509_class **c, const char *name)
{
    (void)name;
    ((shim_x509 *)(void *)c)->number = 0;
}

static inline void shim_x509_start_cert(const br_x509_class **c, uint32_t len)
{
    shim_x509 *x = (shim_x509 *)(void *)c;
    (void)len;
    if (x->number++ == 0)
        br_x509_decoder_init(&x->decoder, NULL, NULL);
}

static inline void shim_x509_append(const br_x509_class **c, const unsigned char *bytes, size_t len)
{
    shim_x509 *x = (shim_x509 *)(void *)c;
    if (x->number == 1)
        br_x509_decoder_push(&x->decoder, bytes, len);
}

static inline void shim_x509_end_cert(const br_x509_class **c)
{
    (void)c;
}

static inline unsigned shim_x509_end(const br_x509_class **c)
{
    (void)c;
    return 0;
}

static inline const br_x509_pkey *shim_x509_key(const br_x509_class *const *c, unsigned *usages)
{
    shim_x509 *x = (shim_x509 *)(uintptr_t)c;
    if (usages)
        *usages = BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN;
    return br_x509_decoder_get_pkey(&x->decoder);
}

static const br_x509_class shim_x509_class = {
    sizeof(shim_x509), shim_x509_start, shim_x509_start_cert, shim_x509_append, shim_x509_end_cert,
    shim_x509_end, shim_x509_key
};

/* --- BIOs ---------------------------------------------------------------------------------- */
static inline const void *BIO_s_mem(void)
{
    return NULL;
}

static inline BIO *BIO_new(const void *kind)
{
    (void)kind;
    return calloc(1, sizeof(BIO));
}

static inline int BIO_write(BIO *b, const void *bytes, int len)
{
    b->data = realloc(b->data, b->len + (size_t)len + 1);
    memcpy(b->data + b->len, bytes, (size_t)len);
    b->len += (size_t)len;
    return len;
}

static inline int BIO_read(BIO *b, void *out, int len)
{
    size_t n = b->len < (size_t)len ? b->len : (size_t)len;
    if (n == 0)
        return -1;
    memcpy(out, b->data, n);
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    return (int)n;
}

static inline int BIO_set_mem_eof_return(BIO *b, int value)
{
    (void)b;
    return value;
}

/* --- contexts ------------------------------------------------------------------------------- */
static inline const SSL_METHOD *TLS_client_method(void)
{
    return NULL;
}

static inline SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
    (void)method;
    return calloc(1, sizeof(SSL_CTX));
}

static inline void SSL_CTX_free(SSL_CTX *all)
{
    free(all);
}

static inline void SSL_CTX_set_session_cache_mode(SSL_CTX *all, int mode)
{
    (void)all, (void)mode;
}

static inline void ERR_clear_error(void)
{
}

/* --- connections ---------------------------------------------------------------------------- */
static inline SSL *SSL_new(SSL_CTX *all)
{
    SSL *s = calloc(1, sizeof *s);
    (void)all;
    br_ssl_client_init_full(&s->client, &s->unused, NULL, 0);
    s->x509.vtable = &shim_x509_class;
    br_ssl_engine_set_x509(&s->client.eng, &s->x509.vtable);
    br_ssl_engine_set_buffer(&s->client.eng, s->io, sizeof s->io, 1);
    s->fd = -1;
    s->in = BIO_new(NULL);
    s->out = BIO_new(NULL);
    return s;
}

static inline void shim_bio_free(BIO *b)
{
    free(b->data);
    free(b);
}

static inline void SSL_free(SSL *s)
{
    if (!s)
        return;
    shim_bio_free(s->in);
    shim_bio_free(s->out);
    free(s);
}

static inline void SSL_set_fd(SSL *s, int fd)
{
    s->fd = fd;
}

static inline void SSL_set_bio(SSL *s, BIO *in, BIO *out)
{
    shim_bio_free(s->in);
    shim_bio_free(s->out);
    s->in = in;
    s->out = out;
}

static inline BIO *SSL_get_rbio(SSL *s)
{
    return s->in;
}

static inline BIO *SSL_get_wbio(SSL *s)
{
    return s->out;
}

static inline void SSL_set_tlsext_host_name(SSL *s, const char *name)
{
    snprintf(s->name, sizeof s->name, "%s", name);
}

static inline void SSL_set_connect_state(SSL *s)
{
    (void)s;
}

static inline void SSL_set_mode(SSL *s, int mode)
{
    (void)s, (void)mode;
}

static inline bool shim_flush(SSL *s)
{
    while (s->fd >= 0 && s->out->len) {
        unsigned char part[16384];
        size_t n = s->out->len < sizeof part ? s->out->len : sizeof part;
        ptrdiff_t sent = shim_send(s->fd, s->out->data, n, 0);
        if (sent <= 0) {
            s->ended = s->ended || errno != EAGAIN;
            return false;
        }
        BIO_read(s->out, part, (int)sent);
    }
    return true;
}

/* Moves bytes between the engine, the BIOs and the socket, until the engine is in one of these
   states or none of them goes on. */
static inline void shim_pump(SSL *s, unsigned until)
{
    br_ssl_engine_context *e = &s->client.eng;
    for (bool moved = true; moved;) {
        unsigned char part[16384];
        unsigned state = br_ssl_engine_current_state(e);
        size_t len;
        moved = false;
        if (state & BR_SSL_SENDREC) {
            unsigned char *bytes = br_ssl_engine_sendrec_buf(e, &len);
            BIO_write(s->out, bytes, (int)len);
            br_ssl_engine_sendrec_ack(e, len);
            moved = true;
        }
        if (!shim_flush(s))
            return;
        if (!moved && (state & until))
            return;
        if (!(state & BR_SSL_RECVREC) || moved)
            continue;
        if (!s->in->len && s->fd >= 0 && !s->ended) {
            ptrdiff_t n = shim_recv(s->fd, part, sizeof part, 0);
            s->ended = n == 0 || (n < 0 && errno != EAGAIN);
            if (n > 0)
                BIO_write(s->in, part, (int)n);
        }
        unsigned char *bytes = br_ssl_engine_recvrec_buf(e, &len);
        int n = BIO_read(s->in, bytes, (int)len);
        if (n > 0)
            br_ssl_engine_recvrec_ack(e, (size_t)n);
        moved = n > 0;
    }
}

/* What cannot go on: for now, or for ever. */
static inline int shim_stuck(SSL *s)
{
    br_ssl_engine_context *e = &s->client.eng;
    bool closed = br_ssl_engine_current_state(e) == BR_SSL_CLOSED;
    s->notified = s->notified || (closed && br_ssl_engine_last_error(e) == 0);
    s->error = s->notified ? SSL_ERROR_ZERO_RETURN : closed ? SSL_ERROR_SSL :
               s->ended ? SSL_ERROR_SYSCALL : SSL_ERROR_WANT_READ;
    return -1;
}

static inline int SSL_is_init_finished(SSL *s)
{
    return s->begun && (br_ssl_engine_current_state(&s->client.eng) & BR_SSL_SENDAPP) != 0;
}

static inline int SSL_connect(SSL *s)
{
    if (!s->begun)
        br_ssl_client_reset(&s->client, s->name, 0);
    s->begun = true;
    shim_pump(s, BR_SSL_SENDAPP);
    return br_ssl_engine_current_state(&s->client.eng) & (BR_SSL_SENDAPP | BR_SSL_RECVAPP)
           ? 1 : shim_stuck(s);
}

static inline int SSL_do_handshake(SSL *s)
{
    return SSL_connect(s);
}

static inline int SSL_get_error(const SSL *s, int n)
{
    return n > 0 ? SSL_ERROR_NONE : s->error;
}

static inline int SSL_read(SSL *s, void *out, int len)
{
    br_ssl_engine_context *e = &s->client.eng;
    size_t n;
    shim_pump(s, BR_SSL_RECVAPP);
    if (!(br_ssl_engine_current_state(e) & BR_SSL_RECVAPP))
        return shim_stuck(s);
    unsigned char *bytes = br_ssl_engine_recvapp_buf(e, &n);
    n = n < (size_t)len ? n : (size_t)len;
    memcpy(out, bytes, n);
    br_ssl_engine_recvapp_ack(e, n);
    return (int)n;
}

static inline int SSL_write(SSL *s, const void *bytes, int len)
{
    br_ssl_engine_context *e = &s->client.eng;
    int done = 0;
    for (;;) {
        size_t n;
        shim_pump(s, BR_SSL_SENDAPP);
        bool full = s->fd >= 0 && s->out->len > 0;      /* the socket takes no more for now */
        if (done == len || full || !(br_ssl_engine_current_state(e) & BR_SSL_SENDAPP))
            return done ? done : shim_stuck(s);
        unsigned char *space = br_ssl_engine_sendapp_buf(e, &n);
        n = n < (size_t)(len - done) ? n : (size_t)(len - done);
        memcpy(space, (const char *)bytes + done, n);
        br_ssl_engine_sendapp_ack(e, n);
        br_ssl_engine_flush(e, 0);
        done += (int)n;
    }
}

static inline int SSL_get_shutdown(SSL *s)
{
    shim_stuck(s);
    return s->notified ? SSL_RECEIVED_SHUTDOWN : 0;
}

static inline int SSL_shutdown(SSL *s)
{
    br_ssl_engine_close(&s->client.eng);
    shim_pump(s, BR_SSL_RECVREC);
    return 0;
}

#endif
