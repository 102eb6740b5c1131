/* What other threads may do with a running server: post, use tickets, wake, close.  The server
   has a thread of its own here, and so have its clients.  Meant for ThreadSanitizer, too.
   LIVE_DEFERRED=1000000 defers that many requests, once without TLS and once with it. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "client.h"
#include "peer.h"

#if defined(__SANITIZE_THREAD__)
enum { DEFERRED = 4000 };
#else
enum { DEFERRED = 20000 };
#endif

/* --- the server's thread ------------------------------------------------------------------ */
static void *run_server(void *arg)
{
    hsb_error err;
    must_be(hsb_server_run(arg, &err), "run");
    return NULL;
}

typedef struct served { rig rig; pthread_t thread; } served;

static void serve(served *s, const hsb_options *options, bool secure)
{
    rig_open(&s->rig, options, secure);
    assert_int_equal(pthread_create(&s->thread, NULL, run_server, s->rig.server), 0);
}

static void stop(served *s)
{
    hsb_server_close(s->rig.server, true);
    pthread_join(s->thread, NULL);
}

/* --- clients with threads of their own ---------------------------------------------------- */
/* Until text has come count times; false: the end came before. */
static bool peer_hear_all(peer *p, const char *text, int count)
{
    char got[65536];
    size_t len = 0, n = strlen(text);
    while (count > 0) {
        int more = peer_hear(p, got + len, (int)(sizeof got - len));
        if (more <= 0)
            return false;
        len += (size_t)more;
        for (char *at; count > 0 && (at = memmem(got, len, text, n)) != NULL; count--) {
            len -= (size_t)(at - got) + n;
            memmove(got, at + n, len);
        }
        if (len > n) {
            memmove(got, got + len - n, n);
            len = n;
        }
    }
    return true;
}

/* --- posts -------------------------------------------------------------------------------- */
enum { POSTERS = 8, POSTS = 1000 };

typedef struct post { int thread, number, delay_ms; int64_t due; int ran; } post;
typedef struct poster { hsb_server *server; post *posts; int thread; } poster;

static int next_of[POSTERS];            /* the server's thread's */
static int posts_ran;

static void run_post(hsb_server *server, void *arg)
{
    post *p = arg;
    must_be(server != NULL, "no server");
    must_be(counter_add(&p->ran, 1) == 1, "a post ran twice");
    must_be(clock_ms() >= p->due, "a post ran early");
    if (!p->delay_ms) {
        must_be(p->number > next_of[p->thread], "posts of one thread out of order");
        next_of[p->thread] = p->number;
    }
    counter_add(&posts_ran, 1);
}

static void *post_all(void *arg)
{
    poster *p = arg;
    for (int i = 0; i < POSTS; i++) {
        post *one = &p->posts[i];
        one->thread = p->thread;
        one->number = i + 1;
        one->delay_ms = i % 5 ? 0 : i % 30;
        one->due = clock_ms() + one->delay_ms;
        must_be(hsb_server_post(p->server, one->delay_ms, run_post, one), "post");
    }
    return NULL;
}

static void test_posts(void **state)
{
    static post all[POSTERS][POSTS];
    static post late;
    poster posters[POSTERS];
    pthread_t threads[POSTERS];
    served s = { { .data = NULL }, 0 };
    (void)state;
    serve(&s, NULL, false);
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (poster){ s.rig.server, all[i], i };
        assert_int_equal(pthread_create(&threads[i], NULL, post_all, &posters[i]), 0);
    }
    for (int i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    for (int64_t end = clock_ms() + PATIENCE_MS; counter_get(&posts_ran) < POSTERS * POSTS;)
        if (clock_ms() > end)
            fail_msg("%d posts came", counter_get(&posts_ran));
        else
            sleep_us(1000);
    late.delay_ms = 60000;
    assert_true(hsb_server_post(s.rig.server, 60000, run_post, &late));
    stop(&s);
    assert_int_equal(late.ran, 0);
    rig_close(&s.rig);
    assert_int_equal(late.ran, 1);      /* at free, what still waits runs */
}

/* Whatever is posted before free runs once: before the server closes, while it does, after its
   last turn, and when its time would come much later. */
static void count_run(hsb_server *server, void *ran)
{
    must_be(server != NULL, "no server");
    ++*(int *)ran;                      /* always on the one thread that runs or frees the server */
}

static void *post_anyhow(void *arg)
{
    const poster *p = arg;
    for (int i = 0; i < POSTS; i++)
        must_be(hsb_server_post(p->server, i % 3 == 0 ? 600000 : i % 3 == 1 ? i % 30 : 0, count_run,
                             &p->posts[i].ran), "post");
    return NULL;
}

