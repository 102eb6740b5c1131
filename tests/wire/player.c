/* Plays written conversations against a real server in this process.

       player tests/wire/FILE.txt...        SEED=n: other random cuts; CUTS=n: more of them

   Each conversation is played over plain TCP and over TLS, and each time whole, byte by
   byte and cut at random places: what the server answers, and what its hooks are told,
   must be the same.  How conversations are written: README.md. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "reply.h"

/* --- what was expected ------------------------------------------------------------------- */

static bool check_words(client *c, const char *words, const reply *r)
{
    bool close = false, cut = false;
    hsb_str connection = reply_field(r, "Connection");
    while (*words) {
        char word[32];
        const char *from = words + strspn(words, " ");
        size_t len = strcspn(from, " ");
        words = from + len;
        if (*from == '"') {
            const char *end = strrchr(from, '"');
            char *pattern = must(strndup(from + 1, (size_t)(end - from) - (end > from)));
            bool good = fits(pattern, r->body.data, r->body.len);
            free(pattern);
            if (!good)
                return complain("the body is \"%.*s\"", (int)r->body.len,
                                r->body.data ? r->body.data : "");
            break;
        }
        snprintf(word, sizeof word, "%.*s", (int)len, from);
        if (strcmp(word, "close") == 0)
            close = true;
        else if (strcmp(word, "cut") == 0)
            cut = true;
        else if (strcmp(word, "keep") == 0 && !hsb__text_is_nocase(connection, "keep-alive"))
            return complain("no Connection: keep-alive");
        else if (strcmp(word, "keep") && word[0] && strcmp(word, r->framing))
            return complain("not %s but %s", word, r->framing);
    }
    if (r->status >= 200 && close != hsb__text_is_nocase(connection, "close"))
        return complain(close ? "no Connection: close" : "Connection: close");
    if (cut == r->whole)
        return complain(cut ? "the answer is whole" : "the answer is cut");
    c->must_end |= close || cut;
    c->may_be_cut |= cut;
    return true;
}

static bool check_fields(const step *s, const reply *r)
{
    for (size_t i = 0; i < s->field_count; i++) {
        const char *text = s->fields[i];
        size_t n = strcspn(text + (*text == '-'), ":");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)n, text + (*text == '-'));
        hsb_str value = reply_field(r, name);
        if (*text == '-') {
            if (value.ptr)
                return complain("there is %s", name);
            continue;
        }
        const char *pattern = text + n + (text[n] == ':');
        if (!value.ptr || !fits(pattern + strspn(pattern, " "), value.ptr, value.len))
            return complain("%s is not as wanted: %.*s", name, (int)value.len,
                            value.ptr ? value.ptr : "");
    }
    return true;
}

static const step *wanted;

/* The answer that `wanted` describes has come whole, or will not. */
static bool answer_came(client *c)
{
    reply r;
    bool bare = strstr(wanted->text, " bare") != NULL, cut = strstr(wanted->text, " cut") != NULL;
    bool whole = take_reply(&c->got, c->seen, bare, c->ended, &r);
    bool over = whole || c->ended || complaint[0];
    if (over && !complaint[0]) {
        if (!whole && !(cut && r.framing))
            complain("the connection ended instead");
        else if (atoi(wanted->text) != r.status)
            complain("status %d", r.status);
        else if (check_words(c, wanted->text + 3, &r))
            check_fields(wanted, &r);
        c->seen = r.end;
    }
    free(r.body.data);
    return over;
}

static bool raw_came(client *c)
{
    long n = fits_start(wanted->text, c->got.data + c->seen, c->got.len - c->seen);
    if (n >= 0)
        c->seen += (size_t)n;
    else if (n == -1 || c->ended)
        complain("other bytes came");
    return n != -2 || c->ended;
}

/* What came before the cut is not whole: a body that only the end would end needs a reset,
   or over TLS the lack of close_notify. */
static bool check_cut(client *c)
{
    reply r;
    c->must_end = c->may_be_cut = true;
    bool whole = take_reply(&c->got, c->seen, false, true, &r);
    if (whole && strcmp(r.framing, "until-close") == 0 && !c->polite)
        whole = false;
    free(r.body.data);
    return !complaint[0] && (!whole || complain("the answer is whole"));
}

