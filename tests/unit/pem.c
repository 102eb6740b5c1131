/* >>pem: PEM in all the shapes that people have, every way in which it can be broken, and
   the reader and writer of DER.  What is read ends at a guard page. */
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

/* --- DER, read --------------------------------------------------------------------- */

static hsb_str der_of(const void *bytes, size_t len)
{
    return hsb__text_make(guard_copy(bytes, len), len);
}
#define DER(bytes) der_of(bytes, sizeof bytes - 1)

static bool takes(hsb_str s, size_t header, size_t content)
{
    hsb_str rest = s, got = { NULL, 0 };
    unsigned tag;
    if (!hsb__der_next(&rest, &tag, &got)) {
        assert_ptr_equal(rest.ptr, s.ptr);
        assert_int_equal(rest.len, s.len);
        return false;
    }
    assert_ptr_equal(got.ptr, s.ptr + header);
    assert_int_equal(got.len, content);
    assert_int_equal(rest.len, s.len - header - content);
    return true;
}

static void der_lengths(void **state)
{
    static char large[0x10005];
    (void)state;
    assert_true(takes(DER("\x04\x00"), 2, 0));
    assert_true(takes(DER("\x04\x01x"), 2, 1));
    assert_true(takes(DER("\x04\x01xy"), 2, 1));
    assert_false(takes(DER(""), 0, 0));
    assert_false(takes(DER("\x04"), 0, 0));
    assert_false(takes(DER("\x04\x01"), 0, 0));
    assert_false(takes(DER("\x04\x80"), 0, 0));                 /* indefinite                */
    assert_false(takes(DER("\x04\x80\x00\x00"), 0, 0));
    assert_false(takes(DER("\x04\x81"), 0, 0));
    assert_false(takes(DER("\x04\x81\x01x"), 0, 0));            /* not the shortest          */
    assert_false(takes(DER("\x04\x82\x01"), 0, 0));
    assert_false(takes(DER("\x04\x84\x00\x00\x00\x00"), 0, 0));
    assert_false(takes(DER("\x04\xFF"), 0, 0));
    assert_false(takes(DER("\x1F\x01\x00"), 0, 0));             /* a tag of several bytes    */
    assert_false(takes(DER("\xBF\x01\x00"), 0, 0));
    memcpy(large, "\x04\x81\x7F", 3);
    assert_false(takes(der_of(large, 3 + 0x7F), 0, 0));
    memcpy(large, "\x04\x81\x80", 3);
    assert_true(takes(der_of(large, 3 + 0x80), 3, 0x80));
    assert_false(takes(der_of(large, 2 + 0x80), 0, 0));
    memcpy(large, "\x04\x82\x00\xFF", 4);
    assert_false(takes(der_of(large, 4 + 0xFF), 0, 0));
    memcpy(large, "\x04\x82\x01\x00", 4);
    assert_true(takes(der_of(large, 4 + 0x100), 4, 0x100));
    memcpy(large, "\x04\x83\x00\xFF\xFF", 5);
    assert_false(takes(der_of(large, sizeof large), 0, 0));
    memcpy(large, "\x04\x83\x01\x00\x00", 5);
    assert_true(takes(der_of(large, sizeof large), 5, 0x10000));
    assert_false(takes(der_of(large, sizeof large - 1), 0, 0));
}

static void der_elements(void **state)
{
    hsb_str rest = DER("\x04\x01x\x05\x00"), content, whole;
    (void)state;
    assert_false(hsb__der_take(&rest, HSB__DER_SEQUENCE, &content));
    assert_int_equal(rest.len, 5);
    assert_true(hsb__der_optional(&rest, HSB__DER_SEQUENCE, &content));
    assert_null(content.ptr);
    assert_true(hsb__der_whole(&rest, HSB__DER_OCTETS, &whole));
    assert_int_equal(whole.len, 3);
    assert_true(hsb__der_optional(&rest, HSB__DER_NULL, &content));
    assert_non_null(content.ptr);
    assert_int_equal(rest.len, 0);
    assert_false(hsb__der_take(&rest, HSB__DER_NULL, &content));
    rest = DER("\x05\x01");                     /* there, but broken                         */
    assert_false(hsb__der_optional(&rest, HSB__DER_NULL, &content));
}

static int64_t small_of(hsb_str s)
{
    uint32_t n;
    return hsb__der_small(&s, UINT32_MAX, &n) ? (int64_t)n : -1;
}

