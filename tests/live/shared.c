/* Several servers on one port: who may join whom, how connections are spread over them, and
   that none is lost when a sharer leaves or is stuck.  ThreadSanitizer runs this, too.
   LIVE_BLOCK=5000 keeps a sharer stuck for so many ms, LIVE_LOAD=10000 the load up. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "peer.h"
#include "network.h"

/* --- sharers ---------------------------------------------------------------------------- */
typedef struct sharer {
    rig       r;
    int       number;           /* what it answers                                       */
    pthread_t thread;
    int      *release;          /* "/block" waits until it is set ...                    */
    int       stuck;            /* ... and this is set meanwhile                         */
} sharer;

static void answer_number(rig *r, hsb_request *req)
{
    sharer *s = r->data;
    char text[16];
    if (hsb_equal(hsb_request_path(req), "/block")) {
        counter_add(&s->stuck, 1);
        for (int64_t end = clock_ms() + PATIENCE_MS; !counter_get(s->release) && clock_ms() < end;)
            sleep_us(1000);
        counter_add(&s->stuck, -1);
    }
    snprintf(text, sizeof text, "%d", s->number);
    hsb_respond(req, 200, NULL, hsb_text(text));
}

/* Where: the port of the first, or any.  options may be NULL.                            */
static void sharer_open(sharer *s, int number, int port, const hsb_options *options,
                        hsb_security *security)
{
    hsb_options o;
    hsb_error err;
    memset(&o, 0, sizeof o);
    memset(s, 0, sizeof *s);
    if (options)
        o = *options;
    o.shared = true;
    s->number = number;
    s->r.on_request = answer_number;
    s->r.data = s;
    rig_prepare(&s->r, &o, security != NULL);
    s->r.server = security ? hsb_bind_secure("127.0.0.1", port, security, &s->r.options, &err)
                           : hsb_bind("127.0.0.1", port, &s->r.options, &err);
    if (!s->r.server)
        fail_msg("%s", err.text);
    s->r.port = hsb_server_port(s->r.server);
}

static void open_all(sharer *s, int count, const hsb_options *options, bool secure)
{
    for (int i = 0; i < count; i++)
        sharer_open(&s[i], i, i ? s[0].r.port : 0, options, secure ? rig_security() : NULL);
}

/* In any order: the descriptors are counted when all is over, see teardown.             */
static void sharer_close(sharer *s)
{
    rig *r = &s->r;
    hsb_server_free(r->server);
    r->server = NULL;
    assert_int_equal(r->finishes, r->heads);
    assert_int_equal(r->closes, r->accepts);
    assert_int_equal(r->heap.blocks, 0);
}

static void close_all(sharer *s, int count)
{
    for (int i = 0; i < count; i++)
        sharer_close(&s[i]);
}

static void *sharer_run(void *arg)
{
    hsb_error err;
    must_be(hsb_server_run(arg, &err), "run");
    return NULL;
}

static void sharer_start(sharer *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, sharer_run, s->r.server), 0);
}

static void sharer_stop(sharer *s, bool force)
{
    hsb_server_close(s->r.server, force);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
}

/* --- clients, on any thread --------------------------------------------------------------- */
/* The number of the sharer that answers, or -1.                                              */
static int number_heard(peer *p)
{
    char got[1024];
    int len = 0, more;
    char *end = NULL;
    while (!end || end[4] == '\0') {
        int room = (int)sizeof got - len - 1;
        more = peer_hear(p, got + len, room);
        if (more <= 0)
            return -1;
        len += more;
        got[len] = '\0';
        end = strstr(got, "\r\n\r\n");
    }
    return atoi(end + 4);
}

/* --- who may join ----------------------------------------------------------------------------- */
enum { BIND_SECURE, BIND_SECURE_AT, BIND, LISTEN, LISTEN_AT, WAYS };

typedef struct attempt {        /* one server, or one more listener of a server               */
    heap        heap;
    hsb_server *server;
    int         listener;
    hsb_error   err;
} attempt;

static bool alone;                      /* in a network of our own: nobody else takes a port */

