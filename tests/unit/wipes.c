/* Secrets do not outlive their use: in a TLS context that waits for its next connection, in memory
   that goes back, and on the stack.  What a function leaves on the stack is looked for by running
   it on a stack of the test's own.  (BearSSL's own frames leave copies that nobody can reach: so
   what is looked for is where we had it, or in a form that only we keep.) */
#define getentropy test_getentropy
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#undef getentropy

#include "tls_help.h"
#include <ucontext.h>

int test_getentropy(void *out, size_t len);

#if defined(__SANITIZE_ADDRESS__)
enum { OWN_STACK = 0 };
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
enum { OWN_STACK = 0 };         /* locals may be somewhere else */
#  else
enum { OWN_STACK = 1 };
#  endif
#else
enum { OWN_STACK = 1 };
#endif

/* --- a stack of our own ------------------------------------------------------------------- */

enum { STACK = 1 << 19 };
static unsigned char stack[STACK] __attribute__((aligned(4096)));

static ucontext_t back;
static void *(*to_run)(void *);
static void *to_run_with;

static void run_it(void)
{
    to_run(to_run_with);
}

/* Nothing else runs there, neither before nor after. */
static void on_own_stack(void *(*fn)(void *), void *arg)
{
    ucontext_t there;
    memset(stack, 0, sizeof stack);
    to_run = fn;
    to_run_with = arg;
    assert_int_equal(getcontext(&there), 0);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = sizeof stack;
    there.uc_link = &back;
    makecontext(&there, run_it, 0);
    assert_int_equal(swapcontext(&back, &there), 0);
}

static bool on_stack(const void *p)
{
    const unsigned char *at = p;
    return at >= stack && at < stack + sizeof stack;
}

static bool stack_has(const void *bytes, size_t len)
{
    return memmem(stack, sizeof stack, bytes, len) != NULL;
}

static size_t times_on_stack(const void *bytes, size_t len)
{
    size_t n = 0;
    const unsigned char *at = stack, *end = stack + sizeof stack;
    while ((at = memmem(at, (size_t)(end - at), bytes, len)) != NULL) {
        at++;
        n++;
    }
    return n;
}

static bool is_zero(const void *p, size_t len)
{
    const unsigned char *at = p;
    for (size_t i = 0; i < len; i++)
        if (at[i])
            return false;
    return true;
}

/* That the way of looking finds what it should: a function that wipes nothing. */
static void *wipes_nothing(void *secret)
{
    volatile unsigned char copy[32];
    for (size_t i = 0; i < sizeof copy; i++)
        copy[i] = ((unsigned char *)secret)[i];
    return NULL;
}

static void what_is_left_is_found(void **state)
{
    unsigned char secret[32];
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    memset(secret, 0xE7, sizeof secret);
    on_own_stack(wipes_nothing, secret);
    assert_true(stack_has(secret, sizeof secret));
}

/* --- random bytes ------------------------------------------------------------------------- */

static void  *drawn_to;                 /* where the last random bytes went                  */
static size_t drawn_len;

static int    entropy_left = -1;        /* calls until there is none; -1: there always is    */

int test_getentropy(void *out, size_t len)
{
    unsigned char *at = out;
    if (entropy_left == 0)
        return -1;
    entropy_left -= entropy_left > 0;
    for (size_t i = 0; i < len; i++)
        at[i] = (unsigned char)(i * 31 + 7);
    drawn_to = out;
    drawn_len = len;
    return 0;
}

static void *init_engine(void *arg)
{
    assert_true(hsb__tls12_init(arg));
    return NULL;
}

static void the_seed_of_an_engine(void **state)
{
    static hsb__tls12 e;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    drawn_to = NULL;
    on_own_stack(init_engine, &e);
    assert_true(on_stack(drawn_to) && drawn_len >= 32);
    assert_true(is_zero(drawn_to, drawn_len));
    hsb__memory_wipe(&e, sizeof e);
}

static void *generate_key(void *arg)
{
    hsb__memory m = { 0 };
    hsb_error err;
    assert_true(hsb__key_generate(&m, arg, &err));
    return NULL;
}

static void the_generator_of_a_key(void **state)
{
    hsb__key k;
    hsb__memory m = { 0 };
    unsigned char seed[48], number[BR_EC_KBUF_PRIV_MAX_SIZE], generator[sizeof(void *) + 32];
    br_hmac_drbg_context random;
    br_ec_private_key key;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    test_getentropy(seed, sizeof seed);             /* the same again, to know what it was   */
    br_hmac_drbg_init(&random, &br_sha256_vtable, seed, sizeof seed);
    br_ec_keygen(&random.vtable, br_ec_get_default(), &key, number, BR_EC_secp256r1);
    memcpy(generator, &random.vtable, sizeof(void *));
    memcpy(generator + sizeof(void *), random.K, 32);
    drawn_to = NULL;
    on_own_stack(generate_key, &k);
    assert_memory_equal(k.ec.x, key.x, key.xlen);
    assert_true(on_stack(drawn_to) && drawn_len == sizeof seed);
    assert_true(is_zero(drawn_to, drawn_len));
    assert_false(stack_has(generator, sizeof generator));
    m.used = k.size;
    hsb__key_free(&m, &k);
}

