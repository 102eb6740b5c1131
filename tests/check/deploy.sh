#!/bin/sh
# What README.md and examples/README.md let root do, typed as it stands there: make install, units of
# systemd, certbot, ACME on port 443, haproxy and nginx.  It all happens in namespaces: a network that
# has loopback only, and empty folders over those that are written to.  In there sudo is a script that
# runs its arguments, the CA is pebble, and a script of sixty lines does for the two units what
# systemd would; the units themselves go through systemd-analyze.  What is not installed is said.
set -eu
PATH=$PATH:/usr/sbin:/sbin
for tool in unshare ip pebble pebble-challtestsrv certbot systemd-analyze haproxy nginx curl python3; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 0; }
done
if [ "${1:-}" != inside ]; then
    as=
    [ "$(id -u)" = 0 ] || as='sudo -n'
    # shellcheck disable=SC2086  # none, or two words
    $as unshare --mount --net --pid --fork true 2>/dev/null || { echo "skipped: no root, or no namespaces"; exit 0; }
    # shellcheck disable=SC2086
    exec $as unshare --mount --net --pid --fork --kill-child --mount-proc \
        env BEARSSL="${BEARSSL:+$(cd "$BEARSSL" && pwd)}" CC="${CC:-cc}" "$0" inside
fi

