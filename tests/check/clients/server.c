/* Asks for certificates, and says on each connection, which it closes then, how it is talked to:
   "1.3 resumed CN=ann,O=Example".  /page is for browsers: it asks three times more.  On its output
   it says its port, and the same lines once more.
   usage: server CHAIN KEY TRUSTED */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <stdio.h>

static const char page[] =
    "<!doctype html><pre id=said></pre><script>\n"
    "for (let i = 0; i < 3; i++) {\n"
    "    const ask = new XMLHttpRequest();\n"
    "    ask.open('GET', '/' + i, false);\n"
    "    ask.send();\n"
    "    said.textContent += ask.responseText;\n"
    "}\n"
    "</script>\n";

static void answer(hsb_request *req, void *user)
{
    const hsb_tls_info *tls = hsb_conn_tls(hsb_request_conn(req));
    char text[300];
    (void)user;
    snprintf(text, sizeof text, "%s %s %.*s\n", tls->version == 0x0304 ? "1.3" : "1.2",
             tls->resumed ? "resumed" : "full",
             tls->client ? (int)tls->client->subject.len : 6,
             tls->client ? tls->client->subject.ptr : "nobody");
    if (hsb_equal(hsb_request_path(req), "/page"))
        hsb_respond(req, 200, "text/html", hsb_text(page));
    else
        hsb_respond(req, 200, "text/plain", hsb_text(text));
    fputs(text, stdout);
    fflush(stdout);
    hsb_conn_close(hsb_request_conn(req), false);
}

int main(int argc, char **argv)
{
    hsb_error err;
    if (argc != 4)
        return 2;
    hsb_security_desc desc = { .identity = { .chain = hsb_pem_file(argv[1]),
                                             .key = hsb_pem_file(argv[2]) },
                               .trusted = hsb_pem_file(argv[3]) };
    hsb_options options = { .hooks.on_request = answer, .request_client_certificate = true };
    hsb_security *security = hsb_security_new(&desc, &err);
    hsb_server *server = security ? hsb_bind_secure("127.0.0.1", 0, security, &options, &err) : NULL;
    if (!server)
        return fprintf(stderr, "%s\n", err.text), 1;
    printf("%d\n", hsb_server_port(server));
    fflush(stdout);
    return hsb_server_run(server, &err) ? 0 : 1;
}
