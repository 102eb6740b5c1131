/* One story that touches everything a server does, told again and again: with the Nth
   allocation failing for every N until none fails, then with each system call failing in
   every way it may, with sends and receives cut short, with clocks that jump.  Whatever
   happens, nothing may leak, every hook's promise holds, every answer that arrives whole is
   right, and the next story on the same process goes as if nothing had been.             */
#include "fault/faults.h"
#include "client.h"

enum { LARGE = 200000, KEPT = 60000, STREAMED = 30000, PARTS = 20, PART = 9000 };

typedef struct story {
    rig          r;
    heap         keys;          /* of the securities                                      */
    client      *c;             /* NULL: the next exchange connects                        */
    SSL_SESSION *session;
    int          plain_port;    /* 0: not listening there                                  */
    int          missed;        /* exchanges that did not end as they should               */
    /* promises made, and how many are still to be kept */
    int          posts, tickets, owned, streams, sockets;
    hsb_ticket   ticket;
    int          parts;         /* of /parts, sent                                         */
} story;

static bool exact;              /* nothing may be missed: no fault, or a harmless one      */

static char pattern[LARGE];

static void missed(story *s, const char *what)
{
    if (exact)
        fail_msg("missed: %s (%s %ld, %d)", what, injected.call ? injected.call : "no fault",
                 injected.nth, injected.code);
    s->missed++;
}

/* --- what the server does ------------------------------------------------------------------ */
static void count_down(void *counter)
{
    --*(int *)counter;
}

static void posted(hsb_server *server, void *counter)
{
    (void)server;
    count_down(counter);
}

static void resumed(hsb_request *req, void *counter)
{
    count_down(counter);
    if (req)
        hsb_respond(req, 200, "text/plain", hsb_text("later\n"));
}

static void after(hsb_request *req, void *arg)
{
    (void)arg;
    if (path_is(req, "/streamed"))
        hsb_request_resume(req);
    else
        hsb_respond(req, 200, "text/plain", hsb_text("after\n"));
}

static void write_parts(story *s, hsb_request *req)
{
    while (s->parts < PARTS) {
        hsb_str part = { pattern + s->parts * PART, PART };
        hsb_flow flow = hsb_response_write(req, part);
        s->parts++;
        if (flow != HSB_FLOW_GO)
            return;
    }
    hsb_response_trailer(req, "X-Parts", "all");
    hsb_response_end(req);
}

static void drained(rig *r, hsb_request *req)
{
    write_parts((story *)r, req);
}

/* --- streams and WebSocket --- */
static void stream_data(hsb_stream *stream, hsb_str part, void *user)
{
    (void)user;
    hsb_stream_write(stream, part);
}

static void stream_end(hsb_stream *stream, void *user)
{
    (void)user;
    hsb_stream_close(stream, false);
}

static void stream_closed(hsb_stream *stream, const hsb_error *why, void *user)
{
    (void)stream;
    (void)why;
    count_down(user);
}

static void stream_resumed(hsb_stream *stream, void *counter)
{
    count_down(counter);
    if (stream)
        hsb_stream_write(stream, hsb_text("ticket\n"));
}

static void stream_after(hsb_stream *stream, void *user)
{
    story *s = user;
    hsb_stream_write(stream, hsb_text("after\n"));
    hsb_ticket ticket = hsb_stream_ticket(stream);
    if (!ticket.id) {
        hsb_stream_close(stream, true);
        return;
    }
    s->tickets++;
    if (!hsb_stream_ticket_resume(ticket, stream_resumed, &s->tickets))
        fail_msg("a fresh ticket of a stream is not taken");
}

static void detach(story *s, hsb_request *req)
{
    hsb_stream_hooks hooks = {
        .user = &s->streams, .on_data = stream_data, .on_end = stream_end, .on_close = stream_closed
    };
    hsb_stream *stream = hsb_request_detach(req, 101, &hooks);
    if (!stream) {
        hsb_respond(req, 500, NULL, hsb_text(""));
        return;
    }
    s->streams++;
    if (!hsb_stream_after(stream, 1, stream_after, s))
        hsb_stream_close(stream, true);
}

static void message(hsb_websocket *ws, bool text, hsb_str bytes, void *user)
{
    (void)user;
    hsb_websocket_send(ws, text, bytes);
}

