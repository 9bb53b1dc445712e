"""The chart as the real helm renders it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "medley"
RELEASE, NAMESPACE = "medley", "medley-chart"
Helm = Callable[..., subprocess.CompletedProcess[str]]


def rendered(helm: Helm, *arguments: str) -> list[dict[str, Any]]:
    done = helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *arguments)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def by_text(item: Any) -> str:
    return json.dumps(item)
