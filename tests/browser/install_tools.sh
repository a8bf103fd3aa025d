#!/bin/sh
# Installs the browser that the tests drive where it is missing: Debian's own Chromium, and fonts for what tickets hold.
# Only root on a Debian family can; elsewhere the tests say what the machine lacks.
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
