#!/bin/sh
# wheelhouse.sh VARIANT DIRECTORY [PYTHON]: every wheel of the image, in the versions of uv.lock, checked by its hashes,
# and Medley's own. PYTHON is the image's version (as in 3.13), where that is not the one that runs here.
set -eu
variant=$1 out=$2
cd "$(dirname "$0")/../.."
made=dist/wheelhouse-$variant
if [ "$out" != "$made" ] && ls "$made"/*.whl > /dev/null 2>&1; then
  echo "wheelhouse: taking $made" >&2
  mkdir -p "$out"
  cp "$made"/*.whl "$out"/
  exit 0
fi
case $variant in
  lean) extras= ;;
  full) extras="--extra policy" ;;
  *) echo "wheelhouse: VARIANT is lean or full, not $variant" >&2; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip -q install --disable-pip-version-check "uv==0.13.9"
# shellcheck disable=SC2086 # extras are words
"$work/venv/bin/uv" export --quiet --locked --no-dev --no-emit-project $extras -o "$work/requirements.txt"
# What the lock has for that version of Python: pip would decide by the one that runs here.
"$work/venv/bin/uv" pip compile --quiet --no-deps --generate-hashes ${3:+--python-version "$3"} \
  -o "$work/these.txt" "$work/requirements.txt"
rm -rf "$out"
mkdir -p "$out"
"$work/venv/bin/python" -m pip -q download --disable-pip-version-check --only-binary :all: --require-hashes --no-deps \
  ${3:+--python-version "$3"} -d "$out" -r "$work/these.txt"
"$work/venv/bin/uv" build --quiet --wheel -o "$out" .
rm -f "$out/.gitignore"
