#!/bin/sh
# README.md has at most 250 lines, its links lead somewhere, and each of its commands (after "$ ")
# is run here, is run by another script (those of root: deploy.sh), or needs a network.
set -eu
tmp=$(mktemp -d) pids=
# shellcheck disable=SC2086  # one word a process
trap '[ -z "$pids" ] || kill $pids 2>/dev/null || true; rm -rf "$tmp"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

# heading PAGE ANCHOR: as GitHub makes it, lower case, without punctuation, "-" for a space.
heading() {
    sed -n 's/^##* //p' "$1" | tr '[:upper:] ' '[:lower:]-' | tr -cd 'a-z0-9\n_-' | grep -qxF -e "$2" ||
        fail "$1: no heading $2"
}

[ "$(wc -l <README.md)" -le 250 ] || fail "README.md has more than 250 lines"
for page in README.md examples/README.md; do
    grep -o '](\([^)]*\))' $page | sed 's/^](//; s/)$//' | while read -r link; do
        case $link in
        http*) ;;
        '#'*) heading $page "${link#?}" ;;
        *'#'*) heading examples/README.md "${link#*#}" ;;
        *) [ -e "$(dirname $page)/$link" ] || fail "$page: no file $link" ;;
        esac
    done
done

# Of the lines that install something, only that of this system can be tried; and not really.
if command -v apt-get >/dev/null; then
    # shellcheck disable=SC2016  # Markdown's
    packages=$(sed -n 's/^| Debian, Ubuntu | `sudo apt-get install \(.*\)` |$/\1/p' README.md)
    [ -n "$packages" ] || fail "no line for Debian"
    # shellcheck disable=SC2086  # one word a package
    apt-get -s install $packages >/dev/null || fail "apt-get install $packages"
fi

make --no-print-directory build/examples/serve >"$tmp/log" 2>&1 || fail "$(cat "$tmp/log")"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
ask() { curl -sk -m 10 --retry 20 --retry-connrefused --retry-delay 1 "https://localhost:$port/$1"; }
libs=${BEARSSL:+-I$BEARSSL/inc -L$BEARSSL/build}

# The first program, in a folder with nothing but the header; only its port is another one.
mkdir "$tmp/first" "$tmp/photos"
cp httpsbind.h "$tmp/first"
sed "s/desc = { /&.port = $port, /" examples/hello.c >"$tmp/first/hello.c"

start() { "$@" >"$tmp/log" 2>&1 & pids=$!; }
stop() {
    kill $pids
    wait $pids || fail "exit status $? of $line"
    pids=
}

sed -n 's/^\$ //p' README.md >"$tmp/commands"
[ "$(wc -l <"$tmp/commands")" -ge 10 ] || fail "no commands in README.md"
while read -r line <&3; do
    echo "    $line"
    case $line in
    'cc -o hello hello.c -lbearssl')
        # shellcheck disable=SC2086  # flags are words
        (cd "$tmp/first" && cc $libs -o hello hello.c -lbearssl) ;;
    ./hello)
        start "$tmp/first/hello"
        [ "$(ask '')" = 'Hello over HTTPS' ] || fail "./hello"
        grep -q "^listening on https://localhost:$port\$" "$tmp/log" || fail "./hello says: $(cat "$tmp/log")"
        stop ;;
    'curl -k https://localhost:8443/') ;;               # just now
    'make deps run')
        make --no-print-directory run ARGS="--port $port" >"$tmp/log" 2>&1 &
        pids=$!
        ask '' | cmp - examples/site/index.html || fail "make run"
        kill "$(pgrep -P $pids -x serve || pgrep -P "$(pgrep -P $pids | head -n 1)" -x serve)"
        wait $pids || fail "make run ends with $?"
        pids= ;;
    'make deps test') ;;                                # this suite
    'build/examples/serve --help') $line >/dev/null ;;
    'build/examples/serve --local-ca ca --trust')
        build/examples/serve --local-ca "$tmp/ca" --trust >"$tmp/log"
        for word in ca.pem 'never ca.key' Debian Windows Firefox Android iPhone; do
            grep -q "$word" "$tmp/log" || fail "--trust does not say: $word"
        done ;;
    'sudo build/examples/serve --acme '*) ;;            # deploy.sh, with a CA for tests
    'build/examples/serve '*)
        # shellcheck disable=SC2086,SC2046  # words
        set -- $(echo "$line" | sed "s,~/[a-z]*,$tmp/photos,; s,fullchain.pem,tests/data/server-p256.pem,
                                     s,privkey.pem,tests/data/server-p256.key,
                                     s,--local-ca ca,--local-ca $tmp/ca,")
        start "$@" --port "$port"
        ask '' >/dev/null || fail "$line: $(cat "$tmp/log")"
        stop ;;
    'git clone '*) [ -z "${BEARSSL:-}" ] || ln -s "$(cd "$BEARSSL" && pwd)" "$tmp/first/BearSSL" ;;   # network
    'make -C BearSSL' | *' BearSSL/build/libbearssl.a')
        [ -z "${BEARSSL:-}" ] || (cd "$tmp/first" && $line >"$tmp/log") || fail "$line" ;;
    'sudo make install' | *'pkg-config --cflags --libs httpsbind)') ;;          # install.sh, deploy.sh
    *) fail "nobody runs this command" ;;
    esac
done 3<"$tmp/commands"
