/* >>websocket: messages and pings over a stream, to the application and from it.  The reader of
   frames, UTF-8, the handshake and the end have files of their own: websocket_*.c. */
#define HTTPSBIND_IMPLEMENTATION
extern void mock_assert(const int result, const char *const expression, const char *const file,
                        const int line);
#define HSB_ASSERT(condition) mock_assert((condition) != 0, #condition, __FILE__, __LINE__)
#include "httpsbind.h"

#include "websocket_bench.h"

/* --- messages --- */

/* "(T:abc" a part, "T:abc)" the last. */
static void on_fragment(hsb_websocket *ws, bool is_text, hsb_str part, bool last, void *user)
{
    (void)ws;
    assert_ptr_equal(user, &b);
    assert_true(part.len > 0 || last);
    assert_non_null(part.ptr);
    say(&b.heard, is_text ? last ? "T" : "(T" : last ? "B" : "(B", part);
    if (last)
        addf(&b.heard, ")");
}

static void test_messages(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    bench_feed("T:Hello b:%01 I:now M:%02 O:then T: T:*70000");
    assert_string_equal(bench_heard(), "T:Hello B:%01%02 O:then T: T:*70000");
    assert_string_equal(bench_sent(), "O:now");
    bench_end(NULL);
    assert_int_equal(b.closes, 1);
}

static void test_idle_holds_no_memory(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    size_t before = b.loop.memory.used;
    bench_feed("T:*5000 B:*100");
    assert_int_equal(b.loop.memory.used, before);
    bench_feed("t:*5000");
    assert_int_equal(b.loop.memory.used, before + 5000);
    bench_feed("I:a");                                      /* the pong takes a block of its own */
    bench_feed("M:a T:b");
    hsb__buffer_release(bench_out());
    hsb__pool_close(&b.loop.pool);
    assert_within(b.loop.memory.used, 1, before);
    bench_end(NULL);
}

static void test_fragments(void **state)
{
    (void)state;
    hsb_websocket_hooks hooks = whole_messages;
    hooks.on_fragment = on_fragment;
    bench_start(&hooks);
    bench_feed("T:Hello");
    assert_string_equal(bench_heard(), "T:Hello)");
    bench_feed("t:Hel M:lo");
    assert_string_equal(bench_heard(), "(T:Hel T:lo)");
    bench_feed("b:a m: M:");
    assert_string_equal(bench_heard(), "(B:a B:)");
    bench_feed("t: M: T:");
    assert_string_equal(bench_heard(), "T:) T:)");
    bench_feed("B:*10000");                                 /* at most 4096 at once */
    assert_string_equal(bench_heard(), "(B:*4096 (B:*4096 B:*1808)");
    bench_feed("B:*4096");
    assert_string_equal(bench_heard(), "B:*4096)");
    bench_feed("#828500000000 #6162");                      /* as they come */
    assert_string_equal(bench_heard(), "(B:ab");
    bench_feed("#636465");
    assert_string_equal(bench_heard(), "B:cde)");
    bench_feed("t:%C3 I: M:%A4 T:%C3");
    assert_string_equal(bench_heard(), "(T:%C3 T:%A4)");
    assert_string_equal(bench_sent(), "O: C1007:text%20is%20not%20UTF-8");
    bench_end(NULL);
}

static void test_nobody_listens(void **state)
{
    (void)state;
    static const hsb_websocket_hooks none;
    bench_start(&none);
    bench_feed("T:Hello O:a I:b B:*10000");
    assert_string_equal(bench_sent(), "O:b");
    bench_feed("T:%FF");
    assert_string_equal(bench_sent(), "C1007:text%20is%20not%20UTF-8");
    bench_end(NULL);
}

