/* Which version of a file a client has: validators that change with the file, dates that are
   not later than now, a .gz that is not older; and files that say another length than they have. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "files_tree.h"

/* RFC 9110 8.8.2.1 */
static void test_last_modified_is_not_after_date(void **state)
{
    char date[80];
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    put_text(in(root, "future.txt"), "later");
    set_time(in(root, "future.txt"), time(NULL) + 100000, 0);
    for (int i = 0; i < 3; i++) {
        answer a = ask_path(c, i == 1 ? "HEAD" : "GET", "/future.txt", "");
        snprintf(date, sizeof date, "%.79s", field_of(&a, "Date"));
        assert_true(field_is(&a, "Last-Modified", date));
        assert_answer(a, 200, i == 1 ? "" : "later");
    }
    answer a = ask_path(c, "GET", "/a.txt", "");
    assert_true(field_is(&a, "Last-Modified", "Sun, 09 Sep 2001 01:46:40 GMT"));
    answer_free(&a);
    unlink(in(root, "future.txt"));
    hang_up(c);
    rig_close(&r);
}

/* RFC 9110 8.8.2.2: a date is strong only if the file could not change after it. */
static void test_if_range_by_a_date_that_is_not_past(void **state)
{
    char date[HSB__DATE_TEXT], fields[200];
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    put_text(in(root, "young.txt"), "0123456789");
    for (int age = -2; age <= 2; age++) {
        if (age == 0 || age == 1)
            continue;                           /* the clock may go on meanwhile */
        time_t then = time(NULL) - age;
        set_time(in(root, "young.txt"), then, 0);
        hsb__date_print(date, then);
        snprintf(fields, sizeof fields, "Range: bytes=2-3\r\nIf-Range: %s\r\n", date);
        answer a = ask_path(c, "GET", "/young.txt", fields);
        assert_answer(a, age > 0 ? 206 : 200, age > 0 ? "23" : "0123456789");
    }
    for (int tries = 0; tries < 5; tries++) {   /* the second of Date itself */
        time_t now = time(NULL);
        set_time(in(root, "young.txt"), now, 0);
        hsb__date_print(date, now);
        snprintf(fields, sizeof fields, "Range: bytes=2-3\r\nIf-Range: %s\r\n", date);
        answer a = ask_path(c, "GET", "/young.txt", fields);
        assert_int_equal(a.status, field_is(&a, "Date", date) ? 200 : 206);
        answer_free(&a);
    }
    unlink(in(root, "young.txt"));
    hang_up(c);
    rig_close(&r);
}

/* As cp -p, rsync and touch do it: size and times of modification are the same. */
static void test_another_file_has_another_tag(void **state)
{
    char tags[3][80], fields[200];
    const char *path = in(root, "same.txt");
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    put_text(path, "first version");
    set_time(path, 1000000000, 7);
    etag_of(c, "/same.txt", "", tags[0]);
    etag_of(c, "/same.txt", "", tags[1]);
    assert_string_equal(tags[0], tags[1]);

    put_text(in(root, "same.new"), "other version");
    set_time(in(root, "same.new"), 1000000000, 7);
    rename(in(root, "same.new"), path);
    etag_of(c, "/same.txt", "", tags[1]);
    assert_string_not_equal(tags[0], tags[1]);
    snprintf(fields, sizeof fields, "If-None-Match: %s\r\n", tags[0]);
    answer a = ask_path(c, "GET", "/same.txt", fields);
    assert_answer(a, 200, "other version");
    snprintf(fields, sizeof fields, "Range: bytes=6-\r\nIf-Range: %s\r\n", tags[0]);
    a = ask_path(c, "GET", "/same.txt", fields);
    assert_answer(a, 200, "other version");

    usleep(20000);                              /* a tick of the kernel's clock */
    put_text(path, "third version");            /* into the same inode */
    set_time(path, 1000000000, 7);
    etag_of(c, "/same.txt", "", tags[2]);
    assert_string_not_equal(tags[1], tags[2]);
    unlink(path);
    hang_up(c);
    rig_close(&r);
}

