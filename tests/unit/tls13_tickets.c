/* >>resume13, sealed tickets: who has the same ticket_key resumes the others' sessions, and
   nobody resumes anything else.  The clocks are the test's. */
#include <time.h>

static struct { time_t wall, monotonic; } leap;        /* seconds, of the real ones */

static int moved_clock(clockid_t clock, struct timespec *t)
{
    const int result = clock_gettime(clock, t);
    t->tv_sec += clock == CLOCK_REALTIME ? leap.wall : leap.monotonic;
    return result;
}

#define clock_gettime moved_clock
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#undef clock_gettime

#include "tls_help.h"
#include "tls13_help.h"

static const char key_a[] = "0123456789abcdef0123456789ABCDEF",
                  key_b[] = "0123456789abcdef0123456789ABCDEf";

static hsb_str text_of(const void *bytes, size_t len)
{
    return (hsb_str){ bytes, len };
}

static hsb_security_desc sealing(const char *key)
{
    hsb_security_desc desc = help_usual();
    desc.ticket_key = text_of(key, 32);
    return desc;
}

static void pass(time_t seconds)
{
    leap.wall += seconds;
    leap.monotonic += seconds;
}

/* One second after a whole hour, so that no test meets the end of one. */
static int to_the_hour(void **state)
{
    (void)state;
    memset(&leap, 0, sizeof leap);
    leap.wall = 3600 - time(NULL) % 3600 + 1;
    return 0;
}

static c13_ticket visit_with(play *p, c13_hello h, const c13_ticket *ticket, bool resumed)
{
    h.ticket = ticket;
    return visit(p, &h, resumed);
}

static const c13_hello usual = { .suites = { 0x1301 }, .name = "localhost" };

/* --- who resumes what ------------------------------------------------------------------------------- */
static void same_key(void **state)
{
    play a, b, other, cache;
    (void)state;
    play_server_with(&a, sealing(key_a), false, false);
    play_server_with(&b, sealing(key_a), false, false);
    play_server_with(&other, sealing(key_b), false, false);
    play_server(&cache, false, false);
    for (unsigned suite = 0x1301; suite <= 0x1303; suite++) {
        c13_hello h = usual;
        h.suites[0] = suite;
        c13_ticket first = visit(&a, &h, false);
        assert_int_equal(first.len, HSB__SEAL_SIZE);
        c13_ticket second = visit_with(&b, h, &first, true);
        visit_with(&a, h, &second, true);
        visit_with(&a, h, &first, true);            /* nobody knows that it was used        */
        visit_with(&other, h, &first, false);
        visit_with(&cache, h, &first, false);
        c13_ticket cached = visit(&cache, &h, false);
        assert_int_equal(cached.len, 32);
        visit_with(&a, h, &cached, false);
        visit_with(&cache, h, &cached, true);
    }
    assert_null(a.s.security->sessions.newest);     /* nothing is kept                       */
    help_server_close(&a.s);
    help_server_close(&b.s);
    help_server_close(&other.s);
    help_server_close(&cache.s);
}

/* Without a cache too: that is of no use to many machines. */
static void no_cache(void **state)
{
    hsb_security_desc desc = sealing(key_a);
    play p;
    (void)state;
    desc.session_cache_bytes = -1;
    play_server_with(&p, desc, false, false);
    c13_ticket ticket = visit(&p, &usual, false);
    visit_with(&p, usual, &ticket, true);
    help_server_close(&p.s);
}

/* RFC 8446 4.2.11.2: whoever saw a ticket on the wire has not its secret. */
static void needs_its_secret(void **state)
{
    play p;
    (void)state;
    play_server_with(&p, sealing(key_a), false, false);
    c13_ticket ticket = visit(&p, &usual, false);
    c13_hello h = usual;
    h.ticket = &ticket;
    h.wrong_binder = true;
    c13 *c = play_client(&p);
    c13_handshake(c, &h);
    expect_alert(c, 51, "wrong binder");
    play_end(&p);
    h.wrong_binder = false;
    memset(ticket.psk, 0, sizeof ticket.psk);
    c = play_client(&p);
    c13_handshake(c, &h);
    expect_alert(c, 51, "another secret");
    play_end(&p);
    help_server_close(&p.s);
}

