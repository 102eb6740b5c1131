/* Any text as PEM; and what comes out of it, made PEM again, must come out the same. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

static void again(hsb__memory *m, const hsb__object *o)
{
    hsb__object *copy;
    size_t len;
    char *text = hsb__pem_encode(m, "X", o->der, o->len, &len);
    const hsb_pem pem = { NULL, { text, len } };
    if (!hsb__pem_load(m, &pem, &copy, NULL) || copy->next || copy->len != o->len ||
        memcmp(copy->der, o->der, o->len) != 0)
        abort();
    hsb__pem_free(m, copy);
    hsb__memory_free(m, text, len + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hsb__memory m = { 0 };
    hsb__object *list;
    hsb_error err = { 0 };
    const hsb_pem pem = { NULL, { (const char *)data, size } };
    bool ok = hsb__pem_load(&m, &pem, &list, &err);
    if (ok != (list != NULL) || ok == (err.text[0] != '\0'))
        abort();
    for (const hsb__object *o = list; o; o = o->next) {
        if (strlen(o->name) > 127)
            abort();
        again(&m, o);
    }
    hsb__pem_free(&m, list);
    if (m.used)
        abort();
    return 0;
}
