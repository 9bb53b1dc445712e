"""One operator leads: it holds a Lease, renews it, and ends when it loses it.

The protocol is client-go's leader election (k8s.io/client-go/tools/leaderelection): a candidate takes the lease over
when it has seen no change of it for its whole duration on its own clock; no two wall clocks are compared.
`kubernetes.leaderelection` does the same, but gives no time until which a leader may still write; that is what keeps a
process that was stopped for a while from writing beside its successor.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from medley.actuation.cluster_api import CONFLICT, NOT_FOUND, ApiError, ClusterApi, Json, PatchType
from medley.model.errors import MedleyError

_log = logging.getLogger(__name__)

WRITES_UNTIL = 0.7
"""Part of the duration, from the last renewal on, in which a leader still writes: the rest is for what is under way."""

LOST_LEASE = 3
"""Exit code of a process that led and does so no longer."""

RELEASED_S = 1
"""Duration of a lease that was given back, as client-go writes it: nobody writes any more."""


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Of the lease.

    Attributes:
        namespace: where it is.
        name: of the object.
        identity: of this process; no two may have the same.
        duration_s: without renewal another takes over after this time.
        every_s: between renewals, and between a candidate's looks.
    """

    namespace: str
    name: str
    identity: str
    duration_s: float = 10.0
    every_s: float = 2.0

    @property
    def call_timeout_s(self) -> float:
        """For a call: what is under way when the time to write is over must end before another may lead."""
        return (1.0 - WRITES_UNTIL) / 2 * self.duration_s


class Lease:
    """A claim on a Lease object. One thread steps; `held` may be asked by any.

    Args:
        api: not fenced by this lease.
        settings: of the lease.
        clock: monotonic seconds.
        now: unix seconds, for what people read in the object.
    """

    def __init__(
        self,
        api: ClusterApi,
        settings: LeaseSettings,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._settings = settings
        self._clock = clock
        self._now = now
        self._seen: tuple[str, float] = ("", clock())
        self._other_s = -math.inf
        """When another was last seen to hold it."""
        self._until = 0.0
        self.holder = ""
        """Who held it when it was last looked at."""

    @property
    def held(self) -> bool:
        """Whether this process leads, and may still write."""
        return self._clock() < self._until

    def step(self) -> bool:
        """Take or renew the lease if possible; whether this process leads now.

        Raises:
            MedleyError: the API server did not answer, or refused.
        """
        began_s = self._clock()
        try:
            lease = self._api.get(self._path)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            lease = None
        if lease is None:
            took = self._vacant(began_s) and self._created()
        else:
            spec = lease.get("spec") or {}
            self.holder = spec.get("holderIdentity") or ""
            version = lease["metadata"]["resourceVersion"]
            if version != self._seen[0]:
                self._seen = (version, began_s)
            mine = self.holder == self._settings.identity
            if self.holder and not mine:
                self._other_s = began_s
            if not mine:
                self._until = 0.0  # whoever is named there may write: we must not, whatever our clock says
            idle_s = began_s - self._seen[1]
            expired = idle_s >= float(spec.get("leaseDurationSeconds") or self._settings.duration_s)
            released = not self.holder and spec.get("leaseDurationSeconds") == RELEASED_S
            vacant = not self.holder and self._vacant(began_s)
            took = (mine or released or vacant or expired) and self._replaced(lease, mine)
        if took:
            self.holder = self._settings.identity
            self._until = began_s + WRITES_UNTIL * self._settings.duration_s
        return took

    def release(self) -> None:
        """Let another take over at once. Errors are left to the duration."""
        if not self.held:
            return
        self._until = 0.0
        try:
            lease = self._api.get(self._path)
            if (lease.get("spec") or {}).get("holderIdentity") == self._settings.identity:
                self._write(
                    lease, {"holderIdentity": "", "leaseDurationSeconds": RELEASED_S, "renewTime": self._stamp()}
                )
        except MedleyError as error:
            _log.info("the lease was not given back: %s", error)

    def _vacant(self, now_s: float) -> bool:
        """Whether nobody was seen to hold it lately: of one that is deleted or emptied, a leader may still write."""
        return self._until > now_s or now_s - self._other_s >= self._settings.duration_s

    @property
    def _path(self) -> str:
        return f"{self._collection}/{self._settings.name}"

    @property
    def _collection(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._settings.namespace}/leases"

    def _created(self) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._settings.name, "namespace": self._settings.namespace},
            "spec": {**self._renewal(), "acquireTime": self._stamp(), "leaseTransitions": 0},
        }
        try:
            self._api.create(self._collection, body)
        except ApiError as error:
            if error.status == CONFLICT:
                return False
            raise
        return True

    def _replaced(self, lease: Json, mine: bool) -> bool:
        spec = lease.get("spec") or {}
        body = self._renewal()
        if not mine:
            body |= {"acquireTime": self._stamp(), "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        return self._write(lease, body)

    def _renewal(self) -> Json:
        return {
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": round(self._settings.duration_s),
            "renewTime": self._stamp(),
        }

    def _write(self, lease: Json, spec: Json) -> bool:
        """Whether the object was still the one that was read."""
        version = lease["metadata"]["resourceVersion"]
        try:
            self._api.patch(self._path, {"metadata": {"resourceVersion": version}, "spec": spec}, PatchType.MERGE)
        except ApiError as error:
            if error.status == CONFLICT:
                return False
            raise
        return True

    def _stamp(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def campaign(
    lease: Lease, every_s: float, stop: threading.Event, on_led: Callable[[], None], on_lost: Callable[[], None]
) -> None:
    """Try for the lease, hold it, and tell: once when this process leads, and once when it no longer does.

    Returns when `stop` is set (the lease is then given back), or when it is lost.
    """
    led = False
    said = ""
    while not stop.is_set():
        try:
            lease.step()
            complaint = ""
        except Exception as error:  # this thread must not die: then nobody would notice that the lease is lost
            complaint = f"the lease cannot be read or written: {error!r}"
        if complaint and complaint != said:
            _log.warning(complaint)
        said = complaint
        if lease.held and not led:
            led = True
            on_led()
        elif led and not lease.held:
            on_lost()
            return
        stop.wait(every_s)
    lease.release()


def end_without_lease() -> None:
    """End the process at once: another may lead by now, and nothing of ours may run beside it."""
    _log.error("the lease is lost: this process ends")
    logging.shutdown()
    os._exit(LOST_LEASE)
