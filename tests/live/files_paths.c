/* What a path leads to: nothing outside of the root, links, folders.  LIVE_SWAPS=1000000 looks
   up a name so often while it is swapped. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "files_tree.h"

/* --- outside ------------------------------------------------------------------------------ */

static void test_traversal(void **state)
{
    static const char *const paths[] = {
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2E%2e/secret.txt",
        "/.%2e/secret.txt",
        "/..%2fsecret.txt",
        "/sub/../../secret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "/sub/..",
        "/sub/../a.txt",
        "/./a.txt",
        "/.",
        "/..",
        "/%2e",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/a.txt%00.html",
        "/%00",
        "/a.txt%",
        "/a.txt%2",
        "/a.txt%zz",
        "//../secret.txt",
        "/..//secret.txt",
        "/%252e%252e/secret.txt",
        "/sub/%2e%2e%2f%2e%2e%2fsecret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/..;/secret.txt",
        "/link-out",
        "/folder-out/secret.txt",
        "/link-absolute",
        "/link-sibling/secret.txt",
        "/../rootless/secret.txt",
        "/link-broken",
        "/link-self",
        "/link-self/x",
        "/a.txt/",
        "/a.txt/x",
        "/sub/index.html/..",
        "/etc/passwd",
        "//etc/passwd",
        "/noindex/",
        "/fifo",
        "/root/a.txt",
        "/%2fetc%2fpasswd",
    };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        answer a = ask_path(c, "GET", paths[i], "");
        const char *percent = strstr(paths[i], "txt%");
        bool refused = strchr(paths[i], '\\') || (percent && strncmp(percent + 3, "%00", 3) != 0);
        if (a.status != 404 && !(a.status == 400 && refused))
            fail_msg("%s -> %d: %.40s", paths[i], a.status, a.body);
        assert_null(strstr(a.body, "SECRET"));
        bool closed = a.status == 400;
        answer_free(&a);
        if (closed) {
            hang_up(c);
            c = dial(&r);
        }
    }
    char path[9000];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[5000] = '\0';
    answer a = ask_path(c, "GET", path, "");
    assert_int_equal(a.status, 404);
    answer_free(&a);
    for (size_t i = 1; i < 5000; i += 2)
        path[i] = '/';
    a = ask_path(c, "GET", path, "");
    assert_int_equal(a.status, 404);
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
}

static void test_links_and_folders(void **state)
{
    static const struct { const char *path; int status; const char *body; } rows[] = {
        { "/folder-out/root/a.txt", 200, "0123456789" },    /* out, and in again */
        { "/link-in", 200, "0123456789" },      { "/link-round", 200, "0123456789" },
        { "/folder-in/index.html", 200, "<p>sub" }, { "/folder-in/", 200, "<p>sub" },
        { "/", 200, "<p>root" },                { "/sub/", 200, "<p>sub" },
        { "//a.txt", 200, "0123456789" },       { "/sub//index.html", 200, "<p>sub" },
        { "/..dots", 200, "dots" },             { "/with%20space/", 200, "<p>space" },
        { "/with%20space/%c3%a4.txt", 200, "umlaut" }, { "/a%2etxt", 200, "0123456789" },
        { "/a.txt?x=/../", 200, "0123456789" },
    };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!has_links && needs_links(rows[i].path))
            continue;
        answer a = ask_path(c, "GET", rows[i].path, "");
        if (a.status != rows[i].status || strcmp(a.body, rows[i].body) != 0)
            fail_msg("%s -> %d: %.40s", rows[i].path, a.status, a.body);
        answer_free(&a);
    }
    hang_up(c);
    rig_close(&r);
}

/* Whoever may write below the root swaps a folder and a link out of it while it is looked up:
   what was checked must be what is opened. */
#ifdef RENAME_EXCHANGE
static void *swap_links(void *arg)
{
    char place[512], aside[512];
    snprintf(place, sizeof place, "%s/swapped", root);
    snprintf(aside, sizeof aside, "%s/aside", root);
    while (!__atomic_load_n((bool *)arg, __ATOMIC_RELAXED))
        renameat2(AT_FDCWD, place, AT_FDCWD, aside, RENAME_EXCHANGE);
    return NULL;
}

