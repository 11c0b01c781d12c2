#!/bin/bash
# The ordinary image: Debian slim with what a project needs, user sandbox, seed files in its home.
# Lines that begin with "#:" are instructions of the image.
#: ENV PATH=/usr/local/bin:/usr/bin:/bin
#: ENV LANG=C.UTF-8
#: ENV SANDBOXED_TEST_IMAGE=debian
#: USER sandbox
#: WORKDIR /home/sandbox
#: CMD ["bash"]
set -euo pipefail
root=$1

# The machine's own mirror and proxy: the first "deb" source of its release.
. /etc/os-release
mirror=$({
    sed -n 's/^deb \(\[[^]]*\] \)\?\(http[^ ]*\) '"$VERSION_CODENAME"' .*/\2/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true
    awk -v suite="$VERSION_CODENAME" '
        /^[[:space:]]*$/ { uri = "" }
        /^URIs:/ { uri = $2 }
        /^Suites:/ && uri { for (i = 2; i <= NF; i++) if ($i == suite) { print uri; exit } }
    ' /etc/apt/sources.list.d/*.sources 2>/dev/null || true
} | head -n 1)
[ -n "$mirror" ] || { echo "no apt source for $VERSION_CODENAME on this machine" >&2; exit 1; }
proxy=$(apt-config dump --format '%v%n' Acquire::http::Proxy)
[ -z "$proxy" ] || export http_proxy=$proxy

debootstrap --variant=minbase \
    --include=bash,coreutils,python3-minimal,libpython3-stdlib,python3,git,procps \
    "$VERSION_CODENAME" "$root" "$mirror" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; exit 1; }
rm -f "$root.log"

# Slim: nobody reads manuals or installs packages here.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/debootstrap \
    "$root"/usr/share/{doc,man,locale,info}/*
# A behind-the-proxy machine's own authorities are authorities in the sandbox, too.
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt \
        "$root/etc/ssl/certs/ca-certificates.crt"
fi

chroot "$root" groupadd -g 1000 sandbox
chroot "$root" useradd -u 1000 -g 1000 -d /home/sandbox -s /bin/bash -M sandbox
home=$root/home/sandbox
mkdir -p "$home/workspace/app"
printf '# seeded by the image\nexport SEEDED=bashrc\n' >"$home/.bashrc"
printf '# seeded by the image\n[ -f ~/.bashrc ] && . ~/.bashrc\n' >"$home/.profile"
printf 'Put your project here.\n' >"$home/workspace/app/README.txt"
ln -s workspace/app "$home/app"
chown -R -h 1000:1000 "$home"
chmod 0600 "$home/.profile" # a mode that a clone must keep
