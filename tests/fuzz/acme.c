/* What a CA answers: a head, and a body that is taken for each of its documents.  Every outcome is
   a result or a reason in one printable line. */
#define HTTPSBIND_ACME
#define HTTPSBIND_STATIC
#include "httpsbind.h"

#include "fuzz/fuzz.h"

static hsb_acme *acme;

static void check_reason(void)
{
    FUZZ_MUST(strlen(acme->why) < sizeof acme->why && hsb__utf8_is(hsb__text_of(acme->why)));
    for (const char *at = acme->why; *at; at++)
        FUZZ_MUST((unsigned char)*at >= ' ' && *at != 127);
}

static void setup(void)
{
    static const char *const names[] = { "a.test", "192.0.2.7", NULL };
    acme = calloc(1, sizeof *acme);
    FUZZ_MUST(acme != NULL);
    acme->work = calloc(1, sizeof *acme->work);
    FUZZ_MUST(acme->work != NULL && hsb__san_make(&acme->memory, &acme->names, NULL, names, false, NULL));
    acme->retry = -1;
}

static void documents(hsb_str body)
{
    hsb__order_work *w = acme->work;
    char name[HSB__HOST_SIZE], sni[HSB__HOST_SIZE], url[HSB__HTTPS_URL], token[HSB__ORDER_TOKEN];
    int64_t seconds;
    w->answer.body = body;
    acme->why[0] = '\0';
    FUZZ_MUST(!hsb__order_refused(acme, "order"));
    FUZZ_MUST(acme->why[0]);
    check_reason();
    if (!hsb__order_is_object(acme, "order"))
        return;
    FUZZ_MUST(!hsb__order_challenge_failed(acme, "a.test"));
    check_reason();
    if (hsb__order_read_identifier(acme, name, sni))
        FUZZ_MUST(strcmp(name, "a.test") == 0 || strcmp(name, "192.0.2.7") == 0);
    if (hsb__order_find_challenge(acme, "a.test", url, token))
        FUZZ_MUST(strlen(token) < sizeof token && !strpbrk(token, "/.\r\n \"") &&
                  strncmp(url, "https://", 8) == 0);
    check_reason();
    hsb__order_nonce_was_bad(w);
    hsb__order_member_time(body, "start", &seconds);
    hsb__order_time(body, &seconds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hsb__https_answer answer;
    hsb__https_frame frame;
    if (!acme)
        setup();
    hsb__https *h = &acme->work->https;
    if (size > 8192)
        return 0;
    memcpy(h->bytes, data, size);
    h->len = size;
    const char *end = size >= 4 ? memmem(h->bytes, size, "\r\n\r\n", 4) : NULL;
    h->head = end ? (size_t)(end - h->bytes) + 4 : 0;
    hsb__error_clear(&h->why);
    if (h->head && !hsb__https_read_head(h, &answer, &frame))
        FUZZ_MUST(h->why.status != HSB_OK);
    char *body = fuzz_copy(data + h->head, size - h->head);
    documents(hsb__text_make(body, size - h->head));
    free(body);
    return 0;
}
