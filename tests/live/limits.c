/* limits.connections: who makes room, who waits, and that nobody who is active suffers.  And
   what accept() may fail with, descriptors that run out above all; and a send that blocks
   where it is least expected. */
#define HTTPSBIND_IMPLEMENTATION
#define HSB_FAULT(call, count) fault(call, count)
static int fault(const char *call, void *count);
#include "httpsbind.h"
#include "client.h"
#include "network.h"

static int fail_accepts, fail_with;         /* so many accepts fail so; -1: all           */
static bool sends_block;
static int polls;                           /* how often the server waited                */

static int fault(const char *call, void *count)
{
    (void)count;
    polls += strcmp(call, "poll") == 0;
    if (sends_block && strcmp(call, "send") == 0)
        return EAGAIN;
    if (fail_accepts == 0 || strcmp(call, "accept") != 0)
        return 0;
    fail_accepts -= fail_accepts > 0;
    return fail_with;
}

/* --- the server: "ok", or something that keeps the connection active ------------------- */
enum { MOST_DEFERRED = 4 };
typedef struct scene {
    hsb_ticket deferred[MOST_DEFERRED];
    int        deferrals;
    hsb_request *begun;
    hsb_stream *stream;
} scene;

static char large[8000000];

static void echo(hsb_stream *stream, hsb_str part, void *user)
{
    (void)user;
    hsb_stream_write(stream, part);
}

static void answer_scene(rig *r, hsb_request *req)
{
    scene *s = r->data;
    hsb_str path = hsb_request_path(req), body = { large, sizeof large };
    hsb_stream_hooks hooks;
    if (hsb_equal(path, "/deferred")) {
        assert_true(s->deferrals < MOST_DEFERRED);
        s->deferred[s->deferrals++] = hsb_request_defer(req);
    } else if (hsb_equal(path, "/begun")) {
        s->begun = req;
        hsb_response_begin(req, 200, -1);
        hsb_response_write(req, hsb_text("begun, "));
    } else if (hsb_equal(path, "/large")) {
        hsb_respond(req, 200, NULL, body);
    } else if (hsb_equal(path, "/stream")) {
        memset(&hooks, 0, sizeof hooks);
        hooks.on_data = echo;
        s->stream = hsb_request_detach(req, 101, &hooks);
    } else {
        hsb_respond(req, 200, NULL, hsb_text("ok"));
    }
}

static void resumed(hsb_request *req, void *arg)
{
    (void)arg;
    if (req)
        hsb_respond(req, 200, NULL, hsb_text("late"));
}

static void open_limited(rig *r, scene *s, int connections, bool secure)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    memset(s, 0, sizeof *s);
    o.limits.connections = connections;
    r->on_request = answer_scene;
    r->data = s;
    rig_open(r, &o, secure);
}

static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

static void check_served(client *c)
{
    answer a = ask(c, get);
    assert_answer(a, 200, "ok");
}

/* The same, as the last one of all: who is idle for longer is told by milliseconds.      */
static void check_served_last(client *c)
{
    for (int64_t now = clock_ms(); clock_ms() < now + 2;)
        ;
    check_served(c);
}

/* Idle connections end as they do after the idle timeout: with a close_notify.           */
static void check_made_room(rig *r, client *c)
{
    hear_end(c);
    assert_true(c->ended && !c->len);
    assert_int_equal(r->closed_with.status, HSB_ERR_LIMIT);
    hang_up(c);
}

/* --- who makes room --------------------------------------------------------------------- */
static void test_longest_idle_makes_room(void **state)
{
    enum { LIMIT = 4 };
    static const int order[LIMIT] = { 2, 0, 3, 1 };
    rig r = { 0 };
    scene s;
    client *c[LIMIT], *more[LIMIT];
    open_limited(&r, &s, LIMIT, is_secure(state));
    for (int i = 0; i < LIMIT; i++)
        c[i] = dial(&r);
    for (int i = 0; i < LIMIT; i++)
        check_served_last(c[order[i]]);
    for (int i = 0; i < LIMIT; i++) {
        more[i] = dial(&r);
        check_served_last(more[i]);
        assert_int_equal(r.closes, i + 1);
        assert_int_equal(hsb_server_connections(r.server).total, LIMIT);
        check_made_room(&r, c[order[i]]);
        for (int j = i + 1; j < LIMIT; j++)             /* in the same order              */
            check_served_last(c[order[j]]);
        for (int j = 0; j <= i; j++)
            check_served_last(more[j]);
    }
    assert_int_equal(r.closes, LIMIT);
    assert_int_equal(r.errors, 0);
    for (int i = 0; i < LIMIT; i++) {
        check_served_last(more[i]);
        hang_up(more[i]);
    }
    rig_close(&r);
}

