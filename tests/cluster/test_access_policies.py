"""AccessPolicies on a real API server: drift of a generated role is found, blamed, repaired, proved and written.

The process runs under the rights that an installation gives it, and no others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medley.actuation.access_rights import GRANTABLE_RIGHTS, LOOKER_RIGHTS, WRITER_RIGHTS
from medley.actuation.cluster_api import ApiError, ClusterApi, PatchType
from medley.actuation.roles import ROOT, subject_review
from medley.controller.access.generated import GeneratedSources
from medley.controller.access.loop import AccessLoop, AccessSettings
from medley.controller.access.reviewer import ProcessReviewer
from medley.controller.access.sources import Sources
from medley.controller.preflight import preflight_access
from medley.lab.account import grant, kubeconfig_for
from medley.lab.control_plane import ControlPlane
from medley.lab.scene import apply, install_crds
from medley.model.objects import API_VERSION, ServiceKey
from medley.policy.generate import Kubernetes, RouterNeeds, ServiceNeeds
from medley.policy.rbac.request import Request, service_account

pytestmark = pytest.mark.cluster
Json = dict[str, Any]

SERVICE: Json = {
    "model": {"name": "example/llm-8b"},
    "slo": {"timePerOutputTokenMs": 120},
    "pools": ["l4"],
}
NAME = "chat-routing-reader"
RULE: Json = {
    "apiGroups": [""],
    "resources": ["configmaps"],
    "resourceNames": ["chat-routing"],
    "verbs": ["get", "watch", "patch"],
}


def no_iam() -> Any:
    raise AssertionError("IAM is not asked")


@pytest.fixture(scope="module")
def reviewer() -> Iterator[ProcessReviewer]:
    made = ProcessReviewer(60.0)
    yield made
    made.close()


class Place:
    """A namespace with a service, its router's roles, an AccessPolicy, and who looks after that."""

    def __init__(
        self, api: ClusterApi, control_plane: ControlPlane, namespace: str, tmp_path: Path, reviewer: ProcessReviewer
    ) -> None:
        self.api, self.namespace, self.reviewer = api, namespace, reviewer
        self.rights = (*LOOKER_RIGHTS, *WRITER_RIGHTS, *GRANTABLE_RIGHTS)
        grant(api, namespace, "writer", self.rights, [namespace])
        self.writer = ClusterApi(
            kubeconfig_for(api, control_plane.kubeconfig, tmp_path / "kubeconfig", namespace, "writer")
        )
        self.create("LLMService", "chat", SERVICE)
        self.account = {"kind": "ServiceAccount", "name": "router", "namespace": namespace}
        (part,) = Kubernetes().service(
            ServiceNeeds(ServiceKey(namespace, "chat"), router=RouterNeeds("router", "chat-routing"))
        )
        for item in part.document:
            plural = {"ServiceAccount": "serviceaccounts", "Role": "roles", "RoleBinding": "rolebindings"}[item["kind"]]
            root = "/api/v1" if item["kind"] == "ServiceAccount" else ROOT
            api.create(f"{root}/namespaces/{namespace}/{plural}", item)
        self.loops: dict[bool, AccessLoop] = {}
        for writes in (True, False):
            settings = AccessSettings(1.0, (namespace,), writes=writes)
            sources = Sources(self.writer, no_iam, GeneratedSources(self.writer, None))
            self.loops[writes] = AccessLoop(self.writer, sources, reviewer, settings)

    def create(self, kind: str, name: str, spec: Json) -> Json:
        metadata = {"name": name, "namespace": self.namespace}
        return apply(self.api, {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})

    def policy(self, mode: str = "Enforce", **spec: Any) -> None:
        generated = {"generated": {"service": "chat", "routerAccount": "router"}} if not spec else {}
        self.create("AccessPolicy", "router", {**generated, "mode": mode, **spec})

    def look(self, *, writes: bool = True) -> Json:
        assert self.loops[writes].look() == ""
        return self.status()

    def status(self) -> Json:
        path = f"/apis/{API_VERSION}/namespaces/{self.namespace}/accesspolicies/router"
        return dict(self.api.get(path).get("status") or {})

    def condition(self, name: str = "Written") -> tuple[str, str]:
        (found,) = [item for item in self.status()["conditions"] if item["type"] == name]
        return found["status"], found["reason"]

    def path(self, plural: str = "roles", name: str = NAME) -> str:
        return f"{ROOT}/namespaces/{self.namespace}/{plural}/{name}"

    def rules(self) -> list[Json]:
        return list(self.api.get(self.path()).get("rules") or [])

    def set_rules(self, *rules: Json) -> None:
        self.api.patch(self.path(), {"rules": list(rules)}, PatchType.MERGE)

    def allowed(self, verb: str, resource: str, name: str = "", account: str = "router", group: str = "") -> bool:
        caller = service_account(self.namespace, account)
        resource, _, subresource = resource.partition("/")
        asked = subject_review(Request(caller, verb, group, resource, subresource, name, self.namespace))
        answer = self.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", asked)
        return bool(answer["status"].get("allowed"))

    def events(self) -> list[tuple[str, str]]:
        items = self.api.items(f"/api/v1/namespaces/{self.namespace}/events")
        return [(item["reason"], item["message"]) for item in items if item["involvedObject"]["kind"] == "AccessPolicy"]


