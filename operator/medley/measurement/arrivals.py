"""When the requests of an open loop are sent: Poisson arrivals, chosen to be representative.

A percentile of latency under random arrivals is a noisy thing: with 600 requests, one draw of arrivals gives a p95 that
is easily 7-13 % off the next one's, because one draw has a worse burst than another. So several dozen draws are made,
each is played through the fitted stand-in (`stand_in`), and the one is sent whose percentiles there are nearest those
of a long run. What remains is about 1 % of TPOT and 2 % of TTFT. A draw with a busy while in which even the stand-in
looks overloaded is passed over: it would end its probe early, at a rate that the replica bears. The draws are honest
Poisson arrivals; if the stand-in is wrong, they are merely ordinary ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from medley.measurement.growth import GROWTH, ever_grows
from medley.measurement.probe import Probe
from medley.measurement.stand_in import gaps_of, latencies, long_run, percentile_of
from medley.profiles.latency import LatencyTarget
from medley.profiles.step import StepModel

_DRAWS = 64
_SETTLING_LIVES = 2.5  # a queue has forgotten how it began after about this many lives of a request
_TAIL_LIVES = 3.0
_CLEAR_OF_GROWTH = 0.85  # of what is called growth: the replica is not exactly the stand-in


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to send, in seconds from the start, ascending.

    Attributes:
        at_s: all of them: warm-up, measured, and a tail that keeps up the load until the measured ones are answered.
        first_measured: index of the first that counts.
        measured: how many count.
    """

    at_s: tuple[float, ...]
    first_measured: int
    measured: int


def schedule(probe: Probe, target: LatencyTarget, model: StepModel | None, seed: str) -> Schedule:
    """The arrivals of an open-loop probe."""
    rate = probe.level
    life_s = 1.0 if model is None else _life_s(probe, target, model)
    before = max(10, math.ceil(_SETTLING_LIVES * life_s * rate))
    after = max(10, math.ceil(_TAIL_LIVES * life_s * rate))
    draws = [_draw(f"{seed} {number}", rate, before, probe.requests, after) for number in range(_DRAWS if model else 1)]
    if model is None:
        best = draws[0]
    else:
        draws.sort(key=_oddness(probe, target, model, before))
        best = next((draw for draw in draws if not _looks_overloaded(probe, model, before, draw)), draws[0])
    return Schedule(best, before, probe.requests)


def _life_s(probe: Probe, target: LatencyTarget, model: StepModel) -> float:
    """How long a request takes: by the stand-in, but no longer than the objectives allow."""
    tpot_ms, ttft_ms = long_run(model, probe.size, probe.level, 50.0)
    tpot_ms = min(tpot_ms, math.inf if target.tpot_ms is None else target.tpot_ms)
    ttft_ms = min(ttft_ms, math.inf if target.ttft_ms is None else target.ttft_ms)
    return (ttft_ms + tpot_ms * probe.size.output_tokens) / 1000.0


def _draw(seed: str, rate_rps: float, before: int, measured: int, after: int) -> tuple[float, ...]:
    gaps = gaps_of(seed, before + measured + after)
    # The measured part has the asked rate exactly: else a point would differ from its own label by 1/√n.
    part = gaps[before : before + measured]
    scale = len(part) / sum(part)
    at_s, times = 0.0, []
    for gap in gaps:
        at_s += gap * scale / rate_rps
        times.append(at_s)
    return tuple(times)


def _oddness(
    probe: Probe, target: LatencyTarget, model: StepModel, before: int
) -> Callable[[tuple[float, ...]], float]:
    """How far a draw's percentiles in the stand-in are from a long run's; the objective that binds weighs most."""
    usual = long_run(model, probe.size, probe.level, target.percentile)
    usual_mean = long_run(model, probe.size, probe.level, 50.0)
    objectives = (target.tpot_ms, target.ttft_ms)
    weights = [
        0.0 if goal is None else min(1.0, value / goal) ** 2 for value, goal in zip(usual, objectives, strict=True)
    ]

    def oddness(at_s: tuple[float, ...]) -> float:
        seen = latencies(model, probe.size, at_s)
        found = 0.0
        for values, weight, expected, middle in zip(seen, weights, usual, usual_mean, strict=True):
            part = values[before : before + probe.requests]
            found += weight * abs(math.log(percentile_of(part, target.percentile) / expected))
            found += 0.25 * weight * abs(math.log(percentile_of(part, 50.0) / middle))
        return found

    return oddness


def _looks_overloaded(probe: Probe, model: StepModel, before: int, at_s: tuple[float, ...]) -> bool:
    """Whether the stand-in takes ever longer under this draw: at a rate that it bears, that is the draw's doing."""
    seen = zip(*latencies(model, probe.size, at_s), strict=True)
    lives_ms = [ttft_ms + tpot_ms * probe.size.output_tokens for tpot_ms, ttft_ms in seen]
    return ever_grows(lives_ms[before : before + probe.requests], _CLEAR_OF_GROWTH * GROWTH)
