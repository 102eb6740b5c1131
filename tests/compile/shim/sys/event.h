/* kqueue(2) for Linux, as much of it as httpsbind.h uses, over poll(2): so that the kqueue
   branch can be compiled and run here, with -DHSB_USE_KQUEUE -Itests/compile/shim.

   What real ones do and code may rely on is kept: READ and WRITE are two filters with two
   events; a filter that is added again keeps its trigger (EV_CLEAR or not); EV_DELETE of
   what is not there is ENOENT and stops the list of changes; a closed descriptor leaves by
   itself; FIN is EV_EOF on READ, a reset EV_EOF with the error in fflags; level-triggered
   events take turns.  One thread at a time may use one kqueue. */
#ifndef SHIM_SYS_EVENT_H
#define SHIM_SYS_EVENT_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned fflags;
    intptr_t data;
    void *udata;
};

enum { EVFILT_READ = -1, EVFILT_WRITE = -2 };
enum { EV_ADD = 0x1, EV_DELETE = 0x2, EV_CLEAR = 0x20, EV_ERROR = 0x4000, EV_EOF = 0x8000 };

static inline void shim_set(struct kevent *e, uintptr_t ident, short filter,
                            unsigned short flags, unsigned fflags, intptr_t data, void *udata)
{
    const struct kevent made = { ident, filter, flags, fflags, data, udata };
    *e = made;
}
#define EV_SET(e, ident, filter, flags, fflags, data, udata) \
    shim_set(e, ident, filter, flags, fflags, data, udata)

typedef struct shim_note {
    struct kevent asked;
    short told;                 /* with EV_CLEAR: the poll bits that were told already */
} shim_note;

/* The descriptor is an epoll one with the level-triggered notes in it, so that whoever
   polls the kqueue itself learns that something waits. */
typedef struct shim_kqueue {
    struct shim_kqueue *next;
    int fd;
    int count, space, turn;
    shim_note *notes;
    struct pollfd *polled;
} shim_kqueue;

/* Nobody tells us when a kqueue is closed: its number, come back, means a new one. */
static inline shim_kqueue *shim_find(int fd, int make)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static shim_kqueue *all;
    pthread_mutex_lock(&lock);
    shim_kqueue *q = all;
    while (q && q->fd != fd)
        q = q->next;
    if (!q && make) {
        q = calloc(1, sizeof *q);
        if (!q)
            abort();
        q->fd = fd;
        q->next = all;
        all = q;
    }
    if (q && make)
        q->count = 0;
    pthread_mutex_unlock(&lock);
    return q;
}

static inline int kqueue(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd >= 0)
        shim_find(fd, 1);
    return fd;
}

static inline int shim_place(const shim_kqueue *q, uintptr_t ident, short filter)
{
    for (int i = 0; i < q->count; i++)
        if (q->notes[i].asked.ident == ident && q->notes[i].asked.filter == filter)
            return i;
    return -1;
}

static inline void shim_mirror(const shim_kqueue *q, uintptr_t ident)
{
    struct epoll_event e;
    memset(&e, 0, sizeof e);
    int at = shim_place(q, ident, EVFILT_READ);
    if (at >= 0 && !(q->notes[at].asked.flags & EV_CLEAR))
        e.events |= EPOLLIN | EPOLLRDHUP;
    if (shim_place(q, ident, EVFILT_WRITE) >= 0)
        e.events |= EPOLLOUT;
    if (!e.events)
        epoll_ctl(q->fd, EPOLL_CTL_DEL, (int)ident, &e);
    else if (epoll_ctl(q->fd, EPOLL_CTL_MOD, (int)ident, &e) < 0)
        epoll_ctl(q->fd, EPOLL_CTL_ADD, (int)ident, &e);
}

static inline void shim_remove(shim_kqueue *q, int at)
{
    q->count--;
    memmove(q->notes + at, q->notes + at + 1, (size_t)(q->count - at) * sizeof *q->notes);
}

static inline int shim_add(shim_kqueue *q, const struct kevent *change)
{
    int at = shim_place(q, change->ident, change->filter);
    if (at >= 0) {
        q->notes[at].asked.udata = change->udata;
        return 0;
    }
    if (fcntl((int)change->ident, F_GETFD) < 0)
        return -1;
    if (q->count == q->space) {
        q->space = q->space ? q->space * 2 : 8;
        q->notes = realloc(q->notes, (size_t)q->space * sizeof *q->notes);
        q->polled = realloc(q->polled, (size_t)q->space * sizeof *q->polled);
        if (!q->notes || !q->polled)
            abort();
    }
    q->notes[q->count].asked = *change;
    q->notes[q->count++].told = 0;
    return 0;
}

static inline int shim_change(shim_kqueue *q, const struct kevent *change)
{
    int at = shim_place(q, change->ident, change->filter);
    if ((change->flags & EV_DELETE) && at < 0) {
        errno = ENOENT;
        return -1;
    }
    if (change->flags & EV_DELETE)
        shim_remove(q, at);
    else if (shim_add(q, change) < 0)
        return -1;
    shim_mirror(q, change->ident);
    return 0;
}

/* What poll() is to look for.  A hang-up cannot be masked there: once told to somebody who
   asked for edges, the descriptor is left out. */
static inline void shim_prepare(const shim_note *n, struct pollfd *p)
{
    const int wanted = n->asked.filter == EVFILT_READ ? POLLIN | POLLRDHUP : POLLOUT;
    p->fd = n->told & (POLLHUP | POLLERR) ? -1 : (int)n->asked.ident;
    p->events = (short)(wanted & ~n->told);
    p->revents = 0;
}

static inline void shim_event(shim_note *n, short got, struct kevent *out)
{
    const int end = n->asked.filter == EVFILT_READ ? POLLRDHUP | POLLHUP | POLLERR
                                                   : POLLHUP | POLLERR;
    *out = n->asked;
    out->flags = (unsigned short)((n->asked.flags & EV_CLEAR) | (got & end ? EV_EOF : 0));
    out->fflags = got & POLLERR ? ECONNRESET : 0;
    if (n->asked.flags & EV_CLEAR)
        n->told = (short)(n->told | got);
}

static inline int shim_gather(shim_kqueue *q, struct kevent *out, int max)
{
    int len = 0;
    for (int i = 0; i < q->count; i++) {
        if (q->polled[i].revents & POLLNVAL) {
            for (int j = i; j + 1 < q->count; j++)
                q->polled[j] = q->polled[j + 1];
            shim_remove(q, i--);
        }
    }
    for (int looked = 0; looked < q->count && len < max; looked++) {
        int at = q->turn < q->count ? q->turn : 0;
        q->turn = at + 1;
        if (q->polled[at].revents)
            shim_event(&q->notes[at], q->polled[at].revents, &out[len++]);
    }
    return len;
}

static inline int kevent(int fd, const struct kevent *changes, int change_count,
                         struct kevent *out, int max, const struct timespec *timeout)
{
    shim_kqueue *q = shim_find(fd, 0);
    if (!q) {
        errno = EBADF;
        return -1;
    }
    for (int i = 0; i < change_count; i++)
        if (shim_change(q, &changes[i]) < 0)
            return -1;
    if (max == 0)
        return 0;
    for (int i = 0; i < q->count; i++)
        shim_prepare(&q->notes[i], &q->polled[i]);
    int ms = timeout ? (int)(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000) : -1;
    int n = poll(q->polled, (nfds_t)q->count, ms);
    return n <= 0 ? n : shim_gather(q, out, max);
}

#endif
