/* A form with fields and files.  Each one that comes gets a folder of its own in DIR, with the
   fields and the files in it.  The folder has its name only when the form is whole: nothing of
   one that is refused or broken off stays there.

   cc -I. -o form examples/form.c -lbearssl && ./form /tmp
   curl -kF name=Ann -F message=hello -F files=@photo.jpg https://localhost:8443/           */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static const char *folder = ".";
static int limit_mib = 100;
static int64_t room;                    /* what is left of the quota, in bytes              */

enum { SMALLEST = 4096, FIELD_MAX = 10000 };        /* an empty file takes room, too        */

typedef struct entry { struct entry *next; hsb_str name; int64_t bytes; } entry;

typedef struct form {                   /* in the request's memory                          */
    char    path[64];                   /* its folder; with a dot in front, until it is whole */
    bool    made, whole;
    FILE   *file;                       /* the part at hand, of a field or a file           */
    int64_t bytes;                      /* of it                                            */
    bool    field;
    int     fields;                     /* how many came, and were not empty                */
    entry  *files, *latest;             /* in the order that they came                      */
    int64_t counted;                    /* bytes of the quota                               */
} form;

/* What a folder of ours has in it are files only.                                          */
static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir)) != NULL;)
        if (d->d_name[0] != '.')
            unlinkat(dirfd(dir), d->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(path);
}

/* What a run that was killed has left.                                                     */
static void remove_parts(void)
{
    DIR *dir = opendir(".");
    for (struct dirent *d; dir && (d = readdir(dir)) != NULL;)
        if (strncmp(d->d_name, ".form-", 6) == 0)
            remove_folder(d->d_name);
    if (dir)
        closedir(dir);
}

/* --- pages -------------------------------------------------------------------------------- */

#define HEAD \
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Report a problem</title>\n" \
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n" \
    "<link rel=\"icon\" href=\"data:,\">\n<style>\n" \
    ":root { color-scheme: light dark; --paper: #fbf8f3; --card: #fff; --ink: #25303a; --line: #948a7a;" \
    " --accent: #b4532a }\n" \
    "@media (prefers-color-scheme: dark) { :root { --paper: #161c22; --card: #1f272f; --ink: #e7e3dc;" \
    " --line: #6d7985; --accent: #f0a07a } }\n" \
    "body { margin: 0 auto; max-width: 36rem; padding: 1.5rem; background: var(--paper); color: var(--ink);" \
    " font: 1rem/1.5 system-ui, sans-serif }\n" \
    "h1 { font-size: 1.5rem; line-height: 1.2 } label { display: block; margin: 0 0 1rem }\n" \
    "input, textarea { display: block; box-sizing: border-box; width: 100%; margin-top: .25rem; padding: .6rem;" \
    " font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: .6rem }\n" \
    "button { padding: .6rem 1.5rem; border: 0; border-radius: .6rem; font: inherit; background: var(--accent);" \
    " color: var(--paper); cursor: pointer }\n" \
    "::file-selector-button { margin-right: .75rem; padding: .25rem .75rem; font: inherit }\n" \
    "li { overflow-wrap: anywhere } a { color: var(--accent) }\n</style>\n"

static const char page[] = HEAD
    "<h1>Report a problem</h1>\n<form method=\"post\" enctype=\"multipart/form-data\">\n"
    "<label>Your name <input name=\"name\" maxlength=\"100\" autocomplete=\"name\" required></label>\n"
    "<label>What happened? <textarea name=\"message\" rows=\"6\" maxlength=\"2000\" required></textarea></label>\n"
    "<label>Pictures or logs <input type=\"file\" name=\"files\" multiple></label>\n"
    "<button>Send</button>\n</form>\n";

/* No script runs, nothing is loaded, and no other page shows ours in a frame.              */
static void headers(hsb_request *req)
{
    hsb_response_header(req, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline';"
                        " img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'");
    hsb_response_header(req, "Cache-Control", "no-store");
}

