"""The lab's control plane, fake kubelet, node groups and Prometheus, against the real Kubernetes binaries."""

from __future__ import annotations

import argparse
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from medley.actuation.cluster_api import ApiError, ClusterApi, Json, Mirror
from medley.cli import lab
from medley.lab.control_plane import ClusterOrigin, ControlPlane, connect_or_start
from medley.lab.fake_kubelet import FakeKubelet
from medley.lab.node_group import GROUP_LABEL, NODE_GROUPS_PATH, NodeGroupController, node_group
from medley.lab.nodes import GpuNode, create_node, pods_on, remove_node
from medley.lab.pods import PodFate, PodInfo
from medley.lab.processes import can_bind
from medley.lab.prometheus import PrometheusServer
from medley.model.errors import TransientError

pytestmark = pytest.mark.cluster

Eventually = Callable[..., None]


class PageServers:
    """A backend that serves one metric on each pod's address, and can take its time to stop."""

    def __init__(self, stop_s: float = 0.0) -> None:
        self.started: list[PodInfo] = []
        self.stopped: list[PodInfo] = []
        self._stop_s = stop_s
        self._servers: dict[str, http.server.ThreadingHTTPServer] = {}

    def start(self, pod: PodInfo) -> None:
        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(b"lab_demo 1\n")

            def log_message(self, *_: object) -> None:
                pass

        assert pod.container_port is not None
        server = self._servers[pod.uid] = http.server.ThreadingHTTPServer((pod.ip, pod.container_port), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.started.append(pod)

    def stop(self, pod: PodInfo) -> None:
        time.sleep(self._stop_s)
        server = self._servers.pop(pod.uid)
        server.shutdown()
        server.server_close()
        self.stopped.append(pod)


def deployment(name: str, *, replicas: int, gpus: int, group: str) -> Json:
    """A Deployment of GPU pods that run on the nodes labelled with `group` alone."""
    container = {
        "name": "main",
        "image": "lab/vllm:1",
        "args": ["--model", "m"],
        "env": [{"name": "A", "value": "b"}],
        "ports": [{"containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {
                    "labels": {"app": name, "medley.dev/service": "chat", "medley.dev/variant": "small"},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"},
                },
                "spec": {
                    "nodeSelector": {GROUP_LABEL: group},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    "containers": [container],
                    "terminationGracePeriodSeconds": 5,
                },
            },
        },
    }


class Workload:
    """A Deployment in a test's namespace, seen from outside."""

    def __init__(self, api: ClusterApi, namespace: str, body: Json) -> None:
        self._api = api
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self.path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{body['metadata']['name']}"
        api.create(self.path.rsplit("/", maxsplit=1)[0], body)

    def available(self) -> int:
        return int(self._api.get(self.path)["status"].get("availableReplicas", 0))

    def pods(self) -> list[Json]:
        return self._api.items(self._pods_path)

    def container_states(self) -> list[Json]:
        return [status for pod in self.pods() for status in pod["status"].get("containerStatuses") or []]


@pytest.fixture
def node(api: ClusterApi) -> Iterator[str]:
    """One fake node with 8 GPUs that no other test uses; its name is also its group label."""
    name = f"n{uuid.uuid4().hex[:6]}"
    create_node(api, GpuNode(name, 8, "NVIDIA-H100-80GB-HBM3", "p5.48xlarge", {GROUP_LABEL: name}))
    yield name
    remove_node(api, name)


