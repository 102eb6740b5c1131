/* Counts uploads: the body of a PUT, and the files of a form.  With TLS on its port, and without
   on the next one.
     forms [FLAG...]                                                                       */
#define HTTPSBIND_IMPLEMENTATION
#include "examples/common.h"

static uint64_t bytes, pieces;

static void on_data(hsb_request *req, hsb_str part, void *user)
{
    (void)req, (void)user;
    bytes += part.len;
    pieces++;
}

static void on_head(hsb_request *req, void *user)
{
    const hsb_multipart_hooks hooks = { .on_data = on_data };
    (void)user;
    bytes = pieces = 0;
    if (hsb_equal(hsb_request_method(req), "PUT"))
        hsb_request_stream(req);
    else if (hsb_equal(hsb_request_method(req), "POST"))
        hsb_request_multipart(req, &hooks);
}

static void on_request(hsb_request *req, void *user)
{
    char text[80];
    (void)user;
    if (hsb_equal(hsb_request_method(req), "GET"))
        snprintf(text, sizeof text, "hello\n");
    else
        snprintf(text, sizeof text, "%llu bytes in %llu pieces\n", (unsigned long long)bytes,
                 (unsigned long long)pieces);
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

int main(int argc, char **argv)
{
    common c = { .about = "counts uploads", .threads = 1 };
    hsb_options options = { .hooks = { .on_head = on_head, .on_body = on_data, .on_request = on_request } };
    hsb_error err;
    common_flags(&c, argc, argv);
    hsb_server *server = common_bind(&c, &options);
    if (hsb_server_listen(server, "127.0.0.1", c.port + 1, NULL, &err) < 0 || !hsb_server_run(server, &err))
        return fprintf(stderr, "%s\n", err.text), 1;
    return common_end();
}