static const char *reason(int status)
{
    return status == 400 ? "The form is not complete." :
           status == 403 ? "This form came from another site." :
           status == 404 ? "There is no such page." :
           status == 413 ? "That is too large." :
           status == 507 ? "There is no room left." : "Something went wrong.";
}

static void refuse(hsb_request *req, int status)
{
    if (hsb_response_status(req))
        return;
    headers(req);
    hsb_respondf(req, status, "text/html; charset=utf-8", "%s<h1>Not sent</h1>\n<p>%s  Nothing of it was stored."
                 "\n<p><a href=\"/\">Back to the form</a>\n", HEAD, reason(status));
}

/* What the server itself refuses, such as a body without an end, looks the same.           */
static void on_error_page(int status, const char *phrase, const char **type, hsb_str *body, void *user)
{
    static char text[sizeof HEAD + 200];
    (void)phrase, (void)user;
    snprintf(text, sizeof text, "%s<h1>Not sent</h1>\n<p>%s\n<p><a href=\"/\">To the form</a>\n", HEAD, reason(status));
    *type = "text/html; charset=utf-8";
    *body = hsb_text(text);
}

static void thank(hsb_request *req, const form *f)
{
    headers(req);
    hsb_response_header(req, "Content-Type", "text/html; charset=utf-8");
    hsb_response_begin(req, 201, -1);
    hsb_response_writef(req, "%s<h1>Thank you</h1>\n<p>We have your report%s\n<ul>\n", HEAD,
                        f->files ? ", and these files:" : ".");
    for (const entry *e = f->files; e; e = e->next) {
        hsb_str name = hsb_request_html(req, e->name);
        hsb_response_writef(req, "<li><bdi>%s</bdi>, %lld bytes\n", name.ptr ? name.ptr : "?", (long long)e->bytes);
    }
    hsb_response_write(req, hsb_text("</ul>\n<p><a href=\"/\">Another one</a>\n"));
    hsb_response_end(req);
}

/* --- what comes --------------------------------------------------------------------------- */

static bool count_bytes(form *f, int64_t bytes)
{
    room -= bytes;
    f->counted += bytes;
    return room >= 0;
}

/* The client's name is shown, and stored without what could lead out of the folder.  The
   number in front keeps it apart from the fields, and from another of that name.           */
static hsb_str new_file(hsb_request *req, form *f, hsb_str file_name)
{
    entry *e = hsb_request_alloc(req, sizeof *e);
    hsb_str safe = hsb_request_safe_name(req, file_name);
    int number = 1;
    for (const entry *other = f->files; other; other = other->next)
        number++;
    if (!e || !safe.ptr)
        return hsb_text(NULL);
    e->name = safe;
    *(f->latest ? &f->latest->next : &f->files) = e;
    f->latest = e;
    return hsb_request_safe_name(req, hsb_request_format(req, "%d-%s", number, safe.ptr));
}

static void on_part(hsb_request *req, const hsb_part *part, void *user)
{
    static const char *const fields[] = { "name", "message" };
    form *f = user;
    hsb_str name = hsb_text(NULL);
    char path[400];
    f->bytes = 0;
    f->field = !part->file_name.ptr;
    if (part->file_name.len)
        name = new_file(req, f, part->file_name);
    for (int i = 0; i < 2; i++)
        if (f->field && hsb_equal(part->name, fields[i]))
            name = hsb_request_format(req, "%s.txt", fields[i]);
    if (!name.ptr && part->file_name.len == 0)
        return;                         /* an unknown field, or no file was chosen          */
    snprintf(path, sizeof path, "%s/%s", f->path, name.ptr ? name.ptr : "");
    f->file = count_bytes(f, SMALLEST) ? fopen(path, "wbx") : NULL;
    if (!f->file)
        refuse(req, room < 0 ? 507 : errno == EEXIST ? 400 : 500);     /* a field comes once */
}

