/* A plain port whose only answer is where the secure one is.

   cc -I. -o redirect examples/redirect.c -lbearssl && ./redirect --plain-port 8080         */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static int plain_port = 8080;

static void answer(hsb_request *req, void *user)
{
    (void)user;
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
    common_flags(&c, argc, argv);
    hsb_serve_desc desc = common_desc(&c, &options);
    desc.redirect_port = plain_port ? plain_port : -1;
    return hsb_serve(&desc) ? 2 : 0;
}
