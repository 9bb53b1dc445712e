"""`medley policy repair` on Kubernetes manifests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

from medley.cli.policy_input import prover_of
from medley.cli.policy_rbac import rbac_report_object, rbac_spec, request_value, roles_of
from medley.model.errors import UserError
from medley.policy.rbac.document import Manifest
from medley.policy.rbac.edits import edit_text, edit_value
from medley.policy.rbac.render import manifest_text, manifest_values
from medley.policy.rbac.repair import Contradiction, Rejected, Repair, repair
from medley.policy.repair.repair import Outcome
from medley.policy.words import text_diff

EXIT = {Outcome.REPAIRED: 0, Outcome.UNCHANGED: 0, Outcome.CONTRADICTION: 1, Outcome.TOO_LONG: 1, Outcome.UNKNOWN: 4}


def repair_manifest(manifest: Manifest, args: argparse.Namespace) -> int:
    """`repair`: repair, print, and write where asked."""
    roles_of(manifest, args, args.document)
    result = repair(manifest, rbac_spec(args), prover_of(args))
    if args.output == "json":
        print(json.dumps(_repair_object(result, manifest)))
    else:
        print("\n".join(_repair_lines(result, manifest, str(args.document))))
    if args.write is not None and EXIT[result.outcome] == 0:
        try:
            args.write.write_text(manifest_text(result.manifest), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", field=str(args.write)) from None
    return EXIT[result.outcome]


def _repair_object(result: Repair, given: Manifest) -> dict[str, Any]:
    return {
        "verdict": result.outcome.value,
        "documents": manifest_values(result.manifest),
        "edits": [edit_value(edit) for edit in result.edits],
        "diff": text_diff(manifest_text(given), manifest_text(result.manifest), "before", "after"),
        "proof": None if result.proof is None else rbac_report_object(result.proof),
        "rejected": [_rejected_object(rejected) for rejected in result.rejected],
        "contradictions": [_contradiction_object(found) for found in result.contradictions],
        "reason": result.reason,
    }


def _rejected_object(rejected: Rejected) -> dict[str, Any]:
    return {
        "edits": [edit_value(edit) for edit in rejected.edits],
        "rule": rejected.witness.rule.id,
        "side": rejected.witness.rule.side.value,
        "request": request_value(rejected.witness.request),
    }


def _contradiction_object(found: Contradiction) -> dict[str, Any]:
    return {
        "floor": found.floor.id,
        "ceiling": found.ceiling.id,
        "request": request_value(found.witness),
        "provedBySmt": found.proved,
    }


def _repair_lines(result: Repair, given: Manifest, name: str) -> Iterable[str]:
    yield f"{result.outcome.value}" + (f": {result.reason}" if result.reason else "")
    for found in result.contradictions:
        yield f"  floor {found.floor.id} needs what ceiling {found.ceiling.id} shuts: {found.witness}"
        yield "    Z3 confirms it" if found.proved else "    Z3 did not confirm it"
    for edit in result.edits:
        yield f"  {edit_text(edit)}"
    if result.edits:
        yield ""
        yield text_diff(manifest_text(given), manifest_text(result.manifest), name, f"{name} (repaired)").rstrip("\n")
        yield ""
    refused: dict[str, int] = {}
    for rejected in result.rejected:
        refused[rejected.witness.rule.id] = refused.get(rejected.witness.rule.id, 0) + 1
    for rule, number in refused.items():
        yield f"  refused, for they take away what floor {rule} needs: {number}"
    if result.proof is not None and result.outcome in (Outcome.REPAIRED, Outcome.UNCHANGED):
        engines = sorted({"+".join(engine.value for engine in engines) for _, engines in result.proof.proved})
        yield f"  {len(result.proof.proved)} rules proved by {', '.join(engines) or 'nothing'} (B: atoms, C: Z3)"
