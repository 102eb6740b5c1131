/* >>key: every kind of private key that we take, every one that we refuse and what is said
   then, wrong passwords, keys cut short and spoilt, and what is left of a key in memory. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "keys_help.h"

static bool key_of(hsb__memory *m, hsb__key *k, const char *name, const char *password)
{
    const hsb_pem pem = help_data(name);
    hsb_error err = { 0 };
    bool ok = hsb__key_load(m, k, &pem, password, &err);
    if (!ok)
        print_message("%s\n", err.text);
    return ok;
}

/* Why it cannot be loaded, without the folder. */
static const char *refused(const char *name, const char *password)
{
    static hsb_error err;
    const hsb_pem pem = help_data(name);
    hsb__memory m = { 0 };
    hsb__key k;
    memset(&k, 1, sizeof k);
    assert_false(hsb__key_load(&m, &k, &pem, password, &err));
    assert_int_equal(m.used, 0);
    assert_int_equal(k.type, 0);
    assert_null(k.storage);
    return strncmp(err.text, "tests/data/", 11) == 0 ? err.text + 11 : err.text;
}

static bool same_key(const hsb__key *a, const hsb__key *b)
{
    if (a->type != b->type)
        return false;
    if (a->type == BR_KEYTYPE_EC)
        return a->ec.curve == b->ec.curve && a->ec.xlen == b->ec.xlen &&
               memcmp(a->ec.x, b->ec.x, a->ec.xlen) == 0;
    return a->rsa.n_bitlen == b->rsa.n_bitlen && a->rsa.plen == b->rsa.plen &&
           memcmp(a->rsa.p, b->rsa.p, a->rsa.plen) == 0 && a->rsa.qlen == b->rsa.qlen &&
           memcmp(a->rsa.q, b->rsa.q, a->rsa.qlen) == 0 && a->rsa.iqlen == b->rsa.iqlen &&
           memcmp(a->rsa.iq, b->rsa.iq, a->rsa.iqlen) == 0;
}

/* --- what is taken ----------------------------------------------------------------- */

static void kinds(void **state)
{
    static const struct { const char *name; int type, size; } keys[] = {
        { "server-rsa2048.key", BR_KEYTYPE_RSA, 2048 },
        { "server-rsa3072.key", BR_KEYTYPE_RSA, 3072 },
        { "server-rsa4096.key", BR_KEYTYPE_RSA, 4096 },
        { "server-p256.key",    BR_KEYTYPE_EC,  BR_EC_secp256r1 },
        { "server-p384.key",    BR_KEYTYPE_EC,  BR_EC_secp384r1 },
        { "server-p521.key",    BR_KEYTYPE_EC,  BR_EC_secp521r1 },
    };
    hsb__memory m = { 0 };
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        hsb__key k;
        assert_true(key_of(&m, &k, keys[i].name, NULL));
        assert_int_equal(k.type, keys[i].type);
        assert_int_equal(k.type == BR_KEYTYPE_RSA ? (int)k.rsa.n_bitlen : k.ec.curve,
                         keys[i].size);
        hsb__key_free(&m, &k);
        assert_int_equal(k.type, 0);
    }
    assert_int_equal(m.used, 0);
}

