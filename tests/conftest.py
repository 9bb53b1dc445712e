"""What holds for all tests, and what many start from."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from medley.api.convert import Resources, parse
from medley.api.manifests import read_manifests

ROOT = Path(__file__).parents[1]

# A shell that starts the tests in the background has them ignore SIGINT. What they start would inherit that, and the
# tests that interrupt a command would wait for ever; a handler of our own is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def chat() -> Resources:
    """The shipped example."""
    return parse(read_manifests([ROOT / "examples" / "chat.yaml"]))
