/* >>proxy: headers of both versions, each of them cut at every byte, and every way to get one
   wrong.  Each piece ends at a page that may not be touched. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "guard.h"

#include "help.h"

/* --- tools --------------------------------------------------------------------------------- */
static const char request[] = "GET / HTTP/1.1\r\n\r\n";

static size_t take(hsb__proxy *p, const char *bytes, size_t len)
{
    return hsb__proxy_receive(p, hsb__text_make(guard_copy(bytes, len), len));
}

static void must_agree(const hsb__proxy *a, const hsb__proxy *b)
{
    assert_int_equal(a->len, b->len);
    assert_int_equal(a->whole, b->whole);
    assert_int_equal(a->named, b->named);
    assert_true(a->wrong == b->wrong);
    assert_memory_equal(&a->client, &b->client, sizeof a->client);
}

/* Whole, in two pieces cut at every byte, and byte by byte: the same every time, and what is
   behind the header is left alone.  Returns how many bytes were taken.                          */
static size_t play(hsb__proxy *out, const char *bytes, size_t len)
{
    hsb__proxy all, p;
    memset(&all, 0, sizeof all);
    size_t used = take(&all, bytes, len);
    assert_true(used <= len && used == all.len);
    for (size_t cut = 0; cut <= len; cut++) {
        memset(&p, 0, sizeof p);
        size_t first = take(&p, bytes, cut);
        assert_int_equal(first, cut < used ? cut : used);
        if (cut < used)
            assert_true(!p.whole && !p.wrong);
        assert_int_equal(first + take(&p, bytes + first, len - first), used);
        must_agree(&all, &p);
    }
    memset(&p, 0, sizeof p);
    for (size_t i = 0; i < used; i++)
        assert_int_equal(take(&p, bytes + i, 1), 1);
    must_agree(&all, &p);
    assert_int_equal(take(&p, "x", 1), all.whole || all.wrong ? 0 : 1);
    *out = all;
    return used;
}

/* client NULL: the real peer stays.                                                             */
static void good(const char *header, size_t len, const char *client)
{
    char bytes[8192], text[HSB_ADDRESS_TEXT_MAX];
    hsb__proxy p;
    memcpy(bytes, header, len);
    memcpy(bytes + len, request, sizeof request);
    size_t used = play(&p, bytes, len + sizeof request - 1);
    if (p.wrong)
        fail_msg("%.*s: %s", (int)len, header, p.wrong);
    assert_int_equal(used, len);
    assert_true(p.whole);
    assert_int_equal(p.named, client != NULL);
    if (client)
        assert_string_equal(hsb__address_text(&p.client, text), client);
}

static void bad(const char *header, size_t len, const char *why)
{
    hsb__proxy p;
    play(&p, header, len);
    if (!p.wrong)
        fail_msg("%.*s: was taken", (int)len, header);
    assert_string_equal(p.wrong, why);
}

