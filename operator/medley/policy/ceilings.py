"""The access specs that Medley ships: ceilings that any document can be held to."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def shipped_ceilings() -> dict[str, str]:
    """Text of the shipped ceilings by name: `policies/ceilings/*.yaml` of the package, or of the source tree."""
    packaged = resources.files("medley") / "policies" / "ceilings"
    source = Path(__file__).parents[3] / "policies" / "ceilings"
    folder = packaged if packaged.is_dir() else source
    if not folder.is_dir():
        return {}
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}
