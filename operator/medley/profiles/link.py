"""What GPUs of one node reach when they sum activations: far less than the link's peak where the host is in between.

Read off aiconfigurator 0.12.0's measured all-reduce tables (Llama-3.1-70B's sizes, 2026-11-23). NVLink reaches the same
share at any number of GPUs. Over PCIe the share falls with the number; cards that were not measured are taken to be as
the measured one of their generation.
"""

from __future__ import annotations

from dataclasses import dataclass

from medley.profiles.gpu import Gpu, Link

SHARE_OF_PEAK = 0.58
LATENCY_MS = 0.007

PCIE4_SHARE = {2: 0.59, 4: 0.125, 8: 0.072}
"""By number of GPUs, of one direction's peak: L40S (19, 4 and 2.3 of 32 GB/s)."""

PCIE5_SHARE = {2: 0.58, 4: 0.44, 8: 0.36}
"""RTX PRO 6000 (37, 28 and 23 of 64 GB/s)."""

PCIE_LATENCY_MS = {2: 0.005, 4: 0.016, 8: 0.028}

PCIE5_GB_PER_S = 64.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """An all-reduce among the GPUs of one replica: what each sends in one direction, and the latency."""

    gb_per_s: float
    latency_ms: float


def exchange(gpu: Gpu, gpus: int) -> Exchange:
    """What an all-reduce among so many of these GPUs reaches; above 8, as with 8."""
    if gpu.link is not Link.PCIE:
        return Exchange(gpu.link_gb_per_s * SHARE_OF_PEAK, LATENCY_MS)
    shares = PCIE5_SHARE if gpu.link_gb_per_s >= PCIE5_GB_PER_S else PCIE4_SHARE
    nearest = next((count for count in (2, 4, 8) if count >= gpus), 8)
    return Exchange(gpu.link_gb_per_s * shares[nearest], PCIE_LATENCY_MS[nearest])
