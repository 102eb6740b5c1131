#!/bin/sh
# haproxy and nginx before a server: over TCP and Unix sockets, with PROXY headers of both
# versions, plain and with TLS passed through.  The peer that the server sees is the client: each
# client comes from an address and a port that no proxy has.
# What is not installed (make deps-check brings it) is said, and skipped.
set -u
tmp=$(mktemp -d)
chmod 755 "$tmp"                        # nginx's workers are somebody else
pids='' failed=0
# shellcheck disable=SC2086,SC2154  # one word a process
trap 'kill $pids 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
data=tests/data

# usage: where FOLDER [proxy]   a server: on two ports, and on FOLDER/plain.sock and tls.sock.
#                               proxy: with PROXY headers
#        where free COUNT       ports that are free now
cat >"$tmp/where.c" <<'END'
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"
#include <stdio.h>
#include <stdlib.h>

static void answer(hsb_request *req, void *user)
{
    char peer[HSB_ADDRESS_TEXT_MAX], text[200];
    hsb_conn *conn = hsb_request_conn(req);
    hsb_address a = hsb_conn_peer(conn);
    hsb_str xff = hsb_request_header(req, "X-Forwarded-For");
    (void)user;
    snprintf(text, sizeof text, "%s %s%s%.*s\n", hsb_conn_tls(conn) ? "TLS" : "plain",
             hsb_address_text(&a, peer), xff.len ? " for " : "", (int)xff.len, xff.len ? xff.ptr : "");
    hsb_respond(req, 200, "text/plain", hsb_text(text));
}

static void complain(hsb_server *server, hsb_conn *conn, const hsb_error *err, void *user)
{
    (void)server;
    (void)conn;
    (void)user;
    fprintf(stderr, "%s\n", err->text);
}

static int free_ports(int count)
{
    hsb_error err;
    hsb_server *s = hsb_bind("127.0.0.1", 0, NULL, &err);
    for (int i = 0; s && i < count; i++)
        printf("%d\n", hsb_server_address(s, hsb_server_listen(s, "127.0.0.1", 0, NULL, &err)).port);
    hsb_server_free(s);
    return s ? 0 : 1;
}

int main(int argc, char **argv)
{
    char host[200];
    hsb_error err;
    hsb_security_desc desc = { .identity.chain = hsb_pem_file("tests/data/server-p256.pem"),
                               .identity.key = hsb_pem_file("tests/data/server-p256.key") };
    hsb_options options = { .hooks.on_request = answer, .hooks.on_error = complain,
                            .proxy_protocol = argc == 3 };
    if (argc == 3 && strcmp(argv[1], "free") == 0)
        return free_ports(atoi(argv[2]));
    umask(0);
    hsb_security *security = hsb_security_new(&desc, &err);
    hsb_server *s = security ? hsb_bind_secure("127.0.0.1", 0, security, &options, &err) : NULL;
    bool ok = s && hsb_server_listen(s, "127.0.0.1", 0, NULL, &err) == 1;
    snprintf(host, sizeof host, "unix:%s/tls.sock", argv[1]);
    ok = ok && hsb_server_listen(s, host, 0, security, &err) == 2;
    snprintf(host, sizeof host, "unix:%s/plain.sock", argv[1]);
    ok = ok && hsb_server_listen(s, host, 0, NULL, &err) == 3;
    if (!ok)
        return fprintf(stderr, "%s\n", err.text), 1;
    printf("%d %d\n", hsb_server_port(s), hsb_server_address(s, 1).port);
    fflush(stdout);
    return hsb_server_run(s, &err) ? 0 : 1;
}
END
${CC:-cc} -O1 -I. "$tmp/where.c" -o "$tmp/where" -lbearssl -lpthread || exit 1

# start NAME [proxy]: sets tls and plain, its ports.
start() {
    mkdir -p "$tmp/$1"
    "$tmp/where" "$tmp/$1" ${2:+"$2"} >"$tmp/$1.ports" 2>"$tmp/$1.errors" &
    pids="$pids $!"
    for _ in $(seq 100); do
        [ ! -s "$tmp/$1.ports" ] || break
        sleep 0.1
    done
    read -r tls plain <"$tmp/$1.ports" || { cat "$tmp/$1.errors"; exit 1; }
}

