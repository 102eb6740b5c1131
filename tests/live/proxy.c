/* options.proxy_protocol: the header before everything, whole and in pieces, good and bad; and
   that hooks, limits and getters see the client that it names. */
#define HTTPSBIND_IMPLEMENTATION
#define HSB_FAULT(call, count) fault(call, count)
static int fault(const char *call, void *count);
#include "httpsbind.h"
#include "client.h"

static bool dribble;                    /* the server receives one byte at a time                   */

static int fault(const char *call, void *count)
{
    if (dribble && strcmp(call, "recv") == 0)
        *(size_t *)count = 1;
    return 0;
}

/* --- tools --------------------------------------------------------------------------------- */
static const char line[] = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
static const char unknown[] = "PROXY UNKNOWN\r\n";
static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

static hsb_str binary(unsigned command)
{
    static char bytes[28 + 3 + 300] =
        "\r\n\r\n\0\r\nQUIT\n" "\x21\x21\0\0" "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\1"
        "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\2" "\x01\x02\x01\xBB" "\x04\0\x64";
    bytes[12] = (char)command;
    bytes[15] = (char)(36 + 3 + 100);
    return hsb__text_make(bytes, 16 + 36 + 3 + 100);
}

static void answer_peer(rig *r, hsb_request *req)
{
    char text[HSB_ADDRESS_TEXT_MAX];
    hsb_address peer = hsb_conn_peer(hsb_request_conn(req)), local = hsb_conn_local(hsb_request_conn(req));
    assert_int_equal(local.port, r->port);          /* that is still our own end                   */
    hsb_respond(req, 200, NULL, hsb_text(hsb_address_text(&peer, text)));
}

static bool told_nobody;                /* on_error came with NULL for the connection              */

static void note_error(rig *r, hsb_conn *conn, const hsb_error *err)
{
    (void)r;
    (void)err;
    told_nobody = conn == NULL;
}

static hsb_address accepted;

static bool note_peer(rig *r, hsb_conn *conn)
{
    (void)r;
    accepted = hsb_conn_peer(conn);
    return true;
}

static void open_proxied(rig *r, hsb_options *o, bool secure)
{
    hsb_options none;
    memset(&none, 0, sizeof none);
    o = o ? o : &none;
    o->proxy_protocol = true;
    memset(r, 0, sizeof *r);
    r->on_request = answer_peer;
    r->on_accept = note_peer;
    r->on_error = note_error;
    told_nobody = false;
    rig_open(r, o, secure);
}

static int own_port(const client *c)
{
    struct sockaddr_in in;
    socklen_t len = sizeof in;
    assert_int_equal(getsockname(c->fd, (struct sockaddr *)&in, &len), 0);
    return ntohs(in.sin_port);
}

static void send_raw(client *c, hsb_str s)
{
    assert_int_equal(send(c->fd, s.ptr, s.len, MSG_NOSIGNAL), s.len);
}

static client *dial_through(rig *r, hsb_str header)
{
    client *c = client_new(r, r->port, 0);
    send_raw(c, header);
    if (r->secure)
        assert_true(client_handshake(c));
    return c;
}

static void must_hear(client *c, const char *peer)
{
    for (int i = 0; i < 2; i++) {
        answer a = ask(c, request);
        assert_answer(a, 200, peer);
    }
}

static void must_hear_real(client *c)
{
    char peer[32];
    snprintf(peer, sizeof peer, "127.0.0.1:%d", own_port(c));
    must_hear(c, peer);
}

/* --- good ones ------------------------------------------------------------------------------ */
static void test_both_versions(void **state)
{
    rig r;
    open_proxied(&r, NULL, is_secure(state));
    client *c = dial_through(&r, hsb_text(line));
    must_hear(c, "192.0.2.1:56324");
    assert_int_equal(accepted.port, 56324);
    hang_up(c);
    c = dial_through(&r, binary(0x21));
    must_hear(c, "[2001:db8::1]:258");
    assert_int_equal(accepted.family, HSB_IPV6);
    hang_up(c);
    c = dial_through(&r, hsb_text(unknown));
    must_hear_real(c);
    hang_up(c);
    c = dial_through(&r, binary(0x20));
    must_hear_real(c);
    hang_up(c);
    assert_int_equal(r.errors, 0);
    turn_until(&r, all_closed, "all");
    assert_int_equal(r.accepts, 4);
    rig_close(&r);
}

