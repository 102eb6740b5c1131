/* >>body: length and chunks.  Every input is fed whole, byte by byte and in random parts,
   from copies that end at a guard page: data, end and what is left over must be the same. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "random.h"

#include "help.h"

enum { EXTENSIONS = 16 };       /* bytes of extensions allowed here                        */

typedef struct outcome {
    char   data[512];
    size_t len, used;           /* of data; of the input                                   */
    char   end[64];             /* "done", "trailers", "more", "400 reason"                */
} outcome;

static void take_data(outcome *o, hsb_str part, const char *from, size_t used)
{
    assert_true(part.ptr >= from && part.ptr + part.len == from + used);
    assert_within(part.len, 1, sizeof o->data - o->len);
    memcpy(o->data + o->len, part.ptr, part.len);
    o->len += part.len;
}

/* One piece of the input; false: the end was reached. */
static bool feed(hsb__body *b, outcome *o, const char *bytes, size_t len)
{
    const char *copy = guard_copy(bytes, len);
    for (size_t at = 0;;) {
        size_t used;
        hsb_str part;
        hsb__body_event event = hsb__body_read(b, copy + at, len - at, &used, &part);
        assert_within(used, 0, len - at);
        o->used += used;
        if (event == HSB__BODY_DATA)
            take_data(o, part, copy + at, used);
        at += used;
        if (event == HSB__BODY_DATA)
            continue;
        if (event == HSB__BODY_MORE) {
            assert_int_equal(at, len);
            return true;
        }
        if (event == HSB__BODY_BAD)
            snprintf(o->end, sizeof o->end, "%d %s", b->status, hsb__body_reason(b));
        else
            strcpy(o->end, event == HSB__BODY_DONE ? "done" : "trailers");
        assert_int_equal(hsb__body_read(b, copy, len, &used, &part), event);    /* an end is an end */
        assert_int_equal(used, 0);
        return false;
    }
}

/* In parts of at most `most` bytes, empty ones among them; most 0: whole. */
static outcome play(hsb__body b, const char *bytes, size_t len, size_t most)
{
    outcome o;
    memset(&o, 0, sizeof o);
    strcpy(o.end, "more");
    size_t at = 0;
    bool more = feed(&b, &o, bytes, 0);
    while (more && at < len) {
        size_t n = most == 0 ? len : most == 1 ? 1 : random_below(most + 1);
        n = n < len - at ? n : len - at;
        more = feed(&b, &o, bytes + at, n);
        at += n;
    }
    return o;
}

static void check(hsb__body b, const char *bytes, size_t len, const char *data, const char *end,
                  size_t left)
{
    for (size_t round = 0; round < 24; round++) {
        outcome o = play(b, bytes, len, round);
        if (o.len != strlen(data) || memcmp(o.data, data, o.len) || strcmp(o.end, end) ||
            len - o.used != left)
            fail_msg("%s\nin parts of at most %zu: \"%.*s\" %s, %zu left; wanted \"%s\" %s, %zu", bytes,
                     round, (int)o.len, o.data, o.end, len - o.used, data, end, left);
    }
}

static void chunked(const char *bytes, const char *data, const char *end, size_t left)
{
    hsb__body b;
    hsb__body_start(&b, true, -1, EXTENSIONS);
    check(b, bytes, strlen(bytes), data, end, left);
}

static void length(int64_t announced, const char *bytes, const char *data, const char *end, size_t left)
{
    hsb__body b;
    hsb__body_start(&b, false, announced, EXTENSIONS);
    check(b, bytes, strlen(bytes), data, end, left);
}

/* RFC 9112 6.2 */
static void test_length(void **state)
{
    (void)state;
    length(0, "", "", "done", 0);
    length(0, "abc", "", "done", 3);
    length(3, "", "", "more", 0);
    length(3, "ab", "ab", "more", 0);
    length(3, "abc", "abc", "done", 0);
    length(3, "abcGET", "abc", "done", 3);
    length(INT64_MAX, "abc", "abc", "more", 0);
}

/* RFC 9112 7.1 */
static void test_chunks(void **state)
{
    (void)state;
    chunked("", "", "more", 0);
    chunked("0\r\n", "", "trailers", 0);
    chunked("0\r\n\r\n", "", "trailers", 2);
    chunked("000\r\n\r\n", "", "trailers", 2);
    chunked("5\r\nhello\r\n0\r\n\r\n", "hello", "trailers", 2);
    chunked("5\r\nhello\r\n", "hello", "more", 0);
    chunked("5\r\nhello", "hello", "more", 0);
    chunked("5\r\nhel", "hel", "more", 0);
    chunked("1\r\na\r\n2\r\nbc\r\n00\r\nA: b\r\n\r\n", "abc", "trailers", 8);
    chunked("a\r\n0123456789\r\nA\r\nabcdefghij\r\n0\r\n", "0123456789abcdefghij", "trailers", 0);
    chunked("000000000000005\r\nhello\r\n0\r\n", "hello", "trailers", 0);
    chunked("2\r\n\r\n\r\n0\r\n", "\r\n", "trailers", 0);
    chunked("7FFFFFFFFFFFFFF\r\nabc", "abc", "more", 0);
    chunked("fffffffffffffff\r\nabc", "abc", "more", 0);
}

