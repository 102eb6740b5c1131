/* What can be asked of a server, a connection and a request, and what a user may hang on
   them. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"

static int marks[3];

static bool mark_conn(rig *r, hsb_conn *conn)
{
    assert_ptr_equal(hsb_conn_server(conn), r->server);
    assert_null(hsb_conn_user(conn));
    hsb_conn_set_user(conn, &marks[0]);
    return true;
}

static void mark_request(rig *r, hsb_request *req)
{
    (void)r;
    assert_null(hsb_request_user(req));
    hsb_request_set_user(req, &marks[1]);
}

static void answer_with_what_is_known(rig *r, hsb_request *req)
{
    char local[HSB_ADDRESS_TEXT_MAX], peer[HSB_ADDRESS_TEXT_MAX], text[512];
    hsb_conn *conn = hsb_request_conn(req);
    hsb_address at = hsb_conn_local(conn), from = hsb_conn_peer(conn);
    assert_ptr_equal(hsb_conn_user(conn), &marks[0]);
    assert_ptr_equal(hsb_request_user(req), &marks[1]);
    assert_int_equal(at.port, r->port);
    assert_int_not_equal(from.port, 0);
    at.port = from.port = 0;
    assert_within(hsb_request_age_us(req), 0, 5000000);
    assert_true(hsb_equal_nocase(hsb_request_host(req), "EXAMPLE.org"));
    snprintf(text, sizeof text, "%s %s %llu", hsb_address_text(&at, local),
             hsb_address_text(&from, peer), (unsigned long long)hsb_conn_id(conn));
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

static void a_connection_and_a_request_tell(void **state)
{
    rig r = { .on_accept = mark_conn, .on_head = mark_request, .on_request = answer_with_what_is_known };
    (void)state;
    rig_open(&r, NULL, false);
    for (int i = 1; i <= 3; i++) {
        char expected[64];
        client *c = dial(&r);
        for (int j = 0; j < 2; j++) {           /* a user pointer is of one request only */
            say(c, "GET / HTTP/1.1\r\nHost: example.ORG\r\n\r\n");
            snprintf(expected, sizeof expected, "127.0.0.1 127.0.0.1 %d", i);
            hear_until(c, expected);
            c->len = 0;
        }
        client_free(c);
    }
    turn_until(&r, all_closed, "the connections end");
    rig_close(&r);
}

static void a_server_tells(void **state)
{
    rig r = { .on_request = answer_with_what_is_known };
    hsb_options options = { .timeouts = { .idle = 4321, .head = -1 }, .limits = { .head_bytes = 999 } };
    (void)state;
    rig_open(&r, &options, false);
    hsb_options found = hsb_server_options(r.server);
    assert_int_equal(found.timeouts.idle, 4321);
    assert_int_equal(found.timeouts.head, -1);
    assert_int_equal(found.timeouts.body, 30000);
    assert_int_equal(found.limits.head_bytes, 999);
    assert_int_equal(found.limits.head_fields, 100);
    assert_null(hsb_server_user(r.server));
    hsb_server_set_user(r.server, &marks[2]);
    assert_ptr_equal(hsb_server_user(r.server), &marks[2]);
    hsb_address at = hsb_server_address(r.server, 0);
    assert_int_equal(at.port, hsb_server_port(r.server));
    assert_int_equal(hsb_server_address(r.server, 1).family, HSB_FAMILY_ANY);
    assert_int_equal(hsb_server_address(r.server, -1).family, HSB_FAMILY_ANY);
    rig_close(&r);
}

static void a_security_tells(void **state)
{
    hsb_error err;
    hsb_security_desc made = { .self_signed_for = "localhost" };
    (void)state;
    hsb_security *one = hsb_security_new(&made, &err), *two = hsb_security_new(&made, &err);
    assert_true(one && two);
    assert_memory_not_equal(hsb_security_sha256(one), hsb_security_sha256(two), 32);
    hsb_str pem = hsb_security_pem(one);
    assert_true(pem.len > 100 && memcmp(pem.ptr, "-----BEGIN CERTIFICATE-----\n", 28) == 0);
    hsb_security_free(one);
    hsb_security_free(two);
    hsb_security_free(NULL);
    hsb_pem none = hsb_pem_text(""), file = hsb_pem_file("x");
    assert_true(none.path == NULL && none.text.len == 0 && strcmp(file.path, "x") == 0);
}

static void every_status_has_a_text(void **state)
{
    (void)state;
    for (int i = 0; i < HSB_STATUS_COUNT; i++)
        assert_true(strlen(hsb_status_text((hsb_status)i)) > 3);
    assert_string_equal(hsb_status_text((hsb_status)-1), "unknown status");
    assert_string_equal(hsb_status_text(HSB_STATUS_COUNT), "unknown status");
    assert_true(hsb_equal(hsb_text("abc"), "abc") && !hsb_equal(hsb_text("abc"), "ab"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_and_a_request_tell),
        cmocka_unit_test(a_server_tells),
        cmocka_unit_test(a_security_tells),
        cmocka_unit_test(every_status_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