/* Each pair is one key in two coats. */
static void coats(void **state)
{
    static const char *const pairs[][2] = {
        { "server-rsa2048.key", "server-rsa2048.pkcs1.key" },
        { "server-rsa4096.key", "server-rsa4096.pkcs1.key" },
        { "server-rsa2048.key", "server-rsa2048.sha256-aes256.key" },
        { "server-p521.key", "server-p521.sha512-aes256.key" },
        { "server-p256.key", "server-p256.sec1.key" },
        { "server-p384.key", "server-p384.sec1.key" },
        { "server-p521.key", "server-p521.sec1.key" },
        { "server-p256.key", "server-p256.sec1-params.key" },
        { "server-p256.key", "server-p256.crlf.key" },
        { "server-p256.key", "server-p256.no-newline.key" },
        { "server-p256.key", "server-p256.worst.key" },
        { "server-p256.key", "server-p256.text.key" },
        { "server-p256.key", "server-p256.both.pem" },
        { "server-p256.key", "server-p256.key-first.pem" },
        { "server-p256.key", "server-p256.sha1-aes128.key" },
        { "server-p256.key", "server-p256.sha1-aes192.key" },
        { "server-p256.key", "server-p256.sha1-aes256.key" },
        { "server-p256.key", "server-p256.sha256-aes128.key" },
        { "server-p256.key", "server-p256.sha256-aes192.key" },
        { "server-p256.key", "server-p256.sha256-aes256.key" },
        { "server-p256.key", "server-p256.sha384-aes128.key" },
        { "server-p256.key", "server-p256.sha384-aes192.key" },
        { "server-p256.key", "server-p256.sha384-aes256.key" },
        { "server-p256.key", "server-p256.sha512-aes128.key" },
        { "server-p256.key", "server-p256.sha512-aes192.key" },
        { "server-p256.key", "server-p256.sha512-aes256.key" },
    };
    hsb__memory m = { 0 };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        hsb__key a, b;
        assert_true(key_of(&m, &a, pairs[i][0], "not needed"));
        assert_true(key_of(&m, &b, pairs[i][1], "secret"));
        assert_true(same_key(&a, &b));
        hsb__key_free(&m, &a);
        hsb__key_free(&m, &b);
    }
    assert_int_equal(m.used, 0);
}

/* --- what is refused --------------------------------------------------------------- */

