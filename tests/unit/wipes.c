/* Secrets do not outlive their use: in an engine that waits for its next handshake, in memory
   that goes back, and on the stack.  What a function leaves on the stack is looked for by running
   it on a stack of the test's own.  (BearSSL's own frames leave copies that nobody can reach: so
   what is looked for is where we had it, or in a form that only we keep.) */
#define getentropy test_getentropy
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

int test_getentropy(void *out, size_t len)
{
    unsigned char *at = out;
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
    static unsigned char io[BR_SSL_BUFSIZE_INPUT + BR_SSL_BUFSIZE_OUTPUT];
    hsb__hello hello;
    handover h;
    help_server s;
    unsigned char secret[48];
    (void)state;
    if (!OWN_STACK)
        skip_because("with this sanitizer locals are not on the stack");
    help_server_open(&s, &desc);
    memset(&h, 0, sizeof h);
    h.e = hsb__tls12_get(&s.pool.engines);
    hsb__tls12_start(h.e, &s.blocks, s.security, false, false);
    assert_true(hsb__tls12_reset(h.e, io, BR_SSL_BUFSIZE_INPUT, io + BR_SSL_BUFSIZE_INPUT,
                                 BR_SSL_BUFSIZE_OUTPUT));
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

/* --- an engine between two handshakes ------------------------------------------------------ */

/* Nothing that a handshake filled in. */
static void assert_wiped(const hsb__tls12 *e)
{
    const br_ssl_server_context *server = &e->server;
    const br_ssl_engine_context *eng = &server->eng;
    assert_true(is_zero(&eng->in, sizeof eng->in));
    assert_true(is_zero(&eng->out, sizeof eng->out));
    assert_true(is_zero(&eng->session, sizeof eng->session));
    assert_true(is_zero(eng->pad, sizeof eng->pad));
    assert_true(is_zero(server->ecdhe_key, sizeof server->ecdhe_key));
}

/* It goes back when the handshake is complete, and the connection goes on without it. */
static void an_engine_after_its_handshake(void **state)
{
    const hsb_security_desc desc = help_usual();
    const help_client client = { 0 };
    (void)state;
    help_server s;
    help_pair p;
    help_server_open(&s, &desc);
    help_open(&p, &s, &client);
    help_run(&p);
    help_expect_open(&p);
    help_exchange(&p);
    assert_null(p.tls->tls12);
    assert_non_null(s.pool.engines.unused);
    assert_wiped(s.pool.engines.unused);
    help_close(&p);
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
    help_open(&p, &s, &client);
    help_move_client(&p);
    help_move_bytes(&p);
    help_move_records(&p);
    const hsb__tls12 *e = p.tls->tls12;
    assert_non_null(e);
    assert_false(is_zero(e->server.ecdhe_key, 32));
    help_close(&p);
    assert_ptr_equal(s.pool.engines.unused, e);
    assert_wiped(e);
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
    help_open(&p, &s, &client);
    help_move_client(&p);
    help_move_bytes(&p);
    help_move_records(&p);
    help_move_client(&p);
    p.held_len = (size_t)BIO_read(p.out, p.held, (int)sizeof p.held);
    p.held[p.held_len - 1] ^= 1;
    while (p.held_len && help_move_bytes(&p))
        ;
    assert_int_equal(hsb__tls_phase_of(p.tls), HSB__TLS_DEAD);
    const hsb__tls12 *e = p.tls->tls12;
    assert_non_null(e);
    assert_false(is_zero(e->server.eng.session.master_secret, 48));
    assert_false(is_zero(&e->server.eng.in, sizeof e->server.eng.in));
    assert_false(is_zero(&e->server.eng.out, sizeof e->server.eng.out));
    assert_false(is_zero(e->server.eng.pad, sizeof e->server.eng.pad));
    help_close(&p);
    assert_ptr_equal(s.pool.engines.unused, e);
    assert_wiped(e);
    help_server_close(&s);
}

/* The generators stay seeded while engines are kept, and are wiped when they are not. */
static void generators_that_go_back(void **state)
{
    const hsb_security_desc desc = help_usual();
    static hsb__tls12 *engines[HSB__TLS12_KEEP + 1];
    help_memory memory = { 0 };
    (void)state;
    help_server s;
    help_server_open(&s, &desc);
    s.memory.user = (hsb_allocator){ help_alloc, help_release, &memory };
    for (int i = 0; i <= HSB__TLS12_KEEP; i++)
        engines[i] = must(hsb__tls12_get(&s.pool.engines));
    unsigned char key[32];
    memcpy(key, engines[0]->server.eng.rng.K, sizeof key);
    assert_false(is_zero(key, sizeof key));
    memory.secret = key;
    memory.secret_len = sizeof key;
    for (int i = 0; i <= HSB__TLS12_KEEP; i++) {        /* the last one is one too many      */
        engines[i]->verify.pool = &s.blocks;
        hsb__tls12_put(&s.pool.engines, engines[i]);
    }
    assert_int_equal(s.pool.engines.unused_count, HSB__TLS12_KEEP);
    assert_false(memory.leaked);
    help_server_close(&s);
    assert_false(memory.leaked);
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

/* The dynamic linker looks a function up when it is called first, and leaves the registers of that
   moment on the stack: so it has to do it all before. */
static void bind_now(char **argv)
{
    if (getenv("LD_BIND_NOW"))
        return;
    setenv("LD_BIND_NOW", "1", 1);
    execv("/proc/self/exe", argv);
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
        cmocka_unit_test(an_engine_after_its_handshake),
        cmocka_unit_test(an_engine_after_our_flight),
        cmocka_unit_test(an_engine_after_a_wrong_finished),
        cmocka_unit_test(generators_that_go_back),
        cmocka_unit_test(keys_that_go_back),
        cmocka_unit_test(a_security_that_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
