#!/bin/sh
# Installs the browser for the tests if it is missing: Debian's Chromium, and fonts for the texts of tickets. Only root on
# Debian and its relatives can do that; elsewhere the tests report what the machine lacks.
set -eu

command -v chromium >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: chromium" >&2
    exit 0
fi
echo "installing: chromium"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core \
    fonts-droid-fallback >/dev/null
