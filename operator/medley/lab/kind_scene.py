"""The loop on a cluster with real kubelets: what `Scene` is on the plain control plane, with pods that are containers.

The operator is installed with Helm and has the rights of the chart; Prometheus, the vLLM simulators, the router and the
load generator are pods. Only GPUs are not there: nodes claim them (`shared_nodes`).
"""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any

import yaml

from medley.actuation.cluster_api import ClusterApi
from medley.actuation.deployments import SERVICE_LABEL
from medley.api.convert import parse
from medley.api.crds import KINDS
from medley.api.manifests import read_manifests
from medley.lab.kind_cluster import (
    CHART,
    DEFAULT_TAG,
    KIND_FILES,
    Image,
    KindCluster,
    Owner,
    build_and_bring,
    connect_or_create,
    reference,
    repository,
    run,
    tag,
)
from medley.lab.node_group import NODE_GROUP_CRD, NODE_GROUPS_PATH
from medley.lab.scene import (
    OPERATOR_NAME,
    OPERATOR_NAMESPACE,
    Progress,
    SceneSettings,
    apply,
    node_group_of,
    path_of,
    speeds,
)
from medley.lab.shared_nodes import SharedNodes, group_label
from medley.lab.tools import Tool, ensure
from medley.lab.traces import Trace
from medley.lab.traffic import PORT as TRAFFIC_PORT
from medley.lab.traffic import Order, RemoteLoad, Through
from medley.lab.vllm_container import speed_argument
from medley.model.errors import TransientError, UserError
from medley.model.objects import API_VERSION, Service, ServiceKey

Json = dict[str, Any]

LAB = "medley-lab"
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/{OPERATOR_NAME}"
_RECORDS = "/records"
_RECORDS_EVERY_S = 0.5
_READY_TIMEOUT_S = 180.0
MOST_NODES = 4
"""Of each pool: a replica is a process here, and on a machine too busy to be scraped in time demand looks higher."""
_KILL = 'kill -9 "$(crictl inspect --output go-template --template "{{.info.pid}}" "$0")"'
# Run in an operator's container: the records that are newer than the one that is named, as one object.
_READ_RECORDS = f"""
import json, pathlib, sys
new = [p for p in pathlib.Path("{_RECORDS}").glob("cycle-*.json") if p.name > sys.argv[1]]
print(json.dumps({{p.name: p.read_text() for p in new}}))
"""


