"""One question put to the engines, and what their answers amount to together.

| B | C | outcome |
|---|---|---|
| finds a request that A confirms | not asked | Refuted |
| none | none | Proved by both |
| cannot say, for a policy variable | none | Proved by C alone, and said so |
| anything else | finds a request that A confirms | Refuted |
| anything else | anything else | Unproved: never read as safe |

An engine that finds a request that A does not confirm, or that denies one that A does, is wrong: the outcome says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from medley.model.errors import UserError
from medley.policy.answers import Answer, Empty, Engine, Found, Unknown, Values, W, read_as
from medley.policy.atoms.product import find_values as find_values_by_atoms
from medley.policy.atoms.product import variables_of
from medley.policy.clauses import Question
from medley.policy.iam.reading import request_of
from medley.policy.iam.request import Request

Confirm = Callable[[W], bool]
"""Engine A on a request that another engine found: does it answer the question?"""


@dataclass(frozen=True, slots=True)
class Proved:
    """No request answers the question."""

    engines: tuple[Engine, ...]


@dataclass(frozen=True, slots=True)
class Refuted(Generic[W]):
    """This request does, as the evaluator confirms."""

    witness: W
    engine: Engine
    disagreement: str = ""
    """Set where another engine claims that there is none: a bug to report."""


@dataclass(frozen=True, slots=True)
class Unproved:
    """Neither; never to be read as safe."""

    reason: str
    disagreement: str = ""


Outcome = Proved | Refuted[W] | Unproved


@dataclass(frozen=True, slots=True)
class Prover:
    """Puts questions to B and, where B finds nothing, to C.

    `engines` without SMT proves by B alone, for searches whose result is proved again.
    """

    timeout_ms: int = 5000
    engines: tuple[Engine, ...] = (Engine.ATOMS, Engine.SMT)

    def prove(self, question: Question, confirm: Confirm[Request]) -> Outcome[Request]:
        """Whether no request to AWS answers the question."""
        return self.prove_as(question, confirm, request_of)

    def prove_as(self, question: Question, confirm: Confirm[W], reading: Callable[[Values], W]) -> Outcome[W]:
        """Whether no request, which the reading makes of an engine's values, answers the question."""
        atoms = read_as(find_values_by_atoms(question), reading)
        if isinstance(atoms, Found):
            if confirm(atoms.witness):
                return Refuted(atoms.witness, Engine.ATOMS)
            return Unproved("engine B found a request that A does not confirm", f"B: {atoms.witness}")
        if Engine.SMT not in self.engines:
            return Proved((Engine.ATOMS,)) if isinstance(atoms, Empty) else Unproved(atoms.reason)
        smt = read_as(find_values_by_smt(question, self.timeout_ms), reading)
        if isinstance(smt, Found):
            if not confirm(smt.witness):
                return Unproved("engine C found a request that A does not confirm", f"C: {smt.witness}")
            wrong = "engine B claims that there is no such request" if isinstance(atoms, Empty) else ""
            return Refuted(smt.witness, Engine.SMT, wrong)
        if isinstance(smt, Unknown):
            return Unproved(smt.reason)
        if isinstance(atoms, Empty):
            return Proved((Engine.ATOMS, Engine.SMT))
        return Proved((Engine.SMT,)) if variables_of(question) else Unproved(atoms.reason)


def find_by_smt(question: Question, timeout_ms: int) -> Answer[Request]:
    """Engine C's answer, as a request to AWS."""
    return read_as(find_values_by_smt(question, timeout_ms), request_of)


def find_values_by_smt(question: Question, timeout_ms: int) -> Answer[Values]:
    """Engine C's answer.

    Raises:
        UserError: Z3 is not installed.
    """
    try:
        from medley.policy.smt.engine import find_values
    except ImportError:
        raise UserError("Z3 is not installed", field="z3-solver", fix='Install "medley[policy]"') from None
    return find_values(question, timeout_ms)
