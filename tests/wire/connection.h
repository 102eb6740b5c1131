/* The client's side of a connection, and what went wrong with it.  The server is in the same
   thread: it gets a turn whenever the client waits. */
#ifndef TESTS_WIRE_CONNECTION_H
#define TESTS_WIRE_CONNECTION_H

#include "application.h"
#include "random.h"

#include <openssl/ssl.h>

static char complaint[512];

__attribute__((format(printf, 1, 2)))
static inline bool complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!complaint[0])
        vsnprintf(complaint, sizeof complaint, format, args);
    va_end(args);
    return false;
}

typedef enum cutting { WHOLE, BYTES, RANDOM } cutting;

typedef struct client {
    hsb_server *server;
    int fd;                     /* -1: left                                                */
    SSL *ssl;                   /* NULL: plain                                             */
    cutting cuts;
    bytebuf outgoing;           /* for the socket                                          */
    bytebuf got;                /* decrypted                                               */
    size_t seen;                /* of got: matched by what was expected                    */
    bool ended;                 /* the server sends no more                                */
    bool polite;                /* ... and said so, where TLS asks for that                */
    bool must_end, may_be_cut;
} client;

static SSL_CTX *client_tls;

static inline void take_plain(client *c)
{
    char part[16384];
    int n;
    while ((n = SSL_read(c->ssl, part, sizeof part)) > 0)
        bytes_add(&c->got, part, (size_t)n);
    if (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN)
        c->ended = c->polite = true;
}

static inline void client_receive(client *c)
{
    char part[16384];
    while (c->fd >= 0) {
        ssize_t n = recv(c->fd, part, sizeof part, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n > 0 && !c->ssl) {
            bytes_add(&c->got, part, (size_t)n);
        } else if (n > 0) {
            BIO_write(SSL_get_rbio(c->ssl), part, (int)n);
            take_plain(c);
        } else {
            c->ended = true;
            c->polite = c->polite || (!c->ssl && n == 0);
            return;
        }
    }
}

/* What OpenSSL wants to send, behind what waits already. */
static inline void collect_records(client *c)
{
    char part[16384];
    int n;
    while (c->ssl && (n = BIO_read(SSL_get_wbio(c->ssl), part, sizeof part)) > 0)
        bytes_add(&c->outgoing, part, (size_t)n);
}

/* The server's turn, for as long as it has something to do. */
static inline void server_turn(client *c)
{
    for (int i = 0; i < 100 && hsb_server_poll(c->server, 0) > 0; i++)
        client_receive(c);
    client_receive(c);
}

/* All that waits, cut as the play wants it: over TLS, cuts fall anywhere in the records. */
static inline bool client_flush(client *c)
{
    size_t at = 0;
    int64_t until = clock_ms() + PATIENCE_MS;
    collect_records(c);
    while (at < c->outgoing.len && c->fd >= 0) {
        size_t n = c->cuts == WHOLE || (c->ssl && c->cuts == BYTES) ? c->outgoing.len - at
                 : c->cuts == BYTES ? 1 : 1 + random_below(random_below(4) ? 8 : 400);
        n = n < c->outgoing.len - at ? n : c->outgoing.len - at;
        ssize_t sent = send(c->fd, c->outgoing.data + at, n, MSG_NOSIGNAL);
        if (sent > 0)
            at += (size_t)sent;
        else if (errno != EAGAIN)
            break;                          /* it has gone; what it said is read elsewhere */
        server_turn(c);
        if (clock_ms() > until)
            return complain("the server takes no more input");
    }
    c->outgoing.len = 0;
    return true;
}

/* Over TLS byte by byte means a record for each byte. */
static inline bool client_send(client *c, const char *data, size_t len)
{
    if (!c->ssl) {
        bytes_add(&c->outgoing, data, len);
        return client_flush(c);
    }
    for (size_t at = 0; at < len;) {
        size_t n = c->cuts == WHOLE ? len : c->cuts == BYTES ? 1 : 1 + random_below(60);
        n = n < len - at ? n : len - at;
        if (SSL_write(c->ssl, data + at, (int)n) <= 0)
            return c->ended || complain("TLS: nothing can be sent");
        at += n;
        if (!client_flush(c))
            return false;
    }
    return true;
}

static inline bool client_handshake(client *c)
{
    int64_t until = clock_ms() + PATIENCE_MS;
    while (!SSL_is_init_finished(c->ssl)) {
        int n = SSL_do_handshake(c->ssl);
        int why = SSL_get_error(c->ssl, n);
        if (n <= 0 && why != SSL_ERROR_WANT_READ)
            return complain("TLS: no handshake");
        if (!client_flush(c))
            return false;
        hsb_server_poll(c->server, 0);
        client_receive(c);
        if (c->ended || clock_ms() > until)
            return complain("TLS: the handshake did not end");
    }
    take_plain(c);
    return client_flush(c);
}

/* Waits for whatever `ready` waits for. */
static inline bool wait_for(client *c, bool (*ready)(client *c), const char *what)
{
    int64_t until = clock_ms() + PATIENCE_MS;
    for (;;) {
        server_turn(c);
        if (ready(c))
            return true;
        if (clock_ms() > until)
            return complain("waited in vain for %s", what);
        hsb_server_poll(c->server, 2);
    }
}

static inline bool has_ended(client *c)
{
    return c->ended;
}

static inline bool is_accepted(client *c)
{
    (void)c;
    return app.accepted > 0;
}

static inline bool is_forgotten(client *c)
{
    return hsb_server_connections(c->server).total == 0;
}

static inline bool client_open(client *c, hsb_server *server, bool tls, cutting cuts)
{
    memset(c, 0, sizeof *c);
    c->server = server;
    c->cuts = cuts;
    hsb_address to = hsb_server_address(server, tls ? 1 : 0);
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(to.port) };
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&in, sizeof in) != 0)
        return complain("connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (!wait_for(c, is_accepted, "on_accept") || !tls)
        return !complaint[0];
    c->ssl = must(SSL_new(client_tls));
    SSL_set_bio(c->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(c->ssl);
    return client_handshake(c);
}

/* No more from us. */
static inline void client_fin(client *c)
{
    if (c->ssl) {
        SSL_shutdown(c->ssl);
        client_flush(c);
    }
    if (c->fd >= 0)
        shutdown(c->fd, SHUT_WR);
    server_turn(c);
}

static inline void client_leave(client *c, bool reset)
{
    struct linger now = { 1, 0 };
    if (c->fd >= 0 && reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    server_turn(c);
}

#endif
