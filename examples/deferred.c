/* Slow work in other threads: GET /primes waits in a queue for one of --threads workers and
   is answered when that one is done; meanwhile the server's own thread serves everybody
   else.  When the queue is full, 503 says so at once.  The peer may leave and the server may close: what was given to hsb_ticket_resume
   is called exactly once all the same, with NULL for the request.
   cc -I. examples/deferred.c -o deferred -lbearssl -pthread                             */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "common.h"

typedef struct job { struct job *next; hsb_ticket ticket; int primes; } job;

enum { WAITING = 64 };                              /* jobs that no worker has begun     */

static job            *first, **last = &first;      /* guarded by lock, and so are:      */
static int             waiting;
static bool            stopping;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  changed = PTHREAD_COND_INITIALIZER;

/* About a second.                                                                       */
static int count_primes(void)
{
    int count = 0;
    for (int n = 2; n < 2000000; n++) {
        int d = 2;
        while (d * d <= n && n % d != 0)
            d++;
        count += d * d > n;
    }
    return count;
}

/* On the server's thread again.                                                         */
static void done(hsb_request *req, void *arg)
{
    job *j = arg;
    char text[80];
    snprintf(text, sizeof text, "%d primes below 2000000\n", j->primes);
    if (req)                                        /* else the peer has left            */
        hsb_respond(req, 200, "text/plain", hsb_text(text));
    free(j);
}

static job *take(void)
{
    pthread_mutex_lock(&lock);
    while (!first && !stopping)
        pthread_cond_wait(&changed, &lock);
    job *j = stopping ? NULL : first;
    if (j && !(first = j->next))
        last = &first;
    waiting -= j != NULL;
    pthread_mutex_unlock(&lock);
    return j;
}

static void *work(void *unused)
{
    for (job *j; (j = take()) != NULL;) {
        j->primes = count_primes();
        if (!hsb_ticket_resume(j->ticket, done, j))
            free(j);                                /* the server is gone                */
    }
    return unused;
}

static bool is_full(void)
{
    pthread_mutex_lock(&lock);
    bool full = waiting >= WAITING;
    pthread_mutex_unlock(&lock);
    return full;
}

static void put(job *j)
{
    pthread_mutex_lock(&lock);
    *last = j;
    last = &j->next;
    waiting++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void answer(hsb_request *req, void *user)
{
    job *j;
    (void)user;
    if (!hsb_equal(hsb_request_path(req), "/primes")) {
        hsb_respond(req, 200, "text/plain", hsb_text("ask for /primes\n"));
    } else if (is_full()) {                         /* and no other thread puts jobs there */
        hsb_response_header(req, "Retry-After", "10");
        hsb_respond(req, 503, "text/plain", hsb_text("too many are waiting already\n"));
    } else if ((j = calloc(1, sizeof *j)) != NULL) {    /* else: not answered is a 500   */
        j->ticket = hsb_request_defer(req);
        put(j);
    }
}

/* What nobody has begun yet is given up.                                                */
static void stop(pthread_t *workers, int count)
{
    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < count; i++)
        pthread_join(workers[i], NULL);
    for (job *j = first, *next; j; j = next) {
        next = j->next;
        hsb_ticket_drop(j->ticket);
        free(j);
    }
}

int main(int argc, char **argv)
{
    common c = { .about = "counts primes in worker threads", .threads = 4 };
    hsb_options options = { .hooks = { .on_request = answer } };
    pthread_t workers[COMMON_THREADS];
    common_flags(&c, argc, argv);
    int count = c.threads;
    c.threads = 1;                                  /* that serve                            */
    for (int i = 0; i < count; i++)
        if (pthread_create(&workers[i], NULL, work, NULL) != 0)
            common_die("cannot start a thread");
    int status = common_serve(&c, &options);
    stop(workers, count);
    return status;
}
