#!/bin/sh
# The first program is the same in examples/hello.c, in the header's first comment and in
# README.md, byte for byte.
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
