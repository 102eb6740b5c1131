/* Numeric addresses: what is one, what is none, and that a text comes back as it was. */
#define inet_pton test_inet_pton
#define HTTPSBIND_STATIC
#include "httpsbind.h"
#undef inet_pton
int inet_pton(int family, const char *text, void *out);

#include "guard.h"
#include "network.h"

/* An address of IPv6 is handed on in a copy that has so much space. */
int test_inet_pton(int family, const char *text, void *out)
{
    if (family == AF_INET6)
        assert_non_null(memchr(text, '\0', HSB__IP_TEXT));
    return inet_pton(family, text, out);
}

static bool parse(hsb_address *out, const char *text)
{
    return hsb__address_parse(out, guard_copy(text, strlen(text) + 1));
}

static const char *text_of(const hsb_address *a)
{
    static char *buf;
    static char fill[HSB_ADDRESS_TEXT_MAX];
    memset(fill, '!', sizeof fill);
    buf = guard_copy(fill, sizeof fill);
    return hsb__address_text(a, buf);
}

/* --- parse --------------------------------------------------------------------------- */
static void test_good_ones(void **state)
{
    static const struct { const char *text, *printed; hsb_family family; } rows[] = {
        { "0.0.0.0",                  "0.0.0.0",            HSB_IPV4 },
        { "127.0.0.1",                "127.0.0.1",          HSB_IPV4 },
        { "255.255.255.255",          "255.255.255.255",    HSB_IPV4 },
        { "::",                       "::",                 HSB_IPV6 },
        { "::1",                      "::1",                HSB_IPV6 },
        { "[::1]",                    "::1",                HSB_IPV6 },
        { "[::]",                     "::",                 HSB_IPV6 },
        { "2001:DB8::A",              "2001:db8::a",        HSB_IPV6 },
        { "2001:db8:0:0:0:0:0:1",     "2001:db8::1",        HSB_IPV6 },
        { "2001:0db8::0001",          "2001:db8::1",        HSB_IPV6 },
        { "1:2:3:4:5:6:7:8",          "1:2:3:4:5:6:7:8",    HSB_IPV6 },
        { "::ffff:192.0.2.1",         "::ffff:192.0.2.1",   HSB_IPV6 },
        { "64:ff9b::192.0.2.33",      "64:ff9b::c000:221",  HSB_IPV6 },
        { "fe80::1",                  "fe80::1",            HSB_IPV6 },
        { "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",        HSB_IPV6 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hsb_address a;
        memset(&a, 0xFF, sizeof a);
        assert_true(parse(&a, rows[i].text));
        assert_int_equal(a.family, rows[i].family);
        assert_int_equal(a.port, 0);
        assert_int_equal(a.scope_id, 0);
        assert_string_equal(text_of(&a), rows[i].printed);
    }
}

static void test_bytes_are_in_network_order(void **state)
{
    hsb_address a;
    (void)state;
    assert_true(parse(&a, "192.0.2.7"));
    assert_memory_equal(a.bytes, "\xC0\x00\x02\x07\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_true(parse(&a, "2001:db8::7"));
    assert_memory_equal(a.bytes, "\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x07", 16);
}

static const char *const bad_ones[] = {
    "", " ", "localhost", "example.org",
    /* other forms that some systems take for IPv4, and not all for the same one */
    "1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1",
    "010.0.0.1", "00.0.0.0", "127.0.0.01", "1.2.3.4.5", "1.2.3.4.", ".1.2.3.4", "1..2.3",
    "1.2.3.256", "1.2.3.1000", "1.2.3.-4", "+1.2.3.4", "1.2.3.4294967297", "1.2.3.a",
    /* around the number */
    " 127.0.0.1", "127.0.0.1 ", "127.0.0.1\n", "\t::1", "::1 ", "127.0.0.1/8", "::1/128",
    "127.0.0.1:443", "[::1]:443", "*", "*:443", "-", "0.0.0.0%1", "127.0.0.1%lo",
    /* brackets */
    "[", "]", "[]", "[::1", "::1]", "[[::1]]", "[::1]]", "[[::1]", "[127.0.0.1]",
    "[ ::1]", "[::1 ]", "[localhost]", "[::1]x", "x[::1]",
    /* IPv6 */
    ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:",
    ":1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8::9", "12345::", "00001::", "g::", "::1.2.3", "::1.2.3.256", "::01.2.3.4",
    "1:2:3:4:5:6:7:1.2.3.4", "1.2.3.4::", "::1.2.3.4:5", "::-1", "::0x1",
    "1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111",
    /* zones: where there is none, of what can have none, of nobody */
    "%", "%1", "%lo", "fe80::1%", "[fe80::1%]", "fe80::1%0", "fe80::1%nosuchzone",
    "fe80::1% 1", "fe80::1%1 ", "fe80::1%-1", "fe80::1%+1", "fe80::1%4294967296",
    "fe80::1%99999999999999999",
    "fe80::1%1%1", "fe80::1%%1", "[fe80::1]%1", "%1fe80::1", "fe80%1::1", "::1%1", "::%1",
    "2001:db8::1%1", "fec0::1%1", "fe00::1%1", "::ffff:127.0.0.1%1", "fe80::1%0x1",
    "fe80::1%lo:", "fe80::1%lo:443", "[fe80::1%lo:443]", "[fe80::1%lo]:443",
    "fe80::1%a-name-that-no-interface-can-have",
};

static void test_bad_ones(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_ones / sizeof *bad_ones; i++) {
        hsb_address a, before;
        memset(&a, 0x5A, sizeof a);
        before = a;
        if (parse(&a, bad_ones[i]))
            fail_msg("\"%s\" was taken for %s", bad_ones[i], text_of(&a));
        assert_memory_equal(&a, &before, sizeof a);
    }
}

/* Any byte put anywhere into a good one: the outcome is an address that prints and comes
   back, or a refusal.                                                                    */
static void test_one_byte_wrong(void **state)
{
    static const char *const good[] = { "127.0.0.1", "[fe80::1%lo]", "::ffff:1.2.3.4" };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        for (size_t at = 0; at < strlen(good[i]); at++) {
            for (int byte = 1; byte < 256; byte++) {
                char text[64];
                hsb_address a, b;
                strcpy(text, good[i]);
                text[at] = (char)byte;
                if (parse(&a, text)) {
                    assert_true(parse(&b, text_of(&a)));
                    assert_true(hsb__address_equal(&a, &b));
                }
            }
        }
    }
}

