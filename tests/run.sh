#!/bin/sh
# usage: run.sh PROGRAM...
# Runs cmocka programs one after the other from the top folder, shows the output of those
# that fail and why tests were skipped, and adds up their cases.  A program that dies counts
# as one failed case.  A .log with everything it said stays beside each program.  What failed is
# said again at the end, where a log that was cut still has it.
set -u
limit=${TEST_SECONDS:-600}      # a program that takes longer hangs
passed=0 skipped=0 failed=0 again=

# "[  PASSED  ] 12 test(s)." -> 12, and what newer versions of cmocka say:
# "[  FAILED  ] group: 1 test(s), listed below:" -> 1.  A program may have several groups.
count() {
    awk -v word="$1" '$0 ~ "^\\[ +" word " +\\] ([^:]*: )?[0-9]+ test\\(s\\)" {
                          sub(/^[^\]]*\] ([^:]*: )?/, ""); n += $1 }
                      END { print n + 0 }' "$log"
}

for program; do
    log=$program.log
    set --
    case $program in */wire/player) set -- tests/wire/*.txt ;; esac
    begin=$(date +%s)
    timeout -k 5 "$limit" "$program" "$@" >"$log" 2>&1 </dev/null
    code=$?
    seconds=$(($(date +%s) - begin))
    p=$(count PASSED) s=$(count SKIPPED) f=$(count FAILED)
    if [ $code -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ $((p + f + s)) -eq 0 ]; then p=1; fi         # no cmocka: the exit code speaks
    printf '%-32s %4d passed' "$program" "$p"
    [ "$s" -eq 0 ] || printf ', %d skipped' "$s"
    [ "$f" -eq 0 ] || printf ', %d FAILED' "$f"
    [ $code -ne 124 ] || printf ' (hung for %d s)' "$limit"
    [ $seconds -lt 5 ] || printf ' in %d s' $seconds
    echo
    if [ "$f" -ne 0 ]; then
        sed 's/^/    /' "$log"
        again="$again $log"
    elif [ "$s" -ne 0 ]; then
        sed -n 's/^skipped: /    skipped: /p' "$log"
    fi
    passed=$((passed + p)) skipped=$((skipped + s)) failed=$((failed + f))
done

for log in $again; do
    echo "FAILED: ${log%.log}"
    grep -a '^\[ *\(ERROR\|LINE\|FAILED\) *\]' "$log" | sed 's/^/    /' | head -n 20
done
[ $skipped -eq 0 ] || printf '%d skipped, ' $skipped
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
