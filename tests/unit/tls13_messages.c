/* >>tls13 against a client that withholds, doubles, exchanges, cuts and joins its messages, each
   of them: what RFC 8446 allows goes on, and all else ends with the alert that it names. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"
#include "tls13_help.h"

enum { CERTIFICATE, VERIFY, FINISHED, MESSAGES };
static const char *const names[] = { "Certificate", "CertificateVerify", "Finished" };

/* The client's flight after ours, ready to be sent in whatever way. */
typedef struct flight {
    c13_bytes bytes;
    struct { unsigned char *at; size_t len; } part[MESSAGES];
} flight;

/* c has our flight, and keeps its own in f; its keys of the application come with go_on. */
static c13 *prepare(play *p, flight *f, unsigned suite)
{
    c13 *c = play_client(p);
    c13_hello_send(c, &(c13_hello){ .suites = { suite } });
    if (!c->asked)
        fail_msg("the server does not answer: phase %d, %s", hsb__tls_phase_of(c->t), error_of(c));
    f->bytes.len = 0;
    c->held = &f->bytes;
    c13_certificate(c, DATA "client-p256.pem");
    c13_verify(c, DATA "client-p256.key", 0x0403, 0x0403, NULL);
    unsigned char mac[64];
    c13_finished_mac(c, &c->out, mac);
    c13_message(c, 20, mac, c->hash);
    c->held = NULL;
    size_t at = 0;
    for (int i = 0; i < MESSAGES; i++) {
        f->part[i].at = f->bytes.at + at;
        f->part[i].len = 4 + c13_read(f->bytes.at + at + 1, 3);
        at += f->part[i].len;
    }
    assert_int_equal(at, f->bytes.len);
    return c;
}

static void send_part(c13 *c, const flight *f, int i)
{
    c13_send(c, 22, f->part[i].at, f->part[i].len);
}

static void go_on(c13 *c)
{
    c13_keys(c, &c->out, c->client_data);
    c->complete = true;
    expect_open(c);
    assert_non_null(hsb__tls_info_of(c->t)->client);
    exchange(c);
}

/* Nobody is believed, and the handshake goes on to wait. */
static void expect_waiting(c13 *c)
{
    c13_pull(c);
    assert_int_equal(hsb__tls_phase_of(c->t), HSB__TLS_HANDSHAKE);
    assert_null(hsb__tls_info_of(c->t));
    assert_int_equal(c->alert, -1);
}

/* --- withheld, doubled, exchanged ------------------------------------------------------------------- */
static void withheld(void **state)
{
    play p;
    flight f;
    (void)state;
    play_server(&p, true, false);
    for (int missing = 0; missing < MESSAGES; missing++)
        for (int then = 0; then < 3; then++) {
            c13 *c = prepare(&p, &f, 0x1301u + (unsigned)then);
            for (int i = 0; i < MESSAGES; i++)
                if (i != missing)
                    send_part(c, &f, i);
            if (missing == FINISHED) {
                expect_waiting(c);
                if (then == 1)
                    c13_keys(c, &c->out, c->client_data);
                c13_send(c, 23, "early", then < 2 ? 5 : 0);
            }
            expect_alert(c, missing == FINISHED && then == 1 ? 20 : 10, names[missing]);
            play_end(&p);
        }
    c13 *c = play_client(&p);                           /* ClientHello: no keys are there yet */
    c13_message(c, 20, "12345678901234567890123456789012", 32);
    expect_alert(c, 10, "no ClientHello");
    play_end(&p);
    help_server_close(&p.s);
}