/* 45 characters are the longest that can be good; one more does not fit where the system reads
   it from. */
static void test_around_the_longest(void **state)
{
    static const char longest[] = "abcd:abcd:abcd:abcd:abcd:abcd:255.255.255.255";
    char text[80];
    hsb_address a;
    uint8_t bytes[16];
    (void)state;
    assert_int_equal(strlen(longest), 45);
    assert_true(parse(&a, longest));
    for (int more = 1; more < 20; more++) {
        snprintf(text, sizeof text, "%s%.*s", longest, more, "00000000000000000000");
        assert_false(parse(&a, text));
        assert_false(hsb__address_parse_number(hsb__text_of(text), HSB_IPV6, bytes));
        snprintf(text, sizeof text, "%s%.*s%%lo", longest, more, "00000000000000000000");
        assert_false(parse(&a, text));
    }
}

/* --- zones --------------------------------------------------------------------------- */
static void test_zones(void **state)
{
    char text[64], name[IF_NAMESIZE];
    hsb_address a, b;
    (void)state;
    assert_non_null(if_indextoname(1, name));
    snprintf(text, sizeof text, "fe80::1%%%s", name);
    assert_true(parse(&a, text));
    assert_int_equal(a.scope_id, 1);
    assert_string_equal(text_of(&a), text);
    snprintf(text, sizeof text, "[fe80::1%%%s]", name);
    assert_true(parse(&b, text));
    assert_true(hsb__address_equal(&a, &b));
    assert_true(parse(&b, "febf:ffff::1%1"));
    assert_int_equal(b.scope_id, 1);
    a.port = 443;
    snprintf(text, sizeof text, "[fe80::1%%%s]:443", name);
    assert_string_equal(text_of(&a), text);
}

