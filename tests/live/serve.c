/* hsb_serve: what it prints, its signals, certificates that are renewed, sockets of systemd, the
   port that redirects, threads, and what it says when it cannot start.  Each test starts this
   program again, with words that say what to call. */
#ifndef NDEBUG
#  define NDEBUG                        /* a second call in a hook is misuse, and returns 1   */
#endif
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "examples_help.h"

#define WAITING "finishing what is open; once more stops at once\n"
#define KEPT "keeping the old certificate: "

static const char *program;

/* --- the program ---------------------------------------------------------------------------- */

static void drip(hsb_request *req, void *arg)
{
    int *left = arg;
    if (hsb_response_write(req, hsb_text("drop\n")) == HSB_FLOW_GONE)
        return;
    if (--*left > 0)
        hsb_request_after(req, 100, drip, left);
    else
        hsb_response_end(req);
}

/* /drip/N: N drops, ten a second. */
static void begin_drip(hsb_request *req, int drops)
{
    static int left[64], next;
    int *mine = &left[counter_add(&next, 1) % 64];
    *mine = drops;
    hsb_response_begin(req, 200, -1);
    drip(req, mine);
}

static void answer(hsb_request *req, void *user)
{
    hsb_str path = hsb_request_path(req);
    hsb_server *server = hsb_conn_server(hsb_request_conn(req));
    char text[32];
    if (hsb_equal(path, "/short")) {
        begin_drip(req, 8);
    } else if (hsb_equal(path, "/long")) {
        begin_drip(req, 200);
    } else if (hsb_equal(path, "/close")) {
        hsb_server_close(server, false);
        hsb_respond(req, 200, NULL, hsb_text("closing\n"));
    } else if (hsb_equal(path, "/again")) {
        snprintf(text, sizeof text, "%d\n", hsb_serve(user));
        hsb_respond(req, 200, NULL, hsb_text(text));
    } else if (!hsb_equal(path, "/unanswered")) {
        hsb_respond(req, 200, NULL, hsb_text("hello\n"));
    }
}

static void ready(hsb_server *server, hsb_security *security, void *user)
{
    char text[HSB_ADDRESS_TEXT_MAX];
    (void)user;
    for (int i = 0; hsb_server_address(server, i).family; i++) {
        hsb_address a = hsb_server_address(server, i);
        printf("ready %s\n", hsb_address_text(&a, text));
    }
    printf("%s, %s\n", hsb_security_sha256(security) ? "secure" : "plain",
           getenv("LISTEN_FDS") ? "passed on" : "not passed on");
    fflush(stdout);
}

/* Sockets 3, 4 ..., as systemd leaves them. */
static void pass(int count, const int *ports)
{
    char number[16];
    for (int i = 0; i < count; i++) {
        struct sockaddr_in at;
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        memset(&at, 0, sizeof at);
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        at.sin_port = htons((uint16_t)ports[i]);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 16) != 0 || fd != 3 + i)
            _exit(99);
    }
    snprintf(number, sizeof number, "%ld", (long)getpid());
    setenv("LISTEN_PID", number, 1);
    snprintf(number, sizeof number, "%d", count);
    setenv("LISTEN_FDS", number, 1);
}

/* Both outputs are a pipe that takes nothing more, as its reader does not read (0) or has gone (1);
   or one that has room, but no reader (2). */
static void spoil(int how)
{
    char block[4096];
    int fds[2];
    memset(block, '.', sizeof block);
    if (pipe(fds) != 0)
        _exit(99);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    while (how < 2 && write(fds[1], block, sizeof block) > 0)
        ;
    fcntl(fds[1], F_SETFL, 0);
    dup2(fds[1], 1);
    dup2(fds[1], 2);
    if (how)
        close(fds[0]);
}

static void close_some(int which)
{
    for (int fd = 0; fd < 3; fd++)
        if (which >> fd & 1)
            close(fd);
}

/* None of the three is a socket of ours, or what the poller and signals need. */
static void look_at_standard(hsb_server *server, hsb_security *security, void *user)
{
    (void)server, (void)security, (void)user;
    for (int fd = 0; fd < 3; fd++) {
        struct stat st;
        if (fstat(fd, &st) != 0 || !(S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode)))
            _exit(97);
    }
}

static bool word(const char *argument, const char *name, const char **value)
{
    size_t len = strlen(name);
    *value = argument + len;
    return strncmp(argument, name, len) == 0;
}

