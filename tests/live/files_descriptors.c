/* The descriptors of files that are being sent: a small file holds none, a large one holds one,
   and they count against what the process may have. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "files_tree.h"

#include <sys/resource.h>

enum { SMALL = 65536, LARGE = 4000000 };

static int make_large(void **state)
{
    static char bytes[LARGE];
    int failed = make_tree(state);
    pattern_fill(bytes, 0, sizeof bytes);
    put(in(root, "small.bin"), bytes, SMALL);
    put(in(root, "over.bin"), bytes, SMALL + 1);
    put(in(root, "large.bin"), bytes, LARGE);
    return failed;
}

static bool one_accept(const rig *r)
{
    return r->accepts > 0;
}

static bool one_request(const rig *r)
{
    return r->requests > 0;
}

/* How many descriptors the server holds beyond its own while that is sent to who does not read. */
static int held_while_sending(void **state, const char *path, const char *fields)
{
    char text[300];
    rig r = { .on_request = answer_file, .send_buffer = 4096 };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial_narrow(&r);
    turn_until(&r, one_accept, "the client");
    int before = open_descriptors();
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, fields);
    say(c, text);
    turn_until(&r, one_request, "the request");
    turns(&r, 5);
    int held = open_descriptors() - before;
    assert_int_equal(r.finishes, 0);
    answer a = hear_answer(c, false);
    assert_true(a.whole && a.status < 300);
    assert_true(pattern_fits(a.body, a.status == 206 ? 1000 : 0, a.len));
    answer_free(&a);
    turn_until(&r, all_finished, "the end");
    assert_int_equal(open_descriptors(), before);
    hang_up(c);
    rig_close(&r);
    return held;
}

static void test_small_files_hold_none(void **state)
{
    assert_int_equal(held_while_sending(state, "/small.bin", ""), 0);
    assert_int_equal(held_while_sending(state, "/small.bin", "Range: bytes=1000-\r\n"), 0);
    assert_int_equal(held_while_sending(state, "/large.bin", "Range: bytes=1000-66535\r\n"), 0);
}

static void test_large_files_hold_one(void **state)
{
    assert_int_equal(held_while_sending(state, "/large.bin", ""), 1);
    assert_int_equal(held_while_sending(state, "/large.bin", "Range: bytes=1000-66536\r\n"), 1);
}

static void test_every_length_around_the_border(void **state)
{
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int len = SMALL - 2; len <= SMALL + 2; len++) {
        char fields[80];
        snprintf(fields, sizeof fields, "Range: bytes=%d-%d\r\n", 7, 7 + len - 1);
        answer a = ask_path(c, "GET", "/large.bin", fields);
        assert_int_equal(a.status, 206);
        assert_int_equal(a.len, len);
        assert_true(a.whole && pattern_fits(a.body, 7, a.len));
        answer_free(&a);
    }
    answer a = ask_path(c, "GET", "/over.bin", "");
    assert_true(a.whole && a.len == SMALL + 1 && pattern_fits(a.body, 0, a.len));
    answer_free(&a);
    a = ask_path(c, "HEAD", "/over.bin", "");
    assert_true(field_is(&a, "Content-Length", "65537"));
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
}

/* Descriptor 0 may be free when a file is opened, and is then one like the others. */
static void test_descriptor_0(void **state)
{
    rig r = { .on_request = answer_file, .send_buffer = 4096 };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial_narrow(&r);
    turn_until(&r, one_accept, "the client");
    int saved = dup(0);
    close(0);
    say(c, "GET /=large.bin HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&r, one_request, "the request");
    turns(&r, 5);
    assert_true(fcntl(0, F_GETFD) >= 0);                /* the file */
    answer a = hear_answer(c, false);
    assert_true(a.whole && a.len == LARGE && pattern_fits(a.body, 0, a.len));
    answer_free(&a);
    turn_until(&r, all_finished, "the end");
    assert_int_equal(fcntl(0, F_GETFD), -1);            /* it was closed */
    a = ask_path(c, "GET", "/a.txt", "");
    assert_answer(a, 200, "0123456789");
    a = ask_path(c, "GET", "/=a.txt", "");              /* read at once, and closed */
    assert_answer(a, 200, "0123456789");
    assert_int_equal(fcntl(0, F_GETFD), -1);
    a = ask_path(c, "GET", "/fifo", "");
    assert_int_equal(a.status, 404);
    answer_free(&a);
    assert_int_equal(fcntl(0, F_GETFD), -1);
    assert_int_equal(dup2(saved, 0), 0);
    close(saved);
    hang_up(c);
    rig_close(&r);
}

/* --- slow readers of large files ------------------------------------------------------------ */

enum { READERS = 40, LIMIT = 80 };

static struct rlimit before;

static void allow_descriptors(int count)
{
    struct rlimit now = before;
    if (count)
        now.rlim_cur = (rlim_t)count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
}

/* Each of the readers has a connection and a file, until there are no more descriptors for
   both; the others wait outside and are served when one has ended.  Nobody is answered 503. */
static void test_slow_readers_keep_nobody_from_files(void **state)
{
    client *c[READERS];
    rig r = { .on_request = answer_file, .send_buffer = 4096 };
    (void)state;
    getrlimit(RLIMIT_NOFILE, &before);
    rig_prepare(&r, NULL, false);
    int own = open_descriptors();
    allow_descriptors(LIMIT);
    r.server = hsb_bind("127.0.0.1", 0, &r.options, NULL);
    assert_non_null(r.server);
    r.port = hsb_server_port(r.server);
    allow_descriptors(0);
    for (int i = 0; i < READERS; i++) {
        c[i] = dial_narrow(&r);
        say(c[i], "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n");
        turns(&r, 3);
    }
    turns(&r, 10);
    int held = open_descriptors() - own - READERS;
    assert_within(held, r.accepts, LIMIT);              /* connections, and files */
    assert_within(r.accepts, 20, READERS - 1);
    assert_int_equal(r.requests, r.accepts);
    assert_within(2 * r.accepts, LIMIT - HSB__SPARE_FDS - 1, LIMIT - HSB__SPARE_FDS + 1);
    for (int i = 0; i < READERS; i++) {
        answer a = hear_answer(c[i], false);
        assert_int_equal(a.status, 200);
        assert_true(a.whole && a.len == LARGE);
        answer_free(&a);
        hang_up(c[i]);
    }
    assert_int_equal(r.accepts, READERS);
    if (r.errors)
        fail_msg("%d errors, the last: %s", r.errors, r.told.text);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_small_files_hold_none),
        BOTH(test_large_files_hold_one),
        BOTH(test_every_length_around_the_border),
        BOTH(test_descriptor_0),
        PLAIN(test_slow_readers_keep_nobody_from_files),
    };
    return cmocka_run_group_tests(tests, make_large, remove_tree);
}
