/* A form's body, read whole and in parts: the same parts, data and end.  And as a second reader
   sees it, which has all of the body and looks for boundaries from the front with no memory. */
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"

enum { PARTS = 4, HEAD = 96 };

/* What was read, as text: 'P' with name, file and type, 'D' with data, 'E', and the end. */
typedef struct outcome {
    char *text;
    size_t len, space;
    const char *reason;
} outcome;

static void put(outcome *o, const char *bytes, size_t len)
{
    if (o->len + len > o->space) {
        o->space = 2 * (o->len + len);
        o->text = realloc(o->text, o->space);
        FUZZ_MUST(o->text != NULL);
    }
    if (len)
        memcpy(o->text + o->len, bytes, len);
    o->len += len;
}

static void put_str(outcome *o, char what, hsb_str s)
{
    char mark[2] = { what, s.ptr ? '+' : '-' };
    put(o, mark, 2);
    put(o, s.ptr, s.len);
}

static void put_part(outcome *o, const hsb_part *part)
{
    put_str(o, 'P', part->name);
    put_str(o, 'F', part->file_name);
    put_str(o, 'T', part->type);
    put(o, "D", 1);
}

static void read_all(outcome *o, hsb_str boundary, const char *bytes, size_t len, uint32_t seed)
{
    char *head = malloc(HEAD);
    hsb__multipart m;
    hsb__multipart_event event = HSB__MULTIPART_MORE;
    hsb__multipart_start(&m, boundary, head, HEAD, PARTS);
    for (size_t at = 0, upto = seed ? 0 : len;;) {
        size_t used;
        hsb_str data;
        event = hsb__multipart_read(&m, bytes + at, upto - at, &used, &data);
        FUZZ_MUST(used <= upto - at);
        if (event == HSB__MULTIPART_PART)
            put_part(o, &m.part);
        else if (event == HSB__MULTIPART_DATA)
            put(o, data.ptr, data.len);
        else if (event == HSB__MULTIPART_END)
            put(o, "E", 1);
        at += used;
        if (event == HSB__MULTIPART_BAD)
            break;
        if (event != HSB__MULTIPART_MORE)
            continue;
        FUZZ_MUST(at == upto);
        if (upto == len)
            break;
        size_t n = fuzz_cut(&seed, 12);
        upto = n < len - upto ? upto + n : len;
    }
    hsb__multipart_end(&m);
    o->reason = m.reason;
    free(head);
}

/* --- the second reader: whole lines of a whole body ------------------------------------------- */
static bool begins(const char *bytes, size_t len, const char *with, size_t n)
{
    return len >= n && memcmp(bytes, with, n) == 0;
}

/* Where the next boundary's "--" is, from at on, which begins a line; len: nowhere. */
static size_t next_boundary(hsb_str b, const char *bytes, size_t len, size_t at)
{
    char dashed[80] = "--";
    memcpy(dashed + 2, b.ptr, b.len);
    for (size_t i = at; i < len; i++)
        if ((i == at || (i >= at + 2 && bytes[i - 2] == '\r' && bytes[i - 1] == '\n')) &&
            begins(bytes + i, len - i, dashed, b.len + 2))
            return i;
    return len;
}

/* The end of the line at `at`, behind its CR LF; 0: it has none. */
static size_t line_end(const char *bytes, size_t len, size_t at)
{
    for (size_t i = at; i + 1 < len; i++)
        if (bytes[i] == '\r' && bytes[i + 1] == '\n')
            return i + 2;
    return 0;
}

static bool only_blanks(const char *bytes, size_t from, size_t to)
{
    while (from < to && (bytes[from] == ' ' || bytes[from] == '\t'))
        from++;
    return from == to;
}

/* Counts parts and their bytes of data; false: not a form, for whatever reason.  Heads are only
   skipped, so it may accept what the first one refuses for what a head says. */
static bool simple_read(hsb_str b, const char *bytes, size_t len, size_t *parts, size_t *data)
{
    size_t at = next_boundary(b, bytes, len, 0);
    *parts = *data = 0;
    for (;;) {
        if (at == len)
            return false;
        at += 2 + b.len;
        if (begins(bytes + at, len - at, "--", 2))
            return true;
        size_t line = line_end(bytes, len, at);
        if (!line || !only_blanks(bytes, at, line - 2))
            return false;
        do {
            at = line;
            line = line_end(bytes, len, at);
        } while (line > at + 2);
        if (!line)
            return false;
        at = next_boundary(b, bytes, len, line);
        ++*parts;
        *data += at == len || at == line ? 0 : at - 2 - line;
    }
}

static void compare(const outcome *o, hsb_str boundary, const char *bytes, size_t len)
{
    size_t parts, data, seen = 0, bytes_seen = 0;
    const bool good = simple_read(boundary, bytes, len, &parts, &data);
    FUZZ_MUST(!good || !o->reason || !strstr(o->reason, "boundary"));
    if (o->reason)
        return;
    FUZZ_MUST(good);
    char *head = malloc(HEAD);
    hsb__multipart m;
    hsb__multipart_start(&m, boundary, head, HEAD, PARTS);
    for (size_t at = 0, used; at < len; at += used) {
        hsb_str part;
        hsb__multipart_event event = hsb__multipart_read(&m, bytes + at, len - at, &used, &part);
        seen += event == HSB__MULTIPART_END;
        bytes_seen += event == HSB__MULTIPART_DATA ? part.len : 0;
    }
    FUZZ_MUST(seen == parts && bytes_seen == data);
    free(head);
}

/* Content-Type: whatever is found in it is a boundary. */
static void read_type(const char *bytes, size_t len)
{
    hsb_str parameters, type = { bytes, len };
    hsb__multipart_is_type(type, &parameters);
    FUZZ_MUST(parameters.ptr + parameters.len == bytes + len);
    hsb_str boundary = hsb__multipart_boundary(parameters);
    FUZZ_MUST(boundary.len <= HSB__MULTIPART_BOUNDARY);
    FUZZ_MUST(!boundary.ptr || (boundary.len && boundary.ptr >= bytes &&
                                boundary.ptr + boundary.len <= bytes + len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const boundaries[] = { "B", "-", "--B", "BB" };
    if (size < 2)
        return 0;
    outcome whole = { NULL, 0, 0, NULL }, parts = whole;
    hsb_str boundary = { boundaries[data[0] % 4], strlen(boundaries[data[0] % 4]) };
    size_t len = size - 2;
    char *bytes = fuzz_copy(data + 2, len);
    read_type(bytes, len);
    read_all(&whole, boundary, bytes, len, 0);
    read_all(&parts, boundary, bytes, len, 1u + data[1]);
    FUZZ_MUST(whole.reason == parts.reason && whole.len == parts.len);
    FUZZ_MUST(!whole.len || !memcmp(whole.text, parts.text, whole.len));
    compare(&whole, boundary, bytes, len);
    free(whole.text);
    free(parts.text);
    free(bytes);
    return 0;
}
