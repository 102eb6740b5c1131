/* Shares a folder over HTTPS: index.html where there is one, a listing where there is none,
   never anything outside it, and a line in the combined log format for every request.  With
   --auth it asks for a password.  With --upload it takes files too, by PUT or from the listing;
   then every folder has a listing, and nothing that is in them runs as a page of the site.

   cc -I. -o serve examples/serve.c -lbearssl && ./serve ~/photos

   On a machine that www.example.org leads to, with a certificate that browsers trust:
   ./serve --acme www.example.org ~/photos
   On a LAN, where clients trust a CA of this machine: ./serve --local-ca ca ~/photos     */
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static const char *folder;              /* as given                                        */
static char root[PATH_MAX];             /* as realpath tells; nothing outside is answered  */
static int  upload_mib;                 /* the largest file that may come; 0: none         */
static int  quota_mib;                  /* all that may come while we run                  */
static char unix_host[PATH_MAX];        /* "unix:/path"; "": a port                        */
static const char *credentials;         /* "user:password"; NULL: nobody is asked          */

enum { NAMES = 32 };                    /* of one certificate                              */

static const char *acme_names[NAMES + 1];   /* of --acme; none: no ACME                    */
static int         acme_count;
static hsb_acme_desc acme = { .names = acme_names, .folder = "acme", .agree_to_terms = true };
static const char *local_ca;            /* a folder; NULL: none                            */
static bool        trust;               /* only say how it is trusted                      */
static char        lan_text[NAMES][HOST_NAME_MAX + 8];
static const char *lan_names[NAMES + 1];    /* of this machine                             */
static int         lan_count;

/* What a request has for itself, from hsb_request_set_user to on_finish.                   */
typedef enum task { UPLOAD, LISTING } task;

/* A file that is not whole yet: ".upload-", the process, a number.  Nobody gets to see it. */
static bool is_part(const char *name)
{
    const char *number = name + strlen(".upload-");
    return strncasecmp(name, ".upload-", strlen(".upload-")) == 0 &&
           number[strspn(number, "0123456789abcdefABCDEFxX-")] == '\0';
}

/* --- a page that grows ------------------------------------------------------------------- */
typedef struct page { char *data; size_t len, size; bool failed; } page;

static void page_add(page *p, const char *bytes, size_t len)
{
    if (!p->failed && len > p->size - p->len) {
        size_t size = p->size + len + (p->size < 4096 ? 4096 : p->size);
        char *more = realloc(p->data, size);
        p->failed = !more;
        p->data = more ? more : p->data;
        p->size = more ? size : p->size;
    }
    if (p->failed)
        return;
    memcpy(p->data + p->len, bytes, len);
    p->len += len;
}

static void page_text(page *p, const char *text)
{
    page_add(p, text, strlen(text));
}

/* Bytes in the UTF-8 character at s (RFC 3629); 0: there is none, or a control, or one that
   turns the direction of writing, so that "exe.gnp" reads "png.exe".                       */
