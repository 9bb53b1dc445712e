"""The policy benchmark, tiny: its cases are fair, its figures are all there, and a run is taken up where it stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "hack"))

from bench.policy import Task, full_tasks, quick_stages, work  # noqa: E402
from bench.policy_cases import case_of, forum_sources, managed_sources  # noqa: E402
from bench.policy_faults import FAULTS, faulty  # noqa: E402
from bench.policy_figures import figures, goal_lines, table_lines  # noqa: E402
from bench.policy_mutants import change_effect, mutants, remove_conditions, remove_lists  # noqa: E402
from bench.policy_results import Results, read_rows  # noqa: E402

from medley.policy.iam.document import Document, Sense  # noqa: E402
from medley.policy.iam.evaluate import Evaluator  # noqa: E402
from medley.policy.iam.parse import parse_document  # noqa: E402
from medley.policy.iam.render import statement_value  # noqa: E402
from medley.policy.spec.spec import Side  # noqa: E402

FORUM = forum_sources()
LIMIT_MS = 1000


def statement(**elements: object) -> Document:
    """A document of one statement."""
    base = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::b/*"]}
    return parse_document(json.dumps({"Version": "2012-10-17", "Statement": [{**base, **elements}]}))


def test_the_sets_are_those_that_the_figures_name() -> None:
    assert len(FORUM) == 21
    assert len(managed_sources()) == 160


def test_mutants_follow_the_rules_of_quacky() -> None:
    found = statement(Condition={"Bool": {"aws:SecureTransport": "true"}}).statements[0]
    assert statement_value(remove_conditions(found)) == {
        "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::b/*"],
    }  # fmt: skip
    wide = remove_lists(found)
    assert (wide.action.items, wide.resource.items if wide.resource else ()) == (("s3:*",), ("arn:aws:s3:::*",))
    assert change_effect(found) == found
    turned = change_effect(statement(Effect="Deny").statements[0])
    assert turned.action.sense is Sense.NOT_IN
    assert turned.resource is not None
    assert turned.resource.sense is Sense.NOT_IN
    for source in FORUM:
        made = mutants(source.document, Random(1), 4)
        assert len(set(made)) == len(made)
        assert source.document not in made


def test_faults_are_of_the_kinds_that_were_drawn() -> None:
    seen = set()
    for number in range(60):
        source = FORUM[number % len(FORUM)]
        changed, kinds = faulty(source.document, 2, Random(number))
        assert 1 <= len(kinds) <= 2
        assert changed != source.document
        seen.update(kinds)
    assert seen == set(FAULTS)


@pytest.mark.parametrize("fault_set", ["single", "several", "mutants"])
def test_no_held_out_request_is_given(fault_set: str) -> None:
    made = [case_of(source, fault_set, 5, 0, 10) for source in FORUM[:6]]
    cases = [case for case in made if case is not None]
    assert cases
    for case in cases:
        given = {labelled.request for labelled in case.given}
        held_out = {labelled.request for labelled in (*case.inside, *case.outside)}
        assert case.inside
        assert not given & held_out
        assert len(given) == len(case.given) <= 10
        truth, broken = Evaluator(case.source.document), Evaluator(case.broken)
        for labelled in (*case.given, *case.inside, *case.outside):
            assert truth.allows(labelled.request) is labelled.allow
        assert all(broken.allows(labelled.request) is not labelled.allow for labelled in case.inside)
        assert all(broken.allows(labelled.request) is labelled.allow for labelled in case.outside)
        # The spec says what was given, and nothing of the document that was meant.
        samples = {(sample, rule.side is Side.FLOOR) for rule in case.spec.rules for sample in rule.samples}
        assert samples == {(labelled.request, labelled.allow) for labelled in case.given}
        # The same requests are held out whatever the number of given ones is.
        other = case_of(case.source, fault_set, 5, 0, 30)
        assert other is not None
        assert (other.inside, other.outside) == (case.inside, case.outside)


def test_figures_of_a_tiny_run(tmp_path: Path) -> None:
    results = Results(tmp_path / "policy.csv", "engine-1")
    sources = [source for source in FORUM if source.name.startswith("s3")][:2]
    tasks = [
        *(Task("engines", source, 0) for source in sources),
        *(Task("complete", source, 0, size) for source in sources for size in (10, 20)),
        *(Task("held-out", source, 0, 20, name) for source in sources for name in ("single", "several", "mutants")),
    ]
    work(tasks, results, 3, "engine-1", LIMIT_MS)
    rows = list(results.rows.values())
    made = json.loads(json.dumps(figures(rows)))
    assert made["complete_share"] == {"10": 1.0, "20": 1.0}
    assert set(made["held_out_share"]) == {"single", "several", "mutants"}
    assert all(0.5 <= share["20"] <= 1 for share in made["held_out_share"].values() if share)
    for name in ("a_us", "b_both_directions_ms", "c_ms"):
        assert 0 < made[name]["p50"] <= made[name]["p95"]
    assert set(made["repair_b_ms"]) == set(made["repair_b_and_c_ms"]) == {"10", "20"}
    assert made["llm"] == "not run"
    assert made["disagreements"] == 0
    assert made["by_set"]["forum"]["complete"]["10"]["specs"] == 2
    assert goal_lines(made)
    assert any(line.startswith("| forum | 20 | 2 |") for line in table_lines(rows))


def test_a_run_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "policy.csv"
    tasks = [Task("complete", FORUM[0], 0, 10), Task("held-out", FORUM[0], 0, 10, "single")]
    work(tasks[:1], Results(path, "engine-1"), 3, "engine-1", LIMIT_MS)
    with path.open("a", encoding="utf-8") as file:
        file.write("complete,,forum,half a l")
    again = Results(path, "engine-1")
    assert again.reused == 1
    before = dict(again.rows)
    work(tasks, again, 3, "engine-1", LIMIT_MS)
    assert len(again.rows) == 2
    assert before.items() <= again.rows.items()
    assert {row.key for row in read_rows(path)} == set(again.rows)
    # Other code of the engine: all is measured again.
    assert Results(path, "engine-2").reused == 0


def test_a_quick_run_takes_the_tasks_of_a_full_one() -> None:
    full = {(task.kind, task.source.name, task.number, task.requests, task.fault_set) for task in full_tasks()}
    for stage in quick_stages():
        assert {(task.kind, task.source.name, task.number, task.requests, task.fault_set) for task in stage} <= full
