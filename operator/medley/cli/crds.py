"""`medley crds`: print the CRDs, or write them to a directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from medley.api.crds import crd_files


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("crds", help="print the CRDs")
    parser.add_argument("--directory", type=Path, help="write one file a CRD here instead of printing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print or write."""
    files = crd_files()
    if args.directory is None:
        print("---\n".join(files.values()), end="")
        return 0
    args.directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (args.directory / name).write_text(text, encoding="utf-8")
    return 0
