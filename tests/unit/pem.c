/* >>pem: PEM in all the shapes that people have, and every way in which it can be broken.
   What is read ends at a guard page. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "keys_help.h"

/* Loads a text and says what came out: "NAME(hex) NAME(hex)", or the error. */
static const char *loaded(const char *text, size_t len)
{
    static char out[4096];
    help_memory help = { 0 };
    hsb__memory m = help_memory_of(&help);
    const hsb_pem pem = help_text(guard_copy(text, len), len);
    hsb__object *list = (hsb__object *)1;
    hsb_error err = { 0 };
    size_t at = 0;
    out[0] = '\0';
    if (!hsb__pem_load(&m, &pem, &list, &err)) {
        snprintf(out, sizeof out, "%s", err.text);
        assert_int_equal(err.status, HSB_ERR_PEM);
        assert_null(list);
    }
    for (const hsb__object *o = list; o; o = o->next) {
        at += (size_t)snprintf(out + at, sizeof out - at, "%s%s(", at ? " " : "", o->name);
        for (size_t i = 0; i < o->len; i++)
            at += (size_t)snprintf(out + at, sizeof out - at, "%02x", o->der[i]);
        at += (size_t)snprintf(out + at, sizeof out - at, ")");
    }
    hsb__pem_free(&m, list);
    assert_int_equal(m.used, 0);
    return out;
}

#define LOADED(text) loaded(text, sizeof text - 1)
#define BROKEN(reason) "the text given: " reason

static void shapes(void **state)
{
    (void)state;
    assert_string_equal(LOADED("-----BEGIN A-----\nAQID\n-----END A-----\n"), "A(010203)");
    assert_string_equal(LOADED("-----BEGIN A-----\nAQID\n-----END A-----"), "A(010203)");
    assert_string_equal(LOADED("-----BEGIN A-----\r\nAQID\r\n-----END A-----\r\n"),
                        "A(010203)");
    assert_string_equal(LOADED("-----BEGIN A-----\r\nAQI=\r\n\r\n-----END A-----\r"),
                        "A(0102)");
    assert_string_equal(LOADED("-----BEGIN A-----  \nAQID\n-----END A-----\n"), "A(010203)");
    assert_string_equal(LOADED("\xEF\xBB\xBF-----BEGIN A-----\nAQID\n-----END A-----\n"),
                        "A(010203)");
    assert_string_equal(LOADED("\n\n-----BEGIN A-----\n\n AQ ID\t\n\n-----END A-----\n"),
                        "A(010203)");
    assert_string_equal(LOADED("-----begin ec private key-----\nAQID\n-----end x-----\n"),
                        "EC PRIVATE KEY(010203)");
    assert_string_equal(
        LOADED("before - --- -----BEGIN\n-----BEGIN A-----\nAQID\n-----END A-----\n"
               "between\n-----BEGIN B-----\nBA==\n-----END B-----\nafter"),
        "A(010203) B(04)");
    assert_string_equal(LOADED("-----BEGIN A-----\n-----END A-----\n"), "A()");
    assert_string_equal(LOADED("-----BEGIN A-----\nAQ\0ID\n-----END A-----\n"), "A(010203)");
}

