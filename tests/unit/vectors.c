/* Other people's values: the traces of RFC 8448, sections 3 to 5, and cases of Wycheproof, for
   >>secrets, >>record, >>resume13, >>tls13 and RSASSA-PSS of >>key.  See tests/data/README.md. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

/* --- the files -------------------------------------------------------------------------------------- */
typedef struct blob { unsigned char *at; size_t len; } blob;

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Hex up to the first character that is none, into memory that ends with it. */
static blob unhex(const char *hex)
{
    blob b = { NULL, 0 };
    size_t n = 0;
    while (digit_of(hex[n]) >= 0)
        n++;
    b.len = n / 2;
    b.at = must(malloc(b.len + 1));
    for (size_t i = 0; i < b.len; i++)
        b.at[i] = (unsigned char)(digit_of(hex[2 * i]) << 4 | digit_of(hex[2 * i + 1]));
    return b;
}

enum { FIELDS = 9 };
typedef struct reader { FILE *f; char *line, *fields[FIELDS]; size_t space; int count; } reader;

static void reader_open(reader *r, const char *path)
{
    memset(r, 0, sizeof *r);
    r->f = fopen(path, "r");
    assert_non_null(r->f);
}

/* The next line that is no comment, in words.  False: there is none. */
static bool reader_next(reader *r)
{
    do
        if (getline(&r->line, &r->space, r->f) < 0)
            return false;
    while (r->line[0] == '#' || r->line[0] == '\n');
    r->count = 0;
    for (char *word = strtok(r->line, " \n"); word && r->count < FIELDS; word = strtok(NULL, " \n"))
        r->fields[r->count++] = word;
    return true;
}

static void reader_close(reader *r)
{
    fclose(r->f);
    free(r->line);
}

/* --- RFC 8448 ------------------------------------------------------------------------------------------- */
#define TRACES DATA "rfc8448.txt"

/* The value of that name in that section. */
static blob value_of(const char *section, const char *name)
{
    reader r;
    char head[64];
    bool inside = false;
    blob b = { NULL, 0 };
    snprintf(head, sizeof head, "[%s]", section);
    reader_open(&r, TRACES);
    while (!b.at && reader_next(&r))
        if (r.fields[0][0] == '[')
            inside = strcmp(r.fields[0], head) == 0;
        else if (inside && strcmp(r.fields[0], name) == 0)
            b = unhex(r.fields[2]);
    reader_close(&r);
    if (!b.at)
        fail_msg("no %s in [%s]", name, section);
    return b;
}

/* One handshake as our sections compute it. */
typedef struct trace {
    const char *section;
    const hsb__suite13 *suite;
    hsb__crypto crypto;
    hsb__memory memory;
    hsb__pool pool;
    hsb__transcript messages;
    unsigned char stage[48], client[48], server[48];
    hsb__record from_client, from_server, as_server;    /* the last one seals what the server sent */
} trace;

static void trace_open(trace *t, const char *section)
{
    memset(t, 0, sizeof *t);
    t->section = section;
    t->suite = &hsb__suites13[0];
    t->pool.memory = &t->memory;
    hsb__crypto_detect(&t->crypto);
    hsb__record *const all[] = { &t->from_client, &t->from_server, &t->as_server };
    for (int i = 0; i < 3; i++) {
        hsb__record_open(all[i], &t->memory, &t->pool, &t->crypto);
        all[i]->suite = t->suite;
        all[i]->protect_in = all[i]->protect_out = HSB__BY_KEYS;
    }
    hsb__transcript_start(&t->messages, t->suite->hash);
}

static void trace_close(trace *t)
{
    hsb__record_close(&t->from_client);
    hsb__record_close(&t->from_server);
    hsb__record_close(&t->as_server);
    hsb__pool_close(&t->pool);
}

/* skip: 5 of a record in the clear. */
static void trace_add(trace *t, const char *name, size_t skip)
{
    blob b = value_of(t->section, name);
    hsb__transcript_add(&t->messages, b.at + skip, b.len - skip);
    free(b.at);
}

static void set_keys(hsb__keys *k, const unsigned char *secret, const hsb__suite13 *suite)
{
    memcpy(k->secret, secret, sizeof k->secret);
    hsb__keys_derive(k, suite);
}

