"""The loop over AccessPolicies: read what is in force, have it reviewed, report; under Enforce write what is proved.

Level-triggered: every interval everything is read back, so drift is found whoever made it. A policy that fails stops
no other.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from medley.actuation.cluster_api import NOT_FOUND, ApiError, ClusterApi, PatchType
from medley.actuation.events import EventType, post
from medley.actuation.roles import FIELD_MANAGER, RoleHome
from medley.actuation.status import conditions, timestamp
from medley.api.accesspolicy import AccessPolicySpec
from medley.api.crds import ACCESS_KIND
from medley.controller.access.report import Done, Previous, failed_status, previous_of, service_condition, status
from medley.controller.access.reviewer import ProposerSettings, Reviewer
from medley.controller.access.sources import Source, Sources, parse_spec
from medley.model.errors import AccessError, MedleyError, TransientError, UserError
from medley.model.live_policy import LivePolicy
from medley.model.objects import API_VERSION, ServiceKey
from medley.policy.kind import PolicyKind
from medley.policy.rbac.request import Request
from medley.policy.repair.repair import Outcome
from medley.policy.review import Case, Review
from medley.policy.verify import Verdict

Json = dict[str, Any]
_log = logging.getLogger(__name__)

GRACE_S = 5.0
"""An authorizer that watches its roles is late by so much at most: only a denial that outlasts it counts."""
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Of the loop.

    Attributes:
        interval_s: between looks.
        namespaces: whose AccessPolicies are looked after; none: of all.
        writes: whether this process has the policy writer's identity, and Enforce is acted on.
        timeout_ms: for one question to Z3.
        retry_s: before a review that came to nothing is tried again, where nothing has changed.
        proposer: a language model that is asked first; None: none is.
        proposals_per_hour: how often it may be asked, over all AccessPolicies.
    """

    interval_s: float = 30.0
    namespaces: tuple[str, ...] = ()
    writes: bool = False
    timeout_ms: int = 5000
    retry_s: float = 300.0
    proposer: ProposerSettings | None = None
    proposals_per_hour: int = 20


class Observer(Protocol):
    """Who counts."""

    def look(self, seconds: float, verdicts: Mapping[str, int]) -> None:
        """A look has ended, with so many AccessPolicies of each verdict."""

    def event(self, reason: str) -> None:
        """An event was told."""


