"""The demo as a user runs it: it ends by itself with one object of numbers, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.e2e]

DEMO = [sys.executable, "-m", "medley.cli.main", "demo"]
NUMBERS = {
    "decisions", "distinct_mixes", "gpu_types_used", "cost_per_hour", "best_single_cost_per_hour", "slo_attainment",
    "pods_ready",
}  # fmt: skip


def processes_of(marker: str) -> list[str]:
    """Command lines of processes that name a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = entry.read_bytes().replace(b"\0", b" ").decode()
            if marker in line:
                found.append(line)
    return found


def test_it_ends_by_itself_with_one_object_of_numbers(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--duration", "30"], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True,
        check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first, last = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert first.startswith("Offline plan"), "the plan comes before anything is built"
    summary = json.loads(last)
    assert set(summary) == NUMBERS
    assert all(isinstance(value, int | float) for value in summary.values()), summary
    assert summary["decisions"] >= 1
    assert summary["pods_ready"] >= 2
    assert not list(tmp_path.glob("medley-*"))
    assert not processes_of(str(tmp_path))


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        DEMO, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert demo.stdout is not None
    for line in demo.stdout:
        if "traffic begins" in line:
            break
    time.sleep(3)
    assert processes_of(str(tmp_path)), "it runs"
    os.killpg(demo.pid, signal.SIGINT)
    rest = demo.stdout.read()
    assert demo.wait(timeout=60) == 130, rest
    assert "Traceback" not in rest
    assert not list(tmp_path.glob("medley-*"))
    assert not processes_of(str(tmp_path))
