/* >>values: texts in a request's memory, and what a request says, decoded. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "unit/request.h"

#include "help.h"

static lone_request lone;
static hsb_request *const req = &lone.req;

static void open_with(const char *head, const char *body)
{
    assert_true(lone_open(&lone, head, strlen(head), body, strlen(body)));
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(lone_close(&lone), 0);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    open_with("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", "");
    return 0;
}

/* With its NUL.  expected NULL: absent. */
static void must_be_text(hsb_str s, const char *expected)
{
    if (!expected) {
        assert_null(s.ptr);
        assert_int_equal(s.len, 0);
        return;
    }
    assert_non_null(s.ptr);
    assert_string_equal(s.ptr, expected);
    assert_int_equal(s.len, strlen(expected));
}

/* --- texts -------------------------------------------------------------------------------- */
static void test_format(void **state)
{
    static const wchar_t no_text[] = { 0x7FFFFFFF, 0 };     /* printf fails                  */
    (void)state;
    must_be_text(hsb_request_format(req, "%s", ""), "");
    must_be_text(hsb_request_format(req, "%d %s %c", 7, "seven", '7'), "7 seven 7");
    for (int width = 250; width < 260; width++) {       /* around the size of the first try */
        hsb_str s = hsb_request_format(req, "%*d", width, 1);
        assert_int_equal(s.len, width);
        assert_int_equal(strlen(s.ptr), width);
        assert_int_equal(s.ptr[width - 1], '1');
        assert_int_equal(s.ptr[0], ' ');
    }
    hsb_str wide = hsb_request_format(req, "%0*d", 300000, 5);
    assert_int_equal(wide.len, 300000);
    assert_int_equal(strspn(wide.ptr, "0"), 299999);
    size_t before = lone_given(&lone);
    must_be_text(hsb_request_format(req, "%ls", no_text), NULL);
    must_be_text(hsb_request_format(req, "%0*d", 800000, 5), NULL);             /* the limit  */
    assert_int_equal(lone_given(&lone), before);
}

static void test_html(void **state)
{
    static const char *const cases[][2] = {
        { "", "" },
        { "plain", "plain" },
        { "<a href=\"x\">'&'</a>", "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;" },
        { "&amp;", "&amp;amp;" },
        { "\xC3\xA4\xFF", "\xC3\xA4\xFF" },
        { NULL, NULL },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        must_be_text(hsb_request_html(req, hsb_text(cases[i][0])), cases[i][1]);
    hsb_str nul = hsb_request_html(req, hsb__text_make("a\0<", 3));
    assert_int_equal(nul.len, 6);
    assert_memory_equal(nul.ptr, "a\0&lt;", 7);
}

static void test_percent(void **state)
{
    char all[256], decoded[257];
    size_t len;
    (void)state;
    must_be_text(hsb_request_percent(req, hsb_text("")), "");
    must_be_text(hsb_request_percent(req, hsb_text(NULL)), NULL);
    must_be_text(hsb_request_percent(req, hsb_text("azAZ09-._~")), "azAZ09-._~");
    must_be_text(hsb_request_percent(req, hsb_text("a b+c/d?e=f&g%h")),
                 "a%20b%2Bc%2Fd%3Fe%3Df%26g%25h");
    must_be_text(hsb_request_percent(req, hsb_text("\xC3\xBC\x7F\xFF")), "%C3%BC%7F%FF");
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    hsb_str s = hsb_request_percent(req, hsb__text_make(all, 256));
    assert_int_equal(s.len, 256 * 3 - 2 * 66);
    assert_memory_equal(s.ptr, "%00%01", 6);
    assert_true(hsb_percent_decode(hsb__text_after(s, 3), true, decoded, sizeof decoded, &len));
    assert_int_equal(len, 255);
    assert_memory_equal(decoded, all + 1, 255);
}

/* What would not fit into the address space is refused before it is read. */
static void test_lengths_are_checked(void **state)
{
    (void)state;
    must_be_text(hsb_request_html(req, hsb__text_make("x", SIZE_MAX)), NULL);
    must_be_text(hsb_request_percent(req, hsb__text_make("x", SIZE_MAX / 3)), NULL);
    assert_null(hsb_request_alloc(req, SIZE_MAX));
}

static void test_alloc(void **state)
{
    (void)state;
    for (size_t size = 0; size < 100; size++) {
        unsigned char *p = hsb_request_alloc(req, size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % sizeof(union { long double a; void *b; long long c; }), 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_format), TEST(test_html), TEST(test_percent), TEST(test_lengths_are_checked),
        TEST(test_alloc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
