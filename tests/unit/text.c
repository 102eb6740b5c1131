/* >>text: ASCII compare, classes of bytes, UTF-8, numbers, lists, base64, dates.  Inputs end at a guard
   page. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "random.h"

#include "help.h"

static hsb_str tight(const char *z)
{
    return hsb__text_make(guard_copy(z, strlen(z)), strlen(z));
}

static void test_make(void **state)
{
    (void)state;
    assert_int_equal(hsb__text_of("abc").len, 3);
    assert_int_equal(hsb__text_of("").len, 0);
    assert_non_null(hsb__text_of("").ptr);
    assert_null(hsb__text_of(NULL).ptr);
    assert_int_equal(hsb__text_of(NULL).len, 0);
    assert_null(hsb__text_absent().ptr);
    assert_int_equal(hsb__text_absent().len, 0);
}

static void test_equal(void **state)
{
    (void)state;
    assert_true(hsb__text_equal(tight("abc"), tight("abc")));
    assert_false(hsb__text_equal(tight("abc"), tight("abd")));
    assert_false(hsb__text_equal(tight("abc"), tight("ab")));
    assert_false(hsb__text_equal(tight("abc"), tight("ABC")));
    assert_true(hsb__text_equal(tight(""), hsb__text_absent()));
    assert_true(hsb__text_equal_nocase(tight("aBc"), tight("AbC")));
    assert_true(hsb__text_equal_nocase(tight(""), hsb__text_absent()));
    assert_false(hsb__text_equal_nocase(tight("abc"), tight("abcd")));
    assert_true(hsb__text_is(tight("abc"), "abc"));
    assert_false(hsb__text_is(tight("abc"), "abcd"));
    assert_true(hsb__text_is_nocase(tight("Host"), "hOST"));
    assert_false(hsb__text_is_nocase(hsb__text_absent(), "a"));
}

/* Only the letters of ASCII have two cases: not '@' and '`', nor what Latin-1 has above. */
static void test_lower(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        int wanted = c >= 'A' && c <= 'Z' ? c + 32 : c;
        assert_int_equal((unsigned char)hsb__text_lower((char)c), wanted);
    }
    assert_false(hsb__text_equal_nocase(tight("@"), tight("`")));
    assert_false(hsb__text_equal_nocase(tight("["), tight("{")));
    assert_false(hsb__text_equal_nocase(tight("\xC9"), tight("\xE9")));
}

#define DIGITS  "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* What the grammars of hsb__byte_classes list, and what they give as a range. */
static unsigned classes_of(int c)
{
    static const struct { unsigned class; const char *bytes; } listed[] = {
        { HSB__BYTE_DIGIT, DIGITS }, { HSB__BYTE_LETTER, LETTERS },
        { HSB__BYTE_TOKEN, "!#$%&'*+-.^_`|~" DIGITS LETTERS },
        { HSB__BYTE_NAME, "-._~!$&'()*+,;=" DIGITS LETTERS },
        { HSB__BYTE_LABEL, "-_" DIGITS LETTERS },
    };
    unsigned classes = 0;
    for (size_t i = 0; i < sizeof listed / sizeof *listed; i++)
        if (c != 0 && strchr(listed[i].bytes, c))
            classes |= listed[i].class;
    if (c == '\t' || (c >= 0x20 && c <= 0x7E) || c >= 0x80)
        classes |= HSB__BYTE_FIELD;
    if (c >= 0x21 && c <= 0x7E && c != '#')
        classes |= HSB__BYTE_TARGET;
    if (c == 0x21 || (c >= 0x23 && c <= 0x2B) || (c >= 0x2D && c <= 0x3A) ||
        (c >= 0x3C && c <= 0x5B) || (c >= 0x5D && c <= 0x7E))
        classes |= HSB__BYTE_COOKIE;
    return classes;
}

