"""The cases of the policy benchmark: documents, faulty documents, and requests labelled by the document that was meant.

The document that was meant (the truth) is an oracle: it labels requests, and engine B compares the repaired document
with it afterwards. Neither it nor a held-out request is ever shown to the repair.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from medley.policy.catalogue import catalogue, sample_arn
from medley.policy.iam.document import Condition, Document, PrincipalType, Sense, Statement
from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.parse import document_of, parse_document
from medley.policy.iam.request import Request, ascii_lower
from medley.policy.requests import COMMON_ACTIONS, fill, sample_condition
from medley.policy.spec.cloudfix import spec_of_requests
from medley.policy.spec.spec import Spec

from .policy_faults import faulty
from .policy_mutants import mutants

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
FORUM = ROOT / "tests" / "data" / "policies"
MANAGED = ROOT / "tests" / "data" / "policy" / "aws_managed.jsonl"

POOL = 1200
"""Requests drawn around a case, before those that are alike are dropped."""
HELD_OUT = 40
"""Held-out requests of a case: half from where the faulty document is wrong, as far as there are so many."""
WRONG_SHARE = 0.3
"""Of the requests that the repair is given, those that the faulty document decides wrongly."""
LEAST_WRONG = 2
"""Distinct wrong requests that a case needs: one to repair by and one to be held out."""


@dataclass(frozen=True, slots=True)
class Source:
    """A document with its name and the set it belongs to: forum (data/policies) or aws (managed policies)."""

    name: str
    origin: str
    document: Document

    def rng(self, *parts: object) -> Random:
        """Randomness that depends on the document and on what is asked for, not on the order of the run."""
        return Random(zlib.crc32(repr((self.name, *parts)).encode()))


@dataclass(frozen=True, slots=True)
class Labelled:
    """A request in CloudFix's format with its label, and the same as engine A reads it."""

    item: Json
    request: Request
    allow: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A faulty document, what the repair is given, and what it is measured by.

    Attributes:
        kinds: the faults, or `mutant`.
        given: requests that the repair sees.
        inside: held-out requests that the faulty document decides wrongly.
        outside: held-out requests that it decides rightly, and that a repair may break.
    """

    source: Source
    broken: Document
    kinds: tuple[str, ...]
    given: tuple[Labelled, ...]
    inside: tuple[Labelled, ...]
    outside: tuple[Labelled, ...]

    @property
    def spec(self) -> Spec:
        """The access spec that the repair gets."""
        return spec_of_requests({"Requests": [labelled.item for labelled in self.given]}, "requests")


def forum_sources() -> list[Source]:
    """The 21 policies from forums."""
    return [
        Source(path.stem, "forum", parse_document(path.read_text(encoding="utf-8"), path.name))
        for path in sorted(FORUM.glob("*.json"))
    ]


def managed_sources() -> list[Source]:
    """The 160 policies that AWS manages."""
    lines = MANAGED.read_text(encoding="utf-8").splitlines()
    values = [json.loads(line) for line in lines]
    return [Source(value["name"], "aws", document_of(value["document"])) for value in values]


def broken_documents(source: Source, fault_set: str, seed: int, number: int) -> tuple[Document, tuple[str, ...]] | None:
    """The document with faults of a set: `single`, `several` (2 or 3 faults) or `mutants`; None: none fits."""
    rng = source.rng(fault_set, seed, number)
    if fault_set == "mutants":
        found = mutants(source.document, rng, 1)
        return (found[0], ("mutant",)) if found else None
    count = 1 if fault_set == "single" else 2 + rng.randrange(2)
    document, kinds = faulty(source.document, count, rng)
    return (document, kinds) if len(kinds) == count else None


def case_of(source: Source, fault_set: str, seed: int, number: int, count: int) -> Case | None:
    """A case with `count` given requests; None: no such fault, or too few requests show it."""
    made = broken_documents(source, fault_set, seed, number)
    if made is None:
        return None
    broken, kinds = made
    rng = source.rng("requests", fault_set, seed, number)
    pool = labelled_pool(source.document, (source.document, broken), rng, POOL)
    before = Evaluator(broken)
    wrong = [labelled for labelled in pool if before.allows(labelled.request) is not labelled.allow]
    right = [labelled for labelled in pool if before.allows(labelled.request) is labelled.allow]
    if len(wrong) < LEAST_WRONG:
        return None
    # Held-out requests are set aside first and are the same for every count.
    half = HELD_OUT // 2
    inside, wrong = _split(wrong, min(half, len(wrong) // 2))
    outside, right = _split(right, min(half, len(right) // 2))
    shown = wrong[: max(1, round(WRONG_SHARE * count))]
    given = shown + right[: count - len(shown)]
    rng.shuffle(given)
    return Case(source, broken, kinds, tuple(given), tuple(inside), tuple(outside))


def _split(items: list[Labelled], most: int) -> tuple[list[Labelled], list[Labelled]]:
    return items[:most], items[most:]


def labelled_pool(truth: Document, near: Sequence[Document], rng: Random, draws: int) -> list[Labelled]:
    """Distinct requests around documents, in random order, labelled by engine A on the truth.

    Every key that a document tests is there or said to be absent, so that a request is one request and no request that
    must be denied stands for completions that must be allowed.
    """
    oracle = Evaluator(truth)
    keys = {ascii_lower(found.key): found.key for d in near for s in d.statements for found in s.conditions}
    out: dict[Request, Labelled] = {}
    for _ in range(draws):
        item = _request(near, keys, rng)
        sample = spec_of_requests({"Requests": [{**item, "Effect": "Allow"}]}, "pool").rules[0].samples[0]
        if sample in out:
            continue
        allow = oracle.allows(sample)
        effect = "Allow" if allow else "Deny"
        item = {"id": f"{effect.lower()}_{rng.getrandbits(32):08x}", "Effect": effect, **item}
        out[sample] = Labelled(item, sample, allow)
    return list(out.values())


def _request(near: Sequence[Document], keys: dict[str, str], rng: Random) -> Json:
    statement = rng.choice(rng.choice(near).statements)
    action = _action(statement, rng)
    item: Json = {"Action": action, "Resource": _resource(statement, near, action, rng)}
    callers = [
        (entry.type, name)
        for document in near
        for found in document.statements
        if found.principal is not None
        for entry in found.principal.entries
        for name in entry.items
        if entry.type is PrincipalType.AWS and name.startswith("arn:")
    ]
    if any(found.principal is not None for document in near for found in document.statements):
        kind, name = (PrincipalType.AWS, f"arn:aws:iam::{rng.randrange(10**11, 10**12)}:user/u{rng.randrange(50)}")
        if callers and rng.random() < 0.6:
            kind, name = rng.choice(callers)
        item["Principal"] = {kind.value: name}
    blocks: dict[str, Json] = {}
    own = {ascii_lower(found.key): found for found in statement.conditions}
    others = [found for document in near for other in document.statements for found in other.conditions]
    for lowered, key in keys.items():
        name, value = _value(own.get(lowered), [c for c in others if ascii_lower(c.key) == lowered], rng)
        blocks.setdefault(name, {})[key] = value
    if blocks:
        item["Condition"] = blocks
    return item


def _value(own: Condition | None, others: Sequence[Condition], rng: Random) -> tuple[str, Any]:
    """An operator and a value for a key: mostly one that the drawn statement accepts."""
    chance = rng.random()
    if chance < 0.15 or (own is None and chance < 0.5):
        return "Null", "true"
    condition = own if own is not None and rng.random() < 0.85 else rng.choice(others)
    name, value = sample_condition(condition, rng, altered=rng.random() < 0.25)
    return ("Null", "true") if value is None else (name, value)


def _action(statement: Statement, rng: Random) -> str:
    pattern = rng.choice(statement.action.items)
    service = pattern.partition(":")[0]
    same = catalogue().by_service.get(service, ())
    if same and (statement.action.sense is Sense.NOT_IN or rng.random() < 0.15):
        return rng.choice(same).name
    if pattern == "*":
        return rng.choice(COMMON_ACTIONS)
    if "*" not in pattern and "?" not in pattern:
        return pattern
    found = [action.name for action in catalogue().expand(pattern)]
    return rng.choice(found) if found else fill(pattern, rng)


def _resource(statement: Statement, near: Sequence[Document], action: str, rng: Random) -> str:
    chance = rng.random()
    patterns = statement.resource.items if statement.resource is not None else ("*",)
    if chance < 0.15:
        found = [s.resource.items for document in near for s in document.statements if s.resource is not None]
        patterns = rng.choice(found) if found else patterns
    pattern = rng.choice(patterns)
    if pattern == "*":
        known = catalogue().get(action)
        if known is None or not known.arns:
            return "*"
        return f"{sample_arn(rng.choice(known.arns))}{rng.randrange(10)}"
    text = fill(pattern, rng)
    return f"{text}-x{rng.randrange(100)}" if chance > 0.9 else text
