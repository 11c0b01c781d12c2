#!/bin/bash
# Installs sandboxed on this machine, or upgrades it: run it again after a change of the tree or of
# .env. --help says more. What it makes, uninstall.sh removes.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")" && pwd)
. "$ROOT/scripts/install-lib.sh"
. "$ROOT/scripts/engine.sh"
. "$ROOT/scripts/image.sh"

READY_S=${READY_S:-60} # a new daemon has so long until /readyz says yes
BACKUPS_KEPT=5
NEEDED_MIB=8000 NEEDED_SLIM_MIB=4000 # of disk, while images are built

usage() {
    cat <<END
usage: ./install.sh [option...]

  -y, --yes            ask nothing; needed where no terminal is
  --secure             clients of the API need a token (made when there is none)
  --slim               a small sandbox image: shell, git, Python, Node; no compilers, no agents
  --no-image           leave the sandbox image alone; SANDBOXD_IMAGE must be there
  --demo               create a first sandbox with a web server in it
  --data-dir DIR       where everything is kept               SANDBOXED_DATA_DIR   /var/lib/sandboxed
  --http-port PORT     port of the previews                   HTTP_PORT            80
  --https-port PORT    the same with PREVIEW_TLS=true         HTTPS_PORT           443
  --api-bind ADDR:PORT address of the API                     SANDBOXED_API_BIND   127.0.0.1:9090
  --edge-bind ADDR:PORT  of the edge behind Traefik           SANDBOXED_EDGE_BIND  127.0.0.1:9080
  --domain NAME        previews are below preview.NAME        PREVIEW_DOMAIN       localhost
  --project NAME       name of the containers                 COMPOSE_PROJECT_NAME sandboxed
  --env-file FILE      settings                               ENV_FILE             .env
  -h, --help           this text

What an option, or the environment by the name beside it, says is written to .env; all other settings
are there, too. Running it again upgrades: the database is backed up, sandboxes go on, and the old
daemon comes back when the new one is not ready within $READY_S s.
END
}

secure=0 variant=full build_sandbox=1 demo=0
arguments=("$@")
value() { [ -n "${2:-}" ] || die "$1 needs a value" "see ./install.sh --help"; }
while [ $# -gt 0 ]; do
    case $1 in
    -y | --yes) assume_yes=1 ;;
    --secure) secure=1 ;;
    --slim) variant=slim ;;
    --no-image) build_sandbox=0 ;;
    --demo) demo=1 ;;
    --data-dir) value "$@" && shift && export SANDBOXED_DATA_DIR=$1 ;;
    --http-port) value "$@" && shift && export HTTP_PORT=$1 ;;
    --https-port) value "$@" && shift && export HTTPS_PORT=$1 ;;
    --api-bind) value "$@" && shift && export SANDBOXED_API_BIND=$1 ;;
    --edge-bind) value "$@" && shift && export SANDBOXED_EDGE_BIND=$1 ;;
    --domain) value "$@" && shift && export PREVIEW_DOMAIN=$1 ;;
    --project) value "$@" && shift && export COMPOSE_PROJECT_NAME=$1 ;;
    --env-file) value "$@" && shift && ENV_FILE=$(realpath -m "$1") ;;
    -h | --help) usage; exit ;;
    *) usage >&2; die "unknown option $1" ;;
    esac
    shift
done
be_root ${arguments[@]+"${arguments[@]}"}
load_settings

# --- looked at before anything is changed ---

# Which process has a TCP port at an address that ours would collide with? Prints its name and pid.
port_holder() { # address, port
    local hex inode pid
    hex=$(printf '%04X' "$2")
    local four='' any=0
    case $1 in
    0.0.0.0 | :: | '') any=1 ;;
    *.*.*.*) four=$(IFS=. && set -- $1 && printf '%02X%02X%02X%02X' "$4" "$3" "$2" "$1") ;;
    esac
    inode=$(awk -v port=":$hex" -v four="$four" -v any="$any" '
        $4 == "0A" && substr($2, length($2) - 4) == port {
            address = substr($2, 1, length($2) - 5)
            if (any || address ~ /^0+$/ || address == four || (four == "" && length(address) == 32)) {
                print $10; exit } }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    [ -n "$inode" ] || return 1
    pid=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" 2>/dev/null |
        head -n 1 | cut -d/ -f3)
    [ -n "$pid" ] && echo "$(cat "/proc/$pid/comm") (pid $pid)" || echo "another program"
}

