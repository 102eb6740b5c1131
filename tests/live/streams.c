/* Connections taken out of HTTP: bytes both ways, ends of either side, every way to close. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

#define UPGRADE "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: line\r\n\r\n"

/* The stream that was detached last, and what its hooks told. */
typedef struct line {
    hsb_stream *stream;             /* NULL after on_close */
    int    opened, ends, drains, closes;
    size_t received;
    bool   in_order;                /* it fits the pattern */
    char   text[256];               /* the first bytes */
    hsb_error why;
    bool   echo, end_closes, had_end;
    void (*on_open)(rig *, struct line *, hsb_request *);   /* in the hook that detached */
    void (*on_data)(struct line *, hsb_str);
    void (*on_end)(struct line *);
    void (*on_drain)(struct line *);
    hsb_stream_hooks hooks;
} line;

static void line_data(hsb_stream *s, hsb_str part, void *user)
{
    line *l = user;
    assert_ptr_equal(s, l->stream);
    assert_true(part.len > 0);
    assert_int_equal(l->ends, 0);
    assert_int_equal(l->closes, l->opened - 1);
    l->in_order = l->in_order && pattern_fits(part.ptr, l->received, part.len);
    for (size_t i = 0; i < part.len && l->received + i < sizeof l->text - 1; i++)
        l->text[l->received + i] = part.ptr[i];
    l->received += part.len;
    if (l->on_data)
        l->on_data(l, part);
    else if (l->echo && hsb_stream_write(s, part) == HSB_FLOW_WAIT)
        hsb_stream_pause(s);
}

static void line_end(hsb_stream *s, void *user)
{
    line *l = user;
    assert_ptr_equal(s, l->stream);
    l->ends++;
    if (l->on_end)
        l->on_end(l);
    else
        hsb_stream_close(s, false);
}

static void line_drain(hsb_stream *s, void *user)
{
    line *l = user;
    assert_ptr_equal(s, l->stream);
    l->drains++;
    if (l->on_drain)
        l->on_drain(l);
    else if (l->echo)
        hsb_stream_resume(s);
}

static void line_close(hsb_stream *s, const hsb_error *why, void *user)
{
    line *l = user;
    assert_ptr_equal(s, l->stream);
    assert_int_equal(hsb_stream_write(s, hsb_text("too late")), HSB_FLOW_GONE);
    l->closes++;
    memset(&l->why, 0, sizeof l->why);
    if (why)
        l->why = *why;
    l->stream = NULL;
}

static void line_reset(line *l)
{
    l->hooks.user = l;
    l->hooks.on_data = line_data;
    l->hooks.on_end = line_end;
    l->hooks.on_drain = line_drain;
    l->hooks.on_close = line_close;
    l->received = 0;
    l->in_order = true;
    l->ends = l->drains = 0;
    memset(l->text, 0, sizeof l->text);
}

static void line_detach(rig *r, hsb_request *req)
{
    line *l = r->data;
    int status = hsb_equal(hsb_request_method(req), "CONNECT") ? 200 : 101;
    line_reset(l);
    if (status == 101)
        hsb_response_header(req, "Upgrade", "line");
    l->stream = hsb_request_detach(req, status, &l->hooks);
    assert_non_null(l->stream);
    assert_ptr_equal(hsb_stream_conn(l->stream), hsb_request_conn(req));
    l->opened++;
    memset(&l->hooks, 0, sizeof l->hooks);      /* was copied */
    if (l->on_open)
        l->on_open(r, l, req);
}

static bool line_closed(const rig *r)
{
    const line *l = r->data;
    return l->closes == l->opened && all_closed(r);
}

/* The client has upgraded. */
static client *line_up(rig *r)
{
    line *l = r->data;
    int before = l->opened;
    client *c = dial(r);
    say(c, UPGRADE);
    heard(c, hear_until(c, "\r\n\r\n"));
    assert_int_equal(l->opened, before + 1);
    return c;
}