/* --- passwords ---------------------------------------------------------------------------- */

/* SHA-256 that remembers the highest context and the highest 32 bytes that it was given on our
   stack: those of the function that is looked at, as BearSSL's frames are below. */
static br_hash_class spy;
static unsigned char *highest_context, *highest_data;

static void spy_init(const br_hash_class **ctx)
{
    br_sha256_init((br_sha256_context *)(void *)ctx);
    *ctx = &spy;
}

static void spy_update(const br_hash_class **ctx, const void *data, size_t len)
{
    unsigned char *context = (unsigned char *)(void *)ctx, *at = (unsigned char *)(uintptr_t)data;
    if (on_stack(context) && context > highest_context)
        highest_context = context;
    if (len == 32 && on_stack(at) && at > highest_data)
        highest_data = at;
    br_sha256_update((br_sha256_context *)(void *)ctx, data, len);
}

static void spy_out(const br_hash_class *const *ctx, void *out)
{
    br_sha256_out((const br_sha256_context *)(const void *)ctx, out);
}

typedef struct derivation {
    hsb__key_lock lock;
    unsigned char key[32];
    bool          unlocked;
} derivation;

static void *derive(void *arg)
{
    derivation *d = arg;
    hsb__key_pbkdf2("password", &d->lock, d->key);
    return NULL;
}

static derivation derivation_of(const br_hash_class *hash)
{
    derivation d;
    memset(&d, 0, sizeof d);
    d.lock.salt = hsb__text_of("salt");
    d.lock.hash = hash;
    d.lock.rounds = 3;
    d.lock.key_len = 32;
    return d;
}

static void what_derives_a_key(void **state)
{
    derivation d = derivation_of(&spy);
    br_hmac_key_context key;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    spy = br_sha256_vtable;
    spy.init = spy_init;
    spy.update = spy_update;
    spy.out = spy_out;
    highest_context = highest_data = stack;
    on_own_stack(derive, &d);
    br_hmac_key_init(&key, &br_sha256_vtable, "password", 8);
    assert_false(is_zero(d.key, sizeof d.key));
    assert_false(stack_has(d.key, sizeof d.key));               /* the sum                   */
    assert_true(highest_data > stack && highest_context > stack);
    assert_true(is_zero(highest_data, 32));                     /* the last round            */
    assert_true(is_zero(highest_context, sizeof(br_sha256_context)));
    assert_false(stack_has(key.ksi, 32));
}

static void *unlock(void *arg)
{
    derivation *d = arg;
    d->unlocked = hsb__key_unlock(&d->lock, "password");
    return NULL;
}

static void what_decrypts_a_key(void **state)
{
    derivation d = derivation_of(&br_sha256_vtable);
    unsigned char data[32];
    br_aes_ct_cbcenc_keys encrypt;
    br_aes_ct_cbcdec_keys decrypt;
    unsigned char iv[16] = { 1 }, again[16] = { 1 };
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    hsb__key_pbkdf2("password", &d.lock, d.key);
    memset(data, 16, sizeof data);                              /* its second half: padding  */
    br_aes_ct_cbcenc_init(&encrypt, d.key, 32);
    br_aes_ct_cbcenc_run(&encrypt, iv, data, sizeof data);
    memset(&decrypt, 0, sizeof decrypt);
    br_aes_ct_cbcdec_init(&decrypt, d.key, 32);
    d.lock.iv = hsb__text_make((char *)again, sizeof again);
    d.lock.data = hsb__text_make((char *)data, sizeof data);
    on_own_stack(unlock, &d);
    assert_true(d.unlocked);
    assert_int_equal(d.lock.data.len, 16);
    assert_false(stack_has(d.key, 32));
    assert_false(stack_has(&decrypt, sizeof(void *) + 32));
}

/* --- PEM ---------------------------------------------------------------------------------- */

static void *load_pem(void *arg)
{
    hsb__memory m = { 0 };
    hsb_error err;
    hsb__object *list = NULL;
    assert_true(hsb__pem_load_text(&m, *(const hsb_str *)arg, "the text given", &list, &err));
    hsb__pem_free(&m, list);
    return NULL;
}

static void the_decoder_of_pem(void **state)
{
    unsigned char secret[48];
    char text[256];
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] = (unsigned char)(i * 37 + 11);
    size_t len = br_pem_encode(text, secret, sizeof secret, "PRIVATE KEY", 0);
    hsb_str given = hsb__text_make(text, len);
    on_own_stack(load_pem, &given);
    assert_false(stack_has(secret + 8, 32));
}

/* --- sessions ----------------------------------------------------------------------------- */

typedef struct handover {
    hsb__tls12               *e;
    br_ssl_session_parameters params;
    int                       found;
} handover;

static void *save_session(void *arg)
{
    handover *h = arg;
    h->e->cache.class->save(&h->e->cache.class, &h->e->server, &h->params);
    return NULL;
}

