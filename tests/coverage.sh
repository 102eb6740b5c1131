#!/bin/sh
# usage: coverage.sh FOLDER
# Every test program has its own copy of the implementation.  This adds up which lines of
# httpsbind.h any of them reached, a line per section, and writes FOLDER/httpsbind.h.gcov,
# where ##### marks the lines that none did.
set -eu

find "$1" -name '*.gcda' -exec gcov -t {} + 2>/dev/null |
awk -F: -v annotated="$1/httpsbind.h.gcov" '
    # gcov prints COUNT:LINE:TEXT; COUNT is - where there is no code, ##### where none ran.
    $2 + 0 == 0 { if ($3 == "Source") ours = $4 ~ /(^|\/)httpsbind\.h$/; next }
    ours {
        line = $2 + 0
        if (line > last) last = line
        if ($1 !~ /-/) code[line] = 1
        if ($1 ~ /[1-9]/) reached[line] = 1
    }
    function report(name, r, c) { if (c) printf "%-16s %5d of %5d  %3d %%\n", name, r, c, 100 * r / c }
    END {
        for (line = 1; (getline text < "httpsbind.h") > 0; line++) {
            if (text ~ /^\/\* =+ >>/) {
                report(section, r, c)
                section = text; sub(/.*>>/, "", section); sub(/[^a-z-].*/, "", section)
                r = c = 0
            }
            mark = line in reached ? "" : line in code ? "#####" : "-"
            printf "%5s:%5d:%s\n", mark, line, text >annotated
            c += line in code; all_c += line in code
            r += line in reached; all_r += line in reached
        }
        report(section, r, c)
        report("httpsbind.h", all_r, all_c)
        if (!all_c) { print "no test program reached httpsbind.h"; exit 1 }
    }'
