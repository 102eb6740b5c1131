/* Names to addresses.  Nothing here asks the network: "localhost" is in the hosts file, and
   what must not resolve fails before a question is sent. */
#include <string.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int some_system(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **list);
#define getaddrinfo some_system
#define HTTPSBIND_STATIC
#define HSB_FAULT(call, count) fault(call, count)
static int fault(const char *call, void *count);
#include "httpsbind.h"
#undef getaddrinfo

#include "help.h"

static int fault_after = -1, fault_code;    /* the one after so many lookups fails        */
static int lookups;

static int fault(const char *call, void *count)
{
    (void)count;
    if (strcmp(call, "getaddrinfo") != 0)
        return 0;
    return lookups++ == fault_after ? fault_code : 0;
}

enum { MAX = 8 };
static hsb_address found[MAX];
static hsb_error err;
static char text[HSB_ADDRESS_TEXT_MAX];

/* A machine whose interfaces have IPv6 addresses only.  Its hosts file has "localhost" as
   127.0.0.1, and "elsewhere" as 192.0.2.1 and then 127.0.0.2.                              */
static bool v6_machine;

static int some_system(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **list)
{
    const char *number = strcmp(host, "localhost") == 0 ? "127.0.0.1" : "192.0.2.1";
    struct addrinfo numeric, *second = NULL;
    if (!v6_machine || hints->ai_flags & AI_NUMERICHOST)
        return getaddrinfo(host, service, hints, list);
    if ((hints->ai_flags & AI_ADDRCONFIG) || hints->ai_family == AF_INET6)
        return EAI_NONAME;
    if (strcmp(host, "localhost") != 0 && strcmp(host, "elsewhere") != 0 &&
        strcmp(host, "foreign") != 0)
        return EAI_NONAME;
    numeric = *hints;
    numeric.ai_flags = AI_NUMERICHOST;
    int code = getaddrinfo(number, NULL, &numeric, list);
    if (code == 0 && strcmp(host, "elsewhere") == 0 &&
        (code = getaddrinfo("127.0.0.2", NULL, &numeric, &second)) == 0)
        (*list)->ai_next = second;
    return code;
}

static int lookup(const char *host, hsb_family family)
{
    memset(&err, 0, sizeof err);
    lookups = 0;
    return hsb__resolver_lookup(host, family, found, MAX, &err);
}

/* A label of 64 bytes is no name (RFC 1035 2.3.4): the system's resolver sends nothing.  */
static const char no_name[] =
    "a123456789012345678901234567890123456789012345678901234567890123.invalid";

static void test_numbers_ask_nobody(void **state)
{
    (void)state;
    assert_int_equal(lookup("127.0.0.1", HSB_FAMILY_ANY), 1);
    assert_string_equal(hsb__address_text(&found[0], text), "127.0.0.1");
    assert_int_equal(lookup("127.0.0.1", HSB_IPV4), 1);
    assert_int_equal(lookup("[::1]", HSB_FAMILY_ANY), 1);
    assert_string_equal(hsb__address_text(&found[0], text), "::1");
    assert_int_equal(lookup("fe80::1%1", HSB_IPV6), 1);
    assert_int_equal(found[0].scope_id, 1);
    assert_int_equal(lookups, 0);
}

static void test_number_of_the_other_family(void **state)
{
    (void)state;
    assert_int_equal(lookup("127.0.0.1", HSB_IPV6), 0);
    assert_int_equal(err.status, HSB_ERR_LOOKUP);
    assert_string_equal(err.text, "lookup 127.0.0.1: not an IPv6 address");
    assert_int_equal(lookup("::1", HSB_IPV4), 0);
    assert_string_equal(err.text, "lookup ::1: not an IPv4 address");
    assert_int_equal(lookups, 0);
}

/* Without care the system would bind all but the last three to places nobody meant.      */
static void test_bad_numbers_are_no_names(void **state)
{
    static const char *const bad[] = { "1", "127.1", "010.0.0.1", "0x7f.1", "2130706433",
                                       "::1%1", "fe80::1%nosuchzone", "[::1]:443" };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lookup(bad[i], HSB_FAMILY_ANY), 0);
        assert_int_equal(err.status, HSB_ERR_LOOKUP);
        assert_non_null(strstr(err.text, bad[i]));
        assert_non_null(strstr(err.text, "not a well-formed address"));
    }
}

