/* >>tls: bytes of a hostile client.

   The first byte tells the way.  Odd: the others go to the engine as they are.  Even: OpenSSL
   makes a handshake and sends text, and the others tell, three bytes each, where its bytes
   are changed on their way: how far it is to the place (1), what is done there (1), and with
   what (1).  Whatever comes, the engine ends or goes on; until a byte was changed, both sides
   get what was sent.                                                                      */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include "fuzz.h"

typedef struct script { const uint8_t *at, *end; size_t wait; bool touched; } script;

static hsb_security *security;
static hsb__memory memory;
static hsb__pool blocks;
static hsb__tls_pool pool;
static SSL_CTX *context;

static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

static void set_up(void)
{
    hsb_error err;
    hsb_security_desc desc = { .session_cache_bytes = 30000 };
    desc.identity.chain = hsb_pem_file("tests/data/server-p256.pem");
    desc.identity.key = hsb_pem_file("tests/data/server-p256.key");
    desc.trusted = hsb_pem_file("tests/data/ca.pem");
    security = hsb_security_new(&desc, &err);
    FUZZ_MUST(security != NULL);
    blocks.memory = pool.memory = pool.engines.memory = &memory;
    pool.blocks = &blocks;
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_use_certificate_chain_file(context, "tests/data/client-p256.pem");
    SSL_CTX_use_PrivateKey_file(context, "tests/data/client-p256.key", SSL_FILETYPE_PEM);
}

/* Takes what the engine has for the socket; to may be NULL. */
static void take_records(hsb__tls *t, BIO *to)
{
    hsb_str records;
    for (int i = 0; (records = hsb__tls_records(t)).len; i++) {
        FUZZ_MUST(i < 1000);
        if (to)
            BIO_write(to, records.ptr, (int)records.len);
        hsb__tls_records_sent(t, records.len);
    }
}

/* What it has decrypted goes back as an answer. */
static size_t take_plain(hsb__tls *t, bool touched)
{
    hsb_str plain;
    size_t room, sum = 0;
    while ((plain = hsb__tls_plain(t)).len) {
        FUZZ_MUST(touched || (plain.len == sizeof text - 1 && memcmp(plain.ptr, text, plain.len) == 0));
        char *to = hsb__tls_writable(t, &room);
        size_t n = plain.len < room ? plain.len : room;
        if (to)
            memcpy(to, plain.ptr, n);
        hsb__tls_written(t, to ? n : 0);
        hsb__tls_flush(t);
        sum += plain.len;
        hsb__tls_plain_used(t, plain.len);
    }
    return sum;
}

static void feed(hsb__tls *t, const uint8_t *data, size_t size, BIO *to, bool touched)
{
    char *copy = fuzz_copy(data, size);
    for (size_t at = 0; at < size;) {
        size_t used = hsb__tls_receive(t, copy + at, size - at);
        FUZZ_MUST(used <= size - at);
        take_plain(t, touched);
        take_records(t, to);
        at += used;
        if (used == 0 && hsb__tls_phase_of(t) != HSB__TLS_HANDSHAKE)
            break;
    }
    free(copy);
}

static void end(hsb__tls *t)
{
    hsb_error err;
    hsb__tls_shut(t);
    take_records(t, NULL);
    hsb__tls_error_of(t, &err);
    FUZZ_MUST(err.status < HSB_STATUS_COUNT && (err.status == HSB_OK || err.text[0]));
    hsb__tls_release(&pool, t);
}

/* --- the client's bytes, changed on their way ------------------------------------------- */
static void next_change(script *s)
{
    s->wait = s->end - s->at >= 3 ? (size_t)*s->at : SIZE_MAX;
}

/* One byte in; how many come out, two at most. */
static size_t change(script *s, uint8_t byte, uint8_t out[2])
{
    out[0] = out[1] = byte;
    if (s->wait == SIZE_MAX || s->wait-- > 0)
        return 1;
    uint8_t how = s->at[1], with = s->at[2];
    s->at += 3;
    s->touched = true;
    next_change(s);
    switch (how % 4) {
    case 0:  out[0] = byte ^ (with ? with : 1); return 1;
    case 1:  out[0] = with; return 1;
    case 2:  return 0;
    default: out[1] = with; return 2;
    }
}

static void carry(script *s, SSL *ssl, hsb__tls *t)
{
    uint8_t bytes[4096], changed[2 * sizeof bytes];
    int n;
    while ((n = BIO_read(SSL_get_wbio(ssl), bytes, sizeof bytes)) > 0) {
        size_t len = 0;
        for (int i = 0; i < n; i++)
            len += change(s, bytes[i], changed + len);
        feed(t, changed, len, SSL_get_rbio(ssl), s->touched);
    }
}

static void play(hsb__tls *t, const uint8_t *data, size_t size)
{
    script s = { data, data + size, 0, false };
    char back[256];
    SSL *ssl = SSL_new(context);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_tlsext_host_name(ssl, "localhost");
    SSL_set_connect_state(ssl);
    next_change(&s);
    for (int i = 0; i < 6 && !SSL_is_init_finished(ssl); i++) {
        ERR_clear_error();
        SSL_do_handshake(ssl);
        carry(&s, ssl, t);
    }
    FUZZ_MUST(s.touched || SSL_is_init_finished(ssl));
    if (SSL_is_init_finished(ssl))
        for (int i = 0; i < 3; i++) {
            SSL_write(ssl, text, sizeof text - 1);
            carry(&s, ssl, t);
            int n = SSL_read(ssl, back, sizeof back);
            FUZZ_MUST(s.touched || (n == sizeof text - 1 && memcmp(back, text, sizeof text - 1) == 0));
        }
    SSL_shutdown(ssl);
    carry(&s, ssl, t);
    SSL_free(ssl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (!security)
        set_up();
    hsb__tls *t = hsb__tls_open(&pool, security, (data[0] & 2) != 0, (data[0] & 6) == 6);
    FUZZ_MUST(t != NULL);
    if (data[0] & 1)
        feed(t, data + 1, size - 1, NULL, true);
    else
        play(t, data + 1, size - 1);
    end(t);
    FUZZ_MUST(memory.used < 2 << 20);
    return 0;
}
