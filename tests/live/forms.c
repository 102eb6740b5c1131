/* Forms with files as an application sees them: sent by libcurl's mime API and by hand, streamed
   to hooks and kept; pauses, answers and ends within a form; no memory. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"

#define FIELD "Content-Disposition: form-data; name="
#define HEAD(path, length) "POST " path " HTTP/1.1\r\nHost: x\r\n" \
    "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: " length "\r\n\r\n"

/* What the hooks have seen: "<name|file|type>" and '/' for a whole part; data that is not a text is
   checked against the pattern and counted only. */
static struct seen {
    bytebuf text;
    size_t  in_part, total, largest;
    bool    pattern;                    /* of the part at hand */
    int     parts, ends, hooks;
    int     pause_each;                 /* ms between two pieces; 0: no pauses */
    int     stop_at;                    /* which part on_part does something about */
    void  (*stop)(hsb_request *);
} seen;

static void seen_reset(void)
{
    bytes_free(&seen.text);
    memset(&seen, 0, sizeof seen);
}

static void see_str(const char *before, hsb_str s)
{
    bytes_add_text(&seen.text, before);
    bytes_add(&seen.text, s.ptr ? s.ptr : "-", s.ptr ? s.len : 1);
}

static void go_on(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_request_resume(req);
}

static void rest_a_while(hsb_request *req)
{
    if (!seen.pause_each)
        return;
    hsb_request_pause(req);
    hsb_request_after(req, seen.pause_each, go_on, NULL);
}

static void see_part(hsb_request *req, const hsb_part *part, void *user)
{
    assert_ptr_equal(user, &seen);
    see_str("<", part->name);
    see_str("|", part->file_name);
    see_str("|", part->type);
    bytes_add_text(&seen.text, ">");
    seen.pattern = hsb_equal(part->name, "pattern");
    seen.in_part = 0;
    seen.hooks++;
    if (++seen.parts == seen.stop_at)
        seen.stop(req);
    rest_a_while(req);
}

static void see_data(hsb_request *req, hsb_str bytes, void *user)
{
    assert_ptr_equal(user, &seen);
    assert_true(bytes.len > 0);
    if (seen.pattern)
        assert_true(pattern_fits(bytes.ptr, seen.in_part, bytes.len));
    else
        bytes_add(&seen.text, bytes.ptr, bytes.len);
    seen.in_part += bytes.len;
    seen.total += bytes.len;
    seen.largest = bytes.len > seen.largest ? bytes.len : seen.largest;
    seen.hooks++;
    rest_a_while(req);
}

static void see_end(hsb_request *req, void *user)
{
    assert_ptr_equal(user, &seen);
    bytes_add_text(&seen.text, "/");
    seen.ends++;
    seen.hooks++;
    rest_a_while(req);
}

static void take_form(rig *r, hsb_request *req)
{
    hsb_multipart_hooks hooks = { &seen, see_part, see_data, see_end, 0, 0 };
    (void)r;
    hsb_request_multipart(req, &hooks);
    memset(&hooks, 1, sizeof hooks);                        /* they were copied */
}

static void answer_seen(rig *r, hsb_request *req)
{
    (void)r;
    assert_null(hsb_request_body(req).ptr);
    hsb_respond(req, 200, "text/plain", hsb_text(seen.text.data ? seen.text.data : ""));
}

/* --- libcurl ------------------------------------------------------------------------------- */
static size_t keep_page(char *bytes, size_t size, size_t n, void *user)
{
    bytes_add(user, bytes, size * n);
    return size * n;
}

/* curl reads this many bytes of the pattern. */
typedef struct source { size_t at, len; } source;

static size_t read_pattern(char *out, size_t size, size_t n, void *user)
{
    source *s = user;
    size_t len = size * n < s->len - s->at ? size * n : s->len - s->at;
    pattern_fill(out, s->at, len);
    s->at += len;
    return len;
}

