/* A WebSocket over a live connection: what the machine of >>websocket (see its unit test)
   does once there is a server around it. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"

static struct { int messages, pongs, closes, code; hsb_websocket *ws; hsb_ticket ticket; } seen;

static void echo(hsb_websocket *ws, bool text, hsb_str message, void *user)
{
    (void)user;
    seen.messages++;
    hsb_websocket_send(ws, text, message);
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

static void open_websocket(rig *r, hsb_request *req)
{
    hsb_websocket_hooks hooks = { .on_message = echo, .on_pong = pong, .on_close = closed };
    (void)r;
    seen.ws = hsb_request_websocket(req, &hooks);
    if (!seen.ws)
        return;
    assert_null(hsb_websocket_subprotocol(seen.ws));
    hsb_websocket_set_user(seen.ws, &seen);
}

static client *upgrade(rig *r)
{
    client *c = dial(r);
    memset(&seen, 0, sizeof seen);
    say(c, "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    hear_until(c, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");    /* RFC 6455 1.3 */
    heard(c, hear_until(c, "\r\n\r\n"));
    return c;
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
    for (int secure = 0; secure < 2; secure++) {
        rig r = { .on_request = open_websocket };
        (void)state;
        rig_open(&r, NULL, secure);
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
        turn_until(&r, all_closed, "the end");
        assert_true(seen.closes == 1 && seen.code == 1000 && seen.messages == 1);
        client_free(c);
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
    hear_until(c, "Sec-WebSocket-Version: 13\r\n");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back),
        cmocka_unit_test(a_cut_is_1006),
        cmocka_unit_test(what_is_no_handshake_is_answered),
        cmocka_unit_test(tickets_find_it_as_long_as_it_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
