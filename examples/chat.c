/* A chat room: open https://localhost:8443 in several tabs.  Shows hsb_request_websocket,
   whose pages may open one, members that read slowly and others that talk too fast, pings
   that find out who is gone, and a goodbye with a code when the server closes.
   cc -I. examples/chat.c -o chat -lbearssl                                              */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "common.h"

/* --- the page --------------------------------------------------------------------------- */

static const char head[] =
    "<!doctype html><html lang=en><meta charset=utf-8><title>Chat</title>\n"
    "<meta name=viewport content='width=device-width, initial-scale=1'>\n"
    "<link rel=icon href=data:,>\n"
    "<style>\n"
    ":root { color-scheme: light dark; --ground: #f4f5f7; --card: #fff; --ink: #1c2430;\n"
    "  --soft: #667085; --line: #dfe3e8; --edge: #868f9f; --mine: #2f6fed; --live: #1a9c5b }\n"
    "@media (prefers-color-scheme: dark) { :root { --ground: #11151b; --card: #1b212a;\n"
    "  --ink: #e7ebf0; --soft: #94a0b0; --line: #2c3541; --edge: #66738a; --live: #3ecf8e } }\n"
    "* { box-sizing: border-box }\n"
    "body { margin: 0 auto; height: 100dvh; max-width: 46rem; display: flex;\n"
    "  flex-direction: column; background: var(--ground); color: var(--ink);\n"
    "  font: 1rem/1.45 system-ui, sans-serif }\n"
    "header { display: flex; align-items: baseline; padding: 1rem 1.25rem .75rem; gap: .75rem }\n"
    "h1 { margin: 0; font-size: 1.25rem }\n"
    "#state { color: var(--soft); font-size: .875rem }\n"
    "#state::before { content: ''; display: inline-block; width: .55em; height: .55em;\n"
    "  margin-right: .45em; border-radius: 50%; background: var(--soft) }\n"
    "#state.live::before { background: var(--live) }\n"
    "#log { flex: 1; overflow-y: auto; margin: 0; padding: .5rem 1.25rem; list-style: none }\n"
    "#log:empty::before { content: 'Nobody has said anything yet.'; color: var(--soft) }\n"
    "li { width: fit-content; max-width: 80%; margin: 0 0 .6rem; padding: .45rem .8rem;\n"
    "  border-radius: 1rem; background: var(--card); border: 1px solid var(--line);\n"
    "  overflow-wrap: anywhere; white-space: pre-wrap }\n"
    "li.mine { margin-left: auto; background: var(--mine); border-color: var(--mine);\n"
    "  color: #fff }\n"
    "li b { display: block; font-size: .75rem; color: var(--soft) }\n"
    "li.mine b { display: none }\n"
    "form { display: flex; gap: .5rem; padding: .75rem 1.25rem 1.25rem }\n"
    "input, button { font: inherit; color: inherit; padding: .6rem .9rem; border-radius: .75rem;\n"
    "  border: 1px solid var(--edge); background: var(--card); min-width: 0 }\n"
    "#name { width: 24%; max-width: 8rem } #text { flex: 1 }\n"
    "::placeholder { color: var(--soft) }\n"
    "button { background: var(--mine); border-color: var(--mine); color: #fff; cursor: pointer }\n"
    "button:disabled { opacity: .5; cursor: default }\n"
    ":focus-visible { outline: 2px solid var(--mine); outline-offset: 2px }\n"
    "</style>\n";

