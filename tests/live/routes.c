/* hsb_request_route: which handler is called, what its parameters are, what is answered when the
   path is known and the method is not. */
static int misuses;
#define HSB_ASSERT(condition) ((condition) ? (void)0 : (void)misuses++)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

static const hsb_route *table;          /* of the test that runs                              */
static char log_pattern[64];            /* what hsb_request_pattern said in on_finish         */

static void route_or_404(rig *r, hsb_request *req)
{
    assert_null(hsb_request_pattern(req));
    if (!hsb_request_route(req, table, r))
        hsb_respond(req, 404, "text/plain", hsb_text("no row"));
}

static void note_pattern(rig *r, hsb_request *req, const hsb_error *why)
{
    const char *pattern = hsb_request_pattern(req);
    (void)r, (void)why;
    snprintf(log_pattern, sizeof log_pattern, "%s", pattern ? pattern : "(none)");
}

/* "METHOD pattern name=value..." */
static void tell(hsb_request *req, const char *who)
{
    static const char *const names[] = { "id", "rest", "a", "b" };
    char text[512];
    hsb_str method = hsb_request_method(req);
    int n = snprintf(text, sizeof text, "%s %.*s %s", who, (int)method.len, method.ptr,
                     hsb_request_pattern(req));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hsb_str value = hsb_request_param(req, names[i]);
        if (value.ptr)
            n += snprintf(text + n, sizeof text - (size_t)n, " %s=%.*s", names[i], (int)value.len,
                          value.ptr);
    }
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

static void first(hsb_request *req, void *user)
{
    assert_ptr_equal(((rig *)user)->server, hsb_conn_server(hsb_request_conn(req)));
    tell(req, "first");
}

static void second(hsb_request *req, void *user)
{
    (void)user;
    tell(req, "second");
}

static void open_rig(rig *r, const hsb_route *routes)
{
    memset(r, 0, sizeof *r);
    r->on_request = route_or_404;
    r->on_finish = note_pattern;
    table = routes;
    misuses = 0;
    rig_open(r, NULL, false);
}

static void expect(rig *r, const char *method, const char *path, int status, const char *body)
{
    client *c = dial(r);
    answer a = ask_path(c, method, path, "");
    if (a.status != status || strcmp(a.body, body) != 0)
        fail_msg("%s %s: %d \"%s\"", method, path, a.status, a.body);
    answer_free(&a);
    hang_up(c);
    turn_until(r, all_closed, "the end");
}

static void expect_allow(rig *r, const char *method, const char *path, int status,
                         const char *allow)
{
    client *c = dial(r);
    answer a = ask_path(c, method, path, "");
    if (a.status != status || !field_is(&a, "Allow", allow) || fields_of(&a, "Allow") != 1)
        fail_msg("%s %s: %d, Allow: %s", method, path, a.status, field_of(&a, "Allow"));
    assert_string_equal(a.body, status == 204 ? "" : "405 Method Not Allowed\n");
    answer_free(&a);
    hang_up(c);
    turn_until(r, all_closed, "the end");
}

static void test_rows(void **state)
{
    static const hsb_route routes[] = {
        { "GET", "/", first }, { "GET", "/users/me", first }, { "GET", "/users/:id", second },
        { "POST", "/users/:id", first }, { NULL, "/any/*rest", first },
        { "GET", "/any/thing", second }, { "get", "/lower", first }, { 0 }
    };
    rig r;
    (void)state;
    open_rig(&r, routes);
    expect(&r, "GET", "/", 200, "first GET /");
    expect(&r, "GET", "/?a=/users/1", 200, "first GET /");
    expect(&r, "GET", "/users/me", 200, "first GET /users/me");
    expect(&r, "GET", "/users/7", 200, "second GET /users/:id id=7");
    assert_string_equal(log_pattern, "/users/:id");
    expect(&r, "POST", "/users/7", 200, "first POST /users/:id id=7");
    expect(&r, "POST", "/users/me", 200, "first POST /users/:id id=me");
    expect(&r, "ODD", "/any/thing", 200, "first ODD /any/*rest rest=thing");
    expect(&r, "GET", "/any/thing", 200, "first GET /any/*rest rest=thing");
    expect(&r, "OPTIONS", "/any/x", 200, "first OPTIONS /any/*rest rest=x");
    expect(&r, "get", "/lower", 200, "first get /lower");
    expect_allow(&r, "GET", "/lower", 405, "OPTIONS, get");
    expect(&r, "GET", "/nowhere", 404, "no row");
    assert_string_equal(log_pattern, "(none)");
    expect(&r, "GET", "/users/", 404, "no row");
    expect(&r, "GET", "/users/../users/7", 404, "no row");
    expect(&r, "GET", "/users/7%00", 404, "no row");
    assert_int_equal(misuses, 0);
    rig_close(&r);
}

