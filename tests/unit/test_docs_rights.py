"""The table of rights in the how-to is the list in the code."""

from __future__ import annotations

import re
from pathlib import Path

from medley.actuation.rights import RIGHTS, lease_creation_rights, lease_rights

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "install-on-a-cluster.md"


def test_the_table_lists_every_right_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z.0-9]+) \| ([a-z, /]+) \| ([a-z, ]+) \|", text, re.MULTILINE)
    listed = {
        ("" if group == "core" else group, resource, verb)
        for group, resources, verbs in rows
        for resource in resources.split(", ")
        for verb in verbs.split(", ")
        if group != "group"
    }
    rights = (*RIGHTS, *lease_rights("any", "any"), *lease_creation_rights("any"))
    assert listed == {(right.group, right.resource, verb) for right in rights for verb in right.verbs}
