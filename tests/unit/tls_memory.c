/* The memory of TLS connections: what rests, what is allocated, what is wiped. */
static const char *failing;             /* the system call that fails */
#define HSB_FAULT(call, count) ((void)(count), failing && !strcmp(call, failing) ? EIO : 0)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* Bytes of blocks that a connection has of the pool. */
static size_t held(const help_server *s)
{
    return s->memory.used - s->blocks.kept;
}

/* An idle connection owns its own block of the pool, and nothing else. */
static void sleeping_with(int version)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { .max_version = version };
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    assert_int_equal(held(&s), p.tls->size);            /* silent: no engine, no buffer */
    help_run(&p);
    help_exchange(&p);
    assert_true(hsb__tls_sleep(p.tls));
    const size_t engines = s.pool.engines.unused ? sizeof(hsb__tls12) : 0;
    assert_int_equal(engines != 0, version == TLS1_2_VERSION);
    const size_t classes = p.tls->record.classes.size;          /* the objects of TLS 1.2 */
    assert_int_equal(classes != 0, version == TLS1_2_VERSION);
    for (int i = 0; i < 20; i++) {
        assert_true(hsb__tls_sleep(p.tls));
        assert_null(p.tls->record.out);
        assert_null(p.tls->record.part.data);
        assert_null(p.tls->tls12);
        assert_null(p.tls->tls13);
        assert_int_equal(held(&s), p.tls->size + classes + engines);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
        hsb__tls_flush(p.tls);
        assert_null(p.tls->record.out);
        if (i % 2) {
            help_exchange(&p);
        } else {
            help_server_write(&p, "unasked", 7);
            assert_true(hsb__tls_sleep(p.tls));                      /* a record waits */
            assert_non_null(p.tls->record.out);
            assert_string_equal(help_client_read(&p), "unasked");
        }
    }
    size_t room;
    *hsb__tls_writable(p.tls, &room) = 'x';
    assert_true(hsb__tls_sleep(p.tls));          /* room alone says nothing */
    assert_null(p.tls->record.out);
    *hsb__tls_writable(p.tls, &room) = 'x';
    hsb__tls_written(p.tls, 1);
    assert_true(hsb__tls_sleep(p.tls));          /* not flushed */
    hsb__tls_flush(p.tls);
    assert_string_equal(help_client_read(&p), "x");
    help_client_write(&p, "y");
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    for (size_t n = 0; n < p.held_len; n++) {    /* part of a header, part of a record */
        assert_int_equal(hsb__tls_receive(p.tls, p.held + n, 1), 1);
        p.held[n] ^= 0xFF;
        assert_true(hsb__tls_sleep(p.tls));
    }
    p.held_len = 0;
    assert_string_equal(help_server_read(&p), "y");
    help_client_write(&p, "z");                  /* plaintext that lies in the caller's bytes */
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    assert_int_equal(hsb__tls_receive(p.tls, p.held, p.held_len), p.held_len);
    assert_true(hsb__tls_sleep(p.tls));
    memset(p.held, 0xA5, p.held_len);
    p.held_len = 0;
    assert_string_equal(help_server_read(&p), "z");
    assert_true(hsb__tls_sleep(p.tls));
    assert_int_equal(held(&s), p.tls->size + classes + engines);
    help_close(&p);
    help_server_close(&s);
    assert_true(sizeof(hsb__tls) <= 640);        /* a class of the pool */
}

static void sleeping(void **state)
{
    (void)state;
    sleeping_with(TLS1_2_VERSION);
    sleeping_with(TLS1_3_VERSION);
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
    assert_int_equal(s.pool.engines.unused_count, 1);
    help_server_close(&s);
}

static void steady_state_with(int version)
{
    hsb_security_desc desc = help_usual();
    help_memory of_server = { 0 }, of_security = { 0 };
    desc.allocator = (hsb_allocator){ help_alloc, help_release, &of_security };
    desc.session_cache_bytes = 2048;            /* full after a few */
    help_server s;
    help_server_open(&s, &desc);
    s.memory.user = (hsb_allocator){ help_alloc, help_release, &of_server };
    help_client client = { .max_version = version };      /* a name would be copied */
    for (int i = 0; i < 40; i++) {
        if (i == 20)
            of_server.count = of_security.count = 0;
        client.session = NULL;
        client.session = help_visit(&s, &client, false);
        SSL_SESSION_free(help_visit(&s, &client, true));
        SSL_SESSION_free(client.session);
    }
    assert_int_equal(of_server.count, 0);
    if (version == TLS1_2_VERSION)              /* a used ticket's entry is freed, and made anew */
        assert_int_equal(of_security.count, 0);
    help_server_close(&s);
}

static void steady_state_allocates_nothing(void **state)
{
    (void)state;
    steady_state_with(TLS1_2_VERSION);
    steady_state_with(TLS1_3_VERSION);
}