/* Header and ClientHello, or header and request, in one segment.                                */
static void test_what_follows_is_not_lost(void **state)
{
    static const hsb_str headers[] = { { line, sizeof line - 1 }, { unknown, sizeof unknown - 1 } };
    rig r;
    open_proxied(&r, NULL, is_secure(state));
    for (int i = 0; i < 3; i++) {
        hsb_str h = i < 2 ? headers[i] : binary(0x21);
        client *c = client_new(&r, r.port, 0);
#ifdef TCP_CORK
        int on = 1, off = 0;
        setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
        send_raw(c, h);
        if (r.secure)
            client_hello(c);
        else
            say(c, request);
        setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
#else
        send_raw(c, h);
        if (!r.secure)
            say(c, request);
#endif
        if (r.secure) {
            assert_true(client_handshake(c));
            say(c, request);
        }
        answer a = hear_answer(c, false);
        assert_int_equal(a.status, 200);
        answer_free(&a);
        hang_up(c);
    }
    assert_int_equal(r.errors, 0);
    rig_close(&r);
}

static void test_cut_at_every_byte(void **state)
{
    rig r;
    open_proxied(&r, NULL, is_secure(state));
    for (int version = 1; version <= 2; version++) {
        hsb_str h = version == 1 ? hsb_text(line) : binary(0x21);
        for (size_t cut = 1; cut < h.len; cut += r.secure ? 7 : 1) {
            client *c = client_new(&r, r.port, 0);
            int accepts = r.accepts;
            send_raw(c, hsb__text_make(h.ptr, cut));
            turns(&r, 3);
            assert_int_equal(r.accepts, accepts);       /* the peer is not known yet                  */
            assert_int_equal(hsb_server_connections(r.server).handshaking, 1);
            send_raw(c, hsb__text_make(h.ptr + cut, h.len - cut));
            if (r.secure)
                assert_true(client_handshake(c));
            must_hear(c, version == 1 ? "192.0.2.1:56324" : "[2001:db8::1]:258");
            hang_up(c);
            turn_until(&r, all_closed, "all");
        }
    }
    assert_int_equal(r.errors, 0);
    rig_close(&r);
}

static void test_received_byte_by_byte(void **state)
{
    rig r;
    open_proxied(&r, NULL, is_secure(state));
    dribble = true;
    client *c = dial_through(&r, binary(0x21));
    must_hear(c, "[2001:db8::1]:258");
    hang_up(c);
    turn_until(&r, all_closed, "all");
    dribble = false;
    rig_close(&r);
}

static void test_over_a_unix_socket(void **state)
{
    char host[64];
    rig r;
    hsb_error err;
    struct sockaddr_un un;
    (void)state;
    snprintf(host, sizeof host, "unix:/tmp/httpsbind-proxy-%ld.sock", (long)getpid());
    open_proxied(&r, NULL, false);
    assert_int_equal(hsb_server_listen(r.server, host, 0, NULL, &err), 1);
    r.port = 0;                                     /* of this one                                */
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    strcpy(un.sun_path, host + 5);
    for (int named = 0; named < 2; named++) {
        client *c = calloc(1, sizeof *c);
        assert_non_null(c);
        c->r = &r;
        c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
        clients_open++;
        assert_int_equal(connect(c->fd, (struct sockaddr *)&un, sizeof un), 0);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        send_raw(c, named ? hsb_text(line) : binary(0x20));
        must_hear(c, named ? "192.0.2.1:56324" : "unix:");
        hang_up(c);
    }
    rig_close(&r);
}

/* --- bad ones ------------------------------------------------------------------------------- */
/* Ended, reported once with the real peer and the reason, and no hook has seen a connection.     */
static void must_be_refused(rig *r, client *c, hsb_status status, const char *reason)
{
    char expected[160];
    int errors = r->errors, accepts = r->accepts;
    snprintf(expected, sizeof expected, "PROXY header from 127.0.0.1:%d: %s", own_port(c), reason);
    hear_end(c);
    assert_int_equal(r->errors, errors + 1);
    assert_string_equal(r->told.text, expected);
    assert_int_equal(r->told.status, status);
    assert_true(told_nobody);
    assert_int_equal(r->accepts, accepts);
    assert_int_equal(r->closes, accepts);
    assert_int_equal(hsb_server_connections(r->server).total, 0);
    client_free(c);
}

