/* The application that is served: a path for each thing that a handler may do, and a list of the
   hooks that were called.  Include httpsbind.h before this. */
#ifndef TESTS_WIRE_APPLICATION_H
#define TESTS_WIRE_APPLICATION_H

#include "help.h"

enum { PATIENCE_MS = 10000 };           /* a server that takes longer for anything hangs   */

static struct application {
    bytebuf *events;                      /* a list                                          */
    size_t event_count;
    bool body_open;                     /* the last event is a body that may go on         */
    int accepted, closed, heads, finished;
} app;

static inline bytebuf *event(const char *name)
{
    app.events = must(realloc(app.events, (app.event_count + 1) * sizeof *app.events));
    bytebuf *e = &app.events[app.event_count++];
    memset(e, 0, sizeof *e);
    bytes_add_text(e, name);
    app.body_open = false;
    return e;
}

static inline void app_reset(void)
{
    for (size_t i = 0; i < app.event_count; i++)
        free(app.events[i].data);
    free(app.events);
    memset(&app, 0, sizeof app);
}

static inline void add_str(bytebuf *b, const char *before, hsb_str s)
{
    bytes_add_text(b, before);
    if (s.ptr)
        bytes_add(b, s.ptr, s.len);
}

/* "text" and the like as an answer's body. */
static inline void answer(hsb_request *req, int status, const bytebuf *b)
{
    hsb_str body = { b->data ? b->data : "", b->len };
    hsb_respond(req, status, "text/plain", body);
}

static inline void write_text(hsb_request *req, const char *text)
{
    hsb_response_write(req, hsb_text(text));
}

static inline void at_root(hsb_request *req)
{
    hsb_respond(req, 200, "text/plain", hsb_text("ok"));
}

static inline void at_echo(hsb_request *req)
{
    hsb_respond(req, 200, "application/octet-stream", hsb_request_body(req));
}

/* All that the request API tells, a line each. */
static inline void at_echo_head(hsb_request *req)
{
    bytebuf out = { 0 };
    hsb_str name, value, query = hsb_request_query(req);
    char number[96];
    add_str(&out, "method ", hsb_request_method(req));
    add_str(&out, "\ntarget ", hsb_request_target(req));
    add_str(&out, "\nhost ", hsb_request_host(req));
    add_str(&out, "\npath ", hsb_request_path(req));
    if (query.ptr)
        add_str(&out, "\nquery ", query);
    snprintf(number, sizeof number, "\nversion 1.%d\nlength %lld\nreceived %lld\n%s\n",
             hsb_request_minor_version(req), (long long)hsb_request_content_length(req),
             (long long)hsb_request_received(req),
             hsb_request_keep_alive(req) ? "keeps alive" : "closes");
    bytes_add_text(&out, number);
    for (int i = 0; hsb_request_header_at(req, i, &name, &value); i++) {
        add_str(&out, "", name);
        add_str(&out, "=", value);
        bytes_add_text(&out, "\n");
    }
    for (int i = 0; hsb_request_trailer_at(req, i, &name, &value); i++) {
        add_str(&out, "trailer ", name);
        add_str(&out, "=", value);
        bytes_add_text(&out, "\n");
    }
    answer(req, 200, &out);
    free(out.data);
}

/* /cookie?name */
static inline void at_cookie(hsb_request *req)
{
    char name[64];
    hsb_str query = hsb_request_query(req);
    snprintf(name, sizeof name, "%.*s", (int)query.len, query.ptr ? query.ptr : "");
    hsb_str value = hsb_request_cookie(req, name);
    hsb_respond(req, value.ptr ? 200 : 404, "text/plain", value);
}

/* /form, of the body: "name=value;" each, decoded */
static inline void at_form(hsb_request *req)
{
    hsb_str rest = hsb_request_body(req), part[2];
    bytebuf out = { 0 };
    while (hsb_form_next(&rest, &part[0], &part[1]))
        for (int i = 0; i < 2; i++) {
            char text[256];
            size_t len;
            bool good = hsb_percent_decode(part[i], true, text, sizeof text, &len);
            bytes_add_text(&out, good ? text : "(malformed)");
            bytes_add_text(&out, i ? ";" : "=");
        }
    answer(req, 200, &out);
    free(out.data);
}

static inline void at_chunks(hsb_request *req)
{
    hsb_response_header(req, "Content-Type", "text/plain");
    hsb_response_begin(req, 200, -1);
    write_text(req, "one,");
    write_text(req, "");
    write_text(req, "two");
    hsb_response_trailer(req, "X-Sum", "7");
    hsb_response_end(req);
}

