"""`--what-if`: small changes to what was read, each planned beside the plan as it is.

rate=+20%            the demand; also ±20% (both), or a number in req/s
price:POOL=-10%      the price of a pool's nodes; also $ per node-hour
limit:POOL=+10       the nodes of a pool; also a number
slo:tpot=80ms        an objective of every service; also slo:ttft=2s, or a change in %
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from medley.api.convert import Resources
from medley.cli.units import parse_milliseconds
from medley.model.errors import UserError
from medley.model.objects import Pool, Service

FIELD = "--what-if"
EXAMPLES = "Write it as in rate=+20%, price:l4=-10%, limit:l4=+10 or slo:tpot=80ms"
_CHANGE = re.compile(r"([+\-±]|\+-)?([0-9.eE]+)(%?)")


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One change.

    Attributes:
        label: as it was asked for.
        resources: what is planned instead.
        rate: makes the rate of one service out of its present one, in req/s; None: as it is.
    """

    label: str
    resources: Resources
    rate: Callable[[float], float] | None = None


def what_ifs(texts: Sequence[str], resources: Resources) -> list[WhatIf]:
    """The changes that are asked for; "±" makes two.

    Raises:
        UserError: a change is not understood, or names a pool that there is none of.
    """
    found = []
    for text in texts:
        what, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text!r} says no value", field=FIELD, fix=EXAMPLES)
        kind, _, name = what.strip().partition(":")
        for each in _both(value.strip()):
            found.append(_what_if(f"{what.strip()}={each}", kind, name, each, resources))
    return found


def _both(value: str) -> list[str]:
    for sign in ("±", "+-"):
        if value.startswith(sign):
            return ["-" + value.removeprefix(sign), "+" + value.removeprefix(sign)]
    return [value]


def _what_if(label: str, kind: str, name: str, value: str, resources: Resources) -> WhatIf:
    match kind:
        case "rate" if not name:
            return WhatIf(label, resources, _number(value, label, least=0.0))
        case "price":
            change = _number(value, label, least=1e-9)
            return WhatIf(label, _with_pool(resources, name, label, lambda pool: _priced(pool, change)))
        case "limit":
            change = _number(value, label, least=0.0)
            return WhatIf(label, _with_pool(resources, name, label, lambda pool: _limited(pool, change)))
        case "slo" if name in ("tpot", "ttft"):
            return WhatIf(label, replace(resources, services=_with_slo(resources.services, name, value, label)))
    raise UserError(f"{label!r} is not a change that is known", field=FIELD, fix=EXAMPLES)


def _number(value: str, label: str, *, least: float) -> Callable[[float], float]:
    """A change of a number: to a value, by a value, or by a part of it."""
    match = _CHANGE.fullmatch(value.replace(" ", ""))
    try:
        amount = float(match[2]) if match else math.nan
    except ValueError:
        amount = math.nan
    if match is None or not math.isfinite(amount):
        raise UserError(f"{label!r}: {value!r} is not a number or a change", field=FIELD, fix=EXAMPLES)
    sign = {"-": -1.0, "+": 1.0}.get(match[1] or "", 0.0)
    if match[3]:
        factor = 1.0 + sign * amount / 100.0 if sign else amount / 100.0
        if factor < 0.0:
            raise UserError(f"{label!r} would make it less than nothing", field=FIELD, fix="Take away at most 100%")
        return lambda now: max(least, now * factor)
    return lambda now: max(least, now + sign * amount if sign else amount)


def _with_pool(resources: Resources, name: str, label: str, change: Callable[[Pool], Pool]) -> Resources:
    if name not in {pool.name for pool in resources.pools}:
        known = ", ".join(sorted(pool.name for pool in resources.pools)) or "none"
        raise UserError(f"{label!r}: there is no GPUPool {name!r}", field=FIELD, fix=f"Use one of: {known}")
    pools = tuple(change(pool) if pool.name == name else pool for pool in resources.pools)
    return replace(resources, pools=pools)


def _priced(pool: Pool, change: Callable[[float], float]) -> Pool:
    offerings = (replace(one, price_per_node_hour=change(one.price_per_node_hour)) for one in pool.offerings)
    return replace(pool, offerings=tuple(offerings))


def _limited(pool: Pool, change: Callable[[float], float]) -> Pool:
    """A change of a limit that there is none of leaves it so."""
    if pool.max_nodes is None and change(0.0) != change(1.0):
        return pool
    return replace(pool, max_nodes=math.floor(change(float(pool.max_nodes or 0))))


def _with_slo(services: Sequence[Service], name: str, value: str, label: str) -> tuple[Service, ...]:
    changed = []
    for service in services:
        now = service.slo.tpot_ms if name == "tpot" else service.slo.ttft_ms
        if value.endswith("%"):
            if now is None:
                raise UserError(f"{label!r}: {service.key} has no {name}", field=FIELD, fix="Give it in ms or s")
            then = _number(value, label, least=1e-3)(now)
        else:
            then = parse_milliseconds(value, field=FIELD, example=f"slo:{name}=")
        slo = replace(service.slo, **{f"{name}_ms": then})
        changed.append(replace(service, slo=slo))
    return tuple(changed)