/* --- opening ------------------------------------------------------------------------------ */
static void test_upgrade(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, UPGRADE "first bytes");              /* together with the request */
    size_t head = hear_until(c, "\r\n\r\n");
    assert_memory_equal(c->got, "HTTP/1.1 101 Switching Protocols\r\n", 34);
    assert_non_null(strstr(c->got, "\r\nConnection: Upgrade\r\n"));
    assert_non_null(strstr(c->got, "\r\nUpgrade: line\r\n"));
    assert_null(strstr(c->got, "Content-Length"));
    assert_null(strstr(c->got, "Transfer-Encoding"));
    heard(c, head);
    hear_until(c, "first bytes");
    assert_int_equal(r.finishes, 1);            /* as soon as the hook returned */
    assert_int_equal(r.finished_with.status, HSB_OK);
    assert_int_equal(hsb_server_connections(r.server).detached, 1);
    assert_int_equal(hsb_server_connections(r.server).active, 0);
    say(c, ", GET / HTTP/1.1\r\n\r\n");         /* is nothing but bytes now */
    hear_until(c, "first bytes, GET / HTTP/1.1\r\n\r\n");
    assert_int_equal(r.heads, 1);
    assert_int_equal(l.closes, 0);
    hsb_stream_close(l.stream, false);
    hear_end(c);
    assert_true(c->ended);
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    assert_int_equal(l.why.status, HSB_OK);
    assert_int_equal(l.ends, 0);
    rig_close(&r);
}

static void test_connect(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\nhello");
    size_t head = hear_until(c, "\r\n\r\n");
    assert_memory_equal(c->got, "HTTP/1.1 200 OK\r\n", 17);
    assert_null(strstr(c->got, "Connection"));
    assert_null(strstr(c->got, "Content-Length"));
    assert_null(strstr(c->got, "Transfer-Encoding"));
    heard(c, head);
    hear_until(c, "hello");
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    rig_close(&r);
}

/* Where it is not allowed: NULL, and the request is as it was. */
static void detach_wrongly(rig *r, hsb_request *req)
{
    line *l = r->data;
    line_reset(l);
    bool old = hsb_request_minor_version(req) == 0;
    assert_null(hsb_request_detach(req, 200, &l->hooks));       /* no CONNECT */
    assert_null(hsb_request_detach(req, 100, &l->hooks));
    assert_null(hsb_request_detach(req, 404, &l->hooks));
    if (old)
        assert_null(hsb_request_detach(req, 101, &l->hooks));   /* RFC 9110 7.8 */
    hsb_respond(req, 200, NULL, hsb_text("still here"));
}

static void detach_in_head(rig *r, hsb_request *req)
{
    line *l = r->data;
    line_reset(l);
    if (hsb_request_content_length(req) != 0)                   /* the body comes first */
        assert_null(hsb_request_detach(req, 101, &l->hooks));
    else
        line_detach(r, req);
}

static void respond_after_all(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond(req, 200, NULL, hsb_request_body(req));
}

