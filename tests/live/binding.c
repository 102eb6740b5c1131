/* Every way to bind, through the public API alone: what can be bound and what cannot, with the
   texts that say why, and what a client finds there.  No name here reaches a network: none of
   them is a name that could be asked for. */
static int misuses;
#define HSB_ASSERT(condition) ((condition) ? (void)0 : (void)misuses++)
#define HTTPSBIND_IMPLEMENTATION
#define HSB_FAULT(call, count) fault(call, count)
static int fault(const char *call, void *count);
#include "httpsbind.h"
#include "client.h"
#include "network.h"

static bool alone;                      /* in a network of our own                                   */
static const char *fail_call;           /* this system call fails, set while one thread runs */

static int fault(const char *call, void *count)
{
    (void)count;
    return fail_call && strcmp(call, fail_call) == 0 ? ENOBUFS : 0;
}

/* --- servers -------------------------------------------------------------------------------- */
enum { BIND_SECURE, BIND, LISTEN, LISTEN_TLS, WAYS_BY_NAME, BIND_SECURE_AT = WAYS_BY_NAME,
       LISTEN_AT, WAYS };

typedef struct bound {          /* a server, or one more listener of a server               */
    rig       r;
    int       listener;         /* -1: the error came there                                 */
    hsb_error err;
} bound;

/* Where the request came in, and from whom.                                                */
static void answer_where(rig *r, hsb_request *req)
{
    char local[HSB_ADDRESS_TEXT_MAX], text[200];
    hsb_conn *conn = hsb_request_conn(req);
    hsb_address a = hsb_conn_local(conn), peer = hsb_conn_peer(conn);
    snprintf(text, sizeof text, "%s at %s, peer is IPv%c", hsb_conn_tls(conn) ? "TLS" : "plain",
             hsb_address_text(&a, local), peer.family == HSB_IPV4 ? '4' : '6');
    (void)r;
    hsb_respond(req, 200, NULL, hsb_text(text));
}

static bool try_bind(bound *b, int way, const char *host, int port, const hsb_options *options)
{
    hsb_address a;
    memset(b, 0, sizeof *b);
    b->r.on_request = answer_where;
    rig_prepare(&b->r, options, way == BIND_SECURE || way == BIND_SECURE_AT);
    hsb_options *o = &b->r.options;
    if (way >= WAYS_BY_NAME) {
        assert_true(hsb_address_parse(&a, host));
        a.port = (uint16_t)port;
    }
    memset(&b->err, 0xEE, sizeof b->err);
    if (way == BIND_SECURE) {
        b->r.server = hsb_bind_secure(host, port, rig_security(), o, &b->err);
    } else if (way == BIND_SECURE_AT) {
        b->r.server = hsb_bind_secure_at(&a, rig_security(), o, &b->err);
    } else if (way == BIND) {
        b->r.server = hsb_bind(host, port, o, &b->err);
    } else {
        b->r.server = hsb_bind("127.0.0.1", 0, o, NULL);
        assert_non_null(b->r.server);
        b->listener = way == LISTEN_AT
            ? hsb_server_listen_at(b->r.server, &a, NULL, &b->err)
            : hsb_server_listen(b->r.server, host, port, way == LISTEN ? NULL : rig_security(), &b->err);
    }
    bool ok = b->r.server && b->listener >= 0;
    if (ok) {
        assert_int_equal(b->err.status, HSB_OK);
        b->r.port = hsb_server_address(b->r.server, b->listener).port;
    }
    return ok;
}

static void must_bind(bound *b, int way, const char *host, int port, const hsb_options *options)
{
    if (!try_bind(b, way, host, port, options))
        fail_msg("%s", b->err.text);
}

/* Where the network is not ours alone, a port that is free here may not be free there, now and
   then: the test tries again with another.                                                  */
static void somebody_else_has_it(const hsb_error *err)
{
    static int times;
    if (alone || err->system_code != EADDRINUSE || ++times > 20)
        fail_msg("%s", err->text);
}

/* A server that was asked to listen in vain goes on.                                        */
static void must_not_bind(int way, const char *host, int port, const hsb_options *options,
                          hsb_status status, int code, const char *text)
{
    bound b;
    if (try_bind(&b, way, host, port, options))
        fail_msg("%s port %d: bound", host, port);
    assert_string_equal(b.err.text, text);
    assert_int_equal(b.err.status, status);
    assert_int_equal(b.err.system_code, code);
    if (b.r.server) {
        assert_int_equal(b.listener, -1);
        assert_int_equal(hsb_server_address(b.r.server, 1).family, HSB_FAMILY_ANY);
        b.r.port = hsb_server_port(b.r.server);
        client *c = dial(&b.r);
        answer a = ask_path(c, "GET", "/", "");
        assert_int_equal(a.status, 200);
        answer_free(&a);
        hang_up(c);
    }
    rig_close(&b.r);
}

