"""What the proposers of edits look at: one document on one board, with the examples that go wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medley.policy.glob import action_glob, matcher
from medley.policy.iam.document import Condition, Document, Effect
from medley.policy.iam.request import Caller, Request, ascii_lower
from medley.policy.repair.action_shapes import ActionGroup
from medley.policy.repair.board import Board
from medley.policy.repair.edits import Edit
from medley.policy.repair.shapes import contrary, matches_resource, resource_patterns

Plan = tuple[tuple[Edit, ...], float]
"""Edits of one statement that together may put an example right, with their cost."""


class View:
    """A document on a board; answers that several proposers need are worked out once."""

    def __init__(
        self, document: Document, board: Board, masks: Sequence[int], allowed: int, spelling: Mapping[str, str]
    ) -> None:
        self.document = document
        self.board = board
        self.masks = masks
        self.allowed = allowed
        self.wrong = board.wrong(allowed)
        self.spelling = spelling
        """Of condition keys, by their lower case."""
        self.with_principal = any(statement.principal is not None for statement in document.statements)
        self.conditions: dict[str, list[Condition]] = {}
        """The document's conditions by key in lower case, then their contraries."""
        own = dict.fromkeys(found for statement in document.statements for found in statement.conditions)
        for found in (*own, *(other for other in map(contrary, own) if other is not None)):
            listed = self.conditions.setdefault(ascii_lower(found.key), [])
            if found not in listed:
                listed.append(found)
        self._resources: dict[int, list[tuple[str, float]]] = {}
        self._shared: dict[int, list[tuple[str, float]]] = {}
        self._actions: dict[str, list[tuple[str, float]]] = {}
        self._groups: dict[tuple[int, tuple[str, ...]], ActionGroup] = {}
        resources = (statement.resource for statement in document.statements if statement.resource is not None)
        self._own_resources = list(dict.fromkeys(item for resource in resources for item in resource.items))
        items = (item for statement in document.statements for item in statement.action.items)
        self._own_actions = [item for item in dict.fromkeys(items) if "*" in item and item.strip("*")]

    def request(self, number: int) -> Request:
        """The request of an example."""
        return self.board.examples[number].request

    def numbers(self, mask: int) -> list[int]:
        """Positions of set bits."""
        return [number for number in range(mask.bit_length()) if mask >> number & 1]

    def wanted(self, number: int) -> Effect:
        """What the example is to get."""
        return Effect.ALLOW if self.board.wanted >> number & 1 else Effect.DENY

    def alike(self, number: int) -> int:
        """Wrong examples that want the same thing."""
        wanted = self.board.wanted
        return self.wrong & (wanted if wanted >> number & 1 else ~wanted)

    def harmful(self, index: int, entry: int) -> bool:
        """Whether an entry of a statement, by the examples it matches, puts examples wrong and none right."""
        hit = self.masks[index] & entry
        allow = self.document.statements[index].effect is Effect.ALLOW
        right = self.board.wanted if allow else ~self.board.wanted
        return bool(hit & self.wrong) and not hit & right

    def without(self, index: int) -> int:
        """Examples that the other statements allow."""
        pairs = (
            (statement.effect, mask)
            for number, (statement, mask) in enumerate(zip(self.document.statements, self.masks, strict=True))
            if number != index
        )
        return self.board.allowed(pairs)

    def alike_actions(self, number: int) -> list[str]:
        """Actions of the wrong examples that want the same thing."""
        return [self.request(other).action for other in self.numbers(self.alike(number))]

    def alike_callers(self, number: int) -> list[Caller | None]:
        """Different callers of the wrong examples that want the same thing."""
        return list(dict.fromkeys(self.request(other).caller for other in self.numbers(self.alike(number))))

    def resource_patterns(self, number: int) -> list[tuple[str, float]]:
        """Patterns for the example's resource, with a cost each."""
        known = self._resources.get(number)
        if known is None:
            resource = self.request(number).resource
            alike = {self.request(other).resource for other in self.numbers(self.alike(number))} - {resource}
            known = self._resources[number] = list(resource_patterns(resource, self.document, sorted(alike)))
        return known

    def shared_resources(self, good: int) -> list[tuple[str, float]]:
        """Patterns for the resources of examples that a statement must go on matching, with a cost each."""
        known = self._shared.get(good)
        if known is None:
            kept = sorted({self.request(number).resource for number in self.numbers(good)})
            options: dict[str, float] = {}
            for resource in kept[:4]:
                for pattern, cost in resource_patterns(resource, self.document, [k for k in kept if k != resource]):
                    options[pattern] = min(cost, options.get(pattern, 9.0))
            for pattern in self._own_resources if kept else ():
                if all(matches_resource(pattern, resource) for resource in kept):
                    options[pattern] = 0.25
            known = self._shared[good] = list(options.items())
        return known

    def action_patterns(self, number: int, beside: Sequence[str] = ()) -> list[tuple[str, float]]:
        """Patterns for the example's action with a cost each; `beside`: entries that it would stand next to."""
        action = ascii_lower(self.request(number).action)
        own = self._actions.get(action)
        if own is None:
            matching = (item for item in self._own_actions if matcher((action_glob(item),))(action))
            own = self._actions[action] = [(item, 0.4) for item in matching]
        key = self.alike(number), tuple(beside)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = ActionGroup((*self.alike_actions(number), *beside))
        return [*((item, cost) for item, cost in own if item not in beside), *group.around(self.request(number).action)]
