/* The server as a guest in somebody else's program: in a loop that is not its own, beside other
   servers on the same thread. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

static bool is_secure(void **state)
{
    return *state != NULL;
}

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
    turns(r, 3);
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
    hsb_stream_hooks hooks = { .user = r->data, .on_data = stream_bytes, .on_close = stream_closed };
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

int main(void)
{
    static char tls[] = "TLS";
#define PLAIN(f) { #f ", plain", f, NULL, NULL, NULL }
#define TLS(f) { #f ", TLS", f, NULL, NULL, tls }
#define BOTH(f) PLAIN(f), TLS(f)
    const struct CMUnitTest tests[] = {
        PLAIN(test_several_servers_in_one_loop), BOTH(test_calls_between_turns),
        BOTH(test_calls_on_a_stream_between_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
