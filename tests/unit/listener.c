/* Listening sockets: every row of "Binding" that one process can show without a server on
   top.  Run it under the thread sanitizer, too. */
#define HTTPSBIND_STATIC
#define HSB_FAULT(call, count) fault(call, count)
static int fault(const char *call, void *count);
#include "httpsbind.h"
#include "network.h"

#include <sys/resource.h>
#include <sys/un.h>

static const char *fault_call;      /* set while no other thread runs                     */
static int fault_code;

static int fault(const char *call, void *count)
{
    (void)count;
    return fault_call && strcmp(call, fault_call) == 0 ? fault_code : 0;
}

/* --- tools --------------------------------------------------------------------------- */
enum { ALONE, SHARED };
enum { DUAL, V6_ONLY };
static hsb_error err;

static hsb_address at(const char *number, int port)
{
    hsb_address a;
    assert_true(hsb__address_parse(&a, number));
    a.port = (uint16_t)port;
    return a;
}

static hsb__demand demand;      /* of those that are opened now                    */

static bool try_open(hsb__listener *l, hsb_address a, bool v6_only, bool shared)
{
    memset(l, 0, sizeof *l);
    memset(&err, 0, sizeof err);
    l->v6_only = v6_only;
    l->shared = shared;
    l->demand = demand;
    return hsb__listener_open(l, &a, 0, &err);
}

static void must_open(hsb__listener *l, hsb_address a, bool v6_only, bool shared)
{
    if (!try_open(l, a, v6_only, shared))
        fail_msg("%s", err.text);
}

static void must_fail(hsb_address a, bool v6_only, bool shared, hsb_status status,
                      const char *reason)
{
    hsb__listener l;
    char text[HSB_ADDRESS_TEXT_MAX], expected[160];
    snprintf(expected, sizeof expected, "bind %s%s: %s", hsb__address_text(&a, text),
             a.port ? "" : " (any port)", reason);
    assert_false(try_open(&l, a, v6_only, shared));
    assert_string_equal(err.text, expected);
    assert_int_equal(err.status, status);
    assert_int_equal(l.watch.fd, -1);
    hsb__listener_close(&l);                    /* harmless                               */
}

static const char not_shared[] = "already bound in this process, and not shared by both";
static const char other_v6_only[] = "already bound in this process, and v6_only differs";

/* A client's socket, connected to number:port, or -1.                                    */
static int reach(const char *number, int port)
{
    struct sockaddr_storage ss;
    hsb_address a = at(number, port);
    socklen_t len = hsb__os_to_sockaddr(&a, &ss);
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&ss, len) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool reaches(const char *number, int port)
{
    int fd = reach(number, port);
    hsb__os_close(fd);
    return fd >= 0;
}

