"""Each change that is proposed for a size that is not served is made, to service and pools, and planned: it is served.

The services are random: estimates and a grid, limits of 0, Spot ruled out, lengths, objectives, every routing mode.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from medley.allocation.assemble import Assembled, assemble, variant_name
from medley.allocation.diagnose import Diagnosis, diagnose
from medley.allocation.problem import Outcome, Problem
from medley.allocation.remedy import LOOSEST_MS, Remedy
from medley.allocation.routing import steer
from medley.allocation.solve import allocate
from medley.model.errors import UserError
from medley.model.objects import (
    CapacityType,
    Mode,
    Offering,
    Pool,
    RoutingMode,
    Scaling,
    Service,
    ServiceKey,
    Slo,
    VariantSpec,
)
from medley.model.workload import Bucket, Knowledge, Size, Workload
from medley.profiles.grid import Grid
from medley.profiles.profile import Profile, ProfileKey, Provenance

OD, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
EDGES = (512.0, 4096.0)
MARGIN = 1.1

Case = tuple[Service, dict[str, Pool], dict[ProfileKey, Profile], Workload]


def random_case(rng: random.Random) -> Case:
    pools = {}
    for number, gpu in enumerate(rng.sample(["L4", "A10G", "L40S", "H100"], rng.randint(1, 3))):
        offerings = [Offering(OD, 1.0 + number, max_nodes=rng.choice([None, None, None, 0]))]
        if rng.random() < 0.4:
            offerings.append(Offering(SPOT, 0.4))
        if rng.random() < 0.2:
            offerings = [Offering(SPOT, 0.4)]
        name = gpu.lower()
        limit = rng.choice([None, None, None, None, 0])
        pools[name] = Pool(name, gpu, rng.choice([1, 2, 4, 6, 8]), tuple(offerings), limit)
    specs = tuple(
        VariantSpec(name, 1, max_replicas=rng.choice([None, None, None, 0])) for name in pools if rng.random() < 0.95
    )
    profiles = {}
    for pool in pools.values():
        if rng.random() < 0.5:
            # Most can serve some input ranges and not others, so that routing matters.
            able = [rng.random() < 0.6 for _ in range(3)]
            rates = tuple((3.0 * here, 1.0 * here) for here in able)
            grid = Grid(rng.choice([8.0, 40.0, 90.0]), None, (128.0, 1024.0, 30000.0), (64.0, 700.0), rates)
            key = ProfileKey(MODEL, pool.gpu)
            profiles[key] = Profile("grid", key, Provenance.MEASURED, 0.9, grid)
    sizes = {Size(float(rng.choice([64, 300, 2000, 8000, 30000])), float(rng.choice([32, 128, 700]))) for _ in range(5)}
    buckets = tuple(
        Bucket(size, rng.uniform(0.01, 1.0), sum(size.input_tokens > edge for edge in EDGES))
        for size in sorted(sizes, key=lambda size: (size.input_tokens, size.output_tokens))
    )
    service = Service(
        ServiceKey("n", "s"), "", 1, MODEL,
        Slo(rng.choice([8.0, 25.0, 60.0, 150.0]), rng.choice([None, 100.0, 1000.0])),
        specs,
        max_model_len=rng.choice([None, 2048, 16384]),
        mode=rng.choice([Mode.OBSERVE, Mode.AUTO]),
        scaling=Scaling(max_spot_fraction=rng.choice([None, None, 0.0])),
        routing=rng.choice(list(RoutingMode)),
        allow_estimated_profiles=rng.random() < 0.7,
    )  # fmt: skip
    return service, pools, profiles, Workload(Knowledge.VALUE, buckets, EDGES)


def assembled(case: Case) -> Assembled:
    service, pools, profiles, workload = case
    return assemble(service, pools, profiles, workload, demand_factor=MARGIN, routing=service.routing)


def changed(case: Case, variant: str, remedy: Remedy) -> Case:
    """What a user would write who follows a remedy."""
    service, pools, profiles, workload = case
    spec, kind = next(
        (spec, offering.capacity_type)
        for spec in service.variants
        for offering in pools[spec.pool].offerings
        if variant_name(spec, offering.capacity_type) == variant
    )
    pool = pools[spec.pool]
    for limit in remedy.limits:
        match limit.limit.removeprefix(f"pool {pool.name} ").split():
            case ["limits.nodes"]:
                assert pool.max_nodes is not None
                pool = replace(pool, max_nodes=pool.max_nodes + limit.lacking)
            case ["offerings", _, "maxNodes"]:
                offerings = tuple(
                    replace(one, max_nodes=(one.max_nodes or 0) + limit.lacking) if one.capacity_type is kind else one
                    for one in pool.offerings
                )
                pool = replace(pool, offerings=offerings)
            case ["scaling.maxSpotPercent"]:
                scaling = replace(service.scaling, max_spot_fraction=limit.lacking / 100)
                service = replace(service, scaling=scaling)
            case [name, "maxReplicas"]:
                assert name == variant
                specs = tuple(
                    replace(one, max_replicas=limit.lacking) if one is spec else one for one in service.variants
                )
                service = replace(service, variants=specs)
            case other:
                raise AssertionError(other)
    pools = {**pools, pool.name: pool}
    if remedy.node_gpus:
        pool = replace(
            pool, name="other", gpus_per_node=remedy.node_gpus, max_nodes=None,
            offerings=tuple(replace(offering, max_nodes=None) for offering in pool.offerings),
        )  # fmt: skip
        pools["other"] = pool
    larger = remedy.tensor_parallel_size or remedy.node_gpus
    if larger:
        assert larger <= pool.gpus_per_node
        service = replace(service, variants=(*service.variants, VariantSpec(pool.name, larger, flags=spec.flags)))
    service = replace(
        service,
        slo=replace(
            service.slo,
            tpot_ms=remedy.tpot_ms or service.slo.tpot_ms,
            ttft_ms=remedy.ttft_ms or service.slo.ttft_ms,
        ),
        max_model_len=remedy.max_model_len or service.max_model_len,
        allow_estimated_profiles=service.allow_estimated_profiles or remedy.estimates,
        routing=remedy.routing or service.routing,
    )
    return service, pools, profiles, workload


def diagnosed(seed: int) -> tuple[Case, Problem, tuple[Diagnosis, ...]] | None:
    """A random case with what is said of its unserved sizes; None if no variant can be used at all."""
    case = random_case(random.Random(seed))
    try:
        problem = assembled(case).problem
    except UserError:
        return None
    service, pools, profiles, _ = case
    return case, problem, diagnose(service, problem, pools, profiles, steer(problem).unserved)


def test_what_is_proposed_serves_the_size() -> None:
    kinds, silent = Counter[str](), 0
    for seed in range(150):
        if (found := diagnosed(seed)) is None:
            continue
        case, problem, diagnoses = found
        before = {item.bucket for item in steer(problem).unserved}
        for item in diagnoses:
            silent += not item.remedies
            for remedy in item.remedies:
                bucket = item.unserved.bucket
                after = assembled(changed(case, item.nearest, remedy)).problem
                made = allocate(after)
                left_out = {one.bucket for one in made.unserved}
                assert bucket not in left_out, (seed, bucket.size, item.nearest, remedy.text)
                assert left_out < before, (seed, item.remedy)
                assert made.outcome in (Outcome.OPTIMAL, Outcome.INCUMBENT, Outcome.BEST_EFFORT), (seed, made.messages)
                if made.outcome is Outcome.BEST_EFFORT:
                    # The one replica or node that is named may carry a part only.
                    assert made.served_fraction > 0, (seed, remedy.text)
                    assert remedy.limits or any(pool.max_nodes is not None for pool in case[1].values()), seed
                kinds.update(
                    name
                    for name, given in (
                        ("objective", remedy.tpot_ms or remedy.ttft_ms),
                        ("length", remedy.max_model_len),
                        ("larger", remedy.tensor_parallel_size),
                        ("nodes", remedy.node_gpus),
                        ("limit", remedy.limits),
                        ("spot", any(limit.unit == "percent" for limit in remedy.limits)),
                        ("estimates", remedy.estimates),
                        ("routing", remedy.routing),
                    )
                    if given
                )
    assert min(kinds[name] for name in ("objective", "length", "larger", "nodes", "limit")) > 5, kinds
    assert min(kinds[name] for name in ("spot", "estimates", "routing")) > 1, kinds
    assert silent < sum(kinds.values()) / 3


def useful(case: Case, variant: str, remedy: Remedy, size: Size) -> bool:
    """Whether a replica of the variant carries a twentieth of what it could without objectives."""
    service, pools, profiles, _ = changed(case, variant, remedy)
    workload = Workload(Knowledge.VALUE, (Bucket(size, 1.0, 0),), ())
    loose = replace(service.slo, tpot_ms=LOOSEST_MS, ttft_ms=service.slo.ttft_ms and LOOSEST_MS)
    rates = []
    for slo in (service.slo, loose):
        found = assembled((replace(service, slo=slo), pools, profiles, workload)).problem
        rates.append(next((v.throughput[0].rate_rps for v in found.variants if v.name == variant), 0.0))
    return rates[0] >= 0.05 * rates[1] > 0.0


def test_a_tighter_objective_a_shorter_length_or_coarser_routing_would_not_do() -> None:
    tried = Counter[str]()
    for seed in range(200, 280):
        if (found := diagnosed(seed)) is None:
            continue
        case, problem, diagnoses = found
        before = {left.bucket for left in steer(problem).unserved}

        def serves(remedy: Remedy, item: Diagnosis, case: Case = case, before: set[Bucket] = before) -> bool:
            after = assembled(changed(case, item.nearest, remedy)).problem
            return {left.bucket for left in steer(after).unserved} <= before - {item.unserved.bucket}

        for item, remedy in [(one, remedy) for one in diagnoses for remedy in one.remedies]:
            size = item.unserved.bucket.size
            for name in ("tpot_ms", "ttft_ms"):
                if (value := getattr(remedy, name)) is not None:
                    tried[name] += 1
                    less = replace(remedy, **{name: value * 0.97})  # type: ignore[arg-type]
                    assert useful(case, item.nearest, remedy, size), (seed, remedy.text)
                    assert not useful(case, item.nearest, less, size), (seed, remedy.text)
            if remedy.max_model_len:
                tried["length"] += 1
                assert not serves(replace(remedy, max_model_len=remedy.max_model_len - 1), item), (seed, remedy.text)
            if remedy.routing:
                tried["routing"] += 1
                coarser = list(RoutingMode)[remedy.routing.fineness - 1]
                assert not serves(replace(remedy, routing=coarser), item), (seed, remedy.text)
    assert min(tried[name] for name in ("tpot_ms", "ttft_ms", "length", "routing")) > 3, tried
