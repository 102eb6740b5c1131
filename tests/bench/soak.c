/* usage: soak PORT SECONDS
   Clients that behave and clients that do not, a few at a time, against examples/echo.
   Every answer to one that behaves is compared byte for byte.  Prints how often each kind
   came; exit status 1: one that behaves was treated badly.                               */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 8, KINDS = 17 };

typedef struct visitor {
    unsigned     seed;
    SSL_CTX     *plain, *known, *huge;  /* no certificate, one, a hundred of them          */
    SSL_SESSION *session;
    int          fd;
    SSL         *ssl;
    long         done[KINDS];
} visitor;

static int port;
static time_t until;
static int wrong;

static unsigned dice(visitor *v, unsigned sides)
{
    v->seed = v->seed * 1664525u + 1013904223u;
    return (v->seed >> 8) % sides;
}

static void complain(const char *what)
{
    fprintf(stderr, "soak: %s\n", what);
    __atomic_store_n(&wrong, 1, __ATOMIC_RELAXED);
}

static void rest_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&t, NULL);
}

/* --- connections ------------------------------------------------------------------------ */
static bool connect_tcp(visitor *v, int receive_buffer)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct timeval patience = { 20, 0 };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v->ssl = NULL;
    v->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(v->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(v->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (receive_buffer)
        setsockopt(v->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    return connect(v->fd, (struct sockaddr *)&to, sizeof to) == 0;
}

static bool connect_tls(visitor *v, SSL_CTX *context, SSL_SESSION *session)
{
    v->ssl = SSL_new(context);
    SSL_set_fd(v->ssl, v->fd);
    SSL_set_tlsext_host_name(v->ssl, "localhost");
    if (session)
        SSL_set_session(v->ssl, session);
    ERR_clear_error();
    return SSL_connect(v->ssl) == 1;
}

static void leave(visitor *v, bool politely)
{
    struct linger reset = { 1, 0 };
    if (v->ssl && politely)
        SSL_shutdown(v->ssl);
    if (!politely)
        setsockopt(v->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    SSL_free(v->ssl);
    close(v->fd);
}

static bool say(visitor *v, const void *bytes, size_t len)
{
    ERR_clear_error();
    return len == 0 || SSL_write(v->ssl, bytes, (int)len) == (int)len;
}

static bool hear(visitor *v, char *out, size_t len)
{
    while (len > 0) {
        int n = SSL_read(v->ssl, out, (int)len);
        if (n <= 0)
            return false;
        out += n;
        len -= (size_t)n;
    }
    return true;
}

/* The head of an answer, byte by byte up to the empty line. */
static bool hear_head(visitor *v, char *out, size_t size)
{
    for (size_t n = 0; n + 1 < size; n++) {
        if (!hear(v, out + n, 1))
            return false;
        out[n + 1] = '\0';
        if (n >= 3 && memcmp(out + n - 3, "\r\n\r\n", 4) == 0)
            return strncmp(out, "HTTP/1.1 200 OK\r\n", 17) == 0;
    }
    return false;
}

/* --- those that behave -------------------------------------------------------------------- */
static bool get_hello(visitor *v)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char head[2048], body[6];
    return say(v, text, sizeof text - 1) && hear_head(v, head, sizeof head) &&
           strstr(head, "Content-Length: 6\r\n") && hear(v, body, 6) && memcmp(body, "hello\n", 6) == 0;
}

static bool get_bytes(visitor *v)
{
    static const char line[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n";
    char text[128], head[2048], *body;
    size_t len = dice(v, 600000);
    int n = snprintf(text, sizeof text, "GET /bytes/%zu HTTP/1.1\r\nHost: localhost\r\n\r\n", len);
    bool right = say(v, text, (size_t)n) && hear_head(v, head, sizeof head);
    body = malloc(len + 1);
    right = right && body && hear(v, body, len);
    for (size_t i = 0; right && i < len; i++)
        right = body[i] == line[i % 16384 % 64];
    free(body);
    return right;
}

static bool post_echo(visitor *v)
{
    char text[128], head[2048], body[30000], back[30000];
    size_t len = dice(v, sizeof body);
    for (size_t i = 0; i < len; i++)
        body[i] = (char)dice(v, 256);
    int n = snprintf(text, sizeof text,
                     "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", len);
    return say(v, text, (size_t)n) && say(v, body, len) && hear_head(v, head, sizeof head) &&
           hear(v, back, len) && memcmp(body, back, len) == 0;
}

static bool post_sink(visitor *v)
{
    static const char zeros[100000];
    char text[160], head[2048], body[32] = "";
    size_t len = 1 + dice(v, sizeof zeros);
    int n = snprintf(text, sizeof text,
                     "POST /sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", len);
    if (!say(v, text, (size_t)n) || !say(v, zeros, len) || !say(v, "\r\n0\r\n\r\n", 7))
        return false;
    int want = snprintf(text, sizeof text, "%zu\n", len);
    return hear_head(v, head, sizeof head) && hear(v, body, (size_t)want) && strcmp(body, text) == 0;
}

static bool behave(visitor *v, SSL_CTX *context, SSL_SESSION *session)
{
    bool right = connect_tcp(v, 0) && connect_tls(v, context, session);
    for (unsigned i = dice(v, 8) + 1; right && i > 0; i--)
        switch (dice(v, 4)) {
        case 0:  right = get_hello(v); break;
        case 1:  right = get_bytes(v); break;
        case 2:  right = post_echo(v); break;
        default: right = post_sink(v); break;
        }
    if (right && !v->session)
        v->session = SSL_get1_session(v->ssl);
    leave(v, dice(v, 4) != 0);
    return right;
}

/* --- those that do not ---------------------------------------------------------------------- */
/* The beginning of a ClientHello, as OpenSSL makes it. */
static size_t hello_bytes(visitor *v, unsigned char *out, size_t size)
{
    SSL *ssl = SSL_new(v->plain);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl);
    SSL_do_handshake(ssl);
    int n = BIO_read(SSL_get_wbio(ssl), out, (int)size);
    SSL_free(ssl);
    return n > 0 ? (size_t)n : 0;
}

static void say_raw(visitor *v, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = send(v->fd, at, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        at += n;
        len -= (size_t)n;
    }
}

static void abandon_handshake(visitor *v)
{
    unsigned char bytes[2048];
    size_t len = hello_bytes(v, bytes, sizeof bytes);
    say_raw(v, bytes, dice(v, (unsigned)len + 1));
    if (dice(v, 2))
        rest_ms(dice(v, 200));
}

static void send_garbage(visitor *v)
{
    unsigned char bytes[4096];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)dice(v, 256);
    memcpy(bytes, "\x16\x03\x01", dice(v, 4));
    say_raw(v, bytes, dice(v, sizeof bytes));
}

/* A record of two bytes or none, over and over, perhaps behind a ClientHello. */
static void flood(visitor *v, const char *record, size_t len)
{
    unsigned char bytes[2048];
    if (dice(v, 2))
        say_raw(v, bytes, hello_bytes(v, bytes, sizeof bytes));
    for (int i = 0; i < 2000; i++)
        say_raw(v, record, len);
}

static void renegotiate(visitor *v)
{
    for (int i = 0; i < 200; i++) {
        ERR_clear_error();
        if (SSL_renegotiate(v->ssl) != 1 || SSL_do_handshake(v->ssl) != 1)
            return;
    }
}

static void slow_head(visitor *v)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\nX: ";
    for (size_t i = 0; i < sizeof text - 1 && say(v, text + i, 1); i++)
        rest_ms(10);
}

