/* >>tls: an engine of ours against an OpenSSL client, joined by memory.  Handshakes from begin
   to end, bytes in all kinds of pieces, the end of a connection, and what its errors say.  What
   may go wrong with BearSSL 0.6 in a server is a test here or in one of the tls_*.c, on full
   and on resumed handshakes. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* --- handshakes ------------------------------------------------------------------- */

static void every_kind_of_key(void **state)
{
    static const char *const kinds[] = { "p256", "p384", "p521", "rsa2048", "rsa3072",
                                         "rsa4096", "under-rsa", "intermediate" };
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char chain[64], key[64];
        snprintf(chain, sizeof chain, DATA "server-%s.pem", kinds[i]);
        snprintf(key, sizeof key, DATA "server-%s.key", kinds[i]);
        const hsb_security_desc desc = help_desc(chain, key);
        const help_client client = { .name = "localhost", .alpn = "\x02h2\x08http/1.1" };
        help_server s;
        help_pair p;
        help_server_open(&s, &desc);
        help_open(&p, &s, &client);
        assert_null(hsb__tls_info_of(p.tls));
        help_run(&p);
        help_expect_open(&p);
        assert_int_equal(help_info(&p)->version, 0x0303);
        const SSL_CIPHER *cipher = SSL_get_current_cipher(p.ssl);
        assert_string_equal(help_info(&p)->suite_name, SSL_CIPHER_standard_name(cipher));
        assert_int_equal(help_info(&p)->suite, SSL_CIPHER_get_protocol_id(cipher));
        assert_string_equal(help_info(&p)->alpn, "http/1.1");
        assert_string_equal(help_info(&p)->server_name, "localhost");
        assert_false(help_info(&p)->resumed);
        assert_null(help_info(&p)->client);
        assert_int_equal(SSL_get_negotiated_group(p.ssl), NID_X25519);
        help_exchange(&p);
        help_close(&p);
        help_server_close(&s);
    }
}

static void self_signed(void **state)
{
    const help_client client = { .name = "example.org" };
    (void)state;
    hsb_security_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.self_signed_for = "example.org";
    help_server s;
    help_server_open(&s, &desc);
    SSL_SESSION_free(help_visit(&s, &client, false));
    help_server_close(&s);
}

static void bulk(void **state)
{
    static const char *const suites[] = { "AES128-GCM-SHA256", "AES256-GCM-SHA384",
                                          "CHACHA20-POLY1305", "AES128-SHA256",
                                          "AES256-SHA384" };
    static char sent[200000];
    (void)state;
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)('a' + i * 7 % 26);
    sent[sizeof sent - 1] = '\0';
    hsb_security_desc desc = help_usual();
    desc.ciphers = HSB_CIPHERS_COMPATIBLE;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "ECDHE-ECDSA-%s", suites[i]);
        const help_client client = { .suites = name };
        help_pair p;
        help_open(&p, &s, &client);
        help_run(&p);
        help_expect_open(&p);
        assert_string_equal(SSL_get_cipher(p.ssl), name);
        help_server_write(&p, sent, sizeof sent - 1);
        assert_int_equal(strcmp(help_client_read(&p), sent), 0);
        for (size_t at = 0; at + 50000 < sizeof sent; at += 50000)
            assert_int_equal(SSL_write(p.ssl, sent + at, 50000), 50000);
        assert_int_equal(memcmp(help_server_read(&p), sent, 150000), 0);
        help_close(&p);
    }
    help_server_close(&s);
}

/* --- records made where the answer is --------------------------------------------- */

static void queue_apart(const help_pair *p, hsb__buffer *b, const char *text, size_t len)
{
    memset(b, 0, sizeof *b);
    b->pool = p->tls->record.pool;
    assert_non_null(hsb__buffer_reserve_apart(b, len));
    assert_true(hsb__buffer_append(b, text, len));
}

static void wraps(help_pair *p, const char *text, size_t len)
{
    hsb__record *r = &p->tls->record;
    hsb__buffer b;
    queue_apart(p, &b, text, len);
    const void *block = b.data;
    const size_t size = b.size;
    assert_true(hsb__tls_wrap(p->tls, &b));
    assert_null(b.data);
    assert_int_equal(hsb__buffer_len(&b), 0);
    assert_ptr_equal(r->out, block);
    assert_int_equal(r->out_size, size);
    assert_true(size - r->made >= HSB__RECORD_SPARE);           /* for an alert           */
    const char *got = help_client_read(p);
    assert_int_equal(strlen(got), len);
    assert_memory_equal(got, text, len);
    assert_null(r->out);                                        /* it is small: not kept   */
}

