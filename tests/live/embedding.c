/* The server as a guest in somebody else's program: in a loop that is not its own, beside other
   servers on the same thread, with memory from that program's allocator, and lines for its log. */
#include <stdlib.h>

static size_t of_malloc;                /* allocations that went past the user's allocator */

static void *counted_malloc(size_t size)
{
    of_malloc++;
    return malloc(size);
}

#define HSB_MALLOC(size) counted_malloc(size)
#define HSB_FREE(ptr) free(ptr)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

/* --- a loop that is not the server's ------------------------------------------------------ */
typedef struct loop {
    rig *guests[4];
    int  count;
    int  waits;                         /* how often poll(2) returned */
} loop;

/* What >>api asks of whoever owns the loop: wait for all of them until a descriptor is readable
   or a timer is due, most_ms at most; then give those a turn, and nobody else.  Where a server
   has no descriptor (HSB_USE_POLL), there is nothing left but to look again and again. */
static void loop_wait(loop *l, int most_ms)
{
    struct pollfd fds[4];
    int timeouts[4], wait = most_ms;
    for (int i = 0; i < l->count; i++) {
        fds[i] = (struct pollfd){ hsb_server_fd(l->guests[i]->server), POLLIN, 0 };
        timeouts[i] = fds[i].fd < 0 ? 1 : hsb_server_timeout(l->guests[i]->server);
        if (timeouts[i] >= 0 && timeouts[i] < wait)
            wait = timeouts[i];
    }
    poll(fds, (nfds_t)l->count, wait);
    l->waits++;
    for (int i = 0; i < l->count; i++)
        if (fds[i].revents || fds[i].fd < 0 || hsb_server_timeout(l->guests[i]->server) == 0)
            hsb_server_poll(l->guests[i]->server, 0);
}

static void loop_hear(loop *l, client *c, const char *text)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    while (!c->len || !memmem(c->got, c->len, text, strlen(text))) {
        if (clock_ms() > end)
            fail_msg("\"%s\" did not come", text);
        if (!hear_some(c))
            loop_wait(l, 1000);
    }
}

static void answer_later(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_respond(req, 200, NULL, hsb_text("that was 100 ms"));
}

static void reply(rig *r, hsb_request *req)
{
    (void)r;
    if (hsb_equal(hsb_request_path(req), "/later"))
        assert_true(hsb_request_after(req, 100, answer_later, NULL));
    else
        hsb_respond(req, 200, NULL, hsb_text("at once"));
}

