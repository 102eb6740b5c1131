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
    if (whole.result == HSB__HEAD_DONE || whole.head.end)
        check_request(&whole, bytes, len);
    read_all(&parts, bytes, len, limits, 1 + (uint32_t)(data[1] | data[2] << 8));
    FUZZ_MUST(whole.result == parts.result && whole.head.at == parts.head.at);
    FUZZ_MUST(whole.head.reason == parts.head.reason && whole.head.end == parts.head.end);
    FUZZ_MUST(whole.head.field_count == parts.head.field_count);
    FUZZ_MUST(!memcmp(whole.fields, parts.fields,
                      sizeof *whole.fields * (size_t)whole.head.field_count));
    FUZZ_MUST(whole.head.content_length == parts.head.content_length &&
              whole.head.keep_alive == parts.head.keep_alive &&
              whole.head.expect_continue == parts.head.expect_continue &&
              whole.head.host.at == parts.head.host.at && whole.head.host.len == parts.head.host.len);
    free(bytes);
    return 0;
}