check_port() { # what, address:port, how to choose another
    local address=${2%:*} port=${2##*:} holder
    case $port in '' | *[!0-9]* | ??????*) die "$1: \"$2\" has no port" "$3" ;; esac
    [ "$port" -ge 1 ] && [ "$port" -le 65535 ] || die "$1: $port is no port" "$3"
    address=${address#[} address=${address%]}
    [ "$address" != localhost ] || address=127.0.0.1
    holder=$(port_holder "$address" "$port") || return 0
    # Ours; those of an Engine that is away may run on, and are looked at once it is back.
    case " $our_pids " in *" ${holder//[!0-9]/} "*) return 0 ;; esac
    case $holder in sandboxd\ * | traefik\ *) engine_answers || return 0 ;; esac
    die "$1: port $port is taken by $holder" "stop that, or choose another port: $3"
}

check_ports() {
    check_port "API" "$SANDBOXED_API_BIND" "--api-bind 127.0.0.1:9190"
    [ "$PREVIEW_EDGE" != traefik ] ||
        check_port "edge" "$SANDBOXED_EDGE_BIND" "--edge-bind 127.0.0.1:9180"
    check_port "previews" "$PREVIEW_BIND:$HTTP_PORT" "--http-port 8080"
    [ "$PREVIEW_TLS" != true ] ||
        check_port "previews" "$PREVIEW_BIND:$HTTPS_PORT" "--https-port 8443"
}

check_space() {
    local dir=/var/lib/docker have need=$NEEDED_MIB
    [ "$variant" = full ] || need=$NEEDED_SLIM_MIB
    [ "$build_sandbox" = 1 ] || need=1000
    [ -d $dir ] || dir=/var/lib
    have=$(df -Pm "$dir" | awk 'NR == 2 { print $4 }')
    [ "$have" -ge "$need" ] ||
        die "$dir has $have MiB left, $need MiB are needed" "make room, or take --slim"
}