static void test_several_servers_in_one_loop(void **state)
{
    rig plain = { .on_request = reply }, secure = plain, other = plain;
    loop l = { { &plain, &secure, &other }, 3, 0 };
    client *c[3];
    bool blind;
    (void)state;
    rig_open(&plain, NULL, false);
    rig_open(&secure, NULL, true);
    rig_open(&other, NULL, true);
    blind = hsb_server_fd(plain.server) < 0;
#if defined(HSB_USE_POLL)
    assert_true(blind);
#elif defined(__linux__)
    assert_false(blind);
#endif
    for (int i = 0; i < 3; i++) {
        c[i] = dial(l.guests[i]);
        say(c[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        loop_hear(&l, c[i], "at once");
    }
    int64_t asked = clock_ms();
    l.waits = 0;
    for (int i = 0; i < 3; i++)
        say(c[i], "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        loop_hear(&l, c[i], "that was 100 ms");
        assert_true(clock_ms() - asked >= 100);
    }
    assert_true(blind || l.waits < 50);         /* nobody spun for these 100 ms */
    for (int i = 0; i < 3; i++) {
        hang_up(c[i]);
        turn_until(l.guests[i], all_closed, "the end");
        turns(l.guests[i], 2);
        assert_int_equal(hsb_server_timeout(l.guests[i]->server), -1);
    }
    l.waits = 0;
    for (int64_t end = clock_ms() + 200; clock_ms() < end;)
        loop_wait(&l, 200);
    assert_true(blind || l.waits < 3);
    for (int i = 3; i-- > 0;)
        rig_close(l.guests[i]);
}

/* --- calls from that loop, between two turns ---------------------------------------------- */
/* The server sleeps with nothing to do before its longest deadline; each of these calls makes
   its descriptor readable, so whoever waits for that misses nothing. */
static void must_ring(rig *r, const char *what)
{
    struct pollfd p = { hsb_server_fd(r->server), POLLIN, 0 };
    if (p.fd >= 0 && poll(&p, 1, 0) != 1)
        fail_msg("%s: nobody is woken", what);
}

static void asleep(rig *r)
{
    struct pollfd p = { hsb_server_fd(r->server), POLLIN, 0 };
    int64_t end = clock_ms() + PATIENCE_MS;
    while (hsb_server_poll(r->server, 5) > 0)
        assert_true(clock_ms() < end);
    assert_int_not_equal(hsb_server_timeout(r->server), 0);
    if (p.fd >= 0)
        assert_int_equal(poll(&p, 1, 0), 0);
}

static void keep_open(rig *r, hsb_request *req)
{
    (void)r;
    assert_true(hsb_request_after(req, 600000, answer_later, NULL));
}

static void never_posted(hsb_server *server, void *arg)
{
    (void)server;
    ++*(int *)arg;
}

static void test_calls_between_turns(void **state)
{
    rig r = { .on_request = keep_open };
    int posted = 0;
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    while (!r.req)
        turn(&r, 1);
    asleep(&r);
    hsb_server_wake(r.server);
    must_ring(&r, "hsb_server_wake");
    assert_true(hsb_server_poll(r.server, -1) > 0);     /* for ever, or until then */
    asleep(&r);
    hsb_server_post(r.server, 0, never_posted, &posted);
    must_ring(&r, "hsb_server_post");
    asleep(&r);
    hsb_server_post(r.server, 600000, never_posted, &posted);
    must_ring(&r, "hsb_server_post, later");
    asleep(&r);
    hsb_request_after(r.req, 300000, answer_later, NULL);
    must_ring(&r, "hsb_request_after");         /* the timer may be the next one that is due */
    asleep(&r);
    hsb_response_begin(r.req, 200, -1);
    hsb_response_write(r.req, hsb_text("between "));
    must_ring(&r, "hsb_response_write");
    hear_until(c, "between ");
    asleep(&r);
    hsb_response_write(r.req, hsb_text("turns"));
    hsb_response_end(r.req);
    must_ring(&r, "hsb_response_end");
    hear_until(c, "turns");
    asleep(&r);
    hsb_conn_close(r.conn, false);
    must_ring(&r, "hsb_conn_close");
    hear_end(c);
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    asleep(&r);
    hsb_server_close(r.server, false);
    must_ring(&r, "hsb_server_close");
    while (turn(&r, 1))
        ;
    assert_int_equal(hsb_server_poll(r.server, -1), -1);
    assert_int_equal(posted, 1);
    rig_close(&r);
    assert_int_equal(posted, 2);
}

static hsb_stream *streamed;

static void stream_bytes(hsb_stream *s, hsb_str part, void *user)
{
    *(size_t *)user += part.len;
    hsb_stream_write(s, part);
}

static void stream_closed(hsb_stream *s, const hsb_error *why, void *user)
{
    (void)s;
    (void)why;
    (void)user;
    streamed = NULL;
}

static void detach(rig *r, hsb_request *req)
{
    hsb_stream_hooks hooks = {
        .user = r->data, .on_data = stream_bytes, .on_close = stream_closed
    };
    streamed = hsb_request_detach(req, 101, &hooks);
    assert_non_null(streamed);
}

static void say_tick(hsb_stream *s, void *arg)
{
    (void)arg;
    hsb_stream_write(s, hsb_text("tick"));
}

static void test_calls_on_a_stream_between_turns(void **state)
{
    size_t received = 0;
    rig r = { .on_request = detach, .data = &received };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    heard(c, hear_until(c, "\r\n\r\n"));
    asleep(&r);
    hsb_stream_write(streamed, hsb_text("hello"));
    must_ring(&r, "hsb_stream_write");
    hear_until(c, "hello");
    assert_int_equal(hsb_stream_flush(streamed), HSB_FLOW_GO);
    asleep(&r);
    hsb_stream_pause(streamed);
    say(c, "bytes");
    turns(&r, 5);
    asleep(&r);
    assert_int_equal(received, 0);
    hsb_stream_resume(streamed);
    must_ring(&r, "hsb_stream_resume");
    hear_until(c, "bytes");
    asleep(&r);
    hsb_stream_after(streamed, 1, say_tick, NULL);
    must_ring(&r, "hsb_stream_after");
    hear_until(c, "tick");
    asleep(&r);
    hsb_stream_close(streamed, false);
    must_ring(&r, "hsb_stream_close");
    hear_end(c);
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    assert_null(streamed);
    rig_close(&r);
}

/* --- tickets ------------------------------------------------------------------------------ */
/* Each is used once, and finds the request that it was made for or none: not the next one on
   the same connection, which lies at the same address. */
static hsb_ticket tickets[3];

static void take_tickets(rig *r, hsb_request *req)
{
    (void)r;
    for (int i = 0; i < 3; i++) {
        tickets[i] = hsb_request_defer(req);
        assert_int_not_equal(tickets[i].id, 0);
    }
}

static void respond_or_note(hsb_request *req, void *arg)
{
    int *calls = arg;
    *calls += req ? 1 : 100;
    if (req)
        hsb_respond(req, 200, NULL, hsb_text("done"));
}

static void test_tickets_are_used_once(void **state)
{
    rig r = { .on_request = take_tickets };
    int calls = 0;
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    while (!r.req)
        turn(&r, 1);
    hsb_ticket used = tickets[0], second = tickets[1], third = tickets[2], none = { NULL, 0 };
    assert_true(hsb_ticket_resume(tickets[0], respond_or_note, &calls));
    assert_false(hsb_ticket_resume(used, respond_or_note, &calls));     /* a copy is the same */
    hsb_ticket_drop(used);
    assert_false(hsb_ticket_resume(none, respond_or_note, &calls));
    hsb_ticket_drop(none);
    assert_int_equal(calls, 0);                 /* never from inside of the call */
    answer a = hear_answer(c, false);
    assert_answer(a, 200, "done");
    assert_int_equal(calls, 1);
    assert_false(hsb_ticket_resume(used, respond_or_note, &calls));
    assert_null(r.req);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    while (!r.req)
        turn(&r, 1);
    assert_true(hsb_ticket_resume(second, respond_or_note, &calls));
    hsb_ticket_drop(third);
    hsb_ticket_drop(third);
    assert_false(hsb_ticket_resume(third, respond_or_note, &calls));
    turns(&r, 5);
    assert_int_equal(calls, 101);               /* without a request, and the new one is open */
    assert_int_equal(r.finishes, 1);
    hsb_ticket_drop(tickets[0]);
    hsb_ticket_drop(tickets[0]);
    assert_false(hsb_ticket_resume(tickets[0], respond_or_note, &calls));
    turns(&r, 5);
    assert_int_equal(r.finishes, 1);            /* the others may still answer */
    hsb_ticket_drop(tickets[1]);
    turns(&r, 5);
    assert_int_equal(r.finishes, 1);
    hsb_ticket_drop(tickets[2]);                /* the last: nobody will */
    a = hear_answer(c, false);
    assert_int_equal(a.status, 500);
    answer_free(&a);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    while (!r.req)
        turn(&r, 1);
    assert_true(hsb_ticket_resume(tickets[0], respond_or_note, &calls));
    hsb_server_free(r.server);                  /* settled before: called, at the latest there */
    r.server = NULL;
    assert_int_equal(calls, 201);
    hsb_ticket_drop(tickets[1]);
    assert_int_not_equal(r.heap.blocks, 0);     /* the last ticket holds the inbox */
    assert_false(hsb_ticket_resume(tickets[2], respond_or_note, &calls));
    assert_int_equal(calls, 201);
    hang_up(c);
    rig_close(&r);
}

/* --- memory ------------------------------------------------------------------------------- */
/* What passes through a connection in these tests contains this, and no block of memory that
   goes back to the allocator may. */
#define SECRET "correct horse battery staple"

static int unwiped;

static void release_and_look(void *ptr, size_t size, void *user)
{
    unwiped += memmem(ptr, size, SECRET, sizeof SECRET - 1) != NULL;
    heap_release(ptr, size, user);
}

static void respond_late(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_response_begin(req, 200, -1);
    hsb_response_write(req, hsb_request_body(req));
    hsb_response_end(req);
}

static void socket_message(hsb_websocket *ws, bool text, hsb_str message, void *user)
{
    (void)user;
    hsb_websocket_send(ws, text, message);
}

/* Every way to answer, and out of HTTP. */
static void pass_through(rig *r, hsb_request *req)
{
    hsb_websocket_hooks sockets = { .on_message = socket_message };
    hsb_response_header(req, "X-Secret", SECRET);
    if (hsb_equal(hsb_request_path(req), "/socket")) {
        assert_non_null(hsb_request_websocket(req, &sockets));
    } else if (hsb_equal(hsb_request_path(req), "/stream")) {
        detach(r, req);
    } else if (hsb_equal(hsb_request_path(req), "/defer")) {
        assert_true(hsb_ticket_resume(hsb_request_defer(req), respond_late, NULL));
    } else if (hsb_equal(hsb_request_path(req), "/file")) {
        hsb_respond_file(req, "tests/data/README.md", NULL);
    } else {
        hsb_respond(req, 200, NULL, hsb_request_body(req));
    }
}

static void must_be_all(const rig *r)
{
    assert_int_equal(hsb_server_memory(r->server), r->heap.bytes);
}

#define UPGRADE(to) "Host: x\r\nConnection: Upgrade\r\nUpgrade: " to "\r\nX-Secret: " SECRET "\r\n"
#define FRAME SECRET SECRET SECRET SECRET

/* One client after the other, each through another part of the server. */
static void play(rig *r)
{
    static const char *const asks[] = {
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n" SECRET,
        "POST /defer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "1c\r\n" SECRET "\r\n0\r\nX-Trailer: " SECRET "\r\n\r\n",
        "GET /file HTTP/1.1\r\nHost: x\r\nX-Secret: " SECRET "\r\n\r\n",
    };
    char frame[6 + 4 * (sizeof SECRET - 1) + 1] = { (char)0x81, (char)(0x80 | 4 * 28) };
    client *c = dial(r);
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        answer a = ask(c, asks[i]);
        assert_int_equal(a.status, 200);
        answer_free(&a);
        must_be_all(r);
    }
    hang_up(c);
    c = dial(r);
    say(c, "GET /stream HTTP/1.1\r\n" UPGRADE("x") "\r\n" SECRET);
    heard(c, hear_until(c, "\r\n\r\n" SECRET));
    must_be_all(r);
    hsb_stream_pause(streamed);
    say(c, SECRET);                             /* is never read */
    turns(r, 3);
    hsb_stream_close(streamed, true);
    hang_up(c);
    c = dial(r);
    say(c, "GET /socket HTTP/1.1\r\n" UPGRADE("websocket")
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    heard(c, hear_until(c, "\r\n\r\n"));
    memcpy(frame + 6, FRAME, sizeof FRAME);
    say_bytes(c, frame, sizeof frame - 1);      /* masked with zeros */
    hear_until(c, FRAME);
    frame[0] = 0x01;
    say_bytes(c, frame, sizeof frame - 1);      /* and a message that never ends */
    turns(r, 5);
    must_be_all(r);
    hang_up(c);
    turn_until(r, all_closed, "the end");
}

/* All of ours comes from the user's allocator, hsb_server_memory tells how much that is, all of
   it goes back, and with nothing in it that was received or sent. */
static void test_allocator(void **state)
{
    static char huge[150000];
    rig r = { .on_request = pass_through };
    heap keys = { 0, 0 };
    hsb_security *security = NULL;
    hsb_error err;
    size_t received = 0;
    r.data = &received;
    rig_prepare(&r, NULL, is_secure(state));
    r.options.allocator.release = release_and_look;
    r.options.server_header = "guest";
    of_malloc = 0;
    unwiped = 0;
    if (r.secure) {
        hsb_security_desc desc = {
            .self_signed_for = "localhost",
            .allocator = { heap_alloc, heap_release, &keys },
        };
        security = hsb_security_new(&desc, &err);
        assert_non_null(security);
        assert_true(keys.bytes > 0);
    }
    r.server = r.secure ? hsb_bind_secure("127.0.0.1", 0, security, &r.options, &err)
                        : hsb_bind("127.0.0.1", 0, &r.options, &err);
    assert_non_null(r.server);
    hsb_security_free(security);                /* the server holds its own reference */
    r.port = hsb_server_port(r.server);
    must_be_all(&r);
    play(&r);
    play(&r);
    size_t warm = hsb_server_memory(r.server);
    play(&r);
    assert_int_equal(hsb_server_memory(r.server), warm);        /* nothing piles up */
    client *c = dial(&r);                       /* and one that is in the middle of something */
    memset(huge, 'x', sizeof huge);
    memcpy(huge + 100000, SECRET, sizeof SECRET - 1);
    say(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 150000\r\nX-Secret: " SECRET "\r\n\r\n");
    say_bytes(c, huge, sizeof huge - 1);
    turns(&r, 10);
    must_be_all(&r);
    hsb_server_free(r.server);
    r.server = NULL;
    client_free(c);
    assert_int_equal(r.heap.blocks, 0);
    assert_int_equal(keys.blocks, 0);
    assert_int_equal(of_malloc, 0);
    assert_int_equal(unwiped, 0);
    assert_int_equal(r.finishes, r.heads);
    assert_int_equal(r.closes, r.accepts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(test_several_servers_in_one_loop), BOTH(test_calls_between_turns),
        BOTH(test_calls_on_a_stream_between_turns), BOTH(test_tickets_are_used_once),
        BOTH(test_allocator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
