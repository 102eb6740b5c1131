/* The poller, in whichever backend it was built with: run it also with -DHSB_USE_POLL and
   with -DHSB_USE_KQUEUE -Itests/compile/shim. */
#define HTTPSBIND_STATIC
#define HSB_FAULT(call, count) fault(call, count)
static int fault(const char *call, void *count);
#include "httpsbind.h"

#include "help.h"

#include <sys/time.h>

/* --- counts system calls, and fails the one that was named --------------------------- */
static const char *fault_call;
static int fault_code;
static int watch_calls, alloc_calls;
static int interruptions;       /* faults to come; 0: all                                     */

static int fault(const char *call, void *count)
{
    (void)count;
    watch_calls += strcmp(call, "watch") == 0;
    alloc_calls += strcmp(call, "alloc") == 0;
    if (!fault_call || strcmp(call, fault_call) != 0)
        return 0;
    if (interruptions > 0 && --interruptions == 0)
        fault_call = NULL;                  /* this one, and no more                       */
    return fault_code;
}

/* --- watches that keep a record ------------------------------------------------------ */
typedef struct probe {
    hsb__watch watch;
    int peer;
    int calls;                      /* since probe_wait began                             */
    unsigned events;                /*   and what they told                               */
    void (*then)(struct probe *);
} probe;

static hsb__memory memory;
static hsb__poller poller;

static void probe_ready(hsb__watch *w, unsigned events)
{
    probe *p = w->owner;
    p->calls++;
    p->events |= events;
    if (p->then)
        p->then(p);
}

static void probe_init(probe *p, int fd, int peer)
{
    memset(p, 0, sizeof *p);
    p->watch.fd = fd;
    p->watch.ready = probe_ready;
    p->watch.owner = p;
    p->peer = peer;
}

static void probe_open(probe *p)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_true(hsb__os_prepare(fds[0]));
    probe_init(p, fds[0], fds[1]);
}

/* Both ends of a TCP connection: what FIN and RST look like is a matter of TCP.          */
static void probe_open_tcp(probe *p)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int door = socket(AF_INET, SOCK_STREAM, 0), peer = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(door, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(door, 1), 0);
    assert_int_equal(getsockname(door, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(connect(peer, (struct sockaddr *)&a, sizeof a), 0);
    int fd = accept(door, NULL, NULL);
    assert_true(fd >= 0);
    assert_true(hsb__os_prepare(fd));
    close(door);
    probe_init(p, fd, peer);
}

static void probe_close(probe *p)
{
    hsb__poller_drop(&poller, &p->watch);
    hsb__os_close(p->watch.fd);
    hsb__os_close(p->peer);
}

static void probe_say(const probe *p)
{
    assert_int_equal(write(p->peer, "x", 1), 1);
}

static void probe_hear(const probe *p)
{
    char sink[64];
    assert_true(read(p->watch.fd, sink, sizeof sink) > 0);
}

/* What a loop does, less what it does in between.                                        */
static int turn(int timeout_ms)
{
    hsb__poller_collect(&poller, timeout_ms);
    return hsb__poller_dispatch(&poller);
}

/* What p was told in one turn; kqueue tells READ and WRITE one after the other.          */
static unsigned probe_wait(probe *p, int timeout_ms)
{
    p->calls = 0;
    p->events = 0;
    turn(timeout_ms);
    return p->events;
}

static int setup(void **state)
{
    (void)state;
    fault_call = NULL;
    return hsb__poller_open(&poller, &memory, NULL) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    hsb__poller_close(&poller);
    return memory.used == 0 ? 0 : -1;
}

/* --- what is told -------------------------------------------------------------------- */
static void test_read_is_level_triggered(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    assert_int_equal(probe_wait(&p, 0), 0);
    probe_say(&p);
    assert_int_equal(probe_wait(&p, 1000), HSB__READ);
    assert_int_equal(probe_wait(&p, 1000), HSB__READ);
    assert_int_equal(p.calls, 1);
    probe_hear(&p);
    assert_int_equal(probe_wait(&p, 0), 0);
    probe_close(&p);
}

static void test_wants_change(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
    probe_say(&p);
    assert_true(hsb__poller_add(&poller, &p.watch, 0));
    assert_int_equal(probe_wait(&p, 0), 0);
    static const unsigned wants[] = { 1, 3, 2, 0, 2, 3, 1, 0, 3, 0, 1, 2, 1 };
    for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
        assert_true(hsb__poller_set(&poller, &p.watch, wants[i]));
        assert_int_equal(probe_wait(&p, 0), wants[i]);
        assert_int_equal(probe_wait(&p, 0), wants[i]);
    }
    probe_close(&p);
}

