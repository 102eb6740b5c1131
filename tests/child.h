/* A program as a user starts it: its flags, its two outputs as they come, its end.  What it
   says is read by a thread of its own, so that it never waits for its reader.           */
#ifndef TESTS_CHILD_H
#define TESTS_CHILD_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#  include <sys/prctl.h>
#endif

enum { CHILD_SECONDS = 30 };            /* nothing that is waited for takes so long      */

typedef struct child_said {             /* one output                                    */
    struct child   *of;
    int             fd;
    char           *text;               /* under lock: all of it, NUL-terminated         */
    size_t          len;
    bool            ended;              /* under lock                                    */
    pthread_t       thread;
} child_said;

typedef struct child {
    pid_t           pid;
    child_said      out, err;
    pthread_mutex_t lock;
    pthread_cond_t  more;
} child;

static inline void child_fatal(const char *what)
{
    fprintf(stderr, "tests/child.h: %s: %s\n", what, strerror(errno));
    abort();
}

static inline void *child_read(void *arg)
{
    child_said *s = arg;
    char part[4096];
    ssize_t n;
    while ((n = read(s->fd, part, sizeof part)) > 0) {
        pthread_mutex_lock(&s->of->lock);
        char *more = realloc(s->text, s->len + (size_t)n + 1);
        if (!more)
            child_fatal("realloc");
        memcpy(more + s->len, part, (size_t)n);
        s->len += (size_t)n;
        more[s->len] = '\0';
        s->text = more;
        pthread_cond_broadcast(&s->of->more);
        pthread_mutex_unlock(&s->of->lock);
    }
    pthread_mutex_lock(&s->of->lock);
    s->ended = true;
    pthread_cond_broadcast(&s->of->more);
    pthread_mutex_unlock(&s->of->lock);
    return NULL;
}

static inline void child_listen(child *c, child_said *s, int fd)
{
    s->of = c;
    s->fd = fd;
    s->text = calloc(1, 1);
    if (!s->text || pthread_create(&s->thread, NULL, child_read, s) != 0)
        child_fatal("thread");
}

/* argv[0] is the file to run.                                                           */
static inline child *child_start(const char *const *argv)
{
    int out[2], err[2];
    child *c = calloc(1, sizeof *c);
    if (!c || pipe(out) != 0 || pipe(err) != 0 || (c->pid = fork()) < 0)
        child_fatal("fork");
    if (c->pid == 0) {
#ifdef __linux__
        prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
        dup2(out[1], 1);
        dup2(err[1], 2);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execv(argv[0], (char *const *)(size_t)argv);
        fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(out[1]);
    close(err[1]);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->more, NULL);
    child_listen(c, &c->out, out[0]);
    child_listen(c, &c->err, err[0]);
    return c;
}

/* Waits until the output holds text that many times; false: it has ended, or time is up. */
static inline bool child_says(child_said *s, const char *text, int times)
{
    struct timespec until;
    bool found = false;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CHILD_SECONDS;
    pthread_mutex_lock(&s->of->lock);
    for (;;) {
        int count = 0;
        for (const char *at = s->text; (at = strstr(at, text)) != NULL; at++)
            count++;
        found = count >= times;
        if (found || s->ended || pthread_cond_timedwait(&s->of->more, &s->of->lock, &until) != 0)
            break;
    }
    pthread_mutex_unlock(&s->of->lock);
    return found;
}

/* How it ended: its exit status, or 128 and the signal.  Afterwards both outputs are whole. */
static inline int child_end(child *c)
{
    int status = 0;
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    pthread_join(c->out.thread, NULL);
    pthread_join(c->err.thread, NULL);
    c->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void child_free(child *c)
{
    if (c->pid) {
        kill(c->pid, SIGKILL);
        child_end(c);
    }
    close(c->out.fd);
    close(c->err.fd);
    free(c->out.text);
    free(c->err.text);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->more);
    free(c);
}

#endif
