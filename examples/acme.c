/* Certificates by themselves, in a loop of your own: a server with ACME and its thread, and what
   they say.  The names lead to this machine, and the CA reaches its port 443.

   cc -I. -o acme examples/acme.c -lbearssl -lpthread && ./acme www.example.org            */
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <pthread.h>
#include <stdio.h>

static hsb_server *server;
static hsb_acme   *acme;

static void answer(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond(req, 200, "text/plain", hsb_text("Trusted, and nobody had to care\n"));
}

/* On the thread of hsb_acme_run. */
static void say(const hsb_acme_event *event, void *user)
{
    (void)user;
    fprintf(stderr, "%s\n", event->text);
}

static void *renew(void *unused)
{
    hsb_acme_run(acme, NULL);
    return unused;
}

static void stop(int signal_number)
{
    (void)signal_number;
    hsb_acme_stop(acme);
    hsb_server_close(server, false);
}

int main(int argc, char **argv)
{
    hsb_acme_desc desc = { .names = (const char *const *)(argv + 1), .folder = "acme",
                           .agree_to_terms = true, .on_event = say };
    hsb_options options = { .hooks.on_request = answer };
    hsb_error err;
    pthread_t thread;
    if (argc < 2)
        return fprintf(stderr, "usage: acme NAME...\n"), 2;
    acme = hsb_acme_new(&desc, &err);
    server = acme ? hsb_bind_secure("::", 443, hsb_acme_security(acme), &options, &err) : NULL;
    if (!server || !hsb_server_set_acme(server, acme, &err) ||
        pthread_create(&thread, NULL, renew, NULL) != 0)
        return fprintf(stderr, "%s\n", err.text), 1;
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    hsb_server_run(server, &err);
    hsb_acme_stop(acme);
    pthread_join(thread, NULL);
    hsb_server_free(server);
    hsb_acme_free(acme);
    return 0;
}
