#!/bin/sh
# Fetches the packages of warm/package.json into cache/ and makes links/, an npm cache whose contents
# are links into /opt/npm-cache. Runs in the build only, in /tools.
set -eu
(cd warm && npm install --ignore-scripts --cache=/tools/cache)
mkdir links
cd cache
rm -rf _logs _update-notifier-last-checked _cacache/tmp
find . -type d -exec mkdir -p ../links/{} \;
find _cacache/content-v2 -type f | while read -r f; do ln -s "/opt/npm-cache/$f" "../links/$f"; done
cp -R _cacache/index-v5/. ../links/_cacache/index-v5/
chmod -R a+rX .
