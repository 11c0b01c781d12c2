# shellcheck shell=bash
# Sourced by install.sh and uninstall.sh. Settings, questions, long steps, compose. ROOT is the tree.

ENV_FILE=${ENV_FILE:-$ROOT/.env}
assume_yes=${assume_yes:-0}

say() { printf '%s\n' "$*"; }
die() { # what is wrong, what to do about it
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2
    exit 1
}

# Root is needed to reach the Engine and the data directory. What was asked by environment stays asked.
be_root() { # arguments of the script
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die "must run as root" "log in as root, or install sudo"
    say "Going on by sudo."
    exec sudo --preserve-env="$(IFS=, && echo "${SETTINGS[*]%%=*}")",ENV_FILE "$0" "$@"
}

# On a terminal a person decides; elsewhere only --yes does.
ask() { # question
    local answer
    [ "$assume_yes" = 0 ] || return 0
    [ -t 0 ] || die "$1" "nobody is there to answer: run it again with --yes"
    read -r -p "$1 [Y/n] " answer
    case $answer in '' | [yY] | [yY][eE][sS]) ;; *) return 1 ;; esac
}

# --- settings: an option wins over the environment, that over .env, that over the default ---

# name=default, those that the scripts themselves look at. All others are the daemon's alone.
SETTINGS=(
    COMPOSE_PROJECT_NAME=sandboxed
    SANDBOXED_DATA_DIR=/var/lib/sandboxed
    SANDBOXED_API_BIND=127.0.0.1:9090
    SANDBOXED_EDGE_BIND=127.0.0.1:9080
    SANDBOXD_API_AUTH_DISABLED=
    SANDBOXD_API_TOKENS=
    SANDBOXD_API_HOSTS=
    SANDBOXD_IMAGE=sandboxd-base:1.0.0
    PREVIEW_DOMAIN=localhost
    PREVIEW_EDGE=traefik
    PREVIEW_BIND=0.0.0.0
    PREVIEW_TLS=false
    HTTP_PORT=80
    HTTPS_PORT=443
    DAEMON_IMAGE=sandboxd-control-plane:1.0.0
    TRAEFIK_IMAGE=traefik:v3.7
    EXTRA_CA_FILE=
)
# Older names of some.
alias_of() {
    case $1 in
    SANDBOXED_DATA_DIR) echo SANDBOXD_DATA_DIR ;;
    SANDBOXED_API_BIND) echo SANDBOXD_ADDR ;;
    esac
}

env_file_value() { # name: its value in .env; status 1 when it is not there
    local line
    line=$(grep -E "^[[:space:]]*(export[[:space:]]+)?$1=" "$ENV_FILE" 2>/dev/null | tail -n 1) ||
        return 1
    line=${line#*=}
    line=${line%$'\r'}
    case $line in \"*\" | \'*\') line=${line:1:${#line}-2} ;; esac
    printf '%s\n' "$line"
}

# Makes shell variables of all settings, and remembers those that differ from what .env says.
declare -A asked=()
load_settings() {
    local row name value other in_file
    for row in "${SETTINGS[@]}"; do
        name=${row%%=*} value=${row#*=} other=$(alias_of "${row%%=*}")
        in_file=$(env_file_value "$name" || { [ -n "$other" ] && env_file_value "$other"; } || true)
        [ -z "$in_file" ] || value=$in_file
        if [ -n "${!name:-}" ]; then
            [ "${!name}" = "$value" ] || asked[$name]=${!name}
            value=${!name}
        elif [ -n "$other" ] && [ -n "${!other:-}" ]; then
            [ "${!other}" = "$value" ] || asked[$name]=${!other}
            value=${!other}
        fi
        printf -v "$name" '%s' "$value"
        export "${name?}"
    done
    export -n SANDBOXD_API_TOKENS
    unset DOCKER_HOST DOCKER_CONTEXT # this machine's Engine is meant
    export ENV_FILE
}

# Replaces the line of a setting, or its commented default, or adds one.
env_file_set() { # name, value
    local new
    new=$(mktemp "$ENV_FILE.XXXXXX")
    NAME=$1 VALUE=$2 awk '
        function setting() { done = 1; return ENVIRON["NAME"] "=" ENVIRON["VALUE"] }
        FNR == 1 { pass++ }
        { plain = $0; sub(/^[ \t]*(export[ \t]+)?/, "", plain) }
        pass == 1 { if (index(plain, ENVIRON["NAME"] "=") == 1) live = 1; next }
        index(plain, ENVIRON["NAME"] "=") == 1 { if (!done) print setting(); next }
        !live && !done && index($0, "#" ENVIRON["NAME"] "=") == 1 { print setting(); next }
        { print }
        END { if (!done) print setting() }' "$ENV_FILE" "$ENV_FILE" >"$new"
    cat "$new" >"$ENV_FILE" # its mode and owner stay
    rm -f "$new"
}

# --- long steps: what they say goes to a log, a line tells how long they take ---

LOG=
step() { # text, command...
    local text=$1 from=$SECONDS shown=0 status=0 pid
    shift
    printf '\n=== %s: %s\n' "$(date -u +%FT%TZ)" "$text" >>"$LOG"
    set -m # a process group of its own, which ends with us
    "$@" >>"$LOG" 2>&1 </dev/null &
    pid=$!
    set +m
    trap 'kill -TERM -- "-$pid" 2>/dev/null; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        if [ -t 1 ]; then
            printf '\r  %s ... %d s ' "$text" $((SECONDS - from))
        elif [ $((SECONDS - from)) -ge $((shown + 20)) ]; then
            shown=$((SECONDS - from))
            printf '  %s ... %d s\n' "$text" "$shown"
        fi
        sleep 0.2
    done
    wait "$pid" || status=$?
    trap - INT TERM
    [ ! -t 1 ] || printf '\r'
    if [ $status = 0 ]; then
        printf '  %s: done (%d s)\n' "$text" $((SECONDS - from))
        return 0
    fi
    printf '  %s: FAILED after %d s; the end of %s:\n' "$text" $((SECONDS - from)) "$LOG"
    tail -n 20 "$LOG" | sed 's/^/    | /'
    return $status
}

# --- containers ---

find_compose() {
    if docker compose version >/dev/null 2>&1; then
        COMPOSE=(docker compose)
    elif command -v docker-compose >/dev/null; then
        COMPOSE=(docker-compose)
    else
        return 1
    fi
}

# Of what a container is made of besides its image: another one makes another container.
settings_digest() {
    cat "$ENV_FILE" "$ROOT/docker-compose.yml" 2>/dev/null | sha256sum | cut -c1-32
}

compose() {
    SETTINGS_DIGEST=$(settings_digest) \
        "${COMPOSE[@]}" -p "$COMPOSE_PROJECT_NAME" --project-directory "$ROOT" \
        -f "$ROOT/docker-compose.yml" --env-file "$ENV_FILE" "$@"
}

container_of() { # service: its container, running or not
    docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter "label=com.docker.compose.service=$1" | head -n 1
}

# The random name of the installation; all that it makes in the Engine and the firewall carries it.
instance_of() {
    local file=$SANDBOXED_DATA_DIR/traefik/traefik.yml daemon
    if [ -e "$file" ]; then
        sed -n 's/.*Label(`sandboxed.instance`, `\([0-9a-f]*\)`).*/\1/p' "$file"
    else # it never got as far as that
        daemon=$(container_of sandboxd)
        [ -z "$daemon" ] || docker logs "$daemon" 2>&1 |
            sed -n 's/.*"server.listening".*"instance":"\([0-9a-f]*\)".*/\1/p' | tail -n 1
    fi
}