static void test_posts_while_it_closes(void **state)
{
    static post all[POSTERS][POSTS];
    (void)state;
    for (int round = 0; round < 4; round++) {
        poster posters[POSTERS];
        pthread_t threads[POSTERS];
        served s = { { .data = NULL }, 0 };
        memset(all, 0, sizeof all);
        serve(&s, NULL, false);
        for (int i = 0; i < POSTERS; i++) {
            posters[i] = (poster){ s.rig.server, all[i], i };
            assert_int_equal(pthread_create(&threads[i], NULL, post_anyhow, &posters[i]), 0);
        }
        sleep_us(round * 500);
        stop(&s);
        for (int i = 0; i < POSTERS; i++)
            pthread_join(threads[i], NULL);
        rig_close(&s.rig);
        for (int i = 0; i < POSTERS * POSTS; i++)
            assert_int_equal(all[i / POSTS][i % POSTS].ran, 1);
    }
}

/* --- deferred requests -------------------------------------------------------------------- */
/* Each ticket is a job; workers use them in any order, in time and too late. */
typedef struct job {
    hsb_ticket  ticket;
    struct job *next;
    int         resumed;                /* resume said true */
    int         ran, without_request;
    bool        of_stream;
} job;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t  more;
    job  *first;
    bool  over;
    int   waiting;
    job  *all;                          /* by number */
    int   made, most;
} jobs = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER };

static void jobs_start(int most)
{
    jobs.all = calloc((size_t)most, sizeof *jobs.all);
    jobs.most = most;
    jobs.made = jobs.waiting = 0;
    jobs.over = false;
    jobs.first = NULL;
    assert_non_null(jobs.all);
}

/* On the server's thread.  NULL: enough of them. */
static job *jobs_add(void)
{
    if (jobs.made == jobs.most)
        return NULL;
    return &jobs.all[counter_add(&jobs.made, 1) - 1];
}

static void jobs_push(job *j)
{
    pthread_mutex_lock(&jobs.lock);
    j->next = jobs.first;
    jobs.first = j;
    jobs.waiting++;
    pthread_cond_signal(&jobs.more);
    pthread_mutex_unlock(&jobs.lock);
}

static job *jobs_take(void)
{
    pthread_mutex_lock(&jobs.lock);
    while (!jobs.first && !jobs.over)
        pthread_cond_wait(&jobs.more, &jobs.lock);
    job *j = jobs.first;
    if (j) {
        jobs.first = j->next;
        jobs.waiting--;
    }
    pthread_mutex_unlock(&jobs.lock);
    return j;
}

static void jobs_end(void)
{
    pthread_mutex_lock(&jobs.lock);
    jobs.over = true;
    pthread_cond_broadcast(&jobs.more);
    pthread_mutex_unlock(&jobs.lock);
}

static void finish_request(hsb_request *req, void *arg)
{
    job *j = arg;
    j->ran++;    /* always on the one thread that runs or frees the server */
    if (!req)
        j->without_request++;
    else
        hsb_respond(req, 200, NULL, hsb_text("DONE."));
}

static void finish_stream(hsb_stream *s, void *arg)
{
    job *j = arg;
    j->ran++;
    if (!s)
        j->without_request++;
    else
        hsb_stream_write(s, hsb_text("DONE."));
}

static bool job_use(job *j)
{
    bool true_once = j->of_stream ? hsb_stream_ticket_resume(j->ticket, finish_stream, j)
                                  : hsb_ticket_resume(j->ticket, finish_request, j);
    counter_add(&j->resumed, true_once);
    return true_once;
}

/* Most are resumed, some dropped (never those of streams), some by this thread a second time. */
static void *work(void *arg)
{
    unsigned random = (unsigned)(uintptr_t)arg + 1;
    for (job *j; (j = jobs_take()) != NULL;) {
        random = random * 1103515245u + 12345u;
        unsigned how = random >> 16 & 15;
        if (how == 0 && !j->of_stream) {
            hsb_ticket_drop(j->ticket);
            continue;
        }
        if (how == 1)
            sleep_us(200);
        bool first = job_use(j);
        if (how == 2 && first)
            must_be(!job_use(j), "a ticket was used twice");
    }
    return NULL;
}

