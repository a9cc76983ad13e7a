#!/bin/sh
# Debian's Node and npm for the clients that run on it. Does nothing when they are there.
set -eu

NODE_MAJOR_MIN=18

if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests of client libraries need Node and npm. On Debian or Ubuntu, as root: apt-get install nodejs npm" >&2
    exit 1
  fi
  echo "installing Node and npm for the tests of client libraries (once) ..." >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq </dev/null >/dev/null
  apt-get install -y -qq --no-install-recommends nodejs npm </dev/null >/dev/null
fi
if ! node -e "process.exit(parseInt(process.versions.node) >= $NODE_MAJOR_MIN ? 0 : 1)"; then
  echo "The tests of client libraries need Node $NODE_MAJOR_MIN or later, and this is $(node --version): install a later one." >&2
  exit 1
fi
