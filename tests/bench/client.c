/* A client for the measurements, on OpenSSL, one thread.  TLS is 1.2 or 1.3.
     client TLS requests PORT N   N requests on one connection
     client TLS full PORT N       N full handshakes, one after the other
     client TLS resumed PORT N    one full handshake, then N resumed ones
     client TLS mix PORT N        N connections with a request each, four of five resumed
     client TLS idle PORT N       N connections with a request each, one after the other; prints
                                  "ready SECONDS" and keeps them open until its input ends
     client TLS many PORT N       the same, 32 at a time
     client TLS crowd PORT N      the same, but nearly all handshakes are resumed
     client TLS members PORT N    the same as WebSockets; then each line of input is sent by
                                  the first member, and "done" is printed when all have got it
   It waits for a server that is only starting.  Exit code 0: all went well.                 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    ANSWER = 4096,
    AT_A_TIME = 32,
    PER_ADDRESS = 20000,        /* connections of one loopback address: it has 28,000 ports  */
};

static const char get[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
static const char upgrade[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static struct sockaddr_in server;
static SSL_CTX *tls;
static bool     has_tickets;    /* TLS 1.3: a session comes with the first answer, and is used once */

static void fail(const char *what)
{
    fprintf(stderr, "client: %s: %s\n", what, errno ? strerror(errno) : "no error of the system");
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- one connection --------------------------------------------------------------------- */

/* The Nth connection of many, from an address that still has ports. */
static void choose_source(int fd, int number)
{
#ifdef IP_BIND_ADDRESS_NO_PORT
    const int on = 1;
    struct sockaddr_in source = { .sin_family = AF_INET };
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number / PER_ADDRESS));
    if (number >= PER_ADDRESS &&
        (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
         bind(fd, (const struct sockaddr *)&source, sizeof source) != 0))
        fail("bind");
#else
    (void)fd, (void)number;
#endif
}

/* For 20 seconds: under valgrind a server takes its time to start. */
static int dial(int number)
{
    const struct timespec moment = { 0, 20 * 1000 * 1000 };
    for (int tries = 1000; tries-- > 0; nanosleep(&moment, NULL)) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0)
            fail("socket");
        choose_source(fd, number);
        if (connect(fd, (const struct sockaddr *)&server, sizeof server) == 0)
            return fd;
        close(fd);
        if (errno != ECONNREFUSED)
            fail("connect");
    }
    fail("connect");
    return -1;
}

static SSL *start(int fd, SSL_SESSION *session)
{
    SSL *ssl = SSL_new(tls);
    if (!ssl || !SSL_set_fd(ssl, fd) || (session && !SSL_set_session(ssl, session)))
        fail("OpenSSL");
    return ssl;
}

static SSL *shake_hands(int fd, SSL_SESSION *session)
{
    SSL *ssl = start(fd, session);
    errno = 0;
    if (SSL_connect(ssl) != 1)
        fail("handshake");
    if (session && !SSL_session_reused(ssl))
        fail("the session was not resumed");
    return ssl;
}

/* Whether so much of an answer is all of it. */
static bool is_whole(const char *answer, int len)
{
    static const char hello[] = "hello\n", switching[] = "HTTP/1.1 101", end[] = "\r\n\r\n";
    if (len >= 12 && memcmp(answer, switching, 12) == 0)
        return memcmp(answer + len - 4, end, 4) == 0;
    if (len >= 12 && memcmp(answer, "HTTP/1.1 200", 12) != 0)
        fail("another answer than 200");
    return len > 6 && memcmp(answer + len - 6, hello, 6) == 0;
}

static void ask(SSL *ssl)
{
    char answer[ANSWER];
    int len = 0;
    errno = 0;
    if (SSL_write(ssl, get, sizeof get - 1) <= 0)
        fail("request");
    do {
        int n = SSL_read(ssl, answer + len, ANSWER - len);
        if (n <= 0)
            fail("answer");
        len += n;
    } while (!is_whole(answer, len));
}

