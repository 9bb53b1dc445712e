"""The process that reviews: kept, killed when it takes too long, gone when its parent is; and the metrics."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medley.controller.access.reviewer import ProcessReviewer
from medley.model.errors import TransientError, UserError
from medley.policy.kind import PolicyKind
from medley.policy.review import Case
from medley.policy.verify import Verdict
from medley.telemetry.access_exporter import AccessExporter

EMPTY = Case(PolicyKind.IAM_IDENTITY, '{"Version": "2012-10-17", "Statement": []}', '{"ceiling": [{"action": "s3:*"}]}')
BROKEN = Case(PolicyKind.RBAC, "kind: {", '{"ceiling": [{"resources": "secrets"}]}')


@pytest.fixture
def reviewer() -> Iterator[ProcessReviewer]:
    made = ProcessReviewer(60.0)
    yield made
    made.close()


def pid(reviewer: ProcessReviewer) -> int:
    assert reviewer._child is not None
    found = reviewer._child[0].pid
    assert found is not None
    return found


def alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_one_process_does_all_reviews_and_errors_come_back_with_their_text(reviewer: ProcessReviewer) -> None:
    assert reviewer.review(EMPTY, None).verdict is Verdict.SATISFIED
    first = pid(reviewer)
    with pytest.raises(UserError, match="document"):
        reviewer.review(BROKEN, None)
    assert reviewer.review(EMPTY, None).verdict is Verdict.SATISFIED
    assert pid(reviewer) == first
    assert os.getpriority(os.PRIO_PROCESS, first) > os.getpriority(os.PRIO_PROCESS, 0)
    reviewer.close()
    assert not alive(first)


def test_one_that_takes_too_long_is_killed_and_the_next_review_gets_another(reviewer: ProcessReviewer) -> None:
    reviewer.review(EMPTY, None)
    first = pid(reviewer)
    os.kill(first, signal.SIGSTOP)  # as a solver that does not come back
    reviewer._limit_s = 0.2
    with pytest.raises(TransientError, match=r"took longer than 0\.2 s"):
        reviewer.review(EMPTY, None)
    assert not alive(first)
    reviewer._limit_s = 60.0
    assert reviewer.review(EMPTY, None).verdict is Verdict.SATISFIED
    assert pid(reviewer) != first


def test_one_that_died_is_replaced(reviewer: ProcessReviewer) -> None:
    reviewer.review(EMPTY, None)
    first = pid(reviewer)
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 10.0
    while alive(first) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reviewer.review(EMPTY, None).verdict is Verdict.SATISFIED
    assert pid(reviewer) != first


def test_it_does_not_outlive_a_parent_that_is_killed() -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests/unit')\n"
        "from test_access_reviewer import *\n"
        "if __name__ == '__main__':\n"
        "    one = ProcessReviewer(60.0); one.review(EMPTY, None); print(pid(one), flush=True); time.sleep(60)\n"
    )
    target = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=target, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10.0
    while alive(child):
        assert time.monotonic() < deadline, "it outlives its parent"
        time.sleep(0.05)


def test_the_metrics_say_what_the_last_look_found() -> None:
    exporter = AccessExporter()
    exporter.look(0.2, {"Satisfied": 2, "Violated": 1, "Unknown": 0})
    exporter.event("Written")
    exporter.look(0.2, {"Satisfied": 3, "Violated": 0, "Unknown": 0})
    text = exporter.text().decode()
    assert 'medley_access_policies{verdict="Satisfied"} 3.0' in text
    assert 'medley_access_policies{verdict="Violated"} 0.0' in text
    assert 'medley_access_events_total{reason="Written"} 1.0' in text
    assert "medley_access_look_duration_seconds_count 2.0" in text
