"""Conditions of a service, from what was seen and decided."""

from __future__ import annotations

from collections.abc import Sequence

from medley.allocation.problem import Allocation, Outcome
from medley.cycle.case import Case
from medley.cycle.decision import Finding, Truth, VariantTarget
from medley.cycle.snapshot import ServiceState
from medley.model.errors import UserError
from medley.model.objects import RoutingMode, Service
from medley.model.samples import ServiceSamples
from medley.model.workload import Knowledge, Workload


def unusable(error: UserError, workload: Workload) -> tuple[Finding, ...]:
    """Conditions of a service that cannot be planned."""
    return (
        Finding("Ready", Truth.FALSE, "InvalidSpec", str(error)),
        Finding("Optimised", Truth.FALSE, "InvalidSpec", "nothing is changed until the spec can be used"),
        _workload_known(workload),
    )


def findings(
    case: Case, allocation: Allocation, waiting_for: str, stays: str, variants: Sequence[VariantTarget]
) -> tuple[Finding, ...]:
    """Conditions of a planned service.

    Args:
        case: the service.
        allocation: its plan.
        waiting_for: what the next step waits for; empty if it is the last.
        stays: what is kept for the stabilisation window; empty if nothing is.
        variants: replicas asked for and planned.
    """
    service, state, workload = case.service, case.state, case.workload
    said = case.assembled
    return (
        _ready(
            state,
            variants,
            said.warnings if said else (),
            said.estimates if said else (),
            said.doubts if said else (),
        ),
        _workload_known(workload, service.scaling.min_replicas),
        _slo_met(service, case.samples),
        _optimised(allocation, case.held, waiting_for, stays, workload),
        _capacity(allocation, state, variants),
        _routing(service, case.routing),
        _real_data(service, state, workload),
    )


def _real_data(service: Service, state: ServiceState, workload: Workload) -> Finding:
    """Whether any decision has yet come from real samples; once true, it stays."""
    if state.real_data_before or (service.static_points is None and workload.knowledge is not Knowledge.UNKNOWN):
        return Finding("DecisionFromRealData", Truth.TRUE, "Sampled")
    if service.static_points is not None:
        return Finding("DecisionFromRealData", Truth.FALSE, "StaticWorkload", "the demand is written in the spec")
    return Finding("DecisionFromRealData", Truth.FALSE, "NoSamplesYet")


def _ready(
    state: ServiceState,
    variants: Sequence[VariantTarget],
    warnings: Sequence[UserError],
    estimates: Sequence[UserError],
    doubts: Sequence[UserError],
) -> Finding:
    ready = sum(variant.ready for variant in state.variants)
    desired = sum(variant.desired for variant in variants)
    note = "; ".join(str(said) for said in (*warnings, *estimates, *doubts))
    if ready < desired:
        return Finding("Ready", Truth.FALSE, "Scaling", _join(f"{ready} of {desired} replicas are Ready", note))
    if warnings:
        return Finding("Ready", Truth.TRUE, "SomeVariantsUnusable", note)
    if estimates:
        return Finding("Ready", Truth.TRUE, "EstimatedProfiles", note)
    if doubts:
        return Finding("Ready", Truth.TRUE, "ProfilesInDoubt", note)
    return Finding("Ready", Truth.TRUE, "AllReplicasReady", f"{ready} replicas")


def _workload_known(workload: Workload, min_replicas: int = 1) -> Finding:
    if workload.knowledge is Knowledge.UNKNOWN:
        text = f"{workload.reason}. What runs is held"
        if min_replicas == 0:
            text += ". With scaling.minReplicas 0 nothing starts by itself: set 1, or give static points"
        return Finding("WorkloadKnown", Truth.FALSE, "NoData", text)
    if workload.knowledge is Knowledge.ZERO:
        return Finding("WorkloadKnown", Truth.TRUE, "ConfirmedZero", "every replica reports no request")
    reason = "Complete" if workload.coverage >= 0.95 else "Partial"
    return Finding("WorkloadKnown", Truth.TRUE, reason, _join(f"{workload.rate_rps:.2f} req/s", workload.reason))