/* --- a play --------------------------------------------------------------------------- */

static bool play_step(client *c, const step *s)
{
    int64_t until;
    wanted = s;
    switch (s->kind) {
    case SEND:
        return true;                                        /* see play_steps              */
    case ANSWER:
        return wait_for(c, answer_came, "the answer") && !complaint[0];
    case RAW:
        return wait_for(c, raw_came, "bytes") && !complaint[0];
    case END:
        c->must_end = true;
        return true;
    case CUT:
        return wait_for(c, has_ended, "the cut") && check_cut(c);
    case FIN:
        client_fin(c);
        return true;
    case LEAVE:
    case RESET:                         /* takes back what the server has not read yet     */
        while (hsb_server_poll(c->server, 2) > 0)
            client_receive(c);
        client_leave(c, s->kind == RESET);
        return true;
    case WAIT:
        until = clock_ms() + s->number;
        while (clock_ms() < until) {
            hsb_server_poll(c->server, 1);
            client_receive(c);
        }
        return true;
    }
    return false;
}

static bool play_steps(client *c, const conversation *talk)
{
    for (size_t i = 0; i < talk->step_count; i++) {
        bytebuf text = { 0 };
        size_t first = i;
        for (; i < talk->step_count && talk->steps[i].kind == SEND; i++)
            add_unescaped(&text, talk->steps[i].text);
        wanted = &talk->steps[first];
        bool good = client_send(c, text.data, text.len);
        free(text.data);
        if (!good || (i < talk->step_count && !play_step(c, &talk->steps[i])))
            return false;
    }
    wanted = NULL;
    return true;
}

/* The end is as announced, and nothing follows what was expected. */
static bool play_end(client *c)
{
    if (c->fd < 0)
        return wait_for(c, is_forgotten, "on_close");
    if (c->must_end) {
        if (!wait_for(c, has_ended, "the end of the connection"))
            return false;
        if (!c->polite && !c->may_be_cut)
            return complain("the connection was cut");
    } else {
        server_turn(c);
        if (c->ended)
            return complain("the connection ended");
        client_fin(c);
    }
    if (!wait_for(c, has_ended, "the end of the connection"))
        return false;
    if (c->got.len > c->seen && !c->may_be_cut)
        return complain("more bytes than expected");
    if (c->ssl && c->must_end)
        client_fin(c);
    client_leave(c, false);
    return wait_for(c, is_forgotten, "on_close");
}

static bool check_events(const conversation *talk)
{
    const char *const *lines = talk->events;
    size_t count = talk->event_count, called = app.event_count;
    if (app.accepted != 1 || app.closed != 1 || app.heads != app.finished)
        return complain("%d accepted, %d closed; %d heads, %d finished", app.accepted, app.closed,
                        app.heads, app.finished);
    if (count == 0)
        return true;
    if (strncmp(lines[count - 1], "close", 5))
        called--;
    if (strcmp(lines[0], "nothing") == 0) {
        lines++;
        count--;
    }
    for (size_t i = 0; i < called || i < count; i++) {
        if (i >= called)
            return complain("hook not called: %s", lines[i]);
        if (i >= count || !fits(lines[i], app.events[i].data, app.events[i].len))
            return complain("hook called: %.*s", (int)app.events[i].len, app.events[i].data);
    }
    return true;
}

static uint64_t seed;

static void add_escaped(bytebuf *b, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned c = (unsigned char)data[i];
        char text[8];
        if (c == '\r' || c == '\n')
            snprintf(text, sizeof text, c == '\r' ? "\\r" : "\\n\n");
        else
            snprintf(text, sizeof text, c >= ' ' && c < 127 ? "%c" : "\\x%02x", c);
        bytes_add_text(b, text);
    }
}

