"""`medley explain`: why a plan is as it is, from manifests or from a snapshot that the operator recorded."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medley.allocation.diagnose import Diagnosis, diagnose
from medley.allocation.explain import Explanation, LimitValue, explain
from medley.allocation.ledger import Ledger, usage_of
from medley.allocation.problem import Outcome, Problem
from medley.api.snapshot_file import load
from medley.cli.output import diagnosis_object, share_text
from medley.cli.plan import add_inputs, by_key, plan, read_inputs
from medley.cycle.decide import problems_left
from medley.cycle.steering import routing_shares
from medley.model.errors import UserError
from medley.model.objects import Pool, Service, ServiceKey
from medley.profiles.profile import Profile, ProfileKey


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "explain",
        help="why a plan is as it is",
        description="Says of each service what its limits cost, why variants are not used, what the next best plan "
        "is, and what keeps sizes from being served. Exit 0: explained; 2: bad input; 3: no plan within limits.",
    )
    add_inputs(parser)
    parser.add_argument("--snapshot", type=Path, help="explain a decision of the operator (--snapshot-dir), not files")
    parser.add_argument("--service", help="only this one, as NAMESPACE/NAME or NAME")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class _Subject:
    """A service with its problem, given what all others use."""

    service: Service
    problem: Problem


def run(args: argparse.Namespace) -> int:
    """Explain and print."""
    if (args.snapshot is None) == (not args.files):
        raise UserError(
            "give either manifest files or a snapshot", field="--file", fix="Use -f FILE…, or --snapshot FILE"
        )
    if args.snapshot is not None:
        snapshot = load(args.snapshot).snapshot
        subjects = [_Subject(*both) for both in problems_left(snapshot).values()]
        pools = {pool.name: pool for pool in snapshot.pools}
        profiles = {profile.key: profile for profile in snapshot.profiles}
    else:
        given = read_inputs(args)
        if given is None:
            return 2
        resources, workload = given
        profiles, pools = by_key(resources)
        problems, joint, _ = plan(resources, workload, args.rate)
        subjects = []
        for service in resources.services:
            ledger = Ledger(resources.pools)
            for name, allocation in joint.allocations:
                if name != str(service.key):
                    ledger.take(usage_of(problems[name], dict(allocation.replicas)))
            subjects.append(_Subject(service, ledger.rest(problems[str(service.key)])))
    several = len(subjects) > 1
    objects = [
        _object(subject, explain(subject.problem), pools, profiles, beside_others=several)
        for subject in _chosen(subjects, args.service)
    ]
    if args.output == "json":
        print(json.dumps({"services": objects}))
    else:
        console = Console(highlight=False)
        for one in objects:
            _print(one, console)
    failed = [one for one in objects if not one["feasible"]]
    for one in failed:
        print(f"medley: {one['namespace']}/{one['name']}: limits do not allow all of the demand", file=sys.stderr)
    return 3 if failed else 0


def _chosen(subjects: list[_Subject], wanted: str | None) -> list[_Subject]:
    if wanted is None:
        return subjects
    chosen = [one for one in subjects if wanted in (str(one.service.key), one.service.key.name)]
    if not chosen:
        known = ", ".join(str(one.service.key) for one in subjects) or "none"
        raise UserError(f"there is no service {wanted!r} that can be planned", field="--service", fix=f"Known: {known}")
    return chosen


def _object(
    subject: _Subject,
    made: Explanation,
    pools: Mapping[str, Pool],
    profiles: Mapping[ProfileKey, Profile],
    *,
    beside_others: bool,
) -> dict[str, Any]:
    """The JSON form; numbers unrounded, $ per hour."""
    key: ServiceKey = subject.service.key
    problem, exact = subject.problem, made.exact
    single = exact.best_single_cost_per_hour
    found: tuple[Diagnosis, ...] = diagnose(subject.service, problem, pools, profiles, exact.unserved)
    return {
        "name": key.name,
        "namespace": key.namespace,
        "besideOthers": beside_others,
        "feasible": exact.outcome not in (Outcome.IMPOSSIBLE, Outcome.BEST_EFFORT),
        "outcome": exact.outcome.value,
        "ratePerSecond": sum(bucket.rate_rps for bucket in problem.buckets),
        "demandFactor": problem.demand_factor,
        "headroomPercent": subject.service.scaling.headroom * 100.0,
        "routing": problem.routing.value,
        "replicas": {name: count for name, count in exact.replicas if count},
        "inputEdges": list(problem.input_edges),
        "shares": {name: list(row) for name, row in routing_shares(problem, exact)},
        "derating": {variant.name: variant.derating for variant in problem.variants},
        "costPerHour": exact.cost_per_hour,
        "lowerBoundPerHour": exact.lower_bound_per_hour,
        "gap": exact.gap,
        "bestSingleCostPerHour": single,
        "bestSingleGpu": exact.best_single_gpu,
        "servedFraction": exact.served_fraction,
        "limits": [_limit_object(value) for value in made.limits],
        "unused": [
            {
                "variant": one.variant,
                "reason": one.why.value,
                "detail": one.detail,
                "costsMorePerHour": one.costs_more_per_hour,
            }
            for one in made.unused
        ],
        "nextBest": None
        if made.next_best is None
        else {"replicas": dict(made.next_best.replicas), "costPerHour": made.next_best.cost_per_hour},
        "unserved": [diagnosis_object(one) for one in found],
        "messages": list(exact.messages),
    }


def _limit_object(value: LimitValue) -> dict[str, Any]:
    return {
        "limit": value.limit,
        "unit": value.unit,
        "savesPerHour": value.saves_per_hour[0],
        "savesPerHourWith10": value.saves_per_hour[1],
        "servesMore": value.serves_more[0],
        "servesMoreWith10": value.serves_more[1],
    }


def _print(one: dict[str, Any], console: Console) -> None:
    replicas = " + ".join(f"{count} {variant}" for variant, count in one["replicas"].items()) or "nothing"
    console.print(f"[bold]{one['namespace']}/{one['name']}[/bold]: {replicas} for {one['costPerHour']:.4f} $/h")
    if one["besideOthers"]:
        console.print("  beside what the other services use: their nodes are paid for, and their limits used up")
    console.print(
        f"  demand: {one['ratePerSecond']:.4g} req/s × {one['demandFactor']:.3g}, routing {one['routing']}; "
        f"proved: no plan costs less than {one['lowerBoundPerHour']:.4f} $/h (gap {one['gap']:.2%})"
    )
    for variant in one["replicas"]:
        share = share_text(one["inputEdges"], one["shares"].get(variant, []))
        console.print(f"  {variant} gets {share}; planned at {one['derating'][variant]:.0%} of its profile's rates")
    if one["bestSingleCostPerHour"] is not None:
        console.print(f"  best single GPU type: {one['bestSingleGpu']}, {one['bestSingleCostPerHour']:.4f} $/h")
    best = one["nextBest"]
    if best is not None:
        other = " + ".join(f"{count} {variant}" for variant, count in best["replicas"].items()) or "nothing"
        more = best["costPerHour"] - one["costPerHour"]
        console.print(f"  next best plan with other variants: {other}, {more:+.4f} $/h")
    _print_limits(one["limits"], console)
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
            f"requests; {item['remedy'] or 'no objective and no larger replica would help'}"
        )
        for row in item["variants"]:
            console.print(f"    {row['variant']}: {row['reason']}")
    for message in one["messages"]:
        console.print(f"  note: {message}")


def _print_limits(limits: list[dict[str, Any]], console: Console) -> None:
    if not limits:
        console.print("  no limit costs anything")
        return
    table = Table(title="what limits cost", title_justify="left")
    for column in ("limit", "one more", "ten more"):
        table.add_column(column)
    for value in limits:
        cells = [
            f"serves {more:.1%} more" if more > 1e-4 else f"saves {saved:.4f} $/h"
            for saved, more in (
                (value["savesPerHour"], value["servesMore"]),
                (value["savesPerHourWith10"], value["servesMoreWith10"]),
            )
        ]
        if value["unit"] == "given up":
            cells = [cells[0], ""]
        table.add_row(f"{value['limit']} ({value['unit']})", *cells)
    console.print(table)
