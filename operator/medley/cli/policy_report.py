"""Reports of a check, of whatever kind of policy: the JSON of the command contract, and text for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from medley.policy.spec.spec import Side
from medley.policy.verify import Doubt, Report, Verdict

EXIT = {Verdict.SATISFIED: 0, Verdict.VIOLATED: 1, Verdict.UNKNOWN: 4}


class AnyRule(Protocol):
    """What every rule of a spec has."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def side(self) -> Side:
        """Floor or ceiling."""

    @property
    def reason(self) -> str:
        """Why it is there, in the words of the spec."""

    @property
    def source(self) -> str:
        """Where it is from."""


class AnyWitness(Protocol):
    """What every witness has."""

    @property
    def rule(self) -> AnyRule:
        """The rule that it breaks."""


R = TypeVar("R", bound=AnyRule)
X = TypeVar("X", bound=AnyWitness)


def doubt_object(doubt: Doubt[R]) -> dict[str, Any]:
    """A rule that could not be decided."""
    return {"rule": doubt.rule.id, "side": doubt.rule.side.value, "reason": doubt.reason}


def report_object(report: Report[R, X], witness_object: Callable[[X], dict[str, Any]]) -> dict[str, Any]:
    """The JSON of `verify`."""
    return {
        "verdict": report.verdict.value,
        "witnesses": [witness_object(witness) for witness in report.witnesses],
        "unknown": [doubt_object(doubt) for doubt in report.doubts],
        "proved": [
            {"rule": rule.id, "side": rule.side.value, "engines": [engine.value for engine in engines]}
            for rule, engines in report.proved
        ],
        "disagreements": list(report.disagreements),
    }


def report_lines(report: Report[R, X], request: Callable[[X], str], because: Callable[[X], str]) -> Iterable[str]:
    """The answer of `verify` for people."""
    total = len(report.proved) + len(report.doubts) + len({id(witness.rule) for witness in report.witnesses})
    yield f"{report.verdict.value}: {len(report.proved)} of {total} rules hold"
    for witness in report.witnesses:
        rule = witness.rule
        wrong = "must be allowed, but is denied" if rule.side is Side.FLOOR else "must not be allowed, but is"
        yield f"  {rule.side.value} {rule.id}: {request(witness)}"
        yield f"    {wrong}{because(witness)}"
        if rule.reason:
            yield f"    {rule.reason}"
    for doubt in report.doubts:
        yield f"  {doubt.rule.side.value} {doubt.rule.id}: unknown: {doubt.reason}"
    for disagreement in report.disagreements:
        yield f"  engines disagree, report this: {disagreement}"
    if report.proved:
        engines = sorted({"+".join(engine.value for engine in engines) for _, engines in report.proved})
        yield f"  proved by {', '.join(engines)} (B: atoms, C: Z3)"
