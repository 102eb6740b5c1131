/* Unix sockets: what is bound, replaced, refused and removed, and that what is served there is
   served as anywhere else. */
#define HTTPSBIND_IMPLEMENTATION
#define HSB_FAULT(call, count) fault(call, count)
static int fault(const char *call, void *count);
#include "httpsbind.h"
#include "client.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static const char *fail_call;
static int fail_code = ENOBUFS;

static int fault(const char *call, void *count)
{
    (void)count;
    return fail_call && strcmp(call, fail_call) == 0 ? fail_code : 0;
}

/* --- a folder of our own ----------------------------------------------------------------- */
static char folder[64];

/* Good until the next but one call.                                                              */
static const char *at(const char *name)
{
    static char paths[2][200];
    static int turn_of;
    char *path = paths[turn_of ^= 1];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static const char *host_at(const char *name)
{
    static char host[220];
    snprintf(host, sizeof host, "unix:%s", at(name));
    return host;
}

static bool exists(const char *name)
{
    struct stat st;
    return lstat(at(name), &st) == 0;
}

static int forget(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    fail_call = NULL;
    umask(022);
    snprintf(folder, sizeof folder, "/tmp/httpsbind-unix-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fail_call = NULL;
    return nftw(folder, forget, 8, FTW_DEPTH | FTW_PHYS);
}

/* --- servers and clients ----------------------------------------------------------------- */
static void answer_where(rig *r, hsb_request *req)
{
    char local[HSB_ADDRESS_TEXT_MAX], peer[HSB_ADDRESS_TEXT_MAX], text[300];
    hsb_conn *conn = hsb_request_conn(req);
    hsb_address a = hsb_conn_local(conn), from = hsb_conn_peer(conn);
    hsb_str host = hsb_request_host(req);
    (void)r;
    snprintf(text, sizeof text, "%s at %s from %s to %.*s", hsb_conn_tls(conn) ? "TLS" : "plain",
             hsb_address_text(&a, local), hsb_address_text(&from, peer), (int)host.len, host.ptr);
    hsb_respond(req, 200, NULL, hsb_text(text));
}

static bool try_open(rig *r, const char *host, const hsb_options *options, bool secure,
                     hsb_error *err)
{
    memset(r, 0, sizeof *r);
    r->on_request = answer_where;
    rig_prepare(r, options, secure);
    r->server = secure ? hsb_bind_secure(host, 8443, rig_security(), &r->options, err)
                       : hsb_bind(host, 8080, &r->options, err);
    return r->server != NULL;
}

static void open_at(rig *r, const char *name, bool secure)
{
    hsb_error err;
    if (!try_open(r, host_at(name), NULL, secure, &err))
        fail_msg("%s", err.text);
}

static void must_not_open(const char *host, const hsb_options *options, hsb_status status,
                          int code, const char *reason)
{
    rig r;
    hsb_error err;
    char expected[400];
    for (int secure = 0; secure < 2; secure++) {
        if (try_open(&r, host, options, secure, &err))
            fail_msg("%s: bound", host);
        snprintf(expected, sizeof expected, "bind %s: %s", host, reason);
        assert_string_equal(err.text, expected);
        assert_int_equal(err.status, status);
        assert_int_equal(err.system_code, code);
    }
}

static struct sockaddr_un named(const char *name)
{
    struct sockaddr_un un;
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    snprintf(un.sun_path, sizeof un.sun_path, "%s", at(name));
    return un;
}

static client *dial_at(rig *r, const char *name, bool secure)
{
    struct sockaddr_un un = named(name);
    client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->r = r;
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    clients_open++;
    if (connect(c->fd, (struct sockaddr *)&un, sizeof un) != 0)
        fail_msg("connect to %s: %s", un.sun_path, strerror(errno));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (secure && !client_handshake(c))
        fail_msg("TLS handshake refused");
    return c;
}

static void must_serve(rig *r, const char *name, bool secure)
{
    char expected[300];
    client *c = dial_at(r, name, secure);
    snprintf(expected, sizeof expected, "%s at unix:%s from unix: to localhost",
             secure ? "TLS" : "plain", at(name));
    for (int i = 0; i < 2; i++) {
        answer a = ask_path(c, "GET", "/", "");
        assert_answer(a, 200, expected);
    }
    hang_up(c);
}

static int stale_socket(const char *name, int type, bool keep)
{
    struct sockaddr_un un = named(name);
    int fd = socket(AF_UNIX, type, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    if (keep)
        return fd;
    close(fd);
    return -1;
}

/* --- binding ------------------------------------------------------------------------------ */
static void test_served(void **state)
{
    rig r;
    char expected[HSB_ADDRESS_TEXT_MAX], text[HSB_ADDRESS_TEXT_MAX];
    open_at(&r, "a.sock", is_secure(state));
    hsb_address a = hsb_server_address(r.server, 0);
    assert_int_equal(a.family, HSB_UNIX);
    assert_int_equal(a.port, 0);
    assert_string_equal(a.path, at("a.sock"));
    snprintf(expected, sizeof expected, "unix:%s", at("a.sock"));
    assert_string_equal(hsb_address_text(&a, text), expected);
    assert_int_equal(hsb_server_port(r.server), 0);
    must_serve(&r, "a.sock", is_secure(state));
    must_serve(&r, "a.sock", is_secure(state));
    rig_close(&r);
    assert_false(exists("a.sock"));
}

static void test_beside_ports(void **state)
{
    rig r = { .on_request = answer_where };
    hsb_error err;
    hsb_address a;
    (void)state;
    rig_open(&r, NULL, false);
    assert_int_equal(hsb_server_listen(r.server, host_at("plain.sock"), -1, NULL, &err), 1);
    assert_int_equal(hsb_server_listen(r.server, host_at("tls.sock"), 99999, rig_security(), &err), 2);
    memset(&a, 0, sizeof a);
    a.family = HSB_UNIX;
    a.port = 7;
    strcpy(a.path, at("at.sock"));
    assert_int_equal(hsb_server_listen_at(r.server, &a, NULL, &err), 3);
    assert_int_equal(hsb_server_address(r.server, 3).port, 0);
    must_serve(&r, "plain.sock", false);
    must_serve(&r, "tls.sock", true);
    must_serve(&r, "at.sock", false);
    client *c = dial(&r);
    answer got = ask_path(c, "GET", "/", "");
    assert_int_equal(got.status, 200);
    answer_free(&got);
    hang_up(c);
    rig_close(&r);
    assert_false(exists("plain.sock") || exists("tls.sock") || exists("at.sock"));
}

static void test_mode_is_of_umask(void **state)
{
    static const mode_t masks[] = { 0, 0007, 0077, 0117 };
    (void)state;
    for (int i = 0; i < 4; i++) {
        rig r;
        struct stat st;
        umask(masks[i]);
        open_at(&r, "a.sock", false);
        umask(022);
        assert_int_equal(stat(at("a.sock"), &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 0777, 0777 & ~masks[i]);
        rig_close(&r);
    }
}

static void test_relative_path(void **state)
{
    rig r;
    hsb_error err;
    int back = open(".", O_RDONLY | O_DIRECTORY);
    (void)state;
    rig_security();                             /* its files are relative, too                  */
    assert_int_equal(chdir(folder), 0);
    if (!try_open(&r, "unix:a.sock", NULL, false, &err))
        fail_msg("%s", err.text);
    assert_string_equal(hsb_server_address(r.server, 0).path, "a.sock");
    client *c = dial_at(&r, "a.sock", false);
    answer a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "plain at unix:a.sock from unix: to localhost");
    hang_up(c);
    rig_close(&r);
    assert_false(exists("a.sock"));
    if (!try_open(&r, "unix:a.sock", NULL, false, &err))
        fail_msg("%s", err.text);
    assert_int_equal(fchdir(back), 0);          /* now it cannot be found, and stays            */
    close(back);
    r.descriptors--;
    rig_close(&r);
    assert_true(exists("a.sock"));
}

/* A crashed server leaves its file behind.                                                       */
static void test_stale_is_replaced(void **state)
{
    rig r;
    (void)state;
    stale_socket("a.sock", SOCK_STREAM, false);
    assert_true(exists("a.sock"));
    open_at(&r, "a.sock", false);
    must_serve(&r, "a.sock", false);
    rig_close(&r);
    assert_false(exists("a.sock"));
}

static void test_living_is_an_error(void **state)
{
    rig r;
    struct stat before, after;
    (void)state;
    open_at(&r, "a.sock", false);
    assert_int_equal(stat(at("a.sock"), &before), 0);
    must_not_open(host_at("a.sock"), NULL, HSB_ERR_SYSTEM, EADDRINUSE, strerror(EADDRINUSE));
    assert_int_equal(stat(at("a.sock"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    turns(&r, 5);                               /* what knocked was no client                   */
    assert_int_equal(r.errors, 0);
    must_serve(&r, "a.sock", false);
    rig_close(&r);
}

#ifdef __linux__
/* One whose backlog is full does not say so with ECONNREFUSED.                                    */
static void test_living_and_busy(void **state)
{
    enum { MOST = 64 };
    int fds[MOST], count = 0, fd = stale_socket("a.sock", SOCK_STREAM, true);
    struct sockaddr_un un = named("a.sock");
    (void)state;
    assert_int_equal(listen(fd, 0), 0);
    for (bool full = false; !full && count < MOST; count++) {
        fds[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        full = connect(fds[count], (struct sockaddr *)&un, sizeof un) != 0;
    }
    assert_true(count < MOST);
    must_not_open(host_at("a.sock"), NULL, HSB_ERR_SYSTEM, EADDRINUSE, strerror(EADDRINUSE));
    assert_true(exists("a.sock"));
    while (count > 0)
        close(fds[--count]);
    close(fd);
}
#endif

static void test_a_datagram_socket_lives(void **state)
{
    int fd = stale_socket("a.sock", SOCK_DGRAM, true);
    (void)state;
    must_not_open(host_at("a.sock"), NULL, HSB_ERR_SYSTEM, EADDRINUSE, strerror(EADDRINUSE));
    assert_true(exists("a.sock"));
    close(fd);
}

static void test_other_files_stay(void **state)
{
    static const char reason[] = "the file is not a socket";
    FILE *f = fopen(at("file"), "w");
    (void)state;
    assert_non_null(f);
    fclose(f);
    must_not_open(host_at("file"), NULL, HSB_ERR_SYSTEM, EADDRINUSE, reason);
    assert_int_equal(mkdir(at("dir"), 0700), 0);
    must_not_open(host_at("dir"), NULL, HSB_ERR_SYSTEM, EADDRINUSE, reason);
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    must_not_open(host_at("fifo"), NULL, HSB_ERR_SYSTEM, EADDRINUSE, reason);
    stale_socket("stale", SOCK_STREAM, false);
    assert_int_equal(symlink("stale", at("link")), 0);
    must_not_open(host_at("link"), NULL, HSB_ERR_SYSTEM, EADDRINUSE, reason);
    assert_true(exists("file") && exists("dir") && exists("fifo") && exists("link") && exists("stale"));
}

static void test_refused_paths(void **state)
{
    char host[400], path[200];
    rig r;
    hsb_error err;
    hsb_address a;
    const size_t most = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    (void)state;
    must_not_open("unix:", NULL, HSB_ERR_MISUSE, 0, "no path");
    must_not_open("unix:@name", NULL, HSB_ERR_SYSTEM, EINVAL,
                  "abstract sockets are not supported, as everybody may connect to them");
    must_not_open(host_at("none/a.sock"), NULL, HSB_ERR_SYSTEM, ENOENT, strerror(ENOENT));
    for (size_t len = most - 1; len < most + 4; len++) {
        snprintf(path, sizeof path, "%s/", folder);
        size_t n = strlen(path);
        memset(path + n, 'x', len - n);
        path[len] = '\0';
        snprintf(host, sizeof host, "unix:%s", path);
        bool fits = len <= most;
        assert_int_equal(try_open(&r, host, NULL, false, &err), fits);
        if (fits) {
            assert_string_equal(hsb_server_address(r.server, 0).path, path);
            must_serve(&r, path + strlen(folder) + 1, false);
            rig_close(&r);
        } else {
            snprintf(host, sizeof host, "bind unix:%.50s...: a Unix socket's path has at most %zu bytes",
                     path, most);
            assert_string_equal(err.text, host);
            assert_int_equal(err.status, HSB_ERR_SYSTEM);
            assert_int_equal(err.system_code, ENAMETOOLONG);
        }
    }
    memset(&a, 0, sizeof a);
    a.family = HSB_UNIX;
    memset(a.path, 'x', sizeof a.path);
    assert_null(hsb_bind_secure_at(&a, rig_security(), NULL, &err));
    assert_int_equal(err.system_code, ENAMETOOLONG);
    a.path[most + 1] = '\0';
    assert_null(hsb_bind_secure_at(&a, rig_security(), NULL, &err));
    assert_int_equal(err.system_code, ENAMETOOLONG);
    a.path[0] = '\0';
    assert_null(hsb_bind_secure_at(&a, rig_security(), NULL, &err));
    assert_int_equal(err.status, HSB_ERR_MISUSE);
}

static void test_never_shared(void **state)
{
    hsb_options o;
    (void)state;
    memset(&o, 0, sizeof o);
    o.shared = true;
    must_not_open(host_at("a.sock"), &o, HSB_ERR_SHARED, 0, "a Unix socket cannot be shared");
    assert_false(exists("a.sock"));
}

static void test_failing_calls(void **state)
{
    static const char *const calls[] = { "socket", "bind", "listen" };
    (void)state;
    for (int i = 0; i < 3; i++) {
        fail_call = calls[i];
        must_not_open(host_at("a.sock"), NULL, HSB_ERR_SYSTEM, ENOBUFS, strerror(ENOBUFS));
        assert_false(exists("a.sock"));
    }
    stale_socket("a.sock", SOCK_STREAM, false);
    fail_call = "unlink";                       /* a folder where we may not remove it         */
    fail_code = EACCES;
    must_not_open(host_at("a.sock"), NULL, HSB_ERR_SYSTEM, EADDRINUSE, strerror(EADDRINUSE));
    fail_code = ENOBUFS;
    assert_true(exists("a.sock"));
}

/* --- the end of the file ------------------------------------------------------------------ */
static void test_removed_at_close(void **state)
{
    rig r;
    (void)state;
    open_at(&r, "a.sock", false);
    client *c = dial_at(&r, "a.sock", false);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n");
    turns(&r, 3);
    hsb_server_close(r.server, false);
    turns(&r, 3);
    assert_false(exists("a.sock"));             /* at once: another may bind it ...             */
    rig next;
    int before = open_descriptors();
    open_at(&next, "a.sock", false);
    next.descriptors = r.descriptors;
    r.descriptors += open_descriptors() - before;
    answer a = ask(c, "\r\n");                  /* ... while this one still answers             */
    assert_int_equal(a.status, 200);
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
    assert_true(exists("a.sock"));
    must_serve(&next, "a.sock", false);
    rig_close(&next);
    assert_false(exists("a.sock"));
}

/* What somebody else put there meanwhile is not ours.                                            */
static void test_only_ours_is_removed(void **state)
{
    rig r;
    (void)state;
    open_at(&r, "a.sock", false);
    assert_int_equal(unlink(at("a.sock")), 0);
    int other = stale_socket("a.sock", SOCK_STREAM, true);
    r.descriptors++;
    rig_close(&r);
    assert_true(exists("a.sock"));
    close(other);
    open_at(&r, "a.sock", false);
    assert_int_equal(rename(at("a.sock"), at("b.sock")), 0);
    FILE *f = fopen(at("a.sock"), "w");
    assert_non_null(f);
    fclose(f);
    rig_close(&r);
    assert_true(exists("a.sock") && exists("b.sock"));
    assert_int_equal(unlink(at("a.sock")), 0);
    open_at(&r, "a.sock", false);
    assert_int_equal(unlink(at("a.sock")), 0);
    rig_close(&r);
    assert_false(exists("a.sock"));
}

static void test_a_child_removes_nothing(void **state)
{
    rig r;
    int status = -1;
    (void)state;
    open_at(&r, "a.sock", false);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        hsb__listener_close(&r.server->doors[0]->listener);     /* what hsb_server_free does  */
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(exists("a.sock"));
    must_serve(&r, "a.sock", false);
    rig_close(&r);
    assert_false(exists("a.sock"));
}

/* --- descriptors -------------------------------------------------------------------------- */
static void test_descriptor(void **state)
{
    rig r = { .on_request = answer_where };
    hsb_error err;
    (void)state;
    rig_prepare(&r, NULL, true);
    int fd = stale_socket("a.sock", SOCK_STREAM, true), more = stale_socket("b.sock", SOCK_STREAM, true);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(listen(more, 5), 0);
    r.server = hsb_bind_secure_fd(fd, rig_security(), &r.options, &err);
    assert_non_null(r.server);
    assert_int_equal(hsb_server_listen_fd(r.server, more, NULL, &err), 1);
    assert_int_equal(hsb_server_address(r.server, 0).family, HSB_UNIX);
    assert_string_equal(hsb_server_address(r.server, 1).path, at("b.sock"));
    must_serve(&r, "a.sock", true);
    must_serve(&r, "b.sock", false);
    rig_close(&r);
    assert_true(exists("a.sock") && exists("b.sock"));      /* the service manager's                */
}

#ifdef __linux__
/* systemd's ListenStream=@name.                                                                  */
static void test_abstract_descriptor(void **state)
{
    rig r = { .on_request = answer_where };
    hsb_error err;
    struct sockaddr_un un;
    char text[HSB_ADDRESS_TEXT_MAX];
    (void)state;
    rig_prepare(&r, NULL, false);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    int n = snprintf(un.sun_path + 1, sizeof un.sun_path - 1, "httpsbind-test-%ld", (long)getpid());
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, len), 0);
    assert_int_equal(listen(fd, 5), 0);
    r.server = hsb_bind("127.0.0.1", 0, &r.options, &err);
    assert_int_equal(hsb_server_listen_fd(r.server, fd, NULL, &err), 1);
    hsb_address a = hsb_server_address(r.server, 1);
    assert_memory_equal(hsb_address_text(&a, text), "unix:@httpsbind-test-", 21);
    client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->r = &r;
    c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    clients_open++;
    assert_int_equal(connect(c->fd, (struct sockaddr *)&un, len), 0);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    answer got = ask_path(c, "GET", "/", "");
    assert_int_equal(got.status, 200);
    answer_free(&got);
    hang_up(c);
    rig_close(&r);
}
#endif

/* --- connections -------------------------------------------------------------------------- */
static void test_curl(void **state)
{
    rig r;
    long status = 0;
    open_at(&r, "a.sock", is_secure(state));
    r.port = 1;                                 /* which curl only writes into Host             */
    CURL *easy = curl_new(&r, "/");
    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, at("a.sock"));
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(easy, CURLOPT_IPRESOLVE, (long)CURL_IPRESOLVE_WHATEVER);
    assert_int_equal(curl_run(&r, easy), CURLE_OK);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    assert_int_equal(status, 200);
    curl_easy_cleanup(easy);
    rig_close(&r);
}

/* They have no address that could have too many.                                                 */
static void test_no_limit_per_address(void **state)
{
    enum { COUNT = 5 };
    rig r;
    hsb_options o;
    hsb_error err;
    client *c[COUNT];
    memset(&o, 0, sizeof o);
    o.limits.per_address = 1;
    assert_true(try_open(&r, host_at("a.sock"), &o, is_secure(state), &err));
    for (int i = 0; i < COUNT; i++) {
        c[i] = dial_at(&r, "a.sock", is_secure(state));
        answer a = ask_path(c[i], "GET", "/", "");
        assert_int_equal(a.status, 200);
        answer_free(&a);
    }
    for (int i = 0; i < COUNT; i++)
        hang_up(c[i]);
    rig_close(&r);
}

static void test_host_is_wanted_as_ever(void **state)
{
    rig r;
    (void)state;
    open_at(&r, "a.sock", false);
    client *c = dial_at(&r, "a.sock", false);
    answer a = ask(c, "GET / HTTP/1.1\r\n\r\n");
    assert_int_equal(a.status, 400);
    answer_free(&a);
    hang_up(c);
    rig_close(&r);
}

/* --- slow readers ------------------------------------------------------------------------- */
enum { BIG = 8 << 20 };
static char *big;

static void answer_big(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond(req, 200, NULL, (hsb_str){ big, BIG });
}

static bool one_closed(const rig *r)
{
    return r->closes == 1;
}

/* timeouts.write: the measure of what the peer has read must hold on Unix sockets, too.           */
static void test_stalled_reader_is_cut(void **state)
{
    rig r;
    hsb_options o;
    hsb_error err;
    memset(&o, 0, sizeof o);
    o.timeouts.write = 300;
    o.limits.rate = -1;
    assert_true(try_open(&r, host_at("a.sock"), &o, is_secure(state), &err));
    r.on_request = answer_big;
    client *c = dial_at(&r, "a.sock", is_secure(state));
    int64_t begin = clock_ms();
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(&r, one_closed, "the cut");
    assert_within(clock_ms() - begin, 250, 5000);
    assert_int_equal(r.closed_with.status, HSB_ERR_TIMEOUT);
    client_free(c);
    rig_close(&r);
}

/* One that reads a little all the time is not, though the whole takes much longer than the
   period.                                                                                        */
static void test_slow_reader_gets_all(void **state)
{
    rig r;
    hsb_options o;
    hsb_error err;
    int64_t got = 0;
    memset(&o, 0, sizeof o);
    o.timeouts.write = 400;
    o.limits.rate = -1;
    assert_true(try_open(&r, host_at("a.sock"), &o, is_secure(state), &err));
    r.on_request = answer_big;
    client *c = dial_at(&r, "a.sock", is_secure(state));
    int64_t begin = clock_ms();
    say(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    while (hear_more(c, "the answer")) {
        got += (int64_t)c->len;
        heard(c, c->len);
        int64_t until = begin + got * 2000 / BIG;       /* 4 MB a second, in steps            */
        while (clock_ms() < until)
            turn(&r, 5);
    }
    assert_true(got > BIG);
    assert_true(clock_ms() - begin >= 1900);
    assert_int_equal(r.closed_with.status, HSB_OK);
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
#define WITH(test) { #test, test, setup, teardown, NULL }
#define WITH_BOTH(test) { #test ", plain", test, setup, teardown, NULL }, \
                        { #test ", TLS", test, setup, teardown, "TLS" }
    const struct CMUnitTest tests[] = {
        WITH_BOTH(test_served), WITH(test_beside_ports), WITH(test_mode_is_of_umask),
        WITH(test_relative_path), WITH(test_stale_is_replaced), WITH(test_living_is_an_error),
        WITH(test_a_datagram_socket_lives), WITH(test_other_files_stay),
        WITH(test_refused_paths), WITH(test_never_shared), WITH(test_failing_calls),
        WITH(test_removed_at_close), WITH(test_only_ours_is_removed),
        WITH(test_a_child_removes_nothing), WITH(test_descriptor),
#ifdef __linux__
        WITH(test_living_and_busy), WITH(test_abstract_descriptor),
#endif
        WITH_BOTH(test_curl), WITH_BOTH(test_no_limit_per_address),
        WITH(test_host_is_wanted_as_ever), WITH_BOTH(test_stalled_reader_is_cut),
        WITH_BOTH(test_slow_reader_gets_all),
    };
    big = calloc(1, BIG);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
