/* The roots that the system trusts, which the ACME client takes if it is given none: read from
   the system's store.  What its functions do when they fail is played by HSB_FAULT.        */
static int fault(const char *call);
#define HSB_FAULT(call, count) ((void)(count), fault(call))
#define HTTPSBIND_ACME
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

static const char *fails;               /* the name of a call, or NULL                      */

static int fault(const char *call)
{
    return fails && strcmp(call, fails) == 0 ? ERROR_ACCESS_DENIED : 0;
}

static size_t allocated;                /* blocks that are not freed                        */
static int allocations_left = -1;       /* -1: no end                                       */

static void *take(size_t size, void *user)
{
    (void)user;
    if (allocations_left == 0)
        return NULL;
    allocations_left -= allocations_left > 0;
    allocated++;
    return malloc(size);
}

static void give_back(void *p, size_t size, void *user)
{
    (void)size, (void)user;
    allocated -= p != NULL;
    free(p);
}

static bool wrong;

static void check(bool good, const char *what)
{
    printf("%s: %s\n", good ? "ok" : "FAILED", what);
    wrong = wrong || !good;
}

int main(void)
{
    const char *const names[] = { "localhost", NULL };
    hsb_acme_desc desc = { .names = names, .folder = "roots.tmp", .agree_to_terms = true };
    hsb__memory m = { { take, give_back, NULL }, 0 };
    hsb__https_roots roots;
    hsb_error err;
    hsb_acme *acme = hsb_acme_new(&desc, &err);
    check(acme && !hsb__pem_is_set(&acme->roots), "an acme without roots asks the store, and no file");
    hsb_acme_free(acme);
    hsb__os_remove("roots.tmp/lock");
    RemoveDirectoryW(L"roots.tmp");

    const hsb_pem none = { 0 };
    check(hsb__https_roots_load(&m, &roots, &none, &err), "the store has roots that can be used");
    printf("    %zu of them\n", roots.count);
    hsb__https_roots_free(&m, &roots);
    fails = "store";
    check(!hsb__https_roots_load(&m, &roots, &none, &err) && err.status == HSB_ERR_SYSTEM &&
          strcmp(err.text, "the system's store of roots: Permission denied") == 0,
          "a store that cannot be read is an error that says so");
    fails = NULL;
    for (allocations_left = 0; allocations_left < 3; allocations_left++) {
        const int before = allocations_left;
        check(!hsb__https_roots_load(&m, &roots, &none, &err) && err.status == HSB_ERR_MEMORY,
              "no memory in the middle");
        allocations_left = before;
    }
    check(allocated == 0 && m.used == 0, "all memory is back");
    return wrong;
}
