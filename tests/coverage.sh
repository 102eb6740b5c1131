#!/bin/sh
# usage: coverage.sh FOLDER
# Every test program has its own copy of the implementation.  This adds up which lines of
# httpsbind.h, and which ways out of its branches, any of them took: a line per section, and
# all of it, which must be 95 % of the lines and 85 % of the branches.  FOLDER/httpsbind.h.gcov
# marks the lines that none reached with #####, and with "2/4" those of whose four ways only
# two were taken.
#
# What does not count: the branches of HSB_ASSERT, whose other way is the end of the program.
# tests/coverage.txt tells why some lines are not reached; a function that has such lines and
# is not there is named in the end.
set -eu

find "$1" -name '*.gcda' -exec gcov -t -b -c {} + 2>/dev/null |
awk -F: -v annotated="$1/httpsbind.h.gcov" '
    # gcov prints COUNT:LINE:TEXT, COUNT is - where there is no code and ##### where none ran;
    # and behind a line its branches: "branch  0 taken 12", "branch  1 never executed".
    /^branch / {
        if (!ours || asserts) next
        split($0, word, / +/)
        if (!((line, word[2]) in way)) { way[line, word[2]]; ways[line]++ }
        if (word[3] == "taken" && word[4] > 0 && !((line, word[2]) in taken)) { taken[line, word[2]]; took[line]++ }
        next
    }
    /^(call|function|unconditional) / { next }
    $2 + 0 == 0 { if ($3 == "Source") ours = $4 ~ /(^|\/)httpsbind\.h$/; next }
    ours {
        line = $2 + 0
        asserts = /HSB_ASSERT\(/
        if ($1 !~ /-/) code[line] = 1
        if ($1 ~ /[1-9]/) reached[line] = 1
    }
    function percent(a, b) { return b ? int(100 * a / b) : 100 }
    function report(name, r, c, t, w) {
        if (c) printf "%-16s %5d of %5d lines %3d %%  %5d of %5d branches %3d %%\n",
                      name, r, c, percent(r, c), t, w, percent(t, w)
    }
    END {
        while ((getline text < "tests/coverage.txt") > 0)
            if (split(text, word, / +/) && word[1] ~ /^hsb/) known[word[1]]
        for (line = 1; (getline text < "httpsbind.h") > 0; line++) {
            if (text ~ /^\/\* =+ >>/) {
                report(section, r, c, t, w)
                section = text; sub(/.*>>/, "", section); sub(/[^a-z-].*/, "", section)
                r = c = t = w = 0
            }
            if (text ~ /^(HSB_API|static) .*hsb_[a-z0-9_]*\(/ && text !~ /[;=]/) {
                f = text; sub(/\(.*/, "", f); sub(/.*[ *]/, "", f)
            }
            if (line in code && !(line in reached)) missed[f]++
            mark = !(line in code) ? "-" : !(line in reached) ? "#####" : \
                   took[line] < ways[line] ? took[line] + 0 "/" ways[line] : ""
            printf "%5s:%5d:%s\n", mark, line, text >annotated
            c += line in code; all_c += line in code
            r += line in reached; all_r += line in reached
            w += ways[line]; all_w += ways[line]
            t += took[line]; all_t += took[line]
        }
        report(section, r, c, t, w)
        report("httpsbind.h", all_r, all_c, all_t, all_w)
        for (f in missed)
            if (!(f in known)) printf "unreached and not explained: %d in %s\n", missed[f], f
        if (!all_c) { print "no test program reached httpsbind.h"; exit 1 }
        if (percent(all_r, all_c) < 95 || percent(all_t, all_w) < 85) {
            print "too little: 95 % of the lines and 85 % of the branches are wanted"
            exit 1
        }
    }'
