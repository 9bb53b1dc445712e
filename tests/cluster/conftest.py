"""A control plane for the tests that need one: an explicit kubeconfig, or one of our own.

Locally these tests are skipped with the reason where no control plane can be had; with REQUIRE_CLUSTER=1 that fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medley.actuation.cluster_api import ClusterApi
from medley.lab.control_plane import ControlPlane, connect_or_start
from medley.lab.tools import Tool, ensure
from medley.model.errors import MedleyError
from rendered_chart import Helm

TEST_TIMEOUT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The first fixture may build the binaries, which takes minutes: only the tests themselves are timed.
        if "cluster" in item.keywords and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, func_only=True))


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """One cluster for all tests of the session."""
    running = connect_or_start(progress=lambda line: print(line, file=sys.__stderr__, flush=True))
    try:
        cluster = running.__enter__()
    except MedleyError as error:
        if os.environ.get("REQUIRE_CLUSTER") == "1":
            pytest.fail(f"REQUIRE_CLUSTER=1, and no control plane can be had: {error}")
        pytest.skip(f"no control plane can be had: {error}")
    yield cluster
    running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def helm() -> Helm:
    try:
        binary = ensure([Tool.HELM], lambda line: print(line, file=sys.__stderr__, flush=True))[Tool.HELM]
    except MedleyError as error:
        if os.environ.get("REQUIRE_CLUSTER") == "1":
            pytest.fail(f"REQUIRE_CLUSTER=1, and helm cannot be had: {error}")
        pytest.skip(f"helm cannot be had: {error}")

    def run(*arguments: str | Path, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig or "/dev/null")}
        return subprocess.run(
            [binary, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=120
        )

    return run


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[ClusterApi]:
    """A client for the cluster."""
    client = control_plane.api()
    yield client
    client.close()


@pytest.fixture
def namespace(api: ClusterApi) -> Iterator[str]:
    """A fresh namespace, with the service account that pods need."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    eventually(lambda: api.exists(f"/api/v1/namespaces/{name}/serviceaccounts/default"), "the default service account")
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., None]:
    """`eventually(predicate, what, timeout_s=30)`: polls until it holds."""
    return eventually


def eventually(predicate: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)
