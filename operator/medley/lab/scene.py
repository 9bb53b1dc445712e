"""Everything the loop needs, put together on one machine: what the demo and the end-to-end tests stand on.

Control plane, node groups for the example's pools, fake kubelet with a simulated server behind each pod, Prometheus,
the operator as a process of its own, and a gateway. Leaving the scene leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from medley.actuation.cluster_api import ClusterApi, PatchType
from medley.actuation.rights import RIGHTS, lease_creation_rights, lease_rights, scale_rights
from medley.allocation.assemble import profile_key, variant_name
from medley.api.convert import Resources, parse
from medley.api.crds import KINDS, crd
from medley.api.manifests import read_manifests
from medley.lab.account import grant, kubeconfig_for
from medley.lab.control_plane import ControlPlane
from medley.lab.engines import SimulatedEngines
from medley.lab.fake_kubelet import FakeKubelet
from medley.lab.gateway import Gateway
from medley.lab.load import LoadGenerator
from medley.lab.node_group import NODE_GROUPS_PATH, NodeGroupController, node_group
from medley.lab.pods import PodFate, PodInfo
from medley.lab.processes import SupervisedProcess
from medley.lab.prometheus import PrometheusServer
from medley.lab.traces import Trace
from medley.model.errors import TransientError
from medley.model.objects import API_VERSION, Pool, ServiceKey
from medley.profiles.step import StepModel

Json = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """How fast things happen, in seconds: shorter than in real life, so that a demo shows in minutes what takes hours.

    Attributes:
        node_delay_s: from asking for a node to its being there.
        ready_delay_s: from a container's start to Ready (image pull, weights).
        interval_s: between planning cycles.
        stabilisation_s: before a fall of demand is followed.
        window_s: range of the rates.
        change_cost: of starting a replica, as a share of its hourly price.
        seed: of everything random.
    """

    node_delay_s: float = 2.0
    ready_delay_s: float = 2.0
    interval_s: float = 3.0
    stabilisation_s: float = 20.0
    window_s: float = 10.0
    change_cost: float = 0.3
    seed: int = 1


OPERATOR_NAMESPACE, OPERATOR_NAME = "medley-system", "medley"
OPERATOR_RIGHTS = (
    *RIGHTS,
    *lease_rights(OPERATOR_NAMESPACE, OPERATOR_NAME),
    *lease_creation_rights(OPERATOR_NAMESPACE),
    *scale_rights("lab.medley.dev", "nodegroups"),
)
"""Of the operator in a scene, whose node pools are node groups of the lab."""


class Scene:
    """A whole small world, as a context manager.

    Args:
        manifests: objects to apply; pools whose provider is a NodeGroup get one.
        settings: how fast things happen.
        control_plane: one to use; None starts one.
        progress: told what is going on.
        fate: what becomes of each pod.
    """

    def __init__(
        self,
        manifests: Sequence[Path],
        settings: SceneSettings | None = None,
        *,
        control_plane: ControlPlane | None = None,
        progress: Progress = lambda _: None,
        fate: Callable[[PodInfo], PodFate] = lambda _: PodFate.READY,
    ) -> None:
        self.settings = settings or SceneSettings()
        self.manifests = read_manifests(manifests)
        self.resources = parse(self.manifests)
        self._given = control_plane
        self._progress = progress
        self._fate = fate
        self._exit = contextlib.ExitStack()
        self.operators: list[SupervisedProcess] = []
        """All that were started, dead ones too, in order."""
        self._operator_kubeconfig: Path
        self.control_plane: ControlPlane
        self.api: ClusterApi
        self.directory: Path
        self.prometheus: PrometheusServer
        self.kubelet: FakeKubelet
        self.engines: SimulatedEngines
        self.gateways: dict[ServiceKey, Gateway] = {}

    def __enter__(self) -> Scene:
        with contextlib.ExitStack() as stack:
            self._exit = stack
            self._raise()
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_operators()
        self._exit.close()

    def _raise(self) -> None:
        enter = self._exit.enter_context
        self.directory = Path(enter(tempfile.TemporaryDirectory(prefix="medley-scene-")))
        if self._given is not None:
            self.control_plane = self._given
        else:
            self.control_plane = enter(ControlPlane.start(progress=self._progress))
        kubeconfig = self.control_plane.kubeconfig
        self.api = self.control_plane.api()
        self._exit.callback(self.api.close)
        self._progress("control plane is up")
        install_crds(self.api)
        enter(NodeGroupController(kubeconfig))
        # The operator has the rights that an installation gives it, and no others.
        grant(self.api, OPERATOR_NAMESPACE, OPERATOR_NAME, OPERATOR_RIGHTS, self.namespaces)
        own = self.directory / "operator.kubeconfig"
        self._operator_kubeconfig = kubeconfig_for(self.api, kubeconfig, own, OPERATOR_NAMESPACE, OPERATOR_NAME)
        for pool in self.resources.pools:
            group = node_group_of(pool, self.settings.node_delay_s)
            if group is not None:
                self.api.create(NODE_GROUPS_PATH, group)
        self.engines = SimulatedEngines(speeds(self.resources), seed=self.settings.seed)
        self._exit.callback(self.engines.close)
        self.kubelet = FakeKubelet(
            kubeconfig, ready_delay_s=self.settings.ready_delay_s, backend=self.engines, fate=self._fate
        ).start()
        self._exit.callback(self.kubelet.stop)
        self.prometheus = PrometheusServer.start(kubeconfig, scrape_interval_s=1.0, progress=self._progress)
        self._exit.callback(self.prometheus.stop)
        self._progress("Prometheus is up")
        for service in self.resources.services:
            gateway = Gateway(kubeconfig, service.key, clock=time.time, rng=random.Random(self.settings.seed)).start()
            self.gateways[service.key] = gateway
            self._exit.callback(gateway.stop)

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator."""
        return self.control_plane.kubeconfig

    def load(self, service: ServiceKey, trace: Trace) -> LoadGenerator:
        """What sends this to the service, not started yet."""
        router = self.gateways[service].router
        model = next(item.model_name for item in self.resources.services if item.key == service)
        return LoadGenerator(trace, router.pick, repick=router.pick_other, done=router.done, model_name=model)

    def wait_first_ready(self, service: ServiceKey, timeout_s: float) -> bool:
        """Wait until a replica is Ready and can be sent to; whether one is."""
        return self.gateways[service].first_ready.wait(timeout_s)

    def pause_metrics(self) -> None:
        """Prometheus hangs."""
        self.prometheus.pause()

    def resume_metrics(self) -> None:
        """It goes on."""
        self.prometheus.resume()

    def apply_manifests(self) -> None:
        """Apply the objects, as a user would."""
        for manifest in self.manifests:
            apply(self.api, manifest)

    def start_operator(self, *arguments: str) -> SupervisedProcess:
        """Start `medley run` as a process; its records go to `records`."""
        command: list[str | Path] = [
            Path(sys.executable), "-m", "medley.cli.main", "run",
            "--kubeconfig", str(self._operator_kubeconfig),
            "--lease", f"{OPERATOR_NAMESPACE}/{OPERATOR_NAME}",
            "--namespaces", *self.namespaces,
            "--prometheus", self.prometheus.url,
            "--interval", str(self.settings.interval_s),
            "--stabilisation", str(self.settings.stabilisation_s),
            "--window", str(self.settings.window_s),
            "--change-cost",
            str(self.settings.change_cost),
            "--snapshot-dir", str(self.records),
            *arguments,
        ]  # fmt: skip
        log = self.directory / f"operator-{len(self.operators) + 1}.log"
        self.operators.append(SupervisedProcess.start("operator", command, log=log))
        return self.operators[-1]

    def kill_operator(self) -> None:
        """End the last one as a crash would: SIGKILL."""
        os.kill(self.operators[-1].pid, signal.SIGKILL)
        self.operators[-1].stop(grace_s=0)

    def stop_operators(self) -> None:
        """Stop all as Kubernetes would."""
        for operator in reversed(self.operators):
            operator.stop(grace_s=10)

    @property
    def namespaces(self) -> list[str]:
        """Of the services."""
        return sorted({service.key.namespace for service in self.resources.services})

    @property
    def operator_log(self) -> str:
        """All that the operators of this scene logged."""
        return "".join(path.read_text() for path in sorted(self.directory.glob("operator-*.log")))

    @property
    def records(self) -> Path:
        """Where the operator writes a record of each cycle."""
        return self.directory / "records"


