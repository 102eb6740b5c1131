#!/bin/sh
# What some recipes of examples/README.md promise besides, with curl as their user: an upload takes whole files
# only, systemd may pass several sockets, events do not hold up a graceful stop.
set -eu
tmp=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$tmp"' EXIT
python=/usr/bin/python3
[ -x $python ] || { echo "skipped: no python3"; exit 0; }

fail() { echo "FAILED: $*"; exit 1; }

free_ports() {
    $python -c 'import socket
s = [socket.socket() for _ in range(2)]
for i in s: i.bind(("127.0.0.1", 0))
print(*[i.getsockname()[1] for i in s])'
}

# build PROGRAM RECIPE: on $port.
build() {
    $python tests/check/cookbook.py --program "$2" | sed "s/8443/$port/" >"$tmp/$1.c"
    # shellcheck disable=SC2086  # flags are words
    ${CC:-cc} -O1 -I. ${BEARSSL:+-I$BEARSSL/inc -L$BEARSSL/build} "$tmp/$1.c" -o "$tmp/$1" -lbearssl -lpthread
}

ask() { curl -sk -m 10 -o /dev/null -w '%{http_code}' --retry 20 --retry-connrefused --retry-delay 1 "$@"; }

# shellcheck disable=SC2046  # two words
set -- $(free_ports)
port=$1 second=$2

build upload 'An upload'
(cd "$tmp" && exec ./upload) &
pid=$!
got=$(ask -T Makefile "https://127.0.0.1:$port/")
[ "$got" = 201 ] || fail "upload: $got"
got=$(ask -T Makefile -H 'Content-Range: bytes 0-9/100' "https://127.0.0.1:$port/")
[ "$got" = 400 ] || fail "upload with Content-Range: $got"
cmp Makefile "$tmp/upload-1"
[ "$(find "$tmp" -name 'upload-*' | wc -l)" -eq 1 ] || fail "upload keeps a part"
kill -9 $pid
wait $pid 2>/dev/null || true
echo "ok: an upload takes whole files only"

build form 'A form with files'
(cd "$tmp" && exec ./form) &
pid=$!
got=$(ask -F 'files=@Makefile;filename="<b>.txt"' -F note=x -F files=@README.md "https://127.0.0.1:$port/")
[ "$got" = 201 ] || fail "form: $got"
cmp Makefile "$tmp/form-1-0"
cmp README.md "$tmp/form-1-1"
got=$(ask -H 'Content-Type: multipart/form-data; boundary=B' "https://127.0.0.1:$port/" \
    --data-binary "$(printf -- '--B\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\nhalf of it')")
[ "$got" = 400 ] || fail "half a form: $got"
[ "$(find "$tmp" -name 'form-*' | wc -l)" -eq 2 ] || fail "a form keeps a part"
kill -9 $pid
wait $pid 2>/dev/null || true
echo "ok: a form with files takes whole forms only"

build systemd 'Behind systemd'
$python -c 'import os, socket, sys
for fd, port in ((3, sys.argv[2]), (4, sys.argv[3])):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(port)))
    s.listen()
    if s.fileno() != fd: os.dup2(s.fileno(), fd)
    else: s.detach()
    os.set_inheritable(fd, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv(sys.argv[1], sys.argv[1:2])' "$tmp/systemd" "$port" "$second" &
pid=$!
for at in "$port" "$second"; do
    got=$(ask "https://127.0.0.1:$at/")
    [ "$got" = 200 ] || fail "port $at of two that systemd passed: $got"
done
kill -TERM $pid
wait $pid || fail "systemd: exit status $?"
echo "ok: systemd passes two sockets"

# stop_while_reading RECIPE ANSWER [POST]: with an open reader that has got this answer.
stop_while_reading() {
    build events "$1"
    "$tmp/events" >"$tmp/events.log" 2>&1 &
    pid=$!
    curl -skN -m 60 --retry 20 --retry-connrefused --retry-delay 1 "https://localhost:$port/" >"$tmp/heard" &
    curl=$!
    for _ in $(seq 100); do
        ! grep -q "$2" "$tmp/heard" || break
        [ -z "${3:-}" ] || curl -sk -m 10 -d "$3" "https://localhost:$port/" || true
        sleep 0.1
    done
    before=$(date +%s)
    kill -TERM $pid
    wait $pid || fail "$1: exit status $?"
    [ $(($(date +%s) - before)) -lt 10 ] || fail "$1: the reader held up the stop"
    pid=
    wait $curl || fail "$1: the reader was cut: curl says $?"
    grep -q "$2" "$tmp/heard" || fail "$1: no events"
    echo "ok: $1 end with their server"
}
stop_while_reading 'Server-sent events' 'data: 1 seconds'
stop_while_reading 'Events to many' 'data: news' news
