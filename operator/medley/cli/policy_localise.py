"""`medley policy localise`: which statement, and which of its elements, breaks the spec?"""

from __future__ import annotations

import argparse
import json
from typing import Any

from medley.cli.policy_input import add_common, add_document, add_spec, policies_of, prover_of, read_any, spec_of
from medley.cli.policy_output import request_object, statement_object
from medley.cli.policy_rbac import localise_manifest
from medley.cli.policy_report import EXIT, doubt_object
from medley.policy.iam.policyset import PolicySet
from medley.policy.localise import Blame, Fault, localise
from medley.policy.rbac.document import Manifest
from medley.policy.verify import verify
from medley.policy.words import fault_lines


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "localise",
        help="name the statements and elements that break the spec",
        description="Exit 0: nothing is broken; 1: the faults are listed; 2: bad input; 4: unknown.",
    )
    add_document(parser)
    add_spec(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Localise and print."""
    document = read_any(args.document)
    if isinstance(document, Manifest):
        return localise_manifest(document, args)
    policies = policies_of(args, document)
    report = verify(policies, spec_of(args), prover_of(args))
    faults = [localise(policies, witness) for witness in report.witnesses]
    if args.output == "json":
        out = {
            "verdict": report.verdict.value,
            "faults": [fault_object(fault, policies) for fault in faults],
            "unknown": [doubt_object(doubt) for doubt in report.doubts],
        }
        print(json.dumps(out))
    else:
        print(f"{report.verdict.value}: {len(faults)} faults")
        for fault in faults:
            print("\n".join(fault_lines(fault, policies)))
        for doubt in report.doubts:
            print(f"  {doubt.rule.id}: unknown: {doubt.reason}")
    return EXIT[report.verdict]


def fault_object(fault: Fault, policies: PolicySet) -> dict[str, Any]:
    """A fault as JSON."""
    return {
        "rule": fault.witness.rule.id,
        "side": fault.witness.rule.side.value,
        "request": request_object(fault.witness.request),
        "case": fault.case.value,
        "statements": [_blame_object(blame, policies) for blame in fault.blamed],
        "nearest": [_blame_object(blame, policies) for blame in fault.near],
    }


def _blame_object(blame: Blame, policies: PolicySet) -> dict[str, Any]:
    return {
        **statement_object(blame.statement, policies),
        "elements": [
            {"element": element.name, "matches": element.matches, "entries": list(element.entries)}
            for element in blame.elements
        ],
    }
