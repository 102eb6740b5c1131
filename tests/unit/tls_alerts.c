/* What a client hears when it broke the rules: the alert of RFC 5246 7.2.2 and RFC 8446 6.2, in
   the handshake and after it, behind all that was sent before. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* receive() overwrites what it gets: here it is a copy. */
static size_t receive(hsb__tls *t, const void *bytes, size_t len)
{
    enum { BEHIND = 64 };                           /* which nobody may write to */
    unsigned char *copy = calloc(1, len + BEHIND);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    const size_t used = hsb__tls_receive(t, copy, len);
    for (size_t i = len; i < len + BEHIND; i++)
        assert_int_equal(copy[i], 0);
    free(copy);
    return used;
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

/* --- after the handshake ------------------------------------------------------------------ */

#define BAD_MAC "TLS: record does not decrypt: altered, or another key"

/* RFC 8446 5.1: nobody looks at the version of a record.  5.2: one may be 256 bytes longer. */
static const struct {
    const char *what;
    unsigned char header[5];
    int alert;
    const char *text;
    int alert_13;
    const char *text_13;
} broken[] = {
    { "bad MAC", { 23, 3, 3, 0, 96 }, 20, BAD_MAC, 20, BAD_MAC },
    { "another type", { 99, 3, 3, 0, 96 }, 10, "TLS: record of an unknown type",
      10, "TLS: record of an unknown type" },
    { "overlong record", { 23, 3, 3, 0x48, 1 }, 22, "TLS: record of an impossible length",
      22, "TLS: record of an impossible length" },
    { "overlong for 1.3", { 23, 3, 3, 0x41, 1 }, 0, NULL,
      22, "TLS: record of an impossible length" },
    { "the longest of 1.3", { 23, 3, 3, 0x41, 0 }, 0, NULL, 20, BAD_MAC },
    { "bytes beside AES's blocks", { 23, 3, 3, 1, 1 }, 20, BAD_MAC, 20, BAD_MAC },
    { "wrong version", { 23, 3, 2, 0, 96 }, 70, "TLS: record of another TLS version",
      20, BAD_MAC },
};

enum { QUEUED_NONE, QUEUED_OPEN, QUEUED_CLOSED, QUEUED_PARTLY_SENT, QUEUED_FULL, QUEUED_WRAPPED, QUEUED };

/* What the server has still to send when the broken record comes; returns its plaintext. */
static size_t queue(help_pair *p, int how)
{
    static char filler[1 << 16];
    size_t len = 0, space;
    if (how == QUEUED_OPEN) {                       /* not protected yet: it goes out first */
        memcpy(hsb__tls_writable(p->tls, &space), "open", 4);
        hsb__tls_written(p->tls, 4);
        return 4;
    }
    if (how == QUEUED_CLOSED || how == QUEUED_PARTLY_SENT) {
        help_server_write(p, "pong", len = 4);
    } else if (how == QUEUED_FULL) {
        for (char *at; (at = hsb__tls_writable(p->tls, &space)) != NULL; len += space) {
            memcpy(at, filler, space);
            hsb__tls_written(p->tls, space);
        }
    } else if (how == QUEUED_WRAPPED) {             /* a small block, filled as far as it may be */
        hsb__buffer b = { .pool = p->tls->record.pool };
        assert_non_null(hsb__buffer_reserve_apart(&b, 1));
        hsb__buffer_added(&b, len = b.size - b.tail - HSB__BUFFER_BEHIND);
        memset(hsb__buffer_data(&b), 'a', len);
        hsb__tls_greet(p->tls);                     /* the tickets of TLS 1.3             */
        help_move_records(p);
        assert_true(hsb__tls_sleep(p->tls));
        assert_true(hsb__tls_wrap(p->tls, &b));
        assert_null(b.data);
    }
    if (how == QUEUED_PARTLY_SENT) {
        assert_int_equal(BIO_write(p->in, hsb__tls_records(p->tls).ptr, 7), 7);
        hsb__tls_records_sent(p->tls, 7);
    }
    return len;
}

/* suite NULL: TLS 1.3 */
static void breaks_a_record(help_server *s, const char *suite, size_t fault, int how)
{
    const help_client client = { .suites = suite, .max_version = suite ? 0 : TLS1_3_VERSION };
    const int alert = suite ? broken[fault].alert : broken[fault].alert_13;
    static unsigned char record[0x5000];
    if (!alert)
        return;
    help_pair p;
    help_open(&p, s, &client);
    help_run(&p);
    help_expect_open(&p);
    const size_t expected = queue(&p, how);
    memcpy(record, broken[fault].header, 5);
    size_t len = 5 + ((size_t)record[3] << 8 | record[4]);
    for (size_t used = 0; used < len && hsb__tls_phase_of(p.tls) == HSB__TLS_OPEN;) {
        const size_t n = receive(p.tls, record + used, len - used);
        if (n == 0)
            break;
        used += n;
    }
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p), suite ? broken[fault].text : broken[fault].text_13);
    size_t got = 0;
    help_move_records(&p);
    for (int n; (n = SSL_read(p.ssl, p.text, sizeof p.text)) > 0;)
        got += (size_t)n;
    if (got != expected || p.alert != alert)
        fail_msg("%s, %s, queued %d: %zu bytes of %zu, alert %d", broken[fault].what,
                 suite ? suite : "TLS 1.3", how, got, expected, p.alert);
    assert_int_equal(hsb__tls_records(p.tls).len, 0);
    assert_true(hsb__tls_sleep(p.tls));
    assert_null(p.tls->record.out);
    SSL_set_shutdown(p.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    help_close(&p);
}

