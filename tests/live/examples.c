/* The other examples, and what is true for all of them. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "examples_help.h"

#include <dirent.h>

/* --- wrong flags ---------------------------------------------------------------------- */

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
    REFUSED("USER:PASSWORD", "serve", "--auth", "ann");
    REFUSED("no-such-file", "serve", "--auth", "@no-such-file");
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
    static const char *const names[] = {
        "api", "chat", "client_cert", "deferred", "echo", "embedded", "form", "graceful", "own_loop", "redirect",
        "reload", "serve", "sni", "stream", "threads", "upgrade", "upload"
    };
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

/* --- certificates that are renewed ---------------------------------------------------- */

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

/* --- the others ----------------------------------------------------------------------- */

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
    const char *said = strstr(r.process->out.text, "to which port ");
    int plain = said ? atoi(said + strlen("to which port ")) : 0;
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
    make_file(".left.part", "", 0);                     /* as if somebody were sending it    */
    fetch(&r, "/left", &bad);
    assert_int_equal(bad.status, 409);
    assert_non_null(strstr(bad.got.data, "somebody is sending it"));
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

/* What nobody who wrote these handlers thought of: methods and targets are the client's
   choice, and none of them may end the program.                                             */
static void ask_oddly(const running *r)
{
    static const char *const methods[] = {
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"
    };
    static const char *const targets[] = {
        "/", "/events", "/stats", "/slow", "/upload", "/bytes/3", "/bytes/-1", "//", "/%00", "/?", "*", "a:1",
        "/notes", "/notes/%31", "/notes/-1", "/hook", "/%2e%2e%2fx", "/.hidden", "/?form=%&form"
    };
    static const char *const fields[] = {
        "X-None: ", "Content-Type: multipart/form-data", "Content-Type: multipart/form-data; boundary=b",
        "Content-Type: application/x-www-form-urlencoded", "Content-Type: application/json",
        "Cookie: __Host-session=; __Host-form", "Authorization: Basic ***", "Content-Range: x",
    };
    char url[64];
    size_t asked = 0;
    snprintf(url, sizeof url, "https://localhost:%d/", r->port);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        for (size_t j = 0; j < sizeof targets / sizeof *targets; j++) {
            transfer t = { .anyone = true };
            CURL *curl = prepare(&t, url);
            struct curl_slist *field = curl_slist_append(NULL, fields[asked++ % (sizeof fields / sizeof *fields)]);
            if (asked % 3 == 0) {
                curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)sizeof "--b\r\n\0form=%zz&=\r\n--b--" - 1);
                curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "--b\r\n\0form=%zz&=\r\n--b--");
            }
            curl_easy_setopt(curl, CURLOPT_HTTPHEADER, field);
            curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, methods[i]);
            curl_easy_setopt(curl, CURLOPT_REQUEST_TARGET, targets[j]);
            curl_easy_setopt(curl, CURLOPT_NOBODY, (long)(i == 1));
            curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 100L);       /* some answer for ever */
            curl_easy_setopt(curl, CURLOPT_HTTP_VERSION,
                             (long)(j % 2 ? CURL_HTTP_VERSION_1_0 : CURL_HTTP_VERSION_1_1));
            curl_easy_perform(curl);
            curl_easy_cleanup(curl);
            curl_slist_free_all(field);
            drop(&t);
        }
}

/* It is still there, and ends as it should. */
static void is_not_put_down(running r)
{
    ask_oddly(&r);
    assert_within(status_of(&r, "/", NULL), 200, 499);
    stop(&r);
}

/* One without the common flags, which makes itself a certificate. */
static void tool_is_not_put_down(const char *name, const char *first, const char *second)
{
    char path[256];
    const char *argv[] = { path, first, second, NULL };
    program_path(path, name);
    running r = await_start(child_start(argv), name);
    ask_oddly(&r);
    transfer t = { .anyone = true };
    fetch(&r, "/", &t);
    assert_within(t.status, 200, 499);
    drop(&t);
    stop(&r);
}

static bool is_built(const char *name)
{
    char path[256];
    program_path(path, name);
    return access(path, X_OK) == 0;
}

/* All but hello, whose port is fixed, and acme, which needs a CA: tests/acme. */
static void no_example_is_put_down(void **state)
{
    static const char *const names[] = {
        "api", "chat", "client_cert", "deferred", "echo", "embedded", "graceful", "redirect", "reload", "serve",
        "sni", "stream", "threads", "upgrade", "upload",
#ifndef HSB_USE_POLL                    /* it has no descriptor for a loop of one's own      */
        "own_loop", "libevent_loop", "libuv_loop",
#endif
    };
    (void)state;
    setenv("NOTES_LOGIN", "ann:secret", 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool folder = strcmp(names[i], "upload") == 0 || strcmp(names[i], "serve") == 0;
        if (is_built(names[i]) || strncmp(names[i], "lib", 3) != 0)    /* two need a library */
            is_not_put_down(START(names[i], CERT, folder ? top : NULL));
    }
}

static int files_in(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir)) != NULL;)
        count += d->d_name[0] != '.' || (d->d_name[1] && strcmp(d->d_name, "..") != 0);
    closedir(dir);
    return count;
}

/* Nothing of what was asked is a form, a file or an event. */
static void no_tool_is_put_down(void **state)
{
    char events[512], folder[512], forms[512];
    struct stat st;
    (void)state;
    make_folder("drop");
    make_folder("forms");
    path_in(events, "events");
    path_in(folder, "drop");
    path_in(forms, "forms");
    setenv("DASHBOARD_PASSWORD", "correct horse", 1);
    setenv("WEBHOOK_SECRET", "0123456789abcdef", 1);
    tool_is_not_put_down("dashboard", "-1", NULL);
    tool_is_not_put_down("webhook", events, "-1");
    assert_int_equal(stat(events, &st), 0);
    assert_int_equal(st.st_size, 0);
    tool_is_not_put_down("filedrop", folder, "-1");
    is_not_put_down(START("form", CERT, forms));
    assert_int_equal(files_in(forms), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(wrong_flags_end_with_2, make_top, remove_top),
        cmocka_unit_test(help_fits_a_screen),
        cmocka_unit_test_setup_teardown(serve_renews_on_sighup, make_top, remove_top),
        cmocka_unit_test_setup_teardown(reload_renews_on_sighup, make_top, remove_top),
        cmocka_unit_test(threads_share_the_work),
        cmocka_unit_test(redirect_leads_to_the_secure_port),
        cmocka_unit_test(client_cert_knows_ann),
        cmocka_unit_test(sni_chooses_by_name),
        cmocka_unit_test(stream_ends_with_the_server),
        cmocka_unit_test_setup_teardown(upload_writes_whole_files_only, make_top, remove_top),
        cmocka_unit_test_setup_teardown(no_example_is_put_down, make_top, remove_top),
        cmocka_unit_test_setup_teardown(no_tool_is_put_down, make_top, remove_top),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests_name("examples", tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
