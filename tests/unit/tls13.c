/* >>tls13 and >>record against a client of TLS 1.3 that breaks the rules: each breach ends with
   the alert that RFC 8446 names, protected where it has to be, and an error with a text. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"
#include "tls13_help.h"

/* --- handshakes that must work -------------------------------------------------------------------- */
static void suites_and_groups(void **state)
{
    play p;
    (void)state;
    play_server(&p, false, false);
    for (unsigned suite = 0x1301; suite <= 0x1303; suite++)
        for (int group = 0; group < 4; group++) {
            static const unsigned groups[4][4] = { { 29 }, { 23 }, { 29, 23 }, { 24, 23, 29 } },
                shares[4][4] = { { 29 }, { 23 }, { 23 }, { 1 } };
            c13_hello h = { .suites = { 0x1304, suite }, .name = "localhost",
                            .alpn = "\x02h2\x08http/1.1", .empty_id = group == 1 };
            memcpy(h.groups, groups[group], sizeof h.groups);
            memcpy(h.shares, shares[group], sizeof h.shares);
            c13 *c = play_client(&p);
            c13_handshake(c, &h);
            expect_open(c);
            assert_int_equal(c->suite, suite);
            assert_int_equal(c->group, group == 1 || group == 2 ? 23 : 29);
            assert_int_equal(c->ccs, group != 1);
            assert_int_equal(hsb__tls_info_of(c->t)->version, 0x0304);
            assert_string_equal(hsb__tls_info_of(c->t)->alpn, "http/1.1");
            assert_string_equal(hsb__tls_info_of(c->t)->server_name, "localhost");
            exchange(c);
            assert_int_equal(c->ticket_count, 2);
            play_end(&p);
        }
    help_server_close(&p.s);
}

/* A handshake's bytes in pieces of any length, and its messages over records of any length. */
static void cut_anywhere(void **state)
{
    play p;
    (void)state;
    play_server(&p, true, false);
    for (size_t cut = 1; cut < 300; cut += cut < 40 ? 1 : 17)
        for (int records = 0; records < 2; records++) {
            c13_bytes *m = calloc(2, sizeof *m), *all = m + 1;
            const c13_hello h = { .name = "localhost" };
            c13 *c = play_client(&p);
            c13_make_hello(c, &h, m);
            c13_put(&c->messages, m->at, m->len);
            for (size_t at = 0; at < m->len; at += records ? cut : m->len) {
                unsigned char record[1024];
                const size_t rest = m->len - at, n = records && cut < rest ? cut : rest;
                c13_put(all, record, c13_clear(record, 22, m->at + at, n));
            }
            c13_feed(c, all->at, all->len, records ? 0 : cut);
            assert_int_equal(c->seen >> 20 & 1, 1);
            m->len = all->len = 0;                      /* no certificate, and Finished */
            static const unsigned char none[8] = { 11, 0, 0, 4, 0, 0, 0, 0 };
            unsigned char mac[64];
            c13_put(&c->messages, none, 8);
            c13_finished_mac(c, &c->out, mac);
            c13_put(m, none, 8);
            c13_number(m, 1, 20);
            c13_vector(m, 3, mac, c->hash);
            for (size_t at = 0; at < m->len; at += records ? cut : m->len) {
                unsigned char record[1024];
                const size_t rest = m->len - at, n = records && cut < rest ? cut : rest;
                c13_put(all, record, c13_seal(c, record, 22, m->at + at, n, cut % 3));
            }
            c13_feed(c, all->at, all->len, records ? 0 : cut);
            c13_put(&c->messages, m->at + 8, m->len - 8);
            c13_keys(c, &c->out, c->client_data);
            expect_open(c);
            exchange(c);
            play_end(&p);
            free(m);
        }
    help_server_close(&p.s);
}

