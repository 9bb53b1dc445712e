"""`medley replay FILE`: decide again from a recorded snapshot, offline; compare with what was decided then."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medley.allocation.problem import Outcome
from medley.api.snapshot_file import Record, load
from medley.cycle.decide import decide
from medley.cycle.decision import Decision


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "replay",
        help="decide again from a recorded snapshot",
        description="Exit 0: the decision is the recorded one (or none was recorded); 1: it differs.",
    )
    parser.add_argument("file", type=Path, help="a snapshot written by the operator (--snapshot-dir)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def replayed(record: Record) -> Decision:
    """The decision; a solve that hit its time limit when recorded keeps the incumbent it had found."""
    if record.decision is not None and any(
        service.allocation is not None and service.allocation.outcome is Outcome.INCUMBENT
        for service in record.decision.services
    ):
        return record.decision
    return decide(record.snapshot)


def run(args: argparse.Namespace) -> int:
    """Replay and print."""
    record = load(args.file)
    decision = replayed(record)
    then = decision_object(record.decision) if record.decision else None
    now = decision_object(decision)
    same = then is None or then == now
    if args.output == "json":
        print(json.dumps({**now, "sameAsRecorded": same if then is not None else None}))
    else:
        _print(decision, same, then is not None)
    return 0 if same else 1


def decision_object(decision: Decision) -> dict[str, Any]:
    """What is decided, without what a clock measured."""
    return {
        "services": [
            {
                "name": service.key.name,
                "namespace": service.key.namespace,
                "mode": service.mode.value,
                "act": service.act,
                "routing": service.routing.value,
                "replicas": {variant.name: variant.desired for variant in service.variants},
                "planned": {variant.name: variant.planned for variant in service.variants},
                "costPerHour": service.cost_per_hour,
                "shares": {name: list(row) for name, row in service.shares},
                "held": service.held,
                "conditions": [
                    {"type": f.type, "status": f.status.value, "reason": f.reason, "message": f.message}
                    for f in service.findings
                ],
            }
            for service in decision.services
        ],
        "pools": {pool.pool: pool.nodes for pool in decision.pools},
        "totalCostPerHour": decision.total_cost_per_hour,
    }


def _print(decision: Decision, same: bool, recorded: bool) -> None:
    console = Console(highlight=False)
    for service in decision.services:
        table = Table(title=f"{service.key} ({service.mode.value})", title_justify="left")
        for column in ("variant", "asked for", "planned"):
            table.add_column(column)
        for variant in service.variants:
            table.add_row(variant.name, str(variant.desired), str(variant.planned))
        console.print(table)
        for finding in service.findings:
            console.print(f"  {finding.type}={finding.status.value} {finding.reason} {finding.message}")
    if recorded:
        console.print("the same as recorded" if same else "NOT the same as recorded")
