"""RBAC on random role sets: printing and reading, monotony, and the engines that prove against the evaluator."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from medley.policy.rbac.document import Kind, Manifest
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.render import manifest_text
from rbac_world import World

SEEDS = st.integers(0, 2**32)


def world_of(seed: int) -> World:
    return World(Random(seed))


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_what_is_printed_is_read_back(seed: int) -> None:
    manifest = world_of(seed).manifest()
    assert parse_manifest(manifest_text(manifest)) == manifest


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_another_rule_or_binding_never_takes_anything_away(seed: int) -> None:
    world = world_of(seed)
    before = world.manifest()
    role = before.roles[0]
    after = Manifest(
        (
            *before.objects,
            world.role(role.kind, "more"),
            world.binding(Kind.CLUSTER_ROLE_BINDING, "more", before.roles),
            world.binding(Kind.ROLE_BINDING, "most", before.roles),
        )
    )
    one, other = Evaluator(before), Evaluator(after)
    for _ in range(30):
        request = world.request(before)
        assert other.allows(request) or not one.allows(request)