static void trace_keys(trace *t, bool server, const unsigned char *secret)
{
    set_keys(&(server ? &t->from_server : &t->from_client)->keys.in, secret, t->suite);
    if (server)
        set_keys(&t->as_server.keys.out, secret, t->suite);
}

/* The records of that name hold these bytes, of that type; and what the server sent is what
   we make of them. */
static void trace_record(trace *t, bool server, const char *name, unsigned type, blob wanted)
{
    blob record = value_of(t->section, name), copy = value_of(t->section, name);
    hsb__frame f;
    size_t used;
    assert_int_equal(hsb__record_take(server ? &t->from_server : &t->from_client, copy.at,
                                      copy.len, &used, &f), 0);
    assert_int_equal(used, record.len);
    assert_int_equal(f.type, type);
    assert_int_equal(f.len, wanted.len);
    assert_memory_equal(f.data, wanted.at, wanted.len);
    if (server) {
        assert_true(hsb__record_get_out(&t->as_server, HSB__RECORD_OUT));
        assert_true(hsb__record_put(&t->as_server, (unsigned char)type, wanted.at, wanted.len));
        hsb__record_flush(&t->as_server);
        hsb_str sealed = hsb__record_closed(&t->as_server);
        assert_int_equal(sealed.len, record.len);
        assert_memory_equal(sealed.ptr, record.at, record.len);
        hsb__record_sent(&t->as_server, sealed.len);
    }
    free(record.at);
    free(copy.at);
}

static void trace_data(trace *t, bool server, const char *name, const char *data)
{
    blob wanted = value_of(t->section, data);
    trace_record(t, server, name, HSB__RECORD_DATA, wanted);
    free(wanted.at);
}

static void trace_close_notify(trace *t)
{
    unsigned char bytes[2] = { 1, 0 };
    const blob alert = { bytes, 2 };
    trace_record(t, false, "Record_Client_CloseNotify", HSB__RECORD_ALERT, alert);
    trace_record(t, true, "Record_Server_CloseNotify", HSB__RECORD_ALERT, alert);
}

/* A client's share, out of its ClientHello. */
static hsb_str share_of(blob record, unsigned group)
{
    hsb__hello hello;
    assert_true(hsb__hello_read(&hello, record.at + 5, record.len - 5));
    return hsb__tls13_share(&hello, group);
}

/* From here on both ends have the keys of the handshake. */
static void trace_exchanged(trace *t, const unsigned char *psk, const unsigned char shared[32])
{
    unsigned char secret[48];
    hsb__secret_first_stage(t->suite->hash, psk, psk ? 32 : 0, t->stage);
    hsb__secret_next_stage(t->suite->hash, t->stage, shared, 32, t->stage);
    hsb__secret_derive(&t->messages, t->stage, "c hs traffic", secret);
    trace_keys(t, false, secret);
    memcpy(t->client, secret, 48);
    hsb__secret_derive(&t->messages, t->stage, "s hs traffic", secret);
    trace_keys(t, true, secret);
    memcpy(t->server, secret, 48);
}

/* X25519 with the server's private key gives the server's share, too. */
static void trace_x25519(trace *t, const unsigned char *psk)
{
    blob pool = value_of(t->section, "Server_RNG_Pool");
    blob hello = value_of(t->section, "Record_ClientHello_1");
    blob answer = value_of(t->section, "Message_ServerHello");
    unsigned char own[32], shared[32], swapped[32];
    const unsigned char *private_key = pool.at + 32;
    hsb_str peer = share_of(hello, 29);
    assert_int_equal(peer.len, 32);
    assert_true(hsb__tls13_x25519(t->crypto.ec, private_key, peer, own, shared));
    if (!memmem(answer.at, answer.len, own, 32)) {      /* BearSSL after 0.6: the other way round */
        for (int i = 0; i < 32; i++)
            swapped[i] = private_key[31 - i];
        assert_true(hsb__tls13_x25519(t->crypto.ec, swapped, peer, own, shared));
    }
    assert_non_null(memmem(answer.at, answer.len, own, 32));
    trace_exchanged(t, psk, shared);
    free(pool.at);
    free(hello.at);
    free(answer.at);
}

