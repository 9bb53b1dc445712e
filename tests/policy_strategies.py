"""Random policy documents and requests over a vocabulary so small that they often meet."""

from __future__ import annotations

from hypothesis import strategies as st

from medley.policy.iam.document import (
    Condition,
    Document,
    Effect,
    Form,
    Patterns,
    PrincipalEntry,
    Principals,
    PrincipalType,
    Sense,
    Statement,
)
from medley.policy.iam.operators import Base, Domain, Operator, Qualifier
from medley.policy.iam.request import Caller, Request, request

ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:ListBucket", "ec2:RunInstances", "S3:getobject", "s3:Get")
ACTION_PATTERNS = ("*", "s3:*", "s3:Get*", "s3:?etObject", "ec2:*", "s3:*Object", *ACTIONS[:4])
RESOURCES = (
    "*", "arn:aws:s3:::b", "arn:aws:s3:::b/a", "arn:aws:s3:::b/bob/a", "arn:aws:s3:::B/a",
    "arn:aws:ec2:r1:1:instance/i:x", "arn:aws:ec2:r1:1:x:instance/i", "arn:aws:ec2:r1:2:volume/v", "arn:aws:s3:::b/",
)  # fmt: skip
RESOURCE_PATTERNS = (
    "*", "arn:aws:s3:::b", "arn:aws:s3:::b/*", "arn:aws:s3:::*", "arn:aws:ec2:*:1:instance/*", "arn:aws:ec2:*:*:*/?",
    "arn:aws:s3:::?/a", "arn:aws:ec2:r?:1:*", "arn:aws:s3:::b/*a", "arn:aws:ec2:*", "arn:aws:ec2:*1:*",
)  # fmt: skip
VARIABLE_PATTERNS = ("arn:aws:s3:::b/${aws:username}/*", "arn:aws:s3:::b/${aws:username, 'bob'}/a", "arn:aws:s3:::${*}")
CALLERS = (
    None,
    Caller(PrincipalType.AWS, "arn:aws:iam::111122223333:user/bob"),
    Caller(PrincipalType.AWS, "arn:aws:iam::111122223333:role/p/r"),
    Caller(PrincipalType.AWS, "arn:aws:sts::111122223333:assumed-role/r/s"),
    Caller(PrincipalType.AWS, "arn:aws:iam::111122223333:root"),
    Caller(PrincipalType.AWS, "arn:aws:iam::444455556666:user/eve"),
    Caller(PrincipalType.SERVICE, "ec2.amazonaws.com"),
)
PRINCIPALS = (
    "*", "111122223333", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/bob",
    "arn:aws:iam::111122223333:role/p/r", "arn:aws:sts::111122223333:assumed-role/r/s",
)  # fmt: skip
KEYS = {
    Domain.STRING: ("s3:prefix", "aws:username"),
    Domain.NUMERIC: ("s3:max-keys",),
    Domain.DATE: ("aws:CurrentTime",),
    Domain.IP: ("aws:SourceIp",),
    Domain.NULL: ("s3:prefix", "aws:SourceIp", "aws:username"),
}
TEXTS = ("", "a", "ab", "AB", "bob", "home/a")
TEXT_PATTERNS = (*TEXTS, "*", "a*", "?b", "*b*", "home/${aws:username}")
ARNS = ("arn:aws:s3:::b/a", "arn:aws:iam::1:role/x", "arn:aws:iam:::a:b", "x")
ARN_PATTERNS = (*ARNS, "arn:aws:s3:::*", "arn:*:iam::*:role/?", "arn:aws:*:b", "*")
VALUES = {
    Domain.NUMERIC: ("1", "2", "2.5", "-1"),
    Domain.DATE: ("2024-01-01T00:00:00Z", "2024-06-01", "1704067200"),
    Domain.IP: ("10.0.0.0/8", "10.1.2.3", "203.0.113.0/24", "2001:db8::/32", "::1"),
    Domain.NULL: ("true", "false"),
}
REQUEST_VALUES = {
    "s3:prefix": TEXTS,
    "aws:username": ("bob", "a", "b*b"),
    "s3:max-keys": ("1", "2", "2.5", "3", "0"),
    "aws:currenttime": ("2024-01-01T00:00:00Z", "2024-03-01T00:00:00Z", "2025-01-01"),
    "aws:sourceip": ("10.1.2.3", "10.9.9.9", "203.0.113.7", "2001:db8::7", "::1", "192.0.2.1"),
    "aws:sourcearn": ARNS,
    "aws:securetransport": ("true", "false"),
    "aws:tagkeys": ("a", "ab", "bob"),
}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    base = draw(st.sampled_from(Base))
    qualifier = draw(st.sampled_from((Qualifier.NONE, Qualifier.NONE, *Qualifier)))
    operator = Operator(base) if base is Base.NULL else Operator(base, qualifier, draw(st.booleans()))
    if base.value.startswith("Arn"):
        key, values = "aws:SourceArn", ARN_PATTERNS
    elif base is Base.BOOL:
        key, values = "aws:SecureTransport", ("true", "false", "TRUE")
    elif base is Base.BINARY_EQUALS:
        key, values = "x:binary", ("YWJj", "YWJk")
    elif operator.domain is Domain.STRING:
        key, values = draw(st.sampled_from((*KEYS[Domain.STRING], "aws:TagKeys"))), TEXT_PATTERNS
    else:
        key, values = draw(st.sampled_from(KEYS[operator.domain])), VALUES[operator.domain]
    return Condition(operator, key, tuple(draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))))


