/* The example echo, and how examples end. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "examples_help.h"

/* --- echo ----------------------------------------------------------------------------- */

static void echo_gives_back(void **state)
{
    static const size_t sizes[] = { 0, 1, 16384, 65537, 5000000 };
    bytebuf body = noise(5000000);
    (void)state;
    running r = START("echo", CERT, "--threads", "2");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int chunked = 0; chunked < 2; chunked++) {
            transfer t = { .body = body.data, .body_len = sizes[i], .chunked = chunked };
            char length[64];
            fetch(&r, "/echo", &t);
            assert_int_equal(t.status, 200);
            assert_int_equal(t.got.len, sizes[i]);
            assert_memory_equal(t.got.data, body.data, sizes[i]);
            snprintf(length, sizeof length, "Content-Length: %zu\r\n", sizes[i]);
            assert_true(has_field(&t, chunked ? "Transfer-Encoding: chunked\r\n" : length));
            assert_false(has_field(&t, chunked ? "Content-Length" : "Transfer-Encoding"));
            assert_false(has_field(&t, "Connection: close"));
            drop(&t);
        }
    free(body.data);
    stop(&r);
}

/* Who does not read is not read from: else the answer would pile up, and be cut. */
static void echo_waits_for_its_reader(void **state)
{
    bytebuf body = noise(24000000);
    (void)state;
    running r = START("echo", CERT);
    transfer t = { .body = body.data, .body_len = body.len, .chunked = true, .late = true };
    fetch(&r, "/echo", &t);
    assert_int_equal(t.got.len, body.len);
    assert_memory_equal(t.got.data, body.data, body.len);
    drop(&t);
    free(body.data);
    stop(&r);
}

static void echo_counts_and_sends(void **state)
{
    bytebuf body = noise(3000000);
    (void)state;
    running r = START("echo", CERT);
    expect(&r, "/", 200, "hello\n");
    transfer t = { .body = body.data, .body_len = body.len };
    fetch(&r, "/sink", &t);
    assert_string_equal(t.got.data, "3000000\n");
    drop(&t);
    fetch(&r, "/nowhere", &t);
    assert_int_equal(t.status, 404);
    drop(&t);
    free(body.data);
    static const size_t sizes[] = { 0, 1, 16384, 65536, 30000000 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        transfer get = { 0 };
        char path[64];
        snprintf(path, sizeof path, "/bytes/%zu", sizes[i]);
        fetch(&r, path, &get);
        assert_int_equal(get.status, 200);
        assert_int_equal(get.got.len, sizes[i]);
        drop(&get);
    }
    transfer head = { .method = "HEAD" };
    fetch(&r, "/bytes/99999999999999999", &head);
    assert_true(has_field(&head, "Content-Length: 99999999999999999\r\n"));
    drop(&head);
    static const char *const unknown[] = { "/bytes/", "/bytes/-1", "/bytes/1x", "/nope", "/echo", "/sink",
                                           "/bytes/9999999999999999999" };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_int_equal(status_of(&r, unknown[i], NULL), 404);
    stop(&r);
}

static void echo_knows_who_asks(void **state)
{
    (void)state;
    running r = START("echo", CERT, "--client-ca", DATA "ca.pem");
    transfer t = { 0 }, ann = { .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
    fetch(&r, "/whoami", &t);
    assert_non_null(strstr(t.got.data, "version: TLSv1.3\nsuite: TLS_"));
    assert_non_null(strstr(t.got.data, "\nserver name: localhost\nalpn: http/1.1\nclient: none\n"));
    fetch(&r, "/whoami", &ann);
    assert_non_null(strstr(ann.got.data, "\nclient: CN=ann,O=Example\n"));
    drop(&t);
    drop(&ann);
    stop(&r);
    r = START("echo", CERT, "--client-ca", DATA "ca.pem", "--require-client-cert");
    char url[64];
    snprintf(url, sizeof url, "https://localhost:%d/", r.port);
    perform(&t, url);
    assert_int_not_equal(t.code, CURLE_OK);
    fetch(&r, "/", &ann);
    assert_int_equal(ann.status, 200);
    drop(&t);
    drop(&ann);
    stop(&r);
}

/* --- the end -------------------------------------------------------------------------- */

static void terminate_twice(void *arg)
{
    kill(((child *)arg)->pid, SIGINT);
    kill(((child *)arg)->pid, SIGTERM);
}

static void one_signal_lets_downloads_finish(void **state)
{
    (void)state;
    running r = START("echo", CERT, "--threads", "2");
    transfer t = { .at_first_byte = terminate, .arg = r.process };
    fetch(&r, "/bytes/20000000", &t);
    assert_int_equal(t.got.len, 20000000);
    drop(&t);
    assert_int_equal(child_end(r.process), 0);
    child_free(r.process);
}

static void two_signals_cut_them(void **state)
{
    char url[64];
    (void)state;
    running r = START("echo", CERT);
    transfer t = { .at_first_byte = terminate_twice, .arg = r.process };
    snprintf(url, sizeof url, "https://localhost:%d/bytes/3000000000", r.port);
    perform(&t, url);
    assert_int_not_equal(t.code, CURLE_OK);
    drop(&t);
    assert_int_equal(child_end(r.process), 0);
    child_free(r.process);
}

typedef struct slow_fetch { transfer t; char url[64]; } slow_fetch;

static void *fetch_slow(void *arg)
{
    slow_fetch *f = arg;
    perform(&f->t, f->url);
    return NULL;
}

static void graceful_finishes_answers(void **state)
{
    pthread_t thread;
    slow_fetch f = { .t = { 0 } };
    (void)state;
    running r = START("graceful", CERT);
    snprintf(f.url, sizeof f.url, "https://localhost:%d/", r.port);
    assert_int_equal(pthread_create(&thread, NULL, fetch_slow, &f), 0);
    assert_true(child_says(&r.process->err, "thinking", 1));
    kill(r.process->pid, SIGINT);
    pthread_join(thread, NULL);
    assert_int_equal(f.t.code, CURLE_OK);
    assert_string_equal(f.t.got.data, "here it is, after three seconds\n");
    drop(&f.t);
    assert_int_equal(child_end(r.process), 0);
    assert_non_null(strstr(r.process->err.text, "1 active, 0 idle"));
    assert_non_null(strstr(r.process->err.text, "all done\n"));
    child_free(r.process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_gives_back),
        cmocka_unit_test(echo_waits_for_its_reader),
        cmocka_unit_test(echo_counts_and_sends),
        cmocka_unit_test(echo_knows_who_asks),
        cmocka_unit_test(one_signal_lets_downloads_finish),
        cmocka_unit_test(two_signals_cut_them),
        cmocka_unit_test(graceful_finishes_answers),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests_name("examples", tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
