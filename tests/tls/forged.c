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
    int       list_seconds;         /* until the lists expire; 0: a day                      */
} story;

static story good(void)
{
    story s;
    memset(&s, 0, sizeof s);
    s.certs[LEAF] = certs_plain(0, 1, 0, 1);
    s.certs[MIDDLE] = certs_plain(1, 2, 1, 2);
    s.certs[ROOT] = certs_plain(2, 2, 2, 2);
    memcpy(s.given, s.certs, sizeof s.given);
    s.trusted = 1 << ROOT;
    return s;
}

static void name_client(rig *r, hsb_request *req)
{
    const hsb_certificate *c = hsb_conn_tls(hsb_request_conn(req))->client;
    (void)r;
    hsb_respond(req, 200, "text/plain", c ? c->subject : hsb_text("nobody"));
}

/* What OpenSSL's PEM writer makes of some DER; to free. */
static char *pem_text(const char *name, const bytes *b, int count)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *at, *text;
    for (int i = 0; i < count; i++) {
        PEM_write_bio(bio, name, "", b[i].at, (long)b[i].len);
        OPENSSL_free(b[i].at);
    }
    const long len = BIO_get_mem_data(bio, &at);
    text = calloc((size_t)len + 1, 1);
    memcpy(text, at, (size_t)len);
    BIO_free(bio);
    return text;
}

static char *trusted_text(const story *s)
{
    bytes b[COUNT];
    int count = 0;
    for (int i = 0; i < COUNT; i++)
        if (s->trusted >> i & 1)
            b[count++] = chains_cert(&s->given[i], false);
    return pem_text("CERTIFICATE", b, count);
}

/* Of each CA a list: the intermediate's names this serial, the other one some. */
static char *list_text(const story *s, long serial)
{
    list_spec l;
    bytes b[2];
    memset(&l, 0, sizeof l);
    for (int i = 0; i < 2; i++) {
        l.issuer = i + 1;
        l.signer = s->certs[i + 1].key;
        l.begin = -1;
        l.end = 1;
        l.end_seconds = s->list_seconds;
        l.count = 1;
        l.serials[0] = i == 0 ? serial : 5;
        b[i] = chains_list(&l);
    }
    return pem_text("X509 CRL", b, 2);
}

static void present(SSL *ssl, const void *what)
{
    const story *s = what;
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
}

static visitor visitor_of(const story *s, SSL_SESSION *session)
{
    const visitor who = { .name = "", .present = present, .what = s, .session = session };
    return who;
}

/* serial: of the leaf in the list of its issuer; 0: without lists. */
static hsb_security *security_for(const story *s, long serial, hsb_error *err)
{
    hsb_security_desc desc = desc_of("server-p256", NULL);
    char *text = trusted_text(s), *list = serial ? list_text(s, serial) : NULL;
    desc.trusted.text = hsb_text(text);
    if (list)
        desc.revoked.text = hsb_text(list);
    hsb_security *security = hsb_security_new(&desc, err);
    free(text);
    free(list);
    return security;
}

static void open_for(rig *r, const story *s, long serial)
{
    hsb_options o;
    hsb_error err;
    memset(&o, 0, sizeof o);
    memset(r, 0, sizeof *r);
    o.require_client_certificate = true;
    r->on_request = name_client;
    hsb_security *security = security_for(s, serial, &err);
    if (!security)
        fail_msg("%s", err.text);
    rig_open_with(r, o, security);
}

static SSL_SESSION *comes_in(rig *r, const story *s, SSL_SESSION *session, bool resumed)
{
    const visitor who = visitor_of(s, session);
    return visit_once(r, &who, resumed, "CN=name 0");
}

/* In full, and with the session of that. */
static void let_in(const story *s)
{
    rig r;
    open_for(&r, s, 0);
    SSL_SESSION *session = comes_in(&r, s, NULL, false);
    SSL_SESSION_free(comes_in(&r, s, session, true));
    SSL_SESSION_free(session);
    rig_close(&r);
}

/* The next client, whose certificates are as they should be, is served all the same. */
static void refused(const story *s, int alert, const char *text)
{
    const visitor who = visitor_of(s, NULL);
    rig r;
    open_for(&r, s, 0);
    visit_refused(&r, &who, alert, text);
    visit_refused(&r, &who, alert, text);
    rig_close(&r);
}

