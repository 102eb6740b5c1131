#!/bin/sh
# clang-tidy, cppcheck and gcc's analyzer over the implementation: no warning but those that
# are listed here with a reason.  A tool that is not installed is skipped.
set -eu

# What clang's analyzer says of paths that do not exist: FUNCTION CHECK.  It knows of no
# promise between two fields.  One that is listed and not given fails, too.
known()
{
    cat <<'END'
hsb__text_equal clang-analyzer-core.NonNullParamChecker
hsb__text_next_element clang-analyzer-core.NullDereference
hsb__buffer_reserve clang-analyzer-core.NonNullParamChecker
hsb__buffer_append clang-analyzer-core.NonNullParamChecker
hsb__text_cut clang-analyzer-core.NonNullParamChecker
hsb__files_redirect_to_slash clang-analyzer-core.NullDereference
hsb__websocket_message_space clang-analyzer-core.NonNullParamChecker
hsb__frame_put clang-analyzer-core.NonNullParamChecker
hsb__hello_number clang-analyzer-core.NullDereference
hsb__chain_close clang-analyzer-unix.Malloc
hsb__localca_check_cert clang-analyzer-unix.Malloc
hsb__localca_is_good clang-analyzer-unix.Malloc
hsb__localca_write clang-analyzer-core.NullDereference
hsb__multipart_is_type clang-analyzer-core.NonNullParamChecker
hsb__multipart_unescape clang-analyzer-core.NullDereference
hsb__route_is_path clang-analyzer-core.NonNullParamChecker
hsb__answers_put_escaped clang-analyzer-core.NullDereference
hsb__serve_host_of clang-analyzer-core.NullDereference
hsb__link_next clang-analyzer-unix.Malloc
hsb__sessions_close clang-analyzer-unix.Malloc
hsb__http1_answer_challenge clang-analyzer-core.NonNullParamChecker
hsb__order_make_challenge clang-analyzer-core.NullDereference
hsb__order_problem clang-analyzer-core.uninitialized.Branch
END
}
# Null pointers: a length above 0 comes with a pointer, and a name to parse is there.
# chain_close, localca, order_make_challenge: what was freed or not made was refused, and
#     hsb__error_set always returns false.
# link_next, sessions_close: an element leaves its list before it is released.
# order_problem: the analyzer believes that an empty text can begin with the prefix.

# What is switched off, and why:

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
# ctuuninitvar: takes the address of an array in a struct for its contents
# The constants stand for the system's and BearSSL's headers, which cppcheck does not read.
cppcheck='--suppress=nullPointerRedundantCheck --suppress=ctuuninitvar -D__linux__ -D__GNUC__ -D_GNU_SOURCE
          -DCLOCK_MONOTONIC=1 -DAT_FDCWD=1 -DAI_ADDRCONFIG=1 -DMAP_ANONYMOUS=1 -DO_CLOEXEC=1
          -DBR_PEM_LINE64=1'

# It follows each path only so far, and says nothing of those that branch too much for it
# (-Wanalyzer-too-complex tells where): what it finds is worth knowing, what it does not find
# proves nothing.
# malloc-leak: loses sight of blocks that an allocator's function pointer gave and a buffer
#     keeps; tests/fault and LeakSanitizer count every block
# The two limits keep it at half a minute; with its own it takes more memory than machines have.
analyzer='-fanalyzer -Werror -Wno-analyzer-malloc-leak --param=analyzer-bb-explosion-factor=1
          --param=analyzer-max-enodes-per-program-point=3'

include=-I.
[ -z "${BEARSSL:-}" ] || include="-I. -I$BEARSSL/inc"
mkdir -p build/check
unit=build/check/unit.c
printf '#define HTTPSBIND_IMPLEMENTATION\n#define HTTPSBIND_ACME\n#include "httpsbind.h"\n' >$unit

has() {
    command -v "$1" >/dev/null || { echo "    no $1 here: skipped"; return 1; }
}

# The word lists are lists.
# shellcheck disable=SC2086
{
    if has clang-tidy; then
        # The analyzer passes over what stands in an included file: the header is the main one.
        { printf '#define HTTPSBIND_IMPLEMENTATION\n#define HTTPSBIND_ACME\n'; cat httpsbind.h; } >build/check/tidy.c
        clang-tidy --quiet --checks="$tidy" build/check/tidy.c -- -std=c99 -D_GNU_SOURCE $include \
            >build/check/tidy.log 2>&1 || { cat build/check/tidy.log; exit 1; }
        known | sort >build/check/tidy.known
        sed -n 's/^.*tidy\.c:\([0-9]*\):[0-9]*: warning: .*\[\(.*\)\]$/\1 \2/p' build/check/tidy.log |
            awk 'FNR == NR { check[$1] = check[$1] " " $2; next }
                 /^(HSB_API|static) .*hsb_[a-z0-9_]*\(/ && !/[;=]/ {
                     f = $0; sub(/\(.*/, "", f); sub(/.*[ *]/, "", f)
                 }
                 FNR in check { n = split(check[FNR], c, " "); for (i = 1; i <= n; i++) print f, c[i] }' \
                - build/check/tidy.c | sort -u >build/check/tidy.found
        diff build/check/tidy.known build/check/tidy.found || { cat build/check/tidy.log; exit 1; }
    fi
    if has cppcheck; then
        cppcheck --quiet --language=c --std=c99 --enable=warning,portability,performance \
            --error-exitcode=1 --library=posix,gnu $cppcheck -DHTTPSBIND_IMPLEMENTATION -DHTTPSBIND_ACME httpsbind.h
    fi
    if has gcc; then
        gcc -std=c99 -O0 -D_GNU_SOURCE $include $analyzer -c -o build/check/unit.o $unit
    fi
}