static void test_where_detach_is_allowed(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = detach_wrongly, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask(c, UPGRADE);
    assert_answer(a, 200, "still here");
    a = ask(c, "GET / HTTP/1.0\r\nHost: x\r\nUpgrade: line\r\n\r\n");
    assert_answer(a, 200, "still here");
    hang_up(c);
    rig_close(&r);
    rig q = { .on_head = detach_in_head, .on_request = respond_after_all, .data = &l };
    rig_open(&q, NULL, is_secure(state));
    c = dial(&q);
    a = ask(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    assert_answer(a, 200, "body");
    a = ask(
        c,
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n0\r\n\r\n");
    assert_answer(a, 200, "bo");
    say(c, UPGRADE "more");
    hear_until(c, "\r\n\r\nmore");
    assert_int_equal(q.requests, 2);
    hang_up(c);
    turn_until(&q, line_closed, "the end");
    rig_close(&q);
}

/* RFC 9110 9.3.6: each 2xx opens a tunnel, and nothing else does. */
static void detach_at_the_borders(rig *r, hsb_request *req)
{
    line *l = r->data;
    line_reset(l);
    hsb_stream_hooks hooks = l->hooks;
    assert_null(hsb_request_detach(req, 199, &hooks));
    assert_null(hsb_request_detach(req, 300, &hooks));
    l->stream = hsb_request_detach(req, 299, &hooks);
    assert_non_null(l->stream);
    l->opened++;
}

static void test_status_of_a_tunnel(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = detach_at_the_borders, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nthrough");
    hear_until(c, "\r\n\r\nthrough");
    assert_memory_equal(c->got, "HTTP/1.1 299 \r\n", 15);
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    rig_close(&r);
}

/* timeouts.stream: bytes in either direction keep a stream, and so does a pause. */
static void let_pass(rig *r, int ms)
{
    for (int64_t end = clock_ms() + ms; clock_ms() < end;)
        turn(r, (int)(end - clock_ms()));
}

static void test_silent_stream(void **state)
{
    line l = { .echo = false };
    rig r = { .on_request = line_detach, .data = &l };
    hsb_options o = { .timeouts = { .stream = 200, .close = 50 } };
    rig_open(&r, &o, is_secure(state));
    client *c = line_up(&r);
    for (int i = 0; i < 4; i++) {
        let_pass(&r, 100);
        say(c, "in");
    }
    for (int i = 0; i < 4; i++) {
        let_pass(&r, 100);
        assert_int_equal(hsb_stream_write(l.stream, hsb_text("out")), HSB_FLOW_GO);
    }
    hsb_stream_pause(l.stream);
    let_pass(&r, 400);
    assert_int_equal(l.closes, 0);
    hsb_stream_resume(l.stream);
    int64_t began = clock_ms();
    hear_end(c);
    assert_true(c->ended && (!c->ssl || c->notified));
    turn_until(&r, line_closed, "the deadline");
    assert_true(clock_ms() - began >= 99);
    assert_int_equal(l.why.status, HSB_ERR_TIMEOUT);
    assert_int_equal(r.closed_with.status, HSB_ERR_TIMEOUT);
    hang_up(c);
    rig_close(&r);
}

static void pause_it(hsb_stream *s, void *unused)
{
    (void)unused;
    hsb_stream_pause(s);
}

/* The clock of a stream stands still from the pause on, wherever that comes from. */
static void test_pause_from_a_timer(void **state)
{
    line l = { .echo = false };
    rig r = { .on_request = line_detach, .data = &l };
    hsb_options o = { .timeouts = { .stream = 200, .close = 50 } };
    rig_open(&r, &o, is_secure(state));
    client *c = line_up(&r);
    assert_true(hsb_stream_after(l.stream, 100, pause_it, NULL));
    let_pass(&r, 400);
    assert_int_equal(l.closes, 0);
    hang_up(c);
    rig_close(&r);
}

/* From a ticket and from a timer. */
static void detach_now(hsb_request *req, void *arg)
{
    if (req)
        line_detach(arg, req);
}

static void detach_later(rig *r, hsb_request *req)
{
    line *l = r->data;
    if (l->opened % 2)
        hsb_request_after(req, 1, detach_now, r);
    else
        hsb_ticket_resume(hsb_request_defer(req), detach_now, r);
}

static void test_detach_later(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = detach_later, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < 4; i++) {
        client *c = dial(&r);
        say(c, UPGRADE "early");
        hear_until(c, "\r\n\r\nearly");
        hang_up(c);
        turn_until(&r, line_closed, "the end");
    }
    rig_close(&r);
}

/* --- both ways ---------------------------------------------------------------------------- */
enum { MUCH = 3000000 };

static void test_echo(void **state)
{
    static char bytes[MUCH];
    line l = { .echo = true };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = line_up(&r);
    pattern_fill(bytes, 0, sizeof bytes);
    say_bytes(c, bytes, sizeof bytes);
    hear_len(c, sizeof bytes);
    assert_true(pattern_fits(c->got, 0, sizeof bytes));
    assert_true(l.in_order);
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    rig_close(&r);
}

/* What is not wanted stays in the socket, and the client feels it. */
static void test_pause(void **state)
{
    static char bytes[16000000];
    line l = { .echo = false };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = line_up(&r);
    pattern_fill(bytes, 0, sizeof bytes);
    say_bytes(c, bytes, 1000);
    turns(&r, 5);
    assert_int_equal(l.received, 1000);
    hsb_stream_pause(l.stream);
    turns(&r, 5);
    size_t memory = hsb_server_memory(r.server), sent = 1000;
    for (int idle = 0; idle < 50 && sent < sizeof bytes;) {
        int n = say_some(c, bytes + sent, sizeof bytes - sent);
        assert_true(n >= 0);
        idle = n ? 0 : idle + 1;
        sent += (size_t)n;
        turns(&r, 1);
    }
    assert_true(sent < sizeof bytes);
    assert_int_equal(l.received, 1000);
    assert_true(hsb_server_memory(r.server) < memory + 3 * 65536);
    hsb_stream_resume(l.stream);
    say_bytes(c, bytes + sent, sizeof bytes - sent);
    turns(&r, 50);
    assert_int_equal(l.received, sizeof bytes);
    assert_true(l.in_order);
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    rig_close(&r);
}

/* --- flow --------------------------------------------------------------------------------- */
static void write_until_wait(line *l)
{
    char part[5000];
    hsb_str s = { part, sizeof part };
    size_t *written = &l->received;             /* nothing is received in this test */
    hsb_flow flow = HSB_FLOW_GO;
    while (flow == HSB_FLOW_GO && *written < MUCH) {
        pattern_fill(part, *written, sizeof part);
        flow = hsb_stream_write(l->stream, s);
        *written += sizeof part;
    }
    if (flow == HSB_FLOW_GO)
        hsb_stream_close(l->stream, false);
}

static void write_on_open(rig *r, line *l, hsb_request *req)
{
    (void)r;
    (void)req;
    write_until_wait(l);
}

static void test_drain(void **state)
{
    line l = { .on_open = write_on_open, .on_drain = write_until_wait };
    rig r = { .on_request = line_detach, .data = &l, .send_buffer = 16384 };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial_narrow(&r);
    say(c, UPGRADE);
    heard(c, hear_until(c, "\r\n\r\n"));
    turns(&r, 50);
    size_t stuck = l.received;
    assert_true(stuck < MUCH);
    assert_true(hsb_server_memory(r.server) < 500000);
    turns(&r, 20);
    assert_int_equal(l.received, stuck);
    hear_end(c);                                /* close(false): all of it comes */
    assert_true(c->ended);
    assert_int_equal(c->len, MUCH);
    assert_true(pattern_fits(c->got, 0, MUCH));
    assert_true(l.drains > 10);
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    assert_int_equal(l.why.status, HSB_OK);
    rig_close(&r);
}

static void flood_on_open(rig *r, line *l, hsb_request *req)
{
    static char part[5000];
    hsb_str s = { part, sizeof part };
    hsb_flow flow = HSB_FLOW_GO;
    (void)r;
    (void)req;
    while (flow != HSB_FLOW_GONE && l->received < 16000000) {
        flow = hsb_stream_write(l->stream, s);
        l->received += flow == HSB_FLOW_GONE ? 0 : sizeof part;
    }
}

static void test_flood(void **state)
{
    line l = { .on_open = flood_on_open };
    rig r = { .on_request = line_detach, .data = &l };
    hsb_options o = { .limits.queued_bytes = 10000 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    say(c, UPGRADE);
    hear_end(c);
    turn_until(&r, line_closed, "the cut");
    assert_int_equal(l.why.status, HSB_ERR_LIMIT);
    assert_true(l.received > 150000 && l.received < 160000);    /* the head is in the queue, too */
    hang_up(c);
    rig_close(&r);
}

/* A reader that stops is cut by the write deadline; silence alone is no reason. */
static void write_much_on_open(rig *r, line *l, hsb_request *req)
{
    static char part[MUCH];
    hsb_str s = { part, sizeof part };
    (void)r;
    (void)req;
    assert_int_equal(hsb_stream_write(l->stream, s), HSB_FLOW_WAIT);
}

static void test_slow_reader(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = line_detach, .data = &l, .send_buffer = 16384 };
    hsb_options o = { .timeouts = { .write = 100, .idle = 50, .head = 50, .body = 50 } };
    rig_open(&r, &o, is_secure(state));
    client *quiet = line_up(&r);
    for (int64_t end = clock_ms() + 250; clock_ms() < end;)
        turn(&r, 10);
    assert_int_equal(l.closes, 0);
    say(quiet, "still there");
    hear_until(quiet, "still there");
    hang_up(quiet);
    turn_until(&r, line_closed, "the end");
    l.on_open = write_much_on_open;
    client *c = dial_narrow(&r);
    say(c, UPGRADE);
    hear_until(c, "\r\n\r\n");
    turn_until(&r, line_closed, "the cut");
    assert_int_equal(l.why.status, HSB_ERR_TIMEOUT);
    hang_up(c);
    rig_close(&r);
}

/* --- the client's end --------------------------------------------------------------------- */
static void write_at_end(line *l)
{
    static char part[100000];
    hsb_str s = { part, sizeof part };
    l->had_end = true;
    if (hsb_stream_write(l->stream, s) == HSB_FLOW_GONE)
        return;
    hsb_stream_write(l->stream, hsb_text("the end"));
    if (l->end_closes)
        hsb_stream_close(l->stream, false);
}

/* Over plain TCP the other half stays open until we close. */
static void test_half_close(void **state)
{
    line l = { .on_end = write_at_end };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < 2; i++) {
        l.end_closes = i == 1;
        client *c = line_up(&r);
        say(c, "bytes");
        say_end(c);
        hear_until(c, "the end");
        assert_string_equal(l.text, "bytes");
        assert_int_equal(c->len, 100007);
        if (!l.end_closes) {
            turns(&r, 20);
            assert_int_equal(hear_some(c), 0);
            assert_int_equal(hsb_server_connections(r.server).detached, 1);
            hsb_stream_write(l.stream, hsb_text(", or not"));
            hear_until(c, "the end, or not");
            hsb_stream_close(l.stream, false);
        }
        hear_end(c);
        assert_true(c->ended);
        turn_until(&r, line_closed, "the end");
        assert_int_equal(l.ends, 1);
        assert_int_equal(l.why.status, HSB_OK);
        hang_up(c);
    }
    rig_close(&r);
}

