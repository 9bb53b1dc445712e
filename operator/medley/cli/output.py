"""How plans look: the JSON object of the command contract (DESIGN §9), and tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from medley.allocation.diagnose import Diagnosis
from medley.allocation.joint import JointAllocation
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.allocation.remedy import Remedy
from medley.cycle.steering import routing_shares

Diagnoses = Mapping[str, Sequence[Diagnosis]]
"""By service; sizes that are not served."""


def plan_object(
    problems: dict[str, Problem], joint: JointAllocation, messages: dict[str, list[str]], diagnoses: Diagnoses
) -> dict[str, Any]:
    """The stable JSON form of a plan; numbers unrounded, $ per hour, req/s, ms."""
    costs = dict(joint.cost_shares)
    return {
        "services": [
            service_object(
                name,
                problems[name],
                allocation,
                costs.get(name, 0.0),
                messages.get(name, []),
                diagnoses.get(name, ()),
            )
            for name, allocation in joint.allocations
        ],
        "totalCostPerHour": joint.total_cost_per_hour,
        "lowerBoundPerHour": joint.lower_bound_per_hour,
        "idleGpus": dict(joint.idle_gpus),
        "poolPrices": [
            {"pool": pool, "capacityType": kind.value, "pricePerGpuHour": price}
            for pool, kind, price in joint.pool_prices
        ],
    }


def what_if_object(label: str, problems: dict[str, Problem], joint: JointAllocation) -> dict[str, Any]:
    """A changed plan, short."""
    return {
        "change": label,
        "totalCostPerHour": joint.total_cost_per_hour,
        "services": [
            {
                "name": name.split("/", 1)[1],
                "namespace": name.split("/", 1)[0],
                "ratePerSecond": sum(bucket.rate_rps for bucket in problems[name].buckets),
                "costPerHour": dict(joint.cost_shares).get(name, 0.0),
                "bestSingleCostPerHour": allocation.best_single_cost_per_hour,
                "bestSingleGpu": allocation.best_single_gpu,
                "gap": allocation.gap,
                "replicas": {variant: count for variant, count in allocation.replicas if count},
                "servedFraction": allocation.served_fraction,
                "unservedSizes": len(allocation.unserved),
                "outcome": allocation.outcome.value,
            }
            for name, allocation in joint.allocations
        ],
    }


def diagnosis_object(found: Diagnosis) -> dict[str, Any]:
    """Why one size is not served."""
    bucket = found.unserved.bucket
    return {
        "inputTokens": bucket.size.input_tokens,
        "outputTokens": bucket.size.output_tokens,
        "requestsPerSecond": bucket.rate_rps,
        "share": found.share,
        "reason": found.unserved.reason,
        "nearest": found.nearest or None,
        "remedy": found.remedy,
        "remedies": [_remedy_object(remedy) for remedy in found.remedies],
        "variants": [
            {
                "variant": row.variant,
                "reason": row.reason,
                "limits": [limit.limit for limit in row.limits],
                "needs": [_remedy_object(need) for need in row.needs],
            }
            for row in found.variants
        ],
    }


def _remedy_object(remedy: Remedy) -> dict[str, Any]:
    """Changes that are needed together."""
    return {
        "maxModelLen": remedy.max_model_len,
        "timePerOutputTokenMs": remedy.tpot_ms,
        "timeToFirstTokenMs": remedy.ttft_ms,
        "tensorParallelSize": remedy.tensor_parallel_size,
        "nodeGpus": remedy.node_gpus or None,
        "limits": [{"limit": one.limit, "unit": one.unit, "lacking": one.lacking} for one in remedy.limits],
        "routing": None if remedy.routing is None else remedy.routing.value,
        "allowEstimatedProfiles": remedy.estimates,
        "by": remedy.by,
    }


def service_object(
    name: str,
    problem: Problem,
    allocation: Allocation,
    cost_share: float,
    messages: list[str],
    diagnoses: Sequence[Diagnosis],
) -> dict[str, Any]:
    """One service of the plan object."""
    feasible = allocation.outcome not in (Outcome.IMPOSSIBLE, Outcome.BEST_EFFORT)
    nodes: dict[str, int] = {}
    for pool, _, count in allocation.nodes:
        nodes[pool] = nodes.get(pool, 0) + count
    return {
        "name": name.split("/", 1)[1],
        "namespace": name.split("/", 1)[0],
        "feasible": feasible,
        "outcome": allocation.outcome.value,
        "ratePerSecond": sum(bucket.rate_rps for bucket in problem.buckets),
        "demandFactor": problem.demand_factor,
        "routing": problem.routing.value,
        "costPerHour": cost_share,
        "bestSingleCostPerHour": allocation.best_single_cost_per_hour,
        "bestSingleGpu": allocation.best_single_gpu,
        "lowerBoundPerHour": allocation.lower_bound_per_hour,
        "gap": allocation.gap,
        "solveMs": allocation.solve_ms,
        "replicas": {variant: count for variant, count in allocation.replicas if count},
        "nodes": nodes,
        "inputEdges": list(problem.input_edges),
        "shares": {variant: list(row) for variant, row in routing_shares(problem, allocation)},
        "servedFraction": allocation.served_fraction,
        "unserved": [diagnosis_object(found) for found in diagnoses],
        "binding": list(allocation.binding),
        "messages": [*messages, *allocation.messages],
    }


def print_plan(plan: dict[str, Any], console: Console) -> None:
    """The plan as a table a service."""
    for service in plan["services"]:
        single = service["bestSingleCostPerHour"]
        # Adding 0 turns the -0.0 of rounding into 0.
        saved = f"{round(1 - service['costPerHour'] / single, 3) + 0.0:.1%}" if single else "-"
        table = Table(
            title=f"{service['namespace']}/{service['name']}: {service['ratePerSecond']:.2f} req/s, "
            f"× {service['demandFactor']:.2f} headroom, routing {service['routing']}",
            title_justify="left",
        )
        for column in ("variant", "replicas", "share of requests, by input tokens"):
            table.add_column(column)
        for variant, count in service["replicas"].items():
            table.add_row(variant, str(count), share_text(service["inputEdges"], service["shares"].get(variant, [])))
        console.print(table)
        console.print(
            f"  {service['costPerHour']:.4f} $/h; best single type {service['bestSingleGpu'] or 'none'} "
            f"{'-' if single is None else f'{single:.4f} $/h'}, saved {saved}; lower bound "
            f"{service['lowerBoundPerHour']:.4f} $/h, gap {service['gap']:.2%}; solved in {service['solveMs']:.1f} ms"
        )
        for item in service["unserved"][:10]:
            console.print(
                f"  not served: {item['inputTokens']:.0f}/{item['outputTokens']:.0f} tokens, "
                f"{item['requestsPerSecond']:.3f} req/s ({item['share']:.1%}): {item['reason']}"
                f"{'; ' + item['remedy'] if item['remedy'] else ''}"
            )
        for limit in service["binding"]:
            console.print(f"  at its limit: {limit}")
        for message in service["messages"]:
            console.print(f"  note: {message}")
    console.print(f"total: {plan['totalCostPerHour']:.4f} $/h")
    if plan.get("whatIf"):
        console.print(_what_if_table(plan))


def _what_if_table(plan: dict[str, Any]) -> Table:
    """The plan as it is, and what each change makes of it."""
    table = Table(title="what if", title_justify="left")
    table.add_column("change", no_wrap=True)
    table.add_column("service", no_wrap=True)
    table.add_column("replicas")
    for column in ("$/h", "against now", "best single, $/h"):
        table.add_column(column, justify="right")
    now = {(one["namespace"], one["name"]): one["costPerHour"] for one in plan["services"]}
    as_it_is = {"change": "as it is", "services": plan["services"], "totalCostPerHour": plan["totalCostPerHour"]}
    for change in (as_it_is, *plan["whatIf"]):
        for number, one in enumerate(change["services"]):
            single = one["bestSingleCostPerHour"]
            table.add_row(
                change["change"] if number == 0 else "",
                one["name"],
                _replicas_text(one),
                f"{one['costPerHour']:.2f}",
                _against(one["costPerHour"], now[one["namespace"], one["name"]]),
                "-" if single is None else f"{single:.2f}",
            )
        if len(change["services"]) > 1:
            total = change["totalCostPerHour"]
            table.add_row("", "together", "", f"{total:.2f}", _against(total, plan["totalCostPerHour"]), "")
        table.add_section()
    return table


def _replicas_text(service: dict[str, Any]) -> str:
    text = " + ".join(f"{count} {variant}" for variant, count in service["replicas"].items()) or "none"
    served = service["servedFraction"]
    return text if served > 1 - 1e-6 else f"{text}, serving {served:.0%}"


def _against(cost: float, before: float) -> str:
    return f"{round(cost / before - 1, 3) + 0.0:+.1%}" if before else "-"


def share_text(edges: list[float], row: list[float]) -> str:
    """Shares of neighbouring ranges that are alike, joined: '≤512: 100 %, >512: 20 %'."""
    if not row:
        return "-"
    if len(set(row)) == 1:
        return f"all: {row[0]:.0%}"
    parts: list[tuple[str, float]] = []
    for number, share in enumerate(row):
        label = f"≤{edges[number]:.0f}" if number < len(edges) else f">{edges[-1]:.0f}"
        if parts and abs(parts[-1][1] - share) < 0.005:
            parts[-1] = (label, share)
        else:
            parts.append((label, share))
    return ", ".join(f"{label}: {share:.0%}" for label, share in parts if share >= 0.005) or "0%"
