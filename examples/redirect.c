/* A plain port whose only answer is where the secure one is: one more listening socket on
   the same loop, with the same hooks.

   cc -I. -o redirect examples/redirect.c -lbearssl && ./redirect --plain-port 8080         */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static int plain_port = 8080;

/* The host that was asked for, without its port; an IPv6 address keeps its brackets.       */
static hsb_str without_port(hsb_str host)
{
    size_t len = host.len;
    while (len > 0 && host.ptr[len - 1] >= '0' && host.ptr[len - 1] <= '9')
        len--;
    if (len > 0 && host.ptr[len - 1] == ':')
        host.len = len - 1;
    return host;
}

/* 308 and not 301: a POST stays a POST.                                                    */
static void redirect(hsb_request *req)
{
    char location[9000];
    int port = hsb_server_port(hsb_conn_server(hsb_request_conn(req)));
    hsb_str host = without_port(hsb_request_host(req)), path = hsb_request_path(req);
    hsb_str query = hsb_request_query(req);
    int n = snprintf(location, sizeof location, "https://%.*s:%d%.*s%s%.*s", (int)host.len, host.ptr,
                     port, (int)path.len, path.ptr, query.ptr ? "?" : "", (int)query.len,
                     query.ptr ? query.ptr : "");
    if (host.len == 0 || path.len == 0 || path.ptr[0] != '/' || n >= (int)sizeof location)
        hsb_respond(req, 400, "text/plain", hsb_text("this port only redirects to https\n"));
    else
        hsb_respond_redirect(req, 308, location);
}

static void answer(hsb_request *req, void *user)
{
    (void)user;
    if (!hsb_conn_tls(hsb_request_conn(req)))
        redirect(req);
    else
        hsb_respond(req, 200, "text/plain", hsb_text("secure\n"));
}

static int flag(const char *argument, const char *next)
{
    if (strcmp(argument, "--plain-port") != 0 || !next)
        return 0;
    plain_port = common_number(argument, next, 0, 65535);
    return 2;
}

int main(int argc, char **argv)
{
    common c = { .about = "redirects from a plain port to the secure one", .flag = flag,
                 .help = "  --plain-port N         that redirects (8080)\n" };
    hsb_options options = { .hooks.on_request = answer };
    char text[HSB_ADDRESS_TEXT_MAX];
    hsb_error err;
    common_flags(&c, argc, argv);
    hsb_server *server = common_bind(&c, &options);
    hsb_address plain = hsb_server_address(server, 0);
    plain.port = (uint16_t)plain_port;
    int listener = hsb_server_listen_at(server, &plain, NULL, &err);
    if (listener < 0)
        common_die("%s", err.text);
    plain = hsb_server_address(server, listener);
    common_print(&common_out, "redirecting from http://%s\n", hsb_address_text(&plain, text));
    common_ready(server);
    common_run(server);
    return common_end(&c, server);
}
