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

"$(dirname "$0")/../../scripts/debian-root.sh" "$root" \
    bash coreutils python3-minimal libpython3-stdlib python3 git procps vim-tiny
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
