#!/bin/bash
# build.sh [NAME]: builds the daemon's image from this tree. Needs Docker and Debian's packages, no
# compiler on the host and no image registry. Nothing changed since the last time: nothing is done.
set -euo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)
. "$tree/scripts/image.sh"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cd "$tree"
cp -R --parents CMakeLists.txt CMakePresets.json include src scripts/packages.build \
    deploy/healthcheck deploy/traefik "$context"
cp deploy/Dockerfile "$context"
name=${1:-sandboxd-control-plane:1.0.0}
image_build "${name%:*}:build" "$context" --target build
image_build "$name" "$context"
