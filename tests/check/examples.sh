#!/bin/sh
# Each example begins with a comment that has one cc line, and that line builds it.  (hello.c
# is the header's first program: the line stands there.)
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

for file in examples/*.c; do
    name=$(basename "$file" .c)
    [ "$name" != hello ] || continue
    sed '/\*\/$/q' "$file" | sed -n 's/^ *\(cc .*\)$/\1/p' | sed 's/ *\*\/$//; s/ && .*//' >"$tmp/line"
    if [ "$(wc -l <"$tmp/line")" -ne 1 ] || ! head -n 1 "$file" | grep -q '^/\* '; then
        echo "$file: no first comment with one cc line"
        exit 1
    fi
    case $(cat "$tmp/line") in
    *-luv*) pkg-config --exists libuv || continue ;;
    *-levent*) pkg-config --exists libevent || continue ;;
    esac
    sed "s| -o | -o $tmp/|; ${BEARSSL:+s|-lbearssl|-I$BEARSSL/inc $BEARSSL/build/libbearssl.a|}" "$tmp/line" >"$tmp/build"
    sh -e "$tmp/build"
    if [ ! -x "$tmp/$name" ]; then
        echo "$file: its cc line does not make $name"
        exit 1
    fi
done
