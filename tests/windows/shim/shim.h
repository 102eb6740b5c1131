/* Included before each unit program: what POSIX has beside C, and mingw-w64 has not. */
#ifndef SHIM_H
#define SHIM_H

#include <winsock2.h>
#include <windows.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { _SC_PAGESIZE = 1, F_GETFD = 1 };

/* tests/help.h counts descriptors by it; handles are counted in tests/windows/clients.py.  */
static inline int fcntl(int fd, int what)
{
    (void)fd, (void)what;
    return -1;
}

static inline long sysconf(int what)
{
    SYSTEM_INFO info;
    (void)what;
    GetSystemInfo(&info);
    return (long)info.dwPageSize;
}

static inline int poll(struct pollfd *fds, unsigned long n, int timeout_ms)
{
    return WSAPoll(fds, n, timeout_ms);
}

static inline struct tm *gmtime_r(const time_t *t, struct tm *out)
{
    return gmtime_s(out, t) == 0 ? out : NULL;
}

static inline void *memmem(const void *hay, size_t hay_len, const void *needle, size_t len)
{
    for (size_t i = 0; i + len <= hay_len; i++)
        if (memcmp((const char *)hay + i, needle, len) == 0)
            return (char *)hay + i;
    return NULL;
}

#endif
