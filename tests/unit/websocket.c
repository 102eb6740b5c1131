/* >>websocket: RFC 6455, clause by clause.

   The frames of most cases are written in a small notation, and what has to come out is
   written in the same:

     T:Hello        a text frame, masked; B binary, M continuation ("more"), I ping, O pong
     t:Hel          a small letter: FIN is not set
     C1000:bye      a Close with a code and a reason; "C:" one with neither
     T:%C3%A4       bytes by number; also %20 for a space and %25 for the sign itself
     B:*70000       so many times the letter x
     T/2:a  T/8:a   the length in 2 or 8 bytes, though fewer would do
     T!:a           without a mask
     Tr4:a          with reserved bits: r1..r7
     #818500        bytes as they are

   and, only in what comes out, X1002: the connection fails with that code.  Each case is
   played whole, byte by byte and in every two parts, once for on_message and once for
   on_fragment, and each time from a copy that ends at a guard page. */
#define HTTPSBIND_IMPLEMENTATION
extern void mock_assert(const int result, const char *const expression, const char *const file,
                        const int line);
#define HSB_ASSERT(condition) mock_assert((condition) != 0, #condition, __FILE__, __LINE__)
#include "httpsbind.h"

#include "guard.h"

#include "help.h"

enum { SPACE = 200000, NO_LIMIT = 0, USUAL = 1 << 20 };

/* --- a text that grows --- */

typedef struct text { char bytes[SPACE]; size_t len; } text;

static void add(text *t, const char *bytes, size_t len)
{
    assert_true(len < sizeof t->bytes - t->len);
    if (len)
        memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
    t->bytes[t->len] = '\0';
}

__attribute__((format(printf, 2, 3)))
static void addf(text *t, const char *format, ...)
{
    char line[64];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    add(t, line, (size_t)n);
}

static void clear(text *t)
{
    t->len = 0;
    t->bytes[0] = '\0';
}

/* --- from the notation to frames --- */

/* "abc", "%C3%A4" or "*70000", up to a space. */
static const char *read_payload(const char *s, text *out)
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

static void write_frame(text *out, const frame *f, const text *payload)
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

static const char *read_frame(const char *s, text *out)
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

static void frames(text *out, const char *notation)
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

static void say_payload(text *t, hsb_str s)
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

static void say(text *t, const char *what, hsb_str payload)
{
    addf(t, "%s%s:", t->len ? " " : "", what);
    say_payload(t, payload);
}

static void say_failure(text *t, int code)
{
    addf(t, "%sX%d", t->len ? " " : "", code);
}

/* --- the pure machine, played --- */

typedef struct player {
    hsb__websocket_reader  reader;
    hsb__memory            memory;
    hsb__websocket_message message;
    bool                   in_parts;    /* as for on_fragment */
    bool                   over;
    size_t                 taken;       /* bytes of input until it was over */
    text                   parts;       /* of the message that comes in parts */
    text                   said;
} player;

static void player_start(player *p, bool in_parts, uint64_t limit)
{
    memset(&p->memory, 0, sizeof p->memory);
    memset(&p->message, 0, sizeof p->message);
    p->message.memory = &p->memory;
    p->in_parts = in_parts;
    p->over = false;
    p->taken = 0;
    clear(&p->parts);
    clear(&p->said);
    hsb__websocket_reader_start(&p->reader, limit);
}

static void player_fails(player *p)
{
    assert_non_null(p->reader.why);
    say_failure(&p->said, p->reader.bad);
    p->over = true;
}

static void player_data(player *p, hsb_str piece)
{
    hsb__websocket_reader *r = &p->reader;
    char part[50];
    bool ok = p->in_parts ? hsb__websocket_take(r, part, piece)
                          : hsb__websocket_message_add(&p->message, r, piece);
    if (!ok)
        return;                             /* the next read tells BAD */
    if (p->in_parts)
        add(&p->parts, part, piece.len);
    if (!r->last)
        return;
    say(&p->said, r->text ? "T" : "B",
        p->in_parts ? hsb__text_make(p->parts.bytes, p->parts.len)
                    : hsb__text_make(p->message.bytes, p->message.len));
    clear(&p->parts);
    p->message.len = 0;
}

static void player_close(player *p)
{
    int code;
    hsb_str reason;
    char what[16] = "C";
    if (!hsb__websocket_parse_close(&p->reader, &code, &reason)) {
        player_fails(p);
        return;
    }
    if (code != 1005)
        snprintf(what, sizeof what, "C%d", code);
    say(&p->said, what, reason);
    p->over = true;
}

static void player_feed(player *p, const char *bytes, size_t len)
{
    hsb_str in = hsb__text_make(guard_copy(bytes, len), len), piece = hsb__text_absent();
    const hsb__websocket_reader *r = &p->reader;
    while (!p->over) {
        switch (hsb__websocket_read(&p->reader, &in, p->in_parts ? 50 : SIZE_MAX, &piece)) {
        case HSB__WEBSOCKET_MORE:
            assert_int_equal(in.len, 0);
            p->taken += len;
            return;
        case HSB__WEBSOCKET_DATA:
            player_data(p, piece);
            break;
        case HSB__WEBSOCKET_PING:
            say(&p->said, "I", hsb__text_make(r->control, r->control_len));
            break;
        case HSB__WEBSOCKET_PONG:
            say(&p->said, "O", hsb__text_make(r->control, r->control_len));
            break;
        case HSB__WEBSOCKET_CLOSE:
            player_close(p);
            break;
        case HSB__WEBSOCKET_BAD:
            player_fails(p);
            break;
        }
    }
    p->taken += len - in.len;
}

static void player_end(player *p)
{
    hsb__websocket_message_release(&p->message);
    assert_int_equal(p->memory.used, 0);
}

/* --- cases --- */

/* at: how many bytes are enough to know, when it matters; limit 0: 1 MiB. */
typedef struct row { const char *name, *in, *out; size_t at; uint64_t limit; } row;

static void play_cut(const row *c, const text *in, size_t cut, bool in_parts)
{
    static player p;
    player_start(&p, in_parts, c->limit ? c->limit : USUAL);
    player_feed(&p, in->bytes, cut);
    player_feed(&p, in->bytes + cut, in->len - cut);
    assert_string_equal(p.said.bytes, c->out);
    player_end(&p);
}

static void play_bytewise(const row *c, const text *in, bool in_parts)
{
    static player p;
    player_start(&p, in_parts, c->limit ? c->limit : USUAL);
    for (size_t i = 0; i < in->len && !p.over; i++)
        player_feed(&p, in->bytes + i, 1);
    assert_string_equal(p.said.bytes, c->out);
    if (c->at)
        assert_int_equal(p.taken, c->at);
    player_end(&p);
}

static void play_row(void **state)
{
    const row *c = *state;
    static text in;
    frames(&in, c->in);
    for (int in_parts = 0; in_parts < 2; in_parts++) {
        play_bytewise(c, &in, in_parts);
        for (size_t cut = 0; cut <= in.len; cut += in.len > 1000 ? 997 : 1)
            play_cut(c, &in, cut, in_parts);
    }
}