static void errors(void **state)
{
    static const struct { const char *name, *password, *text; } cases[] = {
        { "none.key", NULL, ": No such file or directory" },
        { "broken-empty.pem", NULL, ": empty" },
        { "broken-no-block.pem", NULL, ": no PEM block in it" },
        { "broken-base64.key", NULL, ": malformed PEM" },
        { "broken-cut.key", "secret", ": cut short: a BEGIN line without its END line" },
        { "server-p256.pem", NULL, ": no private key in it" },
        { "broken-der-private-key.pem", NULL, ": malformed private key" },
        { "broken-der-ec-private-key.pem", NULL, ": malformed private key" },
        { "broken-der-rsa-private-key.pem", NULL, ": malformed private key" },
        { "rsa1024.key", NULL, ": RSA key too small: 2048 to 4096 bits are supported" },
        { "rsa4928.key", NULL, ": RSA key too large: 2048 to 4096 bits are supported" },
        { "rsa8192.key", NULL, ": RSA key too large: 2048 to 4096 bits are supported" },
        { "ed25519.key", NULL, ": Ed25519 keys are not supported" },
        { "secp256k1.key", NULL, ": curve not supported: only P-256, P-384 and P-521 are" },
        { "server-p256.sha256-aes128.key", NULL, ": encrypted, and no password was given" },
        { "server-p256.sha256-aes128.key", "Secret", ": wrong password" },
        { "server-p256.sha256-aes128.key", "", ": wrong password" },
        { "server-p256.sha512-aes256.key", "secret ", ": wrong password" },
        { "server-rsa2048.sha256-aes256.key", "wrong", ": wrong password" },
        { "server-p256.too-many-rounds.key", "secret",
          ": its encryption asks for more than 10 million rounds" },
        { "server-p256.sha224-aes128.key", "secret",
          ": its encryption uses a hash that is not supported" },
        { "server-p256.sha256-des3.key", "secret",
          ": its encryption is not supported: only AES-CBC is" },
        { "server-p256.scrypt.key", "secret",
          ": its encryption is not supported: only PBKDF2 is, not scrypt" },
        { "server-p256.pbe1-des3.key", "secret",
          ": old kind of encryption; convert it with openssl pkcs8 -topk8" },
        { "server-p256.legacy.key", "secret",
          ": old kind of encryption; convert it with openssl pkcs8 -topk8" },
        { "server-rsa2048.legacy.key", "secret",
          ": old kind of encryption; convert it with openssl pkcs8 -topk8" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        snprintf(text, sizeof text, "%s%s", cases[i].name, cases[i].text);
        assert_string_equal(refused(cases[i].name, cases[i].password), text);
    }
}

/* --- encryption -------------------------------------------------------------------- */

static void derive(const br_hash_class *hash, const char *password, const char *salt,
                   uint32_t rounds, size_t len, const char *hex)
{
    hsb__key_lock lock = { 0 };
    unsigned char key[32];
    char got[65];
    lock.hash = hash;
    lock.salt = hsb__text_of(salt);
    lock.rounds = rounds;
    lock.key_len = len;
    hsb__key_pbkdf2(password, &lock, key);
    for (size_t i = 0; i < len; i++)
        snprintf(got + 2 * i, 3, "%02x", key[i]);
    assert_string_equal(got, hex);
}

/* RFC 6070 2, RFC 7914 11 */
static void pbkdf2(void **state)
{
    (void)state;
    derive(&br_sha1_vtable, "password", "salt", 1, 20,
           "0c60c80f961f0e71f3a9b524af6012062fe037a6");
    derive(&br_sha1_vtable, "password", "salt", 2, 20,
           "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
    derive(&br_sha1_vtable, "password", "salt", 4096, 20,
           "4b007901b765489abead49d926f721d065a429c1");
    derive(&br_sha1_vtable, "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt",
           4096, 25, "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038");
    derive(&br_sha256_vtable, "passwd", "salt", 1, 32,
           "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
    derive(&br_sha256_vtable, "Password", "NaCl", 80000, 32,
           "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56");
}

/* An encrypted key as it should be, and what a test may spoil about it. */
typedef struct locked {
    uint32_t    rounds;
    int         key_length;         /* that the parameters tell; -1: none                 */
    const char *prf;                /* NULL: none, which means SHA-1                       */
    const char *cipher;
    size_t      aes_len, iv_len, cut;       /* cut: bytes missing at the end of the data   */
    int         pad[16];            /* the last bytes before encryption; 0: as should be   */
} locked;

static const locked usual = {
    1, -1, "1.2.840.113549.2.9", "2.16.840.1.101.3.4.1.2", 16, 16, 0, { 0 },
};

static void put_integer(hsb__der_out *out, uint32_t n)
{
    const unsigned char bytes[5] = { 0, (unsigned char)(n >> 24), (unsigned char)(n >> 16),
                                     (unsigned char)(n >> 8), (unsigned char)n };
    size_t skip = 0;
    while (skip < 4 && bytes[skip] == 0 && bytes[skip + 1] < 0x80)
        skip++;
    hsb__der_put_element(out, HSB__DER_INTEGER, bytes + skip, 5 - skip);
}

static void put_kdf(hsb__der_out *out, const locked *l)
{
    size_t kdf = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, "1.2.840.113549.1.5.12");
    size_t parameters = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_element(out, HSB__DER_OCTETS, "saltsalt", 8);
    put_integer(out, l->rounds);
    if (l->key_length >= 0)
        put_integer(out, (uint32_t)l->key_length);
    if (l->prf) {
        size_t prf = hsb__der_open(out, HSB__DER_SEQUENCE);
        hsb__der_put_oid(out, l->prf);
        hsb__der_put_element(out, 0x05, NULL, 0);
        hsb__der_close(out, prf);
    }
    hsb__der_close(out, parameters);
    hsb__der_close(out, kdf);
}

/* plain and its padding, encrypted for the password "secret". */
static size_t encrypt(unsigned char *data, hsb_str plain, const locked *l)
{
    unsigned char key[32], iv[16] = "IVIVIVIVIVIVIVI";
    size_t pad = 16 - plain.len % 16, len = plain.len + pad;
    br_aes_big_cbcenc_keys aes;
    hsb__key_lock lock = { 0 };
    memcpy(data, plain.ptr, plain.len);
    memset(data + plain.len, (int)pad, pad);
    for (size_t i = 0; i < 16; i++)
        if (l->pad[i])
            data[len - 16 + i] = (unsigned char)l->pad[i];
    lock.hash = l->prf ? &br_sha256_vtable : &br_sha1_vtable;
    lock.salt = hsb__text_of("saltsalt");
    lock.rounds = l->rounds;
    lock.key_len = l->aes_len;
    hsb__key_pbkdf2("secret", &lock, key);
    br_aes_big_cbcenc_init(&aes, key, l->aes_len);
    br_aes_big_cbcenc_run(&aes, iv, data, len);
    return len - l->cut;
}

static void put_locked(hsb__der_out *out, hsb_str plain, const locked *l)
{
    static unsigned char data[4096];
    size_t whole = hsb__der_open(out, HSB__DER_SEQUENCE);
    size_t scheme = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, "1.2.840.113549.1.5.13");
    size_t parameters = hsb__der_open(out, HSB__DER_SEQUENCE);
    put_kdf(out, l);
    size_t cipher = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, l->cipher);
    hsb__der_put_element(out, HSB__DER_OCTETS, "IVIVIVIVIVIVIVI", l->iv_len);
    hsb__der_close(out, cipher);
    hsb__der_close(out, parameters);
    hsb__der_close(out, scheme);
    size_t len = encrypt(data, plain, l);
    hsb__der_put_element(out, HSB__DER_OCTETS, data, len);
    hsb__der_close(out, whole);
}

