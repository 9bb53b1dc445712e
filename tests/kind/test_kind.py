"""The image and the chart on a real cluster with real kubelets: `make test-kind`.

Uses the cluster of KUBECONFIG if that is set, or else makes one with kind. The image is built with docker and loaded
with kind. MEDLEY_IMAGE_BASE names another base image than the Dockerfile's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from install_check import example

from medley.actuation.cluster_api import ClusterApi
from medley.api.crds import KINDS
from medley.lab.scene import apply
from medley.lab.tools import Tool, ensure

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
IMAGE, NAMESPACE, SERVICES, CLUSTER = "medley:test", "medley-system", "serving", "medley-test"
CHART_VALUES = (
    "--set", "image.repository=medley,image.tag=test,image.pullPolicy=Never",
    "--set", f"namespaces={{{SERVICES}}}",
    "--set", "planning.intervalSeconds=3",
)  # fmt: skip


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, **environment}, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    for tool in ("docker", "kind"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is not on PATH")
    if os.environ.get("KUBECONFIG"):
        yield Path(os.environ["KUBECONFIG"])
        return
    path = tmp_path_factory.mktemp("kind") / "kubeconfig"
    run("kind", "create", "cluster", "--name", CLUSTER, "--wait", "120s", KUBECONFIG=str(path))
    yield path
    run("kind", "delete", "cluster", "--name", CLUSTER, KUBECONFIG=str(path))


@pytest.fixture(scope="module")
def api(kubeconfig: Path) -> Iterator[ClusterApi]:
    client = ClusterApi(kubeconfig)
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(kubeconfig: Path) -> str:
    base = os.environ.get("MEDLEY_IMAGE_BASE")
    run("docker", "build", "-t", IMAGE, *(("--build-arg", f"BASE={base}") if base else ()), ".")
    context = yaml.safe_load(kubeconfig.read_text())["current-context"]
    run("kind", "load", "docker-image", IMAGE, "--name", context.removeprefix("kind-"))
    return IMAGE


@pytest.fixture(scope="module")
def helm(kubeconfig: Path) -> Callable[..., str]:
    binary = ensure([Tool.HELM], lambda line: print(line, file=sys.__stderr__, flush=True))[Tool.HELM]
    return lambda *arguments: run(binary, *arguments, "-n", NAMESPACE, KUBECONFIG=str(kubeconfig))


def eventually(predicate: Callable[[], object], what: str, timeout_s: float = 90.0) -> float:
    began_s = time.monotonic()
    while not predicate():
        assert time.monotonic() - began_s < timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - began_s


def pods(api: ClusterApi) -> list[dict[str, Any]]:
    found = api.items(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector="app.kubernetes.io/name=medley")
    return [item for item in found if not item["metadata"].get("deletionTimestamp")]


def holder(api: ClusterApi) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/medley"
    return str(api.get(path)["spec"].get("holderIdentity") or "") if api.exists(path) else ""


def deployments(api: ClusterApi) -> dict[str, tuple[int, int]]:
    """Replicas and generation by name."""
    found = api.items(f"/apis/apps/v1/namespaces/{SERVICES}/deployments")
    return {i["metadata"]["name"]: (i["spec"]["replicas"], i["metadata"]["generation"]) for i in found}


def test_it_installs_under_the_restricted_standard_and_gets_ready(
    api: ClusterApi, image: str, helm: Callable[..., str]
) -> None:
    for name, labels in (
        (NAMESPACE, {"pod-security.kubernetes.io/enforce": "restricted"}),
        (SERVICES, {}),
    ):
        if not api.exists(f"/api/v1/namespaces/{name}"):
            api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    helm("install", "medley", ROOT / "charts" / "medley", *CHART_VALUES, "--wait", "--timeout", "180s")
    assert len(pods(api)) == 2
    eventually(lambda: holder(api) in {pod["metadata"]["name"] for pod in pods(api)}, "one leads")
    helm("test", "medley", "--timeout", "120s")


def test_a_service_is_scaled(api: ClusterApi) -> None:
    for manifest in example(SERVICES):
        apply(api, manifest)
    eventually(lambda: sum(count for count, _ in deployments(api).values()) >= 2, "its Deployments")


def test_the_other_takes_over_when_the_leader_is_killed_and_nothing_changes(api: ClusterApi) -> None:
    before, first = deployments(api), holder(api)
    api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{first}", grace_period_s=0)
    took_s = eventually(lambda: holder(api) not in ("", first), "another leads", timeout_s=30.0)
    assert took_s <= 15.0
    time.sleep(8.0)  # two cycles of the new leader
    assert deployments(api) == before


def test_upgrades_change_nothing_that_runs(api: ClusterApi, helm: Callable[..., str]) -> None:
    before = deployments(api)
    helm(
        "upgrade", "medley", ROOT / "charts" / "medley", *CHART_VALUES, "--set", "planning.stabilisationSeconds=120",
        "--wait", "--timeout", "180s",
    )  # fmt: skip
    eventually(lambda: holder(api) in {pod["metadata"]["name"] for pod in pods(api)}, "a new one leads")
    time.sleep(8.0)
    assert deployments(api) == before


def test_uninstalling_keeps_the_crds_or_not(api: ClusterApi, helm: Callable[..., str]) -> None:
    crds = [f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.crd_name}" for kind in KINDS]
    before = deployments(api)
    helm("uninstall", "medley", "--wait")
    assert all(api.exists(path) for path in crds)
    assert deployments(api) == before, "what runs goes on"
    helm("install", "medley", ROOT / "charts" / "medley", *CHART_VALUES, "--set", "crds.keep=false", "--wait")
    eventually(lambda: bool(holder(api)), "one leads")
    assert deployments(api) == before
    helm("uninstall", "medley", "--wait")
    eventually(lambda: not any(api.exists(path) for path in crds), "the CRDs are gone")
    eventually(lambda: not deployments(api), "what it ran is gone with them")
    left = [
        f"{plural}/{item['metadata']['name']}"
        for plural in ("clusterroles", "clusterrolebindings")
        for item in api.items(f"/apis/rbac.authorization.k8s.io/v1/{plural}")
        if "medley" in item["metadata"]["name"]
    ]
    assert left == []