/* Whoever was refused, or has gone, takes no place.                                      */
static bool refuse(rig *r, hsb_conn *conn)
{
    (void)conn;
    return r->accepts > 3;
}

static void test_the_refused_take_no_place(void **state)
{
    rig r = { .on_accept = refuse };
    scene s;
    open_limited(&r, &s, 1, false);
    (void)state;
    for (int i = 0; i < 3; i++) {
        client *c = client_new(&r, r.port, 0);
        hear_end(c);
        hang_up(c);
    }
    client *c = dial(&r);
    check_served(c);
    assert_int_equal(r.closes, 3);
    hang_up(c);
    turn_until(&r, all_closed, "its end");
    c = dial(&r);
    check_served(c);
    assert_int_equal(r.closed_with.status, HSB_OK);
    hang_up(c);
    rig_close(&r);
}

/* One limit for all listeners of a server.                                               */
static void test_listeners_have_one_limit(void **state)
{
    rig r = { 0 };
    scene s;
    hsb_error err;
    (void)state;
    open_limited(&r, &s, 2, true);
    int second = hsb_server_listen(r.server, "127.0.0.1", 0, NULL, &err);
    assert_int_equal(second, 1);
    client *first = dial(&r);
    check_served(first);
    client *plain[2];
    for (int i = 0; i < 2; i++) {
        plain[i] = client_new(&r, hsb_server_address(r.server, second).port, 0);
        check_served(plain[i]);
    }
    check_made_room(&r, first);
    first = dial(&r);
    check_served(first);
    check_made_room(&r, plain[0]);
    check_served(plain[1]);
    hang_up(plain[1]);
    hang_up(first);
    rig_close(&r);
}

/* Who has sent nothing goes first, also before those that are idle, and the oldest first: a
   crowd of the silent drives out itself, and nobody else.                                 */
static void test_the_silent_make_room_first(void **state)
{
    enum { LIMIT = 4, CROWD = 20 };
    rig r = { 0 };
    scene s;
    client *silent[CROWD];
    open_limited(&r, &s, LIMIT, is_secure(state));
    client *kept = dial(&r), *more;
    check_served(kept);
    for (int i = 0; i < CROWD; i++) {
        silent[i] = client_new(&r, r.port, 0);
        turns(&r, 3);
        assert_int_equal(r.accepts, i + 2);
    }
    for (int i = 0; i < CROWD - (LIMIT - 1); i++)
        check_made_room(&r, silent[i]);
    assert_int_equal(r.closes, CROWD - (LIMIT - 1));
    more = dial(&r);
    check_served(more);
    check_served(kept);
    check_made_room(&r, silent[CROWD - 3]);
    assert_non_null(strstr(r.closed_with.text, "sent nothing"));
    /* What has come but was not read yet counts.  */
    client *speaks = silent[CROWD - 2], *next;
    if (r.secure)
        client_hello(speaks);
    else
        assert_int_equal(send(speaks->fd, get, sizeof get - 1, 0), sizeof get - 1);
    next = dial(&r);
    if (r.secure)
        assert_true(client_handshake(speaks));
    else
        hear_until(speaks, "ok");
    check_served(speaks);
    check_served(next);
    check_made_room(&r, silent[CROWD - 1]);
    check_served(kept);
    hang_up(kept);
    hang_up(more);
    hang_up(next);
    hang_up(speaks);
    rig_close(&r);
}

/* --- limits.per_address ------------------------------------------------------------------ */
/* Connected from 127.0.0.<last>. */
static client *dial_from(rig *r, int last)
{
    struct sockaddr_in from, to;
    client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    memset(&from, 0, sizeof from);
    from.sin_family = AF_INET;
    to = from;
    from.sin_addr.s_addr = htonl(0x7F000000u + (uint32_t)last);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)r->port);
    c->r = r;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    clients_open++;
    assert_int_equal(bind(c->fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&to, sizeof to), 0);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (r->secure)
        client_handshake(c);
    return c;
}

