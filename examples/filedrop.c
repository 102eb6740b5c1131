/* A file drop: files come by the form of its page, or by PUT, and whoever reaches it can fetch
   them.  A file is in the folder "files" when it is whole, under a name that no other one gets.

   cc -I. -o filedrop examples/filedrop.c -lbearssl && ./filedrop /tmp 8443
   curl -kT big.iso https://localhost:8443/                                                 */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <dirent.h>

typedef struct drop { FILE *out; char name[6 + 256]; } drop;     /* "files/NAME" when it is whole, else NAME */
static int64_t room = (int64_t)10 << 30;        /* bytes that may come while it runs                        */
static const char page[] = "<!doctype html><html lang=en><meta charset=utf-8><title>File drop</title><style nonce=%s>"
    ":root { color-scheme: light dark } body { max-width: 44rem; margin: auto; padding: 1rem; font: 1rem/1.5 system-ui }"
    "form, a { border: 1px solid #8886; border-radius: .6rem; padding: .75rem; display: block; margin: .5rem 0; color:"
    " inherit; overflow-wrap: anywhere } input, button { font: inherit; max-width: 100%% }</style><meta name=viewport"
    " content=\"width=device-width\"><h1>File drop</h1><form method=post enctype=multipart/form-data>"
    "<input type=file name=file multiple required aria-label=Files> <button>Send</button></form>\n";

static void on_part(hsb_request *req, const hsb_part *part, void *user)
{
    static unsigned files;
    drop *d = hsb_request_user(req);
    hsb_str safe = hsb_request_safe_name(req, part->file_name);
    if (part->file_name.len == 0 || !safe.ptr)  /* a field, or no file was chosen           */
        return;
    snprintf(d->name, sizeof d->name, "files/%lld-%u-%.200s", (long long)time(NULL), ++files, safe.ptr);
    d->out = fopen(d->name + 6, "wbx");
    room -= 4096;                               /* an empty file takes room, too            */
    if (!d->out)
        hsb_respond(req, 500, "text/plain", hsb_text("cannot write here\n"));
}

static void on_data(hsb_request *req, hsb_str bytes, void *user)
{
    drop *d = hsb_request_user(req);
    if (d->out && ((room -= (int64_t)bytes.len) < 0 || fwrite(bytes.ptr, 1, bytes.len, d->out) != bytes.len))
        hsb_respond(req, 507, "text/plain", hsb_text("no room\n"));
}

static void on_end(hsb_request *req, void *user)
{
    drop *d = hsb_request_user(req);
    FILE *out = d->out;
    d->out = NULL;
    if (out && (fclose(out) != 0 || rename(d->name + 6, d->name) != 0))
        hsb_respond(req, 507, "text/plain", hsb_text("no room\n"));
}

static void list(hsb_request *req, void *user)
{
    char nonce[HSB_TOKEN_MAX] = "";
    DIR *dir = hsb_token(nonce) ? opendir("files") : NULL;
    hsb_response_headerf(req, "Content-Security-Policy", "default-src 'none'; style-src 'nonce-%s'; form-action 'self';"
                         " frame-ancestors 'none'", nonce);
    hsb_response_header(req, "Content-Type", "text/html; charset=utf-8");
    hsb_response_begin(req, 200, -1);
    hsb_flow flow = hsb_response_writef(req, page, nonce);
    for (struct dirent *d; dir && flow == HSB_FLOW_GO && (d = readdir(dir)) != NULL;) {
        hsb_str link = hsb_request_percent(req, hsb_text(d->d_name)), name = hsb_request_html(req, hsb_text(d->d_name));
        if (d->d_name[0] != '.' && link.ptr && name.ptr)
            flow = hsb_response_writef(req, "<a href=\"/files/%s\">%s</a>\n", link.ptr, name.ptr);
    }
    if (dir)
        closedir(dir);
    hsb_response_end(req);
    (void)user;
}

static void get(hsb_request *req, void *user)
{
    hsb_response_header(req, "Content-Disposition", "attachment");     /* no page of others runs here */
    hsb_response_header(req, "Content-Security-Policy", "sandbox");
    hsb_respond_dir(req, ".", hsb_request_path(req));
    (void)user;
}

static void post(hsb_request *req, void *user)
{
    const hsb_multipart_hooks hooks = { user, on_part, on_data, on_end, 0, 0 };
    hsb_str site = hsb_request_header(req, "Sec-Fetch-Site");           /* browsers say whose form it is */
    if (site.ptr && !hsb_equal(site, "same-origin"))
        hsb_respond(req, 403, "text/plain", hsb_text("not our form\n"));
    else
        hsb_request_multipart(req, &hooks);
}

static void put(hsb_request *req, void *user)
{
    hsb_part part = { .file_name = hsb_request_param(req, "name") };
    if (hsb_request_header(req, "Content-Range").ptr || !part.file_name.ptr)    /* RFC 9110 14.5 */
        hsb_respond(req, 400, "text/plain", hsb_text("whole files, please\n"));
    else
        on_part(req, &part, user);
    if (!hsb_response_status(req))
        hsb_request_stream(req);
}

static void on_head(hsb_request *req, void *user)
{
    static const hsb_route routes[] = { { "GET", "/", list }, { "GET", "/files/:name", get },
                                        { "POST", "/", post }, { "PUT", "/:name", put }, { 0 } };
    hsb_request_set_user(req, hsb_request_alloc(req, sizeof(drop)));
    if (!hsb_request_user(req) || !hsb_request_route(req, routes, user))
        hsb_respond(req, 404, "text/plain", hsb_text("not found\n"));
}

static void on_request(hsb_request *req, void *user)
{
    drop *d = hsb_request_user(req);
    on_end(req, user);                          /* of a PUT                                 */
    if (hsb_equal(hsb_request_method(req), "POST"))
        hsb_respond_redirect(req, 303, "/");
    else if (!hsb_response_status(req))
        hsb_respondf(req, 201, "text/plain", "%s\n", d->name);
}

static void on_finish(hsb_request *req, const hsb_error *failed, void *user)
{
    drop *d = hsb_request_user(req);
    if (d && d->out)
        fclose(d->out);
    if (d && d->name[0])
        remove(d->name + 6);                    /* if it did not become whole               */
    (void)failed, (void)user;
}

int main(int argc, char **argv)
{
    hsb_serve_desc desc = { .port = argc > 2 ? atoi(argv[2]) : 0, .options = { .limits.request_bytes = 8 << 20,
        .hooks = { .on_head = on_head, .on_body = on_data, .on_request = on_request, .on_finish = on_finish } } };
    if (chdir(argc > 1 ? argv[1] : ".") == 0 && (mkdir("files", 0777) == 0 || access("files", W_OK) == 0))
        return hsb_serve(&desc);
    return fputs("there is no such folder, or not for us\n", stderr), 2;
}
