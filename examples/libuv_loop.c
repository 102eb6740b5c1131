/* The server inside libuv: a poll handle for its descriptor, a timer for its timers, and a
   prepare handle that sets the timer right before the loop sleeps.  GET /later answers
   after 100 ms.
   cc -I. examples/libuv_loop.c -o libuv_loop -lbearssl -luv                             */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "common.h"

#include <uv.h>

static uv_poll_t    readable;
static uv_timer_t   due;
static uv_prepare_t before_sleep;
static hsb_server  *server;

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
        hsb_respond(req, 200, "text/plain", hsb_text("hello from libuv\n"));
    } else {
        hsb_respond(req, 404, "text/plain", hsb_text("not here\n"));
    }
}

/* The loop ends by itself when no handle is left.                                       */
static void turn(void)
{
    if (hsb_server_poll(server, 0) >= 0 || uv_is_closing((uv_handle_t *)&readable))
        return;
    uv_close((uv_handle_t *)&readable, NULL);
    uv_close((uv_handle_t *)&due, NULL);
    uv_close((uv_handle_t *)&before_sleep, NULL);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    (void)handle, (void)status, (void)events;
    turn();
}

static void on_due(uv_timer_t *handle)
{
    (void)handle;
    turn();
}

static void on_before_sleep(uv_prepare_t *handle)
{
    int ms = hsb_server_timeout(server);
    uv_update_time(handle->loop);
    if (ms < 0)
        uv_timer_stop(&due);
    else
        uv_timer_start(&due, on_due, (uint64_t)ms, 0);
}

int main(int argc, char **argv)
{
    common c = { .about = "a server in libuv's loop" };
    hsb_options options = { .hooks = { .on_request = answer } };
    uv_loop_t *loop = uv_default_loop();
    common_flags(&c, argc, argv);
    server = common_bind(&c, &options);
    if (uv_poll_init(loop, &readable, hsb_server_fd(server)) != 0)
        common_die("libuv cannot wait for the server");
    uv_timer_init(loop, &due);
    uv_prepare_init(loop, &before_sleep);
    uv_poll_start(&readable, UV_READABLE, on_readable);
    uv_prepare_start(&before_sleep, on_before_sleep);
    common_ready(server);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return common_end();
}