static void *load_session(void *arg)
{
    handover *h = arg;
    h->found = h->e->cache.class->load(&h->e->cache.class, &h->e->server, &h->params);
    return NULL;
}

static void the_session_on_its_way(void **state)
{
    const hsb_security_desc desc = help_usual();
    hsb__hello hello;
    handover h;
    help_server s;
    unsigned char secret[48];
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    static unsigned char in[HSB__TLS12_INPUT], out[HSB__RECORD_OUT];
    help_server_open(&s, &desc);
    memset(&h, 0, sizeof h);
    h.e = hsb__tls12_get(&s.pool.engines);
    assert_non_null(h.e);
    hsb__tls12_start(h.e, &s.blocks, s.security, false, false);
    assert_true(hsb__tls12_reset(h.e, in, sizeof in, out, sizeof out));
    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] = (unsigned char)(i * 41 + 3);
    memset(h.params.session_id, 9, 32);
    memcpy(h.params.master_secret, secret, sizeof secret);
    h.params.cipher_suite = 0xC02B;
    on_own_stack(save_session, &h);
    assert_memory_equal(s.security->sessions.newest->secret, secret, sizeof secret);
    assert_false(stack_has(secret, 16));

    memset(&hello, 0, sizeof hello);
    hello.version = BR_TLS12;
    hello.suites = hsb__text_make("\xC0\x2B", 2);
    h.e->hello = &hello;
    memset(h.params.master_secret, 0, sizeof secret);
    on_own_stack(load_session, &h);
    assert_int_equal(h.found, 1);
    assert_memory_equal(h.params.master_secret, secret, sizeof secret);
    assert_false(stack_has(secret, 16));

    hello.suites = hsb__text_make("\xC0\x2C", 2);           /* found, and does not fit       */
    memset(h.params.master_secret, 0, sizeof secret);
    on_own_stack(load_session, &h);
    assert_int_equal(h.found, 0);
    assert_true(is_zero(h.params.master_secret, sizeof secret));
    assert_false(stack_has(secret, 16));
    h.e->hello = NULL;
    hsb__tls12_put(&s.pool.engines, h.e);
    help_server_close(&s);
}

/* --- TLS 1.3: the key schedule ------------------------------------------------------------- */

enum { HASH = 32 };
static const br_hash_class *const hash = &br_sha256_vtable;
static unsigned char start[HSB__HASH_MAX], made[HSB__HASH_MAX];   /* a secret, and what comes of it */

static void *hmac_alone(void *unused)
{
    static br_hmac_key_context key;
    static br_hmac_context hmac;
    br_hmac_key_init(&key, hash, start, HASH);
    br_hmac_init(&hmac, &key, 0);
    br_hmac_update(&hmac, "x", 1);
    br_hmac_out(&hmac, made);
    return unused;
}

/* Not more often than BearSSL's own frames have the result of an HMAC. */
static void only_bearssl_has(const void *secret)
{
    static size_t times = SIZE_MAX;
    const size_t now = times_on_stack(secret, HASH);
    if (times == SIZE_MAX) {
        on_own_stack(hmac_alone, NULL);
        times = times_on_stack(made, HASH);
        assert_true(times <= 1);
    }
    if (now > times)
        fail_msg("%zu times on the stack, of BearSSL %zu", now, times);
}

/* The states of HMAC under that key, which BearSSL keeps in its contexts only. */
static void no_hmac_of(const void *secret)
{
    br_hmac_key_context key;
    br_hmac_key_init(&key, hash, secret, HASH);
    assert_false(stack_has(key.ksi, HASH));
    assert_false(stack_has(key.kso, HASH));
}

static void *extract(void *unused)
{
    hsb__secret_extract(hash, start, HASH, "key", 3, made);
    return unused;
}

static void *expand(void *unused)
{
    hsb__secret_expand(hash, start, "key", NULL, 0, made, HASH);
    return unused;
}

static void *next_stage(void *unused)
{
    hsb__secret_next_stage(hash, start, "key", 3, made);
    return unused;
}

static void *finish(void *unused)
{
    hsb__secret_finished(hash, start, start, made);
    return unused;
}

static void the_key_schedule(void **state)
{
    unsigned char between[HSB__HASH_MAX];
    hsb__transcript nothing;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    memset(start, 0x5C, sizeof start);
    only_bearssl_has("a first call, for the reference");
    on_own_stack(extract, NULL);
    no_hmac_of(start);
    only_bearssl_has(made);
    on_own_stack(expand, NULL);
    no_hmac_of(start);
    only_bearssl_has(made);
    on_own_stack(next_stage, NULL);
    hsb__transcript_start(&nothing, hash);
    hsb__secret_derive(&nothing, start, "derived", between);
    assert_false(stack_has(between, HASH));         /* what BearSSL had of it is overwritten */
    no_hmac_of(between);
    on_own_stack(finish, NULL);
    hsb__secret_expand(hash, start, "finished", NULL, 0, between, HASH);
    assert_false(stack_has(between, HASH));
    no_hmac_of(between);
}