class _Nobody:
    def look(self, seconds: float, verdicts: Mapping[str, int]) -> None:
        pass

    def event(self, reason: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Kept:
    """A review of a case that has not changed since."""

    case: Case
    review: Review | MedleyError
    at_s: float


class AccessLoop:
    """Looks after AccessPolicies.

    Args:
        api: the cluster, as the account of this process.
        sources: resolves AccessPolicies.
        reviewer: does the reviews.
        settings: of the loop.
        clock: unix seconds.
        pause: waits so many seconds.
        observed: told of each look and each event.
    """

    def __init__(
        self,
        api: ClusterApi,
        sources: Sources,
        reviewer: Reviewer,
        settings: AccessSettings,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
        observed: Observer | None = None,
    ) -> None:
        self._api = api
        self._sources = sources
        self._reviewer = reviewer
        self._settings = settings
        self._clock = clock
        self._pause = pause
        self._observed = observed or _Nobody()
        self._kept: dict[str, _Kept] = {}
        self._asked: deque[float] = deque()
        self._said: dict[str, str] = {}

    def look(self) -> str:
        """One look at every AccessPolicy; why it could not be done, empty if it could."""
        began_s = self._clock()
        try:
            # Items of a list say nothing of their kind.
            head = {"apiVersion": API_VERSION, "kind": ACCESS_KIND.kind}
            manifests = [{**head, **item} for path in self._paths() for item in self._api.items(path)]
        except MedleyError as error:
            self._say("list", f"no look: {error}")
            return f"no look: {error}"
        self._said.pop("list", None)
        verdicts: dict[str, int] = {verdict.value: 0 for verdict in Verdict}
        told: dict[ServiceKey, list[tuple[str, Json]]] = {}
        for manifest in manifests:
            body = self._one(manifest)
            verdicts[body["verdict"]] += 1
            service = _service_of(manifest)
            if service is not None:
                told.setdefault(service, []).append((manifest["metadata"]["name"], body))
        for service, bodies in told.items():
            self._tell_service(service, bodies)
        known = {item["metadata"]["uid"] for item in manifests}
        self._kept = {uid: kept for uid, kept in self._kept.items() if uid in known}
        self._observed.look(self._clock() - began_s, verdicts)
        return ""

    def _paths(self) -> list[str]:
        if not self._settings.namespaces:
            return [f"/apis/{API_VERSION}/{ACCESS_KIND.plural}"]
        return [f"/apis/{API_VERSION}/namespaces/{name}/{ACCESS_KIND.plural}" for name in self._settings.namespaces]

    def _one(self, manifest: Json) -> Json:
        """Review one and act on it; its status."""
        before = manifest.get("status") or {}
        try:
            body = self._judged(manifest, before)
        except MedleyError as error:
            reasons = {UserError: "InvalidSpec", AccessError: "NoAccess", TransientError: "NotReviewed"}
            reason = next((name for kind, name in reasons.items() if isinstance(error, kind)), "Failed")
            body = self._failed(manifest, before, reason, str(error))
        except Exception as error:
            _log.exception("%s: the look failed; nothing is written", _name(manifest))
            body = self._failed(manifest, before, "Failed", f"report this: {error!r}")
        self._report(manifest, before, body)
        return body

    def _failed(self, manifest: Json, before: Json, reason: str, message: str) -> Json:
        return failed_status(reason, message, manifest["metadata"].get("generation", 0), before, self._clock())

    def _judged(self, manifest: Json, before: Json) -> Json:
        spec = parse_spec(manifest)
        if spec.mode == "Off":
            return self._failed(manifest, before, "Off", "mode is Off: nothing is looked at")
        metadata = manifest["metadata"]
        source = self._sources.of(metadata["namespace"], spec)
        live = source.home.read() if source.home is not None else LivePolicy(source.text)
        review = self._review(metadata["uid"], source.case(live, self._settings.timeout_ms))
        now_s = self._clock()
        turn = _Turn(
            f"{metadata['namespace']}/{metadata['name']}",
            spec,
            source,
            live,
            review,
            before,
            metadata.get("generation", 0),
        )
        done, message, previous, held = self._act(turn, now_s)
        return status(
            source.title,
            review,
            done,
            message,
            generation=metadata.get("generation", 0),
            before=before,
            previous=previous,
            held=held,
            now_s=now_s,
        )

    def _review(self, uid: str, case: Case) -> Review:
        """The review of a case: the last one, where nothing has changed; what came to nothing is tried again later."""
        kept = self._kept.get(uid)
        if kept is not None and kept.case == case:
            known = isinstance(kept.review, Review) and kept.review.verdict is not Verdict.UNKNOWN
            fresh = self._clock() - kept.at_s < self._settings.retry_s
            if known or fresh:
                if isinstance(kept.review, MedleyError):
                    raise kept.review
                return kept.review
        result: Review | MedleyError
        try:
            result = self._reviewer.review(case, None)
            if result.verdict is Verdict.VIOLATED and case.kind is not PolicyKind.RBAC and self._may_ask():
                result = self._reviewer.review(case, self._settings.proposer)
        except MedleyError as error:
            result = error
        self._kept[uid] = _Kept(case, result, self._clock())
        if isinstance(result, MedleyError):
            raise result
        return result

    def _may_ask(self) -> bool:
        """Whether the language model may be asked once more in this hour."""
        if self._settings.proposer is None:
            return False
        now_s = self._clock()
        while self._asked and now_s - self._asked[0] > HOUR_S:
            self._asked.popleft()
        if len(self._asked) >= self._settings.proposals_per_hour:
            return False
        self._asked.append(now_s)
        return True

    # Acting.

    def _act(self, turn: _Turn, now_s: float) -> tuple[Done, str, Previous | None, str]:
        """What is done, why, what the last write replaced, and which document is not written again."""
        review, previous, held = turn.review, turn.previous, turn.held
        ours = previous is not None and not previous.checked and review.judged_digest == previous.digest
        if previous is not None and ours and turn.same_spec:
            checked = self._check(turn, previous, now_s)
            if checked is not None:
                return checked
            previous = replace(previous, checked=True)
            if review.verdict is Verdict.SATISFIED:
                return Done.CHECKED, "what was written is in force, and its floor holds", previous, held
        if review.verdict is Verdict.SATISFIED:
            return Done.NOTHING_TO_DO, "what is in force meets the access spec", previous, held
        if review.verdict is Verdict.UNKNOWN:
            return Done.UNKNOWN, "nothing is written without a verdict", previous, held
        done, message = self._reason_not_to_write(turn)
        if done is not None:
            return done, message, previous, held
        if len(turn.live.document) > LONGEST_KEPT:
            text = f"the document has more than {LONGEST_KEPT:,} characters: it could not be kept to be put back"
            return Done.FAILED, text, previous, held
        assert turn.source.home is not None
        try:
            turn.source.home.write(turn.live, review.proposed)
        except MedleyError as error:
            return Done.FAILED, str(error), previous, held
        _log.info("%s: written: %s", turn.source.title, "; ".join(review.edits))
        written = Previous(turn.live.document, timestamp(now_s), review.proposed_digest)
        return Done.WRITTEN, "; ".join(review.edits), written, held

    def _reason_not_to_write(self, turn: _Turn) -> tuple[Done | None, str]:
        review = turn.review
        if review.outcome is Outcome.CONTRADICTION:
            return Done.CONTRADICTION, "; ".join(review.contradictions)
        if not review.writable:
            return Done.NOT_PROVED, review.reason or "; ".join(review.disagreements) or "both engines must prove it"
        if turn.spec.mode != "Enforce" or turn.source.home is None:
            return Done.PROPOSED, f"{len(review.edits)} edits are proposed: status.repair"
        if not self._settings.writes:
            return Done.NO_WRITER, "this process may not write policies. Install the policy writer, or apply it by hand"
        if turn.source.consent.needed and turn.live.consent != turn.name:
            return Done.NO_CONSENT, f"its owner does not name this AccessPolicy: {turn.source.consent.how}{turn.name}"
        if review.proposed_digest == turn.held:
            return Done.HELD, "this document was taken back before, as its floor failed. Change spec or document"
        return None, ""

    def _check(self, turn: _Turn, previous: Previous, now_s: float) -> tuple[Done, str, Previous | None, str] | None:
        """Whether the floor holds where it counts, after a write. None: it does."""
        failed = [f"{one.side} {one.rule}: {one.request}" for one in turn.review.findings if one.side == "floor"]
        if not failed and isinstance(turn.source.home, RoleHome):
            try:
                failed = [str(request) for request in self._denied(turn.source.home, turn.review.probes)]
            except MedleyError as error:
                return (
                    Done.WRITTEN,
                    f"written; whether the floor holds could not be tried: {error}",
                    previous,
                    turn.held,
                )
        if not failed:
            return None
        assert turn.source.home is not None
        said = f"the floor failed after the write: {failed[0]}"
        try:
            turn.source.home.write(turn.live, previous.document)
        except MedleyError as error:
            return Done.FAILED, f"{said}; what was there before could not be put back: {error}", previous, turn.held
        _log.error("%s: %s; what was there before is back", turn.source.title, said)
        return Done.ROLLED_BACK, f"{said}. What was there before is back", None, previous.digest

    def _denied(self, home: RoleHome, probes: tuple[Request, ...]) -> list[Request]:
        """The requests that are still denied after the grace."""
        left = list(probes)
        deadline_s = self._clock() + GRACE_S
        while True:
            left = [request for request in left if not home.allowed(request)]
            if not left or self._clock() > deadline_s:
                return left
            self._pause(0.25)

    # Reporting.

    def _report(self, manifest: Json, before: Json, body: Json) -> None:
        name = _name(manifest)
        try:
            if body != before:
                metadata = manifest["metadata"]
                place = f"/apis/{API_VERSION}/namespaces/{metadata['namespace']}/{ACCESS_KIND.plural}"
                _apply(self._api, manifest, f"{place}/{metadata['name']}/status", body)
            for kind, reason, message in _events(before, body):
                post(self._api, manifest, kind, reason, message, self._clock())
                self._observed.event(reason)
                _log.log(logging.WARNING if kind is EventType.WARNING else logging.INFO, "%s: %s", name, message)
            self._said.pop(name, None)
        except MedleyError as error:
            self._say(name, f"{name}: the status could not be written: {error}")

    def _tell_service(self, service: ServiceKey, bodies: list[tuple[str, Json]]) -> None:
        """The condition AccessVerified of a service, from the AccessPolicies that are generated for it."""
        path = f"/apis/{API_VERSION}/namespaces/{service.namespace}/llmservices/{service.name}"
        try:
            manifest = self._api.get(path)
            before = manifest.get("status") or {}
            found = service_condition(bodies)
            (body,) = conditions([found], before, manifest["metadata"].get("generation", 0), self._clock())
            if body not in (before.get("conditions") or []):
                _apply(self._api, manifest, f"{path}/status", {"conditions": [body]})
        except MedleyError as error:
            if isinstance(error, ApiError) and error.status == NOT_FOUND:
                return  # the AccessPolicy says that there is no such service
            self._say(str(service), f"LLMService {service}: its condition could not be written: {error}")

    def _say(self, what: str, text: str) -> None:
        if self._said.get(what) != text:
            self._said[what] = text
            _log.warning(text)


LONGEST_KEPT = 131_072
"""Of a document that was replaced, in characters: what a status has room for."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One AccessPolicy in one look."""

    name: str
    spec: AccessPolicySpec
    source: Source
    live: LivePolicy
    review: Review
    status: Json
    generation: int

    @property
    def same_spec(self) -> bool:
        """Whether the status is of the spec as it is now."""
        return self.status.get("observedGeneration") == self.generation

    @property
    def previous(self) -> Previous | None:
        return previous_of(self.status)

    @property
    def held(self) -> str:
        return str(self.status.get("held") or "")


def _apply(api: ClusterApi, manifest: Json, path: str, body: Json) -> None:
    whole = {
        "apiVersion": API_VERSION,
        "kind": manifest["kind"],
        "metadata": {key: manifest["metadata"][key] for key in ("name", "namespace")},
        "status": body,
    }
    api.patch(path, whole, PatchType.APPLY, fieldManager=FIELD_MANAGER, force="true")


def _service_of(manifest: Json) -> ServiceKey | None:
    """The service that an AccessPolicy is generated for."""
    found = ((manifest.get("spec") or {}).get("generated") or {}).get("service")
    return ServiceKey(manifest["metadata"]["namespace"], found) if found else None


_QUIET = frozenset({Done.NOTHING_TO_DO.value, Done.CHECKED.value, Done.UNKNOWN.value, "Off"})
"""Reasons that come and go in normal work."""


def _events(before: Json, after: Json) -> list[tuple[EventType, str, str]]:
    """What became of each condition, where that is news."""
    old = {item["type"]: (item["status"], item["reason"]) for item in before.get("conditions") or []}
    out = []
    for item in after["conditions"]:
        first_and_fine = item["type"] not in old and item["reason"] == Verdict.SATISFIED.value
        if (item["status"], item["reason"]) == old.get(item["type"]) or item["reason"] in _QUIET or first_and_fine:
            continue
        kind = EventType.WARNING if item["status"] == "False" and item["reason"] != "Proposed" else EventType.NORMAL
        out.append((kind, item["reason"], f"{item['type']}={item['status']}: {item['message']}"))
    return out


def _name(manifest: Json) -> str:
    return f"AccessPolicy {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
