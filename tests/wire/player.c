/* Plays written conversations against a real server in this process.

       player tests/wire/FILE.txt...        SEED=n: other random cuts; CUTS=n: more of them

   Each conversation is played over plain TCP and over TLS, and each time whole, byte by
   byte and cut at random places: what the server answers, and what its hooks are told,
   must be the same.  A conversation reads like this:

       # a comment
       A head in two parts:                     a line that ends with ':' begins one
       @ limits.head_bytes 200                  an option of its server (see the list below)
       > GET / HTTP/1.1\r\n                     bytes to send: \r \n \t \0 \\ \* \xHH, and
       > Host: a\r\n\r\n                        \{300 ab} for 300 times "ab"
       < 200 length "ok"                        the answer; what stands behind it must be true:
       < Content-Type: *                        a field of it; a star is anything
       < -Server                                a field that it has not
       ! head GET /                             hooks that were called, in this order
       ! request
       ! finish                                 or "finish CLOSED", why it was no good end
       ! close                                  may be left away

   All that stands between two answers is sent in one go, so requests written before the
   first '<' are pipelined.  Behind a status may stand:
       close         has Connection: close, and the connection ends after it
       keep          has Connection: keep-alive (an HTTP/1.0 client asked for it)
       chunked, length, until-close     how its body is framed
       bare          no body follows, whatever its fields say (HEAD, CONNECT)
       cut           the connection ends in the middle of it
       "..."         its body, decoded
   "<= ..." are bytes as they are, where a star is anything but CR.  "<end" is the connection's end
   where no answer announced it; "<cut" as well, and what may have come before it cannot be taken
   for a whole answer.  With no '!' line, hooks are not looked at; "! nothing": none was called.
   More lines with '@':
       @ plain, @ tls, @ whole        only over that; only in one piece
       @ fin                          the client has no more to send (over TLS: close_notify)
       @ leave, @ reset               it goes: FIN without close_notify; RST
       @ wait MS                      it takes its time
       @ OPTION [VALUE]               see options_known below

   When all was said the connection must still be open unless an answer closed it; then the
   client leaves politely, and the server must see it off. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "random.h"

#include "help.h"
#include <openssl/ssl.h>

enum { PATIENCE_MS = 10000 };           /* a server that takes longer for anything hangs   */

static void add_escaped(bytebuf *b, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned c = (unsigned char)data[i];
        char text[8];
        if (c == '\r' || c == '\n')
            snprintf(text, sizeof text, c == '\r' ? "\\r" : "\\n\n");
        else
            snprintf(text, sizeof text, c >= ' ' && c < 127 ? "%c" : "\\x%02x", c);
        bytes_add_text(b, text);
    }
}

/* --- what is written in the files ----------------------------------------------------- */

typedef enum step_kind { SEND, ANSWER, RAW, END, CUT, FIN, LEAVE, RESET, WAIT } step_kind;

typedef struct step {
    step_kind kind;
    int line, number;               /* number: ms of WAIT                                  */
    const char *text;
    const char **fields;            /* of ANSWER                                           */
    size_t field_count;
} step;

typedef struct conversation {
    const char *file, *name;
    int line;
    step *steps;
    size_t step_count;
    const char **events;
    size_t event_count;
    bool no_plain, no_tls, only_whole, wants_events;
    hsb_options options;
} conversation;

static conversation *conversations;
static size_t conversation_count;

static const struct { const char *name; size_t offset; char kind; } options_known[] = {
#define OPTION(field, kind) { #field, offsetof(hsb_options, field), kind }
    OPTION(limits.target_bytes, 'i'), OPTION(limits.head_bytes, 'i'),
    OPTION(limits.head_fields, 'i'), OPTION(limits.body_bytes, 'l'),
    OPTION(limits.stream_bytes, 'l'), OPTION(limits.requests, 'i'), OPTION(limits.rate, 'i'),
    OPTION(limits.queued_bytes, 'i'), OPTION(timeouts.head, 'i'), OPTION(timeouts.body, 'i'),
    OPTION(timeouts.idle, 'i'), OPTION(timeouts.close, 'i'), OPTION(timeouts.write, 'i'),
    OPTION(timeouts.handshake, 'i'), OPTION(no_keep_alive, 'b'), OPTION(server_header, 's'),
#undef OPTION
};

static void wrong_file(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(2);
}

/* The next character of a text with escapes: 0..255, ANY for a star, or -1 at its end. */
enum { ANY = 256 };

static int next_code(const char **text)
{
    const char *t = *text;
    char hex[3] = { 0 };
    if (*t == '\0')
        return -1;
    *text = t + (*t == '\\' && t[1] ? 2 : 1);
    if (*t == '*')
        return ANY;
    if (*t != '\\')
        return (unsigned char)*t;
    switch (t[1]) {
    case 'r': return '\r';
    case 'n': return '\n';
    case 't': return '\t';
    case '0': return 0;
    case 'x':
        memcpy(hex, t + 2, strnlen(t + 2, 2));
        *text = t + 2 + strlen(hex);
        return (int)strtoul(hex, NULL, 16);
    default: return (unsigned char)t[1];
    }
}

