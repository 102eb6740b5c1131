#!/bin/sh
# usage: portable.sh i386 | s390x [WHICH...]
# The programs of tests/unit and tests/tls, or those named as for `make test`, on another kind of
# processor: i386 has 32 bits, s390x is big-endian and runs under qemu-user (gcc-s390x-linux-gnu
# and qemu-user; i386 needs gcc-multilib).  Debian's packages of that kind are unpacked below
# build/ARCH/root; the system stays as it is.  It takes many minutes, so make check leaves it out.
# unit/wipes is left out here: it knows how x86-64 lays out its stack.
set -eu
arch=$1
shift
[ $# -gt 0 ] || set -- 'unit/*' 'tls/*'
here=$PWD/build/$arch
root=$here/root
case $arch in
i386) triplet=i386-linux-gnu run=''
      cc="gcc -m32 -Wl,--dynamic-linker=$root/lib/ld-linux.so.2
          -Wl,-rpath,$root/usr/lib/$triplet:$root/lib/$triplet" ;;
s390x) cc=s390x-linux-gnu-gcc triplet=s390x-linux-gnu run="qemu-s390x -L $root" ;;
*) sed -n 2p "$0"; exit 2 ;;
esac

# All that these packages need, as if nothing was installed.
unpack() {
    mkdir -p "$here/apt/lists/partial" "$here/apt/cache/archives/partial" "$root"
    : >"$here/apt/status"
    set -- -q -q -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" \
        -o "Dir::State=$here/apt" -o "Dir::State::status=$here/apt/status" \
        -o "Dir::Cache=$here/apt/cache" -o APT::Install-Recommends=false
    apt-get "$@" update || echo "going on with what there is"
    apt-get "$@" -y --download-only install libc6-dev libbearssl-dev libcmocka-dev libssl-dev \
        libcurl4-openssl-dev >"$here/apt/log"
    for package in "$here"/apt/cache/archives/*.deb; do
        dpkg -x "$package" "$root"
    done
    touch "$here/unpacked"
}
[ -e "$here/unpacked" ] || unpack

flags="-std=c99 -Wall -Wextra -pedantic -Wconversion -Wshadow -Werror -O0 -D_GNU_SOURCE
       -D_FILE_OFFSET_BITS=64 -I. -Itests -isystem $root/usr/include/$triplet
       -L$root/usr/lib/$triplet -Wl,-rpath-link,$root/usr/lib/$triplet:$root/lib/$triplet"
programs=''
for pattern; do
    for source in tests/$pattern.c; do
        name=${source#tests/} name=${name%.c}
        [ "$name" != unit/wipes ] || continue
        program=$here/tests/$name
        programs="$programs $program"
        mkdir -p "${program%/*}"
        [ -z "$(find "$program.bin" -newer httpsbind.h -newer "$source" 2>/dev/null)" ] || continue
        # shellcheck disable=SC2086  # words
        $cc --sysroot="$root" $flags -o "$program.bin" "$source" -lcmocka -lcurl -lssl -lcrypto \
            -lbearssl -lpthread
        printf '#!/bin/sh\nexec %s %s "$@"\n' "$run" "$program.bin" >"$program"
        chmod +x "$program"
    done
done
# shellcheck disable=SC2086
TEST_SECONDS=${TEST_SECONDS:-1800} tests/run.sh $programs