def patterns(values: tuple[str, ...]) -> st.SearchStrategy[Patterns]:
    return st.builds(
        Patterns,
        st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(tuple),
        st.sampled_from((Sense.IN, Sense.IN, Sense.IN, Sense.NOT_IN)),
    )


@st.composite
def principals(draw: st.DrawFn) -> Principals:
    entries = []
    if draw(st.integers(0, 3)):
        items = tuple(draw(st.lists(st.sampled_from(PRINCIPALS), min_size=1, max_size=2, unique=True)))
        entries.append(PrincipalEntry(PrincipalType.AWS, items))
        if draw(st.integers(0, 3)) == 0:
            entries.append(PrincipalEntry(PrincipalType.SERVICE, ("ec2.amazonaws.com",), Form.ONE))
    return Principals(tuple(entries), draw(st.sampled_from((Sense.IN, Sense.IN, Sense.NOT_IN))))


@st.composite
def documents(draw: st.DrawFn, *, resource: bool | None = None, variables: bool = True, most: int = 3) -> Document:
    with_principal = draw(st.booleans()) if resource is None else resource
    resources = RESOURCE_PATTERNS + (VARIABLE_PATTERNS if variables else ())
    statements = []
    for _ in range(draw(st.integers(1, most))):
        found = draw(st.lists(conditions(), max_size=2, unique_by=lambda c: (str(c.operator), c.key.lower())))
        if not variables:
            found = [c for c in found if not any("${" in str(value) for value in c.values)]
        statements.append(
            Statement(
                draw(st.sampled_from((Effect.ALLOW, Effect.ALLOW, Effect.DENY))),
                draw(patterns(ACTION_PATTERNS)),
                draw(patterns(resources)),
                draw(principals()) if with_principal else None,
                tuple(found),
            )
        )
    version = draw(st.sampled_from(("2012-10-17", "2012-10-17", "2012-10-17", "2008-10-17", None)))
    return Document(tuple(statements), version)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    context = {}
    for key, values in REQUEST_VALUES.items():
        if draw(st.integers(0, 2)) == 0:
            several = key == "aws:tagkeys"
            context[key] = draw(
                st.lists(st.sampled_from(values), min_size=1, max_size=3 if several else 1, unique=True)
            )
    return request(
        draw(st.sampled_from(ACTIONS)), draw(st.sampled_from(RESOURCES)), draw(st.sampled_from(CALLERS)), context
    )
