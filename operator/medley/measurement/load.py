"""Puts a probe's load on an endpoint and turns the answers into a load point.

An open loop sends at the schedule's times whether or not earlier requests are answered, and keeps the load up until the
measured ones are. A closed loop keeps a number in flight; its slots start one after the other, so that they do not move
in lockstep. A request that fails counts as one that took the time-out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from medley.measurement.arrivals import Schedule
from medley.measurement.client import Endpoint, RequestError, RequestFault, Served
from medley.measurement.growth import GROWTH_LEAST, LOOK_EVERY, grows
from medley.measurement.probe import CLEARLY_MISSED, Ending, Loop, Probe, ProbeResult, latency_of
from medley.measurement.stand_in import percentile_of, worst_ratio
from medley.model.errors import TransientError, UserError
from medley.profiles.latency import LatencyTarget
from medley.profiles.measured import LoadPoint

_LEAST_ANSWERS = 8
_FAILURES_TO_GIVE_UP = 10
_DRAIN_LIVES = 3.0
_USELESS_LATE_MS = 250.0

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a probe may go.

    Attributes:
        max_concurrency: more requests in flight end the probe as overloaded.
        timeout_s: what a failed request counts as.
        probe_s: longest time of a probe.
    """

    max_concurrency: int
    timeout_s: float
    probe_s: float = 1800.0


@dataclass(slots=True)
class _Log:
    """What happened in a probe; `answers` by the number of the request."""

    answers: dict[int, Served | RequestError] = field(default_factory=dict)
    sent_s: dict[int, float] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    fatal: RequestError | None = None
    failures_in_a_row: int = 0


