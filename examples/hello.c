#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

static void answer(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond(req, 200, "text/plain", hsb_text("Hello over HTTPS\n"));
}

int main(void)
{
    hsb_serve_desc desc = { .options.hooks.on_request = answer };
    return hsb_serve(&desc);
}
