"""`medley policy verify | localise | explain | diff` on Kubernetes manifests."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medley.cli.policy_input import ceiling_text, prover_of, read_text
from medley.cli.policy_relation import print_relation, relation_of
from medley.cli.policy_report import EXIT, doubt_object, report_lines, report_object
from medley.model.errors import UserError
from medley.policy.prove import Outcome, Proved, Refuted
from medley.policy.rbac.document import Manifest
from medley.policy.rbac.evaluate import Evaluator
from medley.policy.rbac.localise import Blame, Fault, elements_on, localise
from medley.policy.rbac.questions import kinds_gained, within
from medley.policy.rbac.request import ANONYMOUS, Request, user
from medley.policy.rbac.roleset import Grant, RoleSet
from medley.policy.rbac.spec import Spec, read_spec
from medley.policy.rbac.verify import RbacReport, Witness, require_known, verify
from medley.policy.rbac.words import binding_name, fault_lines, grant_text
from medley.policy.spec.spec import Side

_FOR_IAM = (
    "resource_policy", "boundary", "cross_account", "target", "proposer", "action", "principal", "context",
)  # fmt: skip


def roles_of(manifest: Manifest, args: argparse.Namespace, path: Path) -> RoleSet:
    """The manifest's roles; warnings go to stderr.

    Raises:
        UserError: an option is for IAM alone, or a binding gives a role that is not there.
    """
    for name in _FOR_IAM:
        if getattr(args, name, None):
            raise UserError("is for IAM documents", field=f"--{name.replace('_', '-')}", fix="Leave it out")
    roles = RoleSet(manifest)
    for warning in warnings_of(manifest, roles):
        print(f"warning: {warning}", file=sys.stderr)
    if not roles.roles.keys() & {found.key for found in manifest.objects} and not manifest.bindings:
        raise UserError("has no roles", field=str(path), fix="Give roles and bindings")
    require_known(roles)
    return roles


def warnings_of(manifest: Manifest, roles: RoleSet) -> list[str]:
    """What the manifest says that does not do what it looks like, and roles that no question is about."""
    unbound = (f"{role}: bound to nobody here, so nothing that it gives is looked at" for role in roles.unbound())
    return [*manifest.warnings, *unbound]


def rbac_spec(args: argparse.Namespace) -> Spec:
    """The spec, with the ceilings that were named."""
    spec = read_spec(read_text(args.spec), str(args.spec))
    return spec.with_ceilings(tuple(read_spec(ceiling_text(name), name) for name in args.ceiling))


def verify_manifest(manifest: Manifest, args: argparse.Namespace) -> int:
    """`verify`: check and print."""
    roles = roles_of(manifest, args, args.document)
    report = verify(roles, rbac_spec(args), prover_of(args))
    if args.output == "json":
        print(json.dumps({**rbac_report_object(report), "warnings": warnings_of(manifest, roles)}))
    else:
        print("\n".join(rbac_report_lines(report)))
    return EXIT[report.verdict]


def localise_manifest(manifest: Manifest, args: argparse.Namespace) -> int:
    """`localise`: name the rules to blame."""
    roles = roles_of(manifest, args, args.document)
    report = verify(roles, rbac_spec(args), prover_of(args))
    faults = [localise(roles, witness) for witness in report.witnesses]
    if args.output == "json":
        out = {
            "verdict": report.verdict.value,
            "faults": [_fault_object(fault) for fault in faults],
            "unknown": [doubt_object(doubt) for doubt in report.doubts],
        }
        print(json.dumps(out))
    else:
        print(f"{report.verdict.value}: {len(faults)} faults")
        for fault in faults:
            print("\n".join(fault_lines(fault)))
        for doubt in report.doubts:
            print(f"  {doubt.rule.id}: unknown: {doubt.reason}")
    return EXIT[report.verdict]


def explain_manifest(manifest: Manifest, args: argparse.Namespace) -> int:
    """`explain`: decide one request and say why."""
    roles = roles_of(manifest, args, args.document)
    request = _request_of(args)
    evaluator = Evaluator(roles)
    allowed = evaluator.allows(request)
    matching = set(evaluator.matching(request))
    blames = [Blame(grant, elements_on(grant, request)) for grant in roles.grants()]
    if args.output == "json":
        out = {
            "decision": "Allowed" if allowed else "ImplicitDeny",
            "request": request_value(request),
            "grants": [{"matches": blame.grant in matching, **_blame_object(blame)} for blame in blames],
        }
        print(json.dumps(out))
    else:
        print(f"{'Allowed' if allowed else 'ImplicitDeny'}: {request}")
        for blame in blames:
            lacks = "; ".join(element.name for element in blame.elements if not element.matches)
            said = f"does not match: {lacks}" if lacks else "matches"
            print(f"  {grant_text(blame.grant)}: {said}")
    return 0 if allowed else 1


def _request_of(args: argparse.Namespace) -> Request:
    if not args.verb:
        raise UserError("is missing", field="--verb", fix="Name one, as in get")
    if bool(args.path) is bool(args.resource):
        raise UserError("name one of the two", field="--resource, --path")
    caller = user(args.user or ANONYMOUS, *args.as_group)
    if args.path:
        return Request(caller, args.verb, path=args.path)
    resource, _, subresource = args.resource.partition("/")
    return Request(caller, args.verb, args.api_group, resource, subresource, args.name, args.namespace)


def diff_manifests(before: Manifest, after: Manifest, args: argparse.Namespace) -> int:
    """`diff`: compare both ways and print."""
    one, other = roles_of(before, args, args.before), roles_of(after, args, args.after)
    prover = prover_of(args)
    gained, lost = within(other, one, prover), within(one, other, prover)
    relation = relation_of(gained, lost)
    out = {"relation": relation, "gained": _side(gained, one, other), "lost": _side(lost, other, one)}
    return print_relation(args, relation, out, gained)


def _side(outcome: Outcome[Request], outer: RoleSet, inner: RoleSet) -> dict[str, Any]:
    out: dict[str, Any] = {"request": None, "text": "", "engines": [], "reason": "", "count": 0}
    if isinstance(outcome, Proved):
        out["engines"] = [engine.value for engine in outcome.engines]
    elif isinstance(outcome, Refuted):
        out.update(
            request=request_value(outcome.witness),
            text=str(outcome.witness),
            engines=[outcome.engine.value],
            count=kinds_gained(outer, inner),
        )
    else:
        out.update(reason=outcome.reason, count=None)
    return out


# How answers look.


def request_value(request: Request) -> dict[str, Any]:
    """A request as JSON."""
    caller = {"user": request.caller.user, "groups": list(request.caller.groups)}
    if request.path:
        return {"verb": request.verb, "path": request.path, **caller}
    return {
        "verb": request.verb,
        "apiGroup": request.api_group,
        "resource": request.whole_resource,
        "name": request.name,
        "namespace": request.namespace,
        **caller,
    }


def grant_value(grant: Grant) -> dict[str, Any]:
    """A grant as JSON: the role and the number of its rule, and the binding (null: everybody, for lack of any)."""
    return {"role": str(grant.role), "rule": grant.index, "binding": binding_name(grant)}


def witness_value(witness: Witness) -> dict[str, Any]:
    """A broken rule with the request that breaks it."""
    return {
        "rule": witness.rule.id,
        "side": witness.rule.side.value,
        "part": witness.part,
        "request": request_value(witness.request),
        "decision": "ImplicitDeny" if witness.rule.side is Side.FLOOR else "Allowed",
        "grants": [grant_value(grant) for grant in witness.grants],
        "reason": witness.rule.reason,
        "source": witness.rule.source,
    }


def rbac_report_object(report: RbacReport) -> dict[str, Any]:
    """The JSON of `verify`."""
    return report_object(report, witness_value)


def rbac_report_lines(report: RbacReport) -> Iterable[str]:
    """The answer of `verify` for people."""
    return report_lines(report, lambda witness: str(witness.request), _because)


def _because(witness: Witness) -> str:
    if witness.grants:
        return ", by " + ", ".join(grant_text(grant) for grant in witness.grants)
    return ": no rule allows it"


def _fault_object(fault: Fault) -> dict[str, Any]:
    return {
        "rule": fault.witness.rule.id,
        "side": fault.witness.rule.side.value,
        "request": request_value(fault.witness.request),
        "case": fault.case.value,
        "grants": [_blame_object(blame) for blame in fault.blamed],
        "nearest": [_blame_object(blame) for blame in fault.near],
    }


def _blame_object(blame: Blame) -> dict[str, Any]:
    return {
        **grant_value(blame.grant),
        "elements": [
            {"element": element.name, "matches": element.matches, "entries": list(element.entries)}
            for element in blame.elements
        ],
    }
