/* A site that is part of the program: nothing is read from disk.  Conditions, ranges and HEAD
   work as for files, so a browser asks for a page it knows and gets an empty 304.

   cc -I. -o embedded examples/embedded.c -lbearssl

   `xxd -i page.html` makes an array of a file, and so does #embed in C23.                  */
#define HTTPSBIND_IMPLEMENTATION
#include "common.h"

static const char index_html[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Harbour light</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<link rel=\"icon\" href=\"/light.svg\">\n<link rel=\"stylesheet\" href=\"/style.css\">\n"
    "<main>\n<img src=\"/light.svg\" alt=\"A lighthouse\" width=\"120\" height=\"120\">\n"
    "<h1>Harbour light</h1>\n"
    "<p>This page, its style, its picture and its script are bytes of the program that sent them."
    "  There is no folder to deploy, and no path to get wrong.\n"
    "<p>The lamp is <output id=\"lamp\">off</output>.  <button id=\"switch\">Switch it</button>\n"
    "</main>\n<script src=\"/script.js\"></script>\n";

static const char style_css[] =
    ":root { color-scheme: light dark; --paper: #fbf8f3; --ink: #25303a; --accent: #b4532a }\n"
    "@media (prefers-color-scheme: dark) { :root { --paper: #161c22; --ink: #e7e3dc; --accent: #f0a07a } }\n"
    "body { margin: 0; background: var(--paper); color: var(--ink); font: 1.125rem/1.6 system-ui, sans-serif }\n"
    "main { max-width: 34rem; margin: 0 auto; padding: 10vh 1.5rem }\n"
    "h1 { margin: .5rem 0; line-height: 1.2 } output { font-weight: 600 }\n"
    "button { margin-left: .25rem; padding: .4rem 1rem; border: 0; border-radius: .6rem; font: inherit;"
    " background: var(--accent); color: var(--paper); cursor: pointer }\n";

static const char light_svg[] =
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 24 24\">"
    "<path fill=\"#f4c27a\" d=\"M1 3l8 2.5v1L1 9zM23 3l-8 2.5v1L23 9z\"/>"
    "<path fill=\"#b4532a\" d=\"M9 4l3-3 3 3v4H9zM8.7 9h6.6l.4 4H8.3zM7.9 17h8.2l.4 4h-9z\"/>"
    "<path fill=\"#8a97a3\" d=\"M8.2 13.500h7.600l.3 3H7.900zM5 21.500h14V23H5z\"/></svg>\n";

static const char script_js[] =
    "document.getElementById('switch').onclick = () => {\n"
    "    const lamp = document.getElementById('lamp');\n"
    "    lamp.textContent = lamp.textContent === 'off' ? 'on' : 'off';\n"
    "};\n";

static const char missing_html[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Not here</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<link rel=\"stylesheet\" href=\"/style.css\">\n<main>\n<h1>Not here</h1>\n"
    "<p>There is no such page.  <a href=\"/\">To the light</a>\n</main>\n";

#define BYTES(array) { array, sizeof array - 1 }     /* without the NUL                      */

/* etag names a version of the bytes: change it with them, or leave it out, and a hash of the
   bytes is made for each answer.                                                           */
static const struct { const char *path; hsb_content content; } pages[] = {
    { "/",          { .type = "text/html; charset=utf-8", .body = BYTES(index_html) } },
    { "/style.css", { .type = "text/css",                 .body = BYTES(style_css)  } },
    { "/script.js", { .type = "text/javascript",          .body = BYTES(script_js)  } },
    { "/light.svg", { .type = "image/svg+xml",            .body = BYTES(light_svg), .etag = "light-1" } },
};

static void answer(hsb_request *req, void *user)
{
    (void)user;
    hsb_response_header(req, "Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'");
    hsb_response_header(req, "X-Content-Type-Options", "nosniff");
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (hsb_equal(hsb_request_path(req), pages[i].path)) {
            hsb_response_header(req, "Cache-Control", "no-cache");      /* ask whether it is new */
            hsb_respond_content(req, &pages[i].content);
            return;
        }
    hsb_respond(req, 404, "text/html; charset=utf-8", hsb_text(missing_html));
}

int main(int argc, char **argv)
{
    common c = { .about = "serves pages that are in the program", .threads = 1 };
    hsb_options options = { .hooks.on_request = answer };
    common_flags(&c, argc, argv);
    return common_serve(&c, &options);
}