static void add_field(curl_mime *form, const char *name, const char *file, const char *data)
{
    curl_mimepart *part = curl_mime_addpart(form);
    curl_mime_name(part, name);
    curl_mime_data(part, data, CURL_ZERO_TERMINATED);
    if (file)
        curl_mime_filename(part, file);
}

/* A form with a field, an odd one, and `len` bytes of the pattern; known: with Content-Length. */
static long send_form(rig *r, size_t len, bool known, bytebuf *page)
{
    CURL *easy = curl_new(r, "/");
    curl_mime *form = curl_mime_init(easy);
    source s = { 0, len };
    long status = 0;
    add_field(form, "greeting", NULL, "hello");
    add_field(form, "a \"b\"", "C:\\x \"y\".txt", "\r\n--\r\n\r\n-");
    curl_mimepart *part = curl_mime_addpart(form);
    curl_mime_name(part, "pattern");
    curl_mime_filename(part, "\303\244.bin");
    curl_mime_type(part, "application/x-pattern");
    curl_mime_data_cb(part, known ? (curl_off_t)len : -1, read_pattern, NULL, NULL, &s);
    curl_easy_setopt(easy, CURLOPT_MIMEPOST, form);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep_page);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, page);
    assert_int_equal(curl_run(r, easy), CURLE_OK);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(easy);
    curl_mime_free(form);
    return status;
}

#define CURLS_FORM "<greeting|-|->hello/<a \"b\"|C:\\x \"y\".txt|text/plain>\r\n--\r\n\r\n-/" \
                   "<pattern|\303\244.bin|application/x-pattern>/"

static void curl_sends_a_form(void **state)
{
    rig r = { .on_head = take_form, .on_request = answer_seen };
    static const size_t sizes[] = { 0, 1, 70000, 5000000 };
    rig_open(&r, NULL, is_secure(state));
    for (size_t i = 0; i < 8; i++) {
        bytebuf page = { 0 };
        seen_reset();
        assert_int_equal(send_form(&r, sizes[i / 2], i % 2, &page), 200);
        assert_string_equal(page.data, CURLS_FORM);
        assert_int_equal(seen.in_part, sizes[i / 2]);
        bytes_free(&page);
    }
    assert_int_equal(r.body_bytes, 0);                      /* on_body saw nothing of it */
    assert_true(seen.largest > 4000);
    turn_until(&r, all_closed, "the connections end");
    rig_close(&r);
}

/* Each piece waits for the one before, and none comes twice or is lost. */
static void pieces_wait_for_each_other(void **state)
{
    rig r = { .on_head = take_form, .on_request = answer_seen };
    rig_open(&r, NULL, is_secure(state));
    for (int known = 0; known < 2; known++) {
        bytebuf page = { 0 };
        seen_reset();
        seen.pause_each = 1;
        assert_int_equal(send_form(&r, 300000, known, &page), 200);
        assert_string_equal(page.data, CURLS_FORM);
        assert_int_equal(seen.in_part, 300000);
        bytes_free(&page);
    }
    rig_close(&r);
}

/* --- kept ---------------------------------------------------------------------------------- */
/* All parts are collected first: what they point to stays. */
static void answer_parts(rig *r, hsb_request *req)
{
    hsb_str rest = { NULL, 0 }, bytes[8], again;
    hsb_part parts[8], none;
    size_t n = 0;
    (void)r;
    seen_reset();
    while (n < 8 && hsb_request_next_part(req, &rest, &parts[n], &bytes[n]))
        n++;
    assert_true(hsb_response_status(req) != 0 || (rest.ptr && rest.len == 0));
    assert_false(hsb_request_next_part(req, &rest, &none, &again));
    for (size_t i = 0; i < n; i++) {
        see_str("<", parts[i].name);
        see_str("|", parts[i].file_name);
        see_str("|", parts[i].type);
        see_str(">", hsb_equal(parts[i].name, "pattern") ? hsb_text("") : bytes[i]);
        if (hsb_equal(parts[i].name, "pattern"))
            assert_true(pattern_fits(bytes[i].ptr, 0, seen.in_part = bytes[i].len));
        bytes_add_text(&seen.text, "/");
    }
    hsb_respond(req, 200, "text/plain", hsb_text(seen.text.data ? seen.text.data : ""));
}

