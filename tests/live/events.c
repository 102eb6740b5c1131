/* Events to many readers, some of which read nothing until all that lies between is full: the others
   hear every event, memory stays small, and a slow reader loses no part of one.  First the page of
   examples/dashboard.c, with an event in each turn of the loop instead of one a second; then a program of the
   cookbook's kind, which cuts who is too slow, and one that does not care. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"

/* --- the dashboard -------------------------------------------------------------------------- */
static int waits;                       /* writes that have said HSB_FLOW_WAIT                  */

static hsb_flow counted(hsb_flow flow)
{
    waits += flow == HSB_FLOW_WAIT;
    return flow;
}

#define main dashboard
#define answer answer_dashboard         /* the name of a type in client.h                   */
#define hsb_request_after(req, ms, fn, arg)  hsb_request_after(req, 0 * (ms), fn, arg)
#define hsb_response_writef(req, ...)        counted(hsb_response_writef(req, __VA_ARGS__))
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include "../../examples/dashboard.c"
#pragma GCC diagnostic pop
#undef main
#undef answer
#undef hsb_request_after
#undef hsb_response_writef

/* The sockets of slow ones take little; in one that small a quick one would wait for its own ACKs. */
enum { QUICK = 3, SLOW = 3, QUEUED = 4096, SMALL = 4096, BEHIND = 100 };

/* What the readers may cost: what is queued, in a buffer that may be twice as large, as much again for
   the smaller ones that it grew out of, which the pool keeps, and records.  A quick one queues little. */
static size_t bound(bool secure, int times)
{
    size_t records = (QUICK + SLOW) * (secure ? 131072 : 16384);
    return 4 * QUEUED * (QUICK + SLOW * (size_t)times) + records;
}

/* How many events each of the quick ones has heard, and where the last one is in its text. */
static int    heard_events[QUICK];
static size_t heard_to[QUICK];

/* Some turns of the server, and all that the quick ones can read.  The least that one of them has. */
static int hear_quick(rig *r, client **quick)
{
    int least = INT_MAX;
    turn(r, 1);
    turns(r, 9);
    for (int i = 0; i < QUICK; i++) {
        while (hear_some(quick[i]) > 0)
            ;
        for (const char *at; (at = strstr(quick[i]->got + heard_to[i], "data: ")) != NULL; heard_events[i]++)
            heard_to[i] = (size_t)(at - quick[i]->got) + 1;
        least = heard_events[i] < least ? heard_events[i] : least;
    }
    return least;
}

static void open_for_events(rig *r, const hsb_options *o, bool secure)
{
    memset(heard_events, 0, sizeof heard_events);
    memset(heard_to, 0, sizeof heard_to);
    rig_open(r, o, secure);
}

static void hear_quick_to(rig *r, client **quick, int count)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    while (hear_quick(r, quick) < count)
        if (clock_ms() > end)
            fail_msg("the others hear nothing");
}

static void on_dashboard(rig *r, hsb_request *req)
{
    (void)r;
    answer_dashboard(req, NULL);
}

static void on_dashboard_drain(rig *r, hsb_request *req)
{
    (void)r;
    tell(req, NULL);
}

static client *read_dashboard(rig *r, bool narrow)
{
    client *c = narrow ? dial_narrow(r) : dial(r);
    say(c, "GET /events HTTP/1.1\r\nHost: x\r\nCookie: __Host-session=0123456789012345678901\r\n\r\n");
    hear_until(c, "data: ");
    return c;
}

/* Nothing of an event is missing: between "data: " and the end of the chunk are three numbers. */
static void check_events(const char *text)
{
    int events = 0, a, b, c, used;
    for (const char *at = text; (at = strstr(at, "data: ")) != NULL; at++, events++) {
        used = 0;
        if (!strstr(at, "\n\n"))
            break;                      /* the last one is on its way                       */
        if (sscanf(at, "data: %d %d %d\n\n%n", &a, &b, &c, &used) != 3 || used == 0)
            fail_msg("no event: \"%.40s\"", at);
    }
    assert_true(events > 10);
}