/* The queue stays as it is. */
static void refuses(help_pair *p, hsb__buffer *b)
{
    const size_t len = hsb__buffer_len(b), head = b->head;
    const void *out = p->tls->record.out;
    assert_false(hsb__tls_wrap(p->tls, b));
    assert_ptr_equal(p->tls->record.out, out);
    assert_int_equal(hsb__buffer_len(b), len);
    assert_int_equal(b->head, head);
    hsb__buffer_release(b);
}

static void wrapping(help_pair *p, const char *text)
{
    const size_t limit = p->tls->record.limit;
    hsb__buffer b;
    help_exchange(p);
    assert_true(hsb__tls_sleep(p->tls));
    for (size_t len = 1; len < limit; len = len * 3 + 1)
        wraps(p, text, len);
    wraps(p, text, limit);
    queue_apart(p, &b, text, limit + 1);
    refuses(p, &b);
    queue_apart(p, &b, text, 0);
    refuses(p, &b);
    queue_apart(p, &b, text, 100);
    b.head = 4;                                 /* no header fits before it                */
    refuses(p, &b);
    queue_apart(p, &b, text, 100);
    hsb__buffer_added(&b, b.size - b.tail - HSB__BUFFER_BEHIND + 1);
    refuses(p, &b);
    queue_apart(p, &b, text, 0);
    assert_non_null(hsb__buffer_reserve_apart(&b, HSB__RECORD_OUT));
    assert_true(hsb__buffer_append(&b, text, 100));
    refuses(p, &b);                             /* no more is held than in a block of ours  */
    help_server_write(p, "first", 5);           /* what waits goes out first                */
    queue_apart(p, &b, text, 100);
    refuses(p, &b);
    assert_string_equal(help_client_read(p), "first");
    assert_true(hsb__tls_sleep(p->tls));
    wraps(p, text, 20);
    help_server_write(p, text, 100000);         /* and larger ones as ever                 */
    assert_int_equal(strlen(help_client_read(p)), 100000);
    assert_true(hsb__tls_sleep(p->tls));
    hsb__tls_shut(p->tls);
    queue_apart(p, &b, text, 20);
    refuses(p, &b);
}

static void answers_become_records(void **state)
{
    static const char *const suites[] = { "ECDHE-ECDSA-AES128-GCM-SHA256",
                                          "ECDHE-ECDSA-AES256-GCM-SHA384",
                                          "ECDHE-ECDSA-CHACHA20-POLY1305",
                                          "ECDHE-ECDSA-AES128-SHA256",
                                          "ECDHE-ECDSA-AES256-SHA384", NULL };
    static char text[100001];
    (void)state;
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = (char)('a' + i * 7 % 26);
    hsb_security_desc desc = help_usual();
    desc.ciphers = HSB_CIPHERS_COMPATIBLE;
    help_server s;
    help_server_open(&s, &desc);
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        for (int fragment = 0; fragment <= TLSEXT_max_fragment_length_512; fragment++) {
            const help_client client = { .suites = suites[i], .fragment = fragment,
                                         .max_version = suites[i] ? 0 : TLS1_3_VERSION };
            help_pair p;
            help_open(&p, &s, &client);
            help_run(&p);
            help_expect_open(&p);
            wrapping(&p, text);
            help_close(&p);
        }
    }
    help_server_close(&s);
}

/* A Certificate message of several records, larger than the place where flights are
   gathered. */
static void long_chain(void **state)
{
    const hsb_security_desc desc = help_desc(DATA "client-chain100.pem",
                                             DATA "client-chain100.key");
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    for (size_t cut = 0; cut < 2000; cut += 700) {
        help_open(&p, &s, &(help_client){ 0 });
        p.cut = cut;
        help_run(&p);
        help_expect_open(&p);
        assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(p.ssl)), 100);
        help_exchange(&p);
        help_close(&p);
    }
    help_server_close(&s);
}

