#!/bin/sh
# The Windows half of httpsbind.h, as far as Debian can show it: every way to compile it with
# mingw-w64, and under Wine programs of tests/unit, wire, live and tls, the examples, and a server of
# files with clients on this side.  BearSSL, cmocka and OpenSSL are built from Debian's sources.
# What is missing is said, and skipped.  SECONDS_OF_SOAK (10).
set -eu
cd "$(dirname "$0")/.."
out=build/windows
cross=x86_64-w64-mingw32
wine=$(command -v wine64 || echo /usr/lib/wine/wine64)

for tool in $cross-gcc clang dpkg-source apt-get make perl curl python3 "$wine"; do
    command -v "$tool" >/dev/null || {
        echo "    no $tool here: skipped (packages gcc-mingw-w64-x86-64, wine64, dpkg-dev)"
        exit 0
    }
done
mkdir -p $out/src
ok() { echo "    ok       $*"; }
fail() { echo "    FAILED   $*"; exit 1; }

# --- BearSSL, cmocka and OpenSSL --------------------------------------------------------------
# apt looks for sources in lists of our own: those of the machine stay as they are.
fetch() {
    apt=$PWD/$out/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    # shellcheck disable=SC2016  # apt's variables
    apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' | sort -u >"$apt/sources.list"
    set -- -qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=
    apt-get "$@" update &&
        (cd $out/src && apt-get "$@" source bearssl cmocka && apt-get "$@" --tar-only source openssl)
}
# Static, and without most of what no test needs, as that takes most of the time.
build_openssl() {
    mkdir $out/src/openssl
    tar xf $out/src/openssl_*.orig.tar.gz -C $out/src/openssl --strip-components 1
    cd $out/src/openssl
    without=
    for feature in afalgeng aria asm autoload-config bf blake2 camellia capieng cast cmp cms comp ct \
            dgram docs dsa dso dtls ec2m engine err filenames gost idea legacy makedepend md2 md4 mdc2 \
            ml-dsa module multiblock nextprotoneg ocb ocsp padlockeng pinshared psk quic rc2 rc4 rc5 \
            rfc3779 rmd160 scrypt seed shared siphash siv slh-dsa sm2 sm3 sm4 srp srtp ssl-trace \
            static-engine tests trace ts ui-console uplink weak-ssl-ciphers whirlpool; do
        # Which there are differs between versions.
        ! grep -q "^    \"$feature\"" Configure || without="$without no-$feature"
    done
    export CC="clang --target=$cross" AR=$cross-ar RANLIB=$cross-ranlib
    # shellcheck disable=SC2086  # options are words
    ./Configure mingw64 $without CFLAGS='-O1 -w' && make -s build_generated &&
        make -s -j"$(nproc)" libcrypto.a libssl.a
}
if [ ! -e $out/done ]; then
    rm -rf $out/src
    mkdir -p $out/src
    fetch >$out/fetch.log 2>&1 || {
        echo "    no sources of bearssl, cmocka and openssl: skipped"
        sed 's/^/        /' $out/fetch.log | tail -n 5
        exit 0
    }
    mv $out/src/bearssl-*/ $out/src/bearssl
    mv $out/src/cmocka-*/ $out/src/cmocka
    # Not with make's own flags, which name its server of jobs.
    MAKEFLAGS='' make -C $out/src/bearssl -j"$(nproc)" CC=$cross-gcc LD=$cross-gcc AR=$cross-ar \
        DLL=no TOOLS=no TESTS=no lib >$out/bearssl.log 2>&1 || fail "BearSSL: see $out/bearssl.log"
    (MAKEFLAGS='' && export MAKEFLAGS && build_openssl) >$out/openssl.log 2>&1 ||
        fail "OpenSSL: see $out/openssl.log"
    $cross-gcc -O1 -w -I$out/src/cmocka/include -c -o $out/cmocka.o $out/src/cmocka/src/cmocka.c
    touch $out/done
fi
bearssl=$out/src/bearssl
openssl=$out/src/openssl

