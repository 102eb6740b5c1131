/* Identities that somebody without the CA's key might invent, or borrow from a certificate that
   was made for another purpose: each is refused, with the alert that says why, by a server that
   serves the next client. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"
#include "visitor.h"
#include "certs.h"

enum { LEAF, MIDDLE, ROOT, COUNT };

/* A leaf, an intermediate CA, a CA; and what of them the server trusts. */
typedef struct story {
    cert_spec certs[COUNT];         /* as they are sent                                      */
    cert_spec given[COUNT];         /* as the server has them                                */
    int       trusted;              /* a set: 1 << LEAF, 1 << ROOT                           */
    const char *text;               /* of the error; NULL: let in                            */
    int       alert;
    bool      at_load;              /* text is what hsb_security_new says                    */
} story;

static void begin(story *s)
{
    memset(s, 0, sizeof *s);
    s->certs[LEAF] = certs_plain(0, 1, 0, 1);
    s->certs[MIDDLE] = certs_plain(1, 2, 1, 2);
    s->certs[ROOT] = certs_plain(2, 2, 2, 2);
    memcpy(s->given, s->certs, sizeof s->given);
    s->trusted = 1 << ROOT;
}

static void name_client(rig *r, hsb_request *req)
{
    const hsb_certificate *c = hsb_conn_tls(hsb_request_conn(req))->client;
    (void)r;
    hsb_respond(req, 200, "text/plain", c ? c->subject : hsb_text("nobody"));
}

static char *trusted_text(const story *s)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *at, *text;
    for (int i = 0; i < COUNT; i++)
        if (s->trusted >> i & 1) {
            bytes b = chains_cert(&s->given[i], false);
            PEM_write_bio(bio, "CERTIFICATE", "", b.at, (long)b.len);
            OPENSSL_free(b.at);
        }
    const long len = BIO_get_mem_data(bio, &at);
    text = calloc((size_t)len + 1, 1);
    memcpy(text, at, (size_t)len);
    BIO_free(bio);
    return text;
}

/* The last of a chain is only sent if something in it is not what the server has. */
static SSL *shown_by(const story *s)
{
    const visitor nobody = { 0 };
    SSL *ssl = visitor_ssl(&nobody);
    for (int i = LEAF; i <= MIDDLE; i++) {
        bytes b = chains_cert(&s->certs[i], false);
        const unsigned char *at = b.at;
        X509 *x = d2i_X509(NULL, &at, (long)b.len);
        assert_non_null(x);
        assert_int_equal(i == LEAF ? SSL_use_certificate(ssl, x) : (int)SSL_add1_chain_cert(ssl, x), 1);
        X509_free(x);
        OPENSSL_free(b.at);
    }
    assert_int_equal(SSL_use_PrivateKey(ssl, chains_key(s->certs[LEAF].key)), 1);
    return ssl;
}

static void visit_with(visit *v, rig *r, const story *s, SSL_SESSION *session)
{
    v->up = false;
    v->alert = -1;
    v->c = client_new(r, r->port, 0);
    v->c->ssl = shown_by(s);
    if (session)
        SSL_set_session(v->c->ssl, session);
    SSL_set_ex_data(v->c->ssl, 0, v);
    SSL_set_fd(v->c->ssl, v->c->fd);
    visit_go_on(v);
}

/* Returns the session of one that was let in, to free. */
static SSL_SESSION *expect(rig *r, const story *s, SSL_SESSION *session, bool resumed)
{
    visit v;
    visit_with(&v, r, s, session);
    if (s->text) {
        if (v.up)
            fail_msg("let in: %s", s->text);
        hang_up(v.c);
        turn_until(r, all_closed, "the refused one");
        assert_string_equal(r->told.text, s->text);
        assert_int_equal(v.alert, s->alert);
        return NULL;
    }
    if (!v.up)
        fail_msg("refused with alert %d: %s", v.alert, r->told.text);
    assert_int_equal(SSL_session_reused(v.c->ssl), resumed);
    answer a = ask_path(v.c, "GET", "/", "");
    assert_answer(a, 200, "CN=name 0");
    session = SSL_get1_session(v.c->ssl);
    hang_up(v.c);
    turn_until(r, all_closed, "the goodbye");
    return session;
}

static hsb_security *security_for(const story *s, char **text, hsb_error *err)
{
    hsb_security_desc desc = desc_of("server-p256", NULL);
    *text = trusted_text(s);
    desc.trusted.text = hsb_text(*text);
    return hsb_security_new(&desc, err);
}

static void open_for(rig *r, const story *s)
{
    hsb_options o;
    hsb_error err;
    char *text;
    memset(&o, 0, sizeof o);
    memset(r, 0, sizeof *r);
    o.require_client_certificate = true;
    r->on_request = name_client;
    hsb_security *security = security_for(s, &text, &err);
    if (!security)
        fail_msg("%s", err.text);
    rig_open_with(r, o, security);
    free(text);
}

