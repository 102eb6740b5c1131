/* A client that waits for its server, and so needs a server with a thread of its own.  It may be
   on any thread.  Include client.h before. */
#ifndef TESTS_LIVE_PEER_H
#define TESTS_LIVE_PEER_H

typedef struct peer { int fd; SSL *ssl; } peer;

static inline bool peer_handshake(peer *p)
{
    p->ssl = SSL_new(client_tls());
    SSL_set_fd(p->ssl, p->fd);
    return SSL_connect(p->ssl) == 1;
}

/* Connected.  Without TLS the server need not run for it. */
static inline peer peer_open(int port, bool secure)
{
    struct sockaddr_in to;
    struct timeval patience = { PATIENCE_MS / 1000, 0 };
    peer p = { socket(AF_INET, SOCK_STREAM, 0), NULL };
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must_be(p.fd >= 0, "socket");
    setsockopt(p.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(p.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    must_be(connect(p.fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    must_be(!secure || peer_handshake(&p), "handshake");
    return p;
}

static inline bool peer_say(peer *p, const char *text)
{
    int len = (int)strlen(text);
    return (p->ssl ? SSL_write(p->ssl, text, len)
                   : (int)send(p->fd, text, (size_t)len, MSG_NOSIGNAL)) == len;
}

static inline bool peer_ask(peer *p, const char *path)
{
    char text[128];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    return peer_say(p, text);
}

static inline int peer_hear(peer *p, char *out, int size)
{
    return p->ssl ? SSL_read(p->ssl, out, size) : (int)recv(p->fd, out, (size_t)size, 0);
}

/* With a reset the port can be used again at once. */
static inline void peer_close(peer *p, bool reset)
{
    struct linger linger = { 1, 0 };
    if (reset)
        setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    else if (p->ssl)
        SSL_shutdown(p->ssl);
    SSL_free(p->ssl);
    close(p->fd);
}

#endif
