# shellcheck shell=bash
# Sourced. The Docker Engine of this machine: does it answer, and starting it. Needs say(), curl, root.

ENGINE_SOCKET=/var/run/docker.sock
ENGINE_LOG=${ENGINE_LOG:-/var/log/sandboxed-dockerd.log}
ENGINE_DEADLINE_S=60

engine() { # method path [curl options]: one call of the Engine's API
    local method=$1 path=$2
    shift 2
    curl -sS --fail-with-body --unix-socket "$ENGINE_SOCKET" -X "$method" "$@" "http://engine$path"
}

engine_answers() {
    [ "$(engine GET /_ping --max-time 5 2>/dev/null)" = OK ]
}

has_systemd() {
    [ "$(cat /proc/1/comm)" = systemd ] && [ -d /run/systemd/system ]
}

# A pid file whose process is gone, or is by now somebody else's, keeps the Engine from starting.
drop_stale_pid() { # file, program
    local pid
    [ -s "$1" ] || return 0
    pid=$(cat "$1")
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$2" ]; then
        say "engine: removing the stale $1"
        rm -f "$1"
    fi
}

# A socket that nobody listens on makes the Engine wait for a containerd that is not there.
drop_stale_socket() {
    [ -S "$1" ] || return 0
    curl -s --max-time 2 --unix-socket "$1" http://x/ >/dev/null 2>&1 || [ $? -ne 7 ] || rm -f "$1"
}

start_engine() {
    local deadline=$((SECONDS + ENGINE_DEADLINE_S))
    if engine_answers; then
        say "engine: answers on $ENGINE_SOCKET"
        return
    fi
    if has_systemd; then
        say "engine: starting it by systemd"
        systemctl start docker
    else
        if ! mountpoint -q /sys/fs/cgroup; then
            say "engine: mounting the control groups"
            DEBIAN_FRONTEND=noninteractive apt-get -qq -y install cgroupfs-mount >/dev/null
            cgroupfs-mount || true # done already by the package's own start script
        fi
        drop_stale_pid /var/run/docker.pid dockerd
        drop_stale_pid /run/docker/containerd/containerd.pid containerd
        drop_stale_socket /run/containerd/containerd.sock
        drop_stale_socket /run/docker/containerd/containerd.sock
        say "engine: starting dockerd (log: $ENGINE_LOG)"
        # Its own session, no descriptor of ours: it outlives this run and whoever started it.
        (
            ulimit -n "$(ulimit -Hn)"
            cd /
            exec setsid --fork dockerd </dev/null >>"$ENGINE_LOG" 2>&1 8>&- 9>&-
        )
    fi
    until engine_answers; do
        if [ $SECONDS -ge $deadline ]; then
            say "engine: no answer after ${ENGINE_DEADLINE_S} s; the end of $ENGINE_LOG:"
            tail -n 20 "$ENGINE_LOG" 2>/dev/null || true
            return 1
        fi
        sleep 0.2
    done
    say "engine: up, version $(engine GET /version | sed -n 's/.*"Version":"\([^"]*\)","ApiVersion.*/\1/p')"
}