/* In a handshake the server answers with one packet, whether it resumes or not. */
static void flights(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    help_client client = { .name = "localhost" };
    for (int resumed = 0; resumed < 2; resumed++) {
        help_pair p;
        help_open(&p, &s, &client);
        int packets = 0;
        for (int i = 0; i < 10; i++) {
            help_move_client(&p);
            while (help_move_bytes(&p))
                ;
            for (hsb_str records; (records = hsb__tls_records(p.tls)).len; packets++) {
                assert_int_equal(BIO_write(p.in, records.ptr, (int)records.len), records.len);
                hsb__tls_records_sent(p.tls, records.len);
            }
        }
        assert_int_equal(packets, resumed ? 1 : 2);
        help_run(&p);
        help_expect_open(&p);
        client.session = resumed ? client.session : SSL_get1_session(p.ssl);
        SSL_set_shutdown(p.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        help_close(&p);
    }
    SSL_SESSION_free(client.session);
    help_server_close(&s);
}

/* --- bytes in all kinds of pieces ------------------------------------------------- */

static void cuts(void **state)
{
    mutual m;
    (void)state;
    mutual_open(&m, DATA "ca.pem", true, false);
    for (size_t cut = 1; cut < 40; cut += cut < 8 ? 1 : 5) {
        help_client client = { .name = "localhost", .alpn = "\x08http/1.1",
                               .cert = DATA "client-p256.pem", .key = DATA "client-p256.key" };
        for (int resumed = 0; resumed < 2; resumed++) {
            help_open(&m.p, &m.s, &client);
            m.p.cut = cut;
            help_run(&m.p);
            help_expect_open(&m.p);
            assert_int_equal(help_info(&m.p)->resumed, resumed);
            assert_non_null(help_info(&m.p)->client);
            help_exchange(&m.p);
            client.session = resumed ? client.session : SSL_get1_session(m.p.ssl);
            SSL_set_shutdown(m.p.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
            help_close(&m.p);
        }
        SSL_SESSION_free(client.session);
    }
    help_server_close(&m.s);
}

/* --- the end of a connection ------------------------------------------------------ */

static void client_closes_with(int version)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { .max_version = version };
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_run(&p);
    help_client_write(&p, "last question");     /* and close_notify at once */
    SSL_shutdown(p.ssl);
    help_run(&p);
    assert_false(hsb__tls_peer_shut(p.tls));    /* unfed as long as the question waits */
    hsb_str plain = hsb__tls_plain(p.tls);
    assert_true(hsb__text_is(plain, "last question"));
    hsb__tls_plain_used(p.tls, plain.len);
    help_server_write(&p, "answer", 6);
    assert_string_equal(help_client_read(&p), "answer");
    assert_true(hsb__tls_peer_shut(p.tls));
    assert_int_equal(SSL_get_shutdown(p.ssl), SSL_SENT_SHUTDOWN);
    help_server_write(&p, "more", 4);           /* it only said that it sends no more */
    hsb__tls_shut(p.tls);
    assert_string_equal(help_client_read(&p), "more");
    size_t room;
    assert_null(hsb__tls_writable(p.tls, &room));
    assert_int_equal(SSL_get_shutdown(p.ssl), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    assert_string_equal(help_error(&p), "");
    assert_non_null(hsb__tls_info_of(p.tls));
    help_close(&p);
    help_server_close(&s);
}

static void client_closes(void **state)
{
    (void)state;
    client_closes_with(TLS1_2_VERSION);
    client_closes_with(TLS1_3_VERSION);
}

static void server_closes_with(int version)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { .max_version = version };
    help_server s;
    help_server_open(&s, &desc);
    for (int unread = 0; unread < 2; unread++) {
        help_pair p;
        help_open(&p, &s, &client);
        help_run(&p);
        if (unread)                             /* 0.6 would never end with it */
            help_client_write(&p, "nobody reads this");
        help_run(&p);
        help_server_write(&p, "bye", 3);
        hsb__tls_shut(p.tls);
        hsb__tls_shut(p.tls);
        assert_string_equal(help_client_read(&p), "bye");
        assert_int_equal(SSL_get_shutdown(p.ssl), SSL_RECEIVED_SHUTDOWN);
        assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_OPEN);
        for (int i = 0; i < 200; i++) {         /* what still comes is dropped, however much */
            help_client_write(&p, "still talking");
            help_run(&p);
            assert_int_equal(hsb__tls_plain(p.tls).len, 0);
        }
        assert_int_equal(p.held_len, 0);
        SSL_shutdown(p.ssl);
        help_run(&p);
        assert_true(hsb__tls_peer_shut(p.tls));
        assert_string_equal(help_error(&p), "");
        help_close(&p);
    }
    help_server_close(&s);
}

static void server_closes(void **state)
{
    (void)state;
    server_closes_with(TLS1_2_VERSION);
    server_closes_with(TLS1_3_VERSION);
}