static int serve(int count, char **words)
{
    hsb_serve_desc desc = { .port = -1, .options.hooks.on_request = answer };
    const char *v;
    int times = 1, passed[2], passes = 0, status = 0;
    desc.options.hooks.user = &desc;
    for (int i = 0; i < count; i++) {
        if (word(words[i], "host=", &v)) desc.host = v;
        if (word(words[i], "port=", &v)) desc.port = atoi(v);
        if (word(words[i], "redirect=", &v)) desc.redirect_port = atoi(v);
        if (word(words[i], "threads=", &v)) desc.threads = atoi(v);
        if (word(words[i], "cert=", &v)) desc.security.identity.chain = hsb_pem_file(v);
        if (word(words[i], "key=", &v)) desc.security.identity.key = hsb_pem_file(v);
        if (word(words[i], "times=", &v)) times = atoi(v);
        if (word(words[i], "close=", &v)) close_some(atoi(v)), desc.on_ready = look_at_standard;
        if (word(words[i], "pass=", &v)) passed[passes++] = atoi(v);
        if (word(words[i], "spoil=", &v)) spoil(atoi(v));
        if (word(words[i], "ready", &v)) desc.on_ready = ready;
        if (word(words[i], "none", &v)) return hsb_serve(NULL);
    }
    if (passes)
        pass(passes, passed);
    for (int i = 0; i < times; i++)
        status |= hsb_serve(&desc);
    struct sigaction action;
    sigaction(SIGINT, NULL, &action);
    return action.sa_handler == SIG_DFL ? status : 98;
}

/* --- starting it ------------------------------------------------------------------------------ */

#define BEGIN(...) begin((const char *[]){ program, "serve", __VA_ARGS__, NULL })

static running begin(const char *const *words)
{
    running r = { child_start(words), 0 };
    if (!child_says(&r.process->out, "listening on https://", 1))
        fail_msg("it did not start: %s", r.process->err.text);
    const char *colon = strstr(r.process->out.text, "listening"), *comma = strchr(colon, ',');
    for (const char *at = colon; *at && (!comma || at < comma); at++)
        if (*at == ':')
            colon = at;
    r.port = atoi(colon + 1);
    return r;
}

/* It does not start: the status and the one line on standard error. */
#define REFUSED(said, ...) refused((const char *[]){ program, "serve", __VA_ARGS__, NULL }, said)

static void refused(const char *const *words, const char *said)
{
    child *c = child_start(words);
    int code = child_end(c);
    const char *newline = strchr(c->err.text, '\n');
    if (code != 1 || c->out.len != 0 || !newline || newline[1] || !strstr(c->err.text, said))
        fail_msg("%d, \"%s\", \"%s\"", code, c->out.text, c->err.text);
    child_free(c);
}

static void get(const char *scheme, const char *host, int port, const char *path, transfer *t)
{
    char url[256];
    snprintf(url, sizeof url, "%s://%s:%d%s", scheme, host, port, path);
    t->anyone = true;
    perform(t, url);
}

static long status_at(const char *host, int port, const char *path)
{
    transfer t = { 0 };
    get("https", host, port, path, &t);
    drop(&t);
    return t.code == CURLE_OK ? t.status : -(long)t.code;
}

/* What it has said from first to last, when it has ended well. */
static void ended(running *r, const char *out, const char *err)
{
    int code = child_end(r->process);
    if (code != 0)
        fail_msg("ended with %d: %s", code, r->process->err.text);
    if (out)
        assert_string_equal(r->process->out.text, out);
    if (err)
        assert_string_equal(r->process->err.text, err);
    child_free(r->process);
}

/* --- one line, and the end ---------------------------------------------------------------------- */

static void one_line_when_it_is_ready(void **state)
{
    char line[64];
    transfer t = { 0 };
    (void)state;
    running r = BEGIN("port=-1");
    assert_int_equal(status_at("127.0.0.1", r.port, "/"), 200);
    get("https", "[::1]", r.port, "/", &t);         /* where there is IPv6                    */
    assert_true(t.code == CURLE_OK || t.code == CURLE_COULDNT_CONNECT);
    drop(&t);
    snprintf(line, sizeof line, "listening on https://localhost:%d\n", r.port);
    kill(r.process->pid, SIGTERM);
    ended(&r, line, "");
    r = BEGIN("host=127.0.0.1");
    snprintf(line, sizeof line, "listening on https://127.0.0.1:%d\n", r.port);
    kill(r.process->pid, SIGINT);
    ended(&r, line, "");
}

static void interrupt(void *arg)
{
    const running *r = arg;
    kill(r->process->pid, SIGINT);
    for (int i = 0; i < 500 && status_at("127.0.0.1", r->port, "/") != -CURLE_COULDNT_CONNECT; i++)
        sleep_us(10000);
}