/* --- clients of any address -------------------------------------------------------------------- */
static int reach(const char *number, int port)
{
    struct sockaddr_storage ss;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&ss;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ss;
    hsb_address a;
    memset(&ss, 0, sizeof ss);
    assert_true(hsb_address_parse(&a, number));
    if (a.family == HSB_IPV4) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        memcpy(&v4->sin_addr, a.bytes, 4);
    } else {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        v6->sin6_scope_id = a.scope_id;
        memcpy(&v6->sin6_addr, a.bytes, 16);
    }
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&ss, sizeof ss) == 0)
        return fd;
    close(fd);
    return -1;
}

/* What "/" says there, by TLS or plain; "": nobody listens.  Good until the next call.            */
static const char *said_at(rig *r, const char *number, int port, bool secure)
{
    static char said[200];
    client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->r = r;
    c->fd = reach(number, port);
    said[0] = '\0';
    if (c->fd < 0) {
        free(c);
        return said;
    }
    clients_open++;
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    assert_true(!secure || client_handshake(c));
    answer a = ask_path(c, "GET", "/", "");
    assert_int_equal(a.status, 200);
    snprintf(said, sizeof said, "%s", a.body);
    answer_free(&a);
    hang_up(c);
    return said;
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* --- names, addresses and ports that cannot be had --------------------------------------------------- */
static void test_names(void **state)
{
    static char label[300];
    static const struct { const char *host; bool number; } rows[] = {
        { "no such host", false }, { "a..b", false }, { label, false },
        { "127.1", true }, { "010.0.0.1", true }, { "0x7f000001", true }, { "127.0.0.1:80", true },
        { "fe80::1%no such zone", true }, { "::1%lo", true }, { "fe80::1%", true }, { "[::1", true },
        { "::1]", true }, { "1::2::3", true }, { "::12345", true }, { "[::1]:443", true },
    };
    (void)state;
    memset(label, 'a', sizeof label - 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows * WAYS_BY_NAME; i++) {
        const char *host = rows[i / WAYS_BY_NAME].host;
        char expected[160];
        snprintf(expected, sizeof expected, strchr(host, ':') ? "bind [%.72s]:4433: %s" : "bind %.72s:4433: %s",
                 host, rows[i / WAYS_BY_NAME].number ? "not a well-formed address, or no such zone"
                                                     : gai_strerror(EAI_NONAME));
        must_not_bind((int)(i % WAYS_BY_NAME), host, 4433, NULL, HSB_ERR_LOOKUP, EAI_NONAME, expected);
    }
    bound b;
    must_bind(&b, BIND_SECURE, "localhost", 0, NULL);
    hsb_address first, a = hsb_server_address(b.r.server, 0);
    assert_int_equal(hsb_lookup("localhost", HSB_FAMILY_ANY, &first, 1, NULL), 1);
    assert_memory_equal(first.bytes, a.bytes, sizeof a.bytes);
    rig_close(&b.r);
}

static void test_addresses_that_are_not_ours(void **state)
{
    static const struct { const char *host, *at; int code; } rows[] = {
        { "192.0.2.1", "192.0.2.1", EADDRNOTAVAIL }, { "2001:db8::1", "[2001:db8::1]", EADDRNOTAVAIL },
        { "[2001:DB8::1]", "[2001:db8::1]", EADDRNOTAVAIL },
        { "fe80::1", "[fe80::1]", EINVAL },             /* which of them?  RFC 4007 6            */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows * WAYS; i++) {
        char text[160];
        snprintf(text, sizeof text, "bind %s:4433: %s", rows[i / WAYS].at, strerror(rows[i / WAYS].code));
        must_not_bind((int)(i % WAYS), rows[i / WAYS].host, 4433, NULL, HSB_ERR_SYSTEM,
                      rows[i / WAYS].code, text);
    }
    must_not_bind(BIND, "192.0.2.1", 0, NULL, HSB_ERR_SYSTEM, EADDRNOTAVAIL,
                  "bind 192.0.2.1 (any port): Cannot assign requested address");
}

/* Neither IPv4 nor IPv6: what is zeroed is no address, and never "::".                              */
static void test_no_address(void **state)
{
    hsb_address none;
    hsb_error err;
    bound b;
    (void)state;
    memset(&none, 0, sizeof none);
    must_bind(&b, BIND, "127.0.0.1", 0, NULL);
    for (int family = 0; family < 6; family += family ? 1 : 4) {
        none.family = (hsb_family)family;
        assert_null(hsb_bind_secure_at(&none, rig_security(), &b.r.options, &err));
        assert_int_equal(err.status, HSB_ERR_MISUSE);
        assert_int_equal(hsb_server_listen_at(b.r.server, &none, NULL, &err), -1);
        assert_int_equal(err.status, HSB_ERR_MISUSE);
        assert_true(starts(err.text, "bind unknown"));
    }
    rig_close(&b.r);
}

/* Another program has it: here a socket that this one has no record of.                             */
static void test_port_in_use(void **state)
{
    bound other;
    char text[160];
    must_bind(&other, BIND_SECURE, "127.0.0.1", 0, NULL);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in;
    socklen_t len = sizeof in;
    (void)state;
    memset(&in, 0, sizeof in);
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    for (int way = 0; way < WAYS * 2; way++) {
        hsb_options o;
        memset(&o, 0, sizeof o);
        o.shared = way >= WAYS;
        snprintf(text, sizeof text, "bind 127.0.0.1:%d: Address already in use", ntohs(in.sin_port));
        must_not_bind(way % WAYS, "127.0.0.1", ntohs(in.sin_port), &o, HSB_ERR_SYSTEM, EADDRINUSE, text);
    }
    assert_true(starts(said_at(&other.r, "127.0.0.1", other.r.port, true), "TLS at 127.0.0.1:"));
    turn_until(&other.r, all_closed, "its end");
    close(fd);
    bound b;
    must_bind(&b, BIND, "127.0.0.1", ntohs(in.sin_port), NULL);
    rig_close(&b.r);
    rig_close(&other.r);
}

static void test_ports(void **state)
{
    static const int outside[] = { -1, -443, 65536, 65536 + 443, 70000, INT_MIN, INT_MAX };
    static const int inside[] = { 0, 1, 443, 1023, 1024, 4433, 65534, 65535 };
    (void)state;
    for (size_t i = 0; i < sizeof outside / sizeof *outside * WAYS_BY_NAME; i++) {
        char text[160];
        int port = outside[i / WAYS_BY_NAME];
        snprintf(text, sizeof text, "bind 127.0.0.1:%d: no such port", port);
        must_not_bind((int)(i % WAYS_BY_NAME), "127.0.0.1", port, NULL, HSB_ERR_MISUSE, 0, text);
    }
    for (size_t i = 0; i < sizeof inside / sizeof *inside * WAYS; i++) {
        bound b;
        char text[160];
        int port = inside[i / WAYS];
        if (try_bind(&b, (int)(i % WAYS), "127.0.0.1", port, NULL)) {
            assert_true(port ? b.r.port == port : b.r.port > 0 && b.r.port < 65535);
            assert_int_equal(b.r.port, hsb_server_address(b.r.server, b.listener).port);
        } else {                            /* where it is not ours to have                  */
            assert_true(b.err.system_code == EACCES || b.err.system_code == EADDRINUSE);
            snprintf(text, sizeof text, "bind 127.0.0.1:%d: %s", port, strerror(b.err.system_code));
            assert_string_equal(b.err.text, text);
        }
        rig_close(&b.r);
    }
}

static int without_rights(void)
{
    hsb_error err;
    if (setgid(65534) < 0 || setuid(65534) < 0)
        return child_skips("only root can become nobody");
    if (hsb_bind("127.0.0.1", 443, NULL, &err))
        return child_skips("everybody may bind port 443 here");
    return err.status == HSB_ERR_SYSTEM && err.system_code == EACCES &&
           strcmp(err.text, "bind 127.0.0.1:443: Permission denied") == 0 ? CHILD_OK : 1;
}

static void test_port_we_may_not_have(void **state)
{
    (void)state;
    in_child(without_rights);
}

/* Of two ports the system likes 65535 better.                                               */
static int with_two_ports(void)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    if (!own_network(65534, 65535))
        return child_skips("a network of its own is not allowed here");
    for (int round = 0; round < 20; round++) {
        o.shared = round & 1;
        hsb_server *s = hsb_bind(round & 2 ? "::1" : "127.0.0.1", 0, &o, NULL);
        if (!s || hsb_server_port(s) != 65534)
            return 1;
        hsb_server_free(s);
    }
    return CHILD_OK;
}

