/* The memory of a request in a running server: how long it lives, that it costs no allocation
   once the server is warm, its limit, and what happens when there is none. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

static int allocs;                      /* asked for                                       */
static int failing = -1;                /* so many more allocations succeed; -1: all       */

static int count_call(const char *call, size_t *bytes)
{
    (void)bytes;
    if (strcmp(call, "alloc") != 0)
        return 0;
    allocs++;
    return failing < 0 || failing-- > 0 ? 0 : ENOMEM;
}

#define HSB_FAULT(call, count) count_call(call, count)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"

/* Larger than what the pool keeps: it comes from the allocator, and goes back to it. */
enum { LARGE = 200000 };

static char *large;
static size_t held;                     /* bytes of the server with it                     */

static void take_large(rig *r, hsb_request *req)
{
    large = hsb_request_alloc(req, LARGE);
    assert_non_null(large);
    memset(large, 0x55, LARGE);
    held = r->heap.bytes;
    assert_true(held > LARGE);
}

/* Still whole, and more may be asked for. */
static void large_is_there(rig *r, hsb_request *req, const hsb_error *why)
{
    (void)why;
    assert_true(r->heap.bytes >= LARGE);
    for (size_t i = 0; i < LARGE; i++)
        assert_int_equal(large[i], 0x55);
    hsb_str line = hsb_request_format(req, "%s %d", "finished", r->finishes);
    assert_non_null(line.ptr);
    assert_int_equal(strlen(line.ptr), line.len);
}

static bool large_is_gone(const rig *r)
{
    return r->finishes == 1 && r->heap.bytes < held - LARGE + LARGE / 2;
}

static void take_and_answer(rig *r, hsb_request *req)
{
    take_large(r, req);
    hsb_respond(req, 200, "text/plain", hsb_text("hello\n"));
}

static void take_and_wait(rig *r, hsb_request *req)
{
    take_large(r, req);
    hsb_response_begin(req, 200, -1);
    hsb_response_write(req, hsb_text("..."));
}

static hsb_ticket ticket;

static void take_and_defer(rig *r, hsb_request *req)
{
    take_large(r, req);
    ticket = hsb_request_defer(req);
}

static void answer_later(hsb_request *req, void *arg)
{
    (void)arg;
    large_is_there(hsb_server_options(hsb_conn_server(hsb_request_conn(req))).hooks.user, req, NULL);
    hsb_respond(req, 200, "text/plain", hsb_text("hello\n"));
}

static void take_and_abort(rig *r, hsb_request *req)
{
    take_large(r, req);
    hsb_response_abort(req);
}

static void take_and_detach(rig *r, hsb_request *req)
{
    hsb_stream_hooks hooks = { 0 };
    take_large(r, req);
    assert_non_null(hsb_request_detach(req, 101, &hooks));
}

static void must_answer(answer a, int status, const char *body)
{
    assert_answer(a, status, body);
}

static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

static void it_is_gone_when_the_answer_is_out(void **state)
{
    rig r = { .on_request = take_and_answer, .on_finish = large_is_there };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    must_answer(ask(c, get), 200, "hello\n");
    turn_until(&r, large_is_gone, "the memory is released, the connection stays");
    assert_int_equal(r.closes, 0);
    hang_up(c);
    rig_close(&r);
}

static void it_lives_while_a_ticket_is_open(void **state)
{
    rig r = { .on_request = take_and_defer, .on_finish = large_is_there };
    (void)state;
    rig_open(&r, NULL, false);
    client *c = dial(&r);
    say(c, get);
    while (r.requests == 0)
        turn(&r, 1);
    turns(&r, 5);
    assert_true(r.heap.bytes >= held);
    assert_true(hsb_ticket_resume(ticket, answer_later, NULL));
    must_answer(hear_answer(c, false), 200, "hello\n");
    turn_until(&r, large_is_gone, "the memory is released");
    hang_up(c);
    rig_close(&r);
}

