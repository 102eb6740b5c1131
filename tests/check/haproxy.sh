#!/bin/sh
# The cookbook's two machines behind haproxy: a session of one resumes at the other, and through
# haproxy whichever gets the connection; with another key, or in TLS 1.2, it does not.
set -eu
for tool in haproxy openssl curl; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 0; }
done
tmp=$(mktemp -d) pids=
# shellcheck disable=SC2086  # one word a process
trap '[ -z "$pids" ] || kill $pids 2>/dev/null || true; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $*"
    cat "$tmp"/*.log
    exit 1
}

# The program of the recipe, and its haproxy.cfg.
name="Two machines that resume each other's sessions"
python3 tests/check/cookbook.py --program "$name" >"$tmp/hello.c"
libs=${BEARSSL:+$BEARSSL/build/libbearssl.a}
${CC:-cc} -O1 -I. ${BEARSSL:+-isystem "$BEARSSL/inc"} -o "$tmp/hello" "$tmp/hello.c" \
    "${libs:--lbearssl}" >"$tmp/build.log" 2>&1 || fail build
cp tests/data/server-p256.pem "$tmp/default.pem"
cp tests/data/server-p256.key "$tmp/default.key"

ports=$(python3 -c 'import socket
s = [socket.socket() for _ in range(4)]
for i in s: i.bind(("127.0.0.1", 0))
print(*[i.getsockname()[1] for i in s])')
# shellcheck disable=SC2086  # four words
set -- $ports
a=$1 b=$2 other=$3 front=$4

# start PORT: with the ticket.key that is there now.
start() {
    (cd "$tmp" && exec ./hello "$1") >"$tmp/$1.log" 2>&1 &
    pids="$pids $!"
    curl -sk -m 10 -o /dev/null --retry 20 --retry-connrefused --retry-delay 1 "https://localhost:$1/" ||
        fail "no server on port $1"
}

head -c 32 /dev/urandom >"$tmp/ticket.key"
start "$a"
start "$b"
head -c 32 /dev/urandom >"$tmp/ticket.key"
start "$other"
{
    printf 'global\n    log stdout format raw local0\n'
    awk -v name="### $name" '/^### /{ on = $0 == name } on' examples/README.md |
        sed -n '/^defaults$/,/^    server b /p' |
        sed "s/bind :443/bind 127.0.0.1:$front/; s/:8444/:$a/; s/:8445/:$b/
             s/^    mode tcp/&\n    log global\n    option tcplog/"
} >"$tmp/haproxy.cfg"
haproxy -f "$tmp/haproxy.cfg" >"$tmp/haproxy.log" 2>&1 &
pids="$pids $!"
curl -sk -m 10 -o /dev/null --retry 20 --retry-connrefused --retry-delay 1 "https://localhost:$front/" ||
    fail "nothing comes through haproxy"

# visit PORT WANTED OPTION...: "New" or "Reused", and an answer.
visit() {
    port=$1 wanted=$2
    shift 2
    printf 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' |
        timeout 30 openssl s_client -connect "127.0.0.1:$port" -servername localhost -ign_eof \
            -CAfile tests/data/ca.pem -verify_return_error "$@" >"$tmp/said.log" 2>&1 || true
    grep -q "^$wanted, TLSv1" "$tmp/said.log" || fail "port $port, $*: not $wanted"
    grep -q '^Hello over HTTPS' "$tmp/said.log" || fail "port $port, $*: no answer"
}

visit "$a" New -tls1_3 -sess_out "$tmp/session"
visit "$b" Reused -tls1_3 -sess_in "$tmp/session"
visit "$a" Reused -tls1_3 -sess_in "$tmp/session"
visit "$other" New -tls1_3 -sess_in "$tmp/session"
visit "$a" New -tls1_2 -no_ticket -sess_out "$tmp/session12"
visit "$a" Reused -tls1_2 -no_ticket -sess_in "$tmp/session12"
visit "$b" New -tls1_2 -no_ticket -sess_in "$tmp/session12"
visit "$front" New -tls1_3 -sess_out "$tmp/session"
for _ in 1 2 3 4; do
    visit "$front" Reused -tls1_3 -sess_in "$tmp/session" -sess_out "$tmp/session"
done
for server in https/a https/b; do
    [ "$(grep -c " $server " "$tmp/haproxy.log")" -ge 2 ] || fail "$server got no connection"
done
