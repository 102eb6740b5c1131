/* >>tls13, the group X25519MLKEM768 with the application's ML-KEM.  The hook here only plays
   one: the client knows the secret without decapsulating.  tests/tls/hybrid.c has a real one. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"
#include "tls13_help.h"

enum { HYBRID = 0x11EC };

static struct { int calls; bool fails; unsigned char key[1184]; } hook;

static void fill(unsigned char *out, size_t len, unsigned char first)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)(first + i * 7);
}

static bool encapsulate(const uint8_t key[1184], uint8_t ciphertext[1088], uint8_t secret[32],
                        void *user)
{
    assert_ptr_equal(user, &hook);
    memcpy(hook.key, key, sizeof hook.key);
    hook.calls++;
    fill(ciphertext, 1088, 3);
    fill(secret, 32, 5);
    return !hook.fails;
}

static void open_server(play *p, bool has_hook)
{
    hsb_security_desc desc = help_usual();
    memset(&hook, 0, sizeof hook);
    desc.ml_kem_768 = has_hook ? encapsulate : NULL;
    desc.ml_kem_user = &hook;
    play_server_with(p, desc, false, false);
}

static c13 *open_client(play *p)
{
    c13 *c = play_client(p);
    fill(c->ml_kem, sizeof c->ml_kem, 1);
    fill(c->ml_kem_secret, 32, 5);
    return c;
}

/* The hook got the client's key, and the client what the hook made. */
static void expect_hybrid(c13 *c)
{
    unsigned char ciphertext[1088];
    fill(ciphertext, sizeof ciphertext, 3);
    expect_open(c);
    assert_int_equal(c->group, HYBRID);
    assert_int_equal(hook.calls, 1);
    assert_memory_equal(hook.key, c->ml_kem, sizeof hook.key);
    assert_memory_equal(c->ml_kem_got, ciphertext, sizeof ciphertext);
    assert_string_equal(hsb__tls_info_of(c->t)->group, "X25519MLKEM768");
    exchange(c);
    hook.calls = 0;
}

static void is_preferred(void **state)
{
    static const struct { unsigned groups[4], shares[4]; unsigned group; bool retry; } cases[] = {
        { { HYBRID }, { HYBRID }, HYBRID, false },
        { { HYBRID, 29 }, { HYBRID, 29 }, HYBRID, false },
        { { 29, 23, HYBRID }, { 29, 23, HYBRID }, HYBRID, false },
        { { HYBRID, 29 }, { 29 }, 29, false },          /* not worth another round trip       */
        { { HYBRID, 23 }, { 23 }, 23, false },
        { { 29, HYBRID }, { 1 }, HYBRID, true },
        { { 29, 23 }, { 29 }, 29, false },
    };
    play p;
    (void)state;
    open_server(&p, true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        c13_hello h = { .suites = { 0x1301 + (unsigned)i % 3 }, .name = "localhost" };
        memcpy(h.groups, cases[i].groups, sizeof h.groups);
        memcpy(h.shares, cases[i].shares, sizeof h.shares);
        c13 *c = open_client(&p);
        c13_handshake(c, &h);
        assert_int_equal(c->group, cases[i].group);
        assert_int_equal(hook.calls, cases[i].group == HYBRID);
        if (cases[i].group == HYBRID)
            expect_hybrid(c);
        expect_open(c);
        exchange(c);
        assert_int_equal(c->messages.at[0], cases[i].retry ? 254 : 1);
        const c13_ticket ticket = c->tickets[0];
        play_end(&p);
        if (cases[i].group != HYBRID)
            continue;
        c = open_client(&p);                            /* resumed with a new exchange        */
        h.ticket = &ticket;
        c13_handshake(c, &h);
        assert_true(c->resumed);
        expect_hybrid(c);
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* As a browser's comes: 1.8 KB, over two segments and two records, cut anywhere. */
static void over_two_records(void **state)
{
    play p;
    (void)state;
    open_server(&p, true);
    for (size_t cut = 1; cut < 1800; cut += cut < 20 || cut > 1400 ? 7 : 113)
        for (int segment = 0; segment < 3; segment++) {
            c13_bytes *m = calloc(2, sizeof *m), *all = m + 1;
            const c13_hello h = { .groups = { HYBRID, 29 }, .shares = { HYBRID, 29 },
                                  .name = "localhost", .padding = 450 };
            c13 *c = open_client(&p);
            c13_make_hello(c, &h, m);
            assert_within(m->len, 1801, 1899);
            c13_put(&c->messages, m->at, m->len);
            unsigned char record[2048];
            c13_put(all, record, c13_clear(record, 22, m->at, cut));
            c13_put(all, record, c13_clear(record, 22, m->at + cut, m->len - cut));
            const size_t segments[3] = { 0, 1460, cut + 5 };
            assert_true(c13_feed(c, all->at, all->len, segments[segment]));
            c13_finish(c);
            expect_hybrid(c);
            play_end(&p);
            free(m);
        }
    help_server_close(&p.s);
}

static void wrong_shares(void **state)
{
    static unsigned char share[1184 + 64];
    play p;
    (void)state;
    open_server(&p, true);
    for (size_t len = 1; len <= sizeof share; len += len == 1 ? 31 : len < 1150 ? 1120 : 1) {
        c13 *c = open_client(&p);
        c13_hello_send(c, &(c13_hello){ .groups = { HYBRID }, .share = share, .share_len = len });
        expect_alert(c, 47, "a hybrid share of another length, or with a point of zeros");
        assert_int_equal(hook.calls, len == 1184 + 32);
        hook.calls = 0;
        play_end(&p);
    }
    hook.fails = true;
    c13 *c = open_client(&p);
    c13_hello_send(c, &(c13_hello){ .groups = { HYBRID, 29 }, .shares = { HYBRID, 29 } });
    expect_alert(c, 47, "the hook fails");
    assert_int_equal(hook.calls, 1);
    play_end(&p);
    help_server_close(&p.s);
}

/* Nothing changes: what a client offers of it is passed over. */
static void without_a_hook(void **state)
{
    play p;
    (void)state;
    open_server(&p, false);
    for (int order = 0; order < 2; order++) {
        c13 *c = open_client(&p);
        c13_handshake(c, &(c13_hello){ .groups = { order ? 29 : HYBRID, order ? HYBRID : 29 },
                                       .shares = { order ? 29 : HYBRID, order ? HYBRID : 29 } });
        expect_open(c);
        assert_int_equal(c->group, 29);
        assert_string_equal(hsb__tls_info_of(c->t)->group, "x25519");
        exchange(c);
        play_end(&p);
    }
    c13 *c = open_client(&p);
    c13_hello_send(c, &(c13_hello){ .groups = { HYBRID, 29 }, .shares = { HYBRID } });
    assert_true(c->retry);
    assert_int_equal(c->group, 29);
    play_end(&p);
    c = open_client(&p);
    c13_hello_send(c, &(c13_hello){ .groups = { HYBRID }, .shares = { HYBRID } });
    expect_alert(c, 40, "the hybrid only");
    play_end(&p);
    assert_int_equal(hook.calls, 0);
    help_server_close(&p.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_preferred),
        cmocka_unit_test(over_two_records),
        cmocka_unit_test(wrong_shares),
        cmocka_unit_test(without_a_hook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
