/* >>localca: a CA that is made once, and certificates that OpenSSL verifies with it. */
#include <time.h>

static long leap;               /* how far ahead the clock is, in seconds */

static int moved_clock(clockid_t which, struct timespec *t)
{
    int result = clock_gettime(which, t);
    if (which == CLOCK_REALTIME)
        t->tv_sec += leap;
    return result;
}

#define clock_gettime moved_clock
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#undef clock_gettime

#include "help.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/wait.h>

enum { DAY = 86400 };
static char place[64];

static int make_place(void **state)
{
    (void)state;
    leap = 0;
    snprintf(place, sizeof place, "build/localca-XXXXXX");
    return mkdtemp(place) ? 0 : -1;
}

static int remove_place(void **state)
{
    (void)state;
    return remove_folder(place);
}

static const char *inside(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", place, name);
    return path;
}

static void copy(const char *from, const char *to)
{
    bytebuf all = bytes_of_file(from);
    FILE *f = fopen(inside(to), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(all.data, 1, all.len, f), all.len);
    fclose(f);
    bytes_free(&all);
}

static X509 *read_cert(const char *name)
{
    FILE *f = fopen(inside(name), "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(x);
    return x;
}

static hsb_security *start(const char *name, const char *const *more, hsb_error *err)
{
    hsb_security_desc desc = { .self_signed_for = name, .self_signed_names = more,
                               .local_ca = place };
    memset(err, 0, sizeof *err);
    return hsb_security_new(&desc, err);
}

static void fingerprint(const char *name, const char *const *more, uint8_t out[32])
{
    hsb_error err;
    hsb_security *s = start(name, more, &err);
    if (!s)
        fail_msg("%s", err.text);
    memcpy(out, hsb_security_sha256(s), 32);
    hsb_security_free(s);
}

static void assert_refused(hsb_status status, const char *text)
{
    hsb_error err;
    assert_null(start("localhost", NULL, &err));
    assert_int_equal(err.status, status);
    assert_int_equal(err.tls_code, 0);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" does not say: %s", err.text, text);
}

static int verdict(X509 *leaf, X509 *ca, const char *host)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, ca);
    X509_STORE_CTX_init(ctx, store, leaf, NULL);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    X509_VERIFY_PARAM_set_time(param, time(NULL) + leap);
    if (!X509_VERIFY_PARAM_set1_ip_asc(param, host))
        X509_VERIFY_PARAM_set1_host(param, host, 0);
    int code = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return code;
}

static void openssl_verifies_it(void **state)
{
    static const char *const more[] = { "nas.lan", "*.nas.lan", "192.0.2.7", "2001:db8::7",
                                        "NAS.lan", "127.0.0.1", NULL };
    static const char *const good[] = { "localhost", "127.0.0.1", "::1", "nas.lan", "a.nas.lan",
                                        "192.0.2.7", "2001:db8::7" };
    uint8_t sum[32];
    (void)state;
    fingerprint("localhost", more, sum);
    X509 *ca = read_cert("ca.pem"), *leaf = read_cert("localhost.pem");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(verdict(leaf, ca, good[i]), X509_V_OK);
    assert_int_equal(verdict(leaf, ca, "example.org"), X509_V_ERR_HOSTNAME_MISMATCH);
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    assert_int_equal(sk_GENERAL_NAME_num(names), 7);            /* each of them once */
    GENERAL_NAMES_free(names);
    assert_int_equal(X509_check_ca(ca), 1);
    assert_int_equal(X509_get_pathlen(ca), 0);
    assert_int_equal(X509_get_key_usage(ca), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(X509_check_ca(leaf), 0);
    int days, seconds;
    ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(ca), X509_get0_notAfter(ca));
    assert_int_equal(days, 3650);
    ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(leaf), X509_get0_notAfter(leaf));
    assert_int_equal(days, 397);
    X509_free(ca);
    X509_free(leaf);
}