/* What is said of a P-256 key in that coat: NULL if it can be read. */
static const char *unlocked(const locked *l, const char *password)
{
    static unsigned char bytes[8192];
    hsb__memory m = { 0 };
    const hsb_pem pem = help_data("server-p256.key");
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    hsb__object *plain;
    hsb__key k = { 0 }, expected = { 0 };
    assert_true(hsb__pem_load(&m, &pem, &plain, NULL));
    const hsb_str der = hsb__text_make((char *)plain->der, plain->len);
    put_locked(&out, der, l);
    assert_false(out.full);
    const hsb_str copy = hsb__text_make(guard_copy(bytes, out.len), out.len);
    const char *reason = hsb__key_read_encrypted(copy, password, &k);
    assert_null(hsb__key_read_pkcs8(der, &expected));
    assert_int_equal(!reason, same_key(&expected, &k));
    hsb__pem_free(&m, plain);
    return reason;
}

static void encrypted(void **state)
{
    locked l = usual;
    (void)state;
    assert_null(unlocked(&l, "secret"));
    l.prf = NULL;                                       /* RFC 8018 A.2: DEFAULT SHA-1       */
    assert_null(unlocked(&l, "secret"));
    l = usual, l.key_length = 16;
    assert_null(unlocked(&l, "secret"));
    l = usual, l.cipher = "2.16.840.1.101.3.4.1.42", l.aes_len = 32, l.key_length = 32;
    assert_null(unlocked(&l, "secret"));
}

static void encrypted_badly(void **state)
{
    static const char malformed[] = "malformed private key", wrong[] = "wrong password";
    locked l = usual;
    (void)state;
    l.rounds = 0;
    assert_string_equal(unlocked(&l, "secret"), malformed);
    l = usual, l.key_length = 32;                       /* AES-128 takes 16                  */
    assert_string_equal(unlocked(&l, "secret"), malformed);
    l = usual, l.key_length = 0;
    assert_string_equal(unlocked(&l, "secret"), malformed);
    l = usual, l.iv_len = 15;
    assert_string_equal(unlocked(&l, "secret"), malformed);
    l = usual, l.cut = 1;
    assert_string_equal(unlocked(&l, "secret"), malformed);
    l = usual, l.cut = 16;                              /* a whole block                     */
    assert_string_equal(unlocked(&l, "secret"), wrong);
    l = usual, l.pad[15] = 17;
    assert_string_equal(unlocked(&l, "secret"), wrong);
    l = usual, l.pad[15] = 255;
    assert_string_equal(unlocked(&l, "secret"), wrong);
    l = usual, l.pad[15] = 3, l.pad[14] = 3, l.pad[13] = 2;
    assert_string_equal(unlocked(&l, "secret"), wrong);
    l = usual, l.pad[15] = 1;                           /* right as padding, wrong as a key  */
    assert_string_equal(unlocked(&l, "secret"), wrong);
}

/* What is left of a block; -1: not padded. */
static int unpadded(const char *block)
{
    hsb_str data = hsb__text_make(guard_copy(block, 16), 16);
    return hsb__key_unpad(&data) ? (int)data.len : -1;
}

