/* Misuse: every public function with NULL for each of its pointers, and in states where it
   must not be called.  It does nothing, returns zero, false, absent or NULL, and says what
   was wrong: to HSB_ASSERT, and with assertions off in an hsb_error or to on_error.

   Two programs include this after httpsbind.h: live/misuse.c has assertions off, and
   live/misuse_told.c has an HSB_ASSERT that remembers.  tests/check/header.sh sees to it that
   no public function is missing here. */
#ifndef TESTS_MISUSE_H
#define TESTS_MISUSE_H

#include "../client.h"

/* The text of the one assertion that failed since the last call; "" if none did. */
static void asserted(char *out, size_t size);
static const bool asserts_are_on;

static void must_have_asserted(const char *text)
{
    char found[400];
    asserted(found, sizeof found);
    if (asserts_are_on && !strstr(found, text))
        fail_msg("asserted: %s\n      instead of: %s", found, text);
    if (!asserts_are_on || !*text)
        assert_string_equal(found, "");
}

/* good is what the call must return. */
#define WRONG(good, said) \
    do { \
        assert_true(good); \
        must_have_asserted("\"" said "\""); \
    } while (0)

/* ... and it fills err. */
#define REFUSED(good, err, said) \
    do { \
        memset(&(err), 0, sizeof(err)); \
        WRONG(good, said); \
        assert_int_equal((err).status, HSB_ERR_MISUSE); \
        assert_string_equal((err).text, said); \
    } while (0)

/* ... and on_error of this rig hears of it, once. */
#define TOLD(r, good, said) \
    do { \
        int before = (r)->errors; \
        WRONG(good, said); \
        assert_int_equal((r)->errors, before + 1); \
        assert_int_equal((r)->told.status, HSB_ERR_MISUSE); \
        assert_string_equal((r)->told.text, said); \
    } while (0)

/* ... no misuse at all. */
#define FINE(good) \
    do { \
        assert_true(good); \
        must_have_asserted(""); \
    } while (0)

static bool is_absent(hsb_str s)
{
    return s.ptr == NULL && s.len == 0;
}

static bool is_zero(const void *bytes, size_t len)
{
    const char *b = bytes;
    while (len > 0 && b[len - 1] == 0)
        len--;
    return len == 0;
}

static bool is_no_address(hsb_address a)
{
    return a.family == HSB_FAMILY_ANY && a.port == 0;
}

/* --- without an object --------------------------------------------------------------------- */
static void no_object(void **state)
{
    char buf[HSB_ADDRESS_TEXT_MAX] = "as it was";
    hsb_str absent = { NULL, 0 }, text = hsb_text("a=b"), other = absent;
    hsb_address a = hsb_address_text(NULL, NULL) ? (hsb_address){ 0 } : (hsb_address){ .port = 7 };
    size_t len = 7;
    hsb_error err;
    (void)state;
    must_have_asserted("\"hsb_address_text: a or buf is NULL\"");
    FINE(is_absent(hsb_text(NULL)));
    FINE(hsb_pem_file(NULL).path == NULL && is_absent(hsb_pem_text(NULL).text));
    FINE(hsb_status_text((hsb_status)-1) != NULL);
    WRONG(!hsb_equal(absent, NULL), "hsb_equal: b is NULL");
    WRONG(!hsb_equal_nocase(absent, NULL), "hsb_equal_nocase: b is NULL");
    WRONG(!hsb_address_parse(NULL, "::1"), "hsb_address_parse: out or numeric is NULL");
    WRONG(!hsb_address_parse(&a, NULL), "hsb_address_parse: out or numeric is NULL");
    assert_int_equal(a.port, 7);
    WRONG(!hsb_address_text(NULL, buf), "hsb_address_text: a or buf is NULL");
    WRONG(!hsb_address_text(&a, NULL), "hsb_address_text: a or buf is NULL");
    assert_string_equal(buf, "as it was");
#define LOOKUP "hsb_lookup: host or out is NULL, max is below 1, or family is HSB_UNIX"
    REFUSED(hsb_lookup(NULL, HSB_FAMILY_ANY, &a, 1, &err) == 0, err, LOOKUP);
    REFUSED(hsb_lookup("127.0.0.1", HSB_FAMILY_ANY, NULL, 1, &err) == 0, err, LOOKUP);
    REFUSED(hsb_lookup("127.0.0.1", HSB_FAMILY_ANY, &a, 0, &err) == 0, err, LOOKUP);
    WRONG(hsb_lookup(NULL, HSB_FAMILY_ANY, NULL, 0, NULL) == 0, LOOKUP);
    WRONG(!hsb_percent_decode(text, false, NULL, 7, &len), "hsb_percent_decode: buf is NULL");
    assert_int_equal(len, 0);
    FINE(hsb_percent_decode(text, false, buf, sizeof buf, NULL));
    assert_string_equal(buf, "a=b");
#define FORM "hsb_form_next: rest, name or value is NULL"
    WRONG(!hsb_form_next(NULL, &other, &other), FORM);
    WRONG(!hsb_form_next(&text, NULL, &other), FORM);
    WRONG(!hsb_form_next(&text, &other, NULL), FORM);
    assert_true(hsb_equal(text, "a=b"));
}

