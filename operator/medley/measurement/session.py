"""A measurement from beginning to end: warms up, makes the probes, keeps the journal, tells the progress.

It can be broken off at any time by cancelling: requests in flight are closed, finished probes stay in the journal, and
a run with the same journal goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from medley.measurement.adaptive import Plan, cells_of, measured_of, most_requests, next_probe, remaining
from medley.measurement.arrivals import schedule
from medley.measurement.client import Endpoint, RequestError
from medley.measurement.fit import fitted
from medley.measurement.journal import Journal
from medley.measurement.load import Limits, Load
from medley.measurement.probe import Ending, Loop, ProbeResult
from medley.model.errors import TransientError, UserError
from medley.model.workload import Size
from medley.profiles.latency import Unservable
from medley.profiles.measured import Measured, highest_rate

_WARM_UP_REQUESTS = 8
_LATE_MS = 20.0
_SPOILED_TO_GIVE_UP = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes:
        fraction: done, 0..1; never falls.
        remaining_s: seconds to go; None: not known yet.
        text: what is being done.
    """

    fraction: float
    remaining_s: float | None
    text: str


@dataclass(frozen=True, slots=True)
class CellSummary:
    """A size: its highest rate, and whether that was measured or lies between measured sizes."""

    size: Size
    rate_rps: float
    is_measured: bool
    reason: Unservable | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The result.

    Attributes:
        measured: the load points.
        cells: a summary of each size.
        probes: probes made, those of an earlier run with the same journal included.
        requests: requests sent.
        failed: requests that were not answered in full.
        seconds: time the probes took.
        notes: what a reader should know, e.g. that the client was too slow.
    """

    measured: Measured
    cells: tuple[CellSummary, ...]
    probes: int
    requests: int
    failed: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpectedLoad:
    """What a run will send: about, and at most.

    Attributes:
        requests: likely number.
        most_requests: upper bound.
        tokens: likely number, input and output together.
        seconds: likely duration; rough, as nothing is known of the replica yet.
        most_in_flight: upper bound.
    """

    requests: int
    most_requests: int
    tokens: int
    seconds: float
    most_in_flight: int


def expected_load(plan: Plan, results: int = 0) -> ExpectedLoad:
    """What a run with this plan will send; `results`: probes that a journal has already."""
    from medley.measurement.probe import open_requests

    sizes = plan.sizes
    measured = len(plan.seeds) + (1.0 if plan.measure_all else 0.6) * (len(sizes) - len(plan.seeds))
    running = min(32.0, plan.max_concurrency / 2)
    number = (plan.requests or open_requests(plan.target.percentile, running)) + 6 * running
    probes = max(1.0, 2.0 * measured - results)
    requests = probes * number + 100 * len(plan.seeds)
    mean_tokens = sum(size.input_tokens + size.output_tokens for size in sizes) / len(sizes)
    tpot_ms = plan.target.tpot_ms or 50.0
    mean_output = sum(size.output_tokens for size in sizes) / len(sizes)
    seconds = requests * mean_output * tpot_ms / 1000.0 / running
    return ExpectedLoad(
        round(requests), most_requests(plan), round(requests * mean_tokens), seconds, plan.max_concurrency
    )


class Session:
    """Runs a plan.

    Args:
        plan: what is to be found out.
        endpoint: what answers.
        journal: finished probes; those of an earlier run are not made again.
        limits: how far a probe may go.
        seed: of the arrivals.
        report: told the progress.
        clock: seconds, the endpoint's own clock.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        plan: Plan,
        endpoint: Endpoint,
        journal: Journal,
        limits: Limits,
        *,
        seed: int = 0,
        report: Callable[[Progress], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._plan = plan
        self._endpoint = endpoint
        self._journal = journal
        self._seed = seed
        self._report = report
        self._load = Load(endpoint, plan.target, limits, clock=clock, sleep=sleep)
        self._fraction = 0.0

    async def run(self) -> Measurement:
        """Makes all probes.

        Raises:
            UserError: the endpoint refuses such requests.
            TransientError: it does not answer any more, or this machine is too busy; the journal has what is finished.
        """
        if next_probe(self._plan, self._journal.results) is not None:
            await self._warm_up()
        spoiled = 0
        while (probe := next_probe(self._plan, self._journal.results)) is not None:
            results = self._journal.results
            arrivals = None
            if probe.loop is Loop.OPEN:
                model = fitted(results, self._plan.max_concurrency)
                arrivals = schedule(probe, self._plan.target, model, f"{self._seed} {len(results)}")
            requests_left, seconds_left = remaining(self._plan, results)
            sent = sum(result.sent for result in results)
            knows_time = any(result.probe.loop is Loop.OPEN for result in results)

            def tell(
                share: float,
                text: str = str(probe),
                sent: int = sent,
                to_send: int = probe.requests,
                left: float = max(requests_left, probe.requests),
                seconds: float | None = seconds_left if knows_time else None,
            ) -> None:
                now = share * to_send
                self._fraction = max(self._fraction, min(0.99, (sent + now) / (sent + left)))
                self._report(Progress(self._fraction, None if seconds is None else seconds * (1 - now / left), text))

            tell(0.0)
            result = await self._load.run(probe, arrivals, tell)
            self._journal.add(result)
            if result.ending is not Ending.CLIENT_LATE:
                spoiled = 0
            elif (spoiled := spoiled + 1) >= _SPOILED_TO_GIVE_UP:
                raise TransientError(
                    f"this machine is too busy to send on time ({result.late_ms:.0f} ms late, {spoiled} probes in a "
                    "row): run it on another one"
                )
        self._report(Progress(1.0, 0.0, "done"))
        return measurement(self._plan, self._journal.results)

    async def _warm_up(self) -> None:
        """A few requests that nobody measures: the first ones of a fresh server compile and allocate."""
        self._report(Progress(self._fraction, None, "warming up"))
        size = self._plan.seeds[0]
        try:
            for _ in range(_WARM_UP_REQUESTS):
                await self._endpoint.complete(size)
        except RequestError as error:
            if error.ends_the_run:
                raise UserError(str(error), field="--url") from error
            raise TransientError(str(error)) from error


def measurement(plan: Plan, results: list[ProbeResult]) -> Measurement:
    """What the results say so far; sizes that nothing brackets are left out."""
    measured = measured_of(plan, results)
    cells = []
    for size, cell in cells_of(plan, results).items():
        points = [point for point in measured.points if point.size == size]
        if points:
            found = highest_rate(points, plan.target)
            cells.append(CellSummary(size, found.rate_rps, is_measured=True, reason=found.reason))
        elif measured.points and not cell.open:
            found = measured.max_throughput(size, plan.target)
            cells.append(CellSummary(size, found.rate_rps, is_measured=False, reason=found.reason))
    return Measurement(
        measured=measured,
        cells=tuple(cells),
        probes=len(results),
        requests=sum(result.sent for result in results),
        failed=sum(result.failed for result in results),
        seconds=sum(result.seconds for result in results),
        notes=tuple(_notes(results)),
    )


def _notes(results: list[ProbeResult]) -> list[str]:
    notes = []
    late = [result for result in results if result.late_ms > _LATE_MS]
    if late:
        notes.append(
            f"in {len(late)} of {len(results)} probes the client sent late (up to {max(r.late_ms for r in late):.0f} "
            "ms): it is short of CPU, and latencies look worse than they are; run it elsewhere than the server"
        )
    cached = sum(result.cached_tokens for result in results)
    if cached:
        notes.append(f"{cached} prompt tokens came from a prefix cache although prompts are random: look at the server")
    failed = sum(result.failed for result in results)
    if failed:
        notes.append(f"{failed} requests failed; they count as having taken the time-out")
    overloaded = sum(1 for result in results if result.ending is Ending.OVERLOADED)
    if overloaded:
        notes.append(f"{overloaded} probes were ended as overloaded and give no load point")
    return notes
