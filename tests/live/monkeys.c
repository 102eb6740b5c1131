/* Streams and WebSockets that do what they like: both ends write, pause, leave and are cut at
   random, from hooks, from timers, from tickets and between two turns.  Whatever happens, each
   ends once, nothing is called after that, every ticket resolves, and all memory comes back;
   also where every 20th allocation fails.
   LIVE_MONKEYS=100000 lets that many live. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "random.h"

enum { AT_ONCE = 6, KEPT = 64 };

typedef struct monkey {
    client        *c;               /* its client; NULL: gone                              */
    hsb_stream    *stream;          /* NULL: not yet, or not any more                      */
    hsb_websocket *ws;              /* the stream is one                                   */
    bool           paused, in_parts;
    bool           within;          /* the client's message has begun and not ended        */
    int            opened, ends, closes;
} monkey;

static monkey *monkeys;             /* each has its own place for ever                     */
static int     born;
static struct { hsb_ticket ticket; int taken; } kept[KEPT];     /* tickets for later */
static int resumed, called;

static unsigned roll(unsigned bound)
{
    return (unsigned)random_below(bound);
}

static hsb_str some_bytes(void)
{
    static char bytes[70000];
    static const size_t sizes[] = { 0, 1, 5, 125, 126, 3000, 20000, sizeof bytes };
    size_t n = sizes[roll(roll(4) ? 6 : 8)];
    return hsb__text_make(bytes, n);
}

static bool short_of_memory;

static void *alloc_or_not(size_t size, void *user)
{
    return short_of_memory && roll(20) == 0 ? NULL : heap_alloc(size, user);
}

/* --- the server's side -------------------------------------------------------------------- */
static void act(monkey *m);

static void must_live(const monkey *m)
{
    assert_true(m->opened == 1 && m->closes == 0 && m->stream != NULL);
}

static void after(hsb_stream *s, void *arg)
{
    monkey *m = arg;
    must_live(m);
    assert_ptr_equal(s, m->stream);
    act(m);
}

static void ticket_used(hsb_stream *s, void *arg)
{
    monkey *m = arg;
    called++;
    assert_true(s == NULL || s == m->stream);
    if (s)
        act(m);
}

static void use(hsb_ticket ticket, monkey *m)
{
    if (!ticket.id) {
        assert_true(short_of_memory);
        return;
    }
    assert_true(hsb_stream_ticket_resume(ticket, ticket_used, m));
    assert_false(hsb_stream_ticket_resume(ticket, ticket_used, m));
    resumed++;
}

static void keep(monkey *m)
{
    unsigned at = roll(KEPT);
    if (kept[at].ticket.id)
        use(kept[at].ticket, &monkeys[kept[at].taken]);
    kept[at].ticket = hsb_stream_ticket(m->stream);
    kept[at].taken = (int)(m - monkeys);
}

static void send_message(monkey *m)
{
    bool last = roll(3) > 0;
    if (!m->in_parts && roll(2)) {
        hsb_websocket_send(m->ws, roll(2), some_bytes());
        return;
    }
    m->in_parts = !last;
    hsb_websocket_send_part(m->ws, roll(2), some_bytes(), last);
}

static void act(monkey *m)
{
    must_live(m);
    switch (roll(24)) {
    case 0:
        hsb_stream_pause(m->stream);
        m->paused = true;
        break;
    case 1: case 2: case 3:
        m->paused = false;
        hsb_stream_resume(m->stream);
        break;
    case 4: case 5:
        hsb_stream_after(m->stream, (int)roll(4) - 1, after, m);
        break;
    case 6: case 7:
        keep(m);
        break;
    case 8:
        use(hsb_stream_ticket(m->stream), m);
        break;
    case 9:
        hsb_stream_flush(m->stream);
        break;
    case 10:
        hsb_stream_close(m->stream, roll(4) == 0);
        break;
    case 11:
        if (roll(4) == 0)
            hsb_conn_close(hsb_stream_conn(m->stream), roll(2));
        break;
    case 12: case 13:
        if (m->ws)
            hsb_websocket_ping(m->ws, hsb_text("ping"));
        break;
    case 14:
        if (m->ws) {
            m->paused = false;
            hsb_websocket_close(m->ws, roll(2) ? 1000 : 0, hsb_text("enough"));
        }
        break;
    default:
        if (m->ws)
            send_message(m);
        else
            hsb_stream_write(m->stream, some_bytes());
        break;
    }
}

