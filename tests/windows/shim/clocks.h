/* Included before a program that has a clock_gettime of its own for httpsbind.h, which asks
   Windows instead: what it asks is answered from there.                                     */
#ifndef SHIM_CLOCKS_H
#define SHIM_CLOCKS_H

#define QueryPerformanceFrequency(out) ((void)((out)->QuadPart = 1000000000))
#define QueryPerformanceCounter(out) do { \
        struct timespec shim_now; \
        clock_gettime(CLOCK_MONOTONIC, &shim_now); \
        (out)->QuadPart = shim_now.tv_sec * 1000000000LL + shim_now.tv_nsec; \
    } while (0)
#define GetSystemTimeAsFileTime(out) do { \
        struct timespec shim_now; \
        clock_gettime(CLOCK_REALTIME, &shim_now); \
        const uint64_t shim_time = (uint64_t)shim_now.tv_sec * 10000000 + \
                                   UINT64_C(116444736000000000); \
        (out)->dwLowDateTime = (DWORD)shim_time; \
        (out)->dwHighDateTime = (DWORD)(shim_time >> 32); \
    } while (0)

#endif
