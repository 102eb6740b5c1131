#!/bin/sh
# The programs of TLS as on a processor without instructions for AES, GHASH and ChaCha20: what
# BearSSL asks for them is answered with no, by a library that is loaded before it.  Without AES
# in hardware our first suite is ChaCha20; so they run a second time with clients that have AES
# only.
set -eu
if [ "$(uname -m)" != x86_64 ] || [ -n "${BEARSSL:-}" ]; then
    echo "skipped: it needs BearSSL's shared library, on x86-64"
    exit 0
fi
command -v openssl >/dev/null || { echo "skipped: no openssl"; exit 0; }
tmp=$(mktemp -d) server=''
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

cat >"$tmp/plain.c" <<'END'
#include <stddef.h>
int br_aes_x86ni_supported(void) { return 0; }
void *br_ghash_pclmul_get(void) { return NULL; }
void *br_chacha20_sse2_get(void) { return NULL; }
END
${CC:-cc} -shared -fPIC -o "$tmp/plain.so" "$tmp/plain.c"
cat >"$tmp/aes.cnf" <<'END'
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = aes
[aes]
CipherString = ECDHE+AESGCM
Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384
END

# suite FILE: what the server chooses for a client with that configuration.
suite() {
    LD_PRELOAD="$tmp/plain.so" build/examples/echo --port 0 --cert tests/data/server-p256.pem \
        --key tests/data/server-p256.key >"$tmp/ready" &
    server=$!
    for _ in $(seq 100); do
        port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$tmp/ready")
        [ -z "$port" ] || break
        sleep 0.1
    done
    OPENSSL_CONF=$1 openssl s_client -connect "127.0.0.1:$port" </dev/null 2>/dev/null |
        sed -n 's/^New, .* Cipher is //p'
    kill "$server"
    server=''
}

# play FILE SUITE PROGRAM...: all of them, with clients of that configuration, which agree on SUITE.
play() {
    configuration=$1 wanted=$2
    shift 2
    got=$(suite "$configuration")
    [ "$got" = "$wanted" ] || { echo "$got is chosen, and not $wanted"; exit 1; }
    for program; do
        "${MAKE:-make}" -s "$program"
    done
    OPENSSL_CONF=$configuration LD_PRELOAD="$tmp/plain.so" tests/run.sh "$@"
}

"${MAKE:-make}" -s build/examples/echo
tls="build/tests/tls/alerts build/tests/tls/clients build/tests/tls/renewal"
# shellcheck disable=SC2086  # words
play /dev/null TLS_CHACHA20_POLY1305_SHA256 $tls build/tests/tls/strangers build/tests/unit/tls \
     build/tests/unit/tls13 build/tests/unit/tls_alerts
# shellcheck disable=SC2086
play "$tmp/aes.cnf" TLS_AES_128_GCM_SHA256 $tls
