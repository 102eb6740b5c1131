/* Time that is not the client's fault: the process was stopped, a hook blocked, a signal came.
   Deadlines look at clients only after everything was read that they had sent in time. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

#include <sys/wait.h>

enum { CROWD = 200, TIMEOUT_MS = 200, BLOCK_MS = 450 };

static client *crowd[CROWD];
static char large[4000000];
static void (*while_blocked)(void);

static void block(void)
{
    if (while_blocked)
        while_blocked();
    for (int64_t end = clock_ms() + BLOCK_MS; clock_ms() < end;)
        poll(NULL, 0, (int)(end - clock_ms()));
}

static void on_request(rig *r, hsb_request *req)
{
    hsb_str body = { large, sizeof large };
    (void)r;
    if (path_is(req, "/block"))
        block();
    if (path_is(req, "/block-large")) {
        block();
        hsb_respond(req, 200, NULL, body);
    } else {
        hsb_respond(req, 200, NULL, path_is(req, "/large") ? body : hsb_text("in time"));
    }
}

static rig rig_of(void)
{
    rig r = { .on_request = on_request };
    return r;
}

static const hsb_options impatient = { .timeouts = {
    .head = TIMEOUT_MS, .body = TIMEOUT_MS, .idle = TIMEOUT_MS, .write = TIMEOUT_MS
} };

static void crowd_dial(rig *r, const char *first)
{
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = dial(r);
        say(crowd[i], first);
    }
    turns(r, 20);
    assert_int_equal(r->accepts, CROWD);
}

/* Without a turn of the server. */
static void send_plainly(client *c, const char *text)
{
    size_t len = strlen(text);
    assert_int_equal(send(c->fd, text, len, MSG_NOSIGNAL), (ptrdiff_t)len);
}

static void crowd_ends_its_heads(void)
{
    for (int i = 0; i < CROWD; i++)
        send_plainly(crowd[i], "Host: a\r\n\r\n");
}

