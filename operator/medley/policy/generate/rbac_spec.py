"""Access specs of roles and bindings from a list of rights: each is a floor, and all but their union is the ceiling.

The complement is cut into few rules: other API groups; in each group other resources; for each resource other verbs;
for verbs that are given by name or in some namespaces the other names and namespaces; URLs; other callers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medley.policy.generate.part import Json


@dataclass(frozen=True, slots=True)
class Access:
    """Verbs on one resource. `names` empty: every object; `namespaces` empty: everywhere."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()


def spec_of(accesses: Sequence[Access], subject: Json) -> Json:
    """Floor and ceiling of the accesses of one subject; none: it, and whoever else, may do nothing."""
    if not accesses:
        return {"ceiling": [{"id": "anything", "subject": subject, "reason": "its pods call no API of the cluster"}]}
    return {
        "floor": [_floor(access, number, subject) for number, access in enumerate(accesses)],
        "ceiling": [
            *_ceiling(accesses),
            {"id": "urls", "nonResourceURLs": "*"},
            {"id": "other-callers", "notSubject": subject},
        ],
    }


def _floor(access: Access, number: int, subject: Json) -> Json:
    return {
        "id": f"right-{number + 1}",
        "subject": subject,
        "verbs": list(access.verbs),
        "apiGroups": access.group,
        "resources": access.resource,
        **({"resourceNames": list(access.names)} if access.names else {}),
        **({"namespaces": list(access.namespaces)} if access.namespaces else {}),
    }


def _ceiling(accesses: Sequence[Access]) -> Iterable[Json]:
    groups: dict[str, dict[str, list[Access]]] = {}
    for access in accesses:
        groups.setdefault(access.group, {}).setdefault(access.resource, []).append(access)
    yield {"id": "other-groups", "notApiGroups": list(groups)}
    for group, resources in groups.items():
        name = group or "core"
        yield {"id": f"other-resources-of-{name}", "apiGroups": group, "notResources": list(resources)}
        for resource, found in resources.items():
            place: Json = {"apiGroups": group, "resources": resource}
            label = f"{resource.replace('/', '-')}-of-{name}"
            verbs = list(dict.fromkeys(verb for access in found for verb in access.verbs))
            yield {"id": f"other-verbs-on-{label}", **place, "notVerbs": verbs}
            alike: dict[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...], list[str]] = {}
            for verb in verbs:
                reach = tuple((access.names, access.namespaces) for access in found if verb in access.verbs)
                alike.setdefault(reach, []).append(verb)
            for reach, together in alike.items():
                for kind, rule in _elsewhere(reach):
                    yield {"id": f"{kind}-{'-'.join(together)}-on-{label}", **place, "verbs": together, **rule}


def _elsewhere(reach: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> Iterable[tuple[str, Json]]:
    """Where a verb is not given: with the kind of rule, the fields that say so."""
    everywhere = [names for names, namespaces in reach if not namespaces]
    if () in everywhere:
        return
    always = list(dict.fromkeys(name for names in everywhere for name in names))
    places = list(dict.fromkeys(place for _, namespaces in reach for place in namespaces))
    outside: Json = {
        **({"notNamespaces": places} if places else {}),
        **({"notResourceNames": always} if always else {}),
    }
    yield "elsewhere" if places else "other-names", outside
    for place in places:
        there = [names for names, namespaces in reach if place in namespaces]
        if () not in there:
            names = list(dict.fromkeys([*always, *(name for found in there for name in found)]))
            yield f"other-names-in-{place}", {"namespaces": place, "notResourceNames": names}
