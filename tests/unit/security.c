/* >>security: names and identities, the session cache, and all that new may be given. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* --- host names ------------------------------------------------------------------- */

static const char *normal(const char *name, size_t len)
{
    static char out[HSB__HOST_SIZE];
    const bool good = hsb__host_normalise(out, hsb__text_make(name, len));
    assert_int_equal(good, out[0] != '\0');
    return out;
}

static void names(void **state)
{
    static const char *const good[][2] = {
        { "localhost", "localhost" }, { "LocalHost", "localhost" },
        { "a.b-c.D_1", "a.b-c.d_1" }, { "example.org.", "example.org" },
        { "1.example", "1.example" }, { "1.2.3.4a", "1.2.3.4a" },
        { "xn--bcher-kva.example", "xn--bcher-kva.example" },
    };
    static const char *const bad[] = {
        "", ".", "..", "a..b", ".a", "a..", "127.0.0.1", "1", "a.1", "::1", "[::1]", "a b",
        "a/b", "a\tb", "*.example.org", "a*", "\xC3\xA4.example", "a:443",
    };
    char longest[300];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_string_equal(normal(good[i][0], strlen(good[i][0])), good[i][1]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_string_equal(normal(bad[i], strlen(bad[i])), "");
    assert_string_equal(normal("a\0b", 3), "");
    assert_string_equal(normal("a\0", 2), "");
    memset(longest, 'a', sizeof longest);
    for (size_t i = 63; i < sizeof longest; i += 64)
        longest[i] = '.';
    assert_int_equal(strlen(normal(longest, 255)), 255);
    assert_int_equal(strlen(normal(longest, 256)), 255);        /* a dot at the end */
    assert_string_equal(normal(longest, 257), "");
    longest[63] = 'a';
    assert_string_equal(normal(longest, 100), "");              /* a label of 64 */
}

static void patterns(void **state)
{
    char out[HSB__HOST_SIZE], longest[300];
    (void)state;
    assert_true(hsb__host_normalise_pattern(out, hsb__text_of("*.Example.org")));
    assert_string_equal(out, "*.example.org");
    assert_true(hsb__host_normalise_pattern(out, hsb__text_of("www.Example.org")));
    assert_string_equal(out, "www.example.org");
    static const char *const bad[] = { "*", "*.", "*.*.org", "w*.example.org", "*example.org",
                                       "*..org", "" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(hsb__host_normalise_pattern(out, hsb__text_of(bad[i])));
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "*.", 2);
    for (size_t i = 62; i < sizeof longest; i += 61)
        longest[i] = '.';
    assert_true(hsb__host_normalise_pattern(out, hsb__text_make(longest, 255)));
    assert_false(hsb__host_normalise_pattern(out, hsb__text_make(longest, 257)));
}

/* --- who answers ------------------------------------------------------------------ */

static const hsb__identity *first_of(const hsb_security *s, const char *name, bool rsa)
{
    const hsb__host *hosts[3];
    int count = hsb__security_hosts(s, name, hosts);
    for (int i = 0; i < count; i++)
        if (rsa ? hosts[i]->rsa : hosts[i]->ec)
            return rsa ? hosts[i]->rsa : hosts[i]->ec;
    return NULL;
}

static void who_answers(void **state)
{
    hsb_identity more[] = {
        help_identity(DATA "server-www.pem", DATA "server-www.key"),
        help_identity(DATA "server-wildcard.pem", DATA "server-wildcard.key"),
        help_identity(DATA "server-www-rsa.pem", DATA "server-www-rsa.key"),
        help_identity(DATA "server-renewed.pem", DATA "server-renewed.key"),
        help_identity(DATA "server-p384.pem", DATA "server-p384.key"),
        help_identity(DATA "server-no-names.pem", DATA "server-no-names.key"),
        help_identity(DATA "server-rsa2048.pem", DATA "server-rsa2048.key"),
    };
    hsb_security_desc desc = help_usual();
    (void)state;
    more[4].server_name = "*.Given.Test.";          /* instead of what its certificate says */
    desc.identities = more;
    desc.identity_count = 7;
    hsb_security *s = help_security(&desc);
    const hsb__identity *id = s->identities;
    assert_ptr_equal(first_of(s, "", false), &id[0]);
    assert_ptr_equal(first_of(s, "", true), &id[7]);  /* shares "localhost" */
    assert_ptr_equal(first_of(s, "localhost", false), &id[0]);          /* not the fourth */
    assert_ptr_equal(first_of(s, "localhost", true), &id[7]);
    assert_ptr_equal(first_of(s, "www.example.org", false), &id[1]);
    assert_ptr_equal(first_of(s, "www.example.org", true), &id[3]);
    assert_ptr_equal(first_of(s, "ftp.example.org", false), &id[2]);
    assert_ptr_equal(first_of(s, "ftp.example.org", true), &id[7]);  /* better than nobody */
    assert_ptr_equal(first_of(s, "a.b.example.org", false), &id[0]);
    assert_ptr_equal(first_of(s, "example.org", false), &id[0]);
    assert_ptr_equal(first_of(s, "org", false), &id[0]);
    assert_ptr_equal(first_of(s, "x.given.test", false), &id[5]);
    assert_ptr_equal(first_of(s, "given.test", false), &id[0]);
    hsb__security_release(s);

    memset(&desc.identity, 0, sizeof desc.identity);  /* no default: the first */
    s = help_security(&desc);
    assert_int_equal(s->identity_count, 7);
    assert_ptr_equal(first_of(s, "", false), &s->identities[0]);
    assert_ptr_equal(first_of(s, "", true), &s->identities[2]);
    hsb__security_release(s);

    desc = help_desc(DATA "server-rsa2048.pem", DATA "server-rsa2048.key");
    desc.identities = more + 4;  /* of those, the second has no name at all */
    desc.identity_count = 2;
    s = help_security(&desc);
    assert_ptr_equal(first_of(s, "", true), &s->identities[0]);
    assert_ptr_equal(first_of(s, "localhost", false), &s->identities[2]);
    assert_ptr_equal(first_of(s, "x.given.test", false), &s->identities[1]);
    hsb__security_release(s);
}

static void a_thousand_names(void **state)
{
    enum { COUNT = 1000 };
    static char given[COUNT][32];
    hsb_identity *more = calloc(COUNT, sizeof *more);
    hsb_security_desc desc = help_usual();
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        more[i] = help_identity(DATA "server-www.pem", DATA "server-www.key");
        snprintf(given[i], sizeof given[i], i % 2 ? "h%d.example" : "*.w%d.example",
                 i * 7919 % COUNT);
        more[i].server_name = given[i];
    }
    desc.identities = more;
    desc.identity_count = COUNT;
    hsb_security *s = help_security(&desc);
    assert_int_equal(s->host_count, COUNT + 1);
    for (size_t i = 1; i < s->host_count; i++)
        assert_true(strcmp(s->hosts[i - 1].name, s->hosts[i].name) < 0);
    for (int i = 0; i < COUNT; i++) {
        char asked[40];
        snprintf(asked, sizeof asked, "%s%s", i % 2 ? "" : "any", given[i] + (i % 2 ? 0 : 1));
        assert_ptr_equal(first_of(s, asked, false), &s->identities[i + 1]);
    }
    hsb__security_release(s);
    free(more);
}

