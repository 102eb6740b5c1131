/* A CA of the tests' own, which believes everything, and lies as it is told.  It is a server of
   httpsbind.h on a thread of its own; after acme/pebble.h.                                  */
#ifndef TESTS_ACME_CA_H
#define TESTS_ACME_CA_H

typedef enum lie {
    LIE_NONE,
    /* how any step may answer */
    LIE_GARBAGE, LIE_HTML, LIE_HUGE, LIE_REDIRECT, LIE_STALL, LIE_SLOW, LIE_CUT, LIE_EMPTY, LIE_DEEP,
    LIE_LIST, LIE_ERROR, LIE_RATE, LIE_NOT_HTTP, LIE_HALF_JSON, LIE_BAD_NONCE,
    LIES_OF_STEPS,
    /* what only some can */
    LIE_OTHER_NAME, LIE_OTHER_KEY, LIE_EXPIRED, LIE_NO_PEM, LIE_WRONG_TYPE, LIE_NUL,
    LIE_OTHER_IDENTIFIER, LIE_TOKEN, LIE_NO_CHALLENGE, LIE_INVALID, LIE_INVALID_ORDER, LIE_PENDING,
    LIE_PROCESSING, LIE_NO_LOCATION, LIE_HTTP_URL, LIE_LONG_URL, LIE_NO_NONCE, LIE_REPLACES
} lie;

static const char *const steps[] = {
    "/dir", "/nonce", "/account", "/order", "/authz", "/challenge", "/finalize", "/poll", "/cert"
};
enum { STEPS = sizeof steps / sizeof *steps };

typedef struct ca {
    hsb_server *server;
    pthread_t   thread;
    int         port, dead_port;
    char        directory[64];
    lie         lie;
    const char *at;                     /* the step that lies                                 */
    const char *name;                   /* whom it certifies                                  */
    bool        validated, finalized;
    bool        slow;                   /* the order is processing when it is finalized        */
    bool        silent;                 /* the next answer has no nonce                        */
    int         orders, questions, nonces;
    char        last_order[2048];       /* payload of newOrder                                */
    char        ari[256];               /* the answer about renewal; "": there is none        */
    char        pem[8192];
    EVP_PKEY   *key;
} ca;

static inline void ca_json(ca *c, hsb_request *req, int status, const char *format, ...)
{
    char text[4096], nonce[32];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *at = text; *at; at++)            /* the formats are easier to read this way    */
        if (*at == '\'')
            *at = '"';
    snprintf(nonce, sizeof nonce, "nonce-%d", ++c->nonces);
    if (c->lie != LIE_NO_NONCE && !c->silent)
        hsb_response_header(req, "Replay-Nonce", nonce);
    c->silent = false;
    hsb_respond(req, status, status < 300 ? "application/json" : "application/problem+json",
                (hsb_str){ text, (size_t)len });
}

static inline void ca_drip(hsb_request *req, void *arg)
{
    hsb_response_write(req, hsb_text(" "));
    hsb_response_flush(req);
    hsb_request_after(req, 20, ca_drip, arg);
}

static inline void ca_nothing(hsb_request *req, void *arg)
{
    (void)req;
    (void)arg;
}

