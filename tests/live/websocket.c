/* A WebSocket over a live connection: what the machine of >>websocket (see its unit test)
   does once there is a server around it. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"

static struct {
    int messages, pongs, drains, closes, code;
    size_t bytes;
    hsb_websocket *ws;
} seen;

static void echo(hsb_websocket *ws, bool text, hsb_str message, void *user)
{
    (void)user;
    seen.messages++;
    seen.bytes += message.len;
    if (hsb_websocket_send(ws, text, message) == HSB_FLOW_WAIT)
        hsb_stream_pause(hsb_websocket_stream(ws));
}

static void drained(hsb_websocket *ws, void *user)
{
    (void)user;
    seen.drains++;
    hsb_stream_resume(hsb_websocket_stream(ws));
}

static void pong(hsb_websocket *ws, hsb_str payload, void *user)
{
    (void)ws;
    (void)user;
    seen.pongs += hsb_equal(payload, "are you there");
}

static void closed(hsb_websocket *ws, int code, hsb_str reason, void *user)
{
    (void)ws;
    (void)reason;
    assert_ptr_equal(user, &seen);              /* set after the handshake */
    seen.closes++;
    seen.code = code;
    seen.ws = NULL;
}

static int64_t message_bytes;           /* of the hooks */

static void open_websocket(rig *r, hsb_request *req)
{
    hsb_websocket_hooks hooks = { .on_message = echo, .on_pong = pong, .on_drain = drained,
                                  .on_close = closed, .message_bytes = message_bytes };
    (void)r;
    seen.ws = hsb_request_websocket(req, &hooks);
    if (!seen.ws)
        return;
    assert_null(hsb_websocket_subprotocol(seen.ws));
    hsb_websocket_set_user(seen.ws, &seen);
}

#define HANDSHAKE "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" \
                  "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* handshake and whatever is to come in one breath with it. */