static void socket_closed(hsb_websocket *ws, int code, hsb_str reason, void *user)
{
    (void)ws;
    (void)code;
    (void)reason;
    count_down(user);
}

static void websocket(story *s, hsb_request *req)
{
    static const char *const names[] = { "echo", NULL };
    hsb_websocket_hooks hooks = {
        .user = &s->sockets, .on_message = message, .on_close = socket_closed, .subprotocols = names
    };
    if (hsb_request_websocket(req, &hooks))
        s->sockets++;
}

/* --- requests --- */
static void defer(story *s, hsb_request *req)
{
    s->ticket = hsb_request_defer(req);
    if (!s->ticket.id) {
        hsb_respond(req, 500, NULL, hsb_text(""));
        return;
    }
    s->posts++;
    if (!hsb_server_post(s->r.server, 1, posted, &s->posts))
        s->posts--;
    s->posts++;
    if (!hsb_server_post(s->r.server, 0, posted, &s->posts))
        s->posts--;
    hsb_server_wake(s->r.server);
}

/* The wake-up is another thread's usually. */
static void woken(rig *r)
{
    story *s = (story *)r;
    hsb_ticket ticket = s->ticket;
    if (!ticket.id)
        return;
    s->ticket.id = 0;
    s->tickets++;
    if (!hsb_ticket_resume(ticket, resumed, &s->tickets))
        fail_msg("a fresh ticket is not taken");
}

static void head_came(rig *r, hsb_request *req)
{
    (void)r;
    if (path_is(req, "/streamed"))
        hsb_request_stream(req);
    if (path_is(req, "/early"))
        hsb_respond(req, 403, "text/plain", hsb_text("no\n"));
}

static void body_came(rig *r, hsb_request *req, hsb_str part)
{
    uint64_t at = (uint64_t)hsb_request_received(req) - part.len;
    (void)r;
    if (!pattern_fits(part.ptr, at, part.len))
        fail_msg("a part of the body is wrong");
    if (at == 0 && hsb_request_after(req, 1, after, NULL))
        hsb_request_pause(req);
}

static void answer_body(hsb_request *req)
{
    hsb_str body = hsb_request_body(req);
    if (!pattern_fits(body.ptr, 0, body.len))
        fail_msg("a kept body is wrong");
    hsb_respond(req, 200, "application/octet-stream", body);
}