static void a_broken_record_gets_its_alert(void **state)
{
    static const char *const suites[] = { AES128, AES256, CHACHA, CBC128,
                                          "ECDHE-ECDSA-AES256-SHA384", NULL };
    hsb_security_desc desc = help_usual();
    (void)state;
    desc.ciphers = HSB_CIPHERS_COMPATIBLE;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t suite = 0; suite < sizeof suites / sizeof suites[0]; suite++)
        for (size_t fault = 0; fault < sizeof broken / sizeof broken[0]; fault++)
            for (int how = 0; how < QUEUED; how++)
                breaks_a_record(&s, suites[suite], fault, how);
    help_server_close(&s);
}

/* One that the client itself protected. */
static void an_unknown_type_gets_its_alert(void **state)
{
    const hsb_security_desc desc = help_usual();
    unsigned char record[256];
    (void)state;
    help_bear *b = malloc(sizeof *b);
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open_raw(&p, &s);
    help_bear_open(b, s.security);
    while (help_bear_step(b, p.tls))
        ;
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
    const size_t len = help_bear_record(b, 99, "what", 4, record);
    receive(p.tls, record, len);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p), "TLS: record of an unknown type");
    while (help_bear_step(b, p.tls))
        ;
    assert_int_equal(br_ssl_engine_last_error(&b->client.eng), BR_ERR_RECV_FATAL_ALERT + 10);
    help_close(&p);
    help_server_close(&s);
    free(b);
}

/* Nothing follows close_notify: neither ours nor the client's, nor a fatal alert of its own. */
/* In the clear a record has at most 16 KiB, and 256 bytes more where it may be sealed. */
static void lengths_in_the_clear(void **state)
{
    static const struct { unsigned char header[5]; int error; } rows[] = {
        { { 22, 3, 1, 0x40, 0x00 }, 0 }, { { 22, 3, 1, 0x40, 0x01 }, BR_ERR_BAD_LENGTH },
        { { 21, 3, 3, 0x40, 0x01 }, BR_ERR_BAD_LENGTH }, { { 23, 3, 3, 0x41, 0x00 }, 0 },
        { { 23, 3, 3, 0x41, 0x01 }, BR_ERR_BAD_LENGTH }, { { 22, 2, 0, 0, 1 }, BR_ERR_BAD_VERSION },
        { { 19, 3, 3, 0, 1 }, BR_ERR_UNKNOWN_TYPE }, { { 24, 3, 3, 0, 1 }, BR_ERR_UNKNOWN_TYPE }
    };
    static hsb__record record;
    size_t len;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(hsb__record_judge(&record, rows[i].header, &len), rows[i].error);
}

