"""A Kubernetes control plane as plain processes on loopback: no Docker, no root, ready in seconds.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real ones, so admission, scheduling, garbage
collection and CRD validation behave as in a cluster. What a machine would do is played by `fake_kubelet` and `nodes`.
Left out on purpose: the controllers that judge nodes by heartbeats (fake nodes send none) and those that write
endpoints (they reject the 127.x.y.z addresses of fake pods).
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import secrets
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import yaml

from medley.actuation.cluster_api import ClusterApi
from medley.lab import audit, tools
from medley.lab.processes import DirectoryGuard, SupervisedProcess, free_port
from medley.lab.tools import Progress, Tool
from medley.model.errors import MedleyError, UserError

KUBECONFIG_VARIABLE = "MEDLEY_KUBECONFIG"
"""Names the kubeconfig of a cluster to use in place of a local control plane."""

_READY_TIMEOUT_S = 60.0
_SERVICE_ADDRESSES = "10.0.0.0/24"
_CONTROLLERS = ",".join(
    [
        "*",
        # They need a cloud, or heartbeats that fake nodes do not send.
        "-node-ipam-controller",
        "-cloud-node-lifecycle-controller",
        "-ttl-controller",
        "-node-lifecycle-controller",
        # They refuse loopback addresses, which fake pods have.
        "-endpoints-controller",
        "-endpointslice-controller",
        "-endpointslice-mirroring-controller",
    ]
)
_USERS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}


def _quiet(line: str) -> None:
    """Progress that nobody asked for."""


class ClusterOrigin(StrEnum):
    """Whose cluster a handle stands for."""

    STARTED = "Started"
    """Started here, and gone after `stop`."""
    GIVEN = "Given"
    """Somebody else's, named by a kubeconfig: `stop` leaves it alone."""


class ControlPlane:
    """A handle on a cluster: its kubeconfig, its address, and the end of it.

    A context manager; leaving it stops the cluster if it was started here. So does the end of the program, in
    whatever way it comes.
    """

    def __init__(
        self,
        kubeconfig: Path,
        url: str,
        origin: ClusterOrigin,
        processes: list[SupervisedProcess],
        guard: DirectoryGuard | None,
        audit_log: Path | None = None,
    ) -> None:
        self.kubeconfig = kubeconfig
        self.url = url
        self.origin = origin
        self.processes = tuple(processes)
        self.audit_log = audit_log
        """Of the requests of ServiceAccounts, for `audit.read`; None: somebody else's cluster."""
        self._guard = guard
        self._stop_lock = threading.Lock()
        atexit.register(self.stop)

    @classmethod
    def start(cls, *, progress: Progress = _quiet, directory: Path | None = None) -> ControlPlane:
        """Starts a control plane and waits until it takes work. Several may run side by side.

        Args:
            progress: told what is going on, one line at a time.
            directory: for all its files; must be empty or absent, and goes when the control plane stops. Default: a
                temporary directory.

        Raises:
            UserError: a binary cannot be had.
            TransientError: a part did not start in time or died; the message has the end of its log.
        """
        binaries = tools.ensure(tools.CONTROL_PLANE_TOOLS, progress)
        home = _fresh_directory(directory)
        return _Launch(home, binaries, progress).run()

    @classmethod
    def connect(cls, kubeconfig: Path) -> ControlPlane:
        """A handle on a cluster that is there already."""
        if not kubeconfig.is_file():
            raise UserError("there is no such file", field=str(kubeconfig), fix="Name an existing kubeconfig")
        document = yaml.safe_load(kubeconfig.read_text())
        clusters = {entry["name"]: entry["cluster"] for entry in document.get("clusters") or []}
        contexts = {entry["name"]: entry["context"] for entry in document.get("contexts") or []}
        try:
            url = str(clusters[contexts[document["current-context"]]["cluster"]]["server"])
        except KeyError as error:
            raise UserError(f"{error} is missing", field=str(kubeconfig), fix="Set a current context") from error
        return cls(kubeconfig, url, ClusterOrigin.GIVEN, [], None)

    def api(self) -> ClusterApi:
        """A new client for this cluster, with all rights that the kubeconfig gives."""
        return ClusterApi(self.kubeconfig)

    def running(self) -> bool:
        """Whether all its processes run."""
        return all(process.running() for process in self.processes)

    def stop(self) -> None:
        """Stops what was started and removes its files. Safe to call again."""
        with self._stop_lock:
            # Nothing of it is kept, so nothing is lost by not being gentle; the scheduler goes first, etcd last.
            for process in reversed(self.processes):
                process.stop(grace_s=0)
            if self._guard is not None:
                self._guard.remove()
        atexit.unregister(self.stop)

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.contextmanager
def connect_or_start(*, progress: Progress = _quiet) -> Iterator[ControlPlane]:
    """The cluster that MEDLEY_KUBECONFIG names, else a control plane of our own for as long as the block runs."""
    given = os.environ.get(KUBECONFIG_VARIABLE, "")
    cluster = ControlPlane.connect(Path(given)) if given else ControlPlane.start(progress=progress)
    with cluster:
        yield cluster


