/* What the examples have to live with: no standard descriptors, readers of their output that die
   or stop, clients that read nothing, members that talk too much, too much work. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "examples_help.h"
#include "examples_peer.h"

/* --- standard input, output and error ------------------------------------------------------ */

static void become(const char *const *words, int port)
{
    char path[256], number[16];
    const char *argv[32] = { path, "--address", "127.0.0.1", "--port", number };
    int count = 5;
    program_path(path, words[0]);
    snprintf(number, sizeof number, "%d", port);
    for (int i = 1; words[i] && count < 31; i++)
        argv[count++] = words[i];
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    execv(path, (char *const *)(size_t)argv);
    _exit(127);
}

/* out and err become its 1 and 2; -1: closed.  closed has a bit for each that is closed. */
static pid_t start_with(const char *const *words, int port, int out, int err, int closed)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    if (out >= 0)
        dup2(out, 1);
    if (err >= 0)
        dup2(err, 2);
    for (int fd = 0; fd < 64; fd++)
        if (fd > 2 || closed >> fd & 1)
            close(fd);
    become(words, port);
    return 0;
}

/* The status of an answer that comes within the time; 0: none. */
static long ask(int port, const char *path)
{
    char url[8192];
    long status = 0;
    transfer t = { 0 };
    snprintf(url, sizeof url, "https://localhost:%d%s", port, path);
    for (int i = 0; i < 100 && t.code != CURLE_OPERATION_TIMEDOUT; i++) {
        CURL *curl = prepare(&t, url);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 5000L);
        t.code = curl_easy_perform(curl);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_cleanup(curl);
        drop(&t);
        if (status)
            return status;
        sleep_us(50000);                /* it has not started yet                           */
    }
    return 0;
}

/* Its exit status, or 128 and the signal; 255: it did not end within ten seconds. */
static int ended(pid_t pid)
{
    int status = 0;
    int64_t until = clock_ms() + 10000;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_ms() > until) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return 255;
        }
        sleep_us(10000);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int end(pid_t pid)
{
    kill(pid, SIGTERM);
    return ended(pid);
}

static void standard_descriptors_may_be_closed(void **state)
{
    static const char *const names[] = { "serve", "graceful" };
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int closed = 1; closed < 8; closed++) {
            const char *words[] = { names[i], CERT, i == 0 ? top : NULL, NULL };
            int port = free_port(), null = open("/dev/null", O_WRONLY);
            pid_t pid = start_with(words, port, null, null, closed);
            close(null);
            if (i == 0)
                for (int times = 0; times < 3; times++)
                    assert_int_equal(ask(port, "/"), 200);
            else
                sleep_us(300000);
            for (int fd = 0; fd < 3; fd++) {
                char path[64], at[64] = "";
                snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
                if (closed >> fd & 1 && (readlink(path, at, sizeof at - 1) < 0 || strcmp(at, "/dev/null")))
                    fail_msg("%s with %d closed: %d is %s", names[i], closed, fd, at);
            }
            int code = end(pid);
            if (code != 0)
                fail_msg("%s with %d closed: %d", names[i], closed, code);
        }
}

/* serve | head -1 */
static void a_reader_of_the_log_may_go(void **state)
{
    const char *words[] = { "serve", CERT, top, NULL };
    int port = free_port(), pipes[2];
    char said[256];
    (void)state;
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = start_with(words, port, pipes[1], -1, 0);
    close(pipes[1]);
    assert_true(read(pipes[0], said, sizeof said) > 0);
    close(pipes[0]);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ask(port, "/"), 200);
    assert_int_equal(end(pid), 0);
}

static void fill(int fd)
{
    char block[4096];
    memset(block, '.', sizeof block);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, block, sizeof block) > 0)
        ;
    fcntl(fd, F_SETFL, 0);
}

/* Neither the server nor its end waits for it. */
static void a_reader_of_the_log_may_stop(void **state)
{
    const char *words[] = { "serve", CERT, top, NULL };
    int pipes[2];
    (void)state;
    for (int outputs = 1; outputs <= 3; outputs++) {            /* 1: output, 2: error, 3: both */
        int port = free_port();
        assert_int_equal(pipe(pipes), 0);
        fill(pipes[1]);
        pid_t pid = start_with(words, port, outputs & 1 ? pipes[1] : -1, outputs & 2 ? pipes[1] : -1, 0);
        for (int i = 0; i < 5; i++)
            assert_int_equal(ask(port, "/"), 200);
        assert_int_equal(end(pid), 0);
        close(pipes[0]);
        close(pipes[1]);
    }
}