/* The server's certificate has 1024 bits: its key is only read here. */
static void trace_verify(trace *t, const hsb__transcript *before)
{
    static const char context[] = "TLS 1.3, server CertificateVerify";
    blob certificate = value_of(t->section, "Message_Server_Certificate");
    blob verify = value_of(t->section, "Message_Server_CertificateVerify");
    unsigned char spaces[64], messages[48], digest[32];
    br_x509_decoder_context x;
    br_sha256_context hash;
    br_x509_decoder_init(&x, NULL, NULL);
    br_x509_decoder_push(&x, certificate.at + 11, certificate.len - 11 - 2);
    const br_x509_pkey *key = br_x509_decoder_get_pkey(&x);
    assert_non_null(key);
    assert_int_equal(key->key_type, BR_KEYTYPE_RSA);
    memset(spaces, ' ', sizeof spaces);
    hsb__transcript_hash(before, messages);
    br_sha256_init(&hash);
    br_sha256_update(&hash, spaces, 64);
    br_sha256_update(&hash, context, sizeof context);
    br_sha256_update(&hash, messages, 32);
    br_sha256_out(&hash, digest);
    assert_memory_equal(verify.at + 4, "\x08\x04\x00\x80", 4);
    assert_int_equal(verify.len, 8 + 128);
    assert_true(hsb__pss_verify(t->crypto.rsa_public, &key->key.rsa, &br_sha256_vtable, digest,
                                verify.at + 8, 128));
    digest[0] ^= 1;
    assert_false(hsb__pss_verify(t->crypto.rsa_public, &key->key.rsa, &br_sha256_vtable, digest,
                                 verify.at + 8, 128));
    free(certificate.at);
    free(verify.at);
}

static void finished_is(trace *t, const unsigned char *secret, const unsigned char *message)
{
    unsigned char messages[48], mac[48];
    hsb__transcript_hash(&t->messages, messages);
    hsb__secret_finished(t->suite->hash, secret, messages, mac);
    assert_memory_equal(message, "\x14\x00\x00\x20", 4);
    assert_memory_equal(message + 4, mac, 32);
}

/* EncryptedExtensions to Finished, in one record. */
static void trace_flight(trace *t, bool certificate)
{
    static const char *const names[] = { "Message_EncryptedExtensions", "Message_Server_Certificate",
                                         "Message_Server_CertificateVerify",
                                         "Message_Server_Finished" };
    blob flight = { must(malloc(4096)), 0 };
    hsb__transcript before;
    for (int i = 0; i < 4; i++) {
        if (!certificate && (i == 1 || i == 2))
            continue;
        blob m = value_of(t->section, names[i]);
        before = t->messages;
        if (i == 2)
            trace_verify(t, &before);
        if (i == 3)
            finished_is(t, t->server, m.at);
        hsb__transcript_add(&t->messages, m.at, m.len);
        memcpy(flight.at + flight.len, m.at, m.len);
        flight.len += m.len;
        free(m.at);
    }
    trace_record(t, true, "Record_ServerHandshakeMessages", HSB__RECORD_HANDSHAKE, flight);
    free(flight.at);
}

/* The client's Finished, which its record hides; then the keys of the application. */
static void trace_finish(trace *t, size_t skip)
{
    unsigned char client[48], server[48];
    hsb__frame f;
    size_t used;
    hsb__secret_next_stage(t->suite->hash, t->stage, NULL, 0, t->stage);
    hsb__secret_derive(&t->messages, t->stage, "c ap traffic", client);
    hsb__secret_derive(&t->messages, t->stage, "s ap traffic", server);
    if (skip)                           /* EndOfEarlyData, which we never ask for            */
        hsb__transcript_add(&t->messages, "\x05\0\0\0", 4);
    blob record = value_of(t->section, "Record_ClientFinished");
    assert_int_equal(hsb__record_take(&t->from_client, record.at + skip, record.len - skip, &used,
                                      &f), 0);
    assert_int_equal(f.type, HSB__RECORD_HANDSHAKE);
    assert_int_equal(f.len, 36);
    finished_is(t, t->client, f.data);
    hsb__transcript_add(&t->messages, f.data, f.len);
    free(record.at);
    trace_keys(t, false, client);
    trace_keys(t, true, server);
}