static void test_classes(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char text[1] = { (char)c };
        hsb_str s = hsb__text_make(guard_copy(text, 1), 1);
        unsigned wanted = classes_of(c);
        for (unsigned class = 1; class < 256; class *= 2) {
            assert_int_equal(hsb__byte_is((char)c, class), (wanted & class) != 0);
            assert_int_equal(hsb__byte_count(s, class), (wanted & class) != 0);
        }
        assert_int_equal(hsb__text_is_token(s), (wanted & HSB__BYTE_TOKEN) != 0);
        assert_int_equal(hsb__text_is_field_value(s), (wanted & HSB__BYTE_FIELD) != 0);
        assert_int_equal(hsb__byte_is_blank((char)c), c == ' ' || c == '\t');
    }
    assert_int_equal(hsb__byte_count(tight("12a3"), HSB__BYTE_DIGIT), 2);
    assert_int_equal(hsb__byte_count(tight("12a-3"), HSB__BYTE_DIGIT | HSB__BYTE_LETTER), 3);
    assert_int_equal(hsb__byte_count(hsb__text_absent(), HSB__BYTE_FIELD), 0);
    assert_false(hsb__text_is_token(tight("")));
    assert_true(hsb__text_is_token(tight("!#$%&'*+-.^_`|~" DIGITS LETTERS)));
    assert_false(hsb__text_is_token(tight("a b")));
    assert_true(hsb__text_is_field_value(tight("")));
    assert_false(hsb__text_is_field_value(tight("a\r\nb: c")));
}

static size_t encode(char out[4], uint32_t c)
{
    static const unsigned char lead[] = { 0, 0xC0, 0xE0, 0xF0 };
    size_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    for (size_t i = more; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(lead[more] | c);
    return more + 1;
}

/* RFC 3629 3.  The tests of WebSockets have every text that is not UTF-8. */
static void test_utf8_next(void **state)
{
    static const char *const bad[] = { "\x80", "\xC0\x80", "\xC1\xBF", "\xC3", ("\xC3" "a"), "\xE2\x82",
                                       "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xFF",
                                       "\xC3" "eight+ a" "\xA9", "\xE2\x82" "eight+ a" "\xAC" };
    uint32_t c;
    (void)state;
    for (uint32_t i = 0; i <= 0x10FFFF; i++) {
        char bytes[5];
        size_t len = encode(bytes, i);
        bytes[len] = 'x';
        hsb_str rest = hsb__text_make(bytes, len + 1);
        bool good = hsb__utf8_next(&rest, &c);
        if (good != (i < 0xD800 || i > 0xDFFF) || (good && (c != i || !hsb__text_is(rest, "x"))))
            fail_msg("U+%04X", i);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hsb_str rest = tight(bad[i]);
        assert_false(hsb__utf8_next(&rest, &c));
        assert_false(hsb__utf8_is(tight(bad[i])));
    }
    hsb_str none = hsb__text_absent();
    assert_false(hsb__utf8_next(&none, &c));
}

/* The first and last of each range, and their neighbours. */
static void test_utf8_hidden(void **state)
{
    static const uint32_t ranges[][2] = {
        { 0, 0x1F }, { 0x7F, 0x9F }, { 0xAD, 0xAD }, { 0x600, 0x605 }, { 0x61C, 0x61C },
        { 0x200B, 0x200F }, { 0x2028, 0x202E }, { 0x2060, 0x206F }, { 0xFEFF, 0xFEFF },
        { 0xFFF9, 0xFFFB }, { 0x1D173, 0x1D17A }, { 0xE0000, 0xE007F },
    };
    (void)state;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        assert_true(hsb__utf8_is_hidden(ranges[i][0]));
        assert_true(hsb__utf8_is_hidden(ranges[i][1]));
        assert_false(hsb__utf8_is_hidden(ranges[i][0] - 1));        /* U+FFFFFFFF is none, either  */
        assert_false(hsb__utf8_is_hidden(ranges[i][1] + 1));
    }
}

