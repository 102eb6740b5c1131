/* Large bodies to disk, in parts as they come, never in memory.  PUT /NAME makes NAME in DIR,
   and it has that name only when all of it is there.  --rate slows each client down: while
   a request is paused nothing of it is read, and TCP tells the client to wait.

   cc -I. -o upload examples/upload.c -lbearssl
   ./upload --rate 1000 /tmp
   curl -kT big.iso https://localhost:8443/                                                */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static const char *folder = ".";
static int rate;                        /* KiB a second; 0: as fast as it comes             */

typedef struct upload {
    FILE   *file;
    int64_t next;                       /* where to tell about progress                     */
    char    name[128], part[160];       /* part: what it is called until it is whole        */
} upload;

/* 0, or the status to refuse with; 409: somebody is sending it.                            */
static int open_upload(upload *u, hsb_str path)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (path.len < 2 || path.len > sizeof u->name || path.ptr[1] == '.')
        return 400;
    memcpy(u->name, path.ptr + 1, path.len - 1);
    if (u->name[strspn(u->name, good)] != '\0')
        return 400;
    snprintf(u->part, sizeof u->part, ".%s.part", u->name);
    u->file = fopen(u->part, "wbx");
    return u->file ? 0 : errno == EEXIST ? 409 : 500;
}

/* With the reason, for whoever has nothing but curl to see it with.                        */
static void refuse(hsb_request *req, int status)
{
    const char *why =
        status == 400 ? "a name has letters, digits, '.', '_' and '-', but no '.' in front\n" :
        status == 405 ? "send a file: curl -kT FILE https://HOST:PORT/\n" :
        status == 409 ? "somebody is sending it, or its .part was left by a run that was killed\n" :
                        "no room, or no permission\n";
    if (status == 405)
        hsb_response_header(req, "Allow", "PUT");
    hsb_respond(req, status, "text/plain", hsb_text(why));
}

/* Refused here, a client that asks first (Expect: 100-continue) sends nothing at all.      */
static void on_head(hsb_request *req, void *user)
{
    upload *u = calloc(1, sizeof *u);
    bool put = hsb_equal(hsb_request_method(req), "PUT");
    int status = !u ? 503 : put ? open_upload(u, hsb_request_path(req)) : 405;
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
    if (fwrite(part.ptr, 1, part.len, u->file) != part.len) {
        refuse(req, 507);
        return;
    }
    if (received >= u->next) {          /* every tenth of it, or every 16 MiB               */
        fprintf(stderr, "%s: %lld", u->name, (long long)received);
        if (whole >= 0)                 /* else in chunks: nobody knows yet                 */
            fprintf(stderr, " of %lld", (long long)whole);
        fprintf(stderr, " bytes\n");
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
        fprintf(stderr, "%s: given up: %s\n", u->name, failed ? failed->text : "no room");
        fclose(u->file);
        remove(u->part);
    }
    free(u);
}

static int flag(const char *argument, const char *next)
{
    bool is_rate = strcmp(argument, "--rate") == 0 && next;
    if (is_rate)
        rate = common_number(argument, next, 1, 1000000);
    else if (argument[0] != '-')
        folder = argument;
    return is_rate ? 2 : argument[0] != '-';
}

int main(int argc, char **argv)
{
    common c = { .about = "takes files by PUT", .arguments = "[DIR]", .flag = flag, .threads = 1,
                 .help = "  --rate N               KiB a second for each client (no limit)\n" };
    hsb_options options = { .hooks = { .on_head = on_head, .on_body = on_body,
                                       .on_request = on_request, .on_finish = on_finish } };
    common_flags(&c, argc, argv);
    if (chdir(folder) != 0)
        common_die("%s: %s", folder, strerror(errno));
    return common_serve(&c, &options);
}
