"""Whole measurements of the lab's engine on virtual time: resuming, aborting, overload, failures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from medley.measurement.adaptive import Plan
from medley.measurement.client import RequestError, RequestFault, Served
from medley.measurement.journal import Journal
from medley.measurement.load import Limits
from medley.measurement.probe import Ending, Loop
from medley.measurement.session import Measurement, Progress, Session, expected_load, measurement
from medley.model.errors import TransientError, UserError
from medley.model.workload import Size
from medley.profiles.latency import LatencyTarget
from medley.profiles.step import StepModel
from simulated_endpoint import SimulatedEndpoint, VirtualLoop, now_s, on_virtual_time

MODEL = StepModel(5.0, 0.1, 0.0002, 0.008, kv_capacity_tokens=10**6, max_batch=256)
TARGET = LatencyTarget(tpot_ms=15.0, ttft_ms=500.0, percentile=90.0)
PLAN = Plan((128,), (16, 32), TARGET, max_concurrency=150, requests=200)
LIMITS = Limits(max_concurrency=150, timeout_s=60.0)


def run(
    journal: Journal,
    *,
    plan: Plan = PLAN,
    model: StepModel = MODEL,
    stop_after: int | None = None,
    endpoint_type: type[SimulatedEndpoint] = SimulatedEndpoint,
    told: list[Progress] | None = None,
) -> tuple[Measurement | None, SimulatedEndpoint]:
    """Measures; breaks off after that many requests."""
    endpoint = endpoint_type(model)

    async def main() -> Measurement | None:
        async with endpoint:
            session = Session(
                plan,
                endpoint,
                journal,
                LIMITS,
                clock=now_s,
                report=(lambda _: None) if told is None else told.append,
            )
            task = asyncio.create_task(session.run())
            while stop_after is not None and not task.done():
                await asyncio.sleep(0.05)
                if len(endpoint.requests) >= stop_after:
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    assert endpoint.open_now == 0
                    return None
            return await task

    return on_virtual_time(main()), endpoint


def test_a_measurement_from_beginning_to_end() -> None:
    told: list[Progress] = []
    journal = Journal(None, {})
    found, endpoint = run(journal, told=told)
    assert found is not None
    assert {cell.size for cell in found.cells} == set(PLAN.sizes)
    assert all(cell.is_measured and cell.rate_rps > 10.0 for cell in found.cells)
    assert found.failed == 0
    assert found.notes == ()
    # Counted are the probes' requests; the warm-up's come on top.
    assert found.requests + 8 == len(endpoint.requests)
    assert all(point.requests == 200 for point in found.measured.points)
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert told[-1].remaining_s == 0.0
    assert any(progress.remaining_s for progress in told)


def test_a_broken_off_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = Journal(None, {})
    run(whole)
    stopped, _ = run(Journal(path, {"model": "m"}), stop_after=600)
    assert stopped is None
    kept = Journal(path, {"model": "m"})
    done = len(kept.results)
    assert 0 < done < len(whole.results)
    partial = measurement(PLAN, kept.results)
    assert partial.probes == done
    found, second = run(kept)
    assert found is not None
    assert [result.probe.size for result in kept.results[:done]] == [r.probe.size for r in whole.results[:done]]
    assert sum(result.sent for result in kept.results[done:]) + 8 == len(second.requests)
    assert len(second.requests) < found.requests
    again, third = run(Journal(path, {"model": "m"}))
    assert third.requests == []  # nothing is left to do, not even a warm-up
    assert again == found


def test_the_load_that_is_stated_is_not_exceeded() -> None:
    stated = expected_load(PLAN)
    found, endpoint = run(Journal(None, {}))
    assert found is not None
    assert len(endpoint.requests) <= stated.most_requests
    assert found.requests < 3 * stated.requests
    assert stated.tokens > 0


def test_a_replica_that_holds_less_than_the_slo_would_allow_is_measured_at_what_it_holds() -> None:
    small = StepModel(5.0, 0.01, 0.0, 0.001, kv_capacity_tokens=10**6, max_batch=8)
    # Without an objective for TTFT only a growing queue tells too high a rate, and one a few percent too high shows
    # after hundreds of requests: with 400, chance decides.
    plan = Plan((128,), (32,), LatencyTarget(tpot_ms=15.0, percentile=90.0), max_concurrency=100, requests=1500)
    journal = Journal(None, {})
    found, _ = run(journal, plan=plan, model=small)
    assert found is not None
    (cell,) = found.cells
    most = 1000.0 * 8 / (32 * small.mean_step_ms(Size(128, 32), 8))
    assert 0.6 * most < cell.rate_rps < 1.02 * most
    assert any(result.ending is Ending.OVERLOADED for result in journal.results)


def test_a_size_that_no_rate_serves_is_said_to_be_so() -> None:
    plan = Plan((128,), (16, 32), LatencyTarget(tpot_ms=4.0), max_concurrency=100)
    found, endpoint = run(Journal(None, {}), plan=plan)
    assert found is not None
    assert [cell.rate_rps for cell in found.cells] == [0.0, 0.0]
    assert len(endpoint.requests) < 50


class Flaky(SimulatedEndpoint):
    """One request in forty fails."""

    async def complete(self, size: Size) -> Served:
        served = await super().complete(size)
        if len(self.requests) % 40 == 0:
            raise RequestError(RequestFault.SERVER_ERROR, "the server answered 500: oops")
        return served


def test_failed_requests_count_as_having_taken_the_timeout() -> None:
    plan = Plan((128,), (32,), TARGET, max_concurrency=150, requests=300)
    journal = Journal(None, {})
    found, _ = run(journal, plan=plan, endpoint_type=Flaky)
    assert found is not None
    assert found.failed > 0
    assert any("failed" in note for note in found.notes)
    opened = [result for result in journal.results if result.probe.loop is Loop.OPEN and result.point is not None]
    assert all(result.point is not None and result.point.ttft.p99_ms == 60_000.0 for result in opened)


class Stalling(SimulatedEndpoint):
    """The machine stands still for a while at one moment, as a paused virtual machine does."""

    stalls = 1

    async def complete(self, size: Size) -> Served:
        loop = asyncio.get_running_loop()
        if len(self.requests) == 450 or (self.stalls > 1 and len(self.requests) % 50 == 0):
            assert isinstance(loop, VirtualLoop)
            loop.jump(20.0)
        return await super().complete(size)


class AlwaysStalling(Stalling):
    """It does so again and again."""

    stalls = 100


def test_a_probe_that_the_client_spoiled_is_made_again() -> None:
    journal = Journal(None, {})
    found, _ = run(journal, endpoint_type=Stalling)
    assert found is not None
    spoiled = [result for result in journal.results if result.ending is Ending.CLIENT_LATE]
    assert len(spoiled) == 1
    undisturbed, _ = run(Journal(None, {}))
    assert undisturbed is not None
    for cell, other in zip(found.cells, undisturbed.cells, strict=True):
        assert cell.rate_rps == pytest.approx(other.rate_rps, rel=0.06)


def test_a_client_that_is_always_late_gives_up_and_says_why() -> None:
    with pytest.raises(TransientError, match="too busy to send on time"):
        run(Journal(None, {}), endpoint_type=AlwaysStalling)


class Refusing(SimulatedEndpoint):
    """Refuses after a while."""

    async def complete(self, size: Size) -> Served:
        if len(self.requests) > 100:
            raise RequestError(RequestFault.REFUSED, "the server answered 400: no more of this")
        return await super().complete(size)


class Gone(SimulatedEndpoint):
    """Is gone after a while."""

    async def complete(self, size: Size) -> Served:
        if len(self.requests) > 300:
            await asyncio.sleep(0.01)
            raise RequestError(RequestFault.NOT_REACHED, "http://a does not answer")
        return await super().complete(size)


def test_a_refusal_ends_the_run_with_the_servers_words() -> None:
    with pytest.raises(UserError, match="no more of this"):
        run(Journal(None, {}), endpoint_type=Refusing)


def test_an_endpoint_that_is_gone_ends_the_run_and_the_journal_keeps_what_is_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", {"model": "m"})
    with pytest.raises(TransientError, match="does not answer"):
        run(journal, endpoint_type=Gone)
    assert journal.results
    assert Journal(tmp_path / "journal", {"model": "m"}).results == journal.results
