/* Every way in which a server, a connection or a request ends, and what the hooks are told.
   LIVE_CUTS=1000 cuts that many uploads and downloads at random points. */
static int misuses;
#define HSB_ASSERT(condition) ((condition) ? (void)0 : (void)misuses++)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

/* --- connections in every state ----------------------------------------------------------- */
enum { AT_HANDSHAKE, AT_IDLE, AT_HEAD, AT_BODY, AT_DEFERRED, AT_BEGUN, AT_SENDING, STATES };

typedef struct gathering {
    client    *c[STATES];
    hsb_ticket ticket;
    hsb_request *begun;
    int        resumed, gone;
} gathering;

static char large[1000000];

static void crowd_answer(rig *r, hsb_request *req)
{
    gathering *crowd = r->data;
    hsb_str body = { large, sizeof large };
    if (path_is(req, "/deferred")) {
        crowd->ticket = hsb_request_defer(req);
    } else if (path_is(req, "/begun")) {
        crowd->begun = req;
        hsb_response_begin(req, 200, -1);
        hsb_response_write(req, hsb_text("begun, "));
    } else if (path_is(req, "/sending")) {
        hsb_respond(req, 200, NULL, body);
    } else {
        hsb_respond(req, 200, NULL, hsb_text("ok"));
    }
}

static void crowd_resume(hsb_request *req, void *arg)
{
    gathering *crowd = arg;
    crowd->resumed++;
    if (req)
        hsb_respond(req, 200, NULL, hsb_text("late"));
    else
        crowd->gone++;
}