/* --- ClientHello ------------------------------------------------------------------------------------ */
static void bad_hellos(void **state)
{
    static const unsigned char zeros[66], one[32] = { 1 }, off[65] = { 4, 1, 2, 3 },
        packed[65] = { 2 };
    static const struct { const char *what; c13_hello h; int alert; } cases[] = {
        { "no supported_groups", { .no_groups = true }, 109 },
        { "no key_share", { .no_shares = true }, 109 },
        { "no signature_algorithms", { .signatures = { 1 } }, 109 },
        { "no suite of ours", { .suites = { 0x1304, 0xC02B } }, 40 },
        { "no group of ours", { .groups = { 24, 25 }, .shares = { 1 } }, 40 },
        { "no signature of ours", { .signatures = { 0x0807, 0x0804 } }, 40 },
        { "ECDSA with another curve", { .signatures = { 0x0503, 0x0603 } }, 40 },
        { "no protocol of ours", { .alpn = "\x02h2" }, 120 },
        { "X25519 of 31 bytes", { .share = one, .share_len = 31 }, 47 },
        { "X25519 of 33 bytes", { .share = zeros, .share_len = 33 }, 47 },
        { "X25519 of zeros", { .share = zeros, .share_len = 32 }, 47 },
        { "X25519 of small order", { .share = one, .share_len = 32 }, 47 },
        { "an empty share", { .share = "", .share_len = 0 }, 50 },
        { "P-256 off the curve", { .groups = { 23 }, .share = off, .share_len = 65 }, 47 },
        { "P-256 compressed", { .groups = { 23 }, .share = packed, .share_len = 33 }, 47 },
        { "P-256, first byte", { .groups = { 23 }, .share = packed, .share_len = 65 }, 47 },
        { "P-256 at infinity", { .groups = { 23 }, .share = zeros, .share_len = 1 }, 47 },
        { "P-256 of zeros", { .groups = { 23 }, .share = zeros, .share_len = 65 }, 47 },
        { "P-256 too long", { .groups = { 23 }, .share = zeros, .share_len = 66 }, 47 },
        { "compression", { .two_compressions = true }, 47 },
        { "record limit below 64", { .limit = 63 }, 47 },
        { "TLS 1.4 only", { .versions = { 0x0305 } }, 70 },
        { "17 KB of it", { .padding = 17000 }, 22 },
    };
    play p;
    (void)state;
    play_server(&p, false, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        c13 *c = play_client(&p);
        c13_bytes *m = calloc(1, sizeof *m);
        c13_make_hello(c, &cases[i].h, m);
        for (size_t at = 0; at < m->len; at += 16384)
            c13_send(c, 22, m->at + at, m->len - at < 16384 ? m->len - at : 16384);
        free(m);
        expect_alert(c, cases[i].alert, cases[i].what);
        play_end(&p);
    }
    help_server_close(&p.s);
}

