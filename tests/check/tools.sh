#!/bin/sh
# The examples that make pages and take what people send (form, api, embedded, dashboard, webhook,
# filedrop), with curl and in Chromium: what they are for, and hostile input.
# What is not installed is said, and skipped.
set -eu
out=$PWD/build/check/tools
rm -rf "$out" && mkdir -p "$out/bin" "$out/form" "$out/drop"
for name in form api embedded dashboard webhook filedrop; do
    if [ -n "${EXAMPLES:-}" ]; then
        cp "$EXAMPLES/$name" "$out/bin/"
    else
        ${CC:-cc} -O1 -I. "examples/$name.c" -o "$out/bin/$name" -lbearssl -lpthread &
    fi
done
wait

running=
trap 'for pid in $running; do kill -9 $pid 2>/dev/null || true; done' EXIT
fail() { echo "FAILED: $*"; exit 1; }
# start NAME ARGUMENTS...: $site is where it listens.
start() {
    program=$1
    shift
    : >"$out/$program.log"
    "$out/bin/$program" "$@" >"$out/$program.log" 2>&1 &
    pid=$!
    running="$running $pid"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        port=$(sed -n 's/^listening on .*:\([0-9]*\).*$/\1/p' "$out/$program.log" | head -n 1)
        [ -n "$port" ] && break
        sleep 0.5
    done
    [ -n "$port" ] || fail "$program does not start: $(cat "$out/$program.log")"
    site=https://localhost:$port
}
# stop: it ends by itself when it is asked to.
stop() {
    kill -TERM "$pid"
    wait "$pid" || fail "$program ended with $?: $(cat "$out/$program.log")"
}
get() { curl -sSk -m 20 "$@"; }
# expect STATUS CURL-ARGUMENTS...; the body is in $out/body, the head in $out/head.
expect() {
    wanted=$1
    shift
    got=$(get -o "$out/body" -D "$out/head" -w '%{http_code}' "$@") || got="$got (curl: $?)"
    [ "$got" = "$wanted" ] || fail "$program: curl $*: $got and not $wanted: $(head -c 300 "$out/body")"
}
says() { grep -qF -- "$1" "$out/${2:-body}" || fail "$program: no \"$1\" in: $(cat "$out/${2:-body}")"; }
says_not() { ! grep -qF -- "$1" "$out/${2:-body}" || fail "$program: \"$1\" in ${2:-body}"; }
within() {          # within COMMAND...
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        "$@" && return 0
        sleep 0.2
    done
    fail "$program: never: $*"
}

# --- webhook ------------------------------------------------------------------------------------
export WEBHOOK_SECRET=0123456789abcdef-secret
start webhook "$out/events" -1
body='{"action":"opened",
"n":1}'
sign() { printf %s "$1" | openssl dgst -sha256 -hmac "${2:-$WEBHOOK_SECRET}" | sed 's/.* /sha256=/'; }
# hook STATUS BODY SIGNATURE [TYPE]
hook() { expect "$1" -H "Content-Type: ${4:-application/json}" -H "X-Hub-Signature-256: $3" --data-binary "$2" "$site/hook"; }
hook 204 "$body" "$(sign "$body")"
hook 403 "$body" "$(sign "$body" another-secret)"
hook 403 "$body " "$(sign "$body")"
hook 403 "$body" "$(sign "$body" | cut -c 1-60)"
hook 403 "$body" 'sha256='
hook 403 "$body" "$(sign "$body" | tr a-f A-F)x"
hook 415 "$body" "$(sign "$body")" text/plain
expect 403 -H 'Content-Type: application/json' -d "$body" "$site/hook"
hook 204 '{"second":2}' "$(sign '{"second":2}')"
head -c 1000000 /dev/zero | tr '\0' x >"$out/large"
expect 204 -H 'Content-Type: application/json' -H "X-Hub-Signature-256: $(openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" "$out/large" | sed 's/.* /sha256=/')" \
    --data-binary "@$out/large" "$site/hook"
