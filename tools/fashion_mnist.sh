#!/bin/sh
# Sees to it that Fashion-MNIST is where the fashion recipes look for it (Debian's package).
set -eu

folder=/usr/share/datasets/fashion-mnist
[ -d "$folder" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "No Fashion-MNIST in $folder: installing dataset-fashion-mnist." >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq dataset-fashion-mnist; } >&2
fi

[ -d "$folder" ] || { echo "There is no Fashion-MNIST in $folder: apt install dataset-fashion-mnist." >&2; exit 1; }
