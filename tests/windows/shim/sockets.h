/* Sockets as tests/client.h and tests/wire have them, over Winsock.  It comes after httpsbind.h,
   which calls Winsock itself.                                                              */
#ifndef SHIM_SOCKETS_H
#define SHIM_SOCKETS_H

#include <winsock2.h>
#include <ws2tcpip.h>
#include <errno.h>
#include <io.h>
#include <signal.h>
#include <stdint.h>

enum { MSG_NOSIGNAL = 0, MSG_DONTWAIT = 0, SHUT_RD = SD_RECEIVE, SHUT_WR = SD_SEND, SHUT_RDWR = SD_BOTH };
#define SIGPIPE 13

static inline SOCKET shim_socket_of(int fd)
{
    return (SOCKET)(intptr_t)fd;
}

static inline int shim_result(int n)
{
    int code = WSAGetLastError();
    if (n < 0)
        errno = code == WSAEWOULDBLOCK ? EAGAIN : code == WSAECONNRESET ? ECONNRESET :
                code == WSAECONNREFUSED ? ECONNREFUSED : EIO;
    return n;
}

static inline int shim_socket(int family, int type, int protocol)
{
    return shim_result((int)(intptr_t)socket(family, type, protocol));
}

static inline int shim_connect(int fd, const struct sockaddr *to, int len)
{
    return shim_result(connect(shim_socket_of(fd), to, len));
}

static inline ptrdiff_t shim_recv(int fd, void *out, size_t len, int flags)
{
    return shim_result(recv(shim_socket_of(fd), out, (int)len, flags));
}

static inline ptrdiff_t shim_send(int fd, const void *bytes, size_t len, int flags)
{
    return shim_result(send(shim_socket_of(fd), bytes, (int)len, flags));
}

/* A time is milliseconds here.                                                             */
static inline int shim_setsockopt(int fd, int level, int name, const void *value, int len)
{
    const struct timeval *time = value;
    DWORD ms;
    if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO)) {
        ms = (DWORD)time->tv_sec * 1000 + (DWORD)time->tv_usec / 1000;
        value = &ms;
        len = sizeof ms;
    }
    return shim_result(setsockopt(shim_socket_of(fd), level, name, value, len));
}

static inline int shim_getsockname(int fd, struct sockaddr *out, int *len)
{
    return shim_result(getsockname(shim_socket_of(fd), out, len));
}

static inline int shim_bind(int fd, const struct sockaddr *at, int len)
{
    return shim_result(bind(shim_socket_of(fd), at, len));
}

/* On any port, if it has none yet.                                                         */
static inline int shim_listen(int fd, int backlog)
{
    static const struct sockaddr_in any = { .sin_family = AF_INET };
    if (listen(shim_socket_of(fd), backlog) < 0 && WSAGetLastError() == WSAEINVAL)
        bind(shim_socket_of(fd), (const struct sockaddr *)&any, sizeof any);
    return shim_result(listen(shim_socket_of(fd), backlog));
}

static inline int shim_accept(int fd, struct sockaddr *from, int *len)
{
    return shim_result((int)(intptr_t)accept(shim_socket_of(fd), from, len));
}

static inline int shim_shutdown(int fd, int how)
{
    return shim_result(shutdown(shim_socket_of(fd), how));
}

static inline int shim_close(int fd)
{
    return closesocket(shim_socket_of(fd)) == 0 ? 0 : _close(fd);
}

/* Of a socket, or of a file. */
static inline ptrdiff_t shim_write(int fd, const void *bytes, size_t len)
{
    const ptrdiff_t n = shim_send(fd, bytes, len, 0);
    return n < 0 && WSAGetLastError() == WSAENOTSOCK ? _write(fd, bytes, (unsigned)len) : n;
}

static inline int socketpair(int family, int type, int protocol, int ends[2])
{
    (void)family, (void)type, (void)protocol, (void)ends;
    return -1;
}

static inline ptrdiff_t shim_read(int fd, void *out, size_t len)
{
    const ptrdiff_t n = shim_recv(fd, out, len, 0);
    return n < 0 && WSAGetLastError() == WSAENOTSOCK ? _read(fd, out, (unsigned)len) : n;
}

typedef int socklen_t;
struct sockaddr_un { short sun_family; char sun_path[108]; };
#define socket(a, b, c) shim_socket(a, b, c)
#define connect(a, b, c) shim_connect(a, b, c)
#define recv(a, b, c, d) shim_recv(a, b, c, d)
#define send(a, b, c, d) shim_send(a, b, c, d)
#define setsockopt(a, b, c, d, e) shim_setsockopt(a, b, c, d, e)
#define getsockname(a, b, c) shim_getsockname(a, b, c)
#define bind(a, b, c) shim_bind(a, b, c)
#define listen(a, b) shim_listen(a, b)
#define accept(a, b, c) shim_accept(a, b, c)
#define shutdown(a, b) shim_shutdown(a, b)
#define close(a) shim_close(a)
#define read(a, b, c) shim_read(a, b, c)
#define write(a, b, c) shim_write(a, b, c)

/* As an hsb_error has it. */
#undef EADDRINUSE
#define EADDRINUSE WSAEADDRINUSE
#undef EADDRNOTAVAIL
#define EADDRNOTAVAIL WSAEADDRNOTAVAIL

/* Names of tests that Windows has, too. */
#define tell test_tell
#define LONG test_LONG
#define SHORT test_SHORT

#endif