static void test_limits(void **state)
{
    (void)state;
    static const struct { int64_t limit; const char *in, *heard; } cases[] = {
        { 100, "T:*100 T:*101", "T:*100" }, { 100, "t:*50 M:*51", "" },
        { 1, "T:a T: T:ab", "T:a T:" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hsb_websocket_hooks hooks = whole_messages;
        hooks.message_bytes = cases[i].limit;
        bench_start(&hooks);
        bench_feed(cases[i].in);
        assert_string_equal(bench_heard(), cases[i].heard);
        assert_string_equal(bench_sent(), "C1009:message%20too%20big");
        bench_end(NULL);
    }
    assert_int_equal(hsb__websocket_limit(0), 1 << 20);
    assert_int_equal(hsb__websocket_limit(-1), INT64_MAX);
    assert_int_equal(hsb__websocket_limit(5), 5);
}

/* --- sending --- */

static void test_print_head(void **state)
{
    (void)state;
    static const struct {
        bool last; unsigned opcode; uint64_t len; size_t n; const char *bytes;
    } cases[] = {
        { true, 1, 0, 2, "\x81\x00" }, { false, 1, 5, 2, "\x01\x05" },
        { true, 2, 125, 2, "\x82\x7D" }, { true, 2, 126, 4, "\x82\x7E\x00\x7E" },
        { true, 0, 256, 4, "\x80\x7E\x01\x00" },             /* 5.7: 256 bytes in one frame */
        { false, 0, 65535, 4, "\x00\x7E\xFF\xFF" },
        { true, 2, 65536, 10, "\x82\x7F\0\0\0\0\0\x01\x00\x00" },    /* 5.7: 64 KiB */
        { true, 9, 0, 2, "\x89\x00" }, { true, 10, 5, 2, "\x8A\x05" },
        { true, 8, 2, 2, "\x88\x02" },
        { true, 2, 0x0102030405060708, 10, "\x82\x7F\x01\x02\x03\x04\x05\x06\x07\x08" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[10];
        size_t n = hsb__websocket_print_head(out, cases[i].last, cases[i].opcode, cases[i].len);
        assert_int_equal(n, cases[i].n);
        assert_memory_equal(out, cases[i].bytes, n);
    }
}

static void test_send(void **state)
{
    (void)state;
    static char bytes[70000];
    memset(bytes, 'x', sizeof bytes);
    bench_start(&whole_messages);
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("Hello")), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_send(b.ws, false, hsb__text_make("\0\1", 2)), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_absent()), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_ping(b.ws, hsb__text_of("now")), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_ping(b.ws, hsb__text_make(bytes, 125)), HSB_FLOW_GO);
    assert_string_equal(bench_sent(), "T:Hello B:%00%01 T: I:now I:*125");
    assert_int_equal(hsb__websocket_send(b.ws, false, hsb__text_make(bytes, 126)), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_send(b.ws, false, hsb__text_make(bytes, 70000)),
                     HSB_FLOW_WAIT);
    assert_string_equal(bench_sent(), "B:*126 B:*70000");
    bench_end(NULL);
}

static void test_send_parts(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    hsb__websocket_send_part(b.ws, true, hsb__text_of("Hel"), false);
    hsb__websocket_ping(b.ws, hsb__text_absent());
    bench_feed("I:now");
    hsb__websocket_send_part(b.ws, true, hsb__text_absent(), false);
    hsb__websocket_send_part(b.ws, true, hsb__text_of("lo"), true);
    hsb__websocket_send_part(b.ws, false, hsb__text_of("a"), true);
    hsb__websocket_send_part(b.ws, false, hsb__text_of("b"), false);
    hsb__websocket_send_part(b.ws, false, hsb__text_absent(), true);
    hsb__websocket_send(b.ws, true, hsb__text_of("c"));
    assert_string_equal(bench_sent(), "t:Hel I: O:now m: M:lo B:a b:b M: T:c");
    bench_end(NULL);
}

static void test_misuse(void **state)
{
    (void)state;
    static char bytes[126];
    bench_start(&whole_messages);
    expect_assert_failure(hsb_websocket_ping(b.ws, hsb__text_make(bytes, 126)));
    expect_assert_failure(hsb_websocket_close(b.ws, 1004, hsb__text_absent()));
    expect_assert_failure(hsb_websocket_close(b.ws, 1015, hsb__text_absent()));
    expect_assert_failure(hsb_websocket_close(b.ws, 999, hsb__text_absent()));
    hsb__websocket_send_part(b.ws, true, hsb__text_of("a"), false);
    expect_assert_failure(hsb_websocket_send(b.ws, true, hsb__text_of("b")));
    hsb__websocket_send_part(b.ws, true, hsb__text_of("c"), true);
    assert_string_equal(bench_sent(), "t:a M:c");
    bench_end(NULL);
}

