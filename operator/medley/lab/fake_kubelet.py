"""A kubelet for all fake nodes at once: it takes bound pods from Pending to Ready and from Terminating to gone.

No container runs. A pod gets an address of its own on loopback, and a `PodBackend`, where there is one, does the pod's
work there. How long a pod takes to become Ready, and whether it ever does, are parameters: that is how the lab plays
slow model loads, crash loops and pods that hang. A kubelet that starts anew adopts the pods it finds, as a real one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from medley.actuation.cluster_api import CONFLICT, NOT_FOUND, ApiError, ClusterApi, Json, Mirror, PatchType
from medley.lab import nodes, pod_status
from medley.lab.agenda import Agenda
from medley.lab.loopback import AddressBlock
from medley.lab.pods import DrainingBackend, PodBackend, PodFate, PodInfo
from medley.model.errors import TransientError

_THREADS = 8
_RETRY_PAUSE_S = 0.5
_DRAIN_POLL_S = 0.05
_BACK_OFF_LIMIT_S = 300.0
_SYNC_TIMEOUT_S = 15.0
_log = logging.getLogger(__name__)


class _Stage(StrEnum):
    NEW = "New"
    RUNNING = "Running"
    STOPPING = "Stopping"


class BackendsAtStop(StrEnum):
    """What happens to the pods' backends when the kubelet stops."""

    STOP = "Stop"
    LEAVE = "Leave"
    """They go on, as containers do while a real kubelet restarts."""


@dataclass
class _Tracked:
    """One pod in the kubelet's care; the lock keeps its steps in order."""

    pod: Json
    info: PodInfo
    restarts: int = 0
    stage: _Stage = _Stage.NEW
    working: bool = False
    """Whether the backend was started and not stopped since."""
    lock: threading.RLock = field(default_factory=threading.RLock)


