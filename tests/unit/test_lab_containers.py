"""What runs in the lab's containers: the simulator takes what Medley renders, and traffic is told over HTTP."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from medley.actuation.deployments import render
from medley.api.convert import Resources
from medley.api.manifests import read_manifests
from medley.lab.kind_cluster import Image, KindCluster, build_and_bring, connect_or_create, reference
from medley.lab.kind_scene import MOST_NODES, KindScene
from medley.lab.load import LoadGenerator, Outcome, OutcomeStatus
from medley.lab.prometheus import scrape_configuration
from medley.lab.router import Target
from medley.lab.scene import speeds
from medley.lab.shared_nodes import group_label, takes_groups
from medley.lab.traces import TraceRequest
from medley.lab.traffic import Order, RemoteLoad, Traffic, order_body, outcome_row, parse_order, parse_outcome
from medley.lab.vllm_container import server_arguments, variant_of
from medley.lab.vllm_server import SimulatedPods
from medley.model.errors import UserError
from medley.model.objects import CapacityType
from medley.profiles.step import StepModel
from world import CHAT

ROOT = Path(__file__).parents[2]
FAST = StepModel(2.0, 0.01, 0.0, 0.001, 100_000)


def test_the_simulator_takes_the_arguments_that_medley_renders(chat: Resources) -> None:
    scene = KindScene([CHAT])
    service, engine = scene.resources.services[0], scene.resources.engines[0][1]
    pool = next(pool for pool in scene.resources.pools if pool.name == "l40s")
    spec = next(spec for spec in service.variants if spec.pool == "l40s")
    manifest = render(
        service, pool, "l40s", 1, spec=spec, capacity_type=CapacityType.ON_DEMAND, image=engine.image,
        args=list(engine.args or []), port=engine.port,
    )  # fmt: skip
    pod = manifest["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"lab.medley.dev/group-l40s": "true"}
    given, ready_after_s = server_arguments(pod["containers"][0]["args"], f"{manifest['metadata']['name']}-65f-x2k")
    values = dict(zip(given[::2], given[1::2], strict=True))
    assert values["--model-name"] == service.model_name
    assert values["--port"] == "8000"
    assert values["--max-model-len"] == "16384"
    assert StepModel(**json.loads(values["--profile-constants"])) == speeds(chat)["l40s"]
    assert ready_after_s == scene.settings.ready_delay_s


def test_the_pods_name_says_the_variant_and_another_name_is_refused() -> None:
    assert variant_of("chat-l4-65f-x2k", ["l4", "l40s"]) == "l4"
    assert variant_of("chat-a100-tp2-65f-x2k", ["a100", "a100-tp2"]) == "a100-tp2"
    with pytest.raises(UserError, match="none of the variants l4, l40s"):
        variant_of("chat-h100-65f-x2k", ["l4", "l40s"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": ""}, "model"),
        ({"requests": 3}, "requests"),
        ({"requests": [[0.0, 10]]}, r"requests\[0\]"),
        ({"requests": [[0.0, 10, 0]]}, r"requests\[0\]"),
        ({"requests": [[-1.0, 10, 1]]}, r"requests\[0\]"),
        ({"requests": [[float("nan"), 10, 1]]}, r"requests\[0\]"),
        ({"requests": [[2.0, 10, 1], [1.0, 10, 1]]}, r"requests\[1\]"),
    ],
)
def test_a_wrong_order_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    body = {**order_body(Order((TraceRequest(0.0, 10, 1),), "m")), **change}
    with pytest.raises(UserError, match=field):
        parse_order(body)


def test_outcomes_survive_the_way_through_json() -> None:
    refused = Outcome(1.5, 10, 0, math.nan, math.nan, "l4", OutcomeStatus.REFUSED)
    back = parse_outcome(json.loads(json.dumps(outcome_row(refused), allow_nan=False)))
    assert math.isnan(back.ttft_ms)
    assert math.isnan(back.tpot_ms)
    assert (back.at_s, back.variant, back.status) == (1.5, "l4", OutcomeStatus.REFUSED)


class Proxy:
    """As much of a ClusterApi as the load needs; the path of a Service is left out, as the API server's proxy does."""

    def __init__(self, url: str) -> None:
        self._url = url

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, json.dumps(body).encode())

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._call("GET", f"{path}?since={query['since']}")

    def _call(self, method: str, path: str, data: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(self._url + path.partition("/proxy")[2], data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found


@contextmanager
def served(traffic: Traffic) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[web.AppRunner, str]:
        runner = web.AppRunner(traffic.application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

    runner, url = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_trace_is_sent_from_afar_and_another_takes_its_place() -> None:
    engines = SimulatedPods()
    base = engines.start("a", "127.0.0.1", 0, model_name="m", step_model=FAST, max_model_len=1000, seed=1)
    target = Target("l4", base)
    traffic = Traffic(lambda order: LoadGenerator(order.trace, lambda _: target, model_name=order.model_name))
    try:
        with served(traffic) as url:
            short = tuple(TraceRequest(0.02 * number, 10, 3) for number in range(5))
            load = RemoteLoad(Proxy(url), "/services/chat:8080", Order(short, "m"))  # type: ignore[arg-type]
            assert math.isnan(load.elapsed_s)
            load.start()
            for _ in range(100):
                if len(load.outcomes()) == 5:
                    break
                threading.Event().wait(0.05)
            found = load.outcomes()
            assert [outcome.status for outcome in found] == [OutcomeStatus.OK] * 5
            assert {outcome.output_tokens for outcome in found} == {3}
            assert load.in_flight == 0
            assert load.elapsed_s > 0
            load.stop()
            other = RemoteLoad(Proxy(url), "/services/chat:8080", Order((TraceRequest(60.0, 10, 1),), "m"))  # type: ignore[arg-type]
            other.start()
            assert other.outcomes() == ()
            other.stop()
            with pytest.raises(urllib.error.HTTPError, match="400"):
                Proxy(url).create("/proxy/trace", {"model": "m"})
    finally:
        engines.close()


def test_prometheus_in_the_cluster_is_configured_as_the_one_here() -> None:
    documents = yaml.safe_load_all((ROOT / "hack" / "kind" / "prometheus.yaml").read_text())
    (config,) = [item for item in documents if item["kind"] == "ConfigMap"]
    assert yaml.safe_load(config["data"]["prometheus.yaml"]) == scrape_configuration(None, 1.0)


def test_a_cluster_that_kind_did_not_make_needs_a_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEDLEY_REGISTRY", raising=False)
    monkeypatch.delenv("MEDLEY_TAG", raising=False)
    with pytest.raises(UserError, match="MEDLEY_REGISTRY"):
        build_and_bring(KindCluster(tmp_path / "kubeconfig", ""), lambda _: None)
    monkeypatch.setenv("MEDLEY_REGISTRY", "registry.example/medley/")
    assert reference(Image.LAB) == "registry.example/medley/medley-lab:kind"
    monkeypatch.setenv("MEDLEY_TAG", "abc")
    assert reference(Image.LAB) == "registry.example/medley/medley-lab:abc"


@pytest.mark.parametrize(("context", "name"), [("kind-lab", "lab"), ("gke_prod", "")])
def test_the_context_says_whether_kind_made_the_cluster(
    context: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({"current-context": context}))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with connect_or_create(lambda _: None) as cluster:
        assert cluster == KindCluster(kubeconfig, name)


def test_a_kubeconfig_without_a_context_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{}")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(UserError, match="no current context"), connect_or_create(lambda _: None):
        pass


def test_only_engines_node_selectors_and_limits_are_other_than_in_the_example() -> None:
    for before, after in zip(read_manifests([CHAT]), KindScene([CHAT]).manifests, strict=True):
        changed = {key for key in after["spec"] if after["spec"][key] != before["spec"].get(key)}
        assert changed <= {"engine", "nodeSelector", "limits"}
        if after["kind"] == "GPUPool":
            assert after["spec"]["limits"] == {"nodes": min(before["spec"]["limits"]["nodes"], MOST_NODES)}


@pytest.mark.parametrize(
    ("node", "takes"),
    [
        ({"metadata": {}, "spec": {}, "status": {"capacity": {"cpu": "2"}}}, True),
        ({"metadata": {}, "spec": {"taints": [{"key": "a", "effect": "PreferNoSchedule"}]}, "status": {}}, True),
        ({"metadata": {}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}, "status": {}}, False),
        ({"metadata": {}, "spec": {"unschedulable": True}, "status": {}}, False),
        ({"metadata": {}, "spec": {}, "status": {"capacity": {"nvidia.com/gpu": "4"}}}, False),
        (
            {
                "metadata": {"labels": {group_label("l4"): "true"}},
                "spec": {},
                "status": {"capacity": {"nvidia.com/gpu": "4"}},
            },
            True,
        ),
    ],
)
def test_a_node_with_real_gpus_or_a_taint_is_left_alone(node: dict[str, Any], takes: bool) -> None:
    assert takes_groups(node) is takes
