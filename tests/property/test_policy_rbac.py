"""RBAC on random role sets: printing and reading, monotony, and the engines that prove against the evaluator."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from medley.policy.answers import Engine, Found
from medley.policy.atoms.product import find_values
from medley.policy.clauses import All, Not
from medley.policy.prove import Proved, Prover, Refuted, Unproved
from medley.policy.rbac.dimensions import region_of
from medley.policy.rbac.document import Kind, Manifest, PolicyRule, Role
from medley.policy.rbac.edits import apply_edits
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.questions import Space, equivalent, within
from medley.policy.rbac.render import manifest_text
from medley.policy.rbac.repair import gives_the_floor_alone, repair
from medley.policy.rbac.request import Request, user
from medley.policy.rbac.roleset import RoleSet
from medley.policy.rbac.verify import verify
from medley.policy.repair.repair import Outcome
from medley.policy.smt.engine import find_values as smt
from medley.policy.spec.spec import Side
from rbac_world import World
from thoroughness import scaled

SEEDS = st.integers(0, 2**32)


def world_of(seed: int) -> World:
    return World(Random(seed))


@settings(max_examples=scaled(150), deadline=None)
@given(SEEDS)
def test_what_is_printed_is_read_back(seed: int) -> None:
    manifest = world_of(seed).manifest()
    assert parse_manifest(manifest_text(manifest)) == manifest


@settings(max_examples=scaled(100), deadline=None)
@given(SEEDS)
def test_another_rule_or_binding_never_takes_anything_away(seed: int) -> None:
    world = world_of(seed)
    before = world.manifest()
    role = before.roles[0]
    longer = replace(role, rules=(*role.rules, world.rule(namespaced=role.kind is Kind.ROLE)))
    after = Manifest(
        (
            longer,
            *before.objects[1:],
            world.role(role.kind, "more"),
            world.binding(Kind.CLUSTER_ROLE_BINDING, "more", before.roles),
            world.binding(Kind.ROLE_BINDING, "most", before.roles),
        )
    )
    one, other = Evaluator(before), Evaluator(after)
    for _ in range(30):
        request = world.request(before)
        assert other.allows(request) or not one.allows(request)


ATOMS = Prover(engines=(Engine.ATOMS,))
BOTH = Prover(timeout_ms=10_000)


def real(request: Request) -> bool:
    """A request that the API server makes of a URL, by a caller whose groups come with the name."""
    if request.caller != user(request.caller.user, *request.caller.groups) or "system:masters" in request.caller.groups:
        return False
    if request.path:
        return request.path.startswith("/")
    if request.verb == "deletecollection":
        return not request.name
    return bool(request.name) or request.verb not in ("get", "update", "patch", "delete")


def asked(world: World, *manifests: Manifest) -> list[Request]:
    found = [world.request(manifest) for manifest in manifests for _ in range(20)]
    whole = [replace(request, caller=user(request.caller.user, *request.caller.groups)) for request in found]
    return [request for request in whole if real(request)]


@settings(max_examples=scaled(150), deadline=None)
@given(SEEDS)
def test_what_is_within_is_decided_as_the_evaluator_decides(seed: int) -> None:
    world = world_of(seed)
    one, other = world.manifest(), world.manifest()
    outcome = within(RoleSet(one), RoleSet(other), ATOMS)
    a, b = Evaluator(one), Evaluator(other)
    assert not isinstance(outcome, Unproved)
    if isinstance(outcome, Refuted):
        assert real(outcome.witness)
        assert a.allows(outcome.witness)
        assert not b.allows(outcome.witness)
    else:
        assert all(b.allows(request) or not a.allows(request) for request in asked(world, one, other))


@settings(max_examples=scaled(150), deadline=None)
@given(SEEDS)
def test_a_request_alone_is_decided_alike_by_all_engines(seed: int) -> None:
    world = world_of(seed)
    manifest = world.manifest()
    roles = RoleSet(manifest)
    evaluator = Evaluator(manifest)
    for request in asked(world, manifest)[:6]:
        space = Space((roles,), (request.caller,))
        region = space.builder.clause(region_of(request, space.callers.text(request.caller)))
        outcome = ATOMS.prove_as(space.question(All((space.allowed(roles), region))), lambda _: True, space.request)
        assert isinstance(outcome, Refuted if evaluator.allows(request) else Proved)
        if isinstance(outcome, Refuted):
            assert outcome.witness == request


@settings(max_examples=scaled(40), deadline=None)
@given(SEEDS)
def test_both_engines_that_prove_agree(seed: int) -> None:
    world = world_of(seed)
    one, other = world.manifest(), world.manifest()
    space = Space((RoleSet(one), RoleSet(other)))
    question = space.question(All((space.allowed(RoleSet(one)), Not(space.allowed(RoleSet(other))))))
    by_atoms, by_smt = find_values(question), smt(question, 10_000)
    assert isinstance(by_atoms, Found) is isinstance(by_smt, Found)
    for answer in (by_atoms, by_smt):
        if isinstance(answer, Found):
            request = space.request(answer.witness)
            assert Evaluator(one).allows(request)
            assert not Evaluator(other).allows(request)


@settings(max_examples=scaled(60), deadline=None)
@given(SEEDS)
def test_a_role_set_is_within_itself_and_within_itself_and_more(seed: int) -> None:
    world = world_of(seed)
    manifest = world.manifest()
    more = (*manifest.objects, world.binding(Kind.CLUSTER_ROLE_BINDING, "more", manifest.roles))
    assert equivalent(RoleSet(manifest), RoleSet(manifest), ATOMS) is True
    assert isinstance(within(RoleSet(manifest), RoleSet(more), ATOMS), Proved)
    assert isinstance(within(RoleSet(manifest), RoleSet(more), BOTH), Proved)


@settings(max_examples=scaled(60), deadline=None)
@given(SEEDS)
def test_the_order_of_rules_and_entries_does_not_matter(seed: int) -> None:
    world = world_of(seed)
    manifest = world.manifest()
    turned = Manifest(
        tuple(
            replace(found, rules=tuple(map(reversed_rule, reversed(found.rules)))) if isinstance(found, Role) else found
            for found in reversed(manifest.objects)
        )
    )
    assert equivalent(RoleSet(manifest), RoleSet(turned), ATOMS) is True


def reversed_rule(rule: PolicyRule) -> PolicyRule:
    return PolicyRule(
        rule.verbs[::-1], rule.api_groups[::-1], rule.resources[::-1], rule.resource_names[::-1], rule.non_resource_urls
    )


@settings(max_examples=scaled(60), deadline=None)
@given(SEEDS)
def test_a_repair_is_inside_the_ceiling_and_covers_the_floor_or_names_a_contradiction(seed: int) -> None:
    world = world_of(seed)
    alone = seed % 4 == 0
    manifest, spec = world.manifest(bindings=not alone), world.spec(subjects=not alone)
    result = repair(manifest, spec, ATOMS)
    assert result.outcome in (Outcome.REPAIRED, Outcome.UNCHANGED, Outcome.CONTRADICTION)
    assert apply_edits(manifest, result.edits) == result.manifest
    assert parse_manifest(manifest_text(result.manifest)) == result.manifest
    assert gives_the_floor_alone(manifest, result.manifest, spec)
    evaluator = Evaluator(result.manifest)
    if result.outcome is Outcome.CONTRADICTION:
        assert result.manifest == manifest
        assert result.contradictions
        return
    for request in asked(world, manifest, result.manifest):
        allowed = evaluator.allows(request)
        for rule in spec.rules:
            if len(rule.parts) == 1 and rule.parts[0].contains(request):
                assert allowed is (rule.side is Side.FLOOR), (rule, request)


@settings(max_examples=scaled(100), deadline=None)
@given(SEEDS)
def test_a_verdict_agrees_with_the_evaluator_on_samples(seed: int) -> None:
    world = world_of(seed)
    manifest, spec = world.manifest(), world.spec()
    report = verify(RoleSet(manifest), spec, ATOMS)
    evaluator = Evaluator(manifest)
    for witness in report.witnesses:
        region = witness.rule.parts[witness.part]
        assert region.contains(witness.request)
        assert evaluator.allows(witness.request) is (witness.rule.side is Side.CEILING)
        assert bool(witness.grants) is (witness.rule.side is Side.CEILING)
    holding = [rule for rule, _ in report.proved if len(rule.parts) == 1]
    for request in asked(world, manifest):
        for rule in holding:
            if rule.parts[0].contains(request):
                assert evaluator.allows(request) is (rule.side is Side.FLOOR), (rule, request)
