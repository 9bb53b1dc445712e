"""`medley access`: looks after AccessPolicies, in a process of its own."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from medley.cli.run import add_namespaces, environment_for, lease_of
from medley.model.errors import UserError
from medley.policy.generate import ClusterEnvironment, Trust, partition_of

if TYPE_CHECKING:
    from medley.controller.access.reviewer import ProposerSettings


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "access",
        help="look after AccessPolicies",
        description="Reads the policies that AccessPolicies name, proves them, and proposes repairs in their status. "
        "With --enforce it is the policy writer: repairs of AccessPolicies in mode Enforce are written once both "
        "engines have proved them. It runs beside `medley run` and shares nothing with it, neither process nor rights.",
    )
    parser.add_argument(
        "--kubeconfig", type=Path, help="default: $KUBECONFIG, then the pod's own account, then ~/.kube/config"
    )
    parser.add_argument("--interval", type=float, default=30.0, metavar="S", help="seconds between looks (default 30)")
    parser.add_argument("--enforce", action="store_true", help="write what is proved, where mode is Enforce")
    parser.add_argument(
        "--timeout-ms", type=int, default=5000, help="limit of one question to Z3 (default 5000); no answer: no write"
    )
    parser.add_argument(
        "--review-seconds", type=float, default=60.0, metavar="S", help="limit of one review (default 60)"
    )
    parser.add_argument(
        "--lease", metavar="NAMESPACE/NAME", help="look only while holding this Lease, so that of several one does"
    )
    parser.add_argument("--identity", help="in the Lease (default: the host's name and a random part)")
    parser.add_argument("--health-port", type=int, metavar="PORT", help="answer probes here (default: nowhere)")
    parser.add_argument("--health-host", default="", metavar="ADDRESS", help="answer them here only (default: all)")
    add_namespaces(parser)
    cloud = parser.add_argument_group("AWS", "where the cluster is, for policies that are generated for it")
    cloud.add_argument("--aws-account", metavar="DIGITS", help="the account's 12 digits")
    cloud.add_argument("--region", help="as in us-east-1; it says the partition too")
    cloud.add_argument("--cluster", help="name of the EKS cluster")
    cloud.add_argument("--oidc-issuer", help="of the cluster, without https://; needed for irsa")
    cloud.add_argument("--trust", choices=[trust.value for trust in Trust], default=Trust.IRSA.value)
    model = parser.add_argument_group(
        "language model", "asked for edits of IAM documents first; held to the same proof"
    )
    model.add_argument("--proposer", metavar="URL", help="base URL of an OpenAI-compatible endpoint")
    model.add_argument("--proposer-model", default="", metavar="NAME", help="the model at --proposer")
    model.add_argument(
        "--proposer-key-file", type=Path, metavar="FILE", help="holds its key, as a mounted Secret does; read once"
    )
    model.add_argument(
        "--proposals-per-hour", type=int, default=20, metavar="N", help="repairs that it may be asked for (default 20)"
    )
    parser.add_argument("--verbose", action="store_true", help="log debug messages")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until a signal."""
    for name in ("interval", "review_seconds", "timeout_ms"):
        if not getattr(args, name) > 0:
            raise UserError("must be above 0", field=f"--{name.replace('_', '-')}")
    if args.health_port is not None and not 0 <= args.health_port <= 65535:
        raise UserError("must be between 0 and 65535", field="--health-port")
    environment, proposer = _environment(args), _proposer(args)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("urllib3", "botocore", "boto3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    kubeconfig = environment_for(args.kubeconfig)
    lease = lease_of(args.lease, args.identity)
    from medley.controller.access.loop import AccessSettings
    from medley.controller.access.run import AccessProcess
    from medley.controller.access.run import run as run_access

    run_access(
        AccessProcess(kubeconfig, lease, args.health_port, args.health_host, args.review_seconds),
        AccessSettings(
            args.interval,
            tuple(args.namespaces),
            args.enforce,
            args.timeout_ms,
            proposer=proposer,
            proposals_per_hour=args.proposals_per_hour,
        ),
        environment,
    )
    return 0


def _environment(args: argparse.Namespace) -> ClusterEnvironment | None:
    """The cluster's place in AWS, if it was given."""
    given = {"--aws-account": args.aws_account, "--region": args.region, "--cluster": args.cluster}
    if not any(given.values()):
        return None
    for name, value in given.items():
        if not value:
            raise UserError("is missing", field=name, fix=f"It goes with {', '.join(set(given) - {name})}")
    return ClusterEnvironment(
        partition_of(args.region), args.aws_account, args.region, args.cluster, args.oidc_issuer, Trust(args.trust)
    )


def _proposer(args: argparse.Namespace) -> ProposerSettings | None:
    if args.proposer is None:
        return None
    if not args.proposer_model:
        raise UserError("needs a model", field="--proposer", fix="Name one with --proposer-model")
    from medley.controller.access.reviewer import ProposerSettings

    key = ""
    if args.proposer_key_file is not None:
        try:
            key = args.proposer_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot be read: {error}", field=f"--proposer-key-file {args.proposer_key_file}") from None
    return ProposerSettings(args.proposer, args.proposer_model, key)
