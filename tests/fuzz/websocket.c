/* >>websocket: bytes of a hostile client.

   The first byte tells the limit, whether messages come whole or in parts, and how the rest
   is cut; then come frames.  They are read in one piece and again cut up, and both times
   the same has to come out.                                                               */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct outcome { uint64_t hash; int bad; bool closed; } outcome;

static void note(outcome *o, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        o->hash = (o->hash ^ (unsigned char)bytes[i]) * 0x100000001B3u;
}

static void note_what(outcome *o, int what)
{
    note(o, (const char *)&what, sizeof what);
}

/* A message's parts are cut differently each time, so that only their bytes count.         */
static void note_data(outcome *o, hsb__websocket_reader *r, hsb__websocket_message *m, bool whole,
                      hsb_str piece)
{
    char part[100];
    if (whole && hsb__websocket_message_add(m, r, piece) && r->last) {
        if (r->text && !hsb__utf8_is(hsb__text_make(m->bytes, m->len)))
            abort();
        note(o, m->bytes, m->len);
        note_what(o, r->text);
        m->len = 0;
    }
    if (!whole && hsb__websocket_open_piece(r, part, piece)) {
        note(o, part, piece.len);
        if (r->last)
            note_what(o, r->text);
    }
}

static void note_close(outcome *o, hsb__websocket_reader *r)
{
    int code;
    hsb_str reason;
    o->closed = hsb__websocket_parse_close(r, &code, &reason);
    if (!o->closed)
        return;
    note_what(o, code);
    note(o, reason.ptr, reason.len);
    if (!hsb__utf8_is(reason) || (code != 1005 && !hsb__websocket_code_is_good(code)))
        abort();
}

/* False: nothing more is read after this.                                                  */
static bool step(outcome *o, hsb__websocket_reader *r, hsb__websocket_message *m, bool whole,
                 hsb_str *in)
{
    hsb_str piece = hsb__text_absent();
    hsb__websocket_event event = hsb__websocket_read(r, in, whole ? SIZE_MAX : 100, &piece);
    switch (event) {
    case HSB__WEBSOCKET_MORE:
        if (in->len)
            abort();
        return false;
    case HSB__WEBSOCKET_DATA:
        note_data(o, r, m, whole, piece);
        return true;
    case HSB__WEBSOCKET_PING:
    case HSB__WEBSOCKET_PONG:
        note_what(o, (int)event);
        note(o, r->control, r->control_len);
        return true;
    case HSB__WEBSOCKET_CLOSE:
        note_close(o, r);
        return !o->closed;
    case HSB__WEBSOCKET_BAD:
        break;
    }
    return false;
}

static outcome play(const uint8_t *data, size_t size, uint64_t limit, bool whole, size_t cut)
{
    hsb__memory memory = { { NULL, NULL, NULL }, 0 };
    hsb__websocket_message message = { &memory, NULL, 0, 0 };
    hsb__websocket_reader reader;
    outcome o = { 0xCBF29CE484222325u, 0, false };
    hsb__websocket_reader_start(&reader, limit);
    for (size_t at = 0; at < size && !reader.bad && !o.closed;) {
        size_t n = cut < size - at ? cut : size - at;
        char *copy = malloc(n);                 /* its end is watched                        */
        if (!copy)
            abort();
        memcpy(copy, data + at, n);
        hsb_str in = hsb__text_make(copy, n);
        while (step(&o, &reader, &message, whole, &in))
            ;
        free(copy);
        at += n;
        if (message.len > limit || memory.used > 2 * (at + 1))
            abort();
    }
    o.bad = reader.bad;
    hsb__websocket_message_release(&message);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint64_t limit = data[0] & 0x80 ? 200 : INT64_MAX;
    bool whole = (data[0] & 0x40) != 0;
    size_t cut = 1 + (data[0] & 0x3F);
    outcome a = play(data + 1, size - 1, limit, whole, SIZE_MAX);
    outcome b = play(data + 1, size - 1, limit, whole, cut);
    if (a.bad != b.bad || a.closed != b.closed)
        abort();
    if (a.hash != b.hash && (whole || !a.bad))      /* parts before a failure may differ     */
        abort();
    return 0;
}
