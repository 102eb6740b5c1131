/* >>trust, >>crl and >>verify: what a chain is worth, beside what OpenSSL thinks of it. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "keys_help.h"
#include "random.h"
#include "chains.h"

static size_t chains_draw(size_t bound)
{
    return random_below(bound);
}

/* --- beside OpenSSL --------------------------------------------------------------------- */
typedef bool feature(const cert_spec *c);

static bool is_odd_text(const cert_spec *c)
{
    return c->spoil != SPOIL_NOTHING || c->version != 2 || c->serial < 0 || c->long_serial || c->twice ||
           (c->ca == 0 && c->path_len >= 0);
}
static bool is_spelled_otherwise(const cert_spec *c) { return c->name_upper || c->issuer_upper; }
static bool has_old_hash(const cert_spec *c) { return c->md == 3 || c->signer == KEY_ED25519; }
static bool has_odd_key(const cert_spec *c) { return c->key >= KEY_RSA_1024; }
static bool has_limits(const cert_spec *c) { return c->constraints != 0; }
static bool is_critical(const cert_spec *c) { return c->unknown == 2 || c->policy_constraints == 2; }
static bool has_usage(const cert_spec *c) { return c->usage >= 0; }
static bool is_no_ca(const cert_spec *c) { return c->ca != 1; }
static bool costs(const cert_spec *c) { return c->key == KEY_P384 || c->key == KEY_P521; }
static bool has_namesake(const cert_spec *c) { return c->name == 50 || c->issuer == 50 || c->key == 7; }
static bool has_purpose(const cert_spec *c) { return c->eku || c->netscape >= 0; }
static bool always(const cert_spec *c) { return c != NULL; }

/* What OpenSSL accepts and we refuse: which fault, and what of the certificates is the reason
   (see >>verify).  Every world has another CA with the root's name. */
static const struct { int code; feature *why; } stricter[] = {
    { BR_ERR_X509_INVALID_VALUE,       is_odd_text },
    { BR_ERR_X509_LIMIT_EXCEEDED,      always },            /* six certificates                  */
    { BR_ERR_X509_UNSUPPORTED,         has_old_hash },
    { BR_ERR_X509_WEAK_PUBLIC_KEY,     has_odd_key },
    { BR_ERR_X509_CRITICAL_EXTENSION,  is_critical },
    { BR_ERR_X509_NOT_CA,              is_no_ca },
    { BR_ERR_X509_FORBIDDEN_KEY_USAGE, has_usage },
    { BR_ERR_X509_NOT_TRUSTED,         is_spelled_otherwise },
    { BR_ERR_X509_NOT_TRUSTED,         is_no_ca },          /* a CA by being self-signed         */
    { BR_ERR_X509_BAD_SIGNATURE,       has_namesake },      /* the path of the first name        */
    { BR_ERR_X509_EXPIRED,             has_namesake },
    { HSB__FAULT_PATH_LEN,             has_namesake },
    { HSB__FAULT_PURPOSE,              has_purpose },
    { HSB__FAULT_NAMES_LIMITED,        has_limits },
    { HSB__FAULT_COST,                 costs },
    { HSB__FAULT_REVOKED,              always },            /* a pin, or a second list           */
    { HSB__FAULT_NO_LIST,              has_namesake },
    { HSB__FAULT_LIST_FORGED,          has_namesake },
    { HSB__FAULT_LIST_USAGE,           has_usage },
};

/* ... and what is not even loaded. */
static const char *const stricter_texts[] = {
    "Ed25519 keys are not supported", "RSA key too small", "critical extension not supported",
    "extended key usage does not allow clients", "key usage forbids this", "malformed",
    "name constraints are not supported", "a second list of the same issuer",
    "critical extension of an entry not supported", "delta lists are not supported", "expired on ",
    "indirect lists and lists for some", "its issuer may not sign revocation lists",
    "kind of signature not supported", "no nextUpdate", "not valid before ", "wrong signature",
};

static bool is_explained(const world *w, const opinion *o)
{
    for (size_t i = 0; i < sizeof stricter_texts / sizeof *stricter_texts && o->code < 0; i++)
        if (strstr(o->text, stricter_texts[i]))
            return true;
    for (size_t i = 0; i < sizeof stricter / sizeof *stricter; i++)
        for (int c = 0; c < w->cert_count && stricter[i].code == o->code; c++)
            if (stricter[i].why(&w->certs[c]))
                return true;
    return false;
}

