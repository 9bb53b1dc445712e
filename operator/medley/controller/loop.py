"""The planning loop: a cycle every interval, and soon after something relevant changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medley.actuation.cluster_api import ClusterApi
from medley.api.snapshot_file import Record, dump
from medley.controller.health import Health
from medley.controller.memory import Memory
from medley.controller.observe import observe
from medley.controller.write import Writer
from medley.cycle.decide import decide
from medley.cycle.decision import Decision
from medley.cycle.snapshot import Settings
from medley.model.errors import MedleyError
from medley.ports import MetricsSource
from medley.telemetry.exporter import Exporter

_log = logging.getLogger(__name__)

DEBOUNCE_S = 0.5
KEEP_SNAPSHOTS = 50


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Of the loop itself.

    Attributes:
        interval_s: between cycles when nothing happens.
        snapshot_dir: where each cycle's record is written; None: nowhere.
        namespaces: that are looked after; none: all.
    """

    interval_s: float = 15.0
    snapshot_dir: Path | None = None
    namespaces: tuple[str, ...] = ()


class Loop:
    """Runs cycles. Thread-safe entry: `changed()`."""

    def __init__(
        self,
        api: ClusterApi,
        metrics: MetricsSource | None,
        settings: Settings,
        loop_settings: LoopSettings,
        clock: Callable[[], float] = time.time,
        health: Health | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._settings = settings
        self._loop_settings = loop_settings
        self._clock = clock
        self._exporter = exporter
        self._health = health or Health(loop_settings.interval_s)
        self._memory = Memory(keep_s=2.0 * settings.stabilisation_s + 60.0)
        self._writer = Writer(api)
        self._wake = asyncio.Event()
        self._cycles = 0
        self._complaint = ""

    def changed(self) -> None:
        """Something relevant changed: plan soon. Call from the loop's own thread."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Cycles until `stop` is set."""
        while not stop.is_set():
            await asyncio.to_thread(self.cycle)
            waiter = asyncio.create_task(self._wake.wait())
            stopper = asyncio.create_task(stop.wait())
            await asyncio.wait({waiter, stopper}, timeout=self._loop_settings.interval_s, return_when="FIRST_COMPLETED")
            waiter.cancel()
            stopper.cancel()
            if self._wake.is_set():
                await asyncio.sleep(DEBOUNCE_S)
                self._wake.clear()

    def cycle(self) -> Decision | None:
        """One cycle; None if the cluster could not be read, or something failed: then nothing was changed by it."""
        self._health.began()
        fault = "a cycle failed: see the log"
        began_s, snapshot, done = time.monotonic(), None, None
        try:
            observed = observe(
                self._api, self._metrics, self._memory, self._settings, self._clock, self._loop_settings.namespaces
            )
            snapshot = observed.snapshot
            decision = decide(snapshot)
            self._record(Record(snapshot, decision))
            self._writer.write(observed, decision)
            self._memory.remember(decision, snapshot.taken_at_s)
            done = decision
            fault = ""
        except MedleyError as error:
            fault = f"no cycle: {error}"
            self._say_once(fault)
            return None
        except Exception:
            # The loop must outlive its bugs: what runs goes on running, and the next cycle tries again.
            _log.exception("a cycle failed; nothing more is changed by it")
            return None
        finally:
            self._health.ended(fault)
            if self._exporter is not None:
                self._exporter.cycle(time.monotonic() - began_s, snapshot, done)
        self._complaint = ""
        self._cycles += 1
        return decision

    def _say_once(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            _log.warning(text)

    def _record(self, record: Record) -> None:
        directory = self._loop_settings.snapshot_dir
        if directory is None:
            return
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stamp = f"{record.snapshot.taken_at_s:.3f}".replace(".", "-")
            target = directory / f"cycle-{stamp}.json"
            partial = target.with_suffix(".partial")
            partial.write_text(dump(record), encoding="utf-8")
            partial.replace(target)
            for old in sorted(directory.glob("cycle-*.json"))[:-KEEP_SNAPSHOTS]:
                old.unlink(missing_ok=True)
        except OSError as error:
            self._say_once(f"the snapshot could not be written: {error}")