/* Text that is to be sent: a star is a star, and \{n text} repeats. */
static void add_unescaped(bytebuf *out, const char *text)
{
    while (*text) {
        if (strncmp(text, "\\{", 2) == 0) {
            char *part;
            size_t count = strtoul(text + 2, &part, 10);
            size_t len = strcspn(++part, "}");
            bytebuf once = { 0 };
            char *copy = must(strndup(part, len));
            add_unescaped(&once, copy);
            while (count--)
                bytes_add(out, once.data, once.len);
            free(once.data);
            free(copy);
            text = part + len + (part[len] == '}');
            continue;
        }
        int code = next_code(&text);
        char c = (char)(code == ANY ? '*' : code);
        bytes_add(out, &c, 1);
    }
}

/* Whether the whole of data fits the pattern. */
static bool fits(const char *pattern, const char *data, size_t len)
{
    int code = next_code(&pattern);
    if (code < 0)
        return len == 0;
    if (code != ANY)
        return len && (unsigned char)*data == code && fits(pattern, data + 1, len - 1);
    for (size_t skip = 0; skip <= len; skip++)
        if (fits(pattern, data + skip, len - skip))
            return true;
    return false;
}

/* As above for a beginning of data, and a star stops before CR: how long the beginning is;
   -1: it does not fit; -2: there is not enough yet to tell. */
static long fits_start(const char *pattern, const char *data, size_t len)
{
    size_t at = 0;
    for (;;) {
        int code = next_code(&pattern);
        if (code < 0)
            return (long)at;
        if (code == ANY) {
            for (size_t skip = at;; skip++) {
                long rest = fits_start(pattern, data + skip, len - skip);
                if (rest != -1)
                    return rest < 0 ? rest : (long)skip + rest;
                if (data[skip] == '\r')
                    return -1;
            }
        }
        if (at == len)
            return -2;
        if ((unsigned char)data[at++] != code)
            return -1;
    }
}

static step *new_step(conversation *c, step_kind kind, int line, const char *text)
{
    c->steps = must(realloc(c->steps, (c->step_count + 1) * sizeof *c->steps));
    step *s = &c->steps[c->step_count++];
    memset(s, 0, sizeof *s);
    s->kind = kind;
    s->line = line;
    s->text = text;
    return s;
}

static void append_text(const char ***list, size_t *count, const char *text)
{
    *list = must(realloc((void *)*list, (*count + 1) * sizeof **list));
    (*list)[(*count)++] = text;
}

static void read_expectation(conversation *c, int line, const char *text)
{
    step *last = c->step_count ? &c->steps[c->step_count - 1] : NULL;
    if (text[0] == '=')
        new_step(c, RAW, line, text + 1 + strspn(text + 1, " "));
    else if (strcmp(text, "end") == 0)
        new_step(c, END, line, "");
    else if (strcmp(text, "cut") == 0)
        new_step(c, CUT, line, "");
    else if (text[0] == ' ' && text[1] >= '1' && text[1] <= '5')
        new_step(c, ANSWER, line, text + 1);
    else if (last && last->kind == ANSWER)
        append_text(&last->fields, &last->field_count, text + strspn(text, " "));
    else
        wrong_file(c->file, line, "a field without an answer");
}

static bool read_option(conversation *c, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof options_known / sizeof *options_known; i++) {
        char *at = (char *)&c->options + options_known[i].offset;
        if (strcmp(name, options_known[i].name) != 0)
            continue;
        switch (options_known[i].kind) {
        case 'i': *(int *)(void *)at = atoi(value); break;
        case 'l': *(int64_t *)(void *)at = atoll(value); break;
        case 'b': *(bool *)(void *)at = true; break;
        case 's': *(const char **)(void *)at = value; break;
        }
        return true;
    }
    return false;
}

static void read_directive(conversation *c, int line, char *text)
{
    static const struct { const char *name; step_kind kind; } steps[] = {
        { "fin", FIN }, { "leave", LEAVE }, { "reset", RESET }, { "wait", WAIT } };
    char *value = text + strcspn(text, " ");
    if (*value)
        *value++ = '\0';
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (strcmp(text, steps[i].name) == 0) {
            new_step(c, steps[i].kind, line, "")->number = atoi(value);
            return;
        }
    if (strcmp(text, "plain") == 0)
        c->no_tls = true;
    else if (strcmp(text, "tls") == 0)
        c->no_plain = true;
    else if (strcmp(text, "whole") == 0)
        c->only_whole = true;
    else if (!read_option(c, text, value))
        wrong_file(c->file, line, "unknown option");
}

static void read_line(const char *file, int number, char *line)
{
    size_t len = strlen(line);
    conversation *c = conversation_count ? &conversations[conversation_count - 1] : NULL;
    bool inside = c && strcmp(c->file, file) == 0;
    if (len == 0 || line[0] == '#')
        return;
    if (strchr("><!@", line[0])) {
        char *text = line + 1 + (line[0] != '<' && line[1] == ' ');
        if (!inside)
            wrong_file(file, number, "no conversation has begun");
        if (line[0] == '>')
            new_step(c, SEND, number, text);
        else if (line[0] == '<')
            read_expectation(c, number, text);
        else if (line[0] == '@')
            read_directive(c, number, text);
        else
            append_text(&c->events, &c->event_count, text);
        return;
    }
    if (line[len - 1] != ':')
        wrong_file(file, number, "neither a name with ':' nor one of > < ! @ #");
    line[len - 1] = '\0';
    conversations = must(realloc(conversations, (conversation_count + 1) * sizeof *conversations));
    c = &conversations[conversation_count++];
    memset(c, 0, sizeof *c);
    c->file = file;
    c->name = line;
    c->line = number;
}

