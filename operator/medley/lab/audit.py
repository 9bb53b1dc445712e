"""The API server's audit log, read as the requests that its authorizer decided.

What an event says is not quite what the authorizer was asked (seen on Kubernetes 1.36; tests/cluster/test_audit.py):

- `create`: the log has the object's name, from its body; the authorizer saw none, so `resourceNames` cannot help.
- `list`, `watch`: no name, but for a field selector `metadata.name=`, and then the authorizer saw it too.
- server-side apply is a `patch`. Of an object that is not there it is a second request beside it, to `create` under its
  name, which has no event of its own: the answer 201 says that it was made and allowed, a 403 that it was refused.
- a watch has an event when it begins and one when it ends: whoever waits for the second sees no watch that goes on.
- a refusal (403) can also come from admission, as in a namespace that is going: the authorizer's word is an annotation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from medley.policy.rbac.request import Request, user

Json = dict[str, Any]

LOG_NAME = "audit.log"
_STAGES = ("ResponseStarted", "ResponseComplete", "Panic")
_DECISION = "authorization.k8s.io/decision"
_MEGABYTES = 20
POLICY: Json = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # The controllers of Kubernetes itself: they ask far more than all others together.
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
"""Who asked what, without bodies, of ServiceAccounts alone."""


class Answer(Enum):
    """What the authorizer said."""

    ALLOWED = "Allowed"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and whether the authorizer let it through."""

    request: Request
    answer: Answer


def flags(home: Path) -> tuple[str, ...]:
    """Writes the policy into a directory; gives the API server's flags, by which the log lies in it too."""
    policy = home / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY, sort_keys=False))
    return (
        f"--audit-policy-file={policy}",
        f"--audit-log-path={home / LOG_NAME}",
        f"--audit-log-maxsize={_MEGABYTES}",
        "--audit-log-maxbackup=1",
    )


def read(log: Path, caller: str) -> list[Call]:
    """The calls of one user name, in the order of the log, of which the last 20 MB are there: about 20,000 calls.

    A line that is being written is left for the next time.
    """
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").split("\n")[:-1]
    # Most lines are of others, and JSON is slow.
    found = (call for line in lines if caller in line for call in calls(json.loads(line)))
    return [call for call in found if call.request.caller.user == caller]


def calls(event: Json) -> Iterator[Call]:
    """What the authorizer was asked about one event's request, and what it said: none for another kind of event."""
    if event.get("stage") not in _STAGES:
        return
    who = user((event.get("impersonatedUser") or event["user"])["username"])
    verb, found = event["verb"], event.get("objectRef")
    refused = (event.get("annotations") or {}).get(_DECISION) != "allow"
    answer = Answer.REFUSED if refused else Answer.ALLOWED
    if found is None:
        yield Call(Request(who, verb, path=event["requestURI"].partition("?")[0]), answer)
        return
    request = Request(
        who,
        verb,
        found.get("apiGroup", ""),
        found["resource"],
        found.get("subresource", ""),
        "" if verb == "create" else found.get("name", ""),
        found.get("namespace", ""),
    )
    yield Call(request, answer)
    status = event.get("responseStatus") or {}
    if verb == "patch" and not refused:
        create = replace(request, verb="create")
        if status.get("code") == HTTPStatus.CREATED:
            yield Call(create, Answer.ALLOWED)
        elif status.get("code") == HTTPStatus.FORBIDDEN and "cannot create resource" in status.get("message", ""):
            yield Call(create, Answer.REFUSED)
