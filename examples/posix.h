/* What the examples ask of POSIX beside what httpsbind.h includes.  On Windows, these calls in
   terms of the system's own, as far as the examples use them: names are UTF-8, and no link is
   followed below a folder.                                                                 */
#ifndef HTTPSBIND_EXAMPLES_POSIX_H
#define HTTPSBIND_EXAMPLES_POSIX_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#if !defined(_WIN32)
#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

/* Whether a path below root names what it says, and nothing by another name.               */
static inline bool posix_is_own_name(const char *root, const char *path)
{
    (void)root, (void)path;
    return true;
}

#else
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <shellapi.h>
#include <io.h>
#include <process.h>
#include <sys/types.h>
#include <unistd.h>

#undef PATH_MAX
#undef NAME_MAX
#define PATH_MAX      4096              /* bytes of UTF-8                                  */
#define NAME_MAX      (3 * 255)
#define HOST_NAME_MAX 255
enum {
    AT_SYMLINK_NOFOLLOW = 1,
    LOCK_EX = 2, LOCK_NB = 4,
    O_DIRECTORY = 0x10000000, O_CLOEXEC = 0, O_NOFOLLOW = 0, O_NONBLOCK = 0
};

/* False, and errno says why.                                                              */
static inline bool posix_fail(void)
{
    DWORD code = GetLastError();
    errno = code == ERROR_FILE_EXISTS || code == ERROR_ALREADY_EXISTS ? EEXIST :
            code == ERROR_ACCESS_DENIED || code == ERROR_SHARING_VIOLATION ? EACCES :
            code == ERROR_DISK_FULL ? ENOSPC : ENOENT;
    return false;
}

/* --- names ------------------------------------------------------------------------------- */
typedef struct posix_path { WCHAR text[PATH_MAX + 8]; } posix_path;

static inline bool posix_wide(const char *utf8, WCHAR *out, int size)
{
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, utf8, -1, out, size) > 0 || posix_fail();
}

static inline bool posix_utf8(const WCHAR *wide, char *out, int size)
{
    return WideCharToMultiByte(CP_UTF8, 0, wide, -1, out, size, NULL, NULL) > 0 || posix_fail();
}

/* In full, behind \\?\, where the system takes names as they are, also long ones.           */
static inline bool posix_full(const char *path, posix_path *out)
{
    WCHAR given[PATH_MAX], full[PATH_MAX];
    if (!posix_wide(path, given, PATH_MAX))
        return false;
    DWORD len = GetFullPathNameW(given, PATH_MAX, full, NULL);
    if (len == 0 || len >= PATH_MAX)
        return posix_fail();
    bool share = full[0] == '\\' && full[1] == '\\', ready = share && (full[2] == '?' || full[2] == '.');
    wcscpy(out->text, ready ? L"" : share ? L"\\\\?\\UNC" : L"\\\\?\\");
    wcscat(out->text, full + (share && !ready));
    return true;
}

/* What an open descriptor is, and a name below it; NULL: itself.                           */
static inline bool posix_below(int dir, const char *name, posix_path *out)
{
    DWORD len = GetFinalPathNameByHandleW((HANDLE)_get_osfhandle(dir), out->text, PATH_MAX, 0);
    if (len == 0 || len + 2 >= PATH_MAX)
        return posix_fail();
    if (!name)
        return true;
    out->text[len] = '\\';
    return !strpbrk(name, "/\\:") && posix_wide(name, out->text + len + 1, (int)(PATH_MAX - len - 1));
}

/* Whether each segment of a path below root is a name that its folder lists: no stream, no short
   name, nothing that the system would drop or change, and no link.                         */
static inline bool posix_is_own_name(const char *root, const char *path)
{
    posix_path at;
    if (strpbrk(path, "\\:*?\"<>|") || !posix_full(root, &at))
        return false;
    for (path += strspn(path, "/"); *path; path += strspn(path, "/")) {
        WIN32_FIND_DATAW found;
        char name[NAME_MAX + 1];
        size_t len = strcspn(path, "/"), end = wcslen(at.text);
        if (len > NAME_MAX || end + len + 2 > PATH_MAX)
            return false;
        memcpy(name, path, len);
        name[len] = '\0';
        path += len;
        if (at.text[end - 1] != '\\')
            at.text[end++] = '\\';
        if (!posix_wide(name, at.text + end, (int)(PATH_MAX - end)))
            return false;
        HANDLE find = FindFirstFileW(at.text, &found);
        if (find == INVALID_HANDLE_VALUE)
            return false;
        FindClose(find);
        if ((found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) ||
            CompareStringOrdinal(found.cFileName, -1, at.text + end, -1, TRUE) != CSTR_EQUAL)
            return false;
    }
    return true;
}

