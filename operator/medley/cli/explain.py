"""`medley explain`: why a plan is as it is, from manifests or from a snapshot that the operator recorded."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from medley.allocation.diagnose import diagnose
from medley.allocation.explain import explain
from medley.allocation.ledger import Ledger, usage_of
from medley.allocation.problem import Problem
from medley.api.snapshot_file import load
from medley.cli.explain_output import explanation_object, print_explanation
from medley.cli.plan import add_inputs, by_key, plan, read_inputs
from medley.cycle.decide import problems_left
from medley.model.errors import UserError
from medley.model.objects import Service


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "explain",
        help="why a plan is as it is",
        description="Says of each service what its limits, its margins and its routing cost, why variants are not "
        "used, what the next best plan is, and what keeps sizes from being served. "
        "Exit 0: explained; 2: bad input; 3: no plan within limits.",
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
    objects = []
    for subject in _chosen(subjects, args.service):
        made = explain(subject.problem)
        found = diagnose(subject.service, subject.problem, pools, profiles, made.exact.unserved)
        objects.append(explanation_object(subject.service, subject.problem, made, found, beside_others=several))
    if args.output == "json":
        print(json.dumps({"services": objects}))
    else:
        console = Console(highlight=False)
        for one in objects:
            print_explanation(one, console)
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
