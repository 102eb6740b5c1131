/* Client certificates, from both ends of a real connection: who gets in, as whom, and what
   everybody is told otherwise.  tests/unit/tls.c has the engine's side of it. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "client.h"
#include "visitor.h"

/* --- the server: it answers with whom it sees ---------------------------------------------- */
static void greet(rig *r, hsb_request *req)
{
    char text[512] = "nobody";
    const hsb_certificate *c = hsb_conn_tls(hsb_request_conn(req))->client;
    (void)r;
    if (c)
        snprintf(text, sizeof text, "%.*s by %.*s", (int)c->subject.len, c->subject.ptr,
                 (int)c->issuer.len, c->issuer.ptr);
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

/* A failed handshake has no TLS to ask about, in on_error as in on_close. */
static void told_early(rig *r, hsb_conn *conn, const hsb_error *err)
{
    (void)err;
    assert_non_null(conn);
    if (r->handshakes < r->accepts)
        assert_null(hsb_conn_tls(conn));
}

static void closed(rig *r, hsb_conn *conn, const hsb_error *why)
{
    if (why->status == HSB_ERR_TLS) {
        assert_null(hsb_conn_tls(conn));
        assert_int_equal(r->errors > 0, true);          /* told before */
    }
}

static void serve(rig *r, bool request, bool require)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    memset(r, 0, sizeof *r);
    o.request_client_certificate = request;
    o.require_client_certificate = require;
    r->on_request = greet;
    r->on_error = told_early;
    r->on_close = closed;
    const hsb_security_desc desc = desc_of("server-p256", DATA "trusted.pem");
    rig_open_with(r, o, security_of(&desc));
}

#define BY_CA "CN=Test CA,O=httpsbind tests"

/* --- the table ---------------------------------------------------------------------------------- */

/* Not asked: nobody is anybody, whatever he has. */
static void not_asked(void **state)
{
    const visitor nobody = { 0 }, ann = { .cert = "p256" }, late = { .cert = "expired" };
    rig r;
    (void)state;
    serve(&r, false, false);
    visit_twice(&r, &nobody, &nobody, true, "nobody");
    visit_twice(&r, &ann, &ann, true, "nobody");
    visit_twice(&r, &late, &late, true, "nobody");
    visit_twice(&r, &nobody, &ann, true, "nobody");
    assert_int_equal(r.handshakes, 8);
    assert_int_equal(r.errors, 0);
    rig_close(&r);
}

/* Asked, and none sent: may go on, and does not become somebody by resuming with one. */
static void none_sent(void **state)
{
    const visitor nobody = { 0 }, ann = { .cert = "p256" };
    rig r;
    (void)state;
    serve(&r, true, false);
    visit_twice(&r, &nobody, &nobody, true, "nobody");
    visit_twice(&r, &nobody, &ann, true, "nobody");
    assert_int_equal(r.handshakes, 4);
    assert_int_equal(r.errors, 0);
    rig_close(&r);
}

/* No way in: alert and texts, on both ends; and then somebody else is served. */
static void refused(rig *r, const visitor *who, int alert, const char *text)
{
    const visitor ann = { .cert = "p256" };
    const int accepts = r->accepts, handshakes = r->handshakes, errors = r->errors,
              closes = r->closes, heads = r->heads;
    visit_refused(r, who, alert, text);
    assert_int_equal(r->told.status, HSB_ERR_TLS);
    assert_int_not_equal(r->told.tls_code, 0);
    assert_string_equal(r->closed_with.text, text);
    assert_int_equal(r->closed_with.status, HSB_ERR_TLS);
    assert_int_equal(r->accepts, accepts + 1);
    assert_int_equal(r->errors, errors + 1);
    assert_int_equal(r->closes, closes + 1);
    assert_int_equal(r->handshakes, handshakes);
    assert_int_equal(r->heads, heads);
    SSL_SESSION_free(visit_once(r, &ann, false, "CN=ann,O=Example by " BY_CA));
    assert_int_equal(r->errors, errors + 1);
}