static void answer_count(hsb_request *req)
{
    char text[32];
    snprintf(text, sizeof text, "%lld\n", (long long)hsb_request_received(req));
    hsb_response_header(req, "X-Something", "a value");
    hsb_cookie cookie = { .name = "a", .value = "b" };
    hsb_response_cookie(req, &cookie);
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

static void answer_large(story *s, hsb_request *req)
{
    hsb_str body = { pattern, LARGE };
    s->owned++;
    hsb_respond_owned(req, 200, "application/octet-stream", body, count_down, &s->owned);
}

/* Each of these needs memory that may not be there. */
static void answer_named(hsb_request *req, void *user)
{
    hsb_str name = hsb_request_param(req, "name");
    (void)user;
    if (!name.ptr || !hsb_response_headerf(req, "X-Name", "%*s", 2000, "a")) {
        hsb_respond(req, 503, NULL, hsb_text(""));
        return;
    }
    hsb_respondf(req, 200, "text/plain", "%5000s%.*s\n", "", (int)name.len, name.ptr);
}

static void answer_lines(hsb_request *req, void *user)
{
    (void)user;
    hsb_response_begin(req, 200, -1);
    hsb_response_writef(req, "%d\n", 1);
    hsb_response_writef(req, "%5000d\n", 2);
    hsb_response_end(req);
}

static void answer_page(hsb_request *req, void *user)
{
    hsb_content content = { .type = "text/plain", .body = { pattern, 300 } };
    (void)user;
    hsb_respond_content(req, &content);
}

static void answer_who(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond_unauthorized(req, "a \"b\"");
}

static const hsb_route routes[] = {
    { "GET", "/name/:name", answer_named }, { "GET", "/lines", answer_lines },
    { "GET", "/page", answer_page }, { "GET", "/who", answer_who }, { 0 }
};

static void answer_any(rig *r, hsb_request *req)
{
    story *s = (story *)r;
    if (path_is(req, "/kept"))
        answer_body(req);
    else if (path_is(req, "/streamed"))
        answer_count(req);
    else if (path_is(req, "/large"))
        answer_large(s, req);
    else if (path_is(req, "/parts")) {
        s->parts = 0;
        hsb_response_begin(req, 200, -1);
        write_parts(s, req);
    } else if (path_is(req, "/defer"))
        defer(s, req);
    else if (path_is(req, "/after")) {
        if (!hsb_request_after(req, 1, after, NULL))
            hsb_respond(req, 500, NULL, hsb_text(""));
    } else if (path_is(req, "/file"))
        hsb_respond_file(req, "tests/data/server-rsa4096.pem", NULL);
    else if (path_is(req, "/data/README.md"))
        hsb_respond_dir(req, "tests", hsb_request_path(req));
    else if (path_is(req, "/detach"))
        detach(s, req);
    else if (path_is(req, "/socket"))
        websocket(s, req);
    else if (!hsb_request_route(req, routes, NULL))
        hsb_respond(req, 200, "text/plain", hsb_text("hello\n"));
}

/* --- the client ---------------------------------------------------------------------------------- */
/* TLS 1.3: a ticket is good for one connection, which gets the next one. */
static void take_next_ticket(story *s)
{
    SSL_SESSION *last = SSL_get1_session(s->c->ssl);
    const bool is_new = last && last != s->session && SSL_SESSION_is_resumable(last);
    SSL_SESSION_free(s->session);
    if (!is_new)
        SSL_SESSION_free(last);
    s->session = is_new ? last : NULL;
}

static void leave(story *s)
{
    if (s->c && s->c->ssl && s->session)
        take_next_ticket(s);
    if (s->c)
        hang_up(s->c);
    s->c = NULL;
}

static bool shake_hands(story *s)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    SSL *ssl = s->c->ssl = SSL_new(client_tls());
    SSL_set_fd(ssl, s->c->fd);
    SSL_set_tlsext_host_name(ssl, "localhost");
    if (s->session)
        SSL_set_session(ssl, s->session);
    for (;;) {
        ERR_clear_error();
        int n = SSL_connect(ssl);
        int why = n == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, n);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            return n == 1;
        if (clock_ms() > end)
            fail_msg("no TLS handshake (%s %ld, %d)", injected.call, injected.nth, injected.code);
        client_wait(s->c, 1);
    }
}

static void enter_secure(story *s)
{
    bool resume = s->session != NULL;
    if (s->c)
        return;
    s->c = client_new(&s->r, s->r.port, 0);
    if (!shake_hands(s)) {
        missed(s, "a handshake");
        leave(s);
    } else if (exact && resume && !SSL_session_reused(s->c->ssl)) {
        missed(s, "a resumption");
    }
}

/* The next connection resumes this one's session. */
static void keep_session(story *s)
{
    if (s->c && !s->session)
        s->session = SSL_get1_session(s->c->ssl);
}

static void enter_plain(story *s)
{
    leave(s);
    if (s->plain_port)
        s->c = client_new(&s->r, s->plain_port, 0);
}

static bool status_may_be(int status)
{
    return status == 0 || status == 408 || status == 500 || status == 503 || status == 403 || status == 404;
}

static void hear(story *s, const char *what, int status, const char *body, size_t len)
{
    answer a = hear_answer(s->c, strncmp(what, "HEAD", 4) == 0);
    bool right = a.status == status && a.whole;
    if (right && (a.len != len || memcmp(a.body, body, len) != 0))
        fail_msg("%s: answered with wrong bytes", what);
    if (a.status != status && !status_may_be(a.status))
        fail_msg("%s: answered %d", what, a.status);
    answer_free(&a);
    if (!right) {
        leave(s);
        missed(s, what);
    }
}

/* One exchange on the connection that there is, or on a new one. */
static void exchange(story *s, const char *head, const char *body, size_t body_len,
                     int status, const char *answer_body, size_t answer_len)
{
    char text[1024];
    enter_secure(s);
    if (!s->c)
        return;
    int n = snprintf(text, sizeof text, "%s\r\n\r\n", head);
    if (!try_say(s->c, text, (size_t)n) || (body_len && !try_say(s->c, body, body_len))) {
        leave(s);
        missed(s, head);
        return;
    }
    hear(s, head, status, answer_body, answer_len);
}