static const char body[] =
    "<header><h1>Chat</h1><span id=state role=status>connecting</span></header>\n"
    "<ul id=log aria-live=polite></ul>\n"
    "<form id=form autocomplete=off>\n"
    "<input id=name aria-label='Your name' maxlength=24 required>\n"
    "<input id=text aria-label='Message' placeholder='Say something' maxlength=500\n"
    "  required autofocus>\n"
    "<button id=send disabled>Send</button></form>\n"
    "<script>\n"
    "const $ = id => document.getElementById(id);\n"
    "let ws, pause = 500;\n"
    "$('name').value = sessionStorage.name || 'guest ' + (100 + Math.random() * 900 | 0);\n"
    "function state(live, text) {\n"
    "  $('state').className = live ? 'live' : ''; $('state').textContent = text;\n"
    "  $('send').disabled = !live;\n"
    "}\n"
    "function show(name, text) {\n"
    "  const li = document.createElement('li'), b = document.createElement('b');\n"
    "  b.textContent = name; li.append(b, text);\n"
    "  if (name === $('name').value.trim()) li.className = 'mine';\n"
    "  $('log').append(li); li.scrollIntoView({ block: 'end' });\n"
    "}\n"
    "function connect() {\n"
    "  ws = new WebSocket('wss://' + location.host + '/chat', 'chat.v1');\n"
    "  ws.onopen = () => { pause = 500; };\n"
    "  ws.onmessage = e => {\n"
    "    const at = e.data.indexOf('\\n');\n"
    "    if (at < 0) state(true, e.data); else show(e.data.slice(0, at), e.data.slice(at + 1));\n"
    "  };\n"
    "  ws.onclose = e => {\n"
    "    state(false, e.reason || 'not connected');\n"
    "    setTimeout(connect, pause = Math.min(pause * 2, 10000));\n"
    "  };\n"
    "}\n"
    "$('form').onsubmit = e => {\n"
    "  e.preventDefault(); sessionStorage.name = $('name').value.trim();\n"
    "  if (ws.readyState !== 1 || !$('text').value.trim()) return;\n"
    "  ws.send(sessionStorage.name + '\\n' + $('text').value); $('text').value = '';\n"
    "};\n"
    "connect();\n"
    "</script>\n";

/* --- the room ----------------------------------------------------------------------------- */

/* Members send "name LF text", and that goes to everybody; a text without LF is the room's.
   What was said last is kept once for all, so that members may read at their own pace.  One
   that is too far behind misses what is kept no more, and is told so.                     */
enum { KEPT = 4096, KEPT_BYTES = 1 << 20 };

typedef struct line { char *text; size_t len; } line;

static line     kept[KEPT];             /* the Nth that was said is kept[N % KEPT]        */
static uint64_t oldest, said;           /* those from oldest up to said - 1 are kept      */
static size_t   kept_bytes;

typedef struct member {
    struct member *next, **link;
    hsb_websocket *ws;
    uint64_t       heard;       /* the message that comes next to this member             */
    bool           slow;        /* from HSB_FLOW_WAIT to on_drain                         */
    bool           silent;      /* nothing has come since the last ping                   */
    bool           resting;     /* not read from for a moment                             */
} member;

static member *members;
static int     member_count;
static int     ping_seconds = 30;

static void forget_oldest(void)
{
    line *m = &kept[oldest++ % KEPT];
    kept_bytes -= m->len;
    free(m->text);
}

static void catch_up(member *m)
{
    char text[64];
    if (m->heard < oldest) {
        snprintf(text, sizeof text, "%d here, %d messages missed", member_count,
                 (int)(oldest - m->heard));
        m->heard = oldest;
        m->slow = hsb_websocket_send(m->ws, true, hsb_text(text)) != HSB_FLOW_GO;
    }
    while (!m->slow && m->heard < said) {
        line *next = &kept[m->heard++ % KEPT];
        m->slow = hsb_websocket_send(m->ws, true, (hsb_str){ next->text, next->len }) != HSB_FLOW_GO;
    }
}

static void tell_all(hsb_str text)
{
    line m = { malloc(text.len), text.len };
    if (!m.text)
        return;
    memcpy(m.text, text.ptr, text.len);
    while (said - oldest == KEPT || (oldest < said && kept_bytes + m.len > KEPT_BYTES))
        forget_oldest();
    kept[said++ % KEPT] = m;
    kept_bytes += m.len;
    for (member *to = members; to; to = to->next)
        if (!to->slow)
            catch_up(to);
}

static void tell_count(void)
{
    char text[40];
    snprintf(text, sizeof text, "%d here", member_count);
    tell_all(hsb_text(text));
}

/* A member that is gone without a word, its cable pulled out, does not answer the ping.   */
static void keep_alive(hsb_stream *stream, void *arg)
{
    member *m = arg;
    if (m->silent) {
        hsb_websocket_close(m->ws, 1008, hsb_text("no answer to a ping"));
        return;
    }
    m->silent = true;
    hsb_websocket_ping(m->ws, hsb_text(""));
    hsb_stream_after(stream, ping_seconds * 1000, keep_alive, m);
}

static void on_pong(hsb_websocket *ws, hsb_str payload, void *user)
{
    member *m = user;
    (void)ws, (void)payload;
    m->silent = false;
}

