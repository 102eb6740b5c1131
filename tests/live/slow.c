/* Many clients that drip, each as slowly as it can: all are gone in time, while one that
   behaves is served throughout.  LIVE_SLOW=10 is the full form, with the timeouts that are the
   defaults, a minute of dripping, and figures. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

#include <sys/resource.h>

/* What they drip: a ClientHello byte by byte, a head line by line, a body byte by byte; or
   they ask for more than fits and read nothing of it. */
enum { HANDSHAKE, HEAD, BODY, READER, KINDS };
enum { CLIENTS = 500, LARGE = 8 << 20 };

static const char *const names[KINDS] = { "handshake", "head", "body", "reader" };

typedef struct slow { client *c; int kind; bool gone; int64_t since, until; hsb_error why; } slow;
static slow clients[CLIENTS];
static int by_port[65536];              /* index + 1 */
static int gone;

static void on_close(rig *r, hsb_conn *conn, const hsb_error *why)
{
    (void)r;
    int port = hsb_conn_peer(conn).port, i = by_port[port];
    if (!i)
        return;                         /* the one that behaves */
    by_port[port] = 0;                  /* it may be given that port next */
    clients[i - 1].gone = true;
    clients[i - 1].until = clock_ms();
    clients[i - 1].why = *why;
    gone++;
}

static void on_request(rig *r, hsb_request *req)
{
    static char large[LARGE];
    hsb_str body = { large, sizeof large };
    (void)r;
    if (hsb_equal(hsb_request_path(req), "/large"))
        hsb_respond_owned(req, 200, "application/octet-stream", body, NULL, NULL);
    else
        hsb_respond(req, 200, "text/plain", hsb_text("served"));
}

static client *connect_slow(rig *r, int i)
{
    int kind = i % KINDS;
    client *c = kind == READER ? dial_narrow(r) : kind == HANDSHAKE ? client_new(r, r->port, 0) : dial(r);
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    assert_int_equal(getsockname(c->fd, (struct sockaddr *)&own, &len), 0);
    by_port[ntohs(own.sin_port)] = i + 1;
    clients[i].c = c;
    clients[i].kind = kind;
    return c;
}

/* What a client of that kind sends at its nth beat. */
static size_t drop_of(int kind, int n, char out[64])
{
    static const unsigned char hello[] = { 0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3 };
    switch (kind) {
    case HANDSHAKE:
        out[0] = n < (int)sizeof hello ? (char)hello[n] : 'x';
        return 1;
    case HEAD:
        return (size_t)snprintf(out, 64, n ? "X-Line-%d: drip\r\n" : "GET / HTTP/1.1\r\n", n);
    case BODY:
        return (size_t)snprintf(out, 64, n ? "x" : "POST / HTTP/1.1\r\nHost: x\r\n"
                                                   "Content-Length: 100000\r\n\r\n");
    default:
        return (size_t)snprintf(out, 64, n ? "" : "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    }
}

/* One drop of each that is still there. */
static void drip(int n)
{
    char drop[64];
    for (int i = 0; i < CLIENTS; i++) {
        slow *s = &clients[i];
        if (s->gone)
            continue;
        if (n == 0 && s->kind != HANDSHAKE)
            s->since = clock_ms();
        size_t len = drop_of(s->kind, n, drop);
        if (len && s->kind == HANDSHAKE)
            send(s->c->fd, drop, len, MSG_NOSIGNAL);
        else if (len)
            say_some(s->c, drop, len);
    }
}

/* One exchange of the client that behaves; now and then on a new connection. */
static void ask_as_usual(rig *r, client **good, int n)
{
    if (n % 20 == 0) {
        if (*good)
            hang_up(*good);
        *good = dial(r);
    }
    say(*good, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    answer a = hear_answer(*good, false);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "served");
    answer_free(&a);
}

/* How each kind ended: by its deadline, told as what it is; and heard what it may hear. */
static void check_ends(void)
{
    int64_t last[KINDS] = { 0 };
    for (int i = 0; i < CLIENTS; i++) {
        slow *s = &clients[i];
        assert_int_equal(s->why.status, HSB_ERR_TIMEOUT);
        last[s->kind] = s->until - s->since > last[s->kind] ? s->until - s->since : last[s->kind];
        if (s->kind == HEAD || s->kind == BODY) {
            hear_end(s->c);
            assert_non_null(strstr(s->c->got, "HTTP/1.1 408 Request Timeout\r\n"));
        }
    }
    for (int kind = 0; kind < KINDS && getenv("LIVE_SLOW"); kind++)
        print_message("%-9s the last is gone after %6.1f s\n", names[kind], (double)last[kind] / 1000);
}

static void test_slow_clients(void **state)
{
    const int scale = (int)scaled("LIVE_SLOW", 1), beat_ms = 200 * scale;
    hsb_options options = { .timeouts = { .handshake = 1000 * scale, .head = 1000 * scale,
                                          .body = 3000 * scale, .write = 3000 * scale } };
    rig r = { .on_close = on_close, .on_request = on_request, .send_buffer = 16384 };
    client *good = NULL;
    int n = 0, beats = 0;
    (void)state;
    rig_open(&r, &options, true);
    for (int i = 0; i < CLIENTS; i++)
        if (i % KINDS != HANDSHAKE)
            connect_slow(&r, i);
    for (int i = 0; i < CLIENTS; i++)
        if (i % KINDS == HANDSHAKE) {
            connect_slow(&r, i);
            clients[i].since = clock_ms();
        }
    /* Whoever a byte could keep alive would stay for as long as they drip. */
    int64_t begin = clock_ms(), end = begin + 6000 * scale;
    for (int64_t now = begin; now < end || gone < CLIENTS; now = clock_ms()) {
        if (now > end + PATIENCE_MS)
            fail_msg("%d of %d are still there", CLIENTS - gone, CLIENTS);
        if (now >= begin + (int64_t)beats * beat_ms)
            drip(beats++);
        ask_as_usual(&r, &good, n++);
        turn(&r, 5);
    }
    assert_int_equal(gone, CLIENTS);
    assert_true(beats >= 20 && n > beats);
    check_ends();
    if (getenv("LIVE_SLOW"))
        print_message("%d requests of the client that behaves were answered\n", n);
    hang_up(good);
    for (int i = 0; i < CLIENTS; i++)
        client_free(clients[i].c);
    rig_close(&r);
}

/* Both ends of every connection are in this process. */
static bool may_open(rlim_t descriptors)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max < descriptors)
        return false;
    if (files.rlim_cur < descriptors)
        files.rlim_cur = descriptors;
    return setrlimit(RLIMIT_NOFILE, &files) == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_slow_clients) };
    if (!may_open(3 * CLIENTS)) {
        fprintf(stderr, "slow: needs %d descriptors\n", 3 * CLIENTS);
        return 1;
    }
    return cmocka_run_group_tests_name("slow", tests, NULL, NULL);
}
