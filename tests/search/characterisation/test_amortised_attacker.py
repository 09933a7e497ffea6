"""The attacker for all subsets: what it recovers, what it may not see, that it is reproducible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray

from privynet.errors import InputError, PrivynetError
from privynet.leakage import Pairs
from privynet.leakage.decoders import fit_ridge
from privynet.search.characterisation.amortised_attacker import AmortisedAttacker

SIDE = 16


def _pairs(n: int, seed: int) -> Pairs:
    """Smooth images; channels 0 to 2: colours on 8x8 places, 3 and 4: red bent twice, 5: noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (n, 4, 4, 3))
    images = scipy.ndimage.zoom(coarse, (1, 4, 4, 1), order=1, grid_mode=True, mode="nearest")
    pixels = np.rint(images * 255).astype(np.uint8)
    places = images.reshape(n, 8, 2, 8, 2, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    bent = np.abs(places[:, :1] - np.array([0.35, 0.65]).reshape(1, 2, 1, 1))
    noise = rng.normal(size=(n, 1, 8, 8))
    features = np.concatenate([places, bent, noise], axis=1).astype(np.float16)
    return Pairs(features, pixels, np.zeros(n, np.int64))


@pytest.fixture(scope="module")
def test_pairs() -> Pairs:
    return _pairs(60, 3)


@pytest.fixture(scope="module")
def attacker() -> AmortisedAttacker:
    return AmortisedAttacker.fit(_pairs(300, 0), _pairs(60, 1), steps=150, accelerator="cpu")


def test_what_is_recovered_follows_what_is_kept(attacker: AmortisedAttacker, test_pairs: Pairs) -> None:
    colours, one, noise = (attacker.score(kept, test_pairs) for kept in ([0, 1, 2], [0], [5]))
    assert colours["r2"] > 0.95
    assert 0.25 < one["r2"] < 0.5  # one colour of three, and nothing of the others
    assert noise["r2"] < 0.02
    assert colours["psnr_db"] > one["psnr_db"] > noise["psnr_db"]
    assert colours["ssim"] > one["ssim"] > noise["ssim"]


@pytest.mark.parametrize("kept", [[0], [1, 3], [0, 2, 4, 5]])
def test_no_worse_than_ridge_regression_for_that_subset(
    attacker: AmortisedAttacker, test_pairs: Pairs, kept: list[int]
) -> None:
    train, val = (
        Pairs(pairs.features[:, kept], pairs.images, pairs.labels)
        for pairs in (_pairs(300, 0), _pairs(60, 1))
    )
    rebuilt = fit_ridge(train, val).reconstruct(test_pairs.features[:, kept])
    linear = np.mean((rebuilt - test_pairs.images / 255) ** 2)
    amortised = attacker.reconstruct(kept, test_pairs.features)
    assert np.mean((amortised - test_pairs.images / 255) ** 2) < 1.02 * linear


def test_training_learns_more_than_the_linear_start(attacker: AmortisedAttacker, test_pairs: Pairs) -> None:
    start = AmortisedAttacker.fit(_pairs(300, 0), _pairs(60, 1), steps=1, accelerator="cpu")
    assert attacker.fit_info.val_error < 0.97 * start.fit_info.val_error
    trained, linear = (each.score([0, 1, 2], test_pairs)["r2"] for each in (attacker, start))
    assert 1 - trained < 0.5 * (1 - linear)


def test_channels_that_are_not_kept_are_not_seen(attacker: AmortisedAttacker, test_pairs: Pairs) -> None:
    other = np.array(test_pairs.features)
    other[:, [0, 2, 5]] = np.nan
    np.testing.assert_array_equal(
        attacker.reconstruct([4, 1, 3], other), attacker.reconstruct([1, 3, 4], test_pairs.features)
    )


def test_seed_decides_and_memory_maps_do_not_matter(tmp_path: Path) -> None:
    train, val = _pairs(80, 0), _pairs(30, 1)
    np.save(tmp_path / "features.npy", train.features)
    mapped = Pairs(np.load(tmp_path / "features.npy", mmap_mode="r"), train.images, train.labels)
    features = _pairs(5, 2).features
    first, again, other = (
        AmortisedAttacker.fit(pairs, val, steps=12, seed=seed, accelerator="cpu").reconstruct(
            [0, 3], features
        )
        for pairs, seed in ((train, 0), (mapped, 0), (train, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_stored_attacker_answers_alike(attacker: AmortisedAttacker, test_pairs: Pairs) -> None:
    again = AmortisedAttacker.from_bytes(attacker.to_bytes())
    assert again.score([0, 4], test_pairs) == attacker.score([0, 4], test_pairs)
    assert again.fit_info == attacker.fit_info
    assert again.to_bytes() == attacker.to_bytes()


@pytest.mark.parametrize("data", [b"", b"nothing of the kind", b"\x08\0\0\0\0\0\0\0{}      "])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        AmortisedAttacker.from_bytes(data)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((7, 1, 1), 16),
        ((1100, 2, 2), 16),
        ((4, 5, 5), 17),
        ((3, 32, 32), 16),
        ((140, 4, 4), 16),
        ((1, 8, 8), 16),
    ],
)
def test_any_shape(shape: tuple[int, int, int], size: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9, *shape)).astype(np.float32)
    images: NDArray[np.uint8] = rng.integers(256, size=(9, size, size, 3)).astype(np.uint8)
    pairs = Pairs(features, images, np.zeros(9, np.int64))
    attacker = AmortisedAttacker.fit(pairs, pairs, steps=2, accelerator="cpu")
    rebuilt = attacker.reconstruct(range(0, shape[0], 2), features)
    assert rebuilt.shape == images.shape
    assert np.isfinite(rebuilt).all()
    again = AmortisedAttacker.from_bytes(attacker.to_bytes())
    np.testing.assert_array_equal(again.reconstruct(range(0, shape[0], 2), features), rebuilt)


def test_a_budget_ends_the_training() -> None:
    train, val = _pairs(80, 0), _pairs(30, 1)
    fit = AmortisedAttacker.fit(train, val, steps=10**6, budget_s=0.5, accelerator="cpu").fit_info
    assert fit.stopped == "budget"
    assert 0 < fit.steps < 10**6


def test_bad_input_is_refused(attacker: AmortisedAttacker, test_pairs: Pairs) -> None:
    train, val = _pairs(40, 0), _pairs(10, 1)
    with pytest.raises(InputError):
        AmortisedAttacker.fit(train, val, steps=0)
    with pytest.raises(InputError):
        AmortisedAttacker.fit(train, val, budget_s=0)
    with pytest.raises(InputError):
        AmortisedAttacker.fit(train, Pairs(val.features[:, :2], val.images, val.labels))
    with pytest.raises(InputError):
        attacker.score([6], test_pairs)
    with pytest.raises(InputError):
        attacker.reconstruct([0], test_pairs.features[:, :3])
    broken = np.array(train.features)
    broken[7, 2, 0, 0] = np.nan
    with pytest.raises(PrivynetError):
        AmortisedAttacker.fit(Pairs(broken, train.images, train.labels), val, steps=1)
