/* What the tests of a running server share: a server whose hooks count, and clients on
   sockets of their own.  Both live in one thread: whenever a client has to wait, the server
   gets a turn, so that a test is one story that reads downward and needs no locks.
   Nothing here waits for longer than PATIENCE_MS.

   Include httpsbind.h with HTTPSBIND_IMPLEMENTATION before this.

     rig r = { .on_request = answer };       what to do in the hooks; all of it may be left out
     rig_open(&r, &options, true);           a TLS server on any port of 127.0.0.1
     client *c = dial(&r);
     say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
     answer a = hear_answer(c, false);
     hang_up(c);
     rig_close(&r);                          and everything that must be true in the end */
#ifndef TESTS_CLIENT_H
#define TESTS_CLIENT_H

#include "help.h"

#include <dirent.h>
#include <poll.h>
#include <sys/time.h>
#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

enum { PATIENCE_MS = 20000 };

/* Rows of a program's list of tests: without TLS, with it, or one for each.  The test asks
   is_secure(state) which it is. */
#define PLAIN(test) PLAIN_THEN(test, NULL)
#define TLS(test) TLS_THEN(test, NULL)
#define BOTH(test) PLAIN(test), TLS(test)

/* The same with what has to be called after the test. */
#define PLAIN_THEN(test, after) { #test ", plain", test, NULL, after, NULL }
#define TLS_THEN(test, after) { #test ", TLS", test, NULL, after, "TLS" }

static inline bool is_secure(void **state)
{
    return *state != NULL;
}

static inline bool path_is(const hsb_request *req, const char *path)
{
    return hsb_equal(hsb_request_path(req), path);
}

/* A number from the environment, to let a test run for longer than everybody's does. */
static inline long scaled(const char *name, long standard)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : standard;
}

/* Test data that can be told at any offset. */
static inline char pattern_at(uint64_t offset)
{
    return (char)(offset * 2654435761u >> 11 & 0xFF);
}

static inline void pattern_fill(char *out, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = pattern_at(offset + i);
}

static inline bool pattern_fits(const char *bytes, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != pattern_at(offset + i))
            return false;
    return true;
}

/* --- resources that must come back -------------------------------------------------------- */
typedef struct heap { size_t bytes, blocks; } heap;      /* atomic: allocators know no thread */

typedef union heap_block { size_t size; long double align; void *pointer; } heap_block;