/* --- TLS 1.3: records ---------------------------------------------------------------------- */

static hsb__record record;
static unsigned char text[64];

static void *protect(void *unused)
{
    unsigned char header[5] = { 23, 3, 3, 0, 64 };
    hsb__keys_run(&record, &record.keys.out, true, header, text, 48, text + 48);
    return unused;
}

static void the_key_of_a_record(void **state)
{
    const hsb_security_desc desc = help_usual();
    br_aes_gen_ctr_keys aes;
    help_server s;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    help_server_open(&s, &desc);
    const hsb__crypto *c = &s.security->crypto;
    hsb__record_open(&record, &s.memory, &s.blocks, c);
    record.suite = &hsb__suites13[0];
    memset(record.keys.out.key, 0x3D, 32);
    on_own_stack(protect, NULL);
    memset(&aes, 0, sizeof aes);
    c->ctr->init(&aes.vtable, record.keys.out.key, 16);
    assert_false(stack_has(&aes.vtable, sizeof(void *)));
    assert_false(stack_has(record.keys.out.hash_key, 16));
    hsb__record_close(&record);
    help_server_close(&s);
}

/* --- TLS 1.3: the key exchange ------------------------------------------------------------- */

static hsb__tls13 shake;
static hsb__exchange exchange;
static hsb__hello greeting;
static hsb_str peer;

static void *exchange_keys(void *unused)
{
    assert_int_equal(hsb__tls13_exchange(&shake, peer, &exchange), 0);
    return unused;
}

static void *answer(void *unused)
{
    assert_int_equal(hsb__tls13_answer(&shake, &greeting, peer), 0);
    return unused;
}

static void *answer_without_random(void *unused)
{
    assert_int_equal(hsb__tls13_answer(&shake, &greeting, peer), BR_ERR_NO_RANDOM);
    return unused;
}

/* A handshake right after its ClientHello; the client's share is one like ours. */
static void shake_open(help_server *s, unsigned group)
{
    static unsigned char share[65], number[BR_EC_KBUF_PRIV_MAX_SIZE];
    const int curve = (int)group;
    unsigned char seed[32];
    br_hmac_drbg_context random;
    br_ec_private_key key;
    memset(&shake, 0, sizeof shake);
    hsb__record_open(&record, &s->memory, &s->blocks, &s->security->crypto);
    shake.record = &record;
    shake.pool = shake.verify.pool = shake.message.pool = &s->blocks;
    shake.security = s->security;
    shake.verify.security = s->security;
    shake.suite = record.suite = &hsb__suites13[0];
    shake.group = group;
    shake.scheme = 0x0403;
    shake.shown = &s->security->identities[0];
    hsb__transcript_start(&shake.transcript, hash);
    memset(seed, 0x2A, sizeof seed);
    br_hmac_drbg_init(&random, hash, seed, sizeof seed);
    br_ec_keygen(&random.vtable, br_ec_get_default(), &key, number, curve);
    br_ec_compute_pub(br_ec_get_default(), NULL, share, &key);
    peer = hsb__text_make((const char *)share, group == HSB__GROUP_P256 ? 65 : 32);
}

static void shake_close(void)
{
    hsb__verify_end(&shake.verify);
    hsb__buffer_release(&shake.message);
    hsb__record_close(&record);
}

static void the_key_exchange(void **state)
{
    const hsb_security_desc desc = help_usual();
    const unsigned groups[] = { HSB__GROUP_X25519, HSB__GROUP_P256 };
    unsigned char seed[32], number[BR_EC_KBUF_PRIV_MAX_SIZE], generator[sizeof(void *) + 32];
    br_hmac_drbg_context random;
    br_ec_private_key key;
    help_server s;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    help_server_open(&s, &desc);
    test_getentropy(seed, sizeof seed);
    br_hmac_drbg_init(&random, hash, seed, sizeof seed);
    br_ec_keygen(&random.vtable, br_ec_get_default(), &key, number, BR_EC_secp256r1);
    memcpy(generator, &random.vtable, sizeof(void *));
    memcpy(generator + sizeof(void *), random.K, 32);
    for (int i = 0; i < 2; i++) {
        shake_open(&s, groups[i]);
        drawn_to = NULL;
        on_own_stack(exchange_keys, NULL);
        assert_true(on_stack(drawn_to) && drawn_len == 32);
        assert_true(is_zero(drawn_to, drawn_len));              /* the private key           */
        assert_false(stack_has(generator, sizeof generator));
        assert_false(stack_has(key.x, key.xlen));
        assert_false(is_zero(exchange.secret, 32));
        assert_false(stack_has(exchange.secret, 32));
        entropy_left = 1;                                       /* for the key exchange only  */
        on_own_stack(answer_without_random, NULL);
        entropy_left = -1;
        assert_false(stack_has(exchange.secret, 32));
        on_own_stack(answer, NULL);
        assert_false(stack_has(exchange.secret, 32));
        shake_close();
    }
    help_server_close(&s);
}