/* TLS: our close_notify is the only answer that RFC 5246 7.2.1 allows to the peer's. */
static void test_close_notify(void **state)
{
    line l = { .on_end = write_at_end };
    rig r = { .on_request = line_detach, .data = &l };
    (void)state;
    rig_open(&r, NULL, true);
    client *c = line_up(&r);
    say(c, "bytes");
    SSL_shutdown(c->ssl);
    hear_end(c);
    assert_true(c->ended && c->notified);
    turn_until(&r, line_closed, "the end");
    assert_string_equal(l.text, "bytes");
    assert_int_equal(l.ends, 1);
    assert_int_equal(l.why.status, HSB_OK);
    hang_up(c);
    rig_close(&r);
}

static void answer_much(line *l, hsb_str part)
{
    static char bytes[200000];
    hsb_str s = { bytes, sizeof bytes };
    (void)part;
    pattern_fill(bytes, 0, sizeof bytes);
    hsb_stream_write(l->stream, s);
}

/* Bytes and the client's end in one breath: what the bytes are answered with still goes out. */
static void test_answer_before_the_end(void **state)
{
    line l = { .on_data = answer_much };
    rig r = { .on_request = line_detach, .data = &l, .send_buffer = 16384 };
    rig_open(&r, NULL, is_secure(state));
    client *c = line_up(&r);
    say(c, "question");
    say_end(c);
    if (!r.secure)
        turns(&r, 20);
    while (c->len < 200000 && hear_more(c, "the answer"))
        ;
    assert_int_equal(c->len, 200000);
    assert_true(pattern_fits(c->got, 0, 200000));
    if (l.stream)
        hsb_stream_close(l.stream, false);
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    assert_int_equal(l.ends, 1);
    rig_close(&r);
}

