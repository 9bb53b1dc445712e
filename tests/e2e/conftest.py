"""How fast things happen in the end-to-end tests."""

from __future__ import annotations

import pytest

from medley.lab.scene import SceneSettings


@pytest.fixture(scope="module")
def settings() -> SceneSettings:
    return SceneSettings(node_delay_s=0.5, ready_delay_s=0.5, interval_s=2.0, stabilisation_s=30.0, window_s=12.0)