static void test_never_65535(void **state)
{
    (void)state;
    in_child(with_two_ports);
}

/* --- IPv4 and IPv6 ------------------------------------------------------------------------- */
static void test_who_reaches_what(void **state)
{
    static const struct { const char *host; bool v6_only, by_v4, by_v6; } rows[] = {
        { "::", false, true, true }, { "::", true, false, true }, { "::1", false, false, true },
        { "::1", true, false, true }, { "0.0.0.0", false, true, false },
        { "0.0.0.0", true, true, false }, { "127.0.0.1", false, true, false },
        { "127.0.0.1", true, true, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows * WAYS; i++) {
        bound b;
        hsb_options o;
        char text[HSB_ADDRESS_TEXT_MAX], expected[200];
        int row = (int)(i / WAYS), way = (int)(i % WAYS);
        bool tls = way == BIND_SECURE || way == BIND_SECURE_AT || way == LISTEN_TLS;
        memset(&o, 0, sizeof o);
        o.v6_only = rows[row].v6_only;
        must_bind(&b, way, rows[row].host, 0, &o);
        hsb_address a = hsb_server_address(b.r.server, b.listener);
        snprintf(expected, sizeof expected, strchr(rows[row].host, ':') ? "[%s]:%d" : "%s:%d",
                 rows[row].host, b.r.port);
        assert_string_equal(hsb_address_text(&a, text), expected);
        snprintf(expected, sizeof expected, "%s at 127.0.0.1:%d, peer is IPv4", tls ? "TLS" : "plain", b.r.port);
        assert_string_equal(said_at(&b.r, "127.0.0.1", b.r.port, tls), rows[row].by_v4 ? expected : "");
        snprintf(expected, sizeof expected, "%s at [::1]:%d, peer is IPv6", tls ? "TLS" : "plain", b.r.port);
        assert_string_equal(said_at(&b.r, "::1", b.r.port, tls), rows[row].by_v6 ? expected : "");
        rig_close(&b.r);
    }
}

/* On one port: "::" for IPv6 alone stands beside 0.0.0.0, "::" for both does not.            */
static void test_beside_each_other(void **state)
{
    static const char *const hosts[] = { "::", "0.0.0.0" };
    (void)state;
    for (int i = 0; i < 8; i++) {
        bound first, second;
        hsb_options o;
        char text[160];
        const char *one = hosts[i & 1], *two = hosts[!(i & 1)];
        memset(&o, 0, sizeof o);
        o.v6_only = i & 2;
        o.shared = i & 4;
        must_bind(&first, BIND_SECURE, one, 0, &o);
        if (o.v6_only) {
            if (!try_bind(&second, BIND_SECURE, two, first.r.port, &o)) {
                somebody_else_has_it(&second.err);
                rig_close(&first.r);
                i--;
                continue;
            }
            rig *v4 = i & 1 ? &first.r : &second.r, *v6 = i & 1 ? &second.r : &first.r;
            assert_true(starts(said_at(v4, "127.0.0.1", v4->port, true), "TLS at 127.0.0.1:"));
            assert_true(starts(said_at(v6, "::1", v6->port, true), "TLS at [::1]:"));
            assert_int_equal(v4->accepts, 1);
            assert_int_equal(v6->accepts, 1);
            turn_until(v4, all_closed, "its end");
            turn_until(v6, all_closed, "its end");
            rig_close(&second.r);
            assert_int_equal(hsb_server_listen(first.r.server, two, first.r.port, rig_security(), NULL), 1);
            assert_true(starts(said_at(&first.r, "127.0.0.1", first.r.port, true), "TLS at 127.0.0.1:"));
            assert_true(starts(said_at(&first.r, "::1", first.r.port, true), "TLS at [::1]:"));
        } else {
            snprintf(text, sizeof text, strchr(two, ':') ? "bind [%s]:%d: Address already in use"
                     : "bind %s:%d: Address already in use", two, first.r.port);
            must_not_bind(BIND_SECURE, two, first.r.port, &o, HSB_ERR_SYSTEM, EADDRINUSE, text);
            must_not_bind(LISTEN, two, first.r.port, &o, HSB_ERR_SYSTEM, EADDRINUSE, text);
        }
        rig_close(&first.r);
    }
}

/* A link-local address with its zone.                                                          */
static void seen_from_zone(rig *r, hsb_request *req)
{
    hsb_address peer = hsb_conn_peer(hsb_request_conn(req));
    hsb_address local = hsb_conn_local(hsb_request_conn(req));
    bool zones = peer.scope_id && peer.scope_id == local.scope_id;
    (void)r;
    hsb_respond(req, 200, NULL, hsb_text(zones ? "zones" : "no zones"));
}

static int with_a_zone(void)
{
    static const char *const hosts[] = { "fe80::1%lo", "[fe80::1%lo]" };
    if (!own_network(40000, 50000) || !add_to_loopback("fe80::1"))
        return child_skips("a network of its own is not allowed here");
    for (int i = 0; i < 2; i++) {
        char text[HSB_ADDRESS_TEXT_MAX], expected[HSB_ADDRESS_TEXT_MAX];
        bound b;
        int patience = 300, fd = -1;        /* the address is there when the system gets to it  */
        while (!try_bind(&b, BIND, hosts[i], 0, NULL) && patience-- > 0) {
            hsb_server_free(b.r.server);
            poll(NULL, 0, 10);
        }
        if (!b.r.server)
            return 1;
        hsb_address a = hsb_server_address(b.r.server, 0);
        snprintf(expected, sizeof expected, "[fe80::1%%lo]:%d", b.r.port);
        if (strcmp(hsb_address_text(&a, text), expected) != 0)
            return 2;
        b.r.on_request = seen_from_zone;
        while ((fd = reach("fe80::1%lo", b.r.port)) < 0 && patience-- > 0)
            poll(NULL, 0, 10);
        close(fd);
        if (fd < 0)
            return 3;
        if (strcmp(said_at(&b.r, "fe80::1%lo", b.r.port, false), "zones") != 0)
            return 4;
        hsb_server_free(b.r.server);
    }
    return CHILD_OK;
}

static void test_zones(void **state)
{
    (void)state;
    in_child(with_a_zone);
}

/* --- descriptors ------------------------------------------------------------------------------- */
static int listening(const char *number)
{
    hsb_address a;
    struct sockaddr_storage ss;
    assert_true(hsb_address_parse(&a, number));
    socklen_t len = hsb__os_to_sockaddr(&a, &ss);
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
    assert_int_equal(listen(fd, 5), 0);
    return fd;
}

static void test_descriptor(void **state)
{
    static const char *const numbers[] = { "127.0.0.1", "::1" };
    (void)state;
    for (int i = 0; i < 2; i++) {
        rig r = { .on_request = answer_where };
        hsb_error err;
        rig_prepare(&r, NULL, true);
        int fd = listening(numbers[i]), more = listening(numbers[!i]);
        r.server = hsb_bind_secure_fd(fd, rig_security(), &r.options, &err);
        assert_non_null(r.server);
        r.port = hsb_server_port(r.server);
        assert_true(r.port > 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_int_equal(hsb_server_listen_fd(r.server, more, NULL, &err), 1);
        hsb_address a = hsb_server_address(r.server, 1);
        assert_true(starts(said_at(&r, numbers[i], r.port, true), i ? "TLS at [::1]:" : "TLS at 127.0.0.1:"));
        assert_true(starts(said_at(&r, numbers[!i], a.port, false),
                           i ? "plain at 127.0.0.1:" : "plain at [::1]:"));
        rig_close(&r);                      /* both are closed with it                         */
        assert_int_equal(reach(numbers[i], r.port), -1);
    }
}

/* Nothing happens to what is refused.                                                          */
static void test_refused_descriptors(void **state)
{
    int pair[2], pipes[2], fds[8], count = 0;
    bound b;
    hsb_error err;
    (void)state;
    must_bind(&b, BIND, "127.0.0.1", 0, NULL);
    int udp = socket(AF_INET, SOCK_DGRAM, 0), not_yet = socket(AF_INET, SOCK_STREAM, 0);
    int unix_fd = socket(AF_UNIX, SOCK_DGRAM, 0), connected = reach("127.0.0.1", b.r.port);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pipe(pipes), 0);
    fds[count++] = udp;
    fds[count++] = not_yet;
    fds[count++] = unix_fd;
    fds[count++] = connected;
    fds[count++] = pair[0];
    fds[count++] = pipes[0];
    fds[count++] = open("/dev/null", O_RDONLY);
    for (int i = 0; i < count; i++) {
        char text[160];
        int flags = fcntl(fds[i], F_GETFL), fd_flags = fcntl(fds[i], F_GETFD);
        snprintf(text, sizeof text, "descriptor %d: not a TCP or Unix socket that listens", fds[i]);
        assert_null(hsb_bind_secure_fd(fds[i], rig_security(), &b.r.options, &err));
        assert_string_equal(err.text, text);
        assert_int_equal(hsb_server_listen_fd(b.r.server, fds[i], NULL, &err), -1);
        assert_string_equal(err.text, text);
        assert_int_equal(err.status, HSB_ERR_SYSTEM);
        assert_int_equal(fcntl(fds[i], F_GETFL), flags);
        assert_int_equal(fcntl(fds[i], F_GETFD), fd_flags);
        close(fds[i]);
    }
    close(pair[1]);
    close(pipes[1]);
    static const int none[] = { -1, 4095, INT_MAX, INT_MIN };
    for (int i = 0; i < 4; i++) {
        char text[160];
        snprintf(text, sizeof text, "descriptor %d: %s", none[i], strerror(EBADF));
        assert_null(hsb_bind_secure_fd(none[i], rig_security(), &b.r.options, &err));
        assert_string_equal(err.text, text);
        assert_int_equal(err.system_code, EBADF);
        assert_int_equal(hsb_server_listen_fd(b.r.server, none[i], rig_security(), &err), -1);
    }
    assert_true(starts(said_at(&b.r, "127.0.0.1", b.r.port, false), "plain"));
    rig_close(&b.r);
}

/* What a service manager does: the socket listens, then a program is started that inherits it.
   This is the program; it serves one connection.                                              */
static void close_server(hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)why;
    (void)user;
    hsb_server_close(hsb_conn_server(conn), false);
}

