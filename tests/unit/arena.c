/* >>arena: pieces are aligned and apart, the limit holds, blocks come from the pool and go
   back to it, and little of them stays unused whatever the sizes are. */
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

static hsb__memory memory;
static hsb__pool pool;
static hsb__arena *arena;

static int set_up(void **state)
{
    (void)state;
    failing = -1;
    memset(&memory, 0, sizeof memory);
    memset(&pool, 0, sizeof pool);
    pool.memory = &memory;
    arena = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    hsb__arena_release(&arena, &pool);
    assert_null(arena);
    hsb__pool_close(&pool);
    assert_int_equal(memory.used, 0);
    return 0;
}

static size_t held(void)
{
    size_t sum = 0;
    for (const hsb__arena *b = arena; b; b = b->older)
        sum += b->size;
    return sum;
}

static void *get(size_t size)
{
    return hsb__arena_alloc(&arena, &pool, size, SIZE_MAX);
}

/* Each piece is filled; if two of them met, one would not hold what was put there. */
static void pieces_are_apart_and_aligned(void **state)
{
    enum { PIECES = 2000 };
    static unsigned char *piece[PIECES];
    static size_t size[PIECES];
    size_t given = 0;
    (void)state;
    for (int i = 0; i < PIECES; i++) {
        size[i] = random_below(10) ? random_below(300) : random_below(100000);
        piece[i] = get(size[i]);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % 16, 0);
        memset(piece[i], i & 0xFF, size[i]);
        given += hsb__arena_round(size[i] ? size[i] : 1);
        assert_int_equal(arena->given, given);
        assert_within(held(), given, 2 * given + 2 * HSB__ARENA_BLOCK);
    }
    for (int i = 0; i < PIECES; i++)
        for (size_t k = 0; k < size[i]; k++)
            assert_int_equal(piece[i][k], i & 0xFF);
}

static void nothing_is_a_piece_too(void **state)
{
    char *a = get(0), *b = get(0), *c = get(1);
    (void)state;
    assert_ptr_equal(a + 16, b);
    assert_ptr_equal(b + 16, c);
}

static void the_limit_counts_in_sixteens(void **state)
{
    (void)state;
    assert_null(hsb__arena_alloc(&arena, &pool, 101, 96));
    assert_null(arena);
    assert_non_null(hsb__arena_alloc(&arena, &pool, 100, 100));
    assert_null(hsb__arena_alloc(&arena, &pool, 0, 100));
    assert_null(hsb__arena_alloc(&arena, &pool, 1, 100));
    assert_non_null(hsb__arena_alloc(&arena, &pool, 1, 113));
    assert_null(hsb__arena_alloc(&arena, &pool, 1, 128));
    assert_null(hsb__arena_alloc(&arena, &pool, 0, 128));
}

static void what_no_machine_has_is_refused(void **state)
{
    static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 15, SIZE_MAX - 47, SIZE_MAX / 2,
                                    SIZE_MAX / 4 + 17 };
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_null(get(sizes[i]));
        assert_null(hsb__arena_alloc(&arena, &pool, sizes[i], 1 << 20));
    }
    assert_null(arena);
}

/* A large piece gets a block to itself, and the small ones go on where they were. */
static void a_large_piece_ends_no_block(void **state)
{
    char *a = get(16), *large = get(HSB__ARENA_BLOCK), *b = get(16);
    (void)state;
    assert_non_null(large);
    assert_ptr_equal(a + 16, b);
}

/* Of two blocks the one with more space left goes on: here the older, by 16 bytes. */
static void the_block_with_more_space_goes_on(void **state)
{
    (void)state;
    assert_non_null(get(480));
    const size_t left = arena->size - arena->used;
    char *next = (char *)arena + arena->used;
    const size_t size = 2 * arena->size;            /* of the second block */
    assert_non_null(get(size - sizeof(hsb__arena) - left + 16));
    assert_int_equal(held(), size / 2 + size);
    assert_ptr_equal(get(left), next);
    assert_int_equal(held(), size / 2 + size);
}

static void without_memory_nothing_has_changed(void **state)
{
    (void)state;
    failing = 0;
    assert_null(get(10));
    assert_null(arena);
    failing = -1;
    char *a = get(10);
    failing = 0;
    assert_null(get(HSB__ARENA_BLOCK));
    assert_int_equal(arena->given, 16);
    assert_ptr_equal(get(10), a + 16);          /* there is room for it in the first block */
}

/* What one request needed serves the next. */
static void blocks_come_from_the_pool(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        failing = round > 0 && HSB__POOL_KEEP > 0 ? 0 : -1;
        for (int i = 0; i < 500; i++)
            assert_non_null(get((size_t)i));
        hsb__arena_release(&arena, &pool);
    }
    assert_true(HSB__POOL_KEEP == 0 || pool.kept == memory.used);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(pieces_are_apart_and_aligned), TEST(nothing_is_a_piece_too),
        TEST(the_limit_counts_in_sixteens), TEST(what_no_machine_has_is_refused),
        TEST(a_large_piece_ends_no_block), TEST(the_block_with_more_space_goes_on),
        TEST(without_memory_nothing_has_changed), TEST(blocks_come_from_the_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
