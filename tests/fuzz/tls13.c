/* >>tls13 and >>record behind the AEAD: the harness has the keys, as it is a client of TLS 1.3
   of its own.

   The first byte says in which state the input begins (before the ClientHello, after it, after
   the client's Certificate, open), which group the client wants, whether tickets are sealed and
   whether it proves its certificate; the second one suite and settings.  Then come records: a byte
   with the type, one that says how (protected, in the clear, with padding, altered), two with the
   length, and the content.  With its highest bit the type means one of the client's own messages,
   and the content what to alter in it: two bytes of place, one to add.  Whatever comes, the engine ends or goes on, what it sends decrypts,
   and an end has a text.                                                                    */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "fuzz.h"

#define C13_MUST(condition) FUZZ_MUST(condition)
#include "../unit/tls13_client.h"

static hsb_security *securities[2];     /* the second one seals its tickets, and has RSA     */
static hsb__memory memory;
static hsb__pool blocks;
static hsb__tls_pool pool;
static c13_ticket tickets[2];           /* one of each                                       */

static bool encapsulate(const uint8_t key[1184], uint8_t ciphertext[1088], uint8_t secret[32],
                        void *user)
{
    (void)user;
    memcpy(ciphertext, key, 1088);
    memset(secret, 0, 32);              /* as the client has it                              */
    return key[0] != 1;
}

static void set_up(void)
{
    hsb_error err;
    hsb_security_desc desc = { .session_cache_bytes = 30000, .ml_kem_768 = encapsulate };
    desc.identity.chain = hsb_pem_file("tests/data/server-p256.pem");
    desc.identity.key = hsb_pem_file("tests/data/server-p256.key");
    desc.trusted = hsb_pem_file("tests/data/ca.pem");
    securities[0] = hsb_security_new(&desc, &err);
    desc.identity.chain = hsb_pem_file("tests/data/server-rsa2048.pem");
    desc.identity.key = hsb_pem_file("tests/data/server-rsa2048.key");
    desc.ticket_key = hsb_text("0123456789abcdef0123456789abcdef");
    securities[1] = hsb_security_new(&desc, &err);
    FUZZ_MUST(securities[0] && securities[1]);
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

/* what: bits 5 and 6 of the input's first byte are the group. */
static c13_hello hello_of(unsigned what, unsigned how, const c13_ticket *ticket)
{
    static const unsigned groups[4][2] = { { 29 }, { 23 }, { 0x11EC, 29 }, { 24, 23 } };
    const unsigned *group = groups[what >> 5 & 3];
    c13_hello h = { .suites = { 0x1301 + how % 3 }, .groups = { group[0], group[1] },
                    .shares = { how >> 2 & 1 ? 1 : group[0] == 24 ? 23 : group[0] },
                    .early = how >> 3 & 1, .limit = how >> 4 & 1 ? 64 : 0,
                    .name = how >> 5 & 1 ? "localhost" : NULL,
                    .alpn = how >> 5 & 1 ? "\x08http/1.1" : NULL };
    if (how >> 6 & 1 && ticket->suite == h.suites[0])
        h.ticket = ticket;
    return h;
}

/* The client's, of the kind that the server has. */
static void show(c13 *c, unsigned what)
{
    c13_certificate(c, what >> 4 & 1 ? "tests/data/client-rsa.pem" : "tests/data/client-p256.pem");
}

static void prove(c13 *c, unsigned what)
{
    if (what >> 4 & 1)
        c13_verify(c, "tests/data/client-rsa.key", 0x0804, 0x0804, NULL);
    else
        c13_verify(c, "tests/data/client-p256.key", 0x0403, 0x0403, NULL);
}

/* what: bits 0 and 1 are the state; bit 4: see securities; bit 7: it proves its certificate. */
static void begin(c13 *c, unsigned what, unsigned how, c13_hello *h)
{
    const unsigned state = what & 3;
    const bool shows = how >> 7 & 1;
    if (state > 0)
        c13_hello_send(c, h);
    if (c->retry) {
        h->shares[0] = c->group;
        h->early = false;
    }
    if (state > 1 && c->retry)
        c13_hello_send(c, h);
    if (state > 1 && c->asked && c->seen >> 20 & 1) {
        if (shows)
            show(c, what);
        else
            c13_certificate(c, NULL);
        if (shows && what >> 7)
            prove(c, what);
    }
    if (state > 2 && c->seen >> 20 & 1 && !(shows && c->asked && !(what >> 7)))
        c13_finish(c);
}

static void make_own(c13 *c, unsigned what, unsigned kind, const c13_hello *h, c13_bytes *m)
{
    unsigned char mac[64];
    m->len = 0;
    if (kind == 0) {
        c13_hello again = *h;
        again.shares[0] = c->retry ? c->group : h->shares[0];
        again.early = h->early && !c->retry;
        c13_make_hello(c, &again, m);
    } else if (c->seen >> 20 & 1) {
        const size_t len = c->messages.len;
        c->held = m;
        if (kind == 1)
            show(c, what);
        else if (kind == 2)
            prove(c, what);
        c13_finished_mac(c, &c->out, mac);
        if (kind == 3)
            c13_message(c, 20, mac, c->hash);
        c->held = NULL;
        c->messages.len = len;
    }
}

/* One of its own messages, altered. */
static void send_own(c13 *c, unsigned what, unsigned kind, const c13_hello *h,
                     const uint8_t *data, size_t len)
{
    c13_bytes *m = malloc(sizeof *m);
    make_own(c, what, kind, h, m);
    for (; len >= 3; data += 3, len -= 3) {
        const size_t at = (size_t)data[0] << 8 | data[1];
        if (at < m->len)
            m->at[at] = (unsigned char)(m->at[at] + data[2]);
        c->may_lose = true;
    }
    if (m->len && c->messages.len < 30000) {
        c13_put(&c->messages, m->at, m->len);
        c13_send(c, 22, m->at, m->len);
        if (kind == 3 && hsb__tls_phase_of(c->t) == HSB__TLS_OPEN && !c->complete) {
            c13_keys(c, &c->out, c->client_data);
            c->complete = true;
        }
    }
    free(m);
}

static void play(c13 *c, unsigned what, const c13_hello *h, const uint8_t *data, size_t size)
{
    while (size >= 4 && hsb__tls_phase_of(c->t) != HSB__TLS_DEAD) {
        const unsigned type = data[0], how = data[1];
        size_t len = (size_t)data[2] << 8 | data[3], n;
        data += 4;
        size -= 4;
        len = len < size ? len : size;
        len = len < 16384 ? len : 16384;
        if (type & 0x80) {
            send_own(c, what, type & 3, h, data, len);
            n = 0;
        } else if (how & 1 && c->out.on)
            n = c13_seal(c, c->record, type, data, len, how & 2 ? how : 0);
        else
            n = c13_clear(c->record, type, data, len);
        if (how & 4 && n)
            c->record[how % n] ^= (unsigned char)type;
        if (how & 8 && how & 1 && n && type == 22 && c->complete)
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
    if (!securities[0])
        set_up();
    c13_ticket *ticket = &tickets[data[0] >> 4 & 1];
    hsb_security *security = securities[data[0] >> 4 & 1];
    c13 *c = c13_new(hsb__tls_open(&pool, security, (data[0] & 4) != 0, (data[0] & 8) != 0));
    c13_hello hello = hello_of(data[0], data[1], ticket);
    begin(c, data[0], data[1], &hello);
    play(c, data[0], &hello, data + 2, size - 2);
    if (c->ticket_count)
        *ticket = c->tickets[0];
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