static void no_security(void **state)
{
    hsb_security_desc desc = { .self_signed_for = "localhost", .identity_count = 1 };
    hsb_error err;
    (void)state;
    hsb_security_free(NULL);
    REFUSED(!hsb_security_new(NULL, &err), err, "hsb_security_new: desc is NULL");
    WRONG(!hsb_security_new(NULL, NULL), "hsb_security_new: desc is NULL");
    REFUSED(!hsb_security_new(&desc, &err), err,
            "hsb_security_new: identity_count without identities");
    WRONG(!hsb_security_sha256(NULL), "hsb_security_sha256: security is NULL");
    WRONG(is_absent(hsb_security_pem(NULL)), "hsb_security_pem: security is NULL");
}

/* --- server -------------------------------------------------------------------------------- */
static void never(hsb_server *server, void *arg)
{
    (void)server;
    (void)arg;
    fail_msg("this was not to be called");
}

static void no_server(void **state)
{
    hsb_error err;
    hsb_options options;
    hsb_connections counts;
    hsb_address a = { .family = HSB_IPV4, .bytes = { 127, 0, 0, 1 } };
    (void)state;
    REFUSED(!hsb_bind(NULL, 0, NULL, &err), err, "hsb_bind: host is NULL");
#define BIND "hsb_bind_secure: host or security is NULL"
    REFUSED(!hsb_bind_secure(NULL, 0, rig_security(), NULL, &err), err, BIND);
    REFUSED(!hsb_bind_secure("127.0.0.1", 0, NULL, NULL, &err), err, BIND);
#define BIND_AT "hsb_bind_secure_at: address or security is NULL"
    REFUSED(!hsb_bind_secure_at(NULL, rig_security(), NULL, &err), err, BIND_AT);
    REFUSED(!hsb_bind_secure_at(&a, NULL, NULL, &err), err, BIND_AT);
    REFUSED(!hsb_bind_secure_fd(0, NULL, NULL, &err), err,
            "hsb_bind_secure_fd: security is NULL");
    WRONG(!hsb_bind_secure_fd(0, NULL, NULL, NULL), "hsb_bind_secure_fd: security is NULL");
    REFUSED(hsb_server_listen(NULL, "127.0.0.1", 0, NULL, &err) == -1, err,
            "hsb_server_listen: server or host is NULL");
    REFUSED(hsb_server_listen_at(NULL, &a, NULL, &err) == -1, err,
            "hsb_server_listen_at: server or address is NULL");
    REFUSED(hsb_server_listen_fd(NULL, 0, NULL, &err) == -1, err,
            "hsb_server_listen_fd: server is NULL");
    REFUSED(!hsb_server_run(NULL, &err), err, "hsb_server_run: server is NULL");
    WRONG(hsb_server_poll(NULL, 0) == -1, "hsb_server_poll: server is NULL");
    WRONG(hsb_server_fd(NULL) == -1, "hsb_server_fd: server is NULL");
    WRONG(hsb_server_timeout(NULL) == -1, "hsb_server_timeout: server is NULL");
    WRONG((hsb_server_close(NULL, true), true), "hsb_server_close: server is NULL");
    WRONG((hsb_server_wake(NULL), true), "hsb_server_wake: server is NULL");
    FINE((hsb_server_free(NULL), true));
    WRONG((hsb_server_set_user(NULL, &err), true), "hsb_server_set_user: server is NULL");
    WRONG(!hsb_server_user(NULL), "hsb_server_user: server is NULL");
    WRONG(is_no_address(hsb_server_address(NULL, 0)), "hsb_server_address: server is NULL");
    WRONG(hsb_server_port(NULL) == 0, "hsb_server_port: server is NULL");
    WRONG((options = hsb_server_options(NULL), is_zero(&options, sizeof options)),
          "hsb_server_options: server is NULL");
    REFUSED(!hsb_server_set_security(NULL, 0, rig_security(), &err), err,
            "hsb_server_set_security: server or security is NULL");
    WRONG(!hsb_server_closing(NULL), "hsb_server_closing: server is NULL");
    WRONG((counts = hsb_server_connections(NULL), is_zero(&counts, sizeof counts)),
          "hsb_server_connections: server is NULL");
    WRONG(hsb_server_memory(NULL) == 0, "hsb_server_memory: server is NULL");
    WRONG(!hsb_server_post(NULL, 0, never, NULL), "hsb_server_post: server or fn is NULL");
    WRONG(hsb_serve(NULL) == 1, "hsb_serve: desc is NULL");
}

static void a_server_and_half_of_the_rest(void **state)
{
    rig r = { 0 };
    hsb_error err;
    (void)state;
    rig_open(&r, NULL, true);
    REFUSED(hsb_server_listen(r.server, NULL, 0, NULL, &err) == -1, err,
            "hsb_server_listen: server or host is NULL");
    REFUSED(hsb_server_listen_at(r.server, NULL, NULL, &err) == -1, err,
            "hsb_server_listen_at: server or address is NULL");
    REFUSED(!hsb_server_set_security(r.server, -1, NULL, &err), err,
            "hsb_server_set_security: server or security is NULL");
#define LISTENER "hsb_server_set_security: no such listener"
    REFUSED(!hsb_server_set_security(r.server, 1, rig_security(), &err), err, LISTENER);
    REFUSED(!hsb_server_set_security(r.server, -2, rig_security(), &err), err, LISTENER);
    WRONG(!hsb_server_post(r.server, 0, NULL, NULL), "hsb_server_post: server or fn is NULL");
    FINE(is_no_address(hsb_server_address(r.server, 1)));
    FINE(is_no_address(hsb_server_address(r.server, -1)));
    turns(&r, 2);
    rig_close(&r);
}