static void test_malformed(void **state)
{
    static const struct { const char *bytes, *reason; } rows[] = {
        { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "neither version 1 nor 2" },
        { "PROXY TCP4 192.0.2.1 198.51.100.2 443\r\n", "a port is invalid" },
        { "PROXY TCP4 192.0.2.1 198.51.100.2 1 443\n", "CR and LF are apart" },
        { "PROXY TCP4 localhost 198.51.100.2 1 443\r\nGET / HTTP/1.1\r\n\r\n", "an address is invalid" },
    };
    rig r;
    open_proxied(&r, NULL, is_secure(state));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        client *c = client_new(&r, r.port, 0);
        send_raw(c, hsb_text(rows[i].bytes));
        must_be_refused(&r, c, HSB_ERR_HTTP, rows[i].reason);
    }
    client *c = client_new(&r, r.port, 0);
    client_hello(c);                                /* nobody told it about the proxy             */
    SSL_free(c->ssl);
    c->ssl = NULL;
    must_be_refused(&r, c, HSB_ERR_HTTP, "neither version 1 nor 2");
    c = client_new(&r, r.port, 0);
    send_raw(c, binary(0x22));
    must_be_refused(&r, c, HSB_ERR_HTTP, "neither LOCAL nor PROXY of version 2");
    c = dial_through(&r, hsb_text(line));           /* and the next one is served                  */
    must_hear(c, "192.0.2.1:56324");
    hang_up(c);
    rig_close(&r);
}

static void test_ends_before_its_end(void **state)
{
    rig r;
    open_proxied(&r, NULL, is_secure(state));
    for (size_t len = 0; len < sizeof line - 1; len += 11) {
        client *c = client_new(&r, r.port, 0);
        send_raw(c, hsb__text_make(line, len));
        shutdown(c->fd, SHUT_WR);
        must_be_refused(&r, c, HSB_ERR_CLOSED, "the peer left before its end");
    }
    rig_close(&r);
}

static void test_timeout(void **state)
{
    rig r;
    hsb_options o;
    memset(&o, 0, sizeof o);
    o.timeouts.handshake = 200;
    open_proxied(&r, &o, is_secure(state));
    for (size_t len = 0; len < 20; len += 10) {
        client *c = client_new(&r, r.port, 0);
        int64_t begin = clock_ms();
        send_raw(c, hsb__text_make(line, len));
        must_be_refused(&r, c, HSB_ERR_TIMEOUT, "not complete in time");
        assert_within(clock_ms() - begin, 190, 5000);
    }
    rig_close(&r);
}

/* The header does not give the handshake more time.                                              */
static void test_one_timeout_for_both(void **state)
{
    rig r;
    hsb_options o;
    (void)state;
    memset(&o, 0, sizeof o);
    o.timeouts.handshake = 400;
    open_proxied(&r, &o, true);
    client *c = client_new(&r, r.port, 0);
    int64_t begin = clock_ms();
    while (clock_ms() - begin < 300)
        turn(&r, 5);
    send_raw(c, hsb_text(line));
    hear_end(c);
    assert_within(clock_ms() - begin, 390, 650);
    turn_until(&r, all_closed, "all");
    assert_int_equal(r.accepts, 1);
    assert_string_equal(r.told.text, "no handshake in time");
    assert_false(told_nobody);
    client_free(c);
    rig_close(&r);
}

/* A plain connection may then be idle for as long as any other.                                  */
static void test_idle_after_it(void **state)
{
    rig r;
    hsb_options o;
    (void)state;
    memset(&o, 0, sizeof o);
    o.timeouts.handshake = 200;
    open_proxied(&r, &o, false);
    client *c = dial_through(&r, hsb_text(line));
    int64_t begin = clock_ms();
    while (clock_ms() - begin < 500)
        turn(&r, 5);
    must_hear(c, "192.0.2.1:56324");
    hang_up(c);
    rig_close(&r);
}

/* --- filters and limits --------------------------------------------------------------------- */
static bool refuse_documentation(rig *r, hsb_conn *conn)
{
    (void)r;
    return hsb_conn_peer(conn).bytes[0] != 192;
}

static void test_on_accept_filters_clients(void **state)
{
    rig r;
    open_proxied(&r, NULL, is_secure(state));
    r.on_accept = refuse_documentation;
    client *c = client_new(&r, r.port, 0);
    send_raw(c, hsb_text(line));
    hear_end(c);
    turn_until(&r, all_closed, "all");
    assert_int_equal(r.accepts, 1);
    assert_int_equal(r.errors, 0);
    client_free(c);
    c = dial_through(&r, binary(0x21));
    must_hear(c, "[2001:db8::1]:258");
    hang_up(c);
    rig_close(&r);
}