static void interrupt_twice(void *arg)
{
    interrupt(arg);
    kill(((const running *)arg)->process->pid, SIGTERM);
}

/* The first signal closes the port and leaves the answer whole, on whatever thread it is. */
static void the_first_signal_lets_answers_finish(void **state)
{
    static const char *const threads[] = { "threads=0", "threads=3" };
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int times = 0; times < 4; times++) {
            running r = BEGIN(threads[i], "redirect=-1");
            transfer t = { .at_first_byte = interrupt, .arg = &r };
            get("https", "127.0.0.1", r.port, "/short", &t);
            assert_int_equal(t.code, CURLE_OK);
            assert_int_equal(t.got.len, 8 * 5);
            drop(&t);
            ended(&r, NULL, WAITING);
        }
}

static void the_second_signal_cuts_them(void **state)
{
    static const char *const threads[] = { "threads=1", "threads=3" };
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int times = 0; times < 4; times++) {
            int64_t begun = clock_ms();
            running r = BEGIN(threads[i]);
            transfer t = { .at_first_byte = interrupt_twice, .arg = &r };
            get("https", "127.0.0.1", r.port, "/long", &t);
            assert_int_not_equal(t.code, CURLE_OK);
            drop(&t);
            ended(&r, NULL, WAITING);
            assert_within(clock_ms() - begun, 0, 15000);
        }
}

/* A hook that closes its server ends the program, whatever other servers it has. */
static void a_hook_may_end_it(void **state)
{
    (void)state;
    for (int times = 0; times < 4; times++) {
        running r = BEGIN("threads=3", "redirect=-1");
        assert_int_equal(status_at("127.0.0.1", r.port, "/close"), 200);
        ended(&r, NULL, "");
    }
}

/* The signals are the program's again, and may be taken a second time. */
static void it_may_be_called_again(void **state)
{
    (void)state;
    running r = BEGIN("times=2");
    kill(r.process->pid, SIGINT);
    assert_true(child_says(&r.process->out, "listening on https://", 2));
    kill(r.process->pid, SIGINT);
    ended(&r, NULL, "");
}

static void but_not_from_a_hook(void **state)
{
    transfer t = { 0 };
    (void)state;
    running r = BEGIN("threads=1");
    get("https", "127.0.0.1", r.port, "/again", &t);
    assert_string_equal(t.got.data, "1\n");
    drop(&t);
    kill(r.process->pid, SIGINT);
    ended(&r, NULL, "hsb_serve: another call has not returned\n");
}

/* --- errors ------------------------------------------------------------------------------------------ */

static void what_keeps_it_from_starting(void **state)
{
    char port[32], redirect[32], said[64];
    (void)state;
    running r = BEGIN("host=127.0.0.1");
    snprintf(port, sizeof port, "port=%d", r.port);
    snprintf(redirect, sizeof redirect, "redirect=%d", r.port);
    snprintf(said, sizeof said, "bind 127.0.0.1:%d: Address already in use\n", r.port);
    REFUSED(said, "host=127.0.0.1", port);
    REFUSED(said, port);
    REFUSED(said, port, "threads=3");
    REFUSED(said, redirect);
    REFUSED("bind 192.0.2.1 ", "host=192.0.2.1");
    REFUSED("no-such-file", "cert=no-such-file", "key=" DATA "server-p256.key");
    REFUSED("server-p384.key", "cert=" DATA "server-p256.pem", "key=" DATA "server-p384.key");
    REFUSED("threads: 65 is not within 1 and 64", "threads=65");
    REFUSED("threads: -1 is not within 1 and 64", "threads=-1");
    REFUSED("hsb_serve: desc is NULL", "none");
    kill(r.process->pid, SIGTERM);
    ended(&r, NULL, "");
}

static void errors_are_printed_if_nobody_asks_for_them(void **state)
{
    (void)state;
    running r = BEGIN("threads=1");
    assert_int_equal(status_at("127.0.0.1", r.port, "/unanswered?a=1"), 500);
    assert_true(child_says(&r.process->err, "/unanswered?a=1", 1));
    kill(r.process->pid, SIGTERM);
    ended(&r, NULL, NULL);
}

/* --- certificates that are renewed ------------------------------------------------------------------ */

static void copy(const char *from, const char *name)
{
    bytebuf b = bytes_of_file(from);
    make_file(name, b.data, b.len);
    free(b.data);
}

