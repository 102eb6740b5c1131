/* What BearSSL's own primitives cost that one full handshake cannot do without, with the
   implementations that the header chooses: ECDHE with X25519, ECDSA on P-256, SHA-256,
   AES-128-GCM.  One line each, "microseconds name", of this process's CPU time; the last line
   is their sum.  Beside this the engine's own work, HTTP and the system are what a handshake
   on the whole may be compared with.                                                        */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

static hsb__crypto crypto;
static br_hmac_drbg_context rng;
static br_ec_private_key key;
static unsigned char secret[32], point[32], key_bytes[32];
static double sum;

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Session ID, server random and an X25519 secret.                                           */
static void draw_random(void)
{
    unsigned char id[32], random[32];
    br_hmac_drbg_generate(&rng, id, sizeof id);
    br_hmac_drbg_generate(&rng, random, sizeof random);
    br_hmac_drbg_generate(&rng, secret, sizeof secret);
}

static void make_point(void)
{
    crypto.ec->mulgen(point, secret, sizeof secret, BR_EC_curve25519);
}

static void share_secret(void)
{
    unsigned char peer[32];
    memcpy(peer, point, sizeof peer);
    crypto.ec->mul(peer, sizeof peer, secret, sizeof secret, BR_EC_curve25519);
}

static void sign(void)
{
    unsigned char digest[32] = { 1 }, signature[80];
    if (!crypto.ecdsa_sign(crypto.ec, &br_sha256_vtable, digest, &key, signature))
        exit(1);
}

/* ClientHello to the client's Finished, with a certificate of usual size.                   */
static void hash_transcript(void)
{
    static const unsigned char messages[1100];
    unsigned char digest[32];
    br_sha256_context hash;
    br_sha256_init(&hash);
    br_sha256_update(&hash, messages, sizeof messages);
    br_sha256_out(&hash, digest);
}

/* RFC 5246: master secret, key block and the two Finished messages                          */
static void derive_keys(void)
{
    static const size_t lengths[] = { 48, 40, 12, 12 };
    unsigned char out[48], seed[64] = { 0 }, master[48] = { 0 };
    br_tls_prf_seed_chunk chunk = { seed, sizeof seed };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        br_tls12_sha256_prf(out, lengths[i], master, sizeof master, "key expansion", 1, &chunk);
}

/* The two records that carry a Finished message, with a fresh key each.                     */
static void protect_finished(void)
{
    br_aes_gen_ctr_keys aes;
    br_gcm_context gcm;
    unsigned char record[16] = { 0 }, tag[16];
    for (int i = 0; i < 2; i++) {
        crypto.ctr->init(&aes.vtable, secret, 16);
        br_gcm_init(&gcm, &aes.vtable, crypto.ghash);
        br_gcm_reset(&gcm, secret, 12);
        br_gcm_aad_inject(&gcm, secret, 13);
        br_gcm_flip(&gcm);
        br_gcm_run(&gcm, 1, record, sizeof record);
        br_gcm_get_tag(&gcm, tag);
    }
}

/* For about 60 ms.                                                                          */
static void measure(const char *name, void (*run)(void))
{
    double start = cpu_us(), took;
    int runs = 0;
    do {
        run();
        runs++;
        took = cpu_us() - start;
    } while (took < 60e3);
    sum += took / runs;
    printf("%7.2f %s\n", took / runs, name);
}

int main(void)
{
    hsb__crypto_detect(&crypto);
    br_hmac_drbg_init(&rng, &br_sha256_vtable, "bench", 5);
    if (!br_ec_keygen(&rng.vtable, crypto.ec, &key, key_bytes, BR_EC_secp256r1))
        return 1;
    measure("random numbers", draw_random);
    measure("X25519, our point", make_point);
    measure("X25519, the shared secret", share_secret);
    measure("ECDSA P-256 signature", sign);
    measure("SHA-256 of the messages", hash_transcript);
    measure("PRF: keys and Finished", derive_keys);
    measure("AES-128-GCM of both Finished", protect_finished);
    printf("%7.2f sum\n", sum);
    return 0;
}