static void padding(void **state)
{
    char sixteen[16];
    (void)state;
    assert_int_equal(unpadded("123456789012345\x01"), 15);
    assert_int_equal(unpadded("1234567890123\x03\x03\x03"), 13);
    assert_int_equal(unpadded("123456789012345\x00"), -1);
    assert_int_equal(unpadded("1234567890123\x03\x02\x03"), -1);
    assert_int_equal(unpadded("1234567890123\x02\x03\x03"), -1);
    assert_int_equal(unpadded("123456789012345\x11"), -1);
    assert_int_equal(unpadded("123456789012345\xFF"), -1);
    memset(sixteen, 16, sizeof sixteen);
    assert_int_equal(unpadded(sixteen), 0);
    sixteen[0] = 15;
    assert_int_equal(unpadded(sixteen), -1);
}

/* Of 4096 wrong passwords about 16 leave what looks like padding: no one is the wiser. */
static void many_wrong_passwords(void **state)
{
    (void)state;
    for (int i = 0; i < 4096; i++) {
        char password[16];
        snprintf(password, sizeof password, "%d", i);
        assert_string_equal(unlocked(&usual, password), "wrong password");
    }
}

/* --- hostile bytes ----------------------------------------------------------------- */

static const struct { const char *name, *password; } all[] = {
    { "server-rsa2048.key", NULL }, { "server-rsa2048.pkcs1.key", NULL },
    { "server-p256.key", NULL }, { "server-p256.sec1.key", NULL }, { "server-p521.key", NULL },
    { "server-p256.sha256-aes128.key", "secret" }, { "ed25519.key", NULL },
};
enum { ALL = sizeof all / sizeof *all };

static const char *read_der(const char *name, const unsigned char *der, size_t len,
                            const char *password)
{
    hsb__key k = { 0 };
    hsb__object o = { 0 };
    o.name = name;
    o.der = (unsigned char *)guard_copy(der, len);
    o.len = len;
    return hsb__key_read(&o, password, &k);
}

static void every_truncation(void **state)
{
    hsb__memory m = { 0 };
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        const hsb_pem pem = help_data(all[i].name);
        hsb__object *o;
        assert_true(hsb__pem_load(&m, &pem, &o, NULL));
        for (size_t len = 0; len < o->len; len++)
            assert_string_equal(read_der(o->name, o->der, len, all[i].password),
                                "malformed private key");
        hsb__pem_free(&m, o);
    }
}

/* Nothing but a careful reading: a spoilt key may still be one. */
static void every_byte_spoilt(void **state)
{
    hsb__memory m = { 0 };
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        const hsb_pem pem = help_data(all[i].name);
        hsb__object *o;
        assert_true(hsb__pem_load(&m, &pem, &o, NULL));
        for (size_t at = 0; at < o->len; at++)
            for (unsigned bit = 1; bit < 256; bit <<= 1) {
                o->der[at] ^= (unsigned char)bit;
                read_der(o->name, o->der, o->len, NULL);
                o->der[at] ^= (unsigned char)bit;
            }
        hsb__pem_free(&m, o);
    }
}

static const char *read_bytes(const char *name, const char *bytes, size_t len)
{
    return read_der(name, (const unsigned char *)bytes, len, NULL);
}
#define READ(name, bytes) read_bytes(name, bytes, sizeof bytes - 1)
#define OID_P256 "\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07"
#define OID_P384 "\x06\x05\x2B\x81\x04\x00\x22"
#define OID_EC   "\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01"

#define SEC1(bytes)  READ("EC PRIVATE KEY", bytes)
#define PKCS8(bytes) READ("PRIVATE KEY", bytes)