/* RFC 9110 9.3.2 */
static void test_head(void **state)
{
    static const hsb_route routes[] = {
        { "GET", "/a", first }, { "HEAD", "/a", second }, { "HEAD", "/b", second },
        { "GET", "/b", first }, { "POST", "/c", first }, { 0 }
    };
    rig r;
    (void)state;
    open_rig(&r, routes);
    client *c = dial(&r);
    answer a = ask_path(c, "HEAD", "/a", "");
    assert_true(field_is(&a, "Content-Length", "13"));          /* "first HEAD /a" */
    assert_answer(a, 200, "");
    a = ask_path(c, "HEAD", "/b", "");
    assert_true(field_is(&a, "Content-Length", "14"));
    assert_answer(a, 200, "");
    a = ask_path(c, "HEAD", "/c", "");
    assert_true(field_is(&a, "Allow", "OPTIONS, POST"));
    assert_answer(a, 405, "");
    hang_up(c);
    rig_close(&r);
}

static void test_allow(void **state)
{
    static const hsb_route routes[] = {
        { "GET", "/x/:id", first }, { "PUT", "/x/:id", first }, { "GET", "/x/*rest", first },
        { "DELETE", "/x/1", first }, { "POST", "/y", first }, { "OPTIONS", "/z", second },
        { "GET", "/z", first }, { 0 }
    };
    rig r;
    (void)state;
    open_rig(&r, routes);
    expect_allow(&r, "POST", "/x/1", 405, "OPTIONS, GET, HEAD, PUT, DELETE");
    assert_string_equal(log_pattern, "/x/:id");
    expect_allow(&r, "OPTIONS", "/x/2", 204, "OPTIONS, GET, HEAD, PUT");
    expect_allow(&r, "PUT", "/x/2/3", 405, "OPTIONS, GET, HEAD");
    expect_allow(&r, "GET", "/y", 405, "OPTIONS, POST");
    expect_allow(&r, "post", "/y", 405, "OPTIONS, POST");
    expect(&r, "OPTIONS", "/z", 200, "second OPTIONS /z");
    expect_allow(&r, "PUT", "/z", 405, "OPTIONS, GET, HEAD");
    expect(&r, "OPTIONS", "/nowhere", 404, "no row");
    expect_allow(&r, "OPTIONS", "*", 204, "OPTIONS, GET, HEAD, PUT, DELETE, POST");
    assert_string_equal(log_pattern, "(none)");
    assert_int_equal(misuses, 0);
    rig_close(&r);
}