static void no_alert_after_the_end(void **state)
{
    static const unsigned char unknown[6] = { 99, 3, 3, 0, 1, 0 };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    for (int i = 0; i < 2; i++) {
        const help_client client = { .max_version = versions[i] };
        help_open(&p, &s, &client);
        help_run(&p);
        hsb__tls_shut(p.tls);
        help_move_records(&p);
        receive(p.tls, unknown, sizeof unknown);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
        assert_int_equal(hsb__tls_records(p.tls).len, 0);
        help_close(&p);
        help_open(&p, &s, &client);
        help_run(&p);
        SSL_shutdown(p.ssl);
        help_run(&p);
        const size_t before = hsb__tls_records(p.tls).len;
        receive(p.tls, unknown, sizeof unknown);
        assert_int_equal(hsb__tls_records(p.tls).len, before);
        help_close(&p);
    }
    help_server_close(&s);
}

/* A resumed client hears our ChangeCipherSpec before it sends its own: so its alert is
   protected. */
static void a_broken_record_after_our_change(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_client client = { .name = "localhost" };
    client.session = help_visit(&s, &client, false);
    help_open(&p, &s, &client);
    help_move_client(&p);
    help_move_bytes(&p);
    help_move_records(&p);
    help_move_client(&p);
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    p.held[p.held_len - 1] ^= 1;
    while (p.held_len && help_move_bytes(&p))
        ;
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p), "TLS: record does not decrypt: altered, or another key");
    help_move_records(&p);
    assert_true(SSL_read(p.ssl, p.text, sizeof p.text) <= 0);
    assert_int_equal(p.alert, 20);
    help_close(&p);
    SSL_SESSION_free(client.session);
    help_server_close(&s);
}

/* --- in the handshake --------------------------------------------------------------------- */

/* A ClientHello with these extensions, after those that every client sends. */
static void say_hello(help_pair *p, const void *extensions, size_t len, bool in_two)
{
    static const unsigned char begin[] = {
        1, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xC0, 0x2B, 1, 0, 0, 0,
        0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23
    };
    enum { BEFORE = 47 };                           /* the bytes before the extensions      */
    unsigned char message[512], record[1024];
    memcpy(message, begin, sizeof begin);
    memcpy(message + sizeof begin, extensions, len);
    len += sizeof begin;
    message[3] = (unsigned char)(len - 4);
    message[BEFORE - 1] = (unsigned char)(len - BEFORE);
    const size_t first = in_two ? 20 : len;
    for (size_t at = 0, n = first; at < len; at += n, n = len - at) {
        const unsigned char header[5] = { 22, 3, 1, (unsigned char)(n >> 8), (unsigned char)n };
        memcpy(record, header, 5);
        memcpy(record + 5, message + at, n);
        for (size_t used = 0; used < n + 5 && hsb__tls_phase_of(p->tls) != HSB__TLS_DEAD;)
            used += receive(p->tls, record + used, n + 5 - used);
    }
}

/* The plain alert that waits to be sent; 0: none. */
static int plain_alert(help_pair *p)
{
    const hsb_str records = hsb__tls_records(p->tls);
    const unsigned char *at = (const unsigned char *)records.ptr;
    return records.len == 7 && at[0] == 21 && at[1] == 3 && at[4] == 2 && at[5] == 2 ? at[6] : 0;
}

