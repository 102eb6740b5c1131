/* The example serve: all that is below a folder, nothing else, and files that are taken. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "examples_help.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <regex.h>

/* --- serve: all that is below a folder, byte for byte, as a browser would find it ----- */

static int seen_files, seen_folders;

static void unescape(const char *url, size_t len, char *out, size_t size)
{
    hsb_str s = { url, len };
    size_t n;
    assert_true(hsb_percent_decode(s, false, out, size - 1, &n));
    out[n] = '\0';
}

/* url begins with '/', and ends with one for a folder; folder is what it should show. */
static void crawl(const running *r, const char *url, const char *folder, int depth)
{
    transfer t = { 0 };
    char path[4096], name[1024], next[4096];
    assert_true(depth < 8);
    snprintf(path, sizeof path, "%s", folder);
    unescape(url, strlen(url), path + strlen(path), sizeof path - strlen(path));
    fetch(r, url, &t);
    assert_int_equal(t.status, 200);
    if (url[strlen(url) - 1] != '/') {
        bytebuf whole = bytes_of_file(path);
        if (t.got.len != whole.len || memcmp(t.got.data, whole.data, whole.len) != 0)
            fail_msg("%s differs", path);
        seen_files++;
        free(whole.data);
        drop(&t);
        return;
    }
    seen_folders++;
    char *table = strstr(t.got.data, "<table>");
    assert_non_null(table);
    for (char *at = table; (at = strstr(at, "href=\"")) != NULL;) {
        at += 6;
        size_t len = strcspn(at, "\"");
        if (strncmp(at, "../", 3) == 0 || *at == '?')   /* the folder above, another order  */
            continue;
        unescape(at, len, name, sizeof name);
        snprintf(next, sizeof next, "%s%.*s", url, (int)len, at);
        crawl(r, next, folder, depth + 1);
    }
    drop(&t);
}

static void fill_odd_tree(void)
{
    static const char *const odd[] = {
        "plain.txt", "two words.txt", "a&b<c>\"d'.txt", "100% sure?#yes;no=1+1.txt", "%41.txt",
        "\xc3\xbc\xc3\xaf \xe6\x97\xa5\xe6\x9c\xac.txt", "bad\xff\xc3utf", "new\nline\ttab", "-dash", ".hidden",
        "javascript:alert(1)", "...", "..x", "sub/deep.txt", "sub/\xe2\x80\xaegnp.exe", "~tilde", "a:b", "[x]",
        "trailing space ", "sub/name.tar.gz", "back\\slash", "..\\x",
    };
    bytebuf big = noise(3000001);
    make_folder("sub");
    make_folder("sub/empty");
    make_folder("sub/a &amp; b");
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        make_file(odd[i], odd[i], strlen(odd[i]));
    make_file("big.bin", big.data, big.len);
    make_file("nothing", "", 0);
    free(big.data);
}

static void serve_gives_back_what_is_there(void **state)
{
    (void)state;
    fill_odd_tree();
    running r = START("serve", CERT, top);
    seen_files = seen_folders = 0;
    crawl(&r, "/", top, 0);
    assert_int_equal(seen_files, 24);
    assert_int_equal(seen_folders, 4);
    stop(&r);
}

