from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from medley.controller.health import STUCK_AFTER_S, Health, serve
from medley.model.errors import UserError


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_it_is_not_ready_before_its_checks_nor_while_something_is_missing() -> None:
    health = Health(15.0, Clock())
    assert health.not_ready() == ("the checks at start are not done",)
    health.checked(["the CRDs are not served"])
    assert health.not_ready() == ("the CRDs are not served",)
    health.checked([])
    assert not health.not_ready(), "one that waits for its turn to lead is ready"


def test_checks_and_cycles_do_not_hide_each_other() -> None:
    health = Health(15.0, Clock())
    health.began()
    health.ended("")
    assert health.not_ready() == ("the checks at start are not done",)
    health.ended("no cycle: 403")
    health.checked([])
    assert health.not_ready() == ("no cycle: 403",)


def test_a_leader_is_ready_while_its_cycles_succeed() -> None:
    clock = Clock()
    health = Health(15.0, clock)
    health.checked([])
    health.leads()
    health.began()
    assert not health.not_ready()
    health.ended("no cycle: 403")
    assert health.not_ready() == ("no cycle: 403",)
    health.began()
    health.ended("")
    assert not health.not_ready()
    clock.now_s += 3 * 15.0 + STUCK_AFTER_S + 1
    assert health.not_ready() == ("no cycle has succeeded for 346 s",)


def test_it_is_stuck_when_a_cycle_does_not_come_back_and_only_then() -> None:
    clock = Clock()
    health = Health(15.0, clock)
    health.leads()
    clock.now_s += 10 * STUCK_AFTER_S
    assert not health.stuck(), "failing is no reason to start anew: only hanging is"
    health.began()
    clock.now_s += STUCK_AFTER_S - 1
    assert not health.stuck()
    clock.now_s += 2
    assert health.stuck() == "a cycle has been under way for 301 s"
    health.ended("late")
    assert not health.stuck()


def test_probes_are_answered_with_reasons() -> None:
    clock = Clock()
    health = Health(15.0, clock)
    server = serve(health, 0, "127.0.0.1")

    def ask(path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}{path}", timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()) if "json" in error.headers["Content-Type"] else None

    try:
        assert ask("/healthz") == (200, {"ok": True, "reasons": []})
        assert ask("/readyz") == (503, {"ok": False, "reasons": ["the checks at start are not done"]})
        health.checked([])
        assert ask("/readyz") == (200, {"ok": True, "reasons": []})
        health.began()
        clock.now_s += STUCK_AFTER_S + 1
        assert ask("/healthz")[0] == 503
        assert ask("/metrics")[0] == 404
        with pytest.raises(UserError, match="--health-port"):
            serve(health, server.server_address[1], "127.0.0.1")
    finally:
        server.shutdown()
        server.server_close()
