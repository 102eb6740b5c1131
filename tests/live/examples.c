/* The examples, started as a user starts them, with curl as the user. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "child.h"

#include <curl/curl.h>
#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <regex.h>
#include "help.h"

#define DATA "tests/data/"
#define CERT "--cert", DATA "server-p256.pem", "--key", DATA "server-p256.key"
#define START(...) start((const char *[]){ __VA_ARGS__, NULL })

/* --- a running example ------------------------------------------------------------------ */
typedef struct running { child *process; int port; } running;

static void program_path(char path[256], const char *name)
{
    const char *dir = getenv("EXAMPLES");
    snprintf(path, 256, "%s/%s", dir ? dir : "build/examples", name);
}

/* words[0] is the example's name; --port 0 is added. */
static child *launch(const char *const *words)
{
    char path[256];
    const char *argv[32] = { path, "--port", "0" };
    int count = 3;
    program_path(path, words[0]);
    for (int i = 1; words[i] && count < 31; i++)
        argv[count++] = words[i];
    return child_start(argv);
}

/* The port in the line that it is ready. */
static int port_of(const child *c, const char *line)
{
    const char *at = strstr(c->out.text, line);
    const char *end = at ? at + strcspn(at, "\n") : NULL;
    while (end && end > at && end[-1] != ':')
        end--;
    return end ? atoi(end) : 0;
}

static running start(const char *const *words)
{
    running r = { launch(words), 0 };
    if (!child_says(&r.process->out, "listening on https://127.0.0.1:", 1))
        fail_msg("%s did not start: %s", words[0], r.process->err.text);
    r.port = port_of(r.process, "listening");
    assert_within(r.port, 1, 65534);
    return r;
}

static void stop(running *r)
{
    kill(r->process->pid, SIGTERM);
    int code = child_end(r->process);
    if (code != 0)
        fail_msg("ended with %d: %s", code, r->process->err.text);
    child_free(r->process);
    r->process = NULL;
}

/* --- one transfer ------------------------------------------------------------------------- */
typedef struct transfer {
    const char *method;                 /* NULL: GET, or POST with a body                  */
    const char *body;
    size_t      body_len;
    bool        chunked;                /* send it so                                      */
    bool        cut;                    /* leave where the body ends, one byte too early   */
    bool        late;                   /* read nothing of the answer while it can be sent */
    bool        anyone;                 /* trust whatever certificate it is                */
    const char *field;                  /* one more field to send                          */
    const char *cert, *key;             /* of the client                                   */
    const char *connect_to;
    void      (*at_first_byte)(void *arg);
    void       *arg;

    CURLcode    code;                   /* from here on: what came                         */
    CURL       *curl;
    size_t      sent, sent_before;
    int64_t     stuck_since;
    long        status;
    bytebuf     got, head;
} transfer;

static size_t on_bytes(char *part, size_t size, size_t count, void *user)
{
    transfer *t = user;
    if (t->late)
        return CURL_WRITEFUNC_PAUSE;
    if (t->got.len == 0 && t->at_first_byte)
        t->at_first_byte(t->arg);
    bytes_add(&t->got, part, size * count);
    return size * count;
}

static size_t on_head_line(char *part, size_t size, size_t count, void *user)
{
    bytes_add(&((transfer *)user)->head, part, size * count);
    return size * count;
}

static size_t give_body(char *out, size_t size, size_t count, void *user)
{
    transfer *t = user;
    size_t left = t->body_len - t->sent, n = size * count < left ? size * count : left;
    if (n == 0 && t->cut)
        return CURL_READFUNC_ABORT;
    memcpy(out, t->body + t->sent, n);
    t->sent += n;
    return n;
}

/* Called every now and then.  When all is sent, or nothing could be for a while, it is time
   to read. */
static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    transfer *t = user;
    (void)a, (void)b, (void)c, (void)d;
    if (t->sent != t->sent_before)
        t->stuck_since = clock_ms();
    t->sent_before = t->sent;
    if (t->late && t->sent > 0 && clock_ms() - t->stuck_since > 200) {
        t->late = false;
        curl_easy_pause(t->curl, CURLPAUSE_CONT);
    }
    return 0;
}

