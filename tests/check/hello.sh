#!/bin/sh
# The first program is the same in examples/hello.c, in the header's first comment and in
# README.md, byte for byte; and so is the second one's main, in the header and in examples/README.md.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Indented by three in the header, from the #define to the line before "Build".
sed -n '/^   #define HTTPSBIND_IMPLEMENTATION$/,/^   Build /{ /^   Build /q; s/^   //; p; }' httpsbind.h |
    sed -e :a -e '/^\n*$/{ $d; N; ba' -e '}' >"$tmp/header.c"
# shellcheck disable=SC2016  # these are Markdown's
sed -n '/^<!-- hello -->$/,/^```$/{ /^<!--/d; /^```/d; p; }' README.md >"$tmp/README.c"

cmp "$tmp/header.c" examples/hello.c
cmp "$tmp/README.c" examples/hello.c

sed -n '/^\/\* =* >>tour /,/^   1  /{ s/^   //; /^int main/,/^}/p; }' httpsbind.h >"$tmp/second.c"
sed -n '/^### The same by hand$/,/^### Graceful/{ /^int main/,/^}/p; }' examples/README.md >"$tmp/README.c"
[ -s "$tmp/second.c" ]
cmp "$tmp/second.c" "$tmp/README.c"