static const row rows[] = {
    /* 5.2: lengths, each in its own encoding */
    { "5.2 text of 0", "T:", "T:", 0, 0 },
    { "5.2 text of 1", "T:a", "T:a", 0, 0 },
    { "5.2 text of 7", "T:abcdefg", "T:abcdefg", 0, 0 },
    { "5.2 text of 8", "T:abcdefgh", "T:abcdefgh", 0, 0 },
    { "5.2 text of 9", "T:abcdefghi", "T:abcdefghi", 0, 0 },
    { "5.2 text of 124", "T:*124", "T:*124", 0, 0 },
    { "5.2 text of 125, the longest in 7 bits", "T:*125", "T:*125", 0, 0 },
    { "5.2 text of 126, the first in 16 bits", "T:*126", "T:*126", 0, 0 },
    { "5.2 text of 127", "T:*127", "T:*127", 0, 0 },
    { "5.2 text of 128", "T:*128", "T:*128", 0, 0 },
    { "5.2 text of 65535, the longest in 16 bits", "T:*65535", "T:*65535", 0, 0 },
    { "5.2 text of 65536, the first in 64 bits", "T:*65536", "T:*65536", 0, 0 },
    { "5.2 binary of 0", "B:", "B:", 0, 0 },
    { "5.2 binary of 1", "B:%00", "B:%00", 0, 0 },
    { "5.2 binary of all sorts", "B:%00%01%7F%80%C0%FE%FF", "B:%00%01%7F%80%C0%FE%FF", 0, 0 },
    { "5.2 binary of 125", "B:*125", "B:*125", 0, 0 },
    { "5.2 binary of 126", "B:*126", "B:*126", 0, 0 },
    { "5.2 binary of 65535", "B:*65535", "B:*65535", 0, 0 },
    { "5.2 binary of 65536", "B:*65536", "B:*65536", 0, 0 },
    { "5.2 three messages in a row", "T:a B:b T:c", "T:a B:b T:c", 0, 0 },
    { "5.2 empty messages in a row", "T: T: B: B:", "T: T: B: B:", 0, 0 },
    { "5.2 half a head is waited for", "#81", "", 0, 0 },
    { "5.2 half a mask is waited for", "#818537FA", "", 0, 0 },
    { "5.2 half a payload is waited for", "#81850000000048656C", "", 0, 0 },
    { "5.2 half a length is waited for", "#82FF00000000", "", 0, 0 },

    /* 5.2: "the minimal number of bytes MUST be used" */
    { "5.2 0 in 16 bits", "B/2:", "X1002", 4, 0 },
    { "5.2 1 in 16 bits", "T/2:a", "X1002", 4, 0 },
    { "5.2 125 in 16 bits", "B/2:*125", "X1002", 4, 0 },
    { "5.2 126 in 16 bits is right", "B/2:*126", "B:*126", 0, 0 },
    { "5.2 0 in 64 bits", "B/8:", "X1002", 10, 0 },
    { "5.2 125 in 64 bits", "B/8:*125", "X1002", 10, 0 },
    { "5.2 126 in 64 bits", "B/8:*126", "X1002", 10, 0 },
    { "5.2 65535 in 64 bits", "B/8:*65535", "X1002", 10, 0 },
    { "5.2 65536 in 64 bits is right", "B/8:*65536", "B:*65536", 0, 0 },
    { "5.2 a continuation's 5 in 16 bits", "t:a M/2:abcde", "X1002", 11, 0 },
    { "5.2 the top bit of 64", "#82FF8000000000000000", "X1002", 10, 0 },
    { "5.2 all bits of 64", "#82FFFFFFFFFFFFFFFFFF", "X1002", 10, 0 },
    { "5.2 the top bit comes before the limit", "#82FF8000000000000001", "X1002", 10, 10 },

    /* 5.2: reserved bits, as no extension was negotiated */
    { "5.2 RSV1 (a compressed message)", "Tr4:abc", "X1002", 1, 0 },
    { "5.2 RSV2", "Tr2:abc", "X1002", 1, 0 },
    { "5.2 RSV3", "Tr1:abc", "X1002", 1, 0 },
    { "5.2 RSV1 and 2", "Tr6:abc", "X1002", 1, 0 },
    { "5.2 RSV1 and 3", "Br5:abc", "X1002", 1, 0 },
    { "5.2 RSV2 and 3", "Br3:abc", "X1002", 1, 0 },
    { "5.2 all of RSV", "Br7:abc", "X1002", 1, 0 },
    { "5.2 RSV1 of a first fragment", "tr4:abc", "X1002", 1, 0 },
    { "5.2 RSV1 of a continuation", "t:a Mr4:b", "X1002", 8, 0 },
    { "5.2 RSV1 of a ping", "Ir4:abc", "X1002", 1, 0 },
    { "5.2 RSV2 of a pong", "Or2:abc", "X1002", 1, 0 },
    { "5.2 RSV3 of a Close", "Cr1:", "X1002", 1, 0 },
    { "5.2 RSV after a good message", "T:Hello Tr4:abc", "T:Hello X1002", 12, 0 },

    /* 5.2: reserved opcodes */
    { "5.2 opcode 3", "#8380", "X1002", 1, 0 },
    { "5.2 opcode 4", "#8480", "X1002", 1, 0 },
    { "5.2 opcode 5", "#8580", "X1002", 1, 0 },
    { "5.2 opcode 6", "#8680", "X1002", 1, 0 },
    { "5.2 opcode 7", "#8780", "X1002", 1, 0 },
    { "5.2 opcode 3 without FIN", "#0380", "X1002", 1, 0 },
    { "5.2 opcode 7 within a message", "t:a #8780", "X1002", 8, 0 },
    { "5.2 opcode 11", "#8B80", "X1002", 1, 0 },
    { "5.2 opcode 12", "#8C80", "X1002", 1, 0 },
    { "5.2 opcode 13", "#8D80", "X1002", 1, 0 },
    { "5.2 opcode 14", "#8E80", "X1002", 1, 0 },
    { "5.2 opcode 15", "#8F80", "X1002", 1, 0 },
    { "5.2 opcode 11 without FIN", "#0B80", "X1002", 1, 0 },
    { "5.2 opcode 15 within a message", "t:a #8F80", "X1002", 8, 0 },

    /* 5.1, 5.3: masks */
    { "5.1 text without a mask", "T!:Hello", "X1002", 2, 0 },
    { "5.1 empty text without a mask", "T!:", "X1002", 2, 0 },
    { "5.1 binary without a mask", "B!:*300", "X1002", 2, 0 },
    { "5.1 ping without a mask", "I!:", "X1002", 2, 0 },
    { "5.1 pong without a mask", "O!:a", "X1002", 2, 0 },
    { "5.1 Close without a mask", "C!1000:", "X1002", 2, 0 },
    { "5.1 continuation without a mask", "t:a M!:b", "X1002", 9, 0 },
    { "5.1 a second message without a mask", "T:a T!:b", "T:a X1002", 9, 0 },
    { "5.3 a mask of zeros", "#81850000000048656C6C6F", "T:Hello", 0, 0 },
    { "5.3 a mask of ones", "#8183FFFFFFFF9E9D9C", "T:abc", 0, 0 },
    { "5.3 a mask that begins with zero", "#818200010203 #6163", "T:ab", 0, 0 },
    { "5.7 the masked example", "#818537FA213D7F9F4D5158", "T:Hello", 0, 0 },
    { "5.7 the unmasked example", "#810548656C6C6F", "X1002", 2, 0 },
    { "5.7 the unmasked fragments", "#010348656C #80026C6F", "X1002", 2, 0 },
    { "5.7 the masked pong", "#8A8537FA213D7F9F4D5158", "O:Hello", 0, 0 },

    /* 5.4: fragmentation */
    { "5.4 two fragments", "t:Hel M:lo", "T:Hello", 0, 0 },
    { "5.4 three fragments", "t:H m:el M:lo", "T:Hello", 0, 0 },
    { "5.4 binary fragments", "b:%00%01 m:%02 M:%03", "B:%00%01%02%03", 0, 0 },
    { "5.4 a byte each", "t:H m:e m:l m:l M:o", "T:Hello", 0, 0 },
    { "5.4 an empty first fragment", "t: M:Hello", "T:Hello", 0, 0 },
    { "5.4 an empty fragment between", "t:Hel m: M:lo", "T:Hello", 0, 0 },
    { "5.4 an empty last fragment", "t:Hello M:", "T:Hello", 0, 0 },
    { "5.4 empty fragments alone", "t: m: m: M:", "T:", 0, 0 },
    { "5.4 many empty fragments", "b:a m: m: m: m: m: m: m: m: m: m: M:b", "B:ab", 0, 0 },
    { "5.4 fragments of 126 and 65536", "t:*126 m:*65536 M:*2", "T:*65664", 0, 0 },
    { "5.4 fragments, then a whole message", "t:a M:b B:c", "T:ab B:c", 0, 0 },
    { "5.4 two fragmented messages", "t:a M:b b:c M:d", "T:ab B:cd", 0, 0 },
    { "5.4 a message without an end", "t:a m:b m:c", "", 0, 0 },
    { "5.4 continuation of nothing", "M:a", "X1002", 1, 0 },
    { "5.4 unfinished continuation of nothing", "m:a", "X1002", 1, 0 },
    { "5.4 continuation after a whole message", "T:a M:b", "T:a X1002", 8, 0 },
    { "5.4 continuation after the last fragment", "t:a M:b M:c", "T:ab X1002", 15, 0 },
    { "5.4 continuation after an empty last one", "t:a M: M:", "T:a X1002", 14, 0 },
    { "5.4 text within text", "t:a T:b", "X1002", 8, 0 },
    { "5.4 text fragment within text", "t:a t:b", "X1002", 8, 0 },
    { "5.4 binary within text", "t:a B:b", "X1002", 8, 0 },
    { "5.4 binary within binary", "b:a m:b B:c", "X1002", 15, 0 },
    { "5.4 text within binary", "b:a T:c", "X1002", 8, 0 },

    /* 5.5: control frames */
    { "5.5.2 empty ping", "I:", "I:", 0, 0 },
    { "5.5.2 ping of text", "I:Hello", "I:Hello", 0, 0 },
    { "5.5.2 ping of bytes", "I:%00%FF%FE%FD", "I:%00%FF%FE%FD", 0, 0 },
    { "5.5.2 ping of 125", "I:*125", "I:*125", 0, 0 },
    { "5.5 ping of 126", "I:*126", "X1002", 2, 0 },
    { "5.5 ping with a 16-bit length of 5", "I/2:Hello", "X1002", 2, 0 },
    { "5.5 ping of 65536", "I:*65536", "X1002", 2, 0 },
    { "5.5 fragmented ping", "i:Hel M:lo", "X1002", 1, 0 },
    { "5.5 pong of 126", "O:*126", "X1002", 2, 0 },
    { "5.5 fragmented pong", "o:Hel", "X1002", 1, 0 },
    { "5.5 Close of 126", "C1000:*124", "X1002", 2, 0 },
    { "5.5 fragmented Close", "c1000:", "X1002", 1, 0 },
    { "5.5.3 a pong nobody asked for", "O:Hello", "O:Hello", 0, 0 },
    { "5.5.3 an empty pong", "O:", "O:", 0, 0 },
    { "5.5.3 a pong of 125", "O:*125", "O:*125", 0, 0 },
    { "5.5.2 many pings", "I:1 I:2 I:3 I:4 I:5", "I:1 I:2 I:3 I:4 I:5", 0, 0 },
    { "5.5.2 a long ping, then a short one", "I:*100 I:a I:", "I:*100 I:a I:", 0, 0 },
    { "5.4 ping between fragments", "t:Hel I:now M:lo", "I:now T:Hello", 0, 0 },
    { "5.4 empty ping between fragments", "t:Hel I: M:lo", "I: T:Hello", 0, 0 },
    { "5.4 pong between fragments", "b:a O:x M:b", "O:x B:ab", 0, 0 },
    { "5.4 pings between all fragments", "I:1 t:a I:2 m:b I:3 M:c I:4", "I:1 I:2 I:3 T:abc I:4",
      0, 0 },
    { "5.4 ping between halves of a character", "t:%C3 I:%A4 M:%A4", "I:%A4 T:%C3%A4", 0, 0 },
    { "5.4 a ping is not checked as text", "t:a I:%FF M:b", "I:%FF T:ab", 0, 0 },
    { "5.4 Close between fragments", "t:Hel C1001: M:lo", "C1001:", 0, 0 },
    { "5.4 a bad ping between fragments", "t:Hel i: M:lo", "X1002", 10, 0 },

    /* 5.5.1, 7.4: Close */
    { "5.5.1 Close without a body", "C:", "C:", 6, 0 },
    { "5.5.1 Close with half a code", "C:%03", "X1002", 7, 0 },
    { "5.5.1 Close with a code", "C1000:", "C1000:", 8, 0 },
    { "5.5.1 Close with a reason", "C1000:bye", "C1000:bye", 0, 0 },
    { "5.5.1 Close with the longest reason", "C1000:*123", "C1000:*123", 0, 0 },
    { "5.5.1 Close with a reason in UTF-8", "C1000:%C3%A4%E2%82%AC", "C1000:%C3%A4%E2%82%AC",
      0, 0 },
    { "8.1 Close with a reason that is none", "C1000:a%FF", "X1007", 0, 0 },
    { "8.1 Close with half a character", "C1000:a%E2%82", "X1007", 0, 0 },
    { "8.1 Close with a surrogate", "C1000:%ED%A0%80", "X1007", 0, 0 },
    { "7.4.1 the code is judged before the reason", "C999:%FF", "X1002", 0, 0 },
    { "1.4 a message after Close", "C1000: T:a", "C1000:", 8, 0 },
    { "1.4 a ping after Close", "C: I:a", "C:", 6, 0 },
    { "1.4 another Close", "C1000: C1001:", "C1000:", 8, 0 },
    { "1.4 rubbish after Close", "C1000: #FFFFFF", "C1000:", 8, 0 },
    { "5.5.1 Close after a message", "T:a C1000:", "T:a C1000:", 0, 0 },
    { "7.4.1 code 1000", "C1000:", "C1000:", 0, 0 },
    { "7.4.1 code 1001", "C1001:", "C1001:", 0, 0 },
    { "7.4.1 code 1002", "C1002:", "C1002:", 0, 0 },
    { "7.4.1 code 1003", "C1003:", "C1003:", 0, 0 },
    { "7.4.1 code 1007", "C1007:", "C1007:", 0, 0 },
    { "7.4.1 code 1008", "C1008:", "C1008:", 0, 0 },
    { "7.4.1 code 1009", "C1009:", "C1009:", 0, 0 },
    { "7.4.1 code 1010", "C1010:", "C1010:", 0, 0 },
    { "7.4.1 code 1011", "C1011:", "C1011:", 0, 0 },
    { "7.4.2 code 1012, registered later", "C1012:", "C1012:", 0, 0 },
    { "7.4.2 code 1013, registered later", "C1013:", "C1013:", 0, 0 },
    { "7.4.2 code 1014, registered later", "C1014:", "C1014:", 0, 0 },
    { "7.4.2 code 3000", "C3000:", "C3000:", 0, 0 },
    { "7.4.2 code 3999", "C3999:", "C3999:", 0, 0 },
    { "7.4.2 code 4000", "C4000:", "C4000:", 0, 0 },
    { "7.4.2 code 4999", "C4999:", "C4999:", 0, 0 },
    { "7.4.2 code 0", "C0:", "X1002", 0, 0 },
    { "7.4.2 code 1", "C1:", "X1002", 0, 0 },
    { "7.4.2 code 999", "C999:", "X1002", 0, 0 },
    { "7.4.1 code 1004", "C1004:", "X1002", 0, 0 },
    { "7.4.1 code 1005", "C1005:", "X1002", 0, 0 },
    { "7.4.1 code 1006", "C1006:", "X1002", 0, 0 },
    { "7.4.1 code 1015", "C1015:", "X1002", 0, 0 },
    { "7.4.2 code 1016", "C1016:", "X1002", 0, 0 },
    { "7.4.2 code 1100", "C1100:", "X1002", 0, 0 },
    { "7.4.2 code 2000", "C2000:", "X1002", 0, 0 },
    { "7.4.2 code 2999", "C2999:", "X1002", 0, 0 },
    { "7.4.2 code 5000", "C5000:", "X1002", 0, 0 },
    { "7.4.2 code 65535", "C65535:", "X1002", 0, 0 },

    /* 5.6, 8.1: text is UTF-8 (RFC 3629), and is judged as it comes */
    { "8.1 2 bytes", "T:%C3%A4", "T:%C3%A4", 0, 0 },
    { "8.1 3 bytes", "T:%E2%82%AC", "T:%E2%82%AC", 0, 0 },
    { "8.1 4 bytes", "T:%F0%9F%98%80", "T:%F0%9F%98%80", 0, 0 },
    { "8.1 U+0000", "T:a%00b", "T:a%00b", 0, 0 },
    { "8.1 U+007F", "T:%7F", "T:%7F", 0, 0 },
    { "8.1 U+0080", "T:%C2%80", "T:%C2%80", 0, 0 },
    { "8.1 U+07FF", "T:%DF%BF", "T:%DF%BF", 0, 0 },
    { "8.1 U+0800", "T:%E0%A0%80", "T:%E0%A0%80", 0, 0 },
    { "8.1 U+D7FF, before the surrogates", "T:%ED%9F%BF", "T:%ED%9F%BF", 0, 0 },
    { "8.1 U+E000, after the surrogates", "T:%EE%80%80", "T:%EE%80%80", 0, 0 },
    { "8.1 U+FEFF is kept", "T:%EF%BB%BFa", "T:%EF%BB%BFa", 0, 0 },
    { "8.1 U+FFFE, no character, is UTF-8", "T:%EF%BF%BE", "T:%EF%BF%BE", 0, 0 },
    { "8.1 U+FFFF, no character, is UTF-8", "T:%EF%BF%BF", "T:%EF%BF%BF", 0, 0 },
    { "8.1 U+10000", "T:%F0%90%80%80", "T:%F0%90%80%80", 0, 0 },
    { "8.1 U+10FFFF", "T:%F4%8F%BF%BF", "T:%F4%8F%BF%BF", 0, 0 },
    { "8.1 after 8 of ASCII", "T:abcdefgh%C3%A4", "T:abcdefgh%C3%A4", 0, 0 },
    { "8.1 within 8 of ASCII", "T:abcd%C3%A4efghijklmnop", "T:abcd%C3%A4efghijklmnop", 0, 0 },
    { "8.1 over a border of 8", "T:abcdefg%E2%82%ACabcdefgh", "T:abcdefg%E2%82%ACabcdefgh", 0, 0 },
    { "8.1 U+110000", "T:%F4%90%80%80", "X1007", 8, 0 },
    { "8.1 U+D800", "T:%ED%A0%80", "X1007", 8, 0 },
    { "8.1 U+DFFF", "T:%ED%BF%BF", "X1007", 8, 0 },
    { "8.1 a pair of surrogates", "T:%ED%A0%BD%ED%B8%80", "X1007", 8, 0 },
    { "8.1 '/' in 2 bytes", "T:%C0%AF", "X1007", 7, 0 },
    { "8.1 U+007F in 2 bytes", "T:%C1%BF", "X1007", 7, 0 },
    { "8.1 '/' in 3 bytes", "T:%E0%80%AF", "X1007", 8, 0 },
    { "8.1 U+07FF in 3 bytes", "T:%E0%9F%BF", "X1007", 8, 0 },
    { "8.1 '/' in 4 bytes", "T:%F0%80%80%AF", "X1007", 8, 0 },
    { "8.1 U+FFFF in 4 bytes", "T:%F0%8F%BF%BF", "X1007", 8, 0 },
    { "8.1 5 bytes", "T:%F8%88%80%80%80", "X1007", 7, 0 },
    { "8.1 6 bytes", "T:%FC%84%80%80%80%80", "X1007", 7, 0 },
    { "8.1 FE", "T:%FE", "X1007", 7, 0 },
    { "8.1 FF", "T:%FF", "X1007", 7, 0 },
    { "8.1 a lone continuation", "T:%80", "X1007", 7, 0 },
    { "8.1 another lone continuation", "T:abc%BFdef", "X1007", 10, 0 },
    { "8.1 two leads", "T:%C3%C3", "X1007", 8, 0 },
    { "8.1 ASCII in a character of 3", "T:%E2%82a", "X1007", 9, 0 },
    { "8.1 much ASCII in a character of 2", "T:%C3abcdefgh%A4", "X1007", 8, 0 },
    { "8.1 a lead in a character of 4", "T:%F0%9F%F0%9F", "X1007", 9, 0 },
    { "8.1 ends within a character of 2", "T:a%C3", "X1007", 8, 0 },
    { "8.1 ends within a character of 3", "T:%E2%82", "X1007", 8, 0 },
    { "8.1 ends within a character of 4", "T:%F0%9F%98", "X1007", 9, 0 },
    { "8.1 a late bad byte is not waited for", "T:abcdefghijklmnop%FFqrstuvw", "X1007", 23, 0 },
    { "5.6 a character in two fragments", "t:%C3 M:%A4", "T:%C3%A4", 0, 0 },
    { "5.6 a character in three fragments", "t:%E2 m:%82 M:%AC", "T:%E2%82%AC", 0, 0 },
    { "5.6 a character in four fragments", "t:%F0 m:%9F m:%98 M:%80", "T:%F0%9F%98%80", 0, 0 },
    { "5.6 with an empty fragment within", "t:%F0%9F m: M:%98%80", "T:%F0%9F%98%80", 0, 0 },
    { "5.6 last fragment ends within one", "t:a M:%C3", "X1007", 14, 0 },
    { "5.6 empty last fragment ends one", "t:%C3 M:", "X1007", 13, 0 },
    { "5.6 the wrong half in a fragment", "t:%C3 M:a", "X1007", 14, 0 },
    { "5.6 overlong over fragments", "t:%E0 M:%80%80", "X1007", 14, 0 },
    { "5.6 surrogate over fragments", "t:%ED m:%A0 M:%80", "X1007", 14, 0 },
    { "5.6 too large over fragments", "t:%F4 m:%90 m:%80 M:%80", "X1007", 14, 0 },
    { "5.6 a bad first fragment is not waited for", "t:%FF M:a", "X1007", 7, 0 },
    { "5.6 each text begins anew", "T:a T:%C3%A4 T:b", "T:a T:%C3%A4 T:b", 0, 0 },
    { "5.6 binary is not UTF-8", "B:%FF%FE%C0", "B:%FF%FE%C0", 0, 0 },
    { "5.6 binary fragments are not UTF-8", "b:%C3 M:%C3", "B:%C3%C3", 0, 0 },
    { "5.6 binary, then bad text", "B:%FF T:%FF", "B:%FF X1007", 14, 0 },
    { "5.6 text, then binary that is none", "T:a B:%C3", "T:a B:%C3", 0, 0 },

    /* 7.4.1, 10.4: limits */
    { "10.4 as long as the limit", "T:*100", "T:*100", 0, 100 },
    { "10.4 one above the limit", "T:*101", "X1009", 2, 100 },
    { "10.4 one above, in 16 bits", "B:*201", "X1009", 4, 200 },
    { "10.4 one above, in 64 bits", "B:*70001", "X1009", 10, 70000 },
    { "10.4 an announcement is enough", "#82FF7FFFFFFFFFFFFFFF", "X1009", 10, 0 },
    { "10.4 fragments as long as the limit", "t:*60 M:*40", "T:*100", 0, 100 },
    { "10.4 fragments above the limit", "t:*60 M:*41", "X1009", 68, 100 },
    { "10.4 fragments far above the limit", "t:*60 M:*126", "X1009", 70, 100 },
    { "10.4 an announced sum that overflows", "b:*60 #80FF7FFFFFFFFFFFFFFF", "X1009", 76, 0 },
    { "10.4 the limit is a message's", "T:*100 T:*100 b:*100 M:", "T:*100 T:*100 B:*100", 0, 100 },
    { "10.4 empty fragments at the limit", "t:*100 m: m: M:", "T:*100", 0, 100 },
    { "10.4 pings do not count", "t:*60 I:*125 M:*40", "I:*125 T:*100", 0, 100 },
    { "10.4 a limit below a ping's length", "I:*125 T:ab", "I:*125 T:ab", 0, 2 },
    { "10.4 a limit of 1", "T:a B:b T:cd", "T:a B:b X1009", 16, 1 },
    { "10.4 no limit at all", "T:abc", "T:abc", 0, INT64_MAX },
    { "10.4 no limit, and all that fits", "#82FF7FFFFFFFFFFFFFFF00000000", "", 0, INT64_MAX },
    { "10.4 no limit, and a sum above", "b:a #80FF7FFFFFFFFFFFFFFF", "X1009", 17, INT64_MAX },
};

