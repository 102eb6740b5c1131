/* What secrets may not decide: under valgrind they are undefined here, and it reports each branch
   and each address that depends on them.  What our code declares public (HSB__PUBLIC) becomes
   defined there.  Without valgrind this only runs the same code.  (make check-valgrind) */
#if defined(__has_include)
#  if __has_include(<valgrind/memcheck.h>)
#    include <valgrind/memcheck.h>
#  endif
#endif
#ifndef VALGRIND_MAKE_MEM_UNDEFINED
#  define VALGRIND_MAKE_MEM_UNDEFINED(at, len) ((void)(at), (void)(len), 0)
#  define VALGRIND_MAKE_MEM_DEFINED(at, len)   ((void)(at), (void)(len), 0)
#  define VALGRIND_COUNT_ERRORS                0
#endif

static unsigned known(unsigned value)
{
    (void)VALGRIND_MAKE_MEM_DEFINED(&value, sizeof value);
    return value;
}

#define HSB__PUBLIC(value) known(value)
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "tls_help.h"

static void hide(void *at, size_t len)
{
    (void)VALGRIND_MAKE_MEM_UNDEFINED(at, len);
}

static void show(void *at, size_t len)
{
    (void)VALGRIND_MAKE_MEM_DEFINED(at, len);
}

/* --- records ---------------------------------------------------------------------------------------- */

/* The keys and the plaintext are secret, until it is authentic: sealed, and opened again. */
static void records(void **state)
{
    hsb__memory memory = { { NULL, NULL, NULL }, 0 };
    hsb__pool pool = { .memory = &memory };
    hsb__crypto crypto;
    (void)state;
    hsb__crypto_detect(&crypto);
    for (int suite = 0; suite < 3; suite++)
        for (size_t len = 1; len < 200; len += 33)
            for (int spoilt = 0; spoilt < 2; spoilt++) {
                unsigned char secret[48], data[256], record[512];
                hsb__record r;
                hsb__frame f;
                size_t used;
                memset(secret, 's', sizeof secret);
                memset(data, 'd', sizeof data);
                hsb__record_open(&r, &memory, &pool, &crypto);
                r.suite = &hsb__suites13[suite];
                r.protect_in = r.protect_out = HSB__BY_KEYS;
                hide(secret, sizeof secret);
                hide(data, sizeof data);
                memcpy(r.keys.in.secret, secret, sizeof secret);
                memcpy(r.keys.out.secret, secret, sizeof secret);
                hsb__keys_derive(&r.keys.in, r.suite);
                hsb__keys_derive(&r.keys.out, r.suite);
                hsb__keys_update(&r.keys.in, r.suite);
                hsb__keys_update(&r.keys.out, r.suite);
                assert_true(hsb__record_get_out(&r, HSB__RECORD_OUT));
                assert_true(hsb__record_put(&r, HSB__RECORD_DATA, data, len));
                hsb__record_flush(&r);
                hsb_str sealed = hsb__record_closed(&r);
                assert_int_equal(sealed.len, len + HSB__RECORD_OVERHEAD);
                memcpy(record, sealed.ptr, sealed.len);
                show(record, sealed.len);               /* whoever is on the network sees it  */
                record[sealed.len - 1] ^= (unsigned char)spoilt;
                const int error = hsb__record_take(&r, record, sealed.len, &used, &f);
                assert_int_equal(error, spoilt ? BR_ERR_BAD_MAC : 0);
                if (!spoilt) {
                    show(&f.type, sizeof f.type);
                    assert_int_equal(f.type, HSB__RECORD_DATA);
                    assert_int_equal(f.len, len);
                    show(f.data, f.len);
                    for (size_t i = 0; i < len; i++)
                        assert_int_equal(f.data[i], 'd');
                }
                hsb__record_sent(&r, sealed.len);
                hsb__record_close(&r);
            }
    hsb__pool_close(&pool);
}

/* --- MACs ---------------------------------------------------------------------------------------------- */