# --- a machine of our own ---------------------------------------------------------------------
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
fail() {
    echo "FAILED: $*"
    for log in "$tmp"/*.log; do
        echo "$log:"
        grep -v 'unknown certificate authority' "$log" | tail -n 20
    done
    exit 1
}
within() {
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    fail "never: $*"
}
mkdir "$tmp/bin" "$tmp/home" "$tmp/home/site" "$tmp/home/photos"
for at in /usr/local /etc/systemd/system /etc/letsencrypt /srv /run; do
    [ -d $at ] || { echo "skipped: no $at"; exit 0; }
    mount -t tmpfs -o mode=755 tmpfs $at
done
printf '127.0.0.1 localhost www.example.org example.org\n' >"$tmp/hosts"
{ cat /etc/passwd; echo 'hello:x:64999:64999::/:/bin/false'; } >"$tmp/passwd"
mount --bind "$tmp/hosts" /etc/hosts
mount --bind "$tmp/passwd" /etc/passwd
mkdir /usr/local/bin
ip link set lo up
export PATH="$tmp/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" HOME="$tmp/home" LC_ALL=C
export CPATH="${BEARSSL:+$BEARSSL/inc}" LIBRARY_PATH="${BEARSSL:+$BEARSSL/build}"

tar -cf - --exclude='tests/data' --exclude='tests/fuzz' Makefile LICENSE README.md httpsbind.h examples tests |
    (mkdir "$tmp/repo" && cd "$tmp/repo" && tar -xf -)
cd "$tmp/repo"

# Only where the CA is, is not typed.
cat >"$tmp/bin/sudo" <<END
#!/bin/sh
case \$1 in *serve) set -- "\$@" --acme-directory https://localhost:14000/dir --acme-roots $tmp/ca.pem ;; esac
exec "\$@"
END
cat >"$tmp/bin/systemctl" <<END
#!/bin/sh
case \$* in
daemon-reload) exec systemd-analyze verify /etc/systemd/system/hello.socket /etc/systemd/system/hello.service ;;
'enable --now hello.socket') exec python3 $tmp/systemd.py $tmp/service >$tmp/service.log 2>&1 & ;;
'try-restart hello.service') kill -USR1 "\$(cat $tmp/service/manager)" 2>/dev/null || true ;;
'kill --signal=HUP hello.service') exec kill -HUP "\$(cat $tmp/service/pid)" ;;
*) echo "systemctl \$*: not in this script"; exit 1 ;;
esac
END
cat >"$tmp/systemd.py" <<'END'
"""hello.socket and hello.service as systemd takes them: opens the ports, and when somebody comes
starts the program as a user that has nothing but copies of its credentials.  SIGUSR1: anew."""
import fcntl, glob, os, select, shutil, signal, socket, sys, time
folder = sys.argv[1]

def settings(unit):
    found, path = {}, '/etc/systemd/system/' + unit
    for line in (line for part in [path] + glob.glob(path + '.d/*') for line in open(part)):
        key, equals, value = line.strip().partition('=')
        if equals and key[0] != '#':
            found[key] = found.get(key, []) + [value.replace('%S', folder)] if value else []
    return found

def start(ports, service):
    credentials = folder + '/credentials'
    shutil.rmtree(credentials, ignore_errors=True)
    os.mkdir(credentials, 0o500)
    for name, path in (c.split(':') for c in service.get('LoadCredential', [])):
        shutil.copyfile(path, credentials + '/' + name)
        os.chmod(credentials + '/' + name, 0o400)
        os.chown(credentials + '/' + name, 64998, 64998)
    os.chown(credentials, 64998, 64998)
    for state in (folder + '/' + name for name in service.get('StateDirectory', [])):
        os.makedirs(state, exist_ok=True)
        os.chown(state, 64998, 64998)
    pid = os.fork()
    if pid == 0:
        os.setgroups([]), os.setgid(64998), os.setuid(64998)
        os.chdir(service.get('WorkingDirectory', ['/'])[0])
        for i, fd in enumerate([fcntl.fcntl(port, fcntl.F_DUPFD, 50) for port in ports]):
            os.dup2(fd, 3 + i)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(ports)), CREDENTIALS_DIRECTORY=credentials)
        words = os.path.expandvars(service['ExecStart'][0]).split()
        os.execv(words[0], words)
    print(pid, file=open(folder + '/pid', 'w'))
    return pid

again = False
def wish(*_):
    global again
    again = True

os.mkdir(folder)
signal.signal(signal.SIGUSR1, wish)
ports = []
for number in settings('hello.socket')['ListenStream']:
    ports.append(socket.socket(socket.AF_INET6))
    ports[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ports[-1].bind(('::', int(number)))
    ports[-1].listen()
print(os.getpid(), file=open(folder + '/manager', 'w'), flush=True)
pid = 0
while True:
    if pid and os.waitpid(pid, os.WNOHANG)[0]:
        sys.exit('hello has ended')
    if pid and again:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        pid = 0
    if not pid and (again or select.select(ports, [], [], 0.05)[0]):
        pid, again = start(ports, settings('hello.service')), False
    time.sleep(0.05)
END
chmod +x "$tmp/bin/sudo" "$tmp/bin/systemctl"

# The header is compiled once for all of them.
printf '#define HTTPSBIND_IMPLEMENTATION\n#include "httpsbind.h"\n' >"$tmp/unit.c"
cc -O0 -DHTTPSBIND_ACME -I. -c -o "$tmp/unit.o" "$tmp/unit.c"
# program RECIPE [SED-SCRIPT]: hello.c and hello of the cookbook.
program() {
    python3 tests/check/cookbook.py --program "$1" | sed "/^#define HTTPSBIND_/d; ${2:-}" >hello.c
    cc -O0 -DHTTPSBIND_ACME -include stdio.h -include stdlib.h -include string.h -o hello hello.c \
        "$tmp/unit.o" -lbearssl -lpthread >"$tmp/cc.log" 2>&1 || fail "cc"
}
# files RECIPE: those whose blocks begin with a comment that is their path.
files() {
    python3 - "$1" <<'END'
import re, sys, os
book = open('examples/README.md').read()
recipe = book[book.index('\n### %s\n' % sys.argv[1]):].split('\n### ')[1]
for block in re.findall(r'^```(?:ini|sh)\n(.*?)^```', recipe, re.M | re.S):
    path = re.search(r'^# (/\S+)$', block, re.M)[1]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as out:
        out.write(block)
    os.chmod(path, 0o755 if block.startswith('#!') else 0o644)
END
}
# block RECIPE LANGUAGE: its lines.
block() {
    awk -v name="### $1" -v mark="\`\`\`$2" '/^### /{ on = $0 == name } /^```$/{ in_it = 0 }
        on && in_it { print } on && $0 == mark { in_it = 1 }' examples/README.md
}
# typed COMMAND: it is a line of one of the two pages, and works.
typed() {
    grep -qxF -e "    $1" -e "\$ $1" README.md examples/README.md || fail "no page has the line: $1"
    echo "    $1"
    printf '%s\n' "$1" >>"$tmp/typed"
    sh -c "$1" >"$tmp/typed.log" 2>&1 || fail "$1"
}
# begin COMMAND: the same, of a program that runs on; stop ends it.
begin() {
    grep -qxF -e "    $1" -e "\$ $1" README.md examples/README.md || fail "no page has the line: $1"
    echo "    $1"
    printf '%s\n' "$1" >>"$tmp/typed"
    case $1 in *'&& '*) sh -c "${1%%&& *}" ;; esac
    sh -c "exec ${1##*&& }" >"$tmp/program.log" 2>&1 &
    program=$!
}
stop() {
    kill -TERM "$1"
    wait "$1" || fail "it ends with $?"
}
end_service() { kill "$(cat "$tmp/service/manager")" "$(cat "$tmp/service/pid")"; }
page() { curl -sS -m 10 --cacert "$tmp/root.pem" "$@"; }
says() { [ "$(page "$2")" = "$1" ]; }
serial() { openssl x509 -noout -serial -in "$1"; }

# --- the CA -------------------------------------------------------------------------------------
mkdir "$tmp/api"
cc -O0 -I. -o "$tmp/serve" examples/serve.c -lbearssl -lpthread
"$tmp/serve" --local-ca "$tmp/api" --trust "$tmp" >/dev/null
install -m 644 "$tmp/api/ca.pem" "$tmp/ca.pem"       # nobody else looks into that folder
cat >"$tmp/pebble.json" <<END
{ "pebble": { "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
  "certificate": "$tmp/api/localhost.pem", "privateKey": "$tmp/api/localhost.pem",
  "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "" } }
END
pebble-challtestsrv -dns01 127.0.0.1:8053 -http01 '' -https01 '' -tlsalpn01 '' -defaultIPv6 '' \
    -management 127.0.0.1:8055 >"$tmp/dns.log" 2>&1 &
PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 pebble -config "$tmp/pebble.json" -dnsserver 127.0.0.1:8053 \
    >"$tmp/pebble.log" 2>&1 &
within curl -s --cacert "$tmp/ca.pem" https://localhost:14000/dir
curl -sS --cacert "$tmp/ca.pem" https://localhost:15000/roots/0 -o "$tmp/root.pem"
cat >/etc/letsencrypt/cli.ini <<END
server = https://localhost:14000/dir
agree-tos = true
register-unsafely-without-email = true
non-interactive = true
force-renewal = true
no-random-sleep-on-renew = true
work-dir = $tmp/certbot
logs-dir = $tmp/certbot/logs
END
export REQUESTS_CA_BUNDLE="$tmp/ca.pem"

# --- make install -------------------------------------------------------------------------------
typed 'sudo make install'
cp examples/hello.c hello.c
rm -rf "$tmp/alone" && mkdir "$tmp/alone" && cp hello.c "$tmp/alone"
# shellcheck disable=SC2016  # as it is typed
(cd "$tmp/alone" && mkdir examples && cp ../repo/README.md . && cp ../repo/examples/README.md examples &&
    typed 'cc -o hello hello.c $(pkg-config --cflags --libs httpsbind)')
if command -v man >/dev/null; then man hsb_respond | grep -q hsb_respond || fail "man hsb_respond"; fi

# --- certbot, and systemd -----------------------------------------------------------------------
typed 'sudo certbot certonly --standalone -d www.example.org'
program 'Behind systemd'
files 'Behind systemd'
typed 'sudo install hello /usr/local/bin'
typed 'sudo systemctl daemon-reload'
[ ! -s "$tmp/typed.log" ] || fail "systemd-analyze verify has something to say"
typed 'sudo systemctl enable --now hello.socket'
within says 'Hello over HTTPS' https://www.example.org/
first=$(serial /etc/letsencrypt/live/www.example.org/cert.pem)
shown() { openssl s_client -connect www.example.org:443 -servername www.example.org </dev/null 2>/dev/null |
    openssl x509 -noout -serial; }
[ "$(shown)" = "$first" ] || fail "it shows another certificate"
[ "$(stat -c %u "/proc/$(cat "$tmp/service/pid")")" = 64998 ] || fail "it is not the user of its own"
typed "sudo certbot renew --deploy-hook 'systemctl try-restart hello.service'"
second=$(serial /etc/letsencrypt/live/www.example.org/cert.pem)
[ "$second" != "$first" ] || fail "certbot has not renewed"
shows_second() { [ "$(shown)" = "$second" ]; }
within shows_second
says 'Hello over HTTPS' https://www.example.org/ || fail "no page after the renewal"
echo "ok: a service of systemd's, with a certificate that certbot renews"

# The hook for a program that is not started by systemd's socket: copies, and SIGHUP.
program 'Signed by a CA, and renewed'
files 'Signed by a CA, and renewed'
mkdir /srv/hello
(set -- /etc/letsencrypt/live/www.example.org && install -o hello -m 400 "$1/fullchain.pem" "$1/privkey.pem" /srv/hello)
install hello /usr/local/bin/renewed
end_service
(cd /srv/hello && exec setpriv --reuid 64999 --regid 64999 --clear-groups renewed) >"$tmp/renewed.log" 2>&1 &
renewed=$!
echo $renewed >"$tmp/service/pid"
within says 'Hello over HTTPS' https://www.example.org:8443/
certbot renew >"$tmp/certbot.log" 2>&1 || fail "certbot renew"
within grep -q 'new certificate, SHA-256' "$tmp/renewed.log"
stop $renewed
echo "ok: certbot's hook hands its files to a program that is not root"

# --- ACME ---------------------------------------------------------------------------------------
echo 'A site' >"$HOME/site/index.html"
echo 'Photos' >"$HOME/photos/index.html"
begin 'cc -I. -o serve examples/serve.c -lbearssl && sudo ./serve --acme www.example.org ~/site'
within says 'A site' https://www.example.org/
grep -q '^  open  *https://www.example.org/$' "$tmp/program.log" || fail "serve does not say where"
stop $program
mkdir -p build/examples && cp serve build/examples
begin 'sudo build/examples/serve --acme www.example.org ~/photos'
within says 'Photos' https://www.example.org/
stop $program
rm -r acme
program 'HTTPS on the internet in one command' \
    "s|\.folder = \"acme\"|&, .directory = \"https://localhost:14000/dir\", .roots = hsb_pem_file(\"$tmp/ca.pem\")|"
begin 'sudo ./hello'
within says 'Hello over HTTPS' https://example.org/
[ "$(page -L -w ' %{url_effective}' http://www.example.org/)" = 'Hello over HTTPS
 https://www.example.org/' ] || fail "port 80 does not lead to 443"
stop $program
echo "ok: ACME on port 443"

rm -r acme
files 'HTTPS on the internet in one command'
sudo install hello /usr/local/bin
systemctl daemon-reload >"$tmp/verify.log" 2>&1 || fail "systemd-analyze verify"
[ ! -s "$tmp/verify.log" ] || fail "systemd-analyze verify has something to say"
rm -r "$tmp/service"
systemctl 'enable --now hello.socket'
within says 'Hello over HTTPS' https://example.org/
[ "$(page -L -w ' %{url_effective}' http://www.example.org/)" = 'Hello over HTTPS
 https://www.example.org/' ] || fail "port 80 does not lead to 443"
[ "$(stat -c %u "/proc/$(cat "$tmp/service/pid")")" = 64998 ] || fail "it is not the user of its own"
end_service
echo "ok: ACME in a service of systemd's"

# --- proxies ------------------------------------------------------------------------------------
name='Behind haproxy or nginx'
program "$name"
mkdir /run/hello
(cd /run/hello && exec "$tmp/repo/hello") >"$tmp/program.log" 2>&1 &
program=$!
within curl -sk --haproxy-protocol --unix-socket /run/hello/hello.sock https://localhost/
block "$name" haproxy >"$tmp/haproxy.cfg"
haproxy -db -f "$tmp/haproxy.cfg" >"$tmp/haproxy.log" 2>&1 &
proxy=$!
sees_us() { curl -sk -m 10 https://localhost/ | grep -q '^127\.0\.0\.1:'; }
within sees_us
kill $proxy
wait $proxy 2>/dev/null || true
module=$(find /usr/lib/nginx /usr/lib64/nginx /usr/share/nginx -name ngx_stream_module.so 2>/dev/null | head -n 1)
if [ -n "$module" ]; then
    { echo "load_module $module; events { } pid $tmp/nginx.pid; user root;"; block "$name" nginx; } >"$tmp/nginx.conf"
    nginx -e "$tmp/nginx.log" -g 'daemon off;' -c "$tmp/nginx.conf" &
    within sees_us
else
    echo "skipped: no libnginx-mod-stream"
fi
stop $program
echo "ok: haproxy and nginx as in the cookbook"

# --- nothing is left out ------------------------------------------------------------------------
# Each line of the cookbook that is indented, and not in a block, was typed here; but for the one that
# builds every recipe, which cookbook.py does.
awk '/^```/{ block = !block } !block && sub(/^    /, "") && !/^cc -o hello hello.c -lbearssl$/' examples/README.md |
    while read -r line; do
        grep -qxF -e "$line" "$tmp/typed" || fail "nobody types: $line"
    done