static bool attempt_open(attempt *a, int way, const char *host, int port, bool v6_only, bool shared)
{
    hsb_options o;
    hsb_address at;
    memset(&o, 0, sizeof o);
    memset(a, 0, sizeof *a);
    o.v6_only = v6_only;
    o.shared = shared;
    o.allocator.alloc = heap_alloc;
    o.allocator.release = heap_release;
    o.allocator.user = &a->heap;
    assert_true(hsb_address_parse(&at, host));
    at.port = (uint16_t)port;
    switch (way) {
    case BIND_SECURE:
        a->server = hsb_bind_secure(host, port, rig_security(), &o, &a->err);
        break;
    case BIND_SECURE_AT:
        a->server = hsb_bind_secure_at(&at, rig_security(), &o, &a->err);
        break;
    case BIND:
        a->server = hsb_bind(host, port, &o, &a->err);
        break;
    default:
        a->server = hsb_bind("127.0.0.1", 0, &o, &a->err);
        assert_non_null(a->server);
        a->listener = way == LISTEN ? hsb_server_listen(a->server, host, port, NULL, &a->err)
                                    : hsb_server_listen_at(a->server, &at, NULL, &a->err);
    }
    return a->server && a->listener >= 0;
}

static void attempt_close(attempt *a)
{
    hsb_server_free(a->server);
    a->server = NULL;
    assert_int_equal(a->heap.blocks, 0);
}

static bool can_connect(const char *host, int port)
{
    struct sockaddr_storage ss;
    hsb_address a;
    assert_true(hsb_address_parse(&a, host));
    a.port = (uint16_t)port;
    socklen_t len = hsb__os_to_sockaddr(&a, &ss);
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    bool yes = connect(fd, (struct sockaddr *)&ss, len) == 0;
    close(fd);
    return yes;
}

static const char not_shared[] = "already bound in this process, and not shared by both";
static const char other_v6_only[] = "already bound in this process, and v6_only differs";

static void test_who_may_join(void **state)
{
    static const struct { bool v6_only[2], shared[2]; const char *refusal; } rows[] = {
        { { false, false }, { false, false }, not_shared },
        { { false, false }, { false, true  }, not_shared },
        { { false, false }, { true,  false }, not_shared },
        { { false, false }, { true,  true  }, NULL },
        { { false, true  }, { false, false }, not_shared },     /* first whether, then how  */
        { { false, true  }, { false, true  }, not_shared },
        { { true,  false }, { true,  false }, not_shared },
        { { false, true  }, { true,  true  }, other_v6_only },
        { { true,  false }, { true,  true  }, other_v6_only },
        { { true,  true  }, { true,  true  }, NULL },
    };
    static const char *const hosts[] = { "127.0.0.1", "::1", "::" };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows * 3 * WAYS; i++) {
        int row = (int)(i / 3 / WAYS), way = (int)(i % WAYS);
        const char *host = hosts[i / WAYS % 3];
        attempt first, second;
        char at[HSB_ADDRESS_TEXT_MAX], expected[160];
        assert_true(attempt_open(&first, way < BIND ? BIND_SECURE : BIND, host, 0,
                                 rows[row].v6_only[0], rows[row].shared[0]));
        hsb_address address = hsb_server_address(first.server, 0);
        bool joined = attempt_open(&second, way, host, address.port, rows[row].v6_only[1],
                                   rows[row].shared[1]);
        assert_int_equal(joined, rows[row].refusal == NULL);
        if (joined) {
            assert_int_equal(hsb_server_address(second.server, second.listener).port, address.port);
        } else {
            snprintf(expected, sizeof expected, "bind %s: %s", hsb_address_text(&address, at),
                     rows[row].refusal);
            assert_string_equal(second.err.text, expected);
            assert_int_equal(second.err.status, HSB_ERR_SHARED);
            assert_int_equal(second.err.system_code, 0);
        }
        assert_true(can_connect(strcmp(host, "::") ? host : "::1", address.port));
        attempt_close(&first);
        if (joined)                                 /* the last one closes the port           */
            assert_true(can_connect(strcmp(host, "::") ? host : "::1", address.port));
        attempt_close(&second);
        assert_false(can_connect(strcmp(host, "::") ? host : "::1", address.port));
        bool again = attempt_open(&second, way, host, address.port, rows[row].v6_only[1],
                                  rows[row].shared[1]);
        assert_true(again || (!alone && second.err.system_code == EADDRINUSE));
        attempt_close(&second);
    }
}

