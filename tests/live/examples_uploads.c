/* What comes by PUT to examples/serve and examples/upload: what it may change, who gets to see
   it, what is left of it. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "examples_help.h"
#include "examples_peer.h"

#include <dirent.h>

static long put(const running *r, const char *path, const char *body, const char *field)
{
    transfer t = { .method = "PUT", .body = body, .body_len = strlen(body), .field = field };
    fetch(r, path, &t);
    drop(&t);
    return t.status;
}

/* A PUT that has begun: its head, and the first bytes of a body of that length. */
static peer begin_put(const running *r, const char *path, int length)
{
    char head[256];
    peer p = peer_open(r->port, true);
    snprintf(head, sizeof head, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nabc", path, length);
    assert_true(peer_say(&p, head));
    return p;
}

/* How many files that are not whole are in the folder; the name of one of them. */
static int parts_in(const char *folder, char name[256])
{
    int count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir)) != NULL;)
        if (strncmp(d->d_name, ".upload-", 8) == 0 || strstr(d->d_name, ".part")) {
            snprintf(name, 256, "%s", d->d_name);
            count++;
        }
    closedir(dir);
    return count;
}

static void await_parts(const char *folder, int count)
{
    char name[256];
    int64_t until = clock_ms() + PATIENCE_MS;
    while (parts_in(folder, name) != count && clock_ms() < until)
        sleep_us(10000);
    assert_int_equal(parts_in(folder, name), count);
}

/* --- serve ------------------------------------------------------------------------------ */

/* Whatever the second PUT is answered. */
static void a_name_with_gz_changes_no_other(void **state)
{
    static const char *const gzip[] = { "Accept-Encoding: gzip", "Accept-Encoding: identity" };
    (void)state;
    make_file("old", "old", 3);
    running r = START("serve", CERT, "--upload", "1", top);
    assert_int_equal(put(&r, "/first", "plain", NULL), 201);
    put(&r, "/first.gz", "packed", NULL);
    put(&r, "/old.gz", "packed", NULL);
    put(&r, "/later.gz", "packed", NULL);
    long status = put(&r, "/later", "plain", NULL);
    for (int i = 0; i < 2; i++) {
        transfer first = { .field = gzip[i] }, old = { .field = gzip[i] }, later = { .field = gzip[i] };
        fetch(&r, "/first", &first);
        fetch(&r, "/old", &old);
        fetch(&r, "/later", &later);
        assert_string_equal(first.got.data, "plain");
        assert_string_equal(old.got.data, "old");
        assert_int_equal(later.status, status == 201 ? 200 : 404);
        if (status == 201)
            assert_string_equal(later.got.data, "plain");
        drop(&first);
        drop(&old);
        drop(&later);
    }
    stop(&r);
}

static void nothing_uploaded_runs_as_a_page(void **state)
{
    static const char *const names[] = { "/index.html", "/a.svg", "/a.xml", "/a.txt", "/a", "/in/a.xhtml" };
    (void)state;
    make_folder("in");
    make_file("in/index.html", "ours", 4);
    running r = START("serve", CERT, "--upload", "1", top);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        transfer t = { 0 };
        assert_int_equal(put(&r, names[i], "<script>alert(1)</script>", NULL), 201);
        fetch(&r, names[i], &t);
        assert_int_equal(t.status, 200);
        assert_true(has_field(&t, "Content-Security-Policy: sandbox\r\n"));
        assert_true(has_field(&t, "X-Content-Type-Options: nosniff\r\n"));
        drop(&t);
    }
    static const char *const folders[] = { "/", "/in/", "//", "/in//" };
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        transfer t = { 0 };
        fetch(&r, folders[i], &t);
        assert_non_null(strstr(t.got.data, "href=\"index.html\""));
        assert_null(strstr(t.got.data, "alert(1)"));
        drop(&t);
    }
    stop(&r);
    r = START("serve", CERT, top);      /* where nobody uploads it is the page of the folder  */
    expect(&r, "/in/", 200, "ours");
    transfer t = { 0 };
    fetch(&r, "/in/", &t);
    assert_false(has_field(&t, "Content-Security-Policy"));
    drop(&t);
    stop(&r);
}

/* Under no spelling of its name, and not by a server that takes no uploads. */
static void check_part_is_hidden(const running *r, const char *folder, const char *part)
{
    char path[2048], in[512], escaped[1024] = "";
    for (const char *c = part; *c; c++)
        snprintf(escaped + strlen(escaped), 8, "%%%02x", (unsigned)(unsigned char)*c);
    snprintf(path, sizeof path, "/%s/%s", folder, part);
    assert_int_equal(status_of(r, path, NULL), 404);
    assert_int_equal(status_of(r, path, "HEAD"), 404);
    snprintf(path, sizeof path, "/%s/%s", folder, escaped);
    assert_int_equal(status_of(r, path, NULL), 404);
    snprintf(path, sizeof path, "/%s/%s/", folder, part);
    assert_int_equal(status_of(r, path, NULL), 404);
    snprintf(in, sizeof in, "/%s/", folder);
    transfer t = { 0 };
    fetch(r, in, &t);
    assert_null(strstr(t.got.data, "upload-"));
    drop(&t);
}

