/* What servers.py compares with, on libmicrohttpd: GET / is "hello\n", GET /bytes/N so many
   bytes.  microhttpd PORT PRIORITIES CERT KEY, one thread.                                 */
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 16384, CONNECTIONS = 15000 };

static struct MHD_Response *hello;

static char *read_file(const char *path)
{
    char *text = calloc(1, 65536);
    FILE *file = fopen(path, "r");
    if (!text || !file || fread(text, 1, 65535, file) == 0) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return text;
}

static ssize_t give(void *user, uint64_t at, char *out, size_t space)
{
    (void)user, (void)at;
    memset(out, 'x', space);
    return (ssize_t)space;
}

static enum MHD_Result answer(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    static int head;                    /* *state, once the head has come: answer at the end */
    (void)user, (void)method, (void)version, (void)upload, (void)upload_size;
    if (!*state) {
        *state = &head;
        return MHD_YES;
    }
    if (strncmp(url, "/bytes/", 7) != 0)
        return MHD_queue_response(connection, 200, hello);
    struct MHD_Response *bytes =
        MHD_create_response_from_callback(strtoull(url + 7, NULL, 10), BLOCK, give, NULL, NULL);
    enum MHD_Result result = MHD_queue_response(connection, 200, bytes);
    MHD_destroy_response(bytes);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    hello = MHD_create_response_from_buffer(6, (void *)(size_t)"hello\n", MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(hello, "Content-Type", "text/plain");
    if (!MHD_start_daemon(MHD_USE_TLS | MHD_USE_EPOLL_INTERNAL_THREAD,
                          (unsigned short)atoi(argv[1]), NULL, NULL, answer, NULL,
                          MHD_OPTION_HTTPS_PRIORITIES, argv[2],
                          MHD_OPTION_HTTPS_MEM_CERT, read_file(argv[3]),
                          MHD_OPTION_HTTPS_MEM_KEY, read_file(argv[4]),
                          MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
                          MHD_OPTION_LISTEN_BACKLOG_SIZE, 4096u, MHD_OPTION_END))
        return fprintf(stderr, "MHD_start_daemon\n"), 1;
    for (;;)
        pause();
}
