/* A client for run.sh, on OpenSSL, TLS 1.2, one thread.
     client idle PORT N       N connections with one request each; says "ready" and keeps them
                              open until its standard input ends
     client requests PORT N   N requests on one connection
     client resume PORT N     one full handshake, then N resumed ones
   It waits for a server that is only starting.  Exit code 0: all went well.                 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in server;
#ifndef VERSION                         /* of TLS, to measure */
#  define VERSION TLS1_2_VERSION
#endif

static SSL_CTX *tls;

static void fail(const char *what)
{
    fprintf(stderr, "client: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* For 20 seconds: under valgrind a server takes its time to start.                          */
static int dial(void)
{
    const struct timespec moment = { 0, 20 * 1000 * 1000 };
    for (int tries = 1000; tries-- > 0; nanosleep(&moment, NULL)) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0)
            fail("socket");
        if (connect(fd, (const struct sockaddr *)&server, sizeof server) == 0)
            return fd;
        close(fd);
        if (errno != ECONNREFUSED)
            fail("connect");
    }
    fail("connect");
    return -1;
}

static SSL *shake_hands(int fd, SSL_SESSION *session)
{
    SSL *ssl = SSL_new(tls);
    if (!ssl || !SSL_set_fd(ssl, fd) || (session && !SSL_set_session(ssl, session)) ||
        SSL_connect(ssl) != 1)
        fail("handshake");
    if (session && !SSL_session_reused(ssl)) {
        errno = 0;
        fail("the session was not resumed");
    }
    return ssl;
}

/* One exchange; head and body of the answer come in one record.                             */
static void ask(SSL *ssl)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    char answer[4096];
    int n = 0;
    if (SSL_write(ssl, request, sizeof request - 1) > 0)
        n = SSL_read(ssl, answer, sizeof answer);
    if (n < 12 || strncmp(answer, "HTTP/1.1 200", 12) != 0)
        fail("request");
}

/* The sockets stay open when their SSL objects go: all that lives on is in the server.      */
static void stay_idle(int count)
{
    for (int i = 0; i < count; i++) {
        SSL *ssl = shake_hands(dial(), NULL);
        ask(ssl);
        SSL_free(ssl);
    }
    printf("ready\n");
    fflush(stdout);
    for (char c; read(0, &c, 1) > 0;)
        ;
}

static void request_again(int count)
{
    SSL *ssl = shake_hands(dial(), NULL);
    while (count-- > 0)
        ask(ssl);
    SSL_free(ssl);
}

/* In TLS 1.3 a session comes with the first answer, and each is used once. */
static void resume_again(int count)
{
    const int tickets = SSL_CTX_get_max_proto_version(tls) == TLS1_3_VERSION;
    int fd = dial();
    SSL *ssl = shake_hands(fd, NULL);
    if (tickets)
        ask(ssl);
    SSL_SESSION *session = SSL_get1_session(ssl);
    while (count-- > 0) {
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);   /* else it is given up */
        SSL_free(ssl);
        close(fd);
        fd = dial();
        ssl = shake_hands(fd, session);
        if (tickets) {
            ask(ssl);
            SSL_SESSION_free(session);
            session = SSL_get1_session(ssl);
        }
    }
    SSL_free(ssl);
    SSL_SESSION_free(session);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    if (argc != 4)
        return fprintf(stderr, "usage: client idle|requests|resume PORT N\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    server.sin_family = AF_INET;
    server.sin_port = htons((unsigned short)atoi(argv[2]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    tls = SSL_CTX_new(TLS_client_method());
    if (!tls || !SSL_CTX_set_max_proto_version(tls, VERSION) ||
        !SSL_CTX_set_cipher_list(tls, "ECDHE-ECDSA-AES128-GCM-SHA256"))
        fail("OpenSSL");
    int count = atoi(argv[3]);
    if (strcmp(argv[1], "idle") == 0)
        stay_idle(count);
    else if (strcmp(argv[1], "requests") == 0)
        request_again(count);
    else if (strcmp(argv[1], "resume") == 0)
        resume_again(count);
    else
        return 2;
    return 0;
}
