/* The folder of a local CA while the disk is full, the system refuses, memory runs out and
   processes die between any two steps: an error that says what, the files old or new, and the
   next start finds a folder that works.  */
#include "fault/faults.h"
#include "client.h"

static char place[64];

static void make_place(void)
{
    snprintf(place, sizeof place, "build/fault-folder-XXXXXX");
    assert_non_null(mkdtemp(place));
}

static void remove_place(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", place);
    assert_int_equal(system(command), 0);
}

static bool start(const char *second, hsb_error *err)
{
    const char *const more[] = { second, NULL };
    heap h = { 0, 0 };
    int before = open_descriptors();
    hsb_security_desc desc = { .self_signed_for = "localhost", .self_signed_names = more,
                               .local_ca = place, .session_cache_bytes = -1,
                               .allocator = { heap_alloc, heap_release, &h } };
    memset(err, 0, sizeof *err);
    hsb_security *s = hsb_security_new(&desc, err);
    bool ok = s != NULL;
    if (ok == (err->status != HSB_OK) || (!ok && !err->text[0]))
        fail_msg("%d: %s", err->status, err->text);
    hsb_security_free(s);
    assert_int_equal(h.blocks, 0);
    assert_int_equal(open_descriptors(), before);
    return ok;
}

static void assert_works(const char *second)
{
    hsb_error err;
    fault_none();
    if (!start(second, &err))
        fail_msg("left broken: %s", err.text);
}

/* At each point: an empty folder, and one where the certificate is to be replaced. */
static void each_point(const char *call, int code, size_t cut)
{
    hsb_error err;
    for (int full = 0; full < 2; full++)
        for (long n = 1;; n++) {
            make_place();
            fault_none();
            if (full)
                assert_true(start("old.lan", &err));
            fault_plan(call, n, code);
            injected.cut = cut;
            injected.forever = true;
            bool ok = start("new.lan", &err);
            bool hit = injected.hit;
            if (hit && ok)
                fail_msg("%s %ld failed with %d, and nobody noticed", call, n, code);
            if (hit && code != ENOMEM && !strstr(err.text, strerror(code)))
                fail_msg("%s: %s", call, err.text);
            assert_works("new.lan");
            remove_place();
            if (!hit)
                break;
            faults_tried++;
        }
}

static void a_full_disk(void **state)
{
    (void)state;
    each_point("write", ENOSPC, 0);
    each_point("write", ENOSPC, 50);        /* in the middle of a file */
    each_point("fsync", EIO, 0);
    each_point("rename", ENOSPC, 0);
    each_point("create", ENOSPC, 0);
}

static void a_system_that_refuses(void **state)
{
    (void)state;
    each_point("mkdir", EROFS, 0);
    each_point("lock", ENOLCK, 0);
    each_point("create", EACCES, 0);
    each_point("pread", EIO, 0);
    each_point("getentropy", EIO, 0);
}

static void no_memory(void **state)
{
    (void)state;
    each_point("alloc", ENOMEM, 0);
}

static void short_reads_and_writes(void **state)
{
    hsb_error err;
    (void)state;
    for (size_t cut = 1; cut < 4; cut++) {
        make_place();
        fault_none();
        injected.cut = cut;
        assert_true(start("new.lan", &err));
        assert_true(start("new.lan", &err));
        assert_works("new.lan");
        remove_place();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk),
        cmocka_unit_test(a_system_that_refuses),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(short_reads_and_writes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    printf("%ld faults\n", faults_tried);
    return failed;
}