static void der_integers(void **state)
{
    hsb_str rest, digits;
    uint32_t n;
    (void)state;
    assert_int_equal(small_of(DER("\x02\x01\x00")), 0);
    assert_int_equal(small_of(DER("\x02\x01\x7F")), 127);
    assert_int_equal(small_of(DER("\x02\x02\x00\x80")), 128);
    assert_int_equal(small_of(DER("\x02\x04\x7F\xFF\xFF\xFF")), 0x7FFFFFFF);
    assert_int_equal(small_of(DER("\x02\x05\x00\xFF\xFF\xFF\xFF")), UINT32_MAX);
    assert_int_equal(small_of(DER("\x02\x05\x01\x00\x00\x00\x00")), -1);
    assert_int_equal(small_of(DER("\x02\x01\x80")), -1);        /* negative                  */
    assert_int_equal(small_of(DER("\x02\x02\x00\x7F")), -1);    /* not the shortest          */
    assert_int_equal(small_of(DER("\x02\x02\x00\x00")), -1);
    assert_int_equal(small_of(DER("\x02\x00")), -1);
    assert_int_equal(small_of(DER("\x04\x01\x01")), -1);
    rest = DER("\x02\x01\x02");
    assert_false(hsb__der_small(&rest, 1, &n));
    rest = DER("\x02\x01\x00");
    assert_false(hsb__der_positive(&rest, &digits));
    rest = DER("\x02\x02\x00\x80");
    assert_true(hsb__der_positive(&rest, &digits));
    assert_int_equal(digits.len, 1);
    rest = DER("\x03\x02\x00\x55");
    assert_true(hsb__der_bytes(&rest, &digits));
    assert_int_equal(digits.len, 1);
    rest = DER("\x03\x02\x01\x54");             /* seven bits                                */
    assert_false(hsb__der_bytes(&rest, &digits));
    rest = DER("\x03\x00");
    assert_false(hsb__der_bytes(&rest, &digits));
}

static const char *oid_of(hsb_str s)
{
    static char text[HSB__DER_OID_TEXT];
    return hsb__der_oid_text(s, text) ? text : "";
}

static void der_oids(void **state)
{
    char many[64];
    (void)state;
    assert_string_equal(oid_of(DER("\x55\x04\x03")), "2.5.4.3");
    assert_string_equal(oid_of(DER("\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01")),
                        "1.2.840.113549.1.1.1");
    assert_string_equal(oid_of(DER("\x00")), "0.0");
    assert_string_equal(oid_of(DER("\x27")), "0.39");
    assert_string_equal(oid_of(DER("\x28")), "1.0");
    assert_string_equal(oid_of(DER("\x50")), "2.0");
    assert_string_equal(oid_of(DER("\x88\x37\x03")), "2.999.3");
    assert_string_equal(oid_of(DER("\x55\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F")),
                        "2.5.18446744073709551615");
    assert_string_equal(oid_of(DER("\x55\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00")), "");
    assert_string_equal(oid_of(DER("")), "");
    assert_string_equal(oid_of(DER("\x55\x80\x03")), "");       /* not the shortest          */
    assert_string_equal(oid_of(DER("\x55\x84")), "");           /* ends within a number      */
    memset(many, 1, sizeof many);
    assert_string_equal(oid_of(der_of(many, sizeof many)), "");
    assert_true(hsb__der_oid_is(DER("\x55\x04\x03"), "2.5.4.3"));
    assert_false(hsb__der_oid_is(DER("\x55\x04\x03"), "2.5.4.30"));
    assert_false(hsb__der_oid_is(DER("\x55\x84"), ""));
}

static int64_t time_of(hsb_str s)
{
    int64_t seconds;
    return hsb__der_time(&s, &seconds) ? seconds : INT64_MIN;
}
#define UTC(text) time_of(DER("\x17\x0D" text))
#define LONG_TIME(text) time_of(DER("\x18\x0F" text))