static void refused_hellos(void **state)
{
    static const struct {
        const char *what, *bytes;
        size_t len;
        int alert;
        const char *text;
    } cases[] = {
        { "no common protocol", "\0\x10\0\5\0\3\2h2", 9, 120,
          "TLS: the client has no protocol of ours (ALPN)" },
        { "an empty list", "\0\x10\0\2\0\0", 6, 50, "TLS: malformed list of protocols (ALPN)" },
        { "no list", "\0\x10\0\0", 4, 50, "TLS: malformed list of protocols (ALPN)" },
        { "an empty name", "\0\x10\0\3\0\1\0", 7, 50, "TLS: malformed list of protocols (ALPN)" },
        { "an empty name behind ours", "\0\x10\0\14\0\12\10http/1.1\0", 16, 50,
          "TLS: malformed list of protocols (ALPN)" },
        { "a name that is cut", "\0\x10\0\4\0\2\2h", 8, 50,
          "TLS: malformed list of protocols (ALPN)" },
        { "no points", "\0\13\0\1\0", 5, 47, "TLS: the client has no uncompressed points" },
        { "no list of points", "\0\13\0\0", 4, 47, "TLS: the client has no uncompressed points" },
        { "compressed points", "\0\13\0\3\2\1\2", 7, 47,
          "TLS: the client has no uncompressed points" },
        { "points that are cut", "\0\13\0\2\2\0", 6, 47,
          "TLS: the client has no uncompressed points" },
        { "all points", "\0\13\0\4\3\1\2\0", 8, 0, "" },
        { "our protocol", "\0\x10\0\13\0\11\10http/1.1", 15, 0, "" },
        { "our protocol among others", "\0\x10\0\16\0\14\2h2\10http/1.1", 18, 0, "" },
    };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        const size_t c = i / 2;
        help_pair p;
        help_open_raw(&p, &s);
        say_hello(&p, cases[c].bytes, cases[c].len, i % 2 != 0);
        const int alert = plain_alert(&p);
        help_move_records(&p);              /* after its own alerts the engine ends then     */
        if (strcmp(help_error(&p), cases[c].text) != 0 || alert != cases[c].alert)
            fail_msg("%s: alert %d, %s", cases[c].what, alert, help_error(&p));
        assert_int_equal(hsb__tls_phase_of(p.tls) == HSB__TLS_DEAD, cases[c].alert != 0);
        help_close(&p);
    }
    help_server_close(&s);
}

/* Where a session is resumed by a client that offers other protocols, 0.6 would read beyond its
   list of names.  It is refused as without a session. */
static void no_common_protocol(int version)
{
    const hsb_security_desc desc = help_usual();
    const help_client none = { .name = "localhost", .max_version = version },
                      ours = { .name = "localhost", .max_version = version,
                               .alpn = "\x08http/1.1" };
    help_client other = { .name = "localhost", .max_version = version, .alpn = "\x02h2" };
    help_server s;
    help_server_open(&s, &desc);
    for (int i = 0; i < 2; i++) {
        other.session = help_visit(&s, i ? &ours : &none, false);
        help_pair p;
        help_open(&p, &s, &other);
        help_run(&p);
        help_expect_dead(&p, 120, version == TLS1_3_VERSION
                                      ? "TLS: the client speaks no protocol of ours (ALPN)"
                                      : "TLS: the client has no protocol of ours (ALPN)");
        help_close(&p);
        SSL_SESSION_free(other.session);
    }
    hsb_security_desc silent = help_usual();
    static const char *const nothing[] = { NULL };
    silent.alpn = nothing;                  /* a server without a list does not care */
    help_server t;
    help_server_open(&t, &silent);
    other.session = NULL;
    other.session = help_visit(&t, &other, false);
    SSL_SESSION_free(help_visit(&t, &other, true));
    SSL_SESSION_free(other.session);
    help_server_close(&t);
    help_server_close(&s);
}

