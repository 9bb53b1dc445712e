"""Estimates from facts of models and GPUs, and where a missing ThroughputProfile lets one in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medley.allocation.assemble import Assembled, assemble
from medley.cycle.decide import decide
from medley.cycle.decision import ServiceDecision, Truth
from medley.cycle.snapshot import ServiceState, Settings, Snapshot
from medley.model.engine import NO_FLAGS, EngineFlags, SpeculativeDecoding
from medley.model.errors import UserError
from medley.model.objects import (
    CapacityType,
    Mode,
    Offering,
    Pool,
    RoutingMode,
    Service,
    ServiceKey,
    Slo,
    StaticPoint,
    VariantSpec,
)
from medley.model.workload import Size, Workload
from medley.planning.steps import VariantState
from medley.profiles.estimate import error_band, estimate, estimated_profile, roofline_of
from medley.profiles.gpu import find_gpu
from medley.profiles.latency import LatencyTarget, Unservable
from medley.profiles.model_facts import Attention, ModelFacts, known_models
from medley.profiles.profile import Profile, ProfileKey, Provenance
from medley.profiles.roofline import Roofline
from medley.profiles.step import StepModel
from medley.workload.known import from_points

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.3-70B-Instruct"
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
DEEPSEEK = "deepseek-ai/DeepSeek-V3"
CHAT = Size(1024, 256)
MEAN = LatencyTarget(tpot_ms=100, percentile=50)


def facts(model: str) -> ModelFacts:
    return known_models()[model]


def roofline(model: str, gpu: str, count: int = 1, flags: EngineFlags = NO_FLAGS) -> Roofline:
    return roofline_of(facts(model), find_gpu(gpu), count, flags)


# What a roofline is made of


def test_the_facts_of_a_small_model_on_one_gpu() -> None:
    made = roofline(LLAMA_8B, "L4")
    assert (made.gpus, made.memory_gib, made.bandwidth_gb_per_s, made.dense_tflops) == (1, 24, 300, 121)
    assert made.weight_gb == pytest.approx(16.06, abs=0.05)  # 8.03 billion in 16 bits
    assert made.active_parameters == pytest.approx(7.50e9, rel=0.01)  # without the input embedding
    assert made.kv_bytes_per_token == 131_072  # 2 · 32 layers · 8 heads · 128 · 2 bytes
    assert (made.layers, made.hidden_size, made.attention_width) == (32, 4096, 4096)
    assert (made.experts, made.expert_weight_gb, made.speculative) == (0, 0, None)


@pytest.mark.parametrize(
    ("gpu", "tflops"), [("T4", 65), ("L4", 121), ("A10G", 70), ("H100", 989), ("H100-PCIe", 756.5)]
)
def test_computing_is_in_16_bits_which_are_fp16_where_there_is_no_bf16(gpu: str, tflops: float) -> None:
    assert roofline(LLAMA_8B, gpu).dense_tflops == tflops


def test_what_fits_beside_the_weights() -> None:
    assert 35_000 <= roofline(LLAMA_8B, "L4").kv_capacity_tokens <= 48_000
    # 16 GB of weights do not leave a T4's 16 GiB anything.
    assert roofline(LLAMA_8B, "T4").kv_capacity_tokens < 1
    assert roofline(LLAMA_8B, "T4").max_throughput(CHAT, MEAN).reason is Unservable.WEIGHTS_DO_NOT_FIT
    assert 350_000 <= roofline(LLAMA_8B, "H100").kv_capacity_tokens <= 480_000


def test_a_large_model_needs_several_gpus() -> None:
    assert roofline(LLAMA_70B, "H100").max_throughput(CHAT, MEAN).reason is Unservable.WEIGHTS_DO_NOT_FIT
    four = roofline(LLAMA_70B, "H100", 4)
    assert four.max_throughput(CHAT, MEAN).rate_rps > 1
    # 4 · (0.9 · 80 − reserve) GiB less 141 GB, at 327,680 bytes a token.
    assert 350_000 <= four.kv_capacity_tokens <= 520_000


def test_tpot_of_one_request_is_the_time_to_read_the_weights() -> None:
    # 16.06 GB at 3350 GB/s are 4.8 ms, at 300 GB/s 53.5 ms; kernels reach 0.6 to 1.0 of it, with some ms around.
    for gpu, bare_ms in (("H100", 4.8), ("L4", 53.5)):
        step = roofline(LLAMA_8B, gpu).decode_ms(Size(128, 2), 1)
        assert bare_ms < step < bare_ms / 0.6 + 3


def test_rates_of_gpus_are_in_the_order_of_their_speed() -> None:
    rates = [roofline(LLAMA_8B, gpu).max_throughput(CHAT, MEAN).rate_rps for gpu in ("L4", "L40S", "A100-80", "H100")]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] / 5


def test_two_gpus_are_faster_than_one_but_not_twice() -> None:
    one, two = (roofline(LLAMA_8B, "H100", count) for count in (1, 2))
    assert two.kv_capacity_tokens > 2 * one.kv_capacity_tokens
    target = LatencyTarget(tpot_ms=20, percentile=50)
    assert one.max_throughput(CHAT, target).rate_rps < two.max_throughput(CHAT, target).rate_rps
    # Less than half the step: the sum of activations goes over the link.
    assert one.decode_ms(CHAT, 8) / 2 < two.decode_ms(CHAT, 8) < one.decode_ms(CHAT, 8)


def test_experts_hold_most_of_a_mixture_and_few_are_read_for_one_token() -> None:
    made = roofline(MIXTRAL, "H100", 4)
    assert made.weight_gb == pytest.approx(93.4, abs=0.5)
    assert made.expert_weight_gb == pytest.approx(90.2, abs=0.5)
    assert (made.experts, made.experts_per_token) == (8, 2)
    # A step of one token reads 2 of 8 experts, one of many reads nearly all: 3.2 + 22.5 and 93.4 GB.
    dense = replace(made, experts=0, experts_per_token=0, expert_weight_gb=0.0)
    assert made.decode_ms(CHAT, 1) < dense.decode_ms(CHAT, 1) / 2
    assert made.decode_ms(CHAT, 64) == pytest.approx(dense.decode_ms(CHAT, 64), rel=0.01)


def test_latent_attention_is_copied_to_every_gpu() -> None:
    assert facts(DEEPSEEK).attention is Attention.MLA
    made = roofline(DEEPSEEK, "H200", 8)
    assert made.kv_shards == 1
    assert made.kv_bytes_per_token == 61 * (512 + 64) * 2
    assert made.weight_gb == pytest.approx(671, rel=0.02)  # declared in fp8
    assert made.dense_tflops == 1978


@pytest.mark.parametrize(("count", "shards"), [(1, 1), (2, 2), (8, 8), (16, 8), (32, 8)])
def test_the_cache_is_split_over_kv_heads_at_most(count: int, shards: int) -> None:
    assert roofline(LLAMA_8B, "H100", count).kv_shards == shards


def test_latent_attention_has_the_wider_error_band() -> None:
    low, high = error_band(facts(LLAMA_8B))
    mla_low, mla_high = error_band(facts(DEEPSEEK))
    assert low < 1 < high
    assert mla_low < low
    assert mla_low < 1 < mla_high


# Flags


def test_fp8_halves_the_weights_and_computes_in_fp8_where_there_is_some() -> None:
    plain, fp8 = (roofline(LLAMA_8B, "L4", flags=flags) for flags in (NO_FLAGS, EngineFlags("fp8")))
    embedding_gb = 2 * 128_256 * 4096 / 1e9  # stays in 16 bits
    assert fp8.weight_gb == pytest.approx((plain.weight_gb - embedding_gb) / 2 + embedding_gb, rel=0.001)
    assert (plain.dense_tflops, fp8.dense_tflops) == (121, 242)
    assert fp8.kv_capacity_tokens > plain.kv_capacity_tokens + 40_000
    assert fp8.max_throughput(CHAT, MEAN).rate_rps > plain.max_throughput(CHAT, MEAN).rate_rps
    assert roofline(LLAMA_8B, "A100-80", flags=EngineFlags("fp8")).dense_tflops == 312
    assert roofline(LLAMA_8B, "T4", flags=EngineFlags("fp8")).dense_tflops == 65


def test_four_bits_are_smaller_than_eight_and_computed_in_16() -> None:
    fp8, awq = (roofline(LLAMA_8B, "L4", flags=EngineFlags(name)) for name in ("fp8", "awq"))
    assert awq.weight_gb < fp8.weight_gb * 0.75
    assert awq.dense_tflops == 121


def test_the_weights_of_experts_shrink_with_the_others() -> None:
    plain, fp8 = (roofline(MIXTRAL, "H100", 4, flags) for flags in (NO_FLAGS, EngineFlags("fp8")))
    assert fp8.expert_weight_gb == pytest.approx(plain.expert_weight_gb / 2, rel=0.01)


def test_a_cache_in_fp8_takes_half() -> None:
    for name in ("fp8", "fp8_e4m3", "fp8_e5m2"):
        assert roofline(LLAMA_8B, "L4", flags=EngineFlags(kv_cache_dtype=name)).kv_bytes_per_token == 65_536


def test_drafts_are_taken_over_and_speed_up_a_lone_request() -> None:
    draft = SpeculativeDecoding(3, 0.8)
    made = roofline(LLAMA_8B, "H100", flags=EngineFlags(speculative=draft))
    assert made.speculative == draft
    gain = roofline(LLAMA_8B, "H100").decode_ms(CHAT, 1) / made.decode_ms(CHAT, 1)
    assert gain == pytest.approx(draft.tokens_per_step, rel=0.02)


def test_an_unknown_quantisation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="'fp3' cannot be estimated") as caught:
        roofline(LLAMA_8B, "L4", flags=EngineFlags("fp3"))
    assert caught.value.field == "quantization"
    assert "awq, fp8, gptq" in caught.value.fix


def test_an_unknown_cache_type_is_refused_as_an_unknown_quantisation_is() -> None:
    # Taken for 16 bits it would be a silent guess.
    with pytest.raises(UserError, match="fp3") as caught:
        roofline(LLAMA_8B, "L4", flags=EngineFlags(kv_cache_dtype="fp3"))
    assert caught.value.fix


@pytest.mark.parametrize("count", [3, 5, 64])
def test_a_number_of_gpus_that_does_not_divide_the_heads_is_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"32 attention heads cannot be split over {count} GPUs") as caught:
        roofline(LLAMA_8B, "H100", count)
    assert caught.value.field == "tensorParallelSize"
    assert "divisor" in caught.value.fix


def test_rows_leave_out_what_cannot_be_split_and_name_what_is_too_long() -> None:
    too_long = Size(131_000, 200)
    rows = list(estimate(facts(LLAMA_8B), [find_gpu("H100")], [1, 2, 3], MEAN, [CHAT, too_long], NO_FLAGS))
    assert [(row.tensor_parallel_size, row.size) for row in rows] == [
        (1, CHAT), (1, too_long), (2, CHAT), (2, too_long),
    ]  # fmt: skip
    assert [row.throughput.reason for row in rows] == [None, Unservable.MODEL_LENGTH] * 2
    for row in rows:
        own = roofline(LLAMA_8B, "H100", row.tensor_parallel_size).max_throughput(CHAT, MEAN).rate_rps
        rate = own if row.size == CHAT else 0.0
        low, high = error_band(facts(LLAMA_8B))
        assert (row.low_rps, row.throughput.rate_rps, row.high_rps) == pytest.approx((low * rate, rate, high * rate))


# The profile that stands in


def test_an_estimate_is_a_profile_like_any_other() -> None:
    key = ProfileKey(LLAMA_8B, "L4", flags=EngineFlags("fp8"))
    made = estimated_profile(key)
    assert isinstance(made, Profile)
    assert made.key == key
    assert (made.provenance, made.derating) == (Provenance.ESTIMATED, 0.7)
    assert made.speed == roofline(LLAMA_8B, "L4", flags=EngineFlags("fp8"))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (ProfileKey("llama-tuned", "L4"), "model 'llama-tuned'"),
        (ProfileKey(LLAMA_8B, "Z9"), "GPU 'Z9' is not known"),
        (ProfileKey(LLAMA_8B, "H100", 3), "cannot be split over 3"),
        (ProfileKey(LLAMA_8B, "H100", flags=EngineFlags("fp3")), "'fp3' cannot be estimated"),
    ],
)
def test_without_an_estimate_there_is_a_reason(key: ProfileKey, says: str) -> None:
    made = estimated_profile(key)
    assert isinstance(made, str)
    assert says in made


# Where it stands in


POOLS = {
    name: Pool(name, gpu, 1, (Offering(CapacityType.ON_DEMAND, price),))
    for name, gpu, price in (("l4", "L4", 0.8), ("own", "Z9", 1.0), ("h100", "H100", 6.9))
}
WRITTEN = Profile(
    "written", ProfileKey(LLAMA_8B, "L4"), Provenance.MEASURED, 0.9, StepModel(50.0, 0.2, 0.0003, 0.1, 40_000)
)


def service(
    *pools: str, mode: Mode = Mode.OBSERVE, allow: bool = False, model: str = LLAMA_8B, rate: float = 2.0
) -> Service:
    return Service(
        ServiceKey("default", "chat"), "uid", 1, model, Slo(120), tuple(VariantSpec(pool) for pool in pools),
        mode=mode, static_points=(StaticPoint(CHAT, rate),), allow_estimated_profiles=allow,
    )  # fmt: skip


def workload(made: Service) -> Workload:
    assert made.static_points is not None
    return from_points(made.static_points)


def assembled(made: Service, *profiles: Profile) -> Assembled:
    return assemble(
        made, POOLS, {profile.key: profile for profile in profiles}, workload(made), demand_factor=1.0,
        routing=RoutingMode.SERVICE,
    )  # fmt: skip


def decided(made: Service, *profiles: Profile, running: int = 0) -> ServiceDecision:
    states = (ServiceState(made.key, (VariantState("l4", running, running, running, "l4"),)),) if running else ()
    snapshot = Snapshot(1e6, Settings(), (made,), tuple(POOLS.values()), profiles, states)
    [decision] = decide(snapshot).services
    return decision


def test_a_watched_service_without_a_profile_uses_the_estimate_and_says_so() -> None:
    made = assembled(service("l4"))
    [variant] = made.problem.variants
    target = LatencyTarget(120)
    assert variant.throughput[0] == roofline(LLAMA_8B, "L4").max_throughput(CHAT, target)
    assert variant.derating == 0.7
    assert made.warnings == ()
    [warning] = made.estimates
    assert warning.field == "spec.variants[0]"
    assert f"no ThroughputProfile for model {LLAMA_8B!r} on L4" in str(warning)
    assert "estimate is used" in str(warning)
    assert "Create a ThroughputProfile" in warning.fix


def test_a_written_profile_goes_before_the_estimate() -> None:
    made = assembled(service("h100", "l4"), WRITTEN)
    rates = {variant.name: variant for variant in made.problem.variants}
    assert rates["l4"].throughput[0] == WRITTEN.max_throughput(CHAT, LatencyTarget(120), None)
    assert rates["l4"].derating == 0.9
    [warning] = made.estimates
    assert warning.field == "spec.variants[0]"
    assert "on H100" in str(warning)


def test_profiles_of_another_model_are_named() -> None:
    other = replace(WRITTEN, key=replace(WRITTEN.key, model="llama-8b"))
    [warning] = assembled(service("l4"), other).estimates
    assert "the ones for L4 are for another model: llama-8b" in str(warning)


def test_a_service_in_auto_refuses_the_estimate_and_says_how_to_allow_it() -> None:
    with pytest.raises(UserError, match="not acted on in Auto") as caught:
        assembled(service("l4", mode=Mode.AUTO))
    assert "spec.variants[0]" in str(caught.value)
    assert "spec.allowEstimatedProfiles: true" in str(caught.value)


def test_a_service_in_auto_leaves_out_only_what_has_no_profile() -> None:
    made = assembled(service("l4", "h100", mode=Mode.AUTO), WRITTEN)
    assert [variant.name for variant in made.problem.variants] == ["l4"]
    [warning] = made.warnings
    assert warning.field == "spec.variants[1]"
    assert "spec.allowEstimatedProfiles: true" in warning.fix


def test_a_service_in_auto_may_allow_the_estimate() -> None:
    made = assembled(service("l4", mode=Mode.AUTO, allow=True))
    watched = assembled(service("l4"))
    assert made.problem.variants == watched.problem.variants
    assert [str(said) for said in made.estimates] == [str(said) for said in watched.estimates]
    assert len(made.estimates) == 1


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("allow", [False, True])
def test_what_nobody_knows_is_never_estimated(mode: Mode, allow: bool) -> None:
    with pytest.raises(UserError, match="none can be estimated: GPU 'Z9' is not known"):
        assembled(service("own", mode=mode, allow=allow))
    with pytest.raises(UserError, match="nothing is known of model 'llama-tuned'"):
        assembled(service("l4", mode=mode, allow=allow, model="llama-tuned"))


def test_an_estimated_plan_is_marked_in_the_conditions() -> None:
    decision = decided(service("l4", mode=Mode.AUTO, allow=True))
    assert decision.act
    assert sum(variant.planned for variant in decision.variants) >= 1
    ready = decision.finding("Ready")
    assert ready is not None
    assert "estimate is used" in ready.message
    assert "spec.variants[0]" in ready.message


def test_an_estimate_stays_marked_when_every_replica_is_ready() -> None:
    made = service("l4", rate=0.1)
    planned = sum(variant.planned for variant in decided(made).variants)
    ready = decided(made, running=planned).finding("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (Truth.TRUE, "EstimatedProfiles")
    assert "estimate is used" in ready.message


def test_a_written_profile_leaves_no_mark() -> None:
    ready = decided(service("l4"), WRITTEN).finding("Ready")
    assert ready is not None
    assert "estimate" not in ready.message


def test_a_refused_estimate_changes_nothing_and_says_what_to_do() -> None:
    decision = decided(service("l4", mode=Mode.AUTO), running=3)
    assert not decision.act
    assert decision.allocation is None
    ready = decision.finding("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (Truth.FALSE, "InvalidSpec")
    assert "spec.allowEstimatedProfiles: true" in ready.message