static void none_sent_but_required(void **state)
{
    visitor nobody = { 0 };
    rig r;
    (void)state;
    for (int request = 0; request < 2; request++) {     /* "require" asks by itself */
        serve(&r, request, true);
        for (int i = 0; i < 2; i++)
            refused(&r, &nobody, visitor_version == TLS1_3_VERSION ? SSL_AD_CERTIFICATE_REQUIRED
                                                                   : SSL_AD_HANDSHAKE_FAILURE,
                    "TLS: client certificate: none was sent");
        rig_close(&r);
    }
}

static void bad_ones(void **state)
{
    static const struct { const char *cert, *key; int alert; const char *text; } bad[] = {
        { "expired", NULL, SSL_AD_CERTIFICATE_EXPIRED, "client certificate: expired on 2021-01-01" },
        { "not-yet", NULL, SSL_AD_CERTIFICATE_EXPIRED,
          "client certificate: not valid before 2100-01-01" },
        { "intermediate-expired", NULL, SSL_AD_CERTIFICATE_EXPIRED,
          "client certificate, number 2 of its chain: expired on 2021-01-01" },
        { "other-ca", NULL, SSL_AD_UNKNOWN_CA,
          "client certificate: not issued by anybody who is trusted" },
        { "self-signed", NULL, SSL_AD_UNKNOWN_CA,
          "client certificate: not issued by anybody who is trusted" },
        { "intermediate-missing", "intermediate", SSL_AD_UNKNOWN_CA,
          "client certificate: not issued by anybody who is trusted" },
        { "impostor", NULL, SSL_AD_UNKNOWN_CA,  /* its authority key identifier differs       */
          "client certificate: not issued by anybody who is trusted" },
        { "server-auth", NULL, SSL_AD_UNSUPPORTED_CERTIFICATE,
          "client certificate: extended key usage does not allow clients" },
        { "bad-signature", "p256", SSL_AD_BAD_CERTIFICATE, "client certificate: wrong signature" },
        { "intermediate-bad-signature", "intermediate", SSL_AD_BAD_CERTIFICATE,
          "client certificate: wrong signature" },
        { "chain100", NULL, SSL_AD_UNSUPPORTED_CERTIFICATE,
          "client certificate, number 6 of its chain: more than 5 certificates, or too large" },
    };
    (void)state;
    for (int require = 0; require < 2; require++) {
        rig r;
        serve(&r, !require, require);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            const visitor who = { .cert = bad[i].cert, .key = bad[i].key };
            refused(&r, &who, bad[i].alert, bad[i].text);
        }
        rig_close(&r);
    }
}

/* An RSA key of 8192 bits is more than BearSSL reads. */
static void large_key(void **state)
{
    rig r;
    visit v;
    const visitor nobody = { 0 };
    (void)state;
    serve(&r, true, false);
    visit_begin(&v, &r, &nobody);
    assert_int_equal(SSL_use_certificate_chain_file(v.c->ssl, DATA "rsa8192.pem"), 1);
    assert_int_equal(SSL_use_PrivateKey_file(v.c->ssl, DATA "rsa8192.key", SSL_FILETYPE_PEM), 1);
    visit_refused_here(&v, &r, SSL_AD_UNSUPPORTED_CERTIFICATE,
                       "client certificate: key not supported: RSA of 2048 to 4096 bits, P-256, "
                       "P-384 and P-521 are");
    assert_int_equal(r.handshakes, 0);
    rig_close(&r);
}

/* --- who is let in is who he is ------------------------------------------------------------------- */
static const char *expected;            /* the file of the certificate that must be told       */
static int told_times;

static int64_t seconds_of(const ASN1_TIME *t)
{
    struct tm tm;
    assert_int_equal(ASN1_TIME_to_tm(t, &tm), 1);
    return (int64_t)timegm(&tm);
}

static void name_is(hsb_str got, X509_NAME *name)
{
    char text[1024] = "";
    BIO *bio = BIO_new(BIO_s_mem());
    X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    int n = BIO_read(bio, text, sizeof text - 1);
    if (!hsb_equal(got, text) || (n <= 0 && got.len))
        fail_msg("\"%.*s\", but OpenSSL reads \"%s\"", (int)got.len, got.ptr, text);
    BIO_free(bio);
}

