/* Examples started as a user starts them, transfers of curl's, and folders to serve.  Include
   httpsbind.h before this. */
#ifndef TESTS_LIVE_EXAMPLES_HELP_H
#define TESTS_LIVE_EXAMPLES_HELP_H

#include "child.h"
#include "help.h"

#include <curl/curl.h>

#define DATA "tests/data/"
#define CERT "--cert", DATA "server-p256.pem", "--key", DATA "server-p256.key"
#define START(...) start((const char *[]){ __VA_ARGS__, NULL })

/* A port that nobody has now, for programs that cannot be told 0. */
static inline int free_port(void)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    close(fd);
    return ntohs(at.sin_port);
}

/* --- a running example ---------------------------------------------------------------- */

typedef struct running { child *process; int port; } running;

static inline void program_path(char path[256], const char *name)
{
    const char *dir = getenv("EXAMPLES");
    snprintf(path, 256, "%s/%s", dir ? dir : "build/examples", name);
}

/* words[0] is the example's name; --port 0 is added. */
static inline child *launch(const char *const *words)
{
    char path[256];
    const char *argv[32] = { path, "--port", "0" };
    int count = 3;
    program_path(path, words[0]);
    for (int i = 1; words[i] && count < 31; i++)
        argv[count++] = words[i];
    return child_start(argv);
}

/* The port in the line that it is ready, before a comma. */
static inline int port_of(const child *c, const char *line)
{
    const char *at = strstr(c->out.text, line);
    const char *end = at ? at + strcspn(at, ",\n") : NULL;
    while (end && end > at && end[-1] != ':')
        end--;
    return end ? atoi(end) : 0;
}

/* Ready, on a port that it says. */
static inline running await_start(child *process, const char *name)
{
    running r = { process, 0 };
    if (!child_says(&r.process->out, "listening on https://", 1))
        fail_msg("%s did not start: %s", name, r.process->err.text);
    r.port = port_of(r.process, "listening");
    assert_within(r.port, 1, 65534);
    return r;
}

static inline running start(const char *const *words)
{
    return await_start(launch(words), words[0]);
}

static inline void stop(running *r)
{
    kill(r->process->pid, SIGTERM);
    int code = child_end(r->process);
    if (code != 0)
        fail_msg("ended with %d: %s", code, r->process->err.text);
    child_free(r->process);
    r->process = NULL;
}

/* --- one transfer --------------------------------------------------------------------- */

typedef struct transfer {
    const char *method;                 /* NULL: GET, or POST with a body                  */
    const char *body;
    size_t      body_len;
    bool        chunked;                /* send it so                                      */
    bool        cut;                    /* leave where the body ends, one byte too early   */
    bool        late;                   /* read nothing of the answer while it can be sent */
    bool        anyone;                 /* trust whatever certificate it is                */
    const char *field;                  /* one more field to send                          */
    const char *cert, *key;             /* of the client                                   */
    const char *connect_to;
    const char *unix_socket;            /* instead of the URL's host and port              */
    void      (*at_first_byte)(void *arg);
    void       *arg;

    CURLcode    code;                   /* from here on: what came                         */
    CURL       *curl;
    size_t      sent, sent_before;
    int64_t     stuck_since;
    long        status;
    bytebuf     got, head;
} transfer;

static inline size_t on_bytes(char *part, size_t size, size_t count, void *user)
{
    transfer *t = user;
    if (t->late)
        return CURL_WRITEFUNC_PAUSE;
    if (t->got.len == 0 && t->at_first_byte)
        t->at_first_byte(t->arg);
    bytes_add(&t->got, part, size * count);
    return size * count;
}

static inline size_t on_head_line(char *part, size_t size, size_t count, void *user)
{
    bytes_add(&((transfer *)user)->head, part, size * count);
    return size * count;
}

static inline size_t give_body(char *out, size_t size, size_t count, void *user)
{
    transfer *t = user;
    size_t left = t->body_len - t->sent, n = size * count < left ? size * count : left;
    if (n == 0 && t->cut)
        return CURL_READFUNC_ABORT;
    memcpy(out, t->body + t->sent, n);
    t->sent += n;
    return n;
}

/* Called every now and then.  When all is sent, or nothing could be for a while, it is time
   to read. */
static inline int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    transfer *t = user;
    (void)a, (void)b, (void)c, (void)d;
    if (t->sent != t->sent_before)
        t->stuck_since = clock_ms();
    t->sent_before = t->sent;
    if (t->late && t->sent > 0 && clock_ms() - t->stuck_since > 200) {
        t->late = false;
        curl_easy_pause(t->curl, CURLPAUSE_CONT);
    }
    return 0;
}

