/* >>websocket: text is UTF-8, and is judged as it comes (RFC 6455 8.1, RFC 3629). */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "websocket_player.h"

/* --- UTF-8 against a slow decoder --- */

/* RFC 3629 3, read literally: decode, then compare with the shortest form. */
static bool slow_utf8(const unsigned char *s, size_t len)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    while (len) {
        size_t n = *s < 0x80 ? 1 : (*s & 0xE0) == 0xC0 ? 2 : (*s & 0xF0) == 0xE0 ? 3
                 : (*s & 0xF8) == 0xF0 ? 4 : 0;
        if (n == 0 || n > len)
            return false;
        uint32_t c = n == 1 ? *s : *s & (0x7Fu >> n);
        for (size_t i = 1; i < n; i++) {
            if ((s[i] & 0xC0) != 0x80)
                return false;
            c = c << 6 | (s[i] & 0x3Fu);
        }
        if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
            return false;
        s += n;
        len -= n;
    }
    return true;
}

static bool same_utf8(const unsigned char *s, size_t len)
{
    return hsb__utf8_is(hsb__text_make((const char *)s, len)) == slow_utf8(s, len);
}

static void test_utf8_every_three_bytes(void **state)
{
    (void)state;
    unsigned char s[3];
    for (uint32_t n = 0; n < 1u << 24; n++) {
        s[0] = (unsigned char)(n >> 16);
        s[1] = (unsigned char)(n >> 8);
        s[2] = (unsigned char)n;
        if (!same_utf8(s, 3) || (s[2] == 0 && !same_utf8(s, 2)))
            fail_msg("%02X %02X %02X", s[0], s[1], s[2]);
    }
}

/* All leads of four with all second bytes, and the third and fourth at the borders. */
static void test_utf8_four_bytes(void **state)
{
    (void)state;
    static const unsigned char borders[] = { 0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F,
                                            0xA0, 0xBF, 0xC0, 0xFF };
    for (unsigned n = 0; n < 16 * 256 * 100; n++) {
        unsigned char s[4] = { (unsigned char)(0xF0 + n / 25600), (unsigned char)(n / 100 % 256),
                               borders[n / 10 % 10], borders[n % 10] };
        if (!same_utf8(s, 4))
            fail_msg("%02X %02X %02X %02X", s[0], s[1], s[2], s[3]);
    }
}

/* Every code point, in a place where it crosses the steps of eight. */
static void test_utf8_every_character(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char s[24] = "0123456789abcdefghijklm";
        char *at = s + c % 13;
        if (c < 0x80) {
            *at = (char)c;
        } else if (c < 0x800) {
            at[0] = (char)(0xC0 | c >> 6);
            at[1] = (char)(0x80 | (c & 0x3F));
        } else if (c < 0x10000) {
            at[0] = (char)(0xE0 | c >> 12);
            at[1] = (char)(0x80 | (c >> 6 & 0x3F));
            at[2] = (char)(0x80 | (c & 0x3F));
        } else {
            at[0] = (char)(0xF0 | c >> 18);
            at[1] = (char)(0x80 | (c >> 12 & 0x3F));
            at[2] = (char)(0x80 | (c >> 6 & 0x3F));
            at[3] = (char)(0x80 | (c & 0x3F));
        }
        if (hsb__utf8_is(hsb__text_make(s, 23)) != (c < 0xD800 || c > 0xDFFF))
            fail_msg("U+%04X", c);
    }
}

/* Good and bad texts, in every two frames, in every three parts of the input: the same
   judgement, and a bad byte is found where it is. */
static const char *const texts[] = {
    "%C3%A4", "a%E2%82%ACb", "%F0%9F%98%80%F0%9F%98%80", "%CE%BA%E1%BD%B9%CF%83%CE%BC%CE%B5",
    "0123456%F4%8F%BF%BF0123456", "%ED%9F%BF%EE%80%80", "abcdefgh%E2%82", "%CE%BA%ED%A0%80x",
    "a%F4%90%80%80", "%F0%8F%BF%BF", "%E2%28%A1", "abc%C0%80", "%F0%28%8C%BC", "%C3",
};

static void play_text_in_two_frames(const text *s, size_t cut, bool good)
{
    static text in, first, second;
    static player p;
    const frame open = { 0x01, 0, true }, last = { 0x80, 0, true };
    clear(&in);
    clear(&first);
    clear(&second);
    add(&first, s->bytes, cut);
    add(&second, s->bytes + cut, s->len - cut);
    write_frame(&in, &open, &first);
    write_frame(&in, &last, &second);
    for (size_t a = 0; a <= in.len; a++)
        for (size_t b = a; b <= in.len; b++) {
            player_start(&p, a % 2 == 0, USUAL);
            player_feed(&p, in.bytes, a);
            player_feed(&p, in.bytes + a, b - a);
            player_feed(&p, in.bytes + b, in.len - b);
            assert_int_equal(p.said.bytes[0], good ? 'T' : 'X');
            assert_int_equal(p.reader.bad, good ? 0 : 1007);
            player_end(&p);
        }
}

static void test_utf8_at_every_split(void **state)
{
    (void)state;
    static text s;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        clear(&s);
        read_payload(texts[i], &s);
        bool good = slow_utf8((const unsigned char *)s.bytes, s.len);
        for (size_t cut = 0; cut <= s.len; cut++)
            play_text_in_two_frames(&s, cut, good);
    }
}

static void test_utf8_start(void **state)
{
    (void)state;
    static const struct { const char *s; size_t max, len; } cases[] = {
        { "", 10, 0 }, { "abc", 10, 3 }, { "abc", 2, 2 }, { "abc", 0, 0 },
        { "a\xC3\xA4", 3, 3 }, { "a\xC3\xA4", 2, 1 }, { "\xE2\x82\xAC", 3, 3 },
        { "\xE2\x82\xAC", 2, 0 }, { "\xE2\x82\xAC", 1, 0 }, { "\xF0\x9F\x98\x80", 3, 0 },
        { "ab\xF0\x9F\x98", 10, 2 }, { "ab\xFF" "cd", 10, 2 }, { "ab\xE2\x82" "cd", 10, 2 },
        { "\x80", 10, 0 }, { "\xC3\xA4\xC3", 10, 2 }, { "\xED\xA0\x80", 10, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(hsb__utf8_start(hsb__text_of(cases[i].s), cases[i].max).len,
                         cases[i].len);
    assert_int_equal(hsb__utf8_start(hsb__text_absent(), 5).len, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_every_three_bytes),
        cmocka_unit_test(test_utf8_four_bytes),
        cmocka_unit_test(test_utf8_every_character),
        cmocka_unit_test(test_utf8_at_every_split),
        cmocka_unit_test(test_utf8_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
