"""Status of an LLMService from a decision, and which Events a change of it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from medley.actuation.cluster_api import ClusterApi, PatchType
from medley.actuation.deployments import FIELD_MANAGER
from medley.cycle.decision import Finding, ServiceDecision, Truth
from medley.cycle.snapshot import ServiceState
from medley.model.objects import API_VERSION, Service
from medley.model.workload import Knowledge

Manifest = dict[str, Any]

QUIET = frozenset({"InProgress", "Scaling", "Waiting", "NoData", "Floor", "Held"})
"""Reasons that come and go in normal work: shown in status, no Warning."""


def timestamp(at_s: float) -> str:
    """RFC 3339 with seconds, as Kubernetes writes it."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(
    findings: Sequence[Finding], previous: Mapping[str, Any], generation: int, now_s: float
) -> list[Manifest]:
    """Conditions of the status; `lastTransitionTime` moves only when the status does."""
    old = {item["type"]: item for item in previous.get("conditions") or []}
    out = []
    for finding in findings:
        before = old.get(finding.type)
        same = before is not None and before["status"] == finding.status.value
        out.append(
            {
                "type": finding.type,
                "status": finding.status.value,
                "reason": finding.reason,
                "message": finding.message[:2048],
                "observedGeneration": generation,
                "lastTransitionTime": before["lastTransitionTime"] if same and before else timestamp(now_s),
            }
        )
    return out


def status(
    service: Service, decision: ServiceDecision, state: ServiceState, previous: Mapping[str, Any], now_s: float
) -> Manifest:
    """The whole status, as LLMServiceStatus has it."""
    allocation = decision.allocation
    workload = decision.workload
    ready = {variant.name: variant.ready for variant in state.variants}
    known = workload.knowledge is not Knowledge.UNKNOWN
    rate = workload.rate_rps
    out: Manifest = {
        "observedGeneration": service.generation,
        "conditions": conditions(decision.findings, previous, service.generation, now_s),
        "resolved": {
            "mode": service.mode.value,
            "routing": decision.routing.value,
            "percentile": service.slo.percentile,
            "headroomPercent": service.scaling.headroom * 100.0,
            "variants": [variant.name for variant in decision.variants],
        },
        "workload": {
            "knowledge": workload.knowledge.value,
            "coveragePercent": round(workload.coverage * 100.0, 1),
            "demandFactor": round(decision.demand_factor, 4),
        },
        "variants": [
            {
                "name": v.name,
                "gpu": v.gpu,
                "desired": v.desired,
                "planned": v.planned,
                "ready": ready.get(v.name, 0),
            }
            for v in decision.variants
        ],
        "gpus": sum(v.desired * v.gpus for v in decision.variants),
        "ready": f"{sum(ready.values())}/{sum(v.desired for v in decision.variants)}",
        "rate": f"{rate:.2f}" if known else "unknown",
        "slo": slo_text(service),
    }
    if known:
        out["workload"]["requestsPerSecond"] = round(rate, 4)
        if rate > 0:
            out["workload"]["meanInputTokens"] = round(
                sum(b.size.input_tokens * b.rate_rps for b in workload.buckets) / rate, 1
            )
            out["workload"]["meanOutputTokens"] = round(
                sum(b.size.output_tokens * b.rate_rps for b in workload.buckets) / rate, 1
            )
    if decision.cost_per_hour is not None and allocation is not None:
        out["costPerHour"] = f"{decision.cost_per_hour:.4f}"
        out["lowerBoundPerHour"] = f"{allocation.lower_bound_per_hour:.4f}"
        single = decision.best_single_per_hour
        if single is not None:
            out["bestSingleCostPerHour"] = f"{single:.4f}"
            out["savedPercent"] = f"{100.0 * (1.0 - decision.cost_per_hour / single):.1f}%" if single > 0 else "0.0%"
    if allocation is not None:
        out["unserved"] = [
            {
                "size": str(item.bucket.size),
                "requestsPerSecond": round(item.bucket.rate_rps, 4),
                "reason": item.text[:1024],
            }
            for item in allocation.unserved[:64]
        ]
        out["messages"] = [message[:1024] for message in (*allocation.messages, *allocation.binding)[:32]]
    return out


def slo_text(service: Service) -> str:
    """The objectives, short."""
    parts = [f"tpot {service.slo.tpot_ms:g}ms"]
    if service.slo.ttft_ms is not None:
        parts.append(f"ttft {service.slo.ttft_ms:g}ms")
    return f"{' '.join(parts)} p{service.slo.percentile:g}"


def apply(api: ClusterApi, service: Service, body: Manifest) -> None:
    """Write the status subresource."""
    key = service.key
    api.patch(
        f"/apis/{API_VERSION}/namespaces/{key.namespace}/llmservices/{key.name}/status",
        {
            "apiVersion": API_VERSION,
            "kind": "LLMService",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "status": body,
        },
        PatchType.APPLY,
        fieldManager=FIELD_MANAGER,
        force="true",
    )


def worth_an_event(findings: Sequence[Finding], previous: Mapping[str, Any]) -> list[Finding]:
    """Findings whose status or reason changed and that somebody should hear of."""
    old = {item["type"]: (item["status"], item["reason"]) for item in previous.get("conditions") or []}
    out = []
    for finding in findings:
        if old.get(finding.type) == (finding.status.value, finding.reason):
            continue
        first_and_fine = finding.type not in old and finding.status is not Truth.FALSE
        if finding.reason in QUIET and finding.type not in ("WorkloadKnown",):
            continue
        if not first_and_fine:
            out.append(finding)
    return out