static void check_turned_away(rig *r, int last, int limit)
{
    char text[160];
    int accepts = r->accepts, errors = r->errors;
    client *c = dial_from(r, last);
    if (!r->secure)
        hear_end(c);
    turns(r, 2);
    assert_int_equal(r->accepts, accepts);
    assert_int_equal(r->errors, errors + 1);
    assert_int_equal(r->told.status, HSB_ERR_LIMIT);
    snprintf(text, sizeof text, "its address has %d connections already", limit);
    assert_non_null(strstr(r->told.text, text));
    snprintf(text, sizeof text, "127.0.0.%d:", last);
    assert_memory_equal(r->told.text, text, strlen(text));
    client_free(c);
}

static void test_an_address_has_so_many(void **state)
{
    enum { LIMIT = 3, MANY = 30 };
    rig r = { 0 };
    scene s;
    client *c[LIMIT], *others[MANY];
    hsb_options o;
    memset(&o, 0, sizeof o);
    memset(&s, 0, sizeof s);
    o.limits.per_address = LIMIT;
    o.limits.connections = LIMIT + MANY;
    r.on_request = answer_scene;
    r.data = &s;
    rig_open(&r, &o, is_secure(state));
    for (int i = 0; i < LIMIT; i++)
        check_served(c[i] = dial_from(&r, 2));
    check_turned_away(&r, 2, LIMIT);
    check_turned_away(&r, 2, LIMIT);
    for (int i = 0; i < MANY; i++)
        check_served(others[i] = dial_from(&r, 10 + i % (MANY / LIMIT)));
    check_turned_away(&r, 2, LIMIT);            /* and nobody has to make room for it     */
    check_turned_away(&r, 10, LIMIT);
    assert_int_equal(r.closes, 0);
    for (int i = 0; i < LIMIT; i++)
        check_served(c[i]);
    hang_up(c[0]);
    turns(&r, 3);
    check_served(c[0] = dial_from(&r, 2));
    check_turned_away(&r, 2, LIMIT);
    for (int i = 0; i < LIMIT; i++)
        hang_up(c[i]);
    for (int i = 0; i < MANY; i++)
        hang_up(others[i]);
    turn_until(&r, all_closed, "all");
    for (int i = 0; i < LIMIT; i++)
        check_served(c[i] = dial_from(&r, 2));
    for (int i = 0; i < LIMIT; i++)
        hang_up(c[i]);
    rig_close(&r);
}

/* --- who does not ------------------------------------------------------------------------ */
enum { AT_HEAD, AT_BODY, AT_DEFERRED, AT_BEGUN, AT_SENDING, AT_STREAM, AT_HANDSHAKE, STATES };

static const char *const begin[STATES] = {
    [AT_HEAD] = "GET / HTTP/1.1\r\nHos",
    [AT_BODY] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345",
    [AT_DEFERRED] = "GET /deferred HTTP/1.1\r\nHost: x\r\n\r\n",
    [AT_BEGUN] = "GET /begun HTTP/1.1\r\nHost: x\r\n\r\n",
    [AT_SENDING] = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
    [AT_STREAM] = "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
};

/* What each says last, and is answered.                                                  */
static void check_ends_well(scene *s, client *c, int at)
{
    static const char *const end[STATES] = { [AT_HEAD] = "t: x\r\n\r\n", [AT_BODY] = "67890" };
    static const char *const answered[STATES] = {
        [AT_HEAD] = "ok", [AT_BODY] = "ok", [AT_DEFERRED] = "late", [AT_BEGUN] = "begun, ended",
    };
    answer a;
    if (at == AT_HANDSHAKE) {
        assert_true(client_handshake(c));
        check_served(c);
    } else if (at == AT_STREAM) {
        say(c, "echo");
        hear_until(c, "echo");
    } else if (at == AT_SENDING) {
        a = hear_answer(c, false);
        assert_true(a.whole && a.len == sizeof large);
        answer_free(&a);
    } else {
        if (end[at])
            say(c, end[at]);
        if (at == AT_DEFERRED)
            assert_true(hsb_ticket_resume(s->deferred[0], resumed, NULL));
        if (at == AT_BEGUN) {
            hsb_response_write(s->begun, hsb_text("ended"));
            hsb_response_end(s->begun);
        }
        a = hear_answer(c, false);
        assert_answer(a, 200, answered[at]);
    }
}