static void test_same_want_costs_no_call(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
    watch_calls = 0;
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    assert_true(hsb__poller_set(&poller, &p.watch, HSB__READ));
    assert_int_equal(watch_calls, 1);
    assert_true(hsb__poller_set(&poller, &p.watch, 0));
    assert_true(hsb__poller_set(&poller, &p.watch, 0));
    assert_int_equal(watch_calls, 2);
    probe_close(&p);
}

static void test_fin_is_read_and_not_broken(void **state)
{
    probe p;
    (void)state;
    probe_open_tcp(&p);
    assert_true(hsb__poller_add(&poller, &p.watch, 0));
    assert_int_equal(shutdown(p.peer, SHUT_WR), 0);
    assert_int_equal(probe_wait(&p, 20), 0);
    assert_int_equal(probe_wait(&p, 0), 0);
    assert_true(hsb__poller_set(&poller, &p.watch, HSB__READ));
    assert_int_equal(probe_wait(&p, 1000), HSB__READ);
    probe_close(&p);
}

static void reset_peer(probe *p)
{
    struct linger now = { 1, 0 };
    assert_int_equal(setsockopt(p->peer, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(p->peer);
    p->peer = -1;
}

static void test_reset_is_broken_whatever_is_wanted(void **state)
{
    (void)state;
    for (unsigned want = 0; want <= (HSB__READ | HSB__WRITE); want++) {
        probe p;
        probe_open_tcp(&p);
        assert_true(hsb__poller_add(&poller, &p.watch, want));
        probe_wait(&p, 0);
        reset_peer(&p);
        assert_true(probe_wait(&p, 1000) & HSB__BROKEN);
        probe_close(&p);
    }
}

/* A request waits for its answer; the next one, pipelined, waits unread: no busy loop.   */
static void test_unread_bytes_do_not_hide_a_reset(void **state)
{
    probe p;
    (void)state;
    probe_open_tcp(&p);
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    probe_say(&p);
    assert_int_equal(probe_wait(&p, 1000), HSB__READ);
    assert_true(hsb__poller_set(&poller, &p.watch, 0));
    assert_int_equal(probe_wait(&p, 20), 0);
    uint64_t began = hsb__os_now_us();
    assert_int_equal(probe_wait(&p, 20), 0);
    assert_true(hsb__os_now_us() - began >= 19000);
    reset_peer(&p);
    assert_true(probe_wait(&p, 1000) & HSB__BROKEN);
    probe_close(&p);
}

/* --- while dispatching --------------------------------------------------------------- */
enum { CROWD = 200 };
static probe *crowd[CROWD];

static void crowd_open(void)
{
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = malloc(sizeof *crowd[i]);
        assert_non_null(crowd[i]);
        probe_open(crowd[i]);
        assert_true(hsb__poller_add(&poller, &crowd[i]->watch, HSB__READ));
        probe_say(crowd[i]);
    }
}

static int crowd_drop(int i)
{
    if (!crowd[i])
        return 0;
    probe_close(crowd[i]);
    memset(crowd[i], 0xA5, sizeof *crowd[i]);   /* without a sanitizer, too, it would crash */
    free(crowd[i]);
    crowd[i] = NULL;
    return 1;
}

static unsigned dice = 1;
static unsigned roll(unsigned sides)
{
    dice = dice * 1664525u + 1013904223u;
    return (dice >> 16) % sides;
}

/* Frees itself now and then, and others: those that come later in the batch, those that
   were there already, those that wait for the next one.                                  */
static int dropped;
static void then_drop_some(probe *p)
{
    for (unsigned n = roll(4); n > 0; n--)
        dropped += crowd_drop((int)roll(CROWD));
    for (int i = 0; i < CROWD; i++)
        if (crowd[i] == p && roll(2))
            dropped += crowd_drop(i);
}

static void test_drop_and_free_while_dispatching(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        crowd_open();
        for (int i = 0; i < CROWD; i++)
            crowd[i]->then = then_drop_some;
        for (dropped = 0; dropped < CROWD;)
            assert_true(turn(1000) > 0);
        assert_int_equal(turn(0), 0);
    }
}

