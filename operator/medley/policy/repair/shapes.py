"""Shapes of patterns and values: how one request's resource or key generalises, cheapest guess first.

The priors come from the policy itself (a pattern it already uses) and from how ARNs are built (a path under a bucket, a
number in a name). Actions are in `action_shapes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from medley.policy.glob import Matcher, matcher, resource_glob
from medley.policy.iam.document import Condition, Document, Form
from medley.policy.iam.operators import Base, Operator, Qualifier
from medley.policy.iam.request import ascii_lower
from medley.policy.iam.values import address_of, number_of
from medley.policy.spec.regions import escaped

_CONTRARY = (
    (Base.STRING_EQUALS, Base.STRING_NOT_EQUALS),
    (Base.STRING_EQUALS_IGNORE_CASE, Base.STRING_NOT_EQUALS_IGNORE_CASE),
    (Base.STRING_LIKE, Base.STRING_NOT_LIKE),
    (Base.NUMERIC_EQUALS, Base.NUMERIC_NOT_EQUALS),
    (Base.DATE_EQUALS, Base.DATE_NOT_EQUALS),
    (Base.IP_ADDRESS, Base.NOT_IP_ADDRESS),
    (Base.ARN_LIKE, Base.ARN_NOT_LIKE),
    (Base.ARN_EQUALS, Base.ARN_NOT_EQUALS),
)
_DIGITS = re.compile(r"\d+")


def shared_start(texts: Sequence[str]) -> str:
    """The longest text that all begin with."""
    low, high = min(texts), max(texts)
    length = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:length]


def matches_resource(pattern: str, text: str) -> bool:
    """Whether a Resource pattern, read without variables, matches."""
    return _resource_matcher(pattern)(text)


@lru_cache(maxsize=4096)
def _resource_matcher(pattern: str) -> Matcher:
    return matcher((resource_glob(pattern, variables=False),))


def similar(first: str, second: str) -> bool:
    """Whether two names differ by a typing slip: at most two edits, and no more than a fifth of the longer one."""
    a, b = ascii_lower(first), ascii_lower(second)
    if abs(len(a) - len(b)) > 2 or a == b:
        return False
    previous = list(range(len(b) + 1))
    for row, left in enumerate(a, 1):
        current = [row]
        for column, right in enumerate(b, 1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (left != right)))
        previous = current
    return previous[-1] <= min(2, max(len(a), len(b)) // 5)


def resource_patterns(resource: str, document: Document, others: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Patterns for a resource with a cost each; `others` are resources that are wanted with it."""
    own = list(
        dict.fromkeys(
            item
            for statement in document.statements
            if statement.resource is not None
            for item in statement.resource.items
        )
    )
    for pattern in own:
        if pattern.strip("*") and matches_resource(pattern, resource):
            yield pattern, 0.35
    if len({_kind(other) for other in (resource, *others)}) > 1:
        yield "*", 0.45
    if resource == "*":
        yield "*", 0.5
        return
    plain = "*" not in resource and "?" not in resource
    if plain:
        alike = [other for other in others if _kind(other) == _kind(resource)]
        if alike:
            yield _aligned([resource, *alike]), 0.5
        styled = _styled(resource, own)
        if styled is not None:
            yield styled, 0.6
        yield from _paths(resource)
    yield escaped(resource), 0.9


def _kind(resource: str) -> str:
    """Service and type of an ARN: what has to be the same for two resources to be of one kind."""
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return resource
    typed = re.split("[/:]", parts[5], maxsplit=1)[0] if parts[3] or parts[4] else ""
    return f"{parts[2]}:{typed}"


def _aligned(resources: Sequence[str]) -> str:
    """Segment by segment: what is the same stays, what differs becomes a wildcard; the last keeps its beginning."""
    split = [resource.split(":", 5) for resource in resources]
    if any(len(parts) < 6 for parts in split):
        return f"{shared_start(resources)}*"
    head = [found[0] if len(set(found)) == 1 else "*" for found in zip(*(parts[:5] for parts in split), strict=True)]
    tails = [parts[5] for parts in split]
    shared = shared_start(tails)
    if len(set(tails)) > 1:
        cut = max(shared.rfind("/"), shared.rfind(":"), shared.rfind("-")) + 1
        shared = f"{shared[: cut or len(shared)]}*"
    return ":".join([*head, shared])


def _styled(resource: str, own: Sequence[str]) -> str | None:
    """The resource with wildcards where the document's patterns of the same service have theirs."""
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return None
    for pattern in own:
        style = pattern.split(":", 5)
        if len(style) == 6 and style[2] == parts[2] and ("*" in style[3:5] or style[5].endswith("/*")):
            head = [style[n] if style[n] == "*" else parts[n] for n in range(5)]
            before, slash, _ = parts[5].rpartition("/")
            tail = f"{before}/*" if slash and style[5].endswith("/*") else parts[5]
            return ":".join([*head, tail])
    return None


def _paths(resource: str) -> Iterator[tuple[str, float]]:
    if "/" in resource:
        head, _, _ = resource.rpartition("/")
        yield f"{head}/*", 0.75
        bucket = resource.split("/", 1)[0]
        if bucket != head:
            yield f"{bucket}/*", 0.8
    if _DIGITS.search(resource.rpartition(":")[2]):
        before, colon, last = resource.rpartition(":")
        yield f"{before}{colon}{_DIGITS.sub('*', last)}", 0.85


