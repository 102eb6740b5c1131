/* >>error: the texts, and what an hsb_error says. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"

static void test_status_text(void **state)
{
    (void)state;
    assert_string_equal(hsb__error_status_text(HSB_OK), "no error");
    assert_string_equal(hsb__error_status_text(HSB_ERR_SHUTDOWN), "server is closing");
    for (int i = 0; i < HSB_STATUS_COUNT; i++) {
        assert_within(strlen(hsb__error_status_text((hsb_status)i)), 1, 80);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(hsb__error_status_text((hsb_status)i),
                                    hsb__error_status_text((hsb_status)k));
    }
    assert_string_equal(hsb__error_status_text(HSB_STATUS_COUNT), "unknown status");
    assert_string_equal(hsb__error_status_text((hsb_status)-1), "unknown status");
}

static void test_set(void **state)
{
    hsb_error err;
    (void)state;
    assert_false(hsb__error_set(NULL, HSB_ERR_TLS, 1, 2, "%s", "nobody asked"));
    assert_false(hsb__error_set(&err, HSB_ERR_TLS, 1, 2, "%s: %d", "file.pem", 7));
    assert_int_equal(err.status, HSB_ERR_TLS);
    assert_int_equal(err.system_code, 1);
    assert_int_equal(err.tls_code, 2);
    assert_string_equal(err.text, "file.pem: 7");
}

/* It is one line, whatever a file or a client put into it, and never more than there is room. */
static void test_one_line(void **state)
{
    char longer[400];
    hsb_error err;
    (void)state;
    hsb__error_set(&err, HSB_ERR_PEM, 0, 0, "a%sb", "\r\n\t\x1b\x7f");
    assert_string_equal(err.text, "a?????b");
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    hsb__error_set(&err, HSB_ERR_PEM, 0, 0, "%s", longer);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
}

/* U+009B begins a terminal's command as ESC [ does; U+202E turns what follows around. */
static void test_nothing_that_a_terminal_obeys(void **state)
{
    static const struct { const char *from, *to; } cases[] = {
        { "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80.pem", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80.pem" },
        { "a\xc2\x80" "b\xc2\x9b" "31mc\xc2\x9f" "d\xc2\xa0", "a??b??31mc??d\xc2\xa0" },
        { "a\x80" "b\x9b" "c\xff", "a?b?c?" },
        { "a\xe2\x80\xae" "b\xe2\x80\xa8" "c\xe2\x81\xa6\xef\xbb\xbf", "a???b???c??????" },
        { "\xc3", "?" }, { "\xe2\x82", "??" }, { "\xc3(", "?(" }, { "\xed\xa0\x80", "???" },
    };
    hsb_error err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hsb__error_set(&err, HSB_ERR_PEM, 0, 0, "%s", cases[i].from);
        assert_string_equal(err.text, cases[i].to);
    }
    /* A character that the end of the text cuts. */
    for (int i = 0; i < 4; i++) {
        hsb__error_set(&err, HSB_ERR_PEM, 0, 0, "%*s%s", (int)sizeof err.text - 1 - i, "",
                       "\xf0\x9f\x98\x80");
        assert_int_equal(strlen(err.text), sizeof err.text - 1);
        assert_int_equal(strcspn(err.text, "?"), sizeof err.text - 1 - (size_t)i);
    }
}

static void test_system(void **state)
{
    hsb_error err;
    (void)state;
    memset(&err, 0xFF, sizeof err);
    assert_false(hsb__error_system(&err, EACCES, "bind 127.0.0.1:443"));
    assert_int_equal(err.status, HSB_ERR_SYSTEM);
    assert_int_equal(err.system_code, EACCES);
    assert_int_equal(err.tls_code, 0);
    assert_string_equal(err.text, "bind 127.0.0.1:443: Permission denied");
    memset(&err, 0xFF, sizeof err);
    assert_false(hsb__error_memory(&err));
    assert_int_equal(err.status, HSB_ERR_MEMORY);
    assert_int_equal(err.system_code, ENOMEM);
    assert_int_equal(err.tls_code, 0);
    assert_string_equal(err.text, "out of memory");
    hsb__error_clear(&err);
    assert_int_equal(err.status, HSB_OK);
    assert_int_equal(err.system_code, 0);
    assert_string_equal(err.text, "");
    hsb__error_clear(NULL);
    assert_false(hsb__error_system(NULL, EACCES, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_text),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_nothing_that_a_terminal_obeys),
        cmocka_unit_test(test_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