wait_for() {
    for _ in $(seq 100); do
        code=0
        curl -s -o /dev/null --max-time 5 "http://127.0.0.1:$1/" || code=$?
        [ "$code" -eq 7 ] || return 0           # 7: nobody there
        sleep 0.1
    done
    echo "FAILED: nobody listens on port $1"
    exit 1
}

# ask NAME EXPECTED PORT [URL-SCHEME]: the client is 127.0.0.5, and EXPECTED has CLIENT in its place.
ask() {
    said=$(curl -sk --max-time 20 --interface 127.0.0.5 -w '%{local_ip}:%{local_port}' \
                "${4:-http}://127.0.0.1:$3/" || echo "curl: $?")
    client=$(printf '%s' "$said" | tail -n 1)
    peer=$(printf '%s' "$said" | head -n 1)
    wanted=$(printf '%s' "$2" | sed "s/CLIENT/$client/; s/ADDRESS/127.0.0.5/")
    if [ "$peer" = "$wanted" ]; then
        echo "ok: $1"
    else
        echo "FAILED: $1: the server saw \"$peer\", and not \"$wanted\""
        failed=1
    fi
}

start proxied proxy
# shellcheck disable=SC2046
set -- $("$tmp/where" free 24)

# --- haproxy ---------------------------------------------------------------------------
if command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ]; then
    PATH=$PATH:/usr/sbin
    cat "$data/server-p256.pem" "$data/server-p256.key" >"$tmp/haproxy.pem"
    # pass PORT SERVER...: a port whose connections go there.
    pass() {
        printf 'listen p%s\n  bind 127.0.0.1:%s\n  server s %s\n' "$1" "$1" "$2"
    }
    {
        echo 'defaults'
        echo '  mode tcp'
        echo '  timeout connect 5s'
        echo '  timeout client 20s'
        echo '  timeout server 20s'
        pass "$1" "127.0.0.1:$plain send-proxy"
        pass "$2" "127.0.0.1:$plain send-proxy-v2"
        pass "$3" "127.0.0.1:$tls send-proxy"
        pass "$4" "127.0.0.1:$tls send-proxy-v2"
        pass "$5" "unix@$tmp/proxied/plain.sock send-proxy"
        pass "$6" "unix@$tmp/proxied/plain.sock send-proxy-v2"
        pass "$7" "unix@$tmp/proxied/tls.sock send-proxy"
        pass "$8" "unix@$tmp/proxied/tls.sock send-proxy-v2"
        # Facts behind the addresses: what haproxy's own TLS knows, and a checksum.
        printf 'listen facts\n  bind 127.0.0.1:%s ssl crt %s\n  unique-id-format %%pid-%%rt\n' "$9" "$tmp/haproxy.pem"
        echo "  server s 127.0.0.1:$plain send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,ssl-cipher,crc32c"
        # Health checks, which have no client.
        printf 'listen checked\n  bind 127.0.0.1:%s\n' "${10}"
        echo "  server one 127.0.0.1:$plain send-proxy check inter 100ms"
        echo "  server two 127.0.0.1:$plain send-proxy-v2 check inter 100ms"
        # haproxy speaks HTTP itself, and TLS to the server.
        printf 'listen http\n  mode http\n  option forwardfor\n  bind 127.0.0.1:%s\n' "${11}"
        echo "  server s unix@$tmp/proxied/tls.sock ssl verify none send-proxy-v2"
    } >"$tmp/haproxy.cfg"
    haproxy -db -f "$tmp/haproxy.cfg" >"$tmp/haproxy.log" 2>&1 &
    pids="$pids $!"
    wait_for "$1"
    ask "haproxy, version 1, TCP" "plain CLIENT" "$1"
    ask "haproxy, version 2, TCP" "plain CLIENT" "$2"
    ask "haproxy, version 1, TCP, TLS passed through" "TLS CLIENT" "$3" https
    ask "haproxy, version 2, TCP, TLS passed through" "TLS CLIENT" "$4" https
    ask "haproxy, version 1, Unix socket" "plain CLIENT" "$5"
    ask "haproxy, version 2, Unix socket" "plain CLIENT" "$6"
    ask "haproxy, version 1, Unix socket, TLS passed through" "TLS CLIENT" "$7" https
    ask "haproxy, version 2, Unix socket, TLS passed through" "TLS CLIENT" "$8" https
    ask "haproxy, version 2 with facts about its own TLS, and a checksum" "plain CLIENT" "$9" https
    ask "haproxy, which speaks HTTP and TLS itself" "TLS CLIENT for ADDRESS" "${11}"
    sleep 1
    ask "haproxy with health checks" "plain CLIENT" "${10}"
    if grep -q 'is DOWN' "$tmp/haproxy.log"; then
        echo "FAILED: a health check found the server down"
        failed=1
    fi
    [ "$failed" -eq 0 ] || sed 's/^/    haproxy: /' "$tmp/haproxy.log"
