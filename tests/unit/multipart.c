/* >>multipart: the parts of a form.  Every body is fed whole, byte by byte, cut at every place and
   at every two places, and in random parts, from copies that end at a guard page: parts, data and
   end must be the same.  What the search looks at is counted. */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE 1
#endif
#include <stddef.h>
#include <string.h>

static size_t looked_at;                /* bytes that memchr and memcmp have looked at       */

static void *counted_memchr(const void *s, int c, size_t len)
{
    const char *found = memchr(s, c, len);
    looked_at += found ? (size_t)(found - (const char *)s) + 1 : len;
    return (void *)(size_t)found;
}

static int counted_memcmp(const void *a, const void *b, size_t len)
{
    const char *x = a, *y = b;
    for (size_t i = 0; i < len; i++) {
        looked_at++;
        if (x[i] != y[i])
            return (unsigned char)x[i] < (unsigned char)y[i] ? -1 : 1;
    }
    return 0;
}

#undef memchr          /* a macro of newer C libraries */
#define memchr counted_memchr
#define memcmp counted_memcmp
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#undef memchr
#undef memcmp

#include "guard.h"
#include "random.h"

#include "help.h"

enum { PARTS = 3, HEAD = 160 };         /* the limits here                                   */

/* "<name|file|type>data/" for each part; then "over", "more" or "400 reason". */
typedef struct outcome {
    char   text[1024];
    size_t len, pieces, calls;
} outcome;

static void put(outcome *o, const char *before, hsb_str s)
{
    const size_t n = strlen(before);
    assert_within(n + s.len, 0, sizeof o->text - 1 - o->len);
    memcpy(o->text + o->len, before, n);
    for (size_t i = 0; i < s.len; i++)
        o->text[o->len + n + i] = s.ptr[i] ? s.ptr[i] : '0';
    o->len += n + s.len;
}

static void put_part(outcome *o, const hsb_part *part)
{
    put(o, "<", part->name);
    if (part->file_name.ptr)
        put(o, "|", part->file_name);
    if (part->type.ptr)
        put(o, "|", part->type);
    put(o, ">", hsb__text_absent());
}

static void put_data(outcome *o, const hsb__multipart *m, const char *at, size_t used, hsb_str data)
{
    const bool of_mark = data.ptr >= m->mark && data.ptr + data.len <= m->mark + m->mark_len;
    assert_true(data.len > 0);
    assert_true(of_mark || (data.ptr >= at && data.ptr + data.len <= at + used));
    o->pieces++;
    put(o, "", data);
}

/* One piece of the body; false: it was refused. */
static bool feed(hsb__multipart *m, outcome *o, const char *bytes, size_t len)
{
    const char *copy = guard_copy(bytes, len);
    for (size_t at = 0;;) {
        size_t used;
        hsb_str data;
        hsb__multipart_event event = hsb__multipart_read(m, copy + at, len - at, &used, &data);
        o->calls++;
        assert_within(used, 0, len - at);
        if (event == HSB__MULTIPART_PART)
            put_part(o, &m->part);
        else if (event == HSB__MULTIPART_DATA)
            put_data(o, m, copy + at, used, data);
        else if (event == HSB__MULTIPART_END)
            put(o, "/", hsb__text_absent());
        at += used;
        if (event == HSB__MULTIPART_MORE) {
            assert_int_equal(at, len);
            return true;
        }
        if (event == HSB__MULTIPART_BAD) {                      /* and it stays so */
            assert_int_equal(hsb__multipart_read(m, copy, len, &used, &data), event);
            assert_int_equal(used, 0);
            return false;
        }
    }
}

static void finish(hsb__multipart *m, outcome *o, bool good)
{
    char end[96] = "over";
    const bool epilogue = m->state == HSB__MULTIPART_EPILOGUE;
    if (hsb__multipart_end(m) != epilogue || (!good && epilogue))
        fail_msg("the end is wrong");
    if (!epilogue)
        snprintf(end, sizeof end, "%d %s", m->status, m->reason);
    put(o, end, hsb__text_absent());
    o->text[o->len] = '\0';
}

static char head_space[HEAD];

static hsb__multipart start_of(const char *boundary)
{
    hsb__multipart m;
    hsb__multipart_start(&m, hsb_text(boundary), head_space, sizeof head_space, PARTS);
    return m;
}

/* Cut at these two places. */
static outcome play_cut(const char *boundary, const char *body, size_t len, size_t one, size_t two)
{
    hsb__multipart m = start_of(boundary);
    outcome o;
    memset(&o, 0, sizeof o);
    bool good = feed(&m, &o, body, one) && feed(&m, &o, body + one, two - one) &&
                feed(&m, &o, body + two, len - two);
    finish(&m, &o, good);
    return o;
}

