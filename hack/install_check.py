"""helm install → service applied → first Deployment scaled → helm uninstall, on a real API server; then one JSON line.

    make install-check          starts a control plane, or uses the one that MEDLEY_KUBECONFIG names

There is no container runtime: the fake kubelet runs the command of the operator's pods as processes of this checkout,
with the token of their ServiceAccount, and a pod is Ready when its /readyz says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from medley.actuation.cluster_api import ClusterApi
from medley.api.crds import KINDS
from medley.lab.control_plane import connect_or_start
from medley.lab.fake_kubelet import FakeKubelet
from medley.lab.nodes import GpuNode, create_node, remove_node
from medley.lab.operator_pods import OperatorPods
from medley.lab.scene import apply, path_of
from medley.lab.tools import Tool, ensure

ROOT = Path(__file__).parents[1]
RELEASE, NAMESPACE, SERVICES, NODE = "medley", "medley-system", "default", "install-check"
VALUES = (
    "--set", f"namespaces={{{SERVICES}}},crds.keep=false,planning.intervalSeconds=2",
    "--set", "tolerations[0].key=nvidia.com/gpu,tolerations[0].operator=Exists",
)  # fmt: skip
KINDS_LEFT = (
    "/api/v1/serviceaccounts", "/apis/apps/v1/deployments", "/apis/policy/v1/poddisruptionbudgets",
    "/apis/coordination.k8s.io/v1/leases", "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/rbac.authorization.k8s.io/v1/roles", "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)  # fmt: skip


def say(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


def wait(predicate: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Until it holds."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            raise SystemExit(f"install-check: not within {timeout_s:g} s: {what}")
        time.sleep(0.1)


def example(namespace: str = SERVICES) -> list[dict[str, Any]]:
    """The example in Auto with a static workload, in a namespace, and pools that nobody need scale."""
    manifests = [item for item in yaml.safe_load_all((ROOT / "examples" / "chat.yaml").read_text()) if item]
    for manifest in manifests:
        if manifest["kind"] == "GPUPool":
            manifest["spec"]["provider"] = {"external": {}}
        if manifest["kind"] == "LLMService":
            manifest["metadata"]["namespace"] = namespace
            points = [{"inputTokens": 500, "outputTokens": 150, "requestsPerSecond": 4}]
            manifest["spec"] |= {"mode": "Auto", "workload": {"static": {"points": points}}}
    return manifests


def left_over(api: ClusterApi) -> list[str]:
    """Objects of the release, and whatever else is called Medley's."""
    found = []
    for path in KINDS_LEFT:
        for item in api.items(path):
            metadata = item["metadata"]
            ours = (metadata.get("labels") or {}).get("app.kubernetes.io/instance") == RELEASE
            if ours or "medley" in metadata["name"].replace("lab.medley.dev", ""):
                found.append(f"{path.rsplit('/', 1)[1]}/{metadata['name']}")
    return found


def main() -> int:
    """Run the check."""
    helm_binary = ensure([Tool.HELM], say)[Tool.HELM]
    with connect_or_start(progress=say) as cluster, tempfile.TemporaryDirectory() as directory:
        api = cluster.api()
        before = left_over(api)
        if before:
            raise SystemExit(f"install-check: the cluster has a Medley already: {', '.join(before)}")

        def helm(*arguments: str | Path) -> None:
            say(f"helm {arguments[0]}")
            command = [str(part) for part in (helm_binary, *arguments, "-n", NAMESPACE)]
            environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
            if done.returncode != 0:
                say(operators.log)
                raise SystemExit(f"install-check: {' '.join(command)}: {done.stdout}{done.stderr}")

        operators = OperatorPods(cluster.kubeconfig, Path(directory))
        create_node(api, GpuNode(NODE, 8, "NVIDIA-L4", "lab"))
        kubelet = FakeKubelet(cluster.kubeconfig, backend=operators).start()
        try:
            began_s = time.monotonic()
            helm("install", RELEASE, ROOT / "charts" / "medley", "--create-namespace", *VALUES, "--wait")
            installed_s = time.monotonic() - began_s
            for manifest in example():
                apply(api, manifest)
            began_s = time.monotonic()
            deployments = f"/apis/apps/v1/namespaces/{SERVICES}/deployments"
            wait(lambda: any(item["spec"].get("replicas") for item in api.items(deployments)), "a Deployment is scaled")
            scaled_s = time.monotonic() - began_s
            # Services go first: once their CRD is gone, the garbage collector cannot know that an owner is.
            api.delete(path_of(next(item for item in example() if item["kind"] == "LLMService")))
            wait(lambda: not api.items(deployments), "what it ran is gone with the service")
            helm("uninstall", RELEASE, "--wait")
            crds = [f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.crd_name}" for kind in KINDS]
            wait(lambda: not any(api.exists(path) for path in crds), "the CRDs are gone")
            left = left_over(api)
            for name in left:
                say(f"left over: {name}")
        finally:
            kubelet.stop()
            operators.close()
            remove_node(api, NODE)
            api.close()
    figures = {"installed_s": installed_s, "scaled_s": scaled_s, "left_over_objects": len(left)}
    print(json.dumps(figures))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
