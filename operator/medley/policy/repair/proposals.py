"""Repair with a proposer from outside, such as a language model: its edits pass the proof, or ours are used.

The protocol is CloudFix's (arXiv 2512.09957): the broken requests, and with localisation the statements to blame; at
most five rounds, each with what was refused before and why. Unlike there, typed edits are asked for, not a whole
policy. Account numbers are replaced before anything leaves and put back in the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from medley.model.errors import TransientError, UserError
from medley.policy.answers import Engine
from medley.policy.iam.document import Document
from medley.policy.iam.policyset import PolicySet, alone
from medley.policy.iam.render import document_value
from medley.policy.iam.request import Request
from medley.policy.localise import localise
from medley.policy.prove import Prover
from medley.policy.repair.contradictions import single_rules
from medley.policy.repair.edits import Edit, edit_of
from medley.policy.repair.repair import Outcome, Proposal, Repair, prove_edits, repair
from medley.policy.spec.spec import Spec
from medley.policy.verify import Verdict, Witness, verify
from medley.ports import RepairProposer

Json = dict[str, Any]
ROUNDS = 5
MOST_EDITS = 50
"""Edits of one answer; more are refused unread."""
MOST_FAULTS = 40
"""Broken requests that are told."""


class Localised(Enum):
    """Whether the proposer is told which statements to blame: the ablation of CloudFix."""

    YES = "yes"
    NO = "no"


def repair_with(
    proposer: RepairProposer,
    document: Document,
    spec: Spec,
    prover: Prover,
    limit_characters: int | None = None,
    localised: Localised = Localised.YES,
) -> Repair:
    """The proposer's edits, if they are proved within five rounds; else the formal repair, with what was refused."""
    before = verify(alone(document), spec, Prover(engines=(Engine.ATOMS,)))
    if before.verdict is not Verdict.VIOLATED or single_rules(document, spec)[1]:
        return repair(document, spec, prover, limit_characters)
    accounts = _Accounts(json.dumps(document_value(document)))
    proposals: list[Proposal] = []
    refused: list[Json] = []
    for _ in range(ROUNDS):
        task = {
            "document": document_value(document),
            "faults": [_fault(alone(document), witness, localised) for witness in before.witnesses[:MOST_FAULTS]],
            "refused": refused,
        }
        try:
            answer = proposer.propose(accounts.hide(task))
            edits = _edits(accounts.show(list(answer)))
            result = prove_edits(document, edits, spec, prover, limit_characters, before)
        except (TransientError, UserError, RecursionError, ValueError) as error:
            proposals.append(Proposal(False, str(error)[:500]))
            refused.append({"reason": str(error)[:500]})
            continue
        if result.outcome is Outcome.REPAIRED:
            return replace(result, proposals=(*proposals, Proposal(True, "")))
        witnesses = () if result.proof is None else result.proof.witnesses
        reason = result.reason if not witnesses else f"breaks {witnesses[0].rule.side.value} {witnesses[0].rule.id}"
        proposals.append(Proposal(False, reason))
        refused.append({"reason": reason, "requests": [_request(found.request) for found in witnesses[:5]]})
    return replace(repair(document, spec, prover, limit_characters), proposals=tuple(proposals))


def _edits(values: Sequence[Any]) -> tuple[Edit, ...]:
    if not values:
        raise UserError("there are no edits", field="edits")
    if len(values) > MOST_EDITS:
        raise UserError(f"there are {len(values)} edits, more than {MOST_EDITS}", field="edits")
    return tuple(edit_of(value, f"edits[{number}]") for number, value in enumerate(values))


def _fault(policies: PolicySet, witness: Witness, localised: Localised) -> Json:
    out: Json = {
        "request": _request(witness.request),
        "must": "be allowed" if witness.rule.side.value == "floor" else "be denied",
        "rule": witness.rule.id,
    }
    if localised is Localised.YES:
        fault = localise(policies, witness)
        out["case"] = fault.case.value
        out["statements"] = [blame.statement.statement for blame in fault.blamed]
    return out


def _request(request: Request) -> Json:
    return {
        "action": request.action,
        "resource": request.resource,
        "principal": None if request.caller is None else request.caller.id,
        "context": {key: list(values) for key, values in request.context},
    }


_ACCOUNT = re.compile(r"(?<!\d)\d{12}(?!\d)")


class _Accounts:
    """Account numbers and their stand-ins."""

    def __init__(self, text: str) -> None:
        self._stand_ins: dict[str, str] = {}
        self.hide(json.loads(text))

    def hide(self, value: Any) -> Any:
        """The value with stand-ins; a number that is new gets one."""
        return json.loads(_ACCOUNT.sub(lambda match: self._stand_in(match.group()), json.dumps(value)))

    def show(self, value: Any) -> Any:
        """The value with the numbers that the stand-ins mean."""
        known = {stand_in: account for account, stand_in in self._stand_ins.items()}
        return json.loads(_ACCOUNT.sub(lambda match: known.get(match.group(), match.group()), json.dumps(value)))

    def _stand_in(self, account: str) -> str:
        return self._stand_ins.setdefault(account, f"{len(self._stand_ins) + 1:012d}")
