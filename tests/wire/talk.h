/* The written conversations: what README.md describes, read from files.  Include httpsbind.h
   before this. */
#ifndef TESTS_WIRE_TALK_H
#define TESTS_WIRE_TALK_H

#include "application.h"

typedef enum step_kind { SEND, ANSWER, RAW, END, CUT, FIN, LEAVE, RESET, WAIT } step_kind;

typedef struct step {
    step_kind kind;
    int line, number;               /* number: ms of WAIT                                  */
    const char *text;
    const char **fields;            /* of ANSWER                                           */
    size_t field_count;
} step;

typedef struct conversation {
    const char *file, *name;
    int line;
    step *steps;
    size_t step_count;
    const char **events;
    size_t event_count;
    bool no_plain, no_tls, only_whole, wants_events;
    hsb_options options;
} conversation;

static conversation *conversations;

static size_t conversation_count;

static const struct { const char *name; size_t offset; char kind; } options_known[] = {
#define OPTION(field, kind) { #field, offsetof(hsb_options, field), kind }
    OPTION(limits.target_bytes, 'i'), OPTION(limits.head_bytes, 'i'),
    OPTION(limits.head_fields, 'i'), OPTION(limits.body_bytes, 'l'),
    OPTION(limits.stream_bytes, 'l'), OPTION(limits.requests, 'i'), OPTION(limits.rate, 'i'),
    OPTION(limits.queued_bytes, 'i'), OPTION(timeouts.head, 'i'), OPTION(timeouts.body, 'i'),
    OPTION(timeouts.idle, 'i'), OPTION(timeouts.close, 'i'), OPTION(timeouts.write, 'i'),
    OPTION(timeouts.handshake, 'i'), OPTION(no_keep_alive, 'b'), OPTION(server_header, 's'),
#undef OPTION
};

static inline void wrong_file(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(2);
}

/* The next character of a text with escapes: 0..255, ANY for a star, or -1 at its end. */
enum { ANY = 256 };

static inline int next_code(const char **text)
{
    const char *t = *text;
    char hex[3] = { 0 };
    if (*t == '\0')
        return -1;
    *text = t + (*t == '\\' && t[1] ? 2 : 1);
    if (*t == '*')
        return ANY;
    if (*t != '\\')
        return (unsigned char)*t;
    switch (t[1]) {
    case 'r': return '\r';
    case 'n': return '\n';
    case 't': return '\t';
    case '0': return 0;
    case 'x':
        memcpy(hex, t + 2, strnlen(t + 2, 2));
        *text = t + 2 + strlen(hex);
        return (int)strtoul(hex, NULL, 16);
    default: return (unsigned char)t[1];
    }
}

/* Text that is to be sent: a star is a star, and \{n text} repeats. */
static inline void add_unescaped(bytebuf *out, const char *text)
{
    while (*text) {
        if (strncmp(text, "\\{", 2) == 0) {
            char *part;
            size_t count = strtoul(text + 2, &part, 10);
            size_t len = strcspn(++part, "}");
            bytebuf once = { 0 };
            char *copy = must(strndup(part, len));
            add_unescaped(&once, copy);
            while (count--)
                bytes_add(out, once.data, once.len);
            free(once.data);
            free(copy);
            text = part + len + (part[len] == '}');
            continue;
        }
        int code = next_code(&text);
        char c = (char)(code == ANY ? '*' : code);
        bytes_add(out, &c, 1);
    }
}

/* Whether the whole of data fits the pattern. */
static inline bool fits(const char *pattern, const char *data, size_t len)
{
    int code = next_code(&pattern);
    if (code < 0)
        return len == 0;
    if (code != ANY)
        return len && (unsigned char)*data == code && fits(pattern, data + 1, len - 1);
    for (size_t skip = 0; skip <= len; skip++)
        if (fits(pattern, data + skip, len - skip))
            return true;
    return false;
}

/* As above for a beginning of data, and a star stops before CR: how long the beginning is;
   -1: it does not fit; -2: there is not enough yet to tell. */
static inline long fits_start(const char *pattern, const char *data, size_t len)
{
    size_t at = 0;
    for (;;) {
        int code = next_code(&pattern);
        if (code < 0)
            return (long)at;
        if (code == ANY) {
            for (size_t skip = at;; skip++) {
                long rest = fits_start(pattern, data + skip, len - skip);
                if (rest != -1)
                    return rest < 0 ? rest : (long)skip + rest;
                if (data[skip] == '\r')
                    return -1;
            }
        }
        if (at == len)
            return -2;
        if ((unsigned char)data[at++] != code)
            return -1;
    }
}

