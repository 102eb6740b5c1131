/* A CA that lies, stalls and breaks off at every step, and an acme that is turned by hand: each
   time one clear event, the old certificate stays, memory is as before, and the next try works. */
static int https_ms = 1000;
#define HSB__HTTPS_MS https_ms
#define HSB__ORDER_POLL_MS 3
#include "acme/pebble.h"
#include "acme/ca.h"



static void file_sum(unsigned char out[32])
{
    static char text[65536];
    FILE *f = fopen(inside("keys/a.test.pem"), "r");
    size_t len = f ? fread(text, 1, sizeof text, f) : 0;
    if (f)
        fclose(f);
    hsb__x509_sha256(text, len, out);
}

/* A certificate is there already, or none; both must outlive every lie. */
static void must_survive(customer *k, ca *c, lie which, const char *at, const char *text)
{
    unsigned char before[32], after[32];
    hsb_security *security = k->acme->security;
    const size_t used = k->acme->memory.used;
    const hsb__order_times times = k->acme->times;
    file_sum(before);
    k->acme->times.renew = 0;                       /* due */
    c->lie = which;
    c->at = at;
    c->validated = c->finalized = false;
    if (customer_turn(k))
        fail_msg("lie %d at %s was believed", which, at ? at : "-");
    c->lie = LIE_NONE;
    if (text && !strstr(k->text, text))
        fail_msg("lie %d at %s: \"%s\" does not say: %s", which, at ? at : "-", k->text, text);
    if (!strstr(k->text, "a.test: ") || !strstr(k->text, "; next try "))
        fail_msg("%s", k->text);
    file_sum(after);
    assert_memory_equal(before, after, 32);
    assert_ptr_equal(k->acme->security, security);
    assert_int_equal(k->acme->memory.used, used);
    assert_int_equal(k->acme->times.ends, times.ends);
    assert_string_equal(k->acme->pending.name, "");
    k->acme->times = times;
}

static void every_step_lies(void **state)
{
    static const char *const texts[LIES_OF_STEPS] = {
        [LIE_HTML] = "answers 503 without a reason (text/html)",
        [LIE_STALL] = "no answer in time", [LIE_SLOW] = "no answer in time",
        [LIE_ERROR] = "the CA refuses (serverInternal): the database? is away",
        [LIE_RATE] = "the CA refuses (rateLimited): too many",
        [LIE_BAD_NONCE] = "the CA refuses every nonce that it gave"
    };
    const int descriptors = open_descriptors();
    ca c;
    customer k = { 0 };
    (void)state;
    ca_start(&c, "localhost");
    customer_start(&k, c.directory);
    for (int again = 0; again < 2; again++) {
        for (int step = 0; step < STEPS; step++)
            for (int which = 1; which < LIES_OF_STEPS; which++) {
                const bool nonce = step == 1, directory = step == 0;
                const char *text = nonce ? NULL : texts[which];
                if (which == LIE_BAD_NONCE && (nonce || directory))
                    continue;
                if (nonce && (which == LIE_ERROR || which == LIE_RATE || which == LIE_SLOW ||
                              which == LIE_CUT))
                    continue;                       /* HEAD: there is a nonce, and no body */
                if (step == 5 && (which == LIE_EMPTY || which == LIE_LIST || which == LIE_DEEP ||
                                  which == LIE_GARBAGE || which == LIE_HALF_JSON))
                    continue;                       /* what it says there does not matter */
                c.slow = step == 7;
                if ((which == LIE_STALL || which == LIE_SLOW) && step % 4 != 0)
                    continue;                       /* each of them takes a second */
                if (again && which != LIE_ERROR)
                    continue;                       /* the first time in all ways, then in one */
                must_survive(&k, &c, (lie)which, steps[step], text);
            }
        k.acme->times.renew = 0;
        assert_true(customer_turn(&k));             /* and now it tells the truth */
    }
    customer_stop(&k);
    ca_stop(&c);
    assert_int_equal(open_descriptors(), descriptors);
}

/* Stopped each time that it looks at the clock, for longer than the CA has time.  If the question
   was out by then, the answer has come meanwhile, and counts. */
