#!/bin/sh
# examples/serve with real clients: downloads that are taken up again, conditions, connections
# that are used again, BIG_GIB (1) GiB without taking memory, also at BIG_RATE (say 60M), and
# Chromium.
# What is not installed is said, and skipped.
set -eu
out=build/check
rm -rf "$out/site" && mkdir -p "$out/site/inbox"
${CC:-cc} -O2 -I. examples/serve.c -o "$out/serve" -lbearssl
head -c 8388608 /dev/urandom >"$out/site/large.bin"
: >"$out/serve.log"
"$out/serve" --port 0 --upload 1 "$out/site" >"$out/serve.log" 2>&1 &
serve=$!
trap 'kill -9 $serve 2>/dev/null || true; rm -rf "$out/site"' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10; do
    port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$out/serve.log" | head -n 1)
    [ -n "$port" ] && break
    sleep 0.5
done
[ -n "$port" ] || { echo "serve does not start"; cat "$out/serve.log"; exit 1; }
site=https://localhost:$port

fail() { echo "FAILED: $*"; exit 1; }
get() { curl -sSk "$@"; }
status() { get -o /dev/null -w '%{http_code}' "$@"; }
# expect STATUS CURL-ARGUMENTS...
expect() {
    wanted=$1
    shift
    got=$(status "$@")
    [ "$got" = "$wanted" ] || fail "curl $*: $got and not $wanted"
}

# --- taken up again -----------------------------------------------------------------------
# continues COMMAND...: what is left of the file, and not all of it once more.
ranges() { grep -c '"GET /large.bin HTTP/1.1" 206' "$out/serve.log" || true; }
continues() {
    before=$(ranges)
    head -c 3000000 "$out/site/large.bin" >"$out/part"
    "$@"
    cmp "$out/part" "$out/site/large.bin" || fail "$*"
    [ "$(ranges)" -gt "$before" ] || fail "$*: no range was asked for"
}
continues get -C - -o "$out/part" "$site/large.bin"
if command -v wget >/dev/null; then
    continues wget -q -c --no-check-certificate -O "$out/part" "$site/large.bin"
else
    echo "skipped: no wget"
fi

# --- conditions, HEAD, reuse -----------------------------------------------------------------
tag=$(get -I "$site/large.bin" | sed -n 's/^ETag: \(.*\).$/\1/p')
[ -n "$tag" ] || fail "no ETag"
expect 200 "$site/large.bin"
expect 304 -H "If-None-Match: $tag" "$site/large.bin"
expect 200 -H 'If-None-Match: "another"' "$site/large.bin"
expect 304 -z "$(date -u -d tomorrow '+%a, %d %b %Y %H:%M:%S GMT')" "$site/large.bin"
expect 304 -z "$out/site/large.bin" "$site/large.bin"
expect 200 -H "If-Match: $tag" "$site/large.bin"
expect 412 -H 'If-Match: "another"' "$site/large.bin"
expect 206 -r 5-9 -H "If-Range: $tag" "$site/large.bin"
expect 200 -r 5-9 -H 'If-Range: "another"' "$site/large.bin"
expect 416 -r 8388608- "$site/large.bin"
get -I "$site/large.bin" | grep -q '^Content-Length: 8388608.$' || fail HEAD
get -v "$site/large.bin" "$site/" "$site/none" -o /dev/null -o /dev/null -o /dev/null 2>"$out/said"
[ "$(grep -c 'Re-using existing connection' "$out/said")" = 2 ] || fail "the connection is not used again"
echo "ok: curl and wget, ranges and conditions"

# --- a file larger than memory -----------------------------------------------------------------
gib=${BIG_GIB:-1}
size=$((gib << 30))
truncate -s "$size" "$out/site/huge.bin"
for gigabyte in $(seq 0 $((gib - 1))); do       # a mark in each, and one at the very end
    printf 'mark %02d' "$gigabyte" | dd of="$out/site/huge.bin" conv=notrunc status=none \
        bs=7 seek=$(((gigabyte << 30) / 7 + 1))
done
printf 'the end' | dd of="$out/site/huge.bin" conv=notrunc status=none bs=1 seek=$((size - 7))
peak() { awk '/^VmHWM:/ { print $2 }' /proc/$serve/status; }
before=$(peak)
for rate in 0 ${BIG_RATE:-}; do             # 0: no limit
    get --limit-rate "$rate" "$site/huge.bin" | cmp - "$out/site/huge.bin" || fail "$gib GiB at $rate"
    [ $(($(peak) - before)) -lt 2048 ] || fail "memory grew from $before to $(peak) KiB"
    echo "ok: $gib GiB at rate $rate, at most $before KiB resident before and $(peak) after"
done

# --- Chromium -----------------------------------------------------------------------------------
# Ten minutes of silence in WAVE: 8000 samples a second, of one byte.
# shellcheck disable=SC2059  # the octal numbers are the format
byte() { printf "\\$(printf %o "$1")"; }
word() { for shift in 0 8 16 24; do byte $(($1 >> shift & 255)); done; }
samples=4800000
{
    printf RIFF; word $((samples + 36)); printf 'WAVEfmt '; word 16; word 65537; word 8000; word 8000
    word $((8 << 16 | 1)); printf data; word $samples
    head -c $samples /dev/zero | tr '\0' '\200'
} >"$out/site/silence.wav"
echo '<!doctype html><title>Video</title><video src="silence.wav" preload="metadata" controls></video>' \
    >"$out/site/video.html"
echo '<!doctype html><title>harmless</title><p>uploaded</p><script>document.title = "ran"</script>' \
    >"$out/page.html"
expect 201 -T "$out/page.html" "$site/inbox/"
expect 201 -T "$out/page.html" "$site/inbox/index.html"
if command -v chromium >/dev/null && NODE_PATH=/usr/share/nodejs node -e 'require("ws")' 2>/dev/null; then
    NODE_PATH=/usr/share/nodejs node tests/check/serve.js "$port" "$(command -v chromium)"
    [ "$(grep -c '"GET /silence.wav HTTP/1.1" 206' "$out/serve.log")" -ge 2 ] || fail "Chromium asked for no range"
    [ "$(cat "$out/site/inbox/from a page.txt")" = 'from a page' ] || fail "the file is not what was sent"
    [ "$(wc -c <"$out/site/inbox/dropped.txt")" = 500000 ] || fail "the dropped file is not what was sent"
else
    echo "skipped: no chromium, or no node-ws"
fi
kill -TERM $serve
wait $serve
