"""The demo: real traffic shapes on a whole small world, shown while it happens, summed up in one object at the end."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from medley.allocation.problem import Outcome as PlanOutcome
from medley.api.snapshot_file import Record, load
from medley.cycle.decision import ServiceDecision
from medley.lab.access_demo import beside
from medley.lab.access_show import AccessShow
from medley.lab.load import Latency, Outcome, latency_percentile, slo_attainment
from medley.lab.loop_scene import Load, LoopScene
from medley.lab.scene import Scene
from medley.lab.traces import Shape, Trace, compress, recorded_trace, scaled, shaped
from medley.model.errors import MedleyError, TransientError
from medley.model.objects import API_VERSION, Service
from medley.model.workload import Knowledge
from medley.workload.estimate import COMPLETE

RATE_LEVEL = 0.8
"""Share of the recorded rate (5.5 req/s) that the demo sends as its 1 ×."""

SHAPE = Shape(((0.0, 0.2), (0.1, 0.3), (0.5, 3.0), (0.6, 3.0), (0.8, 0.8), (1.0, 0.8)))
"""Laid over the trace, which swings too little in two minutes to show anything: a rise to three times and back."""

ROUND_S = 120.0
FIRST_READY_TIMEOUT_S = 90.0
ACCESS_AT = 0.3
"""When a role is widened by hand, as a share of the duration."""
LATENCY_WINDOW_S = 15.0
BARS = " ▁▂▃▄▅▆▇█"


def demo_trace(duration_s: float, seed: int) -> Trace:
    """The recorded conversation trace, compressed to a duration at the same rate, scaled and shaped."""
    recorded = recorded_trace()
    factor = max(1, round(recorded[-1].at_s / duration_s))
    rng = random.Random(seed)
    trace = shaped(scaled(compress(recorded, factor), RATE_LEVEL, rng), SHAPE, rng)
    return tuple(request for request in trace if request.at_s <= duration_s)


@dataclass
class Tally:
    """What the operator's records add up to."""

    seen: set[str] = field(default_factory=set)
    mixes: list[tuple[tuple[str, int], ...]] = field(default_factory=list)
    gpus: set[str] = field(default_factory=set)
    complete: int = 0
    weighted_s: float = 0.0
    cost_s: float = 0.0
    single_s: float = 0.0
    last: tuple[float, float, float] | None = None
    """Unix time, cost and best single cost of the last complete decision."""

    def take(self, directory: Path) -> None:
        """Read the records that are new."""
        for path in sorted(directory.glob("cycle-*.json")):
            if path.name in self.seen:
                continue
            self.seen.add(path.name)
            try:
                record = load(path)
            except MedleyError:
                continue  # rotated away between the listing and the reading
            self.add(record)

    def add(self, record: Record) -> None:
        """Count one cycle."""
        decision = record.decision.services[0] if record.decision and record.decision.services else None
        if decision is None or not on_complete_data(decision):
            return
        allocation = decision.allocation
        assert allocation is not None
        at_s = record.snapshot.taken_at_s
        if self.last is not None:
            span_s = at_s - self.last[0]
            self.weighted_s += span_s
            self.cost_s += span_s * self.last[1]
            self.single_s += span_s * self.last[2]
        self.complete += 1
        mix = tuple((name, count) for name, count in allocation.replicas if count)
        if mix not in self.mixes:
            self.mixes.append(mix)
        self.gpus |= {variant.gpu for variant in decision.variants if variant.planned}
        if decision.cost_per_hour is not None and decision.best_single_per_hour is not None:
            self.last = (at_s, decision.cost_per_hour, decision.best_single_per_hour)

    @property
    def cost_per_hour(self) -> float:
        """Time-weighted cost of the plans, $/h."""
        return self.cost_s / self.weighted_s if self.weighted_s else math.nan

    @property
    def best_single_cost_per_hour(self) -> float:
        """Time-weighted cost of the best single GPU type for the same demand, routing and calm, $/h."""
        return self.single_s / self.weighted_s if self.weighted_s else math.nan


def on_complete_data(decision: ServiceDecision) -> bool:
    """Whether the demand was known, from samples of (nearly) all Ready replicas."""
    return (
        decision.allocation is not None
        and decision.allocation.outcome is not PlanOutcome.IMPOSSIBLE
        and decision.workload.knowledge is Knowledge.VALUE
        and decision.workload.coverage >= COMPLETE
    )


