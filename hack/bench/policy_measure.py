"""Runs one task of the policy benchmark, and takes its CPU time with cold caches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import TypeVar

from medley.policy.answers import Answer, Empty, Engine, Found
from medley.policy.atoms.product import find as find_by_atoms
from medley.policy.catalogue import catalogue, multivalued_keys
from medley.policy.clauses import All, Builder, Not, Question
from medley.policy.iam.document import Document
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.render import size_characters
from medley.policy.iam.request import Request
from medley.policy.prove import Prover
from medley.policy.repair.repair import Outcome, Repair, repair
from medley.policy.requests import generate
from medley.policy.smt.engine import find as find_by_smt
from medley.policy.spec.cloudfix import spec_of_requests
from medley.policy.spec.spec import Side, Spec

from .policy_cases import Labelled, Source, broken_documents, case_of, labelled_pool
from .policy_results import Row

ATOMS = Prover(engines=(Engine.ATOMS,))
A_REQUESTS = 60
A_REPEATS = 20
MISCLASSIFIED = 0.7
"""CloudFix's default: share of the requests whose Principal and Condition are rewritten."""

Made = TypeVar("Made")


def timed(work: Callable[[], Made]) -> tuple[Made, float]:
    """The result and the milliseconds of CPU time, with what earlier work remembered thrown away first.

    Nothing here waits or uses threads: on a machine of its own CPU time is wall time, beside other jobs it says more.
    """
    forget()
    began = time.process_time()
    made = work()
    return made, 1e3 * (time.process_time() - began)


def forget() -> None:
    """Empties every cache of the policy engine but the packaged catalogue, which is read once in a process."""
    kept = (catalogue, multivalued_keys)
    for name, module in list(sys.modules.items()):
        if name.startswith("medley.policy"):
            for value in vars(module).values():
                clear = getattr(value, "cache_clear", None)
                if clear is not None and value not in kept:
                    clear()


def measure_engines(source: Source, number: int, row: Row) -> Row:
    """A on requests around a document; B on it and a mutant, both directions; C on one direction."""
    made = broken_documents(source, "mutants", row.seed, number)
    if made is None:
        return replace(row, outcome="none")
    truth, mutant = source.document, made[0]
    pool = labelled_pool(truth, (truth, mutant), source.rng("engines", row.seed, number), 2 * A_REQUESTS)
    requests = [labelled.request for labelled in pool[:A_REQUESTS]]
    pairs = (truth, mutant), (mutant, truth)
    answers, b_ms = timed(lambda: [find_by_atoms(beyond(p, q)) for p, q in pairs])
    answer, c_ms = timed(lambda: find_by_smt(beyond(truth, mutant), row.limit_ms))
    outcome = "/".join(type(found).__name__ for found in (*answers, answer))
    wrong = _disagreement(truth, mutant, answers[0], answer)
    return replace(
        row, requests=len(requests), outcome=outcome, a_us=_a_us(truth, requests), b_ms=b_ms, c_ms=c_ms, note=wrong
    )


def beyond(p: Document, q: Document) -> Question:
    """What p allows and q does not."""
    builder = Builder()
    return builder.question(All((builder.allowed(p), Not(builder.allowed(q)))))


def _a_us(document: Document, requests: list[Request]) -> float:
    """Microseconds of a decision, the document compiled before: the quickest of the repeats, mean over the requests."""
    allows = Evaluator(document).allows
    best = float("inf")
    for _ in range(A_REPEATS):
        began = time.process_time()
        for request in requests:
            allows(request)
        best = min(best, time.process_time() - began)
    return 1e6 * best / max(1, len(requests))


def _disagreement(p: Document, q: Document, atoms: Answer, smt: Answer) -> str:
    a, b = Evaluator(p), Evaluator(q)
    for name, answer in (("B", atoms), ("C", smt)):
        if isinstance(answer, Found) and (not a.allows(answer.witness) or b.allows(answer.witness)):
            return f"A denies the witness of {name}"
    if {type(atoms), type(smt)} == {Found, Empty}:
        return "B and C contradict each other"
    return ""


def measure_complete(source: Source, number: int, row: Row) -> Row:
    """A CloudFix-style request list made true, with B alone and with B and C."""
    rng: Random = source.rng("cloudfix", row.seed, number, row.requests)
    spec = spec_of_requests(generate(source.document, row.requests, rng, MISCLASSIFIED), "requests")
    _, b_ms = timed(lambda: repair(source.document, spec, ATOMS))
    result, c_ms = timed(lambda: repair(source.document, spec, Prover(row.limit_ms)))
    outcome = result.outcome.value
    if result.outcome is Outcome.CONTRADICTION and not all(found.proved for found in result.contradictions):
        outcome = "UnprovedContradiction"
    right, total = _given_right(result, spec)
    return replace(
        row, outcome=outcome, right=right, total=total, b_ms=b_ms, c_ms=c_ms,
        characters=size_characters(result.document),
    )  # fmt: skip


def measure_held_out(source: Source, number: int, row: Row) -> Row:
    """A fault repaired from few requests, judged by others."""
    case = case_of(source, row.fault_set, row.seed, number, row.requests)
    if case is None:
        return replace(row, outcome="none")
    spec = case.spec
    result, b_ms = timed(lambda: repair(case.broken, spec, ATOMS))
    c_ms = 0.0
    if result.outcome is Outcome.UNKNOWN:  # policy variables: engine C alone proves them
        result, c_ms = timed(lambda: repair(case.broken, spec, Prover(row.limit_ms)))
    after = Evaluator(result.document)
    inside, outside = _right(after, case.inside), _right(after, case.outside)
    given, _ = _given_right(result, spec)
    wider, narrower = (
        find_by_atoms(beyond(result.document, source.document)),
        find_by_atoms(beyond(source.document, result.document)),
    )
    same = "unknown"
    if isinstance(wider, Found) or isinstance(narrower, Found):
        same = "no"
    elif isinstance(wider, Empty) and isinstance(narrower, Empty):
        same = "yes"
    return replace(
        row,
        requests=row.requests,
        outcome=result.outcome.value,
        right=inside + outside,
        total=len(case.inside) + len(case.outside),
        given_right=given,
        inside_right=inside,
        inside=len(case.inside),
        same=same,
        wider={Found: "yes", Empty: "no"}.get(type(wider), "unknown"),
        characters=size_characters(result.document),
        b_ms=b_ms,
        c_ms=c_ms,
        faults="+".join(case.kinds),
        note="" if len(case.given) == row.requests else f"{len(case.given)} requests",
    )


def _right(evaluator: Evaluator, requests: Iterable[Labelled]) -> int:
    return sum(evaluator.allows(labelled.request) is labelled.allow for labelled in requests)


def _given_right(result: Repair, spec: Spec) -> tuple[int, int]:
    """Of the requests that were given, how many are decided as wanted, and how many there are."""
    evaluator = Evaluator(result.document)
    verdicts = [evaluator.allows(sample) is (rule.side is Side.FLOOR) for rule in spec.rules for sample in rule.samples]
    return sum(verdicts), len(verdicts)


MEASURES: dict[str, Callable[[Source, int, Row], Row]] = {
    "engines": measure_engines,
    "complete": measure_complete,
    "held-out": measure_held_out,
}
