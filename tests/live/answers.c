/* >>answers: formatted answers, Basic authentication, bytes of the program, the access log; and
   on_error_page, which is >>response's. */
static int misuses;
#define HSB_ASSERT(condition) ((condition) ? (void)0 : (void)misuses++)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

#include <wchar.h>

enum { LONG = 100000 };
static char long_text[LONG + 1];

static void open_rig(rig *r, void (*on_request)(rig *, hsb_request *), const hsb_options *o,
                     bool secure)
{
    memset(r, 0, sizeof *r);
    memset(long_text, 'x', LONG);
    misuses = 0;
    r->on_request = on_request;
    rig_open(r, o, secure);
}

/* --- formatted ----------------------------------------------------------------------------- */
static void answer_formatted(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/short"))
        hsb_respondf(req, 201, "text/plain", "%s is %d", "seven", 7);
    else if (path_is(req, "/empty"))
        hsb_respondf(req, 200, NULL, "%s", "");
    else if (path_is(req, "/long"))
        hsb_respondf(req, 200, "text/plain", "%s.", long_text);
    else if (path_is(req, "/1023"))
        hsb_respondf(req, 200, "text/plain", "%.*s", 1023, long_text);
    else if (path_is(req, "/1024"))
        hsb_respondf(req, 200, "text/plain", "%.*s", 1024, long_text);
    else if (path_is(req, "/cannot"))
        hsb_respondf(req, 200, "text/plain", "%lc", (wint_t)0xD800);
    else if (path_is(req, "/type"))
        hsb_respondf(req, 200, "a\r\nX: y", "%d", 1);
}