/* In parts of at most `most` bytes, empty ones among them. */
static outcome play_parts(const char *boundary, const char *body, size_t len, size_t most)
{
    hsb__multipart m = start_of(boundary);
    outcome o;
    memset(&o, 0, sizeof o);
    bool good = true;
    for (size_t at = 0; good && at < len;) {
        size_t n = most == 1 ? 1 : random_below(most + 1);
        n = n < len - at ? n : len - at;
        good = feed(&m, &o, body + at, n);
        at += n;
    }
    finish(&m, &o, good);
    return o;
}

static void must_match(const char *body, const outcome *o, const char *wanted, size_t a, size_t b)
{
    if (strcmp(o->text, wanted))
        fail_msg("%s\ncut at %zu, %zu: \"%s\", wanted \"%s\"", body, a, b, o->text, wanted);
}

static void check_bytes(const char *boundary, const char *body, size_t len, const char *wanted)
{
    outcome o;
    for (size_t one = 0; one <= len; one++)
        for (size_t two = one; two <= len; two++) {
            o = play_cut(boundary, body, len, one, two);
            must_match(body, &o, wanted, one, two);
        }
    for (size_t most = 1; most < 24; most++) {
        o = play_parts(boundary, body, len, most);
        must_match(body, &o, wanted, most, most);
    }
}

static void check(const char *body, const char *wanted)
{
    check_bytes("B", body, strlen(body), wanted);
}

#define FIELD "Content-Disposition: form-data; name="

/* RFC 7578 4, RFC 2046 5.1.1 */
static void parts_and_their_data(void **state)
{
    (void)state;
    check("--B\r\n" FIELD "a\r\n\r\n1\r\n--B--", "<a>1/over");
    check("--B\r\n" FIELD "\"a\"\r\n\r\n1\r\n--B\r\n" FIELD "\"b\"\r\n\r\n2\r\n--B--\r\n",
          "<a>1/<b>2/over");
    check("--B\r\n" FIELD "\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n--B--",
          "<f|x.txt|text/plain>hi/over");
    check("--B\r\n" FIELD "\"f\"; filename=\"\"\r\nContent-Type: application/octet-stream\r\n\r\n"
          "\r\n--B--", "<f||application/octet-stream>/over");
    check("--B\r\nContent-Type: a/b\r\nX: y\r\n" FIELD "a\r\n\r\n\r\n--B--", "<a|a/b>/over");
    check("--B\r\ncontent-disposition:FORM-DATA ;NAME=a ; ; FileName=b;\r\n\r\n\r\n--B--", "<a|b>/over");
    check("--B\r\n" FIELD "\"\"\r\n\r\n1\r\n--B--", "<>1/over");
}

/* RFC 2046 5.1.1: a body without data, without parts, with text around it. */
static void what_is_around_the_parts(void **state)
{
    (void)state;
    check("--B--", "over");
    check("--B--\r\n", "over");
    check("\r\n--B--", "over");
    check("pre\r\namble\r\n\r\n--B\r\n" FIELD "a\r\n\r\n1\r\n--B--", "<a>1/over");
    check(" --B\r\n--B\r\n" FIELD "a\r\n\r\n1\r\n--B--", "<a>1/over");
    check("\r--B\n--B\r\r\n\r\n--B\r\n" FIELD "a\r\n\r\n1\r\n--B--", "<a>1/over");
    check("--B\r\n" FIELD "a\r\n\r\n1\r\n--B--epilogue\r\n--B\r\n--B--\r\n", "<a>1/over");
    check("--B \t\r\n" FIELD "a\r\n\r\n1\r\n--B\t \r\n" FIELD "b\r\n\r\n\r\n--B-- \r\n", "<a>1/<b>/over");
    check("--B\r\n" FIELD "a\r\n\r\n--B--", "<a>/over");
    check("--B\r\n" FIELD "a\r\n\r\n--B\r\n" FIELD "b\r\n\r\n\r\n--B--", "<a>/<b>/over");
}

