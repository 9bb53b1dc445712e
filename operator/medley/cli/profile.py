"""`medley profile`: estimate, import or measure how fast a replica is."""

from __future__ import annotations

import argparse

from medley.cli import profile_estimate, profile_import, profile_run


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("profile", help="estimate, import or measure how fast a replica is")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    profile_estimate.register(actions)
    profile_import.register(actions)
    profile_run.register(actions)
