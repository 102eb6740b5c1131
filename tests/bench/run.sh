#!/usr/bin/env bash
# What a request, a gigabyte, a handshake and an idle connection cost the server: `echo`, side
# by side with nginx where that is installed, one thread each, over loopback.  They take turns
# in ROUNDS rounds (5); printed are the medians, and the median of the rounds' ratios, which
# suffers less from a busy machine.  All files are below build/bench.  CC and BEARSSL as in
# the Makefile.  TLS=1.3 measures that version instead of 1.2, on both sides.
set -u
cd "$(dirname "$0")/../.." || exit 1
rounds=${ROUNDS:-5}
tls=${TLS:-1.2}
out=build/bench
suite=ECDHE-ECDSA-AES128-GCM-SHA256
s_time=(-tls1_2 -cipher "$suite")
[ "$tls" = 1.2 ] || s_time=(-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256)
cert=tests/data/server-p256.pem key=tests/data/server-p256.key
download=$((256 << 20)) downloads=5         # bytes, and how many of them are one sample
port=$((20000 + $$ % 10000))                # and those that follow; below the ephemeral ones

say() { printf '%s' "$*" >&2; }

fail() {
    say "
$*
"
    exit 1
}

# --- servers ----------------------------------------------------------------------------
declare -A pids=()          # of what was started: the process to end
finish() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null
    wait
}
trap finish EXIT
trap 'exit 1' INT TERM

stop() {
    kill "${pids[$1]}" 2>/dev/null
    wait "${pids[$1]}" 2>/dev/null
    unset "pids[$1]"
}

# serve NAME [COMMAND-BEFORE...]: starts echo, or nginx if the name begins so, and waits until
# it answers.  Sets at[NAME], its port, and worker[NAME], the process that works.
declare -A at=() worker=()
serve() {
    local name=$1
    shift
    at[$name]=$((port++))
    case $name in
    nginx*)
        sed "s|@PORT@|${at[$name]}|; s|@HERE@|$PWD|; s|@USER@|$(id -un) $(id -gn)|; s|@TLS@|$tls|; s|@NAME@|$name|; s|@FILES@|20000|; s|@CONNECTIONS@|16000|" \
            tests/bench/peers/nginx.conf >"$out/$name.conf"
        nginx -p "$PWD/$out" -c "$name.conf" -e "$name.log" &>"$out/$name.out" & ;;
    *-sharers)
        $out/echo --tls "$tls" --address 127.0.0.1 --port "${at[$name]}" --cert $cert --key $key \
            --threads 2 &>"$out/$name.log" & ;;
    *)
        "$@" $out/echo --tls "$tls" --address 127.0.0.1 --port "${at[$name]}" --cert $cert --key $key \
            &>"$out/$name.log" & ;;
    esac
    worker[$name]=$! pids[$name]=$!
    $out/client "$tls" requests "${at[$name]}" 1 || fail "$name does not start: see $out/$name.log"
    [[ $name != nginx* ]] || worker[$name]=$(pgrep -P $! | head -n 1)
}

# user and system time, in ms
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) * 1000 / hz }' "/proc/${worker[$1]}/stat"; }
user() { awk -v hz="$(getconf CLK_TCK)" '{ print $14 * 1000 / hz }' "/proc/${worker[$1]}/stat"; }

resident() { awk '/^VmRSS:/ { print $2 * 1024 }' "/proc/${worker[$1]}/status"; }

# --- numbers ----------------------------------------------------------------------------
calc() { awk "BEGIN { print $* }"; }

# sample KIND SERVER VALUE: one line a round
sample() { echo "$3" >>"$out/samples/$1.$2"; }

latest() { tail -n 1 "$out/samples/$1.$2"; }

