#!/bin/sh
# Linked with -ffunction-sections -Wl,--gc-sections, a program has only the parts of the header
# that it uses: hello has none of those below, and a program that calls a part has it.  And hello,
# optimised for size, is no larger than it was: `tests/bench/size.py` says what takes how much.
set -eu
most=295500     # bytes: 281,416 with gcc 12 and BearSSL 0.6, and some 5 % for others
out=build/check/size
mkdir -p "$out"
failed=0

# One part a line: the names that its functions begin with, as a basic regular expression for
# the whole name, and a call of it.
parts()
{
    cat <<'END'
hsb__websocket_.*              hsb_request_websocket(req, &(hsb_websocket_hooks){ .user = user });
hsb__route_.*                  hsb_request_route(req, (hsb_route[]){ { 0 } }, user);
hsb__answers_.*                hsb_respondf(req, 200, NULL, "%d", 7);
hsb_request_log_line           hsb_request_log_line(req, user, 0);
hsb__values_.*                 hsb_request_query_value(req, user);
hsb__files_.*                  hsb_respond_file(req, user, NULL);
hsb__serve_.*                  hsb_serve(user);
END
}

# build NAME CALL: a server whose handler makes this call too.
build()
{
    cat > "$out/$1.c" <<END
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
static void answer(hsb_request *req, void *user)
{
    $2
    hsb_respond(req, 200, "text/plain", hsb_text(user));
}
int main(void)
{
    hsb_error err;
    hsb_options options = { .hooks.on_request = answer, .hooks.user = "Hello over HTTPS" };
    hsb_security_desc desc = { .self_signed_for = "localhost" };
    hsb_security *security = hsb_security_new(&desc, &err);
    hsb_server *server = hsb_bind_secure("localhost", 8443, security, &options, &err);
    return hsb_server_run(server, &err) ? 0 : 1;
}
END
    # shellcheck disable=SC2086  # flags are words
    ${CC:-cc} -O1 -I. ${BEARSSL:+-isystem $BEARSSL/inc} -ffunction-sections -fdata-sections \
        -Wl,--gc-sections -o "$out/$1" "$out/$1.c" ${BEARSSL:+-L $BEARSSL/build} -lbearssl -lpthread
    nm --defined-only "$out/$1" | awk '{ sub(/\..*/, "", $3); print $3 }' | sort -u > "$out/$1.names"
}

build hello ''
number=0
parts | while read -r names call; do
    number=$((number + 1))
    build "part$number" "$call"
    if grep -qx "$names" "$out/hello.names"; then
        echo "FAILED: hello has $names"
        grep -x "$names" "$out/hello.names" | head -5 | sed 's/^/    /'
    elif ! grep -qx "$names" "$out/part$number.names"; then
        echo "FAILED: nothing is called $names, even where it is used"
    else
        echo "ok: only programs that use it have $names ($(
            grep -cx "$names" "$out/part$number.names") functions)"
    fi
done > "$out/report"
cat "$out/report"
if grep -q FAILED "$out/report"; then failed=1; fi

if command -v python3 >/dev/null; then
    python3 tests/bench/size.py --at-most "$most" || failed=1
else
    echo "    no python3 here: the size is not looked at"
fi
exit $failed