static void test_trim(void **state)
{
    static const struct { const char *in, *out; } list[] = {
        { "", "" }, { " ", "" }, { " \t \t", "" }, { "a", "a" }, { " a", "a" }, { "a\t", "a" },
        { "\t a b \t", "a b" }, { "\ra\n", "\ra\n" } };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        assert_true(hsb__text_is(hsb__text_trim(tight(list[i].in)), list[i].out));
    assert_null(hsb__text_trim(hsb__text_absent()).ptr);
}

static void test_hex(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        int wanted = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                   : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        assert_int_equal(hsb__text_hex((char)c), wanted);
    }
}

static void test_decimal(void **state)
{
    static const struct { const char *in; int64_t max, out; } list[] = {        /* -1: refused */
        { "0", 0, 0 }, { "1", 0, -1 }, { "7", 9, 7 }, { "007", 9, 7 }, { "10", 9, -1 },
        { "65535", 65535, 65535 }, { "65536", 65535, -1 }, { "99999", 65535, -1 },
        { "9223372036854775807", INT64_MAX, INT64_MAX }, { "9223372036854775808", INT64_MAX, -1 },
        { "9223372036854775810", INT64_MAX, -1 }, { "92233720368547758070", INT64_MAX, -1 },
        { "18446744073709551616", INT64_MAX, -1 }, { "18446744073709551621", INT64_MAX, -1 },
        { "00000000000000000000000000000000000012", 12, 12 },
        { "", 9, -1 }, { " 1", 9, -1 }, { "1 ", 9, -1 }, { "-1", 9, -1 }, { "+1", 9, -1 },
        { "1a", 99, -1 }, { "a", 99, -1 }, { "0x1", 99, -1 }, { "1.0", 99, -1 }, { "\xB2", 9, -1 } };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t n = 4711;
        bool good = hsb__text_decimal(tight(list[i].in), list[i].max, &n);
        assert_int_equal(good, list[i].out >= 0);
        if (good)
            assert_true(n == list[i].out);
    }
    int64_t n;
    assert_false(hsb__text_decimal(hsb__text_absent(), 9, &n));
}

static void test_number(void **state)
{
    static const struct { const char *in; int64_t out; } list[] = {         /* -1: refused */
        { "0", 0 }, { "007", 7 }, { "9223372036854775806", INT64_MAX - 1 },
        { "9223372036854775807", INT64_MAX }, { "9223372036854775808", INT64_MAX },
        { "18446744073709551621", INT64_MAX }, { "99999999999999999999999999999", INT64_MAX },
        { "00000000000000000000000000000000000012", 12 }, { "", -1 }, { "a", -1 }, { "-1", -1 },
        { "99999999999999999999999999999a", -1 }, { " 1", -1 } };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t n = 4711;
        bool good = hsb__text_number(tight(list[i].in), &n);
        assert_int_equal(good, list[i].out >= 0);
        if (good)
            assert_true(n == list[i].out);
    }
}

static void test_print(void **state)
{
    char out[21], wanted[32];
    uint64_t n = 0;
    (void)state;
    for (int i = 0; i < 2000; i++) {
        size_t len = hsb__text_print(out, n);
        snprintf(wanted, sizeof wanted, "%llu", (unsigned long long)n);
        assert_true(hsb__text_is(hsb__text_make(out, len), wanted));
        n = i < 20 ? n * 10 + 9 : random_next() >> random_below(64);
    }
    assert_int_equal(hsb__text_print(out, UINT64_MAX), 20);
}

static void check_list(const char *in, const char *wanted)
{
    hsb_str rest = tight(in), element;
    char out[256] = "";
    while (hsb__text_next_element(&rest, &element))
        snprintf(out + strlen(out), sizeof out - strlen(out), "[%.*s]", (int)element.len, element.ptr);
    assert_string_equal(out, wanted);
    assert_int_equal(rest.len, 0);
}