static inline void *heap_alloc(size_t size, void *user)
{
    heap *h = user;
    heap_block *b = malloc(sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    __atomic_add_fetch(&h->bytes, size, __ATOMIC_RELAXED);
    __atomic_add_fetch(&h->blocks, 1, __ATOMIC_RELAXED);
    return b + 1;
}

static inline void heap_release(void *ptr, size_t size, void *user)
{
    heap *h = user;
    heap_block *b = (heap_block *)ptr - 1;
    if (b->size != size)
        abort();                        /* a cmocka assertion may be on another thread */
    __atomic_sub_fetch(&h->bytes, size, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&h->blocks, 1, __ATOMIC_RELAXED);
    free(b);
}

/* Of this process, in KiB. */
static inline long resident_kib(void)
{
    long pages = 0, unused = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f) {
        if (fscanf(f, "%ld %ld", &unused, &pages) != 2)
            pages = 0;
        fclose(f);
    }
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static int clients_open;                /* their descriptors are no leak of the server's */

/* --- the server --------------------------------------------------------------------------- */
typedef struct rig rig;
struct rig {
    hsb_server *server;
    hsb_options options;
    bool        secure;
    int         port;
    heap        heap;
    int         descriptors;            /* open before the server was */
    int         send_buffer;            /* of what is accepted; 0: the system's */
    /* What the hooks do after they have counted. */
    bool (*on_accept)(rig *, hsb_conn *);
    bool (*on_handshake)(rig *, hsb_conn *);
    void (*on_close)(rig *, hsb_conn *, const hsb_error *);
    void (*on_error)(rig *, hsb_conn *, const hsb_error *);
    void (*on_wake)(rig *);
    void (*on_head)(rig *, hsb_request *);
    void (*on_body)(rig *, hsb_request *, hsb_str part);
    void (*on_request)(rig *, hsb_request *);
    void (*on_drain)(rig *, hsb_request *);
    void (*on_finish)(rig *, hsb_request *, const hsb_error *);
    void *data;
    /* What they have counted and seen last. */
    int  accepts, handshakes, closes, errors, wakes, heads, requests, drains, finishes;
    int64_t body_bytes;
    hsb_error closed_with, finished_with, told;
    hsb_conn    *conn;                  /* the one accepted last; NULL once it is closed */
    hsb_request *req;                   /* the one that came last; NULL once it is finished */
};

static inline bool rig_accepted(hsb_conn *conn, void *user)
{
    rig *r = user;
    r->accepts++;
    r->conn = conn;
    if (r->send_buffer)
        setsockopt(conn->watch.fd, SOL_SOCKET, SO_SNDBUF, &r->send_buffer, sizeof r->send_buffer);
    return r->on_accept ? r->on_accept(r, conn) : true;
}

static inline bool rig_shook(hsb_conn *conn, void *user)
{
    rig *r = user;
    r->handshakes++;
    return r->on_handshake ? r->on_handshake(r, conn) : true;
}

static inline void rig_closed(hsb_conn *conn, const hsb_error *why, void *user)
{
    rig *r = user;
    r->closes++;
    r->closed_with = *why;
    if (r->on_close)
        r->on_close(r, conn, why);
    if (r->conn == conn)
        r->conn = NULL;
}

static inline void rig_failed(hsb_server *server, hsb_conn *conn, const hsb_error *err, void *user)
{
    rig *r = user;
    (void)server;
    r->errors++;
    r->told = *err;
    if (r->on_error)
        r->on_error(r, conn, err);
}

static inline void rig_woke(hsb_server *server, void *user)
{
    rig *r = user;
    (void)server;
    r->wakes++;
    if (r->on_wake)
        r->on_wake(r);
}

static inline void rig_head(hsb_request *req, void *user)
{
    rig *r = user;
    r->heads++;
    r->req = req;
    if (r->on_head)
        r->on_head(r, req);
}

static inline void rig_body(hsb_request *req, hsb_str part, void *user)
{
    rig *r = user;
    r->body_bytes += (int64_t)part.len;
    if (r->on_body)
        r->on_body(r, req, part);
}

static inline void rig_request(hsb_request *req, void *user)
{
    rig *r = user;
    r->requests++;
    if (r->on_request)
        r->on_request(r, req);
}

static inline void rig_drained(hsb_request *req, void *user)
{
    rig *r = user;
    r->drains++;
    if (r->on_drain)
        r->on_drain(r, req);
}

static inline void rig_finished(hsb_request *req, const hsb_error *why, void *user)
{
    rig *r = user;
    r->finishes++;
    memset(&r->finished_with, 0, sizeof r->finished_with);
    if (why)
        r->finished_with = *why;
    if (r->on_finish)
        r->on_finish(r, req, why);
    if (r->req == req)
        r->req = NULL;
}

/* One for the whole program: a handshake costs enough, a key need not be read each time. */
static inline hsb_security *rig_security(void)
{
    static hsb_security *one;
    hsb_error err;
    if (!one) {
        hsb_security_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.identity.chain = hsb_pem_file("tests/data/server-p256.pem");
        desc.identity.key = hsb_pem_file("tests/data/server-p256.key");
        one = hsb_security_new(&desc, &err);
        if (!one)
            fail_msg("%s", err.text);
    }
    return one;
}

/* Everything but the bind.  options may be NULL; its hooks are the rig's. */
static inline void rig_prepare(rig *r, const hsb_options *options, bool secure)
{
    signal(SIGPIPE, SIG_IGN);                   /* of OpenSSL's, when the server has gone */
    rig_security();
    hsb_options o;
    memset(&o, 0, sizeof o);
    r->options = options ? *options : o;
    r->options.allocator.alloc = heap_alloc;
    r->options.allocator.release = heap_release;
    r->options.allocator.user = &r->heap;
    hsb_hooks *h = &r->options.hooks;
    h->user = r;
    h->on_accept = rig_accepted;
    h->on_handshake = rig_shook;
    h->on_close = rig_closed;
    h->on_error = rig_failed;
    h->on_wake = rig_woke;
    h->on_head = rig_head;
    h->on_body = rig_body;
    h->on_request = rig_request;
    h->on_drain = rig_drained;
    h->on_finish = rig_finished;
    r->secure = secure;
    r->descriptors = open_descriptors() - clients_open;
}

static inline void rig_open(rig *r, const hsb_options *options, bool secure)
{
    hsb_error err;
    rig_prepare(r, options, secure);
    r->server = secure ? hsb_bind_secure("127.0.0.1", 0, rig_security(), &r->options, &err)
                       : hsb_bind("127.0.0.1", 0, &r->options, &err);
    if (!r->server)
        fail_msg("%s", err.text);
    r->port = hsb_server_port(r->server);
}

/* The server's turn.  False: it is closed, and all its connections are. */
static inline bool turn(rig *r, int wait_ms)
{
    return hsb_server_poll(r->server, wait_ms) >= 0;
}

static inline void turns(rig *r, int count)
{
    while (count-- > 0)
        turn(r, 0);
}

/* Until condition(r) holds. */
static inline void turn_until(rig *r, bool (*condition)(const rig *), const char *what)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    while (!condition(r)) {
        if (clock_ms() > end)
            fail_msg("waited in vain: %s", what);
        turn(r, 1);
    }
}