static void every_allocation_fails_with(int version)
{
    hsb_security_desc desc = help_usual();
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
        help_client client = { .max_version = version, .cert = DATA "client-intermediate.pem",
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

static void every_allocation_fails_once(void **state)
{
    (void)state;
    every_allocation_fails_with(TLS1_2_VERSION);
    every_allocation_fails_with(TLS1_3_VERSION);
}

/* An end of the connection, with an alert, in either version; a context of TLS 1.2 that was
   used needs nothing more. */
static void no_randomness(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    for (int again = 0; again < 2; again++)
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            const help_client client = { .max_version = version };
            help_server s;
            help_pair p;
            help_server_open(&s, &desc);
            if (again)
                SSL_SESSION_free(help_visit(&s, &client, false));
            help_open(&p, &s, &client);
            failing = "getentropy";
            help_run(&p);
            failing = NULL;
            if (again && version == TLS1_2_VERSION) {
                help_expect_open(&p);
            } else {
                assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
                assert_string_not_equal(help_error(&p), "");
                assert_int_equal(p.alert, 80);
            }
            help_close(&p);
            help_server_close(&s);
        }
}

/* The secret of a session is nowhere when the connection is over, but in the cache; and nowhere
   at all when the cache is gone. */
static void secrets_are_wiped_with(int version)
{
    hsb_security_desc desc = help_usual();
    help_memory m = { 0 };
    unsigned char secret[48];
    desc.allocator = (hsb_allocator){ help_alloc, help_release, &m };
    help_server s;
    help_pair p;
    const help_client client = { .max_version = version };
    help_server_open(&s, &desc);
    s.memory.user = desc.allocator;
    help_open(&p, &s, &client);
    help_run(&p);
    help_expect_open(&p);
    help_exchange(&p);
    const size_t len = SSL_SESSION_get_master_key(SSL_get_session(p.ssl), secret, 48);
    assert_int_equal(len, version == TLS1_3_VERSION ? 32 : 48);
    m.secret = secret;
    m.secret_len = len;
    assert_memory_equal(s.security->sessions.newest->secret, secret, len);
    assert_null(memmem(p.tls, sizeof *p.tls, secret, len));
    help_close(&p);
    for (const hsb__tls12 *t = s.pool.engines.unused; t; t = t->next)
        assert_null(memmem(t, sizeof *t, secret, len));
    help_server_close(&s);
    assert_false(m.leaked);
}

static void secrets_are_wiped(void **state)
{
    (void)state;
    secrets_are_wiped_with(TLS1_2_VERSION);
    secrets_are_wiped_with(TLS1_3_VERSION);
}

/* The keys of TLS 1.3 neither, nor what came before them. */
static void keys_are_wiped(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { .max_version = TLS1_3_VERSION };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_move_client(&p);
    help_move_bytes(&p);
    assert_non_null(p.tls->tls13);
    unsigned char stage[32], handshake[32], application[32];
    memcpy(stage, p.tls->tls13->secret, 32);
    memcpy(handshake, p.tls->record.keys.in.secret, 32);
    memcpy(application, p.tls->tls13->client_data, 32);
    hsb__tls13 *h = p.tls->tls13;
    const hsb__tls *t = p.tls;
    help_run(&p);
    help_exchange(&p);
    assert_null(p.tls->tls13);                  /* its block lies in the pool */
    assert_null(memmem(h, sizeof *h, stage, 32));
    assert_null(memmem(h, sizeof *h, application, 32));
    assert_null(memmem(t, sizeof *t, handshake, 32));
    assert_non_null(memmem(t, sizeof *t, application, 32));
    help_close(&p);
    assert_null(memmem(t, sizeof *t, application, 32));
    help_server_close(&s);
}

static void pool_is_bounded(void **state)
{
    enum { COUNT = HSB__TLS12_KEEP + 10 };
    hsb__memory memory = { 0 };
    hsb__tls12_pool pool = { .memory = &memory };
    hsb__tls12 *open[COUNT];
    (void)state;
    for (int i = 0; i < COUNT; i++)
        assert_non_null(open[i] = hsb__tls12_get(&pool));
    for (int i = 0; i < COUNT; i++)
        hsb__tls12_put(&pool, open[i]);
    assert_int_equal(pool.unused_count, HSB__TLS12_KEEP);
    hsb__tls12_pool_close(&pool);
    assert_int_equal(memory.used, 0);
    hsb__tls_release(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sleeping),
        cmocka_unit_test(fragment_length),
        cmocka_unit_test(steady_state_allocates_nothing),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(no_randomness),
        cmocka_unit_test(secrets_are_wiped),
        cmocka_unit_test(keys_are_wiped),
        cmocka_unit_test(pool_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