static void not_loaded(const story *s, const char *text)
{
    hsb_error err;
    if (security_for(s, 0, &err))
        fail_msg("loaded: %s", text);
    assert_string_equal(err.text, text);
    assert_int_equal(err.status, HSB_ERR_CERT);
}

static void as_it_should_be(void **state)
{
    story s = good();
    (void)state;
    let_in(&s);
    s.certs[LEAF].eku = EKU_CLIENT;
    s.certs[LEAF].eku_critical = true;          /* 0.1.0 refused it */
    let_in(&s);
    s.certs[LEAF].eku = EKU_ANY | EKU_SERVER;
    let_in(&s);
}

/* --- pins: a certificate in trusted that is no CA -------------------------------------------- */
static const char nobody[] = "client certificate: not issued by anybody who is trusted";

static story good_pin(void)
{
    story s = good();
    s.trusted = 1 << LEAF;
    s.certs[LEAF].signer = s.given[LEAF].signer = KEY_RSA;      /* RSA signs the same each time */
    return s;
}

static void pinned(void **state)
{
    const story s = good_pin();
    (void)state;
    let_in(&s);
}

static void pin_with_invented_names(void **state)
{
    story s = good_pin();
    (void)state;
    s.certs[LEAF].issuer = 77;
    s.certs[LEAF].spoil = SPOIL_NO_SIGNATURE;
    refused(&s, SSL_AD_UNKNOWN_CA, nobody);
}

static void pin_with_new_dates(void **state)
{
    story s = good_pin();
    (void)state;
    s.given[LEAF].end = -1;
    refused(&s, SSL_AD_UNKNOWN_CA, nobody);
}

/* Of what expires a day ago. */
static const char *expired(const char *whose)
{
    static char text[120];
    char day[20];
    const time_t yesterday = time(NULL) - 86400;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&yesterday));
    snprintf(text, sizeof text, "%s: expired on %s", whose, day);
    return text;
}

static void pin_that_expired(void **state)
{
    story s = good_pin();
    (void)state;
    s.certs[LEAF].end = s.given[LEAF].end = -1;
    refused(&s, SSL_AD_CERTIFICATE_EXPIRED, expired("client certificate"));
}

/* --- what the CA did not sign --------------------------------------------------------------- */
static void other_outer_parameters(void **state)
{
    story s = good();
    (void)state;
    s.certs[LEAF].spoil = SPOIL_OUTER_NULL;
    refused(&s, SSL_AD_BAD_CERTIFICATE, "client certificate: names two different signature algorithms");
}

static void lenient_signature(void **state)
{
    story s = good();
    (void)state;
    s.certs[LEAF].spoil = SPOIL_LENIENT;
    refused(&s, SSL_AD_BAD_CERTIFICATE, "client certificate: wrong signature");
}

/* --- what the CA may not ---------------------------------------------------------------------- */
static void expired_anchor(void **state)
{
    story s = good();
    (void)state;
    s.given[ROOT].end = -1;
    refused(&s, SSL_AD_CERTIFICATE_EXPIRED, expired("client certificate, its issuer in trusted"));
}

static void anchor_of_one_step(void **state)
{
    story s = good();
    (void)state;
    s.given[ROOT].path_len = 0;
    refused(&s, SSL_AD_BAD_CERTIFICATE,
            "client certificate, its issuer in trusted: issued a longer path than it may");
    s.given[ROOT].path_len = 1;
    let_in(&s);
}

static void anchor_with_name_constraints(void **state)
{
    story s = good();
    (void)state;
    s.trusted |= 1 << LEAF;                     /* comes first */
    for (s.given[ROOT].constraints = 1; s.given[ROOT].constraints <= 2; s.given[ROOT].constraints++)
        not_loaded(&s, "the text given: certificate 2: name constraints are not supported");
}

static void anchor_that_may_not_sign(void **state)
{
    story s = good();
    (void)state;
    s.given[ROOT].usage = 0x80;
    not_loaded(&s, "the text given: certificate 1: key usage forbids this");
}

