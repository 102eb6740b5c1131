#!/bin/sh
# The header under every compiler and standard that it is promised for, and in every way that
# a program may include it.  One line a case; a compiler that is missing is skipped.
# BEARSSL=dir: against a BearSSL built from source.
set -u
cd "$(dirname "$0")/../.." || exit
dir=build/compile
log=$dir/log
failed=0 passed=0
rm -rf $dir
mkdir -p $dir/bearssl $dir/other || exit

# BearSSL's headers alone, in a folder of their own: for compilers whose system headers are
# others than those it was installed beside.
if [ -n "${BEARSSL:-}" ]; then
    headers=$(cd "$BEARSSL/inc" && pwd) || exit
    include="-I. -isystem $headers" libs=$BEARSSL/build/libbearssl.a
    ln -s "$headers"/* $dir/bearssl
else
    headers=$(echo '#include <bearssl.h>' | ${CC:-cc} -E - | sed -n 's|^# 1 "\(.*\)/bearssl.h".*|\1|p' | head -n 1)
    include=-I. libs=-lbearssl
    ln -s "$headers/bearssl.h" "$headers/bearssl" $dir/bearssl
fi
threads=-lpthread

# pass WHAT COMMAND...: it succeeds and says nothing.
pass() {
    what=$1
    shift
    if "$@" >$log 2>&1 && [ ! -s $log ]; then
        passed=$((passed + 1))
        echo "    ok       $what"
    else
        complain "$@"
    fi
}

# fail WHAT TEXT COMMAND...: it fails, and the reason that it gives has TEXT.
fail() {
    what=$1 text=$2
    shift 2
    if ! "$@" >$log 2>&1 && grep -qF -- "$text" $log; then
        passed=$((passed + 1))
        echo "    ok       $what"
    else
        complain "$@"
    fi
}

complain() {
    failed=$((failed + 1))
    echo "    FAILED   $what"
    echo "             $*"
    sed 's/^/             /' $log | head -n 40
}

# found COMPILER [FLAGS...]: it is there and makes objects with these flags.
found() {
    if command -v "$1" >/dev/null && "$@" -c -o $dir/probe.o $dir/probe.c >/dev/null 2>&1; then
        return 0
    fi
    what=$*
    echo "    skipped: no ${what% -x c++}"
    return 1
}

# --- what is compiled -----------------------------------------------------------------------

cat >$dir/probe.c <<'END'
#include <stdlib.h>
int main(void) { return EXIT_SUCCESS; }
END

cat >$dir/first.c <<'END'
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <stdio.h>
#include <string.h>
int nothing_else(void);
int nothing_else(void) { return (int)strlen("x") + printf("x"); }
END

cat >$dir/last.c <<'END'
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
END

# glibc before 2.34 has no other time_t than its own.
cat >$dir/dates.c <<'END'
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#if !defined(__GLIBC__) || __GLIBC__ > 2 || __GLIBC_MINOR__ >= 34
typedef char time_is_large[sizeof(time_t) >= 8 ? 1 : -1];
#endif
END

echo '#include "httpsbind.h"' >$dir/alone.c

# Both languages: a program that only uses the header, and includes it twice.
cat >$dir/use.c <<'END'
#include "httpsbind.h"
#include "httpsbind.h"
#include <stdio.h>
#include <string.h>

static void answer(hsb_request *req, void *user)
{
    hsb_respond(req, 200, (const char *)user, hsb_request_path(req));
}

int main(void)
{
    hsb_error err;
    hsb_security_desc desc;
    hsb_options options;
    memset(&desc, 0, sizeof desc);
    memset(&options, 0, sizeof options);
    desc.self_signed_for = "localhost";
    options.hooks.on_request = answer;
    hsb_security *security = hsb_security_new(&desc, &err);
    hsb_server *server = security ? hsb_bind_secure("127.0.0.1", 0, security, &options, &err) : NULL;
    if (!server)
        return fprintf(stderr, "%s\n", err.text), 1;
    hsb_security_free(security);
    hsb_server_close(server, true);
    bool good = hsb_server_run(server, &err);
    hsb_server_free(server);
    return good ? 0 : 1;
}
END
cp $dir/use.c $dir/use.cc
cp $dir/alone.c $dir/alone.cc
cp $dir/first.c $dir/first.cc

echo '#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"' >$dir/unit.c

# Two units with everything of their own, in one program.
{ echo '#define HTTPSBIND_STATIC'; cat $dir/use.c; } >$dir/static1.c
{ echo '#define HTTPSBIND_STATIC'; sed 's/int main(void)/int second(void);\nint second(void)/' $dir/use.c; } >$dir/static2.c

# The next version of the header, as far as the linker is concerned.
sed 's/hsb_version_0_2_0/hsb_version_0_2_99/g' httpsbind.h >$dir/other/httpsbind.h

# A BearSSL from before br_pem_encode: 0.5, say.
mkdir $dir/old
cp -RL $dir/bearssl/* $dir/old
find $dir/old -name '*.h' -exec sed -i '/^#define BR_PEM_LINE64/d' {} +

# --- every compiler and standard ------------------------------------------------------------

strict="-Wall -Wextra -pedantic -Wconversion -Wshadow -Werror"
late='include it before any system header, or compile with -D_GNU_SOURCE'

for cc in gcc clang; do
    found $cc || continue
    # shellcheck disable=SC2086  # flags are words
    for std in c99 c11 c17 c2x; do
        found $cc -std=$std || continue
        pass "$cc -std=$std, the implementation" $cc -std=$std $strict $include -fsyntax-only $dir/first.c
        pass "$cc -std=$std, the header alone" $cc -std=$std $strict -I. -fsyntax-only $dir/alone.c
        pass "$cc -std=$std -D_GNU_SOURCE, after system headers" \
            $cc -std=$std -D_GNU_SOURCE $strict $include -fsyntax-only $dir/last.c
    done
    # shellcheck disable=SC2086
    {
        fail "$cc -std=c99, after system headers: says what to do" "$late" \
            $cc -std=c99 $include -fsyntax-only $dir/last.c
        fail "$cc, a BearSSL that is too old: says so" 'this BearSSL is older than 0.6' \
            $cc -I. -I$dir/old -fsyntax-only $dir/first.c
        for std in gnu99 gnu17; do
            pass "$cc -std=$std, before system headers" $cc -std=$std $strict $include -fsyntax-only $dir/first.c
            pass "$cc -std=$std, after system headers" $cc -std=$std $strict $include -fsyntax-only $dir/last.c
        done
        for o in -O0 -O2 -O3 -Os; do
            pass "$cc $o" $cc -std=c99 $o $strict $include -c -o $dir/o.o $dir/first.c
        done
        pass "$cc -DNDEBUG" $cc -std=c99 -DNDEBUG $strict $include -fsyntax-only $dir/first.c
        pass "$cc -DHTTPSBIND_ACME" $cc -std=c99 -DHTTPSBIND_ACME $strict $include -fsyntax-only $dir/first.c
        pass "$cc -DHTTPSBIND_ACME -DNDEBUG -DHTTPSBIND_STATIC" \
            $cc -std=c99 -DHTTPSBIND_ACME -DNDEBUG $strict $include -fsyntax-only $dir/static1.c
        pass "$cc -DHTTPSBIND_STATIC" $cc -std=c99 $strict $include -fsyntax-only $dir/static1.c
        pass "$cc -DHSB_USE_POLL" $cc -std=c99 -DHSB_USE_POLL $strict $include -fsyntax-only $dir/first.c
        pass "$cc -DHSB_NO_THREADS" $cc -std=c99 -DHSB_NO_THREADS $strict $include -fsyntax-only $dir/first.c
        pass "$cc -DHSB_USE_KQUEUE, through tests/compile/shim" \
            $cc -std=gnu99 -DHSB_USE_KQUEUE -Itests/compile/shim $strict $include -fsyntax-only $dir/first.c
        if found $cc -m32; then
            pass "$cc -m32" $cc -m32 -std=c99 $strict -I. -idirafter $dir/bearssl -fsyntax-only $dir/first.c
            pass "$cc -m32: dates after 2038" $cc -m32 -std=c99 $strict -I. \
                -idirafter $dir/bearssl -fsyntax-only $dir/dates.c
            pass "$cc -m32, after system headers" $cc -m32 -D_FILE_OFFSET_BITS=64 $strict -I. \
                -idirafter $dir/bearssl -fsyntax-only $dir/last.c
        fi
    }
done

for cc in g++ clang++; do
    found $cc -x c++ || continue
    for std in c++11 c++14 c++17 c++20; do
        found $cc -std=$std -x c++ || continue
        pass "$cc -std=$std, the header" $cc -std=$std -Wall -Wextra -pedantic -Werror -I. -fsyntax-only $dir/alone.cc
        pass "$cc -std=$std, a program" $cc -std=$std -Wall -Wextra -pedantic -Werror -I. -fsyntax-only $dir/use.cc
    done
    # shellcheck disable=SC2086
    fail "$cc, the implementation: says that it is C" 'the implementation is C; put it in one .c file' \
        $cc $include -fsyntax-only $dir/first.cc
done

# shellcheck disable=SC2086
if found musl-gcc; then
    pass "musl-gcc, the implementation" \
        musl-gcc -std=c99 $strict -I. -idirafter $dir/bearssl -fsyntax-only $dir/first.c
fi
if found tcc; then
    pass "tcc, the header alone" tcc -Wall -Werror -I. -c -o $dir/o.o $dir/alone.c
    pass "tcc, a program" tcc -Wall -Werror -I. -c -o $dir/o.o $dir/use.c
fi

# --- every way to put a program together ----------------------------------------------------

cc=${CC:-cc}
# shellcheck disable=SC2086
{
    pass "one unit implements" $cc -O0 $include -c -o $dir/unit.o $dir/unit.c
    pass "... another only uses it" $cc -O0 -I. -c -o $dir/use.o $dir/use.c
    pass "... they link" $cc -o $dir/two $dir/use.o $dir/unit.o $libs $threads
    pass "... and run" $dir/two
    pass "HTTPSBIND_STATIC in two units" $cc -O0 $include -o $dir/static $dir/static1.c $dir/static2.c $libs $threads
    pass "... runs" $dir/static
    $cc -O0 -Ibuild/compile/other -c -o $dir/newer.o $dir/use.c
    fail "two versions of the header in one program do not link" hsb_version_0_2_99 \
        $cc -o $dir/mixed $dir/newer.o $dir/unit.o $libs $threads
    for cxx in g++ clang++; do
        if found $cxx -x c++; then
            pass "a $cxx program" $cxx -O0 -I. -o $dir/cxx $dir/use.cc $dir/unit.o $libs $threads
            pass "... runs" $dir/cxx
        fi
    done
    if found tcc; then
        pass "tcc, a program, linked with the implementation of $cc" \
            tcc -I. -o $dir/tcc $dir/use.c $dir/unit.o $libs $threads
        pass "... runs" $dir/tcc
    fi
}

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