case $SANDBOXED_DATA_DIR in
/*[!/]*) ;; *) die "the data directory must be an absolute path" "--data-dir /var/lib/sandboxed" ;;
esac
case $SANDBOXED_DATA_DIR in *[!A-Za-z0-9/._+-]*)
    die "the data directory's path has a character that Traefik or compose would misread" \
        "letters, digits and / . _ + - are fine" ;;
esac
[ "$(uname -s)" = Linux ] || die "sandboxed needs Linux"
case $PREVIEW_TLS in 1 | yes | on) PREVIEW_TLS=true ;; esac
running='' ours='' our_pids='' # the daemon's container; all containers of this installation
find_running() {
    command -v docker >/dev/null && engine_answers || return 0
    ours=$(docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
    running=$(docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter label=com.docker.compose.service=sandboxd)
    # shellcheck disable=SC2086 # words, none of them ours to quote
    [ -z "$ours" ] || our_pids=$(docker inspect -f '{{.State.Pid}}' $ours | paste -sd' ')
}
# A daemon with another data directory would know none of the sandboxes that run.
check_data_dir() {
    local daemon at
    command -v docker >/dev/null && engine_answers && daemon=$(container_of sandboxd) || return 0
    [ -n "$daemon" ] || return 0
    at=$(docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' "$daemon" |
        sed -n 's/^SANDBOXED_DATA_DIR=//p')
    [ -z "$at" ] || [ "$at" = "$SANDBOXED_DATA_DIR" ] ||
        die "the installation \"$COMPOSE_PROJECT_NAME\" keeps its data in $at" \
            "take that, or a --project, ports and an --env-file of its own for another installation"
}
find_running
check_data_dir
check_ports
[ -n "$ours" ] || check_space

# --- Engine and compose ---

apt_install() {
    apt-get -o DPkg::Lock::Timeout=300 -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y \
        --no-install-recommends install "$@"
}

# Sandboxes of an Engine that we install outlive its restarts.
keep_containers_over_restarts() {
    mkdir -p /etc/docker
    [ -e /etc/docker/daemon.json ] || echo '{"live-restore": true}' >/etc/docker/daemon.json
    if engine_answers && has_systemd; then
        systemctl reload docker
    fi
}

missing=() engine_missing=0
find_missing() {
    command -v curl >/dev/null || missing+=(curl)
    if ! command -v docker >/dev/null || { ! command -v dockerd >/dev/null && ! engine_answers; }; then
        engine_missing=1
        missing+=(docker.io iptables ca-certificates)
        # Where the client is a package of its own.
        ! apt-cache show docker-cli >/dev/null 2>&1 || missing+=(docker-cli)
    fi
    if ! find_compose; then
        if apt-cache show docker-compose-v2 >/dev/null 2>&1; then
            missing+=(docker-compose-v2)
        else
            missing+=(docker-compose)
        fi
    fi
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]}" \
        "install the Docker Engine, compose and curl by this system's own means, then run this again"
    ask "Install ${missing[*]}?" || die "they are needed" "install them, then run this again"
}

install_missing() {
    if [ ${#missing[@]} -gt 0 ]; then
        step "Packages ${missing[*]}" apt_install "${missing[@]}" || exit 1
        [ $engine_missing = 0 ] || keep_containers_over_restarts
    fi
    if ! engine_answers; then
        [ $engine_missing = 1 ] || ask "The Docker Engine does not run. Start it?" ||
            die "it is needed" "start it, then run this again"
        step "Docker Engine" start_engine || exit 1
    fi
    find_compose || die "neither docker compose nor docker-compose is there" "install one of them"
}

# --- settings ---

is_local_address() {
    case $1 in 127.*:* | localhost:* | '[::1]:'*) ;; *) return 1 ;; esac
}
is_local_domain() {
    case $1 in localhost | *.localhost) ;; *) return 1 ;; esac
}

random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

write_settings() {
    local name why=
    if [ ! -e "$ENV_FILE" ]; then
        install -m 0600 "$ROOT/.env.example" "$ENV_FILE"
        say "  Settings: $ENV_FILE, made from .env.example"
    fi
    chmod 0600 "$ENV_FILE"
    [ "$(env_file_value COMPOSE_PROJECT_NAME)" = "$COMPOSE_PROJECT_NAME" ] ||
        asked[COMPOSE_PROJECT_NAME]=$COMPOSE_PROJECT_NAME
    if [ "$secure" = 1 ]; then
        why="--secure"
    elif ! is_local_address "$SANDBOXED_API_BIND"; then
        why="the API listens at $SANDBOXED_API_BIND"
    elif ! is_local_domain "$PREVIEW_DOMAIN"; then
        why="previews are below $PREVIEW_DOMAIN"
    fi
    if [ -n "$why" ]; then
        [ -z "$SANDBOXD_API_AUTH_DISABLED" ] || asked[SANDBOXD_API_AUTH_DISABLED]=false
        if [ -z "$SANDBOXD_API_TOKENS" ]; then
            SANDBOXD_API_TOKENS=admin:$(random_hex 32)
            asked[SANDBOXD_API_TOKENS]=$SANDBOXD_API_TOKENS
            say "  A token of the API was made, because $why: SANDBOXD_API_TOKENS in $ENV_FILE"
        fi
        SANDBOXD_API_AUTH_DISABLED=false
    elif [ -z "$SANDBOXD_API_AUTH_DISABLED" ] && [ -z "$SANDBOXD_API_TOKENS" ]; then
        SANDBOXD_API_AUTH_DISABLED=true
        asked[SANDBOXD_API_AUTH_DISABLED]=true
    fi
    # Under which names others will call it; a request with another Host is refused.
    if ! is_local_address "$SANDBOXED_API_BIND" && [ -z "$SANDBOXD_API_HOSTS" ]; then
        asked[SANDBOXD_API_HOSTS]=$({ hostname -f || hostname; hostname -I | tr ' ' '\n'; } \
            2>/dev/null | grep -v : | grep . | sort -u | paste -sd,)
    fi
    for name in "${!asked[@]}"; do
        env_file_set "$name" "${asked[$name]}"
    done
}

# Machines behind a proxy that signs anew have its certificate here; builds and sandboxes need it.
ask_authorities() {
    local found=(/usr/local/share/ca-certificates/*.crt)
    HOST_CA_FILE=$SANDBOXED_DATA_DIR/install/extra-ca.pem
    if [ -z "$EXTRA_CA_FILE" ] && [ -e "${found[0]}" ] &&
        ask "Trust this machine's own certificates (${found[*]##*/}) in builds and sandboxes, too?"; then
        say "Certificates of this machine are trusted in builds and sandboxes, too (EXTRA_CA_FILE)."
        EXTRA_CA_FILE=$HOST_CA_FILE
        asked[EXTRA_CA_FILE]=$HOST_CA_FILE
    fi
}

