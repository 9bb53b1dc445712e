"""The instances of the allocation benchmark: a fixed grid, random ones of the same kind, and small ones with limits.

Throughputs are rooflines of Llama-3.1-8B from Medley's own catalogue, prices its lowest list price per GPU. Nodes have
one GPU each, and traffic can be split per bucket: the setting of the papers that Medley is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from medley.allocation.problem import Problem, Supply, Variant
from medley.model.engine import EngineFlags
from medley.model.objects import CapacityType, Offering, Pool, RoutingMode
from medley.model.workload import Bucket, Size
from medley.profiles.catalogue import instance_types
from medley.profiles.estimate import roofline_of
from medley.profiles.gpu import find_gpu
from medley.profiles.latency import LatencyTarget, Throughput, Unservable
from medley.profiles.model_facts import known_models

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
INPUT_TOKENS = (8.0, 16384.0)
OUTPUT_TOKENS = (8.0, 2048.0)
MEAN_TPOT_MS = 120.0
GRIDS = ((2, 2), (6, 6), (10, 10), (20, 20))
RATES_RPS = (1, 4, 16, 64, 256, 1024)
LEAST_WEIGHT = 1e-8
"""Cells with a smaller share of the requests are left out: none in a day of 1,000 req/s."""

EIGHT = ("L4", "A10G", "L40S", "RTX-PRO-6000", "A100-40", "A100-80", "H100", "H200")
GPU_TYPES: dict[int, tuple[str, ...]] = {
    2: ("A10G", "H100"),
    4: ("L4", "A10G", "A100-80", "H100"),
    8: EIGHT,
    16: (*EIGHT, "T4", "A30", "A40", "A6000", "H100-PCIe", "GH200", "B200", "MI300X"),
}
ASSUMED_PRICES = {"A30": 1.10, "A40": 1.30, "A6000": 1.28, "H100-PCIe": 5.00, "GH200": 6.50}
"""$/h of types that no cloud of our price catalogue rents out: made up for the benchmark, in line with their speed."""

FREE_SPLIT = getattr(RoutingMode, "FULL", RoutingMode.INPUT_RANGE)
"""A split per bucket. Every bucket is an input range of its own, so that InputRange is the same where Full is not."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One problem and what the tables call it.

    Attributes:
        kind: grid, random or limited.
        grid: input ranges x output ranges before empty and uncoverable cells are removed.
    """

    name: str
    kind: str
    grid: str
    rate_rps: float
    problem: Problem

    @property
    def buckets(self) -> int:
        """Buckets left."""
        return len(self.problem.buckets)

    @property
    def variants(self) -> int:
        """GPU types to choose from."""
        return len(self.problem.variants)


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of request: its share, and medians and log-standard deviations of its lengths in tokens."""

    share: float
    input_median: float
    output_median: float
    input_sigma: float
    output_sigma: float


CHAT_AND_DOCUMENTS = (Part(0.8, 100.0, 180.0, 1.0, 1.0), Part(0.2, 4000.0, 250.0, 0.6, 0.7))


@dataclass(frozen=True, slots=True)
class ServiceSet:
    """Services that share pools with limits."""

    name: str
    problems: tuple[Problem, ...]
    pools: tuple[Pool, ...]


def price_per_gpu(gpu: str) -> float:
    """The lowest list price of our catalogue, $/h."""
    listed = [row.price_per_hour / row.gpus_per_node for row in instance_types().values() if row.gpu == gpu]
    return min(listed) if listed else ASSUMED_PRICES[gpu]


@cache
def throughput(gpu: str, size: Size, tpot_ms: float) -> Throughput:
    """MaxTput of the roofline on one GPU."""
    facts = known_models()[MODEL]
    roofline = roofline_of(facts, find_gpu(gpu), 1, EngineFlags())
    return roofline.max_throughput(size, LatencyTarget(tpot_ms, None, 50.0))


def histogram(inputs: int, outputs: int, parts: Sequence[Part]) -> list[tuple[Size, float]]:
    """Cells of a log-spaced grid, named by their upper edges, with their share of the requests."""
    input_edges = np.geomspace(*INPUT_TOKENS, inputs + 1)
    output_edges = np.geomspace(*OUTPUT_TOKENS, outputs + 1)
    weights = np.zeros((inputs, outputs))
    for part in parts:
        by_input = _masses(input_edges, part.input_median, part.input_sigma)
        by_output = _masses(output_edges, part.output_median, part.output_sigma)
        weights += part.share * np.outer(by_input, by_output)
    return [
        (Size(round(float(input_edges[i + 1])), round(float(output_edges[o + 1]))), float(weights[i, o]))
        for i in range(inputs)
        for o in range(outputs)
    ]


