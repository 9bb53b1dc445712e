"""A router in front of a service's pods: takes the published shares, acknowledges them, knows which pods are Ready."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

from medley.actuation.cluster_api import ClusterApi, Json, Mirror
from medley.actuation.deployments import SERVICE_LABEL, VARIANT_LABEL
from medley.actuation.routing import KEY, acknowledge, config_map_name
from medley.actuation.status import timestamp
from medley.lab.router import Router, RoutingTable
from medley.model.errors import MedleyError
from medley.model.objects import RoutingMode, ServiceKey

_ACKNOWLEDGE_EVERY_S = 10.0
_log = logging.getLogger(__name__)


class Gateway:
    """Watches one service and keeps a `Router` in line with it.

    Args:
        kubeconfig: the cluster; None: the one that this process is a pod of.
        service: whose traffic it routes.
        clock: unix time, for the acknowledgement.
        rng: source of the router's draws.
    """

    def __init__(
        self, kubeconfig: Path | None, service: ServiceKey, *, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self._api = ClusterApi(kubeconfig)
        self._service = service
        self._clock = clock
        self._ready: dict[str, tuple[str, str]] = {}
        nobody = RoutingTable(str(service), 0, RoutingMode.SERVICE, (), ())
        self.router = Router(nobody, {}, rng)
        self.first_ready = threading.Event()
        self._stopping = threading.Event()
        self._changed = threading.Event()
        selector = f"{SERVICE_LABEL}={service.name}"
        root = f"/api/v1/namespaces/{service.namespace}"
        self._mirrors = [
            Mirror(self._api, f"{root}/pods", on_object=self._pod, on_gone=self._gone, labelSelector=selector),
            Mirror(
                self._api,
                f"{root}/configmaps",
                on_object=self._table,
                on_gone=lambda _: None,
                fieldSelector=f"metadata.name={config_map_name(service.name)}",
            ),
        ]
        self._thread = threading.Thread(target=self._acknowledging, name="gateway", daemon=True)

    def start(self) -> Gateway:
        """Start to watch and to acknowledge."""
        for mirror in self._mirrors:
            mirror.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        """End; the acknowledgement grows old by itself."""
        self._stopping.set()
        self._changed.set()
        for mirror in self._mirrors:
            mirror.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._api.close()

    def _pod(self, pod: Json) -> None:
        metadata = pod["metadata"]
        status = pod.get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
        if not ready or metadata.get("deletionTimestamp") or not status.get("podIP"):
            self._gone(pod)
            return
        ports = pod["spec"]["containers"][0].get("ports") or [{"containerPort": 8000}]
        url = f"http://{status['podIP']}:{ports[0]['containerPort']}"
        self._ready[metadata["uid"]] = (metadata["labels"].get(VARIANT_LABEL, ""), url)
        self._publish()
        self.first_ready.set()

    def _gone(self, pod: Json) -> None:
        if self._ready.pop(pod["metadata"]["uid"], None) is not None:
            self._publish()

    def _publish(self) -> None:
        endpoints: dict[str, list[str]] = {}
        for variant, url in self._ready.values():
            endpoints.setdefault(variant, []).append(url)
        self.router.set_endpoints(endpoints)

    def _table(self, config_map: Json) -> None:
        text = (config_map.get("data") or {}).get(KEY)
        if not text:
            return
        try:
            table = RoutingTable.parse(text)
        except MedleyError as error:
            _log.warning("the routing table is not usable, the one before stays: %s", error)
            return
        if table != self.router.table:
            self.router.set_table(table)
            self._changed.set()

    def _acknowledging(self) -> None:
        while not self._stopping.is_set():
            table = self.router.table
            if table.generation:
                try:
                    acknowledge(
                        self._api,
                        self._service.namespace,
                        self._service.name,
                        table.generation,
                        table.mode.value,
                        timestamp(self._clock()),
                    )
                except MedleyError as error:
                    _log.warning("the routing table could not be acknowledged: %s", error)
            self._changed.wait(_ACKNOWLEDGE_EVERY_S)
            self._changed.clear()
