/* The server inside a loop of your own: plain poll(2), with standard input beside it.  What
   you type is what GET / answers; GET /later answers after 100 ms, from a timer of the
   server's; "quit" ends the program.
   cc -I. examples/own_loop.c -o own_loop -lbearssl                                      */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "common.h"

#include <poll.h>
#include <unistd.h>

static char said[1024] = "nothing yet\n";

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
        hsb_respond(req, 200, "text/plain; charset=utf-8", hsb_text(said));
    } else {
        hsb_respond(req, 404, "text/plain", hsb_text("not here\n"));
    }
}

/* False: there is no more of it.                                                        */
static bool read_input(hsb_server *server)
{
    char line[sizeof said];
    ssize_t n = read(STDIN_FILENO, line, sizeof line - 1);
    if (n <= 0)
        return false;
    line[n] = '\0';
    memcpy(said, line, sizeof line);
    if (strcmp(line, "quit\n") == 0)
        hsb_server_close(server, false);
    return true;
}

/* Wait until the server's descriptor is readable or its next timer is due, then let it do
   what there is to do.  poll(2) ignores a negative descriptor: that is how input ends.   */
static void loop(hsb_server *server)
{
    struct pollfd fds[] = { { hsb_server_fd(server), POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };
    while (hsb_server_poll(server, 0) >= 0) {
        int n = poll(fds, 2, hsb_server_timeout(server));
        if (n > 0 && fds[1].revents && !read_input(server))
            fds[1].fd = -1;
    }
}

int main(int argc, char **argv)
{
    common c = { .about = "a server in a loop of poll(2), beside standard input" };
    hsb_options options = { .hooks = { .on_request = answer } };
    common_flags(&c, argc, argv);
    hsb_server *server = common_bind(&c, &options);
    if (hsb_server_fd(server) < 0)
        common_die("this system's server has no descriptor to wait for");
    common_ready(server);
    loop(server);
    return common_end();
}
