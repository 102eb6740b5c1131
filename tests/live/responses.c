/* What a handler answers and what the client gets: framing, flow, early and late answers.
   Every test runs over plain TCP and over TLS.  LIVE_EARLY=10000 asks for more of the early
   answers. */
static int misuses;
#define HSB_ASSERT(condition) ((condition) ? (void)0 : (void)misuses++)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

/* --- whole answers ------------------------------------------------------------------------ */
enum { LARGE = 5000000 };

static void answer_whole(rig *r, hsb_request *req)
{
    static char large[LARGE];
    if (path_is(req, "/large")) {
        pattern_fill(large, 7, sizeof large);
        hsb_str body = { large, sizeof large };
        hsb_respond(req, 200, "application/octet-stream", body);
        memset(large, 0, sizeof large);                 /* it was copied */
    } else if (path_is(req, "/status")) {
        hsb_respond(req, *(int *)r->data, "text/plain", hsb_text("status\n"));
    } else if (path_is(req, "/empty")) {
        hsb_respond(req, 200, "text/plain", hsb_text(""));
    } else if (path_is(req, "/no-type")) {
        hsb_respond(req, 200, NULL, hsb_text("bare"));
    } else {
        hsb_respond(req, 200, "text/plain", hsb_text("hello\n"));
    }
}

static void test_respond(void **state)
{
    rig r = { .on_request = answer_whole };
    hsb_options o = { .server_header = "test/1" };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_memory_equal(a.head, "HTTP/1.1 200 OK\r\n", 17);
    assert_true(field_is(&a, "Content-Type", "text/plain"));
    assert_true(field_is(&a, "Content-Length", "6"));
    assert_true(field_is(&a, "Server", "test/1"));
    assert_null(field_of(&a, "Connection"));
    assert_answer(a, 200, "hello\n");
    a = ask_path(c, "GET", "/empty", "");
    assert_true(field_is(&a, "Content-Length", "0"));
    assert_answer(a, 200, "");
    a = ask_path(c, "GET", "/no-type", "");
    assert_null(field_of(&a, "Content-Type"));
    assert_answer(a, 200, "bare");
    a = ask_path(c, "GET", "/large", "");
    assert_int_equal(a.len, LARGE);
    assert_true(a.whole && pattern_fits(a.body, 7, LARGE));
    answer_free(&a);
    a = ask_path(c, "POST", "/", "Content-Length: 0\r\n");
    assert_answer(a, 200, "hello\n");
    assert_int_equal(r.accepts, 1);
    assert_int_equal(r.requests, 5);
    assert_int_equal(r.finishes, 5);
    hang_up(c);
    turn_until(&r, all_closed, "the connection's end");
    assert_int_equal(r.closed_with.status, HSB_OK);
    rig_close(&r);
}

static void test_statuses(void **state)
{
    static const struct { int asked, sent; const char *line; } rows[] = {
        { 200, 200, "HTTP/1.1 200 OK\r\n" },          { 201, 201, "HTTP/1.1 201 Created\r\n" },
        { 299, 299, "HTTP/1.1 299 \r\n" },            { 404, 404, "HTTP/1.1 404 Not Found\r\n" },
        { 999, 999, "HTTP/1.1 999 \r\n" },
        { 500, 500, "HTTP/1.1 500 Internal Server Error\r\n" },
        { 100, 500, NULL }, { 101, 500, NULL }, { 199, 500, NULL }, { 1000, 500, NULL },
        { 0, 500, NULL },   { -1, 500, NULL },
    };
    int status;
    rig r = { .on_request = answer_whole, .data = &status };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        status = rows[i].asked;
        answer a = ask_path(c, "GET", "/status", "");
        assert_int_equal(a.status, rows[i].sent);
        if (rows[i].line)
            assert_memory_equal(a.head, rows[i].line, strlen(rows[i].line));
        assert_true(a.whole);
        answer_free(&a);
    }
    hang_up(c);
    rig_close(&r);
}

/* HEAD, 204 and 304 have no body, whatever is written; the connection goes on after them. */
static void answer_bodiless(rig *r, hsb_request *req)
{
    int status = *(int *)r->data;
    if (path_is(req, "/whole")) {
        hsb_respond(req, status, "text/plain", hsb_text("not to be seen"));
    } else if (path_is(req, "/length")) {
        hsb_response_begin(req, status, 14);
        assert_int_equal(hsb_response_write(req, hsb_text("not to be seen")), HSB_FLOW_GO);
        hsb_response_end(req);
    } else if (path_is(req, "/chunks")) {
        hsb_response_begin(req, status, -1);
        hsb_response_write(req, hsb_text("not to "));
        hsb_response_write(req, hsb_text("be seen"));
        hsb_response_end(req);
    } else {
        hsb_response_begin(req, status, 14);            /* a HEAD handler need not write */
        hsb_response_end(req);
    }
}

static void test_bodiless(void **state)
{
    static const char *const paths[] = { "/whole", "/length", "/chunks", "/nothing" };
    static const struct { const char *method; int status; bool length; } rows[] = {
        { "HEAD", 200, true }, { "HEAD", 404, true }, { "GET", 204, false }, { "GET", 304, false },
        { "HEAD", 204, false }, { "POST", 204, false },
    };
    int status;
    rig r = { .on_request = answer_bodiless, .data = &status };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t p = 0; p < sizeof paths / sizeof *paths; p++) {
            status = rows[i].status;
            answer a = ask_path(c, rows[i].method, paths[p], "");
            assert_int_equal(a.status, rows[i].status);
            assert_int_equal(a.len, 0);
            bool chunks = strcmp(paths[p], "/chunks") == 0;
            assert_int_equal(fields_of(&a, "Content-Length"), rows[i].length && !chunks);
            assert_int_equal(fields_of(&a, "Transfer-Encoding"), rows[i].length && chunks);
            if (rows[i].length && !chunks)
                assert_true(field_is(&a, "Content-Length", "14"));
            answer_free(&a);
            assert_int_equal(c->len, 0);
        }
    }
    turns(&r, 3);
    assert_int_equal(hear_some(c), 0);                  /* not a byte behind the last */
    assert_int_equal(r.accepts, 1);
    assert_int_equal(r.finished_with.status, HSB_OK);
    hang_up(c);
    rig_close(&r);
}