static void defer(rig *r, hsb_request *req)
{
    job *j = jobs_add();
    (void)r;
    if (!j) {
        hsb_respond(req, 200, NULL, hsb_text("DONE."));
        return;
    }
    j->ticket = hsb_request_defer(req);
    must_be(j->ticket.id != 0, "no ticket");
    jobs_push(j);
}

/* Each exactly once where resume said true, else never; how many came without a request. */
static int jobs_check(void)
{
    int without = 0;
    for (int i = 0; i < jobs.made; i++) {
        const job *j = &jobs.all[i];
        if (j->ran != j->resumed || j->ran > 1)
            fail_msg("job %d: resumed %d, ran %d", i, j->resumed, j->ran);
        without += j->without_request;
    }
    free(jobs.all);
    jobs.all = NULL;
    return without;
}

enum { WORKERS = 8, CALLERS = 12, AT_ONCE = 64 };

typedef struct caller { int port, number; bool secure; } caller;

/* Asks many times at once, and leaves when it likes: at once, after some of the answers, or when
   it has them all; with a reset, or in order. */
static void *call(void *arg)
{
    static const char ask[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const caller *c = arg;
    unsigned random = (unsigned)c->number * 7919u + 17;
    while (counter_get(&jobs.made) < jobs.most) {
        char text[AT_ONCE * sizeof ask] = "";
        random = random * 1103515245u + 12345u;
        unsigned count = (random >> 16) % AT_ONCE + 1, some = (random >> 24) % count;
        for (unsigned i = 0; i < count; i++)
            strcat(text, ask);
        peer p = peer_open(c->port, c->secure);
        peer_say(&p, text);
        random = random * 1103515245u + 12345u;
        unsigned how = random >> 16 & 7;
        if (how > 0)
            must_be(peer_hear_all(&p, "HTTP/1.1", how < 4 ? (int)some : (int)count), "no answer");
        peer_close(&p, how < 6);
    }
    return NULL;
}

/* The only two calls for signal handlers, in threads that may be about to use a ticket. */
static hsb_server *signalled;

static void wake_it(int number)
{
    int saved = errno;
    (void)number;
    errno = 4711;
    hsb_server_wake(signalled);
    must_be(errno == 4711, "errno has changed");
    errno = saved;
}

static void test_deferred(void **state)
{
    pthread_t workers[WORKERS], callers[CALLERS];
    caller who[CALLERS];
    served s = { { .on_request = defer }, 0 };
    jobs_start((int)scaled("LIVE_DEFERRED", DEFERRED));
    serve(&s, NULL, is_secure(state));
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&workers[i], NULL, work, (void *)(uintptr_t)i), 0);
    for (int i = 0; i < CALLERS; i++) {
        who[i] = (caller){ s.rig.port, i, is_secure(state) };
        assert_int_equal(pthread_create(&callers[i], NULL, call, &who[i]), 0);
    }
    signalled = s.rig.server;
    signal(SIGUSR1, wake_it);
    for (int i = 0; counter_get(&jobs.made) < jobs.most; i++) {
        pthread_kill(workers[i % WORKERS], SIGUSR1);
        sleep_us(200);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
    jobs_end();
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    stop(&s);
    assert_int_equal(jobs.waiting, 0);
    assert_int_equal(jobs.made, jobs.most);
    assert_true(s.rig.wakes > 0);
    rig_close(&s.rig);
    int late = jobs_check();
    print_message("%d tickets, %d of them for a client that had left\n", jobs.made, late);
    assert_true(late > 0);
}