static void test_the_active_never_make_room(void **state)
{
    rig r = { 0 };
    scene s;
    client *c[STATES] = { NULL };
    int active = is_secure(state) ? STATES : AT_HANDSHAKE;
    open_limited(&r, &s, active + 1, is_secure(state));
    for (int at = 0; at < active; at++) {
        c[at] = at == AT_HANDSHAKE ? client_new(&r, r.port, 0) : dial_narrow(&r);
        if (begin[at])
            say(c[at], begin[at]);
        else
            client_hello(c[at]);
        if (at == AT_STREAM)
            hear_until(c[at], "\r\n\r\n");
        turns(&r, 10);
    }
    client *idle = dial(&r);
    check_served(idle);
    client *newcomer = dial(&r);
    check_made_room(&r, idle);
    say(newcomer, begin[AT_DEFERRED]);
    turns(&r, 10);
    assert_int_equal(s.deferrals, 2);

    client *waiting = client_new(&r, r.port, 0);        /* and for as long as it takes    */
    hsb_connections n = hsb_server_connections(r.server);
    assert_int_equal(n.total, active + 1);
    assert_int_equal(n.idle, 0);
    int accepts = r.accepts, before = polls;
    turn(&r, 50);
    turn(&r, 50);
    assert_true(polls - before == 2);
    assert_int_equal(r.accepts, accepts);
    assert_int_equal(r.closes, 1);

    /* Who is idle now makes room, without having to end first.                           */
    assert_true(hsb_ticket_resume(s.deferred[1], resumed, NULL));
    answer a = hear_answer(newcomer, false);
    assert_answer(a, 200, "late");
    if (r.secure)
        assert_true(client_handshake(waiting));
    check_served(waiting);
    assert_int_equal(r.accepts, accepts + 1);
    check_made_room(&r, newcomer);
    assert_int_equal(r.closes, 2);

    for (int at = 0; at < active; at++)
        check_ends_well(&s, c[at], at);
    assert_int_equal(r.closes, 2);
    assert_int_equal(r.errors, 0);
    for (int at = 0; at < active; at++)
        hang_up(c[at]);
    hang_up(waiting);
    rig_close(&r);
}

/* The backlog holds them, and each gets its turn when one ends.                          */
static void test_the_backlog_waits(void **state)
{
    static const char last[] = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    enum { WAITING = 20 };
    rig r = { 0 };
    scene s;
    client *c[2], *waiting[WAITING];
    open_limited(&r, &s, 2, is_secure(state));
    for (int i = 0; i < 2; i++) {
        c[i] = dial(&r);
        say(c[i], begin[AT_DEFERRED]);
        turns(&r, 10);
    }
    for (int i = 0; i < WAITING; i++) {
        waiting[i] = client_new(&r, r.port, 0);
        if (!r.secure)
            say(waiting[i], last);          /* or it would be idle, once it is in         */
    }
    turns(&r, 20);
    assert_int_equal(r.accepts, 2);
    cut_off(c[0]);                          /* whoever is reset has left                  */
    for (int i = 0; i < WAITING; i++) {
        if (r.secure) {
            assert_true(client_handshake(waiting[i]));
            say(waiting[i], last);
        }
        answer a = hear_answer(waiting[i], false);
        assert_answer(a, 200, "ok");
        hang_up(waiting[i]);
    }
    assert_true(hsb_ticket_resume(s.deferred[1], resumed, NULL));
    answer a = hear_answer(c[1], false);
    assert_answer(a, 200, "late");
    hang_up(c[1]);
    hsb_ticket_drop(s.deferred[0]);
    rig_close(&r);
}

/* What a client has said already makes it active, although nobody has read it yet.       */
static void test_what_was_said_counts(void **state)
{
    enum { CROWD = 30 };
    rig r = { 0 };
    scene s;
    client *c[CROWD];
    (void)state;
    open_limited(&r, &s, 3, false);
    for (int i = 0; i < CROWD; i++) {
        c[i] = client_new(&r, r.port, 0);
        say(c[i], get);                     /* the server has had no turn                 */
    }
    for (int i = 0; i < CROWD; i++) {
        answer a = hear_answer(c[i], false);
        assert_answer(a, 200, "ok");
    }
    for (int i = 0; i < CROWD; i++)
        hang_up(c[i]);
    rig_close(&r);
}

static void test_what_was_said_in_a_later_request_counts(void **state)
{
    rig r = { 0 };
    scene s;
    client *c[3];
    open_limited(&r, &s, 3, is_secure(state));
    for (int i = 0; i < 3; i++) {
        c[i] = dial(&r);
        check_served(c[i]);
    }
    for (int64_t now = clock_ms(); clock_ms() < now + 2;)
        ;                                               /* see check_served_last          */
    client *more = client_new(&r, r.port, 0);
    say(c[0], get);                                     /* the longest idle, if it were   */
    say(c[2], get);
    answer a = hear_answer(c[0], false);
    assert_answer(a, 200, "ok");
    a = hear_answer(c[2], false);
    assert_answer(a, 200, "ok");
    if (r.secure)
        assert_true(client_handshake(more));
    check_served(more);
    check_made_room(&r, c[1]);
    check_served(c[0]);
    check_served(c[2]);
    hang_up(c[0]);
    hang_up(c[2]);
    hang_up(more);
    rig_close(&r);
}

