#!/bin/bash
# base-image.sh [NAME]: makes sure that the Engine has the image all others are built from: pulled
# when a registry answers, else made from Debian's packages. Prints what it did; as root.
set -euo pipefail
cd "$(dirname "$0")"

name=${1:-debian:bookworm-slim}
PULL_SECONDS=300

if docker image inspect "$name" >/dev/null 2>&1; then
    echo "$name: there"
    exit
fi
echo "$name: pulling"
if timeout "$PULL_SECONDS" docker pull "$name"; then
    exit
fi
echo "$name: no registry gives it; made from Debian's packages"
missing=()
for p in debootstrap debian-archive-keyring; do
    dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get -o DPkg::Lock::Timeout=300 -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y \
        --no-install-recommends install "${missing[@]}"
fi
root=$(mktemp -d /tmp/sandboxed-base-XXXXXX)
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 0755 "$root"
./debian-root.sh "$root" ca-certificates
# The proxy that apt goes through here it goes through there.
apt-config dump --format '%f "%v";%n' Acquire::http::Proxy >"$root/etc/apt/apt.conf.d/90proxy"
[ -s "$root/etc/apt/apt.conf.d/90proxy" ] || rm "$root/etc/apt/apt.conf.d/90proxy"
tar --numeric-owner -C "$root" -c . |
    docker import -c 'CMD ["bash"]' -c 'LABEL sandboxed.name='"$name" - "$name"
