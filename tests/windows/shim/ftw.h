/* As much of nftw(3) as tests/help.h uses: what is in a folder, and the folder last. */
#ifndef SHIM_FTW_H
#define SHIM_FTW_H

#include "files.h"

struct FTW { int base, level; };
enum { FTW_DEPTH = 1, FTW_PHYS = 2 };

static inline int nftw(const char *path, int (*f)(const char *, const struct stat *, int, struct FTW *),
                       int descriptors, int flags)
{
    char name[1024];
    WIN32_FIND_DATAW found;
    int result = 0;
    snprintf(name, sizeof name, "%s/*", path);
    HANDLE all = FindFirstFileW(shim_wide(name), &found);
    for (BOOL more = all != INVALID_HANDLE_VALUE; more && !result; more = FindNextFileW(all, &found)) {
        int len = snprintf(name, sizeof name, "%s/", path);
        if (!wcscmp(found.cFileName, L".") || !wcscmp(found.cFileName, L".."))
            continue;
        WideCharToMultiByte(CP_UTF8, 0, found.cFileName, -1, name + len, (int)sizeof name - len, NULL, NULL);
        result = nftw(name, f, descriptors, flags);
    }
    FindClose(all);
    return result ? result : f(path, NULL, 0, NULL);
}

#endif