static void what_looks_like_a_boundary(void **state)
{
    (void)state;
    check("--B\r\n" FIELD "a\r\n\r\n\r\n-\r\n--\r\n--C--B\r\n--B--", "<a>\r\n-\r\n--\r\n--C--B/over");
    check("--B\r\n" FIELD "a\r\n\r\n\r\r\n\n\r\r\r\n\r\n--B--", "<a>\r\r\n\n\r\r\r\n/over");
    check("--B\r\n" FIELD "a\r\n\r\n\r\n\r\n--B--", "<a>\r\n/over");
    check("--B\r\n" FIELD "a\r\n\r\n\n--B\r--B\r\n--b\r\n--B--", "<a>\n--B\r--B\r\n--b/over");
    check("--B\r\n" FIELD "a\r\n\r\n-\r\n--B--", "<a>-/over");
    check("--B\r\n" FIELD "a\r\n\r\n--\r\n--B--", "<a>--/over");
    static const char dashes[] = "---B-\r\n" FIELD "a\r\n\r\n\r\n---B\r\n---\r\n---B---";
    check_bytes("-B-", dashes, sizeof dashes - 1, "<a>\r\n---B\r\n---/over");
    static const char zeros[] = "--B\r\n" FIELD "a\r\n\r\n\0\r\0\n\r\n-\0\r\n--B--";
    check_bytes("B", zeros, sizeof zeros - 1, "<a>0\r0\n\r\n-0/over");
}

/* HTML Standard: %22, %0D and %0A, a backslash is itself; filename* is ignored (RFC 7578 4.2). */
static void names_as_browsers_send_them(void **state)
{
    (void)state;
    check("--B\r\n" FIELD "\"a%22b%0D%0Ac\"\r\n\r\n1\r\n--B--", "<a\"b\r\nc>1/over");
    check("--B\r\n" FIELD "\"%\"; filename=\"%2%20%0d%25%222\"\r\n\r\n\r\n--B--",
          "<%|%2%20%0d%25\"2>/over");
    check("--B\r\n" FIELD "\"a\\\"; filename=\"C:\\b\\\"\r\n\r\n\r\n--B--", "<a\\|C:\\b\\>/over");
    check("--B\r\n" FIELD "\"a;b= c\"; filename=\"; name=x\"\r\n\r\n\r\n--B--", "<a;b= c|; name=x>/over");
    check("--B\r\n" FIELD "\"\303\244\"; filename=\"\346\227\245.txt\"\r\n\r\n\r\n--B--",
          "<\303\244|\346\227\245.txt>/over");
    check("--B\r\n" FIELD "a; filename*=UTF-8''b%20c; filename=d; x=\"y\"\r\n\r\n\r\n--B--", "<a|d>/over");
    check("--B\r\n" FIELD "a; filename*=UTF-8''b\r\n\r\n\r\n--B--", "<a>/over");
}

#define CUT_SHORT "400 the last boundary is missing"

static void bodies_that_end_too_early(void **state)
{
    const char *body = "--B\r\n" FIELD "a\r\n\r\n1\r\n--B--";
    (void)state;
    check("", CUT_SHORT);
    check("hello", CUT_SHORT);
    check("--B", CUT_SHORT);
    check("--B\r\n", CUT_SHORT);
    for (size_t len = 0; len < strlen(body); len++) {
        outcome o = play_cut("B", body, len, 0, len / 2);
        const char *end = o.text + strcspn(o.text, "4");
        assert_string_equal(end, CUT_SHORT);
        assert_null(strchr(o.text, '/'));       /* no part is whole before its boundary is */
    }
    check("--B\r\n" FIELD "a\r\n\r\n1\n--B--", "<a>1\n--B--" CUT_SHORT);
}

