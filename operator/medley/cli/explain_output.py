"""How an explanation looks: the JSON object of the command contract (DESIGN §9), and tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from medley.allocation.coverage import SAME
from medley.allocation.diagnose import Diagnosis
from medley.allocation.explain import Alternative, Explanation, Otherwise
from medley.allocation.limit_values import CENT, GIVEN_UP, LimitValue
from medley.allocation.problem import Allocation, Outcome, Problem
from medley.cli.output import diagnosis_object, share_text
from medley.cycle.steering import routing_shares
from medley.model.objects import Service

OTHERWISE = {"WithoutHeadroom": "without headroom (demand × 1)", "FullRates": "at the profiles' full rates"}


def explanation_object(
    service: Service, problem: Problem, made: Explanation, found: Sequence[Diagnosis], *, beside_others: bool
) -> dict[str, Any]:
    """The JSON form of one service's explanation; numbers unrounded, $ per hour."""
    exact = made.exact
    return {
        "name": service.key.name,
        "namespace": service.key.namespace,
        "besideOthers": beside_others,
        "feasible": exact.outcome not in (Outcome.IMPOSSIBLE, Outcome.BEST_EFFORT),
        "outcome": exact.outcome.value,
        "ratePerSecond": sum(bucket.rate_rps for bucket in problem.buckets),
        "demandFactor": problem.demand_factor,
        "headroomPercent": service.scaling.headroom * 100.0,
        "routing": problem.routing.value,
        "replicas": _replicas(exact),
        "inputEdges": list(problem.input_edges),
        "shares": {name: list(row) for name, row in routing_shares(problem, exact)},
        "derating": {variant.name: variant.derating for variant in problem.variants},
        "costPerHour": exact.cost_per_hour,
        "lowerBoundPerHour": exact.lower_bound_per_hour,
        "gap": exact.gap,
        "bestSingleCostPerHour": exact.best_single_cost_per_hour,
        "bestSingleGpu": exact.best_single_gpu,
        "servedFraction": exact.served_fraction,
        "limits": [_limit_object(value) for value in made.limits],
        "used": [
            {"variant": one.variant, "floor": one.floor, "costsMorePerHour": one.costs_more_per_hour}
            for one in made.used
        ],
        "unused": [
            {
                "variant": one.variant,
                "reason": one.why.value,
                "detail": one.detail,
                "costsMorePerHour": one.costs_more_per_hour,
            }
            for one in made.unused
        ],
        "nextBest": _alternative_object(made.next_best),
        "turnedDown": _alternative_object(made.turned_down),
        "otherwise": [_otherwise_object(one, exact) for one in made.otherwise],
        "unsolvedPart": made.unsolved_part,
        "unserved": [diagnosis_object(one) for one in found],
        "messages": list(exact.messages),
    }


def _replicas(plan: Allocation) -> dict[str, int]:
    return {name: count for name, count in plan.replicas if count}


def _limit_object(value: LimitValue) -> dict[str, Any]:
    return {
        "limit": value.limit,
        "unit": value.unit,
        "savesPerHour": value.saves_per_hour[0],
        "savesPerHourWith10": value.saves_per_hour[1],
        "servesMore": value.serves_more[0],
        "servesMoreWith10": value.serves_more[1],
        "survives": value.survives[0],
        "survivesWith10": value.survives[1],
    }


def _alternative_object(plan: Alternative | None) -> dict[str, Any] | None:
    return None if plan is None else {"replicas": dict(plan.replicas), "costPerHour": plan.cost_per_hour}


def _otherwise_object(one: Otherwise, exact: Allocation) -> dict[str, Any]:
    possible = one.plan.outcome is not Outcome.IMPOSSIBLE
    return {
        "what": one.what,
        "outcome": one.plan.outcome.value,
        "costPerHour": one.plan.cost_per_hour if possible else None,
        "savesPerHour": exact.cost_per_hour - one.plan.cost_per_hour if possible else None,
        "replicas": _replicas(one.plan),
        "servedFraction": one.plan.served_fraction,
        "unservedSizes": len(one.plan.unserved),
    }