/* --- UTF-8 against a slow decoder --- */

/* RFC 3629 3, read literally: decode, then compare with the shortest form. */
static bool slow_utf8(const unsigned char *s, size_t len)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    while (len) {
        size_t n = *s < 0x80 ? 1 : (*s & 0xE0) == 0xC0 ? 2 : (*s & 0xF0) == 0xE0 ? 3
                 : (*s & 0xF8) == 0xF0 ? 4 : 0;
        if (n == 0 || n > len)
            return false;
        uint32_t c = n == 1 ? *s : *s & (0x7Fu >> n);
        for (size_t i = 1; i < n; i++) {
            if ((s[i] & 0xC0) != 0x80)
                return false;
            c = c << 6 | (s[i] & 0x3Fu);
        }
        if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
            return false;
        s += n;
        len -= n;
    }
    return true;
}

static bool same_utf8(const unsigned char *s, size_t len)
{
    return hsb__utf8_is(hsb__text_make((const char *)s, len)) == slow_utf8(s, len);
}

static void test_utf8_every_three_bytes(void **state)
{
    (void)state;
    unsigned char s[3];
    for (uint32_t n = 0; n < 1u << 24; n++) {
        s[0] = (unsigned char)(n >> 16);
        s[1] = (unsigned char)(n >> 8);
        s[2] = (unsigned char)n;
        if (!same_utf8(s, 3) || (s[2] == 0 && !same_utf8(s, 2)))
            fail_msg("%02X %02X %02X", s[0], s[1], s[2]);
    }
}