static void slow_reader(visitor *v)
{
    static const char text[] = "GET /bytes/20000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char some[64];
    say(v, text, sizeof text - 1);
    for (int i = 0; i < 20 && hear(v, some, sizeof some); i++)
        rest_ms(20);
}

static void half_close(visitor *v)
{
    static const char text[] = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf";
    char some[512];
    say(v, text, sizeof text - 1);
    shutdown(v->fd, SHUT_WR);
    hear(v, some, sizeof some);
}

static void bad_http(visitor *v)
{
    static const char *const texts[] = {
        "GET / HTTP/1.1\r\n\r\n", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        "POST /sink HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n"
    };
    const char *text = texts[dice(v, sizeof texts / sizeof texts[0])];
    char some[4096];
    say(v, text, strlen(text));
    hear(v, some, sizeof some);
}

static void misbehave(visitor *v, unsigned kind)
{
    bool over_tls = kind >= 10;
    connect_tcp(v, kind == 11 ? 4096 : 0);
    if (over_tls && !connect_tls(v, kind == 15 ? v->huge : v->plain, NULL)) {
        leave(v, false);
        return;
    }
    switch (kind) {
    case 4:  break;                                             /* says nothing            */
    case 5:  abandon_handshake(v); break;
    case 6:  send_garbage(v); break;
    case 7:  flood(v, "\x15\x03\x03\0\x02\x01\0", 7); break;    /* warnings                */
    case 8:  flood(v, "\x16\x03\x03\0\0", 5); break;            /* empty                   */
    case 9:  flood(v, "\x17\x03\x03\0\0", 5); break;
    case 10: slow_head(v); break;
    case 11: slow_reader(v); break;
    case 12: half_close(v); break;
    case 13: bad_http(v); break;
    case 14: renegotiate(v); break;
    case 15: get_hello(v); break;
    default: slow_reader(v); break;
    }
    leave(v, dice(v, 2) == 0);
}

