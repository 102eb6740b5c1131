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

static bool use(hsb__inbox *in, uint64_t id, void *arg)
{
    hsb__resume fn = { .request = never };
    return hsb__inbox_settle(in, id, false, fn, false, arg);
}

static void a_ticket_is_used_once(void **state)
{
    hsb__inbox *in = new_inbox();
    hsb__promise p;
    uint32_t list = 0;
    int owner, arg;
    (void)state;
    uint64_t id = hsb__inbox_promise(in, &owner, false, &list);
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
    uint64_t first = hsb__inbox_promise(in, &owner, false, &list);
    assert_true(use(in, first, NULL) && hsb__inbox_take(in, &p));
    uint64_t second = hsb__inbox_promise(in, &owner, false, &list);
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
    uint64_t id = hsb__inbox_promise(in, &owner, true, &list);
    assert_false(use(in, id, NULL));
    hsb__resume fn = { .request = never };
    assert_true(hsb__inbox_settle(in, id, true, fn, true, NULL) && hsb__inbox_take(in, &p));
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
        ids[i] = i % 2 ? hsb__inbox_promise(in, &owner, false, &mine)
                       : hsb__inbox_promise(in, &somebody, false, &other);
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
    uint64_t one = hsb__inbox_promise(in, &owner, false, &list);
    uint64_t two = hsb__inbox_promise(in, &owner, false, &list);
    hsb__inbox_orphan(in, &list);
    hsb__inbox_close(in);
    hsb__inbox_release(in);
    assert_false(use(in, one, NULL));
    assert_false(use(in, two, NULL));
}

static void post_nothing(hsb_server *server, void *arg)
{
    (void)server;
    (void)arg;
}

static void posts_keep_their_order(void **state)
{
    hsb__inbox *in = new_inbox();
    int args[3];
    (void)state;
    size_t before = in->memory.used;
    for (int i = 0; i < 3; i++)
        assert_true(hsb__inbox_post(in, i, post_nothing, &args[i]));
    hsb__post *posts = hsb__inbox_take_posts(in);
    for (int i = 0; i < 3; i++) {
        hsb__post *next = posts->next;
        assert_ptr_equal(posts->arg, &args[i]);
        assert_int_equal(posts->delay_ms, i);
        hsb__memory_free(&in->memory, posts, sizeof *posts);
        posts = next;
    }
    assert_null(posts);
    assert_null(hsb__inbox_take_posts(in));
    hsb__inbox_close(in);
    assert_false(hsb__inbox_post(in, 0, post_nothing, NULL));
    assert_int_equal(in->memory.used, before);
    hsb__inbox_release(in);
}

static void flags_are_taken_once(void **state)
{
    hsb__inbox *in = new_inbox();
    (void)state;
    hsb__inbox_flag(in, HSB__INBOX_WAKE);
    hsb__inbox_flag(in, HSB__INBOX_CLOSE);
    assert_int_equal(hsb__atomic_take_flags(&in->flags), HSB__INBOX_WAKE | HSB__INBOX_CLOSE);
    assert_int_equal(hsb__atomic_take_flags(&in->flags), 0);
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
        cmocka_unit_test(flags_are_taken_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
