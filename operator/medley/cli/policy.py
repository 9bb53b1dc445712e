"""`medley policy`: check access policies against a spec, compare, explain and repair them, offline."""

from __future__ import annotations

import argparse
import importlib

COMMANDS = ("verify", "diff", "explain", "localise", "repair", "requests", "generate")
"""One module `policy_NAME` of this room each, with `register(subparsers)`; imported only when `policy` is named."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its own commands."""
    parser = subparsers.add_parser(
        "policy",
        help="verify, compare, explain and repair access policies, offline",
        description="AWS IAM policies and Kubernetes RBAC against access specs. Exit 0: it holds; 1: it does not, or "
        "cannot be repaired; 2: bad input; 4: unknown.",
    )
    inner = parser.add_subparsers(dest="policy_command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"medley.cli.policy_{name}").register(inner)
