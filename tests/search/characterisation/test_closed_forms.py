"""Closed forms from moments against ridge regression on the explicit features of the same selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch.nn import functional

from privynet.search.characterisation.class_moments import ClassMoments, pool_side
from privynet.search.characterisation.closed_forms import (
    CLASS_RIDGES,
    IMAGE_RIDGES,
    Selection,
    leakage,
    utility,
)
from privynet.search.characterisation.image_moments import ImageMoments
from privynet.search.characterisation.moments import CutMoments

RNG = np.random.default_rng(0)
CHANNELS, CLASSES = 5, 3
SELECTIONS: tuple[Any, ...] = ([2], [0, 3, 4], list(range(5)), RNG.standard_normal((2, 5)))


def scene(
    n: int, side: int, size: int, seed: int
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint8]]:
    """Features that say something about class and image, with scales that differ between channels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=n)
    coarse = rng.random((n, 4, 4, 3)) + 0.7 * rng.random((n, 1, 1, 3))
    coarse[:, labels % 4] *= 0.5
    coarse[np.arange(n), labels] += 0.4
    images = np.clip(np.kron(coarse, np.ones((1, size // 4, size // 4, 1))) * 120, 0, 255).astype(np.uint8)
    seen = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mixed = torch.einsum("dc,nchw->ndhw", torch.tensor(RNG_MIX), functional.adaptive_avg_pool2d(seen, side))
    noisy = mixed + 0.1 * torch.from_numpy(rng.standard_normal(mixed.shape).astype(np.float32))
    scale = torch.tensor([1.0, 30.0, 0.1, 2.0, 5.0])[:, None, None]
    return ((noisy + 0.7).relu() * scale + scale).half().numpy(), labels, images


RNG_MIX = np.random.default_rng(1).standard_normal((CHANNELS, 3)).astype(np.float32)


def selected(features: NDArray[Any], selection: Selection) -> NDArray[np.float64]:
    wide = features.astype(np.float64)
    matrix = np.asarray(selection)
    if matrix.ndim == 2:
        return np.asarray(np.einsum("dc,nchw->ndhw", matrix.astype(np.float32).astype(np.float64), wide))
    return wide[:, list(selection)]


def neighbourhoods(maps: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Rows (n * h * w, C * taps) of zero-padded maps, spelled out."""
    n, _, height, width = maps.shape
    padded = np.pad(maps, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    rows = [
        padded[image, :, y : y + 2 * reach + 1, x : x + 2 * reach + 1].ravel()
        for image in range(n)
        for y in range(height)
        for x in range(width)
    ]
    return np.array(rows)


def blocks(deviations: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Rows (n * side * side, 3 * b * b)."""
    n, size = len(deviations), deviations.shape[1]
    b = size // side
    rows = [
        deviations[image, y * b : (y + 1) * b, x * b : (x + 1) * b].ravel()
        for image in range(n)
        for y in range(side)
        for x in range(side)
    ]
    return np.array(rows)


def best_r2(x: NDArray[Any], y: NDArray[Any], vx: NDArray[Any], vy: NDArray[Any]) -> float:
    """Of ridge on scaled regressors without intercept, the ridge by the validation rows."""
    scale = np.sqrt((x**2).mean(0))
    results = []
    for ridge in IMAGE_RIDGES:
        fitted = Ridge(alpha=ridge * len(x), fit_intercept=False, solver="cholesky").fit(x / scale, y)
        results.append(1 - ((vy - fitted.predict(vx / scale)) ** 2).sum() / (vy**2).sum())
    return float(max(results))


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("side", (1, 2, 4, 8))
def test_leakage_is_that_of_ridge_on_the_selections_neighbourhoods(selection: Any, side: int) -> None:
    features, _, images = scene(80, side, 16, 2)
    val_features, _, val_images = scene(40, side, 16, 3)
    moments = ImageMoments.of_pairs(features, images, val_features, val_images)
    x, vx = selected(features, selection), selected(val_features, selection)
    mean, mean_image = x.mean(0), images.mean(0) / 255
    y, vy = images / 255 - mean_image, val_images / 255 - mean_image
    if side <= 2:
        rows = ((x - mean).reshape(len(x), -1), y.reshape(len(y), -1))
        val_rows = ((vx - mean).reshape(len(vx), -1), vy.reshape(len(vy), -1))
    else:
        rows = (neighbourhoods(x - mean, 2), blocks(y, side))
        val_rows = (neighbourhoods(vx - mean, 2), blocks(vy, side))
    assert leakage(moments, selection) == pytest.approx(best_r2(*rows, *val_rows), abs=2e-4)


def test_utility_is_that_of_ridge_on_the_selections_pooled_features() -> None:
    features, labels, _ = scene(400, 8, 16, 4)
    select, select_labels, _ = scene(300, 8, 16, 5)
    moments = ClassMoments.of_features(features, labels, select, select_labels, classes=CLASSES)
    held_out = np.zeros(400, bool)
    held_out[np.random.default_rng(0).permutation(400)[:40]] = True
    for selection in SELECTIONS:
        pooled, test = (
            selected(part, selection).reshape(len(part), -1, 4, 2, 4, 2).mean((3, 5)).reshape(len(part), -1)
            for part in (features, select)
        )
        train, val = pooled[~held_out], pooled[held_out]
        mean, scale = train.mean(0), train.std(0)
        targets = np.eye(CLASSES)[labels]
        found = []
        for ridge in CLASS_RIDGES:
            model = Ridge(alpha=ridge * len(train), solver="cholesky")
            model.fit((train - mean) / scale, targets[~held_out])
            error = ((model.predict((val - mean) / scale) - targets[held_out]) ** 2).sum()
            answers = model.predict((test - mean) / scale).argmax(1)
            found.append((error, float((answers == select_labels).mean())))
        # One of 300 answers may fall the other way: the sums are float32.
        assert utility(moments, selection) == pytest.approx(min(found)[1], abs=0.004)


def test_channels_and_the_rows_of_the_identity_that_stand_for_them_score_alike() -> None:
    features, labels, images = scene(120, 8, 16, 6)
    moments = CutMoments.of_cut(
        dict.fromkeys(("head-train", "select", "attack-train", "attack-val"), features),
        dict.fromkeys(("head-train", "select"), labels),
        dict.fromkeys(("attack-train", "attack-val"), images),
        classes=CLASSES,
    )
    matrix = np.eye(CHANNELS)[[4, 1]]
    for noise in (0.0, 0.5):
        assert moments.leakage([4, 1], noise_std=noise) == pytest.approx(
            moments.leakage(matrix, noise_std=noise)
        )
        assert moments.utility([4, 1], noise_std=noise) == moments.utility(matrix, noise_std=noise)
        assert moments.leakage([4, 1], noise_std=noise) == pytest.approx(
            moments.leakage([1, 4], noise_std=noise)
        )


@pytest.mark.parametrize("side", (1, 8))
def test_noise_costs_what_it_costs_on_features_to_which_it_was_added(side: int) -> None:
    rng = np.random.default_rng(7)
    features, labels, images = scene(800, side, 16, 8)
    val_features, val_labels, val_images = scene(400, side, 16, 9)
    clean = ImageMoments.of_pairs(features, images, val_features, val_images)
    clean_classes = ClassMoments.of_features(features, labels, val_features, val_labels, classes=CLASSES)
    std = 0.4
    noisy, val_noisy = (
        (part + std * rng.standard_normal(part.shape)).astype(np.float32) for part in (features, val_features)
    )
    added = ImageMoments.of_pairs(noisy, images, val_noisy, val_images)
    added_classes = ClassMoments.of_features(noisy, labels, val_noisy, val_labels, classes=CLASSES)
    assert leakage(clean, [0, 2, 3], noise_std=std) == pytest.approx(leakage(added, [0, 2, 3]), abs=0.02)
    assert leakage(clean, [0, 2, 3], noise_std=std) < leakage(clean, [0, 2, 3]) - 0.05
    assert utility(clean_classes, [0, 2, 3], noise_std=std) == pytest.approx(
        utility(added_classes, [0, 2, 3]), abs=0.05
    )


def test_fewer_places_and_images_change_the_leakage_little() -> None:
    features, _, images = scene(400, 8, 16, 10)
    val_features, _, val_images = scene(200, 8, 16, 11)
    whole = ImageMoments.of_pairs(features, images, val_features, val_images)
    for flops in (3e8, 1e8):
        part = ImageMoments.of_pairs(features, images, val_features, val_images, flops=flops)
        assert leakage(part, [0, 3, 4]) == pytest.approx(leakage(whole, [0, 3, 4]), abs=0.05)


@pytest.mark.parametrize(("side", "size"), ((7, 16), (3, 16), (28, 16), (16, 16), (2, 96), (1, 96)))
def test_maps_of_any_side_tell_of_images_of_any_size(side: int, size: int) -> None:
    features, _, images = scene(300, side, size, 12)
    val_features, _, val_images = scene(100, side, size, 13)
    moments = ImageMoments.of_pairs(features, images, val_features, val_images, flops=1e9)
    alone, all_of_them = leakage(moments, [0]), leakage(moments, range(CHANNELS))
    assert -0.05 < alone < all_of_them < 1
    assert all_of_them > (0.01 if side == 1 else 0.05)


def test_detail_finer_than_the_moments_counts_as_lost() -> None:
    """A map of one place says all about an image of 96 x 96, and the fine detail is noise."""
    rng = np.random.default_rng(14)
    level = rng.random((200, 1, 1, 1))
    fine = rng.choice((-40.0, 40.0), (200, 96, 96, 3))
    images = (100 + 50 * level + fine).astype(np.uint8)
    features = level.astype(np.float32)
    moments = ImageMoments.of_pairs(features, images, features, images)
    y = images / 255 - images.mean(0) / 255
    blind = (y**2).sum()
    x = features.ravel() - features.mean()
    explained = ((x @ y.reshape(200, -1)) ** 2).sum() / (x @ x)
    assert 0 < leakage(moments, [0]) <= explained / blind + 1e-6


def test_a_channel_that_is_always_zero_says_nothing() -> None:
    features, labels, images = scene(100, 8, 16, 15)
    features[:, 1] = 0
    moments = ImageMoments.of_pairs(features, images, features, images)
    classes = ClassMoments.of_features(features, labels, features, labels, classes=CLASSES)
    assert leakage(moments, [1]) == 0
    assert leakage(moments, [0, 1]) == pytest.approx(leakage(moments, [0]))
    assert utility(classes, [1]) == pytest.approx(np.bincount(labels).max() / 100, abs=0.1)


@pytest.mark.parametrize(
    "selection", ([], [5], [-1], [[1.0, 2.0]], [0.5], np.full((1, 5), np.nan), np.zeros((0, 5)))
)
def test_a_selection_that_does_not_fit_is_refused(selection: Any) -> None:
    features, _, images = scene(20, 4, 16, 16)
    moments = ImageMoments.of_pairs(features, images, features, images)
    with pytest.raises(ValueError):
        leakage(moments, selection)


def test_maps_are_pooled_coarser_where_there_are_many_channels() -> None:
    assert [pool_side(channels, 8) for channels in (16, 128, 200, 400, 1280)] == [4, 4, 3, 2, 1]
    assert pool_side(16, 1) == 1 and pool_side(10_000, 7) == 1
