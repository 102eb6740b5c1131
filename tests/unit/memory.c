/* >>memory: the count, the user's allocator, wiping, growing, the pool of blocks. */
static int failing;                     /* so many allocations succeed; -1: all            */
#define HSB_FAULT(call, count) ((void)(count), fault(call))
static int fault(const char *call);
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "random.h"

#include "help.h"

static int fault(const char *call)
{
    if (strcmp(call, "alloc") || failing < 0)
        return 0;
    return failing-- == 0 ? ENOMEM : 0;
}

/* What the user's allocator saw. */
typedef struct ledger {
    int allocs, releases;
    size_t bytes;
    unsigned char last[64];             /* the beginning of what was released last         */
} ledger;

static void *ledger_alloc(size_t size, void *user)
{
    ledger *l = user;
    l->allocs++;
    l->bytes += size;
    void *p = malloc(size);
    return p ? memset(p, 0xA5, size) : NULL;
}

static void ledger_release(void *p, size_t size, void *user)
{
    ledger *l = user;
    l->releases++;
    l->bytes -= size;
    memset(l->last, 0xEE, sizeof l->last);
    memcpy(l->last, p, size < sizeof l->last ? size : sizeof l->last);
    free(p);
}

static hsb__memory memory_of(ledger *l)
{
    hsb__memory m;
    memset(&m, 0, sizeof m);
    memset(l, 0, sizeof *l);
    m.user.alloc = ledger_alloc;
    m.user.release = ledger_release;
    m.user.user = l;
    return m;
}

static int reset(void **state)
{
    (void)state;
    failing = -1;
    return 0;
}

static void test_count(void **state)
{
    hsb__memory m;
    (void)state;
    memset(&m, 0, sizeof m);
    void *a = hsb__memory_alloc(&m, 100), *b = hsb__memory_zeroed(&m, 28);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(m.used, 128);
    hsb__memory_free(&m, a, 100);
    assert_int_equal(m.used, 28);
    hsb__memory_free(&m, NULL, 100);
    hsb__memory_free_secret(&m, NULL, 100);
    hsb__memory_free(&m, b, 28);
    assert_int_equal(m.used, 0);
}

static void test_user_allocator(void **state)
{
    ledger l;
    hsb__memory m = memory_of(&l);
    (void)state;
    unsigned char *p = hsb__memory_zeroed(&m, 50);
    for (int i = 0; i < 50; i++)
        assert_int_equal(p[i], 0);
    assert_int_equal(l.bytes, 50);
    hsb__memory_free(&m, p, 50);
    assert_int_equal(l.bytes, 0);
    assert_int_equal(l.releases, 1);
}

static void test_failure(void **state)
{
    ledger l;
    hsb__memory m = memory_of(&l);
    (void)state;
    failing = 0;
    errno = 0;
    assert_null(hsb__memory_alloc(&m, 10));
    assert_int_equal(errno, ENOMEM);
    failing = 0;
    assert_null(hsb__memory_zeroed(&m, 10));
    failing = 0;
    assert_null(hsb__memory_array(&m, 10, 10));
    failing = 0;
    assert_null(hsb__memory_copy_text(&m, "a", 1));
    assert_int_equal(m.used, 0);
    assert_int_equal(l.allocs, 0);
}

static void test_array(void **state)
{
    ledger l;
    hsb__memory m = memory_of(&l);
    (void)state;
    assert_null(hsb__memory_array(&m, 0, 10));
    assert_null(hsb__memory_array(&m, SIZE_MAX / 2, 3));
    assert_null(hsb__memory_array(&m, SIZE_MAX, SIZE_MAX));
    assert_int_equal(l.allocs, 0);
    unsigned char *p = hsb__memory_array(&m, 3, 7);
    for (int i = 0; i < 21; i++)
        assert_int_equal(p[i], 0);
    assert_int_equal(m.used, 21);
    hsb__memory_free(&m, p, 21);
}

static void test_wipe(void **state)
{
    ledger l;
    hsb__memory m = memory_of(&l);
    unsigned char bytes[20];
    (void)state;
    memset(bytes, 1, sizeof bytes);
    hsb__memory_wipe(bytes + 1, 18);
    for (int i = 0; i < 20; i++)
        assert_int_equal(bytes[i], i == 0 || i == 19);
    hsb__memory_wipe(bytes, 0);
    unsigned char *p = hsb__memory_alloc(&m, 32);
    memset(p, 7, 32);
    hsb__memory_free_secret(&m, p, 32);
    for (int i = 0; i < 32; i++)
        assert_int_equal(l.last[i], 0);
    assert_int_equal(m.used, 0);
}

static void test_grow(void **state)
{
    ledger l;
    hsb__memory m = memory_of(&l);
    (void)state;
    char *p = hsb__memory_grow(&m, NULL, 0, 4);
    assert_memory_equal(p, "\0\0\0\0", 4);
    memcpy(p, "abcd", 4);
    failing = 0;
    assert_null(hsb__memory_grow(&m, p, 4, 8));         /* and nothing has changed */
    assert_memory_equal(p, "abcd", 4);
    p = hsb__memory_grow(&m, p, 4, 8);
    assert_memory_equal(p, "abcd\0\0\0\0", 8);
    assert_memory_equal(l.last, "\0\0\0\0", 4);         /* the old one was wiped */
    assert_int_equal(m.used, 8);
    hsb__memory_free(&m, p, 8);
}

