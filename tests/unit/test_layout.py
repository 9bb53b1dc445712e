"""The shape of the project: what DESIGN §3 fixes and a machine can check."""

from __future__ import annotations

import importlib
import operator as standard_operator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "medley"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists())


def test_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert "medley" not in (standard_operator.__file__ or "")


def test_the_first_slice_has_its_rooms() -> None:
    assert {
        "model",
        "ports",
        "workload",
        "profiles",
        "allocation",
        "planning",
        "cycle",
        "api",
        "telemetry",
        "actuation",
        "controller",
        "lab",
        "cli",
    } <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_says_what_it_owns_and_may_import(room: str) -> None:
    text = importlib.import_module(f"medley.{room}").__doc__ or ""
    assert "Owns:" in text
    assert "May import:" in text


def test_crds_are_generated_from_the_models() -> None:
    from medley.api.crds import crd_files

    assert {path.name: path.read_text() for path in (ROOT / "crds").iterdir()} == crd_files()
