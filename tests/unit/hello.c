/* >>hello: the ClientHello reader.  It reads what anybody sends, so each input ends at a
   guard page; what it makes of it decides whether a session may resume. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"
#include "guard.h"

typedef struct bytes { char at[4096]; size_t len; } bytes;

static void add(bytes *b, const void *what, size_t len)
{
    if (len)
        memcpy(b->at + b->len, what, len);
    b->len += len;
}

static void add_number(bytes *b, size_t size, size_t n)
{
    while (size--)
        b->at[b->len++] = (char)(n >> 8 * size);
}

static void add_vector(bytes *b, size_t size, const void *what, size_t len)
{
    add_number(b, size, len);
    add(b, what, len);
}

static void add_extension(bytes *b, unsigned type, const void *what, size_t len)
{
    add_number(b, 2, type);
    add_vector(b, 2, what, len);
}

/* The parts of a ClientHello, for a test to change. */
typedef struct parts {
    unsigned type, version;
    hsb_str id, suites, compression;
    bytes extensions;
    bool no_extensions;
    int message_off;                    /* added to the true length                          */
} parts;

static parts usual(void)
{
    parts p = { .type = 1, .version = 0x0303 };
    p.id = hsb__text_make("0123456789abcdef0123456789ABCDEF", 32);
    p.suites = hsb__text_make("\xC0\x2B\xC0\x2F\xCC\xA9", 6);
    p.compression = hsb__text_make("", 1);
    return p;
}

static void add_name(bytes *extensions, unsigned type, const char *name, size_t len)
{
    bytes list = { .len = 0 }, value = { .len = 0 };
    add_number(&list, 1, type);
    add_vector(&list, 2, name, len);
    add_vector(&value, 2, list.at, list.len);
    add_extension(extensions, 0, value.at, value.len);
}

static void add_protocols(bytes *extensions, const char *names)
{
    bytes value = { .len = 0 };
    add_vector(&value, 2, names, strlen(names));
    add_extension(extensions, 16, value.at, value.len);
}

static bytes build(const parts *p)
{
    bytes body = { .len = 0 }, message = { .len = 0 };
    add_number(&body, 2, p->version);
    add(&body, "01234567890123456789012345678901", 32);
    add_vector(&body, 1, p->id.ptr, p->id.len);
    add_vector(&body, 2, p->suites.ptr, p->suites.len);
    add_vector(&body, 1, p->compression.ptr, p->compression.len);
    if (!p->no_extensions)
        add_vector(&body, 2, p->extensions.at, p->extensions.len);
    add_number(&message, 1, p->type);
    add_number(&message, 3, (size_t)((int)body.len + p->message_off));
    add(&message, body.at, body.len);
    return message;
}

static bool reads(const parts *p, hsb__hello *hello)
{
    const bytes message = build(p);
    return hsb__hello_read(hello, guard_copy(message.at, message.len), message.len);
}

static void whole(void **state)
{
    hsb__hello h;
    (void)state;
    parts p = usual();
    p.no_extensions = true;
    assert_true(reads(&p, &h));
    assert_int_equal(h.version, 0x0303);
    assert_null(h.server_name.ptr);
    assert_null(h.protocols.ptr);
    p.no_extensions = false;
    assert_true(reads(&p, &h));
    add_extension(&p.extensions, 13, "\0\2\4\3", 4);
    add_name(&p.extensions, 0, "localhost", 9);
    add_extension(&p.extensions, 23, "", 0);
    add_protocols(&p.extensions, "\x02h2\x08http/1.1");
    assert_true(reads(&p, &h));
    assert_true(hsb__text_is(h.server_name, "localhost"));
    assert_true(hsb__hello_has_protocol(&h, "h2"));
    assert_true(hsb__hello_has_protocol(&h, "http/1.1"));
    assert_false(hsb__hello_has_protocol(&h, "http/1"));
    assert_false(hsb__hello_has_protocol(&h, "http/1.1x"));
    assert_false(hsb__hello_has_protocol(&h, ""));
    assert_true(hsb__hello_has(h.suites, 0xC02B));
    assert_true(hsb__hello_has(h.suites, 0xCCA9));
    assert_false(hsb__hello_has(h.suites, 0x2BC0));         /* across two of them */
    assert_false(hsb__hello_has(h.suites, 0xC030));
    p.id.len = 0;
    assert_true(reads(&p, &h));
}

