"""Engine A against recorded verdicts of an independent evaluator (hack/policy_oracle)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from medley.policy.iam.evaluate import Evaluator
from medley.policy.iam.parse import document_of
from medley.policy.iam.request import request

DATA = Path(__file__).parents[1] / "data" / "policy"
CALLER = "arn:aws:iam::111122223333:user/anna"


def differing() -> set[tuple[int, int]]:
    found = set()
    for line, text in enumerate((DATA / "oracle.jsonl").read_text(encoding="utf-8").splitlines()):
        case: dict[str, Any] = json.loads(text)
        evaluator = Evaluator(document_of(case["document"]))
        for number, (asked, verdict) in enumerate(zip(case["requests"], case["verdicts"], strict=True)):
            ours = evaluator.decide(request(asked["action"], asked["resource"], CALLER, asked["context"]))
            if ours.value != verdict:
                found.add((line, number))
    return found


def test_all_verdicts_agree_but_those_that_are_explained() -> None:
    explained = yaml.safe_load((DATA / "oracle_differences.yaml").read_text(encoding="utf-8"))
    known = {tuple(case) for entry in explained for case in entry["cases"]}
    assert all(entry["reason"].strip() for entry in explained)
    assert differing() == known


def test_the_recorded_cases_are_many_and_of_every_kind() -> None:
    verdicts = [
        verdict
        for text in (DATA / "oracle.jsonl").read_text(encoding="utf-8").splitlines()
        for verdict in json.loads(text)["verdicts"]
    ]
    assert len(verdicts) >= 1000
    assert all(verdicts.count(kind) > 100 for kind in ("Allowed", "ImplicitDeny", "ExplicitDeny"))