def processes_of(directory: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(directory).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def port_of(url: str) -> int:
    return int(url.rsplit(":", maxsplit=1)[1])


def test_two_control_planes_work_side_by_side_and_leave_nothing(
    control_plane: ControlPlane, tmp_path: Path, eventually: Eventually
) -> None:
    if control_plane.origin is ClusterOrigin.GIVEN:
        pytest.skip("runs on a given cluster")
    directory = tmp_path / "second"
    second = ControlPlane.start(directory=directory)
    try:
        assert second.url != control_plane.url
        second.api().create("/api/v1/namespaces", {"metadata": {"name": "only-here"}})
        assert not control_plane.api().exists("/api/v1/namespaces/only-here")
        assert len(processes_of(directory)) > 4
    finally:
        second.stop()
    second.stop()  # a second time does no harm
    assert not directory.exists()
    assert can_bind("127.0.0.1", port_of(second.url))
    eventually(lambda: processes_of(directory) == [], "no process is left")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_parent_dies(
    control_plane: ControlPlane, tmp_path: Path, number: signal.Signals, eventually: Eventually
) -> None:
    directory = tmp_path / "lab"
    code = (
        "import sys, time; from pathlib import Path; from medley.lab.control_plane import ControlPlane\n"
        f"plane = ControlPlane.start(directory=Path({str(directory)!r}))\n"
        "print(plane.url, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert url, parent.communicate()
        parent.send_signal(number)
        parent.communicate()
    eventually(lambda: processes_of(directory) == [], "no process is left")
    eventually(lambda: not directory.exists(), "no file is left")
    assert can_bind("127.0.0.1", port_of(url))


def test_a_given_kubeconfig_is_used_and_left_alone(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLEY_KUBECONFIG", str(control_plane.kubeconfig))
    with connect_or_start() as cluster:
        assert cluster.origin is ClusterOrigin.GIVEN
        assert cluster.url == control_plane.url
    assert control_plane.api().exists("/api/v1/namespaces/default")


def test_gpu_pods_become_available_each_on_its_own_address(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, node: str, eventually: Eventually
) -> None:
    backend = PageServers()
    with FakeKubelet(control_plane.kubeconfig, backend=backend, ready_delay_s=0.5):
        work = Workload(api, namespace, deployment("a", replicas=4, gpus=2, group=node))
        eventually(lambda: work.available() == 4, "4 available")
        addresses = {pod["status"]["podIP"] for pod in work.pods()}
        assert len(addresses) == 4
        pod = next(pod for pod in backend.started if pod.namespace == namespace)
        assert (pod.env, pod.args, pod.container_port, pod.node) == ({"A": "b"}, ("--model", "m"), 8000, node)
        for address in addresses:
            with urllib.request.urlopen(f"http://{address}:8000/") as page:
                assert page.read() == b"lab_demo 1\n"


def test_two_kubelets_give_different_addresses(control_plane: ControlPlane) -> None:
    with FakeKubelet(control_plane.kubeconfig) as one, FakeKubelet(control_plane.kubeconfig) as two:
        assert one._addresses.allocate(8000) != two._addresses.allocate(8000)


def test_insufficient_gpus_are_healed_through_the_scale_subresource(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, eventually: Eventually
) -> None:
    group = f"g{uuid.uuid4().hex[:6]}"
    path = f"{NODE_GROUPS_PATH}/{group}"
    with FakeKubelet(control_plane.kubeconfig), NodeGroupController(control_plane.kubeconfig):
        body = node_group(
            group, gpu="NVIDIA-L4", gpus_per_node=4, instance_type="g6", replicas=1, start_delay_s=1, stockout=3
        )
        api.create(NODE_GROUPS_PATH, body)
        work = Workload(api, namespace, deployment("a", replicas=4, gpus=2, group=group))
        eventually(lambda: work.available() == 2, "2 of 4 available")

        def insufficient() -> bool:
            conditions = [c for pod in work.pods() for c in pod["status"].get("conditions") or []]
            return sum("Insufficient nvidia.com/gpu" in c.get("message", "") for c in conditions) == 2

        eventually(insufficient, "2 pods wait for GPUs")
        asked = time.monotonic()
        api.patch(f"{path}/scale", {"spec": {"replicas": 2}})
        eventually(lambda: work.available() == 4, "4 of 4 available")
        assert time.monotonic() - asked >= 1.0, "the start delay was kept"
        eventually(lambda: api.get(path)["status"] == {"replicas": 2, "readyReplicas": 2}, "status")

        api.patch(f"{path}/scale", {"spec": {"replicas": 5}})
        eventually(lambda: api.get(path)["status"]["replicas"] == 3, "as many as there are in stock")
        time.sleep(1.5)
        assert api.get(f"{path}/scale")["status"]["replicas"] == 3

        # The third node is idle and goes first; the one after it takes its pods along, which then wait.
        busy = {pod["spec"]["nodeName"] for pod in work.pods()}
        api.patch(f"{path}/scale", {"spec": {"replicas": 2}})
        eventually(lambda: api.get(path)["status"]["replicas"] == 2, "2 nodes")
        nodes = api.items("/api/v1/nodes", labelSelector=f"{GROUP_LABEL}={group}")
        assert {item["metadata"]["name"] for item in nodes} == busy
        api.patch(f"{path}/scale", {"spec": {"replicas": 1}})
        eventually(insufficient, "2 pods wait again")
        api.delete(path)
        eventually(
            lambda: not api.items("/api/v1/nodes", labelSelector=f"{GROUP_LABEL}={group}"), "no nodes without a group"
        )


def test_fates_crash_and_never_ready_and_a_crash_that_heals(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, node: str, eventually: Eventually
) -> None:
    crashes = {"left": 2}

    def fate(pod: PodInfo) -> PodFate:
        if pod.labels["app"] == "hangs":
            return PodFate.NEVER_READY
        crashes["left"] -= 1
        return PodFate.CRASH if crashes["left"] >= 0 else PodFate.READY

    with FakeKubelet(control_plane.kubeconfig, fate=fate, crash_back_off_s=0.3):
        crashing = Workload(api, namespace, deployment("crashes", replicas=1, gpus=1, group=node))
        eventually(
            lambda: any(
                state["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
                for state in crashing.container_states()
            ),
            "CrashLoopBackOff",
        )
        eventually(lambda: crashing.available() == 1, "healed after two crashes")
        assert [state["restartCount"] for state in crashing.container_states()] == [2]

        hanging = Workload(api, namespace, deployment("hangs", replicas=1, gpus=1, group=node))
        eventually(lambda: len(hanging.container_states()) == 2, "the pod runs")
        time.sleep(1.0)
        assert hanging.available() == 0


def test_a_new_kubelet_adopts_ready_pods_without_disturbing_them(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, node: str, eventually: Eventually
) -> None:
    with FakeKubelet(control_plane.kubeconfig, backend=PageServers()):
        work = Workload(api, namespace, deployment("a", replicas=2, gpus=1, group=node))
        eventually(lambda: work.available() == 2, "2 available")
    before = work.pods()

    second = PageServers()
    with FakeKubelet(control_plane.kubeconfig, backend=second, ready_delay_s=60):
        eventually(lambda: len(second.started) == 2, "the backends run again")
        assert {pod.ip for pod in second.started} == {pod["status"]["podIP"] for pod in before}
        key = "resourceVersion"
        assert [pod["metadata"][key] for pod in work.pods()] == [pod["metadata"][key] for pod in before]
        assert work.available() == 2


def test_terminating_pods_go_after_their_backend_stopped(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, node: str, eventually: Eventually
) -> None:
    backend = PageServers(stop_s=1.5)
    with FakeKubelet(control_plane.kubeconfig, backend=backend):
        work = Workload(api, namespace, deployment("a", replicas=2, gpus=1, group=node))
        eventually(lambda: work.available() == 2, "2 available")
        api.delete(work.path)
        eventually(lambda: any("deletionTimestamp" in pod["metadata"] for pod in work.pods()), "pods terminate")
        assert len(backend.stopped) == 0
        eventually(lambda: work.pods() == [], "pods are gone")
        assert len(backend.stopped) == 2


def test_the_grace_period_bounds_a_backend_that_does_not_stop(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, node: str, eventually: Eventually
) -> None:
    with FakeKubelet(control_plane.kubeconfig, backend=PageServers(stop_s=20)):
        work = Workload(api, namespace, deployment("a", replicas=1, gpus=1, group=node))
        eventually(lambda: work.available() == 1, "available")
        asked = time.monotonic()
        api.delete(work.path)
        eventually(lambda: work.pods() == [], "the pod is gone")
        assert 4.5 < time.monotonic() - asked < 10


class FlakyApi:
    """Answers lists and watches from a script: each watch ends in the way that the script says."""

    def __init__(self, lists: list[list[str]], watches: list[Json | Exception]) -> None:
        self._lists, self._watches = lists, watches

    def get(self, _path: str, **_: str) -> Json:
        names = self._lists.pop(0) if len(self._lists) > 1 else self._lists[0]
        items = [{"metadata": {"uid": name, "name": name, "resourceVersion": "1"}} for name in names]
        return {"metadata": {"resourceVersion": "1"}, "items": items}

    def open(self, _path: str, _query: object, _timeout_s: float) -> urllib3.HTTPResponse:
        if not self._watches:
            time.sleep(0.05)
            return urllib3.HTTPResponse(io.BytesIO(b""), preload_content=False)
        event = self._watches.pop(0)
        if isinstance(event, Exception):
            raise event
        return urllib3.HTTPResponse(io.BytesIO(json.dumps(event).encode() + b"\n"), preload_content=False)


def test_a_mirror_survives_expiry_hiccups_and_callbacks_that_cannot_act_yet(eventually: Eventually) -> None:
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
    api = FlakyApi(
        [["a", "b"], ["a"], ["a", "c"], ["a", "c"]], [gone, TransientError("no answer"), ApiError(410, "expired")]
    )
    seen: list[str] = []
    lost: list[str] = []

    def see(item: Json) -> None:
        first_c = item["metadata"]["name"] == "c" and "c" not in seen
        seen.append(item["metadata"]["name"])
        if first_c:
            raise TransientError("not now")

    mirror = Mirror(
        api,  # type: ignore[arg-type]
        "/things",
        on_object=see,
        on_gone=lambda item: lost.append(item["metadata"]["name"]),
    )
    mirror.start()
    eventually(lambda: seen.count("c") >= 2, "told again after a callback that could not act")
    mirror.stop()
    assert lost == ["b"]
    count = len(seen)
    time.sleep(0.2)
    assert len(seen) == count, "silent after stop"


def test_pods_that_come_while_the_api_server_hangs_become_ready_after_it(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, node: str, eventually: Eventually
) -> None:
    if control_plane.origin is ClusterOrigin.GIVEN:
        pytest.skip("cannot freeze a given cluster")
    apiserver = next(process for process in control_plane.processes if process.name == "kube-apiserver")
    with FakeKubelet(control_plane.kubeconfig, ready_delay_s=1.0):
        work = Workload(api, namespace, deployment("a", replicas=2, gpus=1, group=node))
        eventually(lambda: len(work.container_states()) == 2, "both run and are not ready yet")
        apiserver.freeze()
        try:
            time.sleep(13)  # longer than the kubelet's requests wait
        finally:
            apiserver.thaw()
        eventually(lambda: work.available() == 2, "2 available")


def test_a_removed_node_takes_its_pods_along(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, node: str, eventually: Eventually
) -> None:
    backend = PageServers()
    with FakeKubelet(control_plane.kubeconfig, backend=backend):
        work = Workload(api, namespace, deployment("a", replicas=1, gpus=1, group=node))
        eventually(lambda: work.available() == 1, "available")
        remove_node(api, node)
        assert pods_on(api, node) == []
        eventually(lambda: len(backend.stopped) == 1, "the backend ended")
        eventually(lambda: work.available() == 0, "not available")


def test_prometheus_scrapes_annotated_pods_and_can_be_frozen(
    control_plane: ControlPlane, api: ClusterApi, namespace: str, node: str, eventually: Eventually
) -> None:
    def query(url: str) -> list[Json]:
        with urllib.request.urlopen(f"{url}/api/v1/query?query=lab_demo", timeout=2) as answer:
            result: list[Json] = json.load(answer)["data"]["result"]
            return result

    with FakeKubelet(control_plane.kubeconfig, backend=PageServers()):
        work = Workload(api, namespace, deployment("a", replicas=2, gpus=1, group=node))
        eventually(lambda: work.available() == 2, "2 available")
        with PrometheusServer.start(control_plane.kubeconfig, scrape_interval_s=0.5, namespaces=[namespace]) as server:
            eventually(lambda: len(query(server.url)) == 2, "both pods scraped")
            labels = query(server.url)[0]["metric"]
            assert labels["pod"] in {pod["metadata"]["name"] for pod in work.pods()}
            assert (labels["namespace"], labels["node"]) == (namespace, node)
            assert (labels["medley_service"], labels["medley_variant"]) == ("chat", "small")
            server.pause()
            with pytest.raises(OSError, match="timed out"):
                query(server.url)
            server.resume()
            assert query(server.url)
        assert not server.directory.exists()


def test_lab_up_status_down(
    control_plane: ControlPlane,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    eventually: Eventually,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    parser = argparse.ArgumentParser()
    lab.register(parser.add_subparsers())

    def run(*words: str) -> tuple[int, Json]:
        args = parser.parse_args(["lab", *words, "-o", "json"])
        code = args.run(args)
        return code, json.loads(capsys.readouterr().out)

    assert run("status") == (1, {**run("status")[1], "state": "Down", "pid": 0})
    code, up = run("up", "--directory", str(tmp_path / "cluster"))
    try:
        assert (code, up["state"]) == (0, "Up")
        assert up["kubeconfig"].startswith(str(tmp_path / "cluster"))
        assert ClusterApi(Path(up["kubeconfig"])).exists(NODE_GROUPS_PATH)
        assert run("status") == (0, up)
        assert run("up")[1]["pid"] == up["pid"], "a second up finds the first"
    finally:
        code, down = run("down")
    assert (code, down["state"]) == (0, "Down")
    assert not (tmp_path / "cluster").exists()
    assert can_bind("127.0.0.1", port_of(up["url"]))
    eventually(lambda: processes_of(tmp_path / "cluster") == [], "no process is left")

    _, again = run("up")
    os.kill(again["pid"], signal.SIGKILL)
    eventually(lambda: run("status")[1]["state"] == "Dead", "a killed lab is told from one that is up")
    eventually(lambda: not Path(again["directory"]).exists(), "its files are gone all the same")
    assert run("down")[1]["state"] == "Down"
