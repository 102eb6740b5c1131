/* Clients that break the rules: crafted and split ClientHellos, what is not TLS, changed bytes,
   floods. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* --- crafted ClientHellos --------------------------------------------------------- */

/* The ClientHello in two records, cut anywhere: understood and resumed as a whole one. */
static void split_hello(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    help_client client = { .name = "localhost", .alpn = "\x08http/1.1" };
    client.session = help_visit(&s, &client, false);
    for (size_t at = 1; at < 180; at += 13) {
        unsigned char hello[1024];
        help_pair p;
        help_open(&p, &s, &client);
        help_move_client(&p);
        size_t len = (size_t)BIO_read(p.out, hello, sizeof hello);
        const unsigned char first[5] = { 22, 3, 1, 0, (unsigned char)at },
                            second[5] = { 22, 3, 1, (unsigned char)((len - 5 - at) >> 8),
                                          (unsigned char)(len - 5 - at) };
        help_hold(&p, first, 5);
        help_hold(&p, hello + 5, at);
        help_hold(&p, second, 5);
        help_hold(&p, hello + 5 + at, len - 5 - at);
        help_run(&p);
        help_expect_open(&p);
        assert_true(help_info(&p)->resumed);
        assert_string_equal(help_info(&p)->server_name, "localhost");
        help_exchange(&p);
        SSL_set_shutdown(p.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        help_close(&p);
    }
    SSL_SESSION_free(help_visit(&s, &client, true));
    SSL_SESSION_free(client.session);
    help_server_close(&s);
}

/* receive() overwrites what it gets: here it is a copy.                                        */
static size_t receive(hsb__tls *t, const void *bytes, size_t len)
{
    unsigned char *copy = must(malloc(len + 1));
    memcpy(copy, bytes, len);
    size_t used = hsb__tls_receive(t, copy, len);
    free(copy);
    return used;
}

typedef struct craft { unsigned char bytes[1024]; size_t len; } craft;

static void put(craft *c, const void *bytes, size_t len)
{
    if (len)
        memcpy(c->bytes + c->len, bytes, len);
    c->len += len;
}

static void put16(craft *c, size_t n)
{
    const unsigned char two[2] = { (unsigned char)(n >> 8), (unsigned char)n };
    put(c, two, 2);
}

static void put_name(craft *c, const void *name, size_t len)
{
    put16(c, 0);
    put16(c, len + 5);
    put16(c, len + 3);
    put(c, "", 1);
    put16(c, len);
    put(c, name, len);
}

static void put_alpn(craft *c, const char *names)
{
    put16(c, 16);
    put16(c, strlen(names) + 2);
    put16(c, strlen(names));
    put(c, names, strlen(names));
}

/* A ClientHello with that session ID and those extensions, in one record. */
static void send_hello(help_pair *p, const SSL_SESSION *session, const craft *extensions)
{
    static const unsigned char rest[] = { 0, 2, 0xC0, 0x2B, 1, 0 },
        usual_extensions[] = { 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 6, 0, 4, 0, 29, 0, 23 };
    unsigned id_len = 0;
    const unsigned char *id = session ? SSL_SESSION_get_id(session, &id_len) : NULL;
    craft body = { .len = 0 }, all = { .len = 0 };
    put(&body, "\x03\x03" "01234567890123456789012345678901", 34);
    body.bytes[body.len++] = (unsigned char)id_len;
    put(&body, id, id_len);
    put(&body, rest, sizeof rest);
    put16(&body, extensions->len + sizeof usual_extensions);
    put(&body, usual_extensions, sizeof usual_extensions);
    put(&body, extensions->bytes, extensions->len);
    put(&all, "\x16\x03\x01", 3);
    put16(&all, body.len + 4);
    put(&all, "\x01\x00", 2);
    put16(&all, body.len);
    put(&all, body.bytes, body.len);
    help_hold(p, all.bytes, all.len);
    assert_true(help_move_bytes(p));
}

/* What the ServerHello says: does it take up that session? */
static bool answers_with(help_pair *p, const SSL_SESSION *session)
{
    unsigned len;
    const unsigned char *id = SSL_SESSION_get_id(session, &len);
    hsb_str records = hsb__tls_records(p->tls);
    if (records.len == 7)
        return false;                           /* an alert                                  */
    assert_int_equal(hsb__tls_phase_of(p->tls), HSB__TLS_HANDSHAKE);
    assert_true(records.len > 76);
    assert_memory_equal(records.ptr, "\x16\x03\x03", 3);
    assert_int_equal(records.ptr[43], 32);
    return memcmp(records.ptr + 44, id, 32) == 0;
}

static void crafted_hellos(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    const help_client with = { .name = "localhost", .alpn = "\x08http/1.1", .suites = AES128 },
                      without = { .name = "localhost", .suites = AES128 };
    SSL_SESSION *alpn = help_visit(&s, &with, false), *plain = help_visit(&s, &without, false);
    static const struct {
        const char *what, *first, *second, *name, *second_name;
        size_t name_len;
        bool with_alpn, resumed;
    } cases[] = {
        { "as it should be", "\x08http/1.1", NULL, "localhost", NULL, 9, true, true },
        { "ALPN twice, the second unknown", "\x08http/1.1", "\x02h2", "localhost", NULL, 9,
          true, false },
        { "ALPN twice, the first unknown", "\x02h2", "\x08http/1.1", "localhost", NULL, 9,
          true, false },
        { "an empty ALPN name", "\x08http/1.1\x01", NULL, "localhost", NULL, 9, true, false },
        { "unknown ALPN, no ALPN before", "\x02h2", NULL, "localhost", NULL, 9, false, false },
        { "two names", NULL, NULL, "localhost", "other.test", 9, false, false },
        { "two names, reversed", NULL, NULL, "other.test", "localhost", 10, false, false },
        { "NUL behind the name", NULL, NULL, "localhost\0x", NULL, 11, false, false },
        { "NUL in front", NULL, NULL, "\0localhost", NULL, 10, false, false },
        { "an address", NULL, NULL, "127.0.0.1", NULL, 9, false, false },
        { "an empty name", NULL, NULL, "", NULL, 0, false, false },
        { "other letters", NULL, NULL, "LOCALHOST", NULL, 9, false, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const SSL_SESSION *session = cases[i].with_alpn ? alpn : plain;
        craft extensions = { .len = 0 };
        put_name(&extensions, cases[i].name, cases[i].name_len);
        if (cases[i].second_name)
            put_name(&extensions, cases[i].second_name, strlen(cases[i].second_name));
        if (cases[i].first)
            put_alpn(&extensions, cases[i].first);
        if (cases[i].second)
            put_alpn(&extensions, cases[i].second);
        help_pair p;
        help_open_raw(&p, &s);
        send_hello(&p, session, &extensions);
        if (hsb__tls_phase_of(p.tls) == HSB__TLS_DEAD)  /* the engine may refuse it at all */
            assert_false(cases[i].resumed);
        else if (answers_with(&p, session) != cases[i].resumed)
            fail_msg("%s", cases[i].what);
        help_close(&p);
    }
    SSL_SESSION_free(alpn);
    SSL_SESSION_free(plain);
    help_server_close(&s);
}

/* The engine shows a name up to its NUL.  A client that asks for "www.example.org\0.evil" gets
   the default, and so does one whose name ends with a NUL. */
static void nul_in_the_name(void **state)
{
    const hsb_identity more = help_identity(DATA "server-www.pem", DATA "server-www.key");
    hsb_security_desc desc = help_usual();
    (void)state;
    desc.identities = &more;
    desc.identity_count = 1;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t nul = 0; nul < 7; nul++) {
        craft extensions = { .len = 0 };
        help_pair p;
        put_name(&extensions, "www.example.org\0.evil", 15 + nul);
        help_open_raw(&p, &s);
        send_hello(&p, NULL, &extensions);
        assert_ptr_equal(p.tls->tls12->shown, &s.security->identities[nul ? 0 : 1]);
        help_close(&p);
    }
    help_server_close(&s);
}

/* --- what is not TLS -------------------------------------------------------------- */

static void plain_http(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t cut = 0; cut < 2; cut++) {
        help_pair p;
        help_open_raw(&p, &s);
        p.cut = cut;
        help_hold(&p, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35);
        while (p.held_len)
            help_move_bytes(&p);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
        assert_string_equal(help_error(&p), "not TLS: plain HTTP");
        char text[512];
        hsb_str answer = hsb__tls_records(p.tls);
        snprintf(text, sizeof text, "%.*s", (int)answer.len, answer.ptr);
        assert_ptr_equal(strstr(text, "HTTP/1.1 400 Bad Request\r\n"), text);
        const char *body = strstr(text, "\r\n\r\n") + 4;
        char length[64];
        snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", strlen(body));
        assert_non_null(strstr(text, length));
        hsb__tls_records_sent(p.tls, 10);
        assert_int_equal(hsb__tls_records(p.tls).len, answer.len - 10);
        hsb__tls_records_sent(p.tls, answer.len - 10);
        assert_int_equal(hsb__tls_records(p.tls).len, 0);
        assert_int_equal(receive(p.tls, "more", 4), 4);
        hsb__tls_shut(p.tls);
        help_close(&p);
    }
    help_server_close(&s);
}

