"""Cuts texts into atoms: one automaton of all patterns, read breadth first, so that witnesses are shortest.

Texts named outright need no automaton: each is an atom of its own, compared with the patterns one by one. The others
run together as bits of one integer (see `glob.Automaton`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from medley.policy.answers import TooLarge
from medley.policy.glob import Any, Automaton, Glob, Text, is_arn_value, matcher
from medley.policy.iam.request import ascii_lower

MAX_STATES = 30_000
"""States of a joint automaton; a question that needs more is answered Unknown."""
MAX_WORK = 300_000_000
"""Transitions times characters of the patterns: some seconds."""
MAX_STEPS = 40_000
"""Characters of the patterns with wildcards of one dimension; the largest policy that AWS takes has half as many."""
PLAIN = "xyz0123456789abcdefghijklmnopqrstuvw-_/.@=+,ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PRINTABLE = 95
"""Size of the alphabet in which texts are counted: printable ASCII."""
COUNT_LENGTH = 100
"""Longest text counted."""


@dataclass(frozen=True, slots=True)
class Universe:
    """Which texts a dimension has: those that one of the patterns matches; without upper case if `lower`."""

    globs: tuple[Glob, ...]
    lower: bool = False

    @property
    def alphabet(self) -> int:
        """Number of characters for counting."""
        return PRINTABLE - 26 if self.lower else PRINTABLE


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern with the sets it belongs to: a text is in set i if a pattern whose bit i is set matches it."""

    glob: Glob
    sets: int


@dataclass(frozen=True, slots=True)
class TextAtom:
    """Texts that lie in exactly the sets of `sets`."""

    sets: int
    witness: str


@lru_cache(maxsize=512)
def text_atoms(patterns: tuple[Pattern, ...], universe: Universe) -> tuple[TextAtom, ...]:
    """The atoms of patterns without variables over a universe.

    Raises:
        TooLarge: the joint automaton has too many states.
    """
    literals: dict[str, int] = {}
    wild: list[Pattern] = []
    for pattern in patterns:
        text = pattern.glob.literal
        if text is None:
            wild.append(pattern)
        elif not pattern.glob.arn_value or is_arn_value(text):
            literals[text] = literals.get(text, 0) | pattern.sets
    classify = _classifier(wild, universe)
    out: dict[int, str] = {}
    taken: dict[int, set[str]] = {}
    for text, sets in literals.items():
        others = classify(text)
        if others is not None:
            taken.setdefault(others, set()).add(text)
            out.setdefault(sets | others, text)
    joint = Joint(tuple(wild), universe)
    for sets, witness in joint.atoms():
        named = taken.get(sets, set())
        found: str | None = witness
        if witness in named:
            found = _another(witness, named, sets, classify) or _search(joint, sets, named)
        if found is not None:
            out.setdefault(sets, found)
    return tuple(TextAtom(sets, witness) for sets, witness in out.items())


Classifier = Callable[[str], int | None]


def _classifier(patterns: Sequence[Pattern], universe: Universe) -> Classifier:
    """A function that gives the sets a text lies in; None outside the universe."""
    by_sets: dict[int, list[Glob]] = {}
    for pattern in patterns:
        by_sets.setdefault(pattern.sets, []).append(pattern.glob)
    matchers = [(sets, matcher(globs)) for sets, globs in by_sets.items()]
    inside = matcher(universe.globs)

    def classify(text: str) -> int | None:
        if not inside(text) or (universe.lower and ascii_lower(text) != text):
            return None
        found = 0
        for sets, match in matchers:
            if match(text):
                found |= sets
        return found

    return classify


def _another(witness: str, named: set[str], sets: int, classify: Classifier) -> str | None:
    """A text of the same atom that is not named, by one more character near the end; None if not that easy."""
    for position in range(len(witness), max(-1, len(witness) - 8), -1):
        for character in ("x", "0"):
            text = witness[:position] + character + witness[position:]
            if text not in named and classify(text) == sets:
                return text
    return None


def _search(joint: Joint, sets: int, named: set[str]) -> str | None:
    """A text of the atom beyond those named, exactly: their texts join the automaton as a further set."""
    extra = 1 << max((pattern.sets.bit_length() for pattern in joint.patterns), default=0)
    texts = tuple(Pattern(Glob((Text(text),) if text else ()), extra) for text in sorted(named))
    for found, witness in Joint(joint.patterns + texts, joint.universe).atoms():
        if found == sets and witness not in named:
            return witness
    return None


