#!/bin/bash
# As little as an image can be: two static programs. No shell, no users, no /home, no /tmp.
#: ENV PATH=/bin
#: ENV SANDBOXED_TEST_IMAGE=bare
#: CMD ["/bin/hello"]
set -euo pipefail
here=$(dirname "$0")
root=$1
mkdir -p "$root/bin"
musl-gcc -Os -static -s -Wall -Werror -o "$root/bin/hello" "$here/hello.c"
musl-gcc -Os -static -s -Wall -Werror -o "$root/bin/args" "$here/args.c"
