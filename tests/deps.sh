#!/bin/sh
# Installs those of the Debian packages in "$@" that are missing.
# Asks nothing and leaves no service running.
set -eu

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "Not a Debian system. Please install these, whatever their names are here:"
    echo "    $*"
    exit 2
fi >&2

missing=
for package; do
    dpkg-query -W -f '${db:Status-Abbrev}\n' "$package" 2>/dev/null | grep -q '^.i' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    # shellcheck disable=SC2086  # one word a package
    sudo -n true 2>/dev/null && exec sudo -n sh "$0" $missing
    echo "Some packages are missing, and only root may install them. Please type:"
    echo "    sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends$missing'"
    exit 2
fi >&2

# No package may start a service while it is installed ...
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
fi
had_nginx=$(command -v nginx || true)
had_haproxy=$(command -v haproxy || true)
had_certbot=$(command -v certbot || true)

export DEBIAN_FRONTEND=noninteractive
echo "installing:$missing"
apt-get -qq update
# shellcheck disable=SC2086
apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing >/dev/null

# ... nor an nginx, haproxy or certbot that we brought start at the next boot.
if [ -z "$had_nginx" ] && command -v nginx >/dev/null; then
    update-rc.d nginx disable >/dev/null 2>&1 || true
fi
if [ -z "$had_haproxy" ] && command -v haproxy >/dev/null; then
    update-rc.d haproxy disable >/dev/null 2>&1 || true
fi
if [ -z "$had_certbot" ] && command -v certbot >/dev/null; then
    rm -f /etc/systemd/system/timers.target.wants/certbot.timer
fi