/* Without an on_end there is nobody to go on writing. */
static void no_end_on_open(rig *r, line *l, hsb_request *req)
{
    (void)r;
    (void)req;
    l->stream->hooks.on_end = NULL;
}

static void test_no_on_end(void **state)
{
    line l = { .on_open = no_end_on_open, .echo = true };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = line_up(&r);
    say(c, "bytes");
    say_end(c);
    hear_end(c);
    assert_true(c->ended);
    assert_string_equal(c->got, "bytes");
    turn_until(&r, line_closed, "the end");
    hang_up(c);
    rig_close(&r);
}

/* A cut is no end: on_close tells. */
static void test_cut(void **state)
{
    line l = { .on_end = write_at_end };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < 3; i++) {
        client *c = line_up(&r);
        l.had_end = false;
        if (i == 0)
            cut_off(c);
        else if (i == 1 && r.secure)
            client_free(c);                     /* a FIN without close_notify */
        else {
            hsb_stream_pause(l.stream);         /* seen also while nothing is read */
            turns(&r, 3);
            cut_off(c);
        }
        turn_until(&r, line_closed, "the cut");
        assert_false(l.had_end);
        assert_int_equal(l.why.status, HSB_ERR_CLOSED);
        assert_int_equal(r.closed_with.status, HSB_ERR_CLOSED);
    }
    rig_close(&r);
}