@dataclass(frozen=True, slots=True)
class GridPoint:
    """Where on the fixed grid an instance lies: number of GPU types, input and output ranges, req/s."""

    types: int
    ranges: tuple[int, int]
    rate_rps: int


GRID = tuple(GridPoint(types, ranges, rate) for types in GPU_TYPES for ranges in GRIDS for rate in RATES_RPS)
"""The 96 points of the fixed grid."""


def grid_instance(point: GridPoint) -> Instance:
    """The instance at a point of the grid."""
    inputs, outputs = point.ranges
    name = f"grid-{inputs}x{outputs}x{point.types}-{point.rate_rps}"
    cells = histogram(inputs, outputs, CHAT_AND_DOCUMENTS)
    rate = float(point.rate_rps)
    problem = catalogue_problem(name, cells, rate, GPU_TYPES[point.types], MEAN_TPOT_MS)
    return Instance(name, "grid", f"{inputs}x{outputs}", rate, problem)


def grid_instances() -> Iterator[Instance]:
    """The 96 instances of the fixed grid."""
    return map(grid_instance, GRID)


def random_instance(seed: int, number: int, types: int) -> Instance:
    """An instance like the grid's with 60 to 100 cells and everything else drawn: types, prices, mix, rate, SLO."""
    rng = np.random.default_rng([seed, 1, number, types])
    inputs = int(rng.integers(7, 13))
    outputs = int(rng.integers(math.ceil(60 / inputs), 100 // inputs + 1))
    documents = float(rng.uniform(0.0, 0.5))
    parts = (
        Part(1 - documents, float(rng.uniform(50, 400)), float(rng.uniform(60, 400)), 1.0, float(rng.uniform(0.6, 1))),
        Part(documents, float(rng.uniform(1500, 6000)), float(rng.uniform(80, 400)), float(rng.uniform(0.4, 0.8)), 0.7),
    )
    every = [gpu for gpu in GPU_TYPES[16] if gpu != "T4"]  # the model does not fit a T4
    gpus = GPU_TYPES[16] if types == 16 else tuple(sorted(rng.choice(every, types, replace=False).tolist()))
    rate = float(np.exp(rng.uniform(0.0, math.log(1024.0))))
    prices = {gpu: price_per_gpu(gpu) * float(rng.uniform(0.8, 1.2)) for gpu in gpus}
    name = f"random-{seed}-{number}x{types}"
    cells = histogram(inputs, outputs, parts)
    problem = catalogue_problem(name, cells, rate, gpus, float(rng.choice([40.0, 80.0, 120.0])), prices)
    return Instance(name, "random", f"{inputs}x{outputs}", rate, problem)


def limited_instance(seed: int, number: int) -> Instance:
    """A small instance with any throughputs at all, rare buckets, and bounds that may leave no plan."""
    rng = np.random.default_rng([seed, 2, number])
    buckets, types = int(rng.integers(1, 13)), int(rng.integers(2, 7))
    rates = np.exp(rng.uniform(-2.0, 3.0, buckets))
    # One in five is rare: such coefficients have led solvers to wrong optima (solver.md §3).
    rates = np.where(rng.random(buckets) < 0.2, rates * 1e-6, rates)
    speeds = np.exp(rng.uniform(-1.0, 3.0, (buckets, types)))
    able = rng.random((buckets, types)) < 0.7
    able[np.arange(buckets), rng.integers(0, types, buckets)] = True
    limited = number % 3 != 0
    variants, supplies = [], []
    for j in range(types):
        rows = tuple(
            Throughput(float(speeds[b, j])) if able[b, j] else Throughput(0.0, Unservable.GRID_ZERO)
            for b in range(buckets)
        )
        most = int(rng.integers(1, 9)) if limited and rng.random() < 0.4 else None
        least = int(rng.integers(0, 2)) if limited and rng.random() < 0.2 and bool(able[:, j].any()) else 0
        left = int(rng.integers(1, 9)) if limited and rng.random() < 0.4 else None
        variants.append(_variant(f"type{j}", rows, min_replicas=least, max_replicas=most))
        supplies.append(_supply(f"type{j}", float(rng.uniform(0.4, 12.0)), nodes_left=left))
    name = f"limited-{seed}-{number}"
    cut = tuple(Bucket(Size(2.0**b, 64.0), float(rates[b]), b) for b in range(buckets))
    problem = _problem(name, cut, variants, supplies, min_replicas=int(rng.integers(1, 4)))
    return Instance(name, "limited", f"{buckets}x1", float(rates.sum()), problem)


def service_problems(seed: int, services: int) -> tuple[Problem, ...]:
    """Services on the eight types: sizes, rates and SLOs drawn, 6 x 6 cells less what is rare or uncoverable."""
    made = []
    for number in range(services):
        rng = np.random.default_rng([seed, 3, number])
        part = Part(
            1.0, float(np.exp(rng.uniform(4, 8))), float(np.exp(rng.uniform(4, 6))), 0.8, float(rng.uniform(0.5, 0.9))
        )
        cells = [(size, weight) for size, weight in histogram(6, 6, (part,)) if weight > 1e-5]
        rate = float(np.exp(rng.uniform(0.0, math.log(64.0))))
        tpot_ms = float(rng.choice([40.0, 80.0, 120.0]))
        made.append(catalogue_problem(f"service-{number:04d}", cells, rate, EIGHT, tpot_ms))
    return tuple(made)


def pools_with_limits(most: dict[str, int | None]) -> tuple[Pool, ...]:
    """Pools of one-GPU nodes, by GPU type; None: no limit."""
    return tuple(
        Pool(gpu, gpu, 1, (Offering(CapacityType.ON_DEMAND, price_per_gpu(gpu)),), max_nodes=limit)
        for gpu, limit in most.items()
    )


def catalogue_problem(
    name: str,
    cells: Sequence[tuple[Size, float]],
    rate_rps: float,
    gpus: Sequence[str],
    tpot_ms: float,
    prices: dict[str, float] | None = None,
) -> Problem:
    """A problem on catalogue types; cells that are empty or that no type covers are removed."""
    kept = [
        (size, weight)
        for size, weight in cells
        if weight >= LEAST_WEIGHT and any(throughput(gpu, size, tpot_ms).rate_rps > 0 for gpu in gpus)
    ]
    buckets = tuple(Bucket(size, weight * rate_rps, number) for number, (size, weight) in enumerate(kept))
    variants = [_variant(gpu, tuple(throughput(gpu, bucket.size, tpot_ms) for bucket in buckets)) for gpu in gpus]
    supplies = [_supply(gpu, prices[gpu] if prices else price_per_gpu(gpu)) for gpu in gpus]
    return _problem(name, buckets, variants, supplies)


def _problem(
    name: str, buckets: tuple[Bucket, ...], variants: list[Variant], supplies: list[Supply], min_replicas: int = 1
) -> Problem:
    return Problem(
        service=name,
        buckets=buckets,
        input_edges=tuple(float(number + 1) for number in range(len(buckets) - 1)),
        demand_factor=1.0,
        variants=tuple(variants),
        supplies=tuple(supplies),
        routing=FREE_SPLIT,
        min_replicas=min_replicas,
        min_mix_saving=0.0,
    )


def _variant(gpu: str, rows: tuple[Throughput, ...], min_replicas: int = 0, max_replicas: int | None = None) -> Variant:
    return Variant(
        name=gpu,
        pool=gpu,
        gpu=gpu,
        capacity_type=CapacityType.ON_DEMAND,
        tensor_parallel_size=1,
        gpus=1,
        derating=1.0,
        throughput=rows,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        usable=any(row.rate_rps > 0 for row in rows),
    )


def _supply(gpu: str, price: float, nodes_left: int | None = None) -> Supply:
    return Supply(pool=gpu, gpus_per_node=1, prices=((CapacityType.ON_DEMAND, price),), nodes_left=nodes_left)


def _masses(edges: np.ndarray, median: float, sigma: float) -> np.ndarray:
    """Mass of a lognormal in each range; the first takes all that is shorter, the last all that is longer."""
    inner = [0.5 * (1 + math.erf(math.log(edge / median) / (sigma * math.sqrt(2)))) for edge in edges[1:-1]]
    return np.diff(np.array([0.0, *inner, 1.0]))
