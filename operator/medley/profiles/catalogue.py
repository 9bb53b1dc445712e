"""Instance types: GPU, GPUs per node, vCPUs, memory, list price. Facts with source and date, overridable per pool.

Prices are examples, each from one region on one day, and not quotes: a GPUPool's offerings overrule them. Only sizes
with whole GPUs are listed, as a replica takes whole GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType

from medley.profiles.gpu import gpus
from medley.profiles.table import Row, read_rows

INSTANCE_COLUMNS = (
    "instance_type",
    "cloud",
    "gpu",
    "gpus_per_node",
    "vcpus",
    "memory_gib",
    "price_per_hour",
    "spot_price_per_hour",
    "region",
    "source",
    "date",
)


class Cloud(StrEnum):
    """Who rents the node out."""

    AWS = "AWS"
    AZURE = "Azure"
    GCP = "GCP"


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One row: prices are for Linux, in $ per node-hour, examples and not quotes.

    Attributes:
        name: as in the node label node.kubernetes.io/instance-type.
        gpu: a name of `gpus()`.
        gpus_per_node: whole GPUs.
        price_per_hour: on-demand list price.
        region: where and for which the price holds.
        source: who states the price.
        date: when, as exact as the source is: YYYY[-MM[-DD]].
        cloud: who rents it out.
        vcpus: virtual CPUs of the node.
        memory_gib: main memory of the node, GiB.
        spot_price_per_hour: the source's spot price on that day; None where it states none.
    """

    name: str
    gpu: str
    gpus_per_node: int
    price_per_hour: float
    region: str
    source: str
    date: str
    cloud: Cloud
    vcpus: int
    memory_gib: float
    spot_price_per_hour: float | None = None


def parse_instance_types(
    text: str, *, known_gpus: Mapping[str, object], file: str = "instance_types.csv"
) -> dict[str, InstanceType]:
    """The instance types of a table, by name.

    Raises:
        ValueError: nonsense; the message names file, row and field.
    """
    return {row.name: _instance_type(row, known_gpus) for row in read_rows(text, file=file, columns=INSTANCE_COLUMNS)}


def _instance_type(row: Row, known_gpus: Mapping[str, object]) -> InstanceType:
    item = InstanceType(
        name=row.name,
        gpu=row.text("gpu"),
        gpus_per_node=row.count("gpus_per_node"),
        price_per_hour=row.number("price_per_hour"),
        region=row.text("region"),
        source=row.text("source"),
        date=row.date("date"),
        cloud=row.choice("cloud", Cloud),
        vcpus=row.count("vcpus"),
        memory_gib=row.number("memory_gib"),
        spot_price_per_hour=row.optional_number("spot_price_per_hour"),
    )
    if item.gpu not in known_gpus:
        raise row.wrong("gpu", f"{item.gpu!r} is not in gpus.csv")
    # Public feeds do contain such rows, stale or partial: SkyPilot's GCP table has an A100-80 at 1.846 with spot 1.964.
    spot, on_demand = item.spot_price_per_hour, item.price_per_hour
    if spot is not None and spot > on_demand:
        raise row.wrong("spot_price_per_hour", f"{spot:g} is above on-demand {on_demand:g}")
    return item


@cache
def instance_types() -> Mapping[str, InstanceType]:
    """The packaged catalogue by instance type name."""
    text = resources.files("medley.profiles").joinpath("instance_types.csv").read_text(encoding="utf-8")
    return MappingProxyType(parse_instance_types(text, known_gpus=gpus()))
