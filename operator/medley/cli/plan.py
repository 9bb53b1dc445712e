"""`medley plan`: the cheapest mix for the services in manifest files, from nothing running."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from medley.allocation.assemble import assemble
from medley.allocation.diagnose import Diagnosis, diagnose
from medley.allocation.joint import JointAllocation, allocate_all
from medley.allocation.problem import Outcome, Problem
from medley.api.convert import Resources, parse
from medley.api.manifests import read_manifests
from medley.cli.cost_chart import draw_costs
from medley.cli.output import plan_object, print_plan, what_if_object
from medley.cli.what_if import WhatIf, what_ifs
from medley.lab.traces import read_trace
from medley.model.errors import UserError
from medley.model.objects import Pool, Service, StaticPoint
from medley.model.workload import Size, Workload
from medley.planning.demand import demand_factor
from medley.profiles.profile import Profile, ProfileKey
from medley.workload.known import at_rate, from_points, from_requests


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "plan",
        help="solve the services in manifest files, offline",
        description="Solves every LLMService in the files, whatever its mode, from nothing running. "
        "Exit 0: planned; 2: bad input; 3: no plan within limits.",
    )
    add_inputs(parser)
    parser.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="CHANGE",
        help="plan this change as well: rate=±20%%, price:POOL=-10%%, limit:POOL=+10, slo:tpot=80ms; may be repeated",
    )
    parser.add_argument(
        "--chart", type=Path, help="write a chart (PNG): cost over rate by mix, with the best single type"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The options that say what is planned."""
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="manifest files or directories",
    )
    parser.add_argument("--rate", type=float, help="plan for this total rate in req/s, keeping the mix of sizes")
    parser.add_argument(
        "--workload",
        type=Path,
        help="demand for every service: a trace (CSV: TIMESTAMP,ContextTokens,GeneratedTokens) or points (YAML)",
    )


def run(args: argparse.Namespace) -> int:
    """Plan and print."""
    given = read_inputs(args)
    if given is None:
        return 2
    resources, workload = given
    changes = what_ifs(args.what_if, resources)
    problems, joint, messages = plan(resources, workload, args.rate)
    profiles, pools = by_key(resources)
    result = plan_object(problems, joint, messages, diagnoses(resources.services, problems, joint, pools, profiles))
    if changes:
        result["whatIf"] = [_changed(change, workload, args.rate) for change in changes]
    if args.output == "json":
        print(json.dumps(result))
    else:
        print_plan(result, Console(highlight=False))
    if args.chart is not None:
        draw_costs(problems, args.chart, lambda text: print(text, file=sys.stderr))
    failed = [name for name, a in joint.allocations if a.outcome in (Outcome.IMPOSSIBLE, Outcome.BEST_EFFORT)]
    for name in failed:
        print(f"medley: {name}: {'; '.join(dict(joint.allocations)[name].messages)}", file=sys.stderr)
    return 3 if failed else 0


def read_inputs(args: argparse.Namespace) -> tuple[Resources, Workload | None] | None:
    """What is planned; None if an object in the files is wrong, which is said then.

    Raises:
        UserError: a file or an option is wrong.
    """
    if args.rate is not None and (not math.isfinite(args.rate) or args.rate < 0):
        raise UserError(f"{args.rate} is not a rate", field="--rate", fix="Give req/s, 0 or more")
    if not args.files:
        raise UserError("no file is given", field="--file", fix="Give manifest files or directories with -f")
    resources = parse(read_manifests(args.files))
    for name, error in resources.errors:
        print(f"medley: {name}: {error}", file=sys.stderr)
    if resources.errors:
        return None
    if not resources.services:
        raise UserError("there is no LLMService in the files", field="--file", fix="Add one")
    return resources, None if args.workload is None else read_workload(args.workload)


def by_key(resources: Resources) -> tuple[dict[ProfileKey, Profile], dict[str, Pool]]:
    """Profiles and pools as the domain looks them up."""
    return {profile.key: profile for profile in resources.profiles}, {pool.name: pool for pool in resources.pools}


def diagnoses(
    services: Iterable[Service],
    problems: dict[str, Problem],
    joint: JointAllocation,
    pools: dict[str, Pool],
    profiles: dict[ProfileKey, Profile],
) -> dict[str, tuple[Diagnosis, ...]]:
    """Why sizes are not served, by service."""
    plans = dict(joint.allocations)
    return {
        str(service.key): diagnose(
            service, problems[str(service.key)], pools, profiles, plans[str(service.key)].unserved
        )
        for service in services
    }


