"""The chart with the real helm: linted, rendered, refused where values are wrong, installed on a real API server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chart
import kubernetes_validate
import pytest
import rights_inventory
import yaml
from pydantic import ValidationError
from rights_inventory import INSTALLATIONS

from medley.actuation.cluster_api import ClusterApi
from medley.actuation.rights import RIGHTS, lease_rights, role_manifests
from medley.api.convert import Resources
from medley.api.crds import KINDS
from medley.controller.preflight import OLDEST_MINOR
from medley.cycle.decide import decide
from medley.lab.calls import differences, roles_of
from medley.lab.control_plane import ControlPlane
from medley.lab.tools import Tool, ensure
from medley.model.errors import TransientError
from medley.policy.prove import Prover
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.roleset import RoleSet
from medley.telemetry.exporter import Exporter
from rendered_chart import CHART, NAMESPACE, RELEASE, ROOT, Helm, by_text, rendered
from snapshots import snapshot, whole

pytestmark = pytest.mark.cluster

GOLDEN = ROOT / "tests" / "golden" / "chart"


def test_the_values_are_the_defaults_of_the_model() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    defaults = chart.Chart().model_dump(by_alias=True, exclude={"global_"}, exclude_none=True)
    assert values == defaults


def test_the_reference_lists_every_value_with_its_default() -> None:
    def paths(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
        out: dict[str, str] = {}
        for name, value in values.items():
            deeper = isinstance(value, dict) and value and not prefix.startswith("resources")
            out |= paths(value, f"{prefix}{name}.") if deeper else {prefix + name: json.dumps(value)}
        return out

    table = (ROOT / "docs" / "reference" / "chart.md").read_text()
    for path, default in paths(yaml.safe_load((CHART / "values.yaml").read_text())).items():
        if path != "affinity":
            assert f"| `{path}` | `{default}` |" in table


def test_lint_has_nothing_to_say(helm: Helm) -> None:
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 chart(s) linted, 0 chart(s) failed" in done.stdout


VARIATIONS = {
    "defaults": (),
    "everything": (
        "--set", "prometheus.url=http://prometheus.monitoring:9090",
        "--set", "scaleTargets[0].group=eks.amazonaws.com,scaleTargets[0].resource=nodegroups",
        "--set", "networkPolicy.enabled=true,crds.keep=false,logging.verbose=true,lease.name=planner",
        "--set", "image.repository=registry.example/medley",
        "--set", "image.digest=sha256:" + "ab" * 32,
        "--set", "commonLabels.team=serving,podLabels.tier=control,nodeSelector.pool=system",
        "--set", "serviceAccount.annotations.example=yes,priorityClassName=system-cluster-critical",
        "--set", "imagePullSecrets[0].name=pull,extraArgs[0]=--snapshot-dir=/snapshots",
        "--set", "extraEnv[0].name=TZ,extraEnv[0].value=UTC",
        "--set", "extraVolumes[0].name=snapshots,extraVolumes[0].emptyDir.medium=Memory",
        "--set", "extraVolumeMounts[0].name=snapshots,extraVolumeMounts[0].mountPath=/snapshots",
        "--set", "tolerations[0].operator=Exists",
        "--set", "namespaces={serving,batch}",
        "--set", "podMonitor.enabled=true,podMonitor.labels.release=prometheus",
    ),
    "access": (
        "--set", "access.enabled=true,namespaces={serving},access.proposer.url=http://llm.serving/v1",
        "--set", "access.proposer.model=llama,access.proposer.secretName=key,image.tag=1.2",
    ),
    "access-enforce": (
        "--set", "access.enabled=true,access.enforce=true,access.clusterRoles=true,namespaces={serving,batch}",
        "--set-string", "access.aws.account=111122223333",
        "--set", "access.aws.region=eu-west-1,access.aws.cluster=prod,access.aws.oidcIssuer=oidc.example/id/1",
    ),
    "bare": (
        "--set", "crds.enabled=false,rbac.create=false,serviceAccount.create=false,serviceAccount.name=mine",
        "--set", "replicaCount=1,topologySpread.enabled=false,podDisruptionBudget.enabled=false",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIATIONS)
def test_renders_are_as_they_were(helm: Helm, name: str) -> None:
    items = rendered(helm, *VARIATIONS[name])
    # The CRDs have golden files of their own: here only that they are there, and what the chart adds.
    for item in items:
        if item["kind"] == "CustomResourceDefinition":
            del item["spec"]
    text = yaml.safe_dump_all(items, sort_keys=False)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text(), "rendered otherwise: look at the difference, then run with UPDATE_GOLDEN=1"


@pytest.mark.parametrize("services", [(), ("serving", "batch")])
def test_the_roles_are_the_rights_in_the_code(helm: Helm, services: tuple[str, ...]) -> None:
    items = rendered(helm, *(("--set", f"namespaces={{{','.join(services)}}}") if services else ()))
    wanted = role_manifests("medley", NAMESPACE, (*RIGHTS, *lease_rights(NAMESPACE, "medley")), services)

    def rules(objects: list[dict[str, Any]]) -> list[Any]:
        return [(item["kind"], sorted(item["rules"], key=by_text)) for item in objects if "rules" in item]

    assert sorted(rules(items), key=by_text) == sorted(rules(wanted), key=by_text)
    assert bindings(items) == bindings(wanted)
    assert sum(item["kind"] == "CustomResourceDefinition" for item in items) == len(KINDS)


@pytest.mark.parametrize("name", list(INSTALLATIONS))
def test_the_roles_are_proved_equal_to_what_the_operator_calls(helm: Helm, name: str) -> None:
    installation = INSTALLATIONS[name]
    namespaces = ("--set", f"namespaces={{{','.join(installation.looks_after)}}}") if installation.looks_after else ()
    target = ("--set", "scaleTargets[0].group=lab.medley.dev,scaleTargets[0].resource=nodegroups")
    where = ("--namespace", installation.namespace)
    done = helm("template", installation.name, CHART, *where, *target, *namespaces)
    assert done.returncode == 0, done.stderr
    shipped = RoleSet(parse_manifest(done.stdout))
    # The chart brings the Lease.
    calls = [use for use in rights_inventory.read().calls[name] if (use.resource, use.verb) != ("leases", "create")]
    assert differences(roles_of(calls, installation), shipped, Prover()) == []
    fewer = [use for use in calls if use.resource != "pods"]
    (said,) = differences(roles_of(fewer, installation), shipped, Prover())
    assert said.startswith("allowed, and no recorded call needs it: list pods")


def bindings(objects: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    found = [item for item in objects if "roleRef" in item]
    return sorted((item["kind"], item["metadata"].get("namespace", ""), item["roleRef"]["kind"]) for item in found)


@pytest.mark.parametrize("version", [f"1.{minor}" for minor in range(OLDEST_MINOR, 38)])
def test_what_it_renders_is_valid_in_every_supported_version(helm: Helm, version: str) -> None:
    for variation in VARIATIONS.values():
        for item in rendered(helm, *variation):
            # A CRD's schema is recursive, and the API server checks it below; PodMonitor is not Kubernetes' own.
            if item["kind"] not in ("CustomResourceDefinition", "PodMonitor"):
                kubernetes_validate.validate(item, version, strict=True)


def test_the_plain_manifests_are_the_rendered_chart(helm: Helm, tmp_path: Path) -> None:
    target = tmp_path / "install.yaml"
    done = subprocess.run(
        ["make", "--no-print-directory", "manifests", f"MANIFESTS={target}"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    items = [item for item in yaml.safe_load_all(target.read_text()) if item]
    assert items[0] == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "medley-system"}}
    kinds = {item["kind"] for item in items}
    assert {"CustomResourceDefinition", "Deployment", "ClusterRole", "RoleBinding", "Lease"} <= kinds
    assert "Pod" not in kinds, "no test of helm's"


def test_pods_are_admitted_where_the_restricted_standard_is_enforced(
    helm: Helm, api: ClusterApi, namespace: str
) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})
    for item in rendered(helm):
        if item["kind"] in ("Deployment", "Pod"):
            template = item["spec"]["template"] if item["kind"] == "Deployment" else item
            template["spec"].pop("serviceAccountName", None)
            api.create(
                f"/api/v1/namespaces/{namespace}/pods",
                {
                    "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
                    "metadata": {"name": f"restricted-{item['kind'].lower()}"},
                },
            )  # fmt: skip


WRONG = (
    ("replicaCount=-1", "replicaCount"),
    ("replicaCount=two", "replicaCount"),
    ("replicaCount=9", "replicaCount"),
    ("replicas=2", ""),
    ("image.repository=", "image/repository"),
    ("image.repository=medley@sha256:1", "image/repository"),
    ("image.tag=a b", "image/tag"),
    ("image.digest=sha256:12", "image/digest"),
    ("image.pullPolicy=Sometimes", "image/pullPolicy"),
    ("image.name=medley", "image"),
    ("prometheus.url=prometheus:9090", "prometheus/url"),
    ("prometheus=http://prometheus:9090", "prometheus"),
    ("planning.intervalSeconds=0", "planning/intervalSeconds"),
    ("planning.intervalSeconds=15s", "planning/intervalSeconds"),
    ("planning.stabilisationSeconds=-300", "planning/stabilisationSeconds"),
    ("planning.windowSeconds=100000", "planning/windowSeconds"),
    ("planning.changeCost=11", "planning/changeCost"),
    ("planning.stabilizationSeconds=300", "planning"),
    ("scaleTargets[0].resource=nodegroups", "scaleTargets/0"),
    ("scaleTargets[0].group=eks.amazonaws.com,scaleTargets[0].resource=node/groups", "scaleTargets/0/resource"),
    ("crds.keep=perhaps", "crds/keep"),
    ("namespaces=serving", "namespaces"),
    ("namespaces={Not_A_Name}", "namespaces/0"),
    ("namespaces={serving,serving}", "namespaces"),
    ("serviceAccount.name=Not_A_Name", "serviceAccount/name"),
    ("lease.name=a.b", "lease/name"),
    ("podMonitor.interval=often", "podMonitor/interval"),
    ("networkPolicy.prometheusPort=70000", "networkPolicy/prometheusPort"),
    ("networkPolicy.apiServerPorts[0]=https", "networkPolicy/apiServerPorts/0"),
    ("podDisruptionBudget.minAvailable=half", "podDisruptionBudget/minAvailable"),
    ("extraArgs[0]=verbose", "extraArgs/0"),
    ("resources.request.cpu=1", "resources"),
    ("commonLabels.team=a b", "commonLabels/team"),
)


@pytest.mark.parametrize(("value", "where"), WRONG, ids=[value for value, _ in WRONG])
def test_wrong_values_are_refused_by_name(helm: Helm, value: str, where: str) -> None:
    done = helm("template", RELEASE, CHART, "--set", value)
    assert done.returncode != 0
    assert f"- at '{'/' if where else ''}{where}': " in done.stderr, done.stderr


def test_the_model_refuses_what_the_schema_refuses() -> None:
    with pytest.raises(ValidationError, match="replicas"):
        chart.Chart.model_validate({"replicas": 2})


def test_install_upgrade_rollback_and_uninstall_with_and_without_crds(
    helm: Helm, control_plane: ControlPlane, api: ClusterApi, eventually: Callable[..., None]
) -> None:
    def run(*arguments: str | Path) -> str:
        done = helm(*arguments, "--namespace", NAMESPACE, kubeconfig=control_plane.kubeconfig)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deployment() -> dict[str, Any]:
        return api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/medley")["spec"]

    def left() -> list[str]:
        paths = (
            f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
            f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles",
            f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings",
            f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        )
        owned = {"labelSelector": f"app.kubernetes.io/instance={RELEASE}"}
        found = [(path.rsplit("/", 1)[1], item) for path in paths for item in api.items(path, **owned)]
        return [f"{plural}/{item['metadata']['name']}" for plural, item in found]

    def pools_there() -> list[str]:
        """A CRD that has just come back answers 429 for a moment."""
        found: list[list[str]] = []

        def listed() -> bool:
            with contextlib.suppress(TransientError):
                found.append([item["metadata"]["name"] for item in api.items("/apis/medley.dev/v1alpha1/gpupools")])
            return bool(found)

        eventually(listed, "GPUPools are served")
        return found[-1]

    crds = [f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.crd_name}" for kind in KINDS]
    for path in crds:  # what other tests have put there belongs to no release
        api.delete(path)
    eventually(lambda: not any(api.exists(path) for path in crds), "the CRDs of other tests are gone")
    said = run("install", RELEASE, CHART, "--create-namespace")
    assert "No Prometheus is named" in said
    assert deployment()["replicas"] == 2
    assert pools_there() == []
    url = "http://prometheus.monitoring:9090"
    run("upgrade", RELEASE, CHART, "--set", f"prometheus.url={url},replicaCount=3")
    assert f"--prometheus={url}" in deployment()["template"]["spec"]["containers"][0]["args"]
    run("rollback", RELEASE, "1")
    assert deployment()["replicas"] == 2
    history = json.loads(run("history", RELEASE, "-o", "json"))
    assert [item["revision"] for item in history] == [1, 2, 3]
    pool = {
        "apiVersion": "medley.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": "kept"},
        "spec": {
            "instanceType": "g6.xlarge",
            "provider": {"scale": {"apiVersion": "lab.medley.dev/v1alpha1", "kind": "NodeGroup", "name": "kept"}},
        },
    }  # fmt: skip
    pools = "/apis/medley.dev/v1alpha1/gpupools"
    api.create(pools, pool)
    run("uninstall", RELEASE, "--wait")
    assert left() == [f"customresourcedefinitions/{kind.crd_name}" for kind in sorted(KINDS, key=lambda k: k.crd_name)]
    assert pools_there() == ["kept"], "objects of kept CRDs stay"
    run("install", RELEASE, CHART, "--set", "crds.keep=false")
    assert pools_there() == ["kept"], "a later install takes them up"
    run("uninstall", RELEASE, "--wait")
    assert left() == []


def test_promtool_likes_the_metrics(chat: Resources) -> None:
    exporter = Exporter()
    snap = snapshot(chat, running={"l4": 2}, samples=whole(chat, {"l4": 2}, 8.0), past_rps=8.0)
    exporter.cycle(0.2, snap, decide(snap))
    promtool = ensure([Tool.PROMTOOL], lambda line: print(line, file=sys.__stderr__, flush=True))[Tool.PROMTOOL]
    done = subprocess.run([promtool, "check", "metrics"], input=exporter.text(), capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
