/* JSON of a CA: what is whole can be walked to its end, every value lies within the text, and
   decoded texts are UTF-8 that fits. */
#define HTTPSBIND_ACME
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"

static void walk(hsb_str value, const char *begin, const char *end, int depth)
{
    hsb_str rest = value, name, inner;
    char text[64];
    FUZZ_MUST(value.ptr >= begin && value.ptr + value.len <= end);
    FUZZ_MUST(hsb__json_is_whole(value) || depth);
    FUZZ_MUST(depth <= HSB__JSON_DEPTH);
    if (hsb__json_text(value, text, sizeof text))
        FUZZ_MUST(hsb__utf8_is(hsb__text_of(text)) && strlen(text) < sizeof text);
    while (hsb__json_next(&rest, NULL, &inner))
        walk(inner, begin, end, depth + 1);
    rest = value;
    while (hsb__json_next(&rest, &name, &inner)) {
        FUZZ_MUST(name.ptr >= begin && name.ptr + name.len <= inner.ptr);
        walk(inner, begin, end, depth + 1);
    }
    inner = hsb__json_member(value, "a");
    FUZZ_MUST(!inner.ptr || (inner.ptr >= begin && inner.ptr + inner.len <= end));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes = fuzz_copy(data, size);
    hsb_str text = hsb__text_make(bytes, size);
    unsigned char out[48];
    if (size > 4096) {
        free(bytes);
        return 0;
    }
    if (hsb__json_is_whole(text))
        walk(text, bytes, bytes + size, 0);
    FUZZ_MUST(hsb__json_base64(text, out, sizeof out) <= sizeof out);
    free(bytes);
    return 0;
}
