/* The memory of TLS connections: what rests, what is allocated, what is wiped. */
static const char *failing;             /* the system call that fails */
#define HSB_FAULT(call, count) ((void)(count), failing && !strcmp(call, failing) ? EIO : 0)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

static void resting(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    assert_false(hsb__tls_sleep(p.tls));         /* not in a handshake */
    help_run(&p);
    for (int i = 0; i < 20; i++) {
        assert_true(hsb__tls_sleep(p.tls));
        assert_null(p.tls->io);
        assert_true(hsb__tls_sleep(p.tls));
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
        assert_int_equal(hsb__tls_plain(p.tls).len, 0);
        assert_int_equal(hsb__tls_records(p.tls).len, 0);
        hsb__tls_flush(p.tls);
        assert_null(p.tls->io);
        size_t other_size = HSB__TLS_IO;  /* somebody else has it */
        void *other = hsb__pool_get(&s.blocks, &other_size);
        memset(other, 0xA5, other_size);
        if (i % 2) {
            help_exchange(&p);
        } else {
            help_server_write(&p, "unasked", 7);
            assert_false(hsb__tls_sleep(p.tls));                     /* a record waits */
            assert_string_equal(help_client_read(&p), "unasked");
        }
        hsb__pool_put(&s.blocks, other, other_size);
    }
    size_t room;
    *hsb__tls_writable(p.tls, &room) = 'x';
    assert_true(hsb__tls_sleep(p.tls));          /* room alone says nothing */
    *hsb__tls_writable(p.tls, &room) = 'x';
    hsb__tls_written(p.tls, 1);
    assert_false(hsb__tls_sleep(p.tls));         /* not flushed */
    hsb__tls_flush(p.tls);
    assert_string_equal(help_client_read(&p), "x");
    help_client_write(&p, "y");
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    for (size_t n = 1; n < p.held_len; n++) {
        assert_int_equal(hsb__tls_receive(p.tls, p.held + n - 1, 1), 1);
        assert_false(hsb__tls_sleep(p.tls));     /* part of a header, part of a record */
    }
    assert_int_equal(hsb__tls_receive(p.tls, p.held + p.held_len - 1, 1), 1);
    assert_false(hsb__tls_sleep(p.tls));         /* plaintext waits */
    p.held_len = 0;
    assert_string_equal(help_server_read(&p), "y");
    assert_true(hsb__tls_sleep(p.tls));
    hsb__tls_shut(p.tls);
    assert_false(hsb__tls_sleep(p.tls));
    help_close(&p);
    help_server_close(&s);
    assert_true(sizeof(hsb__tls) < 4128 + 600);
}

/* A maximum fragment length stays with the client that asked for it, in a pool of contexts. */
static void fragment_length(void **state)
{
    const hsb_security_desc desc = help_usual();
    static char page[3000];
    (void)state;
    memset(page, 'p', sizeof page - 1);
    help_server s;
    help_server_open(&s, &desc);
    for (int i = 0; i < 4; i++) {
        const help_client small = { .fragment = TLSEXT_max_fragment_length_512 };
        const help_client large = { 0 };
        help_pair p;
        help_open(&p, &s, i % 2 ? &large : &small);
        help_run(&p);
        help_expect_open(&p);
        size_t room;
        assert_non_null(hsb__tls_writable(p.tls, &room));
        assert_int_equal(room, i % 2 ? 16384 : 512);
        assert_true(hsb__tls_sleep(p.tls));
        assert_non_null(hsb__tls_writable(p.tls, &room));
        assert_int_equal(room, i % 2 ? 16384 : 512);
        help_server_write(&p, page, sizeof page - 1);
        assert_string_equal(help_client_read(&p), page);
        help_close(&p);
    }
    assert_int_equal(s.pool.unused_count, 1);
    help_server_close(&s);
}

static void steady_state_allocates_nothing(void **state)
{
    hsb_security_desc desc = help_usual();
    help_memory of_server = { 0 }, of_security = { 0 };
    (void)state;
    desc.allocator = (hsb_allocator){ help_alloc, help_release, &of_security };
    desc.session_cache_bytes = 2048;            /* full after a few */
    help_server s;
    help_server_open(&s, &desc);
    s.memory.user = (hsb_allocator){ help_alloc, help_release, &of_server };
    help_client client = { .name = "localhost" };
    for (int i = 0; i < 40; i++) {
        if (i == 20)
            of_server.count = of_security.count = 0;
        client.session = NULL;
        client.session = help_visit(&s, &client, false);
        SSL_SESSION_free(help_visit(&s, &client, true));
        SSL_SESSION_free(client.session);
    }
    assert_int_equal(of_server.count, 0);
    assert_int_equal(of_security.count, 0);
    help_server_close(&s);
}

