#!/bin/sh
# examples/serve with pebble, the CA for tests: one command gets a certificate that curl and
# Chromium trust, and a second start orders nothing.  What is not installed is said, and skipped.
set -eu
if ! command -v pebble >/dev/null || ! command -v pebble-challtestsrv >/dev/null; then
    echo "    skipped: no pebble"
    exit 0
fi
out=build/check/acme
rm -rf "$out"
mkdir -p "$out/site" "$out/home/.pki/nssdb"
echo 'Trusted by itself' >"$out/site/index.html"
${CC:-cc} -O1 -I. examples/serve.c -o "$out/serve" -lbearssl -lpthread
pids=
# shellcheck disable=SC2086
trap 'kill -9 $pids 2>/dev/null || true' EXIT

fail() { echo "FAILED: $*"; tail -n 5 "$out"/*.log; exit 1; }
within() {
    for _ in $(seq 1 100); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    fail "never: $*"
}
ports=$(python3 -c '
import socket
s = [socket.socket() for _ in range(6)]
[x.bind(("127.0.0.1", 0)) for x in s]
print(*[x.getsockname()[1] for x in s])')
# shellcheck disable=SC2086
set -- $ports
api=$1 management=$2 dns=$3 dns_management=$4 https=$5 http=$6

# Pebble's own certificate comes from a local CA.
"$out/serve" --local-ca "$out/api" --trust "$out/site" | grep -q 'never ca.key' || fail "--trust"
cat >"$out/pebble.json" <<END
{ "pebble": { "listenAddress": "127.0.0.1:$api", "managementListenAddress": "127.0.0.1:$management",
  "certificate": "$out/api/localhost.pem", "privateKey": "$out/api/localhost.pem",
  "httpPort": $http, "tlsPort": $https, "ocspResponderURL": "" } }
END
pebble-challtestsrv -dns01 "127.0.0.1:$dns" -http01 '' -https01 '' -tlsalpn01 '' -defaultIPv6 '' \
    -management "127.0.0.1:$dns_management" >"$out/dns.log" 2>&1 &
pids="$pids $!"
PEBBLE_VA_NOSLEEP=1 pebble -strict -config "$out/pebble.json" -dnsserver "127.0.0.1:$dns" \
    >"$out/pebble.log" 2>&1 &
pids="$pids $!"
within curl -s --cacert "$out/api/ca.pem" "https://localhost:$api/dir"

start() {
    "$out/serve" --acme localhost --acme-directory "https://localhost:$api/dir" --acme-folder "$out/keys" \
        --acme-roots "$out/api/ca.pem" --port "$https" "$out/site" >"$out/$1.log" 2>&1 &
    serve=$!
    pids="$pids $serve"
}
start first
within grep -q 'localhost: a new certificate; to be renewed' "$out/first.log"
curl -sS --cacert "$out/api/ca.pem" "https://localhost:$management/roots/0" -o "$out/root.pem"
curl -sS --cacert "$out/root.pem" "https://localhost:$https/" | grep -q 'Trusted by itself' || fail curl
grep -q "^  open  *https://localhost:$https/\$" "$out/first.log" || fail "it does not say where"
kill $serve
wait $serve || fail "serve ends with $?"
start second
within grep -q 'localhost: the stored certificate is good; to be renewed' "$out/second.log"
curl -sS --cacert "$out/root.pem" "https://localhost:$https/" | grep -q 'Trusted by itself' || fail curl
! grep -q ordering "$out/second.log" || fail "it orders again"
"$out/serve" --acme localhost --acme-directory "https://localhost:$api/dir" --acme-folder "$out/others" \
    --acme-roots "$out/api/ca.pem" --port 8443 "$out/site" >"$out/port.log" 2>&1 &
other=$!
pids="$pids $other"
within grep -q ':8443' "$out/port.log"          # obeyed, though it is the default without --acme
kill -9 "$other" || true                        # it may have found the port taken
echo "    ok: serve --acme: curl trusts it, and a second start orders nothing"

if ! command -v certutil >/dev/null; then
    echo "    skipped: no certutil (libnss3-tools)"
elif ! command -v chromium >/dev/null; then
    echo "    skipped: no chromium"
elif ! command -v node >/dev/null || ! NODE_PATH=/usr/share/nodejs node -e 'require("ws")' 2>/dev/null; then
    echo "    skipped: no node-ws"
else
    certutil -N -d "sql:$out/home/.pki/nssdb" --empty-password
    certutil -A -d "sql:$out/home/.pki/nssdb" -t C,, -n pebble -i "$out/root.pem"
    printf '    '
    NODE_PATH=/usr/share/nodejs node tests/check/trust.js "$(command -v chromium)" "$PWD/$out/home" \
        "https://localhost:$https/" 'Trusted by itself'
fi

# A program without it has nothing of it, and with it grows by less than 60 KB.
size() {
    cat >"$out/size.c" <<END
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
int main(void)
{
    hsb_serve_desc desc = { 0 };
    return hsb_serve(&desc);
}
END
    # shellcheck disable=SC2086  # flags are words
    ${CC:-cc} -Os -s -I. $1 -ffunction-sections -fdata-sections -Wl,--gc-sections -o "$out/size" "$out/size.c" \
        -l:libbearssl.a -lpthread
    wc -c <"$out/size"
}
without=$(size '') with=$(size -DHTTPSBIND_ACME)
[ $((with - without)) -lt 61440 ] || fail "it takes $((with - without)) bytes"
printf '#define HTTPSBIND_IMPLEMENTATION\n#include "httpsbind.h"\n' >"$out/alone.c"
${CC:-cc} -O1 -I. -c "$out/alone.c" -o "$out/alone.o"
if nm --defined-only "$out/alone.o" | grep -E ' hsb_+(acme|order|https|jws|json|challenge)'; then
    fail "without HTTPSBIND_ACME there is something of it"
fi
echo "    ok: it takes $((with - without)) bytes of a program with HTTPSBIND_ACME, and none of another"
