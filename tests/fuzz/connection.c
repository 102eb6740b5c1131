/* >>conn and all below it: a client's bytes on a plain connection, and a handler that answers
   this way or that.  The first byte tells how; the others are sent in cuts.  Whatever comes,
   every hook's promise holds and the connection ends once the client has left.            */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "fuzz.h"

enum { TICKETS = 64 };

static hsb_server *server;
static uint32_t dice_state;
static int accepts, closes, heads, finishes, streams, sockets, ticket_count;
static hsb_ticket tickets[TICKETS];

static unsigned dice(unsigned sides)
{
    dice_state = dice_state * 1664525u + 1013904223u;
    return (dice_state >> 16) % sides;
}

/* --- the handler --------------------------------------------------------------------------- */
static void stream_data(hsb_stream *stream, hsb_str part, void *user)
{
    (void)user;
    hsb_stream_write(stream, part);
    if (dice(8) == 0)
        hsb_stream_close(stream, dice(2));
}

static void stream_end(hsb_stream *stream, void *user)
{
    (void)user;
    hsb_stream_close(stream, false);
}

static void stream_closed(hsb_stream *stream, const hsb_error *why, void *user)
{
    (void)stream, (void)why, (void)user;
    streams--;
}

static void message(hsb_websocket *ws, bool text, hsb_str bytes, void *user)
{
    (void)user;
    hsb_websocket_send(ws, text, bytes);
    if (dice(8) == 0)
        hsb_websocket_close(ws, 1000, hsb_text("enough"));
}

static void socket_closed(hsb_websocket *ws, int code, hsb_str reason, void *user)
{
    (void)ws, (void)code, (void)reason, (void)user;
    sockets--;
}

static void leave_http(hsb_request *req)
{
    hsb_stream_hooks stream = { .on_data = stream_data, .on_end = stream_end, .on_close = stream_closed };
    hsb_websocket_hooks ws = { .on_message = message, .on_close = socket_closed, .message_bytes = 5000 };
    if (hsb_request_header(req, "Sec-WebSocket-Key").ptr)
        sockets += hsb_request_websocket(req, &ws) != NULL;
    else if (hsb_request_header(req, "Upgrade").ptr && hsb_request_minor_version(req) == 1 &&
             hsb_request_detach(req, 101, &stream))
        streams++;
    else
        hsb_respond(req, 200, NULL, hsb_request_target(req));
}

static void resumed(hsb_request *req, void *arg)
{
    (void)arg;
    if (req)
        hsb_respond(req, 200, "text/plain", hsb_text("later"));
}

static void defer(hsb_request *req)
{
    hsb_ticket ticket = hsb_request_defer(req);
    FUZZ_MUST(ticket.id != 0 && ticket_count < TICKETS);
    tickets[ticket_count++] = ticket;
}

static void use_tickets(void)
{
    while (ticket_count > 0) {
        hsb_ticket ticket = tickets[--ticket_count];
        if (dice(2))
            hsb_ticket_drop(ticket);
        else
            FUZZ_MUST(hsb_ticket_resume(ticket, resumed, NULL));
    }
}

static void answer(hsb_request *req)
{
    static const char bytes[20000];
    hsb_str part = { bytes, dice(sizeof bytes) };
    switch (dice(8)) {
    case 0:
        hsb_response_header(req, "X-Target", "a");
        hsb_response_begin(req, 200, dice(2) ? -1 : (int64_t)part.len);
        hsb_response_write(req, part);
        hsb_response_end(req);
        break;
    case 1:  hsb_respond(req, 204, NULL, hsb_text("none")); break;
    case 2:  hsb_respond_file(req, "tests/data/ca.pem", NULL); break;
    case 3:  hsb_respond_dir(req, "tests/data", hsb_request_path(req)); break;
    case 4:  hsb_response_close(req); hsb_respond(req, 200, NULL, part); break;
    case 5:  hsb_response_begin(req, 200, 10); hsb_response_abort(req); break;
    default: hsb_respond(req, 200, "text/plain", hsb_request_body(req)); break;
    }
}