class Load:
    """Runs probes against one endpoint, one at a time.

    Args:
        endpoint: what answers.
        target: to see early that it is missed.
        limits: how far a probe may go.
        clock: seconds; the endpoint's own clock.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        target: LatencyTarget,
        limits: Limits,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._target = target
        self._limits = limits
        self._clock = clock
        self._sleep = sleep

    async def run(self, probe: Probe, plan: Schedule | None, progress: Progress = lambda _: None) -> ProbeResult:
        """Makes the probe; `plan` is the schedule of an open loop. Cancelling it closes what is in flight.

        Raises:
            UserError: the endpoint refuses such requests; the message has its words.
            TransientError: it does not answer any more.
        """
        log = _Log()
        begun_s = self._clock()
        if probe.loop is Loop.CLOSED:
            ending = await self._closed(probe, log, progress)
            slots = int(probe.level)
            measured = [number for number in sorted(log.answers) if slots <= number < slots + probe.requests]
        else:
            assert plan is not None
            ending = await self._open(probe, plan, log, progress)
            last = plan.first_measured + plan.measured
            measured = [number for number in sorted(log.answers) if plan.first_measured <= number < last]
        served = [answer for answer in log.answers.values() if isinstance(answer, Served)]
        late_ms = percentile_of(log.late_ms, 95.0) if log.late_ms else 0.0
        return ProbeResult(
            probe=probe,
            ending=Ending.CLIENT_LATE if late_ms > _USELESS_LATE_MS else ending,
            point=self._point(probe, log, measured),
            sent=len(log.sent_s),
            failed=len(log.answers) - len(served),
            seconds=self._clock() - begun_s,
            late_ms=late_ms,
            cached_tokens=sum(answer.cached_tokens for answer in served),
        )

    async def _closed(self, probe: Probe, log: _Log, progress: Progress) -> Ending:
        slots = int(probe.level)
        wanted = range(slots, slots + probe.requests)  # the first of each slot is warm-up
        numbers = itertools.count()
        begun_s = self._clock()
        life_s = 0.0
        unanswered = set(wanted)
        is_over = asyncio.Event()

        async def slot(place: int) -> None:
            nonlocal life_s
            # Not all at once: one slot begins, the others spread over one life of a request.
            if place:
                while not life_s:
                    await self._sleep(0.002)
                await self._sleep(life_s * place / slots)
            for number in numbers:  # also after the last one wanted, so that it is not served by an emptying batch
                await self._send(probe, number, log)
                life_s = life_s or max(self._clock() - begun_s, 1e-6)
                unanswered.discard(number)
                progress(1.0 - len(unanswered) / len(wanted))
                if not unanswered or log.fatal is not None:
                    is_over.set()
                    return

        tasks = [asyncio.create_task(slot(place)) for place in range(slots)]
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), self._limits.probe_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._raise_fatal(log)
        return Ending.TIME_LIMIT if unanswered else Ending.COMPLETE

    async def _open(self, probe: Probe, plan: Schedule, log: _Log, progress: Progress) -> Ending:
        begun_s = self._clock()
        tasks: set[asyncio.Task[None]] = set()
        news = asyncio.Event()
        ending: Ending | None = None
        looked_at = 0

        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            news.set()

        async def arrivals() -> None:
            for number, at_s in enumerate(plan.at_s):
                wait_s = begun_s + at_s - self._clock()
                if wait_s > 0:
                    await self._sleep(wait_s)
                log.late_ms.append(max(0.0, 1000.0 * (self._clock() - begun_s - at_s)))
                task = asyncio.create_task(self._send(probe, number, log))
                tasks.add(task)
                task.add_done_callback(done)
                if len(tasks) > self._limits.max_concurrency:
                    news.set()

        sender = asyncio.create_task(arrivals())
        sender.add_done_callback(lambda _: news.set())
        try:
            while ending is None:
                news.clear()
                with_limit_s = max(0.0, begun_s + self._limits.probe_s - self._clock())
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), min(with_limit_s, 1.0) or 0.001)
                self._raise_fatal(log)
                if len(tasks) > self._limits.max_concurrency:
                    ending = Ending.OVERLOADED
                elif self._clock() - begun_s >= self._limits.probe_s:
                    ending = Ending.TIME_LIMIT
                elif len(log.answers) - looked_at >= LOOK_EVERY or (sender.done() and not tasks):
                    looked_at = len(log.answers)
                    ending = self._judged(plan, log, probe.size.output_tokens, is_over=sender.done() and not tasks)
                    answered = sum(1 for number in log.answers if number >= plan.first_measured)
                    progress(min(1.0, answered / plan.measured))
            sender.cancel()
            if tasks and ending is Ending.COMPLETE:
                # The next probe should find an idle replica, also where a closed connection does not stop the work.
                life_s = (self._clock() - begun_s) / max(len(log.answers), 1) * len(tasks)
                await asyncio.wait(tasks, timeout=_DRAIN_LIVES * life_s)
            return ending
        finally:
            left = [sender, *tasks]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _judged(self, plan: Schedule, log: _Log, outputs: float, *, is_over: bool) -> Ending | None:
        """Whether the probe can end: all measured requests are answered, or it is plain how it ends."""
        first, last = plan.first_measured, plan.first_measured + plan.measured
        answered = []
        for number in range(first, last):
            if number not in log.answers:
                break
            answered.append(self._latencies(log.answers[number]))
        if len(answered) >= GROWTH_LEAST and grows([ttft + tpot * outputs for ttft, tpot in answered]):
            return Ending.OVERLOADED
        if len(answered) == plan.measured or is_over:
            return Ending.COMPLETE
        if len(answered) >= max(GROWTH_LEAST, 10.0 / (1.0 - self._target.percentile / 100.0)):
            at = self._target.percentile
            tpot_ms = percentile_of([tpot for _, tpot in answered], at)
            ttft_ms = percentile_of([ttft for ttft, _ in answered], at)
            if worst_ratio(tpot_ms, ttft_ms, self._target) > CLEARLY_MISSED:
                return Ending.CLEARLY_MISSED
        return None

    async def _send(self, probe: Probe, number: int, log: _Log) -> None:
        log.sent_s[number] = self._clock()
        try:
            log.answers[number] = await self._endpoint.complete(probe.size)
            log.failures_in_a_row = 0
        except RequestError as error:
            log.answers[number] = error
            log.failures_in_a_row += 1
            gone = error.fault is RequestFault.NOT_REACHED and log.failures_in_a_row >= _FAILURES_TO_GIVE_UP
            if log.fatal is None and (error.ends_the_run or gone):
                log.fatal = error

    def _raise_fatal(self, log: _Log) -> None:
        if log.fatal is None:
            return
        if log.fatal.ends_the_run:
            raise UserError(str(log.fatal), field="--url") from log.fatal
        raise TransientError(str(log.fatal)) from log.fatal

    def _latencies(self, answer: Served | RequestError) -> tuple[float, float]:
        """TTFT and TPOT in ms."""
        if isinstance(answer, RequestError):
            return 1000.0 * self._limits.timeout_s, 1000.0 * self._limits.timeout_s
        return answer.ttft_ms, answer.tpot_ms

    def _point(self, probe: Probe, log: _Log, measured: list[int]) -> LoadPoint | None:
        served = [answer for number in measured if isinstance(answer := log.answers[number], Served)]
        if len(served) < _LEAST_ANSWERS:
            return None
        found = [self._latencies(log.answers[number]) for number in measured]
        if probe.loop is Loop.OPEN:  # in a steady state as many go as come, and when they came is known exactly
            times_s = [log.sent_s[number] for number in measured]
        else:
            times_s = sorted(answer.last_s for answer in served)
        rate = (len(times_s) - 1) / max(times_s[-1] - times_s[0], 1e-9)
        if probe.loop is Loop.CLOSED and probe.level == 1.0:
            rate = len(served) / sum(answer.last_s - answer.sent_s for answer in served)
        mean_life_s = sum(answer.last_s - answer.sent_s for answer in served) / len(served)
        return LoadPoint(
            size=probe.size,
            rate_rps=rate,
            tpot=latency_of([tpot for _, tpot in found]),
            ttft=latency_of([ttft for ttft, _ in found]),
            concurrency=rate * mean_life_s if probe.loop is Loop.OPEN else probe.level,
            requests=len(found),
        )
