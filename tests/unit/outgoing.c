/* >>outgoing: bytes first, then the source, whatever the size of the pulls. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"

static hsb__memory memory;
static hsb__pool pool = { .memory = &memory };

static void fill(hsb__outgoing *o, const char *bytes)
{
    memset(o, 0, sizeof *o);
    o->bytes.pool = &pool;
    assert_true(hsb__buffer_append_text(&o->bytes, bytes));
}

/* Everything, in pulls of at most step bytes. */
static size_t drain(hsb__outgoing *o, size_t step, char *out, size_t size)
{
    size_t total = 0;
    while (!hsb__outgoing_empty(o)) {
        uint64_t before = hsb__outgoing_len(o);
        size_t want = step < size - total ? step : size - total;
        ptrdiff_t n = hsb__outgoing_pull(o, out + total, want);
        assert_true(n > 0);
        assert_true(hsb__outgoing_len(o) < before);
        total += (size_t)n;
    }
    return total;
}

static void released(void *arg)
{
    ++*(int *)arg;
}

static void bytes_then_borrowed_bytes(void **state)
{
    (void)state;
    for (size_t step = 1; step < 20; step++) {
        hsb__outgoing o;
        char out[64];
        int count = 0;
        fill(&o, "head:");
        hsb__source *s = hsb__outgoing_add_source(&o);
        assert_non_null(s);
        s->bytes = "body of somebody";
        s->release = released;
        s->arg = &count;
        s->left = 16;
        assert_int_equal(hsb__outgoing_len(&o), 21);
        assert_int_equal(drain(&o, step, out, sizeof out), 21);
        assert_memory_equal(out, "head:body of somebody", 21);
        assert_int_equal(count, 1);
        hsb__outgoing_clear(&o);
        assert_int_equal(count, 1);
    }
}

static FILE *ten_digits(void)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    fputs("0123456789", f);
    fflush(f);
    return f;
}

static void a_part_of_a_file(void **state)
{
    (void)state;
    for (size_t step = 1; step < 20; step++) {
        FILE *f = ten_digits();
        hsb__outgoing o;
        char out[64];
        fill(&o, "head:");
        hsb__source *s = hsb__outgoing_add_source(&o);
        assert_non_null(s);
        s->fd = dup(fileno(f));
        s->from = 7;
        s->left = 2;
        assert_int_equal(hsb__outgoing_len(&o), 7);
        assert_int_equal(drain(&o, step, out, sizeof out), 7);
        assert_memory_equal(out, "head:78", 7);
        hsb__outgoing_clear(&o);
        fclose(f);
    }
}

static void a_file_that_shrinks_is_an_error(void **state)
{
    FILE *f = ten_digits();
    hsb__outgoing o;
    char out[64];
    (void)state;
    fill(&o, "x");
    hsb__source *s = hsb__outgoing_add_source(&o);
    s->fd = dup(fileno(f));
    s->left = 20;
    assert_int_equal(hsb__outgoing_pull(&o, out, 5), 5);
    assert_int_equal(hsb__outgoing_pull(&o, out, sizeof out), -1);
    hsb__outgoing_clear(&o);
    assert_true(hsb__outgoing_empty(&o));
    fclose(f);
}

static int end(void **state)
{
    (void)state;
    hsb__pool_close(&pool);
    return memory.used == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(bytes_then_borrowed_bytes, end),
        cmocka_unit_test_teardown(a_part_of_a_file, end),
        cmocka_unit_test_teardown(a_file_that_shrinks_is_an_error, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
