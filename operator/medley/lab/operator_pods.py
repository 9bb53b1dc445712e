"""Runs pods of Medley's image as processes of this checkout: a container without a container.

Stand-ins for what a container has: the ServiceAccount's token comes in a kubeconfig instead of a mount, and the pod's
own address takes the place of its network namespace. Command-line arguments and rights are the pod's own.
"""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from medley.actuation.cluster_api import ClusterApi
from medley.lab.account import kubeconfig_for
from medley.lab.pods import PodInfo
from medley.lab.processes import SupervisedProcess
from medley.model.errors import TransientError

READY_TIMEOUT_S = 60.0


class OperatorPods:
    """A `PodBackend` for pods of the operator; others are left to do nothing.

    Args:
        kubeconfig: of the administrator, who asks for the accounts' tokens.
        directory: for kubeconfigs and logs.
        name: the label app.kubernetes.io/name of the operator's pods.
    """

    def __init__(self, kubeconfig: Path, directory: Path, name: str = "medley") -> None:
        self._kubeconfig = kubeconfig
        self._directory = directory
        self._name = name
        self._api = ClusterApi(kubeconfig)
        self._processes: dict[str, SupervisedProcess] = {}

    def start(self, pod: PodInfo) -> None:
        """Start the pod's command, and wait until it says that it is ready, as its probe would.

        Raises:
            TransientError: it ended, or was not ready in time; the message has the end of its log.
        """
        if pod.labels.get("app.kubernetes.io/name") != self._name:
            return
        own = kubeconfig_for(
            self._api, self._kubeconfig, self._directory / f"{pod.name}.kubeconfig", pod.namespace, pod.service_account
        )
        arguments = [argument.replace("$(POD_NAME)", pod.name) for argument in pod.args]
        command: list[str | Path] = [Path(sys.executable), "-m", "medley.cli.main", *arguments, "--health-host", pod.ip]
        process = SupervisedProcess.start(
            pod.name, command, log=self._directory / f"{pod.name}.log", environment={**pod.env, "KUBECONFIG": str(own)}
        )
        self._processes[pod.uid] = process
        url = f"http://{pod.ip}:{pod.container_port}/readyz"
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _answers(url):
            if not process.running() or time.monotonic() > deadline:
                raise TransientError(f"pod {pod.name} is not ready: {process.last_lines()}")
            time.sleep(0.1)

    def stop(self, pod: PodInfo) -> None:
        """SIGTERM, then SIGKILL."""
        process = self._processes.pop(pod.uid, None)
        if process is not None:
            process.stop(grace_s=30.0)

    def close(self) -> None:
        """Stop all of them."""
        for process in self._processes.values():
            process.stop(grace_s=5.0)
        self._api.close()

    @property
    def log(self) -> str:
        """What all of them logged."""
        return "".join(path.read_text() for path in sorted(self._directory.glob("*.log")))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0) as answer:  # noqa: S310 (a loopback address of ours)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
