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
    const int count = rounds ? atoi(rounds) : 2400;
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
    assert_true(accepted > count / 4 && refused > count / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_openssl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