static CURL *prepare(transfer *t, const char *url)
{
    CURL *curl = curl_easy_init();
    assert_non_null(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 262144L);
    curl_easy_setopt(curl, CURLOPT_CAINFO, DATA "ca.pem");
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, t->anyone ? 0L : 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, t->anyone ? 0L : 2L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, (void *)t);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_head_line);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, (void *)t);
    if (t->cert) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, t->cert);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, t->key);
    }
    if (t->method && strcmp(t->method, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    return curl;
}

static struct curl_slist *prepare_body(CURL *curl, transfer *t)
{
    struct curl_slist *fields = curl_slist_append(NULL, "Expect:");
    t->curl = curl;
    t->sent = 0;
    if (t->late) {
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, (void *)t);
    }
    if (t->body) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "POST");
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, (void *)t);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE,
                         t->chunked ? (curl_off_t)-1 : (curl_off_t)(t->body_len + t->cut));
    }
    if (t->method && strcmp(t->method, "HEAD") != 0)
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, t->method);
    if (t->field)
        fields = curl_slist_append(fields, t->field);
    return fields;
}

static void perform(transfer *t, const char *url)
{
    CURL *curl = prepare(t, url);
    struct curl_slist *fields = prepare_body(curl, t), *to = NULL;
    bytes_add(&t->got, "", 0);
    bytes_add(&t->head, "", 0);
    if (t->connect_to) {
        to = curl_slist_append(NULL, t->connect_to);
        curl_easy_setopt(curl, CURLOPT_CONNECT_TO, to);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    t->code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &t->status);
    curl_slist_free_all(fields);
    curl_slist_free_all(to);
    curl_easy_cleanup(curl);
}

static void drop(transfer *t)
{
    free(t->got.data);
    free(t->head.data);
    t->got = t->head = (bytebuf){ NULL, 0, 0 };
}

static void fetch(const running *r, const char *path, transfer *t)
{
    char url[4096];
    snprintf(url, sizeof url, "https://localhost:%d%s", r->port, path);
    perform(t, url);
    if (t->code != CURLE_OK)
        fail_msg("%s: %s", url, curl_easy_strerror(t->code));
}

static long status_of(const running *r, const char *path, const char *method)
{
    transfer t = { .method = method };
    fetch(r, path, &t);
    drop(&t);
    return t.status;
}

static void expect(const running *r, const char *path, long status, const char *body)
{
    transfer t = { 0 };
    fetch(r, path, &t);
    assert_int_equal(t.status, status);
    assert_string_equal(t.got.data, body);
    drop(&t);
}

static bool has_field(const transfer *t, const char *line)
{
    for (const char *at = t->head.data; (at = strchr(at, '\n')) != NULL;)
        if (strncasecmp(++at, line, strlen(line)) == 0)
            return true;
    return false;
}

static bytebuf noise(size_t len)
{
    bytebuf b = { malloc(len + 1), len, len + 1 };
    uint32_t x = 2463534242u;
    assert_non_null(b.data);
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        b.data[i] = (char)(x >> 11);
    }
    return b;
}

/* --- folders to serve ------------------------------------------------------------------------ */
static char top[64];                    /* a folder of our own                             */

static void path_in(char out[512], const char *name)
{
    snprintf(out, 512, "%s/%s", top, name);
}