static void test_any_port_twice_is_two(void **state)
{
    attempt first, second;
    (void)state;
    assert_true(attempt_open(&first, BIND, "127.0.0.1", 0, false, true));
    assert_true(attempt_open(&second, BIND, "127.0.0.1", 0, false, true));
    assert_true(hsb_server_port(first.server) != hsb_server_port(second.server));
    attempt_close(&first);
    attempt_close(&second);
}

/* A server may hold a port that it shares twice, and a descriptor is in nobody's table.      */
static void test_with_itself_and_with_a_descriptor(void **state)
{
    attempt a, b;
    hsb_error err;
    (void)state;
    assert_true(attempt_open(&a, BIND, "127.0.0.1", 0, false, true));
    int port = hsb_server_port(a.server);
    assert_int_equal(hsb_server_listen(a.server, "127.0.0.1", port, NULL, &err), 1);
    attempt_close(&a);
    assert_false(can_connect("127.0.0.1", port));
    assert_true(attempt_open(&a, BIND, "127.0.0.1", 0, false, false));
    port = hsb_server_port(a.server);
    assert_int_equal(hsb_server_listen(a.server, "127.0.0.1", port, NULL, &err), -1);
    assert_int_equal(err.status, HSB_ERR_SHARED);
    attempt_close(&a);

    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(listen(fd, 5), 0);             /* on any port of any address             */
    hsb_options o;
    memset(&o, 0, sizeof o);
    o.shared = true;
    hsb_server *s = hsb_bind_secure_fd(fd, rig_security(), &o, &err);
    assert_non_null(s);
    assert_false(attempt_open(&b, BIND, "0.0.0.0", hsb_server_port(s), false, true));
    assert_int_equal(b.err.status, HSB_ERR_SYSTEM);
    assert_int_equal(b.err.system_code, EADDRINUSE);
    hsb_server_free(s);
}

/* --- what may differ, and who gets none ----------------------------------------------------------- */
static void check_certificate(client *c, const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *expected = PEM_read_X509(f, NULL, NULL, NULL), *got = SSL_get1_peer_certificate(c->ssl);
    fclose(f);
    assert_non_null(expected);
    assert_int_equal(X509_cmp(expected, got), 0);
    X509_free(expected);
    X509_free(got);
}

/* Security, options and hooks are each sharer's own; whose loop does not run gets nobody.          */
/* A client that is not let in by one must not get in by another, and nobody who thinks of TLS
   is answered in plain text.                                                                 */
static void test_sharers_agree_in_what_protects_the_port(void **state)
{
    enum { PLAIN, TLS, REQUESTS, REQUIRES, KINDS };
    hsb_security_desc desc;
    hsb_error err;
    (void)state;
    memset(&desc, 0, sizeof desc);
    desc.identity.chain = hsb_pem_file("tests/data/server-p256.pem");
    desc.identity.key = hsb_pem_file("tests/data/server-p256.key");
    desc.trusted = hsb_pem_file("tests/data/ca-rsa.pem");
    hsb_security *security = hsb_security_new(&desc, &err);
    assert_non_null(security);
    for (int i = 0; i < KINDS * KINDS; i++) {
        int kinds[2] = { i / KINDS, i % KINDS };
        hsb_server *s[2];
        int port = 0;
        for (int k = 0; k < 2; k++) {
            hsb_options o;
            memset(&o, 0, sizeof o);
            o.shared = true;
            o.request_client_certificate = kinds[k] == REQUESTS;
            o.require_client_certificate = kinds[k] == REQUIRES;
            s[k] = kinds[k] == PLAIN ? hsb_bind("127.0.0.1", port, &o, &err)
                                     : hsb_bind_secure("127.0.0.1", port, security, &o, &err);
            if (s[k])
                port = hsb_server_port(s[k]);
        }
        assert_non_null(s[0]);
        assert_int_equal(s[1] != NULL, kinds[0] == kinds[1]);
        if (!s[1])
            assert_int_equal(err.status, HSB_ERR_SHARED);
        else if (kinds[0] != PLAIN)                 /* a new security changes none of it      */
            assert_true(hsb_server_set_security(s[0], -1, security, &err));
        hsb_server_free(s[0]);
        hsb_server_free(s[1]);
    }
    hsb_security_free(security);
}

