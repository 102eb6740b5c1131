/* How long a head like a browser's takes to read: 12 fields, 700 bytes.
   cc -O2 -I. tests/bench/head.c -lbearssl */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#if defined(__x86_64__) || defined(__i386__)
#  include <x86intrin.h>
static uint64_t cycles(void) { return __rdtsc(); }
#else
static uint64_t cycles(void) { return 0; }
#endif

static const char head[] =
    "GET /articles/2024/harbour-lights/photographs?page=12&order=newest HTTP/1.1\r\n"
    "Host: www.example.org\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Referer: https://www.example.org/articles/2024/harbour-lights?page=1\r\n"
    "Connection: keep-alive\r\n"
    "Cookie: session=6f1d2c9be0a74f5c8a3b7d1e9f0c2b4a; theme=dark; seen=2024-11-22; consent=yes\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "If-None-Match: \"5f3e-61a8c2d9b4e07\"\r\n"
    "Cache-Control: max-age=0, no-transform, only-if-cached\r\n"
    "\r\n";

enum { FIELDS = 100, RUNS = 200000, ROUNDS = 7 };

/* Stops the compiler from reading the one head once and for all. */
static const char *volatile source = head;

static int read_one(size_t step)
{
    static const hsb__head_limits limits = { 8192, 16384, FIELDS };
    static hsb__field fields[FIELDS];
    const char *bytes = source;
    hsb__head h;
    int result = HSB__HEAD_MORE;
    hsb__head_start(&h, &limits);
    h.fields = fields;
    h.field_space = FIELDS;
    for (size_t len = step; result == HSB__HEAD_MORE; len += step)
        result = hsb__head_parse(&h, bytes, len < sizeof head - 1 ? len : sizeof head - 1);
    return result == HSB__HEAD_DONE ? h.field_count : -1;
}

/* The best of some rounds: the others were disturbed. */
static void measure(const char *how, size_t step, int runs)
{
    double best_ns = 1e18, best_cycles = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t c = cycles();
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int i = 0; i < runs; i++)
            if (read_one(step) != 12)
                exit(1);
        clock_gettime(CLOCK_MONOTONIC, &to);
        c = cycles() - c;
        double ns = ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / runs;
        best_ns = ns < best_ns ? ns : best_ns;
        best_cycles = (double)c / runs < best_cycles ? (double)c / runs : best_cycles;
    }
    printf("head %-13s %8.0f ns a request, %6.2f cycles a byte\n", how, best_ns,
           best_cycles / (double)(sizeof head - 1));
}

int main(void)
{
    printf("head of %zu bytes, 12 fields\n", sizeof head - 1);
    measure("whole", sizeof head, RUNS);
    measure("in packets", 100, RUNS);
    measure("byte by byte", 1, RUNS / 10);
    return 0;
}
