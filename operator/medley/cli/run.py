"""`medley run`: the operator."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from medley.cycle.snapshot import Settings
from medley.model.errors import UserError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("run", help="run the operator")
    parser.add_argument("--kubeconfig", type=Path, help="default: $KUBECONFIG, then ~/.kube/config")
    parser.add_argument(
        "--prometheus", metavar="URL", help="where vLLM's metrics are; without it all demand is unknown"
    )
    parser.add_argument("--interval", type=float, default=15.0, metavar="S", help="seconds between cycles (default 15)")
    parser.add_argument(
        "--stabilisation",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds for which demand must have been lower before anything shrinks (default 300)",
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
    parser.add_argument("--verbose", action="store_true", help="log debug messages")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until a signal."""
    for name in ("interval", "stabilisation", "window"):
        if not getattr(args, name) > 0:
            raise UserError("must be above 0", field=f"--{name}")
    if args.interval > args.stabilisation / 2:
        raise UserError(
            f"{args.interval:g} s is more than half of --stabilisation {args.stabilisation:g} s: nothing would shrink",
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
    kubeconfig = args.kubeconfig or Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not kubeconfig.is_file():
        raise UserError("no such file", field=f"--kubeconfig {kubeconfig}", fix="Give --kubeconfig or set KUBECONFIG")
    # kopf logs in by the environment, and the client reads it when it is imported: set it before either is.
    os.environ["KUBECONFIG"] = str(kubeconfig)
    from medley.controller.loop import LoopSettings
    from medley.controller.operator import run as run_operator
    from medley.telemetry.prometheus import PrometheusSource

    metrics = (
        PrometheusSource(args.prometheus, window_s=args.window, subquery_step_s=max(1.0, args.window / 30.0))
        if args.prometheus
        else None
    )
    run_operator(
        kubeconfig,
        metrics,
        Settings(stabilisation_s=args.stabilisation, max_sample_age_s=args.window / 2, change_cost=args.change_cost),
        LoopSettings(args.interval, args.snapshot_dir),
    )
    return 0
