/* >>loop: defaults, paces, calls for later. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"

static void zero_takes_the_default_and_minus_one_stays(void **state)
{
    hsb_options raw = { .timeouts = { .idle = -1, .head = 5 }, .limits = { .body_bytes = -1, .rate = 7 } };
    (void)state;
    hsb_options o = hsb__options_resolve(&raw);
    assert_int_equal(o.timeouts.idle, -1);
    assert_int_equal(o.timeouts.head, 5);
    assert_int_equal(o.timeouts.body, 30000);
    assert_true(o.limits.body_bytes == -1);
    assert_true(o.limits.stream_bytes == -1);
    assert_int_equal(o.limits.rate, 7);
    o = hsb__options_resolve(NULL);
    const int64_t got[] = {
        o.timeouts.handshake, o.timeouts.head, o.timeouts.body, o.timeouts.write, o.timeouts.idle,
        o.timeouts.close, o.timeouts.shutdown, o.timeouts.stream, o.limits.connections,
        o.limits.target_bytes, o.limits.head_bytes, o.limits.head_fields, o.limits.body_bytes,
        o.limits.stream_bytes, o.limits.queued_bytes, o.limits.rate, o.limits.requests,
        o.limits.per_address,
    }, promised[] = { 10000, 10000, 30000, 30000, 120000, 2000, 30000, 300000, 1024, 8192, 16384, 100,
                      1 << 20, -1, 65536, 512, -1, -1 };
    assert_memory_equal(got, promised, sizeof promised);        /* see >>defaults              */
    assert_int_equal(o.backlog, SOMAXCONN);
}

static void a_pace_allows_rests_but_not_crawling(void **state)
{
    hsb__pace p = { 0, 0, 0, 0 };
    (void)state;
    assert_true(hsb__pace_deadline(&p, 1000, 512) == UINT64_MAX);
    hsb__pace_start(&p, 100);
    assert_true(hsb__pace_deadline(&p, 1000, 512) == 1100);
    assert_true(hsb__pace_deadline(&p, -1, 512) == UINT64_MAX);
    hsb__pace_count(&p, 900, 512 * 10);                 /* fast: only the rest counts */
    assert_true(hsb__pace_deadline(&p, 1000, 512) == 1900);
    for (uint64_t now = 1000; now < 60000; now += 900)  /* a byte now and then */
        hsb__pace_count(&p, now, 1);
    assert_true(hsb__pace_deadline(&p, 1000, 512) < 60000);
    assert_true(hsb__pace_deadline(&p, 1000, -1) > 60000);
    hsb__pace_start(&p, 99999);                         /* goes on as it was */
    assert_true(p.began == 100);
    hsb__pace_stop(&p);
    assert_true(hsb__pace_deadline(&p, 1000, 512) == UINT64_MAX);
}

static void a_hold_stops_the_clock_and_does_not_set_it_back(void **state)
{
    hsb__pace p = { 0, 0, 0, 0 };
    (void)state;
    hsb__pace_start(&p, 100);
    hsb__pace_hold(&p, 500);
    hsb__pace_hold(&p, 600);                            /* held already */
    assert_true(hsb__pace_deadline(&p, 1000, 512) == UINT64_MAX);
    hsb__pace_start(&p, 5500);
    assert_true(hsb__pace_deadline(&p, 1000, 512) == 6100);
    hsb__pace_hold(&p, 5600);
    hsb__pace_count(&p, 7000, 1);                       /* before the clock was started again */
    hsb__pace_start(&p, 7000);
    assert_true(p.moved == 7000 && p.began == 100 + 5000 + 1400);
    assert_true(hsb__pace_deadline(&p, 1000, 512) == 7500);
}

static int fired;

static void fire(void *owner, hsb__resume fn, void *arg)
{
    assert_ptr_equal(owner, &fired);
    assert_true(fn.request == NULL && arg == NULL);
    fired++;
}

static void later_comes_once_or_is_cancelled(void **state)
{
    static hsb__loop loop;
    hsb__link list = { NULL, NULL };
    hsb__resume none = { NULL };
    (void)state;
    loop.pool.memory = &loop.memory;
    loop.depth = 1;                     /* as in a turn */
    loop.timers.now = hsb__os_now_us() / 1000;
    for (int i = 0; i < 10; i++)
        assert_true(hsb__after_add(&list, &loop, i * 100, fire, &fired, none, NULL));
    hsb__timers_advance(&loop.timers, loop.timers.now + 550);
    assert_within(fired, 5, 6);
    hsb__after_cancel_all(&list);
    assert_null(hsb__link_first(&list));
    int before = fired;
    hsb__timers_advance(&loop.timers, loop.timers.now + 5000);
    assert_int_equal(fired, before);
    hsb__pool_close(&loop.pool);
    assert_int_equal(loop.memory.used, 0);
}

static void the_date_is_made_once_a_second(void **state)
{
    static hsb__loop loop;
    int64_t seconds;
    (void)state;
    const char *date = hsb__loop_date(&loop);
    assert_true(hsb__date_parse(hsb__text_of(date), 0, &seconds));
    assert_within(seconds, hsb__os_wall() - 2, hsb__os_wall());
    loop.date_second -= 100;                /* as if it were old; fresh keeps it */
    assert_ptr_equal(hsb__loop_date(&loop), date);
    strcpy(loop.date, "old");
    hsb__loop_tick(&loop);
    assert_true(hsb__date_parse(hsb__text_of(hsb__loop_date(&loop)), 0, &seconds));
    assert_within(seconds, hsb__os_wall() - 2, hsb__os_wall());
    assert_within(loop.date_second, hsb__os_wall() - 2, hsb__os_wall());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_takes_the_default_and_minus_one_stays),
        cmocka_unit_test(a_pace_allows_rests_but_not_crawling),
        cmocka_unit_test(a_hold_stops_the_clock_and_does_not_set_it_back),
        cmocka_unit_test(later_comes_once_or_is_cancelled),
        cmocka_unit_test(the_date_is_made_once_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