static void test_bad_chunks(void **state)
{
    static const char no_number[] = "400 chunk size is not a number";
    static const char malformed[] = "400 chunk size is malformed";
    static const char large[] = "413 chunk size is too large";
    static const char extension[] = "400 chunk extension is malformed";
    static const char longer[] = "400 chunk is longer than its size";
    static const char no_lf[] = "400 CR without LF";
    (void)state;
    chunked("\r\n", "", no_number, 1);
    chunked("\n", "", no_number, 0);
    chunked(";a\r\n", "", no_number, 3);
    chunked(" 5\r\n", "", no_number, 3);
    chunked("g\r\n", "", no_number, 2);
    chunked("-1\r\n", "", no_number, 3);
    chunked("+1\r\n", "", no_number, 3);
    chunked("0x5\r\n", "", malformed, 3);
    chunked("5h\r\n", "", malformed, 2);
    chunked("5 \r\nhello", "", extension, 6);
    chunked("5\t\r\n", "", extension, 1);
    chunked("5 5\r\n", "", extension, 2);
    chunked("5,5\r\n", "", malformed, 3);
    chunked("5\nhello\r\n", "", malformed, 7);
    chunked("5\n", "", malformed, 0);
    chunked("5\rhello\r\n", "", no_lf, 6);
    chunked("5\r\r\n", "", no_lf, 1);
    chunked("1000000000000000\r\n", "", large, 2);
    chunked("0000000000000000fffffffffffffff0\r\n", "", large, 2);
    chunked("ffffffffffffffff\r\n", "", large, 2);
    chunked("10000000000000005\r\n", "", large, 3);
    chunked("5\r\nhello0\r\n", "hello", longer, 2);
    chunked("5\r\nhello\n0\r\n", "hello", longer, 3);
    chunked("5\r\nhello \r\n", "hello", longer, 2);
    chunked("5\r\nhello\r0", "hello", no_lf, 0);
    chunked("5\r\nhello\r\r\n", "hello", no_lf, 1);
    chunked("5\r\nhello\r\n\r\n", "hello", no_number, 1);
    chunked("3\r\nabc\r\n0\n\r\n", "abc", malformed, 2);
}

/* RFC 9112 7.1: any number of zeros, within the limit that extensions have as well. */
static void test_leading_zeros(void **state)
{
    static const char too_long[] = "431 chunk extensions are too long";
    char line[64];
    (void)state;
    for (int zeros = 0; zeros <= 15 + EXTENSIONS; zeros++) {
        bool fits = zeros < 15 + EXTENSIONS;
        snprintf(line, sizeof line, "%0*d5\r\nhello\r\n0\r\n", zeros, 0);
        chunked(zeros ? line : "5\r\nhello\r\n0\r\n", fits ? "hello" : "", fits ? "trailers" : too_long,
                fits ? 0 : 12);
    }
    chunked("0000000000000000\r\n", "", "trailers", 0);
    chunked("0000000000000000fffffffffffffff\r\nabc", "abc", "more", 0);
    for (int chunk = 0; chunk < 100; chunk++) {         /* a fixed width costs nothing */
        hsb__body b;
        hsb__body_start(&b, true, -1, 0);
        check(b, "000000000000001\r\na\r\n000000000000001\r\nb\r\n", 38, "ab", "more", 0);
    }
}