/* Everything may still be asked of a server that is closed, but it does nothing more. */
static void a_closed_server(void **state)
{
    rig r = { 0 };
    hsb_error err;
    (void)state;
    rig_open(&r, NULL, false);
    hsb_server_close(r.server, true);
    while (turn(&r, 0))
        ;
    FINE(hsb_server_poll(r.server, 0) == -1);
    FINE(hsb_server_run(r.server, &err));
    FINE(hsb_server_timeout(r.server) == 0);
    FINE(hsb_server_listen(r.server, "127.0.0.1", 0, NULL, &err) == -1);
    assert_int_equal(err.status, HSB_ERR_SHUTDOWN);
    FINE(hsb_server_port(r.server) == r.port);
    FINE(hsb_server_connections(r.server).total == 0);
    FINE((hsb_server_close(r.server, false), hsb_server_wake(r.server), true));
    rig_close(&r);
}

/* --- connection, request, response, with NULL ---------------------------------------------- */
static void no_connection(void **state)
{
    (void)state;
    WRONG(!hsb_conn_server(NULL), "hsb_conn_server: conn is NULL");
    WRONG(is_no_address(hsb_conn_peer(NULL)), "hsb_conn_peer: conn is NULL");
    WRONG(is_no_address(hsb_conn_local(NULL)), "hsb_conn_local: conn is NULL");
    WRONG(!hsb_conn_tls(NULL), "hsb_conn_tls: conn is NULL");
    WRONG(hsb_conn_id(NULL) == 0, "hsb_conn_id: conn is NULL");
    WRONG((hsb_conn_set_user(NULL, &state), true), "hsb_conn_set_user: conn is NULL");
    WRONG(!hsb_conn_user(NULL), "hsb_conn_user: conn is NULL");
    WRONG((hsb_conn_close(NULL, true), true), "hsb_conn_close: conn is NULL");
}

static void never_request(hsb_request *req, void *arg)
{
    (void)req;
    (void)arg;
    fail_msg("this was not to be called");
}

static void never_stream(hsb_stream *stream, void *arg)
{
    (void)stream;
    (void)arg;
    fail_msg("this was not to be called");
}

static void no_request(void **state)
{
    hsb_str s;
    (void)state;
    WRONG(!hsb_request_conn(NULL), "hsb_request_conn: req is NULL");
    WRONG(is_absent(hsb_request_method(NULL)), "hsb_request_method: req is NULL");
    WRONG(is_absent(hsb_request_target(NULL)), "hsb_request_target: req is NULL");
    WRONG(is_absent(hsb_request_host(NULL)), "hsb_request_host: req is NULL");
    WRONG(is_absent(hsb_request_path(NULL)), "hsb_request_path: req is NULL");
    WRONG(is_absent(hsb_request_query(NULL)), "hsb_request_query: req is NULL");
    WRONG(hsb_request_minor_version(NULL) == 0, "hsb_request_minor_version: req is NULL");
    WRONG(is_absent(hsb_request_header(NULL, "a")), "hsb_request_header: req or name is NULL");
    WRONG(!hsb_request_header_at(NULL, 0, &s, &s),
          "hsb_request_header_at: req, name or value is NULL");
    WRONG(!hsb_request_trailer_at(NULL, 0, &s, &s),
          "hsb_request_trailer_at: req, name or value is NULL");
    WRONG(is_absent(hsb_request_cookie(NULL, "a")), "hsb_request_cookie: req or name is NULL");
    WRONG(hsb_request_content_length(NULL) == 0, "hsb_request_content_length: req is NULL");
    WRONG((hsb_request_stream(NULL), true), "hsb_request_stream: req is NULL");
    WRONG(is_absent(hsb_request_body(NULL)), "hsb_request_body: req is NULL");
    WRONG(!hsb_request_keep_alive(NULL), "hsb_request_keep_alive: req is NULL");
    WRONG(hsb_request_received(NULL) == 0, "hsb_request_received: req is NULL");
    WRONG(hsb_request_age_us(NULL) == 0, "hsb_request_age_us: req is NULL");
    WRONG((hsb_request_pause(NULL), true), "hsb_request_pause: req is NULL");
    WRONG((hsb_request_resume(NULL), true), "hsb_request_resume: req is NULL");
    WRONG((hsb_request_set_user(NULL, &s), true), "hsb_request_set_user: req is NULL");
    WRONG(!hsb_request_user(NULL), "hsb_request_user: req is NULL");
    WRONG(!hsb_request_after(NULL, 0, never_request, NULL),
          "hsb_request_after: req or fn is NULL");
}

static void no_request_for_values(void **state)
{
    hsb_str s = hsb_text("x");
    (void)state;
    WRONG(!hsb_request_alloc(NULL, 1), "hsb_request_alloc: req is NULL");
    WRONG(is_absent(hsb_request_format(NULL, "x")), "hsb_request_format: req or format is NULL");
    WRONG(is_absent(hsb_request_html(NULL, s)), "hsb_request_html: req is NULL");
    WRONG(is_absent(hsb_request_percent(NULL, s)), "hsb_request_percent: req is NULL");
    WRONG(is_absent(hsb_request_query_value(NULL, "a")),
          "hsb_request_query_value: req or name is NULL");
    WRONG(is_absent(hsb_request_form_value(NULL, "a")),
          "hsb_request_form_value: req or name is NULL");
    WRONG(!hsb_request_is_type(NULL, "a/b"), "hsb_request_is_type: req or media_type is NULL");
    WRONG(!hsb_request_basic_auth(NULL, &s, &s),
          "hsb_request_basic_auth: req, user or password is NULL");
    WRONG(is_absent(hsb_request_safe_name(NULL, s)), "hsb_request_safe_name: req is NULL");
}

