#!/bin/sh
# Prints the path of a Chromium that the browser tests can use; installs one when there is none.
# Usage: tools/browser.sh   (path on stdout, progress on stderr)
set -eu

python=${PYTHON:-python}

installed() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name"; then return 0; fi
    done
    # Playwright's own build, if it was downloaded before.
    path=$("$python" -c 'from playwright.sync_api import sync_playwright as start
with start() as playwright: print(playwright.chromium.executable_path)') || return 1
    [ -x "$path" ] && echo "$path"
}

if installed; then exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "No Chromium on PATH: installing the distribution's." >&2
    if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >&2; then
        if installed; then exit 0; fi
    fi
fi

echo "No Chromium on PATH: downloading Playwright's." >&2
"$python" -m playwright install chromium >&2
installed || { echo "There is no usable Chromium. Install one and put it on PATH." >&2; exit 1; }
