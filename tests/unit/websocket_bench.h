/* A WebSocket over a stream, without a connection. */
#ifndef TESTS_UNIT_WEBSOCKET_BENCH_H
#define TESTS_UNIT_WEBSOCKET_BENCH_H

#include "websocket_notation.h"

/* The request and the stream are real; what belongs to >>conn - a head that has come, bytes
   that were sent, the end - is done by hand.  heard: what the hooks were told. */
typedef struct bench {
    hsb__loop      loop;
    hsb_error      why;
    hsb_request    req;
    hsb_websocket *ws;
    hsb_stream    *stream;
    text           heard, sent;
    int            closes;
    void         (*answer)(struct bench *);     /* called from on_message */
} bench;

static bench b;

static inline void no_schedule(hsb_conn *conn)
{
    (void)conn;
}

static inline void on_message(hsb_websocket *ws, bool is_text, hsb_str message, void *user)
{
    assert_ptr_equal(user, &b);
    assert_ptr_equal(ws, b.ws);
    say(&b.heard, is_text ? "T" : "B", message);
    if (b.answer)
        b.answer(&b);
}

static inline void on_pong(hsb_websocket *ws, hsb_str payload, void *user)
{
    (void)ws;
    (void)user;
    say(&b.heard, "O", payload);
}

static inline void on_drain(hsb_websocket *ws, void *user)
{
    (void)ws;
    (void)user;
    addf(&b.heard, "%sdrain", b.heard.len ? " " : "");
}

static inline void on_close(hsb_websocket *ws, int code, hsb_str reason, void *user)
{
    char what[16];
    (void)user;
    b.closes++;
    snprintf(what, sizeof what, "C%d", code);
    say(&b.heard, what, reason);
    assert_int_equal(hsb__websocket_send(ws, true, hsb__text_of("late")), HSB_FLOW_GONE);
    assert_int_equal(hsb__websocket_ping(ws, hsb__text_of("late")), HSB_FLOW_GONE);
    hsb__websocket_close(ws, 1000, hsb__text_absent());
}

static const hsb_websocket_hooks whole_messages = {
    &b, on_message, NULL, on_pong, on_drain, on_close, NULL, 0
};

static const char usual_head[] =
    "GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

static inline void bench_request(const char *head)
{
    static const hsb__head_limits limits = { 8192, 16384, 100 };
    hsb_request *req = &b.req;
    int result;
    memset(&b, 0, sizeof b);
    b.loop.options = hsb__options_resolve(NULL);
    b.loop.pool.memory = &b.loop.memory;
    b.loop.depth = 1;                               /* as in a turn */
    hsb__request_init(req, &b.loop, NULL, &b.why, no_schedule);
    hsb__head_start(&req->head, &limits);
    assert_true(hsb__buffer_append_text(&req->text, head));
    do
        result = hsb__head_parse(&req->head, hsb__buffer_data(&req->text),
                                 hsb__buffer_len(&req->text));
    while (result == HSB__HEAD_SPACE && hsb__request_more_fields(req));
    assert_int_equal(result, HSB__HEAD_DONE);
    req->receiving = HSB__END;
    req->opened = true;
}

static inline void bench_open(const hsb_websocket_hooks *hooks)
{
    b.ws = hsb__websocket_open(&b.req, hooks);
    b.stream = b.ws ? hsb__websocket_stream(b.ws) : NULL;
    assert_ptr_equal(b.req.detached, b.stream);
}

static inline hsb__buffer *bench_out(void)
{
    return b.stream ? &b.stream->channel.out.bytes : &b.req.channel.out.bytes;
}

/* What waits to be sent, as text; it is gone then. */
static inline const char *bench_head(void)
{
    clear(&b.sent);
    add(&b.sent, hsb__buffer_data(bench_out()), hsb__buffer_len(bench_out()));
    hsb__buffer_release(bench_out());
    return b.sent.bytes;
}

static inline void bench_start(const hsb_websocket_hooks *hooks)
{
    bench_request(usual_head);
    bench_open(hooks);
    assert_non_null(b.ws);
    bench_head();
}

/* One frame of ours, off its bytes (RFC 6455 5.1: none of them is masked). */
static inline size_t say_frame(text *t, const unsigned char *s)
{
    static const char names[] = "MTB.....CIO";
    size_t len = s[1], head = s[1] < 126 ? 2 : s[1] == 126 ? 4 : 10;
    char what[16];
    assert_false(s[1] & 0x80);
    assert_false(s[0] & 0x70);
    if (head > 2)
        len = 0;
    for (size_t i = 2; i < head; i++)
        len = len << 8 | s[i];
    snprintf(what, sizeof what, "%c", names[s[0] & 15] + (s[0] & 0x80 ? 0 : 'a' - 'A'));
    if ((s[0] & 15) == 8 && len >= 2) {
        snprintf(what, sizeof what, "C%d", s[head] << 8 | s[head + 1]);
        say(t, what, hsb__text_make((const char *)s + head + 2, len - 2));
    } else {
        say(t, what, hsb__text_make((const char *)s + head, len));
    }
    return head + len;
}

static inline const char *bench_sent(void)
{
    static text t;
    clear(&t);
    bench_head();
    for (size_t at = 0; at < b.sent.len;)
        at += say_frame(&t, (const unsigned char *)b.sent.bytes + at);
    return t.bytes;
}

static inline void bench_feed(const char *notation)
{
    static text in;
    frames(&in, notation);
    hsb_str part = hsb__text_make(guard_copy(in.bytes, in.len), in.len);
    if (!hsb__stream_gone(b.stream))
        b.stream->hooks.on_data(b.stream, part, b.ws);
}

static inline void bench_drain(void)
{
    b.stream->channel.drain_due = false;
    b.stream->hooks.on_drain(b.stream, b.ws);
}

static inline const char *bench_heard(void)
{
    static text t;
    t = b.heard;
    clear(&b.heard);
    return t.bytes;
}

/* The connection ends: nothing may be left of anything. */
static inline void bench_end(const hsb_error *why)
{
    if (b.stream)
        hsb__stream_end(b.stream, why);
    hsb__request_reset(&b.req);
    hsb__outgoing_clear(&b.req.channel.out);
    hsb__pool_close(&b.loop.pool);
    assert_int_equal(b.loop.memory.used, 0);
}

#endif
