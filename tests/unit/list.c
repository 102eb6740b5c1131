/* >>list: against a model, an array of numbers. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "random.h"

#include <setjmp.h>
#include <cmocka.h>

enum { MANY = 20 };

typedef struct item { int number; hsb__link link; } item;
static item items[MANY];

typedef struct model { int numbers[MANY], count; } model;

static void must_equal(const hsb__link *list, const model *m)
{
    const hsb__link *link = hsb__link_first(list);
    for (int i = 0; i < m->count; i++) {
        assert_non_null(link);
        assert_int_equal(HSB__OWNER(item, link, link)->number, m->numbers[i]);
        assert_true(hsb__link_is_listed(link));
        link = hsb__link_next(list, link);
    }
    assert_null(link);
}

static void model_remove(model *m, int number)
{
    int kept = 0;
    for (int i = 0; i < m->count; i++)
        if (m->numbers[i] != number)
            m->numbers[kept++] = m->numbers[i];
    m->count = kept;
}

static void zeroed_is_empty(void **state)
{
    hsb__link list = { NULL, NULL }, other = { NULL, NULL };
    (void)state;
    assert_null(hsb__link_first(&list));
    hsb__link_remove(&items[0].link);               /* in no list: nothing happens          */
    hsb__link_move_all(&other, &list);
    assert_null(hsb__link_first(&other));
    hsb__link_add(&list, &items[0].link);
    hsb__link_remove(&items[0].link);
    assert_false(hsb__link_is_listed(&items[0].link));
    assert_null(hsb__link_first(&list));            /* empty again, but not zeroed          */
    hsb__link_move_all(&other, &list);
    assert_null(hsb__link_first(&other));
}

static void it_does_what_an_array_does(void **state)
{
    static hsb__link lists[2];
    static model models[2];
    (void)state;
    for (int i = 0; i < MANY; i++)
        items[i].number = i;
    for (int round = 0; round < 20000; round++) {
        int which = (int)random_below(2), i = (int)random_below(MANY);
        if (random_below(50) == 0) {
            hsb__link moved;
            hsb__link_move_all(&moved, &lists[which]);
            must_equal(&moved, &models[which]);
            assert_null(hsb__link_first(&lists[which]));
            hsb__link_move_all(&lists[which], &moved);
        } else if (hsb__link_is_listed(&items[i].link)) {
            hsb__link_remove(&items[i].link);
            model_remove(&models[0], i);
            model_remove(&models[1], i);
        } else {
            hsb__link_add(&lists[which], &items[i].link);
            models[which].numbers[models[which].count++] = i;
        }
        must_equal(&lists[0], &models[0]);
        must_equal(&lists[1], &models[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_is_empty),
        cmocka_unit_test(it_does_what_an_array_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
