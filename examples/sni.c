/* Several names on one address, each with a certificate of its own: what the client asks for
   in its handshake (SNI) decides.  An exact name goes before a wildcard; other names get
   the default: --cert and --key, or a certificate made for localhost.

   cc -I. -o sni examples/sni.c -lbearssl
   ./sni www.example.org tests/data/server-www.pem tests/data/server-www.key \
         '*.example.org' tests/data/server-wildcard.pem tests/data/server-wildcard.key
   curl -k --connect-to ::localhost:8443 https://www.example.org/                          */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static const char *words[48];           /* NAME CERT KEY, and so on                         */
static int word_count;

/* A client may ask for one name in its handshake and for another in Host: with sites that
   know different visitors, that is refused (RFC 9110 15.5.20).                             */
static void answer(hsb_request *req, void *user)
{
    const char *name = hsb_conn_tls(hsb_request_conn(req))->server_name;
    hsb_str host = hsb_request_host(req);
    size_t len = strlen(name);
    char text[400];
    (void)user;
    snprintf(text, sizeof text, "this is %s\n", len ? name : "whoever you called");
    if (len && (host.len < len || strncasecmp(host.ptr, name, len) != 0 ||
                (host.len > len && host.ptr[len] != ':')))
        hsb_respond(req, 421, "text/plain", hsb_text("another site than the handshake asked for\n"));
    else
        hsb_respond(req, 200, "text/plain", hsb_text(text));
}

static int flag(const char *argument, const char *next)
{
    (void)next;
    if (argument[0] == '-' || word_count == sizeof words / sizeof *words)
        return 0;
    words[word_count++] = argument;
    return 1;
}

int main(int argc, char **argv)
{
    common c = { .about = "another certificate for each name", .threads = 1, .flag = flag,
                 .arguments = "[NAME CERT KEY]..." };
    hsb_options options = { .hooks.on_request = answer };
    hsb_identity more[16] = { { 0 } };
    common_flags(&c, argc, argv);
    if (word_count % 3)
        common_die("each NAME needs its CERT and its KEY");
    hsb_serve_desc desc = common_desc(&c, &options);
    desc.security.identities = more;
    desc.security.identity_count = word_count / 3;
    for (int i = 0; i < word_count / 3; i++) {
        more[i].server_name = words[3 * i];
        more[i].chain = hsb_pem_file(words[3 * i + 1]);
        more[i].key = hsb_pem_file(words[3 * i + 2]);
    }
    return hsb_serve(&desc) ? 2 : 0;
}