static void bodies_that_are_malformed(void **state)
{
    static const char alone[] = "400 a boundary is not alone on its line";
    static const char disposition[] = "400 a part's Content-Disposition is malformed";
    static const char twice[] = "400 a part has two names";
    static const char colon[] = "400 a part's field name is not a token before a colon";
    (void)state;
    check("--B-x", alone);
    check("--Bx", alone);
    check("--B\n", alone);
    check("--B\r\r\n", alone);
    check("--B --", alone);
    check("--B\r\n" FIELD "a\r\n\r\n1\r\n--BC\r\n--B--", "<a>1400 a boundary is not alone on its line");
    check("--B\r\n\r\n", "400 a part has no name");
    check("--B\r\nContent-Type: a/b\r\n\r\n", "400 a part has no name");
    check("--B\r\nContent-Disposition: form-data\r\n\r\n", "400 a part has no name");
    check("--B\r\nContent-Disposition: form-data; filename=a\r\n\r\n", "400 a part has no name");
    check("--B\r\nContent-Disposition: file; name=a\r\n", "400 a part's Content-Disposition is not form-data");
    check("--B\r\nContent-Disposition: ; name=a\r\n", "400 a part's Content-Disposition is not form-data");
    check("--B\r\n" FIELD "\r\n", disposition);
    check("--B\r\n" FIELD "\"a\r\n", disposition);
    check("--B\r\n" FIELD "\"a\\\"b\"\r\n", disposition);
    check("--B\r\n" FIELD "\"a\"b\r\n", disposition);
    check("--B\r\n" FIELD "a b\r\n", disposition);
    check("--B\r\n" FIELD "a; filename\r\n", disposition);
    check("--B\r\n" FIELD "a; filename =b\r\n", disposition);
    check("--B\r\n" FIELD "a; =b\r\n", disposition);
    check("--B\r\n" FIELD "a; name=a\r\n", twice);
    check("--B\r\n" FIELD "a; filename=\"\"; filename=b\r\n", twice);
    check("--B\r\n" FIELD "a\r\n" FIELD "a\r\n", "400 a part has two Content-Disposition fields");
    check("--B\r\nContent-Type:\r\nContent-type: a\r\n", "400 a part has two Content-Type fields");
    check("--B\r\nX\r\n", colon);
    check("--B\r\nX : y\r\n", colon);
    check("--B\r\n: y\r\n", colon);
    check("--B\r\nX: y\r\n z\r\n", colon);
    check("--B\r\nX: y\n", "400 LF without CR in a part's head");
    check("--B\r\n\n", "400 LF without CR in a part's head");
    check("--B\r\nX: a\rb\r\n", "400 control character in a part's head");
    check("--B\r\n" FIELD "\"a\1\"\r\n", "400 control character in a part's head");
}

static void limits(void **state)
{
    char body[2 * HEAD], wanted[2 * HEAD];
    (void)state;
    check("--B\r\n" FIELD "a\r\n\r\n\r\n--B\r\n" FIELD "b\r\n\r\n\r\n--B\r\n" FIELD "c\r\n\r\n\r\n--B--",
          "<a>/<b>/<c>/over");
    check("--B\r\n" FIELD "a\r\n\r\n\r\n--B\r\n" FIELD "b\r\n\r\n\r\n--B\r\n" FIELD "c\r\n\r\n\r\n--B\r\nX",
          "<a>/<b>/<c>/413 too many parts");
    for (int more = 0; more < 2; more++) {
        int name = HEAD - (int)strlen(FIELD "\r\n\r\n") + more;
        snprintf(body, sizeof body, "--B\r\n" FIELD "%0*d\r\n\r\n\r\n--B--", name, 7);
        snprintf(wanted, sizeof wanted, more ? "413 the head of a part is too long" : "<%0*d>/over", name, 7);
        check(body, wanted);
    }
    memset(body, 'x', sizeof body);
    memcpy(body, "--B\r\n", 5);
    check_bytes("B", body, sizeof body - 1, "413 the head of a part is too long");
    char boundary[71], mark[96];
    memset(boundary, 'b', 70);
    boundary[70] = '\0';
    snprintf(mark, sizeof mark, "--%s", boundary);
    snprintf(body, sizeof body, "%s\r\n" FIELD "a\r\n\r\n\r\n--%.69s\r\n%s--", mark, boundary, mark);
    snprintf(wanted, sizeof wanted, "<a>\r\n--%.69s/over", boundary);
    check_bytes(boundary, body, strlen(body), wanted);
}

/* RFC 2046 5.1.1, RFC 9110 8.3.1 */
static void boundary_is(const char *type, const char *boundary)
{
    hsb_str parameters;
    const char *copy = guard_copy(type, strlen(type));
    assert_true(hsb__multipart_is_type(hsb__text_make(copy, strlen(type)), &parameters));
    hsb_str found = hsb__multipart_boundary(parameters);
    if ((boundary == NULL) != (found.ptr == NULL) || (boundary && !hsb_equal(found, boundary)))
        fail_msg("%s: found \"%.*s\"", type, (int)found.len, found.ptr ? found.ptr : "");
}

#define TEN "0123456789"
#define SEVENTY TEN TEN TEN TEN TEN TEN TEN

