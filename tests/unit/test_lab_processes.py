"""Child processes of the lab, on real ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medley.lab.processes import SupervisedProcess

# Eight threads that compute at once: hashing more than 2,047 bytes is done without the interpreter's lock.
_BUSY = """
import hashlib, threading
data = bytes(1 << 20)
def work():
    while True:
        hashlib.sha256(data)
for _ in range(8):
    threading.Thread(target=work).start()
print("busy", flush=True)
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[SupervisedProcess]:
    child = SupervisedProcess.start("busy", [sys.executable, "-c", _BUSY], log=tmp_path / "busy.log")
    try:
        child.wait_until(lambda: "busy" in child.last_lines(), timeout_s=30.0, what="its threads")
        yield child
    finally:
        child.stop(grace_s=0)


def thread_states(child: SupervisedProcess) -> set[str]:
    """As proc(5) names them: R runs or could, S sleeps, T is stopped by a signal."""
    tasks = Path(f"/proc/{child.pid}/task").iterdir()
    return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}


def test_no_thread_of_a_frozen_child_runs_once_freeze_has_returned(busy: SupervisedProcess) -> None:
    for _ in range(50):  # with the signal alone, one of the first few finds a thread that runs
        busy.freeze()
        assert thread_states(busy) == {"T"}
        busy.thaw()
        busy.wait_until(lambda: "R" in thread_states(busy), timeout_s=10.0, what="it to go on")


def test_a_frozen_child_can_be_frozen_again_and_ends_at_once_when_killed(busy: SupervisedProcess) -> None:
    busy.freeze()
    busy.freeze()
    busy.stop(grace_s=0)
    assert not busy.running()


def test_freezing_a_child_that_is_gone_returns(busy: SupervisedProcess) -> None:
    busy.stop(grace_s=0)
    busy.freeze()
    busy.thaw()
    assert not busy.running()
