/* Answers, off the bytes that came, and what must be true of each of them. */
#ifndef TESTS_WIRE_REPLY_H
#define TESTS_WIRE_REPLY_H

#include "connection.h"
#include "talk.h"

enum { MOST_FIELDS = 64 };

typedef struct reply {
    int status;
    hsb_str name[MOST_FIELDS], value[MOST_FIELDS];
    int field_count;
    const char *framing;            /* "chunked", "length", "until-close", "bare"          */
    bytebuf body;
    bool whole;
    size_t end;                     /* in the bytes received                               */
} reply;

/* The line at *at, which moves behind it. */
static inline bool take_line(const bytebuf *b, size_t *at, hsb_str *line)
{
    const char *from = b->data + *at;
    const char *end = *at < b->len ? memchr(from, '\r', b->len - *at) : NULL;
    if (!end || end + 1 >= b->data + b->len)
        return false;
    *line = hsb__text_make(from, (size_t)(end - from));
    *at += line->len + 2;
    return end[1] == '\n' || complain("CR without LF in the answer");
}

static inline hsb_str reply_field(const reply *r, const char *name)
{
    for (int i = 0; i < r->field_count; i++)
        if (hsb__text_is_nocase(r->name[i], name))
            return r->value[i];
    return hsb__text_absent();
}

/* Fields up to the empty line. */
static inline bool take_fields(const bytebuf *b, size_t *at, reply *r)
{
    hsb_str line;
    while (take_line(b, at, &line)) {
        const char *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
        if (line.len == 0)
            return true;
        size_t n = colon ? (size_t)(colon - line.ptr) : 0;
        if (!hsb__text_is_token(hsb__text_make(line.ptr, n)) || r->field_count == MOST_FIELDS)
            return complain("malformed field: %.*s", (int)line.len, line.ptr);
        r->name[r->field_count] = hsb__text_make(line.ptr, n);
        r->value[r->field_count++] = hsb__text_trim(hsb__text_make(colon + 1, line.len - n - 1));
    }
    return false;
}

/* RFC 9112 7.1, trailers among the fields */
static inline bool take_chunks(const bytebuf *b, size_t *at, reply *r)
{
    hsb_str line;
    while (take_line(b, at, &line)) {
        char *end, text[20] = { 0 };
        memcpy(text, line.ptr, line.len < 19 ? line.len : 19);
        size_t size = strtoul(text, &end, 16);
        if (end == text || *end)
            return complain("malformed chunk size: %s", text);
        if (size == 0)
            return take_fields(b, at, r);
        size_t there = b->len - *at;
        bytes_add(&r->body, b->data + *at, there < size ? there : size);
        if (there < size + 2)
            return false;
        if (memcmp(b->data + *at + size, "\r\n", 2))
            return complain("a chunk is longer than its size");
        *at += size + 2;
    }
    return false;
}

/* What every answer has to keep: RFC 9110 6.6.1, 8.6, RFC 9112 6.1 */
static inline bool check_reply(const reply *r)
{
    hsb_str length = reply_field(r, "Content-Length"), coding = reply_field(r, "Transfer-Encoding");
    hsb_str date = reply_field(r, "Date");
    int64_t when, now = hsb__os_wall();
    for (int i = 0; i < r->field_count; i++)
        for (int k = 0; k < i; k++)
            if (hsb__text_equal_nocase(r->name[i], r->name[k]) &&
                !hsb__text_is_nocase(r->name[i], "Set-Cookie"))
                return complain("field twice: %.*s", (int)r->name[i].len, r->name[i].ptr);
    if (length.ptr && coding.ptr)
        return complain("both Content-Length and Transfer-Encoding");
    if ((r->status < 200 || r->status == 204) && (length.ptr || coding.ptr))
        return complain("%d with a framing field", r->status);
    if (r->status >= 200 && (!date.ptr || !hsb__date_parse(date, now, &when) || when > now ||
                             when < now - 20))
        return complain("no Date, or a wrong one");
    return true;
}

/* One answer from at on; false: not whole (yet), or malformed. */
static inline bool take_reply(const bytebuf *b, size_t at, bool bare, bool ended, reply *r)
{
    hsb_str line, length;
    int64_t n;
    memset(r, 0, sizeof *r);
    if (!take_line(b, &at, &line))
        return false;
    if (!fits("HTTP/1.1 *", line.ptr, line.len) || line.len < 13 || line.ptr[12] != ' ')
        return complain("malformed status line: %.*s", (int)line.len, line.ptr);
    r->status = atoi(line.ptr + 9);
    if (!take_fields(b, &at, r) || !check_reply(r))
        return false;
    length = reply_field(r, "Content-Length");
    r->end = at;
    if (bare || r->status < 200 || r->status == 204 || r->status == 304) {
        r->framing = "bare";
        r->whole = true;
    } else if (hsb__text_is(reply_field(r, "Transfer-Encoding"), "chunked")) {
        r->framing = "chunked";
        r->whole = take_chunks(b, &at, r);
    } else if (length.ptr) {
        if (!hsb__text_decimal(length, INT64_MAX, &n))
            return complain("Content-Length is not a number");
        r->framing = "length";
        r->whole = (uint64_t)n <= b->len - at;
        bytes_add(&r->body, b->data + at, r->whole ? (size_t)n : b->len - at);
        at += r->body.len;
    } else {
        r->framing = "until-close";
        r->whole = ended;
        bytes_add(&r->body, b->data + at, b->len - at);
        at = b->len;
    }
    r->end = at;
    return r->whole;
}

#endif