/* --- what new may be given -------------------------------------------------------- */

static void shown(void **state)
{
    const hsb_security_desc desc = help_usual();
    (void)state;
    hsb_security *s = help_security(&desc);
    hsb_str pem = hsb__text_make(s->pem, s->pem_len);
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    BIO *file = BIO_new_file(DATA "server-p256.pem", "r");
    X509 *out = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    X509 *in = PEM_read_bio_X509(file, NULL, NULL, NULL);
    unsigned char digest[32];
    unsigned len;
    assert_non_null(out);
    assert_int_equal(X509_cmp(in, out), 0);
    assert_int_equal(X509_digest(in, EVP_sha256(), digest, &len), 1);
    assert_memory_equal(s->sha256, digest, 32);
    X509_free(in);
    X509_free(out);
    BIO_free(bio);
    BIO_free(file);
    hsb__security_retain(s);
    hsb__security_release(s);
    hsb__security_release(s);
    hsb__security_release(NULL);
}

static void refuse(const hsb_security_desc *desc, hsb_status status, const char *text)
{
    hsb_error err = { HSB_OK, 0, 0, "" };
    assert_null(hsb__security_new(desc, &err));
    assert_string_equal(err.text, text);
    assert_int_equal(err.status, status);
    assert_null(hsb__security_new(desc, NULL));
}