# of the numbers on standard input; nothing of none
median() {
    sort -g | awk '{ v[NR] = $1 }
        END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# --- one sample each of a server ----------------------------------------------------------
# handshakes new|reuse SERVER.  s_time shows a * for a full one and an r for a resumed one, and
# counts them all but the first: "1234 connections in 2 real seconds".
handshakes() {
    local before n wrong
    before=$(cpu "$2")
    if [ "$1$tls" = reuse1.3 ]; then    # s_time does not wait for tickets: with a request each
        $out/client "$tls" resumed "${at[$2]}" 300 || fail "resumption"
        sample "$1" "$2" "$(calc "($(cpu "$2") - $before) * 1000 / 301")"
        return
    fi
    openssl s_time -connect 127.0.0.1:"${at[$2]}" "-$1" "${s_time[@]}" -time 1 &>$out/s_time.log
    n=$(awk '/real seconds/ { print $1 }' $out/s_time.log)
    wrong=$([ "$1" = new ] && echo rrr || echo '[*][*][*]')
    if [ "${n:-0}" -lt 50 ] || grep -q "$wrong" $out/s_time.log; then fail "s_time: see $out/s_time.log"; fi
    sample "$1" "$2" "$(calc "($(cpu "$2") - $before) * 1000 / $n")"
}

# load CONNECTIONS SECONDS SERVER: sets requests and rate
load() {
    wrk -t 1 -c "$1" -d "$2" "https://127.0.0.1:${at[$3]}/" &>$out/wrk.log
    requests=$(awk '/requests in/ { print $1 }' $out/wrk.log)
    rate=$(awk '/^Requests\/sec/ { print $2 }' $out/wrk.log)
    if [ -z "$rate" ] || grep -q -e 'Socket errors' -e Non-2xx $out/wrk.log; then fail "wrk: see $out/wrk.log"; fi
}

# The handshakes of the 64 connections are taken off: what one costs was just measured.
keep_alive() {
    local before before_user shaking
    before=$(cpu "$1") before_user=$(user "$1") shaking=$(calc "64 * $(latest new "${1%-*}")")
    load 64 2 "$1"
    sample keep "$1" "$(calc "(($(cpu "$1") - $before) * 1000 - $shaking) / $requests")"
    sample user "$1" "$(calc "(($(user "$1") - $before_user) * 1000 - $shaking) / $requests")"
    sample rate-64 "$1" "$rate"
}

# The primitives, with as much company as the server has while the client computes: where two
# processors are one core, or share its power, each is slower while the other works.
primitives() {
    $out/primitives >$out/company.txt &
    $out/primitives >$out/primitives.txt
    wait $!
    sample primitives echo "$(awk '$2 == "sum" { print $1 }' $out/primitives.txt)"
}

few() {
    load 1 1 "$1"
    sample rate-1 "$1" "$rate"
}

# What comes after the second second: in the first, they shake hands.
many() {
    local before
    load 1000 2 "$1"
    before=$requests
    load 1000 4 "$1"
    sample rate-1000 "$1" $(((requests - before) / 2))
}

bulk() {
    local before
    before=$(cpu "$1")
    for ((i = 0; i < downloads; i++)); do
        curl -s --insecure --tls-max "$tls" -o /dev/null \
            "https://127.0.0.1:${at[$1]}/bytes/$download" || fail "curl"
    done
    sample bulk "$1" "$(calc "($(cpu "$1") - $before) / ($download * $downloads / 1e9)")"
}

# hold N SERVER: N idle connections, until let_go
hold() {
    coproc holder { $out/client "$tls" idle "${at[$2]}" "$1"; }
    read -r -u "${holder[0]}" || fail "the idle connections were not accepted"
}

let_go() {
    # shellcheck disable=SC2154  # coproc sets it
    local fd=${holder[1]} client=$holder_PID
    exec {fd}>&-
    wait "$client"
}

# Fresh processes each time, which have answered one request.
idle() {
    local before
    serve "$1-fresh"
    before=$(resident "$1-fresh")
    hold 1000 "$1-fresh"
    sample idle "$1" "$(calc "($(resident "$1-fresh") - $before) / 1000")"
    let_go
    stop "$1-fresh"
}

# Two of the same server, and one of them holds the idle connections.
crowd() {
    serve "$1-alone"
    serve "$1-crowd"
    hold "$crowded" "$1-crowd"
    for ((i = 0; i < rounds; i++)); do
        load 64 1 "$1-alone"
        sample alone "$1" "$rate"
        load 64 1 "$1-crowd"
        sample crowd "$1" "$rate"
    done
    let_go
    stop "$1-alone"
    stop "$1-crowd"
}

# instructions MODE FEW MANY: user space only; what is the same for few and many falls out
instructions() {
    local n counts=()
    for n in "$2" "$3"; do
        serve "echo-$1-$n" valgrind --tool=callgrind "--callgrind-out-file=$out/callgrind.$1.$n"
        $out/client "$tls" "$1" "${at[echo-$1-$n]}" "$n" || fail "valgrind: see $out/echo-$1-$n.log"
        stop "echo-$1-$n"
        counts+=("$(awk '/^summary:/ { print $2 }' "$out/callgrind.$1.$n")")
    done
    sample instructions "$1" $(((counts[1] - counts[0]) / ($3 - $2)))
}

# --- the table ----------------------------------------------------------------------------
# show DIGITS NUMBER, which may be empty
show() { [ -z "$2" ] || printf '%.*f' "$1" "$2"; }

# row TEXT DIGITS A B GOAL: two columns, sample files, and the ratio between them
row() {
    local a="" b="" ratio=""
    [ ! -e "$out/samples/$3" ] || a=$(median <"$out/samples/$3")
    [ ! -e "$out/samples/$4" ] || b=$(median <"$out/samples/$4")
    [ -z "$a" ] || [ -z "$b" ] ||
        ratio=$(paste "$out/samples/$3" "$out/samples/$4" | awk '{ print $1 / $2 }' | median)
    printf '%-42s %10s %10s %7s  %s\n' "$1" "$(show "$2" "$a")" "$(show "$2" "$b")" "$(show 2 "$ratio")" "$5"
}

compare() { row "$1" "$2" "$3.echo" "$3.nginx" "$4"; }

table() {
    echo
    echo "$(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) processors, $(uname -sr)," \
         "$(nginx -v 2>&1 | sed -n 's/.*: //p'), $(openssl version | cut -d ' ' -f 1,2)"
    echo "$(date +%Y-%m-%d), medians of $rounds rounds"
    echo
    printf '%-42s %10s %10s %7s  %s\n' "" echo nginx ratio goal
    compare "keep-alive request, us of CPU"      2 keep      "<= 0.78"
    compare "download, ms of CPU per GB"         0 bulk      "<= 0.80"
    compare "resumed handshake, us of CPU"       1 reuse     "<= 1.00"
    compare "full handshake, us of CPU"          1 new       ""
    compare "idle connection, bytes resident"    0 idle      "<= 8192 bytes"
    compare "requests/s, 1 connection"           0 rate-1    ""
    compare "requests/s, 64 connections"         0 rate-64   ""
    compare "requests/s, 1000 connections"       0 rate-1000 ""
    echo
    printf '%-42s %10s %10s %7s  %s\n' "echo" this that ratio goal
    row "full handshake / BearSSL's primitives, us" 1 new.echo primitives.echo "<= 1.15"
    row "requests/s, $crowded idle / no other"   0 crowd.echo alone.echo ">= 0.90"
    row "the same of nginx"                      0 crowd.nginx alone.nginx ""
    row "keep-alive us, outside the kernel / all" 2 user.echo keep.echo "<= 0.15"
    row "the same of nginx"                      2 user.nginx keep.nginx ""
    row "us per request, two sharers / one"      2 keep.echo-sharers keep.echo "<= 1.10"
    row "instructions, keep-alive request"       0 instructions.requests none ""
    row "instructions, resumed handshake"        0 instructions.resumed none ""
    echo
    cat $out/primitives.txt
    echo
    cat $out/chain.txt
    [ -z "$missing" ] || echo "not measured, for it is not installed:$missing"
}

# --- everything ----------------------------------------------------------------------------
build() {
    local bearssl=(-lbearssl)
    [ -z "${BEARSSL:-}" ] || bearssl=("-I$BEARSSL/inc" "$BEARSSL/build/libbearssl.a")
    ${CC:-cc} -std=c99 -D_GNU_SOURCE -O2 -g -I. -Itests "${@:3}" -o "$out/$1" "$2" "${bearssl[@]}" \
        -lssl -lcrypto -lpthread || exit 1
}

# has COMMAND: or it is noted as missing
has() {
    command -v "$1" >/dev/null || { missing="$missing $1"; false; }
}

# each MEASUREMENT...: of both servers, one after the other
each() {
    say " ${1/_/-}"
    for server in "${servers[@]}"; do
        case $1 in
        full) handshakes new "$server" ;;
        resumed) handshakes reuse "$server" ;;
        *) "$1" "$server" ;;
        esac
    done
}

