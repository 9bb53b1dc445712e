"""A cluster with real kubelets, and Medley's images in it.

The cluster is the one that KUBECONFIG names, or one that `kind` makes here and that goes again. Images are built with
`docker` and brought where the nodes find them: loaded by kind, or pushed under MEDLEY_REGISTRY.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml

from medley.lab.tools import Progress, Tool, ensure
from medley.model.errors import TransientError, UserError

CHECKOUT = Path(__file__).resolve().parents[3]
KIND_FILES = CHECKOUT / "hack" / "kind"
CHART = CHECKOUT / "charts" / "medley"
DEFAULT_TAG = "kind"
DEFAULT_NAME = "medley"
_COMMAND_TIMEOUT_S = 900.0


class Image(StrEnum):
    """What runs in the cluster; the name without registry and tag."""

    OPERATOR = "medley"
    LAB = "medley-lab"
    PROMETHEUS = "medley-prometheus"


class Owner(StrEnum):
    """Whose a cluster is."""

    USER = "User"
    """It was there before and stays: what is put into it is taken out again."""
    SCENE = "Scene"
    """It goes as a whole."""


@dataclass(frozen=True, slots=True)
class KindCluster:
    """Where it is, and whose.

    Attributes:
        kubeconfig: how to reach it; the current context counts.
        kind_name: its name for kind; empty: kind did not make it.
        owner: whether it stays.
    """

    kubeconfig: Path
    kind_name: str
    owner: Owner = Owner.USER


def run(
    *command: str | Path, stdin: str | None = None, environment: Mapping[str, str] | None = None, where: Path = CHECKOUT
) -> str:
    """Run a command to its end; returns what it wrote to stdout.

    Raises:
        UserError: there is no such command.
        TransientError: it failed, or took longer than 15 min; the message has the end of what it wrote.
    """
    words = [str(part) for part in command]
    try:
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, check=False, cwd=where, timeout=_COMMAND_TIMEOUT_S,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError(f"{words[0]} is not on PATH", fix=f"Install {words[0]}") from None
    except subprocess.TimeoutExpired:
        raise TransientError(f"{' '.join(words)}: not done after {_COMMAND_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        said = (done.stdout[-3000:] + done.stderr[-3000:]).strip()
        raise TransientError(f"{' '.join(words)}: exit code {done.returncode}: {said}")
    return done.stdout


@contextmanager
def connect_or_create(progress: Progress, name: str = DEFAULT_NAME) -> Iterator[KindCluster]:
    """The cluster of KUBECONFIG, or else a new one that is deleted at the end.

    MEDLEY_KIND_NODE_IMAGE names another node image than kind's own.

    Raises:
        UserError: KUBECONFIG names no context, there is no `kind`, `docker` or checkout, or a cluster of that name.
    """
    if not KIND_FILES.is_dir():
        raise UserError("an installed Medley has no image to build", fix="Run from a checkout of the repository")
    given = os.environ.get("KUBECONFIG")
    if given:
        yield KindCluster(Path(given), _kind_name(Path(given)))
        return
    for tool in ("docker", "kind"):
        if shutil.which(tool) is None:
            raise UserError(
                f"{tool} is not on PATH, and KUBECONFIG names no cluster", fix=f"Install {tool}, or set KUBECONFIG"
            )
    if name in run("kind", "get", "clusters").split():
        raise UserError(
            f"kind has a cluster {name} already",
            fix=f"Delete it (kind delete cluster --name {name}), or set KUBECONFIG to use a cluster as it is",
        )
    with tempfile.TemporaryDirectory(prefix="medley-kind-") as directory:
        kubeconfig = Path(directory) / "kubeconfig"
        image = os.environ.get("MEDLEY_KIND_NODE_IMAGE")
        progress(f"creating the kind cluster {name}")
        try:
            run(
                "kind", "create", "cluster", "--name", name, "--config", KIND_FILES / "cluster.yaml",
                "--kubeconfig", kubeconfig, "--wait", "180s", *(("--image", image) if image else ()),
            )  # fmt: skip
            yield KindCluster(kubeconfig, name, Owner.SCENE)
        finally:
            run("kind", "delete", "cluster", "--name", name, "--kubeconfig", kubeconfig)


def _kind_name(kubeconfig: Path) -> str:
    try:
        context = str((yaml.safe_load(kubeconfig.read_text()) or {}).get("current-context") or "")
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise UserError(f"not a kubeconfig: {error}", field="KUBECONFIG") from None
    if not context:
        raise UserError(f"{kubeconfig} has no current context", field="KUBECONFIG", fix="kubectl config use-context")
    return context.removeprefix("kind-") if context.startswith("kind-") else ""


def reference(image: Image) -> str:
    """Name and tag by which nodes know an image."""
    return f"{repository(image)}:{tag()}"


def tag() -> str:
    """Of all images. Nodes keep what they pulled: to a registry push each state of the checkout under another one."""
    return os.environ.get("MEDLEY_TAG") or DEFAULT_TAG


def repository(image: Image) -> str:
    """The same without its tag."""
    registry = os.environ.get("MEDLEY_REGISTRY", "").rstrip("/")
    return f"{registry}/{image}" if registry else image.value


def build_and_bring(cluster: KindCluster, progress: Progress) -> None:
    """Build all images from this checkout and bring them where the cluster's nodes find them.

    MEDLEY_IMAGE_BASE names another base image than the Dockerfile's.

    Raises:
        UserError: there is no way to bring them there.
        TransientError: a build failed.
    """
    if not cluster.kind_name and not os.environ.get("MEDLEY_REGISTRY"):
        raise UserError(
            "the cluster is not kind's, so images must be pushed to a registry that it pulls from",
            field="MEDLEY_REGISTRY",
            fix="Set it, as in registry.example/medley; docker must be logged in there",
        )
    builds: dict[Image, Callable[[], None]] = {
        Image.OPERATOR: lambda: _build_medley(Image.OPERATOR, "operator"),
        Image.LAB: lambda: _build_medley(Image.LAB, "simulator"),
        Image.PROMETHEUS: lambda: _build_prometheus(progress),
    }
    progress("collecting the images' wheels")
    _collect_wheels()
    for image, build in builds.items():
        progress(f"building {reference(image)}")
        build()
        if os.environ.get("MEDLEY_REGISTRY"):
            run("docker", "push", reference(image))
        else:
            run("kind", "load", "docker-image", reference(image), "--name", cluster.kind_name)


def _collect_wheels() -> None:
    """Here and not in the build, which would take the wheel of Medley from an older wheelhouse for today's sources."""
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = run("docker", "run", "--rm", "--entrypoint", "python3", _base(), "-c", version).strip()
    run("sh", "hack/image/wheelhouse.sh", "lean", "dist/wheelhouse-lean", python)


def _build_medley(image: Image, target: str) -> None:
    run("docker", "build", "-t", reference(image), "--build-arg", f"BASE={_base()}", "--target", target, ".")


def _base() -> str:
    given = os.environ.get("MEDLEY_IMAGE_BASE")
    if given:
        return given
    lines = (CHECKOUT / "Dockerfile").read_text().splitlines()
    return next(line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE="))


def _build_prometheus(progress: Progress) -> None:
    binary = ensure([Tool.PROMETHEUS], progress)[Tool.PROMETHEUS]
    with tempfile.TemporaryDirectory(prefix="medley-prometheus-") as context:
        shutil.copy(binary, Path(context) / "prometheus")
        run("docker", "build", "-t", reference(Image.PROMETHEUS), "-f", KIND_FILES / "prometheus.Dockerfile", context)