/* Section 3.  Returns the pre-shared key of its ticket. */
static void simple(unsigned char psk[32])
{
    trace t;
    unsigned char master[48];
    trace_open(&t, "Simple_1RTT_Handshake");
    trace_add(&t, "Record_ClientHello_1", 5);
    trace_add(&t, "Message_ServerHello", 0);
    trace_x25519(&t, NULL);
    trace_flight(&t, true);
    trace_finish(&t, 0);
    blob ticket = value_of(t.section, "SessionTicket");
    hsb__frame f;
    size_t used;
    blob record = value_of(t.section, "Record_NewSessionTicket");
    assert_int_equal(hsb__record_take(&t.from_server, record.at, record.len, &used, &f), 0);
    assert_int_equal(f.type, HSB__RECORD_HANDSHAKE);
    assert_int_equal(f.data[0], 4);
    assert_memory_equal(f.data + 12, "\x02\x00\x00", 3);          /* nonce */
    assert_non_null(memmem(f.data, f.len, ticket.at, ticket.len));
    assert_true(hsb__record_get_out(&t.as_server, HSB__RECORD_OUT));
    blob again = value_of(t.section, "Record_NewSessionTicket");
    assert_true(hsb__record_put(&t.as_server, HSB__RECORD_HANDSHAKE, f.data, f.len));
    hsb__record_flush(&t.as_server);
    assert_memory_equal(hsb__record_closed(&t.as_server).ptr, again.at, again.len);
    hsb__record_sent(&t.as_server, again.len);
    hsb__secret_derive(&t.messages, t.stage, "res master", master);
    hsb__secret_expand(t.suite->hash, master, "resumption", "\0", 2, psk, 32);
    trace_data(&t, false, "Record_Client_AppData", "Client_AppData");
    trace_data(&t, true, "Record_Server_AppData", "Server_AppData");
    trace_close_notify(&t);
    free(ticket.at);
    free(record.at);
    free(again.at);
    trace_close(&t);
}

static void section_3(void **state)
{
    static const unsigned char wanted[32] = {
        0x4e, 0xcd, 0x0e, 0xb6, 0xec, 0x3b, 0x4d, 0x87, 0xf5, 0xd6, 0x02, 0x8f, 0x92, 0x2c, 0xa4,
        0xc5, 0x85, 0x1a, 0x27, 0x7f, 0xd4, 0x13, 0x11, 0xc9, 0xe6, 0x2d, 0x2c, 0x94, 0x92, 0xe1,
        0xc4, 0xf3
    };
    unsigned char psk[32];
    (void)state;
    simple(psk);
    assert_memory_equal(psk, wanted, sizeof psk);
}

/* The ClientHello names the ticket of section 3, and its binder verifies. */
static void section_4(void **state)
{
    unsigned char psk[32], early[48];
    trace t;
    hsb__hello hello;
    hsb__tls13 shake;
    hsb_str identities, identity, age, binders, binder;
    (void)state;
    simple(psk);
    trace_open(&t, "Resumed_0RTT_Handshake");
    blob first = value_of(t.section, "Record_ClientHello_1");
    blob ticket = value_of("Simple_1RTT_Handshake", "SessionTicket");
    assert_true(hsb__hello_read(&hello, first.at + 5, first.len - 5));
    assert_true(hello.early_data && hello.psk_dhe);
    identities = hello.psks;
    binders = hello.binders;
    assert_true(hsb__hello_vector(&identities, 2, &identity));
    assert_true(hsb__hello_bytes(&identities, 4, &age));
    assert_true(hsb__hello_vector(&binders, 1, &binder));
    assert_int_equal(identities.len + binders.len, 0);
    assert_non_null(memmem(ticket.at, ticket.len, identity.ptr, identity.len));
    memset(&shake, 0, sizeof shake);
    shake.suite = t.suite;
    hsb__transcript_start(&shake.transcript, t.suite->hash);
    hsb__transcript_add(&shake.transcript, hello.message.ptr, hello.binders_at);
    hsb__secret_first_stage(t.suite->hash, psk, 32, early);
    assert_true(hsb__psk_binder_fits(&shake, early, binder));
    for (size_t i = 0; i < binder.len; i++) {
        unsigned char *at = first.at + (binder.ptr - (const char *)first.at) + i;
        *at ^= (unsigned char)(1 << i % 8);
        assert_false(hsb__psk_binder_fits(&shake, early, binder));
        *at ^= (unsigned char)(1 << i % 8);
    }
    binder.len--;
    assert_false(hsb__psk_binder_fits(&shake, early, binder));
    early[0] ^= 1;
    binder.len++;
    assert_false(hsb__psk_binder_fits(&shake, early, binder));
    trace_add(&t, "Record_ClientHello_1", 5);
    trace_add(&t, "Message_ServerHello", 0);
    trace_x25519(&t, psk);
    trace_flight(&t, false);
    trace_finish(&t, 5 + 0x15);
    trace_data(&t, false, "Record_Client_AppData", "Client_AppData");
    trace_data(&t, true, "Record_Server_AppData", "Server_AppData");
    trace_close_notify(&t);
    free(first.at);
    free(ticket.at);
    trace_close(&t);
}