static void crowd_asks(void)
{
    for (int i = 0; i < CROWD; i++)
        send_plainly(crowd[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void crowd_ends_its_bodies(void)
{
    for (int i = 0; i < CROWD; i++)
        send_plainly(crowd[i], "de");
}

static void crowd_is_answered(rig *r)
{
    for (int i = 0; i < CROWD; i++) {
        hear_until(crowd[i], "\r\n\r\n");
        assert_memory_equal(crowd[i]->got, "HTTP/1.1 200", 12);
        client_free(crowd[i]);
    }
    assert_int_equal(r->errors, 0);
    rig_close(r);
}

/* All became ready while a hook blocked, many more than one batch of the poller holds. */
static void during_a_block(const char *first, void (*then)(void))
{
    rig r = rig_of();
    rig_open(&r, &impatient, false);
    crowd_dial(&r, first);
    client *blocker = dial(&r);
    while_blocked = then;
    say(blocker, "GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
    hear_until(blocker, "\r\n\r\n");
    while_blocked = NULL;
    client_free(blocker);
    crowd_is_answered(&r);
}

static void heads_that_were_whole_in_time(void **state)
{
    (void)state;
    during_a_block("GET / HTTP/1.1\r\n", crowd_ends_its_heads);
}

static void bodies_that_were_whole_in_time(void **state)
{
    (void)state;
    during_a_block("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", crowd_ends_its_bodies);
}

static void requests_on_connections_that_were_idle(void **state)
{
    (void)state;
    during_a_block("", crowd_asks);
}

/* What begins in or after the hook does not seem to have begun before it. */
static void an_answer_begins_after_the_hook(void **state)
{
    rig r = rig_of();
    (void)state;
    rig_open(&r, &impatient, false);
    client *c = dial_narrow(&r);
    say(c, "GET /block-large HTTP/1.1\r\nHost: a\r\n\r\n");
    while (r.requests == 0)
        turn(&r, 10);
    turns(&r, 5);
    assert_int_equal(r.closes, 0);
    hear_until(c, "\r\n\r\n");
    hear_len(c, sizeof large);
    client_free(c);
    rig_close(&r);
}

static void a_connection_is_accepted_after_the_hook(void **state)
{
    rig r = rig_of();
    (void)state;
    rig_open(&r, &impatient, false);
    client *a = dial(&r), *b;
    turns(&r, 5);
    say(a, "GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
    b = dial(&r);
    while (r.requests == 0)
        turn(&r, 10);
    turns(&r, 5);
    say(b, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    hear_until(b, "in time");
    client_free(a);
    client_free(b);
    rig_close(&r);
}

/* --- a server that is always busy ----------------------------------------------------------- */
static void always_ready(hsb__watch *watch, unsigned events)
{
    (void)watch;
    (void)events;
}

static void timers_run_although_every_batch_is_full(void **state)
{
    enum { BUSY = 3 * HSB__POLLER_BATCH };
    static hsb__watch watches[BUSY];
    rig r = rig_of();
    int fds[2];
    (void)state;
    rig_open(&r, &impatient, false);
    client *c = dial(&r);
    turns(&r, 5);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    for (int i = 0; i < BUSY; i++) {
        watches[i].fd = dup(fds[0]);
        watches[i].ready = always_ready;
        assert_true(hsb__poller_add(&r.server->loop.poller, &watches[i], HSB__READ));
    }
    for (int64_t end = clock_ms() + PATIENCE_MS; r.closes == 0 && clock_ms() < end;)
        turn(&r, 10);
    assert_int_equal(r.closes, 1);
    for (int i = 0; i < BUSY; i++) {
        hsb__poller_drop(&r.server->loop.poller, &watches[i]);
        close(watches[i].fd);
    }
    close(fds[0]);
    close(fds[1]);
    client_free(c);
    rig_close(&r);
}

/* --- a process that was stopped -------------------------------------------------------------- */
static void answer_one(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond(req, 200, NULL, hsb_text("in time"));
}

static void serve_until_killed(int port_to)
{
    hsb_options o = impatient;
    o.hooks.on_request = answer_one;
    hsb_server *s = hsb_bind("127.0.0.1", 0, &o, NULL);
    int port = s ? hsb_server_port(s) : 0;
    if (write(port_to, &port, sizeof port) == sizeof port && s)
        hsb_server_run(s, NULL);
    _exit(1);
}

/* Stopping interrupts the wait in the poller, which then tells of nothing. */
static void requests_to_a_process_that_was_stopped(void **state)
{
    int port = 0, fds[2], sockets[CROWD];
    char text[64];
    (void)state;
    assert_int_equal(pipe(fds), 0);
    pid_t server = fork();
    assert_true(server >= 0);
    if (server == 0)
        serve_until_killed(fds[1]);
    assert_int_equal(read(fds[0], &port, sizeof port), sizeof port);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CROWD; i++) {
            struct sockaddr_in a;
            memset(&a, 0, sizeof a);
            a.sin_family = AF_INET;
            a.sin_port = htons((uint16_t)port);
            a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
            assert_int_equal(connect(sockets[i], (struct sockaddr *)&a, sizeof a), 0);
            assert_int_equal(write(sockets[i], "GET / HTTP/1.1\r\n", 16), 16);
        }
        poll(NULL, 0, 50);
        assert_int_equal(kill(server, SIGSTOP), 0);
        for (int i = 0; i < CROWD; i++)
            assert_int_equal(write(sockets[i], "Host: a\r\n\r\n", 11), 11);
        poll(NULL, 0, BLOCK_MS);
        assert_int_equal(kill(server, SIGCONT), 0);
        for (int i = 0; i < CROWD; i++) {
            assert_int_equal(recv(sockets[i], text, 12, MSG_WAITALL), 12);
            assert_memory_equal(text, "HTTP/1.1 200", 12);
            close(sockets[i]);
        }
    }
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_that_were_whole_in_time),
        cmocka_unit_test(bodies_that_were_whole_in_time),
        cmocka_unit_test(requests_on_connections_that_were_idle),
        cmocka_unit_test(an_answer_begins_after_the_hook),
        cmocka_unit_test(a_connection_is_accepted_after_the_hook),
        cmocka_unit_test(timers_run_although_every_batch_is_full),
        cmocka_unit_test(requests_to_a_process_that_was_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