/* A full server closes like any other, and nobody who waits is taken then.               */
static void test_closing_while_full(void **state)
{
    rig r = { 0 };
    scene s;
    open_limited(&r, &s, 1, is_secure(state));
    client *c = dial(&r);
    say(c, begin[AT_DEFERRED]);
    turns(&r, 10);
    client *waiting = client_new(&r, r.port, 0);
    turns(&r, 5);
    hsb_server_close(r.server, false);
    turns(&r, 5);
    assert_true(hsb_ticket_resume(s.deferred[0], resumed, NULL));
    answer a = hear_answer(c, false);
    assert_true(field_is(&a, "Connection", "close"));
    assert_answer(a, 200, "late");
    hang_up(c);
    for (int64_t end = clock_ms() + PATIENCE_MS; turn(&r, 1);)
        assert_true(clock_ms() < end);
    assert_int_equal(r.accepts, 1);
    hang_up(waiting);
    rig_close(&r);
}

/* --- accept() fails ------------------------------------------------------------------------ */
/* That one is lost, or nothing can be accepted for a while: in both cases it is told, with a
   text that says where, the server does not spin, and whoever waits is served.              */
static void test_accept_errors(void **state)
{
    static const struct { int code, times, waits; } rows[] = {
        { ECONNABORTED, 3, 2 }, { EPROTO, 3, 2 }, { ENETDOWN, 3, 2 }, { EHOSTUNREACH, 3, 2 },
        { EMFILE, 2, 20 }, { ENFILE, 1, 10 }, { ENOBUFS, 1, 10 }, { ENOMEM, 1, 10 }, { EPERM, 1, 10 },
        { EINVAL, 1, 10 },
    };
    rig r = { 0 };
    scene s;
    (void)state;
    open_limited(&r, &s, 0, false);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[160];
        int errors = r.errors, accepts = r.accepts;
        client *c = client_new(&r, r.port, 0);
        fail_with = rows[i].code;
        fail_accepts = rows[i].times;
        polls = 0;
        while (r.accepts == accepts && polls < 100)
            turn(&r, PATIENCE_MS);
        if (polls > rows[i].waits)
            fail_msg("%s: %d waits", strerror(rows[i].code), polls);
        assert_int_equal(r.errors - errors, rows[i].times);
        snprintf(text, sizeof text, "accept on 127.0.0.1:%d: %s", r.port, strerror(rows[i].code));
        assert_string_equal(r.told.text, text);
        assert_int_equal(r.told.status, HSB_ERR_SYSTEM);
        assert_int_equal(r.told.system_code, rows[i].code);
        check_served(c);
        hang_up(c);
        turn_until(&r, all_closed, "its end");
    }
    rig_close(&r);
}

/* Open connections go on meanwhile, and the other listeners too; no error, no telling.     */
static void test_nobody_else_suffers(void **state)
{
    rig r = { 0 };
    scene s;
    hsb_error err;
    (void)state;
    open_limited(&r, &s, 0, true);
    assert_int_equal(hsb_server_listen(r.server, "127.0.0.1", 0, NULL, &err), 1);
    client *open = dial(&r), *waiting = client_new(&r, r.port, 0);
    fail_with = ENFILE;
    fail_accepts = 1;
    while (r.errors == 0)
        turn(&r, PATIENCE_MS);
    int64_t began = clock_ms();
    client *other = client_new(&r, hsb_server_address(r.server, 1).port, 0);
    check_served(other);
    check_served(open);
    assert_true(hsb_server_connections(r.server).total == 2 || clock_ms() - began > 50);
    assert_true(client_handshake(waiting));
    check_served(waiting);
    assert_int_equal(r.errors, 1);
    fail_with = EINTR;
    fail_accepts = 5;
    client *last = dial(&r);
    assert_int_equal(fail_accepts, 0);
    assert_int_equal(r.errors, 1);
    hang_up(last);
    hang_up(waiting);
    hang_up(other);
    hang_up(open);
    rig_close(&r);
}