static void get(story *s, const char *head, const char *answer_text)
{
    exchange(s, head, NULL, 0, 200, answer_text, strlen(answer_text));
}

static void exchange_chunked(story *s)
{
    enum { CHUNK = 7000, COUNT = 5 };
    char bytes[COUNT * (CHUNK + 16) + 64];
    size_t n = 0;
    for (int i = 0; i < COUNT; i++) {
        n += (size_t)snprintf(bytes + n, 16, "%x;x=y\r\n", CHUNK);
        pattern_fill(bytes + n, (uint64_t)i * CHUNK, CHUNK);
        memcpy(bytes + n + CHUNK, "\r\n", 2);
        n += CHUNK + 2;
    }
    n += (size_t)snprintf(bytes + n, 64, "0\r\nX-Trailer: there\r\n\r\n");
    exchange(s, "POST /kept HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked", bytes, n,
             200, pattern, CHUNK * COUNT);
}

static size_t file_bytes(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(out, 1, size, f);
    fclose(f);
    return n;
}

static void exchange_files(story *s)
{
    static char bytes[65536];
    size_t n = file_bytes("tests/data/server-rsa4096.pem", bytes, sizeof bytes);
    exchange(s, "GET /file HTTP/1.1\r\nHost: localhost", NULL, 0, 200, bytes, n);
    exchange(s, "GET /file HTTP/1.1\r\nHost: localhost\r\nRange: bytes=10-99", NULL, 0,
             206, bytes + 10, 90);
    n = file_bytes("tests/data/README.md", bytes, sizeof bytes);
    exchange(s, "GET /data/README.md HTTP/1.1\r\nHost: localhost", NULL, 0, 200, bytes, n);
}

static void exchange_routes(story *s)
{
    char text[8192];
    snprintf(text, sizeof text, "%5000s%s", "", "A b\n");
    get(s, "GET /name/%41%20b HTTP/1.1\r\nHost: localhost", text);
    snprintf(text, sizeof text, "1\n%5000d\n", 2);
    get(s, "GET /lines HTTP/1.1\r\nHost: localhost", text);
    exchange(s, "GET /page HTTP/1.1\r\nHost: localhost", NULL, 0, 200, pattern, 300);
    exchange(s, "GET /page HTTP/1.1\r\nHost: localhost\r\nRange: bytes=2-9", NULL, 0, 206,
             pattern + 2, 8);
    exchange(s, "GET /who HTTP/1.1\r\nHost: localhost", NULL, 0, 401, "401 Unauthorized\n", 17);
    exchange(s, "PUT /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", NULL, 0, 405,
             "405 Method Not Allowed\n", 23);
}

static void exchange_requests(story *s)
{
    get(s, "GET / HTTP/1.1\r\nHost: localhost", "hello\n");
    keep_session(s);
    get(s, "GET /again?and=again HTTP/1.1\r\nHost: localhost\r\nCookie: a=b", "hello\n");
    get(s, "HEAD / HTTP/1.1\r\nHost: localhost", "");
    exchange(s, "POST /kept HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000", pattern, KEPT,
             200, pattern, KEPT);
    exchange_chunked(s);
    exchange(s, "POST /streamed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000", pattern,
             STREAMED, 200, "30000\n", 6);
    exchange(s, "POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000", pattern, 3000,
             403, "no\n", 3);
    exchange(s, "GET /parts HTTP/1.1\r\nHost: localhost", NULL, 0, 200, pattern, PARTS * PART);
    exchange(s, "GET /large HTTP/1.1\r\nHost: localhost", NULL, 0, 200, pattern, LARGE);
    get(s, "GET /defer HTTP/1.1\r\nHost: localhost", "later\n");
    get(s, "GET /after HTTP/1.1\r\nHost: localhost", "after\n");
    exchange_files(s);
    exchange_routes(s);
    leave(s);
    get(s, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close", "hello\n");
    leave(s);
}

/* Says bytes and waits for others; false: they do not come. */
static bool talk(story *s, const char *bytes, size_t len, const char *want, size_t want_len)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    if (!s->c)
        return false;
    if (!try_say(s->c, bytes, len))
        return false;
    while (s->c->len < want_len || !memmem(s->c->got, s->c->len, want, want_len)) {
        if (clock_ms() > end)
            fail_msg("silence (%s %ld, %d)", injected.call, injected.nth, injected.code);
        if (!hear_more(s->c, want))
            return false;
    }
    heard(s->c, s->c->len);
    return true;
}

