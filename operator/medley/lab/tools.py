"""Where the lab's binaries come from: PATH in a good version, then the cache, then a build from pinned Go modules.

A tool is looked for in that order and used as it is where it is found. The builds come from the small Go modules in
`hack/go`, one a tool family, whose go.sum pins every byte. What is built is kept in the cache under its name and
version, so that a first build happens once a machine; a file lock makes parallel runs wait instead of building twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from medley.lab.go_toolchain import GO_ENVIRONMENT, find_go
from medley.model.errors import MedleyError, TransientError, UserError

Progress = Callable[[str], None]
"""Takes one line that tells a person what is going on."""

Version = tuple[int, int]
"""Major and minor: all that the choice of a binary looks at."""

KUBERNETES_VERSION = "v1.36.3"
ETCD_VERSION = "v3.6.4"
HELM_VERSION = "v4.3.1"
PROMETHEUS_VERSION = "v0.305.3"  # the Go module's number for Prometheus 3.5.3

_PROGRESS_EVERY_S = 5.0
_PROBE_TIMEOUT_S = 20.0
_NETWORK_SIGNS = ("dial tcp", "no such host", "i/o timeout", "TLS handshake", "connection refused", "proxyconnect")


class Tool(StrEnum):
    """A binary that the lab runs."""

    ETCD = "etcd"
    KUBE_APISERVER = "kube-apiserver"
    KUBE_CONTROLLER_MANAGER = "kube-controller-manager"
    KUBE_SCHEDULER = "kube-scheduler"
    KUBECTL = "kubectl"
    PROMETHEUS = "prometheus"
    PROMTOOL = "promtool"
    HELM = "helm"


@dataclass(frozen=True)
class Family:
    """Tools that one pinned Go module builds."""

    module: str
    """Folder under hack/go."""
    version: str
    linker_flags: str
    first_build_min: int
    """Minutes that the first build of the whole family takes on two cores."""


@dataclass(frozen=True)
class ToolSpec:
    """How one tool is recognised and built."""

    family: Family
    package: str
    least: Version
    """Oldest version on PATH that is good enough."""
    version_args: tuple[str, ...] = ("--version",)


_KUBERNETES = Family(
    module="kubernetes",
    version=KUBERNETES_VERSION,
    # Without these /version says v0.0.0-master, and charts that ask for a Kubernetes version refuse the cluster.
    linker_flags=(
        "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3"
        " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
    ),
    first_build_min=6,
)
_ETCD = Family(module="etcd", version=ETCD_VERSION, linker_flags="-s -w", first_build_min=1)
_PROMETHEUS = Family(
    module="prometheus",
    version=PROMETHEUS_VERSION,
    linker_flags="-s -w -X github.com/prometheus/common/version.Version=3.5.3",
    first_build_min=4,
)

_HELM = Family(
    module="helm",
    version=HELM_VERSION,
    linker_flags="-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
    first_build_min=3,
)

SPECS: Mapping[Tool, ToolSpec] = {
    Tool.ETCD: ToolSpec(_ETCD, "go.etcd.io/etcd/server/v3", (3, 4)),
    Tool.KUBE_APISERVER: ToolSpec(_KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver", (1, 33)),
    Tool.KUBE_CONTROLLER_MANAGER: ToolSpec(_KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager", (1, 33)),
    Tool.KUBE_SCHEDULER: ToolSpec(_KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler", (1, 33)),
    Tool.KUBECTL: ToolSpec(_KUBERNETES, "k8s.io/kubernetes/cmd/kubectl", (1, 30), ("version", "--client")),
    Tool.PROMETHEUS: ToolSpec(_PROMETHEUS, "github.com/prometheus/prometheus/cmd/prometheus", (2, 40)),
    Tool.HELM: ToolSpec(_HELM, "helm.sh/helm/v4/cmd/helm", (3, 17), ("version", "--short")),
    Tool.PROMTOOL: ToolSpec(_PROMETHEUS, "github.com/prometheus/prometheus/cmd/promtool", (2, 40)),
}

CONTROL_PLANE_TOOLS = (Tool.ETCD, Tool.KUBE_APISERVER, Tool.KUBE_CONTROLLER_MANAGER, Tool.KUBE_SCHEDULER)

# The parts of one control plane must not differ in their minor version, so PATH gives all of them or none.
_SAME_VERSION = frozenset({Tool.KUBE_APISERVER, Tool.KUBE_CONTROLLER_MANAGER, Tool.KUBE_SCHEDULER})


def ensure(tools: Iterable[Tool], progress: Progress) -> dict[Tool, Path]:
    """Finds or builds `tools`; the slow path (a first build) takes minutes and says so through `progress`.

    Raises:
        UserError: a tool cannot be had on this machine; the message says what to install.
        TransientError: the Go modules could not be downloaded.
    """
    wanted = list(dict.fromkeys(tools))
    found = _on_path(wanted)
    found |= {tool: path for tool in wanted if tool not in found and (path := _cached(tool)) is not None}
    missing = [tool for tool in wanted if tool not in found]
    for family in dict.fromkeys(SPECS[tool].family for tool in missing):
        found |= _build_once(family, [tool for tool in missing if SPECS[tool].family == family], progress)
    return {tool: found[tool] for tool in wanted}


def cache_directory() -> Path:
    """Medley's folder in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "medley"


