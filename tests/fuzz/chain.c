/* Chains, trust and lists built as the input says, beside OpenSSL's opinion: nothing is accepted
   that OpenSSL refuses.  And the input itself as a certificate and as a list of a CA.          */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "chains.h"
#include "fuzz.h"

static const uint8_t *input;
static size_t left;

/* Two bytes each; zero when there are no more. */
static size_t chains_draw(size_t bound)
{
    size_t n = 0;
    for (int i = 0; i < 2 && left; i++, left--)
        n = n << 8 | *input++;
    return n % bound;
}

/* Any bytes: as a leaf, and as a list where everything else is good. */
static void any_bytes(const uint8_t *data, size_t size)
{
    hsb__memory m = { 0 };
    hsb__anchors nobody = { 0 };
    hsb__crl list;
    hsb__object *o = hsb__pem_object(&m, "X509 CRL", data, size);
    FUZZ_MUST(o != NULL);
    if (!hsb__crl_read(&list, o, &nobody)) {
        FUZZ_MUST(hsb__crl_sort(&m, &list));
        for (size_t i = 0; i < list.count; i++)
            FUZZ_MUST(hsb__crl_has(&list, list.serials[i]));
        if (list.serials)
            hsb__memory_free(&m, list.serials, list.count * sizeof *list.serials);
    }
    hsb__pem_free(&m, o);
    FUZZ_MUST(m.used == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world w;
    shown b;
    any_bytes(data, size);
    input = data;
    left = size;
    chains_draw_world(&w);
    chains_show(&w, &b, false);
    const opinion ours = chains_ours(&w, &b);
    if (!ours.code && chains_theirs_of(&w, &b, &ours)) {
        chains_print(&w);
        FUZZ_MUST(ours.code != 0);
    }
    chains_hide(&w, &b);
    return 0;
}
