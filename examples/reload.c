/* A new certificate without a restart: SIGHUP reads --cert and --key again.  Connections
   that are open keep theirs, new ones see the new one; if it cannot be used, the old one
   stays.  GET / tells the fingerprint of what is shown now.  (hsb_serve does this, too.)

   cc -I. -o reload examples/reload.c -lbearssl
   ./reload --cert fullchain.pem --key privkey.pem                                         */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static hsb_server *server;

/* All that a signal handler may do: wake the server, so that it calls on_wake.             */
static void on_hangup(int sig)
{
    (void)sig;
    hsb_server_wake(server);
}

static void on_wake(hsb_server *woken, void *user)
{
    hsb_security_desc desc = common_security_desc(user);
    hsb_error err;
    hsb_security *fresh = hsb_security_new(&desc, &err);
    if (!fresh || !hsb_server_set_security(woken, -1, fresh, &err)) {
        common_print(2, "keeping the old certificate: %s\n", err.text);
        hsb_security_free(fresh);
        return;
    }
    hsb_security_free(common_security); /* gone with the last connection that uses it       */
    common_security = fresh;
    common_print(2, "a new certificate from now on\n");
}

static void answer(hsb_request *req, void *user)
{
    const uint8_t *sha256 = hsb_security_sha256(common_security);
    char text[80];
    (void)user;
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 4, "%02x\n", (unsigned)sha256[i]);
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

int main(int argc, char **argv)
{
    common c = { .about = "reads its certificate again on SIGHUP" };
    hsb_options options = { .hooks = { .user = &c, .on_request = answer, .on_wake = on_wake } };
    common_flags(&c, argc, argv);
    server = common_bind(&c, &options);
    common_on_signal(SIGHUP, on_hangup);
    common_ready(server);
    hsb_server_run(server, NULL);
    return common_end();
}