static void refused(void **state)
{
    static char long_name[257];
    const char *const empty_alpn[] = { "h2", "", NULL }, *const no_alpn[] = { NULL },
               *const long_alpn[] = { long_name, NULL };
    const char *many[260];
    hsb_identity more = help_identity(DATA "server-www.pem", DATA "server-www.key");
    hsb_security_desc desc;
    (void)state;
    memset(&desc, 0, sizeof desc);
    refuse(&desc, HSB_ERR_CERT, "no certificate: set identity or self_signed_for");
    desc = help_usual();
    desc.self_signed_for = "localhost";
    refuse(&desc, HSB_ERR_CERT, "both identity and self_signed_for are set");
    desc = help_usual();
    desc.alpn = empty_alpn;
    refuse(&desc, HSB_ERR_LIMIT, "alpn: at most 255 names of 1 to 255 bytes");
    memset(long_name, 'x', 256);
    desc.alpn = long_alpn;
    refuse(&desc, HSB_ERR_LIMIT, "alpn: at most 255 names of 1 to 255 bytes");
    for (int i = 0; i < 256; i++)
        many[i] = "x";
    many[256] = NULL;
    desc.alpn = many;
    refuse(&desc, HSB_ERR_LIMIT, "alpn: at most 255 names of 1 to 255 bytes");
    many[255] = NULL;
    hsb_security *s = help_security(&desc);
    assert_int_equal(s->alpn_count, 255);
    hsb__security_release(s);
    long_name[255] = '\0';
    desc.alpn = long_alpn;
    s = help_security(&desc);
    assert_string_equal(s->alpn[0], long_name);
    hsb__security_release(s);
    desc.alpn = no_alpn;
    s = help_security(&desc);
    assert_int_equal(s->alpn_count, 0);
    hsb__security_release(s);
    desc = help_usual();
    desc.identities = &more;
    desc.identity_count = 1;
    more.server_name = "127.0.0.1";
    refuse(&desc, HSB_ERR_CERT, "server_name 127.0.0.1: not a host name");
    more.server_name = NULL;
    more.key.path = DATA "server-p256.key";
    hsb_error err;
    assert_null(hsb__security_new(&desc, &err));
    assert_int_equal(err.status, HSB_ERR_KEY);
    desc = help_usual();
    desc.trusted.path = DATA "authorities.pem";  /* more names than CertificateRequest holds */
    assert_null(hsb__security_new(&desc, &err));
    assert_int_equal(err.status, HSB_ERR_LIMIT);
    desc.client_authorities.path = DATA "ca.pem";   /* which then need not hold them */
    s = help_security(&desc);
    assert_int_equal(s->trusted.count, 128);
    assert_int_equal(s->authorities.count, 1);
    assert_true(hsb__security_suits(s, true, true, NULL));
    hsb__security_release(s);
}

typedef struct meter { int calls, fail_at; long bytes; } meter;

