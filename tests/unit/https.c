/* >>https: URLs and the heads of answers.  The rest is in tests/acme, against a CA that lies. */
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"

static void urls(void **state)
{
    static const struct { const char *url, *host; int port; const char *path; } good[] = {
        { "https://ca.test/dir", "ca.test", 443, "/dir" },
        { "https://CA.test:14000/a/b?c=d", "ca.test", 14000, "/a/b?c=d" },
        { "https://ca.test./", "ca.test", 443, "/" }
    };
    static const char *const bad[] = {
        "", "https://", "https:///x", "https://ca.test", "http://ca.test/", "ca.test/", "https://a b/",
        "https://ca.test:0/", "https://ca.test:65536/", "https://ca.test:/", "https://ca.test:x/",
        "https://user@ca.test/", "https://127.0.0.1/", "https://[::1]/", "https://ca.test/\r\nX: y",
        "https://ca.test/\x7F", "https://ca.test/\xC3\xA9", "https://ca.test/#x", "https://ca.test/\"",
        "HTTPS://ca.test/", "https://ca.test/ ", "https://*.ca.test/"
    };
    char host[HSB__HOST_SIZE], text[1100];
    const char *path;
    int port;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(hsb__https_url(good[i].url, host, &port, &path));
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
        assert_string_equal(path, good[i].path);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (hsb__https_url(bad[i], host, &port, &path))
            fail_msg("accepted: %s", bad[i]);
    memset(text, 'a', sizeof text);
    memcpy(text, "https://ca.test/", 16);
    text[HSB__HTTPS_URL] = '\0';
    assert_false(hsb__https_url(text, host, &port, &path));
    text[HSB__HTTPS_URL - 1] = '\0';
    assert_true(hsb__https_url(text, host, &port, &path));
}

static hsb__https *h;

static int make_client(void **state)
{
    (void)state;
    h = calloc(1, sizeof *h);
    return h ? 0 : -1;
}

static int free_client(void **state)
{
    (void)state;
    free(h);
    return 0;
}

static bool read_head(const char *text, hsb__https_answer *a, hsb__https_frame *frame)
{
    h->head = h->len = strlen(text);
    memcpy(h->bytes, text, h->len);
    hsb__error_clear(&h->why);
    return hsb__https_read_head(h, a, frame);
}

static void heads(void **state)
{
    hsb__https_answer a;
    hsb__https_frame frame;
    (void)state;
    assert_true(read_head("HTTP/1.1 201 Created\r\nReplay-Nonce: abc\r\nLocation:https://ca.test/1\r\n"
                          "content-type: application/json; charset=utf-8\r\nContent-Length: 7\r\n"
                          "Retry-After: 120\r\n\r\n", &a, &frame));
    assert_int_equal(a.status, 201);
    assert_string_equal(a.nonce, "abc");
    assert_string_equal(a.location, "https://ca.test/1");
    assert_string_equal(a.type, "application/json");
    assert_int_equal(a.retry, 120);
    assert_true(frame.has_length && !frame.chunked && frame.length == 7);
    assert_true(read_head("HTTP/1.0 200\r\nTransfer-Encoding: chunked\r\n\r\n", &a, &frame));
    assert_true(frame.chunked);
    assert_int_equal(a.retry, -1);
    assert_true(read_head("HTTP/1.1 503 x\r\nRetry-After: Fri, 01 Jan 1999 00:00:00 GMT\r\n\r\n", &a,
                          &frame));
    assert_int_equal(a.retry, 0);
    assert_true(read_head("HTTP/1.1 503 x\r\nRetry-After: soon\r\n\r\n", &a, &frame));
    assert_int_equal(a.retry, -1);
}

static void bad_heads(void **state)
{
    static const char *const bad[] = {
        "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nA\r\n\r\n", "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\n : c\r\n\r\n", "HTTP/1.1 200 OK\nA: b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: \x01\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    };
    hsb__https_answer a;
    hsb__https_frame frame;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (read_head(bad[i], &a, &frame))
            fail_msg("accepted: %s", bad[i]);
        else
            assert_true(h->why.status != HSB_OK);
}

static void long_fields(void **state)
{
    char text[2000];
    hsb__https_answer a;
    hsb__https_frame frame;
    (void)state;
    int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nReplay-Nonce: ");
    memset(text + n, 'n', 400);
    snprintf(text + n + 400, sizeof text - 400 - (size_t)n, "\r\n\r\n");
    assert_true(read_head(text, &a, &frame));
    assert_string_equal(a.nonce, "");               /* as if it were not there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        cmocka_unit_test(heads),
        cmocka_unit_test(bad_heads),
        cmocka_unit_test(long_fields),
    };
    return cmocka_run_group_tests(tests, make_client, free_client);
}