class FakeKubelet:
    """Plays the kubelets of all nodes that carry the lab's label; pods on other nodes are left alone."""

    def __init__(
        self,
        kubeconfig: Path,
        *,
        ready_delay_s: float | Callable[[PodInfo], float] = 0.0,
        backend: PodBackend | None = None,
        fate: Callable[[PodInfo], PodFate] = lambda _: PodFate.READY,
        crash_back_off_s: float = 10.0,
    ) -> None:
        """Prepares a kubelet; nothing happens before `start`.

        Args:
            kubeconfig: the cluster.
            ready_delay_s: time from a container's start to Ready (or to its crash), fixed or a pod's own.
            backend: does the pods' work; None: pods are only statuses.
            fate: asked at every start of a container, restarts included, so that a fault can heal.
            crash_back_off_s: pause before the first restart of a crashed container; doubles with each.
        """
        self._api = ClusterApi(kubeconfig)
        self._ready_delay_s = ready_delay_s
        self._backend = backend
        self._fate = fate
        self._crash_back_off_s = crash_back_off_s
        self._addresses = AddressBlock()
        self._agenda = Agenda("kubelet", _THREADS)
        self._tracked: dict[str, _Tracked] = {}  # by uid; written by the mirror's thread only
        self._fake_nodes: set[str] = set()
        self._stopping = threading.Event()
        self._mirror = Mirror(
            self._api, "/api/v1/pods", on_object=self._see, on_gone=self._lose, fieldSelector="spec.nodeName!="
        )

    def start(self) -> FakeKubelet:
        """Starts to watch pods, and adopts those that run already.

        Raises:
            TransientError: the pods could not be listed in time.
        """
        self._mirror.start()
        if not self._mirror.wait_synced(_SYNC_TIMEOUT_S):
            self.stop()
            raise TransientError(f"the fake kubelet could not list pods within {_SYNC_TIMEOUT_S:g} s")
        return self

    def stop(self, backends: BackendsAtStop = BackendsAtStop.STOP) -> None:
        """Ends the kubelet; the pods' objects stay as they are. Safe to call again."""
        self._stopping.set()
        self._mirror.stop()
        self._agenda.close()
        if backends is BackendsAtStop.STOP:
            stops = [threading.Thread(target=self._stop_backend, args=(pod, 0.0)) for pod in self._tracked.values()]
            for thread in stops:
                thread.start()
            for thread in stops:
                thread.join()
        self._addresses.close()
        self._api.close()

    def __enter__(self) -> FakeKubelet:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What the watch reports

    def _see(self, pod: Json) -> None:
        if not self._is_ours(pod):
            return
        metadata = pod["metadata"]
        tracked = self._tracked.get(metadata["uid"])
        if tracked is None:
            tracked = self._track(pod)
        tracked.pod = pod
        if "deletionTimestamp" in metadata:
            self._begin_stop(tracked, float(metadata.get("deletionGracePeriodSeconds") or 0))
        elif tracked.stage is _Stage.NEW:
            tracked.stage = _Stage.RUNNING
            self._agenda.add(lambda: self._adopt(tracked) if _runs_already(pod) else self._start_container(tracked))

    def _lose(self, pod: Json) -> None:
        tracked = self._tracked.pop(pod["metadata"]["uid"], None)
        if tracked is not None and tracked.stage is not _Stage.STOPPING:  # deleted by force, or with its node
            self._begin_stop(tracked, 0.0)

    def _is_ours(self, pod: Json) -> bool:
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return False
        node = pod["spec"]["nodeName"]
        if node not in self._fake_nodes and nodes.is_fake(self._api, node):
            self._fake_nodes.add(node)
        return node in self._fake_nodes

    def _track(self, pod: Json) -> _Tracked:
        recorded = pod.get("status", {}).get("podIP")
        if recorded:
            self._addresses.adopt(recorded)
            info = PodInfo.of(pod, recorded)
        else:
            port = PodInfo.of(pod, "").container_port
            info = PodInfo.of(pod, self._addresses.allocate(port))
        tracked = self._tracked[info.uid] = _Tracked(pod, info, restarts=pod_status.restart_count(pod))
        return tracked

    # From bound to Ready

    def _start_container(self, tracked: _Tracked) -> None:
        with tracked.lock:
            if tracked.stage is not _Stage.RUNNING:
                return
            fate = self._fate(tracked.info)
            delay_s = self._delay_s(tracked.info)
            if fate is not PodFate.CRASH and not self._start_backend(tracked):
                fate, delay_s = PodFate.CRASH, 0.0
            if fate is PodFate.READY and delay_s <= 0:
                self._make_ready(tracked)
                return
            self._write(tracked, pod_status.running(tracked.pod, tracked.info.ip, restarts=tracked.restarts))
            self._plan(tracked, fate, delay_s)

    def _adopt(self, tracked: _Tracked) -> None:
        """Takes over a pod that an earlier kubelet started, without a change to a Ready pod's status."""
        with tracked.lock:
            if tracked.stage is not _Stage.RUNNING:
                return
            if pod_status.is_waiting(tracked.pod):
                self._agenda.add(lambda: self._start_container(tracked), delay_s=self._back_off_s(tracked))
                return
            fate = self._fate(tracked.info)
            if fate is not PodFate.CRASH and not self._start_backend(tracked):
                self._crash(tracked)
            elif not pod_status.is_ready(tracked.pod):
                self._plan(tracked, fate, self._delay_s(tracked.info))

    def _plan(self, tracked: _Tracked, fate: PodFate, delay_s: float) -> None:
        if fate is PodFate.READY:
            self._agenda.add(lambda: self._make_ready(tracked), delay_s=delay_s)
        elif fate is PodFate.CRASH:
            self._agenda.add(lambda: self._crash(tracked), delay_s=delay_s)

    def _make_ready(self, tracked: _Tracked) -> None:
        with tracked.lock:
            if tracked.stage is _Stage.RUNNING:
                status = pod_status.ready(tracked.pod, tracked.info.ip, restarts=tracked.restarts)
                self._write(tracked, status)

    def _crash(self, tracked: _Tracked) -> None:
        with tracked.lock:
            if tracked.stage is not _Stage.RUNNING:
                return
            self._stop_backend(tracked, 0.0)
            back_off_s = self._back_off_s(tracked)
            tracked.restarts += 1
            message = f"the lab lets this container crash; next start in {back_off_s:g} s"
            self._write(
                tracked,
                pod_status.crashed(tracked.pod, tracked.info.ip, restarts=tracked.restarts, message=message),
            )
            self._agenda.add(lambda: self._start_container(tracked), delay_s=back_off_s)

    def _back_off_s(self, tracked: _Tracked) -> float:
        return float(min(self._crash_back_off_s * 2.0 ** min(tracked.restarts, 16), _BACK_OFF_LIMIT_S))

    def _delay_s(self, info: PodInfo) -> float:
        return self._ready_delay_s(info) if callable(self._ready_delay_s) else self._ready_delay_s

    # From Terminating to gone

    def _begin_stop(self, tracked: _Tracked, grace_s: float) -> None:
        if tracked.stage is _Stage.STOPPING:
            return
        tracked.stage = _Stage.STOPPING
        # A thread of its own: a pod may drain for minutes, and must not hold up the others.
        threading.Thread(target=self._finish_stop, args=(tracked, grace_s), name="stop pod", daemon=True).start()

    def _finish_stop(self, tracked: _Tracked, grace_s: float) -> None:
        self._stop_backend(tracked, grace_s)
        self._addresses.release(tracked.info.ip)
        self._persist(lambda: self._api.delete(tracked.info.path, grace_period_s=0, uid=tracked.info.uid))

    # The backend

    def _start_backend(self, tracked: _Tracked) -> bool:
        if self._backend is None:
            return True
        try:
            self._backend.start(tracked.info)
        except Exception:  # whatever a backend raises is its container's crash
            _log.exception("the backend of pod %s/%s did not start", tracked.info.namespace, tracked.info.name)
            return False
        tracked.working = True
        return True

    def _stop_backend(self, tracked: _Tracked, grace_s: float) -> None:
        with tracked.lock:  # waits for a start that is under way
            if self._backend is None or not tracked.working:
                return
            tracked.working = False
        deadline = time.monotonic() + grace_s
        stopper = threading.Thread(target=self._ask_to_stop, args=(tracked.info,), name="stop backend", daemon=True)
        stopper.start()
        # Without a grace period a backend still gets a moment to close its sockets.
        stopper.join(max(grace_s, 1.0))
        if isinstance(self._backend, DrainingBackend):
            while time.monotonic() < deadline and not self._stopping.is_set() and self._backend.draining(tracked.info):
                time.sleep(_DRAIN_POLL_S)
            self._backend.kill(tracked.info)

    def _ask_to_stop(self, info: PodInfo) -> None:
        assert self._backend is not None
        try:
            self._backend.stop(info)
        except Exception:
            _log.exception("the backend of pod %s/%s did not stop cleanly", info.namespace, info.name)

    # The API server

    def _write(self, tracked: _Tracked, patch: Json) -> None:
        self._persist(lambda: self._api.patch(f"{tracked.info.path}/status", patch, PatchType.STRATEGIC))

    def _persist(self, request: Callable[[], object]) -> None:
        """Repeats a request until the server took it; a pod that is gone, or another one now, ends it too."""
        while not self._stopping.is_set():
            try:
                request()
            except TransientError as error:
                _log.warning("fake kubelet: %s; trying again", error)
                self._stopping.wait(_RETRY_PAUSE_S)
            except ApiError as error:
                if error.status not in (NOT_FOUND, CONFLICT):
                    _log.error("fake kubelet: %s", error)
                return
            else:
                return


def _runs_already(pod: Json) -> bool:
    status = pod.get("status", {})
    return status.get("phase") == "Running" and bool(status.get("podIP"))
