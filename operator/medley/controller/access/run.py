"""The process of `medley access`: the loop over AccessPolicies, with a lease and probes."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medley.actuation.access_rights import GRANTABLE_RIGHTS, LOOKER_RIGHTS, WRITER_RIGHTS
from medley.actuation.cluster_api import ClusterApi
from medley.actuation.iam import iam_client
from medley.actuation.rights import lease_rights
from medley.controller.access.generated import GeneratedSources
from medley.controller.access.loop import AccessLoop, AccessSettings
from medley.controller.access.reviewer import ProcessReviewer
from medley.controller.access.sources import Sources
from medley.controller.health import Health, serve
from medley.controller.lease import Lease, LeaseSettings, campaign, end_without_lease
from medley.controller.preflight import preflight_access
from medley.policy.generate import ClusterEnvironment
from medley.telemetry.access_exporter import CONTENT_TYPE, AccessExporter

_log = logging.getLogger(__name__)
CHECK_AGAIN_S = 15.0


@dataclass(frozen=True, slots=True)
class AccessProcess:
    """Of the process.

    Attributes:
        kubeconfig: of the API server; None: as the pod's own account.
        lease: which one to hold while looking; None: there is only this process.
        health_port: where probes are answered; None: nowhere.
        health_host: the address for it; empty: all.
        review_s: limit of one review.
    """

    kubeconfig: Path | None
    lease: LeaseSettings | None = None
    health_port: int | None = None
    health_host: str = ""
    review_s: float = 60.0


def run(process: AccessProcess, settings: AccessSettings, environment: ClusterEnvironment | None) -> None:
    """Look after AccessPolicies until SIGINT or SIGTERM. One that loses its lease ends at once.

    Args:
        process: of it.
        settings: of the loop.
        environment: the cluster's place in its cloud, where policies for that are to be generated.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    timeout_s = process.lease.call_timeout_s if process.lease else 10.0
    holding = ClusterApi(process.kubeconfig, timeout_s=timeout_s)
    lease = Lease(holding, process.lease) if process.lease else None

    def may_write() -> bool:
        return lease is None or lease.held

    api = ClusterApi(process.kubeconfig, may_write, write_timeout_s=timeout_s)
    health, exporter = Health(settings.interval_s), AccessExporter()
    server = None
    if process.health_port is not None:
        server = serve(health, process.health_port, process.health_host, (CONTENT_TYPE, exporter.text))
    reviewer = ProcessReviewer(process.review_s)
    cluster = environment.cluster if environment is not None else ""
    sources = Sources(api, iam_client, GeneratedSources(api, environment), cluster, may_write)
    loop = AccessLoop(api, sources, reviewer, settings, observed=exporter, beat=health.began)
    led = threading.Event()
    threading.Thread(target=_check, args=(holding, process, settings, health, stop), name="checks", daemon=True).start()
    try:
        if lease is not None and process.lease is not None:
            arguments: tuple[Any, ...] = (lease, process.lease.every_s, stop, led.set, end_without_lease)
            threading.Thread(target=campaign, args=arguments, name="lease", daemon=True).start()
            _log.info(
                "%s asks for the lease %s/%s", process.lease.identity, process.lease.namespace, process.lease.name
            )
            while not led.wait(0.5) and not stop.is_set():
                pass
        if not stop.is_set():
            health.leads()
            how = "Enforce is acted on" if settings.writes else "nothing is written but what is found"
            _log.info("looking after AccessPolicies every %g s; %s", settings.interval_s, how)
            _loop(loop, health, settings.interval_s, stop)
    finally:
        stop.set()
        reviewer.close()
        if lease is not None:
            lease.release()
        if server is not None:
            server.shutdown()
        api.close()
        holding.close()


def _check(
    api: ClusterApi, process: AccessProcess, settings: AccessSettings, health: Health, stop: threading.Event
) -> None:
    """Look for what is missing until nothing is; the loop goes on meanwhile, and can often do a part."""
    rights = (*LOOKER_RIGHTS, *((*WRITER_RIGHTS, *GRANTABLE_RIGHTS) if settings.writes else ()))
    if process.lease is not None:
        rights += lease_rights(process.lease.namespace, process.lease.name)
    said: tuple[str, ...] | None = None
    while not stop.is_set():
        missing = tuple(str(item) for item in preflight_access(api, rights, settings.namespaces))
        health.checked(missing)
        if missing != said:
            for text in missing:
                _log.error("missing: %s", text)
        said = missing
        if not missing:
            return
        stop.wait(CHECK_AGAIN_S)


def _loop(loop: AccessLoop, health: Health, interval_s: float, stop: threading.Event) -> None:
    while not stop.is_set():
        health.began()
        health.ended(loop.look())
        stop.wait(interval_s)
