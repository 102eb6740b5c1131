#!/bin/sh
# `make install` puts two files and the manual pages below DESTDIR and PREFIX and nothing anywhere
# else; a program built with pkg-config alone finds the header; every public function and type has a
# page, in which its declaration stands, and mandoc has no warning.
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
    [ "$(find "$tmp$prefix" -type f ! -path "*/share/man/man3/*.3" | wc -l)" -eq 2 ]
    [ "$(stat -c %a "$tmp$prefix/include/httpsbind.h")" = 644 ]
    version=$(sed -n 's/^#define HSB_VERSION  *"\(.*\)"/\1/p' httpsbind.h)
    [ "$(pkg-config --modversion httpsbind)" = "$version" ]
    rm "$tmp/hello"
done

man=$tmp/usr/local/share/man
printf '#define HTTPSBIND_IMPLEMENTATION\n#include "httpsbind.h"\n' >"$tmp/alone.c"
cc -O0 ${bearssl:+"-I$bearssl/inc"} -I. -DHTTPSBIND_ACME -c -o "$tmp/alone.o" "$tmp/alone.c"
nm -g --defined-only "$tmp/alone.o" | awk '$3 !~ /^hsb_version_/ { print $3 }' >"$tmp/names"
sed -n '/HTTPSBIND_DONE/q; s/^typedef \(struct\|enum\) \(hsb_[a-z0-9_]*\).*/\2/p' httpsbind.h >>"$tmp/names"
while read -r name; do
    page=$man/$(sed -n 's/^\.so //p' "$man/man3/$name.3")
    if ! sed -n 3p "$page" | grep -qw "$name" || [ "$(grep -cw "$name" "$page")" -lt 2 ]; then
        echo "FAILED: $name is not in ${page#"$man"/}"
        exit 1
    fi
done <"$tmp/names"
command -v mandoc >/dev/null || { echo "skipped: no mandoc"; exit 0; }
(cd "$man" && mandoc -Tlint -W warning man3/httpsbind*.3)
