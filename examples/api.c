/* A small API: notes as JSON, behind a password, also for the pages of another origin (CORS).

   cc -I. -o api examples/api.c -lbearssl
   NOTES_LOGIN=ann:secret ./api --origin https://app.example
   curl -ku ann:secret --json '{"text":"buy milk"}' https://localhost:8443/notes
   curl -ku ann:secret https://localhost:8443/notes                                         */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"
#include <ctype.h>

enum { NOTES = 100, TEXT_MAX = 1000 };

static struct note { int id; char text[TEXT_MAX + 1]; } notes[NOTES];       /* id 0: free   */
static int last_id;
static const char *login, *origin;

/* --- JSON in: an object of strings; for more of it take a library ------------------------- */

static bool take(hsb_str *in, char c)
{
    while (in->len && memchr(" \t\r\n", *in->ptr, 4))
        in->ptr++, in->len--;
    if (in->len == 0 || *in->ptr != c)
        return false;
    in->ptr++, in->len--;
    return true;
}

/* The four digits of \u0041; -1: they are none.                                            */
static long take_hex(hsb_str *in)
{
    char digits[5] = "";
    for (int i = 0; i < 4 && in->len && isxdigit((unsigned char)*in->ptr); i++)
        digits[i] = *in->ptr++, in->len--;
    return digits[3] ? strtol(digits, NULL, 16) : -1;
}

static size_t put_utf8(char *out, long c)
{
    size_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const int first[] = { 0, 0xC0, 0xE0, 0xF0 };
    for (size_t i = more; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(first[more] | c);
    return more + 1;
}

/* What follows a backslash; no NUL, which would end our text, and no half of a pair.       */
static size_t take_escape(hsb_str *in, char *out)
{
    static const char from[] = "\"\\/bfnrtu", to[] = "\"\\/\b\f\n\r\t";
    const char *at = in->len && *in->ptr ? strchr(from, *in->ptr) : NULL;
    if (!at)
        return 0;
    in->ptr++, in->len--;
    if (*at != 'u')
        return *out = to[at - from], 1;
    long c = take_hex(in), low = 0;
    if (c >= 0xD800 && c < 0xDC00 && in->len > 1 && memcmp(in->ptr, "\\u", 2) == 0) {
        in->ptr += 2, in->len -= 2;
        low = take_hex(in);
        c = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00) : -1;
    }
    return c > 0 && (c < 0xD800 || c >= 0xE000) ? put_utf8(out, c) : 0;
}

/* False: not a string, or longer than out.                                                 */
static bool take_string(hsb_str *in, char *out, size_t size)
{
    size_t len = 0;
    if (!take(in, '"'))
        return false;
    while (in->len && *in->ptr != '"' && (unsigned char)*in->ptr >= ' ' && len + 4 < size) {
        char c = *in->ptr++;
        size_t n = 1;
        in->len--;
        if (c == '\\')
            n = take_escape(in, out + len);
        else
            out[len] = c;
        if (n == 0)
            return false;
        len += n;
    }
    out[len] = '\0';
    return in->len && *in->ptr == '"' && take(in, '"');
}

static bool is_utf8(const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        int more = *s < 0x80 ? 0 : *s < 0xC2 ? -1 : *s < 0xE0 ? 1 : *s < 0xF0 ? 2 : *s < 0xF5 ? 3 : -1;
        if (more < 0 || (*s == 0xE0 && s[1] < 0xA0) || (*s == 0xED && s[1] > 0x9F) ||
            (*s == 0xF0 && s[1] < 0x90) || (*s == 0xF4 && s[1] > 0x8F))
            return false;
        for (; more > 0; more--)
            if ((*++s & 0xC0) != 0x80)
                return false;
    }
    return true;
}

/* {"text":"..."}, and nothing else.                                                        */
static bool read_note(hsb_str body, char text[TEXT_MAX + 4])
{
    char name[16];
    return take(&body, '{') && take_string(&body, name, sizeof name) && strcmp(name, "text") == 0 &&
           take(&body, ':') && take_string(&body, text, TEXT_MAX + 4) && strlen(text) <= TEXT_MAX &&
           take(&body, '}') && !take(&body, '\0') && body.len == 0 && is_utf8(text);
}

/* --- JSON out ----------------------------------------------------------------------------- */

