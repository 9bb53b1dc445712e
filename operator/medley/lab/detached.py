"""A lab that outlives the command that started it: what `medley lab up`, `down` and `status` do.

`up` starts one resident process in a session of its own. That process runs the control plane, the fake kubelet and the
node group controller as its children and threads, so ending it ends all of them, in whatever way it ends. It writes a
state file once the lab takes work; the other commands find it there.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from medley.lab import tools
from medley.lab.control_plane import ControlPlane, require_fresh
from medley.lab.fake_kubelet import FakeKubelet
from medley.lab.node_group import NodeGroupController
from medley.lab.processes import Lifetime, SupervisedProcess
from medley.lab.tools import Progress
from medley.model.errors import MedleyError, TransientError

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
_WATCH_PAUSE_S = 1.0


class LabState(StrEnum):
    """How the detached lab is."""

    DOWN = "Down"
    UP = "Up"
    DEAD = "Dead"
    """It was started and ended without `down`; `up` or `down` clears that away."""


@dataclass(frozen=True)
class LabStatus:
    """What there is to know about the detached lab."""

    state: LabState
    url: str = ""
    """Address of the API server; empty unless it is up."""
    kubeconfig: str = ""
    directory: str = ""
    version: str = ""
    """Version of the API server."""
    pid: int = 0
    """The resident process."""
    started_at: str = ""
    log: str = ""
    """The resident's log file."""


@dataclass(frozen=True)
class _Record:
    """The state file."""

    url: str
    kubeconfig: str
    directory: str
    version: str
    pid: int
    started_at: str
    start_ticks: int
    """The kernel's start time of `pid`, so that a reused process id is not taken for the lab."""


def up(directory: Path | None = None, *, progress: Progress) -> LabStatus:
    """Starts the detached lab unless it is up.

    Args:
        directory: for its files; must be empty or absent, and goes at `down`. Default: in the user's state directory.
        progress: told what is going on, one line at a time.

    Raises:
        UserError: a binary cannot be had, or the directory is in use.
        TransientError: the lab did not start in time; the message has the end of its log.
    """
    with _lock():
        current = status()
        if current.state is LabState.UP:
            progress(f"the lab is up already at {current.url}")
            return current
        _clear()
        place = directory.absolute() if directory else _state_directory() / "cluster"
        require_fresh(place)
        tools.ensure(tools.CONTROL_PLANE_TOOLS, progress)  # here, where somebody sees the progress of a build
        progress("starting the lab")
        _log_file().unlink(missing_ok=True)
        resident = SupervisedProcess.start(
            "medley lab",
            [sys.executable, "-P", "-m", __name__, "--directory", place],
            log=_log_file(),
            lifetime=Lifetime.DETACHED,
        )
        try:
            resident.wait_until(_state_file().exists, timeout_s=_START_TIMEOUT_S, what="starting the lab")
        except BaseException:
            resident.stop()
            raise
        current = status()
    progress(f"the lab is up at {current.url}")
    return current


def down() -> LabStatus:
    """Stops the detached lab and removes its files; a lab that is not up is fine.

    Raises:
        TransientError: it did not end in time.
    """
    with _lock():
        record = _read_record()
        if record is not None and _is_alive(record):
            os.kill(record.pid, signal.SIGTERM)
            if not _wait_until(lambda: not _is_alive(record), _STOP_TIMEOUT_S):
                os.kill(record.pid, signal.SIGKILL)
                if not _wait_until(lambda: not _is_alive(record), _STOP_TIMEOUT_S):
                    raise TransientError(f"the lab's process {record.pid} does not end")
        _clear()
        return status()


def status() -> LabStatus:
    """How the detached lab is, from its state file and the process behind it."""
    record = _read_record()
    if record is None:
        return LabStatus(LabState.DOWN)
    state = LabState.UP if _is_alive(record) else LabState.DEAD
    return LabStatus(
        state=state,
        url=record.url,
        kubeconfig=record.kubeconfig,
        directory=record.directory,
        version=record.version,
        pid=record.pid,
        started_at=record.started_at,
        log=str(_log_file()),
    )


def _state_directory() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base else Path.home() / ".local" / "state") / "medley" / "lab"


def _state_file() -> Path:
    return _state_directory() / "state.json"


def _log_file() -> Path:
    return _state_directory() / "lab.log"


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    path = _state_directory() / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_record() -> _Record | None:
    try:
        return _Record(**json.loads(_state_file().read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # absent, or written by another version of Medley
        return None


def _clear() -> None:
    """Removes what a lab that is gone may have left."""
    record = _read_record()
    if record is not None:
        shutil.rmtree(record.directory, ignore_errors=True)
    _state_file().unlink(missing_ok=True)


def _is_alive(record: _Record) -> bool:
    return _start_ticks(record.pid) == record.start_ticks


def _start_ticks(pid: int) -> int | None:
    """When the kernel started `pid`, or None if there is no such process or it is a zombie."""
    try:
        # The name in parentheses may hold anything: what counts comes after its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _wait_until(predicate: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _reside(directory: Path) -> int:
    """The resident process: runs the lab until it is told to end, or until a part of it dies."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    log = logging.getLogger(__name__)
    with (
        ControlPlane.start(progress=log.info, directory=directory) as control_plane,
        FakeKubelet(control_plane.kubeconfig),
        NodeGroupController(control_plane.kubeconfig),
    ):
        pid = os.getpid()
        record = _Record(
            url=control_plane.url,
            kubeconfig=str(control_plane.kubeconfig),
            directory=str(control_plane.kubeconfig.parent),
            version=str(control_plane.api().get("/version")["gitVersion"]),
            pid=pid,
            started_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            start_ticks=_start_ticks(pid) or 0,
        )
        draft = _state_file().with_suffix(".draft")
        draft.write_text(json.dumps(asdict(record)))
        draft.replace(_state_file())
        while not ending.wait(_WATCH_PAUSE_S):
            if not control_plane.running():
                log.error("a part of the control plane died: ending the lab")
                return 1
    _state_file().unlink(missing_ok=True)
    return 0


def _main() -> int:
    parser = argparse.ArgumentParser(description="The resident process of `medley lab up`; not for use by hand.")
    parser.add_argument("--directory", type=Path, required=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return _reside(parser.parse_args().directory)
    except MedleyError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(_main())
