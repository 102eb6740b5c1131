/* Included before each program of tests/unit, wire and live: what POSIX has beside C, and mingw-w64 has not. */
#ifndef SHIM_H
#define SHIM_H

#include <winsock2.h>
#include <windows.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { _SC_PAGESIZE = 1, F_GETFD = 1, F_SETFL = 4, O_NONBLOCK = 0x800 };

/* tests/help.h counts descriptors by it: of these, sockets.  Clients make theirs non-blocking. */
static inline int fcntl(int fd, int what, ...)
{
    SOCKET s = (SOCKET)(intptr_t)fd;
    u_long on = 1;
    int type, len = sizeof type;
    if (what == F_SETFL)
        return ioctlsocket(s, (long)FIONBIO, &on);
    return fd % 4 == 0 && getsockopt(s, SOL_SOCKET, SO_TYPE, (char *)&type, &len) == 0 ? 0 : -1;
}

/* One SIGALRM, on a thread of its own. */
struct itimerval { struct timeval it_interval, it_value; };
enum { SIGALRM = 14, ITIMER_REAL = 0 };
static void (*shim_on_alarm)(int);
static DWORD shim_alarm_ms;

static inline void (*shim_signal(int sig, void (*handler)(int)))(int)
{
    if (sig == SIGALRM)
        shim_on_alarm = handler;
    return sig == SIGALRM ? SIG_DFL : signal(sig, handler);
}

static inline DWORD WINAPI shim_alarm(void *unused)
{
    (void)unused;
    Sleep(shim_alarm_ms);
    if (shim_on_alarm)
        shim_on_alarm(SIGALRM);
    return 0;
}

static inline int setitimer(int which, const struct itimerval *t, void *old)
{
    (void)which, (void)old;
    shim_alarm_ms = (DWORD)t->it_value.tv_sec * 1000 + (DWORD)t->it_value.tv_usec / 1000;
    CloseHandle(CreateThread(NULL, 0, shim_alarm, NULL, 0, NULL));
    return 0;
}
#define signal(sig, handler) shim_signal(sig, handler)
#define timegm(tm) _mkgmtime(tm)

static inline char *strndup(const char *text, size_t most)
{
    size_t len = strnlen(text, most);
    char *copy = malloc(len + 1);
    if (copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
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