static void write_note(hsb_request *req, const struct note *n)
{
    char text[6 * TEXT_MAX + 1], *out = text;
    for (const char *c = n->text; *c; c++)
        if ((unsigned char)*c < ' ')
            out += sprintf(out, "\\u%04x", (unsigned)*c);
        else
            out += sprintf(out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    *out = '\0';
    hsb_response_writef(req, "{\"id\":%d,\"text\":\"%s\"}", n->id, text);
}

static void begin_json(hsb_request *req, int status)
{
    hsb_response_header(req, "Content-Type", "application/json");
    hsb_response_header(req, "Cache-Control", "no-store");
    hsb_response_begin(req, status, -1);
}

static void respond_error(hsb_request *req, int status, const char *error)
{
    hsb_respondf(req, status, "application/json", "{\"error\":\"%s\"}\n", error);
}

/* --- handlers ----------------------------------------------------------------------------- */

static struct note *find(hsb_request *req)
{
    hsb_str id = hsb_request_param(req, "id");
    for (int i = 0; i < NOTES; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", notes[i].id);
        if (notes[i].id && hsb_equal(id, text))
            return &notes[i];
    }
    respond_error(req, 404, "no such note");
    return NULL;
}

static void respond_note(hsb_request *req, int status, const struct note *n)
{
    begin_json(req, status);
    write_note(req, n);
    hsb_response_write(req, hsb_text("\n"));
    hsb_response_end(req);
}

static void list_notes(hsb_request *req, void *user)
{
    bool first = true;
    (void)user;
    begin_json(req, 200);
    hsb_response_write(req, hsb_text("["));
    for (int i = 0; i < NOTES; i++)
        if (notes[i].id) {
            hsb_response_write(req, hsb_text(first ? "" : ","));
            write_note(req, &notes[i]);
            first = false;
        }
    hsb_response_write(req, hsb_text("]\n"));
    hsb_response_end(req);
}

static void get_note(hsb_request *req, void *user)
{
    struct note *n = find(req);
    (void)user;
    if (n)
        respond_note(req, 200, n);
}

/* A form of another site can send text/plain, but not this type without asking first.      */
static bool read_body(hsb_request *req, struct note *n)
{
    char text[TEXT_MAX + 4];
    if (!hsb_request_is_type(req, "application/json"))
        respond_error(req, 415, "application/json, please");
    else if (!read_note(hsb_request_body(req), text))
        respond_error(req, 400, "a note is {\\\"text\\\":\\\"...\\\"} of at most 1000 bytes");
    else
        return strcpy(n->text, text), true;
    return false;
}

static void add_note(hsb_request *req, void *user)
{
    struct note *n = notes;
    (void)user;
    while (n < notes + NOTES && n->id)
        n++;
    if (n == notes + NOTES) {
        respond_error(req, 507, "there are 100 notes");
    } else if (read_body(req, n)) {
        n->id = ++last_id;
        hsb_response_headerf(req, "Location", "/notes/%d", n->id);
        respond_note(req, 201, n);
    }
}

static void change_note(hsb_request *req, void *user)
{
    struct note *n = find(req);
    (void)user;
    if (n && read_body(req, n))
        respond_note(req, 200, n);
}

static void delete_note(hsb_request *req, void *user)
{
    struct note *n = find(req);
    (void)user;
    if (n) {
        n->id = 0;
        hsb_respond(req, 204, NULL, hsb_text(""));
    }
}

/* --- who may ------------------------------------------------------------------------------ */

static bool may(hsb_request *req)
{
    hsb_str user, password;
    return hsb_request_basic_auth(req, &user, &password) &&
           hsb_equal_secret(hsb_request_format(req, "%s:%s", user.ptr, password.ptr), hsb_text(login));
}

/* Before the body: nobody sends one without the password.  A browser asks with OPTIONS whether
   a page of another origin may, and sends no password then; the table answers it.          */
static void on_head(hsb_request *req, void *user)
{
    (void)user;
    hsb_response_header(req, "Vary", "Origin");
    if (origin && hsb_equal(hsb_request_header(req, "Origin"), origin)) {
        hsb_response_header(req, "Access-Control-Allow-Origin", origin);
        hsb_response_header(req, "Access-Control-Allow-Methods", "GET, POST, PUT, DELETE");
        hsb_response_header(req, "Access-Control-Allow-Headers", "Authorization, Content-Type");
        hsb_response_header(req, "Access-Control-Max-Age", "600");
    }
    if (!hsb_equal(hsb_request_method(req), "OPTIONS") && !may(req))
        hsb_respond_unauthorized(req, "notes");
}

static void on_request(hsb_request *req, void *user)
{
    static const hsb_route routes[] = {
        { "GET",    "/notes",     list_notes },
        { "POST",   "/notes",     add_note },
        { "GET",    "/notes/:id", get_note },
        { "PUT",    "/notes/:id", change_note },
        { "DELETE", "/notes/:id", delete_note },
        { 0 }
    };
    if (!hsb_request_route(req, routes, user))
        respond_error(req, 404, "no such thing");
}

static int flag(const char *argument, const char *next)
{
    if (strcmp(argument, "--origin") != 0 || !next)
        return 0;
    origin = next;
    return 2;
}

int main(int argc, char **argv)
{
    common c = { .about = "keeps notes, as JSON; NOTES_LOGIN is USER:PASSWORD", .flag = flag, .threads = 0,
                 .help = "  --origin O             whose pages may use it, https://app.example\n" };
    hsb_options options = { .hooks = { .on_head = on_head, .on_request = on_request },
                            .limits.body_bytes = 16384 };
    common_flags(&c, argc, argv);
    login = getenv("NOTES_LOGIN");
    if (!login || !strchr(login, ':'))
        common_die("NOTES_LOGIN is not USER:PASSWORD");
    return common_serve(&c, &options);
}