static void then_silence_all(probe *p)
{
    for (int i = 0; i < CROWD; i++)
        if (crowd[i] != p)
            assert_true(hsb__poller_set(&poller, &crowd[i]->watch, 0));
}

static void test_what_is_no_longer_wanted_is_not_told(void **state)
{
    (void)state;
    crowd_open();
    for (int i = 0; i < CROWD; i++)
        crowd[i]->then = then_silence_all;
    assert_int_equal(turn(1000), 1);
    for (int i = 0; i < CROWD; i++)
        crowd_drop(i);
}

/* The same memory and likely the same descriptor's number, but another socket: nothing
   waits on it.                                                                           */
static void then_replace_others(probe *p)
{
    for (int i = 0; i < CROWD; i++) {
        probe *o = crowd[i];
        if (o == p)
            continue;
        int fd = o->watch.fd, peer = o->peer;
        hsb__poller_drop(&poller, &o->watch);
        close(fd);
        close(peer);
        probe_open(o);
        assert_true(hsb__poller_add(&poller, &o->watch, HSB__READ));
    }
}

static void test_replaced_watch_hears_nothing_old(void **state)
{
    (void)state;
    crowd_open();
    for (int i = 0; i < CROWD; i++)
        crowd[i]->then = then_replace_others;
    assert_int_equal(turn(1000), 1);
    for (int i = 0; i < CROWD; i++)
        crowd_drop(i);
}

static void test_everybody_gets_a_turn(void **state)
{
    int rounds = 0, served = 0;
    (void)state;
    crowd_open();
    for (; served < CROWD && rounds < CROWD; rounds++) {
        turn(1000);
        served = 0;
        for (int i = 0; i < CROWD; i++)
            served += crowd[i]->calls > 0;
    }
    assert_int_equal(served, CROWD);
    assert_true(rounds <= CROWD / HSB__POLLER_BATCH + 2);
    for (int i = 0; i < CROWD; i++)
        crowd_drop(i);
}

static void test_drop_between_collect_and_dispatch(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    probe_say(&p);
    hsb__poller_collect(&poller, 1000);
    probe_close(&p);
    p.watch.armed = HSB__READ | HSB__WATCHED;       /* the memory is already another one's     */
    assert_int_equal(hsb__poller_dispatch(&poller), 0);
}

/* --- against a model: random wants, random traffic ----------------------------------- */
static void model_step(probe *p, unsigned *want, int *unread)
{
    switch (roll(5)) {
    case 0:
        if (p->watch.armed)
            hsb__poller_drop(&poller, &p->watch);
        break;
    case 1:
    case 2:
        *want = roll(4);
        assert_true(p->watch.armed ? hsb__poller_set(&poller, &p->watch, *want)
                                   : hsb__poller_add(&poller, &p->watch, *want));
        break;
    case 3:
        probe_say(p);
        ++*unread;
        break;
    default:
        if (*unread)
            probe_hear(p);
        *unread = 0;
    }
}

