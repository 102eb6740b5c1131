/* >>tls13 and >>resume13 with each allocation and each call for randomness failing, one after
   the other, in handshakes of every kind: the client hears why, or does not notice. */
#include <errno.h>
#include <string.h>

static struct { const char *call; int nth, seen; } failing;      /* the nth of these calls fails */

static int asked(const char *call)
{
    return failing.call && strcmp(call, failing.call) == 0 && ++failing.seen == failing.nth ? EIO : 0;
}

#define HSB_FAULT(call, count) ((void)(count), asked(call))
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"
#include "tls13_help.h"

enum { HYBRID = 0x11EC };

/* A handshake: what the client says, what the server has. */
typedef struct scene {
    const char *what;
    c13_hello hello;
    const char *identity;               /* NULL: server-p256                                 */
    bool require;                       /* a client's certificate                            */
    bool seals;                         /* its tickets                                       */
    bool resumes;                       /* with a ticket of an undisturbed visit             */
} scene;

static const scene scenes[] = {
    { "full", { .name = "localhost", .alpn = "\x08http/1.1" }, NULL, false, false, false },
    { "P-256, RSA", { .groups = { 23 } }, "server-rsa2048", false, false, false },
    { "a chain of two", { .limit = 64 }, "server-intermediate", false, false, false },
    { "after a retry", { .shares = { 1 } }, NULL, false, false, false },
    { "X25519MLKEM768", { .groups = { HYBRID } }, NULL, false, false, false },
    { "a client's certificate", { .name = NULL }, NULL, true, false, false },
    { "resumed", { .name = "localhost" }, NULL, false, false, true },
    { "resumed after a retry", { .shares = { 1 } }, NULL, false, false, true },
    { "resumed with a certificate", { .name = NULL }, NULL, true, false, true },
    { "sealed tickets", { .name = "localhost" }, NULL, false, true, false },
    { "resumed by a sealed ticket", { .name = "localhost" }, NULL, false, true, true },
};

static bool encapsulate(const uint8_t key[1184], uint8_t ciphertext[1088], uint8_t secret[32],
                        void *user)
{
    (void)key;
    (void)user;
    memset(ciphertext, 'c', 1088);
    memset(secret, 0, 32);
    return true;
}

static void open_server(play *p, const scene *s)
{
    char chain[64], key[64];
    snprintf(chain, sizeof chain, DATA "%s.pem", s->identity ? s->identity : "server-p256");
    snprintf(key, sizeof key, DATA "%s.key", s->identity ? s->identity : "server-p256");
    hsb_security_desc desc = help_desc(chain, key);
    if (s->seals)
        desc.ticket_key = hsb__text_make("0123456789abcdef0123456789abcdef", 32);
    desc.ml_kem_768 = encapsulate;
    play_server_with(p, desc, s->require, s->require);
}

/* As far as it goes. */
static void shake_hands(c13 *c, const scene *s, const c13_ticket *ticket)
{
    c13_hello h = s->hello;
    h.ticket = ticket;
    c13_hello_send(c, &h);
    if (c->retry) {
        memset(h.shares, 0, sizeof h.shares);
        h.shares[0] = c->group;
        c13_hello_send(c, &h);
    }
    if (c->asked && c->seen >> 20 & 1) {
        c13_certificate(c, DATA "client-intermediate.pem");
        c13_verify(c, DATA "client-intermediate.key", 0x0403, 0x0403, NULL);
    }
    if (c->seen >> 20 & 1)
        c13_finish(c);
}

/* False: it ended. */
static bool answers(c13 *c)
{
    size_t room = 0;
    if (!hsb__tls_sleep(c->t) || !c13_send(c, 23, "ping", 4))
        return false;
    if (!hsb__text_is(hsb__tls_plain(c->t), "ping"))
        return false;
    hsb__tls_plain_used(c->t, 4);
    char *to = hsb__tls_writable(c->t, &room);
    if (!to)
        return false;
    memcpy(to, "pong", 4);
    hsb__tls_written(c->t, 4);
    hsb__tls_flush(c->t);
    c->data.len = 0;
    c13_pull(c);
    return c->data.len == 4;
}

/* It ended with an alert that the client can read, and says why. */
static void expect_end(c13 *c, const scene *s)
{
    c13_pull(c);
    if (hsb__tls_phase_of(c->t) != HSB__TLS_DEAD || c->alert != 80 || c->level != 2)
        fail_msg("%s, %s %d: phase %d, alert %d, \"%s\"", s->what, failing.call, failing.nth,
                 hsb__tls_phase_of(c->t), c->alert, error_of(c));
    assert_int_equal(c->alert_protected, c->in.on);
    if (strcmp(failing.call, "alloc") == 0)
        assert_string_equal(error_of(c), "out of memory");
    else if (strcmp(error_of(c), "TLS: our key does not sign") != 0)
        assert_string_equal(error_of(c), "TLS: no randomness");
}

static c13_ticket ticket_of(play *p, const scene *s)
{
    c13 *c = c13_new(hsb__tls_open(&p->s.pool, p->s.security, s->require, s->require));
    shake_hands(c, s, NULL);
    expect_open(c);
    assert_true(answers(c));
    assert_int_equal(c->ticket_count, 2);
    const c13_ticket ticket = c->tickets[0];
    hsb__tls_release(&p->s.pool, c->t);
    c13_free(c);
    return ticket;
}

/* Once with the nth call failing.  False: there are not so many. */
static bool play_once(const scene *s, const char *call, int nth)
{
    play p;
    c13_ticket ticket;
    open_server(&p, s);
    if (s->resumes)
        ticket = ticket_of(&p, s);
    hsb__pool_close(&p.s.blocks);               /* each block has to be allocated anew        */
    failing.call = call;
    failing.nth = nth;
    failing.seen = 0;
    hsb__tls *t = hsb__tls_open(&p.s.pool, p.s.security, s->require, s->require);
    if (t) {
        c13 *c = c13_new(t);
        shake_hands(c, s, s->resumes ? &ticket : NULL);
        if (answers(c) && answers(c)) {
            assert_true(c->resumed == s->resumes || failing.seen >= nth);
            assert_int_equal(hsb__tls_info_of(t)->client != NULL, s->require);
        } else {
            expect_end(c, s);
        }
        hsb__tls_release(&p.s.pool, t);
        c13_free(c);
    }
    failing.call = NULL;
    help_server_close(&p.s);
    return failing.seen >= nth;
}

static void each_fails(const char *call, int least)
{
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
        int n = 1;
        while (play_once(&scenes[i], call, n)) {
            n++;
            assert_true(n < 100);
        }
        assert_true(n > least);
        print_message("  %s: %d of %s\n", scenes[i].what, n - 1, call);
    }
}

static void memory(void **state)
{
    (void)state;
    each_fails("alloc", 5);
}

static void randomness(void **state)
{
    (void)state;
    each_fails("getentropy", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory),
        cmocka_unit_test(randomness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