/* We accept nothing that OpenSSL refuses, and refuse what it accepts only for a known reason. */
static void beside_openssl(void **state)
{
    const char *rounds = getenv("ROUNDS");
    const int count = rounds ? atoi(rounds) : 2000;
    const unsigned long long seed = random_start(17);
    int accepted = 0, refused = 0, stricter_than = 0;
    (void)state;
    for (int i = 0; i < count; i++) {
        world w;
        shown b;
        chains_draw_world(&w);
        chains_show(&w, &b, false);
        const opinion ours = chains_ours(&w, &b);
        const int theirs = chains_theirs_of(&w, &b, &ours);
        if (!ours.code && theirs) {
            chains_print(&w);
            fail_msg("SEED=%llu, round %d: accepted, but OpenSSL says: %s", seed, i,
                     X509_verify_cert_error_string(theirs));
        }
        if (ours.code && !theirs && !is_explained(&w, &ours)) {
            chains_print(&w);
            fail_msg("SEED=%llu, round %d: refused, and OpenSSL accepts: %s (%d)", seed, i, ours.text, ours.code);
        }
        accepted += !ours.code;
        refused += ours.code && theirs;
        stricter_than += ours.code && !theirs;
        chains_hide(&w, &b);
    }
    print_message("%d chains accepted by both, %d refused by both, %d refused by us alone\n", accepted, refused,
                  stricter_than);
    assert_true(accepted > count / 5 && refused > count / 5);
}

/* --- one by one ------------------------------------------------------------------------- */

/* A leaf, an intermediate CA, a CA that is trusted; a list of each CA. */
static world small(bool with_lists)
{
    world w;
    memset(&w, 0, sizeof w);
    w.cert_count = 3;
    for (int i = 0; i < 3; i++)
        w.certs[i] = certs_plain(i, i < 2 ? i + 1 : 2, i, i < 2 ? i + 1 : 2);
    w.sent_count = 2;
    w.sent[1] = 1;
    w.trusted_count = 1;
    w.trusted[0] = 2;
    for (int i = 0; i < 2; i++) {
        w.lists[i].issuer = w.lists[i].signer = i + 1;
        w.lists[i].begin = -1;
        w.lists[i].end = 1;
        w.lists[i].count = 1;
        w.lists[i].serials[0] = 5;
    }
    w.list_count = with_lists ? 2 : 0;
    return w;
}

static opinion judge(const world *w)
{
    shown b;
    chains_show(w, &b, false);
    const opinion o = chains_ours(w, &b);
    chains_hide(w, &b);
    return o;
}

static void says(const world *w, const char *text)
{
    assert_string_equal(judge(w).text, text);
}

static void lists_are_obeyed(void **state)
{
    world w = small(true);
    (void)state;
    says(&w, "");
    w.lists[0].serials[0] = 1000;
    says(&w, "client certificate: revoked");
    w = small(true);
    w.lists[1].serials[0] = 1001;
    says(&w, "client certificate, number 2 of its chain: revoked");
    w = small(true);
    w.lists[1].serials[0] = 1002;                       /* the CA revokes itself             */
    says(&w, "client certificate, its issuer in trusted: revoked");
    w = small(true);
    w.list_count = 1;
    says(&w, "client certificate, number 2 of its chain: no revocation list of its issuer is loaded");
    w.lists[0] = w.lists[1];
    says(&w, "client certificate: no revocation list of its issuer is loaded");
}

/* A pin needs no list, and is refused by one that has its issuer's name. */
static void lists_and_pins(void **state)
{
    world w = small(true);
    (void)state;
    w.trusted_count = 2;
    w.trusted[1] = 0;
    w.list_count = 0;
    w.lists[0] = w.lists[1];
    says(&w, "");
    w.list_count = 1;
    says(&w, "");
    w.lists[0].issuer = w.lists[0].signer = 1;
    w.lists[0].serials[0] = 1000;
    says(&w, "client certificate: revoked");
}

/* The list of an intermediate CA is verified when the chain brings it. */
static void forged_lists(void **state)
{
    world w = small(true);
    (void)state;
    w.lists[0].signer = 5;
    says(&w, "client certificate: the revocation list of its issuer has a wrong signature");
    w = small(true);
    w.certs[1].usage = 0x04;
    says(&w, "client certificate: its issuer may not sign revocation lists");
    w = small(true);
    w.lists[1].signer = 5;
    says(&w, "the text given: revocation list 2: wrong signature");
    w = small(true);
    w.certs[2].usage = 0x04;
    says(&w, "the text given: revocation list 2: its issuer may not sign revocation lists");
}

