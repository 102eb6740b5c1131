/* >>platform: the calls that the rest relies on without looking. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"
#include <sys/wait.h>
#include <stdlib.h>

static char root[] = "build/platform-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void link_to(const char *target, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(symlink(target, path), 0);
}

static int make_tree(void **state)
{
    char path[256];
    (void)state;
    mkdir("build", 0777);
    if (!mkdtemp(root))
        return -1;
    snprintf(path, sizeof path, "%s/in", root);
    mkdir(path, 0777);
    write_file("in/a.txt", "a");
    write_file("outside.txt", "secret");
    link_to("a.txt", "in/stays");
    link_to("../outside.txt", "in/leaves");
    link_to("/etc/passwd", "in/absolute");
    link_to("nowhere", "in/dangling");
    link_to("loop", "in/loop");
    return 0;
}

static int remove_tree(void **state)
{
    (void)state;
    return remove_folder(root);
}

static int open_in(const char *relative)
{
    char dir[256];
    snprintf(dir, sizeof dir, "%s/in", root);
    return hsb__os_open_below(dir, relative);
}

static void opens_what_is_below(void **state)
{
    static const char *const good[] = { "a.txt", "stays", "./a.txt", "", "." };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int fd = open_in(good[i]);
        assert_true(fd >= 0);
        hsb__os_close(fd);
    }
}

static void opens_nothing_else(void **state)
{
    static const char *const bad[] = {
        "leaves", "absolute", "dangling", "loop", "../outside.txt", "..", "../in2/../outside.txt",
        "a.txt/x", "missing"
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(open_in(bad[i]), -1);
}

/* "/rootx" begins with "/root" and is another folder. */
static void a_name_that_begins_alike_is_another(void **state)
{
    char sibling[256];
    (void)state;
    snprintf(sibling, sizeof sibling, "%s/in-too", root);
    assert_int_equal(mkdir(sibling, 0777), 0);
    write_file("in-too/b.txt", "b");
    assert_int_equal(open_in("../in-too/b.txt"), -1);
}

static void a_long_name_is_an_error(void **state)
{
    char name[PATH_MAX + 10];
    (void)state;
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(open_in(name), -1);
    assert_int_equal(errno, ENAMETOOLONG);
}

static void a_ring_is_seen_until_hushed(void **state)
{
    hsb__wake w;
    (void)state;
    assert_true(hsb__wake_open(&w));
    struct pollfd p = { .fd = w.read_fd, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 0), 0);
    for (int i = 0; i < 1000; i++)
        hsb__wake_ring(&w);
    assert_int_equal(poll(&p, 1, 0), 1);
    hsb__wake_hush(&w);
    assert_int_equal(poll(&p, 1, 0), 0);
    hsb__wake_close(&w);
    assert_int_equal(w.read_fd, -1);
}

static void time_does_not_go_back(void **state)
{
    uint64_t last = hsb__os_now_us();
    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t now = hsb__os_now_us();
        assert_true(now >= last && now > 0);
        last = now;
    }
}

static void entropy_differs(void **state)
{
    unsigned char a[32] = { 0 }, b[32] = { 0 };
    (void)state;
    assert_true(hsb__os_entropy(a, sizeof a) && hsb__os_entropy(b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
}

/* The kernel wants search permission of the folders on the way, and no more; so do we.  Root
   may read everything: then somebody else has to try.                                     */
static void folders_on_the_way_need_search_permission_only(void **state)
{
    char path[256];
    (void)state;
    snprintf(path, sizeof path, "%s/in/sub", root);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/in/sub/deeper", root);
    assert_int_equal(mkdir(path, 0777), 0);
    write_file("in/sub/deeper/b.txt", "b");
    write_file("in/sub/hidden", "h");
    link_to("sub/deeper/b.txt", "in/to-b");
    static const struct { const char *name; unsigned mode; } modes[] = {
        { "", 0711 }, { "in", 0711 }, { "in/sub", 0711 }, { "in/sub/deeper", 0711 },
        { "in/sub/deeper/b.txt", 0644 }, { "in/sub/hidden", 0 },
    };
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        snprintf(path, sizeof path, "%s/%s", root, modes[i].name);
        assert_int_equal(chmod(path, (mode_t)modes[i].mode), 0);
    }
    bool was_root = geteuid() == 0;
    if (was_root)
        assert_int_equal(seteuid(65534), 0);
    static const char *const names[] = { "sub/deeper/b.txt", "to-b", "a.txt" };
    char byte;
    int opened[3], folder = open_in("sub/deeper"), hidden = open_in("sub/hidden"), code = errno;
    for (int i = 0; i < 3; i++)
        opened[i] = open_in(names[i]);
    if (was_root)
        assert_int_equal(seteuid(0), 0);
    hsb__facts facts;
    for (int i = 0; i < 3; i++) {
        assert_true(opened[i] >= 0);
        assert_int_equal(hsb__os_pread(opened[i], &byte, 1, 0), 1);
        assert_int_equal(byte, i < 2 ? 'b' : 'a');
        close(opened[i]);
    }
    assert_true(hsb__os_facts(folder, &facts) && facts.kind == HSB__FILE_FOLDER);
    assert_true(fcntl(folder, F_GETFD) & FD_CLOEXEC);
    close(folder);
    assert_int_equal(hidden, -1);
    assert_int_equal(code, EACCES);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        snprintf(path, sizeof path, "%s/%s", root, modes[i].name);
        chmod(path, 0777);
    }
}

