#!/bin/bash
# Removes what install.sh made: containers, network, firewall table; images and data only when asked.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")" && pwd)
. "$ROOT/scripts/install-lib.sh"
. "$ROOT/scripts/image.sh"

usage() {
    cat <<'END'
usage: ./uninstall.sh [option...]

  --images     remove the images, too
  --data       remove the data directory and .env, too: all workspaces are lost
  --all        both
  -y, --yes    do not ask before data are removed
  -h, --help   this text

Stops and removes the daemon, Traefik, all sandboxes, their network and firewall table, and the
command. Without --data workspaces and settings stay, and ./install.sh finds them again. The Docker
Engine stays in any case.
END
}

images=0 data=0
arguments=("$@")
while [ $# -gt 0 ]; do
    case $1 in
    --images) images=1 ;;
    --data) data=1 ;;
    --all) images=1 data=1 ;;
    -y | --yes) assume_yes=1 ;;
    -h | --help) usage; exit ;;
    *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done
be_root ${arguments[@]+"${arguments[@]}"}
load_settings

# Asked before anything is done.
if [ $data = 1 ] && [ "$assume_yes" = 0 ]; then
    say "This removes $SANDBOXED_DATA_DIR with all workspaces, and $ENV_FILE."
    read -r -p 'Type "yes" to go on: ' answer || true
    [ "${answer:-}" = yes ] || die "nothing was removed"
fi

# Nothing but a directory that a daemon or install.sh made is ever removed.
data_is_ours() {
    case $SANDBOXED_DATA_DIR in /*[!/]*) ;; *) return 1 ;; esac
    [ ! -L "$SANDBOXED_DATA_DIR" ] &&
        { [ -d "$SANDBOXED_DATA_DIR/install" ] || [ -e "$SANDBOXED_DATA_DIR/state/sandboxd.db" ]; }
}

remove_images() {
    local name
    for name in "$SANDBOXD_IMAGE" "$DAEMON_IMAGE" "${DAEMON_IMAGE%:*}:previous" \
        "${DAEMON_IMAGE%:*}:build"; do
        ! docker rmi "$name" >/dev/null 2>&1 || say "  image $name"
        image_tidy "$name"
    done
    # Of those that others may use, too: what was not there before, unless something runs from it.
    while read -r kind name; do
        [ "$kind" = image ] && docker rmi "$name" >/dev/null 2>&1 && say "  image $name"
        image_tidy "$name"
    done < <(tac "$SANDBOXED_DATA_DIR/install/made" 2>/dev/null) || true
}

# The table is nameless to everybody else. The daemon's image has the tool where the host has none.
remove_firewall() { # instance
    local table="sandboxed_$1" nft=(nft)
    command -v nft >/dev/null || nft=(docker run --rm --network host --read-only --cap-drop ALL
        --cap-add NET_ADMIN --entrypoint nft "$DAEMON_IMAGE")
    if "${nft[@]}" list table inet "$table" >/dev/null 2>&1; then
        "${nft[@]}" delete table inet "$table" && say "  firewall table $table"
    fi
}

if ! command -v docker >/dev/null || ! docker version >/dev/null 2>&1; then
    die "the Docker Engine does not answer: containers cannot be removed" "start it, then run this again"
fi
if [ -d "$SANDBOXED_DATA_DIR/install" ]; then
    exec 9>"$SANDBOXED_DATA_DIR/install/lock"
    flock -n 9 || die "another install.sh or uninstall.sh is at work here"
fi
instance=$(instance_of)
say "Removing sandboxed (project $COMPOSE_PROJECT_NAME${instance:+, instance $instance})"

# Our services by compose's own labels: also when compose or its file has gone.
for service in sandboxd traefik; do
    for id in $(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter "label=com.docker.compose.service=$service"); do
        say "  container $(docker inspect -f '{{.Name}}' "$id")"
        docker stop -t 40 "$id" >/dev/null
        docker rm -f -v "$id" >/dev/null
    done
done
if [ -n "$instance" ]; then
    for id in $(docker ps -aq --filter "label=sandboxed.instance=$instance"); do
        say "  sandbox $(docker inspect -f '{{.Name}}' "$id")"
        docker rm -f -v "$id" >/dev/null
    done
    for id in $(docker network ls -q --filter "label=sandboxed.instance=$instance"); do
        docker network rm "$id" >/dev/null && say "  network sandboxed-$instance"
    done
    remove_firewall "$instance"
fi
if [ "$(readlink /usr/local/bin/sandboxd)" = "$ROOT/bin/sandboxd" ]; then
    rm -f /usr/local/bin/sandboxd
    say "  /usr/local/bin/sandboxd"
fi
rm -rf -- "$ROOT/bin/sandboxd" "$ROOT/bin/.sandboxd"
rmdir "$ROOT/bin" 2>/dev/null || true
[ $images = 0 ] || remove_images
if [ $data = 1 ]; then
    if data_is_ours; then
        rm -rf --one-file-system -- "$SANDBOXED_DATA_DIR"
        say "  $SANDBOXED_DATA_DIR"
    fi
    rm -f -- "$ENV_FILE" "$ENV_FILE.before"
fi
[ $images = 1 ] || say "Images stay (--images removes them)."
[ $data = 1 ] || [ ! -d "$SANDBOXED_DATA_DIR" ] ||
    say "Data and settings stay: $SANDBOXED_DATA_DIR, $ENV_FILE (--data removes them)."