/* RFC 9112 7.1.1: *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ) */
static void test_extensions(void **state)
{
    static const char *const good[] = {
        "", ";a", ";a;b", " ;a", "\t \t;a", "; a", ";\ta", ";a=b", ";a=b;c=d", ";a = b", ";a\t=\tb",
        ";a=b ;c", ";a ;b", ";a=\"\"", ";a=\"b\"", ";a=\"b\";c", ";a=\"b\" ;c", ";a= \"b;c\"",
        ";a=\"\\\"\"", ";a=\"\\\\\"", ";a=\"\\\x80\"", ";a=\"\xC3\xA9\t \"", ";!#$%&'*+-.^_`", ";|~=1",
    };
    static const char *const bad[] = {
        ";", ";;a", ";a;", ";a;;b", " ", "\t", ";a ", ";a=b ", ";a=\"b\" ", ";=", ";=b", ";a=", ";a= ",
        ";a=;b", ";a==b", ";a=b=c", ";a b", ";a=b c", ";a=\"", ";a=\"b", ";a=\"b\\\"", ";a=\"b\"c",
        ";a=\"b\"\"c\"", ";\"a\"", ";a\"b\"", ";a=b\"c\"", ";\xC3\xA9", ";a=\xC3\xA9", ";a=(b)", ";a,b",
        ";a=\"\x01\"", ";a=\"\x7F\"", ";a=\"\\\x01\"", ";\x01", ";a\x7F", ";a\n", ";a=\"\n\"", ";a=\"\r\"",
        ";a=\"\r\n\"", "; ;a", ";a= ;b",
    };
    char line[64];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(line, sizeof line, "5%s\r\nhello\r\n0\r\n", good[i]);
        chunked(line, "hello", "trailers", 0);
        snprintf(line, sizeof line, "0%s\r\n", good[i]);
        chunked(line, "", "trailers", 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hsb__body b;
        hsb__body_start(&b, true, -1, EXTENSIONS);
        snprintf(line, sizeof line, "5%s\r\nhello\r\n0\r\n", bad[i]);
        outcome o = play(b, line, strlen(line), 0);
        if (strcmp(o.end, "400 chunk extension is malformed") || o.len)
            fail_msg("%s: \"%.*s\" %s", line, (int)o.len, o.data, o.end);
        check(b, line, strlen(line), "", o.end, strlen(line) - o.used);
    }
    chunked("5;a\rb\r\n", "", "400 CR without LF", 2);
}

static void test_long_extensions(void **state)
{
    static const char too_long[] = "431 chunk extensions are too long";
    (void)state;
    chunked("5;45678901234567\r\nhello\r\n0\r\n", "hello", "trailers", 0);
    chunked("1;456789012345678\r\na\r\n0\r\n", "a", "trailers", 0);
    chunked("1;4567890123456789\r\na\r\n0\r\n", "", too_long, 8);
    chunked("1;a=\"90123456789012\"\r\na\r\n0\r\n", "", too_long, 10);
    chunked("1;23456789\r\na\r\n1;345678\r\nb\r\n0\r\n", "ab", "trailers", 0);
    chunked("1;23456789\r\na\r\n1;3456789\r\nb\r\n0\r\n", "a", too_long, 8);     /* all together */
    chunked("1                ;\r\n", "", too_long, 2);
}

static void test_nul(void **state)
{
    static const char bytes[] = "3\r\na\0b\r\n1;\0\r\n";
    (void)state;
    for (size_t round = 0; round < 16; round++) {
        hsb__body b;
        hsb__body_start(&b, true, -1, EXTENSIONS);
        outcome o = play(b, bytes, sizeof bytes - 1, round);
        assert_int_equal(o.len, 3);
        assert_memory_equal(o.data, "a\0b", 3);
        assert_string_equal(o.end, "400 chunk extension is malformed");
    }
}

/* Any body put into chunks of any sizes, in any spelling, comes out as it was. */
static void test_random_bodies(void **state)
{
    (void)state;
    print_message("SEED=%llu\n", (unsigned long long)random_start(11));
    for (int round = 0; round < 3000; round++) {
        char body[200], wire[4096];
        size_t len = random_below(sizeof body), n = 0;
        for (size_t i = 0; i < len; i++)
            body[i] = (char)random_next();
        for (size_t at = 0; at < len;) {
            size_t part = 1 + random_below(len - at);
            n += (size_t)sprintf(wire + n, random_below(2) ? "%zx" : "%04zX", part);
            n += (size_t)sprintf(wire + n, "\r\n");
            memcpy(wire + n, body + at, part);
            n += part;
            n += (size_t)sprintf(wire + n, "\r\n");
            at += part;
        }
        n += (size_t)sprintf(wire + n, "0\r\nA: b\r\n\r\n");
        hsb__body b;
        hsb__body_start(&b, true, -1, 0);
        outcome o = play(b, wire, n, random_below(12));
        assert_string_equal(o.end, "trailers");
        assert_int_equal(o.len, len);
        assert_memory_equal(o.data, body, len);
    }
}

/* Whatever comes, the outcome is that of the whole. */
static void test_random_bytes(void **state)
{
    static const char alphabet[] = "0123aF;=\"\\ \t\r\n\r\n\r\nxyz";
    (void)state;
    for (int round = 0; round < 20000; round++) {
        char bytes[40];
        size_t len = random_below(sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = alphabet[random_below(sizeof alphabet)];
        hsb__body b;
        hsb__body_start(&b, round % 4 > 0, (int64_t)random_below(50), EXTENSIONS);
        outcome whole = play(b, bytes, len, 0);
        for (size_t most = 1; most < 9; most++) {
            outcome o = play(b, bytes, len, most);
            assert_memory_equal(&o, &whole, sizeof o);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_bad_chunks),
        cmocka_unit_test(test_leading_zeros),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_long_extensions),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_random_bodies),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
