"""Operators under accounts of their own in one small cluster, and what their API server wrote down of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rights_inventory import NAMESPACE, SERVICES

from medley.actuation.cluster_api import ApiError, ClusterApi
from medley.actuation.deployments import deployment_name
from medley.actuation.pools.scale import ASKED
from medley.actuation.rights import Right
from medley.api.manifests import read_manifests
from medley.lab.account import grant, kubeconfig_for
from medley.lab.audit import Answer, read
from medley.lab.calls import Installation
from medley.lab.control_plane import ControlPlane
from medley.lab.fake_kubelet import FakeKubelet
from medley.lab.node_group import NODE_GROUPS_PATH, NodeGroupController, node_group
from medley.lab.processes import SupervisedProcess
from medley.lab.scene import apply, install_crds, path_of
from medley.model.objects import ServiceKey
from medley.policy.rbac.request import Request
from world import CHAT

Json = dict[str, Any]
POOLS = {"l4": ("NVIDIA-L4", "g6.xlarge"), "a10g": ("NVIDIA-A10G", "g5.xlarge")}
"""Two of everything that users name: with one, its name would look like a part of the installation."""


class Cluster:
    """A control plane with nodes, pools and two namespaces for services; a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._exit = contextlib.ExitStack()
        self._process: SupervisedProcess | None = None
        self.control_plane: ControlPlane
        self.api: ClusterApi

    def __enter__(self) -> Cluster:
        with contextlib.ExitStack() as stack:
            self.control_plane = stack.enter_context(ControlPlane.start())
            self.api = self.control_plane.api()
            stack.callback(self.api.close)
            install_crds(self.api)
            stack.enter_context(NodeGroupController(self.control_plane.kubeconfig))
            stack.enter_context(FakeKubelet(self.control_plane.kubeconfig, ready_delay_s=0.1))
            for name in (*SERVICES, NAMESPACE):
                self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
            for item in read_manifests([CHAT]):
                if item["kind"] == "GPUPool" and item["metadata"]["name"] in POOLS:
                    name = item["metadata"]["name"]
                    gpu, instance_type = POOLS[name]
                    group = node_group(
                        name, gpu=gpu, gpus_per_node=1, instance_type=instance_type, start_delay_s=0.1,
                        labels={"node.kubernetes.io/instance-type": instance_type},
                    )  # fmt: skip
                    self.api.create(NODE_GROUPS_PATH, group)
                    apply(self.api, item)
                if item["kind"] == "ThroughputProfile":
                    apply(self.api, item)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @contextlib.contextmanager
    def operator(self, installation: Installation, rights: Sequence[Right]) -> Iterator[Operator]:
        """`medley run` as an account with these rights and no others; one that runs already ends first."""
        self._stop()
        if installation.looks_after:  # as the chart does
            leases = f"/apis/coordination.k8s.io/v1/namespaces/{installation.namespace}/leases"
            with contextlib.suppress(ApiError):  # it is there
                self.api.create(leases, {"metadata": {"name": installation.name}, "spec": {}})
        account = installation.name
        self.grant(installation, rights)
        kubeconfig = kubeconfig_for(
            self.api, self.control_plane.kubeconfig, self.directory / f"{account}.kubeconfig", installation.namespace,
            account,
        )  # fmt: skip
        command: list[str | Path] = [
            Path(sys.executable), "-m", "medley.cli.main", "run", "--kubeconfig", str(kubeconfig),
            "--lease", f"{installation.namespace}/{account}", "--identity", account,
            "--interval", "1", "--stabilisation", "3", "--window", "8",
            *(("--namespaces", *installation.looks_after) if installation.looks_after else ()),
        ]  # fmt: skip
        log = self.directory / f"{account}.log"
        self._process = process = SupervisedProcess.start(account, command, log=log)
        try:
            yield Operator(self, installation, log)
        finally:
            if process is self._process:
                self._stop()

    def grant(self, installation: Installation, rights: Sequence[Right]) -> None:
        """Create the account with these rights, or bring it to them."""
        grant(self.api, installation.namespace, installation.name, rights, installation.looks_after)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.stop(grace_s=10)
            self._process = None