class Joint:
    """All patterns as one automaton, with the universe's as further bits that must stay alive.

    A pattern that ends in `*` and has matched will match however the text goes on. Every other pattern that belongs to
    no further set then says nothing new and is dropped from the state: without that, lists of ARNs with early stars
    would need a state for each subset of the list.
    """

    def __init__(self, patterns: tuple[Pattern, ...], universe: Universe) -> None:
        self.patterns = patterns
        globs = tuple(pattern.glob for pattern in patterns)
        self.universe = universe
        self._start = 0
        self._loops = 0
        self._colon_loops = 0
        self._texts: list[str] = []  # the characters that step i takes; empty: any
        self._anys = 0
        self._colon_anys = 0
        self._steps_with: dict[str, int] = {}
        self._accepting: list[tuple[int, int, int]] = []  # bit of the state, sets, sets only for values that are ARNs
        self._universe_accept = 0
        self._arn_values = any(glob.arn_value for glob in globs)
        self._absorbing = 0
        ranges: list[tuple[int, int, int]] = []  # bits of the pattern, its accepting bit if absorbing, its sets
        offset = universe_offset = 0
        if sum(len(part.text) if isinstance(part, Text) else 1 for glob in globs for part in glob.parts) > MAX_STEPS:
            raise TooLarge(f"the patterns with wildcards have more than {MAX_STEPS:,} characters")
        for number, glob in enumerate((*globs, *universe.globs)):
            automaton = Automaton(glob)
            self._start |= 1 << offset
            self._loops |= automaton.loops << offset
            self._colon_loops |= automaton.colon_loops << offset
            for index, step in enumerate(automaton.steps):
                self._add_step(step, offset + index)
            self._texts.append("")
            accept = automaton.accept << offset
            if number < len(globs):
                sets = patterns[number].sets
                self._accepting.append((accept, 0 if glob.arn_value else sets, sets if glob.arn_value else 0))
                absorbs = bool(automaton.colon_loops & automaton.accept) and not glob.arn_value
                self._absorbing |= accept if absorbs else 0
                ranges.append((((2 << len(automaton.steps)) - 1) << offset, accept if absorbs else 0, sets))
            else:
                self._universe_accept |= accept
            offset += len(automaton.steps) + 1
            universe_offset = offset if number < len(globs) else universe_offset
        self._colon_aware = self._loops != self._colon_loops or self._anys != self._colon_anys or self._arn_values
        self._accept_mask = sum(bit for bit, _, _ in self._accepting)
        self._drops = {
            accept: sum(bits for bits, _, other in ranges if other | sets == sets and not bits & accept)
            for _, accept, sets in ranges
            if accept
        }
        self._literal_mask = 0
        for mask in self._steps_with.values():
            self._literal_mask |= mask
        self._universe_mask = -1 << universe_offset if universe.globs else 0
        self._ends = self._accept_mask | self._universe_accept
        self._known_characters: dict[int, str] = {}
        self._edges: dict[tuple[int, int], list[tuple[tuple[int, int], str, int]]] = {}

    def _add_step(self, step: Text | Any, number: int) -> None:
        bit = 1 << number
        if isinstance(step, Any):
            self._anys |= bit
            self._colon_anys |= bit if step.colons else 0
            self._texts.append("")
            return
        characters = {step.text}
        if step.fold:
            lower = ascii_lower(step.text)
            characters = {lower, lower.upper() if lower.isascii() else lower}
        if self.universe.lower:
            characters = {character for character in characters if ascii_lower(character) == character}
        for character in characters:
            self._steps_with[character] = self._steps_with.get(character, 0) | bit
        self._texts.append("".join(sorted(characters)))

    def _characters(self, state: int) -> str:
        """Characters that some step of the state tells apart from all others, each once, in order."""
        active = state & self._literal_mask
        known = self._known_characters.get(active)
        if known is None:
            found = {":"} if self._colon_aware else set()
            left = active
            while left:
                low = left & -left
                found.update(self._texts[low.bit_length() - 1])
                left ^= low
            known = self._known_characters[active] = "".join(sorted(found))
        return known

    def _move(self, state: int, character: str) -> int:
        if character == ":":
            taken, loops = self._colon_anys, self._colon_loops
        else:
            taken, loops = self._anys, self._loops
        return self._absorb(((state & (taken | self._steps_with.get(character, 0))) << 1) | (state & loops))

    def _absorb(self, after: int) -> int:
        """The state without what patterns that will match anyhow make idle."""
        absorbed = after & self._absorbing
        while absorbed:
            bit = absorbed & -absorbed
            after &= ~self._drops[bit]
            absorbed = (absorbed ^ bit) & after
        return after

    def edges(self, node: tuple[int, int]) -> list[tuple[tuple[int, int], str, int]]:
        """Successors of a node (state, colons seen) with a character, and how many characters lead there."""
        known = self._edges.get(node)
        if known is not None:
            return known
        state, colons = node
        characters = self._characters(state)
        other = "x" if "x" not in characters else self._other(characters)
        out = []
        for character in characters:
            after = self._move(state, character)
            if after & self._universe_mask:
                seen = min(5, colons + (character == ":")) if self._arn_values else 0
                out.append(((after, seen), character, 1))
        after = self._move(state, other)
        if after & self._universe_mask:
            ways = max(0, self.universe.alphabet - len(characters))
            out.append(((after, colons if self._arn_values else 0), other, ways))
        self._edges[node] = out
        return out

    def _other(self, characters: str) -> str:
        """A character that no step of the state tells apart from the rest."""
        for character in PLAIN:
            if character not in characters and (not self.universe.lower or ascii_lower(character) == character):
                return character
        return next(chr(code) for code in range(0x100, 0x2000) if chr(code) not in characters)

    def accepts(self, node: tuple[int, int]) -> int | None:
        """The sets of the texts that lead here; None if the texts are outside the universe."""
        state, colons = node
        if not state & self._universe_accept:
            return None
        out = 0
        if state & self._accept_mask:
            for bit, sets, arn_sets in self._accepting:
                if state & bit:
                    out |= sets | arn_sets if colons >= 5 else sets
        return out

    def nodes(self) -> dict[tuple[int, int], str]:
        """Reachable nodes with a shortest text that leads to each, short ones first; of runs (`_run`) only the ends."""
        first = (self._start, 0)
        texts = {first: ""}
        heap = [(0, 0, first)]
        done: dict[tuple[int, int], str] = {}
        work = number = 0
        while heap:
            _, _, node = heapq.heappop(heap)
            if node in done:
                continue
            text = done[node] = texts[node]
            run, end = self._run(node[0])
            edges = self.edges(node)
            for following, character, _ in edges:
                after, longer = following, text + character
                if len(run) > 1 and character == run[0]:
                    after, longer = (end, following[1]), text + run
                if after not in texts or len(longer) < len(texts[after]):
                    texts[after] = longer
                    number += 1
                    heapq.heappush(heap, (len(longer), number, after))
            work += len(edges) * len(self._texts)
            if len(texts) > MAX_STATES or work > MAX_WORK:
                raise TooLarge("the patterns with wildcards meet in too many ways")
        return done

    def _run(self, state: int) -> tuple[str, int]:
        """Characters that lead on without anything new on the way, and the state at their end.

        Steps that wait in a loop stay where they are, all others take the same characters one after another. Every
        other character leads from each place on the way to where it leads from the first, and no pattern ends there:
        the places in between have no atom of their own.
        """
        waiting = state & self._loops
        moving = state & ~self._loops
        if not moving or state & self._anys or moving & self._ends:
            return "", state
        kept = self._characters(waiting)
        halts = self._loops | self._anys | self._ends
        alone = not moving & (moving - 1)
        run: list[str] = []
        while not moving & halts:
            characters = self._texts[moving.bit_length() - 1]
            if not alone and any(self._texts[bit] != characters for bit in _bits(moving)):
                break
            if ":" in characters or characters in kept or (len(characters) > 1 and set(characters) & set(kept)):
                break
            run.append(characters[0])
            moving <<= 1
        return "".join(run), self._absorb(waiting | moving)

    def atoms(self) -> list[tuple[int, str]]:
        """Combinations of sets that some text lies in, each with a shortest such text."""
        out: dict[int, str] = {}
        for node, text in self.nodes().items():
            accepts = self.accepts(node)
            if accepts is not None:
                out.setdefault(accepts, text)
        return list(out.items())

    def counts(self) -> dict[int, int]:
        """Texts of up to COUNT_LENGTH characters by the sets they lie in."""
        layer: dict[tuple[int, int], int] = {(self._start, 0): 1}
        out: dict[int, int] = {}
        for _ in range(COUNT_LENGTH + 1):
            for node, number in layer.items():
                accepts = self.accepts(node)
                if accepts is not None:
                    out[accepts] = out.get(accepts, 0) + number
            following: dict[tuple[int, int], int] = {}
            for node, number in layer.items():
                for after, _, ways in self.edges(node):
                    if ways:
                        following[after] = following.get(after, 0) + number * ways
            layer = following
            if len(layer) > MAX_STATES:
                raise TooLarge(f"the patterns need more than {MAX_STATES:,} states")
        return out


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


@lru_cache(maxsize=64)
def text_counts(patterns: tuple[Pattern, ...], universe: Universe) -> dict[int, int]:
    """Texts of up to COUNT_LENGTH printable ASCII characters by the sets they lie in."""
    return Joint(patterns, universe).counts()