static void no_secrets(void **state)
{
    hsb_str absent = { NULL, 0 };
    (void)state;
    FINE(!hsb_equal_secret(absent, absent));
    FINE(hsb_random(NULL, 0));
    WRONG(!hsb_random(NULL, 1), "hsb_random: buf is NULL");
    WRONG(!hsb_token(NULL), "hsb_token: buf is NULL");
}

static void no_route(void **state)
{
    static const hsb_route routes[] = { { 0 } };
    (void)state;
#define ROUTE "hsb_request_route: req or routes is NULL, or the request is over"
    WRONG(!hsb_request_route(NULL, routes, NULL), ROUTE);
    WRONG(is_absent(hsb_request_param(NULL, "id")), "hsb_request_param: req or name is NULL");
    WRONG(!hsb_request_pattern(NULL), "hsb_request_pattern: req is NULL");
}

static void count(void *arg)
{
    ++*(int *)arg;
}

static void no_answer(void **state)
{
    const hsb_content content = { 0 };
    char line[8];
    (void)state;
    WRONG((hsb_respondf(NULL, 200, NULL, "a"), true), "hsb_respondf: req or format is NULL");
    WRONG(hsb_response_writef(NULL, "a") == HSB_FLOW_GONE,
          "hsb_response_writef: req or format is NULL");
    WRONG(!hsb_response_headerf(NULL, "A", "b"), "hsb_response_headerf: req, name or format is NULL");
    WRONG((hsb_respond_unauthorized(NULL, "r"), true),
          "hsb_respond_unauthorized: req or realm is NULL");
    WRONG((hsb_respond_content(NULL, &content), true),
          "hsb_respond_content: req or content is NULL");
    WRONG(hsb_request_log_line(NULL, line, sizeof line) == 0,
          "hsb_request_log_line: req or buf is NULL");
}

static void no_response(void **state)
{
    hsb_cookie cookie = { .name = "a" };
    hsb_stream_hooks stream = { 0 };
    hsb_websocket_hooks websocket = { 0 };
    hsb_str s = hsb_text("x");
    int released = 0;
    (void)state;
    WRONG(!hsb_response_header(NULL, "a", "b"), "hsb_response_header: req, name or value is NULL");
    WRONG(!hsb_response_cookie(NULL, &cookie),
          "hsb_response_cookie: req, cookie or its name is NULL");
    WRONG((hsb_respond(NULL, 200, NULL, s), true), "hsb_respond: req is NULL");
    WRONG((hsb_respond_owned(NULL, 200, NULL, s, count, &released), released == 1),
          "hsb_respond_owned: req is NULL");
    WRONG((hsb_respond_owned(NULL, 200, NULL, s, NULL, NULL), true),
          "hsb_respond_owned: req is NULL");
    WRONG((hsb_respond_redirect(NULL, 302, "/"), true),
          "hsb_respond_redirect: req or location is NULL");
    WRONG((hsb_respond_file(NULL, "/", NULL), true), "hsb_respond_file: req or path is NULL");
    WRONG((hsb_respond_dir(NULL, "/", s), true), "hsb_respond_dir: req or root is NULL");
    WRONG((hsb_response_begin(NULL, 200, -1), true), "hsb_response_begin: req is NULL");
    WRONG(hsb_response_write(NULL, s) == HSB_FLOW_GONE, "hsb_response_write: req is NULL");
    WRONG(hsb_response_flush(NULL) == HSB_FLOW_GONE, "hsb_response_flush: req is NULL");
    WRONG(!hsb_response_trailer(NULL, "a", "b"),
          "hsb_response_trailer: req, name or value is NULL");
    WRONG((hsb_response_end(NULL), true), "hsb_response_end: req is NULL");
    WRONG((hsb_response_close(NULL), true), "hsb_response_close: req is NULL");
    WRONG((hsb_response_abort(NULL), true), "hsb_response_abort: req is NULL");
    WRONG(hsb_response_status(NULL) == 0, "hsb_response_status: req is NULL");
    WRONG(hsb_response_bytes(NULL) == 0, "hsb_response_bytes: req is NULL");
    WRONG(!hsb_request_detach(NULL, 101, &stream), "hsb_request_detach: req or hooks is NULL");
    WRONG(!hsb_request_websocket(NULL, &websocket),
          "hsb_request_websocket: req or hooks is NULL");
}

static void no_ticket(void **state)
{
    hsb_ticket none = { NULL, 0 }, half = { NULL, 1 };
    (void)state;
    WRONG(hsb_request_defer(NULL).id == 0, "hsb_request_defer: req is NULL");
    WRONG(hsb_stream_ticket(NULL).id == 0, "hsb_stream_ticket: stream is NULL");
    for (int i = 0; i < 2; i++) {
        hsb_ticket t = i ? half : none;
        FINE(!hsb_ticket_resume(t, never_request, NULL));
        FINE(!hsb_stream_ticket_resume(t, never_stream, NULL));
        FINE((hsb_ticket_drop(t), true));
        WRONG(!hsb_ticket_resume(t, NULL, NULL), "hsb_ticket_resume: fn is NULL");
        WRONG(!hsb_stream_ticket_resume(t, NULL, NULL), "hsb_stream_ticket_resume: fn is NULL");
    }
}

