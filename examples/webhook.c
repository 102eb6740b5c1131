/* A webhook receiver: takes the events that GitHub, Gitea or Forgejo sign with a secret, and
   appends each of them to a file, as one line of JSON.

   cc -I. -o webhook examples/webhook.c -lbearssl
   WEBHOOK_SECRET="$(openssl rand -hex 32)" ./webhook events.jsonl 8443                     */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "posix.h"

static int events;                      /* the file                                         */

/* Only the body is signed, so nothing else of the request is stored.                       */
static bool is_signed(hsb_request *req, hsb_str body, const char *secret)
{
    br_hmac_key_context key;
    br_hmac_context hmac;
    unsigned char mac[32];
    char wanted[7 + 2 * sizeof mac + 1] = "sha256=";
    br_hmac_key_init(&key, &br_sha256_vtable, secret, strlen(secret));
    br_hmac_init(&hmac, &key, 0);
    br_hmac_update(&hmac, body.ptr, body.len);
    br_hmac_out(&hmac, mac);
    for (size_t i = 0; i < sizeof mac; i++)
        snprintf(wanted + 7 + 2 * i, 3, "%02x", mac[i]);
    return hsb_equal_secret(hsb_request_header(req, "X-Hub-Signature-256"), hsb_text(wanted));
}

/* In JSON a line end stands between tokens only, where a space does the same.               */
static void receive(hsb_request *req, void *secret)
{
    hsb_str body = hsb_request_body(req);
    char *line = hsb_request_alloc(req, body.len + 1);
    off_t end = lseek(events, 0, SEEK_END);
    int status = !is_signed(req, body, secret) ? 403
               : !hsb_request_is_type(req, "application/json") ? 415 : line ? 204 : 500;
    for (size_t i = 0; line && i <= body.len; i++)
        line[i] = i == body.len ? '\n' : (unsigned char)body.ptr[i] < ' ' ? ' ' : body.ptr[i];
    if (status == 204 && write(events, line, body.len + 1) != (ssize_t)body.len + 1)
        status = ftruncate(events, end) == 0 ? 507 : 500;       /* half a line does not stay */
    hsb_respond(req, status, "text/plain", hsb_text(status == 204 ? "" : "not stored\n"));
}

static void answer(hsb_request *req, void *secret)
{
    static const hsb_route routes[] = { { "POST", "/hook", receive }, { 0 } };
    if (!hsb_request_route(req, routes, secret))
        hsb_respond(req, 404, "text/plain", hsb_text("events go to /hook\n"));
}

int main(int argc, char **argv)
{
    char *secret = getenv("WEBHOOK_SECRET");
    hsb_serve_desc desc = { .port = argc > 2 ? atoi(argv[2]) : 0, .options = {
        .hooks = { .user = secret, .on_request = answer }, .limits.request_bytes = 2 << 20 } };
    events = open(argc > 1 ? argv[1] : "events.jsonl", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (secret && strlen(secret) >= 16 && events >= 0 && flock(events, LOCK_EX | LOCK_NB) == 0)
        return hsb_serve(&desc);
    return fputs("I need a WEBHOOK_SECRET of 16 characters, and a file of my own\n", stderr), 2;
}
