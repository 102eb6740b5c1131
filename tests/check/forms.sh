#!/bin/sh
# Forms with files from what sends them: curl -F, Python's requests, Node's fetch, Chromium and
# Firefox, with odd names and files, streamed and kept, over TLS and without.  What is not
# installed is said, and skipped.  A program without forms does not contain their code.
set -eu
out=build/check
mkdir -p "$out"
python=/usr/bin/python3
[ -x $python ] || { echo "skipped: no python3"; exit 0; }

# parsers NAME: how many functions of forms are in the program that is made of NAME.c.
parsers() {
    ${CC:-cc} -O1 -ffunction-sections -Wl,--gc-sections -I. "$1" -o "$out/sections" -lbearssl -lpthread
    nm "$out/sections" | grep -cE ' hsb__(multipart|forms)_' || true
}
[ "$(parsers examples/hello.c)" = 0 ] || { echo "FAILED: examples/hello.c contains the code of forms"; exit 1; }
[ "$(parsers tests/check/forms.c)" -gt 5 ] || { echo "FAILED: where are the functions of forms?"; exit 1; }
echo "ok: a program without forms does not contain their code"

${CC:-cc} -O1 -g -I. tests/check/forms.c -o "$out/forms" -lbearssl -lpthread
port=$($python -c 'import socket
while True:
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        try: b.bind(("127.0.0.1", a.getsockname()[1] + 1))
        except OSError: continue
        print(a.getsockname()[1])
        break')
"$out/forms" "$port" 2>"$out/forms.log" &
forms=$!
trap 'kill -9 $forms 2>/dev/null || true' EXIT
curl -sk -m 10 -o /dev/null --retry 20 --retry-connrefused --retry-delay 1 "https://127.0.0.1:$port/"

$python tests/check/forms.py "$port"
firefox=$(command -v firefox-esr || command -v firefox || true)
chromium=$(command -v chromium || true)
if command -v node >/dev/null && NODE_PATH=/usr/share/nodejs node -e 'require("ws")' 2>/dev/null; then
    NODE_PATH=/usr/share/nodejs node tests/check/forms.js "$port" "$chromium" "$firefox"
    [ -n "$chromium" ] || echo "skipped: no chromium"
    [ -n "$firefox" ] || echo "skipped: no firefox"
else
    echo "skipped: no node-ws"
fi
