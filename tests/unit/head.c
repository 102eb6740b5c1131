/* >>head: the request line, fields, trailers, and the readers of percent, form, cookie.
   Every head here is read whole, byte by byte, in every two parts and in random ones, and
   each time from a copy that ends at a guard page: the outcome must be the same. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "random.h"

#include "help.h"

enum { MOST_FIELDS = 64 };

typedef struct outcome {
    char text[2048];            /* what describe() says                                    */
    size_t at;                  /* the byte at which it was decided                        */
} outcome;

typedef struct reader {
    hsb__head head;
    hsb__field fields[MOST_FIELDS];
} reader;

static const hsb__head_limits usual_limits = { 64, 1024, 8 };

static void reader_start(reader *r, const hsb__head_limits *limits)
{
    hsb__head_start(&r->head, limits);
    r->head.fields = r->fields;
    r->head.field_space = 0;    /* grown one by one: SPACE must change nothing             */
}

/* The storage moves with every call. */
static int reader_take(reader *r, const char *bytes, size_t len)
{
    const char *copy = guard_copy(bytes, len);
    int result;
    while ((result = hsb__head_parse(&r->head, copy, len)) == HSB__HEAD_SPACE) {
        assert_within(r->head.field_space, 0, MOST_FIELDS - 1);
        r->head.field_space++;
    }
    return result;
}

/* --- what came out, as text ------------------------------------------------------------ */

static void say(outcome *o, const char *format, ...)
{
    size_t len = strlen(o->text);
    va_list args;
    va_start(args, format);
    vsnprintf(o->text + len, sizeof o->text - len, format, args);
    va_end(args);
}

static void say_span(outcome *o, const char *name, const char *bytes, hsb__span s)
{
    say(o, " %s(%.*s)", name, (int)s.len, bytes + s.at);
}

static void say_fields(outcome *o, const char *bytes, const hsb__head *h, int from, int to)
{
    for (int i = from; i < to; i++)
        say(o, " %.*s(%.*s)", (int)h->fields[i].name.len, bytes + h->fields[i].name.at,
            (int)h->fields[i].value.len, bytes + h->fields[i].value.at);
}

static void describe(outcome *o, const hsb__head *h, const char *bytes, int result)
{
    o->text[0] = '\0';
    o->at = h->at;
    if (result == HSB__HEAD_MORE) {
        say(o, "more");
    } else if (result != HSB__HEAD_DONE) {
        say(o, "%d %s", result, hsb__head_reason(h));
    } else {
        say(o, "%.*s %.*s 1.%d", (int)h->method.len, bytes + h->method.at, (int)h->target.len,
            bytes + h->target.at, h->minor);
        if (h->has_host)
            say_span(o, "host", bytes, h->host);
        say_span(o, "path", bytes, h->path);
        if (h->has_query)
            say_span(o, "query", bytes, h->query);
        if (h->chunked)
            say(o, " chunked");
        if (h->has_length)
            say(o, " length(%lld)", (long long)h->content_length);
        say(o, "%s%s", h->keep_alive ? " keep" : "", h->expect_continue ? " expect" : "");
        if (h->field_count)
            say(o, " |");
        say_fields(o, bytes, h, 0, h->trailer_from);
        assert_int_equal(h->at, h->end);
        assert_int_equal(h->content_length, h->chunked ? -1 : h->has_length ? h->content_length : 0);
    }
}

/* --- every split ------------------------------------------------------------------------- */

/* In parts that end at the cuts, which ascend, and then the rest. */
static outcome play(const char *bytes, size_t len, const size_t *cuts, size_t cut_count,
                    const hsb__head_limits *limits)
{
    outcome o;
    reader r;
    int result = HSB__HEAD_MORE;
    reader_start(&r, limits);
    for (size_t i = 0; i <= cut_count && result == HSB__HEAD_MORE; i++)
        result = reader_take(&r, bytes, i < cut_count ? cuts[i] : len);
    int again = reader_take(&r, bytes, len);            /* an end is an end                */
    assert_int_equal(again, result);
    describe(&o, &r.head, bytes, result);
    return o;
}

static void same(const outcome *a, const outcome *b, const char *how)
{
    if (strcmp(a->text, b->text) == 0 && a->at == b->at)
        return;
    fail_msg("whole: %s (at %zu), %s: %s (at %zu)", a->text, a->at, how, b->text, b->at);
}

static outcome every_split(const char *bytes, size_t len, const hsb__head_limits *limits)
{
    enum { MOST_CUTS = 4096 };
    static size_t cuts[MOST_CUTS];
    outcome whole = play(bytes, len, NULL, 0, limits), o;
    for (size_t i = 0; i < len && i < MOST_CUTS; i++)
        cuts[i] = i;
    o = play(bytes, len, cuts, len < MOST_CUTS ? len : MOST_CUTS, limits);
    same(&whole, &o, "byte by byte");
    for (size_t cut = 0; cut < len; cut++) {
        o = play(bytes, len, &cut, 1, limits);
        same(&whole, &o, "in two parts");
    }
    for (int round = 0; round < 8; round++) {
        size_t count = 0;
        for (size_t at = random_below(20); at < len && count < MOST_CUTS; at += random_below(20))
            cuts[count++] = at;
        o = play(bytes, len, cuts, count, limits);
        same(&whole, &o, "in random parts");
    }
    /* What follows the head is not looked at, and a refusal needs no byte more. */
    o = play(bytes, whole.at < len ? whole.at + (whole.text[0] != 'm') : len, NULL, 0, limits);
    if (whole.at < len)
        same(&whole, &o, "cut short");
    return whole;
}

typedef struct expectation { const char *bytes, *outcome; } expectation;

