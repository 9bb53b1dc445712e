"""How fast things happen in the end-to-end tests, and what they happen on."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from medley.lab.loop_scene import LoopScene
from medley.lab.scene import Scene, SceneSettings
from world import CHAT


@pytest.fixture(scope="module")
def settings() -> SceneSettings:
    return SceneSettings(node_delay_s=0.5, ready_delay_s=0.5, interval_s=2.0, stabilisation_s=30.0, window_s=12.0)


@pytest.fixture(scope="module")
def stage(settings: SceneSettings, request: pytest.FixtureRequest) -> AbstractContextManager[LoopScene]:
    """A scene of the shipped example, not raised yet."""
    if request.config.getoption("cluster") == "kind":
        from medley.lab.kind_scene import KindScene

        return KindScene([CHAT], settings, cluster=request.getfixturevalue("kind_cluster"))
    return Scene([CHAT], settings)
