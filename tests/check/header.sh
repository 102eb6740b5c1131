#!/bin/sh
# What the header promises about itself: its contents list, its names, its layers, its
# defaults, and that a test knows every public function.  Runs from the top folder.
set -eu
LC_ALL=C
export LC_ALL
h=httpsbind.h
out=build/check
mkdir -p "$out"
failed=0

# check WHAT FILE: the file lists what is wrong, so it must be empty.
check()
{
    if [ -s "$2" ]; then
        echo "FAILED: $1"
        head -20 "$2" | sed 's/^/    /'
        failed=1
    else
        echo "ok: $1"
    fi
}

# --- contents ---
sed -n '1,/^\/\* =* >>/s/^     >>\([a-z-]*\) .*/\1/p' $h > "$out/contents"
sed -n 's/^\/\* =* >>\([a-z-]*\) =*$/\1/p' $h > "$out/banners"
diff "$out/contents" "$out/banners" > "$out/wrong" || true
check "CONTENTS names the banners, each once and in order" "$out/wrong"

# --- names ---
printf '#define HTTPSBIND_IMPLEMENTATION\n#include "httpsbind.h"\n' > "$out/alone.c"
${CC:-cc} -I. -c "$out/alone.c" -o "$out/alone.o"
nm -g --defined-only "$out/alone.o" | awk '$3 !~ /^hsb_[a-z0-9]/' > "$out/wrong"
check "nothing global without hsb_" "$out/wrong"

# BearSSL and cpuid.h have inline functions; behind a dot is what is static within a function.
nm --defined-only "$out/alone.o" | awk '$2 ~ /[a-z]/ && $3 !~ /^(hsb__|br_|__get_cpuid)/ && $3 !~ /\./' > "$out/wrong"
check "nothing private without hsb__" "$out/wrong"

sed -n 's/^# *define *\([A-Za-z0-9_]*\).*/\1/p' $h |
    grep -vE '^(HSB_|HSB__|hsb_|HTTPSBIND_|_GNU_SOURCE$|_FILE_OFFSET_BITS$|_TIME_BITS$|_WIN32_WINNT$|__USE_MINGW_ANSI_STDIO$|MSG_NOSIGNAL$)' > "$out/wrong" || true
check "every macro begins HSB_ or HTTPSBIND_" "$out/wrong"

# --- layers ---
sed -n '/^\/\* =* >>config =/,$p' $h > "$out/implementation"
grep -nE '^static [^={]*\bhsb__[a-z0-9_]+\([^{]*\);' "$out/implementation" > "$out/wrong" || true
check "no private function is declared before it is defined" "$out/wrong"

sed '/>>public =/,$d; s,/\*.*,,' "$out/implementation" |
    grep -nE '(^|[^A-Za-z0-9_.>])hsb_[a-z][a-z0-9_]*\(' > "$out/wrong" || true
check "private code calls no public function" "$out/wrong"

# --- defaults: the chapter and the code ---
# Both become lines of NAME=VALUE; in the chapter, two spaces or more are between them.
sed -n '/>>defaults =/,/>>build =/p' $h |
    grep -oE '[a-z_.]+  +([0-9][0-9 ]*|SOMAXCONN|no limit)' |
    sed -E 's/  +/=/; s/ //g' | sort > "$out/told"
sed -n 's/^ *hsb__options_default[0-9]*(&o\.\([a-z_.]*\), \(.*\));$/\1=\2/p' $h |
    sed 's/=-1$/=nolimit/; s/=HSB__BACKLOG$/=SOMAXCONN/; s/=(int64_t)1 << 20$/=1048576/' | sort > "$out/coded"
diff "$out/told" "$out/coded" > "$out/wrong" || true
check "the defaults of the text are the code's, each of them" "$out/wrong"

# --- tests ---
nm -g --defined-only "$out/alone.o" | awk '$3 !~ /^hsb_version_/ { print $3 }' |
while read -r name; do
    grep -rqE "(^|[^A-Za-z0-9_])$name\(" tests --include='*.c' --include='*.h' || echo "$name"
done > "$out/wrong"
check "every public function is called in a test" "$out/wrong"

nm -g --defined-only "$out/alone.o" | awk '$3 !~ /^hsb_version_/ { print $3 }' |
while read -r name; do
    grep -qE "(^|[^A-Za-z0-9_])$name\(" tests/live/misuse.h || echo "$name"
done > "$out/wrong"
check "every public function is misused in tests/live/misuse.h" "$out/wrong"

# --- shape ---
awk 'length > 100 { print FILENAME ":" FNR ": " length }' $h > "$out/wrong"
check "no line is longer than 100 columns" "$out/wrong"
grep -nE '[[:space:]]+$|	' $h > "$out/wrong" || true
check "no tabs, no space at a line's end" "$out/wrong"

exit $failed