static void *meter_alloc(size_t size, void *user)
{
    meter *m = user;
    if (++m->calls == m->fail_at)
        return NULL;
    m->bytes += (long)size;
    return malloc(size);
}

static void meter_release(void *ptr, size_t size, void *user)
{
    ((meter *)user)->bytes -= (long)size;
    free(ptr);
}

static void every_allocation_fails_once(void **state)
{
    const hsb_identity more = help_identity(DATA "server-several.pem",
                                            DATA "server-several.key");
    (void)state;
    for (int self_signed = 0; self_signed < 2; self_signed++) {
        hsb_security *s = NULL;
        for (int n = 1; !s; n++) {
            meter m = { 0, n, 0 };
            hsb_error err;
            hsb_security_desc desc = help_usual();
            if (self_signed) {
                memset(&desc.identity, 0, sizeof desc.identity);
                desc.self_signed_for = "localhost";
            }
            desc.identities = &more;
            desc.identity_count = 1;
            desc.trusted.path = DATA "ca.pem";
            desc.allocator = (hsb_allocator){ meter_alloc, meter_release, &m };
            s = hsb__security_new(&desc, &err);
            if (s)
                hsb__security_release(s);
            else
                assert_int_equal(err.status, HSB_ERR_MEMORY);
            assert_int_equal(m.bytes, 0);
            assert_true(n < 200);
        }
    }
}

/* --- sessions --------------------------------------------------------------------- */

typedef struct cache { hsb__memory memory; hsb__pool pool; hsb__sessions all; } cache;

static void cache_open(cache *c, size_t limit)
{
    memset(c, 0, sizeof *c);
    c->pool.memory = &c->memory;
    assert_true(hsb__sessions_open(&c->all, &c->memory, limit, 3600));
}

static void cache_close(cache *c)
{
    hsb__sessions_close(&c->all);
    hsb__pool_close(&c->pool);
    assert_int_equal(c->memory.used, 0);
}

/* A session that is made of its number; as if the ID were random. */
static hsb__session session(uint32_t n)
{
    hsb__session s;
    memset(&s, 0, sizeof s);
    br_sha256_context hash;
    br_sha256_init(&hash);
    br_sha256_update(&hash, &n, sizeof n);
    br_sha256_out(&hash, s.id);
    memcpy(s.secret, s.id, 32);
    memset(s.binding, 'b', 32);
    s.until_us = UINT64_MAX;
    s.until_wall = INT64_MAX;
    s.suite = (uint16_t)n;
    return s;
}

static void save(cache *c, uint32_t n, const char *leaf)
{
    hsb__session s = session(n);
    s.leaf_len = (uint32_t)strlen(leaf);
    hsb__sessions_save(&c->all, &s, leaf);
}

/* Its leaf, or NULL: not found. */
static const char *load(cache *c, uint32_t n)
{
    static char text[20000];
    const hsb__session wanted = session(n);
    hsb__session out;
    hsb__leaf leaf = { NULL, 0, 0 };
    if (!hsb__sessions_load(&c->all, wanted.id, wanted.binding, &out, &c->pool, &leaf))
        return NULL;
    assert_memory_equal(out.secret, wanted.secret, 48);
    assert_int_equal(out.suite, wanted.suite);
    assert_int_equal(leaf.len, out.leaf_len);
    snprintf(text, sizeof text, "%.*s", (int)leaf.len, leaf.der ? (char *)leaf.der : "");
    hsb__leaf_drop(&c->pool, &leaf);
    assert_null(leaf.der);
    return text;
}

