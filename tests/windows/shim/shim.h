/* Included before each program of tests/unit, wire, live and tls: what POSIX has beside C, and mingw-w64 has not. */
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
#include <sys/stat.h>
#include <unistd.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { _SC_PAGESIZE = 1, F_GETFD = 1, F_GETFL = 3, F_SETFL = 4, FD_CLOEXEC = 1, O_NONBLOCK = 0x800 };

/* tests/help.h counts descriptors by it: sockets and files, whose handles these are.  Clients make
   theirs non-blocking. */
static inline int fcntl(int fd, int what, ...)
{
    SOCKET s = (SOCKET)(intptr_t)fd;
    u_long on = 1;
    int type, len = sizeof type;
    DWORD is = 0;
    if (what == F_SETFL)
        return ioctlsocket(s, (long)FIONBIO, &on);
    if (what == F_GETFL)                /* Windows does not tell it */
        return O_NONBLOCK;
    if (what != F_GETFD || fd <= 0 || fd % 4 != 0)
        return -1;
    if (getsockopt(s, SOL_SOCKET, SO_TYPE, (char *)&type, &len) != 0 &&
            GetFileType((HANDLE)s) != FILE_TYPE_DISK)
        return -1;
    return GetHandleInformation((HANDLE)s, &is) && !(is & HANDLE_FLAG_INHERIT) ? FD_CLOEXEC : 0;
}

/* One SIGALRM, on a thread of its own; SIGUSR1, on the thread that sends it to another. */
struct itimerval { struct timeval it_interval, it_value; };
enum { SIGKILL = 9, SIGUSR1 = 10, SIGALRM = 14, SIGCONT = 18, SIGSTOP = 19, ITIMER_REAL = 0 };
static void (*shim_on_alarm)(int), (*shim_on_usr1)(int);
static DWORD shim_alarm_ms;

static inline void (*shim_signal(int sig, void (*handler)(int)))(int)
{
    if (sig == SIGALRM)
        shim_on_alarm = handler;
    if (sig == SIGUSR1)
        shim_on_usr1 = handler;
    return sig == SIGALRM || sig == SIGUSR1 ? SIG_DFL : signal(sig, handler);
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

static inline int shim_pthread_kill(pthread_t to, int sig)
{
    (void)to;
    if (sig == SIGUSR1 && shim_on_usr1)
        shim_on_usr1(sig);
    return 0;
}
#define pthread_kill(to, sig) shim_pthread_kill(to, sig)
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

/* Windows has no date before 1970, but the calendar repeats itself every 400 years. */
static inline struct tm *gmtime_r(const time_t *t, struct tm *out)
{
    time_t later = *t;
    int cycles = 0;
    for (; later < 0; cycles++)
        later += (time_t)146097 * 86400;
    if (gmtime_s(out, &later) != 0)
        return NULL;
    out->tm_year -= 400 * cycles;
    return out;
}

static inline void *memmem(const void *hay, size_t hay_len, const void *needle, size_t len)
{
    for (size_t i = 0; i + len <= hay_len; i++)
        if (memcmp((const char *)hay + i, needle, len) == 0)
            return (char *)hay + i;
    return NULL;
}

#endif
