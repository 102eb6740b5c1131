/* Copies that end (or begin) at a page which may not be touched: a parser that reads one
   byte too many dies at once, and not only under a sanitizer. */
#ifndef GUARD_H
#define GUARD_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct guard_block {
    char *base;                 /* a page, `space` bytes, a page                           */
    size_t space;
} guard_block;

enum { GUARD_BLOCKS = 16 };     /* so many copies are good at the same time                */

static inline guard_block *guard_next(size_t len)
{
    static guard_block ring[GUARD_BLOCKS];
    static unsigned turn;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guard_block *b = &ring[turn++ % GUARD_BLOCKS];
    if (b->space >= len && b->space)
        return b;
    if (b->base)
        munmap(b->base, b->space + 2 * page);
    b->space = (len / page + 1) * page;
    b->base = mmap(NULL, b->space + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->base == MAP_FAILED || mprotect(b->base + page, b->space, PROT_READ | PROT_WRITE))
        abort();
    return b;
}

static inline char *guard_place(guard_block *b, size_t at, const void *bytes, size_t len)
{
    char *copy = b->base + (size_t)sysconf(_SC_PAGESIZE) + at;
    if (len)
        memcpy(copy, bytes, len);
    return copy;
}

/* Its last byte is right before the page.  Good until GUARD_BLOCKS calls later. */
static inline char *guard_copy(const void *bytes, size_t len)
{
    guard_block *b = guard_next(len);
    return guard_place(b, b->space - len, bytes, len);
}

/* Its first byte is right behind the page: for what looks backwards.  As above. */
static inline char *guard_copy_front(const void *bytes, size_t len)
{
    return guard_place(guard_next(len), 0, bytes, len);
}

#endif
