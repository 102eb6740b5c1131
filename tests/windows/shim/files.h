/* Files as POSIX has them, with names in UTF-8.  It comes after httpsbind.h, which calls Windows
   itself.  There are no links, FIFOs or modes: a test that wants one fails.                  */
#ifndef SHIM_FILES_H
#define SHIM_FILES_H

#include <winsock2.h>
#include <windows.h>
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AT_FDCWD = -100 };

static inline const wchar_t *shim_wide(const char *path)
{
    static _Thread_local wchar_t names[4][1024];
    static _Thread_local int next;
    wchar_t *name = names[next++ % 4];
    if (!MultiByteToWideChar(CP_UTF8, 0, path, -1, name, 1024))
        name[0] = L'\0';
    return name;
}

static inline int shim_no(int error)
{
    errno = error;
    return -1;
}

static inline int shim_done(BOOL done)
{
    return done ? 0 : shim_no(GetLastError() == ERROR_FILE_NOT_FOUND ? ENOENT : EACCES);
}

static inline FILE *shim_fopen(const char *path, const char *mode)
{
    wchar_t how[8] = L"";
    bool binary = strchr(mode, 'b') != NULL;
    MultiByteToWideChar(CP_UTF8, 0, mode, -1, how, 6);
    return _wfopen(shim_wide(path), binary ? how : wcscat(how, L"b"));
}

static inline int shim_open(const char *path, int flags, ...)
{
    return _wopen(shim_wide(path), flags | O_BINARY, _S_IREAD | _S_IWRITE);
}

static inline int shim_mkdir(const char *path)
{
    return shim_done(CreateDirectoryW(shim_wide(path), NULL));
}

static inline int shim_remove(const char *path)
{
    const DWORD is = GetFileAttributesW(shim_wide(path));
    return shim_done(is != INVALID_FILE_ATTRIBUTES && is & FILE_ATTRIBUTE_DIRECTORY
                     ? RemoveDirectoryW(shim_wide(path)) : DeleteFileW(shim_wide(path)));
}

static inline int shim_rename(const char *from, const char *to)
{
    return shim_done(MoveFileExW(shim_wide(from), shim_wide(to), MOVEFILE_REPLACE_EXISTING));
}

static inline char *mkdtemp(char *name)
{
    char *end = name + strlen(name) - 6;
    for (unsigned i = 0; i < 1000000; i++) {
        sprintf(end, "%06u", (unsigned)(GetCurrentProcessId() + i) % 1000000);
        if (CreateDirectoryW(shim_wide(name), NULL))
            return name;
        if (GetLastError() != ERROR_ALREADY_EXISTS)
            break;
    }
    return NULL;
}

static inline int shim_mkstemp(char *name)
{
    int fd = -1;
    for (unsigned i = 0; fd < 0 && i < 1000000; i++) {
        sprintf(name + strlen(name) - 6, "%06u", (unsigned)(GetCurrentProcessId() + i) % 1000000);
        fd = _wopen(shim_wide(name), O_CREAT | O_EXCL | O_RDWR | O_BINARY, _S_IREAD | _S_IWRITE);
    }
    return fd;
}

/* What follows is not written, as _chsize_s would do. */
static inline int shim_ftruncate(int fd, long long len)
{
    HANDLE file = (HANDLE)_get_osfhandle(fd);
    LARGE_INTEGER at;
    at.QuadPart = len;
    return shim_done(SetFilePointerEx(file, at, NULL, FILE_BEGIN) && SetEndOfFile(file));
}

/* A handle, as httpsbind.h has it for a file. */
static inline int shim_dup(int fd)
{
    HANDLE all = GetCurrentProcess(), copy;
    return DuplicateHandle(all, (HANDLE)_get_osfhandle(fd), all, &copy, 0, FALSE, DUPLICATE_SAME_ACCESS)
           ? (int)(intptr_t)copy : -1;
}

/* Time of modification alone. */
static inline int utimensat(int folder, const char *path, const struct timespec times[2], int flags)
{
    const uint64_t t = (uint64_t)times[1].tv_sec * 10000000 + (uint64_t)times[1].tv_nsec / 100 +
                       UINT64_C(116444736000000000);
    const FILETIME time = { (DWORD)t, (DWORD)(t >> 32) };
    HANDLE file = CreateFileW(shim_wide(path), FILE_WRITE_ATTRIBUTES, 7, NULL, OPEN_EXISTING,
                              FILE_FLAG_BACKUP_SEMANTICS, NULL);
    const int result = shim_done(SetFileTime(file, NULL, NULL, &time));
    (void)folder, (void)flags;
    CloseHandle(file);
    return result;
}

static inline int symlink(const char *to, const char *path)
{
    (void)to, (void)path;
    return shim_no(ENOSYS);
}

static inline int mkfifo(const char *path, int mode)
{
    (void)path, (void)mode;
    return shim_no(ENOSYS);
}

static inline int chown(const char *path, int user, int group)
{
    (void)path, (void)user, (void)group;
    return shim_no(ENOSYS);
}

static inline int geteuid(void)
{
    return 0;
}

static inline int seteuid(int user)
{
    (void)user;
    return shim_no(ENOSYS);
}

static inline int setuid(int user)
{
    return seteuid(user);
}

static inline int setgid(int group)
{
    return seteuid(group);
}

static inline ptrdiff_t pread(int fd, void *out, size_t len, long long from)
{
    const long long before = _lseeki64(fd, 0, SEEK_CUR);
    _lseeki64(fd, from, SEEK_SET);
    const int n = _read(fd, out, (unsigned)len);
    _lseeki64(fd, before, SEEK_SET);
    return n;
}

static inline ptrdiff_t pwrite(int fd, const void *bytes, size_t len, long long from)
{
    const long long before = _lseeki64(fd, 0, SEEK_CUR);
    _lseeki64(fd, from, SEEK_SET);
    const int n = _write(fd, bytes, (unsigned)len);
    _lseeki64(fd, before, SEEK_SET);
    return n;
}

static inline ptrdiff_t getline(char **line, size_t *space, FILE *f)
{
    size_t len = 0;
    for (int c; (c = fgetc(f)) != EOF;) {
        if (len + 2 > *space)
            *line = realloc(*line, *space = (len + 2) * 2);
        (*line)[len++] = (char)c;
        if (c == '\n')
            break;
    }
    if (len)
        (*line)[len] = '\0';
    return len ? (ptrdiff_t)len : -1;
}

#define fopen(path, mode) shim_fopen(path, mode)
#define open(...) shim_open(__VA_ARGS__)
#define mkdir(path, mode) shim_mkdir(path)
#define remove(path) shim_remove(path)
#define unlink(path) shim_remove(path)
#define rmdir(path) shim_remove(path)
#define rename(from, to) shim_rename(from, to)
#define pipe(ends) _pipe(ends, 65536, O_BINARY)
#define ftruncate(fd, len) shim_ftruncate(fd, len)
#define mkstemp(name) shim_mkstemp(name)
#define dup(fd) shim_dup(fd)

#endif
