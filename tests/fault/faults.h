/* Every system call and every allocation of httpsbind.h asks HSB_FAULT first; here it is
   answered.  Include this before httpsbind.h; it defines HTTPSBIND_IMPLEMENTATION.

     fault_plan("recv", 3, EINTR)       the third recv from now on fails so, once
     injected.forever = true               and every later one
     injected.cut = 5                      recv, send and pread take 5 bytes at most
     injected.leap_at = 4               the fifth wait in the poller ends with clocks that
     injected.leap_us, .leap_wall       are so much ahead (microseconds and seconds)
     fault_none()                       all is well again                                  */
#ifndef TESTS_FAULT_FAULTS_H
#define TESTS_FAULT_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

static struct {
    const char *call;           /* NULL: none fails                                        */
    long        nth;            /* of these calls                                          */
    int         code;
    bool        forever;
    bool        hit;            /* it has failed                                           */
    long        seen;           /* of these calls so far                                   */
    size_t      cut;            /* 0: not                                                  */
    long        leap_at, polls;
    int64_t     leap_us, leap_wall;
} injected;

static long faults_tried;       /* in this program                                         */

static inline void fault_none(void)
{
    memset(&injected, 0, sizeof injected);
}

static inline void fault_plan(const char *call, long nth, int code)
{
    fault_none();
    injected.call = call;
    injected.nth = nth;
    injected.code = code;
}

static inline int fault_ask(const char *call, size_t *count)
{
    if (count && injected.cut && *count > injected.cut)
        *count = injected.cut;
    if (strcmp(call, "poll") == 0)
        injected.polls++;
    if (!injected.call || strcmp(call, injected.call) != 0)
        return 0;
    injected.seen++;
    if (injected.seen != injected.nth && !(injected.forever && injected.seen > injected.nth))
        return 0;
    injected.hit = true;
    return injected.code;
}

static inline int fault_clock(clockid_t clock, struct timespec *t)
{
    int result = clock_gettime(clock, t);
    if (injected.polls <= injected.leap_at)
        return result;
    if (clock == CLOCK_REALTIME) {
        t->tv_sec += (time_t)injected.leap_wall;
    } else {
        int64_t us = (int64_t)t->tv_sec * 1000000 + t->tv_nsec / 1000 + injected.leap_us;
        t->tv_sec = (time_t)(us / 1000000);
        t->tv_nsec = (long)(us % 1000000 * 1000);
    }
    return result;
}

#define HSB_FAULT(call, count) fault_ask(call, count)
#define clock_gettime fault_clock
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#undef clock_gettime

#endif