static void serve_gives_nothing_from_outside(void **state)
{
    static const char *const outside[] = {
        "/leaves", "/leaves/", "/leaves/passwd", "/leaves-too", "/up", "/up/", "/broken", "/round",
        "/../", "/..", "/%2e%2e/", "/sub/../../", "/sub/%2e%2e/%2e%2e/etc/passwd", "/..%2f", "/sub%00/",
        "/..%5c", "//etc/passwd", "/pipe", "/plain.txt/", "/none", "/none/", "/sub/./", "/beside/",
    };
    char beside[96];
    (void)state;
    make_folder("sub");
    make_file("plain.txt", "x", 1);
    make_file("sub/inside.txt", "inside", 6);
    make_link("leaves", "/etc");
    make_link("leaves-too", "/etc/passwd");
    make_link("up", "..");
    make_link("broken", "nowhere");
    make_link("round", "round");
    make_link("stays", "sub");
    make_link("stays.txt", "sub/inside.txt");
    snprintf(beside, sizeof beside, "%s-beside", top);      /* begins as the root does       */
    assert_int_equal(mkdir(beside, 0755), 0);
    make_link("beside", beside);
    char pipe_path[512];
    path_in(pipe_path, "pipe");
    assert_int_equal(mkfifo(pipe_path, 0644), 0);

    running r = START("serve", CERT, top);
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (status_of(&r, outside[i], NULL) != 404)
            fail_msg("%s is not 404", outside[i]);
    assert_int_equal(status_of(&r, "/%", NULL), 400);       /* no target at all (RFC 3986 2.1) */
    expect(&r, "/stays/inside.txt", 200, "inside");
    expect(&r, "/stays.txt", 200, "inside");
    transfer t = { 0 };
    fetch(&r, "/", &t);
    assert_non_null(strstr(t.got.data, "href=\"stays/\""));
    assert_non_null(strstr(t.got.data, "href=\"stays.txt\""));
    assert_null(strstr(t.got.data, "leaves"));
    assert_null(strstr(t.got.data, "broken"));
    assert_null(strstr(t.got.data, "href=\"up"));
    assert_null(strstr(t.got.data, "beside"));
    assert_null(strstr(t.got.data, "pipe"));
    drop(&t);
    stop(&r);
    assert_int_equal(rmdir(beside), 0);
}

static void serve_knows_index_types_and_methods(void **state)
{
    (void)state;
    make_folder("site");
    make_file("site/index.html", "<p>home", 7);
    make_file("site/style.css", "p{}", 3);
    running r = START("serve", CERT, "--threads", "2", top);
    expect(&r, "/site/", 200, "<p>home");
    transfer t = { 0 };
    fetch(&r, "/site", &t);
    assert_int_equal(t.status, 308);
    assert_true(has_field(&t, "Location: /site/"));
    drop(&t);
    fetch(&r, "/site/style.css", &t);
    assert_true(has_field(&t, "Content-Type: text/css; charset=utf-8"));
    assert_true(has_field(&t, "X-Content-Type-Options: nosniff"));
    drop(&t);
    transfer listing = { 0 }, head = { .method = "HEAD" };
    char length[64];
    fetch(&r, "/", &listing);
    fetch(&r, "/", &head);
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", listing.got.len);
    assert_int_equal(head.status, 200);
    assert_int_equal(head.got.len, 0);
    assert_true(has_field(&head, length));
    assert_true(has_field(&head, "Content-Security-Policy: default-src 'none'"));
    drop(&listing);
    drop(&head);
    assert_int_equal(status_of(&r, "/", "DELETE"), 405);
    assert_int_equal(status_of(&r, "/site/style.css", "PUT"), 405);
    stop(&r);
}

/* What a name may do to a page: nothing. */
static void serve_escapes_names(void **state)
{
    (void)state;
    make_file("<script>&\"'\xff\x01\xc2\x85\xed\xa0\x80\xf5", "", 0);
    make_folder("<i>");
    running r = START("serve", CERT, top);
    transfer t = { 0 };
    fetch(&r, "/", &t);
    assert_null(strstr(t.got.data, "<script>"));
    assert_non_null(strstr(t.got.data, "href=\"%3Cscript%3E%26%22%27%FF%01%C2%85%ED%A0%80%F5\""));
    assert_non_null(strstr(t.got.data, "&lt;script>&amp;\"'\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"));
    for (const char *at = t.got.data; *at; at++)
        assert_true(*at == '\n' || (unsigned char)*at >= ' ');
    drop(&t);
    fetch(&r, "/%3Ci%3E/", &t);
    assert_null(strstr(t.got.data, "<i>"));
    assert_non_null(strstr(t.got.data, "href=\"/%3Ci%3E/\""));
    drop(&t);
    stop(&r);
}

