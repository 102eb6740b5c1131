/* What a client's chain of certificates costs the loop, without the handshake around it: the
   dearest that a stranger can send, and the dearest that is ever verified to its end.  One line
   each, "milliseconds name", of this process's CPU time; the last line is the worst, which shall
   be 12 at most.                                                                            */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "chains.h"

static double worst;

static size_t chains_draw(size_t bound)
{
    return bound - 1;
}

/* The least of some tries: others run on this machine too. */
static void measure(const char *name, const world *w, int code)
{
    shown b;
    double best = 1e9;
    chains_show(w, &b, false);
    for (int i = 0; i < 20; i++) {
        const opinion o = chains_ours(w, &b);
        if (o.code != code) {
            fprintf(stderr, "%s: %s (%d)\n", name, o.text, o.code);
            exit(1);
        }
        best = o.ms < best ? o.ms : best;
    }
    chains_hide(w, &b);
    worst = best > worst ? best : worst;
    printf("%7.2f %s\n", best, name);
}

/* So many certificates sent, the CA after them; all keys of one kind, with or without lists. */
static world path(int count, int key, bool with_lists)
{
    world w;
    memset(&w, 0, sizeof w);
    w.cert_count = count + 1;
    w.sent_count = count;
    w.trusted_count = 1;
    w.trusted[0] = count;
    for (int i = 0; i <= count; i++) {
        w.certs[i] = certs_plain(i, i < count ? i + 1 : count, key, key);
        w.sent[i] = i;
    }
    for (int i = 0; with_lists && i < count; i++) {
        w.lists[i].issuer = i + 1;
        w.lists[i].signer = key;
        w.lists[i].begin = -1;
        w.lists[i].end = 1;
        w.list_count++;
    }
    return w;
}

static void strangers(void)
{
    static const struct { const char *name; int key; } kinds[] = {
        { "a stranger names a CA: P-256", 0 }, { "the same, P-384", KEY_P384 },
        { "the same, P-521", KEY_P521 }, { "the same, RSA-4096", KEY_RSA_4096 },
        { "the same, RSA-4096, 32-bit exponent", KEY_RSA_4096_WIDE },
    };
    world w = path(5, 0, false);
    w.certs[4].issuer = 99;
    measure("a stranger names nobody", &w, BR_ERR_X509_NOT_TRUSTED);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        w = path(5, kinds[i].key, false);
        w.certs[4].spoil = SPOIL_SIGNATURE;
        measure(kinds[i].name, &w, BR_ERR_X509_BAD_SIGNATURE);
    }
    w = path(5, 0, false);                      /* as many CAs of one name as chains.h has   */
    w.certs[4].spoil = SPOIL_SIGNATURE;
    for (w.trusted_count = 0; w.trusted_count < CERTS_MAX; w.trusted_count++)
        w.trusted[w.trusted_count] = 5;
    measure("a stranger names ten CAs: P-256", &w, BR_ERR_X509_BAD_SIGNATURE);
}

int main(void)
{
    strangers();
    world w = path(5, 0, true);
    measure("verified: 5 certificates and lists, P-256", &w, 0);
    w = path(5, KEY_RSA_4096, false);
    measure("verified: 5 certificates, RSA-4096", &w, 0);
    w = path(3, KEY_RSA_4096, true);
    measure("verified: 3 certificates and lists, RSA-4096", &w, 0);
    w = path(5, KEY_RSA_WIDE, true);
    measure("verified: 5 certificates and lists, RSA-2048, 32-bit exponent", &w, 0);
    w = path(5, KEY_RSA_4096_WIDE, false);
    measure("verified: 5 certificates, RSA-4096, 32-bit exponent", &w, 0);
    w = path(3, KEY_RSA_4096_WIDE, true);
    measure("verified: 3 certificates and lists, RSA-4096, 32-bit exponent", &w, 0);
    w = path(2, KEY_P384, false);
    measure("verified: 2 certificates, P-384", &w, 0);
    w = path(1, KEY_P521, false);
    measure("verified: 1 certificate, P-521", &w, 0);
    w = path(2, KEY_P521, false);
    measure("refused after one signature: 2 certificates, P-521", &w, HSB__FAULT_COST);
    printf("%7.2f worst (<= 12)\n", worst);
    return 0;
}
