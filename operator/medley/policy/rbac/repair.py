"""Repairs a manifest and proves the result, or says why it cannot be repaired.

Floor rules come first: each gets the smallest addition that gives nothing beyond the floor. Then every request that a
ceiling shuts is taken away by the edits that take away least besides, and none that the floor needs. Where no such
edits are found the whole rule goes, and the floor is given again by rules of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from medley.model.errors import UserError
from medley.policy.answers import Engine, Found
from medley.policy.clauses import All, Formula, Not, Some
from medley.policy.prove import Proved, Prover, Refuted, find_values_by_smt
from medley.policy.rbac.document import Manifest
from medley.policy.rbac.edits import Edit, apply_edits
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.narrowing import Narrowing, Plan
from medley.policy.rbac.questions import Space, within
from medley.policy.rbac.regions import Region
from medley.policy.rbac.request import FIRST, Caller, Request
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.samples import samples
from medley.policy.rbac.spec import Rule, Spec
from medley.policy.rbac.verify import RbacReport, Verification, Witness, verify
from medley.policy.rbac.widening import Widening, bindings_to_the_floor
from medley.policy.repair.repair import Outcome
from medley.policy.verify import Verdict

MAX_STEPS = 100
"""Requests that are put right one after the other."""
MAX_WORK = 100_000
"""Candidates times rules: about a minute. A manifest of ten rules never gets there, a whole cluster does."""
ATOMS = Prover(engines=(Engine.ATOMS,))


@dataclass(frozen=True, slots=True)
class Rejected:
    """Edits that were refused, with the floor rule's request that they would have taken away."""

    edits: tuple[Edit, ...]
    witness: Witness


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A floor rule that cannot be given without a request that a ceiling rule shuts."""

    floor: Rule
    ceiling: Rule
    witness: Request
    proved: bool
    """Whether Z3 finds such a request too."""


@dataclass(frozen=True, slots=True)
class Repair:
    """The manifest that came out with the edits that made it, its proof, and what was tried and refused.

    For every outcome but REPAIRED and UNCHANGED `manifest` is the one that was given.
    """

    outcome: Outcome
    manifest: Manifest
    edits: tuple[Edit, ...]
    before: RbacReport
    proof: RbacReport | None
    rejected: tuple[Rejected, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    reason: str = ""


def repair(manifest: Manifest, spec: Spec, prover: Prover) -> Repair:
    """The smallest edits found that make the manifest meet the spec, proved by the prover's engines."""
    before = verify(RoleSet(manifest), spec, ATOMS)
    if before.verdict is not Verdict.VIOLATED:
        before = verify(RoleSet(manifest), spec, prover)
    if before.verdict is Verdict.SATISFIED:
        return Repair(Outcome.UNCHANGED, manifest, (), before, before)
    contradictions = tuple(_contradictions(spec, prover))
    if contradictions:
        return Repair(Outcome.CONTRADICTION, manifest, (), before, None, contradictions=contradictions)
    bound = bindings_to_the_floor(manifest, spec)
    if bound:
        repaired = apply_edits(manifest, bound)
        proof = verify(RoleSet(repaired), spec, prover)
        if proof.verdict is Verdict.SATISFIED:
            return Repair(Outcome.REPAIRED, repaired, bound, before, proof)
    search = _Search(manifest, spec)
    search.run()
    proof = verify(RoleSet(search.manifest), spec, prover)
    if proof.verdict is not Verdict.SATISFIED:
        reason = "no edits were found that meet the spec"
        if search.work > MAX_WORK:
            reason = "the manifest is too large: repair the roles of one subject at a time"
        elif proof.doubts:
            reason = proof.doubts[0].reason
        return Repair(Outcome.UNKNOWN, manifest, (), before, proof, tuple(search.rejected), reason=reason)
    return Repair(Outcome.REPAIRED, search.manifest, tuple(search.edits), before, proof, tuple(search.rejected))


