"""`medley policy requests`: makes a request list from a policy, in CloudFix's format."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from medley.cli.policy_input import read_document
from medley.model.errors import UserError
from medley.policy.requests import generate
from medley.policy.spec.cloudfix import MAX_REQUESTS


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "requests",
        help="make a request list from a document, to try repairs with",
        description='Prints {"Requests": […]}: 60 % must be allowed, 40 % denied. The same seed gives the same list.',
    )
    parser.add_argument("--document", "-d", type=Path, required=True, help="the policy document (JSON); - is stdin")
    parser.add_argument("--count", "-n", type=int, default=20, help="number of requests (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default 1)")
    parser.add_argument(
        "--misclassified",
        type=float,
        default=0.7,
        help="share whose Principal and Condition are rewritten (default 0.7)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Generate and print."""
    if not 1 <= args.count <= MAX_REQUESTS:
        raise UserError(f"{args.count} is out of range", field="--count", fix=f"Give 1 to {MAX_REQUESTS}")
    if not 0 <= args.misclassified <= 1:
        raise UserError(f"{args.misclassified} is no share", field="--misclassified", fix="Give 0 to 1")
    document = read_document(args.document)
    print(json.dumps(generate(document, args.count, random.Random(args.seed), args.misclassified), indent=2))
    return 0
