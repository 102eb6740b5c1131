#!/bin/sh
# Other people's clients, each in TLS 1.3 and 1.2, without and with a certificate: a full
# handshake, then one that resumes, which brings the certificate along.
# A tool that is not here (make deps-check brings them) is said to be, and left out.
set -eu
here=$PWD/tests/check/clients data=$PWD/tests/data
tmp=$(mktemp -d) server=''
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
command -v openssl >/dev/null || { echo "skipped: no openssl"; exit 0; }

libs=${BEARSSL:+$BEARSSL/build/libbearssl.a}
${CC:-cc} -O1 -I. ${BEARSSL:+-isystem "$BEARSSL/inc"} -o "$tmp/server" "$here/server.c" "${libs:--lbearssl}"
"$tmp/server" "$data/server-p256.pem" "$data/server-p256.key" "$data/ca.pem" >"$tmp/port" &
server=$!
for _ in $(seq 100); do
    [ ! -s "$tmp/port" ] || break
    sleep 0.1
done
port=$(head -n 1 "$tmp/port")
cd "$tmp"
printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' >request
openssl pkcs12 -export -passout pass:secret -name ann -in "$data/client-p256.pem" \
    -inkey "$data/client-p256.key" -out ann.p12

have() {
    command -v "$1" >/dev/null && return
    echo "skipped: no $1"
    return 1
}

# check NAME VERSION WHO SECOND: $tmp/said has what the server said on the two connections.  The
# second one is "resumed", or "full" where the client cannot; gnutls-cli shows no other.
check() {
    printf '%s full %s\n%s %s %s\n' "$2" "$3" "$2" "$4" "$3" >wanted
    [ "$1" != gnutls ] || sed -i 1d wanted
    grep -a -o -E '1\.[23] (full|resumed) .*' said | tr -d '\r' >got || true
    cmp -s wanted got && return
    echo "$1, TLS $2, $3: FAILED"
    tail -n 40 said
    exit 1
}

# both NAME RESUMES_12: NAME_client VERSION [CERT KEY] makes two connections.
both() {
    for version in 1.3 1.2; do
        second=resumed
        [ $version = 1.3 ] || second=$2
        "$1_client" $version >said 2>&1 </dev/null || true
        check "$1" $version nobody "$second"
        "$1_client" $version "$data/client-p256.pem" "$data/client-p256.key" >said 2>&1 </dev/null || true
        check "$1" $version CN=ann,O=Example "$second"
    done
}

openssl_client() {
    use=-sess_out
    for _ in 1 2; do
        timeout 60 openssl s_client -connect "127.0.0.1:$port" -servername localhost -ign_eof \
            -CAfile "$data/ca.pem" -verify_return_error "-tls1_${1#1.}" -no_ticket $use session \
            ${2:+-cert "$2" -key "$3"} <request
        use=-sess_in
    done
}

curl_client() {
    curl -sS -m 60 --cacert "$data/ca.pem" --tlsv"$1" --tls-max "$1" ${2:+--cert "$2" --key "$3"} \
        "https://localhost:$port/1" "https://localhost:$port/2"
}

gnutls_client() {
    timeout 60 gnutls-cli --x509cafile "$data/ca.pem" -p "$port" --resume --waitresumption \
        --priority "NORMAL:-VERS-ALL:+VERS-TLS$1" ${2:+--x509certfile "$2" --x509keyfile "$3"} \
        localhost <request
}

# The certificate is in one of two databases.
nss_client() {
    timeout 60 tstclnt -4 -h localhost -p "$port" -d "sql:nss${2:+-ann}" -V "tls$1:tls$1" -L 2 \
        ${2:+-n ann} -A request
}

nss_databases() {
    for base in nss nss-ann; do
        mkdir $base
        certutil -N -d sql:$base --empty-password
        certutil -A -d sql:$base -n ca -t C,, -i "$data/ca.pem"
    done
    pk12util -i ann.p12 -d sql:nss-ann -W secret -K '' >said 2>&1
}

python_client() { timeout 60 python3 "$here/client.py" "$port" "$1" "$data/ca.pem" ${2:+"$2" "$3"}; }
node_client() { timeout 60 node "$here/client.js" "$port" "$1" "$data/ca.pem" ${2:+"$2" "$3"}; }
go_client() { timeout 60 ./go-client "$port" "$1" "$data/ca.pem" ${2:+"$2" "$3"}; }
java_client() { timeout 60 java "$here/Client.java" "$port" "$1" "$data/ca.pem" ${2:+ann.p12}; }

# It opens connections as it likes: the last of them resume.
chromium_client() {
    timeout 60 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$tmp/chromium-$1" \
        --ignore-certificate-errors --ssl-version-max="tls$1" --dump-dom \
        "https://localhost:$port/page" >said 2>&1 || true
    grep -q "$1 resumed nobody" said && ! grep -q -E "^1\\.[^${1#1.}] " said && return
    echo "chromium, TLS $1: FAILED"
    grep -v dbus/ said | tail -n 40
    exit 1
}

# firefox_client VERSION RESUMES [ann CN]: the same; here the server says how it went.  Firefox
# resumes by tickets only, and never a session in which it has shown a certificate.
firefox_client() {
    rm -rf firefox
    cp -R "nss${3:+-ann}" firefox
    if [ "$1" = 1.3 ]; then lowest=4; else lowest=3; fi
    for pref in "'security.tls.version.min', $lowest" "'security.tls.version.max', $lowest" \
        "'security.default_personal_cert', 'Select Automatically'" \
        "'network.captive-portal-service.enabled', false" \
        "'network.connectivity-service.enabled', false" "'app.update.enabled', false" \
        "'browser.safebrowsing.downloads.remote.enabled', false" "'app.normandy.enabled', false" \
        "'services.settings.server', 'data:,#'" "'browser.shell.checkDefaultBrowser', false" \
        "'datareporting.policy.dataSubmissionEnabled', false"; do
        echo "user_pref($pref);" >>firefox/user.js
    done
    before=$(wc -l <port)
    HOME=$tmp timeout 90 "$firefox" --headless --no-remote --profile "$tmp/firefox" \
        --screenshot "$tmp/page.png" "https://localhost:$port/page" >shown 2>&1 || true
    sed "1,${before}d" port >said
    grep -q "^$1 full ${4:-nobody}\$" said && grep -q "^$1 $2 ${4:-nobody}\$" said &&
        ! grep -v -q "^$1 " said && return
    echo "firefox, TLS $1, ${4:-nobody}: FAILED"
    tail -n 40 said shown
    exit 1
}

both openssl resumed
if have curl; then both curl resumed; fi
if have gnutls-cli; then both gnutls resumed; fi
if have certutil; then nss_databases; fi
if have tstclnt && have certutil; then both nss resumed; fi
if have python3; then both python resumed; fi
if have node; then both node resumed; fi
if have go; then        # in TLS 1.2 it resumes by tickets only, and we by session IDs
    HOME=$tmp go build -o go-client "$here/client.go"
    both go full
fi
if have javac; then both java resumed; fi
if have chromium; then
    chromium_client 1.3
    chromium_client 1.2
fi
firefox=$(command -v firefox-esr || command -v firefox || echo firefox)
if have "$firefox" && have certutil; then
    firefox_client 1.3 resumed
    firefox_client 1.2 full
    for version in 1.3 1.2; do
        firefox_client $version full ann CN=ann,O=Example
    done
fi