/* A writer that waits for a reader of the FIFO would be let go, and get SIGPIPE.          */
static void only_regular_files_are_opened(void **state)
{
    char fifo[256], path[256];
    (void)state;
    snprintf(fifo, sizeof fifo, "%s/in/fifo", root);
    assert_int_equal(mkfifo(fifo, 0666), 0);
    link_to("fifo", "in/to-fifo");
    fflush(NULL);
    pid_t writer = fork();
    assert_true(writer >= 0);
    if (writer == 0) {
        int fd = open(fifo, O_WRONLY);          /* waits for a reader                      */
        _exit(fd >= 0 ? 1 : 2);
    }
    poll(NULL, 0, 50);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(open_in("fifo"), -1);
        assert_int_equal(open_in("to-fifo"), -1);
        assert_int_equal(hsb__os_open_file(fifo), -1);
        assert_int_equal(hsb__os_error(), HSB__OS_PIPE);
    }
    poll(NULL, 0, 50);
    assert_int_equal(waitpid(writer, NULL, WNOHANG), 0);        /* and waits still         */
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    assert_int_equal(hsb__os_open_file("/dev/zero"), -1);
    assert_int_equal(hsb__os_open_file(root), -1);
    assert_int_equal(hsb__os_error(), EISDIR);
    snprintf(path, sizeof path, "%s/in/stays", root);           /* a link to a file is one */
    int fd = hsb__os_open_file(path);
    assert_true(fd >= 0);
    close(fd);
}

/* --- facts about files ----------------------------------------------------------------- */
static hsb__facts facts_of(const char *name)
{
    char path[256];
    hsb__facts facts;
    snprintf(path, sizeof path, "%s/%s", root, name);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_true(hsb__os_facts(fd, &facts));
    close(fd);
    return facts;
}

static void facts_tell_what_a_file_is(void **state)
{
    struct timespec times[2] = { { 86400, 1 }, { 86400, 999999999 } };
    char path[256];
    (void)state;
    int64_t now = hsb__os_wall();
    write_file("facts", "12345");
    write_file("other", "12345");
    snprintf(path, sizeof path, "%s/facts", root);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    hsb__facts facts = facts_of("facts"), other = facts_of("other");
    assert_int_equal(facts.kind, HSB__FILE_REGULAR);
    assert_int_equal(facts.size, 5);
    assert_int_equal(facts.modified, 86400);
    assert_int_equal(facts.modified_ns, 999999999);
    assert_true(facts.changed >= now && facts.changed <= hsb__os_wall());
    assert_true(facts.changed_ns < 1000000000);
    assert_true(facts.device == other.device && facts.inode != other.inode);
    assert_int_equal(facts_of("in").kind, HSB__FILE_FOLDER);
    int null = open("/dev/null", O_RDONLY);
    assert_true(hsb__os_facts(null, &facts));
    assert_int_equal(facts.kind, HSB__FILE_OTHER);
    close(null);
    assert_false(hsb__os_facts(null, &facts));
}

/* --- sockets ----------------------------------------------------------------------------- */
typedef struct pair { hsb__socket listening, client, server; hsb_address address; } pair;

static void pair_open(pair *p)
{
    struct sockaddr_storage ss;
    hsb_address any, peer;
    memset(&any, 0, sizeof any);
    any.family = HSB_IPV4;
    assert_true(hsb__os_ip_parse(HSB_IPV4, "127.0.0.1", any.bytes));
    p->listening = hsb__os_socket(HSB_IPV4, false);
    assert_true(p->listening != HSB__NO_SOCKET);
    assert_false(hsb__os_listens(p->listening));
    assert_true(hsb__os_bind(p->listening, &any) && hsb__os_listen(p->listening, 0));
    assert_true(hsb__os_listens(p->listening));
    assert_true(hsb__os_local_address(p->listening, &p->address) && p->address.port != 0);
    assert_false(hsb__os_is_readable(p->listening));
    p->client = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t len = hsb__os_to_sockaddr(&p->address, &ss);
    assert_int_equal(connect(p->client, (struct sockaddr *)&ss, len), 0);
    assert_true(hsb__os_is_readable(p->listening));
    p->server = hsb__os_accept(p->listening, &peer);
    assert_true(p->server != HSB__NO_SOCKET);
    assert_true(hsb__os_local_address(p->client, &any));
    assert_int_equal(peer.port, any.port);
}