static inline CURL *prepare(transfer *t, const char *url)
{
    CURL *curl = curl_easy_init();
    assert_non_null(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 262144L);
    curl_easy_setopt(curl, CURLOPT_CAINFO, DATA "ca.pem");
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, t->anyone ? 0L : 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, t->anyone ? 0L : 2L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, (void *)t);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_head_line);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, (void *)t);
    if (t->cert) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, t->cert);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, t->key);
    }
    if (t->method && strcmp(t->method, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    return curl;
}

static inline struct curl_slist *prepare_body(CURL *curl, transfer *t)
{
    struct curl_slist *fields = curl_slist_append(NULL, "Expect:");
    t->curl = curl;
    t->sent = 0;
    if (t->late) {
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, (void *)t);
    }
    if (t->body) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "POST");
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, (void *)t);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE,
                         t->chunked ? (curl_off_t)-1 : (curl_off_t)(t->body_len + t->cut));
    }
    if (t->method && strcmp(t->method, "HEAD") != 0)
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, t->method);
    if (t->field)
        fields = curl_slist_append(fields, t->field);
    return fields;
}

static inline void perform(transfer *t, const char *url)
{
    CURL *curl = prepare(t, url);
    struct curl_slist *fields = prepare_body(curl, t), *to = NULL;
    bytes_add(&t->got, "", 0);
    bytes_add(&t->head, "", 0);
    if (t->connect_to) {
        to = curl_slist_append(NULL, t->connect_to);
        curl_easy_setopt(curl, CURLOPT_CONNECT_TO, to);
    }
    if (t->unix_socket)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, t->unix_socket);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    t->code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &t->status);
    curl_slist_free_all(fields);
    curl_slist_free_all(to);
    curl_easy_cleanup(curl);
}

static inline void drop(transfer *t)
{
    free(t->got.data);
    free(t->head.data);
    t->got = t->head = (bytebuf){ NULL, 0, 0 };
}

static inline void fetch(const running *r, const char *path, transfer *t)
{
    char url[4096];
    snprintf(url, sizeof url, "https://localhost:%d%s", r->port, path);
    perform(t, url);
    if (t->code != CURLE_OK)
        fail_msg("%s: %s", url, curl_easy_strerror(t->code));
}

static inline long status_of(const running *r, const char *path, const char *method)
{
    transfer t = { .method = method };
    fetch(r, path, &t);
    drop(&t);
    return t.status;
}

static inline void expect(const running *r, const char *path, long status, const char *body)
{
    transfer t = { 0 };
    fetch(r, path, &t);
    assert_int_equal(t.status, status);
    assert_string_equal(t.got.data, body);
    drop(&t);
}

static inline bool has_field(const transfer *t, const char *line)
{
    for (const char *at = t->head.data; (at = strchr(at, '\n')) != NULL;)
        if (strncasecmp(++at, line, strlen(line)) == 0)
            return true;
    return false;
}

static inline bytebuf noise(size_t len)
{
    bytebuf b = { malloc(len + 1), len, len + 1 };
    uint32_t x = 2463534242u;
    assert_non_null(b.data);
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        b.data[i] = (char)(x >> 11);
    }
    return b;
}

/* --- folders to serve ----------------------------------------------------------------- */

static char top[64];                    /* a folder of our own                             */

static inline void path_in(char out[512], const char *name)
{
    snprintf(out, 512, "%s/%s", top, name);
}

static inline void make_folder(const char *name)
{
    char path[512];
    path_in(path, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static inline void make_file(const char *name, const char *content, size_t len)
{
    char path[512];
    path_in(path, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static inline void make_link(const char *name, const char *target)
{
    char path[512];
    path_in(path, name);
    assert_int_equal(symlink(target, path), 0);
}

static inline int make_top(void **state)
{
    (void)state;
    strcpy(top, "/dev/shm/httpsbind-examples-XXXXXX");      /* memory, where there is some     */
    if (mkdtemp(top))
        return 0;
    strcpy(top, "/tmp/httpsbind-examples-XXXXXX");
    return mkdtemp(top) ? 0 : -1;
}

static inline int remove_top(void **state)
{
    (void)state;
    return remove_folder(top);
}

static inline void terminate(void *arg)
{
    kill(((child *)arg)->pid, SIGTERM);
}

#endif