def run_demo(
    raised: AbstractContextManager[LoopScene],
    duration_s: float,
    console: Console,
    progress: Callable[[str], None],
    seed: int = 1,
) -> dict[str, float]:
    """Raise the scene, send traffic for `duration_s` (0: until interrupted), show it; returns the summary, all numbers.

    Raises:
        MedleyError: something did not come up.
    """
    began_s = time.monotonic()
    with raised as scene:
        service = scene.resources.services[0]
        progress(f"look from a second terminal:\n\n    export KUBECONFIG={scene.kubeconfig}\n"
                 "    kubectl get llm,gpool,tprof,deploy,pods,nodes\n")  # fmt: skip
        scene.start_operator()
        scene.apply_manifests()
        applied_s = time.monotonic()
        _first_deployment(scene, service, applied_s, progress, began_s)
        if not scene.wait_first_ready(service.key, FIRST_READY_TIMEOUT_S):
            raise TransientError(f"no replica became Ready within {FIRST_READY_TIMEOUT_S:.0f} s:\n{scene.operator_log}")
        progress(
            f"first replica Ready {time.monotonic() - applied_s:.1f} s after the example was applied; traffic begins"
        )
        tally = Tally()
        outcomes: list[Outcome] = []
        with _view(console) as show, _access(scene, service, ACCESS_AT * (duration_s or ROUND_S), progress):
            ends_s = time.monotonic() + duration_s if duration_s else math.inf
            turn = 0
            while time.monotonic() < ends_s:
                generator = scene.load(service.key, demo_trace(duration_s or ROUND_S, seed + turn))
                generator.start()
                try:
                    until_s = min(ends_s, time.monotonic() + (duration_s or ROUND_S))
                    _watch(scene, service, generator, tally, show, until_s)
                finally:
                    outcomes += generator.outcomes()
                    generator.stop()
                turn += 1
        tally.take(scene.records)
        status = _status(scene, service)
        return {
            "decisions": tally.complete,
            "distinct_mixes": len(tally.mixes),
            "gpu_types_used": len(tally.gpus),
            "cost_per_hour": tally.cost_per_hour,
            "best_single_cost_per_hour": tally.best_single_cost_per_hour,
            "slo_attainment": slo_attainment(
                outcomes, tpot_ms=service.slo.tpot_ms, ttft_ms=service.slo.ttft_ms, since_s=0.0
            ),
            "pods_ready": sum(variant["ready"] for variant in status.get("variants") or []),
        }


def _access(
    scene: LoopScene, service: Service, after_s: float, progress: Callable[[str], None]
) -> AbstractContextManager[None]:
    """What AccessPolicies do, told beside the rest; not in a cluster that stays, where it would leave its objects."""
    if not isinstance(scene, Scene):
        return nullcontext()
    return beside(AccessShow(scene.api, scene.kubeconfig, scene.directory, service.key), after_s, progress)


def _first_deployment(
    scene: LoopScene, service: Service, applied_s: float, progress: Callable[[str], None], began_s: float
) -> None:
    """Wait for the first scaled Deployment, and say how long it took."""
    path = f"/apis/apps/v1/namespaces/{service.key.namespace}/deployments"
    while time.monotonic() - applied_s < FIRST_READY_TIMEOUT_S:
        scaled_up = [item for item in scene.api.items(path) if item["spec"].get("replicas")]
        if scaled_up:
            now_s = time.monotonic()
            progress(
                f"first Deployment scaled: {scaled_up[0]['metadata']['name']}, {now_s - applied_s:.1f} s after the "
                f"example was applied, {now_s - began_s:.1f} s after the start"
            )
            return
        time.sleep(0.2)
    raise TransientError(f"no Deployment was scaled within {FIRST_READY_TIMEOUT_S:.0f} s:\n{scene.operator_log}")


def _status(scene: LoopScene, service: Service) -> dict[str, Any]:
    key = service.key
    found = scene.api.get(f"/apis/{API_VERSION}/namespaces/{key.namespace}/llmservices/{key.name}")
    status: dict[str, Any] = found.get("status") or {}
    return status