static void retries(void **state)
{
    static const struct { const char *what; c13_hello first, second; int alert; } cases[] = {
        { "right", { .shares = { 1 } }, { .shares = { 29 } }, 0 },
        { "right, with early data", { .shares = { 1 }, .early = true }, { .shares = { 29 } }, 0 },
        { "still none", { .shares = { 1 } }, { .shares = { 1 } }, 47 },
        { "another group", { .groups = { 29, 23 }, .shares = { 1 } },
          { .groups = { 29, 23 }, .shares = { 23 } }, 47 },
        { "other groups", { .shares = { 1 } }, { .groups = { 29, 23 }, .shares = { 29 } }, 47 },
        { "another suite", { .shares = { 1 } },
          { .suites = { 0x1302 }, .shares = { 29 } }, 47 },
        { "another name", { .shares = { 1 }, .name = "a" }, { .shares = { 29 }, .name = "b" }, 47 },
        { "a limit more", { .shares = { 1 } }, { .shares = { 29 }, .limit = 100 }, 47 },
        { "early data again", { .shares = { 1 }, .early = true },
          { .shares = { 29 }, .early = true }, 47 },
        { "another version", { .shares = { 1 }, .versions = { 0x0304, 0x0303 } },
          { .shares = { 29 }, .versions = { 0x0303 } }, 47 },
    };
    play p;
    (void)state;
    play_server(&p, false, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static unsigned char early[17000];
        c13 *c = play_client(&p);
        c13_hello_send(c, &cases[i].first);
        assert_true(c->retry);
        for (int k = 0; cases[i].first.early && k < 3; k++)     /* full records are longer */
            c13_feed(c, early, c13_clear(early, 23, c->record, 16384 + 17), 0);
        c13_hello_send(c, &cases[i].second);
        if (cases[i].alert) {
            expect_alert(c, cases[i].alert, cases[i].what);
        } else {
            c13_finish(c);
            expect_open(c);
            exchange(c);
        }
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* --- resumption ----------------------------------------------------------------------------------------- */

static void tickets(void **state)
{
    play p, other;
    (void)state;
    play_server(&p, false, false);
    play_server(&other, false, false);
    for (unsigned suite = 0x1301; suite <= 0x1303; suite++) {
        c13_hello h = { .suites = { suite }, .name = "localhost" }, again = h;
        c13_ticket first = visit(&p, &h, false);
        assert_within(first.lifetime, 3590, 3600);
        again.ticket = &first;
        c13_ticket second = visit(&p, &again, true);
        visit(&p, &again, false);                       /* used up */
        again.ticket = &second;
        again.shares[0] = 1;
        second = visit(&p, &again, true);               /* after a retry */
        again.shares[0] = 0;
        again.ticket = &second;
        visit(&other, &again, false);                   /* another security */
        again.name = "other.test";
        visit(&p, &again, false);                       /* another name */
        again.name = NULL;
        visit(&p, &again, false);
        again.name = "localhost";
        again.suites[0] = suite == 0x1302 ? 0x1301 : 0x1302;
        second.suite = again.suites[0];                 /* a binder of that hash's length */
        visit(&p, &again, false);                       /* another hash */
        second.suite = again.suites[0] = suite;
        again.modes = 1;                                /* 0: without a key exchange */
        c13 *c = play_client(&p);
        c13_handshake(c, &again);
        expect_open(c);
        assert_false(c->resumed);
        exchange(c);
        assert_int_equal(c->ticket_count, 0);
        play_end(&p);
        again.modes = 0;
        c13_ticket altered = second;
        altered.identity[7] ^= 1;
        again.ticket = &altered;
        visit(&p, &again, false);
        altered = second;
        altered.psk[0] ^= 1;
        c = play_client(&p);
        c13_handshake(c, &again);                       /* the binder of another key */
        expect_alert(c, 51, "another key");
        play_end(&p);
        again.ticket = &second;
        again.wrong_binder = true;
        c = play_client(&p);
        c13_handshake(c, &again);
        expect_alert(c, 51, "wrong binder");
        play_end(&p);
        again.wrong_binder = false;
        again.no_modes = true;
        c = play_client(&p);
        c13_hello_send(c, &again);
        expect_alert(c, 109, "no psk_key_exchange_modes");
        play_end(&p);
        again.no_modes = false;
        again.psk_not_last = true;
        c = play_client(&p);
        c13_hello_send(c, &again);
        expect_alert(c, 47, "pre_shared_key not last");
        play_end(&p);
        again.psk_not_last = false;
        again.signatures[0] = 1;                        /* needed for certificates only */
        second = visit(&p, &again, true);
        again.shares[0] = 1;
        second = visit(&p, &again, true);
        again.shares[0] = again.signatures[0] = 0;
        again.ticket = &second;
        p.s.security->sessions.newest->until_us = hsb__os_now_us();
        visit(&p, &again, false);
    }
    help_server_close(&p.s);
    help_server_close(&other.s);
}

/* --- the order of messages ---------------------------------------------------------------------------------- */

/* Everything but what is awaited, in each state. */
static void out_of_order(void **state)
{
    static const unsigned char types[] = { 0, 1, 2, 4, 5, 8, 11, 13, 15, 20, 24, 254 };
    play p;
    (void)state;
    play_server(&p, true, false);
    for (int stage = 0; stage < 4; stage++)
        for (size_t i = 0; i < sizeof types; i++) {
            static const unsigned char awaited[] = { 11, 15, 20, 24 };
            if (types[i] == awaited[stage])
                continue;
            c13 *c = play_client(&p);
            c13_hello_send(c, &(c13_hello){ 0 });
            if (stage == 1)
                c13_certificate(c, DATA "client-p256.pem");
            if (stage >= 2)
                c13_certificate(c, NULL);
            if (stage == 3) {
                c13_finish(c);
                expect_open(c);
            }
            c13_message(c, types[i], "\0\0\0\0", 4);
            expect_alert(c, 10, "out of order");
            play_end(&p);
        }
    help_server_close(&p.s);
}

/* --- records --------------------------------------------------------------------------------------------------- */
typedef enum wrong {
    TOO_LONG, INNER_TOO_LONG, NO_TYPE, TYPE_0, TYPE_24, EMPTY_HANDSHAKE, WRONG_MAC, SHORT,
    CCS_2, CCS_LONG, CCS_FLOOD, CCS_SEALED, CLEAR_DATA, CLEAR_HANDSHAKE, BEFORE_3, EMPTY_ALERT,
    BETWEEN, WRONGS
} wrong;

static int do_wrong(c13 *c, wrong w)
{
    static unsigned char zeros[17000];
    unsigned char *r = c->record;
    size_t n = 0;
    int alert = 10;
    switch (w) {
    case TOO_LONG:        n = c13_clear(r, 23, zeros, 16384 + 257); alert = 22; break;
    case INNER_TOO_LONG:  n = c13_seal(c, r, 23, zeros, 16385, 0); alert = 22; break;
    case NO_TYPE:         n = c13_seal(c, r, 256, "", 0, 50); break;
    case TYPE_0:          n = c13_clear(r, 0, zeros, 10); break;
    case TYPE_24:         n = c13_seal(c, r, 24, zeros, 10, 0); break;
    case EMPTY_HANDSHAKE: n = c13_seal(c, r, 22, "", 0, 3); break;
    case WRONG_MAC:       n = c13_seal(c, r, 22, zeros, 50, 0); r[20] ^= 1; alert = 20; break;
    case SHORT:           n = c13_clear(r, 23, zeros, 16); alert = 20; break;
    case CCS_2:           n = c13_clear(r, 20, "\2", 1); break;
    case CCS_LONG:        n = c13_clear(r, 20, "\1\1", 2); break;
    case CCS_SEALED:      n = c13_seal(c, r, 20, "\1", 1, 0); break;
    case CLEAR_HANDSHAKE: n = c13_clear(r, 22, "\24\0\0\0", 4); break;
    case EMPTY_ALERT:     n = c13_seal(c, r, 21, "", 0, 0); alert = 50; break;
    case BEFORE_3:        n = c13_clear(r, 22, "", 0); r[1] = 2; alert = 70; break;
    case CLEAR_DATA:      n = c13_clear(r, 23, "hello, this is no record", 24); alert = 20; break;
    case CCS_FLOOD:
        for (int i = 0; i < 2 && !c->complete; i++)
            c13_feed(c, r, c13_clear(r, 20, "\1", 1), 0);
        n = c13_clear(r, 20, "\1", 1);
        break;
    case BETWEEN:                           /* the halves of a message */
        c13_send(c, 22, c->complete ? "\30" : "\24", 1);
        n = c13_clear(r, 20, "\1", 1);
        break;
    case WRONGS:
        break;
    }
    c13_feed(c, r, n, 0);
    return alert;
}

static void bad_records(void **state)
{
    play p;
    (void)state;
    play_server(&p, false, false);
    for (int open = 0; open < 2; open++)
        for (int w = 0; w < WRONGS; w++) {
            char what[32];
            c13 *c = play_client(&p);
            c13_hello_send(c, &(c13_hello){ .suites = { 0x1301u + (unsigned)w % 3 } });
            if (open)
                c13_finish(c);
            const int alert = do_wrong(c, (wrong)w);
            snprintf(what, sizeof what, "record %d, %s", w, open ? "open" : "handshake");
            expect_alert(c, alert, what);
            play_end(&p);
        }
    help_server_close(&p.s);
}

/* As long as they may be; padding; empty ones; CCS where it may come. */
static void good_records(void **state)
{
    static char data[16384];
    play p;
    (void)state;
    memset(data, 'd', sizeof data);
    play_server(&p, false, false);
    c13 *c = play_client(&p);
    c13_hello_send(c, &(c13_hello){ 0 });
    c13_feed(c, c->record, c13_clear(c->record, 20, "\1", 1), 0);
    c13_finish(c);
    expect_open(c);
    static const size_t lens[][2] = { { 16384, 0 }, { 1, 16383 }, { 0, 16384 }, { 100, 1 } };
    for (int i = 0; i < 4; i++) {
        c13_feed(c, c->record, c13_seal(c, c->record, 23, data, lens[i][0], lens[i][1]), 0);
        assert_int_equal(hsb__tls_plain(c->t).len, lens[i][0]);
        hsb__tls_plain_used(c->t, lens[i][0]);
    }
    exchange(c);
    play_end(&p);
    help_server_close(&p.s);
}

static void record_limits(void **state)
{
    static char page[60000];
    static const struct { unsigned limit, most; } cases[] = {
        { 64, 64 }, { 512, 512 }, { 16384, 16384 }, { 16385, 16385 }, { 65535, 16385 },
        { 0, 16385 },
    };
    play p;
    (void)state;
    memset(page, 'p', sizeof page);
    play_server(&p, true, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        c13 *c = play_client(&p);
        c13_handshake(c, &(c13_hello){ .limit = cases[i].limit });
        expect_open(c);
        for (int k = 0; k < 3; k++) {
            c->data.len = 0;
            server_writes(c, page, 36000);
            assert_int_equal(c->data.len, 36000);
        }
        assert_int_equal(c->limit, cases[i].most);
        exchange(c);
        play_end(&p);
    }
    help_server_close(&p.s);
}

static void early_data(void **state)
{
    static unsigned char junk[16384 + 256];
    play p;
    (void)state;
    memset(junk, 'j', sizeof junk);
    play_server(&p, false, false);
    for (size_t len = 17; len <= sizeof junk; len += 5000) {
        c13 *c = play_client(&p);
        c13_hello_send(c, &(c13_hello){ .early = true });
        for (size_t sum = 0; sum + len <= 65536; sum += len)
            c13_feed(c, c->record, c13_clear(c->record, 23, junk, len), 0);
        c13_finish(c);
        expect_open(c);
        exchange(c);
        c13_feed(c, c->record, c13_clear(c->record, 23, junk, 100), 0);
        expect_alert(c, 20, "early data when it is late");
        play_end(&p);
    }
    c13 *c = play_client(&p);
    c13_hello_send(c, &(c13_hello){ .early = true });
    for (int i = 0; i < 5; i++)
        c13_feed(c, c->record, c13_clear(c->record, 23, junk, 16384), 0);
    expect_alert(c, 20, "too much early data");
    play_end(&p);
    help_server_close(&p.s);
}

/* --- Finished, KeyUpdate, alerts ----------------------------------------------------------------------------------- */
static void wrong_finished(void **state)
{
    play p;
    (void)state;
    play_server(&p, false, false);
    for (int i = 0; i < 3; i++) {
        unsigned char mac[64] = { 0 };
        c13 *c = play_client(&p);
        c13_hello_send(c, &(c13_hello){ 0 });
        c13_finished_mac(c, &c->out, mac);
        mac[31] ^= i == 0;
        c13_message(c, 20, mac, i == 1 ? 31 : i == 2 ? 33 : 32);
        expect_alert(c, i ? 50 : 51, "Finished");
        assert_null(hsb__tls_info_of(c->t));
        play_end(&p);
    }
    c13 *c = play_client(&p);                           /* something behind it in its record */
    unsigned char both[64] = { 20, 0, 0, 32 };
    c13_hello_send(c, &(c13_hello){ 0 });
    c13_finished_mac(c, &c->out, both + 4);
    both[36] = 24;
    c13_send(c, 22, both, 37);
    expect_alert(c, 10, "Finished and more");
    play_end(&p);
    help_server_close(&p.s);
}

static void key_updates(void **state)
{
    static const char update[] = { 24, 0, 0, 1, 0 }, ask[] = { 24, 0, 0, 1, 1 };
    play p;
    (void)state;
    play_server(&p, false, false);
    c13 *c = play_client(&p);
    c13_handshake(c, &(c13_hello){ .suites = { 0x1302 } });
    exchange(c);
    for (int i = 0; i < 200; i++) {
        c13_send(c, 22, i % 2 ? ask : update, 5);
        c13_update(c, &c->out);
        for (int k = 0; k < i % 5; k++) {
            c13_send(c, 22, ask, 5);
            c13_update(c, &c->out);
        }
        const int before = c->updates;
        exchange(c);
        assert_int_equal(c->updates - before, i % 2 || i % 5);      /* once */
    }
    for (int i = 0; i < 5; i++) {                       /* in pieces, and byte by byte */
        c13_send(c, 22, update + i, 1);
        if (i == 4)
            c13_update(c, &c->out);
    }
    exchange(c);
    for (int i = 0; i < 70 && hsb__tls_phase_of(c->t) == HSB__TLS_OPEN; i++) {
        c13_send(c, 22, update, 5);
        c13_update(c, &c->out);
    }
    expect_alert(c, 10, "a flood of them");
    play_end(&p);
    static const struct { const char *bytes; size_t len; int alert; } bad[] = {
        { "\30\0\0\1\2", 5, 47 }, { "\30\0\0\2\0\0", 6, 10 }, { "\30\0\0\2\0", 5, 50 },
        { "\30\0\0\1\0\30\0\0\1\0", 10, 10 }, { "\30\0\0\0", 4, 10 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c = play_client(&p);
        c13_handshake(c, &(c13_hello){ 0 });
        c13_send(c, 22, bad[i].bytes, bad[i].len);
        if (bad[i].len == 4)
            c13_send(c, 23, "x", 1);                    /* in the middle of one */
        expect_alert(c, bad[i].alert, "KeyUpdate");
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* RFC 8446 5.5: nobody asks, and a key of ours protects no more than 2^23 records. */
static void updates_of_ours(void **state)
{
    play p;
    (void)state;
    play_server(&p, false, false);
    for (unsigned suite = 0x1301; suite <= 0x1303; suite++) {
        c13 *c = play_client(&p);
        c13_handshake(c, &(c13_hello){ .suites = { suite } });
        exchange(c);
        c->t->record.keys.out.seq = c->in.seq = ((uint64_t)1 << 23) - 2;
        for (int i = 0; i < 6; i++) {
            exchange(c);
            assert_int_equal(c->updates, i >= 2);
        }
        assert_int_equal(c->t->record.keys.out.seq, 4);
        play_end(&p);
    }
    help_server_close(&p.s);
}

/* A client that reads nothing, and asks for new keys again and again: whatever is sent at last
   decrypts, and close_notify comes behind it. */
static void updates_without_room(void **state)
{
    static const char ask[] = { 24, 0, 0, 1, 1 };
    play p;
    (void)state;
    play_server(&p, false, false);
    for (size_t spare = 0; spare < 60; spare++) {
        c13 *c = play_client(&p);
        c13_handshake(c, &(c13_hello){ .limit = 64 + (unsigned)spare });
        exchange(c);
        size_t sum = 0;
        c->data.len = 0;
        for (int i = 0; i < 60; i++) {
            size_t room;
            char *to;
            while ((to = hsb__tls_writable(c->t, &room)) != NULL && sum < 38000) {
                memset(to, 'x', room);
                hsb__tls_written(c->t, room);
                hsb__tls_flush(c->t);
                sum += room;
            }
            size_t n = c13_seal(c, c->record, 22, ask, 5, 0);
            unsigned char copy[64];
            memcpy(copy, c->record, n);
            assert_int_equal(hsb__tls_receive(c->t, copy, n), n);
            c13_update(c, &c->out);
            hsb__tls_written(c->t, 0);
            n = c13_seal(c, c->record, 23, "y", 1, 0);
            memcpy(copy, c->record, n);
            assert_int_equal(hsb__tls_receive(c->t, copy, n), n);
            hsb__tls_plain_used(c->t, 1);
        }
        hsb__tls_shut(c->t);
        c13_pull(c);
        assert_int_equal(c->alert, 0);
        assert_int_equal(c->data.len, sum);
        play_end(&p);
    }
    help_server_close(&p.s);
}

static void alerts(void **state)
{
    static const unsigned char fatal[2] = { 2, 48 }, warned[2] = { 1, 46 }, close[2] = { 1, 0 };
    play p;
    (void)state;
    play_server(&p, true, false);
    for (int stage = 0; stage < 3; stage++)             /* where it is awaited: */
        for (int i = 0; i < 6; i++) {
            const unsigned char *alert = i < 2 ? fatal : i < 4 ? warned : close;
            c13 *c = play_client(&p);
            c13_hello_send(c, &(c13_hello){ .shares = { stage == 0 } });
            if (stage == 2)
                c13_certificate(c, NULL);
            c13_feed(c, c->record, i % 2 && stage ? c13_seal(c, c->record, 21, alert, 2, 0)
                                                  : c13_clear(c->record, 21, alert, 2), 0);
            c13_pull(c);
            assert_int_equal(hsb__tls_phase_of(c->t), HSB__TLS_DEAD);
            assert_string_not_equal(error_of(c), "");
            assert_int_equal(c->alert, -1);             /* not answered */
            play_end(&p);
        }
    c13 *c = play_client(&p);                           /* half-close: the answer still comes */
    c13_handshake(c, &(c13_hello){ 0 });
    c13_send(c, 21, close, 2);
    assert_true(hsb__tls_peer_shut(c->t));
    server_writes(c, "answer", 6);
    assert_int_equal(c->data.len, 6);
    assert_int_equal(c->alert, -1);
    hsb__tls_shut(c->t);
    c13_pull(c);
    assert_int_equal(c->alert, 0);
    assert_int_equal(c->level, 1);
    assert_string_equal(error_of(c), "");
    play_end(&p);
    c = play_client(&p);                                /* in the clear, after the handshake */
    c13_handshake(c, &(c13_hello){ 0 });
    c13_feed(c, c->record, c13_clear(c->record, 21, close, 2), 0);
    expect_alert(c, 10, "a clear alert");
    play_end(&p);
    help_server_close(&p.s);
}

/* --- certificates of the client ------------------------------------------------------------------------------------- */
static void client_certificates(void **state)
{
    static const struct {
        const char *what, *cert, *key;
        unsigned scheme, with;          /* CertificateVerify; 0: left out                        */
        const char *context;
        int alert;
    } cases[] = {
        { "none", NULL, NULL, 0, 0, NULL, 0 },
        { "P-256", "p256", "p256", 0x0403, 0x0403, NULL, 0 },
        { "P-384", "p384", "p384", 0x0503, 0x0503, NULL, 0 },
        { "P-521", "p521", "p521", 0x0603, 0x0603, NULL, 0 },
        { "RSA, SHA-256", "rsa", "rsa", 0x0804, 0x0804, NULL, 0 },
        { "RSA, SHA-384", "rsa", "rsa", 0x0805, 0x0805, NULL, 0 },
        { "RSA, SHA-512", "rsa", "rsa", 0x0806, 0x0806, NULL, 0 },
        { "untrusted", "other-ca", "other-ca", 0x0403, 0x0403, NULL, 48 },
        { "expired", "expired", "expired", 0x0403, 0x0403, NULL, 45 },
        { "key of another", "p256", "expired", 0x0403, 0x0403, NULL, 51 },
        { "no CertificateVerify", "p256", NULL, 0, 0, NULL, 10 },
        { "another hash", "p256", "p256", 0x0503, 0x0403, NULL, 51 },
        { "PKCS#1", "rsa", "rsa", 0x0401, 0x0804, NULL, 47 },
        { "a scheme that is none", "p256", "p256", 0x0203, 0x0403, NULL, 47 },
        { "RSA said, EC signed", "p256", "p256", 0x0804, 0x0403, NULL, 51 },
        { "the server's context", "p256", "p256", 0x0403, 0x0403,
          "TLS 1.3, server CertificateVerify", 51 },
    };
    play p;
    (void)state;
    for (int require = 0; require < 2; require++) {
        play_server(&p, true, require);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            char cert[64], key[64];
            snprintf(cert, sizeof cert, DATA "client-%s.pem", cases[i].cert ? cases[i].cert : "");
            snprintf(key, sizeof key, DATA "client-%s.key", cases[i].key ? cases[i].key : "");
            c13 *c = play_client(&p);
            c13_hello_send(c, &(c13_hello){ .suites = { 0x1301u + (unsigned)i % 3 } });
            assert_true(c->asked);
            bool ok = c13_certificate(c, cases[i].cert ? cert : NULL);
            if (ok && cases[i].key)
                c13_verify(c, key, cases[i].scheme, cases[i].with, cases[i].context);
            c13_finish(c);
            const int alert = !cases[i].cert && require ? 116 : cases[i].alert;
            if (alert) {
                expect_alert(c, alert, cases[i].what);
                assert_null(hsb__tls_info_of(c->t));
            } else {
                expect_open(c);
                exchange(c);
                assert_int_equal(hsb__tls_info_of(c->t)->client != NULL, cases[i].cert != NULL);
                c13_ticket ticket = c->tickets[0];      /* brings the certificate along */
                play_end(&p);
                c = play_client(&p);
                c13_handshake(c, &(c13_hello){ .suites = { 0x1301u + (unsigned)i % 3 },
                                               .ticket = &ticket });
                expect_open(c);
                assert_true(c->resumed);
                assert_false(c->asked);
                assert_int_equal(hsb__tls_info_of(c->t)->client != NULL, cases[i].cert != NULL);
            }
            play_end(&p);
        }
        help_server_close(&p.s);
    }
}

/* A signature over another transcript than this one. */
static void replayed_signature(void **state)
{
    play p;
    (void)state;
    play_server(&p, true, true);
    c13 *c = play_client(&p);
    c13_hello_send(c, &(c13_hello){ 0 });
    c13_certificate(c, DATA "client-p256.pem");
    c->messages.at[c->messages.len - 1] ^= 1;
    c13_verify(c, DATA "client-p256.key", 0x0403, 0x0403, NULL);
    expect_alert(c, 51, "another transcript");
    play_end(&p);
    help_server_close(&p.s);
}

/* --- downgrades --------------------------------------------------------------------------------------------------------- */
static void downgrades(void **state)
{
    play p;
    (void)state;
    play_server(&p, false, false);
    for (int marked = 0; marked < 2; marked++) {
        c13 *c = play_client(&p);
        p.s.security->versions = marked ? HSB_TLS_1_2_AND_1_3 : HSB_TLS_1_2_ONLY;
        c13_bytes *m = calloc(1, sizeof *m);
        c13_make_hello(c, &(c13_hello){ .suites = { 0xC02B }, .versions = { 0x0303 },
                                        .groups = { 29, 23 } }, m);
        unsigned char record[2048];
        assert_true(hsb__tls_receive(c->t, record, c13_clear(record, 22, m->at, m->len)) > 0);
        hsb_str r = hsb__tls_records(c->t);
        assert_memory_equal(r.ptr, "\x16\x03\x03", 3);
        const size_t len = c13_read((const unsigned char *)r.ptr + 3, 2);
        assert_int_equal(r.ptr[5], 2);
        assert_true(c13_read((const unsigned char *)r.ptr + 6, 3) + 4 <= len);      /* whole */
        assert_int_equal(memcmp(r.ptr + 11 + 24, "DOWNGRD\1", 8) == 0, marked);
        free(m);
        play_end(&p);
    }
    p.s.security->versions = HSB_TLS_1_2_AND_1_3;
    c13 *c = play_client(&p);
    c13_hello_send(c, &(c13_hello){ .suites = { 0xC02B, 0x5600 }, .versions = { 0x0303 } });
    expect_alert(c, 86, "TLS_FALLBACK_SCSV");
    play_end(&p);
    c = play_client(&p);                                /* means nothing in TLS 1.3 */
    c13_handshake(c, &(c13_hello){ .suites = { 0x1301, 0x5600 } });
    expect_open(c);
    play_end(&p);
    help_server_close(&p.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suites_and_groups),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(bad_hellos),
        cmocka_unit_test(retries),
        cmocka_unit_test(tickets),
        cmocka_unit_test(out_of_order),
        cmocka_unit_test(bad_records),
        cmocka_unit_test(good_records),
        cmocka_unit_test(record_limits),
        cmocka_unit_test(early_data),
        cmocka_unit_test(wrong_finished),
        cmocka_unit_test(key_updates),
        cmocka_unit_test(updates_of_ours),
        cmocka_unit_test(updates_without_room),
        cmocka_unit_test(alerts),
        cmocka_unit_test(client_certificates),
        cmocka_unit_test(replayed_signature),
        cmocka_unit_test(downgrades),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