static void refused(void **state)
{
    hsb__hello h;
    parts p;
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        p = usual();
        p.type = type;
        assert_int_equal(reads(&p, &h), type == 1);
    }
    for (int off = -3; off <= 3; off++) {                   /* lengths that do not fit */
        p = usual();
        p.message_off = off;
        assert_int_equal(reads(&p, &h), off == 0);
    }
    p = usual();
    p.suites.len = 5;                                       /* half a suite */
    assert_false(reads(&p, &h));
    p = usual();
    p.id = hsb__text_make("0123456789abcdef0123456789ABCDEF!", 33);
    assert_false(reads(&p, &h));
}

static void odd_names(void **state)
{
    hsb__hello h;
    parts p;
    (void)state;
    p = usual();
    add_name(&p.extensions, 0, "", 0);
    assert_false(reads(&p, &h));
    p = usual();
    add_name(&p.extensions, 1, "localhost", 9);
    assert_false(reads(&p, &h));
    p = usual();
    add_name(&p.extensions, 0, "a", 1);
    add_name(&p.extensions, 0, "b", 1);
    assert_false(reads(&p, &h));
    static const struct { const char *value; size_t len; } values[] = {
        { "", 0 }, { "\0", 1 }, { "\0\0", 2 }, { "\0\1\0", 3 }, { "\0\4\0\0\1", 5 },
        { "\0\5\0\0\1x", 6 },
        { "\0\4\0\0\1xy", 7 }, { "\0\5\0\0\1xy", 7 }, { "\0\10\0\0\1x\0\0\1y", 10 },
        { "\0\4\0\0\2x", 6 },
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        p = usual();
        add_extension(&p.extensions, 0, values[i].value, values[i].len);
        assert_false(reads(&p, &h));
    }
    p = usual();
    add_extension(&p.extensions, 0, "\0\4\0\0\1x", 6);
    assert_true(reads(&p, &h));
    assert_true(hsb__text_is(h.server_name, "x"));
}

static void odd_protocols(void **state)
{
    static const struct { const char *value; size_t len; } values[] = {
        { "", 0 }, { "\0", 1 }, { "\0\0", 2 }, { "\0\1\0", 3 }, { "\0\3\1x\0", 5 },
        { "\0\2\2x", 4 },
        { "\0\2\1xx", 5 }, { "\0\3\1x", 4 },
    };
    hsb__hello h;
    parts p;
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        p = usual();
        add_extension(&p.extensions, 16, values[i].value, values[i].len);
        assert_false(reads(&p, &h));
    }
    p = usual();
    add_protocols(&p.extensions, "\x02h2");
    add_protocols(&p.extensions, "\x08http/1.1");
    assert_false(reads(&p, &h));
    p = usual();
    add_extension(&p.extensions, 16, "\0\2\1x", 4);
    assert_true(reads(&p, &h));
}

/* Every beginning of a hello is refused, and nothing beyond it is read. */
static void cut_anywhere(void **state)
{
    hsb__hello h;
    parts p = usual();
    (void)state;
    add_name(&p.extensions, 0, "localhost", 9);
    add_protocols(&p.extensions, "\x08http/1.1");
    const bytes message = build(&p);
    for (size_t len = 0; len < message.len; len++)
        assert_false(hsb__hello_read(&h, guard_copy(message.at, len), len));
    for (size_t len = 4; len < message.len; len++) {  /* the same with a length that fits */
        bytes cut = message;
        cut.at[2] = (char)((len - 4) >> 8);
        cut.at[3] = (char)(len - 4);
        const size_t before_extensions = 4 + 2 + 32 + 33 + 8 + 2;
        assert_int_equal(hsb__hello_read(&h, guard_copy(cut.at, len), len),
                         len == before_extensions);
    }
}