copy_authorities() {
    [ "$EXTRA_CA_FILE" != "$HOST_CA_FILE" ] || host_authorities >"$HOST_CA_FILE"
}

# --- images; what was not there before is ours to remove ---

note_made() { # kind, name
    grep -qsxF "$1 $2" "$SANDBOXED_DATA_DIR/install/made" ||
        echo "$1 $2" >>"$SANDBOXED_DATA_DIR/install/made"
}

get_image() { # text, image, command...
    local text=$1 name=$2 there=1
    shift 2
    docker image inspect "$name" >/dev/null 2>&1 || there=0
    step "$text" "$@" || exit 1
    [ $there = 1 ] || note_made image "$name"
}

get_images() {
    get_image "Base image" debian:bookworm-slim "$ROOT/scripts/base-image.sh"
    [ "$PREVIEW_EDGE" != traefik ] ||
        get_image "Traefik image" "$TRAEFIK_IMAGE" "$ROOT/scripts/traefik-image.sh" "$TRAEFIK_IMAGE"
    if [ "$build_sandbox" = 1 ]; then
        get_image "Sandbox image ($variant)" "$SANDBOXD_IMAGE" \
            "$ROOT/sandbox-image/build.sh" "$variant" "$SANDBOXD_IMAGE"
    else
        docker image inspect "$SANDBOXD_IMAGE" >/dev/null 2>&1 ||
            die "there is no image $SANDBOXD_IMAGE" "leave out --no-image, or pull it"
    fi
    # A daemon that runs may be needed again: its image keeps a name.
    if [ -n "$running" ]; then
        docker rmi "$PREVIOUS_IMAGE" >/dev/null 2>&1 || true
        docker tag "$(docker inspect -f '{{.Image}}' "$running")" "$PREVIOUS_IMAGE"
    fi
    get_image "Daemon image" "$DAEMON_IMAGE" "$ROOT/deploy/build.sh" "$DAEMON_IMAGE"
}

# --- the daemon ---

api_url() {
    local host=${SANDBOXED_API_BIND%:*}
    case $host in 0.0.0.0 | localhost | '') host=127.0.0.1 ;; '[::]') host='[::1]' ;; esac
    echo "http://$host:${SANDBOXED_API_BIND##*:}"
}

wait_ready() {
    local deadline=$((SECONDS + READY_S)) container
    until curl -sf --noproxy '*' --max-time 5 -o /dev/null -H 'Host: localhost' "$(api_url)/readyz"; do
        container=$(container_of sandboxd)
        if [ $SECONDS -ge $deadline ] ||
            [ "$(docker inspect -f '{{.RestartCount}}' "$container" 2>/dev/null || echo 0)" -ge 3 ]; then
            docker logs --tail 20 "$container"
            return 1
        fi
        sleep 0.3
    done
}

up_daemon() {
    # The port of the previews is Traefik's or the daemon's.
    local other
    other=$(container_of traefik)
    [ "$PREVIEW_EDGE" = traefik ] || [ -z "$other" ] || docker rm -f "$other"
    compose up -d --no-deps sandboxd && wait_ready
}

# The database may only be copied while no daemon has it open. Sandboxes do not notice.
back_up() {
    local to
    to=$SANDBOXED_DATA_DIR/backups/$(date -u +%Y%m%dT%H%M%SZ)
    mkdir -p "$to" &&
        docker stop -t 40 "$running" &&
        cp -a --reflink=auto "$SANDBOXED_DATA_DIR/state" "$to/" &&
        cp -a "$ENV_FILE.before" "$to/env" &&
        echo "$to" >"$SANDBOXED_DATA_DIR/install/last-backup" || return 1
    find "$SANDBOXED_DATA_DIR/backups" -mindepth 1 -maxdepth 1 -type d | sort |
        head -n -$BACKUPS_KEPT | xargs -r rm -rf --
}

# The old daemon with its settings over the database as it is; only when it does not take that, over
# the copy.
go_back() {
    local backup row
    backup=$(cat "$SANDBOXED_DATA_DIR/install/last-backup") &&
        docker tag "$PREVIOUS_IMAGE" "$DAEMON_IMAGE" &&
        cat "$backup/env" >"$ENV_FILE" || return 1
    for row in "${SETTINGS[@]}"; do
        case ${row%%=*} in
        COMPOSE_PROJECT_NAME | SANDBOXED_DATA_DIR | DAEMON_IMAGE | TRAEFIK_IMAGE) ;;
        *) unset "${row%%=*}" "$(alias_of "${row%%=*}")" ;;
        esac
    done
    load_settings
    docker rm -f "$(container_of sandboxd)"
    if up_daemon; then
        up_traefik
        return 0
    fi
    docker rm -f "$(container_of sandboxd)"
    mv "$SANDBOXED_DATA_DIR/state" "$backup/state-of-the-failed-upgrade" &&
        cp -a --reflink=auto "$backup/state" "$SANDBOXED_DATA_DIR/state" &&
        up_daemon && up_traefik
}

