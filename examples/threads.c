/* Several threads on one port.  A server belongs to one thread, so each thread has its own;
   bound with shared, they listen together, and an idle thread takes more connections than
   a busy one.  GET / tells which of them answers.

   cc -I. -o threads examples/threads.c -lbearssl && ./threads --threads 4                  */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

typedef struct worker {
    int         number, answered;
    hsb_server *server;
    pthread_t   thread;
} worker;

/* Nothing here needs a lock: a worker is touched by its own thread only.                   */
static void answer(hsb_request *req, void *user)
{
    worker *w = user;
    char text[64];
    w->answered++;
    snprintf(text, sizeof text, "thread %d, answer %d\n", w->number, w->answered);
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

static void *work(void *user)
{
    worker *w = user;
    hsb_error err;
    if (!hsb_server_run(w->server, &err))
        common_print(&common_err, "thread %d: %s\n", w->number, err.text);
    return NULL;
}

int main(int argc, char **argv)
{
    static worker workers[COMMON_THREADS];
    common c = { .about = "several threads on one port", .threads = 4 };
    common_flags(&c, argc, argv);
    for (int i = 0; i < c.threads; i++) {
        worker *w = &workers[i];
        hsb_options options = { .shared = true, .hooks = { .user = w, .on_request = answer } };
        w->number = i + 1;
        w->server = i == 0 ? common_bind(&c, &options) : common_join(&c, workers[0].server, &options);
    }
    for (int i = 0; i < c.threads; i++)
        common_start(&workers[i].thread, work, &workers[i]);
    common_ready(workers[0].server);
    for (int i = 0; i < c.threads; i++) {
        pthread_join(workers[i].thread, NULL);
        common_print(&common_err, "thread %d answered %d\n", workers[i].number, workers[i].answered);
    }
    common_end(&c, workers[0].server);
    for (int i = 1; i < c.threads; i++)
        hsb_server_free(workers[i].server);
    return 0;
}
