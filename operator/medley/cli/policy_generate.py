"""`medley policy generate`: the policies that services and the operator need, proved before they are printed."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medley.actuation.rights import RIGHTS, Right, lease_rights, role_manifests, scale_rights
from medley.actuation.routing import config_map_name
from medley.api.convert import Resources, parse
from medley.api.manifests import read_manifests
from medley.api.serviceaccess import AccessSpec, to_needs
from medley.cli.policy_input import ceiling_text, prover_of
from medley.cli.policy_output import report_lines, report_object, request_object
from medley.cli.policy_rbac import rbac_report_lines, rbac_report_object
from medley.cli.policy_report import EXIT
from medley.cli.policy_terraform import terraform_text
from medley.model.errors import UserError
from medley.model.objects import ServiceKey
from medley.policy.answers import Engine
from medley.policy.generate import (
    Aws,
    Checked,
    ClusterEnvironment,
    Merged,
    NodegroupPool,
    OperatorNeeds,
    Part,
    PartName,
    PolicyKind,
    RouterAccess,
    RouterNeeds,
    ServiceNeeds,
    Trust,
    check,
    merge_statements,
    operator_parts,
    partition_of,
    service_parts,
)
from medley.policy.generate.check import document_of
from medley.policy.generate.part import yaml_text
from medley.policy.iam.policyset import alone
from medley.policy.prove import Prover
from medley.policy.rbac.verify import RbacReport
from medley.policy.repair.edits import edit_text, edit_value
from medley.policy.verify import IamReport, Verdict
from medley.policy.words import request_text

NEIGHBOURS = "other services' objects"
NO_Z3 = "proved by engine B alone: Z3 is not installed"
_PLURALS = {("karpenter.sh", "NodePool"): "nodepools"}
_NO_ROUTER = "none"


@dataclass(frozen=True, slots=True)
class Result:
    """A part as it is printed. `account`: NAMESPACE/NAME of who takes its role on; `doubt`: why it is not known."""

    checked: Checked
    account: str
    ceilings: tuple[str, ...] = ()
    merged: Merged | None = None
    doubt: str = ""

    @property
    def verdict(self) -> Verdict:
        """Of the part: with a reason for doubt, or a user's statements that were refused, not what the check said."""
        found = self.checked.report.verdict
        if self.merged is not None and not self.merged.usable:
            return Verdict.UNKNOWN if self.merged.outcome.value == "Unknown" else Verdict.VIOLATED
        if found is Verdict.SATISFIED and self.checked.too_long:
            return Verdict.VIOLATED
        return Verdict.UNKNOWN if found is Verdict.SATISFIED and self.doubt else found


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "generate",
        help="print the policies that services and the operator need, proved",
        description="Least-privilege IAM policies, trust policies, roles and bindings, each with its access spec. What "
        "is not proved is not printed. Exit 0: all proved; 1: one is not inside its ceilings, or a statement of "
        "spec.access was refused; 2: bad input; 4: unknown, as without Z3.",
    )
    parser.add_argument(
        "-f", "--filename", action="append", default=[], type=Path, metavar="FILE",
        help="LLMServices and GPUPools; a file or a directory, may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--service",
        action="append",
        default=[],
        metavar="NAMESPACE/NAME",
        help="this service; default: all, or with --operator none",
    )
    parser.add_argument("--operator", action="store_true", help="what the operator needs")
    parser.add_argument(
        "--part", action="append", default=[], choices=[name.value for name in PartName], help="this part; default: all"
    )
    cloud = parser.add_argument_group("the cluster in AWS; without it only what is Kubernetes' own is generated")
    cloud.add_argument("--aws-account", metavar="ID", help="12 digits")
    cloud.add_argument("--region", help="as in us-east-1; the partition follows from it")
    cloud.add_argument("--cluster", help="name of the EKS cluster")
    cloud.add_argument("--oidc-issuer", metavar="HOST/PATH", help="of the cluster, without https://; for --trust irsa")
    cloud.add_argument(
        "--trust", choices=[trust.value for trust in Trust], default=Trust.IRSA.value, help="default: irsa"
    )
    cloud.add_argument(
        "--role-name", metavar="NAME", help="of the IAM role, where one service or the operator is meant"
    )
    operator = parser.add_argument_group("the operator")
    operator.add_argument(
        "--operator-account", default="medley-system/medley", metavar="NAMESPACE/NAME", help="its ServiceAccount"
    )
    operator.add_argument(
        "--namespaces", default="", metavar="NAME,…", help="of the services that it looks after; default: all"
    )
    operator.add_argument(
        "--eks-pool", action="append", default=[], metavar="POOL=NODEGROUP[/ASG]",
        help="a GPUPool that is an EKS managed node group, with the Auto Scaling group to scale it by; may be repeated",
    )  # fmt: skip
    operator.add_argument(
        "--scale-resource", action="append", default=[], metavar="PLURAL.GROUP",
        help="resource of a pool's scale target, as in nodegroups.example.com; Karpenter's is known",
    )  # fmt: skip
    parser.add_argument(
        "--router", choices=[*(access.value for access in RouterAccess), _NO_ROUTER],
        default=RouterAccess.ACKNOWLEDGE.value, help="what the router of a service does with its ConfigMap",
    )  # fmt: skip
    parser.add_argument(
        "--router-account", metavar="NAME", help="ServiceAccount of the router; default: SERVICE-router"
    )
    parser.add_argument(
        "--ceiling", action="append", default=[], metavar="NAME",
        help="a shipped ceiling, or a spec file, in place of those that suit each part; none: only the part's own",
    )  # fmt: skip
    parser.add_argument("--timeout-ms", type=int, default=5000, help="limit of one question to Z3 (default 5000)")
    parser.add_argument("-o", "--output", choices=("json", "yaml", "kubectl", "terraform"), default="json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Generate, verify and print."""
    environment, resources = environment_of(args), resources_of(args)
    everybody = [_service_needs(args, key, access) for key, access in resources.access]
    with_z3 = importlib.util.find_spec("z3") is not None
    prover = prover_of(args) if with_z3 else Prover(args.timeout_ms, (Engine.ATOMS,))
    results = []
    for part, account, access, needs in _chosen(args, environment, resources):
        neighbours = ""
        if environment is not None and needs is not None:
            neighbours = Aws(environment).neighbours_ceiling(needs, everybody)
        results.append(_result(part, account, access, neighbours, prover, args))
    if not results:
        raise UserError(
            "nothing is to be generated", field="policy generate", fix="Give -f, --operator, or other parts"
        )
    worst = max((EXIT[result.verdict] for result in results), default=0)
    worst = 1 if any(result.verdict is Verdict.VIOLATED for result in results) else worst
    for result in results:
        print("\n".join(_lines(result)), file=sys.stderr)
    _print(args.output, results, environment, worst)
    return worst


def environment_of(args: argparse.Namespace) -> ClusterEnvironment | None:
    """Where the cluster is; None: no option says.

    Raises:
        UserError: some of the options are missing.
    """
    options = {"--aws-account": args.aws_account, "--region": args.region, "--cluster": args.cluster}
    missing = [name for name, value in options.items() if value is None]
    if len(missing) == len(options):
        for name, value in (("--oidc-issuer", args.oidc_issuer), ("--role-name", args.role_name)):
            if value is not None:
                raise UserError("says nothing without a cluster", field=name, fix="Give --aws-account")
        return None
    if missing:
        raise UserError("is missing", field=missing[0], fix="Give account, region and cluster together")
    return ClusterEnvironment(
        partition_of(args.region), args.aws_account, args.region, args.cluster, args.oidc_issuer, Trust(args.trust)
    )


def resources_of(args: argparse.Namespace) -> Resources:
    """What the files declare.

    Raises:
        UserError: an object in them is wrong.
    """
    resources = parse(read_manifests(args.filename))
    for name, error in resources.errors:
        raise UserError(error.message, field=f"{name} {error.field}", fix=error.fix)
    return resources


def _chosen(
    args: argparse.Namespace, environment: ClusterEnvironment | None, resources: Resources
) -> Iterator[tuple[Part, str, AccessSpec | None, ServiceNeeds | None]]:
    """The parts that are asked for, with the account of their role, and the access and needs of their service."""
    every_service = not args.service and not args.operator
    known = {str(service.key): service.key for service in resources.services}
    for name in args.service:
        if name not in known:
            raise UserError(
                f"{name!r} is not in the files", field="--service", fix=f"There: {', '.join(known) or 'none'}"
            )
    keys = [key for name, key in known.items() if name in args.service or every_service]
    if args.eks_pool and not args.operator:
        raise UserError("is for the operator", field="--eks-pool", fix="Give --operator")
    if args.role_name is not None and len(keys) + args.operator != 1:
        raise UserError("is of one role", field="--role-name", fix="Give one --service, or --operator alone")
    kinds = {"kubectl": {PolicyKind.RBAC}, "terraform": {PolicyKind.IAM_IDENTITY, PolicyKind.IAM_TRUST}}
    wanted = kinds.get(args.output, set(PolicyKind))

    def asked(part: Part) -> bool:
        return part.kind in wanted and (not args.part or part.name.value in args.part)

    declared = dict(resources.access)
    for key in keys:
        access = declared.get(key)
        needs = _service_needs(args, key, access)
        if environment is None and (needs.uses_cloud or needs.image_repository_arn is not None):
            print(f"{key}: IAM is left out: give --aws-account, --region and --cluster", file=sys.stderr)
        for part in service_parts(needs, environment):
            if asked(part):
                yield part, f"{key.namespace}/{needs.account}", access, needs
    if args.operator:
        needs_of_operator = _operator_needs(args, resources)
        for part in operator_parts(needs_of_operator, environment):
            if asked(part):
                yield part, str(needs_of_operator.account), None, None


def _service_needs(args: argparse.Namespace, key: ServiceKey, access: AccessSpec | None) -> ServiceNeeds:
    router = None
    if args.router != _NO_ROUTER:
        account = args.router_account or f"{key.name}-router"
        router = RouterNeeds(account, config_map_name(key.name), RouterAccess(args.router))
    return to_needs(key, access, router, args.role_name)


def _operator_needs(args: argparse.Namespace, resources: Resources) -> OperatorNeeds:
    namespace, slash, name = args.operator_account.partition("/")
    if not slash or not namespace or not name:
        raise UserError(f"{args.operator_account!r} is not NAMESPACE/NAME", field="--operator-account")
    groups = []
    for item in args.eks_pool:
        pool, equals, rest = item.partition("=")
        nodegroup, slash, scaling = rest.partition("/")
        if not equals or not pool or not nodegroup or (slash and not scaling):
            raise UserError(f"{item!r} is not POOL=NODEGROUP[/ASG]", field="--eks-pool")
        groups.append(NodegroupPool(pool, nodegroup, scaling or None))
    services = tuple(item for item in args.namespaces.split(",") if item)
    rights: tuple[Right, ...] = (*RIGHTS, *lease_rights(namespace, name))
    for group, plural in _scale_resources(args, resources):
        rights += scale_rights(group, plural)
    manifests = tuple(role_manifests(name, namespace, rights, services))
    return OperatorNeeds(ServiceKey(namespace, name), tuple(groups), rights, manifests, services, args.role_name)


def _scale_resources(args: argparse.Namespace, resources: Resources) -> Iterator[tuple[str, str]]:
    """(group, plural) of the scale targets of the pools, each once."""
    given = []
    for item in args.scale_resource:
        plural, dot, group = item.partition(".")
        if not dot or not plural or not group:
            raise UserError(
                f"{item!r} is not PLURAL.GROUP", field="--scale-resource", fix="As in nodepools.karpenter.sh"
            )
        given.append((group, plural))
    found = dict.fromkeys(given)
    for pool in resources.pools:
        if pool.scale is not None:
            group = pool.scale.api_version.partition("/")[0] if "/" in pool.scale.api_version else ""
            known = _PLURALS.get((group, pool.scale.kind))
            if known is not None:
                found[(group, known)] = None
            elif group not in {other for other, _ in given}:
                raise UserError(
                    f"the resource of {pool.scale.api_version} {pool.scale.kind} is not known",
                    field=f"GPUPool/{pool.name} spec.provider.scale",
                    fix=f"Give --scale-resource PLURAL.{group}",
                )
    yield from found


def _result(
    part: Part, account: str, access: AccessSpec | None, neighbours: str, prover: Prover, args: argparse.Namespace
) -> Result:
    own = [name for name in args.ceiling if name != "none"] if args.ceiling else list(part.ceilings)
    ceilings = {name: ceiling_text(name) for name in own}
    doubt = "" if Engine.SMT in prover.engines else NO_Z3
    statements = (access.statements if access is not None else None) or []
    if part.name is not PartName.POD_POLICY or not statements or doubt:
        return Result(check(part, prover, ceilings), account, tuple(own), doubt=doubt)
    field = f"{part.owner} spec.access.statements"
    if neighbours:
        ceilings[NEIGHBOURS] = neighbours
    merged = merge_statements(part, statements, prover, ceilings, field)
    return Result(check(merged.part, prover, ceilings), account, tuple(own), merged)


def _lines(result: Result) -> Iterator[str]:
    """What is said of a part on stderr."""
    checked = result.checked
    part, report = checked.part, checked.report
    engines = "+".join(engine.value for engine in checked.engines)
    proof = f", {len(report.proved)} rules proved by {engines}" if result.verdict is Verdict.SATISFIED else ""
    yield f"{part.title}: {result.verdict.value}{proof}"
    if result.doubt:
        yield f'  {result.doubt}: install "medley[policy]"'
    if checked.too_long and part.limit is not None:
        yield f"  {checked.characters:,} characters, more than the {part.limit.value:,} of {part.limit.name.lower()}"
    if result.merged is not None:
        yield f"  statements: {result.merged.outcome.value}" + (
            f": {result.merged.reason}" if result.merged.reason else ""
        )
        if result.merged.witness is not None:
            yield f"    {request_text(result.merged.witness)}"
        if result.merged.usable:
            yield from (f"    {edit_text(edit)}" for edit in result.merged.repair.edits)
    if report.verdict is not Verdict.SATISFIED:
        yield from list(_report_lines(checked))[1:]


def _report_lines(checked: Checked) -> Sequence[str]:
    report: Any = checked.report
    if checked.part.kind is PolicyKind.RBAC:
        rbac: RbacReport = report
        return list(rbac_report_lines(rbac))
    iam: IamReport = report
    return list(report_lines(iam, alone(document_of(checked.part, checked.part.document_text))))


def _object(result: Result) -> dict[str, Any]:
    """The JSON of a part; `document` is null where it is not proved."""
    checked, merged = result.checked, result.merged
    part = checked.part
    report: Any = checked.report
    rbac = part.kind is PolicyKind.RBAC
    proved = result.verdict is Verdict.SATISFIED
    said = rbac_report_object(report) if rbac else report_object(report, alone(document_of(part, part.document_text)))
    return {
        "owner": part.owner,
        "part": part.name.value,
        "kind": part.kind.value,
        "role": part.role or None,
        "serviceAccount": result.account if part.role or rbac else None,
        "verdict": result.verdict.value,
        "reason": result.doubt or (merged.reason if merged is not None else ""),
        "engines": [engine.value for engine in checked.engines],
        "characters": None if rbac else checked.characters,
        "limit": None if part.limit is None else part.limit.value,
        "document": part.document if proved else None,
        "spec": part.spec,
        "ceilings": list(result.ceilings),
        "report": said,
        "statements": None if merged is None else _merged_object(merged),
    }


def _merged_object(merged: Merged) -> dict[str, Any]:
    witness = merged.witness
    return {
        "outcome": merged.outcome.value,
        "reason": merged.reason,
        "witness": None if witness is None else request_object(witness),
        "edits": [edit_value(edit) for edit in merged.repair.edits] if merged.usable else [],
    }


def _print(output: str, results: Sequence[Result], environment: ClusterEnvironment | None, worst: int) -> None:
    if output in ("json", "yaml"):
        verdict = next(verdict for verdict, code in EXIT.items() if code == worst)
        whole = {"verdict": verdict.value, "parts": [_object(result) for result in results]}
        print(json.dumps(whole) if output == "json" else yaml_text([whole]), end="\n" if output == "json" else "")
    elif worst:
        print("nothing is printed: not everything is proved", file=sys.stderr)
    elif output == "kubectl":
        print(yaml_text([found for result in results for found in result.checked.part.document]), end="")  # type: ignore[misc]
    else:
        assert environment is not None
        print(terraform_text([(result.checked.part, result.account) for result in results], environment), end="")
