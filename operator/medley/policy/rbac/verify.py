"""Checks role sets against an access spec: every rule is a question, and every answer has a proof or a witness."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from medley.model.errors import UserError
from medley.policy.answers import Engine
from medley.policy.clauses import All, Not
from medley.policy.prove import Outcome, Proved, Prover, Refuted, Unproved
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.questions import Space
from medley.policy.rbac.regions import Region
from medley.policy.rbac.request import Caller, Request
from medley.policy.rbac.roleset import Grant, RoleSet
from medley.policy.rbac.spec import Rule, Spec
from medley.policy.spec.spec import Side
from medley.policy.verify import Doubt, Report, verdict_of


@dataclass(frozen=True, slots=True)
class Witness:
    """A request that breaks a rule, with the grants that allow it. A rule of several parts has one for each of them."""

    rule: Rule
    request: Request
    grants: tuple[Grant, ...]
    part: int = 0


RbacReport = Report[Rule, Witness]


def verify(roles: RoleSet, spec: Spec, prover: Prover) -> RbacReport:
    """The roles against every rule of the spec."""
    return Verification(roles, spec.callers(), prover).run(spec.rules)


def require_known(roles: RoleSet) -> None:
    """Refuses bindings to roles that are not there: what they give is not known, so nothing could be called safe.

    Raises:
        UserError: there is such a binding.
    """
    for binding in roles.missing():
        raise UserError(
            f"gives {binding.role.kind.value} {binding.role.name}, which is not in the manifest",
            field=f"{binding}: roleRef",
            fix="Add it: kubectl get clusterrole NAME -o yaml",
        )


class Verification:
    """Asks the rules; keeps the evaluator."""

    def __init__(self, roles: RoleSet, named: Iterable[Caller], prover: Prover) -> None:
        self.roles = roles
        self.evaluator = Evaluator(roles)
        self._named = tuple(named)
        self._prover = prover

    def run(self, rules: Iterable[Rule]) -> RbacReport:
        """The verdict on these rules."""
        witnesses: list[Witness] = []
        doubts: list[Doubt[Rule]] = []
        proved: list[tuple[Rule, tuple[Engine, ...]]] = []
        for rule in rules:
            outcomes = self._together(rule) if len(rule.parts) > 1 else (self.ask(rule.side, rule.parts[0]),)
            for part, outcome in enumerate(outcomes):
                if isinstance(outcome, Refuted):
                    grants = tuple(self.evaluator.matching(outcome.witness))
                    witnesses.append(Witness(rule, outcome.witness, grants, part))
                elif isinstance(outcome, Unproved):
                    doubts.append(Doubt(rule, outcome.reason, outcome.disagreement))
                else:
                    proved.append((rule, outcome.engines))
        disagreements = tuple(doubt.disagreement for doubt in doubts if doubt.disagreement)
        return Report(verdict_of(witnesses, doubts), tuple(witnesses), tuple(doubts), tuple(proved), disagreements)

    def ask(self, side: Side, region: Region) -> Outcome[Request]:
        """Whether all of a region is allowed (floor), or none of it (ceiling)."""
        space = Space((self.roles,), self._named)
        allowed = space.allowed(self.roles)
        formula = All((region.formula(space), Not(allowed) if side is Side.FLOOR else allowed))

        def confirm(request: Request) -> bool:
            return region.contains(request) and self.evaluator.allows(request) is (side is Side.CEILING)

        return space.prove(self._prover, formula, confirm)

    def _together(self, rule: Rule) -> tuple[Outcome[Request], ...]:
        """A rule that holds unless one caller has something in every part: that caller's requests, or one answer."""
        unproved: Outcome[Request] | None = None
        engines: set[Engine] = set(self._prover.engines)
        for caller in Space((self.roles,), self._named).callers.all:
            parts = [part for part in rule.parts if part.caller in (None, caller)]
            if len(parts) < len(rule.parts):
                continue
            found = []
            for part in parts:
                outcome = self.ask(Side.CEILING, replace(part, caller=caller))
                if isinstance(outcome, Proved):
                    engines &= set(outcome.engines)
                    break
                found.append(outcome)
            else:
                doubt = next((outcome for outcome in found if isinstance(outcome, Unproved)), None)
                if doubt is None:
                    return tuple(found)
                unproved = unproved or doubt
        return (unproved or Proved(tuple(engine for engine in self._prover.engines if engine in engines)),)
