"""A real Prometheus that finds the lab's pods the way it would in a cluster."""

from __future__ import annotations

import atexit
import contextlib
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import yaml

from medley.actuation.cluster_api import Json
from medley.lab import tools
from medley.lab.processes import DirectoryGuard, SupervisedProcess, free_port
from medley.lab.tools import Progress, Tool

_READY_TIMEOUT_S = 30.0


class PrometheusServer:
    """A Prometheus process that scrapes every running pod annotated with prometheus.io/scrape: "true".

    Each series carries namespace, pod, node, and, where the pod has the labels medley.dev/service and
    medley.dev/variant, medley_service and medley_variant. Pods that are not Ready are scraped too.
    """

    def __init__(self, process: SupervisedProcess, url: str, directory: Path, guard: DirectoryGuard | None) -> None:
        self.url = url
        self.directory = directory
        self._process = process
        self._guard = guard
        atexit.register(self.stop)

    @classmethod
    def start(
        cls,
        kubeconfig: Path,
        directory: Path | None = None,
        *,
        scrape_interval_s: float = 1.0,
        namespaces: Sequence[str] = (),
        progress: Progress = lambda _: None,
    ) -> PrometheusServer:
        """Starts Prometheus and waits until it answers queries.

        Args:
            kubeconfig: the cluster whose pods are scraped.
            directory: for its data, configuration and log, kept after `stop`. Default: a temporary one that goes.
            scrape_interval_s: time between two scrapes of a pod.
            namespaces: where to look for pods; empty: everywhere.
            progress: told what is going on while the binary is built.

        Raises:
            UserError: the binary cannot be had.
            TransientError: it did not start in time or died; the message has the end of its log.
        """
        binary = tools.ensure([Tool.PROMETHEUS], progress)[Tool.PROMETHEUS]
        guard = None
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="medley-prometheus-"))
            guard = DirectoryGuard(directory)
        directory.mkdir(parents=True, exist_ok=True)
        configuration = directory / "prometheus.yaml"
        configuration.write_text(yaml.safe_dump(scrape_configuration(kubeconfig, scrape_interval_s, namespaces)))
        url = f"http://127.0.0.1:{free_port()}"
        process = SupervisedProcess.start(
            "prometheus",
            [
                binary,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={url.removeprefix('http://')}",
                "--scrape.discovery-reload-interval=1s",  # 5 s by default: too slow for pods that live for seconds
            ],
            log=directory / "prometheus.log",
        )
        server = cls(process, url, directory, guard)
        try:
            process.wait_until(lambda: _ready(url), timeout_s=_READY_TIMEOUT_S, what="waiting for /-/ready")
        except BaseException:
            server.stop()
            raise
        return server

    def pause(self) -> None:
        """Freezes the process: connections open and nothing answers, as on a machine that hangs."""
        self._process.freeze()

    def resume(self) -> None:
        """Lets a frozen process go on."""
        self._process.thaw()

    def stop(self) -> None:
        """Stops the process. Safe to call again."""
        self.resume()  # a frozen process would not see the signal to end
        self._process.stop()
        if self._guard is not None:
            self._guard.remove()
        atexit.unregister(self.stop)

    def __enter__(self) -> PrometheusServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def scrape_configuration(kubeconfig: Path | None, scrape_interval_s: float, namespaces: Sequence[str] = ()) -> Json:
    """Prometheus' configuration: pod discovery and the labels that Medley's queries rely on.

    Args:
        kubeconfig: the cluster; None: the one that Prometheus is a pod of.
        scrape_interval_s: time between two scrapes of a pod.
        namespaces: where to look for pods; empty: everywhere.
    """
    interval = f"{round(scrape_interval_s * 1000)}ms"
    discovery: Json = {"role": "pod"}
    if kubeconfig is not None:
        discovery["kubeconfig_file"] = str(kubeconfig)
    if namespaces:
        discovery["namespaces"] = {"names": list(namespaces)}
    pod = "__meta_kubernetes_pod"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [
            {
                "job_name": "pods",
                "kubernetes_sd_configs": [discovery],
                "relabel_configs": [
                    {"source_labels": [f"{pod}_annotation_prometheus_io_scrape"], "regex": "true", "action": "keep"},
                    {"source_labels": [f"{pod}_phase"], "regex": "Running", "action": "keep"},
                    {
                        "source_labels": [f"{pod}_ip", f"{pod}_annotation_prometheus_io_port"],
                        "separator": ":",
                        "regex": r"(.+):(\d+)",
                        "target_label": "__address__",
                        "replacement": "$1:$2",
                    },
                    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                    {"source_labels": [f"{pod}_name"], "target_label": "pod"},
                    {"source_labels": [f"{pod}_node_name"], "target_label": "node"},
                    {"source_labels": [f"{pod}_label_medley_dev_service"], "target_label": "medley_service"},
                    {"source_labels": [f"{pod}_label_medley_dev_variant"], "target_label": "medley_variant"},
                ],
            }
        ],
    }


def _ready(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy
    try:
        with contextlib.closing(opener.open(f"{url}/-/ready", timeout=2)) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