static void der_times(void **state)
{
    (void)state;
    assert_int_equal(UTC("700101000000Z"), 0);
    assert_int_equal(UTC("491231235959Z"), 2524607999);
    assert_int_equal(UTC("500101000000Z"), -631152000);
    assert_int_equal(UTC("000229120000Z"), 951825600);
    assert_int_equal(LONG_TIME("20500101000000Z"), 2524608000);
    assert_int_equal(LONG_TIME("99991231235959Z"), 253402300799);
    assert_int_equal(LONG_TIME("19700101000060Z"), 60);
    assert_int_equal(UTC("010229000000Z"), INT64_MIN);
    assert_int_equal(UTC("010431000000Z"), INT64_MIN);
    assert_int_equal(UTC("011301000000Z"), INT64_MIN);
    assert_int_equal(UTC("010001000000Z"), INT64_MIN);
    assert_int_equal(UTC("010100000000Z"), INT64_MIN);
    assert_int_equal(UTC("010101240000Z"), INT64_MIN);
    assert_int_equal(UTC("010101006000Z"), INT64_MIN);
    assert_int_equal(UTC("010101000061Z"), INT64_MIN);
    assert_int_equal(UTC("010101000000z"), INT64_MIN);
    assert_int_equal(UTC("01010100000 Z"), INT64_MIN);
    assert_int_equal(UTC("+1010100000.Z"), INT64_MIN);
    assert_int_equal(time_of(DER("\x17\x0B" "7001010000Z")), INT64_MIN);
    assert_int_equal(time_of(DER("\x18\x11" "19700101000000.5Z")), INT64_MIN);
    assert_int_equal(time_of(DER("\x16\x0D" "700101000000Z")), INT64_MIN);
    assert_int_equal(time_of(DER("\x17\x0D" "700101000000")), INT64_MIN);
    assert_int_equal(time_of(DER("\x17\x00")), INT64_MIN);
}

/* --- DER, written ------------------------------------------------------------------ */

static void written(void **state)
{
    static const size_t lengths[] = { 0, 1, 127, 128, 255, 256, 257, 65000 };
    static unsigned char bytes[70000], content[65536];
    (void)state;
    memset(content, 7, sizeof content);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        hsb__der_out out = { bytes, 0, sizeof bytes, false };
        size_t mark = hsb__der_open(&out, HSB__DER_SEQUENCE);
        hsb__der_put_element(&out, HSB__DER_OCTETS, content, lengths[i]);
        hsb__der_close(&out, mark);
        assert_false(out.full);
        hsb_str rest = der_of(bytes, out.len), inner, got;
        assert_true(hsb__der_take(&rest, HSB__DER_SEQUENCE, &inner) && rest.len == 0);
        assert_true(hsb__der_take(&inner, HSB__DER_OCTETS, &got) && inner.len == 0);
        assert_int_equal(got.len, lengths[i]);
        assert_memory_equal(got.ptr, content, got.len);
        for (size_t size = out.len; size-- > (out.len > 300 ? out.len - 10 : 0);) {
            hsb__der_out small = { NULL, 0, size, false };
            small.bytes = (unsigned char *)guard_copy(content, size);
            mark = hsb__der_open(&small, HSB__DER_SEQUENCE);
            hsb__der_put_element(&small, HSB__DER_OCTETS, content, lengths[i]);
            hsb__der_close(&small, mark);
            assert_true(small.full);
        }
    }
}

static void written_oids(void **state)
{
    static const char *const texts[] = {
        "2.5.4.3", "1.2.840.113549.1.1.1", "0.0", "2.0", "2.999.3", "1.3.4294967295",
        "0.9.2342.19200300.100.1.25",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        unsigned char bytes[64];
        hsb__der_out out = { bytes, 0, sizeof bytes, false };
        hsb__der_put_oid(&out, texts[i]);
        hsb_str rest = der_of(bytes, out.len), oid;
        assert_true(hsb__der_take(&rest, HSB__DER_OID, &oid) && rest.len == 0);
        assert_string_equal(oid_of(oid), texts[i]);
    }
}

static void written_times(void **state)
{
    static const struct { int64_t seconds; unsigned tag; } times[] = {
        { 0, HSB__DER_UTC_TIME },          { -3600, HSB__DER_UTC_TIME },
        { 951825600, HSB__DER_UTC_TIME },  { 2524607999, HSB__DER_UTC_TIME },
        { 2524608000, HSB__DER_TIME },     { -631152000, HSB__DER_UTC_TIME },
        { -631152001, HSB__DER_TIME },     { 253402300799, HSB__DER_TIME },
    };
    unsigned char bytes[64];
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        hsb__der_out out = { bytes, 0, sizeof bytes, false };
        hsb__der_put_time(&out, times[i].seconds);
        assert_int_equal(bytes[0], times[i].tag);
        assert_int_equal(time_of(der_of(bytes, out.len)), times[i].seconds);
    }
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    hsb__der_put_time(&out, 253402300800);
    assert_true(out.full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
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
        cmocka_unit_test(der_lengths),
        cmocka_unit_test(der_elements),
        cmocka_unit_test(der_integers),
        cmocka_unit_test(der_oids),
        cmocka_unit_test(der_times),
        cmocka_unit_test(written),
        cmocka_unit_test(written_oids),
        cmocka_unit_test(written_times),
    };
    return cmocka_run_group_tests_name("pem", tests, NULL, NULL);
}
