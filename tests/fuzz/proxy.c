/* >>proxy: what comes before everything else, as anybody may send it.  The same header in pieces
   must give the same result, and what is named must print as an address. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "fuzz.h"

static size_t take(hsb__proxy *p, const uint8_t *data, size_t size)
{
    char *copy = fuzz_copy(data, size);
    size_t used = hsb__proxy_receive(p, hsb__text_make(copy, size));
    free(copy);
    return used;
}

static void check_named(const hsb__proxy *p)
{
    char text[HSB_ADDRESS_TEXT_MAX];
    hsb_address again, client = p->client;
    FUZZ_MUST(p->whole && !p->wrong);
    FUZZ_MUST(strlen(hsb_address_text(&client, text)) < sizeof text);
    if (client.family == HSB_UNIX)
        return;
    client.port = 0;
    FUZZ_MUST(hsb_address_parse(&again, hsb_address_text(&client, text)));
    FUZZ_MUST(hsb__address_equal(&again, &client));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hsb__proxy all, p;
    uint32_t cuts = (uint32_t)size;
    memset(&all, 0, sizeof all);
    memset(&p, 0, sizeof p);
    size_t used = take(&all, data, size), done = 0;
    FUZZ_MUST(used <= size && used <= 4096 && used == all.len);
    FUZZ_MUST(used == size || all.whole || all.wrong);
    FUZZ_MUST(size == 0 || data[0] != 'P' || used <= 107);
    while (done < used) {
        size_t n = fuzz_cut(&cuts, 40);
        n = n < used - done ? n : used - done;
        FUZZ_MUST(!p.whole && !p.wrong);
        FUZZ_MUST(take(&p, data + done, n) == n);
        done += n;
    }
    p.size = all.size;
    FUZZ_MUST(memcmp(&p, &all, sizeof p) == 0);
    if (all.whole && all.named && !all.wrong)
        check_named(&all);
    return 0;
}