static void test_zone_of_no_interface_now(void **state)
{
    hsb_address a;
    (void)state;
    assert_true(parse(&a, "fe80::1%4294967295"));
    assert_int_equal(a.scope_id, UINT32_MAX);
    assert_string_equal(text_of(&a), "fe80::1%4294967295");
}

/* --- text, equality, the system's form ----------------------------------------------- */
/* RFC 4007 11.2: a name comes before a number.  "lo" is number 1, and is called "7" here.   */
static int child_with_a_number_as_name(void)
{
#ifdef __linux__
    hsb_address a;
    struct ifreq request;
    if (!own_network(40000, 50000))
        return child_skips("a network of its own is not allowed here");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    bool renamed = ioctl(fd, SIOCSIFFLAGS, &request) == 0;          /* down                   */
    strcpy(request.ifr_newname, "7");
    renamed = renamed && ioctl(fd, SIOCSIFNAME, &request) == 0;
    close(fd);
    if (!renamed)
        return child_skips("an interface cannot be renamed here");
    assert_true(parse(&a, "fe80::1%7"));
    assert_int_equal(a.scope_id, 1);
    assert_string_equal(text_of(&a), "fe80::1%7");
    assert_true(parse(&a, "fe80::1%1"));                            /* no name: a number      */
    assert_int_equal(a.scope_id, 1);
    assert_string_equal(text_of(&a), "fe80::1%7");
    assert_true(parse(&a, "fe80::1%8"));
    assert_int_equal(a.scope_id, 8);
    return CHILD_OK;
#else
    return child_skips("no networks of our own here");
#endif
}

static void test_an_interface_whose_name_is_a_number(void **state)
{
    (void)state;
    in_child(child_with_a_number_as_name);
}

static void test_text_with_port(void **state)
{
    hsb_address a;
    (void)state;
    assert_true(parse(&a, "127.0.0.1"));
    a.port = 443;
    assert_string_equal(text_of(&a), "127.0.0.1:443");
    assert_true(parse(&a, "::1"));
    a.port = 65535;
    assert_string_equal(text_of(&a), "[::1]:65535");
    memset(&a, 0, sizeof a);
    assert_string_equal(text_of(&a), "unknown");
}

