/* Certificates and keys of every kind are loaded while the Nth allocation fails, for every
   N, and while files cannot be opened or read and the system has no randomness: each time
   either the security or a reason comes, nothing leaks, and no key is ever weak.          */
#include "fault/faults.h"
#include "client.h"

typedef struct kind {
    const char *chain, *key, *password, *self_signed_for;
    const char *more, *trusted, *authorities;
} kind;

static const kind kinds[] = {
    { .chain = "server-p256.pem", .key = "server-p256.key" },
    { .chain = "server-p384.pem", .key = "server-p384.sec1.key" },
    { .chain = "server-p521.pem", .key = "server-p521.key" },
    { .chain = "server-rsa2048.pem", .key = "server-rsa2048.pkcs1.key" },
    { .chain = "server-intermediate.pem", .key = "server-intermediate.key" },
    { .chain = "server-p256.pem", .key = "server-p256.sha256-aes256.key", .password = "secret" },
    { .chain = "server-p256.pem", .key = "server-p256.sha512-aes128.key", .password = "wrong" },
    { .chain = "server-p256.crlf.pem", .key = "server-p256.no-newline.key" },
    { .chain = "server-p256.pem", .key = "server-p256.key", .more = "server-www",
      .trusted = "trusted.pem", .authorities = "ca-rsa.pem" },
    { .chain = "server-several.pem", .key = "server-several.key", .more = "server-www-rsa" },
    { .chain = "server-p256.pem", .key = "server-renewed.key" },
    { .chain = "broken-cut.key", .key = "server-p256.key" },
    { .chain = "server-p256.pem", .key = "broken-base64.key" },
    { .chain = "server-p256.pem", .key = "server-p256.key", .authorities = "authorities.pem" },
    { .self_signed_for = "localhost" },
    { .self_signed_for = "192.0.2.1" }
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static hsb_pem data_file(char path[100], const char *name, const char *ending)
{
    snprintf(path, 100, "tests/data/%s%s", name ? name : "", ending);
    return name ? hsb_pem_file(path) : hsb_pem_file(NULL);
}

static hsb_security *load(const kind *k, heap *h, hsb_error *err)
{
    static const char *const alpn[] = { "http/1.1", "other", NULL };
    char path[6][100];
    hsb_identity more = { .chain = data_file(path[0], k->more, ".pem"),
                          .key = data_file(path[1], k->more, ".key") };
    hsb_security_desc desc = {
        .identity = { .chain = data_file(path[2], k->chain, ""), .key = data_file(path[3], k->key, ""),
                      .password = k->password },
        .self_signed_for = k->self_signed_for,
        .identities = k->more ? &more : NULL,
        .identity_count = k->more ? 1 : 0,
        .trusted = data_file(path[4], k->trusted, ""),
        .client_authorities = data_file(path[5], k->authorities, ""),
        .alpn = alpn,
        .session_cache_bytes = 10000,
        .allocator = { heap_alloc, heap_release, h }
    };
    memset(err, 0, sizeof *err);
    return hsb_security_new(&desc, err);
}

/* Did it load? */
static bool attempt(const kind *k, hsb_error *err)
{
    heap h = { 0, 0 };
    int before = open_descriptors();
    hsb_security *security = load(k, &h, err);
    if (security)
        assert_int_equal(hsb_security_pem(security).ptr[0], '-');
    else
        assert_true(err->status != HSB_OK && err->status != HSB_ERR_MISUSE && err->text[0]);
    hsb_security_free(security);
    assert_int_equal(h.blocks, 0);
    assert_int_equal(h.bytes, 0);
    assert_int_equal(open_descriptors(), before);
    return security != NULL;
}

/* As it is without a fault. */
static void check_undisturbed(const kind *k, bool loads, hsb_status status)
{
    hsb_error err;
    fault_none();
    assert_int_equal(attempt(k, &err), loads);
    assert_int_equal(err.status, status);
}

static void each_fails(const kind *k, const char *call, int code, bool forever, bool harmless)
{
    hsb_error err;
    fault_none();
    bool loads = attempt(k, &err);
    hsb_status status = err.status;
    for (long n = 1;; n++) {
        fault_plan(call, n, code);
        injected.forever = forever;
        bool loaded = attempt(k, &err);
        if (!injected.hit)
            break;
        faults_tried++;
        if (harmless && (loaded != loads || err.status != status))
            fail_msg("%s: %s %ld with %d made a difference", k->chain, call, n, code);
        if (loaded && !harmless)
            fail_msg("%s: %s %ld failed with %d, and nobody noticed", k->chain, call, n, code);
    }
    check_undisturbed(k, loads, status);
}

static void test_allocations(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        each_fails(&kinds[i], "alloc", ENOMEM, false, false);
        each_fails(&kinds[i], "alloc", ENOMEM, true, false);
    }
}

static void test_entropy(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        each_fails(&kinds[i], "getentropy", EIO, false, false);
        each_fails(&kinds[i], "getentropy", ENOSYS, true, false);
    }
}

static void test_files(void **state)
{
    static const int codes[] = { EACCES, EMFILE, ENFILE, ENOENT, ELOOP, ENOMEM };
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        for (size_t k = 0; k < sizeof codes / sizeof codes[0]; k++)
            each_fails(&kinds[i], "open", codes[k], false, false);
        each_fails(&kinds[i], "pread", EIO, false, false);
        each_fails(&kinds[i], "open", EINTR, false, true);
        each_fails(&kinds[i], "pread", EINTR, false, true);
    }
}

static void test_cuts(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        hsb_error err;
        fault_none();
        bool loads = attempt(&kinds[i], &err);
        for (size_t cut = 1; cut <= 7; cut++) {
            fault_none();
            injected.cut = cut;
            assert_int_equal(attempt(&kinds[i], &err), loads);
            faults_tried++;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_entropy),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_cuts)
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    print_message("%ld fault points tried\n", faults_tried);
    return failed;
}
