"""The chart's part for AccessPolicies: off by default; its rights, its refusals, and who may set Enforce."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from medley.actuation.access_rights import CLUSTER_LOOKER_RIGHTS, GRANTABLE_RIGHTS, LOOKER_RIGHTS, WRITER_RIGHTS
from medley.actuation.cluster_api import ApiError, ClusterApi
from medley.actuation.rights import GROUP, Right, Scope, lease_rights, role_manifests
from medley.cli.main import main
from medley.lab.account import grant, kubeconfig_for
from medley.lab.control_plane import ControlPlane
from medley.lab.scene import install_crds
from medley.model.objects import API_VERSION
from rendered_chart import CHART, NAMESPACE, RELEASE, Helm, by_text, rendered

pytestmark = pytest.mark.cluster
Json = dict[str, Any]
ON = ("--set", "access.enabled=true,namespaces={serving}")
ENFORCE = ("--set", "access.enabled=true,access.enforce=true,namespaces={serving}")


def of_access(items: list[Json]) -> list[Json]:
    return [
        item for item in items if item["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "medley-access"
    ]


def test_it_is_off_by_default(helm: Helm) -> None:
    # But for who may set what it would act on: that comes with the CRDs, so that nothing is set before.
    kinds = {item["kind"] for item in of_access(rendered(helm))}
    assert kinds == {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert of_access(rendered(helm, "--set", "crds.enabled=false")) == []


@pytest.mark.parametrize(
    ("arguments", "rights"),
    [
        (ON, LOOKER_RIGHTS),
        (ENFORCE, (*LOOKER_RIGHTS, *WRITER_RIGHTS, *GRANTABLE_RIGHTS)),
        ((*ON, "--set", "access.clusterRoles=true"), (*LOOKER_RIGHTS, *CLUSTER_LOOKER_RIGHTS)),
    ],
    ids=["suggest", "enforce", "cluster roles"],
)
def test_its_roles_are_the_rights_in_the_code(helm: Helm, arguments: tuple[str, ...], rights: Any) -> None:
    items = of_access(rendered(helm, *arguments))
    name = "medley-access"
    wanted = role_manifests(name, NAMESPACE, (*rights, *lease_rights(NAMESPACE, name)), ["serving"])

    def rules(objects: list[Json]) -> list[Any]:
        return sorted((sorted(item["rules"], key=by_text) for item in objects if "rules" in item), key=by_text)

    assert rules(items) == rules(wanted)
    subjects = [subject for item in items for subject in item.get("subjects", [])]
    assert subjects
    assert all(subject == {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE} for subject in subjects)


def test_the_policy_writer_is_inside_the_danger_ceiling(
    helm: Helm,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # But for who may write roles at all, which is what it is for: the API server lets it give only what it has.
    document, spec = tmp_path / "roles.yaml", tmp_path / "spec.yaml"
    roles = [item for item in of_access(rendered(helm, *ENFORCE)) if "rules" in item or "roleRef" in item]
    document.write_text(yaml.safe_dump_all(roles))
    spec.write_text('{"floor": []}')
    code = main(
        ["policy", "verify", "-d", str(document), "-s", str(spec), "--ceiling", "kubernetes-danger", "-o", "json"]
    )
    report = json.loads(capsys.readouterr().out)
    assert (code, report["verdict"], report["witnesses"]) == (0, "Satisfied", [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "access.enabled=true,access.enforce=true"), "access.enforce needs namespaces"),
        ((*ON, "--set", "access.aws.region=eu-west-1"), "account, region and cluster go together"),
        ((*ON, "--set", "access.proposer.url=http://llm/v1"), "needs access.proposer.model"),
        ((*ON, "--set", "access.serviceAccount.create=false"), "access.serviceAccount.name is needed"),
        ((*ON, "--set", "access.interval=3"), "access"),
        ((*ON, "--set", "access.intervalSeconds=0"), "access/intervalSeconds"),
        ((*ON, "--set-string", "access.aws.account=12"), "access/aws/account"),
        ((*ON, "--set", "access.aws.trust=anybody"), "access/aws/trust"),
        ((*ON, "--set", "access.aws.oidcIssuer=https://oidc.example"), "access/aws/oidcIssuer"),
        ((*ON, "--set", "access.proposer.url=llm"), "access/proposer/url"),
        ((*ON, "--set", "access.proposer.perHour=-1"), "access/proposer/perHour"),
    ],
)
def test_what_does_not_go_together_is_refused(helm: Helm, arguments: tuple[str, ...], said: str) -> None:
    done = helm("template", RELEASE, CHART, *arguments)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.fixture
def admission(helm: Helm, api: ClusterApi) -> Iterator[None]:
    """The chart's admission policy, in force."""
    install_crds(api)
    root = "/apis/admissionregistration.k8s.io/v1"
    made = []
    for item in of_access(rendered(helm, *ENFORCE)):
        if item["kind"].startswith("ValidatingAdmission"):
            plural = (
                "validatingadmissionpolicies"
                if item["kind"].endswith("Policy")
                else "validatingadmissionpolicybindings"
            )
            api.create(f"{root}/{plural}", item)
            made.append(f"{root}/{plural}/{item['metadata']['name']}")
    assert len(made) == 2
    yield
    for path in made:
        api.delete(path)


