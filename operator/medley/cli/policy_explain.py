"""`medley policy explain`: how is one request decided, and why?"""

from __future__ import annotations

import argparse
import json

from medley.cli.policy_input import add_document, policies_of, read_any
from medley.cli.policy_output import request_object, statement_object
from medley.cli.policy_rbac import explain_manifest
from medley.model.errors import UserError
from medley.policy.iam.evaluate import Evaluator, StatementRef
from medley.policy.iam.policyset import Layer
from medley.policy.iam.request import Request, request
from medley.policy.localise import elements_on
from medley.policy.rbac.document import Manifest
from medley.policy.words import document_at, request_text, statement_text


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "explain",
        help="decide one request and say why",
        description="Exit 0: allowed; 1: denied; 2: bad input.",
    )
    add_document(parser)
    parser.add_argument("--action", help="of AWS, as in s3:GetObject")
    parser.add_argument("--resource", default="", help="an ARN, default *; or of Kubernetes, as in pods/log")
    parser.add_argument("--principal", help="ARN of the caller; default: nobody")
    parser.add_argument(
        "--context", action="append", default=[], metavar="KEY=VALUE", help="a condition key; again for several values"
    )
    kubernetes = parser.add_argument_group("requests to Kubernetes")
    kubernetes.add_argument("--verb", help="as in get")
    kubernetes.add_argument("--api-group", default="", help="default: the core group")
    kubernetes.add_argument("--name", default="", help="of the object; default: none, as in list and create")
    kubernetes.add_argument("--namespace", default="", help="default: none")
    kubernetes.add_argument("--path", default="", help="a URL that is no resource, as in /metrics")
    kubernetes.add_argument("--as", dest="user", help="who asks, as in system:serviceaccount:NAMESPACE:NAME")
    kubernetes.add_argument("--as-group", action="append", default=[], metavar="GROUP", help="may be repeated")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decide and print."""
    document = read_any(args.document)
    if isinstance(document, Manifest):
        return explain_manifest(document, args)
    policies, asked = policies_of(args, document), request_of(args)
    evaluator = Evaluator(policies)
    decision = evaluator.decide(asked)
    matching = {ref for ref, _ in evaluator.matching(asked)}
    rows: list[StatementRef] = []
    numbers: dict[Layer, int] = {}
    for layer, document in policies.layers():
        number = numbers[layer] = numbers.get(layer, -1) + 1
        rows.extend(StatementRef(layer, number, index) for index in range(len(document.statements)))
    elements = {}
    for ref in rows:
        document = document_at(policies, ref)
        elements[ref] = elements_on(document, document.statements[ref.statement], asked)
    if args.output == "json":
        out = {
            "decision": decision.value,
            "request": request_object(asked),
            "statements": [
                {
                    **statement_object(ref, policies),
                    "matches": ref in matching,
                    "elements": [
                        {"element": found.name, "matches": found.matches, "entries": list(found.entries)}
                        for found in elements[ref]
                    ],
                }
                for ref in rows
            ],
        }
        print(json.dumps(out))
    else:
        print(f"{decision.value}: {request_text(asked)}")
        for ref in rows:
            effect = document_at(policies, ref).statements[ref.statement].effect.value
            lacks = [found.name for found in elements[ref] if not found.matches]
            said = "matches" if ref in matching else f"does not match: {'; '.join(lacks)}"
            print(f"  {statement_text(ref, policies)}, {effect}: {said}")
    return 0 if decision.allowed else 1


def request_of(args: argparse.Namespace) -> Request:
    """The request that the options describe."""
    for name in ("verb", "api_group", "name", "namespace", "path", "user", "as_group"):
        if getattr(args, name):
            option = "--as" if name == "user" else f"--{name.replace('_', '-')}"
            raise UserError("is for Kubernetes manifests", field=option, fix="Leave it out")
    if args.action is None:
        raise UserError("is missing", field="--action", fix="Name one, as in s3:GetObject")
    service, _, name = args.action.partition(":")
    if not service or not name:
        raise UserError(f"{args.action!r} is no action", field="--action", fix="Use service:Name")
    context: dict[str, list[str]] = {}
    for item in args.context:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UserError(f"{item!r} is not KEY=VALUE", field="--context")
        context.setdefault(key, []).append(value)
    return request(args.action, args.resource or "*", args.principal, context)
