/* A page with a login, and figures that stay up to date for every reader.

   cc -I. -o dashboard examples/dashboard.c -lbearssl
   DASHBOARD_PASSWORD="correct horse" ./dashboard 8443                                      */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <time.h>

static struct session { char token[HSB_TOKEN_MAX]; time_t until; } sessions[16];
static const char *password;
static const char page[] = "<!doctype html><html lang=en><meta charset=utf-8><title>Dashboard</title><style nonce=%s>"
    ":root { color-scheme: light dark } body { max-width: 44rem; margin: auto; padding: 1rem; font: 1rem/1.5 system-ui }"
    "dl { display: grid; grid: auto / repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; opacity: .4 } dd { margin: 0;"
    " font-size: 2rem } .live dl { opacity: 1 } div, input, button { border: 1px solid #888; border-radius: .6rem;"
    " padding: .6rem; font: inherit } </style><meta name=viewport content=\"width=device-width\"><h1>Dashboard</h1>%s<form"
    " method=post>%s<input type=hidden name=form value=\"%.*s\"><button>%s</button></form><script nonce=%s>%s</script>\n",
    field[] = "<p><label>Password<br><input type=password name=password required autofocus></label></p>",
    figures[] = "<dl><div><dt>Connections<dd>…</div><div><dt>Busy<dd>…</div><div><dt>KiB used<dd>…</div></dl>",
    script[] = "const live = new EventSource('/events'), all = document.querySelectorAll('dd'), page = document.body;"
    "live.onmessage = e => { page.className = 'live'; e.data.split(' ').forEach((text, i) => all[i].textContent = text) };"
    "live.onerror = () => { page.className = ''; if (live.readyState == 2) location.reload() }";

static struct session *session_of(hsb_request *req)
{
    hsb_str token = hsb_request_cookie(req, "__Host-session");
    for (struct session *s = sessions; s < sessions + 16; s++)
        if (hsb_equal_secret(token, hsb_text(s->token)) && time(NULL) < s->until)
            return s;
    return NULL;
}

/* The token in the form is the one in its reader's cookie; other sites know neither.       */
static void show(hsb_request *req, void *refusal)
{
    char nonce[HSB_TOKEN_MAX], token[HSB_TOKEN_MAX];
    hsb_cookie cookie = { "__Host-form", token, "/", .same_site = HSB_SAME_SITE_STRICT };
    hsb_str form = hsb_request_html(req, hsb_request_cookie(req, cookie.name));
    bool in = session_of(req) != NULL;
    const char *top = in ? figures : refusal ? refusal : "";
    if (!form.ptr && hsb_token(token) && hsb_response_cookie(req, &cookie))
        form = hsb_text(token);
    if (form.ptr && hsb_token(nonce) && hsb_response_header(req, "Cache-Control", "no-store") &&
        hsb_response_headerf(req, "Content-Security-Policy", "default-src 'none'; style-src 'nonce-%s'; script-src"
            " 'nonce-%s'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'", nonce, nonce))
        hsb_respondf(req, refusal ? 403 : 200, "text/html; charset=utf-8", page, nonce, top, in ? "" : field,
                     (int)form.len, form.ptr, in ? "Log out" : "Log in", nonce, in ? script : "");
}

static void enter(hsb_request *req, void *user)
{
    static unsigned next;               /* a login takes the place of an older one          */
    struct session *s = session_of(req), *mine = s ? s : &sessions[next++ % 16];
    hsb_cookie cookie = { "__Host-session", mine->token, "/", .same_site = HSB_SAME_SITE_STRICT };
    if (!hsb_equal_secret(hsb_request_form_value(req, "form"), hsb_request_cookie(req, "__Host-form")) ||
        (!s && !hsb_equal_secret(hsb_request_form_value(req, "password"), hsb_text(password)))) {
        hsb_request_after(req, 1000, show, "<p role=alert>Not accepted.</p>");      /* guesses take time */
        return;
    }
    mine->until = !s && hsb_token(mine->token) ? time(NULL) + 8 * 3600 : 0;
    hsb_response_cookie(req, &cookie);
    hsb_respond_redirect(req, 303, "/");
}

static void tell(hsb_request *req, void *user)
{
    hsb_server *server = hsb_conn_server(hsb_request_conn(req));
    bool in = session_of(req) && !hsb_server_closing(server);
    hsb_connections open = hsb_server_connections(server);
    if (!hsb_response_status(req) && hsb_response_header(req, "Content-Type", "text/event-stream"))
        hsb_response_begin(req, in ? 200 : 403, -1);
    if (!in || hsb_equal(hsb_request_method(req), "HEAD"))
        hsb_response_end(req);
    else if (hsb_response_writef(req, "data: %d %d %zu\n\n", open.total, open.active,
                                 hsb_server_memory(server) / 1024) == HSB_FLOW_GO)
        hsb_request_after(req, 1000, tell, user);       /* else on_drain goes on            */
}

static void answer(hsb_request *req, void *user)
{
    static const hsb_route routes[] = { { "GET", "/", show }, { "POST", "/", enter }, { "GET", "/events", tell }, { 0 } };
    if (!hsb_request_route(req, routes, user))
        hsb_respond(req, 404, "text/plain", hsb_text("not found\n"));
}

int main(int argc, char **argv)
{
    hsb_serve_desc desc = { .port = argc > 1 ? atoi(argv[1]) : 0,
                            .options.hooks = { .on_request = answer, .on_drain = tell } };
    password = getenv("DASHBOARD_PASSWORD");
    return password && *password ? hsb_serve(&desc) : (fputs("set DASHBOARD_PASSWORD\n", stderr), 2);
}