/* Where a line ends means nothing within an object, and each of the three line ends counts. */
static void lines_of_any_length(void **state)
{
    static const char *const ends[] = { "\n", "\r\n", "\r" };
    unsigned char bytes[40];
    hsb__memory m = { 0 };
    size_t encoded_len;
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        char *encoded = hsb__pem_encode(&m, "A", bytes, len, &encoded_len), base64[128] = "";
        for (const char *line = strchr(encoded, '\n') + 1; line[0] != '-'; ) {
            const char *end = strchr(line, '\n');
            strncat(base64, line, (size_t)(end - line));
            line = end + 1;
        }
        hsb__memory_free(&m, encoded, encoded_len + 1);
        for (size_t end = 0; end < 3; end++)
            for (size_t width = 1; width <= 61; width += width < 10 ? 1 : 17) {
                char text[512] = "before", *at = text + 6;
                hsb__object *list;
                at += sprintf(at, "%s-----BEGIN A-----%s", ends[end], ends[end]);
                for (const char *from = base64; *from; from += strlen(from) < width ? strlen(from) : width)
                    at += sprintf(at, "%.*s%s", (int)width, from, ends[end]);
                at += sprintf(at, "-----END A-----%s", ends[end]);
                const size_t text_len = (size_t)(at - text);
                const hsb_pem pem = help_text(guard_copy(text, text_len), text_len);
                if (!hsb__pem_load(&m, &pem, &list, NULL))
                    fail_msg("%zu bytes in lines of %zu: refused", len, width);
                assert_int_equal(list->len, len);
                assert_memory_equal(list->der, bytes, len);
                hsb__pem_free(&m, list);
            }
    }
    assert_string_equal(LOADED("-----BEGIN A-----\nAQID-----END A-----\n"),
                        BROKEN("cut short: a BEGIN line without its END line"));
    assert_string_equal(LOADED("-----BEGIN A-----\nAQ\n-ID\n-----END A-----\n"),
                        BROKEN("malformed PEM"));
    assert_string_equal(LOADED("-----BEGIN A-----\nAQ==\nAQ==\n-----END A-----\n"),
                        BROKEN("malformed PEM"));
    assert_string_equal(LOADED("-----BEGIN A-----\rA\nQ\r\nI\n\nD\r\r-----END A-----\r-----BEGIN B-----\r"
                               "BA==\r-----END B-----"), "A(010203) B(04)");
    assert_string_equal(
        LOADED("-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,00"
               "\r\n\r\nAQID\r\n-----END RSA PRIVATE KEY-----\r\n"),
        BROKEN("old kind of encryption; convert it with openssl pkcs8 -topk8"));
}

static void broken(void **state)
{
    (void)state;
    assert_string_equal(LOADED(""), BROKEN("empty"));
    assert_string_equal(LOADED("\xEF\xBB\xBF"), BROKEN("empty"));
    assert_string_equal(LOADED("text"), BROKEN("no PEM block in it"));
    assert_string_equal(LOADED(" -----BEGIN A-----\nAQID\n-----END A-----\n"),
                        BROKEN("no PEM block in it"));
    assert_string_equal(LOADED("-----BEGIN A-----\n"),
                        BROKEN("cut short: a BEGIN line without its END line"));
    assert_string_equal(LOADED("-----BEGIN A-----\nAQID\n"),
                        BROKEN("cut short: a BEGIN line without its END line"));
    assert_string_equal(LOADED("-----BEGIN A-----\nAQID\n-----BEGIN B-----\n"),
                        BROKEN("malformed PEM"));
    assert_string_equal(LOADED("-----BEGIN A-----\nA*ID\n-----END A-----\n"),
                        BROKEN("malformed PEM"));
    assert_string_equal(LOADED("-----BEGIN A-----\nAQIDB\n-----END A-----\n"),
                        BROKEN("malformed PEM"));
    assert_string_equal(LOADED("-----BEGIN A-----\nAQ=D\n-----END A-----\n"),
                        BROKEN("malformed PEM"));
    assert_string_equal(LOADED("-----BEGIN A-----\nAR==\n-----END A-----\n"),
                        BROKEN("malformed PEM"));
    assert_string_equal(LOADED("-----BEGIN A-----\nAQID\n-----END A-----\n"
                               "-----BEGIN B-----\nA*ID\n-----END B-----\n"),
                        BROKEN("malformed PEM"));
    assert_string_equal(
        LOADED("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
               "DEK-Info: AES-128-CBC,00\n\nAQID\n-----END RSA PRIVATE KEY-----\n"),
        BROKEN("old kind of encryption; convert it with openssl pkcs8 -topk8"));
}

/* Shorter than it was, a text is never taken for whole; but the newline may be missing. */
static void every_truncation(void **state)
{
    static const char text[] = "-----BEGIN A-----\r\nAQIDBAUG\r\nBwgJ\r\n-----END A-----\r\n";
    const size_t enough = strlen("-----BEGIN A-----\r\nAQIDBAUG\r\nBwgJ\r\n-----END ");
    (void)state;
    for (size_t len = 0; len < sizeof text; len++) {
        const char *out = loaded(text, len);
        assert_int_equal(strcmp(out, "A(010203040506070809)") == 0, len >= enough);
        assert_true(len >= enough || out[0] == 't');
    }
}