static void bound(void **state)
{
    play p, asks, needs;
    (void)state;
    play_server_with(&p, sealing(key_a), false, false);
    play_server_with(&asks, sealing(key_a), true, false);
    play_server_with(&needs, sealing(key_a), true, true);
    c13_hello h = usual;
    h.alpn = "\x08http/1.1";
    c13_ticket ticket = visit(&p, &h, false);
    visit_with(&p, usual, &ticket, false);          /* without the protocol that was agreed   */
    visit_with(&asks, h, &ticket, false);
    h.name = "other.test";
    visit_with(&p, h, &ticket, false);
    h.name = NULL;
    visit_with(&p, h, &ticket, false);
    h.name = "LocalHost";                           /* the same name                          */
    visit_with(&p, h, &ticket, true);
    h.suites[0] = 0x1303;                           /* of the same hash: RFC 8446 4.2.11      */
    visit_with(&p, h, &ticket, true);
    h.suites[0] = 0x1302;
    ticket.suite = 0x1302;
    visit_with(&p, h, &ticket, false);
    h = usual;
    ticket = visit(&asks, &h, false);
    visit_with(&asks, h, &ticket, true);
    visit_with(&p, h, &ticket, false);
    h.ticket = &ticket;                             /* no way around a certificate            */
    c13 *c = play_client(&needs);
    c13_handshake(c, &h);
    assert_false(c->resumed);
    expect_alert(c, 116, "none was sent");
    play_end(&needs);
    help_server_close(&p.s);
    help_server_close(&asks.s);
    help_server_close(&needs.s);
}

/* Machines that share a key need not list their protocols in the same order. */
static void bound_to_a_protocol_by_its_name(void **state)
{
    static const char *const one[] = { "http/1.1", "acme", NULL }, *const two[] = { "acme", "http/1.1", NULL };
    hsb_security_desc desc = sealing(key_a);
    play a, b;
    (void)state;
    desc.alpn = one;
    play_server_with(&a, desc, false, false);
    desc.alpn = two;
    play_server_with(&b, desc, false, false);
    c13_hello http = usual, acme = usual;
    http.alpn = "\x08http/1.1";
    acme.alpn = "\x04" "acme";
    c13_ticket ticket = visit(&a, &http, false);
    visit_with(&b, acme, &ticket, false);           /* the first of each list                 */
    visit_with(&b, http, &ticket, true);
    help_server_close(&a.s);
    help_server_close(&b.s);
}

/* Clients with a certificate get the ID of an entry in the cache, whose length says so. */
static void never_with_a_certificate(void **state)
{
    play a, b;
    (void)state;
    play_server_with(&a, sealing(key_a), true, false);
    play_server_with(&b, sealing(key_a), true, false);
    c13 *c = play_client(&a);
    c13_hello_send(c, &usual);
    c13_certificate(c, DATA "client-p256.pem");
    c13_verify(c, DATA "client-p256.key", 0x0403, 0x0403, NULL);
    c13_finish(c);
    expect_open(c);
    exchange(c);
    assert_non_null(hsb__tls_info_of(c->t)->client);
    assert_int_equal(c->ticket_count, 2);
    c13_ticket ticket = c->tickets[0];
    assert_int_equal(ticket.len, 32);
    play_end(&a);
    visit_with(&b, usual, &ticket, false);
    c = play_client(&a);
    c13_hello h = usual;
    h.ticket = &ticket;
    c13_handshake(c, &h);
    expect_open(c);
    exchange(c);
    assert_true(c->resumed);
    assert_non_null(hsb__tls_info_of(c->t)->client);
    assert_int_equal(c->ticket_count, 1);           /* and no way from there to a sealed one  */
    assert_int_equal(c->tickets[0].len, 32);
    play_end(&a);
    help_server_close(&a.s);
    help_server_close(&b.s);
}

/* --- what is in a ticket ------------------------------------------------------------------------------ */
static void altered(void **state)
{
    play p;
    (void)state;
    play_server_with(&p, sealing(key_a), false, false);
    const c13_ticket ticket = visit(&p, &usual, false);
    hsb__session session;
    int64_t until;
    for (size_t i = 0; i < ticket.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            c13_ticket other = ticket;
            other.identity[i] ^= (unsigned char)(1 << bit);
            assert_false(hsb__seal_open(p.s.security, text_of(other.identity, other.len),
                                        &session, &until));
            if (bit == (int)i % 8)
                visit_with(&p, usual, &other, false);
        }
    for (size_t len = 0; len <= ticket.len + 2; len++) {
        c13_ticket other = ticket;
        if (len == 0 || len == ticket.len)
            continue;
        other.len = len;
        visit_with(&p, usual, &other, false);
    }
    visit_with(&p, usual, &ticket, true);
    help_server_close(&p.s);
}