static void on_head(hsb_request *req, void *user)
{
    (void)user;
    heads++;
    if (dice(4) == 0)
        hsb_request_stream(req);
    if (dice(8) == 0)
        answer(req);
}

static void on_body(hsb_request *req, hsb_str part, void *user)
{
    (void)user;
    FUZZ_MUST(part.len > 0 && (uint64_t)hsb_request_received(req) >= part.len);
    if (hsb_response_status(req) == 0 && dice(16) == 0)
        answer(req);
}

static void on_request(hsb_request *req, void *user)
{
    hsb_str name, value, rest = hsb_request_query(req);
    (void)user;
    for (int i = 0; hsb_request_header_at(req, i, &name, &value); i++)
        FUZZ_MUST(name.len > 0 && !memchr(value.ptr, '\n', value.len));
    while (hsb_form_next(&rest, &name, &value))
        ;
    hsb_request_cookie(req, "a");
    if (hsb_response_status(req) != 0)
        hsb_response_end(req);
    else if (dice(4) == 0)
        leave_http(req);
    else if (dice(4) == 0 && ticket_count < TICKETS)
        defer(req);
    else if (dice(16) != 0)
        answer(req);
}

static void on_finish(hsb_request *req, const hsb_error *why, void *user)
{
    (void)req, (void)why, (void)user;
    finishes++;
}

static bool on_accept(hsb_conn *conn, void *user)
{
    (void)conn, (void)user;
    accepts++;
    return true;
}

static void on_close(hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)conn, (void)user;
    FUZZ_MUST(why->status < HSB_STATUS_COUNT);
    closes++;
}

/* --- the client ------------------------------------------------------------------------------- */
static void open_server(void)
{
    hsb_error err;
    hsb_options options = { .limits = { .body_bytes = 3000, .stream_bytes = 5000, .head_bytes = 2000 } };
    options.hooks.on_head = on_head;
    options.hooks.on_body = on_body;
    options.hooks.on_request = on_request;
    options.hooks.on_finish = on_finish;
    options.hooks.on_accept = on_accept;
    options.hooks.on_close = on_close;
    server = hsb_bind("127.0.0.1", 0, &options, &err);
    FUZZ_MUST(server != NULL);
}

/* Reads what there is, lets the server go on. */
static void go_on(int fd)
{
    char sink[65536];
    FUZZ_MUST(hsb_server_poll(server, 0) >= 0);
    use_tickets();
    while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0)
        ;
}

static void end(int fd)
{
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 50 && hsb__server_next(server, NULL); i++)
        go_on(fd);
    close(fd);
    for (int i = 0; i < 100 && (hsb__server_next(server, NULL) || ticket_count); i++) {
        FUZZ_MUST(hsb_server_poll(server, 0) >= 0);
        use_tickets();
    }
    FUZZ_MUST(!hsb__server_next(server, NULL) && closes == accepts && finishes == heads);
    FUZZ_MUST(streams == 0 && sockets == 0);
    FUZZ_MUST(hsb_server_memory(server) < 4 << 20);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    hsb_address peer = { .family = HSB_IPV4 };
    if (size < 1)
        return 0;
    if (!server)
        open_server();
    dice_state = data[0] * 2654435761u;
    FUZZ_MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    hsb__loop_tick(&server->loop);
    hsb__server_welcome(server->doors[0], fds[0], &peer, NULL);
    size_t most = data[0] & 1 ? 16384 : 40;
    for (size_t at = 1; at < size;) {
        size_t n = 1 + dice((unsigned)most);
        n = n < size - at ? n : size - at;
        if (send(fds[1], data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
            break;
        at += n;
        go_on(fds[1]);
    }
    end(fds[1]);
    return 0;
}
