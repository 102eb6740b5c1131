/* A network with nobody else in it, and processes that may spoil what they like of themselves.
   Include httpsbind.h before this. */
#ifndef TESTS_NETWORK_H
#define TESTS_NETWORK_H

#include "help.h"
#include <sys/ioctl.h>
#include <sys/wait.h>
#ifdef __linux__
#  include <sched.h>
#endif

/* For this process from now on, with the ports that the system may pick.  False: not here. */
static inline bool own_network(int lowest, int highest)
{
#ifdef __linux__
    struct ifreq lo;
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    memset(&lo, 0, sizeof lo);
    strcpy(lo.ifr_name, "lo");
    lo.ifr_flags = IFF_UP;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
    close(fd);
    FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
    bool set = f && fprintf(f, "%d %d\n", lowest, highest) > 0;
    if (f)
        set = fclose(f) == 0 && set;
    return up && set;
#else
    (void)lowest;
    (void)highest;
    return false;
#endif
}

/* One more address of our own, in that network. */
static inline bool add_to_loopback(const char *number)
{
#ifdef __linux__
    struct { struct in6_addr address; uint32_t prefix_len; int interface; } request;
    if (inet_pton(AF_INET6, number, &request.address) != 1)
        return false;
    request.prefix_len = 64;
    request.interface = (int)if_nametoindex("lo");
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    bool added = fd >= 0 && ioctl(fd, SIOCSIFADDR, &request) == 0;
    close(fd);
    return added;
#else
    (void)number;
    return false;
#endif
}

/* Runs body in a child.  Where the child has not the rights that it needs, it returns
   child_skips, and the test is skipped. */
enum { CHILD_OK = 0, CHILD_SKIP = 77 };

static inline int child_skips(const char *why)
{
    print_message("skipped: %s\n", why);
    fflush(stdout);
    return CHILD_SKIP;
}

static inline void in_child(int (*body)(void))
{
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIP)
        skip();
    assert_int_equal(status, CHILD_OK);
}

#endif