static void anchor_with_unknown_extension(void **state)
{
    story s = good();
    (void)state;
    s.given[ROOT].unknown = 2;
    not_loaded(&s, "the text given: certificate 1: critical extension not supported");
}

static void intermediate_with_name_constraints(void **state)
{
    story s = good();
    (void)state;
    for (s.certs[MIDDLE].constraints = 1; s.certs[MIDDLE].constraints <= 2; s.certs[MIDDLE].constraints++)
        refused(&s, SSL_AD_UNSUPPORTED_CERTIFICATE,
                "client certificate, number 2 of its chain: name constraints are not supported");
}

static void key_of_a_web_server(void **state)
{
    story s = good();
    (void)state;
    s.certs[LEAF].eku = EKU_SERVER;
    refused(&s, SSL_AD_UNSUPPORTED_CERTIFICATE,
            "client certificate: extended key usage does not allow clients");
}

/* A client that makes itself a CA of its name. */
static void leaf_as_issuer(void **state)
{
    story s = good();
    (void)state;
    s.certs[MIDDLE].ca = 0;
    refused(&s, SSL_AD_BAD_CERTIFICATE,
            "client certificate, number 2 of its chain: issued another one, but is no CA");
}

/* --- sessions ------------------------------------------------------------------------------- */

/* A session ends with the intermediate that the leaf needs. */
static void session_ends_with_the_path(void **state)
{
    story s = good();
    rig r;
    struct timespec pause = { 4, 200 * 1000 * 1000 };
    (void)state;
    s.certs[MIDDLE].end_seconds = 4;
    open_for(&r, &s, 0);
    SSL_SESSION *session = comes_in(&r, &s, NULL, false);
    s.certs[MIDDLE].end_seconds = 0;
    nanosleep(&pause, NULL);
    SSL_SESSION_free(comes_in(&r, &s, session, false));     /* in full, with a new intermediate */
    SSL_SESSION_free(session);
    rig_close(&r);
}

/* The CA revokes while the server runs: a new security, and neither the certificate nor the
   session of before gets in. */
static void revoked_while_it_runs(void **state)
{
    const story s = good();
    rig r;
    hsb_error err;
    (void)state;
    open_for(&r, &s, 6);
    SSL_SESSION *first = comes_in(&r, &s, NULL, false), *session = comes_in(&r, &s, first, true);
    SSL_SESSION_free(first);
    hsb_security *renewed = security_for(&s, s.certs[LEAF].serial, &err);
    assert_non_null(renewed);
    assert_true(hsb_server_set_security(r.server, 0, renewed, &err));
    hsb_security_free(renewed);
    for (int i = 0; i < 2; i++) {
        const visitor who = visitor_of(&s, i ? NULL : session);
        visit_refused(&r, &who, SSL_AD_CERTIFICATE_REVOKED, "client certificate: revoked");
    }
    SSL_SESSION_free(session);
    rig_close(&r);
}

/* A list that expires while it is loaded lets nobody in, with a session or without, until
   another one is loaded. */
static void list_expires_while_it_runs(void **state)
{
    story s = good();
    rig r;
    hsb_error err;
    char text[120], day[20];
    struct timespec pause = { 4, 200 * 1000 * 1000 };
    (void)state;
    s.list_seconds = 4;
    const time_t end = time(NULL) + s.list_seconds;
    open_for(&r, &s, 6);
    SSL_SESSION *session = comes_in(&r, &s, NULL, false);
    nanosleep(&pause, NULL);
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&end));
    snprintf(text, sizeof text, "client certificate, number 2 of its chain: the "
             "revocation list of its issuer expired on %s", day);
    for (int i = 0; i < 2; i++) {
        const visitor who = visitor_of(&s, i ? NULL : session);
        visit_refused(&r, &who, SSL_AD_CERTIFICATE_UNKNOWN, text);
    }
    SSL_SESSION_free(session);
    s.list_seconds = 0;
    hsb_security *renewed = security_for(&s, 6, &err);
    assert_non_null(renewed);
    assert_true(hsb_server_set_security(r.server, 0, renewed, &err));
    hsb_security_free(renewed);
    SSL_SESSION_free(comes_in(&r, &s, NULL, false));
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
        cmocka_unit_test(list_expires_while_it_runs),
    };
    return visitors_of_both_versions("forged", tests);
}
