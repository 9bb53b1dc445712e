"""A router that acts on the shares Medley publishes: which variant serves which range of prompt lengths.

Medley writes a ConfigMap with the key `routing.json`; `RoutingTable.parse` reads it and `Router` picks an endpoint for
each request. In the mode `InputRange` a request's prompt length decides its range, the range's shares decide the
variant, and within the variant the endpoint with the fewest outstanding requests gets it. In the mode `Service` the
router does what a Kubernetes Service does: any Ready pod, uniformly.

A stale table must not lose requests: if the chosen variant has no endpoint, other variants that the table deems able
come next, then any endpoint at all.
"""

from __future__ import annotations

import json
import math
import random
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from medley.lab.traces import TraceRequest
from medley.model.errors import UserError
from medley.model.objects import RoutingMode

ROUTING_KEY = "routing.json"
SCHEMA_VERSION = 1
_SHARE_TOLERANCE = 0.01  # published shares are rounded


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint of a variant, e.g. base_url http://10.0.0.1:8000."""

    variant: str
    base_url: str


@dataclass(frozen=True, slots=True)
class VariantShares:
    """Share of the requests of each input range that goes to one variant."""

    variant: str
    by_range: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """The shares of one service.

    Attributes:
        service: namespace/name.
        generation: which decision the table belongs to; a router acknowledges it by this number.
        mode: how requests reach variants.
        input_edges: upper inclusive edges of the input ranges in tokens; the last range is open.
        shares: per variant; a range in which all are 0 is one that no variant serves.
    """

    service: str
    generation: int
    mode: RoutingMode
    input_edges: tuple[float, ...]
    shares: tuple[VariantShares, ...]

    @classmethod
    def parse(cls, text: str) -> RoutingTable:
        """Reads and checks the JSON text.

        Raises:
            UserError: names the field that is wrong.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"not JSON: {error}", field=ROUTING_KEY) from None
        if not isinstance(document, dict):
            raise UserError("not a JSON object", field=ROUTING_KEY)
        if document.get("schemaVersion") != SCHEMA_VERSION:
            raise UserError(
                f"{document.get('schemaVersion')!r} is not known",
                field="schemaVersion",
                fix=f"This router reads version {SCHEMA_VERSION}.",
            )
        service = document.get("service")
        if not isinstance(service, str) or len(service.split("/")) != 2:
            raise UserError(f"{service!r} is not namespace/name", field="service")
        generation = document.get("generation")
        if isinstance(generation, bool) or not isinstance(generation, int) or generation < 0:
            raise UserError(f"{generation!r} is not a whole number of at least 0", field="generation")
        try:
            mode = RoutingMode(str(document.get("mode")))
            if mode is RoutingMode.FULL:
                raise ValueError("the table has no output classes")
        except ValueError:
            known = ", ".join(mode for mode in RoutingMode if mode is not RoutingMode.FULL)
            raise UserError(f"{document.get('mode')!r} is not a mode", field="mode", fix=f"Known: {known}.") from None
        edges = tuple(
            _number(edge, f"inputEdges[{index}]")
            for index, edge in enumerate(_list(document.get("inputEdges", []), "inputEdges"))
        )
        if any(edge <= 0 for edge in edges) or any(later <= earlier for earlier, later in pairwise(edges)):
            raise UserError("edges must be above 0 and ascend strictly", field="inputEdges")
        shares = _shares(document.get("shares"), mode, ranges=len(edges) + 1)
        return cls(service, generation, mode, edges, shares)

    def range_of(self, input_tokens: float) -> int:
        """Number of the input range that a prompt of this length lies in."""
        return bisect_left(self.input_edges, input_tokens)

    def weights(self, input_tokens: float) -> dict[str, float]:
        """Variants that the table gives requests of this prompt length to, with their shares (all above 0)."""
        index = self.range_of(input_tokens)
        weighted = {}
        for share in self.shares:
            # In the mode Service a single weight stands for every range.
            weight = share.by_range[min(index, len(share.by_range) - 1)]
            if weight > 0:
                weighted[share.variant] = weight
        return weighted


class Router:
    """Picks an endpoint for each request. Thread-safe: watches update it while a load generator picks.

    Every picked target counts as outstanding until `done` is called with it.

    Args:
        table: the shares.
        endpoints: Ready base URLs per variant.
        rng: source of the draws.
    """

    def __init__(self, table: RoutingTable, endpoints: Mapping[str, Sequence[str]], rng: random.Random) -> None:
        self._table = table
        self._rng = rng
        self._lock = threading.Lock()
        self._targets: dict[str, tuple[Target, ...]] = {}
        self._outstanding: Counter[Target] = Counter()
        self.set_endpoints(endpoints)

    @property
    def table(self) -> RoutingTable:
        """The table in force."""
        return self._table

    def set_table(self, table: RoutingTable) -> None:
        """Puts a new table in force for the requests to come."""
        with self._lock:
            self._table = table

    def set_endpoints(self, endpoints: Mapping[str, Sequence[str]]) -> None:
        """Replaces the Ready endpoints; outstanding counts of those that stay are kept."""
        targets = {
            variant: tuple(Target(variant, base_url) for base_url in base_urls)
            for variant, base_urls in endpoints.items()
            if base_urls
        }
        with self._lock:
            self._targets = targets

    def pick(self, request: TraceRequest) -> Target | None:
        """The endpoint for a request, or None if no endpoint is Ready."""
        return self._pick(request, None)

    def pick_other(self, request: TraceRequest, refused: Target) -> Target | None:
        """Another endpoint for a request that `refused` did not take, or None if there is no other."""
        return self._pick(request, refused)

    def done(self, target: Target) -> None:
        """The request that was sent to this target has ended, well or not."""
        with self._lock:
            self._outstanding[target] -= 1
            if self._outstanding[target] <= 0:
                del self._outstanding[target]

    def outstanding(self) -> dict[Target, int]:
        """Requests under way per target."""
        with self._lock:
            return dict(self._outstanding)

    def _pick(self, request: TraceRequest, refused: Target | None) -> Target | None:
        with self._lock:
            ready = {
                variant: left
                for variant, targets in self._targets.items()
                if (left := [target for target in targets if target != refused])
            }
            if not ready:
                return None
            if self._table.mode is RoutingMode.SERVICE:
                target = self._rng.choice([target for targets in ready.values() for target in targets])
            else:
                target = self._least_outstanding(self._candidates(request.input_tokens, ready))
            self._outstanding[target] += 1
            return target

    def _candidates(self, input_tokens: int, ready: Mapping[str, list[Target]]) -> list[Target]:
        weights = self._table.weights(input_tokens)
        variant = self._drawn(weights)
        if variant not in ready:
            variant = self._drawn({name: weight for name, weight in weights.items() if name in ready})
        return ready[variant] if variant is not None else [target for targets in ready.values() for target in targets]

    def _drawn(self, weights: Mapping[str, float]) -> str | None:
        if not weights:
            return None
        return self._rng.choices(list(weights), weights=list(weights.values()))[0]

    def _least_outstanding(self, targets: Sequence[Target]) -> Target:
        fewest = min(self._outstanding[target] for target in targets)
        return self._rng.choice([target for target in targets if self._outstanding[target] == fewest])


def _shares(value: object, mode: RoutingMode, *, ranges: int) -> tuple[VariantShares, ...]:
    shares: list[VariantShares] = []
    for index, item in enumerate(_list(value, "shares")):
        field = f"shares[{index}]"
        if not isinstance(item, dict):
            raise UserError("not an object", field=field)
        variant = item.get("variant")
        if not isinstance(variant, str) or not variant:
            raise UserError(f"{variant!r} is not a name", field=f"{field}.variant")
        if any(variant == other.variant for other in shares):
            raise UserError(f"{variant!r} appears twice", field=f"{field}.variant")
        by_range = tuple(
            _number(weight, f"{field}.byRange[{number}]")
            for number, weight in enumerate(_list(item.get("byRange"), f"{field}.byRange"))
        )
        for number, weight in enumerate(by_range):
            if not 0.0 <= weight <= 1.0 + _SHARE_TOLERANCE:
                raise UserError(f"share {weight} is outside 0..1", field=f"{field}.byRange[{number}]")
        if len(by_range) != ranges and not (mode in (RoutingMode.SERVICE, RoutingMode.WEIGHTED) and len(by_range) == 1):
            raise UserError(f"{len(by_range)} shares for {ranges} input ranges", field=f"{field}.byRange")
        shares.append(VariantShares(variant, by_range))
    if mode is not RoutingMode.SERVICE:
        for number in range(ranges):
            total = sum(share.by_range[number] for share in shares)
            if total > 0 and abs(total - 1.0) > _SHARE_TOLERANCE:
                raise UserError(
                    f"shares of range {number} sum to {total:.3f}, not 1", field=f"shares[*].byRange[{number}]"
                )
    return tuple(shares)


def _list(value: object, field: str) -> list[object]:
    if not isinstance(value, list):
        raise UserError(f"{value!r} is not a list", field=field)
    return value


def _number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{value!r} is not a number", field=field)
    return float(value)