/* A head is never the write after WAIT that makes its payload one too many. */
static void test_large_message_after_go(void **state)
{
    (void)state;
    static char bytes[17 * 65536];
    bench_start(&whole_messages);
    hsb_flow flow = hsb__websocket_send(b.ws, false, hsb__text_make(bytes, 65536 - 8));
    assert_int_equal(flow, HSB_FLOW_GO);
    flow = hsb__websocket_send(b.ws, false, hsb__text_make(bytes, sizeof bytes));
    assert_int_equal(flow, HSB_FLOW_WAIT);
    assert_false(hsb__stream_gone(b.stream));
    flow = hsb__websocket_send(b.ws, false, hsb__text_of("one too many"));
    assert_int_equal(flow, HSB_FLOW_GONE);
    assert_int_equal(b.why.status, HSB_ERR_LIMIT);
    hsb__buffer_release(bench_out());
    bench_end(&b.why);
    assert_string_equal(bench_heard(), "C1006:stream%20written%20on%20after%20HSB_FLOW_WAIT");
}

static void fill(void)
{
    static char bytes[65536];
    assert_int_equal(hsb__websocket_send(b.ws, false, hsb__text_make(bytes, sizeof bytes)),
                     HSB_FLOW_WAIT);
}

/* 5.5.3: behind a full queue only the latest ping is answered. */
static void test_pongs_are_bounded(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    bench_feed("I:1 I:2");
    assert_string_equal(bench_sent(), "O:1 O:2");
    fill();
    size_t before = hsb__buffer_len(bench_out());
    for (int i = 0; i < 1000; i++)
        bench_feed("I:*125 I:3 I:4");
    assert_int_equal(hsb__buffer_len(bench_out()), before);
    bench_sent();
    assert_string_equal(bench_heard(), "");
    bench_drain();
    assert_string_equal(bench_sent(), "O:4");
    assert_string_equal(bench_heard(), "drain");
    bench_drain();
    assert_string_equal(bench_sent(), "");
    bench_feed("I:5");
    assert_string_equal(bench_sent(), "O:5");
    bench_end(NULL);
}

/* And when its own pongs fill the queue, the user hears of room only when there is some. */
static void test_pongs_fill_the_queue(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    for (int i = 0; i < 2000; i++)
        bench_feed("I:*125");
    assert_within(hsb__buffer_len(bench_out()), 65536, 65536 + 127);
    bench_drain();                                  /* said too early: still too much */
    assert_string_equal(bench_heard(), "");
    bench_sent();
    bench_drain();
    assert_string_equal(bench_heard(), "drain");
    bench_end(NULL);
}

static void test_set_user(void **state)
{
    (void)state;
    hsb_websocket_hooks hooks = whole_messages;
    hooks.user = NULL;
    bench_start(&hooks);
    hsb__websocket_set_user(b.ws, &b);
    bench_feed("T:a");                                      /* on_message checks it */
    assert_string_equal(bench_heard(), "T:a");
    bench_end(NULL);
}

/* --- when memory is short --- */

static int allocations_left;

static void *short_alloc(size_t size, void *user)
{
    (void)user;
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void short_release(void *p, size_t size, void *user)
{
    (void)size;
    (void)user;
    free(p);
}

/* The nth allocation fails, for every n: opened and working, or answered, or cut; never half. */
static void test_memory_is_short(void **state)
{
    (void)state;
    static const char *const ours[] = { "chat", NULL };
    char head[512];
    hsb_websocket_hooks hooks = whole_messages;
    bool worked = false;
    hooks.subprotocols = ours;
    snprintf(head, sizeof head, "%.*sSec-WebSocket-Protocol: chat\r\n\r\n",
             (int)sizeof usual_head - 3, usual_head);
    for (int n = 0; !worked; n++) {
        assert_within(n, 0, 50);
        bench_request(head);
        b.loop.memory.user.alloc = short_alloc;
        b.loop.memory.user.release = short_release;
        allocations_left = n;
        bench_open(&hooks);
        if (b.ws) {
            bench_feed("T:*5000");
            worked = strcmp(b.heard.bytes, "T:*5000") == 0;
            assert_int_equal(worked, !hsb__stream_gone(b.stream));
        } else {
            assert_true(b.req.status == 500 || b.req.sending == HSB__ABORTED);
        }
        bench_end(NULL);
        assert_int_equal(b.closes, b.ws != NULL);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_idle_holds_no_memory),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_print_head),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_send_parts),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_large_message_after_go),
        cmocka_unit_test(test_pongs_are_bounded),
        cmocka_unit_test(test_pongs_fill_the_queue),
        cmocka_unit_test(test_set_user),
        cmocka_unit_test(test_memory_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