static void make_folder(const char *name)
{
    char path[512];
    path_in(path, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static void make_file(const char *name, const char *content, size_t len)
{
    char path[512];
    path_in(path, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void make_link(const char *name, const char *target)
{
    char path[512];
    path_in(path, name);
    assert_int_equal(symlink(target, path), 0);
}

static int make_top(void **state)
{
    (void)state;
    strcpy(top, "/dev/shm/httpsbind-examples-XXXXXX");      /* memory, where there is some     */
    if (mkdtemp(top))
        return 0;
    strcpy(top, "/tmp/httpsbind-examples-XXXXXX");
    return mkdtemp(top) ? 0 : -1;
}

static int remove_top(void **state)
{
    (void)state;
    return remove_folder(top);
}

/* --- serve: all that is below a folder, byte for byte, as a browser would find it --------------- */
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
        if (strncmp(at, "../", 3) == 0)
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
        "/..%5c", "//etc/passwd", "/pipe", "/plain.txt/", "/none", "/none/", "/%", "/sub/./", "/beside/",
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

/* --- certificates that are renewed -------------------------------------------------------------------- */
static void copy_file(const char *from, const char *name)
{
    bytebuf b = bytes_of_file(from);
    make_file(name, b.data, b.len);
    free(b.data);
}

/* SIGHUP: another certificate for new connections, or the old one and the reason. */
static void renewed(const char *example, const char *done, const char *kept)
{
    char cert[512], key[512];
    copy_file(DATA "server-p256.pem", "cert.pem");
    copy_file(DATA "server-p256.key", "cert.key");
    path_in(cert, "cert.pem");
    path_in(key, "cert.key");
    running r = START(example, "--cert", cert, "--key", key);
    assert_int_equal(status_of(&r, "/", NULL), 200);
    make_file("cert.key", "", 0);
    kill(r.process->pid, SIGHUP);
    assert_true(child_says(&r.process->err, kept, 1));
    assert_true(child_says(&r.process->err, "cert.key: empty", 1));
    assert_int_equal(status_of(&r, "/", NULL), 200);
    copy_file(DATA "server-www.pem", "cert.pem");
    copy_file(DATA "server-www.key", "cert.key");
    kill(r.process->pid, SIGHUP);
    assert_true(child_says(&r.process->err, done, 1));
    char url[64], to[64];
    snprintf(url, sizeof url, "https://www.example.org:%d/", r.port);
    snprintf(to, sizeof to, "::localhost:%d", r.port);
    transfer t = { .connect_to = to };
    perform(&t, url);                   /* verified: the name is only in the new one        */
    assert_int_equal(t.code, CURLE_OK);
    drop(&t);
    stop(&r);
}

static void serve_renews_on_sighup(void **state)
{
    (void)state;
    renewed("serve", "new certificate, SHA-256 ", "keeping the old certificate: ");
}

static void reload_renews_on_sighup(void **state)
{
    (void)state;
    renewed("reload", "a new certificate from now on\n", "keeping the old certificate: ");
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

/* --- echo ------------------------------------------------------------------------------------------------ */
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
    assert_non_null(strstr(t.got.data, "version: TLSv1.2\nsuite: TLS_ECDHE_ECDSA_WITH_"));
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

/* --- the end --------------------------------------------------------------------------------------------------- */
static void terminate(void *arg)
{
    kill(((child *)arg)->pid, SIGTERM);
}

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

/* --- wrong flags ------------------------------------------------------------------------------------------------- */
/* Exit status 2, one line on stderr with the words in it, nothing on stdout. */
static void refused(const char *const *words, const char *because)
{
    child *c = launch(words);
    int code = child_end(c);
    const char *newline = strchr(c->err.text, '\n');
    if (code != 2 || c->out.len != 0 || !newline || newline[1] || !strstr(c->err.text, because))
        fail_msg("%s %s: %d, \"%s\", \"%s\"", words[0], words[1], code, c->out.text, c->err.text);
    child_free(c);
}

#define REFUSED(because, ...) refused((const char *[]){ __VA_ARGS__, NULL }, because)

static void wrong_flags_end_with_2(void **state)
{
    char port[16];
    (void)state;
    REFUSED("--nope", "serve", "--nope");
    REFUSED("70000", "serve", "--port", "70000");
    REFUSED("-1", "serve", "--port=-1");
    REFUSED("\" 1\"", "serve", "--port", " 1");
    REFUSED("needs a value", "serve", "--port");
    REFUSED("go together", "serve", "--cert", DATA "server-p256.pem");
    REFUSED("go together", "serve", "--key", DATA "server-p256.key");
    REFUSED("no-such-file", "serve", "--cert", "no-such-file", "--key", DATA "server-p256.key");
    REFUSED("no-such-key", "serve", "--cert", DATA "server-p256.pem", "--key", "no-such-key");
    REFUSED("server-p384.key", "serve", "--cert", DATA "server-p256.pem", "--key", DATA "server-p384.key");
    REFUSED("needs --client-ca", "serve", "--require-client-cert");
    REFUSED("no-such-ca", "serve", "--client-ca", "no-such-ca");
    REFUSED("--threads", "serve", "--threads", "0");
    REFUSED("--threads", "serve", "--threads", "many");
    REFUSED("bind 192.0.2.1", "serve", "--address", "192.0.2.1");
    REFUSED("--upload", "serve", "--upload", "0");
    REFUSED("no-such-folder", "serve", "no-such-folder");
    REFUSED("not a folder", "serve", "Makefile");
    REFUSED("one folder", "serve", "tests", "examples");
    REFUSED("no such flag", "echo", "somewhere");
    REFUSED("its CERT", "sni", "www.example.org");
    running r = START("echo", CERT);
    snprintf(port, sizeof port, "%d", r.port);
    REFUSED(port, "echo", "--port", port);
    REFUSED(port, "serve", "--port", port, "--threads", "3", top);
    REFUSED(port, "redirect", "--plain-port", port);
    stop(&r);
}

static void help_fits_a_screen(void **state)
{
    static const char *const names[] = { "serve", "echo", "threads", "redirect", "client_cert", "sni",
                                         "reload", "stream", "upload", "graceful" };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        child *c = launch((const char *[]){ names[i], "--help", NULL });
        int lines = 0;
        assert_int_equal(child_end(c), 0);
        assert_int_equal(c->err.len, 0);
        for (const char *at = c->out.text; *at; at++, lines++) {
            size_t len = strcspn(at, "\n");
            assert_within(len, 0, 79);
            at += len;
        }
        assert_within(lines, 8, 24);
        child_free(c);
    }
}

/* --- the others --------------------------------------------------------------------------------------------------- */
static void threads_share_the_work(void **state)
{
    int total = 0;
    (void)state;
    running r = START("threads", CERT, "--threads", "3");
    for (int i = 0; i < 12; i++) {
        transfer t = { 0 };
        fetch(&r, "/", &t);
        assert_int_equal(t.status, 200);
        drop(&t);
    }
    kill(r.process->pid, SIGTERM);
    assert_int_equal(child_end(r.process), 0);
    for (const char *at = r.process->err.text; (at = strstr(at, "answered ")) != NULL; at++)
        total += atoi(at + 9);
    assert_int_equal(total, 12);
    child_free(r.process);
}

static void redirect_leads_to_the_secure_port(void **state)
{
    char url[64], location[128];
    (void)state;
    running r = START("redirect", CERT, "--plain-port", "0");
    int plain = port_of(r.process, "redirecting from http://127.0.0.1:");
    expect(&r, "/", 200, "secure\n");
    transfer t = { 0 };
    snprintf(url, sizeof url, "http://localhost:%d/a/b?c=d", plain);
    snprintf(location, sizeof location, "Location: https://localhost:%d/a/b?c=d\r\n", r.port);
    perform(&t, url);
    assert_int_equal(t.status, 308);
    assert_true(has_field(&t, location));
    drop(&t);
    transfer v6 = { .field = "Host: [::1]:80" };
    snprintf(location, sizeof location, "Location: https://[::1]:%d/a/b?c=d\r\n", r.port);
    perform(&v6, url);
    assert_true(has_field(&v6, location));
    drop(&v6);
    stop(&r);
}

static void client_cert_knows_ann(void **state)
{
    transfer ann = { .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
    transfer bob = { .cert = DATA "client-p384.pem", .key = DATA "client-p384.key" };
    char url[64];
    (void)state;
    running r = START("client_cert", CERT, "--client-ca", DATA "ca.pem");
    expect(&r, "/", 200, "hello, whoever you are\n");
    expect(&r, "/private", 403, "for those with a certificate\n");
    fetch(&r, "/private", &ann);
    assert_string_equal(ann.got.data, "hello, CN=ann,O=Example\nsigned by CN=Test CA,O=httpsbind tests\n");
    drop(&ann);
    stop(&r);
    r = START("client_cert", CERT, "--client-ca", DATA "ca.pem", "--only", "CN=ann,O=Example");
    fetch(&r, "/", &ann);
    assert_int_equal(ann.status, 200);
    snprintf(url, sizeof url, "https://localhost:%d/", r.port);
    perform(&bob, url);
    assert_int_not_equal(bob.code, CURLE_OK);
    drop(&ann);
    drop(&bob);
    stop(&r);
}

static void sni_chooses_by_name(void **state)
{
    static const char *const names[] = { "www.example.org", "other.example.org", "localhost" };
    (void)state;
    running r = START("sni", CERT, "www.example.org", DATA "server-www.pem", DATA "server-www.key",
                      "*.example.org", DATA "server-wildcard.pem", DATA "server-wildcard.key");
    for (int i = 0; i < 3; i++) {
        char url[128], to[64], body[128];
        snprintf(url, sizeof url, "https://%s:%d/", names[i], r.port);
        snprintf(to, sizeof to, "::localhost:%d", r.port);
        snprintf(body, sizeof body, "this is %s\n", names[i]);
        transfer t = { .connect_to = to };
        perform(&t, url);               /* verified: the certificate has the name           */
        assert_int_equal(t.code, CURLE_OK);
        assert_string_equal(t.got.data, body);
        drop(&t);
    }
    transfer t = { .field = "Host: www.example.org" };
    fetch(&r, "/", &t);
    assert_int_equal(t.status, 421);
    drop(&t);
    stop(&r);
}

static void stream_ends_with_the_server(void **state)
{
    (void)state;
    running r = START("stream", CERT);
    transfer page = { 0 }, events = { .at_first_byte = terminate, .arg = r.process };
    fetch(&r, "/", &page);
    assert_non_null(strstr(page.got.data, "EventSource"));
    drop(&page);
    char url[64];
    snprintf(url, sizeof url, "https://localhost:%d/events", r.port);
    CURL *curl = prepare(&page, url);
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    for (int i = 0; i < 2; i++)                         /* twice on one connection           */
        assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    curl_easy_cleanup(curl);
    drop(&page);
    fetch(&r, "/events", &events);
    assert_true(has_field(&events, "Content-Type: text/event-stream\r\n"));
    assert_memory_equal(events.got.data, "data: 2", 7);
    drop(&events);
    assert_int_equal(child_end(r.process), 0);
    child_free(r.process);
}

/* What nobody who wrote these handlers thought of: methods and targets are the client's
   choice, and none of them may end the program.                                             */
static void ask_oddly(const running *r)
{
    static const char *const methods[] = {
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"
    };
    static const char *const targets[] = {
        "/", "/events", "/stats", "/slow", "/upload", "/bytes/3", "/bytes/-1", "//", "/%00", "/?", "*", "a:1"
    };
    char url[64];
    snprintf(url, sizeof url, "https://localhost:%d/", r->port);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        for (size_t j = 0; j < sizeof targets / sizeof *targets; j++) {
            transfer t = { 0 };
            CURL *curl = prepare(&t, url);
            curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, methods[i]);
            curl_easy_setopt(curl, CURLOPT_REQUEST_TARGET, targets[j]);
            curl_easy_setopt(curl, CURLOPT_NOBODY, (long)(i == 1));
            curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 100L);       /* some answer for ever */
            curl_easy_setopt(curl, CURLOPT_HTTP_VERSION,
                             (long)(j % 2 ? CURL_HTTP_VERSION_1_0 : CURL_HTTP_VERSION_1_1));
            curl_easy_perform(curl);
            curl_easy_cleanup(curl);
            drop(&t);
        }
}

static void no_example_is_put_down(void **state)
{
    static const char *const names[] = {
        "chat", "client_cert", "deferred", "echo", "graceful", "redirect", "reload", "serve", "sni",
        "stream", "threads", "upgrade", "upload",
#ifndef HSB_USE_POLL                    /* it has no descriptor for a loop of one's own      */
        "own_loop",
#endif
    };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool folder = strcmp(names[i], "upload") == 0 || strcmp(names[i], "serve") == 0;
        running r = START(names[i], CERT, folder ? top : NULL);
        ask_oddly(&r);
        assert_within(status_of(&r, "/", NULL), 200, 499);
        stop(&r);
    }
}

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

static void upload_writes_whole_files_only(void **state)
{
    bytebuf body = noise(2000000);
    char path[512];
    (void)state;
    running r = START("upload", CERT, "--rate", "10000", top);
    for (int chunked = 0; chunked < 2; chunked++) {
        transfer t = { .method = "PUT", .body = body.data, .body_len = body.len, .chunked = chunked };
        fetch(&r, chunked ? "/chunked" : "/sized.bin", &t);
        assert_int_equal(t.status, 201);
        drop(&t);
        path_in(path, chunked ? "chunked" : "sized.bin");
        bytebuf written = bytes_of_file(path);
        assert_int_equal(written.len, body.len);
        assert_memory_equal(written.data, body.data, body.len);
        free(written.data);
    }
    assert_true(child_says(&r.process->err, "sized.bin: ", 5));     /* progress              */
    assert_true(child_says(&r.process->err, " of 2000000 bytes\nsized.bin: ", 2));
    assert_true(child_says(&r.process->err, "\nchunked: ", 1));
    assert_null(strstr(r.process->err.text, "-1"));
    transfer bad = { .method = "PUT", .body = "x", .body_len = 1 };
    static const char *const names[] = { "/", "/.hidden", "/a/b", "/..", "/a%2fb" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fetch(&r, names[i], &bad);
        assert_int_equal(bad.status, 400);
        drop(&bad);
    }
    transfer get = { 0 };
    fetch(&r, "/x", &get);
    assert_int_equal(get.status, 405);
    assert_true(has_field(&get, "Allow: PUT\r\n"));
    assert_non_null(strstr(get.got.data, "curl"));
    drop(&get);
    make_file(".left.part", "", 0);                     /* by a run that was killed          */
    fetch(&r, "/left", &bad);
    assert_int_equal(bad.status, 409);
    assert_non_null(strstr(bad.got.data, ".part"));
    drop(&bad);
    char url[64];
    snprintf(url, sizeof url, "https://localhost:%d/cut", r.port);
    transfer cut = { .method = "PUT", .body = body.data, .body_len = body.len, .cut = true };
    perform(&cut, url);
    assert_int_not_equal(cut.code, CURLE_OK);
    drop(&cut);
    assert_true(child_says(&r.process->err, "cut: given up", 1));
    stop(&r);
    path_in(path, "cut");
    assert_int_not_equal(access(path, F_OK), 0);
    path_in(path, ".cut.part");
    assert_int_not_equal(access(path, F_OK), 0);
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
        cmocka_unit_test_setup_teardown(serve_writes_an_access_log, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_renews_on_sighup, make_top, remove_top),
        cmocka_unit_test_setup_teardown(reload_renews_on_sighup, make_top, remove_top),
        cmocka_unit_test_setup_teardown(self_signed_by_default, make_top, remove_top),
        cmocka_unit_test(echo_gives_back),
        cmocka_unit_test(echo_waits_for_its_reader),
        cmocka_unit_test(echo_counts_and_sends),
        cmocka_unit_test(echo_knows_who_asks),
        cmocka_unit_test(one_signal_lets_downloads_finish),
        cmocka_unit_test(two_signals_cut_them),
        cmocka_unit_test(graceful_finishes_answers),
        cmocka_unit_test_setup_teardown(wrong_flags_end_with_2, make_top, remove_top),
        cmocka_unit_test(help_fits_a_screen),
        cmocka_unit_test(threads_share_the_work),
        cmocka_unit_test(redirect_leads_to_the_secure_port),
        cmocka_unit_test(client_cert_knows_ann),
        cmocka_unit_test(sni_chooses_by_name),
        cmocka_unit_test(stream_ends_with_the_server),
        cmocka_unit_test_setup_teardown(no_example_is_put_down, make_top, remove_top),
        cmocka_unit_test_setup_teardown(serve_takes_files_when_told, make_top, remove_top),
        cmocka_unit_test_setup_teardown(upload_writes_whole_files_only, make_top, remove_top),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests_name("examples", tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
