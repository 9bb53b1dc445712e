"""Reads access specs: YAML with `floor` and `ceiling`, or CloudFix's JSON of requests.

floor:                                # every request of the set must be allowed
- id: read-weights
action: s3:GetObject                # one or a list; patterns stand for all that they match
resource: arn:aws:s3:::models/llama/*
principal: arn:aws:iam::111122223333:role/vllm   # optional; {Service: …} etc.; left out: nobody
context: {aws:SourceVpce: vpce-1}   # these keys are there with these values, and no others
ceiling:                              # no request of the set may be allowed
- id: other-buckets
action: s3:*                        # or notAction; left out: any
notResource: [arn:aws:s3:::models, arn:aws:s3:::models/*]   # or resource; left out: any
principal: …                        # or notPrincipal, one as well; left out: any
context: {…}                        # these keys have these values; others are free
condition: {StringNotEquals: {…}}   # a Condition block as in a policy; others are free
source: https://…                   # where the rule is from
reason: text
- id: pass-role-to-instance
allOf: [iam:PassRole, ec2:RunInstances]   # not all of these actions may be allowed (each somewhere)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from medley.model.errors import UserError
from medley.policy.clauses import ACTION, RESOURCE, Clause, Strings, Test, condition_tests
from medley.policy.glob import Glob, action_glob, resource_glob
from medley.policy.iam.document import (
    Effect,
    Form,
    Patterns,
    PrincipalEntry,
    Principals,
    PrincipalType,
    Sense,
    Statement,
)
from medley.policy.iam.operators import Base, Operator
from medley.policy.iam.parse import statement_of
from medley.policy.iam.request import Caller, Request, request
from medley.policy.iam.values import range_of, text_of
from medley.policy.json_text import read_json
from medley.policy.spec.cloudfix import spec_of_requests
from medley.policy.spec.frame import rules_of
from medley.policy.spec.regions import caller_test, equality, key_test, sample_values
from medley.policy.spec.spec import Rule, Side, Spec
from medley.policy.yaml_text import read_yaml

_RULE_KEYS = (
    "id", "action", "notAction", "resource", "notResource", "principal", "notPrincipal", "context", "condition",
    "allOf", "source", "reason",
)  # fmt: skip

MAX_SAMPLES = 64
"""Requests of one rule that the evaluator looks at; the engines that prove look at all."""


def read_spec(text: str, name: str) -> Spec:
    """A spec from the text of a file.

    Raises:
        UserError: not JSON or YAML, or a field that is missing, unknown or of the wrong type.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        value = read_json(text, name)
        if "Requests" in value:
            return spec_of_requests(value, name)
    else:
        value = read_yaml(text, name)
    return Spec(tuple(_rule(*found) for found in rules_of(value, name, "Requests")))


def _rule(item: Any, side: Side, number: int, path: str) -> Rule:
    if not isinstance(item, dict):
        raise UserError("is not an object", field=path)
    for key in item:
        if key not in _RULE_KEYS:
            raise UserError(f"{key!r} is no field", field=f"{path}.{key}", fix=f"Known: {', '.join(_RULE_KEYS)}")
    label = item.get("id", f"{side.value}[{number}]")
    if not isinstance(label, str):
        raise UserError("is not a text", field=f"{path}.id")
    source, reason = (_optional(item, key, path) for key in ("source", "reason"))
    if "allOf" in item:
        if side is Side.FLOOR:
            raise UserError("is for the ceiling alone", field=f"{path}.allOf", fix="Give a floor rule for each action")
        extra = set(item) - {"id", "allOf", "resource", "principal", "source", "reason"}
        if extra:
            raise UserError(f"does not go with {', '.join(sorted(extra))}", field=f"{path}.allOf")
        parts, statements = [], []
        for action in _list(item["allOf"], f"{path}.allOf"):
            clause, statement, _ = _clause({**item, "action": action}, side, path)
            parts.append(clause)
            statements.append(statement)
        return Rule(label, side, tuple(parts), tuple(statements), source=source, reason=reason)
    clause, statement, samples = _clause(item, side, path)
    exact = side is Side.FLOOR and samples is not None and len(samples) < MAX_SAMPLES and not _has_prefix(item)
    return Rule(label, side, (clause,), (statement,), samples or (), exact, source, reason)