static void no_stream(void **state)
{
    hsb_str s = hsb_text("x");
    (void)state;
    WRONG(!hsb_stream_conn(NULL), "hsb_stream_conn: stream is NULL");
    WRONG(hsb_stream_write(NULL, s) == HSB_FLOW_GONE, "hsb_stream_write: stream is NULL");
    WRONG(hsb_stream_flush(NULL) == HSB_FLOW_GONE, "hsb_stream_flush: stream is NULL");
    WRONG((hsb_stream_pause(NULL), true), "hsb_stream_pause: stream is NULL");
    WRONG((hsb_stream_resume(NULL), true), "hsb_stream_resume: stream is NULL");
    WRONG(!hsb_stream_after(NULL, 0, never_stream, NULL),
          "hsb_stream_after: stream or fn is NULL");
    WRONG((hsb_stream_close(NULL, true), true), "hsb_stream_close: stream is NULL");
    WRONG(!hsb_websocket_stream(NULL), "hsb_websocket_stream: ws is NULL");
    WRONG(!hsb_websocket_subprotocol(NULL), "hsb_websocket_subprotocol: ws is NULL");
    WRONG((hsb_websocket_set_user(NULL, &s), true), "hsb_websocket_set_user: ws is NULL");
    WRONG(hsb_websocket_send(NULL, true, s) == HSB_FLOW_GONE, "hsb_websocket_send: ws is NULL");
    WRONG(hsb_websocket_send_part(NULL, true, s, true) == HSB_FLOW_GONE,
          "hsb_websocket_send_part: ws is NULL");
    WRONG(hsb_websocket_ping(NULL, s) == HSB_FLOW_GONE, "hsb_websocket_ping: ws is NULL");
    WRONG((hsb_websocket_close(NULL, 1000, s), true), "hsb_websocket_close: ws is NULL");
}

/* --- a request that is there ---------------------------------------------------------------- */
#define ANSWERED(r, call, name) TOLD(r, call, name ": this request is answered already")

/* Each call that begins an answer, where none may begin. */
static void cannot_begin(rig *r, hsb_request *req)
{
    const hsb_content content = { 0 };
    hsb_stream_hooks stream = { 0 };
    hsb_websocket_hooks websocket = { 0 };
    hsb_str s = hsb_text("second");
    int released = 0;
    ANSWERED(r, (hsb_respond(req, 200, NULL, s), true), "hsb_respond");
    ANSWERED(r, (hsb_respond_owned(req, 200, NULL, s, count, &released), released == 1),
             "hsb_respond_owned");
    ANSWERED(r, (hsb_respond_redirect(req, 302, "/"), true), "hsb_respond_redirect");
    ANSWERED(r, (hsb_respond_file(req, "Makefile", NULL), true), "hsb_respond_file");
    ANSWERED(r, (hsb_respond_dir(req, ".", s), true), "hsb_respond_dir");
    ANSWERED(r, (hsb_response_begin(req, 200, -1), true), "hsb_response_begin");
    ANSWERED(r, (hsb_respondf(req, 200, NULL, "%d", 2), true), "hsb_respondf");
    ANSWERED(r, (hsb_respond_unauthorized(req, "r"), true), "hsb_respond_unauthorized");
    ANSWERED(r, (hsb_respond_content(req, &content), true), "hsb_respond_content");
    FINE(!hsb_response_headerf(req, "A", "%d", 2));
    ANSWERED(r, !hsb_request_detach(req, 101, &stream), "hsb_request_detach");
    ANSWERED(r, !hsb_request_websocket(req, &websocket), "hsb_request_websocket");
    FINE(!hsb_response_header(req, "A", "b"));
}

/* Each call that goes on with an answer, where none was begun. */
static void cannot_write(rig *r, hsb_request *req)
{
    hsb_str s = hsb_text("more");
    TOLD(r, hsb_response_write(req, s) == HSB_FLOW_GONE,
         "hsb_response_write: not between hsb_response_begin and _end");
    TOLD(r, hsb_response_flush(req) == HSB_FLOW_GONE,
         "hsb_response_flush: not between hsb_response_begin and _end");
    TOLD(r, hsb_response_writef(req, "%d", 2) == HSB_FLOW_GONE,
         "hsb_response_writef: not between hsb_response_begin and _end");
    TOLD(r, (hsb_response_end(req), true),
         "hsb_response_end: no answer was begun, or it is ended already");
}

