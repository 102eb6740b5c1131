/* Files and folders as answers: types, validators, conditions, ranges, what is beside and
   outside of the root, and files that change while they are sent.  LIVE_GIB=10 downloads so
   many GiB instead of an eighth of one, LIVE_SWAPS=1000000 looks up a name so often while it
   is swapped. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

/* --- a tree ------------------------------------------------------------------------------- */
enum { BIG = 300000 };

static char top[200];           /* holds root/ and, outside of it, secret.txt */
static char root[220];

static const char *in(const char *folder, const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void put(const char *path, const char *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static void put_text(const char *path, const char *text)
{
    put(path, text, strlen(text));
}

static void set_time(const char *path, time_t seconds, long nanoseconds)
{
    struct timespec times[2] = { { seconds, 0 }, { seconds, nanoseconds } };
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static int make_tree(void **state)
{
    static char big[BIG];
    const char *base = getenv("TMPDIR");
    (void)state;
    snprintf(top, sizeof top, "%s/httpsbind-files-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(top))
        return -1;
    snprintf(root, sizeof root, "%s/root", top);
    mkdir(root, 0755);
    mkdir(in(root, "sub"), 0755);
    mkdir(in(root, "sub/deep"), 0755);
    mkdir(in(root, "noindex"), 0755);
    mkdir(in(root, "with space"), 0755);
    mkdir(in(top, "rootless"), 0755);                   /* its name begins like the root's */
    pattern_fill(big, 0, sizeof big);
    put(in(root, "big.bin"), big, sizeof big);
    put_text(in(root, "a.txt"), "0123456789");
    put_text(in(root, "empty.txt"), "");
    put_text(in(root, "index.html"), "<p>root");
    put_text(in(root, "sub/index.html"), "<p>sub");
    put_text(in(root, "with space/index.html"), "<p>space");
    put_text(in(root, "with space/\xC3\xA4.txt"), "umlaut");
    put_text(in(root, "..dots"), "dots");
    put_text(in(root, "app.js"), "let plain;");
    put_text(in(root, "app.js.gz"), "pretend to be packed");
    put_text(in(root, "old.css"), "new{}");
    put_text(in(root, "old.css.gz"), "outdated");
    put_text(in(top, "secret.txt"), "SECRET");
    put_text(in(top, "rootless/secret.txt"), "SECRET");
    set_time(in(root, "a.txt"), 1000000000, 5);         /* Sun, 09 Sep 2001 01:46:40 GMT */
    set_time(in(root, "app.js"), 1000000000, 0);
    set_time(in(root, "app.js.gz"), 1000000001, 0);
    set_time(in(root, "old.css.gz"), 1000000000, 0);
    return symlink("a.txt", in(root, "link-in")) ||
           symlink("../secret.txt", in(root, "link-out")) ||
           symlink("..", in(root, "folder-out")) ||
           symlink("/etc/passwd", in(root, "link-absolute")) ||
           symlink("sub/../../root/a.txt", in(root, "link-round")) ||
           symlink("nowhere", in(root, "link-broken")) ||
           symlink("link-self", in(root, "link-self")) ||
           symlink("../rootless", in(root, "link-sibling")) ||
           symlink("sub", in(root, "folder-in")) || mkfifo(in(root, "fifo"), 0644);
}

static int remove_tree(void **state)
{
    (void)state;
    return remove_folder(top);
}

/* "/=name" is hsb_respond_file, all else the folder. */
static void answer_file(rig *r, hsb_request *req)
{
    hsb_str path = hsb_request_path(req);
    (void)r;
    if (path.len > 1 && path.ptr[1] == '=') {
        char name[256], type[200];
        snprintf(name, sizeof name, "%s/%.*s", root, (int)path.len - 2, path.ptr + 2);
        hsb_str asked = hsb_request_query(req);
        snprintf(type, sizeof type, "%.*s", (int)asked.len, asked.ptr ? asked.ptr : "");
        hsb_respond_file(req, name, asked.ptr ? type : NULL);
        memset(type, 'X', sizeof type);             /* what was handed over may go now */
        memset(name, 'X', sizeof name);
    } else {
        hsb_respond_dir(req, root, path);
    }
}

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

/* --- conditions --------------------------------------------------------------------------- */
static void etag_of(client *c, const char *path, const char *fields, char out[80])
{
    answer a = ask_path(c, "HEAD", path, fields);
    const char *tag = field_of(&a, "ETag");
    assert_true(tag && strlen(tag) < 80);
    memcpy(out, tag, strlen(tag) + 1);
    answer_free(&a);
}

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
        { "bytes=99999999999999999999-", 200, NULL, "0123456789" },
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
    answer a = ask_path(c, "GET", "/empty.txt", "Range: bytes=0-\r\n");
    assert_int_equal(a.status, 416);
    answer_free(&a);
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

/* --- packed beside plain ------------------------------------------------------------------ */
static void test_gzip(void **state)
{
    static const struct { const char *accept; bool gzip; } rows[] = {
        { "Accept-Encoding: gzip\r\n", true },
        { "Accept-Encoding: deflate, GZIP, br\r\n", true },
        { "Accept-Encoding: gzip;q=0.5\r\n", true },
        { "Accept-Encoding: br;q=1.0, gzip ; q=0.001\r\n", true },
        { "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", true },
        { "Accept-Encoding: gzip;q=0\r\n", false },
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
        if (a.status != 404 && !(a.status == 400 && strchr(paths[i], '\\')))
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
    assert_true(resident_kib() - before < 2048);
    unlink(in(root, "sparse.bin"));
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_whole),        BOTH(test_types),       BOTH(test_respond_file),
        BOTH(test_methods),      BOTH(test_conditions),  BOTH(test_ranges),
        BOTH(test_if_range),     BOTH(test_curl_resumes),
        BOTH(test_gzip),         BOTH(test_traversal),   BOTH(test_links_and_folders),
        BOTH(test_slash),        BOTH(test_changing),    BOTH(test_leaving),
        BOTH(test_beyond_4_gib), BOTH(test_flat_memory), BOTH(test_head),
#ifdef RENAME_EXCHANGE
        BOTH(test_swapped_links),
#endif
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
