/* An end that loses nobody's answer.  GET / takes three seconds; press Ctrl-C meanwhile: the
   port is free at once, idle connections go, answers that are being made are still sent,
   and then hsb_server_run returns.  A second Ctrl-C, or ten seconds, cuts what is left.

   cc -I. -o graceful examples/graceful.c -lbearssl                                        */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static hsb_server *server;

/* Closing is allowed in a signal handler, and closing twice as well.                       */
static void on_signal(int sig)
{
    static volatile sig_atomic_t again;
    (void)sig;
    hsb_server_close(server, again);
    hsb_server_wake(server);
    again = 1;
}

static void count(hsb_server *s, void *arg)
{
    hsb_connections now = hsb_server_connections(s);
    (void)arg;
    if (now.total == 0)
        return;
    common_print(2, "%d active, %d idle, %d saying goodbye\n", now.active, now.idle, now.closing);
    hsb_server_post(s, 1000, count, NULL);
}

static void on_wake(hsb_server *s, void *user)
{
    (void)user;
    count(s, NULL);
}

static void on_close(hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)user;
    common_print(2, "connection %llu ended: %s\n", (unsigned long long)hsb_conn_id(conn),
            why->status ? why->text : "in order");
}

static void reply(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_respond(req, 200, "text/plain", hsb_text("here it is, after three seconds\n"));
}

static void answer(hsb_request *req, void *user)
{
    (void)user;
    common_print(2, "thinking about it\n");
    hsb_request_after(req, 3000, reply, NULL);
}

int main(int argc, char **argv)
{
    common c = { .about = "finishes what it began before it ends" };
    hsb_options options = { .timeouts.shutdown = 10000,
                            .hooks = { .on_request = answer, .on_close = on_close, .on_wake = on_wake } };
    common_flags(&c, argc, argv);
    server = common_bind(&c, &options);
    common_on_signal(SIGINT, on_signal);        /* instead of common.h's, to show how       */
    common_on_signal(SIGTERM, on_signal);
    common_ready(server);
    hsb_server_run(server, NULL);
    common_print(2, "all done\n");
    return common_end();
}