def _fresh_directory(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="medley-lab-"))
    require_fresh(directory)
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def require_fresh(directory: Path) -> None:
    """Refuses a directory that holds something, as a control plane removes its directory in the end.

    Raises:
        UserError: it is not empty, or no directory.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(
            "is not an empty directory", field=str(directory), fix="The lab removes its directory: name a new one"
        )


class _Launch:
    """The steps from an empty directory to a control plane that takes work."""

    def __init__(self, home: Path, binaries: dict[Tool, Path], progress: Progress) -> None:
        self._home = home
        self._binaries = binaries
        self._progress = progress
        self._guard = DirectoryGuard(home)
        self._processes: list[SupervisedProcess] = []
        self._tokens = {user: secrets.token_urlsafe(24) for user in _USERS}
        self._url = f"https://127.0.0.1:{free_port()}"

    def run(self) -> ControlPlane:
        try:
            return self._run()
        except BaseException:  # Ctrl-C during the start must leave nothing behind either
            for process in self._processes:
                process.stop(grace_s=0)
            self._guard.remove()
            raise

    def _run(self) -> ControlPlane:
        self._home.chmod(0o700)  # tokens and keys lie in it
        (self._home / "logs").mkdir()
        self._progress("starting etcd and kube-apiserver")
        etcd_url = self._start_etcd()
        apiserver = self._start_apiserver(etcd_url)
        certificate = self._home / "certs" / "apiserver.crt"
        # The server signs its own certificate and writes the key last: once that is there, the certificate is whole.
        key = certificate.with_suffix(".key")
        apiserver.wait_until(key.exists, timeout_s=_READY_TIMEOUT_S, what="waiting for its certificate")
        admin = self._write_kubeconfig("admin", certificate)
        apiserver.wait_until(_probe(ClusterApi(admin), _ready), timeout_s=_READY_TIMEOUT_S, what="waiting for /readyz")
        self._progress("starting kube-controller-manager and kube-scheduler")
        manager = self._start_controller_manager(certificate)
        self._start(
            Tool.KUBE_SCHEDULER,
            f"--kubeconfig={self._write_kubeconfig('system:kube-scheduler', certificate)}",
            "--leader-elect=false",
            "--secure-port=0",
        )
        # The proof that the controllers work, and what every pod needs to be admitted.
        manager.wait_until(
            _probe(ClusterApi(admin), _has_default_account),
            timeout_s=_READY_TIMEOUT_S,
            what="waiting for the default service account",
        )
        self._progress(f"control plane ready at {self._url}")
        return ControlPlane(
            admin, self._url, ClusterOrigin.STARTED, self._processes, self._guard, self._home / audit.LOG_NAME
        )

    def _start(self, tool: Tool, *flags: str) -> SupervisedProcess:
        process = SupervisedProcess.start(
            tool.value, [self._binaries[tool], *flags], log=self._home / "logs" / f"{tool.value}.log"
        )
        self._processes.append(process)
        return process

    def _start_etcd(self) -> str:
        client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        etcd = self._start(
            Tool.ETCD,
            f"--data-dir={self._home / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # nothing here outlives the process
        )
        etcd.wait_until(lambda: _healthy(f"{client}/health"), timeout_s=_READY_TIMEOUT_S, what="waiting for /health")
        return client

    def _start_apiserver(self, etcd_url: str) -> SupervisedProcess:
        tokens = self._home / "tokens.csv"
        tokens.write_text(
            "".join(f'{self._tokens[user]},{user},{user},"{groups}"\n' for user, groups in _USERS.items())
        )
        key = self._service_account_key()
        key.write_text(_elliptic_key())
        return self._start(
            Tool.KUBE_APISERVER,
            f"--etcd-servers={etcd_url}",
            f"--cert-dir={self._home / 'certs'}",
            f"--secure-port={self._url.rsplit(':', maxsplit=1)[1]}",
            "--bind-address=127.0.0.1",
            f"--service-cluster-ip-range={_SERVICE_ADDRESSES}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={tokens}",
            f"--service-account-issuer={self._url}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--allow-privileged=true",
            *audit.flags(self._home),
        )

    def _start_controller_manager(self, certificate: Path) -> SupervisedProcess:
        return self._start(
            Tool.KUBE_CONTROLLER_MANAGER,
            f"--kubeconfig={self._write_kubeconfig('system:kube-controller-manager', certificate)}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self._service_account_key()}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--controllers={_CONTROLLERS}",
            "--kube-api-qps=200",  # tests should not wait for a client's own rate limit
            "--kube-api-burst=400",
        )

    def _service_account_key(self) -> Path:
        return self._home / "service-accounts.key"

    def _write_kubeconfig(self, user: str, certificate: Path) -> Path:
        path = self._home / ("kubeconfig" if user == "admin" else f"{user.removeprefix('system:')}.kubeconfig")
        authority = base64.b64encode(certificate.read_bytes()).decode()
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "medley-lab", "cluster": {"server": self._url, "certificate-authority-data": authority}}
            ],
            "users": [{"name": user, "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "medley-lab", "context": {"cluster": "medley-lab", "user": user}}],
            "current-context": "medley-lab",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path


def _elliptic_key() -> str:
    """A fresh P-256 private key as PEM (RFC 5915), for signing service account tokens.

    The optional public half is left out, as readers compute it from the scalar: so a key is a fixed frame around 32
    random bytes, and neither openssl nor a cryptography package is needed.
    """
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    scalar = (1 + secrets.randbelow(order - 1)).to_bytes(32, "big")
    version_and_scalar_tag = bytes.fromhex("30310201010420")
    curve_prime256v1 = bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.encodebytes(version_and_scalar_tag + scalar + curve_prime256v1).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{text}-----END EC PRIVATE KEY-----\n"


def _probe(api: ClusterApi, check: Callable[[ClusterApi], bool]) -> Callable[[], bool]:
    """`check` as a predicate for waiting: refusals and dead connections count as not yet."""

    def predicate() -> bool:
        try:
            return check(api)
        except MedleyError:
            return False

    return predicate


def _ready(api: ClusterApi) -> bool:
    with contextlib.closing(api.open("/readyz", {}, 5.0)) as answer:
        return answer.data == b"ok"


def _has_default_account(api: ClusterApi) -> bool:
    return api.exists("/api/v1/namespaces/default/serviceaccounts/default")


def _healthy(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
