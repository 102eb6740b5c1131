/* As much of mmap(2) as tests/unit/guard.h uses. */
#ifndef SHIM_SYS_MMAN_H
#define SHIM_SYS_MMAN_H

#include <winsock2.h>
#include <windows.h>

enum { PROT_NONE = PAGE_NOACCESS, PROT_READ = PAGE_READONLY, PROT_WRITE = PAGE_READWRITE };
enum { MAP_PRIVATE = 1, MAP_ANONYMOUS = 2 };
#define MAP_FAILED ((void *)-1)

static inline void *mmap(void *at, size_t len, int protection, int flags, int fd, long offset)
{
    (void)flags, (void)fd, (void)offset;
    void *p = VirtualAlloc(at, len, MEM_RESERVE | MEM_COMMIT, (DWORD)protection);
    return p ? p : MAP_FAILED;
}

static inline int mprotect(void *at, size_t len, int protection)
{
    DWORD before;
    DWORD now = protection & PROT_WRITE ? PAGE_READWRITE : (DWORD)protection;
    return VirtualProtect(at, len, now, &before) ? 0 : -1;
}

static inline int munmap(void *at, size_t len)
{
    (void)len;
    return VirtualFree(at, 0, MEM_RELEASE) ? 0 : -1;
}

#endif