static void answer_inherited(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond(req, 200, NULL, hsb_text("inherited"));
}

static int inherit(int fd)
{
    hsb_options o;
    hsb_error err;
    memset(&o, 0, sizeof o);
    o.hooks.on_request = answer_inherited;
    o.hooks.on_close = close_server;
    hsb_server *s = hsb_bind_secure_fd(fd, rig_security(), &o, &err);
    if (!s)
        fprintf(stderr, "%s\n", err.text);
    bool ran = s && hsb_server_run(s, &err);
    hsb_server_free(s);
    hsb_security_free(rig_security());
    return ran ? 0 : 1;
}

static const char *program;

static void test_inherited(void **state)
{
    int status = -1, fd = listening("127.0.0.1");
    hsb_address a;
    char number[12];
    (void)state;
    assert_true(hsb__os_local_address(fd, &a));
    snprintf(number, sizeof number, "%d", fd);
    client *c = client_new(NULL, a.port, 0);        /* before anybody runs                       */
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl(program, program, "inherit", number, (char *)NULL);
        _exit(127);
    }
    close(fd);
    assert_true(client_handshake(c));
    answer got = ask_path(c, "GET", "/", "");
    assert_answer(got, 200, "inherited");
    hang_up(c);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(reach("127.0.0.1", a.port), -1);
}

