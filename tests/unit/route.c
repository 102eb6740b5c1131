/* >>route: which patterns match which paths, what a name of a pattern stands for, which patterns
   are malformed, which paths no row may match.  Patterns and paths end at guard pages. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"

#include "help.h"

static hsb_str tight(const char *text)
{
    return hsb__text_make(guard_copy(text, strlen(text)), strlen(text));
}

/* As a C string, whose NUL is the last byte before the guard page. */
static const char *tight_text(const char *text)
{
    return guard_copy(text, strlen(text) + 1);
}

static bool matches(const char *pattern, const char *path)
{
    const bool good = hsb__route_matches(tight_text(pattern), tight(path), hsb__text_absent(),
                                         NULL);
    assert_true(hsb__route_may_match(tight_text(pattern), tight(path)) || !good);
    return good;
}

/* What the name stands for; "(none)". */
static const char *part(const char *pattern, const char *path, const char *name)
{
    static char text[256];
    hsb_str value = hsb__text_absent();
    if (!hsb__route_matches(tight_text(pattern), tight(path), tight(name), &value))
        return "(no match)";
    if (!value.ptr)
        return "(none)";
    snprintf(text, sizeof text, "%.*s", (int)value.len, value.ptr);
    return text;
}

static void test_text(void **state)
{
    (void)state;
    assert_true(matches("/", "/"));
    assert_true(matches("/users", "/users"));
    assert_true(matches("/users/", "/users/"));
    assert_true(matches("/a//b", "/a//b"));
    assert_false(matches("/users", "/users/"));
    assert_false(matches("/users/", "/users"));
    assert_false(matches("/users", "/user"));
    assert_false(matches("/user", "/users"));
    assert_false(matches("/users", "/Users"));
    assert_false(matches("/a/b", "/a//b"));
    assert_false(matches("/", ""));
    assert_false(matches("", "/"));
    assert_false(matches("/", "/a"));
    assert_true(matches("/a:b*c", "/a:b*c"));
}

/* RFC 3986 2.1, 2.2, 6.2.2: the same character, encoded or not, in the pattern or the path. */
static void test_encoded_text(void **state)
{
    (void)state;
    assert_true(matches("/A~z", "/%41%7Ez"));
    assert_true(matches("/A~z", "/%41%7ez"));
    assert_true(matches("/%41", "/A"));
    assert_true(matches("/%4112", "/A12"));
    assert_true(matches("/A12", "/%4112"));
    assert_true(matches("/caf\xC3\xA9", "/caf%C3%A9"));
    assert_true(matches("/caf%c3%a9", "/caf%C3%A9"));
    assert_true(matches("/a b", "/a%20b"));
    assert_true(matches("/a;b", "/a%3Bb"));
    assert_true(matches("/%3Aid", "/:id"));
    assert_true(matches("/%2Aid", "/*id"));
    assert_true(matches("/100%25", "/100%25"));
    assert_true(matches("/100%", "/100%25"));
    assert_true(matches("/%4", "/%254"));
    assert_false(matches("/%41", "/%42"));
    assert_false(matches("/%41", "/%4"));
    assert_false(matches("/a%", "/a"));
    assert_false(matches("/a", "/a%00"));
}

/* RFC 3986 2.2: what is a delimiter is not what is data. */
static void test_encoded_slash(void **state)
{
    (void)state;
    assert_false(matches("/a/b", "/a%2Fb"));
    assert_false(matches("/a%2Fb", "/a/b"));
    assert_true(matches("/a%2Fb", "/a%2fb"));
    assert_true(matches("/:id/b", "/x%2Fy/b"));
    assert_false(matches("/:x/:y", "/a%2Fb"));
}