static void test_localhost(void **state)
{
    (void)state;
    int n = lookup("localhost", HSB_FAMILY_ANY);
    assert_true(n >= 1);
    for (int i = 0; i < n; i++) {
        hsb__address_text(&found[i], text);
        assert_true(strcmp(text, "127.0.0.1") == 0 || strcmp(text, "::1") == 0);
        for (int j = 0; j < i; j++)
            assert_false(hsb__address_equal(&found[i], &found[j]));
    }
    assert_int_equal(lookup("localhost", HSB_IPV4), 1);
    assert_string_equal(hsb__address_text(&found[0], text), "127.0.0.1");
    assert_int_equal(lookup("LOCALHOST", HSB_IPV4), 1);
}

static void test_names_that_do_not_resolve(void **state)
{
    static const char *const bad[] = { no_name, "", " ", "a b", "a..b" };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lookup(bad[i], HSB_FAMILY_ANY), 0);
        assert_int_equal(err.status, HSB_ERR_LOOKUP);
        assert_true(err.system_code != 0);
        assert_int_equal(strncmp(err.text, "lookup ", 7), 0);
        assert_non_null(strstr(err.text, ": "));
    }
    assert_int_equal(hsb__resolver_lookup(no_name, HSB_IPV6, found, MAX, NULL), 0);
}

static void test_long_host_leaves_room_for_the_reason(void **state)
{
    static char host[4096];
    (void)state;
    memset(host, 'x', sizeof host - 1);
    assert_int_equal(lookup(host, HSB_FAMILY_ANY), 0);
    assert_non_null(strstr(err.text, "xxx: "));
    assert_false(hsb__resolver_bind_address(&found[0], host, 443, &err));
    assert_non_null(strstr(err.text, "xxx:443: "));
}

static void test_system_errors(void **state)
{
    (void)state;
    fault_code = EMFILE;
    fault_after = 1;                        /* the first asks whether it is a number      */
    assert_int_equal(lookup("localhost", HSB_FAMILY_ANY), 0);
    fault_after = -1;
    assert_int_equal(err.status, HSB_ERR_SYSTEM);
    assert_int_equal(err.system_code, EMFILE);
    assert_string_equal(err.text, "lookup localhost: Too many open files");
}

static void test_loopback_names_on_a_machine_without_ipv4(void **state)
{
    (void)state;
    v6_machine = true;
    assert_int_equal(lookup("localhost", HSB_FAMILY_ANY), 1);
    assert_string_equal(hsb__address_text(&found[0], text), "127.0.0.1");
    assert_int_equal(lookup("localhost", HSB_IPV4), 1);
    assert_int_equal(lookup("localhost", HSB_IPV6), 0);
    hsb_address a;
    assert_true(hsb__resolver_bind_address(&a, "localhost", 443, &err));
    assert_string_equal(hsb__address_text(&a, text), "127.0.0.1:443");
    /* What the machine cannot reach is still left out, also where it comes first.          */
    assert_true(hsb__resolver_bind_address(&a, "elsewhere", 443, &err));
    assert_string_equal(hsb__address_text(&a, text), "127.0.0.2:443");
    assert_int_equal(lookup("foreign", HSB_FAMILY_ANY), 0);
    assert_int_equal(err.status, HSB_ERR_LOOKUP);
    assert_int_equal(err.system_code, EAI_NONAME);
    assert_int_equal(lookup("unknown", HSB_FAMILY_ANY), 0);
    assert_int_equal(lookups, 3);
    v6_machine = false;
}