static void cache_keeps(void **state)
{
    cache c;
    (void)state;
    cache_open(&c, 1 << 16);
    assert_null(load(&c, 1));
    save(&c, 1, "");
    save(&c, 2, "certificate of two");
    assert_string_equal(load(&c, 1), "");
    assert_string_equal(load(&c, 2), "certificate of two");
    assert_null(load(&c, 3));
    save(&c, 1, "somebody else");                   /* an ID that is taken stays whose it is */
    assert_string_equal(load(&c, 1), "");
    hsb__session wanted = session(2), out;
    hsb__leaf leaf = { NULL, 0, 0 };
    wanted.binding[31] ^= 1;
    assert_false(hsb__sessions_load(&c.all, wanted.id, wanted.binding, &out, &c.pool, &leaf));
    assert_null(leaf.der);
    assert_string_equal(load(&c, 2), "certificate of two");
    cache_close(&c);
}

static void cache_forgets_in_time(void **state)
{
    cache c;
    (void)state;
    cache_open(&c, 1 << 16);
    for (uint32_t n = 0; n < 4; n++) {
        hsb__session s = session(n);
        s.until_us = n & 1 ? hsb__os_now_us() : hsb__os_now_us() + 1000000;
        s.until_wall = n & 2 ? hsb__os_wall() - 1 : hsb__os_wall() + 5;
        hsb__sessions_save(&c.all, &s, NULL);
    }
    assert_non_null(load(&c, 0));
    assert_null(load(&c, 1));
    assert_null(load(&c, 2));
    assert_null(load(&c, 3));
    assert_ptr_equal(c.all.newest, c.all.oldest);   /* and gone with it */
    cache_close(&c);
}

static void cache_is_bounded(void **state)
{
    static char large[17000];
    cache c;
    (void)state;
    memset(large, 'x', sizeof large - 1);
    cache_open(&c, 20000);
    for (uint32_t n = 0; n < 1000; n++) {
        save(&c, n, n % 3 ? "" : "with a certificate of another size");
        if (n >= 50) {
            assert_non_null(load(&c, 7));           /* used all the time: never the oldest */
            assert_non_null(load(&c, n - 1));
        } else {
            load(&c, 7);
        }
        assert_true(c.all.used <= 20000);
        assert_true(c.memory.used - c.pool.kept <= 20000);
    }
    assert_null(load(&c, 8));
    save(&c, 2000, large);                          /* takes nearly all */
    assert_string_equal(load(&c, 2000), large);
    assert_null(load(&c, 980));
    assert_non_null(load(&c, 999));
    assert_true(c.all.used <= 20000);
    for (uint32_t n = 3000; n < 3010; n++)
        save(&c, n, "");
    assert_non_null(load(&c, 3009));
    cache_close(&c);

    const size_t limits[] = { 0, 1, 100, 200, 400, 1000 };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        cache_open(&c, limits[i]);
        for (uint32_t n = 0; n < 20; n++) {
            save(&c, n, n % 2 ? large : "");
            assert_true(c.memory.used - c.pool.kept <= limits[i]);
            if (limits[i] == 1000)
                assert_int_equal(load(&c, n) != NULL, n % 2 == 0);
        }
        cache_close(&c);
    }
}

/* 20 MB of sessions; the chains stay short. */
static void cache_does_not_slow_down(void **state)
{
    cache c;
    size_t longest = 0, count = 0;
    (void)state;
    cache_open(&c, 20 << 20);
    for (uint32_t n = 0; n < 150000; n++) {
        hsb__session s = { .until_us = UINT64_MAX, .until_wall = INT64_MAX };
        uint64_t mixed = (n + 1) * 0x9E3779B97F4A7C15u;
        memcpy(s.id, &mixed, 8);
        memmove(s.id, s.id + 4, 4);
        hsb__sessions_save(&c.all, &s, NULL);
    }
    for (size_t b = 0; b < c.all.bucket_count; b++) {
        size_t length = 0;
        for (const hsb__session *s = c.all.buckets[b]; s; s = s->next)
            length++;
        count += length;
        longest = length > longest ? length : longest;
    }
    assert_true(count > (20u << 20) * 9 / 10 / (sizeof(hsb__session) + 8));
    assert_true(count < 3 * c.all.bucket_count);
    assert_true(longest < 20);
    assert_true(c.all.used <= 20 << 20);
    cache_close(&c);
}