/* --- our end ------------------------------------------------------------------------------ */
/* close(false) sends what is queued; close(true) does not wait.  Either is final. */
static void test_close(void **state)
{
    line l = { .on_open = write_much_on_open };
    rig r = { .on_request = line_detach, .data = &l, .send_buffer = 16384 };
    rig_open(&r, NULL, is_secure(state));
    for (int how = 0; how < 6; how++) {
        client *c = dial_narrow(&r);
        say(c, UPGRADE);
        heard(c, hear_until(c, "\r\n\r\n"));
        bool whole = how == 0 || how == 4;
        switch (how) {
        case 0:
            hsb_stream_close(l.stream, false);
            break;
        case 1:
            hsb_stream_close(l.stream, true);
            break;
        case 2:
            hsb_stream_close(l.stream, false);
            turns(&r, 3);
            hsb_stream_close(l.stream, true);
            break;
        case 3:
            hsb_conn_close(r.conn, true);
            break;
        case 4:
            hsb_conn_close(r.conn, false);
            break;
        case 5:
            hsb_server_close(r.server, true);
            break;
        }
        turns(&r, 1);
        if (whole) {
            assert_int_equal(hsb_stream_write(l.stream, hsb_text("x")), HSB_FLOW_GONE);
            assert_int_equal(hsb_stream_flush(l.stream), HSB_FLOW_GONE);
            say(c, "nobody wants that");
        }
        hear_end(c);
        assert_int_equal(c->len == MUCH, whole);
        assert_int_equal(l.received, 0);
        if (whole)
            assert_true(c->ended);
        hang_up(c);
        turn_until(&r, line_closed, "the end");
        assert_int_equal(l.why.status, how == 5 ? HSB_ERR_SHUTDOWN : HSB_OK);
    }
    rig_close(&r);
}

/* close(false), and while we linger for the client's end close(true): now. */
static void test_close_twice(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = line_detach, .data = &l };
    hsb_options o = { .timeouts.close = 60000 };
    rig_open(&r, &o, is_secure(state));
    client *c = line_up(&r);
    hsb_stream_close(l.stream, false);
    turns(&r, 5);
    assert_non_null(l.stream);                  /* the client has not ended its side */
    assert_int_equal(hsb_server_connections(r.server).closing, 1);
    hsb_stream_close(l.stream, true);
    turn_until(&r, line_closed, "the cut");
    hang_up(c);
    rig_close(&r);
}

/* Closed, cut or given up within the very hook that detached it: on_close still comes. */
static void close_on_open(rig *r, line *l, hsb_request *req)
{
    hsb_stream_write(l->stream, hsb_text("bye"));
    switch (l->opened % 6) {
    case 0:
        hsb_stream_close(l->stream, false);
        break;
    case 1:
        hsb_stream_close(l->stream, true);
        break;
    case 2:
        hsb_conn_close(hsb_request_conn(req), false);
        break;
    case 3:
        hsb_conn_close(hsb_request_conn(req), true);
        break;
    case 4:
        hsb_response_abort(req);
        break;
    case 5:
        hsb_server_close(r->server, true);
        break;
    }
}