static void test_sharers_differ(void **state)
{
    sharer s[3];
    hsb_options o;
    hsb_error err;
    hsb_security_desc desc;
    (void)state;
    memset(&desc, 0, sizeof desc);
    memset(&o, 0, sizeof o);
    desc.identity.chain = hsb_pem_file("tests/data/server-rsa2048.pem");
    desc.identity.key = hsb_pem_file("tests/data/server-rsa2048.key");
    hsb_security *rsa = hsb_security_new(&desc, &err);
    assert_non_null(rsa);
    o.server_header = "zero";
    sharer_open(&s[0], 0, 0, &o, rig_security());
    o.server_header = "one";
    o.no_keep_alive = true;
    o.backlog = 1;                                  /* the first one's counts                       */
    sharer_open(&s[1], 1, s[0].r.port, &o, rsa);
    o.server_header = NULL;
    o.limits.target_bytes = 10;
    sharer_open(&s[2], 2, s[0].r.port, &o, rig_security());
    hsb_security_free(rsa);
    for (int round = 0; round < 6; round++) {
        rig *r = &s[round % 3].r;
        client *c = dial(r);
        answer a = ask(c, round < 3 ? "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
                                    : "GET /0123456789 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_int_equal(a.status, round == 5 ? 414 : 200);
        if (round % 3 == 2)
            assert_null(field_of(&a, "Server"));
        else
            assert_true(field_is(&a, "Server", round % 3 ? "one" : "zero"));
        if (round % 3 > 0)
            assert_true(field_is(&a, "Connection", "close"));
        if (round != 5)
            assert_int_equal(atoi(a.body), round % 3);
        if (r->secure)
            check_certificate(c, round % 3 == 1 ? "tests/data/server-rsa2048.pem" : "tests/data/server-p256.pem");
        answer_free(&a);
        hang_up(c);
        for (int i = 0; i < 3; i++)
            assert_int_equal(s[i].r.accepts, round / 3 + (i <= round % 3));
    }
    close_all(s, 3);
}

/* --- sharers that leave ------------------------------------------------------------------------------ */
/* First one is closed, then one freed: the third serves all that wait.  Then the port is free.         */
static void test_backlog_outlives_a_sharer(void **state)
{
    enum { WAITING = 60 };
    sharer s[3];
    peer p[WAITING];
    attempt again;
    (void)state;
    open_all(s, 3, NULL, false);
    int port = s[0].r.port;
    for (int i = 0; i < WAITING; i++) {
        p[i] = peer_open(port, false);
        assert_true(peer_ask(&p[i], "/"));
        if (i == WAITING / 3) {
            hsb_server_close(s[0].r.server, false);
            while (turn(&s[0].r, 0))
                ;
        }
        if (i == WAITING / 2)
            sharer_close(&s[1]);
    }
    assert_int_equal(s[0].r.accepts + s[1].r.accepts, 0);
    for (int64_t end = clock_ms() + PATIENCE_MS; s[2].r.finishes < WAITING;) {
        assert_true(clock_ms() < end);
        turn(&s[2].r, 1);
    }
    for (int i = 0; i < WAITING; i++) {
        assert_int_equal(number_heard(&p[i]), 2);
        peer_close(&p[i], true);
    }
    sharer_close(&s[2]);
    assert_false(can_connect("127.0.0.1", port));
    assert_true(attempt_open(&again, BIND, "127.0.0.1", port, false, false));
    attempt_close(&again);
    sharer_close(&s[0]);
}

typedef struct visitors {
    pthread_t thread;
    int       port, *stop;
    bool      secure, keep;     /* keep: some connections stay open                              */
    int       served, turned_away, lost;
} visitors;

enum { KEPT = 30 };

/* A server that closes ends whoever is idle, and so is he who is connected and whose request is
   under way.  With a close_notify, so that he knows that nobody has seen it and can try again.   */
static bool was_turned_away(const peer *p)
{
    return p->ssl && (SSL_get_shutdown(p->ssl) & SSL_RECEIVED_SHUTDOWN);
}

static void *visit(void *arg)
{
    visitors *v = arg;
    peer kept[KEPT];
    int count = 0;
    while (!counter_get(v->stop) && (!v->keep || count < KEPT)) {
        peer p = peer_open(v->port, false);
        if (v->secure && !peer_handshake(&p))
            v->lost++;
        else if (peer_ask(&p, "/") && number_heard(&p) >= 0)
            v->served++;
        else if (was_turned_away(&p))
            v->turned_away++;
        else
            v->lost++;
        if (v->keep)
            kept[count++] = p;
        else
            peer_close(&p, true);
        if (v->keep)
            sleep_us(10000);
    }
    while (!counter_get(v->stop))
        sleep_us(1000);
    while (count > 0)
        peer_close(&kept[--count], true);
    return NULL;
}

static void visitors_start(visitors *v, int count, int port, int *stop, bool secure, bool keep)
{
    for (int i = 0; i < count; i++) {
        memset(&v[i], 0, sizeof v[i]);
        v[i].port = port;
        v[i].stop = stop;
        v[i].secure = secure;
        v[i].keep = keep;
        assert_int_equal(pthread_create(&v[i].thread, NULL, visit, &v[i]), 0);
    }
}

static int visitors_join(visitors *v, int count, int *turned_away)
{
    int served = 0, lost = 0;
    *turned_away = 0;
    for (int i = 0; i < count; i++)
        pthread_join(v[i].thread, NULL);
    for (int i = 0; i < count; i++) {
        lost += v[i].lost;
        served += v[i].served;
        *turned_away += v[i].turned_away;
    }
    assert_int_equal(lost, 0);
    return served;
}

/* While clients come all the time, sharers leave and others take their places.  Whoever is taken
   already finishes what he has begun, his handshake first of all.                                   */
static void test_coming_and_going(void **state)
{
    enum { SHARERS = 3, VISITORS = 3, ROUNDS = 6 };
    sharer s[SHARERS];
    visitors v[VISITORS];
    int stop = 0, accepts = 0, turned_away;
    (void)state;
    open_all(s, SHARERS, NULL, true);
    int port = s[0].r.port;
    for (int i = 0; i < SHARERS; i++)
        sharer_start(&s[i]);
    visitors_start(v, VISITORS, port, &stop, true, false);
    for (int round = 0; round < ROUNDS; round++) {
        sharer *leaving = &s[round % SHARERS];
        sleep_us(20000);
        sharer_stop(leaving, false);
        accepts += leaving->r.accepts;
        sharer_close(leaving);
        sharer_open(leaving, round, port, NULL, rig_security());
        sharer_start(leaving);
    }
    counter_add(&stop, 1);
    int served = visitors_join(v, VISITORS, &turned_away);
    for (int i = 0; i < SHARERS; i++) {
        sharer_stop(&s[i], true);
        accepts += s[i].r.accepts;
    }
    close_all(s, SHARERS);
    assert_int_equal(accepts, served + turned_away);
    assert_true(served >= VISITORS);
    assert_true(turned_away <= ROUNDS * VISITORS);
}

/* --- fair shares ---------------------------------------------------------------------------------------- */
/* Clients that come and go, and clients that stay: no sharer gets less than a tenth.                   */
static void test_fair_shares(void **state)
{
    enum { SHARERS = 4, VISITORS = 6 };
    (void)state;
    for (int keep = 0; keep <= 1; keep++) {
        sharer s[SHARERS];
        visitors v[VISITORS];
        int stop = 0, turned_away;
        open_all(s, SHARERS, NULL, false);
        for (int i = 0; i < SHARERS; i++)
            sharer_start(&s[i]);
        visitors_start(v, VISITORS, s[0].r.port, &stop, false, keep);
        sleep_us(scaled("LIVE_LOAD", 700) * 1000);
        counter_add(&stop, 1);
        int served = visitors_join(v, VISITORS, &turned_away);
        for (int i = 0; i < SHARERS; i++)
            sharer_stop(&s[i], true);
        for (int i = 0; i < SHARERS; i++)
            if (s[i].r.accepts < served / 10)
                fail_msg("%s: %d of %d", keep ? "they stay" : "they go", s[i].r.accepts, served);
        assert_true(served >= SHARERS * 10);
        assert_int_equal(turned_away, 0);
        close_all(s, SHARERS);
    }
}

/* All in one thread, by turns.                                                                           */
static void test_one_thread(void **state)
{
    enum { SHARERS = 3, PEERS = 60 };
    sharer s[SHARERS];
    peer p[PEERS];
    int got[SHARERS] = { 0 }, finished = 0;
    (void)state;
    open_all(s, SHARERS, NULL, false);
    for (int i = 0; i < PEERS; i++) {
        p[i] = peer_open(s[0].r.port, false);
        assert_true(peer_ask(&p[i], "/"));
    }
    for (int64_t end = clock_ms() + PATIENCE_MS; finished < PEERS;) {
        assert_true(clock_ms() < end);
        finished = 0;
        for (int i = 0; i < SHARERS; i++) {
            turn(&s[i].r, 0);
            finished += s[i].r.finishes;
        }
    }
    for (int i = 0; i < PEERS; i++) {
        int number = number_heard(&p[i]);
        assert_true(number >= 0 && number < SHARERS);
        got[number]++;
        peer_close(&p[i], true);
    }
    for (int i = 0; i < SHARERS; i++) {
        assert_int_equal(got[i], s[i].r.accepts);
        assert_true(got[i] >= PEERS / 10);
    }
    close_all(s, SHARERS);
}

/* --- a sharer that is stuck ---------------------------------------------------------------------------------- */
enum { EARLY = 24 };

/* It is stuck until all others were served, so whoever had to wait for it would wait for ever.
   Those that it had taken are served afterwards.                                                              */
static void test_a_stuck_sharer(void **state)
{
    enum { SHARERS = 3 };
    sharer s[SHARERS];
    peer early[EARLY];
    int host[EARLY], release = 0, stuck = -1, others = 0;
    bool secure = is_secure(state);
    open_all(s, SHARERS, NULL, secure);
    for (int i = 0; i < SHARERS; i++) {
        s[i].release = &release;
        sharer_start(&s[i]);
    }
    for (int i = 0; i < EARLY; i++) {
        early[i] = peer_open(s[0].r.port, false);
        assert_true(!secure || peer_handshake(&early[i]));
        assert_true(peer_ask(&early[i], "/"));
        host[i] = number_heard(&early[i]);
        assert_true(host[i] >= 0);
    }
    stuck = host[0];
    assert_true(peer_ask(&early[0], "/block"));
    while (!counter_get(&s[stuck].stuck))
        sleep_us(1000);

    for (int i = 1; i < EARLY; i++)                         /* those it had taken wait                     */
        if (host[i] == stuck)
            assert_true(peer_ask(&early[i], "/"));
    int64_t end = clock_ms() + scaled("LIVE_BLOCK", 1000);
    while (others < 40 || clock_ms() < end) {
        peer p = peer_open(s[0].r.port, false);
        assert_true(!secure || peer_handshake(&p));
        assert_true(peer_ask(&p, "/"));
        int number = number_heard(&p);
        assert_true(number >= 0 && number != stuck);
        peer_close(&p, true);
        others++;
    }
    for (int i = 1; i < EARLY; i++) {
        if (host[i] == stuck)
            continue;
        assert_true(peer_ask(&early[i], "/"));
        assert_int_equal(number_heard(&early[i]), host[i]);
    }
    assert_int_equal(counter_get(&s[stuck].stuck), 1);             /* all the while                               */
    counter_add(&release, 1);
    for (int i = 0; i < EARLY; i++) {
        if (host[i] == stuck)
            assert_int_equal(number_heard(&early[i]), stuck);
        peer_close(&early[i], true);
    }
    for (int i = 0; i < SHARERS; i++)
        sharer_stop(&s[i], true);
    close_all(s, SHARERS);
}

/* --- nothing leaks ---------------------------------------------------------------------------------------------- */
static int descriptors;

static int setup(void **state)
{
    (void)state;
    rig_security();
    client_tls();
    descriptors = open_descriptors() - clients_open;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return open_descriptors() - clients_open == descriptors ? 0 : -1;
}

int main(void)
{
#define ON_PLAIN(f) { #f, f, setup, teardown, NULL }
#define ON_TLS(f) { #f ", TLS", f, setup, teardown, "TLS" }
    const struct CMUnitTest tests[] = {
        ON_PLAIN(test_who_may_join), ON_PLAIN(test_any_port_twice_is_two),
        ON_PLAIN(test_with_itself_and_with_a_descriptor), ON_PLAIN(test_sharers_differ),
        ON_PLAIN(test_sharers_agree_in_what_protects_the_port),
        ON_PLAIN(test_backlog_outlives_a_sharer), ON_TLS(test_coming_and_going),
        ON_PLAIN(test_fair_shares), ON_PLAIN(test_one_thread), ON_PLAIN(test_a_stuck_sharer),
        ON_TLS(test_a_stuck_sharer),
    };
    alone = own_network(20000, 60000);  /* where we may: other programs' ports are in the way   */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