static void *use_cache(void *arg)
{
    cache *shared = arg, own;
    memset(&own, 0, sizeof own);
    own.pool.memory = &own.memory;
    for (uint32_t n = 0; n < 20000; n++) {
        const hsb__session wanted = session(n % 97);
        hsb__session s = wanted, out;
        hsb__leaf leaf = { NULL, 0, 0 };
        s.leaf_len = n % 5 * 10;
        hsb__sessions_save(&shared->all, &s, "0123456789012345678901234567890123456789");
        if (hsb__sessions_load(&shared->all, wanted.id, wanted.binding, &out, &own.pool,
                               &leaf)) {
            if (memcmp(out.secret, wanted.secret, 48) != 0 ||
                (leaf.len && memcmp(leaf.der, "0123456789", 10) != 0))
                abort();
            hsb__leaf_drop(&own.pool, &leaf);
        }
    }
    hsb__pool_close(&own.pool);
    return NULL;
}

static void cache_among_threads(void **state)
{
    pthread_t thread[4];
    cache c;
    (void)state;
    cache_open(&c, 10000);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, use_cache, &c), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    cache_close(&c);
}

/* --- primitives ------------------------------------------------------------------- */

static void primitives(void **state)
{
    hsb__crypto c;
    (void)state;
    memset(&c, 0, sizeof c);
    hsb__crypto_detect(&c);
    assert_non_null(c.ec);
    assert_true(c.ecdsa_sign && c.ecdsa_verify && c.rsa_sign && c.rsa_verify);
    assert_true(c.cbc_encrypt && c.cbc_decrypt && c.ctr && c.ghash);
    assert_true(c.chacha20 && c.poly1305);
    assert_true(c.ec->supported_curves >> BR_EC_curve25519 & 1);
    assert_int_equal(c.aes_is_fast, (br_aes_x86ni_ctr_get_vtable() && br_ghash_pclmul_get()) ||
                                    (br_aes_pwr8_ctr_get_vtable() && br_ghash_pwr8_get()));
    memset(&c, 0, sizeof c);
    assert_true(hsb__crypto_aes_is_fast(&c));           /* what we do not know is no portable code */
    for (int i = 0; i < 5; i++) {
        memset(&c, 0, sizeof c);
        c.ctr = i == 0 ? &br_aes_ct64_ctr_vtable : i == 1 ? &br_aes_ct_ctr_vtable : NULL;
        c.ghash = i == 2 ? br_ghash_ctmul64 : i == 3 ? br_ghash_ctmul : i == 4 ? br_ghash_ctmul32 : NULL;
        assert_false(hsb__crypto_aes_is_fast(&c));
    }
}

/* RFC 5246 F.1.4: a day at most, whatever is asked for. */
static void cache_lifetime(void **state)
{
    static const struct { int asked, got; } times[] = {
        { 0, 3600 }, { 1, 1 }, { 86400, 86400 }, { 86401, 86400 }, { INT_MAX, 86400 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        hsb_security_desc desc = { .self_signed_for = "localhost", .session_seconds = times[i].asked };
        hsb_error err;
        hsb_security *security = hsb_security_new(&desc, &err);
        assert_non_null(security);
        assert_int_equal(security->sessions.lifetime_us, (uint64_t)times[i].got * 1000000);
        hsb_security_free(security);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(patterns),
        cmocka_unit_test(who_answers),
        cmocka_unit_test(a_thousand_names),
        cmocka_unit_test(shown),
        cmocka_unit_test(refused),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(cache_keeps),
        cmocka_unit_test(cache_forgets_in_time),
        cmocka_unit_test(cache_lifetime),
        cmocka_unit_test(cache_is_bounded),
        cmocka_unit_test(cache_does_not_slow_down),
        cmocka_unit_test(cache_among_threads),
        cmocka_unit_test(primitives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