static void garbage(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int alert;
        const char *text;
    } cases[] = {
        { "\x16\x05\x01\0\5hello", 10, 70, "TLS: record of another TLS version" },
        { "\x16\x03\x01\xFF\xFFhello", 10, 22, "TLS: record of an impossible length" },
        { "\x16\x03\x01\0\4\x02\0\0\0", 9, 10, "TLS: message out of order" },
        { "\x16\x03\x01\0\6\x01\0\0\2\3\3", 11, 50, "TLS: malformed handshake message" },
        { "\x16\x03\x01\0\5\0\0\0\1\0", 10, 10, "TLS: message out of order" },
    };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        help_pair p;
        help_open_raw(&p, &s);
        help_hold(&p, cases[i].bytes, cases[i].len);
        while (p.held_len && help_move_bytes(&p))
            ;
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
        assert_string_equal(help_error(&p), cases[i].text);
        hsb_str records = hsb__tls_records(p.tls);
        const char alert[7] = { 21, 3, 3, 0, 2, 2, (char)cases[i].alert };
        assert_int_equal(records.len, 7);
        assert_memory_equal(records.ptr, alert, 7);
        help_close(&p);
    }
    help_server_close(&s);
}

/* Who talks while our flight waits is not listened to before it is out: so the alert that he
   gets for it comes between two records. */