static void test_segment(void **state)
{
    (void)state;
    assert_string_equal(part("/users/:id", "/users/7", "id"), "7");
    assert_string_equal(part("/users/:id", "/users/%2e7%2F", "id"), "%2e7%2F");
    assert_string_equal(part("/users/:id", "/users/:id", "id"), ":id");
    assert_string_equal(part("/:a/x/:b", "/1/x/2", "a"), "1");
    assert_string_equal(part("/:a/x/:b", "/1/x/2", "b"), "2");
    assert_string_equal(part("/:a/x/:b", "/1/x/2", "x"), "(none)");
    assert_string_equal(part("/:ab", "/1", "a"), "(none)");
    assert_string_equal(part("/:ab", "/1", ""), "(none)");
    assert_string_equal(part("/:a/", "/1/", "a"), "1");
    assert_string_equal(part("/:a", "/1/", "a"), "(no match)");
    assert_false(matches("/users/:id", "/users/"));
    assert_false(matches("/users/:id", "/users"));
    assert_false(matches("/users/:id", "/users/7/"));
    assert_false(matches("/users/:id", "/users/7/8"));
    assert_false(matches("/:a/:b", "//b"));
    assert_false(matches("/:a/:b", "/a/"));
    assert_false(matches("/:a/b", "/a/c"));
}

static void test_rest(void **state)
{
    (void)state;
    assert_string_equal(part("/files/*all", "/files/a/b%2Fc//d", "all"), "a/b%2Fc//d");
    assert_string_equal(part("/files/*all", "/files/", "all"), "");
    assert_string_equal(part("/*all", "/", "all"), "");
    assert_string_equal(part("/*all", "//", "all"), "/");
    assert_string_equal(part("/:x/*all", "/1/2/3", "x"), "1");
    assert_string_equal(part("/:x/*all", "/1/2/3", "all"), "2/3");
    assert_false(matches("/files/*all", "/files"));
    assert_false(matches("/files/*all", "/filesa"));
    assert_false(matches("/:x/*all", "/1"));
}

/* RFC 9112 3.2.4 */
static void test_asterisk(void **state)
{
    (void)state;
    assert_true(matches("*", "*"));
    assert_false(matches("*", "/"));
    assert_false(matches("*", "/a"));
    assert_false(matches("/*all", "*"));
    assert_false(matches("/:id", "*"));
    assert_false(matches("/", "*"));
    assert_false(matches("*", ""));             /* CONNECT */
    assert_false(matches("/*all", ""));
}

static void test_malformed_patterns(void **state)
{
    static const char *const good[] = {
        "/", "*", "/a", "//", "/:a", "/:a/:b", "/*a", "/:a/*b", "/a:b", "/a*b/c", "/:a/:ab/:abc",
        "/%2A/%3A", "/:a:a", "/:*", "/**", "/a/"
    };
    static const char *const bad[] = {
        "", "a", "a/b", ":a", "*a", "**", "/:", "/:/a", "/*", "/*/", "/*a/", "/*a/b", "/:a/:a",
        "/:a/b/:a", "/:a/*a", "/:a/:b/:c/:b", "/a/*/b"
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!hsb__route_is_pattern(tight_text(good[i])))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (hsb__route_is_pattern(tight_text(bad[i])))
            fail_msg("taken: %s", bad[i]);
}

static void test_paths(void **state)
{
    static const char *const good[] = {
        "/", "*", "/a", "/a/", "//", "/...", "/.a", "/a.", "/..a", "/a..", "/%2e%2e%2e", "/a/.b/c",
        "/%2e%2F", "/..%2F", "/.2e", "/2e", "/%30%30", "/%0", "/%", "/%25%30%30", "/%2500", "/00", "/%01"
    };
    static const char *const bad[] = {
        "", "/.", "/..", "/./", "/../", "/a/.", "/a/..", "/a/./b", "/a/../b", "/%2e", "/%2E%2e",
        "/.%2e/", "/%2e./a", "/a/%2e%2E/b", "/%00", "/a%00", "/a/%00b", "/%25%00", "/%41%00/"
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!hsb__route_is_path(tight(good[i])))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (hsb__route_is_path(tight(bad[i])))
            fail_msg("taken: %s", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_encoded_text),
        cmocka_unit_test(test_encoded_slash),
        cmocka_unit_test(test_segment),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_asterisk),
        cmocka_unit_test(test_malformed_patterns),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
