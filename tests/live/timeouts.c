/* Each deadline, with small values, and each limit on connections and requests.  A deadline
   must not come early; how late it comes is the machine's affair. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

static char large[4000000], enormous[50000000];
static hsb_ticket ticket;

static void on_head(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/stream") || path_is(req, "/begun") || path_is(req, "/paused"))
        hsb_request_stream(req);
    if (path_is(req, "/paused"))
        hsb_request_pause(req);
    if (path_is(req, "/begun"))
        hsb_response_begin(req, 200, -1);
}

static void on_request(rig *r, hsb_request *req)
{
    hsb_str body = { large, sizeof large }, huge = { enormous, sizeof enormous };
    (void)r;
    if (path_is(req, "/huge")) {
        hsb_respond_owned(req, 200, NULL, huge, NULL, NULL);
        return;
    }
    if (path_is(req, "/some"))
        body.len = 150000;
    if (path_is(req, "/large") || path_is(req, "/some"))
        hsb_respond(req, 200, NULL, body);
    else if (path_is(req, "/later"))
        ticket = hsb_request_defer(req);
    else
        hsb_respond(req, 200, NULL, hsb_text("ok"));
}

static void answer_now(hsb_request *req, void *arg)
{
    (void)arg;
    if (req)
        hsb_respond(req, 200, NULL, hsb_text("later"));
}

static void let_pass(rig *r, int ms)
{
    for (int64_t end = clock_ms() + ms; clock_ms() < end;)
        turn(r, (int)(end - clock_ms()));
}

/* Until the server has cut it off; not before at_least milliseconds are over. */
static void wait_for_end(rig *r, client *c, int64_t began, int at_least)
{
    hear_end(c);
    turn_until(r, all_closed, "the deadline");
    if (clock_ms() - began < at_least)
        fail_msg("a deadline of %d ms after %d", at_least, (int)(clock_ms() - began));
}