@pytest.fixture
def place(
    api: ClusterApi, control_plane: ControlPlane, namespace: str, tmp_path: Path, reviewer: ProcessReviewer
) -> Iterator[Place]:
    install_crds(api)
    made = Place(api, control_plane, namespace, tmp_path, reviewer)
    eventually_allowed(made)
    yield made
    made.writer.close()


def eventually_allowed(place: Place) -> None:
    deadline = time.monotonic() + 10.0
    while not place.allowed("create", "subjectaccessreviews", account="writer", group="authorization.k8s.io"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def bind(place: Place, *subjects: Json) -> None:
    place.api.patch(place.path("rolebindings"), {"subjects": list(subjects)}, PatchType.MERGE)


def secrets(place: Place) -> None:
    place.set_rules(RULE, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]})


def all_verbs(place: Place) -> None:
    place.set_rules({**RULE, "verbs": ["*"]})


def all_names(place: Place) -> None:
    place.set_rules({key: value for key, value in RULE.items() if key != "resourceNames"})


def more_resources(place: Place) -> None:
    place.set_rules({**RULE, "resources": ["configmaps", "pods/exec"]})


def all_groups(place: Place) -> None:
    place.set_rules({**RULE, "apiGroups": ["*"], "resources": ["*"]})


def lost_verb(place: Place) -> None:
    place.set_rules({**RULE, "verbs": ["get", "patch"]})


def no_rules(place: Place) -> None:
    place.set_rules()


def another_subject(place: Place) -> None:
    bind(place, place.account, {"kind": "Group", "name": "system:authenticated", "apiGroup": ROOT.split("/")[2]})


def no_subject(place: Place) -> None:
    bind(place)


def second_binding(place: Place) -> None:
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "backdoor", "namespace": place.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
        "subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    place.api.create(f"{ROOT}/namespaces/{place.namespace}/rolebindings", body)


def no_binding(place: Place) -> None:
    place.api.delete(place.path("rolebindings"))


def no_role(place: Place) -> None:
    place.api.delete(place.path())


def nothing_left(place: Place) -> None:
    place.api.delete(place.path("rolebindings"))
    place.api.delete(place.path())


DAMAGE: tuple[Callable[[Place], None], ...] = (
    secrets,
    all_verbs,
    all_names,
    more_resources,
    all_groups,
    lost_verb,
    no_rules,
    another_subject,
    no_subject,
    second_binding,
    no_binding,
    no_role,
    nothing_left,
)