static inline bool all_closed(const rig *r)
{
    return r->closes == r->accepts;
}

static inline bool all_finished(const rig *r)
{
    return r->finishes == r->heads;
}

/* Frees the server as it is, and checks what must always hold. */
static inline void rig_close(rig *r)
{
    hsb_server_free(r->server);
    r->server = NULL;
    assert_int_equal(r->finishes, r->heads);
    assert_int_equal(r->closes, r->accepts);
    assert_true(r->requests <= r->heads);
    assert_int_equal(r->heap.blocks, 0);
    assert_int_equal(r->heap.bytes, 0);
    assert_int_equal(open_descriptors() - clients_open, r->descriptors);
}

/* --- a client ----------------------------------------------------------------------------- */
typedef struct client {
    rig   *r;                   /* whose server gets turns while we wait; NULL: it has a thread */
    int    fd;
    SSL   *ssl;                 /* NULL: plain */
    char  *got;                 /* received, not taken yet; a NUL behind; lies in block */
    size_t len, space;
    char  *block;
    bool   ended;               /* the server's end: a FIN */
    bool   notified;            /* close_notify came before */
    bool   reset;               /* cut off */
} client;

static inline SSL_CTX *client_tls(void)
{
    static SSL_CTX *one;
    if (!one) {
        one = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_session_cache_mode(one, SSL_SESS_CACHE_OFF);
    }
    return one;
}

static inline void client_wait(client *c, int ms)
{
    if (c->r && c->r->server) {
        turn(c->r, ms);
        return;
    }
    struct pollfd p = { c->fd, POLLIN, 0 };
    poll(&p, 1, ms ? ms : 1);
}

/* Connected, nothing sent.  receive_buffer 0: the system's. */
static inline client *client_new(rig *r, int port, int receive_buffer)
{
    struct sockaddr_in to;
    client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->r = r;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(c->fd >= 0);
    clients_open++;
    if (receive_buffer)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail_msg("connect to port %d: %s", port, strerror(errno));
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    return c;
}

/* Sends the ClientHello. */
static inline void client_hello(client *c)
{
    c->ssl = SSL_new(client_tls());
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_tlsext_host_name(c->ssl, "localhost");
    SSL_connect(c->ssl);
}

/* TLS on it.  False: the server would not. */
static inline bool client_handshake(client *c)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    if (!c->ssl)
        client_hello(c);
    for (;;) {
        ERR_clear_error();
        int n = SSL_connect(c->ssl);
        if (n == 1)
            return true;
        int why = SSL_get_error(c->ssl, n);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            return false;
        if (clock_ms() > end)
            fail_msg("no TLS handshake");
        client_wait(c, 1);
    }
}

