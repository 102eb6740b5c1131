/* The answer of GET / by itself, or out of a table of 20 routes: what the table costs.
     routes plain|mean|last [FLAG...]     "/" is no route, the tenth, the last one         */
#define HTTPSBIND_IMPLEMENTATION
#include "examples/common.h"

enum { ROWS = 20 };

static void hello(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond(req, 200, "text/plain", hsb_text("hello\n"));
}

/* Rows as an application has them; the last of all is the end. */
static hsb_route table[ROWS + 1] = {
    { "GET", "/login", hello },             { "POST", "/login", hello },
    { "POST", "/logout", hello },           { "GET", "/static/*path", hello },
    { "GET", "/users", hello },             { "POST", "/users", hello },
    { "GET", "/users/:id", hello },         { "PUT", "/users/:id", hello },
    { "DELETE", "/users/:id", hello },      { "GET", "/users/:id/photo", hello },
    { "PUT", "/users/:id/photo", hello },   { "GET", "/articles", hello },
    { "POST", "/articles", hello },         { "GET", "/articles/:id", hello },
    { "PUT", "/articles/:id", hello },      { "DELETE", "/articles/:id", hello },
    { "GET", "/search", hello },            { "GET", "/events", hello },
    { "GET", "/health", hello },            { "GET", "/metrics", hello },
};

static void route(hsb_request *req, void *user)
{
    (void)user;
    if (!hsb_request_route(req, table, NULL))
        hsb_respond(req, 404, "text/plain", hsb_text("not found\n"));
}

int main(int argc, char **argv)
{
    common c = { .about = "a table of routes, or none", .threads = 1 };
    hsb_options options = { .limits.connections = -1 };
    const char *where = argc > 1 ? argv[1] : "";
    if (strcmp(where, "mean") == 0)
        table[ROWS / 2 - 1].pattern = "/";
    else if (strcmp(where, "last") == 0)
        table[ROWS - 1].pattern = "/";
    else if (strcmp(where, "plain") != 0)
        return fprintf(stderr, "usage: routes plain|mean|last [FLAG...]\n"), 2;
    options.hooks.on_request = strcmp(where, "plain") == 0 ? hello : route;
    common_flags(&c, argc - 1, argv + 1);
    return common_serve(&c, &options);
}