static inline void ca_lie(ca *c, hsb_request *req)
{
    static char huge[10 << 20];
    static const char deep[] = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[";
    switch (c->lie) {
    case LIE_GARBAGE:
        hsb_respond(req, 200, "application/json", (hsb_str){ "\xFF\x00\xFE{\"\\", 6 });
        return;
    case LIE_HTML:
        hsb_respond(req, 503, "text/html; charset=utf-8", hsb_text("<html>\x1b[2Jmaintenance"));
        return;
    case LIE_HUGE:
        memset(huge, ' ', sizeof huge);
        hsb_respond(req, 200, "application/json", (hsb_str){ huge, sizeof huge });
        return;
    case LIE_REDIRECT:
        hsb_respond_redirect(req, 302, "https://localhost:1/elsewhere");
        return;
    case LIE_STALL:
        hsb_request_after(req, 100000, ca_nothing, NULL);
        return;
    case LIE_SLOW:
        hsb_response_begin(req, 200, 100000);
        ca_drip(req, NULL);
        return;
    case LIE_CUT:
        hsb_response_begin(req, 200, 1000);
        hsb_response_write(req, hsb_text("{\"status\":"));
        hsb_response_abort(req);
        return;
    case LIE_EMPTY:
        hsb_respond(req, 200, NULL, hsb_text(""));
        return;
    case LIE_DEEP:
        hsb_respond(req, 200, "application/json", hsb_text(deep));
        return;
    case LIE_LIST:
        hsb_respond(req, 200, "application/json", hsb_text("[{}]"));
        return;
    case LIE_ERROR:
        ca_json(c, req, 500, "{'type':'urn:ietf:params:acme:error:serverInternal',"
                "'detail':'the database\\u0007 is away'}");
        return;
    case LIE_RATE:
        hsb_response_header(req, "Retry-After", "7200");
        ca_json(c, req, 429, "{'type':'urn:ietf:params:acme:error:rateLimited',"
                "'detail':'too many'}");
        return;
    case LIE_NOT_HTTP:
        hsb_conn_close(hsb_request_conn(req), true);
        hsb_respond(req, 200, NULL, hsb_text(""));
        return;
    case LIE_HALF_JSON:
        hsb_respond(req, 200, "application/json", hsb_text("{\"status\":\"valid\",\"newNonce\":\"htt"));
        return;
    case LIE_BAD_NONCE:
        ca_json(c, req, 400, "{'type':'urn:ietf:params:acme:error:badNonce','detail':'again'}");
        return;
    default:
        assert_true(false);
    }
}

/* --- certificates --------------------------------------------------------------------------- */
static inline void ca_issue(ca *c, hsb_str csr)
{
    unsigned char der[8192];
    const unsigned char *at = der;
    size_t len = hsb__json_base64((hsb_str){ csr.ptr + 1, csr.len - 2 }, der, sizeof der);
    X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)len);
    must_be(req && X509_REQ_verify(req, X509_REQ_get0_pubkey(req)) == 1, "a CSR that is signed");
    X509 *x = X509_new();
    STACK_OF(X509_EXTENSION) *wanted = X509_REQ_get_extensions(req);
    must_be(sk_X509_EXTENSION_num(wanted) == 1, "a CSR with names");
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1000 + c->orders);
    ASN1_TIME_set(X509_getm_notBefore(x), time(NULL) + leap - 3600);
    ASN1_TIME_set(X509_getm_notAfter(x), time(NULL) + leap +
                  (c->lie == LIE_EXPIRED ? -1 : 90 * 86400 - 3600));
    X509_set_pubkey(x, c->lie == LIE_OTHER_KEY ? c->key : X509_REQ_get0_pubkey(req));
    X509_NAME_add_entry_by_txt(X509_get_issuer_name(x), "CN", MBSTRING_UTF8,
                               (const unsigned char *)"Test CA", -1, -1, 0);
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    if (c->lie == LIE_OTHER_NAME) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, "DNS:b.test");
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    } else {
        X509_add_ext(x, sk_X509_EXTENSION_value(wanted, 0), -1);
    }
    AUTHORITY_KEYID *id = AUTHORITY_KEYID_new();
    id->keyid = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(id->keyid, (const unsigned char *)"\x01\x02\xFF", 3);
    X509_add1_ext_i2d(x, NID_authority_key_identifier, id, 0, 0);
    AUTHORITY_KEYID_free(id);
    X509_sign(x, c->key, EVP_sha256());
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x);
    int n = BIO_read(bio, c->pem, sizeof c->pem - 1);
    c->pem[n] = '\0';
    BIO_free(bio);
    sk_X509_EXTENSION_pop_free(wanted, X509_EXTENSION_free);
    X509_free(x);
    X509_REQ_free(req);
}

/* The payload of a signed message, decoded into out. */
static inline hsb_str ca_payload(hsb_request *req, char *out, size_t size)
{
    hsb_str payload = hsb__json_member(hsb_request_body(req), "payload");
    must_be(payload.ptr != NULL, "a signed message");
    return hsb__text_make(out, hsb__json_base64(hsb__text_make(payload.ptr + 1, payload.len - 2),
                                                (unsigned char *)out, size));
}

static inline const char *ca_url(const ca *c, const char *path)
{
    static char urls[4][64];
    static int next;
    char *url = urls[next++ % 4];
    snprintf(url, 64, "https://localhost:%d%s", c->port, path);
    return url;
}

static inline void ca_order(ca *c, hsb_request *req, int status)
{
    const char *is = c->lie == LIE_INVALID_ORDER ? "invalid" :
                     c->lie == LIE_PENDING || !c->validated ? "pending" :
                     !c->finalized ? "ready" : c->lie == LIE_PROCESSING ? "processing" : "valid";
    ca_json(c, req, status, "{'status':'%s','authorizations':['%s'],'finalize':'%s'%s%s%s%s}", is,
            ca_url(c, "/authz"), ca_url(c, "/finalize"), c->finalized ? ",'certificate':'" : "",
            c->finalized ? ca_url(c, "/cert") : "", c->finalized ? "'" : "",
            c->lie == LIE_INVALID_ORDER
                ? ",'error':{'type':'urn:ietf:params:acme:error:caa','detail':'CAA forbids it'}" : "");
}

