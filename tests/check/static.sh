#!/bin/sh
# clang-tidy, cppcheck and gcc's analyzer over the implementation: no warning.  A tool that
# is not installed is skipped.  What is switched off, and why:
set -eu

# cert-err33-c, bugprone-not-null-terminated-result: snprintf into a buffer of its size may
#     cut a message, and memcpy of a literal without its NUL is what a wire wants
# bugprone-easily-swappable-parameters: judges names, not code
# bugprone-sizeof-expression: arrays of pointers are meant
# bugprone-narrowing-conversions, -implicit-widening-...: -Wconversion, under which the header
#     is compiled, finds what matters; these complain of digits and small constants
# bugprone-reserved-identifier, cert-dcl37-c, cert-dcl51-cpp: feature macros are such names;
#     header.sh looks at all others
tidy='-*,bugprone-*,cert-*,clang-analyzer-*'
tidy=$tidy,-cert-err33-c,-bugprone-not-null-terminated-result
tidy=$tidy,-bugprone-easily-swappable-parameters,-bugprone-sizeof-expression
tidy=$tidy,-bugprone-narrowing-conversions
tidy=$tidy,-bugprone-reserved-identifier,-cert-dcl37-c,-cert-dcl51-cpp
tidy=$tidy,-bugprone-implicit-widening-of-multiplication-result

# nullPointerRedundantCheck: takes `names = names ? names : usual` in a for's head for a test
# The constants stand for the system's and BearSSL's headers, which cppcheck does not read.
cppcheck='--suppress=nullPointerRedundantCheck -D__linux__ -D__GNUC__ -D_GNU_SOURCE
          -DCLOCK_MONOTONIC=1 -DAT_FDCWD=1 -DAI_ADDRCONFIG=1 -DMAP_ANONYMOUS=1 -DO_CLOEXEC=1
          -DBR_PEM_LINE64=1'

# malloc-leak: loses sight of blocks that an allocator's function pointer gave and a buffer
#     keeps; tests/fault and LeakSanitizer count every block
analyzer='-fanalyzer -Werror -Wno-analyzer-malloc-leak'

include=-I.
[ -z "${BEARSSL:-}" ] || include="-I. -I$BEARSSL/inc"
mkdir -p build/check
unit=build/check/unit.c
printf '#define HTTPSBIND_IMPLEMENTATION\n#include "httpsbind.h"\n' >$unit

has() {
    command -v "$1" >/dev/null || { echo "    no $1 here: skipped"; return 1; }
}

# The word lists are lists.
# shellcheck disable=SC2086
{
    if has clang-tidy; then
        clang-tidy --quiet --checks="$tidy" --warnings-as-errors='*' --header-filter=httpsbind.h \
            $unit -- -std=c99 -D_GNU_SOURCE $include 2>build/check/tidy.log ||
            { cat build/check/tidy.log; exit 1; }
    fi
    if has cppcheck; then
        cppcheck --quiet --language=c --std=c99 --enable=warning,portability,performance \
            --error-exitcode=1 --library=posix,gnu $cppcheck -DHTTPSBIND_IMPLEMENTATION httpsbind.h
    fi
    if has gcc; then
        gcc -std=c99 -O0 -D_GNU_SOURCE $include $analyzer -c -o build/check/unit.o $unit
    fi
}
