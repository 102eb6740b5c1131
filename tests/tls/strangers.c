/* Who comes to the TLS port and does not speak TLS, or not to its end: he gets what helps
   him, his connection ends in time, and everybody else is served. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"
#include "visitor.h"

enum { HANDSHAKE_MS = 150, CLOSE_MS = 50 };

static void serve(rig *r, int handshake_ms)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    memset(r, 0, sizeof *r);
    o.timeouts.handshake = handshake_ms;
    o.timeouts.close = CLOSE_MS;
    r->on_request = say_ok;
    const hsb_security_desc desc = desc_of("server-p256", NULL);
    rig_open_with(r, o, security_of(&desc));
}

/* It goes on, after whatever happened. */
static void still_serves(rig *r)
{
    const visitor who = { 0 };
    const int errors = r->errors;
    SSL_SESSION_free(visit_once(r, &who, false, "ok"));
    assert_int_equal(r->errors, errors);
}

/* Told once, with the same words in on_close, and no other hook. */
static void told(rig *r, int times, hsb_status status, const char *text)
{
    turn_until(r, all_closed, "the stranger's end");
    assert_int_equal(r->errors, times);
    assert_int_equal(r->told.status, status);
    assert_string_equal(r->told.text, text);
    assert_int_equal(r->closed_with.status, status);
    assert_string_equal(r->closed_with.text, text);
    assert_int_equal(r->heads, 0);
    assert_int_equal(r->handshakes, 0);
}

/* --- http:// for https:// -------------------------------------------------------------------- */
static void plain_http(void **state)
{
    static const char *const said[] = { "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /", "G",
                                        "POST / HTTP/1.0\r\n\r\nbody", "PRI * HTTP/2.0\r\n\r\n" };
    rig r;
    (void)state;
    serve(&r, 10000);
    for (int i = 0; i < 5; i++) {
        client *c = client_new(&r, r.port, 0);
        say(c, said[i]);
        hear_until(c, "\r\n\r\n");
        assert_memory_equal(c->got, "HTTP/1.1 400 Bad Request\r\n", 26);
        assert_non_null(strstr(c->got, "\r\nContent-Type: text/plain\r\n"));
        assert_non_null(strstr(c->got, "\r\nConnection: close\r\n"));
        hear_end(c);
        assert_true(c->ended);
        assert_non_null(strstr(c->got, "\r\n\r\nThis port speaks HTTPS: the address begins https://.\r\n"));
        hang_up(c);
        told(&r, i + 1, HSB_ERR_TLS, "not TLS: plain HTTP");
    }
    still_serves(&r);
    rig_close(&r);
}

/* As somebody sees it who mistyped. */
static size_t keep_text(char *bytes, size_t size, size_t count, void *user)
{
    strncat(user, bytes, size * count);
    return size * count;
}

static void plain_http_by_curl(void **state)
{
    char text[1024] = "";
    long status = 0;
    rig r;
    (void)state;
    serve(&r, 10000);
    r.secure = false;
    CURL *easy = curl_new(&r, "/");
    r.secure = true;
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep_text);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, (void *)text);
    assert_int_equal(curl_run(&r, easy), CURLE_OK);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(easy);
    assert_int_equal(status, 400);
    assert_string_equal(text, "This port speaks HTTPS: the address begins https://.\r\n");
    turn_until(&r, all_closed, "curl's goodbye");
    still_serves(&r);
    rig_close(&r);
}

/* --- not TLS, or not all of it ------------------------------------------------------------------- */
static size_t hello_of(unsigned char *out, size_t size)
{
    const visitor who = { 0 };
    SSL *ssl = visitor_ssl(&who);
    BIO *in = BIO_new(BIO_s_mem()), *sent = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, sent);
    SSL_do_handshake(ssl);
    int n = BIO_read(sent, out, (int)size);
    SSL_free(ssl);
    assert_true(n > 100);
    return (size_t)n;
}

