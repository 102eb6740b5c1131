/* A field that is the first of its head counts like any other: each of those that we read, before
   the Host field.  And small promises of the API: cookies' attributes, PEM as a text. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "files_tree.h"

static answer ask_first(client *c, const char *path, const char *first)
{
    char text[500];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n%s\r\nHost: x\r\n\r\n", path, first);
    return ask(c, text);
}

static void test_conditions_first(void **state)
{
    static const struct { const char *path, *first; int status; const char *body; } rows[] = {
        { "/a.txt", "If-Match: \"x\"", 412, "" },
        { "/a.txt", "If-None-Match: *", 304, "" },
        { "/a.txt", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT", 304, "" },
        { "/a.txt", "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:39 GMT", 412, "" },
        { "/a.txt", "Range: bytes=2-4", 206, "234" },
        { "/a.txt", "If-Range: \"x\"\r\nRange: bytes=2-4", 200, "0123456789" },
        { "/app.js", "Accept-Encoding: gzip", 200, "pretend to be packed" },
    };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        answer a = ask_first(c, rows[i].path, rows[i].first);
        if (a.status != rows[i].status || strcmp(a.body, rows[i].body) != 0)
            fail_msg("%s -> %d %s", rows[i].first, a.status, a.body);
        answer_free(&a);
    }
    hang_up(c);
    rig_close(&r);
}

static void test_connection_first(void **state)
{
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_first(c, "/a.txt", "Connection: close");
    assert_true(field_is(&a, "Connection", "close"));
    assert_answer(a, 200, "0123456789");
    hear_end(c);
    hang_up(c);
    rig_close(&r);
}

/* --- upgrades ------------------------------------------------------------------------------- */

static void answer_upgrade(rig *r, hsb_request *req)
{
    static const hsb_stream_hooks hooks = { 0 };
    static const hsb_websocket_hooks sockets = { 0 };
    (void)r;
    if (path_is(req, "/ws")) {
        hsb_request_websocket(req, &sockets);
        return;
    }
    hsb_stream *s = hsb_request_detach(req, 101, &hooks);
    assert_non_null(s);
    hsb_stream_close(s, false);
}

static void test_upgrade_first(void **state)
{
#define WS "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n" \
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    static const struct { const char *path, *first; int status; } rows[] = {
        { "/", "Upgrade: x\r\nConnection: upgrade", 101 },
        { "/", "Connection: upgrade\r\nUpgrade: x", 101 },
        { "/ws", WS, 101 },
        { "/ws", "Sec-WebSocket-Protocol: a\r\n" WS, 101 },
        { "/ws", "Sec-WebSocket-Protocol: (\r\n" WS, 400 },
        { "/ws", "Sec-WebSocket-Extensions: a; b=1\r\n" WS, 101 },
        { "/ws", "Sec-WebSocket-Extensions: a;\r\n" WS, 400 },
        { "/ws", "Sec-WebSocket-Version: 13\r\n" WS, 400 },           /* twice */
        { "/ws", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" WS, 400 },
        { "/ws", "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 101 },
        { "/ws", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "Connection: upgrade\r\nUpgrade: websocket", 101 },
        { "/ws", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                 "Connection: upgrade\r\nUpgrade: websocket", 101 },
    };
    rig r = { .on_request = answer_upgrade };
    rig_open(&r, NULL, is_secure(state));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        client *c = dial(&r);
        answer a = ask_first(c, rows[i].path, rows[i].first);
        if (a.status != rows[i].status)
            fail_msg("%s -> %d %s", rows[i].first, a.status, a.body);
        answer_free(&a);
        cut_off(c);
    }
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

/* --- cookies (RFC 6265 4.1.1: av-octet) ------------------------------------------------------- */

static void answer_paths(rig *r, hsb_request *req)
{
    char path[] = "/?";
    (void)r;
    for (int c = 1; c < 256; c++) {
        hsb_cookie by_path = { .name = "p", .value = "1", .path = path };
        hsb_cookie by_domain = { .name = "d", .value = "1", .domain = path };
        path[1] = (char)c;
        bool good = c >= ' ' && c != 0x7F && c != ';';
        if (hsb_response_cookie(req, &by_path) != good || hsb_response_cookie(req, &by_domain) != good)
            fail_msg("byte %d", c);
    }
    hsb_respond(req, 200, NULL, hsb_text("ok"));
}

static void test_cookie_attributes(void **state)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    rig r = { .on_request = answer_paths };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    hear_until(c, "\r\n\r\nok");
    assert_non_null(strstr(c->got, "\r\nSet-Cookie: p=1; Path=/~; SameSite"));
    assert_non_null(strstr(c->got, "\r\nSet-Cookie: d=1; Domain=/~; SameSite"));
    assert_null(strchr(c->got, 0x7F));
    hang_up(c);
    rig_close(&r);
}

/* --- PEM as a text ----------------------------------------------------------------------------- */

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = calloc(1, 65536);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, f) > 0);
    fclose(f);
    return text;
}

static void test_pem_text(void **state)
{
    (void)state;
    char *chain = read_all("tests/data/server-p256.pem"), *key = read_all("tests/data/server-p256.key");
    hsb_security_desc desc;
    hsb_error err;
    memset(&desc, 0, sizeof desc);
    desc.identity.chain = hsb_pem_text(chain);
    desc.identity.key = hsb_pem_text(key);
    assert_null(desc.identity.chain.path);
    assert_ptr_equal(desc.identity.chain.text.ptr, chain);
    assert_int_equal(desc.identity.chain.text.len, strlen(chain));
    hsb_security *security = hsb_security_new(&desc, &err);
    if (!security)
        fail_msg("%s", err.text);
    assert_memory_equal(hsb_security_sha256(security), hsb_security_sha256(rig_security()), 32);
    hsb_security_free(security);
    free(chain);
    free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_conditions_first), BOTH(test_connection_first), BOTH(test_upgrade_first),
        BOTH(test_cookie_attributes), PLAIN(test_pem_text),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
