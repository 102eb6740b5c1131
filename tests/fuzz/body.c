/* A body, chunked or of a length, read whole and in parts: the same data, the same end. */
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"

typedef struct outcome {
    char *data;
    size_t len, used;
    hsb__body_event end;
    const char *reason;
} outcome;

/* The data is compacted in o->data, which has room for all of the input. */
static void read_all(outcome *o, hsb__body b, const char *bytes, size_t len, uint32_t seed)
{
    for (size_t upto = seed ? 0 : len;;) {
        size_t used;
        hsb_str part;
        o->end = hsb__body_read(&b, bytes + o->used, upto - o->used, &used, &part);
        FUZZ_MUST(used <= upto - o->used);
        if (o->end == HSB__BODY_DATA) {
            FUZZ_MUST(part.len && part.ptr >= bytes + o->used && part.len <= used);
            memcpy(o->data + o->len, part.ptr, part.len);
            o->len += part.len;
        }
        o->used += used;
        if (o->end == HSB__BODY_DATA)
            continue;
        FUZZ_MUST(o->end != HSB__BODY_MORE || o->used == upto);
        o->reason = b.reason;
        if (o->end != HSB__BODY_MORE || upto == len)
            return;
        size_t n = fuzz_cut(&seed, 12);
        upto = n < len - upto ? upto + n : len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    hsb__body b;
    outcome whole, parts;
    size_t len = size - 3;
    char *bytes = fuzz_copy(data + 3, len);
    memset(&whole, 0, sizeof whole);
    whole.data = fuzz_copy(data + 3, len);
    parts = whole;
    parts.data = fuzz_copy(data + 3, len);
    hsb__body_start(&b, data[0] % 8 != 0, data[1], data[1]);
    read_all(&whole, b, bytes, len, 0);
    read_all(&parts, b, bytes, len, 1u + data[2]);
    FUZZ_MUST(whole.end == parts.end && whole.used == parts.used && whole.len == parts.len);
    FUZZ_MUST(whole.reason == parts.reason && !memcmp(whole.data, parts.data, whole.len));
    FUZZ_MUST(whole.end != HSB__BODY_DONE || whole.len == data[1]);
    free(whole.data);
    free(parts.data);
    free(bytes);
    return 0;
}