static void stream_story(story *s)
{
    static const char head[] =
        "GET /detach HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    enter_plain(s);
    if (!talk(s, head, sizeof head - 1, "ticket\n", 7) || !talk(s, "echo\n", 5, "echo\n", 5))
        missed(s, "a stream");
    if (s->c)
        say_end(s->c);
    leave(s);
}

static void socket_story(story *s)
{
    static const char head[] =
        "GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: echo\r\n\r\n";
    static const char fragments[] = "\x01\x82\0\0\0\0he\x89\x81\0\0\0\0!\x80\x83\0\0\0\0llo";
    enter_secure(s);
    if (!talk(s, head, sizeof head - 1, "\r\n\r\n", 4) ||
        !talk(s, fragments, sizeof fragments - 1, "\x81\x05hello", 7) ||
        !talk(s, "\x88\x82\0\0\0\0\x03\xe8", 8, "\x88\x02\x03\xe8", 4))
        missed(s, "a WebSocket");
    leave(s);
}

static void bad_story(story *s)
{
    enter_plain(s);
    if (!talk(s, "GET / HTTP/1.1\r\n\r\n", 18, "HTTP/1.1 400 ", 13))
        missed(s, "a refusal");
    leave(s);
    s->c = client_new(&s->r, s->r.port, 0);     /* no TLS: told so in words */
    if (!talk(s, "GET / HTTP/1.1\r\n\r\n", 18, "begins https://", 15))
        missed(s, "a refusal without TLS");
    leave(s);
}

/* --- the server's life --------------------------------------------------------------------------- */
static hsb_security *make_security(story *s, const char *name)
{
    char chain[64], key[64];
    hsb_error err = { HSB_OK, 0, 0, "" };
    snprintf(chain, sizeof chain, "tests/data/%s.pem", name);
    snprintf(key, sizeof key, "tests/data/%s.key", name);
    hsb_security_desc desc = {
        .identity = { .chain = hsb_pem_file(chain), .key = hsb_pem_file(key) },
        .trusted = hsb_pem_file("tests/data/ca.pem"),
        .session_cache_bytes = 20000,
        .allocator = { heap_alloc, heap_release, &s->keys }
    };
    hsb_security *security = hsb_security_new(&desc, &err);
    if (!security) {
        missed(s, err.text);
        assert_true(err.status != HSB_OK && err.text[0]);
    }
    return security;
}

static hsb_server *bind_here(story *s, const hsb_address *address, hsb_security *security)
{
    hsb_error err = { HSB_OK, 0, 0, "" };
    hsb_server *server = hsb_bind_secure_at(address, security, &s->r.options, &err);
    if (!server) {
        missed(s, err.text);
        assert_true(err.status != HSB_OK && err.text[0]);
    }
    return server;
}

static void share(story *s, hsb_security *security)
{
    hsb_address address = hsb_server_address(s->r.server, 0);
    hsb_server *second = bind_here(s, &address, security);
    if (second)
        assert_int_equal(hsb_server_port(second), s->r.port);
    hsb_server_free(second);
}

static void begin(story *s)
{
    hsb_error err;
    hsb_address local;
    hsb_security *security = make_security(s, "server-p256");
    if (hsb_lookup("localhost", HSB_IPV4, &local, 1, &err) != 1)
        missed(s, err.text);
    hsb_address_parse(&local, "127.0.0.1");
    s->r.server = security ? bind_here(s, &local, security) : NULL;
    if (s->r.server) {
        s->r.port = hsb_server_port(s->r.server);
        share(s, security);
        int plain = hsb_server_listen(s->r.server, "127.0.0.1", 0, NULL, &err);
        if (plain < 0)
            missed(s, err.text);
        s->plain_port = plain < 0 ? 0 : hsb_server_address(s->r.server, plain).port;
    }
    hsb_security_free(security);
}

static void renew(story *s)
{
    hsb_security *security = make_security(s, "server-renewed");
    if (security && !hsb_server_set_security(s->r.server, -1, security, NULL))
        missed(s, "a renewal");
    hsb_security_free(security);
    SSL_SESSION_free(s->session);
    s->session = NULL;
}