/* --- the answers, as a list that the system might give ------------------------------- */
static void test_take(void **state)
{
    static const char *const answers[] = {
        "::1", "127.0.0.1", "127.0.0.1", "::1", "127.0.0.2"
    };
    enum { COUNT = sizeof answers / sizeof *answers };
    struct addrinfo list[COUNT + 1];
    struct sockaddr_storage ss[COUNT + 1];
    (void)state;
    memset(list, 0, sizeof list);
    memset(ss, 0, sizeof ss);
    ss[0].ss_family = AF_UNIX;              /* not ours: left out                         */
    list[0].ai_addrlen = sizeof(struct sockaddr_storage);
    for (int i = 0; i < COUNT; i++) {
        hsb_address a;
        assert_true(hsb__address_parse(&a, answers[i]));
        list[i + 1].ai_addrlen = hsb__os_to_sockaddr(&a, &ss[i + 1]);
    }
    for (int i = 0; i <= COUNT; i++) {
        list[i].ai_addr = (struct sockaddr *)&ss[i];
        list[i].ai_next = i < COUNT ? &list[i + 1] : NULL;
    }
    assert_int_equal(hsb__resolver_take(list, false, found, MAX), 3);
    assert_string_equal(hsb__address_text(&found[0], text), "::1");
    assert_string_equal(hsb__address_text(&found[1], text), "127.0.0.1");
    assert_string_equal(hsb__address_text(&found[2], text), "127.0.0.2");
    assert_int_equal(hsb__resolver_take(list, false, found, 2), 2);
    assert_int_equal(hsb__resolver_take(list, false, found, 1), 1);
    assert_string_equal(hsb__address_text(&found[0], text), "::1");
    assert_int_equal(hsb__resolver_take(list, true, found, MAX), 3);
    assert_int_equal(hsb__resolver_take(NULL, false, found, MAX), 0);
}

/* --- where to bind ------------------------------------------------------------------- */
static void test_bind_address(void **state)
{
    (void)state;
    assert_true(hsb__resolver_bind_address(&found[0], "127.0.0.1", 443, &err));
    assert_string_equal(hsb__address_text(&found[0], text), "127.0.0.1:443");
    assert_true(hsb__resolver_bind_address(&found[0], "::", 65535, &err));
    assert_string_equal(hsb__address_text(&found[0], text), "[::]:65535");
    assert_true(hsb__resolver_bind_address(&found[0], "[::1]", 0, &err));
    assert_string_equal(hsb__address_text(&found[0], text), "::1");
    assert_true(hsb__resolver_bind_address(&found[0], "localhost", 8443, &err));
    assert_int_equal(found[0].port, 8443);
}

/* Nothing of what was there is left behind the path; the port does not matter. */
static void test_bind_path(void **state)
{
    (void)state;
    memset(&found[0], 0xFF, sizeof found[0]);
    assert_true(hsb__resolver_bind_address(&found[0], "unix:/run/x.sock", -1, &err));
    assert_int_equal(found[0].family, HSB_UNIX);
    assert_string_equal(found[0].path, "/run/x.sock");
    assert_int_equal(found[0].port, 0);
    assert_false(hsb__resolver_bind_address(&found[0], "unix:", 0, &err));
}

static void test_ports_outside(void **state)
{
    static const int bad[] = { -1, 65536, 70000, INT_MIN, INT_MAX };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char expected[64];
        snprintf(expected, sizeof expected, "bind 127.0.0.1:%d: no such port", bad[i]);
        assert_false(hsb__resolver_bind_address(&found[0], "127.0.0.1", bad[i], &err));
        assert_int_equal(err.status, HSB_ERR_MISUSE);
        assert_string_equal(err.text, expected);
    }
}

static void test_bind_errors_name_host_and_port(void **state)
{
    char expected[128];
    (void)state;
    snprintf(expected, sizeof expected, "bind %.72s:443: ", no_name);
    assert_false(hsb__resolver_bind_address(&found[0], no_name, 443, &err));
    assert_int_equal(err.status, HSB_ERR_LOOKUP);
    assert_int_equal(strncmp(err.text, expected, strlen(expected)), 0);
    assert_false(hsb__resolver_bind_address(&found[0], "fe80::1%nosuchzone", 443, &err));
    assert_string_equal(err.text, "bind [fe80::1%nosuchzone]:443: not a well-formed address, "
                                  "or no such zone");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_ask_nobody),
        cmocka_unit_test(test_number_of_the_other_family),
        cmocka_unit_test(test_bad_numbers_are_no_names),
        cmocka_unit_test(test_localhost),
        cmocka_unit_test(test_names_that_do_not_resolve),
        cmocka_unit_test(test_long_host_leaves_room_for_the_reason),
        cmocka_unit_test(test_system_errors),
        cmocka_unit_test(test_loopback_names_on_a_machine_without_ipv4),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_bind_address),
        cmocka_unit_test(test_bind_path),
        cmocka_unit_test(test_ports_outside),
        cmocka_unit_test(test_bind_errors_name_host_and_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