/* --- files ------------------------------------------------------------------------------- */
/* A file that is written is written by one: nobody else opens it for that, and this does what
   flock does elsewhere.  A folder that is open is not renamed.                             */
static inline int posix_open_at(const posix_path *p, int flags)
{
    bool writes = (flags & (O_WRONLY | O_RDWR)) != 0, folder = (flags & O_DIRECTORY) != 0;
    BY_HANDLE_FILE_INFORMATION info;
    HANDLE h = CreateFileW(p->text, writes ? GENERIC_READ | GENERIC_WRITE : GENERIC_READ,
                           FILE_SHARE_READ | (folder ? 0 : FILE_SHARE_DELETE) | (writes ? 0 : FILE_SHARE_WRITE),
                           NULL, !(flags & O_CREAT) ? OPEN_EXISTING : flags & O_EXCL ? CREATE_NEW :
                           flags & O_TRUNC ? CREATE_ALWAYS : OPEN_ALWAYS,
                           FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
    if (h == INVALID_HANDLE_VALUE)
        return posix_fail() - 1;
    if (GetFileInformationByHandle(h, &info) && !(info.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) &&
        (!folder || (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY)))
        return _open_osfhandle((intptr_t)h, flags & O_APPEND);
    CloseHandle(h);
    errno = ENOTDIR;
    return -1;
}

/* The mode of what is made is what its folder says.                                        */
static inline int posix_open(const char *path, int flags, ...)
{
    posix_path p;
    return posix_full(path, &p) ? posix_open_at(&p, flags) : -1;
}

static inline int openat(int dir, const char *name, int flags, ...)
{
    posix_path p;
    return posix_below(dir, name, &p) ? posix_open_at(&p, flags) : -1;
}

static inline FILE *posix_fopen(const char *path, const char *mode)
{
    bool reads = mode[0] == 'r';
    int fd = posix_open(path, reads ? O_RDONLY : O_WRONLY | O_CREAT | (strchr(mode, 'x') ? O_EXCL : O_TRUNC));
    return fd < 0 ? NULL : fdopen(fd, reads ? "rb" : "wb");
}

static inline ssize_t posix_write(int fd, const void *bytes, size_t len)
{
    return _write(fd, bytes, len < INT_MAX ? (unsigned)len : INT_MAX);
}

/* Files are locked by posix_open_at; a folder by a file that is in it for as long as we run. */
static inline int flock(int fd, int how)
{
    BY_HANDLE_FILE_INFORMATION info;
    posix_path p;
    (void)how;
    if (fd < 0 || !GetFileInformationByHandle((HANDLE)_get_osfhandle(fd), &info))
        return -1;
    if (!(info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY))
        return 0;
    return posix_below(fd, ".lock", &p) &&
           CreateFileW(p.text, GENERIC_WRITE, 0, NULL, OPEN_ALWAYS, FILE_FLAG_DELETE_ON_CLOSE, NULL)
           != INVALID_HANDLE_VALUE ? 0 : posix_fail() - 1;
}

static inline int posix_remove(const char *path)
{
    posix_path p;
    return posix_full(path, &p) && (DeleteFileW(p.text) || posix_fail()) ? 0 : -1;
}

static inline int unlinkat(int dir, const char *name, int flags)
{
    posix_path p;
    (void)flags;
    return posix_below(dir, name, &p) && (DeleteFileW(p.text) || posix_fail()) ? 0 : -1;
}

static inline int posix_rename(const char *from, const char *to)
{
    posix_path old, fresh;
    return posix_full(from, &old) && posix_full(to, &fresh) &&
           (MoveFileExW(old.text, fresh.text, MOVEFILE_REPLACE_EXISTING) || posix_fail()) ? 0 : -1;
}

/* The old name goes: not every file system can have two of them.  EEXIST, if to is there.   */
static inline int linkat(int dir, const char *from, int to_dir, const char *to, int flags)
{
    posix_path old, fresh;
    (void)flags;
    return posix_below(dir, from, &old) && posix_below(to_dir, to, &fresh) &&
           (MoveFileExW(old.text, fresh.text, 0) || posix_fail()) ? 0 : -1;
}

static inline int posix_mkdir(const char *path, int mode)
{
    posix_path p;
    (void)mode;
    return posix_full(path, &p) && (CreateDirectoryW(p.text, NULL) || posix_fail()) ? 0 : -1;
}

static inline int posix_rmdir(const char *path)
{
    posix_path p;
    return posix_full(path, &p) && (RemoveDirectoryW(p.text) || posix_fail()) ? 0 : -1;
}

static inline int posix_chdir(const char *path)
{
    WCHAR wide[PATH_MAX];
    return posix_wide(path, wide, PATH_MAX) && (SetCurrentDirectoryW(wide) || posix_fail()) ? 0 : -1;
}

#define S_ISLNK(mode) ((mode) == 0)     /* and then it is nothing else, either             */

/* --- what is known of a file ------------------------------------------------------------- */
struct posix_stat { unsigned st_mode; int64_t st_size; time_t st_mtime; DWORD st_dev; uint64_t st_ino; };

static inline int posix_stat_at(const posix_path *p, struct posix_stat *st, DWORD flags)
{
    BY_HANDLE_FILE_INFORMATION info;
    HANDLE h = CreateFileW(p->text, FILE_READ_ATTRIBUTES, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                           NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS | flags, NULL);
    bool known = h != INVALID_HANDLE_VALUE && GetFileInformationByHandle(h, &info);
    if (!known)
        posix_fail();
    if (h != INVALID_HANDLE_VALUE)
        CloseHandle(h);
    if (!known)
        return -1;
    uint64_t ticks = (uint64_t)info.ftLastWriteTime.dwHighDateTime << 32 | info.ftLastWriteTime.dwLowDateTime;
    st->st_mode = info.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT ? 0 :    /* a link: not for us */
                  info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY ? S_IFDIR : S_IFREG;
    st->st_size = (int64_t)((uint64_t)info.nFileSizeHigh << 32 | info.nFileSizeLow);
    st->st_mtime = (time_t)(ticks / 10000000) - INT64_C(11644473600);
    st->st_dev = info.dwVolumeSerialNumber;
    st->st_ino = (uint64_t)info.nFileIndexHigh << 32 | info.nFileIndexLow;
    return 0;
}

static inline int posix_stat(const char *path, struct posix_stat *st)
{
    posix_path p;
    return posix_full(path, &p) ? posix_stat_at(&p, st, 0) : -1;
}

static inline int lstat(const char *path, struct posix_stat *st)
{
    posix_path p;
    return posix_full(path, &p) ? posix_stat_at(&p, st, FILE_FLAG_OPEN_REPARSE_POINT) : -1;
}

static inline int fstatat(int dir, const char *name, struct posix_stat *st, int flags)
{
    posix_path p;
    (void)flags;
    return posix_below(dir, name, &p) ? posix_stat_at(&p, st, FILE_FLAG_OPEN_REPARSE_POINT) : -1;
}

static inline int posix_access(const char *path, int mode)
{
    struct posix_stat st;
    (void)mode;
    return posix_stat(path, &st);
}

/* With slashes: "C:/photos", "//server/photos".                                            */
static inline char *realpath(const char *path, char *out)
{
    posix_path p;
    int fd = posix_open(path, O_RDONLY);
    bool found = fd >= 0 && posix_below(fd, NULL, &p);
    bool share = found && wcsncmp(p.text, L"\\\\?\\UNC\\", 8) == 0;
    if (share)
        p.text[6] = '\\';               /* the first of two                                */
    found = found && posix_utf8(p.text + (share ? 6 : 4), out, PATH_MAX);
    if (fd >= 0)
        close(fd);
    for (char *c = out; found && *c; c++)
        *c = *c == '\\' ? '/' : *c;
    return found ? out : NULL;
}

/* --- folders ----------------------------------------------------------------------------- */
struct dirent { char d_name[NAME_MAX + 1]; };

typedef struct DIR {
    int              fd;
    HANDLE           find;              /* INVALID_HANDLE_VALUE: not begun                 */
    WIN32_FIND_DATAW found;
    struct dirent    entry;
} DIR;

static inline DIR *fdopendir(int fd)
{
    DIR *dir = fd < 0 ? NULL : malloc(sizeof *dir);
    if (dir) {
        dir->fd = fd;
        dir->find = INVALID_HANDLE_VALUE;
    }
    return dir;
}

static inline DIR *opendir(const char *path)
{
    int fd = posix_open(path, O_RDONLY | O_DIRECTORY);
    DIR *dir = fdopendir(fd);
    if (!dir && fd >= 0)
        close(fd);
    return dir;
}

/* Without links.                                                                          */
static inline struct dirent *readdir(DIR *dir)
{
    posix_path p;
    for (bool more = true; more;) {
        if (dir->find != INVALID_HANDLE_VALUE)
            more = FindNextFileW(dir->find, &dir->found);
        else
            more = posix_below(dir->fd, "*", &p) &&
                   (dir->find = FindFirstFileW(p.text, &dir->found)) != INVALID_HANDLE_VALUE;
        if (more && !(dir->found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) &&
            posix_utf8(dir->found.cFileName, dir->entry.d_name, NAME_MAX + 1))
            return &dir->entry;         /* half of a pair in UTF-16 has no name here        */
    }
    return NULL;
}

static inline int dirfd(const DIR *dir)
{
    return dir->fd;
}

static inline int closedir(DIR *dir)
{
    if (dir->find != INVALID_HANDLE_VALUE)
        FindClose(dir->find);
    close(dir->fd);
    free(dir);
    return 0;
}

static inline int alphasort(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static inline int scandir(const char *path, struct dirent ***all, int (*wanted)(const struct dirent *),
                          int (*compare)(const struct dirent **, const struct dirent **))
{
    DIR *dir = opendir(path);
    int count = 0;
    *all = NULL;
    for (struct dirent *d; dir && (d = readdir(dir)) != NULL;) {
        struct dirent **more = wanted && !wanted(d) ? NULL : realloc(*all, ((size_t)count + 1) * sizeof *more);
        *all = more ? more : *all;
        if (more && (more[count] = malloc(sizeof *d)) != NULL)
            *more[count++] = *d;
    }
    if (count)
        qsort(*all, (size_t)count, sizeof **all, (int (*)(const void *, const void *))compare);
    return dir ? closedir(dir), count : -1;
}

/* --- the rest ---------------------------------------------------------------------------- */
static inline struct tm *posix_localtime(const time_t *when, struct tm *out)
{
    return localtime_s(out, when) == 0 ? out : NULL;
}

static inline struct tm *posix_gmtime(const time_t *when, struct tm *out)
{
    return gmtime_s(out, when) == 0 ? out : NULL;
}

/* As elsewhere, "+0100" for %z; here it is a name in the language of the machine.           */
static inline size_t posix_strftime(char *out, size_t size, const char *format, const struct tm *t)
{
    const char *zone = strstr(format, "%z");
    char whole[80];
    if (!zone)
        return strftime(out, size, format, t);
    struct tm local = *t;
    time_t utc = mktime(&local);
    int east = (int)((_mkgmtime(&local) - utc) / 60), minutes = abs(east);
    snprintf(whole, sizeof whole, "%.*s%c%02d%02d%s", (int)(zone - format), format, east < 0 ? '-' : '+',
             minutes / 60, minutes % 60, zone + 2);
    return strftime(out, size, whole, t);
}

/* Of outputs only: whoever writes to one waits for its reader.                            */
struct posix_pollfd { int fd; short events, revents; };

static inline int poll(struct posix_pollfd *outputs, unsigned long count, int timeout_ms)
{
    (void)timeout_ms;
    for (unsigned long i = 0; i < count; i++)
        outputs[i].revents = outputs[i].events;
    return (int)count;
}

struct ifaddrs { struct ifaddrs *ifa_next; struct sockaddr *ifa_addr; unsigned ifa_flags; };

/* The addresses of this machine's name; the system gives all of them for "".              */
static inline void freeifaddrs(struct ifaddrs *all)
{
    for (struct ifaddrs *next; all; all = next) {
        next = all->ifa_next;
        free(all);
    }
}

static inline int getifaddrs(struct ifaddrs **all)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    *all = NULL;
    if (getaddrinfo("", NULL, &hints, &found) != 0)
        return -1;
    for (struct addrinfo *i = found; i; i = i->ai_next) {
        struct ifaddrs *one = malloc(sizeof *one + i->ai_addrlen);
        if (!one)
            break;
        *one = (struct ifaddrs){ *all, (struct sockaddr *)(void *)(one + 1), IFF_UP };
        memcpy(one->ifa_addr, i->ai_addr, i->ai_addrlen);
        *all = one;
    }
    freeaddrinfo(found);
    return 0;
}

#define access(path, mode)     posix_access(path, mode)
#define chdir(path)            posix_chdir(path)
#define fopen(path, mode)      posix_fopen(path, mode)
#undef gmtime_r
#define gmtime_r(when, out)    posix_gmtime(when, out)
#undef localtime_r
#define localtime_r(when, out) posix_localtime(when, out)
#define mkdir(path, mode)      posix_mkdir(path, mode)
#define open                   posix_open
#define pollfd                 posix_pollfd
#define remove(path)           posix_remove(path)
#define rename(from, to)       posix_rename(from, to)
#define rmdir(path)            posix_rmdir(path)
#define strftime               posix_strftime
#undef stat
#define stat                   posix_stat
#define write(fd, bytes, len)  posix_write(fd, bytes, len)

#endif
#endif
