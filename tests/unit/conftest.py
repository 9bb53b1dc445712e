"""Values that many unit tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from medley.api.convert import Resources, parse
from medley.api.manifests import read_manifests

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def chat() -> Resources:
    """The shipped example."""
    return parse(read_manifests([ROOT / "examples" / "chat.yaml"]))
