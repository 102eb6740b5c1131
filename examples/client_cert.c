/* Client certificates.  --client-ca asks for them, and whoever sends one is who it says; one
   that does not verify never gets here.  Without --require-client-cert people may come
   without: / is for everybody, /private for those with a certificate.  --only refuses
   everybody but one subject, right after the handshake.

   cc -I. -o client_cert examples/client_cert.c -lbearssl
   ./client_cert --client-ca tests/data/ca.pem
   curl -k --cert tests/data/client-p256.pem --key tests/data/client-p256.key \
        https://localhost:8443/private                                                     */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static const char *only;

static const hsb_certificate *client_of(hsb_conn *conn)
{
    return hsb_conn_tls(conn)->client;          /* NULL: came without                        */
}

/* Also for resumed sessions: they bring the certificate of the first handshake along.      */
static bool may_come_in(hsb_conn *conn, void *user)
{
    const hsb_certificate *client = client_of(conn);
    (void)user;
    return !only || (client && hsb_equal(client->subject, only));
}

static void answer(hsb_request *req, void *user)
{
    const hsb_certificate *client = client_of(hsb_request_conn(req));
    char text[1024];
    (void)user;
    if (client) {
        hsb_str who = client->subject, by = client->issuer;
        snprintf(text, sizeof text, "hello, %.*s\nsigned by %.*s\n", (int)who.len, who.ptr,
                 (int)by.len, by.ptr);
        hsb_respond(req, 200, "text/plain; charset=utf-8", hsb_text(text));
    } else if (hsb_equal(hsb_request_path(req), "/private")) {
        hsb_respond(req, 403, "text/plain", hsb_text("for those with a certificate\n"));
    } else {
        hsb_respond(req, 200, "text/plain", hsb_text("hello, whoever you are\n"));
    }
}

static int flag(const char *argument, const char *next)
{
    if (strcmp(argument, "--only") != 0 || !next)
        return 0;
    only = next;
    return 2;
}

int main(int argc, char **argv)
{
    common c = { .about = "knows its clients by their certificates", .threads = 1, .flag = flag,
                 .help = "  --only SUBJECT         let nobody else in, \"CN=ann,O=Example\"\n" };
    hsb_options options = { .hooks = { .on_handshake = may_come_in, .on_request = answer } };
    common_flags(&c, argc, argv);
    return common_serve(&c, &options);
}
