/* The reader of frames, which is a machine without a connection, played: it gets bytes, each
   time from a copy that ends at a guard page, and what comes out is written in the notation. */
#ifndef TESTS_UNIT_WEBSOCKET_PLAYER_H
#define TESTS_UNIT_WEBSOCKET_PLAYER_H

#include "websocket_notation.h"

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

static inline void player_start(player *p, bool in_parts, uint64_t limit)
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

static inline void player_fails(player *p)
{
    assert_non_null(p->reader.why);
    say_failure(&p->said, p->reader.bad);
    p->over = true;
}

static inline void player_data(player *p, hsb_str piece)
{
    hsb__websocket_reader *r = &p->reader;
    char part[50];
    bool ok = p->in_parts ? hsb__websocket_open_piece(r, part, piece)
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

static inline void player_close(player *p)
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

static inline void player_feed(player *p, const char *bytes, size_t len)
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

static inline void player_end(player *p)
{
    hsb__websocket_message_release(&p->message);
    assert_int_equal(p->memory.used, 0);
}

#endif