/* One connection in each state. */
static void crowd_gather(rig *r, gathering *crowd)
{
    static const char *const said[] = {
        [AT_IDLE] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", [AT_HEAD] = "GET / HTTP/1.1\r\nHos",
        [AT_BODY] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345",
        [AT_DEFERRED] = "GET /deferred HTTP/1.1\r\nHost: x\r\n\r\n",
        [AT_BEGUN] = "GET /begun HTTP/1.1\r\nHost: x\r\n\r\n",
        [AT_SENDING] = "GET /sending HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    memset(crowd, 0, sizeof *crowd);
    for (int at = 0; at < STATES; at++) {
        if (at == AT_HANDSHAKE) {
            crowd->c[at] = client_new(r, r->port, 0);
            continue;
        }
        crowd->c[at] = dial_narrow(r);
        say(crowd->c[at], said[at]);
        if (at == AT_IDLE) {
            answer a = hear_answer(crowd->c[at], false);
            assert_answer(a, 200, "ok");
        }
        turns(r, 10);
    }
    hsb_connections n = hsb_server_connections(r->server);
    assert_int_equal(n.total, STATES);
    assert_int_equal(n.handshaking, r->secure);
    assert_int_equal(n.idle, 2 - r->secure);
    assert_int_equal(n.active, 5);
    assert_int_equal(n.closing + n.detached, 0);
}

static void crowd_leave(gathering *crowd)
{
    for (int at = 0; at < STATES; at++)
        if (crowd->c[at])
            hang_up(crowd->c[at]);
}

/* The port can be bound again at once. */
static void check_port_is_free(const rig *r)
{
    hsb_error err;
    hsb_server *other = hsb_bind("127.0.0.1", r->port, NULL, &err);
    if (!other)
        fail_msg("%s", err.text);
    hsb_server_free(other);
}

/* close(false): idle connections go, all that is open is finished, and says so. */
static void test_close_gently(void **state)
{
    gathering crowd;
    rig r = { .on_request = crowd_answer, .data = &crowd, .send_buffer = 16384 };
    rig_open(&r, NULL, is_secure(state));
    crowd_gather(&r, &crowd);
    hsb_server_close(r.server, false);
    assert_int_equal(hsb_server_connections(r.server).total, STATES);   /* not inside the call */
    assert_true(turn(&r, 0));
    check_port_is_free(&r);
    hear_end(crowd.c[AT_IDLE]);
    assert_true(crowd.c[AT_IDLE]->ended && (!r.secure || crowd.c[AT_IDLE]->notified));
    for (int at = AT_HEAD; at < STATES; at++) {
        client *c = crowd.c[at];
        if (at == AT_HEAD)
            say(c, "t: x\r\n\r\n");
        else if (at == AT_BODY)
            say(c, "67890");
        else if (at == AT_DEFERRED)
            assert_true(hsb_ticket_resume(crowd.ticket, crowd_resume, &crowd));
        else if (at == AT_BEGUN) {
            assert_int_equal(hsb_response_write(crowd.begun, hsb_text("ended")), HSB_FLOW_GO);
            hsb_response_end(crowd.begun);
        }
        answer a = hear_answer(c, false);
        assert_int_equal(a.status, 200);
        assert_true(a.whole);
        if (at == AT_HEAD || at == AT_BODY || at == AT_DEFERRED)
            assert_true(field_is(&a, "Connection", "close"));
        answer_free(&a);
        hear_end(c);
        assert_true(c->ended && (!r.secure || c->notified));
    }
    if (r.secure) {                             /* handshakes finish, and may ask once */
        assert_true(client_handshake(crowd.c[AT_HANDSHAKE]));
        answer a = ask_path(crowd.c[AT_HANDSHAKE], "GET", "/", "");
        assert_true(field_is(&a, "Connection", "close"));
        assert_answer(a, 200, "ok");
    }
    crowd_leave(&crowd);
    int64_t began = clock_ms();
    while (turn(&r, 10))
        assert_true(clock_ms() - began < PATIENCE_MS);
    assert_int_equal(crowd.resumed, 1);
    assert_int_equal(crowd.gone, 0);
    assert_int_equal(r.requests, 6 + r.secure);
    assert_int_equal(r.closes, STATES);
    rig_close(&r);
}

/* close(true): all is cut, at once. */
static void test_close_by_force(void **state)
{
    for (int first = 0; first < 3; first++) {
        gathering crowd;
        rig r = { .on_request = crowd_answer, .data = &crowd, .send_buffer = 16384 };
        rig_open(&r, NULL, is_secure(state));
        crowd_gather(&r, &crowd);
        if (first == 1)
            hsb_server_close(r.server, false);
        if (first == 2) {                       /* a turn later, and twice */
            hsb_server_close(r.server, false);
            assert_true(turn(&r, 0));
        }
        hsb_server_close(r.server, true);
        hsb_server_close(r.server, true);
        int more = 0;
        while (turn(&r, 0))
            assert_true(++more < 5);
        check_port_is_free(&r);
        assert_int_equal(r.closes, STATES);
        assert_int_equal(r.finishes, r.heads);
        for (int at = AT_IDLE; at < STATES; at++) {
            client *c = crowd.c[at];
            hear_end(c);
            if (at == AT_BEGUN)
                assert_null(strstr(c->got, "\r\n0\r\n\r\n"));
            if (at == AT_SENDING)
                assert_true(c->len < sizeof large);
            if (r.secure && at != AT_SENDING)
                assert_true(c->notified);       /* even so, where the socket takes it */
        }
        assert_true(hsb_ticket_resume(crowd.ticket, crowd_resume, &crowd));
        crowd_leave(&crowd);
        rig_close(&r);
        assert_int_equal(crowd.resumed, 1);
        assert_int_equal(crowd.gone, 1);
    }
}

/* timeouts.shutdown makes the one out of the other. */
static void test_close_with_patience(void **state)
{
    gathering crowd;
    rig r = { .on_request = crowd_answer, .data = &crowd, .send_buffer = 16384 };
    hsb_options o = { .timeouts.shutdown = 150 };
    rig_open(&r, &o, is_secure(state));
    crowd_gather(&r, &crowd);
    hsb_server_close(r.server, false);
    int64_t began = clock_ms();
    while (turn(&r, 10))
        assert_true(clock_ms() - began < PATIENCE_MS);
    assert_true(clock_ms() - began >= 150);
    assert_int_equal(r.closed_with.status, HSB_ERR_SHUTDOWN);
    hsb_ticket_drop(crowd.ticket);
    crowd_leave(&crowd);
    rig_close(&r);
}

/* free: like close(true), and what waits in the inbox runs. */
static void count_post(hsb_server *server, void *arg)
{
    (void)server;
    ++*(int *)arg;
}

static void test_free_while_open(void **state)
{
    gathering crowd;
    int posts = 0;
    rig r = { .on_request = crowd_answer, .data = &crowd, .send_buffer = 16384 };
    rig_open(&r, NULL, is_secure(state));
    crowd_gather(&r, &crowd);
    assert_true(hsb_server_post(r.server, 60000, count_post, &posts));
    turns(&r, 2);
    assert_true(hsb_server_post(r.server, 60000, count_post, &posts));
    assert_true(hsb_server_post(r.server, 0, count_post, &posts));
    assert_true(hsb_ticket_resume(crowd.ticket, crowd_resume, &crowd));
    assert_int_equal(posts + crowd.resumed, 0);
    rig_close(&r);
    assert_int_equal(posts, 3);
    assert_int_equal(crowd.resumed, 1);
    assert_int_equal(crowd.gone, 1);
    assert_int_equal(r.finished_with.status, HSB_ERR_SHUTDOWN);
    assert_int_equal(r.closed_with.status, HSB_ERR_SHUTDOWN);
    crowd_leave(&crowd);
    /* A ticket that is used only now: the server is gone, and fn will never run. */
    rig q = { .on_request = crowd_answer, .data = &crowd };
    rig_open(&q, NULL, is_secure(state));
    memset(&crowd, 0, sizeof crowd);
    client *c = dial(&q);
    say(c, "GET /deferred HTTP/1.1\r\nHost: x\r\n\r\n");
    while (!q.requests)
        turns(&q, 1);
    hsb_server_free(q.server);
    q.server = NULL;
    assert_int_not_equal(q.heap.blocks, 0);
    assert_false(hsb_ticket_resume(crowd.ticket, crowd_resume, &crowd));
    assert_int_equal(crowd.resumed, 0);
    hang_up(c);
    rig_close(&q);
}

/* Bound and never run; and closed before. */
static void test_never_run(void **state)
{
    rig r = { .on_request = crowd_answer };
    hsb_error err;
    rig_open(&r, NULL, is_secure(state));
    client *c = client_new(NULL, r.port, 0);            /* waits in the backlog */
    rig_close(&r);
    hear_end(c);
    hang_up(c);
    for (int force = 0; force < 2; force++) {
        rig_open(&r, NULL, is_secure(state));
        c = client_new(NULL, r.port, 0);
        hsb_server_close(r.server, force);
        hsb_server_close(r.server, force);
        assert_true(hsb_server_run(r.server, &err));
        assert_int_equal(r.accepts, 0);                 /* nobody comes after close */
        assert_true(hsb_server_run(r.server, NULL));    /* and once more: closed is closed */
        assert_int_equal(hsb_server_poll(r.server, -1), -1);
        assert_int_equal(hsb_server_timeout(r.server), 0);
        check_port_is_free(&r);
        hear_end(c);
        hang_up(c);
        rig_close(&r);
    }
}

/* --- close from everywhere ---------------------------------------------------------------- */
/* The hooks by number; a test names the one in which something is to happen. */
enum {
    IN_ACCEPT, IN_HANDSHAKE, IN_HEAD, IN_BODY, IN_REQUEST, IN_DRAIN, IN_FINISH, IN_CLOSE,
    IN_WAKE, IN_POST, IN_TICKET, IN_AFTER, IN_RELEASE, IN_ERROR, PLACES
};

typedef struct act {
    int   place;                        /* where */
    void (*what)(rig *, hsb_conn *);
    int   done;                         /* how often it came there */
    char  log[400];
    rig  *r;
} act;

static void act_at(rig *r, int place, hsb_conn *conn)
{
    static const char letters[] = "AHhbrdfcwptaRe";
    act *a = r->data;
    size_t n = strlen(a->log);
    if (n < sizeof a->log - 1 && (n == 0 || a->log[n - 1] != letters[place]))
        a->log[n] = letters[place];
    if (a->place == place && a->done++ == 0)
        a->what(r, conn);
}

static bool act_accept(rig *r, hsb_conn *conn)
{
    act_at(r, IN_ACCEPT, conn);
    return true;
}

static bool act_handshake(rig *r, hsb_conn *conn)
{
    act_at(r, IN_HANDSHAKE, conn);
    return true;
}

static void act_close(rig *r, hsb_conn *conn, const hsb_error *why)
{
    (void)why;
    act_at(r, IN_CLOSE, conn);
}

static void act_error(rig *r, hsb_conn *conn, const hsb_error *why)
{
    (void)why;
    act_at(r, IN_ERROR, conn);
}

static void act_wake(rig *r)
{
    act_at(r, IN_WAKE, r->conn);
}

static void act_head(rig *r, hsb_request *req)
{
    hsb_request_stream(req);
    act_at(r, IN_HEAD, hsb_request_conn(req));
}

static void act_body(rig *r, hsb_request *req, hsb_str part)
{
    (void)part;
    act_at(r, IN_BODY, hsb_request_conn(req));
}

static void act_posted(hsb_server *server, void *arg)
{
    (void)server;
    act *a = arg;
    act_at(a->r, IN_POST, a->r->conn);
}

static void act_released(void *arg)
{
    act *a = arg;
    act_at(a->r, IN_RELEASE, a->r->conn);
}

static void act_after(hsb_request *req, void *arg)
{
    act *a = arg;
    act_at(a->r, IN_AFTER, hsb_request_conn(req));
    hsb_str body = { large, sizeof large };
    if (path_is(req, "/owned")) {
        hsb_respond_owned(req, 200, NULL, body, act_released, a);
        return;
    }
    hsb_response_begin(req, 200, -1);
    hsb_response_write(req, body);
}

static void act_ticket(hsb_request *req, void *arg)
{
    act *a = arg;
    act_at(a->r, IN_TICKET, req ? hsb_request_conn(req) : NULL);
    if (req)
        hsb_request_after(req, 1, act_after, a);
}

/* A request that comes through all of these places. */
static void act_request(rig *r, hsb_request *req)
{
    act_at(r, IN_REQUEST, hsb_request_conn(req));
    hsb_server_post(r->server, 0, act_posted, r->data);
    hsb_server_wake(r->server);
    hsb_ticket_resume(hsb_request_defer(req), act_ticket, r->data);
}

static void act_drain(rig *r, hsb_request *req)
{
    act_at(r, IN_DRAIN, hsb_request_conn(req));
    hsb_response_end(req);
}

static void act_finish(rig *r, hsb_request *req, const hsb_error *why)
{
    (void)why;
    act_at(r, IN_FINISH, hsb_request_conn(req));
}

static rig act_rig(act *a)
{
    rig r = { .on_accept = act_accept,
              .on_handshake = act_handshake,
              .on_close = act_close,
              .on_error = act_error,
              .on_wake = act_wake,
              .on_head = act_head,
              .on_body = act_body,
              .on_request = act_request,
              .on_drain = act_drain,
              .on_finish = act_finish,
              .data = a };
    return r;
}

/* One client tells the whole story, with a malformed request at the end; it may be cut off
   anywhere.  Returns when the connection is gone. */
static void act_play(rig *r, act *a)
{
    static const char *const parts[] = {
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", "12345", "67890",
        "POST /owned HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "123", "\1\r\n\r\n"
    };
    client *c = client_new(r, r->port, 0);
    a->r = r;
    bool on = !r->secure || client_handshake(c);
    for (size_t i = 0; on && i < sizeof parts / sizeof *parts; i++) {
        on = try_say(c, parts[i], strlen(parts[i]));
        if (i == 2 || i == 4) {
            while (on && r->finishes < (i == 2 ? 1 : 2)) {
                on = hear_some(c) >= 0;
                if (!turn(r, 1))
                    on = false;
            }
        } else {
            turns(r, 2);
        }
    }
    while (hear_more(c, "the end"))
        ;
    hang_up(c);
}

static void nothing(rig *r, hsb_conn *conn)
{
    (void)r;
    (void)conn;
}

/* All of it in its order. */
static void test_order(void **state)
{
    act a = { .place = -1, .what = nothing };
    rig r = act_rig(&a);
    rig_open(&r, NULL, is_secure(state));
    act_play(&r, &a);
    turn_until(&r, all_closed, "the end");
    assert_string_equal(a.log, r.secure ? "AHhbrwptadfhbrwptaRfec" : "AhbrwptadfhbrwptaRfec");
    assert_int_equal(r.heads, 2);
    assert_int_equal(r.requests, 2);
    assert_int_equal(r.errors, 1);
    assert_int_equal(r.told.status, HSB_ERR_HTTP);
    assert_int_equal(r.closed_with.status, HSB_ERR_HTTP);
    rig_close(&r);
}

static void close_gently(rig *r, hsb_conn *conn)
{
    (void)conn;
    hsb_server_close(r->server, false);
}

static void close_hard(rig *r, hsb_conn *conn)
{
    (void)conn;
    hsb_server_close(r->server, true);
}

static void close_both(rig *r, hsb_conn *conn)
{
    close_gently(r, conn);
    close_hard(r, conn);
    close_gently(r, conn);
}

static void close_conn_gently(rig *r, hsb_conn *conn)
{
    (void)r;
    if (conn)
        hsb_conn_close(conn, false);
}

static void close_conn_hard(rig *r, hsb_conn *conn)
{
    (void)r;
    if (conn)
        hsb_conn_close(conn, true);
}

/* The server is closed inside of each hook and callback. */
static void test_close_in_hooks(void **state)
{
    static void (*const ways[])(rig *, hsb_conn *) = { close_gently, close_hard, close_both };
    for (int place = 0; place < PLACES; place++) {
        for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
            act a = { .place = place, .what = ways[way] };
            rig r = act_rig(&a);
            if (place == IN_HANDSHAKE && !is_secure(state))
                continue;
            rig_open(&r, NULL, is_secure(state));
            act_play(&r, &a);
            int64_t end = clock_ms() + PATIENCE_MS;
            while (turn(&r, 1))
                if (clock_ms() > end)
                    fail_msg("closed in %d by %zu, and still there: %s", place, way, a.log);
            if (a.done == 0)
                fail_msg("never came to %d: %s", place, a.log);
            assert_int_equal(r.closes, 1);
            rig_close(&r);
        }
    }
}