/* Whether every one of many connections shows the certificate for www.example.org. */
static bool shows_www(const running *r)
{
    char url[64], to[64];
    bool all = true;
    snprintf(url, sizeof url, "https://www.example.org:%d/", r->port);
    snprintf(to, sizeof to, "::localhost:%d", r->port);
    for (int i = 0; i < 16; i++) {
        transfer t = { .connect_to = to };
        perform(&t, url);
        all = all && t.code == CURLE_OK;
        drop(&t);
    }
    return all;
}

static void hangup_reads_the_files_again(void **state)
{
    static const char *const threads[] = { "threads=1", "threads=3" };
    char cert[600], key[600], path[512];
    (void)state;
    path_in(path, "cert.pem");
    snprintf(cert, sizeof cert, "cert=%s", path);
    path_in(path, "cert.key");
    snprintf(key, sizeof key, "key=%s", path);
    for (int i = 0; i < 2; i++) {
        copy(DATA "server-p256.pem", "cert.pem");
        copy(DATA "server-p256.key", "cert.key");
        running r = BEGIN(threads[i], cert, key);
        make_file("cert.key", "", 0);
        kill(r.process->pid, SIGHUP);
        assert_true(child_says(&r.process->err, KEPT, 1));
        assert_true(child_says(&r.process->err, "cert.key: empty", 1));
        assert_false(shows_www(&r));
        assert_int_equal(status_at("127.0.0.1", r.port, "/"), 200);
        copy(DATA "server-www.pem", "cert.pem");
        copy(DATA "server-www.key", "cert.key");
        kill(r.process->pid, SIGHUP);
        assert_true(child_says(&r.process->err, "new certificate, SHA-256 ", 1));
        sleep_us(200000);               /* the other threads take it in a turn of theirs       */
        assert_true(shows_www(&r));
        kill(r.process->pid, SIGTERM);
        ended(&r, NULL, NULL);
    }
}

/* Without files there is nothing to read: a terminal that closes ends the program. */
static void hangup_ends_it_without_files(void **state)
{
    (void)state;
    running r = BEGIN("threads=1");
    kill(r.process->pid, SIGHUP);
    assert_int_equal(child_end(r.process), 128 + SIGHUP);
    child_free(r.process);
}

/* --- sockets from systemd ------------------------------------------------------------------------------ */

static void sockets_of_systemd_are_used(void **state)
{
    static const char *const threads[] = { "threads=1", "threads=3" };
    char one[32], two[32], redirect[32], line[128];
    (void)state;
    for (int i = 0; i < 2; i++) {
        int first = free_port(), second = free_port();
        snprintf(one, sizeof one, "pass=%d", first);
        snprintf(two, sizeof two, "pass=%d", second);
        running r = BEGIN(threads[i], one, two, "ready");
        assert_int_equal(r.port, first);
        for (int times = 0; times < 8; times++)
            assert_int_equal(status_at("127.0.0.1", times % 2 ? first : second, "/"), 200);
        snprintf(line, sizeof line, "ready 127.0.0.1:%d\nready 127.0.0.1:%d\nsecure, not passed on\n",
                 first, second);
        assert_true(child_says(&r.process->out, line, i ? 3 : 1));
        kill(r.process->pid, SIGTERM);
        ended(&r, NULL, NULL);

        snprintf(redirect, sizeof redirect, "redirect=%d", first);
        r = BEGIN(threads[i], one, two, redirect);
        assert_int_equal(r.port, second);
        transfer t = { 0 };
        get("http", "127.0.0.1", first, "/a", &t);
        assert_int_equal(t.status, 308);
        drop(&t);
        kill(r.process->pid, SIGTERM);
        ended(&r, NULL, NULL);
    }
    REFUSED("all sockets that were passed", one, redirect);
}

/* --- a Unix socket -------------------------------------------------------------------------------------- */

static void a_unix_socket_will_do(void **state)
{
    static const char *const threads[] = { "threads=1", "threads=3" };
    char host[600], path[512], line[600];
    struct stat st;
    (void)state;
    path_in(path, "s");
    snprintf(host, sizeof host, "host=unix:%s", path);
    snprintf(line, sizeof line, "listening on unix:%s\n", path);
    for (int i = 0; i < 2; i++) {
        running r = { child_start((const char *[]){ program, "serve", host, threads[i], NULL }), 0 };
        assert_true(child_says(&r.process->out, line, 1));
        for (int times = 0; times < 8; times++) {
            transfer t = { .anyone = true };
            CURL *curl = prepare(&t, "https://localhost/");
            curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, path);
            assert_int_equal(curl_easy_perform(curl), CURLE_OK);
            assert_string_equal(t.got.data, "hello\n");
            curl_easy_cleanup(curl);
            drop(&t);
        }
        kill(r.process->pid, SIGTERM);
        ended(&r, line, NULL);
        assert_int_not_equal(stat(path, &st), 0);
    }
    REFUSED("redirect_port: a Unix socket has no port", host, "redirect=-1");
}