static void test_gzip_is_as_new_to_the_nanosecond(void **state)
{
    static const struct { long file, gz; bool gzip; } rows[] = {
        { 5, 5, true }, { 5, 6, true }, { 6, 5, false }, { 999999999, 0, false }, { 0, 999999999, true },
    };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    put_text(in(root, "ns.js"), "plain");
    put_text(in(root, "ns.js.gz"), "packed");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const long file = rows[i].file, gz = rows[i].gz;
        set_time(in(root, "ns.js"), 1000000000, file < 10 ? file * tick : file);
        set_time(in(root, "ns.js.gz"), 1000000000, gz < 10 ? gz * tick : gz);
        answer a = ask_path(c, "GET", "/ns.js", "Accept-Encoding: gzip\r\n");
        assert_int_equal(fields_of(&a, "Vary"), rows[i].gzip);
        assert_answer(a, 200, rows[i].gzip ? "packed" : "plain");
    }
    unlink(in(root, "ns.js"));
    unlink(in(root, "ns.js.gz"));
    hang_up(c);
    rig_close(&r);
}

/* --- files that say another length than they have ------------------------------------------ */

static const char *odd;

static void answer_odd(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond_file(req, odd, NULL);
}

/* What the file says, and what it holds; -1: it cannot be read. */
static ssize_t read_odd(char *out, size_t size, long long *says)
{
    struct stat st;
    int fd = open(odd, O_RDONLY);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, out, size - 1);
    fstat(fd, &st);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    *says = (long long)st.st_size;
    return n;
}

static void test_kernel_files(void **state)
{
    static const char *const paths[] = {
        "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/devices/system/cpu/online",
        "/proc/version", "/proc/cpuinfo", "/proc/filesystems",
    };
    static char holds[65536];
    char number[30];
    int found = 0;
    rig r = { .on_request = answer_odd };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        long long says;
        odd = paths[i];
        ssize_t n = read_odd(holds, sizeof holds, &says);
        if (n <= 0 || n >= 4000 || says == n)
            continue;
        found++;
        answer a = ask_path(c, "GET", "/", "");
        assert_answer(a, 200, holds);
        a = ask_path(c, "HEAD", "/", "");
        snprintf(number, sizeof number, "%d", (int)n);
        assert_true(field_is(&a, "Content-Length", number));
        answer_free(&a);
        a = ask_path(c, "GET", "/", "Range: bytes=1-1\r\n");
        snprintf(number, sizeof number, "bytes 1-1/%d", (int)n);
        assert_int_equal(a.status, n > 1 ? 206 : 416);
        if (n > 1)
            assert_true(field_is(&a, "Content-Range", number));
        answer_free(&a);
        a = ask_path(c, "GET", "/", "Range: bytes=4095-\r\n");
        assert_int_equal(a.status, 416);
        answer_free(&a);
    }
    assert_int_equal(r.accepts, 1);                     /* no connection was cut */
    hang_up(c);
    rig_close(&r);
    if (!found)
        skip_because("no file of the kernel can be read here");
}

/* It opens, and says that it is empty; but what it holds cannot be read. */
static void test_a_file_that_cannot_be_read(void **state)
{
    rig r = { .on_request = answer_odd };
    odd = "/proc/self/mem";
    if (access(odd, R_OK) != 0)
        skip_because("no /proc/self/mem");
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_null(field_of(&a, "ETag"));
    assert_answer(a, 500, "500 Internal Server Error\n");
    a = ask_path(c, "GET", "/", "");
    assert_int_equal(a.status, 500);
    answer_free(&a);
    assert_int_equal(r.accepts, 1);
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_last_modified_is_not_after_date),
        BOTH(test_if_range_by_a_date_that_is_not_past),
        BOTH(test_another_file_has_another_tag),
        BOTH(test_gzip_is_as_new_to_the_nanosecond),
        BOTH(test_kernel_files),
        BOTH(test_a_file_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