/* The connection is; the server goes on. */
static void test_close_conn_in_hooks(void **state)
{
    static void (*const ways[])(rig *, hsb_conn *) = { close_conn_gently, close_conn_hard };
    for (size_t way = 0; way < 2; way++) {
        for (int place = 0; place < PLACES; place++) {
            act a = { .place = place, .what = ways[way] };
            rig r = act_rig(&a);
            if (place == IN_HANDSHAKE && !is_secure(state))
                continue;
            rig_open(&r, NULL, is_secure(state));
            act_play(&r, &a);
            turn_until(&r, all_closed, "the connection's end");
            assert_true(a.done > 0);
            if (way == 1 && place < IN_FINISH) {            /* by force: no hook but the ends */
                static const char *const logs[] = {
                    "Ac", "AHc", "AHhfc", "AHhbfc", "AHhbrwpfc", "AHhbrwptadfc"
                };
                char expected[40] = "", *to = expected;
                for (const char *at = logs[place]; *at; at++)
                    if (*at != 'H' || r.secure)
                        *to++ = *at;
                if (place != IN_REQUEST)
                    assert_string_equal(a.log, expected);
            }
            if (way == 0 && place > IN_ACCEPT && place < IN_FINISH && place != IN_HANDSHAKE)
                assert_int_equal(r.heads, 1);               /* gently: this one is answered */
            rig_close(&r);
        }
    }
}

