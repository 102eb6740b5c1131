/* Nothing that runs here walks a tree: this is for tests/help.h to compile. */
#ifndef SHIM_FTW_H
#define SHIM_FTW_H

#include <errno.h>
#include <sys/stat.h>

struct FTW { int base, level; };
enum { FTW_DEPTH = 1, FTW_PHYS = 2 };

static inline int nftw(const char *path, int (*f)(const char *, const struct stat *, int, struct FTW *),
                       int descriptors, int flags)
{
    (void)path, (void)f, (void)descriptors, (void)flags;
    errno = ENOSYS;
    return -1;
}

#endif