static void test_against_a_model(void **state)
{
    enum { MANY = 40 };
    probe p[MANY];
    unsigned want[MANY] = { 0 };
    int unread[MANY] = { 0 };
    (void)state;
    for (int i = 0; i < MANY; i++)
        probe_open(&p[i]);
    for (int round = 0; round < 2000; round++) {
        for (int n = 0; n < 5; n++) {
            int i = (int)roll(MANY);
            model_step(&p[i], &want[i], &unread[i]);
        }
        for (int i = 0; i < MANY; i++)
            p[i].events = 0;
        turn(0);       /* MANY watches, two filters each, may take two */
        turn(0);
        for (int i = 0; i < MANY; i++) {
            unsigned ready = HSB__WRITE | (unread[i] ? HSB__READ : 0u);
            assert_int_equal(p[i].events, p[i].watch.armed ? want[i] & ready : 0);
        }
    }
    for (int i = 0; i < MANY; i++)
        probe_close(&p[i]);
}

/* --- waiting ------------------------------------------------------------------------- */
static void test_timeouts(void **state)
{
    uint64_t began = hsb__os_now_us();
    (void)state;
    assert_int_equal(turn(0), 0);
    assert_int_equal(turn(30), 0);
    uint64_t took = hsb__os_now_us() - began;
    assert_true(took >= 29000 && took < 5000000);
}

static void on_alarm(int number)
{
    (void)number;
}

static void test_a_signal_ends_the_wait(void **state)
{
    struct sigaction act;
    struct itimerval soon = { { 0, 5000 }, { 0, 20000 } }, never = { { 0, 0 }, { 0, 0 } };
    (void)state;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_alarm;
    assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    assert_int_equal(turn(-1), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    fault_call = "poll";
    fault_code = EINTR;
    assert_int_equal(turn(-1), 0);
}

/* But what is ready then is told: the wait is followed by a look.                        */
static void test_an_interrupted_wait_tells_what_is_ready(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
    probe_say(&p);
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    fault_call = "poll";
    fault_code = EINTR;
    interruptions = 1;
    assert_int_equal(probe_wait(&p, -1), HSB__READ);
    assert_int_equal(interruptions, 0);
    fault_call = NULL;
    probe_close(&p);
}

static void test_a_full_batch_may_not_be_all(void **state)
{
    (void)state;
    crowd_open();
    assert_false(hsb__poller_collect(&poller, 1000));
    hsb__poller_dispatch(&poller);
    for (int i = 0; i < CROWD; i++)
        crowd_drop(i);
    assert_true(hsb__poller_collect(&poller, 0));
    hsb__poller_dispatch(&poller);
    fault_call = "poll";
    fault_code = EBADF;
    assert_false(hsb__poller_collect(&poller, 0));
    fault_call = NULL;
}

static void test_waiting_allocates_nothing(void **state)
{
    (void)state;
    crowd_open();
    alloc_calls = 0;
    for (int i = 0; i < 5; i++)
        turn(1000);
    assert_int_equal(alloc_calls, 0);
    for (int i = 0; i < CROWD; i++)
        crowd_drop(i);
}

static void test_descriptor_for_other_loops(void **state)
{
    probe p;
    (void)state;
#ifdef HSB__POLL
    assert_int_equal(hsb__poller_fd(&poller), -1);
    (void)p;
#else
    struct pollfd all = { hsb__poller_fd(&poller), POLLIN, 0 };
    probe_open(&p);
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    assert_int_equal(poll(&all, 1, 0), 0);
    probe_say(&p);
    assert_int_equal(poll(&all, 1, 1000), 1);
    assert_true(fcntl(all.fd, F_GETFD) & FD_CLOEXEC);
    probe_close(&p);
#endif
}

/* --- dropping, failing --------------------------------------------------------------- */
static void test_drop_of_what_was_never_added(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
    hsb__poller_drop(&poller, &p.watch);
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    hsb__poller_drop(&poller, &p.watch);
    hsb__poller_drop(&poller, &p.watch);
    probe_close(&p);
}

/* A duplicate (another sharer's) keeps the socket open, and epoll would go on telling.   */
static void test_dropped_duplicate_is_silent(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
    int twin = dup(p.watch.fd);
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    hsb__poller_drop(&poller, &p.watch);
    close(p.watch.fd);
    probe_say(&p);
    assert_int_equal(probe_wait(&p, 10), 0);
    p.watch.fd = twin;
    probe_close(&p);
}

static void test_failed_calls_change_nothing(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
    fault_call = "watch";
    fault_code = ENOMEM;
    assert_false(hsb__poller_add(&poller, &p.watch, HSB__READ));
    assert_int_equal(errno, ENOMEM);
    hsb__poller_drop(&poller, &p.watch);
    fault_call = NULL;
    probe_say(&p);
    assert_int_equal(probe_wait(&p, 0), 0);
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__READ));
    fault_call = "watch";
    assert_false(hsb__poller_set(&poller, &p.watch, 0));
    assert_int_equal(probe_wait(&p, 1000), HSB__READ);
    fault_call = NULL;
    probe_close(&p);
}

