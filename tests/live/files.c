/* Files and folders as answers: types, methods, what is packed beside them. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "files_tree.h"

/* --- whole -------------------------------------------------------------------------------- */

static void test_whole(void **state)
{
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/a.txt", "");
    assert_true(field_is(&a, "Content-Type", "text/plain; charset=utf-8"));
    assert_true(field_is(&a, "Content-Length", "10"));
    assert_true(field_is(&a, "Accept-Ranges", "bytes"));
    assert_true(field_is(&a, "Last-Modified", "Sun, 09 Sep 2001 01:46:40 GMT"));
    assert_int_equal(field_of(&a, "ETag")[0], '"');
    assert_null(field_of(&a, "Vary"));
    assert_null(field_of(&a, "Content-Encoding"));
    assert_answer(a, 200, "0123456789");
    a = ask_path(c, "HEAD", "/a.txt", "");
    assert_true(field_is(&a, "Content-Length", "10"));
    assert_true(field_is(&a, "Last-Modified", "Sun, 09 Sep 2001 01:46:40 GMT"));
    assert_answer(a, 200, "");
    a = ask_path(c, "GET", "/empty.txt", "");
    assert_true(field_is(&a, "Content-Length", "0"));
    assert_answer(a, 200, "");
    a = ask_path(c, "GET", "/big.bin", "");
    assert_true(a.whole && a.len == BIG && pattern_fits(a.body, 0, BIG));
    answer_free(&a);
    a = ask_path(c, "GET", "/missing.txt", "");
    assert_int_equal(a.status, 404);
    answer_free(&a);
    assert_int_equal(r.accepts, 1);
    hang_up(c);
    rig_close(&r);
}

static void test_types(void **state)
{
    static const struct { const char *name, *type; } rows[] = {
        { "x.html", "text/html; charset=utf-8" }, { "x.HTML", "text/html; charset=utf-8" },
        { "x.tar.gz", "application/gzip" },       { "x.svg", "image/svg+xml" },
        { "x.js", "text/javascript; charset=utf-8" }, { "x.wasm", "application/wasm" },
        { "x.mp4", "video/mp4" },                 { "x.woff2", "font/woff2" },
        { "x", "application/octet-stream" },      { "x.", "application/octet-stream" },
        { "x.unknown", "application/octet-stream" }, { "html", "application/octet-stream" },
        { "x.json", "application/json" },         { "noindex/x.d.png", "image/png" },
    };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!has_links && strcmp(rows[i].name, "x.") == 0)
            continue;
        put_text(in(root, rows[i].name), "x");
        answer a = ask_path(c, "GET", in("", rows[i].name), "");
        if (!field_is(&a, "Content-Type", rows[i].type))
            fail_msg("%s: %s", rows[i].name, field_of(&a, "Content-Type"));
        assert_answer(a, 200, "x");
        unlink(in(root, rows[i].name));
    }
    hang_up(c);
    rig_close(&r);
}

/* hsb_respond_file: any path of the program's own, and a type of its own. */
static void test_respond_file(void **state)
{
    static const char long_type[] =
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document;"
        "some-parameter=of-some-length;and-another=one";
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/=a.txt", "");
    assert_true(field_is(&a, "Content-Type", "text/plain; charset=utf-8"));
    assert_answer(a, 200, "0123456789");
    a = ask_path(c, "GET", "/=a.txt?text/x-mine", "");
    assert_true(field_is(&a, "Content-Type", "text/x-mine"));
    assert_answer(a, 200, "0123456789");
    char path[300];
    snprintf(path, sizeof path, "/=a.txt?%s", long_type);
    a = ask_path(c, "GET", path, "");
    assert_true(field_is(&a, "Content-Type", long_type));
    assert_answer(a, 200, "0123456789");
    a = ask_path(c, "GET", "/=../secret.txt", "");          /* the program's own business */
    assert_answer(a, 200, "SECRET");
    a = ask_path(c, "GET", "/=missing", "");
    assert_int_equal(a.status, 404);
    answer_free(&a);
    a = ask_path(c, "GET", "/=sub", "");
    assert_int_equal(a.status, 404);
    answer_free(&a);
    a = ask_path(c, "GET", "/=fifo", "");                   /* nor does it wait for a writer */
    assert_int_equal(a.status, 404);
    answer_free(&a);
    if (geteuid() != 0) {
        put_text(in(root, "locked"), "x");
        chmod(in(root, "locked"), 0);
        a = ask_path(c, "GET", "/=locked", "");
        assert_int_equal(a.status, 403);
        answer_free(&a);
        remove(in(root, "locked"));                         /* the next run makes it again */
    }
    hang_up(c);
    rig_close(&r);
}

static void test_methods(void **state)
{
    static const char *const methods[] = { "POST", "PUT", "DELETE", "OPTIONS", "get" };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < 2 * sizeof methods / sizeof *methods; i++) {
        answer a =
            ask_path(c, methods[i / 2], i % 2 ? "/a.txt" : "/=a.txt", "Content-Length: 0\r\n");
        assert_int_equal(a.status, 405);
        assert_true(field_is(&a, "Allow", "GET, HEAD"));
        answer_free(&a);
    }
    hang_up(c);
    rig_close(&r);
}

/* HEAD says whatever GET does, and has no body. */
static void drop_date(answer *a)
{
    char *date = strstr(a->head, "\r\nDate: "), *end = date ? strstr(date + 2, "\r\n") : NULL;
    assert_non_null(end);
    memmove(date, end, strlen(end) + 1);
}

