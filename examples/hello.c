#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <stdio.h>

static void answer(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond(req, 200, "text/plain", hsb_text("Hello over HTTPS\n"));
}

int main(void)
{
    hsb_error err;
    hsb_security_desc desc = { .self_signed_for = "localhost" };
    hsb_options options = { .hooks.on_request = answer };
    hsb_security *security = hsb_security_new(&desc, &err);
    hsb_server *server = security
        ? hsb_bind_secure("localhost", 8443, security, &options, &err) : NULL;
    if (!server)
        return fprintf(stderr, "%s\n", err.text), 1;
    return hsb_server_run(server, &err) ? 0 : 1;
}
