/* A client whose record breaks after the handshake hears why, over a socket: between requests,
   and behind an answer that was on its way. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"
#include "visitor.h"

enum { LARGE = 1 << 20 };

static void say_much(rig *r, hsb_request *req)
{
    static char much[LARGE];
    (void)r;
    hsb_respond(req, 200, "text/plain", (hsb_str){ much, sizeof much });
}

/* Everything that the server sends, up to the end. */
static size_t hear_all(visit *v)
{
    static char bytes[1 << 16];
    size_t all = 0;
    const int64_t end = clock_ms() + PATIENCE_MS;
    for (;;) {
        ERR_clear_error();
        const int n = SSL_read(v->c->ssl, bytes, sizeof bytes);
        if (n > 0)
            all += (size_t)n;
        else if (SSL_get_error(v->c->ssl, n) != SSL_ERROR_WANT_READ)
            return all;
        if (clock_ms() > end)
            fail_msg("no end");
        if (n <= 0)
            client_wait(v->c, 1);
    }
}

static void breaks(rig *r, const char *record, size_t len, int alert, const char *text)
{
    const visitor who = { 0 };
    visit v;
    visit_start(&v, r, &who);
    assert_true(v.up);
    assert_int_equal(write(v.c->fd, record, len), (ssize_t)len);
    hear_all(&v);
    assert_int_equal(v.alert, alert);
    SSL_set_quiet_shutdown(v.c->ssl, 1);
    hang_up(v.c);
    turn_until(r, all_closed, "the end of who broke a record");
    assert_int_equal(r->closed_with.status, HSB_ERR_TLS);
    assert_string_equal(r->closed_with.text, text);
}

static void between_requests(void **state)
{
    rig r;
    (void)state;
    memset(&r, 0, sizeof r);
    r.on_request = say_ok;
    const hsb_security_desc desc = desc_of("server-p256", NULL);
    rig_open_with(&r, (hsb_options){ .timeouts.close = 50 }, security_of(&desc));
    breaks(&r, "\x17\3\3\0\40" "01234567890123456789012345678901", 37, 20,
           "TLS: record does not decrypt: altered, or another key");
    breaks(&r, "\x17\3\2\0\40", 5, 70, "TLS: record of another TLS version");
    breaks(&r, "\x17\3\3\xF0\1", 5, 22, "TLS: record of an impossible length");
    rig_close(&r);
}

/* What was sent before is whole, and the alert comes after it. */
static void behind_an_answer(void **state)
{
    static const char record[] = "\x17\3\3\0\40" "01234567890123456789012345678901";
    const visitor who = { 0 };
    rig r;
    visit v;
    (void)state;
    memset(&r, 0, sizeof r);
    r.on_request = say_much;
    const hsb_security_desc desc = desc_of("server-p256", NULL);
    rig_open_with(&r, (hsb_options){ .timeouts.close = 1000 }, security_of(&desc));
    visit_start(&v, &r, &who);
    assert_true(v.up);
    assert_int_equal(SSL_write(v.c->ssl, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27), 27);
    assert_int_equal(write(v.c->fd, record, sizeof record - 1), sizeof record - 1);
    const size_t got = hear_all(&v);
    assert_int_equal(v.alert, 20);
    print_message("%zu bytes of the answer before the alert\n", got);
    SSL_set_quiet_shutdown(v.c->ssl, 1);
    hang_up(v.c);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(between_requests),
        cmocka_unit_test(behind_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
