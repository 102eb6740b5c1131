/* >>folder: files that are old or new and never between, and one owner at a time. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "help.h"
#include <sys/wait.h>

static char place[64];

static void make_place(void)
{
    snprintf(place, sizeof place, "build/folder-XXXXXX");
    assert_non_null(mkdtemp(place));
}

static const char *inside(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", place, name);
    return path;
}

static void remove_place(void)
{
    assert_int_equal(remove_folder(place), 0);
}

static void assert_file(const char *name, const char *text)
{
    char got[64] = "";
    FILE *f = fopen(inside(name), "r");
    assert_non_null(f);
    size_t n = fread(got, 1, sizeof got - 1, f);
    fclose(f);
    got[n] = '\0';
    assert_string_equal(got, text);
}

static void it_is_made_for_its_owner_alone(void **state)
{
    hsb__folder f;
    struct stat st;
    char path[100];
    (void)state;
    make_place();
    snprintf(path, sizeof path, "%s", inside("keys"));
    mode_t mask = umask(0);
    assert_true(hsb__folder_open(&f, path, false, NULL));
    assert_true(hsb__folder_write(&f, "a.key", hsb_text("secret"), NULL));
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(inside("keys/a.key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(access(inside("keys/new"), F_OK), -1);
    assert_true(hsb__folder_has(&f, "a.key"));
    assert_false(hsb__folder_has(&f, "b.key"));
    hsb__folder_close(&f);
    remove_place();
}

static void a_file_is_replaced_whole(void **state)
{
    hsb__folder f;
    (void)state;
    make_place();
    assert_true(hsb__folder_open(&f, place, false, NULL));
    assert_true(hsb__folder_write(&f, "a", hsb_text("a long text"), NULL));
    assert_true(hsb__folder_write(&f, "a", hsb_text("short"), NULL));
    assert_file("a", "short");
    /* what a crash left in the file that was being written */
    FILE *left = fopen(inside("new"), "w");
    assert_non_null(left);
    fputs("half of some other and much longer text", left);
    fclose(left);
    assert_true(hsb__folder_write(&f, "a", hsb_text("new"), NULL));
    assert_file("a", "new");
    assert_int_equal(mkdir(inside("b"), 0700), 0);      /* and nothing is left of what fails */
    assert_false(hsb__folder_write(&f, "b", hsb_text("secret"), NULL));
    assert_int_equal(access(inside("new"), F_OK), -1);
    hsb__folder_close(&f);
    remove_place();
}

static void one_owner_at_a_time(void **state)
{
    hsb__folder f, g;
    hsb_error err;
    (void)state;
    make_place();
    assert_true(hsb__folder_open(&f, place, false, NULL));
    assert_false(hsb__folder_open(&g, place, false, &err));     /* of this process, too */
    assert_int_equal(err.status, HSB_ERR_SHARED);
    assert_non_null(strstr(err.text, "another process uses this folder"));
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0)
        _exit(hsb__folder_open(&g, place, false, NULL) ? 1 : 0);
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    hsb__folder_close(&f);
    assert_true(hsb__folder_open(&g, place, false, NULL));
    hsb__folder_close(&g);
    remove_place();
}

static void a_killed_owner_leaves_no_lock(void **state)
{
    hsb__folder f;
    int pipes[2], code;
    char byte;
    (void)state;
    make_place();
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        if (hsb__folder_open(&f, place, false, NULL) && write(pipes[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_false(hsb__folder_open(&f, place, false, NULL));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(hsb__folder_open(&f, place, true, NULL));
    hsb__folder_close(&f);
    close(pipes[0]);
    close(pipes[1]);
    remove_place();
}

static void what_is_not_ours_is_refused(void **state)
{
    hsb__folder f;
    hsb_error err;
    char path[8200];
    (void)state;
    make_place();
    assert_int_equal(chmod(place, 0770), 0);        /* others of the group could put a key there */
    assert_false(hsb__folder_open(&f, place, false, &err));
    assert_non_null(strstr(err.text, "nobody else may write"));
    assert_int_equal(chmod(place, 0755), 0);
    assert_true(hsb__folder_open(&f, place, false, &err));
    hsb__folder_close(&f);
    if (geteuid() == 0) {
        assert_int_equal(chown(place, 65534, 65534), 0);
        assert_false(hsb__folder_open(&f, place, false, &err));
    }
    fclose(fopen("build/folder-file", "w"));
    assert_false(hsb__folder_open(&f, "build/folder-file", false, &err));
    assert_false(hsb__folder_open(&f, "build/there/is/none", false, &err));
    assert_int_equal(err.system_code, ENOENT);
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    assert_false(hsb__folder_open(&f, path, false, &err));
    assert_int_equal(err.status, HSB_ERR_LIMIT);
    path[HSB__PATH_MAX - sizeof "/lock"] = '\0';     /* with it, as long as a path may be: */
    assert_false(hsb__folder_open(&f, path, false, &err));
    assert_int_equal(err.status, HSB_ERR_SYSTEM);   /* the system finds the name too long */
    f.path = path;
    errno = ENOENT;                                 /* whatever happened before              */
    assert_true(hsb__folder_has(&f, "too long"));   /* reading it gives the error                   */
    path[HSB__PATH_MAX - sizeof "/lock"] = 'a';
    path[HSB__PATH_MAX - sizeof "/lock" + 1] = '\0';
    assert_false(hsb__folder_open(&f, path, false, &err));
    assert_int_equal(err.status, HSB_ERR_LIMIT);
    unlink("build/folder-file");
    remove_place();
}

static void a_link_is_not_followed(void **state)
{
    hsb__folder f;
    (void)state;
    make_place();
    FILE *victim = fopen(inside("victim"), "w");
    assert_non_null(victim);
    fputs("precious", victim);
    fclose(victim);
    assert_int_equal(symlink("victim", inside("new")), 0);
    assert_true(hsb__folder_open(&f, place, false, NULL));
    assert_false(hsb__folder_write(&f, "a", hsb_text("key"), NULL));
    assert_file("victim", "precious");
    hsb__folder_close(&f);
    remove_place();
}

static void names_of_files(void **state)
{
    char out[40];
    (void)state;
    hsb__folder_name(out, sizeof out, "*.example.org", ".pem");
    assert_string_equal(out, "_.example.org.pem");
    hsb__folder_name(out, sizeof out, "2001:db8::7", ".pem");
    assert_string_equal(out, "2001_db8__7.pem");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_made_for_its_owner_alone),
        cmocka_unit_test(a_file_is_replaced_whole),
        cmocka_unit_test(one_owner_at_a_time),
        cmocka_unit_test(a_killed_owner_leaves_no_lock),
        cmocka_unit_test(what_is_not_ours_is_refused),
        cmocka_unit_test(a_link_is_not_followed),
        cmocka_unit_test(names_of_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
