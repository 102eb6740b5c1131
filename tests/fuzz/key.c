/* Any bytes as a private key.  The first byte chooses the label, the rest is DER.  What is
   taken for a key on a small curve must also be safe to compute with. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

static void use(const hsb__key *k)
{
    static const unsigned char hash[32] = { 1 };
    unsigned char point[BR_EC_KBUF_PUB_MAX_SIZE];
    br_ec_public_key pub;
    if (k->type == BR_KEYTYPE_EC && k->ec.curve == BR_EC_secp256r1 &&
        br_ec_compute_pub(br_ec_get_default(), &pub, point, &k->ec))
        hsb__chain_try_ec(&pub, &k->ec, hash);
}

/* The password is never right, and nobody waits for ten million rounds. */
static const char *read_encrypted(hsb_str der, hsb__key *k)
{
    hsb__key_lock lock = { 0 };
    const char *reason = hsb__key_read_lock(der, &lock);
    if (reason)
        return reason;
    lock.rounds = lock.rounds % 3 + 1;
    return hsb__key_unlock(&lock, "secret") ? hsb__key_read_pkcs8(lock.data, k) : "padding";
}

static const char *read_key(unsigned label, hsb_str der, hsb__key *k)
{
    switch (label % 4) {
    case 0:
        return hsb__key_read_pkcs8(der, k);
    case 1:
        return hsb__key_read_rsa(der, k);
    case 2:
        return hsb__key_read_ec(der, 0, k);
    default:
        return read_encrypted(der, k);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hsb__key k = { 0 };
    if (size < 2)
        return 0;
    char *copy = malloc(size - 1);          /* decrypted in place; and its end is guarded  */
    memcpy(copy, data + 1, size - 1);
    if (!read_key(data[0], hsb__text_make(copy, size - 1), &k))
        use(&k);
    free(copy);
    return 0;
}
