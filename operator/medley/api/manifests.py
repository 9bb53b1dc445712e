"""Reads manifest files: YAML or JSON, several documents or a List each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from medley.model.errors import UserError


def read_manifests(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """All objects in the files; a directory stands for its *.yaml, *.yml and *.json files.

    Raises:
        UserError: a file is missing, is not YAML, or holds something that is not an object.
    """
    manifests: list[dict[str, Any]] = []
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix in {".yaml", ".yml", ".json"})
        for file in files:
            manifests.extend(_read(file))
    return manifests


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", field=str(file), fix="Check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"is not YAML: {error}", field=str(file)) from None
    out: list[dict[str, Any]] = []
    for number, document in enumerate(documents):
        if document is None:
            continue
        items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else [document]
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UserError(
                "is not an object, or a List whose items are objects",
                field=f"{file}, document {number + 1}",
                fix="Each object needs apiVersion, kind, metadata and spec",
            )
        out.extend(items)
    return out
