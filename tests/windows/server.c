/* A server for tests/windows/clients.py: two threads that share a port.

     usage: server.exe FOLDER

   GET      files below FOLDER
   POST     the body comes back
   /facts   connections and bytes of the server that answers
   /stop    ends the program */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

enum { THREADS = 2 };

static hsb_server *servers[THREADS];
static const char *folder;

static void stop(void)
{
    for (int i = 0; i < THREADS; i++)
        hsb_server_close(servers[i], false);
}

static void answer(hsb_request *req, void *user)
{
    const hsb_str path = hsb_request_path(req), method = hsb_request_method(req);
    (void)user;
    if (hsb_equal(path, "/stop")) {
        hsb_respond(req, 200, "text/plain", hsb_text("bye\n"));
        stop();
    } else if (hsb_equal(path, "/facts")) {
        const hsb_server *server = hsb_conn_server(hsb_request_conn(req));
        hsb_respondf(req, 200, "text/plain", "%d %zu\n", hsb_server_connections(server).total,
                     hsb_server_memory(server));
    } else if (hsb_equal(method, "POST")) {
        hsb_respond(req, 200, "application/octet-stream", hsb_request_body(req));
    } else {
        hsb_respond_dir(req, folder, path);
    }
}

static DWORD WINAPI run(void *server)
{
    hsb_error err;
    if (!hsb_server_run(server, &err))
        fprintf(stderr, "%s\n", err.text);
    return 0;
}

int main(int argc, char **argv)
{
    hsb_error err;
    hsb_security_desc desc = { .self_signed_for = "localhost" };
    hsb_options options = { .hooks.on_request = answer, .shared = true };
    HANDLE thread = NULL;
    int port = 0;
    folder = argc > 1 ? argv[1] : ".";
    hsb_security *security = hsb_security_new(&desc, &err);
    for (int i = 0; security && i < THREADS; i++) {
        servers[i] = hsb_bind_secure("127.0.0.1", port, security, &options, &err);
        if (!servers[i])
            return fprintf(stderr, "%s\n", err.text), 1;
        port = hsb_server_port(servers[i]);
    }
    if (!security)
        return fprintf(stderr, "%s\n", err.text), 1;
    thread = CreateThread(NULL, 0, run, servers[1], 0, NULL);
    printf("port %d\n", port);
    fflush(stdout);
    run(servers[0]);
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
    for (int i = 0; i < THREADS; i++)
        hsb_server_free(servers[i]);
    hsb_security_free(security);
    puts("freed");
    return 0;
}