static void test_close_at_once(void **state)
{
    line l = { .on_open = close_on_open };
    for (int i = 0; i < 12; i++) {
        rig r = { .on_request = i < 6 ? line_detach : detach_later, .data = &l };
        rig_open(&r, NULL, is_secure(state));
        client *c = dial(&r);
        say(c, UPGRADE);
        hear_end(c);
        bool polite = l.opened % 6 == 0 || l.opened % 6 == 2;
        if (polite)
            assert_non_null(strstr(c->got, "\r\n\r\nbye"));
        hang_up(c);
        turn_until(&r, line_closed, "the end");
        assert_int_equal(l.opened, i + 1);
        rig_close(&r);
    }
}

/* The client goes while the hook that detaches is running: from a ticket or a timer there is
   a send between that and the change. */
static client *victim;

static void cut_on_open(rig *r, line *l, hsb_request *req)
{
    (void)r;
    (void)l;
    (void)req;
    cut_off(victim);
}

static void test_lost_at_once(void **state)
{
    line l = { .on_open = cut_on_open };
    for (int i = 0; i < 8; i++) {
        rig r = { .on_request = i < 4 ? detach_later : line_detach, .data = &l };
        rig_open(&r, NULL, is_secure(state));
        victim = dial(&r);
        say(victim, UPGRADE);
        while (l.opened == i)
            turn(&r, 1);
        if (i % 2)
            turn_until(&r, line_closed, "the cut");
        rig_close(&r);
        assert_int_equal(l.closes, i + 1);
        assert_int_not_equal(l.why.status, HSB_OK);
    }
}

/* --- the server's end --------------------------------------------------------------------- */
/* Detached streams live on, until timeouts.shutdown is over. */
static void test_server_closes(void **state)
{
    line l = { .echo = true };
    hsb_options o = { .timeouts.shutdown = 300 };
    for (int i = 0; i < 2; i++) {
        rig r = { .on_request = line_detach, .data = &l };
        rig_open(&r, &o, is_secure(state));
        client *c = line_up(&r);
        int64_t began = clock_ms();
        hsb_server_close(r.server, false);
        assert_true(turn(&r, 0));
        say(c, "going on");
        hear_until(c, "going on");
        assert_int_equal(hsb_server_connections(r.server).detached, 1);
        if (i == 0) {
            hsb_stream_close(l.stream, false);
            hear_end(c);
            assert_true(c->ended);
            hang_up(c);
        }
        while (turn(&r, 10))
            assert_true(clock_ms() < began + PATIENCE_MS);
        assert_int_equal(l.closes, l.opened);
        if (i == 1) {
            assert_true(clock_ms() - began >= 300);
            assert_int_equal(l.why.status, HSB_ERR_SHUTDOWN);
            hear_end(c);
            hang_up(c);
        }
        rig_close(&r);
    }
}

static void test_server_freed(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = line_up(&r);
    hsb_stream_pause(l.stream);
    say(c, "never read");
    turns(&r, 3);
    rig_close(&r);
    assert_int_equal(l.closes, 1);
    assert_int_equal(l.received, 0);
    assert_int_equal(l.why.status, HSB_ERR_SHUTDOWN);
    hang_up(c);
}

/* --- later -------------------------------------------------------------------------------- */
static void tick(hsb_stream *s, void *arg)
{
    int *left = arg;
    hsb_stream_write(s, hsb_text("tick\n"));
    if (--*left > 0)
        assert_true(hsb_stream_after(s, 1, tick, arg));
    else
        hsb_stream_close(s, false);
}

static void never(hsb_stream *s, void *arg)
{
    (void)s;
    (void)arg;
    fail();
}

static int ticks;

static void tick_on_open(rig *r, line *l, hsb_request *req)
{
    (void)r;
    (void)req;
    ticks = 5;
    assert_true(hsb_stream_after(l->stream, 1, tick, &ticks));
    assert_true(hsb_stream_after(l->stream, 60000, never, NULL));
}

