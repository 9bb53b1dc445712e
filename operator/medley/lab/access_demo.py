"""The demo of AccessPolicies by themselves: a control plane, a service, its router's role, the policy writer."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medley.api.convert import parse
from medley.api.manifests import read_manifests
from medley.lab.access_show import AccessShow, story
from medley.lab.control_plane import connect_or_start
from medley.lab.scene import apply, install_crds
from medley.model.errors import MedleyError


@contextmanager
def beside(show: AccessShow, after_s: float, progress: Callable[[str], None]) -> Iterator[None]:
    """Tells the story in a thread while the block runs, so many seconds after it begins."""
    over = threading.Event()

    def tell() -> None:
        if over.wait(after_s):
            return
        try:
            story(show, lambda line: None if over.is_set() else progress(line))
        except MedleyError as error:
            if not over.is_set():
                progress(f"access: not shown to its end: {error}")

    with show:
        thread = threading.Thread(target=tell, name="access-story", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=5)


def run_access_demo(example: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Runs it; the numbers at the end: see `access_show.story`.

    Args:
        example: with an LLMService.
        progress: told what happens.

    Raises:
        MedleyError: no control plane can be had, or something did not happen in time.
    """
    manifests = read_manifests([example])
    service = parse(manifests).services[0].key
    with (
        connect_or_start(progress=progress) as control_plane,
        tempfile.TemporaryDirectory(prefix="medley-access-") as at,
    ):
        api = control_plane.api()
        try:
            progress("control plane is up")
            install_crds(api)
            for manifest in manifests:
                apply(api, manifest)
            with AccessShow(api, control_plane.kubeconfig, Path(at), service) as show:
                return story(show, progress)
        finally:
            api.close()