static void serve_lists_ten_thousand(void **state)
{
    char name[64];
    int rows = 0;
    (void)state;
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "file number %05d", i);
        make_file(name, "", 0);
    }
    running r = START("serve", CERT, top);
    transfer t = { 0 };
    fetch(&r, "/", &t);
    char before[64] = "";
    for (const char *at = t.got.data; (at = strstr(at, "<bdi>file")) != NULL; at++, rows++) {
        snprintf(name, sizeof name, "%.25s", at);
        assert_true(strcmp(before, name) < 0);
        memcpy(before, name, sizeof name);
    }
    assert_int_equal(rows, 10000);
    assert_non_null(strstr(t.got.data, "0 folders, 10000 files, 0 bytes"));
    drop(&t);
    stop(&r);
}

/* The rows of a listing, as their links are: "b a sub/". */
static void rows_of(const running *r, const char *path, char *out, size_t size)
{
    transfer t = { 0 };
    fetch(r, path, &t);
    assert_int_equal(t.status, 200);
    *out = '\0';
    const char *at = strstr(t.got.data, "<tbody>");
    assert_non_null(at);
    while ((at = strstr(at, "href=\"")) != NULL) {
        at += 6;
        snprintf(out + strlen(out), size - strlen(out), "%s%.*s", *out ? " " : "",
                 (int)strcspn(at, "\""), at);
    }
    drop(&t);
}

/* Without a script: the headings are links. */
static void serve_sorts_as_asked(void **state)
{
    static const struct { const char *path, *rows; } cases[] = {
        { "/", "sub/ a b C" }, { "/?sort=name", "sub/ a b C" }, { "/?sort=-name", "sub/?sort=-name C b a" },
        { "/?sort=size", "sub/?sort=size b C a" }, { "/?sort=-size", "sub/?sort=-size a C b" },
        { "/?sort=date", "sub/?sort=date C a b" }, { "/?sort=%2Ddate", "sub/?sort=-date b a C" },
        { "/?sort=none", "sub/ a b C" }, { "/?x=1&sort=date&sort=size", "sub/?sort=date C a b" },
        { "/sub/?sort=date", "../?sort=date" },
    };
    static const struct { const char *name; long seconds; } dates[] = {
        { "C", 1000000000 }, { "a", 1100000000 }, { "b", 1200000000 }
    };
    char path[512], rows[256];
    (void)state;
    make_folder("sub");
    make_file("a", "333", 3);
    make_file("b", "1", 1);
    make_file("C", "22", 2);
    for (int i = 0; i < 3; i++) {
        struct timespec times[2] = { { dates[i].seconds, 0 }, { dates[i].seconds, 0 } };
        path_in(path, dates[i].name);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    }
    running r = START("serve", CERT, top);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rows_of(&r, cases[i].path, rows, sizeof rows);
        if (strcmp(rows, cases[i].rows) != 0)
            fail_msg("%s: %s", cases[i].path, rows);
    }
    transfer t = { 0 };
    fetch(&r, "/?sort=-size", &t);
    assert_non_null(strstr(t.got.data, "<th><a href=\"?sort=name\">Name</a><th aria-sort=\"descending\">"
                                       "<a href=\"?sort=size\">Size &#9660;</a><th><a href=\"?sort=-date\">"));
    drop(&t);
    stop(&r);
}

