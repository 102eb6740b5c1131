/* >>inbox: a ticket is used once, whoever dies first. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"

static hsb__inbox *new_inbox(void)
{
    static const hsb_allocator standard;
    hsb_error err;
    hsb__inbox *in = hsb__inbox_new(&standard, &err);
    assert_non_null(in);
    return in;
}

static void never(hsb_request *req, void *arg)
{
    (void)req;
    (void)arg;
    fail();
}

static void request_call(void *owner, hsb__resume fn, void *arg)
{
    (void)owner;
    (void)fn;
    (void)arg;
    fail();
}

static void stream_call(void *owner, hsb__resume fn, void *arg)
{
    request_call(owner, fn, arg);
}

static bool use(hsb__inbox *in, uint64_t id, void *arg)
{
    hsb__resume fn = { .request = never };
    return hsb__inbox_settle(in, id, request_call, fn, false, arg);
}

static void a_ticket_is_used_once(void **state)
{
    hsb__inbox *in = new_inbox();
    hsb__promise p;
    uint32_t list = 0;
    int owner, arg;
    (void)state;
    uint64_t id = hsb__inbox_promise(in, &owner, request_call, &list);
    assert_true(id != 0 && list != 0);
    assert_false(hsb__inbox_take(in, &p));
    assert_true(use(in, id, &arg));
    assert_false(use(in, id, &arg));
    assert_true(hsb__inbox_take(in, &p));
    assert_ptr_equal(p.owner, &owner);
    assert_ptr_equal(p.arg, &arg);
    assert_int_equal(p.state, HSB__PROMISE_RESUMED);
    assert_int_equal(list, 0);
    assert_false(hsb__inbox_take(in, &p));
    assert_false(use(in, id, &arg));
    hsb__inbox_release(in);
}

static void an_old_ticket_does_not_fit_a_new_promise(void **state)
{
    hsb__inbox *in = new_inbox();
    hsb__promise p;
    uint32_t list = 0;
    int owner;
    (void)state;
    uint64_t first = hsb__inbox_promise(in, &owner, request_call, &list);
    assert_true(use(in, first, NULL) && hsb__inbox_take(in, &p));
    uint64_t second = hsb__inbox_promise(in, &owner, request_call, &list);
    assert_int_equal((uint32_t)first, (uint32_t)second);        /* the same slot */
    assert_false(use(in, first, NULL));
    assert_true(use(in, second, NULL) && hsb__inbox_take(in, &p));
    hsb__inbox_release(in);
}

static void a_request_ticket_is_no_stream_ticket(void **state)
{
    hsb__inbox *in = new_inbox();
    hsb__promise p;
    uint32_t list = 0;
    int owner;
    (void)state;
    uint64_t id = hsb__inbox_promise(in, &owner, stream_call, &list);
    assert_false(use(in, id, NULL));
    hsb__resume fn = { .request = never };
    assert_true(hsb__inbox_settle(in, id, stream_call, fn, true, NULL) && hsb__inbox_take(in, &p));
    assert_int_equal(p.state, HSB__PROMISE_DROPPED);
    hsb__inbox_release(in);
}

static void an_owner_that_ends_is_not_found(void **state)
{
    hsb__inbox *in = new_inbox();
    hsb__promise p;
    uint32_t mine = 0, other = 0;
    uint64_t ids[40];
    int owner, somebody;
    (void)state;
    for (int i = 0; i < 40; i++)
        ids[i] = i % 2 ? hsb__inbox_promise(in, &owner, request_call, &mine)
                       : hsb__inbox_promise(in, &somebody, request_call, &other);
    assert_true(use(in, ids[1], NULL));
    hsb__inbox_orphan(in, &mine);
    assert_int_equal(mine, 0);
    for (int i = 0; i < 40; i++)
        if (i != 1)
            assert_true(use(in, ids[i], NULL));
    for (int i = 0; i < 40; i++) {
        assert_true(hsb__inbox_take(in, &p));
        assert_true(p.owner == NULL || p.owner == &somebody);
    }
    assert_int_equal(other, 0);
    hsb__inbox_release(in);
}

/* The last open ticket keeps the inbox; leak checkers see what is wrong here. */
static void a_ticket_may_outlive_the_server(void **state)
{
    hsb__inbox *in = new_inbox();
    uint32_t list = 0;
    int owner;
    (void)state;
    uint64_t one = hsb__inbox_promise(in, &owner, request_call, &list);
    uint64_t two = hsb__inbox_promise(in, &owner, request_call, &list);
    hsb__inbox_orphan(in, &list);
    hsb__inbox_close(in);
    hsb__inbox_release(in);
    assert_false(use(in, one, NULL));
    assert_false(use(in, two, NULL));
}

/* --- posts ------------------------------------------------------------------------------ */
static hsb_server *const server = (hsb_server *)&server;       /* never looked at           */
static int posted[8], posted_count;

static void post_number(hsb_server *to, void *arg)
{
    assert_ptr_equal(to, server);
    posted[posted_count++] = *(int *)arg;
}