def _clause(item: dict[str, Any], side: Side, path: str) -> tuple[Clause, Statement, tuple[Request, ...] | None]:
    """The rule's set, and requests of it where actions and resources are named outright."""
    if side is Side.FLOOR:
        for key in ("action", "resource"):
            if key not in item:
                raise UserError(f"has no {key}", field=path, fix="A floor says what must be allowed")
        for key in ("notAction", "notResource", "notPrincipal", "condition"):
            if key in item:
                raise UserError("is for the ceiling alone", field=f"{path}.{key}", fix="Name what must be allowed")
    statement = _parsed(item, path)
    tests = [_pattern_test(ACTION, statement.action, action_glob)]
    assert statement.resource is not None
    tests.append(_pattern_test(RESOURCE, statement.resource, lambda text: resource_glob(text, variables=False)))
    named, caller = _principal(item, "principal", path)
    if named or side is Side.FLOOR:
        tests.append(caller_test(caller))
    barred, other = _principal(item, "notPrincipal", path)
    if "notPrincipal" in item:
        if named or not barred:
            raise UserError("stands alone, and for one caller", field=f"{path}.notPrincipal", fix="Name one")
        tests.append(replace(caller_test(other), complement=True))
    for condition in statement.conditions:
        tests.extend(condition_tests(condition, variables=False))
    keys = list(_context(item.get("context", {}), f"{path}.context"))
    tests.extend(test for _, _, _, test in keys)
    clause = Clause(tuple(test for test in tests if test is not None), closed=side is Side.FLOOR)
    template = replace(
        statement,
        principal=_element(caller, Sense.IN) or _element(other, Sense.NOT_IN),
        conditions=statement.conditions + tuple(equality(operator, key, text) for operator, key, text, _ in keys),
    )
    return clause, template, _samples(statement.action, statement.resource, caller, keys)


def _parsed(item: dict[str, Any], path: str) -> Statement:
    """The rule read as a statement, so that its patterns are held to the rules of documents."""
    value: dict[str, Any] = {"Effect": Effect.ALLOW.value}
    names = {"action": "Action", "notAction": "NotAction", "resource": "Resource", "notResource": "NotResource"}
    for key, element in {**names, "condition": "Condition"}.items():
        if key in item:
            value[element] = item[key]
    if "action" not in item and "notAction" not in item:
        value["Action"] = "*"
    if "resource" not in item and "notResource" not in item:
        value["Resource"] = "*"
    return statement_of(value, path)


def _pattern_test(dimension: str, patterns: Patterns, glob: Callable[[str], Glob]) -> Test | None:
    if patterns.sense is Sense.IN and any(item.strip("*") == "" for item in patterns.items):
        return None
    return Test(dimension, Strings(tuple(glob(item) for item in patterns.items)), patterns.sense is Sense.NOT_IN)


def _element(caller: Caller | None, sense: Sense) -> Principals | None:
    return None if caller is None else Principals((PrincipalEntry(caller.type, (caller.id,), Form.ONE),), sense)


def _principal(item: dict[str, Any], key: str, path: str) -> tuple[bool, Caller | None]:
    if key not in item:
        return False, None
    value = item[key]
    kind = "AWS"
    if isinstance(value, dict) and len(value) == 1:
        kind, value = next(iter(value.items()))
    if kind not in {known.value for known in PrincipalType} or not isinstance(value, str) or not value:
        raise UserError("is not a principal", field=f"{path}.{key}", fix="Use an ARN, or {Service: name}")
    return (False, None) if value == "*" else (True, Caller(PrincipalType(kind), value))


Key = tuple[Operator, str, str, Test]


def _context(value: Any, path: str) -> list[Key]:
    if not isinstance(value, dict):
        raise UserError("is not an object of keys", field=path)
    out = []
    for key, written in value.items():
        if not isinstance(key, str) or not isinstance(written, str | bool | int | float):
            raise UserError("is not a text, a number or a boolean", field=f"{path}.{key}", fix="One value a key")
        text = text_of(written)
        operator = Operator(Base.IP_ADDRESS if _is_prefix(text) else Base.STRING_EQUALS)
        test = key_test(operator, key, text)
        assert test is not None
        out.append((operator, key, text, test))
    return out


def _is_prefix(text: str) -> bool:
    return "/" in text and range_of(text) is not None


def _has_prefix(item: dict[str, Any]) -> bool:
    return any(_is_prefix(text_of(value)) for value in item.get("context", {}).values())


def _samples(
    action: Patterns, resource: Patterns, caller: Caller | None, keys: list[Key]
) -> tuple[Request, ...] | None:
    items = (*action.items, *resource.items)
    if any("*" in item or "?" in item for item in items) or Sense.NOT_IN in (action.sense, resource.sense):
        return None
    values = [sample_values(operator, text) for operator, _, text, _ in keys]
    found = itertools.product(action.items, resource.items, *values)
    return tuple(
        request(name, target, caller, dict(zip((key for _, key, _, _ in keys), chosen, strict=True)))
        for name, target, *chosen in itertools.islice(found, MAX_SAMPLES)
    )


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list) or len(value) < 2:
        raise UserError("is not a list of two or more", field=path)
    return value


def _optional(item: dict[str, Any], key: str, path: str) -> str:
    value = item.get(key, "")
    if not isinstance(value, str):
        raise UserError("is not a text", field=f"{path}.{key}")
    return value