/* --- in parts ----------------------------------------------------------------------------- */
static void answer_parts(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/chunks")) {
        hsb_response_begin(req, 200, -1);
        hsb_response_write(req, hsb_text("one,"));
        hsb_response_write(req, hsb_text(""));          /* no last chunk by mistake */
        hsb_response_write(req, hsb_text("two"));
        hsb_response_end(req);
    } else if (path_is(req, "/length")) {
        hsb_response_header(req, "Content-Type", "text/x-parts");
        hsb_response_begin(req, 200, 7);
        hsb_response_write(req, hsb_text("one,"));
        assert_int_equal(hsb_response_flush(req), HSB_FLOW_GO);
        hsb_response_write(req, hsb_text("two"));
        hsb_response_end(req);
    } else if (path_is(req, "/none")) {
        hsb_response_begin(req, 200, -1);
        hsb_response_end(req);
    } else if (path_is(req, "/zero")) {
        hsb_response_begin(req, 200, 0);
        hsb_response_end(req);
    } else if (path_is(req, "/short")) {
        hsb_response_begin(req, 200, 8);
        hsb_response_write(req, hsb_text("one,two"));
        hsb_response_end(req);
    } else if (path_is(req, "/long")) {
        hsb_response_begin(req, 200, 6);
        hsb_response_write(req, hsb_text("one,"));
        assert_int_equal(hsb_response_write(req, hsb_text("two")), HSB_FLOW_GONE);
        assert_int_equal(hsb_response_write(req, hsb_text("on")), HSB_FLOW_GONE);
        assert_int_equal(hsb_response_flush(req), HSB_FLOW_GONE);
        hsb_response_end(req);
    }
}

static void test_parts(void **state)
{
    rig r = { .on_request = answer_parts };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/chunks", "");
    assert_true(field_is(&a, "Transfer-Encoding", "chunked"));
    assert_answer(a, 200, "one,two");
    a = ask_path(c, "GET", "/length", "");
    assert_true(field_is(&a, "Content-Length", "7"));
    assert_true(field_is(&a, "Content-Type", "text/x-parts"));
    assert_answer(a, 200, "one,two");
    a = ask_path(c, "GET", "/none", "");
    assert_answer(a, 200, "");
    a = ask_path(c, "GET", "/zero", "");
    assert_answer(a, 200, "");
    assert_int_equal(r.finished_with.status, HSB_OK);
    assert_int_equal(r.accepts, 1);
    hang_up(c);
    rig_close(&r);
}

/* A promise that is not kept cuts the connection, and is told. */
static void test_promise_broken(void **state)
{
    static const char *const paths[] = { "/short", "/long" };
    rig r = { .on_request = answer_parts };
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < 2; i++) {
        client *c = dial(&r);
        answer a = ask_path(c, "GET", paths[i], "");
        assert_false(a.whole);
        assert_true(a.len < 8);
        answer_free(&a);
        assert_int_equal(r.finished_with.status, HSB_ERR_MISUSE);
        assert_int_equal(r.closed_with.status, HSB_ERR_MISUSE);
        assert_int_equal(r.told.status, HSB_ERR_MISUSE);
        assert_int_equal(r.errors, i + 1);
        hang_up(c);
    }
    rig_close(&r);
}

