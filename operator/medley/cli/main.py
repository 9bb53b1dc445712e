"""Entry point: `medley COMMAND …`. Exit codes: 0 done, 1 failed, 2 bad input, 3 no plan, 4 unknown (policy)."""

from __future__ import annotations

import argparse
import importlib
import sys

from medley import __version__
from medley.model.errors import MedleyError, UserError

COMMANDS = ("plan", "explain", "replay", "profile", "policy", "crds", "run", "access", "doctor", "lab", "demo")
"""One module of this room each, with `register(subparsers)`; imported only when named, so that `plan` starts fast."""

HELP = {
    "plan": "solve the services in manifest files, offline",
    "explain": "why a plan is as it is: limits, unused variants, next best, sizes not served",
    "replay": "decide again from a recorded snapshot",
    "profile": "estimate, import or measure how fast a replica is",
    "policy": "verify, compare, explain and repair access policies, offline",
    "crds": "print the CRDs",
    "run": "run the operator",
    "access": "look after AccessPolicies: prove what is in force, propose or write repairs",
    "doctor": "what is missing in a cluster before Medley can work there",
    "lab": "a local control plane: up, down, status",
    "demo": "the whole loop on this machine: control plane, Prometheus, simulated GPUs, real traffic",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="medley", description="Keeps LLM services inside their latency objectives at the lowest GPU cost."
    )
    parser.add_argument("--version", action="version", version=f"medley {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    for command in COMMANDS:
        if command == named:
            importlib.import_module(f"medley.cli.{command}").register(subparsers)
        else:
            subparsers.add_parser(command, help=HELP[command], add_help=False)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except UserError as error:
        print(f"medley: {error}", file=sys.stderr)
        return 2
    except MedleyError as error:
        print(f"medley: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
