/* Clients of an example that do what curl does not: send half of a request, read nothing.
   Include examples_help.h before. */
#ifndef TESTS_LIVE_EXAMPLES_PEER_H
#define TESTS_LIVE_EXAMPLES_PEER_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

enum { PATIENCE_MS = 20000 };

static inline SSL_CTX *client_tls(void)
{
    static SSL_CTX *context;
    if (!context)
        context = SSL_CTX_new(TLS_client_method());
    must_be(context != NULL, "SSL_CTX_new");
    return context;
}

#include "peer.h"

/* Of the answer that comes now; 0: none came. */
static inline int peer_status(peer *p)
{
    char head[32];
    int n = peer_hear(p, head, sizeof head - 1);
    head[n > 0 ? n : 0] = '\0';
    return strncmp(head, "HTTP/1.1 ", 9) == 0 ? atoi(head + 9) : 0;
}

#endif