static size_t utf8_character(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= ' ' && s[0] != 127;
    size_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool wrong = (s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) ||
                 (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
                 (s[0] == 0xf4 && s[1] > 0x8f);
    bool turns = s[0] == 0xe2 && ((s[1] == 0x80 && s[2] >= 0xaa && s[2] <= 0xae) ||
                                  (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9));
    return wrong || turns ? 0 : len;
}

/* A name as people may read it.  File names are any bytes; what is no character shows as
   one that says so.                                                                       */
static void page_name(page *p, const char *name)
{
    while (*name) {
        size_t len = utf8_character((const unsigned char *)name);
        if (*name == '&')
            page_text(p, "&amp;");
        else if (*name == '<')
            page_text(p, "&lt;");
        else if (len == 0)
            page_text(p, "\xef\xbf\xbd");
        else
            page_add(p, name, len);
        name += len ? len : 1;
    }
}

/* A name as one segment of a URL: RFC 3986's unreserved characters, and %XX.               */
static void page_segment(page *p, const char *name)
{
    for (; *name; name++) {
        char escaped[4];
        bool plain = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                     (*name >= '0' && *name <= '9') || strchr("-._~", *name);
        snprintf(escaped, sizeof escaped, "%%%02X", (unsigned)(unsigned char)*name);
        page_add(p, plain ? name : escaped, plain ? 1 : 3);
    }
}

/* --- what is in a folder ------------------------------------------------------------------- */
typedef struct entry { char *name; bool folder; int64_t size; time_t modified; } entry;
typedef struct entries { entry *at; size_t count, space; } entries;

static bool inside_root(const char *real)
{
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    return strncmp(real, root, len) == 0 && (real[len] == '/' || real[len] == '\0');
}

/* The folder inside root that a decoded path names, "/photos/"; real has no links in it.   */
static bool find_folder(const char *name, char real[PATH_MAX])
{
    char at[2 * PATH_MAX];
    struct stat st;
    if (strstr(name, "/./") || strstr(name, "/../") || !posix_is_own_name(root, name))
        return false;
    snprintf(at, sizeof at, "%s%s", root, name);
    return realpath(at, real) && inside_root(real) && stat(real, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The path names a folder in which there is no index.html, or where anybody may have put one.
   All the rest is hsb_respond_dir's.                                                       */
static bool wants_listing(hsb_str path, char name[PATH_MAX], char real[PATH_MAX])
{
    char index[2 * PATH_MAX];
    struct stat st;
    size_t len;
    if (!hsb_percent_decode(path, false, name, PATH_MAX, &len) || !len || name[len - 1] != '/' ||
        !find_folder(name, real))
        return false;
    snprintf(index, sizeof index, "%s/index.html", real);
    return upload_mib || lstat(index, &st) != 0;
}

/* real has no links in it; if somebody puts one there now, it is not followed.             */
static int open_folder(const char *real)
{
    char path[PATH_MAX];
    char *save = NULL;
    int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "%s", real + (strcmp(root, "/") == 0 ? 0 : strlen(root)));
    for (char *s = strtok_r(path, "/", &save); s && dir >= 0; s = strtok_r(NULL, "/", &save)) {
        int next = openat(dir, s, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        close(dir);
        dir = next;
    }
    return dir;
}

/* Files and folders, and links to these that stay inside.                                  */
static bool read_entry(int dir, const char *real, const char *name, entry *e)
{
    char at[2 * PATH_MAX], target[PATH_MAX];
    struct stat st;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || is_part(name) ||
        fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (S_ISLNK(st.st_mode)) {
        snprintf(at, sizeof at, "%s/%s", real, name);
        if (!realpath(at, target) || !inside_root(target) || stat(target, &st) != 0)
            return false;
    }
    e->folder = S_ISDIR(st.st_mode);
    e->size = S_ISREG(st.st_mode) ? (int64_t)st.st_size : 0;
    e->modified = st.st_mtime;
    return S_ISDIR(st.st_mode) || S_ISREG(st.st_mode);
}

static bool add_entry(entries *list, const entry *e)
{
    if (list->count == list->space) {
        size_t space = list->space ? list->space * 2 : 64;
        entry *more = realloc(list->at, space * sizeof *more);
        if (!more)
            return false;
        list->at = more;
        list->space = space;
    }
    list->at[list->count] = *e;
    list->at[list->count].name = strdup(e->name);
    return list->at[list->count].name && ++list->count;
}

static void free_entries(entries *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->at[i].name);
    free(list->at);
}

/* --- in which order --------------------------------------------------------------------------
   ?sort=name, =size or =date; with a minus, the other way round.  Folders always come first.
   Names as people sort them: "Zoo" after "apple".                                          */
static int compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_name(const entry *a, const entry *b)
{
    int order = strcasecmp(a->name, b->name);
    return order ? order : strcmp(a->name, b->name);
}

static int by_size(const entry *a, const entry *b)
{
    int order = compare(a->size, b->size);
    return order ? order : by_name(a, b);
}

static int by_date(const entry *a, const entry *b)
{
    int order = compare(a->modified, b->modified);
    return order ? order : by_name(a, b);
}

static int ordered(const void *left, const void *right, int (*by)(const entry *, const entry *),
                   int sign)
{
    const entry *a = left, *b = right;
    return a->folder != b->folder ? (a->folder ? -1 : 1) : sign * by(a, b);
}

static int name_up(const void *a, const void *b) { return ordered(a, b, by_name, 1); }
static int name_down(const void *a, const void *b) { return ordered(a, b, by_name, -1); }
static int size_up(const void *a, const void *b) { return ordered(a, b, by_size, 1); }
static int size_down(const void *a, const void *b) { return ordered(a, b, by_size, -1); }
static int date_up(const void *a, const void *b) { return ordered(a, b, by_date, 1); }
static int date_down(const void *a, const void *b) { return ordered(a, b, by_date, -1); }

/* A column has two of them, the first of which its heading asks for first.                 */
typedef struct order {
    const char *sort;                   /* in the query                                    */
    int       (*compare)(const void *, const void *);
    const char *column;
} order;

static const order orders[] = {
    { "name", name_up, "Name" }, { "-name", name_down, "Name" },
    { "-size", size_down, "Size" }, { "size", size_up, "Size" },
    { "-date", date_down, "Date" }, { "date", date_up, "Date" },
};
enum { ORDERS = sizeof orders / sizeof *orders };

static const order *order_of(hsb_request *req)
{
    hsb_str sort = hsb_request_query_value(req, "sort");
    for (int i = 0; i < ORDERS; i++)
        if (hsb_equal(sort, orders[i].sort))
            return &orders[i];
    return &orders[0];
}

/* An errno, or 0.                                                                          */
static int read_entries(const char *real, const order *o, entries *list)
{
    int fd = open_folder(real), failed = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        failed = errno;
        if (fd >= 0)
            close(fd);
        return failed;
    }
    for (struct dirent *d; !failed && (d = readdir(dir)) != NULL;) {
        entry e = { .name = d->d_name };
        if (strlen(e.name) <= NAME_MAX && read_entry(dirfd(dir), real, e.name, &e) &&
            !add_entry(list, &e))
            failed = ENOMEM;
    }
    closedir(dir);
    if (list->count)
        qsort(list->at, list->count, sizeof *list->at, o->compare);
    return failed;
}

/* --- the folders that were asked for last -----------------------------------------------------
   A listing is written as its reader takes it, and may take long.  Its entries are not its own
   meanwhile: all listings of a folder use the same ones, and a listing whose folder is not kept
   any more has it read again.  So no client holds more than what is queued for it.         */
enum { KEPT = 8 };

typedef struct kept {
    char    real[PATH_MAX];
    const order *order;
    entries list;
    struct stat st;                     /* of the folder, before it was read               */
    time_t  read_at;
    unsigned long used;                 /* a count of uses, the last one                   */
} kept;

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;   /* guards these two         */
static kept kept_folders[KEPT];
static unsigned long kept_uses;

/* Nothing was added or removed since, as far as times in seconds can tell.                 */
static bool is_fresh(const kept *k)
{
    struct stat st;
    return time(NULL) <= k->read_at + 1 && stat(k->real, &st) == 0 && st.st_dev == k->st.st_dev &&
           st.st_ino == k->st.st_ino && st.st_mtime == k->st.st_mtime && k->read_at > st.st_mtime + 1;
}

static bool is_kept(const kept *k, const char *real, const order *o)
{
    return k->order == o && strcmp(k->real, real) == 0;
}

/* With kept_lock: what is in the folder, borrowed until the lock is given back.  A listing that
   has begun goes on with what is kept, a new one wants it fresh.  An errno, or 0.          */
static int keep_entries(const char *real, const order *o, bool fresh, const entries **list)
{
    kept *k = &kept_folders[0];
    for (int i = 0; i < KEPT && !is_kept(k, real, o); i++)
        if (is_kept(&kept_folders[i], real, o) || kept_folders[i].used < k->used)
            k = &kept_folders[i];
    *list = &k->list;
    k->used = ++kept_uses;
    if (is_kept(k, real, o) && (!fresh || is_fresh(k)))
        return 0;
    free_entries(&k->list);
    *k = (kept){ .read_at = time(NULL), .used = kept_uses, .order = o };
    int failed = stat(real, &k->st) != 0 ? errno : read_entries(real, o, &k->list);
    if (!failed) {
        snprintf(k->real, sizeof k->real, "%s", real);
        return 0;
    }
    free_entries(&k->list);
    k->list = (entries){ NULL, 0, 0 };
    return failed;
}

/* --- the listing ------------------------------------------------------------------------------ */
static const char page_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n"
    "<style>\n"
    ":root { --paper: #fbf8f3; --card: #fff; --ink: #25303a; --quiet: #5d6b76; --line: #e9e3d8;"
    " --accent: #b4532a }\n"
    "@media (prefers-color-scheme: dark) { :root { --paper: #161c22; --card: #1f272f;"
    " --ink: #e7e3dc; --quiet: #9aa7b1; --line: #2c3640; --accent: #f0a07a } }\n"
    "body { margin: 0 auto; padding: 1.25rem; max-width: 60rem; background: var(--paper);"
    " color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }\n"
    "h1 { margin: .5rem 0 1rem; font-size: 1.3rem; overflow-wrap: anywhere }\n"
    "h1 span { color: var(--quiet); font-weight: 400 }\n"
    "a { color: inherit; text-decoration: none } a:hover, a:focus { color: var(--accent) }\n"
    "table { width: 100%; border-spacing: 0; background: var(--card);"
    " border: 1px solid var(--line); border-radius: 12px }\n"
    "th { padding: 0 1rem; text-align: right; font-size: .875rem; font-weight: 400; color: var(--quiet);"
    " white-space: nowrap } th:first-child { text-align: left } th a { display: block; padding: .5rem 0 }\n"
    "td { padding: 0 1rem; border-top: 1px solid var(--line) }\n"
    "td + td { width: 1px; color: var(--quiet); white-space: nowrap; text-align: right;"
    " font-size: .875rem; font-variant-numeric: tabular-nums }\n"
    "td a { display: block; padding: .5rem 0; overflow-wrap: anywhere }\n"
    ".folder a { font-weight: 600 } .folder bdi::after { content: '/'; color: var(--accent) }\n"
    ".drop table { outline: 3px dashed var(--accent); outline-offset: 4px }\n"
    "p, ol { margin: 1rem 0; padding: 0; color: var(--quiet) } .add { color: var(--ink) }"
    " li { display: flex; flex-wrap: wrap; gap: 0 1rem; list-style: none }"
    " li bdi { color: var(--ink); overflow-wrap: anywhere } progress { flex: 1; min-width: 8rem;"
    " accent-color: var(--accent) }\n"
    "input, ::file-selector-button { font: inherit } input { max-width: 100% }"
    " ::file-selector-button { margin: .25rem .75rem .25rem 0; padding: .4rem .75rem }\n"
    "footer { margin: 1rem 0; color: var(--quiet); font-size: .875rem }\n"
    "@media (max-width: 34rem) { body { padding: .75rem }"
    " thead tr { display: flex } thead tr, tbody { border: 0 }"
    " tbody tr { display: grid; grid-template-columns: 1fr auto; border-top: 1px solid var(--line) }"
    " td { border: 0 } td:first-child { grid-column: 1 / 3 }"
    " td:first-child a { padding-bottom: 0 }"
    " td + td { width: auto; padding-bottom: .5rem; text-align: left } }\n"
    "</style>\n";

/* One file after the other, with what the server says about each that it did not take.  The
   page's security policy names this script by its digest; tests/live/examples_serve.c computes
   it again.                                                                                */
#define UPLOAD_SCRIPT \
    "const list = document.querySelector('ol'), input = document.querySelector('input');\n" \
    "let last = Promise.resolve(), failed = 0;\n" \
    "function send(file) {\n" \
    "  const row = document.createElement('li'), bar = document.createElement('progress');\n" \
    "  const name = document.createElement('bdi'), request = new XMLHttpRequest();\n" \
    "  name.textContent = file.name;\n" \
    "  row.append(name, bar);\n" \
    "  list.append(row);\n" \
    "  return () => new Promise(done => {\n" \
    "    request.upload.onprogress = event => { bar.max = event.total; bar.value = event.loaded; };\n" \
    "    request.onloadend = () => {\n" \
    "      const good = request.status === 201;\n" \
    "      bar.replaceWith(good ? 'stored' : request.responseText || 'not sent: a folder, or no connection');\n" \
    "      failed += !good;\n" \
    "      done();\n" \
    "    };\n" \
    "    request.open('PUT', encodeURIComponent(file.name));\n" \
    "    request.send(file);\n" \
    "  });\n" \
    "}\n" \
    "function add(files) {\n" \
    "  for (const file of files) last = last.then(send(file));\n" \
    "  const mine = last;\n" \
    "  mine.then(() => { if (mine === last && !failed) location.reload(); });\n" \
    "}\n" \
    "input.onchange = () => add(input.files);\n" \
    "document.ondragover = event => { event.preventDefault(); document.body.className = 'drop'; };\n" \
    "document.ondragleave = event => { if (!event.relatedTarget) document.body.className = ''; };\n" \
    "document.ondrop = event => {\n" \
    "  event.preventDefault();\n" \
    "  document.body.className = '';\n" \
    "  add(event.dataTransfer.files);\n" \
    "};\n"
#define UPLOAD_SCRIPT_SHA256 "K0ZcQJpibbKGKNIRJboLCJKPnkI7y5Bc0GJQyxhOPV4="

static const char page_policy[] =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
static const char page_upload_policy[] =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self';"
    " script-src 'sha256-" UPLOAD_SCRIPT_SHA256 "'";
static const char page_upload[] =
    "<p>Drop files here, or <label class=\"add\">choose some: <input type=\"file\" multiple></label></p>\n<ol></ol>\n"
    "<script>" UPLOAD_SCRIPT "</script>\n";

static void page_size(page *p, int64_t size)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    char text[32];
    double value = (double)size;
    size_t unit = 0;
    for (; value >= 1023.95 && unit < 6; unit++)
        value /= 1024;
    snprintf(text, sizeof text, "%.*f %s", unit > 0 && value < 99.95, value,
             size == 1 ? "byte" : units[unit]);
    page_text(p, text);
}

