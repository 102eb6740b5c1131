/* A file drop: files of up to 32 MiB come by the form of its page or by PUT, and whoever reaches it
   can fetch them.  Each gets a name that no other ever has.  (form.c takes larger ones.)

   cc -I. -o filedrop examples/filedrop.c -lbearssl && ./filedrop /tmp/drop 8443
   curl -kT photo.jpg https://localhost:8443/                                               */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "posix.h"

static int64_t room = (int64_t)10 << 30;        /* bytes that may come while it runs        */
static const char page[] = "<!doctype html><html lang=en><meta charset=utf-8><title>File drop</title><style>"
    ":root { color-scheme: light dark } body { max-width: 44rem; margin: auto; padding: 1rem; font: 1rem/1.5 system-ui }"
    "form, a { display: block; margin: .5rem 0; padding: .75rem; border: 1px solid #8886; border-radius: .6rem;"
    " color: inherit; overflow-wrap: anywhere } input, button { font: inherit; max-width: 100% }</style><meta name=viewport"
    " content=\"width=device-width\"><h1>File drop</h1><form method=post enctype=multipart/form-data>"
    "<input type=file name=file multiple required aria-label=Files> <button>Send</button></form>\n";

/* Returns the name, or NULL: it could not be written, and nothing of it stays.             */
static const char *store(hsb_request *req, hsb_str sent, hsb_str bytes)
{
    static unsigned files;
    hsb_str safe = hsb_request_safe_name(req, sent);
    hsb_str name = hsb_request_format(req, "%lld-%u-%.200s", (long long)time(NULL), ++files, safe.ptr ? safe.ptr : "");
    FILE *out = name.ptr && (room -= (int64_t)bytes.len + 4096) > 0 ? fopen(name.ptr, "wbx") : NULL;
    bool whole = out && fwrite(bytes.ptr, 1, bytes.len, out) == bytes.len;
    whole = out && fclose(out) == 0 && whole;
    if (out && !whole)
        remove(name.ptr);
    return whole ? name.ptr : NULL;
}

static void post(hsb_request *req, void *user)
{
    hsb_str site = hsb_request_header(req, "Sec-Fetch-Site"), rest = { 0 }, bytes;
    int status = site.ptr && !hsb_equal(site, "same-origin") ? 403 : 303;       /* a form of another site */
    for (hsb_part part; status == 303 && hsb_request_next_part(req, &rest, &part, &bytes);)
        if (part.file_name.len > 0 && !store(req, part.file_name, bytes))
            status = 507;
    hsb_response_header(req, "Location", "/");
    hsb_respond(req, status, "text/plain", hsb_text(status == 303 ? "" : "not stored\n"));
}

static void put(hsb_request *req, void *user)
{
    bool part = hsb_request_header(req, "Content-Range").ptr;                   /* RFC 9110 14.5 */
    const char *name = part ? NULL : store(req, hsb_request_param(req, "name"), hsb_request_body(req));
    hsb_respondf(req, part ? 400 : name ? 201 : 507, "text/plain", "%s\n", name ? name : "not stored");
}

static void get(hsb_request *req, void *user)
{
    hsb_response_header(req, "Content-Disposition", "attachment");      /* no page of others runs here */
    hsb_response_header(req, "Content-Security-Policy", "sandbox");
    hsb_respond_dir(req, ".", hsb_request_path(req));
}

static void list(hsb_request *req, void *user)
{
    struct dirent **all;
    int count = scandir(".", &all, NULL, alphasort);
    hsb_response_header(req, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline';"
                        " form-action 'self'; frame-ancestors 'none'");
    hsb_response_header(req, "Content-Type", "text/html; charset=utf-8");
    hsb_response_begin(req, 200, -1);
    hsb_flow flow = hsb_response_write(req, hsb_text(page));
    for (int i = 0; i < count; free(all[i++])) {
        hsb_str text = hsb_text(all[i]->d_name), link = hsb_request_percent(req, text), name = hsb_request_html(req, text);
        if (flow == HSB_FLOW_GO && *text.ptr != '.' && link.ptr && name.ptr)
            flow = hsb_response_writef(req, "<a href=\"/%s\">%s</a>\n", link.ptr, name.ptr);
    }
    if (count >= 0)
        free(all);
    hsb_response_end(req);
}

static void answer(hsb_request *req, void *user)
{
    static const hsb_route routes[] = { { "GET", "/", list }, { "POST", "/", post }, { "GET", "/:name", get },
                                        { "PUT", "/:name", put }, { 0 } };
    if (!hsb_request_route(req, routes, user))
        hsb_respond(req, 404, "text/plain", hsb_text("not found\n"));
}

int main(int argc, char **argv)
{
    hsb_limits limits = { .body_bytes = 32 << 20, .connections = 32, .request_bytes = 8 << 20, .queued_bytes = 1 << 20 };
    hsb_serve_desc desc = { .port = argc > 2 ? atoi(argv[2]) : 0,
                            .options = { .hooks.on_request = answer, .limits = limits } };
    return argc > 1 && chdir(argv[1]) == 0 ? hsb_serve(&desc) : (fputs("filedrop DIR [PORT]\n", stderr), 2);
}
