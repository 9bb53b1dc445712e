"""Child processes of the lab that cannot outlive it.

Three things see to that. Each child runs in a session of its own, so a Ctrl-C in the terminal reaches only the parent,
which then stops its children in order. The kernel kills each child when the parent dies in any way, SIGKILL included
(PR_SET_PDEATHSIG). And a `DirectoryGuard` removes the files that a killed parent could not remove.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from medley.model.errors import TransientError

_TAIL_LINES = 15
_POLL_S = 0.05
# Below the range from which the kernel takes the ports of outgoing connections, so that none is taken in between.
_PORTS = range(20000, 32000)

# Runs the command given to it in its own place. A wrapper and not preexec_fn: that is unsafe in a program with threads.
_WRAPPER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG; it lives on through exec
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

_GUARD = """
trap '' INT TERM HUP
cat >/dev/null
for try in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$1"
  sleep 0.2
  [ -e "$1" ] || exit 0
done
"""


class Lifetime(StrEnum):
    """How long a child may live."""

    PARENT = "Parent"
    """Dies with the process that started it."""
    DETACHED = "Detached"
    """Lives on until somebody stops it."""


class _Spawner:
    """One thread that starts all children.

    The kernel ties PR_SET_PDEATHSIG to the thread that forked, not to its process: a child started by a short-lived
    thread would die with that thread. This one lives as long as the process.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._owner_pid = 0

    def start(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Calls `spawn` in the spawner's thread and gives back its result."""
        answers: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

        def job() -> None:
            try:
                answers.put(spawn())
            except OSError as error:
                answers.put(error)

        with self._lock:
            if self._owner_pid != os.getpid():  # the first use, or the first one after a fork
                self._owner_pid = os.getpid()
                threading.Thread(target=self._run, name="lab-spawner", daemon=True).start()
        self._jobs.put(job)
        answer = answers.get()
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _run(self) -> None:
        while True:
            self._jobs.get()()


_spawner = _Spawner()


class SupervisedProcess:
    """One child with its log file; stopping it takes its whole process group."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        lifetime: Lifetime = Lifetime.PARENT,
        environment: Mapping[str, str] | None = None,
    ) -> SupervisedProcess:
        """Starts `command` (an absolute path and its arguments), its output appended to `log`."""
        args = [str(part) for part in command]
        if lifetime is Lifetime.PARENT and sys.platform == "linux":
            args = [sys.executable, "-I", "-S", "-c", _WRAPPER, str(os.getpid()), *args]

        def spawn() -> subprocess.Popen[bytes]:
            with log.open("ab") as output:
                return subprocess.Popen(
                    args,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=None if environment is None else {**os.environ, **environment},
                )

        return cls(name, _spawner.start(spawn), log)

    @property
    def pid(self) -> int:
        """The child's process id, which is also its process group's."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of a child that has ended; negative: the signal that ended it."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the child's process group; a child that is gone is fine."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def freeze(self) -> None:
        """Stops the child until `thaw`, as on a machine that hangs; it does nothing any more when this returns.

        SIGSTOP alone is not enough: kill(2) returns before it is delivered, and on a busy machine the child's threads
        were seen to run on for 15 ms, long enough to answer. A child that is gone is fine.
        """
        self.signal(signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):
            # Stopped is reported once the last thread stands; WEXITED and WNOWAIT: a dead child is left to be reaped.
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Lets a frozen child go on; any other child does not notice."""
        self.signal(signal.SIGCONT)

    def stop(self, grace_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL after `grace_s` (0: at once). Safe to call again."""
        if self.running() and grace_s > 0:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=grace_s)
        if self.running():
            self.signal(signal.SIGKILL)
            self._process.wait()

    def last_lines(self) -> str:
        """The end of the child's log, for an error message."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def wait_until(self, predicate: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        """Polls `predicate`.

        Raises:
            TransientError: the child died or the time ran out; the message carries the last lines of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not predicate():
            if not self.running():
                reason = f"it ended with status {self._process.returncode}"
            elif time.monotonic() > deadline:
                reason = f"not within {timeout_s:g} s"
            else:
                time.sleep(_POLL_S)
                continue
            raise TransientError(f"{self.name}: {what}: {reason}. Its last lines:\n{self.last_lines()}")


class DirectoryGuard:
    """Removes a directory when this process dies without doing so.

    A shell waits on a pipe that only this process holds: the pipe ends with the process, however that dies.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def remove(self) -> None:
        """Removes the directory now and lets the guard go. Safe to call again."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


_handed_out: set[int] = set()
_ports_lock = threading.Lock()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on and that this process was not given before."""
    with _ports_lock:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if port not in _handed_out and can_bind(host, port):
                _handed_out.add(port)
                return port
    raise TransientError(f"no free TCP port on {host} between {_PORTS.start} and {_PORTS.stop}")


def can_bind(host: str, port: int) -> bool:
    """Whether a listener could be opened at this address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