def _changed(change: WhatIf, workload: Workload | None, rate_rps: float | None) -> dict[str, Any]:
    """What a change makes of the plan."""
    problems, joint, _ = plan(change.resources, workload, rate_rps, change.rate)
    return what_if_object(change.label, problems, joint)


def plan(
    resources: Resources,
    given: Workload | None,
    rate_rps: float | None,
    change: Callable[[float], float] | None = None,
) -> tuple[dict[str, Problem], JointAllocation, dict[str, list[str]]]:
    """Problems, their joint allocation, and warnings by service.

    Args:
        resources: what is planned.
        given: demand of every service; None: each its own.
        rate_rps: total rate of each; None: as its demand says.
        change: makes another rate of that.

    Raises:
        UserError: a service has no demand, or no variant that can be used.
    """
    pools = {pool.name: pool for pool in resources.pools}
    profiles = {profile.key: profile for profile in resources.profiles}
    users: dict[str, int] = {}
    for service in resources.services:
        for name in {spec.pool for spec in service.variants}:
            users[name] = users.get(name, 0) + 1
    problems: dict[str, Problem] = {}
    messages: dict[str, list[str]] = {}
    for service in resources.services:
        workload = _workload(service, given)
        if rate_rps is not None:
            if rate_rps > 0 and not workload.buckets:
                fix = f"Give LLMService/{service.key} points with a rate above 0"
                raise UserError("there are no sizes to give this rate to", field="--rate", fix=fix)
            workload = at_rate(workload, rate_rps)
        if change is not None and workload.buckets:
            workload = at_rate(workload, change(workload.rate_rps))
        assembled = assemble(
            # Nothing is acted on here: an estimate is better than no answer, and is said to be one.
            replace(service, allow_estimated_profiles=True),
            pools,
            profiles,
            workload,
            demand_factor=demand_factor(service.scaling, workload),
            routing=service.routing,
            exclusive_pools=frozenset(name for name, count in users.items() if count == 1),
        )
        problems[str(service.key)] = assembled.problem
        messages[str(service.key)] = [
            str(said) for said in (*assembled.warnings, *assembled.estimates, *assembled.doubts)
        ]
    return problems, allocate_all(problems.values(), resources.pools), messages


def _workload(service: Service, given: Workload | None) -> Workload:
    if given is not None:
        return given
    if service.static_points is None:
        raise UserError(
            "the demand is not in the file",
            field=f"LLMService/{service.key} spec.workload.static",
            fix="Add static points, or give --workload FILE",
        )
    return from_points(service.static_points)


def read_workload(path: Path) -> Workload:
    """A workload from a trace (.csv) or from points (YAML: {points: [{inputTokens, outputTokens, requestsPerSecond}]}).

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    if path.suffix == ".csv":
        try:
            trace = read_trace(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot be read: {error}", field=str(path), fix="Check the path") from None
        if len(trace) < 2 or trace[-1].at_s <= trace[0].at_s:
            raise UserError("a trace needs two requests at different times", field=str(path))
        return from_requests(
            ((request.input_tokens, request.output_tokens) for request in trace), trace[-1].at_s - trace[0].at_s
        )
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", field=str(path)) from None
    points = document.get("points") if isinstance(document, dict) else document
    if not isinstance(points, list) or not points:
        raise UserError(
            "holds no points", field=str(path), fix="Give {points: [{inputTokens, outputTokens, requestsPerSecond}]}"
        )
    return from_points([_point(path, number, point) for number, point in enumerate(points)])


def _point(path: Path, number: int, point: object) -> StaticPoint:
    try:
        assert isinstance(point, dict)
        values = [float(point[key]) for key in ("inputTokens", "outputTokens", "requestsPerSecond")]
    except (AssertionError, KeyError, TypeError, ValueError):
        raise UserError(
            "needs inputTokens, outputTokens and requestsPerSecond", field=f"{path}: points[{number}]"
        ) from None
    if not all(math.isfinite(value) for value in values) or values[0] < 1 or values[1] < 1 or values[2] < 0:
        raise UserError("tokens must be 1 or more and the rate 0 or more", field=f"{path}: points[{number}]")
    return StaticPoint(Size(values[0], values[1]), values[2])
