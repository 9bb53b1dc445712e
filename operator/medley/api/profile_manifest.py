"""From a profile of the domain to the manifest that says the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from medley.api.throughputprofile import (
    FlagsSpec,
    KeySpec,
    ProvenanceSpec,
    ThroughputProfileSpec,
)
from medley.model.engine import EngineFlags
from medley.model.objects import API_VERSION
from medley.profiles.grid import Grid
from medley.profiles.measured import Latency, LoadPoint, Measured
from medley.profiles.profile import Profile, ProfileKey, Speed
from medley.profiles.roofline import Roofline
from medley.profiles.step import StepModel


def profile_manifest(profile: Profile, *, tool: str, date: str) -> dict[str, Any]:
    """The ThroughputProfile, as YAML users apply it: validated, defaults left out.

    Args:
        profile: its derating is written only where it is not the default of its provenance.
        tool: what made the numbers.
        date: when, as YYYY-MM-DD.
    """
    key = profile.key
    spec = ThroughputProfileSpec.model_validate(
        {
            "key": KeySpec(
                model=key.model, gpu=key.gpu, tensor_parallel_size=key.tensor_parallel_size, engine=key.engine,
                flags=_flags(key.flags),
            ),
            **_speed(profile.speed),
            "derating": None if profile.derating == profile.provenance.default_derating else profile.derating,
            "provenance": ProvenanceSpec(kind=profile.provenance.value, tool=tool, date=date),
        }
    )  # fmt: skip
    body = spec.model_dump(by_alias=True, exclude_defaults=True)
    body["key"]["tensorParallelSize"] = key.tensor_parallel_size
    return {
        "apiVersion": API_VERSION,
        "kind": "ThroughputProfile",
        "metadata": {"name": profile.name},
        "spec": body,
    }


def object_name(key: ProfileKey) -> str:
    """A name for the object: model, GPU and size, in what Kubernetes allows."""
    parts = [key.model.rsplit("/", 1)[-1], key.gpu, f"tp{key.tensor_parallel_size}", str(key.flags)]
    text = "-".join(part for part in parts if part).lower()
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-.") else "-" for letter in text)


def _flags(flags: EngineFlags) -> FlagsSpec:
    draft = flags.speculative
    return FlagsSpec.model_validate(
        {
            "quantization": flags.quantization or None,
            "kv_cache_dtype": flags.kv_cache_dtype or None,
            "chunked_prefill": flags.chunked_prefill.value,
            "speculative": None if draft is None else {**asdict(draft), "draft_model": draft.draft_model or None},
        }
    )


def _speed(speed: Speed) -> dict[str, Any]:
    match speed:
        case Measured(points):
            return {"measured": {"points": [_point(point) for point in points]}}
        case Grid():
            return {
                "max_throughput": {
                    "slo": {"time_per_output_token_ms": speed.tpot_ms, "time_to_first_token_ms": speed.ttft_ms},
                    "input_tokens": [round(tokens) for tokens in speed.input_tokens],
                    "output_tokens": [round(tokens) for tokens in speed.output_tokens],
                    "requests_per_second": [list(row) for row in speed.requests_per_second],
                }
            }
        case StepModel():
            return {"linear": asdict(speed)}
        case Roofline():
            return {"roofline": _roofline(speed)}


def _point(point: LoadPoint) -> dict[str, Any]:
    def latency(value: Latency) -> dict[str, float | None]:
        return {name.removesuffix("_ms"): number for name, number in asdict(value).items()}

    return {
        "input_tokens": round(point.size.input_tokens),
        "output_tokens": round(point.size.output_tokens),
        "requests_per_second": point.rate_rps,
        "concurrency": point.concurrency,
        "requests": point.requests or None,
        "tpot_ms": latency(point.tpot),
        "ttft_ms": latency(point.ttft),
    }


def _roofline(speed: Roofline) -> dict[str, Any]:
    facts = asdict(speed)
    facts.pop("gpus")  # the key says it
    facts.pop("speculative")  # so it does this
    facts.pop("activation_bytes")
    facts["memoryGiB"] = facts.pop("memory_gib")
    facts["bandwidthGBPerSecond"] = facts.pop("bandwidth_gb_per_s")
    facts["linkGBPerSecond"] = facts.pop("link_gb_per_s")
    facts["weightGB"] = round(facts.pop("weight_gb"), 4)
    facts["expertWeightGB"] = round(facts.pop("expert_weight_gb"), 4)
    facts["reserveGiB"] = facts.pop("reserve_gib")
    return facts