static void page_date(page *p, time_t when)
{
    struct tm local;
    char text[32];
    if (localtime_r(&when, &local) && strftime(text, sizeof text, "%Y-%m-%d %H:%M", &local))
        page_text(p, text);
}

/* Folders are shown in the order that this one is.                                         */
static void page_query(page *p, const order *o)
{
    if (o != &orders[0]) {
        page_text(p, "?sort=");
        page_text(p, o->sort);
    }
}

/* The headings are links: the other order of this column, or the first of another.         */
static void page_headings(page *p, const order *o)
{
    page_text(p, "<thead><tr>");
    for (int i = 0; i < ORDERS; i += 2) {
        bool here = o == &orders[i] || o == &orders[i + 1], up = o->sort[0] != '-';
        page_text(p, here ? up ? "<th aria-sort=\"ascending\">" : "<th aria-sort=\"descending\">" : "<th>");
        page_text(p, "<a href=\"?sort=");
        page_text(p, orders[o == &orders[i] ? i + 1 : i].sort);
        page_text(p, "\">");
        page_text(p, orders[i].column);
        page_text(p, here ? up ? " &#9650;</a>" : " &#9660;</a>" : "</a>");
    }
    page_text(p, "</tr></thead>\n<tbody>\n");
}

static void page_entry(page *p, const entry *e, const order *o)
{
    page_text(p, e->folder ? "<tr class=\"folder\"><td><a href=\"" : "<tr><td><a href=\"");
    page_segment(p, e->name);
    page_text(p, e->folder ? "/" : "");
    if (e->folder)
        page_query(p, o);
    page_text(p, "\"><bdi>");
    page_name(p, e->name);
    page_text(p, e->folder ? "</bdi></a><td>folder" : "</bdi></a><td>");
    if (!e->folder)
        page_size(p, e->size);
    page_text(p, "<td>");
    page_date(p, e->modified);
    page_text(p, "\n");
}

