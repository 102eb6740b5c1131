/* Server-sent events: an answer that never ends, with one event a second until the reader
   leaves or the server does.  Open / in a browser, or: curl -kN https://localhost:8443/events

   cc -I. -o stream examples/stream.c -lbearssl                                            */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static const char page[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Events</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<body style=\"font: 2rem system-ui; margin: 3rem\">\n<p id=\"time\">waiting …</p>\n"
    "<script>\n"
    "new EventSource('/events').onmessage = e =>\n"
    "    document.getElementById('time').textContent = e.data\n"
    "</script>\n";

/* One event, and a timer for the next.  A reader that does not keep up gets the next one
   when there is room again, instead of a queue that grows.                                */
static void next_event(hsb_request *req, void *arg)
{
    char event[80];
    time_t now = time(NULL);
    struct tm utc;
    (void)arg;
    if (hsb_server_closing(hsb_conn_server(hsb_request_conn(req)))) {
        hsb_response_end(req);          /* or the server would wait for us                  */
        return;
    }
    gmtime_r(&now, &utc);
    strftime(event, sizeof event, "data: %Y-%m-%d %H:%M:%S UTC\n\n", &utc);
    if (hsb_response_write(req, hsb_text(event)) == HSB_FLOW_GO)
        hsb_request_after(req, 1000, next_event, NULL);
}

static void answer(hsb_request *req, void *user)
{
    (void)user;
    if (hsb_equal(hsb_request_path(req), "/events")) {
        hsb_response_header(req, "Content-Type", "text/event-stream");
        hsb_response_header(req, "Cache-Control", "no-store");
        hsb_response_begin(req, 200, -1);
        if (hsb_equal(hsb_request_method(req), "HEAD"))
            hsb_response_end(req);      /* no body to wait for: the next request may come   */
        else
            next_event(req, NULL);
    } else if (hsb_equal(hsb_request_path(req), "/")) {
        hsb_respond(req, 200, "text/html; charset=utf-8", hsb_text(page));
    } else {
        hsb_respond(req, 404, "text/plain", hsb_text("not found\n"));
    }
}

int main(int argc, char **argv)
{
    common c = { .about = "sends an event a second", .threads = 1 };
    hsb_options options = { .hooks = { .on_request = answer, .on_drain = next_event } };
    common_flags(&c, argc, argv);
    return common_serve(&c, &options);
}
