/* >>websocket: the close handshake and other ends, RFC 6455 5.5.1 and 7. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "websocket_bench.h"

/* --- the close handshake --- */

static void test_code_is_good(void **state)
{
    (void)state;
    for (int code = -1; code <= 70000; code++) {
        bool good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                    (code >= 3000 && code < 5000);
        assert_int_equal(hsb__websocket_code_is_good(code), good);
    }
}

static void test_print_close(void **state)
{
    (void)state;
    char out[HSB__WEBSOCKET_CONTROL], longer[200];
    assert_int_equal(hsb__websocket_print_close(out, 1000, hsb__text_absent()), 2);
    assert_memory_equal(out, "\x03\xE8", 2);
    assert_int_equal(hsb__websocket_print_close(out, 4999, hsb__text_of("bye")), 5);
    assert_memory_equal(out, "\x13\x87" "bye", 5);
    assert_int_equal(hsb__websocket_print_close(out, 0, hsb__text_of("lost with its code")), 0);
    assert_int_equal(hsb__websocket_print_close(out, 1005, hsb__text_of("bye")), 0);
    assert_int_equal(hsb__websocket_print_close(out, 1006, hsb__text_of("bye")), 0);
    memset(longer, 'x', sizeof longer);
    assert_int_equal(hsb__websocket_print_close(out, 1000, hsb__text_make(longer, 200)), 125);
    assert_int_equal(hsb__websocket_print_close(out, 1000, hsb__text_make(longer, 123)), 125);
    memcpy(longer + 122, "\xC3\xA4", 2);                    /* a character over the border */
    assert_int_equal(hsb__websocket_print_close(out, 1000, hsb__text_make(longer, 200)), 124);
}

static void test_peer_closes(void **state)
{
    (void)state;
    static const struct { const char *in, *answer, *heard; } cases[] = {
        { "C1000:bye", "C1000:", "C1000:bye" }, { "C:", "C:", "C1005:" },
        { "C4321:%C3%A4", "C4321:", "C4321:%C3%A4" },
        { "C1001: T:late I:late", "C1001:", "C1001:" },
        { "t:half C1000:", "C1000:", "C1000:" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench_start(&whole_messages);
        bench_feed(cases[i].in);
        assert_string_equal(bench_sent(), cases[i].answer);
        assert_int_equal(b.stream->channel.ending, HSB__ENDS);
        assert_string_equal(bench_heard(), "");             /* not before the stream has closed */
        assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("late")), HSB_FLOW_GONE);
        bench_feed("T:later");
        hsb__websocket_close(b.ws, 1000, hsb__text_absent());
        assert_string_equal(bench_sent(), "");
        bench_end(NULL);
        assert_string_equal(bench_heard(), cases[i].heard);
        assert_int_equal(b.closes, 1);
    }
}

/* 5.5.1: the answer does not wait for the end of a message that we are sending. */
static void test_peer_closes_within_our_message(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    hsb__websocket_send_part(b.ws, true, hsb__text_of("Hel"), false);
    bench_feed("C1000:");
    assert_int_equal(hsb__websocket_send_part(b.ws, true, hsb__text_of("lo"), true), HSB_FLOW_GONE);
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("to all")), HSB_FLOW_GONE);
    assert_string_equal(bench_sent(), "t:Hel C1000:");
    assert_true(hsb__stream_gone(b.stream));
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1000:");
    bench_start(&whole_messages);                           /* nor is it misuse after a cut */
    hsb__websocket_send_part(b.ws, true, hsb__text_of("Hel"), false);
    hsb__stream_close(b.stream, true);
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("to all")), HSB_FLOW_GONE);
    bench_sent();
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1006:");
}

static void test_we_close(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    hsb__stream_pause(b.stream);
    hsb__websocket_close(b.ws, 1001, hsb__text_of("going away"));
    assert_false(b.stream->channel.paused); /* or the peer's Close would not be read */
    hsb__websocket_close(b.ws, 1002, hsb__text_of("again"));
    assert_string_equal(bench_sent(), "C1001:going%20away");
    assert_false(hsb__stream_gone(b.stream));                        /* 7.1.1: the peer's is awaited */
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("late")), HSB_FLOW_GONE);
    assert_int_equal(hsb__websocket_send_part(b.ws, true, hsb__text_of("late"), true),
                     HSB_FLOW_GONE);
    assert_int_equal(hsb__websocket_ping(b.ws, hsb__text_absent()), HSB_FLOW_GONE);
    bench_feed("T:before%20I%20knew I:a C1001:all%20right");
    assert_string_equal(bench_sent(), "O:a");               /* 5.5.2, but 5.5.1: one Close */
    assert_true(hsb__stream_gone(b.stream));
    assert_string_equal(bench_heard(), "T:before%20I%20knew");
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1001:all%20right");
}

/* 7.4.1: 1005 and 1006 are never sent, but who relays has them from the other side. */
static void test_we_close_without_code(void **state)
{
    static const int codes[] = { 0, 1005, 1006 };
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        bench_start(&whole_messages);
        hsb__websocket_close(b.ws, codes[i], hsb__text_of("lost"));
        assert_string_equal(bench_sent(), "C:");
        bench_feed("C1000:");
        bench_end(NULL);
        assert_string_equal(bench_heard(), "C1000:");
    }
}

