# shellcheck shell=bash
# Sourced. Images that are built anew only when what they are built from has changed.

# Digest of a directory: names, modes, contents.
tree_digest() {
    (cd "$1" && find . -type f -printf '%P %m\n' | LC_ALL=C sort &&
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum | cut -c1-32
}

image_label() { # image, label
    docker image inspect -f "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true
}

# name, context, options of docker build. The base is part of what an image is built from. What a
# Dockerfile makes after "ARG NAME, LABEL sandboxed.stage=${NAME}" is removed afterwards, unless it
# has a name: the next build happens only when something has changed, and stages can be large.
image_build() {
    local name=$1 context=$2 source p status=0
    shift 2
    "$(dirname "${BASH_SOURCE[0]}")/base-image.sh"
    source=$({
        tree_digest "$context"
        echo "$@"
        docker image inspect -f '{{.Id}}' debian:bookworm-slim
    } | sha256sum | cut -c1-32)
    if [ "$(image_label "$name" sandboxed.source)" = "$source" ]; then
        echo "$name: up to date"
        return
    fi
    # The proxies of this machine are those of its builds; the builder keeps them out of the image.
    for p in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [ -z "${!p:-}" ] || set -- "$@" --build-arg "$p"
    done
    docker build --force-rm "$@" --build-arg "NAME=${name%:*}" -t "$name" \
        --label "sandboxed.name=$name" --label "sandboxed.source=$source" "$context" || status=$?
    docker image prune -f --filter "label=sandboxed.stage=${name%:*}" >/dev/null
    image_tidy "$name"
    return $status
}

# Images of this name that a later one has replaced, unless something runs from them.
image_tidy() { # name
    docker image prune -f --filter "label=sandboxed.name=$1" >/dev/null
}

# The certificates that this machine trusts besides its distribution's, one after the other.
host_authorities() {
    cat /usr/local/share/ca-certificates/*.crt 2>/dev/null || true
}