def speeds(resources: Resources) -> Mapping[str, StepModel]:
    """Step model by variant, from the profiles; variants without a linear profile have no pods in the lab."""
    profiles = {p.key: p.speed for p in resources.profiles}
    pools = {pool.name: pool for pool in resources.pools}
    out: dict[str, StepModel] = {}
    for service in resources.services:
        for spec in service.variants:
            pool = pools.get(spec.pool)
            model = profiles.get(profile_key(service, spec, pool.gpu)) if pool else None
            if pool is None or not isinstance(model, StepModel):
                continue
            for offering in pool.offerings:
                out[variant_name(spec, offering.capacity_type)] = model
    return out


def node_group_of(pool: Pool, start_delay_s: float = 0.0) -> Json | None:
    """The NodeGroup that a pool scales; None: it scales none."""
    if pool.scale is None or pool.scale.kind != "NodeGroup":
        return None
    labels = dict(pool.node_selector)
    return node_group(
        pool.scale.name,
        gpu=pool.gpu,
        gpus_per_node=pool.gpus_per_node,
        instance_type=labels.get("node.kubernetes.io/instance-type", pool.name),
        labels=labels,
        start_delay_s=start_delay_s,
    )


def install_crds(api: ClusterApi, timeout_s: float = 10.0) -> None:
    """Apply Medley's CRDs and wait until they are served."""
    for kind in KINDS:
        api.patch(
            f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.crd_name}",
            crd(kind),
            PatchType.APPLY,
            fieldManager="medley-lab",
            force="true",
        )
    deadline = time.monotonic() + timeout_s
    for kind in KINDS:
        while not api.exists(f"/apis/{API_VERSION}/{kind.plural}"):
            if time.monotonic() > deadline:
                raise TransientError(f"the CRD {kind.crd_name} is not served after {timeout_s:g} s")
            time.sleep(0.05)


def path_of(manifest: Mapping[str, Any]) -> str:
    """Path of one of our objects on the API server."""
    kind = next(kind for kind in KINDS if kind.kind == manifest["kind"])
    metadata = manifest["metadata"]
    if kind.scope == "Namespaced":
        return (
            f"/apis/{API_VERSION}/namespaces/{metadata.get('namespace') or 'default'}/{kind.plural}/{metadata['name']}"
        )
    return f"/apis/{API_VERSION}/{kind.plural}/{metadata['name']}"


def apply(api: ClusterApi, manifest: Mapping[str, Any]) -> Json:
    """Apply server-side as kubectl does, strict about unknown fields."""
    return api.patch(
        path_of(manifest),
        dict(manifest),
        PatchType.APPLY,
        fieldManager="kubectl",
        force="true",
        fieldValidation="Strict",
    )