begin=$SECONDS missing=
rm -rf $out/samples
mkdir -p $out/samples $out/www/bytes
build echo examples/echo.c
build client tests/bench/client.c 
build primitives tests/bench/primitives.c
build chain tests/bench/chain.c
[ -e $out/www/bytes/$download ] || head -c $download /dev/zero >$out/www/bytes/$download
crowded=$(($(ulimit -n) - 500))
crowded=$((crowded < 10000 ? crowded : 10000))

servers=(echo)
has nginx && servers+=(nginx)
for server in "${servers[@]}" echo-sharers; do
    serve "$server"
done
has wrk && wrk=yes || wrk=

for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds:"
    each full
    say " primitives"
    primitives
    $out/chain >$out/chain.txt
    each resumed
    if [ "$wrk" ]; then
        each keep_alive
        say " sharers"
        keep_alive echo-sharers
        each few
        each many
    fi
    each bulk
    each idle
    say $'\n'
done
if [ "$wrk" ]; then
    say "with $crowded idle connections:"
    each crowd
    say $'\n'
fi
if has valgrind; then
    say $'instructions\n'
    instructions requests 100 1100
    instructions resumed 10 110
fi
table
for program in head growth; do
    echo
    build $program tests/bench/$program.c
    $out/$program
done
say "in $((SECONDS - begin)) s"$'\n'