/* No file, no listing, no upload for others; not even whether there is one. */
static void serve_asks_for_a_password(void **state)
{
    static const char *const wrong[] = {
        NULL, "Authorization: Basic YW5uOndyb25n" /* ann:wrong */, "Authorization: Basic Ym9iOm9wZW46bWU=" /* bob: */,
        "Authorization: Basic YW5uOm9wZW4=" /* ann:open */, "Authorization: Basic YW5u" /* ann */, "Authorization: Basic ***"
    };
    static const char *const paths[] = { "/", "/f", "/none", "/sub/" };
    char file[600], path[512];
    (void)state;
    make_folder("sub");
    make_file("f", "hello", 5);
    make_file("password", "ann:open:me\n", 12);
    path_in(path, "password");
    snprintf(file, sizeof file, "@%s", path);
    for (int from_file = 0; from_file < 2; from_file++) {
        running r = START("serve", CERT, "--upload", "1", "--auth", from_file ? file : "ann:open:me", top);
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
            for (size_t j = 0; j < sizeof paths / sizeof *paths; j++) {
                transfer t = { .field = wrong[i] };
                fetch(&r, paths[j], &t);
                assert_int_equal(t.status, 401);
                assert_true(has_field(&t, "WWW-Authenticate: Basic realm=\"serve\""));
                drop(&t);
            }
        transfer put = { .method = "PUT", .body = "x", .body_len = 1, .field = wrong[1] };
        fetch(&r, "/new", &put);
        assert_int_equal(put.status, 401);
        drop(&put);
        transfer good = { .field = "Authorization: Basic YW5uOm9wZW46bWU=" };      /* ann:open:me */
        fetch(&r, "/f", &good);
        assert_int_equal(good.status, 200);
        assert_string_equal(good.got.data, "hello");
        drop(&good);
        fetch(&r, "/new", &good);
        assert_int_equal(good.status, 404);             /* nobody has put it there            */
        drop(&good);
        assert_true(child_says(&r.process->out, " - ann [", 2));
        assert_true(child_says(&r.process->err, "user         ann\n", 1));
        assert_null(strstr(r.process->err.text, "open:me"));
        stop(&r);
    }
}

static void serve_says_all_its_addresses(void **state)
{
    static const char *const hosts[] = { "0.0.0.0", "::" };
    char line[64];
    (void)state;
    for (int i = 0; i < 2; i++) {
        child *c = launch((const char *[]){ "serve", CERT, "--address", hosts[i], top, NULL });
        bool started = child_says(&c->out, "listening on https://", 1);
        if (started) {                                  /* there may be no IPv6               */
            assert_true(child_says(&c->err, "  stop  ", 1));       /* the banner's last line */
            snprintf(line, sizeof line, " https://127.0.0.1:%d/\n", port_of(c, "listening"));
            assert_non_null(strstr(c->err.text, line));
            snprintf(line, sizeof line, " https://[::1]:%d/\n", port_of(c, "listening"));
            assert_int_equal(strstr(c->err.text, line) != NULL, i == 1);
            assert_null(strstr(c->err.text, "fe80"));
        }
        assert_true(started || i == 1);
        child_free(c);
    }
}

/* --- a Unix socket -------------------------------------------------------------------- */

static child *start_at(const char *path)
{
    child *c = launch((const char *[]){ "serve", CERT, "--unix", path, top, NULL });
    if (!child_says(&c->out, "listening on unix:", 1))
        fail_msg("serve --unix %s did not start: %s", path, c->err.text);
    return c;
}

static void expect_at(const char *path, const char *url, long status, const char *body)
{
    transfer t = { .unix_socket = path };
    perform(&t, url);                   /* verified, for localhost                          */
    if (t.code != CURLE_OK)
        fail_msg("%s at %s: %s", url, path, curl_easy_strerror(t.code));
    assert_int_equal(t.status, status);
    if (body)
        assert_string_equal(t.got.data, body);
    drop(&t);
}

static void end_at(child *c, const char *path)
{
    struct stat st;
    kill(c->pid, SIGTERM);
    assert_int_equal(child_end(c), 0);
    child_free(c);
    assert_int_not_equal(lstat(path, &st), 0);
}

