"""Many services asked at once: on all cores where there are enough of them, each core keeping its own.

A question takes about 6 ms and needs no other service's answer. The processes keep what they have found of their
services from round to round, so only prices go out and answers come back; the order of the answers is that of the
services.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Protocol

from medley.allocation.backends.answer import Options
from medley.allocation.backends.pricing import Priced, Pricer
from medley.allocation.problem import Problem
from medley.allocation.shared import Shared

WORTHWHILE = {"fork": 40, "spawn": 300}
"""Services from which on starting processes pays: a fork takes milliseconds, a new interpreter about a second."""


class Crew(Protocol):
    """Whoever asks the services."""

    def ask(self, prices: Sequence[float], options: Options) -> list[Priced]:
        """What each service would use at these prices per GPU-hour of the shared lots."""
        ...

    def __enter__(self) -> Crew:
        """Start."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        ...


def crew_for(problems: Sequence[Problem], shared: Shared) -> Crew:
    """A crew on all cores for many services, in this process for few."""
    cores = len(os.sched_getaffinity(0))
    # A process with other threads must not be forked: a lock that one of them holds would stay locked.
    method = "fork" if threading.active_count() == 1 else "spawn"
    if cores < 2 or len(problems) < WORTHWHILE[method] or multiprocessing.parent_process() is not None:
        return _Inline(problems, shared)
    return _Processes(problems, shared, cores, method)


class _Inline:
    def __init__(self, problems: Sequence[Problem], shared: Shared) -> None:
        self._pricers = [Pricer(problem, shared) for problem in problems]

    def ask(self, prices: Sequence[float], options: Options) -> list[Priced]:
        return [pricer.ask(prices, options) for pricer in self._pricers]

    def __enter__(self) -> _Inline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class _Processes:
    """One process a core, with every n-th service."""

    def __init__(self, problems: Sequence[Problem], shared: Shared, cores: int, method: str) -> None:
        self._count = len(problems)
        context = multiprocessing.get_context(method)
        self._links: list[Connection] = []
        self._processes = []
        for first in range(cores):
            ours, theirs = context.Pipe()
            arguments = (theirs, problems[first::cores], shared)
            process = context.Process(target=_serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
            process.start()
            theirs.close()
            self._links.append(ours)
            self._processes.append(process)

    def ask(self, prices: Sequence[float], options: Options) -> list[Priced]:
        for link in self._links:
            link.send((list(prices), options))
        answers: list[Priced | None] = [None] * self._count
        for first, link in enumerate(self._links):
            answers[first :: len(self._links)] = link.recv()
        return [answer for answer in answers if answer is not None]

    def __enter__(self) -> _Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for link in self._links:
            # A forked process holds copies of the links before it, so that closing alone would not be noticed.
            with contextlib.suppress(OSError):
                link.send(None)
            link.close()
        for process in self._processes:
            process.join(timeout=5.0)
            if process.is_alive():
                process.kill()
                process.join()


def _serve(link: Connection, problems: Sequence[Problem], shared: Shared) -> None:
    """The life of a process: until it is told to stop, or the other end is closed."""
    crew = _Inline(problems, shared)
    with contextlib.suppress(EOFError, OSError):
        while (question := link.recv()) is not None:
            link.send(crew.ask(*question))