static void boundaries(void **state)
{
    hsb_str rest;
    (void)state;
    boundary_is("multipart/form-data; boundary=B", "B");
    boundary_is("Multipart/FORM-data ;BOUNDARY=----WebKitFormBoundary7MA4YWxk", "----WebKitFormBoundary7MA4YWxk");
    boundary_is("multipart/form-data;boundary=\"===============7==\"; charset=utf-8", "===============7==");
    boundary_is("multipart/form-data; charset=\"a;boundary=b\" ; ; boundary=\"a b\";", "a b");
    boundary_is("multipart/form-data; boundary=\"'()+_,-./:=?\"", "'()+_,-./:=?");
    boundary_is("multipart/form-data; boundary=" SEVENTY, SEVENTY);
    boundary_is("multipart/form-data; boundary=\"" SEVENTY "\"", SEVENTY);
    boundary_is("multipart/form-data", NULL);
    boundary_is("multipart/form-data;", NULL);
    boundary_is("multipart/form-data; boundary", NULL);
    boundary_is("multipart/form-data; boundary=", NULL);
    boundary_is("multipart/form-data; boundary=\"\"", NULL);
    boundary_is("multipart/form-data; boundary=\"B", NULL);
    boundary_is("multipart/form-data; boundary=\"B\"C", NULL);
    boundary_is("multipart/form-data; boundary=B C", NULL);
    boundary_is("multipart/form-data; boundary=a/b", NULL);
    boundary_is("multipart/form-data; boundary=\"B \"", NULL);
    boundary_is("multipart/form-data; boundary=\"a\\b\"", NULL);
    boundary_is("multipart/form-data; boundary=\"a\tb\"", NULL);
    boundary_is("multipart/form-data; boundary=\"\303\244\"", NULL);
    boundary_is("multipart/form-data; boundary=a*b", NULL);
    boundary_is("multipart/form-data; boundary=B; boundary=B", NULL);
    boundary_is("multipart/form-data; boundary=B; x", NULL);
    boundary_is("multipart/form-data; boundary=" SEVENTY "0", NULL);
    assert_false(hsb__multipart_is_type(hsb_text(NULL), &rest));
    assert_false(hsb__multipart_is_type(hsb_text(""), &rest));
    assert_false(hsb__multipart_is_type(hsb_text("multipart/form-datax; boundary=B"), &rest));
    assert_false(hsb__multipart_is_type(hsb_text("multipart/mixed; boundary=B"), &rest));
    assert_false(hsb__multipart_is_type(hsb_text("application/x-www-form-urlencoded"), &rest));
}

enum { LARGE = 1 << 20 };

/* A part whose data is this text again and again, in pieces of so many bytes. */
static void cost(const char *again, size_t piece, size_t looks, size_t pieces)
{
    static const char start[] = "--BOUNDARY\r\n" FIELD "a\r\n\r\n";
    const size_t n = strlen(again);
    char *data = must(malloc(LARGE));
    size_t used, calls = 0, got = 0, count = 0;
    hsb_str part;
    for (size_t i = 0; i < LARGE; i++)
        data[i] = again[i % n];
    hsb__multipart m = start_of("BOUNDARY");
    assert_int_equal(hsb__multipart_read(&m, start, sizeof start - 1, &used, &part), HSB__MULTIPART_PART);
    looked_at = 0;
    for (size_t at = 0; at < LARGE; at += piece)
        for (size_t in = 0; in < piece; in += used) {
            hsb__multipart_event event = hsb__multipart_read(&m, data + at + in, piece - in, &used, &part);
            calls++;
            assert_true(event == HSB__MULTIPART_DATA || (event == HSB__MULTIPART_MORE && in + used == piece));
            got += event == HSB__MULTIPART_DATA ? part.len : 0;
            count += event == HSB__MULTIPART_DATA;
        }
    assert_int_equal(got + m.matched, LARGE);
    if (looked_at > looks || count > pieces || calls > 2 * (LARGE / piece) + pieces)
        fail_msg("\"%s\" in pieces of %zu: %zu looks, %zu pieces, %zu calls", again, piece, looked_at,
                 count, calls);
    free(data);
}

/* Nothing is looked at more than four times, and data leaves in pieces as large as it came, but for
   what was held back. */
static void its_cost_is_linear(void **state)
{
    static const char *const texts[] = { "x", "\r", "\n", "\r\n", "\r\n-", "\r\n--", "\r\n--BOUNDAR",
        "\r\n--BOUNDARX", "-", "\r\r\n--BOUNDAR", "text of a line\r\n" };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t piece = 1; piece <= LARGE; piece *= 4)
            cost(texts[i], piece, 4 * (size_t)LARGE, 2 * (LARGE / piece));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_and_their_data),
        cmocka_unit_test(what_is_around_the_parts),
        cmocka_unit_test(what_looks_like_a_boundary),
        cmocka_unit_test(names_as_browsers_send_them),
        cmocka_unit_test(bodies_that_end_too_early),
        cmocka_unit_test(bodies_that_are_malformed),
        cmocka_unit_test(limits),
        cmocka_unit_test(boundaries),
        cmocka_unit_test(its_cost_is_linear),
    };
    random_start(7);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