/* A server that pauses closes, and is freed, at once.                                      */
static void test_closing_in_a_pause(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        rig r = { 0 };
        scene s;
        open_limited(&r, &s, 0, false);
        client *c = client_new(&r, r.port, 0);
        fail_with = ENFILE;
        fail_accepts = -1;
        while (r.errors == 0)
            turn(&r, PATIENCE_MS);
        if (how == 0) {
            hsb_server_close(r.server, false);
            polls = 0;
            while (turn(&r, PATIENCE_MS) && polls < 10)
                ;
            assert_true(polls <= 2);
        }
        rig_close(&r);
        fail_accepts = 0;
        hang_up(c);
    }
}

/* --- descriptors that run out ----------------------------------------------------------------- */
/* So many descriptors for this process; 0: as before.                                          */
static void allow_descriptors(int count)
{
    static struct rlimit before;
    struct rlimit now;
    if (!before.rlim_cur)
        getrlimit(RLIMIT_NOFILE, &before);
    now = before;
    if (count)
        now.rlim_cur = (rlim_t)count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
}

/* Clients with descriptors of their own.  Each asks and is answered before the next one
   connects, and all stay; the exit status tells whether each was.                             */
static pid_t start_crowd(int port, int count)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid != 0)
        return pid;
    struct sockaddr_in to;
    char byte;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    alarm(PATIENCE_MS / 1000);
    allow_descriptors(0);
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
            send(fd, get, sizeof get - 1, 0) < 0 || recv(fd, &byte, 1, 0) != 1)
            _exit(1);
    }
    _exit(0);
}

static void check_crowd(rig *r, pid_t pid)
{
    int status;
    while (waitpid(pid, &status, WNOHANG) == 0)
        turn(r, 5);
    assert_int_equal(status, 0);
}

static void count_open(rig *r, hsb_request *req)
{
    int *most = r->data, open = hsb_server_connections(r->server).total;
    *most = open > *most ? open : *most;
    hsb_respond(req, 200, NULL, hsb_text("ok"));
}

/* Fewer descriptors than connections: the limit is what fits, and nothing fails.             */
static void test_limit_follows_descriptors(void **state)
{
    static const int limits[] = { 0, -1, 1000 };
    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        int most = 0;
        rig r = { .on_request = count_open, .data = &most };
        hsb_options o;
        memset(&o, 0, sizeof o);
        o.limits.connections = limits[i];
        rig_prepare(&r, &o, false);
        allow_descriptors(48);
        hsb_server *s = r.server = hsb_bind("127.0.0.1", 0, &r.options, NULL);
        assert_non_null(s);
        check_crowd(&r, start_crowd(hsb_server_port(s), 60));
        allow_descriptors(0);
        assert_int_equal(r.accepts, 60);
        assert_int_equal(r.errors, 0);
        assert_true(most >= 16 && most < 48);
        rig_close(&r);
    }
}

/* The application has taken what was there, and gives it back when it hears of it twice.     */
enum { HOARD = 64 };
typedef struct hoard { int fd[HOARD], count; } hoard;

static void give_back(rig *r, hsb_conn *conn, const hsb_error *err)
{
    hoard *h = r->data;
    (void)conn;
    (void)err;
    while (r->errors == 2 && h->count > 0)
        close(h->fd[--h->count]);
}

static void take_all(hoard *h)
{
    while (h->count < HOARD && (h->fd[h->count] = dup(0)) >= 0)
        h->count++;
    assert_true(h->count > 0 && h->count < HOARD);
}

static void test_no_descriptor_left(void **state)
{
    hoard h = { .count = 0 };
    int most = 0;
    rig r = { .on_request = count_open, .on_error = give_back, .data = &h };
    hsb_error err;
    (void)state;
    rig_prepare(&r, NULL, false);
    allow_descriptors(48);
    r.server = hsb_bind("127.0.0.1", 0, &r.options, &err);
    assert_non_null(r.server);
    pid_t crowd = start_crowd(hsb_server_port(r.server), 6);
    take_all(&h);
    polls = 0;
    while (r.errors < 2 && polls < 100)
        turn(&r, PATIENCE_MS);
    assert_true(polls < 20);                            /* it does not spin               */
    assert_int_equal(h.count, 0);
    assert_int_equal(r.told.system_code, EMFILE);
    assert_int_equal(r.accepts, 0);
    r.data = &most;
    check_crowd(&r, crowd);
    allow_descriptors(0);
    assert_int_equal(r.errors, 2);
    assert_int_equal(r.accepts, 6);
    rig_close(&r);
}

