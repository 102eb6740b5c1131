/* Parts of files, and conditions: validators, ranges, resumed downloads. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "files_tree.h"

/* --- conditions --------------------------------------------------------------------------- */

static void test_conditions(void **state)
{
    static const struct { const char *fields; int status; } rows[] = {
        /* %s: our tag */
        { "If-None-Match: %s\r\n", 304 },
        { "If-None-Match: W/%s\r\n", 304 },
        { "If-None-Match: \"x\", %s\r\n", 304 },
        { "If-None-Match: \"x, y\",%s , \"z\"\r\n", 304 },
        { "If-None-Match: \"x\"\r\nHost-Is: a\r\nIf-None-Match: \"y\", %s\r\n", 304 },
        { "If-None-Match:\r\nif-none-match: %s\r\n", 304 },
        { "If-None-Match: *\r\n", 304 },
        { "If-None-Match: \"x\"\r\n", 200 },
        { "If-None-Match: \"\"\r\n", 200 },
        { "If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n", 200 },
        { "If-None-Match: %s\r\nIf-Modified-Since: Sat, 08 Sep 2001 01:46:40 GMT\r\n", 304 },
        { "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n", 304 },
        { "If-Modified-Since: Mon, 10 Sep 2001 01:46:40 GMT\r\n", 304 },
        { "If-Modified-Since: Sun, 09 Sep 2001 01:46:39 GMT\r\n", 200 },
        { "If-Modified-Since: Sunday, 09-Sep-01 01:46:40 GMT\r\n", 304 },
        { "If-Modified-Since: Sunday, 09-Sep-01 01:46:39 GMT\r\n", 200 },
        { "If-Modified-Since: Sun Sep  9 01:46:40 2001\r\n", 304 },
        { "If-Modified-Since: Sun Sep  9 01:46:39 2001\r\n", 200 },
        { "If-Modified-Since: yesterday\r\n", 200 },       /* no date: ignored */
        { "If-Match: %s\r\n", 200 },
        { "If-Match: \"x\", %s\r\n", 200 },
        { "If-Match: \"x\"\r\nIf-Match: %s\r\n", 200 },
        { "If-Match: \"x\"\r\nIf-Match: \"y\"\r\n", 412 },
        { "If-Match: *\r\n", 200 },
        { "If-Match: \"x\"\r\n", 412 },
        { "If-Match: W/%s\r\n", 412 },
        { "If-Match: %s\r\nIf-Unmodified-Since: Sat, 08 Sep 2001 01:46:40 GMT\r\n", 200 },
        { "If-Match: %s\r\nIf-None-Match: *\r\n", 304 },
        { "If-Match: \"x\"\r\nIf-None-Match: *\r\nRange: bytes=1-2\r\n", 412 },
        { "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n", 200 },
        { "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:39 GMT\r\n", 412 },
        { "If-Unmodified-Since: yesterday\r\n", 200 },
        { "If-Modified-Since: \r\n", 200 },
    };
    char etag[80], changed[80], fields[300];
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    etag_of(c, "/a.txt", "", etag);
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        const char *method = i % 2 ? "HEAD" : "GET";
        const char *mark = strstr(rows[i / 2].fields, "%s");
        if (mark)
            snprintf(fields, sizeof fields, "%.*s%s%s", (int)(mark - rows[i / 2].fields),
                     rows[i / 2].fields, etag, mark + 2);
        else
            snprintf(fields, sizeof fields, "%s", rows[i / 2].fields);
        answer a = ask_path(c, method, "/a.txt", fields);
        if (a.status != rows[i / 2].status)
            fail_msg("%s%s -> %d", method, fields, a.status);
        if (a.status == 304) {                              /* RFC 9110 15.4.5 */
            assert_true(field_is(&a, "ETag", etag));
            assert_null(field_of(&a, "Content-Length"));
        }
        answer_free(&a);
    }
    assert_int_equal(r.accepts, 1);
    /* Another content within the same second is another version. */
    set_time(in(root, "a.txt"), 1000000000, 6);
    etag_of(c, "/a.txt", "", changed);
    assert_string_not_equal(etag, changed);
    set_time(in(root, "a.txt"), 1000000000, 5);
    hang_up(c);
    rig_close(&r);
}

/* --- ranges ------------------------------------------------------------------------------- */