static void a_stop_is_not_the_ca_s_delay(void **state)
{
    const hsb_str none = { NULL, 0 };
    hsb__memory memory = { 0 };
    hsb__https_answer answer;
    hsb__https_roots roots;
    hsb__wake wake;
    hsb_error err;
    ca c;
    int good = 0, stops = 0;
    (void)state;
    ca_start(&c, "localhost");
    hsb_pem pem = hsb_pem_file(inside("api/ca.pem"));
    hsb__https *h = calloc(1, sizeof *h);
    assert_non_null(h);
    assert_true(hsb__wake_open(&wake) && hsb__https_roots_load(&memory, &roots, &pem, &err));
    h->memory = &memory;
    h->roots = &roots;
    h->wake = &wake;
    https_ms = 400;
    stop_ms = 500;
    for (;; stops++) {
        stop_in = stops + 1;
        const bool ok = hsb__https_ask(h, "GET", c.directory, none, &answer);
        if (stop_in)                                /* it has not looked so often */
            break;
        if (ok)
            assert_int_equal(answer.status, 200);
        else
            assert_int_equal(h->why.status, HSB_ERR_TIMEOUT);
        good += ok;
    }
    stop_in = 0;
    https_ms = 1000;
    assert_within(stops, 5, 40);
    assert_within(good, 2, stops - 2);
    hsb__wake_close(&wake);
    hsb__https_roots_free(&memory, &roots);
    free(h);
    ca_stop(&c);
}

static void lies_about_the_certificate(void **state)
{
    static const struct { lie which; const char *text; } lies[] = {
        { LIE_OTHER_NAME, "it does not have all the names that were asked for" },
        { LIE_OTHER_KEY, "the key does not belong to the certificate" },
        { LIE_EXPIRED, "it has expired" },
        { LIE_NO_PEM, "malformed" },
        { LIE_WRONG_TYPE, "the CA sends another type (application/pkix-cert)" },
        { LIE_NUL, "empty or binary" },
        { LIE_OTHER_IDENTIFIER, "a name that was not asked for: victim.test" },
        { LIE_TOKEN, "token is malformed" },
        { LIE_NO_CHALLENGE, "does not offer the challenge tls-alpn-01" },
        { LIE_INVALID, "a.test: the CA refuses (connection): connection refused" },
        { LIE_INVALID_ORDER, "the CA refuses (caa): CAA forbids it" },
        { LIE_NO_LOCATION, "gives it no URL" },
        { LIE_HTTP_URL, "no usable URL \"newOrder\"" },
        { LIE_LONG_URL, "no usable URL \"newOrder\"" },
        { LIE_NO_NONCE, "gives none" }
    };
    ca c;
    customer k = { 0 };
    (void)state;
    ca_start(&c, "localhost");
    customer_start(&k, c.directory);
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
            must_survive(&k, &c, lies[i].which, NULL, lies[i].text);
        k.acme->times.renew = 0;
        assert_true(customer_turn(&k));
    }
    customer_stop(&k);
    ca_stop(&c);
}