static void *visit(void *arg)
{
    visitor *v = arg;
    while (time(NULL) < until && !__atomic_load_n(&wrong, __ATOMIC_RELAXED)) {
        unsigned kind = dice(v, KINDS);
        SSL_CTX *context = kind == 1 ? v->known : v->plain;
        if (kind >= 4)
            misbehave(v, kind);
        else if (!behave(v, context, kind == 2 ? v->session : NULL))
            complain("a client that behaves was not served as it should");
        v->done[kind]++;
    }
    SSL_SESSION_free(v->session);
    return NULL;
}

static SSL_CTX *make_context(const char *chain, const char *key)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY);
    if (chain && (SSL_CTX_use_certificate_chain_file(context, chain) != 1 ||
                  SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1))
        complain("cannot read the clients' certificates");
    return context;
}

int main(int argc, char **argv)
{
    static visitor all[CLIENTS];
    static const char *const names[KINDS] = {
        "behaved", "with a certificate", "resumed", "behaved (2)", "silent", "abandoned handshakes",
        "garbage", "alert floods", "empty handshake records", "empty data records", "slow heads",
        "slow readers", "half-closes", "bad HTTP", "renegotiations", "chains of 100", "aborted downloads"
    };
    pthread_t threads[CLIENTS];
    if (argc != 3)
        return fprintf(stderr, "usage: soak PORT SECONDS\n"), 2;
    port = (int)strtol(argv[1], NULL, 10);
    until = time(NULL) + strtol(argv[2], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *plain = make_context(NULL, NULL);
    SSL_CTX *known = make_context("tests/data/client-p256.pem", "tests/data/client-p256.key");
    SSL_CTX *huge = make_context("tests/data/client-chain100.pem", "tests/data/client-chain100.key");
    for (unsigned i = 0; i < CLIENTS; i++) {
        all[i].seed = i * 7919u + (unsigned)time(NULL);
        all[i].plain = plain;
        all[i].known = known;
        all[i].huge = huge;
        pthread_create(&threads[i], NULL, visit, &all[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    for (int kind = 0; kind < KINDS; kind++) {
        long sum = 0;
        for (int i = 0; i < CLIENTS; i++)
            sum += all[i].done[kind];
        printf("    %-24s %6ld\n", names[kind], sum);
    }
    return wrong;
}
