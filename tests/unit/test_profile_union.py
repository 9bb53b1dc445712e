"""The four kinds of ThroughputProfile, engine flags as part of the key, and what an edited SLO changes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from medley.actuation.deployments import deployment_name, flag_arguments, render
from medley.allocation.assemble import Assembled, assemble, variant_name
from medley.api.convert import identity, parse, to_profile, to_service
from medley.api.fields import DNS_LABEL
from medley.api.profile_manifest import profile_manifest
from medley.api.throughputprofile import ONE_OF
from medley.model.engine import NO_FLAGS, ChunkedPrefill, EngineFlags, SpeculativeDecoding
from medley.model.errors import UserError
from medley.model.objects import CapacityType, Offering, Pool, RoutingMode, Service, ServiceKey, Slo, VariantSpec
from medley.model.workload import Bucket, Knowledge, Size, Workload
from medley.profiles.grid import Grid
from medley.profiles.latency import LatencyTarget, Unservable
from medley.profiles.measured import Latency, LoadPoint, Measured
from medley.profiles.profile import Profile, ProfileKey, Provenance, Speed
from medley.profiles.roofline import Roofline
from medley.profiles.step import StepModel

Manifest = dict[str, Any]

CHAT = Size(512, 128)


def tpot(p95: float) -> Manifest:
    return {"mean": p95 * 0.7, "p50": p95 * 0.6, "p90": p95 * 0.9, "p95": p95, "p99": p95 * 1.5}


def load_point(rate: float, p95: float, inputs: int = 512) -> Manifest:
    point = {"inputTokens": inputs, "outputTokens": 128, "requestsPerSecond": rate, "concurrency": rate * 4}
    return {**point, "requests": 300, "tpotMs": tpot(p95), "ttftMs": {"p95": 3 * p95, "p99": 5 * p95}}


KINDS: dict[str, Manifest] = {
    "measured": {"points": [load_point(1, 20), load_point(2, 40), load_point(4, 80)]},
    "maxThroughput": {
        "slo": {"timePerOutputTokenMs": 40},
        "inputTokens": [128, 512],
        "outputTokens": [128, 256],
        "requestsPerSecond": [[9.1, 3.0], [7.2, 0]],
    },
    "linear": {
        "baseMs": 20,
        "perSequenceMs": 0.4,
        "perContextTokenMs": 0.0003,
        "prefillMsPerToken": 0.1,
        "kvCapacityTokens": 100_000,
        "maxBatch": 64,
    },
    "roofline": {
        "memoryGiB": 24,
        "bandwidthGBPerSecond": 300,
        "denseTflops": 121,
        "linkGBPerSecond": 32,
        "weightGB": 6.5,
        "activeParameters": 3.2e9,
        "kvBytesPerToken": 114_688,
        "layers": 28,
        "hiddenSize": 3072,
        "attentionWidth": 3072,
    },
}
TYPES: dict[str, type[Speed]] = {
    "measured": Measured,
    "maxThroughput": Grid,
    "linear": StepModel,
    "roofline": Roofline,
}


def manifest(kind: str | None, flags: Manifest | None = None, name: str = "m-l4", **spec: object) -> Manifest:
    key: Manifest = {"model": "m", "gpu": "L4"}
    if flags is not None:
        key["flags"] = flags
    speed = {} if kind is None else {kind: KINDS[kind]}
    body = {"key": key, **speed, **spec}
    return {"apiVersion": "medley.dev/v1alpha1", "kind": "ThroughputProfile", "metadata": {"name": name}, "spec": body}


def refused(wrong: Manifest) -> str:
    with pytest.raises(UserError) as caught:
        to_profile(wrong)
    return str(caught.value)


# The union


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read(kind: str) -> None:
    made = to_profile(manifest(kind))
    assert type(made.speed) is TYPES[kind]
    assert made.key == ProfileKey("m", "L4", 1, "vllm", NO_FLAGS)
    assert made.max_throughput(Size(512, 128), LatencyTarget(60), None).rate_rps > 0


def test_measured_points_keep_every_number() -> None:
    made = to_profile(manifest("measured"))
    assert isinstance(made.speed, Measured)
    first = made.speed.points[0]
    assert first == LoadPoint(
        Size(512, 128), 1, Latency(14, 12, 18, 20, 30), Latency(p95_ms=60, p99_ms=100), concurrency=4, requests=300
    )


def test_a_roofline_takes_gpus_and_drafts_from_the_key() -> None:
    wrong_place = manifest("roofline", {"speculative": {"tokens": 3, "acceptanceRate": 0.7}})
    wrong_place["spec"]["key"]["tensorParallelSize"] = 2
    made = to_profile(wrong_place).speed
    assert isinstance(made, Roofline)
    assert made.gpus == 2
    assert made.speculative == SpeculativeDecoding(3, 0.7)
    assert (made.memory_gib, made.bandwidth_gb_per_s, made.dense_tflops, made.link_gb_per_s) == (24, 300, 121, 32)
    assert (made.weight_gb, made.active_parameters, made.kv_bytes_per_token) == (6.5, 3.2e9, 114_688)
    assert (made.layers, made.hidden_size, made.attention_width, made.max_batch) == (28, 3072, 3072, 256)


def test_a_calibration_that_is_half_written_keeps_the_other_defaults() -> None:
    plain, slow = (
        to_profile(manifest(None, roofline={**KINDS["roofline"], **changes})).speed
        for changes in ({}, {"calibration": {"bandwidth": 0.5}})
    )
    assert isinstance(plain, Roofline)
    assert isinstance(slow, Roofline)
    assert slow.calibration == replace(plain.calibration, bandwidth=0.5)
    free = LatencyTarget(percentile=50)
    assert slow.max_throughput(CHAT, free).rate_rps < plain.max_throughput(CHAT, free).rate_rps


POINT = LoadPoint(Size(512, 128), 3.25, Latency(10.5, 9, 14, None, 30), Latency(p95_ms=200.0), 7.5, 120)
ROOFLINE = Roofline(2, 80, 3350, 989, 450, 16.0605, 7.5e9, 131072, 32, 4096, 4096, kv_shards=2)
FULL_FLAGS = EngineFlags("fp8", "fp8", SpeculativeDecoding(3, 0.7, "eagle", "org/draft"), ChunkedPrefill.DISABLED)
SPEEDS: dict[str, Speed] = {
    "measured": Measured((POINT, LoadPoint(Size(2048, 16), 1.0, Latency(p99_ms=30), Latency()))),
    "grid": Grid(40, None, (128.0, 512.0), (16.0, 128.0), ((9.1, 3.0), (7.2, 0.0))),
    "grid without an SLO": Grid(None, None, (128.0,), (16.0,), ((9.1,),)),
    "step model": StepModel(71.6, 0.17, 0.00057, 0.166, 41_000, 128),
    "step model with defaults": StepModel(71.6, 0.0, 0.0, 0.0, 41_000),
    "roofline": ROOFLINE,
    "roofline in full": replace(
        ROOFLINE, expert_weight_gb=12.5, experts=8, experts_per_token=2, max_batch=64, memory_fraction=0.8,
        reserve_gib=3.0, calibration=replace(ROOFLINE.calibration, bandwidth=0.6, decode_compute=0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("flags", [NO_FLAGS, FULL_FLAGS, EngineFlags(chunked_prefill=ChunkedPrefill.ENABLED)])
@pytest.mark.parametrize(("provenance", "derating"), [(Provenance.MEASURED, 0.9), (Provenance.IMPORTED, 0.5)])
def test_a_profile_survives_its_manifest(
    speed: str, flags: EngineFlags, provenance: Provenance, derating: float
) -> None:
    made = SPEEDS[speed]
    if isinstance(made, Roofline):
        made = replace(made, speculative=flags.speculative)
    profile = Profile("m-h100", ProfileKey("m", "H100", 2, "vllm", flags), provenance, derating, made)
    written = profile_manifest(profile, tool="a test", date="2026-11-01")
    assert identity(written) == "ThroughputProfile/m-h100"
    assert written["spec"]["provenance"] == {"kind": provenance.value, "tool": "a test", "date": "2026-11-01"}
    # JSON, as kubectl sends it: nothing in it is a Python object.
    assert to_profile(json.loads(json.dumps(written))) == profile


def test_the_manifest_leaves_out_what_is_default() -> None:
    profile = Profile("m", ProfileKey("m", "L4"), Provenance.IMPORTED, 0.85, SPEEDS["step model with defaults"])
    spec = profile_manifest(profile, tool="a test", date="2026-11-01")["spec"]
    assert "derating" not in spec
    assert spec["key"] == {"model": "m", "gpu": "L4", "tensorParallelSize": 1}
    assert "maxBatch" not in spec["linear"]


PAIRS = [(one, other) for number, one in enumerate(KINDS) for other in list(KINDS)[number + 1 :]]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_kinds_are_refused_by_name(one: str, other: str) -> None:
    said = refused(manifest(one, **{other: KINDS[other]}))
    assert f"exactly one of {ONE_OF}" in said
    assert f"{one} and {other} is set" in said


def test_no_kind_is_refused() -> None:
    said = refused(manifest(None))
    assert f"exactly one of {ONE_OF}" in said
    assert "none is set" in said


WRONG: dict[str, tuple[Manifest, str]] = {
    "no points": (manifest(None, measured={"points": []}), "spec.measured.points"),
    "a point without a rate": (
        manifest(None, measured={"points": [{"inputTokens": 1, "outputTokens": 1}]}),
        "spec.measured.points[0].requestsPerSecond",
    ),
    "a rate of 0": (manifest(None, measured={"points": [load_point(0, 20)]}), "points[0].requestsPerSecond"),
    "an unknown percentile": (
        manifest(None, measured={"points": [{**load_point(1, 20), "tpotMs": {"p75": 1}}]}),
        "spec.measured.points[0].tpotMs.p75",
    ),
    "a negative latency": (
        manifest(None, measured={"points": [{**load_point(1, 20), "ttftMs": {"p95": -1}}]}),
        "spec.measured.points[0].ttftMs.p95",
    ),
    "no bandwidth": (
        manifest(None, roofline={k: v for k, v in KINDS["roofline"].items() if k != "bandwidthGBPerSecond"}),
        "spec.roofline.bandwidthGBPerSecond",
    ),
    "more than the whole memory": (
        manifest(None, roofline={**KINDS["roofline"], "memoryFraction": 1.1}),
        "spec.roofline.memoryFraction",
    ),
    "a calibration above the data sheet": (
        manifest(None, roofline={**KINDS["roofline"], "calibration": {"bandwidth": 1.2}}),
        "spec.roofline.calibration.bandwidth",
    ),
    "acceptance above 1": (
        manifest("linear", {"speculative": {"tokens": 3, "acceptanceRate": 1.2}}),
        "spec.key.flags.speculative.acceptanceRate",
    ),
    "no draft token": (
        manifest("linear", {"speculative": {"tokens": 0, "acceptanceRate": 0.5}}),
        "spec.key.flags.speculative.tokens",
    ),
    "chunked prefill as a truth value": (
        manifest("linear", {"chunkedPrefill": True}),
        "spec.key.flags.chunkedPrefill",
    ),
    "quantization in capitals": (manifest("linear", {"quantization": "FP8"}), "spec.key.flags.quantization"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_speeds_and_flags_are_refused_by_field(wrong: str) -> None:
    given, field = WRONG[wrong]
    assert field in refused(given)


@pytest.mark.parametrize(
    ("given", "derating"),
    [
        ({}, 0.7),
        ({"provenance": {"kind": "Estimated"}}, 0.7),
        ({"provenance": {"kind": "Imported"}}, 0.85),
        ({"provenance": {"kind": "Measured"}}, 0.9),
        ({"provenance": {"kind": "Measured"}, "derating": 0.4}, 0.4),
        ({"derating": 1}, 1.0),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_derating_follows_provenance_whatever_the_kind(kind: str, given: Manifest, derating: float) -> None:
    assert to_profile(manifest(kind, **given)).derating == derating


def test_rates_of_roles_are_accepted_and_change_nothing() -> None:
    roles = {"prefillTokensPerSecond": 50_000, "decodeTokensPerSecond": 3000, "encodeItemsPerSecond": 20}
    assert to_profile(manifest("linear", roleRates=roles)) == to_profile(manifest("linear"))
    said = refused(manifest("linear", roleRates={"prefillTokensPerSecond": -1}))
    assert "spec.roleRates.prefillTokensPerSecond" in said


# Flags are part of the key


L4 = Pool("l4", "L4", 1, (Offering(CapacityType.ON_DEMAND, 0.8),))
FAST = {**KINDS["linear"], "baseMs": 10}


def workload(size: Size = CHAT) -> Workload:
    return Workload(Knowledge.VALUE, (Bucket(size, 1.0),))


def service(*variants: VariantSpec, slo: Slo | None = None) -> Service:
    return Service(ServiceKey("default", "chat"), "uid", 1, "m", slo or Slo(60), variants)


def assembled(made: Service, profiles: tuple[Profile, ...]) -> Assembled:
    return assemble(
        made, {"l4": L4}, {profile.key: profile for profile in profiles}, workload(), demand_factor=1.0,
        routing=RoutingMode.SERVICE,
    )  # fmt: skip


def test_a_variant_uses_the_profile_with_its_flags() -> None:
    resources = parse([manifest("linear"), manifest(None, {"quantization": "fp8"}, name="m-fp8", linear=FAST)])
    assert resources.errors == ()
    plain, fp8 = resources.profiles
    made = assembled(service(VariantSpec("l4"), VariantSpec("l4", flags=EngineFlags("fp8"))), resources.profiles)
    assert made.warnings == ()
    rates = {variant.name: variant.throughput[0].rate_rps for variant in made.problem.variants}
    assert rates == {
        "l4": plain.max_throughput(CHAT, LatencyTarget(60), None).rate_rps,
        "l4-fp8": fp8.max_throughput(CHAT, LatencyTarget(60), None).rate_rps,
    }
    assert rates["l4-fp8"] > rates["l4"] > 0


def test_the_order_of_profiles_does_not_matter() -> None:
    given = [manifest("linear"), manifest(None, {"quantization": "fp8"}, name="m-fp8", linear=FAST)]
    variants = service(VariantSpec("l4", flags=EngineFlags("fp8")))
    [one] = assembled(variants, parse(given).profiles).problem.variants
    [other] = assembled(variants, parse(given[::-1]).profiles).problem.variants
    assert one == other


@pytest.mark.parametrize(
    "flags",
    [
        EngineFlags(quantization="awq"),
        EngineFlags(kv_cache_dtype="fp8"),
        EngineFlags(speculative=SpeculativeDecoding(3, 0.7)),
        EngineFlags(chunked_prefill=ChunkedPrefill.DISABLED),
    ],
)
def test_a_profile_with_other_flags_is_not_used(flags: EngineFlags) -> None:
    made = assembled(service(VariantSpec("l4"), VariantSpec("l4", flags=flags)), (to_profile(manifest("linear")),))
    assert [variant.name for variant in made.problem.variants] == ["l4"]
    [warning] = made.warnings
    assert warning.field == "spec.variants[1]"
    assert str(flags) in str(warning)
    assert "Create a ThroughputProfile" in warning.fix


def test_the_same_flags_twice_are_one_key() -> None:
    flags = {"speculative": {"tokens": 3, "acceptanceRate": 0.7}}
    resources = parse(
        [manifest("linear", flags), manifest("roofline", flags, name="again"), manifest("linear", {}, "plain")]
    )
    assert [name for name, _ in resources.errors] == ["ThroughputProfile/again"]
    assert "spec.key" in str(resources.errors[0][1])
    assert len(resources.profiles) == 2


def test_variants_that_differ_in_flags_are_read() -> None:
    flags = {"quantization": "fp8", "chunkedPrefill": "Enabled", "speculative": {"tokens": 2, "acceptanceRate": 0.6}}
    spec = {"model": {"name": "m"}, "slo": {"timePerOutputTokenMs": 60}}
    given = {"apiVersion": "medley.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": "chat"}}
    made, _ = to_service({**given, "spec": {**spec, "variants": [{"pool": "l4"}, {"pool": "l4", "flags": flags}]}})
    assert made.variants == (
        VariantSpec("l4"),
        VariantSpec("l4", flags=EngineFlags("fp8", "", SpeculativeDecoding(2, 0.6), ChunkedPrefill.ENABLED)),
    )
    with pytest.raises(UserError, match="tensorParallelSize and flags twice"):
        to_service({**given, "spec": {**spec, "variants": [{"pool": "l4", "flags": {}}, {"pool": "l4"}]}})


@pytest.mark.parametrize(
    ("spec", "capacity_type", "name"),
    [
        (VariantSpec("l4"), CapacityType.ON_DEMAND, "l4"),
        (VariantSpec("l4", 2), CapacityType.ON_DEMAND, "l4-tp2"),
        (VariantSpec("l4", 2, flags=FULL_FLAGS), CapacityType.SPOT, "l4-tp2-fp8-kvfp8-spec3-eagle-9d85-unchunked-spot"),
        (VariantSpec("l4", flags=EngineFlags(kv_cache_dtype="fp8")), CapacityType.ON_DEMAND, "l4-kvfp8"),
        (
            VariantSpec("l4", flags=EngineFlags(chunked_prefill=ChunkedPrefill.ENABLED)),
            CapacityType.ON_DEMAND,
            "l4-chunked",
        ),
    ],
)
def test_variant_names_tell_flags(spec: VariantSpec, capacity_type: CapacityType, name: str) -> None:
    assert variant_name(spec, capacity_type) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            EngineFlags(speculative=SpeculativeDecoding(3, 0.7, "ngram")),
            EngineFlags(speculative=SpeculativeDecoding(3, 0.7, "eagle", "org/draft")),
        ),
        (
            EngineFlags(speculative=SpeculativeDecoding(3, 0.7, "eagle", "org/one")),
            EngineFlags(speculative=SpeculativeDecoding(3, 0.7, "eagle", "org/other")),
        ),
    ],
    ids=["method", "draft model"],
)
def test_variants_whose_engines_differ_have_different_names(one: EngineFlags, other: EngineFlags) -> None:
    # Otherwise both would be one Deployment, rewritten by each in turn.
    assert flag_arguments(one) != flag_arguments(other)
    first, second = (variant_name(VariantSpec("l4", flags=flags), CapacityType.ON_DEMAND) for flags in (one, other))
    assert first != second


@pytest.mark.parametrize(
    "flags",
    [
        EngineFlags(kv_cache_dtype="fp8_e4m3"),
        EngineFlags(quantization="gptq_marlin"),
        EngineFlags("fp8", "fp8_e5m2", SpeculativeDecoding(64, 1.0), ChunkedPrefill.DISABLED),
    ],
)
def test_names_made_of_flags_are_names_that_kubernetes_takes(flags: EngineFlags) -> None:
    # vLLM's own names have underscores; Deployments and the names in status.variants must not.
    variant = variant_name(VariantSpec("l4", flags=flags), CapacityType.ON_DEMAND)
    assert re.fullmatch(DNS_LABEL, deployment_name(ServiceKey("default", "chat"), variant))
    assert re.fullmatch(DNS_LABEL, variant)


# What the engine is told


def arguments(flags: EngineFlags, args: tuple[str, ...] = ()) -> list[str]:
    spec = VariantSpec("l4", flags=flags)
    made = render(
        service(spec), L4, variant_name(spec, CapacityType.ON_DEMAND), 1, spec=spec,
        capacity_type=CapacityType.ON_DEMAND, image="vllm/vllm-openai:v0.11.2", args=list(args), port=8000,
    )  # fmt: skip
    [container] = made["spec"]["template"]["spec"]["containers"]
    given: list[str] = container["args"]
    return given


PLAIN_ARGUMENTS = ["--model", "m", "--port", "8000"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (NO_FLAGS, []),
        (EngineFlags("fp8"), ["--quantization", "fp8"]),
        (EngineFlags(kv_cache_dtype="fp8_e4m3"), ["--kv-cache-dtype", "fp8_e4m3"]),
        (EngineFlags(chunked_prefill=ChunkedPrefill.ENABLED), ["--enable-chunked-prefill"]),
        (EngineFlags(chunked_prefill=ChunkedPrefill.DISABLED), ["--no-enable-chunked-prefill"]),
    ],
)
def test_flags_are_arguments_of_the_engine(flags: EngineFlags, expected: list[str]) -> None:
    assert arguments(flags) == [*PLAIN_ARGUMENTS, *expected]


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        (SpeculativeDecoding(4, 0.6), {"method": "ngram", "num_speculative_tokens": 4}),
        (
            SpeculativeDecoding(2, 0.6, "eagle", "org/draft"),
            {"method": "eagle", "num_speculative_tokens": 2, "model": "org/draft"},
        ),
    ],
)
def test_speculative_decoding_is_one_json_argument(draft: SpeculativeDecoding, expected: Manifest) -> None:
    flag, value = arguments(EngineFlags(speculative=draft))[len(PLAIN_ARGUMENTS) :]
    assert flag == "--speculative-config"
    assert json.loads(value) == expected


def test_users_own_arguments_come_last() -> None:
    given = arguments(EngineFlags("fp8"), ("--quantization", "awq"))
    assert given == [*PLAIN_ARGUMENTS, "--quantization", "fp8", "--quantization", "awq"]


# An edited SLO needs no new profile


@pytest.mark.parametrize("kind", ["measured", "linear", "roofline"])
def test_another_slo_gives_another_rate_from_the_same_profile(kind: str) -> None:
    profile = to_profile(manifest(kind))
    rates = []
    for objective in (35, 50, 70):
        made = assembled(service(VariantSpec("l4"), slo=Slo(objective)), (profile,))
        assert made.warnings == ()
        rates.append(made.problem.variants[0].throughput[0].rate_rps)
    assert 0 < rates[0] < rates[1] < rates[2]


@pytest.mark.parametrize("kind", ["measured", "linear", "roofline"])
def test_a_ttft_objective_and_a_higher_percentile_lower_the_rate(kind: str) -> None:
    profile = to_profile(manifest(kind))

    def rate(slo: Slo) -> float:
        made = assembled(service(VariantSpec("l4"), slo=slo), (profile,))
        return made.problem.variants[0].throughput[0].rate_rps

    plain = rate(Slo(60))
    assert 0 < rate(Slo(60, 110)) < plain
    assert 0 < rate(Slo(60, None, 99)) < plain < rate(Slo(60, None, 50))


def test_measured_rates_by_hand() -> None:
    profile = to_profile(manifest("measured"))
    # p95 is 20, 40 and 80 ms at 1, 2 and 4 req/s: 50 ms is a quarter of the way from 2 to 4.
    assert profile.max_throughput(CHAT, LatencyTarget(50), None).rate_rps == pytest.approx(2.5)
    assert profile.max_throughput(CHAT, LatencyTarget(10), None).reason is Unservable.LATENCY_AT_LOWEST_RATE
    assert profile.max_throughput(CHAT, LatencyTarget(50), 600).reason is Unservable.MODEL_LENGTH


def test_points_without_the_percentile_are_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"percentile of 99\.9 or above") as caught:
        assembled(service(VariantSpec("l4"), slo=Slo(60, None, 99.9)), (to_profile(manifest("measured")),))
    assert "Add a profile made for this SLO" in str(caught.value)


def grid(**slo: float) -> Profile:
    return to_profile(manifest(None, maxThroughput={**KINDS["maxThroughput"], "slo": slo}))


@pytest.mark.parametrize(
    ("made_for", "wanted", "says"),
    [
        ({"timePerOutputTokenMs": 40}, Slo(39), "timePerOutputTokenMs 40, looser than the service's 39"),
        ({"timeToFirstTokenMs": 900}, Slo(40, 500), "timeToFirstTokenMs 900, looser than the service's 500"),
        ({"timePerOutputTokenMs": 20, "timeToFirstTokenMs": 900}, Slo(40, 500), "timeToFirstTokenMs 900"),
    ],
)
def test_a_grid_made_for_a_looser_slo_is_refused_with_the_reason(
    made_for: dict[str, float], wanted: Slo, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        assembled(service(VariantSpec("l4"), slo=wanted), (grid(**made_for),))
    assert says in str(caught.value)
    assert "'m-l4'" in str(caught.value)
    assert "spec.slo" in str(caught.value)
    target = LatencyTarget(wanted.tpot_ms, wanted.ttft_ms)
    assert grid(**made_for).max_throughput(CHAT, target, None).reason is Unservable.NO_PROFILE


@pytest.mark.parametrize(
    ("made_for", "wanted"),
    [
        ({"timePerOutputTokenMs": 40}, Slo(40)),
        ({"timePerOutputTokenMs": 40}, Slo(200)),
        ({"timePerOutputTokenMs": 40}, Slo(40, 500)),
        ({}, Slo(1, 1)),
        ({"timePerOutputTokenMs": 20, "timeToFirstTokenMs": 400}, Slo(40, 500)),
    ],
)
def test_a_grid_made_for_a_tighter_or_unstated_slo_is_used_as_it_is(made_for: dict[str, float], wanted: Slo) -> None:
    made = assembled(service(VariantSpec("l4"), slo=wanted), (grid(**made_for),))
    assert made.warnings == ()
    assert made.problem.variants[0].throughput[0].rate_rps == pytest.approx(7.2)