/* Other servers of the process have the rest: the idle make room before any limit is reached. */
static void test_the_idle_give_descriptors(void **state)
{
    enum { OPEN = 3 };
    rig r = { 0 };
    scene s;
    hoard h = { .count = 0 };
    client *c[OPEN];
    (void)state;
    allow_descriptors(64);
    open_limited(&r, &s, 0, false);
    for (int i = 0; i < OPEN; i++) {
        c[i] = dial(&r);
        check_served_last(c[i]);
    }
    say(c[0], begin[AT_DEFERRED]);                      /* he is active                   */
    turns(&r, 10);
    client *more = client_new(&r, r.port, 0);
    take_all(&h);
    check_served(more);
    assert_int_equal(r.errors, 1);
    assert_int_equal(r.told.system_code, EMFILE);
    assert_int_equal(r.closes, 1);
    check_served(c[2]);
    while (h.count > 0)
        close(h.fd[--h.count]);
    allow_descriptors(0);
    check_made_room(&r, c[1]);
    assert_true(hsb_ticket_resume(s.deferred[0], resumed, NULL));
    answer a = hear_answer(c[0], false);
    assert_answer(a, 200, "late");
    hang_up(c[0]);
    hang_up(c[2]);
    hang_up(more);
    rig_close(&r);
}

static int teardown(void **state)
{
    (void)state;
    fail_accepts = 0;
    allow_descriptors(0);
    return 0;
}

/* --- what waits behind a head ----------------------------------------------------------------- */
static void look_at_storage(rig *r, hsb_request *req)
{
    (void)r;
    assert_true(req->text.size <= 4096);        /* and not all that was received with it */
    hsb_respond(req, 204, NULL, hsb_text(""));
}

/* Small requests by the thousand, pipelined: each is read for what it is worth. */
static void test_small_heads(void **state)
{
    enum { MANY = 3000 };
    static const char one[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    static char all[MANY * (sizeof one - 1)];
    rig r = { .on_request = look_at_storage };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int i = 0; i < MANY; i++)
        memcpy(all + (size_t)i * (sizeof one - 1), one, sizeof one - 1);
    say_bytes(c, all, sizeof all);
    for (int i = 0; i < MANY; i++) {
        answer a = hear_answer(c, false);
        assert_answer(a, 204, "");
    }
    assert_int_equal(r.requests, MANY);
    hang_up(c);
    rig_close(&r);
}

/* --- an answer that comes too late ------------------------------------------------------ */

/* The client breaks its body, and we refuse it while the application still looks for an answer;
   but the client does not read, so the request is not over when that answer comes.  Nothing that
   the application, which keeps the request until on_finish, then does is misuse: it cannot know. */
static void late_respond(hsb_request *req) { hsb_respond(req, 200, NULL, hsb_text("late")); }
static void late_redirect(hsb_request *req) { hsb_respond_redirect(req, 303, "/"); }
static void late_file(hsb_request *req) { hsb_respond_file(req, "README.md", NULL); }
static void late_nothing(hsb_request *req) { (void)req; }
static void late_abort(hsb_request *req) { hsb_response_abort(req); }
static void late_close(hsb_request *req) { hsb_conn_close(hsb_request_conn(req), false); }

static void late_parts(hsb_request *req)
{
    assert_false(hsb_response_header(req, "X-Late", "1"));
    hsb_response_begin(req, 200, -1);
    assert_int_equal(hsb_response_write(req, hsb_text("late")), HSB_FLOW_GONE);
    assert_int_equal(hsb_response_flush(req), HSB_FLOW_GONE);
    hsb_response_end(req);
}

static void late_detach(hsb_request *req)
{
    hsb_stream_hooks hooks;
    hsb_websocket_hooks messages;
    memset(&hooks, 0, sizeof hooks);
    memset(&messages, 0, sizeof messages);
    assert_null(hsb_request_detach(req, 101, &hooks));
    assert_null(hsb_request_websocket(req, &messages));
}

static void late_again(hsb_request *req)
{
    hsb_ticket_drop(hsb_request_defer(req));
    hsb_request_pause(req);
    hsb_request_resume(req);
}

static void no_request(hsb_request *req, void *arg)
{
    assert_null(req);
    ++*(int *)arg;
}

static void never_called(hsb_request *req, void *arg)
{
    (void)req, (void)arg;
    fail_msg("the request has its answer");
}

