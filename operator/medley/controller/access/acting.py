"""What is done about a review: nothing, a proposal, a write, a roll-back.

What a write needs is asked anew each time, for roll-backs as well: mode Enforce, the policy writer's identity, the
owner's consent. What was replaced is remembered by this process alone: a status can be edited by others, and must not
say what is written. A process that starts anew takes nothing back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from medley.actuation.roles import RoleHome
from medley.actuation.status import timestamp
from medley.api.accesspolicy import AccessPolicySpec
from medley.controller.access.report import LONGEST_DOCUMENT, Done, Previous
from medley.controller.access.sources import Source
from medley.model.errors import MedleyError
from medley.model.live_policy import LivePolicy
from medley.policy.rbac.request import Request
from medley.policy.repair.repair import Outcome
from medley.policy.review import Review
from medley.policy.verify import Verdict

_log = logging.getLogger(__name__)

GRACE_S = 5.0
"""An authorizer that watches its roles is late by so much at most: only a denial that outlasts it counts."""
MOST_WRITES, IN_S = 5, 600.0
"""More writes than this in that time: somebody else changes it back each time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One AccessPolicy in one look. `name` is namespace/name."""

    uid: str
    name: str
    generation: int
    spec: AccessPolicySpec
    source: Source
    live: LivePolicy
    review: Review


@dataclass(frozen=True, slots=True)
class Acted:
    """What was done and why. `previous` None: as the status has it; `held`: digest of what is not written again."""

    done: Done
    message: str
    previous: Previous | None = None
    held: str = ""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A write whose floor has not been tried yet."""

    title: str
    generation: int
    previous: Previous