/* HelloRetryRequest, then P-256. */
static void section_5(void **state)
{
    trace t;
    unsigned char point[65], own[65];
    (void)state;
    trace_open(&t, "HelloRetryRequest_Handshake");
    trace_add(&t, "Record_ClientHello_1", 5);
    hsb__transcript_restart(&t.messages);
    trace_add(&t, "Record_HelloRetryRequest", 5);
    trace_add(&t, "Record_ClientHello_2", 5);
    trace_add(&t, "Message_ServerHello", 0);
    blob pool = value_of(t.section, "Server_RNG_Pool");
    blob hello = value_of(t.section, "Record_ClientHello_2");
    blob answer = value_of(t.section, "Message_ServerHello");
    hsb_str peer = share_of(hello, 23);
    assert_int_equal(peer.len, 65);
    memcpy(point, peer.ptr, 65);
    assert_int_equal(t.crypto.ec->mul(point, 65, pool.at + 32, 32, BR_EC_secp256r1), 1);
    assert_int_equal(t.crypto.ec->mulgen(own, pool.at + 32, 32, BR_EC_secp256r1), 65);
    assert_non_null(memmem(answer.at, answer.len, own, 65));
    trace_exchanged(&t, NULL, point + 1);
    trace_flight(&t, true);
    trace_finish(&t, 0);
    trace_close_notify(&t);
    free(pool.at);
    free(hello.at);
    free(answer.at);
    trace_close(&t);
}

/* --- Wycheproof: key exchange -------------------------------------------------------------------------------- */
#define WYCHEPROOF DATA "wycheproof/"

static bool is_zero(blob b)
{
    unsigned char any = 0;
    for (size_t i = 0; i < b.len; i++)
        any |= b.at[i];
    return any == 0;
}

static int compare_x25519(const br_ec_impl *ec, bool swap)
{
    reader r;
    int right = 0, count = 0;
    reader_open(&r, WYCHEPROOF "x25519.txt");
    while (reader_next(&r)) {
        blob private_key = unhex(r.fields[2]), public = unhex(r.fields[3]), shared = unhex(r.fields[4]);
        unsigned char own[32], secret[32], scalar[32];
        for (int i = 0; i < 32; i++)
            scalar[i] = private_key.at[swap ? 31 - i : i];
        const bool ok = hsb__tls13_x25519(ec, scalar,
                                          hsb__text_make((const char *)public.at, public.len), own,
                                          secret);
        count++;
        right += is_zero(shared) ? !ok : ok && memcmp(secret, shared.at, 32) == 0;
        free(private_key.at);
        free(public.at);
        free(shared.at);
    }
    reader_close(&r);
    assert_true(count > 150);
    return count - right;
}

/* BearSSL 0.6 takes the scalar as RFC 7748 does, and newer ones the other way round. */
static void x25519(void **state)
{
    hsb__crypto crypto;
    (void)state;
    hsb__crypto_detect(&crypto);
    if (compare_x25519(crypto.ec, false))
        assert_int_equal(compare_x25519(crypto.ec, true), 0);
}