def _slo_met(service: Service, samples: ServiceSamples | None) -> Finding:
    latency = samples.latency if samples else None
    if latency is None or (latency.tpot_ms is None and latency.ttft_ms is None):
        return Finding("SLOMet", Truth.UNKNOWN, "NoData", "no request finished in the window")
    missed = []
    for name, seen, limit in (
        ("timePerOutputTokenMs", latency.tpot_ms, service.slo.tpot_ms),
        ("timeToFirstTokenMs", latency.ttft_ms, service.slo.ttft_ms),
    ):
        if seen is not None and limit is not None and seen > limit:
            missed.append(f"{name} is {seen:.0f} ms at p{service.slo.percentile:g}, objective {limit:g} ms")
    if missed:
        return Finding("SLOMet", Truth.FALSE, "Missed", "; ".join(missed))
    return Finding("SLOMet", Truth.TRUE, "Met")


def _optimised(allocation: Allocation, held: str, waiting_for: str, stays: str, workload: Workload) -> Finding:
    if allocation.unserved:
        worst = max(allocation.unserved, key=lambda item: item.bucket.rate_rps)
        otherwise = "" if worst.remedy else ". Loosen spec.slo, or add a pool or a tensor-parallel size that can"
        return Finding(
            "Optimised",
            Truth.FALSE,
            "SizesUnserved",
            f"{len(allocation.unserved)} sizes cannot be served; {worst.bucket.size} tokens: {worst.text}{otherwise}",
        )
    if allocation.outcome is Outcome.IMPOSSIBLE:
        return Finding("Optimised", Truth.FALSE, "NoPlan", "; ".join(allocation.messages))
    if allocation.outcome is Outcome.BEST_EFFORT:
        return Finding("Optimised", Truth.FALSE, "BestEffort", "; ".join(allocation.messages))
    if held:
        return Finding("Optimised", Truth.FALSE, "Held", f"nothing shrinks: {held}")
    if waiting_for:
        return Finding("Optimised", Truth.FALSE, "InProgress", waiting_for)
    if workload.knowledge is Knowledge.UNKNOWN:
        return Finding("Optimised", Truth.FALSE, "Floor", "the demand is unknown; only minReplicas are kept")
    text = _join(f"within {allocation.gap:.2%} of the lower bound", stays)
    return Finding("Optimised", Truth.TRUE, allocation.outcome.value, text)


def _capacity(allocation: Allocation, state: ServiceState, variants: Sequence[VariantTarget]) -> Finding:
    if allocation.outcome in (Outcome.BEST_EFFORT, Outcome.IMPOSSIBLE):
        limits = ", ".join(allocation.binding) or "limits"
        return Finding(
            "CapacityAvailable", Truth.FALSE, "LimitsTooLow", f"{'; '.join(allocation.messages)}. Raise: {limits}"
        )
    ready = {variant.name: variant.ready for variant in state.variants}
    waiting = [f"{v.name}: {ready.get(v.name, 0)} of {v.desired}" for v in variants if ready.get(v.name, 0) < v.desired]
    if waiting:
        return Finding(
            "CapacityAvailable", Truth.UNKNOWN, "Waiting", "not all replicas are Ready: " + ", ".join(waiting)
        )
    return Finding("CapacityAvailable", Truth.TRUE, "AllPlaced")


def _routing(service: Service, routing: RoutingMode) -> Finding:
    if service.routing is RoutingMode.SERVICE:
        return Finding("RoutingInPlace", Truth.TRUE, "NoSteeringAsked")
    if routing is service.routing:
        return Finding("RoutingInPlace", Truth.TRUE, "Acknowledged", "a router steers by the published shares")
    if routing is not RoutingMode.SERVICE:
        text = f"a router acknowledges {routing.value}, not {service.routing.value}; planned for {routing.value}"
        return Finding("RoutingInPlace", Truth.FALSE, "PartlyAcknowledged", text)
    return Finding(
        "RoutingInPlace",
        Truth.FALSE,
        "NotAcknowledged",
        "no router acknowledges the published shares (ConfigMap <service>-routing); planned for Service",
    )


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
