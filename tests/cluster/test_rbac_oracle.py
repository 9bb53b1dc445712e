"""The RBAC evaluator against a real kube-apiserver: the same roles, the same requests, the same answers.

The server is asked by SubjectAccessReview, its answer for a user and groups that need not exist.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from medley.actuation.cluster_api import ApiError, ClusterApi, Json
from medley.actuation.roles import subject_review
from medley.model.errors import UserError
from medley.policy.rbac.document import (
    API_GROUP,
    API_VERSION,
    Binding,
    Kind,
    LabelSelector,
    Manifest,
    Metadata,
    PolicyRule,
    Role,
    RoleRef,
    Subject,
    SubjectKind,
)
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.parse import object_of
from medley.policy.rbac.render import object_value, rule_value
from medley.policy.rbac.request import Request, user
from medley.policy.rbac.roleset import RoleSet
from rbac_world import World

pytestmark = pytest.mark.cluster

Eventually = Callable[..., None]
_log = logging.getLogger(__name__)
ROLE_SETS = 120
REQUESTS = 50
WORKERS = 8
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
PLURALS = {
    Kind.ROLE: "roles",
    Kind.CLUSTER_ROLE: "clusterroles",
    Kind.ROLE_BINDING: "rolebindings",
    Kind.CLUSTER_ROLE_BINDING: "clusterrolebindings",
}


def path_of(found: Role | Binding) -> str:
    where = f"/namespaces/{found.metadata.namespace}" if found.metadata.namespace else ""
    return f"/apis/{API_VERSION}{where}/{PLURALS[found.kind]}"


def create(api: ClusterApi, objects: Iterable[Role | Binding]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda found: api.create(path_of(found), object_value(found)), objects))


def allowed(api: ClusterApi, request: Request) -> bool:
    return bool(api.create(REVIEWS, subject_review(request))["status"]["allowed"])


def wait_until_seen(api: ClusterApi, namespace: str, eventually: Eventually) -> None:
    """The authorizer sees each kind of object in the order of creation: when it sees these, it has seen all before."""
    name = f"marker-{namespace.split('-')[1]}-0"
    rule = (PolicyRule(("mark",), ("",), ("marks",)),)
    subject = (Subject(SubjectKind.USER, name, "", API_GROUP),)
    for kind, bound, where in (
        (Kind.ROLE, Kind.ROLE_BINDING, namespace),
        (Kind.CLUSTER_ROLE, Kind.CLUSTER_ROLE_BINDING, ""),
    ):
        create(api, [Role(kind, Metadata(name, where), rule)])
        create(api, [Binding(bound, Metadata(name, where), RoleRef(kind, name), subject)])
        asked = Request(user(name), "mark", resource="marks", namespace=where)
        eventually(lambda asked=asked: allowed(api, asked), f"the marker {kind.value}")


@pytest.fixture
def namespaces(api: ClusterApi) -> Iterator[tuple[str, ...]]:
    tag = uuid.uuid4().hex[:8]
    names = tuple(f"rbac-{tag}-{number}" for number in range(3))
    for name in names:
        api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield names
    for kind in (Kind.CLUSTER_ROLE_BINDING, Kind.CLUSTER_ROLE):
        for found in api.items(f"/apis/{API_VERSION}/{PLURALS[kind]}"):
            if found["metadata"]["name"].rpartition("-")[0].endswith(tag):
                api.delete(f"/apis/{API_VERSION}/{PLURALS[kind]}/{found['metadata']['name']}")
    for name in names:
        api.delete(f"/api/v1/namespaces/{name}")


def aggregated(manifest: Manifest) -> list[tuple[str, list[Json]]]:
    """Names of aggregating ClusterRoles, with the rules that we expect in them."""
    out = []
    for role in manifest.roles:
        if role.aggregation is not None:
            binding = Binding(Kind.CLUSTER_ROLE_BINDING, Metadata("x"), RoleRef(role.kind, role.metadata.name))
            rules = {grant.rule: rule_value(grant.rule) for grant in RoleSet((*manifest.roles, binding)).grants()}
            out.append((role.metadata.name, list(rules.values())))
    return out


def same_rules(found: Iterable[Json], expected: Iterable[Json]) -> bool:
    one, other = (sorted(repr(sorted(rule.items())) for rule in rules) for rules in (found, expected))
    return one == other


def test_the_evaluator_agrees_with_the_api_server(
    api: ClusterApi,
    namespaces: tuple[str, ...],
    eventually: Eventually,
) -> None:
    tag = namespaces[0].split("-")[1]
    seed = random.SystemRandom().randrange(10**9)
    pairs: list[tuple[Request, bool, int]] = []
    manifests = []
    for number in range(ROLE_SETS):
        world = World(random.Random(seed + number), f"{tag}-{number}", namespaces)
        manifest = world.manifest()
        evaluator = Evaluator(manifest)
        manifests.append(manifest)
        for _ in range(REQUESTS):
            request = world.request(manifest)
            pairs.append((request, evaluator.allows(request), number))
    create(api, (found for manifest in manifests for found in manifest.objects))
    expected = [item for manifest in manifests for item in aggregated(manifest)]
    for name, rules in expected:
        path = f"/apis/{API_VERSION}/clusterroles/{name}"
        eventually(lambda p=path, r=rules: same_rules(api.get(p).get("rules") or (), r), f"{name} to be aggregated")
    wait_until_seen(api, namespaces[0], eventually)
    start = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        answers = list(pool.map(lambda pair: allowed(api, pair[0]), pairs))
    seconds = time.monotonic() - start
    wrong = [
        f"set {number}: server {answer}, evaluator {ours}: {request!r}\n{manifests[number]!r}"
        for (request, ours, number), answer in zip(pairs, answers, strict=True)
        if answer is not ours
    ]
    assert not wrong, f"seed {seed}, {len(wrong)} of {len(pairs)} disagree, the first: {wrong[0]}"
    share = sum(answers) / len(answers)
    _log.info(
        "seed %d: %d reviews agree, %.0f %% allowed, %d aggregated roles, %.1f s",
        seed, len(pairs), 100 * share, len(expected), seconds,
    )  # fmt: skip
    assert len(pairs) >= 5000
    assert 0.05 < share < 0.95, "the questions are too easy"
    assert len(expected) >= 5


def test_an_aggregating_role_that_selects_nothing_keeps_what_is_written(
    api: ClusterApi, namespaces: tuple[str, ...], eventually: Eventually
) -> None:
    tag = namespaces[0].split("-")[1]
    name = f"kept-{tag}-0"
    body = {
        "apiVersion": API_VERSION,
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {f"none-{tag}": "yes"}}]},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    }
    api.create(f"/apis/{API_VERSION}/clusterroles", body)
    # Another role that does aggregate shows that the controller has been at work since.
    labels = ((f"some-{tag}", "yes"),)
    part = Role(Kind.CLUSTER_ROLE, Metadata(f"part-{tag}-0", labels=labels), (PolicyRule(("get",), ("",), ("pods",)),))
    whole = Role(Kind.CLUSTER_ROLE, Metadata(f"whole-{tag}-0"), (), (LabelSelector(labels),))
    create(api, [part])
    create(api, [whole])
    path = f"/apis/{API_VERSION}/clusterroles/{whole.metadata.name}"
    eventually(lambda: api.get(path).get("rules"), "the other role to be aggregated")
    assert api.get(f"/apis/{API_VERSION}/clusterroles/{name}")["rules"] == body["rules"]


def rule(**fields: list[str]) -> Json:
    return {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], **fields}


def ref(kind: str, **fields: str) -> Json:
    return {"kind": kind, "name": "x", **fields}


ACCOUNT = {"kind": "ServiceAccount", "name": "x"}
REFUSED = (
    {"kind": "Role", "rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]},
    {"kind": "Role", "rules": [rule(verbs=[])]},
    {"kind": "Role", "rules": [rule(apiGroups=[])]},
    {"kind": "Role", "rules": [rule(resources=[])]},
    {"kind": "ClusterRole", "rules": [rule(nonResourceURLs=["/x"])]},
    {"kind": "ClusterRole", "aggregationRule": {"clusterRoleSelectors": []}, "rules": []},
    {"kind": "RoleBinding", "roleRef": ref("Deployment")},
    {"kind": "RoleBinding", "roleRef": ref("Role", apiGroup="apps")},
    {"kind": "ClusterRoleBinding", "roleRef": ref("Role")},
    {"kind": "ClusterRoleBinding", "roleRef": ref("ClusterRole"), "subjects": [ACCOUNT]},
    {"kind": "RoleBinding", "roleRef": ref("Role"), "subjects": [{"kind": "User", "name": ""}]},
    {"kind": "RoleBinding", "roleRef": ref("Role"), "subjects": [{"kind": "Node", "name": "n"}]},
)
ACCEPTED = (
    {"kind": "Role", "rules": [rule(verbs=["create"], resourceNames=["a"])]},
    {"kind": "Role", "rules": [rule(resources=["pods", "pods/log"], resourceNames=["a"])]},
    {"kind": "ClusterRole", "rules": [{"verbs": ["Get"], "nonResourceURLs": ["x*y"]}]},
    {"kind": "RoleBinding", "roleRef": ref("Role"), "subjects": [ACCOUNT]},
    {"kind": "RoleBinding", "roleRef": ref("ClusterRole", apiGroup="")},
)


def test_the_parser_refuses_and_takes_what_the_server_does(api: ClusterApi, namespace: str) -> None:
    for number, (value, expected) in enumerate([*((v, False) for v in REFUSED), *((v, True) for v in ACCEPTED)]):
        where = {"namespace": namespace} if value["kind"] in ("Role", "RoleBinding") else {}
        body = {"apiVersion": API_VERSION, **value, "metadata": {"name": f"p{number}-{namespace}", **where}}
        prefix = f"/namespaces/{namespace}" if where else ""
        try:
            api.create(f"/apis/{API_VERSION}{prefix}/{PLURALS[Kind(value['kind'])]}?dryRun=All", body)
            server = True
        except ApiError:
            server = False
        try:
            object_of(body)
            ours = True
        except UserError:
            ours = False
        assert (ours, server) == (expected, expected), body