static void test_longest_text_fits(void **state)
{
    hsb_address a;
    (void)state;
    memset(&a, 0xFF, sizeof a);
    a.family = HSB_IPV6;
    assert_string_equal(text_of(&a),
                        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535");
}

static void test_equal(void **state)
{
    hsb_address a, b;
    (void)state;
    assert_true(parse(&a, "127.0.0.1"));
    b = a;
    b.bytes[4] = 1;                         /* of no meaning in IPv4                      */
    b.scope_id = 1;
    assert_true(hsb__address_equal(&a, &b));
    b.port = 1;
    assert_false(hsb__address_equal(&a, &b));
    b = a;
    b.bytes[3] = 2;
    assert_false(hsb__address_equal(&a, &b));
    b = a;
    b.family = HSB_IPV6;
    assert_false(hsb__address_equal(&a, &b));
    assert_true(parse(&a, "fe80::1%1"));
    b = a;
    assert_true(hsb__address_equal(&a, &b));
    b.scope_id = 2;
    assert_false(hsb__address_equal(&a, &b));
    b = a;
    b.bytes[15] = 2;
    assert_false(hsb__address_equal(&a, &b));
}

static void test_there_and_back(void **state)
{
    static const char *const all[] = {
        "0.0.0.0", "192.0.2.1", "::", "2001:db8::1", "fe80::2%7"
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct sockaddr_storage ss;
        hsb_address a, b;
        memset(&ss, 0xFF, sizeof ss);
        memset(&b, 0xFF, sizeof b);
        assert_true(parse(&a, all[i]));
        a.port = 0x1234;
        socklen_t len = hsb__os_to_sockaddr(&a, &ss);
        assert_int_equal(len, a.family == HSB_IPV4 ? sizeof(struct sockaddr_in)
                                                   : sizeof(struct sockaddr_in6));
        hsb__os_from_sockaddr(&b, &ss);
        assert_true(hsb__address_equal(&a, &b));
    }
}

static void test_peer_over_ipv4_is_ipv4(void **state)
{
    struct sockaddr_storage ss;
    hsb_address mapped, a;
    (void)state;
    assert_true(parse(&mapped, "::ffff:192.0.2.1"));
    mapped.port = 50000;
    hsb__os_to_sockaddr(&mapped, &ss);
    assert_int_equal(ss.ss_family, AF_INET6);
    hsb__os_from_sockaddr(&a, &ss);
    assert_string_equal(text_of(&a), "192.0.2.1:50000");
}

static void test_another_family(void **state)
{
    struct sockaddr_storage ss;
    hsb_address a;
    (void)state;
    memset(&ss, 0xFF, sizeof ss);
    ss.ss_family = AF_UNSPEC;
    hsb__os_from_sockaddr(&a, &ss);
    assert_int_equal(a.family, HSB_FAMILY_ANY);
    assert_int_equal(a.port, 0);
}

static void test_unix_sockets(void **state)
{
    struct sockaddr_storage ss;
    struct sockaddr_un *un = (struct sockaddr_un *)&ss;
    hsb_address a, b;
    (void)state;
    memset(&a, 0, sizeof a);
    a.family = HSB_UNIX;
    assert_string_equal(text_of(&a), "unix:");              /* of a client without a name      */
    strcpy(a.path, "/run/app.sock");
    a.port = 443;                                           /* which there is not              */
    assert_string_equal(text_of(&a), "unix:/run/app.sock");
    a.port = 0;
    assert_int_equal(hsb__os_to_sockaddr(&a, &ss), offsetof(struct sockaddr_un, sun_path) + 14);
    memset(&b, 0xFF, sizeof b);
    hsb__os_from_sockaddr(&b, &ss);
    assert_true(hsb__address_equal(&a, &b));
    b.bytes[0] = 1;
    assert_true(hsb__address_equal(&a, &b));
    b.path[12] = 'x';
    assert_false(hsb__address_equal(&a, &b));
    memset(&ss, 0, sizeof ss);                              /* an abstract one                 */
    ss.ss_family = AF_UNIX;
    memcpy(un->sun_path + 1, "name", 4);
    hsb__os_from_sockaddr(&a, &ss);
    assert_string_equal(text_of(&a), "unix:@name");
    memset(un->sun_path, 'x', sizeof un->sun_path);         /* no NUL at all                   */
    hsb__os_from_sockaddr(&a, &ss);
    assert_int_equal(strlen(a.path), sizeof un->sun_path);
    memset(a.path, 'y', sizeof a.path);
    assert_int_equal(strlen(text_of(&a)), 5 + sizeof a.path - 1);
    assert_false(hsb_address_parse(&b, "unix:/run/app.sock"));      /* that is not numeric     */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_ones),
        cmocka_unit_test(test_bytes_are_in_network_order),
        cmocka_unit_test(test_bad_ones),
        cmocka_unit_test(test_one_byte_wrong),
        cmocka_unit_test(test_zones),
        cmocka_unit_test(test_zone_of_no_interface_now),
        cmocka_unit_test(test_around_the_longest),
        cmocka_unit_test(test_an_interface_whose_name_is_a_number),
        cmocka_unit_test(test_text_with_port),
        cmocka_unit_test(test_longest_text_fits),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_peer_over_ipv4_is_ipv4),
        cmocka_unit_test(test_another_family),
        cmocka_unit_test(test_unix_sockets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