/* The text stays in memory: all that is read points into it. */
static void read_file(const char *path)
{
    bytebuf all = { 0 };
    char part[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f)
        wrong_file(path, 0, strerror(errno));
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        bytes_add(&all, part, n);
    fclose(f);
    bytes_add(&all, "", 1);
    int number = 1;
    for (char *line = all.data, *next; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        read_line(path, number, line);
    }
}

/* --- the application that is served --------------------------------------------------- */

static struct application {
    bytebuf *events;                      /* a list                                          */
    size_t event_count;
    bool body_open;                     /* the last event is a body that may go on         */
    int accepted, closed, heads, finished;
} app;

static bytebuf *event(const char *name)
{
    app.events = must(realloc(app.events, (app.event_count + 1) * sizeof *app.events));
    bytebuf *e = &app.events[app.event_count++];
    memset(e, 0, sizeof *e);
    bytes_add_text(e, name);
    app.body_open = false;
    return e;
}

static void app_reset(void)
{
    for (size_t i = 0; i < app.event_count; i++)
        free(app.events[i].data);
    free(app.events);
    memset(&app, 0, sizeof app);
}

static void add_str(bytebuf *b, const char *before, hsb_str s)
{
    bytes_add_text(b, before);
    if (s.ptr)
        bytes_add(b, s.ptr, s.len);
}

/* "text" and the like as an answer's body. */
static void answer(hsb_request *req, int status, const bytebuf *b)
{
    hsb_str body = { b->data ? b->data : "", b->len };
    hsb_respond(req, status, "text/plain", body);
}

static void write_text(hsb_request *req, const char *text)
{
    hsb_response_write(req, hsb_text(text));
}

static void at_root(hsb_request *req)
{
    hsb_respond(req, 200, "text/plain", hsb_text("ok"));
}

static void at_echo(hsb_request *req)
{
    hsb_respond(req, 200, "application/octet-stream", hsb_request_body(req));
}

/* All that the request API tells, a line each. */
static void at_echo_head(hsb_request *req)
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
static void at_cookie(hsb_request *req)
{
    char name[64];
    hsb_str query = hsb_request_query(req);
    snprintf(name, sizeof name, "%.*s", (int)query.len, query.ptr ? query.ptr : "");
    hsb_str value = hsb_request_cookie(req, name);
    hsb_respond(req, value.ptr ? 200 : 404, "text/plain", value);
}

/* /form, of the body: "name=value;" each, decoded */
static void at_form(hsb_request *req)
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

static void at_chunks(hsb_request *req)
{
    hsb_response_header(req, "Content-Type", "text/plain");
    hsb_response_begin(req, 200, -1);
    write_text(req, "one,");
    write_text(req, "");
    write_text(req, "two");
    hsb_response_trailer(req, "X-Sum", "7");
    hsb_response_end(req);
}

static void at_length(hsb_request *req)
{
    hsb_response_begin(req, 200, 6);
    write_text(req, "foo");
    write_text(req, "bar");
    hsb_response_end(req);
}

static void at_too_little(hsb_request *req)
{
    hsb_response_begin(req, 200, 6);
    write_text(req, "foo");
    hsb_response_end(req);
}

static void at_too_much(hsb_request *req)
{
    hsb_response_begin(req, 200, 3);
    write_text(req, "foobar");
    hsb_response_end(req);
}

static void at_abort(hsb_request *req)
{
    hsb_response_begin(req, 200, -1);
    write_text(req, "foo");
    hsb_response_abort(req);
}

static void answer_late(hsb_request *req, void *arg)
{
    (void)arg;
    if (req)
        hsb_respond(req, 200, "text/plain", hsb_text("late"));
}

static void at_late(hsb_request *req)
{
    hsb_request_after(req, 3, answer_late, NULL);
}

static void at_slow(hsb_request *req)
{
    hsb_request_after(req, 60, answer_late, NULL);
}

static void at_never(hsb_request *req)
{
    hsb_request_after(req, 10 * PATIENCE_MS, answer_late, NULL);
}

static void at_deferred(hsb_request *req)
{
    hsb_ticket_resume(hsb_request_defer(req), answer_late, NULL);
}

static void at_dropped(hsb_request *req)
{
    hsb_ticket_drop(hsb_request_defer(req));
}

static void at_close(hsb_request *req)
{
    hsb_response_close(req);
    hsb_respond(req, 200, "text/plain", hsb_text("bye"));
}

static void at_redirect(hsb_request *req)
{
    hsb_respond_redirect(req, 303, "/elsewhere");
}

/* /status?204 */
static void at_status(hsb_request *req)
{
    hsb_str query = hsb_request_query(req);
    hsb_respond(req, query.len == 3 ? atoi(query.ptr) : 500, "text/plain", hsb_text("body"));
}

static void at_fields(hsb_request *req)
{
    hsb_cookie cookie = { .name = "id", .value = "7", .path = "/", .max_age = 60 };
    bool refused = hsb_response_header(req, "Content-Length", "1") ||
                   hsb_response_header(req, "Transfer-Encoding", "chunked") ||
                   hsb_response_header(req, "Connection", "close") ||
                   hsb_response_header(req, "X", "a\r\nY: b") || hsb_response_header(req, "X Y", "a");
    hsb_response_header(req, "X-One", "1");
    hsb_response_cookie(req, &cookie);
    hsb_respond(req, refused ? 500 : 200, "text/plain", hsb_text("fields"));
}

