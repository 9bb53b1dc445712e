"""How many examples the slow property tests try: fewer in `make test`, more in `make test-long`."""

from __future__ import annotations

import os

_FACTOR = float(os.environ.get("MEDLEY_EXAMPLES", "0.6"))


def scaled(count: int) -> int:
    """So many examples times what MEDLEY_EXAMPLES says."""
    return max(1, round(count * _FACTOR))