class KindScene:
    """A small world in containers, as a context manager; see `loop_scene.LoopScene` for what it can be asked.

    Args:
        manifests: objects to apply; their services get the simulator as engine, their pools nodes of the cluster.
        settings: how fast things happen; nodes are there at once.
        cluster: one that has the images already; None: that of KUBECONFIG or a new one, and images are built.
        progress: told what is going on.
        through: how requests reach replicas.
        values: more values of the chart.
    """

    def __init__(
        self,
        manifests: Sequence[Path],
        settings: SceneSettings | None = None,
        *,
        cluster: KindCluster | None = None,
        progress: Progress = lambda _: None,
        through: Through = Through.ROUTER,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings or SceneSettings()
        given = read_manifests(manifests)
        self._speeds = speeds(parse(given))
        self.manifests = [self._for_containers(manifest) for manifest in given]
        self.resources = parse(self.manifests)
        self._given = cluster
        self._progress = progress
        self._through = through
        self._more_values = dict(values or {})
        self._exit = contextlib.ExitStack()
        self._read_s = 0.0
        self._newest: dict[str, str] = {}
        self.cluster: KindCluster
        self.api: ClusterApi
        self.directory: Path

    def __enter__(self) -> KindScene:
        with contextlib.ExitStack() as stack:
            self._exit = stack
            self._raise()
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _raise(self) -> None:
        enter = self._exit.enter_context
        self.directory = Path(enter(tempfile.TemporaryDirectory(prefix="medley-scene-")))
        (self.directory / "records").mkdir()
        if self._given is not None:
            self.cluster = self._given
        else:
            self.cluster = enter(connect_or_create(self._progress))
        self.api = ClusterApi(self.cluster.kubeconfig)
        self._exit.callback(self.api.close)
        self._refuse_others()
        if self._given is None:
            build_and_bring(self.cluster, self._progress)
        # Out of a cluster that goes as a whole nothing need be taken.
        alone = self._given is None and self.cluster.owner is Owner.SCENE
        leave = contextlib.ExitStack().callback if alone else self._exit.callback
        self._tools = ensure([Tool.KUBECTL, Tool.HELM], self._progress)
        leave(self.kubectl, "delete", "--ignore-not-found", "crd", NODE_GROUP_CRD["metadata"]["name"])
        shared = SharedNodes(self.cluster.kubeconfig, [name for name, _ in self._groups()])
        self._exit.callback(shared.stop)
        shared.start()
        leave(self._remove_groups)
        for _, group in self._groups():
            self.api.create(NODE_GROUPS_PATH, group)
        leave(self.kubectl, "delete", "--ignore-not-found", "-f", KIND_FILES / "prometheus.yaml")
        self._apply((KIND_FILES / "prometheus.yaml").read_text())
        for service in self.resources.services:
            text = self._traffic(service)
            leave(self.kubectl, "delete", "--ignore-not-found", "-f", "-", stdin=text)
            self._apply(text)
        self.kubectl("-n", LAB, "rollout", "status", "deployment/prometheus", "--timeout=180s")
        self._progress("Prometheus is up")
        for service in self.resources.services:
            deployment = f"deployment/{_traffic_name(service.key)}"
            self.kubectl("-n", LAB, "rollout", "status", deployment, "--timeout=180s")
        leave(self.uninstall)

    def _refuse_others(self) -> None:
        """What is taken away at the end must not have been there before."""
        names = [*(kind.crd_name for kind in KINDS), NODE_GROUP_CRD["metadata"]["name"]]
        crds = [f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}" for name in names]
        services = [f"/api/v1/namespaces/{s.key.namespace}/services/{s.key.name}" for s in self.resources.services]
        for path in (*crds, f"/api/v1/namespaces/{OPERATOR_NAMESPACE}", f"/api/v1/namespaces/{LAB}", *services):
            if self.api.exists(path):
                what = "/".join(path.rsplit("/", 2)[1:])
                raise UserError(
                    f"the cluster has {what} already, and this would take it away at the end",
                    field=str(self.cluster.kubeconfig),
                    fix="Use a cluster of its own, or uninstall that Medley with its CRDs first",
                )

    def _for_containers(self, manifest: Mapping[str, Any]) -> Json:
        """The object as it can run here: an engine that needs no GPU, and nodes that are there."""
        out: Json = copy.deepcopy(dict(manifest))
        if out["kind"] == "GPUPool":
            limits = out["spec"].get("limits") or {}
            out["spec"]["limits"] = {**limits, "nodes": min(limits.get("nodes", MOST_NODES), MOST_NODES)}
            scale = (out["spec"].get("provider") or {}).get("scale")
            if scale and scale["kind"] == "NodeGroup":
                out["spec"]["nodeSelector"] = {group_label(scale["name"]): "true"}
        elif out["kind"] == "LLMService":
            arguments = [f"--ready-after={self.settings.ready_delay_s:g}", f"--seed={self.settings.seed}"]
            arguments += [f"--speed={speed_argument(name, model)}" for name, model in self._speeds.items()]
            engine = out["spec"].get("engine") or {}
            out["spec"]["engine"] = {**engine, "image": reference(Image.LAB), "args": arguments}
        return out

    def _groups(self) -> list[tuple[str, Json]]:
        found = ((pool.scale.name, node_group_of(pool)) for pool in self.resources.pools if pool.scale is not None)
        return [(name, group) for name, group in found if group is not None]

    def _remove_groups(self) -> None:
        for name, _ in self._groups():
            self.api.delete(f"{NODE_GROUPS_PATH}/{name}")

    def _traffic(self, service: Service) -> str:
        engine = dict(self.resources.engines)[service.key]
        return Template((KIND_FILES / "traffic.yaml").read_text()).substitute(
            NAMESPACE=service.key.namespace, NAME=service.key.name, PORT=engine.port, THROUGH=self._through
        )

    def _apply(self, text: str) -> None:
        """Apply manifests of hack/kind, with the images' names as this cluster knows them."""
        for image in Image:
            text = text.replace(f"image: {image}:{DEFAULT_TAG}\n", f"image: {reference(image)}\n")
        self.kubectl("apply", "--server-side", "-f", "-", stdin=text)

    # What it can be asked: LoopScene.

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator."""
        return self.cluster.kubeconfig

    @property
    def namespaces(self) -> list[str]:
        """Of the services."""
        return sorted({service.key.namespace for service in self.resources.services})

    def apply_manifests(self) -> None:
        """Apply the objects, as a user would."""
        for manifest in self.manifests:
            apply(self.api, manifest)

    def start_operator(self) -> None:
        """Install the chart; where it is installed, wait until one leads again, as its Deployment sees to it."""
        if not self.api.exists(f"/apis/apps/v1/namespaces/{OPERATOR_NAMESPACE}/deployments/{OPERATOR_NAME}"):
            self.install()
        else:
            self.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", f"deployment/{OPERATOR_NAME}", "--timeout=180s")
        self._wait(lambda: self.holder() in self.operators(), "one of the operators leads")

    def kill_operator(self) -> None:
        """End the one that leads: on a cluster of kind as a crash would, elsewhere as a lost node would."""
        path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{self.holder()}"
        _ = self.records  # those that it has written go with it
        if self.cluster.kind_name:
            pod = self.api.get(path)
            container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
            # A kubelet asks first, whatever the grace period, and one that is asked gives its lease back.
            run("docker", "exec", pod["spec"]["nodeName"], "sh", "-c", _KILL, container)
        self.api.delete(path, grace_period_s=0)

    def load(self, service: ServiceKey, trace: Trace) -> RemoteLoad:
        """What sends this to the service, not started yet."""
        model = next(item.model_name for item in self.resources.services if item.key == service)
        return RemoteLoad(self.api, _traffic_path(service), Order(trace, model))

    def wait_first_ready(self, service: ServiceKey, timeout_s: float) -> bool:
        """Wait until a replica is Ready."""
        deadline = time.monotonic() + timeout_s
        path, selector = f"/api/v1/namespaces/{service.namespace}/pods", f"{SERVICE_LABEL}={service.name}"
        while not any(_is_ready(pod) for pod in self.api.items(path, labelSelector=selector)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)
        return True

    def pause_metrics(self) -> None:
        """Prometheus is gone, and all that it knew."""
        self.kubectl("-n", LAB, "scale", "deployment/prometheus", "--replicas=0")

    def resume_metrics(self) -> None:
        """It is there again."""
        self.kubectl("-n", LAB, "scale", "deployment/prometheus", "--replicas=1")

    @property
    def records(self) -> Path:
        """Where the records of the cycles are, brought here from the operators' containers up to now."""
        where = self.directory / "records"
        if time.monotonic() - self._read_s >= _RECORDS_EVERY_S:
            for pod in self.operators():
                # A pod that starts or ends right now has none that can be read.
                with contextlib.suppress(TransientError):
                    text = self.kubectl(
                        "-n", OPERATOR_NAMESPACE, "exec", pod, "--", "python", "-c", _READ_RECORDS,
                        self._newest.get(pod, ""),
                    )  # fmt: skip
                    new: dict[str, str] = json.loads(text)
                    for name, content in new.items():
                        (where / name).write_text(content)
                    self._newest[pod] = max([self._newest.get(pod, ""), *new])
            self._read_s = time.monotonic()
        return where

    @property
    def operator_log(self) -> str:
        """What the operators that are there have logged."""
        selector = f"app.kubernetes.io/name={OPERATOR_NAME}"
        try:
            return self.kubectl("-n", OPERATOR_NAMESPACE, "logs", "-l", selector, "--tail=-1", "--prefix")
        except TransientError as error:  # of a pod whose container has not begun
            return str(error)

    # What only this one has.

    def values(self) -> Json:
        """Of the chart."""
        return {
            "image": {"repository": repository(Image.OPERATOR), "tag": tag()},
            "namespaces": self.namespaces,
            "scaleTargets": [{"group": "lab.medley.dev", "resource": "nodegroups"}],
            "prometheus": {"url": f"http://prometheus.{LAB}:9090"},
            "planning": {
                "intervalSeconds": self.settings.interval_s,
                "stabilisationSeconds": self.settings.stabilisation_s,
                "windowSeconds": self.settings.window_s,
                "changeCost": self.settings.change_cost,
            },
            "crds": {"keep": False},
            "extraArgs": [f"--snapshot-dir={_RECORDS}"],
            "extraVolumes": [{"name": "records", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "records", "mountPath": _RECORDS}],
            **self._more_values,
        }

    def install(self, **changed: Any) -> None:
        """Install the chart or upgrade to other values, in a namespace that admits restricted pods only."""
        path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}"
        if not self.api.exists(path):
            labels = {"pod-security.kubernetes.io/enforce": "restricted"}
            self.api.create("/api/v1/namespaces", {"metadata": {"name": OPERATOR_NAMESPACE, "labels": labels}})
        values = self.directory / "values.yaml"
        values.write_text(yaml.safe_dump({**self.values(), **changed}))
        self.helm("upgrade", "--install", OPERATOR_NAME, CHART, "-f", values, "--wait", "--timeout", "180s")

    def uninstall(self) -> None:
        """Take away the services with all that was made for them, the operator and the CRDs; what is gone is fine."""
        for manifest in self.manifests:
            if self.api.exists(f"/apis/{API_VERSION}"):
                self.api.delete(path_of(manifest))
        # Services go first: once their CRD is gone, the garbage collector cannot know that an owner is.
        for namespace in self.namespaces:
            self._wait(partial(self._nothing_runs, namespace), "what ran for the services is gone")
        self.helm("uninstall", OPERATOR_NAME, "--wait", "--ignore-not-found")
        self.kubectl("delete", "crd", "--ignore-not-found", *(kind.crd_name for kind in KINDS))
        self.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found")

    def _nothing_runs(self, namespace: str) -> bool:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        return not self.api.items(path, labelSelector="app.kubernetes.io/managed-by=medley")

    def helm(self, *arguments: str | Path) -> str:
        """Run helm in the operator's namespace."""
        return run(
            self._tools[Tool.HELM], *arguments, "-n", OPERATOR_NAMESPACE,
            environment={"KUBECONFIG": str(self.cluster.kubeconfig)},
        )  # fmt: skip

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run kubectl."""
        return run(self._tools[Tool.KUBECTL], "--kubeconfig", self.cluster.kubeconfig, *arguments, stdin=stdin)

    def operators(self) -> list[str]:
        """Names of the operator's pods that run."""
        found = self.api.items(
            f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods",
            labelSelector=f"app.kubernetes.io/name={OPERATOR_NAME}",
            fieldSelector="status.phase=Running",
        )
        return sorted(item["metadata"]["name"] for item in found if not item["metadata"].get("deletionTimestamp"))

    def holder(self) -> str:
        """Who leads; empty: nobody."""
        return str(self.api.get(_LEASE)["spec"].get("holderIdentity") or "") if self.api.exists(_LEASE) else ""

    def _wait(self, predicate: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not predicate():
            if time.monotonic() > deadline:
                raise TransientError(f"not within {_READY_TIMEOUT_S:.0f} s: {what}")
            time.sleep(0.2)


def _traffic_name(service: ServiceKey) -> str:
    return f"{service.namespace}-{service.name}"


def _traffic_path(service: ServiceKey) -> str:
    return f"/api/v1/namespaces/{LAB}/services/{_traffic_name(service)}:{TRAFFIC_PORT}"


def _is_ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
