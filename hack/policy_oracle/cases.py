"""Random IAM documents and requests for an evaluator that is not ours; see README.md beside this file.

    python hack/policy_oracle/cases.py SEED DOCUMENTS > cases.jsonl

One JSON object a line: `document` and `requests` (action, resource, context). Only actions, resources and keys that AWS
has, since the evaluator refuses others.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

USER = "arn:aws:iam::111122223333:user/anna"
REQUESTS = {
    "s3:GetObject": ("arn:aws:s3:::b/k", "arn:aws:s3:::b/anna/k", "arn:aws:s3:::B/k", "arn:aws:s3:::b/x/y/z"),
    "s3:PutObject": ("arn:aws:s3:::b/k", "arn:aws:s3:::c/anna/k"),
    "s3:ListBucket": ("arn:aws:s3:::b", "arn:aws:s3:::c"),
    "s3:DeleteObject": ("arn:aws:s3:::b/anna/k",),
}
ACTIONS = (
    "*",
    "s3:*",
    "s3:Get*",
    "s3:?etObject",
    "S3:getobject",
    "s3:*Object",
    "s3:ListBucket",
    "s3:PutObject",
    "ec2:*",
)
RESOURCES = (
    "*",
    "arn:aws:s3:::b",
    "arn:aws:s3:::b/*",
    "arn:aws:s3:::?/k",
    "arn:aws:s3:::*/k",
    "arn:aws:s3:::b/*******k",
    "arn:aws:s3:::*",
    "arn:aws:s3:::b/${aws:username}/*",
    "arn:aws:s3:::c/*",
    "arn:aws:s3:::b/${aws:PrincipalTag/team, 'x'}/*",
)
CONTEXT: dict[str, tuple[Any, ...]] = {
    "aws:username": ("anna", "bert", "Anna"),
    "aws:SourceIp": ("203.0.113.7", "198.51.100.9", "160.0.0.1", "2001:db8::7"),
    "aws:SecureTransport": ("true", "false"),
    "aws:CurrentTime": ("2026-03-01T00:00:00Z", "2026-09-01T12:00:00Z"),
    "aws:PrincipalTag/team": ("blue", "x"),
    "aws:PrincipalArn": (USER,),
    "aws:TagKeys": (["env"], ["env", "team"], ["owner"]),
    "s3:prefix": ("home/anna/", "home/bert/", ""),
    "s3:max-keys": ("5", "10", "100"),
}
ONLY_LIST = ("s3:prefix", "s3:max-keys")
TEXTS = ("anna", "ANNA", "an*", "home/*", "home/${aws:username}/*", "blue", "?lue", "*")
OPERATORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            "StringEquals",
            "StringNotEquals",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
            "StringLike",
            "StringNotLike",
        ),
        (("aws:username", "aws:PrincipalTag/team", "s3:prefix"), TEXTS),
    ),
    **{
        f"{qualifier}:{name}": (("aws:TagKeys",), ("env", "team", "e*"))
        for qualifier in ("ForAllValues", "ForAnyValue")
        for name in ("StringEquals", "StringLike", "StringNotEquals")
    },
    **{
        f"Numeric{name}": (("s3:max-keys",), ("5", "10"))
        for name in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
    },
    **{
        f"Date{name}": (("aws:CurrentTime",), ("2026-03-01T00:00:00Z", "2026-06-01T00:00:00Z"))
        for name in ("LessThan", "GreaterThan", "LessThanEquals")
    },
    "Bool": (("aws:SecureTransport",), ("true", "false")),
    **dict.fromkeys(
        ("IpAddress", "NotIpAddress"),
        (("aws:SourceIp",), ("203.0.113.0/24", "10.0.0.0/8", "198.51.100.9", "2001:db8::/32")),
    ),
    **dict.fromkeys(
        ("ArnLike", "ArnEquals", "ArnNotLike", "ArnNotEquals"),
        (("aws:PrincipalArn",), (USER, "arn:aws:iam::*:user/a*", "arn:aws:iam::444455556666:*")),
    ),
    "Null": (("aws:username", "aws:SourceIp", "s3:prefix"), ("true", "false")),
}


def some(rng: random.Random, values: tuple[str, ...], most: int = 2) -> list[str]:
    """A few different ones."""
    return rng.sample(values, min(len(values), rng.randint(1, most)))


def condition(rng: random.Random) -> dict[str, dict[str, list[str]]]:
    """A block of one or two operators."""
    block: dict[str, dict[str, list[str]]] = {}
    for _ in range(rng.randint(1, 2)):
        name = rng.choice(list(OPERATORS))
        keys, values = OPERATORS[name]
        if name != "Null" and rng.random() < 0.2:
            name += "IfExists"
        block[name] = {rng.choice(keys): some(rng, values)}
    return block


def statement(rng: random.Random) -> dict[str, Any]:
    """One statement."""
    made: dict[str, Any] = {"Effect": "Deny" if rng.random() < 0.3 else "Allow"}
    made["NotAction" if rng.random() < 0.12 else "Action"] = some(rng, ACTIONS)
    made["NotResource" if rng.random() < 0.15 else "Resource"] = some(rng, RESOURCES)
    if rng.random() < 0.6:
        made["Condition"] = condition(rng)
    return made


def request(rng: random.Random) -> dict[str, Any]:
    """One request, with some of the keys."""
    action = rng.choice(list(REQUESTS))
    context = {
        key: rng.choice(values)
        for key, values in CONTEXT.items()
        if rng.random() < 0.55 and (key not in ONLY_LIST or action == "s3:ListBucket")
    }
    return {"action": action, "resource": rng.choice(REQUESTS[action]), "context": context}


def main() -> None:
    """Print the cases."""
    rng = random.Random(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        version = rng.choice(("2012-10-17", "2012-10-17", "2012-10-17", "2008-10-17"))
        document = {"Version": version, "Statement": [statement(rng) for _ in range(rng.randint(1, 3))]}
        print(json.dumps({"document": document, "requests": [request(rng) for _ in range(5)]}, separators=(",", ":")))


if __name__ == "__main__":
    main()
