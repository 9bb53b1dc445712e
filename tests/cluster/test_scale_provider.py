"""Nodes through the scale subresource of a real API server: asked for, given back, and left alone when not ours."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from medley.actuation.cluster_api import ClusterApi, Json, PatchType
from medley.actuation.pools.scale import ASKED, ScaleProvider
from medley.cycle.decision import Claim
from medley.lab.node_group import NODE_GROUPS_PATH, install_node_group_crd, node_group
from medley.lab.scene import apply, install_crds, path_of
from medley.model.errors import TransientError, UserError
from medley.model.objects import CapacityType, Offering, Pool, ScaleTarget

pytestmark = pytest.mark.cluster

LAB = "lab.medley.dev/v1alpha1"


@pytest.fixture
def pool(api: ClusterApi) -> Iterator[Pool]:
    """A GPUPool whose nodes are those of a NodeGroup of its own; nobody makes nodes."""
    install_crds(api)
    install_node_group_crd(api)
    name = f"pool-{uuid.uuid4().hex[:6]}"
    api.create(NODE_GROUPS_PATH, node_group(name, gpu="NVIDIA-L4", gpus_per_node=1, instance_type="g6.xlarge"))
    apply(api, manifest(name))
    offering = Offering(CapacityType.ON_DEMAND, 0.8048)
    yield Pool(name, "L4", 1, (offering,), scale=ScaleTarget(LAB, "NodeGroup", name))
    api.delete(path_of(manifest(name)))
    api.delete(f"{NODE_GROUPS_PATH}/{name}")


def manifest(name: str) -> Json:
    target = {"apiVersion": LAB, "kind": "NodeGroup", "name": name}
    spec = {"instanceType": "g6.xlarge", "provider": {"scale": target}}
    return {"apiVersion": "medley.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": name}, "spec": spec}


def wanted(api: ClusterApi, pool: Pool) -> int:
    """What the group's own spec says, read past the provider."""
    return int(api.get(f"{NODE_GROUPS_PATH}/{pool.name}")["spec"]["replicas"])


def set_by_another(api: ClusterApi, pool: Pool, nodes: int) -> None:
    """As `kubectl scale` does."""
    body = {"spec": {"replicas": nodes}}
    api.patch(f"{NODE_GROUPS_PATH}/{pool.name}/scale", body, PatchType.MERGE, fieldManager="kubectl")


def version(api: ClusterApi, path: str) -> str:
    return str(api.get(path)["metadata"]["resourceVersion"])


def test_nodes_are_set_again_and_again_and_given_back(api: ClusterApi, pool: Pool) -> None:
    provider = ScaleProvider(api)
    before = 0
    for nodes in (2, 0, 2):
        assert provider.set_nodes(pool, nodes, Claim.ACTING) == before
        assert wanted(api, pool) == provider.nodes(pool) == nodes
        before = nodes
    # No service lists the pool any more; a new operator knows only what the cluster knows.
    assert ScaleProvider(api).set_nodes(pool, 0, Claim.IF_OURS) == 2
    assert wanted(api, pool) == 0


def test_nodes_are_given_back_in_steps(api: ClusterApi, pool: Pool) -> None:
    provider = ScaleProvider(api)
    provider.set_nodes(pool, 3, Claim.ACTING)
    assert provider.set_nodes(pool, 1, Claim.IF_OURS) == 3
    assert provider.set_nodes(pool, 0, Claim.IF_OURS) == 1
    assert wanted(api, pool) == 0


def test_where_nodes_may_only_be_added_none_is_taken_away(api: ClusterApi, pool: Pool) -> None:
    provider = ScaleProvider(api)
    provider.set_nodes(pool, 2, Claim.ACTING)
    assert provider.set_nodes(pool, 1, Claim.GROWING) is None
    assert wanted(api, pool) == 2
    assert provider.set_nodes(pool, 3, Claim.GROWING) == 2
    assert wanted(api, pool) == 3


