"""Who leads: never two at once, whatever clocks, pauses and the API server do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medley.actuation.cluster_api import CONFLICT, NOT_FOUND, ApiError, PatchType
from medley.controller.lease import WRITES_UNTIL, Lease, LeaseSettings, campaign
from medley.model.errors import TransientError


class Server:
    """One Lease object, with the optimistic locking of the API server; requests may fail before or after they count."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.fails_before = self.fails_after = False
        self.meanwhile: Callable[[], None] = lambda: None

    def get(self, path: str) -> dict[str, Any]:
        if self.fails_before:
            raise TransientError("no answer")
        if self.lease is None:
            raise ApiError(NOT_FOUND, "not found")
        found = {"metadata": {"resourceVersion": str(self.version)}, "spec": dict(self.lease)}
        pause, self.meanwhile = self.meanwhile, lambda: None
        pause()
        return found

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.lease is not None:
            raise ApiError(CONFLICT, "exists")
        self._store(body["spec"])
        return body

    def patch(self, path: str, body: dict[str, Any], kind: PatchType) -> dict[str, Any]:
        assert kind is PatchType.MERGE
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError(CONFLICT, "changed")
        self._store({**(self.lease or {}), **body["spec"]})
        return body

    def _store(self, spec: dict[str, Any]) -> None:
        self.lease = spec
        self.version += 1
        if self.fails_after:
            raise TransientError("the answer was lost")


class World:
    def __init__(self) -> None:
        self.server = Server()
        self.now_s = 100.0

    def candidate(self, name: str, ahead_s: float = 0.0, duration_s: float = 10.0) -> Lease:
        return Lease(
            self.server,  # type: ignore[arg-type]
            LeaseSettings("ns", "medley", name, duration_s),
            clock=lambda: self.now_s + ahead_s,
            now=lambda: self.now_s - 7 * ahead_s,
        )


def test_the_first_leads_and_another_takes_over_when_it_is_silent_for_the_duration() -> None:
    world = World()
    a, b = world.candidate("a"), world.candidate("b")
    assert a.step()
    assert a.held
    assert not b.step()
    assert b.holder == "a"
    world.now_s += 9.9
    assert not a.held, "it stops writing before another may begin"
    assert not b.step()
    world.now_s += 0.2
    assert b.step()
    assert world.server.lease is not None
    assert world.server.lease["holderIdentity"] == "b"
    assert world.server.lease["leaseTransitions"] == 1
    assert not a.step()
    assert not a.held


def test_who_renews_keeps_it_and_who_gives_it_back_is_followed_at_once() -> None:
    world = World()
    a, b = world.candidate("a"), world.candidate("b")
    for _ in range(30):
        assert a.step()
        assert not b.step()
        world.now_s += 2.0
    assert a.step()
    a.release()
    assert not a.held
    assert b.step()
    b.release()
    assert world.server.lease is not None
    assert world.server.lease["holderIdentity"] == ""


def test_releasing_what_is_another_s_changes_nothing() -> None:
    world = World()
    a = world.candidate("a")
    a.step()
    world.server.lease = {"holderIdentity": "b", "leaseDurationSeconds": 10}
    a.release()
    assert world.server.lease["holderIdentity"] == "b"
    assert not a.held


def test_an_emptied_or_deleted_lease_is_not_taken_while_its_leader_may_still_write() -> None:
    for gone in ({}, None):
        world = World()
        a, b, c = (world.candidate(name) for name in "abc")
        assert a.step()
        assert not b.step()
        world.server.lease = gone
        world.server.version += 1
        assert a.held
        assert not b.step(), "it has seen that another leads"
        world.now_s += 10.1
        assert not a.held
        assert b.step()
        assert not c.step()


def test_a_fresh_lease_without_a_holder_is_taken_at_once() -> None:
    world = World()
    world.server.lease = {}
    assert world.candidate("a").step()


def test_whatever_fails_the_campaign_goes_on() -> None:
    world = World()
    a = world.candidate("a")
    told: list[str] = []

    class Steps(threading.Event):
        rounds = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.rounds += 1
            if self.rounds == 2:
                self.set()
            return True

    def page(_: str) -> dict[str, Any]:
        world.server.get = get  # type: ignore[method-assign]
        raise ValueError("<html>")

    get, world.server.get = world.server.get, page  # type: ignore[method-assign]
    campaign(a, 2.0, Steps(), lambda: told.append("led"), lambda: told.append("lost"))
    assert told == ["led"]


def test_one_that_was_stopped_between_reading_and_writing_does_not_take_it() -> None:
    world = World()
    a, b = world.candidate("a"), world.candidate("b")
    a.step()
    b.step()
    world.now_s += 11.0

    def b_takes_it() -> None:
        world.now_s += 3.0
        assert b.step()

    world.server.meanwhile = b_takes_it
    assert not a.step()
    assert not a.held
    assert b.held


steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.floats(0.0, 6.0),
        st.sampled_from(["fine", "fine", "fine", "before", "after", "pause", "release"]),
        st.floats(0.0, 20.0),
        st.integers(0, 2),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps, st.tuples(*[st.floats(-50.0, 50.0)] * 3))
def test_no_two_lead_at_once(events: list[tuple[int, float, str, float, int]], ahead: tuple[float, ...]) -> None:
    world = World()
    candidates = [world.candidate(name, ahead_s) for name, ahead_s in zip("abc", ahead, strict=True)]

    def one_at_most() -> None:
        assert sum(candidate.held for candidate in candidates) <= 1

    for who, wait_s, what, pause_s, other in events:
        world.now_s += wait_s
        one_at_most()
        server = world.server
        server.fails_before, server.fails_after = what == "before", what == "after"
        if what == "pause":

            def meanwhile(pause_s: float = pause_s, other: int = other, who: int = who) -> None:
                world.now_s += pause_s
                if other != who:
                    candidates[other].step()
                one_at_most()

            server.meanwhile = meanwhile
        try:
            if what == "release":
                candidates[who].release()
            else:
                candidates[who].step()
        except TransientError:
            pass
        finally:
            server.fails_before = server.fails_after = False
            server.meanwhile = lambda: None
        one_at_most()


def test_a_campaign_tells_once_that_it_leads_and_once_that_it_lost() -> None:
    world = World()
    a, b = world.candidate("a"), world.candidate("b")
    told: list[str] = []
    stop = threading.Event()

    class Steps(threading.Event):
        rounds = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.rounds += 1
            world.now_s += 2.0
            if self.rounds == 3:
                b.step()
                world.now_s += 11.0
                assert b.step()
            return False

    stop = Steps()
    campaign(a, 2.0, stop, lambda: told.append("led"), lambda: told.append("lost"))
    assert told == ["led", "lost"]
    assert b.held


def test_a_campaign_that_is_stopped_gives_the_lease_back() -> None:
    world = World()
    a = world.candidate("a")
    told: list[str] = []

    class Once(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return True

    campaign(a, 2.0, Once(), lambda: told.append("led"), lambda: told.append("lost"))
    assert told == ["led"]
    assert world.server.lease is not None
    assert world.server.lease["holderIdentity"] == ""


def test_without_an_api_server_it_stops_writing_in_time() -> None:
    world = World()
    a = world.candidate("a", duration_s=10.0)
    a.step()
    world.server.fails_before = True
    world.now_s += 10.0 * WRITES_UNTIL - 0.1
    with pytest.raises(TransientError):
        a.step()
    assert a.held
    world.now_s += 0.2
    assert not a.held
