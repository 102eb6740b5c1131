/* %XX: what decodes is no longer than it was, holds no NUL, decodes to the same in place, and
   needs just its length and a NUL of room. */
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const bool form = data[0] & 1;
    const size_t in_len = size - 1;
    char *bytes = fuzz_copy(data + 1, in_len);
    char *out = malloc(size), *tight = NULL, *same = malloc(size);
    size_t len, again;
    FUZZ_MUST(out && same);
    hsb_str in = hsb__text_make(bytes, in_len);
    bool good = hsb__percent_decode(in, form, out, size, &len);
    FUZZ_MUST(len <= in_len && strlen(out) == len && (good || len == 0));
    memcpy(same, bytes, in_len);
    FUZZ_MUST(hsb__percent_decode(hsb__text_make(same, in_len), form, same, size, &again) == good);
    FUZZ_MUST(again == len && memcmp(same, out, len + 1) == 0);
    if (good) {
        tight = malloc(len + 1);
        FUZZ_MUST(tight && hsb__percent_decode(in, form, tight, len + 1, &again) && again == len);
        FUZZ_MUST(!hsb__percent_decode(in, form, tight, len, &again) && again == 0);
    }
    free(tight);
    free(same);
    free(out);
    free(bytes);
    return 0;
}