start_daemon() {
    if [ -z "$running" ]; then
        step "Daemon" up_daemon ||
            die "the daemon is not ready" "its log is above; correct $ENV_FILE and run this again"
        return
    fi
    if [ "$(docker inspect -f '{{.Image}} {{index .Config.Labels "sandboxed.settings"}}' "$running")" = \
        "$(docker image inspect -f '{{.Id}}' "$DAEMON_IMAGE") $(settings_digest)" ]; then
        step "Daemon" wait_ready || die "the daemon is not ready" "see docker logs $running"
        say "  The daemon is up to date and runs on."
        return
    fi
    step "Backup of the database" back_up || {
        docker start "$running" >/dev/null
        die "no backup, so no upgrade; the old daemon runs on"
    }
    if step "New daemon" up_daemon; then
        return
    fi
    step "Old daemon" go_back ||
        die "neither the new daemon nor the old one gets ready" \
            "backup: $(cat "$SANDBOXED_DATA_DIR/install/last-backup")"
    image_tidy "$DAEMON_IMAGE"
    die "the new daemon was not ready within $READY_S s; the old one and its settings are back" \
        "why: $LOG"
}

# --- Traefik ---

up_traefik() {
    local before after old deadline=$((SECONDS + 30)) file=$SANDBOXED_DATA_DIR/traefik/traefik.yml
    old=$(container_of traefik)
    before=$(sha256sum "$file" 2>/dev/null || true)
    docker exec "$(container_of sandboxd)" sandboxd print-traefik \
        --env-file /etc/sandboxed/sandboxd.env || return 1
    after=$(sha256sum "$file")
    [ "$PREVIEW_EDGE" = traefik ] || return 0
    compose up -d --no-deps traefik || return 1
    # It reads changed routes by itself, changed ports at start only.
    [ -z "$old" ] || [ "$before" = "$after" ] || compose restart -t 10 traefik || return 1
    until curl -s --noproxy '*' --max-time 5 -o /dev/null "http://127.0.0.1:$HTTP_PORT/"; do
        [ $SECONDS -lt $deadline ] || { docker logs --tail 20 "$(container_of traefik)"; return 1; }
        sleep 0.3
    done
}

# --- the command ---

# The daemon's binary with the libraries it was linked with: it runs here whatever this machine has.
make_command() {
    local home=$ROOT/bin/.sandboxd link=/usr/local/bin/sandboxd at settings
    printf -v at %q "$home"
    printf -v settings %q "$ENV_FILE"
    rm -rf "$home.new" && mkdir -p "$home.new" &&
        docker run --rm --network none --entrypoint sh "$DAEMON_IMAGE" -c '
            binary=$(command -v sandboxd)
            ldd "$binary" | sed -n "s,^[^/]*\(/[^ ]*\) (0x.*,\1,p" |
                xargs tar -chf - --transform "s,.*/,," "$binary"' 2>/dev/null |
        tar -xf - --no-same-owner -C "$home.new" || return 1
    rm -rf "$home"
    mv "$home.new" "$home"
    cat >"$ROOT/bin/sandboxd.new" <<END
#!/bin/bash
# The command line of the installation "$COMPOSE_PROJECT_NAME", made by install.sh. What the
# environment says goes first.
if [ -z "\$SANDBOXD_URL" ]; then
    export SANDBOXD_URL=$(api_url)
    if [ -z "\$SANDBOXD_TOKEN\$SANDBOXD_TOKEN_FILE" ] && [ -r $settings ]; then
        SANDBOXD_TOKEN=\$(sed -n 's/^SANDBOXD_API_TOKENS=[^:=]*[:=]\([^,]*\).*/\1/p' $settings)
        export SANDBOXD_TOKEN
    fi
fi
exec $at/ld-linux*.so.* --library-path $at $at/sandboxd "\$@"
END
    chmod 0755 "$ROOT/bin/sandboxd.new"
    mv "$ROOT/bin/sandboxd.new" "$ROOT/bin/sandboxd"
    [ -e $link ] || [ -L $link ] || ln -s "$ROOT/bin/sandboxd" $link
}

