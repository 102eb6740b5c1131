/* >>websocket: frames from the client, RFC 6455, clause by clause.  Each case is played whole,
   byte by byte and in every two parts, once for on_message and once for on_fragment. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "websocket_player.h"

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

/* --- more of the machine --- */

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

enum { ROWS = sizeof rows / sizeof *rows };

int main(void)
{
    static struct CMUnitTest row_tests[ROWS];
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(test_unmask_every_phase),
        cmocka_unit_test(test_announcement_costs_nothing),
        cmocka_unit_test(test_one_allocation),
        cmocka_unit_test(test_bad_stays_bad),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_random_cuts),
    };
    for (size_t i = 0; i < ROWS; i++) {
        const struct CMUnitTest test = { rows[i].name, play_row, NULL, NULL,
                                         (void *)(uintptr_t)&rows[i] };
        row_tests[i] = test;
    }
    int failed = cmocka_run_group_tests_name("frames", row_tests, NULL, NULL);
    return failed + cmocka_run_group_tests_name("the rest", others, NULL, NULL);
}