/* Every byte with every value: no crash, and spans that lie within the message. */
static void change_anything(void **state)
{
    hsb__hello h;
    parts p = usual();
    (void)state;
    add_name(&p.extensions, 0, "localhost", 9);
    add_protocols(&p.extensions, "\x08http/1.1");
    const bytes message = build(&p);
    const char *copy = guard_copy(message.at, message.len);
    char *at = (char *)(uintptr_t)copy;
    for (size_t i = 0; i < message.len; i++)
        for (int value = 0; value < 256; value++) {
            at[i] = (char)value;
            if (hsb__hello_read(&h, at, message.len)) {
                const hsb_str spans[] = { h.suites, h.server_name, h.protocols };
                for (size_t s = 0; s < 3; s++)
                    if (spans[s].ptr)
                        assert_true(spans[s].ptr >= at &&
                                    spans[s].ptr + spans[s].len <= at + message.len);
                hsb__hello_has(h.suites, 0xFFFF);
                hsb__hello_has_protocol(&h, "http/1.1");
            }
            at[i] = message.at[i];
        }
}

/* RFC 8446 4.2.11: the identities, each with its age, and a binder for each. */
static bool reads_psks(const char *identities, size_t count, size_t binders, size_t binder_len,
                       const char *behind, hsb__hello *h)
{
    static const char zeros[64];
    bytes list = { 0 }, proofs = { 0 }, all = { 0 };
    for (size_t i = 0; i < count; i++) {
        add_vector(&list, 2, identities, strlen(identities));
        add(&list, "\0\0\0\1", 4);
    }
    for (size_t i = 0; i < binders; i++)
        add_vector(&proofs, 1, zeros, binder_len);
    add(&all, "head", 4);
    add_vector(&all, 2, list.at, list.len);
    add_vector(&all, 2, proofs.at, proofs.len);
    add(&all, behind, strlen(behind));
    h->message = hsb__text_make(guard_copy(all.at, all.len), all.len);
    return hsb__hello_read_psks(h, hsb__text_after(h->message, 4));
}

static void pre_shared_keys(void **state)
{
    hsb__hello h;
    (void)state;
    static const struct {
        const char *identities;
        size_t count, binders, binder_len;
        const char *behind;
        bool good;
    } cases[] = {
        { "ticket", 1, 1, 32, "", true },   { "ticket", 2, 2, 48, "", true },
        { "t", 3, 3, 32, "", true },        { "", 1, 1, 32, "", false },
        { "ticket", 0, 0, 32, "", false },  { "ticket", 0, 1, 32, "", false },
        { "ticket", 1, 0, 32, "", false },  { "ticket", 2, 1, 32, "", false },
        { "ticket", 1, 2, 32, "", false },  { "ticket", 1, 1, 31, "", false },
        { "ticket", 1, 1, 0, "", false },   { "ticket", 1, 1, 32, "x", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&h, 0, sizeof h);
        if (reads_psks(cases[i].identities, cases[i].count, cases[i].binders, cases[i].binder_len,
                       cases[i].behind, &h) != cases[i].good)
            fail_msg("case %zu", i);
        assert_false(h.illegal);
        if (cases[i].good)
            assert_ptr_equal(h.message.ptr + h.binders_at + 2, h.binders.ptr);
    }
    memset(&h, 0, sizeof h);
    assert_true(reads_psks("ticket", 1, 1, 32, "", &h));
    const hsb_str whole = h.message;
    assert_false(hsb__hello_read_psks(&h, hsb__text_after(whole, 4)));      /* twice              */
    for (size_t len = 0; len + 4 < whole.len; len++) {                      /* cut, and not last  */
        memset(&h, 0, sizeof h);
        h.message = hsb__text_make(whole.ptr, len + 4);
        assert_false(hsb__hello_read_psks(&h, hsb__text_after(h.message, 4)));
        h.message = whole;
        h.psks = hsb__text_absent();
        assert_false(hsb__hello_read_psks(&h, hsb__text_make(whole.ptr + 4, len)));
        assert_true(h.illegal);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(refused),
        cmocka_unit_test(odd_names),
        cmocka_unit_test(odd_protocols),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(change_anything),
        cmocka_unit_test(pre_shared_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
