#!/bin/sh
# T seconds (600) of clients that behave and clients that do not, against `echo --threads 2`.
# Afterwards its descriptors are as many as before, its memory is back, it still serves, and
# it ends as it should.  CC and BEARSSL as in the Makefile.
set -eu
cd "$(dirname "$0")/../.."
T=${T:-600}
margin_kib=${MARGIN:-16384}     # what allocators and pools may keep
out=build/soak
mkdir -p $out
${CC:-cc} -std=c99 -Wall -Wextra -O1 -D_GNU_SOURCE -o $out/soak tests/bench/soak.c -lssl -lcrypto -lpthread

build/examples/echo --address 127.0.0.1 --port 0 --threads 2 --cert tests/data/server-p256.pem \
    --key tests/data/server-p256.key --client-ca tests/data/ca.pem >$out/echo.log 2>&1 &
server=$!
trap 'kill -KILL $server 2>/dev/null || true' EXIT

fail() {
    echo "soak: $*" >&2
    tail -n 5 $out/echo.log >&2
    exit 1
}

tries=0
until grep -q 'listening on' $out/echo.log; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail "the server does not start"
    sleep 0.1
done
port=$(sed -n 's/.*listening on.*:\([0-9]*\).*/\1/p' $out/echo.log | head -n 1)

descriptors() { find "/proc/$server/fd" -type l | wc -l; }
resident() { awk '/^VmRSS:/ { print $2 }' "/proc/$server/status"; }

before=$(descriptors)
$out/soak "$port" 3 >/dev/null || fail "while warming up"
warm=$(resident)
$out/soak "$port" "$T" || fail "see above"
kill -0 $server || fail "the server died"

tries=0                         # those that linger or are silent have their time limits
until [ "$(descriptors)" -le "$before" ]; do
    tries=$((tries + 1))
    [ $tries -lt 400 ] || fail "$(descriptors) descriptors are open, before it were $before"
    sleep 0.1
done
after=$(resident)
$out/soak "$port" 1 >/dev/null || fail "does not serve any more"
echo "soak: $T s, descriptors $before and again $(descriptors), resident $warm KiB and $after KiB"
[ "$after" -le $((warm + margin_kib)) ] || fail "memory grew by $((after - warm)) KiB"
kill -TERM $server
wait $server || fail "the server ended with $?"
trap - EXIT
