/* >>peers: counts of addresses, against a model that counts by comparing. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "random.h"

#include "help.h"

static hsb__memory memory;
static hsb__peers peers;

static hsb_address at(const char *number)
{
    hsb_address a;
    assert_true(hsb__address_parse(&a, number));
    return a;
}

static void one_host_is_one_v4_address_or_a_v6_network(void **state)
{
    static const struct { const char *a, *b; bool same; } cases[] = {
        { "192.0.2.1", "192.0.2.1", true }, { "192.0.2.1", "192.0.2.2", false },
        { "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true },
        { "2001:db8:1:2::1", "2001:db8:1:3::1", false },
        { "0.0.0.0", "::1", false }, { "0.0.0.1", "0:0:0:1::", false },
    };
    (void)state;
    assert_true(hsb__peers_open(&peers, &memory));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hsb_address a = at(cases[i].a), b = at(cases[i].b);
        a.port = 1;
        b.port = 2;                         /* which does not matter                       */
        hsb__peer *one = hsb__peers_enter(&peers, &a), *other = hsb__peers_enter(&peers, &b);
        assert_int_equal(one == other, cases[i].same);
        assert_int_equal(one->connections, cases[i].same ? 2 : 1);
        hsb__peers_leave(&peers, one);
        hsb__peers_leave(&peers, other);
        assert_int_equal(peers.count, 0);
    }
    hsb__peers_close(&peers);
    assert_int_equal(memory.used, 0);
}

static void it_counts_as_a_model_does(void **state)
{
    enum { ADDRESSES = 1000, MOST = 5000 };
    static hsb__peer *open[MOST];
    static int which[MOST], expected[ADDRESSES];
    int count = 0;
    (void)state;
    assert_true(hsb__peers_open(&peers, &memory));
    for (int round = 0; round < 100000; round++) {
        if (count < MOST && random_below(100) < (round < 50000 ? 55u : 45u)) {
            hsb_address a = at("10.0.0.0");
            int i = (int)random_below(ADDRESSES);
            a.bytes[1] = (uint8_t)(i >> 8);
            a.bytes[3] = (uint8_t)i;
            which[count] = i;
            open[count] = hsb__peers_enter(&peers, &a);
            assert_non_null(open[count]);
            assert_int_equal(open[count++]->connections, ++expected[i]);
        } else if (count > 0) {
            int i = (int)random_below((size_t)count--);
            expected[which[i]]--;
            hsb__peers_leave(&peers, open[i]);
            open[i] = open[count];
            which[i] = which[count];
        }
    }
    int present = 0, longest = 0;
    for (int i = 0; i < ADDRESSES; i++)
        present += expected[i] > 0;
    assert_int_equal(peers.count, present);
    assert_true(peers.space <= 1024 && peers.space >= 512);
    for (size_t i = 0; i < peers.space; i++) {
        int length = 0;
        for (hsb__link *l = hsb__link_first(&peers.buckets[i]); l;
             l = hsb__link_next(&peers.buckets[i], l))
            length++;
        longest = length > longest ? length : longest;
    }
    assert_true(longest < 12);
    while (count > 0)
        hsb__peers_leave(&peers, open[--count]);
    assert_int_equal(peers.count, 0);
    hsb__peers_close(&peers);
    assert_int_equal(memory.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_host_is_one_v4_address_or_a_v6_network),
        cmocka_unit_test(it_counts_as_a_model_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
