"""Decides: estimate → demand → solve → next safe step, for all services of a snapshot together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from medley.allocation.diagnose import with_remedies
from medley.allocation.joint import JointAllocation
from medley.allocation.problem import Allocation, Outcome, Problem, Variant
from medley.cycle.agreement import Agreement, agree
from medley.cycle.case import Case
from medley.cycle.decision import Decision, ServiceDecision, VariantTarget
from medley.cycle.findings import findings, unusable
from medley.cycle.nodes import pool_decisions
from medley.cycle.snapshot import Snapshot
from medley.cycle.steering import routing_shares
from medley.model.objects import Mode, Pool, Service, ServiceKey
from medley.planning.stabilisation import larger
from medley.planning.steps import Step, VariantState, next_step


def decide(snapshot: Snapshot) -> Decision:
    """The decision of one cycle. Never raises for what users or metrics got wrong: that becomes findings."""
    agreed = agree(snapshot)
    decisions = []
    for case in agreed.cases:
        if case.key not in agreed.problems:
            decisions.append(_unusable_decision(case, agreed.pools))
        else:
            decisions.append(_decided(case, agreed.joint if case.acts else agreed.beside(case), agreed))
    return Decision(
        tuple(decisions),
        tuple(pool_decisions(decisions, agreed.cases, agreed.pools, snapshot)),
        sum(d.cost_per_hour or 0.0 for d in decisions if d.act),
        agreed.joint.pool_prices,
    )


def problems_left(snapshot: Snapshot) -> dict[ServiceKey, tuple[Service, Problem]]:
    """Each service's problem with what all the others leave of the pools, for explaining a decision afterwards."""
    agreed = agree(snapshot)
    return {case.key: (case.service, agreed.left_for(case)) for case in agreed.cases if case.key in agreed.problems}


def _decided(case: Case, joint: JointAllocation, agreed: Agreement) -> ServiceDecision:
    pools, problem = agreed.pools, agreed.problems[case.key]
    allocation = dict(joint.allocations)[str(case.key)]
    if allocation.unserved:
        remedied = with_remedies(case.service, problem, pools, agreed.profiles, allocation.unserved)
        allocation = replace(allocation, unserved=remedied)
    current = {variant.name: variant for variant in case.state.variants}
    target = case.target(allocation)
    wanted = dict(agreed.wanted.get(case.key, target))
    stays = _stays(case, wanted, agreed)
    if case.held:
        target = larger(target, case.running)
    # A watched service is reported as it is; its plan stands beside.
    step = next_step(problem, target, current) if case.service.mode is Mode.AUTO else Step(tuple(case.running.items()))
    desired = dict(step.replicas)
    # What is no longer listed counts until its last pod is gone: it has to be told to go, and keeps its nodes so long.
    left = [name for name, state in current.items() if desired.get(name, 0) or state.desired or state.present]
    names = list(dict.fromkeys([*(v.name for v in problem.variants), *left]))
    known = {variant.name: variant for variant in problem.variants}
    variants = tuple(_variant_target(name, known, current.get(name), pools, desired, allocation) for name in names)
    planned = allocation.outcome is not Outcome.IMPOSSIBLE
    single = allocation.best_single_cost_per_hour
    return ServiceDecision(
        key=case.key,
        mode=case.service.mode,
        act=case.service.mode is Mode.AUTO,
        workload=case.workload,
        demand_factor=case.factor,
        routing=case.routing,
        variants=variants,
        shares=routing_shares(problem, allocation) if planned else (),
        allocation=allocation,
        cost_per_hour=dict(joint.cost_shares).get(str(case.key), 0.0) if planned else None,
        findings=findings(case, allocation, step.waiting_for, stays, variants),
        input_edges=problem.input_edges,
        held=case.held,
        wanted=tuple(sorted(wanted.items())),
        best_single_per_hour=None if single is None else max(single, case.best_single_lately),
    )


def _stays(case: Case, wanted: Mapping[str, int], agreed: Agreement) -> str:
    """What is kept although the plan of now would do without it."""
    extra = {name: count - wanted.get(name, 0) for name, count in agreed.kept.get(case.key, {}).items()}
    names = ", ".join(f"{count} {name}" for name, count in sorted(extra.items()) if count > 0)
    window_s = agreed.snapshot.settings.stabilisation_s
    return f"{names} kept: plans of the last {window_s:.0f} s needed them" if names else ""


def _variant_target(
    name: str,
    known: Mapping[str, Variant],
    state: VariantState | None,
    pools: Mapping[str, Pool],
    desired: Mapping[str, int],
    allocation: Allocation,
) -> VariantTarget:
    """A variant of the problem, or one that runs although it is no longer listed."""
    counts = desired.get(name, 0), allocation.count(name)
    if name in known:
        variant = known[name]
        return VariantTarget(
            name, variant.gpu, variant.pool, variant.gpus, *counts, spec=variant.spec,
            capacity_type=variant.capacity_type,
        )  # fmt: skip
    assert state is not None
    return _unlisted(state, pools, *counts)


def _unlisted(state: VariantState, pools: Mapping[str, Pool], desired: int, planned: int) -> VariantTarget:
    """A variant that runs and is not of the problem: its labels say where."""
    pool = state.pool if state.pool in pools else ""
    return VariantTarget(state.name, pools[pool].gpu if pool else "?", pool, state.gpus, desired, planned)


def _unusable_decision(case: Case, pools: Mapping[str, Pool]) -> ServiceDecision:
    """A service that cannot be planned: what runs stays as it is."""
    assert case.error is not None
    variants = [_unlisted(state, pools, state.desired, state.desired) for state in case.state.variants]
    return ServiceDecision(
        case.key,
        case.service.mode,
        False,
        case.workload,
        case.factor,
        case.routing,
        tuple(variants),
        (),
        None,
        None,
        unusable(case.error, case.workload),
        held=str(case.error),
        wanted=tuple(sorted(case.running.items())),
    )