static void test_after(void **state)
{
    line l = { .on_open = tick_on_open };
    rig r = { .on_request = line_detach, .data = &l };
    rig_open(&r, NULL, is_secure(state));
    client *c = line_up(&r);
    hear_end(c);
    assert_string_equal(c->got, "tick\ntick\ntick\ntick\ntick\n");
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    rig_close(&r);
}

/* Its tickets: used in time, too late, and never (they hold the inbox until they are used). */
static void say_resumed(hsb_stream *s, void *arg)
{
    ++*(int *)arg;
    if (s)
        hsb_stream_write(s, hsb_text("resumed"));
    else
        *(int *)arg += 100;
}

static void never_of_a_request(hsb_request *req, void *arg)
{
    (void)req;
    (void)arg;
    fail();
}

static void test_tickets(void **state)
{
    line l = { .echo = true };
    rig r = { .on_request = line_detach, .data = &l };
    int count = 0;
    rig_open(&r, NULL, is_secure(state));
    client *c = line_up(&r);
    hsb_ticket first = hsb_stream_ticket(l.stream), second = hsb_stream_ticket(l.stream);
    hsb_ticket third = hsb_stream_ticket(l.stream), last = hsb_stream_ticket(l.stream);
    assert_true(hsb_stream_ticket_resume(second, say_resumed, &count));
    assert_false(hsb_stream_ticket_resume(second, say_resumed, &count));
    assert_int_equal(count, 0);                 /* never from inside of the call */
    hear_until(c, "resumed");
    assert_int_equal(count, 1);
    hsb_ticket_drop(third);                     /* is for requests: changes nothing */
    assert_false(hsb_ticket_resume(third, never_of_a_request, NULL));
    assert_int_equal(l.closes, 0);
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    assert_true(hsb_stream_ticket_resume(first, say_resumed, &count));
    turns(&r, 3);
    assert_int_equal(count, 102);
    assert_true(hsb_stream_ticket_resume(third, say_resumed, &count));
    hsb_server_free(r.server);                  /* at the latest there */
    r.server = NULL;
    assert_int_equal(count, 203);
    assert_int_not_equal(r.heap.blocks, 0);
    assert_false(hsb_stream_ticket_resume(last, say_resumed, &count));
    assert_int_equal(count, 203);
    rig_close(&r);
}

/* More at once than one turn takes: each comes, and none twice. */
static void count_up(hsb_stream *s, void *arg)
{
    assert_non_null(s);
    ++*(int *)arg;
}

static void test_many_tickets(void **state)
{
    enum { MANY = 3000 };
    static hsb_ticket tickets[MANY];
    line l = { .echo = true };
    rig r = { .on_request = line_detach, .data = &l };
    int count = 0;
    rig_open(&r, NULL, is_secure(state));
    client *c = line_up(&r);
    for (int i = 0; i < MANY; i++)
        tickets[i] = hsb_stream_ticket(l.stream);
    for (int i = 0; i < MANY; i++)
        assert_true(hsb_stream_ticket_resume(tickets[i], count_up, &count));
    turn(&r, 0);
    assert_within(count, 1, MANY - 1);        /* the connections have their turn between */
    for (int i = 0; i < 20 && count < MANY; i++)
        turn(&r, 100);
    assert_int_equal(count, MANY);
    say(c, "still here");
    hear_until(c, "still here");
    hang_up(c);
    turn_until(&r, line_closed, "the end");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_upgrade), BOTH(test_connect), BOTH(test_where_detach_is_allowed),
        BOTH(test_status_of_a_tunnel), BOTH(test_silent_stream), BOTH(test_pause_from_a_timer), BOTH(test_detach_later), BOTH(test_echo), BOTH(test_pause), BOTH(test_drain),
        BOTH(test_flood), BOTH(test_slow_reader), PLAIN(test_half_close), TLS(test_close_notify),
        BOTH(test_answer_before_the_end), BOTH(test_no_on_end), BOTH(test_cut), BOTH(test_close),
        BOTH(test_close_twice), BOTH(test_close_at_once), BOTH(test_lost_at_once),
        BOTH(test_server_closes), BOTH(test_server_freed), BOTH(test_after), BOTH(test_tickets), BOTH(test_many_tickets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