static void test_asterisk(void **state)
{
    static const hsb_route routes[] = {
        { NULL, "/*rest", first }, { "OPTIONS", "*", second }, { 0 }
    };
    rig r;
    (void)state;
    open_rig(&r, routes);
    expect(&r, "OPTIONS", "*", 200, "second OPTIONS *");
    expect(&r, "OPTIONS", "/", 200, "first OPTIONS /*rest rest=");
    client *c = dial(&r);
    answer a = ask(c, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");     /* RFC 9110 9.3.6 */
    assert_answer(a, 404, "no row");
    hang_up(c);
    rig_close(&r);
}

static void allow_origin(rig *r, hsb_request *req)
{
    hsb_response_header(req, "Access-Control-Allow-Origin", "*");
    route_or_404(r, req);
}

/* What was set before is in all answers, as CORS needs it. */
static void test_fields_before(void **state)
{
    static const hsb_route routes[] = { { "GET", "/a", first }, { 0 } };
    rig r;
    (void)state;
    open_rig(&r, routes);
    r.on_request = allow_origin;
    client *c = dial(&r);
    static const char *const methods[] = { "GET", "OPTIONS", "PUT" };
    static const int statuses[] = { 200, 204, 405 };
    for (int i = 0; i < 3; i++) {
        answer a = ask_path(c, methods[i], "/a", "");
        assert_int_equal(a.status, statuses[i]);
        assert_true(field_is(&a, "Access-Control-Allow-Origin", "*"));
        answer_free(&a);
    }
    hang_up(c);
    rig_close(&r);
}

static void test_params(void **state)
{
    static const hsb_route routes[] = {
        { "GET", "/:a/x/:b", first }, { "GET", "/f/*rest", first }, { 0 }
    };
    rig r;
    (void)state;
    open_rig(&r, routes);
    expect(&r, "GET", "/%41%2f/x/a%20b", 200, "first GET /:a/x/:b a=A/ b=a b");
    expect(&r, "GET", "/100%25/x/%25%34%31", 200, "first GET /:a/x/:b a=100% b=%41");
    expect(&r, "GET", "/+/x/+", 200, "first GET /:a/x/:b a=+ b=+");
    expect(&r, "GET", "/f/a%2Fb/c", 200, "first GET /f/*rest rest=a/b/c");
    expect(&r, "GET", "/f/", 200, "first GET /f/*rest rest=");
    expect(&r, "GET", "http://h/f/a", 200, "first GET /f/*rest rest=a");
    rig_close(&r);
}

/* RFC 3986 2.1: it is refused before there is a request. */
static void test_malformed_percent(void **state)
{
    static const hsb_route routes[] = { { NULL, "/*rest", first }, { 0 } };
    rig r;
    (void)state;
    open_rig(&r, routes);
    expect(&r, "GET", "/%4", 400, "400 Bad Request\n");
    expect(&r, "GET", "/a%zz", 400, "400 Bad Request\n");
    expect(&r, "GET", "http://h/%", 400, "400 Bad Request\n");
    assert_int_equal(r.heads, 0);
    rig_close(&r);
}

/* A parameter that has to be decoded needs memory. */
static void test_no_memory(void **state)
{
    static const hsb_route routes[] = { { NULL, "/:id", first }, { 0 } };
    hsb_options o = { .limits.request_bytes = 16 };
    rig r = { .on_request = route_or_404 };
    (void)state;
    table = routes;
    rig_open(&r, &o, false);
    expect(&r, "GET", "/123456%3789abcdef", 200, "first GET /:id");
    expect(&r, "GET", "/123456789abcdef0123", 200, "first GET /:id id=123456789abcdef0123");
    rig_close(&r);
}

static void test_malformed_rows(void **state)
{
    static const hsb_route routes[] = {
        { "GET", "/a/:", first }, { "GET", "/a/*", first }, { "GET", "/b/*rest/c", first },
        { "GET", "/c/:id/:id", first }, { "GET", "/d", NULL }, { "G T", "/e", first },
        { "GET", "/a/:id", second }, { "GET", "/c/:a/:b", second }, { 0 }
    };
    rig r;
    (void)state;
    open_rig(&r, routes);
    expect(&r, "GET", "/a/1", 200, "second GET /a/:id id=1");
    assert_int_equal(misuses, 2);
    expect(&r, "GET", "/b/1/c", 404, "no row");
    assert_int_equal(misuses, 3);
    expect(&r, "GET", "/c/1/2", 200, "second GET /c/:a/:b a=1 b=2");
    assert_int_equal(misuses, 4);
    expect(&r, "GET", "/d", 404, "no row");
    expect(&r, "GET", "/e", 404, "no row");
    assert_int_equal(misuses, 6);
    assert_int_equal(r.errors, 6);
    assert_int_equal(r.told.status, HSB_ERR_MISUSE);
    rig_close(&r);
}

/* A malformed row takes no part in Allow either. */
static void test_malformed_rows_allow(void **state)
{
    static const hsb_route routes[] = {
        { "GET", "/a/:", first }, { "P,T", "/a/:id", first }, { "PUT", "/a/:id", NULL },
        { "POST", "/a/:id", first }, { 0 }
    };
    rig r;
    (void)state;
    open_rig(&r, routes);
    expect_allow(&r, "DELETE", "/a/1", 405, "OPTIONS, POST");
    expect_allow(&r, "OPTIONS", "*", 204, "OPTIONS, POST");
    rig_close(&r);
}

static void route_late(hsb_request *req, void *arg)
{
    if (req && !hsb_request_route(req, table, arg))
        hsb_respond(req, 404, NULL, hsb_text(""));
}

static void route_later(rig *r, hsb_request *req)
{
    hsb_ticket_resume(hsb_request_defer(req), route_late, r);
}

static void route_after_answer(rig *r, hsb_request *req)
{
    hsb_respond(req, 200, NULL, hsb_text("before"));
    assert_true(hsb_request_route(req, table, r));          /* 405: nothing is left to do       */
}

static void *get_nothing(size_t size, void *user)
{
    (void)size, (void)user;
    return NULL;
}

static void route_without_memory(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond(req, 200, NULL, hsb_text("before"));
    hsb__loop *loop = req->channel.loop;
    const hsb__memory memory = loop->memory;
    const hsb__pool pool = loop->pool;
    memset(loop->pool.unused, 0, sizeof pool.unused);
    loop->memory.user.alloc = get_nothing;
    assert_true(hsb_request_route(req, table, r));
    loop->memory.user.alloc = memory.user.alloc;
    memcpy(loop->pool.unused, pool.unused, sizeof pool.unused);
}

/* An answer that was given is whole, whatever a table would have said. */
static void test_no_memory_after_the_answer(void **state)
{
    static const hsb_route routes[] = { { "GET", "/a", first }, { 0 } };
    rig r = { .on_request = route_without_memory };
    (void)state;
    table = routes;
    rig_open(&r, NULL, false);
    expect(&r, "PUT", "/a", 200, "before");
    rig_close(&r);
}

/* In on_head, from a ticket, and when an answer was given. */
static void test_when(void **state)
{
    static const hsb_route routes[] = { { "GET", "/a", first }, { 0 } };
    rig r;
    (void)state;
    open_rig(&r, routes);
    r.on_head = route_or_404;
    r.on_request = NULL;
    expect(&r, "GET", "/a", 200, "first GET /a");
    r.on_head = route_later;
    expect(&r, "GET", "/a", 200, "first GET /a");
    expect_allow(&r, "PUT", "/a", 405, "OPTIONS, GET, HEAD");
    r.on_head = NULL;
    r.on_request = route_after_answer;
    expect(&r, "PUT", "/a", 200, "before");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_allow),
        cmocka_unit_test(test_asterisk),
        cmocka_unit_test(test_fields_before),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_malformed_percent),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_no_memory_after_the_answer),
        cmocka_unit_test(test_malformed_rows),
        cmocka_unit_test(test_malformed_rows_allow),
        cmocka_unit_test(test_when),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
