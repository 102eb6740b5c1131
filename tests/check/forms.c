/* What forms.sh sends its forms to.  GET / is an empty page.  POST / and POST /kept read the form,
   streamed and kept, and answer with a line for each part: its name, its file's name and its type in
   percent-encoding ("-": absent), how long it is, and the FNV-1a hash of its bytes.
   forms PORT: with TLS there, without on the next one. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <stdio.h>
#include <stdlib.h>

/* In the memory of the request. */
typedef struct form {
    hsb_str  lines, part;               /* done; of the part at hand */
    uint64_t hash, len;
} form;

static hsb_str encoded(hsb_request *req, hsb_str text)
{
    return text.ptr ? hsb_request_percent(req, text) : hsb_text("-");
}

static void on_part(hsb_request *req, const hsb_part *part, void *user)
{
    form *f = user;
    hsb_str name = encoded(req, part->name), file = encoded(req, part->file_name);
    hsb_str type = encoded(req, part->type);
    f->part = hsb_request_format(req, "%.*s %.*s %.*s", (int)name.len, name.ptr, (int)file.len, file.ptr,
                                 (int)type.len, type.ptr);
    f->hash = 14695981039346656037u;
    f->len = 0;
}

static void on_data(hsb_request *req, hsb_str bytes, void *user)
{
    form *f = user;
    (void)req;
    for (size_t i = 0; i < bytes.len; i++)
        f->hash = (f->hash ^ (unsigned char)bytes.ptr[i]) * 1099511628211u;
    f->len += bytes.len;
}

static void on_end(hsb_request *req, void *user)
{
    form *f = user;
    f->lines = hsb_request_format(req, "%.*s%.*s %llu %016llx\n", (int)f->lines.len,
                                  f->lines.ptr ? f->lines.ptr : "", (int)f->part.len, f->part.ptr,
                                  (unsigned long long)f->len, (unsigned long long)f->hash);
}

static void on_head(hsb_request *req, void *user)
{
    form *f = hsb_request_alloc(req, sizeof *f);
    hsb_multipart_hooks hooks = { f, on_part, on_data, on_end, 0, 0 };
    (void)user;
    hsb_request_set_user(req, f);
    if (hsb_equal(hsb_request_method(req), "POST") && !hsb_equal(hsb_request_path(req), "/kept"))
        hsb_request_multipart(req, &hooks);
}

static void on_request(hsb_request *req, void *user)
{
    form *f = hsb_request_user(req);
    hsb_str rest = { NULL, 0 }, bytes;
    hsb_part part;
    (void)user;
    if (hsb_equal(hsb_request_method(req), "GET")) {
        hsb_respond(req, 200, "text/html; charset=utf-8",
                    hsb_text("<!doctype html><title>form</title><body>"));
        return;
    }
    while (hsb_equal(hsb_request_path(req), "/kept") &&
           hsb_request_next_part(req, &rest, &part, &bytes)) {
        on_part(req, &part, f);
        on_data(req, bytes, f);
        on_end(req, f);
    }
    hsb_respond(req, 200, "text/plain", f->lines);
}

static void on_error(hsb_server *server, hsb_conn *conn, const hsb_error *why, void *user)
{
    (void)server, (void)conn, (void)user;
    fprintf(stderr, "%s\n", why->text);
}

int main(int argc, char **argv)
{
    hsb_error err;
    int port = argc > 1 ? atoi(argv[1]) : 8443;
    hsb_security_desc desc = { .self_signed_for = "localhost" };
    hsb_options options = { .hooks = { .on_head = on_head, .on_request = on_request, .on_error = on_error } };
    options.limits.body_bytes = 16 << 20;
    hsb_security *security = hsb_security_new(&desc, &err);
    hsb_server *server = security ? hsb_bind_secure("127.0.0.1", port, security, &options, &err) : NULL;
    if (!server || hsb_server_listen(server, "127.0.0.1", port + 1, NULL, &err) < 0)
        return fprintf(stderr, "%s\n", err.text), 1;
    return hsb_server_run(server, &err) ? 0 : 1;
}