/* Nor whom it is for, nor twice the same bytes. */
static void does_not_show_the_secret(void **state)
{
    play p;
    (void)state;
    play_server_with(&p, sealing(key_a), false, false);
    c13 *c = play_client(&p);
    c13_handshake(c, &usual);
    expect_open(c);
    exchange(c);
    assert_int_equal(c->ticket_count, 2);
    const c13_ticket *const k = c->tickets;
    assert_memory_not_equal(k[0].psk, k[1].psk, 32);
    for (int i = 0; i < 2; i++) {
        hsb__session session;
        int64_t until;
        for (int other = 0; other < 2; other++)
            for (size_t at = 0; at + 8 <= 32; at++)
                assert_null(memmem(k[i].identity, k[i].len, k[other].psk + at, 8));
        assert_true(hsb__seal_open(p.s.security, text_of(k[i].identity, k[i].len), &session,
                                   &until));
        assert_memory_equal(session.secret, k[i].psk, 32);
        assert_null(memmem(k[i].identity, k[i].len, session.binding, 8));
        assert_null(memmem(k[i].identity, k[i].len, key_a, 8));
        assert_int_equal(session.leaf_len, 0);
    }
    assert_memory_not_equal(k[0].identity + 8, k[1].identity + 8, 12);
    for (size_t at = 20; at + 8 <= HSB__SEAL_SIZE; at++)
        assert_memory_not_equal(k[0].identity + at, k[1].identity + at, 8);
    play_end(&p);
    help_server_close(&p.s);
}

/* --- time ----------------------------------------------------------------------------------------------- */
static void expired(void **state)
{
    hsb_security_desc desc = sealing(key_a), brief = desc;
    play p, shorter;
    (void)state;
    desc.session_seconds = 7200;
    brief.session_seconds = 600;
    play_server_with(&p, desc, false, false);
    play_server_with(&shorter, brief, false, false);
    const c13_ticket ticket = visit(&p, &usual, false);
    assert_within(ticket.lifetime, 7190, 7200);
    visit_with(&shorter, usual, &ticket, false);        /* longer than it allows itself       */
    pass(7190);
    c13_ticket last = visit_with(&p, usual, &ticket, true);
    assert_within(last.lifetime, 0, 10);                /* it ends when the first one does    */
    visit_with(&shorter, usual, &ticket, true);         /* within its own limit by now        */
    pass(11);
    visit_with(&p, usual, &ticket, false);
    visit_with(&p, usual, &last, false);
    help_server_close(&p.s);
    help_server_close(&shorter.s);
}

/* Each hour has a key of its own, and opens those of the hours before. */
static void keys_of_the_hours(void **state)
{
    hsb_security_desc desc = sealing(key_a);
    play p;
    c13_ticket tickets[4];
    (void)state;
    desc.session_seconds = 4 * 3600;
    play_server_with(&p, desc, false, false);
    for (int i = 0; i < 4; i++) {
        tickets[i] = visit(&p, &usual, false);
        if (i)
            assert_int_equal(c13_read(tickets[i].identity, 8),
                             c13_read(tickets[i - 1].identity, 8) + 1);
        for (int k = 0; k <= i; k++)
            visit_with(&p, usual, &tickets[k], true);
        pass(3600);
    }
    visit_with(&p, usual, &tickets[0], false);          /* expired                            */
    visit_with(&p, usual, &tickets[1], true);
    tickets[2].identity[7]++;                           /* the key of another hour            */
    visit_with(&p, usual, &tickets[2], false);
    tickets[2].identity[7] -= 2;
    visit_with(&p, usual, &tickets[2], false);
    tickets[2].identity[7]++;
    visit_with(&p, usual, &tickets[2], true);
    pass(-3600);                                        /* a machine whose clock is behind    */
    visit_with(&p, usual, &tickets[3], true);
    help_server_close(&p.s);
}

static void bad_keys(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 64; len++) {
        static const char key[64];
        hsb_security_desc desc = help_usual();
        hsb_error err;
        desc.ticket_key = text_of(key, len);
        hsb_security *s = hsb__security_new(&desc, &err);
        assert_int_equal(s != NULL, len == 32);
        if (s) {
            hsb__security_release(s);
            continue;
        }
        char text[64];
        snprintf(text, sizeof text, "ticket_key: %zu bytes, not 32", len);
        assert_int_equal(err.status, HSB_ERR_KEY);
        assert_string_equal(err.text, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(same_key, to_the_hour),
        cmocka_unit_test_setup(no_cache, to_the_hour),
        cmocka_unit_test_setup(needs_its_secret, to_the_hour),
        cmocka_unit_test_setup(bound, to_the_hour),
        cmocka_unit_test_setup(bound_to_a_protocol_by_its_name, to_the_hour),
        cmocka_unit_test_setup(never_with_a_certificate, to_the_hour),
        cmocka_unit_test_setup(altered, to_the_hour),
        cmocka_unit_test_setup(does_not_show_the_secret, to_the_hour),
        cmocka_unit_test_setup(expired, to_the_hour),
        cmocka_unit_test_setup(keys_of_the_hours, to_the_hour),
        cmocka_unit_test(bad_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