static inline void at_length(hsb_request *req)
{
    hsb_response_begin(req, 200, 6);
    write_text(req, "foo");
    write_text(req, "bar");
    hsb_response_end(req);
}

static inline void at_too_little(hsb_request *req)
{
    hsb_response_begin(req, 200, 6);
    write_text(req, "foo");
    hsb_response_end(req);
}

static inline void at_too_much(hsb_request *req)
{
    hsb_response_begin(req, 200, 3);
    write_text(req, "foobar");
    hsb_response_end(req);
}

static inline void at_abort(hsb_request *req)
{
    hsb_response_begin(req, 200, -1);
    write_text(req, "foo");
    hsb_response_abort(req);
}

static inline void answer_late(hsb_request *req, void *arg)
{
    (void)arg;
    if (req)
        hsb_respond(req, 200, "text/plain", hsb_text("late"));
}

static inline void at_late(hsb_request *req)
{
    hsb_request_after(req, 3, answer_late, NULL);
}

static inline void at_slow(hsb_request *req)
{
    hsb_request_after(req, 60, answer_late, NULL);
}

static inline void at_never(hsb_request *req)
{
    hsb_request_after(req, 10 * PATIENCE_MS, answer_late, NULL);
}

static inline void at_deferred(hsb_request *req)
{
    hsb_ticket_resume(hsb_request_defer(req), answer_late, NULL);
}

static inline void at_dropped(hsb_request *req)
{
    hsb_ticket_drop(hsb_request_defer(req));
}

static inline void at_close(hsb_request *req)
{
    hsb_response_close(req);
    hsb_respond(req, 200, "text/plain", hsb_text("bye"));
}

static inline void at_redirect(hsb_request *req)
{
    hsb_respond_redirect(req, 303, "/elsewhere");
}

/* /status?204 */
static inline void at_status(hsb_request *req)
{
    hsb_str query = hsb_request_query(req);
    hsb_respond(req, query.len == 3 ? atoi(query.ptr) : 500, "text/plain", hsb_text("body"));
}

static inline void at_fields(hsb_request *req)
{
    hsb_cookie cookie = { .name = "id", .value = "7", .path = "/", .max_age = 60 };
    bool refused = hsb_response_header(req, "Content-Length", "1") ||
                   hsb_response_header(req, "Transfer-Encoding", "chunked") ||
                   hsb_response_header(req, "Connection", "close") ||
                   hsb_response_header(req, "X", "a\r\nY: b") ||
                   hsb_response_header(req, "X Y", "a");
    hsb_response_header(req, "X-One", "1");
    hsb_response_cookie(req, &cookie);
    hsb_respond(req, refused ? 500 : 200, "text/plain", hsb_text("fields"));
}

static inline void echo_data(hsb_stream *stream, hsb_str part, void *user)
{
    (void)user;
    hsb_stream_write(stream, part);
}

static inline void echo_end(hsb_stream *stream, void *user)
{
    (void)user;
    hsb_stream_close(stream, false);
}

static const hsb_stream_hooks echo_hooks = { .on_data = echo_data, .on_end = echo_end };

static inline void at_upgrade(hsb_request *req)
{
    hsb_response_header(req, "Upgrade", "echo");
    if (!hsb_request_detach(req, 101, &echo_hooks))
        hsb_respond(req, 200, NULL, hsb_text("still HTTP"));
}

static inline void connect_to(hsb_request *req)
{
    if (!hsb_request_detach(req, 200, &echo_hooks))
        hsb_respond(req, 500, NULL, hsb_text("not detached"));
}

static inline void at_nothing(hsb_request *req)
{
    (void)req;
}

/* Called when the head has come; the answer makes the body unwanted. */
static inline void head_refuse(hsb_request *req)
{
    hsb_respond(req, 403, "text/plain", hsb_text("refused"));
}

static inline void head_stream(hsb_request *req)
{
    hsb_request_stream(req);
}

static inline void go_on(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_request_resume(req);
}

static inline void head_pause(hsb_request *req)
{
    hsb_request_stream(req);
    hsb_request_pause(req);
    hsb_request_after(req, 3, go_on, NULL);
}

static inline void head_pause_long(hsb_request *req)
{
    hsb_request_stream(req);
    hsb_request_pause(req);
    hsb_request_after(req, 120, go_on, NULL);
}