static void doubled(void **state)
{
    play p;
    flight f;
    (void)state;
    play_server(&p, true, false);
    for (int twice = 0; twice < MESSAGES; twice++)
        for (int joined = 0; joined < 2; joined++) {
            c13 *c = prepare(&p, &f, 0x1301);
            for (int i = 0; i < twice; i++)
                send_part(c, &f, i);
            c13_bytes *both = calloc(1, sizeof *both);
            for (int i = 0; i < 2; i++)
                c13_put(both, f.part[twice].at, f.part[twice].len);
            c13_send(c, 22, both->at, joined ? both->len : f.part[twice].len);
            if (!joined)
                send_part(c, &f, twice);                /* the key of a Finished is gone      */
            free(both);
            expect_alert(c, twice == FINISHED && !joined ? 20 : 10, names[twice]);
            play_end(&p);
        }
    for (int retry = 0; retry < 2; retry++)             /* ClientHello                        */
        for (int joined = 0; joined < 2; joined++) {
            c13 *c = play_client(&p);
            c13_bytes *m = calloc(1, sizeof *m);
            c13_make_hello(c, &(c13_hello){ .shares = { (unsigned)retry } }, m);
            const size_t len = m->len;
            memcpy(m->at + len, m->at, len);
            c13_put(&c->messages, m->at, len);
            c13_feed(c, c->record, c13_clear(c->record, 22, m->at, joined ? 2 * len : len), 0);
            if (!joined)
                c13_feed(c, c->record, c13_clear(c->record, 22, m->at, len), 0);
            free(m);
            expect_alert(c, retry && !joined ? 47 : 10, "ClientHello");
            play_end(&p);
        }
    c13 *c = prepare(&p, &f, 0x1301);                   /* with the keys of the application   */
    for (int i = 0; i < MESSAGES; i++)
        send_part(c, &f, i);
    go_on(c);
    send_part(c, &f, FINISHED);
    expect_alert(c, 10, "Finished, when all is over");
    play_end(&p);
    help_server_close(&p.s);
}