static void test_swapped_links(void **state)
{
    pthread_t thread;
    bool done = false;
    long count = scaled("LIVE_SWAPS", 10000), inside = 0;
    int64_t end = clock_ms() + PATIENCE_MS;
    rig r = { .on_request = answer_file };
    if (access(in(root, "aside"), F_OK) != 0) {
        assert_int_equal(mkdir(in(root, "swapped"), 0755), 0);
        put_text(in(root, "swapped/secret.txt"), "public");
        assert_int_equal(symlink("../rootless", in(root, "aside")), 0);
    }
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    assert_int_equal(pthread_create(&thread, NULL, swap_links, &done), 0);
    for (long i = 0; i < count || inside == 0 || inside == i; i++) {
        answer a = ask_path(c, "GET", "/swapped/secret.txt", "");
        inside += a.status == 200;
        if (a.status == 200 ? strcmp(a.body, "public") != 0 : a.status != 404)
            fail_msg("%d: %s", a.status, a.body);
        answer_free(&a);
        if (i >= count && clock_ms() > end)
            fail_msg("always the same");
    }
    __atomic_store_n(&done, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    hang_up(c);
    rig_close(&r);
}
#endif

/* Search permission of the folders is enough.  Root may read everything, so somebody else has
   to try.                                                                                  */
static void test_folders_that_may_only_be_searched(void **state)
{
    static const struct { const char *path; int status; } cases[] = {
        { "/a.txt", 200 }, { "/", 200 }, { "/sub/", 200 }, { "/sub", 308 }, { "/folder-in/", 200 },
        { "/sub/index.html", 200 }, { "/noindex/", 404 }, { "/sub/deep", 308 },
    };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    char sub[300];
    snprintf(sub, sizeof sub, "%s/sub", root);
    assert_int_equal(chmod(top, 0711) | chmod(root, 0711) | chmod(sub, 0711), 0);
    bool was_root = geteuid() == 0;
    int statuses[sizeof cases / sizeof *cases];
    if (was_root)
        assert_int_equal(seteuid(65534), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer a = ask_path(c, "GET", cases[i].path, "");
        statuses[i] = a.status;
        answer_free(&a);
    }
    if (was_root)
        assert_int_equal(seteuid(0), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(statuses[i], cases[i].status);
    assert_int_equal(chmod(top, 0700) | chmod(root, 0755) | chmod(sub, 0755), 0);
    hang_up(c);
    rig_close(&r);
}

static void test_slash(void **state)
{
    static const struct { const char *path, *location; } rows[] = {
        { "/sub", "/sub/" },         { "/sub?a=b&c", "/sub/?a=b&c" },
        { "/sub?", "/sub/?" },       { "/with%20space", "/with%20space/" },
        { "//sub", "/sub/" },        { "///sub/deep", "/sub/deep/" },
        { "/noindex", "/noindex/" }, { "/folder-in", "/folder-in/" },
        { "/%73ub", "/%73ub/" },
    };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        if (!has_links && needs_links(rows[i / 2].path))
            continue;
        answer a = ask_path(c, i % 2 ? "HEAD" : "GET", rows[i / 2].path, "");
        assert_int_equal(a.status, 308);
        if (!field_is(&a, "Location", rows[i / 2].location))
            fail_msg("%s -> %s", rows[i / 2].path, field_of(&a, "Location"));
        answer_free(&a);
    }
    char path[6000] = "/sub?";                  /* longer than a redirection may be */
    memset(path + 5, 'a', 5000);
    answer a = ask_path(c, "GET", path, "");
    assert_int_equal(a.status, 414);
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_traversal),
        BOTH(test_links_and_folders),
        BOTH(test_folders_that_may_only_be_searched),
        BOTH(test_slash),
#ifdef RENAME_EXCHANGE
        BOTH(test_swapped_links),
#endif
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
