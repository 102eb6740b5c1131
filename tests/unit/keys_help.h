/* What the tests of keys, certificates and TLS share: a memory that remembers, and looks into
   what is given back. */
#ifndef KEYS_HELP_H
#define KEYS_HELP_H

#include "help.h"

typedef struct help_memory {
    int         fail_at;            /* this allocation fails, counted from 1; 0: none    */
    int         count;
    const void *secret;             /* must not be in a block that is given back         */
    size_t      secret_len;
    bool        leaked;
} help_memory;

static inline void *help_alloc(size_t size, void *user)
{
    help_memory *h = user;
    return ++h->count == h->fail_at ? NULL : malloc(size);
}

static inline void help_release(void *ptr, size_t size, void *user)
{
    help_memory *h = user;
    if (h->secret && memmem(ptr, size, h->secret, h->secret_len))
        h->leaked = true;
    free(ptr);
}

static inline hsb__memory help_memory_of(help_memory *h)
{
    hsb__memory m = { { help_alloc, help_release, NULL }, 0 };
    m.user.user = h;
    return m;
}

static inline hsb_pem help_file(const char *path)
{
    hsb_pem pem = { path, { NULL, 0 } };
    return pem;
}

static inline hsb_pem help_text(const char *text, size_t len)
{
    hsb_pem pem = { NULL, { text, len } };
    return pem;
}

/* A file of tests/data, which may be asked for by one call at a time. */
static inline hsb_pem help_data(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "tests/data/%s", name);
    return help_file(path);
}

/* The whole of a file; the caller frees it. */
static inline char *help_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *bytes = malloc(1 << 20);
    *len = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

#endif
