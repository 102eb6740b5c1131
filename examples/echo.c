/* A server to point clients and test tools at: bodies in both directions, as large as one
   likes, in the little memory that flow control needs.

     GET  /          "hello\n"
     POST /echo      the body, streamed back with Content-Length or chunked as it came
     GET  /bytes/N   N bytes
     GET  /whoami    TLS version, suite, server name, ALPN, client's subject, one a line
     POST /sink      how many bytes came
     anything else   404

   cc -I. -o echo examples/echo.c -lbearssl && ./echo --port 8443                           */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static bool is_head(hsb_request *req)
{
    return hsb_equal(hsb_request_method(req), "HEAD");
}

static bool reads(hsb_request *req, const char *path)
{
    return (hsb_equal(hsb_request_method(req), "GET") || is_head(req)) &&
           (!path || hsb_equal(hsb_request_path(req), path));
}

static bool posts(hsb_request *req, const char *path)
{
    return hsb_equal(hsb_request_method(req), "POST") && hsb_equal(hsb_request_path(req), path);
}

static void not_found(hsb_request *req)
{
    hsb_respond(req, 404, "text/plain", hsb_text("not found\n"));
}

/* --- POST /echo: what comes goes back, and no faster than the client reads ------------------ */
static void begin_echo(hsb_request *req)
{
    hsb_response_header(req, "Content-Type", "application/octet-stream");
    hsb_response_begin(req, 200, hsb_request_content_length(req));
}

static void echo_part(hsb_request *req, hsb_str part)
{
    if (hsb_response_status(req) == 0)
        begin_echo(req);
    if (hsb_response_write(req, part) == HSB_FLOW_WAIT)
        hsb_request_pause(req);         /* on_drain goes on                                 */
}

static void end_echo(hsb_request *req)
{
    if (hsb_response_status(req) == 0)  /* there was no body                                */
        begin_echo(req);
    hsb_response_end(req);
}

/* --- GET /bytes/N ------------------------------------------------------------------------------ */
/* N of the path; -1: it is another path.                                                   */
static int64_t bytes_wanted(hsb_request *req)
{
    static const char prefix[] = "/bytes/";
    hsb_str path = hsb_request_path(req);
    size_t skip = sizeof prefix - 1;
    int64_t n = 0;
    if (!reads(req, NULL) || path.len <= skip || path.len > skip + 18 || memcmp(path.ptr, prefix, skip) != 0)
        return -1;
    for (size_t i = skip; i < path.len; i++) {
        if (path.ptr[i] < '0' || path.ptr[i] > '9')
            return -1;
        n = n * 10 + (path.ptr[i] - '0');
    }
    return n;
}

static char block[16384];               /* the same 64 bytes over and over                  */

static void fill_block(void)
{
    static const char line[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n";
    for (size_t i = 0; i < sizeof block; i += 64)
        memcpy(block + i, line, 64);
}

/* Until the client has enough to read for now; on_drain comes here again.                  */
static void send_bytes(hsb_request *req)
{
    int64_t *left = hsb_request_user(req);
    while (*left > 0) {
        size_t n = *left < (int64_t)sizeof block ? (size_t)*left : sizeof block;
        hsb_str part = { block, n };
        *left -= (int64_t)n;
        if (hsb_response_write(req, part) != HSB_FLOW_GO)
            return;
    }
    hsb_response_end(req);
}

static void begin_bytes(hsb_request *req, int64_t n)
{
    int64_t *left = malloc(sizeof *left);
    if (!left) {
        hsb_respond(req, 503, NULL, hsb_text(""));
        return;
    }
    *left = is_head(req) ? 0 : n;
    hsb_request_set_user(req, left);    /* on_finish frees it                               */
    hsb_response_header(req, "Content-Type", "application/octet-stream");
    hsb_response_begin(req, 200, n);
    send_bytes(req);
}

/* --- GET /whoami --------------------------------------------------------------------------------- */
static void whoami(hsb_request *req)
{
    const hsb_tls_info *tls = hsb_conn_tls(hsb_request_conn(req));
    hsb_str client = tls->client ? tls->client->subject : hsb_text("none");
    char text[2048];
    snprintf(text, sizeof text, "version: %s\nsuite: %s\nserver name: %s\nalpn: %s\nclient: %.*s\n",
             tls->version == 0x0304 ? "TLSv1.3" : "TLSv1.2", tls->suite_name,
             tls->server_name[0] ? tls->server_name : "none", tls->alpn ? tls->alpn : "none",
             client.len < 1024 ? (int)client.len : 1024, client.ptr);
    hsb_respond(req, 200, "text/plain; charset=utf-8", hsb_text(text));
}

/* --- hooks ------------------------------------------------------------------------------------------ */
static void on_head(hsb_request *req, void *user)
{
    (void)user;
    if (posts(req, "/echo") || posts(req, "/sink"))
        hsb_request_stream(req);
    else if (!reads(req, NULL))         /* before a body comes that nobody wants            */
        not_found(req);
}

static void on_body(hsb_request *req, hsb_str part, void *user)
{
    (void)user;
    if (posts(req, "/echo"))
        echo_part(req, part);
}

static void on_request(hsb_request *req, void *user)
{
    int64_t n = bytes_wanted(req);
    char text[32];
    (void)user;
    if (n >= 0)
        begin_bytes(req, n);
    else if (reads(req, "/"))
        hsb_respond(req, 200, "text/plain", hsb_text("hello\n"));
    else if (posts(req, "/echo"))
        end_echo(req);
    else if (reads(req, "/whoami"))
        whoami(req);
    else if (posts(req, "/sink")) {
        snprintf(text, sizeof text, "%lld\n", (long long)hsb_request_received(req));
        hsb_respond(req, 200, "text/plain", hsb_text(text));
    } else
        not_found(req);
}

static void on_drain(hsb_request *req, void *user)
{
    (void)user;
    if (hsb_request_user(req))
        send_bytes(req);
    else
        hsb_request_resume(req);
}

static void on_finish(hsb_request *req, const hsb_error *failed, void *user)
{
    (void)failed, (void)user;
    free(hsb_request_user(req));
}

int main(int argc, char **argv)
{
    common c = { .about = "a server to point clients and test tools at", .threads = 1 };
    hsb_options options = { .hooks = { .on_head = on_head, .on_body = on_body, .on_request = on_request,
                                       .on_drain = on_drain, .on_finish = on_finish },
                            .limits.connections = -1 };         /* as many as descriptors */
    common_flags(&c, argc, argv);
    fill_block();
    return common_serve(&c, &options);
}