static void tell(rig *r, hsb_request *req)
{
    const hsb_certificate *c = hsb_conn_tls(hsb_request_conn(req))->client;
    FILE *f = fopen(expected, "r");
    assert_non_null(f);
    X509 *x509 = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    unsigned char *der = NULL, hash[32];
    unsigned len = sizeof hash;
    assert_non_null(c);
    assert_int_equal(c->der.len, i2d_X509(x509, &der));
    assert_memory_equal(c->der.ptr, der, c->der.len);
    X509_digest(x509, EVP_sha256(), hash, &len);
    assert_memory_equal(c->sha256, hash, 32);
    name_is(c->subject, X509_get_subject_name(x509));
    name_is(c->issuer, X509_get_issuer_name(x509));
    assert_int_equal(c->not_before, seconds_of(X509_get0_notBefore(x509)));
    assert_int_equal(c->not_after, seconds_of(X509_get0_notAfter(x509)));
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
    assert_int_equal(c->serial.len, ASN1_STRING_length(serial));
    assert_memory_equal(c->serial.ptr, ASN1_STRING_get0_data(serial), c->serial.len);
    unsigned char *key = NULL, sha256[32];
    len = (unsigned)i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &key);
    assert_non_null(SHA256(key, len, sha256));
    assert_memory_equal(c->key_sha256, sha256, 32);
    OPENSSL_free(key);
    OPENSSL_free(der);
    X509_free(x509);
    told_times++;
    (void)r;
    hsb_respond(req, 200, "text/plain", hsb_text("known"));
}

static void verified(void **state)
{
    static const char *const good[] = { "p256", "p384", "p521", "rsa", "under-rsa", "intermediate",
                                        "empty-subject" };
    rig r;
    (void)state;
    told_times = 0;
    for (int require = 0; require < 2; require++) {
        serve(&r, !require, require);
        r.on_request = tell;
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            const visitor who = { .cert = good[i] }, nobody = { 0 };
            char path[128];
            snprintf(path, sizeof path, DATA "client-%s.pem", good[i]);
            expected = path;
            visit_twice(&r, &who, i % 2 ? &nobody : &who, true, "known");
        }
        assert_int_equal(r.errors, 0);
        rig_close(&r);
    }
    assert_int_equal(told_times, 28);
}

/* As a user would: libcurl with a good, a bad and no certificate. */
static size_t drop_bytes(char *bytes, size_t size, size_t count, void *user)
{
    (void)bytes, (void)user;
    return size * count;
}

static CURLcode curl_as(rig *r, const char *cert)
{
    char pem[128], key[128];
    CURL *easy = curl_new(r, "/");
    snprintf(pem, sizeof pem, DATA "client-%s.pem", cert ? cert : "");
    snprintf(key, sizeof key, DATA "client-%s.key", cert ? cert : "");
    if (cert) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, pem);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, key);
    }
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_bytes);
    CURLcode code = curl_run(r, easy);
    curl_easy_cleanup(easy);
    turn_until(r, all_closed, "curl's goodbye");
    return code;
}

static void with_curl(void **state)
{
    rig r;
    (void)state;
    serve(&r, false, true);
    assert_int_equal(curl_as(&r, "rsa"), CURLE_OK);
    for (int i = 0; i < 2; i++) {       /* in TLS 1.3 curl hears of it when it reads the answer */
        const CURLcode code = curl_as(&r, i ? "other-ca" : NULL);
        assert_true(code == CURLE_SSL_CONNECT_ERROR || code == CURLE_RECV_ERROR);
    }
    assert_int_equal(curl_as(&r, "p256"), CURLE_OK);
    assert_int_equal(r.requests, 2);
    rig_close(&r);
}

/* --- on_handshake may refuse ------------------------------------------------------------------------ */
static bool only_ann(rig *r, hsb_conn *conn)
{
    const hsb_certificate *c = hsb_conn_tls(conn)->client;
    (void)r;
    return c && hsb_equal(c->subject, "CN=ann,O=Example");
}

/* Up on the client's side, and closed as it should be before a request was heard. */
static SSL_SESSION *turned_away(rig *r, const visitor *who, bool resumed)
{
    const int handshakes = r->handshakes, errors = r->errors;
    visit v;
    visit_start(&v, r, who);
    assert_true(v.up);
    assert_int_equal(SSL_session_reused(v.c->ssl), resumed);
    static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    try_say(v.c, text, sizeof text - 1);
    hear_end(v.c);
    assert_int_equal(v.c->len, 0);
    assert_true(v.c->notified);
    SSL_SESSION *session = SSL_get1_session(v.c->ssl);
    hang_up(v.c);
    turn_until(r, all_closed, "who was turned away");
    assert_int_equal(r->handshakes, handshakes + 1);
    assert_int_equal(r->errors, errors);
    assert_int_equal(r->closed_with.status, HSB_OK);
    return session;
}