/* --- the same port again ------------------------------------------------------------------------- */
/* Right after the end of the server, however it ended, with clients in the middle of things and
   some who were never accepted.                                                                 */
static void test_again_at_once(void **state)
{
    enum { CLIENTS = 6, ROUNDS = 10 };
    client *c[ROUNDS][CLIENTS];
    int port = 0;
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        bound b;
        must_bind(&b, round & 1 ? BIND_SECURE : BIND_SECURE_AT, "127.0.0.1", port, NULL);
        port = b.r.port;
        for (int i = 0; i < CLIENTS; i++) {
            c[round][i] = i & 1 ? client_new(&b.r, port, 0) : dial(&b.r);
            if (i == 2)
                say(c[round][i], "GET / HT");
            if (i == 4) {
                answer a = ask_path(c[round][i], "GET", "/", "");
                assert_int_equal(a.status, 200);
                answer_free(&a);
            }
            if (i == 3)
                turns(&b.r, 3);
        }
        if (round % 3 == 0) {
            hsb_server_close(b.r.server, true);
            while (turn(&b.r, 1))
                ;
        } else if (round % 3 == 1) {            /* still finishing, and the port is free      */
            bound other;
            hsb_server_close(b.r.server, false);
            turn(&b.r, 0);
            must_bind(&other, BIND, "127.0.0.1", port, NULL);
            rig_close(&other.r);
        }
        rig_close(&b.r);
        for (int i = 0; i < CLIENTS; i++)
            c[round][i]->r = NULL;
    }
    for (int i = 0; i < CLIENTS * ROUNDS; i++)
        hang_up(c[i / CLIENTS][i % CLIENTS]);
}