static void end(story *s)
{
    int64_t patience = clock_ms() + PATIENCE_MS;
    enter_secure(s);                            /* idle when the server closes             */
    hsb_server_close(s->r.server, false);
    if (s->c)
        hear_end(s->c);
    leave(s);
    while (turn(&s->r, 1))
        if (clock_ms() > patience)
            fail_msg("does not close (%s %ld, %d)", injected.call, injected.nth, injected.code);
}

static void play(story *s)
{
    exchange_requests(s);
    stream_story(s);
    socket_story(s);
    bad_story(s);
    renew(s);
    get(s, "GET / HTTP/1.1\r\nHost: localhost", "hello\n");
}

static void tell_until_end(bool to_the_end)
{
    story s = { .r = { .on_head = head_came, .on_body = body_came, .on_request = answer_any,
                       .on_drain = drained, .on_wake = woken } };
    hsb_options o = { .shared = true, .request_client_certificate = true, .server_header = "x",
                      .timeouts = { 3000, 3000, 3000, 3000, 3000, 500, 3000, 0 } };
    rig_prepare(&s.r, &o, true);
    begin(&s);
    if (s.r.server) {
        play(&s);
        if (to_the_end)
            end(&s);
        rig_close(&s.r);
        leave(&s);
    }
    SSL_SESSION_free(s.session);
    assert_int_equal(s.keys.blocks, 0);
    assert_int_equal(s.keys.bytes, 0);
    assert_int_equal(s.r.heap.blocks, 0);
    assert_int_equal(open_descriptors() - clients_open, s.r.descriptors);
    assert_int_equal(clients_open, 0);
    assert_int_equal(s.posts + s.tickets + s.owned + s.streams + s.sockets, 0);
    assert_null(hsb__listeners);
    if (injected.hit && !exact && injected.code)
        faults_tried++;
}

static void tell(void)
{
    tell_until_end(true);
}

/* As if nothing had been. */
static void tell_undisturbed(void)
{
    fault_none();
    exact = true;
    tell();
}

/* --- the passes --------------------------------------------------------------------------------------- */
/* With the Nth such call failing, for every N until none does; harmless: nobody may notice. */
static void each_fails(const char *call, int code, bool harmless, bool forever, long step)
{
    long n = 1;
    for (;; n += step) {
        fault_plan(call, n, code);
        injected.forever = forever;
        exact = harmless;
        tell_until_end(n % 2 == 1);
        if (!injected.hit)
            break;
        if (harmless)
            faults_tried++;
    }
    assert_true(n > 1 || step > 1);
    print_message("  %s fails with %d%s: %ld points\n", call, code, forever ? ", for good" : "",
                  (n - 1) / step);
    tell_undisturbed();
}

static void test_allocations(void **state)
{
    (void)state;
    each_fails("alloc", ENOMEM, false, false, 1);
}

/* A head of 40 fields needs a second array for them: the allocation of that very one fails, and
   each other one on the way. */
static const char *fields_40(void)
{
    static char head[2000];
    int n = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 1; i < 40; i++)
        n += snprintf(head + n, sizeof head - (size_t)n, "X-%02d: %d\r\n", i, i);
    snprintf(head + n, sizeof head - (size_t)n, "\r\n");
    return head;
}

static void test_more_fields(void **state)
{
    int of_the_head = 0, n = 1;
    (void)state;
    for (;; n++) {
        story s = { .r = { .on_request = answer_any } };
        rig_open(&s.r, NULL, false);
        client *c = dial(&s.r);
        while (s.r.accepts == 0)
            turn(&s.r, 10);
        fault_plan("alloc", n, ENOMEM);
        say(c, fields_40());
        for (int i = 0; i < 500 && s.r.closes == 0 && s.r.finishes == 0; i++)
            turn(&s.r, 10);
        assert_true(s.r.closes + s.r.finishes > 0);
        bool hit = injected.hit, told = s.r.closed_with.status == HSB_ERR_MEMORY;
        fault_none();
        if (!hit)
            assert_int_equal(s.r.finishes, 1);
        else if (s.r.heads == 0)                /* or the memory was for something later */
            assert_true(told);
        if (told && strstr(s.r.closed_with.text, "request's head"))
            of_the_head++;
        client_free(c);
        rig_close(&s.r);
        if (!hit)
            break;
    }
    assert_true(of_the_head >= 3);              /* its text, its fields, and more fields */
}