static void lists_that_are_not_loaded(void **state)
{
    char text[120], day[20];
    time_t when = time(NULL) - 86400;
    world w = small(true);
    (void)state;
    w.lists[0].is_delta = true;
    says(&w, "the text given: revocation list 1: delta lists are not supported");
    w = small(true);
    w.lists[0].is_partial = true;
    says(&w, "the text given: revocation list 1: indirect lists and lists for some certificates only "
             "are not supported");
    w = small(true);
    w.lists[0].entry_critical = true;
    says(&w, "the text given: revocation list 1: critical extension of an entry not supported");
    w = small(true);
    w.lists[0].no_end = true;
    says(&w, "the text given: revocation list 1: no nextUpdate: it would be good for ever");
    w = small(true);
    w.lists[0].md = 3;
    says(&w, "the text given: revocation list 1: kind of signature not supported");
    w = small(true);
    w.lists[2] = w.lists[0];
    w.list_count = 3;
    says(&w, "the text given: revocation list 3: a second list of the same issuer");
    w = small(true);
    w.lists[0].begin = -3;
    w.lists[0].end = -1;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&when));
    snprintf(text, sizeof text, "the text given: revocation list 1: expired on %s", day);
    says(&w, text);
}

/* What is loaded expires: nobody comes in, and the text says why. */
static void list_expires_while_loaded(void **state)
{
    world w = small(true);
    shown b;
    hsb_security s;
    hsb_error err;
    (void)state;
    memset(&s, 0, sizeof s);
    chains_show(&w, &b, false);
    assert_true(chains_load(&s, &w, &b, &err));
    s.revoked.list[0].next_update = hsb__os_wall();
    const hsb__anchor *ca = &s.trusted.list[0];
    hsb__x509 middle;
    br_x509_pkey key;
    unsigned cost = HSB__CHAIN_COST;
    int64_t until = INT64_MAX;
    assert_true(hsb__x509_walk(&middle, b.certs[1].at, b.certs[1].len));
    assert_null(hsb__x509_public_key(&middle, &key));
    const hsb_str serial = hsb__text_make("\x03\xE8", 2);
    assert_int_equal(hsb__crls_check(&s.revoked, serial, &middle, &key, hsb__os_wall(), &cost, &until),
                     HSB__FAULT_LIST_OLD);
    until = INT64_MAX;
    assert_int_equal(hsb__crls_check(&s.revoked, serial, &ca->cert, &ca->key, hsb__os_wall(), &cost, &until), 0);
    assert_true(until == s.revoked.list[1].next_update);
    hsb__verify v = { 0 };
    v.failed_at = 1;
    v.failed_time = 1767225600;
    hsb__verify_error(&v, HSB__FAULT_LIST_OLD, &err);
    assert_string_equal(err.text, "client certificate: the revocation list of its issuer expired on 2026-01-01");
    hsb__anchors_free(&s.memory, &s.trusted);
    hsb__crls_free(&s.memory, &s.revoked);
    chains_hide(&w, &b);
}

/* It is believed until the first certificate or list of the path ends. */
static void until_the_first_end(void **state)
{
    world w = small(false);
    const int64_t now = hsb__os_wall();
    (void)state;
    for (int i = 0; i < 3; i++) {
        w = small(false);
        w.certs[i].end_seconds = 1000;
        const int64_t until = judge(&w).until;
        assert_true(until >= now + 998 && until <= now + 1010);
    }
    w = small(true);
    w.lists[0].end_seconds = 2000;
    const int64_t until = judge(&w).until;
    assert_true(until >= now + 1998 && until <= now + 2010);
}

/* The first allocation fails, then the second, until none does. */
static void lists_without_memory(void **state)
{
    world w = small(true);
    shown b;
    bool ok = false;
    (void)state;
    chains_show(&w, &b, false);
    for (int fail_at = 1; !ok; fail_at++) {
        help_memory help = { fail_at, 0, NULL, 0, false };
        hsb_security s;
        hsb_error err = { 0 };
        memset(&s, 0, sizeof s);
        s.memory = help_memory_of(&help);
        ok = chains_load(&s, &w, &b, &err);
        assert_true(ok || err.status == HSB_ERR_MEMORY);
        hsb__anchors_free(&s.memory, &s.trusted);
        hsb__crls_free(&s.memory, &s.revoked);
        assert_int_equal(s.memory.used, 0);
    }
    chains_hide(&w, &b);
}

/* Of Netscape's types, which are one byte, the highest bit lets a client in, and no other. */
static void every_netscape_type(void **state)
{
    hsb__x509 cert = { .has = HSB__X509_NETSCAPE, .for_clients = true };
    (void)state;
    cert.serial = hsb__text_make("\x01", 1);
    for (unsigned type = 0; type < 256; type++) {
        cert.netscape = type;
        assert_int_equal(hsb__trust_check_leaf(&cert), type & 0x80 ? 0 : HSB__FAULT_PURPOSE);
    }
}