static void every_allocation_fails_once(void **state)
{
    hsb_security_desc desc = help_usual();
    (void)state;
    desc.trusted.path = DATA "ca.pem";
    help_memory m = { 0 };
    bool went_well = false;
    for (int n = 1; !went_well; n++) {
        help_server s;
        help_server_open(&s, &desc);
        s.require = true;
        s.memory.user = (hsb_allocator){ help_alloc, help_release, &m };
        m.count = 0;
        m.fail_at = n;
        help_client client = { .cert = DATA "client-intermediate.pem",
                               .key = DATA "client-intermediate.key" };
        help_pair p;
        memset(&p, 0, sizeof p);
        p.tls = hsb__tls_open(&s.pool, s.security, false, true);
        if (p.tls) {
            hsb__tls_release(&s.pool, p.tls);
            help_open(&p, &s, &client);
            help_run(&p);
            hsb__tls_sleep(p.tls);
            hsb__pool_close(&s.blocks);
            if (hsb__tls_phase_of(p.tls) == HSB__TLS_OPEN) {
                size_t room;
                if (hsb__tls_writable(p.tls, &room)) {
                    went_well = m.count < n;
                    help_exchange(&p);
                    assert_non_null(help_info(&p)->client);
                }
            }
            if (hsb__tls_phase_of(p.tls) == HSB__TLS_DEAD)
                assert_string_equal(help_error(&p), "out of memory");
            help_close(&p);
        }
        m.fail_at = 0;
        help_server_close(&s);
        assert_true(n < 50);
    }
}

static void no_randomness(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    failing = "getentropy";
    assert_null(hsb__tls_open(&s.pool, s.security, false, false));
    failing = NULL;
    hsb__tls *t = hsb__tls_open(&s.pool, s.security, false, false);
    hsb__tls_release(&s.pool, t);
    failing = "getentropy";                     /* one that was used has all it needs         */
    t = hsb__tls_open(&s.pool, s.security, false, false);
    assert_non_null(t);
    hsb__tls_release(&s.pool, t);
    failing = NULL;
    help_server_close(&s);
}

/* The master secret of a connection is nowhere when it is over, but in the cache; and
   nowhere at all when the cache is gone. */
static void secrets_are_wiped(void **state)
{
    hsb_security_desc desc = help_usual();
    help_memory m = { 0 };
    unsigned char secret[48];
    (void)state;
    desc.allocator = (hsb_allocator){ help_alloc, help_release, &m };
    help_server s;
    help_pair p;
    const help_client client = { 0 };
    help_server_open(&s, &desc);
    s.memory.user = desc.allocator;
    help_open(&p, &s, &client);
    help_run(&p);
    help_expect_open(&p);
    assert_int_equal(SSL_SESSION_get_master_key(SSL_get_session(p.ssl), secret, 48), 48);
    m.secret = secret;
    m.secret_len = sizeof secret;
    assert_memory_equal(s.security->sessions.newest->secret, secret, sizeof secret);
    assert_null(memmem(p.tls, sizeof *p.tls, secret, sizeof secret));
    help_close(&p);
    for (const hsb__tls *t = s.pool.unused; t; t = t->next)
        assert_null(memmem(t, sizeof *t, secret, sizeof secret));
    help_server_close(&s);
    assert_false(m.leaked);
}

static void pool_is_bounded(void **state)
{
    const hsb_security_desc desc = help_usual();
    hsb__tls *open[HSB__TLS_KEEP + 10];
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (int i = 0; i < HSB__TLS_KEEP + 10; i++)
        assert_non_null(open[i] = hsb__tls_open(&s.pool, s.security, false, false));
    for (int i = 0; i < HSB__TLS_KEEP + 10; i++)
        hsb__tls_release(&s.pool, open[i]);
    assert_int_equal(s.pool.unused_count, HSB__TLS_KEEP);
    hsb__tls_release(&s.pool, NULL);
    help_server_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resting),
        cmocka_unit_test(fragment_length),
        cmocka_unit_test(steady_state_allocates_nothing),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(no_randomness),
        cmocka_unit_test(secrets_are_wiped),
        cmocka_unit_test(pool_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