/* --- TLS 1.3: tickets and Finished --------------------------------------------------------- */

static hsb__session ticket_of;
static unsigned char ticket[HSB__SEAL_SIZE];

static void *seal(void *security)
{
    assert_true(hsb__seal_close(security, &ticket_of, INT64_MAX, ticket));
    return NULL;
}

static void *unseal(void *security)
{
    hsb_str identity = hsb__text_make((const char *)ticket, sizeof ticket);
    int64_t until;
    hsb__seal_open(security, identity, &ticket_of, &until);
    return NULL;
}

static void a_sealed_ticket(void **state)
{
    const hsb_security_desc desc = help_usual();
    unsigned char key[HSB__HASH_MAX];
    help_server s;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    help_server_open(&s, &desc);
    s.security->seals = true;
    memset(s.security->ticket_key, 0x77, 32);
    for (size_t i = 0; i < sizeof ticket_of.secret; i++)
        ticket_of.secret[i] = (unsigned char)(i * 53 + 5);
    const hsb__session before = ticket_of;
    on_own_stack(seal, s.security);
    hsb__secret_extract(hash, s.security->ticket_key, 32, ticket, HSB__SEAL_NONCE, key);
    only_bearssl_has(key);
    memset(ticket_of.secret, 0, sizeof ticket_of.secret);
    on_own_stack(unseal, s.security);
    assert_memory_equal(ticket_of.secret, before.secret, sizeof before.secret);
    assert_false(stack_has(before.secret, sizeof before.secret));
    only_bearssl_has(key);
    help_server_close(&s);
}

static void *send_ticket(void *ok)
{
    assert_int_equal(hsb__psk_send_ticket(&shake, 0), *(bool *)ok);
    return NULL;
}

static void *resume(void *wanted)
{
    assert_int_equal(hsb__psk_resume(&shake, &greeting), *(int *)wanted);
    return NULL;
}

static void a_ticket_on_its_way(void **state)
{
    const hsb_security_desc desc = help_usual();
    static unsigned char psks[2 + 32 + 4] = { 0, 32 }, binders[1 + 32] = { 32 };
    unsigned char secret[HSB__HASH_MAX], early[HSB__HASH_MAX], key[HSB__HASH_MAX], hashed[HSB__HASH_MAX];
    hsb__transcript nothing;
    help_server s;
    bool ok = true;
    int wanted = HSB__TLS_ERR_BINDER;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    help_server_open(&s, &desc);
    shake_open(&s, HSB__GROUP_X25519);
    memset(shake.secret, 0x61, HASH);
    shake.until_us = hsb__os_now_us() + 1000000000;
    shake.until_wall = INT64_MAX;
    hsb__secret_expand(hash, shake.secret, "resumption", "", 1, secret, HASH);
    on_own_stack(send_ticket, &ok);
    const hsb__session *saved = s.security->sessions.newest;
    assert_memory_equal(saved->secret, secret, HASH);
    only_bearssl_has(secret);
    entropy_left = 2;                               /* none is left for a sealed ticket's nonce */
    s.security->seals = true;
    ok = false;
    on_own_stack(send_ticket, &ok);
    entropy_left = -1;
    s.security->seals = false;
    only_bearssl_has(secret);

    hsb__transcript_start(&shake.transcript, hash);     /* it began with the ticket          */
    memset(&greeting, 0, sizeof greeting);
    memcpy(psks + 2, saved->id, 32);
    hsb__transcript_add(&shake.transcript, "a ClientHello", 5);
    greeting.psks = hsb__text_make((const char *)psks, sizeof psks);
    greeting.binders = hsb__text_make((const char *)binders, sizeof binders);
    hsb__secret_first_stage(hash, secret, HASH, early);
    hsb__transcript_start(&nothing, hash);
    hsb__secret_derive(&nothing, early, "res binder", key);
    hsb__transcript_hash(&shake.transcript, hashed);
    hsb__secret_finished(hash, key, hashed, made);
    for (int i = 0; i < 2; i++) {                   /* a wrong binder, and the right one     */
        on_own_stack(resume, &wanted);
        assert_int_equal(shake.resumed, wanted == 0);
        assert_false(stack_has(secret, HASH));
        assert_false(stack_has(key, HASH));
        only_bearssl_has(made);
        memcpy(binders + 1, made, HASH);
        wanted = 0;
    }
    shake_close();
    help_server_close(&s);
}

static void *take_finished(void *body)
{
    assert_int_equal(hsb__tls13_take_finished(&shake, *(hsb_str *)body), BR_ERR_BAD_FINISHED);
    return NULL;
}

/* Who sends a wrong one does not find the right one with us. */
static void a_wrong_finished(void **state)
{
    const hsb_security_desc desc = help_usual();
    static const char wrong[HASH];
    hsb_str body = hsb__text_make(wrong, sizeof wrong);
    unsigned char hashed[HSB__HASH_MAX], right[HSB__HASH_MAX];
    help_server s;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    help_server_open(&s, &desc);
    shake_open(&s, HSB__GROUP_X25519);
    memset(record.keys.in.secret, 0x19, HASH);
    on_own_stack(take_finished, &body);
    hsb__transcript_hash(&shake.transcript, hashed);
    hsb__secret_finished(hash, record.keys.in.secret, hashed, right);
    only_bearssl_has(right);
    shake_close();
    help_server_close(&s);
}

