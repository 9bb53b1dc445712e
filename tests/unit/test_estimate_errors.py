"""How far estimates are from aiconfigurator's grids of measured kernels: what `medley profile estimate` prints."""

from __future__ import annotations

import math

import pytest

from estimate_errors import Compared, compared, coverage, quantile


@pytest.fixture(scope="module")
def rows() -> list[Compared]:
    return list(compared())


def test_nine_of_ten_estimates_are_within_a_factor_of_1_3(rows: list[Compared]) -> None:
    # A size that only one side can serve counts as infinitely far off.
    dense = [row for row in rows if not row.latent]
    assert len({row.model for row in dense}) >= 6
    assert len({row.gpu for row in dense}) >= 6
    assert quantile([row.ratio for row in dense], 0.9) <= 1.305


def test_the_printed_band_covers_nine_of_ten(rows: list[Compared]) -> None:
    assert coverage([row for row in rows if not row.latent]) >= 0.9


def test_the_wide_band_of_latent_attention_covers_nine_of_ten_that_both_can_serve(rows: list[Compared]) -> None:
    latent = [row for row in rows if row.latent and math.isfinite(row.ratio)]
    assert latent
    assert coverage(latent) >= 0.9