static void an_external_account_that_does_not_fit(void **state)
{
    char id[3000];
    ca c;
    customer k = { .desc = { .external_id = id, .external_key = "c2VjcmV0" } };
    (void)state;
    memset(id, 'k', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    ca_start(&c, "localhost");
    customer_start(&k, c.directory);
    must_survive(&k, &c, LIE_NONE, NULL, "external_id is too long");
    customer_stop(&k);
    ca_stop(&c);
}

static void a_contact_that_does_not_fit(void **state)
{
    static char contact[70000] = "mailto:";
    ca c;
    (void)state;
    memset(contact + strlen("mailto:"), 'k', sizeof contact - strlen("mailto:") - 1);
    ca_start(&c, "localhost");
    for (int external = 0; external < 2; external++) {
        customer k = { .desc = { .contact = contact } };
        if (external)
            k.desc.external_id = "somebody", k.desc.external_key = "c2VjcmV0";
        customer_start(&k, c.directory);
        must_survive(&k, &c, LIE_NONE, NULL, "account: the message is too large");
        customer_stop(&k);
    }
    ca_stop(&c);
}

static void a_ca_that_never_finishes(void **state)
{
    ca c;
    customer k = { 0 };
    (void)state;
    ca_start(&c, "localhost");
    customer_start(&k, c.directory);
    must_survive(&k, &c, LIE_PENDING, NULL, "the CA does not finish it");
    must_survive(&k, &c, LIE_PROCESSING, NULL, "the CA does not finish it");
    assert_within(c.questions, 80, 140);
    customer_stop(&k);
    ca_stop(&c);
}

static void whom_it_does_not_trust(void **state)
{
    ca c;
    customer k = { 0 };
    (void)state;
    ca_start(&c, "example.org");                    /* another name than the directory's */
    customer_start(&k, c.directory);
    must_survive(&k, &c, LIE_NONE, NULL, "its certificate is for another name");
    customer_stop(&k);
    ca_stop(&c);
    ca_start(&c, "localhost");
    customer stranger = { .desc.roots = hsb_pem_file("tests/data/ca.pem") };
    customer_start(&stranger, c.directory);
    must_survive(&stranger, &c, LIE_NONE, NULL, "comes from no CA that we trust");
    customer_stop(&stranger);
    customer nobody = { .desc.roots = hsb_pem_file(inside("there-is-none")) };
    customer_start(&nobody, c.directory);
    must_survive(&nobody, &c, LIE_NONE, NULL, "No such file");
    customer_stop(&nobody);
    customer late = { 0 };
    customer_start(&late, c.directory);
    leap = 20L * 365 * 86400;
    must_survive(&late, &c, LIE_NONE, NULL, "out of date, or our clock is wrong");
    leap = -20L * 365 * 86400;
    must_survive(&late, &c, LIE_NONE, NULL, "out of date, or our clock is wrong");
    leap = 0;
    assert_true(customer_turn(&late));
    customer_stop(&late);
    ca_stop(&c);
}

static void the_network_is_away_for_a_week(void **state)
{
    static const int pauses[] = { 60, 300, 900, 3600, 10800, 21600, 21600 };
    ca c;
    customer k = { 0 };
    char directory[64], dead[64];
    (void)state;
    ca_start(&c, "localhost");
    snprintf(directory, sizeof directory, "%s", c.directory);
    customer_start(&k, directory);
    assert_true(customer_turn(&k));
    snprintf(dead, sizeof dead, "https://localhost:%d/dir", free_port());
    k.acme->desc.directory = dead;
    leap = 61L * 86400;                             /* due */
    for (int i = 0; i < 7; i++) {
        const int64_t now = hsb__os_wall();
        assert_false(customer_turn(&k));
        assert_non_null(strstr(k.text, "Connection refused"));
        assert_within(k.acme->next_try - now, pauses[i], pauses[i] + 2);
        assert_int_equal(k.next, k.acme->next_try);
        const int failed = k.failed;
        hsb__acme_turn(k.acme);                     /* not before that */
        assert_int_equal(k.failed, failed);
        leap += pauses[i] + 2;
    }
    leap += 7L * 86400;
    k.acme->desc.directory = directory;
    assert_true(customer_turn(&k));
    assert_int_equal(k.acme->failures, 0);
    /* the name is unknown */
    k.acme->desc.directory = "https://no-such-name.invalid/dir";
    k.acme->times.renew = 0;
    assert_false(customer_turn(&k));
    customer_stop(&k);
    leap = 0;
    ca_stop(&c);
}

static void what_the_ca_asks_for_is_kept(void **state)
{
    ca c;
    customer k = { 0 };
    (void)state;
    ca_start(&c, "localhost");
    customer_start(&k, c.directory);
    int64_t now = hsb__os_wall();
    must_survive(&k, &c, LIE_RATE, "/order", NULL);
    assert_within(k.acme->next_try - now, 7200, 7202);          /* its Retry-After */
    k.acme->failures = 5;
    now = hsb__os_wall();
    must_survive(&k, &c, LIE_RATE, "/order", NULL);
    assert_within(k.acme->next_try - now, 21600, 21602);        /* ours is longer */
    k.acme->failures = 0;
    now = hsb__os_wall();
    must_survive(&k, &c, LIE_ERROR, "/order", NULL);
    assert_within(k.acme->next_try - now, 60, 62);              /* it asks for nothing this time */
    customer_stop(&k);
    ca_stop(&c);
}

/* --- hsb_serve --------------------------------------------------------------------------------- */
static int issued_to;

static void say_issued(const hsb_acme_event *event, void *user)
{
    (void)user;
    if (event->state == HSB_ACME_ISSUED)
        must_be(write(issued_to, "i", 1) == 1, "somebody hears of the event");
}

/* Two threads that serve, and one that has a certificate by now: a signal ends them all. */
static void hsb_serve_orders_and_ends(void **state)
{
    static const char *const names[] = { "a.test", NULL };
    int ends[2], code = -1;
    char byte;
    ca c;
    (void)state;
    ca_start(&c, "localhost");
    assert_int_equal(pipe(ends), 0);
    issued_to = ends[1];
    pid_t child = fork();
    if (child == 0) {
        hsb_acme_desc acme = { .names = names, .directory = c.directory, .agree_to_terms = true,
                               .folder = inside("keys"), .roots = hsb_pem_file(inside("api/ca.pem")),
                               .on_event = say_issued };
        hsb_serve_desc desc = { .host = "127.0.0.1", .port = -1, .threads = 2, .acme = &acme };
        dup2(open("/dev/null", O_WRONLY), 1);
        close(ends[0]);
        _exit(hsb_serve(&desc));
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    kill(child, SIGTERM);
    for (int i = 0; i < 200 && waitpid(child, &code, WNOHANG) == 0; i++)
        usleep(50000);
    if (code == -1) {
        kill(child, SIGKILL);
        waitpid(child, &code, 0);
    }
    assert_int_equal(code, 0);
    close(ends[0]);
    ca_stop(&c);
}

/* --- RFC 9773 ---------------------------------------------------------------------------------- */
static void window(ca *c, int64_t start, int64_t end)
{
    hsb__date a = hsb__date_split(start), b = hsb__date_split(end);
    snprintf(c->ari, sizeof c->ari, "{'suggestedWindow':{'start':'%04d-%02d-%02dT%02d:%02d:%02dZ',"
             "'end':'%04d-%02d-%02dT%02d:%02d:%02d.5+00:00'}}", (int)a.year, a.month, a.day, a.hour,
             a.minute, a.second, (int)b.year, b.month, b.day, b.hour, b.minute, b.second);
}

static void the_ca_says_when(void **state)
{
    ca c;
    customer k = { 0 };
    (void)state;
    ca_start(&c, "localhost");
    customer_start(&k, c.directory);
    k.acme->desc.profile = "shortlived";
    assert_true(customer_turn(&k));
    assert_non_null(strstr(c.last_order, "\"profile\":\"shortlived\""));
    assert_null(strstr(c.last_order, "replaces"));
    assert_string_equal(k.acme->times.id, "AQL_.A-k");
    const int64_t now = hsb__os_wall(), usual = k.acme->times.renew;
    assert_within(usual, now + 59 * 86400, now + 61 * 86400);
    /* tomorrow: found when it is asked, and nothing is ordered before */
    window(&c, now + 86400, now + 2 * 86400);
    k.acme->times.ask_window = 0;
    hsb__acme_turn(k.acme);
    assert_within(k.acme->times.renew, now + 86400, now + 2 * 86400);
    assert_int_equal(c.orders, 1);
    const int64_t chosen = k.acme->times.renew;
    k.acme->times.ask_window = 0;
    hsb__acme_turn(k.acme);
    assert_int_equal(k.acme->times.renew, chosen);              /* the same window, the same time */
    assert_within(k.acme->times.ask_window, now + 6 * 3600, now + 6 * 3600 + 5);
    leap = (long)(chosen - now) + 5;
    assert_true(customer_turn(&k));
    assert_int_equal(c.orders, 2);
    assert_non_null(strstr(c.last_order, "\"replaces\":\"AQL_.A-k\""));
    assert_string_equal(k.acme->times.id, "AQL_.A-o");
    /* at once: all of its certificates are to be revoked */
    window(&c, now - 86400, now - 3600);
    k.acme->times.ask_window = 0;
    c.lie = LIE_REPLACES;                                       /* and it does not like that word */
    hsb__acme_turn(k.acme);
    assert_int_equal(c.orders, 3);
    assert_null(strstr(c.last_order, "replaces"));
    leap = 0;
    customer_stop(&k);
    ca_stop(&c);
}

static void times_are_read_to_the_second(void **state)
{
    static const struct { const char *text; int64_t at; } good[] = {
        { "2027-01-01T00:00:00Z", 1798761600 }, { "2027-12-31T23:59:60Z", 1830297600 },
        { "2027-01-01T00:00:00.123456Z", 1798761600 }, { "2027-01-01T05:30:00+05:30", 1798761600 },
        { "2026-12-31T16:00:00-08:00", 1798761600 }, { "2027-01-01T00:00:00.5-00:00", 1798761600 }
    };
    static const char *const bad[] = {
        "2027-01-00T00:00:00Z", "2027-01-32T00:00:00Z", "2027-00-01T00:00:00Z", "2027-13-01T00:00:00Z",
        "2027-01-01T24:00:00Z", "2027-01-01T00:60:00Z", "2027-01-01T00:00:61Z", "2027-01-01T00:00:00",
        "2027-01-01 00:00:00Z", "2027-01-01T00:00:00z", "2027-01-01T00:00:00ZZ", "2027-01-01T00:00:00.Z0",
        "2027-01-01T00:00:00 05:30", "2027-01-01T00:00:00+05-30", "2027-01-01T00:00:00+05:3",
        "2027-01-01T00:00:00+05:300", "2027-01-01T00:00:00+24:00", "2027-01-01T00:00:00+00:60", ""
    };
    int64_t at;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!hsb__order_time(hsb__text_of(good[i].text), &at))
            fail_msg("refused: %s", good[i].text);
        assert_int_equal(at, good[i].at);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (hsb__order_time(hsb__text_of(bad[i]), &at))
            fail_msg("accepted: %s", bad[i]);
}

static void nonsense_about_when(void **state)
{
    static const char *const nonsense[] = {
        "{'suggestedWindow':{'start':'2030-01-01T00:00:00Z'}}", "{}", "[]", "{'suggestedWindow':7}",
        "{'suggestedWindow':{'start':'tomorrow','end':'2030-01-01T00:00:00Z'}}",
        "{'suggestedWindow':{'start':'2026-13-01T00:00:00Z','end':'2030-01-01T00:00:00Z'}}",
        "{'suggestedWindow':{'start':'2030-01-01T00:00:00Z','end':'2029-01-01T00:00:00Z'}}",
        "{'suggestedWindow':{'start':'9999-01-01T00:00:00Z','end':'9999-01-02T00:00:00Z'}}",
        "{'suggestedWindow':{'start':'2026-01-01T00:00:00','end':'2026-01-02T00:00:00Z'}}",
        "{'suggestedWindow':{'start':'2026-01-01T00:00:00+99:99','end':'2026-01-02T00:00:00Z'}}"
    };
    ca c;
    customer k = { 0 };
    (void)state;
    ca_start(&c, "localhost");
    customer_start(&k, c.directory);
    assert_true(customer_turn(&k));
    const int64_t usual = k.acme->times.renew;
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        snprintf(c.ari, sizeof c.ari, "%s", nonsense[i]);
        k.acme->times.ask_window = 0;
        hsb__acme_turn(k.acme);
        assert_int_equal(k.acme->times.renew, usual);
        assert_int_equal(c.orders, 1);
        assert_null(k.acme->work);
    }
    customer_stop(&k);
    ca_stop(&c);
}