static void test_dashboard(void **state)
{
    rig r = { .on_request = on_dashboard, .on_drain = on_dashboard_drain };
    hsb_options o = { .limits.queued_bytes = QUEUED, .timeouts.write = 5000 };
    client *quick[QUICK], *slow[SLOW];
    strcpy(sessions[0].token, "0123456789012345678901");
    sessions[0].until = time(NULL) + 3600;
    waits = 0;
    open_for_events(&r, &o, is_secure(state));
    for (int i = 0; i < QUICK; i++)
        quick[i] = read_dashboard(&r, false);
    r.send_buffer = SMALL;
    for (int i = 0; i < SLOW; i++)
        slow[i] = read_dashboard(&r, true);
    size_t before = hsb_server_memory(r.server);
    int64_t end = clock_ms() + PATIENCE_MS;
    while (waits < SLOW) {              /* each of them waits once                          */
        hear_quick(&r, quick);
        if (clock_ms() > end)
            fail_msg("only %d of %d are full, %d are gone", waits, SLOW, r.finishes);
    }
    size_t full = hsb_server_memory(r.server);
    assert_true(full < before + bound(r.secure, 1));
    hear_quick_to(&r, quick, hear_quick(&r, quick) + 200);
    assert_int_equal(waits, SLOW);      /* nothing was written to who waits                 */
    assert_int_equal(r.drains, 0);
    assert_true(hsb_server_memory(r.server) <= full + QUEUED);
    /* One of them reads again, and goes on where it was. */
    size_t had = slow[0]->len;
    for (end = clock_ms() + PATIENCE_MS; r.drains == 0 || slow[0]->len < had + 20000;) {
        hear_quick(&r, quick);
        hear_some(slow[0]);
        if (clock_ms() > end)
            fail_msg("it does not go on");
    }
    check_events(slow[0]->got);
    /* The others are cut in the end, and nobody else. */
    while (r.finishes < SLOW - 1) {
        hear_quick(&r, quick);
        hear_some(slow[0]);
        if (clock_ms() > end)
            fail_msg("only %d of them are cut", r.finishes);
    }
    assert_int_equal(r.finished_with.status, HSB_ERR_TIMEOUT);
    hear_quick_to(&r, quick, hear_quick(&r, quick) + 200);
    assert_int_equal(r.finishes, SLOW - 1);
    for (int i = 0; i < QUICK; i++) {
        check_events(quick[i]->got);
        hang_up(quick[i]);
    }
    for (int i = 0; i < SLOW; i++)
        hang_up(slow[i]);
    rig_close(&r);
}

/* --- one event for all that listen ------------------------------------------------------------ */
static hsb_request *listeners[QUICK + SLOW];
static int listener_count, cut_by_us;
static bool careless;

static void forget_listener(rig *r, hsb_request *req, const hsb_error *why)
{
    (void)r, (void)why;
    for (int i = 0; i < listener_count; i++)
        if (listeners[i] == req)
            listeners[i--] = listeners[--listener_count];
}

static void add_listener(rig *r, hsb_request *req)
{
    (void)r;
    hsb_response_header(req, "Content-Type", "text/event-stream");
    hsb_response_begin(req, 200, -1);
    hsb_response_write(req, hsb_text("data: welcome\n\n"));
    listeners[listener_count++] = req;
}

static void tell_listeners(int number)
{
    for (int i = 0; i < listener_count; i++)
        if (hsb_response_writef(listeners[i], "data: %d\n\n", number) == HSB_FLOW_WAIT && !careless) {
            hsb_conn_close(hsb_request_conn(listeners[i]), true);
            cut_by_us++;
        }
}

/* Every event in its order. */
static void check_numbers(const char *text, int count)
{
    char wanted[32];
    for (int i = 1; i <= count; i++) {
        snprintf(wanted, sizeof wanted, "data: %d\n\n", i);
        text = strstr(text, wanted);
        if (!text)
            fail_msg("event %d is missing", i);
    }
}

static void tell_many(bool secure)
{
    rig r = { .on_request = add_listener, .on_finish = forget_listener };
    hsb_options o = { .limits.queued_bytes = QUEUED };
    client *c[QUICK + SLOW];
    int number = 0;
    listener_count = cut_by_us = 0;
    open_for_events(&r, &o, secure);
    for (int i = 0; i < QUICK + SLOW; i++) {
        r.send_buffer = i < QUICK ? 0 : SMALL;
        c[i] = i < QUICK ? dial(&r) : dial_narrow(&r);
        say(c[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        hear_until(c[i], "welcome");
    }
    size_t before = hsb_server_memory(r.server), most = 0;
    int64_t end = clock_ms() + PATIENCE_MS;
    while (r.finishes < SLOW) {
        /* The quick ones are quick as long as the machine delivers: they are waited for. */
        if (hear_quick(&r, c) > number - BEHIND)
            for (int i = 0; i < 20; i++)
                tell_listeners(++number);
        most = hsb_server_memory(r.server) > most ? hsb_server_memory(r.server) : most;
        if (clock_ms() > end)
            fail_msg("only %d of them are cut", r.finishes);
    }
    assert_true(careless ? cut_by_us == 0 : cut_by_us >= SLOW);
    assert_true(!careless || r.finished_with.status == HSB_ERR_LIMIT);
    assert_true(most < before + bound(secure, careless ? 16 : 1));
    hear_quick_to(&r, c, 1 + number);           /* and the welcome                              */
    assert_int_equal(listener_count, QUICK);
    for (int i = 0; i < QUICK + SLOW; i++) {
        if (i < QUICK)
            check_numbers(c[i]->got, number);
        hang_up(c[i]);
    }
    rig_close(&r);
}

static void test_who_is_too_slow_is_cut(void **state)
{
    careless = false;
    tell_many(is_secure(state));
}

static void test_who_writes_on_is_stopped(void **state)
{
    careless = true;
    tell_many(is_secure(state));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_dashboard), BOTH(test_who_is_too_slow_is_cut), BOTH(test_who_writes_on_is_stopped),
    };
    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
