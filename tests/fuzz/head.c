/* A head, and trailers behind it, read whole and in parts: the outcome is the same, spans lie
   within the bytes, and what is accepted keeps the rules that framing rests on. */
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"

enum { MOST_FIELDS = 40 };

typedef struct reader {
    hsb__head head;
    hsb__field fields[MOST_FIELDS];
    int result;
} reader;

static void check_span(hsb__span s, size_t len)
{
    FUZZ_MUST(s.at <= len && s.len <= len - s.at);
}

static int parse(reader *r, const char *bytes, size_t len, size_t trailers_at)
{
    hsb__head *h = &r->head;
    for (;;) {
        int result = trailers_at ? hsb__head_parse_trailers(h, bytes, len, trailers_at)
                                 : hsb__head_parse(h, bytes, len);
        if (result != HSB__HEAD_SPACE)
            return result;
        FUZZ_MUST(h->field_space < MOST_FIELDS);
        h->field_space++;
    }
}

/* seed 0: whole */
static void read_all(reader *r, const char *bytes, size_t len, const hsb__head_limits *limits,
                     uint32_t seed)
{
    memset(r, 0, sizeof *r);
    hsb__head_start(&r->head, limits);
    r->head.fields = r->fields;
    size_t trailers_at = 0;
    for (size_t upto = seed ? 0 : len;;) {
        r->result = parse(r, bytes, upto, trailers_at);
        if (r->result == HSB__HEAD_DONE && !trailers_at) {
            FUZZ_MUST(r->head.end <= upto);
            trailers_at = r->head.end;
            upto = seed ? trailers_at : len;
            continue;
        }
        if (r->result != HSB__HEAD_MORE || upto == len)
            return;
        size_t n = fuzz_cut(&seed, 30);
        upto = n < len - upto ? upto + n : len;
    }
}

static void check_request(const reader *r, const char *bytes, size_t len)
{
    const hsb__head *h = &r->head;
    hsb_str host = hsb__text_of("host"), length = hsb__text_of("content-length");
    int lengths = 0, hosts = 0;
    check_span(h->method, len);
    check_span(h->target, len);
    check_span(h->path, len);
    check_span(h->query, len);
    check_span(h->host, len);
    FUZZ_MUST(h->method.len && h->target.len);
    FUZZ_MUST(h->field_count <= MOST_FIELDS && h->trailer_from <= h->field_count);
    for (int i = 0; i < h->field_count; i++) {
        check_span(h->fields[i].name, len);
        check_span(h->fields[i].value, len);
        FUZZ_MUST(hsb__text_is_token(hsb__head_text(bytes, h->fields[i].name)));
        FUZZ_MUST(hsb__text_is_field_value(hsb__head_text(bytes, h->fields[i].value)));
        if (i >= h->trailer_from)
            continue;
        lengths += hsb__text_equal_nocase(hsb__head_text(bytes, h->fields[i].name), length);
        hosts += hsb__text_equal_nocase(hsb__head_text(bytes, h->fields[i].name), host);
    }
    FUZZ_MUST(lengths == h->has_length && !(h->has_length && h->chunked));
    FUZZ_MUST(hosts == 1 || (hosts == 0 && h->minor == 0));
    FUZZ_MUST(h->content_length >= (h->chunked ? -1 : 0));
    FUZZ_MUST(!h->chunked || h->minor == 1);
    FUZZ_MUST(!h->expect_continue || h->content_length != 0);
}

static bool same_span(hsb__span a, hsb__span b)
{
    return a.at == b.at && a.len == b.len;
}

static void check_same(const hsb__head *a, const hsb__head *b)
{
    FUZZ_MUST(same_span(a->method, b->method) && same_span(a->target, b->target));
    FUZZ_MUST(same_span(a->path, b->path) && same_span(a->query, b->query));
    FUZZ_MUST(same_span(a->host, b->host) && a->has_host == b->has_host);
    FUZZ_MUST(a->has_query == b->has_query && a->minor == b->minor);
    FUZZ_MUST(a->chunked == b->chunked && a->content_length == b->content_length);
    FUZZ_MUST(a->keep_alive == b->keep_alive && a->expect_continue == b->expect_continue);
    FUZZ_MUST(a->field_count == b->field_count && a->trailer_from == b->trailer_from);
}

static size_t append(char *out, size_t at, const char *bytes, hsb__span s)
{
    memcpy(out + at, bytes + s.at, s.len);
    return at + s.len;
}

/* Written down again without anything that may be left out, the head means the same. */
static void check_again(const reader *r, const char *bytes, size_t len)
{
    static reader again;
    static const hsb__head_limits none = { SIZE_MAX, SIZE_MAX, MOST_FIELDS };
    const hsb__head *h = &r->head, *other = &again.head;
    char *out = malloc(len + 4 * MOST_FIELDS + 64);
    FUZZ_MUST(out != NULL);
    size_t n = append(out, 0, bytes, h->method);
    out[n++] = ' ';
    n = append(out, n, bytes, h->target);
    n += (size_t)snprintf(out + n, 16, " HTTP/1.%d\r\n", h->minor);
    for (int i = 0; i < h->trailer_from; i++) {
        n = append(out, n, bytes, h->fields[i].name);
        out[n++] = ':';
        n = append(out, n, bytes, h->fields[i].value);
        memcpy(out + n, "\r\n", 2);
        n += 2;
    }
    memcpy(out + n, "\r\n", 2);
    n += 2;
    memset(&again, 0, sizeof again);
    hsb__head_start(&again.head, &none);
    again.head.fields = again.fields;
    FUZZ_MUST(parse(&again, out, n, 0) == HSB__HEAD_DONE && other->end == n);
    FUZZ_MUST(other->field_count == h->trailer_from && other->minor == h->minor);
    FUZZ_MUST(other->chunked == h->chunked && other->content_length == h->content_length);
    FUZZ_MUST(other->keep_alive == h->keep_alive && other->expect_continue == h->expect_continue);
    FUZZ_MUST(hsb__text_equal(hsb__head_text(out, other->host), hsb__head_text(bytes, h->host)));
    for (int i = 0; i < h->trailer_from; i++)
        FUZZ_MUST(hsb__text_equal(hsb__head_text(out, other->fields[i].value),
                                  hsb__head_text(bytes, h->fields[i].value)));
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static reader whole, parts;
    if (size < 4)
        return 0;
    /* The trailers have the limit of the head's fields once more. */
    const size_t half = MOST_FIELDS / 2;
    const hsb__head_limits small = { data[0], data[1] + 64u * data[2], data[3] % (half + 1) };
    const hsb__head_limits large = { 8192, 16384, half };
    const hsb__head_limits *limits = data[0] < 16 ? &small : &large;
    size_t len = size - 4;
    char *bytes = fuzz_copy(data + 4, len);
    read_all(&whole, bytes, len, limits, 0);
    if (whole.result == HSB__HEAD_DONE || whole.head.end) {
        check_request(&whole, bytes, len);
        check_again(&whole, bytes, len);
    }
    read_all(&parts, bytes, len, limits, 1 + (uint32_t)(data[1] | data[2] << 8));
    FUZZ_MUST(whole.result == parts.result && whole.head.at == parts.head.at);
    FUZZ_MUST(whole.head.reason == parts.head.reason && whole.head.end == parts.head.end);
    check_same(&whole.head, &parts.head);
    FUZZ_MUST(!memcmp(whole.fields, parts.fields,
                      sizeof *whole.fields * (size_t)whole.head.field_count));
    free(bytes);
    return 0;
}