static void posts_keep_their_order(void **state)
{
    static hsb__timers timers;
    hsb__inbox *in = new_inbox();
    int args[5] = { 0, 1, 2, 3, 4 };
    (void)state;
    size_t before = in->memory.used;
    timers.now = hsb__os_now_us() / 1000;
    posted_count = 0;
    assert_int_equal(hsb__inbox_run_posts(in, server, &timers), 0);
    assert_true(hsb__inbox_post(in, 0, post_number, &args[0]));
    assert_true(hsb__inbox_post(in, 5000, post_number, &args[3]));
    assert_true(hsb__inbox_post(in, 0, post_number, &args[1]));
    assert_true(hsb__inbox_post(in, 1000, post_number, &args[2]));
    assert_true(hsb__inbox_post(in, 600000, post_number, &args[4]));
    assert_int_equal(hsb__inbox_run_posts(in, server, &timers), 5);
    assert_int_equal(posted_count, 2);
    hsb__timers_advance(&timers, timers.now + 900);
    assert_int_equal(posted_count, 2);
    hsb__timers_advance(&timers, timers.now + 10000);
    assert_int_equal(posted_count, 4);
    hsb__inbox_run_last(in, server, &timers);           /* the server does not wait for it    */
    assert_int_equal(posted_count, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(posted[i], i);
    assert_false(hsb__inbox_post(in, 0, post_number, NULL));
    assert_int_equal(in->memory.used, before);
    assert_true(hsb__timers_next(&timers) == UINT64_MAX);
    hsb__inbox_release(in);
}

/* --- promises ---------------------------------------------------------------------------- */
static int called, called_without_owner;

static void count_call(void *owner, hsb__resume fn, void *arg)
{
    called++;
    called_without_owner += owner == NULL;
    assert_true((fn.request == NULL) == (arg == NULL));
}

static void settled_promises_call_their_owners(void **state)
{
    enum { COUNT = HSB__INBOX_PROMISES + 10 };
    hsb__inbox *in = new_inbox();
    hsb__resume fn = { .request = never };
    static uint64_t ids[COUNT];
    uint32_t list = 0, ended = 0;
    int owner;
    (void)state;
    called = called_without_owner = 0;
    for (int i = 0; i < COUNT; i++)
        ids[i] = hsb__inbox_promise(in, &owner, count_call, i < 3 ? &ended : &list);
    for (int i = 0; i < COUNT; i++)         /* every second one is dropped                */
        assert_true(hsb__inbox_settle(in, ids[i], count_call, fn, i % 2, i % 2 ? NULL : &owner));
    hsb__inbox_orphan(in, &ended);
    hsb__wake_hush(&in->wake);
    assert_int_equal(hsb__inbox_run_promises(in), HSB__INBOX_PROMISES);
    struct pollfd p = { in->wake.read_fd, POLLIN, 0 };
    assert_int_equal(poll(&p, 1, 0), 1);    /* there are more                             */
    assert_int_equal(hsb__inbox_run_promises(in), 10);
    assert_int_equal(called, COUNT);
    assert_int_equal(called_without_owner, 3);
    hsb__inbox_release(in);
}

/* Who rings is heard in the next turn; without a ring nothing is looked at.                 */
static void a_ring_ends_the_wait_and_is_heard_once(void **state)
{
    static hsb__timers timers;
    hsb__memory memory;
    hsb__poller poller;
    hsb__inbox *in = new_inbox();
    int args[2] = { 7, 8 };
    (void)state;
    memset(&memory, 0, sizeof memory);
    posted_count = 0;
    assert_true(hsb__poller_open(&poller, &memory, NULL));
    assert_true(hsb__inbox_watch(in, &poller, NULL));
    hsb__poller_collect(&poller, 0);
    assert_int_equal(hsb__poller_dispatch(&poller), 0);
    assert_true(hsb__inbox_post(in, 0, post_number, &args[0]));
    assert_true(hsb__inbox_post(in, 0, post_number, &args[1]));
    assert_int_equal(hsb__inbox_run(in, server, &timers), 0);
    hsb__poller_collect(&poller, 1000);
    assert_int_equal(hsb__poller_dispatch(&poller), 1);
    assert_int_equal(hsb__inbox_run(in, server, &timers), 2);
    assert_int_equal(hsb__inbox_run(in, server, &timers), 0);
    assert_true(posted[0] == 7 && posted[1] == 8);
    hsb__poller_collect(&poller, 0);
    assert_int_equal(hsb__poller_dispatch(&poller), 0);
    hsb__inbox_close(in);
    hsb__inbox_release(in);
    hsb__poller_close(&poller);
    assert_int_equal(memory.used, 0);
}

static void flags_are_taken_once(void **state)
{
    hsb__inbox *in = new_inbox();
    (void)state;
    hsb__inbox_flag(in, HSB__INBOX_WAKE);
    hsb__inbox_flag(in, HSB__INBOX_CLOSE);
    assert_true(hsb__inbox_has_flags(in));
    assert_int_equal(hsb__inbox_take_flags(in), HSB__INBOX_WAKE | HSB__INBOX_CLOSE);
    assert_false(hsb__inbox_has_flags(in));
    assert_int_equal(hsb__inbox_take_flags(in), 0);
    hsb__inbox_release(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ticket_is_used_once),
        cmocka_unit_test(an_old_ticket_does_not_fit_a_new_promise),
        cmocka_unit_test(a_request_ticket_is_no_stream_ticket),
        cmocka_unit_test(an_owner_that_ends_is_not_found),
        cmocka_unit_test(a_ticket_may_outlive_the_server),
        cmocka_unit_test(posts_keep_their_order),
        cmocka_unit_test(settled_promises_call_their_owners),
        cmocka_unit_test(a_ring_ends_the_wait_and_is_heard_once),
        cmocka_unit_test(flags_are_taken_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