/* --- what cannot be, said at once ---------------------------------------------------------------- */
static void refused(hsb_acme_desc desc, hsb_status status, const char *text)
{
    hsb_error err;
    assert_null(hsb_acme_new(&desc, &err));
    assert_int_equal(err.status, status);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" does not say: %s", err.text, text);
}

static void descriptions_that_cannot_be(void **state)
{
    static const char *const names[] = { "a.test", NULL }, *const wild[] = { "*.a.test", NULL };
    static const char *const none[] = { NULL }, *const bad[] = { "a.test", "a b", NULL };
    hsb_acme_desc good = { .names = names, .agree_to_terms = true, .folder = inside("keys") }, d;
    hsb_error err;
    char folder[128];
    (void)state;
    snprintf(folder, sizeof folder, "%s", inside("keys"));
    good.folder = folder;
    d = good, d.names = NULL, refused(d, HSB_ERR_CERT, "names is empty");
    d = good, d.names = none, refused(d, HSB_ERR_CERT, "names is empty");
    d = good, d.names = wild, refused(d, HSB_ERR_CERT, "wildcard");
    d = good, d.names = bad, refused(d, HSB_ERR_CERT, "\"a b\" is no host name or address");
    d = good, d.agree_to_terms = false, refused(d, HSB_ERR_CERT, "agree_to_terms is false");
    d = good, d.folder = NULL, refused(d, HSB_ERR_CERT, "folder is NULL");
    d = good, d.directory = "http://localhost/dir", refused(d, HSB_ERR_CERT, "no URL of the kind");
    d = good, d.directory = "https://127.0.0.1/dir", refused(d, HSB_ERR_CERT, "no URL of the kind");
    d = good, d.external_id = "x", refused(d, HSB_ERR_CERT, "belong together");
    d = good, d.external_id = "x", d.external_key = "!", refused(d, HSB_ERR_CERT, "base64url");
    d = good, d.folder = "build/there/is/none", refused(d, HSB_ERR_SYSTEM, "No such file");
    hsb_acme *a = hsb_acme_new(&good, &err);
    assert_non_null(a);
    refused(good, HSB_ERR_SHARED, "another process uses this folder");
    hsb_acme_stop(a);
    assert_true(hsb_acme_run(a, &err));             /* returns at once */
    hsb_acme_free(a);
    hsb_acme_free(NULL);
    assert_int_equal(chmod(folder, 0777), 0);
    refused(good, HSB_ERR_SYSTEM, "nobody else may write");
}