/* --- several listeners ------------------------------------------------------------------------------ */
static void redirect_plain(rig *r, hsb_request *req)
{
    char location[100];
    snprintf(location, sizeof location, "https://localhost:%d/", r->port);
    if (hsb_conn_tls(hsb_request_conn(req)))
        answer_where(r, req);
    else
        hsb_respond_redirect(req, 308, location);
}

static void test_several_listeners(void **state)
{
    enum { MORE = 20 };
    rig r = { .on_request = redirect_plain };
    hsb_error err;
    hsb_address a, none;
    (void)state;
    rig_open(&r, NULL, true);
    memset(&none, 0, sizeof none);
    assert_int_equal(hsb_server_listen(r.server, "::1", r.port, rig_security(), &err), 1);
    int plain = hsb_server_listen(r.server, "127.0.0.1", 0, NULL, &err);
    assert_int_equal(plain, 2);
    int plain_port = hsb_server_address(r.server, plain).port;
    assert_int_equal(hsb_server_port(r.server), r.port);
    assert_true(starts(said_at(&r, "127.0.0.1", r.port, true), "TLS at 127.0.0.1:"));
    assert_true(starts(said_at(&r, "::1", r.port, true), "TLS at [::1]:"));
    client *c = client_new(&r, plain_port, 0);
    answer got = ask_path(c, "GET", "/", "");
    char location[100];
    snprintf(location, sizeof location, "https://localhost:%d/", r.port);
    assert_true(field_is(&got, "Location", location));
    assert_int_equal(got.status, 308);
    answer_free(&got);
    hang_up(c);

    rig followed = { .server = r.server, .port = plain_port };      /* as a browser does it     */
    CURL *easy = curl_new(&followed, "/");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    long status = 0;
    assert_int_equal(curl_run(&r, easy), CURLE_OK);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    assert_int_equal(status, 200);
    curl_easy_cleanup(easy);

    for (int i = 0; i < MORE; i++)
        assert_int_equal(hsb_server_listen(r.server, "127.0.0.1", 0, i & 1 ? rig_security() : NULL, &err), 3 + i);
    for (int i = 0; i < MORE; i++)
        assert_true(*said_at(&r, "127.0.0.1", r.port, true) != '\0');
    for (int i = 1; i < MORE; i += 2)
        assert_true(starts(said_at(&r, "127.0.0.1", hsb_server_address(r.server, 3 + i).port, true), "TLS"));
    for (int i = -1; i <= 1000; i += i == -1 ? 1 + 3 + MORE : 977) {
        a = hsb_server_address(r.server, i);
        assert_memory_equal(&a, &none, sizeof a);
    }
    hsb_server_close(r.server, false);
    turns(&r, 3);
    assert_int_equal(hsb_server_listen(r.server, "127.0.0.1", 0, NULL, &err), -1);
    assert_int_equal(err.status, HSB_ERR_SHUTDOWN);
    assert_int_equal(reach("::1", r.port), -1);
    assert_int_equal(reach("127.0.0.1", plain_port), -1);
    rig_close(&r);
}

