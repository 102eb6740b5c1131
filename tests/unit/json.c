/* >>json: every text is whole or not, and is read where it ends at a page that must not be read. */
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"
#include "guard.h"

static bool is_whole(const char *text, size_t len)
{
    return hsb__json_is_whole(hsb__text_make(guard_copy(text, len), len));
}

static void whole_texts(void **state)
{
    static const char *const good[] = {
        "{}", "[]", "null", "true", "false", "0", "-0", "12", "-1.5e+10", "1E5", "0.25", "\"\"", " {} ",
        "\t\r\n[ 1 , 2 ]\n", "{\"a\":{\"b\":[1,{}]}}", "\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\ud83d\\ude00\"", "\"\xC3\xA9\"", "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", "[1,[],\"x\"]"
    };
    static const char *const bad[] = {
        "", " ", "{", "}", "[", "]", "{]", "[}", "[1,]", "[,1]", "{,}", "{\"a\"}", "{\"a\":}", "{a:1}",
        "{\"a\":1,}", "{'a':1}", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "NaN", "tru", "nulll",
        "\"", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"",
        "\"a\nb\"", "\"\x01\"", "\"\xFF\"", "\"\xC3\"", "\"\xED\xA0\x80\"", "{} {}", "1 2", "[1 2]",
        "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", "//", "\xEF\xBB\xBF{}"
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!is_whole(good[i], strlen(good[i])))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (is_whole(bad[i], strlen(bad[i])))
            fail_msg("accepted: %s", bad[i]);
    assert_false(is_whole("{}\0", 3));
    assert_false(is_whole("\"a\0\"", 4));
}

/* Cut anywhere, it is not whole; but for numbers, nothing is whole before its end. */
static void cut_texts(void **state)
{
    static const char text[] = "{\"a\":[1,true,\"\\u00e9\\ud83d\\ude00\"],\"b\":null}";
    (void)state;
    for (size_t len = 0; len < sizeof text - 1; len++)
        assert_false(is_whole(text, len));
    assert_true(is_whole(text, sizeof text - 1));
}

static void members(void **state)
{
    const hsb_str object = hsb__text_of("{ \"a\" : \"x\", \"b\":[1, {\"a\":2}],\"\\u0063\" : true, \"twice\":1,"
                                        "\"twice\":2, \"long\":\"0123456789\"}");
    char text[8];
    (void)state;
    assert_true(hsb__json_is_whole(object));
    assert_true(hsb__json_is(hsb__json_member(object, "a"), "x"));
    assert_false(hsb__json_is(hsb__json_member(object, "a"), "xy"));
    assert_true(hsb__text_is(hsb__json_member(object, "b"), "[1, {\"a\":2}]"));
    assert_true(hsb__text_is(hsb__json_member(object, "c"), "true"));
    assert_null(hsb__json_member(object, "d").ptr);
    assert_null(hsb__json_member(object, "twice").ptr);     /* which of the two? none */
    assert_null(hsb__json_member(hsb__text_of("[1]"), "a").ptr);
    assert_null(hsb__json_member(hsb__text_absent(), "a").ptr);
    assert_true(hsb__json_member_text(object, "a", text, sizeof text));
    assert_string_equal(text, "x");
    assert_false(hsb__json_member_text(object, "long", text, sizeof text));
    assert_string_equal(text, "");
    assert_false(hsb__json_member_text(object, "b", text, sizeof text));
}

static void lists(void **state)
{
    hsb_str rest = hsb__text_of(" [ 1 , \"a,]\" , [2,3] , {} ]"), value;
    static const char *const values[] = { "1", "\"a,]\"", "[2,3]", "{}" };
    size_t count = 0;
    (void)state;
    while (hsb__json_next(&rest, NULL, &value))
        assert_true(hsb__text_is(value, values[count++]));
    assert_int_equal(count, 4);
    rest = hsb__text_of("[]");
    assert_false(hsb__json_next(&rest, NULL, &value));
    rest = hsb__text_of("7");
    assert_false(hsb__json_next(&rest, NULL, &value));
}

static void texts(void **state)
{
    char out[16];
    (void)state;
    assert_true(hsb__json_text(hsb__text_of("\"\\u0041\\u00e9\\ud83d\\ude00\\n\""), out, sizeof out));
    assert_string_equal(out, "A\xC3\xA9\xF0\x9F\x98\x80\n");
    assert_false(hsb__json_text(hsb__text_of("\"a\\u0000b\""), out, sizeof out));
    assert_string_equal(out, "");
    assert_true(hsb__json_text(hsb__text_of("\"123456789012345\""), out, sizeof out));
    assert_false(hsb__json_text(hsb__text_of("\"1234567890123456\""), out, sizeof out));
    assert_false(hsb__json_text(hsb__text_of("12"), out, sizeof out));
}

static void written(void **state)
{
    unsigned char bytes[128];
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    (void)state;
    hsb__json_put_text(&out, "a\"b\\c\n\x01\xC3\xA9");
    assert_int_equal(out.len, strlen("\"a\\\"b\\\\c\\u000a\\u0001\xC3\xA9\""));
    assert_memory_equal(bytes, "\"a\\\"b\\\\c\\u000a\\u0001\xC3\xA9\"", out.len);
    hsb__der_out small = { bytes, 0, 4, false };
    hsb__json_put_text(&small, "abcd");
    assert_true(small.full);
}

/* RFC 4648 10 */
static void base64(void **state)
{
    static const struct { const char *text, *code; } cases[] = {
        { "f", "Zg" }, { "fo", "Zm8" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg" }, { "fooba", "Zm9vYmE" },
        { "foobar", "Zm9vYmFy" }, { "\xFB\xFF\xBF", "-_-_" }
    };
    static const char *const bad[] = { "", "A", "AAAAA", "A A", "!!!!", "AA=A" };
    unsigned char bytes[64];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hsb__der_out out = { bytes, 0, sizeof bytes, false };
        hsb__json_put_base64(&out, cases[i].text, strlen(cases[i].text));
        assert_int_equal(out.len, strlen(cases[i].code));
        assert_memory_equal(bytes, cases[i].code, out.len);
        assert_int_equal(hsb__json_base64(hsb__text_of(cases[i].code), bytes, sizeof bytes),
                         strlen(cases[i].text));
        assert_memory_equal(bytes, cases[i].text, strlen(cases[i].text));
    }
    assert_int_equal(hsb__json_base64(hsb__text_of("+/+/"), bytes, 64), 3);
    assert_int_equal(hsb__json_base64(hsb__text_of("Zm9vYg=="), bytes, 64), 4);
    assert_int_equal(hsb__json_base64(hsb__text_of("Zm9vYmFy"), bytes, 5), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(hsb__json_base64(hsb__text_of(bad[i]), bytes, 64), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_texts),
        cmocka_unit_test(cut_texts),
        cmocka_unit_test(members),
        cmocka_unit_test(lists),
        cmocka_unit_test(texts),
        cmocka_unit_test(written),
        cmocka_unit_test(base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