/* A certificate of another CA, of other names, cut or with another's key is not shown. */
static void strange_files(void **state)
{
    ca c;
    customer k = { 0 };
    char good[8192], command[200];
    (void)state;
    ca_start(&c, "localhost");
    customer_start(&k, c.directory);
    assert_true(customer_turn(&k));
    customer_stop(&k);
    FILE *f = fopen(inside("keys/a.test.pem"), "r");
    size_t len = fread(good, 1, sizeof good - 1, f);
    fclose(f);
    for (int i = 0; i < 4; i++) {
        if (i == 0)
            write_file("keys/a.test.pem", strchr(good, '\n') + 1);  /* not from this directory */
        else if (i == 1)
            good[len / 2] = '\0', write_file("keys/a.test.pem", good);
        else if (i == 2)
            write_file("keys/a.test.pem", "");
        else {
            snprintf(command, sizeof command, "(echo '# from %s'; cat tests/data/server-p256.both.pem) "
                     ">%s", c.directory, inside("keys/a.test.pem"));
            assert_int_equal(system(command), 0);
        }
        customer again = { 0 };
        customer_start(&again, c.directory);
        assert_int_equal(again.acme->times.ends, 0);
        assert_true(customer_turn(&again));
        customer_stop(&again);
        customer last = { 0 };
        customer_start(&last, c.directory);
        assert_int_not_equal(last.acme->times.ends, 0);
        customer_stop(&last);
    }
    ca_stop(&c);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        EACH(every_step_lies),
        EACH(a_stop_is_not_the_ca_s_delay),
        EACH(lies_about_the_certificate),
        EACH(an_external_account_that_does_not_fit),
        EACH(a_contact_that_does_not_fit),
        EACH(a_ca_that_never_finishes),
        EACH(whom_it_does_not_trust),
        EACH(the_network_is_away_for_a_week),
        EACH(what_the_ca_asks_for_is_kept),
        EACH(hsb_serve_orders_and_ends),
        EACH(the_ca_says_when),
        EACH(times_are_read_to_the_second),
        EACH(nonsense_about_when),
        EACH(descriptions_that_cannot_be),
        EACH(strange_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