static inline step *new_step(conversation *c, step_kind kind, int line, const char *text)
{
    c->steps = must(realloc(c->steps, (c->step_count + 1) * sizeof *c->steps));
    step *s = &c->steps[c->step_count++];
    memset(s, 0, sizeof *s);
    s->kind = kind;
    s->line = line;
    s->text = text;
    return s;
}

static inline void append_text(const char ***list, size_t *count, const char *text)
{
    *list = must(realloc((void *)*list, (*count + 1) * sizeof **list));
    (*list)[(*count)++] = text;
}

static inline void read_expectation(conversation *c, int line, const char *text)
{
    step *last = c->step_count ? &c->steps[c->step_count - 1] : NULL;
    if (text[0] == '=')
        new_step(c, RAW, line, text + 1 + strspn(text + 1, " "));
    else if (strcmp(text, "end") == 0)
        new_step(c, END, line, "");
    else if (strcmp(text, "cut") == 0)
        new_step(c, CUT, line, "");
    else if (text[0] == ' ' && text[1] >= '1' && text[1] <= '5')
        new_step(c, ANSWER, line, text + 1);
    else if (last && last->kind == ANSWER)
        append_text(&last->fields, &last->field_count, text + strspn(text, " "));
    else
        wrong_file(c->file, line, "a field without an answer");
}

static inline bool read_option(conversation *c, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof options_known / sizeof *options_known; i++) {
        char *at = (char *)&c->options + options_known[i].offset;
        if (strcmp(name, options_known[i].name) != 0)
            continue;
        switch (options_known[i].kind) {
        case 'i': *(int *)(void *)at = atoi(value); break;
        case 'l': *(int64_t *)(void *)at = atoll(value); break;
        case 'b': *(bool *)(void *)at = true; break;
        case 's': *(const char **)(void *)at = value; break;
        }
        return true;
    }
    return false;
}

static inline void read_directive(conversation *c, int line, char *text)
{
    static const struct { const char *name; step_kind kind; } steps[] = {
        { "fin", FIN }, { "leave", LEAVE }, { "reset", RESET }, { "wait", WAIT } };
    char *value = text + strcspn(text, " ");
    if (*value)
        *value++ = '\0';
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (strcmp(text, steps[i].name) == 0) {
            new_step(c, steps[i].kind, line, "")->number = atoi(value);
            return;
        }
    if (strcmp(text, "plain") == 0)
        c->no_tls = true;
    else if (strcmp(text, "tls") == 0)
        c->no_plain = true;
    else if (strcmp(text, "whole") == 0)
        c->only_whole = true;
    else if (strcmp(text, "error_page") == 0)
        c->options.hooks.on_error_page = on_error_page;
    else if (!read_option(c, text, value))
        wrong_file(c->file, line, "unknown option");
}

static inline void read_line(const char *file, int number, char *line)
{
    size_t len = strlen(line);
    conversation *c = conversation_count ? &conversations[conversation_count - 1] : NULL;
    bool inside = c && strcmp(c->file, file) == 0;
    if (len == 0 || line[0] == '#')
        return;
    if (strchr("><!@", line[0])) {
        char *text = line + 1 + (line[0] != '<' && line[1] == ' ');
        if (!inside)
            wrong_file(file, number, "no conversation has begun");
        if (line[0] == '>')
            new_step(c, SEND, number, text);
        else if (line[0] == '<')
            read_expectation(c, number, text);
        else if (line[0] == '@')
            read_directive(c, number, text);
        else
            append_text(&c->events, &c->event_count, text);
        return;
    }
    if (line[len - 1] != ':')
        wrong_file(file, number, "neither a name with ':' nor one of > < ! @ #");
    line[len - 1] = '\0';
    conversations = must(realloc(conversations, (conversation_count + 1) * sizeof *conversations));
    c = &conversations[conversation_count++];
    memset(c, 0, sizeof *c);
    c->file = file;
    c->name = line;
    c->line = number;
}

/* The text stays in memory: all that is read points into it. */
static inline void read_file(const char *path)
{
    bytebuf all = { 0 };
    char part[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f)
        wrong_file(path, 0, strerror(errno));
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        bytes_add(&all, part, n);
    fclose(f);
    bytes_add(&all, "", 1);
    int number = 1;
    for (char *line = all.data, *next; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        read_line(path, number, line);
    }
}

#endif