/* Sends that, and says nothing more: the connection ends in time. */
static void says_and_waits(rig *r, const unsigned char *bytes, size_t len)
{
    int64_t begin = clock_ms();
    client *c = client_new(r, r->port, 0);
    try_say(c, (const char *)bytes, len);
    hear_end(c);
    turn_until(r, all_closed, "an end in time");
    assert_true(clock_ms() - begin < PATIENCE_MS);
    client_free(c);
}

static void silent(void **state)
{
    rig r;
    (void)state;
    serve(&r, HANDSHAKE_MS);
    int64_t begin = clock_ms();
    says_and_waits(&r, NULL, 0);
    assert_true(clock_ms() - begin >= HANDSHAKE_MS);
    told(&r, 1, HSB_ERR_TIMEOUT, "no handshake in time");
    still_serves(&r);
    rig_close(&r);
}

/* A byte now and then does not keep it open: the timeout is one for the whole handshake. */
static void slow(void **state)
{
    unsigned char hello[4096];
    size_t len = hello_of(hello, sizeof hello), at = 0;
    rig r;
    (void)state;
    serve(&r, HANDSHAKE_MS);
    int64_t begin = clock_ms();
    client *c = client_new(&r, r.port, 0);
    while (!all_closed(&r) || r.accepts == 0) {
        if (at < len - 1 && say_some(c, (const char *)hello + at, 1) == 1)
            at++;
        turn(&r, 5);
        hear_some(c);
        assert_true(clock_ms() - begin < PATIENCE_MS);
    }
    client_free(c);
    told(&r, 1, HSB_ERR_TIMEOUT, "no handshake in time");
    still_serves(&r);
    rig_close(&r);
}

/* The client goes after every so many bytes of its ClientHello, politely and not. */
static void cut_hellos(void **state)
{
    unsigned char hello[4096];
    size_t len = hello_of(hello, sizeof hello);
    rig r;
    (void)state;
    serve(&r, 10000);
    for (size_t n = 0; n <= len; n += n < 8 ? 1 : 23)
        for (int politely = 0; politely < 2; politely++) {
            const int closes = r.closes;
            client *c = client_new(&r, r.port, 0);
            try_say(c, (const char *)hello, n);
            turns(&r, 3);
            if (politely)
                client_free(c);
            else
                cut_off(c);
            while (r.closes == closes || !all_closed(&r))
                turn(&r, 1);
            assert_int_not_equal(r.closed_with.status, HSB_OK);
            assert_string_equal(r.closed_with.text, r.told.text);
        }
    assert_int_equal(r.handshakes, 0);
    assert_int_equal(r.errors, r.closes);
    still_serves(&r);
    rig_close(&r);
}

/* And waits there, with its connection open. */
static void stuck_hellos(void **state)
{
    unsigned char hello[4096];
    size_t len = hello_of(hello, sizeof hello);
    const size_t at[] = { 1, 5, 6, len / 2, len - 1, len };
    rig r;
    (void)state;
    serve(&r, HANDSHAKE_MS);
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        says_and_waits(&r, hello, at[i]);
        told(&r, (int)i + 1, HSB_ERR_TIMEOUT, "no handshake in time");
    }
    still_serves(&r);
    rig_close(&r);
}

static void garbage(void **state)
{
    unsigned char bytes[8192];
    uint32_t x = 2463534242u;
    rig r;
    (void)state;
    serve(&r, HANDSHAKE_MS);
    for (int round = 0; round < 24; round++) {
        size_t len = 1 + x % sizeof bytes;
        for (size_t i = 0; i < len; i++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            bytes[i] = (unsigned char)(x >> 9);
        }
        if (round % 2) {                        /* a record, at least; sometimes a ClientHello  */
            bytes[0] = 22;
            bytes[1] = 3, bytes[2] = (unsigned char)(1 + x % 3);
            bytes[3] = x % 64, bytes[5] = (unsigned char)(1 + x % 2), bytes[6] = 0;
        }
        const int closes = r.closes;
        says_and_waits(&r, bytes, len);
        assert_int_equal(r.closes, closes + 1);
        assert_int_not_equal(r.closed_with.status, HSB_OK);
        assert_string_equal(r.closed_with.text, r.told.text);
    }
    assert_int_equal(r.errors, r.closes);
    assert_int_equal(r.handshakes, 0);
    still_serves(&r);
    rig_close(&r);
}

