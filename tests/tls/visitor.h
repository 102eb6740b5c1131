/* Clients that tell how they are greeted: their certificate, name and session, the alert that
   they hear.  Include client.h before. */
#ifndef TESTS_VISITOR_H
#define TESTS_VISITOR_H

#define DATA "tests/data/"

/* The one version that visitors speak; visitors_of_both_versions sets it. */
static int visitor_version = TLS1_2_VERSION;

/* All zero: the name localhost, no certificate, no session. */
typedef struct visitor {
    const char  *cert, *key;            /* of the client: DATA "client-NAME.pem", NAME.key      */
    void       (*present)(SSL *ssl, const void *what);  /* instead: brings a chain and its key  */
    const void  *what;
    const char  *name;                  /* to ask for; "": none                                 */
    const char  *alpn;                  /* names, each after a byte with its length             */
    const char  *suites;
    SSL_SESSION *session;               /* to resume                                            */
    int          port;                  /* 0: the server's first                                */
} visitor;

/* What came of it. */
typedef struct visit {
    client *c;
    bool    up;
    int     alert;                      /* the last one that was heard; -1: none                */
} visit;

static inline void visit_hear(const SSL *ssl, int where, int ret)
{
    visit *v = SSL_get_ex_data(ssl, 0);
    if (where == SSL_CB_READ_ALERT && v)
        v->alert = ret & 0xFF;
}