static void maybe_act(monkey *m)
{
    must_live(m);
    for (unsigned n = roll(3); n > 0; n--)
        act(m);
}

static void on_data(hsb_stream *s, hsb_str part, void *user)
{
    monkey *m = user;
    assert_true(s == m->stream && part.len > 0 && !m->paused && m->ends == 0);
    maybe_act(m);
}

static void on_end(hsb_stream *s, void *user)
{
    monkey *m = user;
    assert_true(s == m->stream && ++m->ends == 1);
    maybe_act(m);
}

static void on_drain(hsb_stream *s, void *user)
{
    assert_ptr_equal(s, ((monkey *)user)->stream);
    maybe_act(user);
}

/* Also from its last call it may try whatever it likes. */
static void on_close(hsb_stream *s, const hsb_error *why, void *user)
{
    monkey *m = user;
    (void)why;
    assert_ptr_equal(s, m->stream);
    maybe_act(m);
    assert_int_equal(hsb_stream_write(s, hsb_text("late")), HSB_FLOW_GONE);
    m->closes++;
    m->stream = NULL;
}

static void on_message(hsb_websocket *ws, bool text, hsb_str message, void *user)
{
    monkey *m = user;
    (void)message;
    (void)text;
    assert_ptr_equal(ws, m->ws);
    maybe_act(m);
}

static void on_fragment(hsb_websocket *ws, bool text, hsb_str part, bool last, void *user)
{
    assert_true(part.len > 0 || last);
    on_message(ws, text, part, user);
}

static void on_pong(hsb_websocket *ws, hsb_str payload, void *user)
{
    assert_true(payload.len <= 125);
    on_message(ws, false, payload, user);
}

static void on_socket_drain(hsb_websocket *ws, void *user)
{
    on_message(ws, false, hsb_text(""), user);
}

static void on_socket_close(hsb_websocket *ws, int code, hsb_str reason, void *user)
{
    monkey *m = user;
    assert_true(code >= 1000 && code < 5000 && reason.ptr != NULL);
    on_message(ws, false, reason, user);
    m->closes++;
    m->stream = NULL;
    m->ws = NULL;
}

/* The path is its number, behind s or w. */
static void open_monkey(rig *r, hsb_request *req)
{
    const char *path = hsb_request_path(req).ptr;
    monkey *m = &monkeys[atoi(path + 2)];
    (void)r;
    if (path[1] == 's') {
        hsb_stream_hooks hooks = { m, on_data, roll(4) ? on_end : NULL, on_drain, on_close };
        m->stream = hsb_request_detach(req, 101, &hooks);
    } else {
        hsb_websocket_hooks hooks = {
            .user = m, .on_message = on_message, .on_fragment = roll(2) ? on_fragment : NULL,
            .on_pong = on_pong, .on_drain = on_socket_drain, .on_close = on_socket_close,
            .message_bytes = 5000,
        };
        m->ws = hsb_request_websocket(req, &hooks);
        m->stream = m->ws ? hsb_websocket_stream(m->ws) : NULL;
    }
    assert_true(m->stream || short_of_memory);
    m->opened = m->stream != NULL;
    if (m->opened)
        maybe_act(m);
}

/* --- the client's side -------------------------------------------------------------------- */
static void be_born(rig *r)
{
    char text[300];
    monkey *m = &monkeys[born];
    bool ws = roll(2);
    m->c = client_new(r, r->port, roll(2) ? 4096 : 0);
    if (r->secure && !client_handshake(m->c))
        assert_true(short_of_memory);
    snprintf(text, sizeof text, "GET /%c%d HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
             "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", ws ? 'w' : 's', born);
    if (!try_say(m->c, text, strlen(text)))
        assert_true(short_of_memory);
    born++;
}