/* HTTP/1.0: never chunked, without a length the end is the close. */
static void test_http_1_0(void **state)
{
    rig r = { .on_request = answer_parts };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask(c, "GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_true(field_is(&a, "Connection", "keep-alive"));
    assert_answer(a, 200, "one,two");
    a = ask(c, "HEAD /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_answer(a, 200, "");
    a = ask(c, "GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_int_equal(fields_of(&a, "Transfer-Encoding"), 0);
    assert_true(field_is(&a, "Connection", "close"));
    assert_answer(a, 200, "one,two");
    assert_true(c->ended);
    hang_up(c);
    c = dial(&r);
    a = ask(c, "GET /length HTTP/1.0\r\n\r\n");
    assert_answer(a, 200, "one,two");
    hear_end(c);
    assert_true(c->ended && !c->reset);
    hang_up(c);
    turn_until(&r, all_closed, "ends");
    assert_int_equal(r.finished_with.status, HSB_OK);
    rig_close(&r);
}

/* --- fields ------------------------------------------------------------------------------- */
static void answer_fields(rig *r, hsb_request *req)
{
    static const char *const names[] = {
        "", "a b", "a:b", "a\r\nb", "\xC3\xA4", "a\t", "Content-Length", "content-length",
        "Transfer-Encoding", "CONNECTION", "Keep-Alive", "Date",
    };
    static const char *const values[] = { "a\r\nX-Evil: 1", "a\n", "\r", ("a\x01" "b"), "\x7F" };
    (void)r;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_false(hsb_response_header(req, names[i], "x"));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_false(hsb_response_header(req, "X-Value", values[i]));
    assert_true(hsb_response_header(req, "X-One", "1"));
    assert_true(hsb_response_header(req, "X-Many", "a\tb c"));
    assert_true(hsb_response_header(req, "X-Many", "\xE4\xF6"));
    assert_true(hsb_response_header(req, "X-Empty", ""));
    if (path_is(req, "/type")) {
        hsb_respond(req, 200, "text/plain\r\nX-Evil: 1", hsb_text("x"));
    } else if (path_is(req, "/begin")) {
        hsb_response_begin(req, 200, 2);
        assert_false(hsb_response_header(req, "X-Late", "1"));      /* the head is written */
        hsb_response_write(req, hsb_text("ok"));
        assert_false(hsb_response_header(req, "X-Late", "1"));
        hsb_response_end(req);
        assert_false(hsb_response_header(req, "X-Late", "1"));
    } else {
        hsb_respond(req, 200, "text/plain", hsb_text("ok"));
        assert_false(hsb_response_header(req, "X-Late", "1"));
    }
}

static void test_fields(void **state)
{
    rig r = { .on_request = answer_fields };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int i = 0; i < 2; i++) {
        answer a = ask_path(c, "GET", i ? "/begin" : "/", "");
        assert_true(field_is(&a, "X-One", "1"));
        assert_int_equal(fields_of(&a, "X-Many"), 2);
        assert_true(field_is(&a, "X-Many", "a\tb c"));
        assert_true(field_is(&a, "X-Empty", ""));
        assert_int_equal(fields_of(&a, "X-Value"), 0);
        assert_int_equal(fields_of(&a, "X-Late"), 0);
        assert_null(strstr(a.head, "Evil"));
        assert_answer(a, 200, "ok");
    }
    answer a = ask_path(c, "GET", "/type", "");
    assert_null(strstr(a.head, "Evil"));
    assert_int_equal(a.status, 500);
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
}

static void answer_redirect(rig *r, hsb_request *req)
{
    hsb_respond_redirect(req, *(int *)r->data,
                         path_is(req, "/evil") ? "/a\r\nX-Evil: 1" : "https://example.org/b?c");
}

static void test_redirect(void **state)
{
    static const int good[] = { 301, 302, 303, 307, 308 },
                     bad[] = { 200, 300, 304, 305, 306, 309, 404, 0 };
    int status;
    rig r = { .on_request = answer_redirect, .data = &status };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        status = good[i];
        answer a = ask_path(c, "GET", "/", "");
        assert_int_equal(a.status, status);
        assert_true(field_is(&a, "Location", "https://example.org/b?c"));
        answer_free(&a);
        a = ask_path(c, "GET", "/evil", "");
        assert_int_equal(a.status, 500);
        assert_null(strstr(a.head, "Evil"));
        answer_free(&a);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        status = bad[i];
        answer a = ask_path(c, "GET", "/", "");
        assert_int_equal(a.status, 500);
        assert_null(field_of(&a, "Location"));
        answer_free(&a);
    }
    hang_up(c);
    rig_close(&r);
}

static void answer_cookies(rig *r, hsb_request *req)
{
    static const hsb_cookie good[] = {
        { .name = "a", .value = "1" },
        { .name = "b",
          .value = "2",
          .path = "/x",
          .domain = "example.org",
          .max_age = 60,
          .same_site = HSB_SAME_SITE_STRICT },
        { .name = "c", .value = "", .max_age = -1, .for_scripts = true, .not_secure = true },
        { .name = "d", .same_site = HSB_SAME_SITE_NONE },
    };
    static const hsb_cookie bad[] = {
        { .name = "", .value = "1" },
        { .name = "a b", .value = "1" },
        { .name = "a=b", .value = "1" },
        { .name = "a", .value = "1;2" },
        { .name = "a", .value = "1 2" },
        { .name = "a", .value = "\"1\"" },
        { .name = "a", .value = "1,2" },
        { .name = "a", .value = "1\\2" },
        { .name = "a", .value = "\xE4" },
        { .name = "a", .value = "1\r\nX-Evil: 1" },
        { .name = "a\r\nX-Evil", .value = "1" },
        { .name = "a", .value = "1", .path = "/;Evil" },
        { .name = "a", .value = "1", .path = "/\r\nX-Evil: 1" },
        { .name = "a", .value = "1", .domain = "x\nEvil" },
        { .name = "a", .value = "1", .same_site = HSB_SAME_SITE_NONE, .not_secure = true },
    };
    (void)r;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(hsb_response_cookie(req, &good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(hsb_response_cookie(req, &bad[i]));
    hsb_respond(req, 200, "text/plain", hsb_request_cookie(req, "sent"));
    assert_false(hsb_response_cookie(req, &good[0]));
}

static void test_cookies(void **state)
{
    rig r = { .on_request = answer_cookies };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "Cookie: other=1; sent=back\r\n");
    assert_int_equal(fields_of(&a, "Set-Cookie"), 4);
    assert_non_null(strstr(a.head, "\r\nSet-Cookie: a=1; SameSite=Lax; Secure; HttpOnly\r\n"));
    assert_non_null(strstr(a.head, "\r\nSet-Cookie: b=2; Path=/x; Domain=example.org; Max-Age=60; "
                                   "SameSite=Strict; Secure; HttpOnly\r\n"));
    assert_non_null(strstr(a.head, "\r\nSet-Cookie: c=; Max-Age=0; SameSite=Lax\r\n"));
    assert_non_null(strstr(a.head, "\r\nSet-Cookie: d=; SameSite=None; Secure; HttpOnly\r\n"));
    assert_null(strstr(a.head, "Evil"));
    assert_answer(a, 200, "back");
    hang_up(c);
    rig_close(&r);
}

static void answer_trailers(rig *r, hsb_request *req)
{
    (void)r;
    assert_true(hsb_response_trailer(req, "X-Early", "1"));
    hsb_response_begin(req, 200, path_is(req, "/length") ? 4 : -1);
    hsb_response_write(req, hsb_text("body"));
    assert_false(hsb_response_trailer(req, "X-Evil", "1\r\nX-Other: 2"));
    assert_false(hsb_response_trailer(req, "Content-Length", "5"));
    static const char *const refused[] = {              /* RFC 9110 6.5.1 */
        "Content-Type", "content-encoding", "Content-Range", "Set-Cookie", "Authorization",
        "WWW-Authenticate", "Proxy-Authenticate", "Host", "Transfer-Encoding", "TE", "Trailer",
        "Cache-Control", "Expect", "Max-Forwards", "If-Match", "Range", "Location", "Vary", "Age",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (hsb_response_trailer(req, refused[i], "1"))
            fail_msg("%s went into the trailers", refused[i]);
    assert_true(hsb_response_trailer(req, "X-Sum", "abc"));
    hsb_response_end(req);
    assert_false(hsb_response_trailer(req, "X-Late", "1"));
}

/* What was borrowed in on_head stays where it is, whatever comes behind the body. */
static struct { hsb_str path, long_field; } borrowed;

static void borrow_from_head(rig *r, hsb_request *req)
{
    (void)r;
    borrowed.path = hsb_request_path(req);
    borrowed.long_field = hsb_request_header(req, "X-Long");
}

static void look_again(rig *r, hsb_request *req)
{
    hsb_str name, value;
    (void)r;
    assert_ptr_equal(hsb_request_path(req).ptr, borrowed.path.ptr);
    assert_ptr_equal(hsb_request_header(req, "X-Long").ptr, borrowed.long_field.ptr);
    assert_true(hsb_equal(borrowed.path, "/some/path"));
    assert_int_equal(strspn(borrowed.long_field.ptr, "x"), borrowed.long_field.len);
    assert_true(hsb_request_trailer_at(req, 0, &name, &value));
    assert_true(hsb_equal(name, "X-Sum") && value.len > 0 && value.ptr[0] == 'y');
    assert_false(hsb_request_trailer_at(req, 1, &name, &value));
    assert_false(hsb_request_header(req, "X-Sum").ptr);
    hsb_respond(req, 200, NULL, hsb_request_body(req));
}

static void test_borrowed_text_stays(void **state)
{
    static char filler[4000], text[20000];
    rig r = { .on_head = borrow_from_head, .on_request = look_again };
    memset(filler, 'x', sizeof filler);
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int length = 0; length < 900; length += 37) {
        int n = snprintf(text, sizeof text,             /* and two requests at once */
                         "POST /some/path HTTP/1.1\r\nHost: x\r\nX-Long: %.*s\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: y%.*s\r\n\r\n",
                         length, filler, length % 5 ? 3000 : 3, filler);
        memcpy(text + n, text, (size_t)n);
        say_bytes(c, text, 2 * (size_t)n);
        for (int i = 0; i < 2; i++) {
            answer a = hear_answer(c, false);
            assert_answer(a, 200, "ok");
        }
    }
    hang_up(c);
    rig_close(&r);
}

/* A ticket or a call for later that is asked for after the answer finds nobody. */
static void resumed_without(hsb_request *req, void *count)
{
    assert_null(req);
    ++*(int *)count;
}

static void never_called(hsb_request *req, void *arg)
{
    (void)req;
    (void)arg;
    fail_msg("called after the answer");
}

static void defer_after_the_answer(rig *r, hsb_request *req)
{
    static char large[8 << 20];
    hsb_str body = hsb_text("ok");
    if (path_is(req, "/large")) {
        body.ptr = large;
        body.len = sizeof large;
    }
    hsb_respond_owned(req, 200, NULL, body, NULL, NULL);
    assert_true(hsb_ticket_resume(hsb_request_defer(req), resumed_without, r->data));
    assert_false(hsb_request_after(req, 1, never_called, NULL));
}

static void defer_in_finish(rig *r, hsb_request *req, const hsb_error *why)
{
    (void)why;
    assert_true(hsb_ticket_resume(hsb_request_defer(req), resumed_without, r->data));
}

static void test_defer_after_the_answer(void **state)
{
    int count = 0;
    rig r = { .on_request = defer_after_the_answer, .on_finish = defer_in_finish, .data = &count };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "ok");
    a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "ok");
    turns(&r, 5);
    assert_int_equal(count, 4);
    hang_up(c);
    c = dial_narrow(&r);                                /* the answer is not out yet           */
    say(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    while (r.requests < 3)
        turn(&r, 1);
    turns(&r, 5);
    assert_int_equal(count, 5);
    assert_int_equal(r.finishes, 2);
    hang_up(c);
    rig_close(&r);
}

static void test_trailers(void **state)
{
    rig r = { .on_request = answer_trailers };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "TE: trailers\r\n");
    assert_string_equal(a.trailers, "X-Early: 1\r\nX-Sum: abc\r\n");
    assert_answer(a, 200, "body");
    a = ask_path(c, "GET", "/length", "");
    assert_answer(a, 200, "body");
    a = ask_path(c, "HEAD", "/", "");
    assert_answer(a, 200, "");
    assert_int_equal(c->len, 0);
    hang_up(c);
    rig_close(&r);
}

