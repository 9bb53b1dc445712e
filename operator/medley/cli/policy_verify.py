"""`medley policy verify`: does a document fit its access spec?"""

from __future__ import annotations

import argparse
import json

from medley.cli.policy_input import (
    TARGETS,
    add_common,
    add_document,
    add_spec,
    main_document,
    policies_of,
    prover_of,
    read_any,
    spec_of,
    too_long_for,
)
from medley.cli.policy_output import report_lines, report_object
from medley.cli.policy_rbac import verify_manifest
from medley.cli.policy_report import EXIT
from medley.policy.iam.render import size_characters
from medley.policy.rbac.document import Manifest
from medley.policy.verify import verify


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "verify",
        help="check a document against an access spec",
        description="Every rule of the spec is proved by two engines, or broken by a request. Exit 0: satisfied; "
        "1: violated, or over the size limit of --target; 2: bad input; 4: unknown.",
    )
    add_document(parser)
    add_spec(parser)
    parser.add_argument("--target", choices=sorted(TARGETS), help="where it will be attached: its size limit is a rule")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify and print."""
    document = read_any(args.document)
    if isinstance(document, Manifest):
        return verify_manifest(document, args)
    policies, spec = policies_of(args, document), spec_of(args)
    report = verify(policies, spec, prover_of(args))
    size = size_characters(main_document(policies))
    limit = TARGETS[args.target].value if args.target else None
    too_long = limit is not None and size > limit
    if args.output == "json":
        sizes = {"characters": size, "limit": limit, "tooLongFor": too_long_for(main_document(policies))}
        print(json.dumps({**report_object(report, policies), **sizes}))
    else:
        print("\n".join(report_lines(report, policies)))
        if too_long:
            print(f"  {size:,} characters, more than the {limit:,} of {args.target}")
        elif limit is None and too_long_for(main_document(policies)):
            print(f"  {size:,} characters, too long for {', '.join(too_long_for(main_document(policies)))}")
    return max(EXIT[report.verdict], 1) if too_long else EXIT[report.verdict]
