/* A protocol of your own over the same connection: after "Upgrade: shout" every line comes
   back in capitals, and "quit" ends it.  Shows hsb_request_detach, a stream's hooks, and
   what to do about a peer that sends faster than it reads.
   cc -I. examples/upgrade.c -o upgrade -lbearssl

   (printf 'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n'; cat) |
       openssl s_client -quiet -connect localhost:8443                                    */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include "common.h"

#include <ctype.h>

typedef struct session { char line[512]; size_t len; } session;

/* False: that was the last line.                                                         */
static bool shout(hsb_stream *stream, session *s)
{
    s->len -= s->len > 0 && s->line[s->len - 1] == '\r';
    if (s->len == 4 && memcmp(s->line, "quit", 4) == 0)
        return false;
    for (size_t i = 0; i < s->len; i++)
        s->line[i] = (char)toupper((unsigned char)s->line[i]);
    s->line[s->len++] = '\n';
    if (hsb_stream_write(stream, (hsb_str){ s->line, s->len }) == HSB_FLOW_WAIT)
        hsb_stream_pause(stream);                   /* until on_drain                     */
    s->len = 0;
    return true;
}

static void on_data(hsb_stream *stream, hsb_str part, void *user)
{
    session *s = user;
    for (size_t i = 0; i < part.len; i++) {
        bool go_on = true;
        if (part.ptr[i] == '\n')
            go_on = shout(stream, s);
        else if (s->len < sizeof s->line - 1)       /* room for the line's end            */
            s->line[s->len++] = part.ptr[i];
        else
            go_on = false;
        if (!go_on) {
            hsb_stream_close(stream, false);
            return;
        }
    }
}

static void on_end(hsb_stream *stream, void *user)
{
    (void)user;
    hsb_stream_close(stream, false);                /* what is queued still goes out      */
}

static void on_drain(hsb_stream *stream, void *user)
{
    (void)user;
    hsb_stream_resume(stream);
}

static void on_close(hsb_stream *stream, const hsb_error *error, void *user)
{
    (void)stream, (void)error;
    free(user);
}

static void answer(hsb_request *req, void *user)
{
    (void)user;
    if (!hsb_equal_nocase(hsb_request_header(req, "Upgrade"), "shout")) {
        hsb_respond(req, 200, "text/plain", hsb_text("say Upgrade: shout, then lines\n"));
        return;
    }
    hsb_stream_hooks hooks = { calloc(1, sizeof(session)), on_data, on_end, on_drain, on_close };
    hsb_response_header(req, "Upgrade", "shout");
    if (!hooks.user || !hsb_request_detach(req, 101, &hooks)) {
        free(hooks.user);
        hsb_respond(req, 400, "text/plain", hsb_text("that cannot be upgraded\n"));
    }
}

int main(int argc, char **argv)
{
    common c = { .about = "speaks a line protocol after an upgrade", .threads = 1 };
    hsb_options options = { .hooks = { .on_request = answer } };
    common_flags(&c, argc, argv);
    return common_serve(&c, &options);
}
