/* >>frame: what goes out, to the byte. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"

static hsb__memory memory;
static hsb__pool pool = { .memory = &memory };

static void expect(hsb__buffer *b, const char *text)
{
    assert_int_equal(hsb__buffer_len(b), strlen(text));
    assert_memory_equal(hsb__buffer_data(b), text, strlen(text));
    hsb__buffer_release(b);
}

static bool status_line(hsb__buffer *b, int status)
{
    char *at = hsb__buffer_reserve(b, HSB__FRAME_STATUS_LINE);
    if (at)
        hsb__frame_added(b, hsb__frame_put_status_line(at, status));
    return at != NULL;
}

static void status_lines(void **state)
{
    hsb__buffer b = { .pool = &pool };
    (void)state;
    assert_true(status_line(&b, 200));
    expect(&b, "HTTP/1.1 200 OK\r\n");
    assert_true(status_line(&b, 431));
    expect(&b, "HTTP/1.1 431 Request Header Fields Too Large\r\n");
    assert_true(status_line(&b, 299));               /* unknown: empty */
    expect(&b, "HTTP/1.1 299 \r\n");
    assert_true(status_line(&b, 999));
    expect(&b, "HTTP/1.1 999 \r\n");
}

static void the_table_is_in_order(void **state)
{
    size_t n = sizeof hsb__frame_reasons / sizeof *hsb__frame_reasons;
    (void)state;
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            assert_true(hsb__frame_reasons[i - 1].status < hsb__frame_reasons[i].status);
        assert_string_equal(hsb__frame_reason(hsb__frame_reasons[i].status), hsb__frame_reasons[i].text);
    }
}

static void fields_and_chunks(void **state)
{
    hsb__buffer b = { .pool = &pool };
    (void)state;
    assert_true(hsb__frame_field(&b, "Name", hsb__text_of("value")));
    assert_true(hsb__frame_field(&b, "Empty", hsb__text_of("")));
    char *at = hsb__buffer_reserve(&b, HSB__FRAME_HEAD);
    assert_non_null(at);
    hsb__frame_added(&b, hsb__frame_put_length(at, INT64_MAX));
    expect(&b, "Name: value\r\nEmpty: \r\nContent-Length: 9223372036854775807\r\n");
    assert_true(hsb__frame_chunk(&b, hsb__text_of("0123456789abcdefXYZ")));
    expect(&b, "13\r\n0123456789abcdefXYZ\r\n");
}

/* A block that is one byte too short shows under ASan only where nothing is left over: each
   length meets the end of its own block. */
static void no_length_writes_beyond_its_space(void **state)
{
    static char bytes[5001];
    (void)state;
    memset(bytes, 'v', sizeof bytes);
    for (size_t len = 0; len <= 5000; len++) {
        hsb_str value = { bytes, len };
        hsb__buffer b = { .pool = &pool };
        assert_true(hsb__frame_field(&b, "Name", value));
        assert_int_equal(hsb__buffer_len(&b), len + 8);
        assert_true(b.tail <= b.size);
        assert_memory_equal(hsb__buffer_data(&b) + 6 + len, "\r\n", 2);
        hsb__buffer_release(&b);
        if (len == 0)
            continue;
        assert_true(hsb__frame_chunk(&b, value));
        assert_true(b.tail <= b.size);
        assert_memory_equal(hsb__buffer_data(&b) + hsb__buffer_len(&b) - 2, "\r\n", 2);
        hsb__buffer_release(&b);
    }
}

/* Space is reserved by these two numbers, and blocks are often larger than asked for. */
static void the_longest_head_fits(void **state)
{
    static const int64_t lengths[] = { INT64_MAX, HSB__LENGTH_CHUNKED, HSB__LENGTH_CLOSE, HSB__LENGTH_NONE };
    const size_t rest = sizeof "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: \r\nContent-Type: \r\n\r\n" - 1;
    static char out[4096];
    hsb_request req;
    (void)state;
    memset(&req, 0, sizeof req);
    for (req.status = 100; req.status <= 999; req.status++) {
        const size_t line = (size_t)(hsb__frame_put_status_line(out, req.status) - out);
        assert_true(line <= HSB__FRAME_STATUS_LINE);
        for (int i = 0; i < 16; i++) {
            req.promised = lengths[i & 3];
            req.channel.ending = i & 4 ? HSB__LAST_ANSWER : HSB__STAYS;
            req.head.minor = i >> 3;
            const size_t framing = (size_t)(hsb__response_put_framing(&req, out) - out);
            assert_true(line + framing + rest <= HSB__FRAME_HEAD);
        }
    }
}

static void what_a_user_may_set(void **state)
{
    static const char *const good[][2] = {
        { "X-Thing", "a b\tc" }, { "x", "" }, { "ETag", "\"\xff\x80\"" }, { "!#$%&'*+-.^_`|~09az", "v" }
    };
    static const char *const bad[][2] = {
        { "", "v" }, { "a b", "v" }, { "a:", "v" }, { "a\r", "v" }, { "\xe4", "v" }, { "ok", "a\r\nb: c" },
        { "ok", "a\nb" }, { "ok", "\x7f" }, { "ok", "\x01" }, { "Content-Length", "1" },
        { "content-length", "1" }, { "TRANSFER-ENCODING", "chunked" }, { "Connection", "close" },
        { "Keep-Alive", "x" }, { "Date", "now" }
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(hsb__frame_field_allowed(good[i][0], good[i][1]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(hsb__frame_field_allowed(bad[i][0], bad[i][1]));
    assert_false(hsb__frame_field_allowed("ok", NULL));
}

static int end(void **state)
{
    (void)state;
    hsb__pool_close(&pool);
    return memory.used == 0 ? 0 : -1;
}

static void which_have_a_body(void **state)
{
    (void)state;
    for (int status = 100; status < 1000; status++)
        assert_int_equal(hsb__frame_has_body(status), status >= 200 && status != 204 && status != 304);
}

static void *alloc_nothing(size_t size, void *user)
{
    (void)size, (void)user;
    return NULL;
}

static void without_memory(void **state)
{
    hsb__memory none = { .user.alloc = alloc_nothing };
    hsb__pool empty = { .memory = &none };
    hsb__buffer b = { .pool = &empty };
    (void)state;
    assert_false(status_line(&b, 200));
    assert_false(hsb__frame_field(&b, "Name", hsb__text_of("value")));
    assert_false(hsb__frame_chunk(&b, hsb__text_of("part")));
    assert_int_equal(hsb__buffer_len(&b), 0);
    hsb__pool_close(&empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(status_lines, end),
        cmocka_unit_test_teardown(the_table_is_in_order, end),
        cmocka_unit_test_teardown(fields_and_chunks, end),
        cmocka_unit_test_teardown(no_length_writes_beyond_its_space, end),
        cmocka_unit_test_teardown(the_longest_head_fits, end),
        cmocka_unit_test_teardown(what_a_user_may_set, end),
        cmocka_unit_test_teardown(which_have_a_body, end),
        cmocka_unit_test_teardown(without_memory, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