static void echo_data(hsb_stream *stream, hsb_str part, void *user)
{
    (void)user;
    hsb_stream_write(stream, part);
}

static void echo_end(hsb_stream *stream, void *user)
{
    (void)user;
    hsb_stream_close(stream, false);
}

static const hsb_stream_hooks echo_hooks = { .on_data = echo_data, .on_end = echo_end };

static void at_upgrade(hsb_request *req)
{
    hsb_response_header(req, "Upgrade", "echo");
    if (!hsb_request_detach(req, 101, &echo_hooks))
        hsb_respond(req, 200, NULL, hsb_text("still HTTP"));
}

static void connect_to(hsb_request *req)
{
    if (!hsb_request_detach(req, 200, &echo_hooks))
        hsb_respond(req, 500, NULL, hsb_text("not detached"));
}

static void at_nothing(hsb_request *req)
{
    (void)req;
}

/* Called when the head has come; the answer makes the body unwanted. */
static void head_refuse(hsb_request *req)
{
    hsb_respond(req, 403, "text/plain", hsb_text("refused"));
}

static void head_stream(hsb_request *req)
{
    hsb_request_stream(req);
}

static void go_on(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_request_resume(req);
}

static void head_pause(hsb_request *req)
{
    hsb_request_stream(req);
    hsb_request_pause(req);
    hsb_request_after(req, 3, go_on, NULL);
}

static void head_pause_long(hsb_request *req)
{
    hsb_request_stream(req);
    hsb_request_pause(req);
    hsb_request_after(req, 120, go_on, NULL);
}

/* An answer that is begun before the body has come, and echoes it. */
static void head_duplex(hsb_request *req)
{
    hsb_request_stream(req);
    hsb_response_begin(req, 200, -1);
    write_text(req, "<");
}

static void at_duplex(hsb_request *req)
{
    write_text(req, ">");
    hsb_response_end(req);
}

static void at_stream(hsb_request *req)
{
    char text[64];
    snprintf(text, sizeof text, "%lld bytes", (long long)hsb_request_received(req));
    hsb_respond(req, hsb_request_body(req).ptr ? 500 : 200, "text/plain", hsb_text(text));
}

static void not_found(hsb_request *req)
{
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
};

static const struct route *route_of(hsb_request *req)
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

static void event_with_reason(const char *name, const hsb_error *why)
{
    static const char *const names[] = { "", " MISUSE", " MEMORY", " SYSTEM", " LOOKUP", " SHARED",
        " PEM", " CERT", " KEY", " TLS", " HTTP", " LIMIT", " TIMEOUT", " CLOSED", " SHUTDOWN" };
    bytes_add_text(event(name), names[why ? why->status : HSB_OK]);
}

static bool on_accept(hsb_conn *conn, void *user)
{
    (void)conn, (void)user;
    app.accepted++;
    return true;
}

static void on_close(hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)conn, (void)user;
    app.closed++;
    event_with_reason("close", why);
}

static void on_error(hsb_server *server, hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)server, (void)conn, (void)user;
    bytes_add_text(event("error "), why->text);
}

static void on_head(hsb_request *req, void *user)
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
static void on_body(hsb_request *req, hsb_str part, void *user)
{
    (void)user;
    bytebuf *e = app.body_open ? &app.events[app.event_count - 1] : event("body ");
    add_str(e, "", part);
    app.body_open = true;
    if (hsb_equal(hsb_request_path(req), "/duplex"))
        hsb_response_write(req, part);
}

static void on_request(hsb_request *req, void *user)
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

static void on_finish(hsb_request *req, const hsb_error *why, void *user)
{
    (void)req, (void)user;
    app.finished++;
    event_with_reason("finish", why);
}

/* --- the client ----------------------------------------------------------------------- */

static char complaint[512];

__attribute__((format(printf, 1, 2)))
static bool complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!complaint[0])
        vsnprintf(complaint, sizeof complaint, format, args);
    va_end(args);
    return false;
}

typedef enum cutting { WHOLE, BYTES, RANDOM } cutting;

typedef struct client {
    hsb_server *server;
    int fd;                     /* -1: left                                                */
    SSL *ssl;                   /* NULL: plain                                             */
    cutting cuts;
    bytebuf outgoing;           /* for the socket                                          */
    bytebuf got;                /* decrypted                                               */
    size_t seen;                /* of got: matched by what was expected                    */
    bool ended;                 /* the server sends no more                                */
    bool polite;                /* ... and said so, where TLS asks for that                */
    bool must_end, may_be_cut;
} client;

static SSL_CTX *client_tls;

static void take_plain(client *c)
{
    char part[16384];
    int n;
    while ((n = SSL_read(c->ssl, part, sizeof part)) > 0)
        bytes_add(&c->got, part, (size_t)n);
    if (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN)
        c->ended = c->polite = true;
}

static void client_receive(client *c)
{
    char part[16384];
    while (c->fd >= 0) {
        ssize_t n = recv(c->fd, part, sizeof part, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n > 0 && !c->ssl) {
            bytes_add(&c->got, part, (size_t)n);
        } else if (n > 0) {
            BIO_write(SSL_get_rbio(c->ssl), part, (int)n);
            take_plain(c);
        } else {
            c->ended = true;
            c->polite = c->polite || (!c->ssl && n == 0);
            return;
        }
    }
}

