"""Sizes of requests, and how many of each arrive: the demand side of an allocation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """Tokens of one request (or the representative of a bucket): input, output. Finite, input ≥ 1, output ≥ 1."""

    input_tokens: float
    output_tokens: float

    def __str__(self) -> str:
        """As users write it: 512/128."""
        return f"{self.input_tokens:.0f}/{self.output_tokens:.0f}"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A cell of the size grid with its rate.

    `input_range` is the number of the input range that the bucket lies in: a router that sees only the prompt can
    tell ranges apart, but not the outputs within one.
    """

    size: Size
    rate_rps: float
    input_range: int = 0


class Knowledge(StrEnum):
    """The three states of a sample: a value, a confirmed zero, or unknown. Unknown is not zero."""

    VALUE = "Value"
    ZERO = "Zero"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Workload:
    """Request rates per bucket, and how far they can be trusted.

    Attributes:
        knowledge: whether the rates are known; with UNKNOWN the buckets are empty.
        buckets: only buckets with a rate above 0.
        input_edges: upper edges of the input ranges in tokens, ascending; the last range is open and not listed.
        coverage: share of the Ready replicas that the samples cover, 0..1.
        age_s: age of the newest sample in seconds.
        uncertainty: relative half-width by which the shape of the histogram may be wrong (0.05: 5 %).
        reason: why it is unknown, or what was imputed.
    """

    knowledge: Knowledge
    buckets: tuple[Bucket, ...] = ()
    input_edges: tuple[float, ...] = ()
    coverage: float = 1.0
    age_s: float = 0.0
    uncertainty: float = 0.0
    reason: str = ""
    sources: tuple[str, ...] = field(default=())

    @property
    def rate_rps(self) -> float:
        """Total request rate in req/s."""
        return sum(bucket.rate_rps for bucket in self.buckets)