/* Each call that takes a request and another pointer, without that. */
static void half_of_a_request(rig *r, hsb_request *req)
{
    hsb_cookie nameless = { .value = "a" };
    const char *volatile no_format = NULL;      /* which the compiler would see            */
    hsb_str s;
    TOLD(r, is_absent(hsb_request_header(req, NULL)), "hsb_request_header: req or name is NULL");
    TOLD(r, is_absent(hsb_request_cookie(req, NULL)), "hsb_request_cookie: req or name is NULL");
#define AT(name) name ": req, name or value is NULL"
    TOLD(r, !hsb_request_header_at(req, 0, NULL, &s), AT("hsb_request_header_at"));
    TOLD(r, !hsb_request_header_at(req, 0, &s, NULL), AT("hsb_request_header_at"));
    TOLD(r, !hsb_request_trailer_at(req, 0, NULL, &s), AT("hsb_request_trailer_at"));
    TOLD(r, !hsb_request_trailer_at(req, 0, &s, NULL), AT("hsb_request_trailer_at"));
    TOLD(r, !hsb_request_after(req, 0, NULL, NULL), "hsb_request_after: req or fn is NULL");
    TOLD(r, !hsb_response_header(req, NULL, "b"), AT("hsb_response_header"));
    TOLD(r, !hsb_response_header(req, "A", NULL), AT("hsb_response_header"));
    TOLD(r, !hsb_response_trailer(req, NULL, "b"), AT("hsb_response_trailer"));
    TOLD(r, !hsb_response_trailer(req, "A", NULL), AT("hsb_response_trailer"));
#define COOKIE "hsb_response_cookie: req, cookie or its name is NULL"
    TOLD(r, !hsb_response_cookie(req, NULL), COOKIE);
    TOLD(r, !hsb_response_cookie(req, &nameless), COOKIE);
    TOLD(r, (hsb_respond_redirect(req, 302, NULL), true),
         "hsb_respond_redirect: req or location is NULL");
    TOLD(r, (hsb_respond_file(req, NULL, NULL), true),
         "hsb_respond_file: req or path is NULL");
    TOLD(r, (hsb_respond_dir(req, NULL, s), true), "hsb_respond_dir: req or root is NULL");
    TOLD(r, !hsb_request_detach(req, 101, NULL), "hsb_request_detach: req or hooks is NULL");
    TOLD(r, !hsb_request_websocket(req, NULL), "hsb_request_websocket: req or hooks is NULL");
#define BASIC "hsb_request_basic_auth: req, user or password is NULL"
    TOLD(r, !hsb_request_route(req, NULL, NULL), ROUTE);
    TOLD(r, is_absent(hsb_request_param(req, NULL)), "hsb_request_param: req or name is NULL");
    TOLD(r, (hsb_respondf(req, 200, NULL, no_format, 0), true),
         "hsb_respondf: req or format is NULL");
    TOLD(r, hsb_response_writef(req, no_format, 0) == HSB_FLOW_GONE,
         "hsb_response_writef: req or format is NULL");
#define HEADERF "hsb_response_headerf: req, name or format is NULL"
    TOLD(r, !hsb_response_headerf(req, NULL, "b"), HEADERF);
    TOLD(r, !hsb_response_headerf(req, "A", no_format, 0), HEADERF);
    TOLD(r, (hsb_respond_unauthorized(req, NULL), true),
         "hsb_respond_unauthorized: req or realm is NULL");
    TOLD(r, (hsb_respond_content(req, NULL), true), "hsb_respond_content: req or content is NULL");
    TOLD(r, hsb_request_log_line(req, NULL, 1) == 0, "hsb_request_log_line: req or buf is NULL");
    TOLD(r, is_absent(hsb_request_format(req, no_format, 0)),
         "hsb_request_format: req or format is NULL");
    TOLD(r, is_absent(hsb_request_query_value(req, NULL)),
         "hsb_request_query_value: req or name is NULL");
    TOLD(r, is_absent(hsb_request_form_value(req, NULL)),
         "hsb_request_form_value: req or name is NULL");
    TOLD(r, !hsb_request_is_type(req, NULL), "hsb_request_is_type: req or media_type is NULL");
    TOLD(r, !hsb_request_basic_auth(req, &s, NULL), BASIC);
    TOLD(r, !hsb_request_basic_auth(req, NULL, &s), BASIC);
    assert_int_equal(hsb_response_status(req), 0);
}

static void misuse_in_request(rig *r, hsb_request *req)
{
    hsb_error err;
    half_of_a_request(r, req);
    TOLD(r, (hsb_request_stream(req), true), "hsb_request_stream: not called from on_head");
    TOLD(r, hsb_server_poll(r->server, 0) == 0, "hsb_server_poll: called from a hook");
    TOLD(r, (hsb_server_free(r->server), true), "hsb_server_free: called from a hook");
    REFUSED(!hsb_server_run(r->server, &err), err, "hsb_server_run: called from a hook");
    cannot_write(r, req);
    FINE((hsb_response_begin(req, 200, -1), true));
    cannot_begin(r, req);
    FINE(hsb_response_write(req, hsb_text("the only ")) == HSB_FLOW_GO);
    FINE(hsb_response_write(req, hsb_text("answer")) == HSB_FLOW_GO);
    FINE((hsb_response_end(req), true));
    cannot_begin(r, req);
    cannot_write(r, req);
    FINE(!hsb_response_trailer(req, "A", "b"));
}

static void misuse_in_finish(rig *r, hsb_request *req, const hsb_error *why)
{
    static const hsb_route routes[] = { { 0 } };
    assert_null(why);
    cannot_begin(r, req);
    cannot_write(r, req);
    TOLD(r, !hsb_request_route(req, routes, NULL), ROUTE);
    FINE(!hsb_request_after(req, 0, never_request, NULL));
    FINE(hsb_response_status(req) == 200);
}

/* In every state the client gets its one answer, and the next request its own. */
static void an_answered_request(void **state)
{
    rig r = { .on_request = misuse_in_request, .on_finish = misuse_in_finish };
    (void)state;
    rig_open(&r, NULL, false);
    client *c = dial(&r);
    for (int i = 0; i < 2; i++) {
        answer a = ask_path(c, "GET", "/", "");
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, "the only answer");
        answer_free(&a);
    }
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    assert_int_equal(r.finishes, 2);
    rig_close(&r);
}