static inline client *dial(rig *r)
{
    client *c = client_new(r, r->port, 0);
    if (r->secure && !client_handshake(c))
        fail_msg("TLS handshake refused");
    return c;
}

/* With a small receive buffer, so that the server soon feels when we do not read. */
static inline client *dial_narrow(rig *r)
{
    client *c = client_new(r, r->port, 4096);
    if (r->secure && !client_handshake(c))
        fail_msg("TLS handshake refused");
    return c;
}

static inline void client_free(client *c)
{
    if (c->ssl)
        SSL_free(c->ssl);
    close(c->fd);
    clients_open--;
    free(c->block);
    free(c);
}

/* close_notify and FIN, not waiting for anything; the server sees it in its next turns. */
static inline void hang_up(client *c)
{
    if (c->ssl && !c->reset && SSL_is_init_finished(c->ssl))
        SSL_shutdown(c->ssl);
    client_free(c);
}

/* A reset: everything that is on its way is lost. */
static inline void cut_off(client *c)
{
    struct linger reset = { 1, 0 };
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_free(c);
}

/* We send no more, but go on reading: a FIN, in TLS a close_notify first. */
static inline void say_end(client *c)
{
    if (c->ssl)
        SSL_shutdown(c->ssl);
    shutdown(c->fd, SHUT_WR);
}

/* What the transport takes now: how many bytes, 0: none, -1: the server is gone. */
static inline int say_some(client *c, const char *bytes, size_t len)
{
    int n, most = len < 1 << 20 ? (int)len : 1 << 20;
    if (!c->ssl) {
        n = (int)send(c->fd, bytes, (size_t)most, MSG_NOSIGNAL);
        return n >= 0 ? n : errno == EAGAIN ? 0 : -1;
    }
    ERR_clear_error();
    SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    n = SSL_write(c->ssl, bytes, most);
    if (n > 0)
        return n;
    int why = SSL_get_error(c->ssl, n);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static inline void client_make_room(client *c, size_t more)
{
    size_t taken = c->block ? (size_t)(c->got - c->block) : 0;
    if (c->block && c->space - taken - c->len >= more)
        return;
    if (c->block && taken >= c->len && c->space - c->len >= more) {
        memcpy(c->block, c->got, c->len);
    } else {
        c->space = (c->len + more) * 2;
        char *block = malloc(c->space);
        assert_non_null(block);
        if (c->len)
            memcpy(block, c->got, c->len);
        free(c->block);
        c->block = block;
    }
    c->got = c->block;
    c->got[c->len] = '\0';              /* also if nothing more comes now               */
}

/* Receives what is there: how many bytes, 0: nothing now, -1: the end, see c->ended. */
static inline int hear_some(client *c)
{
    int n;
    if (c->ended || c->reset)
        return -1;
    client_make_room(c, 65536 + 1);
    if (!c->ssl) {
        n = (int)recv(c->fd, c->got + c->len, 65536, 0);
        if (n < 0 && errno == EAGAIN)
            return 0;
        c->ended = n == 0;
        c->reset = n < 0;
    } else {
        ERR_clear_error();
        n = SSL_read(c->ssl, c->got + c->len, 65536);
        int why = n > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, n);
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
            return 0;
        c->notified = (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
        c->ended = why == SSL_ERROR_ZERO_RETURN;
        c->reset = n <= 0 && !c->ended;
    }
    if (n > 0)
        c->len += (size_t)n;
    c->got[c->len] = '\0';
    return n > 0 ? n : -1;
}

/* All of it; what the server says meanwhile is received, or the two could wait for each other.
   False: the server is gone. */
static inline bool try_say(client *c, const char *bytes, size_t len)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    size_t done = 0;
    while (done < len) {
        int n = say_some(c, bytes + done, len - done);
        if (n < 0)
            return false;
        done += (size_t)n;
        if (n > 0)
            continue;
        if (clock_ms() > end)
            fail_msg("the server takes no more after %zu of %zu bytes", done, len);
        hear_some(c);
        client_wait(c, 1);
    }
    return true;
}

static inline void say_bytes(client *c, const char *bytes, size_t len)
{
    if (!try_say(c, bytes, len))
        fail_msg("the server does not listen any more");
}

