#!/bin/sh
# `make install` puts two files below DESTDIR and PREFIX and nothing anywhere else, and a
# program built with pkg-config alone finds the header.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bearssl=${BEARSSL:+$(cd "$BEARSSL" && pwd)}

for prefix in /usr/local /opt/some; do
    make --no-print-directory install DESTDIR="$tmp" PREFIX=$prefix >"$tmp/log"
    PKG_CONFIG_PATH=$tmp$prefix/lib/pkgconfig
    export PKG_CONFIG_PATH
    [ "$(pkg-config --variable=prefix httpsbind)" = $prefix ]
    # The package is unpacked where it was installed to: below DESTDIR.
    flags=$(pkg-config --define-variable=prefix="$tmp$prefix" --cflags --libs httpsbind)
    cp examples/hello.c "$tmp/hello.c"
    # shellcheck disable=SC2086  # flags are words
    (cd "$tmp" && cc -O0 ${bearssl:+"-I$bearssl/inc" "-L$bearssl/build"} -o hello hello.c $flags)
    [ -x "$tmp/hello" ]
    cmp httpsbind.h "$tmp$prefix/include/httpsbind.h"
    [ "$(find "$tmp$prefix" -type f | wc -l)" -eq 2 ]
    [ "$(stat -c %a "$tmp$prefix/include/httpsbind.h")" = 644 ]
    version=$(sed -n 's/^#define HSB_VERSION  *"\(.*\)"/\1/p' httpsbind.h)
    [ "$(pkg-config --modversion httpsbind)" = "$version" ]
    rm "$tmp/hello"
done