/* The workers use their tickets while the server is freed, and when it is gone. */
static void test_tickets_outlive_the_server(void **state)
{
    enum { EACH = 60, ROUNDS = 5 };
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t workers[WORKERS];
        peer peers[EACH];
        served s = { { .on_request = defer }, 0 };
        jobs_start(EACH);
        serve(&s, NULL, is_secure(state));
        for (int i = 0; i < EACH; i++) {
            peers[i] = peer_open(s.rig.port, is_secure(state));
            peer_say(&peers[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        while (counter_get(&jobs.made) < EACH)
            sleep_us(100);
        if (round % 2)
            stop(&s);
        for (int i = 0; i < WORKERS; i++)
            assert_int_equal(pthread_create(&workers[i], NULL, work, (void *)(uintptr_t)i), 0);
        if (round % 2 == 0)
            stop(&s);
        hsb_server_free(s.rig.server);
        s.rig.server = NULL;
        jobs_end();
        for (int i = 0; i < WORKERS; i++)
            pthread_join(workers[i], NULL);
        for (int i = 0; i < EACH; i++)
            peer_close(&peers[i], false);
        rig_close(&s.rig);
        jobs_check();
    }
}

/* --- streams ------------------------------------------------------------------------------ */
static void stream_data(hsb_stream *s, hsb_str part, void *user)
{
    (void)part;
    (void)user;
    job *j = jobs_add();
    if (!j)
        return;
    j->of_stream = true;
    j->ticket = hsb_stream_ticket(s);
    jobs_push(j);
}

static void detach(rig *r, hsb_request *req)
{
    hsb_stream_hooks hooks = { .user = r, .on_data = stream_data };
    must_be(hsb_request_detach(req, 101, &hooks) != NULL, "detach");
}

static void *call_streams(void *arg)
{
    const caller *c = arg;
    unsigned random = (unsigned)c->number * 104729u + 5;
    while (counter_get(&jobs.made) < jobs.most) {
        random = random * 1103515245u + 12345u;
        peer p = peer_open(c->port, c->secure);
        peer_say(&p, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        must_be(peer_hear_all(&p, "\r\n\r\n", 1), "upgrade");
        for (unsigned i = random >> 16 & 7; i > 0; i--)
            if (!peer_say(&p, "x"))
                break;
        peer_close(&p, random >> 20 & 1);
    }
    return NULL;
}

static void test_stream_tickets(void **state)
{
    pthread_t workers[WORKERS], callers[CALLERS];
    caller who[CALLERS];
    served s = { { .on_request = detach }, 0 };
    jobs_start(is_secure(state) ? DEFERRED / 40 : DEFERRED / 8);
    serve(&s, NULL, is_secure(state));
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&workers[i], NULL, work, (void *)(uintptr_t)i), 0);
    for (int i = 0; i < CALLERS; i++) {
        who[i] = (caller){ s.rig.port, i, is_secure(state) };
        assert_int_equal(pthread_create(&callers[i], NULL, call_streams, &who[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
    jobs_end();
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    stop(&s);
    rig_close(&s.rig);
    jobs_check();
}

/* --- wake --------------------------------------------------------------------------------- */
static int wake_said, wake_heard;

static void woken(rig *r)
{
    (void)r;
    __atomic_store_n(&wake_heard, counter_get(&wake_said), __ATOMIC_RELEASE);
}

/* What was said before a wake is heard after it, however many come at once. */
static void test_wake(void **state)
{
    served s = { { .on_wake = woken }, 0 };
    (void)state;
    serve(&s, NULL, false);
    for (int i = 1; i <= 300; i++) {
        int64_t end = clock_ms() + PATIENCE_MS;
        __atomic_store_n(&wake_said, i, __ATOMIC_RELEASE);
        for (int n = i % 4; n >= 0; n--)
            hsb_server_wake(s.rig.server);
        while (counter_get(&wake_heard) != i)
            if (clock_ms() > end)
                fail_msg("wake %d was not heard", i);
    }
    stop(&s);
    assert_true(s.rig.wakes >= 300);
    rig_close(&s.rig);
}

static void *wake_often(void *server)
{
    for (int i = 0; i < 10000; i++)
        hsb_server_wake(server);
    return NULL;
}

/* However many come while the server does something else: one on_wake, and no memory. */
static void test_wake_flood(void **state)
{
    pthread_t threads[8];
    rig r = { .on_wake = NULL };
    (void)state;
    rig_open(&r, NULL, false);
    size_t memory = hsb_server_memory(r.server);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wake_often, r.server), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    turn(&r, PATIENCE_MS);
    turns(&r, 3);
    assert_int_equal(r.wakes, 1);
    assert_int_equal(hsb_server_memory(r.server), memory);
    rig_close(&r);
}

/* --- close -------------------------------------------------------------------------------- */
static void *close_some(void *arg)
{
    for (int i = 0; i < 20; i++)
        hsb_server_close(arg, i > 10);
    return NULL;
}

static void test_close_from_all(void **state)
{
    for (int round = 0; round < 10; round++) {
        pthread_t threads[4];
        served s = { { .on_request = NULL }, 0 };
        serve(&s, NULL, is_secure(state));
        peer p = peer_open(s.rig.port, is_secure(state));
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, close_some, s.rig.server), 0);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        pthread_join(s.thread, NULL);
        peer_close(&p, false);
        rig_close(&s.rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(test_posts), PLAIN(test_posts_while_it_closes), BOTH(test_deferred),
        BOTH(test_tickets_outlive_the_server), BOTH(test_stream_tickets), PLAIN(test_wake),
        PLAIN(test_wake_flood), BOTH(test_close_from_all),
    };
    client_tls();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