static void exchanged(void **state)
{
    static const int orders[][MESSAGES] = {
        { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
    };
    play p;
    flight f;
    (void)state;
    play_server(&p, true, false);
    for (size_t n = 0; n < sizeof orders / sizeof orders[0]; n++)
        for (int joined = 0; joined < 2; joined++) {
            c13 *c = prepare(&p, &f, 0x1302);
            c13_bytes *all = calloc(1, sizeof *all);
            for (int i = 0; i < MESSAGES; i++)
                c13_put(all, f.part[orders[n][i]].at, f.part[orders[n][i]].len);
            for (int i = 0; i < MESSAGES && !joined; i++)
                send_part(c, &f, orders[n][i]);
            if (joined)
                c13_send(c, 22, all->at, all->len);
            free(all);
            expect_alert(c, 10, "another order");
            play_end(&p);
        }
    help_server_close(&p.s);
}

/* --- cut and joined --------------------------------------------------------------------------------------- */

/* A message that ends too early, at each of its bytes, or has one too many.  Its header says the
   length that it has. */
static void too_short(void **state)
{
    play p;
    flight f;
    (void)state;
    play_server(&p, true, false);
    for (int i = 0; i < MESSAGES; i++)
        for (size_t len = 0, whole = 1; len <= whole; len += i || len < 20 || len + 20 > whole ? 1 : 13) {
            c13 *c = prepare(&p, &f, 0x1301);
            whole = f.part[i].len - 4 + 1;
            if (len == whole - 1 || len > whole) {      /* a signature is as long as it happens to be */
                play_end(&p);
                continue;
            }
            for (int k = 0; k < i; k++)
                send_part(c, &f, k);
            unsigned char *m = calloc(1, f.part[i].len + 1);
            memcpy(m, f.part[i].at, f.part[i].len);
            m[2] = (unsigned char)(len >> 8);
            m[3] = (unsigned char)len;
            c13_send(c, 22, m, 4 + len);
            free(m);
            expect_alert(c, 50, names[i]);
            play_end(&p);
        }
    help_server_close(&p.s);
}

/* RFC 8446 4.2: extensions beside a certificate answer what our request asks for, and it asks for
   none.  Or there is none, but a length that is wrong. */
static void extensions(void **state)
{
    static const struct { const char *bytes; size_t len; int alert; } cases[] = {
        { "\0\4\0\5\0\0", 6, 110 }, { "\0\1x", 3, 110 }, { "\0\1", 2, 50 }, { "\0", 1, 50 },
        { "\0\0\0", 3, 50 },
    };
    play p;
    flight f;
    (void)state;
    play_server(&p, true, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        c13 *c = prepare(&p, &f, 0x1301);
        c13_bytes *m = calloc(1, sizeof *m);
        const size_t list = f.part[CERTIFICATE].len - 4 - 1 - 3 - 2;    /* without extensions    */
        c13_number(m, 1, 11);
        c13_number(m, 3, 1 + 3 + list + cases[i].len);
        c13_number(m, 1, 0);
        c13_number(m, 3, list + cases[i].len);
        c13_put(m, f.part[CERTIFICATE].at + 8, list);
        c13_put(m, cases[i].bytes, cases[i].len);
        c13_send(c, 22, m->at, m->len);
        free(m);
        expect_alert(c, cases[i].alert, cases[i].bytes);
        assert_null(hsb__tls_info_of(c->t));
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* Of ClientHello the same, with all that it may hold.  What ends where the extensions begin is
   one of TLS 1.2, without a suite of it: 40. */
static void short_hello(void **state)
{
    play p;
    (void)state;
    play_server(&p, false, false);
    const c13_ticket ticket = visit(&p, &(c13_hello){ .name = "localhost" }, false);
    const c13_hello h = { .name = "localhost", .alpn = "\x08http/1.1", .limit = 512, .early = true,
                          .ticket = &ticket };
    const size_t fixed = 2 + 32 + 1 + 32 + 2 + 2 + 1 + 1;
    for (size_t len = 0, whole = 1; len <= whole; len++) {
        c13 *c = play_client(&p);
        c13_bytes *m = calloc(1, sizeof *m);
        c13_make_hello(c, &h, m);
        whole = m->len - 4 + 1;
        if (len != whole - 1) {
            m->at[2] = (unsigned char)(len >> 8);
            m->at[3] = (unsigned char)len;
            c13_send(c, 22, m->at, 4 + len);
            expect_alert(c, len == fixed ? 40 : 50, "ClientHello");
        }
        free(m);
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* The client's flight in one record, in each of the ways to spread it over three, and with each
   byte in a record of its own: RFC 8446 5.1 allows them all. */
static void joined(void **state)
{
    play p;
    flight f;
    (void)state;
    play_server(&p, true, true);
    for (int ways = 0; ways < 4; ways++) {
        c13 *c = prepare(&p, &f, 0x1301);
        size_t from = 0, to = 0;
        for (int i = 0; i < MESSAGES; i++) {
            to += f.part[i].len;
            if (i == FINISHED || ways >> i & 1) {
                c13_send(c, 22, f.bytes.at + from, to - from);
                from = to;
            }
        }
        go_on(c);
        play_end(&p);
    }
    for (size_t cut = 1; cut < 900; cut += cut < 3 ? 1 : 41) {
        c13 *c = prepare(&p, &f, 0x1303);
        for (size_t at = 0; at < f.bytes.len; at += cut)
            c13_send(c, 22, f.bytes.at + at, f.bytes.len - at < cut ? f.bytes.len - at : cut);
        go_on(c);
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* Whoever leaves in the middle of a message is not believed. */
static void left(void **state)
{
    static const unsigned char close[2] = { 1, 0 };
    play p;
    flight f;
    (void)state;
    play_server(&p, true, false);
    for (size_t at = 0, len = 1; at < len; at += 7) {
        c13 *c = prepare(&p, &f, 0x1301);
        len = f.bytes.len;              /* a signature is as long as it happens to be */
        if (at >= len) {
            play_end(&p);
            break;
        }
        if (at)
            c13_send(c, 22, f.bytes.at, at);
        expect_waiting(c);
        c13_send(c, 21, close, 2);
        assert_int_equal(hsb__tls_phase_of(c->t), HSB__TLS_DEAD);
        assert_null(hsb__tls_info_of(c->t));
        assert_string_equal(error_of(c), "TLS: the client left in the handshake");
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* Each byte of each message changed: it may only fail, with an alert of those that tell what is
   wrong with a message. */
static void changed(void **state)
{
    play p;
    flight f;
    (void)state;
    play_server(&p, true, false);
    for (size_t at = 0, len = 1; at < len; at += at % 100 < 20 ? 1 : 3) {
        c13 *c = prepare(&p, &f, 0x1301);
        len = f.bytes.len;
        if (at >= len) {
            play_end(&p);
            break;
        }
        f.bytes.at[at] ^= at % 2 ? 0x80 : 0x04;
        for (int i = 0; i < MESSAGES; i++)
            send_part(c, &f, i);
        c13_pull(c);
        if (hsb__tls_phase_of(c->t) == HSB__TLS_HANDSHAKE) {    /* longer than what there is  */
            int i = FINISHED;
            while (f.part[i].at > f.bytes.at + at)
                i--;
            assert_within(f.bytes.at + at - f.part[i].at, 1, 3);
        } else {
            static const int known[] = { 10, 22, 42, 43, 45, 46, 47, 48, 50, 51 };
            size_t i = 0;
            while (i < sizeof known / sizeof known[0] && known[i] != c->alert)
                i++;
            if (i == sizeof known / sizeof known[0])
                fail_msg("byte %zu: alert %d", at, c->alert);
            expect_alert(c, c->alert, "a byte changed");
        }
        assert_null(hsb__tls_info_of(c->t));
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* --- floods of what is allowed --------------------------------------------------------------------------- */
static void floods(void **state)
{
    static const unsigned char leaves[2] = { 1, 90 };
    static const struct { unsigned type; size_t len, padding; } cases[] = {
        { 23, 0, 0 }, { 23, 0, 1000 }, { 21, 2, 0 },
    };
    play p;
    (void)state;
    play_server(&p, false, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int n = 0;
        c13 *c = play_client(&p);
        c13_handshake(c, &(c13_hello){ 0 });
        exchange(c);
        for (; n < 200 && hsb__tls_phase_of(c->t) == HSB__TLS_OPEN; n++) {
            c13_feed(c, c->record, c13_seal(c, c->record, cases[i].type, leaves, cases[i].len,
                                            cases[i].padding), 0);
            if (n == 40)
                exchange(c);                            /* content starts it over             */
        }
        assert_int_equal(n, 41 + HSB__TLS_QUIET + 1);
        expect_alert(c, 10, "a flood");
        assert_string_equal(error_of(c), "TLS: too many records without content");
        play_end(&p);
        if (cases[i].type == 23)
            continue;
        c = play_client(&p);                            /* in the handshake, by its bytes     */
        c13_hello_send(c, &(c13_hello){ 0 });
        for (n = 0; hsb__tls_phase_of(c->t) == HSB__TLS_HANDSHAKE; n++)
            c13_send(c, 21, leaves, 2);
        assert_within(n, 1, HSB__TLS_HANDSHAKE_BYTES / 24 + 1);
        expect_alert(c, 10, "a flood in the handshake");
        play_end(&p);
    }
    for (int early = 0; early < 2; early++) {           /* ChangeCipherSpec where a retry waits */
        c13 *c = play_client(&p);
        c13_hello_send(c, &(c13_hello){ .shares = { 1 }, .early = early });
        assert_true(c->retry);
        for (int i = 0; i < 3; i++)
            c13_feed(c, c->record, c13_clear(c->record, 20, "\1", 1), 0);
        expect_alert(c, 10, "three of them");
        play_end(&p);
    }
    help_server_close(&p.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(withheld),
        cmocka_unit_test(doubled),
        cmocka_unit_test(exchanged),
        cmocka_unit_test(too_short),
        cmocka_unit_test(extensions),
        cmocka_unit_test(short_hello),
        cmocka_unit_test(joined),
        cmocka_unit_test(left),
        cmocka_unit_test(changed),
        cmocka_unit_test(floods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