/* --- the handshake ------------------------------------------------------------------------ */
static void test_handshake(void **state)
{
    rig r = { .on_request = on_request };
    hsb_options o = { .timeouts = { .handshake = 120, .close = 50 } };
    (void)state;
    rig_open(&r, &o, true);
    for (int how = 0; how < 3; how++) {
        int64_t began = clock_ms();
        client *c = client_new(&r, r.port, 0);
        if (how == 1) {                                 /* says hello and no more */
            c->ssl = SSL_new(client_tls());
            SSL_set_fd(c->ssl, c->fd);
            SSL_connect(c->ssl);
            turns(&r, 5);
        } else if (how == 2) {                          /* goes on, one byte at a time */
            static const char hello[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
            for (size_t i = 0; !r.closes || r.closes == 2; i++) {
                if (send(c->fd, &hello[i < 11 ? i : 10], 1, MSG_NOSIGNAL) < 0)
                    break;
                let_pass(&r, 10);
            }
        }
        if (c->ssl)
            SSL_free(c->ssl);
        c->ssl = NULL;
        wait_for_end(&r, c, began, 119);
        assert_int_equal(r.closes, how + 1);
        assert_int_equal(r.errors, how + 1);
        assert_int_equal(r.told.status, HSB_ERR_TIMEOUT);
        assert_int_equal(r.closed_with.status, HSB_ERR_TIMEOUT);
        hang_up(c);
    }
    assert_int_equal(r.handshakes, 0);
    rig_close(&r);
}

/* --- the head ----------------------------------------------------------------------------- */
static void test_head(void **state)
{
    static const char head[] =
        "GET / HTTP/1.1\r\nHost: x\r\nX-Long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    rig r = { .on_request = on_request };
    hsb_options o = { .timeouts = { .head = 120, .close = 50 } };
    rig_open(&r, &o, is_secure(state));
    for (int how = 0; how < 2; how++) {
        client *c = dial(&r);
        if (how) {    /* also on a connection that was kept alive */
            answer a = ask_path(c, "GET", "/", "");
            assert_answer(a, 200, "ok");
            let_pass(&r, 30);
        }
        int64_t began = clock_ms();
        for (size_t i = 0; i < sizeof head - 1 && !hear_some(c); i++) {
            if (!try_say(c, head + i, 1))
                break;
            let_pass(&r, 10);
        }
        answer a = hear_answer(c, false);
        assert_int_equal(a.status, 408);
        assert_true(field_is(&a, "Connection", "close"));
        answer_free(&a);
        assert_true(clock_ms() - began >= 119);
        hear_end(c);
        assert_true(c->ended && (!c->ssl || c->notified));
        hang_up(c);
        turn_until(&r, all_closed, "the end");
        assert_int_equal(r.told.status, HSB_ERR_TIMEOUT);
        assert_int_equal(r.closed_with.status, HSB_ERR_TIMEOUT);
        assert_int_equal(r.heads, how);
    }
    rig_close(&r);
}

/* --- the body ----------------------------------------------------------------------------- */
static void test_body(void **state)
{
    static const char *const heads[] = {
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n123",
        "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
        "POST /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n",
    };
    rig r = { .on_head = on_head, .on_request = on_request };
    hsb_options o = { .timeouts = { .body = 120, .close = 50 } };
    rig_open(&r, &o, is_secure(state));
    for (int how = 0; how < 3; how++) {
        client *c = dial(&r);
        int64_t began = clock_ms();
        say(c, heads[how]);
        answer a = hear_answer(c, false);
        assert_int_equal(a.status, 408);
        answer_free(&a);
        hang_up(c);
        turn_until(&r, all_closed, "the end");
        assert_true(clock_ms() - began >= 119);
        assert_int_equal(r.finished_with.status, HSB_ERR_TIMEOUT);
        assert_int_equal(r.told.status, HSB_ERR_TIMEOUT);
        assert_int_equal(r.requests, 0);
    }
    /* An answer had begun: nothing but a cut can tell. */
    client *c = dial(&r);
    say(c, "POST /begun HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    answer a = hear_answer(c, false);
    assert_int_equal(a.status, 200);
    assert_false(a.whole);
    answer_free(&a);
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    assert_int_equal(r.finished_with.status, HSB_ERR_TIMEOUT);
    assert_int_equal(r.errors, 4);                      /* told once each */
    rig_close(&r);
}

/* Never resting for long, and yet below limits.rate: that ends too.  Above it: it may take
   several times the period. */
static void test_body_rate(void **state)
{
    rig r = { .on_head = on_head, .on_request = on_request };
    hsb_options o = { .timeouts = { .body = 150, .close = 50 }, .limits.rate = 2000 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    int64_t began = clock_ms();
    say(c, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    for (int i = 0; i < 1000 && !hear_some(c); i++) {
        if (!try_say(c, "1", 1))
            break;
        let_pass(&r, 10);
    }
    answer a = hear_answer(c, false);
    assert_int_equal(a.status, 408);
    answer_free(&a);
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    assert_true(clock_ms() - began >= 149);
    assert_true(r.body_bytes > 1 && r.body_bytes < 1000);
    c = dial(&r);
    began = clock_ms();
    say(c, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n");
    for (int i = 0; i < 50; i++) {                      /* far above the rate, slow as it is */
        say_bytes(c, large, 1000);
        let_pass(&r, 8);
    }
    a = hear_answer(c, false);
    assert_answer(a, 200, "ok");
    assert_true(clock_ms() - began > 350);
    hang_up(c);
    rig_close(&r);
}

/* Pauses stop the clock and do not set it back: a byte between two pauses is no way to stay. */
static void pause_at_each_part(rig *r, hsb_request *req, hsb_str part)
{
    (void)r;
    (void)part;
    if (path_is(req, "/stream"))
        hsb_request_pause(req);
}

static void test_pauses_do_not_set_the_clock_back(void **state)
{
    rig r = { .on_head = on_head, .on_body = pause_at_each_part, .on_request = on_request };
    hsb_options o = { .timeouts = { .body = 150, .close = 50 }, .limits.rate = 2000 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    int64_t began = clock_ms();
    say(c, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    while (r.closes == 0 && r.errors == 0 && clock_ms() - began < 3000) {
        if (!try_say(c, "1", 1))
            break;
        let_pass(&r, 5);
        if (r.req)
            hsb_request_resume(r.req);
        let_pass(&r, 5);
    }
    assert_int_equal(r.errors, 1);
    assert_int_equal(r.told.status, HSB_ERR_TIMEOUT);
    answer a = hear_answer(c, false);
    assert_int_equal(a.status, 408);
    answer_free(&a);
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

/* Who pauses has all the time of the world; and so has who thinks about an answer. */
static void test_application_takes_its_time(void **state)
{
    rig r = { .on_head = on_head, .on_body = pause_at_each_part, .on_request = on_request };
    hsb_options o = {
        .timeouts = { .handshake = 5000, .head = 60, .body = 60, .write = 60, .idle = 60 }
    };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r), *d = dial(&r), *e = dial(&r);
    say(e, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    while (r.body_bytes < 4)
        turn(&r, 1);
    hsb_request *within = r.req;                        /* its clock runs since the head       */
    say(c, "POST /paused HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo");
    while (r.heads < 2)
        turn(&r, 1);
    hsb_request *paused = r.req;
    say(d, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    while (r.requests < 1)
        turn(&r, 1);
    let_pass(&r, 200);
    assert_int_equal(r.finishes + r.errors, 0);
    hsb_request_resume(paused);
    say(c, "dy");
    answer a = hear_answer(c, false);
    assert_answer(a, 200, "ok");
    hsb_ticket_resume(ticket, answer_now, NULL);
    a = hear_answer(d, false);
    assert_answer(a, 200, "later");
    hsb_request_resume(within);
    a = hear_answer(e, false);
    assert_answer(a, 200, "ok");
    hang_up(c);
    hang_up(d);
    hang_up(e);
    rig_close(&r);
}

/* --- the reader --------------------------------------------------------------------------- */
static void test_reader(void **state)
{
    rig r = { .on_request = on_request, .send_buffer = 16384 };
    hsb_options o = { .timeouts = { .write = 150, .close = 50 }, .limits.rate = 1000000 };
    rig_open(&r, &o, is_secure(state));
    for (int how = 0; how < 2; how++) {
        client *c = dial_narrow(&r);
        int64_t began = clock_ms();
        say(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        hear_until(c, "\r\n\r\n");
        int closes = r.closes;
        while (r.closes == closes && clock_ms() - began < PATIENCE_MS) {
            let_pass(&r, 10);
            char some[1500];
            if (how && !c->ssl && recv(c->fd, some, sizeof some, 0) == 0)
                break;                                  /* one reads, below the rate */
            if (how && c->ssl)
                hear_some(c);
        }
        assert_true(clock_ms() - began >= 149);
        assert_int_equal(r.finished_with.status, HSB_ERR_TIMEOUT);
        assert_int_equal(r.told.status, HSB_ERR_TIMEOUT);
        while (hear_some(c) > 0)
            ;
        assert_true(how == 1 || c->reset);              /* nothing stays in the kernel for it */
        hang_up(c);
        turn_until(&r, all_closed, "the end");
    }
    rig_close(&r);
}

/* All of the last answer is in the kernel: a peer that reads it below the rate does not hold the
   connection until it has everything. */
static void test_reader_of_the_last_answer(void **state)
{
    rig r = { .on_request = on_request, .send_buffer = 200000 };
    hsb_options o = { .timeouts = { .write = 60000, .close = 200 }, .limits.rate = 1000000 };
    size_t got = 0;
    rig_open(&r, &o, is_secure(state));
    client *c = dial_narrow(&r);
    say(c, "GET /some HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    while (r.requests < 1)
        turn(&r, 1);
    const int64_t end = clock_ms() + PATIENCE_MS;
    while (r.closes == 0 && clock_ms() < end) {         /* a record may not be whole yet       */
        char some[1500];
        let_pass(&r, 10);
        const int n = (int)(c->ssl ? SSL_read(c->ssl, some, sizeof some) : recv(c->fd, some, sizeof some, 0));
        got += n > 0 ? (size_t)n : 0;
    }
    turn_until(&r, all_closed, "the end");
    assert_int_equal(r.finishes, 1);
    assert_within(got, 1, 149999);
    cut_off(c);
    rig_close(&r);
}

/* The kernel takes megabytes at once, and then for a long time nothing: what counts is what the
   client acknowledged, which over loopback it does about 100 KB at a time. */
static void read_at_200_kb_a_second(rig *r, client *c, int ms)
{
    char some[6000];
    int64_t began = clock_ms();
    say(c, "GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    while (clock_ms() - began < ms && r->errors == 0) {
        let_pass(r, 30);
        if (c->ssl)
            SSL_read(c->ssl, some, sizeof some);
        else if (recv(c->fd, some, sizeof some, 0) == 0)
            break;
    }
}

static void test_steady_reader(void **state)
{
    rig r = { .on_request = on_request };
    hsb_options o = { .timeouts = { .write = 900, .close = 50 }, .limits.rate = 512 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    read_at_200_kb_a_second(&r, c, 3000);
    assert_int_equal(r.errors, 0);
    assert_int_equal(r.closes, 0);
    cut_off(c);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

static void test_steady_reader_below_the_rate(void **state)
{
    rig r = { .on_request = on_request };
    hsb_options o = { .timeouts = { .write = 600, .close = 50 }, .limits.rate = 1000000 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    read_at_200_kb_a_second(&r, c, 2500);
    assert_int_equal(r.errors, 1);
    assert_int_equal(r.told.status, HSB_ERR_TIMEOUT);
    cut_off(c);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

/* Above the rate a download may take many times the period. */
static void test_reader_takes_its_time(void **state)
{
    rig r = { .on_request = on_request, .send_buffer = 16384 };
    hsb_options o = { .timeouts = { .write = 100, .close = 50 }, .limits.rate = 1000 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial_narrow(&r);
    say(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    heard(c, hear_until(c, "\r\n\r\n"));
    for (int i = 0; i < 50; i++) {
        let_pass(&r, 8);
        hear_some(c);
    }
    hear_len(c, sizeof large);
    turns(&r, 5);
    assert_int_equal(r.finishes, 1);
    assert_int_equal(r.finished_with.status, HSB_OK);
    hang_up(c);
    rig_close(&r);
}

/* --- between requests --------------------------------------------------------------------- */
static void test_idle(void **state)
{
    rig r = { .on_request = on_request };
    hsb_options o = { .timeouts = { .idle = 120, .close = 50 } };
    rig_open(&r, &o, is_secure(state));
    for (int how = 0; how < 3; how++) {
        int64_t began = clock_ms();                     /* before the server's period does */
        client *c = dial(&r);
        if (how) {
            let_pass(&r, 60);
            began = clock_ms();                         /* counted from the last answer */
            answer a = ask_path(c, "GET", "/", "");
            assert_answer(a, 200, "ok");
        }
        if (how == 2) {
            let_pass(&r, 60);
            say(c, "GE");    /* and up to the first byte of the next */
            let_pass(&r, 150);
            assert_int_equal(r.closes, how);
            began = clock_ms();
            say(c, "T / HTTP/1.1\r\nHost: x\r\n\r\n");
            answer a = hear_answer(c, false);
            assert_answer(a, 200, "ok");
        }
        hear_end(c);
        assert_true(c->ended && (!c->ssl || c->notified));
        assert_int_equal(c->len, 0);                    /* silently */
        assert_true(clock_ms() - began >= 119);
        hang_up(c);
        turn_until(&r, all_closed, "the end");
        assert_int_equal(r.closed_with.status, HSB_ERR_TIMEOUT);
        assert_int_equal(r.errors, 0);
    }
    rig_close(&r);
}

/* -1: no limit at all. */
static void test_no_limits(void **state)
{
    static char path[20000], text[20100];
    rig r = { .on_head = on_head, .on_request = on_request, .send_buffer = 16384 };
    hsb_options o = { .timeouts = { -1, -1, -1, -1, -1, -1, -1, -1 },
                      .limits = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 } };
    rig_open(&r, &o, is_secure(state));
    client *c = dial_narrow(&r);
    let_pass(&r, 30);
    assert_int_equal(hsb_server_timeout(r.server), -1);
    memset(path, 'a', sizeof path - 1);
    snprintf(text, sizeof text, "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    answer a = ask(c, text);
    assert_answer(a, 200, "ok");
    say(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n");
    say_bytes(c, large, sizeof large);
    a = hear_answer(c, false);
    assert_answer(a, 200, "ok");
    say(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    turns(&r, 20);
    assert_int_equal(hsb_server_timeout(r.server), -1);
    a = hear_answer(c, false);
    assert_int_equal(a.len, sizeof large);
    answer_free(&a);
    hang_up(c);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

/* --- the loop sleeps ---------------------------------------------------------------------- */
/* With nothing to do it does not wake up, and says so to a loop that is not its own. */
static void test_sleeps(void **state)
{
    rig r = { .on_request = on_request };
    rig_open(&r, NULL, is_secure(state));
    turns(&r, 3);
    assert_int_equal(hsb_server_timeout(r.server), -1);
    client *c = dial(&r), *d = dial(&r);
    answer a = ask_path(c, "GET", "/", "");
    assert_answer(a, 200, "ok");
    a = ask_path(d, "GET", "/", "");
    assert_answer(a, 200, "ok");
    turns(&r, 3);
    int ms = hsb_server_timeout(r.server), woken = 0;
    assert_true(ms > 0 && ms <= 120000);
    for (int64_t end = clock_ms() + 200; clock_ms() < end; woken++)
        turn(&r, (int)(end - clock_ms()));
    assert_true(woken < 8);
    hang_up(c);
    hang_up(d);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

/* A loop of one's own: wait for the descriptor or the timeout, then poll.  How often it came
   round until the client heard text. */
static int own_loop_until(rig *r, client *c, const char *text)
{
    int rounds = 0;
    int64_t end = clock_ms() + PATIENCE_MS;
    while (hear_some(c) >= 0 && !(c->len && memmem(c->got, c->len, text, strlen(text)))) {
        struct pollfd p[2] = { { hsb_server_fd(r->server), POLLIN, 0 }, { c->fd, POLLIN, 0 } };
        assert_true(poll(p, 2, hsb_server_timeout(r->server)) >= 0);
        assert_true(hsb_server_poll(r->server, 0) >= 0);
        assert_true(clock_ms() < end);
        rounds++;
    }
    return rounds;
}

static void write_later(hsb_request *req, void *arg)
{
    hsb_response_write(req, hsb_text(arg));
}

static void test_own_loop(void **state)
{
    rig r = { .on_request = on_request };
    rig_open(&r, NULL, is_secure(state));
    if (hsb_server_fd(r.server) < 0) {
        rig_close(&r);
        skip_because("poll(2) has no descriptor for a loop of one's own");
    }
    client *c = dial(&r);
    say(c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    while (r.requests < 1)
        turn(&r, 1);
    hsb_ticket_drop(ticket);
    hsb_response_begin(r.req, 200, -1);                 /* from outside: the loop has to learn of it */
    hsb_response_write(r.req, hsb_text("first"));
    assert_true(own_loop_until(&r, c, "first") < 10);
    int64_t began = clock_ms();
    assert_true(hsb_request_after(r.req, 100, write_later, "second"));
    assert_true(own_loop_until(&r, c, "second") < 20);
    assert_true(clock_ms() - began >= 100);
    hsb_response_write(r.req, hsb_text("third"));
    hsb_response_end(r.req);
    assert_true(own_loop_until(&r, c, "third") < 10);
    hsb_server_close(r.server, false);
    hang_up(c);
    while (hsb_server_poll(r.server, 0) >= 0) {
        struct pollfd p = { hsb_server_fd(r.server), POLLIN, 0 };
        poll(&p, 1, hsb_server_timeout(r.server));
    }
    rig_close(&r);
}

/* --- how many ----------------------------------------------------------------------------- */
/* When no more may come, the one that has been idle for longest goes: that one, and no other. */
static void test_connections(void **state)
{
    enum { MOST = 5 };
    client *c[MOST + 3];
    rig r = { .on_request = on_request };
    hsb_options o = { .limits.connections = MOST };
    rig_open(&r, &o, is_secure(state));
    for (int i = 0; i < MOST; i++) {
        c[i] = dial(&r);
        answer a = ask_path(c[i], "GET", "/", "");
        assert_answer(a, 200, "ok");
        let_pass(&r, 3);
    }
    answer a = ask_path(c[0], "GET", "/", "");          /* now c[1] is the longest idle */
    assert_answer(a, 200, "ok");
    say(c[2], "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");   /* this one is not idle */
    turns(&r, 5);
    c[MOST] = dial(&r);
    a = ask_path(c[MOST], "GET", "/", "");
    assert_answer(a, 200, "ok");
    assert_int_equal(r.closes, 1);
    assert_int_equal(r.closed_with.status, HSB_ERR_LIMIT);
    hear_end(c[1]);
    assert_true(!c[1]->ssl || c[1]->notified);
    for (int i = MOST + 1; i < MOST + 3; i++) {
        c[i] = dial(&r);
        a = ask_path(c[i], "GET", "/", "");
        assert_answer(a, 200, "ok");
    }
    assert_int_equal(r.closes, 3);
    hear_end(c[3]);
    hear_end(c[4]);
    a = ask_path(c[0], "GET", "/", "");
    assert_answer(a, 200, "ok");
    assert_int_equal(hsb_server_connections(r.server).total, MOST);
    hsb_ticket_resume(ticket, answer_now, NULL);
    a = hear_answer(c[2], false);
    assert_answer(a, 200, "later");
    for (int i = 0; i < MOST + 3; i++)
        hang_up(c[i]);
    turn_until(&r, all_closed, "the end");
    rig_close(&r);
}

/* Where nobody is idle the newcomer waits, and is served when there is room. */
static void test_connections_all_busy(void **state)
{
    rig r = { .on_request = on_request };
    hsb_options o = { .limits.connections = 2 };
    hsb_ticket first;
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r), *d = dial(&r);
    say(c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    while (r.requests < 1)
        turn(&r, 1);
    first = ticket;
    say(d, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    while (r.requests < 2)
        turn(&r, 1);
    client *e = client_new(&r, r.port, 0);
    let_pass(&r, 50);
    assert_int_equal(r.accepts, 2);
    int ms = hsb_server_timeout(r.server);
    assert_true(ms < 0 || ms > 1000);                   /* nor does it look again and again */
    hsb_ticket_resume(first, answer_now, NULL);
    answer a = hear_answer(c, false);
    assert_answer(a, 200, "later");
    hang_up(c);
    if (r.secure)
        assert_true(client_handshake(e));
    a = ask_path(e, "GET", "/", "");
    assert_answer(a, 200, "ok");
    hsb_ticket_resume(ticket, answer_now, NULL);
    a = hear_answer(d, false);
    assert_answer(a, 200, "later");
    hang_up(d);
    hang_up(e);
    turn_until(&r, all_closed, "the end");
    assert_int_equal(r.accepts, 3);
    rig_close(&r);
}

/* The same, but room comes because the busy one becomes idle. */
static void test_connections_become_idle(void **state)
{
    rig r = { .on_request = on_request };
    hsb_options o = { .limits.connections = 1 };
    rig_open(&r, &o, is_secure(state));
    client *c = dial(&r);
    say(c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    while (r.requests < 1)
        turn(&r, 1);
    client *e = client_new(&r, r.port, 0);
    let_pass(&r, 30);
    assert_int_equal(r.accepts, 1);
    hsb_ticket_resume(ticket, answer_now, NULL);
    answer a = hear_answer(c, false);
    assert_answer(a, 200, "later");
    if (r.secure)
        assert_true(client_handshake(e));
    a = ask_path(e, "GET", "/", "");
    assert_answer(a, 200, "ok");
    hear_end(c);
    assert_int_equal(r.closes, 1);
    hang_up(c);
    hang_up(e);
    rig_close(&r);
}

static void test_requests(void **state)
{
    rig r = { .on_request = on_request };
    hsb_options o = { .limits.requests = 3 };
    rig_open(&r, &o, is_secure(state));
    for (int n = 0; n < 2; n++) {
        client *c = dial(&r);
        for (int i = 1; i <= 3; i++) {
            answer a = ask_path(c, "GET", "/", "");
            assert_int_equal(fields_of(&a, "Connection"), i == 3);
            assert_answer(a, 200, "ok");
        }
        hear_end(c);
        assert_true(c->ended && (!c->ssl || c->notified));
        hang_up(c);
    }
    client *c = dial(&r);                               /* all at once: three are answered */
    say(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET / "
           "HTTP/1.1\r\nHost: x\r\n\r\n"
           "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        answer a = hear_answer(c, false);
        assert_answer(a, 200, "ok");
    }
    hear_end(c);
    assert_int_equal(c->len, 0);
    assert_true(c->ended);
    assert_int_equal(r.requests, 9);
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TLS(test_handshake), BOTH(test_head), BOTH(test_body), BOTH(test_body_rate),
        BOTH(test_application_takes_its_time), BOTH(test_pauses_do_not_set_the_clock_back), BOTH(test_steady_reader),
        BOTH(test_steady_reader_below_the_rate),
        BOTH(test_reader), BOTH(test_reader_of_the_last_answer), BOTH(test_reader_takes_its_time),
        BOTH(test_idle), BOTH(test_no_limits), BOTH(test_sleeps), BOTH(test_own_loop), BOTH(test_connections),
        BOTH(test_connections_all_busy), BOTH(test_connections_become_idle), BOTH(test_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
