"""`medley policy diff`: what does one document allow that another does not?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from medley.cli.policy_input import add_common, prover_of, read_document
from medley.cli.policy_output import request_object, request_text
from medley.policy.answers import W
from medley.policy.atoms.product import count
from medley.policy.clauses import All, Builder, Not
from medley.policy.iam.document import Document
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.policyset import alone
from medley.policy.iam.request import Request
from medley.policy.prove import Outcome, Proved, Refuted
from medley.policy.realistic import realistic
from medley.policy.verify import within


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "diff",
        help="compare what two documents allow",
        description="Exit 0: AFTER allows nothing that BEFORE does not (equal or narrower); 1: it does, with a "
        "request; 2: bad input; 4: unknown.",
    )
    parser.add_argument("before", type=Path, help="a policy document (JSON)")
    parser.add_argument("after", type=Path, help="the document that replaces it")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare both ways and print."""
    before, after = read_document(args.before), read_document(args.after)
    prover = prover_of(args)
    gained, lost = within(alone(after), alone(before), prover), within(alone(before), alone(after), prover)
    relation = relation_of(gained, lost)
    out = {
        "relation": relation,
        "gained": _side(gained, after, before),
        "lost": _side(lost, before, after),
    }
    if args.output == "json":
        print(json.dumps(out))
    else:
        print(f"{args.after} is {_WORDS[relation]} {args.before}")
        for name, side in (("now allowed", out["gained"]), ("no longer allowed", out["lost"])):
            if isinstance(side, dict) and side["request"] is not None:
                print(f"  {name}: {side['text']}")
            elif isinstance(side, dict) and side["reason"]:
                print(f"  {name}: unknown: {side['reason']}")
    if isinstance(gained, Proved):
        return 0
    return 1 if isinstance(gained, Refuted) else 4


_WORDS = {
    "Equivalent": "equivalent to",
    "Narrower": "narrower than",
    "Wider": "wider than",
    "Incomparable": "neither narrower nor wider than",
    "Unknown": "not comparable within the limits with",
}


def relation_of(gained: Outcome[W], lost: Outcome[W]) -> str:
    """In one word how the second document compares with the first."""
    if isinstance(gained, Proved) and isinstance(lost, Proved):
        return "Equivalent"
    if isinstance(gained, Proved) and isinstance(lost, Refuted):
        return "Narrower"
    if isinstance(gained, Refuted) and isinstance(lost, Proved):
        return "Wider"
    return "Incomparable" if isinstance(gained, Refuted) and isinstance(lost, Refuted) else "Unknown"


def _side(outcome: Outcome[Request], inner: Document, outer: Document) -> dict[str, Any]:
    out: dict[str, Any] = {"request": None, "text": "", "engines": [], "reason": "", "count": 0}
    if isinstance(outcome, Proved):
        out["engines"] = [engine.value for engine in outcome.engines]
    elif isinstance(outcome, Refuted):
        a, b = Evaluator(inner), Evaluator(outer)
        witness = realistic(outcome.witness, lambda request: a.allows(request) and not b.allows(request))
        builder = Builder()
        number = count(builder.question(All((builder.allowed(inner), Not(builder.allowed(outer))))))
        out.update(
            request=request_object(witness), text=request_text(witness), engines=[outcome.engine.value], count=number
        )
    else:
        out.update(reason=outcome.reason, count=None)
    return out
