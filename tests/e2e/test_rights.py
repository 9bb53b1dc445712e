"""What the operator calls, and that it is what its roles allow: tests of one kind of call each, under its own account.

Each test names the calls without which it fails (`needs`). The API server's audit log says whether they were made; the
last tests compare all calls with the committed inventory, and take rules away. `make calls` writes the inventory anew.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rights_inventory
from rights_inventory import INSTALLATIONS, NAMESPACE, SERVICES, Inventory, rights_of, text_of

from medley.actuation.rights import Right, Scope, places
from medley.lab.audit import Answer
from medley.lab.calls import Installation, outside, roles_of, uses
from medley.lab.scene import apply
from medley.model.errors import MedleyError
from rights_world import POOLS, Cluster, Operator, deployment_path, service

pytestmark = [pytest.mark.cluster, pytest.mark.e2e]

Json = dict[str, Any]
PATIENCE_S = 4.0
"""Of a test that is to fail. That it passes once the rule is back shows what it failed of."""
Exercise = Callable[[Operator], None]

EXERCISES: dict[str, Exercise] = {}
NEEDS: dict[str, tuple[str, ...]] = {}
"""The tests of kinds of calls, and what each needs, by node id in the order of the file."""


def needs(*calls: str) -> Callable[[Exercise], Exercise]:
    """Says which calls a test fails without: `list,watch gpupools.medley.dev`."""

    def noted(exercise: Exercise) -> Exercise:
        @functools.wraps(exercise)
        def test(operator: Operator) -> None:
            exercise(operator)
            operator.done.add(node)

        node = f"tests/e2e/test_rights.py::{exercise.__name__}"
        split = [call.partition(" ") for call in calls]
        EXERCISES[node] = test
        NEEDS[node] = tuple(f"{verb} {resource}" for verbs, _, resource in split for verb in verbs.split(","))
        return test

    return noted


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own: that of a given cluster writes no audit log that could be read from here."""
    made = Cluster(tmp_path_factory.mktemp("rights"))
    try:
        made.__enter__()
    except MedleyError as error:
        if os.environ.get("REQUIRE_CLUSTER"):
            raise
        pytest.skip(f"no control plane: {error}")
    with made:
        yield made


