"""What holds for all tests, and what many start from."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medley.api.convert import Resources, parse
from medley.api.manifests import read_manifests
from medley.lab.kind_cluster import KindCluster, build_and_bring, connect_or_create

ROOT = Path(__file__).parents[1]

# A shell that starts the tests in the background has them ignore SIGINT. What they start would inherit that, and the
# tests that interrupt a command would wait for ever; a handler of our own is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def chat() -> Resources:
    """The shipped example."""
    return parse(read_manifests([ROOT / "examples" / "chat.yaml"]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        choices=("plain", "kind"),
        default="plain",
        help="what the end-to-end story runs on (default plain)",
    )


@pytest.fixture(scope="session")
def kind_cluster() -> Iterator[KindCluster]:
    """The cluster of KUBECONFIG or a new one of kind, with this checkout's images in it."""

    def tell(line: str) -> None:
        print(line, file=sys.__stderr__, flush=True)

    with connect_or_create(tell, name="medley-test") as cluster:
        build_and_bring(cluster, tell)
        yield cluster
