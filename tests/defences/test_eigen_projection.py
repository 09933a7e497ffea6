"""The closed-form mixing: its covariances against the slow computation, its span against known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from privynet.defences import channel_scatter, eigen_projection
from privynet.errors import InputError

N, R = 60, 16


def examples(
    channels: int = 5, side: int = 4, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]:
    """Features that depend on class and image, at random."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % 3
    images = rng.integers(0, 256, (N, R, R, 3), np.uint8)
    blocks = images.reshape(N, side, R // side, side, R // side, 3).mean((2, 4)).transpose(0, 3, 1, 2) / 255
    mixed = np.einsum("kc,nkhw->nchw", rng.standard_normal((3, channels)), blocks)
    offsets = rng.standard_normal((3, channels))[labels][:, :, None, None]
    features = 5 * mixed + 0.3 * offsets + rng.standard_normal((N, channels, side, side))
    return features.astype(np.float32), labels, images


def span(rows: NDArray[Any]) -> NDArray[np.float64]:
    """The projector onto the rows' span."""
    basis, _ = np.linalg.qr(np.asarray(rows, np.float64).T)
    return np.asarray(basis @ basis.T)


def test_the_covariances_are_those_of_the_slow_computation() -> None:
    features, labels, images = examples()
    side, block = features.shape[2], R // features.shape[2]
    scatter = channel_scatter(features.astype(np.float16), labels, images)
    x = features.astype(np.float16).astype(np.float64)
    x -= x.mean(0)
    between = np.zeros((5, 5))
    cross: dict[tuple[int, int, int, int, int], NDArray[np.float64]] = {}
    y = images / 255 - (images / 255).mean(0)
    padded = np.pad(y, ((0, 0), (block, block), (block, block), (0, 0)))
    for row in range(side):
        for column in range(side):
            for label in range(3):
                mean = x[labels == label, :, row, column].mean(0)
                between += np.outer(mean, mean) * (labels == label).sum()
            around = padded[:, row * block : (row + 3) * block, column * block : (column + 3) * block]
            for place in np.ndindex(around.shape[1:]):
                term = (x[:, :, row, column] * around[:, *place][:, None]).sum(0)
                cross[place] = cross.get(place, 0) + term  # type: ignore[index, arg-type, operator]
    values = N * side**2
    total = np.einsum("nchw,ndhw->cd", x, x) / values
    np.testing.assert_allclose(scatter.between, between / values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scatter.total, total, rtol=1e-4, atol=1e-5)
    predictability = sum(np.outer(term, term) for term in cross.values()) / values**2
    np.testing.assert_allclose(scatter.predictability, predictability, rtol=1e-3, atol=1e-7)


def test_without_weight_it_is_linear_discriminant_analysis() -> None:
    features, labels, images = examples(side=1)
    scatter = channel_scatter(features, labels, images)
    found = eigen_projection(scatter.between, scatter.within, scatter.predictability, outputs=2, weight=0)
    known = LinearDiscriminantAnalysis(solver="eigen").fit(features[:, :, 0, 0], labels).scalings_[:, :2]
    np.testing.assert_allclose(span(found), span(known.T), atol=2e-3)


def test_of_two_channels_that_tell_the_class_it_takes_the_one_that_shows_less_of_the_image() -> None:
    between, within = np.diag([1.0, 1.0]), np.diag([1.0, 1.0])
    shown = np.diag([1.0, 0.01])
    found = eigen_projection(between, within, shown, outputs=1)
    np.testing.assert_allclose(span(found), np.diag([0.0, 1.0]), atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 3, 5])
def test_the_outputs_are_uncorrelated_with_variance_one(outputs: int) -> None:
    features, labels, images = examples()
    scatter = channel_scatter(features, labels, images)
    matrix = eigen_projection(scatter.between, scatter.within, scatter.predictability, outputs=outputs)
    assert matrix.shape == (outputs, 5) and matrix.dtype == np.float32
    np.testing.assert_allclose(matrix @ scatter.total @ matrix.T, np.eye(outputs), atol=1e-2)


def test_channels_that_were_mixed_before_give_the_same_outputs() -> None:
    features, labels, images = examples()
    mixing = np.random.default_rng(1).standard_normal((5, 5)).astype(np.float32)
    spans = []
    for given in (features, np.einsum("dc,nchw->ndhw", mixing, features)):
        scatter = channel_scatter(given, labels, images)
        matrix = eigen_projection(scatter.between, scatter.within, scatter.predictability, outputs=2)
        sent = np.einsum("dc,nchw->ndhw", matrix, given - given.mean(0))
        spans.append(span(sent.transpose(1, 0, 2, 3).reshape(2, -1)))
    np.testing.assert_allclose(spans[0], spans[1], atol=0.02)


@pytest.mark.parametrize("side", [1, 2, 3, 7, 16, 32])
def test_maps_of_any_size_fit_their_images(side: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, R, R, 3), np.uint8)
    features = rng.standard_normal((8, 4, side, side)).astype(np.float32)
    scatter = channel_scatter(features, np.arange(8) % 2, images)
    assert np.isfinite(scatter.predictability).all() and np.trace(scatter.predictability) > 0


def test_what_cannot_be_is_refused() -> None:
    features, labels, images = examples()
    scatter = channel_scatter(features, labels, images)
    parts = (scatter.between, scatter.within, scatter.predictability)
    for outputs in (0, 6):
        with pytest.raises(InputError, match=f"5 channels to {outputs}; allowed: 1 to 5"):
            eigen_projection(*parts, outputs=outputs)
    with pytest.raises(InputError, match="weight -1"):
        eigen_projection(*parts, outputs=2, weight=-1)
    with pytest.raises(InputError, match="never vary"):
        eigen_projection(*(np.zeros((5, 5)),) * 3, outputs=2)
    with pytest.raises(InputError, match="60 features, 59 labels"):
        channel_scatter(features, labels[1:], images)
    with pytest.raises(InputError, match="images float64"):
        channel_scatter(features, labels, images / 255)  # type: ignore[arg-type]
    features[3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        channel_scatter(features, labels, images)
