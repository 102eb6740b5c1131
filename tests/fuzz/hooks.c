/* A whole connection: the client's bytes are the input's, in parts, and so is what the hooks do.
   Whatever both do, each head has its finish, each accept its close, every ticket resolves, and
   when the client has left the connection goes away by itself. */
#define HTTPSBIND_STATIC
#define HSB_FAULT(call, count) fault(call, count)
static int fault(const char *call, void *count);
#include "httpsbind.h"

#include "fuzz/fuzz.h"

enum { MOST_TICKETS = 64, TURNS = 400 };

static struct play {
    const uint8_t *choices;             /* each decision of a hook takes one               */
    size_t choice_count, chosen;
    int accepted, closed, heads, finished, resumed;
    hsb_request *open;                  /* between on_head and on_finish                   */
    bool paused;
    hsb_ticket tickets[MOST_TICKETS];
    int ticket_count;
} now;

static hsb_server *server;

/* A client that does not read for a while. */
static bool sends_block;

static int fault(const char *call, void *count)
{
    (void)count;
    return sends_block && strcmp(call, "send") == 0 ? EAGAIN : 0;
}

/* 0..bound-1; 0 when the choices are used up: the plain thing. */
static unsigned choose(unsigned bound)
{
    return now.chosen < now.choice_count ? now.choices[now.chosen++] % bound : 0;
}

static hsb_str some_text(void)
{
    static char text[3000];
    static const size_t sizes[] = { 2, 0, 1, 100, sizeof text };
    memset(text, 'x', sizeof text);
    return hsb__text_make(text, sizes[choose(5)]);
}

/* --- what a handler may do ---------------------------------------------------------------- */

static void stream_data(hsb_stream *stream, hsb_str part, void *user)
{
    (void)user;
    if (choose(2) == 0)
        hsb_stream_write(stream, part);
    else
        hsb_stream_close(stream, choose(2) != 0);
}

static void stream_end(hsb_stream *stream, void *user)
{
    (void)user;
    hsb_stream_close(stream, false);
}

static const hsb_stream_hooks stream_hooks = { NULL, stream_data, stream_end, NULL, NULL };

/* Calling what must not be called asserts, so each request remembers where its answer is. */
static char begun, over;                /* their addresses are the user pointers           */

static void act(hsb_request *req, bool deferrable);

static void later(hsb_request *req, void *arg)
{
    (void)arg;
    act(req, false);
}

static void resumed(hsb_request *req, void *arg)
{
    (void)arg;
    now.resumed++;
    if (req)
        act(req, false);
}

static void begin(hsb_request *req)
{
    static const int statuses[] = { 200, 204, 304, 404, 205, 100 };
    static const int64_t lengths[] = { -1, 2, 0, 100 };
    int status = statuses[choose(6)];
    hsb_response_header(req, "X-Field", "value");
    hsb_response_begin(req, status, lengths[choose(4)]);
    hsb_request_set_user(req, &begun);
}

static void act_begun(hsb_request *req)
{
    for (unsigned n = choose(4); n > 0; n--)
        hsb_response_write(req, some_text());
    switch (choose(6)) {
    case 1: hsb_request_after(req, 0, later, NULL); return;
    case 2: hsb_response_abort(req); break;
    case 3: hsb_conn_close(hsb_request_conn(req), choose(2) != 0); return;
    case 4: return;                     /* until on_drain, or for ever                     */
    case 5: hsb_response_trailer(req, "X-Sum", "1"); hsb_response_end(req); break;
    default: hsb_response_end(req); break;
    }
    hsb_request_set_user(req, &over);
}

static void act_new(hsb_request *req, bool deferrable)
{
    switch (choose(9)) {
    case 1: begin(req); act_begun(req); return;
    case 2: begin(req); return;
    case 3:
        if (deferrable && now.ticket_count < MOST_TICKETS)
            now.tickets[now.ticket_count++] = hsb_request_defer(req);
        return;
    case 4:
        if (!hsb_request_detach(req, choose(2) ? 101 : 200, &stream_hooks))
            return;
        break;
    case 5: hsb_response_close(req); hsb_respond(req, 500, NULL, some_text()); break;
    case 6: hsb_conn_close(hsb_request_conn(req), choose(2) != 0); return;
    case 7: hsb_respond_redirect(req, 303, "/"); break;
    case 8: return;                     /* nothing: 500, if nobody else answers            */
    default: hsb_respond(req, 200, "text/plain", some_text()); break;
    }
    hsb_request_set_user(req, &over);
}

static void act(hsb_request *req, bool deferrable)
{
    if (!hsb_request_user(req))
        act_new(req, deferrable);
    else if (hsb_request_user(req) == &begun)
        act_begun(req);
}

/* --- hooks ------------------------------------------------------------------------------- */

static bool on_accept(hsb_conn *conn, void *user)
{
    (void)conn, (void)user;
    now.accepted++;
    return true;
}

static void on_close(hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)conn, (void)why, (void)user;
    now.closed++;
}

static void on_head(hsb_request *req, void *user)
{
    hsb_str name, value;
    (void)user;
    now.heads++;
    FUZZ_MUST(!now.open);               /* one at a time                                   */
    now.open = req;
    for (int i = 0; hsb_request_header_at(req, i, &name, &value); i++)
        FUZZ_MUST(name.len && value.ptr);
    FUZZ_MUST(hsb_request_method(req).len && hsb_request_target(req).len);
    hsb_request_cookie(req, "a");
    switch (choose(6)) {
    case 1: hsb_request_stream(req); break;
    case 2:
        hsb_request_pause(req);
        now.paused = true;
        break;
    case 3: act(req, true); break;
    default: break;
    }
}

