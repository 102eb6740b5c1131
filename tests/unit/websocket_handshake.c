/* >>websocket: the handshake, RFC 6455 4. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "websocket_bench.h"

/* --- its parts --- */

static void test_accept(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" },         /* 1.3 */
        { "AQIDBAUGBwgJCgsMDQ4PEA==", "C/0nmHhBztSRGR1CwL6Tf4ZjwpY=" },         /* 4.1 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[HSB__WEBSOCKET_ACCEPT];
        hsb__websocket_accept(out, hsb__text_of(cases[i][0]));
        assert_string_equal(out, cases[i][1]);
    }
}

static void test_key_is_good(void **state)
{
    (void)state;
    static const struct { const char *key; bool good; } cases[] = {
        { "dGhlIHNhbXBsZSBub25jZQ==", true }, { "AAAAAAAAAAAAAAAAAAAAAA==", true },
        { "+/+/+/+/+/+/+/+/+/+/+w==", true }, { "", false }, { "dGhlIHNhbXBsZSBub25jZQ=", false },
        { "dGhlIHNhbXBsZSBub25jZQ", false }, { "dGhlIHNhbXBsZSBub25jZQ===", false },
        { "dGhlIHNhbXBsZSBub25jZ===", false }, { "dGhlIHNhbXBsZSBub25jZQAA", false },
        { "dGhlIHNhbXBsZSBub25jZQA=", false }, { "dGhlIHNhbXBsZ SBub25jQ==", false },
        { "dGhlIHNhbXBsZS-ub25jZQ==", false }, { "dGhlIHNhbXBsZS_ub25jZQ==", false },
        { "dGhl=HNhbXBsZSBub25jZQ==", false }, { "Zm9vYmFy", false },
        { "dGhlIHNhbXBsZSBub25jZSBtb3JlIGJ5dGVz", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len = strlen(cases[i].key);
        hsb_str key = hsb__text_make(guard_copy(cases[i].key, len), len);
        assert_int_equal(hsb__websocket_key_is_good(key), cases[i].good);
    }
    assert_false(hsb__websocket_key_is_good(hsb__text_absent()));
    assert_false(hsb__websocket_key_is_good(hsb__text_make("dGhlIHNhbXBsZSBub25j\0Q==", 24)));
}

/* --- the handshake --- */

static void test_handshake(void **state)
{
    (void)state;
    bench_request(usual_head);
    bench_open(&whole_messages);
    assert_non_null(b.ws);
    const char *head = bench_head();
    assert_memory_equal(head, "HTTP/1.1 101 Switching Protocols\r\n", 34);
    assert_non_null(strstr(head, "\r\nUpgrade: websocket\r\n"));
    assert_non_null(strstr(head, "\r\nConnection: Upgrade\r\n"));
    assert_non_null(strstr(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_null(strstr(head, "Sec-WebSocket-Protocol"));
    assert_null(strstr(head, "Sec-WebSocket-Extensions"));
    assert_null(strstr(head, "Content-Length"));
    assert_null(strstr(head, "Transfer-Encoding"));
    assert_string_equal(strstr(head, "\r\n\r\n"), "\r\n\r\n");
    assert_null(hsb__websocket_subprotocol(b.ws));
    bench_end(NULL);
}

/* The usual head, with `with` in the place of `what`. */
typedef struct handshake { const char *name, *what, *with; int status; } handshake;

static void play_handshake(void **state)
{
    const handshake *c = *state;
    char head[1024];
    const char *at = strstr(usual_head, c->what);
    assert_non_null(at);
    snprintf(head, sizeof head, "%.*s%s%s", (int)(at - usual_head), usual_head, c->with,
             at + strlen(c->what));
    bench_request(head);
    bench_open(&whole_messages);
    assert_int_equal(b.ws != NULL, c->status == 101);
    assert_int_equal(b.req.status, c->status);
    const char *answer = bench_head();
    bool other_version = strstr(answer, "\r\nSec-WebSocket-Version: 13\r\n") != NULL;
    assert_int_equal(other_version, c->status == 426);
    bool upgrade = c->status == 426 || c->status == 101;
    assert_int_equal(strstr(answer, "\r\nUpgrade: websocket\r\n") != NULL, upgrade);
    assert_int_equal(strstr(answer, "\r\nConnection: Upgrade\r\n") != NULL, upgrade);
    assert_int_equal(strstr(answer, "Sec-WebSocket-Accept") != NULL, c->status == 101);
    bench_end(NULL);
}

#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"

static const handshake handshakes[] = {
    { "4.2.1 as it should be", KEY, KEY, 101 },
    { "4.2.1 another target", "/chat", "/?a=b", 101 },
    { "4.2.1 names in another case", VERSION, "SEC-WEBSOCKET-VERSION: 13\r\n", 101 },
    { "4.2.1 Upgrade in another case", "websocket", "WebSocket", 101 },
    { "4.2.1 Upgrade as a list", "websocket", "h2c, websocket", 101 },
    { "4.2.1 Upgrade in two fields", "Upgrade: websocket",
      "Upgrade: x\r\nUpgrade: websocket", 101 },
    { "4.2.1 Connection in another case", "Connection: Upgrade", "Connection: upgrade", 101 },
    { "4.2.1 Connection as a list", "Connection: Upgrade",
      "Connection: keep-alive, Upgrade", 101 },
    { "4.2.1 Connection in two fields", "Connection: Upgrade",
      "Connection: keep-alive\r\nConnection: Upgrade", 101 },
    { "4.2.1 Connection with empty elements", "Connection: Upgrade",
      "Connection: , ,Upgrade,", 101 },
    { "4.2.1 Connection to nearly that", "Connection: Upgrade", "Connection: Upgrades", 400 },
    { "4.2.1 Connection without commas", "Connection: Upgrade",
      "Connection: keep-alive Upgrade", 400 },
    { "9.1 an extension that nobody takes up", KEY,
      KEY "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", 101 },
    { "9.1 extensions in two fields", KEY,
      KEY "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b; c, , d\r\n", 101 },
    { "9.1 parameters of all sorts", KEY,
      KEY "Sec-WebSocket-Extensions: a;b; c = d ;e=\"f\\g\", h;i=\"j\"\r\n", 101 },
    { "9.1 no extension", KEY, KEY "Sec-WebSocket-Extensions:\r\n", 400 },
    { "9.1 an extension that is no token", KEY, KEY "Sec-WebSocket-Extensions: a b\r\n", 400 },
    { "9.1 an extension with a value", KEY, KEY "Sec-WebSocket-Extensions: a=b\r\n", 400 },
    { "9.1 no parameter", KEY, KEY "Sec-WebSocket-Extensions: a; ; b\r\n", 400 },
    { "9.1 a parameter without a name", KEY, KEY "Sec-WebSocket-Extensions: a; =b\r\n", 400 },
    { "9.1 a parameter without its value", KEY, KEY "Sec-WebSocket-Extensions: a; b=\r\n", 400 },
    { "9.1 a quoted value that is no token", KEY,
      KEY "Sec-WebSocket-Extensions: a; b=\"c d\"\r\n", 400 },
    { "9.1 an empty quoted value", KEY, KEY "Sec-WebSocket-Extensions: a; b=\"\"\r\n", 400 },
    { "9.1 quotes that are not closed", KEY, KEY "Sec-WebSocket-Extensions: a; b=\"c\r\n", 400 },
    { "9.1 a quote that is escaped", KEY, KEY "Sec-WebSocket-Extensions: a; b=\"c\\\"\r\n", 400 },
    { "9.1 a semicolon in quotes", KEY, KEY "Sec-WebSocket-Extensions: a; b=\"c;d\"\r\n", 400 },
    { "9.1 the second field is malformed", KEY,
      KEY "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: ;\r\n", 400 },
    { "4.2.1 HTTP/1.2", "HTTP/1.1", "HTTP/1.2", 101 },
    { "4.2.1 an Origin, for the hook to judge", KEY, KEY "Origin: https://a.example\r\n", 101 },
    { "4.2.1 fields that are unknown", KEY, KEY "Cookie: a=b\r\nX-Other: ;,=\r\n", 101 },
    { "4.2.1 a subprotocol that nobody speaks", KEY, KEY "Sec-WebSocket-Protocol: a, b\r\n", 101 },
    { "4.2.1 no subprotocol", KEY, KEY "Sec-WebSocket-Protocol: ,\r\n", 400 },
    { "4.2.1 a subprotocol that is no token", KEY, KEY "Sec-WebSocket-Protocol: a, b c\r\n", 400 },
    { "4.2.1 POST", "GET", "POST", 400 },
    { "4.2.1 HEAD", "GET", "HEAD", 400 },
    { "4.2.1 get is not GET", "GET", "get", 400 },
    { "4.2.1 HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 400 },
    { "4.2.1 a body", VERSION, VERSION "Content-Length: 1\r\n", 400 },
    { "4.2.1 a chunked body", VERSION, VERSION "Transfer-Encoding: chunked\r\n", 400 },
    { "4.2.1 an empty body", VERSION, VERSION "Content-Length: 0\r\n", 101 },
    { "4.2.1 no Upgrade", "Upgrade: websocket\r\n", "", 400 },
    { "4.2.1 Upgrade to something else", "websocket", "h2c", 400 },
    { "4.2.1 Upgrade to nearly that", "websocket", "websockets", 400 },
    { "4.2.1 Upgrade with a version", "websocket", "websocket/13", 400 },
    { "4.2.1 no Connection", "Connection: Upgrade\r\n", "", 400 },
    { "4.2.1 Connection without the option", "Connection: Upgrade",
      "Connection: keep-alive", 400 },
    { "4.2.1 no key", KEY, "", 400 },
    { "4.2.1 an empty key", "dGhlIHNhbXBsZSBub25jZQ==", "", 400 },
    { "4.2.1 a key of 15 bytes", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400 },
    { "4.2.1 a key of 17 bytes", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWU=", 400 },
    { "4.2.1 a key that is no base64", "dGhlIHNhbXBsZSBub25jZQ==",
      "dGhlIHNhbXBsZSBub25-ZQ==", 400 },
    { "11.3.1 two keys", KEY, KEY KEY, 400 },
    { "4.2.1 no version", VERSION, "", 400 },
    { "11.3.5 two versions", VERSION, VERSION VERSION, 400 },
    { "4.4 version 8", "Version: 13", "Version: 8", 426 },
    { "4.4 version 0", "Version: 13", "Version: 0", 426 },
    { "4.4 version 14", "Version: 13", "Version: 14", 426 },
    { "4.4 version 013", "Version: 13", "Version: 013", 426 },
    { "4.4 an empty version", "Version: 13", "Version:", 426 },
    { "4.4 version 13 and another", "Version: 13", "Version: 13, 8", 426 },
    { "4.4 version 8 without a key", KEY VERSION, "Sec-WebSocket-Version: 8\r\n", 426 },
};

static const char *choose(const char *offered, const char *const *ours)
{
    static char chosen[40];
    char head[1024];
    hsb_websocket_hooks hooks = whole_messages;
    snprintf(head, sizeof head, "%.*s%s\r\n", (int)sizeof usual_head - 3, usual_head, offered);
    hooks.subprotocols = ours;
    bench_request(head);
    bench_open(&hooks);
    const char *name = hsb__websocket_subprotocol(b.ws);
    snprintf(chosen, sizeof chosen, "%s", name ? name : "-");
    const char *field = strstr(bench_head(), "\r\nSec-WebSocket-Protocol: ");
    assert_int_equal(name != NULL, field != NULL);
    if (field) {
        assert_memory_equal(field + 26, name, strlen(name));
        assert_memory_equal(field + 26 + strlen(name), "\r\n", 2);
    }
    bench_end(NULL);
    return chosen;
}

static void test_subprotocol(void **state)
{
    (void)state;
    static const char *const ours[] = { "v2.chat", "v1.chat", NULL }, *const nothing[] = { NULL };
    assert_string_equal(choose("", ours), "-");
    assert_string_equal(choose("", NULL), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: v1.chat\r\n", NULL), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: v1.chat\r\n", nothing), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: v1.chat\r\n", ours), "v1.chat");
    assert_string_equal(choose("Sec-WebSocket-Protocol: v1.chat, v2.chat\r\n", ours), "v2.chat");
    assert_string_equal(choose("Sec-WebSocket-Protocol: soap, wamp\r\n", ours), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: V1.CHAT\r\n", ours), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: soap\r\n"
                               "Sec-WebSocket-Protocol: v1.chat\r\n", ours), "v1.chat");
    char name[] = "chat";
    const char *const copied[] = { name, NULL };
    hsb_websocket_hooks hooks = whole_messages;
    hooks.subprotocols = copied;
    bench_request("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\n" KEY VERSION "Sec-WebSocket-Protocol: chat\r\n\r\n");
    bench_open(&hooks);
    memset(name, 'x', sizeof name);
    assert_string_equal(hsb__websocket_subprotocol(b.ws), "chat");
    bench_end(NULL);
}

enum { HANDSHAKES = sizeof handshakes / sizeof *handshakes };

int main(void)
{
    static struct CMUnitTest row_tests[HANDSHAKES];
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_key_is_good),
        cmocka_unit_test(test_handshake),
        cmocka_unit_test(test_subprotocol),
    };
    for (size_t i = 0; i < HANDSHAKES; i++) {
        const struct CMUnitTest test = { handshakes[i].name, play_handshake, NULL, NULL,
                                         (void *)(uintptr_t)&handshakes[i] };
        row_tests[i] = test;
    }
    int failed = cmocka_run_group_tests_name("handshakes", row_tests, NULL, NULL);
    return failed + cmocka_run_group_tests_name("the rest", others, NULL, NULL);
}
