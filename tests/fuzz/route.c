/* A pattern, a line end, a path: what >>route says of them, against a second matcher that splits
   both into lists of segments first, and needs memory for it. */
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include <ctype.h>

#include "fuzz/fuzz.h"

enum { MOST = 64 };

typedef struct segments { hsb_str list[MOST]; size_t count; bool more; } segments;

/* "/a//b" is three: a, an empty one, b.  What does not begin with '/' is none. */
static segments split(const char *at, size_t len)
{
    segments s;
    memset(&s, 0, sizeof s);
    for (size_t i = 0; i < len; i++) {
        if (at[i] == '/' && s.count == MOST) {
            s.more = true;
            return s;
        }
        if (at[i] == '/')
            s.list[s.count++] = hsb__text_make(at + i + 1, 0);
        else if (s.count)
            s.list[s.count - 1].len++;
        else
            return s;
    }
    return s;
}

/* In words of 16 bits: an encoded slash is 0x100.  Returns how many. */
static size_t decode(hsb_str s, uint16_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        char digits[3] = { 0, 0, 0 }, *end = digits;
        if (s.ptr[i] == '%' && s.len - i > 2 && isxdigit((unsigned char)s.ptr[i + 1])) {
            memcpy(digits, s.ptr + i + 1, 2);
            const unsigned long byte = strtoul(digits, &end, 16);
            out[n] = (uint16_t)(byte == '/' ? 0x100 : byte);
        }
        if (end == digits + 2)
            i += 2;
        else
            out[n] = (unsigned char)s.ptr[i];
        n++;
    }
    return n;
}

static bool same(hsb_str a, hsb_str b)
{
    uint16_t *x = malloc(a.len * 2 + 1), *y = malloc(b.len * 2 + 1);
    FUZZ_MUST(x != NULL && y != NULL);
    const size_t n = decode(a, x), m = decode(b, y);
    const bool equal = n == m && memcmp(x, y, n * sizeof *x) == 0;
    free(x);
    free(y);
    return equal;
}

static bool is_mark(hsb_str segment, char mark)
{
    return segment.len && segment.ptr[0] == mark;
}

static bool is_named(hsb_str segment)
{
    return is_mark(segment, ':') || is_mark(segment, '*');
}

static bool valid(const segments *p)
{
    for (size_t i = 0; i < p->count; i++) {
        if (!is_named(p->list[i]))
            continue;
        if (p->list[i].len == 1 || (p->list[i].ptr[0] == '*' && i + 1 < p->count))
            return false;
        for (size_t j = 0; j < i; j++)
            if (is_named(p->list[j]) && p->list[i].len == p->list[j].len &&
                memcmp(p->list[i].ptr + 1, p->list[j].ptr + 1, p->list[i].len - 1) == 0)
                return false;
    }
    return p->count > 0;
}

/* What segment i of the pattern stands for, given that all before it fit. */
static bool fits(const segments *pattern, const segments *path, size_t i, const char *end,
                 hsb_str *value)
{
    const hsb_str mine = pattern->list[i];
    if (i >= path->count)
        return false;
    *value = path->list[i];
    if (is_mark(mine, '*'))
        value->len = (size_t)(end - value->ptr);
    return is_mark(mine, '*') || (is_mark(mine, ':') ? value->len > 0 : same(mine, *value));
}

static void compare(const char *pattern, hsb_str path, const segments *p, const segments *q)
{
    const bool rest = is_mark(p->list[p->count - 1], '*');
    bool match = rest ? q->count >= p->count : q->count == p->count;
    hsb_str value = hsb__text_absent(), found;
    for (size_t i = 0; match && i < p->count; i++)
        match = fits(p, q, i, path.ptr + path.len, &value);
    FUZZ_MUST(hsb__route_matches(pattern, path, hsb__text_absent(), NULL) == match);
    FUZZ_MUST(hsb__route_may_match(pattern, path) || !match);
    for (size_t i = 0; match && i < p->count; i++) {
        if (!is_named(p->list[i]))
            continue;
        found = hsb__text_absent();
        fits(p, q, i, path.ptr + path.len, &value);
        hsb__route_matches(pattern, path, hsb__text_after(p->list[i], 1), &found);
        FUZZ_MUST(found.ptr == value.ptr && found.len == value.len);
    }
}

static void look_for_dots_and_nul(hsb_str path, const segments *q)
{
    uint16_t *x = malloc(path.len * 2 + 1);
    bool good = true;
    FUZZ_MUST(x != NULL);
    for (size_t i = 0; i < q->count; i++) {
        const size_t n = decode(q->list[i], x);
        good = good && !(n == 1 && x[0] == '.') && !(n == 2 && x[0] == '.' && x[1] == '.');
        for (size_t j = 0; j < n; j++)
            good = good && x[j];
    }
    free(x);
    FUZZ_MUST(hsb__route_is_path(path) == good);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    const size_t len = line ? (size_t)(line - data) : 0;
    if (!line || memchr(data, 0, size) || len + 1 == size || line[1] != '/')
        return 0;
    char *pattern = fuzz_copy(data, len + 1), *bytes = fuzz_copy(line + 1, size - len - 1);
    pattern[len] = '\0';
    const hsb_str path = hsb__text_make(bytes, size - len - 1);
    const segments p = split(pattern, len), q = split(path.ptr, path.len);
    if (!p.more && !q.more) {
        FUZZ_MUST(hsb__route_is_pattern(pattern) == (valid(&p) || strcmp(pattern, "*") == 0));
        look_for_dots_and_nul(path, &q);
        if (valid(&p))
            compare(pattern, path, &p, &q);
    }
    free(pattern);
    free(bytes);
    return 0;
}