/* --- version 1 ----------------------------------------------------------------------------- */
static void lines(void **state)
{
    static const struct { const char *line, *client; } rows[] = {
        { "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "192.0.2.1:56324" },
        { "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535" },
        { "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0" },
        { "PROXY TCP6 2001:db8::1 2001:DB8::2 1 443\r\n", "[2001:db8::1]:1" },
        { "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "65535 65535\r\n", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535" },
        { "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 7 8\r\n", "192.0.2.1:7" },
        { "PROXY UNKNOWN\r\n", NULL },
        { "PROXY UNKNOWN \r\n", NULL },
        { "PROXY UNKNOWN whatever it \x80 is\r\n", NULL },
        { "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "65535 65535\r\n", NULL },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        good(rows[i].line, strlen(rows[i].line), rows[i].client);
    assert_int_equal(strlen(rows[9].line), HSB__PROXY_LINE);        /* the longest there is          */
}

static void malformed_lines(void **state)
{
    static const char neither[] = "neither version 1 nor 2", apart[] = "CR and LF are apart",
                      kind[] = "neither TCP4, TCP6 nor UNKNOWN", address[] = "an address is invalid",
                      port[] = "a port is invalid", more[] = "more than two ports";
    static const struct { const char *line, *why; } rows[] = {
        { "GET / HTTP/1.1\r\n", neither },
        { "\x16\x03\x01\x02\x00\x01\x00\x01\xFC", neither },        /* a ClientHello               */
        { "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", neither },
        { "PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n", neither },
        { "PROXY\r\n", neither }, { " PROXY UNKNOWN\r\n", neither }, { "POST", neither },
        { "PROXY \r\n", kind }, { "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", kind },
        { "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", kind },
        { "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", kind },
        { "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", kind },
        { "PROXY UNKNOWNS\r\n", kind }, { "PROXY UNKNOWN\t1\r\n", kind },
        { "PROXY TCP4\r\n", address }, { "PROXY TCP4 \r\n", address },
        { "PROXY TCP4 192.0.2.1\r\n", address }, { "PROXY TCP4 192.0.2.1 \r\n", address },
        { "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", address },
        { "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", address },
        { "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", address },
        { "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", address },
        { "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", address },
        { "PROXY TCP4 192.0.2.1.1 192.0.2.2 1 2\r\n", address },
        { "PROXY TCP4 ::1 192.0.2.2 1 2\r\n", address },
        { "PROXY TCP4 192.0.2.1 ::1 1 2\r\n", address },
        { "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", address },
        { "PROXY TCP6 [::1] [::2] 1 2\r\n", address },
        { "PROXY TCP6 fe80::1%lo fe80::2%lo 1 2\r\n", address },
        { "PROXY TCP6 ::1 1:2:3:4:5:6:7:8:9 1 2\r\n", address },
        { "PROXY TCP6 :::1 ::2 1 2\r\n", address },
        { "PROXY TCP4 192.0.2.1 192.0.2.2\r\n", port }, { "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2  1 2\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1  2\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2x\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\t\r\n", port },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", more },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", more },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", apart },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rG", apart },
        { "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n", apart }, { "PROXY \n", apart },
        { "PROXY UNKNOWN\n", apart }, { "PROXY UNKNOWN \r \r\n", apart },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        bad(rows[i].line, strlen(rows[i].line), rows[i].why);
}

static void a_nul_is_no_end_of_a_text(void **state)
{
    static const char in_address[] = "PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n";
    static const char in_port[] = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\0\r\n";
    static const char in_unknown[] = "PROXY UNKNOWN \0\0\r\n";
    (void)state;
    bad(in_address, sizeof in_address - 1, "an address is invalid");
    bad(in_port, sizeof in_port - 1, "a port is invalid");
    good(in_unknown, sizeof in_unknown - 1, NULL);
}

static void a_line_has_107_bytes(void **state)
{
    char line[200] = "PROXY UNKNOWN ";
    hsb__proxy p;
    (void)state;
    memset(line + 14, 'x', sizeof line - 14);
    for (size_t len = 16; len < 120; len++) {
        memcpy(line + len - 2, "\r\n", 2);
        if (len <= 107)
            good(line, len, NULL);
        else
            bad(line, len, "the line is longer than 107 bytes");
        memset(line + len - 2, 'x', 2);
    }
    assert_int_equal(play(&p, line, sizeof line), 107);     /* and nobody waits for its end          */
    assert_string_equal(p.wrong, "the line is longer than 107 bytes");
}

/* --- version 2 ----------------------------------------------------------------------------- */
typedef struct header { char bytes[70000]; size_t len; } header;

static header begun(unsigned command, unsigned family)
{
    header h;
    static const uint8_t signature[] = "\r\n\r\n\0\r\nQUIT\n";
    memset(&h, 0, sizeof h);
    memcpy(h.bytes, signature, 12);
    h.bytes[12] = (char)command;
    h.bytes[13] = (char)family;
    h.len = 16;
    return h;
}

static void set_len(header *h, size_t len)
{
    h->bytes[14] = (char)(len >> 8);
    h->bytes[15] = (char)len;
}

static void add(header *h, const void *bytes, size_t len)
{
    memcpy(h->bytes + h->len, bytes, len);
    h->len += len;
    set_len(h, h->len - 16);
}

static void add_fact(header *h, unsigned type, size_t len)
{
    static const char value[70000];
    const uint8_t fact[3] = { (uint8_t)type, (uint8_t)(len >> 8), (uint8_t)len };
    add(h, fact, 3);
    add(h, value, len);
}

static const uint8_t v4[12] = { 192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 0x04, 0x01, 0xBB };
static const uint8_t v6[36] = { 0x20, 0x01, 0x0D, 0xB8, [15] = 1, [16] = 0x20, 0x01, 0x0D, 0xB8, [31] = 2,
                                [32] = 0xDC, 0x04, 0x01, 0xBB };

static header over_v4(void)
{
    header h = begun(0x21, 0x11);
    add(&h, v4, sizeof v4);
    return h;
}

static void binary_ones(void **state)
{
    static const uint8_t mapped[36] = { [10] = 0xFF, 0xFF, 192, 0, 2, 9, [32] = 0, 80 };
    uint8_t paths[216] = "/run/client.sock";
    header h = over_v4();
    (void)state;
    good(h.bytes, h.len, "192.0.2.1:56324");
    h = begun(0x21, 0x21);
    add(&h, v6, sizeof v6);
    good(h.bytes, h.len, "[2001:db8::1]:56324");
    h = begun(0x21, 0x21);
    add(&h, mapped, sizeof mapped);
    good(h.bytes, h.len, "192.0.2.9:80");
    h = begun(0x21, 0x31);
    add(&h, paths, sizeof paths);
    good(h.bytes, h.len, "unix:/run/client.sock");
    memset(paths, 0, sizeof paths);
    h = begun(0x21, 0x31);
    add(&h, paths, sizeof paths);
    good(h.bytes, h.len, "unix:");
    memcpy(paths + 1, "abstract", 8);
    h = begun(0x21, 0x31);
    add(&h, paths, sizeof paths);
    good(h.bytes, h.len, "unix:@abstract");
    memset(paths, 'x', sizeof paths);
    h = begun(0x21, 0x31);
    add(&h, paths, sizeof paths);
    hsb__proxy p;
    play(&p, h.bytes, h.len);
    assert_int_equal(strlen(p.client.path), 108);
}

/* haproxy's health checks, and what we have no address for.                                      */
static void some_keep_the_real_peer(void **state)
{
    static const uint8_t kinds[] = { 0x00, 0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x32 };
    (void)state;
    for (unsigned family = 0; family < 256; family++) {
        header h = begun(0x20, family);
        good(h.bytes, h.len, NULL);
        add(&h, v4, 7);                             /* and these are no addresses                    */
        good(h.bytes, h.len, NULL);
    }
    for (size_t i = 0; i < sizeof kinds; i++) {
        header h = begun(0x21, kinds[i]);
        good(h.bytes, h.len, NULL);
        add(&h, v6, sizeof v6);
        good(h.bytes, h.len, NULL);
    }
}

static void facts_are_skipped(void **state)
{
    header h = over_v4();
    (void)state;
    add_fact(&h, 0x01, 2);
    add_fact(&h, 0x03, 4);                          /* a checksum, which is not looked at          */
    add_fact(&h, 0x04, 0);
    add_fact(&h, 0x20, 300);
    add_fact(&h, 0xFF, 256);
    good(h.bytes, h.len, "192.0.2.1:56324");
    for (size_t missing = 1; missing < h.len - 28; missing++) {
        header cut = h;
        bool whole = missing == 256 + 3 || missing == 256 + 300 + 6 || missing == 256 + 300 + 9 ||
                     missing == 256 + 300 + 16;
        set_len(&cut, h.len - 16 - missing);
        if (whole)
            good(cut.bytes, h.len - missing, "192.0.2.1:56324");
        else if (missing % 17 == 1 || missing < 5 || missing > 550)
            bad(cut.bytes, h.len - missing, "a value does not end with the header");
    }
    h = over_v4();
    add_fact(&h, 0x04, 10);
    h.bytes[29] = (char)0xFF;                       /* as long as can be                           */
    bad(h.bytes, h.len, "a value does not end with the header");
}

static void a_header_has_4096_bytes(void **state)
{
    header h = over_v4();
    hsb__proxy p;
    (void)state;
    add_fact(&h, 0x04, 4096 - 28 - 3);
    assert_int_equal(h.len, 4096);
    memset(&p, 0, sizeof p);
    assert_int_equal(take(&p, h.bytes, h.len), 4096);
    assert_true(p.whole && p.named && !p.wrong);
    static const size_t more[] = { 4081, 4096, 65535 };
    for (size_t i = 0; i < 3; i++) {
        for (unsigned command = 0x20; command <= 0x21; command++) {
            h = begun(command, 0x11);
            set_len(&h, more[i]);
            memset(&p, 0, sizeof p);
            assert_int_equal(take(&p, h.bytes, 200), 16);   /* nobody waits for the rest               */
            assert_string_equal(p.wrong, "longer than 4096 bytes");
        }
    }
}

static void malformed_binary_ones(void **state)
{
    (void)state;
    for (size_t at = 0; at < 12; at++) {
        header h = over_v4();
        h.bytes[at] ^= 1;
        bad(h.bytes, h.len, "neither version 1 nor 2");
    }
    for (unsigned command = 0; command < 256; command++) {
        header h = over_v4();
        h.bytes[12] = (char)command;
        if (command != 0x20 && command != 0x21)
            bad(h.bytes, h.len, "neither LOCAL nor PROXY of version 2");
    }
    for (unsigned family = 0; family < 256; family++) {
        header h = begun(0x21, family);
        uint8_t many[216] = { 0 };
        if (family >> 4 <= 3 && (family & 15) <= 2)
            continue;
        add(&h, many, sizeof many);
        bad(h.bytes, h.len, "no such family of addresses");
    }
    static const struct { unsigned family; size_t needs; } rows[] = {
        { 0x11, 12 }, { 0x21, 36 }, { 0x31, 216 },
    };
    for (size_t i = 0; i < 3; i++)
        for (size_t len = 0; len < rows[i].needs; len++) {
            header h = begun(0x21, rows[i].family);
            uint8_t some[216] = { 0 };
            add(&h, some, len);
            bad(h.bytes, h.len, "too short for its addresses");
        }
}

/* What is malformed is so in its first byte that is wrong: nothing more is waited for.           */
static void the_wrong_byte_is_the_last(void **state)
{
    hsb__proxy p;
    header h = over_v4();
    (void)state;
    for (size_t at = 0; at < 12; at++) {
        header other = h;
        other.bytes[at] = 'x';
        memset(&p, 0, sizeof p);
        assert_int_equal(take(&p, other.bytes, other.len), at + 1);
    }
    for (size_t at = 0; at < 6; at++) {
        char line[] = "PROXY UNKNOWN\r\n";
        line[at] = 'x';
        memset(&p, 0, sizeof p);
        assert_int_equal(take(&p, line, sizeof line - 1), at + 1);
        assert_string_equal(p.wrong, "neither version 1 nor 2");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(malformed_lines),
        cmocka_unit_test(a_nul_is_no_end_of_a_text),
        cmocka_unit_test(a_line_has_107_bytes),
        cmocka_unit_test(binary_ones),
        cmocka_unit_test(some_keep_the_real_peer),
        cmocka_unit_test(facts_are_skipped),
        cmocka_unit_test(a_header_has_4096_bytes),
        cmocka_unit_test(malformed_binary_ones),
        cmocka_unit_test(the_wrong_byte_is_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
