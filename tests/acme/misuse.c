/* Misuse of an acme: nothing happens, the assertion names the call, and what has an error says it. */
#include <string.h>

static char said[200];

static void say(const char *text)
{
    strncpy(said, text, sizeof said - 1);
}

#define HSB_ASSERT(condition) ((condition) ? (void)0 : say(#condition))
#include "acme/pebble.h"

static void must_have_said(const char *text)
{
    if (!strstr(said, text))
        fail_msg("said: %s\ninstead of: %s", said, text);
    said[0] = '\0';
}

static void without_an_object(void **state)
{
    hsb_error err;
    (void)state;
    assert_null(hsb_acme_new(NULL, &err));
    assert_string_equal(err.text, "hsb_acme_new: desc is NULL");
    must_have_said("hsb_acme_new: desc is NULL");
    assert_null(hsb_acme_security(NULL));
    must_have_said("hsb_acme_security: acme is NULL");
    assert_false(hsb_acme_run(NULL, &err));
    assert_int_equal(err.status, HSB_ERR_MISUSE);
    must_have_said("hsb_acme_run: acme is NULL");
    hsb_acme_stop(NULL);
    must_have_said("hsb_acme_stop: acme is NULL");
    hsb_acme_free(NULL);
    assert_string_equal(said, "");
    assert_false(hsb_server_set_acme(NULL, NULL, &err));
    assert_string_equal(err.text, "hsb_server_set_acme: server is NULL");
    must_have_said("hsb_server_set_acme: server is NULL");
}

static void in_the_wrong_order(void **state)
{
    static const char *const names[] = { "a.test", NULL };
    hsb_acme_desc desc = { .names = names, .agree_to_terms = true, .folder = inside("keys") };
    hsb_error err;
    (void)state;
    hsb_acme *a = hsb_acme_new(&desc, &err), *other;
    assert_non_null(a);
    desc.folder = inside("others");
    other = hsb_acme_new(&desc, &err);
    assert_non_null(other);
    hsb_server *server = hsb_bind_secure("127.0.0.1", 0, hsb_acme_security(a), NULL, &err);
    assert_non_null(server);
    assert_true(hsb_server_set_acme(server, a, &err));
    assert_true(hsb_server_set_acme(server, a, &err));          /* twice is once */
    hsb_acme_free(a);
    must_have_said("hsb_acme_free: a server has it");
    assert_true(hsb_server_set_acme(server, other, &err));
    a->running = true;
    assert_false(hsb_acme_run(a, &err));
    assert_string_equal(err.text, "hsb_acme_run: it runs already");
    must_have_said("hsb_acme_run: it runs already");
    hsb_acme_free(a);
    must_have_said("hsb_acme_free: hsb_acme_run has not returned");
    a->running = false;
    hsb_acme_free(a);
    assert_string_equal(said, "");
    assert_true(hsb_server_set_acme(server, NULL, &err));
    hsb_acme_free(other);
    hsb_server_free(server);
    assert_string_equal(said, "");
}

static hsb_acme *runs;
static int events;

static void run_again(const hsb_acme_event *event, void *user)
{
    hsb_error err;
    (void)event, (void)user;
    if (events++ == 0) {
        assert_false(hsb_acme_run(runs, &err));
        must_have_said("hsb_acme_run: it runs already");
    }
    hsb_acme_stop(runs);
}

static void from_its_own_event(void **state)
{
    static const char *const names[] = { "a.test", NULL };
    hsb_acme_desc desc = { .names = names, .agree_to_terms = true, .folder = inside("keys"),
                           .directory = "https://no-such-name.invalid/dir", .on_event = run_again };
    hsb_error err;
    (void)state;
    runs = hsb_acme_new(&desc, &err);
    assert_non_null(runs);
    assert_true(hsb_acme_run(runs, &err));
    assert_true(events > 0);
    hsb_acme_free(runs);
    assert_string_equal(said, "");
}

/* A server that goes first takes itself out; whom it asks for certificates gets no acme that
   trusts nobody. */
static void a_server_that_ends_first(void **state)
{
    static const char *const names[] = { "a.test", NULL };
    hsb_acme_desc desc = { .names = names, .agree_to_terms = true, .folder = inside("keys") };
    hsb_options strict = { .require_client_certificate = true };
    hsb_identity mine = { .chain = hsb_pem_file("tests/data/server-p256.pem"),
                          .key = hsb_pem_file("tests/data/server-p256.key") };
    hsb_security_desc trusting = { .identity = mine, .trusted = hsb_pem_file("tests/data/ca.pem") };
    hsb_error err;
    (void)state;
    hsb_acme *a = hsb_acme_new(&desc, &err);
    hsb_security *security = hsb_security_new(&trusting, &err);
    hsb_server *plain = hsb_bind("127.0.0.1", 0, NULL, &err);
    hsb_server *picky = hsb_bind_secure("127.0.0.1", 0, security, &strict, &err);
    assert_true(a && security && plain && picky);
    hsb_security_free(security);
    assert_true(hsb_server_set_acme(plain, a, &err));           /* for HTTP-01 */
    assert_false(hsb_server_set_acme(picky, a, &err));
    assert_int_equal(err.status, HSB_ERR_CERT);
    hsb_server_free(plain);
    assert_null(a->servers);
    hsb_acme_free(a);
    hsb_server_free(picky);
    assert_string_equal(said, "");
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        EACH(without_an_object),
        EACH(in_the_wrong_order),
        EACH(from_its_own_event),
        EACH(a_server_that_ends_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