/* Cut means now: what has been received already begins no request, ends no body and calls
   nobody but the ends. */
static void cut_in_head(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/stream"))
        hsb_request_stream(req);
    else
        hsb_conn_close(hsb_request_conn(req), true);
}

static void cut_in_body(rig *r, hsb_request *req, hsb_str part)
{
    (void)r;
    (void)part;
    hsb_conn_close(hsb_request_conn(req), true);
}

static void test_nothing_after_the_cut(void **state)
{
    rig r = { .on_head = cut_in_head, .on_body = cut_in_body, .on_request = crowd_answer };
    for (int i = 0; i < 5; i++) {
        rig_open(&r, NULL, is_secure(state));
        client *c = dial(&r);
        say(c, i == 0 ? "GET / HTTP/1.1\r\nHost: x\r\n\r\n" :
               i == 1 ? "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1" :
                        "POST /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "1\r\n1\r\n1\r\n2\r\n0\r\n\r\n");
        if (i == 3)
            hsb_server_close(r.server, true);
        while (i < 4 && turn(&r, 0) && !r.closes)
            ;
        rig_close(&r);
        hang_up(c);
        assert_int_equal(r.heads, i < 3);
        assert_int_equal(r.requests, 0);
        assert_int_equal(r.body_bytes, i == 2);
        r.heads = r.finishes = r.requests = r.accepts = r.closes = 0;
        r.body_bytes = 0;
    }
}

/* --- from outside ------------------------------------------------------------------------- */
static hsb_server *running;

static void close_running(int number)
{
    (void)number;
    errno = 4711;
    hsb_server_close(running, false);
    if (errno != 4711)
        abort();
}

static void *close_from_thread(void *arg)
{
    sleep_us(20000);
    hsb_server_close(arg, false);
    hsb_server_close(arg, true);
    return NULL;
}

static void test_close_from_outside(void **state)
{
    hsb_error err;
    for (int how = 0; how < 4; how++) {
        gathering crowd;
        rig r = { .on_request = crowd_answer, .data = &crowd, .send_buffer = 16384 };
        rig_open(&r, NULL, is_secure(state));
        pthread_t thread;
        if (how % 2)
            crowd_gather(&r, &crowd);
        if (how < 2) {
            struct itimerval in_20_ms = { { 0, 0 }, { 0, 20000 } };
            running = r.server;
            signal(SIGALRM, close_running);
            setitimer(ITIMER_REAL, &in_20_ms, NULL);
            if (how % 2)
                r.server->loop.options.timeouts.shutdown = 50;
        } else {
            assert_int_equal(pthread_create(&thread, NULL, close_from_thread, r.server), 0);
        }
        assert_true(hsb_server_run(r.server, &err));
        assert_int_equal(err.status, HSB_OK);
        if (how >= 2)
            pthread_join(thread, NULL);
        signal(SIGALRM, SIG_DFL);
        assert_int_equal(r.closes, r.accepts);
        if (how % 2) {
            hsb_ticket_drop(crowd.ticket);
            crowd_leave(&crowd);
        }
        rig_close(&r);
    }
}

/* --- misuse ------------------------------------------------------------------------------- */
static void misuse(rig *r, hsb_conn *conn)
{
    hsb_error err;
    (void)conn;
    hsb_server_free(r->server);
    assert_int_equal(hsb_server_poll(r->server, 0), 0);
    assert_false(hsb_server_run(r->server, &err));
    assert_int_equal(err.status, HSB_ERR_MISUSE);
}

static void test_misuse_in_hooks(void **state)
{
    for (int place = 0; place < IN_ERROR; place++) {
        act a = { .place = place, .what = misuse };
        rig r = act_rig(&a);
        if (place == IN_HANDSHAKE && !is_secure(state))
            continue;
        rig_open(&r, NULL, is_secure(state));
        misuses = 0;
        act_play(&r, &a);
        turn_until(&r, all_closed, "the end");
        if (misuses != 3)
            fail_msg("%d misuses in %d", misuses, place);
        assert_int_equal(r.heads, 2);
        rig_close(&r);
    }
    misuses = 0;
}

/* --- refused ------------------------------------------------------------------------------ */
static bool refuse(rig *r, hsb_conn *conn)
{
    (void)conn;
    return r->data == NULL;
}

static void test_refused(void **state)
{
    char on = 0;
    rig r = { .on_accept = refuse, .data = &on };
    rig_open(&r, NULL, is_secure(state));
    for (int i = 0; i < 5; i++) {
        client *c = client_new(&r, r.port, 0);
        hear_end(c);
        hang_up(c);
    }
    turn_until(&r, all_closed, "ends");
    assert_int_equal(r.accepts, 5);
    assert_int_equal(r.closes, 5);
    assert_int_equal(r.handshakes + r.heads, 0);
    rig_close(&r);
}

static void test_refused_after_handshake(void **state)
{
    char on = 0;
    rig r = { .on_handshake = refuse, .data = &on };
    (void)state;
    rig_open(&r, NULL, true);
    for (int i = 0; i < 3; i++) {
        client *c = dial(&r);
        try_say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
        hear_end(c);
        assert_true(c->ended && c->notified);
        assert_int_equal(c->len, 0);
        hang_up(c);
    }
    turn_until(&r, all_closed, "ends");
    assert_int_equal(r.handshakes, 3);
    assert_int_equal(r.closes, 3);
    assert_int_equal(r.heads, 0);
    rig_close(&r);
}

/* --- the client's end --------------------------------------------------------------------- */
/* Who leaves when; what on_finish and on_close are told. */
static void test_client_leaves(void **state)
{
    static const struct {
        const char *said;
        bool head, answered;    /* on_head comes; an answer still reaches who only half closed */
    } rows[] = {
        { "", false, false },
        { "GET / HTTP/1.1\r\nHo", false, false },
        { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123", true, false },
        { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
          true, false },
        { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n", true,
          false },
        { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, true },
        { "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET", true, true },
    };
    rig r = { .on_request = crowd_answer };
    rig_open(&r, NULL, is_secure(state));
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        bool reset = i % 2;
        int heads = r.heads;
        client *c = dial(&r);
        say(c, rows[i / 2].said);
        if (reset) {
            turns(&r, 5);
            cut_off(c);
        } else {
            say_end(c);
            while (hear_more(c, "the end"))
                ;
            assert_int_equal(c->len > 0, rows[i / 2].answered);
            if (rows[i / 2].answered)
                assert_memory_equal(c->got, "HTTP/1.1 200", 12);
            assert_true(c->ended);
            hang_up(c);
        }
        turn_until(&r, all_closed, "the end");
        assert_int_equal(r.heads > heads, rows[i / 2].head);
        if (rows[i / 2].head)
            assert_int_equal(r.finished_with.status,
                             rows[i / 2].answered ? HSB_OK : HSB_ERR_CLOSED);
        bool clean = !reset && (rows[i / 2].said[0] == '\0' || i / 2 == 5);
        assert_int_equal(r.closed_with.status, clean ? HSB_OK : HSB_ERR_CLOSED);
    }
    rig_close(&r);
}

/* A request that waits: a FIN is not the end, a reset is. */
static void test_client_leaves_while_waiting(void **state)
{
    for (int how = 0; how < 3; how++) {
        gathering crowd = { .resumed = 0 };
        rig r = { .on_request = crowd_answer, .data = &crowd };
        rig_open(&r, NULL, is_secure(state));
        client *c = dial(&r);
        say(c, "GET /deferred HTTP/1.1\r\nHost: x\r\n\r\n");
        while (!r.req)
            turn(&r, 1);
        if (how == 0) {                                 /* half closed: it can still read */
            say_end(c);
            turns(&r, 20);
            assert_int_equal(r.finishes, 0);
            assert_true(hsb_ticket_resume(crowd.ticket, crowd_resume, &crowd));
            answer a = hear_answer(c, false);
            assert_answer(a, 200, "late");
            hear_end(c);
            hang_up(c);
        } else if (how == 1) {    /* gone: seen without reading or writing */
            cut_off(c);
            turn_until(&r, all_closed, "the reset");
            assert_int_equal(r.finished_with.status, HSB_ERR_CLOSED);
            assert_true(hsb_ticket_resume(crowd.ticket, crowd_resume, &crowd));
            turns(&r, 2);
            assert_int_equal(crowd.gone, 1);
        } else {                                        /* a FIN, then a reset */
            say_end(c);
            turns(&r, 20);
            assert_int_equal(r.finishes, 0);
            cut_off(c);
            turn_until(&r, all_closed, "the reset");
            assert_true(hsb_ticket_resume(crowd.ticket, crowd_resume, &crowd));
            turns(&r, 2);
            assert_int_equal(crowd.gone, 1);
        }
        assert_int_equal(crowd.resumed, 1);
        turn_until(&r, all_closed, "the end");
        rig_close(&r);
    }
}

/* TLS: an end without close_notify is told apart; a broken record, too. */
static void test_client_without_notify(void **state)
{
    rig r = { .on_request = crowd_answer };
    hsb_options o = { .timeouts.close = 50 };
    (void)state;
    rig_open(&r, &o, true);
    client *c = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "ok");
    client_free(c);
    turn_until(&r, all_closed, "the end");
    assert_int_equal(r.closed_with.status, HSB_ERR_CLOSED);
    c = dial(&r);
    static const char garbage[] = "\x17\x03\x03\0\x20" "this is no record of this session";
    assert_int_equal(send(c->fd, garbage, sizeof garbage - 1, 0), sizeof garbage - 1);
    turn_until(&r, all_closed, "the end");
    assert_int_equal(r.closed_with.status, HSB_ERR_TLS);
    assert_int_equal(r.told.status, HSB_ERR_TLS);
    client_free(c);
    rig_close(&r);
}