@pytest.fixture(scope="module", params=list(INSTALLATIONS))
def operator(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """One that has the rights of its installation."""
    installation = INSTALLATIONS[request.param]
    with cluster.operator(installation, rights_of(installation)) as running:
        yield running


@needs("get,patch,create leases.coordination.k8s.io")
def test_it_takes_its_lease_and_keeps_it(operator: Operator) -> None:
    name, namespace = operator.installation.name, operator.installation.namespace
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"

    def renewed() -> str:
        spec = operator.api.get(path)["spec"] if operator.api.exists(path) else {}
        return str(spec.get("renewTime", "")) if spec.get("holderIdentity") == name else ""

    operator.eventually(renewed, "it leads")
    first = renewed()
    operator.eventually(lambda: renewed() not in ("", first), "it renews")


@needs(
    "list,watch llmservices.medley.dev", "list,watch gpupools.medley.dev", "list,watch throughputprofiles.medley.dev"
)
def test_it_reads_what_is_declared(operator: Operator) -> None:
    with operator.services("watched", mode="Observe") as watched:
        for manifest in watched:
            operator.eventually(lambda m=manifest: operator.status(m).get("costPerHour"), "a plan is reported")
            assert not operator.replicas(manifest, "l4")


@needs("patch llmservices/status.medley.dev")
def test_it_says_how_a_service_is(operator: Operator) -> None:
    with operator.services("told") as told:
        for manifest in told:
            operator.eventually(lambda m=manifest: operator.status(m).get("conditions"), "conditions")
            assert operator.status(manifest)["observedGeneration"] == 1


@needs("list,create,patch deployments.apps", "list pods")
def test_it_runs_what_is_planned_and_corrects_drift(operator: Operator) -> None:
    with operator.services("run") as run:
        for manifest in run:
            operator.eventually(lambda m=manifest: operator.replicas(m, "l4") == 1, "a Deployment of one replica")
            # Only whoever sees the pods knows that it is Ready.
            operator.eventually(lambda m=manifest: operator.is_ready(m), "Ready")
            operator.api.patch(deployment_path(manifest, "l4"), {"spec": {"replicas": 0}})
            operator.eventually(lambda m=manifest: operator.replicas(m, "l4") == 1, "drift is corrected")


@needs("patch deployments/scale.apps")
def test_it_ends_a_variant_that_is_no_longer_listed(operator: Operator) -> None:
    with operator.services("moved") as moved:
        for manifest in moved:
            operator.eventually(lambda m=manifest: operator.is_ready(m), "Ready on l4")
        for manifest in moved:
            operator.change(manifest, pools=["a10g"])
        for manifest in moved:
            operator.eventually(lambda m=manifest: operator.replicas(m, "a10g") == 1, "one on a10g")
            operator.eventually(lambda m=manifest: operator.replicas(m, "l4") == 0, "none on l4")


@needs("get,patch gpupools.medley.dev", "get,patch nodegroups/scale.lab.medley.dev")
def test_it_asks_for_nodes_and_gives_them_back(operator: Operator) -> None:
    for pool in ("l4", "a10g"):
        # What other services run needs nodes too, and what has just ended still drains.
        others = operator.steady_nodes[pool]
        operator.eventually(lambda p=pool, n=others: operator.nodes(p) == n, f"{pool} is at rest")
        with operator.services(f"nodes-{pool}", pools=[pool]):
            operator.eventually(lambda p=pool, n=others: operator.nodes(p) == n + 2, f"two more of {pool}")
            operator.eventually(lambda p=pool: operator.asked(p) == operator.nodes(p), "it notes that it asked")
        operator.eventually(lambda p=pool, n=others: operator.nodes(p) == n, f"they of {pool} are given back")


@needs("list,create,patch configmaps")
def test_it_publishes_a_routing_table_and_changes_it(operator: Operator) -> None:
    with operator.services("routed", routing={"mode": "InputRange"}) as routed:
        for manifest in routed:
            operator.eventually(lambda m=manifest: operator.table(m).get("generation") == 1, "a table")
            points = [{"inputTokens": n, "outputTokens": 128, "requestsPerSecond": 0.1} for n in (256, 1024)]
            operator.change(manifest, workload={"static": {"points": points}})
            # The next generation follows from the one that it reads.
            operator.eventually(lambda m=manifest: operator.table(m).get("generation") == 2, "the next table")


@needs("create events")
def test_it_says_what_it_did_and_what_is_wrong_with_a_pool(operator: Operator) -> None:
    with operator.services("heard") as heard, operator.pool_without_group() as pool:
        for manifest in heard:
            metadata = manifest["metadata"]
            operator.eventually(
                lambda m=metadata: any("Scaled: l4" in text for text in operator.events(m["namespace"], m["name"])),
                "an Event on the service",
            )
        operator.eventually(lambda: operator.events("default", pool), "an Event on the pool")


def test_all_that_it_calls_is_in_the_inventory(operator: Operator) -> None:
    for node, exercise in EXERCISES.items():
        if node not in operator.done:  # where only this test was asked for
            exercise(operator)
    (name,) = [name for name, installation in INSTALLATIONS.items() if installation == operator.installation]
    assert not operator.requests(Answer.REFUSED)
    called = operator.requests(Answer.ALLOWED)
    found = uses(called)
    if os.environ.get("RECORD_CALLS"):
        committed = rights_inventory.read() if rights_inventory.INVENTORY.exists() else Inventory({}, {})
        rights_inventory.write(Inventory({**committed.calls, name: found}, NEEDS))
    inventory = rights_inventory.read()
    assert found == inventory.calls[name], "other calls than are committed: look at the difference, run make calls"
    assert inventory.tests == NEEDS, "tests need other calls than are committed: run make calls"
    assert not outside(called, roles_of(found, operator.installation))


def calls_for(right: Right) -> tuple[str, ...]:
    """What the right is for, as tests name it."""
    return tuple(f"{verb} {right.resource}{f'.{right.group}' if right.group else ''}" for verb in right.verbs)


FIVE = {
    "pods": ("list",),
    "deployments": ("create", "patch"),
    "configmaps": ("create", "patch"),
    "llmservices/status": ("patch",),
    "nodegroups/scale": ("get", "patch"),
}
"""Taken away in each run of the tests; the others by `make test-long`."""


def one_by_one() -> Iterator[object]:
    """Every right of an installation, by its place in the list."""
    for number, right in enumerate(rights_of(INSTALLATIONS["in-two-namespaces"])):
        marks = () if FIVE.get(right.resource) == right.verbs else pytest.mark.long
        yield pytest.param(number, marks=marks, id=f"{','.join(right.verbs)}-{right.resource}-{right.scope}")


@pytest.fixture(scope="module")
def steady(cluster: Cluster) -> dict[str, Json]:
    """Services that run, and that nothing may harm; by path, their Deployments."""
    installation = Installation("before", NAMESPACE, SERVICES, SERVICES)
    with cluster.operator(installation, rights_of(installation)) as operator:
        manifests = [service(f"steady-{namespace}", namespace) for namespace in SERVICES]
        for manifest in manifests:
            apply(cluster.api, manifest)
        for manifest in manifests:
            operator.eventually(lambda m=manifest: operator.is_ready(m), "Ready")
        operator.eventually(lambda: operator.nodes("l4") == len(manifests), "no nodes but theirs")
    return {path: cluster.api.get(path) for path in (deployment_path(manifest, "l4") for manifest in manifests)}


def pods(cluster: Cluster) -> dict[str, str]:
    """Phases by uid."""
    items = [item for namespace in SERVICES for item in cluster.api.items(f"/api/v1/namespaces/{namespace}/pods")]
    return {item["metadata"]["uid"]: item["status"]["phase"] for item in items if "steady" in item["metadata"]["name"]}


@pytest.mark.parametrize("number", list(one_by_one()))
def test_without_one_rule_the_test_that_needs_it_fails(cluster: Cluster, steady: dict[str, Json], number: int) -> None:
    installation = Installation(f"without-{number}", NAMESPACE, SERVICES, SERVICES)
    rights = rights_of(installation)
    taken = rights[number]
    lost = set(calls_for(taken))
    (named,) = [node for node, calls in rights_inventory.read().tests.items() if lost <= set(calls)]
    running = pods(cluster)
    others = (*rights[:number], *rights[number + 1 :])
    with cluster.operator(installation, others) as operator:
        operator.steady_nodes["l4"] = len(steady)
        operator.eventually(lambda: "missing: " in operator.log, "the check at start")
        leads = "leads" if taken.scope is not Scope.LEASE else "cannot be read"
        operator.eventually(lambda: f" {leads}" in operator.log, "it tries")
        operator.patience_s = PATIENCE_S
        with pytest.raises(AssertionError, match="not within"):
            EXERCISES[named](operator)
        refused = {text_of(use) for use in uses(operator.requests(Answer.REFUSED))}
        assert refused
        assert refused <= lost
        said = [line.partition("missing: ")[2] for line in operator.log.splitlines() if "missing: " in line]
        names = taken.names or (sorted(POOLS) if taken.resource == "nodegroups/scale" else ())
        what = calls_for(taken)[0].partition(" ")[2] + (f" named {', '.join(names)}" if names else "")
        assert [line.partition(" (")[0] for line in said] == [
            f"no right to {', '.join(taken.verbs)} {what} in {f'namespace {place}' if place else 'all namespaces'}"
            for place in places(taken, installation.looks_after)
        ]
        assert all(f'resources: ["{taken.resource}"]' in line for line in said)
        # Nothing that runs was touched.
        assert pods(cluster) == running
        assert operator.nodes("l4") >= len(steady)
        for path, before in steady.items():
            assert cluster.api.get(path)["metadata"]["generation"] == before["metadata"]["generation"]
        cluster.grant(installation, rights)
        operator.patience_s = 30.0
        EXERCISES[named](operator)
