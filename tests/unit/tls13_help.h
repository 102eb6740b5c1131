/* A server's engine and the client of TLS 1.3 that can break rules, joined; what tests ask of
   the two.  Include httpsbind.h and tls_help.h first. */
#ifndef TLS13_HELP_H
#define TLS13_HELP_H

#define C13_MUST(condition) \
    ((condition) ? (void)0 : (print_error("%s\n", #condition), _fail(__FILE__, __LINE__)))
#include "tls13_client.h"

typedef struct play { help_server s; c13 *c; } play;

/* That which trusts ca.pem, to ask for certificates. */
static inline void play_server_with(play *p, hsb_security_desc desc, bool request, bool require)
{
    desc.trusted.path = DATA "ca.pem";
    help_server_open(&p->s, &desc);
    p->s.request = request;
    p->s.require = require;
    p->c = NULL;
}

static inline void play_server(play *p, bool request, bool require)
{
    play_server_with(p, help_usual(), request, require);
}

static inline c13 *play_client(play *p)
{
    p->c = c13_new(hsb__tls_open(&p->s.pool, p->s.security, p->s.request, p->s.require));
    return p->c;
}

static inline void play_end(play *p)
{
    hsb__tls_release(&p->s.pool, p->c->t);
    c13_free(p->c);
    p->c = NULL;
}

static inline const char *error_of(const c13 *c)
{
    static hsb_error err;
    hsb__tls_error_of(c->t, &err);
    return err.status == HSB_OK ? "" : err.text;
}

/* It ended with this alert: fatal, protected if the server had keys, and told. */
static inline void expect_alert(c13 *c, int alert, const char *what)
{
    c13_pull(c);
    if (hsb__tls_phase_of(c->t) != HSB__TLS_DEAD || c->alert != alert || !error_of(c)[0])
        fail_msg("%s: phase %d, alert %d and not %d; \"%s\"", what, hsb__tls_phase_of(c->t),
                 c->alert, alert, error_of(c));
    assert_int_equal(c->level, 2);
    assert_int_equal(c->alert_protected, c->in.on);
    assert_int_equal(hsb__tls_plain(c->t).len, 0);
}

static inline void expect_open(c13 *c)
{
    c13_pull(c);
    if (hsb__tls_phase_of(c->t) != HSB__TLS_OPEN)
        fail_msg("not open: \"%s\", alert %d", error_of(c), c->alert);
}

static inline void server_writes(c13 *c, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len) {
        size_t room;
        char *to = hsb__tls_writable(c->t, &room);
        if (!to) {
            assert_true(hsb__tls_records(c->t).len > 0);
            c13_pull(c);
            continue;
        }
        const size_t n = len < room ? len : room;
        memcpy(to, at, n);
        hsb__tls_written(c->t, n);
        at += n;
        len -= n;
    }
    hsb__tls_flush(c->t);
    c13_pull(c);
}

/* A request, which the server gets; and its answer, which the client gets. */
static inline void exchange(c13 *c)
{
    c13_send(c, 23, "ping", 4);
    hsb_str plain = hsb__tls_plain(c->t);
    assert_true(hsb__text_is(plain, "ping"));
    hsb__tls_plain_used(c->t, plain.len);
    c->data.len = 0;
    server_writes(c, "pong", 4);
    assert_int_equal(c->data.len, 4);
    assert_memory_equal(c->data.at, "pong", 4);
}

/* A visit; returns a ticket of it. */
static inline c13_ticket visit(play *p, const c13_hello *h, bool resumed)
{
    c13 *c = play_client(p);
    c13_handshake(c, h);
    expect_open(c);
    exchange(c);
    assert_int_equal(c->resumed, resumed);
    assert_int_equal(hsb__tls_info_of(c->t)->resumed, resumed);
    assert_int_equal(c->ticket_count, resumed ? 1 : 2);
    const c13_ticket ticket = c->tickets[0];
    play_end(p);
    return ticket;
}

#endif