static void test_head(void **state)
{
    static const struct { const char *path, *fields; int status; } rows[] = {
        { "/a.txt", "", 200 }, { "/empty.txt", "", 200 }, { "/big.bin", "", 200 },
        { "/", "", 200 }, { "/sub/", "", 200 }, { "/=a.txt?text/x-own", "", 200 },
        { "/app.js", "Accept-Encoding: gzip\r\n", 200 }, { "/sub", "", 308 },
        { "/a.txt", "If-None-Match: *\r\n", 304 }, { "/a.txt", "If-Match: \"x\"\r\n", 412 },
        { "/none", "", 404 }, { "/noindex/", "", 404 }, { "/link-out", "", 404 },
        { "/fifo", "", 404 }, { "/%2e%2e/secret.txt", "", 404 }, { "/=none", "", 404 },
    };
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        answer get = ask_path(c, "GET", rows[i].path, rows[i].fields);
        answer head = ask_path(c, "HEAD", rows[i].path, rows[i].fields);
        drop_date(&get);
        drop_date(&head);
        assert_int_equal(get.status, rows[i].status);
        assert_string_equal(get.head, head.head);
        answer_free(&get);
        answer_free(&head);
    }
    assert_int_equal(c->len, 0);
    assert_int_equal(r.accepts, 1);
    hang_up(c);
    rig_close(&r);
}

/* --- packed beside plain ------------------------------------------------------------------ */

static void test_gzip(void **state)
{
    static const struct { const char *accept; bool gzip; } rows[] = {
        { "Accept-Encoding: gzip\r\n", true },
        { "Accept-Encoding: deflate, GZIP, br\r\n", true },
        { "Accept-Encoding: gzip;q=0.5\r\n", true },
        { "Accept-Encoding: br;q=1.0, gzip ; q=0.001\r\n", true },
        { "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", true },
        { "Accept-Encoding: gzip;x=1;q=0.5\r\n", true },
        { "Accept-Encoding: gzip;x=1\r\n", true },
        { "Accept-Encoding: gzip;q=0.001;x=0\r\n", true },
        { "Accept-Encoding: gzip;q=0\r\n", false },
        { "Accept-Encoding: gzip;x=1;q=0\r\n", false },
        { "Accept-Encoding: gzip ; Q = 0.0 ; x=1\r\n", false },
        { "Accept-Encoding: gzip;q=0;x=1, br\r\n", false },
        { "Accept-Encoding: gzip;q=0.000, br\r\n", false },
        { "Accept-Encoding: br\r\n", false },
        { "Accept-Encoding: xgzip\r\n", false },
        { "Accept-Encoding: identity\r\n", false },
        { "Accept-Encoding: \r\n", false },
        { "", false },
    };
    static const struct { const char *field; int status; } bare[] = {
        { "If-None-Match: *", 304 }, { "If-Match: \"x\"", 412 }, { "Range: bytes=20-", 416 },
    };
    char packed[80], plain[80], fields[200];
    rig r = { .on_request = answer_file };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        answer a = ask_path(c, "GET", i % 2 ? "/=app.js" : "/app.js", rows[i / 2].accept);
        assert_true(field_is(&a, "Vary", "Accept-Encoding"));
        assert_true(field_is(&a, "Content-Type", "text/javascript; charset=utf-8"));
        assert_int_equal(field_is(&a, "Content-Encoding", "gzip"), rows[i / 2].gzip);
        assert_answer(a, 200, rows[i / 2].gzip ? "pretend to be packed" : "let plain;");
    }
    etag_of(c, "/app.js", "Accept-Encoding: gzip\r\n", packed);
    etag_of(c, "/app.js", "", plain);
    assert_string_not_equal(packed, plain);
    snprintf(fields, sizeof fields, "Accept-Encoding: gzip\r\nIf-None-Match: %s\r\n", packed);
    answer a = ask_path(c, "GET", "/app.js", fields);
    assert_true(field_is(&a, "Vary", "Accept-Encoding"));
    assert_answer(a, 304, "");
    snprintf(fields, sizeof fields, "If-None-Match: %s\r\n", packed);
    a = ask_path(c, "GET", "/app.js", fields);
    assert_answer(a, 200, "let plain;");
    a = ask_path(c, "GET", "/app.js", "Accept-Encoding: gzip\r\nRange: bytes=8-9\r\n");
    assert_true(field_is(&a, "Content-Range", "bytes 8-9/20"));
    assert_true(field_is(&a, "Content-Encoding", "gzip"));
    assert_answer(a, 206, "to");
    /* A part of the one does not continue the other. */
    snprintf(fields, sizeof fields,
             "Accept-Encoding: gzip\r\nRange: bytes=8-9\r\nIf-Range: %s\r\n", plain);
    a = ask_path(c, "GET", "/app.js", fields);
    assert_answer(a, 200, "pretend to be packed");
    /* Where nothing is packed, nothing says so. */
    for (size_t i = 0; i < sizeof bare / sizeof *bare; i++) {
        snprintf(fields, sizeof fields, "Accept-Encoding: gzip\r\n%s\r\n", bare[i].field);
        a = ask_path(c, "GET", "/app.js", fields);
        assert_true(field_is(&a, "ETag", packed));
        assert_true(field_is(&a, "Vary", "Accept-Encoding"));
        assert_null(field_of(&a, "Content-Encoding"));
        assert_answer(a, bare[i].status, "");
    }
    /* The .gz is older than what it packs. */
    a = ask_path(c, "GET", "/old.css", "Accept-Encoding: gzip\r\n");
    assert_null(field_of(&a, "Content-Encoding"));
    assert_answer(a, 200, "new{}");
    a = ask_path(c, "GET", "/app.js.gz", "");
    assert_true(field_is(&a, "Content-Type", "application/gzip"));
    assert_answer(a, 200, "pretend to be packed");
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_whole),
        BOTH(test_types),
        BOTH(test_respond_file),
        BOTH(test_methods),
        BOTH(test_head),
        BOTH(test_gzip),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
