/* >>values: texts in a request's memory, what a request says, decoded, and secrets. */
static int entropy_lasts = -1;          /* for so many more calls; -1: for ever            */
#define HSB_FAULT(call, count) ((void)(count), fault(call))
static int fault(const char *call);
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "unit/request.h"

#include "help.h"

static int fault(const char *call)
{
    if (strcmp(call, "getentropy") || entropy_lasts < 0)
        return 0;
    return entropy_lasts-- == 0 ? ENOSYS : 0;
}

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

/* --- query and form ----------------------------------------------------------------------- */
/* A request with that in the place of the one that the set-up opened. */
static void reopen(const char *head, const char *body)
{
    assert_int_equal(lone_close(&lone), 0);
    open_with(head, body);
}

static void test_query(void **state)
{
    static const struct { const char *query, *name, *value; } cases[] = {
        { "", "a", NULL }, { "?", "a", NULL }, { "?a", "a", "" }, { "?a=", "a", "" },
        { "?a=1", "a", "1" }, { "?a=1&a=2", "a", "1" }, { "?b=1&a=2", "a", "2" },
        { "?&&a=1&&", "a", "1" }, { "?a=b=c", "a", "b=c" }, { "?=1", "", "1" }, { "?a=1", "", NULL },
        { "?A=1", "a", NULL }, { "?ab=1&a=2", "a", "2" }, { "?a=1&ab=2", "ab", "2" },
        { "?%61=1", "a", "1" }, { "?%61b%63=1", "abc", "1" }, { "?a=%41%6a%6A", "a", "Ajj" },
        { "?a+b=c+d", "a b", "c d" }, { "?a%2Bb=%2B+%26%3D", "a+b", "+ &=" },
        { "?a%20b=%C3%BC%FF", "a b", "\xC3\xBC\xFF" }, { "?a;b=1", "a;b", "1" },
        { "?a=%00", "a", NULL }, { "?a=1%002", "a", NULL }, { "?a%00=1&a=2", "a", "2" },
        { "?a=%00&a=2", "a", NULL },            /* the first one of that name is malformed     */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char head[256];
        snprintf(head, sizeof head, "GET /a%s HTTP/1.1\r\nHost: x\r\n\r\n", cases[i].query);
        reopen(head, "");
        must_be_text(hsb_request_query_value(req, cases[i].name), cases[i].value);
    }
}

#define POST "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: "
#define FORM "application/x-www-form-urlencoded"

static void form(const char *type, const char *body)
{
    char head[512];
    snprintf(head, sizeof head, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %zu\r\n\r\n",
             type, strlen(body));
    reopen(head, body);
}

static void test_form(void **state)
{
    (void)state;
    form("Content-Type: " FORM, "name=J%C3%BCrgen+M.&text=1%2B1%3D2%0D%0A&none&last=x");
    must_be_text(hsb_request_form_value(req, "name"), "J\xC3\xBCrgen M.");
    must_be_text(hsb_request_form_value(req, "text"), "1+1=2\r\n");
    must_be_text(hsb_request_form_value(req, "none"), "");
    must_be_text(hsb_request_form_value(req, "last"), "x");
    must_be_text(hsb_request_form_value(req, "other"), NULL);
    must_be_text(hsb_request_query_value(req, "name"), NULL);
    form("Content-Type: " FORM, "a=%&b=%4&c=%4x&d=%zz&e=1%&f=good&%=x&%f=1");
    for (const char *name = "abcde"; *name; name++)
        must_be_text(hsb_request_form_value(req, (const char[]){ *name, '\0' }), NULL);
    must_be_text(hsb_request_form_value(req, "f"), "good");
    must_be_text(hsb_request_form_value(req, "%"), NULL);
    form("Content-Type: " FORM, "");
    must_be_text(hsb_request_form_value(req, "a"), NULL);
}

static void test_form_of_another_type(void **state)
{
    static const char *const good[] = {
        "Content-Type: Application/X-WWW-Form-URLencoded", "Content-Type: " FORM ";charset=UTF-8",
        "content-type:\t" FORM " ; charset=UTF-8",
    };
    static const char *const wrong[] = {
        "A: b", "Content-Type: text/plain", "Content-Type: multipart/form-data; boundary=x",
        "Content-Type: " FORM "x", "Content-Type: x" FORM, "Content-Type: " FORM ", text/plain",
        "Content-Type: text/plain; " FORM, "Content-Type: " FORM "\r\nContent-Type: " FORM,
        "Content-Type: text/plain\r\nContent-Type: " FORM,
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        form(good[i], "a=1");
        must_be_text(hsb_request_form_value(req, "a"), "1");
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        form(wrong[i], "a=1");
        must_be_text(hsb_request_form_value(req, "a"), NULL);
    }
}