static void what_is_not_whole_is_hidden_and_does_not_stay(void **state)
{
    char in[512], part[256];
    (void)state;
    make_folder("in");
    path_in(in, "in");
    running r = START("serve", CERT, "--upload", "1", top);
    peer p = begin_put(&r, "/in/file", 6);
    await_parts(in, 1);
    parts_in(in, part);
    check_part_is_hidden(&r, "in", part);
    running plain = START("serve", CERT, top);
    check_part_is_hidden(&plain, "in", part);
    stop(&plain);
    running second = START("serve", CERT, "--upload", "1", top);   /* it is not left: it is used */
    stop(&second);
    assert_int_equal(parts_in(in, part), 1);
    assert_true(peer_say(&p, "def"));
    assert_int_equal(peer_status(&p), 201);
    peer_close(&p, false);
    expect(&r, "/in/file", 200, "abcdef");
    assert_int_equal(parts_in(in, part), 0);

    p = begin_put(&r, "/in/killed", 6);
    await_parts(in, 1);
    kill(r.process->pid, SIGKILL);
    child_end(r.process);
    child_free(r.process);
    peer_close(&p, true);
    assert_int_equal(parts_in(in, part), 1);
    r = START("serve", CERT, "--upload", "1", top);
    assert_int_equal(parts_in(in, part), 0);
    assert_int_equal(put(&r, "/in/killed", "whole", NULL), 201);
    stop(&r);
}

static void uploads_have_a_quota(void **state)
{
    (void)state;
    running r = START("serve", CERT, "--upload", "1", "--quota", "2", top);
    peer a = begin_put(&r, "/a", 1 << 20), b = begin_put(&r, "/b", 1 << 20);
    await_parts(top, 2);
    assert_int_equal(put(&r, "/c", "c", NULL), 507);
    peer_close(&a, true);
    await_parts(top, 1);                /* what was given up makes room again               */
    assert_int_equal(put(&r, "/c", "c", NULL), 201);
    peer_close(&b, true);
    await_parts(top, 0);
    bytebuf body = noise(1 << 20);
    transfer t = { .method = "PUT", .body = body.data, .body_len = body.len, .chunked = true };
    fetch(&r, "/d", &t);                /* nobody says how long it is                       */
    assert_int_equal(t.status, 201);
    drop(&t);
    fetch(&r, "/e", &t);
    assert_int_equal(t.status, 507);
    drop(&t);
    await_parts(top, 0);
    free(body.data);
    stop(&r);
    r = START("serve", CERT, "--upload", "1", "--quota", "1", top);
    for (int i = 0; i < 257; i++) {     /* empty ones take room, too                        */
        char path[32];
        snprintf(path, sizeof path, "/empty-%d", i);
        transfer none = { .method = "PUT", .body = "" };
        fetch(&r, path, &none);
        assert_int_equal(none.status, i < 256 ? 201 : 507);
        drop(&none);
    }
    stop(&r);
}

/* --- both ---------------------------------------------------------------------------------- */

/* RFC 9110 14.5 */
static void a_part_of_a_file_is_refused(void **state)
{
    static const char *const ranges[] = { "Content-Range: bytes 0-2/10", "content-range: x", "Content-Range;" };
    char path[512], name[256];
    (void)state;
    running serve = START("serve", CERT, "--upload", "1", top), upload = START("upload", CERT, top);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        assert_int_equal(put(&serve, "/served", "abc", ranges[i]), 400);
        assert_int_equal(put(&upload, "/uploaded", "abc", ranges[i]), 400);
    }
    path_in(path, "served");
    assert_int_not_equal(access(path, F_OK), 0);
    path_in(path, "uploaded");
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(parts_in(top, name), 0);
    stop(&serve);
    stop(&upload);
}

/* --- upload --------------------------------------------------------------------------------- */

static void upload_leaves_nothing_for_ever(void **state)
{
    char name[256];
    (void)state;
    running r = START("upload", CERT, "--quota", "1", top);
    peer p = begin_put(&r, "/file", 1 << 20);
    await_parts(top, 1);
    assert_int_equal(put(&r, "/other", "abc", NULL), 507);
    kill(r.process->pid, SIGKILL);
    child_end(r.process);
    child_free(r.process);
    peer_close(&p, true);
    assert_int_equal(parts_in(top, name), 1);
    r = START("upload", CERT, "--quota", "1", top);
    assert_int_equal(parts_in(top, name), 0);
    p = begin_put(&r, "/file", 6);
    await_parts(top, 1);
    running second = START("upload", CERT, top);
    stop(&second);
    assert_int_equal(parts_in(top, name), 1);
    assert_true(peer_say(&p, "def"));
    assert_int_equal(peer_status(&p), 201);
    peer_close(&p, false);
    stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_name_with_gz_changes_no_other, make_top, remove_top),
        cmocka_unit_test_setup_teardown(nothing_uploaded_runs_as_a_page, make_top, remove_top),
        cmocka_unit_test_setup_teardown(what_is_not_whole_is_hidden_and_does_not_stay, make_top, remove_top),
        cmocka_unit_test_setup_teardown(uploads_have_a_quota, make_top, remove_top),
        cmocka_unit_test_setup_teardown(a_part_of_a_file_is_refused, make_top, remove_top),
        cmocka_unit_test_setup_teardown(upload_leaves_nothing_for_ever, make_top, remove_top),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests_name("examples_uploads", tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
