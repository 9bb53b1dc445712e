"""Instance types: GPU, GPUs per node, list price. Facts with source and date, overridable per pool."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One row: the list price is on-demand, Linux, $ per node-hour, an example and not a quote."""

    name: str
    gpu: str
    gpus_per_node: int
    price_per_hour: float
    region: str
    source: str
    date: str


@cache
def instance_types() -> dict[str, InstanceType]:
    """The packaged catalogue by instance type name.

    Raises:
        ValueError: a row without a GPU, or with a price that is not positive.
    """
    text = resources.files("medley.profiles").joinpath("instance_types.csv").read_text(encoding="utf-8")
    rows: dict[str, InstanceType] = {}
    for row in csv.DictReader(text.splitlines()):
        item = InstanceType(
            name=row["instance_type"],
            gpu=row["gpu"],
            gpus_per_node=int(row["gpus_per_node"]),
            price_per_hour=float(row["price_per_hour"]),
            region=row["region"],
            source=row["source"],
            date=row["date"],
        )
        if item.gpus_per_node < 1 or not item.price_per_hour > 0 or not item.gpu or item.name in rows:
            raise ValueError(f"instance_types.csv: {item.name}: GPUs, price or name is wrong")
        rows[item.name] = item
    return rows