/* An answer that is begun before the body has come, and echoes it. */
static inline void head_duplex(hsb_request *req)
{
    hsb_request_stream(req);
    hsb_response_begin(req, 200, -1);
    write_text(req, "<");
}

static inline void at_duplex(hsb_request *req)
{
    write_text(req, ">");
    hsb_response_end(req);
}

static inline void at_stream(hsb_request *req)
{
    char text[64];
    snprintf(text, sizeof text, "%lld bytes", (long long)hsb_request_received(req));
    hsb_respond(req, hsb_request_body(req).ptr ? 500 : 200, "text/plain", hsb_text(text));
}

/* --- forms with files: what each hook is given is an event ------------------------------------ */
static inline void add_part(bytebuf *e, const hsb_part *part)
{
    add_str(e, "", part->name);
    add_str(e, part->file_name.ptr ? "|" : "", part->file_name);
    add_str(e, part->type.ptr ? "|" : "", part->type);
}

static inline void form_part(hsb_request *req, const hsb_part *part, void *user)
{
    (void)req, (void)user;
    add_part(event("part "), part);
}

static inline void form_data(hsb_request *req, hsb_str bytes, void *user)
{
    (void)req, (void)user;
    bytebuf *e = app.body_open ? &app.events[app.event_count - 1] : event("data ");
    add_str(e, "", bytes);
    app.body_open = true;
}

static inline void form_end(hsb_request *req, void *user)
{
    (void)req, (void)user;
    event("end");
}

static inline void head_multipart(hsb_request *req)
{
    hsb_multipart_hooks hooks = { NULL, form_part, form_data, form_end, 3, 100 };
    hsb_request_multipart(req, &hooks);
}

static inline void wait_a_little(hsb_request *req)
{
    hsb_request_pause(req);
    hsb_request_after(req, 1, go_on, NULL);
}

static inline void form_part_slow(hsb_request *req, const hsb_part *part, void *user)
{
    form_part(req, part, user);
    wait_a_little(req);
}

static inline void form_end_slow(hsb_request *req, void *user)
{
    form_end(req, user);
    wait_a_little(req);
}

static inline void head_multipart_slow(hsb_request *req)
{
    hsb_multipart_hooks hooks = { NULL, form_part_slow, form_data, form_end_slow, 0, 0 };
    hsb_request_multipart(req, &hooks);
    wait_a_little(req);
}

static inline void form_part_refused(hsb_request *req, const hsb_part *part, void *user)
{
    form_part(req, part, user);
    if (hsb_equal(part->name, "bad"))
        hsb_respond(req, 403, "text/plain", hsb_text("refused"));
}

static inline void head_multipart_refuse(hsb_request *req)
{
    hsb_multipart_hooks hooks = { NULL, form_part_refused, form_data, form_end, 0, 0 };
    hsb_request_multipart(req, &hooks);
}

static inline void form_data_echo(hsb_request *req, hsb_str bytes, void *user)
{
    form_data(req, bytes, user);
    hsb_response_write(req, bytes);
}

static inline void head_multipart_duplex(hsb_request *req)
{
    hsb_multipart_hooks hooks = { NULL, NULL, form_data_echo, NULL, 0, 0 };
    if (hsb_request_multipart(req, &hooks))
        hsb_response_begin(req, 200, -1);
}

/* Kept: "[name|file|type]bytes" for each part. */
static inline void at_next_part(hsb_request *req)
{
    bytebuf out = { 0 };
    hsb_str rest = { NULL, 0 }, bytes;
    hsb_part part;
    while (hsb_request_next_part(req, &rest, &part, &bytes)) {
        bytes_add_text(&out, "[");
        add_part(&out, &part);
        add_str(&out, "]", bytes);
    }
    answer(req, 200, &out);
    free(out.data);
}
/* /table/...: a table of routes. */
static inline void at_table_item(hsb_request *req, void *user)
{
    hsb_str method = hsb_request_method(req), id = hsb_request_param(req, "id");
    (void)user;
    hsb_respondf(req, 200, "text/plain", "%.*s %s %.*s", (int)method.len, method.ptr,
                 hsb_request_pattern(req), (int)id.len, id.ptr ? id.ptr : "");
}

static const hsb_route table[] = {
    { "GET", "/table/:id", at_table_item }, { "PUT", "/table/:id", at_table_item },
    { "OPTIONS", "/table/own/options", at_table_item }, { "GET", "/table/*id", at_table_item },
    { "POST", "/table", at_table_item }, { 0 }
};

static inline void not_found(hsb_request *req)
{
    if (!hsb_request_route(req, table, NULL))
        hsb_respond(req, 404, "text/plain", hsb_text("not found"));
}