/* What the peer or the application itself has ended is no misuse. */
static void go_on_after_abort(rig *r, hsb_request *req)
{
    hsb_str s = hsb_text("late");
    (void)r;
    FINE((hsb_response_abort(req), true));
    FINE((hsb_respond(req, 200, NULL, s), true));
    FINE((hsb_response_begin(req, 200, -1), true));
    FINE(hsb_response_write(req, s) == HSB_FLOW_GONE);
    FINE((hsb_response_end(req), true));
}

static void an_aborted_request(void **state)
{
    rig r = { .on_request = go_on_after_abort };
    (void)state;
    rig_open(&r, NULL, false);
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    hear_end(c);
    client_free(c);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

/* --- forms ---------------------------------------------------------------------------------- */
#define MULTIPART "hsb_request_multipart: "
#define NEXT_PART "hsb_request_next_part: "
#define NO_BODY NEXT_PART "no kept body, or not its rest"

/* The path "/kept" is the one whose body is kept. */
static void forms_in_head(rig *r, hsb_request *req)
{
    const hsb_multipart_hooks hooks = { 0 };
    hsb_str rest = { 0 }, bytes;
    hsb_part part;
    TOLD(r, !hsb_request_multipart(req, NULL), MULTIPART "req or hooks is NULL");
    TOLD(r, !hsb_request_next_part(req, &rest, &part, &bytes), NO_BODY);
    if (path_is(req, "/kept"))
        return;
    FINE(hsb_request_multipart(req, &hooks));
    TOLD(r, !hsb_request_multipart(req, &hooks), MULTIPART "called twice for this request");
    FINE((hsb_request_stream(req), true));
}

static void forms_in_request(rig *r, hsb_request *req)
{
    const hsb_multipart_hooks hooks = { 0 };
    hsb_str rest = { 0 }, foreign = hsb_text("--B--"), bytes;
    hsb_part part;
#define NULLS NEXT_PART "req, rest, part or bytes is NULL"
    TOLD(r, !hsb_request_next_part(req, NULL, &part, &bytes), NULLS);
    TOLD(r, !hsb_request_next_part(req, &rest, NULL, &bytes), NULLS);
    TOLD(r, !hsb_request_next_part(req, &rest, &part, NULL), NULLS);
    TOLD(r, !hsb_request_next_part(req, &foreign, &part, &bytes), NO_BODY);
    TOLD(r, !hsb_request_multipart(req, &hooks), MULTIPART "not called from on_head, or after the answer");
    if (path_is(req, "/kept"))
        FINE(!hsb_request_next_part(req, &rest, &part, &bytes));
    else
        TOLD(r, !hsb_request_next_part(req, &rest, &part, &bytes), NO_BODY);
    assert_int_equal(hsb_response_status(req), 0);
    hsb_respond(req, 200, NULL, hsb_text("whole"));
}

static void forms_in_finish(rig *r, hsb_request *req, const hsb_error *why)
{
    hsb_str rest = { 0 }, bytes;
    hsb_part part;
    assert_null(why);
    TOLD(r, !hsb_request_next_part(req, &rest, &part, &bytes), NO_BODY);
}

static void answer_and_take_a_form(rig *r, hsb_request *req)
{
    const hsb_multipart_hooks hooks = { 0 };
    hsb_respond(req, 200, NULL, hsb_text("early"));
    TOLD(r, !hsb_request_multipart(req, &hooks), MULTIPART "not called from on_head, or after the answer");
}

/* It is answered with 415: what the application still does comes too late. */
static void go_on_after_another_type(rig *r, hsb_request *req)
{
    const hsb_multipart_hooks hooks = { 0 };
    hsb_str rest = { 0 }, bytes;
    hsb_part part;
    (void)r;
    FINE(!hsb_request_multipart(req, &hooks));
    FINE(!hsb_request_multipart(req, &hooks));
    FINE(!hsb_request_next_part(req, &rest, &part, &bytes));
    FINE((hsb_respond(req, 200, NULL, hsb_text("late")), true));
}

static void post_form(rig *r, const char *path, const char *type, int status)
{
    char text[256];
    client *c = dial(r);
    snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
             "Content-Length: 5\r\n\r\n--B--", path, type);
    say(c, text);
    answer a = hear_answer(c, false);
    assert_int_equal(a.status, status);
    answer_free(&a);
    hang_up(c);
    turn_until(r, all_closed, "the end");
}

static void forms(void **state)
{
    rig r = { .on_head = forms_in_head, .on_request = forms_in_request, .on_finish = forms_in_finish };
    const hsb_multipart_hooks hooks = { 0 };
    hsb_str rest = { 0 }, bytes;
    hsb_part part;
    (void)state;
    WRONG(!hsb_request_multipart(NULL, &hooks), MULTIPART "req or hooks is NULL");
    WRONG(!hsb_request_next_part(NULL, &rest, &part, &bytes), NULLS);
    rig_open(&r, NULL, false);
    post_form(&r, "/", "multipart/form-data; boundary=B", 200);
    post_form(&r, "/kept", "multipart/form-data; boundary=B", 200);
    r.on_finish = NULL;
    r.on_head = answer_and_take_a_form;
    post_form(&r, "/", "multipart/form-data; boundary=B", 200);
    r.on_head = go_on_after_another_type;
    post_form(&r, "/", "text/plain", 415);
    rig_close(&r);
}