/* "amount=10" may be the beginning of "amount=1000". */
static void test_form_that_is_not_whole(void **state)
{
    (void)state;
    form("Content-Type: " FORM, "amount=10");
    must_be_text(hsb_request_form_value(req, "amount"), "10");
    req->head.content_length += 2;                      /* the peer has gone                  */
    must_be_text(hsb_request_form_value(req, "amount"), NULL);
    req->received += 2;                                 /* they were skipped after an answer  */
    must_be_text(hsb_request_form_value(req, "amount"), NULL);
    form("Content-Type: " FORM, "amount=10");
    req->receiving = HSB__BODY;                         /* before on_request                  */
    must_be_text(hsb_request_form_value(req, "amount"), NULL);
    reopen(POST FORM "\r\nTransfer-Encoding: chunked\r\n\r\n", "amount=10");
    must_be_text(hsb_request_form_value(req, "amount"), NULL);
    req->head.in_trailers = true;                       /* after the last chunk               */
    must_be_text(hsb_request_form_value(req, "amount"), "10");
    req->streamed = true;
    hsb__buffer_release(&req->kept);
    must_be_text(hsb_request_form_value(req, "amount"), NULL);
}

/* 4,000 names in 8 KB, each asked for 20 times; a walk for each name would take minutes if it
   looked at the whole text for each pair. */
