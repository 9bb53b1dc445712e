"""`medley run`: the operator."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from medley.cycle.snapshot import Settings
from medley.model.errors import UserError

if TYPE_CHECKING:
    from medley.controller.lease import LeaseSettings


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("run", help="run the operator")
    parser.add_argument(
        "--kubeconfig", type=Path, help="default: $KUBECONFIG, then the pod's own account, then ~/.kube/config"
    )
    parser.add_argument(
        "--prometheus", metavar="URL", help="where vLLM's metrics are; without it all demand is unknown"
    )
    parser.add_argument("--interval", type=float, default=15.0, metavar="S", help="seconds between cycles (default 15)")
    parser.add_argument(
        "--stabilisation",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds for which no plan must have asked for a replica before it goes (default 300)",
    )
    parser.add_argument(
        "--window",
        type=float,
        default=120.0,
        metavar="S",
        help="range of the rates; at least four scrape intervals (default 120)",
    )
    parser.add_argument(
        "--snapshot-dir", type=Path, help="write each cycle's snapshot and decision here (last 50 kept)"
    )
    parser.add_argument(
        "--change-cost",
        type=float,
        default=0.15,
        metavar="SHARE",
        help="cost of starting a replica as a share of its hourly price: start-up time over expected holding time "
        "(default 0.15)",
    )
    parser.add_argument(
        "--lease",
        metavar="NAMESPACE/NAME",
        help="plan only while holding this Lease, so that of several operators one leads; without it there must be one",
    )
    parser.add_argument("--identity", help="in the Lease (default: the host's name and a random part)")
    parser.add_argument(
        "--health-port", type=int, metavar="PORT", help="answer probes at /healthz and /readyz (default: nowhere)"
    )
    parser.add_argument("--health-host", default="", metavar="ADDRESS", help="answer them here only (default: all)")
    add_namespaces(parser)
    parser.add_argument("--verbose", action="store_true", help="log debug messages")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until a signal."""
    for name in ("interval", "stabilisation", "window"):
        if not getattr(args, name) > 0:
            raise UserError("must be above 0", field=f"--{name}")
    if args.interval > args.stabilisation / 3:
        raise UserError(
            f"{args.interval:g} s is more than a third of --stabilisation {args.stabilisation:g} s: too few looks",
            field="--interval",
            fix="Plan more often, or raise --stabilisation",
        )
    if not 0 <= args.change_cost <= 10:
        raise UserError("must be between 0 and 10", field="--change-cost")
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("kopf", "urllib3", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if args.health_port is not None and not 0 <= args.health_port <= 65535:
        raise UserError("must be between 0 and 65535", field="--health-port")
    kubeconfig = environment_for(args.kubeconfig)
    lease = lease_of(args.lease, args.identity)
    from medley.controller.loop import LoopSettings
    from medley.controller.operator import OperatorSettings
    from medley.controller.operator import run as run_operator
    from medley.telemetry.prometheus import PrometheusSource

    metrics = (
        PrometheusSource(args.prometheus, window_s=args.window, subquery_step_s=max(1.0, args.window / 30.0))
        if args.prometheus
        else None
    )
    run_operator(
        metrics,
        Settings(stabilisation_s=args.stabilisation, max_sample_age_s=args.window / 2, change_cost=args.change_cost),
        LoopSettings(args.interval, args.snapshot_dir, tuple(args.namespaces)),
        OperatorSettings(kubeconfig, lease, args.health_port, args.health_host),
    )
    return 0


def add_namespaces(parser: argparse.ArgumentParser) -> None:
    """Which namespaces are looked after."""
    parser.add_argument(
        "--namespaces",
        nargs="+",
        default=[],
        metavar="NAMESPACE",
        help="look after the services of these only (default: of all); pools and profiles belong to no namespace",
    )


def environment_for(given: Path | None) -> Path | None:
    """The kubeconfig that was named, or that is there, put into KUBECONFIG; None in a pod, whose own account is used.

    Call it before kopf or the client is imported: they read the environment then.

    Raises:
        UserError: there is none.
    """
    named = given or (Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else None)
    if named is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    path = named or Path.home() / ".kube" / "config"
    if not path.is_file():
        raise UserError("no such file", field=f"--kubeconfig {path}", fix="Give --kubeconfig or set KUBECONFIG")
    os.environ["KUBECONFIG"] = str(path)
    return path


def lease_of(text: str | None, identity: str | None) -> LeaseSettings | None:
    """The lease that NAMESPACE/NAME names.

    Raises:
        UserError: it does not.
    """
    if text is None:
        return None
    from medley.controller.lease import LeaseSettings

    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise UserError(f"{text!r} is not NAMESPACE/NAME", field="--lease", fix="As in medley-system/medley")
    return LeaseSettings(namespace, name, identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}")