static inline void say(client *c, const char *text)
{
    say_bytes(c, text, strlen(text));
}

/* More bytes, or false: there will be none. */
static inline bool hear_more(client *c, const char *what)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    for (int tries = 0;; tries++) {
        int n = hear_some(c);
        if (n)
            return n > 0;
        if (clock_ms() > end)
            fail_msg("the server says nothing: %s", what);
        client_wait(c, tries > 2);
    }
}

/* Until text has come; the position behind it. */
static inline size_t hear_until(client *c, const char *text)
{
    for (;;) {
        const char *at = c->len ? memmem(c->got, c->len, text, strlen(text)) : NULL;
        if (at)
            return (size_t)(at - c->got) + strlen(text);
        if (!hear_more(c, text))
            fail_msg("the server went before \"%s\" came; it said \"%.200s\"", text, c->got);
    }
}

static inline void hear_len(client *c, size_t len)
{
    while (c->len < len)
        if (!hear_more(c, "bytes"))
            fail_msg("the server went after %zu of %zu bytes", c->len, len);
}

/* Until the server has ended the connection, one way or another. */
static inline void hear_end(client *c)
{
    while (hear_more(c, "its end"))
        ;
}

static inline void heard(client *c, size_t n)
{
    assert_true(n <= c->len);
    c->got += n;
    c->len -= n;
}

/* --- an answer ---------------------------------------------------------------------------- */
typedef struct answer {
    int    status;
    char   head[8192];          /* status line and fields, each with its CRLF */
    char  *body;                /* owned: answer_free; a NUL behind it */
    size_t len, space;
    bool   whole;               /* as far as its framing tells */
    char   trailers[1024];
} answer;

static inline void answer_free(answer *a)
{
    free(a->body);
    a->body = NULL;
}

/* The first field of that name, or NULL.  Good until the next call. */
static inline const char *field_of(const answer *a, const char *name)
{
    static char value[4096];
    size_t n = strlen(name);
    for (const char *line = strstr(a->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            line += n + 1 + strspn(line + n + 1, " ");
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line, "\r"), line);
            return value;
        }
    }
    return NULL;
}

