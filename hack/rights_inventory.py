"""The committed inventory of what the operator calls, and the page that lays it beside the operator's rights.

    python hack/rights_inventory.py          writes the table in docs/reference/rights.md

tests/e2e/test_rights.py records it (`make calls`) and compares; tests/unit/test_rights_inventory.py proves that the
roles allow what was called and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medley.actuation.rights import (
    RIGHTS,
    Right,
    Scope,
    lease_creation_rights,
    lease_rights,
    role_manifests,
    scale_rights,
)
from medley.lab.calls import Installation, Use
from medley.policy.rbac.parse import parse_manifest
from medley.policy.rbac.roleset import RoleSet

ROOT = Path(__file__).parents[1]
INVENTORY = ROOT / "tests" / "data" / "calls.json"
PAGE = ROOT / "docs" / "reference" / "rights.md"
BEGIN, END = "<!-- made by `make calls` -->", "<!-- end -->"

NAMESPACE = "medley-system"
SERVICES = ("batch", "serving")
INSTALLATIONS = {
    # As the chart with `namespaces`: it brings the Lease.
    "in-two-namespaces": Installation("medley", NAMESPACE, SERVICES, SERVICES),
    # Without --namespaces, and where the operator has to create its Lease.
    "everywhere": Installation("medley-everywhere", NAMESPACE, SERVICES),
}


@dataclass(frozen=True, slots=True)
class Inventory:
    """All recordings, and what each test needs.

    Attributes:
        calls: kinds of calls by installation.
        tests: by node id, the calls without which the test fails, as `verb resource.group`.
    """

    calls: Mapping[str, tuple[Use, ...]]
    tests: Mapping[str, tuple[str, ...]]

    def needing(self, use: Use) -> list[str]:
        """Node ids of the tests that fail without such a call."""
        return [node for node, calls in self.tests.items() if text_of(use) in calls]


def text_of(use: Use) -> str:
    """What tests write of a kind of call: without names."""
    return f"{use.verb} {use.resource}{f'.{use.group}' if use.group else ''}"


def creates_lease(installation: Installation) -> bool:
    """Whether nobody else brings the Lease."""
    return not installation.looks_after


def rights_of(installation: Installation) -> tuple[Right, ...]:
    """What an operator that is installed so needs."""
    creation = lease_creation_rights(installation.namespace) if creates_lease(installation) else ()
    lease = lease_rights(installation.namespace, installation.name)
    return (*RIGHTS, *lease, *creation, *scale_rights("lab.medley.dev", "nodegroups"))


def roles_with(installation: Installation, rights: Iterable[Right]) -> RoleSet:
    """The roles that give the account these rights."""
    manifests = role_manifests(installation.name, installation.namespace, rights, installation.looks_after)
    return RoleSet(parse_manifest(yaml.safe_dump_all(manifests)))


def read() -> Inventory:
    """What is committed."""
    document = json.loads(INVENTORY.read_text(encoding="utf-8"))
    return Inventory(
        {
            name: tuple(
                Use(
                    call["apiGroup"], call["resource"], call["verb"], tuple(call["namespaces"]),
                    tuple(call.get("resourceNames", ())),
                )
                for call in calls
            )
            for name, calls in document["calls"].items()
        },
        {node: tuple(calls) for node, calls in document["tests"].items()},
    )  # fmt: skip


def write(inventory: Inventory) -> None:
    """Replace what is committed."""
    document = {
        "calls": {name: [_as_json(use) for use in found] for name, found in sorted(inventory.calls.items())},
        "tests": inventory.tests,
    }
    INVENTORY.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _as_json(use: Use) -> dict[str, Any]:
    named = {"resourceNames": list(use.names)} if use.names else {}
    return {
        "verb": use.verb, "apiGroup": use.group, "resource": use.resource, **named, "namespaces": list(use.namespaces),
    }  # fmt: skip


_WHERE = {
    Scope.CLUSTER: "everywhere",
    Scope.SERVICES: "namespaces of services",
    Scope.LEASE: "namespace of the lease",
    Scope.POOL_EVENTS: "`default`",
}


def table(inventory: Inventory) -> str:
    """One row for each verb of each rule: the call that was recorded, and the tests that need it."""
    rows = [
        "| API group | resource | verb | where | recorded in | test that fails without it |",
        "|---|---|---|---|---|---|",
    ]
    wanted = dict.fromkeys(right for installation in INSTALLATIONS.values() for right in rights_of(installation))
    seen = set()
    for right in wanted:
        for verb in right.verbs:
            key = (right.group, right.resource, verb, right.scope)
            if key in seen:
                continue
            seen.add(key)
            mine = [
                (name, use)
                for name, found in inventory.calls.items()
                for use in found
                if use.serves(right) and use.verb == verb
            ]
            places = sorted(
                {
                    place or "no namespace"
                    for _, use in mine
                    for place in use.namespaces
                    if right.scope is not Scope.POOL_EVENTS or place == right.namespace
                    if right.scope is not Scope.SERVICES or place in ("", *SERVICES)
                }
            )
            tests = dict.fromkeys(test.rpartition("::")[2] for _, use in mine for test in inventory.needing(use))
            named = " (its own)" if right.names else ""
            rows.append(
                f"| {right.group or 'core'} | {right.resource}{named} | {verb} | {_WHERE[right.scope]} "
                f"| {', '.join(places)} | {', '.join(f'`{test}`' for test in tests)} |"
            )
    return "\n".join(rows)


def page(text: str, inventory: Inventory) -> str:
    """The page with its table made anew."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table(inventory)}\n{END}{tail}"


def main() -> int:
    """Write the table."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
