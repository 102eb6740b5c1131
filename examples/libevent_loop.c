/* The server inside libevent: one event for its descriptor, whose timeout is the server's
   next timer.  GET /later answers after 100 ms.
   cc -I. examples/libevent_loop.c -o libevent_loop -lbearssl -levent                    */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "common.h"

#include <event2/event.h>

typedef struct guest { hsb_server *server; struct event *event; } guest;

static void later(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_response_write(req, hsb_text("that was 100 ms\n"));
    hsb_response_end(req);
}

static void answer(hsb_request *req, void *user)
{
    (void)user;
    if (hsb_equal(hsb_request_path(req), "/later")) {
        hsb_response_begin(req, 200, -1);
        hsb_request_after(req, 100, later, NULL);
    } else if (hsb_equal(hsb_request_path(req), "/")) {
        hsb_respond(req, 200, "text/plain", hsb_text("hello from libevent\n"));
    } else {
        hsb_respond(req, 404, "text/plain", hsb_text("not here\n"));
    }
}

/* Waits for the descriptor, or as long as the server says.  libevent's loop ends by itself
   when no event is waited for: that is what happens once the server has closed.          */
static void turn(evutil_socket_t fd, short what, void *arg)
{
    guest *g = arg;
    (void)fd, (void)what;
    if (hsb_server_poll(g->server, 0) < 0)
        return;
    int ms = hsb_server_timeout(g->server);
    struct timeval wait = { ms / 1000, ms % 1000 * 1000 };
    event_add(g->event, ms < 0 ? NULL : &wait);
}

int main(int argc, char **argv)
{
    common c = { .about = "a server in libevent's loop" };
    hsb_options options = { .hooks = { .on_request = answer } };
    guest g;
    common_flags(&c, argc, argv);
    struct event_base *base = event_base_new();
    g.server = common_bind(&c, &options);
    g.event = base ? event_new(base, hsb_server_fd(g.server), EV_READ, turn, &g) : NULL;
    if (!g.event)
        common_die("libevent cannot wait for the server");
    common_ready(g.server);
    turn(-1, 0, &g);
    event_base_dispatch(base);
    event_free(g.event);
    event_base_free(base);
    return common_end();
}