cat "$out/large" "$out/large" >"$out/larger"
expect 413 -H 'Content-Type: application/json' --data-binary "@$out/larger" "$site/hook"
expect 405 "$site/hook"
expect 404 "$site/"
if WEBHOOK_SECRET=$WEBHOOK_SECRET "$out/bin/webhook" "$out/events" -1 2>/dev/null; then fail "two of them write to one file"; fi
if WEBHOOK_SECRET=short "$out/bin/webhook" "$out/events2" -1 2>/dev/null; then fail "a short secret is taken"; fi
[ "$(wc -l <"$out/events")" = 3 ] || fail "webhook: $(wc -l <"$out/events") events"
[ "$(head -n 2 "$out/events")" = '{"action":"opened", "n":1}
{"second":2}' ] || fail "webhook: $(head -c 200 "$out/events")"
stop
echo "ok: webhook"

# --- api ----------------------------------------------------------------------------------------
export NOTES_LOGIN=ann:secret
start api --port 0 --origin https://app.example
# note STATUS TEXT-OF-BODY CURL-ARGUMENTS...
note() {
    status=$1 text=$2
    shift 2
    expect "$status" -u ann:secret -H 'Content-Type: application/json' --data-binary "$text" "$@"
}
expect 401 "$site/notes"
says 'WWW-Authenticate: Basic' head
expect 401 -u ann:wrong "$site/notes"
expect 401 -u ann:secret: "$site/notes"
expect 401 -X POST -H 'Content-Type: application/json' -d '{"text":"x"}' "$site/notes"
note 201 '{"text":"buy milk"}' "$site/notes"
says 'Location: /notes/1' head
[ "$(cat "$out/body")" = '{"id":1,"text":"buy milk"}' ] || fail "api: $(cat "$out/body")"
note 201 '  { "text" : "a\"\\\/\b\f\n\r\t\u00e4\u20ac\ud83d\ude00<" } ' "$site/notes"
printf '{"id":2,"text":"a\\"\\\\/\\u0008\\u000c\\u000a\\u000d\\u0009ä€😀<"}\n' | cmp - "$out/body" || fail "api: $(cat "$out/body")"
for bad in '' '{' '{}' '[]' '"text"' '{"text":1}' '{"text":"x"' '{"text":"x"}}' '{"text":"x",}' '{"text":"\q"}' \
    '{"text":"\u00e"}' '{"text":"\ud83d"}' '{"text":"\ud83d\u0041"}' '{"text":"\ude00"}' '{"text":"\u0000"}' \
    '{"texts":"x"}' '{"text":"x' '{"text":"x
"}' "$(printf '{"text":"x\134')" '{"text":"\u' '{"text":"x"}{"text":"y"}' "$(printf '{"text":"\377"}')" \
    "$(printf '{"text":"\300\200"}')" "$(printf '{"text":"\355\240\200"}')"; do
    note 400 "$bad" "$site/notes"
done
long=$(head -c 1000 /dev/zero | tr '\0' x)
note 400 "{\"text\":\"${long}x\"}" "$site/notes"
note 201 "{\"text\":\"$long\"}" "$site/notes"
expect 413 -u ann:secret -H 'Content-Type: application/json' --data-binary "@$out/large" "$site/notes"
expect 415 -u ann:secret -d '{"text":"x"}' "$site/notes"
note 200 '{"text":"new"}' -X PUT "$site/notes/2"
note 404 '{"text":"new"}' -X PUT "$site/notes/9"
expect 204 -u ann:secret -X DELETE "$site/notes/3"
expect 404 -u ann:secret -X DELETE "$site/notes/3"
expect 404 -u ann:secret "$site/notes/1x"
expect 404 -u ann:secret "$site/notes/0"
expect 405 -u ann:secret -X PATCH "$site/notes/1"
expect 200 -u ann:secret "$site/notes"
[ "$(cat "$out/body")" = '[{"id":1,"text":"buy milk"},{"id":2,"text":"new"}]' ] || fail "api: $(cat "$out/body")"
expect 204 -X OPTIONS -H 'Origin: https://app.example' -H 'Access-Control-Request-Method: PUT' "$site/notes/1"
says 'Access-Control-Allow-Origin: https://app.example' head
says 'Access-Control-Allow-Methods: GET, POST, PUT, DELETE' head
expect 200 -u ann:secret -H 'Origin: https://evil.example' "$site/notes"
says_not 'Access-Control' head
says 'Vary: Origin' head
stop
echo "ok: api"

# --- embedded -----------------------------------------------------------------------------------
start embedded --port 0
expect 200 "$site/"
says 'Content-Security-Policy: default-src' head
tag=$(sed -n 's/^ETag: \(.*\).$/\1/p' "$out/head")
expect 304 -H "If-None-Match: $tag" "$site/"
expect 206 -r 0-3 "$site/light.svg"
says 'ETag: "light-1"' head
expect 200 -I "$site/style.css"
expect 405 -X POST "$site/"
expect 404 "$site/../../etc/passwd"
embedded=$port embedded_pid=$pid
echo "ok: embedded"

# --- form ---------------------------------------------------------------------------------------
start form --port 0 --limit 2 --quota 5 "$out/form"
stored() { find "$out/form" -mindepth 1 -maxdepth 1 | wc -l; }
has_stored() { [ "$(stored)" = "$1" ]; }
printf 'a photo' >"$out/photo.jpg"
expect 201 -F name=Ann -F 'message=hello <b>' -F 'files=@'"$out/photo.jpg" -F "files=@$out/photo.jpg;filename=\"../../<i>evil\"" "$site/"
says '<bdi>photo.jpg</bdi>, 7 bytes'
says '<bdi>_i_evil</bdi>, 7 bytes'
report=$(echo "$out"/form/form-*)
[ "$(cd "$report" && echo *)" = '1-photo.jpg 2-_i_evil message.txt name.txt' ] || fail "form: $(ls "$report")"
[ "$(cat "$report/message.txt")" = 'hello <b>' ] || fail "form: $(cat "$report/message.txt")"
rm -r "$report"
expect 201 -F name=Ann -F message=x -F 'files=;filename=' "$site/"
rm -r "$out"/form/form-*
expect 400 -F name=Ann -F 'files=@'"$out/photo.jpg" "$site/"
says 'not complete'
expect 400 -F name=Ann -F message= "$site/"
expect 400 -F name=Ann -F message=x -F name=Ann "$site/"
expect 413 -F name=Ann -F message="<$out/large" "$site/"
expect 413 -F name=Ann -F message=x -F "files=@$out/larger" -F "files=@$out/larger" "$site/"
says 'too large'
expect 403 -H 'Sec-Fetch-Site: cross-site' -F name=Ann -F message=x "$site/"
expect 415 -d 'name=Ann&message=x' "$site/"
expect 404 "$site/none"
for broken in 'garbage' '--b\r\n\r\n' '--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nhalf of it' \
    '--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nAnn\r\n--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--'; do
    printf %b "$broken" >"$out/broken"
    expect 400 -H 'Content-Type: multipart/form-data; boundary=b' --data-binary "@$out/broken" "$site/"
done
# A client that leaves in the middle, and one that never sends the rest.
get -m 1 --limit-rate 200000 -F name=Ann -F message=x -F "files=@$out/larger" "$site/" 2>/dev/null || true
within has_stored 0
for _ in 1 2 3 4; do expect 201 -F name=Ann -F message=x -F "files=@$out/large" "$site/"; done
expect 507 -F name=Ann -F message=x -F "files=@$out/large" -F "files=@$out/large" "$site/"
has_stored 4 || fail "form: $(stored) are stored"
rm -r "$out"/form/form-*
if "$out/bin/form" --port 0 "$out/form" 2>/dev/null; then fail "two of them write to one folder"; fi
# Killed in the middle of one: the next run removes what is left of it.
get -m 5 --limit-rate 200000 -F name=Ann -F message=x -F "files=@$out/large" "$site/" 2>/dev/null &
half=$!
within has_stored 1
kill -9 "$pid"
wait $half || true
has_stored 1 || fail "form: $(stored) are there after it was killed"
start form --port 0 --limit 2 --quota 5 "$out/form"
has_stored 0 || fail "form: $(ls -a "$out/form")"
form=$port form_pid=$pid
echo "ok: form"

# --- filedrop -----------------------------------------------------------------------------------
start filedrop "$out/drop" -1
there() { find "$out/drop" -type f | wc -l; }
is_there() { [ "$(there)" = "$1" ]; }
expect 303 -F "file=@$out/photo.jpg" -F "file=@$out/photo.jpg;filename=../../<b>" "$site/"
expect 201 -T "$out/photo.jpg" "$site/"
name=$(cat "$out/body")
expect 200 "$site/$name"
cmp "$out/body" "$out/photo.jpg" || fail "filedrop: $name"
says 'Content-Disposition: attachment' head
says 'Content-Security-Policy: sandbox' head
expect 206 -r 2-4 "$site/$name"
expect 200 "$site/"
says "<a href=\"/$name\">$name</a>"
says '-_b_</a>'
is_there 3 || fail "filedrop: $(there) files"
expect 400 -T "$out/photo.jpg" -H 'Content-Range: bytes 0-6/7' "$site/x"
for path in /..%2fphoto.jpg /%2e%2e/photo.jpg /../photo.jpg "/..%2fdrop%2f$name" /none //; do
    expect 404 --path-as-is "$site$path"
done
expect 404 -T "$out/photo.jpg" "$site/a/b"
expect 201 -T "$out/photo.jpg" "$site/%2e%2e%2fup"
says '-up'
is_there 4 || fail "filedrop: $(there) files"
expect 403 -H 'Sec-Fetch-Site: cross-site' -F "file=@$out/photo.jpg" "$site/"
expect 415 -d x=y "$site/"
printf %b '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf of it' >"$out/broken"
expect 400 -H 'Content-Type: multipart/form-data; boundary=b' --data-binary "@$out/broken" "$site/"
expect 405 -X DELETE "$site/$name"
truncate -s 34M "$out/huge"
expect 413 -F "file=@$out/huge" "$site/"
expect 413 -H Expect: -H 'Transfer-Encoding: chunked' -T "$out/huge" "$site/"
get -m 1 --limit-rate 200000 -T "$out/larger" "$site/" 2>/dev/null || true
is_there 4 || fail "filedrop: $(there) files"
filedrop=$port filedrop_pid=$pid
echo "ok: filedrop"

# --- dashboard ----------------------------------------------------------------------------------
export DASHBOARD_PASSWORD='correct horse'
start dashboard -1
rm -f "$out/jar"
page() { get -b "$out/jar" -c "$out/jar" "$site/" >"$out/body"; sed -n 's/.*name=form value="\([^"]*\)".*/\1/p' "$out/body"; }
form_token=$(page)
[ ${#form_token} = 22 ] || fail "dashboard: the token is \"$form_token\""
[ "$(page)" = "$form_token" ] || fail "dashboard: another token"
grep -q '#HttpOnly.*TRUE.*__Host-form' "$out/jar" || fail "dashboard: $(cat "$out/jar")"
expect 403 "$site/events"
expect 403 -H 'Cookie: __Host-session=' "$site/events"
expect 403 -d 'form=&password=correct+horse' "$site/"
expect 403 -H 'Cookie: __Host-form=' -d 'form=&password=correct+hors' "$site/"
expect 403 -b "$out/jar" -d "form=${form_token%?}&password=correct+horse" "$site/"
expect 403 -b "$out/jar" -d "form=$form_token&password=correct+hors" "$site/"
says 'Not accepted'
expect 403 -b "$out/jar" -d "form=$form_token&password=" "$site/"
expect 200 -H 'Cookie: __Host-form="><script>alert(1)</script>' "$site/"
says_not '<script>alert'
expect 303 -b "$out/jar" -c "$out/jar" -d "form=$form_token&password=correct+horse" "$site/"
says 'Path=/; SameSite=Strict; Secure; HttpOnly' head
page >"$out/token"
says 'Log out'
says_not 'type=password'
get -N -b "$out/jar" "$site/events" >"$out/reader1" &
one=$!
get -N -b "$out/jar" "$site/events" >"$out/reader2" &
two=$!
two_events() { [ "$(grep -c '^data: [0-9]* [0-9]* [0-9]*$' "$out/$1")" -ge 2 ]; }
within two_events reader1
within two_events reader2
expect 403 -b "$out/jar" -d "form=wrong" "$site/"
[ "$(get -m 5 -I -b "$out/jar" "$site/events" "$site/events" | grep -c '^HTTP/1.1 200')" = 2 ] || fail "dashboard: HEAD"
expect 303 -b "$out/jar" -d "form=$form_token" "$site/"
wait $one $two || fail "dashboard: a reader's end"
expect 403 -b "$out/jar" "$site/events"
rm -f "$out/jar"
form_token=$(page)
expect 303 -b "$out/jar" -c "$out/jar" -d "form=$form_token&password=correct+horse" "$site/"

# --- Chromium -----------------------------------------------------------------------------------
chromium=$(command -v chromium || true)
if [ -n "$chromium" ] && NODE_PATH=/usr/share/nodejs node -e 'require("ws")' 2>/dev/null; then
    dashboard=$port dashboard_pid=$pid dashboard_site=$site
    app=$(node -e 'const s = require("net").createServer().listen(0, () => { console.log(s.address().port); s.close(); })')
    start api --port 0 --origin "http://localhost:$app"
    NODE_PATH=/usr/share/nodejs node tests/check/tools.js "$chromium" "$out" "$embedded" "$form" "$filedrop" \
        "$dashboard" "$port" "$app"
    stop
    program=dashboard pid=$dashboard_pid site=$dashboard_site
    [ "$(cat "$out"/form/form-*/message.txt)" = 'The lamp <b>flickers</b>.' ] || fail "form: the message of Chromium"
    [ "$(cat "$out"/form/form-*/1-log.txt)" = 'a file' ] || fail "form: the file of Chromium"
    grep -rqx 'dropped' "$out/drop" || fail "filedrop: the file of Chromium"
else
    echo "skipped: no chromium, or no node-ws"
fi

# --- ends ---------------------------------------------------------------------------------------
# A reader of the dashboard does not hold it up, and neither does one that reads nothing.
get -N -b "$out/jar" "$site/events" >"$out/reader1" &
one=$!
get -N -b "$out/jar" "$site/events" >"$out/reader2" &
two=$!
within two_events reader1
within two_events reader2
kill -STOP $two
stop
kill -CONT $two
wait $one || fail "dashboard: a reader's end at the server's"
echo "ok: dashboard"
for pid in $embedded_pid $form_pid $filedrop_pid; do stop; done