static const struct route {
    const char *path;
    void (*head)(hsb_request *), (*request)(hsb_request *);
} routes[] = {
    { "/", NULL, at_root },
    { "*", NULL, at_root },
    { "/echo", NULL, at_echo },
    { "/echo-head", NULL, at_echo_head },
    { "/cookie", NULL, at_cookie },
    { "/form", NULL, at_form },
    { "/chunks", NULL, at_chunks },
    { "/length", NULL, at_length },
    { "/too-little", NULL, at_too_little },
    { "/too-much", NULL, at_too_much },
    { "/abort", NULL, at_abort },
    { "/late", NULL, at_late },
    { "/slow", NULL, at_slow },
    { "/never", NULL, at_never },
    { "/deferred", NULL, at_deferred },
    { "/dropped", NULL, at_dropped },
    { "/close", NULL, at_close },
    { "/redirect", NULL, at_redirect },
    { "/status", NULL, at_status },
    { "/fields", NULL, at_fields },
    { "/upgrade", NULL, at_upgrade },
    { "/nothing", NULL, at_nothing },
    { "/refuse", head_refuse, at_nothing },
    { "/stream", head_stream, at_stream },
    { "/pause", head_pause, at_stream },
    { "/pause-long", head_pause_long, at_stream },
    { "/duplex", head_duplex, at_duplex },
    { "/multipart", head_multipart, at_stream },
    { "/multipart-slow", head_multipart_slow, at_stream },
    { "/multipart-refuse", head_multipart_refuse, at_stream },
    { "/multipart-duplex", head_multipart_duplex, at_duplex },
    { "/next-part", NULL, at_next_part },
};

static inline const struct route *route_of(hsb_request *req)
{
    static const struct route connecting = { NULL, connect_to, NULL };
    static const struct route nowhere = { NULL, NULL, not_found };
    if (hsb_equal(hsb_request_method(req), "CONNECT"))
        return &connecting;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (hsb_equal(hsb_request_path(req), routes[i].path))
            return &routes[i];
    return &nowhere;
}

static inline void event_with_reason(const char *name, const hsb_error *why)
{
    static const char *const names[] = { "", " MISUSE", " MEMORY", " SYSTEM", " LOOKUP", " SHARED",
        " PEM", " CERT", " KEY", " TLS", " HTTP", " LIMIT", " TIMEOUT", " CLOSED", " SHUTDOWN" };
    bytes_add_text(event(name), names[why ? why->status : HSB_OK]);
}

static inline bool on_accept(hsb_conn *conn, void *user)
{
    (void)conn, (void)user;
    app.accepted++;
    return true;
}

static inline void on_close(hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)conn, (void)user;
    app.closed++;
    event_with_reason("close", why);
}

static inline void on_error(hsb_server *server, hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)server, (void)conn, (void)user;
    bytes_add_text(event("error "), why->text);
}

/* Where a conversation asks for it: @ error_page. */
static inline void on_error_page(int status, const char *reason, const char **type, hsb_str *body,
                                 void *user)
{
    static char page[128];
    (void)user;
    snprintf(page, sizeof page, "<p>%d %s</p>", status, reason);
    *type = "text/html";
    *body = hsb_text(page);
}

static inline void on_head(hsb_request *req, void *user)
{
    (void)user;
    app.heads++;
    bytebuf *e = event("head ");
    add_str(e, "", hsb_request_method(req));
    add_str(e, " ", hsb_request_target(req));
    const struct route *r = route_of(req);
    if (r->head)
        r->head(req);
}

/* How the body was cut is the network's doing, so its parts are one event. */
static inline void on_body(hsb_request *req, hsb_str part, void *user)
{
    (void)user;
    bytebuf *e = app.body_open ? &app.events[app.event_count - 1] : event("body ");
    add_str(e, "", part);
    app.body_open = true;
    if (hsb_equal(hsb_request_path(req), "/duplex"))
        hsb_response_write(req, part);
}

static inline void on_request(hsb_request *req, void *user)
{
    (void)user;
    hsb_str body = hsb_request_body(req);
    bytebuf *e = event("request");
    if (body.len)
        add_str(e, " ", body);
    const struct route *r = route_of(req);
    if (r->request)
        r->request(req);
}

static inline void on_finish(hsb_request *req, const hsb_error *why, void *user)
{
    (void)req, (void)user;
    app.finished++;
    event_with_reason("finish", why);
}

#endif