/* --- malformed ---------------------------------------------------------------------------- */
static void test_malformed(void **state)
{
    static const struct { const char *said; int status; hsb_status told; } rows[] = {
        { "\1\r\n\r\n", 400, HSB_ERR_HTTP }, { "GET / HTTP/1.1\r\n\r\n", 400, HSB_ERR_HTTP },
        { "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, HSB_ERR_HTTP },
        { "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, HSB_ERR_HTTP },
    };
    rig r = { .on_request = crowd_answer };
    rig_open(&r, NULL, is_secure(state));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        client *c = dial(&r);
        answer a = ask(c, rows[i].said);
        assert_int_equal(a.status, rows[i].status);
        assert_true(field_is(&a, "Connection", "close"));
        answer_free(&a);
        hear_end(c);
        assert_true(c->ended && (!c->ssl || c->notified));
        hang_up(c);
        turn_until(&r, all_closed, "the end");
        assert_int_equal(r.errors, i + 1);
        assert_int_equal(r.told.status, rows[i].told);
        char status[8];
        snprintf(status, sizeof status, "%d", rows[i].status);
        assert_non_null(strstr(r.told.text, status));
        assert_int_equal(r.heads, 0);
    }
    rig_close(&r);
}

/* --- lingering ---------------------------------------------------------------------------- */
/* After our last byte the client has timeouts.close to end its side; what it says meanwhile is
   dropped. */
static void test_lingering(void **state)
{
    rig r = { .on_request = crowd_answer };
    hsb_options o = { .timeouts.close = 150, .no_keep_alive = true };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r), *d = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "ok");
    a = ask_path(d, "GET", "/", "");
    assert_answer(a, 200, "ok");
    int64_t began = clock_ms();
    hear_end(c);
    hear_end(d);
    assert_int_equal(hsb_server_connections(r.server).closing, 2);
    hang_up(d);
    while (r.closes < 1)
        turn(&r, 10);
    int fd = dup(c->fd);
    if (!c->ssl)
        assert_int_equal(send(fd, "more", 4, 0), 4);
    close(fd);
    turn_until(&r, all_closed, "the end of patience");
    assert_true(clock_ms() - began >= 140);
    assert_int_equal(r.closed_with.status, HSB_OK);
    hang_up(c);
    rig_close(&r);
}