static void defer_at_once(rig *r, hsb_request *req)
{
    *(hsb_ticket *)r->data = hsb_request_defer(req);
    assert_true(hsb_request_after(req, 20, never_called, NULL));
    hsb_request_stream(req);
}

static bool has_failed(const rig *r)
{
    return r->errors > 0;
}

static void test_an_answer_comes_after_the_refusal(void **state)
{
    static void (*const ways[])(hsb_request *) = {
        late_respond, late_redirect, late_file, late_nothing, late_abort, late_close, late_parts,
        late_detach, late_again
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        hsb_ticket ticket;
        int resumed_without = 0;
        rig r = { .on_head = defer_at_once, .data = &ticket };
        rig_open(&r, NULL, is_secure(state));
        client *c = dial(&r);
        say(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        while (r.body_bytes == 0)
            turn(&r, 1);
        sends_block = true;
        say(c, "no chunk\r\n");
        turn_until(&r, has_failed, "the refusal");
        assert_int_equal(r.finishes, 0);
        assert_int_equal(hsb_response_status(r.req), 400);
        ways[i](r.req);
        hsb_response_close(r.req);
        assert_true(hsb_ticket_resume(ticket, no_request, &resumed_without));
        for (int64_t end = clock_ms() + 30; clock_ms() < end || !resumed_without;)
            turn(&r, 1);
        sends_block = false;
        if (ways[i] == late_abort) {
            hear_end(c);
        } else {
            answer a = hear_answer(c, false);
            assert_int_equal(a.status, 400);
            answer_free(&a);
            hear_end(c);
            assert_int_equal(c->len, 0);
        }
        assert_int_equal(r.finishes, 1);
        assert_int_equal(r.finished_with.status, HSB_ERR_HTTP);
        assert_int_equal(r.requests, 0);
        hang_up(c);
        rig_close(&r);
    }
}

/* A long poll: whichever comes first, the event or the end of patience, answers, and however
   slowly the client then reads, the other one is called off.                              */
static void wait_for_event(rig *r, hsb_request *req)
{
    hsb_ticket *tickets = r->data;
    tickets[0] = hsb_request_defer(req);
    tickets[1] = hsb_request_defer(req);
    assert_true(hsb_request_after(req, 20, never_called, NULL));
}

static void event(hsb_request *req, void *arg)
{
    assert_non_null(req);
    hsb_respond(req, 200, NULL, hsb_text("event"));
    ++*(int *)arg;
}

static void test_the_first_answer_calls_off_the_others(void **state)
{
    hsb_ticket tickets[2];
    int events = 0, resumed_without = 0;
    rig r = { .on_request = wait_for_event, .data = tickets };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, get);
    while (r.requests == 0)
        turn(&r, 1);
    sends_block = true;
    assert_true(hsb_ticket_resume(tickets[0], event, &events));
    assert_true(hsb_ticket_resume(tickets[1], no_request, &resumed_without));
    for (int64_t end = clock_ms() + 30; clock_ms() < end || !resumed_without;)
        turn(&r, 1);
    assert_int_equal(events, 1);
    assert_int_equal(r.finishes, 0);
    sends_block = false;
    answer a = hear_answer(c, false);
    assert_answer(a, 200, "event");
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
#define ON_PLAIN(test) PLAIN_THEN(test, teardown)
#define ON_TLS(test) TLS_THEN(test, teardown)
#define ON_BOTH(test) ON_PLAIN(test), ON_TLS(test)
    const struct CMUnitTest tests[] = {
        ON_BOTH(test_the_silent_make_room_first), ON_BOTH(test_an_address_has_so_many),
        ON_BOTH(test_longest_idle_makes_room), ON_PLAIN(test_the_refused_take_no_place),
        ON_TLS(test_listeners_have_one_limit), ON_BOTH(test_the_active_never_make_room),
        ON_BOTH(test_the_backlog_waits), ON_PLAIN(test_what_was_said_counts),
        ON_BOTH(test_what_was_said_in_a_later_request_counts), ON_BOTH(test_closing_while_full),
        ON_PLAIN(test_accept_errors), ON_TLS(test_nobody_else_suffers),
        ON_PLAIN(test_closing_in_a_pause), ON_PLAIN(test_limit_follows_descriptors),
        ON_PLAIN(test_no_descriptor_left), ON_PLAIN(test_the_idle_give_descriptors),
        ON_BOTH(test_small_heads), ON_BOTH(test_an_answer_comes_after_the_refusal),
        ON_BOTH(test_the_first_answer_calls_off_the_others),
    };
    allow_descriptors(0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