/* What the system refuses, or in the poll backend the allocator; the poller is unharmed. */
static void test_add_may_fail(void **state)
{
    probe p;
    (void)state;
    probe_open(&p);
#ifdef HSB__POLL
    fault_call = "alloc";
    fault_code = ENOMEM;
    assert_false(hsb__poller_add(&poller, &p.watch, HSB__READ));
    assert_int_equal(errno, ENOMEM);
    fault_call = NULL;
#else
    hsb__watch closed = p.watch;
    closed.fd = dup(p.peer);
    close(closed.fd);
    assert_false(hsb__poller_add(&poller, &closed, HSB__READ));
    assert_int_equal(errno, EBADF);
#endif
    assert_true(hsb__poller_add(&poller, &p.watch, HSB__WRITE));
    assert_int_equal(probe_wait(&p, 1000), HSB__WRITE);
    probe_close(&p);
}

static void test_open_may_fail(void **state)
{
    hsb__poller other;
    hsb_error err;
    (void)state;
    fault_call = "poller";
    fault_code = EMFILE;
    assert_false(hsb__poller_open(&other, &memory, &err));
    assert_int_equal(err.status, HSB_ERR_SYSTEM);
    assert_int_equal(err.system_code, EMFILE);
    assert_non_null(strstr(err.text, "Too many open files"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_read_is_level_triggered),
        TEST(test_wants_change),
        TEST(test_same_want_costs_no_call),
        TEST(test_fin_is_read_and_not_broken),
        TEST(test_reset_is_broken_whatever_is_wanted),
        TEST(test_unread_bytes_do_not_hide_a_reset),
        TEST(test_drop_and_free_while_dispatching),
        TEST(test_what_is_no_longer_wanted_is_not_told),
        TEST(test_replaced_watch_hears_nothing_old),
        TEST(test_everybody_gets_a_turn),
        TEST(test_drop_between_collect_and_dispatch),
        TEST(test_against_a_model),
        TEST(test_timeouts),
        TEST(test_a_signal_ends_the_wait),
        TEST(test_an_interrupted_wait_tells_what_is_ready),
        TEST(test_a_full_batch_may_not_be_all),
        TEST(test_waiting_allocates_nothing),
        TEST(test_descriptor_for_other_loops),
        TEST(test_drop_of_what_was_never_added),
        TEST(test_dropped_duplicate_is_silent),
        TEST(test_failed_calls_change_nothing),
        TEST(test_add_may_fail),
        TEST(test_open_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