/* RFC 9110 5.6.1: empty elements are passed over */
static void test_list(void **state)
{
    hsb_str rest = hsb__text_absent(), element;
    (void)state;
    assert_false(hsb__text_next_element(&rest, &element));
    check_list("", "");
    check_list(" ,\t, ", "");
    check_list("a", "[a]");
    check_list("a,b", "[a][b]");
    check_list(" a , b c\t,, d", "[a][b c][d]");
    check_list("a;q=\"x,y\",b", "[a;q=\"x,y\"][b]");
    check_list("\"a\\\",b\",c", "[\"a\\\",b\"][c]");
    check_list("\"a,b", "[\"a,b]");
    check_list("\"a\\", "[\"a\\]");
    check_list("a\\,b", "[a\\][b]");
}

/* RFC 9110 5.6.7 */
static void test_date_text(void **state)
{
    static const struct { int64_t seconds; const char *text; } list[] = {
        { 0, "Thu, 01 Jan 1970 00:00:00 GMT" },
        { 784111777, "Sun, 06 Nov 1994 08:49:37 GMT" },
        { 951782400, "Tue, 29 Feb 2000 00:00:00 GMT" },
        { 951868799, "Tue, 29 Feb 2000 23:59:59 GMT" },
        { 1709164800, "Thu, 29 Feb 2024 00:00:00 GMT" },
        { 4107542400, "Mon, 01 Mar 2100 00:00:00 GMT" },
        { 253402300799, "Fri, 31 Dec 9999 23:59:59 GMT" },
        { -1, "Wed, 31 Dec 1969 23:59:59 GMT" } };
    char out[HSB__DATE_TEXT];
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t seconds = 4711;
        hsb__date_print(out, list[i].seconds);
        assert_string_equal(out, list[i].text);
        assert_true(hsb__date_parse(tight(out), 0, &seconds));
        assert_true(seconds == list[i].seconds);
    }
    hsb__date_print(out, INT64_MAX / 2);                /* nonsense, but 29 bytes of it */
    assert_int_equal(strlen(out), HSB__DATE_TEXT - 1);
    hsb__date_print(out, INT64_MIN / 2);
    assert_int_equal(strlen(out), HSB__DATE_TEXT - 1);
}

/* Every day of five centuries, against the C library. */
static void test_date_calendar(void **state)
{
    (void)state;
    for (int64_t day = -50000; day < 130000; day++) {
        int64_t seconds = day * 86400 + (day * 7919 % 86400 + 86400) % 86400;
        time_t t = (time_t)seconds;
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        hsb__date d = hsb__date_split(seconds);
        assert_true(d.year == tm.tm_year + 1900 && d.month == tm.tm_mon + 1 && d.day == tm.tm_mday);
        assert_true(d.hour == tm.tm_hour && d.minute == tm.tm_min && d.second == tm.tm_sec);
        assert_int_equal(d.weekday, tm.tm_wday);
        assert_true(hsb__date_days(d.year, d.month, d.day) == day);
    }
}

static void test_date_refused(void **state)
{
    static const char *const list[] = {
        "", "Sun, 06 Nov 1994 08:49:37 GM", "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sunday, 6-Nov-94 08:49:37 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37", "Sunday, 06-11-94 08:49:37 GMT", "S0nday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994", "Sun Nov   6 08:49:37 1994", "Sun Nov  0 08:49:37 1994",
        "Sun Nov  6 08:49:37 94", "Sun Nov  6 08:49:37 1994 GMT", "Sun, Nov  6 08:49:37 1994",
        ", 06 Nov 1994 08:49:37 GMT", "Su, 06 Nov 1994 08:49:37 GMT", "Sun", "Sun,", "Sun ",
        "Sun, 06 No", "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT", "Sun, 6  Nov 1994 08:49:37 GMT", "Sun, -6 Nov 1994 08:49:37 GMT",
        "Sun. 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08-49-37 GMT", "Sun, 06 Nov 19 4 08:49:37 GMT",
        "Sun, 06 vDe 1994 08:49:37 GMT" };
    int64_t seconds;
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (hsb__date_parse(tight(list[i]), 0, &seconds))
            fail_msg("taken for a date: %s", list[i]);
    assert_false(hsb__date_parse(hsb__text_absent(), 0, &seconds));
    assert_true(hsb__date_parse(tight("Sat, 31 Dec 2016 23:59:60 GMT"), 0, &seconds));
}