static void test_ranges(void **state)
{
    static const struct {
        const char *range;
        int status;
        const char *content_range, *body;
    } rows[] = {
        { "bytes=0-0", 206, "bytes 0-0/10", "0" },
        { "bytes=0-9", 206, "bytes 0-9/10", "0123456789" },
        { "bytes=3-5", 206, "bytes 3-5/10", "345" },
        { "bytes=7-", 206, "bytes 7-9/10", "789" },
        { "bytes=0-", 206, "bytes 0-9/10", "0123456789" },
        { "bytes=5-100", 206, "bytes 5-9/10", "56789" },
        { "bytes=5-9223372036854775807", 206, "bytes 5-9/10", "56789" },
        { "bytes=-3", 206, "bytes 7-9/10", "789" },
        { "bytes=-10", 206, "bytes 0-9/10", "0123456789" },
        { "bytes=-100", 206, "bytes 0-9/10", "0123456789" },
        { "BYTES=3-5", 206, "bytes 3-5/10", "345" },
        { "bytes= 3-5 ", 206, "bytes 3-5/10", "345" },
        { "bytes=,3-5,", 206, "bytes 3-5/10", "345" },
        { "bytes=3-5,20-30", 206, "bytes 3-5/10", "345" }, /* only one of them is there */
        { "bytes=10-", 416, "bytes */10", NULL },
        { "bytes=10-20", 416, "bytes */10", NULL },
        { "bytes=9223372036854775807-", 416, "bytes */10", NULL },
        { "bytes=-0", 416, "bytes */10", NULL },
        { "bytes=10-,20-30", 416, "bytes */10", NULL },
        { "bytes=5-3", 200, NULL, "0123456789" }, /* RFC 9110 14.1.1: invalid: ignored */
        { "bytes=", 200, NULL, "0123456789" },
        { "bytes=-", 200, NULL, "0123456789" },
        { "bytes=a-b", 200, NULL, "0123456789" },
        { "bytes=1", 200, NULL, "0123456789" },
        { "bytes=--1", 200, NULL, "0123456789" },
        { "bytes=+1-2", 200, NULL, "0123456789" },
        { "bytes=1-2-3", 200, NULL, "0123456789" },
        { "bytes=1-2,x", 200, NULL, "0123456789" },
        { "bytes=99999999999999999999-", 416, "bytes */10", NULL },
        { "bytes=99999999999999999998-99999999999999999999", 416, "bytes */10", NULL },
        { "bytes=5-99999999999999999999", 206, "bytes 5-9/10", "56789" },
        { "bytes=-99999999999999999999", 206, "bytes 0-9/10", "0123456789" },
        { "bytes=99999999999999999999x-", 200, NULL, "0123456789" },
        { "lines=1-2", 200, NULL, "0123456789" },
        { "bytes 1-2", 200, NULL, "0123456789" },
        /* Of several, the first that covers the others; else the whole file. */
        { "bytes=0-1,0-1,0-9", 206, "bytes 0-9/10", "0123456789" },
        { "bytes=4-4,3-5,3-4", 206, "bytes 3-5/10", "345" },
        { "bytes=3-5,3-5", 206, "bytes 3-5/10", "345" },
        { "bytes=-5,-5,-1", 206, "bytes 5-9/10", "56789" },
        { "bytes=8-,5-20,30-", 206, "bytes 5-9/10", "56789" },
        { "bytes=0-0,2-2", 200, NULL, "0123456789" },
        { "bytes=0-3,2-5", 200, NULL, "0123456789" },
        { "bytes=5-9,0-3", 200, NULL, "0123456789" },
        { "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8", 200, NULL, "0123456789" }, /* too many */
    };
    char fields[200];
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(fields, sizeof fields, "Range: %s\r\n", rows[i].range);
        answer a = ask_path(c, "GET", "/a.txt", fields);
        const char *got = field_of(&a, "Content-Range");
        if (a.status != rows[i].status || !a.whole || !got != !rows[i].content_range ||
            (got && strcmp(got, rows[i].content_range) != 0) ||
            (rows[i].body && strcmp(a.body, rows[i].body) != 0))
            fail_msg("%s -> %d, %s, %s", rows[i].range, a.status, got ? got : "-", a.body);
        answer_free(&a);
    }
    answer a = ask_path(c, "GET", "/empty.txt", "Range: bytes=0-\r\n");   /* it has no ranges */
    assert_answer(a, 200, "");
    a = ask_path(c, "HEAD", "/a.txt", "Range: bytes=3-5\r\n");    /* RFC 9110 14.2: GET only */
    assert_true(field_is(&a, "Content-Length", "10"));
    assert_answer(a, 200, "");
    assert_int_equal(r.accepts, 1);
    hang_up(c);
    rig_close(&r);
}

static void test_if_range(void **state)
{
    static const struct { const char *condition; int status; } rows[] = {
        { "%s", 206 }, { "\"x\"", 200 }, { "W/%s", 200 }, { "*", 200 },
        { "Sun, 09 Sep 2001 01:46:40 GMT", 206 }, { "Sun, 09 Sep 2001 01:46:41 GMT", 200 },
        { "Sun, 09 Sep 2001 01:46:39 GMT", 200 }, { "", 200 },
    };
    char etag[80], fields[300];
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    etag_of(c, "/a.txt", "", etag);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *mark = strstr(rows[i].condition, "%s");
        snprintf(fields, sizeof fields, "Range: bytes=2-3\r\nIf-Range: %.*s%s\r\n",
                 (int)(mark ? mark - rows[i].condition : (int)strlen(rows[i].condition)),
                 rows[i].condition, mark ? etag : "");
        answer a = ask_path(c, "GET", "/a.txt", fields);
        if (a.status != rows[i].status)
            fail_msg("If-Range: %s -> %d", rows[i].condition, a.status);
        assert_string_equal(a.body, a.status == 206 ? "23" : "0123456789");
        answer_free(&a);
    }
    hang_up(c);
    rig_close(&r);
}

static size_t count_body(char *bytes, size_t size, size_t n, void *user)
{
    (void)bytes;
    *(size_t *)user += size * n;
    return size * n;
}

/* curl -C -: the rest of what came before. */
static void test_curl_resumes(void **state)
{
    size_t got = 0;
    long status = 0;
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    CURL *easy = curl_new(&r, "/big.bin");
    curl_easy_setopt(easy, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)123456);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, count_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &got);
    assert_int_equal(curl_run(&r, easy), CURLE_OK);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    assert_int_equal(status, 206);
    assert_int_equal(got, BIG - 123456);
    curl_easy_setopt(easy, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(curl_run(&r, easy), CURLE_OK);
    curl_easy_cleanup(easy);
    turn_until(&r, all_closed, "curl's end");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_conditions),
        BOTH(test_ranges),
        BOTH(test_if_range),
        BOTH(test_curl_resumes),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
