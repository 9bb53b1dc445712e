"""Everything a decision depends on, frozen."""

from __future__ import annotations

from dataclasses import dataclass

from medley.model.objects import CapacityType, Pool, RoutingMode, Service, ServiceKey
from medley.model.samples import ReadyReplica, ServiceSamples
from medley.model.workload import Workload
from medley.planning.stabilisation import PastPlan
from medley.planning.steps import VariantState
from medley.profiles.profile import Profile

SCHEMA_VERSION = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the operator. Seconds, fractions.

    Attributes:
        stabilisation_s: what a plan of this time asked for stays; growth is followed at once.
        change_cost: of starting a replica, as a share of its hourly price: start-up time over expected holding time.
        relative_gap: the solver may stop this close to the optimum.
        solve_time_limit_s: per service; then the best found so far is used.
        max_sample_age_s: older samples do not count.
    """

    stabilisation_s: float = 300.0
    change_cost: float = 0.15
    relative_gap: float = 0.004
    solve_time_limit_s: float = 1.0
    max_sample_age_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What runs of one service, and what is remembered of it.

    Attributes:
        variants: replicas by variant, also of variants that are no longer listed.
        ready_replicas: pods that are Ready.
        acknowledged: what a router says it steers by now; None: nobody steers.
        past: cycles of the last while that knew the demand.
        last_known: the last known workload.
        real_data_before: a decision has come from real samples before; read from the status.
    """

    key: ServiceKey
    variants: tuple[VariantState, ...] = ()
    ready_replicas: tuple[ReadyReplica, ...] = ()
    acknowledged: RoutingMode | None = None
    past: tuple[PastPlan, ...] = ()
    last_known: Workload | None = None
    real_data_before: bool = False


@dataclass(frozen=True, slots=True)
class ObjectError:
    """An object that could not be used."""

    object: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The input of one planning cycle; `taken_at_s` is unix time and the only clock a decision sees.

    `pool_prices`: those of the last decision. They say where coordination starts, not where it ends.
    """

    taken_at_s: float
    settings: Settings
    services: tuple[Service, ...]
    pools: tuple[Pool, ...]
    profiles: tuple[Profile, ...]
    states: tuple[ServiceState, ...] = ()
    samples: tuple[ServiceSamples, ...] = ()
    errors: tuple[ObjectError, ...] = ()
    pool_prices: tuple[tuple[str, CapacityType, float], ...] = ()
    schema_version: int = SCHEMA_VERSION