/* Without close_notify.  The session stays good. */
static void hang_up(SSL *ssl, int fd)
{
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
    if (fd >= 0)
        close(fd);
}

static void replace(SSL_SESSION **session, SSL *ssl)
{
    SSL_SESSION_free(*session);
    *session = SSL_get1_session(ssl);
}

/* --- one after the other ----------------------------------------------------------------- */

static void request_again(int count)
{
    int fd = dial(0);
    SSL *ssl = shake_hands(fd, NULL);
    while (count-- > 0)
        ask(ssl);
    hang_up(ssl, fd);
}

static void shake_hands_again(int count)
{
    while (count-- > 0) {
        int fd = dial(0);
        hang_up(shake_hands(fd, NULL), fd);
    }
}

static void resume_again(int count)
{
    SSL_SESSION *session = NULL;
    for (int i = 0; i <= count; i++) {
        int fd = dial(0);
        SSL *ssl = shake_hands(fd, session);
        if (has_tickets)
            ask(ssl);
        if (has_tickets || !session)
            replace(&session, ssl);
        hang_up(ssl, fd);
    }
    SSL_SESSION_free(session);
}

static void mix(int count)
{
    SSL_SESSION *session = NULL;
    for (int i = 0; i < count; i++) {
        int fd = dial(0);
        SSL *ssl = shake_hands(fd, i % 5 == 0 ? NULL : session);
        ask(ssl);
        replace(&session, ssl);
        hang_up(ssl, fd);
    }
    SSL_SESSION_free(session);
}

/* --- many at a time ----------------------------------------------------------------------- */

/* A place for one of the connections that are being made.  The sockets stay open when their
   SSL objects go: all that lives on is in the server. */
typedef struct place {
    SSL         *ssl;
    int          fd;
    SSL_SESSION *session;       /* of the connection before                                  */
    bool         asked;
    char         answer[ANSWER];
    int          len;
} place;

static place  places[AT_A_TIME];
static int    poller, begun, wanted;
static bool   resuming;
static int   *sockets;          /* of all connections that are made                          */
static int    made;
static SSL   *first;            /* the one of sockets[0], if it is wanted                    */

static void watch(int fd, int operation, uint32_t events, int number)
{
    struct epoll_event event = { .events = events, .data.u32 = (uint32_t)number };
    if (epoll_ctl(poller, operation, fd, &event) != 0)
        fail("epoll_ctl");
}

static void begin_next(place *p)
{
    if (begun == wanted)
        return;
    p->fd = dial(begun++);
    if (fcntl(p->fd, F_SETFL, O_NONBLOCK) != 0)
        fail("fcntl");
    p->ssl = start(p->fd, resuming ? p->session : NULL);
    p->asked = false;
    p->len = 0;
    watch(p->fd, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT, (int)(p - places));
}

static void finish(place *p)
{
    watch(p->fd, EPOLL_CTL_DEL, 0, 0);
    if (resuming && p->session && !SSL_session_reused(p->ssl))
        fail("a session was not resumed");
    if (resuming)
        replace(&p->session, p->ssl);
    sockets[made++] = p->fd;
    if (made == 1)
        first = p->ssl;
    else
        hang_up(p->ssl, -1);
    begin_next(p);
}

/* As far as it goes without waiting. */
static void go_on(place *p, const char *request)
{
    int n = p->asked ? 1 : SSL_connect(p->ssl);
    if (n == 1 && !p->asked) {
        n = SSL_write(p->ssl, request, (int)strlen(request));
        p->asked = n > 0;
        watch(p->fd, EPOLL_CTL_MOD, EPOLLIN, (int)(p - places));
    }
    while (n > 0 && (n = SSL_read(p->ssl, p->answer + p->len, ANSWER - p->len)) > 0) {
        p->len += n;
        if (is_whole(p->answer, p->len)) {
            finish(p);
            return;
        }
    }
    int why = SSL_get_error(p->ssl, n);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        fail("a connection of many");
}

