#!/usr/bin/env bash
# Makes .venv from uv.lock. Needs Python 3.11 or later; brings its own uv, outside the tree, if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
UV_VERSION=0.13.9
cache=${XDG_CACHE_HOME:-$HOME/.cache}/medley

stamp=.venv/.medley-setup
wanted=$(cat pyproject.toml uv.lock hack/setup.sh | sha256sum | cut -d' ' -f1)
[ -x .venv/bin/medley ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  uv=$cache/uv-$UV_VERSION/bin/uv
  if [ ! -x "$uv" ]; then
    python=$(command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3 || true)
    [ -n "$python" ] || { echo "setup: no python3: install Python 3.11 or later" >&2; exit 1; }
    echo "setup: installing uv $UV_VERSION into the cache" >&2
    "$python" -m venv "$cache/uv-$UV_VERSION"
    "$cache/uv-$UV_VERSION/bin/python" -m pip -q install "uv==$UV_VERSION" ||
      { echo "setup: uv could not be installed: is the Python package index reachable?" >&2; exit 1; }
  fi
fi
echo "setup: making .venv from uv.lock" >&2
"$uv" sync --quiet --locked --all-extras --no-extra aiconfigurator --all-groups
echo "$wanted" > "$stamp"
