/* Frames in a small notation, and what comes out of them in the same:

     T:Hello        a text frame, masked; B binary, M continuation ("more"), I ping, O pong
     t:Hel          a small letter: FIN is not set
     C1000:bye      a Close with a code and a reason; "C:" one with neither
     T:%C3%A4       bytes by number; also %20 for a space and %25 for the sign itself
     B:*70000       so many times the letter x
     T/2:a  T/8:a   the length in 2 or 8 bytes, though fewer would do
     T!:a           without a mask
     Tr4:a          with reserved bits: r1..r7
     #818500        bytes as they are

   and, only in what comes out, X1002: the connection fails with that code.  Include httpsbind.h
   before this. */
#ifndef TESTS_UNIT_WEBSOCKET_NOTATION_H
#define TESTS_UNIT_WEBSOCKET_NOTATION_H

#include "guard.h"
#include "help.h"

enum { SPACE = 200000, NO_LIMIT = 0, USUAL = 1 << 20 };

/* --- a text that grows --- */

typedef struct text { char bytes[SPACE]; size_t len; } text;

static inline void add(text *t, const char *bytes, size_t len)
{
    assert_true(len < sizeof t->bytes - t->len);
    if (len)
        memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
    t->bytes[t->len] = '\0';
}

__attribute__((format(printf, 2, 3)))
static inline void addf(text *t, const char *format, ...)
{
    char line[64];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    add(t, line, (size_t)n);
}

static inline void clear(text *t)
{
    t->len = 0;
    t->bytes[0] = '\0';
}

/* --- from the notation to frames --- */

/* "abc", "%C3%A4" or "*70000", up to a space. */
static inline const char *read_payload(const char *s, text *out)
{
    if (*s == '*') {
        char *end;
        for (long n = strtol(s + 1, &end, 10); n > 0; n--)
            add(out, "x", 1);
        return end;
    }
    for (; *s && *s != ' '; s++) {
        char c = *s;
        if (c == '%') {
            c = (char)(hsb__text_hex(s[1]) << 4 | hsb__text_hex(s[2]));
            s += 2;
        }
        add(out, &c, 1);
    }
    return s;
}

typedef struct frame { unsigned first; int wide; bool masked; } frame;

static inline void write_frame(text *out, const frame *f, const text *payload)
{
    static unsigned char mask[4] = { 0x37, 0xFA, 0x21, 0x3D };
    size_t len = payload->len;
    int wide = f->wide > 0 ? f->wide : len < 126 ? 0 : len < 65536 ? 2 : 8;
    unsigned second = wide == 0 ? (unsigned)len : wide == 2 ? 126 : 127;
    addf(out, "%c%c", (int)f->first, (int)(second | (f->masked ? 0x80u : 0)));
    for (int shift = 8 * (wide - 1); shift >= 0; shift -= 8)
        addf(out, "%c", (int)((uint64_t)len >> shift & 0xFF));
    if (!f->masked) {
        add(out, payload->bytes, len);
        return;
    }
    for (int i = 0; i < 4; i++)
        mask[i] = (unsigned char)(mask[i] * 5 + 3 + i);             /* another one each time */
    add(out, (const char *)mask, 4);
    for (size_t i = 0; i < len; i++) {
        char c = (char)((unsigned char)payload->bytes[i] ^ mask[i % 4]);
        add(out, &c, 1);
    }
}

static inline const char *read_frame(const char *s, text *out)
{
    static const char letters[] = "MTB.....CIO";
    static text payload;
    bool final = *s >= 'A' && *s <= 'Z';
    const char *letter = strchr(letters, final ? *s : *s - 'a' + 'A');
    frame f = { 0, 0, true };
    assert_non_null(letter);
    f.first = (unsigned)(letter - letters) | (final ? 0x80u : 0);
    clear(&payload);
    for (s++; *s != ':'; s++) {
        if (*s == '!') {
            f.masked = false;
        } else if (*s == '/') {
            f.wide = *++s - '0';
        } else if (*s == 'r') {
            f.first |= (unsigned)(*++s - '0') << 4;
        } else {
            long code = strtol(s, NULL, 10);
            addf(&payload, "%c%c", (int)(code >> 8), (int)(code & 0xFF));
            s += strspn(s, "0123456789") - 1;
        }
    }
    s = read_payload(s + 1, &payload);
    write_frame(out, &f, &payload);
    return s;
}

static inline void frames(text *out, const char *notation)
{
    clear(out);
    for (const char *s = notation; *s; s += *s == ' ') {
        if (*s != '#') {
            s = read_frame(s, out);
            continue;
        }
        for (s++; *s && *s != ' '; s += 2)
            addf(out, "%c", hsb__text_hex(s[0]) << 4 | hsb__text_hex(s[1]));
    }
}

/* --- and from events to the notation --- */

static inline void say_payload(text *t, hsb_str s)
{
    size_t same = 0;
    while (same < s.len && s.ptr[same] == 'x')
        same++;
    if (same == s.len && same >= 20) {
        addf(t, "*%u", (unsigned)same);
        return;
    }
    for (size_t i = 0; i < s.len; i++) {
        unsigned c = (unsigned char)s.ptr[i];
        addf(t, c > ' ' && c < 127 && c != '%' && c != '*' ? "%c" : "%%%02X", (int)c);
    }
}

static inline void say(text *t, const char *what, hsb_str payload)
{
    addf(t, "%s%s:", t->len ? " " : "", what);
    say_payload(t, payload);
}

static inline void say_failure(text *t, int code)
{
    addf(t, "%sX%d", t->len ? " " : "", code);
}

#endif
