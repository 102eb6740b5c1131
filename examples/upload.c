/* Large bodies to disk, in parts as they come, never in memory.  PUT /NAME makes NAME in DIR,
   and it has that name only when all of it is there.  --rate slows each client down: while
   a request is paused nothing of it is read, and TCP tells the client to wait.  --quota bounds
   what all of them may send.

   cc -I. -o upload examples/upload.c -lbearssl
   ./upload --rate 1000 /tmp
   curl -kT big.iso https://localhost:8443/                                                */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static const char *folder = ".";
static int rate;                        /* KiB a second; 0: as fast as it comes             */
static int quota_mib = 10240;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t room;                    /* guarded by lock: what is left of the quota       */

typedef struct upload {
    FILE   *file;
    int64_t next;                       /* where to tell about progress                     */
    int64_t counted;                    /* bytes of the quota                               */
    bool    stored;
    char    name[128], part[160];       /* part: what it is called until it is whole        */
} upload;

enum { SMALLEST = 4096 };               /* an empty file takes room, too                    */

/* It has so many bytes, or will have.  False: that is more than there is room for.         */
static bool count_bytes(upload *u, int64_t bytes)
{
    int64_t more = (bytes < SMALLEST ? SMALLEST : bytes) - u->counted;
    pthread_mutex_lock(&lock);
    bool fits = more <= room;
    if (fits && more > 0) {
        room -= more;
        u->counted += more;
    }
    pthread_mutex_unlock(&lock);
    return fits;
}

/* What a run that was killed has left goes; what another process writes now is locked.     */
static void remove_parts(void)
{
    DIR *dir = opendir(".");
    for (struct dirent *d; dir && (d = readdir(dir)) != NULL;) {
        size_t len = strlen(d->d_name);
        if (d->d_name[0] != '.' || len < 7 || strcmp(d->d_name + len - 5, ".part") != 0)
            continue;
        int fd = open(d->d_name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlink(d->d_name);
        if (fd >= 0)
            close(fd);
    }
    if (dir)
        closedir(dir);
}

/* 0, or the status to refuse with; 409: somebody is sending it.                            */
static int open_upload(upload *u, hsb_request *req)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    hsb_str path = hsb_request_path(req);
    if (hsb_request_header(req, "Content-Range").ptr)       /* RFC 9110 14.5                */
        return 400;
    if (path.len < 2 || path.len > sizeof u->name || path.ptr[1] == '.')
        return 400;
    memcpy(u->name, path.ptr + 1, path.len - 1);
    if (u->name[strspn(u->name, good)] != '\0' || !common_is_file_name(req, u->name))
        return 400;
    if (!count_bytes(u, hsb_request_content_length(req)))
        return 507;
    snprintf(u->part, sizeof u->part, ".%s.part", u->name);
    u->file = fopen(u->part, "wbx");
    if (u->file)
        flock(fileno(u->file), LOCK_EX | LOCK_NB);
    return u->file ? 0 : errno == EEXIST ? 409 : 500;
}

/* With the reason, for whoever has nothing but curl to see it with.                        */
static void refuse(hsb_request *req, int status)
{
    const char *why =
        status == 400 ? "a name has letters, digits, '.', '_' and '-', but no '.' in front;\n"
                        "and only whole files are taken, without Content-Range\n" :
        status == 405 ? "send a file: curl -kT FILE https://HOST:PORT/\n" :
        status == 409 ? "somebody is sending it\n" :
        status == 507 ? "no room, or the quota is used up\n" :
                        "it cannot be written there\n";
    if (status == 405)
        hsb_response_header(req, "Allow", "PUT");
    hsb_respond(req, status, "text/plain", hsb_text(why));
}

/* Refused here, a client that asks first (Expect: 100-continue) sends nothing at all.      */
static void on_head(hsb_request *req, void *user)
{
    upload *u = calloc(1, sizeof *u);
    bool put = hsb_equal(hsb_request_method(req), "PUT");
    int status = !u ? 503 : put ? open_upload(u, req) : 405;
    (void)user;
    hsb_request_set_user(req, u);       /* on_finish lets go of it, whatever happens        */
    if (status)
        refuse(req, status);
    else
        hsb_request_stream(req);
}

static void go_on(hsb_request *req, void *arg)
{
    (void)arg;
    hsb_request_resume(req);
}

static void on_body(hsb_request *req, hsb_str part, void *user)
{
    upload *u = hsb_request_user(req);
    int64_t received = hsb_request_received(req), whole = hsb_request_content_length(req);
    (void)user;
    if (!count_bytes(u, received) || fwrite(part.ptr, 1, part.len, u->file) != part.len) {
        refuse(req, 507);
        return;
    }
    if (received >= u->next) {          /* every tenth of it, or every 16 MiB               */
        char of[32] = "";               /* in chunks: nobody knows yet                      */
        if (whole >= 0)
            snprintf(of, sizeof of, " of %lld", (long long)whole);
        common_print(2, "%s: %lld%s bytes\n", u->name, (long long)received, of);
        u->next = received + (whole > 0 ? whole / 10 : 16 << 20);
    }
    int64_t due_us = rate ? received * 1000000 / 1024 / rate : 0;
    int early_ms = (int)((due_us - hsb_request_age_us(req)) / 1000);
    if (early_ms > 0 && hsb_request_after(req, early_ms, go_on, NULL))
        hsb_request_pause(req);
}

static void on_request(hsb_request *req, void *user)
{
    upload *u = hsb_request_user(req);
    bool whole = fclose(u->file) == 0 && rename(u->part, u->name) == 0;
    (void)user;
    u->file = NULL;
    u->stored = whole;
    if (!whole)
        remove(u->part);
    if (whole)
        hsb_respond(req, 201, NULL, hsb_text(""));
    else
        refuse(req, 507);
}

static void on_finish(hsb_request *req, const hsb_error *failed, void *user)
{
    upload *u = hsb_request_user(req);
    (void)user;
    if (u && u->file) {
        common_print(2, "%s: given up: %s\n", u->name, failed ? failed->text : "no room");
        fclose(u->file);
        remove(u->part);
    }
    if (u && !u->stored) {
        pthread_mutex_lock(&lock);
        room += u->counted;
        pthread_mutex_unlock(&lock);
    }
    free(u);
}

static int flag(const char *argument, const char *next)
{
    bool is_rate = strcmp(argument, "--rate") == 0 && next;
    bool is_quota = strcmp(argument, "--quota") == 0 && next;
    if (is_rate)
        rate = common_number(argument, next, 1, 1000000);
    else if (is_quota)
        quota_mib = common_number(argument, next, 1, 1 << 29);
    else if (argument[0] != '-')
        folder = argument;
    return is_rate || is_quota ? 2 : argument[0] != '-';
}

int main(int argc, char **argv)
{
    common c = { .about = "takes files by PUT", .arguments = "[DIR]", .flag = flag, .threads = 1,
                 .help = "  --rate N               KiB a second for each client (no limit)\n"
                         "  --quota N              MiB that may come in all while it runs (10240)\n" };
    hsb_options options = { .hooks = { .on_head = on_head, .on_body = on_body,
                                       .on_request = on_request, .on_finish = on_finish } };
    common_flags(&c, argc, argv);
    common_enter(&c, folder);
    remove_parts();
    room = (int64_t)quota_mib << 20;
    return common_serve(&c, &options);
}
