/* Counts uploads: the body of a PUT, and the files of a form.  forms PORT: with TLS there, without
   on the next one. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <stdio.h>
#include <stdlib.h>

static uint64_t bytes, pieces;

static void on_data(hsb_request *req, hsb_str part, void *user)
{
    (void)req, (void)user;
    bytes += part.len;
    pieces++;
}

static void on_head(hsb_request *req, void *user)
{
    const hsb_multipart_hooks hooks = { .on_data = on_data };
    (void)user;
    bytes = pieces = 0;
    if (hsb_equal(hsb_request_method(req), "PUT"))
        hsb_request_stream(req);
    else
        hsb_request_multipart(req, &hooks);
}

static void on_request(hsb_request *req, void *user)
{
    char text[80];
    (void)user;
    snprintf(text, sizeof text, "%llu bytes in %llu pieces\n", (unsigned long long)bytes,
             (unsigned long long)pieces);
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

int main(int argc, char **argv)
{
    hsb_error err;
    int port = argc > 1 ? atoi(argv[1]) : 8443;
    hsb_security_desc desc = { .self_signed_for = "localhost" };
    hsb_options options = { .hooks = { .on_head = on_head, .on_body = on_data, .on_request = on_request } };
    hsb_security *security = hsb_security_new(&desc, &err);
    hsb_server *server = security ? hsb_bind_secure("127.0.0.1", port, security, &options, &err) : NULL;
    if (!server || hsb_server_listen(server, "127.0.0.1", port + 1, NULL, &err) < 0)
        return fprintf(stderr, "%s\n", err.text), 1;
    return hsb_server_run(server, &err) ? 0 : 1;
}