/* --- what a connection leaves in memory that is used again ---------------------------------- */

/* A block of the pool, but for the pointer that the pool writes there. */
static bool is_wiped_block(const void *block, size_t size)
{
    return is_zero((const unsigned char *)block + sizeof(void *), size - sizeof(void *));
}

/* All of it that a connection can fill. */
static void is_wiped_engine(const hsb__tls12 *e)
{
    const br_ssl_engine_context *eng = &e->server.eng;
    assert_true(is_zero(&eng->in, sizeof eng->in));
    assert_true(is_zero(&eng->out, sizeof eng->out));
    assert_true(is_zero(&eng->session, sizeof eng->session));
    assert_true(is_zero(eng->pad, sizeof eng->pad));
    assert_true(is_zero(e->server.ecdhe_key, sizeof e->server.ecdhe_key));
}

/* Until our flight went out, and the client has its answer ready. */
static void open_half(help_pair *p, help_server *s, const help_client *client)
{
    help_open(p, s, client);
    help_move_client(p);
    help_move_bytes(p);
    help_move_records(p);
}

/* The record layer's keys are there now, and not after the release. */
static void released(help_pair *p)
{
    const hsb__tls *t = p->tls;
    const hsb__classes classes = t->record.classes;
    assert_true(classes.block ? !is_zero(classes.block, classes.size) : !is_zero(&t->record.keys, 64));
    help_close(p);
    assert_true(is_zero(&t->record, sizeof t->record));
    assert_true(!classes.block || is_wiped_block(classes.block, classes.size));
}

/* The engine goes back with the end of the handshake. */
static void an_engine_after_its_handshake(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    open_half(&p, &s, &client);
    const hsb__tls12 *e = p.tls->tls12;
    assert_non_null(e);
    assert_false(is_zero(e->server.eng.pad, sizeof e->server.eng.pad));
    help_run(&p);
    help_expect_open(&p);
    assert_null(p.tls->tls12);
    assert_ptr_equal(s.pool.engines.unused, e);
    is_wiped_engine(e);
    help_exchange(&p);
    released(&p);
    help_server_close(&s);
}

/* The objects of AES-CBC are twice as large as those of AES-GCM. */
static void the_keys_of_cbc(void **state)
{
    hsb_security_desc desc = help_usual();
    const help_client client = { .suites = "ECDHE-ECDSA-AES256-SHA384" };
    (void)state;
    desc.ciphers = HSB_CIPHERS_COMPATIBLE;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_run(&p);
    help_expect_open(&p);
    help_exchange(&p);
    assert_non_null(p.tls->record.classes.block);
    released(&p);
    help_server_close(&s);
}

/* The client never answers: only then the engine has not cleared its ephemeral key itself. */
static void an_engine_after_our_flight(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    open_half(&p, &s, &client);
    const hsb__tls12 *e = p.tls->tls12;
    assert_false(is_zero(e->server.ecdhe_key, 32));
    help_close(&p);
    assert_ptr_equal(s.pool.engines.unused, e);
    is_wiped_engine(e);
    help_server_close(&s);
}

/* Its Finished is wrong: the handshake ends with the master secret still in its place. */
static void an_engine_after_a_wrong_finished(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    open_half(&p, &s, &client);
    help_move_client(&p);
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    p.held[p.held_len - 1] ^= 1;
    while (p.held_len && help_move_bytes(&p))
        ;
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    const hsb__tls12 *e = p.tls->tls12;
    const br_ssl_engine_context *eng = &e->server.eng;
    assert_false(is_zero(eng->session.master_secret, 48));
    assert_false(is_zero(&eng->in, sizeof eng->in));
    assert_false(is_zero(&eng->out, sizeof eng->out));
    assert_false(is_zero(eng->pad, sizeof eng->pad));
    help_close(&p);
    assert_ptr_equal(s.pool.engines.unused, e);
    is_wiped_engine(e);
    help_server_close(&s);
}

/* Whether it ends with the first answer or before. */
static void a_handshake_of_tls_1_3(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { .max_version = TLS1_3_VERSION };
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    for (int complete = 0; complete < 2; complete++) {
        help_pair p;
        open_half(&p, &s, &client);
        const hsb__tls13 *h = p.tls->tls13;
        const size_t size = h->size;
        assert_false(is_zero(h->secret, 32));
        assert_false(is_zero(h->client_data, 32));
        if (complete) {
            help_run(&p);
            help_expect_open(&p);
            assert_ptr_equal(p.tls->tls13, h);
            hsb__tls_greet(p.tls);
            assert_null(p.tls->tls13);
            assert_true(is_wiped_block(h, sizeof *h));
        }
        released(&p);
        assert_true(size >= sizeof *h && is_wiped_block(h, sizeof *h));
    }
    help_server_close(&s);
}

