/* A message in many fragments: what it costs grows with its length, not with its square, and
   no block is larger than the longest message that is permitted. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"

enum { FRAME = 2 + 4 };                     /* the head of a short masked frame */

typedef struct counter { size_t total, largest; } counter;

static void *count_alloc(size_t size, void *user)
{
    counter *c = user;
    c->total += size;
    c->largest = size > c->largest ? size : c->largest;
    return malloc(size);
}

static void count_release(void *p, size_t size, void *user)
{
    (void)size;
    (void)user;
    free(p);
}

/* One frame of the message, with a mask of zeros; a ping goes before it if wanted. */
static void feed_fragment(hsb__websocket_reader *r, hsb__websocket_message *m, size_t n, bool first,
                          bool last, bool ping)
{
    char bytes[2 * FRAME + 125];
    size_t len = 0;
    if (ping) {
        memcpy(bytes, "\x89\x80\0\0\0\0", FRAME);
        len = FRAME;
    }
    bytes[len] = (char)((last ? 0x80 : 0) | (first ? 0x2 : 0x0));
    bytes[len + 1] = (char)(0x80 | n);
    memset(bytes + len + 2, 0, 4);
    memset(bytes + len + FRAME, 'x', n);
    hsb_str in = hsb__text_make(bytes, len + FRAME + n), piece;
    while (in.len) {
        hsb__websocket_event event = hsb__websocket_read(r, &in, SIZE_MAX, &piece);
        if (event == HSB__WEBSOCKET_DATA)
            assert_true(hsb__websocket_message_add(m, r, piece));
        else
            assert_int_equal(event, HSB__WEBSOCKET_PING);
    }
}

/* A message of `count` fragments, where `limit` bytes are permitted; what was allocated. */
static counter gather(size_t count, size_t fragment, uint64_t limit, bool pings)
{
    counter c = { 0, 0 };
    hsb__memory memory = { .user = { .alloc = count_alloc, .release = count_release, .user = &c } };
    hsb__websocket_message m = { .memory = &memory };
    hsb__websocket_reader r;
    hsb__websocket_reader_start(&r, limit);
    for (size_t i = 0; i < count; i++)
        feed_fragment(&r, &m, fragment, i == 0, i + 1 == count, pings);
    assert_true(r.last);
    assert_int_equal(m.len, count * fragment);
    for (size_t i = 0; i < m.len; i++)
        assert_int_equal(m.bytes[i], 'x');
    hsb__websocket_message_release(&m);
    assert_int_equal(memory.used, 0);
    return c;
}

static void test_cost_is_linear(void **state)
{
    (void)state;
    static const struct { size_t count, fragment; } rows[] = {
        { 1, 100 }, { 2, 100 }, { 3, 1 }, { 10000, 1 }, { 16384, 1 }, { 1000, 125 }, { 8388, 125 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = rows[i].count * rows[i].fragment;
        for (int pings = 0; pings < 2; pings++) {
            counter c = gather(rows[i].count, rows[i].fragment, 1 << 20, pings);
            assert_within(c.total, len, 4 * len);
            assert_within(c.largest, len, 2 * len);
        }
    }
}

static void test_no_block_above_the_limit(void **state)
{
    (void)state;
    for (size_t spare = 0; spare < 100; spare += 33) {
        counter c = gather(10000, 1, 10000 + spare, false);
        assert_within(c.total, 10000, 40000);
        assert_within(c.largest, 10000, 10000 + spare);
    }
    assert_int_equal(gather(10000, 1, INT64_MAX, false).largest, 16384);
}

static void test_one_frame_is_allocated_exactly(void **state)
{
    (void)state;
    counter c = gather(1, 100, 1 << 20, false);
    assert_int_equal(c.total, 100);
    assert_int_equal(gather(1, 0, 1 << 20, false).total, 1);
    assert_int_equal(gather(2, 100, 1 << 20, false).total, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cost_is_linear),
        cmocka_unit_test(test_no_block_above_the_limit),
        cmocka_unit_test(test_one_frame_is_allocated_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
