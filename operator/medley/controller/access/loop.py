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
from medley.actuation.roles import FIELD_MANAGER
from medley.actuation.status import conditions
from medley.api.crds import ACCESS_KIND
from medley.controller.access.acting import Actor, Turn
from medley.controller.access.report import Done, failed_status, previous_of, service_condition, status
from medley.controller.access.reviewer import ProposerSettings, Reviewer
from medley.controller.access.sources import Sources, parse_spec
from medley.model.errors import AccessError, MedleyError, TransientError, UserError
from medley.model.live_policy import LivePolicy
from medley.model.objects import API_VERSION, ServiceKey
from medley.policy.kind import PolicyKind
from medley.policy.review import Case, Review
from medley.policy.verify import Verdict

Json = dict[str, Any]
_log = logging.getLogger(__name__)

HOUR_S = 3600.0
LOOK_S = 60.0
"""Of one look for what failed before: the others come first, and always."""


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
    failures: int
    """How often in a row it came to nothing."""

    def outcome(self) -> Review:
        """The review.

        Raises:
            MedleyError: why there is none.
        """
        if isinstance(self.review, MedleyError):
            raise self.review
        return self.review


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
        beat: called before each AccessPolicy: the loop is alive.
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
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._api = api
        self._sources = sources
        self._reviewer = reviewer
        self._settings = settings
        self._clock = clock
        self._observed = observed or _Nobody()
        self._kept: dict[str, _Kept] = {}
        self._actor = Actor(settings.writes, clock, pause)
        self._beat = beat
        self._look_until_s = 0.0
        self._told: set[ServiceKey] = set()
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
        self._actor.begin_look()
        self._look_until_s = began_s + LOOK_S
        for manifest in sorted(manifests, key=self._failures):
            self._beat()
            body = self._one(manifest)
            verdicts[body["verdict"]] += 1
            service = _service_of(manifest)
            if service is not None:
                told.setdefault(service, []).append((manifest["metadata"]["name"], body))
        for service in self._told - told.keys():
            self._tell_service(service, [])
        for service, bodies in told.items():
            self._tell_service(service, bodies)
        self._told = set(told)
        known = {item["metadata"]["uid"] for item in manifests}
        self._actor.forget(known)
        self._kept = {uid: kept for uid, kept in self._kept.items() if uid in known}
        self._observed.look(self._clock() - began_s, verdicts)
        return ""

    def _failures(self, manifest: Json) -> int:
        kept = self._kept.get(manifest["metadata"]["uid"])
        return kept.failures if kept is not None else 0

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
        name = f"{metadata['namespace']}/{metadata['name']}"
        acted = self._actor.act(Turn(metadata["uid"], name, metadata.get("generation", 0), spec, source, live, review))
        return status(
            source.title,
            review,
            acted.done,
            acted.message,
            generation=metadata.get("generation", 0),
            before=before,
            previous=acted.previous or previous_of(before),
            held=acted.held,
            now_s=self._clock(),
        )

    def _review(self, uid: str, case: Case) -> Review:
        """The review of a case: the last one, where nothing has changed.

        What came to nothing is tried again later and later, and not where others have used up the time of this look.
        """
        kept = self._kept.get(uid)
        failures = kept.failures if kept is not None else 0
        if kept is not None and kept.case == case:
            wait_s = self._settings.retry_s * 2.0 ** min(kept.failures - 1, 4)
            if not kept.failures or self._clock() - kept.at_s < wait_s:
                return kept.outcome()
        if failures and self._clock() > self._look_until_s:
            raise TransientError("not reviewed in this look: other AccessPolicies took its time")
        result: Review | MedleyError
        try:
            result = self._asked_too(case, self._reviewer.review(case, None))
        except MedleyError as error:
            result = error
        failed = isinstance(result, MedleyError) or result.verdict is Verdict.UNKNOWN
        self._kept[uid] = _Kept(case, result, self._clock(), failures + 1 if failed else 0)
        return self._kept[uid].outcome()

    def _asked_too(self, case: Case, found: Review) -> Review:
        """The review with a language model's proposal, if it may be asked; else, or if that fails, as it is."""
        if found.verdict is not Verdict.VIOLATED or case.kind is PolicyKind.RBAC or not self._may_ask():
            return found
        try:
            return self._reviewer.review(case, self._settings.proposer)
        except MedleyError as error:
            return replace(found, proposals=(f"not asked to the end: {error}",))

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
            found = [service_condition(bodies)] if bodies else []
            made = conditions(found, before, manifest["metadata"].get("generation", 0), self._clock())
            # Of a list that is a map, an apply takes away what this manager had and does not name.
            if not made or made[0] not in (before.get("conditions") or []):
                _apply(self._api, manifest, f"{path}/status", {"conditions": made})
        except MedleyError as error:
            if isinstance(error, ApiError) and error.status == NOT_FOUND:
                return  # the AccessPolicy says that there is no such service
            self._say(str(service), f"LLMService {service}: its condition could not be written: {error}")

    def _say(self, what: str, text: str) -> None:
        if self._said.get(what) != text:
            self._said[what] = text
            _log.warning(text)


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