/* --- the port that redirects ---------------------------------------------------------------------------- */

static void check_redirect(int plain, const char *field, const char *target, const char *location)
{
    char line[512], url[64];
    transfer t = { .field = field };
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", plain);
    CURL *curl = prepare(&t, url);
    struct curl_slist *fields = curl_slist_append(NULL, field);
    curl_easy_setopt(curl, CURLOPT_REQUEST_TARGET, target);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &t.status);
    snprintf(line, sizeof line, "Location: %s\r\n", location ? location : "");
    if (t.status != (location ? 308 : 400) || (location && !has_field(&t, line)))
        fail_msg("%s %s: %s", field, target, t.head.data);
    curl_slist_free_all(fields);
    curl_easy_cleanup(curl);
    drop(&t);
}

static void a_port_redirects(void **state)
{
    char line[128], to[128];
    (void)state;
    running r = BEGIN("redirect=-1");
    const char *at = strstr(r.process->out.text, "to which port ");
    assert_non_null(at);
    int plain = atoi(at + strlen("to which port "));
    snprintf(line, sizeof line, "listening on https://localhost:%d, to which port %d redirects\n",
             r.port, plain);
    assert_string_equal(r.process->out.text, line);
#define TO(host_and_path) (snprintf(to, sizeof to, host_and_path, r.port), to)
    check_redirect(plain, "Host: example.org", "/a?b=c&d", TO("https://example.org:%d/a?b=c&d"));
    check_redirect(plain, "Host: example.org:8080", "/?", TO("https://example.org:%d/?"));
    check_redirect(plain, "Host: [::1]:80", "/%0d%0aX:%20y", TO("https://[::1]:%d/%%0d%%0aX:%%20y"));
    check_redirect(plain, "Host: a", "http://b_1.test/x", TO("https://b_1.test:%d/x"));
    check_redirect(plain, "Host: a", "//evil.test/", TO("https://a:%d//evil.test/"));
    check_redirect(plain, "Host: a$b", "/", NULL);
    check_redirect(plain, "Host: a%41", "/", NULL);
    check_redirect(plain, "Host;", "/", NULL);
    check_redirect(plain, "Host: a", "*", NULL);
    kill(r.process->pid, SIGTERM);
    ended(&r, NULL, "");
}

/* --- standard descriptors ---------------------------------------------------------------------------- */

static void wait_for(int port)
{
    for (int i = 0; i < 200 && status_at("127.0.0.1", port, "/") != 200; i++)
        sleep_us(20000);
    assert_int_equal(status_at("127.0.0.1", port, "/unanswered"), 500);
    assert_int_equal(status_at("127.0.0.1", port, "/"), 200);
}

static void they_may_be_closed_or_stuck(void **state)
{
    static const char *const troubles[] = {
        "close=1", "close=2", "close=3", "close=4", "close=5", "close=6", "close=7", "spoil=0", "spoil=1",
        "spoil=2"
    };
    char port[32];
    (void)state;
    for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++) {
        int number = free_port();
        snprintf(port, sizeof port, "port=%d", number);
        child *c = child_start((const char *[]){ program, "serve", port, troubles[i], NULL });
        wait_for(number);
        kill(c->pid, SIGTERM);
        if (child_end(c) != 0)
            fail_msg("%s: %s", troubles[i], c->err.text);
        child_free(c);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_when_it_is_ready),
        cmocka_unit_test(the_first_signal_lets_answers_finish),
        cmocka_unit_test(the_second_signal_cuts_them),
        cmocka_unit_test(a_hook_may_end_it),
        cmocka_unit_test(it_may_be_called_again),
        cmocka_unit_test(but_not_from_a_hook),
        cmocka_unit_test(what_keeps_it_from_starting),
        cmocka_unit_test(errors_are_printed_if_nobody_asks_for_them),
        cmocka_unit_test_setup_teardown(hangup_reads_the_files_again, make_top, remove_top),
        cmocka_unit_test(hangup_ends_it_without_files),
        cmocka_unit_test(sockets_of_systemd_are_used),
        cmocka_unit_test_setup_teardown(a_unix_socket_will_do, make_top, remove_top),
        cmocka_unit_test(a_port_redirects),
        cmocka_unit_test(they_may_be_closed_or_stuck),
    };
    program = argv[0];
    if (argc > 1 && strcmp(argv[1], "serve") == 0)
        return serve(argc - 2, argv + 2);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
