"""Work at due times: a few threads that run functions now or later."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Agenda:
    """Runs functions once they are due, the earliest first, on a fixed number of threads."""

    def __init__(self, name: str, threads: int) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        for number in range(threads):
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def add(self, action: Callable[[], None], *, delay_s: float = 0.0) -> None:
        """Runs `action` after `delay_s`; dropped when the agenda closes before."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._order), action))
            self._changed.notify()

    def close(self) -> None:
        """Drops what is not due yet and lets the threads end."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:  # one action's failure must not end the thread for all others
                _log.exception("a planned action failed")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait_s)
        return None