static void check_all(const expectation *list, size_t count)
{
    int wrong = 0;
    for (size_t i = 0; i < count; i++) {
        outcome o = every_split(list[i].bytes, strlen(list[i].bytes), &usual_limits);
        if (strcmp(o.text, list[i].outcome) == 0)
            continue;
        print_error("%s\n   wanted: %s\n   got:    %s\n", list[i].bytes, list[i].outcome, o.text);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

#define CHECK_ALL(list) check_all(list, sizeof list / sizeof list[0])

/* --- the cases ------------------------------------------------------------------------------ */
#define LINE "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define END "\r\n"
#define POST "POST / HTTP/1.1\r\n" HOST
#define OLD "POST / HTTP/1.0\r\n"

/* RFC 9112 2.2, 3 */
static void test_request_line(void **state)
{
    static const char bad_line[] = "400 request line is malformed";
    static const char bad_version[] = "400 HTTP version or line end is malformed";
    static const char bad_method[] = "400 method is not a token";
    const expectation list[] = {
        { "", "more" },
        { "\r", "more" },
        { "GET", "more" },
        { "GET / HTTP/1.1\r\n", "more" },
        { LINE HOST END, "GET / 1.1 host(a) path(/) keep | Host(a)" },
        { "\r\n" LINE HOST END, "GET / 1.1 host(a) path(/) keep | Host(a)" },
        { LINE HOST END "GET / what follows", "GET / 1.1 host(a) path(/) keep | Host(a)" },
        { "\r\n\r\n" LINE HOST END, bad_method },
        { "\n" LINE HOST END, bad_method },
        { "\r" LINE HOST END, "400 CR without LF" },
        { " " LINE HOST END, bad_method },
        { "!#$%&'*+-.^_`|~09az / HTTP/1.1\r\n" HOST END,
          "!#$%&'*+-.^_`|~09az / 1.1 host(a) path(/) keep | Host(a)" },
        { "get / HTTP/1.1\r\n" HOST END, "get / 1.1 host(a) path(/) keep | Host(a)" },
        { "GE(T / HTTP/1.1\r\n", bad_method },
        { "GET\t/ HTTP/1.1\r\n", bad_method },
        { "GET\r\n", bad_method },
        { "\x16\x03\x01\x02", bad_method },
        { "G\xC3\x89T / HTTP/1.1\r\n", bad_method },
        { "GET  / HTTP/1.1\r\n", "400 target is empty" },
        { "GET /  HTTP/1.1\r\n", bad_version },
        { "GET / HTTP/1.1 \r\n", bad_version },
        { "GET /\tHTTP/1.1\r\n", bad_line },
        { "GET /\r\n", bad_line },
        { "GET / \r\n", bad_version },
        { "GET /a b HTTP/1.1\r\n", bad_version },
        { "GET /\x01 HTTP/1.1\r\n", bad_line },
        { "GET /\x7F HTTP/1.1\r\n", bad_line },
        { "GET /\xC3\xA9 HTTP/1.1\r\n", bad_line },
        { "GET /#top HTTP/1.1\r\n", bad_line },
        { "GET / HTTP/1.1\n" HOST "\n", bad_version },
        { "GET / HTTP/1.1\rHost: a\r\n", bad_version },
        { "GET / HTTP/1.1\r\r\n", bad_version },
        { "GET / http/1.1\r\n", bad_version },
        { "GET / HTTP/1.\r\n", bad_version },
        { "GET / HTTP/11\r\n", bad_version },
        { "GET / HTTP/1.10\r\n", bad_version },
        { "GET / HTTP/01.1\r\n", bad_version },
        { "GET / HTTP/1,1\r\n", bad_version },
        { "GET / HTTPS/1.1\r\n", bad_version },
        { "GET / ICY/1.1\r\n", bad_version },
    };
    (void)state;
    CHECK_ALL(list);
}

/* RFC 9112 2.3, RFC 9110 2.5 */
static void test_version(void **state)
{
    static const char other[] = "505 HTTP version is not 1.0 or 1.1";
    const expectation list[] = {
        { "GET / HTTP/1.0\r\n" END, "GET / 1.0 path(/)" },
        { "GET / HTTP/1.0\r\n" HOST END, "GET / 1.0 host(a) path(/) | Host(a)" },
        { "GET / HTTP/1.2\r\n" HOST END, "GET / 1.1 host(a) path(/) keep | Host(a)" },
        { "GET / HTTP/1.9\r\n" END, "400 no Host field" },
        { "GET / HTTP/0.9\r\n", other },
        { "GET / HTTP/2.0\r\n", other },
        { "GET / HTTP/3.1\r\n", other },
        { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", other },
        { "GET nonsense HTTP/9.9\r\n", other },
    };
    (void)state;
    CHECK_ALL(list);
}

/* RFC 9112 3.2 */
static void test_target_forms(void **state)
{
    static const char no_form[] = "400 target in none of the four forms";
    static const char bad_host[] = "400 target with an invalid host";
    static const char bad_connect[] = "400 CONNECT without a valid host and port";
    static const char percent[] = "400 target has a % without two hexadecimal digits";
    const expectation list[] = {
        /* RFC 3986 2.1, 3.3, 3.4 */
        { "GET /%41%fF?%00 HTTP/1.1\r\n" HOST END,
          "GET /%41%fF?%00 1.1 host(a) path(/%41%fF) query(%00) keep | Host(a)" },
        { "GET /% HTTP/1.1\r\n", percent },
        { "GET /%4 HTTP/1.1\r\n", percent },
        { "GET /%4g HTTP/1.1\r\n", percent },
        { "GET /%%41 HTTP/1.1\r\n", percent },
        { "GET /%u0041 HTTP/1.1\r\n", percent },
        { "GET /%41%2x HTTP/1.1\r\n", percent },
        { "GET /%? HTTP/1.1\r\n", percent },
        { "GET /?a=100% HTTP/1.1\r\n", percent },
        { "GET /?%x HTTP/1.1\r\n", percent },
        { "GET http://b/%x HTTP/1.1\r\n", percent },
        { "GET http://b/?%x HTTP/1.1\r\n", percent },
        { "GET /% HTTP/2.0\r\n", "505 HTTP version is not 1.0 or 1.1" },
        { "GET /a/b?c=d&e HTTP/1.1\r\n" HOST END,
          "GET /a/b?c=d&e 1.1 host(a) path(/a/b) query(c=d&e) keep | Host(a)" },
        { "GET /? HTTP/1.1\r\n" HOST END, "GET /? 1.1 host(a) path(/) query() keep | Host(a)" },
        { "GET /?a?b HTTP/1.1\r\n" HOST END,
          "GET /?a?b 1.1 host(a) path(/) query(a?b) keep | Host(a)" },
        { "GET //b/../%2e HTTP/1.1\r\n" HOST END,
          "GET //b/../%2e 1.1 host(a) path(//b/../%2e) keep | Host(a)" },
        { "GET /{\"|\"}<\\^`> HTTP/1.1\r\n" HOST END,
          "GET /{\"|\"}<\\^`> 1.1 host(a) path(/{\"|\"}<\\^`>) keep | Host(a)" },
        { "GET ?a HTTP/1.1\r\n", no_form },
        { "GET a HTTP/1.1\r\n", no_form },
        { "GET www.example.org HTTP/1.1\r\n", no_form },
        /* absolute-form */
        { "GET http://b.c/d?e HTTP/1.1\r\n" HOST END,
          "GET http://b.c/d?e 1.1 host(b.c) path(/d) query(e) keep | Host(a)" },
        { "GET HTTPS://b:8443/ HTTP/1.1\r\n" HOST END,
          "GET HTTPS://b:8443/ 1.1 host(b:8443) path(/) keep | Host(a)" },
        { "GET http://b HTTP/1.1\r\n" HOST END, "GET http://b 1.1 host(b) path(/) keep | Host(a)" },
        { "GET https://b?c/d HTTP/1.1\r\n" HOST END,
          "GET https://b?c/d 1.1 host(b) path(/) query(c/d) keep | Host(a)" },
        { "GET http://b/ HTTP/1.0\r\n" END, "GET http://b/ 1.0 host(b) path(/)" },
        { "GET http://b/ HTTP/1.1\r\n" END, "400 no Host field" },
        { "GET http://b/ HTTP/1.1\r\nHost:\r\n" END,
          "GET http://b/ 1.1 host(b) path(/) keep | Host()" },
        { "GET http://b/ HTTP/1.1\r\nHost: a/\r\n" END, "400 Host is not valid" },
        { "GET http://[::1]:8080/ HTTP/1.1\r\n" HOST END,
          "GET http://[::1]:8080/ 1.1 host([::1]:8080) path(/) keep | Host(a)" },
        { "OPTIONS http://b HTTP/1.1\r\n" HOST END,
          "OPTIONS http://b 1.1 host(b) path(/) keep | Host(a)" },
        { "GET http:///d HTTP/1.1\r\n", bad_host },
        { "GET http:// HTTP/1.1\r\n", bad_host },
        { "GET http://:80/ HTTP/1.1\r\n", bad_host },
        { "GET http://b:x/ HTTP/1.1\r\n", bad_host },
        { "GET http://user@b/ HTTP/1.1\r\n", bad_host },
        { "GET http://user:pw@b/ HTTP/1.1\r\n", bad_host },
        { "GET http:/b HTTP/1.1\r\n", no_form },
        { "GET http:b HTTP/1.1\r\n", no_form },
        { "GET ftp://b/ HTTP/1.1\r\n", no_form },
        { "GET urn:isbn:0451450523 HTTP/1.1\r\n", no_form },
        { "GET file:///etc/passwd HTTP/1.1\r\n", no_form },
        /* authority-form */
        { "CONNECT b.c:443 HTTP/1.1\r\n" HOST END,
          "CONNECT b.c:443 1.1 host(b.c:443) path() keep | Host(a)" },
        { "CONNECT [fe80::1]:443 HTTP/1.1\r\nHost:\r\n" END,
          "CONNECT [fe80::1]:443 1.1 host([fe80::1]:443) path() keep | Host()" },
        { "CONNECT b.c HTTP/1.1\r\n", bad_connect },
        { "CONNECT b.c: HTTP/1.1\r\n", bad_connect },
        { "CONNECT b.c:0 HTTP/1.1\r\n", bad_connect },
        { "CONNECT b.c:65536 HTTP/1.1\r\n", bad_connect },
        { "CONNECT :443 HTTP/1.1\r\n", bad_connect },
        { "CONNECT [::1] HTTP/1.1\r\n", bad_connect },
        { "CONNECT / HTTP/1.1\r\n", bad_connect },
        { "CONNECT * HTTP/1.1\r\n", bad_connect },
        { "CONNECT http://b/ HTTP/1.1\r\n", bad_connect },
        { "GET b.c:443 HTTP/1.1\r\n", no_form },
        { "connect b.c:443 HTTP/1.1\r\n", no_form },
        /* asterisk-form */
        { "OPTIONS * HTTP/1.1\r\n" HOST END, "OPTIONS * 1.1 host(a) path(*) keep | Host(a)" },
        { "OPTIONS * HTTP/1.1\r\nHost:\r\n" END, "OPTIONS * 1.1 host() path(*) keep | Host()" },
        { "GET * HTTP/1.1\r\n", "400 target * without OPTIONS" },
        { "OPTIONS *a HTTP/1.1\r\n", no_form },
        { "options * HTTP/1.1\r\n", "400 target * without OPTIONS" },
    };
    (void)state;
    CHECK_ALL(list);
}

/* RFC 9112 5 */
static void test_field_lines(void **state)
{
    static const char bad_name[] = "400 field name is not a token before a colon";
    const expectation list[] = {
        { LINE HOST "A:b\r\n" END, "GET / 1.1 host(a) path(/) keep | Host(a) A(b)" },
        { LINE HOST "A:\r\n" END, "GET / 1.1 host(a) path(/) keep | Host(a) A()" },
        { LINE HOST "A: \t \r\n" END, "GET / 1.1 host(a) path(/) keep | Host(a) A()" },
        { LINE HOST "A:\t b\t c \t\r\n" END, "GET / 1.1 host(a) path(/) keep | Host(a) A(b\t c)" },
        { LINE HOST "A: :b:\r\n" END, "GET / 1.1 host(a) path(/) keep | Host(a) A(:b:)" },
        { LINE HOST "A: 12345678\tabcdefgh\t\tx\r\n" END,
          "GET / 1.1 host(a) path(/) keep | Host(a) A(12345678\tabcdefgh\t\tx)" },
        { LINE HOST "a: \xFC\x80\xFF\r\n" END,
          "GET / 1.1 host(a) path(/) keep | Host(a) a(\xFC\x80\xFF)" },
        { LINE HOST "!#$%&'*+-.^_`|~09az: b\r\n" END,
          "GET / 1.1 host(a) path(/) keep | Host(a) !#$%&'*+-.^_`|~09az(b)" },
        { LINE HOST "A : b\r\n", bad_name },
        { LINE HOST "A\t: b\r\n", bad_name },
        { LINE HOST ": b\r\n", bad_name },
        { LINE HOST "A\r\n", bad_name },
        { LINE HOST "A b: c\r\n", bad_name },
        { LINE HOST "A(b): c\r\n", bad_name },
        { LINE HOST "\xC3\xA9: c\r\n", bad_name },
        { LINE HOST "A: b\r\n c\r\n" END, bad_name },
        { LINE HOST "A: b\r\n\tc\r\n" END, bad_name },
        { LINE " Host: a\r\n", bad_name },
        { LINE HOST " \r\n" END, bad_name },
        { LINE HOST "A: b\n", "400 LF without CR" },
        { LINE HOST "\n", bad_name },
        { LINE HOST "A: b\rB: c\r\n", "400 CR without LF" },
        { LINE HOST "A: b\r\r\n", "400 CR without LF" },
        { LINE HOST "\r\r\n", "400 CR without LF" },
        { LINE HOST "A: \x01\r\n", "400 control character in a field" },
        { LINE HOST "A: b\x7F\r\n", "400 control character in a field" },
        { LINE HOST "A: abcdefghijklmnop\x0B\r\n", "400 control character in a field" },
        { LINE HOST "A: a\r\nA: b\r\na: c\r\n" END,
          "GET / 1.1 host(a) path(/) keep | Host(a) A(a) A(b) a(c)" },
    };
    (void)state;
    CHECK_ALL(list);
    static const char nul[] = LINE HOST "A: b\0c\r\n\r\n";
    outcome o = every_split(nul, sizeof nul - 1, &usual_limits);
    assert_string_equal(o.text, "400 control character in a field");
}

/* RFC 9112 3.2, RFC 3986 3.2.2 */
static void test_host(void **state)
{
    static const char *const good[] = {
        "a", "a.b", "a.b.", "www.example.org:8443", "a:", "a:0", "a:65535", "a:00080", "127.0.0.1",
        "127.0.0.1:80", "[::]", "[::1]", "[::1]:443", "[::1]:", "[fe80::1:2]", "[::ffff:1.2.3.4]",
        "[1111:2222:3333:4444:5555:6666:123.123.123.123]", "xn--bcher-kva.example", "a_b", "a~b",
        "a%20b", "%C3%A9", "a,b", "a!$&'()*+;=b", "1", "-", "999.999.999.999"
    };
    static const char *const bad[] = {
        "", ":80", "a b", "a\tb", "a:b", "a:80:80", "a:65536", "a:99999999999999999999", "a:-1",
        "a:+1", "a: 80", "::1", "fe80::1:443", "[", "[]", "[::1", "::1]", "[::1]443", "[::1]a",
        "[::1]:a", "[::1]]", "[:::1]", "[1.2.3.4]", "[::1%25eth0]", "[::1%eth0]", "[v1.a]", "[g::]",
        "[1:2:3:4:5:6:7:8:9]", "[1111:2222:3333:4444:5555:6666:123.123.123.1234]", "a/b", "a?b",
        "a#b", "user@a", "a\\b", "a%", "a%2", "a%2g", "a%g2", "<a>", "\"a\"", "a|b", "a^b", "a`b",
        "{a}", "a\x80", "\xC3\xA9.example", "http://a", "a/", "*@"
    };
    char head[256], wanted[256];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(head, sizeof head, LINE "Host: %s\r\n\r\n", good[i]);
        snprintf(wanted, sizeof wanted, "GET / 1.1 host(%s) path(/) keep | Host(%s)", good[i], good[i]);
        assert_string_equal(every_split(head, strlen(head), &usual_limits).text, wanted);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(head, sizeof head, LINE "Host: %s\r\n\r\n", bad[i]);
        if (strcmp(every_split(head, strlen(head), &usual_limits).text, "400 Host is not valid"))
            fail_msg("Host \"%s\" was taken", bad[i]);
    }
    const expectation list[] = {
        { LINE END, "400 no Host field" },
        { LINE HOST HOST END, "400 two Host fields" },
        { LINE HOST "hOST: b\r\n" END, "400 two Host fields" },
        { "GET / HTTP/1.0\r\n" HOST HOST END, "400 two Host fields" },
        { "GET / HTTP/1.0\r\nHost:\r\n" END, "400 Host is not valid" },
        { LINE "HOST: a\r\n" END, "GET / 1.1 host(a) path(/) keep | HOST(a)" },
        { LINE "Hosts: a\r\n" END, "400 no Host field" },
        { LINE "Hos: a\r\n" END, "400 no Host field" },
    };
    CHECK_ALL(list);
}

/* RFC 9112 6 */
static void test_content_length(void **state)
{
    static const char bad[] = "400 Content-Length is not a number";
    static const char large[] = "413 Content-Length is too large";
    static const char two[] = "400 two Content-Length fields";
    const expectation list[] = {
        { POST "Content-Length: 5\r\n" END,
          "POST / 1.1 host(a) path(/) length(5) keep | Host(a) Content-Length(5)" },
        { POST "content-LENGTH:0\r\n" END,
          "POST / 1.1 host(a) path(/) length(0) keep | Host(a) content-LENGTH(0)" },
        { POST "Content-Length: \t007 \r\n" END,
          "POST / 1.1 host(a) path(/) length(7) keep | Host(a) Content-Length(007)" },
        { POST "Content-Length: 9223372036854775807\r\n" END,
          "POST / 1.1 host(a) path(/) length(9223372036854775807) keep"
          " | Host(a) Content-Length(9223372036854775807)" },
        { OLD "Content-Length: 5\r\n" END, "POST / 1.0 path(/) length(5) | Content-Length(5)" },
        { POST "Content-Length: 9223372036854775808\r\n" END, large },
        { POST "Content-Length: 18446744073709551621\r\n" END, large },
        { POST "Content-Length: 99999999999999999999999999999999999\r\n" END, large },
        { POST "Content-Length: 99999999999999999999999999999999999a\r\n" END, bad },
        { POST "Content-Length: -99999999999999999999999999999999999\r\n" END, bad },
        { POST "Content-Length:\r\n" END, bad },
        { POST "Content-Length: -1\r\n" END, bad },
        { POST "Content-Length: +5\r\n" END, bad },
        { POST "Content-Length: 5a\r\n" END, bad },
        { POST "Content-Length: 0x5\r\n" END, bad },
        { POST "Content-Length: 5.0\r\n" END, bad },
        { POST "Content-Length: 5 5\r\n" END, bad },
        { POST "Content-Length: 5,5\r\n" END, bad },
        { POST "Content-Length: 5, 6\r\n" END, bad },
        { POST "Content-Length: 5,\r\n" END, bad },
        { POST "Content-Length: ,5\r\n" END, bad },
        { POST "Content-Length: \"5\"\r\n" END, bad },
        { POST "Content-Length: \xB2\r\n" END, bad },
        { POST "Content-Length: 5\r\nContent-Length: 5\r\n" END, two },
        { POST "Content-Length: 5\r\ncontent-length: 6\r\n" END, two },
        { POST "Content-Length: 0\r\nContent-Length: 0\r\n" END, two },
        { POST "Content_Length: 5\r\n" END,
          "POST / 1.1 host(a) path(/) keep | Host(a) Content_Length(5)" },
    };
    (void)state;
    CHECK_ALL(list);
}

/* RFC 9112 6.1, 7 */
static void test_transfer_encoding(void **state)
{
    static const char both[] = "400 both Content-Length and Transfer-Encoding";
    static const char also[] = "400 both Transfer-Encoding and Content-Length";
    static const char bad[] = "400 Transfer-Encoding is malformed";
    static const char other[] = "501 Transfer-Encoding is not chunked";
    static const char two[] = "400 two Transfer-Encoding fields";
    const expectation list[] = {
        { POST "Transfer-Encoding: chunked\r\n" END,
          "POST / 1.1 host(a) path(/) chunked keep | Host(a) Transfer-Encoding(chunked)" },
        { POST "transfer-encoding:CHUNKED\t\r\n" END,
          "POST / 1.1 host(a) path(/) chunked keep | Host(a) transfer-encoding(CHUNKED)" },
        { POST "Transfer-Encoding: gzip\r\n" END, other },
        { POST "Transfer-Encoding: gzip, chunked\r\n" END, other },
        { POST "Transfer-Encoding: chunked, gzip\r\n" END, other },
        { POST "Transfer-Encoding: chunked, identity\r\n" END, other },
        { POST "Transfer-Encoding: identity\r\n" END, other },
        { POST "Transfer-Encoding: xchunked\r\n" END, other },
        { POST "Transfer-Encoding: chunkedx\r\n" END, other },
        { POST "Transfer-Encoding: gzip;q=1\r\n" END, other },
        { POST "Transfer-Encoding: chunked, chunked\r\n" END, bad },
        { POST "Transfer-Encoding: chunked,\r\n" END, bad },
        { POST "Transfer-Encoding: ,chunked\r\n" END, bad },
        { POST "Transfer-Encoding: chunked;a=b\r\n" END, bad },
        { POST "Transfer-Encoding: chunked ;\r\n" END, bad },
        { POST "Transfer-Encoding: \"chunked\"\r\n" END, bad },
        { POST "Transfer-Encoding: chunk ed\r\n" END, bad },
        { POST "Transfer-Encoding: 'chunked\xA0\r\n" END, bad },
        { POST "Transfer-Encoding:\r\n" END, bad },
        { POST "Transfer-Encoding: ,\r\n" END, bad },
        { POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" END, two },
        { POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n" END, two },
        { POST "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n" END, two },
        { POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" END, both },
        { POST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n" END, both },
        { POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" END, also },
        { POST "Transfer-Encoding: chunked\r\nContent-Length: x\r\n" END, also },
        { OLD "Transfer-Encoding: chunked\r\n" END, "400 Transfer-Encoding in HTTP/1.0" },
        { OLD "Transfer-Encoding: gzip\r\n" END, "400 Transfer-Encoding in HTTP/1.0" },
        { POST "Transfer_Encoding: chunked\r\n" END,
          "POST / 1.1 host(a) path(/) keep | Host(a) Transfer_Encoding(chunked)" },
        { POST "Transfer-Encoding : chunked\r\n" END,
          "400 field name is not a token before a colon" },
    };
    (void)state;
    CHECK_ALL(list);
}

/* RFC 9112 9.3 */
static void test_connection(void **state)
{
    static const struct { const char *line, *fields; bool keeps; } list[] = {
        { "GET / HTTP/1.1\r\n", "", true },
        { "GET / HTTP/1.1\r\n", "Connection: close\r\n", false },
        { "GET / HTTP/1.1\r\n", "Connection: CLOSE\r\n", false },
        { "GET / HTTP/1.1\r\n", "Connection: keep-alive\r\n", true },
        { "GET / HTTP/1.1\r\n", "Connection: keep-alive, close\r\n", false },
        { "GET / HTTP/1.1\r\n", "Connection: close, keep-alive\r\n", false },
        { "GET / HTTP/1.1\r\n", "Connection: , ,close,\r\n", false },
        { "GET / HTTP/1.1\r\n", "Connection: TE ,\tclose\r\n", false },
        { "GET / HTTP/1.1\r\n", "Connection: TE\r\nConnection: close\r\n", false },
        { "GET / HTTP/1.1\r\n", "Connection: close\r\nConnection: keep-alive\r\n", false },
        { "GET / HTTP/1.1\r\n", "Connection: closed\r\n", true },
        { "GET / HTTP/1.1\r\n", "Connection:\r\n", true },
        { "GET / HTTP/1.1\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true },
        { "GET / HTTP/1.1\r\n", "Proxy-Connection: close\r\n", true },
        { "GET / HTTP/1.0\r\n", "", false },
        { "GET / HTTP/1.0\r\n", "Connection: keep-alive\r\n", true },
        { "GET / HTTP/1.0\r\n", "Connection: a, Keep-Alive\r\n", true },
        { "GET / HTTP/1.0\r\n", "Connection: keep-alive\r\nConnection: close\r\n", false },
        { "GET / HTTP/1.0\r\n", "Connection: keepalive\r\n", false },
        { "GET / HTTP/1.0\r\n", "Keep-Alive: 300\r\n", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char head[256];
        snprintf(head, sizeof head, "%s" HOST "%s\r\n", list[i].line, list[i].fields);
        outcome o = every_split(head, strlen(head), &usual_limits);
        if (list[i].keeps != (strstr(o.text, " keep |") != NULL))
            fail_msg("%s: %s", list[i].fields, o.text);
    }
}

/* RFC 9110 10.1.1 */
static void test_expect(void **state)
{
    static const char other[] = "417 Expect is not 100-continue";
    const expectation list[] = {
        { POST "Content-Length: 5\r\nExpect: 100-Continue\r\n" END,
          "POST / 1.1 host(a) path(/) length(5) keep expect"
          " | Host(a) Content-Length(5) Expect(100-Continue)" },
        { POST "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n" END,
          "POST / 1.1 host(a) path(/) chunked keep expect"
          " | Host(a) Expect(100-continue) Transfer-Encoding(chunked)" },
        { POST "Expect: 100-continue,100-continue\r\nContent-Length: 1\r\n" END,
          "POST / 1.1 host(a) path(/) length(1) keep expect"
          " | Host(a) Expect(100-continue,100-continue) Content-Length(1)" },
        { POST "Expect: 100-continue\r\nContent-Length: 0\r\n" END,
          "POST / 1.1 host(a) path(/) length(0) keep"
          " | Host(a) Expect(100-continue) Content-Length(0)" },
        { POST "Expect: 100-continue\r\n" END,
          "POST / 1.1 host(a) path(/) keep | Host(a) Expect(100-continue)" },
        { POST "Expect:\r\nContent-Length: 1\r\n" END,
          "POST / 1.1 host(a) path(/) length(1) keep | Host(a) Expect() Content-Length(1)" },
        { OLD "Expect: 100-continue\r\nContent-Length: 1\r\n" END,
          "POST / 1.0 path(/) length(1) | Expect(100-continue) Content-Length(1)" },
        { POST "Expect: 100\r\n" END, other },
        { POST "Expect: a\r\n" END, other },
        { POST "Expect: 100-continue=a\r\n" END, other },
        { POST "Expect: 100-continue;a\r\n" END, other },
        { POST "Expect: 100-continue, a\r\n" END, other },
        { POST "Expect: 100-continue\r\nExpect: a\r\n" END, other },
        { OLD "Expect: a\r\n" END, other },
    };
    (void)state;
    CHECK_ALL(list);
}

/* --- every byte at every place ------------------------------------------------------------- */

/* The eight bytes at a time must agree with one at a time: c stands `at` bytes into a part
   that is as long as text. */
static void place_byte(const char *before, const char *after, unsigned c, size_t at, bool good)
{
    char head[256];
    size_t len = strlen(before);
    memcpy(head, before, len);
    memset(head + len, 'a', 20);
    head[len + at] = (char)c;
    strcpy(head + len + 20, after);
    len += 20 + strlen(after);
    outcome o = play(head, len, NULL, 0, &usual_limits);
    if (good != (strncmp(o.text, "GET", 3) == 0))
        fail_msg("byte %u at %zu behind %s: %s", c, at, before, o.text);
}

static void test_every_byte(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++)
        for (size_t at = 0; at < 20; at++) {
            bool token = c < 128 && (hsb__byte_is((char)c, HSB__BYTE_DIGIT) ||
                         (hsb__text_lower((char)c) >= 'a' && hsb__text_lower((char)c) <= 'z') ||
                         (c && strchr("!#$%&'*+-.^_`|~", (int)c)));
            bool value = c == '\t' || (c >= 32 && c != 127);
            bool target = c > 32 && c < 127 && c != '#' && (c != '%' || at < 18);
            place_byte("GET /", " HTTP/1.1\r\n" HOST END, c, at, target);
            place_byte(LINE HOST "A: ", "\r\n\r\n", c, at, value);
            place_byte(LINE HOST "A: \t", "\t \r\n\r\n", c, at, value);
            place_byte(LINE HOST, ": a\r\n\r\n", c, at, token || (c == ':' && at > 0));
            place_byte("GET", " / HTTP/1.1\r\n" HOST END, c, at, token);
        }
}

/* --- limits ------------------------------------------------------------------------------------ */

static void limit(const char *bytes, size_t target, size_t all, size_t fields, const char *start)
{
    const hsb__head_limits limits = { target, all, fields };
    outcome o = every_split(bytes, strlen(bytes), &limits);
    if (strncmp(o.text, start, strlen(start)))
        fail_msg("%s\nwith %zu %zu %zu: %s, not %s", bytes, target, all, fields, o.text, start);
}

static void test_limits(void **state)
{
    static const char head[] = "GET /abc HTTP/1.1\r\n" HOST "A: b\r\n" END;
    const size_t len = sizeof head - 1;
    (void)state;
    limit(head, 4, len, 2, "GET");
    limit(head, 3, len, 2, "414 target is too long");
    limit(head, 0, len, 2, "414");
    limit(head, 4, len - 1, 2, "431 head is too long");
    limit(head, 4, len - 2, 2, "431");
    limit(head, 4, 1, 2, "431");
    limit(head, 4, 0, 2, "431");
    limit(head, 4, len, 1, "431 too many fields");
    limit(head, 4, len, 0, "431 too many fields");
    limit(head, SIZE_MAX, SIZE_MAX, SIZE_MAX, "GET");
    limit("GET /abcd", 4, 100, 1, "414");           /* no line end is needed to see it */
    limit("GET /abc", 4, 100, 1, "more");
    limit("GET /abc#", 4, 100, 1, "400");           /* the byte that is wrong comes first */
    limit("GET /abcd#", 4, 100, 1, "414");
    limit("GET /abcdefgh", 100, 10, 1, "431");      /* and so does the limit reached first */
    limit("GET /abcdefgh", 5, 10, 1, "414");
    limit("ABCDEFGHIJKL", 5, 10, 1, "431");
    limit("ABCDEFGHI(KL", 5, 10, 1, "400");
    limit("ABCDEFGHIJ(L", 5, 10, 1, "431");
    limit("GET  / HTTP/1.1", 0, 100, 1, "400 target is empty");
    limit("\r\n" "GET / HTTP/1.1\r\n" HOST END, 1, 29, 1, "GET");
    limit("\r\n" "GET / HTTP/1.1\r\n" HOST END, 1, 28, 1, "431");
}

/* A head of a megabyte, byte by byte: seconds if each byte is seen once, hours if not. */
static void test_linear(void **state)
{
    enum { SIZE = 1 << 20 };
    const hsb__head_limits limits = { SIZE, SIZE, 4 };
    static const char before[] = LINE HOST "A: ", after[] = "\r\n\r\n";
    static char head[SIZE];
    reader r;
    int result = HSB__HEAD_MORE;
    (void)state;
    memset(head, ' ', SIZE);
    memcpy(head, before, sizeof before - 1);
    head[sizeof before] = 'b';
    memcpy(head + SIZE - sizeof after + 1, after, sizeof after - 1);
    reader_start(&r, &limits);
    r.head.field_space = MOST_FIELDS;
    for (size_t len = 0; len <= SIZE && result == HSB__HEAD_MORE; len++)
        result = hsb__head_parse(&r.head, head, len);
    assert_int_equal(result, HSB__HEAD_DONE);
    assert_int_equal(r.head.end, SIZE);
    assert_int_equal(r.fields[1].value.len, 1);
}

/* --- trailers -------------------------------------------------------------------------------------- */

/* The storage as the caller keeps it: the head, whatever else, the trailers at `from`. */
static outcome trailers(const char *bytes, const size_t *cuts, size_t cut_count)
{
    static const char head[] = POST "Transfer-Encoding: chunked\r\n" END "rest";
    const size_t from = sizeof head - 1;
    char storage[1024];
    const size_t len = from + strlen(bytes);
    reader r;
    outcome o;
    strcpy(storage, head);
    strcpy(storage + from, bytes);
    reader_start(&r, &usual_limits);
    assert_int_equal(reader_take(&r, storage, from), HSB__HEAD_DONE);
    int result = HSB__HEAD_MORE;
    for (size_t i = 0; i <= cut_count && result == HSB__HEAD_MORE; i++) {
        size_t part = i < cut_count ? from + cuts[i] : len;
        const char *copy = guard_copy(storage, part);
        while ((result = hsb__head_parse_trailers(&r.head, copy, part, from)) == HSB__HEAD_SPACE)
            r.head.field_space++;
    }
    assert_int_equal(hsb__head_parse_trailers(&r.head, storage, len, from), result);
    o.text[0] = '\0';
    o.at = r.head.at - from;
    if (result == HSB__HEAD_DONE) {
        assert_int_equal(r.head.end, r.head.at);
        assert_int_equal(r.head.trailer_from, 2);
        say(&o, "done");
        say_fields(&o, storage, &r.head, r.head.trailer_from, r.head.field_count);
    } else {
        say(&o, result == HSB__HEAD_MORE ? "more" : "%d %s", result, hsb__head_reason(&r.head));
    }
    assert_true(r.head.chunked && r.head.keep_alive && r.head.content_length == -1);
    assert_int_equal(hsb__head_field(&r.head, storage, hsb__text_of("A"), 0, r.head.trailer_from), -1);
    return o;
}

static void test_trailers(void **state)
{
    const expectation list[] = {
        { "", "more" },
        { "\r", "more" },
        { "\r\n", "done" },
        { "\r\nGET / HTTP/1.1\r\n", "done" },
        { "A: b\r\n", "more" },
        { "A: b\r\nC:\r\n\r\n", "done A(b) C()" },
        { "Content-Length: x\r\nTransfer-Encoding: gzip\r\nHost:\r\nHost: a/b\r\n"
          "Connection: close\r\nExpect: a\r\n\r\n",
          "done Content-Length(x) Transfer-Encoding(gzip) Host() Host(a/b) Connection(close)"
          " Expect(a)" },
        { "\n", "400 field name is not a token before a colon" },
        { "A: b\n", "400 LF without CR" },
        { "A : b\r\n", "400 field name is not a token before a colon" },
        { " A: b\r\n", "400 field name is not a token before a colon" },
        { "A: b\r\n c\r\n", "400 field name is not a token before a colon" },
        { "A: \x01\r\n", "400 control character in a field" },
        { "\rA: b", "400 CR without LF" },
        { "A:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\nA:6\r\nA:7\r\nA:8\r\n\r\n",
          "done A(1) A(2) A(3) A(4) A(5) A(6) A(7) A(8)" },
        { "A:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\nA:6\r\nA:7\r\nA:8\r\nA", "431 too many fields" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        size_t len = strlen(list[i].bytes), each[256];
        outcome whole = trailers(list[i].bytes, NULL, 0), o;
        assert_string_equal(whole.text, list[i].outcome);
        for (size_t at = 0; at < len; at++) {
            each[at] = at;
            o = trailers(list[i].bytes, &at, 1);
            same(&whole, &o, "in two parts");
        }
        o = trailers(list[i].bytes, each, len);
        same(&whole, &o, "byte by byte");
    }
}

static void test_trailer_limit(void **state)
{
    static const char head[] = POST "Transfer-Encoding: chunked\r\n" END;
    static const char tail[] = "A: bcdef\r\n\r\n";
    const size_t from = sizeof head - 1;
    char storage[256];
    (void)state;
    strcpy(storage, head);
    strcpy(storage + from, tail);
    for (int fits = 0; fits < 2; fits++)
        for (size_t step = 1; step < 20; step += 18) {
            hsb__head_limits limits = { 64, from, 8 };
            reader r;
            int result = HSB__HEAD_MORE;
            reader_start(&r, &limits);
            assert_int_equal(reader_take(&r, storage, from), HSB__HEAD_DONE);
            r.head.field_space = MOST_FIELDS;
            r.head.limits.bytes = sizeof tail - 2 + (size_t)fits;
            for (size_t len = 0; len < sizeof tail + step && result == HSB__HEAD_MORE; len += step)
                result = hsb__head_parse_trailers(&r.head, storage,
                    from + (len < sizeof tail - 1 ? len : sizeof tail - 1), from);
            assert_int_equal(result, fits ? HSB__HEAD_DONE : 431);
            assert_string_equal(hsb__head_reason(&r.head), fits ? "" : "trailers are too long");
        }
}

/* --- random heads ------------------------------------------------------------------------------------ */

/* Pieces of heads put together and then spoilt: whatever the outcome, no split changes it. */
static void test_random_heads(void **state)
{
    static const char *const pieces[] = {
        "GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.0\r\n", "CONNECT a:1 HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n",
        "GET http://[::1]/ HTTP/1.1\r\n", "Host: a\r\n", "Host: [::1]:80\r\n", "Content-Length: 12\r\n",
        "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "Connection: close\r\n", "A:\tb\t\r\n",
        "Cookie: a=b; c=d\r\n", "\r\n", "\r\n\r\n", " ", "\n", ":", "a", "\xFF", "0", "," };
    const size_t piece_count = sizeof pieces / sizeof *pieces;
    (void)state;
    print_message("SEED=%llu\n", (unsigned long long)random_start(7));
    for (int round = 0; round < 3000; round++) {
        char head[512];
        size_t len = 0, parts = 1 + random_below(7);
        const hsb__head_limits limits = { 1 + random_below(24), 1 + random_below(256), random_below(6) };
        for (size_t i = 0; i < parts; i++) {
            const char *piece = pieces[random_below(i == 0 ? 5 : piece_count)];
            memcpy(head + len, piece, strlen(piece));
            len += strlen(piece);
        }
        if (round % 2)
            head[random_below(len)] = (char)random_below(256);
        if (round % 4 == 3)
            len = random_below(len);
        every_split(head, len, round % 3 ? &usual_limits : &limits);
    }
}

/* --- looking fields up -------------------------------------------------------------------------------- */

static void test_field(void **state)
{
    static const char head[] = LINE HOST "A: 1\r\nb: 2\r\nB: 3\r\n" END;
    reader r;
    (void)state;
    reader_start(&r, &usual_limits);
    assert_int_equal(reader_take(&r, head, sizeof head - 1), HSB__HEAD_DONE);
    assert_int_equal(hsb__head_field(&r.head, head, hsb__text_of("host"), 0, 4), 0);
    assert_int_equal(hsb__head_field(&r.head, head, hsb__text_of("B"), 0, 4), 2);
    assert_int_equal(hsb__head_field(&r.head, head, hsb__text_of("B"), 3, 4), 3);
    assert_int_equal(hsb__head_field(&r.head, head, hsb__text_of("B"), 0, 2), -1);
    assert_int_equal(hsb__head_field(&r.head, head, hsb__text_of("C"), 0, 4), -1);
    assert_int_equal(hsb__head_field(&r.head, head, hsb__text_of(""), 0, 4), -1);
}

static void test_percent(void **state)
{
    static const struct { const char *in; bool form; const char *out; } list[] = {
        { "", false, "" },            { "abc", false, "abc" },       { "%41%6a%4A", false, "AjJ" },
        { "a+b", false, "a+b" },      { "a+b%2B", true, "a b+" },    { "%C3%A9", false, "\xC3\xA9" },
        { "%25%32%35", false, "%25" },{ "%ff", false, "\xFF" },      { "%01", false, "\x01" },
        { "%00", false, NULL },       { "a%", false, NULL },         { "a%4", false, NULL },
        { "%4g", false, NULL },       { "%g4", false, NULL },        { "%%41", false, NULL },
        { "% 41", false, NULL },      { "%-1", false, NULL },        { "%0x41", false, NULL },
    };
    char buf[64];
    size_t len;
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        hsb_str in = hsb__text_make(guard_copy(list[i].in, strlen(list[i].in)), strlen(list[i].in));
        bool good = hsb__percent_decode(in, list[i].form, buf, sizeof buf, &len);
        assert_int_equal(good, list[i].out != NULL);
        assert_string_equal(buf, good ? list[i].out : "");
        assert_int_equal(len, strlen(buf));
        assert_int_equal(hsb__percent_decode(in, list[i].form, buf, sizeof buf, NULL), good);
    }
    assert_false(hsb__percent_decode(hsb__text_make("a\0b", 3), false, buf, sizeof buf, &len));
    assert_false(hsb__percent_decode(hsb__text_of(""), false, buf, 0, &len));
    assert_true(hsb__percent_decode(hsb__text_absent(), false, buf, 1, &len));
    for (size_t size = 0; size < 8; size++) {           /* the NUL needs room too */
        char *tight = guard_copy("xxxxxxxx", size);
        assert_int_equal(hsb__percent_decode(hsb__text_of("ab%43d"), false, tight, size, &len), size > 4);
        assert_int_equal(len, size > 4 ? 4 : 0);
        if (size)
            assert_string_equal(tight, size > 4 ? "abCd" : "");
    }
    strcpy(buf, "%41b%43d");                            /* where it is */
    assert_true(hsb__percent_decode(hsb__text_make(buf, 8), false, buf, sizeof buf, &len));
    assert_string_equal(buf, "AbCd");
}

static void check_form(const char *in, const char *wanted)
{
    hsb_str rest = hsb__text_make(guard_copy(in, strlen(in)), strlen(in)), name, value;
    outcome o = { "", 0 };
    while (hsb__form_next(&rest, &name, &value)) {
        say(&o, "[%.*s", (int)name.len, name.ptr);
        if (value.ptr)
            say(&o, "=%.*s", (int)value.len, value.ptr);
        say(&o, "]");
    }
    assert_string_equal(o.text, wanted);
    assert_false(hsb__form_next(&rest, &name, &value));
}

static void test_form(void **state)
{
    hsb_str rest = hsb__text_absent(), name, value;
    (void)state;
    assert_false(hsb__form_next(&rest, &name, &value));
    check_form("", "");
    check_form("a", "[a]");
    check_form("a=", "[a=]");
    check_form("a=1", "[a=1]");
    check_form("=1", "[=1]");
    check_form("=", "[=]");
    check_form("a=1&b=2", "[a=1][b=2]");
    check_form("&&a=1&&b&", "[a=1][b]");
    check_form("a=b=c", "[a=b=c]");
    check_form("a;b=1", "[a;b=1]");
    check_form("a+b=%20", "[a+b=%20]");
}

static void check_cookie(const char *fields, const char *name, const char *wanted)
{
    char head[256];
    reader r;
    snprintf(head, sizeof head, LINE HOST "%s\r\n", fields);
    const size_t len = strlen(head);
    reader_start(&r, &usual_limits);
    assert_int_equal(reader_take(&r, head, len), HSB__HEAD_DONE);
    const char *copy = guard_copy(head, len);
    hsb_str value = hsb__cookie_find(&r.head, copy, hsb__text_of(name));
    assert_int_equal(value.ptr != NULL, wanted != NULL);
    if (wanted && !hsb__text_is(value, wanted))
        fail_msg("%s: %s is %.*s", fields, name, (int)value.len, value.ptr);
}

/* RFC 6265 4.2 */
static void test_cookie(void **state)
{
    (void)state;
    check_cookie("", "a", NULL);
    check_cookie("Cookie: a=1\r\n", "a", "1");
    check_cookie("cookie: a=1; b=2\r\n", "b", "2");
    check_cookie("Cookie: a=1;b=2;\r\n", "b", "2");
    check_cookie("Cookie: a=1; a=2\r\n", "a", "1");
    check_cookie("Cookie: a=1\r\nCookie: b=2\r\n", "b", "2");
    check_cookie("Cookie: a=1\r\nCookie: a=2\r\n", "a", "1");
    check_cookie("Cookie: A=1\r\n", "a", NULL);
    check_cookie("Cookie: a=\r\n", "a", "");
    check_cookie("Cookie: a\r\n", "a", NULL);
    check_cookie("Cookie: a; b=2\r\n", "b", "2");
    check_cookie("Cookie: aa=1; a=2\r\n", "a", "2");
    check_cookie("Cookie: a=b=c==\r\n", "a", "b=c==");
    check_cookie("Cookie: a=\"x y\"\r\n", "a", "\"x y\"");
    check_cookie("Cookie:  a = 1 ;b=2\r\n", "a", "1");
    check_cookie("Cookie:;;; a=1\r\n", "a", "1");
    check_cookie("Cookie: =1\r\n", "a", NULL);
    check_cookie("Cookie:\r\nSet-Cookie: a=1\r\n", "a", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_line),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_target_forms),
        cmocka_unit_test(test_field_lines),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_content_length),
        cmocka_unit_test(test_transfer_encoding),
        cmocka_unit_test(test_connection),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_trailer_limit),
        cmocka_unit_test(test_random_heads),
        cmocka_unit_test(test_field),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_cookie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
