"""`medley policy diff`: what does one document allow that another does not?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from medley.cli.policy_input import add_common, prover_of, read_any
from medley.cli.policy_output import request_object
from medley.cli.policy_rbac import diff_manifests
from medley.cli.policy_relation import print_relation, relation_of
from medley.model.errors import UserError
from medley.policy.atoms.product import count
from medley.policy.clauses import All, Builder, Not
from medley.policy.iam.document import Document
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.policyset import alone
from medley.policy.iam.request import Request
from medley.policy.prove import Outcome, Proved, Refuted
from medley.policy.rbac.document import Manifest
from medley.policy.realistic import realistic
from medley.policy.verify import within
from medley.policy.words import request_text


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "diff",
        help="compare what two documents allow",
        description="Exit 0: AFTER allows nothing that BEFORE does not (equal or narrower); 1: it does, with a "
        "request; 2: bad input; 4: unknown.",
    )
    parser.add_argument("before", type=Path, help="an IAM policy (JSON) or a manifest of Roles and bindings")
    parser.add_argument("after", type=Path, help="the document that replaces it")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare both ways and print."""
    before, after = read_any(args.before), read_any(args.after)
    prover = prover_of(args)
    if isinstance(before, Manifest) and isinstance(after, Manifest):
        return diff_manifests(before, after, args)
    if isinstance(before, Manifest) or isinstance(after, Manifest):
        raise UserError("one is an IAM document, the other a manifest", field="after", fix="Compare two of a kind")
    gained, lost = within(alone(after), alone(before), prover), within(alone(before), alone(after), prover)
    relation = relation_of(gained, lost)
    out = {
        "relation": relation,
        "gained": _side(gained, after, before),
        "lost": _side(lost, before, after),
    }
    return print_relation(args, relation, out, gained)


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