def print_explanation(one: dict[str, Any], console: Console) -> None:
    """One service's explanation for people, made of its JSON form."""
    console.print(
        f"[bold]{one['namespace']}/{one['name']}[/bold]: {_mix_text(one['replicas'])} for {one['costPerHour']:.4f} $/h"
    )
    if one["unsolvedPart"]:
        console.print(
            "  not all plans below were solved to the end: "
            f"differences up to {one['unsolvedPart']:.1%} of the cost are not certain"
        )
    if one["besideOthers"]:
        console.print("  beside what the other services use: their nodes are paid for, and their limits used up")
    console.print(
        f"  demand: {one['ratePerSecond']:.4g} req/s × {one['demandFactor']:.3g}, routing {one['routing']}; "
        f"proved: no plan costs less than {one['lowerBoundPerHour']:.4f} $/h (gap {one['gap']:.2%})"
    )
    for used in one["used"]:
        variant = used["variant"]
        share = share_text(one["inputEdges"], one["shares"].get(variant, []))
        console.print(
            f"  {variant} gets {share}; planned at {one['derating'][variant]:.0%} of its profile's rates; "
            f"{_without_text(used)}"
        )
    if one["bestSingleCostPerHour"] is not None:
        console.print(f"  best single GPU type: {one['bestSingleGpu']}, {one['bestSingleCostPerHour']:.4f} $/h")
    for name, plan in (("a mix was turned down", one["turnedDown"]), ("next best plan", one["nextBest"])):
        if plan is not None:
            more = plan["costPerHour"] - one["costPerHour"]
            console.print(f"  {name}: {_mix_text(plan['replicas'])}, {more:+.4f} $/h")
    _print_limits(one["limits"], console)
    _print_otherwise(one, console)
    if one["unused"]:
        table = Table(title="not used", title_justify="left")
        for column in ("variant", "why"):
            table.add_column(column)
        for unused in one["unused"]:
            table.add_row(unused["variant"], unused["detail"])
        console.print(table)
    for item in one["unserved"]:
        console.print(
            f"  not served: {item['inputTokens']:.0f}/{item['outputTokens']:.0f} tokens, {item['share']:.1%} of the "
            f"requests; {item['remedy'] or 'no objective, limit, routing or larger replica would help'}"
        )
        for row in item["variants"]:
            console.print(f"    {row['variant']}: {', '.join([row['reason'], *row['limits']])}")
    for message in one["messages"]:
        console.print(f"  note: {message}")


def _without_text(used: dict[str, Any]) -> str:
    if used["costsMorePerHour"] is not None:
        return f"without it {used['costsMorePerHour']:+.4f} $/h"
    return f"at least {used['floor']} must run" if used["floor"] else "no plan without it carries as much"


def _mix_text(replicas: dict[str, int]) -> str:
    return " + ".join(f"{count} {variant}" for variant, count in replicas.items()) or "nothing"


def _print_limits(limits: list[dict[str, Any]], console: Console) -> None:
    if not limits:
        console.print("  no limit costs anything")
        return
    table = Table(title="what limits cost", title_justify="left")
    for column in ("limit", "one more", "ten more"):
        table.add_column(column)
    for value in limits:
        cells = [
            _worth(value[f"servesMore{steps}"], value[f"savesPerHour{steps}"], value[f"survives{steps}"])
            for steps in ("", "With10")
        ]
        if value["unit"] == GIVEN_UP:
            cells = [cells[0], ""]
        table.add_row(f"{value['limit']} ({value['unit']})", *cells)
    console.print(table)


def _worth(more: float, saved: float, survives: bool) -> str:
    parts = [f"serves {more:.1%} more"] if more > SAME else []
    parts += ["survives the loss"] if survives else []
    # What costs nothing either way is said where there is nothing else to say.
    if abs(saved) > CENT or not parts:
        parts.append(f"saves {saved:.4f} $/h" if saved > -CENT else f"costs {-saved:.4f} $/h more")
    return ", ".join(parts)


def _print_otherwise(one: dict[str, Any], console: Console) -> None:
    table = Table(title="planned otherwise", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("$/h", justify="right")
    table.add_column("against the plan", justify="right")
    table.add_column("replicas")
    for item in one["otherwise"]:
        mode = item["what"].removeprefix("Routing")
        text = OTHERWISE.get(item["what"], f"routing {mode}" + (" (as planned)" if mode == one["routing"] else ""))
        cost = item["costPerHour"]
        if cost is None:
            table.add_row(text, "-", "no plan", "")
            continue
        replicas = _mix_text(item["replicas"])
        if item["servedFraction"] < 1.0 - SAME:
            replicas += f", serving {item['servedFraction']:.0%}"
        if left_out := item["unservedSizes"] - len(one["unserved"]):
            replicas += f", {abs(left_out)} sizes {'more' if left_out > 0 else 'fewer'} left out"
        table.add_row(text, f"{cost:.4f}", f"{-item['savesPerHour'] + 0.0:+.4f}", replicas)
    console.print(table)
