"""One small world for the tests of a module, and what they ask of it."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from medley.lab.load import Outcome
from medley.lab.loop_scene import Load, LoopScene
from medley.lab.scene import Scene, path_of
from medley.lab.traces import Trace, TraceRequest, recorded_trace
from medley.model.errors import MedleyError
from recorded_calls import require_calls_within_rules

ROOT = Path(__file__).parents[1]
CHAT = ROOT / "examples" / "chat.yaml"
Json = dict[str, Any]
Raised = TypeVar("Raised")


def raised(scene: AbstractContextManager[Raised]) -> Iterator[Raised]:
    """A scene; where a control plane cannot be had, a skip with the reason, or a failure if REQUIRE_CLUSTER is set."""
    try:
        up = scene.__enter__()
    except MedleyError as error:
        if os.environ.get("REQUIRE_CLUSTER"):
            raise
        pytest.skip(f"no control plane: {error}")
    try:
        yield up
        if isinstance(up, Scene):  # of a cluster that was given there is no audit log
            require_calls_within_rules(up)
    finally:
        scene.__exit__(None, None, None)


def eventually(predicate: Callable[[], bool], what: str, scene: LoopScene, timeout_s: float = 60.0) -> None:
    """Wait until something holds; on failure show what the operator said."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}\n{scene.operator_log[-4000:]}")
        time.sleep(0.25)


def steady(rate_rps: float, duration_s: float, seed: int = 1) -> Trace:
    """Poisson arrivals with the sizes of the recorded trace."""
    rng = random.Random(seed)
    sizes = recorded_trace()
    out, at_s = [], 0.0
    while (at_s := at_s + rng.expovariate(rate_rps)) < duration_s:
        size = rng.choice(sizes)
        out.append(TraceRequest(at_s, size.input_tokens, size.output_tokens))
    return tuple(out)


class World:
    """What a test asks of a scene."""

    def __init__(self, scene: LoopScene) -> None:
        self.scene = scene
        self.key = scene.resources.services[0].key
        self._load: Load | None = None
        self.floor_power = 0.0
        """`gpu_power` of minReplicas, where a test has seen it."""

    def send(self, rate_rps: float) -> None:
        """Send this much from now on, and nothing else."""
        self.silence()
        self._load = self.scene.load(self.key, steady(rate_rps, 600))
        self._load.start()

    def outcomes(self) -> tuple[Outcome, ...]:
        """Of what is sent now, as its clients saw it."""
        return self._load.outcomes() if self._load is not None else ()

    def sent_for_s(self) -> float:
        """Since when, in the time of `Outcome.at_s`."""
        assert self._load is not None
        self._load.outcomes()
        return self._load.elapsed_s

    def silence(self) -> None:
        if self._load is not None:
            self._load.stop()
            self._load = None

    def deployments(self) -> list[Json]:
        return self.scene.api.items(f"/apis/apps/v1/namespaces/{self.key.namespace}/deployments")

    def replicas(self) -> dict[str, int]:
        """Replicas asked for by variant; zeros left out."""
        out = {
            item["metadata"]["labels"]["medley.dev/variant"]: int(item["spec"].get("replicas") or 0)
            for item in self.deployments()
        }
        return {variant: count for variant, count in out.items() if count}

    def generations(self) -> dict[str, int]:
        return {item["metadata"]["name"]: item["metadata"]["generation"] for item in self.deployments()}

    def pod_uids(self) -> set[str]:
        return {
            item["metadata"]["uid"] for item in self.scene.api.items(f"/api/v1/namespaces/{self.key.namespace}/pods")
        }

    def gpu_power(self) -> float:
        """$/h of what is asked for, at list price: a measure of capacity."""
        prices = {pool.name: pool.offerings[0].price_per_node_hour for pool in self.scene.resources.pools}
        return sum(prices[variant] * count for variant, count in self.replicas().items())

    def status(self, manifest: Mapping[str, Any] | None = None) -> Json:
        path = path_of(
            manifest or {"kind": "LLMService", "metadata": {"name": self.key.name, "namespace": self.key.namespace}}
        )
        found: Json = self.scene.api.get(path).get("status") or {}
        return found

    def condition(self, type_: str, manifest: Mapping[str, Any] | None = None) -> tuple[str, str, str]:
        """Status, reason, message."""
        for item in self.status(manifest).get("conditions") or []:
            if item["type"] == type_:
                return item["status"], item["reason"], item.get("message", "")
        return "", "", ""

    def records(self) -> list[Path]:
        return sorted(self.scene.records.glob("cycle-*.json"))

    def cycles(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait for that many more cycles."""
        start = set(self.records())
        eventually(
            lambda: len(set(self.records()) - start) >= count, f"{count} more cycles", self.scene, timeout_s=timeout_s
        )

    def at_rest(self, *, at_least_rps: float = 0.0, at_most_rps: float = math.inf, timeout_s: float = 150.0) -> None:
        """Wait for a cycle that finds what it asks for in place: no step under way, samples of all replicas.

        Args:
            at_least_rps: demand that it must see.
            at_most_rps: likewise.
            timeout_s: how long it may take.
        """

        def done() -> bool:
            record = json.loads(self.records()[-1].read_text())
            plan, state = record["decision"]["services"][0], record["snapshot"]["states"][0]
            rate_rps = sum(bucket["rate_rps"] for bucket in plan["workload"]["buckets"])
            found = {v["name"]: v["desired"] for v in state["variants"] if v["desired"]}
            asked = {v["name"]: v["desired"] for v in plan["variants"] if v["desired"]}
            return (
                all(v["desired"] == v["ready"] == v["present"] for v in state["variants"])
                and all(v["desired"] == v["planned"] for v in plan["variants"])
                and plan["workload"]["coverage"] == 1.0
                and found == asked == self.replicas()
                and at_least_rps <= rate_rps <= at_most_rps
            )

        eventually(done, "a cycle that changes nothing", self.scene, timeout_s=timeout_s)

    def events(self, name: str) -> list[str]:
        items = self.scene.api.items("/api/v1/events")
        return [f"{e['reason']}: {e['message']}" for e in items if e["involvedObject"]["name"] == name]


def as_json(text: str) -> Json:
    """The one object on stdout."""
    parsed: Json = json.loads(text)
    return parsed