static void make(int count, int at_a_time, const char *request)
{
    struct epoll_event events[AT_A_TIME];
    double since = now();
    wanted = count;
    sockets = calloc((size_t)count, sizeof *sockets);
    poller = epoll_create1(0);
    if (!sockets || poller < 0)
        fail("memory or epoll");
    for (int i = 0; i < at_a_time; i++)
        begin_next(&places[i]);
    while (made < wanted) {
        int n = epoll_wait(poller, events, AT_A_TIME, 30000);
        if (n <= 0)
            fail("the server does not answer");
        for (int i = 0; i < n; i++)
            go_on(&places[events[i].data.u32], request);
    }
    printf("ready %.3f\n", now() - since);
    fflush(stdout);
}

static void until_input_ends(void)
{
    for (char c; read(0, &c, 1) > 0;)
        ;
}

/* --- WebSockets ------------------------------------------------------------------------------ */

static void say(const char *text, size_t len)
{
    unsigned char frame[6 + 125] = { 0x81, (unsigned char)(0x80 | len) };   /* the mask is zero */
    memcpy(frame + 6, text, len);
    if (SSL_write(first, frame, (int)(6 + len)) <= 0)
        fail("a message");
}

/* Until each member has received something, which nobody decrypts. */
static void wait_for_all(void)
{
    static char bytes[16384];
    struct epoll_event events[256];
    bool *got = calloc((size_t)made, sizeof *got);
    int missing = made;
    while (got && missing > 0) {
        int n = epoll_wait(poller, events, 256, 30000);
        if (n <= 0)
            fail("not all members got the message");
        for (int i = 0; i < n; i++) {
            uint32_t member = events[i].data.u32;
            if (recv(sockets[member], bytes, sizeof bytes, 0) <= 0)
                fail("a member");
            missing -= !got[member];
            got[member] = true;
        }
    }
    free(got);
}

static void talk(void)
{
    char line[125];
    for (int i = 0; i < made; i++)
        watch(sockets[i], EPOLL_CTL_ADD, EPOLLIN, i);
    while (fgets(line, sizeof line, stdin)) {
        say(line, strcspn(line, "\n"));
        wait_for_all();
        printf("done\n");
        fflush(stdout);
    }
}

/* --- main ------------------------------------------------------------------------------------ */

static void choose_version(const char *text)
{
    const int version = strcmp(text, "1.3") == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;
    has_tickets = version == TLS1_3_VERSION;
    tls = SSL_CTX_new(TLS_client_method());
    if (!tls || !SSL_CTX_set_min_proto_version(tls, version) ||
        !SSL_CTX_set_max_proto_version(tls, version) ||
        !SSL_CTX_set_cipher_list(tls, "ECDHE-ECDSA-AES128-GCM-SHA256") ||
        !SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256"))
        fail("OpenSSL");
}

static void allow_descriptors(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static bool run(const char *mode, int count)
{
    if (strcmp(mode, "requests") == 0)
        request_again(count);
    else if (strcmp(mode, "full") == 0)
        shake_hands_again(count);
    else if (strcmp(mode, "resumed") == 0)
        resume_again(count);
    else if (strcmp(mode, "mix") == 0)
        mix(count);
    else if (strcmp(mode, "members") == 0) {
        resuming = true;
        make(count, AT_A_TIME, upgrade);
        talk();
    } else if (strcmp(mode, "idle") == 0 || strcmp(mode, "many") == 0 || strcmp(mode, "crowd") == 0) {
        resuming = mode[0] == 'c';
        make(count, mode[0] == 'i' ? 1 : AT_A_TIME, get);
        until_input_ends();
    } else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return fprintf(stderr, "usage: client 1.2|1.3 MODE PORT N\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    allow_descriptors();
    server.sin_family = AF_INET;
    server.sin_port = htons((unsigned short)atoi(argv[3]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    choose_version(argv[1]);
    return run(argv[2], atoi(argv[4])) ? 0 : 2;
}