/* Points that are none are refused before a key of ours meets them. */
static void p256(void **state)
{
    reader r;
    help_server s;
    int count = 0, refused = 0;
    const hsb_security_desc desc = help_usual();
    (void)state;
    help_server_open(&s, &desc);
    hsb__tls13 shake;
    memset(&shake, 0, sizeof shake);
    shake.security = s.security;
    shake.group = HSB__GROUP_P256;
    reader_open(&r, WYCHEPROOF "ecdh_p256.txt");
    while (reader_next(&r)) {
        blob private_key = unhex(r.fields[2]), public = unhex(r.fields[3]), shared = unhex(r.fields[4]);
        const bool valid = strcmp(r.fields[1], "valid") == 0;
        const br_ec_impl *ec = s.security->crypto.ec;
        static hsb__exchange exchange;
        const int error = hsb__tls13_exchange(&shake, hsb__text_make((const char *)public.at,
                                                                     public.len), &exchange);
        /* compressed points are "acceptable" there, and not to TLS 1.3 (RFC 8446 4.2.8.2) */
        if (error != (valid ? 0 : HSB__TLS_ERR_SHARE))
            fail_msg("case %s: %d", r.fields[0], error);
        if (valid) {
            size_t skip = private_key.len > 32 ? private_key.len - 32 : 0;
            assert_int_equal(ec->mul(public.at, 65, private_key.at + skip, private_key.len - skip,
                                     BR_EC_secp256r1), 1);
            assert_memory_equal(public.at + 1, shared.at, 32);
        }
        count++;
        refused += error != 0;
        free(private_key.at);
        free(public.at);
        free(shared.at);
    }
    reader_close(&r);
    help_server_close(&s);
    assert_true(count > 100 && refused > 20);
}

/* --- Wycheproof: RSASSA-PSS ------------------------------------------------------------------------------------- */
static const br_hash_class *hash_named(const char *name)
{
    return strcmp(name, "SHA256") == 0 ? &br_sha256_vtable
         : strcmp(name, "SHA384") == 0 ? &br_sha384_vtable
         : strcmp(name, "SHA512") == 0 ? &br_sha512_vtable : NULL;
}

static uint32_t no_rsa(unsigned char *x, const br_rsa_private_key *key)
{
    (void)x, (void)key;
    return 1;
}

/* What a valid signature hides is what we encode with its salt: EMSA-PSS has no other freedom. */
static void encodes(const br_rsa_public_key *key, const br_hash_class *hash,
                    const unsigned char *digest, blob signature)
{
    unsigned char em[512], plain[512], ours[512];
    const size_t hash_len = hsb__hash_len(hash);
    const unsigned bits = hsb__key_bits(hsb__text_make((const char *)key->n, key->nlen));
    const hsb__pss_shape shape = hsb__pss_shape_of(bits);
    const br_rsa_private_key private_key = { .n_bitlen = bits };
    memcpy(em, signature.at, signature.len);
    assert_int_equal(br_rsa_public_get_default()(em, signature.len, key), 1);
    memcpy(plain, em, signature.len);
    assert_true(hsb__pss_fits(hash, digest, plain + shape.before, shape));
    const unsigned char *salt = plain + shape.before + shape.len - hash_len - 1 - hash_len;
    assert_int_equal(hsb__pss_sign(no_rsa, &private_key, hash, digest, salt, ours), signature.len);
    assert_memory_equal(ours, em, signature.len);
    for (size_t i = shape.before; i < signature.len; i++) {     /* and no bit of it is free   */
        memcpy(plain, em, signature.len);
        plain[i] ^= (unsigned char)(0x80 >> (i - shape.before) % 8);
        assert_false(hsb__pss_fits(hash, digest, plain + shape.before, shape));
    }
}

static void rsa_pss(void **state)
{
    reader r;
    br_rsa_public_key key = { NULL, 0, NULL, 0 };
    const br_hash_class *hash = NULL;
    bool ours = false;
    int accepted = 0, refused = 0;
    (void)state;
    reader_open(&r, WYCHEPROOF "rsa_pss.txt");
    while (reader_next(&r)) {
        if (strcmp(r.fields[0], "key") == 0) {
            blob n = unhex(r.fields[4] + 2), e = unhex(r.fields[5]);
            if (strncmp(r.fields[4], "00", 2) != 0) {
                free(n.at);
                n = unhex(r.fields[4]);
            }
            free(key.n);
            free(key.e);
            key = (br_rsa_public_key){ n.at, n.len, e.at, e.len };
            hash = hash_named(r.fields[1]);
            assert_non_null(hash);
            ours = strcmp(r.fields[1], r.fields[2]) == 0 &&
                   (size_t)atoi(r.fields[3]) == hsb__hash_len(hash);
            continue;
        }
        blob message = unhex(r.fields[2]), signature = unhex(r.fields[3]);
        const bool wanted = ours && strcmp(r.fields[1], "invalid") != 0;
        unsigned char digest[64];
        br_hash_compat_context h;
        hash->init(&h.vtable);
        hash->update(&h.vtable, message.at, message.len);
        hash->out(&h.vtable, digest);
        const bool ok = hsb__pss_verify(br_rsa_public_get_default(), &key, hash, digest,
                                        signature.at, signature.len);
        if (ok != wanted)
            fail_msg("case %s of %zu bytes: %d", r.fields[0], key.nlen, ok);
        if (ok)
            encodes(&key, hash, digest, signature);
        *(ok ? &accepted : &refused) += 1;
        free(message.at);
        free(signature.at);
    }
    reader_close(&r);
    free(key.n);
    free(key.e);
    assert_true(accepted > 30 && refused > 100);
}

