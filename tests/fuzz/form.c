/* a=1&b=2: the parts lie within the input, in order, and decode or do not. */
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"

static void decode(hsb_str s)
{
    char *text = malloc(s.len + 1);
    size_t len;
    FUZZ_MUST(text != NULL);
    if (hsb__percent_decode(s, true, text, s.len + 1, &len))
        FUZZ_MUST(len <= s.len && strlen(text) == len);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes = fuzz_copy(data, size);
    const char *at = bytes;
    hsb_str rest = hsb__text_make(bytes, size), name, value;
    size_t pairs = 0;
    while (hsb__form_next(&rest, &name, &value)) {
        FUZZ_MUST(name.ptr >= at && name.ptr + name.len <= bytes + size);
        at = name.ptr + name.len;
        FUZZ_MUST(!memchr(name.ptr, '&', name.len) && !memchr(name.ptr, '=', name.len));
        if (value.ptr) {
            FUZZ_MUST(value.ptr == at + 1 && value.ptr + value.len <= bytes + size);
            FUZZ_MUST(!memchr(value.ptr, '&', value.len));
            at = value.ptr + value.len;
        }
        FUZZ_MUST(name.len || value.ptr);
        pairs++;
        decode(name);
        decode(value);
    }
    FUZZ_MUST(rest.len == 0);
    for (size_t i = 0; i < size; i++)           /* a pair ends where something does not go on */
        pairs -= bytes[i] != '&' && (i + 1 == size || bytes[i + 1] == '&');
    FUZZ_MUST(pairs == 0);
    free(bytes);
    return 0;
}
