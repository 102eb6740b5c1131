/* What the server does not do once it runs: allocate for a request, call the system more than
   it must, keep buffers that nobody needs.  Counted where the header asks HSB_FAULT. */
#include <stddef.h>
#include <string.h>

static struct { int alloc, recv, send, watch; } counted;

static int count_call(const char *call, size_t *bytes)
{
    (void)bytes;
    counted.alloc += strcmp(call, "alloc") == 0;
    counted.recv += strcmp(call, "recv") == 0;
    counted.send += strcmp(call, "send") == 0;
    counted.watch += strcmp(call, "watch") == 0;
    return 0;
}

#define HSB_FAULT(call, count) count_call(call, count)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

static void hello(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond(req, 200, "text/plain", hsb_text("hello\n"));
}

static void exchange(client *c)
{
    answer a = ask(c, "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    assert_answer(a, 200, "hello\n");
}

/* --- requests ---------------------------------------------------------------------------- */
static void test_exchange(void **state)
{
    rig r = { .on_request = hello };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    exchange(c);
    memset(&counted, 0, sizeof counted);
    for (int i = 0; i < 100; i++)
        exchange(c);
    assert_int_equal(counted.alloc, 0);
    assert_int_equal(counted.watch, 0);
    assert_int_equal(counted.recv, 100);
    assert_int_equal(counted.send, 100);
    hang_up(c);
    rig_close(&r);
}

/* Buffers go round among them. */
static void test_many_clients(void **state)
{
    enum { CLIENTS = 40 };
    rig r = { .on_request = hello };
    client *c[CLIENTS];
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = dial(&r);
        exchange(c[i]);
    }
    memset(&counted, 0, sizeof counted);
    for (int i = 0; i < CLIENTS; i++)
        exchange(c[i]);
    assert_int_equal(counted.alloc, 0);
    assert_int_equal(counted.recv, CLIENTS);
    assert_int_equal(counted.send, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        hang_up(c[i]);
    rig_close(&r);
}

static void large(rig *r, hsb_request *req)
{
    static char bytes[140000];
    (void)r;
    hsb_str body = { bytes, sizeof bytes };
    hsb_respond(req, 200, "application/octet-stream", body);
}

/* Records go out by the three, 48 KiB at once. */
static void test_large_answer(void **state)
{
    rig r = { .on_request = large, .send_buffer = 1 << 20 };
    (void)state;
    rig_open(&r, NULL, true);
    client *c = dial(&r);
    memset(&counted, 0, sizeof counted);
    answer a = ask(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_true(a.whole);
    answer_free(&a);
    assert_int_equal(counted.send, 3);
    hang_up(c);
    rig_close(&r);
}

/* --- routes and formatted answers ---------------------------------------------------------- */
static hsb_str long_text;

static void show(hsb_request *req, void *user)
{
    hsb_str id = hsb_request_param(req, "id");
    (void)user;
    hsb_response_headerf(req, "X-Long", "%.*s", 1500, long_text.ptr);
    hsb_respondf(req, 200, "text/plain", "%.*s %.*s", (int)id.len, id.ptr, (int)long_text.len,
                 long_text.ptr);
}

static void lines(hsb_request *req, void *user)
{
    (void)user;
    hsb_response_begin(req, 200, -1);
    hsb_response_writef(req, "%.*s", (int)long_text.len, long_text.ptr);
    hsb_response_writef(req, "%d", 7);
    hsb_response_end(req);
}

static void page(hsb_request *req, void *user)
{
    hsb_content content = { .body = long_text, .gzip = long_text };
    (void)user;
    hsb_respond_content(req, &content);
}

static void who(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond_unauthorized(req, "a \"realm\"");
}

static void route(rig *r, hsb_request *req)
{
    static const hsb_route routes[] = {
        { "GET", "/users/:id", show }, { "GET", "/lines", lines }, { "GET", "/page", page },
        { "GET", "/who", who }, { 0 }
    };
    assert_true(hsb_request_route(req, routes, r));
}

static void log_it(rig *r, hsb_request *req, const hsb_error *why)
{
    char line[300];
    (void)r, (void)why;
    assert_true(hsb_request_log_line(req, line, sizeof line) > 0);
}

static void test_routes(void **state)
{
    static const char *const requests[][2] = {
        { "GET", "/users/%41" }, { "GET", "/users/abc" }, { "GET", "/lines" }, { "GET", "/page" },
        { "HEAD", "/page" }, { "GET", "/who" }, { "PUT", "/page" }, { "OPTIONS", "/page" }
    };
    rig r = { .on_request = route, .on_finish = log_it };
    char text[40001];
    memset(text, 'x', 40000);
    long_text = hsb__text_make(text, 40000);
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int round = 0; round < 3; round++) {
        memset(&counted, 0, sizeof counted);
        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
            answer a = ask_path(c, requests[i][0], requests[i][1], "Content-Length: 0\r\n");
            assert_true(a.whole);
            answer_free(&a);
        }
    }
    assert_int_equal(counted.alloc, 0);
    hang_up(c);
    rig_close(&r);
}

