/* >>values: what is escaped reads back as it was; the value of a name is that of the first pair
   whose name decodes to it; Basic auth is its own base64; a safe name is safe, and stays so. */
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"
#include "unit/request.h"

static lone_request lone;
static hsb_request *const req = &lone.req;

static void must_end_with_nul(hsb_str s)
{
    FUZZ_MUST(s.ptr && s.ptr[s.len] == '\0');
}

/* --- texts -------------------------------------------------------------------------------- */
static void percent(hsb_str in)
{
    char *back = malloc(in.len + 1);
    size_t len;
    hsb_str out = hsb_request_percent(req, in);
    FUZZ_MUST(back != NULL);
    must_end_with_nul(out);
    for (size_t i = 0; i < out.len; i++)
        FUZZ_MUST(hsb__byte_is(out.ptr[i], HSB__BYTE_NAME) || out.ptr[i] == '%');
    if (in.len == 0 || !memchr(in.ptr, '\0', in.len)) {
        FUZZ_MUST(hsb_percent_decode(out, true, back, in.len + 1, &len));
        FUZZ_MUST(len == in.len && (len == 0 || memcmp(back, in.ptr, len) == 0));
    }
    free(back);
}

static void html(hsb_str in)
{
    static const struct { const char *name; char c; } known[] = {
        { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&#39;", '\'' },
    };
    hsb_str out = hsb_request_html(req, in);
    size_t n = 0;
    must_end_with_nul(out);
    for (size_t i = 0; i < out.len; n++) {
        char c = out.ptr[i];
        size_t len = 1;
        FUZZ_MUST(c != '<' && c != '>' && c != '"' && c != '\'');
        for (size_t k = 0; c == '&' && len == 1 && k < sizeof known / sizeof *known; k++)
            if (strncmp(out.ptr + i, known[k].name, strlen(known[k].name)) == 0) {
                c = known[k].c;
                len = strlen(known[k].name);
            }
        FUZZ_MUST(n < in.len && in.ptr[n] == c && (c != '&' || len > 1));
        i += len;
    }
    FUZZ_MUST(n == in.len);
}

static void format(hsb_str in)
{
    hsb_str out = hsb_request_format(req, "%.*s", (int)in.len, in.ptr);
    must_end_with_nul(out);
    FUZZ_MUST(out.len == strnlen(in.ptr, in.len) && memcmp(out.ptr, in.ptr, out.len) == 0);
}

/* --- names of files ------------------------------------------------------------------------ */
static void safe_name(hsb_str in)
{
    hsb_str name = hsb_request_safe_name(req, in), rest = name, again;
    uint32_t c;
    must_end_with_nul(name);
    FUZZ_MUST(name.len >= 1 && name.len <= 255 && hsb__utf8_is(name));
    FUZZ_MUST(!strchr(". -", name.ptr[0]) && !strchr(". ", name.ptr[name.len - 1]));
    while (rest.len) {
        FUZZ_MUST(hsb__utf8_next(&rest, &c) && !hsb__utf8_is_hidden(c));
        FUZZ_MUST(c >= 0x80 || !strchr("/\\:*?\"<>|", (int)c));
    }
    FUZZ_MUST(!hsb__devices_has(name));
    again = hsb_request_safe_name(req, name);
    FUZZ_MUST(hsb__text_equal(name, again));
}

/* --- pairs --------------------------------------------------------------------------------- */
/* The same by the public functions: what the first pair of that name has. */
static bool expected(hsb_str pairs, const char *wanted, char *out, size_t size)
{
    hsb_str name, value;
    char *text = malloc(pairs.len + 1);
    bool found = false, good = false;
    size_t len;
    FUZZ_MUST(text != NULL);
    while (!found && hsb_form_next(&pairs, &name, &value)) {
        found = hsb_percent_decode(name, true, text, name.len + 1, &len) && strcmp(text, wanted) == 0;
        good = found && hsb_percent_decode(value, true, out, size, &len);
    }
    free(text);
    return good;
}

static void must_be_first(hsb_str found, hsb_str pairs, const char *name)
{
    char *out = malloc(pairs.len + 1);
    FUZZ_MUST(out != NULL);
    const bool good = expected(pairs, name, out, pairs.len + 1);
    FUZZ_MUST(good == (found.ptr != NULL));
    if (good) {
        must_end_with_nul(found);
        FUZZ_MUST(strlen(out) == found.len && memcmp(out, found.ptr, found.len) == 0);
    }
    free(out);
}

/* Every name that is there, and one that may be. */
static void each_name(hsb_str pairs, hsb_str (*ask)(hsb_request *, const char *))
{
    hsb_str rest = pairs, name, value;
    int asked = 0;
    must_be_first(ask(req, "a"), pairs, "a");
    while (hsb_form_next(&rest, &name, &value) && asked++ < 20) {
        char *text = malloc(name.len + 1);
        size_t len;
        FUZZ_MUST(text != NULL);
        if (hsb_percent_decode(name, true, text, name.len + 1, &len))
            must_be_first(ask(req, text), pairs, text);
        free(text);
    }
}

/* A request with in as its query, its body or its user's name. */
static bool open_with(const char *before, hsb_str in, const char *after, hsb_str body)
{
    const size_t len = strlen(before) + in.len + strlen(after);
    char *head = malloc(len + 1);
    FUZZ_MUST(head != NULL);
    memcpy(head, before, strlen(before));
    memcpy(head + strlen(before), in.ptr, in.len);
    memcpy(head + strlen(before) + in.len, after, strlen(after));
    const bool good = lone_open(&lone, head, len, body.ptr, body.len);
    free(head);
    return good;
}

static void query(hsb_str in)
{
    if (!open_with("GET /?", in, " HTTP/1.1\r\nHost: x\r\n\r\n", hsb__text_absent()))
        return;
    each_name(hsb_request_query(req), hsb_request_query_value);
    FUZZ_MUST(lone_close(&lone) == 0);
}

static void form(hsb_str in)
{
    char after[200];
    snprintf(after, sizeof after, "Content-Type: application/x-www-form-urlencoded\r\n"
             "Content-Length: %zu\r\n\r\n", in.len);
    FUZZ_MUST(open_with("POST / HTTP/1.1\r\nHost: x\r\n", hsb__text_of(""), after, in));
    each_name(in, hsb_request_form_value);
    FUZZ_MUST(lone_close(&lone) == 0);
}

/* --- Basic auth ------------------------------------------------------------------------------ */
static void basic(hsb_str in)
{
    hsb_str user, password;
    if (!open_with("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ", in, "\r\n\r\n",
                   hsb__text_absent()))
        return;
    const hsb_str field = hsb_request_header(req, "Authorization");
    if (hsb_request_basic_auth(req, &user, &password)) {
        const hsb_str both = hsb_request_format(req, "%s:%s", user.ptr, password.ptr);
        char *text = malloc(in.len + 5);
        FUZZ_MUST(text != NULL);
        must_end_with_nul(user);
        must_end_with_nul(password);
        FUZZ_MUST(both.len == user.len + 1 + password.len);
        hsb__base64_print(text, (const unsigned char *)both.ptr, both.len, false);
        FUZZ_MUST(field.len >= strlen(text) &&
                  memcmp(field.ptr + field.len - strlen(text), text, strlen(text)) == 0);
        free(text);
    } else {
        FUZZ_MUST(!user.ptr && !password.ptr);
    }
    FUZZ_MUST(lone_close(&lone) == 0);
}

/* What encodes in is a user, if it is one. */
static void basic_of(hsb_str in)
{
    char *text = malloc(in.len * 4 / 3 + 5);
    FUZZ_MUST(text != NULL);
    hsb__base64_print(text, (const unsigned char *)in.ptr, in.len, false);
    char *back = malloc(in.len + 3);
    size_t len;
    FUZZ_MUST(back && hsb__base64_read(hsb__text_of(text), back, &len));
    FUZZ_MUST(len == in.len && (!len || memcmp(back, in.ptr, len) == 0));
    basic(hsb__text_of(text));
    free(back);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const with_request[])(hsb_str) = { percent, html, format, safe_name };
    static void (*const alone[])(hsb_str) = { query, form, basic, basic_of };
    if (size < 1)
        return 0;
    char *bytes = fuzz_copy(data + 1, size - 1);
    const hsb_str in = hsb__text_make(bytes, size - 1);
    const unsigned which = data[0] % 8;
    if (which < 4) {
        FUZZ_MUST(open_with("GET / HTTP/1.1\r\nHost: x\r\n", hsb__text_of(""), "\r\n", hsb__text_absent()));
        with_request[which](in);
        FUZZ_MUST(lone_close(&lone) == 0);
    } else {
        alone[which - 4](in);
    }
    free(bytes);
    return 0;
}