static void no_common_protocol_with_a_session(void **state)
{
    (void)state;
    no_common_protocol(TLS1_2_VERSION);
    no_common_protocol(TLS1_3_VERSION);
}

/* Whatever comes first and is no ClientHello ends the connection: another kind of record, and
   what is no record, with its first byte; another message as soon as its record is whole. */
static void first_bytes(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int alert;                          /* 0: the text for http://                       */
        const char *text;
    } cases[] = {
        { "\x16\3\1\0\4\0\0\0\0", 9, 10, "TLS: message out of order" },       /* HelloRequest */
        { "\x16\3\1\0\1\0", 6, 10, "TLS: message out of order" },
        { "\x16\3\1\0\1\x14", 6, 10, "TLS: message out of order" },           /* Finished     */
        { "\x16\3\1\0\0", 5, 10, "TLS: message out of order" },               /* nothing      */
        { "\x15\3\1\0\2\1\0", 7, 10, "TLS: message out of order" },           /* an alert     */
        { "\x14\3\1\0\1\1", 6, 10, "TLS: message out of order" },
        { "\x17\3\3\0\1\0", 6, 10, "TLS: message out of order" },
        { "\x17", 1, 10, "TLS: message out of order" },
        { "\x80\x2E\1\3\1", 5, 10, "not TLS: another protocol" },             /* SSL 2.0      */
        { "\0", 1, 10, "not TLS: another protocol" },
        { " GET / HTTP/1.1\r\n", 17, 10, "not TLS: another protocol" },
        { "G\xFF", 2, 10, "not TLS: another protocol" },
        { "SSH-2.0-x\r\n", 11, 10, "not TLS: another protocol" },
        { "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 26, 10, "not TLS: another protocol" },
        { "1 / HTTP/1.1\r\n", 14, 10, "not TLS: another protocol" },
        { "\r\n", 2, 10, "not TLS: another protocol" },
        { "G", 1, 0, "not TLS: plain HTTP" },
        { "GET / HTTP/1.1\r\n\r\n", 18, 0, "not TLS: plain HTTP" },
        { "M-SEARCH * HTTP/1.1\r\n", 21, 0, "not TLS: plain HTTP" },
    };
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        help_pair p;
        help_open_raw(&p, &s);
        assert_int_equal(receive(p.tls, cases[i].bytes, cases[i].len), cases[i].len);
        if (strcmp(help_error(&p), cases[i].text) != 0 || plain_alert(&p) != cases[i].alert)
            fail_msg("case %zu: alert %d, %s", i, plain_alert(&p), help_error(&p));
        const hsb_str records = hsb__tls_records(p.tls);
        if (!cases[i].alert)
            assert_memory_equal(records.ptr, "HTTP/1.1 400 ", 13);
        hsb__tls_records_sent(p.tls, records.len);
        assert_int_equal(hsb__tls_records(p.tls).len, 0);
        help_close(&p);
    }
    help_server_close(&s);
}

/* The same byte by byte: no byte is read that did not come. */
static void first_bytes_one_by_one(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open_raw(&p, &s);
    static const char bytes[] = "\x16\3\1\0\4\2\0\0";
    for (size_t i = 0; i < sizeof bytes - 1; i++) {
        assert_int_equal(receive(p.tls, bytes + i, 1), 1);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_HANDSHAKE);
    }
    assert_int_equal(receive(p.tls, "", 1), 1);
    assert_int_equal(plain_alert(&p), 10);
    help_close(&p);
    help_server_close(&s);
}

/* --- what ends nothing, and ends that are told as what they are ----------------------------- */

/* RFC 5246 7.4.1.1: two requests for renegotiation in one record get one warning, and what is
   written then goes out behind it. */