/* --- Wycheproof: what HKDF and records are made of ---------------------------------------------------------------- */

/* HKDF-Extract and Finished are this HMAC; Expand has only labels of TLS (see RFC 8448). */
static void hmac(void **state)
{
    reader r;
    int count = 0;
    (void)state;
    reader_open(&r, WYCHEPROOF "hmac.txt");
    while (reader_next(&r)) {
        const br_hash_class *hash = atoi(r.fields[0]) == 384 ? &br_sha384_vtable : &br_sha256_vtable;
        blob key = unhex(r.fields[3]), message = unhex(r.fields[4]), tag = unhex(r.fields[5]);
        unsigned char out[HSB__HASH_MAX];
        hsb__secret_extract(hash, key.at, key.len, message.at, message.len, out);
        assert_int_equal(tag.len, hsb__hash_len(hash));
        assert_int_equal(hsb__memory_same(out, tag.at, tag.len), strcmp(r.fields[2], "valid") == 0);
        count++;
        free(key.at);
        free(message.at);
        free(tag.at);
    }
    reader_close(&r);
    assert_true(count > 80);
}

/* Called as >>record calls them. */
static void aead_with(hsb__crypto c)
{
    reader r;
    int count = 0;
    reader_open(&r, WYCHEPROOF "aead.txt");
    while (reader_next(&r)) {
        blob v[6];
        unsigned char tag[16], back[16];
        hsb__keys k;
        memset(&k, 0xa5, sizeof k);
        k.seq = 0;
        for (int i = 0; i < 6; i++)
            v[i] = unhex(r.fields[3 + i]);
        for (int encrypt = 1; encrypt >= 0; encrypt--) {
            unsigned char *data = v[3].at;
            if (strcmp(r.fields[0], "chacha") == 0) {
                c.poly1305(v[0].at, v[1].at, data, v[3].len, v[2].at, v[2].len,
                           encrypt ? tag : back, c.chacha20, encrypt);
            } else {
                assert_int_equal(v[1].len, 12);
                memcpy(k.key, v[0].at, v[0].len);
                hsb__keys_gcm(&c, &k, v[0].len, encrypt, v[1].at, v[2].at, v[2].len, data, v[3].len,
                              encrypt ? tag : back);
                k.seq++;                                /* decrypted with the GHASH key that is there */
            }
            if (encrypt) {
                assert_int_equal(v[3].len, v[4].len);
                assert_memory_equal(data, v[4].at, v[4].len);
            }
        }
        assert_memory_equal(tag, back, 16);
        assert_int_equal(hsb__memory_same(tag, v[5].at, 16), strcmp(r.fields[2], "valid") == 0);
        count++;
        for (int i = 0; i < 6; i++)
            free(v[i].at);
    }
    reader_close(&r);
    assert_true(count > 200);
}

/* The implementations that we pick for this CPU, and those for others. */
static void aead(void **state)
{
    hsb__crypto c;
    (void)state;
    hsb__crypto_detect(&c);
    aead_with(c);
    help_plain_cpu(&c, false);
    aead_with(c);
    help_plain_cpu(&c, true);
    aead_with(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(section_3),
        cmocka_unit_test(section_4),
        cmocka_unit_test(section_5),
        cmocka_unit_test(x25519),
        cmocka_unit_test(p256),
        cmocka_unit_test(rsa_pss),
        cmocka_unit_test(hmac),
        cmocka_unit_test(aead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
