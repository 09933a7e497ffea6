"""Spread of features against values known in closed form, and what counts as a collapse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from privynet.defences import Collapse, Spread
from privynet.errors import InputError


def features(n: int, rank: int, *, shape: tuple[int, int, int] = (4, 4, 4)) -> NDArray[np.float32]:
    """Features whose covariance has ``rank`` equal eigenvalues and no others."""
    rng = np.random.default_rng(0)
    scores = np.linalg.qr(rng.normal(size=(n, rank + 1)) - 0.0)[0]
    scores -= scores.mean(0)
    scores = np.linalg.qr(scores)[0][:, :rank]
    directions = np.linalg.qr(rng.normal(size=(int(np.prod(shape)), rank)))[0]
    return (5 + 3 * (scores @ directions.T)).astype(np.float32).reshape(n, *shape)


@pytest.mark.parametrize("rank", [1, 3, 17])
@pytest.mark.parametrize("n", [40, 200])
def test_effective_rank_of_equal_eigenvalues_is_their_number(rank: int, n: int) -> None:
    assert Spread.of(features(n, rank)).effective_rank == pytest.approx(rank, rel=0.01)


def test_effective_rank_is_that_of_the_covariance() -> None:
    values = np.random.default_rng(1).gamma(1, size=(300, 2, 3, 3)).astype(np.float32)
    eigenvalues = np.linalg.eigvalsh(np.cov(values.reshape(300, -1).T))
    share = eigenvalues / eigenvalues.sum()
    expected = np.exp(-(share * np.log(share)).sum())
    assert Spread.of(values).effective_rank == pytest.approx(expected, rel=1e-4)


def test_spread_does_not_see_an_offset_and_its_rank_no_scale() -> None:
    values = features(60, 5)
    moved = Spread.of(7 + 100 * values)
    assert moved.effective_rank == pytest.approx(Spread.of(values).effective_rank, rel=1e-3)
    np.testing.assert_allclose(moved.std, 100 * Spread.of(values).std, rtol=1e-3)


def test_what_never_varies_has_no_rank() -> None:
    constant = Spread.of(np.full((10, 2, 3, 3), 1.7, np.float32))
    assert constant.effective_rank == 0
    np.testing.assert_allclose(constant.std, 0, atol=1e-6)


def test_unchanged_features_have_not_collapsed() -> None:
    spread = Spread.of(features(60, 20))
    assert Collapse(spread, spread).warnings() == []
    document = Collapse(spread, spread).document()
    assert not document["collapsed"] and document["dead_channels"] == 0
    assert document["relative_std"]["median"] == pytest.approx(1)


def test_each_kind_of_collapse_is_told() -> None:
    before = features(60, 20)
    spread = Spread.of(before)
    (rank,) = Collapse(spread, Spread.of(features(60, 1))).warnings()
    assert "effective rank" in rank
    (std,) = Collapse(spread, Spread.of(5 + 0.05 * (before - 5))).warnings()
    assert "median channel" in std
    dead = before.copy()
    dead[:, 1:] = 0
    assert any(
        "75% of the channels are dead" in told for told in Collapse(spread, Spread.of(dead)).warnings()
    )


def test_channels_that_were_constant_before_do_not_count_as_dead() -> None:
    before = features(60, 20)
    before[:, 0] = 0
    spread = Spread.of(before)
    document = Collapse(spread, spread).document()
    assert document["constant_channels_before"] == 0.25
    assert document["dead_channels"] == 0 and document["relative_std"]["per_channel"][0] == 0


def test_one_image_has_no_spread() -> None:
    with pytest.raises(InputError, match="n above 1"):
        Spread.of(np.zeros((1, 2, 3, 3), np.float32))