static void small_sec1_keys(void **state)
{
    static const char malformed[] = "malformed private key";
    (void)state;
    assert_null(SEC1("\x30\x12\x02\x01\x01\x04\x01\x07\xA0\x0A" OID_P256));
    assert_string_equal(SEC1("\x30\x12\x02\x01\x02\x04\x01\x07\xA0\x0A" OID_P256),
                        malformed);                             /* version                   */
    assert_string_equal(SEC1("\x30\x12\x02\x01\x00\x04\x01\x07\xA0\x0A" OID_P256),
                        malformed);
    assert_null(SEC1("\x30\x31\x02\x01\x01\x04\x20" "12345678901234567890123456789012"
                     "\xA0\x0A" OID_P256));
    assert_string_equal(SEC1("\x30\x32\x02\x01\x01\x04\x21" "123456789012345678901234567890123"
                             "\xA0\x0A" OID_P256),
                        malformed);                             /* more than the curve takes */
    assert_string_equal(SEC1("\x30\x11\x02\x01\x01\x04\x00\xA0\x0A" OID_P256),
                        malformed);                             /* no number                 */
    assert_string_equal(SEC1("\x30\x13\x02\x01\x01\x04\x01\x07\xA0\x0A" OID_P256 "\x00"),
                        malformed);                             /* something more in it      */
    assert_string_equal(SEC1("\x30\x12\x02\x01\x01\x04\x01\x07\xA0\x0A" OID_P256 "\x00"),
                        malformed);                             /* or behind it              */
    assert_string_equal(SEC1("\x30\x06\x02\x01\x01\x04\x01\x07"),
                        "EC key that does not tell its curve");
    assert_string_equal(SEC1("\x30\x0A\x02\x01\x01\x04\x01\x07\xA0\x02\x30\x00"),
                        "EC parameters spelled out are not supported: only named curves are");
}

static void small_pkcs8_keys(void **state)
{
    (void)state;
    assert_null(PKCS8("\x30\x22\x02\x01\x00\x30\x13" OID_EC OID_P256
                      "\x04\x08\x30\x06\x02\x01\x01\x04\x01\x07"));
    assert_string_equal(PKCS8("\x30\x2B\x02\x01\x00\x30\x13" OID_EC OID_P256
                              "\x04\x11\x30\x0F\x02\x01\x01\x04\x01\x07\xA0\x07" OID_P384),
                        "malformed private key");               /* two curves                */
    assert_string_equal(PKCS8("\x30\x1A\x02\x01\x00\x30\x0B" OID_EC "\x30\x00"
                              "\x04\x08\x30\x06\x02\x01\x01\x04\x01\x07"),
                        "EC parameters spelled out are not supported: only named curves are");
}

static void other_kinds(void **state)
{
    static const char unknown[] = "kind of key not supported: only RSA and EC are";
    (void)state;
    assert_string_equal(PKCS8("\x30\x0A\x02\x01\x00\x30\x05\x06\x03\x2B\x65\x71"),
                        "Ed448 keys are not supported");
    assert_string_equal(PKCS8("\x30\x0A\x02\x01\x00\x30\x05\x06\x03\x2B\x65\x7F"), unknown);
    assert_string_equal(PKCS8("\x30\x0E\x02\x01\x00\x30\x09"
                              "\x06\x07\x2A\x86\x48\xCE\x38\x04\x01"),
                        "DSA keys are not supported");
    assert_string_equal(PKCS8("\x30\x10\x02\x01\x00\x30\x0B"
                              "\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0A"),
                        "RSA keys bound to PSS are not supported");
    assert_string_equal(READ("DSA PRIVATE KEY", ""), unknown);
    assert_string_equal(READ("OPENSSH PRIVATE KEY", ""),
                        "OpenSSH's own kind of key; convert it with ssh-keygen -p -m PEM");
}

/* RSAPrivateKey with a modulus of that many bytes, and factors of that many. */
static const char *rsa_of(size_t modulus, size_t factor, unsigned top)
{
    static unsigned char bytes[8192], number[1024];
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    size_t mark = hsb__der_open(&out, HSB__DER_SEQUENCE);
    memset(number, 0x55, sizeof number);
    put_integer(&out, 0);
    number[0] = (unsigned char)top;
    for (int i = 0; i < 8; i++)
        hsb__der_put_element(&out, HSB__DER_INTEGER, number, i < 3 ? modulus : factor);
    hsb__der_close(&out, mark);
    return read_der("RSA PRIVATE KEY", bytes, out.len, NULL);
}