/* All leads of four with all second bytes, and the third and fourth at the borders. */
static void test_utf8_four_bytes(void **state)
{
    (void)state;
    static const unsigned char borders[] = { 0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F,
                                            0xA0, 0xBF, 0xC0, 0xFF };
    for (unsigned n = 0; n < 16 * 256 * 100; n++) {
        unsigned char s[4] = { (unsigned char)(0xF0 + n / 25600), (unsigned char)(n / 100 % 256),
                               borders[n / 10 % 10], borders[n % 10] };
        if (!same_utf8(s, 4))
            fail_msg("%02X %02X %02X %02X", s[0], s[1], s[2], s[3]);
    }
}

/* Every code point, in a place where it crosses the steps of eight. */
static void test_utf8_every_character(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char s[24] = "0123456789abcdefghijklm";
        char *at = s + c % 13;
        if (c < 0x80) {
            *at = (char)c;
        } else if (c < 0x800) {
            at[0] = (char)(0xC0 | c >> 6);
            at[1] = (char)(0x80 | (c & 0x3F));
        } else if (c < 0x10000) {
            at[0] = (char)(0xE0 | c >> 12);
            at[1] = (char)(0x80 | (c >> 6 & 0x3F));
            at[2] = (char)(0x80 | (c & 0x3F));
        } else {
            at[0] = (char)(0xF0 | c >> 18);
            at[1] = (char)(0x80 | (c >> 12 & 0x3F));
            at[2] = (char)(0x80 | (c >> 6 & 0x3F));
            at[3] = (char)(0x80 | (c & 0x3F));
        }
        if (hsb__utf8_is(hsb__text_make(s, 23)) != (c < 0xD800 || c > 0xDFFF))
            fail_msg("U+%04X", c);
    }
}

/* Good and bad texts, in every two frames, in every three parts of the input: the same
   judgement, and a bad byte is found where it is. */
static const char *const texts[] = {
    "%C3%A4", "a%E2%82%ACb", "%F0%9F%98%80%F0%9F%98%80", "%CE%BA%E1%BD%B9%CF%83%CE%BC%CE%B5",
    "0123456%F4%8F%BF%BF0123456", "%ED%9F%BF%EE%80%80", "abcdefgh%E2%82", "%CE%BA%ED%A0%80x",
    "a%F4%90%80%80", "%F0%8F%BF%BF", "%E2%28%A1", "abc%C0%80", "%F0%28%8C%BC", "%C3",
};

static void play_text_in_two_frames(const text *s, size_t cut, bool good)
{
    static text in, first, second;
    static player p;
    const frame open = { 0x01, 0, true }, last = { 0x80, 0, true };
    clear(&in);
    clear(&first);
    clear(&second);
    add(&first, s->bytes, cut);
    add(&second, s->bytes + cut, s->len - cut);
    write_frame(&in, &open, &first);
    write_frame(&in, &last, &second);
    for (size_t a = 0; a <= in.len; a++)
        for (size_t b = a; b <= in.len; b++) {
            player_start(&p, a % 2 == 0, USUAL);
            player_feed(&p, in.bytes, a);
            player_feed(&p, in.bytes + a, b - a);
            player_feed(&p, in.bytes + b, in.len - b);
            assert_int_equal(p.said.bytes[0], good ? 'T' : 'X');
            assert_int_equal(p.reader.bad, good ? 0 : 1007);
            player_end(&p);
        }
}

static void test_utf8_at_every_split(void **state)
{
    (void)state;
    static text s;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        clear(&s);
        read_payload(texts[i], &s);
        bool good = slow_utf8((const unsigned char *)s.bytes, s.len);
        for (size_t cut = 0; cut <= s.len; cut++)
            play_text_in_two_frames(&s, cut, good);
    }
}