def test_a_number_that_is_there_already_is_not_written(api: ClusterApi, pool: Pool) -> None:
    provider = ScaleProvider(api)
    provider.set_nodes(pool, 2, Claim.ACTING)
    paths = (f"{NODE_GROUPS_PATH}/{pool.name}", path_of(manifest(pool.name)))
    before = [version(api, path) for path in paths]
    assert provider.set_nodes(pool, 2, Claim.ACTING) is None
    assert provider.set_nodes(pool, 2, Claim.IF_OURS) is None
    assert [version(api, path) for path in paths] == before


@pytest.mark.parametrize("nodes", [1, 5])
def test_a_number_that_somebody_else_set_afterwards_stays(api: ClusterApi, pool: Pool, nodes: int) -> None:
    provider = ScaleProvider(api)
    provider.set_nodes(pool, 2, Claim.ACTING)
    set_by_another(api, pool, nodes)
    assert provider.set_nodes(pool, 0, Claim.IF_OURS) is None
    assert wanted(api, pool) == nodes
    # A service that acts takes it over, and then it is ours to give back.
    assert provider.set_nodes(pool, 3, Claim.ACTING) == nodes
    assert provider.set_nodes(pool, 0, Claim.IF_OURS) == 3
    assert wanted(api, pool) == 0


def test_a_pool_that_was_never_scaled_by_medley_stays(api: ClusterApi, pool: Pool) -> None:
    set_by_another(api, pool, 4)
    before = version(api, path_of(manifest(pool.name)))
    assert ScaleProvider(api).set_nodes(pool, 0, Claim.IF_OURS) is None
    assert wanted(api, pool) == 4
    # Not even a note is left.
    assert version(api, path_of(manifest(pool.name))) == before


def test_the_note_survives_an_apply_of_the_pool_by_its_owner(api: ClusterApi, pool: Pool) -> None:
    provider = ScaleProvider(api)
    provider.set_nodes(pool, 2, Claim.ACTING)
    edited = manifest(pool.name)
    edited["spec"]["limits"] = {"nodes": 9}
    assert apply(api, edited)["metadata"]["annotations"] == {ASKED: "2"}
    assert provider.set_nodes(pool, 0, Claim.IF_OURS) == 2


def test_a_note_that_is_no_number_makes_nothing_ours(api: ClusterApi, pool: Pool) -> None:
    provider = ScaleProvider(api)
    provider.set_nodes(pool, 2, Claim.ACTING)
    api.patch(path_of(manifest(pool.name)), {"metadata": {"annotations": {ASKED: "two"}}})
    assert provider.set_nodes(pool, 0, Claim.IF_OURS) is None
    assert wanted(api, pool) == 2


@pytest.mark.parametrize("claim", [Claim.ACTING, Claim.IF_OURS])
def test_nodes_are_still_given_back_after_a_write_that_failed(
    api: ClusterApi, pool: Pool, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes are ours; the write to 0 fails once. Whoever comes next must know that they are."""
    provider = ScaleProvider(api)
    provider.set_nodes(pool, 2, Claim.ACTING)
    really = api.patch

    def fails(path: str, *args: object, **kwargs: object) -> Json:
        if path.endswith("/scale"):
            raise TransientError("the API server did not answer")
        return really(path, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(api, "patch", fails)
        with pytest.raises(TransientError):
            provider.set_nodes(pool, 0, claim)
    assert wanted(api, pool) == 2
    assert provider.set_nodes(pool, 0, Claim.IF_OURS) == 2
    assert wanted(api, pool) == 0


def test_an_object_that_is_not_there_is_named_with_what_to_do(api: ClusterApi, pool: Pool) -> None:
    wrong = Pool(pool.name, "L4", 1, pool.offerings, scale=ScaleTarget(LAB, "NodeGroup", "absent"))
    with pytest.raises(UserError, match=r"spec\.provider\.scale: .*absent") as caught:
        ScaleProvider(api).set_nodes(wrong, 1, Claim.ACTING)
    assert "Create the object" in caught.value.fix
    wrong = Pool(pool.name, "L4", 1, pool.offerings, scale=ScaleTarget(LAB, "NodePool", pool.name))
    with pytest.raises(UserError, match="has no kind NodePool") as caught:
        ScaleProvider(api).nodes(wrong)
    assert "CRD is installed" in caught.value.fix