static inline void ca_authorization(ca *c, hsb_request *req)
{
    const char *name = c->lie == LIE_OTHER_IDENTIFIER ? "victim.test" : c->name;
    if (c->lie == LIE_INVALID) {
        ca_json(c, req, 200, "{'status':'invalid','identifier':{'type':'dns','value':'%s'},"
                "'challenges':[{'type':'tls-alpn-01','status':'invalid','error':{'type':"
                "'urn:ietf:params:acme:error:connection','detail':'connection refused'}}]}", name);
        return;
    }
    ca_json(c, req, 200, "{'status':'%s','identifier':{'type':'dns','value':'%s'},'challenges':["
            "{'type':'dns-01','url':'%s','token':'x'},{'type':'%s','url':'%s','token':'%s'}]}",
            c->validated ? "valid" : "pending", name, ca_url(c, "/dns"),
            c->lie == LIE_NO_CHALLENGE ? "other-01" : "tls-alpn-01", ca_url(c, "/challenge"),
            c->lie == LIE_TOKEN ? "../../etc/passwd" : "DGyRejmCefe7v4NfDGDKfA");
}

static inline void ca_directory(ca *c, hsb_request *req)
{
    static char tail[3000];
    memset(tail, 'x', sizeof tail - 1);
    const char *order = c->lie == LIE_HTTP_URL ? "http://localhost/order"
                      : c->lie == LIE_LONG_URL ? tail : ca_url(c, "/order");
    c->silent = true;
    ca_json(c, req, 200, "{'newNonce':'%s','newAccount':'%s','newOrder':'%s'%s%s%s,'meta':{},'k':[1,"
            "-2.5e3,true,null,{}]}", ca_url(c, "/nonce"), ca_url(c, "/account"), order,
            c->ari[0] ? ",'renewalInfo':'" : "", c->ari[0] ? ca_url(c, "/ari") : "",
            c->ari[0] ? "'" : "");
}

static inline void ca_new_order(ca *c, hsb_request *req)
{
    char text[2048];
    hsb_str payload = ca_payload(req, text, sizeof text - 1);
    snprintf(c->last_order, sizeof c->last_order, "%.*s", (int)payload.len, payload.ptr);
    if (c->lie == LIE_REPLACES && strstr(c->last_order, "replaces")) {
        ca_json(c, req, 409, "{'type':'urn:ietf:params:acme:error:alreadyReplaced','detail':'no'}");
        return;
    }
    c->orders++;
    c->validated = c->finalized = false;
    if (c->lie != LIE_NO_LOCATION)
        hsb_response_header(req, "Location", ca_url(c, "/poll"));
    ca_order(c, req, 201);
}

static inline void ca_certificate(ca *c, hsb_request *req)
{
    hsb_str pem = hsb_text(c->pem);
    char nonce[32];
    snprintf(nonce, sizeof nonce, "nonce-%d", ++c->nonces);
    hsb_response_header(req, "Replay-Nonce", nonce);
    if (c->lie == LIE_NO_PEM)
        pem = hsb_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    if (c->lie == LIE_NUL)
        pem.len++;
    hsb_respond(req, 200, c->lie == LIE_WRONG_TYPE ? "application/pkix-cert"
                                                    : "application/pem-certificate-chain", pem);
}

static inline void ca_answer(hsb_request *req, void *user)
{
    ca *c = user;
    char text[16384];
    hsb_str path = hsb_request_path(req);
    c->questions++;
    if (c->lie && c->lie < LIES_OF_STEPS && c->at && hsb_equal(path, c->at))
        ca_lie(c, req);
    else if (hsb_equal(path, "/dir"))
        ca_directory(c, req);
    else if (hsb_equal(path, "/nonce"))
        ca_json(c, req, 200, "{}");
    else if (hsb_equal(path, "/account")) {
        hsb_response_header(req, "Location", ca_url(c, "/account/1"));
        ca_json(c, req, 201, "{'status':'valid'}");
    } else if (hsb_equal(path, "/order"))
        ca_new_order(c, req);
    else if (hsb_equal(path, "/authz"))
        ca_authorization(c, req);
    else if (hsb_equal(path, "/challenge")) {
        c->validated = true;
        ca_json(c, req, 200, "{}");
    } else if (hsb_equal(path, "/finalize")) {
        ca_issue(c, hsb__json_member(ca_payload(req, text, sizeof text), "csr"));
        c->finalized = true;
        if (c->slow)
            ca_json(c, req, 200, "{'status':'processing','authorizations':[],'finalize':'x'}");
        else
            ca_order(c, req, 200);
    } else if (hsb_equal(path, "/poll"))
        ca_order(c, req, 200);
    else if (hsb_equal(path, "/cert"))
        ca_certificate(c, req);
    else if (path.len > 5 && memcmp(path.ptr, "/ari/", 5) == 0)
        ca_json(c, req, 200, "%s", c->ari);
    else
        ca_json(c, req, 404, "{'type':'about:blank','detail':'no such thing'}");
}