static void test_many_names(void **state)
{
    enum { NAMES = 4000 };
    static char head[64 + NAMES * 8];
    size_t at = (size_t)sprintf(head, "GET /?");
    (void)state;
    for (int i = 0; i < NAMES; i++)
        at += (size_t)sprintf(head + at, "%c&", 'a' + i % 26);
    sprintf(head + at, "last=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    reopen(head, "");
    const int64_t before = clock_ms();
    for (int i = 0; i < 20 * 26; i++)
        must_be_text(hsb_request_query_value(req, "last"), "1");
    must_be_text(hsb_request_query_value(req, "z"), "");
    assert_within(clock_ms() - before, 0, 5000);
    assert_int_equal(lone_given(&lone), 16 * (20 * 26 + 1));    /* what was found, nothing else */
}

/* As long as it was sent, of the request's memory. */
static void test_values_are_limited(void **state)
{
    (void)state;
    form("Content-Type: " FORM, "a=12345678901234567890&b=1");
    lone.loop.options.limits.request_bytes = 32;
    must_be_text(hsb_request_form_value(req, "a"), "12345678901234567890");
    must_be_text(hsb_request_form_value(req, "b"), NULL);
}

/* --- fields --------------------------------------------------------------------------------- */
static void test_is_type(void **state)
{
    (void)state;
    form("Content-Type: Text/HTML; charset=utf-8", "");
    assert_true(hsb_request_is_type(req, "text/html"));
    assert_true(hsb_request_is_type(req, "TEXT/html"));
    assert_false(hsb_request_is_type(req, "text/htm"));
    assert_false(hsb_request_is_type(req, "text/html; charset=utf-8"));
    assert_false(hsb_request_is_type(req, "text/*"));
    assert_false(hsb_request_is_type(req, ""));
    form("Content-Type:", "");
    assert_false(hsb_request_is_type(req, ""));
    form("Content-Types: text/html", "");
    assert_false(hsb_request_is_type(req, "text/html"));
}

static void authorize(const char *fields)
{
    char head[512];
    snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", fields);
    reopen(head, "");
}

static void test_basic_auth(void **state)
{
    static const struct { const char *field, *user, *password; } cases[] = {
        { "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame" },  /* RFC 7617 */
        { "Authorization: Basic dGVzdDoxMjPCow==", "test", "123\xC2\xA3" },
        { "authorization: bASIC   QTpC  ", "A", "B" },
        { "Authorization: Basic Og==", "", "" }, { "Authorization: Basic YTo=", "a", "" },
        { "Authorization: Basic OmI=", "", "b" }, { "Authorization: Basic YTpiOmM6", "a", "b:c:" },
    };
    static const char *const wrong[] = {
        "A: b", "Authorization: Basic", "Authorization:", "Authorization: QTpC",
        "Authorization: BasicQTpC", "Authorization: Basic\tQTpC", "Authorization: Bearer QTpC",
        "Authorization: Basic QTpC, Basic QTpC", "Authorization: Basic QTp", "Authorization: Basic QTpC=",
        "Authorization: Basic QT pC", "Authorization: Basic QTpCQ===", "Authorization: Basic Og=",
        "Authorization: Basic Og", "Authorization: Basic Oh==", "Authorization: Basic QTpC QTpC",
        "Authorization: Basic QUI=",                        /* no colon */
        "Authorization: Basic YTpiAA==", "Authorization: Basic AGE6Yg==",   /* NUL */
        "Authorization: Basic YTpiCg==", "Authorization: Basic YQl6OmI=", "Authorization: Basic YTp/",
        "Authorization: Basic QTpC\r\nAuthorization: Basic QTpC",
        "Authorization: Basic QTpC\r\nAuthorization: Bearer x", "Proxy-Authorization: Basic QTpC",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hsb_str user, password;
        authorize(cases[i].field);
        assert_true(hsb_request_basic_auth(req, &user, &password));
        must_be_text(user, cases[i].user);
        must_be_text(password, cases[i].password);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        hsb_str user = hsb_text("before"), password = user;
        authorize(wrong[i]);
        if (hsb_request_basic_auth(req, &user, &password))
            fail_msg("%s", wrong[i]);
        must_be_text(user, NULL);
        must_be_text(password, NULL);
    }
    hsb_str user, password;
    authorize(cases[0].field);
    lone.loop.options.limits.request_bytes = 10;
    assert_false(hsb_request_basic_auth(req, &user, &password));
}

/* --- names of files ------------------------------------------------------------------------- */
#define X10 "xxxxxxxxxx"
#define X50 X10 X10 X10 X10 X10
#define X250 X50 X50 X50 X50 X50

static void test_safe_name(void **state)
{
    static const char *const cases[][2] = {
        { "photo.jpg", "photo.jpg" }, { "J\xC3\xBCrgen 1.txt", "J\xC3\xBCrgen 1.txt" },
        { "a-b_c~(1)'$%20.tar.gz", "a-b_c~(1)'$%20.tar.gz" },
        /* paths */
        { "/etc/passwd", "passwd" }, { "../../etc/passwd", "passwd" }, { "C:\\fakepath\\a.txt", "a.txt" },
        { "..\\..\\a", "a" }, { "a/b\\c", "c" }, { "a\\b/c", "c" }, { "a/", "unnamed" },
        { "/", "unnamed" }, { "\\", "unnamed" }, { "a/..", "unnamed" }, { "%2e%2e%2fa", "%2e%2e%2fa" },
        /* dots and spaces */
        { "", "unnamed" }, { NULL, "unnamed" }, { ".", "unnamed" }, { "..", "unnamed" },
        { "... . ..", "unnamed" }, { ".htaccess", "htaccess" }, { " . .a", "a" }, { "a.", "a" },
        { "a. . ", "a" }, { "a .b", "a .b" }, { "a..b", "a..b" }, { "shell.php. ", "shell.php" },
        /* what a shell, a terminal and a disk of Windows make of it */
        { "-rf", "_-rf" }, { ".-rf", "_-rf" }, { "--x.y", "_--x.y" }, { "a-", "a-" },
        { "a:b", "a_b" }, { "a.txt::$DATA", "a.txt__$DATA" }, { "<a>|\"b\"?*", "_a___b___" },
        { "a\x01\x1F\x7F\r\n\tb", "a______b" }, { "a\xC2\x85" "b", "a_b" },
        { "fdp\xE2\x80\xAEgpj.exe", "fdp_gpj.exe" }, { ".\xEF\xBB\xBFgit", "_git" },
        { "\xE2\x80\x8B", "_" },
        /* not UTF-8 */
        { "a\xFF" "b", "a_b" }, { "a\xC3", "a_" }, { "\xC0\xAE\xC0\xAF", "____" },
        { "\xED\xA0\x80", "___" }, { "a\xE2\x82/b\xF0\x9F", "b__" },
        /* devices */
        { "CON", "_CON" }, { "nul.txt", "_nul.txt" }, { "Aux.tar.gz", "_Aux.tar.gz" }, { "prn ", "_prn" },
        { "con .txt", "_con .txt" }, { "com1", "_com1" }, { "LPT9.x", "_LPT9.x" }, { "COM0", "_COM0" },
        { "com\xC2\xB9", "_com\xC2\xB9" }, { "lpt\xC2\xB3.a", "_lpt\xC2\xB3.a" }, { "CONIN$", "_CONIN$" },
        { "com", "com" }, { "com10", "com10" }, { "coma", "coma" }, { "console", "console" },
        { "icon", "icon" }, { "x.con", "x.con" }, { "lpt\xC2\xB4", "lpt\xC2\xB4" }, { "con:", "con_" },
        /* long ones */
        { X250 "12345", X250 "12345" }, { X250 "123456", X250 "12345" },
        { X250 "123456.txt", X250 "1.txt" }, { X250 "12.", X250 "12" },
        { X250 "1234\xC3\xBC", X250 "1234" }, { X250 "123\xC3\xBC", X250 "123\xC3\xBC" },
        { X250 "\xF0\x9F\x98\x80.txt", X250 ".txt" }, { X250 "\xC3\xBC\xC3\xBC.\xC3\xBC", X250 "\xC3\xBC.\xC3\xBC" },
        { X250 "123. .xx", X250 "12.xx" }, { "-" X250 "12345", "_-" X250 "123" },
        { X250 "x." X10 X10 X10 "1", X10 X10 X10 X10 X10 X50 X50 X50 X10 X10 "xxx." X10 X10 X10 "1" },
        { X250 "x." X10 X10 X10 "12", X250 "x." "xxx" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hsb_str name = hsb_request_safe_name(req, hsb_text(cases[i][0]));
        must_be_text(name, cases[i][1]);
        must_be_text(hsb_request_safe_name(req, name), cases[i][1]);
    }
    must_be_text(hsb_request_safe_name(req, hsb__text_make("a\0b", 3)), "a_b");
    must_be_text(hsb_request_safe_name(req, hsb__text_make("a.txt\0.jpg", 10)), "a.txt_.jpg");
}

/* Cut in the middle it would be a device: its spaces go with what stood behind them. */
static void test_safe_name_cut_to_a_device(void **state)
{
    char name[400];
    (void)state;
    memset(name, ' ', sizeof name);
    memcpy(name, "nul", 3);
    name[399] = 'x';
    must_be_text(hsb_request_safe_name(req, hsb__text_make(name, sizeof name)), "_nul");
    lone.loop.options.limits.request_bytes = 1;
    must_be_text(hsb_request_safe_name(req, hsb_text("0123456789abcdef")), NULL);
}

/* --- secrets --------------------------------------------------------------------------------- */
static void test_equal_secret(void **state)
{
    const hsb_str absent = hsb__text_absent(), empty = hsb_text("");
    (void)state;
    assert_true(hsb_equal_secret(hsb_text("secret"), hsb_text("secret")));
    assert_false(hsb_equal_secret(hsb_text("secret"), hsb_text("secreT")));
    assert_false(hsb_equal_secret(hsb_text("Secret"), hsb_text("secret")));
    assert_false(hsb_equal_secret(hsb_text("secret"), hsb_text("secret1")));
    assert_false(hsb_equal_secret(hsb_text("secret"), empty));
    assert_true(hsb_equal_secret(empty, empty));
    assert_false(hsb_equal_secret(absent, absent));     /* no token twice is no token         */
    assert_false(hsb_equal_secret(absent, empty));
    assert_false(hsb_equal_secret(empty, absent));
}

static void test_random(void **state)
{
    unsigned char bytes[1000];
    size_t zeros = 0;
    (void)state;
    memset(bytes, 0, sizeof bytes);
    assert_true(hsb_random(bytes, 999));
    for (size_t i = 0; i < 999; i++)
        zeros += bytes[i] == 0;
    assert_within(zeros, 0, 60);                        /* 4 are usual                        */
    assert_int_equal(bytes[999], 0);
    for (entropy_lasts = 0; entropy_lasts < 4;) {       /* 256, 256, 256, 231                 */
        const int lasts = entropy_lasts;
        assert_false(hsb_random(bytes, 1000));
        entropy_lasts = lasts + 1;
    }
    assert_true(hsb_random(bytes, 1000));
    entropy_lasts = -1;
}

static void test_token(void **state)
{
    char seen[100][HSB_TOKEN_MAX], buf[HSB_TOKEN_MAX + 1];
    (void)state;
    buf[HSB_TOKEN_MAX] = '!';
    for (int i = 0; i < 100; i++) {
        assert_ptr_equal(hsb_token(buf), buf);
        assert_int_equal(strlen(buf), HSB_TOKEN_MAX - 1);
        assert_int_equal(strspn(buf, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 22);
        memcpy(seen[i], buf, HSB_TOKEN_MAX);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(seen[i], seen[k]);
    }
    assert_int_equal(buf[HSB_TOKEN_MAX], '!');
    entropy_lasts = 0;
    assert_null(hsb_token(buf));
    assert_string_equal(buf, "");
    entropy_lasts = -1;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_format), TEST(test_html), TEST(test_percent), TEST(test_lengths_are_checked),
        TEST(test_alloc), TEST(test_query), TEST(test_form), TEST(test_form_of_another_type),
        TEST(test_form_that_is_not_whole), TEST(test_many_names), TEST(test_values_are_limited),
        TEST(test_is_type), TEST(test_basic_auth), TEST(test_safe_name),
        TEST(test_safe_name_cut_to_a_device), TEST(test_equal_secret), TEST(test_random),
        TEST(test_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