static void test_copy_text(void **state)
{
    ledger l;
    hsb__memory m = memory_of(&l);
    (void)state;
    char *p = hsb__memory_copy_text(&m, "abc", 2);
    assert_string_equal(p, "ab");
    assert_int_equal(m.used, 3);
    hsb__memory_free(&m, p, 3);
    p = hsb__memory_copy_text(&m, NULL, 0);
    assert_string_equal(p, "");
    hsb__memory_free(&m, p, 1);
    assert_null(hsb__memory_copy_text(&m, "", SIZE_MAX));
}

static void test_pool_classes(void **state)
{
    (void)state;
    assert_int_equal(hsb__pool_class(0), 0);
    assert_int_equal(hsb__pool_class(1), 0);
    for (unsigned c = 0; c < HSB__POOL_CLASSES; c++) {
        size_t size = hsb__pool_size(c);
        assert_int_equal(size, (256u + 64 * (c % 4)) << c / 4);
        assert_int_equal(hsb__pool_class(size), c);
        assert_int_equal(hsb__pool_class(size + 1), c + 1);
    }
    assert_int_equal(hsb__pool_class(SIZE_MAX), HSB__POOL_CLASSES);
}

static void test_pool(void **state)
{
    ledger l;
    hsb__memory m = memory_of(&l);
    hsb__pool pool;
    size_t size = 450, again = 500, huge = 70000;
    (void)state;
    memset(&pool, 0, sizeof pool);
    pool.memory = &m;
    void *p = hsb__pool_get(&pool, &size);
    assert_int_equal(size, 512);
    hsb__pool_put(&pool, p, size);
    assert_int_equal(pool.kept, 512);
    assert_ptr_equal(hsb__pool_get(&pool, &again), p);  /* the same block, no allocation */
    assert_int_equal(pool.kept, 0);
    assert_int_equal(l.allocs, 1);
    hsb__pool_put(&pool, p, again);
    hsb__pool_put(&pool, NULL, 512);
    p = hsb__pool_get(&pool, &huge);
    assert_int_equal(huge, 70000);
    memset(p, 7, huge);
    hsb__pool_put(&pool, p, huge);                      /* too large to keep: wiped, gone */
    assert_int_equal(l.last[0] | l.last[63], 0);
    assert_int_equal(m.used, 512);
    hsb__pool_close(&pool);
    assert_int_equal(m.used, 0);
    hsb__pool_close(&pool);
}

static void test_pool_bound(void **state)
{
    enum { BLOCKS = 40 };
    ledger l;
    hsb__memory m = memory_of(&l);
    hsb__pool pool;
    void *blocks[BLOCKS];
    (void)state;
    memset(&pool, 0, sizeof pool);
    pool.memory = &m;
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = 65536;
        blocks[i] = hsb__pool_get(&pool, &size);
        assert_int_equal(size, 65536);
    }
    for (int i = 0; i < BLOCKS; i++)
        hsb__pool_put(&pool, blocks[i], 65536);
    assert_int_equal(pool.kept, HSB__POOL_KEEP);
    assert_int_equal(m.used, HSB__POOL_KEEP);
    failing = 0;                                        /* what is kept needs no allocation */
    size_t size = 65536;
    void *p = hsb__pool_get(&pool, &size);
    assert_non_null(p);
    hsb__pool_put(&pool, p, size);
    size = 256;
    assert_null(hsb__pool_get(&pool, &size));
    hsb__pool_close(&pool);
    assert_int_equal(m.used, 0);
    assert_int_equal(l.allocs, l.releases);
}

/* Blocks in use never overlap, whatever the order. */
static void test_pool_random(void **state)
{
    enum { BLOCKS = 64 };
    ledger l;
    hsb__memory m = memory_of(&l);
    hsb__pool pool;
    struct { unsigned char *p; size_t size; } used[BLOCKS] = { { NULL, 0 } };
    (void)state;
    memset(&pool, 0, sizeof pool);
    pool.memory = &m;
    for (int round = 0; round < 20000; round++) {
        size_t i = random_below(BLOCKS);
        if (used[i].p) {
            for (size_t k = 0; k < used[i].size; k += 97)
                assert_int_equal(used[i].p[k], (unsigned char)i);
            hsb__pool_put(&pool, used[i].p, used[i].size);
            used[i].p = NULL;
        } else {
            size_t want = random_below((size_t)256 << random_below(9));
            used[i].size = want;
            used[i].p = hsb__pool_get(&pool, &used[i].size);
            assert_true(used[i].size >= want);
            memset(used[i].p, (int)i, used[i].size);
        }
        assert_within(pool.kept, 0, HSB__POOL_KEEP);
    }
    for (int i = 0; i < BLOCKS; i++)
        hsb__pool_put(&pool, used[i].p, used[i].size);
    hsb__pool_close(&pool);
    assert_int_equal(m.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_count, reset),
        cmocka_unit_test_setup(test_user_allocator, reset),
        cmocka_unit_test_setup(test_failure, reset),
        cmocka_unit_test_setup(test_array, reset),
        cmocka_unit_test_setup(test_wipe, reset),
        cmocka_unit_test_setup(test_grow, reset),
        cmocka_unit_test_setup(test_copy_text, reset),
        cmocka_unit_test_setup(test_pool_classes, reset),
        cmocka_unit_test_setup(test_pool, reset),
        cmocka_unit_test_setup(test_pool_bound, reset),
        cmocka_unit_test_setup(test_pool_random, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
