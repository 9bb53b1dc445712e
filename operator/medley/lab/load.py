"""The load generator: sends a trace's requests at their times and records what clients experience.

It is an open loop: a request is sent when the trace says so, whether or not earlier ones are answered, as real clients
do. Latencies are the client's: TTFT from sending to the first streamed token, TPOT over the decode alone, that is
(last token - first token) / (tokens - 1).
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

import aiohttp

from medley.lab.router import Target
from medley.lab.traces import Trace, TraceRequest

Pick = Callable[[TraceRequest], Target | None]
Repick = Callable[[TraceRequest, Target], Target | None]


class OutcomeStatus(StrEnum):
    """How a request ended: served, not accepted by anybody, or broken off after it was accepted."""

    OK = "OK"
    REFUSED = "Refused"
    FAILED = "Failed"


class Latency(Enum):
    """Which of a request's latencies."""

    TTFT = "ttft"
    TPOT = "tpot"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client experienced.

    Attributes:
        at_s: when it was to be sent, in the trace's time.
        input_tokens: prompt tokens.
        output_tokens: tokens received.
        ttft_ms: time to the first token; NaN if none came.
        tpot_ms: time per output token after the first; 0 with one token, NaN unless OK.
        variant: which variant had it; empty if none.
        status: how it ended.
    """

    at_s: float
    input_tokens: int
    output_tokens: int
    ttft_ms: float
    tpot_ms: float
    variant: str
    status: OutcomeStatus


def slo_attainment(
    outcomes: Sequence[Outcome], *, tpot_ms: float | None = None, ttft_ms: float | None = None, since_s: float = 0.0
) -> float:
    """Share of the requests sent since then that were served within every given objective.

    Refused and failed requests count as missed. NaN if no request was sent.
    """
    sent = met = 0
    for outcome in outcomes:
        if outcome.at_s < since_s:
            continue
        sent += 1
        met += (
            outcome.status is OutcomeStatus.OK
            and (tpot_ms is None or outcome.tpot_ms <= tpot_ms)
            and (ttft_ms is None or outcome.ttft_ms <= ttft_ms)
        )
    return met / sent if sent else math.nan


def latency_percentile(
    outcomes: Sequence[Outcome], latency: Latency, percentile: float, *, since_s: float = 0.0
) -> float:
    """The latency in ms at a percentile (0..100) of the requests served since then; NaN if there are none."""
    values = sorted(
        outcome.ttft_ms if latency is Latency.TTFT else outcome.tpot_ms
        for outcome in outcomes
        if outcome.at_s >= since_s and outcome.status is OutcomeStatus.OK
    )
    if not values:
        return math.nan
    return values[max(0, math.ceil(percentile / 100.0 * len(values)) - 1)]


class _NotAcceptedError(Exception):
    """The server answered with an error instead of a stream."""


@dataclass(slots=True)
class _Received:
    """What came back on one stream."""

    first_s: float = math.nan
    last_s: float = math.nan
    tokens: int = 0
    is_complete: bool = False


class LoadGenerator:
    """Sends a trace and records outcomes.

    `run` works in the caller's event loop; `start` and `stop` run it in a thread of its own.

    Args:
        trace: what to send.
        pick: chooses the target of a request; None refuses it.
        repick: chooses another target after one refused the connection; without it `pick` is asked again.
        done: told when a picked target's request has ended.
        model_name: sent as `model`; None leaves it out.
        timeout_s: a request that takes longer fails.
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        trace: Trace,
        pick: Pick,
        *,
        repick: Repick | None = None,
        done: Callable[[Target], None] | None = None,
        model_name: str | None = None,
        timeout_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._trace = trace
        self._pick = pick
        self._repick = repick
        self._done = done
        self._model_name = model_name
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self._started_s = math.nan
        self._in_flight = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None

    def outcomes(self) -> tuple[Outcome, ...]:
        """All outcomes so far, in order of completion. Thread-safe."""
        with self._lock:
            return tuple(self._outcomes)

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""
        return self._in_flight

    @property
    def elapsed_s(self) -> float:
        """Seconds since the trace began, in the time of `Outcome.at_s`; NaN before."""
        return self._clock() - self._started_s

    async def run(self) -> None:
        """Sends the whole trace and waits for the last outcome."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)  # a kept connection may belong to a stopped pod
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        self._started_s = self._clock()
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as requests,
        ):
            for request in self._trace:
                delay_s = self._started_s + request.at_s - self._clock()
                if delay_s > 0:
                    await self._sleep(delay_s)
                requests.create_task(self._serve(session, request))

    def start(self) -> None:
        """Runs in a thread of its own; returns at once."""
        if self._thread is not None:
            raise RuntimeError("the load generator was started before")
        ready = threading.Event()

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._running = asyncio.create_task(self.run())
            ready.set()
            # A stop cancels the task; that is the regular end here.
            await asyncio.wait([self._running])
            if not self._running.cancelled() and (error := self._running.exception()) is not None:
                raise error

        self._thread = threading.Thread(target=lambda: asyncio.run(main()), name="load-generator", daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Breaks off what is under way, without outcomes, and ends the thread."""
        if self._thread is None or self._loop is None or self._running is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._running.cancel)
        self._thread.join()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits until the trace is sent and answered; returns whether it is."""
        if self._thread is None:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    async def _serve(self, session: aiohttp.ClientSession, request: TraceRequest) -> None:
        self._in_flight += 1
        target = self._pick(request)
        held = [] if target is None else [target]
        received = _Received()
        status: OutcomeStatus | None = None
        sent_s = self._clock()
        try:
            if target is not None:
                status = await self._attempt(session, request, target, received)
                if status is None:  # nothing was sent, so sending it elsewhere cannot do it twice
                    target = self._other(request, target)
                    if target is not None:
                        held.append(target)
                        status = await self._attempt(session, request, target, received)
        finally:
            # Both targets stay outstanding to the end: one that refuses would otherwise look like the least busy.
            self._in_flight -= 1
            if self._done is not None:
                for each in held:
                    self._done(each)
        self._record(request, held[-1].variant if held else "", status or OutcomeStatus.REFUSED, received, sent_s)

    def _other(self, request: TraceRequest, refused: Target) -> Target | None:
        if self._repick is not None:
            return self._repick(request, refused)
        other = self._pick(request)
        if other == refused:
            if self._done is not None:
                self._done(other)
            return None
        return other

    async def _attempt(
        self, session: aiohttp.ClientSession, request: TraceRequest, target: Target, received: _Received
    ) -> OutcomeStatus | None:
        """Sends the request once; None: the connection was refused, nothing was sent."""
        try:
            await self._stream(session, request, target, received)
        except aiohttp.ClientConnectorError:
            return None
        except _NotAcceptedError:
            return OutcomeStatus.REFUSED
        except (aiohttp.ClientError, TimeoutError, OSError):
            return OutcomeStatus.FAILED
        return OutcomeStatus.OK if received.is_complete else OutcomeStatus.FAILED

    async def _stream(
        self, session: aiohttp.ClientSession, request: TraceRequest, target: Target, received: _Received
    ) -> None:
        body: dict[str, Any] = {
            "prompt": "load",
            "sim_input_tokens": request.input_tokens,
            "max_tokens": request.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._model_name is not None:
            body["model"] = self._model_name
        async with session.post(f"{target.base_url}/v1/completions", json=body) as response:
            if response.status != 200:
                raise _NotAcceptedError(f"{target.base_url} answered {response.status}")
            rest = b""
            async for data in response.content.iter_any():
                now_s = self._clock()
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    _take_in(event, now_s, received)

    def _record(
        self, request: TraceRequest, variant: str, status: OutcomeStatus, received: _Received, sent_s: float
    ) -> None:
        tpot_ms = math.nan
        if status is OutcomeStatus.OK:
            tokens = received.tokens
            tpot_ms = 1000.0 * (received.last_s - received.first_s) / (tokens - 1) if tokens > 1 else 0.0
        outcome = Outcome(
            at_s=request.at_s,
            input_tokens=request.input_tokens,
            output_tokens=received.tokens,
            ttft_ms=1000.0 * (received.first_s - sent_s),
            tpot_ms=tpot_ms,
            variant=variant,
            status=status,
        )
        with self._lock:
            self._outcomes.append(outcome)


def _take_in(event: bytes, now_s: float, received: _Received) -> None:
    """One server-sent event; only the usage is parsed, chunks are told apart by their bytes to save time."""
    if event == b"data: [DONE]":
        received.is_complete = True
    elif b'"usage":{' in event:
        received.tokens = int(json.loads(event.removeprefix(b"data: "))["usage"]["completion_tokens"])
    elif event.startswith(b"data: "):
        if math.isnan(received.first_s):
            received.first_s = now_s
        received.last_s = now_s