# --- compiling ------------------------------------------------------------------------------
strict='-std=c99 -Wall -Wextra -pedantic -Wconversion -Wshadow -Werror'
include="-I. -isystem $bearssl/inc"
libs="$bearssl/build/libbearssl.a -lws2_32 -lbcrypt"
# shellcheck disable=SC2086  # flags are words
{
    printf '#define HTTPSBIND_IMPLEMENTATION\n#include "httpsbind.h"\n' >$out/all.c
    for flags in -DHTTPSBIND_STATIC '-DHSB_NO_THREADS -DHTTPSBIND_ACME' -DNDEBUG -DHTTPSBIND_ACME; do
        $cross-gcc $strict $flags $include -fsyntax-only $out/all.c
        clang --target=$cross $strict -Wno-c11-extensions $flags $include -fsyntax-only $out/all.c
    done
    # This one is linked with the examples.
    $cross-gcc $strict -O1 -DHTTPSBIND_ACME $include -c -o $out/all.o $out/all.c
    ok "the implementation, C99, with mingw-w64's gcc and clang"
    clang --target=$cross -x c++ -std=c++11 $strict -Wno-unused-const-variable -fsyntax-only httpsbind.h \
        2>$out/log || { clang --target=$cross -x c++ -std=c++11 -Wall -Wextra -pedantic -Werror \
                        -fsyntax-only httpsbind.h; }
    printf '#include "httpsbind.h"\nint probe;\n' >$out/probe.c
    for language in /TC /TP; do
        clang --driver-mode=cl --target=x86_64-pc-windows-msvc /clang:-fsyntax-only \
            /clang:-ffreestanding $language -W4 -WX /I. /c $out/probe.c
    done
    ok "the API part, C and C++11, also as Microsoft's compiler would read it"
    # shellcheck disable=SC2086  # flags are words
    clang --target=$cross -fms-extensions -std=c11 ${strict#* } -D_WIN32_WINNT=0x0601 $include \
        -fsyntax-only tests/windows/microsoft.c
    ok "the implementation, with Microsoft's branches and nothing of GNU's"
    $cross-gcc $strict -O1 $include -o $out/server.exe tests/windows/server.c $libs
}

# --- the programs of tests/unit, wire, live and tls -------------------------------------------
WINEPREFIX=$PWD/$out/wine
WINEDEBUG=-all
export WINEPREFIX WINEDEBUG cross out include bearssl openssl libs wine
"$wine" cmd /c exit >/dev/null 2>&1 || fail "Wine does not start"
# One wineserver serves a folder of Wine's, and ends some seconds after its last program.

# Of the conversations of tests/wire each is played whole: cuts are the same on every system.
CUTS=-1
# Nor are chains that chance makes another matter here, where OpenSSL's RSA has no assembly.
ROUNDS=300
# A thread that sleeps for 0.2 ms does so for some milliseconds there.
LIVE_DEFERRED=2000
export CUTS ROUNDS LIVE_DEFERRED
cat >$out/run.sh <<'END'
# usage: run.sh DIR/NAME
set -u
program=$out/tests/$1.exe
conversations=
[ "$1" != wire/player ] || conversations=$(echo tests/wire/*.txt)
clocks=
! grep -q '^#define clock_gettime' "tests/$1.c" || clocks='-include tests/windows/shim/clocks.h'
# clang takes half as long as gcc, which compiles the implementation above, and the examples.
# shellcheck disable=SC2086
clang --target=$cross -nostdlibinc -isystem /usr/$cross/include -std=gnu99 -O0 -w \
    -Werror=implicit-function-declaration -D_WIN32_WINNT=0x0601 -D_FILE_OFFSET_BITS=64 \
    -D__USE_MINGW_ANSI_STDIO=1 -include tests/windows/shim/shim.h $clocks -Itests/windows/shim \
    $include -Itests -isystem $out/src/cmocka/include -isystem $openssl/include \
    -c -o "$program.o" "tests/$1.c" >"$program.log" 2>&1 &&
    $cross-gcc -o "$program" "$program.o" $out/cmocka.o $openssl/libssl.a $openssl/libcrypto.a \
        $libs -lcrypt32 -lpthread -s -static >>"$program.log" 2>&1 ||
    { echo "    FAILED   $1 is not built"; sed 's/^/        /' "$program.log"; exit 1; }
# Twice at most, as Wine beside other work is not always as reliable as what it stands for; what
# failed once is shown.
for try in first second; do
    # shellcheck disable=SC2086
    timeout -k 5 300 "$wine" "$program" $conversations >"$program.log" 2>&1
    code=$?
    [ $code -ne 0 ] || { echo "    ok       $1"; break; }
    # Tests that cannot pass are in the list; if no other failed, all is well.
    tr -d '\r' <"$program.log" | sed -n 's/^\[  \(FAILED \|ERROR  \) \] \([a-zA-Z][^()=]*\)$/\2/p' | sort -u >"$program.failed"
    others=$(while read -r test; do
                 grep -qF "$1/$test  " tests/windows/left-out.txt || echo "$test"
             done <"$program.failed")
    if [ -s "$program.failed" ] && [ -z "$others" ] && [ $code -lt 100 ]; then
        echo "    ok       $1, but for what is left out"
        code=0
        break
    fi
    echo "    FAILED   $1 ($code), $try try"
    tr -d '\r' <"$program.log" | sed 's/^/        /' | tail -n 30
done
rm -f "$program" "$program.o"
exit $code
END
mkdir -p $out/tests/unit $out/tests/wire $out/tests/live $out/tests/tls
for file in tests/wire/*.c tests/live/*.c tests/tls/*.c tests/unit/*.c; do
    name=${file#tests/}
    grep -q "^${name%.c} " tests/windows/left-out.txt || echo "${name%.c}"
done | xargs -P "$(nproc)" -n 1 sh $out/run.sh || fail "programs of tests/unit, wire, live and tls"
echo "    left out: $(grep -c '^[a-z]*/[a-z0-9_]*  ' tests/windows/left-out.txt) programs and" \
     "$(grep -c '^[a-z]*/[a-z0-9_]*/.*  ' tests/windows/left-out.txt) tests, see tests/windows/left-out.txt"

# shellcheck disable=SC2086
$cross-gcc -std=c99 -O1 -w -D_WIN32_WINNT=0x0601 $include -o $out/poller.exe tests/windows/poller.c $libs
"$wine" $out/poller.exe >$out/log 2>&1 || { cat $out/log; fail "tests/windows/poller.c"; }
ok "the poller, where a FIN is POLLHUP as on Windows"

# shellcheck disable=SC2086
$cross-gcc -std=c99 -O0 -w $include -o $out/roots.exe tests/windows/roots.c $libs
(cd $out && "$wine" roots.exe) >$out/log 2>&1 || { cat $out/log; fail "tests/windows/roots.c"; }
ok "the system's roots: $(sed -n 's/^ *\([0-9]* of them\).*/\1/p' $out/log)"

# --- servers --------------------------------------------------------------------------------
cat >$out/example.sh <<'END'
# usage: example.sh NAME
set -u
# shellcheck disable=SC2086
exec $cross-gcc $strict -Wno-unused-parameter -O1 -DHTTPSBIND_DONE -include tests/windows/shim/done.h \
    $include -o "$out/examples/$1.exe" "examples/$1.c" "$out/all.o" $libs -lpthread -static -s
END
export strict
mkdir -p $out/examples
for file in examples/*.c; do
    name=$(basename "$file" .c)
    grep -q "^examples/$name " tests/windows/left-out.txt || echo "$name"
done | xargs -P "$(nproc)" -n 1 sh $out/example.sh || fail "examples"
ok "$(find $out/examples -name '*.exe' | wc -l) examples, without a warning"
python3 tests/windows/examples.py "$wine" $out/examples $out/folder | sed 's/^/    /' | tee $out/clients.log
python3 tests/windows/clients.py "$wine" $out/server.exe $out/folder "${SECONDS_OF_SOAK:-10}" |
    sed 's/^/    /' | tee -a $out/clients.log
! grep -q FAILED $out/clients.log && grep -q 'ok: examples/graceful' $out/clients.log &&
    grep -q 'ok: it closes' $out/clients.log
