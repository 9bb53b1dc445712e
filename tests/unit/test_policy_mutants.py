"""Mutants of real policies by somebody else's rules (Quacky's, hack/bench/policy_mutants.py): A, B and C agree."""

from __future__ import annotations

from random import Random

import pytest
from bench.policy_cases import Source, forum_sources, labelled_pool, managed_sources
from bench.policy_measure import beyond
from bench.policy_mutants import mutants

from medley.policy.answers import Empty, Found
from medley.policy.atoms.product import find as find_by_atoms
from medley.policy.iam.evaluate import Evaluator
from medley.policy.smt.engine import find as find_by_smt

SOURCES = [*forum_sources(), *managed_sources()]


def agree(source: Source, seed: int, most: int, timeout_ms: int) -> None:
    """The engines on a document and each of its mutants, both directions; A on requests around them."""
    for number, mutant in enumerate(mutants(source.document, Random(seed), most)):
        samples = labelled_pool(source.document, (source.document, mutant), Random(seed + number), 60)
        for p, q in ((source.document, mutant), (mutant, source.document)):
            a, b = Evaluator(p), Evaluator(q)
            answers = find_by_atoms(beyond(p, q)), find_by_smt(beyond(p, q), timeout_ms)
            for answer in answers:
                if isinstance(answer, Found):
                    assert a.allows(answer.witness)
                    assert not b.allows(answer.witness)
            assert {type(answer) for answer in answers} != {Found, Empty}, source.name
            if any(isinstance(answer, Empty) for answer in answers):
                assert not any(a.allows(s.request) and not b.allows(s.request) for s in samples), source.name


@pytest.mark.parametrize("source", SOURCES[::4], ids=lambda source: source.name)
def test_the_engines_agree_on_mutants(source: Source) -> None:
    agree(source, 1, 1, 300)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_engines_agree_on_mutants_long(source: Source) -> None:
    agree(source, 2, 8, 2000)
