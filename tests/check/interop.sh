#!/bin/sh
# Other people's clients and scanners against examples/echo: all of them connect, sessions
# survive reconnecting in both versions of TLS, and a scanner finds no fault.
#   TESTSSL=1 tests/check/interop.sh      runs testssl.sh, too, which takes a minute or two
# A tool that is not here (make deps-check brings them) is said to be, and left out.
set -u
tmp=$(mktemp -d)
pids='' failed=0
# shellcheck disable=SC2086,SC2154  # one word a process
trap 'kill $pids 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
data=tests/data

fail() {
    failed=1
    echo "$1 FAILED"
    grep -v dbus/ "$tmp/said" | tail -n 40 | sed 's/^/    /'      # (which Chromium misses)
}

have() {
    command -v "$1" >/dev/null && return
    echo "no $1 here: skipped"
    return 1
}

# try NAME COMMAND...: it ends well, and says "hello".
try() {
    what=$1
    shift
    if ! timeout 60 "$@" >"$tmp/said" 2>&1 </dev/null || ! grep -q hello "$tmp/said"; then
        fail "$what"
    fi
}

# Starts echo with that certificate, and sets port.
serve() {
    : >"$tmp/ready"
    "$tmp/examples/echo" --port 0 --cert "$data/$1.pem" --key "$data/$1.key" \
        >"$tmp/ready" 2>"$tmp/errors" &
    pids="$pids $!"
    for _ in $(seq 100); do
        port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$tmp/ready")
        [ -z "$port" ] || return 0
        sleep 0.1
    done
    cat "$tmp/errors"
    exit 1
}

# What a session or a protocol offer does not survive in BearSSL 0.6 kills the server: it is
# asked again after all.
still_serves() {
    try "$1: the server afterwards" curl -sS --cacert $data/ca.pem "https://localhost:$port/"
}

# --- OpenSSL ------------------------------------------------------------------------------
s_client() {
    timeout 60 openssl s_client -connect "localhost:$port" -servername localhost \
        -CAfile $data/ca.pem -verify_return_error "$@" >"$tmp/said" 2>&1 </dev/null
}

reconnects() {
    s_client -tls1_2 -no_ticket -reconnect || fail "s_client -reconnect"
    [ "$(grep -c '^Reused, TLSv1.2' "$tmp/said")" = 5 ] || fail "s_client -reconnect: resumption"
    [ "$(grep -c '^New, TLSv1.2' "$tmp/said")" = 1 ] || fail "s_client -reconnect: first"
}

# TLS 1.3: a ticket resumes once; new keys are made when the client asks for them.
resumes_13() {
    printf 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >"$tmp/request"
    for use in New Reused New; do
        set -- -sess_in "$tmp/session13"
        [ -e "$tmp/session13" ] || set -- -sess_out "$tmp/session13"
        timeout 60 openssl s_client -connect "localhost:$port" -servername localhost -tls1_3 \
            -ign_eof -CAfile $data/ca.pem "$@" <"$tmp/request" >"$tmp/said" 2>&1
        grep -q "^$use, TLSv1.3" "$tmp/said" || fail "TLS 1.3: $use"
        grep -q '^hello' "$tmp/said" || fail "TLS 1.3: an answer"
    done
    rm -f "$tmp/session13"
    (echo K; sleep 0.3; echo k; sleep 0.3; cat "$tmp/request"; sleep 0.3) |
        timeout 60 openssl s_client -connect "localhost:$port" -tls1_3 >"$tmp/said" 2>&1
    grep -q '^hello' "$tmp/said" || fail "TLS 1.3: KeyUpdate"
}

# A session made under one protocol, and offered with others.
changes_protocols() {
    s_client -tls1_2 -no_ticket -alpn http/1.1 -sess_out "$tmp/session" || fail "-alpn http/1.1"
    grep -q '^ALPN protocol: http/1.1' "$tmp/said" || fail "-alpn http/1.1: not agreed"
    for offer in h2 http/1.0,h2 http/1.1 h2,http/1.1; do
        s_client -tls1_2 -no_ticket -alpn "$offer" -sess_in "$tmp/session"
        case $offer in
        *http/1.1) grep -q '^Reused, ' "$tmp/said" || fail "-alpn $offer: resumption" ;;
        *) grep -q -i 'alert number 120\|no application protocol' "$tmp/said" || fail "-alpn $offer: agreed" ;;
        esac
        still_serves "-alpn $offer"
    done
}

# Both refused: renegotiation, and whoever knows older versions only.
is_strict() {
    (sleep 1; echo R; sleep 1) |
        timeout 60 openssl s_client -connect "localhost:$port" -tls1_2 >"$tmp/said" 2>&1
    grep -q -i 'no renegotiation\|handshake failure\|unexpected message' "$tmp/said" || fail "renegotiation refused"
    for version in -tls1 -tls1_1; do
        s_client "$version" -cipher ALL:@SECLEVEL=0 && fail "s_client $version refused"
    done
    still_serves "strictness"
}

