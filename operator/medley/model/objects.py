"""What users declare, resolved: every default filled in, every name checked for form, no Kubernetes left in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from medley.model.engine import NO_FLAGS, EngineFlags
from medley.model.workload import Size


class CapacityType(StrEnum):
    """How a node is bought."""

    ON_DEMAND = "OnDemand"
    SPOT = "Spot"


class Mode(StrEnum):
    """How far Medley may go for a service."""

    OBSERVE = "Observe"
    AUTO = "Auto"


class RoutingMode(StrEnum):
    """How finely traffic can be steered.

    Service: nobody steers, every replica gets the same share. Weighted: fixed weights per variant, whatever the
    request. InputRange: a router splits by prompt length. Full: it knows the output's size class as well.
    """

    SERVICE = "Service"
    WEIGHTED = "Weighted"
    INPUT_RANGE = "InputRange"
    FULL = "Full"

    @property
    def fineness(self) -> int:
        """Greater for modes that steer more finely; each can do what the ones below it do."""
        return list(RoutingMode).index(self)

    def at_most(self, other: RoutingMode | None) -> RoutingMode:
        """The coarser of the two; Service if the other is none."""
        return min(self, other or RoutingMode.SERVICE, key=lambda mode: mode.fineness)


class LossKind(StrEnum):
    """What a service must survive the loss of, one at a time."""

    REPLICA = "Replica"
    POOL = "Pool"
    ZONE = "Zone"


API_GROUP = "medley.dev"
API_VERSION = f"{API_GROUP}/v1alpha1"


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """Names an LLMService."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """As kubectl users write it: namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Offering:
    """One way to buy a pool's nodes; price in $ per node-hour.

    `max_nodes`: nodes of this offering that can be had, such as a quota, or 0 in a stockout; None: as many as the pool.
    """

    capacity_type: CapacityType
    price_per_node_hour: float
    zones: tuple[str, ...] = ()
    max_nodes: int | None = None


@dataclass(frozen=True, slots=True)
class ScaleTarget:
    """An object with the scale subresource whose replicas are the pool's nodes."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """A source of like nodes.

    `scale` is None for an external pool: something else brings nodes when pods are pending, and takes idle ones away.
    """

    name: str
    gpu: str
    gpus_per_node: int
    offerings: tuple[Offering, ...]
    max_nodes: int | None = None
    committed_nodes: int = 0
    scale: ScaleTarget | None = None
    node_selector: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Slo:
    """Latency objectives in ms at a percentile; None means no objective."""

    tpot_ms: float
    ttft_ms: float | None = None
    percentile: float = 95.0


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A way to run one replica, as the user lists it; offerings of the pool multiply it."""

    pool: str
    tensor_parallel_size: int = 1
    min_replicas: int = 0
    max_replicas: int | None = None
    flags: EngineFlags = NO_FLAGS


@dataclass(frozen=True, slots=True)
class Scaling:
    """Bounds and margins of one service; `max_hourly_cost` in $/h, margins and the Spot share as fractions.

    Attributes:
        max_spot_fraction: share of the routed requests that may go to Spot capacity; None: no limit.
        survive_loss_of: after each single loss of this kind, the rest still carries the mean demand; None: nothing.
        priority: when capacity is short, services of a higher one are served first.
    """

    min_replicas: int = 1
    max_hourly_cost: float | None = None
    headroom: float = 0.10
    min_mix_saving: float = 0.03
    max_spot_fraction: float | None = None
    survive_loss_of: LossKind | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class StaticPoint:
    """A known demand: requests of one size at a rate."""

    size: Size
    rate_rps: float


@dataclass(frozen=True, slots=True)
class Service:
    """One model served under one SLO. `static_points` None: demand is read from Prometheus.

    `allow_estimated_profiles`: whether Auto may act on estimates that nobody wrote down as a profile.
    """

    key: ServiceKey
    uid: str
    generation: int
    model_name: str
    slo: Slo
    variants: tuple[VariantSpec, ...]
    max_model_len: int | None = None
    mode: Mode = Mode.OBSERVE
    scaling: Scaling = Scaling()
    routing: RoutingMode = RoutingMode.SERVICE
    static_points: tuple[StaticPoint, ...] | None = None
    allow_estimated_profiles: bool = False
