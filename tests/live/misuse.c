/* Misuse with assertions off: see misuse.h. */
#ifndef NDEBUG
#  define NDEBUG
#endif
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "misuse.h"

static const bool asserts_are_on = false;

static void asserted(char *out, size_t size)
{
    (void)size;
    *out = '\0';
}

int main(void)
{
    return misuse_main();
}