static void on_data(hsb_request *req, hsb_str bytes, void *user)
{
    form *f = user;
    f->bytes += (int64_t)bytes.len;
    if (f->file && f->field && f->bytes > FIELD_MAX)
        refuse(req, 413);
    else if (f->file && (!count_bytes(f, (int64_t)bytes.len) ||
                         fwrite(bytes.ptr, 1, bytes.len, f->file) != bytes.len))
        refuse(req, 507);
}

static void on_end(hsb_request *req, void *user)
{
    form *f = user;
    FILE *file = f->file;
    f->file = NULL;
    if (file && fclose(file) != 0)
        refuse(req, 507);
    else if (file && f->field)
        f->fields += f->bytes > 0;
    else if (file)
        f->latest->bytes = f->bytes;
}

static void take_form(hsb_request *req, void *user)
{
    form *f = hsb_request_alloc(req, sizeof *f);
    hsb_multipart_hooks hooks = { .user = f, .on_part = on_part, .on_data = on_data, .on_end = on_end };
    hsb_str site = hsb_request_header(req, "Sec-Fetch-Site");      /* a browser says whose form it is */
    char token[HSB_TOKEN_MAX];
    (void)user;
    hsb_request_set_user(req, f);
    if (site.ptr && !hsb_equal(site, "same-origin")) {
        refuse(req, 403);
    } else if (!f || !hsb_token(token)) {
        refuse(req, 500);
    } else if (hsb_request_multipart(req, &hooks)) {        /* or it got its 400 or 415     */
        snprintf(f->path, sizeof f->path, ".form-%lld-%s", (long long)time(NULL), token);
        f->made = mkdir(f->path, 0777) == 0;
        if (!f->made)
            refuse(req, 500);
    }
}

static void show_page(hsb_request *req, void *user)
{
    (void)user;
    headers(req);
    hsb_respond(req, 200, "text/html; charset=utf-8", hsb_text(page));
}

static void on_head(hsb_request *req, void *user)
{
    static const hsb_route routes[] = { { "GET", "/", show_page }, { "POST", "/", take_form }, { 0 } };
    if (!hsb_request_route(req, routes, user))
        refuse(req, 404);
}

/* All of it is there.                                                                      */
static void on_request(hsb_request *req, void *user)
{
    form *f = hsb_request_user(req);
    (void)user;
    if (f->fields < 2)
        refuse(req, 400);
    else if (rename(f->path, f->path + 1) != 0)
        refuse(req, 500);
    else
        f->whole = true;
    if (f->whole)
        thank(req, f);
}

static void on_finish(hsb_request *req, const hsb_error *failed, void *user)
{
    form *f = hsb_request_user(req);
    (void)failed, (void)user;
    if (f && f->file)
        fclose(f->file);
    if (f && f->made && !f->whole) {
        remove_folder(f->path);
        room += f->counted;
    }
}

static int flag(const char *argument, const char *next)
{
    bool is_limit = strcmp(argument, "--limit") == 0 && next, is_quota = strcmp(argument, "--quota") == 0 && next;
    if (is_limit)
        limit_mib = common_number(argument, next, 1, 1 << 20);
    else if (is_quota)
        room = (int64_t)common_number(argument, next, 1, 1 << 29) << 20;
    else if (argument[0] != '-')
        folder = argument;
    return is_limit || is_quota ? 2 : argument[0] != '-';
}

int main(int argc, char **argv)
{
    common c = { .about = "takes forms with files", .arguments = "[DIR]", .flag = flag,
                 .help = "  --limit N              MiB that a form may have (100)\n"
                         "  --quota N              MiB that may come in all while it runs (10240)\n" };
    hsb_options options = { .hooks = { .on_head = on_head, .on_request = on_request, .on_finish = on_finish,
                                       .on_error_page = on_error_page } };
    room = (int64_t)10240 << 20;
    common_flags(&c, argc, argv);
    options.limits.stream_bytes = (int64_t)limit_mib << 20;
    common_enter(&c, folder);
    if (flock(open(".", O_RDONLY | O_CLOEXEC), LOCK_EX | LOCK_NB) != 0)
        common_die("%s: another one writes there", folder);
    remove_parts();
    return common_serve(&c, &options);
}