static void pair_close(pair *p)
{
    hsb__os_close(p->listening);
    hsb__os_close(p->client);
    hsb__os_close(p->server);
}

static void a_peek_leaves_the_byte(void **state)
{
    pair p;
    char byte = 0;
    (void)state;
    pair_open(&p);
    assert_false(hsb__os_peek(p.server));
    assert_int_equal(hsb__os_send(p.client, "x", 1), 1);
    assert_int_equal(poll(&(struct pollfd){ p.server, POLLIN, 0 }, 1, 5000), 1);
    assert_true(hsb__os_peek(p.server) && hsb__os_peek(p.server));
    assert_int_equal(hsb__os_recv(p.server, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_false(hsb__os_peek(p.server));
    pair_close(&p);
}

static void an_end_of_sending_is_no_end_of_reading(void **state)
{
    pair p;
    char byte;
    (void)state;
    pair_open(&p);
    hsb__os_end_sending(p.server);
    assert_int_equal(recv(p.client, &byte, 1, 0), 0);
    assert_int_equal(send(p.client, "y", 1, 0), 1);
    assert_int_equal(poll(&(struct pollfd){ p.server, POLLIN, 0 }, 1, 5000), 1);
    assert_int_equal(hsb__os_recv(p.server, &byte, 1), 1);
    pair_close(&p);
}

static void a_reset_is_told_once(void **state)
{
    pair p;
    (void)state;
    pair_open(&p);
    assert_int_equal(hsb__os_socket_error(p.client), 0);
    hsb__os_close_will_reset(p.server);
    hsb__os_close(p.server);
    p.server = HSB__NO_SOCKET;
    assert_int_equal(poll(&(struct pollfd){ p.client, POLLIN, 0 }, 1, 5000), 1);
    assert_int_equal(hsb__os_socket_error(p.client), HSB__OS_RESET);
    assert_int_equal(hsb__os_socket_error(p.client), 0);
    pair_close(&p);
}

/* What the peer's system has taken is acknowledged, what waits behind its window is not. */
static void what_the_peer_has_not_taken_is_counted(void **state)
{
    static char bytes[65536];
    pair p;
    ptrdiff_t n;
    int64_t sent = 0, left;
    (void)state;
    pair_open(&p);
    assert_int_equal(hsb__os_unsent(p.server), 0);
    while ((n = hsb__os_send(p.server, bytes, sizeof bytes)) > 0)
        sent += n;
    assert_true(hsb__os_would_block());
    left = hsb__os_unsent(p.server);
    assert_true(left > 0 && left < sent && left <= HSB__NOTSENT + 2 * (int64_t)sizeof bytes);
    while (sent > 0 && (n = recv(p.client, bytes, sizeof bytes, 0)) > 0)
        sent -= n;
    for (int i = 0; i < 100 && hsb__os_unsent(p.server) > 0; i++)
        poll(NULL, 0, 10);
    assert_int_equal(hsb__os_unsent(p.server), 0);
    pair_close(&p);
    assert_int_equal(hsb__os_unsent(p.server), -1);
}

static void closing_keeps_the_error(void **state)
{
    (void)state;
    hsb__os_set_error(HSB__OS_INVALID);
    hsb__os_close(12345);                       /* which is not open                       */
    assert_int_equal(hsb__os_error(), HSB__OS_INVALID);
    hsb__os_close(HSB__NO_SOCKET);
    assert_string_equal(hsb__os_error_text(HSB__OS_NO_MEMORY), strerror(ENOMEM));
}

static void the_limit_of_descriptors_is_told(void **state)
{
    struct rlimit old, low;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = 100;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(hsb__os_descriptor_limit(), 100);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_is_below),
        cmocka_unit_test(opens_nothing_else),
        cmocka_unit_test(a_name_that_begins_alike_is_another),
        cmocka_unit_test(a_long_name_is_an_error),
        cmocka_unit_test(a_ring_is_seen_until_hushed),
        cmocka_unit_test(time_does_not_go_back),
        cmocka_unit_test(entropy_differs),
        cmocka_unit_test(folders_on_the_way_need_search_permission_only),
        cmocka_unit_test(only_regular_files_are_opened),
        cmocka_unit_test(facts_tell_what_a_file_is),
        cmocka_unit_test(a_peek_leaves_the_byte),
        cmocka_unit_test(an_end_of_sending_is_no_end_of_reading),
        cmocka_unit_test(a_reset_is_told_once),
        cmocka_unit_test(what_the_peer_has_not_taken_is_counted),
        cmocka_unit_test(closing_keeps_the_error),
        cmocka_unit_test(the_limit_of_descriptors_is_told),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
