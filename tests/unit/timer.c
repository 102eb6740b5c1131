/* >>timer: the wheel, held against a list that is looked through from end to end. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "random.h"

#include "help.h"

enum { MOST = 200 };

typedef struct watch {
    hsb__timer timer;
    int fired;
    uint64_t at;                        /* when                                            */
} watch;

static hsb__timers all;
static watch list[MOST];

static void note(hsb__timer *t)
{
    watch *w = t->owner;
    w->fired++;
    w->at = all.now;
    assert_false(hsb__timer_is_set(t)); /* it may be set again from here                   */
}

static int start(void **state)
{
    (void)state;
    memset(&all, 0, sizeof all);
    memset(list, 0, sizeof list);
    for (int i = 0; i < MOST; i++) {
        list[i].timer.fire = note;
        list[i].timer.owner = &list[i];
    }
    return 0;
}

static void test_fires_when_due(void **state)
{
    static const uint64_t delays[] = { 1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 262143, 262144,
        262145, 16777215, 16777216, 16777217, 1073741823, 1073741824, 1073741825, 5000000000 };
    static const uint64_t begins[] = { 0, 1, 63, 64, 4095, 4096, 16777216, 1073741823, 123456789012 };
    (void)state;
    for (size_t b = 0; b < sizeof begins / sizeof *begins; b++)
        for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
            start(NULL);
            hsb__timers_advance(&all, begins[b]);
            hsb__timer_set(&all, &list[0].timer, begins[b] + delays[i]);
            hsb__timers_advance(&all, begins[b] + delays[i] - 1);
            assert_int_equal(list[0].fired, 0);
            hsb__timers_advance(&all, begins[b] + delays[i]);
            assert_int_equal(list[0].fired, 1);
            hsb__timers_advance(&all, begins[b] + delays[i] * 2);
            assert_int_equal(list[0].fired, 1);
        }
}

/* Due before now: with the next tick. */
static void test_overdue(void **state)
{
    (void)state;
    hsb__timers_advance(&all, 1000);
    hsb__timer_set(&all, &list[0].timer, 5);
    hsb__timer_set(&all, &list[1].timer, 1000);
    assert_int_equal(hsb__timers_next(&all), 1001);
    hsb__timers_advance(&all, 1001);
    assert_int_equal(list[0].fired, 1);
    assert_int_equal(list[1].fired, 1);
}

static void test_cancel(void **state)
{
    (void)state;
    hsb__timer_cancel(&list[0].timer);                  /* not set: harmless */
    for (int i = 0; i < 5; i++)
        hsb__timer_set(&all, &list[i].timer, 100);      /* all in one slot */
    hsb__timer_cancel(&list[4].timer);
    hsb__timer_cancel(&list[0].timer);
    hsb__timer_cancel(&list[2].timer);
    hsb__timer_cancel(&list[2].timer);
    hsb__timers_advance(&all, 200);
    for (int i = 0; i < 5; i++)
        assert_int_equal(list[i].fired, i == 1 || i == 3);
}

/* Nobody has to wake up for a slot whose timers were all cancelled, on whatever wheel. */
static void test_cancelled_is_not_waited_for(void **state)
{
    static const uint64_t due[] = { 3, 70, 5000, 300000, 20000000, 5000000000 };
    enum { COUNT = sizeof due / sizeof *due };
    (void)state;
    for (int i = 0; i < COUNT; i++)
        hsb__timer_set(&all, &list[i].timer, due[i]);
    hsb__timer_set(&all, &list[COUNT].timer, 71);
    hsb__timer_cancel(&list[0].timer);
    assert_within(hsb__timers_next(&all), 64, 70);    /* the slot's begin, or the time */
    hsb__timers_advance(&all, 70);
    assert_int_equal(list[1].fired, 1);
    assert_int_equal(hsb__timers_next(&all), 71);
    for (int i = 0; i <= COUNT; i++)
        hsb__timer_cancel(&list[i].timer);
    assert_int_equal(hsb__timers_next(&all), UINT64_MAX);
    hsb__timer_set(&all, &list[0].timer, 71);           /* and the slot is as good as new */
    assert_int_equal(hsb__timers_next(&all), 71);
    hsb__timers_advance(&all, 71);
    assert_int_equal(list[0].fired, 1);
    assert_int_equal(hsb__timers_next(&all), UINT64_MAX);
}

