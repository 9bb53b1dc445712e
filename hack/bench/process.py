"""What a benchmark says of the process it runs in: its age, and which code it measures."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from types import ModuleType


def process_age_s() -> float:
    """Seconds since this process started: on a crowded machine, importing alone takes long."""
    try:
        ticks = float(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return 1.0


def fingerprint(package: ModuleType) -> str:
    """Names the code of a package, so that figures of another version are not taken for its own."""
    digest = hashlib.sha256()
    root = Path(package.__path__[0])
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:10]