/* A crowd of silent ones: nobody waits for them. */
static void crowd(void **state)
{
    enum { MANY = 100 };
    client *c[MANY];
    rig r;
    (void)state;
    serve(&r, 10000);
    for (int i = 0; i < MANY; i++)
        c[i] = client_new(&r, r.port, 0);
    const visitor who = { 0 };
    visit v;
    visit_start(&v, &r, &who);
    assert_true(v.up);
    answer a = ask_path(v.c, "GET", "/", "");
    assert_answer(a, 200, "ok");
    assert_int_equal(hsb_server_connections(r.server).handshaking, MANY);
    hang_up(v.c);
    for (int i = 0; i < MANY; i++)
        client_free(c[i]);
    turn_until(&r, all_closed, "the crowd's end");
    rig_close(&r);
}

/* What the client does not like: its alert is told by name. */
static void client_refuses(void **state)
{
    rig r;
    visit v;
    const visitor who = { 0 };
    (void)state;
    serve(&r, 10000);
    visit_begin(&v, &r, &who);
    SSL_set_verify(v.c->ssl, SSL_VERIFY_PEER, NULL);        /* and it trusts nobody */
    visit_go_on(&v);
    assert_false(v.up);
    client_free(v.c);
    told(&r, 1, HSB_ERR_TLS,
         "TLS: the client ended it: unknown certificate authority (alert 48)");
    still_serves(&r);
    rig_close(&r);
}

/* No version or suite in common. */
static void nothing_in_common(void **state)
{
    static const struct { int version; const char *suites; int alert; const char *text; } c[] = {
        { TLS1_3_VERSION, NULL, SSL_AD_HANDSHAKE_FAILURE,       /* its suites are others       */
          "TLS: the client has no suite, group or signature of ours" },
        { TLS1_1_VERSION, NULL, SSL_AD_PROTOCOL_VERSION,
          "TLS: the client speaks no version of TLS of ours" },
        { TLS1_2_VERSION, "AES128-SHA", SSL_AD_HANDSHAKE_FAILURE,
          "TLS: the client has no suite, curve or signature of ours" },
        { TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", SSL_AD_HANDSHAKE_FAILURE,
          "TLS: the client has no suite, curve or signature of ours" },
    };
    rig r;
    (void)state;
    serve(&r, 10000);
    for (int i = 0; i < 4; i++) {
        const visitor who = { .suites = c[i].suites };
        visit v;
        visit_begin(&v, &r, &who);
        SSL_set_min_proto_version(v.c->ssl, 0);
        SSL_set_max_proto_version(v.c->ssl, c[i].version);
        SSL_set_min_proto_version(v.c->ssl, c[i].version);
        assert_int_equal(SSL_set_ciphersuites(v.c->ssl, "TLS_AES_128_CCM_SHA256"), 1);
        visit_go_on(&v);
        assert_false(v.up);
        if (v.alert != c[i].alert)
            fail_msg("case %d: alert %d; %s", i, v.alert, r.told.text);
        hang_up(v.c);
        told(&r, i + 1, HSB_ERR_TLS, c[i].text);
    }
    still_serves(&r);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_http),
        cmocka_unit_test(plain_http_by_curl),
        cmocka_unit_test(silent),
        cmocka_unit_test(slow),
        cmocka_unit_test(cut_hellos),
        cmocka_unit_test(stuck_hellos),
        cmocka_unit_test(garbage),
        cmocka_unit_test(crowd),
        cmocka_unit_test(client_refuses),
        cmocka_unit_test(nothing_in_common),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests_name("strangers", tests, NULL, NULL);
}
