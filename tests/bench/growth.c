/* What must not cost more when there is more of it: a deadline among 100 000, a name among
   1 000, a session in a cache of 100 MB, a fragment of a WebSocket message of 100 000.  Prints
   the time of one operation with few and with many, and the ratio; memory that no cache holds
   any more is some of it.
   cc -O2 -I. tests/bench/growth.c -lbearssl */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

enum { ROUNDS = 5, RUNS = 200000, TIMERS = 100000, NAMES = 1000, FRAGMENTS = 100000 };

static uint32_t seed = 1;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)seed * below >> 32);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ns of one run with n things; the best of some rounds: the others were disturbed. */
static double measure(void (*run)(int n), int n)
{
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns(), took;
        for (int i = 0; i < RUNS; i++)
            run(n);
        took = (now_ns() - begin) / RUNS;
        best = took < best ? took : best;
    }
    return best;
}

static void report(const char *what, double few, double many)
{
    printf("%-46s %8.0f %8.0f ns %6.2f\n", what, few, many, many / few);
}

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "growth: %s\n", what);
        exit(1);
    }
}

/* --- deadlines ---------------------------------------------------------------------- */
static hsb__timers timers;
static hsb__timer  timer[TIMERS];

/* Moves the deadline of one of n by up to two minutes, as each request does. */
static void move_deadline(int n)
{
    hsb__timer_set(&timers, &timer[draw((uint32_t)n)], timers.now + 1 + draw(120000));
    hsb__timers_next(&timers);
}

/* --- names -------------------------------------------------------------------------- */
static char names[NAMES][32];

/* n names, with the certificate that is the default's too. */
static hsb_security *name_them(int n)
{
    static hsb_identity identities[NAMES];
    hsb_security_desc desc;
    hsb_error err;
    memset(&desc, 0, sizeof desc);
    desc.identity.chain = hsb_pem_file("tests/data/server-p256.pem");
    desc.identity.key = hsb_pem_file("tests/data/server-p256.key");
    for (int i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "host-%d.example.org", i);
        identities[i] = desc.identity;
        identities[i].server_name = names[i];
    }
    desc.identities = identities;
    desc.identity_count = n;
    hsb_security *security = hsb_security_new(&desc, &err);
    must(security != NULL, err.text);
    return security;
}

static hsb_security *named;

static void look_up_name(int n)
{
    must(hsb__security_find_host(named, names[draw((uint32_t)n)]) != NULL, "a name is lost");
}

/* --- sessions ----------------------------------------------------------------------- */
static hsb__memory   memory;
static hsb__sessions cache;

/* The ID of session i: well mixed, as random ones are. */
static void name_session(hsb__session *s, uint32_t i)
{
    memset(s, 0, sizeof *s);
    s->until_us = UINT64_MAX;
    s->until_wall = INT64_MAX;
    for (size_t at = 0; at < sizeof s->id; at += sizeof i) {
        i = (i ^ i >> 15) * 0x2c1b3c6du + 1;
        memcpy(s->id + at, &i, sizeof i);
    }
}

/* A cache of that many bytes, full; returns how many sessions it holds. */
static int fill_cache(size_t bytes)
{
    hsb__session s;
    must(hsb__sessions_open(&cache, &memory, bytes, 3600), "no memory");
    uint32_t count = 0;
    size_t used;
    do {
        used = cache.used;
        name_session(&s, count++);
        hsb__sessions_save(&cache, &s, NULL);
    } while (cache.used > used);
    return (int)count - 1;
}

static void resume(int n)
{
    hsb__session s, found;
    hsb__leaf leaf;
    memset(&leaf, 0, sizeof leaf);
    name_session(&s, 1 + draw((uint32_t)n - 1));
    must(hsb__sessions_load(&cache, s.id, s.binding, &found, NULL, &leaf), "a session is lost");
}

static void save(int n)
{
    static uint32_t next = UINT32_MAX / 2;
    hsb__session s;
    (void)n;
    name_session(&s, next++);
    hsb__sessions_save(&cache, &s, NULL);
}

/* --- fragments ---------------------------------------------------------------------- */
static hsb__websocket_reader  reader;
static hsb__websocket_message message;

/* One fragment of one byte; n of them are a message. */
static void add_fragment(int n)
{
    static int count;
    char frame[] = { 0, (char)0x81, 0, 0, 0, 0, 'x' };
    hsb_str in = { frame, sizeof frame }, piece;
    frame[0] = (char)((count == 0 ? 2 : 0) | (count + 1 == n ? 0x80 : 0));
    count = (count + 1) % n;
    must(hsb__websocket_read(&reader, &in, SIZE_MAX, &piece) == HSB__WEBSOCKET_DATA &&
             hsb__websocket_message_add(&message, &reader, piece), "a fragment is lost");
    if (count == 0)
        hsb__websocket_message_release(&message);
}

int main(void)
{
    double few, saved;
    int n;

    printf("%-46s %8s %8s %10s\n", "", "few", "many", "ratio");
    few = measure(move_deadline, 10);
    report("moving a deadline, of 10 and of 100 000", few, measure(move_deadline, TIMERS));

    named = name_them(10);
    few = measure(look_up_name, 10);
    hsb_security_free(named);
    named = name_them(NAMES);
    report("finding a name, of 10 and of 1 000", few, measure(look_up_name, NAMES));
    hsb_security_free(named);

    n = fill_cache(1 << 16);
    few = measure(resume, n);
    saved = measure(save, n);
    hsb__sessions_close(&cache);
    n = fill_cache(100000000);
    report("resuming a session, of 64 KB and of 100 MB", few, measure(resume, n));
    report("saving one in a full cache of these sizes", saved, measure(save, n));
    hsb__sessions_close(&cache);

    message.memory = &memory;
    hsb__websocket_reader_start(&reader, 1 << 20);
    few = measure(add_fragment, 10);
    report("a fragment of a message, of 10 and of 100 000", few, measure(add_fragment, FRAGMENTS));
    return 0;
}
