#!/bin/sh
# A local CA with real clients: openssl, curl, and Chromium, each of which trusts ca.pem.
# What is not installed is said, and skipped.
set -eu
out=build/check/trust
rm -rf "$out"
mkdir -p "$out/home/.pki/nssdb"
cat >"$out/lan.c" <<'END'
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <stdio.h>

static void answer(hsb_request *req, void *user)
{
    (void)user;
    hsb_respond(req, 200, "text/plain", hsb_text("Trusted here\n"));
}

int main(int argc, char **argv)
{
    static const char *const more[] = { "nas.lan", NULL };
    hsb_security_desc desc = { .self_signed_for = "localhost", .self_signed_names = more };
    hsb_options options = { .hooks.on_request = answer };
    hsb_error err;
    desc.local_ca = argv[argc - 1];
    hsb_security *security = hsb_security_new(&desc, &err);
    hsb_server *server = security ? hsb_bind_secure("127.0.0.1", 0, security, &options, &err) : NULL;
    if (!server)
        return fprintf(stderr, "%s\n", err.text), 1;
    printf("%d\n", hsb_server_port(server));
    fflush(stdout);
    return hsb_server_run(server, &err) ? 0 : 1;
}
END
${CC:-cc} -O1 -I. "$out/lan.c" -o "$out/lan" -lbearssl

start() {
    : >"$out/port"
    "$out/lan" "$out/ca" >"$out/port" &
    server=$!
    port=
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        port=$(cat "$out/port")
        [ -n "$port" ] && break
        sleep 0.5
    done
    [ -n "$port" ] || { echo "FAILED: it does not start"; exit 1; }
}
trap 'kill -9 $server 2>/dev/null || true' EXIT

page() {
    curl -sS --cacert "$out/ca/ca.pem" "$@"
}

start
before=$(sha256sum <"$out/ca/localhost.pem")
openssl verify -x509_strict -purpose sslserver -CAfile "$out/ca/ca.pem" "$out/ca/localhost.pem" >/dev/null
page "https://localhost:$port/" | grep -q 'Trusted here'
page "https://127.0.0.1:$port/" | grep -q 'Trusted here'
page --resolve "nas.lan:$port:127.0.0.1" "https://nas.lan:$port/" | grep -q 'Trusted here'
if page --resolve "other.lan:$port:127.0.0.1" "https://other.lan:$port/" 2>/dev/null; then
    echo "FAILED: curl takes it for another name"
    exit 1
fi
kill $server
wait $server 2>/dev/null || true
start
[ "$before" = "$(sha256sum <"$out/ca/localhost.pem")" ]
page "https://localhost:$port/" | grep -q 'Trusted here'
echo "    ok: openssl verifies it, curl --cacert trusts each name, also after a restart"

if ! command -v certutil >/dev/null; then
    echo "    skipped: no certutil (libnss3-tools)"
elif ! command -v chromium >/dev/null; then
    echo "    skipped: no chromium"
elif ! command -v node >/dev/null || ! NODE_PATH=/usr/share/nodejs node -e 'require("ws")' 2>/dev/null; then
    echo "    skipped: no node-ws"
else
    certutil -N -d "sql:$out/home/.pki/nssdb" --empty-password
    certutil -A -d "sql:$out/home/.pki/nssdb" -t C,, -n 'local CA' -i "$out/ca/ca.pem"
    printf '    '
    NODE_PATH=/usr/share/nodejs node tests/check/trust.js "$(command -v chromium)" "$PWD/$out/home" \
        "https://localhost:$port/" 'Trusted here'
fi