static void test_respondf(void **state)
{
    rig r;
    open_rig(&r, answer_formatted, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/short", "");
    assert_true(field_is(&a, "Content-Type", "text/plain"));
    assert_answer(a, 201, "seven is 7");
    a = ask_path(c, "HEAD", "/short", "");
    assert_true(field_is(&a, "Content-Length", "10"));
    assert_answer(a, 201, "");
    a = ask_path(c, "GET", "/empty", "");
    assert_true(field_is(&a, "Content-Length", "0"));
    assert_answer(a, 200, "");
    static const size_t sizes[] = { LONG + 1, 1023, 1024 };
    static const char *const paths[] = { "/long", "/1023", "/1024" };
    for (int i = 0; i < 3; i++) {
        a = ask_path(c, "GET", paths[i], "");
        assert_true(a.whole && a.len == sizes[i] && strspn(a.body, "x.") == a.len);
        answer_free(&a);
    }
    a = ask_path(c, "GET", "/cannot", "");
    assert_answer(a, 500, "500 Internal Server Error\n");
    a = ask_path(c, "GET", "/type", "");
    assert_answer(a, 500, "");
    hang_up(c);
    rig_close(&r);
}

static void write_formatted(rig *r, hsb_request *req)
{
    hsb_response_begin(req, 200, path_is(req, "/promised") ? 3 : -1);
    if (path_is(req, "/promised")) {
        assert_int_equal(hsb_response_writef(req, "%d", 123), HSB_FLOW_GO);
        assert_int_equal(hsb_response_writef(req, "%s", ""), HSB_FLOW_GO);
        assert_int_equal(hsb_response_writef(req, "%d", 4), HSB_FLOW_GONE);
        return;
    }
    if (path_is(req, "/cannot")) {
        assert_int_equal(hsb_response_writef(req, "a"), HSB_FLOW_GO);
        assert_int_equal(hsb_response_writef(req, "%lc", (wint_t)0xD800), HSB_FLOW_GONE);
        assert_int_equal(hsb_response_writef(req, "a"), HSB_FLOW_GONE);
        return;
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(hsb_response_writef(req, "data: %d\n\n", i), HSB_FLOW_GO);
    assert_int_equal(hsb_response_writef(req, "%s", long_text), HSB_FLOW_WAIT);
    hsb_response_end(req);
    (void)r;
}

static void test_writef(void **state)
{
    rig r;
    open_rig(&r, write_formatted, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_true(a.whole && a.len == 27 + LONG);
    assert_memory_equal(a.body, "data: 0\n\ndata: 1\n\ndata: 2\n\nxxx", 30);
    answer_free(&a);
    a = ask_path(c, "GET", "/promised", "");
    assert_false(a.whole && a.len > 3);
    answer_free(&a);
    hang_up(c);
    c = dial(&r);
    a = ask_path(c, "GET", "/cannot", "");
    assert_false(a.whole);
    answer_free(&a);
    assert_int_equal(r.finished_with.status, HSB_ERR_MISUSE);
    hang_up(c);
    rig_close(&r);
}

static void set_fields(rig *r, hsb_request *req)
{
    (void)r;
    assert_true(hsb_response_headerf(req, "X-Rate", "%d; w=%d", 5, 60));
    assert_true(hsb_response_headerf(req, "X-Long", "%.*s", 2000, long_text));
    assert_true(hsb_response_headerf(req, "X-Empty", "%s", ""));
    assert_false(hsb_response_headerf(req, "X-A", "%s", "a\r\nX-B: b"));
    assert_false(hsb_response_headerf(req, "X-A", "%s%c%s", "a", 0, "b"));
    assert_false(hsb_response_headerf(req, "X-A", "%.*s\n", 2000, long_text));
    assert_false(hsb_response_headerf(req, "X A", "%d", 1));
    assert_false(hsb_response_headerf(req, "Content-Length", "%d", 1));
    assert_false(hsb_response_headerf(req, "X-A", "%lc", (wint_t)0xD800));
    hsb_respond(req, 200, NULL, hsb_text(""));
    assert_false(hsb_response_headerf(req, "X-A", "%d", 1));
}

static void test_headerf(void **state)
{
    rig r;
    open_rig(&r, set_fields, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_true(field_is(&a, "X-Rate", "5; w=60"));
    assert_true(field_is(&a, "X-Empty", ""));
    const char *text = field_of(&a, "X-Long");
    assert_true(text && strlen(text) == 2000);
    assert_null(field_of(&a, "X-A"));
    assert_null(field_of(&a, "X-B"));
    assert_answer(a, 200, "");
    hang_up(c);
    rig_close(&r);
}

/* --- Basic authentication -------------------------------------------------------------------- */
static const char *realm;
static void ask_who(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond_unauthorized(req, realm);
}

static void test_unauthorized(void **state)
{
    static const char *const realms[][2] = {
        { "office", "Basic realm=\"office\", charset=\"UTF-8\"" },
        { "", "Basic realm=\"\", charset=\"UTF-8\"" },
        { "a \"b\" \\ c", "Basic realm=\"a \\\"b\\\" \\\\ c\", charset=\"UTF-8\"" },
        { "caf\xC3\xA9\t", "Basic realm=\"caf\xC3\xA9\t\", charset=\"UTF-8\"" },
        { "a\r\nX: b", NULL }, { "a\x7F", NULL }, { "\n", NULL },
    };
    rig r;
    open_rig(&r, ask_who, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof realms / sizeof *realms; i++) {
        realm = realms[i][0];
        answer a = ask_path(c, "GET", "/", "");
        const char *field = field_of(&a, "WWW-Authenticate");
        assert_true(realms[i][1] ? field && strcmp(field, realms[i][1]) == 0 : !field);
        assert_int_equal(a.status, realms[i][1] ? 401 : 500);
        assert_null(field_of(&a, "X"));
        answer_free(&a);
    }
    hang_up(c);
    rig_close(&r);
}

/* --- bytes of the program --------------------------------------------------------------------- */
#define PAGE "<!doctype html><p>0123456789</p>"
#define PACKED "\x1f\x8b packed"
static hsb_content content;

static void answer_content(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond_content(req, &content);
}

static void use_page(void)
{
    memset(&content, 0, sizeof content);
    content.type = "text/html";
    content.body = hsb_text(PAGE);
}

/* The answer to GET with these fields. */
static void expect(client *c, const char *fields, int status, const char *body)
{
    answer a = ask_path(c, "GET", "/", fields);
    if (a.status != status || strcmp(a.body, body) != 0 || !a.whole)
        fail_msg("%s: %d \"%s\"", fields, a.status, a.body);
    answer_free(&a);
}

static void test_content(void **state)
{
    rig r;
    use_page();
    open_rig(&r, answer_content, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_true(field_is(&a, "Content-Type", "text/html"));
    assert_true(field_is(&a, "Accept-Ranges", "bytes"));
    assert_null(field_of(&a, "Last-Modified"));
    assert_null(field_of(&a, "Vary"));
    assert_null(field_of(&a, "Content-Encoding"));
    const char *tag = field_of(&a, "ETag");
    assert_true(tag && strlen(tag) == 18 && tag[0] == '"' && tag[17] == '"');
    assert_answer(a, 200, PAGE);
    a = ask_path(c, "HEAD", "/", "");
    assert_true(field_is(&a, "Content-Length", "32"));
    assert_non_null(field_of(&a, "ETag"));
    assert_answer(a, 200, "");
    a = ask_path(c, "POST", "/", "Content-Length: 0\r\n");
    assert_true(field_is(&a, "Allow", "GET, HEAD"));
    assert_answer(a, 405, "405 Method Not Allowed\n");
    content.type = NULL;
    a = ask_path(c, "GET", "/", "");
    assert_null(field_of(&a, "Content-Type"));
    assert_answer(a, 200, PAGE);
    content.type = "a\r\nb";
    expect(c, "", 500, "500 Internal Server Error\n");
    memset(&content, 0, sizeof content);
    a = ask_path(c, "GET", "/", "Range: bytes=0-1\r\n");
    assert_true(field_is(&a, "Content-Length", "0"));
    assert_answer(a, 200, "");
    hang_up(c);
    rig_close(&r);
}

static void test_content_conditions(void **state)
{
    rig r;
    use_page();
    content.etag = "v1";
    open_rig(&r, answer_content, NULL, is_secure(state));
    client *c = dial(&r);
    expect(c, "If-None-Match: \"v1\"\r\n", 304, "");
    expect(c, "If-None-Match: \"v0\", W/\"v1\"\r\n", 304, "");
    expect(c, "If-None-Match: *\r\n", 304, "");
    expect(c, "If-None-Match: \"v0\"\r\n", 200, PAGE);
    expect(c, "If-Match: \"v1\"\r\n", 200, PAGE);
    expect(c, "If-Match: \"v0\"\r\n", 412, "");
    /* RFC 9110 13.1.3: ignored where there is no date. */
    expect(c, "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT\r\n", 200, PAGE);
    expect(c, "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 200, PAGE);
    expect(c, "Range: bytes=0-0\r\nIf-Range: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 200, PAGE);
    content.modified = 1700000000;              /* Tue, 14 Nov 2023 22:13:20 GMT */
    answer a = ask_path(c, "GET", "/", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n");
    assert_true(field_is(&a, "Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"));
    assert_answer(a, 304, "");
    expect(c, "If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n", 200, PAGE);
    expect(c, "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n", 412, "");
    expect(c, "Range: bytes=0-0\r\nIf-Range: Tue, 14 Nov 2023 22:13:20 GMT\r\n", 206, "<");
    hang_up(c);
    rig_close(&r);
}

static void test_content_ranges(void **state)
{
    rig r;
    use_page();
    open_rig(&r, answer_content, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "Range: bytes=18-27\r\n");
    assert_true(field_is(&a, "Content-Range", "bytes 18-27/32"));
    assert_answer(a, 206, "0123456789");
    expect(c, "Range: bytes=-4\r\n", 206, "</p>");
    expect(c, "Range: bytes=28-\r\n", 206, "</p>");
    expect(c, "Range: bytes=0-1,0-3\r\n", 206, "<!do");
    expect(c, "Range: bytes=0-1,30-31\r\n", 200, PAGE);
    expect(c, "Range: lines=1-2\r\n", 200, PAGE);
    a = ask_path(c, "GET", "/", "Range: bytes=32-\r\n");
    assert_true(field_is(&a, "Content-Range", "bytes */32"));
    assert_answer(a, 416, "");
    content.body.len = LONG;
    content.body.ptr = long_text;
    a = ask_path(c, "GET", "/", "Range: bytes=100-\r\n");
    assert_true(a.whole && a.status == 206 && a.len == LONG - 100);
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
}

static void test_content_packed(void **state)
{
    rig r;
    use_page();
    content.gzip = hsb_text(PACKED);
    open_rig(&r, answer_content, NULL, is_secure(state));
    client *c = dial(&r);
    static const char *const etags[] = { NULL, "v1" };
    for (int i = 0; i < 2; i++) {
        char plain[64], packed[64];
        content.etag = etags[i];
        answer a = ask_path(c, "GET", "/", "");
        assert_true(field_is(&a, "Vary", "Accept-Encoding"));
        assert_null(field_of(&a, "Content-Encoding"));
        snprintf(plain, sizeof plain, "%.60s", field_of(&a, "ETag"));
        assert_answer(a, 200, PAGE);
        a = ask_path(c, "GET", "/", "Accept-Encoding: br, gzip\r\n");
        assert_true(field_is(&a, "Vary", "Accept-Encoding"));
        assert_true(field_is(&a, "Content-Encoding", "gzip"));
        assert_true(field_is(&a, "Content-Type", "text/html"));
        snprintf(packed, sizeof packed, "%.60s", field_of(&a, "ETag"));
        assert_answer(a, 200, PACKED);
        assert_string_not_equal(plain, packed);
        assert_true(i == 0 || strcmp(packed, "\"v1-gzip\"") == 0);
    }
    expect(c, "Accept-Encoding: gzip;q=0\r\n", 200, PAGE);
    expect(c, "Accept-Encoding: gzip\r\nIf-None-Match: \"v1\"\r\n", 200, PACKED);
    expect(c, "Accept-Encoding: gzip\r\nIf-None-Match: \"v1-gzip\"\r\n", 304, "");
    hang_up(c);
    rig_close(&r);
}

/* The tag follows from the bytes: the same ones at another place have the same. */
static void test_content_etag(void **state)
{
    static char bytes[300];
    char tag[64] = "", first[64];
    rig r;
    (void)state;
    use_page();
    open_rig(&r, answer_content, NULL, false);
    client *c = dial(&r);
    for (size_t len = 0; len <= 40; len++)              /* NULs: only the length differs */
        for (size_t byte = 0; byte <= len; byte++) {
            snprintf(first, sizeof first, "%.60s", tag);
            memset(bytes, 0, sizeof bytes);
            if (byte < len)
                bytes[byte] = (char)(1 << (len + byte) % 8);
            content.body = (hsb_str){ bytes, len };
            answer a = ask_path(c, "HEAD", "/", "");
            snprintf(tag, sizeof tag, "%.60s", field_of(&a, "ETag"));
            assert_string_not_equal(tag, first);
            answer_free(&a);
        }
    for (int i = 0; i < 2; i++) {
        memcpy(bytes + 3 * i, PAGE, sizeof PAGE);
        content.body = (hsb_str){ bytes + 3 * i, sizeof PAGE };
        answer a = ask_path(c, "HEAD", "/", "");
        snprintf(first, sizeof first, "%.60s", tag);
        snprintf(tag, sizeof tag, "%.60s", field_of(&a, "ETag"));
        assert_true(i == 0 || strcmp(tag, first) == 0);
        answer_free(&a);
    }
    static const char *const wrong[] = { "", "a b", "a\"b", "\"a\"", "a\n",
        "12345678901234567890123456789012345678901234567890123456789012345" };
    for (int i = 0; i < 6; i++) {
        content.etag = wrong[i];
        answer a = ask_path(c, "GET", "/", "");
        assert_true(field_is(&a, "ETag", tag));
        assert_int_equal(misuses, i + 1);
        answer_free(&a);
    }
    content.etag = "1234567890123456789012345678901234567890123456789012345678901234";
    content.gzip = hsb_text(PACKED);
    answer a = ask_path(c, "GET", "/", "Accept-Encoding: gzip\r\n");
    const char *whole = field_of(&a, "ETag");
    assert_true(whole && strlen(whole) == 64 + 7);
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
}

/* --- the access log ------------------------------------------------------------------------------ */
static char logged[2048];
static int logged_len;
static void log_request(rig *r, hsb_request *req, const hsb_error *why)
{
    char small[8];
    (void)r, (void)why;
    logged_len = hsb_request_log_line(req, logged, sizeof logged);
    assert_int_equal(logged_len, strlen(logged));
    memset(small, 'z', sizeof small);
    assert_int_equal(hsb_request_log_line(req, small, 5), logged_len);
    assert_memory_equal(small, logged, 4);
    assert_memory_equal(small + 4, "\0zzz", 4);
    assert_int_equal(hsb_request_log_line(req, small, 1), logged_len);
    assert_int_equal(small[0], '\0');
    assert_int_equal(hsb_request_log_line(req, NULL, 0), logged_len);
    char *exact = malloc((size_t)logged_len + 1);       /* ASan sees one byte too many */
    assert_int_equal(hsb_request_log_line(req, exact, (size_t)logged_len + 1), logged_len);
    assert_string_equal(exact, logged);
    free(exact);
}

static void answer_four(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/abort"))
        hsb_response_abort(req);
    else
        hsb_respond(req, path_is(req, "/none") ? 204 : 200, NULL, hsb_text("four"));
}

/* logged, with the time put out of it after a look at it. */
static void expect_line(const char *before, const char *after)
{
    const char *from = strchr(logged, '['), *to = strchr(logged, ']');
    assert_true(from && to && to - from == 27);
    char month[4];
    struct tm t;
    memset(&t, 0, sizeof t);
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    assert_int_equal(sscanf(from, "[%2d/%3s/%4d:%2d:%2d:%2d +0000]", &t.tm_mday, month, &t.tm_year,
                            &t.tm_hour, &t.tm_min, &t.tm_sec), 6);
    t.tm_mon = (int)(strstr(months, month) - months) / 3;
    t.tm_year -= 1900;
    assert_within(time(NULL) - timegm(&t), 0, 2);
    char rest[2048];
    snprintf(rest, sizeof rest, "%.*s%s", (int)(from - logged), logged, to + 1);
    char wanted[2048];
    snprintf(wanted, sizeof wanted, "%s%s", before, after);
    assert_string_equal(rest, wanted);
}

static void test_log_line(void **state)
{
    rig r;
    open_rig(&r, answer_four, NULL, is_secure(state));
    r.on_finish = log_request;
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/a?b=%22", "Referer: http://x/\r\nUser-Agent: test/1\r\n");
    answer_free(&a);
    turn_until(&r, all_finished, "on_finish");
    expect_line("127.0.0.1 - - ", " \"GET /a?b=%22 HTTP/1.1\" 200 4 \"http://x/\" \"test/1\"");
    a = ask_path(c, "HEAD", "/\"\\'", "User-Agent: \"a\\b\xFF\t\x80~\r\nAuthorization: Basic dTpw\r\n");
    answer_free(&a);
    turn_until(&r, all_finished, "on_finish");
    expect_line("127.0.0.1 - - ", " \"HEAD /\\\"\\\\' HTTP/1.1\" 200 - \"-\" "
                "\"\\\"a\\\\b\\xff\\x09\\x80~\"");
    a = ask_path(c, "GET", "/none", "");
    answer_free(&a);
    turn_until(&r, all_finished, "on_finish");
    expect_line("127.0.0.1 - - ", " \"GET /none HTTP/1.1\" 204 - \"-\" \"-\"");
    a = ask_path(c, "GET", "/abort", "");
    answer_free(&a);
    turn_until(&r, all_finished, "on_finish");
    expect_line("127.0.0.1 - - ", " \"GET /abort HTTP/1.1\" - - \"-\" \"-\"");
    hang_up(c);
    rig_close(&r);
}

/* IPv6 and its zone, without a port and brackets.  The peer is set by hand. */
static void set_peer(rig *r, hsb_request *req)
{
    hsb_address_parse(&hsb_request_conn(req)->peer, r->data);
    hsb_request_conn(req)->peer.port = 443;
    hsb_respond(req, 200, NULL, hsb_text(""));
}

static void test_log_line_v6(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, set_peer, NULL, false);
    r.data = "2001:db8::1";
    r.on_finish = log_request;
    client *c = dial(&r);
    answer a = ask(c, "GET / HTTP/1.0\r\n\r\n");
    answer_free(&a);
    turn_until(&r, all_finished, "on_finish");
    expect_line("2001:db8::1 - - ", " \"GET / HTTP/1.0\" 200 - \"-\" \"-\"");
    hang_up(c);
    rig_close(&r);
}

/* --- error pages ---------------------------------------------------------------------------------- */
static int pages, page_status;
static char page_reason[64];
static const char *page_type;           /* NULL: the hook leaves all as it is */
static hsb_str page_body;

static void error_page(int status, const char *reason, const char **type, hsb_str *body, void *user)
{
    (void)user;
    pages++;
    page_status = status;
    snprintf(page_reason, sizeof page_reason, "%s", reason);
    assert_true(body->len == 0 || *type);
    if (!page_type)
        return;
    *type = page_type;
    *body = page_body;
}

static void own_answers(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/file"))
        hsb_respond_file(req, "tests/data/no-such-file", NULL);
    else if (path_is(req, "/condition"))
        hsb_respond_file(req, "Makefile", NULL);
    else if (path_is(req, "/moved"))
        hsb_respond_redirect(req, 301, "/");
    else if (path_is(req, "/moved-badly"))
        hsb_respond_redirect(req, 301, "/\n");
    else if (path_is(req, "/own"))
        hsb_respond(req, 404, "text/plain", hsb_text("mine"));
    else if (path_is(req, "/status"))
        hsb_respond(req, 99, "text/plain", hsb_text("mine"));
    else if (path_is(req, "/begin"))
        hsb_response_begin(req, 99, -1);
    else if (path_is(req, "/owned"))
        hsb_respond_owned(req, 99, "text/plain", hsb_text("mine"), NULL, NULL);
    else if (path_is(req, "/who"))
        hsb_respond_unauthorized(req, "r");
    else if (path_is(req, "/socket")) {
        const hsb_websocket_hooks none = { .user = NULL };
        hsb_request_websocket(req, &none);
    }
}

static void open_pages(rig *r, bool secure)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    o.hooks.on_error_page = error_page;
    o.limits.body_bytes = 10;
    o.limits.target_bytes = 100;
    o.limits.head_bytes = 500;
    open_rig(r, own_answers, &o, secure);
    pages = 0;
    page_type = "text/html";
    page_body = hsb_text("<p>sorry");
}

/* One request on a connection of its own, whose answer is a page of ours. */
static void expect_page(rig *r, const char *request, int status, const char *reason)
{
    client *c = dial(r);
    const int before = pages;
    answer a = ask(c, request);
    if (a.status != status || pages != before + 1 || page_status != status)
        fail_msg("%s: %d, %d pages", request, a.status, pages - before);
    assert_string_equal(page_reason, reason);
    assert_true(field_is(&a, "Content-Type", "text/html"));
    assert_true(field_is(&a, "Content-Length", "8"));
    assert_true(a.whole);
    assert_string_equal(a.body, strncmp(request, "HEAD", 4) ? "<p>sorry" : "");
    answer_free(&a);
    hang_up(c);
    turn_until(r, all_closed, "the end");
}

#define HOST " HTTP/1.1\r\nHost: a\r\n"
static void test_error_pages(void **state)
{
    rig r;
    open_pages(&r, is_secure(state));
    expect_page(&r, "GET /file" HOST "\r\n", 404, "Not Found");
    expect_page(&r, "HEAD /file" HOST "\r\n", 404, "Not Found");
    expect_page(&r, "PUT /file" HOST "\r\n", 405, "Method Not Allowed");
    expect_page(&r, "GET /condition" HOST "If-Match: \"x\"\r\n\r\n", 412, "Precondition Failed");
    expect_page(&r, "GET /condition" HOST "Range: bytes=9999999-\r\n\r\n", 416,
                "Range Not Satisfiable");
    expect_page(&r, "GET /moved-badly" HOST "\r\n", 500, "Internal Server Error");
    expect_page(&r, "GET /status" HOST "\r\n", 500, "Internal Server Error");
    expect_page(&r, "GET /begin" HOST "\r\n", 500, "Internal Server Error");
    expect_page(&r, "GET /owned" HOST "\r\n", 500, "Internal Server Error");
    expect_page(&r, "GET /nobody" HOST "\r\n", 500, "Internal Server Error");
    expect_page(&r, "GET /who" HOST "\r\n", 401, "Unauthorized");
    expect_page(&r, "GET /socket" HOST "\r\n", 400, "Bad Request");
    /* There is no request yet, or never will be. */
    expect_page(&r, "GET /\r\n\r\n", 400, "Bad Request");
    expect_page(&r, "\x16\x03\x01\r\n\r\n", 400, "Bad Request");
    expect_page(&r, "GET / HTTP/1.1\r\n\r\n", 400, "Bad Request");
    expect_page(&r, "HEAD / HTTP/1.1\r\n\r\n", 400, "Bad Request");
    expect_page(&r, "GET / HTTP/2.0\r\n\r\n", 505, "HTTP Version Not Supported");
    expect_page(&r, "GET /" HOST "Transfer-Encoding: x\r\n\r\n", 501, "Not Implemented");
    expect_page(&r, "GET /" HOST "Expect: x\r\n\r\n", 417, "Expectation Failed");
    expect_page(&r, "POST /" HOST "Content-Length: 11\r\n\r\n", 413, "Content Too Large");
    char text[800];
    snprintf(text, sizeof text, "GET /%0101d" HOST "\r\n", 0);
    expect_page(&r, text, 414, "URI Too Long");
    snprintf(text, sizeof text, "GET /" HOST "X: %0500d\r\n\r\n", 0);
    expect_page(&r, text, 431, "Request Header Fields Too Large");
    hang_up(dial(&r));
    rig_close(&r);
}

static void test_error_pages_left(void **state)
{
    rig r;
    open_pages(&r, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/own", "");          /* the application's own */
    assert_answer(a, 404, "mine");
    a = ask_path(c, "GET", "/moved", "");               /* no error */
    assert_answer(a, 301, "301 Moved Permanently\n");
    assert_int_equal(pages, 0);
    page_type = NULL;
    a = ask_path(c, "GET", "/file", "");
    assert_true(field_is(&a, "Content-Type", "text/plain; charset=utf-8"));
    assert_answer(a, 404, "404 Not Found\n");
    page_type = "text/html\r\nX: y";                    /* told, and left out */
    const int told = r.errors;
    a = ask_path(c, "GET", "/file", "");
    assert_null(field_of(&a, "X"));
    assert_true(field_is(&a, "Content-Type", "text/plain; charset=utf-8"));
    assert_answer(a, 404, "404 Not Found\n");
    assert_int_equal(r.errors, told + 1);
    assert_int_equal(r.told.status, HSB_ERR_MISUSE);
    page_type = "text/html";
    page_body = hsb_text(NULL);                         /* no body at all */
    a = ask_path(c, "GET", "/file", "");
    assert_true(field_is(&a, "Content-Length", "0"));
    assert_answer(a, 404, "");
    assert_int_equal(pages, 3);
    hang_up(c);
    rig_close(&r);
}

/* 408 comes from a deadline, and there is no hook of a request at all. */
static void test_error_page_408(void **state)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    o.hooks.on_error_page = error_page;
    o.timeouts.head = 20;
    rig r;
    (void)state;
    open_rig(&r, own_answers, &o, false);
    page_type = "text/html";
    page_body = hsb_text("<p>sorry");
    expect_page(&r, "GET / HTT", 408, "Request Timeout");
    assert_int_equal(r.heads, 0);
    rig_close(&r);
}

/* A hook that answers a request by itself makes no second answer. */
static hsb_request *victim;
static void answering_page(int status, const char *reason, const char **type, hsb_str *body,
                           void *user)
{
    (void)status, (void)reason, (void)type, (void)body, (void)user;
    hsb_respond(victim, 200, NULL, hsb_text("from the hook"));
}

static void keep_and_answer(rig *r, hsb_request *req)
{
    victim = req;
    own_answers(r, req);
}

static void test_error_page_that_answers(void **state)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    o.hooks.on_error_page = answering_page;
    rig r;
    (void)state;
    open_rig(&r, keep_and_answer, &o, false);
    client *c = dial(&r);
    for (int i = 0; i < 2; i++) {
        answer a = ask_path(c, "GET", i ? "/status" : "/file", "");
        assert_answer(a, 200, "from the hook");
    }
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_respondf),
        BOTH(test_writef),
        BOTH(test_headerf),
        BOTH(test_unauthorized),
        BOTH(test_content),
        BOTH(test_content_conditions),
        BOTH(test_content_ranges),
        BOTH(test_content_packed),
        cmocka_unit_test(test_content_etag),
        BOTH(test_log_line),
        cmocka_unit_test(test_log_line_v6),
        BOTH(test_error_pages),
        BOTH(test_error_pages_left),
        cmocka_unit_test(test_error_page_408),
        cmocka_unit_test(test_error_page_that_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
