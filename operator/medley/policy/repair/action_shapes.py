"""How actions generalise: to a verb of a service (`s3:Get*`), to a service, to all, where several ask for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from medley.policy.catalogue import catalogue
from medley.policy.iam.request import ascii_lower

_VERB = re.compile(r"([a-z0-9-]+):([A-Z][a-z0-9]*)")
MANY_SERVICES = 3
"""Different services that are wanted together before all actions are proposed."""


def spelt(action: str) -> str:
    """The action as the catalogue spells it, if it is there."""
    known = catalogue().get(action)
    return action if known is None else known.name


@lru_cache(maxsize=4096)
def verb_of(action: str) -> str | None:
    """`service:Verb` of `service:VerbNoun`, as the catalogue spells it."""
    match = _VERB.match(spelt(action))
    return None if match is None else match.group()


class ActionGroup:
    """Actions, or patterns, that are wanted together, counted by verb and by service."""

    def __init__(self, actions: Iterable[str]) -> None:
        self._verbs: dict[str, int] = {}
        self._services: dict[str, int] = {}
        self._members = {ascii_lower(action): action for action in actions}
        for action in self._members.values():
            verb, service = verb_of(action), ascii_lower(action.partition(":")[0])
            if verb is not None:
                self._verbs[verb] = self._verbs.get(verb, 0) + 1
            self._services[service] = self._services.get(service, 0) + 1

    def around(self, action: str) -> Iterator[tuple[str, float]]:
        """Patterns for an action with a cost each; wider ones only where others of the group ask for them too."""
        yield spelt(action), 0.5
        itself = ascii_lower(action) in self._members
        verb, service = verb_of(action), action.partition(":")[0]
        alike = 0 if verb is None else self._verbs.get(verb, 0) - itself
        if alike > 0:
            yield f"{verb}*", 0.6 if alike > 1 else 0.9
        lowered = ascii_lower(service)
        if self._services.get(lowered, 0) - itself > 1:
            yield f"{service}:*", 1.0
        if len(self._services) + (lowered not in self._services) >= MANY_SERVICES:
            yield "*", 1.1


def verb_patterns(actions: Iterable[str], bad: Iterable[str]) -> list[str]:
    """A short list of patterns for actions: `service:Verb*` where several share a verb that no bad action has."""
    groups: dict[str, set[str]] = {}
    for action in map(spelt, actions):
        groups.setdefault(verb_of(action) or action, set()).add(action)
    avoided = [ascii_lower(action) for action in bad]
    out: list[str] = []
    for verb, names in sorted(groups.items()):
        shared = len(names) > 1 and not any(action.startswith(ascii_lower(verb)) for action in avoided)
        out.extend([f"{verb}*"] if shared else sorted(names))
    return out
