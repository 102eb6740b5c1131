/* What tests of all folders share: bytes that grow, checks that cmocka lacks, counters of
   several threads.  It brings in cmocka, whose versions 1.1.5 to 2.0 it makes look alike; where
   a test includes httpsbind.h, that goes first. */
#ifndef TESTS_HELP_H
#define TESTS_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <fcntl.h>
#include <ftw.h>
#include <cmocka.h>

#ifdef stop                     /* cmocka 2.0 has a macro of this name, which we do not use  */
#  undef stop
#endif

/* --- checks ------------------------------------------------------------------------------- */

/* low <= value <= high.  cmocka's own assert_in_range is deprecated in its version 2.0.     */
#define assert_within(value, low, high) \
    help_within((long long)(value), (long long)(low), (long long)(high), #value, __FILE__, __LINE__)

static inline void help_within(long long value, long long low, long long high, const char *text,
                               const char *file, int line)
{
    if (value >= low && value <= high)
        return;
    print_error("%s is %lld, which is not within %lld and %lld\n", text, value, low, high);
    _fail(file, line);
}

/* The test ends here as a skipped one, and its output says why.                             */
#define skip_because(why) (print_message("skipped: %s\n", why), skip())

/* Checks on another thread than the test's, where cmocka's assertions must not be used.     */
static inline void must_be(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "on another thread: %s\n", what);
    abort();
}

/* For a pointer that is NULL only when memory is short.                                     */
static inline void *must(void *pointer)
{
    if (!pointer)
        abort();
    return pointer;
}

/* --- bytes that grow ---------------------------------------------------------------------- */

/* All zero: none.  Behind the last byte is always a NUL, once something was added.          */
typedef struct bytebuf {
    char  *data;
    size_t len, space;
} bytebuf;

static inline void bytes_add(bytebuf *b, const void *data, size_t len)
{
    if (len >= b->space - b->len) {
        b->space = (b->len + len) * 2 + 1;
        b->data = must(realloc(b->data, b->space));
    }
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

static inline void bytes_add_text(bytebuf *b, const char *text)
{
    bytes_add(b, text, strlen(text));
}

static inline void bytes_free(bytebuf *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}

/* The whole of a file.                                                                      */
static inline bytebuf bytes_of_file(const char *path)
{
    bytebuf b = { NULL, 0, 0 };
    char part[65536];
    FILE *f = fopen(path, "rb");
    size_t n;
    assert_non_null(f);
    bytes_add(&b, "", 0);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        bytes_add(&b, part, n);
    fclose(f);
    return b;
}

/* --- the system ---------------------------------------------------------------------------- */

static inline int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static inline int help_remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

/* With all that is in it.                                                                   */
static inline int remove_folder(const char *path)
{
    return nftw(path, help_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- time --------------------------------------------------------------------------------- */

/* Of a clock that is never set.                                                             */
static inline int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline void sleep_us(long us)
{
    struct timespec t = { us / 1000000, us % 1000000 * 1000 };
    nanosleep(&t, NULL);
}

/* --- counters that several threads use ----------------------------------------------------- */

static inline int counter_add(int *counter, int n)
{
    return __atomic_add_fetch(counter, n, __ATOMIC_ACQ_REL);
}

static inline int counter_get(const int *counter)
{
    return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

#endif