/* The next connection of those that wait; a while is given to it.                        */
static int take(hsb__listener *l, hsb_address *peer)
{
    int fd = -1;
    struct pollfd p = { l->watch.fd, POLLIN, 0 };
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(hsb__listener_accept(l, &fd, peer, &err), HSB__ACCEPTED);
    return fd;
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

/* Nothing leaks: neither descriptors nor entries of the registry.                        */
static int descriptors_before;

static int setup(void **state)
{
    (void)state;
    fault_call = NULL;
    hsb__listeners = NULL;              /* what a failed test left is on no stack now     */
    descriptors_before = open_descriptors();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_call = NULL;
    return hsb__listeners == NULL && open_descriptors() == descriptors_before ? 0 : -1;
}

/* --- one socket ---------------------------------------------------------------------- */
static void test_bound_means_listening(void **state)
{
    hsb__listener l;
    hsb_address peer;
    int fd;
    (void)state;
    must_open(&l, at("127.0.0.1", 0), DUAL, ALONE);
    assert_true(l.address.port != 0);
    assert_int_equal(hsb__listener_accept(&l, &fd, &peer, &err), HSB__ACCEPT_EMPTY);
    int client = reach("127.0.0.1", l.address.port);
    assert_true(client >= 0);
    fd = take(&l, &peer);
    hsb_address us = at("127.0.0.1", peer.port);
    assert_true(hsb__address_equal(&peer, &us));
    close(fd);
    close(client);
    hsb__listener_close(&l);
    assert_false(reaches("127.0.0.1", l.address.port));
}

static void test_flags_of_the_sockets(void **state)
{
    hsb__listener l[2];
    hsb_address peer;
    (void)state;
    must_open(&l[0], at("127.0.0.1", 0), DUAL, SHARED);
    must_open(&l[1], l[0].address, DUAL, SHARED);
    int client = reach("127.0.0.1", l[0].address.port), fd = take(&l[1], &peer);
    const int all[] = { l[0].watch.fd, l[1].watch.fd, fd };
    for (int i = 0; i < 3; i++) {
        assert_true(fcntl(all[i], F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(all[i], F_GETFL) & O_NONBLOCK);
    }
    assert_true(option(l[0].watch.fd, SOL_SOCKET, SO_REUSEADDR));
    assert_true(option(fd, IPPROTO_TCP, TCP_NODELAY));
    close(fd);
    close(client);
    hsb__listener_close(&l[0]);
    hsb__listener_close(&l[1]);
}

#ifdef __linux__
static int backlog_of(int backlog)
{
    hsb__listener l;
    struct tcp_info info;
    socklen_t len = sizeof info;
    hsb_address a = at("127.0.0.1", 0);
    memset(&l, 0, sizeof l);
    assert_true(hsb__listener_open(&l, &a, backlog, &err));
    assert_int_equal(getsockopt(l.watch.fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    hsb__listener_close(&l);
    return (int)info.tcpi_sacked;               /* of a listening socket: the backlog     */
}

static void test_backlog(void **state)
{
    (void)state;
    assert_int_equal(backlog_of(1), 1);
    assert_int_equal(backlog_of(7), 7);
    assert_int_equal(backlog_of(0), backlog_of(SOMAXCONN));
    assert_true(backlog_of(0) > 7);
}
#endif

static void test_the_same_port_again_at_once(void **state)
{
    hsb__listener l;
    hsb_address a = at("127.0.0.1", 0), peer;
    (void)state;
    for (int round = 0; round < 10; round++) {
        must_open(&l, a, DUAL, ALONE);
        a = l.address;
        int closed_by_us = reach("127.0.0.1", a.port);
        close(take(&l, &peer));
        int open = reach("127.0.0.1", a.port), accepted = take(&l, &peer);
        int waiting = reach("127.0.0.1", a.port);
        assert_true(closed_by_us >= 0 && open >= 0 && waiting >= 0);
        hsb__listener_close(&l);
        must_open(&l, a, DUAL, ALONE);          /* while all three are still around       */
        close(closed_by_us);
        close(open);
        close(accepted);
        close(waiting);
        hsb__listener_close(&l);
    }
}

/* --- what cannot be bound ------------------------------------------------------------ */
static void test_not_our_address(void **state)
{
    (void)state;
    must_fail(at("203.0.113.1", 4433), DUAL, ALONE, HSB_ERR_SYSTEM,
              "Cannot assign requested address");
    must_fail(at("203.0.113.1", 0), DUAL, SHARED, HSB_ERR_SYSTEM,
              "Cannot assign requested address");
    assert_int_equal(err.system_code, EADDRNOTAVAIL);
    must_fail(at("2001:db8::1", 4433), DUAL, ALONE, HSB_ERR_SYSTEM,
              "Cannot assign requested address");
    must_fail(at("fe80::1", 4433), DUAL, ALONE, HSB_ERR_SYSTEM, "Invalid argument");
}

/* The error is that of bind, although its text asked for the zone's name meanwhile.      */
static void test_no_such_zone_now(void **state)
{
    hsb__listener l;
    (void)state;
    assert_false(try_open(&l, at("fe80::1%4294967295", 4433), DUAL, ALONE));
    assert_true(err.system_code == ENODEV || err.system_code == EINVAL);
    assert_int_equal(strncmp(err.text, "bind [fe80::1%4294967295]:4433: ", 32), 0);
    fault_call = "bind";
    fault_code = EACCES;
    assert_false(try_open(&l, at("fe80::1%4294967295", 4433), DUAL, ALONE));
    assert_int_equal(err.system_code, EACCES);
}

static void test_port_in_use_by_somebody_else(void **state)
{
    hsb__listener other;
    hsb_address peer;
    (void)state;
    must_open(&other, at("127.0.0.1", 0), DUAL, ALONE);
    hsb__listener_delist(&other);               /* as if another process had it           */
    must_fail(other.address, DUAL, ALONE, HSB_ERR_SYSTEM, "Address already in use");
    assert_int_equal(err.system_code, EADDRINUSE);
    must_fail(other.address, DUAL, SHARED, HSB_ERR_SYSTEM, "Address already in use");
    int client = reach("127.0.0.1", other.address.port);
    close(take(&other, &peer));                 /* and he goes on                         */
    close(client);
    hsb__listener_close(&other);
}

static int child_without_rights(void)
{
    if (setgid(65534) < 0 || setuid(65534) < 0)
        return child_skips("only root can become nobody");
    hsb__listener l;
    if (try_open(&l, at("127.0.0.1", 443), DUAL, ALONE))
        return child_skips("everybody may bind port 443 here");
    bool told = strcmp(err.text, "bind 127.0.0.1:443: Permission denied") == 0;
    return told && err.system_code == EACCES ? CHILD_OK : 1;
}

static void test_port_we_may_not_have(void **state)
{
    (void)state;
    in_child(child_without_rights);
}

static void test_failing_calls_leak_nothing(void **state)
{
    static const char *const calls[] = { "socket", "bind", "listen" };
    (void)state;
    fault_code = ENOBUFS;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        fault_call = calls[i];
        must_fail(at("127.0.0.1", 0), DUAL, SHARED, HSB_ERR_SYSTEM,
                  "No buffer space available");
    }
}

static void test_errors_need_no_error(void **state)
{
    hsb__listener l;
    hsb_address a = at("203.0.113.1", 1);
    (void)state;
    memset(&l, 0, sizeof l);
    assert_false(hsb__listener_open(&l, &a, 0, NULL));
    assert_false(hsb__listener_adopt(&l, -1, NULL));
}

/* --- port 65535 ---------------------------------------------------------------------- */
#ifdef __linux__
/* Of the two ports that the system has, Linux picks 65535 first: it likes odd ones.      */
static int child_with_two_ports(void)
{
    if (!own_network(65534, 65535))
        return child_skips("a network of its own is not allowed here");
    int before = open_descriptors();
    for (int round = 0; round < 20; round++) {
        hsb__listener l;
        if (!try_open(&l, at("127.0.0.1", 0), DUAL, round & 1) || l.address.port != 65534)
            return 1;
        hsb__listener_close(&l);
    }
    return open_descriptors() == before ? CHILD_OK : 2;
}

static int child_with_one_port(void)
{
    hsb__listener l;
    if (!own_network(65535, 65535))
        return child_skips("a network of its own is not allowed here");
    int before = open_descriptors();
    if (try_open(&l, at("127.0.0.1", 0), DUAL, ALONE) || err.system_code != EADDRINUSE)
        return 1;
    if (!try_open(&l, at("127.0.0.1", 65535), DUAL, ALONE))
        return 2;                               /* whoever asks for it gets it            */
    hsb__listener_close(&l);
    return open_descriptors() == before ? CHILD_OK : 3;
}

static void test_never_65535_by_chance(void **state)
{
    (void)state;
    in_child(child_with_two_ports);
    in_child(child_with_one_port);
}

/* An address of a zone: loopback traffic all the same.                                   */
static int child_with_link_local(void)
{
    hsb__listener l;
    hsb_address peer;
    char text[HSB_ADDRESS_TEXT_MAX], expected[HSB_ADDRESS_TEXT_MAX];
    int patience = 200;         /* address and route are there when the system gets to it */
    if (!own_network(40000, 50000) || !add_to_loopback("fe80::1"))
        return child_skips("a network of its own is not allowed here");
    while (!try_open(&l, at("fe80::1%lo", 0), DUAL, ALONE) && patience-- > 0)
        usleep(10000);
    if (l.watch.fd < 0)
        return 1;
    snprintf(expected, sizeof expected, "[fe80::1%%lo]:%d", l.address.port);
    if (strcmp(hsb__address_text(&l.address, text), expected) != 0)
        return 2;
    int client = reach("fe80::1%lo", l.address.port);
    for (; client < 0 && patience-- > 0; client = reach("fe80::1%lo", l.address.port))
        usleep(10000);
    if (client < 0)
        return 3;
    close(take(&l, &peer));
    return peer.scope_id == l.address.scope_id && peer.scope_id != 0 ? CHILD_OK : 4;
}

static void test_zone(void **state)
{
    (void)state;
    in_child(child_with_link_local);
}
#endif

/* --- IPv4 and IPv6 ------------------------------------------------------------------- */
static void test_v6_only_is_always_set(void **state)
{
    hsb__listener l;
    (void)state;
    for (int v6_only = 0; v6_only <= 1; v6_only++) {
        must_open(&l, at("::", 0), v6_only, ALONE);
        assert_int_equal(option(l.watch.fd, IPPROTO_IPV6, IPV6_V6ONLY), v6_only);
        hsb__listener_close(&l);
    }
}

static void test_who_reaches_what(void **state)
{
    static const struct { const char *bound; bool v6_only, v4_reaches, v6_reaches; } rows[] = {
        { "::",        DUAL,    true,  true  },
        { "::",        V6_ONLY, false, true  },
        { "::1",       DUAL,    false, true  },
        { "::1",       V6_ONLY, false, true  },
        { "0.0.0.0",   DUAL,    true,  false },
        { "0.0.0.0",   V6_ONLY, true,  false },
        { "127.0.0.1", V6_ONLY, true,  false },
        { "::ffff:127.0.0.1", DUAL, true, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hsb__listener l;
        must_open(&l, at(rows[i].bound, 0), rows[i].v6_only, ALONE);
        assert_int_equal(reaches("127.0.0.1", l.address.port), rows[i].v4_reaches);
        assert_int_equal(reaches("::1", l.address.port), rows[i].v6_reaches);
        hsb__listener_close(&l);
    }
}

static void test_peer_over_ipv4_is_ipv4(void **state)
{
    hsb__listener l;
    hsb_address peer;
    (void)state;
    must_open(&l, at("::", 0), DUAL, ALONE);
    int client = reach("127.0.0.1", l.address.port);
    close(take(&l, &peer));
    assert_int_equal(peer.family, HSB_IPV4);
    close(client);
    client = reach("::1", l.address.port);
    close(take(&l, &peer));
    assert_int_equal(peer.family, HSB_IPV6);
    close(client);
    hsb__listener_close(&l);
}

/* "::" for IPv6 alone goes beside 0.0.0.0 on one port, "::" for both does not.           */
static void test_beside_ipv4(void **state)
{
    (void)state;
    for (int shared = ALONE; shared <= SHARED; shared++) {
        hsb__listener first, second;
        must_open(&first, at("0.0.0.0", 0), DUAL, shared);
        must_open(&second, at("::", first.address.port), V6_ONLY, shared);
        assert_true(reaches("127.0.0.1", first.address.port));
        assert_true(reaches("::1", first.address.port));
        hsb__listener_close(&second);
        must_fail(at("::", first.address.port), DUAL, shared, HSB_ERR_SYSTEM,
                  "Address already in use");
        hsb__listener_close(&first);

        must_open(&first, at("::", 0), V6_ONLY, shared);
        must_open(&second, at("0.0.0.0", first.address.port), DUAL, shared);
        hsb__listener_close(&second);
        hsb__listener_close(&first);

        must_open(&first, at("::", 0), DUAL, shared);
        must_fail(at("0.0.0.0", first.address.port), DUAL, shared, HSB_ERR_SYSTEM,
                  "Address already in use");
        hsb__listener_close(&first);
    }
}

/* --- sharing ------------------------------------------------------------------------- */
static void test_shared_table(void **state)
{
    static const struct {
        const char *address;
        bool first_v6_only, first_shared, second_v6_only, second_shared;
        const char *refusal;
    } rows[] = {
        { "127.0.0.1", DUAL,    ALONE,  DUAL,    ALONE,  not_shared },
        { "127.0.0.1", DUAL,    ALONE,  DUAL,    SHARED, not_shared },
        { "127.0.0.1", DUAL,    SHARED, DUAL,    ALONE,  not_shared },
        { "127.0.0.1", DUAL,    SHARED, DUAL,    SHARED, NULL },
        { "127.0.0.1", DUAL,    SHARED, V6_ONLY, SHARED, other_v6_only },
        { "127.0.0.1", V6_ONLY, SHARED, DUAL,    SHARED, other_v6_only },
        { "127.0.0.1", V6_ONLY, SHARED, V6_ONLY, SHARED, NULL },
        { "127.0.0.1", DUAL,    ALONE,  V6_ONLY, SHARED, not_shared },
        { "127.0.0.1", DUAL,    SHARED, V6_ONLY, ALONE,  not_shared },
        { "::",        DUAL,    SHARED, V6_ONLY, SHARED, other_v6_only },
        { "::",        V6_ONLY, SHARED, DUAL,    SHARED, other_v6_only },
        { "::",        V6_ONLY, SHARED, V6_ONLY, SHARED, NULL },
        { "::",        DUAL,    SHARED, DUAL,    SHARED, NULL },
        { "::1",       DUAL,    ALONE,  DUAL,    ALONE,  not_shared },
        { "::ffff:127.0.0.1", DUAL, SHARED, DUAL, SHARED, NULL },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hsb__listener first, second;
        must_open(&first, at(rows[i].address, 0), rows[i].first_v6_only, rows[i].first_shared);
        hsb_address again = at(rows[i].address, first.address.port);
        if (rows[i].refusal) {
            must_fail(again, rows[i].second_v6_only, rows[i].second_shared, HSB_ERR_SHARED,
                      rows[i].refusal);
        } else {
            must_open(&second, again, rows[i].second_v6_only, rows[i].second_shared);
            assert_true(hsb__address_equal(&first.address, &second.address));
            hsb__listener_close(&second);
        }
        hsb__listener_close(&first);
        must_open(&second, again, DUAL, ALONE);         /* all is forgotten               */
        hsb__listener_close(&second);
    }
}

/* What protects the port is the same, whichever sharer a client meets.                  */
static void test_sharers_agree_in_what_protects_the_port(void **state)
{
    static const char tls[] = "already bound in this process, and only one of them speaks TLS";
    static const char asks[] = "already bound in this process, and only one of them requests, or "
                               "requires, a client certificate";
    (void)state;
    for (int a = HSB__DEMAND_NOTHING; a <= HSB__DEMAND_CERTIFICATE; a++)
        for (int b = HSB__DEMAND_NOTHING; b <= HSB__DEMAND_CERTIFICATE; b++) {
            hsb__listener first, second;
            demand = (hsb__demand)a;
            must_open(&first, at("127.0.0.1", 0), DUAL, SHARED);
            hsb_address again = first.address;
            demand = (hsb__demand)b;
            if (a == b) {
                must_open(&second, again, DUAL, SHARED);
                hsb__listener_close(&second);
            } else {
                must_fail(again, DUAL, SHARED, HSB_ERR_SHARED,
                          a == HSB__DEMAND_NOTHING || b == HSB__DEMAND_NOTHING ? tls : asks);
                must_fail(again, V6_ONLY, SHARED, HSB_ERR_SHARED, other_v6_only);
                must_fail(again, DUAL, ALONE, HSB_ERR_SHARED, not_shared);
            }
            hsb__listener_close(&first);
        }
    demand = HSB__DEMAND_NOTHING;
}

static void test_port_0_shared_twice_is_two_ports(void **state)
{
    hsb__listener a, b;
    (void)state;
    must_open(&a, at("127.0.0.1", 0), DUAL, SHARED);
    must_open(&b, at("127.0.0.1", 0), DUAL, SHARED);
    assert_int_not_equal(a.address.port, b.address.port);
    hsb__listener_close(&a);
    hsb__listener_close(&b);
}

static void test_failed_join_leaks_nothing(void **state)
{
    hsb__listener l;
    (void)state;
    must_open(&l, at("127.0.0.1", 0), DUAL, SHARED);
    fault_call = "dup";
    fault_code = EMFILE;
    must_fail(l.address, DUAL, SHARED, HSB_ERR_SYSTEM, "Too many open files");
    hsb__listener_close(&l);
}

/* In whichever order the sharers leave, those who wait are accepted by who is left.      */
static void test_no_waiting_connection_is_lost(void **state)
{
    enum { SHARERS = 3, CLIENTS = 12 };
    (void)state;
    for (int first = 0; first < SHARERS; first++) {
        hsb__listener l[SHARERS];
        hsb_address peer;
        int client[CLIENTS];
        must_open(&l[0], at("127.0.0.1", 0), DUAL, SHARED);
        for (int i = 1; i < SHARERS; i++)
            must_open(&l[i], l[0].address, DUAL, SHARED);
        int last = (first + 2) % SHARERS;
        for (int i = 0; i < CLIENTS; i++) {
            client[i] = reach("127.0.0.1", l[0].address.port);
            assert_int_equal(write(client[i], "x", 1), 1);
            if (i == CLIENTS / 3)
                hsb__listener_close(&l[first]);
            if (i == CLIENTS / 2)
                hsb__listener_close(&l[(first + 1) % SHARERS]);
        }
        for (int i = 0; i < CLIENTS; i++) {
            char c = 0;
            int fd = take(&l[last], &peer);
            struct pollfd p = { fd, POLLIN, 0 };
            assert_int_equal(poll(&p, 1, 5000), 1);
            assert_int_equal(read(fd, &c, 1), 1);
            assert_int_equal(write(fd, "y", 1), 1);
            close(fd);
        }
        for (int i = 0; i < CLIENTS; i++) {
            char c = 0;
            assert_int_equal(read(client[i], &c, 1), 1);
            close(client[i]);
        }
        hsb__listener_close(&l[last]);
        assert_false(reaches("127.0.0.1", l[0].address.port));
    }
}

/* --- sockets from elsewhere ---------------------------------------------------------- */
static int inherited(const char *number, int type, bool listening)
{
    struct sockaddr_storage ss;
    hsb_address a = at(number, 0);
    socklen_t len = hsb__os_to_sockaddr(&a, &ss);
    int fd = socket(ss.ss_family, type, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
    if (listening)
        assert_int_equal(listen(fd, 5), 0);
    return fd;
}

static void test_adopt(void **state)
{
    static const char *const numbers[] = { "127.0.0.1", "::1", "::" };
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        hsb__listener l;
        hsb_address peer;
        memset(&l, 0, sizeof l);
        int fd = inherited(numbers[i], SOCK_STREAM, true);
        assert_true(hsb__listener_adopt(&l, fd, &err));
        assert_int_equal(l.watch.fd, fd);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        int client = reach(i == 0 ? "127.0.0.1" : "::1", l.address.port);
        close(take(&l, &peer));
        close(client);
        assert_true(hsb__listener_my_turn(&l));
        must_fail(l.address, DUAL, SHARED, HSB_ERR_SYSTEM, "Address already in use");
        hsb__listener_close(&l);
        assert_true(fcntl(fd, F_GETFD) < 0);
    }
}

static void refuse_fd(int fd, const char *reason)
{
    hsb__listener l;
    char expected[96];
    int flags = fcntl(fd, F_GETFL), fd_flags = fcntl(fd, F_GETFD);
    memset(&l, 0, sizeof l);
    snprintf(expected, sizeof expected, "descriptor %d: %s", fd, reason);
    assert_false(hsb__listener_adopt(&l, fd, &err));
    assert_int_equal(err.status, HSB_ERR_SYSTEM);
    assert_true(err.system_code != 0);
    assert_string_equal(err.text, expected);
    assert_int_equal(l.watch.fd, -1);
    assert_int_equal(fcntl(fd, F_GETFL), flags);        /* still the caller's, and untouched */
    assert_int_equal(fcntl(fd, F_GETFD), fd_flags);
    hsb__os_close(fd);
}

static void test_refused_descriptors(void **state)
{
    static const char no_listener[] = "not a TCP or Unix socket that listens";
    int pair[2];
    hsb__listener l;
    (void)state;
    refuse_fd(-1, "Bad file descriptor");
    refuse_fd(1000, "Bad file descriptor");
    assert_int_equal(pipe(pair), 0);
    refuse_fd(pair[0], no_listener);
    refuse_fd(pair[1], no_listener);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    refuse_fd(pair[0], no_listener);
    refuse_fd(pair[1], no_listener);
    refuse_fd(inherited("127.0.0.1", SOCK_STREAM, false), no_listener);
    refuse_fd(inherited("127.0.0.1", SOCK_DGRAM, false), no_listener);
    must_open(&l, at("127.0.0.1", 0), DUAL, ALONE);
    refuse_fd(reach("127.0.0.1", l.address.port), no_listener);
    hsb__listener_close(&l);
}

/* --- accept -------------------------------------------------------------------------- */
static void test_accept_errors(void **state)
{
    static const struct { int code; hsb__accepted outcome; } rows[] = {
        { EAGAIN,       HSB__ACCEPT_EMPTY }, { EWOULDBLOCK, HSB__ACCEPT_EMPTY },
        { ECONNABORTED, HSB__ACCEPT_AGAIN }, { EPROTO,      HSB__ACCEPT_AGAIN },
        { ENETDOWN,     HSB__ACCEPT_AGAIN }, { EPERM,       HSB__ACCEPT_PAUSE },
        { EMFILE,       HSB__ACCEPT_PAUSE }, { ENFILE,      HSB__ACCEPT_PAUSE },
        { ENOBUFS,      HSB__ACCEPT_PAUSE }, { ENOMEM,      HSB__ACCEPT_PAUSE },
        { EINVAL,       HSB__ACCEPT_PAUSE }, { EIO,         HSB__ACCEPT_PAUSE },
    };
    hsb__listener l;
    hsb_address peer;
    int fd;
    (void)state;
    must_open(&l, at("127.0.0.1", 0), DUAL, ALONE);
    fault_call = "accept";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fault_code = rows[i].code;
        memset(&err, 0, sizeof err);
        assert_int_equal(hsb__listener_accept(&l, &fd, &peer, &err), rows[i].outcome);
        assert_int_equal(fd, -1);
        assert_int_equal(err.system_code,
                         rows[i].outcome == HSB__ACCEPT_EMPTY ? 0 : rows[i].code);
    }
    fault_call = NULL;
    int client = reach("127.0.0.1", l.address.port);
    close(take(&l, &peer));
    close(client);
    hsb__listener_close(&l);
}

/* Out of descriptors: who waits stays in the backlog until there is one again.           */
static void test_out_of_descriptors(void **state)
{
    hsb__listener l;
    hsb_address peer;
    struct rlimit before, low;
    int fd = -1;
    char expected[128], text[HSB_ADDRESS_TEXT_MAX];
    (void)state;
    must_open(&l, at("127.0.0.1", 0), DUAL, ALONE);
    int client = reach("127.0.0.1", l.address.port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(hsb__listener_accept(&l, &fd, &peer, &err), HSB__ACCEPT_PAUSE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    snprintf(expected, sizeof expected, "accept on %s: Too many open files",
             hsb__address_text(&l.address, text));
    assert_string_equal(err.text, expected);
    fd = take(&l, &peer);
    close(fd);
    close(client);
    hsb__listener_close(&l);
}

/* --- whose turn ---------------------------------------------------------------------- */
enum mood { BUSY, ASLEEP, PASSING };

/* As the loop would leave it: in a hook, in the poller, in the poller without watching us. */
static void be(hsb__listener *l, enum mood mood)
{
    l->watch.armed = mood == PASSING ? HSB__WATCHED : HSB__WATCHED | HSB__READ;
    hsb__listener_set_waiting(l, mood != BUSY);
    assert_int_equal(l->waits, mood == ASLEEP);
}

static void open_sharers(hsb__listener *l, int count)
{
    must_open(&l[0], at("127.0.0.1", 0), DUAL, SHARED);
    for (int i = 1; i < count; i++)
        must_open(&l[i], l[0].address, DUAL, SHARED);
    for (int i = 0; i < count; i++)
        be(&l[i], ASLEEP);
}

static void close_sharers(hsb__listener *l, int count)
{
    for (int i = 0; i < count; i++)
        hsb__listener_close(&l[i]);
}

static void accept_one(hsb__listener *l)
{
    hsb_address peer;
    int client = reach("127.0.0.1", l->address.port);
    close(take(l, &peer));
    close(client);
    hsb__listener_count(l, +1);
}

/* Not shared, or shared with nobody: other ports' sharers are none of ours.              */
static void test_alone_it_is_always_our_turn(void **state)
{
    hsb__listener l[3];
    (void)state;
    must_open(&l[0], at("127.0.0.1", 0), DUAL, ALONE);
    must_open(&l[1], at("127.0.0.1", 0), DUAL, SHARED);
    must_open(&l[2], at("127.0.0.1", 0), DUAL, SHARED);
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < 2; j++) {
            accept_one(&l[j]);
            be(&l[j], BUSY);
            be(&l[2], ASLEEP);
            assert_true(hsb__listener_my_turn(&l[j]));
        }
    }
    close_sharers(l, 3);
}

static void test_the_heavier_one_passes_once(void **state)
{
    hsb__listener l[2];
    (void)state;
    open_sharers(l, 2);
    assert_true(hsb__listener_my_turn(&l[0]));
    accept_one(&l[0]);
    assert_false(hsb__listener_my_turn(&l[0]));
    assert_true(hsb__listener_my_turn(&l[0]));      /* nobody took it meanwhile           */
    assert_false(hsb__listener_my_turn(&l[0]));     /* the next one is the other's again  */
    assert_true(hsb__listener_my_turn(&l[1]));
    accept_one(&l[1]);
    accept_one(&l[1]);
    assert_true(hsb__listener_my_turn(&l[0]));      /* the other one is the heavier now   */
    close_sharers(l, 2);
}

static void test_who_goes_on_passing_starves_nobody(void **state)
{
    hsb__listener l[2];
    (void)state;
    open_sharers(l, 2);
    for (int i = 0; i < 5; i++)
        hsb__listener_count(&l[0], +1);
    for (int i = 0; i < 4; i++) {                   /* the other takes one each time      */
        assert_false(hsb__listener_my_turn(&l[0]));
        assert_true(hsb__listener_my_turn(&l[1]));
        accept_one(&l[1]);
    }
    close_sharers(l, 2);
}

static void test_nothing_is_left_to_who_cannot_take_it(void **state)
{
    static const struct { enum mood mood; bool my_turn; } rows[] = {
        { ASLEEP, false }, { BUSY, true }, { PASSING, true }, { ASLEEP, false },
        { BUSY, true },
    };
    hsb__listener l[3];
    (void)state;
    open_sharers(l, 3);
    for (int i = 0; i < 3; i++) {
        hsb__listener_count(&l[0], +1);
        hsb__listener_count(&l[2], +1);             /* as heavy as l[0]                   */
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        be(&l[1], rows[i].mood);
        assert_int_equal(hsb__listener_my_turn(&l[0]), rows[i].my_turn);
    }
    close_sharers(l, 3);
}

static void test_among_equals_who_took_fewest(void **state)
{
    hsb__listener l[3];
    (void)state;
    open_sharers(l, 2);
    accept_one(&l[0]);
    hsb__listener_count(&l[0], -1);
    assert_false(hsb__listener_my_turn(&l[0]));
    assert_true(hsb__listener_my_turn(&l[1]));
    accept_one(&l[1]);
    hsb__listener_count(&l[1], -1);
    must_open(&l[2], l[0].address, DUAL, SHARED);   /* a newcomer need not catch up       */
    be(&l[2], ASLEEP);
    for (int i = 0; i < 3; i++)
        assert_true(hsb__listener_my_turn(&l[i]));
    close_sharers(l, 3);
}

static void test_who_has_left_does_not_count(void **state)
{
    hsb__listener l[2];
    (void)state;
    open_sharers(l, 2);
    accept_one(&l[0]);
    hsb__listener_close(&l[1]);
    assert_true(hsb__listener_my_turn(&l[0]));
    hsb__listener_count(&l[1], +1);                 /* its connections may outlive it     */
    hsb__listener_count(&l[1], -1);
    hsb__listener_close(&l[0]);
}

/* --- threads ------------------------------------------------------------------------- */
/* What a server's loop does with a listener, and no more: takes connections, answers each
   byte with a byte, closes when the client does.                                         */
typedef struct sharer {
    hsb__listener listener;
    hsb__memory memory;
    hsb__poller poller;
    pthread_t thread;
    uint64_t rest_until;
    int taken, block_ms;            /* block_ms: how long the first answer takes          */
    size_t *stop;
} sharer;

typedef struct guest {
    hsb__watch watch;
    sharer *host;
} guest;

static void guest_ready(hsb__watch *w, unsigned events)
{
    guest *g = w->owner;
    char c;
    (void)events;
    if (hsb__os_recv(w->fd, &c, 1) == 1) {
        usleep((useconds_t)g->host->block_ms * 1000);
        g->host->block_ms = 0;
        hsb__os_send(w->fd, &c, 1);
        return;
    }
    hsb__poller_drop(&g->host->poller, w);
    hsb__os_close(w->fd);
    hsb__listener_count(&g->host->listener, -1);
    free(g);
}

static void sharer_ready(hsb__watch *w, unsigned events)
{
    sharer *s = w->owner;
    hsb_address peer;
    hsb_error why;
    int fd;
    (void)events;
    if (!hsb__listener_my_turn(&s->listener)) {
        hsb__poller_set(&s->poller, w, 0);
        s->rest_until = hsb__os_now_us() + 1000;
        return;
    }
    if (hsb__listener_accept(&s->listener, &fd, &peer, &why) != HSB__ACCEPTED)
        return;
    guest *g = calloc(1, sizeof *g);
    if (!g)
        abort();
    g->watch.fd = fd;
    g->watch.ready = guest_ready;
    g->watch.owner = g;
    g->host = s;
    s->taken++;
    hsb__listener_count(&s->listener, +1);
    hsb__poller_add(&s->poller, &g->watch, HSB__READ);
}

static void *sharer_run(void *arg)
{
    sharer *s = arg;
    while (!hsb__atomic_get(s->stop) || hsb__atomic_get(&s->listener.live)) {
        hsb__listener_set_waiting(&s->listener, true);
        hsb__poller_collect(&s->poller, s->rest_until ? 1 : 20);
        hsb__listener_set_waiting(&s->listener, false);
        hsb__poller_dispatch(&s->poller);
        if (s->rest_until && hsb__os_now_us() >= s->rest_until) {
            s->rest_until = 0;
            hsb__poller_set(&s->poller, &s->listener.watch, HSB__READ);
        }
    }
    hsb__poller_drop(&s->poller, &s->listener.watch);
    hsb__listener_close(&s->listener);
    hsb__poller_close(&s->poller);
    return NULL;
}

static void sharer_open(sharer *s, hsb_address a, size_t *stop)
{
    memset(s, 0, sizeof *s);
    must_open(&s->listener, a, DUAL, SHARED);
    s->stop = stop;
    s->listener.watch.ready = sharer_ready;
    s->listener.watch.owner = s;
    assert_true(hsb__poller_open(&s->poller, &s->memory, &err));
    assert_true(hsb__poller_add(&s->poller, &s->listener.watch, HSB__READ));
}

static void sharer_start(sharer *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, sharer_run, s), 0);
}

typedef struct crowd {
    pthread_t thread;
    int port, keep, pause_us;       /* keep: so many connections stay, pause_us apart     */
    uint64_t until;
    int rounds;
    bool ok;
} crowd;

static bool exchange(int fd)
{
    char c;
    return fd >= 0 && write(fd, "x", 1) == 1 && read(fd, &c, 1) == 1;
}

/* With a reset: a port that rests for a minute each time would soon be missed.           */
static void leave(int fd)
{
    struct linger now = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    hsb__os_close(fd);
}

static void *crowd_run(void *arg)
{
    enum { MOST = 100 };
    crowd *c = arg;
    int held[MOST];
    c->ok = true;
    for (; hsb__os_now_us() < c->until && (c->keep == 0 || c->rounds < c->keep); c->rounds++) {
        int fd = reach("127.0.0.1", c->port);
        c->ok = exchange(fd) && c->ok;
        if (c->keep)
            held[c->rounds] = fd;
        else
            leave(fd);
        usleep((useconds_t)c->pause_us);
    }
    for (int i = 0; c->keep && i < c->rounds; i++)
        leave(held[i]);
    return NULL;
}

static int serve_crowds(sharer *s, int sharers, crowd *c, int crowds)
{
    size_t stop = 0;
    int total = 0;
    for (int i = 0; i < sharers; i++)
        sharer_open(&s[i], i ? s[0].listener.address : at("127.0.0.1", 0), &stop);
    for (int i = 0; i < sharers; i++)
        sharer_start(&s[i]);
    for (int i = 0; i < crowds; i++) {
        c[i].port = s[0].listener.address.port;
        assert_int_equal(pthread_create(&c[i].thread, NULL, crowd_run, &c[i]), 0);
    }
    for (int i = 0; i < crowds; i++) {
        pthread_join(c[i].thread, NULL);
        total += c[i].rounds;
    }
    hsb__atomic_add(&stop, 1);
    for (int i = 0; i < sharers; i++)
        pthread_join(s[i].thread, NULL);
    return total;
}

/* One client after the other, many at once, and many that stay: nobody gets less than a
   tenth.  Half a second, because a thread that the system does not let run for the length of
   a time slice is busy, and rightly gets nothing meanwhile.                              */
static void test_connections_are_distributed(void **state)
{
    enum { SHARERS = 4, CROWDS = 8 };
    static const struct { int crowds, keep, pause_us; } loads[] = {
        { 1, 0, 0 }, { CROWDS, 0, 0 }, { CROWDS, 60, 5000 },
    };
    (void)state;
    for (size_t load = 0; load < sizeof loads / sizeof *loads; load++) {
        sharer s[SHARERS];
        crowd c[CROWDS];
        int sum = 0;
        memset(c, 0, sizeof c);
        for (int i = 0; i < loads[load].crowds; i++) {
            c[i].keep = loads[load].keep;
            c[i].pause_us = loads[load].pause_us;
            c[i].until = hsb__os_now_us() + 500000;
        }
        int total = serve_crowds(s, SHARERS, c, loads[load].crowds);
        for (int i = 0; i < loads[load].crowds; i++)
            assert_true(c[i].ok);
        for (int i = 0; i < SHARERS; i++) {
            if (s[i].taken < total / 10)
                fail_msg("load %d: %d of %d", (int)load, s[i].taken, total);
            sum += s[i].taken;
        }
        assert_int_equal(sum, total);
    }
}

/* One sharer's loop never runs, another one is stuck with its first client: whoever is taken
   by the third waits for neither.                                                        */
static void test_a_stuck_sharer_delays_only_its_own(void **state)
{
    enum { CLIENTS = 40 };
    sharer idle, stuck, busy;
    size_t stop = 0;
    int client[CLIENTS];
    (void)state;
    sharer_open(&idle, at("127.0.0.1", 0), &stop);
    sharer_open(&stuck, idle.listener.address, &stop);
    stuck.block_ms = 1500;
    sharer_start(&stuck);
    int first = reach("127.0.0.1", idle.listener.address.port);
    assert_int_equal(write(first, "x", 1), 1);
    usleep(100000);
    sharer_open(&busy, idle.listener.address, &stop);
    sharer_start(&busy);
    uint64_t began = hsb__os_now_us();
    for (int i = 0; i < CLIENTS; i++) {
        client[i] = reach("127.0.0.1", idle.listener.address.port);
        assert_true(exchange(client[i]));
    }
    assert_true(hsb__os_now_us() - began < 1000000);
    for (int i = 0; i < CLIENTS; i++)
        close(client[i]);
    close(first);
    hsb__atomic_add(&stop, 1);
    pthread_join(stuck.thread, NULL);
    pthread_join(busy.thread, NULL);
    assert_int_equal(stuck.taken, 1);
    assert_int_equal(busy.taken, CLIENTS);
    hsb__poller_drop(&idle.poller, &idle.listener.watch);
    hsb__listener_close(&idle.listener);
    hsb__poller_close(&idle.poller);
}

typedef struct churn {
    pthread_t thread;
    hsb_address address;
    bool shared, ok;
    int opened;
} churn;

/* The last to leave and the next to come must not meet in the middle: a port of this process
   is either joined or bound anew, and never "in use".                                    */
static void *churn_run(void *arg)
{
    churn *c = arg;
    c->ok = true;
    for (int i = 0; i < 300; i++) {
        hsb__listener l;
        hsb_error why;
        memset(&l, 0, sizeof l);
        memset(&why, 0, sizeof why);
        l.shared = c->shared;
        if (hsb__listener_open(&l, &c->address, 0, &why)) {
            c->opened++;
            hsb__listener_my_turn(&l);
            hsb__listener_close(&l);
        } else if (why.status != HSB_ERR_SHARED) {
            c->ok = false;
        }
    }
    return NULL;
}

static void churn_all(bool last_is_alone)
{
    enum { THREADS = 4 };
    churn c[THREADS];
    hsb__listener l;
    must_open(&l, at("127.0.0.1", 0), DUAL, ALONE);
    hsb__listener_close(&l);
    memset(c, 0, sizeof c);
    for (int i = 0; i < THREADS; i++) {
        c[i].address = l.address;
        c[i].shared = !(last_is_alone && i == THREADS - 1);
        assert_int_equal(pthread_create(&c[i].thread, NULL, churn_run, &c[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(c[i].thread, NULL), 0);
        assert_true(c[i].ok);
        if (!last_is_alone)
            assert_int_equal(c[i].opened, 300);
    }
}

static void test_coming_and_going_in_threads(void **state)
{
    (void)state;
    churn_all(false);
    churn_all(true);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_bound_means_listening),
        TEST(test_flags_of_the_sockets),
        TEST(test_the_same_port_again_at_once),
        TEST(test_not_our_address),
        TEST(test_no_such_zone_now),
        TEST(test_port_in_use_by_somebody_else),
        TEST(test_port_we_may_not_have),
        TEST(test_failing_calls_leak_nothing),
        TEST(test_errors_need_no_error),
#ifdef __linux__
        TEST(test_backlog),
        TEST(test_never_65535_by_chance),
        TEST(test_zone),
#endif
        TEST(test_v6_only_is_always_set),
        TEST(test_who_reaches_what),
        TEST(test_peer_over_ipv4_is_ipv4),
        TEST(test_beside_ipv4),
        TEST(test_shared_table),
        TEST(test_sharers_agree_in_what_protects_the_port),
        TEST(test_port_0_shared_twice_is_two_ports),
        TEST(test_failed_join_leaks_nothing),
        TEST(test_no_waiting_connection_is_lost),
        TEST(test_adopt),
        TEST(test_refused_descriptors),
        TEST(test_accept_errors),
        TEST(test_out_of_descriptors),
        TEST(test_alone_it_is_always_our_turn),
        TEST(test_the_heavier_one_passes_once),
        TEST(test_who_goes_on_passing_starves_nobody),
        TEST(test_nothing_is_left_to_who_cannot_take_it),
        TEST(test_among_equals_who_took_fewest),
        TEST(test_who_has_left_does_not_count),
        TEST(test_connections_are_distributed),
        TEST(test_a_stuck_sharer_delays_only_its_own),
        TEST(test_coming_and_going_in_threads),
    };
    own_network(20000, 60000);      /* where we may: other programs' ports are in the way */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