def cached_path(tool: Tool) -> Path:
    """Where a built `tool` is kept, whether or not it is there yet."""
    return cache_directory() / "bin" / f"{tool}-{SPECS[tool].family.version}" / tool.value


def parse_version(text: str) -> Version | None:
    """The first version number in what a tool prints about itself."""
    match = re.search(r"\bv?(\d+)\.(\d+)(?:\.\d+)?", text)
    return (int(match[1]), int(match[2])) if match else None


def executable_name(package: str) -> str:
    """What `go build` calls the binary of `package`: its last element that is not a major version."""
    *_, parent, last = package.split("/")
    return parent if re.fullmatch(r"v\d+", last) else last


def _on_path(wanted: list[Tool]) -> dict[Tool, Path]:
    good: dict[Tool, tuple[Path, Version]] = {}
    for tool in wanted:
        where = shutil.which(tool.value)
        version = _probe(where, SPECS[tool].version_args) if where else None
        if where and version and version >= SPECS[tool].least:
            good[tool] = (Path(where), version)
    parts = [tool for tool in wanted if tool in _SAME_VERSION]
    if any(tool not in good for tool in parts) or len({good[tool][1] for tool in parts}) > 1:
        good = {tool: hit for tool, hit in good.items() if tool not in _SAME_VERSION}
    return {tool: path for tool, (path, _) in good.items()}


def _probe(binary: str, args: tuple[str, ...]) -> Version | None:
    try:
        done = subprocess.run([binary, *args], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stdout + done.stderr)  # older Prometheus prints to stderr


def _cached(tool: Tool) -> Path | None:
    path = cached_path(tool)
    return path if os.access(path, os.X_OK) else None


def _build_once(family: Family, tools: list[Tool], progress: Progress) -> dict[Tool, Path]:
    with _build_lock(family, progress):
        # Somebody else may have built them while this run waited for the lock.
        missing = [tool for tool in tools if _cached(tool) is None]
        if missing:
            _build(family, missing, progress)
    return {tool: cached_path(tool) for tool in tools}


@contextlib.contextmanager
def _build_lock(family: Family, progress: Progress) -> Iterator[None]:
    path = cache_directory() / "bin" / f".{family.module}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"{family.module}: another run is building it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing the file lets the lock go


def _module_directory(family: Family) -> Path:
    directory = Path(__file__).resolve().parents[3] / "hack" / "go" / family.module
    if not (directory / "go.mod").is_file():
        raise UserError(
            f"{family.module} is neither on PATH nor in the cache, and the pinned Go modules are not part of an"
            " installed Medley",
            fix="Put the binaries on PATH, run from a checkout of the repository, or name a cluster's kubeconfig in"
            " MEDLEY_KUBECONFIG",
        )
    return directory


def _build(family: Family, tools: list[Tool], progress: Progress) -> None:
    source = _module_directory(family)
    environment = os.environ | GO_ENVIRONMENT
    go = str(find_go(cache_directory(), progress))
    names = ", ".join(tools)
    progress(f"building {names} {family.version}: the first build takes about {family.first_build_min} min on 2 cores")
    packages = [SPECS[tool].package for tool in tools]
    listed = subprocess.run(
        [go, "list", "-deps", *packages], cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        raise _build_error(family, listed.stderr)
    total = len(listed.stdout.split())
    # Beside the cache, so that the moves at the end stay on one file system and are atomic.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=cache_directory() / "bin") as scratch:
        command = [go, "build", "-v", "-trimpath", "-ldflags", family.linker_flags, "-o", f"{scratch}/", *packages]
        _run_build(family, command, source=source, environment=environment, total=total, progress=progress)
        for tool in tools:
            target = cached_path(tool)
            target.parent.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / executable_name(SPECS[tool].package)).replace(target)
    progress(f"built {names}")


def _run_build(
    family: Family,
    command: list[str],
    *,
    source: Path,
    environment: Mapping[str, str],
    total: int,
    progress: Progress,
) -> None:
    """Runs one `go build -v`, which prints each package that it compiles; cached packages are silent.

    So the percentage is a lower bound, and the time left an upper one.
    """
    started = reported = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=source, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                lines.append(line)
                now = time.monotonic()
                if now - reported >= _PROGRESS_EVERY_S:
                    reported = now
                    progress(_progress_line(family.module, len(lines), total, now - started))
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise _build_error(family, "".join(lines[-20:]))


def _progress_line(label: str, done: int, total: int, elapsed_s: float) -> str:
    share = min(done / max(total, 1), 0.99)
    left_s = elapsed_s * (1 - share) / share
    return f"building {label}: {share:.0%} of packages, {elapsed_s:.0f} s so far, at most {left_s:.0f} s more"


def _build_error(family: Family, stderr: str) -> MedleyError:
    text = stderr.strip()
    if any(sign in text for sign in _NETWORK_SIGNS):
        return TransientError(
            f"the Go modules of {family.module} could not be downloaded: the network or the Go module proxy (GOPROXY)"
            f" did not answer. {text}"
        )
    message = f"building {family.module} {family.version} failed: {text}"
    return UserError(message, fix="Put the binaries on PATH instead")