/* What the decoder reports must not depend on where its own buffer (255 bytes) ends. */
static void every_length(void **state)
{
    unsigned char bytes[1100];
    hsb__memory m = { 0 };
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        size_t text_len;
        hsb__object *list;
        char *text = hsb__pem_encode(&m, "SOME THING", bytes, len, &text_len);
        assert_int_equal(strlen(text), text_len);
        const hsb_pem pem = help_text(guard_copy(text, text_len), text_len);
        assert_true(hsb__pem_load(&m, &pem, &list, NULL));
        assert_string_equal(list->name, "SOME THING");
        assert_int_equal(list->len, len);
        assert_memory_equal(list->der, bytes, len);
        hsb__pem_free(&m, list);
        hsb__memory_free(&m, text, text_len + 1);
    }
    assert_int_equal(m.used, 0);
}

static void only(void **state)
{
    static const char text[] =
        "-----BEGIN EC PARAMETERS-----\nAQ==\n-----END EC PARAMETERS-----\n"
        "-----BEGIN CERTIFICATE-----\nAg==\n-----END CERTIFICATE-----\n"
        "-----BEGIN RSA PRIVATE KEY-----\nAw==\n-----END RSA PRIVATE KEY-----\n"
        "-----BEGIN X509 CERTIFICATE-----\nBA==\n-----END X509 CERTIFICATE-----\n";
    hsb__memory m = { 0 };
    const hsb_pem pem = help_text(text, strlen(text));
    hsb__object *list;
    (void)state;
    assert_true(hsb__pem_load(&m, &pem, &list, NULL));
    hsb__pem_only(&m, &list, "CERTIFICATE");
    assert_int_equal(list->der[0], 2);
    assert_int_equal(list->next->der[0], 4);
    assert_null(list->next->next);
    hsb__pem_only(&m, &list, "PRIVATE KEY");
    assert_null(list);
    assert_int_equal(m.used, 0);
}

/* --- files ------------------------------------------------------------------------------- */

static const char *file_error(const char *path)
{
    static hsb_error err;
    hsb__memory m = { 0 };
    const hsb_pem pem = help_file(path);
    hsb__object *list;
    memset(&err, 0, sizeof err);
    assert_false(hsb__pem_load(&m, &pem, &list, &err));
    assert_null(list);
    assert_int_equal(m.used, 0);
    return err.text;
}

static void files(void **state)
{
    char path[300];
    (void)state;
    assert_string_equal(file_error("tests/data/none.pem"),
                        "tests/data/none.pem: No such file or directory");
    assert_string_equal(file_error("tests/data"), "tests/data: Is a directory");
    assert_string_equal(file_error(""), ": No such file or directory");
    assert_string_equal(file_error("tests/data/broken-empty.pem"),
                        "tests/data/broken-empty.pem: empty");
    assert_string_equal(file_error("tests/data/broken-no-block.pem"),
                        "tests/data/broken-no-block.pem: no PEM block in it");
    assert_string_equal(file_error("tests/data/broken-not-pem.pem"),
                        "tests/data/broken-not-pem.pem: no PEM block in it");
    assert_string_equal(file_error("tests/data/broken-no-end.pem"),
                        "tests/data/broken-no-end.pem: "
                        "cut short: a BEGIN line without its END line");
    assert_string_equal(file_error("tests/data/broken-cut.key"), "tests/data/broken-cut.key: "
                        "cut short: a BEGIN line without its END line");
    assert_string_equal(file_error("tests/data/broken-base64.pem"),
                        "tests/data/broken-base64.pem: malformed PEM");
    /* However long the path, its end and the reason are there. */
    memset(path, 'a', sizeof path);
    strcpy(path + 200, "/live/example.org/privkey.pem");
    assert_non_null(strstr(file_error(path), "aa/live/example.org/privkey.pem: No such file"));
    assert_int_equal(strncmp(file_error(path), "...aaa", 6), 0);
}