static void a_warning_before_what_is_written(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_pair p;
    unsigned char record[256];
    help_bear *b = malloc(sizeof *b);
    help_server_open(&s, &desc);
    help_open_raw(&p, &s);
    help_bear_open(b, s.security);
    while (help_bear_step(b, p.tls))
        ;
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
    size_t len = help_bear_record(b, 22, "\1\0\0\0\1\0\0\0", 8, record);
    assert_int_equal(receive(p.tls, record, len), len);
    help_server_write(&p, "pong", 4);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
    const hsb_str records = hsb__tls_records(p.tls);
    const size_t alert = 5 + 8 + 2 + 16, data = 5 + 8 + 4 + 16;     /* AES-GCM of TLS 1.2 */
    assert_int_equal(records.len, alert + data);
    assert_int_equal(records.ptr[0], 21);
    assert_int_equal(records.ptr[alert], 23);
    help_close(&p);
    help_server_close(&s);
    free(b);
}

/* Who asks again and again and reads nothing gets no more warnings than leave room for the end. */
static void warnings_leave_room_for_the_end(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (int how = QUEUED_CLOSED; how < QUEUED; how++) {
        help_pair p;
        unsigned char record[256];
        help_bear *b = malloc(sizeof *b);
        help_open_raw(&p, &s);
        help_bear_open(b, s.security);
        while (help_bear_step(b, p.tls))
            ;
        if (how != QUEUED_PARTLY_SENT)                  /* for which an OpenSSL client is needed */
            queue(&p, how);
        for (int i = 0; i < 20; i++) {
            const size_t len = help_bear_record(b, 22, "\1\0\0\0", 4, record);
            assert_int_equal(receive(p.tls, record, len), len);
        }
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
        const size_t before = hsb__tls_records(p.tls).len;
        hsb__tls_shut(p.tls);
        const hsb_str records = hsb__tls_records(p.tls);
        assert_int_equal(records.len, before + 5 + 8 + 2 + 16);
        assert_int_equal(records.ptr[before], 21);
        help_close(&p);
        free(b);
    }
    help_server_close(&s);
}

/* A verified certificate that cannot be shown is not a lack of memory. */
static void a_client_that_cannot_be_shown(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        mutual m;
        mutual_open(&m, DATA "ca.pem", true, false);
        help_client client = { .cert = DATA "client-p256.pem", .key = DATA "client-p256.key",
                               .max_version = versions[i] };
        client.session = help_visit(&m.s, &client, false);
        hsb__session *session = m.s.security->sessions.newest;
        assert_non_null(session);
        for (; session; session = session->older) {
            hsb__x509 cert;
            assert_true(hsb__x509_walk(&cert, session->leaf, session->leaf_len));
            *hsb__der_pointer(hsb__text_after(cert.subject, 2)) = HSB__DER_OCTETS;  /* for a SET */
            assert_true(hsb__x509_walk(&cert, session->leaf, session->leaf_len));
        }
        help_open(&m.p, &m.s, &client);
        help_run(&m.p);
        assert_int_equal(hsb__tls_phase_of(m.p.tls), HSB__TLS_DEAD);
        assert_string_equal(help_error(&m.p), "client certificate: malformed");
        SSL_read(m.p.ssl, m.p.text, sizeof m.p.text);
        assert_int_equal(m.p.alert, 42);
        help_close(&m.p);
        SSL_SESSION_free(client.session);
        help_server_close(&m.s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_record_gets_its_alert),
        cmocka_unit_test(an_unknown_type_gets_its_alert),
        cmocka_unit_test(lengths_in_the_clear),
        cmocka_unit_test(no_alert_after_the_end),
        cmocka_unit_test(a_broken_record_after_our_change),
        cmocka_unit_test(refused_hellos),
        cmocka_unit_test(no_common_protocol_with_a_session),
        cmocka_unit_test(first_bytes),
        cmocka_unit_test(first_bytes_one_by_one),
        cmocka_unit_test(a_warning_before_what_is_written),
        cmocka_unit_test(warnings_leave_room_for_the_end),
        cmocka_unit_test(a_client_that_cannot_be_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
