#!/bin/sh
# examples/chat with real clients: python3-websockets, node-ws, and its page in Chromium.
# What is not installed is said, and skipped.
set -eu
out=build/check
mkdir -p "$out"
${CC:-cc} -O1 -I. examples/chat.c -o "$out/chat" -lbearssl
: > "$out/chat.log"
"$out/chat" --port 0 > "$out/chat.log" 2>&1 &
chat=$!
trap 'kill -9 $chat 2>/dev/null || true' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    sleep 0.5
    port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$out/chat.log")
    [ -n "$port" ] && break
done
[ -n "$port" ] || { echo "chat does not start"; cat "$out/chat.log"; exit 1; }

python=/usr/bin/python3
if $python -c 'import websockets' 2>/dev/null; then
    $python tests/check/websocket.py "$port"
else
    echo "skipped: no python3-websockets"
fi
if command -v node >/dev/null && NODE_PATH=/usr/share/nodejs node -e 'require("ws")' 2>/dev/null; then
    NODE_PATH=/usr/share/nodejs node tests/check/websocket.js "$port" "$(command -v chromium || true)"
    command -v chromium >/dev/null || echo "skipped: no chromium"
else
    echo "skipped: no node-ws"
fi
kill -TERM $chat
wait $chat
