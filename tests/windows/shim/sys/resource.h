/* There are no limits of a process: a test that sets one fails. */
#ifndef SHIM_SYS_RESOURCE_H
#define SHIM_SYS_RESOURCE_H

typedef unsigned long long rlim_t;
struct rlimit { rlim_t rlim_cur, rlim_max; };
enum { RLIMIT_NOFILE };

static inline int getrlimit(int which, struct rlimit *out)
{
    (void)which, (void)out;
    return -1;
}

static inline int setrlimit(int which, const struct rlimit *limit)
{
    (void)which, (void)limit;
    return -1;
}

#endif
