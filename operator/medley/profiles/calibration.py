"""What kernels reach of the data sheet, by GPU architecture.

Fitted to aiconfigurator 0.12.0's measured vLLM kernels: 7 models on 7 GPU types, 17,108 steady states; the errors stand
in docs/explanation/estimates.md. Constants that a class does not pin down stay near the common ones.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calibration:
    """Shares of peaks, and fixed times; the defaults are the common fit.

    Attributes:
        bandwidth: share of peak memory bandwidth, e_b.
        decode_compute: share of peak dense FLOPS in decode steps, e_c.
        prefill_compute: the same in prefill, e_p.
        attention_compute: the same in the attention of prefill, e_a.
        expert_prefill: by how much less routed experts reach in prefill than dense layers do.
        fp8: by how much less fp8 reaches of its peak than 16 bits do, in reading weights and in computing.
        layer_ms: t_l, of every step for each layer.
        per_sequence_ms: t_1.
    """

    bandwidth: float = 0.83
    decode_compute: float = 0.65
    prefill_compute: float = 0.72
    attention_compute: float = 0.38
    expert_prefill: float = 0.65
    fp8: float = 0.81
    layer_ms: float = 0.040
    per_sequence_ms: float = 0.005


COMMON = Calibration()

AMPERE = Calibration(0.79, 0.66, 0.79, 0.33, 0.66, layer_ms=0.060)  # A100
ADA = Calibration(0.81, 0.70, 0.56, 0.33, 0.55, layer_ms=0.026)  # L40S
HOPPER = Calibration(0.91, 0.72, 0.74, 0.33, 0.78, layer_ms=0.050)  # H100, H200
BLACKWELL = Calibration(0.83, 0.68, 0.68, 0.50, 0.51, layer_ms=0.038)  # B200, B300
BLACKWELL_RTX = Calibration(0.85, 0.68, 0.76, 0.37, 0.59, layer_ms=0.035)  # RTX PRO 6000

BY_GPU = {
    **dict.fromkeys(("A100-40", "A100-80", "A100-80-PCIe", "A10", "A10G", "A30", "A40", "A6000"), AMPERE),
    **dict.fromkeys(("L4", "L40S"), ADA),
    **dict.fromkeys(("H100", "H100-PCIe", "H100-NVL", "GH200", "H200"), HOPPER),
    **dict.fromkeys(("B200", "B300"), BLACKWELL),
    "RTX-PRO-6000": BLACKWELL_RTX,
}
"""By GPU type of the catalogue; others (T4, MI300X) have the common fit: nothing of their kind was measured."""

MEASURED_GPUS = frozenset({"A100-80", "L40S", "H100", "H200", "B200", "B300", "RTX-PRO-6000"})
"""GPU types whose kernels the fit has seen; for others of a class it is taken over."""
