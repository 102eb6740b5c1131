#!/bin/sh
# A large file as a part of a form, against the same file as the body of a PUT: what reading the
# form costs.  Both are counted and thrown away.  MB=1024 ROUNDS=5 tests/bench/forms.sh
set -eu
out=build/bench
mkdir -p "$out"
mb=${MB:-1024} rounds=${ROUNDS:-5}
${CC:-cc} -O2 -I. tests/bench/forms.c -o "$out/forms" -lbearssl -lpthread
port=${PORT:-18460}
"$out/forms" "$port" &
forms=$!
trap 'kill -9 $forms 2>/dev/null || true; rm -f "$out/large"' EXIT
# Seconds of one upload.
ask() { curl -sk -m 120 -w "%{time_total}\n" -o /dev/null -H Expect: "$@"; }

# best KIND OPTION VALUE URL: megabytes a second, the best of the rounds.
best() {
    for _ in $(seq "$rounds"); do ask "$2" "$3" "$4"; done |
        sort -n | awk -v mb="$mb" 'NR == 1 { printf "%.0f\n", mb / $1 }'
}

sleep 1
for kind in random text; do
    if [ $kind = random ]; then
        head -c "${mb}M" /dev/urandom >"$out/large"
    else
        yes "$(printf 'a line of text, as they are in logs and tables, with CR LF\r')" | head -c "${mb}M" >"$out/large"
    fi
    for url in "http://127.0.0.1:$((port + 1))/" "https://127.0.0.1:$port/"; do
        put=$(best put -T "$out/large" "$url")
        form=$(best form -F "f=@$out/large" "$url")
        awk -v k=$kind -v u="${url%%:*}" -v p="$put" -v f="$form" \
            'BEGIN { printf "%-6s %-5s  PUT %5d MB/s   form %5d MB/s   %3.0f %%\n", k, u, p, f, 100 * f / p }'
    done
done
