"""The page docs/explanation/how-the-solver-thinks.md, number by number."""

from __future__ import annotations

import numpy as np
import pytest

from medley.allocation.backends.split import Split, Traffic
from medley.allocation.problem import Problem, Supply, Variant
from medley.allocation.routing import steer
from medley.allocation.solve import allocate
from medley.model.objects import CapacityType, RoutingMode
from medley.model.workload import Bucket, Size
from medley.profiles.latency import Throughput

OD = CapacityType.ON_DEMAND
PRICES = np.array([1.0, 4.0])
SPEEDS = {"small": (2.0, 0.2), "large": (6.0, 2.0)}

PROBLEM = Problem(
    "default/hand",
    (Bucket(Size(100, 100), 5.0, 0), Bucket(Size(1000, 100), 2.0, 1)),
    (100.0,),
    1.0,
    tuple(
        Variant(name, name, name, OD, 1, 1, 1.0, tuple(Throughput(rate) for rate in rates))
        for name, rates in SPEEDS.items()
    ),
    (Supply("small", 1, ((OD, 1.0),)), Supply("large", 1, ((OD, 4.0),))),
    RoutingMode.INPUT_RANGE,
)
TRAFFIC = Traffic.of(steer(PROBLEM), (OD, OD), None)


def test_the_loads() -> None:
    assert steer(PROBLEM).matrix == pytest.approx(np.array([[2.5, 5 / 6], [10.0, 1.0]]))


def test_the_first_row_has_the_prices_as_weights() -> None:
    assert TRAFFIC.lightest(PRICES) == pytest.approx([2.5, 4.0])
    assert TRAFFIC.need(PRICES) == pytest.approx(6.5)


def test_seven_small_lack_more_than_half_a_large_one_and_the_row_that_says_so() -> None:
    lack = Split(TRAFFIC, PRICES).shortfall(np.array([7.0, 0.0]), 1.0, spot_limited=False)
    assert lack is not None
    assert lack.lacking == pytest.approx([0.0, 0.55])
    assert lack.cost == pytest.approx(2.2)
    assert lack.weights == pytest.approx([0.4, 4.0])
    assert TRAFFIC.need(lack.weights) == pytest.approx(5.0)
    assert lack.weights @ [7, 0] == pytest.approx(2.8)


def test_three_small_and_a_large_one_fit_and_nothing_is_cheaper() -> None:
    fits = Split(TRAFFIC, PRICES).shortfall(np.array([3.0, 1.0]), 1.0, spot_limited=False)
    assert fits is not None
    assert fits.cost == pytest.approx(0.0, abs=1e-9)
    made = allocate(PROBLEM)
    assert dict(made.replicas) == {"small": 3, "large": 1}
    assert made.cost_per_hour == pytest.approx(7.0)
    assert made.lower_bound_per_hour == pytest.approx(7.0, rel=0.004)
