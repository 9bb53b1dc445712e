"""CloudFix's request lists: `{"Requests": [{id, Effect, Action, Resource, [Principal], [Condition]}]}`.

The format of the tool of arXiv 2512.09957, taken literally: one action and one resource each, whatever they are, and
whether or not they fit; `*` is a character. A Condition says that a key is there and equals the value (an address:
lies in the prefix); its operator only gives the type. A list of values stands for each of them in turn. Statements are
read as AWS reads them: one without a Principal matches every caller.

"Allow" becomes a floor rule, "Deny" a ceiling rule for every completion of the request.
"""

from __future__ import annotations

import itertools
from typing import Any

from medley.model.errors import UserError
from medley.policy.clauses import ACTION, RESOURCE, Clause, Test
from medley.policy.iam.document import Effect, Form, Patterns, PrincipalEntry, Principals, PrincipalType, Statement
from medley.policy.iam.operators import Domain, Operator, parse_operator
from medley.policy.iam.request import Caller, Request, ascii_lower, request
from medley.policy.iam.values import text_of
from medley.policy.spec.regions import caller_test, equality, escaped, exactly, key_test, sample_values
from medley.policy.spec.spec import Rule, Side, Spec

_KEYS = {"id", "Effect", "Action", "Resource", "Principal", "Condition"}
MAX_REQUESTS = 5000


def spec_of_requests(value: Any, name: str) -> Spec:
    """A spec from the JSON value of a request list.

    Raises:
        UserError: a field is missing, unknown or of the wrong type; the field is its path.
    """
    path = f"{name}: $"
    for key in value:
        if key != "Requests":
            raise UserError(f"{key!r} is no field", field=f"{path}.{key}", fix="Only Requests is")
    items = value["Requests"]
    if not isinstance(items, list):
        raise UserError("is not a list", field=f"{path}.Requests")
    if len(items) > MAX_REQUESTS:
        raise UserError(f"has {len(items):,} requests, more than {MAX_REQUESTS:,}", field=f"{path}.Requests")
    rules: list[Rule] = []
    for number, item in enumerate(items):
        rules.extend(_rules(item, number, f"{path}.Requests[{number}]"))
    return Spec(tuple(rules))


def _rules(item: Any, number: int, path: str) -> list[Rule]:
    if not isinstance(item, dict):
        raise UserError("is not an object", field=path)
    for key in item:
        if key not in _KEYS:
            raise UserError(f"{key!r} is no field", field=f"{path}.{key}", fix=f"Known: {', '.join(sorted(_KEYS))}")
    effect = item.get("Effect")
    side = {"allow": Side.FLOOR, "deny": Side.CEILING}.get(effect.lower() if isinstance(effect, str) else "")
    if side is None:
        raise UserError("is neither Allow nor Deny", field=f"{path}.Effect")
    action, resource = _text(item, "Action", path), _text(item, "Resource", path)
    service, _, name = action.partition(":")
    if not service or not name or ":" in name:
        raise UserError(f"{action!r} is no action", field=f"{path}.Action", fix="Use service:Name")
    label = item.get("id", f"Requests[{number}]")
    if not isinstance(label, str | int) or isinstance(label, bool):
        raise UserError("is neither a text nor a number", field=f"{path}.id")
    named, caller = _caller(item.get("Principal"), "Principal" in item, f"{path}.Principal")
    fixed = [exactly(ACTION, ascii_lower(action)), exactly(RESOURCE, resource)]
    if named or side is Side.FLOOR:
        fixed.append(caller_test(caller))
    rules = []
    for keys in _completions(item.get("Condition", {}), f"{path}.Condition"):
        tests = [test for _, _, _, test in keys]
        rules.append(
            Rule(
                str(label),
                side,
                (Clause((*fixed, *tests), closed=side is Side.FLOOR),),
                (_statement(action, resource, caller if named else None, keys),),
                _samples(action, resource, caller, keys),
                exact=side is Side.FLOOR
                and not any(operator.domain is Domain.IP and "/" in text for operator, _, text, _ in keys),
            )
        )
    return rules


Key = tuple[Operator, str, str, Test]


def _statement(action: str, resource: str, caller: Caller | None, keys: tuple[Key, ...]) -> Statement:
    principal = None if caller is None else Principals((PrincipalEntry(caller.type, (caller.id,), Form.ONE),))
    return Statement(
        Effect.ALLOW,
        Patterns((action,), form=Form.ONE),
        Patterns((escaped(resource),), form=Form.ONE),
        principal,
        tuple(equality(operator, key, text) for operator, key, text, _ in keys),
    )


def _samples(action: str, resource: str, caller: Caller | None, keys: tuple[Key, ...]) -> tuple[Request, ...]:
    names = [key for _, key, _, _ in keys]
    values = [sample_values(operator, text) or (None,) for operator, _, text, _ in keys]
    out = []
    for chosen in itertools.islice(itertools.product(*values), 8):
        context = {key: value for key, value in zip(names, chosen, strict=True) if value is not None}
        out.append(request(action, resource, caller, context))
    return tuple(dict.fromkeys(out))


def _completions(value: Any, path: str) -> list[tuple[Key, ...]]:
    """One tuple of keys for each way to pick from the lists of values."""
    if not isinstance(value, dict):
        raise UserError("is not an object of operators", field=path)
    choices: list[list[Key]] = []
    for name, block in value.items():
        operator = parse_operator(name)
        if operator is None:
            raise UserError(f"{name!r} is no condition operator", field=f"{path}.{name}")
        if not isinstance(block, dict):
            raise UserError("is not an object of keys", field=f"{path}.{name}")
        for key, written in block.items():
            place = f"{path}.{name}.{key}"
            found = written if isinstance(written, list) else [written]
            if not found:
                raise UserError("is an empty list", field=place)
            options: list[Key] = []
            for item in found:
                if not isinstance(item, str | bool | int | float):
                    raise UserError("is not a text, a number or a boolean", field=place)
                test = key_test(operator, key, text_of(item))
                if test is None:
                    raise UserError(f"{item!r} is no value for {operator}", field=place)
                options.append((operator, key, text_of(item), test))
            choices.append(options)
    combinations = 1
    for options in choices:
        combinations *= len(options)
    if combinations > 256:
        raise UserError(f"stands for {combinations:,} requests", field=path, fix="List fewer values")
    return list(itertools.product(*choices))


def _caller(value: Any, given: bool, path: str) -> tuple[bool, Caller | None]:
    """Whether the caller is bound, and to whom."""
    if not given:
        return False, None
    kind = PrincipalType.AWS
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in {known.value for known in PrincipalType}:
        name, value = next(iter(value.items()))
        kind = PrincipalType(name)
    elif isinstance(value, str) and value.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        kind = PrincipalType.SERVICE
    if not isinstance(value, str) or not value:
        raise UserError("is not a principal", field=path, fix='Use an ARN, or {"AWS": "arn:…"}')
    return (False, None) if value == "*" else (True, Caller(kind, value))


def _text(item: dict[str, Any], key: str, path: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise UserError("is not a text", field=f"{path}.{key}", fix="Name one")
    return value