@dataclass
class _Search:
    """The state of a search: the manifest so far, the edits that made it, what was refused on the way."""

    given: Manifest
    spec: Spec
    manifest: Manifest = field(init=False)
    edits: list[Edit] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    work: int = 0
    """Candidates looked at, each times the rules of the manifest."""

    def __post_init__(self) -> None:
        self.manifest = self.given
        self._size = sum(1 for _ in RoleSet(self.given).grants())

    def run(self) -> None:
        """Edits until engine B finds nothing wrong, or none are left to try."""
        for _ in range(MAX_STEPS):
            found = self._check(self.manifest).run(self.spec.floor).witnesses
            if found:
                plan = self._widen(found[0])
            else:
                found = self._check(self.manifest).run(self.spec.ceiling).witnesses
                plan = self._narrow([other for other in found if other.rule is found[0].rule]) if found else None
            if plan is None:
                return
            self.manifest = apply_edits(self.manifest, plan)
            self.edits.extend(plan)

    def _check(self, manifest: Manifest) -> Verification:
        return Verification(RoleSet(manifest), self.spec.callers(), ATOMS)

    def _after(self, plan: Plan) -> Manifest | None:
        try:
            return apply_edits(self.manifest, plan)
        except UserError:
            return None

    # What the floor lacks.

    def _widen(self, witness: Witness) -> Plan | None:
        for plan in Widening(self.manifest, RoleSet(self.manifest)).plans(witness):
            after = self._after(plan)
            if (
                after is not None
                and Evaluator(after).allows(witness.request)
                and gives_the_floor_alone(self.manifest, after, self.spec)
            ):
                return plan
        return None

    # What the ceiling shuts.

    def _narrow(self, witnesses: list[Witness]) -> Plan | None:
        """The edits that take away least beyond the ceiling for what they take inside; then the fewest.

        Only such as break no floor rule.
        """
        narrowing = Narrowing(self.manifest, self.spec)
        best: tuple[tuple[float, int, int], Plan] | None = None
        for witness in witnesses:
            grant = witness.grants[0]
            allowed, shut = self._allowed_now(witness)
            for plan in narrowing.plans(grant, witness.request, witness.rule.parts[witness.part]):
                if best is not None and best[0][0] == 0 and len(plan) > best[0][1]:
                    break
                after = self._after(plan)
                self.work += self._size
                if self.work > MAX_WORK:
                    return None
                if after is None or not self._helps(after, plan, witness):
                    continue
                evaluator = Evaluator(after)
                lost = sum(not evaluator.allows(request) for request in allowed)
                left = sum(map(evaluator.allows, shut))
                score = (lost / max(1, len(shut) - left), len(plan), left)
                if best is None or score < best[0]:
                    best = (score, plan)
        if best is not None:
            return best[1]
        return narrowing.last(witnesses[0].grants[0], witnesses[0].request)

    def _allowed_now(self, witness: Witness) -> tuple[list[Request], list[Request]]:
        """Sample requests that are allowed to those who have the role to blame: outside of the ceiling, and inside."""
        roles = RoleSet(self.manifest)
        known = Space((roles,), self.spec.callers()).callers
        blamed = {key for grant in witness.grants for key in (grant.role.key, grant.binding.key)}
        touched = [grant for grant in roles.grants() if {grant.role.key, grant.binding.key} & blamed]
        others = (
            known.least(subject, grant.binding.metadata.namespace)
            for grant in touched
            for subject in grant.binding.subjects
        )
        evaluator = Evaluator(roles)
        shut = [rule.parts[0] for rule in self.spec.ceiling if len(rule.parts) == 1]
        shut.append(witness.rule.parts[witness.part])
        outside: list[Request] = []
        inside: list[Request] = []
        for request in samples(touched, self.spec, (witness.request.caller, *others)):
            if evaluator.allows(request):
                (inside if any(region.contains(request) for region in shut) else outside).append(request)
        return outside, inside

    def _helps(self, after: Manifest, plan: Plan, witness: Witness) -> bool:
        """Whether fewer grants allow the request after the plan, nothing is new, and the floor still holds."""
        if sum(1 for _ in Evaluator(after).matching(witness.request)) >= len(witness.grants):
            return False
        if not isinstance(within(RoleSet(after), RoleSet(self.manifest), ATOMS), Proved):
            return False
        broken = self._check(after).run(self.spec.floor).witnesses
        if broken:
            self.rejected.append(Rejected((*self.edits, *plan), broken[0]))
        return not broken


def gives_the_floor_alone(before: Manifest, after: Manifest, spec: Spec) -> bool:
    """Whether what the second manifest allows beyond the first is of the floor."""
    old, new = RoleSet(before), RoleSet(after)
    space = Space((old, new), spec.callers())
    floor = Some(tuple(reach(part, space) for rule in spec.floor for part in rule.parts))
    gained = All((space.allowed(new), Not(space.allowed(old)), Not(floor)))
    return isinstance(space.prove(ATOMS, gained, lambda _: True), Proved)


def reach(region: Region, space: Space) -> Formula:
    """What has to be given with a floor's region: rights outside of namespaces count in all of them.

    A user's other groups do not matter, as a binding names the user; whoever is in a group has what it has.
    """
    wide = region.namespaces is not None and "" in region.namespaces.items
    whole = replace(region, namespaces=None) if wide else region
    return whole.formula(space, lambda caller: has_all(caller, region.caller))


def has_all(caller: Caller, of: Caller | None) -> bool:
    """Whether a caller has what a binding to another gives."""
    if of is None:
        return True
    if of.user != FIRST:
        return caller.user == of.user
    return set(of.groups) <= set(caller.groups)


def _contradictions(spec: Spec, prover: Prover) -> Iterator[Contradiction]:
    """Pairs of a floor and a ceiling rule that cannot both be had."""
    for ceiling in spec.ceiling:
        callers = Space((), spec.callers()).callers.all if len(ceiling.parts) > 1 else (None,)
        for caller in callers:
            parts = [part if caller is None else replace(part, caller=caller) for part in ceiling.parts]
            met = [_meeting(spec, part, prover) for part in parts]
            if all(found is not None for found in met):
                for floor, request, proved in (found for found in met if found is not None):
                    yield Contradiction(floor, ceiling, request, proved)
                break


def _meeting(spec: Spec, part: Region, prover: Prover) -> tuple[Rule, Request, bool] | None:
    for floor in spec.floor:
        space = Space((), spec.callers())
        formula = All((reach(floor.parts[0], space), part.formula(space)))
        outcome = space.prove(ATOMS, formula, part.contains)
        if isinstance(outcome, Refuted):
            answer = find_values_by_smt(space.question(formula), prover.timeout_ms)
            return floor, outcome.witness, isinstance(answer, Found)
    return None