/* "photos / 2026 / August", each but the last a link; path is decoded, and is cut up here. */
static void page_crumbs(page *p, char *path, const order *o)
{
    char *save = NULL, *last = strrchr(root, '/');
    page link = { NULL, 0, 0, false };
    page_text(&link, "/");
    page_text(p, "<h1><a href=\"/");
    page_query(p, o);
    page_text(p, "\"><bdi>");
    page_name(p, last && last[1] ? last + 1 : root);
    page_text(p, "</bdi></a>");
    for (char *s = strtok_r(path, "/", &save); s; s = strtok_r(NULL, "/", &save)) {
        page_segment(&link, s);
        page_text(&link, "/");
        page_text(p, " <span>/</span> <a href=\"");
        page_add(p, link.data, link.failed ? 0 : link.len);
        page_query(p, o);
        page_text(p, "\"><bdi>");
        page_name(p, s);
        page_text(p, "</bdi></a>");
    }
    page_text(p, "</h1>\n");
    free(link.data);
}

typedef struct listing {
    task    kind;
    char   *name, *real;                /* of the folder: decoded path, and as find_folder tells */
    const order *order;
    char    last_name[NAME_MAX + 1];
    entry   last;                       /* the row that was written last                   */
    bool    begun, done;
    size_t  folders, files;             /* in the rows so far                              */
    int64_t bytes;
} listing;

static void page_totals(page *p, const listing *l)
{
    char text[96];
    snprintf(text, sizeof text, "<footer>%zu folder%s, %zu file%s, ", l->folders,
             l->folders == 1 ? "" : "s", l->files, l->files == 1 ? "" : "s");
    page_text(p, text);
    page_size(p, l->bytes);
    page_text(p, "</footer>\n");
}

static void begin_page(page *p, listing *l)
{
    page_text(p, page_head);
    page_text(p, "<title>");
    page_name(p, l->name);
    page_text(p, "</title>\n");
    bool top = strspn(l->name, "/") == strlen(l->name);
    page_crumbs(p, l->name, l->order);
    page_text(p, "<table>\n");
    page_headings(p, l->order);
    if (!top) {
        page_text(p, "<tr class=\"folder\"><td><a href=\"../");
        page_query(p, l->order);
        page_text(p, "\"><bdi>..</bdi></a><td><td>\n");
    }
}

static void end_page(page *p, listing *l)
{
    if (l->folders + l->files == 0)
        page_text(p, "<tr><td><a>nothing here</a><td><td>\n");
    page_text(p, "</tbody></table>\n");
    if (upload_mib)
        page_text(p, page_upload);
    page_totals(p, l);
    l->done = true;
}

/* The first entry behind the row that was written last.                                    */
static size_t next_row(const listing *l, const entries *list)
{
    size_t from = 0, to = l->begun ? list->count : 0;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (l->order->compare(&list->at[middle], &l->last) <= 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* The next part of the page: 8 KiB and a row at most.  An errno, or 0.                     */
static int next_part(page *p, listing *l)
{
    const entries *list;
    pthread_mutex_lock(&kept_lock);
    int failed = keep_entries(l->real, l->order, !l->begun, &list);
    size_t i = failed ? 0 : next_row(l, list);
    if (!failed && !l->begun)
        begin_page(p, l);
    l->begun = true;
    for (; !failed && i < list->count && p->len < 8192; i++) {
        const entry *e = &list->at[i];
        page_entry(p, e, l->order);
        snprintf(l->last_name, sizeof l->last_name, "%s", e->name);
        l->last = *e;
        l->last.name = l->last_name;
        l->folders += e->folder;
        l->files += !e->folder;
        l->bytes += e->size;
    }
    if (!failed && i == list->count)
        end_page(p, l);
    pthread_mutex_unlock(&kept_lock);
    return p->failed ? ENOMEM : failed;
}

/* As much as the client takes for now; on_drain comes here again.                          */
static void send_listing(hsb_request *req, listing *l)
{
    page p = { NULL, 0, 0, false };
    hsb_flow flow = HSB_FLOW_GO;
    while (!l->done && flow == HSB_FLOW_GO) {
        p.len = 0;
        if (next_part(&p, l) != 0) {
            hsb_response_abort(req);
            break;
        }
        flow = hsb_response_write(req, (hsb_str){ p.data, p.len });
    }
    if (l->done)
        hsb_response_end(req);
    free(p.data);
}

static void close_listing(listing *l)
{
    free(l->name);
    free(l->real);
    free(l);
}

static listing *open_listing(const char *name, const char *real, const order *o)
{
    listing *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->kind = LISTING;
    l->order = o;
    l->name = strdup(name);
    l->real = strdup(real);
    if (l->name && l->real)
        return l;
    close_listing(l);
    return NULL;
}

/* A page of one part is sent as a whole, with its length.                                  */
static void respond_listing(hsb_request *req, const char *name, const char *real)
{
    page p = { NULL, 0, 0, false };
    listing *l = open_listing(name, real, order_of(req));
    int failed = l ? next_part(&p, l) : ENOMEM;
    hsb_str part = { p.data, p.len };
    hsb_request_set_user(req, l);               /* on_finish closes it                       */
    hsb_response_header(req, "Cache-Control", "no-cache");
    hsb_response_header(req, "Content-Security-Policy",
                        upload_mib ? page_upload_policy : page_policy);
    if (failed) {
        int status = failed == EACCES ? 403 : failed == ENOENT || failed == ELOOP ? 404 : 503;
        hsb_respond(req, status, "text/plain", hsb_text(status == 403 ? "403 Forbidden\n" :
                    status == 404 ? "404 Not Found\n" : "503 Service Unavailable\n"));
    } else if (l->done) {
        hsb_respond(req, 200, "text/html; charset=utf-8", part);
    } else {
        hsb_response_header(req, "Content-Type", "text/html; charset=utf-8");
        hsb_response_begin(req, 200, -1);
        l->done = hsb_equal(hsb_request_method(req), "HEAD");
        hsb_response_write(req, part);
        send_listing(req, l);
    }
    free(p.data);
}

/* --- uploads -------------------------------------------------------------------------------
   PUT makes a file, and never replaces one.  It has its name when all of it is there.  No other
   site's page can make a browser send PUT: it would ask with OPTIONS first, and is told 405. */
typedef struct upload {
    task kind;
    int  folder, file;                  /* descriptors                                     */
    char name[NAME_MAX + 1];
    char part[64];                      /* what it is called until it is whole; "": gone   */
    int64_t counted;                    /* bytes of the quota                              */
    bool stored;
} upload;

enum { SMALLEST = 4096 };               /* an empty file takes room, too                   */

/* Guards the two below, and the moment in which a file gets its name.                      */
static pthread_mutex_t upload_lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t upload_room;             /* what is left of the quota                       */

/* The upload has so many bytes, or will have.  False: that is more than there is room for. */
static bool count_bytes(upload *u, int64_t bytes)
{
    int64_t more = (bytes < SMALLEST ? SMALLEST : bytes) - u->counted;
    pthread_mutex_lock(&upload_lock);
    bool fits = more <= upload_room;
    if (fits && more > 0) {
        upload_room -= more;
        u->counted += more;
    }
    pthread_mutex_unlock(&upload_lock);
    return fits;
}

/* Removes what a run that was killed has left.  A part that is locked belongs to a process that
   is still writing it.  Closes the descriptor.                                             */
static void remove_parts(int where)
{
    DIR *dir = fdopendir(where);
    if (!dir)
        close(where);
    for (struct dirent *d; dir && (d = readdir(dir)) != NULL;) {
        bool part = is_part(d->d_name);
        int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (part ? O_RDWR : O_RDONLY | O_DIRECTORY);
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        int fd = openat(where, d->d_name, flags);
        if (fd >= 0 && !part)
            remove_parts(fd);
        if (fd >= 0 && part) {
            if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                unlinkat(where, d->d_name, 0);
            close(fd);
        }
    }
    if (dir)
        closedir(dir);
}

static void respond_text(hsb_request *req, int status, const char *text)
{
    hsb_respond(req, status, "text/plain", hsb_text(text));
}

/* What people may call a file: nothing that is hidden, no controls, no slash.              */
static bool good_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 127 || name[i] == '\\')
            return false;
    return true;
}