# --- everybody -------------------------------------------------------------------------------
python_client() {
    cat <<'END'
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.maximum_version = ssl.TLSVersion.TLSv1_2
context.options |= ssl.OP_NO_TICKET
context.set_alpn_protocols(["h2", "http/1.1"])
session = None
for resumed in (False, True):
    with socket.create_connection(("localhost", int(sys.argv[2]))) as s:
        with context.wrap_socket(s, server_hostname="localhost", session=session) as tls:
            assert tls.selected_alpn_protocol() == "http/1.1"
            assert tls.session_reused == resumed
            session = tls.session
            tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: tls.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 200 ")
            print(answer.decode())
END
}

node_client() {
    cat <<'END'
const https = require('https'), fs = require('fs');
https.get({ host: 'localhost', port: process.argv[3], ca: fs.readFileSync(process.argv[2]) },
          r => r.pipe(process.stdout)).on('error', e => { throw e; });
END
}

gnutls() {
    printf 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >"$tmp/request"
    timeout 60 gnutls-cli --x509cafile $data/ca.pem -p "$port" "$@" localhost <"$tmp/request" >"$tmp/said" 2>&1
    grep -q '^hello' "$tmp/said" || fail "gnutls-cli $*"
}

chromium_client() {
    pin=$(openssl x509 -in "$data/$1.pem" -noout -pubkey | openssl pkey -pubin -outform der |
          openssl dgst -sha256 -binary | base64)
    try chromium chromium --headless --no-sandbox --disable-gpu --user-data-dir="$tmp/chromium" \
        --ignore-certificate-errors-spki-list="$pin" --dump-dom "https://localhost:$port/"
}

clients() {
    have curl && try curl curl -sS --cacert $data/ca.pem "https://localhost:$port/"
    have wget && try wget wget -q -O - --ca-certificate=$data/ca.pem "https://localhost:$port/"
    have python3 && python_client >"$tmp/client.py" &&
        try python3 python3 "$tmp/client.py" $data/ca.pem "$port"
    have node && node_client >"$tmp/client.js" && try node node "$tmp/client.js" $data/ca.pem "$port"
    if have gnutls-cli; then
        gnutls
        gnutls --resume --priority NORMAL:-VERS-ALL:+VERS-TLS1.2:%NO_TICKETS
        grep -q 'This is a resumed session' "$tmp/said" || fail "gnutls-cli: resumption"
    fi
    have chromium && chromium_client "$1"
}

# --- scanners ----------------------------------------------------------------------------------
scan() {
    sslscan --no-colour --connect-timeout=20 "localhost:$port" >"$tmp/said" 2>&1 || fail sslscan
    for version in TLSv1.2 TLSv1.3; do
        grep -q "^$version *enabled" "$tmp/said" || fail "sslscan: $version"
    done
    for old in SSLv2 SSLv3 TLSv1.0 TLSv1.1; do
        grep -q "^$old *disabled" "$tmp/said" || fail "sslscan: $old"
    done
    grep -q '^Session renegotiation not supported' "$tmp/said" || fail "sslscan: renegotiation"
    grep -q '^Server supports TLS Fallback SCSV' "$tmp/said" || fail "sslscan: fallback"
    grep -q 'not vulnerable to heartbleed' "$tmp/said" || fail "sslscan: heartbleed"
    if grep -E '^(Preferred|Accepted)' "$tmp/said" |
        grep -v -E 'ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA|CHACHA20-POLY1305)|TLSv1.3 .*TLS_(AES|CHACHA20)'
    then
        fail "sslscan: a suite that is not ECDHE with AEAD"
    fi
    grep -q '^Preferred.*\(ECDHE\|TLS_\)' "$tmp/said" || fail "sslscan: no suite"
}

# Of protocols, ciphers, forward secrecy and vulnerabilities.
scan_long() {
    rm -f "$tmp/found.json"
    timeout 900 "$1" --quiet --color 0 --warnings off --protocols --std --fs -U \
        --jsonfile "$tmp/found.json" "localhost:$port" >"$tmp/said" 2>&1
    grep -q '"id" *: *"LUCKY13"' "$tmp/found.json" || fail "testssl.sh: its end"
    grep -E '"severity" *: *"(LOW|MEDIUM|HIGH|CRITICAL|FATAL)"' "$tmp/found.json" &&
        fail "testssl.sh: findings"
    grep -E 'Done|offered|vulnerable' "$tmp/said"
}

have openssl || exit 1
"${MAKE:-make}" -s OUT="$tmp" "$tmp/examples/echo" >"$tmp/said" 2>&1 || { fail build; exit 1; }
for name in server-p256 server-rsa2048; do
    serve "$name"
    reconnects
    resumes_13
    changes_protocols
    is_strict
    clients "$name"
    if have sslscan; then scan; fi
    if [ -n "${TESTSSL:-}" ]; then
        for tool in testssl testssl.sh; do
            command -v $tool >/dev/null && { scan_long $tool; break; }
        done
    fi
done
exit $failed