static void rsa_sizes(void **state)
{
    static const char small[] = "RSA key too small: 2048 to 4096 bits are supported";
    static const char large[] = "RSA key too large: 2048 to 4096 bits are supported";
    (void)state;
    assert_null(rsa_of(257, 128, 1));                           /* 2049 bits                 */
    assert_null(rsa_of(512, 256, 0x7F));                        /* 4095                      */
    assert_string_equal(rsa_of(256, 128, 0x7F), small);         /* 2047                      */
    assert_string_equal(rsa_of(1, 1, 1), small);
    assert_string_equal(rsa_of(513, 256, 1), large);            /* 4097                      */
    assert_string_equal(rsa_of(615, 308, 0x7F), large);  /* 4919, and on to 4992: where      */
    assert_string_equal(rsa_of(620, 310, 0x7F), large);  /*   BearSSL's decoder overflows    */
    assert_string_equal(rsa_of(625, 312, 1), large);
    assert_string_equal(rsa_of(512, 257, 0x7F),
                        "RSA key with factors of unequal size is not supported");
    assert_string_equal(rsa_of(512, 256, 0xFF), "malformed private key");       /* negative  */
    assert_string_equal(rsa_of(512, 256, 0), "malformed private key");  /* not the shortest  */
}

/* --- the rest ---------------------------------------------------------------------- */

static void generated(void **state)
{
    hsb__memory m = { 0 };
    hsb__key a, b;
    (void)state;
    assert_true(hsb__key_generate(&m, &a, NULL));
    assert_true(hsb__key_generate(&m, &b, NULL));
    assert_int_equal(a.type, BR_KEYTYPE_EC);
    assert_int_equal(a.ec.curve, BR_EC_secp256r1);
    assert_int_equal(a.ec.xlen, 32);
    assert_ptr_equal(a.ec.x, a.storage);
    assert_memory_not_equal(a.ec.x, b.ec.x, 32);
    hsb__key_free(&m, &a);
    hsb__key_free(&m, &b);
    assert_int_equal(m.used, 0);
}

static void wiped_of(const char *name, const char *password, const unsigned char *x,
                     size_t len, bool loads)
{
    bool done = false;
    for (int fail_at = 1; !done; fail_at++) {
        help_memory help = { fail_at, 0, x, len, false };
        hsb__memory m = help_memory_of(&help);
        const hsb_pem pem = help_data(name);
        hsb_error err = { 0 };
        hsb__key k;
        bool ok = hsb__key_load(&m, &k, &pem, password, &err);
        done = help.count < fail_at;
        assert_true(done ? ok == loads : err.status == HSB_ERR_MEMORY);
        hsb__key_free(&m, &k);
        assert_int_equal(m.used, 0);
        assert_false(help.leaked);
    }
}

/* The secret number is nowhere in what is given back, also when something fails. */
static void wiped(void **state)
{
    hsb__memory m = { 0 };
    hsb__key k;
    unsigned char x[32];
    (void)state;
    assert_true(key_of(&m, &k, "server-p256.key", NULL));
    memcpy(x, k.ec.x, sizeof x);
    hsb__key_free(&m, &k);
    wiped_of("server-p256.key", NULL, x, sizeof x, true);
    wiped_of("server-p256.both.pem", NULL, x, sizeof x, true);
    wiped_of("server-p256.sha1-aes256.key", "secret", x, sizeof x, true);
    wiped_of("server-p256.sha1-aes256.key", "wrong", x, sizeof x, false);

    help_memory help = { 0 };
    m = help_memory_of(&help);
    assert_true(hsb__key_generate(&m, &k, NULL));
    memcpy(x, k.ec.x, sizeof x);
    help.secret = x;
    help.secret_len = sizeof x;
    hsb__key_free(&m, &k);
    assert_false(help.leaked);
    help.fail_at = help.count + 1;
    hsb_error err;
    assert_false(hsb__key_generate(&m, &k, &err));
    assert_int_equal(err.status, HSB_ERR_MEMORY);
    assert_int_equal(k.type, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(coats),
        cmocka_unit_test(errors),
        cmocka_unit_test(pbkdf2),
        cmocka_unit_test(encrypted),
        cmocka_unit_test(encrypted_badly),
        cmocka_unit_test(padding),
        cmocka_unit_test(many_wrong_passwords),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_byte_spoilt),
        cmocka_unit_test(small_sec1_keys),
        cmocka_unit_test(small_pkcs8_keys),
        cmocka_unit_test(other_kinds),
        cmocka_unit_test(rsa_sizes),
        cmocka_unit_test(generated),
        cmocka_unit_test(wiped),
    };
    return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}
