/* >>security's session cache: what nobody can resume any more leaves memory as others come. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "keys_help.h"

static void save(hsb__sessions *all, unsigned char id, uint64_t until_us, int64_t until_wall)
{
    hsb__session s;
    memset(&s, 0, sizeof s);
    memset(s.id, id, sizeof s.id);
    memset(s.secret, 0x80 | id, sizeof s.secret);
    s.until_us = until_us;
    s.until_wall = until_wall;
    hsb__sessions_save(all, &s, NULL);
}

static int count(const hsb__sessions *all)
{
    int n = 0;
    for (const hsb__session *s = all->newest; s; s = s->older)
        n++;
    return n;
}

static bool has(hsb__sessions *all, unsigned char id)
{
    unsigned char bytes[32];
    memset(bytes, id, sizeof bytes);
    return *hsb__sessions_find(all, bytes) != NULL;
}

/* Each save drops a few that expired, by age or with their client's certificate; and it wipes
   them.  One that was used is among the newest, and its turn comes when it is the oldest. */
static void expired_sessions_leave(void **state)
{
    unsigned char secret[48];
    help_memory help = { 0 };
    hsb__memory m = help_memory_of(&help);
    hsb__sessions all;
    (void)state;
    memset(&all, 0, sizeof all);
    memset(secret, 0x80 | 3, sizeof secret);
    help.secret = secret;
    help.secret_len = sizeof secret;
    assert_true(hsb__sessions_open(&all, &m, 1 << 16, 3600));
    const uint64_t later = hsb__os_now_us() + 1000000000u;
    for (unsigned char id = 1; id <= 10; id++)
        save(&all, id, later, INT64_MAX);
    assert_int_equal(count(&all), 10);
    for (hsb__session *s = all.newest; s; s = s->older)
        if (s->id[0] <= 6 && s->id[0] != 2)
            *(s->id[0] == 3 ? (uint64_t *)&s->until_wall : &s->until_us) = 0;
    const size_t used = all.used;
    save(&all, 11, later, INT64_MAX);           /* of the oldest four, 1 to 4, all but 2     */
    assert_int_equal(count(&all), 8);
    assert_int_equal(all.used, used - 2 * hsb__session_size(0));
    assert_true(has(&all, 2) && !has(&all, 1) && !has(&all, 3) && !has(&all, 4) && has(&all, 5));
    assert_int_equal(m.used, all.used);
    save(&all, 11, later, INT64_MAX);           /* also when it is not added                 */
    assert_int_equal(count(&all), 6);
    assert_true(has(&all, 2) && !has(&all, 5) && !has(&all, 6) && has(&all, 7));
    save(&all, 12, later, INT64_MAX);
    assert_int_equal(count(&all), 7);
    assert_false(help.leaked);
    hsb__sessions_close(&all);
    assert_int_equal(m.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expired_sessions_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