/* What OpenSSL wants to send, behind what waits already. */
static void collect_records(client *c)
{
    char part[16384];
    int n;
    while (c->ssl && (n = BIO_read(SSL_get_wbio(c->ssl), part, sizeof part)) > 0)
        bytes_add(&c->outgoing, part, (size_t)n);
}

/* The server's turn, for as long as it has something to do. */
static void server_turn(client *c)
{
    for (int i = 0; i < 100 && hsb_server_poll(c->server, 0) > 0; i++)
        client_receive(c);
    client_receive(c);
}

/* All that waits, cut as the play wants it: over TLS, cuts fall anywhere in the records. */
static bool client_flush(client *c)
{
    size_t at = 0;
    int64_t until = clock_ms() + PATIENCE_MS;
    collect_records(c);
    while (at < c->outgoing.len && c->fd >= 0) {
        size_t n = c->cuts == WHOLE || (c->ssl && c->cuts == BYTES) ? c->outgoing.len - at
                 : c->cuts == BYTES ? 1 : 1 + random_below(random_below(4) ? 8 : 400);
        n = n < c->outgoing.len - at ? n : c->outgoing.len - at;
        ssize_t sent = send(c->fd, c->outgoing.data + at, n, MSG_NOSIGNAL);
        if (sent > 0)
            at += (size_t)sent;
        else if (errno != EAGAIN)
            break;                          /* it has gone; what it said is read elsewhere */
        server_turn(c);
        if (clock_ms() > until)
            return complain("the server takes no more input");
    }
    c->outgoing.len = 0;
    return true;
}

/* Over TLS byte by byte means a record for each byte. */
static bool client_send(client *c, const char *data, size_t len)
{
    if (!c->ssl) {
        bytes_add(&c->outgoing, data, len);
        return client_flush(c);
    }
    for (size_t at = 0; at < len;) {
        size_t n = c->cuts == WHOLE ? len : c->cuts == BYTES ? 1 : 1 + random_below(60);
        n = n < len - at ? n : len - at;
        if (SSL_write(c->ssl, data + at, (int)n) <= 0)
            return c->ended || complain("TLS: nothing can be sent");
        at += n;
        if (!client_flush(c))
            return false;
    }
    return true;
}

static bool client_handshake(client *c)
{
    int64_t until = clock_ms() + PATIENCE_MS;
    while (!SSL_is_init_finished(c->ssl)) {
        int n = SSL_do_handshake(c->ssl);
        int why = SSL_get_error(c->ssl, n);
        if (n <= 0 && why != SSL_ERROR_WANT_READ)
            return complain("TLS: no handshake");
        if (!client_flush(c))
            return false;
        hsb_server_poll(c->server, 0);
        client_receive(c);
        if (c->ended || clock_ms() > until)
            return complain("TLS: the handshake did not end");
    }
    take_plain(c);
    return client_flush(c);
}

/* Waits for whatever `ready` waits for. */
static bool wait_for(client *c, bool (*ready)(client *c), const char *what)
{
    int64_t until = clock_ms() + PATIENCE_MS;
    for (;;) {
        server_turn(c);
        if (ready(c))
            return true;
        if (clock_ms() > until)
            return complain("waited in vain for %s", what);
        hsb_server_poll(c->server, 2);
    }
}

static bool has_ended(client *c)
{
    return c->ended;
}

static bool is_accepted(client *c)
{
    (void)c;
    return app.accepted > 0;
}

static bool is_forgotten(client *c)
{
    return hsb_server_connections(c->server).total == 0;
}

