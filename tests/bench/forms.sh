#!/bin/sh
# A large file as a part of a form, against the same file as the body of a PUT: what reading the
# form costs.  The same client sends both as they are on disk; curl -F would measure itself.
# MB=1024 ROUNDS=5 tests/bench/forms.sh
set -eu
out=build/bench
mkdir -p "$out"
mb=${MB:-1024} rounds=${ROUNDS:-5}
${CC:-cc} -O2 -I. tests/bench/forms.c -o "$out/forms" -lbearssl -lpthread
port=${PORT:-18460}
"$out/forms" "$port" &
forms=$!
trap 'kill -9 $forms 2>/dev/null || true; rm -f "$out/large" "$out/large.form"' EXIT
# Seconds of one upload.
ask() { curl -sk -m 120 -w "%{time_total}\n" -o /dev/null -H Expect: "$@"; }

# best ARGUMENTS...: megabytes a second, the best of the rounds.
best() {
    for _ in $(seq "$rounds"); do ask "$@"; done |
        sort -n | awk -v mb="$mb" 'NR == 1 { printf "%.0f\n", mb / $1 }'
}

sleep 1
for kind in random text; do
    if [ $kind = random ]; then
        head -c "${mb}M" /dev/urandom >"$out/large"
    else
        yes "$(printf 'a line of text, as they are in logs and tables, with CR LF\r')" | head -c "${mb}M" >"$out/large"
    fi
    {
        printf -- '--B\r\nContent-Disposition: form-data; name="f"; filename="large"\r\n\r\n'
        cat "$out/large"
        printf '\r\n--B--\r\n'
    } >"$out/large.form"
    for url in "http://127.0.0.1:$((port + 1))/" "https://127.0.0.1:$port/"; do
        put=$(best -T "$out/large" "$url")
        form=$(best -T "$out/large.form" -X POST -H 'Content-Type: multipart/form-data; boundary=B' "$url")
        awk -v k=$kind -v u="${url%%:*}" -v p="$put" -v f="$form" \
            'BEGIN { printf "%-6s %-5s  PUT %5d MB/s   form %5d MB/s   %3.0f %%\n", k, u, p, f, 100 * f / p }'
    done
done
