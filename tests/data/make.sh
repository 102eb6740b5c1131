#!/bin/sh
# Makes every certificate and key of this folder again, with the openssl command (3.0 or
# newer).  README.md says what each is.  Every run gives other keys: commit all or nothing.
set -eu
cd "$(dirname "$0")"
umask 022
rm -f ./*.pem ./*.key
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# --- helpers ------------------------------------------------------------------------------

openssl_quiet() { openssl "$@" 2>"$tmp/err" || { cat "$tmp/err" >&2; exit 1; }; }

# key NAME KIND: a PKCS#8 key, NAME.key.  KIND: a curve, ed25519, or the bits of an RSA key.
key() {
    case $2 in
    ed25519) set -- "$1" -algorithm ed25519 ;;
    [0-9]*)  set -- "$1" -algorithm rsa -pkeyopt "rsa_keygen_bits:$2" ;;
    *)       set -- "$1" -algorithm ec -pkeyopt "ec_paramgen_curve:$2" ;;
    esac
    name=$1
    shift
    openssl_quiet genpkey "$@" -out "$name.key"
}

cat >"$tmp/ca.cnf" <<END
[ca]
default_ca = ca_default
[ca_default]
database = $tmp/index
new_certs_dir = $tmp
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
string_mask = utf8only
[any]
[req]
prompt = no
distinguished_name = dn
string_mask = utf8only
[dn]
END
: >"$tmp/index"

ca='basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign'
client='basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=clientAuth'
server='basicConstraints=CA:FALSE
keyUsage=digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth'
localhost="$server
subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"

from=20200101000000Z
to=21200101000000Z

# cert NAME SUBJECT EXTENSIONS ISSUER [KEY]: NAME.pem for KEY.key (default: NAME.key), from
# $from to $to, signed by ISSUER.key; an ISSUER that is NAME signs itself.
cert() {
    printf '%s\n' "$3" >"$tmp/ext"
    openssl_quiet req -new -utf8 -config "$tmp/ca.cnf" -key "${5:-$1}.key" -subj "$2" \
        -out "$tmp/csr"
    if [ "$1" = "$4" ]; then
        set -- "$1" -selfsign -keyfile "$4.key"
    else
        set -- "$1" -cert "$4.pem" -keyfile "$4.key"
    fi
    name=$1
    shift
    openssl_quiet ca -batch -notext -preserveDN -config "$tmp/ca.cnf" -in "$tmp/csr" "$@" \
        -extfile "$tmp/ext" -startdate "$from" -enddate "$to" -out "$name.pem"
}

# --- who signs ----------------------------------------------------------------------------

key ca P-256
cert ca "/O=httpsbind tests/CN=Test CA" "$ca" ca
key ca-rsa 2048
cert ca-rsa "/O=httpsbind tests/CN=Test CA (RSA)" "$ca" ca-rsa
key ca-other P-256
cert ca-other "/O=httpsbind tests/CN=Another CA" "$ca" ca-other
key ca-impostor P-256
cert ca-impostor "/O=httpsbind tests/CN=Test CA" "$ca" ca-impostor
key intermediate P-256
cert intermediate "/O=httpsbind tests/CN=Test intermediate" "$ca" ca
cat ca.pem ca-rsa.pem >trusted.pem

# --- servers ------------------------------------------------------------------------------

for kind in 2048 3072 4096 P-256 P-384 P-521; do
    case $kind in
    P-*) name=server-p${kind#P-} ;;
    *)   name=server-rsa$kind ;;
    esac
    key "$name" $kind
    cert "$name" "/CN=localhost" "$localhost" ca
done
key server-renewed P-256
cert server-renewed "/CN=localhost" "$localhost" ca
key server-under-rsa 2048
cert server-under-rsa "/CN=localhost" "$localhost" ca-rsa
key server-intermediate P-256
cert server-intermediate "/CN=localhost" "$localhost" intermediate
cat intermediate.pem >>server-intermediate.pem
key server-expired P-256
to=20210101000000Z cert server-expired "/CN=localhost" "$localhost" ca

# for SNI: server-WHAT with these names
named() {
    key "$1" "$2"
    cert "$1" "/CN=$1" "$server
subjectAltName=$3" ca
}
named server-www          P-256 DNS:www.example.org
named server-www-rsa      2048  DNS:www.example.org
named server-wildcard     P-256 'DNS:*.example.org'
named server-several      P-256 DNS:a.example.net,DNS:b.example.net,DNS:example.net
named server-mixed-case   P-256 DNS:Mixed.Example.COM
key server-no-names P-256
cert server-no-names "/CN=no-names.example" "$server" ca

# --- clients ------------------------------------------------------------------------------

key client-rsa 2048
cert client-rsa "/O=Example/CN=rae" "$client" ca
key client-p256 P-256
cert client-p256 "/O=Example/CN=ann" "$client" ca
key client-p384 P-384
cert client-p384 "/O=Example/CN=bob" "$client" ca
key client-p521 P-521
cert client-p521 "/O=Example/CN=eve" "$client" ca
key client-under-rsa P-256
cert client-under-rsa "/O=Example/CN=under RSA" "$client" ca-rsa
key client-expired P-256
to=20210101000000Z cert client-expired "/CN=expired" "$client" ca
key client-not-yet P-256
from=21000101000000Z cert client-not-yet "/CN=not yet" "$client" ca
key client-other-ca P-256
cert client-other-ca "/CN=other CA" "$client" ca-other
key client-impostor P-256
cert client-impostor "/CN=impostor" "$client" ca-impostor
key client-self-signed P-256
cert client-self-signed "/CN=ann" "$client" client-self-signed
key client-intermediate P-256
cert client-intermediate-missing "/CN=behind" "$client" intermediate client-intermediate
cat client-intermediate-missing.pem intermediate.pem >client-intermediate.pem
cp intermediate.key "$tmp/expired.key"
to=20210101000000Z cert "$tmp/expired" "/CN=Expired intermediate" "$ca" ca
key client-intermediate-expired P-256
cert client-intermediate-expired "/CN=behind expired" "$client" "$tmp/expired"
cat "$tmp/expired.pem" >>client-intermediate-expired.pem
key client-server-auth P-256
cert client-server-auth "/CN=serverAuth only" "$server" ca
key client-odd-subject P-256
cert client-odd-subject \
    '/DC=org/DC=example/C=DE/O= Müller, Söhne \+ Töchter /OU=one+CN=#"a\\b"<c>;/emailAddress=ann@example.org/UID=42' \
    "$client
subjectAltName=DNS:ann.example.org,email:ann@example.org,URI:urn:example:ann,IP:192.0.2.1" ca

key client-empty-subject P-256
cert client-empty-subject / "$client
subjectAltName=critical,email:nobody@example.org" ca

# 100 certificates, leaf first; all of them belong, and all CAs share intermediate.key.
cp ca.pem "$tmp/link0.pem"
cp ca.key "$tmp/link0.key"
: >"$tmp/links"
i=1
while [ $i -le 99 ]; do
    cp intermediate.key "$tmp/link$i.key"
    cert "$tmp/link$i" "/CN=$i" "$ca" "$tmp/link$((i - 1))"
    cat "$tmp/link$i.pem" "$tmp/links" >"$tmp/more"
    mv "$tmp/more" "$tmp/links"
    i=$((i + 1))
done
key client-chain100 P-256
cert client-chain100 "/CN=a hundred" "$client" "$tmp/link99"
cat "$tmp/links" >>client-chain100.pem

# 128 authorities whose names, 530 bytes each, do not fit in one CertificateRequest.
cp intermediate.key "$tmp/authority.key"
unit=$(printf '%060d' 0)
units=
for i in 1 2 3 4 5 6; do units="$units/OU=$i $unit"; done
i=100
while [ $i -le 227 ]; do
    cert "$tmp/authority" "/CN=Authority $i$units/O=$(printf '%050d' 0)" "$ca" ca
    cat "$tmp/authority.pem"
    i=$((i + 1))
done >authorities.pem

# --- keys of kinds and sizes that are refused ---------------------------------------------

for bits in 1024 4928 8192; do
    key rsa$bits $bits
    cert rsa$bits "/CN=localhost" "basicConstraints=CA:FALSE
subjectAltName=DNS:localhost" ca
done
key ed25519 ed25519
cert ed25519 "/CN=localhost" "$localhost" ca
key secp256k1 secp256k1
cert secp256k1 "/CN=localhost" "$localhost" ca

# --- one key in all its coats -------------------------------------------------------------

openssl_quiet rsa -in server-rsa2048.key -traditional -out server-rsa2048.pkcs1.key
openssl_quiet rsa -in server-rsa4096.key -traditional -out server-rsa4096.pkcs1.key
for curve in 256 384 521; do
    openssl_quiet ec -in server-p$curve.key -out server-p$curve.sec1.key
done
{ openssl ecparam -name prime256v1; cat server-p256.sec1.key; } >server-p256.sec1-params.key

# encrypt NAME COAT OPTION...: NAME.COAT.key, with the password "secret"
encrypt() {
    in=$1 out=$1.$2
    shift 2
    openssl_quiet pkcs8 -topk8 -in "$in.key" -passout pass:secret "$@" -out "$out.key"
}
for hash in 1 256 384 512; do
    for bits in 128 192 256; do
        encrypt server-p256 sha$hash-aes$bits -v2 aes-$bits-cbc -v2prf hmacWithSHA$hash -iter 2048
    done
done
encrypt server-rsa2048 sha256-aes256    -v2 aes-256-cbc -v2prf hmacWithSHA256 -iter 2048
encrypt server-p521    sha512-aes256    -v2 aes-256-cbc -v2prf hmacWithSHA512 -iter 2048
encrypt server-p256 too-many-rounds     -v2 aes-256-cbc -v2prf hmacWithSHA256 -iter 10000001
encrypt server-p256 sha224-aes128       -v2 aes-128-cbc -v2prf hmacWithSHA224 -iter 2048
encrypt server-p256 sha256-des3         -v2 des3 -v2prf hmacWithSHA256 -iter 2048
encrypt server-p256 pbe1-des3           -v1 PBE-SHA1-3DES -iter 2048
encrypt server-p256 scrypt              -scrypt
openssl_quiet rsa -in server-rsa2048.key -traditional -aes128 -passout pass:secret \
    -out server-rsa2048.legacy.key
openssl_quiet ec -in server-p256.key -aes128 -passout pass:secret -out server-p256.legacy.key

# --- files as people have them ------------------------------------------------------------

for kind in pem key; do
    sed 's/$/\r/' server-p256.$kind >server-p256.crlf.$kind
    printf %s "$(cat server-p256.$kind)" >server-p256.no-newline.$kind
    { echo "This is text before it: - --- not a block"; cat server-p256.$kind
      echo "and text after it."; } >server-p256.text.$kind
done
sed 's/$/\r/' server-p256.sec1-params.key | head -c -2 >server-p256.worst.key
openssl x509 -in server-p256.pem -text >server-p256.described.pem
cat server-p256.pem server-p256.key >server-p256.both.pem
cat server-p256.key server-p256.pem >server-p256.key-first.pem
cat intermediate.pem server-intermediate.pem >server-wrong-order.pem

# --- files that are broken ----------------------------------------------------------------

block() { echo "-----BEGIN $1-----"; cat; echo "-----END $1-----"; }
: >broken-empty.pem
echo "There is no block in here." >broken-no-block.pem
for what in CERTIFICATE "PRIVATE KEY" "EC PRIVATE KEY" "RSA PRIVATE KEY"; do
    echo "This is not DER, whatever the label says." | base64 | block "$what" \
        >"broken-der-$(echo "$what" | tr 'A-Z ' 'a-z-').pem"
done
printf '' | block CERTIFICATE >broken-empty-block.pem
sed '3s/./*/5' server-p256.pem >broken-base64.pem
sed '2s/./*/5' server-p256.key >broken-base64.key
sed '$d' server-p256.pem >broken-no-end.pem
sed '3d' server-p256.pem >broken-line-lost.pem
head -c 200 server-p256.sha256-aes128.key >broken-cut.key
openssl x509 -in server-p256.pem -outform DER -out broken-not-pem.pem

# spoil NAME: the first certificate of NAME.pem, with the last byte of its signature changed
spoil() {
    openssl x509 -in "$1.pem" -outform DER -out "$tmp/der"
    { head -c -1 "$tmp/der"; tail -c 1 "$tmp/der" | tr '\000-\377' '\001-\377\000'; } |
        base64 | block CERTIFICATE
}
spoil client-p256 >client-bad-signature.pem
{ spoil client-intermediate; cat intermediate.pem; } >client-intermediate-bad-signature.pem