static bool client_open(client *c, hsb_server *server, bool tls, cutting cuts)
{
    memset(c, 0, sizeof *c);
    c->server = server;
    c->cuts = cuts;
    hsb_address to = hsb_server_address(server, tls ? 1 : 0);
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(to.port) };
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&in, sizeof in) != 0)
        return complain("connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (!wait_for(c, is_accepted, "on_accept") || !tls)
        return !complaint[0];
    c->ssl = must(SSL_new(client_tls));
    SSL_set_bio(c->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(c->ssl);
    return client_handshake(c);
}

/* No more from us. */
static void client_fin(client *c)
{
    if (c->ssl) {
        SSL_shutdown(c->ssl);
        client_flush(c);
    }
    if (c->fd >= 0)
        shutdown(c->fd, SHUT_WR);
    server_turn(c);
}

static void client_leave(client *c, bool reset)
{
    struct linger now = { 1, 0 };
    if (c->fd >= 0 && reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    server_turn(c);
}

/* --- answers -------------------------------------------------------------------------- */

enum { MOST_FIELDS = 64 };

typedef struct reply {
    int status;
    hsb_str name[MOST_FIELDS], value[MOST_FIELDS];
    int field_count;
    const char *framing;            /* "chunked", "length", "until-close", "bare"          */
    bytebuf body;
    bool whole;
    size_t end;                     /* in the bytes received                               */
} reply;

/* The line at *at, which moves behind it. */
static bool take_line(const bytebuf *b, size_t *at, hsb_str *line)
{
    const char *from = b->data + *at;
    const char *end = *at < b->len ? memchr(from, '\r', b->len - *at) : NULL;
    if (!end || end + 1 >= b->data + b->len)
        return false;
    *line = hsb__text_make(from, (size_t)(end - from));
    *at += line->len + 2;
    return end[1] == '\n' || complain("CR without LF in the answer");
}

static hsb_str reply_field(const reply *r, const char *name)
{
    for (int i = 0; i < r->field_count; i++)
        if (hsb__text_is_nocase(r->name[i], name))
            return r->value[i];
    return hsb__text_absent();
}

/* Fields up to the empty line. */
static bool take_fields(const bytebuf *b, size_t *at, reply *r)
{
    hsb_str line;
    while (take_line(b, at, &line)) {
        const char *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
        if (line.len == 0)
            return true;
        size_t n = colon ? (size_t)(colon - line.ptr) : 0;
        if (!hsb__text_is_token(hsb__text_make(line.ptr, n)) || r->field_count == MOST_FIELDS)
            return complain("malformed field: %.*s", (int)line.len, line.ptr);
        r->name[r->field_count] = hsb__text_make(line.ptr, n);
        r->value[r->field_count++] = hsb__text_trim(hsb__text_make(colon + 1, line.len - n - 1));
    }
    return false;
}

/* RFC 9112 7.1, trailers among the fields */
static bool take_chunks(const bytebuf *b, size_t *at, reply *r)
{
    hsb_str line;
    while (take_line(b, at, &line)) {
        char *end, text[20] = { 0 };
        memcpy(text, line.ptr, line.len < 19 ? line.len : 19);
        size_t size = strtoul(text, &end, 16);
        if (end == text || *end)
            return complain("malformed chunk size: %s", text);
        if (size == 0)
            return take_fields(b, at, r);
        size_t there = b->len - *at;
        bytes_add(&r->body, b->data + *at, there < size ? there : size);
        if (there < size + 2)
            return false;
        if (memcmp(b->data + *at + size, "\r\n", 2))
            return complain("a chunk is longer than its size");
        *at += size + 2;
    }
    return false;
}

/* What every answer has to keep: RFC 9110 6.6.1, 8.6, RFC 9112 6.1 */
static bool check_reply(const reply *r)
{
    hsb_str length = reply_field(r, "Content-Length"), coding = reply_field(r, "Transfer-Encoding");
    hsb_str date = reply_field(r, "Date");
    int64_t when, now = hsb__os_wall();
    for (int i = 0; i < r->field_count; i++)
        for (int k = 0; k < i; k++)
            if (hsb__text_equal_nocase(r->name[i], r->name[k]) &&
                !hsb__text_is_nocase(r->name[i], "Set-Cookie"))
                return complain("field twice: %.*s", (int)r->name[i].len, r->name[i].ptr);
    if (length.ptr && coding.ptr)
        return complain("both Content-Length and Transfer-Encoding");
    if ((r->status < 200 || r->status == 204) && (length.ptr || coding.ptr))
        return complain("%d with a framing field", r->status);
    if (r->status >= 200 && (!date.ptr || !hsb__date_parse(date, now, &when) || when > now || when < now - 20))
        return complain("no Date, or a wrong one");
    return true;
}

/* One answer from at on; false: not whole (yet), or malformed. */
static bool take_reply(const bytebuf *b, size_t at, bool bare, bool ended, reply *r)
{
    hsb_str line, length;
    int64_t n;
    memset(r, 0, sizeof *r);
    if (!take_line(b, &at, &line))
        return false;
    if (!fits("HTTP/1.1 *", line.ptr, line.len) || line.len < 13 || line.ptr[12] != ' ')
        return complain("malformed status line: %.*s", (int)line.len, line.ptr);
    r->status = atoi(line.ptr + 9);
    if (!take_fields(b, &at, r) || !check_reply(r))
        return false;
    length = reply_field(r, "Content-Length");
    r->end = at;
    if (bare || r->status < 200 || r->status == 204 || r->status == 304) {
        r->framing = "bare";
        r->whole = true;
    } else if (hsb__text_is(reply_field(r, "Transfer-Encoding"), "chunked")) {
        r->framing = "chunked";
        r->whole = take_chunks(b, &at, r);
    } else if (length.ptr) {
        if (!hsb__text_decimal(length, INT64_MAX, &n))
            return complain("Content-Length is not a number");
        r->framing = "length";
        r->whole = (uint64_t)n <= b->len - at;
        bytes_add(&r->body, b->data + at, r->whole ? (size_t)n : b->len - at);
        at += r->body.len;
    } else {
        r->framing = "until-close";
        r->whole = ended;
        bytes_add(&r->body, b->data + at, b->len - at);
        at = b->len;
    }
    r->end = at;
    return r->whole;
}

static bool check_words(client *c, const char *words, const reply *r)
{
    bool close = false, cut = false;
    hsb_str connection = reply_field(r, "Connection");
    while (*words) {
        char word[32];
        const char *from = words + strspn(words, " ");
        size_t len = strcspn(from, " ");
        words = from + len;
        if (*from == '"') {
            const char *end = strrchr(from, '"');
            char *pattern = must(strndup(from + 1, (size_t)(end - from) - (end > from)));
            bool good = fits(pattern, r->body.data, r->body.len);
            free(pattern);
            if (!good)
                return complain("the body is \"%.*s\"", (int)r->body.len, r->body.data ? r->body.data : "");
            break;
        }
        snprintf(word, sizeof word, "%.*s", (int)len, from);
        if (strcmp(word, "close") == 0)
            close = true;
        else if (strcmp(word, "cut") == 0)
            cut = true;
        else if (strcmp(word, "keep") == 0 && !hsb__text_is_nocase(connection, "keep-alive"))
            return complain("no Connection: keep-alive");
        else if (strcmp(word, "keep") && word[0] && strcmp(word, r->framing))
            return complain("not %s but %s", word, r->framing);
    }
    if (r->status >= 200 && close != hsb__text_is_nocase(connection, "close"))
        return complain(close ? "no Connection: close" : "Connection: close");
    if (cut == r->whole)
        return complain(cut ? "the answer is whole" : "the answer is cut");
    c->must_end |= close || cut;
    c->may_be_cut |= cut;
    return true;
}

static bool check_fields(const step *s, const reply *r)
{
    for (size_t i = 0; i < s->field_count; i++) {
        const char *text = s->fields[i];
        size_t n = strcspn(text + (*text == '-'), ":");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)n, text + (*text == '-'));
        hsb_str value = reply_field(r, name);
        if (*text == '-') {
            if (value.ptr)
                return complain("there is %s", name);
            continue;
        }
        const char *pattern = text + n + (text[n] == ':');
        if (!value.ptr || !fits(pattern + strspn(pattern, " "), value.ptr, value.len))
            return complain("%s is not as wanted: %.*s", name, (int)value.len, value.ptr ? value.ptr : "");
    }
    return true;
}

