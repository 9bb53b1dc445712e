"""What the operator calls, and that it is what its roles allow: tests of one kind of call each, under its own account.

Each test names the calls without which it fails (`needs`). The API server's audit log says whether they were made; the
last tests compare all calls with the committed inventory, and take rules away. `make calls` writes the inventory anew.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator

import pytest
import rights_inventory
from rights_inventory import INSTALLATIONS, Inventory, rights_of

from medley.lab.audit import Answer
from medley.lab.calls import outside, roles_of, uses
from medley.model.errors import MedleyError
from rights_world import Cluster, Operator, deployment_path

pytestmark = [pytest.mark.cluster, pytest.mark.e2e]

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
        operator.eventually(lambda p=pool: operator.asked(p) == operator.nodes(p), f"{pool} is at rest")
        before = operator.nodes(pool)
        with operator.services(f"nodes-{pool}", pools=[pool]):
            operator.eventually(lambda p=pool, b=before: operator.nodes(p) == b + 2, f"two more of {pool}")
            operator.eventually(lambda p=pool: operator.asked(p) == operator.nodes(p), "it notes that it asked")
        operator.eventually(lambda p=pool, b=before: operator.nodes(p) == b, f"they of {pool} are given back")


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
    with operator.services("heard") as heard, operator.pool_without_group("astray"):
        for manifest in heard:
            metadata = manifest["metadata"]
            operator.eventually(
                lambda m=metadata: any("Scaled: l4" in text for text in operator.events(m["namespace"], m["name"])),
                "an Event on the service",
            )
        operator.eventually(lambda: operator.events("default", "astray"), "an Event on the pool")


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
