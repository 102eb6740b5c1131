/* Which sessions are resumed, and that none is for anybody but its owner. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* --- resumption ------------------------------------------------------------------- */

static void resumption(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client none = { 0 }, name = { .name = "localhost" },
                      other = { .name = "other.test" }, same = { .name = "LocalHost" },
                      dot = { .name = "localhost." },
                      ip4 = { .name = "127.0.0.1" }, ip6 = { .name = "::1" },
                      invalid = { .name = "a..b" }, half = { .name = "127.1" },
                      alpn = { .alpn = "\x08http/1.1" },
                      more = { .alpn = "\x02h2\x08http/1.1" },
                      suite = { .suites = AES256 }, suite2 = { .suites = CHACHA ":" AES128 };
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    help_twice(&s, none, none, true);
    help_twice(&s, name, name, true);
    help_twice(&s, name, same, true);
    help_twice(&s, name, dot, true);
    help_twice(&s, name, other, false);
    help_twice(&s, name, none, false);
    help_twice(&s, none, name, false);
    help_twice(&s, alpn, alpn, true);
    help_twice(&s, alpn, more, true);
    help_twice(&s, alpn, none, false);
    help_twice(&s, none, alpn, false);
    help_twice(&s, more, more, true);
    help_twice(&s, ip4, ip4, true);          /* an address counts as no name */
    help_twice(&s, ip6, ip4, true);
    help_twice(&s, ip6, none, true);
    help_twice(&s, none, ip4, true);
    help_twice(&s, name, ip4, false);
    help_twice(&s, invalid, invalid, false);
    help_twice(&s, half, half, false);
    help_twice(&s, none, half, false);
    help_twice(&s, suite, suite, true);
    help_twice(&s, suite, suite2, false);
    help_server_close(&s);
}

static void resumption_binds_to_the_setting(void **state)
{
    hsb_security_desc desc = help_usual();
    const help_client client = { .cert = DATA "client-p256.pem",
                                 .key = DATA "client-p256.key" };
    (void)state;
    desc.trusted.path = DATA "ca.pem";
    help_server s;
    help_server_open(&s, &desc);
    for (int first = 0; first < 3; first++)
        for (int second = 0; second < 3; second++) {
            help_client again = client;
            s.request = first == 1;
            s.require = first == 2;
            again.session = help_visit(&s, &client, false);
            s.request = second == 1;
            s.require = second == 2;
            SSL_SESSION_free(help_visit(&s, &again, first == second));
            SSL_SESSION_free(again.session);
        }
    help_server_close(&s);
}

static void resumption_binds_to_the_security(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s, renewed;
    help_server_open(&s, &desc);
    help_server_open(&renewed, &desc);
    help_client client = { .name = "localhost" };
    client.session = help_visit(&s, &client, false);
    SSL_SESSION_free(help_visit(&renewed, &client, false));
    SSL_SESSION_free(help_visit(&s, &client, true));
    SSL_SESSION_free(client.session);
    help_server_close(&renewed);
    help_server_close(&s);
}

static void resumption_ends(void **state)
{
    hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    help_client client = { .name = "localhost" };
    client.session = help_visit(&s, &client, false);
    SSL_SESSION_free(help_visit(&s, &client, true));
    hsb__session *session = s.security->sessions.newest;
    assert_true(session->until_us > hsb__os_now_us() + 3590u * 1000000u);
    assert_true(session->until_us <= hsb__os_now_us() + 3600u * 1000000u);
    session->until_us = hsb__os_now_us();
    SSL_SESSION_free(help_visit(&s, &client, false));
    SSL_SESSION_free(client.session);
    help_server_close(&s);

    desc.session_cache_bytes = -1;
    help_server_open(&s, &desc);
    client.session = NULL;
    client.session = help_visit(&s, &client, false);
    SSL_SESSION_free(help_visit(&s, &client, false));
    SSL_SESSION_free(client.session);
    help_server_close(&s);
}

/* --- with the certificate of the client ------------------------------------------- */

/* Whoever has seen a session ID on the wire (it is not secret) may offer it.  As long as he
   does not have the master secret, he gets nothing of its owner's. */
static void stolen_session_id(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    help_client owner = { .name = "localhost", .suites = AES128 ":" AES256,
                          .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
    owner.session = help_visit(&m.s, &owner, false);

    help_client thief = { .name = "localhost", .suites = AES256, .session = owner.session };
    help_open(&m.p, &m.s, &thief);              /* a suite that is not the session's */
    help_run(&m.p);
    help_expect_open(&m.p);
    assert_false(help_info(&m.p)->resumed);
    assert_null(help_info(&m.p)->client);
    help_close(&m.p);

    SSL_SESSION *forged = SSL_SESSION_dup(owner.session);
    unsigned char secret[48] = { 1, 2, 3 };
    assert_int_equal(SSL_SESSION_set1_master_key(forged, secret, sizeof secret), 1);
    thief.suites = AES128;
    thief.session = forged;
    help_open(&m.p, &m.s, &thief);
    help_run(&m.p);
    assert_int_equal(hsb__tls_phase_of(m.p.tls), HSB__TLS_DEAD);
    assert_null(hsb__tls_info_of(m.p.tls));
    help_close(&m.p);

    SSL_SESSION_free(help_visit(&m.s, &owner, true));       /* and the owner's is still good */
    SSL_SESSION_free(forged);
    SSL_SESSION_free(owner.session);
    help_server_close(&m.s);
}

/* The same one storey below: if the engine drops a session after load() took it, choose()
   is what it calls next. */
static void cancelled_hit(void **state)
{
    mutual m;
    br_ssl_server_choices choices;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    help_open(&m.p, &m.s, &(help_client){ 0 });
    help_move_client(&m.p);
    help_move_bytes(&m.p);
    hsb__tls12 *e = m.p.tls->tls12;
    e->resumed = e->verify.verified = true;
    assert_true(hsb__leaf_copy(&m.s.blocks, &e->verify.leaf, "somebody", 8));
    e->choice.class->choose(&e->choice.class, &e->server, &choices);
    assert_false(e->resumed);
    assert_false(e->verify.verified);
    assert_null(e->verify.leaf.der);
    assert_true(hsb__tls12_holds(e));
    e->resumed = true;                          /* bound to anything but what the engine read */
    assert_false(hsb__tls12_holds(e));
    help_close(&m.p);
    help_server_close(&m.s);
}

/* A session ends with the certificate that it stands for. */
static void session_outlives_nobody(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    help_client client = { .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
    client.session = help_visit(&m.s, &client, false);
    hsb__session *session = m.s.security->sessions.newest;
    assert_true(session->until_wall > hsb__os_wall());
    assert_true(session->until_wall < INT64_MAX);
    session->until_wall = hsb__os_wall() - 1;
    SSL_SESSION_free(help_visit(&m.s, &client, false));
    SSL_SESSION_free(client.session);
    help_server_close(&m.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumption),
        cmocka_unit_test(resumption_binds_to_the_setting),
        cmocka_unit_test(resumption_binds_to_the_security),
        cmocka_unit_test(resumption_ends),
        cmocka_unit_test(stolen_session_id),
        cmocka_unit_test(cancelled_hit),
        cmocka_unit_test(session_outlives_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
