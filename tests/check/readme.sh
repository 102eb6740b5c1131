#!/bin/sh
# Every recipe of README.md builds as it says there: each ```c block takes the place of the
# first program's answer, of its main, or of both; a ```cpp block is a program of its own
# that is linked with an implementation in C.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
strict='-std=c99 -Wall -Wextra -pedantic -Wconversion -Wshadow -Werror'
include="-I. ${BEARSSL:+-isystem $BEARSSL/inc}" libs=${BEARSSL:+$BEARSSL/build/libbearssl.a}
: "${libs:=-lbearssl}"

# The three parts of the first program, each with the empty line behind it.
sed -n '1,/^$/p' examples/hello.c >"$tmp/includes"
sed -n '/^static void answer/,/^}/p' examples/hello.c >"$tmp/answer"
sed -n '/^int main/,$p' examples/hello.c >"$tmp/main"

# 1.c, 2.c ... and the heading above each in 1.name, 2.name ...
awk -v dir="$tmp" '
    /^```$/ && out  { close(out); out = "" }
    out             { print >out }
    /^#+ /          { name = $0; sub(/^#+ /, "", name) }
    /^```c(pp)?$/   { n++; out = dir "/" n "." substr($0, 4); print name >(dir "/" n ".name"); close(dir "/" n ".name") }
' README.md

# has FUNCTION FILE: the block defines it.
has() { grep -Eq "^[a-z].*[ *]$1\(" "$2"; }

link() {
    # shellcheck disable=SC2086  # flags are words
    "$@" $include $libs -lpthread
}

n=0
while n=$((n + 1)); [ -e "$tmp/$n.name" ]; do
    echo "    $(cat "$tmp/$n.name")"
    if [ -e "$tmp/$n.cpp" ]; then
        printf '#define HTTPSBIND_IMPLEMENTATION\n#include "httpsbind.h"\n' >"$tmp/unit.c"
        # shellcheck disable=SC2086
        cc -O0 $include -c -o "$tmp/unit.o" "$tmp/unit.c"
        link c++ -std=c++11 -Wall -Wextra -pedantic -Werror -o "$tmp/program" "$tmp/$n.cpp" "$tmp/unit.o"
        continue
    fi
    block=$tmp/$n.c
    if grep -q HTTPSBIND_IMPLEMENTATION "$block"; then
        cp "$block" "$tmp/program.c"
    else
        has answer "$block" || has main "$block" || { echo "neither an answer nor a main"; exit 1; }
        {
            cat "$tmp/includes"
            grep '^#include' "$block" || true
            has answer "$block" || ! grep -q '[^_]answer' "$block" || cat "$tmp/answer"
            grep -v '^#include' "$block"
            has main "$block" || cat "$tmp/main"
        } >"$tmp/program.c"
    fi
    # shellcheck disable=SC2086
    link cc -O0 $strict -o "$tmp/program" "$tmp/program.c"
    [ -z "${KEEP:-}" ] || cp "$tmp/program.c" "$KEEP/$n.c"
done
[ "$n" -gt 10 ]     # or the blocks were not found