static void test_allocations_for_good(void **state)
{
    (void)state;
    each_fails("alloc", ENOMEM, false, true, scaled("FAULT_STEP", 7));
}

static void test_setting_up(void **state)
{
    (void)state;
    each_fails("getentropy", EIO, false, false, 1);
    each_fails("getentropy", EIO, false, true, 1);
    each_fails("wake", EMFILE, false, false, 1);
    each_fails("poller", EMFILE, false, false, 1);
    each_fails("socket", EMFILE, false, false, 1);
    each_fails("bind", EADDRINUSE, false, false, 1);
    each_fails("listen", EADDRINUSE, false, false, 1);
    each_fails("dup", EMFILE, false, false, 1);
    each_fails("getaddrinfo", EMFILE, false, false, 1);
}

static void test_accept(void **state)
{
    static const int codes[] = { EINTR, EAGAIN, ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO };
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        each_fails("accept", codes[i], true, false, 1);
}

static void test_poll(void **state)
{
    (void)state;
    each_fails("poll", EINTR, true, false, scaled("FAULT_STEP", 7));
    each_fails("watch", ENOMEM, false, false, 1);
    each_fails("watch", ENOSPC, false, true, scaled("FAULT_STEP", 7));
}

static void test_recv(void **state)
{
    (void)state;
    each_fails("recv", EINTR, true, false, scaled("FAULT_STEP", 7));
    each_fails("recv", EAGAIN, true, false, scaled("FAULT_STEP", 3));
    each_fails("recv", ECONNRESET, false, false, 1);
}

static void test_send(void **state)
{
    (void)state;
    each_fails("send", EINTR, true, false, scaled("FAULT_STEP", 7));
    each_fails("send", EAGAIN, true, false, scaled("FAULT_STEP", 1));
    each_fails("send", ECONNRESET, false, false, 1);
    each_fails("send", EPIPE, false, true, scaled("FAULT_STEP", 7));
}

static void test_files(void **state)
{
    (void)state;
    each_fails("open", EMFILE, false, false, 1);
    each_fails("open", EIO, false, true, 1);
    each_fails("pread", EINTR, true, false, 1);
    each_fails("pread", EIO, false, false, 1);
}

static void test_cuts(void **state)
{
    (void)state;
    for (size_t cut = 1; cut <= 7; cut++) {
        fault_none();
        injected.cut = cut;
        exact = true;
        tell();
        faults_tried++;
    }
    tell_undisturbed();
}

/* The wall clock is set, the monotonic one leaps: every deadline is over at once, but nothing
   else is wrong.  Backwards it never goes; if it does after all, waits take longer.        */
static void test_clocks(void **state)
{
    static const struct { int64_t monotonic_s, wall_s; } leaps[] = {
        { 0, 86400 }, { 0, -86400 }, { 0, -2000000000 }, { 0, 8000000000 },
        { 1, 0 }, { 5, 5 }, { 3600, 3600 }, { 400000000, 0 }, { -1, 0 }
    };
    (void)state;
    for (size_t i = 0; i < sizeof leaps / sizeof leaps[0]; i++)
        for (long turn = 0; turn < 40; turn += 3) {
            fault_none();
            injected.leap_at = turn;
            injected.leap_us = leaps[i].monotonic_s * 1000000;
            injected.leap_wall = leaps[i].wall_s;
            exact = false;
            tell();
            faults_tried++;
        }
    tell_undisturbed();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_allocations_for_good),
        cmocka_unit_test(test_more_fields),
        cmocka_unit_test(test_setting_up),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_poll),
        cmocka_unit_test(test_recv),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_clocks)
    };
    pattern_fill(pattern, 0, sizeof pattern);
    rig_security();
    SSL_CTX_use_certificate_chain_file(client_tls(), "tests/data/client-p256.pem");
    SSL_CTX_use_PrivateKey_file(client_tls(), "tests/data/client-p256.key", SSL_FILETYPE_PEM);
    int64_t began = clock_ms();
    tell_undisturbed();
    print_message("one story takes %lld ms\n", (long long)(clock_ms() - began));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    print_message("%ld fault points tried\n", faults_tried);
    hsb_security_free(rig_security());
    SSL_CTX_free(client_tls());
    return failed;
}