static void a_kept_form(void **state)
{
    rig r = { .on_request = answer_parts };
    rig_open(&r, NULL, is_secure(state));
    for (size_t len = 0; len < 1000000; len = len * 7 + 3) {
        bytebuf page = { 0 };
        assert_int_equal(send_form(&r, len, len % 2, &page), 200);
        assert_string_equal(page.data, CURLS_FORM);
        assert_int_equal(seen.in_part, len);
        bytes_free(&page);
    }
    rig_close(&r);
}

/* --- ends ---------------------------------------------------------------------------------- */
static void abort_it(hsb_request *req)
{
    hsb_response_abort(req);
}

static void close_it(hsb_request *req)
{
    hsb_conn_close(hsb_request_conn(req), true);
}

static void answer_it(hsb_request *req)
{
    hsb_respond(req, 403, NULL, hsb_text("no"));
}

static const char two_parts[] = HEAD("/", "105") "--B\r\n" FIELD "a\r\n\r\n1\r\n--B\r\n" FIELD "b\r\n\r\n2\r\n--B--";

static bool one_is_finished(const rig *r)
{
    return r->finishes == 1;
}

static void no_hook_follows_an_end(void **state)
{
    static void (*const stops[])(hsb_request *) = { abort_it, close_it, answer_it };
    for (int i = 0; i < 3; i++) {
        rig r = { .on_head = take_form, .on_request = answer_seen };
        rig_open(&r, NULL, is_secure(state));
        seen_reset();
        seen.stop_at = 2;
        seen.stop = stops[i];
        client *c = dial(&r);
        say(c, two_parts);
        turn_until(&r, one_is_finished, "on_finish");
        assert_string_equal(seen.text.data, "<a|-|->1/<b|-|->");
        assert_int_equal(r.requests, 0);
        client_free(c);
        rig_close(&r);
    }
}

static void a_client_leaves_within_a_part(void **state)
{
    rig r = { .on_head = take_form, .on_request = answer_seen };
    rig_open(&r, NULL, is_secure(state));
    seen_reset();
    client *c = dial(&r);
    say_bytes(c, two_parts, sizeof two_parts - 1 - strlen("\n--B--"));
    turns(&r, 5);
    cut_off(c);
    turn_until(&r, all_closed, "on_close");
    assert_string_equal(seen.text.data, "<a|-|->1/<b|-|->2");
    assert_int_not_equal(r.finished_with.status, HSB_OK);
    rig_close(&r);
}

/* What a hook sees of one form is not seen in the next request on the connection. */
static void the_next_request_has_no_form(void **state)
{
    rig r = { .on_head = take_form, .on_request = answer_seen };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int i = 0; i < 3; i++) {
        seen_reset();
        r.on_head = take_form;
        say(c, two_parts);
        answer a = hear_answer(c, false);
        assert_string_equal(a.body, "<a|-|->1/<b|-|->2/");
        answer_free(&a);
        r.on_head = NULL;
        r.on_request = answer_parts;
        say(c, two_parts);
        a = hear_answer(c, false);
        assert_string_equal(a.body, "<a|-|->1/<b|-|->2/");
        answer_free(&a);
        r.on_request = answer_seen;
    }
    hang_up(c);
    rig_close(&r);
}