/* --- a connection that left HTTP ----------------------------------------------------------- */
static rig *of_stream;
static int stream_closes;

static void stream_data(hsb_stream *stream, hsb_str part, void *user)
{
    (void)user;
    TOLD(of_stream, !hsb_stream_after(stream, 0, NULL, NULL),
         "hsb_stream_after: stream or fn is NULL");
    FINE(hsb_stream_write(stream, part) == HSB_FLOW_GO);
    FINE((hsb_stream_close(stream, false), true));
    FINE(hsb_stream_write(stream, part) == HSB_FLOW_GONE);
    FINE(hsb_stream_flush(stream) == HSB_FLOW_GONE);
    FINE((hsb_stream_close(stream, false), true));
}

static void stream_closed(hsb_stream *stream, const hsb_error *why, void *user)
{
    (void)why;
    (void)user;
    stream_closes++;
    FINE(hsb_stream_write(stream, hsb_text("late")) == HSB_FLOW_GONE);
    FINE((hsb_stream_close(stream, true), true));
}

static void detach_and_go_on(rig *r, hsb_request *req)
{
    hsb_stream_hooks hooks = { .on_data = stream_data, .on_close = stream_closed };
    of_stream = r;
    assert_non_null(hsb_request_detach(req, 101, &hooks));
    cannot_begin(r, req);
    cannot_write(r, req);
    FINE(!hsb_response_trailer(req, "A", "b"));
    if (hsb_equal(hsb_request_path(req), "/abort"))
        FINE((hsb_response_abort(req), true));
}

static void a_detached_request(void **state)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: line\r\n\r\n",
        "GET /abort HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: line\r\n\r\n",
    };
    (void)state;
    for (int i = 0; i < 2; i++) {
        rig r = { .on_request = detach_and_go_on };
        stream_closes = 0;
        rig_open(&r, NULL, false);
        client *c = dial(&r);
        say(c, requests[i]);
        if (i == 0) {
            heard(c, hear_until(c, "\r\n\r\n"));
            say(c, "hello");
            hear_until(c, "hello");
            assert_int_equal(c->len, 5);        /* nothing of the calls that came too late */
        }
        hear_end(c);
        client_free(c);
        turn_until(&r, all_closed, "the end");
        assert_int_equal(stream_closes, 1);
        rig_close(&r);
    }
}

static void websocket_message(hsb_websocket *ws, bool text, hsb_str message, void *user)
{
    static char bytes[126];
    hsb_str long_ping = { bytes, sizeof bytes }, s = hsb_text("x");
    static const int codes[] = { 999, 1004, 1015, 2999, 5000, -1 };
    (void)text;
    (void)message;
    (void)user;
    TOLD(of_stream, hsb_websocket_ping(ws, long_ping) == HSB_FLOW_GONE,
         "hsb_websocket_ping: the payload is longer than 125 bytes");
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        TOLD(of_stream, (hsb_websocket_close(ws, codes[i], s), true),
             "hsb_websocket_close: no such code may be sent");
    FINE(hsb_websocket_send_part(ws, true, s, false) == HSB_FLOW_GO);
    TOLD(of_stream, hsb_websocket_send(ws, true, s) == HSB_FLOW_GONE,
         "hsb_websocket_send: the last part of another message is still to be sent");
    FINE(hsb_websocket_send_part(ws, true, s, true) == HSB_FLOW_GO);
    FINE(hsb_websocket_send(ws, true, s) == HSB_FLOW_GO);
    FINE((hsb_websocket_close(ws, 1000, s), true));
    FINE(hsb_websocket_send(ws, true, s) == HSB_FLOW_GONE);
}

static void open_websocket(rig *r, hsb_request *req)
{
    hsb_websocket_hooks hooks = { .on_message = websocket_message };
    of_stream = r;
    assert_non_null(hsb_request_websocket(req, &hooks));
    cannot_begin(r, req);
}

static void a_websocket(void **state)
{
    rig r = { .on_request = open_websocket };
    (void)state;
    rig_open(&r, NULL, false);
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    heard(c, hear_until(c, "\r\n\r\n"));
    say_bytes(c, "\x81\x80\0\0\0\0", 6);                /* an empty text */
    hear_len(c, 3 + 3 + 3 + 5);                         /* two parts, a message, a Close */
    assert_memory_equal(c->got, "\x01\x01x\x80\x01x\x81\x01x\x88\x03\x03\xe8x", 14);
    client_free(c);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

static int misuse_main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_object), cmocka_unit_test(no_security), cmocka_unit_test(no_server),
        cmocka_unit_test(a_server_and_half_of_the_rest), cmocka_unit_test(a_closed_server),
        cmocka_unit_test(no_connection), cmocka_unit_test(no_request),
        cmocka_unit_test(no_request_for_values), cmocka_unit_test(no_secrets),
        cmocka_unit_test(no_route), cmocka_unit_test(no_answer),
        cmocka_unit_test(no_response), cmocka_unit_test(no_ticket), cmocka_unit_test(no_stream),
        cmocka_unit_test(an_answered_request), cmocka_unit_test(an_aborted_request),
        cmocka_unit_test(forms),
        cmocka_unit_test(a_detached_request), cmocka_unit_test(a_websocket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
