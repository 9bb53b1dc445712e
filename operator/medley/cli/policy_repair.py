"""`medley policy repair`: the smallest edits that make a document meet its spec, proved."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medley.cli.policy_input import (
    TARGETS,
    add_common,
    add_spec,
    prover_of,
    read_any,
    spec_of,
    too_long_for,
)
from medley.cli.policy_output import report_object, request_object
from medley.cli.policy_rbac_repair import EXIT, repair_manifest
from medley.model.errors import UserError
from medley.policy.iam.document import Document
from medley.policy.iam.policyset import alone
from medley.policy.iam.render import document_text, document_value, size_characters
from medley.policy.rbac.document import Manifest
from medley.policy.repair.contradictions import Contradiction
from medley.policy.repair.edits import edit_text, edit_value
from medley.policy.repair.proposals import Localised, repair_with
from medley.policy.repair.repair import Outcome, Repair, repair
from medley.policy.repair.search import Rejected
from medley.policy.words import request_text, text_diff


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "repair",
        help="make a document meet its access spec",
        description="Prints the edits and a diff; --write puts the repaired document into a file. Exit 0: repaired, or "
        "nothing to do; 1: the spec contradicts itself, or the result is too long for --target; 2: bad input; "
        "4: unknown.",
    )
    parser.add_argument(
        "--document",
        "-d",
        type=Path,
        required=True,
        help="an IAM policy (JSON) or a manifest of Roles and bindings (YAML or JSON); - is stdin",
    )
    add_spec(parser)
    parser.add_argument("--target", choices=sorted(TARGETS), help="where it will be attached: its size limit holds")
    parser.add_argument(
        "--proposer",
        metavar="URL",
        help="ask a language model first: the base URL of an OpenAI-compatible endpoint, as in "
        "http://127.0.0.1:8000/v1 (key: OPENAI_API_KEY). Its edits pass the same proof, or the formal repair is used",
    )
    parser.add_argument("--model", default="", help="name of the model at --proposer")
    parser.add_argument(
        "--no-localisation", action="store_true", help="do not tell the model which statements to blame"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the repaired document to FILE")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Repair and print."""
    document = read_any(args.document)
    if isinstance(document, Manifest):
        return repair_manifest(document, args)
    limit = TARGETS[args.target].value if args.target else None
    spec, prover = spec_of(args), prover_of(args)
    if args.proposer is None:
        result = repair(document, spec, prover, limit)
    else:
        from medley.measurement.llm_proposer import LlmProposer

        if not args.model:
            raise UserError("needs a model", field="--proposer", fix="Name one with --model")
        proposer = LlmProposer(args.proposer, args.model, os.environ.get("OPENAI_API_KEY", ""))
        localised = Localised.NO if args.no_localisation else Localised.YES
        result = repair_with(proposer, document, spec, prover, limit, localised)
    if args.output == "json":
        print(json.dumps(repair_object(result, document)))
    else:
        print("\n".join(repair_lines(result, document, str(args.document))))
    if args.write is not None and EXIT[result.outcome] == 0:
        try:
            args.write.write_text(document_text(result.document), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", field=str(args.write)) from None
    return EXIT[result.outcome]


def repair_object(result: Repair, given: Document) -> dict[str, Any]:
    """The JSON of `repair`."""
    policies = alone(result.document)
    return {
        "verdict": result.outcome.value,
        "document": document_value(result.document),
        "characters": size_characters(result.document),
        "tooLongFor": too_long_for(result.document),
        "edits": [edit_value(edit) for edit in result.edits],
        "shortening": result.shortening,
        "diff": text_diff(document_text(given), document_text(result.document), "before", "after"),
        "proof": None if result.proof is None else report_object(result.proof, policies),
        "rejected": [_rejected_object(rejected) for rejected in result.rejected],
        "contradictions": [_contradiction_object(found) for found in result.contradictions],
        "reason": result.reason,
        "proposals": [{"accepted": said.accepted, "reason": said.reason} for said in result.proposals],
    }


def _rejected_object(rejected: Rejected) -> dict[str, Any]:
    return {
        "edits": [edit_value(edit) for edit in rejected.edits],
        "rule": rejected.witness.rule.id,
        "side": rejected.witness.rule.side.value,
        "request": request_object(rejected.witness.request),
    }


def _contradiction_object(found: Contradiction) -> dict[str, Any]:
    return {
        "floor": found.floor.id,
        "ceiling": found.ceiling.id,
        "request": request_object(found.witness),
        "provedBySmt": found.proved,
        "callersIgnored": found.callers_ignored,
    }


def repair_lines(result: Repair, given: Document, name: str) -> Iterable[str]:
    """The answer for people: verdict, edits, diff, proof."""
    yield f"{result.outcome.value}" + (f": {result.reason}" if result.reason else "")
    for found in result.contradictions:
        yield f"  floor {found.floor.id} and ceiling {found.ceiling.id} share {request_text(found.witness)}"
        if found.callers_ignored:
            yield "    (an identity policy cannot tell callers apart)"
        yield "    Z3 confirms it" if found.proved else "    Z3 did not confirm it"
    for number, edit in enumerate(result.edits):
        if number == len(result.edits) - result.shortening:
            yield "  to be short enough, with the same access:"
        yield f"  {edit_text(edit)}"
    if result.edits:
        yield ""
        yield text_diff(document_text(given), document_text(result.document), name, f"{name} (repaired)").rstrip("\n")
        yield ""
    for number, said in enumerate(result.proposals):
        yield f"  proposal {number + 1}: {'accepted' if said.accepted else f'refused: {said.reason}'}"
    for rejected in result.rejected:
        yield (
            f"  refused after {len(rejected.edits)} edits: {rejected.witness.rule.side.value} "
            f"{rejected.witness.rule.id}, {request_text(rejected.witness.request)}"
        )
    if result.proof is not None and result.outcome in (Outcome.REPAIRED, Outcome.UNCHANGED):
        engines = sorted({"+".join(engine.value for engine in engines) for _, engines in result.proof.proved})
        yield f"  {len(result.proof.proved)} rules proved by {', '.join(engines) or 'nothing'} (B: atoms, C: Z3)"
        long = too_long_for(result.document)
        yield f"  {size_characters(result.document):,} characters" + (
            f", too long for {', '.join(long)}" if long else ""
        )
