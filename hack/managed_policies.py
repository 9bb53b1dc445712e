"""Writes tests/data/policy/aws_managed.jsonl: a sample of the AWS managed policies that the package moto carries.

    python hack/managed_policies.py moto-5.2.5-py3-none-any.whl

moto itself (7 MB, Apache-2.0) is no dependency: its wheel is only read here. The sample repeats: policies in the order
of the hash of their name, each at most as long as a managed policy may be without white space, until there are enough.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

MOST = 160
LONGEST_CHARACTERS = 6144
TARGET = Path(__file__).parents[1] / "tests" / "data" / "policy" / "aws_managed.jsonl"


def main() -> None:
    """Read the wheel that is named and write the sample."""
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        source = wheel.read("moto/iam/aws_managed_policies.py").decode()
    found = re.search(r'aws_managed_policies_data = r?"""(.*?)"""', source, re.DOTALL)
    assert found is not None
    policies = json.loads(found.group(1))
    order = sorted(policies, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    lines = []
    for name in order:
        document = json.dumps(policies[name]["Document"], separators=(",", ":"))
        if len(document) <= LONGEST_CHARACTERS and len(lines) < MOST:
            lines.append(json.dumps({"name": name, "document": json.loads(document)}, separators=(",", ":")))
    TARGET.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    print(f"{len(lines)} of {len(policies)} policies, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
