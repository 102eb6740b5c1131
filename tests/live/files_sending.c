/* Files while they are sent: some change, some are large.  LIVE_GIB=10 downloads so many GiB
   instead of an eighth of one. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "files_tree.h"

/* --- while it is sent --------------------------------------------------------------------- */

static void begin_download(client *c)
{
    say(c, "GET /moving.bin HTTP/1.1\r\nHost: x\r\n\r\n");
    hear_until(c, "\r\n\r\n");
}

static void test_changing(void **state)
{
    static char bytes[4000000];
    const char *path = in(root, "moving.bin");
    hsb_options o = { .limits.queued_bytes = 0 };
    rig r = { .on_request = answer_file, .send_buffer = 16384 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial_narrow(&r);
    pattern_fill(bytes, 0, sizeof bytes);
    for (int change = 0; change < 4; change++) {
        put(path, bytes, sizeof bytes);
        begin_download(c);
        turns(&r, 5);
        assert_non_null(r.req);
        if (change == 0) {                              /* grows: what was promised comes */
            FILE *f = fopen(path, "ab");
            fputs("more", f);
            fclose(f);
        } else if (change == 1) {    /* vanishes: it is open, so all of it comes */
            unlink(path);
        } else if (change == 2) {                       /* is replaced: the old one comes */
            put_text(in(root, "moving.new"), "new");
            rename(in(root, "moving.new"), path);
        } else {                                        /* shrinks: that cannot be kept */
            assert_int_equal(truncate(path, 1000000), 0);
        }
        answer a = hear_answer(c, false);
        assert_int_equal(a.status, 200);
        assert_true(pattern_fits(a.body, 0, a.len));
        assert_int_equal(a.whole, change < 3);
        assert_int_equal(a.len == sizeof bytes, change < 3);
        answer_free(&a);
    }
    turn_until(&r, all_closed, "the cut");
    assert_int_equal(r.finished_with.status, HSB_ERR_SYSTEM);
    assert_int_equal(r.closed_with.status, HSB_ERR_SYSTEM);
    assert_int_equal(r.told.status, HSB_ERR_SYSTEM);
    hang_up(c);
    unlink(path);
    rig_close(&r);
}

/* The client leaves in the middle: the file is closed.  rig_close counts the descriptors. */
static void test_leaving(void **state)
{
    rig r = { .on_request = answer_file, .send_buffer = 16384 };
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < 10; i++) {
        client *c = dial_narrow(&r);
        say(c, "GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n");
        hear_len(c, (size_t)i * 2000 + 1);
        if (i % 2)
            cut_off(c);
        else
            client_free(c);
    }
    turn_until(&r, all_closed, "the clients are gone");
    assert_int_equal(open_descriptors() - clients_open,
                     r.descriptors + 3 - (hsb_server_fd(r.server) < 0));
    rig_close(&r);
}

/* --- large -------------------------------------------------------------------------------- */

static void put_mark(int fd, int64_t at, const char *text)
{
    assert_int_equal(pwrite(fd, text, strlen(text), (off_t)at), (ssize_t)strlen(text));
}

static void test_beyond_4_gib(void **state)
{
    int64_t four = (int64_t)1 << 32, size = four + 1000000;
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    int fd = open(in(root, "sparse.bin"), O_CREAT | O_RDWR | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    put_mark(fd, four - 3, "border");
    put_mark(fd, size - 4, "last");
    close(fd);
    answer a = ask_path(c, "HEAD", "/sparse.bin", "");
    assert_true(field_is(&a, "Content-Length", "4295967296"));
    answer_free(&a);
    a = ask_path(c, "GET", "/sparse.bin", "Range: bytes=4294967293-4294967298\r\n");
    assert_true(field_is(&a, "Content-Range", "bytes 4294967293-4294967298/4295967296"));
    assert_answer(a, 206, "border");
    a = ask_path(c, "GET", "/sparse.bin", "Range: bytes=-4\r\n");
    assert_answer(a, 206, "last");
    a = ask_path(c, "GET", "/sparse.bin", "Range: bytes=4294967290-\r\n");
    assert_int_equal(a.len, 1000006);
    assert_memory_equal(a.body + 3, "border", 6);
    assert_memory_equal(a.body + a.len - 4, "last", 4);
    answer_free(&a);
    unlink(in(root, "sparse.bin"));
    hang_up(c);
    rig_close(&r);
}

/* However much is sent, it takes no more memory. */
static void test_flat_memory(void **state)
{
    long gib = scaled("LIVE_GIB", 0);
    int64_t size = gib ? (int64_t)gib << 30 : (int64_t)128 << 20, got = 0;
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    int fd = open(in(root, "sparse.bin"), O_CREAT | O_RDWR | O_TRUNC, 0644);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    put_mark(fd, size - 4, "last");
    close(fd);
    say(c, "GET /sparse.bin HTTP/1.1\r\nHost: x\r\n\r\n");
    heard(c, hear_until(c, "\r\n\r\n"));
    long before = 0;
    size_t most = 0;
    while (got < size) {
        if (!c->len && !hear_more(c, "a large file"))
            break;
        got += (int64_t)c->len;
        if (got == size)
            assert_memory_equal(c->got + c->len - 4, "last", 4);
        heard(c, c->len);
        if (!before && got > 16 << 20)
            before = resident_kib();
        size_t now = hsb_server_memory(r.server);
        most = most > now ? most : now;
    }
    assert_int_equal(got, size);
    assert_true(most < 400000);
    if (HSB__POOL_KEEP)         /* else: blocks go back, and a sanitizer keeps them for a while */
        assert_true(resident_kib() - before < 2048);
    unlink(in(root, "sparse.bin"));
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_changing),
        BOTH(test_leaving),
        BOTH(test_beyond_4_gib),
        BOTH(test_flat_memory),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