/* An entry of a list: a serial, a date, and behind them extensions or nothing. */
static void an_entry_and_more(void **state)
{
    static const char good[] = "\x30\x12\x02\x01\x05\x17\x0D" "270101000000Z";
    static const char more[] = "\x30\x14\x02\x01\x05\x17\x0D" "270101000000Z\x05\x00";
    hsb_str rest = hsb__text_make(good, sizeof good - 1), serial;
    (void)state;
    assert_null(hsb__crl_next_entry(&rest, &serial));
    assert_int_equal(serial.len, 1);
    assert_int_equal(rest.len, 0);
    rest = hsb__text_make(more, sizeof more - 1);
    assert_string_equal(hsb__crl_next_entry(&rest, &serial), "malformed");
}

/* A thousand serials in any order, and those between them. */
static void many_serials(void **state)
{
    hsb__crl c = { 0 };
    unsigned char numbers[1000][2];
    hsb_str serials[1000];
    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        const size_t n = 2 * (i * 337 % 1000) + 300;
        numbers[i][0] = (unsigned char)(n >> 8), numbers[i][1] = (unsigned char)n;
        serials[i] = hsb__text_make((char *)numbers[i], 2);
    }
    c.serials = serials;
    c.count = 1000;
    qsort(serials, 1000, sizeof *serials, hsb__crl_compare);
    for (unsigned n = 0; n < 3000; n++) {
        const char number[] = { (char)(n >> 8), (char)n };
        assert_int_equal(hsb__crl_has(&c, hsb__text_make(number, 2)), n >= 300 && n < 2300 && n % 2 == 0);
    }
}

/* Nobody who is not trusted costs more than the signature of one trusted CA. */
static void strangers_are_cheap(void **state)
{
    world w = small(false);
    shown b;
    hsb__memory m = { 0 };
    hsb__pool pool = { 0 };
    hsb__verify v = { 0 };
    hsb_security s;
    hsb_error err;
    (void)state;
    pool.memory = &m;
    memset(&s, 0, sizeof s);
    v.pool = &pool;
    v.security = &s;
    for (int named = 0; named < 2; named++) {
        w.certs[1].signer = 7;                          /* not the CA that it names          */
        w.certs[1].issuer = named ? 2 : 9;
        chains_show(&w, &b, false);
        assert_true(chains_load(&s, &w, &b, &err));
        v.failed_code = 0;
        hsb__verify_start_chain(&v);
        chains_feed(&v, &b.certs[0]);
        chains_feed(&v, &b.certs[1]);
        assert_int_equal(hsb__verify_end_chain(&v), named ? BR_ERR_X509_BAD_SIGNATURE : BR_ERR_X509_NOT_TRUSTED);
        assert_int_equal(v.judge->cost, HSB__CHAIN_COST - named);
        hsb__verify_end(&v);
        hsb__anchors_free(&s.memory, &s.trusted);
        chains_hide(&w, &b);
    }
    hsb__pool_close(&pool);
}

/* All signatures of a path cost 12 with P-256 at most: one with P-521, two with P-384. */
static void dear_paths_are_refused(void **state)
{
    static const struct { int key, most; } kinds[] = { { KEY_P384, 2 }, { KEY_P521, 1 } };
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int count = 1; count <= kinds[k].most + 1; count++) {
            world w;
            shown b;
            memset(&w, 0, sizeof w);
            w.cert_count = count + 1;
            w.sent_count = count;
            w.trusted_count = 1;
            w.trusted[0] = count;
            for (int i = 0; i <= count; i++) {
                w.certs[i] = certs_plain(i, i < count ? i + 1 : count, kinds[k].key, kinds[k].key);
                w.sent[i] = i;
            }
            chains_show(&w, &b, false);
            assert_int_equal(chains_ours(&w, &b).code, count > kinds[k].most ? HSB__FAULT_COST : 0);
            chains_hide(&w, &b);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_openssl),
        cmocka_unit_test(lists_are_obeyed),
        cmocka_unit_test(every_netscape_type),
        cmocka_unit_test(an_entry_and_more),
        cmocka_unit_test(lists_and_pins),
        cmocka_unit_test(forged_lists),
        cmocka_unit_test(lists_that_are_not_loaded),
        cmocka_unit_test(list_expires_while_loaded),
        cmocka_unit_test(until_the_first_end),
        cmocka_unit_test(lists_without_memory),
        cmocka_unit_test(many_serials),
        cmocka_unit_test(strangers_are_cheap),
        cmocka_unit_test(dear_paths_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