/* A reader that stopped and goes on is told how much it has missed. */
static void lost_lines_are_counted(void **state)
{
    char path[4000];
    const char *words[] = { "serve", CERT, top, NULL };
    int port = free_port(), out[2], err[2];
    (void)state;
    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(err), 0);
    pid_t pid = start_with(words, port, out[1], err[1], 0);
    close(out[1]);
    close(err[1]);
    for (int i = 0; i < 320; i++)
        assert_int_equal(ask(port, path), 404);
    kill(pid, SIGTERM);
    bytebuf said = { NULL, 0, 0 };
    char part[65536];
    ssize_t n;
    while ((n = read(out[0], part, sizeof part)) > 0)
        ;
    close(out[0]);
    while ((n = read(err[0], part, sizeof part)) > 0)
        bytes_add(&said, part, (size_t)n);
    close(err[0]);
    assert_int_equal(ended(pid), 0);
    assert_non_null(strstr(said.data, " lines are lost"));
    bytes_free(&said);
}

/* --- listings -------------------------------------------------------------------------------- */

static long peak_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = atol(line + 6);
    if (f)
        fclose(f);
    return kib;
}

static void make_many(int from, int to)
{
    char name[64];
    for (int i = from; i < to; i++) {
        snprintf(name, sizeof name, "a-file-with-a-name-of-usual-length-%05d", i);
        make_file(name, "", 0);
    }
}

static peer ask_slowly(int port)
{
    int small = 4096;
    peer p = peer_open(port, true);
    setsockopt(p.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_true(peer_ask(&p, "/"));
    return p;
}

static void listings_that_nobody_reads_take_little(void **state)
{
    enum { COUNT = 25 };
    peer peers[COUNT];
    (void)state;
    make_many(0, 20000);
    running r = START("serve", CERT, top);
    assert_int_equal(status_of(&r, "/", NULL), 200);
    long before = peak_kib(r.process->pid);
    for (int i = 0; i < COUNT; i++)
        peers[i] = ask_slowly(r.port);
    assert_int_equal(status_of(&r, "/none", NULL), 404);
#ifndef __SANITIZE_ADDRESS__            /* it keeps for a while what was freed              */
    assert_within(peak_kib(r.process->pid) - before, 0, 4096 + COUNT * 100);
#else
    (void)before;
#endif
    for (int i = 0; i < COUNT; i++)
        peer_close(&peers[i], true);
    stop(&r);
}

/* All that the peer is sent, until it says that the connection ends. */
static bytebuf hear_all(peer *p)
{
    bytebuf all = { NULL, 0, 0 };
    char part[16384];
    int n;
    while ((n = peer_hear(p, part, sizeof part)) > 0)
        bytes_add(&all, part, (size_t)n);
    return all;
}

/* Files that come and go meanwhile: every row is there once at most, in order, and what was there
   all the time is there. */
static void a_listing_goes_on_while_the_folder_changes(void **state)
{
    char path[512], name[64], last[64] = "";
    int rows = 0;
    (void)state;
    make_many(0, 20000);
    running r = START("serve", CERT, top);
    peer p = peer_open(r.port, true);
    int small = 4096;
    setsockopt(p.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_true(peer_say(&p, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"));
    char part[1000];
    assert_true(peer_hear(&p, part, sizeof part) > 0);
    for (int i = 0; i < 20000; i += 3) {
        snprintf(name, sizeof name, "a-file-with-a-name-of-usual-length-%05d", i);
        path_in(path, name);
        unlink(path);
    }
    make_many(20000, 21000);
    assert_int_equal(status_of(&r, "/", NULL), 200);
    bytebuf all = hear_all(&p);
    for (const char *at = all.data; (at = strstr(at, "<bdi>a-file")) != NULL; at++) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 5, "<"), at + 5);
        if (strcmp(last, name) >= 0)
            fail_msg("%s comes after %s", name, last);
        memcpy(last, name, sizeof last);
        rows += atoi(name + 35) % 3 != 0;
    }
    assert_within(rows, 13300, 14000);          /* the first 1000 bytes were read before     */
    assert_non_null(strstr(all.data, "</footer>"));
    bytes_free(&all);
    peer_close(&p, false);
    stop(&r);
}

/* --- chat -------------------------------------------------------------------------------------- */

static peer join(const running *r)
{
    char head[1024];
    peer p = peer_open(r->port, true);
    assert_true(peer_say(&p, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                             "Sec-WebSocket-Protocol: chat.v1\r\n\r\n"));
    size_t len = 0;                     /* byte by byte: frames may follow at once           */
    while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0) {
        assert_true(len < sizeof head);
        assert_int_equal(peer_hear(&p, head + len, 1), 1);
        len++;
    }
    assert_memory_equal(head, "HTTP/1.1 101", 12);
    return p;
}

static void hear_exactly(peer *p, char *out, size_t len)
{
    for (size_t got = 0; got < len;) {
        int n = peer_hear(p, out + got, (int)(len - got));
        assert_true(n > 0);
        got += (size_t)n;
    }
}

/* A frame of the server's: its first byte, and its payload with a NUL behind. */
static int hear_frame(peer *p, char *out, size_t size)
{
    unsigned char head[2], more[2];
    hear_exactly(p, (char *)head, 2);
    size_t len = head[1];
    if (len == 126) {
        hear_exactly(p, (char *)more, 2);
        len = (size_t)more[0] << 8 | more[1];
    }
    assert_true(len < size && len < 65536);
    hear_exactly(p, out, len);
    out[len] = '\0';
    return head[0];
}