/* hsb_respond_dir sends NAME.gz for NAME to whoever takes gzip.  So only one of the two may be
   here: what comes under one name must not change what the other gives.                    */
static bool twin_exists(const upload *u)
{
    char twin[NAME_MAX + 4];
    struct stat st;
    size_t len = strlen(u->name);
    bool packed = len > 3 && strcasecmp(u->name + len - 3, ".gz") == 0;
    snprintf(twin, sizeof twin, "%.*s%s", (int)(packed ? len - 3 : len), u->name, packed ? "" : ".gz");
    return fstatat(u->folder, twin, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode);
}

/* The status to refuse with, or 0 and u is open.                                           */
static int open_upload(upload *u, hsb_request *req)
{
    char path[PATH_MAX], real[PATH_MAX];
    struct stat st;
    size_t len;
    if (hsb_request_header(req, "Content-Range").ptr ||             /* RFC 9110 14.5        */
        !hsb_percent_decode(hsb_request_path(req), false, path, sizeof path, &len) || path[0] != '/')
        return 400;
    char *name = strrchr(path, '/') + 1;
    if (!good_name(name) || !common_is_file_name(req, name))
        return 400;
    snprintf(u->name, sizeof u->name, "%s", name);
    *name = '\0';
    if (!find_folder(path, real) || (u->folder = open_folder(real)) < 0)
        return 404;
    if (fstatat(u->folder, u->name, &st, AT_SYMLINK_NOFOLLOW) == 0 || twin_exists(u))
        return 409;
    if (!count_bytes(u, hsb_request_content_length(req)))
        return 507;
    snprintf(u->part, sizeof u->part, ".upload-%ld-%p", (long)getpid(), (void *)u);
    u->file = openat(u->folder, u->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (u->file >= 0 && flock(u->file, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (u->file < 0)
        u->part[0] = '\0';
    return errno == EACCES || errno == EPERM || errno == EROFS ? 403 : 507;
}

static void close_upload(upload *u)
{
    if (u->part[0])
        unlinkat(u->folder, u->part, 0);
    if (u->file >= 0)
        close(u->file);
    if (u->folder >= 0)
        close(u->folder);
    pthread_mutex_lock(&upload_lock);
    upload_room += u->stored ? 0 : u->counted;
    pthread_mutex_unlock(&upload_lock);
    free(u);
}

static void refuse_upload(hsb_request *req, int status)
{
    respond_text(req, status,
        status == 400 ? "not a name for a file, or a part of a file (Content-Range)\n" :
        status == 403 ? "nobody may write there\n" :
        status == 404 ? "no such folder\n" :
        status == 409 ? "there is one of that name, or of that name with or without .gz\n" :
                        "cannot be stored: there is no room, or the quota is used up\n");
}

/* RFC 7617.                                                                                */
static bool may_come_in(hsb_request *req)
{
    hsb_str name, password;
    size_t len = credentials ? strcspn(credentials, ":") : 0;
    if (!credentials)
        return true;
    if (!hsb_request_basic_auth(req, &name, &password))
        return false;
    hsb_str good_name = { credentials, len }, good_password = hsb_text(credentials + len + 1);
    bool known = hsb_equal_secret(name, good_name);
    return hsb_equal_secret(password, good_password) && known;
}

static void on_head(hsb_request *req, void *user)
{
    (void)user;
    if (!may_come_in(req)) {
        hsb_response_header(req, "WWW-Authenticate", "Basic realm=\"serve\", charset=\"UTF-8\"");
        respond_text(req, 401, "for those who know the password\n");
        return;
    }
    if (!upload_mib || !hsb_equal(hsb_request_method(req), "PUT"))
        return;
    upload *u = calloc(1, sizeof *u);
    if (!u) {
        respond_text(req, 503, "out of memory\n");
        return;
    }
    u->kind = UPLOAD;
    u->folder = u->file = -1;
    hsb_request_set_user(req, u);               /* on_finish lets go of it, whatever happens */
    int status = open_upload(u, req);
    if (status)
        refuse_upload(req, status);
    else
        hsb_request_stream(req);
}

static void on_body(hsb_request *req, hsb_str part, void *user)
{
    upload *u = hsb_request_user(req);
    bool stored = count_bytes(u, hsb_request_received(req));
    (void)user;
    while (stored && part.len) {
        ssize_t n = write(u->file, part.ptr, part.len);
        stored = n > 0 || (n < 0 && errno == EINTR);
        if (n > 0)
            part = (hsb_str){ part.ptr + n, part.len - (size_t)n };
    }
    if (!stored)
        refuse_upload(req, 507);
}

/* link and not rename, which would replace what somebody else has put there meanwhile.     */
static void end_upload(hsb_request *req, upload *u)
{
    int status = close(u->file) == 0 ? 0 : 507;
    u->file = -1;
    pthread_mutex_lock(&upload_lock);
    if (!status && twin_exists(u))
        status = 409;
    else if (!status && linkat(u->folder, u->part, u->folder, u->name, 0) != 0)
        status = errno == EEXIST ? 409 : 507;
    pthread_mutex_unlock(&upload_lock);
    u->stored = status == 0;
    if (u->stored)
        respond_text(req, 201, "stored\n");
    else
        refuse_upload(req, status);
}

/* --- hooks ------------------------------------------------------------------------------------- */
/* The path names a file that is not whole yet.                                             */
static bool wants_part(hsb_str path)
{
    char name[PATH_MAX];
    size_t len;
    if (!hsb_percent_decode(path, false, name, sizeof name, &len))
        return false;
    const char *slash = strrchr(name, '/');
    return is_part(slash ? slash + 1 : name);
}

static void on_request(hsb_request *req, void *user)
{
    char name[PATH_MAX], real[PATH_MAX];
    hsb_str method = hsb_request_method(req), path = hsb_request_path(req);
    (void)user;
    if (hsb_request_user(req)) {
        end_upload(req, hsb_request_user(req));
        return;
    }
    hsb_response_header(req, "X-Content-Type-Options", "nosniff");
    if (wants_part(path)) {
        respond_text(req, 404, "404 Not Found\n");
    } else if ((hsb_equal(method, "GET") || hsb_equal(method, "HEAD")) &&
               wants_listing(path, name, real)) {
        respond_listing(req, name, real);
    } else {
        if (upload_mib)                         /* no scripts, and an origin of its own      */
            hsb_response_header(req, "Content-Security-Policy", "sandbox");
        hsb_respond_dir(req, root, path);
    }
}

static void on_drain(hsb_request *req, void *user)
{
    task *kind = hsb_request_user(req);
    (void)user;
    if (kind && *kind == LISTING)
        send_listing(req, (listing *)kind);
}

static void close_task(task *kind)
{
    if (kind && *kind == UPLOAD)
        close_upload((upload *)kind);
    else if (kind)
        close_listing((listing *)kind);
}

/* --- the log ------------------------------------------------------------------------------------- */
/* write(2) waits for the reader of a pipe or a terminal, who may have stopped for good, and a
   hook must not wait.  So lines are queued, and a thread writes them.  A line that finds no
   room is lost, and is counted.                                                            */
enum { QUEUE = 1 << 20, WRITE_AT_ONCE = 1 << 16 };

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;    /* guards all below         */
static pthread_cond_t log_changed = PTHREAD_COND_INITIALIZER;
static char   log_queue[QUEUE];         /* a ring                                          */
static size_t log_begin, log_len;       /* the bytes that wait                             */
static long   log_lost;                 /* lines that found no room since we last said so  */
static bool   log_started;

/* How many of the bytes are done with.  An output that takes nothing any more (EPIPE, ENOSPC)
   must not keep them.                                                                      */
static size_t write_some(const char *bytes, size_t len)
{
    ssize_t n = write(1, bytes, len < WRITE_AT_ONCE ? len : WRITE_AT_ONCE);
    struct pollfd writable = { 1, POLLOUT, 0 };
    if (n >= 0)
        return (size_t)n;
    if (errno == EAGAIN)                        /* another program made it non-blocking     */
        poll(&writable, 1, -1);
    return errno == EINTR || errno == EAGAIN ? 0 : len;
}

static void *write_log(void *unused)
{
    pthread_mutex_lock(&log_lock);
    for (;;) {
        while (log_len == 0)
            pthread_cond_wait(&log_changed, &log_lock);
        size_t to_end = QUEUE - log_begin, len = log_len < to_end ? log_len : to_end;
        pthread_mutex_unlock(&log_lock);
        size_t done = write_some(log_queue + log_begin, len);
        pthread_mutex_lock(&log_lock);
        log_begin = (log_begin + done) % QUEUE;
        log_len -= done;
        if (log_lost)
            common_print(2, "%ld lines are lost, as nobody read them\n", log_lost);
        log_lost = 0;
        pthread_cond_broadcast(&log_changed);
    }
    return unused;
}

/* All of the line is queued, or nothing.                                      [any thread] */
static void log_line(const char *line, size_t len)
{
    pthread_t thread;
    pthread_mutex_lock(&log_lock);
    if (!log_started && pthread_create(&thread, NULL, write_log, NULL) == 0) {
        pthread_detach(thread);
        log_started = true;
    }
    if (!log_started || len > QUEUE - log_len) {
        log_lost++;
    } else {
        size_t at = (log_begin + log_len) % QUEUE, to_end = QUEUE - at;
        size_t first = len < to_end ? len : to_end;
        memcpy(log_queue + at, line, first);
        memcpy(log_queue, line + first, len - first);
        log_len += len;
        pthread_cond_broadcast(&log_changed);
    }
    pthread_mutex_unlock(&log_lock);
}

/* Waits until all of it is written, or for a second: the reader may have stopped.          */
static void flush_log(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_mutex_lock(&log_lock);
    while (log_len > 0 && pthread_cond_timedwait(&log_changed, &log_lock, &until) == 0)
        ;
    pthread_mutex_unlock(&log_lock);
}

/* What a client sent, without what could end the field or play with a terminal.            */
static void log_field(page *p, hsb_str s)
{
    if (!s.len)
        page_text(p, "-");
    for (size_t i = 0; i < s.len; i++) {
        char escaped[5];
        unsigned c = (unsigned char)s.ptr[i];
        bool plain = c >= ' ' && c < 127 && c != '"' && c != '\\';
        snprintf(escaped, sizeof escaped, "\\x%02x", c);
        page_add(p, plain ? s.ptr + i : escaped, plain ? 1 : 4);
    }
}

/* 499, as nginx has it: the client left before there was an answer.                        */
static void on_finish(hsb_request *req, const hsb_error *failed, void *user)
{
    page p = { NULL, 0, 0, false };
    struct tm local;
    time_t now = time(NULL);
    char text[128], date[40] = "-", peer[HSB_ADDRESS_TEXT_MAX];
    hsb_address address = hsb_conn_peer(hsb_request_conn(req));
    hsb_str name, password;
    int status = hsb_response_status(req);
    (void)failed, (void)user;
    address.port = 0;
    if (localtime_r(&now, &local))
        strftime(date, sizeof date, "%d/%b/%Y:%H:%M:%S %z", &local);
    page_text(&p, hsb_address_text(&address, peer));
    page_text(&p, " - ");
    log_field(&p, status != 401 && credentials && hsb_request_basic_auth(req, &name, &password)
                  ? name : hsb_text(""));
    snprintf(text, sizeof text, " [%s] \"", date);
    page_text(&p, text);
    log_field(&p, hsb_request_method(req));
    page_text(&p, " ");
    log_field(&p, hsb_request_target(req));
    snprintf(text, sizeof text, " HTTP/1.%d\" %d %lld \"", hsb_request_minor_version(req),
             status ? status : 499, (long long)hsb_response_bytes(req));
    page_text(&p, text);
    log_field(&p, hsb_request_header(req, "Referer"));
    page_text(&p, "\" \"");
    log_field(&p, hsb_request_header(req, "User-Agent"));
    page_text(&p, "\"\n");
    if (!p.failed)
        log_line(p.data, p.len);
    free(p.data);
    close_task(hsb_request_user(req));
}

/* --- start ---------------------------------------------------------------------------------------- */
/* "AB:CD: ...", with between in the middle; returns buf.                                   */
static const char *fingerprint(char buf[128], const hsb_security *security, const char *between)
{
    const uint8_t *sha256 = hsb_security_sha256(security);
    size_t len = 0;
    for (int i = 0; i < 32; i++)
        len += (size_t)snprintf(buf + len, 128 - len, "%s%02X", i == 0 ? "" : i == 16 ? between : ":",
                                (unsigned)sha256[i]);
    return buf;
}

/* One more line that says where. */
static void print_url(const char *address, int port, bool *first)
{
    char text[16] = "";
    if (port != 443)
        snprintf(text, sizeof text, ":%d", port);
    common_print(2, "  %-12s https://%s%s/\n", *first ? "open" : "", address, text);
    *first = false;
}

static const void *bytes_of(const struct sockaddr *address, bool v6)
{
    const void *found = v6 ? (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr
                           : (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
    return found;
}

/* An address of this machine by which others may come: no link-local one, whose zone no URL
   has.                                                                                     */
static void print_interface(const struct sockaddr *address, bool with_v6, int port, bool *first)
{
    char text[HSB_ADDRESS_TEXT_MAX], bare[HSB_ADDRESS_TEXT_MAX];
    hsb_address a = { .family = HSB_IPV4 };
    bool v6 = address->sa_family == AF_INET6;
    if ((!v6 && address->sa_family != AF_INET) || (v6 && !with_v6))
        return;
    a.family = v6 ? HSB_IPV6 : HSB_IPV4;
    memcpy(a.bytes, bytes_of(address, v6), v6 ? 16 : 4);
    if (v6 && a.bytes[0] == 0xfe && (a.bytes[1] & 0xc0) == 0x80)
        return;
    hsb_address_text(&a, bare);
    snprintf(text, sizeof text, v6 ? "[%s]" : "%s", bare);
    print_url(text, port, first);
}

/* All addresses of this machine: of IPv4, or of both.                                      */
static void print_interfaces(bool with_v6, int port)
{
    struct ifaddrs *all = NULL;
    bool first = true;
    if (getifaddrs(&all) == 0)
        for (const struct ifaddrs *i = all; i; i = i->ifa_next)
            if (i->ifa_addr && (i->ifa_flags & IFF_UP))
                print_interface(i->ifa_addr, with_v6, port, &first);
    freeifaddrs(all);
}

static void print_where(const common *c, hsb_server *server)
{
    static const uint8_t any[16] = { 0 };
    char text[HSB_ADDRESS_TEXT_MAX];
    hsb_address bound = hsb_server_address(server, 0);
    bool v6 = bound.family == HSB_IPV6, first = true;
    for (int i = 0; i < acme_count; i++)            /* its certificate has no address           */
        print_url(acme_names[i], bound.port, &first);
    if (acme_count)
        return;
    if (bound.family == HSB_UNIX)
        common_print(2, "  open         curl -k --unix-socket %s https://localhost/\n", bound.path);
    else if (memcmp(bound.bytes, any, v6 ? 16 : 4) == 0)
        print_interfaces(v6, bound.port);
    else if (c->address)
        common_print(2, "  open         https://%s/\n", hsb_address_text(&bound, text));
    else
        common_print(2, "  open         https://localhost:%d/\n", bound.port);
}

/* --- names for a LAN ------------------------------------------------------------------------------ */
static void add_lan_name(const char *name)
{
    if (lan_count == NAMES || !*name || strchr(name, '%'))
        return;
    snprintf(lan_text[lan_count], sizeof lan_text[0], "%s", name);
    lan_names[lan_count] = lan_text[lan_count];
    lan_count++;
}

/* This machine's name, as such and as mDNS has it, and its addresses that do not change by
   themselves.                                                                              */
static void find_lan_names(void)
{
    char name[HOST_NAME_MAX + 1] = "", text[HSB_ADDRESS_TEXT_MAX];
    struct ifaddrs *all = NULL;
    if (gethostname(name, sizeof name - 1) == 0 && strspn(name, "0123456789.") != strlen(name)) {
        add_lan_name(name);
        if (!strchr(name, '.')) {
            char local[HOST_NAME_MAX + 8];
            snprintf(local, sizeof local, "%s.local", name);
            add_lan_name(local);
        }
    }
    if (getifaddrs(&all) == 0)
        for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
            hsb_address a = { .family = HSB_IPV4 };
            if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP))
                continue;
            memcpy(a.bytes, bytes_of(i->ifa_addr, false), 4);
            add_lan_name(hsb_address_text(&a, text));
        }
    freeifaddrs(all);
}

/* How a client trusts the CA: in the store of its system, or in one of its own (Chromium on Linux,
   Firefox).                                                                                */
static void print_trust(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/ca.pem", local_ca);
    printf("Copy %s, and never ca.key, to each client, and there:\n"
           "  Debian, curl       sudo cp ca.pem /usr/local/share/ca-certificates/serve.crt &&"
           " sudo update-ca-certificates\n"
           "  Fedora             sudo trust anchor ca.pem\n"
           "  Chromium on Linux  certutil -A -d sql:$HOME/.pki/nssdb -t C,, -n serve -i ca.pem\n"
           "  macOS              sudo security add-trusted-cert -d -k"
           " /Library/Keychains/System.keychain ca.pem\n"
           "  Windows            certutil -addstore Root ca.pem   (as administrator)\n"
           "  Firefox            Settings, search \"certificates\": View, Authorities, Import\n"
           "  Android            send it there as ca.crt; Settings, search \"CA certificate\"\n"
           "  iPhone, iPad       send it there as ca.crt, open it, and in Settings install the\n"
           "                     profile; then General, About, Certificate Trust Settings\n"
           "  once, for curl     curl --cacert %s https://localhost:8443/\n", path, path);
}

static void print_certificate(const common *c)
{
    if (acme_count)
        common_print(2, "  certificate  by itself, for %s%s\n", acme_names[0],
                     acme_count > 1 ? " and others" : "");
    else if (local_ca)
        common_print(2, "  certificate  from the CA in %s; --trust says how to trust it\n", local_ca);
    else if (c->cert)
        common_print(2, "  certificate  %s (kill -HUP %ld reads it again)\n", c->cert, (long)getpid());
    else
        common_print(2, "  certificate  self-signed for localhost: a browser asks whether to trust it\n");
}

/* An on_ready: once, whatever the number of threads.                                       */
static void banner(hsb_server *server, hsb_security *security, void *user)
{
    static bool done;
    const common *c = user;
    char sha256[128];
    if (done)
        return;
    done = true;
    common_print(2, "serve: sharing %s\n\n", root);
    print_where(c, server);
    print_certificate(c);
    common_print(2, "  SHA-256      %s\n", fingerprint(sha256, security, "\n               "));
    if (credentials)
        common_print(2, "  user         %.*s\n", (int)strcspn(credentials, ":"), credentials);
    if (upload_mib)
        common_print(2, "  upload       from the listing, or curl -T; up to %d MiB a file, %d in all\n",
                     upload_mib, quota_mib);
    common_print(2, "  stop         Ctrl-C lets downloads finish; twice stops at once\n\n");
}

/* USER:PASSWORD, or @FILE, in whose first line they are: nobody sees that among the arguments
   of processes.                                                                            */
static void set_credentials(const char *text)
{
    static char line[1024];
    FILE *file = text[0] == '@' ? fopen(text + 1, "r") : NULL;
    if (text[0] == '@' && (!file || !fgets(line, sizeof line, file)))
        common_die("%s: %s", text + 1, file ? "empty" : strerror(errno));
    if (text[0] != '@')
        snprintf(line, sizeof line, "%s", text);
    if (file)
        fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    credentials = line;
    if (!strchr(line, ':') || strlen(line) == sizeof line - 1)
        common_die("--auth needs USER:PASSWORD, or @FILE with that in it");
}

/* --acme and its like, and --local-ca; how many arguments, or 0.                          */
static int certificate_flag(const char *argument, const char *next)
{
    if (strcmp(argument, "--trust") == 0) {
        trust = true;
        return 1;
    }
    if (!next)
        return 0;
    if (strcmp(argument, "--acme") == 0) {
        if (acme_count == NAMES)
            common_die("--acme: at most %d names", NAMES);
        acme_names[acme_count++] = next;
    } else if (strcmp(argument, "--acme-directory") == 0) {
        acme.directory = next;
    } else if (strcmp(argument, "--acme-folder") == 0) {
        acme.folder = next;
    } else if (strcmp(argument, "--acme-roots") == 0) {
        acme.roots = hsb_pem_file(next);
    } else if (strcmp(argument, "--local-ca") == 0) {
        local_ca = next;
    } else {
        return 0;
    }
    return 2;
}

static int flag(const char *argument, const char *next)
{
    int used = certificate_flag(argument, next);
    if (used)
        return used;
    if (strcmp(argument, "--unix") == 0 && next) {
        snprintf(unix_host, sizeof unix_host, "unix:%s", next);
        return 2;
    }
    if (strcmp(argument, "--auth") == 0 && next) {
        set_credentials(next);
        return 2;
    }
    if (strcmp(argument, "--upload") == 0 && next) {
        upload_mib = common_number(argument, next, 1, 1 << 20);
        return 2;
    }
    if (strcmp(argument, "--quota") == 0 && next) {
        quota_mib = common_number(argument, next, 1, 1 << 29);
        return 2;
    }
    if (argument[0] == '-')
        return 0;
    if (folder)
        common_die("%s: one folder is enough", argument);
    folder = argument;
    return 1;
}

int main(int argc, char **argv)
{
    common c = { .about = "shares a folder over HTTPS", .arguments = "[DIR]", .flag = flag,
                 .threads = 1,
                 .help = "  --unix PATH            listen on a Unix socket, and not on a port\n"
                         "  --auth USER:PASSWORD   for those who know it only; or @FILE with it\n"
                         "  --upload N             whoever connects may add files of up to N MiB (nobody)\n"
                         "  --quota N              and N MiB in all while it runs (10 times --upload)\n"
                         "  --acme NAME            a certificate of Let's Encrypt; you accept its terms;\n"
                         "                         again for more; port 443, all addresses, unless told\n"
                         "  --acme-directory URL   another CA; --acme-roots FILE: who signed its server\n"
                         "  --acme-folder F        where key and certificate are kept (acme)\n"
                         "  --local-ca F           certificates from a CA in F, made there;\n"
                         "                         with --trust only say how clients trust it\n"
                         "\nNothing outside DIR (.) is ever sent.  SIGHUP reads --cert and --key again.\n" };
    hsb_options options = { .hooks = { .user = &c, .on_head = on_head, .on_body = on_body,
                                       .on_request = on_request, .on_drain = on_drain,
                                       .on_finish = on_finish },
                            .limits.queued_bytes = 16384 };
    struct stat st;
    common_flags(&c, argc, argv);
    if ((acme_count != 0) + (local_ca != NULL) + (c.cert != NULL) > 1)
        common_die("--acme, --local-ca and --cert exclude each other");
    if (trust && !local_ca)
        common_die("--trust is about --local-ca");
    if (local_ca)
        find_lan_names();
    quota_mib = quota_mib ? quota_mib : 10 * upload_mib;
    upload_room = (int64_t)quota_mib << 20;
    options.limits.stream_bytes = (int64_t)upload_mib << 20;
    folder = folder ? folder : ".";
    if (!realpath(folder, root) || stat(root, &st) != 0)
        common_die("%s: %s", folder, strerror(errno));
    if (!S_ISDIR(st.st_mode) || access(root, R_OK | X_OK) != 0)
        common_die("%s: %s", folder, S_ISDIR(st.st_mode) ? strerror(errno) : "not a folder");
    if (upload_mib)
        remove_parts(open_folder(root));
    hsb_serve_desc desc = common_desc(&c, &options);
    desc.host = *unix_host ? unix_host : desc.host;
    desc.on_ready = banner;
    if (acme_count) {
        desc.acme = &acme;
        desc.host = *unix_host || c.address ? desc.host : "::";
        desc.port = c.has_port ? desc.port : 443;
    }
    if (local_ca) {
        desc.security.self_signed_for = "localhost";
        desc.security.self_signed_names = lan_names;
        desc.security.local_ca = local_ca;
    }
    if (trust) {
        hsb_error err;
        hsb_security *made = hsb_security_new(&desc.security, &err);
        if (!made)
            common_die("%s", err.text);
        hsb_security_free(made);
        print_trust();
        return 0;
    }
    int status = hsb_serve(&desc) ? 2 : 0;
    flush_log();
    return status;
}
