"""`medley lab`: a local control plane with fake GPU nodes, up until it is taken down."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medley.lab.detached import LabStatus


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `lab` with `up`, `down` and `status`."""
    parser = subparsers.add_parser("lab", help="a local Kubernetes control plane with fake GPU nodes")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    up = actions.add_parser("up", help="start it; the first time, missing binaries are built, which takes minutes")
    up.add_argument("--directory", type=Path, help="for its files: empty or absent, and removed by `down`")
    up.set_defaults(run=_up)
    actions.add_parser("down", help="stop it and remove its files").set_defaults(run=_down)
    actions.add_parser("status", help="say how it is; exit status 1 if it is not up").set_defaults(run=_status)
    for action in actions.choices.values():
        action.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")


# The lab is imported where it is used: it brings the Kubernetes client, which other commands should not wait for.


def _up(args: argparse.Namespace) -> int:
    from medley.lab import detached

    status = detached.up(args.directory, progress=_tell)
    _print(args, status)
    if args.output == "text":
        print(f"\nTo use it: export KUBECONFIG={status.kubeconfig}")
    return 0


def _down(args: argparse.Namespace) -> int:
    from medley.lab import detached

    _print(args, detached.down())
    return 0


def _status(args: argparse.Namespace) -> int:
    from medley.lab import detached

    status = detached.status()
    _print(args, status)
    return 0 if status.state is detached.LabState.UP else 1


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(args: argparse.Namespace, status: LabStatus) -> None:
    fields = asdict(status)
    if args.output == "json":
        print(json.dumps({_camel(name): value for name, value in fields.items()}))
        return
    for name, value in fields.items():
        if value:
            print(f"{name.replace('_', ' '):<12}{value}")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
