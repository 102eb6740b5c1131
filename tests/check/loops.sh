#!/bin/sh
# The examples in loops that are not the server's: with nobody connected they make no system
# call at all (IDLE seconds long, 3), also after somebody was; and a timer of 100 ms comes in
# time: never early, and within 20 ms at least once in 20 tries, as others use this machine, too.
set -eu
out=build/check
idle=${IDLE:-3}
mkdir -p "$out"
command -v strace >/dev/null || { echo "skipped: no strace"; exit 0; }
pid=
trap '[ -z "$pid" ] || kill -9 "$pid"' EXIT

calls() {
    wc -l <"$out/loop.strace"
}

# Once it says where it listens: the port.
port() {
    for _ in $(seq 100); do
        ! grep -q '^listening' "$out/loop.log" || break
        sleep 0.1
    done
    sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$out/loop.log"
}

# Microseconds from the request to the end of the answer.
later() {
    curl -fks -o /dev/null -w '%{time_pretransfer} %{time_total}\n' \
        "https://127.0.0.1:$port/later" | awk '{ printf "%d\n", ($2 - $1) * 1000000 }'
}

check() {
    # shellcheck disable=SC2086
    ${CC:-cc} -O1 -I. "examples/$1.c" -o "$out/$1" -lbearssl $2
    : >"$out/loop.log"
    mkfifo "$out/loop.in"
    strace -f -o "$out/loop.strace" "$out/$1" --port 0 >"$out/loop.log" 2>&1 <"$out/loop.in" &
    exec 3>"$out/loop.in"               # standard input that is silent, but has not ended
    port=$(port)
    pid=$(sed -n '1s/ .*//p' "$out/loop.strace")
    best=1000000
    for _ in $(seq 20); do
        us=$(later)
        [ "$us" -ge 100000 ] || { echo "$1: 100 ms were $us us"; exit 1; }
        [ "$us" -ge "$best" ] || best=$us
        [ "$best" -gt 120000 ] || break
    done
    [ "$best" -le 120000 ] || { echo "$1: 100 ms were $best us, and never less"; exit 1; }
    before=-1
    for _ in $(seq 30); do              # until the last connection is gone
        [ "$(calls)" -ne "$before" ] || break
        before=$(calls)
        sleep 1
    done
    sleep "$idle"
    woken=$(($(calls) - before))
    [ "$woken" -eq 0 ] || { echo "$1: $woken system calls in $idle s with nobody there"; exit 1; }
    [ "$(curl -ks -w '%{http_code}' -o /dev/null "https://127.0.0.1:$port/")" -eq 200 ]
    kill -INT "$pid"
    wait $! || { echo "$1: exit status $?"; exit 1; }
    pid=
    exec 3>&-
    rm "$out/loop.in"
    echo "ok: $1, 0 system calls in $idle s, 100 ms in $best us"
}

rm -f "$out/loop.in"
check own_loop ''
! pkg-config --exists libuv || check libuv_loop -luv
! pkg-config --exists libevent || check libevent_loop -levent