static void report(const conversation *talk, const client *c, const char *how)
{
    bytebuf text = { 0 };
    bytes_add_text(&text, "--- received\n");
    add_escaped(&text, c->got.data, c->got.len);
    bytes_add_text(&text, "\n--- hooks\n");
    for (size_t i = 0; i < app.event_count; i++) {
        add_escaped(&text, app.events[i].data, app.events[i].len);
        bytes_add_text(&text, "\n");
    }
    print_error("%s:%d: %s\n%s, SEED=%llu: %s\n%.*s", talk->file,
                wanted ? wanted->line : talk->line, talk->name, how, (unsigned long long)seed,
                complaint, (int)text.len, text.data);
    free(text.data);
}

/* Its random cuts depend on the seed and the round alone, so that it can be played again. */
static bool play(const conversation *talk, hsb_server *server, bool tls, int round)
{
    static const char *const how[2][3] = {
        { "plain, whole", "plain, byte by byte", "plain, random cuts" },
        { "TLS, whole", "TLS, byte by byte", "TLS, random cuts" } };
    const cutting cuts = round < 2 ? (cutting)round : RANDOM;
    client c;
    random_state = seed + (unsigned)round;
    complaint[0] = '\0';
    wanted = NULL;
    app_reset();
    bool good = client_open(&c, server, tls, cuts) && play_steps(&c, talk) && play_end(&c) &&
                check_events(talk);
    if (!good)
        report(talk, &c, how[tls][cuts]);
    if (c.fd >= 0)
        client_leave(&c, true);
    wait_for(&c, is_forgotten, "on_close");
    SSL_free(c.ssl);
    free(c.outgoing.data);
    free(c.got.data);
    return good;
}

static hsb_security *security;

static hsb_server *serve(const conversation *talk)
{
    hsb_options options = talk->options;
    hsb_error err = { 0 };
    options.hooks.on_accept = on_accept;
    options.hooks.on_close = on_close;
    options.hooks.on_error = on_error;
    options.hooks.on_head = on_head;
    options.hooks.on_body = on_body;
    options.hooks.on_request = on_request;
    options.hooks.on_finish = on_finish;
    hsb_server *server = hsb_bind("127.0.0.1", 0, &options, &err);
    if (!server || hsb_server_listen(server, "127.0.0.1", 0, security, &err) != 1)
        fail_msg("bind: %s", err.text);
    return server;
}

static void test_conversation(void **state)
{
    const conversation *talk = *state;
    const char *more = getenv("CUTS");
    int rounds = talk->only_whole ? 1 : 2 + (more ? atoi(more) : 2), wrong = 0;
    hsb_server *server = serve(talk);
    for (int tls = 0; tls < 2; tls++)
        for (int i = 0; i < rounds && !wrong; i++)
            if (tls ? !talk->no_tls : !talk->no_plain)
                wrong += !play(talk, server, tls, i);
    hsb_server_free(server);
    app_reset();
    assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
    hsb_error err = { 0 };
    hsb_security_desc desc = { .self_signed_for = "localhost" };
    for (int i = 1; i < argc; i++)
        read_file(argv[i]);
    seed = random_start((uint64_t)time(NULL));
    printf("SEED=%llu\n", (unsigned long long)seed);
    security = hsb_security_new(&desc, &err);
    client_tls = SSL_CTX_new(TLS_client_method());
    if (!security || !client_tls) {
        fprintf(stderr, "no security: %s\n", err.text);
        return 2;
    }
    struct CMUnitTest *tests = must(calloc(conversation_count + 1, sizeof *tests));
    for (size_t i = 0; i < conversation_count; i++) {
        bytebuf name = { 0 };
        const char *file = strrchr(conversations[i].file, '/');
        bytes_add_text(&name, file ? file + 1 : conversations[i].file);
        bytes_add_text(&name, ": ");
        bytes_add(&name, conversations[i].name, strlen(conversations[i].name) + 1);
        tests[i].name = name.data;
        tests[i].test_func = test_conversation;
        tests[i].initial_state = &conversations[i];
    }
    int failed = _cmocka_run_group_tests("wire", tests, conversation_count, NULL, NULL);
    SSL_CTX_free(client_tls);
    hsb_security_free(security);
    return failed;
}
