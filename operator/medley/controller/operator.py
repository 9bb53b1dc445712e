"""kopf wiring: low-level event handlers wake the loop, nothing else.

Diff-based handlers would react to edges and keep state in annotations; planning is level-triggered and global.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import kopf

from medley.actuation.cluster_api import ClusterApi
from medley.api.crds import GROUP, KINDS, VERSION
from medley.controller.loop import Loop, LoopSettings
from medley.cycle.snapshot import Settings
from medley.ports import MetricsSource

_log = logging.getLogger(__name__)


def run(kubeconfig: Path, metrics: MetricsSource | None, settings: Settings, loop_settings: LoopSettings) -> None:
    """Run the operator until SIGINT or SIGTERM. KUBECONFIG must name the same file: kopf logs in by it."""
    asyncio.run(_run(kubeconfig, metrics, settings, loop_settings))


async def _run(
    kubeconfig: Path, metrics: MetricsSource | None, settings: Settings, loop_settings: LoopSettings
) -> None:
    api = ClusterApi(kubeconfig)
    loop = Loop(api, metrics, settings, loop_settings)
    stop = asyncio.Event()
    registry = kopf.OperatorRegistry()
    _configure(registry)
    for kind in KINDS:
        _watch(registry, kind.plural, loop)

    async def planning(**_: Any) -> None:
        tasks.append(asyncio.create_task(loop.run(stop)))
        _log.info("planning every %.0f s", loop_settings.interval_s)

    async def ending(**_: Any) -> None:
        stop.set()
        for task in tasks:
            await asyncio.wait_for(task, timeout=30)

    tasks: list[asyncio.Task[None]] = []
    kopf.on.startup(registry=registry, id="planning")(planning)
    kopf.on.cleanup(registry=registry, id="ending")(ending)
    try:
        await kopf.operator(registry=registry, clusterwide=True, standalone=True)
    finally:
        stop.set()
        api.close()


def _configure(registry: kopf.OperatorRegistry) -> None:
    # A registry of our own comes without kopf's default login.
    @kopf.on.login(registry=registry, id="login")
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

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