static inline int fields_of(const answer *a, const char *name)
{
    int count = 0;
    size_t n = strlen(name);
    for (const char *line = strstr(a->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        count += strncasecmp(line, name, n) == 0 && line[n] == ':';
    }
    return count;
}

static inline bool field_is(const answer *a, const char *name, const char *value)
{
    const char *got = field_of(a, name);
    return got && strcmp(got, value) == 0;
}

static inline void answer_add(answer *a, const char *bytes, size_t n)
{
    if (a->space < a->len + n + 1) {
        a->space = (a->len + n + 1) * 2;
        a->body = realloc(a->body, a->space);
        assert_non_null(a->body);
    }
    memcpy(a->body + a->len, bytes, n);
    a->len += n;
    a->body[a->len] = '\0';
}

/* n bytes of body, or as many as come. */
static inline bool answer_take(client *c, answer *a, size_t n)
{
    while (c->len < n)
        if (!hear_more(c, "a body"))
            break;
    bool all = c->len >= n;
    size_t take = all ? n : c->len;
    answer_add(a, c->got ? c->got : "", take);
    if (take)
        heard(c, take);
    return all;
}

/* A line with its CRLF into out; false: the end came before. */
static inline bool answer_line(client *c, char *out, size_t size)
{
    char *end;
    while (!c->len || !(end = memmem(c->got, c->len, "\r\n", 2)))
        if (!hear_more(c, "a line"))
            return false;
    size_t n = (size_t)(end - c->got) + 2;
    assert_true(n < size);
    memcpy(out, c->got, n);
    out[n] = '\0';
    heard(c, n);
    return true;
}

static inline bool answer_chunks(client *c, answer *a)
{
    char line[1024];
    for (;;) {
        char *end;
        if (!answer_line(c, line, sizeof line))
            return false;
        unsigned long long n = strtoull(line, &end, 16);
        assert_true(end > line && strcmp(end, "\r\n") == 0);
        if (n == 0)
            break;
        if (!answer_take(c, a, (size_t)n) || !answer_line(c, line, sizeof line))
            return false;
        assert_string_equal(line, "\r\n");
    }
    for (;;) {
        if (!answer_line(c, line, sizeof line))
            return false;
        if (strcmp(line, "\r\n") == 0)
            return true;
        strncat(a->trailers, line, sizeof a->trailers - strlen(a->trailers) - 1);
    }
}

/* One answer; to_head: there is no body, whatever the fields say.  It is checked for what every
   answer must have.  status 0: none came. */
static inline answer hear_answer(client *c, bool to_head)
{
    answer a;
    memset(&a, 0, sizeof a);
    answer_add(&a, "", 0);
    while (!c->len || !memmem(c->got, c->len, "\r\n\r\n", 4))
        if (!hear_more(c, "an answer's head"))
            return a;
    size_t n = (size_t)((char *)memmem(c->got, c->len, "\r\n\r\n", 4) - c->got) + 4;
    assert_true(n < sizeof a.head);
    memcpy(a.head, c->got, n - 2);
    heard(c, n);
    assert_memory_equal(a.head, "HTTP/1.1 ", 9);
    a.status = atoi(a.head + 9);
    if (a.status < 200) {
        a.whole = true;
        return a;
    }
    assert_int_equal(fields_of(&a, "Date"), 1);
    const char *length = field_of(&a, "Content-Length");
    assert_true(fields_of(&a, "Content-Length") + fields_of(&a, "Transfer-Encoding") <= 1);
    if (to_head || a.status == 204 || a.status == 304) {
        a.whole = true;
    } else if (length) {
        a.whole = answer_take(c, &a, (size_t)strtoull(length, NULL, 10));
    } else if (field_is(&a, "Transfer-Encoding", "chunked")) {
        a.whole = answer_chunks(c, &a);
    } else {
        hear_end(c);
        answer_take(c, &a, c->len);
        a.whole = c->ended && (!c->ssl || c->notified);
    }
    return a;
}

/* Says text and hears what the answer is. */
static inline answer ask(client *c, const char *text)
{
    say(c, text);
    return hear_answer(c, strncmp(text, "HEAD ", 5) == 0);
}

static inline answer ask_path(client *c, const char *method, const char *path, const char *fields)
{
    char text[8192];
    int n = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method,
                     path, fields);
    assert_true(n > 0 && (size_t)n < sizeof text);
    return ask(c, text);
}

#define assert_answer(a, status_, body_) do { \
        if ((a).status != (status_) || !(a).whole || strcmp((a).body, (body_)) != 0) \
            fail_msg("answered %s%d and %zu bytes \"%.80s\"", (a).whole ? "" : "(cut) ", \
                     (a).status, (a).len, (a).body); \
        answer_free(&(a)); \
    } while (0)

/* --- libcurl ------------------------------------------------------------------------------ */
/* Performs it while the server gets its turns. */
static inline CURLcode curl_run(rig *r, CURL *easy)
{
    CURLM *multi = curl_multi_init();
    int64_t end = clock_ms() + PATIENCE_MS;
    CURLcode result = CURLE_OPERATION_TIMEDOUT;
    int running = 1, left;
    curl_multi_add_handle(multi, easy);
    while (running && clock_ms() < end) {
        curl_multi_perform(multi, &running);
        turn(r, running ? 1 : 0);
    }
    CURLMsg *m = curl_multi_info_read(multi, &left);
    if (m && m->msg == CURLMSG_DONE)
        result = m->data.result;
    curl_multi_remove_handle(multi, easy);
    curl_multi_cleanup(multi);
    return result;
}

static inline CURL *curl_new(const rig *r, const char *path)
{
    char url[512];
    CURL *easy = curl_easy_init();
    assert_non_null(easy);
    snprintf(url, sizeof url, "%s://localhost:%d%s", r->secure ? "https" : "http", r->port, path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_IPRESOLVE, (long)CURL_IPRESOLVE_V4);
    curl_easy_setopt(easy, CURLOPT_CAINFO, "tests/data/ca.pem");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    return easy;
}

#endif
