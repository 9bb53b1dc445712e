"""AccessPolicies of IAM roles: moto's server for IAM, a real API server for the rest.

moto stores documents and gives them back; it checks none. What the documents mean is the engine's answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from medley.actuation.cluster_api import ClusterApi
from medley.actuation.iam import IamRoleHome, RolePart, iam_client
from medley.actuation.roles import CONSENT
from medley.controller.access.generated import GeneratedSources
from medley.controller.access.loop import AccessLoop, AccessSettings
from medley.controller.access.reviewer import ProcessReviewer, ProposerSettings
from medley.controller.access.sources import Sources
from medley.lab.scene import apply, install_crds
from medley.model.errors import AccessError, TransientError
from medley.model.objects import API_VERSION, ServiceKey
from medley.policy.generate import BucketPrefix, ClusterEnvironment, PartName, ServiceNeeds, service_parts

pytestmark = pytest.mark.cluster
Json = dict[str, Any]
ACCOUNT, ROLE, POLICY = "123456789012", "chat-pods", "medley"
ENVIRONMENT = ClusterEnvironment(
    "aws", ACCOUNT, "us-east-1", "prod", "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF"
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def reviewer() -> Iterator[ProcessReviewer]:
    made = ProcessReviewer(60.0)
    yield made
    made.close()


class Cloud:
    """A role in moto, a service and its AccessPolicy on the API server."""

    def __init__(self, api: ClusterApi, namespace: str, reviewer: ProcessReviewer) -> None:
        self.api, self.namespace, self.reviewer = api, namespace, reviewer
        self.iam = boto3.client("iam")
        self.leads = True
        self._loops: dict[str, AccessLoop] = {}
        access = {"serviceAccountName": "chat", "modelUri": "s3://models/llama"}
        spec = {"model": {"name": "m"}, "slo": {"timePerOutputTokenMs": 120}, "pools": ["l4"], "access": access}
        self.create("LLMService", "chat", spec)
        needs = ServiceNeeds(ServiceKey(namespace, "chat"), "chat", BucketPrefix("models", "llama"), role=ROLE)
        self.parts = {part.name: part for part in service_parts(needs, ENVIRONMENT)}
        self.wanted = json.loads(self.parts[PartName.POD_POLICY].document_text)
        self.trust = json.loads(self.parts[PartName.POD_TRUST].document_text)
        tags = [{"Key": CONSENT, "Value": f"prod/{namespace}/pods"}]
        self.iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(self.trust), Tags=tags)
        self.put(self.wanted)

    def create(self, kind: str, name: str, spec: Json) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        apply(self.api, {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})

    def policy(self, mode: str = "Enforce", part: str = "Identity", **spec: Any) -> None:
        ref = {"name": ROLE, "policyName": POLICY, "part": part}
        generated = {"generated": {"service": "chat"}} if not spec else {}
        self.create("AccessPolicy", "pods", {"iamRoleRef": ref, **generated, "mode": mode, **spec})

    def put(self, document: Json, name: str = POLICY) -> None:
        self.iam.put_role_policy(RoleName=ROLE, PolicyName=name, PolicyDocument=json.dumps(document))

    def live(self) -> Json:
        return dict(self.iam.get_role_policy(RoleName=ROLE, PolicyName=POLICY)["PolicyDocument"])

    def live_trust(self) -> Json:
        return dict(self.iam.get_role(RoleName=ROLE)["Role"]["AssumeRolePolicyDocument"])

    def loop(self, **settings: Any) -> AccessLoop:
        sources = Sources(self.api, iam_client, GeneratedSources(self.api, ENVIRONMENT), "prod", lambda: self.leads)
        made = AccessSettings(1.0, (self.namespace,), **{"writes": True, **settings})
        return AccessLoop(self.api, sources, self.reviewer, made)

    def look(self, **settings: Any) -> Json:
        """One look, by the process that made the last one with these settings."""
        key = repr(sorted(settings.items(), key=str))
        assert self._loops.setdefault(key, self.loop(**settings)).look() == ""
        return self.status()

    def status(self) -> Json:
        path = f"/apis/{API_VERSION}/namespaces/{self.namespace}/accesspolicies/pods"
        return dict(self.api.get(path).get("status") or {})

    def condition(self, name: str = "Written") -> tuple[str, str]:
        (found,) = [item for item in self.status()["conditions"] if item["type"] == name]
        return found["status"], found["reason"]

    def close(self) -> None:
        for name in self.iam.list_role_policies(RoleName=ROLE)["PolicyNames"]:
            self.iam.delete_role_policy(RoleName=ROLE, PolicyName=name)
        for found in self.iam.list_attached_role_policies(RoleName=ROLE)["AttachedPolicies"]:
            self.iam.detach_role_policy(RoleName=ROLE, PolicyArn=found["PolicyArn"])
            self.iam.delete_policy(PolicyArn=found["PolicyArn"])
        self.iam.delete_role(RoleName=ROLE)


@pytest.fixture
def cloud(
    api: ClusterApi, namespace: str, endpoint: str, reviewer: ProcessReviewer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1,localhost,0.0.0.0",
    }.items():
        monkeypatch.setenv(name, value)
    install_crds(api)
    made = Cloud(api, namespace, reviewer)
    yield made
    made.close()


def with_first(document: Json, **changes: Any) -> Json:
    first, *rest = document["Statement"]
    changed = {key: value for key, value in {**first, **changes}.items() if value is not None}
    return {**document, "Statement": [changed, *rest]}


def added(document: Json, **statement: Any) -> Json:
    return {**document, "Statement": [*document["Statement"], {"Effect": "Allow", **statement}]}


DAMAGE: dict[str, Callable[[Json], Json]] = {
    "every action of the service": lambda found: with_first(found, Action="s3:*"),
    "one more action": lambda found: with_first(found, Action=["s3:GetObject", "s3:PutObject"]),
    "every resource": lambda found: with_first(found, Resource="*"),
    "another bucket": lambda found: with_first(
        found, Resource=["arn:aws:s3:::models/llama/*", "arn:aws:s3:::payroll/*"]
    ),
    "a wider prefix": lambda found: with_first(found, Resource="arn:aws:s3:::models/*"),
    "everything but one": lambda found: with_first(found, Action=None, NotAction="s3:DeleteObject"),
    "a narrower resource": lambda found: with_first(found, Resource="arn:aws:s3:::models/llama/a.bin"),
    "a Deny in place of an Allow": lambda found: with_first(found, Effect="Deny"),
    "a statement less": lambda found: {**found, "Statement": found["Statement"][1:]},
    "a way to more rights": lambda found: added(found, Action="iam:PassRole", Resource="*"),
    "credentials": lambda found: added(found, Action="sts:AssumeRole", Resource="*"),
    "conditions dropped": lambda found: {
        **found,
        "Statement": [{key: value for key, value in one.items() if key != "Condition"} for one in found["Statement"]],
    },
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_at_the_next_look_and_repaired(cloud: Cloud, damage: Callable[[Json], Json]) -> None:
    cloud.policy()
    broken = damage(cloud.wanted)
    assert broken != cloud.wanted
    cloud.put(broken)
    status = cloud.look()
    assert status["verdict"] == "Violated"
    assert status["repair"]["edits"]
    assert status["proof"]["engines"] == ["B", "C"]
    assert cloud.condition() == ("True", "Written")
    assert cloud.live() != broken
    assert cloud.look()["verdict"] == "Satisfied"
    assert cloud.condition() == ("True", "Checked")


def test_what_is_generated_is_satisfied_and_left_alone(cloud: Cloud) -> None:
    cloud.policy()
    status = cloud.look()
    assert (status["verdict"], status["proof"]["of"], status["proof"]["engines"]) == (
        "Satisfied",
        "Document",
        ["B", "C"],
    )
    assert cloud.condition() == ("True", "NothingToDo")
    assert cloud.live() == cloud.wanted


def test_a_policy_that_is_gone_comes_back(cloud: Cloud) -> None:
    cloud.policy()
    cloud.iam.delete_role_policy(RoleName=ROLE, PolicyName=POLICY)
    cloud.look()
    assert cloud.condition() == ("True", "Written")
    assert cloud.look()["verdict"] == "Satisfied"
    assert cloud.live()["Statement"]


def test_a_trust_policy_that_lets_everybody_in_is_narrowed(cloud: Cloud) -> None:
    cloud.policy(part="Trust")
    assert cloud.look()["verdict"] == "Satisfied"
    wide = with_first(cloud.trust, Condition=None)
    cloud.iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(wide))
    status = cloud.look()
    assert status["verdict"] == "Violated"
    assert cloud.condition() == ("True", "Written")
    assert cloud.live_trust() != wide
    assert cloud.look()["verdict"] == "Satisfied"


def test_suggest_writes_nothing(cloud: Cloud) -> None:
    cloud.policy("Suggest")
    broken = DAMAGE["every action of the service"](cloud.wanted)
    cloud.put(broken)
    status = cloud.look()
    assert cloud.condition() == ("False", "Proposed")
    assert "s3:GetObject" in status["repair"]["document"]
    assert cloud.live() == broken


def test_a_role_whose_owner_does_not_name_the_access_policy_is_not_written(cloud: Cloud) -> None:
    cloud.policy()
    cloud.iam.untag_role(RoleName=ROLE, TagKeys=[CONSENT])
    broken = DAMAGE["every resource"](cloud.wanted)
    cloud.put(broken)
    status = cloud.look()
    assert cloud.condition() == ("False", "NoConsent")
    assert f"{CONSENT}=prod/{cloud.namespace}/pods" in status["conditions"][1]["message"]
    assert cloud.live() == broken


def test_other_policies_of_the_role_decide_with_it_and_are_left_alone(cloud: Cloud) -> None:
    cloud.policy()
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]}
    arn = cloud.iam.create_policy(PolicyName="wide", PolicyDocument=json.dumps(wide))["Policy"]["Arn"]
    cloud.iam.attach_role_policy(RoleName=ROLE, PolicyArn=arn)
    status = cloud.look()
    assert status["verdict"] == "Violated"
    assert cloud.condition() == ("False", "NotProved")
    assert "other policies" in status["conditions"][1]["message"]
    assert cloud.live() == cloud.wanted


def test_users_own_statements_are_merged_and_those_beyond_the_ceiling_are_refused(cloud: Cloud) -> None:
    own = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::prompts/chat/system.txt"}
    access = {"serviceAccountName": "chat", "modelUri": "s3://models/llama", "statements": [own]}
    spec = {"model": {"name": "m"}, "slo": {"timePerOutputTokenMs": 120}, "pools": ["l4"], "access": access}
    cloud.create("LLMService", "chat", spec)
    cloud.policy()
    status = cloud.look()
    assert cloud.condition() == ("True", "Written")
    assert "prompts/chat/system.txt" in json.dumps(status["counterexamples"])
    assert cloud.live()["Statement"] == [*cloud.wanted["Statement"], own]
    assert cloud.look()["verdict"] == "Satisfied"
    before = cloud.live()
    wider = {**before, "Statement": [*before["Statement"][:-1], {**own, "Resource": "arn:aws:s3:::prompts/*"}]}
    cloud.put(wider)  # nothing that the ceilings shut, but more than was asked for
    assert cloud.look()["verdict"] == "Violated"
    assert cloud.live() == before
    escalation = {"Effect": "Allow", "Action": "iam:CreateAccessKey", "Resource": f"arn:aws:iam::{ACCOUNT}:user/admin"}
    cloud.create("LLMService", "chat", {**spec, "access": {**access, "statements": [own, escalation]}})
    status = cloud.look()
    assert cloud.condition("Verified") == ("Unknown", "InvalidSpec")
    assert "not used" in status["conditions"][0]["message"]
    assert cloud.live() == before


def test_a_hostile_model_changes_nothing_that_is_not_proved(cloud: Cloud, llm: Callable[..., str]) -> None:
    cloud.policy()
    cloud.put(DAMAGE["one more action"](cloud.wanted))
    widen = {"edit": "replace", "statement": 0, "element": "Resource", "old": "arn:aws:s3:::models/llama/*", "new": "*"}
    url = llm([widen])
    status = cloud.look(proposer=ProposerSettings(url, "scripted"), proposals_per_hour=1)
    assert all(said.startswith("refused") for said in status["repair"]["proposals"])
    assert cloud.condition() == ("True", "Written")  # the formal repair
    assert cloud.look()["verdict"] == "Satisfied"
    assert "*" not in [found["Resource"] for found in cloud.live()["Statement"]]


def test_a_model_that_does_not_come_to_an_end_leaves_the_formal_repair(cloud: Cloud, llm: Callable[..., str]) -> None:
    cloud.policy()
    cloud.put(DAMAGE["one more action"](cloud.wanted))
    reviewer = ProcessReviewer(60.0)
    first = reviewer.review

    class Slow:
        def review(self, case: Any, proposal: Any) -> Any:
            if proposal is not None:
                reviewer._limit_s = 0.01
            return first(case, proposal)

    try:
        cloud.reviewer = Slow()  # type: ignore[assignment]
        status = cloud.look(proposer=ProposerSettings(llm([]), "scripted"))
    finally:
        reviewer.close()
    assert "took longer than" in status["repair"]["proposals"][0]
    assert cloud.condition() == ("True", "Written")


def test_who_does_not_lead_writes_nothing_to_iam(cloud: Cloud) -> None:
    cloud.policy()
    broken = DAMAGE["every resource"](cloud.wanted)
    cloud.put(broken)
    cloud.leads = False
    cloud.look()
    assert cloud.condition() == ("False", "WriteFailed")
    assert cloud.live() == broken


def test_a_floor_that_fails_after_a_write_brings_back_what_was_there(cloud: Cloud) -> None:
    cloud.policy()
    broken = DAMAGE["one more action"](cloud.wanted)
    cloud.put(broken)
    loop = cloud.loop()
    loop.look()
    assert cloud.condition() == ("True", "Written")
    # Meanwhile the role gets a boundary that lets nothing through: the document is right, and the floor fails.
    narrow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]}
    arn = cloud.iam.create_policy(PolicyName="narrow", PolicyDocument=json.dumps(narrow))["Policy"]["Arn"]
    cloud.iam.put_role_permissions_boundary(RoleName=ROLE, PermissionsBoundary=arn)
    loop.look()
    assert cloud.condition() == ("False", "RolledBack")
    assert cloud.live() == broken
    loop.look()
    assert cloud.condition()[0] == "False"
    assert cloud.live() == broken
    cloud.iam.delete_role_permissions_boundary(RoleName=ROLE)
    cloud.iam.delete_policy(PolicyArn=arn)


def test_a_model_is_asked_no_more_often_than_its_budget_allows(cloud: Cloud, llm: Callable[..., str]) -> None:
    cloud.policy("Suggest")
    loop = cloud.loop(proposer=ProposerSettings(llm([]), "scripted"), proposals_per_hour=1)
    for number, damage in enumerate(("one more action", "every resource")):
        cloud.put(DAMAGE[damage](cloud.wanted))
        loop.look()
        assert bool(cloud.status()["repair"].get("proposals")) is (number == 0)


def test_what_cannot_be_read_is_said(cloud: Cloud) -> None:
    home = IamRoleHome(iam_client(), "nobody", RolePart.IDENTITY, POLICY)
    with pytest.raises(AccessError, match="NoSuchEntity"):
        home.read()
    ref = {"name": "nobody"}
    cloud.create("AccessPolicy", "pods", {"iamRoleRef": ref, "accessSpec": {"floor": []}})
    cloud.look()
    assert cloud.condition("Verified") == ("Unknown", "NoAccess")


def test_a_document_that_changed_since_it_was_read_is_not_overwritten(cloud: Cloud) -> None:
    home = IamRoleHome(iam_client(), ROLE, RolePart.IDENTITY, POLICY)
    live = home.read()
    cloud.put(DAMAGE["every resource"](cloud.wanted))
    with pytest.raises(TransientError, match="has changed"):
        home.write(live, json.dumps(cloud.wanted))
    assert cloud.live() == DAMAGE["every resource"](cloud.wanted)


def test_an_endpoint_that_does_not_answer_is_no_verdict(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.policy()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert cloud.look()["verdict"] == "Unknown"
    assert cloud.condition("Verified") == ("Unknown", "NotReviewed")


@pytest.fixture
def llm() -> Iterator[Callable[..., str]]:
    """A scripted OpenAI-compatible endpoint: `llm(edits)` starts one that always answers these, and gives its URL."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    servers: list[ThreadingHTTPServer] = []

    def start(edits: list[Json]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                text = json.dumps({"choices": [{"message": {"content": json.dumps({"edits": edits})}}]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.shutdown()
