/* One order, while each allocation, system call and write fails at each point: an event says why,
   the old certificate stays, nothing leaks, and the folder is good for the next start.  The CA is
   another process, in which nothing fails. */
#define HTTPSBIND_ACME
#define HSB__ORDER_POLL_MS 3
#define HSB__HTTPS_MS 20000
#include "fault/faults.h"
#include "acme/pebble.h"
#include "acme/ca.h"

static ca authority;
static pid_t authority_process;

static void start_authority(void)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    authority_process = fork();
    assert_int_not_equal(authority_process, -1);
    if (authority_process == 0) {
        ca_start(&authority, "localhost");
        if (write(pipes[1], &authority, sizeof authority) == (ssize_t)sizeof authority)
            pause();
        _exit(1);
    }
    assert_int_equal(read(pipes[0], &authority, sizeof authority), sizeof authority);
    close(pipes[0]);
    close(pipes[1]);
}

static int begin(void **state)
{
    fault_none();
    if (make_place(state))
        return -1;
    start_authority();
    return 0;
}

static int end(void **state)
{
    fault_none();
    stop_program(&authority_process);
    return remove_place(state);
}

/* call fails from its nth time on; false: it was not called so often. */
static bool point(const char *call, long nth, int code, size_t cut)
{
    customer k = { 0 };
    const int descriptors = open_descriptors();
    customer_start(&k, authority.directory);
    const size_t used = k.acme->memory.used;
    const hsb_security *before = k.acme->security;
    k.acme->times.renew = 0;
    fault_plan(call, nth, code);
    injected.cut = cut;
    injected.forever = code != ECONNRESET;
    bool issued = customer_turn(&k), hit = injected.hit;
    fault_none();
    if (hit && issued && k.acme->servers->stale) {  /* the server is told later */
        hsb__acme_turn(k.acme);
        assert_false(k.acme->servers->stale);
    } else if (hit && issued)
        fail_msg("%s %ld failed with %d, and nobody noticed", call, nth, code);
    if (!issued) {
        assert_true(strlen(k.text) > 20 && strstr(k.text, "; next try "));
        if (code == ENOMEM && strcmp(call, "alloc") == 0 && !strstr(k.text, "out of memory"))
            fail_msg("allocation %ld: %s", nth, k.text);
        assert_ptr_equal(k.acme->security, before);
        assert_int_equal(k.acme->memory.used, used);
    }
    assert_null(k.acme->work);
    customer_stop(&k);
    assert_int_equal(open_descriptors(), descriptors);
    customer again = { 0 };                         /* the folder is good, with a certificate or not */
    customer_start(&again, authority.directory);
    if (issued)
        assert_int_not_equal(again.acme->times.ends, 0);
    customer_stop(&again);
    faults_tried += hit;
    return hit;
}

static void each_point(const char *call, int code, size_t cut)
{
    for (int full = 0; full < 2; full++) {          /* an empty folder, and a renewal */
        for (long n = 1; point(call, n, code, cut); n++)
            ;
        customer k = { 0 };
        customer_start(&k, authority.directory);
        k.acme->times.renew = 0;
        assert_true(customer_turn(&k));             /* and without a fault it works */
        customer_stop(&k);
    }
}

static void a_full_disk(void **state)
{
    (void)state;
    each_point("write", ENOSPC, 0);
    each_point("write", ENOSPC, 100);
    each_point("fsync", EIO, 0);
    each_point("rename", ENOSPC, 0);
    each_point("create", EDQUOT, 0);
}

static void a_system_that_refuses(void **state)
{
    (void)state;
    each_point("socket", EMFILE, 0);
    each_point("connect", ENETUNREACH, 0);
    each_point("getaddrinfo", EIO, 0);
    each_point("getentropy", EIO, 0);
    each_point("wait", ENOMEM, 0);
    each_point("pread", EIO, 0);
}

static void a_line_that_breaks(void **state)
{
    (void)state;
    each_point("recv", ECONNRESET, 0);
    each_point("send", ECONNRESET, 0);
}

static void no_memory(void **state)
{
    hsb_error err;
    (void)state;
    each_point("alloc", ENOMEM, 0);
    customer k = { 0 };
    customer_start(&k, authority.directory);
    assert_true(hsb_server_set_acme(k.server, NULL, &err));
    fault_plan("alloc", 1, ENOMEM);
    assert_false(hsb_server_set_acme(k.server, k.acme, &err));
    assert_int_equal(err.status, HSB_ERR_MEMORY);
    fault_none();
    assert_true(hsb_server_set_acme(k.server, k.acme, &err));
    customer_stop(&k);
}

static void short_reads_and_writes(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < 6; cut += 2) {
        customer k = { 0 };
        customer_start(&k, authority.directory);
        k.acme->times.renew = 0;
        injected.cut = cut;
        assert_true(customer_turn(&k));
        fault_none();
        customer_stop(&k);
    }
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        EACH(a_full_disk),
        EACH(a_system_that_refuses),
        EACH(a_line_that_breaks),
        EACH(no_memory),
        EACH(short_reads_and_writes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    printf("%ld faults\n", faults_tried);
    return failed;
}