/* --- options ------------------------------------------------------------------------------------------ */
static void test_options_are_copied(void **state)
{
    char host[] = "127.0.0.1", header[] = "copied";
    hsb_address a;
    (void)state;
    for (int at = 0; at <= 1; at++) {
        rig r = { .on_request = answer_where };
        hsb_options o;
        memset(&o, 0, sizeof o);
        strcpy(host, "127.0.0.1");
        strcpy(header, "copied");
        o.server_header = header;
        o.limits.head_fields = 7;
        o.timeouts.idle = -1;
        rig_prepare(&r, &o, false);
        hsb_security_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.self_signed_for = "localhost";
        hsb_security *security = hsb_security_new(&desc, NULL);
        assert_non_null(security);
        hsb_address_parse(&a, host);
        r.server = at ? hsb_bind_secure_at(&a, security, &r.options, NULL)
                      : hsb_bind_secure(host, 0, security, &r.options, NULL);
        assert_non_null(r.server);
        hsb_security_free(security);
        memset(&r.options, 0xEE, sizeof r.options);
        memset(&a, 0xEE, sizeof a);
        memset(host, 'x', sizeof host - 1);
        memset(header, 'x', sizeof header - 1);
        r.port = hsb_server_port(r.server);
        r.secure = true;
        client *c = dial(&r);
        answer got = ask_path(c, "GET", "/", "");
        assert_true(field_is(&got, "Server", "copied"));
        answer_free(&got);
        hang_up(c);
        o = hsb_server_options(r.server);
        assert_string_equal(o.server_header, "copied");
        assert_ptr_not_equal(o.server_header, header);
        assert_int_equal(o.limits.head_fields, 7);
        assert_int_equal(o.timeouts.idle, -1);
        assert_int_equal(o.timeouts.handshake, 10000);      /* defaults are filled in            */
        assert_int_equal(o.limits.connections, 1024);
        assert_int_equal(o.limits.body_bytes, 1 << 20);
        assert_int_equal(o.backlog, SOMAXCONN);
        rig_close(&r);
    }
    hsb_server *plain = hsb_bind("127.0.0.1", 0, NULL, NULL);
    assert_non_null(plain);
    hsb_options o = hsb_server_options(plain);
    assert_null(o.server_header);
    assert_false(o.shared || o.v6_only || o.no_keep_alive);
    hsb_server_free(plain);
}

/* What is found wrong with options and security, wherever they meet; NULL is fine for errors.        */
static void test_options_that_do_not_suit(void **state)
{
    hsb_error err;
    bound b;
    hsb_options o;
    (void)state;
    memset(&o, 0, sizeof o);
    o.require_client_certificate = true;
    must_not_bind(BIND_SECURE_AT, "127.0.0.1", 0, &o, HSB_ERR_CERT, 0,
                  "client certificates are asked for, but trusted names nobody");
    must_bind(&b, BIND, "127.0.0.1", 0, &o);        /* plain: of no consequence                  */
    assert_int_equal(hsb_server_listen(b.r.server, "127.0.0.1", 0, rig_security(), &err), -1);
    assert_int_equal(err.status, HSB_ERR_CERT);
    int fd = listening("127.0.0.1");
    assert_int_equal(hsb_server_listen_fd(b.r.server, fd, rig_security(), &err), -1);
    assert_int_equal(err.status, HSB_ERR_CERT);
    assert_null(hsb_bind_secure_fd(fd, rig_security(), &b.r.options, NULL));
    assert_int_equal(close(fd), 0);                 /* is still ours                             */
    assert_null(hsb_bind("a..b", 0, NULL, NULL));
    assert_null(hsb_bind("192.0.2.1", 0, NULL, NULL));
    rig_close(&b.r);
}

/* A bug of the caller asserts; without assertions it does nothing, and says so.                      */
static void test_misuse(void **state)
{
    bound b;
    hsb_address a;
    hsb_error err;
    (void)state;
    must_bind(&b, BIND, "127.0.0.1", 0, NULL);
    a = hsb_server_address(b.r.server, 0);
    assert_int_equal(misuses, 0);
#define MISUSED(count, result, expected) do { \
        memset(&err, 0, sizeof err); \
        assert_true((result) == (expected)); \
        assert_int_equal(err.status, HSB_ERR_MISUSE); \
        assert_int_equal(misuses, count); \
    } while (0)
    MISUSED(1, hsb_bind_secure(NULL, 0, rig_security(), NULL, &err), NULL);
    MISUSED(2, hsb_bind_secure("127.0.0.1", 0, NULL, NULL, &err), NULL);
    MISUSED(3, hsb_bind_secure_at(NULL, rig_security(), NULL, &err), NULL);
    MISUSED(4, hsb_bind_secure_at(&a, NULL, NULL, &err), NULL);
    MISUSED(5, hsb_bind_secure_fd(0, NULL, NULL, &err), NULL);
    MISUSED(6, hsb_bind(NULL, 0, NULL, &err), NULL);
    MISUSED(7, hsb_server_listen(b.r.server, NULL, 0, NULL, &err), -1);
    MISUSED(8, hsb_server_listen(NULL, "127.0.0.1", 0, NULL, &err), -1);
    MISUSED(9, hsb_server_listen_at(b.r.server, NULL, NULL, &err), -1);
    MISUSED(10, hsb_server_listen_fd(NULL, 0, NULL, &err), -1);
    MISUSED(11, hsb_server_set_security(b.r.server, 0, NULL, &err), false);
    MISUSED(12, hsb_lookup(NULL, HSB_FAMILY_ANY, &a, 1, &err), 0);
    MISUSED(13, hsb_lookup("localhost", HSB_FAMILY_ANY, NULL, 1, &err), 0);
    MISUSED(14, hsb_security_new(NULL, &err), NULL);
    MISUSED(15, hsb_server_set_security(b.r.server, 0, rig_security(), &err), false);   /* it is plain */
    misuses = 0;
    hsb_options injects = { .server_header = "x\r\nSet-Cookie: y" };
    assert_null(hsb_bind("127.0.0.1", 0, &injects, &err));
    assert_int_equal(err.status, HSB_ERR_MISUSE);
    rig_close(&b.r);
}