static client *upgrade_with(rig *r, client *c, const char *handshake, size_t len)
{
    memset(&seen, 0, sizeof seen);
    say_bytes(c, handshake, len);
    hear_until(c, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");    /* RFC 6455 1.3 */
    heard(c, hear_until(c, "\r\n\r\n"));
    assert_int_equal(r->finishes, r->heads);    /* the request is over */
    return c;
}

static client *upgrade(rig *r)
{
    return upgrade_with(r, dial(r), HANDSHAKE, sizeof HANDSHAKE - 1);
}

/* A frame of a client, masked with zeros: RFC 6455 5.2 */
static void say_frame(client *c, int first, const char *payload)
{
    char frame[140] = { (char)first, (char)(0x80 | (int)strlen(payload)) };
    assert_true(strlen(payload) < 126);
    memcpy(frame + 6, payload, strlen(payload));
    say_bytes(c, frame, 6 + strlen(payload));
}

static void messages_come_back(void **state)
{
    for (int how = 0; how < 4; how++) {
        rig r = { .on_request = how < 2 ? open_websocket : NULL,
                  .on_head = how < 2 ? NULL : open_websocket };
        (void)state;
        rig_open(&r, NULL, how % 2);
        client *c = upgrade(&r);
        assert_int_equal(r.finishes, 1);                /* the request is over */
        assert_int_equal(hsb_server_connections(r.server).detached, 1);
        say_frame(c, 0x81, "hello");
        hear_until(c, "\x81\x05hello");
        say_frame(c, 0x89, "ping");
        hear_until(c, "\x8a\x04ping");
        hsb_websocket_ping(seen.ws, hsb_text("are you there"));
        hear_until(c, "\x89\x0d" "are you there");
        say_frame(c, 0x8a, "are you there");
        hsb_websocket_send_part(seen.ws, true, hsb_text("a"), false);
        hsb_websocket_send_part(seen.ws, true, hsb_text("b"), true);
        hear_until(c, "\x01\x01" "a\x80\x01" "b");
        assert_int_equal(seen.pongs, 1);
        say_frame(c, 0x88, "\x03\xe8");
        hear_until(c, "\x88\x02\x03\xe8");
        hear_end(c);
        client_free(c);
        turn_until(&r, all_closed, "the end");
        assert_true(seen.closes == 1 && seen.code == 1000 && seen.messages == 1);
        rig_close(&r);
    }
}

static void a_cut_is_1006(void **state)
{
    rig r = { .on_request = open_websocket };
    (void)state;
    rig_open(&r, NULL, true);
    client *c = upgrade(&r);
    cut_off(c);
    turn_until(&r, all_closed, "the cut is noticed");
    assert_true(seen.closes == 1 && seen.code == 1006);
    rig_close(&r);
}

static void what_is_no_handshake_is_answered(void **state)
{
    rig r = { .on_request = open_websocket };
    (void)state;
    rig_open(&r, NULL, false);
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    hear_until(c, "HTTP/1.1 400 ");
    client_free(c);
    c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n");
    hear_until(c, "HTTP/1.1 426 ");
    hear_until(c, "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    hear_until(c, "version 13 of WebSocket\n");
    heard(c, c->len);
    say(c, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n"
           "Sec-WebSocket-Version: 14\r\n\r\n");      /* on the same connection, and the last */
    hear_until(c, "HTTP/1.1 426 ");
    hear_until(c, "Connection: Upgrade, close\r\n");
    hear_end(c);
    client_free(c);
    assert_null(seen.ws);
    turn_until(&r, all_closed, "both end");
    rig_close(&r);
}

static void greet(hsb_stream *stream, void *arg)
{
    assert_true((stream != NULL) == (arg != NULL));
    if (stream)
        hsb_websocket_send(seen.ws, true, hsb_text(arg));
}

static void tickets_find_it_as_long_as_it_lives(void **state)
{
    rig r = { .on_request = open_websocket };
    char word[] = "psst";
    (void)state;
    rig_open(&r, NULL, false);
    client *c = upgrade(&r);
    hsb_stream *stream = hsb_websocket_stream(seen.ws);
    hsb_ticket now = hsb_stream_ticket(stream), later = hsb_stream_ticket(stream);
    assert_true(hsb_stream_ticket_resume(now, greet, word));
    hear_until(c, "\x81\x04psst");
    client_free(c);
    turn_until(&r, all_closed, "the end");
    assert_true(hsb_stream_ticket_resume(later, greet, NULL));
    turns(&r, 3);
    rig_close(&r);
}

static void frames_may_follow_at_once(void **state)
{
    static const char both[] = HANDSHAKE "\x81\x82\0\0\0\0hi\x89\x80\0\0\0\0\x01\x81\0\0";
    for (int secure = 0; secure < 2; secure++) {
        rig r = { .on_request = open_websocket };
        (void)state;
        rig_open(&r, NULL, secure);
        client *c = upgrade_with(&r, dial(&r), both, sizeof both - 1);
        hear_until(c, "\x81\x02hi\x8a");
        say_bytes(c, "\0\0a", 3);
        say_bytes(c, "\x88\x80\0\0\0\0", 6);   /* 7.1.2: within our fragmented message */
        hear_until(c, "\x88");
        hear_end(c);
        client_free(c);
        turn_until(&r, all_closed, "the end");
        assert_true(seen.closes == 1 && seen.code == 1005 && seen.messages == 1);
        rig_close(&r);
    }
}

/* RFC 6455 5.5.1: answered, though the peer has ended its side right behind its Close. */
static void a_close_with_the_end_behind_it_is_answered(void **state)
{
    for (int secure = 0; secure < 2; secure++) {
        rig r = { .on_request = open_websocket };
        (void)state;
        rig_open(&r, NULL, secure);
        client *c = upgrade(&r);
        say_frame(c, 0x81, "last words");
        say_frame(c, 0x88, "\x0f\xa0" "bye");
        say_end(c);
        hear_until(c, "\x81\x0a" "last words\x88\x02\x0f\xa0");
        hear_end(c);
        client_free(c);
        turn_until(&r, all_closed, "the end");
        assert_true(seen.closes == 1 && seen.code == 4000 && seen.messages == 1);
        rig_close(&r);
    }
}

/* An end of the connection without a Close is 1006, in order or not; so is our own end. */
static void an_end_without_close_is_1006(void **state)
{
    for (int how = 0; how < 6; how++) {
        rig r = { .on_request = open_websocket };
        (void)state;
        rig_open(&r, NULL, how % 2);
        client *c = upgrade(&r);
        if (how < 2)
            hang_up(c);
        else if (how < 4)
            hsb_server_close(r.server, true);
        if (how < 4)
            turn_until(&r, all_closed, "the end");
        rig_close(&r);
        assert_true(seen.closes == 1 && seen.code == 1006);
        if (how > 1)
            client_free(c);
    }
}

/* Cut from a hook: nothing more is told, though it came in the same part, nor taken. */
static void cut_at_once(hsb_websocket *ws, bool text, hsb_str message, void *user)
{
    (void)user;
    seen.messages++;
    hsb_conn_close(hsb_stream_conn(hsb_websocket_stream(ws)), true);
    assert_int_equal(hsb_websocket_send(ws, text, message), HSB_FLOW_GONE);
}

static void open_and_cut(rig *r, hsb_request *req)
{
    hsb_websocket_hooks hooks = { .user = &seen, .on_message = cut_at_once, .on_close = closed };
    (void)r;
    seen.ws = hsb_request_websocket(req, &hooks);
}

static void nothing_comes_after_the_cut(void **state)
{
    static const char twice[] = "\x81\x81\0\0\0\0a\x81\x81\0\0\0\0b";
    for (int secure = 0; secure < 2; secure++) {
        rig r = { .on_request = open_and_cut };
        (void)state;
        rig_open(&r, NULL, secure);
        client *c = upgrade(&r);
        say_bytes(c, twice, sizeof twice - 1);
        hear_end(c);
        assert_int_equal(c->len, 0);
        client_free(c);
        turn_until(&r, all_closed, "the cut");
        assert_true(seen.messages == 1 && seen.closes == 1 && seen.code == 1006);
        rig_close(&r);
    }
}

/* --- floods ------------------------------------------------------------------------------- */
enum { FLOOD = 20000, ROOM = 400000 };  /* ROOM: what a connection may cost here, buffers and all */

/* What the server takes now or in its next turns, whether we read or not. */
static void pour(client *c, const char *bytes, size_t len)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    for (size_t done = 0; done < len;) {
        int n = say_some(c, bytes + done, len - done);
        assert_true(n >= 0 && clock_ms() < end);
        done += (size_t)n;
        turns(c->r, 1);
    }
}

/* RFC 6455 5.5.3: whoever pings without end and does not read is owed the latest pong. */
static void a_flood_of_pings_is_bounded(void **state)
{
    static char pings[FLOOD * 131];
    for (int secure = 0; secure < 2; secure++) {
        rig r = { .on_request = open_websocket, .send_buffer = 16384 };
        (void)state;
        rig_open(&r, NULL, secure);
        client *c = upgrade_with(&r, dial_narrow(&r), HANDSHAKE, sizeof HANDSHAKE - 1);
        size_t before = hsb_server_memory(r.server);
        for (int i = 0; i < FLOOD; i++) {
            memcpy(pings + i * 131, "\x89\xfd\0\0\0\0", 6);
            snprintf(pings + i * 131 + 6, 125, "%0124d", i);
        }
        pour(c, pings, sizeof pings);
        assert_true(hsb_server_memory(r.server) < before + ROOM);
        assert_int_equal(seen.closes, 0);
        hear_until(c, pings + (FLOOD - 1) * 131 + 6);
        say_frame(c, 0x81, "still here");
        hear_until(c, "still here");
        hang_up(c);
        turn_until(&r, all_closed, "the end");
        rig_close(&r);
    }
}

/* RFC 6455 5.4 sets no end to the fragments of a message; those of no bytes cost nothing. */
static void a_flood_of_empty_fragments_costs_nothing(void **state)
{
    static char empty[FLOOD * 6];
    rig r = { .on_request = open_websocket };
    (void)state;
    rig_open(&r, NULL, true);
    client *c = upgrade(&r);
    for (int i = 0; i < FLOOD; i++)
        memcpy(empty + i * 6, i ? "\x00\x80\0\0\0\0" : "\x01\x80\0\0\0\0", 6);
    pour(c, empty, 600);
    size_t before = hsb_server_memory(r.server);
    pour(c, empty + 600, sizeof empty - 600);
    assert_true(hsb_server_memory(r.server) < before + 3 * FLOOD);      /* buffers come and go */
    assert_int_equal(seen.messages, 0);
    say_frame(c, 0x80, "at last");
    hear_until(c, "\x81\x07" "at last");
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

/* An announcement is no memory; what comes after it is, and without a limit it is as much. */
static void lengths_are_believed_when_they_come(void **state)
{
    static char bytes[300000];
    rig r = { .on_request = open_websocket };
    (void)state;
    rig_open(&r, NULL, false);
    client *c = upgrade(&r);
    say_bytes(c, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 10);
    hear_until(c, "\x03\xf1message too big");
    hear_end(c);
    client_free(c);
    turn_until(&r, all_closed, "the end");
    assert_true(seen.closes == 1 && seen.code == 1006);
    message_bytes = -1;
    c = upgrade(&r);
    size_t before = hsb_server_memory(r.server);
    say_bytes(c, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14);
    turns(&r, 5);
    assert_true(hsb_server_memory(r.server) < before + 100000);
    pour(c, bytes, sizeof bytes);
    int64_t end = clock_ms() + PATIENCE_MS;
    for (; hsb_server_memory(r.server) - before < sizeof bytes; turns(&r, 1))
        assert_true(clock_ms() < end);
    assert_true(hsb_server_memory(r.server) - before < 3 * sizeof bytes);
    assert_int_equal(seen.messages, 0);
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    message_bytes = 0;
    rig_close(&r);
}

/* An echo that pauses when it has to wait, and goes on when there is room: everything comes
   back in order, and meanwhile the client feels it. */
static void back_pressure(void **state)
{
    enum { EACH = 1000, COUNT = 16000 };
    static char frames[COUNT * (EACH + 8)];
    int wide = 1 << 20;
    for (int secure = 0; secure < 2; secure++) {
        rig r = { .on_request = open_websocket, .send_buffer = 16384 };
        size_t sent = 0;
        (void)state;
        rig_open(&r, NULL, secure);
        client *c = upgrade_with(&r, dial_narrow(&r), HANDSHAKE, sizeof HANDSHAKE - 1);
        size_t before = hsb_server_memory(r.server);
        for (int i = 0; i < COUNT; i++) {
            char *at = frames + (size_t)i * (EACH + 8);
            memcpy(at, "\x82\xfe\x03\xe8\0\0\0\0", 8);
            pattern_fill(at + 8, (uint64_t)i * EACH, EACH);
        }
        for (int idle = 0; idle < 50 && sent < sizeof frames; turns(&r, 1)) {
            int n = say_some(c, frames + sent, sizeof frames - sent);
            assert_true(n >= 0);
            idle = n ? 0 : idle + 1;
            sent += (size_t)n;
        }
        assert_true(sent < sizeof frames);
        assert_true(hsb_server_memory(r.server) < before + ROOM);
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &wide, sizeof wide);
        say_bytes(c, frames + sent, sizeof frames - sent);
        hear_len(c, (size_t)COUNT * (EACH + 4));
        for (int i = 0; i < COUNT; i++)
            if (memcmp(c->got + i * (EACH + 4), "\x82\x7e\x03\xe8", 4) != 0 ||
                !pattern_fits(c->got + i * (EACH + 4) + 4, (uint64_t)i * EACH, EACH))
                fail_msg("message %d is another one", i);
        assert_int_equal(seen.messages, COUNT);
        assert_true(seen.drains > 10);
        hang_up(c);
        turn_until(&r, all_closed, "the end");
        rig_close(&r);
    }
}

/* A third of timeouts.stream without a byte: a ping.  Who answers stays; who does not goes. */
static void silent_peers_are_pinged(void **state)
{
    (void)state;
    for (int secure = 0; secure < 2; secure++) {
        rig r = { .on_request = open_websocket };
        hsb_options o = { .timeouts = { .stream = 300, .close = 50 } };
        rig_open(&r, &o, secure);
        client *c = upgrade(&r);
        int64_t began = clock_ms();
        for (int i = 0; i < 5; i++) {
            heard(c, hear_until(c, "\x89\0"));         /* which is "\x89": the length is 0 */
            while (c->len < 1)
                hear_more(c, "the ping's length");
            assert_int_equal(c->got[0], 0);
            heard(c, 1);
            say_frame(c, 0x8a, "");
        }
        assert_true(clock_ms() - began >= 499);
        assert_int_equal(seen.closes, 0);
        began = clock_ms();
        hear_end(c);
        turn_until(&r, all_closed, "the deadline");
        assert_true(clock_ms() - began >= 290);
        assert_true(seen.closes == 1 && seen.code == 1006);
        assert_int_equal(r.closed_with.status, HSB_ERR_TIMEOUT);
        client_free(c);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back),
        cmocka_unit_test(silent_peers_are_pinged),
        cmocka_unit_test(a_cut_is_1006),
        cmocka_unit_test(what_is_no_handshake_is_answered),
        cmocka_unit_test(tickets_find_it_as_long_as_it_lives),
        cmocka_unit_test(frames_may_follow_at_once),
        cmocka_unit_test(a_close_with_the_end_behind_it_is_answered),
        cmocka_unit_test(an_end_without_close_is_1006),
        cmocka_unit_test(nothing_comes_after_the_cut),
        cmocka_unit_test(a_flood_of_pings_is_bounded),
        cmocka_unit_test(a_flood_of_empty_fragments_costs_nothing),
        cmocka_unit_test(lengths_are_believed_when_they_come),
        cmocka_unit_test(back_pressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