static void test_utf8_start(void **state)
{
    (void)state;
    static const struct { const char *s; size_t max, len; } cases[] = {
        { "", 10, 0 }, { "abc", 10, 3 }, { "abc", 2, 2 }, { "abc", 0, 0 },
        { "a\xC3\xA4", 3, 3 }, { "a\xC3\xA4", 2, 1 }, { "\xE2\x82\xAC", 3, 3 },
        { "\xE2\x82\xAC", 2, 0 }, { "\xE2\x82\xAC", 1, 0 }, { "\xF0\x9F\x98\x80", 3, 0 },
        { "ab\xF0\x9F\x98", 10, 2 }, { "ab\xFF" "cd", 10, 2 }, { "ab\xE2\x82" "cd", 10, 2 },
        { "\x80", 10, 0 }, { "\xC3\xA4\xC3", 10, 2 }, { "\xED\xA0\x80", 10, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(hsb__utf8_start(hsb__text_of(cases[i].s), cases[i].max).len,
                         cases[i].len);
    assert_int_equal(hsb__utf8_start(hsb__text_absent(), 5).len, 0);
}

/* --- other pure functions --- */

static void test_unmask_every_phase(void **state)
{
    (void)state;
    hsb__websocket_reader r;
    char in[40], out[40];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (char)(i * 37);
    for (unsigned phase = 0; phase < 4; phase++)
        for (size_t len = 0; len <= 33; len++) {
            hsb__websocket_reader_start(&r, USUAL);
            memcpy(r.head + 2, "\x01\x20\xC3\xF4", 4);
            r.mask_at = phase;
            const char *copy = guard_copy(in, len);
            hsb__websocket_unmask(&r, out, hsb__text_make(copy, len));
            for (size_t i = 0; i < len; i++)
                assert_int_equal((unsigned char)out[i],
                                 (unsigned char)in[i] ^ r.head[2 + (phase + i) % 4]);
            assert_int_equal(r.mask_at, (phase + len) % 4);
            r.mask_at = phase;                              /* the same, in place */
            char *place = guard_copy(in, len);
            hsb__websocket_unmask(&r, place, hsb__text_make(place, len));
            assert_memory_equal(place, out, len);
        }
}

static void test_print_head(void **state)
{
    (void)state;
    static const struct {
        bool last; unsigned opcode; uint64_t len; size_t n; const char *bytes;
    } cases[] = {
        { true, 1, 0, 2, "\x81\x00" }, { false, 1, 5, 2, "\x01\x05" },
        { true, 2, 125, 2, "\x82\x7D" }, { true, 2, 126, 4, "\x82\x7E\x00\x7E" },
        { true, 0, 256, 4, "\x80\x7E\x01\x00" },             /* 5.7: 256 bytes in one frame */
        { false, 0, 65535, 4, "\x00\x7E\xFF\xFF" },
        { true, 2, 65536, 10, "\x82\x7F\0\0\0\0\0\x01\x00\x00" },    /* 5.7: 64 KiB */
        { true, 9, 0, 2, "\x89\x00" }, { true, 10, 5, 2, "\x8A\x05" },
        { true, 8, 2, 2, "\x88\x02" },
        { true, 2, 0x0102030405060708, 10, "\x82\x7F\x01\x02\x03\x04\x05\x06\x07\x08" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[10];
        size_t n = hsb__websocket_print_head(out, cases[i].last, cases[i].opcode, cases[i].len);
        assert_int_equal(n, cases[i].n);
        assert_memory_equal(out, cases[i].bytes, n);
    }
}

static void test_code_is_good(void **state)
{
    (void)state;
    for (int code = -1; code <= 70000; code++) {
        bool good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                    (code >= 3000 && code < 5000);
        assert_int_equal(hsb__websocket_code_is_good(code), good);
    }
}

static void test_print_close(void **state)
{
    (void)state;
    char out[HSB__WEBSOCKET_CONTROL], longer[200];
    assert_int_equal(hsb__websocket_print_close(out, 1000, hsb__text_absent()), 2);
    assert_memory_equal(out, "\x03\xE8", 2);
    assert_int_equal(hsb__websocket_print_close(out, 4999, hsb__text_of("bye")), 5);
    assert_memory_equal(out, "\x13\x87" "bye", 5);
    assert_int_equal(hsb__websocket_print_close(out, 0, hsb__text_of("lost with its code")), 0);
    assert_int_equal(hsb__websocket_print_close(out, 1005, hsb__text_of("bye")), 0);
    assert_int_equal(hsb__websocket_print_close(out, 1006, hsb__text_of("bye")), 0);
    memset(longer, 'x', sizeof longer);
    assert_int_equal(hsb__websocket_print_close(out, 1000, hsb__text_make(longer, 200)), 125);
    assert_int_equal(hsb__websocket_print_close(out, 1000, hsb__text_make(longer, 123)), 125);
    memcpy(longer + 122, "\xC3\xA4", 2);                    /* a character over the border */
    assert_int_equal(hsb__websocket_print_close(out, 1000, hsb__text_make(longer, 200)), 124);
}

static void test_base64(void **state)
{
    (void)state;
    static const char *const cases[][2] = {                 /* RFC 4648 10 */
        { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
        { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" }, { "\xFB\xFF\xBF", "+/+/" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[9];
        hsb__websocket_base64(out, (const unsigned char *)cases[i][0], strlen(cases[i][0]));
        assert_string_equal(out, cases[i][1]);
    }
}

static void test_accept(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" },         /* 1.3 */
        { "AQIDBAUGBwgJCgsMDQ4PEA==", "C/0nmHhBztSRGR1CwL6Tf4ZjwpY=" },         /* 4.1 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[HSB__WEBSOCKET_ACCEPT];
        hsb__websocket_accept(out, hsb__text_of(cases[i][0]));
        assert_string_equal(out, cases[i][1]);
    }
}

static void test_key_is_good(void **state)
{
    (void)state;
    static const struct { const char *key; bool good; } cases[] = {
        { "dGhlIHNhbXBsZSBub25jZQ==", true }, { "AAAAAAAAAAAAAAAAAAAAAA==", true },
        { "+/+/+/+/+/+/+/+/+/+/+w==", true }, { "", false }, { "dGhlIHNhbXBsZSBub25jZQ=", false },
        { "dGhlIHNhbXBsZSBub25jZQ", false }, { "dGhlIHNhbXBsZSBub25jZQ===", false },
        { "dGhlIHNhbXBsZSBub25jZ===", false }, { "dGhlIHNhbXBsZSBub25jZQAA", false },
        { "dGhlIHNhbXBsZSBub25jZQA=", false }, { "dGhlIHNhbXBsZ SBub25jQ==", false },
        { "dGhlIHNhbXBsZS-ub25jZQ==", false }, { "dGhlIHNhbXBsZS_ub25jZQ==", false },
        { "dGhl=HNhbXBsZSBub25jZQ==", false }, { "Zm9vYmFy", false },
        { "dGhlIHNhbXBsZSBub25jZSBtb3JlIGJ5dGVz", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len = strlen(cases[i].key);
        hsb_str key = hsb__text_make(guard_copy(cases[i].key, len), len);
        assert_int_equal(hsb__websocket_key_is_good(key), cases[i].good);
    }
    assert_false(hsb__websocket_key_is_good(hsb__text_absent()));
    assert_false(hsb__websocket_key_is_good(hsb__text_make("dGhlIHNhbXBsZSBub25j\0Q==", 24)));
}

/* Who announces a megabyte and sends ten bytes costs ten bytes. */
static void test_announcement_costs_nothing(void **state)
{
    (void)state;
    static player p;
    player_start(&p, false, USUAL);
    player_feed(&p, "\x82\xFF\0\0\0\0\0\x0F\xFF\xFF" "mask" "0123456789", 24);
    assert_int_equal(p.memory.used, 10);
    for (int i = 0; i < 100; i++)
        player_feed(&p, "0123456789", 10);
    assert_within(p.memory.used, 1010, 2020);
    player_end(&p);
    player_start(&p, false, USUAL);
    player_feed(&p, "\x82\x8F" "mask" "0123456789", 16);
    player_feed(&p, "a", 1);
    assert_int_equal(p.memory.used, 15);            /* never more than it becomes */
    player_end(&p);
}

/* A message that is there at once is allocated once and exactly; one after the other uses
   the same room. */
static void test_one_allocation(void **state)
{
    (void)state;
    static player p;
    static text in;
    player_start(&p, false, USUAL);
    frames(&in, "B:*5000");
    player_feed(&p, in.bytes, in.len);
    const char *bytes = p.message.bytes;
    assert_int_equal(p.memory.used, 5000);
    frames(&in, "T:*4999 T:abc");
    player_feed(&p, in.bytes, in.len);
    assert_ptr_equal(p.message.bytes, bytes);
    assert_string_equal(p.said.bytes, "B:*5000 T:*4999 T:abc");
    player_end(&p);
}

static void test_bad_stays_bad(void **state)
{
    (void)state;
    static player p;
    player_start(&p, false, USUAL);
    player_feed(&p, "\x83", 1);
    hsb_str in = hsb__text_of("anything"), piece;
    assert_int_equal(hsb__websocket_read(&p.reader, &in, 100, &piece), HSB__WEBSOCKET_BAD);
    in = hsb__text_absent();
    assert_int_equal(hsb__websocket_read(&p.reader, &in, 100, &piece), HSB__WEBSOCKET_BAD);
    assert_false(hsb__websocket_bad(&p.reader, 1009, "later"));
    assert_int_equal(p.reader.bad, 1002);
    player_end(&p);
}

/* What a server sends is what a client may get, and with a mask what a server may get: own
   frames come back through the reader. */
static void test_round_trip(void **state)
{
    (void)state;
    static const size_t lengths[] = { 0, 1, 125, 126, 127, 65535, 65536, 70000 };
    static player p;
    static char bytes[80000];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t len = lengths[i];
        char expected[32];
        size_t n = hsb__websocket_print_head(bytes, true, HSB__WEBSOCKET_OP_BINARY, len);
        bytes[1] = (char)((unsigned char)bytes[1] | 0x80u);
        memset(bytes + n, 0, 4);
        memset(bytes + n + 4, 'x', len);
        player_start(&p, false, USUAL);
        player_feed(&p, bytes, n + 4 + len);
        snprintf(expected, sizeof expected,
                 len >= 20 ? "B:*%u" : len ? "B:x" : "B:", (unsigned)len);
        assert_string_equal(p.said.bytes, expected);
        player_end(&p);
    }
}

/* Frames that hold anything, in random parts: what came whole comes the same way. */
static void test_random_cuts(void **state)
{
    (void)state;
    static text in;
    static player whole, cut;
    uint32_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        clear(&in);
        frames(&in, round % 3 == 0 ? "t:abc I:ping m:%C3 O: M:%A4 B:*200 C1000:bye"
                  : round % 3 == 1 ? "b:*130 m: m:*70 I:a M:%00 T:%E2%82%AC%E2%82 T:a"
                                   : "T:%F0%9F%98%80 T:*126 t: I: M: C:");
        seed = seed * 1664525u + 1013904223u;
        if (round % 5 == 4)                                 /* and with a byte turned over */
            in.bytes[seed % in.len] = (char)(in.bytes[seed % in.len] ^ (char)(1u << (seed >> 29)));
        player_start(&whole, round % 2 == 0, 150);
        player_feed(&whole, in.bytes, in.len);
        player_start(&cut, round % 4 < 2, 150);
        for (size_t at = 0; at < in.len;) {
            seed = seed * 1664525u + 1013904223u;
            size_t n = 1 + (seed >> 24) % 20;
            n = n < in.len - at ? n : in.len - at;
            player_feed(&cut, in.bytes + at, n);
            at += n;
        }
        assert_string_equal(cut.said.bytes, whole.said.bytes);
        player_end(&whole);
        player_end(&cut);
    }
}

/* --- over a stream, without a connection --- */

/* The request and the stream are real; what belongs to >>conn - a head that has come, bytes
   that were sent, the end - is done by hand.  heard: what the hooks were told. */
typedef struct bench {
    hsb__loop      loop;
    hsb__outgoing  out;
    hsb_error      why;
    hsb_request    req;
    hsb_websocket *ws;
    hsb_stream    *stream;
    text           heard, sent;
    int            closes;
    void         (*answer)(struct bench *);     /* called from on_message */
} bench;

static bench b;

static void no_kick(hsb_conn *conn)
{
    (void)conn;
}

static void on_message(hsb_websocket *ws, bool is_text, hsb_str message, void *user)
{
    assert_ptr_equal(user, &b);
    assert_ptr_equal(ws, b.ws);
    say(&b.heard, is_text ? "T" : "B", message);
    if (b.answer)
        b.answer(&b);
}

/* "(T:abc" a part, "T:abc)" the last. */
static void on_fragment(hsb_websocket *ws, bool is_text, hsb_str part, bool last, void *user)
{
    (void)ws;
    assert_ptr_equal(user, &b);
    assert_true(part.len > 0 || last);
    assert_non_null(part.ptr);
    say(&b.heard, is_text ? last ? "T" : "(T" : last ? "B" : "(B", part);
    if (last)
        addf(&b.heard, ")");
}

static void on_pong(hsb_websocket *ws, hsb_str payload, void *user)
{
    (void)ws;
    (void)user;
    say(&b.heard, "O", payload);
}

static void on_drain(hsb_websocket *ws, void *user)
{
    (void)ws;
    (void)user;
    addf(&b.heard, "%sdrain", b.heard.len ? " " : "");
}

static void on_close(hsb_websocket *ws, int code, hsb_str reason, void *user)
{
    char what[16];
    (void)user;
    b.closes++;
    snprintf(what, sizeof what, "C%d", code);
    say(&b.heard, what, reason);
    assert_int_equal(hsb__websocket_send(ws, true, hsb__text_of("late")), HSB_FLOW_GONE);
    assert_int_equal(hsb__websocket_ping(ws, hsb__text_of("late")), HSB_FLOW_GONE);
    hsb__websocket_close(ws, 1000, hsb__text_absent());
}

static const hsb_websocket_hooks whole_messages = {
    &b, on_message, NULL, on_pong, on_drain, on_close, NULL, 0
};

static const char usual_head[] =
    "GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

static void bench_request(const char *head)
{
    static const hsb__head_limits limits = { 8192, 16384, 100 };
    hsb_request *req = &b.req;
    int result;
    memset(&b, 0, sizeof b);
    b.loop.options = hsb__options_resolve(NULL);
    b.loop.pool.memory = &b.loop.memory;
    b.loop.depth = 1;                               /* as in a turn */
    b.out.bytes.pool = &b.loop.pool;
    hsb__request_init(req, &b.loop, NULL, &b.out, &b.why, no_kick);
    hsb__head_start(&req->head, &limits);
    assert_true(hsb__buffer_append_text(&req->text, head));
    do
        result = hsb__head_parse(&req->head, hsb__buffer_data(&req->text),
                                 hsb__buffer_len(&req->text));
    while (result == HSB__HEAD_SPACE && hsb__request_more_fields(req));
    assert_int_equal(result, HSB__HEAD_DONE);
    req->receiving = HSB__END;
    req->opened = req->head_hook_done = true;
}

static void bench_open(const hsb_websocket_hooks *hooks)
{
    b.ws = hsb__websocket_open(&b.req, hooks);
    b.stream = b.ws ? hsb__websocket_stream(b.ws) : NULL;
    assert_ptr_equal(b.req.detached, b.stream);
}

/* What waits to be sent, as text; it is gone then. */
static const char *bench_head(void)
{
    clear(&b.sent);
    add(&b.sent, hsb__buffer_data(&b.out.bytes), hsb__buffer_len(&b.out.bytes));
    hsb__buffer_release(&b.out.bytes);
    return b.sent.bytes;
}

static void bench_start(const hsb_websocket_hooks *hooks)
{
    bench_request(usual_head);
    bench_open(hooks);
    assert_non_null(b.ws);
    bench_head();
}

/* One frame of ours, off its bytes (RFC 6455 5.1: none of them is masked). */
static size_t say_frame(text *t, const unsigned char *s)
{
    static const char names[] = "MTB.....CIO";
    size_t len = s[1], head = s[1] < 126 ? 2 : s[1] == 126 ? 4 : 10;
    char what[16];
    assert_false(s[1] & 0x80);
    assert_false(s[0] & 0x70);
    if (head > 2)
        len = 0;
    for (size_t i = 2; i < head; i++)
        len = len << 8 | s[i];
    snprintf(what, sizeof what, "%c", names[s[0] & 15] + (s[0] & 0x80 ? 0 : 'a' - 'A'));
    if ((s[0] & 15) == 8 && len >= 2) {
        snprintf(what, sizeof what, "C%d", s[head] << 8 | s[head + 1]);
        say(t, what, hsb__text_make((const char *)s + head + 2, len - 2));
    } else {
        say(t, what, hsb__text_make((const char *)s + head, len));
    }
    return head + len;
}

static const char *bench_sent(void)
{
    static text t;
    clear(&t);
    bench_head();
    for (size_t at = 0; at < b.sent.len;)
        at += say_frame(&t, (const unsigned char *)b.sent.bytes + at);
    return t.bytes;
}

static void bench_feed(const char *notation)
{
    static text in;
    frames(&in, notation);
    hsb_str part = hsb__text_make(guard_copy(in.bytes, in.len), in.len);
    if (!hsb__stream_gone(b.stream))
        b.stream->hooks.on_data(b.stream, part, b.ws);
}

static void bench_drain(void)
{
    b.stream->drain_due = false;
    b.stream->hooks.on_drain(b.stream, b.ws);
}

static const char *bench_heard(void)
{
    static text t;
    t = b.heard;
    clear(&b.heard);
    return t.bytes;
}

/* The connection ends: nothing may be left of anything. */
static void bench_end(const hsb_error *why)
{
    if (b.stream)
        hsb__stream_end(b.stream, why);
    hsb__request_reset(&b.req);
    hsb__outgoing_clear(&b.out);
    hsb__pool_close(&b.loop.pool);
    assert_int_equal(b.loop.memory.used, 0);
}

/* --- the handshake --- */

static void test_handshake(void **state)
{
    (void)state;
    bench_request(usual_head);
    bench_open(&whole_messages);
    assert_non_null(b.ws);
    const char *head = bench_head();
    assert_memory_equal(head, "HTTP/1.1 101 Switching Protocols\r\n", 34);
    assert_non_null(strstr(head, "\r\nUpgrade: websocket\r\n"));
    assert_non_null(strstr(head, "\r\nConnection: Upgrade\r\n"));
    assert_non_null(strstr(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_null(strstr(head, "Sec-WebSocket-Protocol"));
    assert_null(strstr(head, "Sec-WebSocket-Extensions"));
    assert_null(strstr(head, "Content-Length"));
    assert_null(strstr(head, "Transfer-Encoding"));
    assert_string_equal(strstr(head, "\r\n\r\n"), "\r\n\r\n");
    assert_null(hsb__websocket_subprotocol(b.ws));
    bench_end(NULL);
}

/* The usual head, with `with` in the place of `what`. */
typedef struct handshake { const char *name, *what, *with; int status; } handshake;

static void play_handshake(void **state)
{
    const handshake *c = *state;
    char head[1024];
    const char *at = strstr(usual_head, c->what);
    assert_non_null(at);
    snprintf(head, sizeof head, "%.*s%s%s", (int)(at - usual_head), usual_head, c->with,
             at + strlen(c->what));
    bench_request(head);
    bench_open(&whole_messages);
    assert_int_equal(b.ws != NULL, c->status == 101);
    assert_int_equal(b.req.status, c->status);
    const char *answer = bench_head();
    bool other_version = strstr(answer, "\r\nSec-WebSocket-Version: 13\r\n") != NULL;
    assert_int_equal(other_version, c->status == 426);
    bool upgrade = c->status == 426 || c->status == 101;
    assert_int_equal(strstr(answer, "\r\nUpgrade: websocket\r\n") != NULL, upgrade);
    assert_int_equal(strstr(answer, "\r\nConnection: Upgrade\r\n") != NULL, upgrade);
    assert_int_equal(strstr(answer, "Sec-WebSocket-Accept") != NULL, c->status == 101);
    bench_end(NULL);
}

#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
static const handshake handshakes[] = {
    { "4.2.1 as it should be", KEY, KEY, 101 },
    { "4.2.1 another target", "/chat", "/?a=b", 101 },
    { "4.2.1 names in another case", VERSION, "SEC-WEBSOCKET-VERSION: 13\r\n", 101 },
    { "4.2.1 Upgrade in another case", "websocket", "WebSocket", 101 },
    { "4.2.1 Upgrade as a list", "websocket", "h2c, websocket", 101 },
    { "4.2.1 Upgrade in two fields", "Upgrade: websocket",
      "Upgrade: x\r\nUpgrade: websocket", 101 },
    { "4.2.1 Connection in another case", "Connection: Upgrade", "Connection: upgrade", 101 },
    { "4.2.1 Connection as a list", "Connection: Upgrade",
      "Connection: keep-alive, Upgrade", 101 },
    { "4.2.1 Connection in two fields", "Connection: Upgrade",
      "Connection: keep-alive\r\nConnection: Upgrade", 101 },
    { "4.2.1 Connection with empty elements", "Connection: Upgrade",
      "Connection: , ,Upgrade,", 101 },
    { "4.2.1 Connection to nearly that", "Connection: Upgrade", "Connection: Upgrades", 400 },
    { "4.2.1 Connection without commas", "Connection: Upgrade",
      "Connection: keep-alive Upgrade", 400 },
    { "9.1 an extension that nobody takes up", KEY,
      KEY "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", 101 },
    { "9.1 extensions in two fields", KEY,
      KEY "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b; c, , d\r\n", 101 },
    { "9.1 parameters of all sorts", KEY,
      KEY "Sec-WebSocket-Extensions: a;b; c = d ;e=\"f\\g\", h;i=\"j\"\r\n", 101 },
    { "9.1 no extension", KEY, KEY "Sec-WebSocket-Extensions:\r\n", 400 },
    { "9.1 an extension that is no token", KEY, KEY "Sec-WebSocket-Extensions: a b\r\n", 400 },
    { "9.1 an extension with a value", KEY, KEY "Sec-WebSocket-Extensions: a=b\r\n", 400 },
    { "9.1 no parameter", KEY, KEY "Sec-WebSocket-Extensions: a; ; b\r\n", 400 },
    { "9.1 a parameter without a name", KEY, KEY "Sec-WebSocket-Extensions: a; =b\r\n", 400 },
    { "9.1 a parameter without its value", KEY, KEY "Sec-WebSocket-Extensions: a; b=\r\n", 400 },
    { "9.1 a quoted value that is no token", KEY,
      KEY "Sec-WebSocket-Extensions: a; b=\"c d\"\r\n", 400 },
    { "9.1 an empty quoted value", KEY, KEY "Sec-WebSocket-Extensions: a; b=\"\"\r\n", 400 },
    { "9.1 quotes that are not closed", KEY, KEY "Sec-WebSocket-Extensions: a; b=\"c\r\n", 400 },
    { "9.1 a quote that is escaped", KEY, KEY "Sec-WebSocket-Extensions: a; b=\"c\\\"\r\n", 400 },
    { "9.1 a semicolon in quotes", KEY, KEY "Sec-WebSocket-Extensions: a; b=\"c;d\"\r\n", 400 },
    { "9.1 the second field is malformed", KEY,
      KEY "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: ;\r\n", 400 },
    { "4.2.1 HTTP/1.2", "HTTP/1.1", "HTTP/1.2", 101 },
    { "4.2.1 an Origin, for the hook to judge", KEY, KEY "Origin: https://a.example\r\n", 101 },
    { "4.2.1 fields that are unknown", KEY, KEY "Cookie: a=b\r\nX-Other: ;,=\r\n", 101 },
    { "4.2.1 a subprotocol that nobody speaks", KEY, KEY "Sec-WebSocket-Protocol: a, b\r\n", 101 },
    { "4.2.1 no subprotocol", KEY, KEY "Sec-WebSocket-Protocol: ,\r\n", 400 },
    { "4.2.1 a subprotocol that is no token", KEY, KEY "Sec-WebSocket-Protocol: a, b c\r\n", 400 },
    { "4.2.1 POST", "GET", "POST", 400 },
    { "4.2.1 HEAD", "GET", "HEAD", 400 },
    { "4.2.1 get is not GET", "GET", "get", 400 },
    { "4.2.1 HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 400 },
    { "4.2.1 a body", VERSION, VERSION "Content-Length: 1\r\n", 400 },
    { "4.2.1 a chunked body", VERSION, VERSION "Transfer-Encoding: chunked\r\n", 400 },
    { "4.2.1 an empty body", VERSION, VERSION "Content-Length: 0\r\n", 101 },
    { "4.2.1 no Upgrade", "Upgrade: websocket\r\n", "", 400 },
    { "4.2.1 Upgrade to something else", "websocket", "h2c", 400 },
    { "4.2.1 Upgrade to nearly that", "websocket", "websockets", 400 },
    { "4.2.1 Upgrade with a version", "websocket", "websocket/13", 400 },
    { "4.2.1 no Connection", "Connection: Upgrade\r\n", "", 400 },
    { "4.2.1 Connection without the option", "Connection: Upgrade",
      "Connection: keep-alive", 400 },
    { "4.2.1 no key", KEY, "", 400 },
    { "4.2.1 an empty key", "dGhlIHNhbXBsZSBub25jZQ==", "", 400 },
    { "4.2.1 a key of 15 bytes", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400 },
    { "4.2.1 a key of 17 bytes", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWU=", 400 },
    { "4.2.1 a key that is no base64", "dGhlIHNhbXBsZSBub25jZQ==",
      "dGhlIHNhbXBsZSBub25-ZQ==", 400 },
    { "11.3.1 two keys", KEY, KEY KEY, 400 },
    { "4.2.1 no version", VERSION, "", 400 },
    { "11.3.5 two versions", VERSION, VERSION VERSION, 400 },
    { "4.4 version 8", "Version: 13", "Version: 8", 426 },
    { "4.4 version 0", "Version: 13", "Version: 0", 426 },
    { "4.4 version 14", "Version: 13", "Version: 14", 426 },
    { "4.4 version 013", "Version: 13", "Version: 013", 426 },
    { "4.4 an empty version", "Version: 13", "Version:", 426 },
    { "4.4 version 13 and another", "Version: 13", "Version: 13, 8", 426 },
    { "4.4 version 8 without a key", KEY VERSION, "Sec-WebSocket-Version: 8\r\n", 426 },
};

static const char *choose(const char *offered, const char *const *ours)
{
    static char chosen[40];
    char head[1024];
    hsb_websocket_hooks hooks = whole_messages;
    snprintf(head, sizeof head, "%.*s%s\r\n", (int)sizeof usual_head - 3, usual_head, offered);
    hooks.subprotocols = ours;
    bench_request(head);
    bench_open(&hooks);
    const char *name = hsb__websocket_subprotocol(b.ws);
    snprintf(chosen, sizeof chosen, "%s", name ? name : "-");
    const char *field = strstr(bench_head(), "\r\nSec-WebSocket-Protocol: ");
    assert_int_equal(name != NULL, field != NULL);
    if (field) {
        assert_memory_equal(field + 26, name, strlen(name));
        assert_memory_equal(field + 26 + strlen(name), "\r\n", 2);
    }
    bench_end(NULL);
    return chosen;
}

static void test_subprotocol(void **state)
{
    (void)state;
    static const char *const ours[] = { "v2.chat", "v1.chat", NULL }, *const nothing[] = { NULL };
    assert_string_equal(choose("", ours), "-");
    assert_string_equal(choose("", NULL), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: v1.chat\r\n", NULL), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: v1.chat\r\n", nothing), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: v1.chat\r\n", ours), "v1.chat");
    assert_string_equal(choose("Sec-WebSocket-Protocol: v1.chat, v2.chat\r\n", ours), "v2.chat");
    assert_string_equal(choose("Sec-WebSocket-Protocol: soap, wamp\r\n", ours), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: V1.CHAT\r\n", ours), "-");
    assert_string_equal(choose("Sec-WebSocket-Protocol: soap\r\n"
                               "Sec-WebSocket-Protocol: v1.chat\r\n", ours), "v1.chat");
    char name[] = "chat";
    const char *const copied[] = { name, NULL };
    hsb_websocket_hooks hooks = whole_messages;
    hooks.subprotocols = copied;
    bench_request("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\n" KEY VERSION "Sec-WebSocket-Protocol: chat\r\n\r\n");
    bench_open(&hooks);
    memset(name, 'x', sizeof name);
    assert_string_equal(hsb__websocket_subprotocol(b.ws), "chat");
    bench_end(NULL);
}

/* --- messages --- */

static void test_messages(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    bench_feed("T:Hello b:%01 I:now M:%02 O:then T: T:*70000");
    assert_string_equal(bench_heard(), "T:Hello B:%01%02 O:then T: T:*70000");
    assert_string_equal(bench_sent(), "O:now");
    bench_end(NULL);
    assert_int_equal(b.closes, 1);
}

static void test_idle_holds_no_memory(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    size_t before = b.loop.memory.used;
    bench_feed("T:*5000 B:*100");
    assert_int_equal(b.loop.memory.used, before);
    bench_feed("t:*5000");
    assert_int_equal(b.loop.memory.used, before + 5000);
    bench_feed("I:a");                                      /* the pong takes a block of its own */
    bench_feed("M:a T:b");
    hsb__buffer_release(&b.out.bytes);
    hsb__pool_close(&b.loop.pool);
    assert_within(b.loop.memory.used, 1, before);
    bench_end(NULL);
}

static void test_fragments(void **state)
{
    (void)state;
    hsb_websocket_hooks hooks = whole_messages;
    hooks.on_fragment = on_fragment;
    bench_start(&hooks);
    bench_feed("T:Hello");
    assert_string_equal(bench_heard(), "T:Hello)");
    bench_feed("t:Hel M:lo");
    assert_string_equal(bench_heard(), "(T:Hel T:lo)");
    bench_feed("b:a m: M:");
    assert_string_equal(bench_heard(), "(B:a B:)");
    bench_feed("t: M: T:");
    assert_string_equal(bench_heard(), "T:) T:)");
    bench_feed("B:*10000");                                 /* at most 4096 at once */
    assert_string_equal(bench_heard(), "(B:*4096 (B:*4096 B:*1808)");
    bench_feed("B:*4096");
    assert_string_equal(bench_heard(), "B:*4096)");
    bench_feed("#828500000000 #6162");                      /* as they come */
    assert_string_equal(bench_heard(), "(B:ab");
    bench_feed("#636465");
    assert_string_equal(bench_heard(), "B:cde)");
    bench_feed("t:%C3 I: M:%A4 T:%C3");
    assert_string_equal(bench_heard(), "(T:%C3 T:%A4)");
    assert_string_equal(bench_sent(), "O: C1007:text%20is%20not%20UTF-8");
    bench_end(NULL);
}

static void test_nobody_listens(void **state)
{
    (void)state;
    static const hsb_websocket_hooks none;
    bench_start(&none);
    bench_feed("T:Hello O:a I:b B:*10000");
    assert_string_equal(bench_sent(), "O:b");
    bench_feed("T:%FF");
    assert_string_equal(bench_sent(), "C1007:text%20is%20not%20UTF-8");
    bench_end(NULL);
}

static void test_limits(void **state)
{
    (void)state;
    static const struct { int64_t limit; const char *in, *heard; } cases[] = {
        { 100, "T:*100 T:*101", "T:*100" }, { 100, "t:*50 M:*51", "" },
        { 1, "T:a T: T:ab", "T:a T:" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hsb_websocket_hooks hooks = whole_messages;
        hooks.message_bytes = cases[i].limit;
        bench_start(&hooks);
        bench_feed(cases[i].in);
        assert_string_equal(bench_heard(), cases[i].heard);
        assert_string_equal(bench_sent(), "C1009:message%20too%20big");
        bench_end(NULL);
    }
    assert_int_equal(hsb__websocket_limit(0), 1 << 20);
    assert_int_equal(hsb__websocket_limit(-1), INT64_MAX);
    assert_int_equal(hsb__websocket_limit(5), 5);
}

/* --- sending --- */

static void test_send(void **state)
{
    (void)state;
    static char bytes[70000];
    memset(bytes, 'x', sizeof bytes);
    bench_start(&whole_messages);
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("Hello")), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_send(b.ws, false, hsb__text_make("\0\1", 2)), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_absent()), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_ping(b.ws, hsb__text_of("now")), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_ping(b.ws, hsb__text_make(bytes, 125)), HSB_FLOW_GO);
    assert_string_equal(bench_sent(), "T:Hello B:%00%01 T: I:now I:*125");
    assert_int_equal(hsb__websocket_send(b.ws, false, hsb__text_make(bytes, 126)), HSB_FLOW_GO);
    assert_int_equal(hsb__websocket_send(b.ws, false, hsb__text_make(bytes, 70000)),
                     HSB_FLOW_WAIT);
    assert_string_equal(bench_sent(), "B:*126 B:*70000");
    bench_end(NULL);
}

static void test_send_parts(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    hsb__websocket_send_part(b.ws, true, hsb__text_of("Hel"), false);
    hsb__websocket_ping(b.ws, hsb__text_absent());
    bench_feed("I:now");
    hsb__websocket_send_part(b.ws, true, hsb__text_absent(), false);
    hsb__websocket_send_part(b.ws, true, hsb__text_of("lo"), true);
    hsb__websocket_send_part(b.ws, false, hsb__text_of("a"), true);
    hsb__websocket_send_part(b.ws, false, hsb__text_of("b"), false);
    hsb__websocket_send_part(b.ws, false, hsb__text_absent(), true);
    hsb__websocket_send(b.ws, true, hsb__text_of("c"));
    assert_string_equal(bench_sent(), "t:Hel I: O:now m: M:lo B:a b:b M: T:c");
    bench_end(NULL);
}

static void test_misuse(void **state)
{
    (void)state;
    static char bytes[126];
    bench_start(&whole_messages);
    expect_assert_failure(hsb__websocket_ping(b.ws, hsb__text_make(bytes, 126)));
    expect_assert_failure(hsb__websocket_close(b.ws, 1004, hsb__text_absent()));
    expect_assert_failure(hsb__websocket_close(b.ws, 1015, hsb__text_absent()));
    expect_assert_failure(hsb__websocket_close(b.ws, 999, hsb__text_absent()));
    hsb__websocket_send_part(b.ws, true, hsb__text_of("a"), false);
    expect_assert_failure(hsb__websocket_send(b.ws, true, hsb__text_of("b")));
    hsb__websocket_send_part(b.ws, true, hsb__text_of("c"), true);
    assert_string_equal(bench_sent(), "t:a M:c");
    bench_end(NULL);
}

/* A head is never the write after WAIT that makes its payload one too many. */
static void test_large_message_after_go(void **state)
{
    (void)state;
    static char bytes[17 * 65536];
    bench_start(&whole_messages);
    hsb_flow flow = hsb__websocket_send(b.ws, false, hsb__text_make(bytes, 65536 - 8));
    assert_int_equal(flow, HSB_FLOW_GO);
    flow = hsb__websocket_send(b.ws, false, hsb__text_make(bytes, sizeof bytes));
    assert_int_equal(flow, HSB_FLOW_WAIT);
    assert_false(hsb__stream_gone(b.stream));
    flow = hsb__websocket_send(b.ws, false, hsb__text_of("one too many"));
    assert_int_equal(flow, HSB_FLOW_GONE);
    assert_int_equal(b.why.status, HSB_ERR_LIMIT);
    hsb__buffer_release(&b.out.bytes);
    bench_end(&b.why);
    assert_string_equal(bench_heard(), "C1006:stream%20written%20on%20after%20HSB_FLOW_WAIT");
}

static void fill(void)
{
    static char bytes[65536];
    assert_int_equal(hsb__websocket_send(b.ws, false, hsb__text_make(bytes, sizeof bytes)),
                     HSB_FLOW_WAIT);
}

/* 5.5.3: behind a full queue only the latest ping is answered. */
static void test_pongs_are_bounded(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    bench_feed("I:1 I:2");
    assert_string_equal(bench_sent(), "O:1 O:2");
    fill();
    size_t before = hsb__buffer_len(&b.out.bytes);
    for (int i = 0; i < 1000; i++)
        bench_feed("I:*125 I:3 I:4");
    assert_int_equal(hsb__buffer_len(&b.out.bytes), before);
    bench_sent();
    assert_string_equal(bench_heard(), "");
    bench_drain();
    assert_string_equal(bench_sent(), "O:4");
    assert_string_equal(bench_heard(), "drain");
    bench_drain();
    assert_string_equal(bench_sent(), "");
    bench_feed("I:5");
    assert_string_equal(bench_sent(), "O:5");
    bench_end(NULL);
}

/* And when its own pongs fill the queue, the user hears of room only when there is some. */
static void test_pongs_fill_the_queue(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    for (int i = 0; i < 2000; i++)
        bench_feed("I:*125");
    assert_within(hsb__buffer_len(&b.out.bytes), 65536, 65536 + 127);
    bench_drain();                                  /* said too early: still too much */
    assert_string_equal(bench_heard(), "");
    bench_sent();
    bench_drain();
    assert_string_equal(bench_heard(), "drain");
    bench_end(NULL);
}

/* --- the close handshake --- */

static void test_peer_closes(void **state)
{
    (void)state;
    static const struct { const char *in, *answer, *heard; } cases[] = {
        { "C1000:bye", "C1000:", "C1000:bye" }, { "C:", "C:", "C1005:" },
        { "C4321:%C3%A4", "C4321:", "C4321:%C3%A4" },
        { "C1001: T:late I:late", "C1001:", "C1001:" },
        { "t:half C1000:", "C1000:", "C1000:" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench_start(&whole_messages);
        bench_feed(cases[i].in);
        assert_string_equal(bench_sent(), cases[i].answer);
        assert_true(b.stream->closing);
        assert_false(b.stream->cut);
        assert_string_equal(bench_heard(), "");             /* not before the stream has closed */
        assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("late")), HSB_FLOW_GONE);
        bench_feed("T:later");
        hsb__websocket_close(b.ws, 1000, hsb__text_absent());
        assert_string_equal(bench_sent(), "");
        bench_end(NULL);
        assert_string_equal(bench_heard(), cases[i].heard);
        assert_int_equal(b.closes, 1);
    }
}

/* 5.5.1: the answer does not wait for the end of a message that we are sending. */
static void test_peer_closes_within_our_message(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    hsb__websocket_send_part(b.ws, true, hsb__text_of("Hel"), false);
    bench_feed("C1000:");
    assert_int_equal(hsb__websocket_send_part(b.ws, true, hsb__text_of("lo"), true), HSB_FLOW_GONE);
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("to all")), HSB_FLOW_GONE);
    assert_string_equal(bench_sent(), "t:Hel C1000:");
    assert_true(b.stream->closing);
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1000:");
    bench_start(&whole_messages);                           /* nor is it misuse after a cut */
    hsb__websocket_send_part(b.ws, true, hsb__text_of("Hel"), false);
    hsb__stream_close(b.stream, true);
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("to all")), HSB_FLOW_GONE);
    bench_sent();
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1006:");
}

static void test_we_close(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    hsb__stream_pause(b.stream);
    hsb__websocket_close(b.ws, 1001, hsb__text_of("going away"));
    assert_false(b.stream->paused); /* or the peer's Close would not be read */
    hsb__websocket_close(b.ws, 1002, hsb__text_of("again"));
    assert_string_equal(bench_sent(), "C1001:going%20away");
    assert_false(b.stream->closing);                        /* 7.1.1: the peer's is awaited */
    assert_int_equal(hsb__websocket_send(b.ws, true, hsb__text_of("late")), HSB_FLOW_GONE);
    assert_int_equal(hsb__websocket_send_part(b.ws, true, hsb__text_of("late"), true),
                     HSB_FLOW_GONE);
    assert_int_equal(hsb__websocket_ping(b.ws, hsb__text_absent()), HSB_FLOW_GONE);
    bench_feed("T:before%20I%20knew I:a C1001:all%20right");
    assert_string_equal(bench_sent(), "O:a");               /* 5.5.2, but 5.5.1: one Close */
    assert_true(b.stream->closing);
    assert_string_equal(bench_heard(), "T:before%20I%20knew");
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1001:all%20right");
}

/* 7.4.1: 1005 and 1006 are never sent, but who relays has them from the other side. */
static void test_we_close_without_code(void **state)
{
    static const int codes[] = { 0, 1005, 1006 };
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        bench_start(&whole_messages);
        hsb__websocket_close(b.ws, codes[i], hsb__text_of("lost"));
        assert_string_equal(bench_sent(), "C:");
        bench_feed("C1000:");
        bench_end(NULL);
        assert_string_equal(bench_heard(), "C1000:");
    }
}

static void test_close_is_not_awaited_for_ever(void **state)
{
    (void)state;
    hsb_error late = { HSB_ERR_TIMEOUT, 0, 0, "timed out" };
    bench_start(&whole_messages);
    hsb__websocket_close(b.ws, 1000, hsb__text_absent());
    uint64_t now = hsb__os_now_us() / 1000;
    hsb__timers_advance(&b.loop.timers, now + 1500);
    assert_false(b.stream->closing);
    hsb__timers_advance(&b.loop.timers, now + 2500);        /* timeouts.close is 2 s */
    assert_true(b.stream->closing);
    bench_end(&late);
    assert_string_equal(bench_heard(), "C1006:no%20Close%20of%20the%20peer%20in%20time");
}

static void test_close_is_awaited_if_told_so(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    b.loop.options.timeouts.close = -1;
    hsb__websocket_close(b.ws, 1000, hsb__text_absent());
    hsb__timers_advance(&b.loop.timers, hsb__os_now_us() / 1000 + 1000000);
    assert_false(b.stream->closing);
    bench_end(NULL);
}

static void close_from_hook(bench *bench_now)
{
    hsb__websocket_close(bench_now->ws, 1000, hsb__text_of("enough"));
}

static void test_close_in_a_hook(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    b.answer = close_from_hook;
    bench_feed("T:a T:b C1000:");
    assert_string_equal(bench_sent(), "C1000:enough");
    bench_end(NULL);
    assert_string_equal(bench_heard(), "T:a T:b C1000:");
}

static void cut_from_hook(bench *bench_now)
{
    hsb__stream_close(bench_now->stream, true);
}

/* The stream is the user's, too: when he cuts it, what follows in the same part is not told. */
static void test_cut_in_a_hook(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    b.answer = cut_from_hook;
    bench_feed("T:a T:b C1000:");
    assert_string_equal(bench_sent(), "");
    bench_end(NULL);
    assert_string_equal(bench_heard(), "T:a C1006:");
}

static void test_failures(void **state)
{
    (void)state;
    static const struct { const char *in, *answer, *heard; } cases[] = {
        { "T!:Hello", "C1002:frame%20without%20a%20mask", "C1006:frame%20without%20a%20mask" },
        { "T:a Tr4:b T:c", "C1002:reserved%20bit%20set", "T:a C1006:reserved%20bit%20set" },
        { "T:%FF T:c", "C1007:text%20is%20not%20UTF-8", "C1006:text%20is%20not%20UTF-8" },
        { "C999:", "C1002:code%20not%20allowed%20in%20a%20Close",
          "C1006:code%20not%20allowed%20in%20a%20Close" },
        { "C1000:%FF", "C1007:reason%20is%20not%20UTF-8", "C1006:reason%20is%20not%20UTF-8" },
        { "C:%03", "C1002:half%20a%20code%20in%20a%20Close",
          "C1006:half%20a%20code%20in%20a%20Close" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench_start(&whole_messages);
        bench_feed(cases[i].in);
        assert_true(b.stream->closing);
        bench_feed("T:after C1000:");                       /* 7.1.7 */
        assert_string_equal(bench_sent(), cases[i].answer);
        bench_end(NULL);
        assert_string_equal(bench_heard(), cases[i].heard);
        assert_int_equal(b.closes, 1);
    }
}

/* 5.5.1: also when it goes wrong after our Close, there is only one. */
static void test_failure_after_our_close(void **state)
{
    (void)state;
    bench_start(&whole_messages);
    hsb__websocket_close(b.ws, 1000, hsb__text_absent());
    bench_feed("T!:a");
    assert_string_equal(bench_sent(), "C1000:");
    assert_true(b.stream->closing);
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1006:frame%20without%20a%20mask");
}

static void test_cut_off(void **state)
{
    (void)state;
    hsb_error reset = { HSB_ERR_CLOSED, ECONNRESET, 0, "reset by peer" };
    bench_start(&whole_messages);
    bench_feed("t:half");
    bench_end(&reset);
    assert_string_equal(bench_heard(), "C1006:reset%20by%20peer");

    bench_start(&whole_messages);                           /* the end, but no Close */
    b.stream->hooks.on_end(b.stream, b.ws);
    assert_true(b.stream->closing);
    assert_string_equal(bench_sent(), "");
    bench_end(NULL);
    assert_string_equal(bench_heard(), "C1006:ended%20without%20a%20Close");

    bench_start(&whole_messages);                           /* the end after the Close */
    bench_feed("C1000:");
    b.stream->hooks.on_end(b.stream, b.ws);
    bench_end(&reset);
    assert_string_equal(bench_heard(), "C1000:");
}

static void test_set_user(void **state)
{
    (void)state;
    hsb_websocket_hooks hooks = whole_messages;
    hooks.user = NULL;
    bench_start(&hooks);
    hsb__websocket_set_user(b.ws, &b);
    bench_feed("T:a");                                      /* on_message checks it */
    assert_string_equal(bench_heard(), "T:a");
    bench_end(NULL);
}

/* --- when memory is short --- */

static int allocations_left;

static void *short_alloc(size_t size, void *user)
{
    (void)user;
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void short_release(void *p, size_t size, void *user)
{
    (void)size;
    (void)user;
    free(p);
}

/* The nth allocation fails, for every n: opened and working, or answered, or cut; never half. */
static void test_memory_is_short(void **state)
{
    (void)state;
    static const char *const ours[] = { "chat", NULL };
    char head[512];
    hsb_websocket_hooks hooks = whole_messages;
    bool worked = false;
    hooks.subprotocols = ours;
    snprintf(head, sizeof head, "%.*sSec-WebSocket-Protocol: chat\r\n\r\n",
             (int)sizeof usual_head - 3, usual_head);
    for (int n = 0; !worked; n++) {
        assert_within(n, 0, 50);
        bench_request(head);
        b.loop.memory.user.alloc = short_alloc;
        b.loop.memory.user.release = short_release;
        allocations_left = n;
        bench_open(&hooks);
        if (b.ws) {
            bench_feed("T:*5000");
            worked = strcmp(b.heard.bytes, "T:*5000") == 0;
            assert_int_equal(worked, !hsb__stream_gone(b.stream));
        } else {
            assert_true(b.req.status == 500 || b.req.aborted);
        }
        bench_end(NULL);
        assert_int_equal(b.closes, b.ws != NULL);
    }
}

/* --- all of them --- */

enum { ROWS = sizeof rows / sizeof *rows, HANDSHAKES = sizeof handshakes / sizeof *handshakes };

int main(void)
{
    static struct CMUnitTest row_tests[ROWS], handshake_tests[HANDSHAKES];
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_utf8_every_three_bytes),
        cmocka_unit_test(test_utf8_four_bytes),
        cmocka_unit_test(test_utf8_every_character),
        cmocka_unit_test(test_utf8_at_every_split),
        cmocka_unit_test(test_utf8_start),
        cmocka_unit_test(test_unmask_every_phase),
        cmocka_unit_test(test_print_head),
        cmocka_unit_test(test_code_is_good),
        cmocka_unit_test(test_print_close),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_key_is_good),
        cmocka_unit_test(test_announcement_costs_nothing),
        cmocka_unit_test(test_one_allocation),
        cmocka_unit_test(test_bad_stays_bad),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_random_cuts),
        cmocka_unit_test(test_handshake),
        cmocka_unit_test(test_subprotocol),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_idle_holds_no_memory),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_send_parts),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_large_message_after_go),
        cmocka_unit_test(test_pongs_are_bounded),
        cmocka_unit_test(test_pongs_fill_the_queue),
        cmocka_unit_test(test_peer_closes),
        cmocka_unit_test(test_peer_closes_within_our_message),
        cmocka_unit_test(test_we_close),
        cmocka_unit_test(test_we_close_without_code),
        cmocka_unit_test(test_close_is_not_awaited_for_ever),
        cmocka_unit_test(test_close_is_awaited_if_told_so),
        cmocka_unit_test(test_close_in_a_hook),
        cmocka_unit_test(test_cut_in_a_hook),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_failure_after_our_close),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_set_user),
        cmocka_unit_test(test_memory_is_short),
    };
    for (size_t i = 0; i < ROWS; i++) {
        const struct CMUnitTest test = { rows[i].name, play_row, NULL, NULL,
                                         (void *)(uintptr_t)&rows[i] };
        row_tests[i] = test;
    }
    for (size_t i = 0; i < HANDSHAKES; i++) {
        const struct CMUnitTest test = { handshakes[i].name, play_handshake, NULL, NULL,
                                         (void *)(uintptr_t)&handshakes[i] };
        handshake_tests[i] = test;
    }
    int failed = cmocka_run_group_tests_name("frames", row_tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("handshakes", handshake_tests, NULL, NULL);
    return failed + cmocka_run_group_tests_name("the rest", others, NULL, NULL);
}