/* Whatever fails on the way, nothing is left of it, and a descriptor is the caller's still.          */
static void test_failing_calls(void **state)
{
    static const char *const calls[] = { "poller", "wake", "watch", "socket", "bind", "listen" };
    hsb_error err;
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        rig r = { 0 };
        bool for_fd = i < 3, for_listen = i >= 2;       /* which calls are made where                */
        rig_prepare(&r, NULL, true);
        int fd = listening("127.0.0.1");
        fail_call = calls[i];
        assert_null(hsb_bind_secure("127.0.0.1", 0, rig_security(), &r.options, &err));
        assert_int_equal(err.system_code, ENOBUFS);
        assert_non_null(strstr(err.text, strerror(ENOBUFS)));
        assert_true(!for_fd || !hsb_bind_secure_fd(fd, rig_security(), &r.options, &err));
        assert_int_equal(r.heap.blocks, 0);
        fail_call = NULL;
        r.server = hsb_bind_secure("127.0.0.1", 0, rig_security(), &r.options, &err);
        assert_non_null(r.server);
        fail_call = for_listen ? calls[i] : "";
        assert_int_equal(hsb_server_listen(r.server, "127.0.0.1", 0, NULL, &err), for_listen ? -1 : 1);
        if (for_fd && for_listen)
            assert_int_equal(hsb_server_listen_fd(r.server, fd, NULL, &err), -1);
        fail_call = NULL;
        assert_int_equal(close(fd), 0);
        r.port = hsb_server_port(r.server);
        client *c = dial(&r);
        hang_up(c);
        rig_close(&r);
    }
}

/* --- backlog and waiting -------------------------------------------------------------------------------- */
/* Bound is listening: who connects before the server runs is served when it does.  It may run on
   another thread than the one that bound it.                                                        */
static void *run(void *server)
{
    return hsb_server_run(server, NULL) ? server : NULL;
}

static void test_bound_is_listening(void **state)
{
    enum { EARLY = 20 };
    client *c[EARLY];
    pthread_t thread;
    bound b;
    void *result;
    (void)state;
    must_bind(&b, BIND_SECURE, "127.0.0.1", 0, NULL);
    for (int i = 0; i < EARLY; i++)
        c[i] = client_new(NULL, b.r.port, 0);
    assert_int_equal(pthread_create(&thread, NULL, run, b.r.server), 0);
    for (int i = EARLY - 1; i >= 0; i--) {
        assert_true(client_handshake(c[i]));
        answer a = ask_path(c[i], "GET", "/", "");
        assert_int_equal(a.status, 200);
        answer_free(&a);
    }
    hsb_server_close(b.r.server, true);
    pthread_join(thread, &result);
    assert_ptr_equal(result, b.r.server);
    for (int i = 0; i < EARLY; i++)
        hang_up(c[i]);
    rig_close(&b.r);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_addresses_that_are_not_ours),
        cmocka_unit_test(test_no_address), cmocka_unit_test(test_port_in_use),
        cmocka_unit_test(test_ports), cmocka_unit_test(test_port_we_may_not_have),
        cmocka_unit_test(test_never_65535), cmocka_unit_test(test_who_reaches_what),
        cmocka_unit_test(test_beside_each_other), cmocka_unit_test(test_zones),
        cmocka_unit_test(test_descriptor), cmocka_unit_test(test_refused_descriptors),
        cmocka_unit_test(test_inherited), cmocka_unit_test(test_again_at_once),
        cmocka_unit_test(test_several_listeners), cmocka_unit_test(test_options_are_copied),
        cmocka_unit_test(test_options_that_do_not_suit), cmocka_unit_test(test_misuse), cmocka_unit_test(test_failing_calls),
        cmocka_unit_test(test_bound_is_listening),
    };
    if (argc == 3)
        return inherit(atoi(argv[2]));
    program = argv[0];
    alone = own_network(20000, 60000);  /* where we may: other programs' ports are in the way       */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
