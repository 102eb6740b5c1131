/* What the fuzz targets share.  Without libFuzzer, -DFUZZ_REPLAY gives a target a main that
   plays the files of its command line: cc -DFUZZ_REPLAY ... && ./head tests/fuzz/corpus/head/x */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The finding, in words; the sanitizer or the debugger shows where. */
#define FUZZ_MUST(condition) \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))

/* Cuts made from the input itself, so that a finding plays again: 1..most bytes. */
static inline size_t fuzz_cut(uint32_t *state, size_t most)
{
    *state = *state * 1664525u + 1013904223u;
    return 1 + (*state >> 16) % most;
}

/* An exact copy: what reads behind it is seen. */
static inline char *fuzz_copy(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1);
    FUZZ_MUST(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

#ifdef FUZZ_REPLAY
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        static uint8_t data[1 << 20];
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            perror(argv[i]);
            return 2;
        }
        size_t size = fread(data, 1, sizeof data, f);
        fclose(f);
        uint8_t *copy = (uint8_t *)fuzz_copy(data, size);
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
    }
    return 0;
}
#endif

#endif