/* The client's Finished: its secret is secret, and what comes as its MAC is not. */
static void finished(void **state)
{
    (void)state;
    for (int suite = 0; suite < 2; suite++)
        for (int wrong = -1; wrong < 48; wrong++) {
            const br_hash_class *hash = hsb__suites13[suite].hash;
            const size_t len = hsb__hash_len(hash);
            unsigned char messages[HSB__HASH_MAX], mac[HSB__HASH_MAX];
            hsb__record r;
            hsb__tls13 t;
            memset(&r, 0, sizeof r);
            memset(&t, 0, sizeof t);
            t.record = &r;
            t.suite = &hsb__suites13[suite];
            hsb__transcript_start(&t.transcript, hash);
            hsb__transcript_add(&t.transcript, "messages", 8);
            hsb__transcript_hash(&t.transcript, messages);
            memset(r.keys.in.secret, 's', HSB__HASH_MAX);
            hide(r.keys.in.secret, HSB__HASH_MAX);
            hide(t.client_data, sizeof t.client_data);
            hsb__secret_finished(hash, r.keys.in.secret, messages, mac);
            show(mac, sizeof mac);
            if (wrong >= (int)len)
                continue;
            if (wrong >= 0)
                mac[wrong] ^= 0x10;
            assert_int_equal(hsb__tls13_take_finished(&t, hsb__text_make((char *)mac, len)),
                             wrong < 0 ? 0 : BR_ERR_BAD_FINISHED);
        }
}

/* A PSK, and the binder that a client sends. */
static void binder(void **state)
{
    static unsigned char message[64] = { 1, 0, 0, 60 };
    (void)state;
    for (int suite = 0; suite < 2; suite++)
        for (int wrong = -1; wrong < 48; wrong++) {
            const br_hash_class *hash = hsb__suites13[suite].hash;
            const size_t len = hsb__hash_len(hash);
            unsigned char psk[HSB__HASH_MAX], early[HSB__HASH_MAX], key[HSB__HASH_MAX],
                digest[HSB__HASH_MAX], mac[HSB__HASH_MAX];
            hsb__transcript nothing;
            hsb__tls13 t;
            memset(&t, 0, sizeof t);
            t.suite = &hsb__suites13[suite];
            hsb__transcript_start(&t.transcript, hash);
            hsb__transcript_add(&t.transcript, message, sizeof message);
            memset(psk, 'p', sizeof psk);
            hide(psk, sizeof psk);
            hsb__secret_first_stage(hash, psk, len, early);
            hsb__transcript_start(&nothing, hash);
            hsb__secret_derive(&nothing, early, "res binder", key);
            hsb__transcript_hash(&t.transcript, digest);
            hsb__secret_finished(hash, key, digest, mac);
            show(mac, sizeof mac);
            if (wrong >= (int)len)
                continue;
            if (wrong >= 0)
                mac[wrong] ^= 1;
            assert_int_equal(hsb__psk_binder_fits(&t, early, hsb__text_make((char *)mac, len)),
                             wrong < 0);
        }
}

/* A ticket: the key of the machines and what it makes of it, up to the comparison. */
static void sealed_ticket(void **state)
{
    static hsb_security s;
    (void)state;
    memset(&s, 0, sizeof s);
    hsb__crypto_detect(&s.crypto);
    s.seals = true;
    s.sessions.lifetime_us = 3600u * (uint64_t)1000000;
    for (size_t wrong = 0; wrong < 2 * HSB__SEAL_SIZE; wrong += 5) {
        unsigned char ticket[HSB__SEAL_SIZE];
        hsb__session session, out;
        int64_t until;
        memset(s.ticket_key, 'k', sizeof s.ticket_key);
        hide(s.ticket_key, sizeof s.ticket_key);
        memset(&session, 0, sizeof session);
        memset(session.secret, 's', sizeof session.secret);
        hide(session.secret, sizeof session.secret);
        assert_true(hsb__seal_close(&s, &session, hsb__os_wall() + 1000, ticket));
        show(ticket, sizeof ticket);
        if (wrong < sizeof ticket)
            ticket[wrong] ^= 1;
        /* What was sealed counts once it is known to be ours; before it decides nothing. */
        bool ok = wrong < sizeof ticket &&
                  hsb__seal_open(&s, hsb__text_make((char *)ticket, sizeof ticket), &out, &until);
        assert_false(ok);
    }
}

