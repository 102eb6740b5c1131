/* >>platform: the calls that the rest relies on without looking. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"
#include <stdlib.h>

static char root[] = "build/platform-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void link_to(const char *target, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(symlink(target, path), 0);
}

static int make_tree(void **state)
{
    char path[256];
    (void)state;
    mkdir("build", 0777);
    if (!mkdtemp(root))
        return -1;
    snprintf(path, sizeof path, "%s/in", root);
    mkdir(path, 0777);
    write_file("in/a.txt", "a");
    write_file("outside.txt", "secret");
    link_to("a.txt", "in/stays");
    link_to("../outside.txt", "in/leaves");
    link_to("/etc/passwd", "in/absolute");
    link_to("nowhere", "in/dangling");
    link_to("loop", "in/loop");
    return 0;
}

static int remove_tree(void **state)
{
    (void)state;
    return remove_folder(root);
}

static int open_in(const char *relative)
{
    char dir[256];
    snprintf(dir, sizeof dir, "%s/in", root);
    return hsb__os_open_below(dir, relative);
}

static void opens_what_is_below(void **state)
{
    static const char *const good[] = { "a.txt", "stays", "./a.txt", "", "." };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int fd = open_in(good[i]);
        assert_true(fd >= 0);
        hsb__os_close(fd);
    }
}

static void opens_nothing_else(void **state)
{
    static const char *const bad[] = {
        "leaves", "absolute", "dangling", "loop", "../outside.txt", "..", "../in2/../outside.txt",
        "a.txt/x", "missing"
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(open_in(bad[i]), -1);
}

/* "/rootx" begins with "/root" and is another folder. */
static void a_name_that_begins_alike_is_another(void **state)
{
    char sibling[256];
    (void)state;
    snprintf(sibling, sizeof sibling, "%s/in-too", root);
    assert_int_equal(mkdir(sibling, 0777), 0);
    write_file("in-too/b.txt", "b");
    assert_int_equal(open_in("../in-too/b.txt"), -1);
}

static void a_long_name_is_an_error(void **state)
{
    char name[PATH_MAX + 10];
    (void)state;
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(open_in(name), -1);
    assert_int_equal(errno, ENAMETOOLONG);
}

static void a_ring_is_seen_until_hushed(void **state)
{
    hsb__wake w;
    (void)state;
    assert_true(hsb__wake_open(&w));
    struct pollfd p = { .fd = w.read_fd, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 0), 0);
    for (int i = 0; i < 1000; i++)
        hsb__wake_ring(&w);
    assert_int_equal(poll(&p, 1, 0), 1);
    hsb__wake_hush(&w);
    assert_int_equal(poll(&p, 1, 0), 0);
    hsb__wake_close(&w);
    assert_int_equal(w.read_fd, -1);
}

static void time_does_not_go_back(void **state)
{
    uint64_t last = hsb__os_now_us();
    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t now = hsb__os_now_us();
        assert_true(now >= last && now > 0);
        last = now;
    }
}

static void entropy_differs(void **state)
{
    unsigned char a[32] = { 0 }, b[32] = { 0 };
    (void)state;
    assert_true(hsb__os_entropy(a, sizeof a) && hsb__os_entropy(b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_is_below),
        cmocka_unit_test(opens_nothing_else),
        cmocka_unit_test(a_name_that_begins_alike_is_another),
        cmocka_unit_test(a_long_name_is_an_error),
        cmocka_unit_test(a_ring_is_seen_until_hushed),
        cmocka_unit_test(time_does_not_go_back),
        cmocka_unit_test(entropy_differs),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