class Actor:
    """Acts on reviews.

    Args:
        writes: whether this process has the policy writer's identity.
        clock: unix seconds.
        pause: waits so many seconds.
    """

    def __init__(self, writes: bool, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self._writes = writes
        self._clock = clock
        self._pause = pause
        self._pending: dict[str, _Pending] = {}
        self._held: dict[str, tuple[str, int]] = {}
        self._times: dict[str, deque[float]] = {}
        self._targets: dict[str, str] = {}

    def begin_look(self) -> None:
        """A look begins: who comes first has a target."""
        self._targets = {}

    def forget(self, known: set[str]) -> None:
        """Only these AccessPolicies (uid) are left."""
        for memory in (self._pending, self._held, self._times):
            for uid in [uid for uid in memory if uid not in known]:
                del memory[uid]

    def act(self, turn: Turn) -> Acted:
        """What is done about one review."""
        review, held = turn.review, self._held_by(turn)
        if turn.spec.mode == "Enforce":
            self._targets.setdefault(turn.source.title, turn.name)  # also where nothing is to be done just now
        pending = self._pending.get(turn.uid)
        if pending is not None:
            ours = pending.title == turn.source.title and pending.generation == turn.generation
            if not ours or review.judged_digest != pending.previous.digest:
                # Spec or document are others by now: what was replaced is no state to go back to.
                del self._pending[turn.uid]
            else:
                acted = self._check(turn, pending)
                if acted is not None:
                    return acted
        if review.verdict is Verdict.SATISFIED:
            return Acted(Done.NOTHING_TO_DO, "what is in force meets the access spec", held=held)
        if review.verdict is Verdict.UNKNOWN:
            return Acted(Done.UNKNOWN, "nothing is written without a verdict", held=held)
        reason = self._unfit(turn) or self._barred(turn)
        if reason is None and review.proposed_digest == held:
            text = "this document was taken back before, as its floor failed. Change the spec, or the document"
            reason = Acted(Done.HELD, text)
        if reason is None and len(turn.live.document) > LONGEST_DOCUMENT:
            text = f"the document has more than {LONGEST_DOCUMENT:,} characters: it could not be kept to be put back"
            reason = Acted(Done.FAILED, text)
        return replace(reason, held=held) if reason is not None else self._write(turn, held)

    def _write(self, turn: Turn, held: str) -> Acted:
        review = turn.review
        assert turn.source.home is not None
        try:
            turn.source.home.write(turn.live, review.proposed)
        except MedleyError as error:
            return Acted(Done.FAILED, str(error), held=held)
        said = "; ".join(review.edits)
        _log.info("%s: written: %s", turn.source.title, said)
        previous = Previous(turn.live.document, timestamp(self._clock()), review.proposed_digest)
        self._pending[turn.uid] = _Pending(turn.source.title, turn.generation, previous)
        self._times.setdefault(turn.uid, deque()).append(self._clock())
        return Acted(Done.WRITTEN, said, previous, held)

    def _unfit(self, turn: Turn) -> Acted | None:
        """Why what is proposed is not fit to be written."""
        review = turn.review
        if review.outcome is Outcome.CONTRADICTION:
            return Acted(Done.CONTRADICTION, "; ".join(review.contradictions))
        if not review.writable:
            said = review.reason or "; ".join(review.disagreements) or "both engines must prove it"
            return Acted(Done.NOT_PROVED, said)
        return None

    def _barred(self, turn: Turn) -> Acted | None:
        """Why nothing may be written to this home now, whatever it is."""
        if turn.spec.mode != "Enforce" or turn.source.home is None:
            return Acted(Done.PROPOSED, f"{len(turn.review.edits)} edits are proposed: status.repair")
        if not self._writes:
            text = "this process may not write policies. Install the policy writer, or apply it by hand"
            return Acted(Done.NO_WRITER, text)
        consent = turn.source.consent
        if consent.needed and turn.live.consent != consent.value(turn.name):
            text = f"its owner does not name this AccessPolicy: {consent.how}={consent.value(turn.name)}"
            return Acted(Done.NO_CONSENT, text)
        first = self._targets[turn.source.title]
        if first != turn.name:
            return Acted(Done.CONTESTED, f"AccessPolicy {first} enforces the same: only one of them may")
        times = self._times.get(turn.uid, deque())
        while times and self._clock() - times[0] > IN_S:
            times.popleft()
        if len(times) >= MOST_WRITES:
            often = f"{len(times)} times in {IN_S / 60:g} minutes"
            return Acted(Done.CONTESTED, f"it was written {often} and changed back each time: find out by whom")
        return None

    def _check(self, turn: Turn, pending: _Pending) -> Acted | None:
        """Try the floor of what was written. None: it holds, but something else is wrong."""
        previous, home, held = pending.previous, turn.source.home, self._held_by(turn)
        failed = [f"{one.side} {one.rule}: {one.request}" for one in turn.review.findings if one.side == "floor"]
        if not failed and isinstance(home, RoleHome):
            try:
                failed = [str(request) for request in self._denied(home, turn.review.probes)]
            except MedleyError as error:
                said = f"written; whether the floor holds could not be tried: {error}"
                return Acted(Done.WRITTEN, said, previous, held)
        if not failed:
            del self._pending[turn.uid]
            if turn.review.verdict is not Verdict.SATISFIED:
                return None
            said = "what was written is in force, and its floor holds"
            return Acted(Done.CHECKED, said, replace(previous, checked=True), held)
        said = f"the floor failed after the write: {failed[0]}"
        barred = self._barred(turn)
        if barred is not None:
            return replace(barred, message=f"{said}; not taken back: {barred.message}", previous=previous, held=held)
        assert home is not None
        try:
            home.write(turn.live, previous.document)
        except MedleyError as error:
            return Acted(Done.FAILED, f"{said}; what was there before could not be put back: {error}", previous, held)
        _log.error("%s: %s; what was there before is back", turn.source.title, said)
        del self._pending[turn.uid]
        self._held[turn.uid] = previous.digest, turn.generation
        return Acted(Done.ROLLED_BACK, f"{said}. What was there before is back", previous, previous.digest)

    def _held_by(self, turn: Turn) -> str:
        """Digest of the document that is not written again; of another spec it may be."""
        digest, generation = self._held.get(turn.uid, ("", turn.generation))
        return digest if generation == turn.generation else ""

    def _denied(self, home: RoleHome, probes: tuple[Request, ...]) -> list[Request]:
        """The requests that are still denied after the grace."""
        left = list(probes)
        deadline_s = self._clock() + GRACE_S
        while True:
            left = [request for request in left if not home.allowed(request)]
            if not left or self._clock() > deadline_s:
                return left
            self._pause(0.25)