static void on_body(hsb_request *req, hsb_str part, void *user)
{
    (void)user;
    FUZZ_MUST(part.len > 0);
    if (choose(8) == 1) {
        hsb_request_pause(req);
        now.paused = true;
    }
    if (choose(8) == 1)
        act(req, true);
}

static void on_request(hsb_request *req, void *user)
{
    hsb_str name, value;
    (void)user;
    hsb_str rest = hsb_request_body(req);
    while (hsb_form_next(&rest, &name, &value))
        ;
    act(req, true);
}

static void on_drain(hsb_request *req, void *user)
{
    (void)user;
    act(req, false);
}

static void on_finish(hsb_request *req, const hsb_error *why, void *user)
{
    (void)why, (void)user;
    FUZZ_MUST(now.open == req);
    now.finished++;
    now.open = NULL;
    now.paused = false;
}

static void start(void)
{
    hsb_options options;
    hsb_error err;
    memset(&options, 0, sizeof options);
    options.limits.head_bytes = 600;
    options.limits.target_bytes = 100;
    options.limits.head_fields = 10;
    options.limits.body_bytes = 1000;
    options.limits.queued_bytes = 1000;
    options.hooks.on_accept = on_accept;
    options.hooks.on_close = on_close;
    options.hooks.on_head = on_head;
    options.hooks.on_body = on_body;
    options.hooks.on_request = on_request;
    options.hooks.on_drain = on_drain;
    options.hooks.on_finish = on_finish;
    server = hsb_bind("127.0.0.1", 0, &options, &err);
    FUZZ_MUST(server != NULL);
}

/* --- the client ------------------------------------------------------------------------------ */

/* From another address of 127/8 each time, where the system has them all, so that ports last.
   Should they run out all the same: -1, which is no finding. */
static int connect_to_server(void)
{
    static uint32_t turns;
    struct sockaddr_in to;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turns++ % 60000);
    (void)!bind(fd, (struct sockaddr *)&to, sizeof to);
    to.sin_port = htons((uint16_t)hsb_server_port(server));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    FUZZ_MUST(fd >= 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    FUZZ_MUST(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    return fd;
}

static void turn(int fd)
{
    char sink[4096];
    for (int i = 0; i < 20 && hsb_server_poll(server, 0) > 0; i++)
        ;
    while (recv(fd, sink, sizeof sink, 0) > 0)
        ;
}

/* What the application put off. */
static void resume_all(void)
{
    if (now.paused)
        hsb_request_resume(now.open);
    now.paused = false;
    while (now.ticket_count > 0) {
        hsb_ticket ticket = now.tickets[--now.ticket_count];
        int before = now.resumed;
        if (choose(2) == 0 && hsb_ticket_resume(ticket, resumed, NULL))
            while (now.resumed == before)
                hsb_server_poll(server, 1);
        else
            hsb_ticket_drop(ticket);
    }
}

/* An answer that the application never ends keeps its connection, and rightly. */
static void end_answer(void)
{
    if (!now.open || hsb_request_user(now.open) != &begun)
        return;
    hsb_request_set_user(now.open, &over);
    hsb_response_end(now.open);
}

static void talk(int fd, const uint8_t *data, size_t size, uint32_t seed)
{
    for (size_t at = 0; at < size;) {
        size_t n = seed ? fuzz_cut(&seed, 200) : size;
        n = n < size - at ? n : size - at;
        ssize_t sent = send(fd, data + at, n, MSG_NOSIGNAL);
        turn(fd);
        if (sent < 0)
            return;                     /* refused, or not read any more                   */
        at += (size_t)sent;
        if (choose(4) == 1)
            resume_all();
        if (now.open && choose(4) == 1)     /* an event of the application's own           */
            act(now.open, false);
        sends_block = choose(4) == 1;
    }
}

/* By a reset, mostly: each FIN of ours would keep a port for a minute. */
static void leave(int fd)
{
    struct linger reset = { 1, 0 };
    if (choose(8) == 1)
        shutdown(fd, SHUT_WR);
    else if (choose(8) != 1)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    turn(fd);
    close(fd);
}

/* The first byte: how many choices follow.  The second: how the rest is cut. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size - 2 < data[0])
        return 0;
    if (!server)
        start();
    memset(&now, 0, sizeof now);
    now.choices = data + 2;
    now.choice_count = data[0];
    int fd = connect_to_server();
    if (fd < 0)
        return 0;
    for (int i = 0; i < TURNS && !now.accepted; i++)    /* a busy system may be late        */
        hsb_server_poll(server, 1);
    turn(fd);
    talk(fd, data + 2 + data[0], size - 2 - data[0], data[1]);
    resume_all();
    sends_block = false;
    turn(fd);
    leave(fd);
    for (int i = 0; i < TURNS && hsb_server_connections(server).total; i++) {
        resume_all();
        end_answer();
        hsb_server_poll(server, 1);
    }
    FUZZ_MUST(hsb_server_connections(server).total == 0);
    FUZZ_MUST(now.accepted == now.closed);
    FUZZ_MUST(now.heads == now.finished);
    FUZZ_MUST(hsb_server_memory(server) < 4u << 20);
    return 0;
}