/* --- memory --------------------------------------------------------------------------------- */
static void request_bytes_are_the_limit(void **state)
{
    rig r = { .on_head = take_form, .on_request = answer_seen };
    hsb_options options = { .limits = { .request_bytes = 8192 } };
    for (int i = 0; i < 2; i++) {
        rig_open(&r, &options, is_secure(state));
        seen_reset();
        client *c = dial(&r);
        say(c, two_parts);
        answer a = hear_answer(c, false);
        assert_int_equal(a.status, i ? 200 : 500);
        answer_free(&a);
        hang_up(c);
        rig_close(&r);
        options.limits.request_bytes = 10000;
    }
}

static struct { heap *heap; int left, calls; } scarce;      /* left -1: never fails */

static void *scarce_alloc(size_t size, void *user)
{
    (void)user;
    scarce.calls++;
    if (scarce.left == 0)
        return NULL;
    scarce.left -= scarce.left > 0;
    return heap_alloc(size, scarce.heap);
}

static void scarce_release(void *ptr, size_t size, void *user)
{
    (void)user;
    heap_release(ptr, size, scarce.heap);
}

static void scarce_open(rig *r, bool secure)
{
    hsb_error err;
    rig_prepare(r, NULL, secure);
    r->options.allocator.alloc = scarce_alloc;
    r->options.allocator.release = scarce_release;
    scarce.heap = &r->heap;
    scarce.left = -1;
    r->server = secure ? hsb_bind_secure("127.0.0.1", 0, rig_security(), &r->options, &err)
                       : hsb_bind("127.0.0.1", 0, &r->options, &err);
    assert_non_null(r->server);
    r->port = hsb_server_port(r->server);
}

/* The n-th allocation after the handshake and all that follow it fail; then there is memory again.
   The server goes on, and a form is seen whole or its request fails. */
static void without_memory(void **state)
{
    for (int kept = 0; kept < 2; kept++) {
        bool done = false;
        for (int n = 0; !done; n++) {
            rig r = { .on_head = kept ? NULL : take_form,
                      .on_request = kept ? answer_parts : answer_seen };
            assert_within(n, 0, 50);
            scarce_open(&r, is_secure(state));
            seen_reset();
            client *c = dial(&r);
            turns(&r, 3);
            scarce.left = n;
            say(c, two_parts);
            turns(&r, 30);
            done = scarce.left > 0;
            scarce.left = -1;
            if (done) {
                answer a = hear_answer(c, false);
                assert_string_equal(a.body, "<a|-|->1/<b|-|->2/");
                answer_free(&a);
            }
            client_free(c);
            c = dial(&r);
            seen_reset();
            say(c, two_parts);
            answer a = hear_answer(c, false);
            assert_int_equal(a.status, 200);
            answer_free(&a);
            hang_up(c);
            rig_close(&r);
        }
    }
}

static void nothing_is_allocated_in_the_steady_state(void **state)
{
    if (HSB__POOL_KEEP == 0)
        skip_because("this build keeps no blocks");
    for (int kept = 0; kept < 2; kept++) {
        rig r = { .on_head = kept ? NULL : take_form, .on_request = kept ? answer_parts : answer_seen };
        scarce_open(&r, is_secure(state));
        client *c = dial(&r);
        for (int i = 0; i < 20; i++) {
            if (i == 5)
                scarce.calls = 0;
            seen_reset();
            say(c, two_parts);
            answer a = hear_answer(c, false);
            assert_string_equal(a.body, "<a|-|->1/<b|-|->2/");
            answer_free(&a);
        }
        assert_int_equal(scarce.calls, 0);
        hang_up(c);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(curl_sends_a_form),
        BOTH(pieces_wait_for_each_other),
        BOTH(a_kept_form),
        BOTH(no_hook_follows_an_end),
        BOTH(a_client_leaves_within_a_part),
        BOTH(the_next_request_has_no_form),
        BOTH(request_bytes_are_the_limit),
        BOTH(without_memory),
        BOTH(nothing_is_allocated_in_the_steady_state),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    seen_reset();
    curl_global_cleanup();
    return failed;
}
