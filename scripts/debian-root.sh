#!/bin/bash
# debian-root.sh DIRECTORY [PACKAGE...]: fills a directory with a minimal Debian 12 and the packages.
# For machines that reach Debian's packages but no image registry. As root; needs debootstrap.
set -euo pipefail

SUITE=bookworm
root=$1
shift
packages=$(IFS=, && echo "$*")

# The machine's own mirrors and proxy, when it is a Debian: URIs of its sources for a suite.
mirror_of() { # pattern of suites
    {
        sed -n 's/^deb \(\[[^]]*\] \)\?\(http[^ ]*\) '"$1"' .*/\2/p' \
            /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true
        awk -v suite="^$1\$" '
            /^[[:space:]]*$/ { uri = "" }
            /^URIs:/ { uri = $2 }
            /^Suites:/ && uri { for (i = 2; i <= NF; i++) if ($i ~ suite) { print uri; exit } }
        ' /etc/apt/sources.list.d/*.sources 2>/dev/null || true
    } | head -n 1
}
mirror='' security=''
if [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
    mirror=$(mirror_of "$(. /etc/os-release && echo "$VERSION_CODENAME")")
    security=$(mirror_of '[a-z]*-security')
fi
proxy=$(apt-config dump --format '%v%n' Acquire::http::Proxy)
[ -z "$proxy" ] || export http_proxy=$proxy

# Without a mirror debootstrap takes Debian's own; the keyring is that of debian-archive-keyring.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] || { echo "debian-archive-keyring is not installed" >&2; exit 1; }
debootstrap --variant=minbase --keyring="$keyring" ${packages:+--include="$packages"} \
    "$SUITE" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; exit 1; }
rm -f "$root.log"

# The same mirror, and what came after the release: fixes.
mirror=$(sed -n 's/^deb \([^ ]*\) .*/\1/p' "$root/etc/apt/sources.list" | head -n 1)
printf 'deb %s %s main\n' "$mirror" "$SUITE" "$mirror" "$SUITE-updates" \
    "${security:-${mirror%/}-security}" "$SUITE-security" >"$root/etc/apt/sources.list"

# Slim: nobody reads manuals here.
printf 'path-exclude=/usr/share/%s/*\n' doc man locale info \
    >"$root/etc/dpkg/dpkg.cfg.d/slim"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/debootstrap \
    "$root"/usr/share/{doc,man,locale,info}/*