/* While a client keeps open what is closed, the server sleeps. */
static void test_lingering_is_no_busy_loop(void **state)
{
    rig r = { .on_request = crowd_answer };
    hsb_options o = { .timeouts.close = 400, .no_keep_alive = true };
    rig_open(&r, &o, is_secure(state));
    for (int how = 0; how < 3; how++) {
        int count = 0, closes = r.closes;
        client *c = dial(&r);
        answer a = ask_path(c, "GET", "/", "");
        assert_answer(a, 200, "ok");
        if (how == 1)
            hear_end(c);                        /* our end was read, and is not answered */
        if (how == 2 && !c->ssl)
            say(c, "more, which nobody reads");
        for (int64_t began = clock_ms(); r.closes == closes; count++) {
            turn(&r, 100);
            assert_true(clock_ms() - began < PATIENCE_MS);
        }
        assert_within(count, 1, 30);
        hang_up(c);
    }
    rig_close(&r);
}

static void see_the_close(rig *r, hsb_request *req)
{
    assert_false(hsb_server_closing(r->server));
    hsb_server_close(r->server, false);
    hsb_response_begin(req, 200, -1);
}

static void test_closing_is_told(void **state)
{
    rig r = { .on_request = see_the_close };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    while (r.requests < 1)
        turn(&r, 1);
    turn(&r, 0);
    assert_true(hsb_server_closing(r.server));
    hsb_response_end(r.req);                    /* as an endless answer would now */
    answer a = hear_answer(c, false);
    assert_answer(a, 200, "");
    hang_up(c);
    while (turn(&r, 10))
        ;
    assert_true(hsb_server_closing(r.server));
    rig_close(&r);
}