static void serve_listens_on_a_unix_socket(void **state)
{
    static const mode_t masks[] = { 0117, 0077, 0022 };
    char path[512], said[600];
    struct stat st;
    (void)state;
    make_folder("sub");
    make_file("f", "hello", 5);
    path_in(path, "sub/a.sock");
    mode_t before = umask(0);
    for (int i = 0; i < 3; i++) {
        umask(masks[i]);                /* the program inherits it                          */
        child *c = start_at(path);
        umask(before);
        snprintf(said, sizeof said, "listening on unix:%s\n", path);
        assert_string_equal(c->out.text, said);
        snprintf(said, sizeof said, "curl -k --unix-socket %s https://localhost/\n", path);
        assert_true(child_says(&c->err, said, 1));
        assert_int_equal(lstat(path, &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 0777, 0777 & ~masks[i]);
        expect_at(path, "https://localhost/f", 200, "hello");
        expect_at(path, "https://localhost/", 200, NULL);
        expect_at(path, "https://localhost/sub/", 200, NULL);
        expect_at(path, "https://localhost/sub/a.sock", 404, NULL);     /* it is no file    */
        assert_true(child_says(&c->out, "unix: - - [", 4));             /* the log          */
        end_at(c, path);
    }
}

static void serve_replaces_a_stale_socket_only(void **state)
{
    char path[512], file[512];
    struct stat st;
    (void)state;
    make_file("f", "hello", 5);
    path_in(path, "a.sock");
    path_in(file, "f");
    child *c = start_at(path);
    child *second = launch((const char *[]){ "serve", CERT, "--unix", path, top, NULL });
    assert_int_equal(child_end(second), 2);             /* one lives there                  */
    assert_non_null(strstr(second->err.text, "a.sock: "));
    child_free(second);
    expect_at(path, "https://localhost/f", 200, "hello");
    kill(c->pid, SIGKILL);
    child_end(c);
    child_free(c);
    assert_int_equal(lstat(path, &st), 0);              /* what a crash leaves              */
    c = start_at(path);
    expect_at(path, "https://localhost/f", 200, "hello");
    end_at(c, path);
    second = launch((const char *[]){ "serve", CERT, "--unix", file, top, NULL });
    assert_int_equal(child_end(second), 2);
    assert_non_null(strstr(second->err.text, "the file is not a socket"));
    child_free(second);
    bytebuf b = bytes_of_file(file);
    assert_string_equal(b.data, "hello");
    bytes_free(&b);
}

static void serve_writes_an_access_log(void **state)
{
    static const char line[] = "^127\\.0\\.0\\.1 - - \\[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:]{8} [+-][0-9]{4}\\] "
                               "\"GET /none\\?a=\\\\x22b HTTP/1\\.1\" 404 14 \"-\" \"me \\\\x22\\\\x5c\"$";
    regex_t re;
    (void)state;
    make_file("f", "12345", 5);
    running r = START("serve", CERT, "--address", "127.0.0.1", top);
    transfer t = { .field = "User-Agent: me \"\\" };
    fetch(&r, "/none?a=\"b", &t);
    drop(&t);
    assert_int_equal(status_of(&r, "/f", NULL), 200);
    assert_int_equal(status_of(&r, "/f", "HEAD"), 200);
    assert_true(child_says(&r.process->out, "\"HEAD /f HTTP/1.1\" 200 0 ", 1));
    assert_true(child_says(&r.process->out, "\"GET /f HTTP/1.1\" 200 5 ", 1));
    assert_true(child_says(&r.process->out, "\n", 4));
    assert_int_equal(regcomp(&re, line, REG_EXTENDED | REG_NEWLINE), 0);
    assert_int_equal(regexec(&re, r.process->out.text, 0, NULL, 0), 0);
    regfree(&re);
    stop(&r);
}

static void self_signed_by_default(void **state)
{
    (void)state;
    make_file("f", "hello", 5);
    running r = START("serve", top);
    transfer t = { .anyone = true };
    fetch(&r, "/f", &t);
    assert_string_equal(t.got.data, "hello");
    drop(&t);
    char url[64];
    snprintf(url, sizeof url, "https://[::1]:%d/f", r.port);
    perform(&t, url);                   /* where there is IPv6                              */
    assert_true(t.code == CURLE_OK || t.code == CURLE_COULDNT_CONNECT);
    drop(&t);
    assert_true(child_says(&r.process->err, "SHA-256      ", 1));
    stop(&r);
}

/* --- files that it takes -------------------------------------------------------------- */

/* "script-src 'sha256-...'" of the page's policy is the digest of the script in the page. */
static void check_script_digest(const transfer *t)
{
    unsigned char digest[32], text[64];
    char source[128];
    const char *begin = strstr(t->got.data, "<script>"), *end = strstr(t->got.data, "</script>");
    assert_true(begin && end && begin < end);
    begin += strlen("<script>");
    SHA256((const unsigned char *)begin, (size_t)(end - begin), digest);
    EVP_EncodeBlock(text, digest, sizeof digest);
    snprintf(source, sizeof source, "script-src 'sha256-%s'", (const char *)text);
    assert_non_null(strstr(t->head.data, source));
}

static int entries_in(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 2;                   /* . and ..                                        */
}

static void serve_takes_files_when_told(void **state)
{
    bytebuf body = noise(1 << 20);
    char path[512], url[64];
    (void)state;
    make_folder("in");
    make_folder("outside");
    make_file("outside/old", "old", 3);
    path_in(path, "outside");
    make_link("in/away", path);
    path_in(path, "in");
    running r = START("serve", CERT, "--upload", "1", path);
    for (int chunked = 0; chunked < 2; chunked++) {
        transfer t = { .method = "PUT", .body = body.data, .body_len = body.len, .chunked = chunked };
        fetch(&r, chunked ? "/chunked" : "/a%20name.bin", &t);
        assert_int_equal(t.status, 201);
        drop(&t);
        fetch(&r, chunked ? "/chunked" : "/a%20name.bin", &t);      /* what is there stays */
        assert_int_equal(t.status, 409);
        drop(&t);
        transfer back = { 0 };
        fetch(&r, chunked ? "/chunked" : "/a%20name.bin", &back);
        assert_int_equal(back.got.len, body.len);
        assert_memory_equal(back.got.data, body.data, body.len);
        drop(&back);
    }
    static const struct { const char *name; int status; } refused[] = {
        { "/", 400 }, { "/.hidden", 400 }, { "/in%0Aline", 400 }, { "/back%5Cslash", 400 },
        { "/nul%00", 400 }, { "/..", 400 }, { "/none/x", 404 }, { "/../x", 404 },
        { "/%2e%2e%2fx", 404 }, { "/away/x", 404 }, { "/away", 409 },
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        transfer t = { .method = "PUT", .body = "x", .body_len = 1 };
        fetch(&r, refused[i].name, &t);
        assert_int_equal(t.status, refused[i].status);
        drop(&t);
    }
    for (int chunked = 0; chunked < 2; chunked++) {
        transfer large = { .method = "PUT", .body_len = body.len + 1, .chunked = chunked };
        char *zeros = calloc(1, large.body_len);
        assert_non_null(zeros);
        large.body = zeros;
        fetch(&r, "/large", &large);
        assert_int_equal(large.status, 413);
        drop(&large);
        free(zeros);
    }
    snprintf(url, sizeof url, "https://localhost:%d/cut", r.port);
    transfer cut = { .method = "PUT", .body = body.data, .body_len = body.len - 1, .cut = true };
    perform(&cut, url);
    assert_int_not_equal(cut.code, CURLE_OK);
    drop(&cut);
    transfer listing = { 0 };
    fetch(&r, "/", &listing);
    assert_non_null(strstr(listing.got.data, "a name.bin"));
    assert_non_null(strstr(listing.got.data, "<input type=\"file\""));
    check_script_digest(&listing);
    drop(&listing);
    stop(&r);
    path_in(path, "in");
    assert_int_equal(entries_in(path), 3);              /* the two, the link, and no remains */
    path_in(path, "outside");
    assert_int_equal(entries_in(path), 1);
    free(body.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(serve_gives_back_what_is_there, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_gives_nothing_from_outside, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_knows_index_types_and_methods, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_escapes_names, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_lists_ten_thousand, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_sorts_as_asked, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_asks_for_a_password, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_says_all_its_addresses, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_listens_on_a_unix_socket, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_replaces_a_stale_socket_only, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_writes_an_access_log, make_top, remove_top),
        cmocka_unit_test_setup_teardown(self_signed_by_default, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_takes_files_when_told, make_top, remove_top),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests_name("examples", tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