class Operator:
    """One that runs, and what a test asks of it."""

    def __init__(self, cluster: Cluster, installation: Installation, log: Path) -> None:
        self.api = cluster.api
        self.installation = installation
        self._audit_log = cluster.control_plane.audit_log
        self._log = log
        self._numbers = itertools.count()
        self.patience_s = 30.0
        self.steady_nodes = dict.fromkeys(POOLS, 0)
        """Nodes that services need which are no part of the tests."""
        self.done: set[str] = set()
        """Names of the tests that it has gone through."""

    @property
    def log(self) -> str:
        """What it logged."""
        return self._log.read_text()

    def requests(self, answer: Answer) -> set[Request]:
        """What it asked the API server so far, by the answer."""
        assert self._audit_log is not None
        installation = self.installation
        account = f"system:serviceaccount:{installation.namespace}:{installation.name}"
        return {call.request for call in read(self._audit_log, account) if call.answer is answer}

    def eventually(self, predicate: Callable[[], object], what: str) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + self.patience_s
        while not predicate():
            assert time.monotonic() < deadline, f"not within {self.patience_s:g} s: {what}\n{self.log[-3000:]}"
            time.sleep(0.1)

    @contextlib.contextmanager
    def services(self, kind: str, **spec: object) -> Iterator[list[Json]]:
        """A service in each of the namespaces, in Auto with a static workload; gone afterwards."""
        manifests = [
            service(f"{kind}-{namespace}-{self.installation.name}", namespace, **spec) for namespace in SERVICES
        ]
        for manifest in manifests:
            apply(self.api, manifest)
        try:
            yield manifests
        finally:
            for manifest in manifests:
                self.api.delete(path_of(manifest))

    def change(self, manifest: Json, **spec: object) -> None:
        """Apply a service with other fields in its spec."""
        apply(self.api, {**manifest, "spec": {**manifest["spec"], **spec}})

    @contextlib.contextmanager
    def pool_without_group(self) -> Iterator[str]:
        """The name of a pool that names a node group which is not there; gone afterwards."""
        name = f"astray-{self.installation.name}-{next(self._numbers)}"  # what was said of one is not said again
        target = {"apiVersion": "lab.medley.dev/v1alpha1", "kind": "NodeGroup", "name": "nowhere"}
        manifest = {
            "apiVersion": "medley.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": name},
            "spec": {"instanceType": "g6e.xlarge", "provider": {"scale": target}},
        }  # fmt: skip
        apply(self.api, manifest)
        try:
            yield name
        finally:
            self.api.delete(path_of(manifest))

    def status(self, manifest: Json) -> Json:
        """Of a service."""
        found: Json = self.api.get(path_of(manifest)).get("status") or {}
        return found

    def is_ready(self, manifest: Json) -> bool:
        """Whether its condition Ready is True."""
        conditions = self.status(manifest).get("conditions") or []
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def replicas(self, manifest: Json, variant: str) -> int:
        """Asked for of one variant; 0 where there is no Deployment."""
        path = deployment_path(manifest, variant)
        return int(self.api.get(path)["spec"].get("replicas") or 0) if self.api.exists(path) else 0

    def nodes(self, group: str) -> int:
        """Asked for of a node group."""
        return int(self.api.get(f"{NODE_GROUPS_PATH}/{group}")["spec"]["replicas"])

    def asked(self, pool: str) -> int:
        """Nodes that the operator notes to have asked for."""
        annotations = self.api.get(f"/apis/medley.dev/v1alpha1/gpupools/{pool}")["metadata"].get("annotations") or {}
        said = annotations.get(ASKED, "0")
        return int(said) if said.isdigit() else -1

    def table(self, manifest: Json) -> Json:
        """The routing table that is published for a service."""
        metadata = manifest["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/configmaps/{metadata['name']}-routing"
        found: Json = json.loads(self.api.get(path)["data"]["routing.json"]) if self.api.exists(path) else {}
        return found

    def events(self, namespace: str, about: str) -> list[str]:
        """Reasons and messages."""
        items = self.api.items(f"/api/v1/namespaces/{namespace}/events")
        return [f"{item['reason']}: {item['message']}" for item in items if item["involvedObject"]["name"] == about]


def deployment_path(manifest: Json, variant: str) -> str:
    """Of one variant of a service."""
    name, namespace = (manifest["metadata"][field] for field in ("name", "namespace"))
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment_name(ServiceKey(namespace, name), variant)}"


def service(name: str, namespace: str, **spec: object) -> Json:
    """One that needs one replica."""
    points = [{"inputTokens": 512, "outputTokens": 128, "requestsPerSecond": 0.2}]
    body: Json = {
        "model": {"name": "meta-llama/Llama-3.1-8B-Instruct", "maxModelLen": 16384},
        "slo": {"timePerOutputTokenMs": 120},
        "pools": ["l4"],
        "mode": "Auto",
        "workload": {"static": {"points": points}},
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "medley.dev/v1alpha1", "kind": "LLMService", "metadata": metadata, "spec": {**body, **spec}}