static const step *wanted;

/* The answer that `wanted` describes has come whole, or will not. */
static bool answer_came(client *c)
{
    reply r;
    bool bare = strstr(wanted->text, " bare") != NULL, cut = strstr(wanted->text, " cut") != NULL;
    bool whole = take_reply(&c->got, c->seen, bare, c->ended, &r);
    bool over = whole || c->ended || complaint[0];
    if (over && !complaint[0]) {
        if (!whole && !(cut && r.framing))
            complain("the connection ended instead");
        else if (atoi(wanted->text) != r.status)
            complain("status %d", r.status);
        else if (check_words(c, wanted->text + 3, &r))
            check_fields(wanted, &r);
        c->seen = r.end;
    }
    free(r.body.data);
    return over;
}

static bool raw_came(client *c)
{
    long n = fits_start(wanted->text, c->got.data + c->seen, c->got.len - c->seen);
    if (n >= 0)
        c->seen += (size_t)n;
    else if (n == -1 || c->ended)
        complain("other bytes came");
    return n != -2 || c->ended;
}

/* What came before the cut is not whole: a body that only the end would end needs a reset,
   or over TLS the lack of close_notify. */
static bool check_cut(client *c)
{
    reply r;
    c->must_end = c->may_be_cut = true;
    bool whole = take_reply(&c->got, c->seen, false, true, &r);
    if (whole && strcmp(r.framing, "until-close") == 0 && !c->polite)
        whole = false;
    free(r.body.data);
    return !complaint[0] && (!whole || complain("the answer is whole"));
}

/* --- a play --------------------------------------------------------------------------- */

static bool play_step(client *c, const step *s)
{
    int64_t until;
    wanted = s;
    switch (s->kind) {
    case SEND:
        return true;                                        /* see play_steps              */
    case ANSWER:
        return wait_for(c, answer_came, "the answer") && !complaint[0];
    case RAW:
        return wait_for(c, raw_came, "bytes") && !complaint[0];
    case END:
        c->must_end = true;
        return true;
    case CUT:
        return wait_for(c, has_ended, "the cut") && check_cut(c);
    case FIN:
        client_fin(c);
        return true;
    case LEAVE:
    case RESET:                         /* takes back what the server has not read yet     */
        while (hsb_server_poll(c->server, 2) > 0)
            client_receive(c);
        client_leave(c, s->kind == RESET);
        return true;
    case WAIT:
        until = clock_ms() + s->number;
        while (clock_ms() < until) {
            hsb_server_poll(c->server, 1);
            client_receive(c);
        }
        return true;
    }
    return false;
}

static bool play_steps(client *c, const conversation *talk)
{
    for (size_t i = 0; i < talk->step_count; i++) {
        bytebuf text = { 0 };
        size_t first = i;
        for (; i < talk->step_count && talk->steps[i].kind == SEND; i++)
            add_unescaped(&text, talk->steps[i].text);
        wanted = &talk->steps[first];
        bool good = client_send(c, text.data, text.len);
        free(text.data);
        if (!good || (i < talk->step_count && !play_step(c, &talk->steps[i])))
            return false;
    }
    wanted = NULL;
    return true;
}

/* The end is as announced, and nothing follows what was expected. */
static bool play_end(client *c)
{
    if (c->fd < 0)
        return wait_for(c, is_forgotten, "on_close");
    if (c->must_end) {
        if (!wait_for(c, has_ended, "the end of the connection"))
            return false;
        if (!c->polite && !c->may_be_cut)
            return complain("the connection was cut");
    } else {
        server_turn(c);
        if (c->ended)
            return complain("the connection ended");
        client_fin(c);
    }
    if (!wait_for(c, has_ended, "the end of the connection"))
        return false;
    if (c->got.len > c->seen && !c->may_be_cut)
        return complain("more bytes than expected");
    if (c->ssl && c->must_end)
        client_fin(c);
    client_leave(c, false);
    return wait_for(c, is_forgotten, "on_close");
}

