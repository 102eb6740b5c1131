/* Cookie fields: each cookie lies within its field, and the first of its name is found. */
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"

static void walk(hsb_str field)
{
    hsb_str rest = field, name, value;
    while (hsb__cookie_next(&rest, &name, &value)) {
        FUZZ_MUST(name.ptr && name.ptr >= field.ptr && name.ptr + name.len <= field.ptr + field.len);
        FUZZ_MUST(value.ptr && value.ptr > name.ptr && value.ptr + value.len <= field.ptr + field.len);
        FUZZ_MUST(!name.len || (!memchr(name.ptr, ';', name.len) && !memchr(name.ptr, '=', name.len)));
        FUZZ_MUST(!value.len || !memchr(value.ptr, ';', value.len));
    }
    FUZZ_MUST(rest.len == 0);
}

/* Another way to find it: from each ';' to the next, a name up to the first '=', and blanks
   around both do not count. */
static hsb_str find_slowly(hsb_str field, hsb_str wanted)
{
    hsb_str none = { NULL, 0 };
    for (size_t from = 0, to; from < field.len; from = to + 1) {
        size_t equals = from;
        for (to = from; to < field.len && field.ptr[to] != ';'; to++)
            ;
        while (equals < to && field.ptr[equals] != '=')
            equals++;
        if (equals == to)
            continue;
        hsb_str name = hsb__text_trim(hsb__text_make(field.ptr + from, equals - from));
        if (name.len == wanted.len && memcmp(name.ptr, wanted.ptr, name.len) == 0)
            return hsb__text_trim(hsb__text_make(field.ptr + equals + 1, to - equals - 1));
    }
    return none;
}

/* The first two bytes cut the rest into a name to look for and two fields; a field's name
   stands in the same bytes as its value, as in a head. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char field_name[] = "Cookie";
    const size_t at = sizeof field_name - 1;
    if (size < 2)
        return 0;
    size_t len = size - 2, wanted = data[0] % 8 < len ? data[0] % 8 : len;
    size_t first = data[1] < len - wanted ? data[1] : len - wanted;
    char *bytes = malloc(at + len);
    hsb__field fields[2];
    hsb__head h;
    FUZZ_MUST(bytes != NULL);
    memcpy(bytes, field_name, at);
    memcpy(bytes + at, data + 2, len);
    memset(&h, 0, sizeof h);
    fields[0].name = fields[1].name = hsb__head_span(0, at);
    fields[0].value = hsb__head_span(at + wanted, at + wanted + first);
    fields[1].value = hsb__head_span(at + wanted + first, at + len);
    h.fields = fields;
    h.field_count = h.trailer_from = 2;
    hsb_str value = hsb__cookie_find(&h, bytes, hsb__text_make(bytes + at, wanted));
    hsb_str slowly = find_slowly(hsb__head_text(bytes, fields[0].value), hsb__text_make(bytes + at, wanted));
    if (!slowly.ptr)
        slowly = find_slowly(hsb__head_text(bytes, fields[1].value), hsb__text_make(bytes + at, wanted));
    FUZZ_MUST(value.ptr == slowly.ptr && value.len == slowly.len);
    walk(hsb__head_text(bytes, fields[0].value));
    walk(hsb__head_text(bytes, fields[1].value));
    free(bytes);
    return 0;
}
