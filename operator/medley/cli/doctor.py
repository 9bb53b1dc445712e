"""`medley doctor`: what is missing in a cluster before Medley can work there."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from medley.cli.run import add_namespaces, environment_for, lease_of


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="what is missing in a cluster",
        description="Checks the version of Kubernetes, the CRDs, the rights of the account that the kubeconfig names, "
        "also on what the pools scale, and Prometheus; changes nothing. Run it as the operator's account to know what "
        "the operator lacks. Exit 0: nothing is missing; 1: something is, and standard output says how to fix it; "
        "2: bad input.",
    )
    parser.add_argument(
        "--kubeconfig", type=Path, help="default: $KUBECONFIG, then the pod's own account, then ~/.kube/config"
    )
    parser.add_argument("--prometheus", metavar="URL", help="where vLLM's metrics are")
    parser.add_argument("--lease", metavar="NAMESPACE/NAME", help="check the rights on this Lease too")
    add_namespaces(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check once."""
    kubeconfig = environment_for(args.kubeconfig)
    lease = lease_of(args.lease, "doctor")
    from medley.actuation.cluster_api import ClusterApi
    from medley.controller.preflight import needed, preflight
    from medley.telemetry.prometheus import PrometheusSource

    api = ClusterApi(kubeconfig)
    try:
        metrics = PrometheusSource(args.prometheus) if args.prometheus else None
        missing = preflight(api, metrics, needed(api, lease), args.namespaces)
    finally:
        api.close()
    if args.output == "json":
        json.dump({"missing": [{"what": item.what, "fix": item.fix} for item in missing]}, sys.stdout, indent=2)
        print()
    else:
        print("\n".join(f"missing: {item.what}\n  fix: {item.fix}" for item in missing) or "nothing is missing")
    return 1 if missing else 0
