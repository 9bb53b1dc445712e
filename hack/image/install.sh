#!/bin/sh
# install.sh WHEELHOUSE DIRECTORY: a virtual environment of these wheels, without what only its making needs.
set -eu
wheels=$1 target=$2
python3 -m venv "$target"
"$target/bin/python" -m pip -q install --disable-pip-version-check --no-index --no-deps --no-compile "$wheels"/*.whl
"$target/bin/python" -m pip -q uninstall -y --disable-pip-version-check setuptools pip 2> /dev/null || true
find "$target" -type d \( -name tests -o -name test \) -path '*/site-packages/*' -prune -exec rm -rf {} +
# Compiled here, since the root is read-only there: without it every start compiles all that it imports. Of the client's
# thousands of models only what the operator imports: the rest would be 45 MB for nothing.
"$target/bin/python" -m compileall -q -j 0 -x '/site-packages/kubernetes/' "$target"/lib/python3*/site-packages
PYTHONDONTWRITEBYTECODE='' "$target/bin/python" -c 'import medley.controller.operator'
"$target/bin/medley" --version
