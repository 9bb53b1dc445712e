"""AccessPolicies beside the loop: the demo of them, and that trouble with policies never touches what scales."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medley.lab.access_show import AccessShow
from medley.lab.scene import Scene, SceneSettings
from world import CHAT, World, eventually, raised

pytestmark = [pytest.mark.cluster, pytest.mark.e2e]


@pytest.fixture(scope="module")
def world(settings: SceneSettings) -> Iterator[World]:
    for scene in raised(Scene([CHAT], settings)):
        world = World(scene)
        try:
            yield world
        finally:
            world.silence()


def test_the_demo_ends_with_what_was_found_proved_and_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medley.cli.main", "demo", "--access-only"],
        env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert set(summary) == {"detected_s", "verdict", "edits", "proofs", "written"}
    assert summary["verdict"] == "Repaired"
    assert (summary["edits"], summary["written"]) == (1, True)
    assert summary["proofs"] > 10
    assert 0 < summary["detected_s"] < 30
    for said in ("witness ", "blamed ", "repair ", "proof ", "no longer reads Secrets"):
        assert said in done.stdout
    assert not list(tmp_path.glob("medley-*"))


def test_reviews_that_never_end_write_nothing_and_scaling_goes_on(world: World) -> None:
    scene = world.scene
    scene.start_operator()
    scene.apply_manifests()
    eventually(lambda: sum(world.replicas().values()) == 2, "minReplicas 2", scene)
    assert scene.gateways[world.key].first_ready.wait(30)
    # Killed long before a process can even answer.
    limit = ("--review-seconds", "0.01")
    with AccessShow(scene.api, scene.control_plane.kubeconfig, scene.directory, world.key, arguments=limit) as show:
        show.widen()
        widened = show.rules()
        status = show.wait("Unknown")
        assert "took longer than" in status["conditions"][0]["message"]
        before = world.gpu_power()
        world.send(8.0)
        eventually(lambda: world.gpu_power() > 1.5 * before, "more than the floor", scene)
        world.cycles(3)
        assert show.rules() == widened, "nothing is written without a verdict"
        assert world.condition("AccessVerified")[:2] == ("Unknown", "NotReviewed")
        # The condition of the one does not take those of the other away.
        assert world.condition("Ready")[0]
        time.sleep(2 * scene.settings.interval_s)
        assert world.condition("AccessVerified")[0] == "Unknown"