/* The forms of RFC 850 and of asctime, which a recipient must know. */
static void test_date_of_old(void **state)
{
    static const struct { const char *now, *text, *meant; } list[] = {
        { "Thu, 26 Nov 2026 00:00:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT" },
        { "Thu, 26 Nov 2026 00:00:00 GMT", "Wednesday, 01-Jan-76 00:00:00 GMT", "Wed, 01 Jan 2076 00:00:00 GMT" },
        { "Thu, 26 Nov 2026 00:00:00 GMT", "Saturday, 01-Jan-77 00:00:00 GMT", "Sat, 01 Jan 1977 00:00:00 GMT" },
        { "Thu, 26 Nov 2026 00:00:00 GMT", "Saturday, 01-Jan-00 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT" },
        { "Mon, 01 Jan 1990 00:00:00 GMT", "Friday, 31-Dec-99 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT" },
        { "Mon, 01 Jan 1990 00:00:00 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 GMT" },
        { "Mon, 01 Jan 1990 00:00:00 GMT", "Wed Nov 16 08:49:37 1994", "Wed, 16 Nov 1994 08:49:37 GMT" } };
    char out[HSB__DATE_TEXT];
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t now, seconds;
        assert_true(hsb__date_parse(tight(list[i].now), 0, &now));
        assert_true(hsb__date_parse(tight(list[i].text), now, &seconds));
        hsb__date_print(out, seconds);
        assert_string_equal(out, list[i].meant);
    }
}

/* --- base64 ------------------------------------------------------------------------------- */
static void test_base64(void **state)
{
    static const char *const cases[][3] = {         /* RFC 4648 10 */
        { "", "", "" }, { "f", "Zg==", "Zg" }, { "fo", "Zm8=", "Zm8" }, { "foo", "Zm9v", "Zm9v" },
        { "foob", "Zm9vYg==", "Zm9vYg" }, { "fooba", "Zm9vYmE=", "Zm9vYmE" },
        { "foobar", "Zm9vYmFy", "Zm9vYmFy" }, { "\xFB\xFF\xBF", "+/+/", "-_-_" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const hsb_str bytes = tight(cases[i][0]);
        char out[9], back[6];
        size_t len;
        hsb__base64_print(out, (const unsigned char *)bytes.ptr, bytes.len, false);
        assert_string_equal(out, cases[i][1]);
        hsb__base64_print(out, (const unsigned char *)bytes.ptr, bytes.len, true);
        assert_string_equal(out, cases[i][2]);
        assert_true(hsb__base64_read(tight(cases[i][1]), back, &len));
        assert_int_equal(len, bytes.len);
        assert_memory_equal(back, cases[i][0], len);
    }
}

static void test_base64_refused(void **state)
{
    static const char *const cases[] = {
        "Z", "Zg", "Zg=", "Zm8", "=", "==", "===", "====", "Z===", "Zg==Zg==", "Zg=a", "Z=g=", "=Zg=",
        "Zm9v=", "Zm9v====", "Zm9 ", " Zm9", "Zm9\n", "Zm9v\r\n", "-_-_", "Zm9\xC3", "Zg==\n\n\n\n",
        "Zh==", "Zv==", "ZgB=", "Zm9=",             /* 3.5: bits of no byte */
    };
    char out[64];
    size_t len;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (hsb__base64_read(tight(cases[i]), out, &len))
            fail_msg("%s", cases[i]);
    assert_false(hsb__base64_read(hsb__text_make("Zm\0v", 4), out, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_lower),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_utf8_next),
        cmocka_unit_test(test_utf8_hidden),
        cmocka_unit_test(test_trim),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_decimal),
        cmocka_unit_test(test_number),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base64_refused),
        cmocka_unit_test(test_date_text),
        cmocka_unit_test(test_date_calendar),
        cmocka_unit_test(test_date_refused),
        cmocka_unit_test(test_date_of_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