def as_generated(place: Place) -> None:
    """By real requests: exactly the floor goes through."""
    deadline = time.monotonic() + 5.0
    while not all(place.allowed(verb, "configmaps", "chat-routing") for verb in RULE["verbs"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for verb, resource, name in (
        ("get", "secrets", "any"),
        ("delete", "configmaps", "chat-routing"),
        ("get", "configmaps", "other"),
        ("list", "configmaps", ""),
        ("create", "pods/exec", "p"),
        ("get", "pods", "p"),
    ):
        assert not place.allowed(verb, resource, name), (verb, resource, name)
    assert not place.allowed("get", "configmaps", "chat-routing", account="default")
    mallory = Request(
        service_account(place.namespace, "x"), "get", "", "configmaps", "", "chat-routing", place.namespace
    )
    review = subject_review(mallory)
    review["spec"] = {**review["spec"], "user": "mallory", "groups": ["system:authenticated"]}
    answer = place.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert not answer["status"].get("allowed")


def test_the_generated_role_lets_the_floor_through_and_nothing_else_by_the_routers_own_requests(
    place: Place, control_plane: ControlPlane, tmp_path: Path
) -> None:
    maps = f"/api/v1/namespaces/{place.namespace}/configmaps"
    for name in ("chat-routing", "other"):
        place.api.create(maps, {"metadata": {"name": name}, "data": {"a": "b"}})
    own = kubeconfig_for(place.api, control_plane.kubeconfig, tmp_path / "router", place.namespace, "router")
    router = ClusterApi(own)
    as_generated(place)
    assert router.get(f"{maps}/chat-routing")["data"] == {"a": "b"}
    router.patch(f"{maps}/chat-routing", {"metadata": {"annotations": {"medley.dev/router-acknowledged": "{}"}}})
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    for attempt in (
        lambda: router.get(f"{maps}/other"),
        lambda: router.get(maps),
        lambda: router.delete(f"{maps}/chat-routing"),
        lambda: router.create(maps, {"metadata": {"name": "third"}}),
        lambda: router.get(f"/api/v1/namespaces/{place.namespace}/secrets"),
        lambda: router.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"),
        lambda: router.create(f"/api/v1/namespaces/{place.namespace}/pods", pod),
        lambda: router.patch(place.path(), {"rules": []}),
        lambda: router.get("/api/v1/nodes"),
    ):
        with pytest.raises(ApiError) as error:
            attempt()
        assert error.value.status == 403
    router.close()


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda found: found.__name__)
def test_damage_is_found_at_the_next_look_and_repaired(place: Place, damage: Callable[[Place], None]) -> None:
    place.policy()
    damage(place)
    status = place.look()
    assert status["verdict"] == "Violated"
    assert status["counterexamples"]
    assert status["repair"]["edits"]
    assert status["proof"]["of"] == "Proposal"
    assert status["proof"]["engines"] == ["B", "C"]
    assert place.condition() == ("True", "Written")
    status = place.look()
    assert status["verdict"] == "Satisfied"
    assert place.condition() == ("True", "Checked")
    assert status["previous"]["checked"]
    as_generated(place)


def test_what_is_generated_is_satisfied_and_left_alone(place: Place) -> None:
    place.policy()
    status = place.look()
    assert (status["verdict"], status["proof"]["of"], status["proof"]["engines"]) == (
        "Satisfied",
        "Document",
        ["B", "C"],
    )
    assert place.condition() == ("True", "NothingToDo")
    assert place.rules() == [RULE]


def test_suggest_proposes_and_writes_nothing(place: Place) -> None:
    place.policy("Suggest")
    secrets(place)
    damaged = place.rules()
    status = place.look()
    assert (status["verdict"], place.condition()) == ("Violated", ("False", "Proposed"))
    (found,) = [one for one in status["counterexamples"] if "secrets" in one["request"]]
    assert f"Role {place.namespace}/{NAME} rules[1]" in found["blamed"][0]
    assert status["repair"]["edits"] == [f"remove Role {place.namespace}/{NAME} rules[1]"]
    assert "resourceNames" in status["repair"]["document"]
    assert place.rules() == damaged
    assert any(reason == "Violated" for reason, _ in place.events())
    # The service says it too, beside what the planning loop says there.
    service = place.api.get(f"/apis/{API_VERSION}/namespaces/{place.namespace}/llmservices/chat")
    (told,) = service["status"]["conditions"]
    assert (told["type"], told["status"], told["reason"]) == ("AccessVerified", "False", "Violated")


def test_enforce_without_the_policy_writer_says_so(place: Place) -> None:
    place.policy()
    secrets(place)
    place.look(writes=False)
    assert place.condition() == ("False", "WriterNotInstalled")
    assert len(place.rules()) == 2


def test_events_and_status_settle(place: Place) -> None:
    place.policy()
    secrets(place)
    for _ in range(3):
        place.look()
    before = place.api.get(f"/apis/{API_VERSION}/namespaces/{place.namespace}/accesspolicies/router")
    events = place.events()
    for _ in range(3):
        place.look()
    after = place.api.get(f"/apis/{API_VERSION}/namespaces/{place.namespace}/accesspolicies/router")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert place.events() == events
    assert {reason for reason, _ in events} >= {"Violated", "Written"}


def test_where_z3_does_not_answer_nothing_is_written(place: Place) -> None:
    place.policy()
    place.look()
    secrets(place)
    damaged = place.rules()
    slow = ProcessReviewer(0.001)  # the process is killed before it can answer
    try:
        settings = AccessSettings(1.0, (place.namespace,), writes=True)
        sources = Sources(place.writer, no_iam, GeneratedSources(place.writer, None))
        AccessLoop(place.writer, sources, slow, settings).look()
    finally:
        slow.close()
    assert place.status()["verdict"] == "Unknown"
    assert place.condition("Verified") == ("Unknown", "NotReviewed")
    assert place.rules() == damaged


def test_the_writer_can_give_nothing_that_it_does_not_have(place: Place) -> None:
    # Whatever a spec asks for: the API server is the boundary.
    floor = {
        "id": "too-much",
        "subject": place.account,
        "verbs": ["get"],
        "apiGroups": "apps",
        "resources": "deployments",
        "namespaces": place.namespace,
    }
    place.policy(roleRef={"name": NAME}, accessSpec={"floor": [floor]})
    status = place.look()
    assert status["verdict"] == "Violated"
    assert place.condition() == ("False", "WriteFailed")
    assert place.rules() == [RULE]


def test_enforce_holds_what_it_writes_to_the_danger_ceiling(place: Place) -> None:
    floor = {
        "id": "secrets",
        "subject": place.account,
        "verbs": ["get"],
        "apiGroups": "",
        "resources": "secrets",
        "namespaces": place.namespace,
    }
    place.policy(roleRef={"name": NAME}, accessSpec={"floor": [floor]})
    place.look()
    assert place.condition() == ("False", "Contradiction")
    assert place.rules() == [RULE]


def denying(place: Place) -> None:
    """Another authorizer denies what the roles give: a stand-in for it, as this API server has none that does."""
    create = place.writer.create

    def asked(path: str, body: Json) -> Json:
        answer = create(path, body)
        if path.endswith("/subjectaccessreviews"):
            answer["status"]["allowed"] = False
        return answer

    place.writer.create = asked  # type: ignore[method-assign]


def test_a_document_is_taken_back_when_its_floor_fails_and_is_not_written_again(place: Place) -> None:
    place.policy()
    all_names(place)
    damaged = place.rules()
    place.look()
    assert place.rules() == [RULE]
    denying(place)
    status = place.look()
    assert place.condition() == ("False", "RolledBack")
    assert place.rules() == damaged
    assert status["held"]
    place.look()
    assert place.condition() == ("False", "Held")
    assert place.rules() == damaged
    # Neither a label nor a note changes that; another spec does.
    place.api.patch(place.path(), {"metadata": {"labels": {"touched": "yes"}, "annotations": {"a": "b"}}})
    place.look()
    assert place.condition() == ("False", "Held")
    place.api.delete(f"/apis/{API_VERSION}/namespaces/{place.namespace}/accesspolicies/router")
    place.policy()
    place.look()
    assert place.condition() == ("True", "Written")


@pytest.mark.parametrize("change", ["mode", "identity", "spec"])
def test_a_roll_back_needs_what_a_write_needs(place: Place, change: str) -> None:
    place.policy()
    all_names(place)
    place.look()
    assert place.rules() == [RULE]
    denying(place)
    if change == "mode":
        place.policy("Suggest")
    if change == "spec":
        place.policy(roleRef={"name": NAME}, accessSpec={"ceilings": ["kubernetes-danger"]})
    if change == "identity":
        place.loops[True]._actor._writes = False
    place.look()
    assert place.rules() == [RULE], "what was there before is not put back"


def test_a_status_that_somebody_else_wrote_moves_nothing(place: Place) -> None:
    place.policy()
    place.look()
    metadata = {"name": "pwn", "namespace": "kube-system"}
    wide = json.dumps({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": []})
    path = f"/apis/{API_VERSION}/namespaces/{place.namespace}/accesspolicies/router/status"
    forged = {"document": wide, "replacedAt": "2026-11-28T00:00:00Z", "digest": "sha256:0", "checked": False}
    place.api.patch(path, {"status": {"previous": forged, "held": "sha256:0"}})
    denying(place)
    place.look()
    assert place.rules() == [RULE]
    assert not place.api.exists(f"{ROOT}/namespaces/kube-system/roles/pwn")


def test_nothing_is_written_that_the_access_policy_does_not_name(place: Place, api: ClusterApi) -> None:
    floor = {
        "id": "elsewhere",
        "subject": place.account,
        "verbs": ["get"],
        "apiGroups": "",
        "resources": "configmaps",
        "namespaces": "default",
    }
    before = api.items(f"{ROOT}/namespaces/default/roles")
    place.policy(roleRef={"name": NAME}, accessSpec={"floor": [floor]})
    for _ in range(2):
        status = place.look()
    assert place.condition() == ("False", "WriteFailed")
    assert "none of what the AccessPolicy names" in status["conditions"][1]["message"]
    assert api.items(f"{ROOT}/namespaces/default/roles") == before
    assert place.rules() == [RULE]


def test_two_that_enforce_the_same_do_not_fight(place: Place) -> None:
    place.policy()
    rule = {"id": "no-patch", "verbs": "patch"}
    place.create(
        "AccessPolicy", "second", {"roleRef": {"name": NAME}, "accessSpec": {"ceiling": [rule]}, "mode": "Enforce"}
    )
    secrets(place)
    for _ in range(4):
        place.look()
    path = f"/apis/{API_VERSION}/namespaces/{place.namespace}/accesspolicies/second"
    reasons = {item["reason"] for item in place.api.get(path)["status"]["conditions"]}
    assert "Contested" in reasons
    assert place.rules() == [RULE]


def test_what_is_changed_back_again_and_again_is_left_and_said(place: Place) -> None:
    place.policy()
    for _ in range(7):
        secrets(place)
        place.look()
    assert place.condition() == ("False", "Contested")
    assert len(place.rules()) == 2


def test_a_binding_of_that_name_that_gives_something_else_is_said(place: Place) -> None:
    place.policy()
    place.api.delete(place.path("rolebindings"))
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": NAME, "namespace": place.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [place.account],
    }
    place.api.create(f"{ROOT}/namespaces/{place.namespace}/rolebindings", body)
    status = place.look()
    assert place.condition() == ("False", "WriteFailed")
    assert "there is another RoleBinding" in status["conditions"][1]["message"]


def test_a_long_annotation_does_not_stop_the_repair(place: Place) -> None:
    place.policy()
    secrets(place)
    place.api.patch(place.path(), {"metadata": {"annotations": {"long": "x" * 140_000}}})
    place.look()
    assert place.rules() == [RULE]


def test_the_condition_goes_with_the_access_policy(place: Place) -> None:
    place.policy()
    place.look()
    service = f"/apis/{API_VERSION}/namespaces/{place.namespace}/llmservices/chat"
    assert place.api.get(service)["status"]["conditions"]
    place.api.delete(f"/apis/{API_VERSION}/namespaces/{place.namespace}/accesspolicies/router")
    place.loops[True].look()
    assert not (place.api.get(service).get("status") or {}).get("conditions")


def test_what_the_writer_may_not_give_it_cannot_put_back_either(place: Place) -> None:
    place.policy()
    secrets(place)
    place.look()
    denying(place)
    status = place.look()
    assert place.condition() == ("False", "WriteFailed")
    assert "could not be put back" in status["conditions"][1]["message"]
    assert place.rules() == [RULE]


def test_a_role_that_somebody_changes_meanwhile_is_not_overwritten(place: Place) -> None:
    place.policy()
    secrets(place)
    loop = place.loops[True]
    review = loop._reviewer.review

    def late(case: Any, proposal: Any) -> Any:
        found = review(case, proposal)
        place.api.patch(place.path(), {"metadata": {"labels": {"touched": "yes"}}}, PatchType.MERGE)
        return found

    class Late:
        review = staticmethod(late)

    loop._reviewer = Late()
    place.look()
    assert place.condition() == ("False", "WriteFailed")
    assert len(place.rules()) == 2
    place.look()
    assert place.condition() == ("True", "Written")


def test_no_such_service_no_such_right_and_strange_specs_are_said(place: Place) -> None:
    place.policy(generated={"service": "nobody", "routerAccount": "router"})
    status = place.look()
    assert place.condition("Verified") == ("Unknown", "InvalidSpec")
    assert "there is no LLMService" in status["conditions"][0]["message"]
    place.create("AccessPolicy", "router", {"document": "{]", "accessSpec": {"floor": []}})
    assert "document" in json.dumps(place.look()["conditions"])
    cluster = {"kind": "ClusterRole", "name": "cluster-admin"}
    place.api.delete(f"/apis/{API_VERSION}/namespaces/{place.namespace}/accesspolicies/router")
    place.policy("Suggest", roleRef=cluster, accessSpec={"ceilings": ["kubernetes-danger"]})
    place.look()
    assert place.condition("Verified") == ("Unknown", "NoAccess")


def test_each_right_that_is_missing_is_named_at_start(place: Place) -> None:
    def missing(expected: int) -> list[str]:
        deadline = time.monotonic() + 10.0
        while True:
            said = [str(item) for item in preflight_access(place.writer, place.rights, [place.namespace])]
            if len(said) == expected or time.monotonic() > deadline:
                return said
            time.sleep(0.1)

    assert missing(0) == []
    for right in (place.rights[0], WRITER_RIGHTS[0], GRANTABLE_RIGHTS[0]):
        others = tuple(other for other in place.rights if other is not right)
        grant(place.api, place.namespace, "writer", others, [place.namespace])
        (said,) = missing(1)
        assert f"no right to {', '.join(right.verbs)} {right.resource}" in said


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"mode": "Suggest"}, "set one of document, roleRef, iamRoleRef and generated"),
        ({"roleRef": {"name": "a"}}, "accessSpec: needed"),
        ({"roleRef": {"name": "a"}, "document": "{}", "accessSpec": {}}, "set one of document, roleRef and iamRoleRef"),
        ({"document": "{}", "accessSpec": {}, "mode": "Enforce"}, "use Suggest"),
        ({"generated": {"service": "a"}}, "exactly one of generated.routerAccount and iamRoleRef"),
        ({"generated": {"service": "a", "routerAccount": "b"}, "roleRef": {"name": "a"}}, "goes with iamRoleRef"),
        ({"iamRoleRef": {"name": "a", "part": "Trust"}, "accessSpec": {}, "mode": "Enforce"}, "only generated ones"),
        ({"roleRef": {"name": "a/b"}, "accessSpec": {}}, "roleRef.name"),
        ({"iamRoleRef": {"name": "a b"}, "accessSpec": {}}, "iamRoleRef.name"),
        ({"roleRef": {"name": "a"}, "accessSpec": {}, "mode": "Repair"}, "mode"),
    ],
)
def test_wrong_specs_are_refused_by_the_api_server(place: Place, spec: Json, said: str) -> None:
    with pytest.raises(ApiError, match="422") as error:
        place.create("AccessPolicy", "wrong", spec)
    assert said in str(error.value)