/* Who reads the answer only behind his body is waited for, as long as the body comes; and who
   goes on for ever is not. */
static void refuse_at_head(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond(req, 413, NULL, hsb_text("too large"));
}

static void send_slowly(client *c, int parts, bool until_cut)
{
    static char part[5000];
    for (int i = 0; i < parts; i++) {
        bool taken = try_say(c, part, sizeof part);
        assert_true(taken || until_cut);
        if (!taken)
            return;
        for (int64_t end = clock_ms() + 20; clock_ms() < end;)
            turn(c->r, 5);
    }
    assert_false(until_cut);
}

static void test_lingering_for_a_body(void **state)
{
    rig r = { .on_head = refuse_at_head };
    hsb_options o = { .timeouts = { .close = 200, .body = 1500 } };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    say(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n");
    send_slowly(c, 40, false);                      /* four times timeouts.close             */
    assert_int_equal(r.closes, 0);
    answer a = hear_answer(c, false);
    assert_answer(a, 413, "too large");
    hear_end(c);
    send_slowly(c, 10000, true);
    assert_true(all_closed(&r));
    hang_up(c);
    rig_close(&r);
}

/* --- cuts at random ----------------------------------------------------------------------- */
static unsigned random_state = 20240601;

static unsigned next_random(unsigned below)
{
    random_state = random_state * 1103515245u + 12345u;
    return (random_state >> 8) % below;
}

enum { UPLOAD = 250000 };

typedef struct cuts {
    char file[200];                     /* as long as large */
    long uploads, downloads;            /* cut between their first byte and their last */
} cuts;

static void cut_head(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/up"))
        hsb_request_stream(req);
}

static void cut_finish(rig *r, hsb_request *req, const hsb_error *why)
{
    cuts *all = r->data;
    int64_t got = hsb_request_received(req), sent = hsb_response_bytes(req);
    all->uploads += why && got > 0 && got < UPLOAD;
    all->downloads += why && sent > 0 && sent < (int64_t)sizeof large;
}

static void cut_resume(hsb_request *req, void *arg)
{
    ++*(int *)arg;
    if (req)
        hsb_respond(req, 200, NULL, hsb_text("late"));
}

static void cut_post(hsb_server *server, void *arg)
{
    (void)server;
    hsb_ticket *ticket = arg;
    static int resumed;
    hsb_ticket_resume(*ticket, cut_resume, &resumed);
    free(ticket);
}

static void cut_answer(rig *r, hsb_request *req)
{
    hsb_str body = { large, sizeof large };
    if (path_is(req, "/down")) {
        hsb_response_begin(req, 200, -1);
        hsb_response_write(req, body);
    } else if (path_is(req, "/file")) {
        hsb_respond_file(req, ((cuts *)r->data)->file, NULL);
    } else if (path_is(req, "/later")) {
        hsb_ticket *ticket = malloc(sizeof *ticket);
        *ticket = hsb_request_defer(req);
        hsb_server_post(r->server, (int)next_random(5), cut_post, ticket);
    } else {
        hsb_respond(req, 200, NULL, hsb_text("ok"));
    }
}

static void cut_drain(rig *r, hsb_request *req)
{
    (void)r;
    hsb_response_end(req);
}

static void cut_one(client *c)
{
    unsigned how = next_random(4);
    if (how == 0)
        cut_off(c);
    else if (how == 1)
        client_free(c);
    else
        hang_up(c);
}

/* Some bytes of the body, or some of the answer, and sometimes all of it. */
static void cut_begin(rig *r, client *c, bool upload)
{
    static const char *const uploads[] = { "/up", "/keep", "/later" };
    static const char *const downloads[] = { "/down", "/file" };
    char head[128];
    int n = upload ? snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: x\r\n"
                              "Content-Length: %d\r\n\r\n", uploads[next_random(3)], UPLOAD)
                   : snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n",
                              downloads[next_random(2)]);
    size_t len = next_random(10) ? (size_t)n : next_random((unsigned)n);
    if (!try_say(c, head, len) || len < (size_t)n)
        return;
    if (upload && try_say(c, large, next_random(4) ? next_random(UPLOAD) : UPLOAD))
        turns(r, (int)next_random(4));
    size_t most = upload ? 0 : next_random(sizeof large + 1000);
    while (c->len < most && c->len <= sizeof large && hear_more(c, "a download"))
        ;
}

