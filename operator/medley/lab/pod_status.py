"""Pod statuses as a kubelet writes them, for the few states the lab's pods can be in."""

from __future__ import annotations

from datetime import UTC, datetime

from medley.actuation.cluster_api import Json


def running(pod: Json, ip: str, *, restarts: int) -> Json:
    """The container runs and is not ready yet."""
    state = {"running": {"startedAt": _now()}}
    return _status(pod, ip, ready="False", reason="ContainersNotReady", state=state, started=True, restarts=restarts)


def ready(pod: Json, ip: str, *, restarts: int) -> Json:
    """The container runs, since when it did before, and its probe passes."""
    running_since = [state["running"]["startedAt"] for state in _states(pod) if "running" in state]
    state = {"running": {"startedAt": running_since[0] if running_since else _now()}}
    return _status(pod, ip, ready="True", reason="", state=state, started=True, restarts=restarts)


def crashed(pod: Json, ip: str, *, restarts: int, message: str) -> Json:
    """The container exited with an error and waits for its restart."""
    now = _now()
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": message, "startedAt": now, "finishedAt": now}}
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
    return _status(
        pod,
        ip,
        ready="False",
        reason="ContainersNotReady",
        state=state,
        started=False,
        restarts=restarts,
        last_state=ended,
    )


def is_ready(pod: Json) -> bool:
    """Whether the pod's Ready condition is true."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def is_waiting(pod: Json) -> bool:
    """Whether a container waits for a restart."""
    return any("waiting" in state for state in _states(pod))


def restart_count(pod: Json) -> int:
    """How often the containers were restarted so far."""
    return max((int(status.get("restartCount", 0)) for status in _container_statuses(pod)), default=0)


def _states(pod: Json) -> list[Json]:
    return [status.get("state") or {} for status in _container_statuses(pod)]


def _container_statuses(pod: Json) -> list[Json]:
    return pod.get("status", {}).get("containerStatuses") or []


def _status(
    pod: Json,
    ip: str,
    *,
    ready: str,
    reason: str,
    state: Json,
    started: bool,
    restarts: int,
    last_state: Json | None = None,
) -> Json:
    now = _now()
    true_since_start = ("Initialized", "PodReadyToStartContainers", "PodScheduled")
    conditions: list[Json] = [
        {"type": kind, "status": "True", "lastTransitionTime": now} for kind in true_since_start
    ] + [
        # An empty reason takes away that of the time before.
        {"type": kind, "status": ready, "lastTransitionTime": now, "reason": reason or None}
        for kind in ("ContainersReady", "Ready")
    ]
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": f"lab/{container['image']}",
            "containerID": f"lab://{pod['metadata']['uid']}-{container['name']}-{restarts}",
            "ready": ready == "True",
            "started": started,
            "restartCount": restarts,
            "state": state,
            "lastState": last_state or {},
        }
        for container in pod["spec"]["containers"]
    ]
    return {
        # The uid guards against writing to a younger pod of the same name.
        "metadata": {"uid": pod["metadata"]["uid"]},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "startTime": pod.get("status", {}).get("startTime") or now,
            "conditions": conditions,
            "containerStatuses": containers,
        },
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
