#!/bin/sh
# Debian's Chromium for the browser tests. Does nothing when it is there.
set -eu

if command -v chromium >/dev/null 2>&1 || [ -x /usr/bin/chromium ]; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "The browser tests need Chromium. On Debian or Ubuntu, as root: apt-get install chromium" >&2
  exit 1
fi
echo "installing Chromium for the browser tests (once) ..." >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq </dev/null >/dev/null
apt-get install -y -qq --no-install-recommends chromium </dev/null >/dev/null
command -v chromium >/dev/null