static void listen_again(hsb_stream *stream, void *arg)
{
    member *m = arg;
    m->resting = false;
    hsb_stream_resume(stream);
}

/* A member is heard twenty times a second, with what came in one piece (16 KiB at most): a
   burst does not come faster than others can read.                                        */
static void on_message(hsb_websocket *ws, bool text, hsb_str message, void *user)
{
    hsb_stream *stream = hsb_websocket_stream(ws);
    member *m = user;
    m->silent = false;
    if (text && message.len && memchr(message.ptr, '\n', message.len)) {
        if (!m->resting && hsb_stream_after(stream, 50, listen_again, m)) {
            hsb_stream_pause(stream);
            m->resting = true;
        }
        tell_all(message);
    } else {
        hsb_websocket_close(ws, 1003, hsb_text("name, line feed, text"));
    }
}

static void on_drain(hsb_websocket *ws, void *user)
{
    member *m = user;
    (void)ws;
    m->slow = false;
    catch_up(m);
}

static void on_close(hsb_websocket *ws, int code, hsb_str reason, void *user)
{
    member *m = user;
    (void)ws, (void)code, (void)reason;
    *m->link = m->next;
    if (m->next)
        m->next->link = m->link;
    free(m);
    member_count--;
    tell_count();
}

static void join(hsb_request *req)
{
    static const char *const subprotocols[] = { "chat.v1", NULL };
    member *m = calloc(1, sizeof *m);
    hsb_websocket_hooks hooks = { .user = m, .on_message = on_message, .on_drain = on_drain,
                                  .on_pong = on_pong, .on_close = on_close, .subprotocols = subprotocols,
                                  .message_bytes = 4096 };
    if (!m || !(m->ws = hsb_request_websocket(req, &hooks))) {
        free(m);
        return;                 /* it was answered, or is now with 500                     */
    }
    m->next = members;
    m->link = &members;
    if (m->next)
        m->next->link = &m->next;
    members = m;
    m->heard = said;
    member_count++;
    hsb_stream_after(hsb_websocket_stream(m->ws), ping_seconds * 1000, keep_alive, m);
    tell_count();
}

/* A browser opens a WebSocket for any page that asks, with the user's cookies: only the
   Origin tells whose page it is.  Who sends none is no browser.                           */
static bool from_our_page(const hsb_request *req)
{
    hsb_str origin = hsb_request_header(req, "Origin"), host = hsb_request_host(req);
    const size_t scheme = strlen("https://");
    return !origin.ptr || (origin.len == scheme + host.len &&
                           memcmp(origin.ptr, "https://", scheme) == 0 &&
                           memcmp(origin.ptr + scheme, host.ptr, host.len) == 0);
}

static void answer(hsb_request *req, void *user)
{
    hsb_str path = hsb_request_path(req);
    (void)user;
    if (hsb_equal(path, "/")) {
        hsb_response_header(req, "Content-Type", "text/html; charset=utf-8");
        hsb_response_begin(req, 200, (int64_t)(sizeof head - 1 + sizeof body - 1));
        hsb_response_write(req, hsb_text(head));
        hsb_response_write(req, hsb_text(body));
        hsb_response_end(req);
    } else if (!hsb_equal(path, "/chat")) {
        hsb_respond(req, 404, "text/plain", hsb_text("not here\n"));
    } else if (!from_our_page(req)) {
        hsb_respond(req, 403, "text/plain", hsb_text("not from that page\n"));
    } else {
        join(req);
    }
}

/* Called by hsb_serve once the server closes.                                              */
static void on_wake(hsb_server *server, void *user)
{
    (void)user;
    for (member *m = members; hsb_server_closing(server) && m; m = m->next)
        hsb_websocket_close(m->ws, 1001, hsb_text("the server is going away"));
}

static int flag(const char *argument, const char *next)
{
    if (strcmp(argument, "--ping") != 0 || !next)
        return 0;
    ping_seconds = common_number(argument, next, 1, 3600);
    return 2;
}

int main(int argc, char **argv)
{
    common c = { .about = "a chat room over WebSocket", .flag = flag,
                 .help = "  --ping N               seconds between pings; whoever answers none goes (30)\n" };
    hsb_options options = { .hooks = { .on_request = answer, .on_wake = on_wake } };
    common_flags(&c, argc, argv);
    int status = common_serve(&c, &options);
    while (oldest < said)
        forget_oldest();
    return status;
}
