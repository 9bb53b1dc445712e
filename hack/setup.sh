#!/usr/bin/env bash
# Makes .venv from uv.lock. Needs Python 3.11 or later; brings its own uv, outside the tree, if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
UV_VERSION=0.13.9
cache=${XDG_CACHE_HOME:-$HOME/.cache}/medley

stamp=.venv/.medley-setup
wanted=$(cat pyproject.toml uv.lock hack/setup.sh | sha256sum | cut -d' ' -f1)
[ -x .venv/bin/medley ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

# A name on PATH is not enough: a version manager's shim stands there for versions that are not selected.
runs() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }
python=
for name in python3.13 python3.12 python3.11 python3; do
  if runs "$name"; then python=$name; break; fi
done
[ -n "$python" ] || { echo "setup: no Python 3.11 or later on PATH: install one" >&2; exit 1; }

uv=$(command -v uv || true)
runs_uv() { [ -n "$1" ] && "$1" --version > /dev/null 2>&1; }
runs_uv "$uv" || uv=
if [ -z "$uv" ]; then
  uv=$cache/uv-$UV_VERSION/bin/uv
  if [ ! -x "$uv" ]; then
    echo "setup: installing uv $UV_VERSION into the cache" >&2
    "$python" -m venv "$cache/uv-$UV_VERSION"
    "$cache/uv-$UV_VERSION/bin/python" -m pip -q install "uv==$UV_VERSION" ||
      { echo "setup: uv could not be installed: is the Python package index reachable?" >&2; exit 1; }
  fi
fi
echo "setup: making .venv from uv.lock" >&2
"$uv" sync --quiet --locked --python "$python" --no-python-downloads --all-extras --no-extra aiconfigurator --all-groups
echo "$wanted" > "$stamp"