# --- what to do next ---

# A fresh id, so that the commands can be run as they are: 10 letters of time, 16 at random.
new_id() {
    local letters=0123456789ABCDEFGHJKMNPQRSTVWXYZ now id='' i
    now=$(date +%s%3N)
    for i in 45 40 35 30 25 20 15 10 5 0; do id+=${letters:$((now >> i & 31)):1}; done
    for i in $(od -An -N16 -tu1 -v /dev/urandom); do id+=${letters:$((i & 31)):1}; done
    echo "$id"
}

next_steps() {
    local id auth='' port='' scheme=http lower code create serve command=$ROOT/bin/sandboxd
    [ "$(readlink /usr/local/bin/sandboxd)" != "$command" ] || command=sandboxd
    id=$(new_id)
    lower=${id,,}
    if [ "$PREVIEW_TLS" = true ]; then
        scheme=https
        [ "$HTTPS_PORT" = 443 ] || port=:$HTTPS_PORT
    else
        [ "$HTTP_PORT" = 80 ] || port=:$HTTP_PORT
    fi
    [ "$SANDBOXD_API_AUTH_DISABLED" = true ] || auth=' -H "Authorization: Bearer $TOKEN"'
    create="curl -X POST $(api_url)/v1/sandboxes$auth -d '{\"id\":\"$id\",\"ports\":[3000]}'"
    serve="curl -X POST $(api_url)/v1/sandboxes/$id/exec$auth -d '{\"cmd\":[\"python3\",\"-m\",\"http.server\",\"3000\"],\"service\":\"web\"}'"
    local TOKEN=${SANDBOXD_API_TOKENS%%,*}
    TOKEN=${TOKEN#*[:=]}
    if [ "$demo" = 1 ]; then
        for code in "$create" "$serve"; do
            eval "$code -sf --noproxy '*' -o /dev/null" || die "this failed: $code"
        done
    fi
    say ""
    say "sandboxed is up: API $(api_url), previews at $scheme://s-<id>-<port>.preview.$PREVIEW_DOMAIN$port"
    say ""
    if [ "$demo" = 1 ]; then
        say "A sandbox with a web server:"
    else
        say "A first sandbox, a web server in it, and its page (or open the address in a browser):"
        [ -z "$auth" ] ||
            say "  TOKEN=\$(sed -n 's/^SANDBOXD_API_TOKENS=[^:=]*[:=]\([^,]*\).*/\1/p' $ENV_FILE)"
        say "  $create"
        say "  $serve"
    fi
    say "  curl $scheme://s-$lower-3000.preview.$PREVIEW_DOMAIN$port/"
    say ""
    say "On the command line: $command ls, $command help"
}

# --- all of it ---

PREVIOUS_IMAGE=${DAEMON_IMAGE%:*}:previous
find_missing
ask_authorities
mkdir -p "$SANDBOXED_DATA_DIR"
chmod 0700 "$SANDBOXED_DATA_DIR"
mkdir -p "$SANDBOXED_DATA_DIR"/{install,log,front,traefik/dynamic}
[ -e "$SANDBOXED_DATA_DIR/traefik/dns.env" ] || (umask 077 && echo \
    "# What Traefik's DNS provider wants to know, NAME=value a line (docs/tls.md)." \
    >"$SANDBOXED_DATA_DIR/traefik/dns.env")
LOG=$SANDBOXED_DATA_DIR/log/install.log
say "Installing sandboxed (log: $LOG)"
exec 9>"$SANDBOXED_DATA_DIR/install/lock"
flock -n 9 || die "another install.sh or uninstall.sh is at work here"
install_missing
find_running
trap 'rm -f "$ENV_FILE.before"' EXIT
[ ! -e "$ENV_FILE" ] || cp -p "$ENV_FILE" "$ENV_FILE.before"
write_settings
[ -e "$ENV_FILE.before" ] || cp -p "$ENV_FILE" "$ENV_FILE.before"
copy_authorities
get_images
start_daemon
step "Traefik" up_traefik || die "Traefik does not come up" "its log is above"
step "Command line" make_command || exit 1
for name in "$DAEMON_IMAGE" "${DAEMON_IMAGE%:*}:build" "$TRAEFIK_IMAGE" "$SANDBOXD_IMAGE"; do
    image_tidy "$name"
done
next_steps