/* The generators stay seeded while engines are kept, and are wiped when they are not. */
static void generators_that_go_back(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    help_memory memory = { 0 };
    (void)state;
    help_server s;
    help_pair *pairs = calloc(HSB__TLS12_KEEP + 1, sizeof *pairs);
    assert_non_null(pairs);
    help_server_open(&s, &desc);
    s.memory.user = (hsb_allocator){ help_alloc, help_release, &memory };
    for (int i = 0; i <= HSB__TLS12_KEEP; i++)
        open_half(&pairs[i], &s, &client);
    for (int i = 0; i <= HSB__TLS12_KEEP; i++) {        /* the last one is one too many      */
        unsigned char key[32];
        memcpy(key, pairs[i].tls->tls12->server.eng.rng.K, sizeof key);
        assert_false(is_zero(key, sizeof key));
        memory.secret = key;
        memory.secret_len = sizeof key;
        help_close(&pairs[i]);
        assert_false(memory.leaked);
    }
    assert_int_equal(s.pool.engines.unused_count, HSB__TLS12_KEEP);
    unsigned char last[32];
    memcpy(last, s.pool.engines.unused->server.eng.rng.K, sizeof last);
    memory.secret = last;
    help_server_close(&s);
    assert_false(memory.leaked);
    free(pairs);
}

/* --- keys --------------------------------------------------------------------------------- */

static void keys_that_go_back(void **state)
{
    static const char *const names[] = { "server-p256.key", "server-rsa2048.key", NULL };
    hsb_error err;
    (void)state;
    for (int i = 0; i < 3; i++) {
        help_memory memory = { 0 };
        hsb__memory m = help_memory_of(&memory);
        hsb__key k;
        unsigned char secret[32];
        const hsb_pem pem = help_data(names[i] ? names[i] : "");
        assert_true(names[i] ? hsb__key_load(&m, &k, &pem, NULL, &err)
                             : hsb__key_generate(&m, &k, &err));
        memcpy(secret, k.type == BR_KEYTYPE_EC ? k.ec.x : k.rsa.p, sizeof secret);
        memory.secret = secret;
        memory.secret_len = sizeof secret;
        hsb__key_free(&m, &k);
        assert_false(memory.leaked);
        assert_int_equal(m.used, 0);
    }
}

/* --- what a program makes ------------------------------------------------------------------ */

static void *make_token(void *buf)
{
    assert_non_null(hsb_token(buf));
    return NULL;
}

static void a_token(void **state)
{
    char token[HSB_TOKEN_MAX];
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    drawn_to = NULL;
    on_own_stack(make_token, token);
    assert_true(on_stack(drawn_to) && drawn_len == 16);
    assert_true(is_zero(drawn_to, drawn_len));
    assert_false(stack_has(token, 16));
}

static const char answer_text[] = "token=q7Zr0vXt5mKc2bHd9wLs";

static void format_answer(hsb_request *req, const char *format, ...)
{
    hsb__answers_text given;
    va_list args;
    va_start(args, format);
    assert_true(hsb__answers_make(&given, req, format, args));
    assert_true(hsb__text_is(given.text, answer_text));
    va_end(args);
    hsb__answers_drop(&given);
}

static void *make_answer(void *req)
{
    format_answer(req, "token=%s", answer_text + 6);
    return NULL;
}

static void the_text_of_an_answer(void **state)
{
    static hsb_request req;
    static hsb__loop loop;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    req.channel.loop = &loop;
    on_own_stack(make_answer, &req);
    assert_false(stack_has(answer_text, sizeof answer_text - 1));
}

static void keep_line(const char *line, void *kept)
{
    snprintf(kept, 256, "%s", line);
}

static void *log_key(void *security)
{
    hsb__security_log_key(security, "CLIENT_RANDOM", start, start, HASH);
    return NULL;
}

static void the_line_of_a_key_log(void **state)
{
    static char line[256];
    static hsb_security security = { .on_key_log = keep_line, .key_log_user = line };
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    on_own_stack(log_key, &security);
    assert_int_equal(strncmp(line, "CLIENT_RANDOM ", 14), 0);
    assert_false(stack_has(line + strlen(line) - 2 * HASH, 2 * HASH));
}

static void *encode_key(void *key)
{
    hsb__memory m = { 0 };
    size_t len;
    char *pem = hsb__key_encode(&m, key, &len);
    assert_non_null(pem);
    hsb__memory_free_secret(&m, pem, len + 1);
    return NULL;
}

static void a_key_on_its_way_to_a_file(void **state)
{
    hsb__memory m = { 0 };
    hsb__key key;
    hsb_error err;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    assert_true(hsb__key_generate(&m, &key, &err));
    on_own_stack(encode_key, &key);
    assert_false(stack_has(key.ec.x, key.ec.xlen));
    hsb__key_free(&m, &key);
}

/* --- the account at a CA ------------------------------------------------------------------- */