else
    echo "skipped: no haproxy"
fi

# --- nginx -----------------------------------------------------------------------------
start direct
stream=
for module in /usr/lib/nginx/modules/ngx_stream_module.so /usr/lib64/nginx/modules/ngx_stream_module.so; do
    [ ! -e "$module" ] || stream=$module
done
if command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; then
    PATH=$PATH:/usr/sbin
    shift 11
    [ -z "$stream" ] || echo "load_module $stream;" >"$tmp/nginx.conf"
    cat >>"$tmp/nginx.conf" <<END
pid $tmp/nginx.pid;
error_log $tmp/nginx.log;
daemon off;
events { }
http {
    access_log off;
    client_body_temp_path $tmp/body;
    proxy_temp_path $tmp/proxy;
    fastcgi_temp_path $tmp/fastcgi;
    uwsgi_temp_path $tmp/uwsgi;
    scgi_temp_path $tmp/scgi;
    proxy_set_header X-Forwarded-For \$remote_addr;
    proxy_set_header Host \$host;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    server { listen 127.0.0.1:$1; location / { proxy_pass http://unix:$tmp/direct/plain.sock; } }
    server { listen 127.0.0.1:$2; location / { proxy_pass https://unix:$tmp/direct/tls.sock; } }
}
END
    tcp_plain=$(cut -d ' ' -f 2 "$tmp/proxied.ports") tcp_tls=$(cut -d ' ' -f 1 "$tmp/proxied.ports")
    [ -z "$stream" ] || cat >>"$tmp/nginx.conf" <<END
stream {
    proxy_protocol on;
    server { listen 127.0.0.1:$3; proxy_pass 127.0.0.1:$tcp_plain; }
    server { listen 127.0.0.1:$4; proxy_pass 127.0.0.1:$tcp_tls; }
    server { listen 127.0.0.1:$5; proxy_pass unix:$tmp/proxied/plain.sock; }
    server { listen 127.0.0.1:$6; proxy_pass unix:$tmp/proxied/tls.sock; }
}
END
    nginx -e "$tmp/nginx.log" -c "$tmp/nginx.conf" >"$tmp/nginx.said" 2>&1 &
    pids="$pids $!"
    wait_for "$1"
    ask "nginx, which speaks HTTP itself, Unix socket" "plain unix: for ADDRESS" "$1"
    ask "nginx, which speaks HTTP and TLS itself, Unix socket" "TLS unix: for ADDRESS" "$2"
    if [ -n "$stream" ]; then
        ask "nginx's stream, TCP" "plain CLIENT" "$3"
        ask "nginx's stream, TCP, TLS passed through" "TLS CLIENT" "$4" https
        ask "nginx's stream, Unix socket" "plain CLIENT" "$5"
        ask "nginx's stream, Unix socket, TLS passed through" "TLS CLIENT" "$6" https
    else
        echo "skipped: no libnginx-mod-stream"
    fi
    [ "$failed" -eq 0 ] || sed 's/^/    nginx: /' "$tmp/nginx.log" "$tmp/nginx.said"
else
    echo "skipped: no nginx"
fi

# --- and nobody complained -------------------------------------------------------------
for server in proxied direct; do
    if [ -s "$tmp/$server.errors" ]; then
        echo "FAILED: the server reported errors:"
        sort "$tmp/$server.errors" | uniq -c | head -n 10
        failed=1
    fi
done
exit $failed