def widened_resources(pattern: str, resource: str) -> Iterator[tuple[str, float]]:
    """Patterns near an existing one that also match the resource."""
    if "${" in pattern or "*" in resource or "?" in resource:
        return
    if resource.startswith(f"{pattern}/"):
        yield f"{pattern}/*", 0.3
    old, new = pattern.split(":", 5), resource.split(":", 5)
    if len(old) == len(new) == 6:
        differing = [n for n in range(6) if old[n] != new[n] and old[n] != "*"]
        if len(differing) == 1 and differing[0] < 5:
            yield ":".join(new[n] if n == differing[0] else old[n] for n in range(6)), 0.3
            yield ":".join("*" if n == differing[0] else old[n] for n in range(6)), 0.5
        if all(matches_segment(old[n], new[n]) for n in range(5)):
            yield from ((":".join([*old[:5], tail]), cost) for tail, cost in _widened_tail(old[5], new[5]))
    shared = shared_start([pattern.rstrip("*"), resource])
    if shared.count(":") >= 5 and len(shared) > 13:
        yield f"{shared}*", 0.7


def matches_segment(pattern: str, text: str) -> bool:
    """Whether one ARN segment matches."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[^:]*").replace(r"\?", "[^:]"), text) is not None


def _widened_tail(old: str, new: str) -> Iterator[tuple[str, float]]:
    parts, wanted = old.split("/"), new.split("/")
    star = old.endswith("*")
    if len(parts) <= len(wanted):
        differing = [n for n in range(len(parts)) if not matches_segment(parts[n], wanted[n])]
        if len(differing) == 1 and (len(parts) == len(wanted) or star):
            n = differing[0]
            # A slip in one part: the rest of the pattern says what was meant.
            yield (
                "/".join(wanted[n] if k == n else parts[k] for k in range(len(parts))),
                0.25 if similar(parts[n].strip("*"), wanted[n]) else 0.45,
            )
            shared = shared_start([parts[n].rstrip("*"), wanted[n]])
            if shared:
                yield "/".join(f"{shared}*" if k == n else parts[k] for k in range(len(parts))), 0.4
            yield "/".join("*" if k == n else parts[k] for k in range(len(parts))), 0.5
    shared = shared_start([old.rstrip("*"), new])
    if shared and len(shared) >= max(1, len(old.rstrip("*")) - 12):
        yield f"{shared}*", 0.35 if not star else 0.45
    slash = shared.rfind("/") + 1
    if slash:
        yield f"{shared[:slash]}*", 0.45


def contrary(condition: Condition) -> Condition | None:
    """The same values, asked the other way round: `StringNotLike` for `StringLike`; None: there is no such form."""
    operator = condition.operator
    if operator.qualifier is not Qualifier.NONE or operator.if_exists:
        return None
    for positive, negated in _CONTRARY:
        if operator.base in (positive, negated):
            other = negated if operator.base is positive else positive
            return replace(condition, operator=Operator(other))
    return None


def separating_conditions(
    key: str, kept: Sequence[tuple[str, ...]], cut: Sequence[tuple[str, ...]]
) -> Iterator[tuple[Condition, float]]:
    """Conditions on a key that hold for the value lists of `kept` and not for those of `cut` (empty: absent)."""
    values = sorted({value for found in kept for value in found})
    if kept and all(len(found) == 1 for found in kept):
        if all(address_of(value) for value in values):
            # Never as text: a key compared both as text and as an address is beyond engine C.
            yield Condition(Operator(Base.IP_ADDRESS), key, tuple(values)), 0.5
        else:
            if len(values) <= 4:
                yield _equals(key, values), 0.5
            numbers = [number_of(value) for value in values]
            if all(number is not None for number in numbers):
                top = max(values, key=lambda value: number_of(value) or 0)
                yield Condition(Operator(Base.NUMERIC_LESS_THAN_EQUALS), key, (top,), Form.ONE), 0.6
            yield from _shared_patterns(Base.STRING_LIKE, key, values)
        yield Condition(Operator(Base.NULL), key, ("false",), Form.ONE), 0.7
    bad = sorted({value for found in cut for value in found})
    if bad and all(found for found in cut) and len(bad) <= 8:
        if all(address_of(value) for value in bad):
            yield Condition(Operator(Base.NOT_IP_ADDRESS), key, tuple(bad)), 0.6
        else:
            yield Condition(Operator(Base.STRING_NOT_EQUALS), key, tuple(bad)), 0.6
            # Where the good values can be listed, to say what is bad says less.
            extra = 0.15 if kept and all(len(found) == 1 for found in kept) else 0.0
            for condition, cost in _shared_patterns(Base.STRING_NOT_LIKE, key, bad):
                yield condition, cost + extra
        if not any(kept):
            yield Condition(Operator(Base.NULL), key, ("true",), Form.ONE), 0.7


def _shared_patterns(base: Base, key: str, values: Sequence[str]) -> Iterator[tuple[Condition, float]]:
    """What several values begin or end with."""
    if len(values) < 2:
        return
    start, end = shared_start(values), shared_start([value[::-1] for value in values])[::-1]
    for shared, pattern in ((end, f"*{end}"), (start, f"{start}*")):
        if len(shared) > 2:
            yield Condition(Operator(base), key, (pattern,), Form.ONE), 0.45
    if len(start) > 2 and len(end) > 2 and len(start) + len(end) <= min(map(len, values)):
        yield Condition(Operator(base), key, (f"{start}*{end}",), Form.ONE), 0.55


def _equals(key: str, values: Sequence[str]) -> Condition:
    base = Base.BOOL if set(values) <= {"true", "false"} else Base.STRING_EQUALS
    return Condition(Operator(base), key, tuple(values), Form.ONE if len(values) == 1 else Form.LIST)