/* Each way in which a request ends without its answer. */
static void it_is_gone_however_the_request_ends(void **state)
{
    static const struct {
        void (*on_head)(rig *, hsb_request *), (*on_request)(rig *, hsb_request *);
        const char *text;
        bool        client_goes;
    } cases[] = {
        { NULL, take_and_abort, get, false },
        { take_large, NULL, get, false },                           /* nobody answers: 500 */
        { take_large, NULL, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234", true },
        { take_large, NULL, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n", false },
        { take_large, NULL, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", false },
        { NULL, take_and_wait, get, true },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rig r = { .on_head = cases[i].on_head, .on_request = cases[i].on_request,
                  .on_finish = large_is_there };
        rig_open(&r, NULL, false);
        client *c = dial(&r);
        say(c, cases[i].text);
        while (r.heads == 0)
            turn(&r, 1);
        if (cases[i].client_goes)
            cut_off(c);
        turn_until(&r, large_is_gone, "the memory is released");
        if (!cases[i].client_goes)
            hang_up(c);
        rig_close(&r);
    }
}

static void it_is_gone_with_the_server(void **state)
{
    rig r = { .on_request = take_and_defer, .on_finish = large_is_there };
    (void)state;
    rig_open(&r, NULL, false);
    client *c = dial(&r);
    say(c, get);
    while (r.requests == 0)
        turn(&r, 1);
    hsb_server_free(r.server);
    r.server = NULL;
    hsb_ticket_drop(ticket);
    client_free(c);
    rig_close(&r);                      /* which counts the blocks                         */
}

/* The request is over at once; its connection goes on for long. */
static void it_does_not_stay_with_a_stream(void **state)
{
    rig r = { .on_request = take_and_detach, .on_finish = large_is_there };
    (void)state;
    rig_open(&r, NULL, false);
    client *c = dial(&r);
    say(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: line\r\n\r\n");
    turn_until(&r, large_is_gone, "the memory is released");
    assert_int_equal(r.closes, 0);
    hang_up(c);
    rig_close(&r);
}

/* --- one after the other ------------------------------------------------------------------- */
static void answer_in_request_memory(rig *r, hsb_request *req)
{
    unsigned char *bytes = hsb_request_alloc(req, 5000);
    (void)r;
    assert_non_null(bytes);
    for (size_t i = 0; i < 5000; i++)           /* of no request before */
        assert_int_equal(bytes[i], 0);
    memset(bytes, 0xEE, 5000);
    hsb_str text = hsb_request_html(req, hsb_request_percent(req, hsb_request_path(req)));
    for (int i = 0; i < 20; i++)
        text = hsb_request_format(req, "%.*s%d", (int)text.len, text.ptr, i % 10);
    hsb_respond(req, 200, "text/plain", text);
}

static void pipelined_requests_have_their_own(void **state)
{
    rig r = { .on_request = answer_in_request_memory };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    for (int i = 0; i < 5; i++) {
        say(c, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
               "GET /c HTTP/1.1\r\nHost: x\r\n\r\n");
        must_answer(hear_answer(c, false), 200, "%2Fa01234567890123456789");
        must_answer(hear_answer(c, false), 200, "%2Fb01234567890123456789");
        must_answer(hear_answer(c, false), 200, "%2Fc01234567890123456789");
    }
    hang_up(c);
    rig_close(&r);
}

static void a_warm_server_allocates_nothing_for_it(void **state)
{
    rig r = { .on_request = answer_in_request_memory };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    must_answer(ask_path(c, "GET", "/a", ""), 200, "%2Fa01234567890123456789");
    allocs = 0;
    for (int i = 0; i < 100; i++)
        must_answer(ask_path(c, "GET", "/a", ""), 200, "%2Fa01234567890123456789");
    assert_true(allocs == 0 || HSB__POOL_KEEP == 0);
    hang_up(c);
    rig_close(&r);
}

/* --- limits --------------------------------------------------------------------------------- */
static size_t most;

static void take_all(rig *r, hsb_request *req)
{
    (void)r;
    assert_null(hsb_request_alloc(req, most + 1));
    assert_null(hsb_request_alloc(req, SIZE_MAX));
    for (size_t taken = 0; taken < most; taken += 16384)
        assert_non_null(hsb_request_alloc(req, most - taken < 16384 ? most - taken : 16384));
    assert_null(hsb_request_alloc(req, 0));
    assert_null(hsb_request_format(req, "x").ptr);
    assert_null(hsb_request_html(req, hsb_text("x")).ptr);
    assert_null(hsb_request_percent(req, hsb_text("x")).ptr);
    hsb_respond(req, 200, "text/plain", hsb_text("all\n"));
}

static void take_much(rig *r, hsb_request *req)
{
    char *bytes = hsb_request_alloc(req, 5 << 20);
    (void)r;
    assert_non_null(bytes);
    bytes[(5 << 20) - 1] = 'x';
    hsb_respond(req, 200, "text/plain", hsb_text("much\n"));
}

static void the_limit_is_of_each_request(void **state)
{
    static const int limits[] = { 0, 100000, -1 };
    (void)state;
    for (int i = 0; i < 3; i++) {
        hsb_options options = { .limits.request_bytes = limits[i] };
        rig r = { .on_request = limits[i] < 0 ? take_much : take_all };
        most = limits[i] ? (size_t)limits[i] : 1048576;
        rig_open(&r, &options, false);
        assert_int_equal(hsb_server_options(r.server).limits.request_bytes,
                         limits[i] ? limits[i] : 1048576);
        client *c = dial(&r);
        for (int k = 0; k < 3; k++)
            must_answer(ask(c, get), 200, limits[i] < 0 ? "much\n" : "all\n");
        hang_up(c);
        rig_close(&r);
    }
}

/* --- without memory -------------------------------------------------------------------------- */
static int failures;

static void answer_with_what_there_is(rig *r, hsb_request *req)
{
    (void)r;
    failing = failures;
    void *bytes = hsb_request_alloc(req, 70000);
    hsb_str a = hsb_request_format(req, "%070000d", 7), b = hsb_request_html(req, a);
    hsb_str c = hsb_request_percent(req, hsb_text("a b"));
    failing = -1;
    assert_int_equal(bytes != NULL, failures > 0);
    assert_true(a.ptr ? a.len == 70000 && b.len <= 70000 : a.len == 0 && !b.ptr);
    assert_true(c.ptr ? hsb_equal(c, "a%20b") : c.len == 0);
    hsb_respond(req, 200, "text/plain", hsb_text(bytes && a.ptr && b.ptr && c.ptr ? "whole" : "part"));
}

static void without_memory_there_is_an_answer(void **state)
{
    (void)state;
    bool whole = false;
    for (failures = 0; !whole; failures++) {
        rig r = { .on_request = answer_with_what_there_is };
        assert_within(failures, 0, 20);
        rig_open(&r, NULL, false);
        client *c = dial(&r);
        answer a = ask(c, get);
        assert_int_equal(a.status, 200);
        whole = strcmp(a.body, "whole") == 0;
        answer_free(&a);
        hang_up(c);
        rig_close(&r);
    }
    assert_within(failures, 4, 20);
}

/* --- a form ------------------------------------------------------------------------------------ */
/* Before on_request it is not whole; the query always is. */
static void ask_too_early(rig *r, hsb_request *req)
{
    (void)r;
    assert_null(hsb_request_form_value(req, "a").ptr);
    assert_true(hsb_equal(hsb_request_query_value(req, "q"), "1 2"));
}

static void answer_with_the_form(rig *r, hsb_request *req)
{
    hsb_str a = hsb_request_form_value(req, "a"), b = hsb_request_form_value(req, "b");
    (void)r;
    assert_non_null(a.ptr);
    assert_non_null(b.ptr);
    hsb_respond(req, 200, "text/plain", hsb_request_format(req, "%s, %s", a.ptr, b.ptr));
}

/* The client went before it had sent all. */
static void the_form_has_nothing(rig *r, hsb_request *req, const hsb_error *why)
{
    if (r->requests)
        return;
    assert_non_null(why);
    assert_null(hsb_request_form_value(req, "a").ptr);
}

#define FORM "POST /?q=1+2 HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"

static void a_form_counts_when_it_is_whole(void **state)
{
    rig r = { .on_head = ask_too_early, .on_request = answer_with_the_form,
              .on_finish = the_form_has_nothing };
    rig_open(&r, NULL, is_secure(state));
    client *c = dial(&r);
    say(c, FORM "Content-Length: 9\r\n\r\na=1&b=");
    turns(&r, 3);
    cut_off(c);
    turn_until(&r, all_finished, "the end of half a request");
    assert_int_equal(r.requests, 0);
    c = dial(&r);
    must_answer(ask(c, FORM "Content-Length: 12\r\n\r\na=1&b=%C3%BC"), 200, "1, \xC3\xBC");
    hang_up(c);
    c = dial(&r);
    must_answer(ask(c, FORM "Transfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n4\r\n2&b=\r\n0\r\n\r\n"), 200, "12, ");
    hang_up(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(it_is_gone_when_the_answer_is_out),
        cmocka_unit_test(it_lives_while_a_ticket_is_open),
        cmocka_unit_test(it_is_gone_however_the_request_ends),
        cmocka_unit_test(it_is_gone_with_the_server),
        cmocka_unit_test(it_does_not_stay_with_a_stream),
        BOTH(pipelined_requests_have_their_own),
        BOTH(a_warm_server_allocates_nothing_for_it),
        cmocka_unit_test(the_limit_is_of_each_request),
        cmocka_unit_test(without_memory_there_is_an_answer),
        BOTH(a_form_counts_when_it_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