static hsb_acme acme;

static void *open_account(void *unused)
{
    assert_false(hsb__order_open_account(&acme));   /* as its URL is none */
    return unused;
}

static void *put_binding(void *unused)
{
    hsb__der_out out = { acme.work->payload, 0, sizeof acme.work->payload, false };
    assert_true(hsb__jws_put_binding(&out, &acme.work->account, "customer", "", start, HASH));
    return unused;
}

static void the_key_of_an_external_account(void **state)
{
    char external[64];
    hsb_error err;
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    for (size_t i = 0; i < HASH; i++)
        start[i] = (unsigned char)(i * 47 + 9);
    hsb__base64_print(external, start, HASH, true);
    acme.work = hsb__memory_zeroed(&acme.memory, sizeof *acme.work);
    assert_non_null(acme.work);
    assert_true(hsb__key_generate(&acme.memory, &acme.work->account, &err));
    acme.work->needs_binding = true;
    acme.work->nonce[0] = 'n';
    acme.desc.external_id = "customer";
    acme.desc.external_key = external;
    on_own_stack(open_account, NULL);
    assert_non_null(strstr((char *)acme.work->payload, "externalAccountBinding"));
    assert_false(stack_has(start, HASH));
    on_own_stack(put_binding, NULL);
    no_hmac_of(start);
    hsb__order_end_work(&acme);
    assert_int_equal(acme.memory.used, 0);
}

static void *start_tls(void *h)
{
    assert_true(hsb__https_start_tls(h));
    return NULL;
}

static void the_engine_of_a_question(void **state)
{
    static const hsb__https_roots nobody;
    const hsb_str none = { NULL, 0 };
    hsb__memory memory = { 0 };
    hsb__https_answer answer;
    hsb__https *h = calloc(1, sizeof *h);
    (void)state;
    assert_non_null(h);
    h->memory = &memory;
    h->roots = &nobody;
    if (OWN_STACK) {
        drawn_to = NULL;
        on_own_stack(start_tls, h);
        assert_true(on_stack(drawn_to) && drawn_len >= 32);
        assert_true(is_zero(drawn_to, drawn_len));
    } else {
        start_tls(h);
    }
    assert_false(is_zero(&h->tls, sizeof h->tls));
    assert_false(hsb__https_ask(h, "GET", "https://no-such-name.invalid/", none, &answer));
    assert_true(is_zero(&h->tls, sizeof h->tls));
    free(h);
}

/* The dynamic linker looks a function up when it is called first, and leaves the registers of that
   moment on the stack: so it has to do it all before. */
static void bind_now(char **argv)
{
    if (getenv("LD_BIND_NOW"))
        return;
    setenv("LD_BIND_NOW", "1", 1);
    execv("/proc/self/exe", argv);
}

/* A security that nobody uses any more: the key of its tickets. */
static void a_security_that_goes_back(void **state)
{
    unsigned char key[32];
    help_memory memory = { 0 };
    hsb_security_desc desc = help_usual();
    (void)state;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (unsigned char)(i * 43 + 5);
    desc.ticket_key = hsb__text_make((const char *)key, sizeof key);
    desc.allocator = (hsb_allocator){ help_alloc, help_release, &memory };
    hsb_security *security = help_security(&desc);
    assert_non_null(memmem(security, sizeof *security, key, sizeof key));
    memory.secret = key;
    memory.secret_len = sizeof key;
    hsb__security_release(security);
    assert_false(memory.leaked);
}

int main(int argc, char **argv)
{
    (void)argc;
    bind_now(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_is_found),
        cmocka_unit_test(the_seed_of_an_engine),
        cmocka_unit_test(the_generator_of_a_key),
        cmocka_unit_test(what_derives_a_key),
        cmocka_unit_test(what_decrypts_a_key),
        cmocka_unit_test(the_decoder_of_pem),
        cmocka_unit_test(the_session_on_its_way),
        cmocka_unit_test(the_key_schedule),
        cmocka_unit_test(the_key_of_a_record),
        cmocka_unit_test(the_key_exchange),
        cmocka_unit_test(a_sealed_ticket),
        cmocka_unit_test(a_ticket_on_its_way),
        cmocka_unit_test(a_wrong_finished),
        cmocka_unit_test(an_engine_after_its_handshake),
        cmocka_unit_test(the_keys_of_cbc),
        cmocka_unit_test(an_engine_after_our_flight),
        cmocka_unit_test(an_engine_after_a_wrong_finished),
        cmocka_unit_test(a_handshake_of_tls_1_3),
        cmocka_unit_test(generators_that_go_back),
        cmocka_unit_test(keys_that_go_back),
        cmocka_unit_test(a_security_that_goes_back),
        cmocka_unit_test(a_token),
        cmocka_unit_test(the_text_of_an_answer),
        cmocka_unit_test(the_line_of_a_key_log),
        cmocka_unit_test(a_key_on_its_way_to_a_file),
        cmocka_unit_test(the_key_of_an_external_account),
        cmocka_unit_test(the_engine_of_a_question),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
