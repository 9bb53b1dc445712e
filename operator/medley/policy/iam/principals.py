"""Principal elements as patterns over callers written `Type:id` (`AWS:arn:aws:iam::111122223333:role/r`).

Facts, from the IAM User Guide, "AWS JSON policy elements: Principal" and "NotPrincipal":
- An account (its id, or its root ARN) stands for every principal of it; a role for its sessions; a user for the
  federated sessions that it starts. Wildcards inside an ARN mean nothing here: only a bare `*` is everyone.
- In NotPrincipal an account stands for its root alone: the guide's example names the root beside one user, and
  every other user of the account is still denied.
"""

from __future__ import annotations

import re

from medley.policy.glob import EVERYTHING, Glob, Star, Text
from medley.policy.iam.document import Principals, PrincipalType, Sense
from medley.policy.iam.request import Caller

ANONYMOUS = "Anonymous:"
"""How a request without a caller is written."""

_ACCOUNT = re.compile(r"(?:arn:([^:]+):iam::)?(\d{12})(?::root)?\Z", re.ASCII)
_NAMED = re.compile(r"arn:([^:]+):iam::(\d{12}):(role|user)/(?:.*/)?([^/]+)\Z", re.ASCII)


def caller_text(caller: Caller | None) -> str:
    """The form that the patterns of this module match."""
    return ANONYMOUS if caller is None else str(caller)


def principal_globs(principals: Principals) -> tuple[Glob, ...]:
    """Patterns of the callers that the element lists, whichever of Principal and NotPrincipal it is."""
    if principals.everyone:
        return (EVERYTHING,)
    out: list[Glob] = []
    for entry in principals.entries:
        for item in entry.items:
            if entry.type is PrincipalType.AWS:
                out.extend(_aws(item, principals.sense))
            else:
                out.append(_exact(f"{entry.type.value}:{item}"))
    return tuple(out)


def is_account(item: str) -> bool:
    """Whether an AWS principal is a whole account."""
    match = _ACCOUNT.match(item)
    return match is not None and (match.group(1) is None or item.endswith(":root"))


def is_role(item: str) -> bool:
    """Whether it is a role (not a session of one)."""
    match = _NAMED.match(item)
    return match is not None and match.group(3) == "role"


def _exact(text: str) -> Glob:
    return Glob((Text(text),))


def _aws(item: str, sense: Sense) -> list[Glob]:
    if item == "*":
        return [EVERYTHING]
    account = _ACCOUNT.match(item)
    if account is not None and is_account(item):
        partition, number = account.groups()
        if sense is Sense.NOT_IN:
            return [_exact(f"AWS:arn:{partition or 'aws'}:iam::{number}:root"), _exact(f"AWS:{number}")]
        out = [_exact(f"AWS:{number}")]
        for service in ("iam", "sts"):
            if partition is not None:
                out.append(Glob((Text(f"AWS:arn:{partition}:{service}::{number}:"), Star())))
            else:
                out.append(Glob((Text("AWS:arn:"), Star(colons=False), Text(f":{service}::{number}:"), Star())))
        return out
    out = [_exact(f"AWS:{item}")]
    named = _NAMED.match(item)
    if named is not None:
        partition, number, kind, name = named.groups()
        session = f"AWS:arn:{partition}:sts::{number}:"
        if kind == "role":
            out.append(Glob((Text(f"{session}assumed-role/{name}/"), Star())))
        else:
            out.append(_exact(f"{session}federated-user/{name}"))
    return out