/* So many of each, a few at once; afterwards nobody is left. */
static void cut_many(rig *r, long count)
{
    enum { AT_ONCE = 8 };
    client *open[AT_ONCE] = { NULL };
    for (long i = 0; i < 2 * count; i++) {
        client **slot = &open[i % AT_ONCE];
        if (*slot)
            cut_one(*slot);
        client *c = *slot = client_new(r, r->port, 4096);
        if (r->secure && next_random(8) == 0) {         /* in the middle of the handshake */
            c->ssl = SSL_new(client_tls());
            SSL_set_fd(c->ssl, c->fd);
            SSL_connect(c->ssl);
            turns(r, (int)next_random(3));
            continue;
        }
        if (r->secure)
            assert_true(client_handshake(c));
        cut_begin(r, c, i % 2);
    }
    for (int i = 0; i < AT_ONCE; i++)
        if (open[i])
            cut_one(open[i]);
    turn_until(r, all_closed, "all that was cut");
    assert_int_equal(r->finishes, r->heads);
    assert_int_equal(hsb_server_connections(r->server).total, 0);
}

static void test_random_cuts(void **state)
{
    long count = scaled("LIVE_CUTS", is_secure(state) ? 80 : 200);
    const char *base = getenv("TMPDIR");
    cuts all = { .uploads = 0 };
    rig r = { .on_head = cut_head, .on_request = cut_answer, .on_drain = cut_drain,
              .on_finish = cut_finish, .data = &all, .send_buffer = 16384 };
    snprintf(all.file, sizeof all.file, "%s/httpsbind-cuts-XXXXXX", base ? base : "/tmp");
    int fd = mkstemp(all.file);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof large), 0);
    close(fd);
    rig_open(&r, NULL, is_secure(state));
    int descriptors = open_descriptors();
    cut_many(&r, count / 2);
    size_t warm = hsb_server_memory(r.server);
    cut_many(&r, count - count / 2);
    print_message("%ld uploads and %ld downloads cut midway\n", all.uploads, all.downloads);
    assert_true(all.uploads > count / 3 && all.downloads > count / 3);
    assert_true(hsb_server_memory(r.server) <= warm + (256 << 10));
    assert_int_equal(open_descriptors(), descriptors);
    unlink(all.file);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_close_gently), BOTH(test_close_by_force), BOTH(test_close_with_patience),
        BOTH(test_free_while_open), BOTH(test_never_run), BOTH(test_order),
        BOTH(test_close_in_hooks), BOTH(test_close_conn_in_hooks),
        BOTH(test_nothing_after_the_cut), BOTH(test_close_from_outside),
        BOTH(test_misuse_in_hooks), BOTH(test_refused), TLS(test_refused_after_handshake),
        BOTH(test_client_leaves), BOTH(test_client_leaves_while_waiting),
        TLS(test_client_without_notify), BOTH(test_malformed), BOTH(test_lingering),
        BOTH(test_lingering_for_a_body), BOTH(test_lingering_is_no_busy_loop),
        BOTH(test_closing_is_told),
        BOTH(test_random_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
