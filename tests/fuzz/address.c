/* >>address: text that is meant to be an address.  What is taken must print and read back as
   the same, and without brackets and zone the C library must agree.                       */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "fuzz.h"

static void agree(const char *text, bool taken, const hsb_address *a)
{
    unsigned char v4[4], v6[16];
    bool is_v4 = inet_pton(AF_INET, text, v4) == 1, is_v6 = inet_pton(AF_INET6, text, v6) == 1;
    FUZZ_MUST(taken == (is_v4 || is_v6));
    if (is_v4)
        FUZZ_MUST(a->family == HSB_IPV4 && memcmp(a->bytes, v4, 4) == 0);
    if (is_v6)
        FUZZ_MUST(a->family == HSB_IPV6 && memcmp(a->bytes, v6, 16) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hsb_address a, again, before;
    char printed[HSB_ADDRESS_TEXT_MAX];
    char *text = malloc(size + 1);
    FUZZ_MUST(text != NULL);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    memset(&a, 0x5A, sizeof a);
    before = a;
    bool taken = hsb_address_parse(&a, text);
    if (!strchr(text, '[') && !strchr(text, '%'))
        agree(text, taken, &a);
    if (!taken) {
        FUZZ_MUST(memcmp(&a, &before, sizeof a) == 0);
    } else {
        FUZZ_MUST(a.port == 0);
        FUZZ_MUST(hsb_address_text(&a, printed) == printed && strlen(printed) < sizeof printed);
        FUZZ_MUST(hsb_address_parse(&again, printed) && hsb__address_equal(&a, &again));
        a.port = size < 2 ? 443 : (uint16_t)(data[0] << 8 | data[1]);
        FUZZ_MUST(strlen(hsb_address_text(&a, printed)) < sizeof printed);
    }
    free(text);
    return 0;
}