static void never(hsb_request *req, void *arg)
{
    (void)req;
    (void)arg;
    fail();
}

/* --- unanswered, twice, too late ---------------------------------------------------------- */
static void answer_not(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/dropped"))
        hsb_ticket_drop(hsb_request_defer(req));
    else if (path_is(req, "/begun"))
        hsb_response_begin(req, 200, 2);                /* is not "unanswered" */
    else if (path_is(req, "/twice")) {
        hsb_respond(req, 200, NULL, hsb_text("first"));
        hsb_respond(req, 200, NULL, hsb_text("second"));
        hsb_response_begin(req, 200, -1);
        assert_int_equal(hsb_response_write(req, hsb_text("third")), HSB_FLOW_GONE);
        hsb_response_end(req);
        hsb_respond_redirect(req, 302, "/");
        hsb_request_stream(req);
        hsb_websocket_hooks hooks = { .user = NULL };
        assert_null(hsb_request_websocket(req, &hooks));
    }
}

static void write_ok(rig *r, hsb_request *req, const hsb_error *why)
{
    (void)why;
    *(int64_t *)r->data = hsb_response_status(req) * 1000 + hsb_response_bytes(req);
}

static void test_unanswered(void **state)
{
    int64_t seen = 0;
    rig r = { .on_request = answer_not, .on_finish = write_ok, .data = &seen };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_int_equal(a.status, 500);
    assert_true(a.whole);
    assert_int_equal(seen, 500000 + (int64_t)a.len);
    answer_free(&a);
    a = ask_path(c, "GET", "/dropped", "");
    assert_int_equal(a.status, 500);
    answer_free(&a);
    assert_int_equal(misuses, 0);
    a = ask_path(c, "GET", "/twice", "");
    assert_answer(a, 200, "first");
    assert_int_equal(misuses, 7);
    misuses = 0;
    assert_int_equal(r.told.status, HSB_ERR_MISUSE);
    say(c, "GET /begun HTTP/1.1\r\nHost: x\r\n\r\n");
    size_t head = hear_until(c, "\r\n\r\n");
    turns(&r, 5);
    assert_int_equal(c->len, head);
    assert_non_null(r.req);
    hsb_response_write(r.req, hsb_text("ok"));          /* from outside of the loop, too */
    hsb_response_end(r.req);
    hear_until(c, "ok");
    assert_int_equal(seen, 200002);
    hang_up(c);
    rig_close(&r);
}

/* Not in on_finish any more: neither a first answer nor more of it. */
static void answer_at_the_end(rig *r, hsb_request *req, const hsb_error *why)
{
    hsb_stream_hooks hooks = { .user = NULL };
    (void)r;
    (void)why;
    hsb_respond(req, 200, NULL, hsb_text("late"));
    assert_int_equal(hsb_response_write(req, hsb_text("late")), HSB_FLOW_GONE);
    hsb_response_end(req);
    assert_null(hsb_request_detach(req, 101, &hooks));
    assert_false(hsb_request_after(req, 1, never, NULL));
    hsb_response_abort(req);
    hsb_ticket_drop(hsb_request_defer(req));
    assert_int_equal(hsb_request_target(req).ptr[0], '/');
}

static void leave_open(rig *r, hsb_request *req)
{
    (void)r;
    hsb_request_after(req, 60000, never, NULL);
    if (path_is(req, "/begun"))
        hsb_response_begin(req, 200, -1);
}