/* A frame, mostly a good one, sometimes many, and sometimes only the beginning of one.     */
static void say_something(monkey *m)
{
    static const char begin[] = "\x81\x82\x01\x02\x89\x8a", go_on[] = "\x80\x00\x89\x8a",
                      bad[] = "\x88\x03\xc1";
    char bytes[6 + 125];
    size_t n = roll(6) ? roll(20) : 125, len = roll(60) ? 6 + n : roll(6);
    memset(bytes, 'x', sizeof bytes);
    bytes[0] = roll(16) == 0 ? bad[roll(3)] : m->within ? go_on[roll(4)] : begin[roll(6)];
    bytes[1] = (char)(0x80u | n);
    memset(bytes + 2, 0, 4);
    bool opens = bytes[0] == 1 || bytes[0] == 2;
    m->within = opens || (m->within && bytes[0] != (char)0x80);
    for (unsigned times = opens || roll(20) ? 1 : 300; times > 0; times--)
        if (say_some(m->c, bytes, len) <= 0)
            return;
}

static void live(monkey *m)
{
    switch (roll(40)) {
    case 0:
        hang_up(m->c);
        m->c = NULL;
        break;
    case 1:
        cut_off(m->c);
        m->c = NULL;
        break;
    case 2:
        say_end(m->c);
        break;
    case 3: case 4: case 5: case 6: case 7: case 8: case 9: case 10: case 11: case 12:
        if (hear_some(m->c) > 0)
            heard(m->c, m->c->len);
        break;
    default:
        say_something(m);
        break;
    }
}

/* --- all of them -------------------------------------------------------------------------- */
static void let_live(bool secure, int count, int round)
{
    rig r = { .on_request = open_monkey, .send_buffer = round % 2 ? 16384 : 0 };
    hsb_options o = { .limits.queued_bytes = round % 3 ? 20000 : 2000,
                      .timeouts = { .close = 20, .write = 200 } };
    monkey *slots[AT_ONCE] = { NULL };
    born = resumed = called = 0;
    monkeys = calloc((size_t)count, sizeof *monkeys);
    memset(kept, 0, sizeof kept);
    assert_non_null(monkeys);
    rig_open(&r, &o, secure);
    short_of_memory = round % 3 == 2;
    r.server->loop.memory.user.alloc = r.server->loop.inbox->memory.user.alloc = alloc_or_not;
    while (born < count) {
        unsigned at = roll(AT_ONCE);
        monkey *m = slots[at];
        if (!m || (!m->c && !m->stream)) {
            slots[at] = &monkeys[born];
            be_born(&r);
        } else if (m->c && roll(3)) {
            live(m);
        } else if (m->stream && roll(2)) {
            act(m);                                     /* between two turns */
        } else if (!m->c || roll(200) == 0) {
            hsb_stream *s = m->stream;
            if (s)                                      /* or it may stay paused for ever */
                hsb_stream_close(s, true);
        }
        turn(&r, 0);
    }
    if (round % 3 == 0) {
        hsb_server_close(r.server, true);
        while (turn(&r, 1))
            ;
    }
    hsb_server_free(r.server);
    r.server = NULL;
    for (int i = 0; i < KEPT; i++)                      /* the server is gone */
        if (kept[i].ticket.id)
            assert_false(hsb_stream_ticket_resume(kept[i].ticket, ticket_used, NULL));
    for (int i = 0; i < count; i++) {
        assert_int_equal(monkeys[i].opened, monkeys[i].closes);
        if (monkeys[i].c)
            client_free(monkeys[i].c);
    }
    assert_int_equal(called, resumed);
    rig_close(&r);
    free(monkeys);
}

static void test_monkeys(void **state)
{
    enum { ROUNDS = 6 };
    int count = (int)scaled("LIVE_MONKEYS", 600) / ROUNDS;
    print_message("SEED=%llu\n", (unsigned long long)random_start(*state ? 1 : 2));
    for (int round = 0; round < ROUNDS; round++)
        let_live(*state != NULL, count, round);
}

int main(void)
{
    static char tls[] = "TLS";
    const struct CMUnitTest tests[] = {
        { "test_monkeys, plain", test_monkeys, NULL, NULL, NULL },
        { "test_monkeys, TLS", test_monkeys, NULL, NULL, tls },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
