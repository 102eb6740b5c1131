/* Numbers that only look random: a test that fails prints its seed, and SEED=n plays it again. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t random_state = 1;

/* From the environment's SEED, else the default, so that every run is the same unless asked. */
static inline uint64_t random_start(uint64_t otherwise)
{
    const char *seed = getenv("SEED");
    random_state = seed ? strtoull(seed, NULL, 10) : otherwise;
    return random_state;
}

static inline uint64_t random_next(void)        /* splitmix64 */
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* 0..bound-1 */
static inline size_t random_below(size_t bound)
{
    return (size_t)(random_next() % bound);
}

#endif
