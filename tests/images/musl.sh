#!/bin/bash
# A root without glibc: static busybox and two static musl programs.
#: ENV PATH=/bin
#: ENV SANDBOXED_TEST_IMAGE=musl
#: CMD ["sh"]
set -euo pipefail
here=$(dirname "$0")
root=$1
mkdir -p "$root"/{bin,etc,tmp,var/tmp,proc,sys,dev,home/sandbox}
chmod 1777 "$root/tmp" "$root/var/tmp"
cp /bin/busybox "$root/bin/busybox"
chroot "$root" /bin/busybox --install -s /bin
musl-gcc -Os -static -s -Wall -Werror -o "$root/bin/hello" "$here/hello.c"
musl-gcc -Os -static -s -Wall -Werror -o "$root/bin/args" "$here/args.c"
echo 'root:x:0:0:root:/root:/bin/sh
sandbox:x:1000:1000::/home/sandbox:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:
sandbox:x:1000:' >"$root/etc/group"
echo 'seeded by the image' >"$root/home/sandbox/.profile"
chown -R 1000:1000 "$root/home/sandbox"
