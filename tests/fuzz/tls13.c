/* >>tls13 and >>record behind the AEAD: the harness has the keys, as it is a client of TLS 1.3
   of its own.

   The first byte says in which state the input begins (before the ClientHello, after it, after
   the client's Certificate, open), the second one suite and settings.  Then come records: a byte
   with the type, one that says how (protected, in the clear, with padding, altered), two with the
   length, and the content.  Whatever comes, the engine ends or goes on, what it sends decrypts,
   and an end has a text.                                                                    */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "fuzz.h"

#define C13_MUST(condition) FUZZ_MUST(condition)
#include "../unit/tls13_client.h"

static hsb_security *security;
static hsb__memory memory;
static hsb__pool blocks;
static hsb__tls_pool pool;
static c13_ticket ticket;
static bool has_ticket;

static void set_up(void)
{
    hsb_error err;
    hsb_security_desc desc = { .session_cache_bytes = 30000 };
    desc.identity.chain = hsb_pem_file("tests/data/server-p256.pem");
    desc.identity.key = hsb_pem_file("tests/data/server-p256.key");
    desc.trusted = hsb_pem_file("tests/data/ca.pem");
    security = hsb_security_new(&desc, &err);
    FUZZ_MUST(security != NULL);
    blocks.memory = pool.memory = pool.engines.memory = &memory;
    pool.blocks = &blocks;
}

/* What was decrypted goes back. */
static void answer(c13 *c)
{
    hsb_str plain = hsb__tls_plain(c->t);
    size_t room;
    char *to = plain.len ? hsb__tls_writable(c->t, &room) : NULL;
    if (to) {
        const size_t n = plain.len < room ? plain.len : room;
        memcpy(to, plain.ptr, n);
        hsb__tls_written(c->t, n);
        hsb__tls_flush(c->t);
    }
    if (plain.len)
        hsb__tls_plain_used(c->t, plain.len);
    c13_pull(c);
    c->data.len = 0;
}

static void begin(c13 *c, unsigned state, unsigned how)
{
    c13_hello h = { .suites = { 0x1301 + how % 3 }, .shares = { how >> 2 & 1 },
                    .early = how >> 3 & 1, .limit = how >> 4 & 1 ? 64 : 0,
                    .name = how >> 5 & 1 ? "localhost" : NULL };
    if (has_ticket && how >> 6 & 1 && ticket.suite == h.suites[0])
        h.ticket = &ticket;
    if (state > 0)
        c13_hello_send(c, &h);
    if (state > 1 && c->retry) {
        h.shares[0] = c->group;
        h.early = false;
        c13_hello_send(c, &h);
    }
    if (state > 1 && c->asked && !c->retry)
        c13_certificate(c, how >> 7 ? "tests/data/client-p256.pem" : NULL);
    if (state > 2 && c->seen >> 20 & 1 && !(how >> 7 && c->asked))
        c13_finish(c);
}

static void play(c13 *c, const uint8_t *data, size_t size)
{
    while (size >= 4 && hsb__tls_phase_of(c->t) != HSB__TLS_DEAD) {
        const unsigned type = data[0], how = data[1];
        size_t len = (size_t)data[2] << 8 | data[3], n;
        data += 4;
        size -= 4;
        len = len < size ? len : size;
        len = len < 16384 ? len : 16384;
        if (how & 1 && c->out.on)
            n = c13_seal(c, c->record, type, data, len, how & 2 ? how : 0);
        else
            n = c13_clear(c->record, type, data, len);
        if (how & 4)
            c->record[how % n] ^= (unsigned char)type;
        if (how & 8 && how & 1 && type == 22 && c->complete)
            c13_update(c, &c->out);
        for (size_t at = 0; at < n;) {
            const size_t piece = how & 16 && n - at > 1 ? (n - at) / 2 : n - at;
            const bool went = c13_feed(c, c->record + at, piece, 0);
            answer(c);
            if (how & 32)
                hsb__tls_sleep(c->t);
            if (!went)
                break;
            at += piece;
        }
        data += len;
        size -= len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hsb_error err;
    if (size < 2)
        return 0;
    if (!security)
        set_up();
    c13 *c = c13_new(hsb__tls_open(&pool, security, (data[0] & 4) != 0, (data[0] & 8) != 0));
    begin(c, data[0] & 3, data[1]);
    play(c, data + 2, size - 2);
    if (c->ticket_count) {
        ticket = c->tickets[0];
        has_ticket = true;
    }
    hsb__tls_shut(c->t);
    c13_pull(c);
    hsb__tls_error_of(c->t, &err);
    FUZZ_MUST(err.status < HSB_STATUS_COUNT && (err.status == HSB_OK || err.text[0]));
    FUZZ_MUST(hsb__tls_phase_of(c->t) != HSB__TLS_DEAD || err.status != HSB_OK || c->alert == 0 ||
              hsb__tls_peer_shut(c->t));
    hsb__tls_release(&pool, c->t);
    c13_free(c);
    FUZZ_MUST(memory.used < 2 << 20);
    return 0;
}