/* In every phase, at once. */
static void close_any_time(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (int i = 0; i < 16; i++) {
        const help_client client = { .max_version = i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION };
        const int steps = i / 2;
        help_pair p;
        help_open(&p, &s, &client);
        for (int k = 0; k < steps; k++) {
            help_move_client(&p);
            if (k % 2)
                help_move_records(&p);
            else
                help_move_bytes(&p);
        }
        hsb__tls_shut(p.tls);
        help_run(&p);
        assert_int_not_equal(p.held_len > 0 && hsb__tls_phase_of(p.tls) != HSB__TLS_DEAD, 1);
        help_close(&p);
    }
    help_server_close(&s);
}

static void broken_record(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_run(&p);
    help_client_write(&p, "hello");
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    p.held[p.held_len - 1] ^= 1;
    help_run(&p);
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    assert_string_equal(help_error(&p),
                        "TLS: record does not decrypt: altered, or another key");
    assert_int_equal(hsb__tls_plain(p.tls).len, 0);
    help_close(&p);
    help_server_close(&s);
}

/* --- threads ---------------------------------------------------------------------- */

static void *visit_often(void *arg)
{
    help_server s;
    memset(&s, 0, sizeof s);
    s.security = arg;
    s.blocks.memory = s.pool.memory = s.pool.engines.memory = &s.memory;
    s.pool.blocks = &s.blocks;
    help_client client = { .name = "localhost" };
    for (int i = 0; i < 12; i++) {
        client.session = NULL;
        client.session = help_visit(&s, &client, false);
        SSL_SESSION_free(help_visit(&s, &client, true));
        SSL_SESSION_free(client.session);
    }
    hsb__tls_pool_close(&s.pool);
    hsb__pool_close(&s.blocks);
    return (void *)s.memory.used;
}

static void threads(void **state)
{
    const hsb_security_desc desc = help_usual();
    pthread_t thread[4];
    (void)state;
    hsb_security *security = help_security(&desc);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, visit_often, security), 0);
    for (int i = 0; i < 4; i++) {
        void *used;
        assert_int_equal(pthread_join(thread[i], &used), 0);
        assert_null(used);
    }
    assert_int_equal(security->references, 1);
    hsb__security_release(security);
}

/* --- texts ------------------------------------------------------------------------ */

/* Every alert that a client may send ends in a line that says which. */
static void texts_of_alerts(void **state)
{
    static const struct { int alert; const char *text; } known[] = {
        { 10, "unexpected message" }, { 20, "bad record MAC" }, { 22, "record overflow" },
        { 40, "handshake failure" }, { 42, "bad certificate" },
        { 43, "unsupported certificate" }, { 44, "certificate revoked" },
        { 45, "certificate expired" }, { 46, "certificate unknown" },
        { 47, "illegal parameter" }, { 48, "unknown certificate authority" },
        { 49, "access denied" }, { 50, "decode error" }, { 51, "decrypt error" },
        { 70, "protocol version" }, { 71, "insufficient security" }, { 80, "internal error" },
        { 86, "inappropriate fallback" }, { 90, "user cancelled" },
        { 100, "no renegotiation" }, { 112, "unrecognized name" },
        { 120, "no application protocol" }, { 33, "unknown alert" }, { 255, "unknown alert" },
    };
    char text[160];
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        hsb__tls t;
        hsb_error err;
        memset(&t, 0, sizeof t);
        t.error = BR_ERR_RECV_FATAL_ALERT + known[i].alert;
        hsb__tls_error_of(&t, &err);
        snprintf(text, sizeof text, "TLS: the client ended it: %s (alert %d)", known[i].text,
                 known[i].alert);
        assert_string_equal(err.text, text);
        assert_int_equal(err.tls_code, t.error);
        t.error = BR_ERR_SEND_FATAL_ALERT + known[i].alert;     /* our own need no number */
        hsb__tls_error_of(&t, &err);
        assert_int_equal(strncmp(err.text, "TLS: ", 5), 0);
        assert_null(strstr(err.text, "ended it"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_key),
        cmocka_unit_test(self_signed),
        cmocka_unit_test(bulk),
        cmocka_unit_test(answers_become_records),
        cmocka_unit_test(long_chain),
        cmocka_unit_test(flights),
        cmocka_unit_test(cuts),
        cmocka_unit_test(client_closes),
        cmocka_unit_test(server_closes),
        cmocka_unit_test(close_any_time),
        cmocka_unit_test(broken_record),
        cmocka_unit_test(threads),
        cmocka_unit_test(texts_of_alerts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