static bool check_events(const conversation *talk)
{
    const char *const *lines = talk->events;
    size_t count = talk->event_count, called = app.event_count;
    if (app.accepted != 1 || app.closed != 1 || app.heads != app.finished)
        return complain("%d accepted, %d closed; %d heads, %d finished", app.accepted, app.closed,
                        app.heads, app.finished);
    if (count == 0)
        return true;
    if (strncmp(lines[count - 1], "close", 5))
        called--;
    if (strcmp(lines[0], "nothing") == 0) {
        lines++;
        count--;
    }
    for (size_t i = 0; i < called || i < count; i++) {
        if (i >= called)
            return complain("hook not called: %s", lines[i]);
        if (i >= count || !fits(lines[i], app.events[i].data, app.events[i].len))
            return complain("hook called: %.*s", (int)app.events[i].len, app.events[i].data);
    }
    return true;
}

static uint64_t seed;

static void report(const conversation *talk, const client *c, const char *how)
{
    bytebuf text = { 0 };
    bytes_add_text(&text, "--- received\n");
    add_escaped(&text, c->got.data, c->got.len);
    bytes_add_text(&text, "\n--- hooks\n");
    for (size_t i = 0; i < app.event_count; i++) {
        add_escaped(&text, app.events[i].data, app.events[i].len);
        bytes_add_text(&text, "\n");
    }
    print_error("%s:%d: %s\n%s, SEED=%llu: %s\n%.*s", talk->file, wanted ? wanted->line : talk->line,
                talk->name, how, (unsigned long long)seed, complaint, (int)text.len, text.data);
    free(text.data);
}

/* Its random cuts depend on the seed and the round alone, so that it can be played again. */
static bool play(const conversation *talk, hsb_server *server, bool tls, int round)
{
    static const char *const how[2][3] = {
        { "plain, whole", "plain, byte by byte", "plain, random cuts" },
        { "TLS, whole", "TLS, byte by byte", "TLS, random cuts" } };
    const cutting cuts = round < 2 ? (cutting)round : RANDOM;
    client c;
    random_state = seed + (unsigned)round;
    complaint[0] = '\0';
    wanted = NULL;
    app_reset();
    bool good = client_open(&c, server, tls, cuts) && play_steps(&c, talk) && play_end(&c) &&
                check_events(talk);
    if (!good)
        report(talk, &c, how[tls][cuts]);
    if (c.fd >= 0)
        client_leave(&c, true);
    wait_for(&c, is_forgotten, "on_close");
    SSL_free(c.ssl);
    free(c.outgoing.data);
    free(c.got.data);
    return good;
}

static hsb_security *security;

static hsb_server *serve(const conversation *talk)
{
    hsb_options options = talk->options;
    hsb_error err = { 0 };
    options.hooks.on_accept = on_accept;
    options.hooks.on_close = on_close;
    options.hooks.on_error = on_error;
    options.hooks.on_head = on_head;
    options.hooks.on_body = on_body;
    options.hooks.on_request = on_request;
    options.hooks.on_finish = on_finish;
    hsb_server *server = hsb_bind("127.0.0.1", 0, &options, &err);
    if (!server || hsb_server_listen(server, "127.0.0.1", 0, security, &err) != 1)
        fail_msg("bind: %s", err.text);
    return server;
}

static void test_conversation(void **state)
{
    const conversation *talk = *state;
    const char *more = getenv("CUTS");
    int rounds = talk->only_whole ? 1 : 2 + (more ? atoi(more) : 2), wrong = 0;
    hsb_server *server = serve(talk);
    for (int tls = 0; tls < 2; tls++)
        for (int i = 0; i < rounds && !wrong; i++)
            if (tls ? !talk->no_tls : !talk->no_plain)
                wrong += !play(talk, server, tls, i);
    hsb_server_free(server);
    app_reset();
    assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
    hsb_error err = { 0 };
    hsb_security_desc desc = { .self_signed_for = "localhost" };
    for (int i = 1; i < argc; i++)
        read_file(argv[i]);
    seed = random_start((uint64_t)time(NULL));
    printf("SEED=%llu\n", (unsigned long long)seed);
    security = hsb_security_new(&desc, &err);
    client_tls = SSL_CTX_new(TLS_client_method());
    if (!security || !client_tls) {
        fprintf(stderr, "no security: %s\n", err.text);
        return 2;
    }
    struct CMUnitTest *tests = must(calloc(conversation_count + 1, sizeof *tests));
    for (size_t i = 0; i < conversation_count; i++) {
        bytebuf name = { 0 };
        const char *file = strrchr(conversations[i].file, '/');
        bytes_add_text(&name, file ? file + 1 : conversations[i].file);
        bytes_add_text(&name, ": ");
        bytes_add(&name, conversations[i].name, strlen(conversations[i].name) + 1);
        tests[i].name = name.data;
        tests[i].test_func = test_conversation;
        tests[i].initial_state = &conversations[i];
    }
    int failed = _cmocka_run_group_tests("wire", tests, conversation_count, NULL, NULL);
    SSL_CTX_free(client_tls);
    hsb_security_free(security);
    return failed;
}