static void alert_after_the_flight(void **state)
{
    static const unsigned char out_of_order[9] = { 22, 3, 3, 0, 4, 20, 0, 0, 0 };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &(help_client){ 0 });
    help_move_client(&p);
    help_move_bytes(&p);
    assert_int_equal(receive(p.tls, out_of_order, 9), 0);
    hsb_str flight = hsb__tls_records(p.tls);
    BIO_write(p.in, flight.ptr, 10);
    hsb__tls_records_sent(p.tls, 10);
    assert_int_equal(receive(p.tls, out_of_order, 9), 0);
    help_move_records(&p);
    help_hold(&p, out_of_order, 9);
    help_move_bytes(&p);
    help_run(&p);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p), "TLS: message out of order");
    assert_int_equal(p.alert, 10);
    help_close(&p);
    help_server_close(&s);
}

/* Every byte of a client's flights changed, one at a time: it may only fail. */
static void changed_bytes(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    const help_client client = { .name = "localhost", .cert = DATA "client-p256.pem",
                                 .key = DATA "client-p256.key" };
    for (size_t at = 0; at < 200; at++) {
        help_pair *p = &m.p;
        help_open(p, &m.s, &client);
        help_move_client(p);
        if (at >= 100) {
            help_move_bytes(p);
            help_move_records(p);
            help_move_client(p);
        }
        p->held_len = (size_t)BIO_read(p->out, p->held, (int)sizeof p->held);
        p->held[at < 100 ? at : (at - 100) * p->held_len / 100] ^= 0x20;
        help_run(p);
        if (SSL_is_init_finished(p->ssl) && hsb__tls_phase_of(p->tls) == HSB__TLS_OPEN)
            assert_int_equal(at, 2);  /* the record's minor version means nothing here */
        help_close(p);
    }
    help_server_close(&m.s);
}

static void client_leaves(void **state)
{
    static const unsigned char close_notify[7] = { 21, 3, 1, 0, 2, 1, 0 },
                               fatal[7] = { 21, 3, 1, 0, 2, 2, 48 };
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open_raw(&p, &s);                      /* an alert is no ClientHello */
    help_hold(&p, close_notify, 7);
    help_run(&p);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    help_close(&p);
    for (int kind = 0; kind < 2; kind++) {
        help_open(&p, &s, &client);
        help_move_client(&p);
        help_move_bytes(&p);
        help_move_records(&p);
        unsigned char record[7];
        memcpy(record, kind ? fatal : close_notify, 7);
        record[2] = 3;
        help_hold(&p, record, 7);
        help_move_bytes(&p);
        help_move_records(&p);
        hsb_error err;
        hsb__tls_error_of(p.tls, &err);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
        assert_int_equal(err.status, kind ? HSB_ERR_TLS : HSB_ERR_CLOSED);
        assert_string_equal(err.text,
                            kind ? "TLS: the client ended it: "
                                   "unknown certificate authority (alert 48)"
                                 : "TLS: the client left in the handshake");
        help_close(&p);
    }
    help_server_close(&s);
}

