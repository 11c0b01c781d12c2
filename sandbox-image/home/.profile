# For login shells, which start from the system's PATH.
export PNPM_HOME="$HOME/.local/share/pnpm"
export PATH="/usr/local/bin:/usr/bin:/bin:$HOME/.local/bin:$HOME/.bun/bin:$PNPM_HOME"
export npm_config_store_dir="$HOME/.cache/pnpm-store"
[ -z "$BASH_VERSION" ] || [ ! -f "$HOME/.bashrc" ] || . "$HOME/.bashrc"
