/* A tree of files below a folder of our own, and a server that answers with them.  Include
   client.h before. */
#ifndef TESTS_LIVE_FILES_TREE_H
#define TESTS_LIVE_FILES_TREE_H

enum { BIG = 300000 };

static char top[200];           /* holds root/ and, outside of it, secret.txt */
static char root[220];

static inline const char *in(const char *folder, const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline void put(const char *path, const char *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static inline void put_text(const char *path, const char *text)
{
    put(path, text, strlen(text));
}

static inline void set_time(const char *path, time_t seconds, long nanoseconds)
{
    struct timespec times[2] = { { seconds, 0 }, { seconds, nanoseconds } };
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* False on a system without links and FIFOs, where these names lead to nothing; no name ends in a
   dot there, and times of files differ by so many nanoseconds. */
static bool has_links;
static long tick = 1;

static inline bool needs_links(const char *path)
{
    return strncmp(path, "/link-", 6) == 0 || strncmp(path, "/folder-", 8) == 0;
}

static inline int make_links(void)
{
    has_links = symlink("a.txt", in(root, "link-in")) == 0;
    if (!has_links) {
        tick = 100;
        return errno == ENOSYS ? 0 : -1;
    }
    return symlink("../secret.txt", in(root, "link-out")) ||
           symlink("..", in(root, "folder-out")) ||
           symlink("/etc/passwd", in(root, "link-absolute")) ||
           symlink("sub/../../root/a.txt", in(root, "link-round")) ||
           symlink("nowhere", in(root, "link-broken")) ||
           symlink("link-self", in(root, "link-self")) ||
           symlink("../rootless", in(root, "link-sibling")) ||
           symlink("sub", in(root, "folder-in")) || mkfifo(in(root, "fifo"), 0644);
}

static inline int make_tree(void **state)
{
    static char big[BIG];
    const char *base = getenv("TMPDIR");
    (void)state;
    snprintf(top, sizeof top, "%s/httpsbind-files-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(top))
        return -1;
    snprintf(root, sizeof root, "%s/root", top);
    mkdir(root, 0755);
    mkdir(in(root, "sub"), 0755);
    mkdir(in(root, "sub/deep"), 0755);
    mkdir(in(root, "noindex"), 0755);
    mkdir(in(root, "with space"), 0755);
    mkdir(in(top, "rootless"), 0755);                   /* its name begins like the root's */
    pattern_fill(big, 0, sizeof big);
    put(in(root, "big.bin"), big, sizeof big);
    put_text(in(root, "a.txt"), "0123456789");
    put_text(in(root, "empty.txt"), "");
    put_text(in(root, "index.html"), "<p>root");
    put_text(in(root, "sub/index.html"), "<p>sub");
    put_text(in(root, "with space/index.html"), "<p>space");
    put_text(in(root, "with space/\xC3\xA4.txt"), "umlaut");
    put_text(in(root, "..dots"), "dots");
    put_text(in(root, "app.js"), "let plain;");
    put_text(in(root, "app.js.gz"), "pretend to be packed");
    put_text(in(root, "old.css"), "new{}");
    put_text(in(root, "old.css.gz"), "outdated");
    put_text(in(top, "secret.txt"), "SECRET");
    put_text(in(top, "rootless/secret.txt"), "SECRET");
    set_time(in(root, "a.txt"), 1000000000, 5);         /* Sun, 09 Sep 2001 01:46:40 GMT */
    set_time(in(root, "app.js"), 1000000000, 0);
    set_time(in(root, "app.js.gz"), 1000000001, 0);
    set_time(in(root, "old.css.gz"), 1000000000, 0);
    return make_links();
}

static inline int remove_tree(void **state)
{
    (void)state;
    return remove_folder(top);
}

/* "/=name" is hsb_respond_file, all else the folder. */
static inline void answer_file(rig *r, hsb_request *req)
{
    hsb_str path = hsb_request_path(req);
    (void)r;
    if (path.len > 1 && path.ptr[1] == '=') {
        char name[256], type[200];
        snprintf(name, sizeof name, "%s/%.*s", root, (int)path.len - 2, path.ptr + 2);
        hsb_str asked = hsb_request_query(req);
        snprintf(type, sizeof type, "%.*s", (int)asked.len, asked.ptr ? asked.ptr : "");
        hsb_respond_file(req, name, asked.ptr ? type : NULL);
        memset(type, 'X', sizeof type);             /* what was handed over may go now */
        memset(name, 'X', sizeof name);
    } else {
        hsb_respond_dir(req, root, path);
    }
}

static inline void etag_of(client *c, const char *path, const char *fields, char out[80])
{
    answer a = ask_path(c, "HEAD", path, fields);
    const char *tag = field_of(&a, "ETag");
    assert_true(tag && strlen(tag) < 80);
    memcpy(out, tag, strlen(tag) + 1);
    answer_free(&a);
}

#endif
