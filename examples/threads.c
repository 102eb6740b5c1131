/* Several threads on one port.  A server belongs to one thread, so each thread has its own;
   bound with shared, they listen together, and an idle thread takes more connections than
   a busy one.  GET / tells which of them answers.  (hsb_serve_desc.threads does this, too.)

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
    hsb_server_run(w->server, NULL);
    return NULL;
}

static worker workers[COMMON_THREADS];

/* Closing is allowed in a signal handler, on whatever thread that runs.                    */
static void on_signal(int sig)
{
    (void)sig;
    for (int i = 0; i < COMMON_THREADS && workers[i].server; i++)
        hsb_server_close(workers[i].server, false);
}

/* One more server on the first one's address, whatever port the system gave that.          */
static hsb_server *join(const hsb_options *options)
{
    hsb_address address = hsb_server_address(workers[0].server, 0);
    hsb_error err;
    hsb_server *server = hsb_bind_secure_at(&address, common_security, options, &err);
    if (!server)
        common_die("%s", err.text);
    return server;
}

int main(int argc, char **argv)
{
    common c = { .about = "several threads on one port", .threads = 4 };
    common_flags(&c, argc, argv);
    for (int i = 0; i < c.threads; i++) {
        hsb_options options = { .shared = true, .hooks = { .user = &workers[i], .on_request = answer } };
        workers[i].number = i + 1;
        workers[i].server = i == 0 ? common_bind(&c, &options) : join(&options);
    }
    common_on_signal(SIGINT, on_signal);
    common_on_signal(SIGTERM, on_signal);
    for (int i = 0; i < c.threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            common_die("cannot start a thread");
    common_ready(workers[0].server);
    for (int i = 0; i < c.threads; i++) {
        pthread_join(workers[i].thread, NULL);
        common_print(2, "thread %d answered %d\n", workers[i].number, workers[i].answered);
    }
    for (int i = c.threads - 1; i > 0; i--)
        hsb_server_free(workers[i].server);
    return common_end();
}