def _watch(
    scene: LoopScene,
    service: Service,
    generator: Load,
    tally: Tally,
    show: Callable[[Group, str], None],
    until_s: float,
) -> None:
    """Show the state once a second until the time has come."""
    rates: list[float] = []
    while time.monotonic() < until_s:
        tally.take(scene.records)
        status = _status(scene, service)
        outcomes = generator.outcomes()
        rates.append(_sent_rps(outcomes, generator))
        show(*_picture(service, status, outcomes, generator, rates, tally))
        time.sleep(min(1.0, max(0.0, until_s - time.monotonic())))


def _sent_rps(outcomes: tuple[Outcome, ...], generator: Load) -> float:
    """Requests per second sent in the last five seconds that have ended, and those under way."""
    since_s = generator.elapsed_s - 5.0
    return (sum(1 for outcome in outcomes if outcome.at_s >= since_s) + 0.0) / 5.0


def _picture(
    service: Service,
    status: dict[str, Any],
    outcomes: tuple[Outcome, ...],
    generator: Load,
    rates: list[float],
    tally: Tally,
) -> tuple[Group, str]:
    """The live view, and the same as one line for where no terminal is."""
    workload = status.get("workload") or {}
    rate = workload.get("requestsPerSecond")
    since_s = generator.elapsed_s - LATENCY_WINDOW_S
    q = service.slo.percentile
    tpot = latency_percentile(outcomes, Latency.TPOT, q, since_s=since_s)
    ttft = latency_percentile(outcomes, Latency.TTFT, q, since_s=since_s)
    met = slo_attainment(outcomes, tpot_ms=service.slo.tpot_ms, ttft_ms=service.slo.ttft_ms, since_s=0.0)
    cost, single = status.get("costPerHour", "-"), status.get("bestSingleCostPerHour", "-")
    known = "unknown" if rate is None else f"{rate:.1f} req/s"
    table = Table(title=f"{service.key}, {generator.elapsed_s:.0f} s", title_justify="left")
    for column in ("GPU pool", "GPU", "planned", "asked for", "Ready"):
        table.add_column(column)
    for variant in status.get("variants") or []:
        table.add_row(
            variant["name"], variant["gpu"], str(variant["planned"]), str(variant["desired"]), str(variant["ready"])
        )
    optimised = next((c for c in status.get("conditions") or [] if c["type"] == "Optimised"), None)
    routing = (status.get("resolved") or {}).get("routing", "-")
    lines = [
        f"demand     {known}, × {workload.get('demandFactor', 0):.2f} headroom, routing {routing}",
        f"traffic    {_sparkline(rates)}",
        f"cost       {cost} $/h; best single GPU type {single} $/h; saved {status.get('savedPercent', '-')}",
        f"latency    TPOT p{q:g} {_ms(tpot)} of {service.slo.tpot_ms:g} ms; "
        f"TTFT p{q:g} {_ms(ttft)} of {service.slo.ttft_ms or 0:g} ms (last {LATENCY_WINDOW_S:.0f} s, at the client)",
        f"SLO met    {_share(met)} of {len(outcomes)} requests; {generator.in_flight} under way",
        f"mixes      {len(tally.mixes)} so far, {len(tally.gpus)} GPU types",
        f"state      {optimised['reason'] + ': ' + optimised['message'] if optimised else '-'}",
    ]
    mix = " + ".join(
        f"{v['desired']} {v['name']} ({v['ready']} Ready)" for v in status.get("variants") or [] if v["desired"]
    )
    line = (
        f"{generator.elapsed_s:5.0f} s  {known:>11}  {mix or 'nothing'}  {cost} $/h (best single {single})  "
        f"TPOT p{q:g} {_ms(tpot)}, TTFT {_ms(ttft)}, SLO met {_share(met)}"
    )
    return Group(table, Text("\n".join(lines))), line


def _ms(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f} ms"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"


def _sparkline(values: list[float], width: int = 60) -> str:
    """The last values as bars; the number is the newest, in req/s of requests that have ended."""
    recent = values[-width:]
    top = max([*recent, 1e-9])
    return "".join(BARS[round((len(BARS) - 1) * value / top)] for value in recent)


@contextmanager
def _view(console: Console) -> Iterator[Callable[[Group, str], None]]:
    """A live picture on a terminal; elsewhere a line every four seconds."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda group, _: live.update(group)
        return
    last_s = -math.inf

    def plain(_: Group, line: str) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= 4.0:
            last_s = time.monotonic()
            console.print(line, soft_wrap=True)

    yield plain
