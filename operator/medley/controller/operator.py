"""kopf wiring: low-level event handlers wake the loop, nothing else.

Diff-based handlers would react to edges and keep state in annotations; planning is level-triggered and global.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf

from medley.actuation.cluster_api import ClusterApi
from medley.api.crds import GROUP, PLANNING_KINDS, VERSION
from medley.controller.health import Health, serve
from medley.controller.lease import Lease, LeaseSettings, campaign, end_without_lease
from medley.controller.loop import Loop, LoopSettings
from medley.controller.preflight import needed, preflight
from medley.cycle.snapshot import Settings
from medley.ports import MetricsSource
from medley.telemetry.exporter import CONTENT_TYPE, Exporter

_log = logging.getLogger(__name__)

CHECK_AGAIN_S = 15.0


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Of the process.

    Attributes:
        kubeconfig: of the API server, also in KUBECONFIG, by which kopf logs in; None: as the pod's own account.
        lease: which one to hold while planning; None: there is only this operator.
        health_port: where probes are answered; None: nowhere.
        health_host: the address for it; empty: all.
    """

    kubeconfig: Path | None
    lease: LeaseSettings | None = None
    health_port: int | None = None
    health_host: str = ""


def run(
    metrics: MetricsSource | None, settings: Settings, loop_settings: LoopSettings, operator: OperatorSettings
) -> None:
    """Run the operator until SIGINT or SIGTERM. One that loses its lease ends the process at once."""
    asyncio.run(_run(metrics, settings, loop_settings, operator))


async def _run(
    metrics: MetricsSource | None, settings: Settings, loop_settings: LoopSettings, operator: OperatorSettings
) -> None:
    health = Health(loop_settings.interval_s)
    if metrics is None:
        _log.warning("no --prometheus: demand that is not static stays unknown, and what runs is held")
    exporter = Exporter()
    port, served = operator.health_port, (CONTENT_TYPE, exporter.text)
    server = serve(health, port, operator.health_host, served) if port is not None else None
    plain = ClusterApi(operator.kubeconfig)  # for what is looked at at start
    timeout_s = operator.lease.call_timeout_s if operator.lease else 10.0
    holding = ClusterApi(operator.kubeconfig, timeout_s=timeout_s)
    lease = Lease(holding, operator.lease) if operator.lease else None
    api = ClusterApi(operator.kubeconfig, lambda: lease is None or lease.held, write_timeout_s=timeout_s)
    loop = Loop(api, metrics, settings, loop_settings, health=health, exporter=exporter)
    stop = asyncio.Event()
    registry = kopf.OperatorRegistry()
    _configure(registry, operator.kubeconfig)
    for kind in PLANNING_KINDS:
        _watch(registry, kind.plural, loop)
    tasks: list[asyncio.Task[None]] = []

    def leading() -> None:
        health.leads()
        exporter.leads()

    async def planning(**_: Any) -> None:
        tasks.append(asyncio.create_task(_check(plain, metrics, operator, loop_settings.namespaces, health, stop)))
        tasks.append(asyncio.create_task(_plan(loop, lease, operator, leading, stop)))
        _log.info("planning every %.0f s", loop_settings.interval_s)

    async def ending(**_: Any) -> None:
        stop.set()
        # Not longer than a pod is given to end; and an exception here kopf would try again, after 60 s.
        if tasks and (await asyncio.wait(tasks, timeout=30))[1]:
            _log.warning("a cycle did not end in time: it is cut off")

    kopf.on.startup(registry=registry, id="planning")(planning)
    kopf.on.cleanup(registry=registry, id="ending")(ending)
    try:
        await kopf.operator(
            registry=registry,
            clusterwide=not loop_settings.namespaces,
            namespaces=loop_settings.namespaces,
            standalone=True,
        )
    finally:
        stop.set()
        if server is not None:
            server.shutdown()
        for client in (api, holding, plain):
            client.close()


async def _check(
    api: ClusterApi,
    metrics: MetricsSource | None,
    operator: OperatorSettings,
    namespaces: tuple[str, ...],
    health: Health,
    stop: asyncio.Event,
) -> None:
    """Look for what is missing until nothing is. The loop goes on meanwhile: it can often do a part."""

    def look() -> tuple[str, ...]:
        found = preflight(api, metrics, needed(api, operator.lease), namespaces)
        return tuple(str(item) for item in found)

    said: tuple[str, ...] = ()
    while not stop.is_set():
        try:
            missing = await asyncio.to_thread(look)
        except Exception as error:
            _log.exception("the checks failed")
            missing = (f"the checks failed: {error!r}",)
        health.checked(missing)
        if missing != said:
            for text in missing:
                _log.error("missing: %s", text)
            if not missing:
                _log.info("nothing is missing any more")
        if not missing:
            return
        said = missing
        await _pause(stop, CHECK_AGAIN_S)


async def _plan(
    loop: Loop, lease: Lease | None, operator: OperatorSettings, leading: Callable[[], None], stop: asyncio.Event
) -> None:
    """Plan from the moment on in which this process leads."""
    if lease is None or operator.lease is None:
        leading()
        await loop.run(stop)
        return
    led = asyncio.Event()
    running = asyncio.get_running_loop()
    ended = threading.Event()
    thread = threading.Thread(
        target=campaign,
        args=(lease, operator.lease.every_s, ended, lambda: running.call_soon_threadsafe(led.set), end_without_lease),
        name="lease",
        daemon=True,
    )
    thread.start()
    _log.info("%s asks for the lease %s/%s", operator.lease.identity, operator.lease.namespace, operator.lease.name)
    waits = [asyncio.create_task(event.wait()) for event in (led, stop)]
    await asyncio.wait(waits, return_when="FIRST_COMPLETED")
    for wait in waits:
        wait.cancel()
    try:
        if not stop.is_set():
            _log.info("%s leads", operator.lease.identity)
            leading()
            await loop.run(stop)
    finally:
        ended.set()
    await asyncio.to_thread(thread.join, 15.0)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), timeout=seconds)
    except TimeoutError:
        return


def _configure(registry: kopf.OperatorRegistry, kubeconfig: Path | None) -> None:
    # A registry of our own comes without kopf's default login.
    @kopf.on.login(registry=registry, id="login")
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # The same cluster as ours, also where a kubeconfig is named in a pod.
        return kopf.login_with_kubeconfig(**kwargs) if kubeconfig else kopf.login_with_service_account(**kwargs)

    @kopf.on.startup(registry=registry, id="settings")
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        # No list/watch of CRDs and namespaces: rights we do not need.
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.persistence.finalizer = f"{GROUP}/kopf"
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)


def _watch(registry: kopf.OperatorRegistry, plural: str, loop: Loop) -> None:
    seen: dict[str, tuple[Any, Any]] = {}

    @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=f"wake-{plural}")
    async def wake(event: kopf.RawEvent, **_: Any) -> None:
        body = event["object"]
        metadata = body.get("metadata", {})
        uid = str(metadata.get("uid"))
        # Our own status writes come back as events; only a changed spec or annotation is news.
        version = (metadata.get("generation"), metadata.get("annotations"))
        if event["type"] == "DELETED":
            seen.pop(uid, None)
        elif seen.get(uid) == version:
            return
        else:
            seen[uid] = version
        loop.changed()