static void test_set_again(void **state)
{
    (void)state;
    hsb__timer_set(&all, &list[0].timer, 100);
    hsb__timer_set(&all, &list[0].timer, 50);
    hsb__timer_set(&all, &list[1].timer, 100);
    hsb__timer_set(&all, &list[1].timer, 5000);
    hsb__timers_advance(&all, 100);
    assert_int_equal(list[0].fired, 1);
    assert_int_equal(list[0].at, 50);
    assert_int_equal(list[1].fired, 0);
    hsb__timers_advance(&all, 5000);
    assert_int_equal(list[0].fired, 1);
    assert_int_equal(list[1].at, 5000);
}

static void set_again(hsb__timer *t)
{
    note(t);
    hsb__timer_set(&all, t, all.now + 10);
}

static void set_now(hsb__timer *t)
{
    note(t);
    hsb__timer_set(&all, t, all.now);
}

static void cancel_all(hsb__timer *t)
{
    note(t);
    for (int i = 0; i < MOST; i++)
        hsb__timer_cancel(&list[i].timer);
}

static void test_from_within(void **state)
{
    (void)state;
    list[0].timer.fire = set_again;
    hsb__timer_set(&all, &list[0].timer, 10);
    hsb__timers_advance(&all, 1000);
    assert_int_equal(list[0].fired, 100);
    hsb__timer_cancel(&list[0].timer);
    list[0].timer.fire = set_now;                       /* once a millisecond, and it ends */
    hsb__timer_set(&all, &list[0].timer, 1001);
    hsb__timers_advance(&all, 1010);
    assert_int_equal(list[0].fired, 110);
    start(NULL);
    int fired = 0;
    for (int i = 0; i < MOST; i++) {                    /* whichever is first is the last */
        list[i].timer.fire = cancel_all;
        hsb__timer_set(&all, &list[i].timer, 100);
    }
    hsb__timers_advance(&all, 100);
    for (int i = 0; i < MOST; i++)
        fired += list[i].fired;
    assert_int_equal(fired, 1);
}

/* The wake-up may come too early, for a timer that moves down or was cancelled, never late. */
static void test_next(void **state)
{
    (void)state;
    assert_true(hsb__timers_next(&all) == UINT64_MAX);
    hsb__timer_set(&all, &list[0].timer, 10000);
    assert_within(hsb__timers_next(&all), 1, 10000);
    hsb__timer_set(&all, &list[1].timer, 20);
    assert_int_equal(hsb__timers_next(&all), 20);
    hsb__timers_advance(&all, 20);
    int wakes = 0;
    while (!list[0].fired) {
        uint64_t next = hsb__timers_next(&all);
        assert_within(next, all.now + 1, 10000);
        hsb__timers_advance(&all, next);
        wakes++;
    }
    assert_within(wakes, 1, HSB__WHEELS);
    assert_true(hsb__timers_next(&all) == UINT64_MAX);
}

/* Any mixture, in any steps: each fires once, at its time or, where it was due already, the
   next millisecond. */
static void test_random(void **state)
{
    uint64_t due[MOST];                                 /* UINT64_MAX: not set */
    uint64_t now = 0;
    (void)state;
    print_message("SEED=%llu\n", (unsigned long long)random_start(5));
    for (int i = 0; i < MOST; i++)
        due[i] = UINT64_MAX;
    for (int round = 0; round < 30000; round++) {
        size_t i = random_below(MOST);
        if (random_below(4) == 0) {
            hsb__timer_cancel(&list[i].timer);
            due[i] = UINT64_MAX;
        } else {
            uint64_t delay = random_next() >> (24 + random_below(40));
            hsb__timer_set(&all, &list[i].timer, now + delay);
            due[i] = delay ? now + delay : now + 1;
        }
        if (random_below(3))
            continue;
        uint64_t next = hsb__timers_next(&all), step = random_next() >> (30 + random_below(34));
        now += step;
        uint64_t earliest = UINT64_MAX;
        for (int k = 0; k < MOST; k++)
            earliest = due[k] < earliest ? due[k] : earliest;
        assert_true(next <= earliest);
        hsb__timers_advance(&all, now);
        assert_true(all.now == now);
        for (int k = 0; k < MOST; k++) {
            assert_int_equal(list[k].fired, due[k] <= now);
            if (list[k].fired)
                assert_true(list[k].at == due[k]);
            if (list[k].fired)
                due[k] = UINT64_MAX;
            list[k].fired = 0;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_fires_when_due, start),
        cmocka_unit_test_setup(test_overdue, start),
        cmocka_unit_test_setup(test_cancel, start),
        cmocka_unit_test_setup(test_cancelled_is_not_waited_for, start),
        cmocka_unit_test_setup(test_set_again, start),
        cmocka_unit_test_setup(test_from_within, start),
        cmocka_unit_test_setup(test_next, start),
        cmocka_unit_test_setup(test_random, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
