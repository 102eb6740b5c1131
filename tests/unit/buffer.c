/* >>buffer: a queue of bytes, held against a plain array. */
static int failing;                     /* so many allocations succeed; -1: all            */
#define HSB_FAULT(call, count) ((void)(call), (void)(count), failing < 0 ? 0 : failing-- == 0)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "random.h"

#include "help.h"

typedef struct bench {
    hsb__memory memory;
    hsb__pool pool;
    hsb__buffer buffer;
} bench;

static int set_up(void **state)
{
    bench *b = calloc(1, sizeof *b);
    failing = -1;
    if (!b)
        return -1;
    b->pool.memory = &b->memory;
    b->buffer.pool = &b->pool;
    *state = b;
    return 0;
}

/* Whatever the test did, everything comes back. */
static int tear_down(void **state)
{
    bench *b = *state;
    hsb__buffer_release(&b->buffer);
    hsb__pool_close(&b->pool);
    bool clean = b->memory.used == 0;
    free(b);
    return clean ? 0 : -1;
}

static void holds(const hsb__buffer *b, const char *text)
{
    assert_int_equal(hsb__buffer_len(b), strlen(text));
    if (*text)
        assert_memory_equal(hsb__buffer_data(b), text, strlen(text));
}

static void test_queue(void **state)
{
    bench *t = *state;
    hsb__buffer *b = &t->buffer;
    holds(b, "");
    assert_null(hsb__buffer_data(b));
    assert_true(hsb__buffer_append(b, "hello", 5));
    assert_true(hsb__buffer_append_text(b, ", world"));
    assert_true(hsb__buffer_append_text(b, ""));
    assert_true(hsb__buffer_append(b, NULL, 0));
    holds(b, "hello, world");
    hsb__buffer_taken(b, 7);
    holds(b, "world");
    hsb__buffer_taken(b, 0);
    hsb__buffer_taken(b, 5);
    holds(b, "");
    assert_int_equal(b->head, 0);
    assert_true(hsb__buffer_append_text(b, "again"));
    holds(b, "again");
}

static void test_reserve(void **state)
{
    bench *t = *state;
    hsb__buffer *b = &t->buffer;
    char *at = hsb__buffer_reserve(b, 10);
    assert_non_null(at);
    memcpy(at, "0123456789", 10);
    holds(b, "");
    hsb__buffer_added(b, 4);
    holds(b, "0123");
    hsb__buffer_taken(b, 2);
    at = hsb__buffer_reserve(b, b->size);               /* must move or grow */
    assert_non_null(at);
    holds(b, "23");
    assert_true(at == b->data + b->tail && b->size - b->tail >= 256);
    assert_null(hsb__buffer_reserve(b, SIZE_MAX));
    assert_null(hsb__buffer_reserve(b, SIZE_MAX / 2));
    holds(b, "23");
}

static void test_release(void **state)
{
    bench *t = *state;
    hsb__buffer *b = &t->buffer;
    hsb__buffer_release(b);
    assert_true(hsb__buffer_append_text(b, "abc"));
    size_t used = t->memory.used;
    hsb__buffer_release(b);
    assert_null(b->data);
    assert_int_equal(t->pool.kept, HSB__POOL_KEEP ? used : 0);  /* it waits for the next one   */
    holds(b, "");
    assert_true(hsb__buffer_append_text(b, "abc"));
    assert_int_equal(t->memory.used, used);
}

static void test_no_memory(void **state)
{
    bench *t = *state;
    hsb__buffer *b = &t->buffer;
    failing = 0;
    assert_false(hsb__buffer_append_text(b, "abc"));
    holds(b, "");
    assert_true(hsb__buffer_append_text(b, "abc"));
    failing = 0;
    assert_null(hsb__buffer_reserve(b, 10000));
    holds(b, "abc");
    assert_true(hsb__buffer_append_text(b, "def"));     /* there is still room for that */
    holds(b, "abcdef");
}

/* A queue through which much flows while little waits must not grow. */
static void test_flow(void **state)
{
    bench *t = *state;
    hsb__buffer *b = &t->buffer;
    char part[100];
    memset(part, 'a', sizeof part);
    for (int i = 0; i < 100000; i++) {
        assert_true(hsb__buffer_append(b, part, sizeof part));
        if (i >= 5)
            hsb__buffer_taken(b, sizeof part);
        assert_within(b->size, 0, 4096);
    }
}

static void test_random(void **state)
{
    enum { MOST = 1 << 16 };
    static char model[MOST];
    bench *t = *state;
    hsb__buffer *b = &t->buffer;
    size_t len = 0;
    unsigned char next = 0;
    print_message("SEED=%llu\n", (unsigned long long)random_start(3));
    for (int round = 0; round < 40000; round++) {
        size_t n = random_below((size_t)1 << (1 + random_below(12)));
        bool fail = random_below(50) == 0;
        failing = fail ? 0 : -1;
        if (random_below(100) < 50) {
            if (n > MOST - len)
                continue;
            for (size_t i = 0; i < n; i++)
                model[len + i] = (char)next++;
            if (hsb__buffer_append(b, model + len, n))
                len += n;
            else
                assert_true(fail);
        } else if (random_below(20) == 0) {
            hsb__buffer_release(b);
            len = 0;
        } else {
            n = n < len ? n : len;
            hsb__buffer_taken(b, n);
            len -= n;
            memmove(model, model + n, len);
        }
        failing = -1;
        assert_int_equal(hsb__buffer_len(b), len);
        if (len)
            assert_memory_equal(hsb__buffer_data(b), model, len);
    }
}

/* Only an empty queue can have space before its first byte. */
static void test_apart(void **state)
{
    bench *t = *state;
    hsb__buffer *b = &t->buffer;
    for (int times = 0; times < 2; times++) {
        for (size_t more = 0; more < 3000; more += 7) {
            const char *at = hsb__buffer_reserve_apart(b, more);
            assert_ptr_equal(at, b->data + HSB__BUFFER_BEFORE);
            assert_int_equal(b->head, HSB__BUFFER_BEFORE);
            assert_int_equal(b->tail, HSB__BUFFER_BEFORE);
            assert_true(b->size - b->tail >= more + HSB__BUFFER_BEHIND);
            memset(b->data, 'x', b->size);
            if (times == 0)
                hsb__buffer_release(b);
        }
    }
    assert_true(hsb__buffer_append(b, "hello", 5));
    assert_int_equal(b->head, HSB__BUFFER_BEFORE);
    const size_t most = b->size - b->tail - HSB__BUFFER_BEHIND;
    const char *old = b->data;
    assert_ptr_equal(hsb__buffer_reserve_apart(b, most), old + HSB__BUFFER_BEFORE + 5);
    const char *at = hsb__buffer_reserve_apart(b, most + 5000);
    assert_ptr_equal(at, b->data + 5);
    holds(b, "hello");
    hsb__buffer_taken(b, 5);
    old = b->data;
    assert_ptr_equal(hsb__buffer_reserve_apart(b, 10), old + HSB__BUFFER_BEFORE);
    hsb__buffer_release(b);
    hsb__pool_close(&t->pool);          /* no block is left to be used again               */
    failing = 0;                        /* the first try fails; without that space it fits  */
    at = hsb__buffer_reserve_apart(b, 1);
    assert_non_null(at);
    assert_ptr_equal(at, b->data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_queue, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reserve, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_release, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
