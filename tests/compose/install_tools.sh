#!/bin/sh
# Installs missing tools of the compose tests. This works only as root on Debian and its relatives; elsewhere the tests
# say what the machine lacks.
set -eu

need=""
command -v dockerd >/dev/null || need="$need docker.io"
command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || need="$need docker-compose"
command -v debootstrap >/dev/null || need="$need debootstrap"
[ -n "$need" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing:$need" >&2
    exit 0
fi
echo "installing:$need"
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $need >/dev/null
