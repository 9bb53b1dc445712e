"""GPU types as facts: memory, bandwidth, dense compute by data type, link. Each with its source and date.

Compute is the dense peak, never the figure with 2:4 sparsity that data sheets print in larger type. A data type that
the GPU's matrix units do not have is None, not 0: a kernel would fall back to another type, and how fast is not a fact
of the GPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType

from medley.model.errors import UserError
from medley.profiles.table import Row, read_rows

GPU_COLUMNS = (
    "gpu",
    "aliases",
    "memory_gib",
    "bandwidth_gb_per_s",
    "fp16_tflops",
    "bf16_tflops",
    "fp8_tflops",
    "int8_tops",
    "link",
    "link_gb_per_s",
    "source",
    "date",
)


class Dtype(StrEnum):
    """Data types of matrix multiplication."""

    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"


class Link(StrEnum):
    """How GPUs of one node reach each other."""

    PCIE = "PCIe"
    NVLINK = "NVLink"
    INFINITY_FABRIC = "InfinityFabric"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU type.

    Attributes:
        name: as in GPUPool spec.gpu and in throughput profiles.
        memory_gib: GiB of memory, nominal; a little less is usable.
        bandwidth_gb_per_s: peak memory bandwidth, 10⁹ bytes/s.
        fp16_tflops: dense peak, 10¹² operations/s. As are the following ones.
        bf16_tflops: None on Turing.
        fp8_tflops: None before Ada and Hopper.
        int8_tops: None where the GPU has none.
        link: what joins the GPUs of a node. A card for which an NVLink bridge is sold apart counts as PCIe, as clouds
            rarely fit the bridge.
        link_gb_per_s: from one GPU to all others together, in one direction: half of what data sheets call "total".
        source: who states the figures.
        date: when.
        aliases: other names, among them values of the node label nvidia.com/gpu.product.
    """

    name: str
    memory_gib: float
    bandwidth_gb_per_s: float
    fp16_tflops: float
    bf16_tflops: float | None
    fp8_tflops: float | None
    int8_tops: float | None
    link: Link
    link_gb_per_s: float
    source: str
    date: str
    aliases: tuple[str, ...] = ()

    def dense_tflops(self, dtype: Dtype) -> float | None:
        """Dense peak in this type, 10¹² operations/s; None where the GPU's matrix units lack it."""
        return {
            Dtype.FP16: self.fp16_tflops,
            Dtype.BF16: self.bf16_tflops,
            Dtype.FP8: self.fp8_tflops,
            Dtype.INT8: self.int8_tops,
        }[dtype]


def gpu_key(name: str) -> str:
    """A name reduced to what tells GPUs apart: no case, no separators, no maker's name in front."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    for maker in ("nvidia", "tesla", "amd", "instinct"):
        key = key.removeprefix(maker)
    return key


def parse_gpus(text: str, *, file: str = "gpus.csv") -> dict[str, Gpu]:
    """The GPUs of a table, by name.

    Raises:
        ValueError: nonsense; the message names file, row and field.
    """
    made: dict[str, Gpu] = {}
    owner: dict[str, str] = {}
    for row in read_rows(text, file=file, columns=GPU_COLUMNS):
        gpu = _gpu(row)
        # The same alias may be spelled twice in one row, but never mean two GPUs.
        for field, name in [("gpu", gpu.name), *(("aliases", alias) for alias in gpu.aliases)]:
            key = gpu_key(name)
            if owner.setdefault(key, gpu.name) != gpu.name:
                raise row.wrong(field, f"{name!r} already means {owner[key]}")
        made[gpu.name] = gpu
    return made


def _gpu(row: Row) -> Gpu:
    gpu = Gpu(
        name=row.name,
        memory_gib=row.number("memory_gib"),
        bandwidth_gb_per_s=row.number("bandwidth_gb_per_s"),
        fp16_tflops=row.number("fp16_tflops"),
        bf16_tflops=row.optional_number("bf16_tflops"),
        fp8_tflops=row.optional_number("fp8_tflops"),
        int8_tops=row.optional_number("int8_tops"),
        link=row.choice("link", Link),
        link_gb_per_s=row.number("link_gb_per_s"),
        source=row.text("source"),
        date=row.date("date"),
        aliases=tuple(row.cells["aliases"].split()),
    )
    # Half the bits never run slower, so a lower figure is a dense one beside a sparse one, or a swapped column.
    if gpu.fp8_tflops is not None and gpu.fp8_tflops < gpu.fp16_tflops:
        raise row.wrong("fp8_tflops", f"{gpu.fp8_tflops:g} is below fp16_tflops {gpu.fp16_tflops:g}")
    if gpu.bf16_tflops is not None and gpu.bf16_tflops > gpu.fp16_tflops:
        raise row.wrong("bf16_tflops", f"{gpu.bf16_tflops:g} is above fp16_tflops {gpu.fp16_tflops:g}")
    if gpu.link_gb_per_s > gpu.bandwidth_gb_per_s:
        raise row.wrong("link_gb_per_s", f"{gpu.link_gb_per_s:g} is above the memory's {gpu.bandwidth_gb_per_s:g}")
    return gpu


@cache
def gpus() -> Mapping[str, Gpu]:
    """The packaged GPU types by name."""
    text = resources.files("medley.profiles").joinpath("gpus.csv").read_text(encoding="utf-8")
    return MappingProxyType(parse_gpus(text))


@cache
def _names() -> Mapping[str, str]:
    return {gpu_key(name): gpu.name for gpu in gpus().values() for name in (gpu.name, *gpu.aliases)}


def find_gpu(name: str) -> Gpu:
    """The GPU of this name, alias or nvidia.com/gpu.product label, whatever its case and separators.

    Raises:
        UserError: no such GPU; the message lists the known ones.
    """
    known = _names().get(gpu_key(name))
    if known is None:
        raise UserError(f"GPU {name!r} is not known", fix=f"Known GPUs: {', '.join(gpus())}")
    return gpus()[known]