static void test_limit_per_address_is_the_clients(void **state)
{
    enum { LIMIT = 2 };
    rig r;
    hsb_options o;
    client *c[LIMIT];
    memset(&o, 0, sizeof o);
    o.limits.per_address = LIMIT;
    open_proxied(&r, &o, is_secure(state));
    for (int i = 0; i < LIMIT; i++)
        must_hear(c[i] = dial_through(&r, hsb_text(line)), "192.0.2.1:56324");
    client *more = client_new(&r, r.port, 0);
    send_raw(more, hsb_text(line));
    hear_end(more);
    assert_int_equal(r.errors, 1);
    assert_int_equal(r.told.status, HSB_ERR_LIMIT);
    assert_string_equal(r.told.text, "192.0.2.1:56324: its address has 2 connections already");
    assert_true(told_nobody);
    assert_int_equal(r.accepts, LIMIT);
    client_free(more);
    for (int i = 0; i < LIMIT; i++) {           /* another, though the proxy's has many          */
        client *other = dial_through(&r, binary(0x21));
        must_hear(other, "[2001:db8::1]:258");
        hang_up(c[i]);
        c[i] = other;
    }
    turns(&r, 3);
    more = dial_through(&r, hsb_text(line));
    must_hear(more, "192.0.2.1:56324");
    hang_up(more);
    for (int i = 0; i < LIMIT; i++)
        hang_up(c[i]);
    rig_close(&r);
}

/* limits.connections: a proxy that opened a connection and says nothing, or a client behind it
   that says nothing, makes room.                                                                 */
static void test_the_silent_make_room(void **state)
{
    rig r;
    hsb_options o;
    memset(&o, 0, sizeof o);
    o.limits.connections = 2;
    open_proxied(&r, &o, is_secure(state));
    client *silent = client_new(&r, r.port, 0), *named = client_new(&r, r.port, 0);
    turns(&r, 3);
    send_raw(named, hsb_text(line));
    turns(&r, 3);
    assert_int_equal(r.accepts, 1);
    client *c = dial_through(&r, binary(0x21)), *other;
    must_hear(c, "[2001:db8::1]:258");
    hear_end(silent);
    assert_int_equal(r.closes, 0);                  /* no hook knew it                             */
    other = dial_through(&r, binary(0x21));
    must_hear(other, "[2001:db8::1]:258");
    hear_end(named);
    assert_int_equal(r.closes, 1);
    client_free(silent);
    client_free(named);
    hang_up(c);
    hang_up(other);
    rig_close(&r);
}

/* --- closing -------------------------------------------------------------------------------- */
static void test_closing_meanwhile(void **state)
{
    rig r;
    open_proxied(&r, NULL, is_secure(state));
    client *c = client_new(&r, r.port, 0), *never = client_new(&r, r.port, 0);
    send_raw(c, hsb__text_make(line, 10));
    turns(&r, 3);
    hsb_server_close(r.server, false);
    turns(&r, 3);
    send_raw(c, hsb_text(line + 10));               /* it came before the close                    */
    turns(&r, 3);
    if (r.secure)
        assert_true(client_handshake(c));
    answer a = ask(c, request);
    assert_answer(a, 200, "192.0.2.1:56324");
    hang_up(c);
    turns(&r, 3);
    assert_int_equal(hsb_server_connections(r.server).total, 1);
    rig_close(&r);                                  /* which cuts the one without a header         */
    client_free(never);
}

static void test_sharers_agree(void **state)
{
    rig r;
    hsb_error err;
    hsb_options o;
    (void)state;
    memset(&o, 0, sizeof o);
    o.shared = true;
    open_proxied(&r, &o, true);
    o = r.options;
    o.proxy_protocol = false;
    assert_null(hsb_bind_secure("127.0.0.1", r.port, rig_security(), &o, &err));
    assert_int_equal(err.status, HSB_ERR_SHARED);
    assert_non_null(strstr(err.text, "only one of them expects PROXY headers"));
    o.proxy_protocol = true;
    hsb_server *other = hsb_bind_secure("127.0.0.1", r.port, rig_security(), &o, &err);
    assert_non_null(other);
    hsb_server_free(other);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_both_versions), BOTH(test_what_follows_is_not_lost), BOTH(test_cut_at_every_byte),
        BOTH(test_received_byte_by_byte), PLAIN(test_over_a_unix_socket), BOTH(test_malformed),
        BOTH(test_ends_before_its_end), BOTH(test_timeout), TLS(test_one_timeout_for_both),
        PLAIN(test_idle_after_it), BOTH(test_on_accept_filters_clients),
        BOTH(test_limit_per_address_is_the_clients), BOTH(test_the_silent_make_room),
        BOTH(test_closing_meanwhile), TLS(test_sharers_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
