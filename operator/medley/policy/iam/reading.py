"""The values that an engine finds, read as a request to AWS."""

from __future__ import annotations

from medley.policy.answers import Values
from medley.policy.clauses import ACTION, CALLER, KEY, RESOURCE
from medley.policy.iam.document import PrincipalType
from medley.policy.iam.request import Caller, Request


def request_of(values: Values) -> Request:
    """The request; a dimension that no test looks at has something harmless."""
    context = tuple(
        sorted(
            (dimension.removeprefix(KEY), found)
            for dimension, found in values.items()
            if dimension.startswith(KEY) and found
        )
    )
    return Request(
        values.get(ACTION, ("sts:getcalleridentity",))[0],
        values.get(RESOURCE, ("*",))[0],
        caller_of(values[CALLER][0]) if CALLER in values else None,
        context,
    )


def caller_of(text: str) -> Caller | None:
    """The caller that a text of the caller dimension stands for."""
    kind, _, name = text.partition(":")
    return None if kind == "Anonymous" else Caller(PrincipalType(kind), name)