/* --- connections --------------------------------------------------------------------------- */
static void come_and_go(rig *r)
{
    client *c = dial(r);
    exchange(c);
    hang_up(c);
    turn_until(r, all_closed, "the end of a connection");
}

/* Memory of one that went serves the next.  A full handshake adds two sessions to the cache. */
static void test_come_and_go(void **state)
{
    rig r = { .on_request = hello };
    rig_open(&r, NULL, is_secure(state));
    come_and_go(&r);
    memset(&counted, 0, sizeof counted);
    for (int i = 0; i < 20; i++)
        come_and_go(&r);
    assert_int_equal(counted.alloc, is_secure(state) ? 40 : 0);
    rig_close(&r);
}

/* TLS 1.2, where a session may be used again and again. */
static client *resume(rig *r, SSL_SESSION *session)
{
    client *c = client_new(r, r->port, 0);
    c->ssl = SSL_new(client_tls());
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_max_proto_version(c->ssl, TLS1_2_VERSION);
    SSL_set_tlsext_host_name(c->ssl, "localhost");
    SSL_set_session(c->ssl, session);
    while (SSL_connect(c->ssl) != 1)
        client_wait(c, 1);
    assert_int_equal(SSL_session_reused(c->ssl), session != NULL);
    exchange(c);
    return c;
}

static void test_resume(void **state)
{
    rig r = { .on_request = hello };
    (void)state;
    rig_open(&r, NULL, true);
    client *c = resume(&r, NULL);
    SSL_SESSION *session = SSL_get1_session(c->ssl);
    hang_up(c);
    turn_until(&r, all_closed, "the end of a connection");
    memset(&counted, 0, sizeof counted);
    for (int i = 0; i < 20; i++) {
        hang_up(resume(&r, session));
        turn_until(&r, all_closed, "the end of a connection");
    }
    assert_int_equal(counted.alloc, 0);
    SSL_SESSION_free(session);
    rig_close(&r);
}

/* Two sessions, its own block, that of its TLS, the name that it asked for. */
static void test_one_more(void **state)
{
    enum { CLIENTS = 20 };
    rig r = { .on_request = hello };
    client *c[CLIENTS];
    rig_open(&r, NULL, is_secure(state));
    come_and_go(&r);
    memset(&counted, 0, sizeof counted);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = dial(&r);
        exchange(c[i]);
    }
    /* Two more: the arrays of the poll backend grow. */
    assert_within(counted.alloc, 1, CLIENTS * (is_secure(state) ? 5 : 1) + 2);
    for (int i = 0; i < CLIENTS; i++)
        hang_up(c[i]);
    rig_close(&r);
}

/* --- memory ----------------------------------------------------------------------------------- */
/* The idle hold no buffers, and what is kept for the next ones is bounded. */
static void test_idle(void **state)
{
    enum { CLIENTS = 200 };
    rig r = { .on_request = hello };
    client *c[CLIENTS];
    rig_open(&r, NULL, is_secure(state));
    come_and_go(&r);
    size_t before = hsb_server_memory(r.server);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = dial(&r);
        exchange(c[i]);
    }
    assert_within((hsb_server_memory(r.server) - before) / CLIENTS, 1, 8192);
    for (int i = 0; i < CLIENTS; i++)
        hang_up(c[i]);
    turn_until(&r, all_closed, "the end of all connections");
    assert_within(hsb_server_memory(r.server), 0,
                  before + HSB__POOL_KEEP + HSB__TLS12_KEEP * sizeof(hsb__tls12));
    rig_close(&r);
}


int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_exchange), BOTH(test_many_clients), cmocka_unit_test(test_large_answer),
        BOTH(test_routes), BOTH(test_come_and_go), cmocka_unit_test(test_resume),
        BOTH(test_one_more), BOTH(test_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
