/* Sockets are not limited: a test that may open more is content, and one that lowers the limit
   fails. */
#ifndef SHIM_SYS_RESOURCE_H
#define SHIM_SYS_RESOURCE_H

typedef unsigned long long rlim_t;
struct rlimit { rlim_t rlim_cur, rlim_max; };
enum { RLIMIT_NOFILE };

static inline int getrlimit(int which, struct rlimit *out)
{
    (void)which;
    out->rlim_cur = out->rlim_max = 65536;
    return 0;
}

static inline int setrlimit(int which, const struct rlimit *limit)
{
    (void)which;
    return limit->rlim_cur < 65536 ? -1 : 0;
}

#endif