def test_enforce_is_for_those_who_may_escalate_roles(
    admission: None, control_plane: ControlPlane, api: ClusterApi, namespace: str, tmp_path: Path, eventually: Any
) -> None:
    edits = [
        Right(GROUP, plural, ("create", "patch"), "writes them", scope=Scope.SERVICES)
        for plural in ("accesspolicies", "llmservices")
    ]
    grant(api, namespace, "editor", edits, [namespace])
    editor = ClusterApi(kubeconfig_for(api, control_plane.kubeconfig, tmp_path / "kubeconfig", namespace, "editor"))
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/accesspolicies"

    def policy(name: str, mode: str) -> Json:
        spec = {"roleRef": {"name": "a"}, "accessSpec": {"floor": []}, "mode": mode}
        head = {"apiVersion": API_VERSION, "kind": "AccessPolicy"}
        return {**head, "metadata": {"name": name, "namespace": namespace}, "spec": spec}

    def refused(client: ClusterApi, number: int) -> bool:
        try:
            client.create(path, policy(f"try-{number}", "Enforce"))
        except ApiError as error:
            return "takes the right to escalate roles" in str(error)
        return False

    tries = iter(range(1000))
    # The policy and the role are seen a moment after they are written.
    eventually(lambda: refused(editor, next(tries)), "Enforce is refused", timeout_s=20.0)
    editor.create(path, policy("suggest", "Suggest"))
    with pytest.raises(ApiError, match="use Suggest"):
        editor.patch(f"{path}/suggest", {"spec": {"mode": "Enforce"}})
    # Who may do it anyway may set it, and others may then touch what is not the spec.
    api.create(path, policy("enforced", "Enforce"))
    editor.patch(f"{path}/enforced", {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(ApiError, match="use Suggest"):
        editor.patch(f"{path}/enforced", {"spec": {"roleRef": {"name": "b"}}})
    # What a service reaches in the cloud is made from its spec.access: the same right.
    services = f"/apis/{API_VERSION}/namespaces/{namespace}/llmservices"
    spec = {"model": {"name": "m"}, "slo": {"timePerOutputTokenMs": 120}, "pools": ["l4"]}
    access = {"serviceAccountName": "chat", "modelUri": "s3://payroll/all"}
    chat = {"apiVersion": API_VERSION, "kind": "LLMService", "metadata": {"name": "chat", "namespace": namespace}}
    editor.create(services, {**chat, "spec": spec})
    with pytest.raises(ApiError, match="takes the right to escalate roles"):
        editor.patch(f"{services}/chat", {"spec": {"access": access}})
    api.patch(f"{services}/chat", {"spec": {"access": access}})
    editor.patch(f"{services}/chat", {"spec": {"mode": "Auto"}})
    editor.close()
