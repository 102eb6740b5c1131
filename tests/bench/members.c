/* A WebSocket whose members are all sent what one of them says; to other requests "hello\n".
     members [FLAG...]                                                                     */
#define HTTPSBIND_IMPLEMENTATION
#include "examples/common.h"

typedef struct member {
    struct member *next, **link;
    hsb_websocket *ws;
} member;

static member *members;

static void on_message(hsb_websocket *ws, bool text, hsb_str message, void *user)
{
    (void)ws, (void)user;
    for (member *m = members; m; m = m->next)
        hsb_websocket_send(m->ws, text, message);
}

static void on_close(hsb_websocket *ws, int code, hsb_str reason, void *user)
{
    member *m = user;
    (void)ws, (void)code, (void)reason;
    *m->link = m->next;
    if (m->next)
        m->next->link = m->link;
    free(m);
}

static void join(hsb_request *req)
{
    member *m = calloc(1, sizeof *m);
    hsb_websocket_hooks hooks = { .user = m, .on_message = on_message, .on_close = on_close };
    if (!m || !(m->ws = hsb_request_websocket(req, &hooks))) {
        free(m);
        return;
    }
    m->next = members;
    m->link = &members;
    if (m->next)
        m->next->link = &m->next;
    members = m;
}

static void answer(hsb_request *req, void *user)
{
    (void)user;
    if (hsb_request_header(req, "Upgrade").ptr)
        join(req);
    else
        hsb_respond(req, 200, "text/plain", hsb_text("hello\n"));
}

int main(int argc, char **argv)
{
    common c = { .about = "sends to all what one says", .threads = 1 };
    hsb_options options = { .hooks.on_request = answer, .limits.connections = -1,
                            .timeouts.stream = -1 };    /* no pings: nobody answers them    */
    common_flags(&c, argc, argv);
    return common_serve(&c, &options);
}
