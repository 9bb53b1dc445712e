"""How two documents compare, of whatever kind of policy."""

from __future__ import annotations

import argparse
import json
from typing import Any

from medley.policy.answers import W
from medley.policy.prove import Outcome, Proved, Refuted

_WORDS = {
    "Equivalent": "equivalent to",
    "Narrower": "narrower than",
    "Wider": "wider than",
    "Incomparable": "neither narrower nor wider than",
    "Unknown": "not comparable within the limits with",
}


def relation_of(gained: Outcome[W], lost: Outcome[W]) -> str:
    """In one word how the second document compares with the first."""
    if isinstance(gained, Proved) and isinstance(lost, Proved):
        return "Equivalent"
    if isinstance(gained, Proved) and isinstance(lost, Refuted):
        return "Narrower"
    if isinstance(gained, Refuted) and isinstance(lost, Proved):
        return "Wider"
    return "Incomparable" if isinstance(gained, Refuted) and isinstance(lost, Refuted) else "Unknown"


def print_relation(args: argparse.Namespace, relation: str, out: dict[str, Any], gained: Outcome[W]) -> int:
    """Print the comparison; the exit code."""
    if args.output == "json":
        print(json.dumps(out))
    else:
        print(f"{args.after} is {_WORDS[relation]} {args.before}")
        for name, side in (("now allowed", out["gained"]), ("no longer allowed", out["lost"])):
            if side["request"] is not None:
                print(f"  {name}: {side['text']}")
            elif side["reason"]:
                print(f"  {name}: unknown: {side['reason']}")
    if isinstance(gained, Proved):
        return 0
    return 1 if isinstance(gained, Refuted) else 4