/* Masked with zeros.  type 0x81: a text, 0x8a: a pong. */
static void add_frame(bytebuf *b, int type, const char *text)
{
    size_t len = strlen(text);
    unsigned char head[8] = { (unsigned char)type, (unsigned char)(0x80 | (len < 126 ? len : 126)),
                              (unsigned char)(len >> 8), (unsigned char)len };
    bytes_add(b, head, len < 126 ? 2 : 4);
    bytes_add(b, "\0\0\0\0", 4);
    bytes_add(b, text, len);
}

static void *say_all(void *arg)
{
    void **both = arg;
    peer *p = both[0];
    bytebuf *b = both[1];
    must_be(SSL_write(p->ssl, b->data, (int)b->len) == (int)b->len, "SSL_write");
    return NULL;
}

/* One that reads, however late, hears all of it in order. */
static void a_burst_throws_nobody_out(void **state)
{
    enum { COUNT = 2000 };
    char text[600], wanted[600], out[1024];
    bytebuf burst = { NULL, 0, 0 };
    pthread_t thread;
    (void)state;
    running r = START("chat", CERT);
    peer loud = join(&r), quiet = join(&r);
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "loud\n%d %0*d", i, 500, 0);
        add_frame(&burst, 0x81, text);
    }
    void *both[2] = { &loud, &burst };
    assert_int_equal(pthread_create(&thread, NULL, say_all, both), 0);
    sleep_us(1000000);
    for (int i = 0; i < COUNT;) {
        int type = hear_frame(&quiet, out, sizeof out);
        snprintf(wanted, sizeof wanted, "loud\n%d %0*d", i, 500, 0);
        if (type == 0x81 && strncmp(out, "loud", 4) == 0) {
            assert_string_equal(out, wanted);
            i++;
        } else if (type != 0x81 || !strstr(out, " here") || strstr(out, "missed")) {
            fail_msg("message %d is %x \"%.60s\"", i, (unsigned)type, out);
        }
    }
    pthread_join(thread, NULL);
    peer_close(&quiet, true);
    peer_close(&loud, true);
    bytes_free(&burst);
    stop(&r);
}

static void one_that_answers_no_ping_goes(void **state)
{
    char out[1024];
    (void)state;
    running r = START("chat", CERT, "--ping", "1");
    peer gone = join(&r), living = join(&r);
    bytebuf pong = { NULL, 0, 0 };
    add_frame(&pong, 0x8a, "");
    bool alone = false;
    for (int pings = 0; pings < 4;) {
        int type = hear_frame(&living, out, sizeof out);
        assert_true(type == 0x89 || type == 0x81);
        alone = alone || strcmp(out, "1 here") == 0;
        if (type != 0x89)
            continue;
        assert_int_equal(SSL_write(living.ssl, pong.data, (int)pong.len), (int)pong.len);
        pings++;
    }
    while (!alone)
        alone = hear_frame(&living, out, sizeof out) == 0x81 && strcmp(out, "1 here") == 0;
    int type;
    while ((type = hear_frame(&gone, out, sizeof out)) != 0x88)
        assert_true(type == 0x89 || type == 0x81);
    assert_memory_equal(out, "\x03\xf0no answer", 11);          /* 1008                       */
    bytes_free(&pong);
    peer_close(&gone, true);
    peer_close(&living, true);
    stop(&r);
}

/* --- deferred ------------------------------------------------------------------------------------ */

static void a_queue_that_is_full_says_so(void **state)
{
    enum { COUNT = 90 };
    peer peers[COUNT];
    (void)state;
    running r = START("deferred", CERT, "--threads", "1");
    for (int i = 0; i < COUNT; i++) {
        peers[i] = peer_open(r.port, true);
        assert_true(peer_ask(&peers[i], "/primes"));
    }
    char head[1024];
    int n = peer_hear(&peers[COUNT - 1], head, sizeof head - 1);
    head[n > 0 ? n : 0] = '\0';
    assert_memory_equal(head, "HTTP/1.1 503", 12);
    assert_non_null(strstr(head, "Retry-After: "));
    assert_int_equal(status_of(&r, "/", NULL), 200);
    for (int i = 0; i < COUNT; i++)
        peer_close(&peers[i], true);
    stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(standard_descriptors_may_be_closed, make_top, remove_top),
        cmocka_unit_test_setup_teardown(a_reader_of_the_log_may_go, make_top, remove_top),
        cmocka_unit_test_setup_teardown(a_reader_of_the_log_may_stop, make_top, remove_top),
        cmocka_unit_test_setup_teardown(lost_lines_are_counted, make_top, remove_top),
        cmocka_unit_test_setup_teardown(listings_that_nobody_reads_take_little, make_top, remove_top),
        cmocka_unit_test_setup_teardown(a_listing_goes_on_while_the_folder_changes, make_top, remove_top),
        cmocka_unit_test(a_burst_throws_nobody_out),
        cmocka_unit_test(one_that_answers_no_ping_goes),
        cmocka_unit_test(a_queue_that_is_full_says_so),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests_name("examples_trouble", tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
