/* Misuse with an HSB_ASSERT of one's own, which goes on: see misuse.h. */
static void failed_assertion(const char *text);
#define HSB_ASSERT(condition) ((condition) ? (void)0 : failed_assertion(#condition))
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "misuse.h"

static const bool asserts_are_on = true;
static char last_text[400];

/* A second one before the first was looked at makes the test fail. */
static void failed_assertion(const char *text)
{
    snprintf(last_text, sizeof last_text, "%s%s", last_text[0] ? "two of them: " : "", text);
}

static void asserted(char *out, size_t size)
{
    snprintf(out, size, "%s", last_text);
    last_text[0] = '\0';
}

int main(void)
{
    return misuse_main();
}