/* In TLS 1.3 tickets come with the first answer, so who gets none has nothing to resume. */
static void on_handshake_refuses(void **state)
{
    const bool resumed = visitor_version == TLS1_2_VERSION;
    const visitor ann = { .cert = "p256" };
    visitor bob = { .cert = "p384" }, nobody = { 0 };
    rig r;
    (void)state;
    serve(&r, true, false);
    r.on_handshake = only_ann;
    visit_twice(&r, &ann, &ann, true, "CN=ann,O=Example by " BY_CA);
    const int heads = r.heads;
    bob.session = turned_away(&r, &bob, false);
    SSL_SESSION_free(turned_away(&r, &bob, resumed));
    nobody.session = turned_away(&r, &nobody, false);
    SSL_SESSION_free(turned_away(&r, &nobody, resumed));
    assert_int_equal(r.heads, heads);
    SSL_SESSION_free(bob.session);
    SSL_SESSION_free(nobody.session);
    rig_close(&r);
}

/* --- what is advertised, and what is refused at once ------------------------------------------------- */

/* client_authorities is only what is said; trusted is what counts. */
static void advertised(void **state)
{
    const visitor ann = { .cert = "p256" }, other = { .cert = "other-ca" };
    hsb_options o;
    rig r;
    (void)state;
    memset(&o, 0, sizeof o);
    memset(&r, 0, sizeof r);
    o.request_client_certificate = true;
    r.on_request = greet;
    hsb_security_desc desc = desc_of("server-p256", DATA "ca.pem");
    desc.client_authorities = hsb_pem_file(DATA "ca-other.pem");
    rig_open_with(&r, o, security_of(&desc));
    visit v;
    visit_start(&v, &r, &ann);
    assert_true(v.up);
    assert_int_equal(sk_X509_NAME_num(SSL_get_client_CA_list(v.c->ssl)), 1);
    hsb_str said = hsb_text("CN=Another CA,O=httpsbind tests");
    name_is(said, sk_X509_NAME_value(SSL_get_client_CA_list(v.c->ssl), 0));
    hang_up(v.c);
    turn_until(&r, all_closed, "ann's goodbye");
    refused(&r, &other, SSL_AD_UNKNOWN_CA, "client certificate: not issued by anybody who is trusted");
    rig_close(&r);
}

/* To ask, and to trust nobody, would let everybody in. */
static void nobody_trusted(void **state)
{
    const hsb_security_desc desc = desc_of("server-p256", NULL);
    hsb_security *s = security_of(&desc);
    rig r;
    (void)state;
    memset(&r, 0, sizeof r);
    for (int require = 0; require < 2; require++) {
        hsb_options o;
        hsb_error err;
        memset(&o, 0, sizeof o);
        o.request_client_certificate = !require;
        o.require_client_certificate = require;
        assert_null(hsb_bind_secure("127.0.0.1", 0, s, &o, &err));
        assert_int_equal(err.status, HSB_ERR_CERT);
        assert_non_null(strstr(err.text, "trust"));

        hsb_server *plain = hsb_bind("127.0.0.1", 0, &o, &err);
        assert_non_null(plain);
        assert_int_equal(hsb_server_listen(plain, "127.0.0.1", 0, s, &err), -1);
        assert_int_equal(err.status, HSB_ERR_CERT);
        hsb_server_free(plain);
    }
    hsb_security_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_asked),
        cmocka_unit_test(none_sent),
        cmocka_unit_test(none_sent_but_required),
        cmocka_unit_test(bad_ones),
        cmocka_unit_test(large_key),
        cmocka_unit_test(verified),
        cmocka_unit_test(with_curl),
        cmocka_unit_test(on_handshake_refuses),
        cmocka_unit_test(advertised),
        cmocka_unit_test(nobody_trusted),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return visitors_of_both_versions("client certificates", tests);
}
