#!/bin/bash
# build.sh [full|slim] [NAME]: builds the image of a sandbox. Needs Docker and the package registries,
# no image registry. EXTRA_CA_FILE: certificates to trust besides Debian's, in the build and in the
# sandboxes, for machines behind a proxy that signs anew. Nothing changed since the last time: nothing
# is done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../scripts/image.sh"

variant=${1:-full}
name=${2:-${SANDBOXD_IMAGE:-sandboxd-base:1.0.0}}
case $variant in full | slim) ;; *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;; esac
extra=${EXTRA_CA_FILE:-}
[ -z "$extra" ] || grep -q 'BEGIN CERTIFICATE' "$extra" ||
    { echo "EXTRA_CA_FILE: $extra holds no PEM certificate" >&2; exit 2; }

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp -R "$here/Dockerfile" "$here/home" "$here/tools" "$context"
cat ${extra:+"$extra"} /dev/null >"$context/extra-ca.crt"
image_build "$name" "$context" --target "$variant" \
    ${extra:+--build-arg EXTRA_CA=/usr/local/share/ca-certificates/extra-ca.crt}
