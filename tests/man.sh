#!/bin/sh
# usage: man.sh httpsbind.h FOLDER
# Makes the manual pages from the header's own text, below FOLDER/man3: httpsbind.3 has what stands
# before >>api, httpsbind-PART.3 one part of it, and every function and type is a link to its part.
# In a comment, what begins at its margin is prose and is filled; what is indented, or begins with a
# word and two spaces, is a table or code and stays as it is.
set -eu
mkdir -p "$2/man3"
date=$(sed -n '/>>changes =/,$s/^   [0-9.]*, \(20[0-9-]*\)$/\1/p' "$1" | head -n 1)
awk -v out="$2/man3/" -v date="$date" '
function escape(s) {
    gsub(/\\/, "\\\\e", s); gsub(/-/, "\\\\-", s); gsub(/`/, "\\\\(ga", s)
    gsub(/\047/, "\\\\(aq", s); gsub(/\^/, "\\\\(ha", s); gsub(/~/, "\\\\(ti", s)
    return s ~ /^\./ ? "\\&" s : s
}
function add(s) { body[page] = body[page] s "\n" }
function mode(m) {
    if (m != now) {
        if (now == "code") add(".EE")
        if (m == "code") add((fresh ? "" : ".PP\n") ".EX")
        else if (m == "text" && !fresh) add(".PP")
    }
    if (m) fresh = 0
    now = m
}
function code(s) {          # empty lines wait for what follows them
    if (s == "") { empty = empty "\n"; return }
    if (now == "code") body[page] = body[page] empty
    empty = ""
    mode("code")
    add(escape(s))
}
function prose(s) {
    if (s ~ /^([ {}]|int main)/ || s ~ /^[^ ]*[^ .]  +[^ ]/) { code(s); return }
    if (s == "" && now == "code") { code(s); return }
    if (s == "") { now = "paragraph"; return }
    empty = ""
    mode("text")
    add(escape(s))
}
function heading(s) { mode(""); empty = ""; add(".SH " toupper(s)); fresh = 1 }
function start(title) {
    mode("")
    sub(/ *[:(].*/, "", title)
    page = "httpsbind-" tolower(title)
    gsub(/ /, "-", page)
    what[pages[++count] = page] = title
    heading("description")
}
function name(s) {
    if (!(s in part)) names[part[s] = page] = names[page] ", " s
}

BEGIN { pages[++count] = page = "httpsbind"; what[page] = "binds a port and serves HTTPS from it" }
/^#define HSB_VERSION  / { version = $3; gsub(/"/, "", version) }
/IMPLEMENTATION\) .*!defined\(HTTPSBIND_DONE\)/ { exit }
/^\/\* =+ >>[a-z-]+ =/ {
    begun = comment = 1
    heading(substr($3, 3))
    now = "heading"
    next
}
!begun { next }
/^\/\* --- .* --/ {
    title = $0
    gsub(/^\/\* --- | -+( \*\/)?$/, "", title)
    start(title)
    comment = !/\*\/$/
    next
}
/^#ifndef HSB_API/ && page == "httpsbind" { start("basics") }
comment || /^\/\* / {
    if (!comment && now != "code") now = "paragraph"
    line = $0
    sub(/^(\/\* |   )/, "", line)
    comment = !(line ~ /\*\/ *$/)
    sub(/ *(\*\/)? *$/, "", line)
    prose(line)
    next
}
page == "httpsbind" { next }        # the include guard, before >>api
{ code($0) }
/^HSB_API/ && match($0, /hsb_[a-z0-9_]+\(/) { name(substr($0, RSTART, RLENGTH - 1)) }
/^typedef (struct|enum) hsb_/ { sub(/;.*/, "", $3); name($3) }

END {
    for (i = 1; i <= count; i++) {
        page = pages[i]
        mode("")
        also = page == "httpsbind" ? "" : ", httpsbind"
        for (j = 2; j <= count; j++) if (j != i) also = also ", " pages[j]
        gsub(/, /, "(3),\n", also)
        sub(/^\(3\),\n/, "", also)
        print ".TH", toupper(page), 3, date, "\"httpsbind " version "\"\n.SH NAME\n" \
            page names[page] " \\- " what[page] "\n.SH SYNOPSIS\n.EX\n#include \"httpsbind.h\"\n.EE\n" \
            body[page] ".SH SEE ALSO\n" escape(also) "(3)" >(out page ".3")
        close(out page ".3")
    }
    for (s in part) { print ".so man3/" part[s] ".3" >(out s ".3"); close(out s ".3") }
}' "$1"