/* --- keys of certificates and of one handshake ------------------------------------------------------------ */

/* The salt is secret until it is signed, and so is what the key makes of it.  (How BearSSL treats
   the key itself cannot be seen this way: it computes the lengths of its parts from their bytes.) */
static void pss(void **state)
{
    hsb_security_desc desc = help_desc(DATA "server-rsa2048.pem", DATA "server-rsa2048.key");
    help_server s;
    (void)state;
    help_server_open(&s, &desc);
    const hsb__identity *who = &s.security->identities[0];
    static const br_hash_class *const hashes[] = { &br_sha256_vtable, &br_sha384_vtable,
                                                   &br_sha512_vtable };
    br_rsa_public_key public;
    assert_true(hsb__choice_rsa_public(who, &public));
    for (int i = 0; i < 3; i++) {
        unsigned char digest[64], salt[64], signature[512];
        memset(digest, 'd', sizeof digest);
        memset(salt, 'x', sizeof salt);
        hide(digest, sizeof digest);
        hide(salt, sizeof salt);
        const size_t len = hsb__pss_sign(s.security->crypto.rsa_private, &who->key.rsa, hashes[i],
                                         digest, salt, signature);
        show(digest, sizeof digest);
        show(signature, sizeof signature);
        assert_int_equal(len, 256);
        assert_true(hsb__pss_verify(s.security->crypto.rsa_public, &public, hashes[i], digest,
                                    signature, len));
    }
    help_server_close(&s);
}

static void x25519(void **state)
{
    unsigned char random[32], own[32], peer[32] = { 9 }, secret[32];
    hsb__crypto crypto;
    (void)state;
    hsb__crypto_detect(&crypto);
    memset(random, 'r', sizeof random);
    hide(random, sizeof random);
    assert_true(hsb__tls13_x25519(crypto.ec, random, hsb__text_make((char *)peer, 32), own, secret));
    show(own, sizeof own);
    show(secret, sizeof secret);
    assert_memory_equal(own, secret, 32);               /* 9 is the base point                */
}

/* Stages of the key schedule, down to both ends' keys: no input of theirs is public. */
static void key_schedule(void **state)
{
    (void)state;
    for (int suite = 0; suite < 3; suite++) {
        const br_hash_class *hash = hsb__suites13[suite].hash;
        unsigned char stage[HSB__HASH_MAX], shared[32];
        hsb__transcript messages;
        hsb__keys keys;
        memset(shared, 's', sizeof shared);
        hide(shared, sizeof shared);
        hsb__transcript_start(&messages, hash);
        hsb__transcript_add(&messages, "hello", 5);
        hsb__secret_first_stage(hash, NULL, 0, stage);
        hsb__secret_next_stage(hash, stage, shared, sizeof shared, stage);
        hsb__secret_derive(&messages, stage, "c hs traffic", keys.secret);
        hsb__keys_derive(&keys, &hsb__suites13[suite]);
        hsb__secret_next_stage(hash, stage, NULL, 0, stage);
        hsb__secret_derive(&messages, stage, "c ap traffic", keys.secret);
        hsb__keys_update(&keys, &hsb__suites13[suite]);
    }
    assert_int_equal(VALGRIND_COUNT_ERRORS, 0);         /* of everything above                */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),
        cmocka_unit_test(finished),
        cmocka_unit_test(binder),
        cmocka_unit_test(sealed_ticket),
        cmocka_unit_test(pss),
        cmocka_unit_test(x25519),
        cmocka_unit_test(key_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
