/* The group X25519MLKEM768, with a real ML-KEM and a real client: the hook asks a process of
   Node with the package mlkem, and Chromium and Firefox connect (make deps-check brings them). */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"
#include "visitor.h"
#include "child.h"

/* --- ML-KEM: a line with a key in hex is answered by one with ciphertext and secret ---------------- */
static const char script[] =
    "const { MlKem768 } = require('mlkem');"
    "console.log('ready');"
    "require('readline').createInterface({ input: process.stdin }).on('line', async key => {"
    "    const [text, secret] = await new MlKem768().encap(Buffer.from(key, 'hex'));"
    "    console.log(Buffer.from(text).toString('hex') + Buffer.from(secret).toString('hex'));"
    "});";

typedef struct helper { pid_t pid; FILE *to, *from; int asked; } helper;

static void helper_stop(helper *h)
{
    fclose(h->to);
    fclose(h->from);
    kill(h->pid, SIGKILL);
    waitpid(h->pid, NULL, 0);
}

/* False: no Node here, or no mlkem. */
static bool helper_start(helper *h)
{
    int to[2], from[2];
    char line[16];
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    h->asked = 0;
    h->pid = fork();
    assert_true(h->pid >= 0);
    if (h->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        for (int fd = 2; fd < 64; fd++)
            close(fd);
        setenv("NODE_PATH", "build/node/node_modules", 1);
        execlp("node", "node", "-e", script, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    h->to = fdopen(to[1], "w");
    h->from = fdopen(from[0], "r");
    if (fgets(line, sizeof line, h->from) && strcmp(line, "ready\n") == 0)
        return true;
    helper_stop(h);
    return false;
}

static bool encapsulate(const uint8_t key[1184], uint8_t ciphertext[1088], uint8_t secret[32],
                        void *user)
{
    helper *h = user;
    h->asked++;
    for (int i = 0; i < 1184; i++)
        fprintf(h->to, "%02x", key[i]);
    fprintf(h->to, "\n");
    fflush(h->to);
    for (int i = 0; i < 1088 + 32; i++) {
        unsigned byte;
        if (fscanf(h->from, "%2x", &byte) != 1)
            return false;
        *(i < 1088 ? ciphertext + i : secret + i - 1088) = (uint8_t)byte;
    }
    return true;
}

/* --- the server, which says how it is talked to ------------------------------------------------------- */
static char said[128];                  /* last                                               */

static void say_group(rig *r, hsb_request *req)
{
    const hsb_tls_info *i = hsb_conn_tls(hsb_request_conn(req));
    (void)r;
    snprintf(said, sizeof said, "%04x %s", i->version, i->group);
    hsb_respond(req, 200, "text/plain", hsb_text(said));
}

static void serve(rig *r, helper *h)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    memset(r, 0, sizeof *r);
    r->on_request = say_group;
    hsb_security_desc desc = desc_of("server-p256", NULL);
    desc.ml_kem_768 = h ? encapsulate : NULL;
    desc.ml_kem_user = h;
    rig_open_with(r, o, security_of(&desc));
}

/* Both ends of the visit with that ML-KEM, and of one without. */
static void visited_by(void (*browse)(rig *r, const char *text))
{
    helper h;
    rig r;
    if (!helper_start(&h)) {
        printf("skipped: no Node with the package mlkem\n");
        skip();
    }
    serve(&r, &h);
    browse(&r, "0304 X25519MLKEM768");
    assert_true(h.asked > 0);
    rig_close(&r);
    helper_stop(&h);
    serve(&r, NULL);                                    /* the same browser, without it        */
    browse(&r, "0304 x25519");
    rig_close(&r);
}

static bool is_installed(const char *path)
{
    if (access(path, X_OK) == 0)
        return true;
    printf("skipped: no %s\n", path);
    return false;
}

/* --- Chromium ------------------------------------------------------------------------------------------- */

/* What makes it take our certificate: the hash of its key, in base64. */
static void pin_of(const char *file, char out[64])
{
    unsigned char *der = NULL, digest[32];
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    const int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
    assert_int_equal(EVP_Digest(der, (size_t)len, digest, NULL, EVP_sha256(), NULL), 1);
    EVP_EncodeBlock((unsigned char *)out, digest, sizeof digest);
    OPENSSL_free(der);
    X509_free(x);
}

static void browse_chromium(rig *r, const char *text)
{
    char folder[] = "/tmp/hybrid-XXXXXX", profile[64], pin[64], option[128], url[64];
    assert_non_null(mkdtemp(folder));
    pin_of(DATA "server-p256.pem", pin);
    snprintf(profile, sizeof profile, "--user-data-dir=%s", folder);
    snprintf(option, sizeof option, "--ignore-certificate-errors-spki-list=%s", pin);
    snprintf(url, sizeof url, "https://localhost:%d/", r->port);
    const char *const argv[] = { "/usr/bin/chromium", "--headless", "--no-sandbox", "--disable-gpu",
                                 profile, option, "--dump-dom", url, NULL };
    child *c = child_start(argv);
    const int64_t end = clock_ms() + 60000;
    for (bool over = false; !over && clock_ms() < end; ) {
        turn(r, 10);
        pthread_mutex_lock(&c->lock);
        over = c->out.ended || strstr(c->out.text, "</html>");
        pthread_mutex_unlock(&c->lock);
    }
    if (!strstr(c->out.text, text))
        fail_msg("\"%s\" is not in what Chromium shows:\n%s%s", text, c->out.text, c->err.text);
    child_free(c);
    turn_until(r, all_closed, "Chromium's goodbye");
    remove_folder(folder);
}

static void chromium(void **state)
{
    (void)state;
    if (!is_installed("/usr/bin/chromium"))
        skip();
    visited_by(browse_chromium);
}

/* --- Firefox -------------------------------------------------------------------------------------------- */

/* A profile that trusts our authority, and asks nobody else for anything. */
static void make_profile(const char *folder)
{
    static const char *const prefs[] = {
        "'security.tls.enable_kyber', true", "'network.captive-portal-service.enabled', false",
        "'network.connectivity-service.enabled', false", "'app.update.enabled', false",
        "'browser.safebrowsing.downloads.remote.enabled', false", "'app.normandy.enabled', false",
        "'services.settings.server', 'data:,#'", "'browser.shell.checkDefaultBrowser', false",
        "'datareporting.policy.dataSubmissionEnabled', false",
    };
    char text[256];
    snprintf(text, sizeof text, "certutil -N -d sql:%s --empty-password && "
             "certutil -A -d sql:%s -n ca -t C,, -i " DATA "ca.pem", folder, folder);
    assert_int_equal(system(text), 0);
    snprintf(text, sizeof text, "%s/user.js", folder);
    FILE *f = fopen(text, "w");
    assert_non_null(f);
    for (size_t i = 0; i < sizeof prefs / sizeof prefs[0]; i++)
        fprintf(f, "user_pref(%s);\n", prefs[i]);
    fclose(f);
}

static void browse_firefox(rig *r, const char *text)
{
    char folder[] = "/tmp/hybrid-XXXXXX", home[64], picture[64], url[64];
    assert_non_null(mkdtemp(folder));
    make_profile(folder);
    snprintf(home, sizeof home, "HOME=%s", folder);
    snprintf(picture, sizeof picture, "%s/page.png", folder);
    snprintf(url, sizeof url, "https://localhost:%d/", r->port);
    const char *const argv[] = { "/usr/bin/env", home, "/usr/bin/firefox-esr", "--headless",
                                 "--no-remote", "--profile", folder, "--screenshot", picture, url,
                                 NULL };
    said[0] = '\0';
    child *c = child_start(argv);
    const int64_t end = clock_ms() + 60000;
    while (!said[0] && clock_ms() < end)
        turn(r, 10);
    if (strcmp(said, text) != 0)
        fail_msg("\"%s\" and not \"%s\" is how Firefox connects:\n%s", said, text, c->err.text);
    child_free(c);
    turn_until(r, all_closed, "Firefox's goodbye");
    remove_folder(folder);
}

static void firefox(void **state)
{
    (void)state;
    if (!is_installed("/usr/bin/firefox-esr") || !is_installed("/usr/bin/certutil"))
        skip();
    visited_by(browse_firefox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chromium),
        cmocka_unit_test(firefox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