static void test_answer_in_finish(void **state)
{
    rig r = { .on_request = leave_open, .on_finish = answer_at_the_end };
    for (int i = 0; i < 2; i++) {
        rig_open(&r, NULL, is_secure(state));
        misuses = 0;
        client *c = dial(&r);
        say(c, i ? "GET /begun HTTP/1.1\r\nHost: x\r\n\r\n" : "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        while (r.requests <= i)
            turn(&r, 1);
        rig_close(&r);
        assert_int_equal(misuses, 4);
        hang_up(c);
    }
    misuses = 0;
}

/* --- answers before the body, and what becomes of the body -------------------------------- */
static void answer_in_head(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/stream"))
        hsb_request_stream(req);
    else if (!path_is(req, "/keep"))
        hsb_respond(req, 200, "text/plain", hsb_text("early"));
}

static void answer_length(rig *r, hsb_request *req)
{
    char text[64];
    (void)r;
    snprintf(text, sizeof text, "%lld", (long long)hsb_request_received(req));
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

static void test_answer_in_head(void **state)
{
    rig r = { .on_head = answer_in_head, .on_request = answer_length };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "early");
    assert_int_equal(r.requests, 0);
    /* A small body behind an early answer is skipped and the connection goes on ... */
    a = ask(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_null(field_of(&a, "Connection"));
    assert_answer(a, 200, "early");
    a = ask(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
               "chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n");
    assert_answer(a, 200, "early");
    assert_int_equal(r.requests, 0);
    a = ask(c, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_answer(a, 200, "10");
    assert_int_equal(r.body_bytes, 10);
    a = ask(c, "POST /keep HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_answer(a, 200, "10");
    assert_int_equal(r.accepts, 1);
    /* ... behind a large one it ends, said before. */
    a = ask(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n0123456789");
    assert_true(field_is(&a, "Connection", "close"));
    assert_answer(a, 200, "early");
    hear_end(c);
    assert_true(c->ended);
    hang_up(c);
    rig_close(&r);
}

/* The client writes 64 KiB and more that nobody reads, in pieces of any size and before it reads
   a byte; no reset may take the answer away.  The server has a thread of its own, so that it
   answers and closes anywhere between two pieces. */
static void *run_server(void *arg)
{
    return hsb_server_run(arg, NULL) ? arg : NULL;
}

static void test_early_answers(void **state)
{
    static char body[3 * 65536];
    static const size_t sizes[] = { 65536, 65537, 3 * 65536 };
    long count = scaled("LIVE_EARLY", is_secure(state) ? 150 : 600);
    hsb_options o = { .timeouts.close = PATIENCE_MS };      /* however busy the machine is */
    rig r = { .on_head = answer_in_head };
    pthread_t thread;
    void *ran;
    client *c = NULL;
    rig_open(&r, &o, is_secure(state));
    assert_int_equal(pthread_create(&thread, NULL, run_server, r.server), 0);
    for (long i = 0; i < count; i++) {
        char head[128];
        size_t size = sizes[i % 3], piece = 1000 + (size_t)i * 7919 % 60000;
        if (!c) {
            c = client_new(NULL, r.port, 0);
            assert_true(!r.secure || client_handshake(c));
        }
        snprintf(head, sizeof head, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
                 size);
        say(c, head);
        for (size_t at = 0; at < size; at += piece)
            say_bytes(c, body + at, size - at < piece ? size - at : piece);
        answer a = hear_answer(c, false);
        assert_answer(a, 200, "early");
        if (size > 65536) {
            hear_end(c);
            assert_true(c->ended && !c->reset);
            hang_up(c);
            c = NULL;
        }
    }
    if (c)
        hang_up(c);
    hsb_server_close(r.server, false);
    pthread_join(thread, &ran);
    assert_ptr_equal(ran, r.server);
    assert_int_equal(r.heads, count);
    rig_close(&r);
}

/* The same with a client that goes on writing after the answer, blindly. */
static void test_blind_writer(void **state)
{
    static char block[65536];
    rig r = { .on_head = answer_in_head };
    hsb_options o = { .timeouts.close = 500 };
    rig_open(&r, &o, is_secure(state));
    for (int i = 0; i < 8; i++) {
        client *c = dial(&r);
        say(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n");
        for (int n = 0; n < 62; n++)
            if (!try_say(c, block, n < 61 ? sizeof block : 4000000 - 61 * sizeof block))
                break;
        answer a = hear_answer(c, false);
        assert_answer(a, 200, "early");
        hang_up(c);
    }
    turn_until(&r, all_closed, "ends");
    rig_close(&r);
}

/* The client sees that it is refused, or has seen enough of its own file, and sends no more:
   the answer, which takes its time, is still for it. */
static void answer_large_in_head(rig *r, hsb_request *req)
{
    static char page[LARGE];
    hsb_str body = { page, sizeof page };
    (void)r;
    pattern_fill(page, 0, sizeof page);
    hsb_respond(req, 403, NULL, body);
}

static void test_client_gives_up_its_body(void **state)
{
    rig r = { .on_head = answer_large_in_head, .send_buffer = 16384 };
    hsb_options o = { .timeouts.close = 20 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial_narrow(&r);
    say(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n0123456789");
    say_end(c);
    for (int64_t end = clock_ms() + 60; clock_ms() < end;)
        turn(&r, 5);
    answer a = hear_answer(c, false);
    assert_int_equal(a.status, 403);
    assert_true(a.whole && pattern_fits(a.body, 0, LARGE));
    answer_free(&a);
    hear_end(c);
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    assert_int_equal(r.finished_with.status, HSB_OK);
    rig_close(&r);
}

/* --- 100-continue ------------------------------------------------------------------------- */
static void answer_expecting(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/refuse"))
        hsb_respond(req, 403, NULL, hsb_text("no"));
    else if (path_is(req, "/pause"))
        hsb_request_pause(req);
    else if (path_is(req, "/stream"))
        hsb_request_stream(req);
}

#define EXPECT "Host: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"

static void test_continue(void **state)
{
    static const char *const asked[] = { "POST /keep HTTP/1.1\r\n" EXPECT,
                                         "POST /stream HTTP/1.1\r\n" EXPECT,
                                         "POST /pause HTTP/1.1\r\n" EXPECT };
    rig r = { .on_head = answer_expecting, .on_request = answer_length };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int i = 0; i < 3; i++) {
        say(c, asked[i]);
        if (i == 2) {                               /* wanted only when it is resumed */
            turns(&r, 10);
            assert_int_equal(hear_some(c), 0);
            hsb_request_resume(r.req);
        }
        answer a = hear_answer(c, false);
        assert_string_equal(a.head, "HTTP/1.1 100 Continue\r\n");
        answer_free(&a);
        a = ask(c, "body");
        assert_answer(a, 200, "4");
    }
    /* Not before a final answer; whether the body will come, nobody knows: the end. */
    say(c, "POST /refuse HTTP/1.1\r\n" EXPECT);
    answer a = hear_answer(c, false);
    assert_true(field_is(&a, "Connection", "close"));
    assert_answer(a, 403, "no");
    hear_end(c);
    hang_up(c);
    /* RFC 9110 10.1.1: not for HTTP/1.0, and not without a body. */
    c = dial(&r);
    a = ask(
        c,
        "POST /keep HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n");
    assert_answer(a, 200, "0");
    say(c, "POST /keep HTTP/1.0\r\n" EXPECT);
    turns(&r, 5);
    assert_int_equal(hear_some(c), 0);
    a = ask(c, "body");
    assert_answer(a, 200, "4");
    hang_up(c);
    c = dial(&r);
    a = ask(c, "POST /keep HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: magic\r\n\r\n");
    assert_int_equal(a.status, 417);
    answer_free(&a);
    hang_up(c);
    turn_until(&r, all_closed, "ends");
    rig_close(&r);
}

/* --- closing after the answer, and instead of it ------------------------------------------ */
static void answer_and_close(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/before")) {
        hsb_response_close(req);
        hsb_respond(req, 200, NULL, hsb_text("bye"));
    } else if (path_is(req, "/after")) {
        hsb_respond(req, 200, NULL, hsb_text("bye"));
        hsb_response_close(req);
    } else {
        hsb_response_begin(req, 200, -1);
        hsb_response_close(req);
        hsb_response_write(req, hsb_text("bye"));
        hsb_response_end(req);
    }
}

static void test_close(void **state)
{
    static const char *const paths[] = { "/before", "/after", "/chunks" };
    rig r = { .on_request = answer_and_close };
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < 3; i++) {
        client *c = dial(&r);
        answer a = ask_path(c, "GET", paths[i], "");
        assert_int_equal(fields_of(&a, "Connection"), i == 0);
        assert_answer(a, 200, "bye");
        hear_end(c);
        assert_true(c->ended && (!c->ssl || c->notified));
        hang_up(c);
    }
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "Connection: close\r\n");
    assert_true(field_is(&a, "Connection", "close"));
    assert_answer(a, 200, "bye");
    hear_end(c);
    hang_up(c);
    turn_until(&r, all_closed, "ends");
    assert_int_equal(r.closed_with.status, HSB_OK);
    rig_close(&r);

    rig q = { .on_request = answer_whole };
    hsb_options o = { .no_keep_alive = true };
    rig_open(&q, &o, is_secure(state));
    c = dial(&q);
    a = ask_path(c, "GET", "/", "");
    assert_true(field_is(&a, "Connection", "close"));
    assert_answer(a, 200, "hello\n");
    hear_end(c);
    hang_up(c);
    rig_close(&q);
}

static void answer_aborting(rig *r, hsb_request *req)
{
    static char block[200000];
    hsb_str body = { block, sizeof block };
    (void)r;
    if (path_is(req, "/nothing")) {
        hsb_response_abort(req);
        hsb_respond(req, 200, NULL, hsb_text("no"));        /* neither misuse nor sent */
        return;
    }
    if (path_is(req, "/whole")) {    /* more than the socket takes at once */
        hsb_respond(req, 200, NULL, body);
        hsb_response_abort(req);
        return;
    }
    hsb_response_begin(req, 200, path_is(req, "/length") ? 10 : -1);
    hsb_response_write(req, hsb_text("part"));
    if (path_is(req, "/ended")) {
        hsb_response_write(req, body);
        hsb_response_end(req);
    }
    hsb_response_abort(req);
    hsb_response_abort(req);
    assert_int_equal(hsb_response_write(req, hsb_text("more")), HSB_FLOW_GONE);
}

static void test_abort(void **state)
{
    static const char *const paths[] = { "/nothing", "/whole", "/length", "/chunks", "/ended" };
    rig r = { .on_request = answer_aborting };
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < 10; i++) {
        char text[128];
        client *c = dial(&r);
        snprintf(text, sizeof text, "GET %s HTTP/1.%d\r\nHost: x\r\n\r\n", paths[i % 5], i / 5);
        answer a = ask(c, text);
        assert_false(a.whole);
        answer_free(&a);
        assert_int_equal(r.finished_with.status, HSB_ERR_CLOSED);
        hang_up(c);
    }
    assert_int_equal(misuses, 0);
    turn_until(&r, all_closed, "ends");
    rig_close(&r);
}

/* Where the end of the connection is the end of the body, the client must not see a clean one,
   whoever cuts: the application, hsb_conn_close, the server's close, or a deadline. */
static void answer_until_close(rig *r, hsb_request *req)
{
    static char block[1000000];
    hsb_str body = { block, sizeof block };
    (void)r;
    hsb_response_begin(req, 200, -1);
    hsb_response_write(req, body);
    if (path_is(req, "/ended"))
        hsb_response_end(req);
}

static void test_cut_before_close(void **state)
{
    hsb_options o = { .timeouts.write = 150 };
    for (int how = 0; how < 10; how++) {
        rig r = { .on_request = answer_until_close, .send_buffer = 16384 };
        rig_open(&r, &o, is_secure(state));
        client *c = dial_narrow(&r);
        say(c, how % 2 ? "GET /ended HTTP/1.0\r\n\r\n" : "GET / HTTP/1.0\r\n\r\n");
        hear_until(c, "\r\n\r\n");
        turns(&r, 20);
        assert_non_null(r.req);
        if (how / 2 == 0)
            hsb_response_abort(r.req);
        else if (how / 2 == 1)
            hsb_conn_close(r.conn, true);
        else if (how / 2 == 2)
            hsb_server_close(r.server, true);
        else if (how / 2 == 3)
            turn_until(&r, all_closed, "the write deadline");
        else
            hsb_server_free(r.server), r.server = NULL;
        hear_end(c);
        if (!c->reset || c->notified)
            fail_msg("cut %d: a clean end after %zu bytes", how, c->len);
        assert_true(c->len < 1000000);
        assert_int_not_equal(r.finished_with.status, HSB_OK);
        rig_close(&r);
        hang_up(c);
    }
}

/* --- not copied --------------------------------------------------------------------------- */
typedef struct owned { int released; char *bytes; } owned;

static void release_owned(void *arg)
{
    owned *o = arg;
    o->released++;
    memset(o->bytes, 0, LARGE);
}

static void answer_owned(rig *r, hsb_request *req)
{
    owned *o = r->data;
    hsb_str body = { o->bytes, LARGE };
    pattern_fill(o->bytes, 3, LARGE);
    o->released = 0;
    if (path_is(req, "/empty"))
        body.len = 0;
    if (path_is(req, "/answered"))
        hsb_respond(req, 200, NULL, hsb_text("first"));
    hsb_respond_owned(req, path_is(req, "/204") ? 204 : path_is(req, "/bad") ? 99 : 200,
                      path_is(req, "/type") ? "a\nb" : "text/plain", body, release_owned, o);
    if (path_is(req, "/abort"))
        hsb_response_abort(req);
    if (path_is(req, "/force"))
        hsb_conn_close(hsb_request_conn(req), true);
}

/* What was handed over is back before on_finish; and the bytes count what was sent. */
static int64_t owned_sent;

static void check_owned(rig *r, hsb_request *req, const hsb_error *why)
{
    const owned *o = r->data;
    assert_int_equal(o->released, 1);
    owned_sent = hsb_response_bytes(req);
    if (!why && !path_is(req, "/204") && hsb_equal(hsb_request_method(req), "GET"))
        assert_true(owned_sent == LARGE || owned_sent < 100);
}

static void test_owned(void **state)
{
    static const struct {
        const char *method, *path;
        int status;
        size_t len;
        bool whole;
    } rows[] = {
        { "GET", "/", 200, LARGE, true },  { "GET", "/", 200, LARGE, true },
        { "HEAD", "/", 200, 0, true },     { "GET", "/empty", 200, 0, true },
        { "GET", "/204", 204, 0, true },   { "GET", "/answered", 200, 5, true },
        { "GET", "/bad", 500, 0, true },   { "GET", "/type", 500, 0, true },
        { "GET", "/abort", -1, 0, false }, { "GET", "/force", -1, 0, false },
    };
    owned o = { 0, malloc(LARGE) };
    rig r = { .on_request = answer_owned, .on_finish = check_owned, .data = &o };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        answer a = ask_path(c, rows[i].method, rows[i].path, "");
        assert_int_equal(a.whole, rows[i].whole);
        if (a.whole) {
            assert_int_equal(a.status, rows[i].status);
            assert_int_equal(a.len, rows[i].len);
        }
        if (a.len == LARGE)
            assert_true(pattern_fits(a.body, 3, LARGE));
        if (!a.whole) {
            turn_until(&r, all_closed, "cut");
            hang_up(c);
            c = dial(&r);
        }
        assert_int_equal(o.released, 1);
        answer_free(&a);
    }
    assert_int_equal(misuses, 1);
    misuses = 0;
    /* The client leaves in the middle. */
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    hear_len(c, 100000);
    assert_int_equal(o.released, 0);
    cut_off(c);
    turn_until(&r, all_closed, "the client is gone");
    assert_int_equal(o.released, 1);
    assert_int_equal(r.finished_with.status, HSB_ERR_CLOSED);
    assert_true(owned_sent >= 90000 && owned_sent < LARGE);
    /* The server is freed in the middle. */
    c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    hear_len(c, 100000);
    assert_int_equal(o.released, 0);
    rig_close(&r);
    assert_int_equal(o.released, 1);
    hang_up(c);
    free(o.bytes);
}

/* --- flow --------------------------------------------------------------------------------- */
enum { FLOW_TOTAL = 4000000, FLOW_PART = 10000 };

typedef struct writer { int64_t written; int waits; bool careless; hsb_flow last; } writer;

static void write_on(rig *r, hsb_request *req)
{
    static char part[FLOW_PART];
    writer *w = r->data;
    w->last = HSB_FLOW_GO;
    while (w->written < FLOW_TOTAL && (w->last == HSB_FLOW_GO || w->careless)) {
        hsb_str s = { part, sizeof part };
        pattern_fill(part, (uint64_t)w->written, sizeof part);
        w->last = hsb_response_write(req, s);
        if (w->last == HSB_FLOW_GONE)
            return;
        w->written += FLOW_PART;
    }
    if (w->last == HSB_FLOW_WAIT)
        w->waits++;
    else
        hsb_response_end(req);
}

static void begin_writing(rig *r, hsb_request *req)
{
    writer *w = r->data;
    bool careless = w->careless;
    memset(w, 0, sizeof *w);
    w->careless = careless;
    hsb_response_begin(req, 200, path_is(req, "/length") ? FLOW_TOTAL : -1);
    write_on(r, req);
}

/* WAIT at the mark, on_drain below it, whatever the reader does; and memory stays small. */
static void test_flow(void **state)
{
    writer w = { 0 };
    rig r = {
        .on_request = begin_writing, .on_drain = write_on, .data = &w, .send_buffer = 16384
    };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial_narrow(&r);
    size_t before = hsb_server_memory(r.server);
    for (int i = 0; i < 2; i++) {
        say(c, i ? "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
                 : "GET /length HTTP/1.1\r\nHost: x\r\n\r\n");
        turns(&r, 200);                             /* the reader sleeps */
        assert_int_equal(w.last, HSB_FLOW_WAIT);
        assert_true(w.written < FLOW_TOTAL);
        assert_true(hsb_server_memory(r.server) < before + 65536 + FLOW_PART + 3 * 65536);
        int64_t stuck = w.written;
        turns(&r, 50);
        assert_int_equal(stuck, w.written);         /* no on_drain without room */
        answer a = hear_answer(c, false);
        assert_true(a.whole);
        assert_int_equal(a.len, FLOW_TOTAL);
        assert_true(pattern_fits(a.body, 0, FLOW_TOTAL));
        answer_free(&a);
        assert_int_equal(r.drains, w.waits);
        assert_true(w.waits > 10);
        r.drains = 0;
    }
    hang_up(c);
    rig_close(&r);
}

/* Who does not wait is cut at 16 times the mark, and only then. */
static void test_flood(void **state)
{
    writer w = { .careless = true };
    rig r = { .on_request = begin_writing, .data = &w };
    hsb_options o = { .limits.queued_bytes = 20000 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_false(a.whole);
    answer_free(&a);
    assert_int_equal(w.last, HSB_FLOW_GONE);
    assert_int_equal(r.finished_with.status, HSB_ERR_LIMIT);
    assert_int_equal(r.told.status, HSB_ERR_LIMIT);
    assert_true(w.written > 15 * 20000 && w.written <= 16 * 20000);
    hang_up(c);
    rig_close(&r);
}

/* One write after GO may be as large as it is. */
static void answer_at_once(rig *r, hsb_request *req)
{
    static char large[LARGE];
    hsb_str body = { large, sizeof large };
    (void)r;
    pattern_fill(large, 0, sizeof large);
    hsb_response_begin(req, 200, -1);
    assert_int_equal(hsb_response_write(req, body), HSB_FLOW_WAIT);
}

static void end_now(rig *r, hsb_request *req)
{
    (void)r;
    hsb_response_end(req);
}

static void test_large_write(void **state)
{
    rig r = { .on_request = answer_at_once, .on_drain = end_now };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int i = 0; i < 2; i++) {
        answer a = ask_path(c, "GET", "/", "");
        assert_true(a.whole && a.len == LARGE && pattern_fits(a.body, 0, LARGE));
        answer_free(&a);
        assert_int_equal(r.drains, i + 1);
    }
    hang_up(c);
    rig_close(&r);
}

/* The reader leaves: the writer is told by on_finish, never by a signal or a crash. */
static void test_reader_leaves(void **state)
{
    writer w = { 0 };
    rig r = { .on_request = begin_writing, .on_drain = write_on, .data = &w };
    rig_open(&r, NULL, is_secure(state));
    if (!r.secure)
        signal(SIGPIPE, SIG_DFL);
    for (int i = 0; i < 20; i++) {
        client *c = dial(&r);
        say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        hear_len(c, (size_t)i * 50000 + 1);
        if (i % 2)
            cut_off(c);
        else
            client_free(c);
        turn_until(&r, all_closed, "the reader is gone");
        assert_int_equal(r.finishes, i + 1);
        assert_int_not_equal(r.finished_with.status, HSB_OK);
    }
    signal(SIGPIPE, SIG_IGN);
    rig_close(&r);
}

/* --- one after the other ------------------------------------------------------------------ */
static void answer_target(rig *r, hsb_request *req)
{
    if (path_is(req, "/later"))
        *(hsb_ticket *)r->data = hsb_request_defer(req);
    else
        hsb_respond(req, 200, NULL, hsb_request_target(req));
}

static void test_pipeline(void **state)
{
    hsb_ticket ticket;
    rig r = { .on_request = answer_target, .data = &ticket };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    char text[8192] = "", path[32];
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "/%d", i);
        strcat(strcat(strcat(text, "GET "), path), " HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    say(c, text);
    for (int i = 0; i < 100; i++) {
        answer a = hear_answer(c, false);
        snprintf(path, sizeof path, "/%d", i);
        assert_answer(a, 200, path);
    }
    /* What follows a request that waits for its answer waits too, even behind the client's end. */
    say(c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    say_end(c);
    turns(&r, 20);
    assert_int_equal(hear_some(c), 0);
    assert_int_equal(r.heads, 101);
    hsb_respond(r.req, 200, NULL, hsb_text("later"));
    hsb_ticket_drop(ticket);                                /* answered: it changes nothing */
    answer a = hear_answer(c, false);
    assert_answer(a, 200, "later");
    a = hear_answer(c, false);
    assert_answer(a, 200, "/next");
    hear_end(c);
    assert_true(c->ended);
    hang_up(c);
    rig_close(&r);
}

/* --- a body that is asked for, and given to nobody ----------------------------------------- */
static void stream_it(rig *r, hsb_request *req)
{
    (void)r;
    hsb_request_stream(req);
}

static void say_received(rig *r, hsb_request *req)
{
    char text[32];
    (void)r;
    snprintf(text, sizeof text, "%d", (int)hsb_request_received(req));
    hsb_respond(req, 200, NULL, hsb_text(text));
}

static void test_no_on_body(void **state)
{
    rig r = { .on_head = stream_it, .on_request = say_received };
    hsb_error err;
    rig_prepare(&r, NULL, is_secure(state));
    r.options.hooks.on_body = NULL;
    r.server = r.secure ? hsb_bind_secure("127.0.0.1", 0, rig_security(), &r.options, &err)
                        : hsb_bind("127.0.0.1", 0, &r.options, &err);
    assert_non_null(r.server);
    r.port = hsb_server_port(r.server);
    client *c = dial(&r);
    answer a = ask(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    assert_answer(a, 200, "5");
    hang_up(c);
    rig_close(&r);
}

/* --- CONNECT ------------------------------------------------------------------------------ */
static void answer_connect(rig *r, hsb_request *req)
{
    int status = *(int *)r->data;
    if (status < 0) {                   /* as who never thought of CONNECT                  */
        hsb_response_header(req, "Content-Type", "text/plain");
        hsb_response_begin(req, -status, 3);
        assert_int_equal(hsb_response_write(req, hsb_text("dropped")), HSB_FLOW_GONE);
        assert_int_equal(hsb_response_flush(req), HSB_FLOW_GONE);
        assert_false(hsb_response_trailer(req, "X-Sum", "1"));
        hsb_response_end(req);
        assert_int_equal(hsb_response_bytes(req), 0);
    } else
        hsb_respond(req, status, NULL, hsb_text("x"));
}

static void test_connect(void **state)
{
    int status = 200;
    rig r = { .on_request = answer_connect, .data = &status };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask(c, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n");
    assert_int_equal(a.status, 500);
    answer_free(&a);
    status = 403;
    a = ask(c, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n");
    assert_answer(a, 403, "x");
    static const int begun[] = { -200, -204, -100, -1000 };
    for (size_t i = 0; i < sizeof begun / sizeof *begun; i++) {
        status = begun[i];
        a = ask(c, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n");
        assert_answer(a, 500, "");
    }
    hang_up(c);
    rig_close(&r);
}

/* --- later on this thread ----------------------------------------------------------------- */
static void tick(hsb_request *req, void *arg)
{
    int *left = arg;
    hsb_response_write(req, hsb_text("tick\n"));
    if (--*left == 0)
        hsb_response_end(req);
    else
        assert_true(hsb_request_after(req, 1, tick, arg));
}

static void answer_late(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_respond(req, 200, NULL, hsb_text("late"));
}

static void nothing_yet(hsb_request *req, void *arg)
{
    (void)req;
    ++*(int *)arg;
}

static void answer_ticking(rig *r, hsb_request *req)
{
    hsb_request_after(req, 60000, never, NULL);             /* cancelled by the end */
    if (path_is(req, "/late")) {
        hsb_request_after(req, 0, nothing_yet, r->data);
        hsb_request_after(req, 20, answer_late, NULL);
        hsb_request_after(req, 10, nothing_yet, r->data);
    } else {
        *(int *)r->data = 5;
        hsb_response_begin(req, 200, -1);
        hsb_request_after(req, 1, tick, r->data);
    }
}

static void test_after(void **state)
{
    int count = 0;
    rig r = { .on_request = answer_ticking, .data = &count };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    int64_t began = clock_ms();
    answer a = ask_path(c, "GET", "/late", "");
    assert_answer(a, 200, "late");
    assert_true(clock_ms() - began >= 20);
    assert_int_equal(count, 2);
    a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "tick\ntick\ntick\ntick\ntick\n");
    say(c, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n");
    turns(&r, 3);
    hang_up(c);    /* while one waits: it is not left (a FIN) ... */
    rig_close(&r);                                          /* ... but this ends it all */
}

/* Unanswered when the last of what was asked for has come. */
static void answer_nothing_later(rig *r, hsb_request *req)
{
    hsb_request_after(req, 5, nothing_yet, r->data);
}

static void test_after_unanswered(void **state)
{
    int count = 0;
    rig r = { .on_request = answer_nothing_later, .data = &count };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_int_equal(a.status, 500);
    assert_int_equal(count, 1);
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
}

/* An echo: the answer begins in on_head, grows with the body, and ends with it. */
static void echo_head(rig *r, hsb_request *req)
{
    (void)r;
    hsb_request_stream(req);
    hsb_response_begin(req, 200, -1);
}

static void echo_body(rig *r, hsb_request *req, hsb_str part)
{
    (void)r;
    if (hsb_response_write(req, part) == HSB_FLOW_WAIT)
        hsb_request_pause(req);
}

static void echo_drain(rig *r, hsb_request *req)
{
    (void)r;
    hsb_request_resume(req);
}

static void test_echo(void **state)
{
    static char body[LARGE];
    rig r = { .on_head = echo_head,
              .on_body = echo_body,
              .on_drain = echo_drain,
              .on_request = end_now };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    pattern_fill(body, 0, sizeof body);
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            say(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            for (size_t at = 0; at < sizeof body; at += 50000) {
                say(c, "c350\r\n");
                say_bytes(c, body + at, 50000);
                say(c, "\r\n");
            }
            say(c, "0\r\n\r\n");
        } else {
            say(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n");
            say_bytes(c, body, sizeof body);
        }
        answer a = hear_answer(c, false);
        assert_true(a.whole && a.len == sizeof body && pattern_fits(a.body, 0, sizeof body));
        answer_free(&a);
    }
    assert_int_equal(r.finished_with.status, HSB_OK);
    hang_up(c);
    rig_close(&r);
}

/* limits.stream_bytes holds also when an answer has begun. */
static void test_echo_limit(void **state)
{
    static char body[30000];
    rig r = { .on_head = echo_head,
              .on_body = echo_body,
              .on_drain = echo_drain,
              .on_request = end_now };
    hsb_options o = { .limits.stream_bytes = 20000 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    say(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7530\r\n");
    try_say(c, body, sizeof body);
    answer a = hear_answer(c, false);
    assert_false(a.whole);
    answer_free(&a);
    assert_true(r.body_bytes <= 20000);
    assert_int_equal(r.finished_with.status, HSB_ERR_LIMIT);
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_respond),
        BOTH(test_statuses),
        BOTH(test_bodiless),
        BOTH(test_parts),
        BOTH(test_promise_broken),
        BOTH(test_http_1_0),
        BOTH(test_fields),
        BOTH(test_redirect),
        BOTH(test_cookies),
        BOTH(test_trailers), BOTH(test_borrowed_text_stays), BOTH(test_defer_after_the_answer),
        BOTH(test_unanswered),
        BOTH(test_answer_in_finish),
        BOTH(test_answer_in_head),
        BOTH(test_early_answers),
        BOTH(test_blind_writer),
        BOTH(test_client_gives_up_its_body),
        BOTH(test_continue),
        BOTH(test_close),
        BOTH(test_abort),
        BOTH(test_cut_before_close),
        BOTH(test_owned),
        BOTH(test_flow),
        BOTH(test_flood),
        BOTH(test_large_write),
        BOTH(test_reader_leaves),
        BOTH(test_pipeline),
        BOTH(test_no_on_body), BOTH(test_connect),
        BOTH(test_after),
        BOTH(test_after_unanswered),
        BOTH(test_echo),
        BOTH(test_echo_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