static inline void *ca_serve(void *user)
{
    ca *c = user;
    hsb_server_run(c->server, NULL);
    return NULL;
}

/* host: in its certificate. */
static inline void ca_start(ca *c, const char *host)
{
    hsb_error err;
    hsb_options options = { .hooks = { .on_request = ca_answer, .user = c } };
    hsb_security_desc desc = { .self_signed_for = host, .local_ca = inside("api") };
    memset(c, 0, sizeof *c);
    hsb_security *security = hsb_security_new(&desc, &err);
    if (!security)
        fail_msg("%s", err.text);
    c->server = hsb_bind_secure("127.0.0.1", 0, security, &options, &err);
    assert_non_null(c->server);
    hsb_security_free(security);
    c->port = hsb_server_port(c->server);
    c->name = "a.test";
    c->key = EVP_EC_gen("P-256");
    snprintf(c->directory, sizeof c->directory, "https://localhost:%d/dir", c->port);
    assert_int_equal(pthread_create(&c->thread, NULL, ca_serve, c), 0);
}

static inline void ca_stop(ca *c)
{
    hsb_server_close(c->server, true);
    pthread_join(c->thread, NULL);
    hsb_server_free(c->server);
    EVP_PKEY_free(c->key);
}

/* --- an acme that is turned by hand ------------------------------------------------------------ */
typedef struct customer {
    hsb_acme_desc desc;
    hsb_acme     *acme;
    hsb_server   *server;
    int           issued, failed;
    char          text[700];
    int64_t       next;
    char          folder[128], roots[128];
} customer;

static inline void customer_event(const hsb_acme_event *event, void *user)
{
    customer *k = user;
    k->issued += event->state == HSB_ACME_ISSUED;
    k->failed += event->state == HSB_ACME_FAILED;
    k->next = event->next;
    snprintf(k->text, sizeof k->text, "%s", event->text);
    must_be(hsb__utf8_is(hsb__text_of(k->text)), "text of an event");
    for (const char *at = k->text; *at; at++)
        must_be((unsigned char)*at >= ' ' && *at != 127, "one line without controls");
}

static inline void customer_start(customer *k, const char *directory)
{
    static const char *const names[] = { "a.test", NULL };
    hsb_error err;
    k->desc.names = names;
    k->desc.directory = directory;
    k->desc.agree_to_terms = true;
    snprintf(k->folder, sizeof k->folder, "%s", inside("keys"));
    snprintf(k->roots, sizeof k->roots, "%s", inside("api/ca.pem"));
    k->desc.folder = k->folder;
    if (!hsb__pem_is_set(&k->desc.roots))
        k->desc.roots = hsb_pem_file(k->roots);
    k->desc.on_event = customer_event;
    k->desc.user = k;
    k->desc.security.session_cache_bytes = -1;
    k->acme = hsb_acme_new(&k->desc, &err);
    if (!k->acme)
        fail_msg("%s", err.text);
    k->server = hsb_bind_secure("127.0.0.1", 0, hsb_acme_security(k->acme), NULL, &err);
    assert_non_null(k->server);
    assert_true(hsb_server_set_acme(k->server, k->acme, &err));
}

static inline void customer_stop(customer *k)
{
    hsb_server_free(k->server);
    hsb_acme_free(k->acme);
}

/* One turn of the loop, at once; whether a certificate came. */
static inline bool customer_turn(customer *k)
{
    int issued = k->issued, failed = k->failed;
    k->acme->next_try = 0;
    hsb__acme_turn(k->acme);
    if (k->issued + k->failed != issued + failed + 1)
        fail_msg("no event, or several: %s", k->text);
    return k->issued > issued;
}

#endif