static void test_close_is_not_awaited_for_ever(void **state)
{
    (void)state;
    hsb_error late = { HSB_ERR_TIMEOUT, 0, 0, "timed out" };
    bench_start(&whole_messages);
    hsb__websocket_close(b.ws, 1000, hsb__text_absent());
    uint64_t now = hsb__os_now_us() / 1000;
    hsb__timers_advance(&b.loop.timers, now + 1500);
    assert_false(hsb__stream_gone(b.stream));
    hsb__timers_advance(&b.loop.timers, now + 2500);        /* timeouts.close is 2 s */
    assert_true(hsb__stream_gone(b.stream));
    bench_end(&late);
    assert_string_equal(bench_heard(), "C1006:no%20Close%20of%20the%20peer%20in%20time");
}

static void test_close_is_awaited_if_told_so(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    b.loop.options.timeouts.close = -1;
    hsb__websocket_close(b.ws, 1000, hsb__text_absent());
    hsb__timers_advance(&b.loop.timers, hsb__os_now_us() / 1000 + 1000000);
    assert_false(hsb__stream_gone(b.stream));
    bench_end(NULL);
}

static void close_from_hook(bench *bench_now)
{
    hsb__websocket_close(bench_now->ws, 1000, hsb__text_of("enough"));
}

static void test_close_in_a_hook(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    b.answer = close_from_hook;
    bench_feed("T:a T:b C1000:");
    assert_string_equal(bench_sent(), "C1000:enough");
    bench_end(NULL);
    assert_string_equal(bench_heard(), "T:a T:b C1000:");
}

static void cut_from_hook(bench *bench_now)
{
    hsb__stream_close(bench_now->stream, true);
}

/* The stream is the user's, too: when he cuts it, what follows in the same part is not told. */
static void test_cut_in_a_hook(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    b.answer = cut_from_hook;
    bench_feed("T:a T:b C1000:");
    assert_string_equal(bench_sent(), "");
    bench_end(NULL);
    assert_string_equal(bench_heard(), "T:a C1006:");
}

static void test_failures(void **state)
{
    (void)state;
    static const struct { const char *in, *answer, *heard; } cases[] = {
        { "T!:Hello", "C1002:frame%20without%20a%20mask", "C1006:frame%20without%20a%20mask" },
        { "T:a Tr4:b T:c", "C1002:reserved%20bit%20set", "T:a C1006:reserved%20bit%20set" },
        { "T:%FF T:c", "C1007:text%20is%20not%20UTF-8", "C1006:text%20is%20not%20UTF-8" },
        { "C999:", "C1002:code%20not%20allowed%20in%20a%20Close",
          "C1006:code%20not%20allowed%20in%20a%20Close" },
        { "C1000:%FF", "C1007:reason%20is%20not%20UTF-8", "C1006:reason%20is%20not%20UTF-8" },
        { "C:%03", "C1002:half%20a%20code%20in%20a%20Close",
          "C1006:half%20a%20code%20in%20a%20Close" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench_start(&whole_messages);
        bench_feed(cases[i].in);
        assert_true(hsb__stream_gone(b.stream));
        bench_feed("T:after C1000:");                       /* 7.1.7 */
        assert_string_equal(bench_sent(), cases[i].answer);
        bench_end(NULL);
        assert_string_equal(bench_heard(), cases[i].heard);
        assert_int_equal(b.closes, 1);
    }
}

/* 5.5.1: also when it goes wrong after our Close, there is only one. */
static void test_failure_after_our_close(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    hsb__websocket_close(b.ws, 1000, hsb__text_absent());
    bench_feed("T!:a");
    assert_string_equal(bench_sent(), "C1000:");
    assert_true(hsb__stream_gone(b.stream));
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1006:frame%20without%20a%20mask");
}

static void test_cut_off(void **state)
{
    (void)state;
    hsb_error reset = { HSB_ERR_CLOSED, ECONNRESET, 0, "reset by peer" };
    bench_start(&whole_messages);
    bench_feed("t:half");
    bench_end(&reset);
    assert_string_equal(bench_heard(), "C1006:reset%20by%20peer");

    bench_start(&whole_messages);                           /* the end, but no Close */
    b.stream->hooks.on_end(b.stream, b.ws);
    assert_true(hsb__stream_gone(b.stream));
    assert_string_equal(bench_sent(), "");
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1006:ended%20without%20a%20Close");

    bench_start(&whole_messages);                           /* the end after the Close */
    bench_feed("C1000:");
    b.stream->hooks.on_end(b.stream, b.ws);
    bench_end(&reset);
    assert_string_equal(bench_heard(), "C1000:");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code_is_good),
        cmocka_unit_test(test_print_close),
        cmocka_unit_test(test_peer_closes),
        cmocka_unit_test(test_peer_closes_within_our_message),
        cmocka_unit_test(test_we_close),
        cmocka_unit_test(test_we_close_without_code),
        cmocka_unit_test(test_close_is_not_awaited_for_ever),
        cmocka_unit_test(test_close_is_awaited_if_told_so),
        cmocka_unit_test(test_close_in_a_hook),
        cmocka_unit_test(test_cut_in_a_hook),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_failure_after_our_close),
        cmocka_unit_test(test_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