static void names_without_a_ca(void **state)
{
    static const char *const more[] = { "www.example.org", "192.0.2.7", NULL };
    hsb_security_desc desc = { .self_signed_for = "example.org", .self_signed_names = more };
    hsb_security *s = hsb_security_new(&desc, NULL);
    (void)state;
    assert_non_null(s);
    hsb_str pem = hsb_security_pem(s);
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_int_equal(X509_check_host(x, "example.org", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(x, "www.example.org", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(x, "192.0.2.7", 0), 1);
    X509_free(x);
    BIO_free(bio);
    hsb_security_free(s);
}

static void a_restart_changes_nothing(void **state)
{
    static const char *const more[] = { "nas.lan", NULL };
    uint8_t first[32], again[32];
    (void)state;
    fingerprint("localhost", more, first);
    leap = (397 - 31) * DAY;
    fingerprint("localhost", more, again);
    assert_memory_equal(first, again, 32);
    leap = -100 * DAY;                              /* a clock that has not been set yet */
    fingerprint("localhost", more, again);
    assert_memory_equal(first, again, 32);
}

static void the_files_are_for_their_owner(void **state)
{
    static const char *const files[] = { "ca.key", "ca.pem", "localhost.pem", "lock" };
    uint8_t sum[32];
    struct stat st;
    (void)state;
    mode_t mask = umask(0);
    fingerprint("localhost", NULL, sum);
    umask(mask);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(stat(inside(files[i]), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
}

static void a_new_one_when_it_must_be(void **state)
{
    static const char *const more[] = { "nas.lan", NULL };
    uint8_t first[32], again[32], other[32];
    (void)state;
    fingerprint("localhost", more, first);
    X509 *ca = read_cert("ca.pem");
    fingerprint("localhost", NULL, again);          /* the names have changed */
    assert_memory_not_equal(first, again, 32);
    leap = (397 - 29) * DAY;                        /* fewer than 30 days are left */
    fingerprint("localhost", NULL, other);
    assert_memory_not_equal(again, other, 32);
    X509 *same = read_cert("ca.pem"), *leaf = read_cert("localhost.pem");
    assert_int_equal(X509_cmp(ca, same), 0);
    assert_int_equal(verdict(leaf, ca, "localhost"), X509_V_OK);
    X509_free(ca);
    X509_free(same);
    X509_free(leaf);
}

static void broken_certificates_are_replaced(void **state)
{
    static const char *const broken[] = { "", "rubbish", ("-----BEGIN CERTIFICATE-----\nAAAA\n"
                                                           "-----END CERTIFICATE-----\n") };
    uint8_t sum[32], last[32] = { 0 };
    (void)state;
    fingerprint("localhost", NULL, sum);
    for (int i = 0; i < 3; i++) {
        FILE *f = fopen(inside("localhost.pem"), "w");
        fputs(broken[i], f);
        fclose(f);
        fingerprint("localhost", NULL, sum);
        assert_memory_not_equal(sum, last, 32);
        memcpy(last, sum, 32);
        fingerprint("localhost", NULL, sum);
        assert_memory_equal(sum, last, 32);
    }
    /* one of another CA, whose name it might even have */
    fingerprint("example.org", NULL, sum);
    copy("tests/data/server-p256.both.pem", "localhost.pem");
    fingerprint("localhost", NULL, sum);
    X509 *ca = read_cert("ca.pem"), *leaf = read_cert("localhost.pem");
    assert_int_equal(verdict(leaf, ca, "localhost"), X509_V_OK);
    X509_free(ca);
    X509_free(leaf);
}

static void several_servers_have_one_ca(void **state)
{
    uint8_t a[32], b[32], again[32];
    (void)state;
    fingerprint("a.lan", NULL, a);
    fingerprint("2001:db8::7", NULL, b);
    fingerprint("a.lan", NULL, again);
    assert_memory_equal(a, again, 32);
    X509 *ca = read_cert("ca.pem"), *x = read_cert("a.lan.pem"), *y = read_cert("2001_db8__7.pem");
    assert_int_equal(verdict(x, ca, "a.lan"), X509_V_OK);
    assert_int_equal(verdict(y, ca, "2001:db8::7"), X509_V_OK);
    X509_free(ca);
    X509_free(x);
    X509_free(y);
}

static void after_ten_years(void **state)
{
    uint8_t sum[32];
    (void)state;
    fingerprint("localhost", NULL, sum);
    X509 *old = read_cert("ca.pem");
    leap = 3600L * DAY;                             /* a server's ends before its CA does */
    fingerprint("localhost", NULL, sum);
    X509 *same = read_cert("ca.pem"), *leaf = read_cert("localhost.pem");
    assert_int_equal(X509_cmp(old, same), 0);
    assert_int_equal(ASN1_TIME_compare(X509_get0_notAfter(leaf), X509_get0_notAfter(old)), 0);
    X509_free(same);
    X509_free(leaf);
    leap = 3640L * DAY;
    fingerprint("localhost", NULL, sum);
    X509 *fresh = read_cert("ca.pem");
    leaf = read_cert("localhost.pem");
    assert_int_not_equal(X509_cmp(old, fresh), 0);
    assert_int_equal(verdict(leaf, fresh, "localhost"), X509_V_OK);
    X509_free(old);
    X509_free(fresh);
    X509_free(leaf);
}

/* A crash leaves a folder without what came last. */
static void a_crash_is_made_good(void **state)
{
    static const char *const missing[] = { "localhost.pem", "ca.pem" };
    uint8_t sum[32];
    (void)state;
    for (int i = 0; i < 2; i++) {
        fingerprint("localhost", NULL, sum);
        assert_int_equal(unlink(inside(missing[i])), 0);
        fingerprint("localhost", NULL, sum);
        X509 *ca = read_cert("ca.pem"), *leaf = read_cert("localhost.pem");
        assert_int_equal(verdict(leaf, ca, "localhost"), X509_V_OK);
        X509_free(ca);
        X509_free(leaf);
    }
}

/* Nobody's CA is ever replaced because something is wrong with it. */
static void a_strange_ca_is_an_error(void **state)
{
    uint8_t sum[32];
    hsb_error err;
    static const char *const bad[] = { "a b", NULL };
    (void)state;
    fingerprint("localhost", NULL, sum);
    assert_int_equal(unlink(inside("ca.key")), 0);
    assert_refused(HSB_ERR_KEY, "not its ca.key");
    assert_int_equal(access(inside("ca.key"), F_OK), -1);
    copy("tests/data/server-p256.key", "ca.key");
    assert_refused(HSB_ERR_KEY, "does not belong");
    copy("tests/data/server-p256.pem", "ca.pem");
    assert_refused(HSB_ERR_CERT, "no CA's certificate");
    copy("tests/data/server-p384.key", "ca.key");
    assert_refused(HSB_ERR_KEY, "no key on P-256");
    copy("tests/data/broken-empty.pem", "ca.key");
    assert_refused(HSB_ERR_PEM, "ca.key");
    assert_null(start("localhost", bad, &err));
    assert_non_null(strstr(err.text, "\"a b\" is no host name or address"));
    hsb_security_desc alone = { .local_ca = place,
                                .identity = { .chain = hsb_pem_file("tests/data/server-p256.pem"),
                                              .key = hsb_pem_file("tests/data/server-p256.key") } };
    assert_null(hsb_security_new(&alone, &err));
    assert_string_equal(err.text,
                        "local_ca is set, but self_signed_for, which it is about, is not");
}

static void too_many_names(void **state)
{
    const char *names[103];
    char text[102][24];
    hsb_error err;
    (void)state;
    for (int i = 0; i < 102; i++) {
        snprintf(text[i], sizeof text[i], "n%d.lan", i);
        names[i] = text[i];
    }
    names[100] = NULL;
    hsb_security *s = start("localhost", names, &err);
    assert_non_null(s);
    hsb_security_free(s);
    names[100] = text[100];
    names[101] = NULL;
    assert_null(start("localhost", names, &err));
    assert_int_equal(err.status, HSB_ERR_LIMIT);
}

/* Ten processes start at once: one CA, one certificate. */
static void all_at_once(void **state)
{
    uint8_t sum[32], first[32];
    int pipes[2];
    (void)state;
    assert_int_equal(pipe(pipes), 0);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        assert_int_not_equal(child, -1);
        if (child == 0) {
            hsb_error err;
            hsb_security *s = start("localhost", NULL, &err);
            _exit(s && write(pipes[1], hsb_security_sha256(s), 32) == 32 ? 0 : 1);
        }
    }
    for (int i = 0; i < 10; i++) {
        int code;
        assert_true(wait(&code) > 0);
        assert_int_equal(code, 0);
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(read(pipes[0], i ? sum : first, 32), 32);
        if (i)
            assert_memory_equal(sum, first, 32);
    }
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        EACH(openssl_verifies_it),
        EACH(names_without_a_ca),
        EACH(a_restart_changes_nothing),
        EACH(the_files_are_for_their_owner),
        EACH(a_new_one_when_it_must_be),
        EACH(broken_certificates_are_replaced),
        EACH(several_servers_have_one_ca),
        EACH(after_ten_years),
        EACH(a_crash_is_made_good),
        EACH(a_strange_ca_is_an_error),
        EACH(too_many_names),
        EACH(all_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