static void a_pipe(void **state)
{
    char path[] = "/tmp/httpsbind-pem-XXXXXX", fifo[sizeof path + 8], text[sizeof fifo + 40];
    (void)state;
    assert_non_null(mkdtemp(path));
    snprintf(fifo, sizeof fifo, "%s/fifo", path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    snprintf(text, sizeof text, "%s: a pipe and no file", fifo);
    assert_string_equal(file_error(fifo), text);
    unlink(fifo);
    rmdir(path);
}

static void large_files(void **state)
{
    static const char block[] = "-----BEGIN A-----\nAQID\n-----END A-----\n";
    char path[] = "/tmp/httpsbind-pem-XXXXXX";
    int fd = mkstemp(path);
    hsb__memory m = { 0 };
    const hsb_pem pem = help_file(path);
    hsb__object *list;
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, block, sizeof block - 1, (4 << 20) - (off_t)sizeof block + 1),
                     sizeof block - 1);
    assert_int_equal(pwrite(fd, "\n", 1, (4 << 20) - (off_t)sizeof block), 1);
    assert_true(hsb__pem_load(&m, &pem, &list, NULL));          /* 4 MiB exactly             */
    hsb__pem_free(&m, list);
    assert_int_equal(pwrite(fd, "\n", 1, 4 << 20), 1);
    assert_non_null(strstr(file_error(path), ": larger than 4 MiB"));
    close(fd);
    unlink(path);
    assert_int_equal(m.used, 0);
}

static void large_text(void **state)
{
    const size_t len = (4 << 20) + 1;
    char *text = calloc(len, 1);
    hsb__memory m = { 0 };
    hsb__object *list;
    hsb_error err;
    (void)state;
    const hsb_pem pem = help_text(text, len);
    assert_false(hsb__pem_load(&m, &pem, &list, &err));
    assert_int_equal(err.status, HSB_ERR_LIMIT);
    assert_string_equal(err.text, "the text given: larger than 4 MiB");
    free(text);
}

static void is_set(void **state)
{
    const hsb_pem none = { 0 }, text = help_text("", 0), file = help_file("x");
    (void)state;
    assert_false(hsb__pem_is_set(&none));
    assert_true(hsb__pem_is_set(&text));
    assert_true(hsb__pem_is_set(&file));
}

/* Loads a file with the first allocation failing, then the second, until none does. */
static void wiped_of(const hsb_pem *pem, const void *secret, size_t len)
{
    bool ok = false;
    for (int fail_at = 1; !ok; fail_at++) {
        help_memory help = { fail_at, 0, secret, len, false };
        hsb__memory m = help_memory_of(&help);
        hsb__object *list;
        hsb_error err = { 0 };
        ok = hsb__pem_load(&m, pem, &list, &err);
        assert_true(ok || err.status == HSB_ERR_MEMORY);
        hsb__pem_free(&m, list);
        assert_int_equal(m.used, 0);
        assert_false(help.leaked);
        assert_within(fail_at, 1, 20);
    }
}

/* Whatever fails, nothing is kept, and nothing that was in the file is left behind: the
   text in the buffers that it was read into, and what was decoded. */
static void wiped(void **state)
{
    static const char *const names[] = { "server-rsa4096.pkcs1.key", "server-p256.both.pem" };
    static const char begin[] = "PRIVATE KEY-----\n";
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const hsb_pem pem = help_data(names[i]);
        size_t len;
        char *text = help_read(pem.path, &len);
        hsb__memory m = { 0 };
        hsb__object *list;
        wiped_of(&pem, strstr(text, begin) + sizeof begin - 1, 40);
        assert_true(hsb__pem_load(&m, &pem, &list, NULL));
        hsb__pem_only(&m, &list, "PRIVATE KEY");
        wiped_of(&pem, list->der + 40, 40);
        hsb__pem_free(&m, list);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(lines_of_any_length),
        cmocka_unit_test(broken),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_length),
        cmocka_unit_test(only),
        cmocka_unit_test(files),
        cmocka_unit_test(a_pipe),
        cmocka_unit_test(large_files),
        cmocka_unit_test(large_text),
        cmocka_unit_test(is_set),
        cmocka_unit_test(wiped),
    };
    return cmocka_run_group_tests_name("pem", tests, NULL, NULL);
}