/* --- what never ends -------------------------------------------------------------- */

/* What says nothing, instead of the rest of a ClientHello, or of the client's second flight in
   TLS 1.2: the records end in time. */
static void floods_in_the_handshake(void **state)
{
    static const unsigned char empty[5] = { 22, 3, 3, 0, 0 },
                               warning[7] = { 21, 3, 3, 0, 2, 1, 90 },
                               hello_request[9] = { 22, 3, 3, 0, 4, 0, 0, 0, 0 },
                               begun[6] = { 22, 3, 1, 0, 1, 1 };
    const struct { const unsigned char *bytes; size_t len; } floods[] = {
        { empty, 5 }, { warning, 7 }, { hello_request, 9 },
    };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < 6; i++) {
        const size_t kind = i % 3, most = HSB__TLS_HANDSHAKE_BYTES / floods[kind].len + 2;
        help_pair p;
        if (i < 3) {
            help_open_raw(&p, &s);
            assert_int_equal(receive(p.tls, begun, 6), 6);
        } else {
            help_open(&p, &s, &(help_client){ 0 });
            help_move_client(&p);
            help_move_bytes(&p);
            help_move_records(&p);
        }
        for (size_t n = 0; hsb__tls_phase_of(p.tls) != HSB__TLS_DEAD; n++) {
            for (size_t fed = 0; fed < floods[kind].len;) {
                fed += receive(p.tls, floods[kind].bytes + fed, floods[kind].len - fed);
                help_move_records(&p);
            }
            assert_true(n < most);
        }
        assert_string_not_equal(help_error(&p), "");
        help_close(&p);
    }
    help_server_close(&s);
}

/* After the handshake they are encrypted, so OpenSSL has to make them. */
static void renegotiation(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_run(&p);
    help_expect_open(&p);
    assert_int_equal(SSL_renegotiate(p.ssl), 1);
    SSL_do_handshake(p.ssl);
    help_run(&p);
    assert_int_equal(SSL_do_handshake(p.ssl) <= 0, 1);
    assert_int_equal(p.alert, 100);
    help_close(&p);
    help_server_close(&s);
}

static void floods(void **state)
{
    static unsigned char requests[16000];       /* 4000 of them: ClientHello, length 0 */
    const struct { int type; const void *content; size_t len; } cases[] = {
        { 23, "", 0 }, { 21, "\1\132", 2 }, { 22, "\1\0\0\0", 4 },
        { 22, requests, sizeof requests },
    };
    const hsb_security_desc desc = help_usual();
    (void)state;
    for (size_t i = 0; i < sizeof requests; i += 4)
        requests[i] = 1;
    help_bear *b = malloc(sizeof *b);
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static unsigned char record[20000];
        help_pair p;
        help_open_raw(&p, &s);
        help_bear_open(b, s.security);
        while (help_bear_step(b, p.tls))
            ;
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
        int n = 0;
        for (; n < 200 && hsb__tls_phase_of(p.tls) != HSB__TLS_DEAD; n++) {
            if (n == 30 && cases[i].len < 100) {        /* content in between starts it over */
                size_t hello = help_bear_record(b, 23, "hello", 5, record);
                assert_int_equal(hsb__tls_receive(p.tls, record, hello), hello);
                assert_int_equal(hsb__tls_plain(p.tls).len, 5);
                hsb__tls_plain_used(p.tls, 5);
            }
            size_t len = help_bear_record(b, cases[i].type, cases[i].content, cases[i].len, record);
            for (size_t fed = 0; fed < len && hsb__tls_phase_of(p.tls) != HSB__TLS_DEAD;) {
                fed += hsb__tls_receive(p.tls, record + fed, len - fed);
                help_move_records(&p);
            }
        }
        if (cases[i].len < 100) {
            assert_within(n, 94, 97);
            assert_string_equal(help_error(&p), "TLS: too many records without content");
        } else {                                        /* as they bring no content, either */
            assert_within(n, 64, 66);
            assert_string_equal(help_error(&p), "TLS: too many records without content");
        }
        help_close(&p);
    }
    help_server_close(&s);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_hello),
        cmocka_unit_test(crafted_hellos),
        cmocka_unit_test(nul_in_the_name),
        cmocka_unit_test(plain_http),
        cmocka_unit_test(garbage),
        cmocka_unit_test(alert_after_the_flight),
        cmocka_unit_test(changed_bytes),
        cmocka_unit_test(client_leaves),
        cmocka_unit_test(floods_in_the_handshake),
        cmocka_unit_test(renegotiation),
        cmocka_unit_test(floods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