static void play(const story *s)
{
    rig r;
    hsb_error err;
    char *text;
    if (s->at_load) {
        hsb_security *security = security_for(s, &text, &err);
        if (security)
            fail_msg("loaded: %s", s->text);
        assert_string_equal(err.text, s->text);
        assert_int_equal(err.status, HSB_ERR_CERT);
        free(text);
        return;
    }
    open_for(&r, s);
    SSL_SESSION *session = expect(&r, s, NULL, false);
    if (session)
        SSL_SESSION_free(expect(&r, s, session, true));
    SSL_SESSION_free(session);
    rig_close(&r);
}

static void as_it_should_be(void **state)
{
    story s;
    (void)state;
    begin(&s);
    play(&s);
    s.certs[LEAF].eku = EKU_CLIENT;
    s.certs[LEAF].eku_critical = true;          /* 0.1.0 refused it */
    play(&s);
    s.certs[LEAF].eku = EKU_ANY | EKU_SERVER;
    play(&s);
}

/* --- pins: a certificate in trusted that is no CA -------------------------------------------- */
static const char nobody[] = "client certificate: not issued by anybody who is trusted";

static void pin(story *s)
{
    begin(s);
    s->trusted = 1 << LEAF;
}

static void pinned(void **state)
{
    story s;
    (void)state;
    pin(&s);
    s.certs[LEAF].signer = s.given[LEAF].signer = KEY_RSA;      /* RSA signs the same each time */
    play(&s);
}

static void pin_with_invented_names(void **state)
{
    story s;
    (void)state;
    pin(&s);
    s.certs[LEAF].issuer = 77;
    s.certs[LEAF].spoil = SPOIL_NO_SIGNATURE;
    s.text = nobody;
    s.alert = SSL_AD_UNKNOWN_CA;
    play(&s);
}

static void pin_with_new_dates(void **state)
{
    story s;
    (void)state;
    pin(&s);
    s.given[LEAF].end = -1;
    s.text = nobody;
    s.alert = SSL_AD_UNKNOWN_CA;
    play(&s);
}

static void pin_that_expired(void **state)
{
    story s;
    char text[80], day[20];
    time_t yesterday = time(NULL) - 86400;
    (void)state;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&yesterday));
    snprintf(text, sizeof text, "client certificate: expired on %s", day);
    pin(&s);
    s.given[LEAF].signer = KEY_RSA;
    s.given[LEAF].end = -1;
    s.certs[LEAF] = s.given[LEAF];
    s.text = text;
    s.alert = SSL_AD_CERTIFICATE_EXPIRED;
    play(&s);
}

/* --- what the CA did not sign --------------------------------------------------------------- */
static void other_outer_parameters(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.certs[LEAF].spoil = SPOIL_OUTER_NULL;
    s.text = "client certificate: names two different signature algorithms";
    s.alert = SSL_AD_BAD_CERTIFICATE;
    play(&s);
}

static void lenient_signature(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.certs[LEAF].spoil = SPOIL_LENIENT;
    s.text = "client certificate: wrong signature";
    s.alert = SSL_AD_BAD_CERTIFICATE;
    play(&s);
}

/* --- what the CA may not ---------------------------------------------------------------------- */
static void expired_anchor(void **state)
{
    story s;
    char text[120], day[20];
    time_t yesterday = time(NULL) - 86400;
    (void)state;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&yesterday));
    snprintf(text, sizeof text, "client certificate, its issuer in trusted: expired on %s", day);
    begin(&s);
    s.given[ROOT].end = -1;
    s.text = text;
    s.alert = SSL_AD_CERTIFICATE_EXPIRED;
    play(&s);
}

static void anchor_of_one_step(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.given[ROOT].path_len = 0;
    s.text = "client certificate, its issuer in trusted: issued a longer path than it may";
    s.alert = SSL_AD_BAD_CERTIFICATE;
    play(&s);
    s.given[ROOT].path_len = 1;
    s.text = NULL;
    play(&s);
}

static void anchor_with_name_constraints(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.at_load = true;
    s.text = "the text given: certificate 1: name constraints are not supported";
    for (s.given[ROOT].constraints = 1; s.given[ROOT].constraints <= 2; s.given[ROOT].constraints++)
        play(&s);
}

static void anchor_that_may_not_sign(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.at_load = true;
    s.given[ROOT].usage = 0x80;
    s.text = "the text given: certificate 1: key usage forbids this";
    play(&s);
}

static void anchor_with_unknown_extension(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.at_load = true;
    s.given[ROOT].unknown = 2;
    s.text = "the text given: certificate 1: critical extension not supported";
    play(&s);
}