static inline SSL_CTX *visitor_context(void)
{
    static SSL_CTX *one;
    if (!one) {
        one = SSL_CTX_new(TLS_client_method());
        assert_non_null(one);
        SSL_CTX_set_security_level(one, 0);
        SSL_CTX_set_options(one, SSL_OP_NO_TICKET);
        SSL_CTX_set_session_cache_mode(one, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_info_callback(one, visit_hear);
    }
    return one;
}

static inline SSL *visitor_ssl(const visitor *who)
{
    SSL *ssl = SSL_new(visitor_context());
    assert_non_null(ssl);
    SSL_set_min_proto_version(ssl, visitor_version);
    SSL_set_max_proto_version(ssl, visitor_version);
    if (who->present)
        who->present(ssl, who->what);
    if (who->cert) {
        char path[128];
        snprintf(path, sizeof path, DATA "client-%s.pem", who->cert);
        assert_int_equal(SSL_use_certificate_chain_file(ssl, path), 1);
        snprintf(path, sizeof path, DATA "client-%s.key", who->key ? who->key : who->cert);
        assert_int_equal(SSL_use_PrivateKey_file(ssl, path, SSL_FILETYPE_PEM), 1);
    }
    if (!who->name || who->name[0])
        SSL_set_tlsext_host_name(ssl, (char *)(uintptr_t)(who->name ? who->name : "localhost"));
    if (who->alpn)
        assert_int_equal(SSL_set_alpn_protos(ssl, (const unsigned char *)who->alpn,
                                             (unsigned)strlen(who->alpn)), 0);
    if (who->suites)
        assert_int_equal(SSL_set_cipher_list(ssl, who->suites), 1);
    if (who->session)
        assert_int_equal(SSL_set_session(ssl, who->session), 1);
    SSL_set_connect_state(ssl);
    return ssl;
}

/* One step: 1: up, 0: waits, -1: failed. */
static inline int visit_step(client *c)
{
    ERR_clear_error();
    int n = SSL_do_handshake(c->ssl), why = n == 1 ? 0 : SSL_get_error(c->ssl, n);
    return n == 1 ? 1 : why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static inline void visit_begin(visit *v, rig *r, const visitor *who)
{
    v->up = false;
    v->alert = -1;
    v->c = client_new(r, who->port ? who->port : r->port, 0);
    v->c->ssl = visitor_ssl(who);
    SSL_set_ex_data(v->c->ssl, 0, v);
    SSL_set_fd(v->c->ssl, v->c->fd);
}

static inline void visit_go_on(visit *v)
{
    int64_t end = clock_ms() + PATIENCE_MS;
    int step;
    while ((step = visit_step(v->c)) == 0) {
        if (clock_ms() > end)
            fail_msg("no TLS handshake");
        client_wait(v->c, 1);
    }
    v->up = step > 0;
}

static inline void visit_start(visit *v, rig *r, const visitor *who)
{
    visit_begin(v, r, who);
    visit_go_on(v);
}

/* To the end of one that is refused, with this alert, and with this text on our side.  In TLS 1.3
   a client is through before the server has looked at its certificate, and hears of it when it
   waits for an answer. */
static inline void visit_refused_here(visit *v, rig *r, int alert, const char *text)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    visit_go_on(v);
    if (v->up && visitor_version == TLS1_3_VERSION) {
        try_say(v->c, request, sizeof request - 1);
        hear_more(v->c, text);
        v->up = v->c->len > 0;
    }
    if (v->up)
        fail_msg("let in: %s", text);
    hang_up(v->c);
    turn_until(r, all_closed, "the refused one");
    assert_string_equal(r->told.text, text);
    if (v->alert != alert)
        fail_msg("%s: heard alert %d, not %d", text, v->alert, alert);
}

static inline void visit_refused(rig *r, const visitor *who, int alert, const char *text)
{
    visit v;
    visit_begin(&v, r, who);
    visit_refused_here(&v, r, alert, text);
}

/* A whole one: the handshake, one request with this answer, goodbye.  Returns its session, to
   free. */
static inline SSL_SESSION *visit_once(rig *r, const visitor *who, bool resumed, const char *body)
{
    visit v;
    visit_start(&v, r, who);
    if (!v.up)
        fail_msg("refused with alert %d: %s", v.alert, r->told.text);
    assert_int_equal(SSL_session_reused(v.c->ssl), resumed);
    answer a = ask_path(v.c, "GET", "/", "");
    assert_answer(a, 200, body);
    SSL_SESSION *session = SSL_get1_session(v.c->ssl);
    hang_up(v.c);
    turn_until(r, all_closed, "the goodbye");
    return session;
}

/* The same, twice; the second one resumed or not. */
static inline void visit_twice(rig *r, const visitor *first, const visitor *second, bool resumed,
                               const char *body)
{
    visitor again = *second;
    again.session = visit_once(r, first, false, body);
    SSL_SESSION_free(visit_once(r, &again, resumed, body));
    SSL_SESSION_free(again.session);
}

/* All tests twice. */
static inline int visitors_speak_1_2(void **state)
{
    (void)state;
    visitor_version = TLS1_2_VERSION;
    return 0;
}

static inline int visitors_speak_1_3(void **state)
{
    (void)state;
    visitor_version = TLS1_3_VERSION;
    return 0;
}

#define visitors_of_both_versions(name, tests) \
    (cmocka_run_group_tests_name(name ", TLS 1.2", tests, visitors_speak_1_2, NULL) + \
     cmocka_run_group_tests_name(name ", TLS 1.3", tests, visitors_speak_1_3, NULL))

/* --- the server's side ------------------------------------------------------------------- */
static inline void say_ok(rig *r, hsb_request *req)
{
    (void)r;
    hsb_respond(req, 200, "text/plain", hsb_text("ok"));
}

static inline hsb_security_desc desc_of(const char *name, const char *trusted)
{
    static char paths[8][128];          /* good for some calls                                  */
    static int next;
    hsb_security_desc desc;
    memset(&desc, 0, sizeof desc);
    char *chain = paths[next++ % 8], *key = paths[next++ % 8];
    snprintf(chain, 128, DATA "%s.pem", name);
    snprintf(key, 128, DATA "%s.key", name);
    desc.identity.chain = hsb_pem_file(chain);
    desc.identity.key = hsb_pem_file(key);
    if (trusted)
        desc.trusted = hsb_pem_file(trusted);
    return desc;
}

static inline hsb_security *security_of(const hsb_security_desc *desc)
{
    hsb_error err;
    hsb_security *s = hsb_security_new(desc, &err);
    if (!s)
        fail_msg("%s", err.text);
    return s;
}

/* With this security, which goes to the server. */
static inline void rig_open_with(rig *r, hsb_options options, hsb_security *security)
{
    hsb_error err;
    rig_prepare(r, &options, true);
    r->server = hsb_bind_secure("127.0.0.1", 0, security, &r->options, &err);
    if (!r->server)
        fail_msg("%s", err.text);
    hsb_security_free(security);
    r->port = hsb_server_port(r->server);
}

#endif
