"""Grants and faults of roles in words."""

from __future__ import annotations

from collections.abc import Iterable

from medley.policy.rbac.localise import Fault
from medley.policy.rbac.roleset import Grant


def binding_name(grant: Grant) -> str | None:
    """The binding of a grant; None: everybody, for lack of any."""
    return None if grant.implied else str(grant.binding)


def grant_text(grant: Grant) -> str:
    """A grant on one line."""
    binding = binding_name(grant)
    return grant.place + (f" through {binding}" if binding else "")


def fault_lines(fault: Fault) -> Iterable[str]:
    """A fault for people."""
    witness = fault.witness
    yield f"  {witness.rule.side.value} {witness.rule.id}: {witness.request}"
    yield f"    {fault.case.value}"
    for blame in fault.blamed:
        by = [f"{found.name} {', '.join(map(_shown, found.entries))}" for found in blame.elements if found.entries]
        yield f"    {grant_text(blame.grant)} matches by {'; '.join(by)}"
    for blame in fault.near:
        lacks = [found.name for found in blame.elements if not found.matches]
        yield f"    {grant_text(blame.grant)} would allow it but for {'; '.join(lacks)}"


def _shown(entry: str) -> str:
    return entry or '""'