static void intermediate_with_name_constraints(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.text = "client certificate, number 2 of its chain: name constraints are not supported";
    s.alert = SSL_AD_UNSUPPORTED_CERTIFICATE;
    for (s.certs[MIDDLE].constraints = 1; s.certs[MIDDLE].constraints <= 2; s.certs[MIDDLE].constraints++)
        play(&s);
}

static void key_of_a_web_server(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.certs[LEAF].eku = EKU_SERVER;
    s.text = "client certificate: extended key usage does not allow clients";
    s.alert = SSL_AD_UNSUPPORTED_CERTIFICATE;
    play(&s);
}

/* A client that makes itself a CA of its name. */
static void leaf_as_issuer(void **state)
{
    story s;
    (void)state;
    begin(&s);
    s.certs[MIDDLE].ca = 0;
    s.text = "client certificate, number 2 of its chain: issued another one, but is no CA";
    s.alert = SSL_AD_BAD_CERTIFICATE;
    play(&s);
}

/* A session ends with the intermediate that the leaf needs. */
static void session_ends_with_the_path(void **state)
{
    story s;
    rig r;
    struct timespec pause = { 3, 200 * 1000 * 1000 };
    (void)state;
    begin(&s);
    s.certs[MIDDLE].end_seconds = 3;
    open_for(&r, &s);
    SSL_SESSION *session = expect(&r, &s, NULL, false);
    s.certs[MIDDLE].end_seconds = 0;
    nanosleep(&pause, NULL);
    SSL_SESSION_free(expect(&r, &s, session, false));       /* in full, with a new intermediate */
    SSL_SESSION_free(session);
    rig_close(&r);
}

/* The CA revokes while the server runs: a new security, and neither the certificate nor the
   session of before gets in. */
static char *list_text(const story *s, long serial)
{
    list_spec l[2];
    BIO *bio = BIO_new(BIO_s_mem());
    char *at, *text;
    memset(l, 0, sizeof l);
    for (int i = 0; i < 2; i++) {
        l[i].issuer = i + 1;
        l[i].signer = s->certs[i + 1].key;
        l[i].begin = -1;
        l[i].end = 1;
        l[i].count = 1;
        l[i].serials[0] = i == 0 ? serial : 5;
        bytes b = chains_list(&l[i]);
        PEM_write_bio(bio, "X509 CRL", "", b.at, (long)b.len);
        OPENSSL_free(b.at);
    }
    const long len = BIO_get_mem_data(bio, &at);
    text = calloc((size_t)len + 1, 1);
    memcpy(text, at, (size_t)len);
    BIO_free(bio);
    return text;
}

static hsb_security *security_with_list(const story *s, long serial)
{
    hsb_error err;
    hsb_security_desc desc = desc_of("server-p256", NULL);
    char *text = trusted_text(s), *list = list_text(s, serial);
    desc.trusted.text = hsb_text(text);
    desc.revoked.text = hsb_text(list);
    hsb_security *security = hsb_security_new(&desc, &err);
    if (!security)
        fail_msg("%s", err.text);
    free(text);
    free(list);
    return security;
}

static void revoked_while_it_runs(void **state)
{
    story s;
    rig r;
    hsb_options o;
    hsb_error err;
    (void)state;
    begin(&s);
    memset(&o, 0, sizeof o);
    memset(&r, 0, sizeof r);
    o.require_client_certificate = true;
    r.on_request = name_client;
    rig_open_with(&r, o, security_with_list(&s, 6));
    SSL_SESSION *session = expect(&r, &s, NULL, false);
    SSL_SESSION_free(expect(&r, &s, session, true));
    hsb_security *renewed = security_with_list(&s, s.certs[LEAF].serial);
    assert_true(hsb_server_set_security(r.server, 0, renewed, &err));
    hsb_security_free(renewed);
    s.text = "client certificate: revoked";
    s.alert = SSL_AD_CERTIFICATE_REVOKED;
    expect(&r, &s, session, false);
    expect(&r, &s, NULL, false);
    SSL_SESSION_free(session);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_it_should_be),
        cmocka_unit_test(pinned),
        cmocka_unit_test(pin_with_invented_names),
        cmocka_unit_test(pin_with_new_dates),
        cmocka_unit_test(pin_that_expired),
        cmocka_unit_test(other_outer_parameters),
        cmocka_unit_test(lenient_signature),
        cmocka_unit_test(expired_anchor),
        cmocka_unit_test(anchor_of_one_step),
        cmocka_unit_test(anchor_with_name_constraints),
        cmocka_unit_test(anchor_that_may_not_sign),
        cmocka_unit_test(anchor_with_unknown_extension),
        cmocka_unit_test(intermediate_with_name_constraints),
        cmocka_unit_test(key_of_a_web_server),
        cmocka_unit_test(leaf_as_issuer),
        cmocka_unit_test(session_ends_with_the_path),
        cmocka_unit_test(revoked_while_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
