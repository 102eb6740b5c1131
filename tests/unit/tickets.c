/* >>inbox: tickets that are made up, or used when it is too late. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"

static void never(hsb_request *req, void *arg)
{
    (void)req;
    (void)arg;
    fail();
}

static bool use(hsb__inbox *in, uint64_t id)
{
    hsb__resume fn = { .request = never };
    return hsb__inbox_settle(in, id, false, fn, false, NULL);
}

/* An id says which place of the table it means: none beyond the table is looked at. */
static void an_id_beyond_the_table(void **state)
{
    static const hsb_allocator standard;
    hsb_error err;
    uint32_t list = 0;
    int owner;
    (void)state;
    hsb__inbox *in = hsb__inbox_new(&standard, &err);
    assert_non_null(in);
    assert_false(use(in, 1));                           /* there is no table yet             */
    const uint64_t id = hsb__inbox_promise(in, &owner, false, &list);
    assert_true(id != 0);
    const uint64_t generation = id >> 32 << 32;
    for (uint64_t at = 0; at < 4; at++)
        assert_false(use(in, generation | (in->space + 1 + at)));
    assert_false(use(in, generation | UINT32_MAX));
    assert_false(use(in, generation));
    assert_false(use(in, UINT64_MAX));
    assert_false(use(in, id + ((uint64_t)1 << 32)));
    assert_true(use(in, id));
    hsb__promise p;
    assert_true(hsb__inbox_take(in, &p));
    hsb__inbox_release(in);
}

static void *get(size_t size, void *user)
{
    (void)user;
    return malloc(size);
}

static void give(void *ptr, size_t size, void *user)
{
    void **watched = user;
    (void)size;
    if (ptr == *watched)
        *watched = NULL;
    free(ptr);
}

/* After the close a ticket is used up without effect, once: the second time must not give up the
   inbox, which belongs to the other tickets. */
static void twice_after_the_close(void **state)
{
    void *alive = NULL;
    const hsb_allocator watching = { get, give, &alive };
    hsb_error err;
    uint32_t list = 0;
    int owner;
    (void)state;
    hsb__inbox *in = hsb__inbox_new(&watching, &err);
    assert_non_null(in);
    alive = in;
    const uint64_t first = hsb__inbox_promise(in, &owner, false, &list),
                   second = hsb__inbox_promise(in, &owner, false, &list);
    assert_true(first && second);
    hsb__inbox_orphan(in, &list);
    hsb__inbox_close(in);
    hsb__inbox_release(in);
    assert_false(use(in, first));
    assert_non_null(alive);
    assert_false(use(in, first));
    assert_non_null(alive);
    assert_false(use(in, second));
    assert_null(alive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_beyond_the_table),
        cmocka_unit_test(twice_after_the_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
